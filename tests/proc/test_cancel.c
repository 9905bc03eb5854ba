/* SPDX-License-Identifier: Apache-2.0 */
/* Cancelling calls, and deadlines by call, session and process. Numbers are points of the contract. */
#include <dirent.h>
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

#define TRACE 0xc0ffeeu

static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A call in a thread of its own. */
struct flight {
	sb_session *session;
	const char *function;
	const char *text; /* its argument, or NULL */
	uint32_t timeout_ms;
	uint64_t trace_id;
	int err, outcome;
	uint64_t error_trace;
	char type[64];
	pthread_t thread;
};

static void *fly(void *arg)
{
	struct flight *f = arg;
	sb_request r = SB_REQUEST_INIT;

	r.name = f->function;
	r.args = f->text ? sb_args("s{}", f->text) : sb_args("i", 30);
	r.timeout_ms = f->timeout_ms;
	r.trace_id = f->trace_id;
	f->err = sb_invoke(f->session, &r, NULL);
	f->outcome = f->err ? sb_last_error()->outcome : SB_OUTCOME_NONE;
	f->error_trace = sb_last_error()->trace_id;
	snprintf(f->type, sizeof(f->type), "%s", sb_last_error()->python_type);
	return NULL;
}

static void launch(struct flight *f)
{
	f->err = 1;
	assert_int_equal(pthread_create(&f->thread, NULL, fly, f), 0);
}

static void land(struct flight *f)
{
	assert_int_equal(pthread_join(f->thread, NULL), 0);
}

/* Cancels until something is found: the call may not have been sent yet. */
static int cancel_until_found(sb_session *s, uint64_t trace)
{
	for (int i = 0; i < 2000; i++) {
		int level = -1;

		if (sb_cancel(s, trace, &level))
			return -1;
		if (level != SB_CANCEL_NONE)
			return level;
		nap(5);
	}
	return SB_CANCEL_NONE;
}

#define SPIN "import time\nn = 0\nwhile True:\n    n += 1\n    time.sleep(0.001)\n"

/* Runs text until it says that it runs: its name is in builtins. */
static void wait_running(sb_session *s, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "builtins:%s", name);
	for (int i = 0; i < 2000; i++) {
		if (sb_get(s, path, NULL) == 0)
			return;
		nap(5);
	}
	fail_msg("%s never ran", name);
}

static void test_25_running_python_is_interrupted(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "running", SB_DESIGNATED_DEDICATED);
	struct flight call = { .session = s,
		               .function = "builtins:exec",
		               .trace_id = TRACE,
		               .text = "import builtins\nbuiltins.sb_r1 = 1\n" SPIN };
	int level = -1;
	double begun;

	launch(&call);
	wait_running(s, "sb_r1");
	begun = now_s();
	assert_ok(sb_cancel(s, TRACE, &level));
	assert_int_equal(level, SB_CANCEL_ASKED);
	land(&call);
	assert_true(now_s() - begun < 10);
	assert_int_equal(call.err, SB_ECANCELLED);
	assert_int_equal(call.outcome, SB_OUTCOME_EXCEPTION);
	assert_true(call.error_trace == TRACE);
	assert_string_equal(call.type, "snakebridge.CallCancelled");
	/* The session goes on, and the next call on that thread meets nothing of it. */
	for (int i = 0; i < 50; i++)
		assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

static int cancel_from_here(void *arg)
{
	sb_session *s = arg;

	return cancel_until_found(s, TRACE) == SB_CANCEL_ASKED ? 0 : 1;
}

static void test_25_cancelled_by_another_process(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "another", SB_DESIGNATED_DEDICATED);
	struct flight call = { .session = s,
		               .function = "builtins:exec",
		               .trace_id = TRACE,
		               .text = "import builtins\nbuiltins.sb_another = 1\n" SPIN };

	launch(&call);
	wait_running(s, "sb_another"); /* one that is only queued would be removed */
	assert_int_equal(fixture_wait(fixture_fork(cancel_from_here, s)), 0);
	land(&call);
	assert_int_equal(call.err, SB_ECANCELLED);
	assert_int_equal(call.outcome, SB_OUTCOME_EXCEPTION);
	sb_session_close(s);
}

