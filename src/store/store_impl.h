/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's files share: databases, keys, records as they lie on disk, transactions.
 *
 *   env.c         the environment of this process, made, opened, shared, forgotten
 *   env_files.c   whose files they are
 *   bridge.c      the bridge record and the numbers it gives out
 *   txn.c         a transaction with its recovery, and get/put/del/scan inside one
 *   gate.c        who may wait for LMDB's mutexes
 *   schema.c      keys and records: encode, decode, validate
 *   processes.c  sessions.c  owners.c  expiry.c  graveyard.c   the functions of store.h
 *   verify.c      do records and indexes agree?
 *
 * Lock order: registry lock (env.c), store->lock, a gate, then LMDB's own. A transaction holds store->lock for
 * reading, a change of the map's size holds it for writing.
 */
#ifndef SB_STORE_STORE_IMPL_H
#define SB_STORE_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include <lmdb.h>

#include "store.h"

#define SB__STORE_READERS 4096u

/*
 * X(enumerator, name on disk)            key -> value                      numbers are big-endian
 *
 * bridge             "bridge"                          -> bridge record
 * processes          slot                              -> process record, also of a slot that is free
 * sessions           session id                        -> session record
 * session_uids       uid                               -> session id
 * owners             uid, slot, generation, handle     -> owner record
 * owners_by_process  slot, generation, uid, handle     -> nothing
 * designated         slot, generation, uid             -> owner record of that process's first handle, which then is not among
 *                                                         owners, or nothing; not of orphaned sessions
 * expiry             expires_ms, uid                   -> session id
 * graves             incarnation                       -> grave record
 * grave_order        burial number                     -> incarnation
 * graves_by_id       session id                        -> grave record of its newest end
 * graves_by_uid      uid                               -> the same of one session, whatever has its id now, where that
 *                                                         is not the grave of its first incarnation
 */
#define SB__DB_MAP(X)                             \
	X(SB__DB_BRIDGE, "bridge")                \
	X(SB__DB_PROCESSES, "processes")          \
	X(SB__DB_SESSIONS, "sessions")            \
	X(SB__DB_UIDS, "session_uids")            \
	X(SB__DB_OWNERS, "owners")                \
	X(SB__DB_BY_PROCESS, "owners_by_process") \
	X(SB__DB_DESIGNATED, "designated")        \
	X(SB__DB_EXPIRY, "expiry")                \
	X(SB__DB_GRAVES, "graves")                \
	X(SB__DB_GRAVE_ORDER, "grave_order")      \
	X(SB__DB_GRAVES_BY_ID, "graves_by_id")    \
	X(SB__DB_GRAVES_BY_UID, "graves_by_uid")

enum sb__db {
#define SB__DB_ENUM(name, text) name,
	SB__DB_MAP(SB__DB_ENUM)
#undef SB__DB_ENUM
		SB__DB_COUNT
};
const char *sb__db_name(enum sb__db db);

/* Whoever begins a write transaction holds one gate until its end, whoever looks for a slot in the table of
 * readers the other: see gate.c. */
enum sb__gate { SB__GATE_WRITERS, SB__GATE_READERS, SB__GATE_COUNT };

/* One environment. Never freed: see env.c. */
struct sb__store {
	struct sb__store *next;
	MDB_env *env;
	MDB_dbi dbi[SB__DB_COUNT];
	uint64_t epoch;    /* sb__fork_epoch() of the process that opened it: no other may use it */
	uint64_t dev, ino; /* of data.mdb */
	uint32_t fingerprint;
	unsigned refs;
	int guard; /* lock.mdb, an OFD read lock on byte 0; -1 in a child that dropped it */
	pthread_mutex_t gates[SB__GATE_COUNT];
	pthread_rwlock_t lock;             /* see the lock order above */
	size_t map_size;                   /* under lock */
	void *map;                         /* its address, under lock; NULL: not known */
	atomic_uint_least64_t reserved_to; /* bytes of data.mdb known to have real blocks */
	atomic_bool broken;                /* a change of the map's size left no map */
};

/* env_files.c: 0, or SB_EMODE. */
int sb__env_check_files(int root, const char *folder);

/* ── gates: gate.c ── */

void sb__gates_init(struct sb__store *store); /* with store->guard open */
void sb__gate_enter(struct sb__store *store, enum sb__gate gate);
void sb__gate_leave(struct sb__store *store, enum sb__gate gate);

/* ── transactions: txn.c ── */

/* Notes where the map is, by a record that was read. */
void sb__map_find(struct sb__store *store, const void *record);

