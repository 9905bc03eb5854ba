/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies: round trips, the error record that a reply fills, and replies that make no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "message.h"
#include "snakebridge/error.h"

#define STR(buf, text) sb__put_str(buf, text, strlen(text))

static struct sb__buf buf;

static int setup(void **state)
{
	(void)state;
	sb__buf_init(&buf, NULL, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sb__buf_free(&buf);
	return 0;
}

static sb_ref make_ref(void)
{
	sb_ref ref = {
		.incarnation = 7, .slot = 3, .generation = 1, .nonce = { 1, 2, 3 }, .session_id = "s"
	};

	return ref;
}

/* ── requests ── */

static void test_request_round_trip(void **state)
{
	sb_ref target = make_ref();
	sb_request request = SB_REQUEST_INIT;
	struct sb__request_head head;
	struct sb__cursor cursor;
	struct sb__item item;

	(void)state;
	request.verb = SB_VERB_METHOD;
	request.flags = SB_CALL_AS_REF;
	request.target = &target;
	request.name = "fit";
	request.args = sb_args("ii k=s", 1, 2, "v");
	sb__request_encode(&buf, &request);
	assert_int_equal(buf.error, 0);
	cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
	assert_int_equal(sb__request_decode(&cursor, &head), 0);
	assert_int_equal(head.verb, SB_VERB_METHOD);
	assert_int_equal(head.flags, SB_CALL_AS_REF);
	assert_true(head.has_target);
	assert_int_equal(head.target.slot, 3);
	assert_memory_equal(head.target.nonce, target.nonce, 16);
	assert_string_equal(head.target.session_id, "");
	assert_int_equal(head.name_len, 3);
	assert_memory_equal(head.name, "fit", 3);
	assert_int_equal(sb__next(&cursor, &item), 0);
	assert_int_equal(item.type, SB__ITEM_ARRAY);
	assert_int_equal(item.u.count, 2);
	assert_int_equal(sb__skip(&cursor), 0);
	assert_int_equal(sb__skip(&cursor), 0);
	assert_int_equal(sb__next(&cursor, &item), 0);
	assert_int_equal(item.type, SB__ITEM_MAP);
	assert_int_equal(item.u.count, 1);
	assert_int_equal(sb__skip(&cursor), 0);
	assert_int_equal(sb__skip(&cursor), 0);
	assert_int_equal(cursor.pos, cursor.len);
	sb_args_free(request.args);
}

static void test_request_without_anything(void **state)
{
	sb_request request = SB_REQUEST_INIT;
	struct sb__request_head head;
	struct sb__cursor cursor;

	(void)state;
	sb__request_encode(&buf, &request);
	assert_int_equal(buf.len, 7);
	assert_memory_equal(buf.data, "\x86\x01\x00\xf6\xf6\x80\xa0", 7);
	cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
	assert_int_equal(sb__request_decode(&cursor, &head), 0);
	assert_false(head.has_target);
	assert_null(head.name);
	assert_int_equal(cursor.pos, 5);
}

static void test_request_with_bad_args(void **state)
{
	sb_request request = SB_REQUEST_INIT;

	(void)state;
	request.args = sb_args("q");
	sb__request_encode(&buf, &request);
	assert_int_equal(buf.error, SB_EINVAL);
	sb_args_free(request.args);
}

static void test_request_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "", 0 },
		{ "\x85\x01\x00\xf6\xf6\x80", 6 },                  /* five items */
		{ "\xa3\x01\x00\xf6\xf6\x80\xa0", 7 },              /* a map */
		{ "\x86\x20\x00\xf6\xf6\x80\xa0", 7 },              /* verb -1 */
		{ "\x86\x01\x61\x61\xf6\xf6\x80\xa0", 8 },          /* flags "a" */
		{ "\x86\x01\x00\x01\xf6\x80\xa0", 7 },              /* target 1 */
		{ "\x86\x01\x00\xd9\x53\x42\x80\xf6\x80\xa0", 10 }, /* target a tuple */
		{ "\x86\x01\x00\xf6\x01\x80\xa0", 7 },              /* name 1 */
		{ "\x86\x01\x00\xf6", 4 },
	};
	struct sb__request_head head;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sb__cursor cursor = { .data = (const uint8_t *)bad[i].bytes, .len = bad[i].len };

		assert_int_equal(sb__request_decode(&cursor, &head), SB_EPROTOCOL);
	}
}

/* ── replies ── */

