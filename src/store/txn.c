/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: begin, run, commit or abort, and the recovery that LMDB leaves to its user.
 *
 *   MDB_READERS_FULL  clear the slots of dead readers, try again
 *   MDB_MAP_FULL      the same (dead readers keep old pages), then double the map
 *   MDB_MAP_RESIZED   another process doubled it: map as much, with every transaction of this process out
 *
 * A store that is full must still be able to end sessions, or nobody could ever make room; and in LMDB a
 * deletion needs free pages, too. So what adds records (sb__txn_write_more) keeps blocks in reserve behind the
 * last page and fails when it cannot, and may grow the map only to half of what the rest may.
 *
 * A transaction is run from its beginning again after each of these, so its body is written to be rerun.
 * A body never calls other layers, waits, or does I/O.
 *
 * Lock order: store->lock (read for a transaction, write to change the map), a gate, then LMDB's mutexes. LMDB's
 * write lock has no timeout: a writer stopped by SIGSTOP holds up all others, so bodies are short.
 *
 * Crash story: a kill anywhere leaves the last committed state. LMDB's mutexes are robust: the next locker
 * repairs them; the reader slot of the dead is cleared by the reaper or by the recovery above.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "os_linux.h"
#include "point.h"
#include "store_impl.h"
#include "store_test.h"

#define ATTEMPTS_MAX 16u
#define FULL_BELOW   UINT64_C(65536) /* bytes: a file system with less is taken for full */
#define MIB          ((size_t)1024 * 1024)
#define MAP_BOUND    (16 * 1024 * MIB)
#define RESERVE      UINT64_C(262144) /* bytes; a transaction here dirties some 20 pages */
#define FAILED       (-1000)          /* sb__txn_fail(): the message is still to be made */

static size_t map_bound = MAP_BOUND;

void sb__store_test_map_bound(size_t bytes)
{
	map_bound = bytes ? bytes : MAP_BOUND;
}

/* ── errors ── */

static bool is_space(int fd, int mdb_error)
{
	if (mdb_error == ENOSPC || mdb_error == EDQUOT)
		return true;
	/* A full tmpfs writes less than was asked, which LMDB calls EIO. */
	return mdb_error == EIO && sb__os_fs_free(fd) < FULL_BELOW;
}

int sb__mdb_report(int fd, int mdb_error, const char *what)
{
	if (is_space(fd, mdb_error))
		return sb__fail_errno(SB_ENOSPACE, mdb_error,
		                      "could not %s: the bridge's file system is full; free space "
		                      "there or give the bridge a larger tmpfs",
		                      what);
	switch (mdb_error) {
	case ENOMEM: return sb__fail_memory("the session store");
	case MDB_MAP_FULL:
		return sb__fail(SB_ENOSPACE,
		                "could not %s: the session store has grown to its limit; release "
		                "sessions, or spread them over several bridges",
		                what);
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_NOTFOUND:
		return sb__fail(SB_ECORRUPT,
		                "could not %s: the session store is damaged (%s); stop its processes "
		                "and remove the bridge's directory",
		                what, mdb_strerror(mdb_error));
	case MDB_VERSION_MISMATCH:
		return sb__fail(SB_EVERSION,
		                "could not %s: it was made by another version of LMDB than %s; use "
		                "the same one everywhere",
		                what, mdb_version(NULL, NULL, NULL));
	case MDB_PANIC:
		return sb__fail(SB_ESTORE,
		                "could not %s: the session store failed earlier in this process; "
		                "restart the process",
		                what);
	case MDB_READERS_FULL:
		return sb__fail(SB_ESTORE,
		                "could not %s: too many transactions read the session store at a "
		                "time; try again",
		                what);
	default: break;
	}
	if (mdb_error > 0)
		return sb__fail_errno(SB_ESTORE, mdb_error, "could not %s", what);
	return sb__fail(SB_ESTORE, "could not %s: %s", what, mdb_strerror(mdb_error));
}

int sb__txn_fail(struct sb__txn *txn, int mdb_error, const char *what)
{
	txn->mdb_error = mdb_error;
	txn->what = what;
	return FAILED;
}

static int report(const struct sb__txn *txn)
{
	mdb_filehandle_t fd = -1;

	(void)mdb_env_get_fd(txn->store->env, &fd);
	return sb__mdb_report(fd, txn->mdb_error, txn->what);
}

/* ── through the gates ── */

int sb__mdb_begin_read(struct sb__store *store, MDB_txn **ret)
{
	int rc;

	sb__gate_enter(store, SB__GATE_READERS);
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, ret);
	sb__gate_leave(store, SB__GATE_READERS);
	return rc;
}

