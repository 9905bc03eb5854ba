/* SPDX-License-Identifier: Apache-2.0 */
/* Values through the engine, both ways, every verb, and how names are found. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine_probe.h"
#include "wire.h"

static int setup(void **state)
{
	*state = probe_table(NULL);
	return 0;
}

static int teardown(void **state)
{
	probe_table_free(*state);
	return 0;
}

/* ── arguments: C → Python ── */

#define assert_repr(expected, ...) \
	assert_string_equal(expected, probe_ask(table, "builtins:repr", sb_args(__VA_ARGS__)))

static void test_arguments(void **state)
{
	struct sb__table *table = *state;

	assert_repr("'None'", "n");
	assert_repr("'True'", "b", 1);
	assert_repr("'False'", "b", 0);
	assert_repr("'-7'", "i", -7);
	assert_repr("'9223372036854775807'", "l", INT64_MAX);
	assert_repr("'-9223372036854775808'", "l", INT64_MIN);
	assert_repr("'2.5'", "d", 2.5);
	assert_repr("'-0.0'", "d", -0.0);
	assert_repr("'inf'", "d", HUGE_VAL);
	assert_repr("'nan'", "d", (double)NAN);
	assert_repr("''h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d''", "s",
	            "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d");
	assert_repr("''''", "s", "");
	assert_repr("'b'a\\x00b''", "y", "a\0b", (size_t)3);
	assert_repr("'b'''", "y", "", (size_t)0);
	assert_repr("'[]'", "[]");
	assert_repr("'()'", "()");
	assert_repr("'{}'", "{}");
	assert_repr("'[1, (2,), {3: [4.0]}]'", "[i(i){i[d]}]", 1, 2, 3, 4.0);
	assert_repr("'{'b': 1, 'a': 2, (1, 2): None}'", "{sisi(ii)n}", "b", 1, "a", 2, 1, 2);
}

static void test_keywords(void **state)
{
	struct sb__table *table = *state;

	assert_string_equal("((1, 2), {'b': 3, 'a': [4]})",
	                    probe_ask(table, "sbprobe:same", sb_args("ii b=i a=[i]", 1, 2, 3, 4)));
	assert_string_equal("((), {'only': None})", probe_ask(table, "sbprobe:same", sb_args("only=n")));
	assert_string_equal(
		"(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)",
		probe_ask(table, "sbprobe:same", sb_args("iiiiiiiiii", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)));
	assert_string_equal("SB_EPYTHON builtins.TypeError",
	                    probe_ask(table, "math:sqrt", sb_args("d wrong=i", 4.0, 1)));
}

static void test_ref_arguments(void **state)
{
	struct sb__table *table = *state;
	sb_ref box;

	assert_true(probe_eval_ref(table, "Box(5)", &box));
	assert_string_equal("True", probe_ask(table, "sbprobe:is_same", sb_args("rr", &box, &box)));
	/* At any depth, as a dict's key, as a keyword. */
	assert_string_equal("[1, (<sbprobe.Box>, {<sbprobe.Box>: <sbprobe.Box>})]",
	                    probe_ask(table, "sbprobe:same", sb_args("[i(r{rr})]", 1, &box, &box, &box)));
	assert_string_equal("((), {'k': <sbprobe.Box>})",
	                    probe_ask(table, "sbprobe:same", sb_args("k=r", &box)));
}

/* ── results: Python → C ── */

