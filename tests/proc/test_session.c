/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions through the public interface: options, joining, contexts, release. Numbers are points of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

static int open_with(sb_bridge *b, const sb_session_options *o)
{
	sb_session *s = NULL;
	int err = sb_session_open(b, o, &s);

	sb_session_close(s);
	return err;
}

static void test_01_defaults(void **state)
{
	struct fixture *f = *state;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s;

	assert_ok(sb_session_open(f->bridge, NULL, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs, 10000);
	assert_int_equal(info.ttl_seconds, 3600);
	assert_int_equal(info.state, SB_SESSION_ACTIVE);
	assert_int_equal(info.designated_pid, getpid());
	assert_int_equal(info.owner_count, 1);
	assert_int_equal(strncmp(sb_session_id(s), "session_", 8), 0);
	sb_session_close(s);
}

static void test_01_bad_options_are_refused(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_tag tags[65];
	char longest[300];

	o.session_id = "";
	assert_int_equal(open_with(f->bridge, &o), SB_EID);
	memset(longest, 'x', sizeof(longest));
	longest[256] = 0;
	o.session_id = longest;
	assert_int_equal(open_with(f->bridge, &o), SB_EID);
	o.session_id = "new\nline";
	assert_int_equal(open_with(f->bridge, &o), SB_EID);
	o.session_id = "ok";
	o.max_refs = 0;
	assert_int_equal(open_with(f->bridge, &o), SB_EINVAL);
	assert_non_null(strstr(sb_last_error()->message, "max_refs"));
	o.max_refs = SB_UNSET;
	o.ttl_seconds = -5;
	assert_int_equal(open_with(f->bridge, &o), SB_EINVAL);
	assert_non_null(strstr(sb_last_error()->message, "ttl_seconds"));
	o.ttl_seconds = SB_UNSET;
	for (int i = 0; i < 65; i++)
		tags[i] = (sb_tag){ "k", "v" };
	o.tags = tags;
	o.tag_count = 65;
	assert_int_equal(open_with(f->bridge, &o), SB_EINVAL);
	assert_non_null(strstr(sb_last_error()->message, "tags"));
	o.tag_count = 0;
	o.tags = NULL;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	assert_int_equal(open_with(f->bridge, &o), SB_ENOSESSION);
	assert_non_null(strstr(sb_last_error()->message, "\"ok\""));
}

static void test_01_longest_id_works(void **state)
{
	struct fixture *f = *state;
	char id[256];
	sb_session *s;
	sb_value *v = NULL;

	memset(id, 'y', 255);
	id[255] = 0;
	s = fixture_session(f->bridge, id, SB_DESIGNATED_SELF);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), &v));
	sb_value_free(v);
	sb_session_close(s);
}

static void test_03_join_inherits_and_checks(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *a, *b;

	o.session_id = "joined";
	o.max_refs = 7;
	assert_ok(sb_session_open(f->bridge, &o, &a));
	b = fixture_session(f->bridge, "joined", SB_DESIGNATED_UNSET);
	assert_ok(sb_session_get_info(b, &info));
	assert_int_equal(info.max_refs, 7);
	assert_int_equal(info.owner_count, 2);
	o.max_refs = 8;
	assert_int_equal(open_with(f->bridge, &o), SB_EOPTION);
	assert_non_null(strstr(sb_last_error()->message, "max_refs"));
	sb_session_close(a);
	assert_ok(sb_session_get_info(b, &info));
	assert_int_equal(info.state, SB_SESSION_ACTIVE);
	assert_int_equal(info.owner_count, 1);
	sb_session_close(b);
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	o.max_refs = SB_UNSET;
	assert_int_equal(open_with(f->bridge, &o), SB_ERELEASED); /* 10: last owner gone -> released */
}

