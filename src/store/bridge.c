/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge record, the numbers of sessions and incarnations, and LMDB's table of readers.
 *
 * Numbers are never used twice while the bridge lives, and grow: they come from the number that LMDB gives the
 * transaction that uses them, NUMBERS of them to each, so that nothing need be written to give one out.
 *
 * Locks: those of txn.c.
 * Crash: a number is given out by the transaction that uses it; killed before its commit, it was not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "os_linux.h"
#include "store_impl.h"

#define NUMBERS 4u /* a transaction needs two at most */

int sb__bridge_load(struct sb__txn *txn, struct sb__bridge_rec *ret)
{
	MDB_val key = sb__val_text("bridge"), val;
	const char *why = "it is missing";
	int rc = sb__txn_get(txn, SB__DB_BRIDGE, key, &val);

	if (rc < 0)
		return rc;
	if (rc == 1)
		why = sb__decode_bridge(val, ret);
	return why ? sb__corrupt(SB__DB_BRIDGE, key, why) : 0;
}

uint64_t sb__numbers_of(struct sb__txn *txn)
{
	return (uint64_t)mdb_txn_id(txn->mdb) * NUMBERS;
}

uint64_t sb__numbers_end(struct sb__txn *txn)
{
	return sb__numbers_of(txn) + NUMBERS;
}

static int read_bridge(struct sb__txn *txn, void *arg)
{
	struct sb__bridge_rec *rec = arg;
	int rc = sb__bridge_load(txn, rec);

	rec->next_number = sb__numbers_end(txn);
	return rc;
}

int sb__store_bridge(struct sb__store *store, struct sb__bridge_rec *ret)
{
	struct sb__bridge_rec rec;
	int rc = sb__txn_read(store, read_bridge, &rec);

	if (rc == 0)
		*ret = rec;
	return rc;
}

/* ── readers ── */

int sb__store_check_readers(struct sb__store *store)
{
	int dead = 0;
	int rc;

	if (store->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "a session store was used across fork()");
	rc = sb__mdb_reader_check(store, &dead);
	if (rc != 0)
		return sb__fail(SB_ESTORE, "the session store's readers cannot be checked: %s",
		                mdb_strerror(rc));
	return dead;
}

/* LMDB prints its table: a line of headings, then one line per slot; or one line in parentheses. */
static int count_line(const char *line, void *arg)
{
	uint32_t *count = arg;
	const char *p = line + strspn(line, " ");

	if (*p >= '0' && *p <= '9')
		*count += 1;
	return 0;
}

static int count_dead(const char *line, void *arg)
{
	uint32_t *dead = arg;
	char *end;
	long pid = strtol(line, &end, 10);

	if (end != line && pid > 0 && pid <= INT32_MAX && sb__os_kill((pid_t)pid, 0) == -ESRCH)
		*dead += 1;
	return 0;
}

int sb__store_readers_of_dead(struct sb__store *store, uint32_t *ret)
{
	uint32_t dead = 0;
	int rc;

	if (store->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "a session store was used across fork()");
	rc = mdb_reader_list(store->env, count_dead, &dead);
	if (rc != 0)
		return sb__fail(SB_ESTORE, "the session store's readers cannot be listed: %s",
		                mdb_strerror(rc));
	*ret = dead;
	return 0;
}

int sb__store_reader_count(struct sb__store *store, uint32_t *ret_used, uint32_t *ret_max)
{
	MDB_envinfo info;
	uint32_t used = 0;
	int rc;

	if (store->epoch != sb__fork_epoch())
		return sb__fail(SB_EBUG, "a session store was used across fork()");
	rc = mdb_env_info(store->env, &info);
	if (rc == 0)
		rc = mdb_reader_list(store->env, count_line, &used);
	if (rc < 0 || rc > 0)
		return sb__fail(SB_ESTORE, "the session store's readers cannot be listed: %s",
		                mdb_strerror(rc));
	*ret_used = used;
	*ret_max = info.me_maxreaders;
	return 0;
}