/* LMDB's, through the gates. 0 or LMDB's error. */
int sb__mdb_begin_read(struct sb__store *store, MDB_txn **ret);
int sb__mdb_begin_write(struct sb__store *store, MDB_txn **ret);
int sb__mdb_commit_write(struct sb__store *store, MDB_txn *txn);
void sb__mdb_abort_write(struct sb__store *store, MDB_txn *txn);
int sb__mdb_reader_check(struct sb__store *store, int *ret_dead);

struct sb__txn {
	struct sb__store *store;
	MDB_txn *mdb;
	int mdb_error;    /* of the LMDB call that failed; the message is made from it at the end */
	const char *what; /* what that call was to do */
};

/*
 * Runs fn in one transaction. fn returns >= 0 to commit (it is the result) or a negative code, its message
 * set, to abort. It may be run again after a failure that could be healed, so it writes its results only
 * as the last thing, or such that a second run overwrites them.
 */
typedef int (*sb__txn_fn)(struct sb__txn *txn, void *arg);
int sb__txn_read(struct sb__store *store, sb__txn_fn fn, void *arg);
int sb__txn_write(struct sb__store *store, sb__txn_fn fn, void *arg);
/* The same for what makes the store larger: refused while there is still room for what makes it smaller. */
int sb__txn_write_more(struct sb__store *store, sb__txn_fn fn, void *arg);

/* Notes an LMDB error for the end of the transaction; returns a negative number to pass up. */
int sb__txn_fail(struct sb__txn *txn, int mdb_error, const char *what);
/* Sets the message for an LMDB error and returns its code. fd: any file in the bridge's file system. */
int sb__mdb_report(int fd, int mdb_error, const char *what);

int sb__txn_get(struct sb__txn *txn, enum sb__db db, MDB_val key, MDB_val *ret); /* 1, 0, < 0 */
int sb__txn_put(struct sb__txn *txn, enum sb__db db, MDB_val key, MDB_val val);  /* 0, < 0 */
int sb__txn_del(struct sb__txn *txn, enum sb__db db, MDB_val key);               /* 1, 0, < 0 */
/* Entries whose key begins with prefix, in order; or all behind a key (an empty one: all). each returns 0
 * to go on, else the scan ends with that. It must not write. */
typedef int (*sb__each_fn)(struct sb__txn *txn, void *arg, MDB_val key, MDB_val val);
int sb__txn_scan(struct sb__txn *txn, enum sb__db db, MDB_val prefix, sb__each_fn each, void *arg);
int sb__txn_scan_after(struct sb__txn *txn, enum sb__db db, MDB_val key, sb__each_fn each, void *arg);
/* First entry with that prefix, or last entry of all with an empty one: 1, 0, < 0. */
int sb__txn_first(struct sb__txn *txn, enum sb__db db, MDB_val prefix, MDB_val *ret_key, MDB_val *ret);
int sb__txn_last(struct sb__txn *txn, enum sb__db db, MDB_val *ret_key, MDB_val *ret);

/* Makes room for one more in a malloc'ed array. */
int sb__grow(void **items, size_t *capacity, size_t count, size_t item_size);

/* ── keys and records: schema.c ── */

struct sb__key {
	size_t len;
	uint8_t bytes[24];
};
struct sb__key sb__key_uid(uint64_t uid); /* also for incarnations and burial numbers */
struct sb__key sb__key_slot(uint32_t slot);
struct sb__key sb__key_owner(const struct sb__owner_rec *owner);
struct sb__key sb__key_by_process(const struct sb__owner_rec *owner);
struct sb__key sb__key_process(uint32_t slot, uint32_t generation); /* prefix of the former */
struct sb__key sb__key_designated(const struct sb__session_rec *rec);
struct sb__key sb__key_own(const struct sb__owner_rec *owner); /* the same by an owner record */
struct sb__key sb__key_expiry(uint64_t expires_ms, uint64_t uid);
MDB_val sb__val_key(const struct sb__key *key); /* borrows */
MDB_val sb__val_text(const char *text);
MDB_val sb__val_none(void);

/* Readers of keys: false if it is not such a key. */
bool sb__parse_u64(MDB_val key, uint64_t *ret);
bool sb__parse_slot(MDB_val key, uint32_t *ret);
bool sb__parse_owner(MDB_val key, struct sb__owner_rec *ret);      /* fills the fields of the key */
bool sb__parse_by_process(MDB_val key, struct sb__owner_rec *ret); /* the same */
bool sb__parse_designated(MDB_val key, uint32_t *ret_slot, uint32_t *ret_generation, uint64_t *ret_uid);
bool sb__parse_expiry(MDB_val key, uint64_t *ret_expires_ms, uint64_t *ret_uid);
bool sb__parse_id(MDB_val val, char id[SB_SESSION_ID_MAX + 1]); /* a valid session id */

