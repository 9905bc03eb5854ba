/* SPDX-License-Identifier: Apache-2.0 */
/* Python exceptions as the caller gets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine_probe.h"
#include "message.h"
#include "utf8.h"

static int setup(void **state)
{
	*state = probe_table(NULL);
	return 0;
}

static int teardown(void **state)
{
	probe_table_free(*state);
	return 0;
}

/* Calls sbprobe.raises(what): the error record. */
static const sb_error *raised(struct sb__table *table, const char *what)
{
	assert_int_not_equal(0, probe_call(table, "sbprobe:raises", sb_args("s", what), NULL));
	return sb_last_error();
}

#define assert_contains(text, part)                                         \
	do {                                                                \
		if (!strstr(text, part))                                    \
			print_error("\"%s\" is not in:\n%s\n", part, text); \
		assert_non_null(strstr(text, part));                        \
	} while (0)

static void test_parts(void **state)
{
	const sb_error *error = raised(*state, "plain");

	assert_int_equal(SB_EPYTHON, error->code);
	assert_int_equal(SB_OUTCOME_EXCEPTION, error->outcome);
	assert_string_equal("builtins.ValueError", error->python_type);
	assert_string_equal("plain", error->python_message);
	assert_contains(error->python_traceback, "sbprobe.py\", line ");
	assert_contains(error->python_traceback, ", in raises\n");
	assert_contains(error->python_traceback, "ValueError: plain");
}

static void test_chain(void **state)
{
	const sb_error *error = raised(*state, "chain");
	const char *first, *second, *third;

	assert_string_equal("builtins.TypeError", error->python_type);
	assert_string_equal("third", error->python_message);
	first = strstr(error->python_traceback, "KeyError: 'first'");
	second = strstr(error->python_traceback, "ValueError: second");
	third = strstr(error->python_traceback, "TypeError: third");
	assert_non_null(first);
	assert_true(first < second && second < third);

	error = raised(*state, "suppressed");
	assert_null(strstr(error->python_traceback, "hidden"));

	error = raised(*state, "long chain");
	assert_string_equal("error 49", error->python_message);
	assert_non_null(strstr(error->python_traceback, "error 46"));
	assert_null(strstr(error->python_traceback, "error 45"));

	error = raised(*state, "own cause");
	assert_string_equal("own cause", error->python_message);
}

/* What would end a Python program is an exception here. */
static void test_exits_do_not_exit(void **state)
{
	assert_string_equal("builtins.SystemExit", raised(*state, "exit")->python_type);
	assert_string_equal("3", raised(*state, "exit")->python_message);
	assert_string_equal("builtins.KeyboardInterrupt", raised(*state, "interrupt")->python_type);
	assert_string_equal("SB_EPYTHON builtins.SystemExit", probe_ask(*state, "sys:exit", NULL));
	assert_string_equal("'still here'", probe_ask(*state, "sbprobe:same", sb_args("s", "still here")));
}

static void test_messages_that_cannot_be_had(void **state)
{
	const sb_error *error = raised(*state, "unprintable");

	assert_string_equal("sbprobe.Unprintable", error->python_type);
	assert_contains(error->python_message, "builtins.RuntimeError");
	assert_contains(raised(*state, "wrong text")->python_message, "builtins.TypeError");
	assert_string_equal("lone \\udc80 here", raised(*state, "surrogate")->python_message);
	assert_string_equal("a?b", raised(*state, "nul")->python_message);
}

static void test_huge_message(void **state)
{
	const sb_error *error = raised(*state, "huge");
	size_t len = strlen(error->python_message);

	assert_in_range(len, 1990, 2000);
	assert_true(sb__utf8_valid(error->python_message, len));
}

/* The innermost frames of a deep traceback. */
static void test_deep_tracebacks(void **state)
{
	const char *at;
	size_t count = 0;

	assert_int_equal(SB_EPYTHON, probe_call(*state, "sbprobe:recurse", sb_args("i", 200), NULL));
	for (at = sb_last_error()->python_traceback; (at = strstr(at, "  File \"")); at++)
		count++;
	assert_int_equal(32, count);
	assert_contains(sb_last_error()->python_traceback, "ValueError: at the bottom");
	assert_string_equal("SB_EPYTHON builtins.RecursionError",
	                    probe_ask(*state, "sbprobe:recurse_for_ever", NULL));
}

