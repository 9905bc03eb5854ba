/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment between processes: made once by many, refused where it does not fit, left alone across fork
 * and exec, healed when readers die, the map is full, or another process grew it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fail.h"
#include "fixture.h"
#include "os_linux.h"
#include "store_fixture.h"
#include "store_test.h"

#define MIB ((size_t)1024 * 1024)

static int setup_dir(void **state)
{
	struct store_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fixture_dir_make(f->dir, sizeof(f->dir));
	f->root = sb__os_open_dir(f->dir);
	assert_true(f->root >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	sb__store_test_map_size(0);
	sb__store_test_map_bound(0);
	return store_fixture_teardown(state);
}

/* A child that starts with nothing open forgets what it inherited; then it opens for itself. */
static int reopen(struct store_fixture *f)
{
	if (f->store)
		sb__store_forget(f->store);
	f->store = NULL;
	return sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store);
}

static unsigned count_entries(const struct store_fixture *f, const char *prefix)
{
	DIR *dir = opendir(f->dir);
	struct dirent *e;
	unsigned count = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		count += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return count;
}

/* ── making ── */

struct starter {
	struct store_fixture *f;
	int gate; /* reading ends when all may go */
};

static int create_at_once(void *arg)
{
	struct starter *s = arg;
	struct sb__identity self;
	char c;

	if (read(s->gate, &c, 1) != 0)
		return 1;
	if (sb__store_open(s->f->root, true, STORE_FIXTURE_LAYOUT, &s->f->store) != 0)
		return 2;
	if (store_fixture_attach(s->f, &self) != 0)
		return 3;
	return sb__store_verify(s->f->store, NULL, NULL) == 0 ? 0 : 4;
}

static void test_eight_creators_make_one(void **state)
{
	enum { CREATORS = 8, ROUNDS = 10 };
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		void *inner;
		struct starter s;
		struct sb__identity *all;
		struct sb__bridge_rec bridge;
		pid_t pids[CREATORS];
		int gate[2];
		size_t count;

		setup_dir(&inner);
		assert_int_equal(pipe(gate), 0);
		s = (struct starter){ .f = inner, .gate = gate[0] };
		for (int i = 0; i < CREATORS; i++) {
			fflush(NULL);
			pids[i] = fork();
			if (pids[i] == 0) {
				close(gate[1]);
				_exit(create_at_once(&s));
			}
		}
		close(gate[1]);
		for (int i = 0; i < CREATORS; i++)
			assert_int_equal(fixture_wait(pids[i]), 0);
		close(gate[0]);
		assert_int_equal(count_entries(s.f, "lmdb.new."), 0);
		assert_int_equal(count_entries(s.f, "lmdb"), 1);
		/* All went into the same one: one creator, eight slots. */
		assert_ok(sb__store_open(s.f->root, false, STORE_FIXTURE_LAYOUT, &s.f->store));
		assert_ok(sb__store_bridge(s.f->store, &bridge));
		assert_true(bridge.creator_pid != getpid());
		assert_ok(sb__store_processes(s.f->store, &all, &count));
		assert_int_equal(count, CREATORS);
		free(all);
		store_fixture_teardown(&inner);
	}
}

static void test_not_made_unless_asked(void **state)
{
	struct store_fixture *f = *state;

	assert_int_equal(sb__store_open(f->root, false, STORE_FIXTURE_LAYOUT, &f->store), SB_ENOBRIDGE);
	assert_int_equal(count_entries(f, "lmdb"), 0);
	assert_null(f->store);
}

static void test_lock_file_has_real_blocks(void **state)
{
	struct store_fixture *f = *state;
	struct stat st;
	uint32_t used, max;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_int_equal(sb__os_statat(f->root, "lmdb/lock.mdb", &st), 0);
	assert_true(st.st_blocks * 512 >= st.st_size);
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, 0);
	assert_in_range(max, 4096, 5000);
	assert_int_equal(st.st_mode & 077, 0);
}

