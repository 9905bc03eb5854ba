/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of an arena: chunks of the file, allocated with real blocks and mapped once, and blocks in them.
 * Freed blocks are used again first, while their pages are warm. Who may still read a message is the mailbox's
 * business (layout.h, spill blocks); who keeps an array's block is told by references of this process and the table of
 * holds.
 *
 * Messages and arrays lie in chunks of their own. A message may be read by somebody who is late, so its pages stay;
 * those of large free arrays go back to the file system, and are reserved anew before they are used again.
 *
 * The file has no header and is valid at any length, so it is made under its own name at once.
 *
 * Lock order: arena->lock is a leaf. fork() takes it. In a forked child nothing of it is taken.
 *
 * Crash: a kill leaves file and table; readers that still copy from it are not disturbed, those that keep arrays
 * neither. The reaper unlinks both once the process is dead.
 */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena_impl.h"
#include "clock.h"
#include "extents.h"
#include "fail.h"
#include "file.h"
#include "holds.h"
#include "index.h"
#include "os_linux.h"
#include "point.h"

#define WHAT      "the arena"
#define CHUNK_MIN ((uint64_t)1 << 20)
/* What one request may make the file grow beyond its own need. */
#define CHUNK_GROWTH_MAX ((uint64_t)64 << 20)
/* So much of the file system is left to others by messages, and by arrays, but not more than … */
#define MESSAGES_LEAVE_PART 32
#define MESSAGES_LEAVE_MAX  ((uint64_t)64 << 20)
#define ARRAYS_LEAVE_PART   8
#define ARRAYS_LEAVE_MAX    ((uint64_t)256 << 20)
#define PUNCH_MIN           ((uint64_t)64 << 10) /* smaller ones keep their pages */

static void arena_name(char name[SB__FILE_NAME_MAX], uint32_t slot, uint32_t generation)
{
	snprintf(name, SB__FILE_NAME_MAX, "%" PRIu32 ".%" PRIu32, slot, generation);
}

int sb__arena_create(int arena_dir, uint32_t slot, uint32_t generation, struct sb__arena **ret)
{
	struct sb__arena *arena = calloc(1, sizeof(*arena));

	if (!arena)
		return sb__fail_memory(WHAT);
	arena->dir = arena_dir;
	arena->fd = arena->fork_fd = -1;
	arena->slot = slot;
	arena->generation = generation;
	arena->epoch = sb__fork_epoch();
	arena->max_bytes = SB__HOLD_OFFSET_END;
	arena->warm_bytes = UINT64_MAX;
	atomic_init(&arena->low, UINTPTR_MAX);
	pthread_mutex_init(&arena->lock, NULL);
	*ret = arena;
	return 0;
}

void sb__arena_limit(struct sb__arena *arena, uint64_t max_bytes, uint64_t warm_bytes)
{
	arena->max_bytes = max_bytes < SB__HOLD_OFFSET_END ? max_bytes : SB__HOLD_OFFSET_END;
	arena->warm_bytes = warm_bytes;
}

int sb__arena_unlink(int arena_dir, uint32_t slot, uint32_t generation)
{
	char name[SB__FILE_NAME_MAX];
	int err = sb__holds_unlink(arena_dir, slot, generation), err2;

	SB_POINT("arena.holds_unlinked");
	arena_name(name, slot, generation);
	err2 = sb__os_unlinkat(arena_dir, name, 0);
	return err2 < 0 && err2 != -ENOENT ? sb__file_fail(err2, "removed", WHAT) : err;
}

static void unmap_chunks(struct sb__arena *arena, bool messages_only)
{
	for (size_t i = 0; i < arena->chunk_count; i++)
		if (!messages_only || arena->chunks[i].pool == SB__POOL_MESSAGE)
			(void)sb__os_unmap(arena->chunks[i].map, arena->chunks[i].len);
}

void sb__arena_end(struct sb__arena *arena)
{
	sb__arena_shares_free(arena);
	unmap_chunks(arena, false);
	sb__holds_detach(arena->holds);
	if (arena->fd >= 0)
		(void)sb__os_close(arena->fd);
	for (unsigned pool = 0; pool < SB__POOLS; pool++)
		sb__extents_clear(&arena->pools[pool]);
	free(arena->chunks);
	free(arena->by_address);
	arena->chunks = NULL;
	arena->by_address = NULL;
	arena->chunk_count = 0;
	arena->holds = NULL;
	arena->fd = -1;
	arena->closed = true;
	atomic_store(&arena->low, UINTPTR_MAX);
	atomic_store(&arena->high, 0);
	if (!arena->pinned)
		free(arena);
}

