/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object table of one session incarnation: what calls do with refs, and which refs have to go. The entries and the
 * order of their last use are kept by slots.c: the next to be evicted is found at once however much is pinned, and the
 * next to expire is at the head of a list.
 *
 * What it does not do: it knows nothing of requests, values or why an object should get a ref.
 *
 * The law of this file: dropping a Python object may run any code, which may give up the GIL and come back
 * here. So an object that leaves the table goes onto the call's list of drops first, and is dropped when
 * the table is in order and nobody holds an index or a pointer into it. Nothing else here gives the GIL up,
 * so under the GIL every function is atomic.
 *
 * Locks: the GIL guards everything but the counts, which are atomics.
 * Crash story: private memory; it dies with the process, and every ref with it.
 */
#include "table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "clock.h"
#include "frame.h"
#include "gil.h"
#include "ids.h"
#include "os_linux.h"
#include "policy.h"
#include "slots.h"
#include "snakebridge/error.h"

struct sb__table {
	struct sb__table_options options;
	uint64_t epoch; /* sb__fork_epoch() of the process that made it */
	struct sb__slots slots;
	uint64_t calls; /* numbers given to calls */
	struct sb__policy *policy;
	PyObject *frame; /* frame.h */
	_Atomic uint64_t count_live, count_evicted, count_expired, count_created, count_pinned;
};

/* ── a call's lists ── */

static int grow_pins(struct sb__call *call)
{
	bool heap = call->pins != call->inline_pins;
	struct sb__pin *pins = realloc(heap ? call->pins : NULL, 2 * call->pin_cap * sizeof(*pins));

	if (!pins)
		return SB_ENOMEM;
	if (!heap)
		memcpy(pins, call->pins, call->pin_count * sizeof(*pins));
	call->pins = pins;
	call->pin_cap *= 2;
	return 0;
}

static inline int pin(struct sb__call *call, uint32_t slot, bool created)
{
	struct sb__entry *e = &call->table->slots.entries[slot];

	if (call->pin_count == call->pin_cap && grow_pins(call) < 0)
		return SB_ENOMEM;
	call->pins[call->pin_count++] =
		(struct sb__pin){ .slot = slot, .generation = e->generation, .created = created };
	e->pins++;
	return 0;
}

/* Makes sure that n more objects can be put onto the list of drops. */
static int reserve_drops(struct sb__call *call, size_t n)
{
	size_t cap = call->drop_cap ? call->drop_cap : 4;
	PyObject **drops;

	while (cap < call->drop_count + n)
		cap *= 2;
	if (cap == call->drop_cap)
		return 0;
	drops = realloc(call->drops, cap * sizeof(PyObject *));
	if (!drops)
		return SB_ENOMEM;
	call->drops = drops;
	call->drop_cap = cap;
	return 0;
}

/* Takes a live entry out of the table. There is room on the list of drops. */
static void end_entry(struct sb__call *call, uint32_t slot, enum sb__ending ending)
{
	struct sb__table *table = call->table;

	call->changed = true;
	call->drops[call->drop_count++] = table->slots.entries[slot].object;
	sb__slots_remove(&table->slots, slot, ending);
	atomic_store_explicit(&table->count_live, table->slots.live, memory_order_relaxed);
	atomic_store_explicit(&table->count_pinned, table->slots.held, memory_order_relaxed);
	if (ending == SB__ENDED_EVICTED)
		atomic_fetch_add_explicit(&table->count_evicted, 1, memory_order_relaxed);
	if (ending == SB__ENDED_EXPIRED)
		atomic_fetch_add_explicit(&table->count_expired, 1, memory_order_relaxed);
	if (table->options.rows.clear)
		table->options.rows.clear(table->options.rows.arg, slot);
}

/* Was it not used for the TTL? The coarse clock may be a little behind the one that now_ms is from. */
static bool is_idle(const struct sb__table *table, uint32_t slot, uint64_t now_ms)
{
	uint64_t used_ms = table->slots.entries[slot].used_ms;

	return table->options.ttl_ms && now_ms >= used_ms && now_ms - used_ms >= table->options.ttl_ms;
}