static void test_one_environment_per_process(void **state)
{
	struct store_fixture *f = *state;
	struct sb__store *again = NULL, *third = NULL;
	int root = sb__os_open_dir(f->dir);

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(sb__store_open(root, true, STORE_FIXTURE_LAYOUT, &again));
	assert_ptr_equal(again, f->store);
	sb__store_close(again);
	sb__store_close(f->store);
	/* All closed; it is still there and is found again. */
	assert_ok(sb__store_open(root, false, STORE_FIXTURE_LAYOUT, &third));
	assert_ptr_equal(third, f->store);
	assert_int_equal(sb__store_verify(third, NULL, NULL), 0);
	assert_int_equal(sb__store_open(root, true, STORE_FIXTURE_LAYOUT + 1, &again), SB_EVERSION);
	sb__os_close(root);
}

static void test_removed_and_made_again(void **state)
{
	struct store_fixture *f = *state;
	struct sb__store *first;
	struct sb__session_rec rec;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &first));
	f->store = first;
	store_fixture_attach(f, &f->self);
	store_fixture_session(f, "demo");
	assert_int_equal(sb__os_unlinkat(f->root, "lmdb/data.mdb", 0), 0);
	assert_int_equal(sb__store_open(f->root, false, STORE_FIXTURE_LAYOUT, &f->store), SB_ENOBRIDGE);
	assert_int_equal(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store),
	                 SB_ECORRUPT); /* half of one */
	assert_int_equal(sb__os_unlinkat(f->root, "lmdb/lock.mdb", 0), 0);
	assert_int_equal(sb__os_unlinkat(f->root, "lmdb", AT_REMOVEDIR), 0);
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ptr_not_equal(f->store, first);
	assert_int_equal(sb__store_session_get(f->store, "demo", &rec), 0);
	assert_int_equal(count_entries(f, "lmdb.new."), 0);
}

static void test_directory_gone(void **state)
{
	struct store_fixture *f = *state;

	fixture_dir_remove(f->dir);
	assert_int_equal(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store), SB_EDIR);
	assert_non_null(strstr(sb_last_error()->message, "removed"));
	assert_int_equal(mkdir(f->dir, 0700), 0); /* for the teardown */
}

