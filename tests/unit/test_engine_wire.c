/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values between C and Python: each example of docs/formats/wire.md both ways, and values at random. The seed is
 * printed; SB_TEST_SEED sets it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine_probe.h"
#include "value_impl.h"
#include "wire_page.h"

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

static void assert_encodes(const sb_value *value, const struct wire_example *example)
{
	struct sb__buf buf;

	sb__buf_init(&buf, NULL, 0);
	sb__value_encode(value, &buf);
	assert_int_equal(buf.error, 0);
	if (buf.len != example->len || memcmp(buf.data, example->bytes, buf.len) != 0)
		fail_msg("other bytes for %s", example->python);
	sb__buf_free(&buf);
}

static void replay(const struct wire_example *example, void *table)
{
	struct sb__cursor cursor = { .data = example->bytes, .len = example->len };
	sb_value *value = NULL, *answer = NULL;

	if (!example->python[0])
		return;
	/* Python → bytes. */
	assert_int_equal(0, probe_call(table, "sbvalues:made", sb_args("s", example->python), &value));
	assert_encodes(value, example);
	sb_value_free(value);
	/* Bytes → Python. */
	assert_int_equal(0, sb__value_decode(&cursor, PROBE_SESSION, &value));
	if (probe_call(table, "sbvalues:is_made", sb_args("so", example->python, value), &answer) < 0)
		fail_msg("%s: %s", example->python, sb_last_error()->message);
	assert_string_equal("True", probe_show(answer));
	sb_value_free(answer);
	sb_value_free(value);
}

static void test_29_examples_of_the_page(void **state)
{
	assert_true(wire_each("wire", replay, *state) > 60);
}

static int64_t seed(void)
{
	const char *given = getenv("SB_TEST_SEED");
	int64_t v = given ? strtoll(given, NULL, 10) : (int64_t)time(NULL) * 1000;

	print_message("SB_TEST_SEED=%lld\n", (long long)v);
	return v;
}

#define ROUNDS 400

static void test_29_random_values_made_in_python(void **state)
{
	int64_t first = seed();

	for (int64_t i = first; i < first + ROUNDS; i++) {
		sb_value *value = NULL, *answer = NULL;

		if (probe_call(*state, "sbvalues:random_value", sb_args("l", i), &value) < 0)
			fail_msg("seed %lld: %s", (long long)i, sb_last_error()->message);
		if (probe_call(*state, "sbvalues:is_random_value", sb_args("lo", i, value), &answer) < 0)
			fail_msg("seed %lld: %s", (long long)i, sb_last_error()->message);
		if (strcmp(probe_show(answer), "True") != 0)
			fail_msg("seed %lld: %s", (long long)i, probe_show(answer));
		sb_value_free(answer);
		sb_value_free(value);
	}
}

/* Through JSON, and as a copy. */
static void assert_same_again(void *table, int64_t i, const sb_value *value)
{
	sb_value *copy = NULL, *read = NULL, *answer = NULL;
	char *text = NULL;

	assert_int_equal(0, sb_value_copy(value, &copy));
	assert_int_equal(0, sb_value_to_json(copy, &text));
	if (sb_value_from_json(text, &read) < 0)
		fail_msg("seed %lld: %s: %s", (long long)i, sb_last_error()->message, text);
	assert_int_equal(0, probe_call(table, "sbvalues:is_random_value", sb_args("lo", i, read), &answer));
	if (strcmp(probe_show(answer), "True") != 0)
		fail_msg("seed %lld: %s", (long long)i, probe_show(answer));
	free(text);
	sb_value_free(answer);
	sb_value_free(read);
	sb_value_free(copy);
}

static void test_29_random_values_through_json(void **state)
{
	int64_t first = seed();

	for (int64_t i = first; i < first + ROUNDS / 2; i++) {
		sb_value *value = NULL;

		assert_int_equal(0, probe_call(*state, "sbvalues:random_value", sb_args("l", i), &value));
		assert_same_again(*state, i, value);
		sb_value_free(value);
	}
}

