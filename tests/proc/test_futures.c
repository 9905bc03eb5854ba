/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in flight: results, errors, cancelling, descriptors, and what ends them. Points 22-25, 30. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define LONG_MS 30000

static sb_future *start(sb_session *s, const char *function, sb_args *args, uint32_t timeout_ms)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;

	r.name = function;
	r.args = args;
	r.timeout_ms = timeout_ms;
	assert_ok(sb_call_start(s, &r, &future));
	assert_non_null(future);
	return future;
}

static int64_t int_of(sb_future *future)
{
	sb_value *value = NULL;
	int64_t n = -1;

	assert_ok(sb_future_wait(future, LONG_MS, &value));
	assert_ok(sb_value_int(value, &n));
	sb_value_free(value);
	return n;
}

static int64_t owner_pid(sb_session *s)
{
	sb_value *value = NULL;
	int64_t pid = 0;

	assert_ok(sb_call(s, "os:getpid", NULL, &value));
	assert_ok(sb_value_int(value, &pid));
	sb_value_free(value);
	return pid;
}

/* ── results ── */

static void results_and_errors(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_future *futures[40];
	char big[20000];

	for (int i = 0; i < 40; i++)
		futures[i] = start(s, "builtins:pow", sb_args("ii", i, 2), 0);
	for (int i = 39; i >= 0; i--)
		assert_int_equal(int_of(futures[i]), i * i);
	assert_int_equal(sb_future_wait(futures[7], 0, NULL), SB_EINVAL); /* given once */
	for (int i = 0; i < 40; i++) {
		assert_int_equal(sb_future_poll(futures[i]), 1);
		sb_future_free(futures[i]);
	}
	memset(big, 'x', sizeof(big)); /* by an arena, both ways */
	futures[0] = start(s, "builtins:str.upper", sb_args("u", big, sizeof(big)), 0);
	{
		sb_value *value = NULL;

		assert_ok(sb_future_wait(futures[0], SB_WAIT_FOREVER, &value));
		assert_int_equal(sb_value_len(value), sizeof(big));
		sb_value_free(value);
	}
	sb_future_free(futures[0]);
	futures[0] = start(s, "builtins:int", sb_args("s", "x"), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sb_future_wait(futures[0], LONG_MS, NULL), SB_EPYTHON);
		assert_string_equal(sb_last_error()->python_type, "builtins.ValueError");
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	}
	sb_future_free(futures[0]);
	sb_session_close(s);
}

static void test_22_results_and_errors(void **state)
{
	results_and_errors(*state, SB_DESIGNATED_DEDICATED);
}

static void test_22_results_and_errors_here(void **state)
{
	results_and_errors(*state, SB_DESIGNATED_SELF);
}

/* They run side by side, also behind a call that hangs, though nobody waits for them. */
static void test_35_one_that_hangs_holds_up_no_other(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_future *slow = start(s, "time:sleep", sb_args("i", 60), 0), *quick;
	struct pollfd p = { .events = POLLIN };

	usleep(20000);
	quick = start(s, "builtins:abs", sb_args("i", -3), 0);
	assert_ok(sb_future_fd(quick, &p.fd));
	assert_int_equal(poll(&p, 1, LONG_MS), 1);
	assert_int_equal(sb_future_wait(slow, 0, NULL), 1);
	assert_int_equal(int_of(quick), 3);
	sb_future_free(quick);
	sb_future_free(slow); /* abandoned */
	assert_ok(sb_call(s, "builtins:abs", sb_args("i", -3), NULL));
	sb_session_close(s);
}

/* ── ends ── */

static void test_23_deadline(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_future *future = start(s, "time:sleep", sb_args("i", 60), 300);
	struct pollfd p = { .events = POLLIN };

	assert_ok(sb_future_fd(future, &p.fd));
	assert_int_equal(poll(&p, 1, LONG_MS), 1);
	assert_int_equal(sb_future_wait(future, 0, NULL), SB_ETIMEOUT);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	sb_future_free(future);
	sb_session_close(s);
}

static void test_25_cancel(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_future *future, *other = start(s, "time:sleep", sb_args("d", 0.2), 0);
	int level = -1;

	future = start(s, "builtins:exec", sb_args("s{}", "import time\nwhile True: time.sleep(0.001)"),
	               LONG_MS);
	for (int i = 0; i < 10000 && level != SB_CANCEL_ASKED && level != SB_CANCEL_REMOVED; i++)
		assert_ok(sb_future_cancel(future, &level));
	assert_int_equal(sb_future_wait(future, LONG_MS, NULL), SB_ECANCELLED);
	assert_ok(sb_future_cancel(future, &level));
	assert_int_equal(level, SB_CANCEL_NONE);
	assert_ok(sb_future_wait(other, LONG_MS, NULL));
	sb_future_free(future);
	sb_future_free(other);
	sb_session_close(s);
}

#define MANY 150 /* more than one thread watches */

static void test_30_owner_killed_ends_all(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "doomed", SB_DESIGNATED_DEDICATED);
	int64_t pid = owner_pid(s);
	struct pollfd p[MANY];
	sb_future *futures[MANY];

	for (int i = 0; i < MANY; i++) {
		futures[i] = start(s, "time:sleep", sb_args("i", 60), 0);
		p[i] = (struct pollfd){ .events = POLLIN };
		assert_ok(sb_future_fd(futures[i], &p[i].fd));
	}
	assert_int_equal(poll(p, MANY, 50), 0);
	kill((pid_t)pid, SIGKILL);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(poll(&p[i], 1, LONG_MS), 1);
		assert_int_equal(sb_future_wait(futures[i], 0, NULL), SB_EOWNERDIED);
		assert_int_not_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
		sb_future_free(futures[i]);
	}
	sb_session_close(s);
}

