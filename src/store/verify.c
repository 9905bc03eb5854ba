/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Do records and indexes agree? One read transaction over all databases; repairs nothing.
 *
 *   session  <-> its uid, its expiry, its place among the designated owner's; owner_count = owner records
 *   owner    <-> its session, the index by process; or its place in its session's designated owner's entry
 *   grave    <-> its place in the order of burial
 *   numbers in use < the bridge's next number
 *
 * Locks: those of txn.c.  Crash: reads only.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "store_impl.h"

#define LINES_MAX  64
#define LINE_BYTES 384

struct verify {
	uint64_t next_number;
	unsigned problems;
	char lines[LINES_MAX][LINE_BYTES];
};

static int note(struct verify *verify, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);

/* Always 0, so that a scan goes on. */
static int note(struct verify *verify, const char *fmt, ...)
{
	va_list ap;

	if (verify->problems < LINES_MAX) {
		va_start(ap, fmt);
		(void)vsnprintf(verify->lines[verify->problems], LINE_BYTES, fmt, ap);
		va_end(ap);
	}
	verify->problems++;
	return 0;
}

static int note_key(struct verify *verify, enum sb__db db, MDB_val key, const char *why)
{
	char hex[2 * 20 + 1] = "";

	for (size_t i = 0; i < key.mv_size && i < 20; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)key.mv_data)[i]);
	return note(verify, "database \"%s\", key %s: %s", sb__db_name(db), hex, why);
}

/* For a search's result: a code is passed up, nothing found (0) is noted, found is fine. */
static int note_unless(int found, struct verify *verify, enum sb__db db, MDB_val key, const char *why)
{
	if (found < 0)
		return found;
	return found == 0 ? note_key(verify, db, key, why) : 0;
}

/* Is there an entry with that key, and with that value if val is given? 1, 0, or a code. */
static int has_entry(struct sb__txn *txn, enum sb__db db, struct sb__key key, const MDB_val *val)
{
	MDB_val found;
	int rc = sb__txn_get(txn, db, sb__val_key(&key), &found);

	if (rc != 1 || !val)
		return rc;
	return found.mv_size == val->mv_size && memcmp(found.mv_data, val->mv_data, val->mv_size) == 0;
}

/* The valid session of a uid: 1, 0 (none or damaged: noted where it is scanned itself), or a code. */
static int find_session(struct sb__txn *txn, uint64_t uid, struct sb__session_rec *ret)
{
	struct sb__key key = sb__key_uid(uid);
	char text[SB_SESSION_ID_MAX + 1];
	MDB_val id, val;
	int rc = sb__txn_get(txn, SB__DB_UIDS, sb__val_key(&key), &id);

	if (rc == 1 && !sb__parse_id(id, text)) /* not even fit to be a key */
		return 0;
	if (rc == 1)
		rc = sb__txn_get(txn, SB__DB_SESSIONS, id, &val);
	if (rc != 1)
		return rc;
	return !sb__decode_session(id, val, ret) && ret->uid == uid;
}

static int count_one(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	uint32_t *count = arg;

	(void)txn;
	(void)key;
	(void)val;
	*count += 1;
	return 0;
}

static int verify_session(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct verify *verify = arg;
	struct sb__session_rec rec;
	struct sb__key uid;
	MDB_val id;
	uint32_t owners = 0;
	const char *why = sb__decode_session(key, val, &rec);
	int rc;

	if (why)
		return note_key(verify, SB__DB_SESSIONS, key, why);
	id = sb__val_text(rec.session_id);
	uid = sb__key_uid(rec.uid);
	if (rec.uid >= verify->next_number || rec.incarnation >= verify->next_number)
		(void)note(verify, "session \"%s\": its number was not given out yet", rec.session_id);
	rc = has_entry(txn, SB__DB_UIDS, uid, &id);
	if (rc == 0)
		rc = note(verify, "session \"%s\": its uid does not lead to it", rec.session_id);
	if (rc >= 0)
		rc = sb__txn_scan(txn, SB__DB_OWNERS, sb__val_key(&uid), count_one, &owners);
	if (rc >= 0 && sb__session_is_served(&rec)) {
		struct sb__owner_rec own = { .session_uid = rec.uid,
			                     .slot = rec.designated.slot,
			                     .generation = rec.designated.generation };

		owners += sb__own_load(txn, &own) == 1; /* a damaged one is noted where it is scanned */
	}
	if (rc >= 0 && owners != rec.owner_count)
		rc = note(verify, "session \"%s\": counts %u owners and has %u", rec.session_id,
		          rec.owner_count, owners);
	if (rc >= 0 && rec.expires_ms != 0) {
		rc = has_entry(txn, SB__DB_EXPIRY, sb__key_expiry(rec.expires_ms, rec.uid), &id);
		if (rc == 0)
			rc = note(verify, "session \"%s\": its expiry is not filed", rec.session_id);
	}
	if (rc >= 0 && sb__session_is_served(&rec)) {
		rc = has_entry(txn, SB__DB_DESIGNATED, sb__key_designated(&rec), NULL);
		if (rc == 0)
			rc = note(verify, "session \"%s\": not filed with its designated owner",
			          rec.session_id);
	}
	return rc < 0 ? rc : 0;
}