int sb__mdb_begin_write(struct sb__store *store, MDB_txn **ret)
{
	int rc;

	sb__gate_enter(store, SB__GATE_WRITERS);
	rc = mdb_txn_begin(store->env, NULL, 0, ret);
	if (rc != 0)
		sb__gate_leave(store, SB__GATE_WRITERS);
	return rc;
}

int sb__mdb_commit_write(struct sb__store *store, MDB_txn *txn)
{
	int rc = mdb_txn_commit(txn);

	sb__gate_leave(store, SB__GATE_WRITERS);
	return rc;
}

void sb__mdb_abort_write(struct sb__store *store, MDB_txn *txn)
{
	mdb_txn_abort(txn);
	sb__gate_leave(store, SB__GATE_WRITERS);
}

int sb__mdb_reader_check(struct sb__store *store, int *ret_dead)
{
	int rc;

	sb__gate_enter(store, SB__GATE_READERS);
	rc = mdb_reader_check(store->env, ret_dead);
	sb__gate_leave(store, SB__GATE_READERS);
	return rc;
}

/* ── the map's size ── */

/* Under the write lock: no transaction of this process is active. */
static bool set_map_size(struct sb__store *store, size_t size)
{
	int rc;

	if (size == store->map_size)
		return true;
	/* LMDB unmaps first: if the new mapping failed after that, the environment would have none. */
	if (!sb__os_map_fits(size))
		return false;
	store->map = NULL;
	rc = mdb_env_set_mapsize(store->env, size);
	if (rc != 0) {
		atomic_store(&store->broken, true);
		return false;
	}
	store->map_size = size;
	return true;
}

/* The store is full: doubles the map, unless somebody did since a transaction saw it as `seen`. */
static bool grow_map(struct sb__store *store, size_t seen, size_t bound)
{
	bool grown = true;

	(void)pthread_rwlock_wrlock(&store->lock);
	if (store->map_size <= seen)
		grown = store->map_size <= bound / 2 && set_map_size(store, store->map_size * 2);
	(void)pthread_rwlock_unlock(&store->lock);
	return grown;
}

/*
 * The data outgrew this process's map. Not mdb_env_set_mapsize(0), which takes over a size that need not fit
 * this process's address space and leaves no map if it does not.
 */
static bool follow_map(struct sb__store *store)
{
	MDB_envinfo info;
	MDB_stat stat;
	size_t needed, size;
	bool fits = true;

	(void)pthread_rwlock_wrlock(&store->lock);
	if (mdb_env_info(store->env, &info) == 0 && mdb_env_stat(store->env, &stat) == 0) {
		needed = (info.me_last_pgno + 1) * (size_t)stat.ms_psize;
		size = store->map_size;
		while (size < needed)
			size *= 2;
		fits = set_map_size(store, size);
	}
	(void)pthread_rwlock_unlock(&store->lock);
	return fits;
}

/* ── the map's pages ── */

#define PAGE_HEAD  16u /* bytes; the page's number comes first */
#define PAGE_MAGIC UINT32_C(0xbeefc0de)

/* LMDB tells nobody where its map is. But each page of its file begins with its number (data version 1, on which
 * mdb_env_open() insists), so the address of a record leads there. Believed where page 0 is found. */
void sb__map_find(struct sb__store *store, const void *record)
{
	uintptr_t at = (uintptr_t)record;
	MDB_envinfo info;
	MDB_stat stat;
	uint32_t magic;
	size_t number;

	if (mdb_env_info(store->env, &info) != 0 || mdb_env_stat(store->env, &stat) != 0)
		return;
	at -= at % stat.ms_psize;
	memcpy(&number, (const void *)at, sizeof(number));
	if (number > info.me_last_pgno || number > at / stat.ms_psize)
		return;
	at -= number * stat.ms_psize;
	if (!sb__os_is_mapped((const void *)at, stat.ms_psize))
		return;
	memcpy(&number, (const void *)at, sizeof(number));
	memcpy(&magic, (const uint8_t *)at + PAGE_HEAD, sizeof(magic));
	if (number == 0 && magic == PAGE_MAGIC)
		store->map = (void *)at;
}

void sb__store_unload(struct sb__store *store)
{
	if (store->epoch != sb__fork_epoch())
		return;
	(void)pthread_rwlock_rdlock(&store->lock);
	if (store->map)
		sb__os_unload(store->map, store->map_size);
	(void)pthread_rwlock_unlock(&store->lock);
}

enum mode { READ, WRITE, WRITE_MORE };