static void test_sweep_takes_old_temporaries_only(void **state)
{
	struct store_fixture *f = *state;
	static const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_int_equal(mkdirat(f->root, "lmdb.new.0123456789abcdef", 0700), 0);
	close(openat(f->root, "lmdb.new.0123456789abcdef/data.mdb", O_CREAT | O_WRONLY, 0600));
	close(openat(f->root, "lmdb.new.0123456789abcdef/lock.mdb", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(utimensat(f->root, "lmdb.new.0123456789abcdef", old, 0), 0);
	assert_int_equal(mkdirat(f->root, "lmdb.new.fedcba9876543210", 0700), 0); /* its maker is at it */
	assert_int_equal(sb__store_sweep_temporary(f->root), 1);
	assert_int_equal(count_entries(f, "lmdb.new."), 1);
	assert_int_equal(count_entries(f, "lmdb"), 2);
	assert_int_equal(sb__store_sweep_temporary(f->root), 0);
	assert_int_equal(sb__store_sweep_temporary(-1), SB_EDIR);
}

/* ── what does not fit ── */

struct expectation {
	struct store_fixture *f;
	uint32_t layout;
	int code;
	const char *says, *says_too;
};

static int open_and_expect(void *arg)
{
	struct expectation *e = arg;
	int rc;

	sb__store_forget(e->f->store);
	rc = sb__store_open(e->f->root, true, e->layout, &e->f->store);
	if (rc != e->code)
		return 1;
	if (rc != 0 &&
	    (!strstr(sb_last_error()->message, e->says) || !strstr(sb_last_error()->message, e->says_too)))
		return 2;
	return 0;
}

static int expect_in_new_pid_ns(void *arg)
{
	if (unshare(CLONE_NEWPID) != 0)
		return 77;
	return fixture_wait(fixture_fork(open_and_expect, arg));
}

static void expect_in_child(struct store_fixture *f, uint32_t layout, int code, const char *says,
                            const char *says_too)
{
	struct expectation e = { .f = f, .layout = layout, .code = code, .says = says, .says_too = says_too };

	assert_int_equal(fixture_wait(fixture_fork(open_and_expect, &e)), 0);
}

static void test_another_version_is_refused(void **state)
{
	struct store_fixture *f = *state;
	uint8_t record[56], changed[56];
	uint32_t schema = SB__SCHEMA_VERSION + 4;
	char theirs[32], ours[32];

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	expect_in_child(f, STORE_FIXTURE_LAYOUT, 0, "", "");
	expect_in_child(f, 0xabcd, SB_EVERSION, "00001234", "0000abcd");
	assert_int_equal(sb__store_test_get(f->store, "bridge", "bridge", 6, record, sizeof(record)),
	                 sizeof(record));

	/* A later version may have a longer record: schema and layout are found all the same. */
	memcpy(changed, record, sizeof(changed));
	memcpy(changed + 8, &schema, sizeof(schema));
	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, changed, 40), 0);
	snprintf(theirs, sizeof(theirs), "schema %u", schema);
	snprintf(ours, sizeof(ours), "has %u", SB__SCHEMA_VERSION);
	expect_in_child(f, STORE_FIXTURE_LAYOUT, SB_EVERSION, theirs, ours);

	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, record, 5), 0);
	expect_in_child(f, STORE_FIXTURE_LAYOUT, SB_ECORRUPT, "bridge", "too short");

	memcpy(changed, record, sizeof(changed));
	changed[16] ^= 1;
	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, changed, sizeof(changed)), 0);
	expect_in_child(f, STORE_FIXTURE_LAYOUT, SB_ENAMESPACE, "pid namespace", "container");

	memcpy(changed, record, sizeof(changed));
	changed[24] ^= 1;
	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, changed, sizeof(changed)), 0);
	expect_in_child(f, STORE_FIXTURE_LAYOUT, SB_ENAMESPACE, "another boot", "remove");

	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, record, sizeof(record)), 0);
	expect_in_child(f, STORE_FIXTURE_LAYOUT, 0, "", "");
}

static void test_another_pid_namespace_is_refused(void **state)
{
	struct store_fixture *f = *state;
	struct expectation e = { .f = f,
		                 .layout = STORE_FIXTURE_LAYOUT,
		                 .code = SB_ENAMESPACE,
		                 .says = "pid namespace",
		                 .says_too = "container" };
	int status;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	status = fixture_wait(fixture_fork(expect_in_new_pid_ns, &e));
	if (status == 77) {
		print_message("skipped: no right to make a pid namespace\n");
		skip();
	}
	assert_int_equal(status, 0);
}

static void test_garbage_for_a_database(void **state)
{
	struct store_fixture *f = *state;
	char garbage[8192];
	int fd;

	memset(garbage, 'g', sizeof(garbage));
	assert_int_equal(mkdirat(f->root, "lmdb", 0700), 0);
	fd = openat(f->root, "lmdb/data.mdb", O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, garbage, sizeof(garbage)), sizeof(garbage));
	close(fd);
	assert_int_equal(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store), SB_ECORRUPT);
	assert_non_null(strstr(sb_last_error()->message, "damaged"));
}

static int open_with_little_address_space(void *arg)
{
	struct store_fixture *f = arg;
	FILE *statm = fopen("/proc/self/statm", "r");
	struct rlimit limit;
	unsigned long pages;

	if (!statm || fscanf(statm, "%lu", &pages) != 1)
		return 1;
	fclose(statm);
	limit.rlim_cur = limit.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + 512 * MIB;
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		return 2;
	return reopen(f) == 0 && sb__store_verify(f->store, NULL, NULL) == 0 ? 0 : 3;
}

static void test_less_map_where_address_space_is_short(void **state)
{
	struct store_fixture *f = *state;

	assert_int_equal(fixture_wait(fixture_fork(open_with_little_address_space, f)), 0);
	assert_ok(sb__store_open(f->root, false, STORE_FIXTURE_LAYOUT,
	                         &f->store)); /* and this one with all of it */
}

