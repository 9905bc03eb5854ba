/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths: of designated owners, of callers, by SIGKILL. Numbers are points of the contract.
 *
 * SB_KILL_ROUNDS sets how many rounds of forked, randomly killed workers there are (default 50; fewer under a
 * sanitizer). SB_SEED repeats a run; the seed is printed.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "hand.h"
#include "rounds.h"
#include "store_impl.h"

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ── the owner dies ── */

struct blocked {
	sb_session *s;
	int err, outcome;
	double returned_ms;
};

static void *block(void *arg)
{
	struct blocked *b = arg;

	b->err = sb_call(b->s, "time:sleep", sb_args("d", 60.0), NULL);
	b->outcome = sb_last_error()->outcome;
	b->returned_ms = now_ms();
	return NULL;
}

static int32_t owner_pid(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	assert_true(info.designated_pid > 0);
	return info.designated_pid;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* 30: a blocked caller learns of its owner's death. The bound is the 100 ms; the median is printed. */
static void test_30_blocked_call_learns_of_owners_death(void **state)
{
	enum { ROUNDS = 9 };
	struct fixture *f = *state;
	double took[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		char id[32];
		struct blocked b = { 0 };
		pthread_t t;
		double killed;
		int32_t pid;

		snprintf(id, sizeof(id), "doomed-%d", i);
		b.s = fixture_session(f->bridge, id, SB_DESIGNATED_DEDICATED);
		pid = owner_pid(b.s);
		assert_int_equal(pthread_create(&t, NULL, block, &b), 0);
		fixture_wait_running(f, "time:sleep");
		killed = now_ms();
		kill(pid, SIGKILL);
		pthread_join(t, NULL);
		took[i] = b.returned_ms - killed;
		assert_int_equal(b.err, SB_EOWNERDIED);
		assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
		sb_session_close(b.s);
	}
	qsort(took, ROUNDS, sizeof(took[0]), compare);
	print_message("owner's death noticed after %.2f ms (median of %d), %.2f ms at most\n",
	              took[ROUNDS / 2], ROUNDS, took[ROUNDS - 1]);
	assert_true(took[ROUNDS / 2] < 100.0 * fixture_slowness());
}

static int hold_the_gates(struct hand *hand, void *arg)
{
	(void)arg;
	for (int i = 0; i < SB__GATE_COUNT; i++)
		sb__gate_enter(hand->store, i);
	return 0;
}

/* 30, 11: the notice waits for nothing that a dying process may hold: here for as long as somebody else keeps the store's gates.
 * The death is recorded by the next call, which elects. */
static void test_30_notice_of_death_needs_no_store(void **state)
{
	struct fixture *f = *state;
	struct blocked b = { .s = fixture_session(f->bridge, "told", SB_DESIGNATED_DEDICATED) };
	sb_session_info info = { .size = sizeof(info) };
	int32_t pid = owner_pid(b.s);
	struct child holder;
	sb_value *v = NULL;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, block, &b), 0);
	fixture_wait_running(f, "time:sleep");
	assert_int_equal(child_start(&holder, f->dir, hold_the_gates, NULL), 0);
	kill(pid, SIGKILL);
	pthread_join(t, NULL);
	assert_int_equal(b.err, SB_EOWNERDIED);
	assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
	child_kill(&holder, true);
	assert_ok(sb_session_get_info(b.s, &info));
	assert_int_equal(info.state, SB_SESSION_ORPHANED);
	assert_ok(sb_call(b.s, "collections:Counter", NULL, &v)); /* elects */
	sb_value_free(v);
	sb_session_close(b.s);
}

/* 11: objects are gone, the session is not; the next creating call elects a new designated owner. */
static void owner_dies(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, "elected", designated);
	sb_session_info info = { .size = sizeof(info) };
	uint64_t first;
	sb_value *old = NULL, *v = NULL;

	assert_ok(sb_call(s, "collections:Counter", NULL, &old));
	assert_ok(sb_session_get_info(s, &info));
	first = info.incarnation;
	kill(owner_pid(s), SIGKILL);
	assert_int_equal(sb_method(s, sb_value_ref(old), "clear", NULL, NULL), SB_EOWNERDIED);
	assert_int_equal(sb_method(s, sb_value_ref(old), "clear", NULL, NULL), SB_EOWNERDIED);
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.state, SB_SESSION_ORPHANED);
	assert_ok(sb_call(s, "collections:Counter", NULL, &v)); /* elects */
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.state, SB_SESSION_ACTIVE);
	assert_true(info.incarnation > first);
	assert_ok(sb_method(s, sb_value_ref(v), "clear", NULL, NULL));
	assert_int_equal(sb_method(s, sb_value_ref(old), "clear", NULL, NULL), SB_EOWNERDIED); /* for good */
	sb_value_free(old);
	sb_value_free(v);
	sb_session_close(s);
}

static void test_11_dedicated_owner_dies(void **state)
{
	owner_dies(*state, SB_DESIGNATED_DEDICATED);
}

static int be_owner(void *arg)
{
	struct fixture *f = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = "elected";
	o.designated = SB_DESIGNATED_SELF;
	return sb_session_open(f->bridge, &o, &s) || pause();
}

static void test_11_worker_that_owned_dies(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fixture_fork(be_owner, f);
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *probe = NULL;

	o.session_id = "elected";
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	for (int i = 0; i < 2000 && sb_session_open(f->bridge, &o, &probe); i++)
		usleep(5000);
	assert_non_null(probe);
	owner_dies(f, SB_DESIGNATED_SELF); /* kills that child; this process is elected */
	fixture_wait(pid);
	sb_session_close(probe);
}

