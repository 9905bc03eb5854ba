/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge whose process slots are all taken by the dead, and no reaper runs: whoever attaches tidies. A filler attaches
 * to every slot that is left, owns a session from each, and is killed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "hand.h"

enum { ATTACHING = 16 };

static int hold(void *arg, uint32_t slot)
{
	struct hand *hand = arg;

	return sb__life_hold(hand->dir.boot, slot,
	                     &hand->pin); /* one pin is as good as another: all die with us */
}

static void drop(void *arg, uint32_t slot)
{
	struct hand *hand = arg;

	(void)slot;
	sb__life_drop(hand->pin);
}

/* In a process of its own. 0 once no slot is free. */
static int fill(void *arg)
{
	const struct fixture *f = arg;
	struct sb__session_rec session;
	struct hand hand;
	int err = hand_open(&hand, f->dir);

	if (!err && sb__store_session_get(hand.store, "full", &session) != 1)
		err = SB_ENOSESSION;
	while (!err) {
		struct sb__owner_rec owner = { .session_uid = session.uid, .joined_wall_ms = sb__wall_ms() };

		err = sb__identity_self(&hand.self);
		if (!err)
			err = sb__store_process_add(hand.store, &hand.self, hold, drop, &hand);
		if (err == SB_EPROCESSES)
			return 0;
		owner.slot = hand.self.slot;
		owner.generation = hand.self.generation;
		owner.handle = 1;
		owner.pid = hand.self.pid;
		if (!err && sb__store_owner_add(hand.store, "full", &owner) != 1)
			err = SB_EBUG;
	}
	fprintf(stderr, "filler: %s\n", sb_last_error()->message);
	return 1;
}

static int use(void *arg)
{
	sb_session *s = arg;
	sb_value *v = NULL;
	int64_t n = 0;

	if (sb_call(s, "operator:add", sb_args("ii", 40, 2), &v) || sb_value_int(v, &n) || n != 42) {
		fprintf(stderr, "attaching: %s\n", sb_last_error()->message);
		return 1;
	}
	return 0;
}

static void test_31_slots_of_the_dead_are_taken_again(void **state)
{
	struct fixture *f = *state;
	sb_session *s;
	pid_t pids[ATTACHING];

	setenv("SNAKEBRIDGE_SWEEP_MS", "0", 1); /* for the dedicated owner: it must not help */
	s = fixture_session(f->bridge, "full", SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_SWEEP_MS");
	assert_int_equal(fixture_wait(fixture_fork(fill, f)), 0);
	for (int i = 0; i < ATTACHING; i++)
		pids[i] = fixture_fork(use, s);
	for (int i = 0; i < ATTACHING; i++)
		assert_int_equal(fixture_wait(pids[i]), 0);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL), 0);
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_31_slots_of_the_dead_are_taken_again, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