/* ── fork and exec ── */

static int use_without_forgetting(void *arg)
{
	struct store_fixture *f = arg;
	struct sb__session_rec rec;

	if (sb__store_session_get(f->store, "demo", &rec) != SB_EBUG ||
	    sb__store_check_readers(f->store) != SB_EBUG)
		return 1;
	sb__store_close(f->store); /* does nothing here */
	return 0;
}

static int forget_and_reopen(void *arg)
{
	struct store_fixture *f = arg;
	struct sb__store *inherited = f->store;
	struct sb__session_rec rec;

	if (reopen(f) != 0 || f->store == inherited)
		return 1;
	sb__store_forget(inherited); /* once more, now that our own is open */
	if (sb__store_session_get(f->store, "demo", &rec) != 1)
		return 2;
	rec = store_fixture_wish(&f->self, "childs");
	return sb__store_session_create(f->store, &rec, NULL) == 1 ? 0 : 3;
}

static int chain_of_forks(void *arg)
{
	struct store_fixture *f = arg;

	for (int depth = 0; depth < 5; depth++) {
		pid_t pid;

		if (reopen(f) != 0 || sb__store_verify(f->store, NULL, NULL) != 0)
			return 10 + depth;
		pid = fork();
		if (pid != 0)
			return fixture_wait(pid);
	}
	return 0;
}

static void test_child_has_an_environment_of_its_own(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	store_fixture_session(f, "demo");
	assert_int_equal(fixture_wait(fixture_fork(use_without_forgetting, f)), 0);
	assert_int_equal(fixture_wait(fixture_fork(forget_and_reopen, f)), 0);
	assert_int_equal(sb__store_session_get(f->store, "childs", &rec), 1);
	assert_int_equal(fixture_wait(fixture_fork(chain_of_forks, f)), 0);
	sb__store_forget(f->store); /* in the process that opened it: nothing */
	store_fixture_verify(f->store);
}

/* A child that comes and goes must not clear the parent's reader slots, nor its locks. */
static void test_childs_end_leaves_parents_readers(void **state)
{
	struct store_fixture *f = *state;
	uint32_t used, max;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	store_fixture_session(f, "demo");
	assert_int_equal(sb__store_test_fill_readers(f->store, 5), 5);
	assert_int_equal(fixture_wait(fixture_fork(forget_and_reopen, f)), 0);
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, 5);
	/* Another process asks who is dead: our slots must not be cleared. */
	assert_int_equal(fixture_wait(fixture_fork(chain_of_forks, f)), 0);
	assert_int_equal(sb__store_check_readers(f->store), 0);
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, 5);
}

static int check_readers_in_child(void *arg)
{
	struct store_fixture *f = arg;

	return reopen(f) == 0 ? sb__store_check_readers(f->store) : 99;
}

static void test_our_readers_are_alive_to_others(void **state)
{
	struct store_fixture *f = *state;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_int_equal(sb__store_test_fill_readers(f->store, 3), 3);
	assert_int_equal(fixture_wait(fixture_fork(check_readers_in_child, f)), 0);
}

/* A thread that is in the store, or in its registry, nearly all the time. */
static atomic_bool stop_busy;

static void *be_busy(void *arg)
{
	struct store_fixture *f = arg;
	uintptr_t done = 0;

	while (!atomic_load(&stop_busy)) {
		struct sb__session_rec rec = store_fixture_wish(&f->self, "busy");
		struct sb__store *again;

		if (sb__store_session_create(f->store, &rec, NULL) != 1 ||
		    sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &again) != 0 ||
		    sb__store_session_end(f->store, "busy", 0, SB__END_RELEASED, NULL) != 1)
			return NULL;
		sb__store_close(again);
		done++;
	}
	return (void *)done;
}

static int write_in_child(void *arg)
{
	struct store_fixture *f = arg;
	struct sb__session_rec rec;
	char id[32];

	alarm(60); /* a lock that was held at the fork would be held for ever */
	snprintf(id, sizeof(id), "child %d", (int)getpid());
	rec = store_fixture_wish(&f->self, id);
	if (reopen(f) != 0)
		return 1;
	return sb__store_session_create(f->store, &rec, NULL) == 1 ? 0 : 2;
}

