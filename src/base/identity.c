/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a process is, and whether it still lives; takes and drops the life token.
 *
 * Does not know which processes there are (the store does), does not reap, and holds no list of what it
 * took: the caller keeps the pin.
 *
 * Lock order: taking a token excludes fork() in this process (window_lock, a leaf, taken by the atfork
 * prepare handler too). Otherwise a child forked between open and close would inherit the description, and
 * the token would outlive its process. A raw clone() in that window by another thread is not seen.
 * Crash: the kernel frees the token with the process, wherever it was killed.
 */
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "ids.h"
#include "os_linux.h"

#define PIN_BYTES 4096 /* any mapping of the file pins the description */

_Static_assert(sizeof(struct sb__identity) == 96, "stored in LMDB and shared memory");

/* ── /proc ── */

int sb__process_stat(int32_t pid, char *ret_state, uint64_t *ret_start_time)
{
	char path[32] = "/proc/self/stat";
	char text[1024];
	const char *p;
	char *end;
	ssize_t n;

	if (pid != 0)
		(void)snprintf(path, sizeof(path), "/proc/%" PRId32 "/stat", pid);
	n = sb__os_read_file_at(AT_FDCWD, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	/* The name in parentheses may hold anything, parentheses too: fields begin after the last. */
	p = strrchr(text, ')');
	if (!p || p[1] != ' ' || p[2] == '\0')
		return -EPROTO;
	p += 2;
	if (ret_state)
		*ret_state = *p;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (!p)
			return -EPROTO;
		p++;
	}
	errno = 0;
	*ret_start_time = strtoull(p, &end, 10);
	return errno == 0 && end != p ? 0 : -EPROTO;
}

/* Does /proc show the pid namespace that this process is in? */
static bool proc_is_ours(void)
{
	char self[32], pid[32];

	if (sb__os_readlinkat(AT_FDCWD, "/proc/self", self, sizeof(self)) < 0)
		return false;
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return strcmp(self, pid) == 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static int parse_boot_id(uint8_t id[16])
{
	char text[64];
	unsigned digits = 0;
	ssize_t n = sb__os_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));

	if (n < 0)
		return (int)n;
	memset(id, 0, 16);
	for (const char *p = text; *p && *p != '\n'; p++) {
		int digit = hex_digit(*p);

		if (*p == '-')
			continue;
		if (digit < 0 || digits == 32)
			return -EPROTO;
		id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | digit);
		digits++;
	}
	return digits == 32 ? 0 : -EPROTO;
}

/* One that was read stays true for as long as the process lives. */
static int read_boot_id(uint8_t id[16])
{
	static _Atomic uint64_t halves[2];
	static atomic_bool known;
	uint64_t both[2];
	int rc;

	if (!atomic_load_explicit(&known, memory_order_acquire)) {
		rc = parse_boot_id(id);
		if (rc != 0)
			return rc;
		memcpy(both, id, sizeof(both));
		for (int i = 0; i < 2; i++)
			atomic_store_explicit(&halves[i], both[i], memory_order_relaxed);
		atomic_store_explicit(&known, true, memory_order_release);
		return 0;
	}
	for (int i = 0; i < 2; i++)
		both[i] = atomic_load_explicit(&halves[i], memory_order_relaxed);
	memcpy(id, both, sizeof(both));
	return 0;
}

/* By the inode of /proc/thread-self/ns/pid, which takes the kernel as long as all else that a verdict asks for. A process
 * stays in the namespace that it was made in: setns() and unshare() are about its children, which have epochs of their own
 * (pid_namespaces(7)). */
static int read_pid_ns(uint64_t *ret)
{
	static _Atomic uint64_t known_epoch, known;
	uint64_t epoch = sb__fork_epoch();
	struct stat ns;
	int rc;

	if (atomic_load_explicit(&known_epoch, memory_order_acquire) != epoch) {
		rc = sb__os_statat(AT_FDCWD, "/proc/thread-self/ns/pid", &ns);
		if (rc != 0)
			return rc;
		atomic_store_explicit(&known, (uint64_t)ns.st_ino, memory_order_relaxed);
		atomic_store_explicit(&known_epoch, epoch, memory_order_release);
	}
	*ret = atomic_load_explicit(&known, memory_order_relaxed);
	return 0;
}

static void read_program(char *program, size_t size)
{
	char path[4096];
	const char *base = path;

	program[0] = '\0';
	if (sb__os_readlinkat(AT_FDCWD, "/proc/thread-self/exe", path, sizeof(path)) < 0)
		return;
	if (strrchr(path, '/'))
		base = strrchr(path, '/') + 1;
	(void)snprintf(program, size, "%.*s", (int)size - 1, base);
}

static int fail_proc(int rc)
{
	return sb__fail_errno(SB_ESYSTEM, -rc,
	                      "cannot read this process's identity from /proc; mount /proc for it");
}

int sb__identity_place(uint8_t ret_boot_id[16], uint64_t *ret_pid_ns)
{
	int rc = ret_pid_ns ? read_pid_ns(ret_pid_ns) : 0;

	if (rc == 0)
		rc = read_boot_id(ret_boot_id);
	return rc == 0 ? 0 : fail_proc(rc);
}

