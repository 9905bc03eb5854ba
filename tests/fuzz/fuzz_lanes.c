/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mailbox in use whose peer writes what it likes: a real one, mapped twice (the owner's view, the caller's), whose control page
 * and lanes get the input's bytes between steps of the owner and of a caller. All that the owner keeps is private, so a lane that
 * nobody touched works as ever, which is tried at the end of each input.
 *
 * Input: operations of one byte each, with what they need behind.
 */
#include "fuzz.h"

#include "mailbox_impl.h"
#include "shm_world.h"
#include "snakebridge/error.h"

#define LANES 8u
#define OPS   64

static struct shm_world world, caller;
static bool ready;

static void set_up(void)
{
	if (ready)
		return;
	if (world_open(&world, NULL) != 0 || sb__mailbox_grow(world.mailbox, 4) != 0 ||
	    world_join(&world, 2, &caller) != 0)
		abort();
	ready = true;
}

__attribute__((destructor)) static void tear_down(void)
{
	if (!ready)
		return;
	world_leave(&caller);
	world_close(&world);
}

/* Every lane free, every bit clear: inputs do not depend on those before. */
static void reset(void)
{
	struct sb__mailbox_control_shm *control = world.mailbox->control;

	memset((void *)control, 0, sizeof(*control));
	sb__store(&control->state, SB__MAILBOX_SERVING);
	sb__store(&control->lane_count, LANES);
	for (uint32_t i = 0; i < LANES; i++) {
		struct sb__lane_shm *l = sb__lane_at(world.mailbox, i);

		memset((void *)l, 0, sizeof(*l) - 2 * SB__INLINE_MAX);
	}
	sb__mailbox_revoke_replies(world.mailbox);
	memset((void *)&world.bell.shm->bell, 0,
	       sizeof(*world.bell.shm) - offsetof(struct sb__bell_shm, bell));
}

static void accept(struct fuzz_in *in, uint32_t *cursor)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;

	for (unsigned i = 0;
	     i < LANES && sb__mailbox_accept(world.mailbox, world.peers, cursor, scratch, &call) == 1; i++) {
		uint8_t how = fuzz_u8(in);
		struct sb__buf reply;

		FUZZ_CHECK(call.lane < SB__LANES_MAX && call.request.len <= SB__MESSAGE_MAX);
		(void)sb__accepted_stands(world.mailbox, &call);
		if (how & 1) /* under our hands */
			sb__store(&sb__lane_at(world.mailbox, call.lane)->word, fuzz_u64(in));
		sb__accepted_reply(world.mailbox, &call, &reply);
		message_write(&reply, 1, how & 2 ? 9000 : how);
		(void)sb__accepted_complete(world.mailbox, &call, &reply, world.arena);
	}
}

static void take_reply(uint32_t lane)
{
	uint8_t memory[100];
	struct sb__buf buf;

	sb__buf_init(&buf, memory, sizeof(memory));
	sb__lane_notes(caller.mailbox, lane)->claim =
		SB__WORD_CLAIM(sb__load(&sb__lane_at(caller.mailbox, lane)->word)) | SB__CLAIMED;
	(void)sb__lane_reply(caller.mailbox, lane, caller.peers, &buf);
	FUZZ_CHECK(buf.len <= SB__MESSAGE_MAX);
	(void)sb__lane_reply_stands(caller.mailbox, lane);
	sb__lane_consume(caller.mailbox, lane);
	sb__buf_free(&buf);
	sb__lane_notes(caller.mailbox, lane)->claim = 0;
}

static void visit(void *arg, uint64_t key)
{
	(void)arg;
	FUZZ_CHECK(key != 0);
}

