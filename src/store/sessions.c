/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session records and their indexes: by uid, by designated owner, by expiry. Each function is one
 * transaction, in which record, indexes, owners and graveyard change together.
 *
 *             create            activate             orphan          (a session may also be created ACTIVE)
 *   (none) ───────────▶ STARTING ────────▶ ACTIVE ───────────▶ ORPHANED
 *                        ▲    │                                 │
 *                        └────┴───────────── elect ─────────────┘        every state: end ──▶ (none)
 *
 * The index of designated owners lists a session while its state is STARTING or ACTIVE and it has one. Its entry holds the
 * owner record of the handle by which that process opened the session, if it did.
 *
 * Does not decide when a session ends but by the count of its owners (owners.c), and knows no mailbox.
 *
 * Locks: those of txn.c.  Crash: before or after the transaction, never between.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "ids.h"
#include "store_impl.h"

#define BATCH 32 /* sessions that sb__store_sessions() copies at a time: 160 KiB */

/* ── inside a transaction ── */

int sb__session_load(struct sb__txn *txn, const char *session_id, struct sb__session_rec *ret)
{
	size_t len = strnlen(session_id, SB_SESSION_ID_MAX + 1);
	MDB_val key = { .mv_size = len, .mv_data = (void *)session_id }, val;
	const char *why;
	int rc;

	if (len == 0 || len > SB_SESSION_ID_MAX)
		return 0; /* nothing can have such a key */
	rc = sb__txn_get(txn, SB__DB_SESSIONS, key, &val);
	if (rc != 1)
		return rc;
	why = sb__decode_session(key, val, ret);
	return why ? sb__corrupt(SB__DB_SESSIONS, key, why) : 1;
}

int sb__session_load_uid(struct sb__txn *txn, uint64_t uid, struct sb__session_rec *ret)
{
	struct sb__key key = sb__key_uid(uid);
	char id[SB_SESSION_ID_MAX + 1];
	MDB_val val;
	int rc = sb__txn_get(txn, SB__DB_UIDS, sb__val_key(&key), &val);

	if (rc != 1)
		return rc;
	if (!sb__parse_id(val, id))
		return sb__corrupt(SB__DB_UIDS, sb__val_key(&key), "it holds no session id");
	rc = sb__session_load(txn, id, ret);
	if (rc == 0 || (rc == 1 && ret->uid != uid))
		return sb__corrupt(SB__DB_UIDS, sb__val_key(&key), "it names another session's id");
	return rc;
}

int sb__session_save(struct sb__txn *txn, const struct sb__session_rec *rec)
{
	const char *why = sb__check_session(rec);
	struct sb__image image;

	if (why)
		return sb__fail(SB_EBUG, "refused to store session \"%s\": %s", rec->session_id, why);
	sb__encode_session(rec, &image);
	return sb__txn_put(txn, SB__DB_SESSIONS, sb__val_text(rec->session_id), sb__val_image(&image));
}

bool sb__session_is_served(const struct sb__session_rec *rec)
{
	return rec->designated.pid > 0 && rec->state != SB_SESSION_ORPHANED;
}

/* own: its designated owner's own record, or NULL. */
static int serve_file(struct sb__txn *txn, const struct sb__session_rec *rec, const struct sb__owner_rec *own)
{
	struct sb__key key = sb__key_designated(rec);
	struct sb__image image;

	if (!sb__session_is_served(rec))
		return 0;
	if (own)
		sb__encode_owner(own, &image);
	return sb__txn_put(txn, SB__DB_DESIGNATED, sb__val_key(&key),
	                   own ? sb__val_image(&image) : sb__val_none());
}

static int serve_unfile(struct sb__txn *txn, const struct sb__session_rec *rec)
{
	struct sb__key key = sb__key_designated(rec);
	int rc = 0;

	if (sb__session_is_served(rec))
		rc = sb__txn_del(txn, SB__DB_DESIGNATED, sb__val_key(&key));
	return rc < 0 ? rc : 0;
}

int sb__session_remove(struct sb__txn *txn, const struct sb__session_rec *rec, enum sb__end_reason reason)
{
	struct sb__key uid = sb__key_uid(rec->uid);
	int rc = sb__owners_remove_all(txn, rec->uid);

	if (rc >= 0)
		rc = serve_unfile(txn, rec);
	if (rc >= 0)
		rc = sb__expiry_unfile(txn, rec);
	if (rc >= 0)
		rc = sb__txn_del(txn, SB__DB_UIDS, sb__val_key(&uid));
	if (rc >= 0)
		rc = sb__txn_del(txn, SB__DB_SESSIONS, sb__val_text(rec->session_id));
	if (rc >= 0)
		rc = sb__bury(txn, rec, reason);
	return rc < 0 ? rc : 0;
}

