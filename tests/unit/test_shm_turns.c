/* SPDX-License-Identifier: Apache-2.0 */
/* Turns of callers: whose request is served at once, whose waits aside, and for how long. The test is the owner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "lane_turns.h"
#include "shm_world.h"

#define CALLER     9
#define CALLERS    5
#define TURN_CALLS 64 /* as in lane_turns.c */

/* Where there are few lanes there are no turns. */
static int setup(void **state)
{
	struct shm_world *world;

	if (world_setup(state) != 0)
		return -1;
	world = *state;
	while (sb__mailbox_lanes(world->mailbox) <= 16)
		if (sb__mailbox_grow(world->mailbox, sb__mailbox_lanes(world->mailbox)) != 0)
			return -1;
	return 0;
}

struct caller {
	struct shm_world *world;
	uint32_t lane;
	unsigned calls; /* to make */
	_Atomic unsigned made;
	pthread_t thread;
	int failed;
};

static void *make_calls(void *arg)
{
	struct caller *c = arg;

	for (unsigned i = 0; i < c->calls && !c->failed; i++) {
		enum sb__lane_result result;

		c->failed = world_call(c->world, c->lane, 7, 16, UINT64_C(60000000000), &result) ||
		            result != SB__LANE_REPLIED;
		atomic_fetch_add(&c->made, 1);
	}
	return NULL;
}

static struct sb__lane_shm *lane_of(struct caller *c)
{
	return sb__lane_at(c->world->mailbox, c->lane);
}

static void begin(struct caller *c, struct shm_world *world, unsigned calls)
{
	*c = (struct caller){ .world = world, .calls = calls };
	assert_int_equal(sb__lane_claim(world->mailbox, CALLER, 1, &c->lane), 0);
	assert_int_equal(pthread_create(&c->thread, NULL, make_calls, c), 0);
}

/* Until its request is there and it sleeps, or is about to. */
static void wait_asleep(struct caller *c)
{
	struct sb__lane_shm *l = lane_of(c);

	while (SB__WORD_STATE(sb__load(&l->word)) != SB__LANE_READY || !sb__load32(&l->caller_parked))
		usleep(100);
}

static void end(struct caller *c)
{
	pthread_join(c->thread, NULL);
	assert_int_equal(c->failed, 0);
	sb__lane_unclaim(c->world->mailbox, c->lane);
}

/* Answers; the lane. */
static uint32_t complete(struct shm_world *world, struct sb__accepted *call, uint64_t took_ns)
{
	struct sb__buf reply;

	call->took_ns = took_ns;
	sb__accepted_reply(world->mailbox, call, &reply);
	message_write(&reply, 8, 16);
	assert_true(sb__accepted_complete(world->mailbox, call, &reply, world->arena));
	return call->lane;
}

static uint32_t serve_one(struct shm_world *world, struct sb__taking *at, uint64_t took_ns)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;

	while (sb__mailbox_accept_next(world->mailbox, world->peers, at, scratch, &call) != 1)
		usleep(50);
	return complete(world, &call, took_ns);
}

static void those_that_sleep_are_served_round_robin(void **state)
{
	struct shm_world *world = *state;
	struct sb__taking at = { .cursor = 0 };
	struct caller c[CALLERS];
	uint64_t seen = 0;

	for (unsigned i = 0; i < CALLERS; i++) {
		begin(&c[i], world, 1);
		wait_asleep(&c[i]);
	}
	for (unsigned i = 0; i < CALLERS; i++)
		seen |= UINT64_C(1) << serve_one(world, &at, 0);
	assert_int_equal(__builtin_popcountll(seen), CALLERS);
	assert_false(sb__mailbox_turns(world->mailbox));
	for (unsigned i = 0; i < CALLERS; i++)
		end(&c[i]);
}

/* One is served, the others wait aside; the leader that loses the lead now leaves them where others find them. */
static void what_waits_aside_is_seen_to_wait(void **state)
{
	struct shm_world *world = *state;
	struct sb__taking at = { .cursor = 0 }, other = { .cursor = 0 };
	struct caller c[2];
	uint32_t first;

	for (unsigned i = 0; i < 2; i++) {
		begin(&c[i], world, 1);
		wait_asleep(&c[i]);
	}
	first = serve_one(world, &at, 0);
	assert_true(sb__mailbox_turns(world->mailbox));
	assert_true(sb__mailbox_waiting(world->mailbox));
	assert_int_not_equal(serve_one(world, &other, 0), first);
	assert_false(sb__mailbox_waiting(world->mailbox));
	for (unsigned i = 0; i < 2; i++)
		end(&c[i]);
}

/* Serves until the first call of who waits for longest: how many calls others had before. */
static unsigned served_before(struct shm_world *world, struct sb__taking *at, struct caller *who,
                              uint64_t took_ns)
{
	unsigned n = 0;

	while (n < 10000 && serve_one(world, at, took_ns) != who->lane)
		n++;
	return n;
}