/* What sb_value_text() says is what Python says. */
static void test_29_text_is_pythons(void **state)
{
	static const char *const sources[] = {
		"[0.1, 1e16, 1e22, 123456789012345680.0, 1e-5, 0.0001, 5e-324, -0.0, 1.7976931348623157e308]",
		"[float('nan'), float('inf'), 1.0, 100.0, 1.5, 2.5e-7, 1e15, 9007199254740993.0]",
		"[1j, 1+2j, -0.0+1j, complex(1, float('-inf')), complex('nan')]",
		"[10**10000, -10**10000, 2**64, -2**64, 2**63, -2**63 - 1]",
		"(1,)",
		"()",
		"{1: 2, 'a': [None, True]}",
		"set()",
		"frozenset()",
		"{5}",
		"frozenset({5})",
		"[b'a\\x00\\xff\\n\\'', bytearray(b'x'), 'it\\'s', 'a\\\"b\\'c', 'tab\\t', 'a\\udc80']",
		"[datetime.datetime(2024, 1, 2, 3, 4), datetime.datetime(1, 1, 1, 0, 0, 0, 5, fold=1)]",
		"datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)",
		"datetime.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))",
		"datetime.time(1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-5), 'X'))",
		"[datetime.date(1, 2, 3), datetime.timedelta(0), datetime.timedelta(-1, 5, 7)]",
		"[decimal.Decimal('1.50'), fractions.Fraction(1, 3), uuid.UUID(int=7), range(3), range(1, 5, "
		"2), ...]",
		"slice(1, None, 'x')",
	};

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		sb_value *value = NULL, *said = NULL;
		char *text = NULL;

		assert_int_equal(0, probe_call(*state, "sbvalues:made", sb_args("s", sources[i]), &value));
		assert_int_equal(0, probe_call(*state, "sbvalues:said", sb_args("o", value), &said));
		assert_int_equal(0, sb_value_text(value, &text));
		assert_string_equal(sb_value_str(said, NULL), text);
		free(text);
		sb_value_free(said);
		sb_value_free(value);
	}
}

static void test_29_equal_as_in_python(void **state)
{
	static const char *const sources[] = {
		"None",
		"True",
		"1",
		"1.0",
		"1+0j",
		"0",
		"-0.0",
		"2**64",
		"2.0**64",
		"2**64 + 1",
		"2**53 + 1",
		"2.0**53",
		"float('nan')",
		"float('inf')",
		"-2**63",
		"-2.0**63",
		"2**1100",
		"'1'",
		"b'1'",
		"bytearray(b'1')",
		"[1]",
		"(1,)",
		"[True]",
		"{1}",
		"frozenset({1.0})",
		"{2, 1}",
		"{1, 2}",
		"{1: 2}",
		"{1.0: 2.0}",
		"{'a': 1, 'b': 2}",
		"{'b': 2, 'a': 1}",
		"range(0)",
		"range(5, 1)",
		"range(0, 5, 10)",
		"range(0, 1)",
		"range(0, 10, 2)",
		"range(0, 9, 2)",
		"...",
		"slice(1, 2)",
		"datetime.datetime(2024, 1, 1)",
		"datetime.date(2024, 1, 1)",
		"datetime.timedelta(1)",
		"datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)",
		"datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))",
		"decimal.Decimal('1.50')",
		"decimal.Decimal('1.5')",
		"decimal.Decimal('nan')",
		"decimal.Decimal('-0')",
		"decimal.Decimal('0E+5')",
		"fractions.Fraction(1, 3)",
		"uuid.UUID(int=1)",
	};
	enum { COUNT = sizeof(sources) / sizeof(sources[0]) };
	sb_value *values[COUNT] = { NULL }, *answer = NULL;

	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(0,
		                 probe_call(*state, "sbvalues:made", sb_args("s", sources[i]), &values[i]));
	for (size_t i = 0; i < COUNT; i++)
		for (size_t k = 0; k < COUNT; k++) {
			sb_kind x = sb_value_kind(values[i]), y = sb_value_kind(values[k]);
			bool equal = false;

			/* Those equal their own kind only here. */
			if (x != y && (x == SB_KIND_DECIMAL || y == SB_KIND_DECIMAL ||
			               x == SB_KIND_FRACTION || y == SB_KIND_FRACTION))
				continue;
			assert_int_equal(0, probe_call(*state, "operator:eq",
			                               sb_args("oo", values[i], values[k]), &answer));
			assert_int_equal(0, sb_value_bool(answer, &equal));
			sb_value_free(answer);
			if (sb_value_equal(values[i], values[k]) != equal)
				fail_msg("%s == %s is %s", sources[i], sources[k], equal ? "True" : "False");
		}
	for (size_t i = 0; i < COUNT; i++)
		sb_value_free(values[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_29_examples_of_the_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_29_random_values_made_in_python, setup, teardown),
		cmocka_unit_test_setup_teardown(test_29_random_values_through_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_29_text_is_pythons, setup, teardown),
		cmocka_unit_test_setup_teardown(test_29_equal_as_in_python, setup, teardown),
	};

	return cmocka_run_group_tests_name("engine wire", tests, probe_start, NULL);
}