/* Forgets waiting blocks: others have mapped what they keep. */
static void drop_waiting_locked(struct sb__arena *arena)
{
	while (arena->waiting) {
		struct sb__extent *e = arena->waiting;

		arena->waiting = e->next;
		arena->blocks--;
		e->next = e->prev = NULL;
		sb__arena_share_give_locked(arena, e);
		sb__extents_give(&arena->pools[e->pool], e);
	}
	arena->waiting_count = 0;
}

void sb__arena_destroy(struct sb__arena *arena, bool unlink)
{
	bool last;

	if (!arena)
		return;
	if (arena->epoch != sb__fork_epoch()) {
		/* In a forked child another thread may have held the lock. Inherited arrays stay readable. */
		if (arena->blocks == arena->waiting_count)
			sb__arena_end(arena);
		else
			unmap_chunks(arena, true);
		return;
	}
	if (unlink && arena->fd >= 0)
		(void)sb__arena_unlink(arena->dir, arena->slot, arena->generation);
	SB_POINT("arena.unlinked");
	pthread_mutex_lock(&arena->lock);
	drop_waiting_locked(arena);
	arena->closed = true;
	last = arena->blocks == 0;
	pthread_mutex_unlock(&arena->lock);
	if (last)
		sb__arena_end(arena);
}

/* ── growing ── */