static void test_results(void **state)
{
	static const char *const rows[][2] = {
		{ "None", "None" },
		{ "True", "True" },
		{ "0", "0" },
		{ "2**63 - 1", "9223372036854775807" },
		{ "-2**63", "-9223372036854775808" },
		{ "0.1", "0.10000000000000001" },
		{ "float('-inf')", "-inf" },
		{ "'héé\\0€'", "'héé\\x00€'" },
		{ "b'\\x00\\xff'[:1]", "b'\\x00'" },
		{ "''", "''" },
		{ "b''", "b''" },
		{ "[]", "[]" },
		{ "()", "()" },
		{ "{}", "{}" },
		{ "[1, (2, [3]), {'k': (4,)}]", "[1, (2, [3]), {'k': (4,)}]" },
		{ "{2: 'b', 1: 'a', (1, None): True}", "{2: 'b', 1: 'a', (1, None): True}" },
		/* Leaves that have no value form, and subclasses, which are more than their base. */
		{ "[object(), [memoryview(b'')]]", "[<builtins.object>, [array |u1 of 0]]" },
		{ "Point(1, 2)", "<sbprobe.Point>" },
		{ "Color.RED", "<sbprobe.Color>" },
		{ "Text('x')", "<sbprobe.Text>" },
		{ "{Color.RED: Text('x')}", "{<sbprobe.Color>: <sbprobe.Text>}" },
		{ "collections.Counter('aa')", "<collections.Counter>" },
		{ "Box", "<builtins.type>" },
		{ "Box(1).get", "<builtins.method>" },
		{ "len", "<builtins.builtin_function_or_method>" },
		{ "(i for i in 'ab')", "<builtins.generator>" },
		{ "os", "<builtins.module>" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *shown = probe_eval(*state, rows[i][0]);

		if (strcmp(rows[i][1], shown) != 0)
			print_error("for %s\n", rows[i][0]);
		assert_string_equal(rows[i][1], shown);
	}
}

static void test_floats_keep_their_bits(void **state)
{
	static const uint64_t patterns[] = { 0x7ff8000000000001u, 0xfff8dead00000000u, 0x8000000000000000u,
		                             1u };

	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		sb_value *value = NULL;
		uint64_t bits;
		double in, out = 0;

		memcpy(&in, &patterns[i], sizeof(in));
		assert_int_equal(0, probe_call(*state, "sbprobe:same", sb_args("d", in), &value));
		assert_int_equal(0, sb_value_float(value, &out));
		memcpy(&bits, &out, sizeof(bits));
		assert_int_equal(patterns[i], bits);
		sb_value_free(value);
	}
}

static void test_as_ref(void **state)
{
	sb_value *value = NULL;

	assert_int_equal(0, probe_run(*state, SB_VERB_CALL, NULL, "builtins:list", sb_args("[ii]", 1, 2),
	                              SB_CALL_AS_REF, &value));
	assert_string_equal("<builtins.list>", probe_show(value));
	assert_string_equal("2", probe_ask(*state, "builtins:len", sb_args("r", sb_value_ref(value))));
	sb_value_free(value);
	/* None stays None: there is nothing to name. */
	assert_int_equal(0, probe_run(*state, SB_VERB_CALL, NULL, "sbprobe:same", sb_args("n"),
	                              SB_CALL_AS_REF, &value));
	assert_int_equal(SB_KIND_NONE, sb_value_kind(value));
	sb_value_free(value);
}

static void test_cycles_end_in_a_ref(void **state)
{
	sb_value *value = NULL;

	assert_int_equal(0, probe_call(*state, "sbprobe:loop_list", NULL, &value));
	assert_string_equal("[1, <builtins.list>]", probe_show(value));
	/* It is the ref of the list itself. */
	assert_string_equal(
		"2", probe_ask(*state, "builtins:len", sb_args("r", sb_value_ref(sb_value_at(value, 1)))));
	sb_value_free(value);
	assert_string_equal("{'me': [<builtins.dict>]}", probe_ask(*state, "sbprobe:loop_dict", NULL));
	/* Shared without a cycle is no cycle. */
	assert_string_equal("[[1], [1]]", probe_ask(*state, "sbprobe:shared_list", NULL));
}

/* How deep a value is, and what lies at its bottom. */
static size_t depth_of(const sb_value *value, const sb_value **ret_core)
{
	size_t depth = 0;

	for (; sb_value_len(value) > 0 && sb_value_at(value, 0); value = sb_value_at(value, 0))
		depth++;
	*ret_core = value;
	return depth;
}

static void test_deep_results_end_in_a_ref(void **state)
{
	static const char *const makers[] = { "sbprobe:nest", "sbprobe:nest_tuple", "sbprobe:nest_dict" };
	const sb_value *core;
	sb_value *value;

	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		assert_int_equal(0, probe_call(*state, makers[i], sb_args("i", 120), &value));
		assert_int_equal(120, depth_of(value, &core));
		assert_int_equal(SB_KIND_NONE, sb_value_kind(core));
		sb_value_free(value);

		assert_int_equal(0, probe_call(*state, makers[i], sb_args("i", 50000), &value));
		assert_int_equal(120, depth_of(value, &core));
		assert_int_equal(SB_KIND_REF, sb_value_kind(core));
		sb_value_free(value);
	}
}

static void test_deep_arguments(void **state)
{
	char format[2 * SB__DEPTH_MAX + 1] = "";

	memset(format, '[', SB__DEPTH_MAX);
	memset(format + SB__DEPTH_MAX, ']', SB__DEPTH_MAX);
	assert_string_equal("127", probe_ask(*state, "sbprobe:depth_of", sb_args_pack(format)));
}

