/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's own arena and its peers' as one space of blocks. A block of its own is counted in the arena, one of a peer's in
 * the cache; a handle says which.
 *
 * Locks: those of arena and cache, never both. Crash: see there.
 */
#include "space.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "fail.h"
#include "os_linux.h"

struct sb__space {
	struct sb__blocks blocks;
	struct sb__arena *arena;
	struct sb__arena_cache *cache;
	uint32_t slot, generation;
	uint64_t max_array_bytes;
	uint64_t epoch;
	atomic_uint users; /* handles, whoever pinned it, and the bridge */
	_Atomic bool closed, pinned;
};

struct handle {
	struct sb__space *space;
	struct sb__arena_kept *kept; /* NULL: of our own arena */
	uint64_t offset;
	void *addr;
};

static void space_put(struct sb__space *space)
{
	if (atomic_fetch_sub(&space->users, 1) == 1)
		free(space);
}

static struct handle *handle_new(struct sb__space *space, uint64_t offset, struct sb__arena_kept *kept,
                                 void *addr)
{
	struct handle *h = malloc(sizeof(*h));

	if (!h) {
		if (kept)
			sb__arena_kept_unref(kept);
		else
			sb__arena_block_unref(space->arena, offset);
		sb__fail_memory("an array");
		return NULL;
	}
	*h = (struct handle){ space, kept, offset, addr };
	atomic_fetch_add(&space->users, 1);
	return h;
}

static void space_release(void *kept)
{
	struct handle *h = kept;
	struct sb__space *space = h->space;

	if (h->kept)
		sb__arena_kept_unref(h->kept);
	else
		sb__arena_block_unref(space->arena, h->offset);
	free(h);
	space_put(space);
}

static int not_here(const struct sb__space *space)
{
	if (atomic_load(&space->closed))
		return sb__fail(SB_ECLOSED, "the bridge that shares these arrays was closed");
	if (space->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "shared arrays were used in a forked child before it attached");
	return 0;
}

static struct sb__spill_shm spill_of(const struct sb__block *block)
{
	return (struct sb__spill_shm){ block->slot, block->generation, block->offset, block->len };
}

static struct sb__block block_of(const struct sb__spill_shm *spill)
{
	return (struct sb__block){ spill->slot, spill->generation, spill->offset, spill->len };
}

static int space_keep(void *arg, const struct sb__block *block, bool writable, void **ret_addr,
                      void **ret_kept)
{
	struct sb__space *space = arg;
	struct sb__spill_shm spill = spill_of(block);
	struct sb__arena_kept *kept = NULL;
	int err = not_here(space);

	if (err)
		return err;
	if (block->slot == space->slot && block->generation == space->generation) {
		*ret_addr = sb__arena_block_ref(space->arena, &spill);
		if (!*ret_addr)
			return sb__fail(
				SB_EPROTOCOL,
				"a message names an array of this process that does not exist (any more)");
	} else {
		err = sb__arena_keep(space->cache, &spill, writable, &kept, ret_addr);
		if (err)
			return err;
	}
	*ret_kept = handle_new(space, block->offset, kept, *ret_addr);
	return *ret_kept ? 0 : SB_ENOMEM;
}

static int space_make(void *arg, const struct sb__share *share, size_t len, struct sb__block *ret,
                      void **ret_addr, void **ret_kept)
{
	struct sb__space *space = arg;
	struct sb__spill_shm spill;
	int err = not_here(space);

	if (!err && len > space->max_array_bytes)
		err = sb__fail(SB_ETOOBIG,
		               "an array of %zu bytes; this process shares up to %llu (max_array_bytes): "
		               "send it in parts, or "
		               "raise the limit",
		               len, (unsigned long long)space->max_array_bytes);
	if (!err)
		err = sb__arena_block_make_for(space->arena, share, len, &spill, ret_addr);
	if (err)
		return err;
	*ret = block_of(&spill);
	*ret_kept = handle_new(space, spill.offset, NULL, *ret_addr);
	return *ret_kept ? 0 : SB_ENOMEM;
}

