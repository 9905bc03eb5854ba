/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers' side of arenas: peers' files, mapped and kept mapped, so that a message costs a copy and no system call,
 * and an array neither. A file that has grown gets a further segment, so what is mapped stays where it is.
 * Blocks that this process keeps are counted; the first to keep one takes a hold in the writer's table, the last gives
 * it back. Checks bounds; whether what was read or kept is still what was written is for the mailbox to say.
 *
 * Locks: cache->lock, a leaf, not held while copying: a view in use is counted and unmapped by its last
 * user.
 *
 * Crash: the holds of a killed process name it, and the reaper clears them. All else is private memory.
 */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include "fail.h"
#include "file.h"
#include "holds.h"
#include "os_linux.h"

#define WHAT "a peer's arena"

struct segment {
	struct segment *next;
	uint8_t *map;
	uint64_t offset, len;
};

struct view {
	struct view *next;
	uint32_t slot, generation;
	bool listed;
	struct segment *segments[2]; /* read-only, writable; the newest first */
	uint64_t mapped[2];          /* up to where */
	struct sb__holds_shm *holds;
	uint32_t hint;
	void *kept;     /* tsearch() tree of struct sb__arena_kept by offset */
	unsigned users; /* copies running and blocks kept; plus one while it is in the list */
};

struct sb__arena_kept {
	struct sb__arena_cache *cache;
	struct view *view;
	uint64_t offset, len, word;
	uint32_t entry, refs;
	bool writable, held;
	uint8_t *addr; /* key of the tree by address */
};

struct sb__arena_cache {
	int dir;
	uint32_t slot, generation;
	uint64_t epoch;
	pthread_mutex_t lock;
	struct view *views;
	void *by_address; /* tree of all that is kept */
	uint32_t kept;
	bool closed;
};

int sb__arena_cache_create(int arena_dir, struct sb__arena_cache **ret)
{
	struct sb__arena_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return sb__fail_memory("the cache of arenas");
	cache->dir = arena_dir;
	cache->epoch = sb__fork_epoch();
	pthread_mutex_init(&cache->lock, NULL);
	*ret = cache;
	return 0;
}

void sb__arena_cache_identify(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation)
{
	cache->slot = slot;
	cache->generation = generation;
}

static void view_free(struct view *view)
{
	for (unsigned w = 0; w < 2; w++)
		while (view->segments[w]) {
			struct segment *s = view->segments[w];

			view->segments[w] = s->next;
			(void)sb__os_unmap(s->map, s->len);
			free(s);
		}
	sb__holds_detach(view->holds);
	free(view);
}

static struct view **find_locked(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation)
{
	struct view **at = &cache->views;

	while (*at && ((*at)->slot != slot || (*at)->generation != generation))
		at = &(*at)->next;
	return at;
}

/* Takes a view out of the list; returns it if nobody uses it, to be freed. */
static struct view *drop_locked(struct view **at)
{
	struct view *view = *at;

	*at = view->next;
	view->listed = false;
	return --view->users == 0 ? view : NULL;
}

/* A count less; the view if it was the last. */
static struct view *put_locked(struct view *view)
{
	return --view->users == 0 ? view : NULL;
}

static void give_back(const void *node, VISIT visit, void *arg)
{
	struct sb__arena_kept *kept = *(struct sb__arena_kept *const *)node;

	(void)arg;
	if ((visit == postorder || visit == leaf) && kept->held) {
		sb__holds_give(kept->view->holds, kept->entry, kept->word);
		kept->held = false;
	}
}

void sb__arena_cache_destroy(struct sb__arena_cache *cache)
{
	bool ours, last;

	if (!cache)
		return;
	ours = cache->epoch == sb__fork_epoch(); /* else a thread that is not there may hold the lock */
	if (ours) {
		pthread_mutex_lock(&cache->lock);
		twalk_r(cache->by_address, give_back, NULL);
	}
	while (cache->views) {
		struct view *unused = drop_locked(&cache->views);

		if (unused)
			view_free(unused);
	}
	cache->closed = true;
	last = cache->kept == 0;
	if (ours)
		pthread_mutex_unlock(&cache->lock);
	if (last)
		free(cache);
}

/* ── mapping ── */

static int view_new(uint32_t slot, uint32_t generation, struct view **ret)
{
	struct view *view = calloc(1, sizeof(*view));

	if (!view)
		return sb__fail_memory("the view of an arena");
	view->slot = slot;
	view->generation = generation;
	view->users = 1;
	view->listed = true;
	*ret = view;
	return 0;
}

