/* SPDX-License-Identifier: Apache-2.0 */
/* The printed form of refs: round trips, one form only, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "snakebridge/error.h"
#include "snakebridge/ref.h"

#define NONCE "000102030405060708090a0b0c0d0eff"

static sb_ref make_ref(const char *session_id)
{
	sb_ref ref = { .incarnation = 7, .slot = 3, .generation = 1 };

	for (uint8_t i = 0; i < 16; i++)
		ref.nonce[i] = i == 15 ? 0xff : i;
	snprintf(ref.session_id, sizeof(ref.session_id), "%s", session_id);
	return ref;
}

static void test_format(void **state)
{
	sb_ref ref = make_ref("demo");
	char text[SB_REF_TEXT_MAX];

	(void)state;
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), 0);
	assert_string_equal(text, "sbref:demo:7:3.1:" NONCE);
	ref = make_ref("a:b c%\"\\$'`;é");
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), 0);
	assert_string_equal(text, "sbref:a%3Ab%20c%25%22%5C%24%27%60%3B%C3%A9:7:3.1:" NONCE);
}

static void test_round_trip(void **state)
{
	static const char *const ids[] = { "x", "session_1_2", "a:b%3Ac", "Grüße 日本", "a/b=c,d@e+f-g.h_i" };
	char text[SB_REF_TEXT_MAX];
	sb_ref ref, back;

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		ref = make_ref(ids[i]);
		assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), 0);
		assert_int_equal(sb_ref_parse(text, &back), 0);
		assert_memory_equal(&back, &ref, sizeof(ref));
	}
}

static void test_extremes_fit(void **state)
{
	char id[SB_SESSION_ID_MAX + 1], text[SB_REF_TEXT_MAX];
	sb_ref ref, back;

	(void)state;
	memset(id, '"', SB_SESSION_ID_MAX);
	id[SB_SESSION_ID_MAX] = '\0';
	ref = make_ref(id);
	ref.incarnation = INT64_MAX;
	ref.slot = ref.generation = UINT32_MAX;
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), 0);
	assert_int_equal(sb_ref_parse(text, &back), 0);
	assert_memory_equal(&back, &ref, sizeof(ref));
	ref.incarnation = UINT64_MAX; /* none such, but it must fit */
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), 0);
	assert_int_equal(sb_ref_format(&ref, text, strlen(text)), SB_EINVAL);
	assert_int_equal(sb_ref_format(&ref, text, strlen(text) + 1), 0);
}

static void test_format_refuses(void **state)
{
	sb_ref ref = make_ref("");
	char text[SB_REF_TEXT_MAX];

	(void)state;
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), SB_EINVAL);
	memset(ref.session_id, 'x', sizeof(ref.session_id));
	assert_int_equal(sb_ref_format(&ref, text, sizeof(text)), SB_EINVAL);
	assert_int_equal(sb_ref_format(NULL, text, sizeof(text)), SB_EINVAL);
	assert_int_equal(sb_ref_format(&ref, NULL, sizeof(text)), SB_EINVAL);
}

static void test_parse_refuses(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "does not begin with" },
		{ "ref:demo:7:3.1:" NONCE, "does not begin with" },
		{ "sbref:", "session id is not well-formed" },
		{ "sbref::7:3.1:" NONCE, "session id is not well-formed" },
		{ "sbref:de%2:7:3.1:" NONCE, "session id is not well-formed" },
		{ "sbref:de%00mo:7:3.1:" NONCE, "session id is not well-formed" },
		{ "sbref:demo", "session id is not well-formed" },
		{ "sbref:de%ffmo:7:3.1:" NONCE, "not a valid one" },
		{ "sbref:de%0Amo:7:3.1:" NONCE, "not a valid one" },
		{ "sbref:demo:", "incarnation is not a number" },
		{ "sbref:demo:-7:3.1:" NONCE, "incarnation is not a number" },
		{ "sbref:demo:9223372036854775808:3.1:" NONCE, "incarnation is not a number" },
		{ "sbref:demo:99999999999999999999999:3.1:" NONCE, "incarnation is not a number" },
		{ "sbref:demo:7:3:" NONCE, "slot is not a number" },
		{ "sbref:demo:7:4294967296.1:" NONCE, "slot is not a number" },
		{ "sbref:demo:7:3.x:" NONCE, "generation is not a number" },
		{ "sbref:demo:7:3.1", "generation is not a number" },
		{ "sbref:demo:7:3.1:00", "not 32 hex digits" },
		{ "sbref:demo:7:3.1:" NONCE "0", "something follows" },
		{ "sbref:demo:7:3.1:" NONCE " ", "something follows" },
		{ "sbref:demo:07:3.1:" NONCE, "not written as it was printed" },
		{ "sbref:%64emo:7:3.1:" NONCE, "not written as it was printed" },
		{ "sbref:de mo:7:3.1:" NONCE, "not written as it was printed" },
		{ "sbref:demo:7:3.1:000102030405060708090A0B0C0D0EFF", "not written as it was printed" },
		{ " sbref:demo:7:3.1:" NONCE, "does not begin with" },
	};
	sb_ref ref = make_ref("untouched"), before = ref;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(sb_ref_parse(bad[i].text, &ref), SB_EREFMALFORMED);
		if (!strstr(sb_last_error()->message, bad[i].why))
			fail_msg("\"%s\": \"%s\"", bad[i].text, sb_last_error()->message);
		assert_memory_equal(&ref, &before, sizeof(ref));
		/* The nonce is a secret: it never gets into a message. */
		assert_null(strstr(sb_last_error()->message, "0c0d0e"));
	}
	assert_int_equal(sb_ref_parse(NULL, &ref), SB_EINVAL);
	assert_int_equal(sb_ref_parse("sbref:demo:7:3.1:" NONCE, NULL), SB_EINVAL);
}

static void test_over_long_id(void **state)
{
	char text[1200] = "sbref:";
	sb_ref ref;

	(void)state;
	memset(text + 6, 'x', SB_SESSION_ID_MAX + 1);
	strcat(text, ":7:3.1:" NONCE);
	assert_int_equal(sb_ref_parse(text, &ref), SB_EREFMALFORMED);
	text[6] = ' ';
	memmove(text + 6, text + 7, strlen(text + 6));
	assert_int_equal(sb_ref_parse(text, &ref), 0);
	assert_int_equal(strlen(ref.session_id), SB_SESSION_ID_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),        cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_extremes_fit),  cmocka_unit_test(test_format_refuses),
		cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_over_long_id),
	};

	return cmocka_run_group_tests_name("codec_ref", tests, NULL, NULL);
}
