/* SPDX-License-Identifier: Apache-2.0 */
/* Python that looks at its caller finds one (point 22): a namespace of the session, which ends with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "place.h"

static int64_t eval_int(sb_session *s, const char *expression)
{
	sb_value *v = NULL;
	int64_t n = INT64_MIN;

	assert_ok(sb_call(s, "builtins:eval", sb_args("s", expression), &v));
	assert_ok(sb_value_int(v, &n));
	sb_value_free(v);
	return n;
}

/* exec() and eval() without globals see what a function would: its own names, which vanish, and globals, which stay. */
static void test_22_globals_are_the_sessions(void **state)
{
	struct place *p = *state;
	sb_session *other = fixture_session(p->f->bridge, "other", SB_DESIGNATED_SELF);

	assert_ok(sb_call(p->s, "builtins:exec",
	                  sb_args("s", "global n, twice\nn = 5\ndef twice(): return 2 * n"), NULL));
	assert_int_equal(eval_int(p->s, "twice()"), 10);
	assert_int_equal(sb_call(other, "builtins:eval", sb_args("s", "n"), NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.NameError");
	assert_ok(sb_call(other, "builtins:exec", sb_args("s", "global n; n = 6; m = 1"), NULL));
	assert_int_equal(eval_int(p->s, "n"), 5);
	assert_int_equal(eval_int(other, "n"), 6);
	assert_int_equal(sb_call(other, "builtins:eval", sb_args("s", "m"), NULL), SB_EPYTHON);
	sb_session_close(other);
}

/* As pandas, numexpr, logging and namedtuple do. */
static void test_22_a_function_has_a_caller(void **state)
{
	struct place *p = *state;
	static const char *const calls[] = { "", "1", "1, 2", "1, 2, 3", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10" };
	sb_value *v = NULL;

	place_exec(p, "import sys\n"
	              "def caller(*args, **keywords): return (sys._getframe(1).f_globals['__name__'], args, "
	              "keywords)\n");
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		char source[128];
		sb_ref function = place_ref(p, "caller"), arguments;
		sb_value *again = NULL;

		snprintf(source, sizeof(source), "[%s]", calls[i]);
		arguments = place_ref(p, source);
		assert_ok(sb_call(p->s, "builtins:list", sb_args("r", &arguments), &v));
		for (int keywords = 0; keywords < 2; keywords++) {
			const sb_value *items[10] = { NULL };
			size_t count = sb_value_len(v);

			for (size_t k = 0; k < count; k++)
				items[k] = sb_value_at(v, k);
			assert_ok(sb_method(p->s, &function, "__call__",
			                    keywords ? sb_args("* key=s", items, count, "word")
			                             : sb_args("*", items, count),
			                    &again));
			assert_string_equal(sb_value_str(sb_value_at(again, 0), NULL), "__session__");
			assert_int_equal(sb_value_len(sb_value_at(again, 1)), count);
			for (size_t k = 0; k < count; k++)
				assert_true(sb_value_equal(sb_value_at(sb_value_at(again, 1), k), items[k]));
			assert_int_equal(sb_value_len(sb_value_at(again, 2)), keywords);
			sb_value_free(again);
		}
		sb_value_free(v);
	}
}

static void test_26_tracebacks_show_only_the_users_frames(void **state)
{
	struct place *p = *state;
	sb_ref function;

	assert_int_equal(sb_call(p->s, "math:sqrt", sb_args("i", -1), NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_traceback, "ValueError: math domain error\n");
	place_exec(p, "def inner(**k): raise KeyError('deep')\ndef outer(): inner(a=1)\n");
	function = place_ref(p, "outer");
	assert_int_equal(sb_method(p->s, &function, "__call__", NULL, NULL), SB_EPYTHON);
	assert_non_null(strstr(sb_last_error()->python_traceback, ", in outer\n"));
	assert_non_null(strstr(sb_last_error()->python_traceback, ", in inner\n"));
	assert_null(strstr(sb_last_error()->python_traceback, "snakebridge"));
}

static void add(sb_batch *b, sb_verb verb, const sb_ref *target, const char *name, sb_args *args)
{
	sb_request r = SB_REQUEST_INIT;

	r.verb = verb;
	r.target = target;
	r.name = name;
	r.args = args;
	assert_ok(sb_batch_add(b, &r, NULL));
}

static void assert_text_at(const sb_batch *b, size_t item, const char *text)
{
	sb_value *value = NULL;

	assert_ok(sb_batch_result(b, item, &value));
	assert_string_equal(sb_value_str(value, NULL), text);
	sb_value_free(value);
}

static void define_items(struct place *p)
{
	place_exec(p, "import sys\n"
	              "class Item:\n"
	              "  def where(self, *a, **k): return sys._getframe(1).f_globals['__name__'] + "
	              "str(len(a) + len(k))\n"
	              "  def fails(self): raise KeyError('here')\n"
	              "item = Item()\n"
	              "own = Item()\n"
	              "own.where = lambda: 'own'\n"
	              "class Made:\n"
	              "  def __init__(self): self.by = sys._getframe(1).f_globals['__name__']\n"
	              "  def __call__(self): return 'called'\n"
	              "class Plain:\n"
	              "  def __init__(self): self.by = sys._getframe(1).f_globals['__name__']\n"
	              "class Borrowed: __call__ = item.where\n"
	              "plain = item.where\n");
}

/* In a batch, too: functions in Python share their caller, and what built-in ones leave in theirs is gone with the item. */
static void test_22_items_of_a_batch_have_a_caller(void **state)
{
	struct place *p = *state;
	sb_ref object, function, own;
	sb_batch *b = NULL;

	define_items(p);
	object = place_ref(p, "item");
	own = place_ref(p, "own");
	function = place_ref(p, "plain");
	assert_ok(sb_batch_new(0, &b));
	add(b, SB_VERB_METHOD, &object, "where", NULL);
	add(b, SB_VERB_METHOD, &object, "where", sb_args("iiiii", 1, 2, 3, 4, 5));
	add(b, SB_VERB_METHOD, &object, "where", sb_args("i k=i", 1, 2));
	add(b, SB_VERB_METHOD, &own, "where", NULL);
	add(b, SB_VERB_METHOD, &function, "__call__", sb_args("i", 1));
	add(b, SB_VERB_METHOD, &object, "fails", NULL);
	add(b, SB_VERB_METHOD, &object, "nothing", NULL);
	add(b, SB_VERB_CALL, NULL, "builtins:exec", sb_args("s", "left = 1"));
	add(b, SB_VERB_CALL, NULL, "builtins:eval", sb_args("s", "left"));
	assert_ok(sb_batch_run(p->s, b, 0));
	assert_text_at(b, 0, "__session__0");
	assert_text_at(b, 1, "__session__5");
	assert_text_at(b, 2, "__session__2");
	assert_text_at(b, 3, "own");
	assert_text_at(b, 4, "__session__1");
	assert_int_equal(sb_batch_result(b, 5, NULL), SB_EPYTHON);
	assert_non_null(strstr(sb_last_error()->python_traceback, ", in fails\n"));
	assert_null(strstr(sb_last_error()->python_traceback, "snakebridge"));
	assert_int_equal(sb_batch_result(b, 6, NULL), SB_EATTRIBUTE);
	assert_ok(sb_batch_result(b, 7, NULL));
	assert_int_equal(sb_batch_result(b, 8, NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.NameError");
	sb_batch_free(b);
}

static void assert_type(struct place *p, const sb_ref *class, const char *name)
{
	sb_value *v = NULL;

	assert_ok(sb_method(p->s, class, "__call__", NULL, &v));
	assert_string_equal(sb_value_ref(v)->type_name, name);
	sb_value_free(v);
}

/* What is kept of a type follows the class. */
static void test_20_a_class_may_be_renamed(void **state)
{
	struct place *p = *state;
	sb_ref plain, other;

	define_items(p);
	plain = place_ref(p, "Plain");
	other = place_ref(p, "Item");
	for (int round = 0; round < 2; round++) {
		assert_type(p, &plain, "builtins.Plain");
		assert_type(p, &other, "builtins.Item");
		assert_ok(sb_set_attr(p->s, &plain, "__qualname__", sb_args("s", "Outer.Other")));
		assert_type(p, &plain, "builtins.Outer.Other");
		assert_ok(sb_set_attr(p->s, &plain, "__module__", sb_args("s", "mine")));
		assert_type(p, &plain, "mine.Outer.Other");
		assert_type(p, &other, "builtins.Item");
		assert_ok(sb_set_attr(p->s, &plain, "__module__", sb_args("s", "builtins")));
		assert_ok(sb_set_attr(p->s, &plain, "__qualname__", sb_args("s", "Plain")));
	}
}

/* Classes' __call__: the class itself, unless it gives one to its instances. */
static void test_22_a_class_is_called(void **state)
{
	struct place *p = *state;
	sb_ref made, plain, borrowed;
	sb_value *v = NULL, *by = NULL;

	define_items(p);
	made = place_ref(p, "Made");
	plain = place_ref(p, "Plain");
	borrowed = place_ref(p, "Borrowed");
	for (int round = 0; round < 3; round++) {
		assert_ok(sb_method(p->s, &plain, "__call__", NULL, &v));
		assert_string_equal(sb_value_ref(v)->type_name, "builtins.Plain");
		assert_ok(sb_attr(p->s, sb_value_ref(v), "by", &by));
		assert_string_equal(sb_value_str(by, NULL), "__session__");
		sb_value_free(by);
		sb_value_free(v);
		assert_int_equal(sb_method(p->s, &made, "__call__", NULL, NULL), SB_EPYTHON); /* no self */
		assert_ok(sb_method(p->s, &borrowed, "__call__", NULL, &v));
		assert_string_equal(sb_value_str(v, NULL), "__session__0");
		sb_value_free(v);
	}
}

static void test_09_the_namespace_ends_with_its_session(void **state)
{
	struct place *p = *state;
	sb_session *other = fixture_session(p->f->bridge, "other", SB_DESIGNATED_SELF);

	/* In a cycle with the namespace, through the method's globals. */
	assert_ok(sb_call(other, "builtins:exec",
	                  sb_args("s", "global last, builtins\nimport builtins\n"
	                               "class Last:\n"
	                               "  def __del__(self, note=builtins): note.sb_test_gone = 7\n"
	                               "last = Last()\n"),
	                  NULL));
	assert_int_equal(eval_int(p->s, "getattr(__import__('builtins'), 'sb_test_gone', 0)"), 0);
	sb_session_close(other);
	for (int i = 0; i < 400 && eval_int(p->s, "getattr(__import__('builtins'), 'sb_test_gone', 0)") != 7;
	     i++)
		assert_ok(sb_call(p->s, "time:sleep", sb_args("d", 0.025), NULL));
	assert_int_equal(eval_int(p->s, "__import__('builtins').sb_test_gone"), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_22_a_function_has_a_caller),
		BOTH_PLACES(test_26_tracebacks_show_only_the_users_frames),
		BOTH_PLACES(test_22_items_of_a_batch_have_a_caller),
		BOTH_PLACES(test_22_a_class_is_called),
		BOTH_PLACES(test_20_a_class_may_be_renamed),
		cmocka_unit_test_setup_teardown(test_22_globals_are_the_sessions, place_here, place_teardown),
		cmocka_unit_test_setup_teardown(test_09_the_namespace_ends_with_its_session, place_here,
		                                place_teardown),
	};

	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
