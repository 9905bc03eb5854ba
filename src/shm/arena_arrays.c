/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays in the writer's own arena: blocks with references of this process, that others keep by the table of holds; and
 * what each session's arrays may take.
 *
 * Lock order: arena->lock is a leaf. Crash: as in arena.c.
 */
#include "arena.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena_impl.h"
#include "array.h"
#include "clock.h"
#include "fail.h"
#include "os_linux.h"
#include "point.h"

#define LOOK_MS 1000 /* somebody may have died between giving back and counting that */

/* ── who keeps a block ── */

static void mirror_locked(struct sb__arena *arena)
{
	if (!arena->holds)
		return;
	sb__store(&arena->holds->blocks, arena->blocks);
	sb__store(&arena->holds->bytes, arena->block_bytes);
	sb__store(&arena->holds->file_bytes, arena->file_size);
	sb__store(&arena->holds->waiting, arena->waiting_count);
}

static void mark_named(void *arg, uint64_t word)
{
	struct sb__extent *e = sb__arena_block_locked(arg, SB__HOLD_OFFSET(word));

	if (e)
		e->named = true;
}

/* Does a child that was forked off after the block was made still live? */
static bool inherited_locked(const struct sb__arena *arena, const struct sb__extent *e)
{
	if (e->birth < arena->lost_forks)
		return true;
	return e->birth < arena->forks && /* an error is no proof */
	       sb__os_ofd_test_from(arena->fd, FORK_BYTE + (off_t)e->birth) != 0;
}

static void wait_locked(struct sb__arena *arena, struct sb__extent *e)
{
	e->waiting = true;
	e->prev = NULL;
	e->next = arena->waiting;
	if (e->next)
		e->next->prev = e;
	arena->waiting = e;
	arena->waiting_count++;
	SB_POINT("arena.block_waits");
}

static void unwait_locked(struct sb__arena *arena, struct sb__extent *e)
{
	if (e->prev)
		e->prev->next = e->next;
	else
		arena->waiting = e->next;
	if (e->next)
		e->next->prev = e->prev;
	e->prev = e->next = NULL;
	e->waiting = false;
	arena->waiting_count--;
}

static void retire_locked(struct sb__arena *arena, struct sb__extent *e)
{
	arena->blocks--;
	arena->block_bytes -= e->len;
	sb__arena_share_give_locked(arena, e);
	sb__arena_give_locked(arena, e);
	SB_POINT("arena.block_retired");
}

struct asked {
	uint64_t offset;
	bool named;
};

static void ask_for(void *arg, uint64_t word)
{
	struct asked *asked = arg;

	asked->named |= SB__HOLD_OFFSET(word) == asked->offset;
}

/* Does anybody else keep the block? In doubt, yes: holds changed hands meanwhile. */
static bool kept_locked(struct sb__arena *arena, const struct sb__extent *e)
{
	struct asked asked = { .offset = e->offset };

	return !sb__holds_each(arena->holds, ask_for, &asked) || asked.named || inherited_locked(arena, e);
}

/* Those waiting that neither a process nor a forked child keeps become free. */
static void settle_locked(struct sb__arena *arena)
{
	if (!arena->waiting)
		return;
	arena->seen_gives = sb__load_acquire(&arena->holds->gives);
	arena->look_ms = sb__now_coarse_ms();
	for (struct sb__extent *e = arena->waiting; e; e = e->next)
		e->named = false;
	if (!sb__holds_each(arena->holds, mark_named, arena)) {
		arena->look_ms = 0; /* holds changed hands meanwhile: another time */
		return;
	}
	for (struct sb__extent *e = arena->waiting, *next; e; e = next) {
		next = e->next;
		if (e->named || inherited_locked(arena, e))
			continue;
		unwait_locked(arena, e);
		retire_locked(arena, e);
	}
	mirror_locked(arena);
}

/* The same if anything can have changed. */
static void glance_locked(struct sb__arena *arena)
{
	if (arena->waiting && (sb__load_acquire(&arena->holds->gives) != arena->seen_gives ||
	                       sb__now_coarse_ms() - arena->look_ms >= LOOK_MS))
		settle_locked(arena);
}

/* ── sessions' shares ── */

static void share_free_locked(struct sb__arena *arena, struct share *s)
{
	sb__index_remove(&arena->shares, &s->by_session);
	free(s);
}

void sb__arena_share_give_locked(struct sb__arena *arena, struct sb__extent *e)
{
	struct share *s = e->share;

	e->share = NULL;
	if (!s)
		return;
	s->bytes -= e->len;
	if (s->bytes == 0)
		share_free_locked(arena, s);
}