static uint8_t *mapped(const struct view *view, bool writable, uint64_t offset, uint64_t len)
{
	for (const struct segment *s = view->segments[writable]; s; s = s->next)
		if (offset >= s->offset && len <= s->len && offset - s->offset <= s->len - len)
			return s->map + (offset - s->offset);
	return NULL;
}

static int beyond(uint64_t offset, uint64_t len, uint64_t size)
{
	return sb__fail(SB_EPROTOCOL,
	                "a message names bytes %" PRIu64 " to %" PRIu64 " of an arena of %" PRIu64, offset,
	                offset + len, size);
}

/* Maps what the file has beyond the segments there are. A block that lies across two of them (the writer's try to grow failed
 * half-way) gets one from its beginning on. */
static int map_more(struct view *view, int fd, bool writable, uint64_t offset, uint64_t len)
{
	struct stat st = { .st_size = 0 };
	struct segment *s;
	uint64_t from = view->mapped[writable];
	void *map;
	int err = sb__os_fstat(fd, &st);

	if (err < 0)
		return sb__file_fail(err, "examined", WHAT);
	if (st.st_size <= 0 || len > (uint64_t)st.st_size || offset > (uint64_t)st.st_size - len)
		return beyond(offset, len, (uint64_t)st.st_size);
	if (offset < from)
		from = offset / SB__PAGE * SB__PAGE;
	s = malloc(sizeof(*s));
	if (!s)
		return sb__fail_memory("the view of an arena");
	err = sb__file_map(fd, from, (size_t)((uint64_t)st.st_size - from), writable, WHAT, &map);
	if (err) {
		free(s);
		return err;
	}
	*s = (struct segment){ view->segments[writable], map, from, (uint64_t)st.st_size - from };
	view->segments[writable] = s;
	view->mapped[writable] = (uint64_t)st.st_size;
	return 0;
}

static int map_locked(struct sb__arena_cache *cache, struct view *view, bool writable, uint64_t offset,
                      uint64_t len, uint8_t **ret)
{
	char name[SB__FILE_NAME_MAX];
	int fd, err;

	*ret = mapped(view, writable, offset, len);
	if (*ret)
		return 0;
	snprintf(name, sizeof(name), "%" PRIu32 ".%" PRIu32, view->slot, view->generation);
	fd = sb__os_open_own(cache->dir, name, writable ? O_RDWR : O_RDONLY, 0);
	if (fd == -ENOENT)
		return sb__fail(SB_EPROTOCOL,
		                "a message names the arena of process slot %s, which does not exist", name);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	err = map_more(view, fd, writable, offset, len);
	(void)sb__os_close(fd);
	if (!err)
		*ret = mapped(view, writable, offset, len);
	return err;
}

static int check_block(const struct sb__spill_shm *block, uint64_t most)
{
	if (block->len > 0 && block->len <= most && block->offset % 64 == 0 && block->offset <= INT64_MAX &&
	    block->slot < SB__SLOTS_MAX)
		return 0;
	return sb__fail(SB_EPROTOCOL,
	                "a message names an impossible block: %" PRIu64 " bytes at %" PRIu64
	                " of the arena of process slot %" PRIu32,
	                block->len, block->offset, block->slot);
}

static bool file_gone(const struct sb__arena_cache *cache, const struct view *view)
{
	char name[SB__FILE_NAME_MAX];
	struct stat st;

	snprintf(name, sizeof(name), "%" PRIu32 ".%" PRIu32, view->slot, view->generation);
	return sb__os_statat(cache->dir, name, &st) == -ENOENT;
}

/* Takes views whose file is gone out of the list; those that nobody uses are returned, linked by next. */
static struct view *tidy_locked(struct sb__arena_cache *cache)
{
	struct view **at = &cache->views, *unused = NULL;

	while (*at) {
		struct view *view;

		if (!file_gone(cache, *at)) {
			at = &(*at)->next;
			continue;
		}
		view = drop_locked(at);
		if (view) {
			view->next = unused;
			unused = view;
		}
	}
	return unused;
}

static void free_all(struct view *views)
{
	while (views) {
		struct view *next = views->next;

		view_free(views);
		views = next;
	}
}

