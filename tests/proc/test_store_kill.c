/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers killed at random moments: after each death every record and index agrees, the others go on, and what
 * the dead one left can be cleared away by its slot.
 *
 * SB_SEED repeats a run; the seed is printed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "os_linux.h"
#include "store_fixture.h"

enum { WRITERS = 3, ROUNDS = 200, SESSIONS = 12 };

struct writer {
	struct store_fixture *f;
	struct sb__identity self;
	unsigned seed;
	uint32_t next_handle;
};

static int own(struct writer *w, const char *id, uint64_t uid)
{
	struct sb__owner_rec owner = store_fixture_owner(&w->self, uid, ++w->next_handle);

	return sb__store_owner_add(w->f->store, id, &owner);
}

static int disown(struct writer *w)
{
	struct sb__owner_rec *owners;
	size_t count;
	int rc = sb__store_owners_of_process(w->f->store, w->self.slot, &owners, &count);

	if (rc < 0)
		return rc;
	if (count > 0) {
		const struct sb__owner_rec *o = &owners[(unsigned)rand_r(&w->seed) % count];

		rc = sb__store_owner_remove(w->f->store, o->session_uid, o->slot, o->generation, o->handle,
		                            NULL);
	}
	free(owners);
	return rc;
}

/* One random transaction or two. */
static int act(struct writer *w)
{
	struct sb__session_rec rec = { .uid = 0 }, now;
	struct sb__owner_rec owner;
	char id[32];
	int rc;

	snprintf(id, sizeof(id), "s%d", rand_r(&w->seed) % SESSIONS);
	rc = sb__store_session_get(w->f->store, id, &rec);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		rec = store_fixture_wish(&w->self, id);
		rec.persistent = (uint32_t)rand_r(&w->seed) % 2;
		owner = store_fixture_owner(&w->self, 0, ++w->next_handle);
		return sb__store_session_create(w->f->store, &rec, &owner);
	}
	switch (rand_r(&w->seed) % 9) {
	case 0: return sb__store_session_activate(w->f->store, id, rec.incarnation);
	case 1: return sb__store_session_orphan(w->f->store, id, rec.incarnation);
	case 2: return sb__store_session_elect(w->f->store, id, rec.incarnation, &w->self, &now);
	case 3: return sb__store_session_mirror(w->f->store, id, rec.incarnation, (uint64_t)rand_r(&w->seed));
	case 4:
		return sb__store_session_expire(w->f->store, id, rec.uid, rec.expires_ms, rec.expires_ms,
		                                NULL);
	case 5: return sb__store_session_end(w->f->store, id, rec.uid, SB__END_RELEASED, NULL);
	case 6: return disown(w);
	default: return own(w, id, rec.uid);
	}
}

static int write_until_killed(void *arg)
{
	struct writer *w = arg;

	alarm(100); /* a test that fails first leaves nobody behind */
	sb__store_forget(w->f->store);
	if (sb__store_open(w->f->root, true, STORE_FIXTURE_LAYOUT, &w->f->store) != 0 ||
	    store_fixture_attach(w->f, &w->self) != 0)
		return 1;
	for (;;)
		if (act(w) < 0) {
			fprintf(stderr, "writer: %s\n", sb_last_error()->message);
			return 2;
		}
}

static pid_t start(struct store_fixture *f, unsigned seed)
{
	struct writer w = { .f = f, .seed = seed };
	pid_t pid = fixture_fork(write_until_killed, &w);

	assert_true(pid > 0);
	return pid;
}

static void wait_a_little(unsigned *seed)
{
	struct timespec t = { 0, rand_r(seed) % 3000000 };

	nanosleep(&t, NULL);
}

/* What the reaper does with a dead process's slot. */
static void clear_away(struct store_fixture *f, pid_t pid)
{
	struct sb__identity *all, dead = { .pid = 0 };
	struct sb__session_rec *served;
	struct sb__owner_rec *owners;
	size_t count;

	assert_ok(sb__store_processes(f->store, &all, &count));
	for (size_t i = 0; i < count; i++)
		if (all[i].pid == pid)
			dead = all[i];
	free(all);
	if (dead.pid == 0)
		return; /* killed before it had a slot */
	assert_ok(sb__store_sessions_of_owner(f->store, dead.slot, dead.generation, &served, &count));
	for (size_t i = 0; i < count; i++) /* 0: another writer was quicker */
		assert_true(sb__store_session_orphan(f->store, served[i].session_id, served[i].incarnation) >=
		            0);
	free(served);
	assert_ok(sb__store_owners_of_process(f->store, dead.slot, &owners, &count));
	for (size_t i = 0; i < count; i++)
		assert_true(sb__store_owner_remove(f->store, owners[i].session_uid, dead.slot,
		                                   dead.generation, owners[i].handle, NULL) >= 0);
	free(owners);
	assert_int_equal(sb__store_process_remove(f->store, dead.slot, dead.generation), 1);
}

