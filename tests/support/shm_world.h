/* SPDX-License-Identifier: Apache-2.0 */
/* A mailbox with a doorbell and arenas in a directory of its own, and an owner that echoes: for tests of
 * src/shm alone. Uses no CMocka, so that forked children may call it. */
#ifndef SB_TESTS_SHM_WORLD_H
#define SB_TESTS_SHM_WORLD_H

#include <stdatomic.h>

#include "mailbox.h"

#define WORLD_BELL_INDEX  70 /* in the second word of session bits */
#define WORLD_INCARNATION 42
#define FOREVER_NS        UINT64_MAX

struct shm_world {
	char path[256];
	int mailbox_dir, bell_dir, arena_dir;
	struct sb__identity owner;
	struct sb__mailbox *mailbox;
	struct sb__bell bell;
	struct sb__arena *arena; /* of this process */
	struct sb__arena_cache *peers;
	_Atomic bool stop; /* ends world_serve() together with sb__bell_wake_all() */
	_Atomic uint64_t served;
	_Atomic uint64_t garbled; /* requests that no caller of a test can have sent */
	uint64_t spin_ns;         /* of the leader */
};

/* under: where to make the directory, NULL for $TMPDIR or /dev/shm. 0, or an error of the library's. */
int world_open(struct shm_world *world, const char *under);
void world_close(struct shm_world *world); /* removes the directory */
/* The same as CMocka's setup and teardown; *state is a struct shm_world. */
int world_setup(void **state);
int world_teardown(void **state);
/* In a forked child, or for another view: own mappings and an own arena of process slot. */
int world_join(const struct shm_world *of, uint32_t slot, struct shm_world *ret);
/* Of a world that was joined: from now on this thread's life is the owner's. */
int world_be_owner(struct shm_world *world);
void world_leave(struct shm_world *world);

/*
 * A message is {uint64_t number; number of bytes; bytes that follow from the number}, so that any mixture
 * of two of them shows. The echo answers number + 1 with as many bytes.
 */
void message_write(struct sb__buf *buf, uint64_t number, size_t bytes);
bool message_is(const struct sb__buf *buf, uint64_t number, size_t bytes);
bool message_read(const struct sb__buf *buf, uint64_t *ret_number, size_t *ret_bytes); /* false: garbled */

/* Leader loop: echoes until stop. */
void world_serve(struct shm_world *world);
/* Accepts and echoes what is there now; how many. */
unsigned world_serve_pending(struct shm_world *world, uint32_t *cursor);
void world_stop(struct shm_world *world);
void *world_serve_thread(void *world);
/* Forks a process that owns nothing of the parent's but serves it: it joins, holds the alive mutex, and
 * never returns. The world must have been opened without another server; returns its pid. */
int world_fork_server(struct shm_world *world);

/* One echo call on a claimed lane: 0, or what went wrong. *ret (may be NULL): how it ended. */
int world_call(struct shm_world *world, uint32_t lane, uint64_t number, size_t bytes, uint64_t timeout_ns,
               enum sb__lane_result *ret);
uint32_t world_claimed(struct shm_world *world); /* lanes that are not FREE */

#endif
