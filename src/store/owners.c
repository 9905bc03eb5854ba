/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner records, keyed (uid, slot, generation, handle), and the index that finds those of one process. That of the handle by which
 * a designated owner opened its session itself, the usual case, is the value of its entry in the index of designated owners instead:
 * it costs no entry of its own, and becomes a record like any other when the session loses its designated owner.
 *
 *   invariant: a session's owner_count is the number of owner records with its uid, in either place, and
 *              owners_by_process has exactly one entry per record in owners.
 *
 * Locks: those of txn.c.  Crash: record, index and count change in one transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "store_impl.h"

/* ── inside a transaction ── */

int sb__own_load(struct sb__txn *txn, struct sb__owner_rec *ret)
{
	struct sb__key key = sb__key_own(ret);
	const char *why;
	MDB_val val;
	int rc = sb__txn_get(txn, SB__DB_DESIGNATED, sb__val_key(&key), &val);

	if (rc != 1 || val.mv_size == 0)
		return rc < 0 ? rc : 0;
	why = sb__decode_own(sb__val_key(&key), val, ret);
	return why ? sb__corrupt(SB__DB_DESIGNATED, sb__val_key(&key), why) : 1;
}

/* Is it the one in the entry of a designated owner? 1, 0, < 0. */
static int is_own(struct sb__txn *txn, const struct sb__owner_rec *owner)
{
	struct sb__owner_rec own = { .session_uid = owner->session_uid,
		                     .slot = owner->slot,
		                     .generation = owner->generation };
	int rc = sb__own_load(txn, &own);

	return rc == 1 ? own.handle == owner->handle : rc;
}

/* That of a session's designated owner: 1, 0, < 0. */
static int own_of_session(struct sb__txn *txn, const struct sb__session_rec *rec, struct sb__owner_rec *ret)
{
	ret->session_uid = rec->uid;
	ret->slot = rec->designated.slot;
	ret->generation = rec->designated.generation;
	return sb__session_is_served(rec) ? sb__own_load(txn, ret) : 0;
}

int sb__own_release(struct sb__txn *txn, const struct sb__session_rec *rec)
{
	struct sb__key key = sb__key_designated(rec);
	struct sb__owner_rec own;
	int rc = own_of_session(txn, rec, &own);

	if (rc != 1)
		return rc;
	rc = sb__txn_put(txn, SB__DB_DESIGNATED, sb__val_key(&key), sb__val_none());
	return rc < 0 ? rc : sb__owner_insert(txn, &own);
}

int sb__owner_insert(struct sb__txn *txn, const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_owner(owner), index = sb__key_by_process(owner);
	struct sb__image image;
	MDB_val val;
	int rc = is_own(txn, owner);

	if (rc == 0)
		rc = sb__txn_get(txn, SB__DB_OWNERS, sb__val_key(&key), &val);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	sb__encode_owner(owner, &image);
	rc = sb__txn_put(txn, SB__DB_OWNERS, sb__val_key(&key), sb__val_image(&image));
	if (rc == 0)
		rc = sb__txn_put(txn, SB__DB_BY_PROCESS, sb__val_key(&index), sb__val_none());
	return rc < 0 ? rc : 1;
}

/* Record and index entry: 1, 0 if there was none. */
static int delete_record(struct sb__txn *txn, const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_owner(owner), index = sb__key_by_process(owner);
	int rc = sb__txn_del(txn, SB__DB_OWNERS, sb__val_key(&key));
	int rc2;

	if (rc != 1)
		return rc;
	rc2 = sb__txn_del(txn, SB__DB_BY_PROCESS, sb__val_key(&index));
	return rc2 < 0 ? rc2 : 1;
}

/* The same, wherever it is. */
static int delete_owner(struct sb__txn *txn, const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_own(owner);
	int rc = is_own(txn, owner);

	if (rc != 1)
		return rc < 0 ? rc : delete_record(txn, owner);
	rc = sb__txn_put(txn, SB__DB_DESIGNATED, sb__val_key(&key), sb__val_none());
	return rc < 0 ? rc : 1;
}

/* But for its designated owner's, which goes with its entry. */
int sb__owners_remove_all(struct sb__txn *txn, uint64_t uid)
{
	struct sb__key prefix = sb__key_uid(uid);
	struct sb__owner_rec owner = { .session_uid = uid };
	MDB_val key, val;
	int rc;

	for (;;) {
		rc = sb__txn_first(txn, SB__DB_OWNERS, sb__val_key(&prefix), &key, &val);
		if (rc != 1)
			return rc;
		if (!sb__parse_owner(key, &owner))
			return sb__corrupt(SB__DB_OWNERS, key, "its key is no owner's");
		rc = delete_record(txn, &owner);
		if (rc < 0)
			return rc;
	}
}

/* ── adding and removing ── */

struct add {
	const char *session_id;
	const struct sb__owner_rec *owner;
};

