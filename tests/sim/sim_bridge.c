/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories and dedicated owners of the simulation, in the place of src/store/bridge_dir.c and src/session/dedicated.c. The
 * session store is LMDB in a directory on tmpfs; all simulated processes share this process's environment, as its
 * threads would.
 */
#include "sim_bridge.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "ops.h"
#include "os_linux.h"
#include "sim.h"
#include "snakebridge/snakebridge.h"

#define START_SLICE_NS UINT64_C(20000000)

static char path[64];
static struct sb__store *store;

void sim_bridge_make(void)
{
	int fd;

	strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/sbsim.XXXXXX" : "/tmp/sbsim.XXXXXX");
	if (!mkdtemp(path))
		abort();
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sim_boot_fd(fd);
	if (sb__store_open(fd, true, sb__layout_fingerprint(), &store) != 0) {
		fprintf(stderr, "%s\n", sb_last_error()->message);
		abort();
	}
}

static int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(name);
}

void sim_bridge_remove(void)
{
	(void)nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct sb__store *sim_bridge_store(void)
{
	return store;
}

/* ── directories ── */

void sim_bridge_dir(struct sb__bridge_dir *ret)
{
	*ret = (struct sb__bridge_dir){ .root = sim_dir_fd(SIM_DIR_BOOT),
		                        .boot = sim_dir_fd(SIM_DIR_BOOT),
		                        .mailbox = sim_dir_fd(SIM_DIR_MAILBOX),
		                        .bell = sim_dir_fd(SIM_DIR_BELL),
		                        .arena = sim_dir_fd(SIM_DIR_ARENA),
		                        .life_fd = sb__os_openat(sim_dir_fd(SIM_DIR_BOOT), "life", O_RDONLY,
		                                                 0),
		                        .path = "/simulated",
		                        .dev = 1,
		                        .ino = 1 };
}

int sb__bridge_dir_open(const char *dir, bool create, struct sb__bridge_dir *ret)
{
	(void)dir;
	(void)create;
	sim_bridge_dir(ret);
	return 0;
}

void sb__bridge_dir_close(struct sb__bridge_dir *dir)
{
	(void)sb__os_close(dir->life_fd);
}

bool sb__bridge_dir_vanished(const struct sb__bridge_dir *dir)
{
	(void)dir;
	return false;
}

int sb__bridge_dir_old_boots(const struct sb__bridge_dir *dir, char (*names)[SB__BOOT_NAME_SIZE],
                             unsigned max)
{
	(void)dir;
	(void)names;
	(void)max;
	return 0;
}

int sb__bridge_dir_remove_boot(const struct sb__bridge_dir *dir, const char *name, unsigned *budget)
{
	(void)dir;
	(void)name;
	(void)budget;
	return 1;
}

/* ── dedicated owners ── */

struct starting {
	char id[SB_SESSION_ID_MAX + 1], why[256];
	sb_session_options options;
	enum { STARTING, READY, SERVED_ALREADY, FAILED } state;
};

/* What sb-owner does. */
static void *owner_main(void *arg)
{
	struct starting *s = arg;
	sb_bridge *bridge;
	sb_session *session;
	int err = sb_bridge_open(NULL, NULL, &bridge);

	if (!err)
		err = sb__session_host(bridge, &s->options, &session);
	s->state = !err ? READY : err == SB_EOPTION ? SERVED_ALREADY : FAILED;
	if (err)
		snprintf(s->why, sizeof(s->why), "%s", sb_last_error()->message);
	sim_wake_object(s, UINT32_MAX);
	while (!err && sb__session_host_wait(session, NULL, 1000) == 0)
		;
	sim_self()->leaving = true;
	if (!err)
		sb_session_close(session);
	sb_bridge_close(bridge);
	sim_kill(sim_self(), 0);
	return NULL;
}

int sb__dedicated_start(struct sb__core *core, const struct sb__session_rec *rec)
{
	struct starting *s = sim_calloc(1, sizeof(*s));
	uint64_t until = sb__start_until(core);
	struct sb__session_rec now;
	struct sim_proc *proc = sim_proc_new();

	strcpy(s->id, rec->session_id);
	s->options = (sb_session_options)SB_SESSION_OPTIONS_INIT;
	s->options.session_id = s->id;
	s->options.max_refs = rec->max_refs;
	s->options.ttl_seconds = (int64_t)(rec->ttl_ms / 1000);
	s->options.on_full = (sb_on_full)rec->on_full;
	s->options.persistent = (int)rec->persistent;
	if (!proc || !sim_thread_new(proc, owner_main, s))
		return sb__fail(SB_ESTART, "no room for another process");
	while (s->state == STARTING && !proc->dead && sb__now_ms() < until && sb__start_wanted(core, rec))
		(void)sim_wait_object(s, sim.now_ns + START_SLICE_NS);
	proc->zombie = false;
	if (s->state == STARTING && !sb__start_wanted(core, rec))
		return 0;
	if (s->state == READY || s->state == SERVED_ALREADY)
		return 0;
	/* Two may start an owner at once: as the real one, this goes by whether there is what was wanted. */
	if (s->state == FAILED && sb__store_session_get(core->store, rec->session_id, &now) == 1 &&
	    now.incarnation != rec->incarnation)
		return 0;
	return sb__fail(SB_ESTART, "the dedicated owner of session \"%s\" did not start: %s", s->id, s->why);
}
