/* SPDX-License-Identifier: Apache-2.0 */
/* The lane and bell protocol as threads on one mapping, where ThreadSanitizer sees every access. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm_world.h"

#define CALLERS 8
#define CALLS   200000 /* in all */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWER 5
#else
#define SLOWER 1
#endif

struct caller {
	struct shm_world *world;
	pthread_t thread;
	uint32_t slot;
	unsigned calls;
	size_t bytes_max;
	int err;
};

/* Sizes go round from nothing to bytes_max, so that some are inline and some spill. */
static void *call_many(void *arg)
{
	struct caller *c = arg;
	uint32_t lane;

	c->err = sb__lane_claim(c->world->mailbox, c->slot, 1, &lane);
	for (unsigned i = 0; i < c->calls && c->err == 0; i++)
		c->err = world_call(c->world, lane, (uint64_t)c->slot << 32 | i, i * 37u % (c->bytes_max + 1),
		                    UINT64_C(60000000000), NULL);
	if (c->err == 0)
		sb__lane_unclaim(c->world->mailbox, lane);
	return NULL;
}

static void run(unsigned calls_each, size_t bytes_max, unsigned servers)
{
	struct caller callers[CALLERS];
	pthread_t server[2];
	struct shm_world world;
	void *failed;

	assert_int_equal(world_open(&world, NULL), 0);
	assert_int_equal(pthread_create(&server[0], NULL, world_serve_thread, &world), 0);
	for (unsigned i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){
			.world = &world, .slot = 10 + i, .calls = calls_each, .bytes_max = bytes_max
		};
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call_many, &callers[i]), 0);
	}
	if (servers > 1) { /* beside the leader, as a service thread in a batch would */
		uint32_t cursor = 2;

		while (atomic_load(&world.served) < CALLERS * calls_each)
			world_serve_pending(&world, &cursor);
	}
	for (unsigned i = 0; i < CALLERS; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].err, 0);
	}
	world_stop(&world);
	pthread_join(server[0], &failed);
	assert_null(failed);
	assert_int_equal(world.garbled, 0);
	assert_int_equal(world.served, CALLERS * calls_each);
	assert_int_equal(world_claimed(&world), 0);
	sb__mailbox_sweep_replies(world.mailbox, world.arena);
	assert_int_equal(sb__arena_in_use(world.arena), 0);
	world_close(&world);
}

static void each_reply_matches_its_request(void **state)
{
	(void)state;
	run(CALLS / CALLERS / SLOWER, 64, 1);
}

static void also_when_messages_spill(void **state)
{
	(void)state;
	run(400 / SLOWER, 20000, 1);
}

static void also_with_two_service_threads(void **state)
{
	(void)state;
	run(4000 / SLOWER, 5000, 2);
}

/* Callers that come and go, and give up early, while the server serves. */
static void *claim_call_unclaim(void *arg)
{
	struct caller *c = arg;

	for (unsigned i = 0; i < c->calls && c->err == 0; i++) {
		enum sb__lane_result result = SB__LANE_NOT_STARTED;
		uint32_t lane;

		c->err = sb__lane_claim(c->world->mailbox, c->slot, 1, &lane);
		if (c->err)
			break;
		c->err = world_call(c->world, lane, i, 16, i % 3 ? UINT64_C(60000000000) : i * 100, &result);
		if (result != SB__LANE_MAYBE) /* given up while it ran: the server frees it, for anyone */
			sb__lane_unclaim(c->world->mailbox, lane);
	}
	return NULL;
}

static void giving_up_leaks_no_lane(void **state)
{
	struct caller callers[CALLERS];
	struct shm_world world;
	pthread_t server;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	assert_int_equal(pthread_create(&server, NULL, world_serve_thread, &world), 0);
	for (unsigned i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .world = &world, .slot = 10 + i, .calls = 2000 / SLOWER };
		assert_int_equal(pthread_create(&callers[i].thread, NULL, claim_call_unclaim, &callers[i]),
		                 0);
	}
	for (unsigned i = 0; i < CALLERS; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].err, 0);
	}
	world_stop(&world);
	pthread_join(server, NULL);
	assert_int_equal(world.garbled, 0);
	assert_int_equal(world_claimed(&world), 0);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_reply_matches_its_request),
		cmocka_unit_test(also_when_messages_spill),
		cmocka_unit_test(also_with_two_service_threads),
		cmocka_unit_test(giving_up_leaks_no_lane),
	};

	return cmocka_run_group_tests_name("shm_threads", tests, NULL, NULL);
}