static void test_05_ref_of_another_session(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "session-a", SB_DESIGNATED_SELF);
	sb_session *b = fixture_session(f->bridge, "session-b", SB_DESIGNATED_SELF);
	sb_value *ref = NULL, *list = NULL, *v = NULL;

	assert_ok(sb_call(a, "collections:Counter", NULL, &ref));
	assert_int_equal(sb_method(b, sb_value_ref(ref), "clear", NULL, NULL), SB_EREFSESSION);
	assert_non_null(strstr(sb_last_error()->message, "session-a"));
	assert_non_null(strstr(sb_last_error()->message, "session-b"));
	assert_string_equal(sb_last_error()->session_id, "session-b");
	assert_string_equal(sb_last_error()->other_session_id, "session-a");
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_ok(sb_value_pack(&list, "[[{so}]]", "deep", ref));
	assert_int_equal(sb_call(b, "builtins:len", sb_args("o", list), &v), SB_EREFSESSION);
	assert_int_equal(sb_call(b, "builtins:dict", sb_args("x=o", ref), &v), SB_EREFSESSION);
	assert_ok(sb_call(a, "builtins:len", sb_args("o", ref), &v));
	sb_value_free(v);
	sb_value_free(list);
	sb_value_free(ref);
	sb_session_close(a);
	sb_session_close(b);
}

static void test_04_06_resolution(void **state)
{
	struct fixture *f = *state;
	sb_session *named = fixture_session(f->bridge, "named", SB_DESIGNATED_SELF), *context;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_value *v = NULL, *own = NULL;
	const char *id;

	assert_null(sb_context_current());
	assert_ok(sb_call(NULL, "collections:Counter", NULL, &v)); /* the auto-session */
	assert_int_equal(strncmp(sb_value_ref(v)->session_id, "auto_", 5), 0);
	assert_ok(sb_session_current_id(NULL, &id));
	assert_string_equal(id, sb_value_ref(v)->session_id);
	sb_value_free(v);

	o.session_id = "context";
	assert_ok(sb_context_create(f->bridge, &o, &context));
	assert_ptr_equal(sb_context_current(), context);
	assert_ok(sb_call(NULL, "collections:Counter", NULL, &v));
	assert_string_equal(sb_value_ref(v)->session_id, "context");
	assert_ok(sb_call(named, "collections:Counter", NULL, &own));
	assert_string_equal(sb_value_ref(own)->session_id, "named");
	/* the ref's own session comes before the current context */
	assert_ok(sb_method(NULL, sb_value_ref(own), "clear", NULL, NULL));
	sb_value_free(v);
	sb_value_free(own);
	assert_ptr_equal(sb_context_clear(), context);
	assert_null(sb_context_clear());
	sb_session_close(context);
	sb_session_close(named);
}

static void *auto_id_of_thread(void *arg)
{
	const char *id = NULL;

	if (sb_session_current_id(NULL, &id) == 0)
		snprintf(arg, 256, "%s", id);
	return NULL;
}

static void test_06_auto_session_per_thread(void **state)
{
	struct fixture *f = *state;
	const char *mine;
	char theirs[256] = "";
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	pthread_t t;

	assert_ok(sb_session_current_id(NULL, &mine));
	assert_int_equal(pthread_create(&t, NULL, auto_id_of_thread, theirs), 0);
	pthread_join(t, NULL);
	assert_int_equal(strncmp(theirs, "auto_", 5), 0);
	assert_string_not_equal(theirs, mine);
	o.session_id = theirs; /* its thread ended, and with it the session */
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	assert_int_equal(open_with(f->bridge, &o), SB_ERELEASED);
}

static int body(sb_session *s, void *arg)
{
	snprintf(arg, 64, "%s", sb_session_id(s));
	return sb_context_current() == s ? 42 : 1;
}

static int leave_early(sb_bridge *bridge, const sb_session_options *o)
{
	SB_WITH_SESSION(bridge, o, s) {
		if (sb_context_current() == s)
			return 5;
	}
	return 6;
}

