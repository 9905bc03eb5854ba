/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays in messages: what is written comes back, and what makes no sense is refused before anything is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "array.h"
#include "snakebridge/snakebridge.h"
#include "value_impl.h"

/* A description with one thing to be varied. */
struct claim {
	int64_t made_as;
	const char *dtype;
	int ndim;
	uint64_t shape[3];
	bool strided;
	int64_t strides[3];
	uint64_t flags;
	int64_t data; /* bytes in the message; -1: a block of len */
	int64_t len, first;
};

static void put(struct sb__buf *buf, const struct claim *c)
{
	static const uint8_t bytes[4096];

	sb__put_array(buf, 6);
	sb__put_int(buf, c->made_as);
	sb__put_str(buf, c->dtype, strlen(c->dtype));
	sb__put_array(buf, (uint64_t)c->ndim);
	for (int d = 0; d < c->ndim; d++)
		sb__put_uint(buf, c->shape[d]);
	if (c->strided) {
		sb__put_array(buf, (uint64_t)c->ndim);
		for (int d = 0; d < c->ndim; d++)
			sb__put_int(buf, c->strides[d]);
	} else {
		sb__put_null(buf);
	}
	sb__put_uint(buf, c->flags);
	if (c->data >= 0) {
		sb__put_bytes(buf, bytes, (size_t)c->data);
		return;
	}
	sb__put_tag(buf, SB__TAG_BLOCK);
	sb__put_array(buf, 5);
	sb__put_uint(buf, 3);
	sb__put_uint(buf, 1);
	sb__put_uint(buf, 64);
	sb__put_int(buf, c->len);
	sb__put_int(buf, c->first);
}

static int read_back(const struct claim *c, struct sb__array_item *item)
{
	uint8_t memory[8192];
	struct sb__cursor cursor;
	struct sb__buf buf;

	sb__buf_init(&buf, memory, sizeof(memory));
	put(&buf, c);
	assert_int_equal(buf.error, 0);
	cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
	return sb__next_array(&cursor, item);
}

static void test_34_hostile_descriptions_are_refused(void **state)
{
	static const struct claim good = { 0, "<f8", 2, { 3, 4 }, false, { 0 }, 0, -1, 128, 0 };
	struct sb__array_item item;
	struct claim bad[] = {
		{ .made_as = 0x1000 },
		{ .made_as = -1 },
		{ .dtype = "O" },
		{ .dtype = "<f3" },
		{ .dtype = "<f" },
		{ .dtype = "" },
		{ .dtype = "<f8,<i4" },
		{ .dtype = "U0" },
		{ .dtype = "S-1" },
		{ .dtype = "M8[parsec]" },
		{ .dtype = "V999999999999" },
		{ .shape = { 5, 5 } },
		{ .shape = { UINT64_C(1) << 62, 4 } },
		{ .shape = { UINT64_C(1) << 32, UINT64_C(1) << 32 } },
		{ .flags = 2 },
		{ .flags = 255 },
		{ .len = 95 },
		{ .len = 0 },
		{ .len = -1 },
		{ .first = 33 },
		{ .first = 129 },
		{ .first = -8 },
		{ .strides = { 64, 8 } },
		{ .strides = { 32, -8 } },
		{ .strides = { -32, 8 } },
		{ .strides = { INT64_MAX, 8 } },
		{ .strides = { INT64_MIN, INT64_MIN } },
		{ .strides = { INT64_MAX, INT64_MAX } },
		{ .data = 95 },
		{ .data = 0 },
	};

	(void)state;
	assert_int_equal(read_back(&good, &item), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct claim c = good;
		bool in_message = bad[i].data > 0 || i + 1 == sizeof(bad) / sizeof(bad[0]);

		c.made_as = bad[i].made_as;
		c.dtype = bad[i].dtype ? bad[i].dtype : c.dtype;
		if (bad[i].shape[0])
			memcpy(c.shape, bad[i].shape, sizeof(c.shape));
		c.strided = bad[i].strides[0] != 0;
		memcpy(c.strides, bad[i].strides, sizeof(c.strides));
		c.flags = bad[i].flags;
		c.first = bad[i].first;
		if (bad[i].len || i == 17)
			c.len = bad[i].len;
		if (in_message)
			c.data = bad[i].data;
		if (read_back(&c, &item) != SB_EPROTOCOL)
			fail_msg("claim %zu was believed", i);
	}
}

/* A few bytes in the message that strides of 0 repeat would cost the reader gigabytes. */
static void test_34_bytes_in_the_message_are_all_there(void **state)
{
	static const struct claim repeated = { 0, "<f8", 1, { UINT64_C(1) << 36 }, true, { 0 }, 0, 8, 0, 0 };
	struct sb__array_item item;

	(void)state;
	assert_int_equal(read_back(&repeated, &item), SB_EPROTOCOL);
}