struct sb__process_rec {
	bool taken;
	uint32_t generation; /* the last one given out */
	struct sb__identity identity;
};

/* A record being written; val borrows. */
struct sb__image {
	size_t len;
	_Alignas(8) uint8_t bytes[SB_TAGS_BYTES_MAX + SB_POLICY_BYTES_MAX + 512];
};
MDB_val sb__val_image(const struct sb__image *image);
void sb__encode_bridge(const struct sb__bridge_rec *rec, struct sb__image *ret);
void sb__encode_process(const struct sb__process_rec *rec, struct sb__image *ret);
void sb__encode_session(const struct sb__session_rec *rec, struct sb__image *ret);
void sb__encode_owner(const struct sb__owner_rec *rec, struct sb__image *ret);
void sb__encode_grave(const struct sb__grave_rec *rec, uint64_t order, struct sb__image *ret);

/* NULL, or what is wrong with the bytes; then *ret is undefined. */
const char *sb__decode_bridge(MDB_val val, struct sb__bridge_rec *ret);
const char *sb__decode_process(MDB_val key, MDB_val val, struct sb__process_rec *ret);
const char *sb__decode_session(MDB_val key, MDB_val val, struct sb__session_rec *ret);
const char *sb__decode_session_brief(MDB_val val, struct sb__session_brief *ret);
const char *sb__decode_owner(MDB_val key, MDB_val val, struct sb__owner_rec *ret);
/* Of the index of designated owners; not of an entry that holds nothing. */
const char *sb__decode_own(MDB_val key, MDB_val val, struct sb__owner_rec *ret);
const char *sb__decode_grave(MDB_val val, struct sb__grave_rec *ret, uint64_t *ret_order);
/* Schema and fingerprint stand where every version looks for them: false if the value is too short. */
bool sb__peek_bridge(MDB_val val, uint32_t *ret_schema, uint32_t *ret_fingerprint);
/* NULL, or why the record must not be written. */
const char *sb__check_session(const struct sb__session_rec *rec);

/* SB_ECORRUPT naming database and key. */
int sb__corrupt(enum sb__db db, MDB_val key, const char *why);

/* ── inside a transaction ── */

/* bridge.c */
int sb__bridge_load(struct sb__txn *txn, struct sb__bridge_rec *ret); /* all but next_number */
/* The first of the numbers that a transaction that writes may use for uids and incarnations, once; and the first that none has
 * used that one which reads can see. */
uint64_t sb__numbers_of(struct sb__txn *txn);
uint64_t sb__numbers_end(struct sb__txn *txn);
/* A session is created with these two numbers. */
static inline uint64_t sb__first_incarnation(uint64_t uid)
{
	return uid + 1;
}

/* sessions.c: 1 and *ret, 0, < 0 */
int sb__session_load(struct sb__txn *txn, const char *session_id, struct sb__session_rec *ret);
int sb__session_load_uid(struct sb__txn *txn, uint64_t uid, struct sb__session_rec *ret);
int sb__session_save(struct sb__txn *txn, const struct sb__session_rec *rec);
/* Removes the session, its owners and index entries, and buries its incarnation. */
int sb__session_remove(struct sb__txn *txn, const struct sb__session_rec *rec, enum sb__end_reason reason);
/* Does the index of designated owners list it? */
bool sb__session_is_served(const struct sb__session_rec *rec);

/* owners.c */
/* What the entry of a designated owner holds, in *ret, which says by slot, generation and session_uid whose: 1, 0, < 0. */
int sb__own_load(struct sb__txn *txn, struct sb__owner_rec *ret);
/* The session is about to lose its designated owner: what its entry holds becomes an owner record like any other. */
int sb__own_release(struct sb__txn *txn, const struct sb__session_rec *rec);
int sb__owner_insert(struct sb__txn *txn, const struct sb__owner_rec *owner); /* 1 new, 0 is there */
int sb__owners_remove_all(struct sb__txn *txn, uint64_t uid);

/* expiry.c */
int sb__expiry_file(struct sb__txn *txn, const struct sb__session_rec *rec);
int sb__expiry_unfile(struct sb__txn *txn, const struct sb__session_rec *rec);
/* The record changes as by an access that no mailbox keeps: its TTL begins anew. The caller saves rec. 0 or a code. */
int sb__expiry_slide(struct sb__txn *txn, struct sb__session_rec *rec);
uint64_t sb__expires_at(uint64_t last_access_ms, uint64_t ttl_ms); /* 0 = never */

/* graveyard.c */
int sb__bury(struct sb__txn *txn, const struct sb__session_rec *rec, enum sb__end_reason reason);

#endif
