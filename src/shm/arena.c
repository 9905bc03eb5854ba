/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of an arena: a best-fit allocator whose metadata is private memory. Chunks of the file
 * are allocated with real blocks and mapped once; freed blocks are used again first, while their pages are
 * warm. Knows nothing of lanes: who may still read a block is the mailbox's business (layout.h, spill
 * blocks).
 *
 * The file has no header and is valid at any length, so it is made under its own name at once.
 *
 * Lock order: arena->lock is a leaf. In a forked child nothing of it is taken.
 *
 * Crash: a kill leaves the file; readers that still copy from it are not disturbed. The reaper unlinks it
 * once the process is dead.
 */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "file.h"
#include "os_linux.h"

#define WHAT      "the arena"
#define ALIGN     64u
#define CHUNK_MIN ((uint64_t)1 << 20)
/* What one request may make the file grow beyond its own need. */
#define CHUNK_GROWTH_MAX ((uint64_t)64 << 20)

struct chunk {
	uint8_t *map;
	uint64_t offset, len;
};

/* Segments cover all chunks without gaps, by offset; two free ones that touch within a chunk are merged. */
struct segment {
	uint64_t offset, len;
	uint32_t chunk;
	bool used;
};

struct sb__arena {
	int dir, fd;
	uint32_t slot, generation;
	uint64_t epoch; /* sb__fork_epoch() of the process that made it */
	pthread_mutex_t lock;
	struct chunk *chunks;
	size_t chunk_count;
	struct segment *segments;
	size_t segment_count, segment_cap;
	uint64_t file_size, in_use;
};

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
	arena->fd = -1;
	arena->slot = slot;
	arena->generation = generation;
	arena->epoch = sb__fork_epoch();
	pthread_mutex_init(&arena->lock, NULL);
	*ret = arena;
	return 0;
}

int sb__arena_unlink(int arena_dir, uint32_t slot, uint32_t generation)
{
	char name[SB__FILE_NAME_MAX];
	int err;

	arena_name(name, slot, generation);
	err = sb__os_unlinkat(arena_dir, name, 0);
	return err < 0 && err != -ENOENT ? sb__file_fail(err, "removed", WHAT) : 0;
}

void sb__arena_destroy(struct sb__arena *arena, bool unlink)
{
	if (!arena)
		return;
	for (size_t i = 0; i < arena->chunk_count; i++)
		(void)sb__os_unmap(arena->chunks[i].map, arena->chunks[i].len);
	if (arena->fd >= 0)
		(void)sb__os_close(arena->fd);
	if (arena->epoch == sb__fork_epoch()) {
		if (unlink && arena->fd >= 0)
			(void)sb__arena_unlink(arena->dir, arena->slot, arena->generation);
		pthread_mutex_destroy(&arena->lock); /* in a forked child another thread may have held it */
	}
	free(arena->chunks);
	free(arena->segments);
	free(arena);
}

/* ── growing ── */

