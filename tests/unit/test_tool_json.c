/* SPDX-License-Identifier: Apache-2.0 */
/* Values as JSON, as the tools write and read them: both ways, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base64.h"
#include "json.h"
#include "snakebridge/error.h"

#define REF "sbref:demo:7:3.1:000102030405060708090a0b0c0d0eff"

/* The caller frees it. */
static char *written(const sb_value *value)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	tool_json_write(to, value);
	fclose(to);
	return text;
}

static void assert_written(sb_value *value, const char *expected)
{
	char *text = written(value);

	assert_string_equal(text, expected);
	free(text);
	sb_value_free(value);
}

/* What is written like this reads back and is written the same way again. */
static void test_round_trips(void **state)
{
	static const char *const texts[] = {
		"null",
		"true",
		"false",
		"0",
		"-1",
		"9223372036854775807",
		"-9223372036854775808",
		"0.1",
		"-0.0",
		"1.0",
		"1e+300",
		"2.2250738585072014e-308",
		"3.141592653589793",
		"\"\"",
		"\"Gr\xc3\xbc\xc3\x9f"
		"e\"",
		"\"\\\"\\\\\\n\\t\\r\\u0000\\u007f\"",
		"[]",
		"[1, [2, []]]",
		"{}",
		"{\"b\": 1, \"a\": {\"\": null}}",
		"{\"$float\": \"nan\"}",
		"{\"$float\": \"inf\"}",
		"{\"$float\": \"-inf\"}",
		"{\"$tuple\": []}",
		"{\"$tuple\": [1, {\"$tuple\": [2]}]}",
		"{\"$bytes\": \"\"}",
		"{\"$bytes\": \"AP8=\"}",
		"{\"$bytes\": \"AP8A\"}",
		"{\"$bytes\": \"/+8gAA==\"}",
		"{\"$dict\": [[1, 2], [{\"$tuple\": [3]}, null]]}",
		"{\"$dict\": [[\"$ref\", \"x\"]]}",
		"{\"$dict\": [[\"a\", 1], [\"$b\", 2]]}",
		"{\"$dict\": [[\"a\\u0000b\", 1]]}",
		"{\"$ref\": \"" REF "\"}",
		"{\"a\": [{\"$ref\": \"" REF "\"}]}",
	};
	char error[TOOL_JSON_ERROR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		sb_value *value = NULL;

		if (tool_json_read(texts[i], &value, error))
			fail_msg("%s: %s", texts[i], error);
		assert_written(value, texts[i]);
	}
}

