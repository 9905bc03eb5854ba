/* SPDX-License-Identifier: Apache-2.0 */
/* The table of knobs: names, ranges, precedence of code, environment and default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static void test_table_is_whole(void **state)
{
	size_t count = 0;

	(void)state;
	for (const sb_config_knob *k; (k = sb_config_describe(count)); count++) {
		assert_int_equal(strncmp(k->environment, "SNAKEBRIDGE_", 12), 0);
		assert_true(*k->name && *k->text);
		if (k->is_number)
			assert_true(k->min <= k->default_number && k->default_number <= k->max);
		else
			assert_true(*k->default_text);
		for (size_t i = 0; i < count; i++) {
			assert_string_not_equal(sb_config_describe(i)->name, k->name);
			assert_string_not_equal(sb_config_describe(i)->environment, k->environment);
		}
	}
	assert_true(count >= 12);
}

static uint64_t get(const char *name)
{
	uint64_t value = 0;

	assert_ok(sb_config_get(name, &value));
	return value;
}

static void test_code_before_environment_before_default(void **state)
{
	(void)state;
	assert_int_equal(get("max_refs"), 10000);
	setenv("SNAKEBRIDGE_MAX_REFS", "77", 1);
	assert_int_equal(get("max_refs"), 77);
	assert_ok(sb_config_set("max_refs", 78));
	assert_int_equal(get("max_refs"), 78);
	unsetenv("SNAKEBRIDGE_MAX_REFS");
	assert_int_equal(get("max_refs"), 78);
}

/* max_refs is 78 by code from the test before; an option of the session goes before it. */
static void test_sessions_take_the_defaults(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s;

	assert_ok(sb_session_open(f->bridge, &o, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs, 78);
	sb_session_close(s);
	o.max_refs = 79;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs, 79);
	sb_session_close(s);
}

static void test_bad_values_are_refused(void **state)
{
	static const char *const bad[] = {
		"0", "-1", "many", "10x", " 5", "4294967296", "99999999999999999999999"
	};
	uint64_t value;
	sb_bridge *b;
	char dir[256];

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("SNAKEBRIDGE_TIMEOUT_MS", bad[i], 1);
		assert_int_equal(sb_config_get("timeout_ms", &value), SB_EINVAL);
		assert_int_equal(sb_bridge_open(dir, NULL, &b), SB_EINVAL);
		assert_non_null(strstr(sb_last_error()->message, "SNAKEBRIDGE_TIMEOUT_MS"));
	}
	unsetenv("SNAKEBRIDGE_TIMEOUT_MS");
	fixture_dir_remove(dir);
	assert_int_equal(sb_config_set("timeout_ms", 0), SB_EINVAL);
	assert_int_equal(sb_config_set("no_such_knob", 1), SB_EINVAL);
	assert_int_equal(sb_config_set("dir", 1), SB_EINVAL);
	assert_non_null(strstr(sb_last_error()->message, "SNAKEBRIDGE_DIR"));
	assert_int_equal(sb_config_get(NULL, &value), SB_EINVAL);
	assert_null(sb_config_describe(1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_whole),
		cmocka_unit_test(test_code_before_environment_before_default),
		cmocka_unit_test_setup_teardown(test_sessions_take_the_defaults, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test(test_bad_values_are_refused),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