static int verify_uid(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__session_rec rec;
	uint64_t uid;
	int rc;

	(void)val;
	if (!sb__parse_u64(key, &uid))
		return note_key(arg, SB__DB_UIDS, key, "its key is of another form");
	rc = find_session(txn, uid, &rec);
	return note_unless(rc, arg, SB__DB_UIDS, key, "there is no such session");
}

static int verify_owner(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__owner_rec owner;
	struct sb__session_rec rec;
	const char *why = sb__decode_owner(key, val, &owner);
	int rc;

	if (why)
		return note_key(arg, SB__DB_OWNERS, key, why);
	rc = find_session(txn, owner.session_uid, &rec);
	if (rc == 0)
		rc = note_key(arg, SB__DB_OWNERS, key, "there is no such session");
	if (rc >= 0)
		rc = has_entry(txn, SB__DB_BY_PROCESS, sb__key_by_process(&owner), NULL);
	if (rc == 0)
		rc = note_key(arg, SB__DB_OWNERS, key, "not in the index by process");
	return rc < 0 ? rc : 0;
}

static int verify_by_process(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__owner_rec owner;
	int rc;

	if (!sb__parse_by_process(key, &owner) || val.mv_size != 0)
		return note_key(arg, SB__DB_BY_PROCESS, key, "it is of another form");
	rc = has_entry(txn, SB__DB_OWNERS, sb__key_owner(&owner), NULL);
	return note_unless(rc, arg, SB__DB_BY_PROCESS, key, "there is no such owner");
}

static int verify_designated(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__session_rec rec;
	struct sb__owner_rec own;
	uint32_t slot, generation;
	uint64_t uid;
	int rc;

	if (!sb__parse_designated(key, &slot, &generation, &uid) ||
	    (val.mv_size > 0 && sb__decode_own(key, val, &own)))
		return note_key(arg, SB__DB_DESIGNATED, key, "it is of another form");
	rc = find_session(txn, uid, &rec);
	if (rc == 1)
		rc = sb__session_is_served(&rec) && rec.designated.slot == slot &&
		     rec.designated.generation == generation;
	return note_unless(rc, arg, SB__DB_DESIGNATED, key, "it serves no such session");
}

static int verify_expiry(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__session_rec rec;
	uint64_t expires_ms, uid;
	int rc;

	(void)val;
	if (!sb__parse_expiry(key, &expires_ms, &uid))
		return note_key(arg, SB__DB_EXPIRY, key, "its key is of another form");
	rc = find_session(txn, uid, &rec);
	if (rc == 1)
		rc = rec.expires_ms == expires_ms;
	return note_unless(rc, arg, SB__DB_EXPIRY, key, "no session has that deadline");
}

static int verify_process(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__process_rec rec;
	const char *why = sb__decode_process(key, val, &rec);

	(void)txn;
	return why ? note_key(arg, SB__DB_PROCESSES, key, why) : 0;
}

static int verify_grave(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct verify *verify = arg;
	struct sb__grave_rec grave;
	uint64_t order, incarnation;
	const char *why = sb__decode_grave(val, &grave, &order);
	int rc;

	if (why)
		return note_key(verify, SB__DB_GRAVES, key, why);
	if (!sb__parse_u64(key, &incarnation) || incarnation != grave.incarnation ||
	    incarnation >= verify->next_number)
		(void)note_key(verify, SB__DB_GRAVES, key, "its incarnation contradicts its key");
	rc = has_entry(txn, SB__DB_GRAVE_ORDER, sb__key_uid(order), &key);
	return note_unless(rc, verify, SB__DB_GRAVES, key, "it is not in the order of burial");
}