static void test_fork_while_a_thread_writes(void **state)
{
	enum { FORKS = 60 };
	struct store_fixture *f = *state;
	pthread_t thread;
	void *done;
	int failed = 0;

	if (fixture_slowness() > 1) {
		/* GCC 12's AddressSanitizer does not unlock its allocator in a child forked beside a busy thread. */
		print_message("skipped: a sanitizer's allocator may be locked in the child for ever\n");
		skip();
	}
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	atomic_store(&stop_busy, false);
	assert_int_equal(pthread_create(&thread, NULL, be_busy, f), 0);
	for (int i = 0; i < FORKS; i++)
		failed += fixture_wait(fixture_fork(write_in_child, f)) != 0;
	atomic_store(&stop_busy, true);
	assert_int_equal(pthread_join(thread, &done), 0);
	assert_int_equal(failed, 0);
	assert_true((uintptr_t)done > 0);
	store_fixture_verify(f->store);
}

static int open_and_exec(void *arg)
{
	struct store_fixture *f = arg;
	char script[400];

	if (reopen(f) != 0)
		return 1;
	/* No descriptor of the store may be left in the new image. */
	snprintf(script, sizeof(script),
	         "for l in /proc/self/fd/*; do case $(readlink $l) in *.mdb*) exit 3;; esac; done");
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	return 2;
}

static void test_exec_inherits_nothing(void **state)
{
	struct store_fixture *f = *state;

	assert_int_equal(fixture_wait(fixture_fork(open_and_exec, f)), 0);
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_int_equal(fixture_wait(fixture_fork(open_and_exec, f)), 0);
}

static int hold_open(void *arg)
{
	struct starter *s = arg;
	char c;

	if (reopen(s->f) != 0)
		return 1;
	/* What the guard is for: a stray open and close drops LMDB's own lock. */
	close(openat(s->f->root, "lmdb/lock.mdb", O_RDWR));
	if (write(s->gate, "o", 1) != 1)
		return 2;
	for (;;)
		if (read(s->gate, &c, 1) < 0)
			pause();
}

/* Byte 0 stays read-locked, so that nobody initialises the mutexes again under a living process. */
static void test_guard_survives_a_stray_close(void **state)
{
	struct store_fixture *f = *state;
	struct starter s = { .f = f };
	int pair[2], fd;
	char c;
	pid_t pid;

	assert_int_equal(pipe(pair), 0);
	s.gate = pair[1];
	pid = fixture_fork(hold_open, &s);
	assert_true(fixture_hear(pair[0], pid, &c, 1));
	fd = openat(f->root, "lmdb/lock.mdb", O_RDWR);
	assert_int_equal(sb__os_ofd_lock(fd, 0, true), -EAGAIN);
	assert_int_equal(sb__os_ofd_lock(fd, 0, false), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	fixture_wait(pid);
	assert_int_equal(sb__os_ofd_lock(fd, 0, true), 0);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

/* ── recoveries ── */

static int fill_readers_and_die(void *arg)
{
	struct store_fixture *f = arg;
	uint32_t used, max;

	if (reopen(f) != 0 || sb__store_reader_count(f->store, &used, &max) != 0)
		return 1;
	if (sb__store_test_fill_readers(f->store, max + 1) != max - used)
		return 2;
	raise(SIGKILL);
	return 3;
}

static void test_full_reader_table_of_the_dead(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;
	uint32_t used, max;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	store_fixture_session(f, "demo");
	assert_int_equal(fixture_wait(fixture_fork(fill_readers_and_die, f)), 1000 + SIGKILL);
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, max);
	sb__fail(SB_EBUG, "an earlier failure");
	assert_int_equal(sb__store_session_get(f->store, "demo", &rec), 1);
	assert_int_equal(sb_last_error()->code, SB_EBUG); /* a healed failure leaves the record alone */
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, 0);

	/* Opening needs a reader, too. */
	assert_int_equal(fixture_wait(fixture_fork(fill_readers_and_die, f)), 1000 + SIGKILL);
	assert_int_equal(fixture_wait(fixture_fork(chain_of_forks, f)), 0);
	assert_int_equal(fixture_wait(fixture_fork(fill_readers_and_die, f)), 1000 + SIGKILL);
	assert_int_equal(sb__store_check_readers(f->store), (int)max);
}

