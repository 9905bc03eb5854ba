/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of holds and the reclaiming of lanes as threads on one mapping, where ThreadSanitizer sees every access. A
 * writer names a block in its memory to keepers, which keep it, write into it and give it back; when nobody keeps it the
 * writer fills it anew. A keeper "dies" now and then: it leaves its hold to a reaper.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "holds.h"
#include "shm_world.h"

enum { KEEPERS = 4, ROUNDS = 3000, OFFSET = 64 };

static struct sb__holds_shm *holds;
static uint64_t block;         /* plain memory: what is kept */
static _Atomic uint64_t named; /* round in which the writer offers it; 0: it does not */
static _Atomic unsigned keepers_inside;
static _Atomic bool stop;

static void any(void *arg, uint64_t word)
{
	(void)word;
	*(bool *)arg = true;
}

/* Waits until nobody keeps the block: then it is the writer's alone. */
static void wait_until_free(void)
{
	for (;;) {
		bool found = false;

		if (sb__holds_each(holds, any, &found) && !found)
			return;
		sched_yield();
	}
}

static void *keep(void *arg)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg, hint = slot;
	uint64_t sum = 0;

	for (unsigned i = 0; !atomic_load(&stop); i++) {
		uint64_t word = SB__HOLD(slot, 1, OFFSET), round = atomic_load(&named);
		uint32_t entry;

		if (!round || sb__holds_take(holds, word, &hint, &entry) != 0) {
			sched_yield();
			continue;
		}
		sb__barrier(); /* between the take and the look: does the message still stand? */
		if (atomic_load(&named) == round) {
			atomic_fetch_add(&keepers_inside, 1);
			sum += block;
			atomic_fetch_sub(&keepers_inside, 1);
		}
		if (i % 16 == 0)
			(void)sb__holds_clear(holds, slot, 1); /* as the reaper does for the dead */
		else
			sb__holds_give(holds, entry, word);
	}
	return (void *)(uintptr_t)(sum == UINT64_MAX);
}

static void a_block_that_is_kept_is_not_written(void **state)
{
	struct shm_world *world = *state;
	pthread_t threads[KEEPERS];

	assert_int_equal(sb__holds_create(world->arena_dir, 1, 1, &holds), 0);
	for (unsigned i = 0; i < KEEPERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, keep, (void *)(uintptr_t)(10 + i)), 0);
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		block = round;
		atomic_store(&named, round);
		sched_yield();
		atomic_store(&named, 0); /* first the message is over */
		sb__barrier();
		wait_until_free();
		assert_int_equal(atomic_load(&keepers_inside), 0);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < KEEPERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(sb__load(&holds->takes) > 0, 1);
	sb__holds_detach(holds);
}

/* ── lanes of the dead, beside those of the living ── */

enum { DEATHS = 300, DYING_SLOT = 200 };

static _Atomic uint32_t dead; /* generations of DYING_SLOT up to this one have claimed and died */

/* One process after the other in the same slot: each claims a lane and does nothing ever after. */
static void *die_claiming(void *arg)
{
	struct shm_world *world = arg;
	uint32_t lane;

	for (uint32_t generation = 1; generation <= DEATHS; generation++) {
		if (sb__lane_claim(world->mailbox, DYING_SLOT, generation, &lane) != 0)
			return world;
		atomic_store(&dead, generation);
	}
	return NULL;
}

/* Reclaims of the dead alone, as the reaper does: who still writes is not dead. */
static void *reap(void *arg)
{
	struct shm_world *world = arg;
	uint32_t reaped = 0;

	while (reaped < DEATHS) {
		if (reaped < atomic_load(&dead)) {
			reaped++;
			if (sb__mailbox_reclaim(world->mailbox, DYING_SLOT, reaped, false) != 1)
				return world;
		} else {
			sched_yield();
		}
	}
	return NULL;
}

static void lanes_are_reclaimed_beside_calls(void **state)
{
	struct shm_world *world = *state;
	pthread_t server, reaper, dying;
	void *failed;
	uint32_t lane;

	atomic_store(&dead, 0);
	assert_int_equal(pthread_create(&server, NULL, world_serve_thread, world), 0);
	assert_int_equal(pthread_create(&reaper, NULL, reap, world), 0);
	assert_int_equal(pthread_create(&dying, NULL, die_claiming, world), 0);
	assert_int_equal(sb__lane_claim(world->mailbox, 10, 1, &lane), 0);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(world_call(world, lane, i, 16, UINT64_C(60000000000), NULL), 0);
	pthread_join(dying, &failed);
	assert_null(failed);
	pthread_join(reaper, &failed);
	assert_null(failed);
	assert_int_equal(world_claimed(world), 1);
	sb__lane_unclaim(world->mailbox, lane);
	world_stop(world);
	pthread_join(server, &failed);
	assert_null(failed);
	assert_int_equal(world_claimed(world), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_block_that_is_kept_is_not_written, world_setup,
		                                world_teardown),
		cmocka_unit_test_setup_teardown(lanes_are_reclaimed_beside_calls, world_setup,
		                                world_teardown),
	};

	return cmocka_run_group_tests_name("holds_threads", tests, NULL, NULL);
}
