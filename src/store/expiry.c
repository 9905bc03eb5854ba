/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When sessions expire: entries (expires_ms, uid) in the order in which they are due.
 *
 * The entry is a lower bound. An access does not move it (no transaction on the call path); whoever finds
 * an entry due asks for the session's last access and either ends the session or files it anew. The last access is in
 * the mailbox. While there is none (its designated owner died, or the next one is not ready), changes of the record
 * move the entry instead: nobody knows when the session was used last, so its TTL begins anew.
 *
 * Locks: those of txn.c.  Crash: record and entry change in one transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "store_impl.h"

uint64_t sb__expires_at(uint64_t last_access_ms, uint64_t ttl_ms)
{
	if (ttl_ms == 0)
		return 0;
	return ttl_ms > UINT64_MAX - last_access_ms ? UINT64_MAX : last_access_ms + ttl_ms;
}

int sb__expiry_file(struct sb__txn *txn, const struct sb__session_rec *rec)
{
	struct sb__key key = sb__key_expiry(rec->expires_ms, rec->uid);

	if (rec->expires_ms == 0)
		return 0;
	return sb__txn_put(txn, SB__DB_EXPIRY, sb__val_key(&key), sb__val_text(rec->session_id));
}

int sb__expiry_unfile(struct sb__txn *txn, const struct sb__session_rec *rec)
{
	struct sb__key key = sb__key_expiry(rec->expires_ms, rec->uid);
	int rc = 0;

	if (rec->expires_ms != 0)
		rc = sb__txn_del(txn, SB__DB_EXPIRY, sb__val_key(&key));
	return rc < 0 ? rc : 0;
}

int sb__expiry_slide(struct sb__txn *txn, struct sb__session_rec *rec)
{
	uint64_t due = sb__expires_at(sb__now_ms(), rec->ttl_ms);
	int rc;

	if (due <= rec->expires_ms)
		return 0;
	rc = sb__expiry_unfile(txn, rec);
	rec->expires_ms = due;
	return rc < 0 ? rc : sb__expiry_file(txn, rec);
}

struct expire {
	const char *session_id;
	uint64_t uid, last_access_ms, now_ms;
	struct sb__session_rec rec;
};

static int refile(struct sb__txn *txn, struct sb__session_rec *rec, uint64_t expires_ms)
{
	int rc;

	if (expires_ms <= rec->expires_ms) /* an entry never moves to an earlier time */
		return 0;
	rc = sb__expiry_unfile(txn, rec);
	rec->expires_ms = expires_ms;
	if (rc == 0)
		rc = sb__session_save(txn, rec);
	if (rc == 0)
		rc = sb__expiry_file(txn, rec);
	return rc;
}

static int expire_session(struct sb__txn *txn, void *arg)
{
	struct expire *expire = arg;
	struct sb__session_rec *rec = &expire->rec;
	uint64_t due;
	int rc = sb__session_load(txn, expire->session_id, rec);

	if (rc != 1 || (expire->uid != 0 && rec->uid != expire->uid) || rec->ttl_ms == 0)
		return rc < 0 ? rc : 0;
	due = sb__expires_at(expire->last_access_ms, rec->ttl_ms);
	if (rec->expires_ms > expire->now_ms || due > expire->now_ms)
		return refile(txn, rec, due);
	rc = sb__session_remove(txn, rec, SB__END_EXPIRED);
	return rc < 0 ? rc : 1;
}

int sb__store_session_expire(struct sb__store *store, const char *session_id, uint64_t uid,
                             uint64_t last_access_ms, uint64_t now_ms, struct sb__session_rec *ret)
{
	struct expire expire = {
		.session_id = session_id, .uid = uid, .last_access_ms = last_access_ms, .now_ms = now_ms
	};
	int rc = sb__txn_write(store, expire_session, &expire);

	if (rc == 1 && ret)
		*ret = expire.rec;
	return rc;
}

struct due {
	uint64_t now_ms;
	size_t max;
	struct sb__session_rec *recs;
	size_t count, capacity;
};

static int collect_due(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val)
{
	struct due *due = arg;
	struct sb__session_rec *rec;
	uint64_t expires_ms, uid;
	int rc;

	(void)val; /* the id: the record by uid has it too, and is checked */
	if (!sb__parse_expiry(key, &expires_ms, &uid))
		return sb__corrupt(SB__DB_EXPIRY, key, "its key is of another form");
	if (expires_ms > due->now_ms || due->count == due->max)
		return 1;
	rc = sb__grow((void **)&due->recs, &due->capacity, due->count, sizeof(*due->recs));
	if (rc < 0)
		return rc;
	rec = &due->recs[due->count];
	rc = sb__session_load_uid(txn, uid, rec);
	if (rc == 0 || (rc == 1 && rec->expires_ms != expires_ms))
		return sb__corrupt(SB__DB_EXPIRY, key, "no session has that deadline");
	if (rc < 0)
		return rc;
	due->count++;
	return 0;
}

static int list_due(struct sb__txn *txn, void *arg)
{
	struct due *due = arg;

	due->count = 0;
	return sb__txn_scan(txn, SB__DB_EXPIRY, sb__val_none(), collect_due, due);
}

int sb__store_due(struct sb__store *store, uint64_t now_ms, size_t max, struct sb__session_rec **ret,
                  size_t *ret_count)
{
	struct due due = { .now_ms = now_ms, .max = max };
	int rc = sb__txn_read(store, list_due, &due);

	if (rc < 0) {
		free(due.recs);
		return rc;
	}
	*ret = due.recs;
	*ret_count = due.count;
	return 0;
}
