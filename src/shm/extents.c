/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bookkeeping of an arena: free pieces in bins by size (four to each power of two), used ones in a tree by
 * offset. Taking one looks at few pieces of one bin, whatever the number of blocks; giving one back merges it with
 * its neighbours in the chunk.
 *
 * Locks: the arena's. Crash: private memory only.
 */
#include "extents.h"

#include <search.h>
#include <stdlib.h>

#define LOOKS 32 /* at pieces of one bin for the best fit */

/* ── bins ── */

/* Every piece in a higher bin is larger than any in a lower one. */
static unsigned bin_of(uint64_t len)
{
	uint64_t units = len / SB__EXTENT_ALIGN;
	unsigned log, bin;

	if (units < 4)
		return (unsigned)units;
	log = 63u - (unsigned)__builtin_clzll(units);
	bin = 4 * (log - 1) + (unsigned)(units >> (log - 2) & 3);
	return bin < SB__EXTENT_BINS ? bin : SB__EXTENT_BINS - 1;
}

static void bin_put(struct sb__extents *x, struct sb__extent *e)
{
	unsigned bin = bin_of(e->len);

	e->prev = NULL;
	e->next = x->bins[bin];
	if (e->next)
		e->next->prev = e;
	x->bins[bin] = e;
	x->filled[bin / 64] |= UINT64_C(1) << (bin % 64);
	if (!e->cold)
		x->free_warm += e->len;
}

static void bin_remove(struct sb__extents *x, struct sb__extent *e)
{
	unsigned bin = bin_of(e->len);

	if (e->prev)
		e->prev->next = e->next;
	else
		x->bins[bin] = e->next;
	if (e->next)
		e->next->prev = e->prev;
	if (!x->bins[bin])
		x->filled[bin / 64] &= ~(UINT64_C(1) << (bin % 64));
	e->prev = e->next = NULL;
	if (!e->cold)
		x->free_warm -= e->len;
}

/* The smallest that fits of the first few; of equals the one that lies lowest, so that the file's end empties. */
static struct sb__extent *best_of_bin(const struct sb__extents *x, unsigned bin, uint64_t len)
{
	struct sb__extent *best = NULL;
	unsigned looks = 0;

	for (struct sb__extent *e = x->bins[bin]; e && looks < LOOKS; e = e->next, looks++)
		if (e->len >= len &&
		    (!best || e->len < best->len || (e->len == best->len && e->offset < best->offset)))
			best = e;
	return best;
}

static struct sb__extent *best_fit(const struct sb__extents *x, uint64_t len)
{
	unsigned bin = bin_of(len);
	struct sb__extent *best = best_of_bin(x, bin, len);

	if (best)
		return best;
	for (bin++; bin < SB__EXTENT_BINS; bin = (bin / 64 + 1) * 64) {
		uint64_t bits = x->filled[bin / 64] >> (bin % 64);

		if (bits)
			return best_of_bin(x, bin + (unsigned)__builtin_ctzll(bits), len);
	}
	return NULL;
}

/* ── used ones ── */

/* Ranges that overlap are equal, so a key of one byte finds the piece that it lies in. */
static int by_range(const void *a, const void *b)
{
	const struct sb__extent *x = a, *y = b;

	if (x->offset + x->len <= y->offset)
		return -1;
	return y->offset + y->len <= x->offset;
}

struct sb__extent *sb__extents_find(const struct sb__extents *x, uint64_t offset)
{
	struct sb__extent key = { .offset = offset, .len = 1 };
	struct sb__extent **found = tfind(&key, (void *const *)&x->used, by_range);

	return found ? *found : NULL;
}

/* ── */

struct sb__extent *sb__extents_add(struct sb__extents *x, uint64_t offset, uint64_t len, uint32_t chunk,
                                   uint8_t pool)
{
	struct sb__extent *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->offset = offset;
	e->len = len;
	e->chunk = chunk;
	e->pool = pool;
	e->fresh = true;
	bin_put(x, e);
	return e;
}

struct sb__extent *sb__extents_take(struct sb__extents *x, uint64_t len)
{
	struct sb__extent *e = best_fit(x, len), *rest = NULL;

	if (!e)
		return NULL;
	if (e->len > len && !(rest = malloc(sizeof(*rest))))
		return NULL;
	bin_remove(x, e);
	if (rest) {
		*rest = (struct sb__extent){ .offset = e->offset + len,
			                     .len = e->len - len,
			                     .before = e,
			                     .after = e->after,
			                     .chunk = e->chunk,
			                     .pool = e->pool,
			                     .fresh = e->fresh,
			                     .cold = e->cold };
		e->len = len;
		if (e->after)
			e->after->before = rest;
		e->after = rest;
		bin_put(x, rest);
	}
	e->used = true;
	if (tsearch(e, &x->used, by_range))
		return e;
	e->used = false;
	bin_put(x, e);
	return NULL;
}

/* Merges with the next one, which goes. */
static void merge(struct sb__extent *e)
{
	struct sb__extent *next = e->after;

	e->len += next->len;
	e->fresh = e->fresh && next->fresh;
	e->cold = e->cold || next->cold;
	e->after = next->after;
	if (e->after)
		e->after->before = e;
	free(next);
}

void sb__extents_give(struct sb__extents *x, struct sb__extent *e)
{
	tdelete(e, &x->used, by_range);
	e->used = false;
	e->fresh = false;
	if (e->after && !e->after->used) {
		bin_remove(x, e->after);
		merge(e);
	}
	if (e->before && !e->before->used) {
		e = e->before;
		bin_remove(x, e);
		merge(e);
	}
	bin_put(x, e);
}

static void free_extent(void *extent)
{
	free(extent);
}

void sb__extents_clear(struct sb__extents *x)
{
	for (unsigned bin = 0; bin < SB__EXTENT_BINS; bin++)
		while (x->bins[bin]) {
			struct sb__extent *e = x->bins[bin];

			x->bins[bin] = e->next;
			free(e);
		}
	tdestroy(x->used, free_extent);
	*x = (struct sb__extents){ .used = NULL };
}
