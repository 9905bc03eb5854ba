/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process slots: who is attached to the bridge. A record outlives its process as the count of the slot's
 * generations, so that (slot, generation) names one process for as long as the bridge lives.
 *
 * A slot is taken in two steps: the life token of its byte (a system call, so outside of the transaction),
 * then the record. Whoever holds the token is the only one to write the record, so the record found free
 * before cannot have been taken since, unless its taker was already gone again.
 *
 * Locks: those of txn.c.
 * Crash story: killed between token and record, nothing is left: the kernel frees the token. Killed later,
 * the record says taken and the token is free: dead, the reaper removes it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "point.h"
#include "store_impl.h"

/* The slot's record; all zero where there is none yet. */
static int load_process(struct sb__txn *txn, uint32_t slot, struct sb__process_rec *ret)
{
	struct sb__key key = sb__key_slot(slot);
	const char *why;
	MDB_val val;
	int rc = sb__txn_get(txn, SB__DB_PROCESSES, sb__val_key(&key), &val);

	if (rc < 0)
		return rc;
	if (rc == 0) {
		memset(ret, 0, sizeof(*ret));
		return 0;
	}
	why = sb__decode_process(sb__val_key(&key), val, ret);
	return why ? sb__corrupt(SB__DB_PROCESSES, sb__val_key(&key), why) : 0;
}

static int save_process(struct sb__txn *txn, uint32_t slot, const struct sb__process_rec *rec)
{
	struct sb__key key = sb__key_slot(slot);
	struct sb__image image;

	sb__encode_process(rec, &image);
	return sb__txn_put(txn, SB__DB_PROCESSES, sb__val_key(&key), sb__val_image(&image));
}

/* ── listing ── */

struct list {
	struct sb__identity *identities;
	size_t count, capacity;
};

static int collect_process(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct list *list = arg;
	struct sb__process_rec rec;
	const char *why = sb__decode_process(key, val, &rec);
	int rc;

	(void)txn;
	if (why)
		return sb__corrupt(SB__DB_PROCESSES, key, why);
	if (!rec.taken)
		return 0;
	rc = sb__grow((void **)&list->identities, &list->capacity, list->count, sizeof(*list->identities));
	if (rc < 0)
		return rc;
	list->identities[list->count++] = rec.identity;
	return 0;
}

static int list_processes(struct sb__txn *txn, void *arg)
{
	struct list *list = arg;

	list->count = 0;
	return sb__txn_scan(txn, SB__DB_PROCESSES, sb__val_none(), collect_process, list);
}

int sb__store_processes(struct sb__store *store, struct sb__identity **ret, size_t *ret_count)
{
	struct list list = { .identities = NULL };
	int rc = sb__txn_read(store, list_processes, &list);

	if (rc < 0) {
		free(list.identities);
		return rc;
	}
	*ret = list.identities;
	*ret_count = list.count;
	return 0;
}

struct get {
	uint32_t slot;
	struct sb__process_rec rec;
};

static int get_process(struct sb__txn *txn, void *arg)
{
	struct get *get = arg;
	int rc = load_process(txn, get->slot, &get->rec);

	return rc < 0 ? rc : get->rec.taken;
}

int sb__store_process_get(struct sb__store *store, uint32_t slot, struct sb__identity *ret)
{
	struct get get = { .slot = slot };
	int rc = sb__txn_read(store, get_process, &get);

	if (rc == 1)
		*ret = get.rec.identity;
	return rc;
}

/* ── taking a slot ── */

struct take {
	uint32_t slot;
	struct sb__identity self;
};

/* 1 taken; 0 somebody's record is there. */
static int take_slot(struct sb__txn *txn, void *arg)
{
	struct take *take = arg;
	struct sb__process_rec rec;
	int rc = load_process(txn, take->slot, &rec);

	if (rc < 0 || rec.taken)
		return rc;
	rec.taken = true;
	rec.generation = (rec.generation + 1) & UINT16_MAX;
	if (rec.generation == 0) /* 0 is nobody's */
		rec.generation = 1;
	take->self.slot = take->slot;
	take->self.generation = rec.generation;
	rec.identity = take->self;
	rc = save_process(txn, take->slot, &rec);
	return rc < 0 ? rc : 1;
}