static bool space_find(void *arg, const void *addr, size_t len, struct sb__block *ret, bool *ret_writable,
                       void **ret_kept)
{
	struct sb__space *space = arg;
	struct sb__arena_kept *kept = NULL;
	struct sb__spill_shm spill;
	void *base;

	if (atomic_load(&space->closed) || space->epoch != sb__fork_epoch())
		return false;
	if (sb__arena_block_find(space->arena, addr, len, &spill, &base)) {
		*ret_writable = true;
	} else {
		kept = sb__arena_kept_find(space->cache, addr, len, &spill, &base, ret_writable);
		if (!kept)
			return false;
	}
	*ret = block_of(&spill);
	*ret_kept = handle_new(space, spill.offset, kept, base);
	return *ret_kept != NULL;
}

static void *space_address(void *kept)
{
	return ((struct handle *)kept)->addr;
}

static const char *space_why(void)
{
	return sb_last_error()->message;
}

static void space_pin(void *arg)
{
	struct sb__space *space = arg;

	if (!atomic_exchange(&space->pinned, true))
		atomic_fetch_add(&space->users, 1);
	sb__arena_pin(space->arena);
}

static bool space_done(void *arg)
{
	struct sb__space *space = arg;

	return atomic_load(&space->closed) && sb__arena_is_empty(space->arena);
}

static void *space_heap_make(void *arg, size_t len, bool zero)
{
	struct sb__space *space = arg;
	struct sb__spill_shm spill;
	void *addr;

	if (atomic_load(&space->closed) || space->epoch != sb__fork_epoch() || len > space->max_array_bytes ||
	    sb__arena_block_make(space->arena, SB__POOL_HEAP, len, zero, &spill, &addr) != 0)
		return NULL;
	atomic_fetch_add(&space->users, 1);
	return addr;
}

static bool space_heap_free(void *arg, void *addr)
{
	struct sb__space *space = arg;
	struct sb__spill_shm spill;
	void *base;

	if (!sb__arena_spans(space->arena, addr))
		return false;
	if (space->epoch != sb__fork_epoch())
		return sb__arena_inherited(space->arena, addr); /* the parent's: stays where it is */
	if (!sb__arena_block_find(space->arena, addr, 1, &spill, &base))
		return false;
	sb__arena_block_unref(space->arena, spill.offset);
	sb__arena_block_unref(space->arena, spill.offset);
	space_put(space);
	return true;
}

static size_t space_heap_size(void *arg, const void *addr)
{
	struct sb__space *space = arg;
	struct sb__spill_shm spill;
	void *base;

	if (!sb__arena_spans(space->arena, addr))
		return 0;
	if (space->epoch != sb__fork_epoch())
		return sb__arena_inherited(space->arena, addr);
	if (!sb__arena_block_find(space->arena, addr, 1, &spill, &base))
		return 0;
	sb__arena_block_unref(space->arena, spill.offset);
	return spill.len;
}

int sb__space_create(struct sb__arena *arena, struct sb__arena_cache *cache, uint32_t slot,
                     uint32_t generation, uint64_t max_array_bytes, const void *bridge,
                     struct sb__space **ret)
{
	struct sb__space *space = calloc(1, sizeof(*space));

	if (!space)
		return sb__fail_memory("shared memory");
	space->blocks = (struct sb__blocks){ space,          bridge,        space_keep,      space_make,
		                             space_find,     space_release, space_address,   space_why,
		                             space_pin,      space_done,    space_heap_make, space_heap_free,
		                             space_heap_size };
	space->arena = arena;
	space->cache = cache;
	space->slot = slot;
	space->generation = generation;
	space->max_array_bytes = max_array_bytes;
	space->epoch = sb__fork_epoch();
	atomic_init(&space->users, 1);
	sb__arena_cache_identify(cache, slot, generation);
	*ret = space;
	return 0;
}

void sb__space_close(struct sb__space *space, bool unlink)
{
	if (!space)
		return;
	atomic_store(&space->closed, true);
	sb__arena_destroy(space->arena, unlink);
	sb__arena_cache_destroy(space->cache);
	space_put(space);
}

const struct sb__blocks *sb__space_blocks(struct sb__space *space)
{
	return &space->blocks;
}

void sb__space_sweep(struct sb__space *space)
{
	sb__arena_sweep(space->arena);
	sb__arena_cache_tidy(space->cache);
}