/* The session's own process calls without the mailbox. */
static void test_25_call_on_own_objects(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "own", SB_DESIGNATED_SELF);
	struct flight call = { .session = s, .function = "builtins:exec", .trace_id = TRACE, .text = SPIN };

	launch(&call);
	assert_int_equal(cancel_until_found(s, TRACE), SB_CANCEL_ASKED);
	land(&call);
	assert_int_equal(call.err, SB_ECANCELLED);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

static bool all_stopped(pid_t pid)
{
	char path[300], line[512];
	bool stopped = true;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		FILE *stat;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/stat", (int)pid, e->d_name);
		stat = fopen(path, "r");
		if (stat && fgets(line, sizeof(line), stat))
			stopped = stopped && strrchr(line, ')') && strrchr(line, ')')[2] == 'T';
		if (stat)
			fclose(stat);
	}
	if (dir)
		closedir(dir);
	return stopped;
}

static void stop(pid_t pid)
{
	kill(pid, SIGSTOP);
	for (int i = 0; i < 2000 && !all_stopped(pid); i++)
		nap(1);
}

/* A stopped owner accepts nothing: what is sent to it is removed for certain. */
static void test_25_not_started_is_removed(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "waiting", SB_DESIGNATED_DEDICATED);
	struct flight call = { .session = s,
		               .function = "builtins:exec",
		               .trace_id = TRACE,
		               .text = "import builtins\nbuiltins.sb_never = 1\n" };
	sb_session_info info = { .size = sizeof(info) };
	sb_value *has = NULL;
	bool never = true;

	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	assert_ok(sb_session_get_info(s, &info));
	stop(info.designated_pid);
	launch(&call);
	assert_int_equal(cancel_until_found(s, TRACE), SB_CANCEL_REMOVED);
	land(&call);
	kill(info.designated_pid, SIGCONT);
	assert_int_equal(call.err, SB_ECANCELLED);
	assert_int_equal(call.outcome, SB_OUTCOME_REFUSED);
	assert_true(call.error_trace == TRACE);
	assert_ok(sb_call(s, "builtins:eval", sb_args("s{}", "hasattr(__import__('builtins'), 'sb_never')"),
	                  &has));
	assert_ok(sb_value_bool(has, &never));
	assert_false(never);
	sb_value_free(has);
	sb_session_close(s);
}

static void test_25_nothing_to_cancel(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "nothing", SB_DESIGNATED_DEDICATED);
	int level = -1;

	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	assert_ok(sb_cancel(s, 12345, &level));
	assert_int_equal(level, SB_CANCEL_NONE);
	assert_int_equal(sb_cancel(s, 0, &level), SB_EINVAL);
	assert_int_equal(sb_cancel(NULL, 12345, &level), SB_EINVAL);
	sb_session_close(s);
}

/* In C code: it goes on until it comes back, here after a second; then it is interrupted. */
static void test_25_c_code_ends_when_it_ends(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "c-code", SB_DESIGNATED_DEDICATED);
	struct flight call = { .session = s,
		               .function = "builtins:exec",
		               .trace_id = TRACE,
		               .text = "import builtins, time\nbuiltins.sb_c1 = "
		                       "1\ntime.sleep(1)\nbuiltins.sb_c2 = 1\n" SPIN };
	int level = -1;

	launch(&call);
	wait_running(s, "sb_c1");
	assert_ok(sb_cancel(s, TRACE, &level));
	assert_int_equal(level, SB_CANCEL_ASKED);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL)); /* 35: others go on meanwhile */
	land(&call);
	assert_int_equal(call.err, SB_ECANCELLED);
	assert_int_equal(call.outcome, SB_OUTCOME_EXCEPTION);
	sb_session_close(s);
}