static bool is_expired(const struct sb__table *table, uint32_t slot, uint64_t now_ms)
{
	return !table->slots.entries[slot].pins && is_idle(table, slot, now_ms);
}

static uint32_t expire_list(struct sb__call *call, const struct sb__list *list, uint64_t now_ms)
{
	struct sb__table *table = call->table;
	uint32_t count = 0, slot = list->oldest, newer;

	for (; slot != SB__NO_SLOT && is_idle(table, slot, now_ms); slot = newer) {
		newer = table->slots.entries[slot].newer;
		if (table->slots.entries[slot].pins)
			continue; /* in use by a call that takes longer than the TTL */
		if (reserve_drops(call, 1) < 0)
			break;
		end_entry(call, slot, SB__ENDED_EXPIRED);
		count++;
	}
	return count;
}

/* Drops what has been idle for too long, oldest first. Stops early without memory: there is a next time. */
static uint32_t expire(struct sb__call *call, uint64_t now_ms)
{
	struct sb__table *table = call->table;

	return expire_list(call, &table->slots.lists[0], now_ms) +
	       expire_list(call, &table->slots.lists[1], now_ms);
}

bool sb__table_is_ours(const struct sb__table *table)
{
	return table->epoch == sb__fork_epoch();
}

void sb__call_begin(struct sb__call *call, struct sb__table *table, const struct sb__call_origin *origin)
{
	uint64_t now_ms = origin ? origin->began_ms : 0;

	sb__call_begin_at(call, table, origin, now_ms ? now_ms : sb__now_coarse_ms());
}

void sb__call_begin_at(struct sb__call *call, struct sb__table *table, const struct sb__call_origin *origin,
                       uint64_t now_ms)
{
	call->table = table;
	call->number = ++table->calls;
	call->now_ms = now_ms;
	call->origin = origin ? *origin : (struct sb__call_origin){ 0 };
	call->over_quota = call->takes = call->changed = false;
	call->shares = false;
	call->lends = false;
	call->pins = call->inline_pins;
	call->pin_count = 0;
	call->pin_cap = SB__CALL_PINS;
	call->drops = NULL;
	call->drop_count = call->drop_cap = 0;
}

/* The slot is in use; its row says so within what the coarse clock tells apart. */
static void touch_late(struct sb__table *table, uint32_t slot, uint64_t now_ms)
{
	sb__slots_touch(&table->slots, slot, now_ms);
	if (table->options.rows.touch)
		table->options.rows.touch(table->options.rows.arg, slot, now_ms);
}

static inline void touch(struct sb__table *table, uint32_t slot, uint64_t now_ms)
{
	if (table->slots.entries[slot].used_ms != now_ms)
		touch_late(table, slot, now_ms);
	else
		sb__slots_touch(&table->slots, slot, now_ms);
}

/* The entry that a pin holds, or NULL if it was released meanwhile. */
static struct sb__entry *pinned(const struct sb__table *table, const struct sb__pin *pin)
{
	struct sb__entry *e = &table->slots.entries[pin->slot];

	return e->object && e->generation == pin->generation ? e : NULL;
}

/* True if refs stay that the call created. */
static bool unpin(struct sb__call *call, bool delivered)
{
	struct sb__table *table = call->table;
	uint64_t now_ms = call->now_ms = sb__now_coarse_ms();
	bool created = false;

	for (size_t i = 0; i < call->pin_count; i++) {
		struct sb__entry *e = pinned(table, &call->pins[i]);

		if (delivered && call->pins[i].created)
			atomic_fetch_add_explicit(&table->count_created, 1, memory_order_relaxed);
		if (!e)
			continue;
		e->pins--;
		e->delivered |= delivered;
		created |= delivered && call->pins[i].created;
		touch(table, call->pins[i].slot, now_ms); /* time spent in the call was not idle */
	}
	return created;
}

/* Drops the refs that this call made and no other call uses or was told of. */
static void undo(struct sb__call *call)
{
	/* Without memory they stay until they are evicted or expire. */
	for (size_t i = 0; i < call->pin_count && reserve_drops(call, 1) == 0; i++) {
		struct sb__entry *e = pinned(call->table, &call->pins[i]);

		if (e && call->pins[i].created && !e->delivered && !e->pins)
			end_entry(call, call->pins[i].slot, SB__ENDED_RELEASED);
	}
}

