/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas of calling processes: lanes, bytes and refs. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ── refs ── */

static sb_session *open_with_quota(struct fixture *f, sb_designated designated, int64_t quota)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = "refs";
	o.designated = designated;
	o.max_refs_per_process = quota;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	return s;
}

/* Makes one; no CMocka, for children use it too. */
static int make(sb_session *s, sb_ref *ret)
{
	sb_value *v = NULL;
	int err = sb_call(s, "builtins:object", NULL, &v);

	if (!err)
		*ret = *sb_value_ref(v);
	sb_value_free(v);
	return err;
}

/* Three fit, the fourth does not; one released makes room for one. */
static int make_three(void *arg)
{
	sb_session *s = arg;
	sb_ref refs[4];

	for (int i = 0; i < 3; i++)
		if (make(s, &refs[i]))
			return 10 + i;
	if (make(s, &refs[3]) != SB_EREFSFULL || !strstr(sb_last_error()->message, "max_refs_per_process"))
		return 20;
	if (sb_call(s, "builtins:eval", sb_args("s{}", "[object()]"), NULL) != SB_EREFSFULL)
		return 21;
	if (sb_call(s, "math:sqrt", sb_args("i", 16), NULL)) /* values need no refs */
		return 22;
	if (sb_method(s, &refs[0], "__repr__", NULL, NULL)) /* nothing was evicted for it */
		return 23;
	if (sb_ref_release(s, &refs[1], NULL) || make(s, &refs[1]))
		return 24;
	return make(s, &refs[3]) == SB_EREFSFULL ? 0 : 25;
}

/* Each process has its own quota. What a dead or closed one made stays, and counts for nobody. */
static void refs_per_process(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs_per_process, 3);
	assert_int_equal(make_three(s), 0);
	for (int i = 0; i < 3; i++) /* they have the same slot of the bridge, one after the other */
		assert_int_equal(fixture_wait(fixture_fork(make_three, s)), 0);
	assert_int_equal(sb_call(s, "builtins:object", NULL, NULL), SB_EREFSFULL);
	for (int i = 0; i < 1000; i++) { /* the count is written behind */
		assert_ok(sb_session_get_info(s, &info));
		if (info.live_refs == 12)
			break;
		usleep(10000);
	}
	assert_int_equal(info.live_refs, 12);
	sb_session_close(s);
}

static void test_refs_per_process_here(void **state)
{
	refs_per_process(open_with_quota(*state, SB_DESIGNATED_SELF, 3));
}

static void test_refs_per_process_there(void **state)
{
	refs_per_process(open_with_quota(*state, SB_DESIGNATED_DEDICATED, 3));
}

static void test_refs_quota_is_an_option(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = open_with_quota(f, SB_DESIGNATED_SELF, 3), *again = NULL;
	sb_session_info info = { .size = sizeof(info) };
	sb_bridge *bridge;

	o.session_id = "refs";
	o.max_refs_per_process = 4;
	assert_int_equal(sb_session_open(f->bridge, &o, &again), SB_EOPTION);
	assert_non_null(strstr(sb_last_error()->message, "max_refs_per_process"));
	o.max_refs_per_process = -2;
	assert_int_equal(sb_session_open(f->bridge, &o, &again), SB_EINVAL);
	o.max_refs_per_process = SB_UNSET;
	assert_ok(sb_session_open(f->bridge, &o, &again));
	sb_session_close(again);
	sb_session_close(s);

	/* The knob holds for sessions that say nothing. */
	sb_bridge_close(f->bridge);
	assert_ok(sb_config_set("max_refs_per_process", 2));
	assert_ok(sb_bridge_open(f->dir, NULL, &bridge));
	assert_ok(sb_config_set("max_refs_per_process", 0));
	f->bridge = bridge;
	assert_ok(sb_session_open(bridge, &o, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs_per_process, 2);
	sb_session_close(s);
	o.max_refs_per_process = 0; /* no quota, whatever the knob says */
	assert_ok(sb_session_open(bridge, &o, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_refs_per_process, 0);
	sb_session_close(s);
}

/* ── without a quota: what is left to the others ── */

#define ALL 16

static sb_session *open_full(struct fixture *f, sb_on_full on_full)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = "share";
	o.max_refs = ALL;
	o.on_full = on_full;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	return s;
}

/* Makes more than there can be; keeps the newest. */
static int be_greedy(void *arg)
{
	sb_session *s = arg;
	sb_ref ref;

	for (int i = 0; i < 5 * ALL; i++)
		if (make(s, &ref))
			return 1;
	return sb_method(s, &ref, "__repr__", NULL, NULL) ? 2 : 0;
}

static void test_17_a_greedy_process_evicts_its_own_refs(void **state)
{
	sb_session *s = open_full(*state, SB_ON_FULL_EVICT);
	sb_ref mine[2], more;

	assert_ok(make(s, &mine[0]));
	assert_ok(make(s, &mine[1]));
	assert_int_equal(fixture_wait(fixture_fork(be_greedy, s)), 0);
	assert_ok(sb_method(s, &mine[0], "__repr__", NULL, NULL)); /* though they are the oldest */
	assert_ok(sb_method(s, &mine[1], "__repr__", NULL, NULL));
	assert_ok(make(s, &more));
	assert_ok(sb_method(s, &mine[0], "__repr__", NULL,
	                    NULL)); /* as in any session: the least recently used goes */
	sb_session_close(s);
}

/* Alone: all of them, on_full = error or not. */
static void test_17_one_process_may_have_all(void **state)
{
	sb_session *s = open_full(*state, SB_ON_FULL_ERROR);
	sb_ref refs[ALL + 1];

	for (int i = 0; i < ALL; i++)
		assert_ok(make(s, &refs[i]));
	assert_int_equal(make(s, &refs[ALL]), SB_EREFSFULL);
	sb_session_close(s);
	s = open_full(*state, SB_ON_FULL_EVICT);
	for (int i = 0; i <= ALL; i++)
		assert_ok(make(s, &refs[i]));
	assert_int_equal(sb_method(s, &refs[0], "__repr__", NULL, NULL), SB_EREFEVICTED);
	for (int i = 1; i <= ALL; i++)
		assert_ok(sb_method(s, &refs[i], "__repr__", NULL, NULL));
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lanes_per_process, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_request_bytes, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_17_a_greedy_process_evicts_its_own_refs, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_17_one_process_may_have_all, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refs_per_process_here, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refs_per_process_there, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_refs_quota_is_an_option, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
