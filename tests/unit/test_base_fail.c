/* SPDX-License-Identifier: Apache-2.0 */
/* The error record, the texts of the codes, the log hook. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fail.h"

static void *look_at_fresh_thread(void *arg)
{
	const sb_error *e = sb_last_error();

	*(int *)arg = e->code == SB_OK && e->outcome == SB_OUTCOME_NONE && e->sys_errno == 0 &&
	              e->message[0] == '\0' && e->session_id[0] == '\0' && e->other_session_id[0] == '\0' &&
	              e->python_type[0] == '\0' && e->python_message[0] == '\0' &&
	              e->python_traceback[0] == '\0';
	/* Adding to a record that is not there must do nothing. */
	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	sb__fail_set_trace(7);
	sb__fail_set_sessions("a", "b");
	sb__fail_set_python("t", "m", "tb");
	*(int *)arg = *(int *)arg && sb_last_error()->outcome == SB_OUTCOME_NONE;
	return NULL;
}

static void test_fresh_thread_has_no_error(void **state)
{
	pthread_t thread;
	int good = 0;

	(void)state;
	sb__fail(SB_EID, "this thread's");
	assert_int_equal(pthread_create(&thread, NULL, look_at_fresh_thread, &good), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(good);
	assert_int_equal(sb_last_error()->code, SB_EID);
}

static void test_fields_are_set_and_reset(void **state)
{
	const sb_error *e;

	(void)state;
	assert_int_equal(sb__fail(SB_EPYTHON, "number %d of %s", 5, "things"), SB_EPYTHON);
	sb__fail_set_outcome(SB_OUTCOME_EXCEPTION);
	sb__fail_set_trace(UINT64_C(0xfedcba9876543210));
	sb__fail_set_sessions("one", "two");
	sb__fail_set_python("builtins.ValueError", "bad", "Traceback");
	e = sb_last_error();
	assert_int_equal(e->code, SB_EPYTHON);
	assert_int_equal(e->outcome, SB_OUTCOME_EXCEPTION);
	assert_true(e->trace_id == UINT64_C(0xfedcba9876543210));
	assert_string_equal(e->message, "number 5 of things");
	assert_string_equal(e->session_id, "one");
	assert_string_equal(e->other_session_id, "two");
	assert_string_equal(e->python_type, "builtins.ValueError");
	assert_string_equal(e->python_message, "bad");
	assert_string_equal(e->python_traceback, "Traceback");

	sb__fail_set_sessions(NULL, NULL);
	assert_string_equal(sb_last_error()->session_id, "");

	sb__fail(SB_EINVAL, "next");
	e = sb_last_error();
	assert_int_equal(e->outcome, SB_OUTCOME_NONE);
	assert_true(e->trace_id == 0);
	assert_string_equal(e->python_type, "");
	assert_string_equal(e->python_traceback, "");
}

static void test_errno_is_kept_and_told(void **state)
{
	(void)state;
	errno = EBUSY;
	assert_int_equal(sb__fail_errno(SB_ESYSTEM, ENOENT, "cannot open %s", "x"), SB_ESYSTEM);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(sb_last_error()->sys_errno, ENOENT);
	assert_string_equal(sb_last_error()->message, "cannot open x: No such file or directory");
	/* -errno, as os_linux.h returns it, is the same. */
	sb__fail_errno(SB_ESYSTEM, -ENOENT, "y");
	assert_int_equal(sb_last_error()->sys_errno, ENOENT);
	sb__fail(SB_EID, "z");
	assert_int_equal(errno, EBUSY);
	assert_int_equal(sb_last_error()->sys_errno, 0);
}

static void test_memory_names_what(void **state)
{
	(void)state;
	assert_int_equal(sb__fail_memory("a basket"), SB_ENOMEM);
	assert_int_equal(sb_last_error()->code, SB_ENOMEM);
	assert_non_null(strstr(sb_last_error()->message, "a basket"));
	assert_int_equal(sb__fail_memory(NULL), SB_ENOMEM);
}

static void *fail_for_memory_first(void *arg)
{
	/* The thread has no record yet, and sb__fail_memory() must not make one. */
	sb__fail_memory("the first failure of a thread, described at such a length that its short record "
	                "cannot hold all of it");
	*(int *)arg = sb_last_error()->code == SB_ENOMEM &&
	              strncmp(sb_last_error()->message, "out of memory for the first", 27) == 0 &&
	              strlen(sb_last_error()->message) < 96;
	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	sb__fail_set_trace(9);
	sb__fail_set_sessions("a", "b"); /* no room there */
	sb__fail_set_python("a", "b", "c");
	*(int *)arg = *(int *)arg && sb_last_error()->outcome == SB_OUTCOME_REFUSED &&
	              sb_last_error()->trace_id == 9 && sb_last_error()->session_id[0] == '\0';
	sb__fail(SB_EID, "now with a record");
	*(int *)arg = *(int *)arg && sb_last_error()->code == SB_EID;
	return NULL;
}

static void test_memory_without_record(void **state)
{
	pthread_t thread;
	int good = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, fail_for_memory_first, &good), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(good);
}

