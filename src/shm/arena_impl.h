/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of an arena: for arena.c (file, chunks, messages, fork) and arena_arrays.c. "_locked": with arena->lock. */
#ifndef SB_ARENA_IMPL_H
#define SB_ARENA_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "extents.h"
#include "holds.h"
#include "index.h"

#define FORK_BYTE ((off_t)1 << 60) /* where locks of forked children begin; far behind any file */

struct chunk {
	uint8_t *map;
	uint64_t offset, len;
	enum sb__pool pool;
};

/* What one session's arrays take; there while they take something. */
struct share {
	struct sb__index_node by_session;
	uint64_t session, bytes;
};

struct sb__arena {
	int dir, fd;
	uint32_t slot, generation;
	uint64_t epoch; /* sb__fork_epoch() of the process that made it */
	pthread_mutex_t lock;
	struct chunk *chunks; /* by offset */
	uint32_t *by_address; /* their indexes */
	size_t chunk_count;
	_Atomic uintptr_t low, high; /* of all mappings */
	struct sb__extents pools[SB__POOLS];
	uint64_t pool_size[SB__POOLS];
	uint64_t file_size, in_use, max_bytes, warm_bytes;
	struct sb__index shares; /* by session */
	struct sb__holds_shm *holds;
	struct sb__extent *waiting; /* blocks that only others keep, or forked children */
	size_t blocks, waiting_count;
	uint64_t block_bytes;
	uint64_t seen_gives, look_ms;
	uint64_t forks, lost_forks; /* lost: children up to this one may live, and nothing tells */
	int fork_fd;
	bool closed, pinned, forking;
};

/* ── arena.c ── */

/* Everything goes, but for what a pin needs. The lock is not looked at. */
void sb__arena_end(struct sb__arena *arena);
int sb__arena_check_use(
	const struct sb__arena *arena); /* 0, or the error where it is closed or another process's */
int sb__arena_take_locked(struct sb__arena *arena, enum sb__pool pool, uint64_t len, struct sb__extent **ret);
void sb__arena_give_locked(struct sb__arena *arena, struct sb__extent *e);
uint8_t *sb__arena_address_locked(const struct sb__arena *arena, const struct sb__extent *e);
/* The used block that starts at offset, or NULL. */
struct sb__extent *sb__arena_block_locked(const struct sb__arena *arena, uint64_t offset);

/* ── arena_arrays.c ── */

/* The block takes nothing of its session's share any more. */
void sb__arena_share_give_locked(struct sb__arena *arena, struct sb__extent *e);
void sb__arena_shares_free(struct sb__arena *arena);

#endif
