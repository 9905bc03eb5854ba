/* SPDX-License-Identifier: Apache-2.0 */
/* Session ids, random numbers, clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fail.h"
#include "ids.h"

static void assert_good(const char *id)
{
	assert_int_equal(sb__session_id_check(id), 0);
	assert_true(sb__session_id_valid(id));
}

/* Refused, with the reason in the message; and the message itself is fit to print. */
static void assert_bad(const char *id, const char *reason)
{
	assert_int_equal(sb__session_id_check(id), SB_EID);
	if (!strstr(sb_last_error()->message, reason))
		fail_msg("\"%s\" does not say \"%s\"", sb_last_error()->message, reason);
	for (const char *p = sb_last_error()->message; *p; p++)
		assert_in_range((unsigned char)*p, 0x20, 0x7e);
	if (id)
		assert_false(sb__session_id_valid(id));
}

static void test_length(void **state)
{
	char id[SB_SESSION_ID_MAX + 2];

	(void)state;
	memset(id, 'x', sizeof(id));
	id[SB_SESSION_ID_MAX + 1] = '\0';
	assert_bad(id, "longer than 255");
	id[SB_SESSION_ID_MAX] = '\0';
	assert_good(id);
	assert_good("x");
	assert_bad("", "empty");
	assert_bad(NULL, "missing");
}

static void test_characters(void **state)
{
	(void)state;
	assert_good("a b:c/%\"'\\");
	assert_good("größe 日本 🐍");
	assert_good("a\xc2\xa0z");       /* U+00A0: the first that is no C1 control */
	assert_good("\xef\xbf\xbf");     /* U+FFFF */
	assert_good("\xf4\x8f\xbf\xbf"); /* U+10FFFF */
	assert_bad("a\x01", "control character at byte 1");
	assert_bad("tab\there", "control character at byte 3");
	assert_bad("line\n", "control character at byte 4");
	assert_bad("del\x7f", "control character at byte 3");
	assert_bad("ab\xc2\x80", "control character at byte 2");  /* U+0080 */
	assert_bad("ab\xc2\x9f!", "control character at byte 2"); /* U+009F */
}

static void test_utf8(void **state)
{
	(void)state;
	assert_bad("ab\x80", "UTF-8 at byte 2");
	assert_bad("\xc3", "UTF-8 at byte 0");
	assert_bad("\xc0\xaf", "UTF-8");         /* overlong */
	assert_bad("\xe0\x80\xaf", "UTF-8");     /* overlong */
	assert_bad("\xed\xa0\x80", "UTF-8");     /* a surrogate */
	assert_bad("\xf4\x90\x80\x80", "UTF-8"); /* above U+10FFFF */
	assert_bad("\xff", "UTF-8");
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void test_made_ids_are_unique_and_valid(void **state)
{
	enum { COUNT = 2000 };
	char(*ids)[SB_SESSION_ID_MAX + 1] = calloc(COUNT, sizeof(*ids));
	char pid[32];

	(void)state;
	assert_non_null(ids);
	snprintf(pid, sizeof(pid), "session_%d_", (int)getpid());
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(sb__session_id_make("session_", ids[i]), 0);
		assert_int_equal(strncmp(ids[i], pid, strlen(pid)), 0);
		assert_good(ids[i]);
	}
	qsort(ids, COUNT, sizeof(*ids), by_text);
	for (int i = 1; i < COUNT; i++)
		assert_string_not_equal(ids[i - 1], ids[i]);
	free(ids);
}

static void test_make_refuses_a_bad_prefix(void **state)
{
	char id[SB_SESSION_ID_MAX + 1];
	char prefix[SB_SESSION_ID_MAX + 1];

	(void)state;
	memset(prefix, 'p', sizeof(prefix));
	prefix[SB_SESSION_ID_MAX] = '\0';
	assert_int_equal(sb__session_id_make(prefix, id), SB_EID);
	assert_int_equal(sb__session_id_make("\n", id), SB_EID);
}

static void test_random_never_repeats(void **state)
{
	enum { COUNT = 512 };
	uint64_t small[COUNT];
	uint8_t big[4096];
	unsigned ones = 0;

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(sb__random(&small[i], sizeof(small[i])), 0);
		for (int k = 0; k < i; k++)
			assert_true(small[k] != small[i]);
	}
	assert_int_equal(sb__random(big, sizeof(big)), 0); /* more than the pool */
	for (size_t i = 0; i < sizeof(big); i++)
		ones += (unsigned)__builtin_popcount(big[i]);
	assert_in_range(ones, 15000, 17800); /* of 32768 bits; beyond 15 standard deviations */
	assert_int_equal(sb__random(big, 0), 0);
}

static void test_clocks_agree(void **state)
{
	uint64_t before = sb__now_ns(), ms = sb__now_ms(), coarse = sb__now_coarse_ms();
	uint64_t after = sb__now_ns();

	(void)state;
	assert_true(before <= after);
	assert_in_range(ms, before / 1000000, after / 1000000);
	assert_true(coarse <= after / 1000000);
	assert_true(sb__wall_ms() > INT64_C(1500000000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_made_ids_are_unique_and_valid),
		cmocka_unit_test(test_make_refuses_a_bad_prefix),
		cmocka_unit_test(test_random_never_repeats),
		cmocka_unit_test(test_clocks_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