static void test_big_values(void **state)
{
	sb_value *value = NULL;
	size_t len = 0;

	assert_int_equal(0,
	                 probe_call(*state, "operator:mul", sb_args("yi", "x", (size_t)1, 5000000), &value));
	assert_non_null(sb_value_bytes(value, &len));
	assert_int_equal(5000000, len);
	assert_string_equal("True", probe_ask(*state, "operator:eq", sb_args("oo", value, value)));
	sb_value_free(value);
}

static void test_many_items(void **state)
{
	sb_value *value = NULL, *again = NULL;

	assert_int_equal(0,
	                 probe_call(*state, "builtins:eval", sb_args("s{}", "list(range(100000))"), &value));
	assert_int_equal(100000, sb_value_len(value));
	assert_int_equal(0, probe_call(*state, "sbprobe:same", sb_args("o", value), &again));
	assert_int_equal(100000, sb_value_len(again));
	sb_value_free(value);
	sb_value_free(again);
}

/* ── verbs and names ── */

static void test_attributes(void **state)
{
	struct sb__table *table = *state;
	sb_value *value = NULL;
	sb_ref box;

	assert_true(probe_eval_ref(table, "Box(Box([1, 2]))", &box));
	assert_int_equal(0, probe_run(table, SB_VERB_ATTR, &box, "value.value", NULL, 0, &value));
	assert_string_equal("[1, 2]", probe_show(value));
	sb_value_free(value);
	assert_int_equal(
		0, probe_run(table, SB_VERB_SET_ATTR, &box, "value.value", sb_args("s", "new"), 0, &value));
	assert_int_equal(SB_KIND_NONE, sb_value_kind(value));
	sb_value_free(value);
	assert_int_equal(0, probe_method(table, &box, "value.get", NULL, &value));
	assert_string_equal("'new'", probe_show(value));
	sb_value_free(value);
	/* A set that stores a ref stores the object. */
	assert_int_equal(0, probe_run(table, SB_VERB_SET_ATTR, &box, "me", sb_args("r", &box), 0, NULL));
	assert_int_equal(0, probe_run(table, SB_VERB_ATTR, &box, "me.me.me", NULL, 0, &value));
	assert_int_equal(box.slot, sb_value_ref(value)->slot);
	assert_int_equal(box.generation, sb_value_ref(value)->generation);
	sb_value_free(value);
	assert_int_equal(0, probe_run(table, SB_VERB_RELEASE, &box, NULL, NULL, 0, &value));
	assert_string_equal("True", probe_show(value));
	sb_value_free(value);
}

static void test_paths(void **state)
{
	static const char *const calls[][2] = {
		{ "math:hypot", "5.0" },
		{ "math.hypot", "5.0" },
		{ "os.path.join", "SB_EPYTHON builtins.TypeError" },
		{ "sbprobe:Box.of", "[<sbprobe.Box>, <sbprobe.Box>]" },
		{ "sbprobe.Box.of", "[<sbprobe.Box>, <sbprobe.Box>]" },
		{ "sbprobe:Point", "<sbprobe.Point>" }, /* a class is called too */
		{ "builtins.max", "4" },
		{ "concurrent.futures.Future.set_result", "SB_EPYTHON builtins.AttributeError" },
		{ "nosuchmodule:f", "SB_EMODULE builtins.ModuleNotFoundError" },
		{ "nosuchmodule.sub.f", "SB_EMODULE builtins.ModuleNotFoundError" },
		{ "nosuchmodule", "SB_EMODULE builtins.ModuleNotFoundError" },
		{ "math.nosuch:f", "SB_EMODULE builtins.ModuleNotFoundError" },
		{ "os.path.nosuch.f", "SB_EATTRIBUTE builtins.AttributeError" },
		{ "json.nosuch", "SB_EATTRIBUTE builtins.AttributeError" },
		{ "json.nosuch.more", "SB_EATTRIBUTE builtins.AttributeError" },
		{ "math:nosuch", "SB_EATTRIBUTE builtins.AttributeError" },
		{ "math", "SB_EPYTHON builtins.TypeError" },
		{ "", "SB_EINVAL" },
		{ ":x", "SB_EINVAL" },
		{ "math:", "SB_EINVAL" },
		{ "math..sqrt", "SB_EINVAL" },
		{ ".math.sqrt", "SB_EINVAL" },
		{ "math.sqrt.", "SB_EINVAL" },
		{ "math:a:b", "SB_EATTRIBUTE builtins.AttributeError" },
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		/* Twice: the second time finds what the first has imported. */
		for (int round = 0; round < 2; round++) {
			const char *shown = probe_ask(*state, calls[i][0], sb_args("ii", 3, 4));

			if (strcmp(calls[i][1], shown) != 0)
				print_error("for %s: %s\n", calls[i][0], sb_last_error()->message);
			assert_string_equal(calls[i][1], shown);
		}
	}
}