static int add_owner(struct sb__txn *txn, void *arg)
{
	struct add *add = arg;
	struct sb__session_rec rec;
	int rc = sb__session_load(txn, add->session_id, &rec);

	if (rc != 1 || rec.uid != add->owner->session_uid)
		return rc < 0 ? rc : 0;
	rc = sb__owner_insert(txn, add->owner);
	if (rc == 1) { /* 0: this very handle is an owner already */
		rec.owner_count++;
		if (rec.state != SB_SESSION_ACTIVE) /* where there is no mailbox to note the access */
			rc = sb__expiry_slide(txn, &rec);
		if (rc >= 0)
			rc = sb__session_save(txn, &rec);
	}
	return rc < 0 ? rc : 1;
}

int sb__store_owner_add(struct sb__store *store, const char *session_id, const struct sb__owner_rec *owner)
{
	struct add add = { .session_id = session_id, .owner = owner };

	return sb__txn_write_more(store, add_owner, &add);
}

struct remove {
	struct sb__owner_rec owner;
	struct sb__session_rec rec;
};

static int remove_owner(struct sb__txn *txn, void *arg)
{
	struct remove *remove = arg;
	struct sb__session_rec *rec = &remove->rec;
	struct sb__key key = sb__key_owner(&remove->owner);
	int rc = delete_owner(txn, &remove->owner);

	if (rc != 1)
		return rc;
	rc = sb__session_load_uid(txn, remove->owner.session_uid, rec);
	if (rc == 0)
		return sb__corrupt(SB__DB_OWNERS, sb__val_key(&key), "its session is not there");
	if (rc < 0)
		return rc;
	if (rec->owner_count == 0)
		return sb__corrupt(SB__DB_SESSIONS, sb__val_text(rec->session_id),
		                   "it counts fewer owners than it has");
	if (rec->owner_count == 1 && !rec->persistent) {
		rc = sb__session_remove(txn, rec, SB__END_OWNERS_GONE);
		return rc < 0 ? rc : 2;
	}
	rec->owner_count--;
	rc = sb__session_save(txn, rec);
	return rc < 0 ? rc : 1;
}

int sb__store_owner_remove(struct sb__store *store, uint64_t session_uid, uint32_t slot, uint32_t generation,
                           uint32_t handle, struct sb__session_rec *ret)
{
	struct remove remove = { .owner = { .session_uid = session_uid,
		                            .slot = slot,
		                            .generation = generation,
		                            .handle = handle } };
	int rc = sb__txn_write(store, remove_owner, &remove);

	if (rc == 2 && ret)
		*ret = remove.rec;
	return rc;
}

/* ── listing ── */

struct list {
	struct sb__key prefix;
	bool by_process;
	uint64_t uid; /* where not by process */
	struct sb__owner_rec *owners;
	size_t count, capacity;
};

/* The record that an index entry stands for. */
static int follow_index(struct sb__txn *txn, MDB_val *key, MDB_val *val, struct sb__key *owner_key)
{
	struct sb__owner_rec owner;
	MDB_val index = *key;
	int rc;

	if (!sb__parse_by_process(index, &owner))
		return sb__corrupt(SB__DB_BY_PROCESS, index, "its key is of another form");
	*owner_key = sb__key_owner(&owner);
	*key = sb__val_key(owner_key);
	rc = sb__txn_get(txn, SB__DB_OWNERS, *key, val);
	if (rc == 0)
		return sb__corrupt(SB__DB_BY_PROCESS, index, "it names an owner that is not there");
	return rc < 0 ? rc : 0;
}

static struct sb__owner_rec *one_more(struct list *list)
{
	if (sb__grow((void **)&list->owners, &list->capacity, list->count, sizeof(*list->owners)) < 0)
		return NULL;
	return &list->owners[list->count];
}

typedef const char *(*decode_fn)(MDB_val key, MDB_val val, struct sb__owner_rec *ret);

static int collect(struct list *list, enum sb__db db, MDB_val key, MDB_val val, decode_fn decode)
{
	struct sb__owner_rec *owner = one_more(list);
	const char *why;

	if (!owner)
		return SB_ENOMEM;
	why = decode(key, val, owner);
	if (why)
		return sb__corrupt(db, key, why);
	list->count++;
	return 0;
}

static int collect_owner(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct list *list = arg;
	struct sb__key owner_key;
	int rc = list->by_process ? follow_index(txn, &key, &val, &owner_key) : 0;

	return rc < 0 ? rc : collect(list, SB__DB_OWNERS, key, val, sb__decode_owner);
}

static int collect_own(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	(void)txn;
	return val.mv_size == 0 ? 0 : collect(arg, SB__DB_DESIGNATED, key, val, sb__decode_own);
}

