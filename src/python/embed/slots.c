/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of an object table: a slot map with generations, an index by object so that an object has one ref however
 * often it is returned, two lists in order of last use (of what is pinned by a user, and of the rest), and how many
 * each process has made.
 *
 * What it does not do: it never drops an object, and decides nothing: table.c does.
 *
 * A slot's generation is that of the ref it holds, or of the next one it will hold. It never comes again: a
 * slot whose generations are used up is retired. Two bits for each of the last 32 generations tell how it
 * ended.
 *
 * Locks: the GIL guards everything.
 * Crash story: private memory; it dies with the process, and every ref with it.
 */
#include "slots.h"

#include <stdlib.h>
#include <string.h>

#include "identity.h"
#include "ids.h"
#include "os_linux.h"
#include "snakebridge/error.h"

#define FIRST_SLOTS 64u

/* ── index by object ── */

static uint32_t index_home(const struct sb__slots *slots, const PyObject *object)
{
	return (uint32_t)(((uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15u) >> 32) & slots->index_mask;
}

/* Where the object's slot is, or the empty place where it belongs. */
static uint32_t index_seek(const struct sb__slots *slots, const PyObject *object)
{
	uint32_t i = index_home(slots, object);

	while (slots->index[i] && slots->entries[slots->index[i] - 1].object != object)
		i = (i + 1) & slots->index_mask;
	return i;
}

uint32_t sb__slots_find(const struct sb__slots *slots, const PyObject *object)
{
	uint32_t found = slots->cap ? slots->index[index_seek(slots, object)] : 0;

	return found ? found - 1 : SB__NO_SLOT;
}

/* Removes an object, and moves those behind it up so that no search stops short. */
static void index_remove(struct sb__slots *slots, const PyObject *object)
{
	uint32_t hole = index_seek(slots, object);

	slots->index[hole] = 0;
	for (uint32_t i = (hole + 1) & slots->index_mask; slots->index[i]; i = (i + 1) & slots->index_mask) {
		uint32_t home = index_home(slots, slots->entries[slots->index[i] - 1].object);

		/* Its way from home to i leads over the hole. */
		if (((i - home) & slots->index_mask) >= ((i - hole) & slots->index_mask)) {
			slots->index[hole] = slots->index[i];
			slots->index[i] = 0;
			hole = i;
		}
	}
}

/* ── lists ── */

static struct sb__list *list_of(struct sb__slots *slots, uint32_t slot)
{
	return &slots->lists[slots->entries[slot].held > 0];
}

static void list_remove(struct sb__slots *slots, uint32_t slot)
{
	struct sb__entry *e = &slots->entries[slot];
	struct sb__list *list = list_of(slots, slot);

	if (e->older == SB__NO_SLOT)
		list->oldest = e->newer;
	else
		slots->entries[e->older].newer = e->newer;
	if (e->newer == SB__NO_SLOT)
		list->newest = e->older;
	else
		slots->entries[e->newer].older = e->older;
}

static void list_append(struct sb__slots *slots, uint32_t slot)
{
	struct sb__entry *e = &slots->entries[slot];
	struct sb__list *list = list_of(slots, slot);

	e->older = list->newest;
	e->newer = SB__NO_SLOT;
	if (list->newest == SB__NO_SLOT)
		list->oldest = slot;
	else
		slots->entries[list->newest].newer = slot;
	list->newest = slot;
}

void sb__slots_move_up(struct sb__slots *slots, uint32_t slot)
{
	list_remove(slots, slot);
	list_append(slots, slot);
}

static void free_push(struct sb__slots *slots, uint32_t slot)
{
	slots->entries[slot].newer = SB__NO_SLOT;
	if (slots->free_last == SB__NO_SLOT)
		slots->free_first = slot;
	else
		slots->entries[slots->free_last].newer = slot;
	slots->free_last = slot;
}

static uint32_t free_pop(struct sb__slots *slots)
{
	uint32_t slot = slots->free_first;

	slots->free_first = slots->entries[slot].newer;
	if (slots->free_first == SB__NO_SLOT)
		slots->free_last = SB__NO_SLOT;
	return slot;
}

/* Room for one more slot. 0 or SB_ENOMEM. */
static int grow(struct sb__slots *slots)
{
	uint32_t cap = slots->cap ? slots->cap * 2 : FIRST_SLOTS;
	size_t size = sizeof(struct sb__entry);
	struct sb__entry *entries;
	struct sb__past *past;
	void *memory = NULL;
	uint32_t *index;

	if (slots->cap > SB__NO_SLOT / 4)
		return SB_ENOMEM;
	past = realloc(slots->past, cap * sizeof(*past));
	if (!past)
		return SB_ENOMEM;
	slots->past = past;
	index = calloc(2 * (size_t)cap, sizeof(*index));
	/* Entries have nonces in them, which are nobody's to read in a core dump. */
	if (!index || sb__os_map_secret(slots->entries, slots->cap * size, cap * size, &memory) < 0) {
		free(index);
		return SB_ENOMEM;
	}
	entries = memory;
	free(slots->index);
	slots->entries = entries;
	slots->cap = cap;
	slots->index = index;
	slots->index_mask = 2 * cap - 1;
	for (uint32_t slot = 0; slot < slots->used; slot++)
		if (entries[slot].object)
			index[index_seek(slots, entries[slot].object)] = slot + 1;
	return 0;
}

/* ── makers ── */

/* The place where the process's refs are counted; NULL if there is none (yet). */
static struct sb__maker *maker_of(const struct sb__slots *slots, uint32_t slot, uint32_t generation)
{
	struct sb__maker *m = slot < slots->maker_count ? &slots->makers[slot] : NULL;

	return m && m->generation == generation ? m : NULL;
}

/* The same, made if need be; what a process that had the slot before made counts no more. NULL: no memory. */
static struct sb__maker *make_maker(struct sb__slots *slots, const struct sb__call_origin *maker)
{
	uint32_t count = slots->maker_count ? slots->maker_count : 16;
	struct sb__maker *more = slots->makers;

	if (maker->slot >= slots->maker_count) {
		while (count <= maker->slot)
			count *= 2;
		more = realloc(slots->makers, count * sizeof(*more));
		if (!more)
			return NULL;
		memset(more + slots->maker_count, 0, (count - slots->maker_count) * sizeof(*more));
		slots->makers = more;
		slots->maker_count = count;
	}
	if (more[maker->slot].generation != maker->generation)
		more[maker->slot] = (struct sb__maker){ maker->generation, 0 };
	return &more[maker->slot];
}

uint32_t sb__slots_made_by(const struct sb__slots *slots, const struct sb__call_origin *maker)
{
	const struct sb__maker *m = maker_of(slots, maker->slot, maker->generation);

	return m ? m->refs : 0;
}

/* ── entries ── */

void sb__slots_init(struct sb__slots *slots)
{
	memset(slots, 0, sizeof(*slots));
	slots->free_first = slots->free_last = SB__NO_SLOT;
	slots->lists[0] = slots->lists[1] = (struct sb__list){ SB__NO_SLOT, SB__NO_SLOT };
}

void sb__slots_free(struct sb__slots *slots)
{
	free(slots->makers);
	free(slots->index);
	free(slots->past);
	if (slots->entries)
		(void)sb__os_unmap(slots->entries, slots->cap * sizeof(struct sb__entry));
}

/* An empty slot with a nonce, taken from neither list. */
static int new_slot(struct sb__slots *slots, uint32_t *ret_slot)
{
	uint8_t nonce[16];
	struct sb__entry *e;
	int err = sb__random(nonce, sizeof(nonce));

	if (!err && slots->free_first == SB__NO_SLOT && slots->used == slots->cap)
		err = grow(slots);
	if (err)
		return err;
	if (slots->free_first != SB__NO_SLOT) {
		*ret_slot = free_pop(slots);
		e = &slots->entries[*ret_slot];
	} else {
		*ret_slot = slots->used++;
		e = &slots->entries[*ret_slot];
		e->object = NULL;
		e->generation = 1;
		slots->past[*ret_slot].endings = 0;
	}
	memcpy(e->nonce, nonce, sizeof(nonce));
	e->pins = e->held = 0;
	e->delivered = false;
	e->lent = false;
	return 0;
}

int sb__slots_add(struct sb__slots *slots, PyObject *object, const struct sb__call_origin *maker,
                  uint32_t *ret_slot)
{
	struct sb__maker *made = maker->slot < SB__SLOTS_MAX ? make_maker(slots, maker) : NULL;
	struct sb__entry *e;
	uint32_t slot = SB__NO_SLOT;
	int err = made ? new_slot(slots, &slot) : SB_ENOMEM;

	if (err)
		return err;
	e = &slots->entries[slot];
	slots->index[index_seek(slots, object)] = slot + 1; /* before the entry has it: seek looks for it */
	e->object = Py_NewRef(object);
	slots->past[slot].maker_slot = (uint16_t)maker->slot; /* less than SB__SLOTS_MAX */
	slots->past[slot].maker_generation = maker->generation;
	made->refs++;
	list_append(slots, slot);
	slots->live++;
	*ret_slot = slot;
	return 0;
}

void sb__slots_remove(struct sb__slots *slots, uint32_t slot, enum sb__ending ending)
{
	struct sb__entry *e = &slots->entries[slot];
	struct sb__past *past = &slots->past[slot];
	struct sb__maker *made = maker_of(slots, past->maker_slot, past->maker_generation);

	index_remove(slots, e->object);
	list_remove(slots, slot);
	if (made)
		made->refs--;
	e->object = NULL;
	e->pins = 0;
	past->endings = past->endings << 2 | ending;
	e->generation++;
	if (e->generation != UINT32_MAX)
		free_push(slots, slot);
	slots->live--;
	slots->held -= e->held > 0;
	e->held = 0;
}

void sb__slots_hold(struct sb__slots *slots, uint32_t slot, int by)
{
	struct sb__entry *e = &slots->entries[slot];

	list_remove(slots, slot);
	slots->held -= e->held > 0;
	e->held += (uint32_t)by;
	slots->held += e->held > 0;
	list_append(slots, slot);
}