/* ── looking ── */

struct get {
	const char *session_id; /* or NULL: by uid */
	uint64_t uid;
	struct sb__session_rec *rec;
};

static int get_session(struct sb__txn *txn, void *arg)
{
	struct get *get = arg;

	if (get->session_id)
		return sb__session_load(txn, get->session_id, get->rec);
	return sb__session_load_uid(txn, get->uid, get->rec);
}

int sb__store_session_get(struct sb__store *store, const char *session_id, struct sb__session_rec *ret)
{
	struct get get = { .session_id = session_id, .rec = ret };

	return sb__txn_read(store, get_session, &get);
}

int sb__store_session_by_uid(struct sb__store *store, uint64_t uid, struct sb__session_rec *ret)
{
	struct get get = { .uid = uid, .rec = ret };

	return sb__txn_read(store, get_session, &get);
}

struct batch {
	char after[SB_SESSION_ID_MAX + 1]; /* resume behind this id; "" = from the first */
	size_t count;
	struct sb__session_rec recs[BATCH];
};

static int copy_into_batch(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct batch *batch = arg;
	const char *why;

	(void)txn;
	if (batch->count == BATCH)
		return 1;
	why = sb__decode_session(key, val, &batch->recs[batch->count]);
	if (why)
		return sb__corrupt(SB__DB_SESSIONS, key, why);
	batch->count++;
	return 0;
}

static int read_batch(struct sb__txn *txn, void *arg)
{
	struct batch *batch = arg;

	batch->count = 0;
	return sb__txn_scan_after(txn, SB__DB_SESSIONS, sb__val_text(batch->after), copy_into_batch, batch);
}

int sb__store_sessions(struct sb__store *store, int (*visit)(void *arg, const struct sb__session_rec *rec),
                       void *arg)
{
	struct batch *batch = malloc(sizeof(*batch));
	int rc, stop = 0;

	if (!batch)
		return sb__fail_memory("a list of sessions");
	batch->after[0] = '\0';
	do {
		rc = sb__txn_read(store, read_batch, batch);
		for (size_t i = 0; rc >= 0 && stop == 0 && i < batch->count; i++)
			stop = visit(arg, &batch->recs[i]);
		if (rc >= 0 && batch->count > 0)
			memcpy(batch->after, batch->recs[batch->count - 1].session_id, sizeof(batch->after));
	} while (rc == 1 && stop == 0);
	free(batch);
	return rc < 0 ? rc : stop < 0 ? stop : 0;
}

struct briefs {
	struct sb__session_brief *items;
	size_t count, capacity;
};

static int collect_brief(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct briefs *briefs = arg;
	const char *why;
	int rc = sb__grow((void **)&briefs->items, &briefs->capacity, briefs->count, sizeof(*briefs->items));

	(void)txn;
	if (rc < 0)
		return rc;
	why = sb__decode_session_brief(val, &briefs->items[briefs->count]);
	if (why)
		return sb__corrupt(SB__DB_SESSIONS, key, why);
	briefs->count++;
	return 0;
}

static int list_briefs(struct sb__txn *txn, void *arg)
{
	struct briefs *briefs = arg;

	briefs->count = 0;
	return sb__txn_scan(txn, SB__DB_SESSIONS, sb__val_none(), collect_brief, briefs);
}

int sb__store_session_briefs(struct sb__store *store, struct sb__session_brief **ret, size_t *ret_count)
{
	struct briefs briefs = { .items = NULL };
	int rc = sb__txn_read(store, list_briefs, &briefs);

	if (rc < 0) {
		free(briefs.items);
		return rc;
	}
	*ret = briefs.items;
	*ret_count = briefs.count;
	return 0;
}

struct of_owner {
	uint32_t slot, generation;
	struct sb__session_rec *recs;
	size_t count, capacity;
};

static int collect_served(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct of_owner *list = arg;
	uint32_t slot, generation;
	uint64_t uid;
	int rc;

	(void)val;
	if (!sb__parse_designated(key, &slot, &generation, &uid))
		return sb__corrupt(SB__DB_DESIGNATED, key, "its key is of another form");
	rc = sb__grow((void **)&list->recs, &list->capacity, list->count, sizeof(*list->recs));
	if (rc < 0)
		return rc;
	rc = sb__session_load_uid(txn, uid, &list->recs[list->count]);
	if (rc == 0)
		return sb__corrupt(SB__DB_DESIGNATED, key, "it names a session that is not there");
	if (rc < 0)
		return rc;
	list->count++;
	return 0;
}