/* Two call on and on; the third, which sleeps, has its turn when one of theirs is over. */
static void a_turn_ends_for_one_that_waits(uint64_t took_ns, unsigned most, struct shm_world *world)
{
	struct sb__taking at = { .cursor = 0, .bell = &world->bell, .now_ns = sb__now_ns() };
	struct caller busy, waits;

	begin(&busy, world, 4000);
	(void)serve_one(world, &at, took_ns);
	begin(&waits, world, 1);
	wait_asleep(&waits);
	assert_true(served_before(world, &at, &waits, took_ns) <= most);
	while (atomic_load(&busy.made) < busy.calls) {
		uint8_t scratch[SB__INLINE_MAX];
		struct sb__accepted call;

		if (sb__mailbox_accept_next(world->mailbox, world->peers, &at, scratch, &call) == 1)
			(void)complete(world, &call, took_ns);
	}
	end(&waits);
	end(&busy);
}

static void a_turn_is_so_many_calls(void **state)
{
	a_turn_ends_for_one_that_waits(0, TURN_CALLS + 1, *state);
}

static void a_turn_is_one_call_that_takes_long(void **state)
{
	a_turn_ends_for_one_that_waits(UINT64_C(5000000), 2, *state);
}

/* Its turn is over after one long call: it is told, and its next request waits for the other's. */
static void a_caller_is_told_that_its_turn_is_over(void **state)
{
	struct shm_world *world = *state;
	struct sb__taking at = { .cursor = 0 };
	struct caller c[3];
	uint32_t order[4];

	for (unsigned i = 0; i < 3; i++) {
		begin(&c[i], world, 2);
		wait_asleep(&c[i]);
	}
	order[0] = serve_one(world, &at, UINT64_C(5000000));
	for (unsigned i = 0; i < 3; i++)
		if (c[i].lane == order[0]) {
			wait_asleep(&c[i]); /* again */
			assert_int_equal(lane_of(&c[i])->turn, SB__TURN_OVER);
		}
	for (unsigned i = 1; i < 4; i++)
		order[i] = serve_one(world, &at, UINT64_C(5000000));
	assert_int_not_equal(order[1], order[0]);
	assert_int_not_equal(order[2], order[0]);
	assert_int_not_equal(order[2], order[1]);
	assert_int_equal(order[3], order[0]);
	(void)serve_one(world, &at, 0);
	(void)serve_one(world, &at, 0);
	for (unsigned i = 0; i < 3; i++)
		end(&c[i]);
}

/* Nobody who has a turn calls: one that is stopped holds up nobody for longer than a moment. */
static void who_does_not_call_loses_its_turn(void **state)
{
	struct shm_world *world = *state;
	struct sb__taking at = { .cursor = 0, .bell = &world->bell, .now_ns = sb__now_ns() };
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;
	struct caller c[CALLERS];

	for (unsigned i = 0; i < CALLERS; i++) {
		begin(&c[i], world, 1);
		wait_asleep(&c[i]);
	}
	/* They have one call to make, so none comes again; and the replies of the first ones look as if nobody took them. */
	for (unsigned i = 0; i < CALLERS; i++) {
		unsigned tries = 0;

		while (sb__mailbox_accept_next(world->mailbox, world->peers, &at, scratch, &call) != 1)
			assert_true(++tries < 100000);
		(void)complete(world, &call, 0);
	}
	for (unsigned i = 0; i < CALLERS; i++)
		end(&c[i]);
}

/* A request that is withdrawn while it waits aside leads to nothing. */
static void one_that_is_withdrawn_leaves_a_bit_that_leads_to_nothing(void **state)
{
	struct shm_world *world = *state;
	struct sb__taking at = { .cursor = 0 };
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;
	struct caller c[2];

	for (unsigned i = 0; i < 2; i++) {
		begin(&c[i], world, 1);
		wait_asleep(&c[i]);
	}
	(void)serve_one(world, &at, 0);
	assert_true(sb__mailbox_turns(world->mailbox));
	sb__mailbox_end(world->mailbox, SB__MAILBOX_RELEASED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(c[i].thread, NULL);
	assert_int_equal(sb__mailbox_accept_next(world->mailbox, world->peers, &at, scratch, &call), 0);
	assert_false(sb__mailbox_turns(world->mailbox));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_that_sleep_are_served_round_robin, setup,
		                                world_teardown),
		cmocka_unit_test_setup_teardown(what_waits_aside_is_seen_to_wait, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_turn_is_so_many_calls, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_turn_is_one_call_that_takes_long, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_caller_is_told_that_its_turn_is_over, setup,
		                                world_teardown),
		cmocka_unit_test_setup_teardown(who_does_not_call_loses_its_turn, setup, world_teardown),
		cmocka_unit_test_setup_teardown(one_that_is_withdrawn_leaves_a_bit_that_leads_to_nothing,
		                                setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