/* Could the failure be healed, so that it is worth another try? */
static bool recover(const struct sb__txn *txn, unsigned attempt, size_t seen, enum mode mode)
{
	struct sb__store *store = txn->store;
	int dead = 0;

	switch (txn->mdb_error) {
	case MDB_READERS_FULL: (void)sb__mdb_reader_check(store, &dead); return dead > 0 || attempt == 0;
	case MDB_MAP_FULL:
		if (attempt == 0)
			return sb__mdb_reader_check(store, &dead) == 0;
		return grow_map(store, seen, mode == WRITE_MORE ? map_bound : 2 * map_bound);
	case MDB_MAP_RESIZED: return follow_map(store);
	default: return false;
	}
}

/* ── running ── */

/* Has the file as many blocks as bytes, and enough of them? Then another process reserved them. */
static bool reserved_by_others(mdb_filehandle_t fd, uint64_t wanted)
{
	struct stat st;

	return sb__os_fstat(fd, &st) == 0 && (uint64_t)st.st_size >= wanted &&
	       st.st_blocks * 512 >= st.st_size;
}

/* Real blocks behind the last page. 0 or LMDB's way of saying errno. */
static int keep_reserve(struct sb__store *store)
{
	mdb_filehandle_t fd;
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t end;
	int rc;

	if (mdb_env_info(store->env, &info) != 0 || mdb_env_stat(store->env, &stat) != 0 ||
	    mdb_env_get_fd(store->env, &fd) != 0)
		return 0;
	end = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
	if (end + RESERVE / 2 <= atomic_load(&store->reserved_to))
		return 0;
	if (reserved_by_others(fd, end + RESERVE / 2)) {
		atomic_store(&store->reserved_to, end + RESERVE / 2);
		return 0;
	}
	rc = sb__os_reserve(fd, (off_t)end, (off_t)RESERVE);
	if (rc == 0)
		atomic_store(&store->reserved_to, end + RESERVE);
	SB_POINT("txn.reserved");
	return rc == -ENOSPC || rc == -EDQUOT ? -rc : 0; /* others: a file system that cannot */
}

static int run_once(struct sb__txn *txn, enum mode mode, sb__txn_fn fn, void *arg)
{
	int mdb_rc = mode == WRITE_MORE ? keep_reserve(txn->store) : 0;
	int rc;

	if (mdb_rc == 0)
		mdb_rc = mode == READ ? sb__mdb_begin_read(txn->store, &txn->mdb)
		                      : sb__mdb_begin_write(txn->store, &txn->mdb);
	if (mdb_rc != 0)
		return sb__txn_fail(txn, mdb_rc, "begin a transaction of the session store");
	SB_POINT("txn.begun");
	rc = fn(txn, arg);
	if (mode == READ) {
		mdb_txn_abort(txn->mdb); /* takes no mutex */
		return rc;
	}
	if (rc < 0) {
		sb__mdb_abort_write(txn->store, txn->mdb);
		return rc;
	}
	SB_POINT("txn.changed");
	mdb_rc = sb__mdb_commit_write(txn->store, txn->mdb);
	SB_POINT("txn.committed");
	return mdb_rc == 0 ? rc : sb__txn_fail(txn, mdb_rc, "commit to the session store");
}

static int run(struct sb__store *store, enum mode mode, sb__txn_fn fn, void *arg)
{
	for (unsigned attempt = 0;; attempt++) {
		struct sb__txn txn = { .store = store };
		size_t seen;
		int rc;

		if (store->epoch != sb__fork_epoch())
			return sb__fail(SB_EBUG, "a session store was used across fork()");
		if (atomic_load(&store->broken))
			return sb__fail(SB_ESTORE, "the session store could not be mapped again after it "
			                           "grew; raise RLIMIT_AS and "
			                           "restart the process");
		(void)pthread_rwlock_rdlock(&store->lock);
		seen = store->map_size;
		rc = run_once(&txn, mode, fn, arg);
		(void)pthread_rwlock_unlock(&store->lock);
		if (txn.mdb_error == 0)
			return rc;
		if (attempt == ATTEMPTS_MAX || !recover(&txn, attempt, seen, mode))
			return report(&txn);
	}
}

int sb__txn_read(struct sb__store *store, sb__txn_fn fn, void *arg)
{
	return run(store, READ, fn, arg);
}

int sb__txn_write(struct sb__store *store, sb__txn_fn fn, void *arg)
{
	return run(store, WRITE, fn, arg);
}

int sb__txn_write_more(struct sb__store *store, sb__txn_fn fn, void *arg)
{
	return run(store, WRITE_MORE, fn, arg);
}