static int list_own_of_session(struct sb__txn *txn, struct list *list)
{
	struct sb__session_rec rec;
	struct sb__owner_rec *owner;
	int rc = sb__session_load_uid(txn, list->uid, &rec);

	if (rc != 1)
		return rc;
	owner = one_more(list);
	if (!owner)
		return SB_ENOMEM;
	rc = own_of_session(txn, &rec, owner);
	list->count += rc == 1;
	return rc < 0 ? rc : 0;
}

static int list_owners(struct sb__txn *txn, void *arg)
{
	struct list *list = arg;
	int rc;

	list->count = 0;
	if (list->by_process)
		rc = sb__txn_scan(txn, SB__DB_DESIGNATED, sb__val_key(&list->prefix), collect_own, list);
	else
		rc = list_own_of_session(txn, list);
	if (rc < 0)
		return rc;
	return sb__txn_scan(txn, list->by_process ? SB__DB_BY_PROCESS : SB__DB_OWNERS,
	                    sb__val_key(&list->prefix), collect_owner, list);
}

static int run_list(struct sb__store *store, struct list *list, struct sb__owner_rec **ret, size_t *ret_count)
{
	int rc = sb__txn_read(store, list_owners, list);

	if (rc < 0) {
		free(list->owners);
		return rc;
	}
	*ret = list->owners;
	*ret_count = list->count;
	return 0;
}

int sb__store_owners_of_session(struct sb__store *store, uint64_t session_uid, struct sb__owner_rec **ret,
                                size_t *ret_count)
{
	struct list list = { .prefix = sb__key_uid(session_uid), .uid = session_uid };

	return run_list(store, &list, ret, ret_count);
}

int sb__store_owners_of_process(struct sb__store *store, uint32_t slot, struct sb__owner_rec **ret,
                                size_t *ret_count)
{
	struct list list = { .prefix = sb__key_slot(slot), .by_process = true };

	return run_list(store, &list, ret, ret_count);
}

/* ── counting ── */

struct counts {
	struct sb__owner_count *items;
	size_t count, capacity;
};

/* The indexes are ordered by process, so one that is met again is the last. */
static int count_one(struct counts *counts, uint32_t slot, uint32_t generation)
{
	struct sb__owner_count *last = counts->count ? &counts->items[counts->count - 1] : NULL;
	int rc;

	if (last && last->slot == slot && last->generation == generation) {
		last->owners++;
		return 0;
	}
	rc = sb__grow((void **)&counts->items, &counts->capacity, counts->count, sizeof(*counts->items));
	if (rc < 0)
		return rc;
	counts->items[counts->count++] = (struct sb__owner_count){ slot, generation, 1 };
	return 0;
}

static int count_owner(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__owner_rec owner;

	(void)txn;
	(void)val;
	if (!sb__parse_by_process(key, &owner))
		return sb__corrupt(SB__DB_BY_PROCESS, key, "its key is of another form");
	return count_one(arg, owner.slot, owner.generation);
}

static int count_own(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	uint32_t slot, generation;
	uint64_t uid;

	(void)txn;
	if (!sb__parse_designated(key, &slot, &generation, &uid))
		return sb__corrupt(SB__DB_DESIGNATED, key, "its key is of another form");
	return val.mv_size == 0 ? 0 : count_one(arg, slot, generation);
}

static int by_process(const void *a, const void *b)
{
	const struct sb__owner_count *x = a, *y = b;

	if (x->slot != y->slot)
		return x->slot < y->slot ? -1 : 1;
	return (x->generation > y->generation) - (x->generation < y->generation);
}

/* Those that are in both indexes, once. */
static void merge_counts(struct counts *counts)
{
	size_t kept = 0;

	if (counts->count > 0)
		qsort(counts->items, counts->count, sizeof(*counts->items), by_process);
	for (size_t i = 0; i < counts->count; i++) {
		if (kept > 0 && by_process(&counts->items[kept - 1], &counts->items[i]) == 0)
			counts->items[kept - 1].owners += counts->items[i].owners;
		else
			counts->items[kept++] = counts->items[i];
	}
	counts->count = kept;
}

static int count_owners(struct sb__txn *txn, void *arg)
{
	struct counts *counts = arg;
	int rc;

	counts->count = 0;
	rc = sb__txn_scan(txn, SB__DB_DESIGNATED, sb__val_none(), count_own, counts);
	if (rc >= 0)
		rc = sb__txn_scan(txn, SB__DB_BY_PROCESS, sb__val_none(), count_owner, counts);
	if (rc >= 0)
		merge_counts(counts);
	return rc;
}

int sb__store_owner_counts(struct sb__store *store, struct sb__owner_count **ret, size_t *ret_count)
{
	struct counts counts = { .items = NULL };
	int rc = sb__txn_read(store, count_owners, &counts);

	if (rc < 0) {
		free(counts.items);
		return rc;
	}
	*ret = counts.items;
	*ret_count = counts.count;
	return 0;
}
