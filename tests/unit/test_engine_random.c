/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values at random that C makes: there and back they are what they were, by every accessor, and their text is what Python says
 * of them. The seed is printed; SB_TEST_SEED sets it. Those that Python makes are in test_engine_wire.c.
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
#include "snakebridge/builder.h"

#define ROUNDS 1500

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

/* ── made ── */

static unsigned seed;
static bool has_set; /* whose order is Python's */

static uint64_t bits(void)
{
	return (uint64_t)rand_r(&seed) << 42 ^ (uint64_t)rand_r(&seed) << 21 ^ (uint64_t)rand_r(&seed);
}

static unsigned below(unsigned n)
{
	return (unsigned)(bits() >> 8) % n;
}

static double number(void)
{
	static const double edges[] = { 0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e16, -1e-5 };
	uint64_t raw = bits() << 32 ^ bits();
	double d;

	if (below(3) == 0)
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	if (below(4) == 0)
		raw |= UINT64_C(0x7ff0000000000000); /* infinities and nans with payloads */
	memcpy(&d, &raw, sizeof(d));
	return d;
}

static void put_int(sb_builder *b)
{
	static const int64_t edges[] = { 0, -1, 255, 256, -16, -17, INT32_MAX, INT64_MAX, INT64_MIN };
	uint8_t magnitude[64];
	char digits[10001];

	switch (below(6)) {
	case 0: sb_builder_int(b, edges[below(sizeof(edges) / sizeof(edges[0]))]); return;
	case 1: sb_builder_int(b, (int64_t)(bits() << 32 ^ bits())); return;
	case 2: sb_builder_uint64(b, UINT64_MAX - below(3)); return;
	case 3:
		for (size_t i = 0; i < sizeof(magnitude); i++)
			magnitude[i] = (uint8_t)bits();
		sb_builder_bigint(b, below(2), magnitude, below(sizeof(magnitude) + 1));
		return;
	case 4:
		if (below(20) == 0) { /* 10^4 digits */
			for (size_t i = 0; i < 10000; i++)
				digits[i] = (char)('0' + below(10));
			digits[0] = below(2) ? '-' : '7';
			digits[10000] = '\0';
			sb_builder_int_text(b, digits);
			return;
		} /* fall through */
	default: sb_builder_int(b, (int64_t)below(1000) - 500);
	}
}

static void put_str(sb_builder *b)
{
	static const char *const pieces[] = { "a", "\"", "\\",   "\n",           "é",
		                              "€", "🐍",  "\x7f", "\xed\xa0\x80", "\xed\xaf\xbf" };
	char text[64];
	size_t len = 0;

	for (unsigned n = below(8); n > 0; n--) {
		const char *piece = pieces[below(sizeof(pieces) / sizeof(pieces[0]))];

		memcpy(text + len, piece, strlen(piece));
		len += strlen(piece);
	}
	if (below(4) == 0)
		text[len++] = '\0';
	sb_builder_str_len(b, text, len);
}

static sb_datetime moment(void)
{
	static const char *const keys[] = { "UTC", "Europe/Berlin", "Asia/Kathmandu" }, *const names[] = {
		"", "CET", "é"
	};
	sb_datetime w = { .year = 1 + (int)below(9999),
		          .month = 1 + (int)below(12),
		          .day = 1 + (int)below(28),
		          .hour = (int)below(24),
		          .minute = (int)below(60),
		          .second = (int)below(60),
		          .microsecond = below(2) ? 0 : (int)below(1000000),
		          .fold = (int)below(2) };

	switch (below(5)) {
	case 0: return w;
	case 1:
		w.zone = keys[below(3)];
		w.zone_len = strlen(w.zone);
		return w;
	case 2: w.zone = names[1 + below(2)]; w.zone_len = strlen(w.zone); /* fall through */
	default:
		w.has_offset = true;
		w.utc_offset_us = below(2)
		                          ? (int64_t)below(2879) * 60000000 - INT64_C(86340000000)
		                          : (int64_t)(bits() % UINT64_C(172799999999)) - INT64_C(86399999999);
	}
	return w;
}

