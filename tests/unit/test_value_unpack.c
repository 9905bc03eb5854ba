/* SPDX-License-Identifier: Apache-2.0 */
/* Values taken apart by a format, and built step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "snakebridge/snakebridge.h"

static void assert_misfit(int code, const char *why)
{
	if (!strstr(sb_last_error()->message, why))
		fail_msg("expected \"%s\" in \"%s\"", why, sb_last_error()->message);
	assert_int_equal(sb_last_error()->code, code);
}

static void test_29_unpack(void **state)
{
	sb_value *v;
	int64_t l = 0;
	uint64_t big = 0;
	double d = 0, x = 0, y = 7;
	const char *s = NULL;
	int i = 0, left = 42;
	bool b = false;

	(void)state;
	assert_int_equal(0, sb_value_pack(&v, "{s:i, s:[dd], s:(lsLb), i:n}", "n", 3, "pair", 1.5, 2.5, "t",
	                                  (int64_t)-1, "txt", UINT64_MAX, 1, 5));
	assert_int_equal(0, sb_value_unpack(v, "{s:i, s:[dd], s?:i, s:(lsLb), i:n}", "n", &i, "pair", &d, &x,
	                                    "none", &left, "t", &l, &s, &big, &b, 5));
	assert_int_equal(i, 3);
	assert_true(d == 1.5 && x == 2.5 && b);
	assert_int_equal(left, 42);
	assert_int_equal(l, -1);
	assert_string_equal(s, "txt");
	assert_true(big == UINT64_MAX);
	assert_int_equal(0, sb_value_unpack(v, "{s:[d*], i:d?, *}", "pair", &d, 5, &y));
	assert_true(y == 7);
	assert_int_equal(SB_EKIND, sb_value_unpack(v, "{s:[di] *}", "pair", &d, &i));
	assert_misfit(SB_EKIND, "at [\"pair\"][1]: is float, not int");
	assert_int_equal(SB_EKIND, sb_value_unpack(v, "{s:[d] *}", "pair", &d));
	assert_misfit(SB_EKIND, "at [\"pair\"]: has 2 items, not 1");
	assert_int_equal(SB_EKIND, sb_value_unpack(v, "{s:i}", "n", &i));
	assert_misfit(SB_EKIND, "at the top: has 4 keys");
	assert_int_equal(SB_EKIND, sb_value_unpack(v, "{s:i *}", "gone", &i));
	assert_misfit(SB_EKIND, "at [\"gone\"]: is not there");
	assert_int_equal(SB_EINVAL, sb_value_unpack(v, "{s:[dd}", "pair", &d, &x));
	assert_int_equal(SB_EINVAL, sb_value_unpack(v, "?"));
	assert_int_equal(SB_EINVAL, sb_value_unpack(v, ""));
	sb_value_free(v);
}

static void test_29_builder(void **state)
{
	const sb_datetime when = { .year = 2024, .month = 2, .day = 29, .zone = "Europe/Berlin" };
	sb_builder *b = sb_builder_new();
	sb_value *v = NULL, *again = NULL;
	char *text = NULL;
	size_t count = 0;

	(void)state;
	sb_builder_begin(b, SB_KIND_DICT);
	sb_builder_str(b, "when");
	sb_builder_datetime(b, &when);
	sb_builder_begin(b, SB_KIND_FROZENSET);
	sb_builder_int_text(b, "-18446744073709551616");
	sb_builder_end(b);
	sb_builder_begin(b, SB_KIND_FRACTION);
	sb_builder_int(b, 1);
	sb_builder_uint64(b, UINT64_MAX);
	sb_builder_end(b);
	sb_builder_end(b);
	assert_int_equal(0, sb_builder_finish(b, &v));
	assert_int_equal(0, sb_value_text(v, &text));
	assert_string_equal(text, "{'when': datetime.datetime(2024, 2, 29, 0, 0, tzinfo=zoneinfo.ZoneInfo("
	                          "key='Europe/Berlin')), frozenset({-18446744073709551616}): "
	                          "Fraction(1, 18446744073709551615)}");
	free(text);
	sb_value_foreach(item, v) count += item != NULL;
	assert_int_equal(count, 2);
	assert_int_equal(0, sb_value_copy(v, &again));
	assert_true(sb_value_equal(v, again));
	sb_value_free(again);
	sb_value_free(v);
}

static void test_29_builder_errors_stick(void **state)
{
	sb_value *v = NULL;
	sb_builder *b = sb_builder_new();

	(void)state;
	sb_builder_begin(b, SB_KIND_LIST);
	sb_builder_decimal(b, "no number");
	sb_builder_int(b, 1);
	assert_int_equal(SB_EINVAL, sb_builder_finish(b, &v));
	assert_misfit(SB_EINVAL, "no decimal");
	assert_int_equal(SB_EINVAL, sb_builder_finish(sb_builder_new(), &v));
	b = sb_builder_new();
	sb_builder_begin(b, SB_KIND_RANGE);
	sb_builder_int(b, 1);
	sb_builder_end(b);
	assert_int_equal(SB_EINVAL, sb_builder_finish(b, &v));
	b = sb_builder_new();
	for (int i = 0; i < 200; i++)
		sb_builder_begin(b, SB_KIND_LIST);
	assert_int_equal(SB_ETOODEEP, sb_builder_finish(b, &v));
	b = sb_builder_new();
	sb_builder_begin(b, SB_KIND_DICT);
	sb_builder_int(b, 1);
	sb_builder_end(b);
	assert_int_equal(SB_EINVAL, sb_builder_finish(b, &v));
	assert_null(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_29_unpack),
		cmocka_unit_test(test_29_builder),
		cmocka_unit_test(test_29_builder_errors_stick),
	};

	return cmocka_run_group_tests_name("value unpack", tests, NULL, NULL);
}