/* Drops the refs that were lent, if this call was the last that had them. */
static void take_back(struct sb__call *call)
{
	for (size_t i = 0; i < call->pin_count && reserve_drops(call, 1) == 0; i++) {
		struct sb__entry *e = pinned(call->table, &call->pins[i]);

		if (e && e->lent && !e->held && !e->pins)
			end_entry(call, call->pins[i].slot, SB__ENDED_RELEASED);
	}
}

bool sb__call_end(struct sb__call *call, bool delivered)
{
	bool created = unpin(call, delivered);

	if (!delivered)
		undo(call);
	if (call->lends)
		take_back(call);
	if (call->pins != call->inline_pins)
		free(call->pins);
	if (!call->drops)
		return created;
	/* The table is in order and call is done with it: now any code may run. */
	for (size_t i = 0; i < call->drop_count; i++)
		Py_DECREF(call->drops[i]);
	free(call->drops);
	return created;
}

const struct sb__share *sb__call_share(const struct sb__call *call)
{
	return &call->table->options.share;
}

const struct sb__blocks *sb__call_blocks(const struct sb__call *call)
{
	return call->table->options.blocks;
}

struct sb__kept_list *sb__call_kept(const struct sb__call *call)
{
	return call->origin.kept;
}

PyObject **sb__table_frame(struct sb__table *table)
{
	return &table->frame;
}

const struct sb__policy *sb__call_policy(const struct sb__call *call)
{
	return call->table->policy;
}

/* ── refs ── */

static bool same_nonce(const uint8_t *a, const uint8_t *b)
{
	uint64_t words[2][2];

	/* All 16 bytes, whatever they are: the time taken tells nothing. */
	memcpy(words[0], a, 16);
	memcpy(words[1], b, 16);
	return ((words[0][0] ^ words[1][0]) | (words[0][1] ^ words[1][1])) == 0;
}

/* How a generation that is over ended. */
static int stale_code(const struct sb__slots *slots, uint32_t slot, uint32_t generation)
{
	uint32_t age = slots->entries[slot].generation - 1 - generation;
	uint64_t endings = slots->past[slot].endings;

	if (age >= SB__ENDINGS_KEPT)
		return SB__REF_FORGOTTEN;
	switch (endings >> 2 * age & 3) {
	case SB__ENDED_EXPIRED: return SB_EREFEXPIRED;
	case SB__ENDED_EVICTED: return SB_EREFEVICTED;
	case SB__ENDED_EXHAUSTED: return SB__REF_EXHAUSTED;
	default: return SB_EREFRELEASED;
	}
}

/* Nearly always: the ref is live, and was used within the TTL. */
static inline bool is_live(const struct sb__table *table, const sb_ref *ref, uint64_t now_ms)
{
	const struct sb__entry *e;

	if (ref->incarnation != table->options.incarnation || ref->slot >= table->slots.used)
		return false;
	e = &table->slots.entries[ref->slot];
	return ref->generation == e->generation && e->object && same_nonce(e->nonce, ref->nonce) &&
	       !is_idle(table, ref->slot, now_ms);
}

/* Finds a ref's live slot. */
static int check(struct sb__call *call, const sb_ref *ref, uint64_t now_ms)
{
	struct sb__table *table = call->table;
	struct sb__entry *e;

	if (ref->incarnation != table->options.incarnation)
		return SB_EREFSESSION;
	if (ref->slot >= table->slots.used)
		return SB_EREFUNKNOWN;
	e = &table->slots.entries[ref->slot];
	if (ref->generation == 0 || ref->generation > e->generation)
		return SB_EREFUNKNOWN;
	if (ref->generation < e->generation) {
		/* The nonce is known until the slot is used again. */
		if (!e->object && ref->generation == e->generation - 1 && !same_nonce(e->nonce, ref->nonce))
			return SB_EREFUNKNOWN;
		return stale_code(&table->slots, ref->slot, ref->generation);
	}
	if (!e->object || !same_nonce(e->nonce, ref->nonce))
		return SB_EREFUNKNOWN;
	if (!is_expired(table, ref->slot, now_ms))
		return 0;
	if (reserve_drops(call, 1) < 0)
		return SB_ENOMEM;
	end_entry(call, ref->slot, SB__ENDED_EXPIRED);
	return SB_EREFEXPIRED;
}

