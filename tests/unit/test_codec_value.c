/* SPDX-License-Identifier: Apache-2.0 */
/* Values and argument lists: formats, trees, accessors, and what is refused. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ints.h"
#include "snakebridge/error.h"
#include "value_impl.h"

static sb_ref make_ref(const char *session_id, uint64_t incarnation, uint32_t slot)
{
	sb_ref ref = { .incarnation = incarnation, .slot = slot, .generation = 1 };

	memset(ref.nonce, (int)slot, sizeof(ref.nonce));
	strcpy(ref.session_id, session_id);
	strcpy(ref.type_name, "some.Type");
	return ref;
}

static void assert_message(const char *part)
{
	if (!strstr(sb_last_error()->message, part))
		fail_msg("expected \"%s\" in \"%s\"", part, sb_last_error()->message);
}

/* Consumes args: expects that a call would report this. */
static void assert_args_error(sb_args *args, int code, const char *part)
{
	assert_non_null(args);
	assert_int_equal(sb__args_error(args), code);
	assert_message(part);
	sb_args_free(args);
}

static void assert_hex(const struct sb__buf *buf, const char *hex)
{
	char text[512] = "";

	for (size_t i = 0; i < buf->len && i < 250; i++)
		sprintf(text + 2 * i, "%02x", buf->data[i]);
	assert_string_equal(text, hex);
}

/* ── values ── */

static void test_scalars(void **state)
{
	sb_value *v;
	bool b = false;
	int64_t i = 0;
	double d = 0;
	size_t len = 0;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "n"), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_NONE);
	sb_value_free(v);
	assert_int_equal(sb_value_kind(NULL), SB_KIND_NONE);

	assert_int_equal(sb_value_pack(&v, "b", 7), 0);
	assert_int_equal(sb_value_bool(v, &b), 0);
	assert_true(b);
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, " l ", INT64_MIN), 0);
	assert_int_equal(sb_value_int(v, &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(sb_value_float(v, &d), 0);
	assert_true(d == (double)INT64_MIN);
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, "d", -0.0), 0);
	assert_int_equal(sb_value_float(v, &d), 0);
	assert_true(d == 0 && signbit(d));
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, "u", "a\0b", (size_t)3), 0);
	assert_memory_equal(sb_value_str(v, &len), "a\0b", 4);
	assert_int_equal(len, 3);
	assert_int_equal(sb_value_len(v), 3);
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, "y", NULL, (size_t)0), 0);
	assert_non_null(sb_value_bytes(v, &len));
	assert_int_equal(len, 0);
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, "s", NULL), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_NONE);
	sb_value_free(v);
}

static void test_nan_keeps_its_payload(void **state)
{
	uint64_t bits = UINT64_C(0xfff800000000beef), back;
	double nan_in, nan_out = 0;
	sb_value *v;

	(void)state;
	memcpy(&nan_in, &bits, sizeof(bits));
	assert_int_equal(sb_value_pack(&v, "d", nan_in), 0);
	assert_int_equal(sb_value_float(v, &nan_out), 0);
	memcpy(&back, &nan_out, sizeof(back));
	assert_true(back == bits);
	sb_value_free(v);
}

static void test_wrong_kind(void **state)
{
	sb_value *v;
	int64_t i = 42;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "s", "x"), 0);
	assert_int_equal(sb_value_int(v, &i), SB_EKIND);
	assert_int_equal(i, 42);
	assert_message("str, not int");
	assert_int_equal(sb_value_int(v, NULL), SB_EINVAL);
	assert_null(sb_value_bytes(v, NULL));
	assert_int_equal(sb_last_error()->code, SB_EKIND);
	assert_null(sb_value_ref(v));
	assert_null(sb_value_at(v, 0));
	assert_null(sb_value_key_at(v, 0));
	assert_null(sb_value_lookup(v, "x"));
	assert_null(sb_value_str(NULL, NULL));
	assert_string_equal(sb_kind_name(SB_KIND_TUPLE), "tuple");
	assert_string_equal(sb_kind_name((sb_kind)99), "?");
	assert_string_equal(sb_kind_name((sb_kind)-1), "?");
	sb_value_free(v);
}

