/* SPDX-License-Identifier: Apache-2.0 */
#include "shm_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "os_linux.h"

/* ── directories ── */

static int make_dir(const char *path, const char *name)
{
	char full[320];

	snprintf(full, sizeof(full), "%s/%s", path, name);
	if (mkdir(full, 0700) != 0)
		return -1;
	return open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char full[PATH_MAX];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(full, sizeof(full), "%s/%s", path, entry->d_name);
		if (unlink(full) != 0)
			remove_dir(full);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

static void close_dirs(struct shm_world *world)
{
	close(world->mailbox_dir);
	close(world->bell_dir);
	close(world->arena_dir);
}

/* ── worlds ── */

int world_open(struct shm_world *world, const char *under)
{
	struct sb__mailbox_params params = { .incarnation = WORLD_INCARNATION,
		                             .bell_index = WORLD_BELL_INDEX,
		                             .max_refs = 100,
		                             .session_id = "world" };
	int err;

	memset(world, 0, sizeof(*world));
	if (!under)
		under = getenv("TMPDIR") ? getenv("TMPDIR") : "/dev/shm";
	snprintf(world->path, sizeof(world->path), "%.200s/sb-shm-XXXXXX", under);
	if (!mkdtemp(world->path))
		return -errno;
	world->mailbox_dir = make_dir(world->path, "mailbox");
	world->bell_dir = make_dir(world->path, "bell");
	world->arena_dir = make_dir(world->path, "arena");
	world->owner = (struct sb__identity){ .slot = 1, .generation = 1, .pid = (int32_t)getpid() };
	world->spin_ns = 20000;
	params.owner = world->owner;
	err = sb__bell_create(world->bell_dir, &world->owner, &world->bell);
	if (!err)
		err = sb__mailbox_create(world->mailbox_dir, &params, &world->mailbox);
	if (!err)
		err = sb__arena_create(world->arena_dir, world->owner.slot, world->owner.generation,
		                       &world->arena);
	if (!err)
		err = sb__arena_cache_create(world->arena_dir, &world->peers);
	return err;
}

int world_join(const struct shm_world *of, uint32_t slot, struct shm_world *ret)
{
	int err;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->path, of->path, sizeof(ret->path));
	ret->mailbox_dir = dup(of->mailbox_dir);
	ret->bell_dir = dup(of->bell_dir);
	ret->arena_dir = dup(of->arena_dir);
	ret->owner = of->owner;
	ret->spin_ns = of->spin_ns;
	err = sb__bell_attach(ret->bell_dir, of->owner.slot, of->owner.generation, &ret->bell);
	if (!err)
		err = sb__mailbox_attach(ret->mailbox_dir, WORLD_INCARNATION, &ret->mailbox);
	if (!err)
		err = sb__arena_create(ret->arena_dir, slot, 1, &ret->arena);
	if (!err)
		err = sb__arena_cache_create(ret->arena_dir, &ret->peers);
	return err;
}

void world_leave(struct shm_world *world)
{
	sb__mailbox_detach(world->mailbox);
	sb__arena_destroy(world->arena, true);
	sb__arena_cache_destroy(world->peers);
	sb__bell_detach(&world->bell);
	close_dirs(world);
}

void world_close(struct shm_world *world)
{
	world_leave(world);
	remove_dir(world->path);
}

int world_setup(void **state)
{
	struct shm_world *world = malloc(sizeof(*world));

	*state = world;
	return world ? world_open(world, NULL) : -1;
}

int world_teardown(void **state)
{
	world_close(*state);
	free(*state);
	return 0;
}

/* ── messages ── */

static uint8_t byte_of(uint64_t number, size_t i)
{
	return (uint8_t)((number * UINT64_C(0x9e3779b97f4a7c15) >> 32) + i * 7);
}

void message_write(struct sb__buf *buf, uint64_t number, size_t bytes)
{
	uint64_t head[2] = { number, bytes };
	uint8_t *to;

	sb__buf_append(buf, head, sizeof(head));
	to = sb__buf_reserve(buf, bytes);
	if (!to)
		return;
	for (size_t i = 0; i < bytes; i++)
		to[i] = byte_of(number, i);
	buf->len += bytes;
}

