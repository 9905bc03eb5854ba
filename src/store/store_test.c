/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests need to do to a store behind its back: garbage in records, a full reader table. Part of the
 * static library only by name: nothing calls it, and the shared library does not export it.
 *
 * Locks: LMDB's.  Crash: as a transaction of the store.
 */
#include "store_test.h"

#include <errno.h>
#include <string.h>

#include "store_impl.h"

static int find_db(const struct sb__store *store, const char *name, MDB_dbi *ret)
{
	for (int db = 0; db < SB__DB_COUNT; db++)
		if (strcmp(sb__db_name((enum sb__db)db), name) == 0) {
			*ret = store->dbi[db];
			return 0;
		}
	return EINVAL;
}

int sb__store_test_put(struct sb__store *store, const char *db, const void *key, size_t key_len,
                       const void *val, size_t val_len)
{
	MDB_val k = { .mv_size = key_len, .mv_data = (void *)key };
	MDB_val v = { .mv_size = val_len, .mv_data = (void *)val };
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc = find_db(store, db, &dbi);

	if (rc == 0)
		rc = sb__mdb_begin_write(store, &txn);
	if (rc != 0)
		return rc;
	rc = val ? mdb_put(txn, dbi, &k, &v, 0) : mdb_del(txn, dbi, &k, NULL);
	if (rc == 0)
		return sb__mdb_commit_write(store, txn);
	sb__mdb_abort_write(store, txn);
	return rc;
}

int sb__store_test_get(struct sb__store *store, const char *db, const void *key, size_t key_len, void *val,
                       size_t size)
{
	MDB_val k = { .mv_size = key_len, .mv_data = (void *)key }, v;
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc = find_db(store, db, &dbi);

	if (rc == 0)
		rc = sb__mdb_begin_read(store, &txn);
	if (rc != 0)
		return -rc;
	rc = mdb_get(txn, dbi, &k, &v);
	if (rc == 0)
		memcpy(val, v.mv_data, v.mv_size < size ? v.mv_size : size);
	mdb_txn_abort(txn);
	if (rc != 0)
		return rc < 0 ? rc : -rc;
	return (int)v.mv_size;
}

int sb__store_test_key(struct sb__store *store, const char *db, unsigned n, void *key, size_t size,
                       size_t *ret_len)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	MDB_txn *txn;
	MDB_dbi dbi;
	int rc = find_db(store, db, &dbi);

	if (rc == 0)
		rc = sb__mdb_begin_read(store, &txn);
	if (rc != 0)
		return rc;
	rc = mdb_cursor_open(txn, dbi, &cursor);
	if (rc == 0) {
		rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
		while (rc == 0 && n-- > 0)
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		if (rc == 0 && k.mv_size <= size) {
			memcpy(key, k.mv_data, k.mv_size);
			*ret_len = k.mv_size;
		}
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return rc;
}

unsigned sb__store_test_fill_readers(struct sb__store *store, unsigned count)
{
	static MDB_txn **open_for_ever; /* reachable, so that leak checkers do not mind */
	static size_t all, capacity;
	unsigned n = 0;

	while (n < count && sb__grow((void **)&open_for_ever, &capacity, all, sizeof(MDB_txn *)) == 0 &&
	       sb__mdb_begin_read(store, &open_for_ever[all]) == 0) {
		all++;
		n++;
	}
	return n;
}

int sb__store_test_locked(struct sb__store *store, void (*fn)(void *arg), void *arg)
{
	MDB_txn *txn;
	int rc = sb__mdb_begin_write(store, &txn);

	if (rc != 0)
		return rc;
	fn(arg);
	sb__mdb_abort_write(store, txn);
	return 0;
}