static void test_kinds(void **state)
{
	char error[TOOL_JSON_ERROR_MAX];
	sb_value *v;
	double d = 0;

	(void)state;
	assert_int_equal(tool_json_read(" 1.0 ", &v, error), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_FLOAT);
	sb_value_free(v);
	assert_int_equal(tool_json_read("{\"$float\":\"-inf\"}", &v, error), 0);
	assert_int_equal(sb_value_float(v, &d), 0);
	assert_true(isinf(d) && d < 0);
	sb_value_free(v);
	assert_int_equal(tool_json_read("{\"$ref\":\"" REF "\",\"type\":\"a.B\"}", &v, error), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	assert_int_equal(sb_value_ref(v)->slot, 3);
	sb_value_free(v);
	assert_int_equal(tool_json_read("{\"$bytes\":\"aGk=\"}", &v, error), 0);
	assert_memory_equal(sb_value_bytes(v, NULL), "hi", 3);
	sb_value_free(v);
	assert_int_equal(tool_json_read("{\"$dict\":[[1,2]]}", &v, error), 0);
	assert_int_equal(sb_value_kind(v), SB_KIND_DICT);
	sb_value_free(v);
	assert_written(NULL, "null");
}

static void test_user_data_cannot_pose(void **state)
{
	sb_value *v;

	(void)state;
	assert_int_equal(sb_value_pack(&v, "{s s}", "$ref", REF), 0);
	assert_written(v, "{\"$dict\": [[\"$ref\", \"" REF "\"]]}");
	assert_int_equal(sb_value_pack(&v, "{s s s s}", "$ref", REF, "type", "x"), 0);
	assert_written(v, "{\"$dict\": [[\"$ref\", \"" REF "\"], [\"type\", \"x\"]]}");
	assert_int_equal(sb_value_pack(&v, "{s [[i i]]}", "$dict", 1, 2), 0);
	assert_written(v, "{\"$dict\": [[\"$dict\", [[1, 2]]]]}");
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "no JSON" },
		{ "foo", "no JSON" },
		{ "1 2", "no JSON" },
		{ "[1,]", "no JSON" },
		{ "NaN", "no JSON" },
		{ "{1:2}", "no JSON" },
		{ "{\"a\":1,}", "no JSON" },
		{ "\"\\x\"", "no JSON" },
		{ "\"a", "no JSON" },
		{ "01", "no JSON" },
		{ "\"\xff\"", "no JSON" },
		{ "1e999", "beyond what a float holds" },
		{ "{\"$what\":1}", "has a meaning here" },
		{ "{\"$ref\":\"" REF "\",\"other\":1}", "has a meaning here" },
		{ "{\"$tuple\":[],\"type\":1}", "has a meaning here" },
		{ "{\"$tuple\":[],\"$bytes\":\"\"}", "has a meaning here" },
		{ "{\"$tuple\":1}", "needs an array" },
		{ "{\"$float\":\"1.5\"}", "needs \"nan\"" },
		{ "{\"$float\":1.5}", "needs \"nan\"" },
		{ "{\"$bytes\":1}", "needs a string" },
		{ "{\"$bytes\":\"AP8\"}", "not base64" },
		{ "{\"$bytes\":\"AP8*\"}", "not base64" },
		{ "{\"$bytes\":\"AP9=\"}", "not base64" },
		{ "{\"$bytes\":\"A===\"}", "not base64" },
		{ "{\"$bytes\":\"=P8=\"}", "not base64" },
		{ "{\"$bytes\":\"AP8=AP8=\"}", "not base64" },
		{ "{\"$dict\":{}}", "pairs" },
		{ "{\"$dict\":[[1]]}", "pairs" },
		{ "{\"$dict\":[1]}", "pairs" },
		{ "[1,{\"a\":[{\"$float\":2}]}]", "needs \"nan\"" },
		{ "{\"$ref\":7}", "printed form" },
	};
	char error[TOOL_JSON_ERROR_MAX];
	sb_value *v = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (tool_json_read(bad[i].text, &v, error) != SB_EINVAL || !strstr(error, bad[i].why))
			fail_msg("%s: %s", bad[i].text, error);
		assert_null(v);
	}
	assert_int_equal(tool_json_read("[{\"$ref\":\"sbref:x\"}]", &v, error), SB_EREFMALFORMED);
	assert_non_null(strstr(error, "not a well-formed ref"));
	assert_null(v);
}

static void test_too_deep(void **state)
{
	char text[400], error[TOOL_JSON_ERROR_MAX];
	sb_value *v = NULL;

	(void)state;
	for (size_t depth = 128; depth <= 129; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		text[2 * depth] = '\0';
		assert_int_equal(tool_json_read(text, &v, error), depth == 128 ? 0 : SB_ETOODEEP);
	}
	sb_value_free(v);
}

/* Also where each level is a form of ours: no stack is used for what is refused. */
static void test_dicts_too_deep(void **state)
{
	static const char level[] = "{\"$dict\":[[";
	const size_t size = sizeof(level) - 1, levels = 200000;
	char *text = malloc(levels * size + 1), error[TOOL_JSON_ERROR_MAX];
	sb_value *v = NULL;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < levels; i++)
		memcpy(text + i * size, level, size);
	text[levels * size] = '\0';
	assert_int_equal(tool_json_read(text, &v, error), SB_ETOODEEP);
	assert_null(v);
	free(text);
}

static void test_base64_all_lengths(void **state)
{
	unsigned char bytes[64], back[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(37 * i + 200);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		char *text = NULL;
		size_t size, len = 99;
		FILE *to = open_memstream(&text, &size);

		assert_non_null(to);
		tool_base64_write(to, bytes, n);
		fclose(to);
		assert_int_equal(size, (n + 2) / 3 * 4);
		assert_true(tool_base64_read(text, size, back, &len));
		assert_int_equal(len, n);
		assert_memory_equal(back, bytes, n);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_user_data_cannot_pose),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_deep),
		cmocka_unit_test(test_dicts_too_deep),
		cmocka_unit_test(test_base64_all_lengths),
	};

	return cmocka_run_group_tests_name("tool_json", tests, NULL, NULL);
}