/* Names that are missing are told from the same errors inside the code that was called. */
static void test_missing_names(void **state)
{
	struct sb__table *table = *state;
	sb_ref box, lazy, sealed, setter;

	assert_true(probe_eval_ref(table, "Box()", &box));
	assert_true(probe_eval_ref(table, "Lazy()", &lazy));
	assert_true(probe_eval_ref(table, "Sealed()", &sealed));
	assert_true(probe_eval_ref(table, "Setter()", &setter));

	assert_int_equal(SB_EATTRIBUTE, probe_method(table, &box, "no_such_thing", NULL, NULL));
	assert_string_equal("builtins.AttributeError", sb_last_error()->python_type);
	assert_int_equal(SB_OUTCOME_EXCEPTION, sb_last_error()->outcome);
	assert_int_equal(SB_EPYTHON, probe_method(table, &box, "lookup_fails", NULL, NULL));
	assert_int_equal(SB_EPYTHON, probe_run(table, SB_VERB_ATTR, &box, "broken", NULL, 0, NULL));
	assert_int_equal(0, probe_run(table, SB_VERB_ATTR, &lazy, "made", NULL, 0, NULL));
	assert_int_equal(SB_EATTRIBUTE, probe_run(table, SB_VERB_ATTR, &lazy, "unmade", NULL, 0, NULL));
	assert_int_equal(SB_EATTRIBUTE,
	                 probe_run(table, SB_VERB_SET_ATTR, &sealed, "other", sb_args("i", 1), 0, NULL));
	assert_int_equal(0, probe_run(table, SB_VERB_SET_ATTR, &sealed, "value", sb_args("i", 1), 0, NULL));
	assert_int_equal(SB_EPYTHON,
	                 probe_run(table, SB_VERB_SET_ATTR, &setter, "value", sb_args("i", 1), 0, NULL));
	assert_int_equal(SB_EATTRIBUTE,
	                 probe_run(table, SB_VERB_SET_ATTR, &box, "nope.value", sb_args("i", 1), 0, NULL));
	/* A module that is there but cannot import another is not the one that is missing. */
	assert_int_equal(SB_EPYTHON, probe_call(table, "sbprobe_bad:f", NULL, NULL));
	assert_string_equal("builtins.ModuleNotFoundError", sb_last_error()->python_type);
	assert_int_equal(SB_EPYTHON, probe_call(table, "sbprobe_bad.f", NULL, NULL));
}

static void test_deep_arguments_are_refused(void **state)
{
	enum { DEEP = SB__DEPTH_MAX + 1 };
	struct sb__call_origin origin = { .pid = 1 };
	struct sb__buf request, reply;

	sb__buf_init(&request, NULL, 0);
	sb__buf_init(&reply, NULL, 0);
	sb__put_array(&request, 6);
	sb__put_uint(&request, SB_VERB_CALL);
	sb__put_uint(&request, 0);
	sb__put_null(&request);
	sb__put_str(&request, "sbprobe:same", 12);
	sb__put_array(&request, 1);
	for (int i = 0; i < DEEP; i++)
		sb__put_array(&request, 1);
	sb__put_null(&request);
	sb__put_map(&request, 0);
	probe_engine()->execute(*state, &origin, request.data, request.len, &reply);
	assert_int_equal(SB_ETOODEEP, sb__reply_decode(reply.data, reply.len, PROBE_SESSION, NULL));
	assert_int_equal(SB_OUTCOME_REFUSED, sb_last_error()->outcome);
	sb__buf_free(&request);
	sb__buf_free(&reply);
}

/* A result that does not fit is lost, and so are its refs; the call is not told to have been refused. */
static void test_result_too_big(void **state)
{
	struct sb__call_origin origin = { .pid = 1 };
	sb_request call = SB_REQUEST_INIT;
	struct sb__table_counts counts;
	struct sb__buf request, reply;

	call.name = "sbprobe:boxes";
	call.args = sb_args("i", 200);
	sb__buf_init(&request, NULL, 0);
	sb__request_encode(&request, &call);
	sb_args_free(call.args);
	sb__buf_init(&reply, NULL, 0);
	reply.limit = 1000;
	probe_engine()->execute(*state, &origin, request.data, request.len, &reply);
	assert_int_equal(SB_ETOOBIG, sb__reply_decode(reply.data, reply.len, PROBE_SESSION, NULL));
	assert_int_equal(SB_OUTCOME_EXCEPTION, sb_last_error()->outcome);
	probe_engine()->counts(*state, &counts);
	assert_int_equal(0, counts.live);
	sb__buf_free(&reply);

	/* Nor does an exception that has no room take the reply with it. */
	sb__buf_free(&request);
	call.name = "sbprobe:raises";
	call.args = sb_args("s", "chain");
	sb__request_encode(&request, &call);
	sb_args_free(call.args);
	sb__buf_init(&reply, NULL, 0);
	reply.limit = 200;
	probe_engine()->execute(*state, &origin, request.data, request.len, &reply);
	assert_int_equal(SB_EPYTHON, sb__reply_decode(reply.data, reply.len, PROBE_SESSION, NULL));
	assert_int_equal(SB_OUTCOME_EXCEPTION, sb_last_error()->outcome);
	sb__buf_free(&request);
	sb__buf_free(&reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_parts),
		TEST(test_chain),
		TEST(test_exits_do_not_exit),
		TEST(test_messages_that_cannot_be_had),
		TEST(test_huge_message),
		TEST(test_deep_tracebacks),
		TEST(test_missing_names),
		TEST(test_deep_arguments_are_refused),
		TEST(test_result_too_big),
#undef TEST
	};

	return cmocka_run_group_tests_name("engine errors", tests, probe_start, NULL);
}