static int open_locked(struct sb__arena *arena)
{
	char name[SB__FILE_NAME_MAX];
	int fd;

	arena_name(name, arena->slot, arena->generation);
	fd = sb__os_openat(arena->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return sb__file_fail(fd, "created", WHAT);
	arena->fd = fd;
	return 0;
}

static int segments_room_locked(struct sb__arena *arena, size_t more)
{
	struct segment *segments;
	size_t cap = arena->segment_cap;

	if (arena->segment_count + more <= cap)
		return 0;
	cap = cap ? cap * 2 : 16;
	segments = realloc(arena->segments, cap * sizeof(*segments));
	if (!segments)
		return sb__fail_memory("the arena's list of blocks");
	arena->segments = segments;
	arena->segment_cap = cap;
	return 0;
}

/* Room for size bytes, whole pages, at the end of the file. */
static int extend_locked(struct sb__arena *arena, uint64_t size)
{
	struct chunk *chunks;
	void *map;
	int err;

	chunks = realloc(arena->chunks, (arena->chunk_count + 1) * sizeof(*chunks));
	if (!chunks)
		return sb__fail_memory("the arena's list of chunks");
	arena->chunks = chunks;
	err = sb__file_extend(arena->fd, arena->file_size, size, WHAT);
	if (!err)
		err = sb__file_map(arena->fd, arena->file_size, size, true, WHAT, &map);
	if (err)
		return err; /* a file longer than we know: the next try allocates the same range again */
	chunks[arena->chunk_count] = (struct chunk){ map, arena->file_size, size };
	arena->segments[arena->segment_count++] = (struct segment){ arena->file_size, size,
		                                                    (uint32_t)arena->chunk_count, false };
	arena->chunk_count++;
	arena->file_size += size;
	return 0;
}

static int grow_locked(struct sb__arena *arena, uint64_t need)
{
	uint64_t least = (need + SB__PAGE - 1) / SB__PAGE * SB__PAGE;
	uint64_t size = arena->file_size < CHUNK_MIN ? CHUNK_MIN : arena->file_size;
	int err = arena->fd < 0 ? open_locked(arena) : 0;

	if (!err)
		err = segments_room_locked(arena, 1);
	if (err)
		return err;
	if (size > CHUNK_GROWTH_MAX)
		size = CHUNK_GROWTH_MAX;
	if (size <= least)
		return extend_locked(arena, least);
	err = extend_locked(arena, size);
	return err == SB_ENOSPACE ? extend_locked(arena, least) : err;
}

/* ── blocks ── */

/* The smallest free segment that fits, the first of equals; segment_count if there is none. */
static size_t best_fit_locked(const struct sb__arena *arena, uint64_t len)
{
	size_t best = arena->segment_count;

	for (size_t i = 0; i < arena->segment_count; i++) {
		const struct segment *s = &arena->segments[i];

		if (!s->used && s->len >= len &&
		    (best == arena->segment_count || s->len < arena->segments[best].len))
			best = i;
	}
	return best;
}

/* Takes len bytes off the front of free segment i; there must be room for one more segment. */
static void split_locked(struct sb__arena *arena, size_t i, uint64_t len)
{
	struct segment *s = &arena->segments[i];

	if (s->len > len) {
		memmove(s + 2, s + 1, (arena->segment_count - i - 1) * sizeof(*s));
		s[1] = (struct segment){ s->offset + len, s->len - len, s->chunk, false };
		s->len = len;
		arena->segment_count++;
	}
	s->used = true;
}

static int alloc_locked(struct sb__arena *arena, uint64_t len, size_t *ret)
{
	size_t i = best_fit_locked(arena, len);
	int err;

	if (i == arena->segment_count) {
		err = grow_locked(arena, len);
		if (err)
			return err;
		i = best_fit_locked(arena, len);
	}
	err = segments_room_locked(arena, 1);
	if (err)
		return err;
	split_locked(arena, i, len);
	arena->in_use += len;
	*ret = i;
	return 0;
}

int sb__arena_alloc(struct sb__arena *arena, size_t len, struct sb__spill_shm *ret, void **ret_addr)
{
	uint64_t rounded = (len + ALIGN - 1) / ALIGN * ALIGN;
	size_t i;
	int err;

	if (len == 0 || len > SB__MESSAGE_MAX)
		return sb__fail(SB_ETOOBIG, "%zu bytes do not fit into one message, which has at most %zu",
		                len, SB__MESSAGE_MAX);
	if (arena->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "an arena was used in a forked child");
	pthread_mutex_lock(&arena->lock);
	err = alloc_locked(arena, rounded, &i);
	if (!err) {
		const struct segment *s = &arena->segments[i];
		const struct chunk *c = &arena->chunks[s->chunk];

		*ret = (struct sb__spill_shm){ arena->slot, arena->generation, s->offset, len };
		*ret_addr = c->map + (s->offset - c->offset);
	}
	pthread_mutex_unlock(&arena->lock);
	return err;
}

static size_t find_locked(const struct sb__arena *arena, uint64_t offset)
{
	size_t low = 0, high = arena->segment_count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (arena->segments[mid].offset < offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Merges segment i with the next one if both are free neighbours in one chunk. */
static void merge_locked(struct sb__arena *arena, size_t i)
{
	struct segment *s = &arena->segments[i];

	if (i + 1 >= arena->segment_count || s[0].used || s[1].used || s[0].chunk != s[1].chunk)
		return;
	s->len += s[1].len;
	memmove(s + 1, s + 2, (arena->segment_count - i - 2) * sizeof(*s));
	arena->segment_count--;
}

void sb__arena_free(struct sb__arena *arena, const struct sb__spill_shm *block)
{
	size_t i;

	if (arena->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&arena->lock);
	i = find_locked(arena, block->offset);
	if (i < arena->segment_count && arena->segments[i].offset == block->offset &&
	    arena->segments[i].used) {
		arena->segments[i].used = false;
		arena->in_use -= arena->segments[i].len;
		merge_locked(arena, i);
		if (i > 0)
			merge_locked(arena, i - 1);
	}
	pthread_mutex_unlock(&arena->lock);
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
