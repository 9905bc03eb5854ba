/* SPDX-License-Identifier: Apache-2.0 */
/* C functions as arguments, questions and answers as bytes; what a peer may write instead. Point 27. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "callback.h"
#include "fail.h"
#include "ids.h"

static int one(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg, (void)args, (void)kwargs, (void)ret;
	return 1;
}

static int two(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg, (void)args, (void)kwargs, (void)ret;
	return 2;
}

static void test_27_as_arguments(void **state)
{
	/* A list whose count was known later, the function's tag and place; None. */
	static const uint8_t positional[] = { 0x9a, 0, 0, 0, 1, 0xd9, 0x53, 0x50, 0x00, 0xf6 };
	sb_args *args = sb_args("[k]k f=k", one, state, NULL, NULL, two, NULL);

	assert_int_equal(args->error, 0);
	assert_int_equal(args->callback_count, 2);
	assert_ptr_equal(args->callbacks[0].fn, one);
	assert_ptr_equal(args->callbacks[0].arg, state);
	assert_ptr_equal(args->callbacks[1].fn, two);
	assert_int_equal(args->positional.len, sizeof(positional));
	assert_memory_equal(args->positional.data, positional, sizeof(positional));
	assert_int_equal(sb_args_add_callback(args, "f", one, NULL), SB_EINVAL); /* given twice */
	sb_args_free(args);
}

static void question_bytes(struct sb__buf *buf, uint64_t call, uint32_t function, const char *args,
                           const char *kwargs)
{
	sb_value *a = NULL, *k = NULL;

	sb__put_question(buf, call, function);
	assert_int_equal(sb_value_from_json(args, &a), 0);
	sb__value_encode(a, buf);
	if (kwargs)
		assert_int_equal(sb_value_from_json(kwargs, &k), 0);
	sb__value_encode(k, buf);
	sb_value_free(a);
	sb_value_free(k);
}

static void test_27_questions(void **state)
{
	struct sb__question q;
	struct sb__buf buf;

	(void)state;
	sb__buf_init(&buf, NULL, 0);
	question_bytes(&buf, UINT64_C(1) << 40, 255, "{\"$tuple\": [1, \"x\"]}", "{\"k\": 2}");
	assert_int_equal(sb__question_decode(buf.data, buf.len, "s", NULL, &q), 0);
	assert_true(q.call == UINT64_C(1) << 40);
	assert_int_equal(q.function, 255);
	assert_int_equal(sb_value_len(q.args), 2);
	assert_non_null(sb_value_lookup(q.kwargs, "k"));
	sb__question_drop(&q);
	for (size_t len = 0; len < buf.len; len++) /* cut anywhere */
		assert_int_equal(sb__question_decode(buf.data, len, "s", NULL, &q), SB_EPROTOCOL);
	sb__buf_truncate(&buf, 0);
	question_bytes(&buf, 0, 0, "{\"$tuple\": []}", NULL);
	assert_int_equal(sb__question_decode(buf.data, buf.len, "s", NULL, &q), 0);
	assert_null(q.kwargs);
	sb__question_drop(&q);
	sb__put_null(&buf); /* one more */
	assert_int_equal(sb__question_decode(buf.data, buf.len, "s", NULL, &q), SB_EPROTOCOL);
	sb__buf_truncate(&buf, 0);
	question_bytes(&buf, 0, SB_CALLBACKS_MAX, "{\"$tuple\": []}", NULL);
	assert_int_equal(sb__question_decode(buf.data, buf.len, "s", NULL, &q), SB_EPROTOCOL);
	sb__buf_truncate(&buf, 0);
	question_bytes(&buf, 0, 0, "[]", NULL); /* no tuple */
	assert_int_equal(sb__question_decode(buf.data, buf.len, "s", NULL, &q), SB_EPROTOCOL);
	sb__buf_free(&buf);
}

static void read_answer(const struct sb__buf *buf, struct sb__answer *ret)
{
	struct sb__cursor cursor = { .data = buf->data, .len = buf->len };

	assert_int_equal(sb__next_answer(&cursor, ret), 0);
}

static void test_27_answers(void **state)
{
	char traceback[3000] = "Traceback\n";
	struct sb__answer a;
	struct sb__buf buf;

	(void)state;
	sb__buf_init(&buf, NULL, 0);
	/* The record's words, if it is of that code. */
	sb__answer_error(&buf, sb__fail(SB_EKIND, "is no int"));
	read_answer(&buf, &a);
	assert_true(a.failed && !a.type && !a.text);
	assert_int_equal(a.message_len, strlen("is no int"));
	sb__answer_error(&buf, SB_ENOSPACE);
	read_answer(&buf, &a);
	assert_int_equal(memcmp(a.message + a.message_len - 13, "(SB_ENOSPACE)", 13), 0);
	sb__answer_error(&buf, 7);
	read_answer(&buf, &a);
	assert_int_equal(memcmp(a.message, "a C function returned neither", 29), 0);
	/* An exception's type and message, and the end of its traceback from a line on. */
	assert_int_equal(sb_callback_raise("KeyError", "no %d", 3), SB_EPYTHON);
	sb__answer_error(&buf, SB_EPYTHON);
	read_answer(&buf, &a);
	assert_int_equal(a.type_len, strlen("builtins.KeyError"));
	assert_int_equal(memcmp(a.message, "no 3", a.message_len), 0);
	for (int i = 0; i < 100; i++)
		strcat(traceback, "  a line of it, longer\n");
	strcat(traceback, "m.Error: last\n");
	sb__fail(SB_EPYTHON, "m.Error: last");
	sb__fail_set_python("m.Error", "last", traceback);
	sb__answer_error(&buf, SB_EPYTHON);
	read_answer(&buf, &a);
	assert_true(a.text_len > 0 && a.text_len <= 480);
	assert_int_equal(memcmp(a.text, "  a line", 8), 0);
	assert_int_equal(memcmp(a.text + a.text_len - 14, "m.Error: last\n", 14), 0);
	assert_int_equal(sb_callback_raise(NULL, "x"), SB_EINVAL);
	sb__buf_free(&buf);
}

/* Any bytes: an error, never more. */
static void test_27_34_garbage(void **state)
{
	uint8_t bytes[64];

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct sb__question q;
		struct sb__answer a;
		struct sb__cursor cursor = { .data = bytes, .len = 1 + (size_t)i % sizeof(bytes) };

		if (i % 100 == 0)
			assert_int_equal(sb__random(bytes, sizeof(bytes)), 0);
		bytes[i % sizeof(bytes)] ^= (uint8_t)i;
		bytes[0] = i % 2 ? 0x84 : 0x82;
		if (sb__question_decode(bytes, cursor.len, "s", NULL, &q) == 0)
			sb__question_drop(&q);
		if (sb__next_answer(&cursor, &a) == 0 && a.failed && a.message)
			assert_in_range((uintptr_t)a.message, (uintptr_t)bytes,
			                (uintptr_t)bytes + cursor.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_27_as_arguments),
		cmocka_unit_test(test_27_questions),
		cmocka_unit_test(test_27_answers),
		cmocka_unit_test(test_27_34_garbage),
	};

	return cmocka_run_group_tests_name("codec_callback", tests, NULL, NULL);
}
