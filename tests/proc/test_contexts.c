/* SPDX-License-Identifier: Apache-2.0 */
/* The current context of a thread: what sets it, what it returns, who inherits it. Point 8 of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static sb_session_options named(const char *id)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;

	o.session_id = id;
	return o;
}

static void test_08_create_makes_current(void **state)
{
	struct fixture *f = *state;
	sb_session_options a = named("a"), b = named("b");
	sb_session *first, *second;
	const char *id;

	assert_null(sb_context_current());
	assert_ok(sb_context_create(f->bridge, &a, &first));
	assert_ptr_equal(sb_context_current(), first);
	assert_ok(sb_context_create(f->bridge, &b, &second));
	assert_ptr_equal(sb_context_current(), second);
	assert_ok(sb_session_current_id(f->bridge, &id));
	assert_string_equal(id, "b");
	assert_ptr_equal(sb_context_clear(), second);
	sb_session_close(first);
	sb_session_close(second);
}

static void test_08_create_that_fails_changes_nothing(void **state)
{
	struct fixture *f = *state;
	sb_session_options bad = named("");
	sb_session *s = fixture_session(f->bridge, "kept", SB_DESIGNATED_SELF), *other = NULL;

	assert_null(sb_context_set(s));
	assert_int_equal(sb_context_create(f->bridge, &bad, &other), SB_EID);
	assert_null(other);
	assert_ptr_equal(sb_context_current(), s);
	assert_ptr_equal(sb_context_clear(), s);
	sb_session_close(s);
}

static void test_08_set_and_clear_return_what_was(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "a", SB_DESIGNATED_SELF);
	sb_session *b = fixture_session(f->bridge, "b", SB_DESIGNATED_SELF);

	assert_null(sb_context_clear());
	assert_null(sb_context_set(a));
	assert_ptr_equal(sb_context_set(b), a);
	assert_ptr_equal(sb_context_set(NULL), b);
	assert_null(sb_context_current());
	assert_null(sb_context_set(b));
	assert_ptr_equal(sb_context_clear(), b);
	assert_null(sb_context_clear());
	sb_session_close(a);
	sb_session_close(b);
}

/* Where a call that names no session runs: the id is in the ref that it gives. */
static int calls_in(const char *id)
{
	sb_value *v = NULL;
	int r = sb_call(NULL, "builtins:object", NULL, &v);

	if (r == 0)
		r = strcmp(sb_value_ref(v)->session_id, id) == 0 ? 0 : 1;
	sb_value_free(v);
	return r;
}

static void test_08_calls_follow_it(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "a", SB_DESIGNATED_SELF);
	sb_session *b = fixture_session(f->bridge, "b", SB_DESIGNATED_SELF);

	sb_context_set(a);
	assert_int_equal(calls_in("a"), 0);
	sb_context_set(b);
	assert_int_equal(calls_in("b"), 0);
	sb_context_clear();
	sb_session_close(a);
	sb_session_close(b);
}

static void *current_of_new_thread(void *arg)
{
	sb_session *own = arg;
	sb_session *found = sb_context_current();

	sb_context_set(own); /* of this thread alone */
	return found;
}

static void test_08_a_new_thread_has_none(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "a", SB_DESIGNATED_SELF);
	sb_session *b = fixture_session(f->bridge, "b", SB_DESIGNATED_SELF);
	void *found = a;
	pthread_t thread;

	sb_context_set(a);
	assert_int_equal(pthread_create(&thread, NULL, current_of_new_thread, b), 0);
	assert_int_equal(pthread_join(thread, &found), 0);
	assert_null(found);
	assert_ptr_equal(sb_context_clear(), a);
	sb_session_close(a);
	sb_session_close(b);
}

static int child_with_context(void *arg)
{
	if (sb_context_current() != arg)
		return 1;
	if (calls_in("family"))
		return 2;
	return sb_context_clear() == arg ? 0 : 3;
}

static void test_08_a_forked_child_inherits_it(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "family", SB_DESIGNATED_SELF);

	sb_context_set(s);
	assert_int_equal(fixture_wait(fixture_fork(child_with_context, s)), 0);
	assert_ptr_equal(sb_context_clear(), s); /* the child cleared its own */
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_08_create_makes_current, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_08_create_that_fails_changes_nothing, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_08_set_and_clear_return_what_was, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_08_calls_follow_it, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_08_a_new_thread_has_none, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_08_a_forked_child_inherits_it, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
