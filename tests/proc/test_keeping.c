/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives whom: dedicated and persistent sessions, refs passed on, releasing what is gone. Points 12, 19, 21. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

struct relay {
	sb_bridge *bridge;
	const char *id;
	int fds[2]; /* a printed ref goes through */
};

static int open_kind(sb_bridge *bridge, const char *id, sb_designated designated, int persistent,
                     sb_session **ret)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;

	o.session_id = id;
	o.designated = designated;
	o.persistent = persistent;
	return sb_session_open(bridge, &o, ret);
}

/* In a child: makes a Counter in the session, writes its ref to the pipe, and is killed on the spot. */
static int make_and_die(void *arg)
{
	struct relay *relay = arg;
	char text[SB_REF_TEXT_MAX] = "";
	sb_value *v = NULL;
	sb_session *s;

	if (open_kind(relay->bridge, relay->id, SB_DESIGNATED_DEDICATED, SB_UNSET, &s) ||
	    sb_call(s, "collections:Counter", sb_args("s", "hello"), &v) ||
	    sb_ref_format(sb_value_ref(v), text, sizeof(text)))
		return 1;
	if (write(relay->fds[1], text, sizeof(text)) != (ssize_t)sizeof(text))
		return 2;
	raise(SIGKILL);
	return 3;
}

/* Reads the ref and asks the Counter how many letters "l" it has. */
static int use(struct relay *relay)
{
	char text[SB_REF_TEXT_MAX];
	int64_t count = 0;
	sb_value *v = NULL;
	sb_session *s;
	sb_ref ref;
	int err;

	if (read(relay->fds[0], text, sizeof(text)) != (ssize_t)sizeof(text) || sb_ref_parse(text, &ref))
		return 10;
	err = open_kind(relay->bridge, relay->id, SB_DESIGNATED_ATTACH_ONLY, SB_UNSET, &s);
	if (err)
		return 11;
	err = sb_method(s, &ref, "get", sb_args("s", "l"), &v);
	if (!err)
		err = sb_value_int(v, &count);
	sb_value_free(v);
	sb_session_close(s);
	return err || count != 2 ? 12 : 0;
}

static int use_in_child(void *arg)
{
	return use(arg);
}

static void relay_open(struct relay *relay, struct fixture *f, const char *id)
{
	relay->bridge = f->bridge;
	relay->id = id;
	assert_int_equal(pipe(relay->fds), 0);
}

static void relay_close(struct relay *relay)
{
	int released = 0;

	close(relay->fds[0]);
	close(relay->fds[1]);
	assert_ok(sb_session_release(relay->bridge, relay->id, &released));
	assert_int_equal(released, 1);
}

static void test_12_dedicated_refs_outlive_their_maker(void **state)
{
	struct relay relay;
	sb_session *s;

	relay_open(&relay, *state, "dedicated");
	assert_ok(open_kind(relay.bridge, relay.id, SB_DESIGNATED_DEDICATED, 0, &s));
	assert_int_equal(fixture_wait(fixture_fork(make_and_die, &relay)), 1000 + SIGKILL);
	assert_int_equal(use(&relay), 0);
	relay_close(&relay);
	sb_session_close(s);
}

static void test_12_persistent_outlives_its_last_owner(void **state)
{
	sb_session_info info = { .size = sizeof(info) };
	struct relay relay;
	sb_session *s;

	relay_open(&relay, *state, "persistent");
	assert_ok(open_kind(relay.bridge, relay.id, SB_DESIGNATED_DEDICATED, 1, &s));
	assert_int_equal(fixture_wait(fixture_fork(make_and_die, &relay)), 1000 + SIGKILL);
	sb_session_close(s);
	assert_int_equal(
		fixture_tool(((struct fixture *)*state)->dir, NULL, "sb-reaper", "--once", "--quiet", NULL),
		0);
	assert_ok(open_kind(relay.bridge, relay.id, SB_DESIGNATED_ATTACH_ONLY, SB_UNSET, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.owner_count, 1); /* this one: there was none */
	assert_int_equal(use(&relay), 0);
	relay_close(&relay);
	sb_session_close(s);
}

static void test_12_without_it_the_last_owner_ends_it(void **state)
{
	struct fixture *f = *state;
	sb_session *s;

	assert_ok(open_kind(f->bridge, "brief", SB_DESIGNATED_DEDICATED, 0, &s));
	sb_session_close(s);
	assert_int_equal(open_kind(f->bridge, "brief", SB_DESIGNATED_ATTACH_ONLY, SB_UNSET, &s),
	                 SB_ERELEASED);
}

static void test_19_releasing_a_ref_twice(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "twice", SB_DESIGNATED_SELF);
	sb_value *v = NULL, *left = NULL;
	bool dropped = false;
	sb_ref ref;

	assert_ok(sb_call(s, "builtins:object", NULL, &v));
	ref = *sb_value_ref(v);
	sb_value_free(v);
	assert_ok(sb_ref_release(s, &ref, &dropped));
	assert_true(dropped);
	assert_ok(sb_ref_release(s, &ref, &dropped));
	assert_false(dropped);
	assert_ok(sb_ref_release(s, &ref, NULL));
	assert_int_equal(sb_attr(s, &ref, "__class__", &left), SB_EREFRELEASED);
	sb_session_close(s);
}

static void test_19_releasing_what_went_with_its_session(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "over", SB_DESIGNATED_SELF);
	sb_value *v = NULL;
	bool dropped = true;
	sb_ref ref;

	assert_ok(sb_call(s, "builtins:object", NULL, &v));
	ref = *sb_value_ref(v);
	sb_value_free(v);
	assert_ok(sb_session_release(f->bridge, "over", NULL));
	assert_ok(sb_ref_release(s, &ref, &dropped));
	assert_false(dropped);
	sb_session_close(s); /* of a session that is gone: says nothing, takes nothing */
	sb_session_close(NULL);
}

static void test_21_a_ref_works_where_it_was_passed_to(void **state)
{
	struct relay relay;
	sb_session *s;

	relay_open(&relay, *state, "passed");
	assert_ok(open_kind(relay.bridge, relay.id, SB_DESIGNATED_DEDICATED, 1, &s));
	sb_session_close(s);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(fixture_wait(fixture_fork(make_and_die, &relay)), 1000 + SIGKILL);
		assert_int_equal(fixture_wait(fixture_fork(use_in_child, &relay)), 0);
	}
	relay_close(&relay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_12_dedicated_refs_outlive_their_maker),
		T(test_12_persistent_outlives_its_last_owner),
		T(test_12_without_it_the_last_owner_ends_it),
		T(test_19_releasing_a_ref_twice),
		T(test_19_releasing_what_went_with_its_session),
		T(test_21_a_ref_works_where_it_was_passed_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
