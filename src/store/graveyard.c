/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the last SB__GRAVEYARD_MAX incarnations ended, so that a stale ref can be told.
 *
 * Graves go in the order of burial, not of incarnation: a session that lived long and ended last is the one
 * whose refs are still about. An incarnation is buried once: the reason that comes first is what its refs
 * answer for good (owner died, then the orphaned session released: its refs still say owner died). The
 * newest end of a session id is kept beside it and says why the session is not there; the newest end of each session
 * by its uid says it to handles that knew an earlier incarnation only, also when another session has the id. Both go with
 * the grave of the incarnation that they are about. The latter is filed only where it is not the grave of the incarnation that the
 * session was created with, which has the number after its uid.
 *
 * An incarnation without a grave never was, unless older graves had to make room.
 *
 * Locks: those of txn.c.  Crash: part of the transaction that ends the incarnation.
 */
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "store_impl.h"

#define ROOM 32u /* graves that are dropped at a time where the graveyard is full */

/* 1 and the grave, 0, or a code. */
static int load_grave(struct sb__txn *txn, enum sb__db db, MDB_val key, struct sb__grave_rec *ret,
                      uint64_t *ret_order)
{
	const char *why;
	MDB_val val;
	int rc = sb__txn_get(txn, db, key, &val);

	if (rc != 1)
		return rc;
	why = sb__decode_grave(val, ret, ret_order);
	return why ? sb__corrupt(db, key, why) : 1;
}

/* Drops the newest end of an id or uid if it is that of the incarnation. */
static int drop_newest(struct sb__txn *txn, enum sb__db db, MDB_val key, uint64_t incarnation)
{
	struct sb__grave_rec newest;
	uint64_t order;
	int rc = load_grave(txn, db, key, &newest, &order);

	return rc == 1 && newest.incarnation == incarnation ? sb__txn_del(txn, db, key) : rc;
}

/* Drops the grave that is longest there. */
static int drop_oldest(struct sb__txn *txn)
{
	struct sb__key order_key, key, uid_key;
	struct sb__grave_rec grave;
	uint64_t order, incarnation, at;
	MDB_val first, val;
	int rc = sb__txn_first(txn, SB__DB_GRAVE_ORDER, sb__val_none(), &first, &val);

	if (rc != 1)
		return rc;
	if (!sb__parse_u64(first, &order) || !sb__parse_u64(val, &incarnation))
		return sb__corrupt(SB__DB_GRAVE_ORDER, first, "it is of another form");
	order_key = sb__key_uid(order);
	key = sb__key_uid(incarnation);
	rc = load_grave(txn, SB__DB_GRAVES, sb__val_key(&key), &grave, &at);
	if (rc == 0)
		return sb__corrupt(SB__DB_GRAVE_ORDER, sb__val_key(&order_key),
		                   "it names a grave that is not there");
	if (rc == 1)
		rc = drop_newest(txn, SB__DB_GRAVES_BY_ID, sb__val_text(grave.session_id), incarnation);
	if (rc >= 0) {
		uid_key = sb__key_uid(grave.session_uid);
		rc = drop_newest(txn, SB__DB_GRAVES_BY_UID, sb__val_key(&uid_key), incarnation);
	}
	if (rc >= 0)
		rc = sb__txn_del(txn, SB__DB_GRAVES, sb__val_key(&key));
	if (rc >= 0)
		rc = sb__txn_del(txn, SB__DB_GRAVE_ORDER, sb__val_key(&order_key));
	return rc < 0 ? rc : 0;
}

/* Several at a time: the oldest lie side by side, so dropping ROOM of them writes hardly more pages than dropping one. */
static int make_room(struct sb__txn *txn)
{
	MDB_stat stat;
	int rc = mdb_stat(txn->mdb, txn->store->dbi[SB__DB_GRAVE_ORDER], &stat);

	if (rc != 0)
		return sb__txn_fail(txn, rc, "count the graves");
	if (stat.ms_entries < SB__GRAVEYARD_MAX)
		return 0;
	for (unsigned i = 0; rc == 0 && i < ROOM; i++)
		rc = drop_oldest(txn);
	return rc;
}

static int next_order(struct sb__txn *txn, uint64_t *ret)
{
	MDB_val key, val;
	int rc = sb__txn_last(txn, SB__DB_GRAVE_ORDER, &key, &val);

	*ret = 0;
	if (rc == 1 && !sb__parse_u64(key, ret))
		return sb__corrupt(SB__DB_GRAVE_ORDER, key, "its key is of another form");
	*ret += 1;
	return rc < 0 ? rc : 0;
}

static int bury_incarnation(struct sb__txn *txn, const struct sb__grave_rec *grave)
{
	struct sb__key key = sb__key_uid(grave->incarnation), order_key;
	struct sb__image image;
	uint64_t order;
	int rc = make_room(txn);

	if (rc == 0)
		rc = next_order(txn, &order);
	if (rc != 0)
		return rc;
	order_key = sb__key_uid(order);
	sb__encode_grave(grave, order, &image);
	rc = sb__txn_put(txn, SB__DB_GRAVES, sb__val_key(&key), sb__val_image(&image));
	if (rc == 0)
		rc = sb__txn_put(txn, SB__DB_GRAVE_ORDER, sb__val_key(&order_key), sb__val_key(&key));
	return rc;
}