/* Notes the use of a live slot by a call. */
static inline int use(struct sb__call *call, uint32_t slot, bool created, uint64_t now_ms)
{
	int err = pin(call, slot, created);

	if (err)
		return err;
	if (created)
		sb__slots_touch(&call->table->slots, slot, now_ms); /* its row is new, too */
	else
		touch(call->table, slot, now_ms); /* and once more when the call ends */
	if (call->table->slots.entries[slot].made_by != call->number)
		call->table->slots.entries[slot].made_by = 0;
	return 0;
}

void sb__table_fetch(const struct sb__table *table, uint32_t slot)
{
	sb__slots_fetch(&table->slots, slot);
}

int sb__table_find(struct sb__call *call, const sb_ref *ref, PyObject **ret)
{
	uint64_t now_ms = call->now_ms ? call->now_ms : sb__now_coarse_ms();
	int err = is_live(call->table, ref, now_ms) ? 0 : check(call, ref, now_ms);

	if (!err)
		err = use(call, ref->slot, false, now_ms);
	if (err)
		return err;
	*ret = Py_NewRef(call->table->slots.entries[ref->slot].object);
	return 0;
}

int sb__table_release(struct sb__call *call, const sb_ref *ref, bool *ret_dropped)
{
	int err = check(call, ref, call->now_ms ? call->now_ms : sb__now_coarse_ms());

	if (err == SB_EREFRELEASED || err == SB_EREFEXPIRED || err == SB_EREFEVICTED ||
	    err == SB__REF_FORGOTTEN || err == SB__REF_EXHAUSTED) {
		*ret_dropped = false;
		return 0;
	}
	if (!err)
		err = reserve_drops(call, 1);
	if (err)
		return err;
	end_entry(call, ref->slot, SB__ENDED_RELEASED);
	*ret_dropped = true;
	return 0;
}

void sb__table_exhausted(struct sb__table *table, const PyObject *stream)
{
	uint32_t slot = sb__slots_find(&table->slots, stream);
	struct sb__call call;

	sb__call_begin(&call, table, NULL);
	/* Without memory it stays until it is evicted or expires. */
	if (slot != SB__NO_SLOT && reserve_drops(&call, 1) == 0)
		end_entry(&call, slot, SB__ENDED_EXHAUSTED);
	sb__call_end(&call, true);
}

size_t sb__call_mark(const struct sb__call *call)
{
	return call->pin_count;
}

void sb__call_rewind(struct sb__call *call, size_t mark)
{
	while (call->pin_count > mark) {
		const struct sb__pin *last = &call->pins[--call->pin_count];
		struct sb__entry *e = pinned(call->table, last);

		if (!e)
			continue;
		e->pins--;
		if (last->created && !e->delivered && !e->pins && reserve_drops(call, 1) == 0)
			end_entry(call, last->slot, SB__ENDED_RELEASED);
	}
}

int sb__table_pin(struct sb__call *call, const sb_ref *ref, int by, uint32_t *ret_pins)
{
	struct sb__table *table = call->table;
	uint64_t now_ms = sb__now_coarse_ms();
	int err = check(call, ref, now_ms);
	struct sb__entry *e;

	if (!err)
		err = use(call, ref->slot, false, now_ms);
	if (err)
		return err;
	e = &table->slots.entries[ref->slot];
	*ret_pins = e->held;
	if (by > 0 && e->held == UINT32_MAX)
		return SB_EINVAL;
	if (by < 0 && e->held == 0)
		return 0;
	if (by > 0)
		e->lent = false;
	sb__slots_hold(&table->slots, ref->slot, by);
	call->changed = true;
	atomic_store_explicit(&table->count_pinned, table->slots.held, memory_order_relaxed);
	if (table->options.rows.pins)
		table->options.rows.pins(table->options.rows.arg, ref->slot, e->held);
	*ret_pins = e->held;
	return 0;
}

