/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers' side of arenas: peers' files, mapped read-only and kept mapped, so that a block costs a copy
 * and no system call. Copies out and checks bounds; whether what it copied is still what was written is for
 * the mailbox to say (layout.h, spill blocks).
 *
 * Locks: cache->lock, a leaf, not held while copying: a view in use is counted and unmapped by its last
 * user.
 *
 * Crash: private memory only.
 */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fail.h"
#include "file.h"
#include "os_linux.h"

#define WHAT "a peer's arena"

struct view {
	struct view *next;
	uint32_t slot, generation;
	uint8_t *map;
	uint64_t size;
	unsigned users; /* copies running; plus one while it is in the list */
};

struct sb__arena_cache {
	int dir;
	pthread_mutex_t lock;
	struct view *views;
};

int sb__arena_cache_create(int arena_dir, struct sb__arena_cache **ret)
{
	struct sb__arena_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return sb__fail_memory("the cache of arenas");
	cache->dir = arena_dir;
	pthread_mutex_init(&cache->lock, NULL);
	*ret = cache;
	return 0;
}

static void view_free(struct view *view)
{
	(void)sb__os_unmap(view->map, view->size);
	free(view);
}

/* Not locked: nobody else may be in here, and in a forked child the lock may be held by a thread that is
 * not there. */
void sb__arena_cache_destroy(struct sb__arena_cache *cache)
{
	if (!cache)
		return;
	while (cache->views) {
		struct view *view = cache->views;

		cache->views = view->next;
		view_free(view);
	}
	free(cache);
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
	return --view->users == 0 ? view : NULL;
}

static int view_open(int dir, uint32_t slot, uint32_t generation, struct view **ret)
{
	char name[SB__FILE_NAME_MAX];
	struct view *view = calloc(1, sizeof(*view));
	struct stat st = { .st_size = 0 };
	int fd, err;

	if (!view)
		return sb__fail_memory("the view of an arena");
	snprintf(name, sizeof(name), "%" PRIu32 ".%" PRIu32, slot, generation);
	fd = sb__os_openat(dir, name, O_RDONLY, 0);
	if (fd < 0) {
		free(view);
		if (fd == -ENOENT)
			return sb__fail(SB_EPROTOCOL,
			                "a message names the arena of process slot %s, which does not exist",
			                name);
		return sb__file_fail(fd, "opened", WHAT);
	}
	err = sb__os_fstat(fd, &st);
	if (err < 0)
		err = sb__file_fail(err, "examined", WHAT);
	else if (st.st_size <= 0)
		err = sb__fail(SB_EPROTOCOL, "a message names the arena of process slot %s, which is empty",
		               name);
	else
		err = sb__file_map(fd, 0, (size_t)st.st_size, false, WHAT, (void **)&view->map);
	(void)sb__os_close(fd);
	if (err) {
		free(view);
		return err;
	}
	view->slot = slot;
	view->generation = generation;
	view->size = (uint64_t)st.st_size;
	view->users = 1;
	*ret = view;
	return 0;
}

static bool within(const struct view *view, uint64_t offset, uint64_t len)
{
	return len <= view->size && offset <= view->size - len;
}

/* A view that the block lies in, counted; maps the file anew if it has grown beyond the one we have. */
static int view_get(struct sb__arena_cache *cache, const struct sb__spill_shm *block, struct view **ret)
{
	struct view **at, *old = NULL, *view = NULL;
	int err = 0;

	pthread_mutex_lock(&cache->lock);
	at = find_locked(cache, block->slot, block->generation);
	if (!*at || !within(*at, block->offset, block->len)) {
		err = view_open(cache->dir, block->slot, block->generation, &view);
		if (view) {
			if (*at)
				old = drop_locked(at);
			view->next = cache->views;
			cache->views = view;
			at = &cache->views;
		}
	}
	if (!err && !within(*at, block->offset, block->len))
		err = sb__fail(SB_EPROTOCOL,
		               "a message names bytes %" PRIu64 " to %" PRIu64 " of an arena of %" PRIu64,
		               block->offset, block->offset + block->len, (*at)->size);
	if (!err) {
		(*at)->users++;
		*ret = *at;
	}
	pthread_mutex_unlock(&cache->lock);
	if (old)
		view_free(old);
	return err;
}

static void view_put(struct sb__arena_cache *cache, struct view *view)
{
	bool last;

	pthread_mutex_lock(&cache->lock);
	last = --view->users == 0;
	pthread_mutex_unlock(&cache->lock);
	if (last)
		view_free(view);
}

int sb__arena_copy(struct sb__arena_cache *cache, const struct sb__spill_shm *block, struct sb__buf *ret)
{
	struct view *view = NULL; /* gcc does not see that view_get() sets it */
	int err;

	if (block->len == 0 || block->len > SB__MESSAGE_MAX || block->offset % 64 != 0 ||
	    block->offset > INT64_MAX || block->slot >= SB__SLOTS_MAX)
		return sb__fail(SB_EPROTOCOL,
		                "a message names an impossible block: %" PRIu64 " bytes at %" PRIu64
		                " of the arena of process slot %" PRIu32,
		                block->len, block->offset, block->slot);
	err = view_get(cache, block, &view);
	if (err)
		return err;
	sb__buf_append(ret, view->map + block->offset, block->len);
	view_put(cache, view);
	if (ret->error)
		return ret->error == SB_ENOMEM
		               ? sb__fail_memory("a message")
		               : sb__fail(ret->error, "a message of %" PRIu64 " bytes is too big",
		                          block->len);
	return 0;
}

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