/* An attach-only handle never elects. */
static void test_11_attach_only(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = fixture_session(f->bridge, "attached", SB_DESIGNATED_DEDICATED), *a = NULL;

	o.session_id = "attached";
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	assert_ok(sb_session_open(f->bridge, &o, &a));
	kill(owner_pid(s), SIGKILL);
	assert_int_equal(sb_call(a, "math:sqrt", sb_args("i", 1), NULL), SB_EOWNERDIED);
	assert_int_equal(sb_call(a, "math:sqrt", sb_args("i", 1), NULL), SB_ENOOWNER);
	sb_session_close(a);
	sb_session_close(s);
}

/* ── workers die ── */

static int call_for_ever(void *arg)
{
	struct fixture *f = arg;
	sb_session *s = fixture_session(f->bridge, "interrupted", SB_DESIGNATED_ATTACH_ONLY);
	int err = sb_call(s, "builtins:exec", sb_args("s", "while True: pass"), NULL);

	return err == SB_ERELEASED && sb_last_error()->outcome == SB_OUTCOME_UNKNOWN ? 0 : 1;
}

/* 09: also one that comes to look only after its call was interrupted, and a reply stands that says so. */
static void test_09_release_reaches_a_caller_that_looks_late(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "interrupted", SB_DESIGNATED_DEDICATED);
	int32_t owner = owner_pid(s);
	pid_t caller = fixture_fork(call_for_ever, f);

	fixture_wait_running(f, "builtins:exec");
	kill(caller, SIGSTOP);
	assert_ok(sb_session_release(f->bridge, "interrupted", NULL));
	while (kill(owner, 0) == 0) /* it has nothing to do, once the call is over */
		usleep(1000);
	kill(caller, SIGCONT);
	assert_int_equal(fixture_wait(caller), 0);
	sb_session_close(s);
}

/* 31: rounds of eight forked workers, of which a random one is killed at a random moment. Many more of them are in
 * stress/test_kill_rounds.c. */
static void test_31_rounds_of_killed_workers(void **state)
{
	rounds_run(*state, rounds_number(50 / fixture_slowness()), rounds_seed());
}

/* 10, 31: every owner dies by SIGKILL; the session, its owner process and its files go. */
static int own_then_wait(void *arg)
{
	struct fixture *f = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = "abandoned";
	o.designated = SB_DESIGNATED_DEDICATED;
	return sb_session_open(f->bridge, &o, &s) || sb_call(s, "math:sqrt", sb_args("i", 1), NULL) ||
	       pause();
}

static void test_10_last_owner_killed(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fixture_fork(own_then_wait, f);
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *probe = NULL;
	int32_t owner;

	o.session_id = "abandoned";
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	for (int i = 0; i < 2000 && sb_session_open(f->bridge, &o, &probe); i++)
		usleep(5000);
	assert_non_null(probe);
	for (int i = 0; i < 2000; i++) { /* until it owns the session too */
		assert_ok(sb_session_get_info(probe, &info));
		if (info.owner_count == 2)
			break;
		usleep(5000);
	}
	assert_int_equal(info.owner_count, 2);
	owner = owner_pid(probe);
	sb_session_close(probe);
	kill(pid, SIGKILL);
	fixture_wait(pid);
	rounds_assert_clean(f);
	assert_int_equal(sb_session_open(f->bridge, &o, &probe), SB_ERELEASED);
	for (int i = 0; i < 2000 && kill(owner, 0) == 0; i++)
		usleep(5000);
	assert_int_equal(kill(owner, 0), -1); /* nobody needs it: it ended by itself */
}

static int serve_without_keeper(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, "asked");

	(void)arg;
	return hand_serve(hand, &wish, true, NULL);
}

/* 11, where no robust mutex tells of the death, as with a C library that keeps its owner elsewhere: the callers that ask for
 * the life token and find it free do not ask the dead again, but elect. */
static void test_11_elects_without_alive_mutex(void **state)
{
	struct fixture *f = *state;
	struct child owner;
	sb_session *s;
	int err = 0;

	assert_ok(child_start(&owner, f->dir, serve_without_keeper, NULL));
	s = fixture_session(f->bridge, "asked", SB_DESIGNATED_SELF);
	child_kill(&owner, true);
	assert_int_equal(sb_call(s, "builtins:len", sb_args("s", "abc"), NULL), SB_EOWNERDIED);
	for (int i = 0; i < 2; i++) /* the next one may find the record first */
		err = sb_call(s, "builtins:len", sb_args("s", "abc"), NULL);
	assert_ok(err);
	sb_session_close(s);
}

/* 9: release reaches a call in flight at once. */
static void test_09_release_reaches_callers_in_flight(void **state)
{
	struct fixture *f = *state;
	struct blocked b = { .s = fixture_session(f->bridge, "in flight", SB_DESIGNATED_DEDICATED) };
	pthread_t t;
	double released;

	assert_int_equal(pthread_create(&t, NULL, block, &b), 0);
	fixture_wait_running(f, "time:sleep");
	assert_ok(sb_session_release(f->bridge, "in flight", NULL));
	released = now_ms();
	pthread_join(t, NULL);
	assert_int_equal(b.err, SB_ERELEASED);
	assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
	assert_true(b.returned_ms - released < 2000);
	sb_session_close(b.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_30_blocked_call_learns_of_owners_death),
		T(test_30_notice_of_death_needs_no_store),
		T(test_11_dedicated_owner_dies),
		T(test_11_worker_that_owned_dies),
		T(test_11_attach_only),
		T(test_11_elects_without_alive_mutex),
		T(test_10_last_owner_killed),
		T(test_09_release_reaches_callers_in_flight),
		T(test_09_release_reaches_a_caller_that_looks_late),
		T(test_31_rounds_of_killed_workers),
	};

	return cmocka_run_group_tests_name("death", tests, NULL, NULL);
}
