/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer: lent memory, heap, limit, and errors that stick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "snakebridge/error.h"
#include "utf8.h"

static void test_stays_in_lent_memory(void **state)
{
	struct sb__buf buf;
	uint8_t memory[8];

	(void)state;
	sb__buf_init(&buf, memory, sizeof(memory));
	sb__buf_append(&buf, "12345678", 8);
	assert_ptr_equal(buf.data, memory);
	assert_false(buf.heap);
	assert_memory_equal(memory, "12345678", 8);
	sb__buf_free(&buf);
	assert_int_equal(buf.len, 0);
}

static void test_moves_to_the_heap(void **state)
{
	struct sb__buf buf;
	uint8_t memory[8];

	(void)state;
	sb__buf_init(&buf, memory, sizeof(memory));
	sb__buf_append(&buf, "12345", 5);
	for (int i = 0; i < 1000; i++)
		sb__buf_append(&buf, "abcdefg", 7);
	assert_int_equal(buf.error, 0);
	assert_true(buf.heap);
	assert_int_equal(buf.len, 5 + 7000);
	assert_memory_equal(buf.data, "12345abcdefgabc", 15);
	assert_memory_equal(buf.data + buf.len - 7, "abcdefg", 7);
	sb__buf_free(&buf);
	assert_null(buf.data);
}

static void test_limit_sticks(void **state)
{
	struct sb__buf buf;

	(void)state;
	sb__buf_init(&buf, NULL, 0);
	buf.limit = 10;
	sb__buf_append(&buf, "1234567890", 10);
	assert_int_equal(buf.error, 0);
	sb__buf_append(&buf, "", 0);
	assert_int_equal(buf.error, 0);
	sb__buf_append(&buf, "x", 1);
	assert_int_equal(buf.error, SB_ETOOBIG);
	sb__buf_truncate(&buf, 0);
	sb__buf_append(&buf, "x", 1);
	assert_int_equal(buf.len, 0);
	assert_null(sb__buf_reserve(&buf, 1));
	sb__buf_free(&buf);
	assert_int_equal(buf.error, 0);
}

static void test_absurd_sizes(void **state)
{
	struct sb__buf buf;

	(void)state;
	sb__buf_init(&buf, NULL, 0);
	assert_null(sb__buf_reserve(&buf, SIZE_MAX));
	assert_int_equal(buf.error, SB_ETOOBIG);
	sb__buf_free(&buf);
	assert_non_null(sb__buf_reserve(&buf, 0));
	sb__buf_free(&buf);
}

static void test_truncate_only_shortens(void **state)
{
	struct sb__buf buf;
	uint8_t memory[8];

	(void)state;
	sb__buf_init(&buf, memory, sizeof(memory));
	sb__buf_append(&buf, "abc", 3);
	sb__buf_truncate(&buf, 5);
	assert_int_equal(buf.len, 3);
	sb__buf_truncate(&buf, 1);
	assert_int_equal(buf.len, 1);
	sb__buf_free(&buf);
}

static void test_utf8(void **state)
{
	static const char *const good[] = { "",
		                            "plain text of some length",
		                            "\xc2\x80",
		                            "\xdf\xbf",
		                            "\xe0\xa0\x80",
		                            "\xed\x9f\xbf",
		                            "\xee\x80\x80",
		                            "\xf0\x90\x80\x80",
		                            "\xf4\x8f\xbf\xbf" };
	static const char *const bad[] = { "\x80",
		                           "\xc0\x80",
		                           "\xc1\xbf",
		                           "\xc2",
		                           "\xe0\x9f\xbf",
		                           "\xed\xa0\x80",
		                           "\xed\xbf\xbf",
		                           "\xe2\x82",
		                           "\xf0\x8f\xbf\xbf",
		                           "\xf4\x90\x80\x80",
		                           "\xf5\x80\x80\x80",
		                           "\xff",
		                           "\xe2\x28\xa1" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(sb__utf8_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sb__utf8_prefix(bad[i], strlen(bad[i])), 0);
	assert_int_equal(sb__utf8_prefix("0123456789\xff", 11), 10);
	assert_int_equal(sb__utf8_cut("ab\xe2\x82\xac", 5, 4), 2);
	assert_int_equal(sb__utf8_cut("ab\xe2\x82\xac", 5, 5), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays_in_lent_memory),   cmocka_unit_test(test_moves_to_the_heap),
		cmocka_unit_test(test_limit_sticks),           cmocka_unit_test(test_absurd_sizes),
		cmocka_unit_test(test_truncate_only_shortens), cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests_name("codec_buf", tests, NULL, NULL);
}