static void test_full_reader_table_of_the_living(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;

	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	assert_in_range(sb__store_test_fill_readers(f->store, 10000), 4096, 5000);
	assert_int_equal(sb__store_session_get(f->store, "demo", &rec), SB_ESTORE);
	assert_non_null(strstr(sb_last_error()->message, "too many"));
	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation),
	                 1); /* a writer needs no reader slot */
}

/* Creates sessions with long tags until one fails; returns its code. */
static int fill(struct store_fixture *f, unsigned *ret_count, unsigned max)
{
	struct sb__session_rec rec;
	int rc = 1;

	for (*ret_count = 0; rc == 1 && *ret_count < max; *ret_count += rc == 1) {
		char id[32];

		snprintf(id, sizeof(id), "s%u", *ret_count);
		rec = store_fixture_wish(&f->self, id);
		rec.tag_count = 1;
		rec.tags_len = SB_TAGS_BYTES_MAX;
		memset(rec.tags, 't', sizeof(rec.tags));
		rec.tags[1] = '\0';
		rec.tags[SB_TAGS_BYTES_MAX - 1] = '\0';
		rc = sb__store_session_create(f->store, &rec, NULL);
	}
	return rc;
}

static void end_all(struct store_fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char id[32];

		snprintf(id, sizeof(id), "s%u", i);
		assert_int_equal(sb__store_session_end(f->store, id, 0, SB__END_RELEASED, NULL), 1);
	}
}

static void test_full_map_grows(void **state)
{
	struct store_fixture *f = *state;
	unsigned count;

	sb__store_test_map_size(MIB);
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	assert_int_equal(fill(f, &count, 1000), 1); /* 8 MiB */
	assert_int_equal(count, 1000);
	store_fixture_verify(f->store);
}

static void test_full_map_at_its_bound(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;
	unsigned count, again;

	sb__store_test_map_size(MIB);
	sb__store_test_map_bound(2 * MIB);
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	assert_int_equal(fill(f, &count, 10000), SB_ENOSPACE);
	assert_in_range(count, 100, 300);
	assert_non_null(strstr(sb_last_error()->message, "limit"));
	/* It still serves, and what was refused left nothing. */
	assert_int_equal(sb__store_session_get(f->store, "s0", &rec), 1);
	store_fixture_verify(f->store);
	/* Sessions can end, or nobody could ever make room. */
	end_all(f, count);
	assert_int_equal(sb__store_session_get(f->store, "s0", &rec), 0);
	for (again = 0; again < 20; again++) {
		struct sb__session_rec wish = store_fixture_wish(&f->self, "after");

		assert_int_equal(sb__store_session_create(f->store, &wish, NULL), 1);
		assert_int_equal(sb__store_session_end(f->store, "after", 0, SB__END_RELEASED, NULL), 1);
	}
	store_fixture_verify(f->store);
}

static int fill_in_child(void *arg)
{
	struct store_fixture *f = arg;
	unsigned count;

	return reopen(f) == 0 && fill(f, &count, 1000) == 1 ? 0 : 1;
}

static void test_map_grown_by_another_process(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;

	sb__store_test_map_size(MIB);
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	assert_int_equal(fixture_wait(fixture_fork(fill_in_child, f)), 0);
	assert_int_equal(sb__store_session_get(f->store, "s999", &rec), 1); /* as a reader */
	store_fixture_verify(f->store);
	end_all(f, 1000);
	assert_int_equal(fixture_wait(fixture_fork(fill_in_child, f)), 0);
	end_all(f, 1000); /* as a writer */
	store_fixture_verify(f->store);
}