int sb__bury(struct sb__txn *txn, const struct sb__session_rec *rec, enum sb__end_reason reason)
{
	struct sb__grave_rec grave = { .incarnation = rec->incarnation,
		                       .session_uid = rec->uid,
		                       .reason = (uint32_t)reason,
		                       .wall_ms = sb__wall_ms(),
		                       .designated_pid = rec->designated.pid };
	struct sb__key key = sb__key_uid(rec->incarnation), uid_key = sb__key_uid(rec->uid);
	struct sb__image image;
	MDB_val val;
	int buried, rc;

	memcpy(grave.session_id, rec->session_id, sizeof(grave.session_id));
	buried = sb__txn_get(txn, SB__DB_GRAVES, sb__val_key(&key), &val);
	rc = buried == 0 ? bury_incarnation(txn, &grave) : buried;
	if (rc < 0)
		return rc;
	sb__encode_grave(&grave, 0, &image);
	rc = sb__txn_put(txn, SB__DB_GRAVES_BY_ID, sb__val_text(grave.session_id), sb__val_image(&image));
	if (rc == 0 && (buried || rec->incarnation != sb__first_incarnation(rec->uid)))
		rc = sb__txn_put(txn, SB__DB_GRAVES_BY_UID, sb__val_key(&uid_key), sb__val_image(&image));
	return rc;
}

/* ── looking ── */

struct look {
	enum sb__db db;
	uint64_t number;        /* incarnation or uid */
	const char *session_id; /* or NULL: by number */
	struct sb__grave_rec grave;
};

static int look_at_grave(struct sb__txn *txn, void *arg)
{
	struct look *look = arg;
	struct sb__key key = sb__key_uid(look->number);
	uint64_t order;
	int rc;

	if (look->db != SB__DB_GRAVES_BY_ID) {
		rc = load_grave(txn, look->db, sb__val_key(&key), &look->grave, &order);
		if (rc != 0 || look->db == SB__DB_GRAVES)
			return rc;
		key = sb__key_uid(sb__first_incarnation(look->number));
		rc = load_grave(txn, SB__DB_GRAVES, sb__val_key(&key), &look->grave, &order);
		return rc == 1 ? look->grave.session_uid == look->number : rc;
	}
	rc = load_grave(txn, look->db, sb__val_text(look->session_id), &look->grave, &order);
	if (rc == 1 && strcmp(look->grave.session_id, look->session_id) != 0)
		return sb__corrupt(look->db, sb__val_text(look->session_id), "it is of another session");
	return rc;
}

static int run_look(struct sb__store *store, struct look *look, struct sb__grave_rec *ret)
{
	int rc = sb__txn_read(store, look_at_grave, look);

	if (rc == 1)
		*ret = look->grave;
	return rc;
}

int sb__store_grave(struct sb__store *store, uint64_t incarnation, struct sb__grave_rec *ret)
{
	struct look look = { .db = SB__DB_GRAVES, .number = incarnation };

	return run_look(store, &look, ret);
}

int sb__store_grave_of_uid(struct sb__store *store, uint64_t session_uid, struct sb__grave_rec *ret)
{
	struct look look = { .db = SB__DB_GRAVES_BY_UID, .number = session_uid };

	return run_look(store, &look, ret);
}

int sb__store_grave_of(struct sb__store *store, const char *session_id, struct sb__grave_rec *ret)
{
	struct look look = { .db = SB__DB_GRAVES_BY_ID, .session_id = session_id };
	size_t len = strnlen(session_id, SB_SESSION_ID_MAX + 1);

	if (len == 0 || len > SB_SESSION_ID_MAX)
		return 0; /* nothing can have such a key */
	return run_look(store, &look, ret);
}

/* ── fates ── */

/* Did older graves have to make room? 1, 0 or a code. */
static int has_forgotten(struct sb__txn *txn)
{
	MDB_val key, val;
	uint64_t order = 1;
	int rc = sb__txn_first(txn, SB__DB_GRAVE_ORDER, sb__val_none(), &key, &val);

	if (rc == 1 && !sb__parse_u64(key, &order))
		return sb__corrupt(SB__DB_GRAVE_ORDER, key, "its key is of another form");
	return rc < 0 ? rc : order > 1;
}

/* One that has no grave. */
static int fate_without_grave(struct sb__txn *txn, const struct look *look)
{
	struct sb__session_rec rec;
	int rc = sb__session_load(txn, look->session_id, &rec);

	if (rc < 0)
		return rc;
	if (rc == 1 && rec.incarnation == look->number)
		return SB__FATE_LIVES;
	/* Numbers only grow: what is above the session's own was never given to its id. */
	if (rc == 1 && (look->number > rec.incarnation || look->number == rec.uid))
		return SB__FATE_NONE;
	if (look->number == 0 || look->number >= sb__numbers_end(txn))
		return SB__FATE_NONE;
	rc = has_forgotten(txn);
	return rc < 0 ? rc : rc ? SB__FATE_FORGOTTEN : SB__FATE_NONE;
}

static int find_fate(struct sb__txn *txn, void *arg)
{
	struct look *look = arg;
	struct sb__key key = sb__key_uid(look->number);
	uint64_t order;
	int rc = load_grave(txn, SB__DB_GRAVES, sb__val_key(&key), &look->grave, &order);

	if (rc == 1)
		return strcmp(look->grave.session_id, look->session_id) == 0 ? SB__FATE_ENDED : SB__FATE_NONE;
	return rc < 0 ? rc : fate_without_grave(txn, look);
}

int sb__store_fate(struct sb__store *store, const char *session_id, uint64_t incarnation,
                   struct sb__grave_rec *ret)
{
	struct look look = { .session_id = session_id, .number = incarnation };
	int rc = sb__txn_read(store, find_fate, &look);

	if (rc == SB__FATE_ENDED)
		*ret = look.grave;
	return rc;
}
