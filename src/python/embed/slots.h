/* SPDX-License-Identifier: Apache-2.0 */
/* How an object table keeps its entries; see slots.c. All functions need the GIL; none runs Python code. */
#ifndef SB_EMBED_SLOTS_H
#define SB_EMBED_SLOTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

#define SB__NO_SLOT UINT32_MAX

enum sb__ending {
	SB__ENDED_RELEASED = 0,
	SB__ENDED_EXPIRED = 1,
	SB__ENDED_EVICTED = 2,
	SB__ENDED_EXHAUSTED = 3
};
#define SB__ENDINGS_KEPT 32u /* of a slot, two bits each */

/* All that a call needs of a ref: one line of a cache, where many refs are in use and few of them are in one. */
struct sb__entry {
	PyObject *object; /* strong; NULL: free */
	uint64_t used_ms;
	/* Number of the call that made it, while no other call used it or was told of it; else 0. */
	uint64_t made_by;
	uint8_t nonce[16];
	uint32_t generation;
	uint32_t older, newer; /* by last use; of a free entry, newer is the next free one */
	uint32_t pins;         /* by calls that run */
	uint32_t held;         /* by users: sb_ref_pin() */
	bool delivered;        /* some caller was told of it */
	bool lent;             /* only as an argument of a callback: it goes when the last such ends */
	uint8_t pad[2];
};
_Static_assert(sizeof(struct sb__entry) == 64, "one line");

struct sb__past {
	uint64_t endings;          /* of the generations before; the last one in the lowest two bits */
	uint32_t maker_generation; /* the process whose call made it */
	uint16_t maker_slot;
};
_Static_assert(sizeof(struct sb__past) == 16, "one for each ref: what is added here is paid for by all");

struct sb__list {
	uint32_t oldest, newest;
};

/* Refs of the process that has a slot of the bridge now. Those of one that had it before count for nobody. */
struct sb__maker {
	uint32_t generation, refs;
};

struct sb__slots {
	struct sb__entry *entries;
	struct sb__past *past;          /* by slot, too */
	uint32_t cap, used;             /* entries allocated; entries ever used */
	uint32_t free_first, free_last; /* a queue, so that a slot rests as long as can be */
	struct sb__list lists[2];       /* by last use: unpinned and pinned ones */
	uint32_t live, held;            /* refs; those of them that are pinned */
	uint32_t *index; /* by object: slot + 1, 0 = empty; open addressing, at most half full */
	uint32_t index_mask;
	struct sb__maker *makers; /* by slot of the bridge */
	uint32_t maker_count;
};

void sb__slots_init(struct sb__slots *slots);
void sb__slots_free(struct sb__slots *slots); /* the objects are the caller's matter */

/* The object's slot, or SB__NO_SLOT. */
uint32_t sb__slots_find(const struct sb__slots *slots, const PyObject *object);
/* A slot for an object that has none: a new reference to it, a new nonce, the most recently used. 0, SB_ENOMEM,
 * SB_ESYSTEM. */
int sb__slots_add(struct sb__slots *slots, PyObject *object, const struct sb__call_origin *maker,
                  uint32_t *ret_slot);
/* Frees a slot: the reference to its object is the caller's from now on. */
void sb__slots_remove(struct sb__slots *slots, uint32_t slot, enum sb__ending ending);
void sb__slots_move_up(struct sb__slots *slots, uint32_t slot);
/* It is the most recently used one of its list now. */
static inline void sb__slots_touch(struct sb__slots *slots, uint32_t slot, uint64_t now_ms)
{
	slots->entries[slot].used_ms = now_ms;
	if (slots->entries[slot].newer != SB__NO_SLOT) /* the last one of a list has none */
		sb__slots_move_up(slots, slot);
}
/* It will be looked at in a moment. */
static inline void sb__slots_fetch(const struct sb__slots *slots, uint32_t slot)
{
	if (slot < slots->used)
		__builtin_prefetch(&slots->entries[slot], 1);
}
/* One pin of a user's more or less (by: 1 or -1). */
void sb__slots_hold(struct sb__slots *slots, uint32_t slot, int by);
/* How many live ones the process has made. */
uint32_t sb__slots_made_by(const struct sb__slots *slots, const struct sb__call_origin *maker);

#endif
