/* SPDX-License-Identifier: Apache-2.0 */
/* Every verb, both where the objects live and through the mailbox. Numbers are points of the contract. */
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

/* Each test runs with objects in this process, and with them in a dedicated owner. */
struct place {
	struct fixture *f;
	sb_session *s;
};

static int place_setup(void **state, sb_designated designated)
{
	struct place *p = calloc(1, sizeof(*p));

	fixture_setup((void **)&p->f);
	p->s = fixture_session(p->f->bridge, "calls", designated);
	*state = p;
	return 0;
}

static int here(void **state)
{
	return place_setup(state, SB_DESIGNATED_SELF);
}

static int there(void **state)
{
	return place_setup(state, SB_DESIGNATED_DEDICATED);
}

static int place_teardown(void **state)
{
	struct place *p = *state;

	sb_session_close(p->s);
	fixture_teardown((void **)&p->f);
	free(p);
	return 0;
}

static void test_22_verbs(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL, *o = NULL;
	double number;
	int64_t integer;
	bool dropped;

	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), &v));
	assert_ok(sb_value_float(v, &number));
	assert_true(number == 4.0);
	sb_value_free(v);
	assert_ok(sb_call(s, "os.path.join", sb_args("ss", "a", "b"), &v)); /* dotted */
	assert_string_equal(sb_value_str(v, NULL), "a/b");
	sb_value_free(v);
	r.name = "datetime:datetime.fromisoformat"; /* class method */
	r.args = sb_args("s", "2024-02-29");
	r.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(s, &r, &o));
	assert_string_equal(sb_value_ref(o)->type_name, "datetime.datetime");
	assert_ok(sb_attr(s, sb_value_ref(o), "year", &v));
	assert_ok(sb_value_int(v, &integer));
	assert_int_equal(integer, 2024);
	sb_value_free(v);
	assert_ok(sb_method(s, sb_value_ref(o), "replace", sb_args("year=i", 2028), &v));
	assert_int_equal(sb_value_kind(v), SB_KIND_DATETIME);
	sb_value_free(v);
	sb_value_free(o);
	assert_ok(sb_get(s, "math:pi", &v));
	assert_ok(sb_value_float(v, &number));
	assert_true(number > 3.14159 && number < 3.1416);
	sb_value_free(v);
	assert_ok(sb_call(s, "types:SimpleNamespace", sb_args("x=i", 1), &o));
	assert_ok(sb_set_attr(s, sb_value_ref(o), "x", sb_args("s", "two")));
	assert_ok(sb_attr(s, sb_value_ref(o), "x", &v));
	assert_string_equal(sb_value_str(v, NULL), "two");
	sb_value_free(v);
	assert_ok(sb_ref_release(s, sb_value_ref(o), &dropped));
	assert_true(dropped);
	assert_ok(sb_ref_release(s, sb_value_ref(o), &dropped)); /* 19 */
	assert_false(dropped);
	assert_int_equal(sb_attr(s, sb_value_ref(o), "x", &v), SB_EREFRELEASED); /* 18 */
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_value_free(o);
}

static void test_15_values_come_back(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	sb_value *in = NULL, *out = NULL;
	const sb_value *v;
	int64_t i;

	assert_ok(sb_value_pack(&in, "[nblds(i[])y{s(i)}]", 1, (int64_t)-5000000000, 2.5, "h\xc3\xa9llo", 7,
	                        "a\0b", (size_t)3, "key", 9));
	assert_ok(sb_call(s, "copy:deepcopy", sb_args("o", in), &out));
	assert_int_equal(sb_value_kind(out), SB_KIND_LIST);
	assert_int_equal(sb_value_len(out), 8);
	assert_int_equal(sb_value_kind(sb_value_at(out, 0)), SB_KIND_NONE);
	assert_int_equal(sb_value_kind(sb_value_at(out, 1)), SB_KIND_BOOL);
	assert_ok(sb_value_int(sb_value_at(out, 2), &i));
	assert_true(i == -5000000000);
	assert_string_equal(sb_value_str(sb_value_at(out, 4), NULL), "h\xc3\xa9llo");
	v = sb_value_at(out, 5);
	assert_int_equal(sb_value_kind(v), SB_KIND_TUPLE);
	assert_int_equal(sb_value_len(sb_value_at(v, 1)), 0);
	assert_memory_equal(sb_value_bytes(sb_value_at(out, 6), NULL), "a\0b", 3);
	v = sb_value_lookup(sb_value_at(out, 7), "key");
	assert_ok(sb_value_int(sb_value_at(v, 0), &i));
	assert_int_equal(i, 9);
	sb_value_free(in);
	sb_value_free(out);
}

static void test_15_same_object_same_ref(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	sb_value *o = NULL, *list = NULL;
	const sb_ref *a, *b;

	assert_ok(sb_call(s, "collections:Counter", NULL, &o));
	assert_ok(sb_call(s, "builtins:list", sb_args("[oo]", o, o), &list));
	a = sb_value_ref(sb_value_at(list, 0));
	b = sb_value_ref(sb_value_at(list, 1));
	assert_int_equal(a->slot, b->slot);
	assert_int_equal(a->slot, sb_value_ref(o)->slot);
	assert_int_equal(a->generation, sb_value_ref(o)->generation);
	sb_value_free(list);
	sb_value_free(o);
}