static int list_served(struct sb__txn *txn, void *arg)
{
	struct of_owner *list = arg;
	struct sb__key prefix = sb__key_process(list->slot, list->generation);

	list->count = 0;
	return sb__txn_scan(txn, SB__DB_DESIGNATED, sb__val_key(&prefix), collect_served, list);
}

int sb__store_sessions_of_owner(struct sb__store *store, uint32_t slot, uint32_t generation,
                                struct sb__session_rec **ret, size_t *ret_count)
{
	struct of_owner list = { .slot = slot, .generation = generation };
	int rc = sb__txn_read(store, list_served, &list);

	if (rc < 0) {
		free(list.recs);
		return rc;
	}
	*ret = list.recs;
	*ret_count = list.count;
	return 0;
}

/* ── creating ── */

struct create {
	const struct sb__session_rec *wish;
	const struct sb__owner_rec *owner;
	struct sb__session_rec rec;
};

static bool is_own(const struct sb__session_rec *rec, const struct sb__owner_rec *owner)
{
	return sb__session_is_served(rec) && owner->slot == rec->designated.slot &&
	       owner->generation == rec->designated.generation;
}

static int insert_session(struct sb__txn *txn, struct create *create)
{
	struct sb__session_rec *rec = &create->rec;
	struct sb__key uid = sb__key_uid(rec->uid);
	struct sb__owner_rec owner;
	bool own = create->owner && is_own(rec, create->owner);
	int rc = sb__session_save(txn, rec);

	if (create->owner) {
		owner = *create->owner;
		owner.session_uid = rec->uid;
	}
	if (rc >= 0)
		rc = sb__txn_put(txn, SB__DB_UIDS, sb__val_key(&uid), sb__val_text(rec->session_id));
	if (rc >= 0)
		rc = serve_file(txn, rec, own ? &owner : NULL);
	if (rc >= 0)
		rc = sb__expiry_file(txn, rec);
	if (rc >= 0 && create->owner && !own)
		rc = sb__owner_insert(txn, &owner);
	return rc < 0 ? rc : 1;
}

static int create_session(struct sb__txn *txn, void *arg)
{
	struct create *create = arg;
	struct sb__session_rec *rec = &create->rec;
	int rc = sb__session_load(txn, create->wish->session_id, rec);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	*rec = *create->wish;
	rec->uid = sb__numbers_of(txn);
	rec->incarnation = sb__first_incarnation(rec->uid);
	if (rec->state != SB_SESSION_ACTIVE)
		rec->state = SB_SESSION_STARTING;
	rec->owner_count = create->owner ? 1 : 0;
	rec->created_wall_ms = sb__wall_ms();
	rec->created_ms = sb__now_ms();
	rec->expires_ms = sb__expires_at(rec->created_ms, rec->ttl_ms);
	rec->live_refs = 0;
	return insert_session(txn, create);
}

int sb__store_session_create(struct sb__store *store, struct sb__session_rec *rec,
                             const struct sb__owner_rec *owner)
{
	struct create create;
	int rc = sb__session_id_check(rec->session_id);

	if (rc < 0)
		return rc;
	create.wish = rec;
	create.owner = owner;
	rc = sb__txn_write_more(store, create_session, &create);
	if (rc >= 0)
		*rec = create.rec;
	return rc;
}

/* ── changing ── */

struct change {
	const char *session_id;
	uint64_t incarnation;
	uint64_t uid; /* sb__store_session_end(): 0 = whichever */
	enum sb__end_reason reason;
	const struct sb__identity *designated;
	uint64_t live_refs;
	struct sb__session_rec *rec;
};

/* Loads the session if it is still of the incarnation that is meant: 1, or 0. */
static int load_incarnation(struct sb__txn *txn, struct change *change)
{
	int rc = sb__session_load(txn, change->session_id, change->rec);

	return rc == 1 ? change->rec->incarnation == change->incarnation : rc;
}

static int activate_session(struct sb__txn *txn, void *arg)
{
	struct change *change = arg;
	int rc = load_incarnation(txn, change);

	if (rc != 1 || change->rec->state != SB_SESSION_STARTING)
		return rc < 0 ? rc : 0;
	change->rec->state = SB_SESSION_ACTIVE;
	rc = sb__expiry_slide(txn, change->rec); /* getting ready may have taken longer than the TTL */
	if (rc >= 0)
		rc = sb__session_save(txn, change->rec);
	return rc < 0 ? rc : 1;
}

