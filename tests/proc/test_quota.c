/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas of calling processes: lanes and bytes. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

struct caller {
	sb_session *session;
	pthread_barrier_t *all_called;
	int err;
};

static void *call_and_stay(void *arg)
{
	struct caller *c = arg;

	c->err = sb_call(c->session, "math:sqrt", sb_args("i", 16), NULL);
	pthread_barrier_wait(c->all_called); /* a thread's lane goes back when it ends */
	return NULL;
}

/* The designated owner's value holds: it is started with the environment that says 3. */
static void test_lanes_per_process(void **state)
{
	struct fixture *f = *state;
	struct caller callers[6];
	pthread_t threads[6];
	pthread_barrier_t barrier;
	unsigned served = 0, refused = 0;
	sb_session *s;

	setenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS", "3", 1);
	s = fixture_session(f->bridge, "lanes", SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_MAX_LANES_PER_PROCESS");
	pthread_barrier_init(&barrier, NULL, 6);
	for (int i = 0; i < 6; i++) {
		callers[i] = (struct caller){ .session = s, .all_called = &barrier };
		assert_int_equal(pthread_create(&threads[i], NULL, call_and_stay, &callers[i]), 0);
	}
	for (int i = 0; i < 6; i++) {
		pthread_join(threads[i], NULL);
		served += callers[i].err == 0;
		refused += callers[i].err == SB_ELANES;
	}
	pthread_barrier_destroy(&barrier);
	assert_int_equal(served, 3);
	assert_int_equal(refused, 3);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL)); /* they have ended: there is room */
	sb_session_close(s);
}

static int send_bytes(sb_session *s, size_t len)
{
	char *bytes = calloc(1, len);
	int err = sb_call(s, "builtins:len", sb_args("y", bytes, len), NULL);

	free(bytes);
	return err;
}

static void test_request_bytes(void **state)
{
	struct fixture *f = *state;
	sb_session *s;

	setenv("SNAKEBRIDGE_MAX_REQUEST_BYTES", "100000", 1);
	s = fixture_session(f->bridge, "bytes", SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_MAX_REQUEST_BYTES");
	assert_ok(send_bytes(s, 90000));
	assert_int_equal(send_bytes(s, 110000), SB_ETOOBIG);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_non_null(strstr(sb_last_error()->message, "max_request_bytes"));
	assert_ok(send_bytes(s, 90000));
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lanes_per_process, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_request_bytes, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
