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
	struct sb__cursor cursor = { example->bytes, example->len, 0 };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_29_examples_of_the_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_29_random_values_made_in_python, setup, teardown),
	};

	return cmocka_run_group_tests_name("engine wire", tests, probe_start, NULL);
}