static void test_reply_value(void **state)
{
	sb_ref ref = make_ref();
	sb_value *v = NULL;

	(void)state;
	sb__put_array(&buf, 2);
	sb__put_uint(&buf, SB__REPLY_VALUE);
	sb__put_ref(&buf, &ref, "module.Type");
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "the session", &v), 0);
	assert_string_equal(sb_value_ref(v)->session_id, "the session");
	assert_string_equal(sb_value_ref(v)->type_name, "module.Type");
	assert_int_equal(sb_value_ref(v)->incarnation, 7);
	sb_value_free(v);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "the session", NULL), 0);
}

static void test_long_type_name_is_cut(void **state)
{
	char name[2 * SB_TYPE_NAME_MAX];
	sb_ref ref = make_ref();
	sb_value *v = NULL;

	(void)state;
	memset(name, 'x', sizeof(name));
	memcpy(name + SB_TYPE_NAME_MAX - 1, "é", 2); /* the cut falls into it */
	name[sizeof(name) - 1] = '\0';
	sb__put_array(&buf, 2);
	sb__put_uint(&buf, SB__REPLY_VALUE);
	sb__put_ref(&buf, &ref, name);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", &v), 0);
	assert_int_equal(strlen(sb_value_ref(v)->type_name), SB_TYPE_NAME_MAX - 1);
	sb_value_free(v);
}

static void test_reply_refused(void **state)
{
	sb_value *v = (sb_value *)1;
	const sb_error *e;

	(void)state;
	STR(&buf, "half a reply");
	buf.error = SB_ENOMEM;
	sb__reply_refuse(&buf, SB_EREFRELEASED, "the ref was released; make the object again");
	assert_int_equal(buf.error, 0);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s1", &v), SB_EREFRELEASED);
	e = sb_last_error();
	assert_int_equal(e->outcome, SB_OUTCOME_REFUSED);
	assert_string_equal(e->message, "the ref was released; make the object again");
	assert_string_equal(e->session_id, "s1");
	assert_string_equal(e->python_type, "");
	assert_ptr_equal(v, (sb_value *)1);

	sb__reply_refuse(&buf, SB_EREFEVICTED, NULL);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s1", &v), SB_EREFEVICTED);
	assert_non_null(strstr(sb_last_error()->message, "evicted"));
	sb__reply_refuse(&buf, SB_EREFEVICTED, "good \xff bad");
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s1", &v), SB_EREFEVICTED);
	assert_string_equal(sb_last_error()->message, "good ");
}

static void test_reply_failed(void **state)
{
	(void)state;
	sb__reply_fail(&buf, SB_EREFSFULL, "it ran, but its result is lost");
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s1", NULL), SB_EREFSFULL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	assert_string_equal(sb_last_error()->message, "it ran, but its result is lost");
	assert_string_equal(sb_last_error()->python_type, "");
}

static void put_exception(const char *type, const char *message, unsigned frames)
{
	sb__put_map(&buf, 4); /* cause to be put by the caller */
	sb__put_uint(&buf, SB__EXC_TYPE);
	STR(&buf, type);
	sb__put_uint(&buf, SB__EXC_MESSAGE);
	STR(&buf, message);
	sb__put_uint(&buf, SB__EXC_FRAMES);
	sb__put_array(&buf, frames);
	for (unsigned i = 0; i < frames; i++) {
		sb__put_array(&buf, 3);
		STR(&buf, "file.py");
		sb__put_uint(&buf, 10 + i);
		STR(&buf, "function");
	}
	sb__put_uint(&buf, SB__EXC_CAUSE);
}

static void begin_exception(void)
{
	sb__buf_truncate(&buf, 0);
	sb__put_array(&buf, 2);
	sb__put_uint(&buf, SB__REPLY_EXCEPTION);
}

static void test_reply_exception(void **state)
{
	const sb_error *e;

	(void)state;
	begin_exception();
	put_exception("builtins.ValueError", "bad thing", 2);
	put_exception("module.Inner", "", 1);
	sb__put_null(&buf);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s1", NULL), SB_EPYTHON);
	e = sb_last_error();
	assert_int_equal(e->code, SB_EPYTHON);
	assert_int_equal(e->outcome, SB_OUTCOME_EXCEPTION);
	assert_string_equal(e->message, "builtins.ValueError: bad thing");
	assert_string_equal(e->python_type, "builtins.ValueError");
	assert_string_equal(e->python_message, "bad thing");
	assert_string_equal(e->session_id, "s1");
	assert_string_equal(e->python_traceback,
	                    "Traceback (most recent call last):\n"
	                    "  File \"file.py\", line 10, in function\n"
	                    "module.Inner\n"
	                    "\n"
	                    "The above exception was the direct cause of the following exception:\n"
	                    "\n"
	                    "Traceback (most recent call last):\n"
	                    "  File \"file.py\", line 10, in function\n"
	                    "  File \"file.py\", line 11, in function\n"
	                    "ValueError: bad thing\n");
}