static int verify_order(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__grave_rec grave;
	uint64_t order, incarnation, at = 0;
	struct sb__key grave_key;
	MDB_val found;
	int rc;

	if (!sb__parse_u64(key, &order) || !sb__parse_u64(val, &incarnation))
		return note_key(arg, SB__DB_GRAVE_ORDER, key, "it is of another form");
	grave_key = sb__key_uid(incarnation);
	rc = sb__txn_get(txn, SB__DB_GRAVES, sb__val_key(&grave_key), &found);
	if (rc == 1)
		rc = !sb__decode_grave(found, &grave, &at) && at == order;
	return note_unless(rc, arg, SB__DB_GRAVE_ORDER, key, "no grave has that place");
}

static int verify_newest_grave(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__grave_rec grave;
	uint64_t order;
	const char *why = sb__decode_grave(val, &grave, &order);
	int rc;

	if (!why && (key.mv_size != strlen(grave.session_id) ||
	             memcmp(key.mv_data, grave.session_id, key.mv_size) != 0))
		why = "it is of another session";
	if (why)
		return note_key(arg, SB__DB_GRAVES_BY_ID, key, why);
	rc = has_entry(txn, SB__DB_GRAVES, sb__key_uid(grave.incarnation), NULL);
	return note_unless(rc, arg, SB__DB_GRAVES_BY_ID, key, "there is no such grave");
}

static int verify_newest_of_uid(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct sb__grave_rec grave;
	uint64_t order, uid;
	const char *why = sb__decode_grave(val, &grave, &order);
	int rc;

	if (!why && (!sb__parse_u64(key, &uid) || uid != grave.session_uid))
		why = "it is of another session";
	if (why)
		return note_key(arg, SB__DB_GRAVES_BY_UID, key, why);
	rc = has_entry(txn, SB__DB_GRAVES, sb__key_uid(grave.incarnation), NULL);
	return note_unless(rc, arg, SB__DB_GRAVES_BY_UID, key, "there is no such grave");
}

static int verify_all(struct sb__txn *txn, void *arg)
{
	static const struct {
		enum sb__db db;
		sb__each_fn each;
	} passes[] = {
		{ SB__DB_PROCESSES, verify_process },
		{ SB__DB_SESSIONS, verify_session },
		{ SB__DB_UIDS, verify_uid },
		{ SB__DB_OWNERS, verify_owner },
		{ SB__DB_BY_PROCESS, verify_by_process },
		{ SB__DB_DESIGNATED, verify_designated },
		{ SB__DB_EXPIRY, verify_expiry },
		{ SB__DB_GRAVES, verify_grave },
		{ SB__DB_GRAVE_ORDER, verify_order },
		{ SB__DB_GRAVES_BY_ID, verify_newest_grave },
		{ SB__DB_GRAVES_BY_UID, verify_newest_of_uid },
	};
	struct verify *verify = arg;
	struct sb__bridge_rec bridge;
	int rc = sb__bridge_load(txn, &bridge);

	if (rc < 0)
		return rc;
	verify->problems = 0;
	verify->next_number = sb__numbers_end(txn);
	for (size_t i = 0; rc == 0 && i < sizeof(passes) / sizeof(passes[0]); i++)
		rc = sb__txn_scan(txn, passes[i].db, sb__val_none(), passes[i].each, verify);
	return rc;
}

int sb__store_verify(struct sb__store *store, void (*problem)(void *arg, const char *line), void *arg)
{
	struct verify *verify = malloc(sizeof(*verify));
	int rc;

	if (!verify)
		return sb__fail_memory("checking the session store");
	rc = sb__txn_read(store, verify_all, verify);
	if (rc == 0) {
		for (unsigned i = 0; problem && i < verify->problems && i < LINES_MAX; i++)
			problem(arg, verify->lines[i]);
		rc = verify->problems > INT32_MAX ? INT32_MAX : (int)verify->problems;
	}
	free(verify);
	return rc;
}