static void test_24_26_exceptions(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	sb_value *v = NULL;

	assert_int_equal(sb_call(s, "builtins:int", sb_args("s", "twelve"), &v), SB_EPYTHON);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	assert_string_equal(sb_last_error()->python_type, "builtins.ValueError");
	assert_non_null(strstr(sb_last_error()->python_message, "twelve"));
	assert_true(sb_last_error()->trace_id != 0);
	assert_int_equal(sb_call(s, "json:loads", sb_args("s", "{"), &v), SB_EPYTHON);
	assert_non_null(strstr(sb_last_error()->python_traceback, "decoder.py"));
	assert_int_equal(sb_call(s, "no_such_module:f", NULL, &v), SB_EMODULE);
	assert_int_equal(sb_call(s, "math:no_such_function", NULL, &v), SB_EATTRIBUTE);
	assert_int_equal(sb_call(s, "sys:exit", sb_args("i", 3), &v), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.SystemExit");
	assert_int_equal(sb_call(s, "math:sqrt", sb_args("q", 1), &v), SB_EINVAL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_int_equal(sb_method(s, NULL, "x", NULL, &v), SB_EINVAL);
	assert_null(v);
}

static void test_18_guessed_refs(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	sb_value *o = NULL;
	sb_ref guess;

	assert_ok(sb_call(s, "collections:Counter", NULL, &o));
	guess = *sb_value_ref(o);
	guess.nonce[3] ^= 1;
	assert_int_equal(sb_method(s, &guess, "clear", NULL, NULL), SB_EREFUNKNOWN);
	guess = *sb_value_ref(o);
	guess.slot += 1000;
	assert_int_equal(sb_method(s, &guess, "clear", NULL, NULL), SB_EREFUNKNOWN);
	guess = *sb_value_ref(o);
	guess.slot = UINT32_MAX;
	assert_int_equal(sb_method(s, &guess, "clear", NULL, NULL), SB_EREFUNKNOWN);
	sb_value_free(o);
}

static void test_20_ref_text(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	char text[SB_REF_TEXT_MAX];
	sb_value *o = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, "collections:Counter", NULL, &o));
	assert_ok(sb_ref_format(sb_value_ref(o), text, sizeof(text)));
	assert_ok(sb_ref_parse(text, &ref));
	assert_ok(sb_method(s, &ref, "clear", NULL, NULL));
	sb_value_free(o);
}

static void test_big_payloads(void **state)
{
	sb_session *s = ((struct place *)*state)->s;
	size_t n = 3 * 1000 * 1000, len = 0;
	char *big = malloc(n);
	sb_value *v = NULL;

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 31);
	for (int round = 0; round < 3; round++) {
		assert_ok(sb_call(s, "builtins:bytes", sb_args("y", big, n), &v));
		assert_memory_equal(sb_value_bytes(v, &len), big, n);
		assert_int_equal(len, n);
		sb_value_free(v);
	}
	free(big);
}

static void test_23_deadline(void **state)
{
	struct place *p = *state;
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;

	r.name = "time:sleep";
	r.args = sb_args("d", 0.6);
	r.timeout_ms = 150;
	assert_int_equal(sb_invoke(p->s, &r, &v), SB_ETIMEOUT);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	assert_ok(sb_call(p->s, "math:sqrt", sb_args("i", 9), &v)); /* the thread has another lane */
	sb_value_free(v);
}

static void test_35_hung_call_holds_up_nobody(void **state)
{
	struct place *p = *state;
	sb_request r = SB_REQUEST_INIT;
	sb_session *other = fixture_session(p->f->bridge, "other", SB_DESIGNATED_UNSET);
	sb_value *v = NULL;

	for (int i = 0; i < 4; i++) { /* four calls hang in the owner */
		r.name = "time:sleep";
		r.args = sb_args("d", 2.0);
		r.timeout_ms = 30;
		assert_int_equal(sb_invoke(p->s, &r, NULL), SB_ETIMEOUT);
	}
	r.name = "math:sqrt";
	r.args = sb_args("i", 9);
	r.timeout_ms = 1500;
	assert_ok(sb_invoke(p->s, &r, &v));
	sb_value_free(v);
	r.args = sb_args("i", 9);
	assert_ok(sb_invoke(other, &r, &v));
	sb_value_free(v);
	sb_session_close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BOTH(name)                                           \
	{ #name " here", name, here, place_teardown, NULL }, \
		{ #name " there", name, there, place_teardown, NULL }
		BOTH(test_22_verbs),
		BOTH(test_15_values_come_back),
		BOTH(test_15_same_object_same_ref),
		BOTH(test_24_26_exceptions),
		BOTH(test_18_guessed_refs),
		BOTH(test_20_ref_text),
		BOTH(test_big_payloads),
		{ "test_23_deadline there", test_23_deadline, there, place_teardown, NULL },
		{ "test_35_hung_call there", test_35_hung_call_holds_up_nobody, there, place_teardown, NULL },
	};

	return cmocka_run_group_tests_name("call", tests, NULL, NULL);
}