static int open_locked(struct sb__arena *arena)
{
	char name[SB__FILE_NAME_MAX];
	int fd;

	arena_name(name, arena->slot, arena->generation);
	fd = sb__os_open_own(arena->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return sb__file_fail(fd, "created", WHAT);
	arena->fd = fd;
	SB_POINT("arena.created");
	return 0;
}

/* Room for one more chunk in the lists. */
static int chunk_room_locked(struct sb__arena *arena)
{
	struct chunk *chunks = realloc(arena->chunks, (arena->chunk_count + 1) * sizeof(*chunks));
	uint32_t *by_address;

	if (!chunks)
		return sb__fail_memory("the arena's list of chunks");
	arena->chunks = chunks;
	by_address = realloc(arena->by_address, (arena->chunk_count + 1) * sizeof(*by_address));
	if (!by_address)
		return sb__fail_memory("the arena's list of chunks");
	arena->by_address = by_address;
	return 0;
}

static void chunk_add_locked(struct sb__arena *arena, const struct chunk *chunk)
{
	size_t at = arena->chunk_count;
	uintptr_t from = (uintptr_t)chunk->map, to = from + chunk->len;

	arena->chunks[at] = *chunk;
	while (at > 0 && (uintptr_t)arena->chunks[arena->by_address[at - 1]].map > from) {
		arena->by_address[at] = arena->by_address[at - 1];
		at--;
	}
	arena->by_address[at] = (uint32_t)arena->chunk_count++;
	if (from < atomic_load(&arena->low))
		atomic_store(&arena->low, from);
	if (to > atomic_load(&arena->high))
		atomic_store(&arena->high, to);
}

/*
 * What is left of the file system must do for the others: for their sessions, lanes and records, and arrays must leave
 * something for messages. Two processes that ask at once may both take what is there for one.
 */
static int leave_room_locked(const struct sb__arena *arena, enum sb__pool pool, uint64_t size)
{
	bool message = pool == SB__POOL_MESSAGE;
	uint64_t all = sb__os_fs_size(arena->fd), left = sb__os_fs_free(arena->fd);
	uint64_t part = message ? all / MESSAGES_LEAVE_PART : all / ARRAYS_LEAVE_PART;
	uint64_t most = message ? MESSAGES_LEAVE_MAX : ARRAYS_LEAVE_MAX;
	uint64_t leave = part < most ? part : most;

	if (!all || (left >= size && left - size >= leave))
		return 0;
	return sb__fail(SB_ENOSPACE,
	                "the bridge's file system has %" PRIu64 " bytes left, of which %s leave %" PRIu64
	                " to other processes: free space there or give the bridge a larger tmpfs",
	                left, message ? "messages" : "arrays", leave);
}

/* Room for size bytes, whole pages, at the end of the file. */
static int extend_locked(struct sb__arena *arena, enum sb__pool pool, uint64_t size)
{
	struct chunk chunk = { NULL, arena->file_size, size, pool };
	void *map;
	int err;

	if (size > arena->max_bytes || arena->file_size > arena->max_bytes - size)
		return sb__fail(SB_ENOSPACE,
		                "this process's arena has %" PRIu64 " bytes and may have %" PRIu64
		                " (max_arena_bytes): free arrays, or raise the limit",
		                arena->file_size, arena->max_bytes);
	err = leave_room_locked(arena, pool, size);
	if (!err)
		err = chunk_room_locked(arena);
	if (!err)
		err = sb__file_extend(arena->fd, arena->file_size, size, WHAT);
	if (!err)
		err = sb__file_map(arena->fd, arena->file_size, size, true, WHAT, &map);
	if (err)
		return err; /* a file longer than we know: the next try allocates the same range again */
	if (!sb__extents_add(&arena->pools[pool], chunk.offset, size, (uint32_t)arena->chunk_count,
	                     (uint8_t)pool)) {
		(void)sb__os_unmap(map, size);
		return sb__fail_memory("the arena's list of blocks");
	}
	SB_POINT("arena.extended");
	chunk.map = map;
	chunk_add_locked(arena, &chunk);
	arena->file_size += size;
	arena->pool_size[pool] += size;
	return 0;
}

static int grow_locked(struct sb__arena *arena, enum sb__pool pool, uint64_t need)
{
	uint64_t least = (need + SB__PAGE - 1) / SB__PAGE * SB__PAGE;
	uint64_t size = arena->pool_size[pool] < CHUNK_MIN ? CHUNK_MIN : arena->pool_size[pool];
	int err = arena->fd < 0 ? open_locked(arena) : 0;

	if (err)
		return err;
	if (size > CHUNK_GROWTH_MAX)
		size = CHUNK_GROWTH_MAX;
	if (size <= least)
		return extend_locked(arena, pool, least);
	err = extend_locked(arena, pool, size);
	return err == SB_ENOSPACE ? extend_locked(arena, pool, least) : err;
}

/* ── blocks ── */

uint8_t *sb__arena_address_locked(const struct sb__arena *arena, const struct sb__extent *e)
{
	const struct chunk *c = &arena->chunks[e->chunk];

	return c->map + (e->offset - c->offset);
}

/* The chunk that an offset lies in, or NULL. */
static struct chunk *chunk_locked(const struct sb__arena *arena, uint64_t offset)
{
	size_t low = 0, high = arena->chunk_count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (arena->chunks[mid].offset <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0 || offset - arena->chunks[low - 1].offset >= arena->chunks[low - 1].len)
		return NULL;
	return &arena->chunks[low - 1];
}

struct sb__extent *sb__arena_block_locked(const struct sb__arena *arena, uint64_t offset)
{
	const struct chunk *c = chunk_locked(arena, offset);
	struct sb__extent *e = c ? sb__extents_find(&arena->pools[c->pool], offset) : NULL;

	return e && e->offset == offset ? e : NULL;
}

/* Pages that were given back are reserved anew: a touch must never raise SIGBUS. */
static int warm_up_locked(struct sb__arena *arena, enum sb__pool pool, struct sb__extent *e)
{
	uint64_t from = e->offset / SB__PAGE * SB__PAGE;
	uint64_t to = (e->offset + e->len + SB__PAGE - 1) / SB__PAGE * SB__PAGE;
	int err;

	if (!e->cold)
		return 0;
	err = leave_room_locked(arena, pool, to - from);
	if (!err)
		err = sb__file_extend(arena->fd, from, to - from, WHAT);
	if (!err)
		e->cold = false;
	return err;
}

int sb__arena_take_locked(struct sb__arena *arena, enum sb__pool pool, uint64_t len, struct sb__extent **ret)
{
	struct sb__extent *e = sb__extents_take(&arena->pools[pool], len);
	int err;

	if (!e) {
		err = grow_locked(arena, pool, len);
		if (err)
			return err;
		e = sb__extents_take(&arena->pools[pool], len);
	}
	if (!e)
		return sb__fail_memory("the arena's list of blocks");
	err = warm_up_locked(arena, pool, e);
	if (err) {
		sb__extents_give(&arena->pools[pool], e);
		return err;
	}
	arena->in_use += e->len;
	*ret = e;
	return 0;
}

/* Gives whole pages of a free array back where many are kept warm already. */
static void cool_down_locked(struct sb__arena *arena, struct sb__extent *e)
{
	uint64_t warm = arena->pools[SB__POOL_ARRAY].free_warm + arena->pools[SB__POOL_HEAP].free_warm;
	uint64_t from = (e->offset + SB__PAGE - 1) / SB__PAGE * SB__PAGE;
	uint64_t to = (e->offset + e->len) / SB__PAGE * SB__PAGE;

	if (arena->closed)
		return; /* nobody asked who else has it mapped; the file goes with its last mapping */
	if (e->len < PUNCH_MIN || (warm <= arena->warm_bytes && e->len <= arena->warm_bytes - warm))
		return;
	if (sb__os_punch(arena->fd, (off_t)from, (off_t)(to - from)) == 0)
		e->cold = true;
	SB_POINT("arena.punched");
}

void sb__arena_give_locked(struct sb__arena *arena, struct sb__extent *e)
{
	arena->in_use -= e->len;
	if (e->pool != SB__POOL_MESSAGE)
		cool_down_locked(arena, e);
	sb__extents_give(&arena->pools[e->pool], e);
}

int sb__arena_check_use(const struct sb__arena *arena)
{
	if (arena->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "an arena was used in a forked child");
	return 0;
}

/* ── messages ── */

int sb__arena_alloc(struct sb__arena *arena, size_t len, struct sb__spill_shm *ret, void **ret_addr)
{
	uint64_t rounded = (len + SB__EXTENT_ALIGN - 1) / SB__EXTENT_ALIGN * SB__EXTENT_ALIGN;
	struct sb__extent *e;
	int err;

	if (len == 0 || len > SB__MESSAGE_MAX)
		return sb__fail(SB_ETOOBIG, "%zu bytes do not fit into one message, which has at most %zu",
		                len, SB__MESSAGE_MAX);
	err = sb__arena_check_use(arena);
	if (err)
		return err;
	pthread_mutex_lock(&arena->lock);
	err = sb__arena_take_locked(arena, SB__POOL_MESSAGE, rounded, &e);
	if (!err) {
		*ret = (struct sb__spill_shm){ arena->slot, arena->generation, e->offset, len };
		*ret_addr = sb__arena_address_locked(arena, e);
	}
	pthread_mutex_unlock(&arena->lock);
	SB_POINT("arena.allocated");
	return err;
}

void sb__arena_free(struct sb__arena *arena, const struct sb__spill_shm *block)
{
	struct sb__extent *e;

	if (arena->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&arena->lock);
	e = sb__arena_block_locked(arena, block->offset);
	if (e && e->pool == SB__POOL_MESSAGE)
		sb__arena_give_locked(arena, e);
	pthread_mutex_unlock(&arena->lock);
	SB_POINT("arena.freed");
}

/* ── fork ── */

void sb__arena_fork_before(struct sb__arena *arena)
{
	char path[64];

	if (arena->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&arena->lock);
	arena->forking = true;
	arena->fork_fd = -1;
	if (arena->blocks == 0)
		return;
	/* A lock of an open file description lasts until its last descriptor is closed: ours is in a moment, and then only
	 * the child and its children have it. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", arena->fd);
	arena->fork_fd = sb__os_reopen(path);
	if (arena->fork_fd >= 0 &&
	    sb__os_ofd_lock(arena->fork_fd, FORK_BYTE + (off_t)arena->forks, true) == 0)
		return;
	arena->lost_forks = arena->forks + 1;
}

void sb__arena_fork_parent(struct sb__arena *arena)
{
	if (!arena->forking)
		return;
	arena->forking = false;
	if (arena->fork_fd >= 0)
		(void)sb__os_close(arena->fork_fd);
	arena->fork_fd = -1;
	if (arena->blocks > 0)
		arena->forks++;
	pthread_mutex_unlock(&arena->lock);
}

/* What looks like ordinary memory must behave like it: a child's writes are its own. */
void sb__arena_fork_child(struct sb__arena *arena)
{
	if (!arena->forking) /* the parent inherited it, too: it is private already */
		return;
	arena->forking = false;
	for (size_t i = 0; i < arena->chunk_count; i++)
		if (arena->chunks[i].pool == SB__POOL_HEAP)
			(void)sb__os_map_over(arena->fd, (off_t)arena->chunks[i].offset, arena->chunks[i].len,
			                      arena->chunks[i].map);
	pthread_mutex_init(&arena->lock, NULL);
}

static size_t read_locked(struct sb__arena *arena, const uint64_t *field)
{
	size_t value;

	pthread_mutex_lock(&arena->lock);
	value = *field;
	pthread_mutex_unlock(&arena->lock);
	return value;
}

size_t sb__arena_in_use(struct sb__arena *arena)
{
	return read_locked(arena, &arena->in_use);
}

size_t sb__arena_file_size(struct sb__arena *arena)
{
	return read_locked(arena, &arena->file_size);
}