static void test_containers(void **state)
{
	sb_value *v;
	const sb_value *list, *tuple;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "{s[i i] i(bn) (i)s}", "k", 1, 2, 5, 1, 9, "nine"), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_DICT);
	assert_int_equal(sb_value_len(v), 3);
	list = sb_value_lookup(v, "k");
	assert_int_equal(sb_value_kind(list), SB_KIND_LIST);
	assert_int_equal(sb_value_len(list), 2);
	assert_null(sb_value_at(list, 2));
	assert_null(sb_value_lookup(v, "kk"));
	assert_null(sb_value_lookup(v, NULL));
	tuple = sb_value_at(v, 1);
	assert_int_equal(sb_value_kind(tuple), SB_KIND_TUPLE);
	assert_int_equal(sb_value_kind(sb_value_at(tuple, 1)), SB_KIND_NONE);
	assert_int_equal(sb_value_kind(sb_value_key_at(v, 2)), SB_KIND_TUPLE);
	assert_string_equal(sb_value_str(sb_value_at(v, 2), NULL), "nine");
	assert_null(sb_value_key_at(v, 3));
	sb_value_free((sb_value *)list); /* borrowed: nothing happens */
	assert_int_equal(sb_value_len(list), 2);
	sb_value_free(v);

	assert_int_equal(sb_value_pack(&v, "[[](){}]"), 0);
	assert_int_equal(sb_value_len(v), 3);
	assert_int_equal(sb_value_len(sb_value_at(v, 2)), 0);
	sb_value_free(v);
}

static void test_star(void **state)
{
	sb_value *one, *two, *v;
	const sb_value *items[4];

	(void)state;
	assert_int_equal(sb_value_pack(&one, "s", "one"), 0);
	assert_int_equal(sb_value_pack(&two, "[i]", 2), 0);
	items[0] = one;
	items[1] = two;
	items[2] = NULL;
	items[3] = one;
	assert_int_equal(sb_value_pack(&v, "[i*i]", 0, items, (size_t)4, 9), 0);
	assert_int_equal(sb_value_len(v), 6);
	assert_string_equal(sb_value_str(sb_value_at(v, 4), NULL), "one");
	sb_value_free(v);
	assert_int_equal(sb_value_pack(&v, "{*}", items, (size_t)4), 0);
	assert_int_equal(sb_value_len(v), 2);
	assert_int_equal(sb_value_kind(sb_value_lookup(v, "one")), SB_KIND_LIST);
	sb_value_free(v);
	assert_int_equal(sb_value_pack(&v, "(*)", NULL, (size_t)0), 0);
	assert_int_equal(sb_value_len(v), 0);
	sb_value_free(v);
	v = NULL;
	assert_int_equal(sb_value_pack(&v, "{*}", items, (size_t)3), SB_EINVAL);
	assert_message("a key without value");
	assert_int_equal(sb_value_pack(&v, "*", items, (size_t)2), SB_EINVAL);
	assert_message("2 values where there should be one");
	assert_int_equal(sb_value_pack(&v, "[*]", NULL, (size_t)2), SB_EINVAL);
	assert_null(v);
	sb_value_free(one);
	sb_value_free(two);
}

static void test_refs_keep_their_sessions(void **state)
{
	sb_ref a = make_ref("session-a", 3, 1), b = make_ref("session-b", 4, 2);
	sb_value *inner, *v;
	const sb_ref *back;

	(void)state;
	assert_int_equal(sb_value_pack(&inner, "{sr}", "b", &b), 0);
	assert_int_equal(sb_value_pack(&v, "[roriri]", &a, inner, &b, 1, &a, 2), 0);
	back = sb_value_ref(sb_value_at(v, 0));
	assert_memory_equal(back, &a, sizeof(a));
	back = sb_value_ref(sb_value_lookup(sb_value_at(v, 1), "b"));
	assert_memory_equal(back, &b, sizeof(b));
	assert_string_equal(sb_value_ref(sb_value_at(v, 2))->session_id, "session-b");
	assert_string_equal(sb_value_ref(sb_value_at(v, 4))->session_id, "session-a");
	sb_value_free(inner);
	sb_value_free(v);
}

/* count times open, then the same number of times close. */
static sb_value *nested(unsigned depth)
{
	char format[2 * SB__DEPTH_MAX + 16];
	sb_value *v = NULL;

	memset(format, '[', depth);
	memset(format + depth, ']', depth);
	format[2 * depth] = '\0';
	assert_int_equal(sb_value_pack(&v, format), 0);
	return v;
}

