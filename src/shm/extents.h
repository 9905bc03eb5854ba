/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies where in an arena: used and free pieces, found in O(log n). Private memory of the writer and pure
 * bookkeeping: it knows no file and no mapping. Internal to this folder; not thread-safe.
 */
#ifndef SB_SHM_EXTENTS_H
#define SB_SHM_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SB__EXTENT_ALIGN 64u
#define SB__EXTENT_BINS  160u

struct sb__extent {
	uint64_t offset, len;              /* multiples of SB__EXTENT_ALIGN */
	struct sb__extent *before, *after; /* neighbours in the chunk, used or free */
	struct sb__extent *prev, *next;    /* in a free bin, or in the list of those waiting */
	uint32_t chunk;
	uint8_t pool;
	bool used;
	bool fresh; /* nobody has written into it since the file grew: zeros */
	bool cold;  /* some of its pages were given back to the file system */
	/* Of blocks that hold arrays. */
	bool waiting, named; /* nobody here has it any more; named in the table of holds at the last look */
	uint32_t refs;
	uint64_t birth; /* forks before it was made */
	void *share;    /* whose limit it counts against, or NULL */
};

struct sb__extents {
	struct sb__extent *bins[SB__EXTENT_BINS]; /* free ones, by size */
	uint64_t filled[(SB__EXTENT_BINS + 63) / 64];
	void *used; /* tsearch() tree by offset; of all pools that share it */
	uint64_t free_warm;
};

/* A new free piece without neighbours. NULL: no memory. */
struct sb__extent *sb__extents_add(struct sb__extents *extents, uint64_t offset, uint64_t len, uint32_t chunk,
                                   uint8_t pool);
/* Takes a free piece of at least len bytes and cuts the rest off. NULL: there is none, or no memory. */
struct sb__extent *sb__extents_take(struct sb__extents *extents, uint64_t len);
/* Gives a used one back and merges it with free neighbours. It may be gone afterwards. */
void sb__extents_give(struct sb__extents *extents, struct sb__extent *extent);
/* The used one that offset lies in, or NULL. */
struct sb__extent *sb__extents_find(const struct sb__extents *extents, uint64_t offset);
/* Frees the bookkeeping of all pieces. */
void sb__extents_clear(struct sb__extents *extents);

#endif
