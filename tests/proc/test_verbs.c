/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs on objects: items, len, iteration, with, repr, both where the objects live and through the mailbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"

static uint64_t live_refs(struct place *p)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(p->s, &info));
	return info.live_refs;
}

/* The owner writes its counts just after the reply. */
static bool comes_to(struct place *p, uint64_t refs)
{
	for (int i = 0; i < 2000 && live_refs(p) != refs; i++)
		usleep(1000);
	return live_refs(p) == refs;
}

static void test_22_items(void **state)
{
	struct place *p = *state;
	sb_ref d = place_ref(p, "{}"), l = place_ref(p, "[10, 20, 30]");
	sb_value *v = NULL;
	uint64_t len = 0;
	int64_t n = 0;
	bool there = false;

	assert_ok(sb_setitem(p->s, &d, sb_args("s[ii]", "k", 1, 2)));
	assert_ok(sb_setitem(p->s, &d, sb_args("(ii)r", 1, 2, &l))); /* a tuple as key, a ref as value */
	assert_ok(sb_len(p->s, &d, &len));
	assert_int_equal(len, 2);
	assert_ok(sb_getitem(p->s, &d, sb_args("s", "k"), &v));
	assert_int_equal(sb_value_len(v), 2);
	sb_value_free(v);
	assert_ok(sb_getitem(p->s, &l, sb_args("i", -1), &v));
	assert_ok(sb_value_int(v, &n));
	assert_int_equal(n, 30);
	sb_value_free(v);
	assert_ok(sb_contains(p->s, &d, sb_args("(ii)", 1, 2), &there));
	assert_true(there);
	assert_ok(sb_delitem(p->s, &d, sb_args("(ii)", 1, 2)));
	assert_ok(sb_contains(p->s, &d, sb_args("(ii)", 1, 2), &there));
	assert_false(there);
	assert_int_equal(sb_getitem(p->s, &d, sb_args("s", "no"), &v), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.KeyError");
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	assert_int_equal(sb_delitem(p->s, &d, sb_args("s", "no")), SB_EPYTHON);
	assert_int_equal(sb_setitem(p->s, &l, sb_args("ii", 3, 1)), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.IndexError");
	/* What cannot be meant is refused here, and nothing runs. */
	assert_int_equal(sb_getitem(p->s, &d, NULL, &v), SB_EINVAL);
	assert_int_equal(sb_getitem(p->s, &d, sb_args("ii", 1, 2), &v), SB_EINVAL);
	assert_int_equal(sb_setitem(p->s, &d, sb_args("i", 1)), SB_EINVAL);
	assert_int_equal(sb_setitem(p->s, &d, sb_args("i a=i", 1, 2)), SB_EINVAL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_int_equal(sb_len(p->s, NULL, &len), SB_EINVAL);
}

static void test_20_22_repr_str_hash(void **state)
{
	struct place *p = *state;
	sb_ref f = place_ref(p, "__import__('fractions').Fraction(1, 3)"), l = place_ref(p, "[]");
	sb_value *v = NULL;
	int64_t hash = 0;
	uint64_t len;

	assert_ok(sb_repr(p->s, &f, &v));
	assert_string_equal(sb_value_str(v, NULL), "Fraction(1, 3)");
	sb_value_free(v);
	assert_ok(sb_str(p->s, &f, &v));
	assert_string_equal(sb_value_str(v, NULL), "1/3");
	sb_value_free(v);
	assert_ok(sb_hash(p->s, &f, &hash));
	assert_int_equal(hash, place_int(p, "hash(__import__('fractions').Fraction(1, 3))"));
	assert_int_equal(sb_hash(p->s, &l, &hash), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.TypeError");
	assert_int_equal(sb_len(p->s, &f, &len), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.TypeError");
}

static void test_22_construct_a_class(void **state)
{
	struct place *p = *state;
	sb_value *c = NULL, *v = NULL;
	int64_t n = 0;

	assert_ok(sb_call(p->s, "collections:Counter", sb_args("s", "abca"), &c));
	assert_string_equal(sb_value_ref(c)->type_name, "collections.Counter");
	assert_ok(sb_getitem(p->s, sb_value_ref(c), sb_args("s", "a"), &v));
	assert_ok(sb_value_int(v, &n));
	assert_int_equal(n, 2);
	sb_value_free(v);
	sb_value_free(c);
}

/* ── iteration ── */

static int open_batches(struct place *p, const sb_ref *target, size_t batch, sb_iter **ret)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;

	options.batch = batch;
	return sb_iter_open(p->s, target, &options, ret);
}

static void test_22_28_iterate_in_batches(void **state)
{
	struct place *p = *state;
	sb_ref r = place_ref(p, "range(1000)");
	static const size_t batches[] = { 1, 7, 500, 1000, 5000 };
	uint64_t before = 2; /* the names, and this */

	assert_true(comes_to(p, before));
	for (size_t b = 0; b < 5; b++) {
		sb_session_info was = { .size = sizeof(was) }, now = was;
		int64_t expect = 0, n = -1;
		sb_iter *it = NULL;
		sb_value *v = NULL;
		int rc;

		assert_ok(sb_session_get_info(p->s, &was));
		assert_ok(open_batches(p, &r, batches[b], &it));
		while ((rc = sb_iter_next(it, &v)) == 1) {
			assert_ok(sb_value_int(v, &n));
			assert_int_equal(n, expect++);
			sb_value_free(v);
		}
		assert_ok(rc);
		assert_int_equal(expect, 1000);
		assert_int_equal(sb_iter_next(it, &v), 0); /* and again */
		/* 28: freed on exhaustion, before it is closed. */
		assert_true(comes_to(p, before));
		sb_iter_close(it);
		assert_ok(sb_session_get_info(p->s, &now));
		/* A round trip for a batch, not for an item. */
		assert_true(now.calls - was.calls <= 1000 / batches[b] + 3);
	}
}

static void test_22_iterate_leaves_the_object(void **state)
{
	struct place *p = *state;
	sb_ref g = place_ref(p, "(i for i in range(10))");
	sb_iter *it = NULL;
	sb_value *v = NULL;
	int count = 0;

	/* The generator is its own iterator; its ref stays when the iteration ends. */
	assert_ok(open_batches(p, &g, 3, &it));
	while (sb_iter_next(it, &v) == 1) {
		sb_value_free(v);
		count++;
	}
	assert_int_equal(count, 10);
	sb_iter_close(it);
	assert_ok(sb_repr(p->s, &g, NULL));
	/* An empty one, one that cannot be iterated over, and nothing. */
	assert_ok(open_batches(p, &g, 3, &it));
	assert_int_equal(sb_iter_next(it, &v), 0);
	sb_iter_close(it);
	sb_ref o = place_ref(p, "object()");
	assert_int_equal(open_batches(p, &o, 0, &it), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.TypeError");
	assert_int_equal(open_batches(p, &o, SB_ITER_BATCH_MAX + 1, &it), SB_EINVAL);
	sb_iter_close(NULL);
}

static void test_22_28_close_runs_finally(void **state)
{
	struct place *p = *state;
	uint64_t before;
	sb_iter *it = NULL;
	sb_value *v = NULL;

	place_exec(p, "ended = []\n"
	              "class Numbers:\n"
	              "    def __iter__(self):\n"
	              "        try:\n"
	              "            yield from range(100)\n"
	              "        finally:\n"
	              "            ended.append(1)\n");
	sb_ref n = place_ref(p, "Numbers()");

	before = 2; /* the names and this */
	assert_ok(open_batches(p, &n, 2, &it));
	assert_int_equal(sb_iter_next(it, &v), 1);
	sb_value_free(v);
	assert_int_equal(place_int(p, "len(ended)"), 0);
	sb_iter_close(it);
	assert_int_equal(place_int(p, "len(ended)"), 1);
	assert_true(comes_to(p, before));
}

static void test_22_iterate_exception_after_its_items(void **state)
{
	struct place *p = *state;
	uint64_t before;
	sb_iter *it = NULL;
	sb_value *v = NULL;
	int64_t n = -1;

	place_exec(p, "def numbers():\n"
	              "    yield 1\n"
	              "    yield 2\n"
	              "    raise LookupError('no more')\n"
	              "class Numbers:\n"
	              "    def __iter__(self):\n"
	              "        return numbers()\n");
	sb_ref numbers = place_ref(p, "Numbers()");

	before = 2; /* the names and this */
	assert_ok(open_batches(p, &numbers, 100, &it));
	for (int i = 1; i <= 2; i++) {
		assert_int_equal(sb_iter_next(it, &v), 1);
		assert_ok(sb_value_int(v, &n));
		assert_int_equal(n, i);
		sb_value_free(v);
	}
	assert_int_equal(sb_iter_next(it, &v), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.LookupError");
	assert_int_equal(sb_iter_next(it, &v), 0); /* over */
	assert_true(comes_to(p, before));
	sb_iter_close(it);
}

static void test_22_iterate_gives_refs(void **state)
{
	struct place *p = *state;
	sb_ref l = place_ref(p, "[object(), {1: object()}]");
	sb_iter *it = NULL;
	sb_value *v = NULL;

	assert_ok(open_batches(p, &l, 0, &it));
	assert_int_equal(sb_iter_next(it, &v), 1);
	assert_string_equal(sb_value_ref(v)->session_id, "place");
	assert_ok(sb_repr(NULL, sb_value_ref(v), NULL));
	sb_value_free(v);
	assert_int_equal(sb_iter_next(it, &v), 1);
	assert_int_equal(sb_value_kind(v), SB_KIND_DICT);
	assert_int_equal(sb_value_kind(sb_value_at(v, 0)), SB_KIND_REF);
	sb_value_free(v);
	assert_int_equal(sb_iter_next(it, &v), 0);
	sb_iter_close(it);
}

/* ── with ── */

static const char manager[] =
	"class Manager:\n"
	"    def __init__(self, suppress=False):\n"
	"        self.suppress, self.log = suppress, []\n"
	"    def __enter__(self):\n"
	"        self.log.append('enter')\n"
	"        return 'inside'\n"
	"    def __exit__(self, type, value, traceback):\n"
	"        self.log.append((type and type.__name__, str(value), isinstance(value, type or object)))\n"
	"        return self.suppress\n";

static const char *logged(struct place *p, const char *source, sb_value **v)
{
	char text[128];

	snprintf(text, sizeof(text), "str(%s.log)", source);
	assert_ok(place_eval(p, text, 0, v));
	return sb_value_str(*v, NULL);
}

static void test_22_enter_exit(void **state)
{
	struct place *p = *state;
	sb_value *v = NULL;
	bool suppressed = true;

	place_exec(p, manager);
	place_exec(p, "m = Manager()\ns = Manager(True)\n");
	sb_ref m = place_ref(p, "m"), s = place_ref(p, "s"), o = place_ref(p, "object()");

	assert_ok(sb_enter(p->s, &m, &v));
	assert_string_equal(sb_value_str(v, NULL), "inside");
	sb_value_free(v);
	assert_ok(sb_exit(p->s, &m, NULL, &suppressed));
	assert_false(suppressed);
	assert_string_equal(logged(p, "m", &v), "['enter', (None, 'None', True)]");
	sb_value_free(v);
	/* With an exception: it is of the class that raised it. */
	assert_ok(sb_enter(p->s, &s, NULL));
	assert_int_equal(sb_call(p->s, "builtins:int", sb_args("s", "x"), NULL), SB_EPYTHON);
	assert_ok(sb_exit(p->s, &s, sb_last_error(), &suppressed));
	assert_true(suppressed);
	assert_string_equal(
		logged(p, "s", &v),
		"['enter', ('ValueError', \"invalid literal for int() with base 10: 'x'\", True)]");
	sb_value_free(v);
	/* Suppression is asked of an exception only. */
	assert_ok(sb_exit(p->s, &s, NULL, &suppressed));
	assert_false(suppressed);
	/* What is no context manager is not entered. */
	assert_int_equal(sb_enter(p->s, &o, NULL), SB_EATTRIBUTE);
}

static int body_fails(sb_session *s, const sb_value *entered, void *arg)
{
	*(bool *)arg = strcmp(sb_value_str(entered, NULL), "inside") == 0;
	return sb_call(s, "math:sqrt", sb_args("i", -1), NULL);
}

static int body_of_own_code(sb_session *s, const sb_value *entered, void *arg)
{
	(void)s;
	(void)entered;
	return *(int *)arg;
}

static int body_times_out(sb_session *s, const sb_value *entered, void *arg)
{
	(void)s;
	(void)entered;
	(void)arg;
	return sb_ref_parse("nonsense", &(sb_ref){ 0 });
}

static void test_22_with_object(void **state)
{
	struct place *p = *state;
	bool entered = false;
	sb_value *v = NULL;
	int code = 7;

	place_exec(p, manager);
	place_exec(p, "m = Manager()\ns = Manager(True)\n");
	sb_ref m = place_ref(p, "m"), s = place_ref(p, "s");

	/* Not suppressed: the body's error, whole. */
	assert_int_equal(sb_with_object(p->s, &m, body_fails, &entered), SB_EPYTHON);
	assert_true(entered);
	assert_string_equal(sb_last_error()->python_type, "builtins.ValueError");
	assert_string_equal(logged(p, "m", &v), "['enter', ('ValueError', 'math domain error', True)]");
	sb_value_free(v);
	/* Suppressed. */
	assert_int_equal(sb_with_object(p->s, &s, body_fails, &entered), 0);
	/* A result of the body's own, and an error that Python knows nothing of. */
	assert_int_equal(sb_with_object(p->s, &s, body_of_own_code, &code), 7);
	place_exec(p, "m.log.clear()\n");
	assert_int_equal(sb_with_object(p->s, &m, body_times_out, NULL), SB_EREFMALFORMED);
	assert_ok(place_eval(p, "m.log[1][0], m.log[1][1].split(':')[0]", 0, &v));
	assert_string_equal(sb_value_str(sb_value_at(v, 0), NULL), "RuntimeError");
	assert_string_equal(sb_value_str(sb_value_at(v, 1), NULL), "SB_EREFMALFORMED");
	sb_value_free(v);
}

/* ── 26 ── */

static void test_26_causes_notes_frames_are_bounded(void **state)
{
	struct place *p = *state;
	const char *text;

	place_exec(p, "def fail():\n"
	              "    try:\n"
	              "        {}['k']\n"
	              "    except KeyError as e:\n"
	              "        x = RuntimeError('outer')\n"
	              "        x.add_note('a note') if hasattr(x, 'add_note') else setattr(x, '__notes__', "
	              "['a note'])\n"
	              "        raise x from e\n"
	              "def deep(n):\n"
	              "    if n == 0:\n"
	              "        e = ValueError('m' * 100000)\n"
	              "        e.__notes__ = ['n' * 100000] * 100\n"
	              "        raise e\n"
	              "    deep(n - 1)\n");
	sb_ref fail = place_ref(p, "fail"), deep = place_ref(p, "deep");

	assert_int_equal(sb_method(p->s, &fail, "__call__", NULL, NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.RuntimeError");
	assert_string_equal(sb_last_error()->python_message, "outer");
	text = sb_last_error()->python_traceback;
	assert_non_null(strstr(text, "KeyError: 'k'"));
	assert_non_null(strstr(text, "direct cause"));
	assert_non_null(strstr(text, "RuntimeError: outer\na note\n"));
	assert_non_null(strstr(text, "line 7, in fail"));
	assert_int_equal(sb_method(p->s, &deep, "__call__", sb_args("i", 500), NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.ValueError");
	assert_true(strlen(sb_last_error()->python_message) < 4096);
	assert_true(strlen(sb_last_error()->python_traceback) < 65536);
	assert_non_null(strstr(sb_last_error()->python_traceback, "in deep"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_22_items),
		BOTH_PLACES(test_20_22_repr_str_hash),
		BOTH_PLACES(test_22_construct_a_class),
		BOTH_PLACES(test_22_28_iterate_in_batches),
		BOTH_PLACES(test_22_iterate_leaves_the_object),
		BOTH_PLACES(test_22_28_close_runs_finally),
		BOTH_PLACES(test_22_iterate_exception_after_its_items),
		BOTH_PLACES(test_22_iterate_gives_refs),
		BOTH_PLACES(test_22_enter_exit),
		BOTH_PLACES(test_22_with_object),
		BOTH_PLACES(test_26_causes_notes_frames_are_bounded),
	};

	return cmocka_run_group_tests_name("verbs", tests, NULL, NULL);
}
