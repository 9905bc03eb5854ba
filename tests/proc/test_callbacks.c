/* SPDX-License-Identifier: Apache-2.0 */
/* C functions that Python calls: values, errors, nesting, lifetimes. What ends calls meanwhile: test_callbacks_ends.c. Point 27. */
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

/* eval(source, {"f": fn}). */
static int eval(sb_session *s, const char *source, sb_callback_fn fn, void *arg, sb_value **ret)
{
	return sb_call(s, "builtins:eval", sb_args("s{sk}", source, "f", fn, arg), ret);
}

/* What it gives, as Python's repr; or the exception, "Type: message". */
static const char *shown(sb_session *s, const char *source, sb_callback_fn fn, void *arg)
{
	static char text[8192];
	sb_value *value = NULL;
	char *repr = NULL;
	int err = eval(s, source, fn, arg, &value);

	if (err) {
		snprintf(text, sizeof(text), "%s: %s", sb_last_error()->python_type,
		         sb_last_error()->python_message);
		return text;
	}
	assert_ok(sb_value_text(value, &repr));
	snprintf(text, sizeof(text), "%s", repr);
	free(repr);
	sb_value_free(value);
	return text;
}

static int64_t int_of(const sb_value *args, size_t i)
{
	int64_t n = -1;

	(void)sb_value_int(sb_value_at(args, i), &n);
	return n;
}

/* ── values ── */

static int negated(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	int *calls = arg;

	(void)kwargs;
	if (calls)
		++*calls;
	return sb_value_pack(ret, "l", -int_of(args, 0));
}

static void sort_key(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	int calls = 0;

	assert_string_equal(shown(s, "sorted([3, 1, 2], key=f)", negated, &calls), "[3, 2, 1]");
	assert_int_equal(calls, 3);
	assert_string_equal(shown(s, "list(map(f, range(4)))", negated, NULL), "[0, -1, -2, -3]");
	assert_string_equal(
		shown(s, "__import__('functools').reduce(lambda a, x: a + f(x), range(4), 0)", negated, NULL),
		"-6");
	sb_session_close(s);
}