/* Its own deadline passed: nobody waits for it, so it is interrupted; a finally block tells. */
static void test_25_abandoned_at_the_deadline(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "deadline", SB_DESIGNATED_DEDICATED);
	struct flight call = { .session = s,
		               .function = "builtins:exec",
		               .timeout_ms = 300,
		               .trace_id = TRACE,
		               .text = "import builtins, time\ntry:\n  while True: time.sleep(0.001)\n"
		                       "finally: builtins.sb_stopped = 1\n" };

	launch(&call);
	land(&call);
	assert_int_equal(call.err, SB_ETIMEOUT);
	assert_int_equal(call.outcome, SB_OUTCOME_UNKNOWN);
	assert_true(call.error_trace == TRACE);
	wait_running(s, "sb_stopped");
	sb_session_close(s);
}

static int call_for_ever(void *arg)
{
	sb_call(arg, "builtins:exec",
	        sb_args("s{}",
	                "import builtins, time\nbuiltins.sb_k1 = 1\ntry:\n  while True: time.sleep(0.001)\n"
	                "finally: builtins.sb_k2 = 1\n"),
	        NULL);
	return 1;
}

static void test_25_abandoned_by_a_killed_caller(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "killed", SB_DESIGNATED_DEDICATED);
	pid_t pid = fixture_fork(call_for_ever, s);

	wait_running(s, "sb_k1");
	kill(pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	wait_running(s, "sb_k2"); /* by the owner's own sweep */
	sb_session_close(s);
}

/* ── deadlines ── */

static int timed_call(sb_session *s, uint32_t timeout_ms, double *ret_s)
{
	sb_request r = SB_REQUEST_INIT;
	double begun = now_s();
	int err;

	r.name = "time:sleep";
	r.args = sb_args("d", 20.0);
	r.timeout_ms = timeout_ms;
	err = sb_invoke(s, &r, NULL);
	*ret_s = now_s() - begun;
	return err;
}

/* call > session handle > bridge > code > environment > 120 s: each set to a time of its own, the nearest wins. The
 * message names the milliseconds that counted. */
static void expect_timeout(sb_session *s, uint32_t timeout_ms, const char *expected)
{
	double took;

	assert_int_equal(timed_call(s, timeout_ms, &took), SB_ETIMEOUT);
	assert_true(sb_last_error()->trace_id != 0);
	assert_non_null(strstr(sb_last_error()->message, expected));
	assert_true(took < 15);
}

static void test_23_nearest_timeout_holds(void **state)
{
	struct fixture *f = *state;
	sb_bridge_options bo = SB_BRIDGE_OPTIONS_INIT;
	sb_session_options so = SB_SESSION_OPTIONS_INIT;
	char dir[256];
	sb_bridge *b;
	sb_session *s;

	(void)f;
	fixture_dir_make(dir, sizeof(dir));
	setenv("SNAKEBRIDGE_TIMEOUT_MS", "210", 1);
	assert_ok(sb_bridge_open(dir, NULL, &b));
	unsetenv("SNAKEBRIDGE_TIMEOUT_MS");
	so.session_id = "timeouts";
	so.designated = SB_DESIGNATED_DEDICATED;
	assert_ok(sb_session_open(b, &so, &s));
	expect_timeout(s, 0, "210 ms"); /* environment */
	bo.timeout_ms = 220;
	{
		sb_bridge *again;

		assert_ok(sb_bridge_open(dir, &bo, &again));
		expect_timeout(s, 0, "220 ms"); /* bridge */
		sb_bridge_close(again);
	}
	sb_session_close(s);
	so.timeout_ms = 230;
	assert_ok(sb_session_open(b, &so, &s));
	expect_timeout(s, 0, "230 ms");   /* session handle */
	expect_timeout(s, 240, "240 ms"); /* call */
	sb_session_close(s);
	sb_bridge_close(b);
	fixture_dir_remove(dir);
}

static void test_23_default_timeout(void **state)
{
	uint64_t ms = 0;

	(void)state;
	assert_ok(sb_config_get("timeout_ms", &ms));
	assert_int_equal(ms, 120000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_25_running_python_is_interrupted, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_cancelled_by_another_process, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_call_on_own_objects, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_not_started_is_removed, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_nothing_to_cancel, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_c_code_ends_when_it_ends, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_abandoned_at_the_deadline, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_abandoned_by_a_killed_caller, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_23_nearest_timeout_holds, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test(test_23_default_timeout),
	};

	return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
