/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage in everything that a peer can write, while the owner accepts, replies, reclaims and is looked at:
 * nothing may crash (the sanitizers see to the rest), and a clean mailbox in the same process works
 * afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "mailbox_impl.h"
#include "shm_world.h"
#include "snakebridge/error.h"

#define CASES 20000

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Values that break what is not checked: bounds, one beyond them, the largest. */
static uint64_t nasty(void)
{
	static const uint64_t values[] = { 0,
		                           1,
		                           63,
		                           64,
		                           65,
		                           4095,
		                           4096,
		                           4097,
		                           SB__MESSAGE_MAX,
		                           SB__MESSAGE_MAX + 1,
		                           INT32_MAX,
		                           UINT32_MAX,
		                           INT64_MAX,
		                           UINT64_MAX,
		                           UINT64_MAX - 63 };

	return next_random() % 3 ? values[next_random() % (sizeof(values) / sizeof(values[0]))]
	                         : next_random();
}

static void scribble_lane(struct sb__lane_shm *l)
{
	static const unsigned states[] = { SB__LANE_READY, SB__LANE_READY, SB__LANE_READY,
		                           SB__LANE_BUSY,  SB__LANE_DONE,  9 };

	l->request_len = (uint32_t)nasty();
	l->request_spilled = (uint32_t)(next_random() % 2 ? 1 : nasty());
	sb__store(&l->deadline_ns, next_random() % 4 ? UINT64_MAX : nasty());
	l->trace_id = nasty();
	l->request_spill = (struct sb__spill_shm){ (uint32_t)(next_random() % 2 ? 1 : nasty()),
		                                   (uint32_t)(next_random() % 2 ? 1 : nasty()), nasty(),
		                                   nasty() };
	l->caller_pid = (int32_t)nasty();
	memset(l->label, (int)next_random(), sizeof(l->label));
	l->reply_len = (uint32_t)nasty();
	l->reply_spilled = (uint32_t)nasty();
	sb__store32(&l->caller_parked, (unsigned int)nasty());
	sb__store(&l->word,
	          SB__WORD(states[next_random() % 6], nasty(), next_random() % 3, next_random() % 3));
}

static void scribble_control(struct sb__mailbox_control_shm *c)
{
	sb__store(&c->lane_count, nasty());
	sb__store(&c->ready_summary, next_random());
	for (unsigned i = 0; i < SB__LANES_MAX / 64; i++)
		sb__store(&c->ready[i], next_random() % 4 ? 0 : next_random());
	sb__store(&c->ready[0], next_random());
}

static void accept_and_answer(struct shm_world *world, uint32_t *cursor)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;

	while (sb__mailbox_accept(world->mailbox, world->peers, cursor, scratch, &call) == 1) {
		struct sb__lane_shm *l = sb__lane_at(world->mailbox, call.lane);
		struct sb__buf reply;

		assert_in_range(call.request.len, 0, SB__MESSAGE_MAX);
		sb__accepted_reply(world->mailbox, &call, &reply);
		if (l && next_random() % 4 == 0)
			sb__store(&l->word, next_random()); /* under our hands */
		message_write(&reply, 1, next_random() % 9000);
		(void)sb__accepted_complete(world->mailbox, &call, &reply, world->arena);
	}
}

static void the_owner_survives_garbage_in_its_mailbox(void **state)
{
	struct sb__lane_view views[8];
	struct shm_world world;
	uint32_t cursor = 0;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	assert_int_equal(sb__mailbox_grow(world.mailbox, 4), 0);
	for (int i = 0; i < CASES; i++) {
		scribble_control(world.mailbox->control);
		for (uint32_t lane = 0; lane < 8; lane++)
			scribble_lane(sb__lane_at(world.mailbox, lane));
		if (next_random() % 8 == 0)
			cursor = (uint32_t)nasty();
		accept_and_answer(&world, &cursor);
		(void)sb__mailbox_view(world.mailbox, views, 8);
		(void)sb__mailbox_reclaim(world.mailbox, (uint32_t)next_random() % 3,
		                          (uint32_t)next_random() % 3, next_random() % 2);
		sb__mailbox_sweep_replies(world.mailbox, world.arena);
		if (i % 1000 == 0)
			(void)sb__mailbox_touch(world.mailbox, sb__now_coarse_ms());
	}
	world_close(&world);
}

static void a_caller_survives_garbage_for_a_reply(void **state)
{
	struct shm_world world;
	uint32_t lane;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	assert_int_equal(sb__lane_claim(world.mailbox, 1, 1, &lane), 0);
	for (int i = 0; i < CASES; i++) {
		struct sb__lane_shm *l = sb__lane_at(world.mailbox, lane);
		uint8_t memory[100];
		struct sb__buf buf;

		l->reply_len = (uint32_t)nasty();
		l->reply_spilled = (uint32_t)(next_random() % 2 ? 0 : nasty());
		l->reply_spill = (struct sb__spill_shm){ (uint32_t)nasty(), (uint32_t)nasty(), nasty(),
			                                 nasty() };
		sb__store(&l->word, SB__WORD(SB__LANE_DONE, nasty(), 1, 1));
		sb__buf_init(&buf, memory, sizeof(memory));
		(void)sb__lane_reply(world.mailbox, lane, world.peers, &buf);
		assert_in_range(buf.len, 0, SB__INLINE_MAX);
		sb__lane_consume(world.mailbox, lane);
		sb__buf_free(&buf);
	}
	world_close(&world);
}

static void the_leader_survives_garbage_in_its_bell(void **state)
{
	struct shm_world world;
	uint32_t cursor = 0;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	for (int i = 0; i < CASES; i++) {
		uint64_t *words = (uint64_t *)&world.bell.shm->bell; /* the page that callers write */
		size_t count = (sizeof(struct sb__bell_shm) - SB__PAGE) / 8;

		for (int k = 0; k < 20; k++)
			words[next_random() % count] = nasty();
		if (next_random() % 8 == 0)
			cursor = (uint32_t)nasty();
		for (int k = 0; k < 100; k++)
			assert_in_range(sb__bell_take(&world.bell, &cursor) + 1, 0, SB__BELL_SESSIONS);
		(void)sb__bell_sleep(&world.bell, 1000, 1000);
		sb__bell_ring(&world.bell, (uint32_t)nasty());
		(void)sb__bell_owner_died(&world.bell);
	}
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_owner_survives_garbage_in_its_mailbox),
		cmocka_unit_test(a_caller_survives_garbage_for_a_reply),
		cmocka_unit_test(the_leader_survives_garbage_in_its_bell),
	};

	return cmocka_run_group_tests_name("shm_hostile", tests, NULL, NULL);
}