static char *long_text(size_t len)
{
	char *text = malloc(len + 1);

	assert_non_null(text);
	for (size_t i = 0; i + 1 < len; i += 2)
		memcpy(text + i, "é", 2); /* two bytes: a cut may fall inside */
	text[len - len % 2] = '\0';
	return text;
}

/* Capped at cap bytes with the NUL, and never in the middle of a character. */
static void assert_capped(const char *text, size_t cap)
{
	size_t len = strlen(text);

	assert_true(len < cap);
	assert_true(len >= cap - 3);
	assert_int_equal((unsigned char)text[len - 1] & 0xc0, 0x80);
	assert_int_equal((unsigned char)text[len - 2], 0xc3);
}

static void test_strings_are_capped(void **state)
{
	char *text = long_text(100000);

	(void)state;
	sb__fail(SB_EPYTHON, "x%s", text);
	assert_capped(sb_last_error()->message, 1024);
	sb__fail(SB_EPYTHON, "%s", text);
	assert_capped(sb_last_error()->message, 1024);
	sb__fail_errno(SB_EPYTHON, ENOENT, "%s", text);
	assert_true(strlen(sb_last_error()->message) < 1024);
	sb__fail_set_python(text, text, text);
	assert_capped(sb_last_error()->python_type, 256);
	assert_capped(sb_last_error()->python_message, 2048);
	assert_capped(sb_last_error()->python_traceback, 16 * 1024);
	sb__fail_set_sessions(text, text);
	assert_capped(sb_last_error()->session_id, 256);
	free(text);
}

/* A failure often quotes the one before it. */
static void test_arguments_may_point_into_the_record(void **state)
{
	(void)state;
	sb__fail(SB_EID, "inner");
	sb__fail(SB_EINVAL, "outer: %s", sb_last_error()->message);
	assert_string_equal(sb_last_error()->message, "outer: inner");
	sb__fail_set_sessions("one", "two");
	sb__fail_set_sessions(sb_last_error()->other_session_id, sb_last_error()->session_id);
	assert_string_equal(sb_last_error()->session_id, "two");
	assert_string_equal(sb_last_error()->other_session_id, "one");
	sb__fail_set_python("t", "m", "tb");
	sb__fail_set_python(sb_last_error()->python_type, sb_last_error()->python_message,
	                    sb_last_error()->python_traceback);
	assert_string_equal(sb_last_error()->python_traceback, "tb");
}

static void test_every_code_has_its_texts(void **state)
{
	static const struct {
		int code;
		const char *name, *text, *advice;
	} all[] = {
#define ROW(name, code, text, advice) { code, #name, text, advice },
		SB_ERROR_MAP(ROW)
#undef ROW
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_string_equal(sb_error_name(all[i].code), all[i].name);
		assert_string_equal(sb_strerror(all[i].code), all[i].text);
		assert_string_equal(sb_error_advice(all[i].code), all[i].advice);
		assert_true(all[i].advice[0] != '\0');
	}
	assert_string_equal(sb_error_name(SB_OK), "SB_OK");
	assert_string_equal(sb_error_advice(SB_OK), "");
	assert_string_equal(sb_error_name(12345), "SB_E?");
	assert_string_equal(sb_strerror(-12345), "unknown error");
	assert_string_equal(sb_error_advice(-12345), "");
}

struct heard {
	int lines;
	sb_log_level level;
	char line[2048];
};

static void hear(void *arg, sb_log_level level, const char *line)
{
	struct heard *heard = arg;

	heard->lines++;
	heard->level = level;
	snprintf(heard->line, sizeof(heard->line), "%s", line);
	errno = EDOM; /* a hook that changes errno must not show */
}

static void test_log_goes_to_the_hook(void **state)
{
	struct heard first = { 0 }, second = { 0 };
	char *text = long_text(5000);

	(void)state;
	sb__log(SB_LOG_WARN, "nobody listens");
	sb_log_set(hear, &first);
	errno = ENOENT;
	sb__log(SB_LOG_WARN, "two\nlines %d", 3);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(first.lines, 1);
	assert_int_equal(first.level, SB_LOG_WARN);
	assert_string_equal(first.line, "two lines 3");
	sb_log_set(hear, &second);
	sb__log(SB_LOG_DEBUG, "%s", text);
	assert_int_equal(first.lines, 1);
	assert_int_equal(second.lines, 1);
	assert_capped(second.line, 1024);
	for (int i = 0; i < 1000; i++) /* the leak checker sees whether these pile up */
		sb_log_set(hear, i % 2 ? (void *)&first : (void *)&second);
	sb_log_set(NULL, NULL);
	sb__log(SB_LOG_WARN, "nobody again");
	assert_int_equal(first.lines + second.lines, 2);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fresh_thread_has_no_error),
		cmocka_unit_test(test_fields_are_set_and_reset),
		cmocka_unit_test(test_errno_is_kept_and_told),
		cmocka_unit_test(test_memory_names_what),
		cmocka_unit_test(test_memory_without_record),
		cmocka_unit_test(test_strings_are_capped),
		cmocka_unit_test(test_arguments_may_point_into_the_record),
		cmocka_unit_test(test_every_code_has_its_texts),
		cmocka_unit_test(test_log_goes_to_the_hook),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