bool message_read(const struct sb__buf *buf, uint64_t *ret_number, size_t *ret_bytes)
{
	uint64_t head[2];

	if (buf->len < sizeof(head))
		return false;
	memcpy(head, buf->data, sizeof(head));
	if (head[1] != buf->len - sizeof(head))
		return false;
	for (size_t i = 0; i < head[1]; i++)
		if (buf->data[sizeof(head) + i] != byte_of(head[0], i))
			return false;
	*ret_number = head[0];
	*ret_bytes = head[1];
	return true;
}

bool message_is(const struct sb__buf *buf, uint64_t number, size_t bytes)
{
	uint64_t n;
	size_t b;

	return message_read(buf, &n, &b) && n == number && b == bytes;
}

/* ── the owner ── */

unsigned world_serve_pending(struct shm_world *world, uint32_t *cursor)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;
	unsigned served = 0;

	while (sb__mailbox_accept(world->mailbox, world->peers, cursor, scratch, &call) == 1) {
		struct sb__buf reply;
		uint64_t number;
		size_t bytes;

		sb__accepted_reply(world->mailbox, &call, &reply);
		if (message_read(&call.request, &number, &bytes))
			message_write(&reply, number + 1, bytes);
		else
			atomic_fetch_add(&world->garbled, 1);
		(void)sb__accepted_complete(world->mailbox, &call, &reply, world->arena);
		served++;
	}
	atomic_fetch_add_explicit(&world->served, served, memory_order_relaxed);
	return served;
}

void world_serve(struct shm_world *world)
{
	uint32_t sessions = 0, lanes = 0;

	while (!atomic_load(&world->stop)) {
		int index = sb__bell_take(&world->bell, &sessions);

		if (index < 0)
			(void)sb__bell_sleep(&world->bell, UINT64_C(100000000), world->spin_ns);
		else if (index == WORLD_BELL_INDEX)
			(void)world_serve_pending(world, &lanes);
	}
}

void world_stop(struct shm_world *world)
{
	atomic_store(&world->stop, true);
	sb__bell_wake_all(&world->bell);
}

void *world_serve_thread(void *arg)
{
	struct shm_world *world = arg;

	if (sb__bell_alive_hold(&world->bell) != 0)
		return world; /* not NULL: the test fails */
	world_serve(world);
	sb__bell_alive_release(&world->bell);
	return NULL;
}

int world_be_owner(struct shm_world *world)
{
	if (mprotect(world->bell.shm, SB__PAGE, PROT_READ | PROT_WRITE) == -1)
		return -errno;
	return sb__bell_alive_hold(&world->bell);
}

int world_fork_server(struct shm_world *world)
{
	struct shm_world mine;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) != 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (world_join(world, world->owner.slot, &mine) != 0 || world_be_owner(&mine) != 0 ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		world_serve(&mine);
		_exit(0);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1)
		pid = -ECHILD;
	close(ready[0]);
	return pid;
}

/* ── a caller ── */

int world_call(struct shm_world *world, uint32_t lane, uint64_t number, size_t bytes, uint64_t timeout_ns,
               enum sb__lane_result *ret)
{
	struct sb__lane_post post = { .deadline_ns = timeout_ns == FOREVER_NS ? FOREVER_NS
		                                                              : sb__now_ns() + timeout_ns,
		                      .trace_id = number,
		                      .label = "echo",
		                      .arena = world->arena };
	enum sb__lane_result result;
	uint8_t memory[512];
	struct sb__buf buf;
	int err;

	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, number, bytes);
	err = sb__lane_call(world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL, &result);
	if (err)
		return err;
	if (ret)
		*ret = result;
	if (result != SB__LANE_REPLIED)
		return ret ? 0 : -EIO;
	sb__buf_init(&buf, memory, sizeof(memory));
	err = sb__lane_reply(world->mailbox, lane, world->peers, &buf);
	sb__lane_consume(world->mailbox, lane);
	if (!err && !message_is(&buf, number + 1, bytes))
		err = -EBADMSG;
	sb__buf_free(&buf);
	return err;
}

uint32_t world_claimed(struct shm_world *world)
{
	return sb__mailbox_view(world->mailbox, NULL, 0);
}
