/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The LMDB environment of this process for one bridge: made, opened, checked, shared, forgotten.
 *
 * One per process and data.mdb (device, inode), in a registry: LMDB's POSIX locks do not bear a second one,
 * since closing any descriptor of lock.mdb drops them all. For the same reason a published environment is
 * never closed; sb__store_close() only counts, and the next open of the directory finds it again. As a
 * second line lock.mdb is opened once more after LMDB did, and that descriptor holds an OFD read lock on
 * byte 0 for ever (and is the gates': gate.c): it keeps other processes from re-initialising the mutexes even if our POSIX locks were
 * dropped by a stray close.
 *
 * Fork: a child never touches the parent's environment, not even to close it (that would clear the
 * parent's reader slots). The registry is keyed by sb__fork_epoch(): a child begins an empty one, so the
 * parent's registry lock, which another thread may have held at the fork, does not matter to it. What it
 * inherited stays mapped, with two or three descriptors, until it ends or execs.
 *
 * Making one: whole in "lmdb.new.<random>", then renamed to "lmdb". Whoever renames first wins; the others
 * remove theirs. lock.mdb gets real blocks first: LMDB makes it sparse, and touching a hole on a full
 * tmpfs is SIGBUS.
 *
 * Lock order: registry lock, a gate, then LMDB's.
 *
 * Crash story: a kill while making leaves a "lmdb.new.…" directory that nobody reads;
 * sb__store_sweep_temporary() removes it. A kill later leaves a reader slot at most (see txn.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "identity.h"
#include "ids.h"
#include "os_linux.h"
#include "point.h"
#include "store_impl.h"
#include "store_test.h"

#define FINAL_NAME    "lmdb"
#define TEMPORARY     "lmdb.new."
#define NAME_SIZE     (sizeof(TEMPORARY) + 16)
#define MIB           ((size_t)1024 * 1024)
#define MAP_FIRST     (1024 * MIB)
#define MAP_LEAST     (64 * MIB)
#define OPEN_ATTEMPTS 16
#define TEMPORARY_AGE 60 /* seconds after which its maker is taken for dead; if not, it makes another */

/* What LMDB asks for SB__STORE_READERS, in whole pages: a header and 64 bytes per reader. LMDB takes the
 * number of readers from the file's size, so a little more only means a few more readers. */
#define LOCK_FILE_BYTES ((off_t)SB__STORE_READERS * 64 + 4096)

struct registry {
	uint64_t epoch;
	pthread_mutex_t lock;
	struct sb__store *stores;
	struct registry *older; /* the parent's, never used: only so that leak checkers see it */
};

static _Atomic(struct registry *) registries;
static size_t map_first = MAP_FIRST;

void sb__store_test_map_size(size_t bytes)
{
	map_first = bytes ? bytes : MAP_FIRST;
}

/* The registry of this process, or NULL without memory. Lock-free: a fork at any time does no harm. */
static struct registry *get_registry(void)
{
	uint64_t epoch = sb__fork_epoch();
	struct registry *current = atomic_load(&registries);

	while (!current || current->epoch != epoch) {
		struct registry *mine = calloc(1, sizeof(*mine));

		if (!mine)
			return NULL;
		mine->epoch = epoch;
		mine->older = current;
		(void)pthread_mutex_init(&mine->lock, NULL);
		if (atomic_compare_exchange_strong(&registries, &current, mine))
			return mine;
		(void)pthread_mutex_destroy(&mine->lock);
		free(mine);
	}
	return current;
}

/* ── LMDB's own opening ── */

static void log_assertion(MDB_env *env, const char *message)
{
	(void)env;
	sb__log(SB_LOG_WARN, "LMDB: %s", message);
}

static int open_env_sized(const char *path, size_t map_size, MDB_env **ret)
{
	MDB_env *env;
	int rc = mdb_env_create(&env);

	if (rc != 0)
		return rc;
	(void)mdb_env_set_assert(env, log_assertion);
	rc = mdb_env_set_maxdbs(env, SB__DB_COUNT);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(env, SB__STORE_READERS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(env, map_size);
	if (rc == 0)
		rc = mdb_env_open(env, path, MDB_NOTLS, 0600);
	if (rc != 0) {
		mdb_env_close(env); /* not published, and no other of this file in this process */
		return rc;
	}
	*ret = env;
	return 0;
}

/* Opens <root>/<name>; with less address space if need be. 0 or LMDB's error. */
static int open_env(int root, const char *name, MDB_env **ret, size_t *ret_map_size)
{
	char path[64 + NAME_SIZE];
	size_t size = map_first;
	size_t least = map_first < MAP_LEAST ? map_first : MAP_LEAST;
	int rc;

	/* thread-self: also right when the main thread has ended. */
	(void)snprintf(path, sizeof(path), "/proc/thread-self/fd/%d/%s", root, name);
	for (int interrupted = 0;;) {
		rc = open_env_sized(path, size, ret);
		if (rc == ENOMEM && size / 2 >= least)
			size /= 2;
		else if (rc != EINTR || ++interrupted == OPEN_ATTEMPTS) /* LMDB reads a stale errno */
			break;
	}
	*ret_map_size = size;
	return rc;
}

static int open_databases(MDB_txn *txn, unsigned flags, MDB_dbi dbi[SB__DB_COUNT])
{
	int rc = 0;

	for (int db = 0; rc == 0 && db < SB__DB_COUNT; db++)
		rc = mdb_dbi_open(txn, sb__db_name((enum sb__db)db), flags, &dbi[db]);
	return rc;
}

/* LMDB 0.9.26 to 0.9.31 destroy mutexes that others use when an environment is closed. */
static void warn_of_version(void)
{
	static atomic_bool warned;
	int major, minor, patch;
	const char *text = mdb_version(&major, &minor, &patch);

	if (major == 0 && minor == 9 && patch >= 26 && patch <= 31 && !atomic_exchange(&warned, true))
		sb__log(SB_LOG_WARN, "%s may break locks when a process closes it; use 0.9.32 or 0.9.24",
		        text);
}

/* ── making ── */

static int put_bridge(MDB_txn *txn, MDB_dbi dbi, uint32_t fingerprint, const struct sb__identity *self)
{
	struct sb__bridge_rec rec = {
		.schema = SB__SCHEMA_VERSION,
		.layout_fingerprint = fingerprint,
		.pid_ns = self->pid_ns,
		.created_wall_ms = sb__wall_ms(),
		.creator_pid = self->pid,
	};
	struct sb__image image;
	MDB_val key = sb__val_text("bridge"), val;

	memcpy(rec.boot_id, self->boot_id, sizeof(rec.boot_id));
	sb__encode_bridge(&rec, &image);
	val = sb__val_image(&image);
	return mdb_put(txn, dbi, &key, &val, 0);
}

static int fill_env(MDB_env *env, uint32_t fingerprint, const struct sb__identity *self)
{
	MDB_dbi dbi[SB__DB_COUNT];
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, 0, &txn); /* without gates: nobody else knows it */

	if (rc != 0)
		return rc;
	rc = open_databases(txn, MDB_CREATE, dbi);
	if (rc == 0)
		rc = put_bridge(txn, dbi[SB__DB_BRIDGE], fingerprint, self);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static int make_lock_file(int dir)
{
	int fd = sb__os_open_own(dir, "lock.mdb", O_RDWR | O_CREAT | O_EXCL, 0600);
	int rc;

	if (fd < 0)
		return fd;
	SB_POINT("env.lock_created");
	rc = sb__os_fallocate(fd, 0, LOCK_FILE_BYTES);
	(void)sb__os_close(fd); /* before LMDB opens it: there is no lock yet to lose */
	return rc;
}

static void remove_temporary(int root, const char *name)
{
	char path[NAME_SIZE + 16];

	(void)snprintf(path, sizeof(path), "%s/data.mdb", name);
	(void)sb__os_unlinkat(root, path, 0);
	(void)snprintf(path, sizeof(path), "%s/lock.mdb", name);
	(void)sb__os_unlinkat(root, path, 0);
	(void)sb__os_unlinkat(root, name, AT_REMOVEDIR);
}

static int fail_making(int root, int rc)
{
	if (rc == -ENOENT)
		return sb__fail_errno(SB_EDIR, -rc,
		                      "the bridge's directory was removed while the session store "
		                      "was being made in it; open the bridge again");
	if (rc == -ENOSPC || rc == -EDQUOT || rc == -EIO)
		return sb__mdb_report(root, -rc, "make the session store");
	return sb__fail_errno(SB_EDIR, -rc, "cannot make the session store in the bridge's directory");
}

/* Fills the temporary directory. 0 or a code. */
static int fill_temporary(int root, const char *name, uint32_t fingerprint)
{
	struct sb__identity self;
	MDB_env *env;
	size_t map_size;
	int dir, rc;

	rc = sb__identity_self(&self);
	if (rc < 0)
		return rc;
	dir = sb__os_openat(root, name, O_RDONLY | O_DIRECTORY, 0);
	rc = dir < 0 ? dir : make_lock_file(dir);
	if (dir >= 0)
		(void)sb__os_close(dir);
	if (rc < 0)
		return fail_making(root, rc);
	rc = open_env(root, name, &env, &map_size);
	if (rc == 0) {
		rc = fill_env(env, fingerprint, &self);
		mdb_env_close(env); /* nobody else knows it yet */
	}
	if (rc == 0)
		return 0;
	return rc == ENOENT ? fail_making(root, -rc) : sb__mdb_report(root, rc, "make the session store");
}

/* Makes "lmdb" unless another process is quicker. 0 or a code. */
static int make_store(int root, uint32_t fingerprint)
{
	char name[NAME_SIZE];
	uint64_t random;
	int rc = sb__random(&random, sizeof(random));

	if (rc < 0)
		return rc;
	(void)snprintf(name, sizeof(name), TEMPORARY "%016" PRIx64, random);
	rc = sb__os_mkdirat(root, name, 0700);
	if (rc < 0)
		return fail_making(root, rc);
	SB_POINT("env.directory_made");
	rc = fill_temporary(root, name, fingerprint);
	if (rc == 0) {
		SB_POINT("env.made");
		rc = sb__os_renameat(root, name, root, FINAL_NAME);
		SB_POINT("env.renamed");
		if (rc == 0)
			return 0;
		if (rc == -EEXIST || rc == -ENOTEMPTY || rc == -ENOENT)
			rc = 0; /* another was quicker, or it was swept away: look again */
		else
			rc = fail_making(root, rc);
	}
	remove_temporary(root, name);
	return rc;
}

struct sweep {
	int root;
	int64_t before; /* wall clock, seconds: like the file's times */
	int removed;
};

static int sweep_one(void *arg, const char *name)
{
	struct sweep *sweep = arg;
	struct stat st;

	if (strncmp(name, TEMPORARY, strlen(TEMPORARY)) != 0 || strlen(name) >= NAME_SIZE)
		return 0;
	if (sb__os_statat(sweep->root, name, &st) < 0 || (int64_t)st.st_mtime > sweep->before)
		return 0;
	remove_temporary(sweep->root, name);
	sweep->removed++;
	return 0;
}

int sb__store_sweep_temporary(int root)
{
	struct sweep sweep = { .root = root, .before = sb__wall_ms() / 1000 - TEMPORARY_AGE };
	int rc = sb__os_dir_each(root, sweep_one, &sweep);

	if (rc < 0)
		return sb__fail_errno(SB_EDIR, -rc, "cannot list the bridge's directory");
	return sweep.removed;
}

/* ── opening ── */

static int check_version(MDB_val val, uint32_t fingerprint)
{
	uint32_t schema = 0, found = 0;

	if (!sb__peek_bridge(val, &schema, &found))
		return sb__corrupt(SB__DB_BRIDGE, sb__val_text("bridge"), "it is too short");
	if (schema != SB__SCHEMA_VERSION)
		return sb__fail(SB_EVERSION,
		                "the bridge has store schema %u, this library (%s) has %u; use the "
		                "same version of SnakeBridge everywhere, or another directory",
		                schema, SB_VERSION_STRING, SB__SCHEMA_VERSION);
	if (found != fingerprint)
		return sb__fail(SB_EVERSION,
		                "the bridge has shared-memory layout %08x, this library (%s) has "
		                "%08x; use the same version of SnakeBridge everywhere, or another "
		                "directory",
		                found, SB_VERSION_STRING, fingerprint);
	return 0;
}

struct place {
	uint8_t boot_id[16];
	uint64_t pid_ns;
};

static int check_place(const struct sb__bridge_rec *rec, const struct place *here)
{
	if (memcmp(rec->boot_id, here->boot_id, sizeof(here->boot_id)) != 0)
		return sb__fail(SB_ENAMESPACE,
		                "the bridge was made by pid %d in another boot or on another machine; "
		                "remove the directory, or give each machine its own",
		                rec->creator_pid);
	if (rec->pid_ns != here->pid_ns)
		return sb__fail(SB_ENAMESPACE,
		                "the bridge belongs to pid namespace %" PRIu64 ", this process is in "
		                "%" PRIu64 "; give each container its own bridge directory, or let "
		                "them share the pid namespace",
		                rec->pid_ns, here->pid_ns);
	return 0;
}

/* The record alone: another schema may have other databases. 0, a code, or LMDB's error in *ret_mdb. */
static int check_record(MDB_txn *txn, struct sb__store *store, const struct place *here, int *ret_mdb)
{
	MDB_val key = sb__val_text("bridge"), val;
	struct sb__bridge_rec rec;
	const char *why;
	int rc;

	*ret_mdb = mdb_dbi_open(txn, sb__db_name(SB__DB_BRIDGE), 0, &store->dbi[SB__DB_BRIDGE]);
	if (*ret_mdb == 0)
		*ret_mdb = mdb_get(txn, store->dbi[SB__DB_BRIDGE], &key, &val);
	if (*ret_mdb != 0)
		return 0;
	sb__map_find(store, val.mv_data);
	rc = check_version(val, store->fingerprint);
	if (rc < 0)
		return rc;
	why = sb__decode_bridge(val, &rec);
	return why ? sb__corrupt(SB__DB_BRIDGE, key, why) : check_place(&rec, here);
}

/* Opens the databases and checks that the bridge is one this process may use. */
static int check_bridge(int root, struct sb__store *store)
{
	struct place here;
	MDB_txn *txn;
	int mdb_rc, rc = sb__identity_place(here.boot_id, &here.pid_ns);

	if (rc < 0)
		return rc;
	mdb_rc = sb__mdb_begin_read(store, &txn);
	if (mdb_rc == MDB_READERS_FULL) {
		(void)sb__mdb_reader_check(store, NULL);
		mdb_rc = sb__mdb_begin_read(store, &txn);
	}
	if (mdb_rc != 0)
		return sb__mdb_report(root, mdb_rc, "open the session store");
	rc = check_record(txn, store, &here, &mdb_rc);
	if (rc == 0 && mdb_rc == 0)
		mdb_rc = open_databases(txn, 0, store->dbi);
	if (rc == 0 && mdb_rc == 0)
		mdb_rc = mdb_txn_commit(txn); /* or LMDB forgets the handles; of a reader it takes no mutex */
	else
		mdb_txn_abort(txn);
	return mdb_rc != 0 ? sb__mdb_report(root, mdb_rc, "open the session store") : rc;
}

/* Before the first transaction: its descriptor is that of the gates, too. */
static int hold_guard(int root, struct sb__store *store)
{
	int fd = sb__os_open_own(root, FINAL_NAME "/lock.mdb", O_RDWR, 0);
	int rc = fd < 0 ? fd : sb__os_ofd_lock(fd, 0, false);

	if (rc < 0) {
		if (fd >= 0)
			(void)sb__os_close(fd); /* drops LMDB's locks too: the caller closes it */
		return sb__fail_errno(SB_ESTORE, -rc, "cannot guard the session store's lock file");
	}
	SB_POINT("env.guarded");
	store->guard = fd;
	sb__gates_init(store);
	return 0;
}

static int finish_opening(int root, struct sb__store *store)
{
	mdb_filehandle_t fd = -1;
	struct stat st;
	int rc;

	(void)mdb_env_get_fd(store->env, &fd);
	rc = sb__os_set_cloexec(fd); /* LMDB leaves it inheritable */
	if (rc == 0)
		rc = sb__os_fstat(fd, &st);
	if (rc != 0)
		return sb__fail_errno(SB_ESTORE, -rc, "cannot look at the session store's file");
	store->dev = (uint64_t)st.st_dev;
	store->ino = (uint64_t)st.st_ino;
	rc = hold_guard(root, store);
	return rc < 0 ? rc : check_bridge(root, store);
}

static int open_store(struct registry *registry, int root, uint32_t fingerprint, struct sb__store **ret)
{
	struct sb__store *store = calloc(1, sizeof(*store));
	int rc;

	if (!store)
		return sb__fail_memory("the session store");
	rc = sb__env_check_files(root, FINAL_NAME);
	if (rc < 0) {
		free(store);
		return rc;
	}
	store->guard = -1;
	store->epoch = registry->epoch;
	store->fingerprint = fingerprint;
	rc = open_env(root, FINAL_NAME, &store->env, &store->map_size);
	if (rc != 0) {
		free(store);
		return sb__mdb_report(root, rc, "open the session store");
	}
	rc = finish_opening(root, store);
	if (rc < 0) {
		mdb_env_close(store->env);
		if (store->guard >= 0)
			(void)sb__os_close(store->guard);
		free(store);
		return rc;
	}
	(void)pthread_rwlock_init(&store->lock, NULL);
	store->refs = 1;
	store->next = registry->stores;
	registry->stores = store;
	*ret = store;
	return 0;
}

static struct sb__store *find_store(const struct registry *registry, const struct stat *st)
{
	struct sb__store *store = registry->stores;

	while (store && (store->dev != (uint64_t)st->st_dev || store->ino != (uint64_t)st->st_ino))
		store = store->next;
	return store;
}

/* 1 and *ret; 0: there is no store; or a code. */
static int open_existing(struct registry *registry, int root, uint32_t fingerprint, struct sb__store **ret)
{
	struct stat st;
	int rc = sb__os_statat(root, FINAL_NAME "/data.mdb", &st);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return sb__fail_errno(SB_EDIR, -rc, "cannot look at the session store");
	*ret = find_store(registry, &st);
	if (!*ret) {
		rc = open_store(registry, root, fingerprint, ret);
		return rc < 0 ? rc : 1;
	}
	if ((*ret)->fingerprint != fingerprint)
		return sb__fail(SB_EVERSION,
		                "this process has the bridge open with shared-memory layout %08x, "
		                "now %08x was asked for; load one version of SnakeBridge only",
		                (*ret)->fingerprint, fingerprint);
	(*ret)->refs++;
	return 1;
}

static int open_locked(struct registry *registry, int root, bool create, uint32_t fingerprint,
                       struct sb__store **ret)
{
	for (int attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
		int rc = open_existing(registry, root, fingerprint, ret);

		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (!create)
			return sb__fail(SB_ENOBRIDGE,
			                "there is no bridge in the directory; start a program that "
			                "uses it first, or name the right one");
		rc = make_store(root, fingerprint);
		if (rc < 0)
			return rc;
	}
	return sb__fail(SB_ECORRUPT, "the bridge's directory has a \"" FINAL_NAME
	                             "\" without data.mdb; remove the directory");
}

int sb__store_open(int root, bool create, uint32_t layout_fingerprint, struct sb__store **ret)
{
	struct registry *registry = get_registry();
	struct sb__store *store = NULL;
	int rc;

	if (!registry)
		return sb__fail_memory("the session store");
	warn_of_version();
	(void)pthread_mutex_lock(&registry->lock);
	rc = open_locked(registry, root, create, layout_fingerprint, &store);
	(void)pthread_mutex_unlock(&registry->lock);
	if (rc == 0)
		*ret = store;
	return rc;
}

void sb__store_close(struct sb__store *store)
{
	struct registry *registry = get_registry();

	if (!store || !registry || store->epoch != registry->epoch)
		return;
	(void)pthread_mutex_lock(&registry->lock);
	if (store->refs > 0)
		store->refs--;
	(void)pthread_mutex_unlock(&registry->lock);
}

int sb__store_forget(struct sb__store *store)
{
	struct registry *registry = get_registry();
	struct sb__store *mine;
	int guard;

	if (!registry)
		return sb__fail_memory("the session store");
	if (!store || store->epoch == registry->epoch)
		return 0;
	/* The inherited guard is the one thing to give back, unless this process has the same lock.mdb open
	 * by now: then closing any descriptor of it would drop LMDB's locks. */
	(void)pthread_mutex_lock(&registry->lock);
	mine = registry->stores;
	while (mine && (mine->dev != store->dev || mine->ino != store->ino))
		mine = mine->next;
	guard = store->guard;
	store->guard = -1;
	if (!mine && guard >= 0)
		(void)sb__os_close(guard);
	(void)pthread_mutex_unlock(&registry->lock);
	return 0;
}