int sb__store_session_activate(struct sb__store *store, const char *session_id, uint64_t incarnation)
{
	struct sb__session_rec rec;
	struct change change = { .session_id = session_id, .incarnation = incarnation, .rec = &rec };

	return sb__txn_write(store, activate_session, &change);
}

static int orphan_session(struct sb__txn *txn, void *arg)
{
	struct change *change = arg;
	int rc = load_incarnation(txn, change);

	if (rc != 1 || change->rec->state == SB_SESSION_ORPHANED)
		return rc < 0 ? rc : 0;
	rc = sb__own_release(txn, change->rec);
	if (rc >= 0)
		rc = serve_unfile(txn, change->rec);
	if (rc >= 0)
		rc = sb__expiry_slide(txn, change->rec); /* its mailbox, which knows the last access, goes */
	if (rc < 0)
		return rc;
	change->rec->state = SB_SESSION_ORPHANED;
	change->rec->live_refs = 0; /* the objects died with their owner */
	rc = sb__session_save(txn, change->rec);
	if (rc >= 0)
		rc = sb__bury(txn, change->rec, SB__END_OWNER_DIED);
	return rc < 0 ? rc : 1;
}

int sb__store_session_orphan(struct sb__store *store, const char *session_id, uint64_t incarnation)
{
	struct sb__session_rec rec;
	struct change change = { .session_id = session_id, .incarnation = incarnation, .rec = &rec };

	return sb__txn_write(store, orphan_session, &change);
}

static int elect_owner(struct sb__txn *txn, void *arg)
{
	struct change *change = arg;
	struct sb__session_rec *rec = change->rec;
	int rc = load_incarnation(txn, change);

	if (rc != 1 || rec->state == SB_SESSION_ACTIVE)
		return rc < 0 ? rc : 0;
	rc = sb__own_release(txn, rec);
	if (rc >= 0)
		rc = serve_unfile(txn, rec);
	if (rc >= 0 && rec->state == SB_SESSION_STARTING) /* an orphaned one is buried already */
		rc = sb__bury(txn, rec, SB__END_OWNER_DIED);
	if (rc < 0)
		return rc;
	rec->incarnation = sb__numbers_of(txn);
	rec->state = SB_SESSION_STARTING;
	rec->designated = *change->designated;
	rec->live_refs = 0;
	rc = sb__expiry_slide(txn, rec);
	if (rc >= 0)
		rc = sb__session_save(txn, rec);
	if (rc >= 0)
		rc = serve_file(txn, rec, NULL);
	return rc < 0 ? rc : 1;
}

int sb__store_session_elect(struct sb__store *store, const char *session_id, uint64_t old_incarnation,
                            const struct sb__identity *designated, struct sb__session_rec *ret)
{
	struct sb__session_rec rec;
	struct change change = { .session_id = session_id,
		                 .incarnation = old_incarnation,
		                 .designated = designated,
		                 .rec = &rec };
	int rc = sb__txn_write(store, elect_owner, &change);

	if (rc == 1)
		*ret = rec;
	return rc;
}

static int end_session(struct sb__txn *txn, void *arg)
{
	struct change *change = arg;
	int rc = sb__session_load(txn, change->session_id, change->rec);

	if (rc != 1 || (change->uid != 0 && change->rec->uid != change->uid))
		return rc < 0 ? rc : 0;
	if (change->reason == SB__END_OWNERS_GONE && change->rec->owner_count > 0)
		return 0; /* somebody joined since the look that found no owner */
	rc = sb__session_remove(txn, change->rec, change->reason);
	return rc < 0 ? rc : 1;
}

int sb__store_session_end(struct sb__store *store, const char *session_id, uint64_t uid,
                          enum sb__end_reason reason, struct sb__session_rec *ret)
{
	struct sb__session_rec rec;
	struct change change = {
		.session_id = session_id, .uid = uid, .reason = reason, .rec = ret ? ret : &rec
	};

	return sb__txn_write(store, end_session, &change);
}

static int mirror_refs(struct sb__txn *txn, void *arg)
{
	struct change *change = arg;
	int rc = load_incarnation(txn, change);

	if (rc != 1 || change->rec->live_refs == change->live_refs)
		return rc;
	change->rec->live_refs = change->live_refs;
	rc = sb__session_save(txn, change->rec);
	return rc < 0 ? rc : 1;
}

int sb__store_session_mirror(struct sb__store *store, const char *session_id, uint64_t incarnation,
                             uint64_t live_refs)
{
	struct sb__session_rec rec;
	struct change change = {
		.session_id = session_id, .incarnation = incarnation, .live_refs = live_refs, .rec = &rec
	};

	return sb__txn_write(store, mirror_refs, &change);
}