void sb__arena_shares_free(struct sb__arena *arena)
{
	struct sb__index_node *n;

	while ((n = sb__index_next(&arena->shares, NULL)) != NULL) /* in a forked child there may be some */
		share_free_locked(arena, SB__INDEX_OF(n, struct share, by_session));
	sb__index_free(&arena->shares);
}

static struct share *share_find_locked(struct sb__arena *arena, uint64_t session)
{
	struct sb__index_node *n = sb__index_find(&arena->shares, sb__index_number(session));

	while (n && SB__INDEX_OF(n, struct share, by_session)->session != session)
		n = sb__index_find_next(&arena->shares, n);
	return n ? SB__INDEX_OF(n, struct share, by_session) : NULL;
}

static bool share_is_used_up_locked(struct sb__arena *arena, const struct sb__share *share, uint64_t len,
                                    uint64_t *ret_bytes)
{
	const struct share *s = share_find_locked(arena, share->session);

	*ret_bytes = s ? s->bytes : 0;
	return len > share->max_bytes || *ret_bytes > share->max_bytes - len;
}

/* Is there room for one more? What others have given back without our looking is free again first. */
static int share_check_locked(struct sb__arena *arena, const struct sb__share *share, uint64_t len)
{
	uint64_t bytes;
	int err;

	if (!share || !share->max_bytes || !share_is_used_up_locked(arena, share, len, &bytes))
		return 0;
	settle_locked(arena);
	if (!share_is_used_up_locked(arena, share, len, &bytes))
		return 0;
	err = sb__fail(
		SB_ENOSPACE,
		"the arrays of session \"%s\" take %" PRIu64 " of the %" PRIu64
		" bytes that one process keeps for it (max_session_arena_bytes), and this one needs %" PRIu64
		": free arrays and results, or make the session with a higher limit",
		share->session_id, bytes, share->max_bytes, len);
	sb__fail_set_sessions(share->session_id, NULL);
	return err;
}

static int share_take_locked(struct sb__arena *arena, const struct sb__share *share, struct sb__extent *e)
{
	struct share *s;

	if (!share || !share->max_bytes)
		return 0;
	s = share_find_locked(arena, share->session);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return sb__fail_memory("a session's share of the arena");
		s->session = share->session;
		sb__index_add(&arena->shares, &s->by_session, sb__index_number(s->session));
	}
	s->bytes += e->len;
	e->share = s;
	return 0;
}

static int make_locked(struct sb__arena *arena, enum sb__pool pool, const struct sb__share *share,
                       uint64_t len, struct sb__extent **ret)
{
	int err = 0;

	if (arena->closed)
		return sb__fail(SB_ECLOSED, "the bridge that would share this array was closed");
	if (!arena->holds)
		err = sb__holds_create(arena->dir, arena->slot, arena->generation, &arena->holds);
	if (err)
		return err;
	glance_locked(arena);
	err = share_check_locked(arena, share, len);
	if (!err)
		err = sb__arena_take_locked(arena, pool, len, ret);
	if (err)
		return err;
	err = share_take_locked(arena, share, *ret);
	if (err) {
		sb__arena_give_locked(arena, *ret);
		return err;
	}
	(*ret)->refs = 1;
	(*ret)->birth = arena->forks;
	arena->blocks++;
	arena->block_bytes += (*ret)->len;
	mirror_locked(arena);
	SB_POINT("arena.block_made");
	return 0;
}

static int block_make(struct sb__arena *arena, enum sb__pool pool, const struct sb__share *share, size_t len,
                      bool zero, struct sb__spill_shm *ret, void **ret_addr)
{
	uint64_t rounded = (len + SB__EXTENT_ALIGN - 1) / SB__EXTENT_ALIGN * SB__EXTENT_ALIGN;
	struct sb__extent *e = NULL;
	bool fresh = false;
	int err = sb__arena_check_use(arena);

	if (!err && (len == 0 || rounded > SB__HOLD_OFFSET_END))
		err = sb__fail(SB_ETOOBIG, "an array of %zu bytes cannot be shared", len);
	if (err)
		return err;
	pthread_mutex_lock(&arena->lock);
	err = make_locked(arena, pool, share, rounded, &e);
	if (!err) {
		fresh = e->fresh;
		e->fresh = false;
		*ret = (struct sb__spill_shm){ arena->slot, arena->generation, e->offset, e->len };
		*ret_addr = sb__arena_address_locked(arena, e);
	}
	pthread_mutex_unlock(&arena->lock);
	if (!err && zero && !fresh)
		memset(*ret_addr, 0, len);
	return err;
}