static void test_get(void **state)
{
	static const char *const rows[][2] = {
		{ "math:pi", "3.1415926535897931" },
		{ "math.pi", "3.1415926535897931" },
		{ "math", "<builtins.module>" },
		{ "os.path", "<builtins.module>" },
		{ "xml.dom.minidom", "<builtins.module>" }, /* not imported yet */
		{ "sbprobe:constant", "42" },
		{ "sbprobe.Color.RED.value", "1" },
	};
	sb_value *value;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(0, probe_run(*state, SB_VERB_GET, NULL, rows[i][0], NULL, 0, &value));
		assert_string_equal(rows[i][1], probe_show(value));
		sb_value_free(value);
	}
	assert_int_equal(SB_EMODULE, probe_run(*state, SB_VERB_GET, NULL, "nosuchmodule:x", NULL, 0, NULL));
	assert_int_equal(SB_EATTRIBUTE, probe_run(*state, SB_VERB_GET, NULL, "math:nosuch", NULL, 0, NULL));
}

static void test_wrong_shapes_are_refused(void **state)
{
	struct sb__table *table = *state;
	sb_ref box;

	assert_true(probe_eval_ref(table, "Box(1)", &box));
#define assert_refused(code, ...)                                               \
	do {                                                                    \
		assert_int_equal(code, probe_run(table, __VA_ARGS__, NULL));    \
		assert_int_equal(SB_OUTCOME_REFUSED, sb_last_error()->outcome); \
		assert_string_not_equal("", sb_last_error()->message);          \
	} while (0)
	assert_refused(SB_EINVAL, SB_VERB_CALL, &box, "math:sqrt", NULL, 0);
	assert_refused(SB_EINVAL, SB_VERB_CALL, NULL, NULL, NULL, 0);
	assert_refused(SB_EINVAL, SB_VERB_METHOD, NULL, "get", NULL, 0);
	assert_refused(SB_EINVAL, SB_VERB_ATTR, &box, "value", sb_args("i", 1), 0);
	assert_refused(SB_EINVAL, SB_VERB_ATTR, &box, "value..x", NULL, 0);
	assert_refused(SB_EINVAL, SB_VERB_SET_ATTR, &box, "value", NULL, 0);
	assert_refused(SB_EINVAL, SB_VERB_SET_ATTR, &box, "value", sb_args("ii", 1, 2), 0);
	assert_refused(SB_EINVAL, SB_VERB_SET_ATTR, &box, "value", sb_args("i k=i", 1, 2), 0);
	assert_refused(SB_EINVAL, SB_VERB_SET_ATTR, &box, "", sb_args("i", 1), 0);
	assert_refused(SB_EINVAL, SB_VERB_RELEASE, &box, "name", NULL, 0);
	assert_refused(SB_EPROTOCOL, (sb_verb)77, NULL, "math:sqrt", NULL, 0);
	assert_refused(SB_EPROTOCOL, SB_VERB_CALL, NULL, "math:sqrt", NULL, 1u << 20);
	assert_refused(SB_EINVAL, SB_VERB_CALL, NULL, "sbprobe:same", sb_args("{[i]i}", 1, 2), 0);
	assert_refused(SB_EINVAL, SB_VERB_CALL, NULL, "sbprobe:same", sb_args("a=i a=i", 1, 2), 0);
#undef assert_refused
}

