/* SPDX-License-Identifier: Apache-2.0 */
/* One-way calls: they run, in order, leave nothing behind, and hold up nobody. Points 22-24, 30, 31, 35. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

static sb_ref new_list(sb_session *s)
{
	sb_value *value = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, "collections:deque", NULL, &value));
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

static int append(sb_session *s, const sb_ref *list, sb_args *args)
{
	sb_request r = SB_REQUEST_INIT;

	r.verb = SB_VERB_METHOD;
	r.target = list;
	r.name = "append";
	r.args = args;
	r.flags = SB_CALL_ONEWAY;
	return sb_invoke(s, &r, NULL);
}

static uint64_t len_of(sb_session *s, const sb_ref *list)
{
	uint64_t len = 0;

	assert_ok(sb_len(s, list, &len));
	return len;
}

/* What a call that is waited for sees is what was sent before it, in the order in which it was sent. */
static void in_order(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_ref list = new_list(s);
	char big[10000];

	memset(big, 'b', sizeof(big));
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 20; i++)
			assert_ok(append(s, &list, sb_args("i", round * 20 + i)));
		assert_int_equal(len_of(s, &list), round * 20 + 20);
	}
	for (int i = 0; i < 400; i++) {
		sb_value *value = NULL;
		int64_t n = -1;

		assert_ok(sb_method(s, &list, "popleft", NULL, &value));
		assert_ok(sb_value_int(value, &n));
		assert_int_equal(n, i);
		sb_value_free(value);
	}
	for (int i = 0; i < 50; i++) /* by the arena */
		assert_ok(append(s, &list, sb_args("y", big, sizeof(big))));
	assert_int_equal(len_of(s, &list), 50);
	sb_session_close(s);
}

static void test_22_in_order_there(void **state)
{
	in_order(*state, SB_DESIGNATED_DEDICATED);
}

static void test_22_in_order_here(void **state)
{
	in_order(*state, SB_DESIGNATED_SELF);
}

/* They wait for each other, not their sender for them; another thread's session goes on. */
static void test_35_the_sender_does_not_wait(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_ref list = new_list(s);
	sb_request r = SB_REQUEST_INIT;

	assert_ok(sb_call_oneway(s, "time:sleep", sb_args("d", 0.5)));
	assert_ok(append(s, &list, sb_args("i", 1)));
	r.verb = SB_VERB_LEN;
	r.target = &list;
	r.timeout_ms = 50; /* it comes after the sleep */
	assert_int_equal(sb_invoke(s, &r, NULL), SB_ETIMEOUT);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_int_equal(len_of(s, &list), 1);
	sb_session_close(s);
}

static int64_t exceptions(const struct fixture *f, sb_session *s)
{
	json_t *json = fixture_tool_json(f->dir, "sb-inspect", "session", sb_session_id(s), "--json", NULL);
	int64_t count = -1;

	assert_non_null(json);
	count = json_integer_value(json_object_get(json_object_get(json, "mailbox"), "exceptions"));
	json_decref(json);
	return count;
}

/* Exceptions are dropped and counted; refs that nobody got are withdrawn. */
static void test_31_nothing_is_left(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_ref list = new_list(s);
	sb_session_info before = { .size = sizeof(before) }, after = before;
	sb_value *value = (sb_value *)&list;
	sb_request r = SB_REQUEST_INIT;

	len_of(s, &list);
	assert_ok(sb_session_get_info(s, &before));
	for (int i = 0; i < 100; i++) {
		assert_ok(sb_call_oneway(s, "builtins:object", NULL));
		assert_ok(sb_call_oneway(s, "builtins:int", sb_args("s", "x")));
	}
	r.name = "builtins:object";
	r.flags = SB_CALL_ONEWAY;
	assert_ok(sb_invoke(s, &r, &value));
	assert_null(value);
	assert_int_equal(len_of(s, &list), 0);
	for (int i = 0; i < 1000; i++) { /* counts are written behind */
		assert_ok(sb_session_get_info(s, &after));
		if (after.live_refs == before.live_refs)
			break;
		usleep(10000);
	}
	assert_int_equal(after.live_refs, before.live_refs);
	assert_int_equal(exceptions(f, s), 100);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL), 0);
	sb_session_close(s);
}

/* One whose time is over is dropped, and what follows it goes on. */
static void test_23_deadline(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_ref list = new_list(s);
	sb_request r = SB_REQUEST_INIT;

	assert_ok(sb_call_oneway(s, "time:sleep", sb_args("d", 0.5)));
	r.verb = SB_VERB_METHOD;
	r.target = &list;
	r.name = "append";
	r.args = sb_args("i", 1);
	r.timeout_ms = 50;
	r.flags = SB_CALL_ONEWAY;
	assert_ok(sb_invoke(s, &r, NULL));
	assert_ok(append(s, &list, sb_args("i", 2)));
	assert_int_equal(len_of(s, &list), 1);
	sb_session_close(s);
}