static void look(struct fuzz_in *in)
{
	struct sb__lane_view views[LANES];
	uint32_t removed, asked, seen = sb__mailbox_view(caller.mailbox, views, LANES);

	for (uint32_t i = 0; i < seen && i < LANES; i++)
		FUZZ_CHECK(memchr(views[i].label, '\0', sizeof(views[i].label)));
	sb__mailbox_cancel(caller.mailbox, &caller.bell, fuzz_u64(in), &removed, &asked);
	sb__mailbox_unwanted(world.mailbox, true, visit, NULL);
	(void)sb__mailbox_attention_count(world.mailbox);
	(void)sb__lane_call_over(world.mailbox, fuzz_u32(in), fuzz_u64(in));
}

/* Bytes into the lane's head or its request; where READY is written its bits are set most of the time. */
static void write_lane(struct fuzz_in *in)
{
	uint8_t at = fuzz_u8(in), len = fuzz_u8(in), what = fuzz_u8(in);
	struct sb__lane_shm *l = sb__lane_at(caller.mailbox, at % LANES);
	uint8_t *to = (uint8_t *)l;
	size_t from = (at / LANES) * 8u;

	fuzz_bytes(in, to + from, from + len <= offsetof(struct sb__lane_shm, request) + 64 ? len : 8);
	if (what & 1)
		sb__store(&l->word, SB__WORD(what / 16 % 8, what, fuzz_u8(in) % 3, 1));
	if (what & 2)
		sb__store(&l->deadline_ns, UINT64_MAX);
	if (what & 4)
		sb__lane_announce(caller.mailbox, at % LANES);
}

static void write_control(struct fuzz_in *in)
{
	uint8_t *to = (uint8_t *)world.mailbox->control;
	uint32_t at = fuzz_u32(in) % (offsetof(struct sb__mailbox_control_shm, calls) - 8);

	if (fuzz_u8(in) & 1)
		sb__store(&world.mailbox->control->lane_count, at);
	else
		fuzz_bytes(in, to + at, 8);
}

/* A lane of an honest caller, before and after: still works. */
static void honest_call(void)
{
	struct sb__lane_post post = { .deadline_ns = UINT64_MAX, .label = "honest", .arena = caller.arena };
	struct sb__flight flight;
	struct sb__buf buf;
	uint32_t lane, cursor = 0;

	reset();
	FUZZ_CHECK(sb__lane_claim(caller.mailbox, 2, 1, &lane) == 0);
	sb__lane_request(caller.mailbox, lane, &buf);
	message_write(&buf, 7, 11);
	FUZZ_CHECK(sb__flight_post(&flight, caller.mailbox, &caller.bell, lane, &buf, &post, NULL, NULL) ==
	           0);
	FUZZ_CHECK(world_serve_pending(&world, &cursor) == 1);
	FUZZ_CHECK(sb__flight_poll(&flight) && flight.result == SB__LANE_REPLIED);
	sb__buf_init(&buf, NULL, 0);
	FUZZ_CHECK(sb__lane_reply(caller.mailbox, lane, caller.peers, &buf) == 0);
	FUZZ_CHECK(message_is(&buf, 8, 11));
	sb__buf_free(&buf);
	sb__lane_consume(caller.mailbox, lane);
	sb__lane_unclaim(caller.mailbox, lane);
}

static void step(struct fuzz_in *in, uint32_t *cursor)
{
	uint8_t op = fuzz_u8(in);

	switch (op % 12) {
	case 0:
	case 1:
	case 2: write_lane(in); break;
	case 3: write_control(in); break;
	case 4:
	case 5:
	case 6: accept(in, cursor); break;
	case 7: take_reply(op / 12 % LANES); break;
	case 8: look(in); break;
	case 9: (void)sb__mailbox_reclaim(world.mailbox, op / 12 % 3, 1, op & 64); break;
	case 10: sb__mailbox_sweep_replies(world.mailbox, world.arena); break;
	default: *cursor = fuzz_u32(in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint32_t cursor = 0;

	set_up();
	reset();
	for (int i = 0; i < OPS && in.len > 0; i++)
		step(&in, &cursor);
	honest_call();
	return 0;
}