/* ── inside ── */

int sb__txn_get(struct sb__txn *txn, enum sb__db db, MDB_val key, MDB_val *ret)
{
	int rc = mdb_get(txn->mdb, txn->store->dbi[db], &key, ret);

	if (rc == MDB_NOTFOUND)
		return 0;
	return rc == 0 ? 1 : sb__txn_fail(txn, rc, "read the session store");
}

int sb__txn_put(struct sb__txn *txn, enum sb__db db, MDB_val key, MDB_val val)
{
	int rc = mdb_put(txn->mdb, txn->store->dbi[db], &key, &val, 0);

	return rc == 0 ? 0 : sb__txn_fail(txn, rc, "write to the session store");
}

int sb__txn_del(struct sb__txn *txn, enum sb__db db, MDB_val key)
{
	int rc = mdb_del(txn->mdb, txn->store->dbi[db], &key, NULL);

	if (rc == MDB_NOTFOUND)
		return 0;
	return rc == 0 ? 1 : sb__txn_fail(txn, rc, "delete from the session store");
}

static bool has_prefix(MDB_val key, MDB_val prefix)
{
	return key.mv_size >= prefix.mv_size && memcmp(key.mv_data, prefix.mv_data, prefix.mv_size) == 0;
}

/* Visits from the entry that `op` finds with *key, while the keys have the prefix. */
static int scan(struct sb__txn *txn, enum sb__db db, MDB_cursor_op op, MDB_val key, MDB_val prefix,
                sb__each_fn each, void *arg)
{
	MDB_cursor *cursor;
	MDB_val after = key, val;
	int result = 0;
	int rc = mdb_cursor_open(txn->mdb, txn->store->dbi[db], &cursor);

	if (rc != 0)
		return sb__txn_fail(txn, rc, "read the session store");
	rc = mdb_cursor_get(cursor, &key, &val, op);
	if (rc == 0 && after.mv_size > prefix.mv_size && key.mv_size == after.mv_size &&
	    has_prefix(key, after))
		rc = mdb_cursor_get(cursor, &key, &val, MDB_NEXT);
	while (rc == 0 && has_prefix(key, prefix)) {
		result = each(txn, arg, key, val);
		if (result != 0)
			break;
		rc = mdb_cursor_get(cursor, &key, &val, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	if (rc != 0 && rc != MDB_NOTFOUND)
		return sb__txn_fail(txn, rc, "read the session store");
	return result;
}

int sb__txn_scan(struct sb__txn *txn, enum sb__db db, MDB_val prefix, sb__each_fn each, void *arg)
{
	return scan(txn, db, prefix.mv_size ? MDB_SET_RANGE : MDB_FIRST, prefix, prefix, each, arg);
}

int sb__txn_scan_after(struct sb__txn *txn, enum sb__db db, MDB_val key, sb__each_fn each, void *arg)
{
	return scan(txn, db, key.mv_size ? MDB_SET_RANGE : MDB_FIRST, key, sb__val_none(), each, arg);
}

static int get_one(struct sb__txn *txn, enum sb__db db, MDB_cursor_op op, MDB_val *key, MDB_val *val)
{
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn->mdb, txn->store->dbi[db], &cursor);

	if (rc != 0)
		return sb__txn_fail(txn, rc, "read the session store");
	rc = mdb_cursor_get(cursor, key, val, op);
	mdb_cursor_close(cursor);
	if (rc == MDB_NOTFOUND)
		return 0;
	return rc == 0 ? 1 : sb__txn_fail(txn, rc, "read the session store");
}

int sb__txn_first(struct sb__txn *txn, enum sb__db db, MDB_val prefix, MDB_val *ret_key, MDB_val *ret)
{
	int rc;

	*ret_key = prefix;
	rc = get_one(txn, db, prefix.mv_size ? MDB_SET_RANGE : MDB_FIRST, ret_key, ret);
	return rc == 1 ? has_prefix(*ret_key, prefix) : rc;
}

int sb__txn_last(struct sb__txn *txn, enum sb__db db, MDB_val *ret_key, MDB_val *ret)
{
	return get_one(txn, db, MDB_LAST, ret_key, ret);
}

int sb__grow(void **items, size_t *capacity, size_t count, size_t item_size)
{
	size_t wanted = *capacity ? *capacity * 2 : 16;
	void *grown;

	if (count < *capacity)
		return 0;
	grown = realloc(*items, wanted * item_size);
	if (!grown)
		return sb__fail_memory("a list from the session store");
	*items = grown;
	*capacity = wanted;
	return 0;
}