static void test_24_quota(void **state)
{
	struct fixture *f = *state;
	sb_session *s;
	int err = 0, sent = 0;

	setenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS", "10", 1);
	s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS");
	assert_ok(sb_call(s, "builtins:abs", sb_args("i", 1), NULL));
	assert_ok(sb_call_oneway(s, "time:sleep", sb_args("d", 0.5)));
	for (int i = 0; i < 20 && !err; i++) {
		err = sb_call_oneway(s, "builtins:abs", sb_args("i", 1));
		sent += !err;
	}
	assert_int_equal(err, SB_ELANES);
	assert_int_equal(sent, 8); /* and the thread's own lane, and the one that sleeps */
	assert_ok(sb_call(s, "builtins:abs", sb_args("i", 1), NULL));
	assert_ok(sb_call_oneway(s, "builtins:abs", sb_args("i", 1)));
	sb_session_close(s);
}

/* What was sent before closing is done. */
static void test_30_closing_lets_them_end(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "shared", SB_DESIGNATED_DEDICATED);
	sb_session *other = fixture_session(f->bridge, "shared", SB_DESIGNATED_DEDICATED);
	sb_ref list = new_list(s);

	assert_ok(sb_call_oneway(s, "time:sleep", sb_args("d", 0.2)));
	for (int i = 0; i < 10; i++)
		assert_ok(append(s, &list, sb_args("i", i)));
	sb_session_close(s);
	assert_int_equal(len_of(other, &list), 10);
	sb_session_close(other);
}

static int sends_and_dies(void *arg)
{
	sb_session *s = arg;

	for (int i = 0; i < 20; i++)
		if (sb_call_oneway(s, "time:sleep", sb_args("d", 0.01)))
			return 1;
	kill(getpid(), SIGKILL);
	return 2;
}

static void test_31_killed_sender(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	int lost = 1;

	assert_ok(sb_call(s, "builtins:abs", sb_args("i", 1), NULL));
	assert_int_equal(fixture_wait(fixture_fork(sends_and_dies, s)), 1000 + SIGKILL);
	assert_ok(sb_call(s, "builtins:abs", sb_args("i", 1), NULL));
	for (int i = 0; i < 100 && lost; i++) {
		assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", NULL), 0);
		lost = fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL);
		if (lost)
			usleep(20000);
	}
	assert_int_equal(lost, 0);
	sb_session_close(s);
}

struct closer {
	struct fixture *f;
	int said[2];
};

/* May wait for ten minutes for what it has sent to come to its end. */
static int sends_and_closes(void *arg)
{
	struct closer *c = arg;
	sb_bridge *bridge = NULL;
	sb_session *s;

	alarm(60);
	sb_bridge_close(c->f->bridge); /* the parent's, with its configuration */
	if (sb_config_set("close_timeout_ms", 600000) || sb_bridge_open(c->f->dir, NULL, &bridge))
		return 1;
	s = fixture_session(bridge, "dies", SB_DESIGNATED_ATTACH_ONLY);
	if (sb_call_oneway(s, "time:sleep", sb_args("d", 300.0)) || write(c->said[1], "c", 1) != 1)
		return 2;
	sb_session_close(s);
	return 0;
}

/* What it waits for will never end: who served it is killed meanwhile. */
static void test_30_closing_does_not_wait_for_the_dead(void **state)
{
	struct closer c = { .f = *state };
	sb_session *s = fixture_session(c.f->bridge, "dies", SB_DESIGNATED_DEDICATED);
	sb_session_info info = { .size = sizeof(info) };
	pid_t pid;
	char said;

	assert_int_equal(pipe(c.said), 0);
	pid = fixture_fork(sends_and_closes, &c);
	assert_true(fixture_hear(c.said[0], pid, &said, 1));
	fixture_wait_running(c.f, "time:sleep");
	usleep(100000); /* it waits by then; if not, nothing is shown */
	assert_ok(sb_session_get_info(s, &info));
	kill(info.designated_pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 0);
	sb_session_close(s);
	close(c.said[0]);
	close(c.said[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_22_in_order_there),
		TEST(test_22_in_order_here),
		TEST(test_35_the_sender_does_not_wait),
		TEST(test_31_nothing_is_left),
		TEST(test_23_deadline),
		TEST(test_24_quota),
		TEST(test_30_closing_lets_them_end),
		TEST(test_31_killed_sender),
		TEST(test_30_closing_does_not_wait_for_the_dead),
	};

	return cmocka_run_group_tests_name("oneway", tests, NULL, NULL);
}