static void test_30_session_released_ends_all(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "ending", SB_DESIGNATED_DEDICATED);
	struct pollfd p[10];
	sb_future *futures[10];

	for (int i = 0; i < 10; i++) {
		futures[i] = start(s, "time:sleep", sb_args("i", 60), 0);
		p[i] = (struct pollfd){ .events = POLLIN };
		assert_ok(sb_future_fd(futures[i], &p[i].fd));
	}
	assert_ok(sb_session_release(f->bridge, "ending", NULL));
	for (int i = 0; i < 10; i++) {
		assert_int_equal(poll(&p[i], 1, LONG_MS), 1);
		assert_int_equal(sb_future_wait(futures[i], 0, NULL), SB_ERELEASED);
		sb_future_free(futures[i]);
	}
	sb_session_close(s);
}

/* Handle and bridge go first; the futures only say so. */
static void test_30_closing_ends_all(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
	sb_future *slow = start(s, "time:sleep", sb_args("d", 0.5), 0);
	sb_future *quick = start(s, "builtins:abs", sb_args("i", -3), 0);

	while (!sb_future_poll(quick))
		usleep(1000);
	sb_session_close(s);
	assert_int_equal(sb_future_wait(slow, LONG_MS, NULL), SB_ECLOSED);
	assert_int_equal(int_of(quick), 3);
	sb_bridge_close(f->bridge);
	f->bridge = NULL;
	assert_int_equal(sb_future_wait(slow, LONG_MS, NULL), SB_ECLOSED);
	sb_future_free(slow);
	sb_future_free(quick);
}

/* ── limits ── */

static void test_24_over_the_quota_is_refused(void **state)
{
	struct fixture *f = *state;
	sb_future **futures = calloc(1000, sizeof(*futures)), *one = NULL;
	sb_request r = SB_REQUEST_INIT;
	sb_session *s;
	size_t count = 0;
	int err = 0;

	setenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS", "300", 1);
	s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS");
	for (int i = 0; i < 1000; i++) {
		r.name = "builtins:abs";
		r.args = sb_args("i", -i);
		err = sb_call_start(s, &r, &one);
		if (err) {
			assert_int_equal(err, SB_ELANES);
			assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
		} else {
			futures[count++] = one;
		}
	}
	assert_int_equal(count, 300);
	assert_int_equal(err, SB_ELANES);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(int_of(futures[i]), (int64_t)i);
		sb_future_free(futures[i]);
	}
	for (int i = 0; i < 1000; i++) { /* the lanes come back */
		one = start(s, "builtins:abs", sb_args("i", -i), 0);
		assert_int_equal(int_of(one), i);
		sb_future_free(one);
	}
	free(futures);
	sb_session_close(s);
}

/* ── fork ── */

static int in_child(void *arg)
{
	sb_future **futures = arg;
	int fd;

	if (sb_future_wait(futures[0], LONG_MS, NULL) != SB_EINVAL ||
	    sb_future_poll(futures[0]) != SB_EINVAL || sb_future_fd(futures[0], &fd) != SB_EINVAL)
		return 1;
	sb_future_free(futures[0]);
	return 0;
}

static int child_starts_anew(void *arg)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *mine = NULL;
	sb_value *value = NULL;
	struct pollfd p = { .events = POLLIN };
	int64_t n = 0;

	r.name = "builtins:abs";
	r.args = sb_args("i", -5);
	if (sb_call_start(arg, &r, &mine) || sb_future_fd(mine, &p.fd) || poll(&p, 1, LONG_MS) != 1 ||
	    sb_future_wait(mine, 0, &value) || sb_value_int(value, &n))
		return 1;
	sb_future_free(mine);
	return n == 5 ? 0 : 2;
}

static void test_30_a_child_neither_hangs_nor_takes(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_future *futures[1] = { start(s, "time:sleep", sb_args("d", 0.5), 0) };
	struct pollfd p = { .events = POLLIN };

	assert_ok(sb_future_fd(futures[0], &p.fd));
	assert_int_equal(fixture_wait(fixture_fork(in_child, futures)), 0);
	assert_int_equal(fixture_wait(fixture_fork(child_starts_anew, s)), 0);
	assert_int_equal(poll(&p, 1, LONG_MS), 1);
	assert_ok(sb_future_wait(futures[0], 0, NULL));
	sb_future_free(futures[0]);
	sb_session_close(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_22_results_and_errors),
		TEST(test_22_results_and_errors_here),
		TEST(test_35_one_that_hangs_holds_up_no_other),
		TEST(test_23_deadline),
		TEST(test_25_cancel),
		TEST(test_30_owner_killed_ends_all),
		TEST(test_30_session_released_ends_all),
		TEST(test_30_closing_ends_all),
		TEST(test_24_over_the_quota_is_refused),
		TEST(test_30_a_child_neither_hangs_nor_takes),
	};

	return cmocka_run_group_tests_name("futures", tests, NULL, NULL);
}