/* The view of an arena, with a count more; the first look at one is when others' deaths are noticed. */
static int view_get_locked(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation,
                           struct view **ret_unused, struct view **ret)
{
	struct view **at = find_locked(cache, slot, generation), *view = *at;
	int err;

	if (!view) {
		*ret_unused = tidy_locked(cache);
		err = view_new(slot, generation, &view);
		if (err)
			return err;
		view->next = cache->views;
		cache->views = view;
	}
	view->users++;
	*ret = view;
	return 0;
}

/* ── messages ── */

int sb__arena_copy(struct sb__arena_cache *cache, const struct sb__spill_shm *block, struct sb__buf *ret)
{
	struct view *view = NULL, *unused = NULL, *last = NULL;
	uint8_t *from = NULL;
	int err = check_block(block, SB__MESSAGE_MAX);

	if (err)
		return err;
	pthread_mutex_lock(&cache->lock);
	err = view_get_locked(cache, block->slot, block->generation, &unused, &view);
	if (!err) {
		err = map_locked(cache, view, false, block->offset, block->len, &from);
		if (err)
			last = put_locked(view);
	}
	pthread_mutex_unlock(&cache->lock);
	if (!err) {
		sb__buf_append(ret, from, block->len);
		pthread_mutex_lock(&cache->lock);
		last = put_locked(view);
		pthread_mutex_unlock(&cache->lock);
		if (ret->error)
			err = ret->error == SB_ENOMEM
			              ? sb__fail_memory("a message")
			              : sb__fail(ret->error, "a message of %" PRIu64 " bytes is too big",
			                         block->len);
	}
	if (last)
		view_free(last);
	free_all(unused);
	return err;
}

/* ── keeping ── */

static int by_block(const void *a, const void *b)
{
	const struct sb__arena_kept *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (int)x->writable - (int)y->writable;
}

/* Ranges that overlap are equal; those of two blocks never do. */
static int by_address(const void *a, const void *b)
{
	const struct sb__arena_kept *x = a, *y = b;

	if ((uintptr_t)x->addr + x->len <= (uintptr_t)y->addr)
		return -1;
	return (uintptr_t)y->addr + y->len <= (uintptr_t)x->addr;
}

static int hold_locked(struct sb__arena_cache *cache, struct sb__arena_kept *kept)
{
	struct view *view = kept->view;
	int err = 0;

	if (!view->holds)
		err = sb__holds_attach(cache->dir, view->slot, view->generation, &view->holds);
	if (err)
		return err;
	kept->word = SB__HOLD(cache->slot, cache->generation, kept->offset);
	err = sb__holds_take(view->holds, kept->word, &view->hint, &kept->entry);
	kept->held = !err;
	return err;
}

static int keep_locked(struct sb__arena_cache *cache, struct view *view, const struct sb__spill_shm *block,
                       bool writable, struct sb__arena_kept **ret)
{
	struct sb__arena_kept key = { .offset = block->offset, .writable = writable }, *kept, **found;
	int err;

	found = tfind(&key, &view->kept, by_block);
	if (found && (*found)->len >= block->len) {
		(*found)->refs++;
		*ret = *found;
		return 0;
	}
	if (found) /* longer than when we first heard of it: two names of one block that contradict each other */
		return sb__fail(SB_EPROTOCOL,
		                "a message names a block of %" PRIu64 " bytes that has %" PRIu64, block->len,
		                (*found)->len);
	kept = calloc(1, sizeof(*kept));
	if (!kept)
		return sb__fail_memory("an array");
	*kept = (struct sb__arena_kept){ .cache = cache,
		                         .view = view,
		                         .offset = block->offset,
		                         .len = block->len,
		                         .refs = 1,
		                         .writable = writable };
	err = map_locked(cache, view, writable, block->offset, block->len, &kept->addr);
	if (!err)
		err = hold_locked(cache, kept);
	if (err) {
		free(kept);
		return err;
	}
	/* Overlaps nothing but what a forged name makes overlap: then it is not found by its address. */
	if (!tsearch(kept, &view->kept, by_block) || !tsearch(kept, &cache->by_address, by_address)) {
		tdelete(kept, &view->kept, by_block);
		sb__holds_give(view->holds, kept->entry, kept->word);
		free(kept);
		return sb__fail_memory("an array");
	}
	view->users++;
	cache->kept++;
	*ret = kept;
	return 0;
}

