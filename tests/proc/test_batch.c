/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: many calls in one round trip. Points 22-25, 31. */
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

static size_t add(sb_batch *b, sb_verb verb, const sb_ref *target, const char *name, sb_args *args,
                  uint32_t flags)
{
	sb_request r = SB_REQUEST_INIT;
	size_t item = SIZE_MAX;

	r.verb = verb;
	r.target = target;
	r.name = name;
	r.args = args;
	r.flags = flags;
	assert_ok(sb_batch_add(b, &r, &item));
	return item;
}

static int64_t int_at(const sb_batch *b, size_t item)
{
	sb_value *value = NULL;
	int64_t n = -1;

	assert_ok(sb_batch_result(b, item, &value));
	assert_ok(sb_value_int(value, &n));
	sb_value_free(value);
	return n;
}

static void outcomes(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_ref made = sb_batch_ref(0), nothing = sb_batch_ref(2);
	sb_value *value = NULL;
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(0, &b));
	assert_int_equal(sb_batch_result(b, 0, NULL), SB_EINVAL);
	assert_ok(sb_batch_run(s, b, 0)); /* empty */
	assert_int_equal(add(b, SB_VERB_CALL, NULL, "collections:deque", NULL, 0), 0);
	assert_int_equal(add(b, SB_VERB_METHOD, &made, "append", sb_args("i", 5), 0), 1);
	add(b, SB_VERB_CALL, NULL, "builtins:int", sb_args("s", "x"), 0);
	add(b, SB_VERB_LEN, &made, NULL, NULL, 0);
	add(b, SB_VERB_CALL, NULL, "builtins:repr", sb_args("r", &nothing), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:list", sb_args("r", &made), 0);
	for (int round = 0; round < 2; round++) { /* again: anew */
		assert_ok(sb_batch_run(s, b, 0));
		assert_ok(sb_batch_result(b, 0, &value));
		assert_non_null(sb_value_ref(value));
		assert_string_equal(sb_value_ref(value)->session_id, sb_session_id(s));
		{
			uint64_t len = 0;

			assert_ok(sb_len(s, sb_value_ref(value), &len)); /* a ref like any other */
			assert_int_equal(len, 1);
		}
		sb_value_free(value);
		assert_ok(sb_batch_result(b, 1, NULL));
		assert_int_equal(sb_batch_result(b, 2, NULL), SB_EPYTHON);
		assert_string_equal(sb_last_error()->python_type, "builtins.ValueError");
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
		assert_int_equal(int_at(b, 3), 1);
		assert_int_equal(sb_batch_result(b, 4, NULL), SB_EINVAL);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
		assert_ok(sb_batch_result(b, 5, &value));
		assert_int_equal(sb_value_len(value), 1);
		sb_value_free(value);
		assert_int_equal(sb_batch_result(b, 6, NULL), SB_EINVAL);
	}
	sb_batch_free(b);
	sb_session_close(s);
}

static void test_24_outcomes_there(void **state)
{
	outcomes(*state, SB_DESIGNATED_DEDICATED);
}

static void test_24_outcomes_here(void **state)
{
	outcomes(*state, SB_DESIGNATED_SELF);
}

/* Each item adds one to the one before. Beyond the lane: through the arena, both ways. */
static void test_22_a_thousand_with_references(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(0, &b));
	add(b, SB_VERB_CALL, NULL, "builtins:int", sb_args("i", 1), 0);
	for (size_t i = 1; i < 1000; i++) {
		sb_ref before = sb_batch_ref(i - 1);

		add(b, SB_VERB_CALL, NULL, "operator:add", sb_args("ri", &before, 1), 0);
	}
	assert_ok(sb_batch_run(s, b, 0));
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(int_at(b, i), (int64_t)i + 1);
	sb_batch_free(b);
	sb_session_close(s);
}