struct free_slots {
	uint8_t taken[SB__SLOTS_MAX];
};

static int mark_taken(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct free_slots *slots = arg;
	struct sb__process_rec rec;
	const char *why = sb__decode_process(key, val, &rec);

	(void)txn;
	if (why)
		return sb__corrupt(SB__DB_PROCESSES, key, why);
	if (rec.taken)
		slots->taken[rec.identity.slot] = 1;
	return 0;
}

static int find_free(struct sb__txn *txn, void *arg)
{
	struct free_slots *slots = arg;

	memset(slots, 0, sizeof(*slots));
	return sb__txn_scan(txn, SB__DB_PROCESSES, sb__val_none(), mark_taken, slots);
}

int sb__store_process_add(struct sb__store *store, struct sb__identity *self,
                          int (*hold)(void *arg, uint32_t slot), void (*drop)(void *arg, uint32_t slot),
                          void *arg)
{
	struct take take = { .self = *self };
	struct free_slots slots;
	int rc = sb__txn_read(store, find_free, &slots);

	if (rc < 0)
		return rc;
	for (take.slot = 0; take.slot < SB__SLOTS_MAX; take.slot++) {
		if (slots.taken[take.slot])
			continue;
		rc = hold(arg, take.slot);
		if (rc == -EAGAIN) /* its holder is about to write its record */
			continue;
		if (rc < 0)
			return sb__fail_errno(SB_ESYSTEM, -rc, "cannot take the life token of slot %u",
			                      take.slot);
		SB_POINT("process.token_held");
		rc = sb__txn_write_more(store, take_slot, &take);
		if (rc == 1) {
			*self = take.self;
			return 0;
		}
		drop(arg, take.slot);
		if (rc < 0)
			return rc;
	}
	return sb__fail(SB_EPROCESSES,
	                "all %u process slots of the bridge are taken; run sb-reaper --once, or "
	                "spread the processes over several bridges",
	                SB__SLOTS_MAX);
}

/* ── giving it back ── */

struct remove {
	uint32_t slot, generation;
};

static int holds_owner(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	(void)txn;
	(void)arg;
	(void)key;
	return val.mv_size > 0;
}

/* Has it owner records, in either place? 1, 0, < 0. */
static int owns_sessions(struct sb__txn *txn, const struct remove *remove)
{
	struct sb__key prefix = sb__key_process(remove->slot, remove->generation);
	MDB_val key, val;
	int rc = sb__txn_first(txn, SB__DB_BY_PROCESS, sb__val_key(&prefix), &key, &val);

	return rc != 0 ? rc : sb__txn_scan(txn, SB__DB_DESIGNATED, sb__val_key(&prefix), holds_owner, NULL);
}

static int remove_process(struct sb__txn *txn, void *arg)
{
	const struct remove *remove = arg;
	struct sb__process_rec rec;
	int rc = load_process(txn, remove->slot, &rec);

	if (rc < 0)
		return rc;
	if (!rec.taken || rec.generation != remove->generation)
		return 0;
	rc = owns_sessions(txn, remove);
	if (rc == 1)
		return sb__fail(SB_EBUG, "process slot %u.%u still owns sessions; end that first",
		                remove->slot, remove->generation);
	if (rc < 0)
		return rc;
	rec.taken = false;
	memset(&rec.identity, 0, sizeof(rec.identity));
	rc = save_process(txn, remove->slot, &rec);
	return rc < 0 ? rc : 1;
}

int sb__store_process_remove(struct sb__store *store, uint32_t slot, uint32_t generation)
{
	struct remove remove = { .slot = slot, .generation = generation };

	if (slot >= SB__SLOTS_MAX)
		return 0;
	return sb__txn_write(store, remove_process, &remove);
}
