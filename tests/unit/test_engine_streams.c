/* SPDX-License-Identifier: Apache-2.0 */
/* Streams below the sessions: items stay until their reply is known to have arrived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_probe.h"
#include "message.h"
#include "value_impl.h"

static struct sb__table *table;

static int setup(void **state)
{
	(void)state;
	table = probe_table(NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	probe_table_free(table);
	return 0;
}

/* Asks for items as a service thread does; settles nothing. */
static uint64_t ask(const sb_ref *stream, int most, uint32_t flags, int *ret_err, sb_value **ret)
{
	struct sb__call_origin origin = { .pid = getpid() };
	sb_request request = SB_REQUEST_INIT;
	struct sb__buf out, in;
	uint64_t number;

	request.verb = SB_VERB_NEXT;
	request.target = stream;
	request.args = sb_args("i", most);
	request.flags = flags;
	sb__buf_init(&out, NULL, 0);
	sb__buf_init(&in, NULL, 0);
	sb__request_encode(&out, &request);
	number = probe_engine()->execute(table, &origin, out.data, out.len, &in);
	*ret = NULL;
	*ret_err = sb__reply_decode(in.data, in.len, PROBE_SESSION, ret);
	sb__buf_free(&out);
	sb__buf_free(&in);
	sb_args_free(request.args);
	return number;
}

static sb_ref stream_of(const char *expression)
{
	sb_value *value = NULL;
	sb_ref ref;

	assert_int_equal(probe_run(table, SB_VERB_CALL, NULL, "builtins:eval", sb_args("s{}", expression),
	                           SB_CALL_STREAM, &value),
	                 0);
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

/* What a reply holds, as Python would show it, and settles it. */
static const char *next(const sb_ref *stream, int most, bool delivered)
{
	sb_value *value;
	const char *shown;
	int err;
	uint64_t number = ask(stream, most, 0, &err, &value);

	shown = err ? sb_last_error()->python_type : probe_show(value);
	if (number)
		probe_engine()->settle(table, number, delivered);
	sb_value_free(value);
	return shown;
}

static uint64_t live(void)
{
	struct sb__table_counts counts;

	probe_engine()->counts(table, &counts);
	return counts.live;
}

static void test_28_items_of_a_lost_reply_come_again(void **state)
{
	static const char *const sources[] = { "range(5)", "(i for i in range(5))", "map(int, range(5))" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		sb_ref s = stream_of(sources[i]);

		assert_string_equal(next(&s, 2, false), "[False, [0, 1]]");
		assert_string_equal(next(&s, 1, false), "[False, [0]]");
		assert_string_equal(next(&s, 2, true), "[False, [0, 1]]");
		assert_string_equal(next(&s, 100, false), "[True, [2, 3, 4]]");
		assert_int_equal(live(), 1); /* it has not ended for anybody */
		assert_string_equal(next(&s, 100, true), "[True, [2, 3, 4]]");
		assert_int_equal(live(), 0);
		assert_string_equal(next(&s, 100, true), "[True, []]"); /* for one who comes late */
	}
}

static void test_28_the_exception_of_a_lost_reply_comes_again(void **state)
{
	sb_ref s = stream_of("(1 // (2 - i) for i in range(5))");

	(void)state;
	assert_string_equal(next(&s, 100, true), "[False, [0, 1]]");
	assert_string_equal(next(&s, 100, false), "builtins.ZeroDivisionError");
	assert_int_equal(live(), 1);
	assert_string_equal(next(&s, 100, true), "builtins.ZeroDivisionError");
	assert_int_equal(live(), 0);
}

static void test_28_refs_of_a_lost_reply_go(void **state)
{
	sb_ref s = stream_of("({i} and iter([i]) for i in range(3))");
	sb_value *value;
	int err;
	uint64_t number = ask(&s, 2, 0, &err, &value);

	(void)state;
	assert_int_equal(err, 0);
	assert_int_equal(live(), 3);
	probe_engine()->settle(table, number, false);
	assert_int_equal(live(), 1);
	sb_value_free(value);
	number = ask(&s, 10, 0, &err, &value);
	assert_int_equal(sb_value_len(sb_value_at(value, 1)), 3);
	probe_engine()->settle(table, number, true);
	assert_int_equal(live(), 3); /* and the stream is gone */
	sb_value_free(value);
}

/* An item that cannot be sent holds up none before it, and leaves nothing of itself. */
static void test_28_what_cannot_be_sent_comes_last(void **state)
{
	struct sb__table_options options = { .max_refs = 4, .error_on_full = true };
	struct sb__table *before = table;
	sb_value *value;
	int err;

	(void)state;
	table = probe_table(&options);
	sb_ref s = stream_of(
		"(i if i < 2 else [iter([i]), iter([i]), iter([i]), iter([i])] for i in range(4))");
	uint64_t number = ask(&s, 10, 0, &err, &value);

	assert_int_equal(err, 0);
	assert_string_equal(probe_show(value), "[False, [0, 1]]");
	sb_value_free(value);
	assert_int_equal(live(), 1);
	probe_engine()->settle(table, number, true);
	assert_int_equal(ask(&s, 10, 0, &err, &value), 0);
	assert_int_equal(err, SB_EREFSFULL);
	assert_int_equal(live(), 1);
	number = ask(&s, 10, SB_CALL_AS_REF, &err, &value); /* the same two, otherwise */
	assert_int_equal(err, 0);
	assert_int_equal(sb_value_len(sb_value_at(value, 1)), 2);
	probe_engine()->settle(table, number, true);
	sb_value_free(value);
	probe_table_free(table);
	table = before;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_28_items_of_a_lost_reply_come_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_28_the_exception_of_a_lost_reply_comes_again, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_28_refs_of_a_lost_reply_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_28_what_cannot_be_sent_comes_last, setup, teardown),
	};

	return cmocka_run_group_tests_name("unit.test_engine_streams", tests, probe_start, NULL);
}