static void test_07_with_session(void **state)
{
	struct fixture *f = *state;
	sb_session *outer = fixture_session(f->bridge, "outer", SB_DESIGNATED_SELF), *again = NULL;
	sb_session_options o = SB_SESSION_OPTIONS_INIT, attach = SB_SESSION_OPTIONS_INIT;
	char id[64] = "";
	int ran = 0;

	sb_context_set(outer);
	o.session_id = "inner";
	assert_int_equal(sb_with_session(f->bridge, &o, body, id), 42);
	assert_string_equal(id, "inner");
	assert_ptr_equal(sb_context_current(), outer);
	attach.session_id = "inner"; /* leaving ended nothing */
	attach.designated = SB_DESIGNATED_ATTACH_ONLY;
	assert_ok(sb_session_open(f->bridge, &attach, &again));
	sb_session_close(again);

	assert_int_equal(leave_early(f->bridge, &o), 5);
	assert_ptr_equal(sb_context_current(), outer);
	SB_WITH_SESSION(f->bridge, &o, s) {
		SB_WITH_SESSION(f->bridge, NULL, t) {
			ran += sb_context_current() == t;
			break;
		}
		ran += sb_context_current() == s;
	}
	assert_int_equal(ran, 2);
	assert_ptr_equal(sb_context_current(), outer);

	o.session_id = "brief";
	o.release_on_exit = 1;
	assert_int_equal(sb_with_session(f->bridge, &o, body, id), 42);
	attach.session_id = "brief";
	assert_int_equal(open_with(f->bridge, &attach), SB_ERELEASED);
	o.session_id = "bad\x01";
	SB_WITH_SESSION(f->bridge, &o, s) {
		ran = 99;
		(void)s;
	}
	assert_int_equal(ran, 2); /* the block did not run */
	sb_context_set(NULL);
	sb_session_close(outer);
}

static void test_09_release(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "released", SB_DESIGNATED_SELF);
	sb_value *ref = NULL;
	int count = -1;

	assert_ok(sb_call(s, "collections:Counter", NULL, &ref));
	assert_ok(sb_session_release(f->bridge, "release", &count)); /* no prefix match */
	assert_int_equal(count, 0);
	assert_ok(sb_session_release(f->bridge, "released", &count));
	assert_int_equal(count, 1);
	assert_int_equal(sb_method(s, sb_value_ref(ref), "clear", NULL, NULL), SB_ERELEASED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 4), NULL), SB_ERELEASED);
	assert_ok(sb_session_release(f->bridge, "released", &count));
	assert_int_equal(count, 0);
	sb_session_close(s);
	sb_value_free(ref);
}

static void test_14_reopen_is_fresh(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "again", SB_DESIGNATED_SELF);
	sb_session_info first = { .size = sizeof(first) }, second = { .size = sizeof(second) };
	sb_value *ref = NULL;

	assert_ok(sb_session_get_info(s, &first));
	assert_ok(sb_call(s, "collections:Counter", NULL, &ref));
	assert_ok(sb_session_release(f->bridge, "again", NULL));
	sb_session_close(s);
	s = fixture_session(f->bridge, "again", SB_DESIGNATED_SELF);
	assert_ok(sb_session_get_info(s, &second));
	assert_true(second.incarnation > first.incarnation);
	assert_int_equal(sb_method(s, sb_value_ref(ref), "clear", NULL, NULL), SB_ERELEASED);
	sb_value_free(ref);
	sb_session_close(s);
}

static void test_bad_directories(void **state)
{
	struct fixture *f = *state;
	char path[512];
	sb_bridge *b = NULL;

	snprintf(path, sizeof(path), "%s/missing/deeper", f->dir);
	assert_int_equal(sb_bridge_open(path, NULL, &b), SB_EDIR);
	assert_non_null(strstr(sb_last_error()->message, path));
	snprintf(path, sizeof(path), "%s/link", f->dir);
	assert_int_equal(symlink("/tmp", path), 0);
	assert_int_equal(sb_bridge_open(path, NULL, &b), SB_EDIR);
	assert_int_equal(sb_bridge_open("/etc/passwd", NULL, &b), SB_EDIR);
	assert_null(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_01_defaults),
		T(test_01_bad_options_are_refused),
		T(test_01_longest_id_works),
		T(test_03_join_inherits_and_checks),
		T(test_05_ref_of_another_session),
		T(test_04_06_resolution),
		T(test_06_auto_session_per_thread),
		T(test_07_with_session),
		T(test_09_release),
		T(test_14_reopen_is_fresh),
		T(test_bad_directories),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