static void test_depth(void **state)
{
	sb_value *deepest = nested(SB__DEPTH_MAX), *v = NULL;
	struct sb__buf buf;
	struct sb__cursor cursor;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "[o]", deepest), SB_ETOODEEP);
	assert_int_equal(sb_value_pack(&v, "{so}", "k", deepest), SB_ETOODEEP);
	assert_null(v);
	assert_args_error(sb_args("i[o]", 1, deepest), SB_ETOODEEP, "more than 128 containers");

	sb__buf_init(&buf, NULL, 0);
	sb__value_encode(deepest, &buf);
	assert_int_equal(buf.error, 0);
	cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
	assert_int_equal(sb__value_decode(&cursor, "s", &v), 0);
	assert_int_equal(cursor.pos, buf.len);
	sb_value_free(v);
	sb_value_free(deepest);
	/* One more, and a great many more, from a peer. */
	for (size_t depth = SB__DEPTH_MAX + 1; depth < 1000000; depth *= 40) {
		sb__buf_truncate(&buf, 0);
		for (size_t i = 0; i < depth; i++)
			sb__put_array(&buf, 1);
		sb__put_null(&buf);
		cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
		assert_int_equal(sb__value_decode(&cursor, "s", &v), SB_ETOODEEP);
		assert_int_equal(sb__skip(&cursor), 0);
		assert_int_equal(cursor.pos, buf.len);
	}
	sb__buf_free(&buf);
}

static void test_encode_gives_the_same_bytes(void **state)
{
	static const uint8_t bytes[] = { 0xa2, 0x61, 0x61, 0xd9, 0x53, 0x42, 0x82, 0x01,
		                         0xfb, 0x3f, 0xf0, 0,    0,    0,    0,    0,
		                         0,    0x20, 0x83, 0xf6, 0xf5, 0x42, 0,    0xff };
	struct sb__cursor cursor = { .data = bytes, .len = sizeof(bytes) };
	struct sb__buf buf;
	sb_value *v;

	(void)state;
	assert_int_equal(sb__value_decode(&cursor, "s", &v), 0);
	assert_int_equal(cursor.pos, sizeof(bytes));
	sb__buf_init(&buf, NULL, 0);
	sb__value_encode(v, &buf);
	assert_int_equal(buf.len, sizeof(bytes));
	assert_memory_equal(buf.data, bytes, sizeof(bytes));
	sb__buf_free(&buf);
	sb_value_free(v);
}

/* Every prefix of a message is refused, and none makes the decoder read beyond it (ASan watches). */
static void test_every_prefix_is_refused(void **state)
{
	sb_ref ref = make_ref("s", 9, 5);
	struct sb__buf buf;
	sb_value *v, *out = NULL;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "{s[idsy] (n)r}", "key", 1, 2.5, "text", "bytes", (size_t)5, &ref),
	                 0);
	sb__buf_init(&buf, NULL, 0);
	sb__value_encode(v, &buf);
	for (size_t n = 0; n < buf.len; n++) {
		uint8_t *copy = malloc(n ? n : 1);
		struct sb__cursor cursor = { .data = copy, .len = n };

		memcpy(copy, buf.data, n);
		assert_int_equal(sb__value_decode(&cursor, "s", &out), SB_EPROTOCOL);
		cursor.pos = 0;
		assert_int_equal(sb__skip(&cursor), SB_EPROTOCOL);
		free(copy);
	}
	sb__buf_free(&buf);
	sb_value_free(v);
}

/* Whatever a byte is changed to, decoding ends in a value or a refusal. */
static void test_every_changed_byte_is_survived(void **state)
{
	struct sb__buf buf;
	sb_value *v;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "{s[idsy] (n)i}", "key", 1, 2.5, "text", "bytes", (size_t)5, 3),
	                 0);
	sb__buf_init(&buf, NULL, 0);
	sb__value_encode(v, &buf);
	sb_value_free(v);
	for (size_t i = 0; i < buf.len; i++)
		for (unsigned byte = 0; byte < 256; byte++) {
			struct sb__cursor cursor = { .data = buf.data, .len = buf.len };
			uint8_t was = buf.data[i];
			int err;

			buf.data[i] = (uint8_t)byte;
			v = NULL;
			err = sb__value_decode(&cursor, "s", &v);
			assert_true(err == 0 || err == SB_EPROTOCOL);
			assert_true((err == 0) == (v != NULL));
			sb_value_free(v);
			buf.data[i] = was;
		}
	sb__buf_free(&buf);
}

