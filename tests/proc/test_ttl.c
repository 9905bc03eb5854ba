/* SPDX-License-Identifier: Apache-2.0 */
/* TTL of sessions, by timer and on access. Numbers are points of the contract. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

/*
 * What has a TTL of a second is gone after one, also where the machine held the test up for as long: that shows nothing. So each
 * of these tests says whether it came in time, and is tried with longer TTLs until it did.
 */
#define IN_TIME true
#define LATE    false

static void in_time(void **state, bool (*try_with)(sb_bridge *b, int64_t ttl))
{
	struct fixture *f = *state;
	int64_t ttl = 1;

	while (try_with(f->bridge, ttl) == LATE) {
		print_message("too late for a TTL of %d s\n", (int)ttl);
		ttl *= 3;
		assert_true(ttl <= 9);
	}
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(double s)
{
	struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };

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

static int use(sb_session *s)
{
	return sb_call(s, "math:sqrt", sb_args("i", 16), NULL);
}

/* Uses the session, which was used at since_s or later. Late: that was too long ago to say anything. */
static bool use_in_time(sb_session *s, double since_s, int64_t ttl)
{
	int err = use(s);

	if (err == SB_EEXPIRED && now_s() - since_s >= (double)ttl / 2) {
		sb_session_close(s);
		return LATE;
	}
	assert_ok(err);
	return IN_TIME;
}

static int state_of(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	return info.state;
}

/* 0 if it has ended. */
static int32_t owner_of(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	return info.state == SB_SESSION_ACTIVE ? info.designated_pid : 0;
}

static void wait_ended(sb_session *s)
{
	for (int i = 0; i < 6000 && state_of(s) != SB_SESSION_ENDED; i++)
		nap(0.01);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
}

static void is_expired(sb_session *s)
{
	assert_int_equal(use(s), SB_EEXPIRED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
}

/* Nobody calls, nobody looks but at the record: the timer ends it. */
static bool by_timer(sb_bridge *b, int64_t ttl, sb_designated designated, int persistent)
{
	double begun = now_s();
	sb_session *s = open_ttl(b, "timer", designated, ttl, persistent);

	if (use_in_time(s, begun, ttl) == LATE)
		return LATE;
	wait_ended(s);
	is_expired(s);
	sb_session_close(s);
	return IN_TIME;
}

static bool here_by_timer(sb_bridge *b, int64_t ttl)
{
	return by_timer(b, ttl, SB_DESIGNATED_SELF, 0);
}

static void test_13_ttl_by_timer(void **state)
{
	in_time(state, here_by_timer);
}

static bool persistent_by_timer(sb_bridge *b, int64_t ttl)
{
	return by_timer(b, ttl, SB_DESIGNATED_DEDICATED, 1);
}

static void test_13_ttl_of_dedicated_and_persistent(void **state)
{
	in_time(state, persistent_by_timer);
}

/* The designated owner is stopped until the TTL has passed. False: it had ended before. */
static bool outlast(sb_session *s, int64_t ttl, int32_t *ret_stopped)
{
	*ret_stopped = owner_of(s);
	if (!*ret_stopped) {
		sb_session_close(s);
		return LATE;
	}
	kill(*ret_stopped, SIGSTOP);
	nap((double)ttl * 1.2);
	return IN_TIME;
}

/* The designated owner is stopped, no sweep runs in this process: the access finds it. */
static bool on_access(sb_bridge *b, int64_t ttl)
{
	double begun = now_s();
	sb_session *s = open_ttl(b, "access", SB_DESIGNATED_DEDICATED, ttl, 0);
	int32_t owner;

	if (use_in_time(s, begun, ttl) == LATE || outlast(s, ttl, &owner) == LATE)
		return LATE;
	is_expired(s);
	kill(owner, SIGCONT);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
	sb_session_close(s);
	return IN_TIME;
}

static void test_13_ttl_on_access(void **state)
{
	in_time(state, on_access);
}

/* Opening an id whose session is past its TTL makes a fresh one, with another incarnation. */
static bool opened_anew(sb_bridge *b, int64_t ttl)
{
	sb_session *s = open_ttl(b, "again", SB_DESIGNATED_DEDICATED, ttl, 0), *fresh;
	sb_session_info info = { .size = sizeof(info) }, later = { .size = sizeof(later) };
	sb_request r = SB_REQUEST_INIT;
	sb_value *ref = NULL;
	int32_t owner;

	r.name = "builtins:dict";
	r.args = sb_args("");
	r.flags = SB_CALL_AS_REF;
	if (sb_invoke(s, &r, &ref) == SB_EEXPIRED) {
		sb_session_close(s);
		return LATE;
	}
	assert_non_null(ref);
	assert_ok(sb_session_get_info(s, &info));
	if (outlast(s, ttl, &owner) == LATE) {
		sb_value_free(ref);
		return LATE;
	}
	fresh = open_ttl(b, "again", SB_DESIGNATED_DEDICATED, 60, 0);
	kill(owner, SIGCONT);
	assert_ok(sb_session_get_info(fresh, &later));
	assert_true(later.incarnation > info.incarnation);
	assert_int_equal(sb_method(fresh, sb_value_ref(ref), "copy", NULL, NULL), SB_EEXPIRED);
	sb_value_free(ref);
	sb_session_close(s);
	sb_session_close(fresh);
	return IN_TIME;
}

static void test_14_open_finds_it_expired(void **state)
{
	in_time(state, opened_anew);
}

struct user {
	sb_session *s;
	int64_t ttl;
};

/* 0; 1 it failed; 2 it failed because it was late. */
static int use_often(void *arg)
{
	const struct user *u = arg;
	double last = now_s();

	for (int i = 0; i < 25; i++) {
		double before;

		nap((double)u->ttl / 10);
		before = now_s();
		if (use(u->s))
			return now_s() - last >= (double)u->ttl / 2 ? 2 : 1;
		last = before;
	}
	return 0;
}

/* Any process's access counts: this one's handle stays good for 2.5 TTLs of idling, by the child's calls. */
static bool slides(sb_bridge *b, int64_t ttl)
{
	struct user u = { open_ttl(b, "slides", SB_DESIGNATED_DEDICATED, ttl, 0), ttl };
	pid_t pid = fixture_fork(use_often, &u);
	int status = fixture_wait(pid), err = status == 0 ? use(u.s) : 0;

	assert_true(status == 0 || status == 2);
	sb_session_close(u.s);
	/* Between the child's last access and ours are its end and its being waited for. */
	assert_true(err == 0 || err == SB_EEXPIRED);
	return status == 0 && err == 0 ? IN_TIME : LATE;
}

static void test_13_ttl_slides_from_any_process(void **state)
{
	in_time(state, slides);
}

/* A call that takes longer than the TTL is in use all the time. */
static bool not_during_a_call(sb_bridge *b, int64_t ttl)
{
	sb_session *s = open_ttl(b, "long", SB_DESIGNATED_DEDICATED, ttl, 0);
	double takes = (double)ttl * 2.5, begun = now_s();
	int err = sb_call(s, "time:sleep", sb_args("d", takes), NULL);

	if (err == SB_EEXPIRED && sb_last_error()->outcome == SB_OUTCOME_REFUSED &&
	    now_s() - begun >= (double)ttl / 2) {
		sb_session_close(s);
		return LATE; /* it did not begin */
	}
	assert_ok(err);
	if (use_in_time(s, begun + takes, ttl) == LATE)
		return LATE;
	sb_session_close(s);
	return IN_TIME;
}

static void test_13_ttl_not_during_a_call(void **state)
{
	in_time(state, not_during_a_call);
}

static void test_13_ttl_zero_is_never(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "never", SB_DESIGNATED_DEDICATED, 0, 0);

	nap(1.5);
	assert_ok(use(s));
	sb_session_close(s);
}

/* Its designated owner is dead, so no mailbox knows of accesses; the record does. */
static bool of_an_orphan(sb_bridge *b, int64_t ttl)
{
	sb_session *s = open_ttl(b, "orphan", SB_DESIGNATED_DEDICATED, ttl, 0);
	int32_t owner = owner_of(s);
	int err = SB_EEXPIRED;

	if (owner) {
		kill(owner, SIGKILL);
		err = use(s);
	}
	if (err == SB_EEXPIRED) {
		sb_session_close(s);
		return LATE;
	}
	assert_int_equal(err, SB_EOWNERDIED);
	nap((double)ttl * 1.2);
	assert_int_equal(use(s), SB_EEXPIRED);
	assert_int_equal(state_of(s), SB_SESSION_ENDED);
	sb_session_close(s);
	return IN_TIME;
}

static void test_13_ttl_of_an_orphan(void **state)
{
	in_time(state, of_an_orphan);
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