static void test_killed_writers(void **state)
{
	struct store_fixture *f = *state;
	unsigned seed = getenv("SB_SEED") ? (unsigned)strtoul(getenv("SB_SEED"), NULL, 10)
	                                  : (unsigned)time(NULL);
	struct sb__bridge_rec bridge;
	struct sb__identity *all;
	pid_t pids[WRITERS];
	uint32_t used, max;
	size_t count;

	print_message("SB_SEED=%u\n", seed);
	for (int i = 0; i < WRITERS; i++)
		pids[i] = start(f, seed + (unsigned)i);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned victim = (unsigned)rand_r(&seed) % WRITERS;

		wait_a_little(&seed);
		assert_int_equal(kill(pids[victim], SIGKILL), 0);
		assert_int_equal(fixture_wait(pids[victim]), 1000 + SIGKILL);
		store_fixture_verify(f->store);
		clear_away(f, pids[victim]);
		store_fixture_verify(f->store);
		pids[victim] = start(f, seed + round);
	}
	for (int i = 0; i < WRITERS; i++) {
		assert_int_equal(kill(pids[i], SIGKILL), 0);
		assert_int_equal(fixture_wait(pids[i]), 1000 + SIGKILL);
		clear_away(f, pids[i]);
	}
	store_fixture_verify(f->store);
	assert_true(sb__store_check_readers(f->store) >= 0);
	assert_ok(sb__store_reader_count(f->store, &used, &max));
	assert_int_equal(used, 0);
	assert_ok(sb__store_processes(f->store, &all, &count));
	assert_int_equal(count, 1); /* this one */
	free(all);
	assert_ok(sb__store_bridge(f->store, &bridge));
	assert_true(bridge.next_number > 100); /* they did something */
	print_message("%llu numbers given out\n", (unsigned long long)bridge.next_number);
}

static int make_store(void *arg)
{
	struct store_fixture *f = arg;

	return sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store) == 0 ? 0 : 1;
}

static int make_and_verify(void *arg)
{
	struct store_fixture *f = arg;
	struct sb__identity self;

	if (make_store(f) != 0 || store_fixture_attach(f, &self) != 0)
		return 1;
	return sb__store_verify(f->store, NULL, NULL) == 0 ? 0 : 2;
}

/* Whoever comes after a creator that was killed anywhere finds a whole store or none, and no lock held. */
static void test_killed_creators(void **state)
{
	unsigned seed = getenv("SB_SEED") ? (unsigned)strtoul(getenv("SB_SEED"), NULL, 10)
	                                  : (unsigned)time(NULL);
	unsigned killed = 0;
	uint64_t whole = 0; /* nanoseconds that making one takes: the first is not killed */

	(void)state;
	print_message("SB_SEED=%u\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		struct store_fixture f = { .root = -1 };
		uint64_t start, wait = (uint64_t)rand_r(&seed) % (whole + whole / 4 + 1);
		struct timespec t = { (time_t)(wait / 1000000000), (long)(wait % 1000000000) };
		bool done;
		pid_t pid;

		fixture_dir_make(f.dir, sizeof(f.dir));
		f.root = sb__os_open_dir(f.dir);
		start = sb__now_ns();
		pid = fixture_fork(make_store, &f);
		if (round > 0) {
			nanosleep(&t, NULL);
			(void)kill(pid, SIGKILL);
		}
		done = fixture_wait(pid) == 0;
		killed += !done;
		if (round == 0)
			whole = sb__now_ns() - start;
		assert_int_equal(fixture_wait(fixture_fork(make_and_verify, &f)), 0);
		(void)sb__os_close(f.root);
		fixture_dir_remove(f.dir);
	}
	assert_true(killed > 0 && killed < ROUNDS);
	print_message("%u of %d killed before they were done\n", killed, ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed_writers, store_fixture_setup,
		                                store_fixture_teardown),
		cmocka_unit_test(test_killed_creators),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