/* ── formats ── */

static void test_args(void **state)
{
	sb_ref ref = make_ref("s", 1, 2);
	sb_args *args = sb_args("id  n_jobs=i x=[s]", 1, 1.0, -1, "a");

	(void)state;
	assert_int_equal(sb__args_error(args), 0);
	assert_int_equal(args->positional_count, 2);
	assert_int_equal(args->keyword_count, 2);
	assert_hex(&args->positional, "01fb3ff0000000000000");
	assert_hex(&args->keywords, "666e5f6a6f62732061789a000000016161");
	sb_args_free(args);

	args = sb_args("");
	assert_int_equal(args->positional_count + args->keyword_count, 0);
	assert_int_equal(sb_args_add(args, NULL, NULL), 0);
	assert_int_equal(sb_args_add(args, "größe", NULL), 0);
	assert_int_equal(sb_args_add(args, "größe", NULL), SB_EINVAL);
	assert_message("given twice");
	assert_int_equal(sb_args_add(args, NULL, NULL), SB_EINVAL); /* errors stick */
	sb_args_free(args);

	args = sb_args("r", &ref);
	assert_hex(&args->positional, "d953438401020150"
	                              "02020202020202020202020202020202");
	sb_args_free(args);
	sb_args_free(NULL);
	assert_int_equal(sb_args_add(NULL, NULL, NULL), SB_EINVAL);
}

static void test_args_note_distinct_sessions(void **state)
{
	sb_ref a = make_ref("a", 1, 1), a2 = make_ref("a", 2, 1), b = make_ref("b", 1, 1);
	sb_value *tree;
	sb_args *args;

	(void)state;
	assert_int_equal(sb_value_pack(&tree, "[r{s(r)}]", &b, "k", &a2), 0);
	args = sb_args("rrro k=r", &a, &a, &a2, tree, &b);
	assert_int_equal(sb__args_error(args), 0);
	assert_int_equal(args->ref_count, 3);
	assert_string_equal(args->refs[0].session_id, "a");
	assert_int_equal(args->refs[0].incarnation, 1);
	assert_int_equal(args->refs[1].incarnation, 2);
	assert_string_equal(args->refs[2].session_id, "b");
	sb_args_free(args);
	sb_value_free(tree);
}

static void test_format_errors(void **state)
{
	sb_ref nobody = { 0 };
	sb_value *v = NULL;

	(void)state;
	assert_args_error(sb_args("ooq", NULL, NULL), SB_EINVAL,
	                  "sb_args(\"ooq\"): unknown code 'q' at character 3");
	assert_args_error(sb_args("i n=i i", 1, 2, 3), SB_EINVAL,
	                  "positional argument after keywords at character 7");
	assert_args_error(sb_args("a=i a=i", 1, 2), SB_EINVAL, "keyword 'a' given twice");
	assert_args_error(sb_args("a="), SB_EINVAL, "no code of one value for keyword 'a' at character 3");
	assert_args_error(sb_args("a=*", NULL, (size_t)0), SB_EINVAL, "no code of one value");
	assert_args_error(sb_args("a=ii", 1, 2), SB_EINVAL,
	                  "no space after a keyword's value at character 4");
	assert_args_error(sb_args("[i", 1), SB_EINVAL, "no ']' for the '[' at character 1");
	assert_args_error(sb_args("[i)", 1), SB_EINVAL, "unknown code ')' at character 3");
	assert_args_error(sb_args("{s}", "k"), SB_EINVAL, "a key without value in the '{' at character 1");
	assert_args_error(sb_args("]"), SB_EINVAL, "unknown code ']'");
	assert_args_error(sb_args("i =i", 1), SB_EINVAL, "'=' without a name before it at character 3");
	assert_args_error(sb_args("i\x80", 1), SB_EINVAL, "byte 0x80, which is no code, at character 2");
	assert_args_error(sb_args(NULL), SB_EINVAL, "the format is NULL");
	assert_args_error(sb_args("is", 1, "a\xc3("), SB_EINVAL,
	                  "byte 1 of the str is not UTF-8, for 's' at character 2");
	assert_args_error(sb_args("u", "\xed\xa0\x80", (size_t)3), SB_EINVAL, "not UTF-8");
	assert_args_error(sb_args("y", NULL, (size_t)3), SB_EINVAL, "a NULL pointer with length 3 for 'y'");
	assert_args_error(sb_args("r", NULL), SB_EINVAL, "a NULL ref for 'r'");
	assert_args_error(sb_args("r", &nobody), SB_EINVAL, "a ref without session id");
	assert_args_error(sb_args("y", "x", (size_t)SB__MESSAGE_MAX + 1), SB_ETOOBIG,
	                  "more than 1073741824 bytes");
	assert_int_equal(sb_value_pack(&v, ""), SB_EINVAL);
	assert_message("sb_value_pack(\"\"): 0 values where there should be one");
	assert_int_equal(sb_value_pack(&v, "ii", 1, 2), SB_EINVAL);
	assert_int_equal(sb_value_pack(&v, "b=i", 1), SB_EINVAL);
	assert_int_equal(sb_value_pack(NULL, "i", 1), SB_EINVAL);
	assert_null(v);
}