static void put_time(sb_builder *b)
{
	sb_datetime w = moment();

	switch (below(4)) {
	case 0: sb_builder_datetime(b, &w); return;
	case 1: sb_builder_date(b, &w); return;
	case 2: sb_builder_time(b, &w); return;
	default:
		sb_builder_timedelta(b, ((int64_t)below(2000000) - 1000000) * 86399, (int32_t)below(1000000));
	}
}

static void put_exact(sb_builder *b)
{
	static const char *const decimals[] = { "0",
		                                "-0",
		                                "0E+7",
		                                "1.50",
		                                "-1E+400",
		                                "NaN",
		                                "-NaN123",
		                                "sNaN",
		                                "Infinity",
		                                "-Infinity",
		                                "12345678901234567890123456789012345678901234567890.5" };
	uint8_t uuid[16];

	switch (below(3)) {
	case 0: sb_builder_decimal(b, decimals[below(sizeof(decimals) / sizeof(decimals[0]))]); return;
	case 1:
		for (size_t i = 0; i < sizeof(uuid); i++)
			uuid[i] = (uint8_t)bits();
		sb_builder_uuid(b, uuid);
		return;
	default: /* in its lowest terms, as Python has it */
		sb_builder_begin(b, SB_KIND_FRACTION);
		sb_builder_int(b, 2 * (int64_t)below(1000) - 999);
		sb_builder_int(b, INT64_C(1) << below(40));
		sb_builder_end(b);
	}
}

static void put_scalar(sb_builder *b)
{
	uint8_t bytes[40];
	size_t len = below(sizeof(bytes));

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)bits();
	switch (below(12)) {
	case 0: sb_builder_none(b); return;
	case 1: sb_builder_bool(b, below(2)); return;
	case 2: sb_builder_float(b, number()); return;
	case 3: sb_builder_complex(b, number(), number()); return;
	case 4: sb_builder_bytes(b, bytes, len); return;
	case 5: sb_builder_bytearray(b, bytes, len); return;
	case 6: put_time(b); return;
	case 7: put_exact(b); return;
	case 8: sb_builder_ellipsis(b); return;
	case 9: put_str(b); return;
	default: put_int(b);
	}
}

/* Keys that differ, and items of sets: the i-th of its container. */
static void put_key(sb_builder *b, unsigned i)
{
	char text[16];

	switch (below(3)) {
	case 0: sb_builder_int(b, i); return;
	case 1:
		snprintf(text, sizeof(text), "k%u", i);
		sb_builder_str(b, text);
		return;
	default:
		sb_builder_begin(b, below(2) ? SB_KIND_TUPLE : SB_KIND_FROZENSET);
		sb_builder_int(b, i);
		sb_builder_end(b);
	}
}

static void put(sb_builder *b, unsigned depth)
{
	static const sb_kind kinds[] = { SB_KIND_LIST,      SB_KIND_TUPLE, SB_KIND_DICT, SB_KIND_SET,
		                         SB_KIND_FROZENSET, SB_KIND_SLICE, SB_KIND_RANGE };
	sb_kind kind = kinds[below(sizeof(kinds) / sizeof(kinds[0]))];
	unsigned n = kind == SB_KIND_SLICE || kind == SB_KIND_RANGE ? 3 : below(5);

	if (depth == 0 || below(4) == 0) {
		put_scalar(b);
		return;
	}
	sb_builder_begin(b, kind);
	for (unsigned i = 0; i < n; i++) {
		if (kind == SB_KIND_RANGE)
			sb_builder_int(b, i == 2 ? 1 + (int64_t)below(9)
			                         : (int64_t)(bits() - (UINT64_C(1) << 62)));
		else if (kind == SB_KIND_SET || kind == SB_KIND_FROZENSET)
			put_key(b, i);
		else if (kind == SB_KIND_DICT)
			put_key(b, i);
		if (kind != SB_KIND_RANGE && kind != SB_KIND_SET && kind != SB_KIND_FROZENSET)
			put(b, depth - 1);
	}
	has_set = has_set || kind == SB_KIND_SET || (kind == SB_KIND_FROZENSET && n > 1);
	sb_builder_end(b);
}