int sb__identity_self(struct sb__identity *ret)
{
	struct sb__identity self;
	int rc;

	memset(&self, 0, sizeof(self)); /* padding too: it is stored */
	rc = sb__process_stat(0, NULL, &self.start_time);
	if (rc != 0)
		return fail_proc(rc);
	rc = sb__identity_place(self.boot_id, &self.pid_ns);
	if (rc != 0)
		return rc;
	self.pid = (int32_t)getpid();
	self.uid = (uint32_t)geteuid();
	self.joined_wall_ms = sb__wall_ms();
	read_program(self.program, sizeof(self.program));
	do {
		rc = sb__random(&self.incarnation, sizeof(self.incarnation));
		if (rc < 0)
			return rc;
	} while (self.incarnation == 0);
	*ret = self;
	return 0;
}

/* ── liveness ── */

/* Facts about this process that a verdict compares with. */
struct vantage {
	uint8_t boot_id[16];
	uint64_t pid_ns;
	bool has_boot_id, has_pid_ns;
};

static struct vantage look_around(void)
{
	struct vantage here = { .has_boot_id = false };

	here.has_boot_id = read_boot_id(here.boot_id) == 0;
	here.has_pid_ns = read_pid_ns(&here.pid_ns) == 0;
	return here;
}

static struct sb__evidence evidence(enum sb__liveness verdict, const char *how)
{
	return (struct sb__evidence){ .verdict = verdict, .how = how };
}

/* The token is held: by the process itself, or by a later one that took the slot? */
static struct sb__evidence held(const struct sb__identity *identity, bool same_ns)
{
	uint64_t start_time;
	char state;

	if (!same_ns || !proc_is_ours() || sb__process_stat(identity->pid, &state, &start_time) < 0)
		return evidence(SB__ALIVE, "life token held");
	/* Time namespaces shift start times, so a difference is a doubt and not a proof. */
	if (start_time != identity->start_time)
		return evidence(SB__UNSURE, "life token held, but the pid started at another time");
	if (state == 'Z') /* its first thread ended, others run: the token would be free otherwise */
		return evidence(SB__ALIVE, "life token held, main thread ended");
	return evidence(SB__ALIVE, "life token held");
}

struct sb__evidence sb__liveness_check(int life_fd, const struct sb__identity *identity)
{
	struct vantage here;
	bool same_ns;
	int rc;

	if (identity->pid <= 0 || identity->slot >= SB__SLOTS_MAX)
		return evidence(SB__UNSURE, "not a process identity");
	here = look_around();
	if (here.has_boot_id && memcmp(here.boot_id, identity->boot_id, sizeof(here.boot_id)) != 0)
		return evidence(SB__DEAD, "of another boot");
	same_ns = here.has_pid_ns && here.pid_ns == identity->pid_ns;
	if (same_ns && sb__os_kill(identity->pid, 0) == -ESRCH)
		return evidence(SB__DEAD, "no such pid");
	rc = sb__os_ofd_test(life_fd, (off_t)identity->slot);
	if (rc < 0)
		return evidence(SB__UNSURE, "the life token could not be asked for");
	if (rc == 0)
		return evidence(SB__DEAD, "life token free");
	return held(identity, same_ns);
}

struct sb__evidence sb__liveness_quick(int life_fd, const struct sb__identity *identity)
{
	bool named = identity->pid > 0 && identity->slot < SB__SLOTS_MAX;
	int rc = named ? sb__os_ofd_test(life_fd, (off_t)identity->slot) : -EINVAL;

	if (rc < 0)
		return sb__liveness_check(life_fd, identity);
	return rc ? evidence(SB__ALIVE, "life token held") : evidence(SB__DEAD, "life token free");
}

/* ── life token ── */

static pthread_mutex_t window_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t window_once = PTHREAD_ONCE_INIT;
static int window_error;

static void lock_window(void)
{
	(void)pthread_mutex_lock(&window_lock);
}

static void unlock_window(void)
{
	(void)pthread_mutex_unlock(&window_lock);
}

static void guard_window(void)
{
	window_error = -pthread_atfork(lock_window, unlock_window, unlock_window);
}

static int hold_and_pin(int dirfd, uint32_t slot, void **ret_pin)
{
	int fd = sb__os_open_own(dirfd, "life", O_RDWR, 0);
	int rc;

	if (fd < 0)
		return fd;
	rc = sb__os_ofd_lock(fd, (off_t)slot, true);
	if (rc == 0)
		rc = sb__os_map_dontfork(fd, PIN_BYTES, ret_pin);
	(void)sb__os_close(fd); /* without a mapping this frees the token again */
	return rc;
}

int sb__life_guard(void)
{
	(void)pthread_once(&window_once, guard_window);
	return window_error;
}

int sb__life_hold(int dirfd, uint32_t slot, void **ret_pin)
{
	int rc;

	if (slot >= SB__SLOTS_MAX)
		return -EINVAL;
	rc = sb__life_guard();
	if (rc < 0)
		return rc;
	lock_window();
	rc = hold_and_pin(dirfd, slot, ret_pin);
	unlock_window();
	return rc;
}

void sb__life_drop(void *pin)
{
	if (pin)
		(void)sb__os_unmap(pin, PIN_BYTES);
}