static void test_exception_code_and_later_keys(void **state)
{
	(void)state;
	begin_exception();
	sb__put_map(&buf, 3);
	sb__put_uint(&buf, 99); /* of a later version */
	sb__put_array(&buf, 1);
	sb__put_null(&buf);
	sb__put_uint(&buf, SB__EXC_CODE);
	sb__put_int(&buf, SB_EATTRIBUTE);
	sb__put_uint(&buf, SB__EXC_TYPE);
	STR(&buf, "builtins.AttributeError");
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", NULL), SB_EATTRIBUTE);
	assert_string_equal(sb_last_error()->message,
	                    "builtins.AttributeError; check the name; dir() lists what there is");
	assert_string_equal(sb_last_error()->python_traceback, "AttributeError\n");
}

static void test_exception_is_bounded(void **state)
{
	const char *traceback;

	(void)state;
	begin_exception();
	for (int i = 0; i < 1000; i++)
		put_exception("builtins.RuntimeError", "deep", 3);
	sb__put_null(&buf);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", NULL), SB_EPYTHON);

	begin_exception();
	put_exception("builtins.RecursionError", "the end is kept", 5000);
	sb__put_null(&buf);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", NULL), SB_EPYTHON);
	traceback = sb_last_error()->python_traceback;
	assert_true(strlen(traceback) < 16 * 1024);
	assert_true(strlen(traceback) > 15 * 1024);
	assert_memory_equal(traceback, "[earlier lines left out]\n  File \"", 33);
	assert_non_null(strstr(traceback, "line 5009, in function\nRecursionError: the end is kept\n"));
}

static void test_exception_with_a_huge_message(void **state)
{
	static char huge[100000];

	(void)state;
	memset(huge, 'm', sizeof(huge) - 1);
	begin_exception();
	put_exception("builtins.ValueError", huge, 1);
	sb__put_null(&buf);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", NULL), SB_EPYTHON);
	assert_memory_equal(sb_last_error()->message, "builtins.ValueError: mmm", 24);
	assert_memory_equal(sb_last_error()->python_traceback, "Traceback", 9);
	assert_non_null(strstr(sb_last_error()->python_traceback, "mmm\n"));

	memcpy(huge, "a\0b", 4);
	begin_exception();
	sb__put_map(&buf, 1);
	sb__put_uint(&buf, SB__EXC_MESSAGE);
	sb__put_str(&buf, huge, 3);
	assert_int_equal(sb__reply_decode(buf.data, buf.len, "s", NULL), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_message, "a\\x00b");
}

static void test_senseless_replies(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "", 0 },
		{ "\x00", 1 },
		{ "\x82", 1 },
		{ "\x82\x04\xf6", 3 },             /* no such kind */
		{ "\x83\x00\xf6\xf6", 4 },         /* a value and something else */
		{ "\x82\x00\xf6\xf6", 4 },         /* bytes follow */
		{ "\x82\x00\xc1\x00", 4 },         /* an unknown tag */
		{ "\x82\x02\x38\x1f", 4 },         /* a refusal without message */
		{ "\x83\x02\x18\x20\x60", 5 },     /* a refusal with code 32 */
		{ "\x83\x02\x39\x03\xe7\x60", 6 }, /* a refusal with code -1000 */
		{ "\x83\x02\x3b\xff\xff\xff\xff\xff\xff\xff\xff\x60", 12 },
		{ "\x83\x02\x38\x1f\x01", 5 },     /* a refusal with message 1 */
		{ "\x82\x01\xf6", 3 },             /* an exception that is no map */
		{ "\x82\x01\xa1\x00\x01", 5 },     /* its type is 1 */
		{ "\x82\x01\xa1\x02\x01", 5 },     /* its frames are 1 */
		{ "\x82\x01\xa1\x02\x81\x80", 6 }, /* a frame of nothing */
		{ "\x82\x01\xa1\x03\x01", 5 },     /* its cause is 1 */
		{ "\x82\x01\xa1\x04\x38\x1f", 6 }, /* its code is SB_EREFRELEASED */
		{ "\x82\x01\xa1\x60\x01", 5 },     /* a key "" */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sb_value *v = (sb_value *)1;
		uint8_t *copy = malloc(bad[i].len + 1);
		int err;

		memcpy(copy, bad[i].bytes, bad[i].len);
		err = sb__reply_decode(copy, bad[i].len, "s1", &v);
		if (err != SB_EPROTOCOL)
			fail_msg("reply %zu: %s", i, sb_error_name(err));
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
		assert_string_equal(sb_last_error()->session_id, "s1");
		assert_ptr_equal(v, (sb_value *)1);
		free(copy);
	}
}