/* Whatever bytes come, a whole reply goes back and nothing runs. */
static void test_broken_bytes_are_refused(void **state)
{
	static const uint8_t request[] = { 0x86, 0x01, 0x00, 0xf6, 0x6c, 's',  'b', 'p', 'r',
		                           'o',  'b',  'e',  ':',  's',  'a',  'm', 'e', 0x81,
		                           0x82, 0x01, 0x61, 'x',  0xa1, 0x61, 'k', 0xf5 };
	struct sb__call_origin origin = { .pid = 1 };

	for (size_t cut = 0; cut <= sizeof(request); cut++) {
		for (unsigned flip = 0; flip < 256; flip += cut == sizeof(request) ? 256 : 37) {
			uint8_t copy[sizeof(request)];
			struct sb__cursor cursor;
			struct sb__item item;
			struct sb__buf reply;

			memcpy(copy, request, sizeof(copy));
			if (cut < sizeof(copy))
				copy[cut] ^= (uint8_t)flip;
			sb__buf_init(&reply, NULL, 0);
			probe_engine()->execute(*state, &origin, copy, flip == 0 ? cut : sizeof(copy),
			                        &reply);
			assert_int_equal(0, reply.error);
			cursor = (struct sb__cursor){ .data = reply.data, .len = reply.len };
			assert_int_equal(0, sb__next(&cursor, &item));
			assert_int_equal(SB__ITEM_ARRAY, item.type);
			if (flip == 0)
				assert_int_equal(cut == sizeof(request) ? 2 : 3, item.u.count);
			sb__buf_free(&reply);
		}
	}
}

/* Nor does a batch that cannot be read leave anything that could be cancelled. */
static void test_broken_batches_are_refused(void **state)
{
	static const uint8_t request[] = { 0x86, 0x16, 0x00, 0xf6, 0xf6, 0x82, 0x4f, 0x86,
		                           0x01, 0x00, 0xf6, 0x68, 'm',  'a',  't',  'h',
		                           ':',  'p',  'i',  '!',  0x80, 0xa0, 0x40, 0xa0 };
	struct sb__call_origin origin = { .pid = 1 };

	for (size_t len = 5; len <= sizeof(request); len++) {
		struct sb__cursor cursor;
		struct sb__item item;
		struct sb__buf reply;

		sb__buf_init(&reply, NULL, 0);
		probe_engine()->execute(*state, &origin, request, len, &reply);
		assert_int_equal(0, reply.error);
		assert_int_equal(0, probe_engine()->cancel(*state, 0, 0));
		cursor = (struct sb__cursor){ .data = reply.data, .len = reply.len };
		assert_int_equal(0, sb__next(&cursor, &item));
		assert_int_equal(SB__ITEM_ARRAY, item.type);
		assert_int_equal(len < sizeof(request) - 1 ? 3 : 2, item.u.count);
		sb__buf_free(&reply);
	}
}

static void test_numpy_scalars(void **state)
{
	static const char *const rows[][2] = {
		{ "numpy.float64(1.5)", "1.5" },
		{ "numpy.float32(0.5)", "0.5" },
		{ "numpy.int8(-3)", "-3" },
		{ "numpy.uint64(2**63 - 1)", "9223372036854775807" },
		{ "numpy.bool_(True)", "True" },
		{ "numpy.str_('x')", "'x'" },
		{ "numpy.bytes_(b'x')", "b'x'" },
		{ "numpy.datetime64('2024-01-01')", "<numpy.datetime64>" },
		{ "[numpy.int64(1), {'k': numpy.float64(2)}]", "[1, {'k': 2.0}]" },
		{ "numpy.arange(3)", "array <i8 of 3" },
	};
	sb_value *value = NULL;

	if (probe_run(*state, SB_VERB_GET, NULL, "numpy", NULL, 0, &value) == SB_EMODULE) {
		print_message("no NumPy here\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *shown = probe_ask(*state, "builtins:eval",
		                              sb_args("s{so}", rows[i][0], "numpy", value));

		if (strcmp(rows[i][1], shown) != 0)
			print_error("for %s\n", rows[i][0]);
		assert_string_equal(rows[i][1], shown);
	}
	sb_value_free(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_arguments),
		TEST(test_keywords),
		TEST(test_ref_arguments),
		TEST(test_results),
		TEST(test_floats_keep_their_bits),
		TEST(test_as_ref),
		TEST(test_cycles_end_in_a_ref),
		TEST(test_deep_results_end_in_a_ref),
		TEST(test_deep_arguments),
		TEST(test_big_values),
		TEST(test_many_items),
		TEST(test_attributes),
		TEST(test_paths),
		TEST(test_get),
		TEST(test_wrong_shapes_are_refused),
		TEST(test_broken_bytes_are_refused),
		TEST(test_broken_batches_are_refused),
		TEST(test_numpy_scalars),
#undef TEST
	};

	return cmocka_run_group_tests_name("engine values", tests, probe_start, NULL);
}
