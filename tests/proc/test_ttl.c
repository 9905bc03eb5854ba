/* SPDX-License-Identifier: Apache-2.0 */
/* TTL of sessions, by timer and on access. Numbers are points of the contract. */
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

static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static sb_session *open_ttl(sb_bridge *b, const char *id, sb_designated designated, int64_t ttl,
                            int persistent)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = id;
	o.designated = designated;
	o.ttl_seconds = ttl;
	o.persistent = persistent;
	assert_ok(sb_session_open(b, &o, &s));
	return s;
}

static int state_of(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	return info.state;
}

static void wait_ended(sb_session *s)
{
	for (int i = 0; i < 1000 && state_of(s) != SB_SESSION_ENDED; i++)
		nap(10);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
}

/* Nobody calls, nobody looks but at the record: the timer ends it. */
static void by_timer(sb_bridge *b, sb_designated designated, int persistent)
{
	sb_session *s = open_ttl(b, "timer", designated, 1, persistent);

	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	wait_ended(s);
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 16), NULL), SB_EEXPIRED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_session_close(s);
}

static void test_13_ttl_by_timer(void **state)
{
	by_timer(((struct fixture *)*state)->bridge, SB_DESIGNATED_SELF, 0);
}

static void test_13_ttl_of_dedicated_and_persistent(void **state)
{
	by_timer(((struct fixture *)*state)->bridge, SB_DESIGNATED_DEDICATED, 1);
}

/* The designated owner is stopped, no sweep runs in this process: the access finds it. */
static void test_13_ttl_on_access(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "access", SB_DESIGNATED_DEDICATED, 1, 0);
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	assert_ok(sb_session_get_info(s, &info));
	kill(info.designated_pid, SIGSTOP);
	nap(1200);
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 16), NULL), SB_EEXPIRED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	kill(info.designated_pid, SIGCONT);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
	sb_session_close(s);
}

/* Opening an id whose session is past its TTL makes a fresh one, with another incarnation. */
static void test_14_open_finds_it_expired(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "again", SB_DESIGNATED_DEDICATED, 1, 0), *fresh;
	sb_session_info info = { .size = sizeof(info) }, later = { .size = sizeof(later) };
	sb_request r = SB_REQUEST_INIT;
	sb_value *ref = NULL;

	r.name = "builtins:dict";
	r.args = sb_args("");
	r.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(s, &r, &ref));
	assert_ok(sb_session_get_info(s, &info));
	kill(info.designated_pid, SIGSTOP);
	nap(1200);
	fresh = open_ttl(f->bridge, "again", SB_DESIGNATED_DEDICATED, 60, 0);
	kill(info.designated_pid, SIGCONT);
	assert_ok(sb_session_get_info(fresh, &later));
	assert_true(later.incarnation > info.incarnation);
	assert_int_equal(sb_method(fresh, sb_value_ref(ref), "copy", NULL, NULL), SB_EEXPIRED);
	sb_value_free(ref);
	sb_session_close(s);
	sb_session_close(fresh);
}

static int use_it(void *arg)
{
	for (int i = 0; i < 25; i++) {
		nap(100);
		if (sb_call(arg, "math:sqrt", sb_args("i", 16), NULL))
			return 1;
	}
	return 0;
}

/* Any process's access counts: this one's handle stays good for 2.5 s of idling, by the child's calls. */
static void test_13_ttl_slides_from_any_process(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "slides", SB_DESIGNATED_DEDICATED, 1, 0);
	pid_t pid = fixture_fork(use_it, s);

	assert_int_equal(fixture_wait(pid), 0);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

/* A call that takes longer than the TTL is in use all the time. */
static void test_13_ttl_not_during_a_call(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "long", SB_DESIGNATED_DEDICATED, 1, 0);

	assert_ok(sb_call(s, "time:sleep", sb_args("d", 2.5), NULL));
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

static void test_13_ttl_zero_is_never(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "never", SB_DESIGNATED_DEDICATED, 0, 0);

	nap(1500);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(s);
}

/* Its designated owner is dead, so no mailbox knows of accesses; the record does. */
static void test_13_ttl_of_an_orphan(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "orphan", SB_DESIGNATED_DEDICATED, 1, 0);
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	kill(info.designated_pid, SIGKILL);
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 16), NULL), SB_EOWNERDIED);
	nap(1200);
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 16), NULL), SB_EEXPIRED);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
	sb_session_close(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_13_ttl_by_timer),
		TEST(test_13_ttl_of_dedicated_and_persistent),
		TEST(test_13_ttl_on_access),
		TEST(test_14_open_finds_it_expired),
		TEST(test_13_ttl_slides_from_any_process),
		TEST(test_13_ttl_not_during_a_call),
		TEST(test_13_ttl_zero_is_never),
		TEST(test_13_ttl_of_an_orphan),
	};

	return cmocka_run_group_tests_name("ttl", tests, NULL, NULL);
}