/* In values made beforehand, at any depth, by hand or from JSON. */
static void test_22_results_of_items_in_values(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_ref first = sb_batch_ref(0), second = sb_batch_ref(1);
	sb_value *built = NULL, *copied = NULL, *read = NULL, *value = NULL;
	char *json = NULL;
	sb_batch *b = NULL;

	assert_ok(sb_value_pack(&built, "[r{s(r)}]", &first, "k", &second));
	assert_ok(sb_value_copy(built, &copied));
	assert_ok(sb_value_to_json(copied, &json));
	assert_string_equal(json, "[{\"$item\": 0}, {\"k\": {\"$tuple\": [{\"$item\": 1}]}}]");
	assert_ok(sb_value_from_json(json, &read));
	assert_true(sb_value_equal(read, built));
	assert_int_equal(sb_value_from_json("{\"$item\": -1}", &value), SB_EINVAL);
	assert_int_equal(sb_value_from_json("{\"$item\": \"0\"}", &value), SB_EINVAL);
	assert_int_equal(sb_value_from_json("{\"$item\": 4294967296}", &value), SB_EINVAL);
	assert_ok(sb_batch_new(0, &b));
	add(b, SB_VERB_CALL, NULL, "builtins:abs", sb_args("i", -5), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:str", sb_args("i", 6), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:repr", sb_args("o", built), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:repr", sb_args("o", read), 0);
	assert_ok(sb_batch_run(s, b, 0));
	for (size_t i = 2; i < 4; i++) {
		assert_ok(sb_batch_result(b, i, &value));
		assert_string_equal(sb_value_str(value, NULL), "[5, {'k': ('6',)}]");
		sb_value_free(value);
	}
	sb_batch_free(b);
	sb_value_free(built);
	sb_value_free(copied);
	sb_value_free(read);
	free(json);
	sb_session_close(s);
}

static void test_24_stop_on_error(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(SB_BATCH_STOP_ON_ERROR, &b));
	add(b, SB_VERB_CALL, NULL, "builtins:abs", sb_args("i", -1), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:int", sb_args("s", "x"), 0);
	add(b, SB_VERB_CALL, NULL, "builtins:abs", sb_args("i", -2), 0);
	assert_ok(sb_batch_run(s, b, 0));
	assert_int_equal(int_at(b, 0), 1);
	assert_int_equal(sb_batch_result(b, 1, NULL), SB_EPYTHON);
	assert_int_equal(sb_batch_result(b, 2, NULL), SB_ECANCELLED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_batch_free(b);
	sb_session_close(s);
}

/* No item begins after the deadline; the caller learns that it is not known what ran. */
static void test_23_deadline(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_value *list = NULL;
	uint64_t len = 99;
	sb_batch *b = NULL;

	assert_ok(sb_call(s, "collections:deque", NULL, &list));
	assert_ok(sb_batch_new(0, &b));
	add(b, SB_VERB_CALL, NULL, "time:sleep", sb_args("d", 0.5), 0);
	add(b, SB_VERB_METHOD, sb_value_ref(list), "append", sb_args("i", 1), 0);
	assert_int_equal(sb_batch_run(s, b, 100), SB_ETIMEOUT);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	assert_int_equal(sb_batch_result(b, 0, NULL), SB_EINVAL);
	for (int i = 0; i < 100; i++) { /* the sleep ends */
		assert_ok(sb_len(s, sb_value_ref(list), &len));
		usleep(10000);
	}
	assert_int_equal(len, 0);
	sb_batch_free(b);
	sb_value_free(list);
	sb_session_close(s);
}

static void test_22_what_is_refused(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_session *other = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_ref later = sb_batch_ref(1), first = sb_batch_ref(0);
	sb_request r = SB_REQUEST_INIT;
	sb_value *value = NULL;
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(0, &b));
	r.name = "builtins:abs";
	r.args = sb_args("r", &later); /* it would be item 0 */
	assert_int_equal(sb_batch_add(b, &r, NULL), SB_EINVAL);
	r.args = sb_args("r", &first);
	assert_int_equal(sb_batch_add(b, &r, NULL), SB_EINVAL); /* itself */
	r.args = sb_args("i", 1);
	r.flags = SB_CALL_ONEWAY;
	assert_int_equal(sb_batch_add(b, &r, NULL), SB_EINVAL);
	r.flags = 0;
	r.verb = SB_VERB_BATCH;
	r.args = NULL;
	assert_int_equal(sb_batch_add(b, &r, NULL), SB_EINVAL);
	assert_int_equal(sb_invoke(s, &r, NULL), SB_EINVAL);
	/* Such a result means nothing elsewhere. */
	assert_int_equal(sb_call(s, "builtins:abs", sb_args("r", &first), NULL), SB_EINVAL);
	assert_int_equal(sb_len(s, &first, NULL), SB_EINVAL);
	assert_ok(sb_value_pack(&value, "[r]", &first));
	assert_int_equal(sb_call(s, "builtins:len", sb_args("o", value), NULL), SB_EINVAL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_value_free(value);
	/* A ref of another session. */
	assert_ok(sb_call(other, "builtins:object", NULL, &value));
	add(b, SB_VERB_CALL, NULL, "builtins:repr", sb_args("o", value), 0);
	assert_int_equal(sb_batch_run(s, b, 0), SB_EREFSESSION);
	assert_ok(sb_batch_run(other, b, 0));
	sb_value_free(value);
	sb_batch_free(b);

	assert_ok(sb_batch_new(0, &b));
	r.verb = SB_VERB_CALL;
	for (int i = 0; i < SB_BATCH_MAX; i++) {
		r.args = sb_args("i", -i);
		assert_ok(sb_batch_add(b, &r, NULL));
	}
	r.args = sb_args("i", 0);
	assert_int_equal(sb_batch_add(b, &r, NULL), SB_ETOOBIG);
	assert_ok(sb_batch_run(s, b, 0));
	assert_int_equal(int_at(b, SB_BATCH_MAX - 1), SB_BATCH_MAX - 1);
	sb_batch_free(b);
	sb_session_close(other);
	sb_session_close(s);
}

/* The session's policy holds for each item. */
static void test_22_policy(void **state)
{
	static const char *const deny[] = { "os" };
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_batch *b = NULL;

	o.designated = SB_DESIGNATED_DEDICATED;
	o.deny = deny;
	o.deny_count = 1;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	assert_ok(sb_batch_new(0, &b));
	add(b, SB_VERB_CALL, NULL, "builtins:abs", sb_args("i", -1), 0);
	add(b, SB_VERB_CALL, NULL, "os:getpid", NULL, 0);
	assert_ok(sb_batch_run(s, b, 0));
	assert_int_equal(int_at(b, 0), 1);
	assert_int_equal(sb_batch_result(b, 1, NULL), SB_EDENIED);
	sb_batch_free(b);
	sb_session_close(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_24_outcomes_there),
		TEST(test_24_outcomes_here),
		TEST(test_22_a_thousand_with_references),
		TEST(test_22_results_of_items_in_values),
		TEST(test_24_stop_on_error),
		TEST(test_23_deadline),
		TEST(test_22_what_is_refused),
		TEST(test_22_policy),
	};

	return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