/* What one process may have made before its own refs make room for more: where nobody says how much that is, all but an eighth. */
static uint32_t share(const struct sb__table *table)
{
	uint32_t all = table->options.max_refs, quota = table->options.max_refs_per_process;

	return quota ? quota : all - all / 8;
}

/* May this process make one more? Not others' refs make room for it, so that it cannot push them out. Without a quota its own do,
 * where refs are evicted at all. */
static int check_quota(struct sb__call *call, uint64_t now_ms)
{
	const struct sb__table *table = call->table;
	uint32_t most = table->options.max_refs_per_process;

	if (!most || sb__slots_made_by(&table->slots, &call->origin) < most)
		return 0;
	if (expire(call, now_ms) > 0 && sb__slots_made_by(&table->slots, &call->origin) < most)
		return 0;
	call->over_quota = true;
	return SB_EREFSFULL;
}

/* The least recently used ref that no call uses, of one process if maker is not NULL; SB__NO_SLOT. It goes past others', which are
 * few where that process has its share. */
static uint32_t oldest_idle(const struct sb__table *table, const struct sb__call_origin *maker)
{
	uint32_t slot = table->slots.lists[0].oldest;

	while (slot != SB__NO_SLOT) {
		const struct sb__past *past = &table->slots.past[slot];

		if (!table->slots.entries[slot].pins &&
		    (!maker ||
		     (past->maker_slot == maker->slot && past->maker_generation == maker->generation)))
			break;
		slot = table->slots.entries[slot].newer;
	}
	return slot;
}

/* Makes sure that one more may live. */
static int make_room(struct sb__call *call, uint64_t now_ms)
{
	struct sb__table *table = call->table;
	bool own;
	uint32_t slot;

	if (table->slots.live < table->options.max_refs)
		return 0;
	if (expire(call, now_ms) > 0)
		return 0;
	if (table->options.error_on_full)
		return SB_EREFSFULL;
	own = sb__slots_made_by(&table->slots, &call->origin) >= share(table);
	slot = oldest_idle(table, own ? &call->origin : NULL);
	call->over_quota = own;
	if (slot == SB__NO_SLOT)
		return SB_EREFSFULL; /* all are pinned, or in calls that run now, this one's result perhaps */
	if (reserve_drops(call, 1) < 0)
		return SB_ENOMEM;
	end_entry(call, slot, SB__ENDED_EVICTED);
	return 0;
}

static int add(struct sb__call *call, PyObject *object, const char *type_name, size_t module_len,
               uint64_t now_ms, uint32_t *ret_slot)
{
	struct sb__table *table = call->table;
	struct sb__entry *e;
	int err = check_quota(call, now_ms);

	if (!err)
		err = make_room(call, now_ms);
	if (!err)
		err = sb__slots_add(&table->slots, object, &call->origin, ret_slot);
	if (err)
		return err;
	e = &table->slots.entries[*ret_slot];
	e->made_by = call->number;
	call->changed = true;
	e->lent = call->lends;
	atomic_store_explicit(&table->count_live, table->slots.live, memory_order_relaxed);
	if (table->options.rows.set)
		table->options.rows.set(table->options.rows.arg, *ret_slot, e->generation, type_name,
		                        (uint32_t)module_len, call->origin.pid);
	return 0;
}