static sb_value *random_value(void)
{
	sb_builder *b = sb_builder_new();
	sb_value *v = NULL;

	has_set = false;
	put(b, 5);
	if (sb_builder_finish(b, &v))
		fail_msg("SB_TEST_SEED: %s", sb_last_error()->message);
	return v;
}

/* ── compared, by the accessors ── */

static bool same(const sb_value *a, const sb_value *b);

static bool same_items(const sb_value *a, const sb_value *b)
{
	if (sb_value_len(a) != sb_value_len(b))
		return false;
	for (size_t i = 0; sb_value_at(a, i) || sb_value_at(b, i); i++)
		if (!same(sb_value_at(a, i), sb_value_at(b, i)))
			return false;
	for (size_t i = 0; sb_value_key_at(a, i) || sb_value_key_at(b, i); i++)
		if (!same(sb_value_key_at(a, i), sb_value_key_at(b, i)))
			return false;
	return true;
}

static bool same_set(const sb_value *a, const sb_value *b)
{
	if (sb_value_len(a) != sb_value_len(b))
		return false;
	sb_value_foreach(x, a)
	{
		bool found = false;

		sb_value_foreach(y, b) found = found || same(x, y);
		if (!found)
			return false;
	}
	return true;
}

static bool same_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return a && b && a_len == b_len && memcmp(a, b, a_len) == 0;
}

static bool same_number(const sb_value *a, const sb_value *b)
{
	double x[2] = { 0 }, y[2] = { 0 };

	if (sb_value_kind(a) == SB_KIND_COMPLEX)
		return sb_value_complex(a, &x[0], &x[1]) == 0 && sb_value_complex(b, &y[0], &y[1]) == 0 &&
		       memcmp(x, y, sizeof(x)) == 0;
	return sb_value_float(a, x) == 0 && sb_value_float(b, y) == 0 && memcmp(x, y, sizeof(x)) == 0;
}

static bool same_when(const sb_value *a, const sb_value *b)
{
	sb_datetime x, y;
	int64_t s[2];
	int32_t us[2];

	if (sb_value_kind(a) == SB_KIND_TIMEDELTA)
		return sb_value_timedelta(a, &s[0], &us[0]) == 0 &&
		       sb_value_timedelta(b, &s[1], &us[1]) == 0 && s[0] == s[1] && us[0] == us[1];
	return sb_value_datetime(a, &x) == 0 && sb_value_datetime(b, &y) == 0 && x.year == y.year &&
	       x.month == y.month && x.day == y.day && x.hour == y.hour && x.minute == y.minute &&
	       x.second == y.second && x.microsecond == y.microsecond && x.fold == y.fold &&
	       x.has_offset == y.has_offset && x.utc_offset_us == y.utc_offset_us && !x.zone == !y.zone &&
	       (!x.zone || same_bytes(x.zone, x.zone_len, y.zone, y.zone_len));
}

static bool same_int(const sb_value *a, const sb_value *b)
{
	int64_t x = 0, y = 1;

	return sb_value_int(a, &x) == 0 && sb_value_int(b, &y) == 0 && x == y;
}

static bool same_text(const sb_value *a, const sb_value *b)
{
	size_t n, m;
	const char *x = sb_value_str(a, &n), *y = sb_value_str(b, &m);

	return same_bytes(x, n, y, m) && sb_value_has_surrogates(a) == sb_value_has_surrogates(b);
}

static bool same_big(const sb_value *a, const sb_value *b)
{
	bool x_negative, y_negative;
	size_t n, m;
	const void *x = sb_value_bigint(a, &x_negative, &n), *y = sb_value_bigint(b, &y_negative, &m);

	return same_bytes(x, n, y, m) && x_negative == y_negative;
}