/* Whatever a byte of an exception is changed to, decoding ends, in bounds (ASan watches). */
static void test_every_changed_byte_is_survived(void **state)
{
	(void)state;
	begin_exception();
	put_exception("builtins.ValueError", "m", 2);
	put_exception("a.B", "n", 1);
	sb__put_null(&buf);
	for (size_t i = 0; i < buf.len; i++)
		for (unsigned byte = 0; byte < 256; byte++) {
			uint8_t was = buf.data[i];
			sb_value *v = NULL;
			int err;

			buf.data[i] = (uint8_t)byte;
			err = sb__reply_decode(buf.data, buf.len, "s", &v);
			assert_true(err < 0 || i <= 1); /* [1, …] may become [0, …]: a value */
			sb_value_free(v);
			buf.data[i] = was;
		}
}

/* An item's reply in a batch's, with so many arrays in it and so many beside it. */
static int item_reply(unsigned inside, unsigned beside, bool odd, sb_value **ret_value)
{
	struct sb__array_item array = { .dtype = "<u2",
		                        .itemsize = 2,
		                        .ndim = 1,
		                        .shape = { 2 },
		                        .strides = { 2 },
		                        .nbytes = 4,
		                        .data = (const uint8_t *)"abcd" };
	struct sb__buf part, whole;
	struct sb__cursor cursor;
	sb_value *reply = NULL;
	int err;

	sb__buf_init(&part, NULL, 0);
	sb__buf_init(&whole, NULL, 0);
	sb__put_array(&part, 2);
	sb__put_uint(&part, SB__REPLY_VALUE);
	sb__put_array(&part, inside);
	for (unsigned i = 0; i < inside; i++)
		sb__put_array_item(&part, &array);
	sb__put_array(&whole, 1 + beside + odd);
	sb__put_bytes(&whole, part.data, part.len);
	for (unsigned i = 0; i < beside; i++)
		sb__put_array_item(&whole, &array);
	if (odd)
		sb__put_null(&whole);
	cursor = (struct sb__cursor){ .data = whole.data, .len = whole.len };
	assert_int_equal(sb__value_decode(&cursor, "s", &reply), 0);
	err = sb__item_reply_decode(reply, "s", ret_value);
	if (!err && inside > 0) /* not another one of the same content */
		assert_ptr_equal(sb_value_array(sb_value_at(*ret_value, inside - 1)),
		                 sb_value_array(sb_value_at(reply, inside)));
	sb_value_free(reply);
	sb__buf_free(&part);
	sb__buf_free(&whole);
	return err;
}

static void test_34_arrays_of_items_replies(void **state)
{
	sb_value *value = NULL, *none = NULL;

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		assert_int_equal(item_reply(n, n, false, &value), 0);
		assert_int_equal(sb_value_len(value), n);
		sb_value_free(value); /* it had them by itself */
	}
	assert_int_equal(item_reply(2, 1, false, &value), SB_EPROTOCOL);
	assert_int_equal(item_reply(1, 2, false, &value), SB_EPROTOCOL);
	assert_int_equal(item_reply(1, 1, true, &value), SB_EPROTOCOL);
	assert_int_equal(sb__item_reply_decode(NULL, "s", &value), SB_EPROTOCOL);
	assert_int_equal(sb_value_pack(&none, "[]"), 0);
	assert_int_equal(sb__item_reply_decode(none, "s", &value), SB_EPROTOCOL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	sb_value_free(none);
	/* As the owner writes it: without shared ones as bytes alone. */
	sb__put_array(&buf, 2);
	sb__put_uint(&buf, SB__REPLY_VALUE);
	sb__put_null(&buf);
	{
		struct sb__buf whole;

		sb__buf_init(&whole, NULL, 0);
		sb__put_item_reply(&whole, &buf, false);
		assert_int_equal(whole.len, 1 + buf.len);
		sb__put_item_reply(&whole, &buf, true);
		assert_int_equal(whole.len, 2 * (1 + buf.len) + 5);
		sb__buf_free(&whole);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_round_trip),
		TEST(test_request_without_anything),
		TEST(test_request_with_bad_args),
		TEST(test_request_refused),
		TEST(test_reply_value),
		TEST(test_long_type_name_is_cut),
		TEST(test_reply_refused),
		TEST(test_reply_failed),
		TEST(test_reply_exception),
		TEST(test_exception_code_and_later_keys),
		TEST(test_exception_is_bounded),
		TEST(test_exception_with_a_huge_message),
		TEST(test_senseless_replies),
		TEST(test_every_changed_byte_is_survived),
		TEST(test_34_arrays_of_items_replies),
	};

	return cmocka_run_group_tests_name("codec_message", tests, NULL, NULL);
}