int sb__arena_block_make(struct sb__arena *arena, enum sb__pool pool, size_t len, bool zero,
                         struct sb__spill_shm *ret, void **ret_addr)
{
	return block_make(arena, pool, NULL, len, zero, ret, ret_addr);
}

int sb__arena_block_make_for(struct sb__arena *arena, const struct sb__share *share, size_t len,
                             struct sb__spill_shm *ret, void **ret_addr)
{
	return block_make(arena, SB__POOL_ARRAY, share, len, false, ret, ret_addr);
}

bool sb__arena_is_empty(const struct sb__arena *arena)
{
	return atomic_load(&arena->high) == 0;
}

void sb__arena_pin(struct sb__arena *arena)
{
	arena->pinned = true;
}

bool sb__arena_spans(const struct sb__arena *arena, const void *addr)
{
	return (uintptr_t)addr >= atomic_load_explicit(&arena->low, memory_order_relaxed) &&
	       (uintptr_t)addr < atomic_load_explicit(&arena->high, memory_order_relaxed);
}

/* The block of an array that [addr, addr + len) lies in, or NULL. */
static struct sb__extent *at_locked(const struct sb__arena *arena, const void *addr, size_t len)
{
	size_t low = 0, high = arena->chunk_count;
	const struct chunk *c;
	struct sb__extent *e;
	uint64_t offset;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if ((uintptr_t)arena->chunks[arena->by_address[mid]].map <= (uintptr_t)addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	c = &arena->chunks[arena->by_address[low - 1]];
	offset = (uint64_t)((uintptr_t)addr - (uintptr_t)c->map);
	if (offset >= c->len || c->pool == SB__POOL_MESSAGE)
		return NULL;
	offset += c->offset;
	e = sb__extents_find(&arena->pools[c->pool], offset);
	return e && e->refs > 0 && len <= e->len - (offset - e->offset) ? e : NULL;
}

/* Without the lock: in a child there is nobody but its own thread that uses it, and nothing changes any more. */
size_t sb__arena_inherited(const struct sb__arena *arena, const void *addr)
{
	const struct sb__extent *e = at_locked(arena, addr, 1);

	return e ? e->len - (size_t)((const uint8_t *)addr - sb__arena_address_locked(arena, e)) : 0;
}

bool sb__arena_block_find(struct sb__arena *arena, const void *addr, size_t len, struct sb__spill_shm *ret,
                          void **ret_base)
{
	struct sb__extent *e;

	if (!sb__arena_spans(arena, addr) || arena->epoch != sb__fork_epoch())
		return false;
	pthread_mutex_lock(&arena->lock);
	e = at_locked(arena, addr, len);
	if (e) {
		e->refs++;
		*ret = (struct sb__spill_shm){ arena->slot, arena->generation, e->offset, e->len };
		*ret_base = sb__arena_address_locked(arena, e);
	}
	pthread_mutex_unlock(&arena->lock);
	return e != NULL;
}

void *sb__arena_block_ref(struct sb__arena *arena, const struct sb__spill_shm *block)
{
	struct sb__extent *e;
	void *addr = NULL;

	if (block->slot != arena->slot || block->generation != arena->generation ||
	    arena->epoch != sb__fork_epoch())
		return NULL;
	pthread_mutex_lock(&arena->lock);
	e = sb__arena_block_locked(arena, block->offset);
	/* One that only others keep is kept by whoever names it. */
	if (e && e->pool != SB__POOL_MESSAGE && (e->refs > 0 || e->waiting) && block->len <= e->len) {
		if (e->waiting)
			unwait_locked(arena, e);
		e->refs++;
		addr = sb__arena_address_locked(arena, e);
	}
	pthread_mutex_unlock(&arena->lock);
	return addr;
}

void sb__arena_block_unref(struct sb__arena *arena, uint64_t offset)
{
	struct sb__extent *e;
	bool last;

	if (arena->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&arena->lock);
	e = sb__arena_block_locked(arena, offset);
	if (e && e->refs > 0 && --e->refs == 0) {
		/* Once closed, others have mapped what they keep, and nothing is made any more. */
		if (!arena->closed && kept_locked(arena, e))
			wait_locked(arena, e);
		else
			retire_locked(arena, e);
		if (!arena->closed) {
			glance_locked(arena);
			mirror_locked(arena);
		}
	}
	last = arena->closed && arena->blocks == 0;
	pthread_mutex_unlock(&arena->lock);
	if (last)
		sb__arena_end(arena);
}

void sb__arena_sweep(struct sb__arena *arena)
{
	if (arena->epoch != sb__fork_epoch())
		return;
	pthread_mutex_lock(&arena->lock);
	settle_locked(arena);
	pthread_mutex_unlock(&arena->lock);
}
