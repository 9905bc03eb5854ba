/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call into C code that keeps the GIL, in a designated owner: as an extension module would that computes for long
 * and never lets go. Numbers are points of the contract.
 *
 * ctypes.PyDLL keeps the GIL across its calls. Here it calls system() with a command that says that it runs, and ends
 * when the test says so: no other Python code can have run in the owner in between.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define TRACE 0x617u

/* A call that keeps the GIL, in a thread of its own. */
struct keeper {
	sb_session *session;
	char runs[300]; /* a file: made by the command, which ends once it is removed */
	char python[1000];
	pthread_t thread;
	int err, outcome;
};

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

static void *keep(void *arg)
{
	struct keeper *k = arg;
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:exec";
	r.args = sb_args("s{}", k->python);
	r.timeout_ms = 100000;
	r.trace_id = TRACE;
	k->err = sb_invoke(k->session, &r, NULL);
	k->outcome = k->err ? sb_last_error()->outcome : SB_OUTCOME_NONE;
	return NULL;
}

/* Returns once the GIL is kept. It lets go by itself after a minute. */
static void keeper_start(struct keeper *k, struct fixture *f, sb_session *s)
{
	k->session = s;
	snprintf(k->runs, sizeof(k->runs), "%s.runs", f->dir);
	snprintf(k->python, sizeof(k->python),
	         "import ctypes\n"
	         "ctypes.PyDLL(None).system(b': >%s; i=0; while [ -e %s ] && [ $i -lt 1200 ]; "
	         "do sleep 0.05; i=$((i + 1)); done')\n",
	         k->runs, k->runs);
	assert_int_equal(pthread_create(&k->thread, NULL, keep, k), 0);
	for (int i = 0; i < 4000 && access(k->runs, F_OK); i++)
		nap();
	assert_int_equal(access(k->runs, F_OK), 0);
}

static void keeper_let_go(struct keeper *k)
{
	assert_int_equal(unlink(k->runs), 0);
}

static void keeper_join(struct keeper *k)
{
	assert_int_equal(pthread_join(k->thread, NULL), 0);
}

/* ── what another process sees ── */

struct visit {
	sb_session *kept, *other;
};

static int timed_out(sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "math:sqrt";
	r.args = sb_args("i", 16);
	r.timeout_ms = 200;
	return sb_invoke(s, &r, NULL);
}

/* Its own calls time out one after the other; elsewhere nothing is to be noticed. */
static int visit(void *arg)
{
	struct visit *v = arg;

	for (int i = 0; i < 5; i++) {
		int outcome;

		if (timed_out(v->kept) != SB_ETIMEOUT)
			return 1;
		outcome = sb_last_error()->outcome;
		if (outcome != SB_OUTCOME_REFUSED && outcome != SB_OUTCOME_UNKNOWN)
			return 2;
		for (int j = 0; j < 20; j++)
			if (sb_call(v->other, "math:sqrt", sb_args("i", 16), NULL))
				return 3;
	}
	return 0;
}

static void test_23_35_callers_time_out_and_other_sessions_go_on(void **state)
{
	struct fixture *f = *state;
	struct visit v = { .kept = fixture_session(f->bridge, "kept", SB_DESIGNATED_DEDICATED),
		           .other = fixture_session(f->bridge, "other", SB_DESIGNATED_DEDICATED) };
	struct keeper k;
	json_t *calls;

	assert_ok(sb_call(v.kept, "math:sqrt", sb_args("i", 16), NULL));
	assert_ok(sb_call(v.other, "math:sqrt", sb_args("i", 16), NULL));
	keeper_start(&k, f, v.kept);
	assert_int_equal(fixture_wait(fixture_fork(visit, &v)), 0);
	assert_int_equal(visit(&v), 0); /* here as well */
	calls = fixture_tool_json(f->dir, "sb-inspect", "--json", "calls", NULL);
	assert_true(json_array_size(json_object_get(calls, "calls")) >= 1);
	json_decref(calls);
	keeper_let_go(&k);
	keeper_join(&k);
	assert_int_equal(k.err, 0);
	/* All is as before: what timed out left nothing in the way. */
	for (int i = 0; i < 50; i++)
		assert_ok(sb_call(v.kept, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(v.kept);
	sb_session_close(v.other);
}

static void test_25_cancel_is_answered_and_takes_effect_afterwards(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "cancelled", SB_DESIGNATED_DEDICATED);
	struct keeper k;
	int level = -1;

	keeper_start(&k, f, s);
	assert_ok(sb_cancel(s, TRACE, &level));
	assert_int_equal(level, SB_CANCEL_ASKED);
	assert_int_equal(timed_out(s), SB_ETIMEOUT); /* nothing was stopped by that */
	keeper_let_go(&k);
	keeper_join(&k);
	/* The request reaches it when Python runs again, unless it was over before. */
	assert_true(k.err == SB_ECANCELLED || k.err == 0);
	assert_int_equal(k.outcome, k.err ? SB_OUTCOME_EXCEPTION : SB_OUTCOME_NONE);
	for (int i = 0; i < 50; i++)
		assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

/* Nobody waits for the GIL to be let go: neither who releases nor who called. */
static void test_30_release_ends_the_call_at_once(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "released", SB_DESIGNATED_DEDICATED);
	struct keeper k;
	int released = 0;

	keeper_start(&k, f, s);
	assert_ok(sb_session_release(f->bridge, "released", &released));
	assert_int_equal(released, 1);
	keeper_join(&k); /* it has 100 s, and the command was not told to end */
	assert_int_equal(k.err, SB_ERELEASED);
	assert_int_equal(k.outcome, SB_OUTCOME_UNKNOWN);
	keeper_let_go(&k);
	sb_session_close(s);
}

static void test_30_the_owners_death_is_told_at_once(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "killed", SB_DESIGNATED_DEDICATED);
	sb_session_info info = { .size = sizeof(info) };
	struct keeper k;

	keeper_start(&k, f, s);
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(kill(info.designated_pid, SIGKILL), 0);
	keeper_join(&k);
	assert_int_equal(k.err, SB_EOWNERDIED);
	assert_int_equal(k.outcome, SB_OUTCOME_UNKNOWN);
	keeper_let_go(&k);
	sb_session_close(s);
}

#define IN_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FIXTURE(test_23_35_callers_time_out_and_other_sessions_go_on),
		IN_FIXTURE(test_25_cancel_is_answered_and_takes_effect_afterwards),
		IN_FIXTURE(test_30_release_ends_the_call_at_once),
		IN_FIXTURE(test_30_the_owners_death_is_told_at_once),
	};

	return cmocka_run_group_tests_name("gil", tests, NULL, NULL);
}