static void test_format_depth(void **state)
{
	char format[2 * SB__DEPTH_MAX];

	(void)state;
	memset(format, '(', sizeof(format));
	format[sizeof(format) - 1] = '\0';
	assert_args_error(sb_args(format), SB_ETOODEEP,
	                  "more than 128 containers in each other at character 129");
}

static void test_many_arguments(void **state)
{
	sb_args *args = sb_args("");
	sb_value *v;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "s", "a string of some length"), 0);
	for (int i = 0; i < 1000; i++) {
		char name[16];

		sprintf(name, "k%d", i);
		assert_int_equal(sb_args_add(args, i % 2 ? NULL : name, v), 0);
	}
	assert_int_equal(args->positional_count, 500);
	assert_int_equal(args->keyword_count, 500);
	sb_args_free(args);
	sb_value_free(v);
}

/* What is written and read without a call for each has the same bytes as by the functions. */
static void test_29_ints_of_lists(void **state)
{
	static const uint8_t beyond[] = { 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0,
		                          0xf6, 0,    0, 0, 0, 0, 0, 0, 0, 0x1f, 0,    0, 0, 0, 0, 0, 0, 0 };

	(void)state;
	for (unsigned i = 0; i < 64 * 6; i++) {
		int64_t near = (int64_t)(UINT64_C(1) << i / 6), v = (int64_t)((uint64_t)near - 1 + i % 3),
			got = 0;
		uint8_t bytes[2 * SB__INT_MAX_BYTES] = { 0 }, memory[SB__INT_MAX_BYTES];
		struct sb__cursor cursor = { .data = bytes };
		struct sb__buf buf;

		v = i % 6 < 3 ? v : ~v;
		sb__buf_init(&buf, memory, sizeof(memory));
		sb__put_int(&buf, v);
		assert_int_equal(sb__write_int(bytes, v), buf.len);
		assert_memory_equal(bytes, memory, buf.len);
		cursor.len = SB__INT_MAX_BYTES - 1; /* near the end the functions read it */
		assert_false(sb__take_int(&cursor, &got));
		cursor.len = SB__INT_MAX_BYTES;
		assert_true(sb__take_int(&cursor, &got));
		assert_true(got == v);
		assert_int_equal(cursor.pos, buf.len);
	}
	for (size_t i = 0; i < sizeof(beyond); i += SB__INT_MAX_BYTES) {
		struct sb__cursor cursor = { .data = beyond + i, .len = SB__INT_MAX_BYTES };
		int64_t got;

		assert_false(sb__take_int(&cursor, &got));
		assert_int_equal(cursor.pos, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_nan_keeps_its_payload),
		cmocka_unit_test(test_wrong_kind),
		cmocka_unit_test(test_containers),
		cmocka_unit_test(test_star),
		cmocka_unit_test(test_refs_keep_their_sessions),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_encode_gives_the_same_bytes),
		cmocka_unit_test(test_every_prefix_is_refused),
		cmocka_unit_test(test_every_changed_byte_is_survived),
		cmocka_unit_test(test_args),
		cmocka_unit_test(test_args_note_distinct_sessions),
		cmocka_unit_test(test_format_errors),
		cmocka_unit_test(test_format_depth),
		cmocka_unit_test(test_many_arguments),
		cmocka_unit_test(test_29_ints_of_lists),
	};

	return cmocka_run_group_tests_name("codec_value", tests, NULL, NULL);
}