int sb__arena_keep(struct sb__arena_cache *cache, const struct sb__spill_shm *block, bool writable,
                   struct sb__arena_kept **ret, void **ret_addr)
{
	struct view *view = NULL, *unused = NULL, *last = NULL;
	int err = check_block(block, SB__HOLD_OFFSET_END);

	if (!err &&
	    (block->offset >= SB__HOLD_OFFSET_END || cache->closed || cache->epoch != sb__fork_epoch()))
		err = sb__fail(SB_EPROTOCOL, "an array cannot be kept by a bridge that was closed");
	if (err)
		return err;
	pthread_mutex_lock(&cache->lock);
	err = view_get_locked(cache, block->slot, block->generation, &unused, &view);
	if (!err) {
		err = keep_locked(cache, view, block, writable, ret);
		last = put_locked(view);
	}
	if (!err)
		*ret_addr = (*ret)->addr;
	pthread_mutex_unlock(&cache->lock);
	if (last)
		view_free(last);
	free_all(unused);
	return err;
}

struct sb__arena_kept *sb__arena_kept_ref(struct sb__arena_kept *kept)
{
	pthread_mutex_lock(&kept->cache->lock);
	kept->refs++;
	pthread_mutex_unlock(&kept->cache->lock);
	return kept;
}

/* Of a node that is in the tree by its own address, or of another that it overlaps. */
static void unfind_locked(struct sb__arena_cache *cache, struct sb__arena_kept *kept)
{
	struct sb__arena_kept **found = tfind(kept, &cache->by_address, by_address);

	if (found && *found == kept)
		tdelete(kept, &cache->by_address, by_address);
}

void sb__arena_kept_unref(struct sb__arena_kept *kept)
{
	struct sb__arena_cache *cache = kept->cache;
	struct view *last = NULL;
	bool cache_last = false;

	if (cache->epoch != sb__fork_epoch())
		return; /* a forked child: the hold is the parent's, and the memory stays mapped */
	pthread_mutex_lock(&cache->lock);
	if (--kept->refs == 0) {
		if (kept->held)
			sb__holds_give(kept->view->holds, kept->entry, kept->word);
		tdelete(kept, &kept->view->kept, by_block);
		unfind_locked(cache, kept);
		last = put_locked(kept->view);
		free(kept);
		cache_last = --cache->kept == 0 && cache->closed;
	}
	pthread_mutex_unlock(&cache->lock);
	if (last)
		view_free(last);
	if (cache_last) {
		pthread_mutex_destroy(&cache->lock);
		free(cache);
	}
}

struct sb__arena_kept *sb__arena_kept_find(struct sb__arena_cache *cache, const void *addr, size_t len,
                                           struct sb__spill_shm *ret, void **ret_base, bool *ret_writable)
{
	struct sb__arena_kept key = { .addr = (uint8_t *)(uintptr_t)addr, .len = 1 }, **found, *kept = NULL;

	if (cache->epoch != sb__fork_epoch())
		return NULL;
	pthread_mutex_lock(&cache->lock);
	found = tfind(&key, &cache->by_address, by_address);
	if (found && len <= (*found)->len &&
	    (uintptr_t)addr - (uintptr_t)(*found)->addr <= (*found)->len - len) {
		kept = *found;
		kept->refs++;
		*ret = (struct sb__spill_shm){ kept->view->slot, kept->view->generation, kept->offset,
			                       kept->len };
		*ret_base = kept->addr;
		*ret_writable = kept->writable;
	}
	pthread_mutex_unlock(&cache->lock);
	return kept;
}

/* ── */

void sb__arena_cache_forget(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation)
{
	struct view **at, *dead = NULL;

	pthread_mutex_lock(&cache->lock);
	at = find_locked(cache, slot, generation);
	if (*at)
		dead = drop_locked(at);
	pthread_mutex_unlock(&cache->lock);
	if (dead)
		view_free(dead);
}

void sb__arena_cache_tidy(struct sb__arena_cache *cache)
{
	struct view *unused;

	if (cache->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&cache->lock);
	unused = tidy_locked(cache);
	pthread_mutex_unlock(&cache->lock);
	free_all(unused);
}

uint32_t sb__arena_cache_kept(struct sb__arena_cache *cache)
{
	uint32_t kept;

	pthread_mutex_lock(&cache->lock);
	kept = cache->kept;
	pthread_mutex_unlock(&cache->lock);
	return kept;
}