static void test_27_sort_key(void **state)
{
	sort_key(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_sort_key_here(void **state)
{
	sort_key(*state, SB_DESIGNATED_SELF);
}

static int echo(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg;
	if (sb_value_kind(args) != SB_KIND_TUPLE || (kwargs && sb_value_kind(kwargs) != SB_KIND_DICT))
		return sb_callback_raise("AssertionError", "not what a function gets");
	return sb_value_pack(ret, "[oo]", args, kwargs);
}

static int nothing(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg, (void)args, (void)kwargs, (void)ret;
	return 0;
}

static void values(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);

	assert_string_equal(shown(s, "f()", echo, NULL), "[(), None]");
	assert_string_equal(shown(s, "f(1, 'b', [2.5, None], x=(1,), y={3: b'4'})", echo, NULL),
	                    "[(1, 'b', [2.5, None]), {'x': (1,), 'y': {3: b'4'}}]");
	assert_string_equal(shown(s, "f()", nothing, NULL), "None");
	assert_string_equal(
		shown(s, "f(1)[0][0] is True, f(*range(300))[0] == tuple(range(300))", echo, NULL),
		"(False, True)");
	/* Beyond what a lane holds, both ways. */
	assert_string_equal(
		shown(s,
	              "f('x' * 100000, k=list(range(20000))) == [('x' * 100000,), {'k': list(range(20000))}]",
	              echo, NULL),
		"True");
	assert_string_equal(shown(s,
	                          "[f('x' * n)[0][0] == 'x' * n for n in range(3900, 4300, 7)].count(False)",
	                          echo, NULL),
	                    "0");
	assert_string_equal(
		shown(s,
	              "callable(f), f.__name__, type(f).__qualname__, repr(f).startswith('<C function 0 of')",
	              echo, NULL),
		"(True, 'callback', 'Callback', True)");
	sb_session_close(s);
}

static void test_27_values(void **state)
{
	values(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_values_here(void **state)
{
	values(*state, SB_DESIGNATED_SELF);
}

static void anywhere(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_args *args = sb_args("s", "a[0](*a[1:])");
	sb_value *v = NULL;
	int calls = 0;

	/* In containers, as keywords, more than one; appended; NULL is None. */
	assert_ok(sb_call(s, "builtins:eval",
	                  sb_args("s{s[k(k)] sk}", "[a[0](1), a[1][0](2), b]", "a", negated, &calls, echo,
	                          NULL, "b", NULL, NULL),
	                  &v));
	assert_int_equal(int_of(v, 0), -1);
	assert_int_equal(sb_value_kind(sb_value_at(v, 2)), SB_KIND_NONE);
	sb_value_free(v);
	sb_args_free(args);
	args = sb_args("[iii]", 2, 3, 1);
	assert_ok(sb_args_add_callback(args, "key", negated, &calls));
	assert_ok(sb_call(s, "builtins:sorted", args, &v));
	assert_int_equal(int_of(v, 0), 3);
	sb_value_free(v);
	assert_int_equal(calls, 4);
	sb_session_close(s);
}

static void test_27_anywhere_in_arguments(void **state)
{
	anywhere(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_anywhere_in_arguments_here(void **state)
{
	anywhere(*state, SB_DESIGNATED_SELF);
}

static int sum_array(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	sb_array *a = sb_value_array(sb_value_at(args, 0)), *made = NULL;
	const double *x;
	double sum = 0;
	size_t n = 0;
	int err;

	(void)kwargs;
	x = a ? sb_array_as(a, "float64", &n) : NULL;
	for (size_t i = 0; x && i < n; i++)
		sum += x[i];
	err = x ? sb_array_new(arg, "float64", 1, &n, &made) : sb_last_error()->code;
	for (size_t i = 0; !err && i < n; i++)
		((double *)sb_array_writable(made))[i] = sum;
	if (!err)
		err = sb_value_pack(ret, "a", made);
	sb_array_unref(made);
	return err;
}

static void arrays(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);

	/* Small ones in the message, large ones in shared memory. */
	for (int n = 10; n <= 100000; n *= 100) {
		char source[200];

		snprintf(source, sizeof(source),
		         "[f(__import__('numpy').full(%d, float(k)))[%d - 1] == %d * k for k in "
		         "range(20)].count(False)",
		         n, n, n);
		assert_string_equal(shown(s, source, sum_array, s), "0");
	}
	assert_string_equal(
		shown(s, "f([1])", sum_array, s),
		"snakebridge.CallbackError: the value is of kind list, not array; ask sb_value_kind() first");
	sb_session_close(s);
}

static void test_27_arrays(void **state)
{
	arrays(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_arrays_here(void **state)
{
	arrays(*state, SB_DESIGNATED_SELF);
}

/* ── errors ── */

static int failing(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	int64_t n;

	(void)arg, (void)kwargs, (void)ret;
	switch (int_of(args, 0)) {
	case 0: return sb_value_int(sb_value_at(args, 1), &n); /* SB_EKIND, with the library's words */
	case 1: return sb_callback_raise("ValueError", "no row %d", 7);
	case 2: return sb_callback_raise("json.decoder.NoSuchError", "lost");
	case 3: return SB_ENOSPACE; /* not what the record says */
	case 4: return 5;
	case 5: return sb_callback_raise("builtins.KeyError", "%s", "k\xc3\xa4se");
	default: return sb_callback_raise("StopIteration", "the end");
	}
}

static void errors(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_value *v = NULL;

	assert_string_equal(
		shown(s, "f(0, 'x')", failing, NULL),
		"snakebridge.CallbackError: the value is of kind str, not int; ask sb_value_kind() first");
	assert_string_equal(shown(s, "f(1)", failing, NULL), "builtins.ValueError: no row 7");
	assert_string_equal(shown(s, "f(2)", failing, NULL),
	                    "builtins.RuntimeError: json.decoder.NoSuchError: lost");
	assert_string_equal(
		shown(s, "f(3)", failing, NULL),
		"snakebridge.CallbackError: a C function failed: no space left in the bridge's file system "
		"(SB_ENOSPACE)");
	assert_string_equal(shown(s, "f(4)", failing, NULL),
	                    "snakebridge.CallbackError: a C function returned neither 0 nor an error's code");
	assert_string_equal(shown(s, "f(5)", failing, NULL), "builtins.KeyError: 'k\xc3\xa4se'");
	/* The outer call's outcome, its type, and that Python may catch it. */
	assert_int_equal(eval(s, "f(1)", failing, NULL, &v), SB_EPYTHON);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	assert_ok(sb_call(s, "builtins:exec",
	                  sb_args("s{sk}",
	                          "seen = []\n"
	                          "for n in range(6):\n"
	                          "    try: f(n, 'x')\n"
	                          "    except ValueError: seen.append('value')\n"
	                          "    except RuntimeError: seen.append('runtime')\n"
	                          "    except LookupError: seen.append('lookup')\n"
	                          "assert seen == ['runtime', 'value', 'runtime', 'runtime', 'runtime', "
	                          "'lookup'], seen\n"
	                          "assert list(iter(lambda: 1, 1)) == []\n",
	                          "f", failing, NULL),
	                  NULL));
	/* It failed, and is called again. */
	assert_string_equal(shown(s, "[next(iter([n])) for n in range(3) if f]", failing, NULL), "[0, 1, 2]");
	sb_session_close(s);
}

static void test_27_its_error_becomes_an_exception(void **state)
{
	errors(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_its_error_becomes_an_exception_here(void **state)
{
	errors(*state, SB_DESIGNATED_SELF);
}

struct nested {
	sb_session *session;
	const char *source;
	sb_callback_fn fn; /* of the nested call */
	int err;
	char type[64], message[200];
};

/* Calls eval(source, {"f": fn}) where its session says. */
static int call_nested(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct nested *n = arg;

	(void)args, (void)kwargs;
	n->err = eval(n->session, n->source, n->fn, n, ret);
	if (n->err) {
		snprintf(n->type, sizeof(n->type), "%s", sb_last_error()->python_type);
		snprintf(n->message, sizeof(n->message), "%s", sb_last_error()->python_message);
	}
	return n->err;
}

static void through(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct nested n = { .session = s, .source = "{}['lost']" };

	/* Python's exception reaches the C side, and goes on to the Python that called it. */
	assert_int_equal(eval(s, "f()", call_nested, &n, NULL), SB_EPYTHON);
	assert_int_equal(n.err, SB_EPYTHON);
	assert_string_equal(n.type, "builtins.KeyError");
	assert_string_equal(n.message, "'lost'");
	assert_string_equal(sb_last_error()->python_type, "builtins.KeyError");
	assert_non_null(strstr(sb_last_error()->python_traceback,
	                       "it was raised by a call that a C function of process"));
	assert_non_null(strstr(sb_last_error()->python_traceback, "direct cause"));
	sb_session_close(s);
}

static void test_27_exceptions_go_through(void **state)
{
	through(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_exceptions_go_through_here(void **state)
{
	through(*state, SB_DESIGNATED_SELF);
}

/* ── nesting ── */

static void reentrant(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct nested n = { .session = s, .source = "sum(range(10))" };

	assert_string_equal(shown(s, "[f() for _ in range(3)]", call_nested, &n), "[45, 45, 45]");
	/* With functions in the nested call. */
	n = (struct nested){ .session = s, .source = "[f() for _ in range(2)]", .fn = nothing };
	assert_string_equal(shown(s, "[f() for _ in range(2)]", call_nested, &n),
	                    "[[None, None], [None, None]]");
	sb_session_close(s);
}

static void test_27_it_may_call_the_same_session(void **state)
{
	reentrant(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_it_may_call_the_same_session_here(void **state)
{
	reentrant(*state, SB_DESIGNATED_SELF);
}

static void test_27_it_may_call_another_session(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_session *b = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_session *here = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
	struct nested inner = { .session = here, .source = "'here'" };
	struct nested n = { .session = b, .source = "sorted([2, 1], key=lambda x: -x)" };

	assert_string_equal(shown(a, "f()", call_nested, &n), "[2, 1]");
	assert_string_equal(shown(here, "f()", call_nested, &n), "[2, 1]");
	n.source = "1 / 0";
	assert_string_equal(shown(a, "f()", call_nested, &n), "builtins.ZeroDivisionError: division by zero");
	assert_string_equal(shown(b, "f()", call_nested, &inner), "here");
	sb_session_close(a);
	sb_session_close(b);
	sb_session_close(here);
}

struct countdown {
	sb_session *session;
	int left, calls;
};

/* f(): 0 at the bottom, else 1 + the same in a nested call. */
static int descend(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct countdown *c = arg;

	(void)args, (void)kwargs;
	c->calls++;
	if (c->left-- == 0)
		return sb_value_pack(ret, "i", 0);
	return eval(c->session, "1 + f()", descend, c, ret);
}

static void deep(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct countdown c = { s, 20, 0 };

	assert_string_equal(shown(s, "1 + f()", descend, &c), "21");
	assert_int_equal(c.calls, 21);
	c.left = 10000; /* by rule, and long before the stack ends */
	c.calls = 0;
	assert_non_null(strstr(shown(s, "1 + f()", descend, &c),
	                       "snakebridge.CallbackError: more than 32 C functions that Python calls run "
	                       "within each other"));
	assert_int_equal(c.calls, SB_CALLBACK_DEPTH_MAX);
	sb_session_close(s);
}

static void test_27_deep(void **state)
{
	deep(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_deep_here(void **state)
{
	deep(*state, SB_DESIGNATED_SELF);
}

/* A function of the outer call, called by Python that a function called: the thread that is to run it waits for another call. */
static void inner_calls_outer(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct nested n = { .session = s, .source = "__import__('builtins').kept_by_test(41)" };
	int calls = 0;

	assert_ok(sb_call(s, "builtins:exec",
	                  sb_args("s{sksk}",
	                          "import builtins\n"
	                          "builtins.kept_by_test = g\n"
	                          "assert f() == -41\n"
	                          "assert [f(), g(1), f()] == [-41, -1, -41]\n"
	                          "del builtins.kept_by_test\n",
	                          "f", call_nested, &n, "g", negated, &calls),
	                  NULL));
	assert_int_equal(calls, 4);
	sb_session_close(s);
}

static void test_27_an_inner_call_calls_the_outer_ones_function(void **state)
{
	inner_calls_outer(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_an_inner_call_calls_the_outer_ones_function_here(void **state)
{
	inner_calls_outer(*state, SB_DESIGNATED_SELF);
}

/* ── who may call it, and when ── */

static void threads(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct nested n = { .session = s, .source = "7" };
	int calls = 0;

	assert_string_equal(shown(s,
	                          "list(__import__('concurrent.futures').futures.ThreadPoolExecutor(8).map(f,"
	                          " range(200))) == "
	                          "[-n for n in range(200)]",
	                          negated, &calls),
	                    "True");
	assert_int_equal(calls, 200);
	assert_string_equal(
		shown(s,
	              "sum(__import__('concurrent.futures').futures.ThreadPoolExecutor(4).map(lambda _: f(), "
	              "range(50)))",
	              call_nested, &n),
		"350");
	sb_session_close(s);
}

static void test_27_from_other_threads(void **state)
{
	threads(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_from_other_threads_here(void **state)
{
	threads(*state, SB_DESIGNATED_SELF);
}

static void over(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	const char *gone = "snakebridge.CallbackError: the call that the C function was passed to is over";
	int calls = 0;

	assert_string_equal(
		shown(s, "setattr(__import__('builtins'), 'kept_by_test', f) or f(1)", negated, &calls),
		"-1");
	assert_string_equal(shown(s, "kept_by_test(2)", nothing, NULL), gone);
	/* Also where another call waits that could be asked, and in a thread of its own. */
	assert_string_equal(shown(s, "f() or kept_by_test(2)", nothing, NULL), gone);
	assert_string_equal(
		shown(s,
	              "__import__('concurrent.futures').futures.ThreadPoolExecutor(1).submit(kept_by_test, "
	              "3).exception().args[0]",
	              nothing, NULL),
		strchr(gone, ':') + 2);
	assert_int_equal(calls, 1);
	assert_string_equal(shown(s, "delattr(__import__('builtins'), 'kept_by_test')", nothing, NULL),
	                    "None");
	/* As a result it is a ref, and calling it by that says the same. */
	{
		sb_value *v = NULL;

		assert_ok(eval(s, "f", negated, &calls, &v));
		assert_string_equal(sb_value_ref(v)->type_name, "snakebridge.Callback");
		assert_int_equal(sb_method(s, sb_value_ref(v), "__call__", sb_args("i", 1), NULL),
		                 SB_EPYTHON);
		assert_string_equal(sb_last_error()->python_type, "snakebridge.CallbackError");
		sb_value_free(v);
	}
	sb_session_close(s);
}

static void test_27_gone_when_the_call_is_over(void **state)
{
	over(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_gone_when_the_call_is_over_here(void **state)
{
	over(*state, SB_DESIGNATED_SELF);
}

/* A thread that calls it while the call ends: the call waits, or the function is gone; never both, never half. */
static void racing_end(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_value *v = NULL;
	int calls = 0;
	int64_t served = 0;

	assert_ok(sb_call(
		s, "builtins:exec",
		sb_args("s{}",
	                "import builtins, threading\n"
	                "builtins.served_by_test = []\n"
	                "def work(f):\n"
	                "    try:\n"
	                "        while True: served_by_test.append(f(1))\n"
	                "    except RuntimeError: pass\n"
	                "def begin_by_test(f):\n"
	                "    t = threading.Thread(target=work, args=(f,))\n"
	                "    t.start()\n"
	                "    builtins.threads_by_test = getattr(builtins, 'threads_by_test', []) + [t]\n"
	                "    f(2)\n"
	                "builtins.begin_by_test = begin_by_test\n"),
		NULL));
	for (int i = 0; i < 50; i++)
		assert_ok(eval(s, "begin_by_test(f)", negated, &calls, NULL));
	assert_ok(eval(s, "[t.join() for t in threads_by_test] and len(served_by_test)", nothing, NULL, &v));
	assert_ok(sb_value_int(v, &served));
	sb_value_free(v);
	assert_int_equal(served + 50, calls);
	sb_session_close(s);
}

static void test_27_called_while_the_call_ends(void **state)
{
	racing_end(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_called_while_the_call_ends_here(void **state)
{
	racing_end(*state, SB_DESIGNATED_SELF);
}

/* ── refs ── */

struct refs {
	sb_session *session;
	sb_ref seen;
	bool pin;
};

static int look_at(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct refs *r = arg;
	const sb_ref *ref = sb_value_ref(sb_value_at(args, 0));
	int err = ref ? sb_attr(r->session, ref, "imag", ret) : SB_EKIND;

	(void)kwargs;
	if (err)
		return err;
	sb_value_free(*ret);
	*ret = NULL;
	r->seen = *ref;
	if (r->pin)
		err = sb_ref_pin(r->session, ref, NULL);
	return err ? err : sb_value_pack(ret, "r", ref);
}

/* The numbers that others see follow a call by a moment. */
static bool live_refs_are(sb_session *s, uint64_t count)
{
	sb_session_info info = { .size = sizeof(info) };

	for (int i = 0; i < 10000; i++) {
		assert_ok(sb_session_get_info(s, &info));
		if (info.live_refs == count)
			return true;
		usleep(1000);
	}
	return false;
}

#define OBJECT "type('T', (int,), {})(3)"

static void refs(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	struct refs r = { .session = s };
	sb_value *v = NULL;

	/* It can be used and returned, and is the same object there; then it is gone. */
	assert_string_equal(shown(s, "(lambda o: f(o) is o)(" OBJECT ")", look_at, &r), "True");
	assert_int_equal(sb_attr(s, &r.seen, "imag", NULL), SB_EREFRELEASED);
	assert_string_equal(shown(s, "[f(" OBJECT ") is None for _ in range(500)].count(False)", look_at, &r),
	                    "500");
	assert_true(live_refs_are(s, 0));
	/* Pinned it stays. */
	r.pin = true;
	assert_ok(eval(s, "f(" OBJECT ") and None", look_at, &r, NULL));
	assert_ok(sb_attr(s, &r.seen, "imag", NULL));
	assert_true(live_refs_are(s, 1));
	assert_ok(sb_ref_release(s, &r.seen, NULL));
	/* One that the caller has by a result stays its own. */
	r.pin = false;
	assert_ok(eval(s, OBJECT, NULL, NULL, &v));
	assert_ok(sb_call(s, "builtins:eval",
	                  sb_args("s{srsk}", "f(o) and None", "o", sb_value_ref(v), "f", look_at, &r), NULL));
	assert_ok(sb_attr(s, sb_value_ref(v), "imag", NULL));
	assert_int_equal(r.seen.slot, sb_value_ref(v)->slot);
	sb_value_free(v);
	sb_session_close(s);
}

static void test_27_refs_live_while_it_runs(void **state)
{
	refs(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_refs_live_while_it_runs_here(void **state)
{
	refs(*state, SB_DESIGNATED_SELF);
}

static int give_ref(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)args, (void)kwargs;
	return sb_value_pack(ret, "[r]", arg);
}

/* 5: a ref of another session does not get in by a function's result. */
static void test_27_its_result_is_checked(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "a", SB_DESIGNATED_DEDICATED);
	sb_session *b = fixture_session(f->bridge, "b", SB_DESIGNATED_DEDICATED);
	sb_value *v = NULL;

	assert_ok(eval(b, OBJECT, NULL, NULL, &v));
	assert_non_null(
		strstr(shown(a, "f()", give_ref, (void *)(uintptr_t)sb_value_ref(v)),
	               "snakebridge.CallbackError: the result of a C function holds a ref of session \"b\""));
	assert_string_equal(shown(b, "f() == [3]", give_ref, (void *)(uintptr_t)sb_value_ref(v)), "True");
	sb_value_free(v);
	sb_session_close(a);
	sb_session_close(b);
}

/* ── limits ── */

static void many(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	int calls = 0;

	assert_string_equal(shown(s, "sum(f(n) for n in range(10000))", negated, &calls), "-49995000");
	assert_int_equal(calls, 10000);
	sb_session_close(s);
}

static void test_27_ten_thousand_in_one_call(void **state)
{
	many(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_ten_thousand_in_one_call_here(void **state)
{
	many(*state, SB_DESIGNATED_SELF);
}

static void refused(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;
	sb_batch *batch = NULL;
	sb_value *v = NULL;
	sb_args *args = sb_args("");

	r.name = "builtins:print";
	r.args = sb_args("k", nothing, NULL);
	assert_int_equal(sb_call_start(s, &r, &future), SB_EINVAL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_non_null(strstr(sb_last_error()->message, "a C function is among the arguments of a future"));
	assert_int_equal(sb_call_oneway(s, "builtins:print", sb_args("[k]", nothing, NULL)), SB_EINVAL);
	assert_ok(sb_batch_new(0, &batch));
	r.args = sb_args("k", nothing, NULL);
	assert_int_equal(sb_batch_add(batch, &r, NULL), SB_EINVAL);
	sb_batch_free(batch);
	assert_int_equal(sb_value_pack(&v, "[k]", nothing, NULL), SB_EINVAL);
	for (int i = 0; i < SB_CALLBACKS_MAX; i++)
		assert_ok(sb_args_add_callback(args, NULL, nothing, NULL));
	assert_int_equal(sb_args_add_callback(args, NULL, nothing, NULL), SB_ETOOBIG);
	sb_args_free(args);
	assert_int_equal(sb_args_add_callback(NULL, NULL, nothing, NULL), SB_EINVAL);
	sb_session_close(s);
}

static void test_27_refused_where_nobody_waits(void **state)
{
	refused(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_refused_where_nobody_waits_here(void **state)
{
	refused(*state, SB_DESIGNATED_SELF);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define TESTS(name) TEST(name), TEST(name##_here)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(test_27_sort_key),
		TESTS(test_27_values),
		TESTS(test_27_anywhere_in_arguments),
		TESTS(test_27_arrays),
		TESTS(test_27_its_error_becomes_an_exception),
		TESTS(test_27_exceptions_go_through),
		TESTS(test_27_it_may_call_the_same_session),
		TEST(test_27_it_may_call_another_session),
		TESTS(test_27_deep),
		TESTS(test_27_an_inner_call_calls_the_outer_ones_function),
		TESTS(test_27_from_other_threads),
		TESTS(test_27_gone_when_the_call_is_over),
		TESTS(test_27_called_while_the_call_ends),
		TESTS(test_27_refs_live_while_it_runs),
		TEST(test_27_its_result_is_checked),
		TESTS(test_27_ten_thousand_in_one_call),
		TESTS(test_27_refused_where_nobody_waits),
	};

	return cmocka_run_group_tests_name("callbacks", tests, NULL, NULL);
}