/* ── a full file system ── */

static bool mount_small(struct store_fixture *f, const char *options)
{
	if (geteuid() != 0 || mount("tmpfs", f->dir, "tmpfs", 0, options) != 0) {
		print_message("skipped: needs the right to mount a tmpfs\n");
		return false;
	}
	close(f->root);
	f->root = sb__os_open_dir(f->dir);
	assert_true(f->root >= 0);
	return true;
}

static void unmount(struct store_fixture *f)
{
	close(f->root);
	f->root = -1;
	assert_int_equal(umount2(f->dir, MNT_DETACH), 0);
}

static void test_no_space_to_make_it(void **state)
{
	static const char *const sizes[] = { "size=4k",   "size=64k",  "size=256k",
		                             "size=268k", "size=276k", "size=300k" };
	struct store_fixture *f = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int rc;

		if (!mount_small(f, sizes[i]))
			skip();
		rc = sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store);
		if (rc != 0) { /* at the largest it may just fit */
			assert_int_equal(rc, SB_ENOSPACE);
			assert_int_equal(count_entries(f, "lmdb"), 0); /* nothing half-made */
		}
		unmount(f);
	}
}

static void test_full_file_system(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec;
	unsigned count;
	char byte[4096] = { 0 };
	int ballast;

	if (!mount_small(f, "size=2m"))
		skip();
	assert_ok(sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store));
	assert_ok(store_fixture_attach(f, &f->self));
	ballast = openat(f->root, "ballast", O_CREAT | O_WRONLY, 0600);
	for (int i = 0; i < 64; i++)
		assert_int_equal(write(ballast, byte, sizeof(byte)), sizeof(byte));
	close(ballast);
	assert_int_equal(fill(f, &count, 10000), SB_ENOSPACE);
	assert_true(count > 50);
	assert_non_null(strstr(sb_last_error()->message, "full"));
	/* It keeps serving reads; nothing is half-written. */
	assert_int_equal(sb__store_session_get(f->store, "s0", &rec), 1);
	store_fixture_verify(f->store);
	/* Sessions can end, or nobody could ever make room. */
	assert_int_equal(sb__store_session_get(f->store, "s1", &rec), 1);
	assert_int_equal(sb__store_session_orphan(f->store, "s1", rec.incarnation), 1);
	end_all(f, count);
	store_fixture_verify(f->store);
	/* With space again it writes again, in this process too. */
	assert_int_equal(sb__os_unlinkat(f->root, "ballast", 0), 0);
	rec = store_fixture_wish(&f->self, "after");
	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), 1);
	store_fixture_verify(f->store);
	assert_int_equal(fixture_wait(fixture_fork(chain_of_forks, f)), 0);
	unmount(f);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, setup_dir, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_eight_creators_make_one),
		IN_DIR(test_not_made_unless_asked),
		IN_DIR(test_lock_file_has_real_blocks),
		IN_DIR(test_one_environment_per_process),
		IN_DIR(test_removed_and_made_again),
		IN_DIR(test_directory_gone),
		IN_DIR(test_sweep_takes_old_temporaries_only),
		IN_DIR(test_another_version_is_refused),
		IN_DIR(test_another_pid_namespace_is_refused),
		IN_DIR(test_garbage_for_a_database),
		IN_DIR(test_less_map_where_address_space_is_short),
		IN_DIR(test_child_has_an_environment_of_its_own),
		IN_DIR(test_childs_end_leaves_parents_readers),
		IN_DIR(test_our_readers_are_alive_to_others),
		IN_DIR(test_fork_while_a_thread_writes),
		IN_DIR(test_exec_inherits_nothing),
		IN_DIR(test_guard_survives_a_stray_close),
		IN_DIR(test_full_reader_table_of_the_dead),
		IN_DIR(test_full_reader_table_of_the_living),
		IN_DIR(test_full_map_grows),
		IN_DIR(test_full_map_at_its_bound),
		IN_DIR(test_map_grown_by_another_process),
		IN_DIR(test_no_space_to_make_it),
		IN_DIR(test_full_file_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