static bool same(const sb_value *a, const sb_value *b)
{
	bool x = false, y = true;
	size_t n, m;

	if (!a || !b || sb_value_kind(a) != sb_value_kind(b))
		return false;
	switch (sb_value_kind(a)) {
	case SB_KIND_BOOL: return sb_value_bool(a, &x) == 0 && sb_value_bool(b, &y) == 0 && x == y;
	case SB_KIND_INT: return same_int(a, b);
	case SB_KIND_BIGINT: return same_big(a, b);
	case SB_KIND_FLOAT:
	case SB_KIND_COMPLEX: return same_number(a, b);
	case SB_KIND_STR: return same_text(a, b);
	case SB_KIND_BYTES:
	case SB_KIND_BYTEARRAY: {
		const void *p = sb_value_bytes(a, &n), *q = sb_value_bytes(b, &m);

		return same_bytes(p, n, q, m);
	}
	case SB_KIND_DATETIME:
	case SB_KIND_DATE:
	case SB_KIND_TIME:
	case SB_KIND_TIMEDELTA: return same_when(a, b);
	case SB_KIND_DECIMAL: return strcmp(sb_value_decimal(a), sb_value_decimal(b)) == 0;
	case SB_KIND_UUID: return memcmp(sb_value_uuid(a), sb_value_uuid(b), 16) == 0;
	case SB_KIND_SET:
	case SB_KIND_FROZENSET: return same_set(a, b);
	default: return same_items(a, b); /* containers; None and Ellipsis have none */
	}
}

static unsigned first_seed(void)
{
	const char *given = getenv("SB_TEST_SEED");
	unsigned v = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL) * 1000u;

	print_message("SB_TEST_SEED=%u\n", v);
	return v;
}

static void fail_with(const sb_value *value, const sb_value *back, unsigned at)
{
	char *was = NULL, *is = NULL;

	sb_value_to_json(value, &was);
	sb_value_to_json(back, &is);
	print_error("SB_TEST_SEED=%u: %s became %s\n", at, was ? was : "?", is ? is : "?");
	free(was);
	free(is);
	fail();
}

static void test_29_random_values_made_in_c(void **state)
{
	unsigned first = first_seed();

	for (unsigned i = first; i != first + ROUNDS; i++) {
		sb_value *value, *back = NULL, *said = NULL;
		char *text = NULL;

		seed = i;
		value = random_value();
		if (probe_call(*state, "sbvalues:same", sb_args("o", value), &back) < 0)
			fail_msg("SB_TEST_SEED=%u: %s", i, sb_last_error()->message);
		if (!same(value, back))
			fail_with(value, back, i);
		/* As Python says it. */
		assert_int_equal(sb_value_text(value, &text), 0);
		if (!has_set) {
			assert_int_equal(0, probe_call(*state, "sbvalues:said", sb_args("o", value), &said));
			if (strcmp(sb_value_str(said, NULL), text) != 0)
				fail_msg("SB_TEST_SEED=%u: %s should be %s", i, text,
				         sb_value_str(said, NULL));
		}
		free(text);
		sb_value_free(value);
		sb_value_free(back);
		sb_value_free(said);
	}
}

/* JSON, a copy and a repacking leave it as it was, too. */
static void test_29_copies_and_json_of_random_values(void **state)
{
	unsigned first = first_seed();

	(void)state;
	for (unsigned i = first; i != first + ROUNDS; i++) {
		sb_value *value, *copy = NULL, *packed = NULL, *read = NULL;
		char *json = NULL, *again = NULL;

		seed = i;
		value = random_value();
		assert_int_equal(sb_value_copy(value, &copy), 0);
		assert_int_equal(sb_value_pack(&packed, "[o]", value), 0);
		assert_int_equal(sb_value_to_json(value, &json), 0);
		assert_int_equal(sb_value_from_json(json, &read), 0);
		assert_int_equal(sb_value_to_json(read, &again), 0);
		if (!same(value, copy) || !same(value, sb_value_at(packed, 0)) || strcmp(json, again) != 0)
			fail_with(value, read, i);
		sb_value_free(value);
		sb_value_free(copy);
		sb_value_free(packed);
		sb_value_free(read);
		free(json);
		free(again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_29_random_values_made_in_c, setup, teardown),
		cmocka_unit_test(test_29_copies_and_json_of_random_values),
	};

	return cmocka_run_group_tests_name("engine_random", tests, probe_start, NULL);
}