int sb__table_name(struct sb__call *call, PyObject *object, const char *type_name, size_t module_len,
                   sb_ref *ret)
{
	struct sb__table *table = call->table;
	uint64_t now_ms = sb__now_coarse_ms();
	uint32_t slot = sb__slots_find(&table->slots, object);
	bool created;
	int err = 0;

	if (slot != SB__NO_SLOT && is_expired(table, slot, now_ms)) {
		/* Its ref is stale whether the timer has come by or not. */
		err = reserve_drops(call, 1);
		if (err)
			return err;
		end_entry(call, slot, SB__ENDED_EXPIRED);
		slot = SB__NO_SLOT;
	}
	created = slot == SB__NO_SLOT;
	if (created)
		err = add(call, object, type_name, module_len, now_ms, &slot);
	else if (!call->lends)
		table->slots.entries[slot].lent = false; /* a result: from now on it is like any other */
	if (err)
		return err;
	err = use(call, slot, created, now_ms);
	if (err) {
		if (created && reserve_drops(call, 1) == 0)
			end_entry(call, slot, SB__ENDED_RELEASED);
		return err;
	}
	ret->incarnation = table->options.incarnation;
	ret->slot = slot;
	ret->generation = table->slots.entries[slot].generation;
	memcpy(ret->nonce, table->slots.entries[slot].nonce, sizeof(ret->nonce));
	return 0;
}

/* ── the table itself ── */

int sb__table_create(const struct sb__table_options *options, struct sb__table **ret)
{
	struct sb__table *table = calloc(1, sizeof(*table));

	if (!table)
		return SB_ENOMEM;
	if (sb__policy_make(options->policy, options->policy_len, &table->policy) < 0) {
		free(table);
		return SB_ENOMEM;
	}
	table->options = *options;
	sb__npalloc_use(options->blocks, options->heap_bytes);
	table->epoch = sb__fork_epoch();
	sb__slots_init(&table->slots);
	*ret = table;
	return 0;
}

static void free_table(struct sb__table *table)
{
	sb__policy_free(table->policy);
	sb__slots_free(&table->slots);
	free(table);
}

bool sb__table_discard(struct sb__table *table)
{
	if (table->slots.used || table->frame || !sb__table_is_ours(table))
		return false;
	free_table(table);
	return true;
}

void sb__table_destroy(struct sb__table *table)
{
	if (!table)
		return;
	/* The objects of a table that a child inherited are its parent's matter; those of a Python that has
	 * ended are gone. */
	if (sb__table_is_ours(table) && !sb__python_unusable()) {
		struct sb__gil gil = sb__gil_enter();

		for (uint32_t slot = 0; slot < table->slots.used; slot++)
			Py_CLEAR(table->slots.entries[slot].object);
		sb__frame_free(&table->frame);
		sb__gil_leave(gil);
	}
	free_table(table);
}

/* Rare: a caller gave up while its call ran. So it costs a look at every ref, and the calls nothing. */
void sb__table_withdraw(struct sb__table *table, uint64_t number)
{
	struct sb__gil gil;
	struct sb__call call;

	if (!sb__table_is_ours(table) || sb__python_unusable())
		return;
	gil = sb__gil_enter();
	sb__call_begin(&call, table, NULL);
	for (uint32_t slot = 0; slot < table->slots.used; slot++) {
		const struct sb__entry *e = &table->slots.entries[slot];

		if (!e->object || e->made_by != number || e->pins || e->held)
			continue;
		if (reserve_drops(&call, 1) < 0)
			break; /* they go when they expire */
		end_entry(&call, slot, SB__ENDED_RELEASED);
	}
	sb__call_end(&call, true);
	sb__gil_leave(gil);
}

uint32_t sb__table_expire(struct sb__table *table, uint64_t now_ms)
{
	struct sb__gil gil;
	struct sb__call call;
	uint32_t count;

	if (!table->options.ttl_ms || !sb__table_is_ours(table) || sb__python_unusable())
		return 0;
	gil = sb__gil_enter();
	sb__call_begin(&call, table, NULL);
	count = expire(&call, now_ms);
	sb__call_end(&call, true);
	sb__gil_leave(gil);
	return count;
}

void sb__table_counts(const struct sb__table *table, struct sb__table_counts *ret)
{
	ret->live = atomic_load_explicit(&table->count_live, memory_order_relaxed);
	ret->evicted = atomic_load_explicit(&table->count_evicted, memory_order_relaxed);
	ret->expired = atomic_load_explicit(&table->count_expired, memory_order_relaxed);
	ret->pinned = atomic_load_explicit(&table->count_pinned, memory_order_relaxed);
	ret->created = atomic_load_explicit(&table->count_created, memory_order_relaxed);
}