static void test_29_what_strides_reach_is_inside(void **state)
{
	static const struct claim good[] = {
		{ 0, "<f8", 2, { 3, 4 }, true, { 8, 24 }, 0, -1, 96, 0 },            /* Fortran's order */
		{ 0, "<f8", 2, { 3, 4 }, true, { -32, -8 }, 1, -1, 128, 88 },        /* backwards */
		{ 0, "<f8", 1, { 1000000 }, true, { 0 }, 0, -1, 8, 0 },              /* one number, often */
		{ 0, "<f8", 3, { 5, 0, 7 }, true, { 1 << 20, -9, 3 }, 0, -1, 1, 0 }, /* nothing */
		{ 0, "|u1", 0, { 0 }, false, { 0 }, 0, 1, 0, 0 },
		{ 0x264, "<f8", 1, { 5 }, false, { 0 }, 0, 40, 0, 0 },
	};
	struct sb__array_item item;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(read_back(&good[i], &item), 0);
}

static void test_dtype_names(void **state)
{
	static const char *const rows[][2] = {
		{ "float64", "<f8" },    { "f8", "<f8" },
		{ "<f8", "<f8" },        { "=f8", "<f8" },
		{ ">f8", ">f8" },        { "bool", "|b1" },
		{ "int8", "|i1" },       { "<i1", "|i1" },
		{ "S7", "|S7" },         { "U5", "<U5" },
		{ ">U5", ">U5" },        { "M8", "<M8" },
		{ "M8[ns]", "<M8[ns]" }, { "m8[25us]", "<m8[25us]" },
		{ "V16", "|V16" },       { "c16", "<c16" },
		{ "f16", "<f16" },
	};
	char dtype[SB_DTYPE_MAX + 1];
	size_t itemsize;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(sb__dtype_parse(rows[i][0], strlen(rows[i][0]), dtype, &itemsize), 0);
		assert_string_equal(dtype, rows[i][1]);
	}
	assert_int_equal(sb__dtype_parse("U5", 2, dtype, &itemsize), 0);
	assert_int_equal(itemsize, 20);
}

static void test_gathering_elements_of_any_strides(void **state)
{
	static const int numbers[24] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
		                         12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 };
	const size_t shape[3] = { 2, 3, 4 };
	int64_t strides[3], back[3] = { -48, -16, -4 };
	size_t nbytes;
	int to[24];

	(void)state;
	assert_true(sb__array_pack_strides(3, shape, 4, false, strides, &nbytes));
	assert_int_equal(nbytes, 96);
	sb__array_gather(3, shape, strides, 4, false, numbers, to);
	assert_memory_equal(to, numbers, 96);
	sb__array_gather(3, shape, strides, 4, true, numbers, to);
	assert_int_equal(to[1], 12);
	assert_int_equal(to[2], 4);
	sb__array_gather(3, shape, back, 4, false, numbers + 23, to);
	for (int i = 0; i < 24; i++)
		assert_int_equal(to[i], 23 - i);
}

static void test_29_values_hold_arrays(void **state)
{
	static const double numbers[6] = { 1, 2, 3, 4, 5, 6.5 };
	const size_t shape[2] = { 2, 3 }, index[2] = { 1, 2 }, outside[2] = { 2, 0 };
	sb_array *a = NULL;
	sb_value *v = NULL, *w = NULL;
	double x = 0;
	int64_t n;

	(void)state;
	assert_int_equal(sb_array_from(NULL, "f8", 2, shape, numbers, &a),
	                 0); /* small: no bridge is needed */
	assert_int_equal(sb_value_pack(&v, "[a{sa}n]", a, "x", a), 0);
	assert_int_equal(sb_value_kind(sb_value_at(v, 0)), SB_KIND_ARRAY);
	assert_ptr_equal(sb_value_array(sb_value_at(v, 0)), a); /* the same, not a copy */
	assert_int_equal(sb_value_pack(&w, "o", v), 0);
	sb_value_free(v);
	sb_array_unref(a);
	a = sb_value_array(sb_value_lookup(sb_value_at(w, 1), "x"));
	assert_int_equal(sb_array_get_float(a, index, &x), 0);
	assert_true(x == 6.5);
	assert_int_equal(sb_array_get_float(a, outside, &x), SB_EINVAL);
	assert_int_equal(sb_array_get_int(a, index, &n), SB_EKIND);
	assert_null(sb_array_as(a, "float32", NULL));
	assert_int_equal(sb_last_error()->code, SB_EKIND);
	assert_null(sb_value_array(sb_value_at(w, 2)));
	sb_value_free(w);
	assert_int_equal(sb_array_from(NULL, "object", 2, shape, numbers, &a), SB_EINVAL);
	assert_int_equal(sb_array_from(NULL, "f8", 33, shape, numbers, &a), SB_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_34_hostile_descriptions_are_refused),
		cmocka_unit_test(test_34_bytes_in_the_message_are_all_there),
		cmocka_unit_test(test_29_what_strides_reach_is_inside),
		cmocka_unit_test(test_dtype_names),
		cmocka_unit_test(test_gathering_elements_of_any_strides),
		cmocka_unit_test(test_29_values_hold_arrays),
	};

	return cmocka_run_group_tests_name("codec_array", tests, NULL, NULL);
}
