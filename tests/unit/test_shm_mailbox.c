/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes and mailbox files in one process: every transition of a lane, growth, ending, reclaim, and bad
 * files. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "mailbox_impl.h"
#include "message.h"
#include "shm_world.h"
#include "snakebridge/error.h"

#define CALLER 9

static struct sb__lane_shm *lane_of(struct shm_world *world, uint32_t lane)
{
	struct sb__lane_shm *l;

	if (sb__mailbox_lanes(world->mailbox) == 0)
		(void)sb__mailbox_grow(world->mailbox, 0);
	l = sb__lane_at(world->mailbox, lane);
	if (!l)
		abort();
	return l;
}

static unsigned state_of(struct shm_world *world, uint32_t lane)
{
	return SB__WORD_STATE(sb__load(&lane_of(world, lane)->word));
}

static uint32_t claim(struct shm_world *world)
{
	uint32_t lane;

	assert_int_equal(sb__lane_claim(world->mailbox, CALLER, 1, &lane), 0);
	return lane;
}

/* A call that runs in a thread, so that the test can be its owner. */
struct call {
	struct shm_world *world;
	uint32_t lane;
	size_t bytes;
	uint64_t timeout_ns;
	pthread_t thread;
	enum sb__lane_result result;
	int err;
};

static void *call_thread(void *arg)
{
	struct call *c = arg;

	c->err = world_call(c->world, c->lane, 7, c->bytes, c->timeout_ns, &c->result);
	return NULL;
}

static void call_begin(struct call *c, struct shm_world *world, uint32_t lane, size_t bytes)
{
	*c = (struct call){
		.world = world, .lane = lane, .bytes = bytes, .timeout_ns = UINT64_C(60000000000)
	};
	assert_int_equal(pthread_create(&c->thread, NULL, call_thread, c), 0);
}

static enum sb__lane_result call_end(struct call *c)
{
	pthread_join(c->thread, NULL);
	assert_int_equal(c->err, 0);
	return c->result;
}

static void wait_for(struct shm_world *world, uint32_t lane, unsigned state)
{
	while (state_of(world, lane) != state)
		usleep(100);
}

/* Waits for the request of a call that began, and takes it. scratch: SB__INLINE_MAX bytes. */
static void accept_one(struct shm_world *world, void *scratch, struct sb__accepted *ret)
{
	uint32_t cursor = 0;

	while (sb__mailbox_accept(world->mailbox, world->peers, &cursor, scratch, ret) != 1)
		usleep(100);
}

static bool answer(struct shm_world *world, struct sb__accepted *call, size_t bytes)
{
	struct sb__buf reply;

	sb__accepted_reply(world->mailbox, call, &reply);
	message_write(&reply, 8, bytes);
	return sb__accepted_complete(world->mailbox, call, &reply, world->arena);
}

/* ── files ── */

static void the_blocks_of_lanes_meet_without_gaps(void **state)
{
	uint32_t lane = 0;

	(void)state;
	for (uint32_t k = 0; k < SB__LANE_BLOCKS; k++) {
		assert_int_equal(sb__block_first(k), lane);
		assert_int_equal(sb__block_offset(k) % SB__PAGE, 0);
		assert_int_equal(sb__block_of_lane(lane), k);
		lane += sb__block_lanes(k);
		assert_int_equal(sb__block_of_lane(lane - 1), k);
		assert_int_equal(sb__block_offset(k) + sb__block_size(k), sb__block_offset(k + 1));
	}
	assert_int_equal(lane, SB__LANES_MAX);
	assert_int_equal(sb__layout_fingerprint(), sb__layout_fingerprint());
	assert_int_not_equal(sb__layout_fingerprint(), 0);
}

static void others_read_the_header_that_was_written(void **state)
{
	struct shm_world *world = *state, other;
	const struct sb__mailbox_header_shm *h;

	assert_int_equal(world_join(world, 5, &other), 0);
	h = sb__mailbox_header(other.mailbox);
	assert_int_equal(h->incarnation, WORLD_INCARNATION);
	assert_string_equal(h->session_id, "world");
	assert_int_equal(h->bell_index, WORLD_BELL_INDEX);
	assert_int_equal(h->owner.pid, getpid());
	assert_int_equal(other.bell.owner.slot, world->owner.slot);
	assert_int_equal(sb__mailbox_state(other.mailbox), SB__MAILBOX_SERVING);
	world_leave(&other);
}

static void patch_file(struct shm_world *world, off_t at, const void *bytes, size_t len)
{
	int fd = openat(world->mailbox_dir, "000000000000002a", O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, at), len);
	close(fd);
}

#define HEADER_AT(field) (off_t) offsetof(struct sb__mailbox_header_shm, field)

static void bad_files_are_refused_each_with_its_code(void **state)
{
	struct shm_world *world = *state;
	const uint32_t wrong = 0xffffffff;
	struct sb__mailbox *m;

	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, 43, &m), SB_ERELEASED);
	patch_file(world, HEADER_AT(session_id_len), &wrong, 4);
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, WORLD_INCARNATION, &m), SB_EPROTOCOL);
	patch_file(world, HEADER_AT(fingerprint), &wrong, 4);
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, WORLD_INCARNATION, &m), SB_EVERSION);
	patch_file(world, HEADER_AT(magic), &wrong, 4);
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, WORLD_INCARNATION, &m), SB_EPROTOCOL);
	close(openat(world->mailbox_dir, "000000000000002b", O_RDWR | O_CREAT, 0600));
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, 43, &m),
	                 SB_EPROTOCOL); /* shorter than a header */
	assert_int_equal(symlinkat("000000000000002a", world->mailbox_dir, "000000000000002c"), 0);
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, 44, &m), SB_EMODE);
	assert_string_not_equal(sb_last_error()->message, "");
}

static void unlink_takes_mailbox_and_rows(void **state)
{
	struct shm_world *world = *state;

	close(openat(world->mailbox_dir, "000000000000002a.refs", O_RDWR | O_CREAT, 0600));
	assert_int_equal(sb__mailbox_unlink(world->mailbox_dir, WORLD_INCARNATION), 0);
	assert_int_equal(faccessat(world->mailbox_dir, "000000000000002a", F_OK, 0), -1);
	assert_int_equal(faccessat(world->mailbox_dir, "000000000000002a.refs", F_OK, 0), -1);
	assert_int_equal(sb__mailbox_unlink(world->mailbox_dir, WORLD_INCARNATION), 0);
}

/* A caller that was stopped between its look at the clock and its note. */
static void touching_late_takes_nothing_back(void **state)
{
	struct shm_world *world = *state;
	sb__word *last = &sb__mailbox_control(world->mailbox)->last_access_ms;
	uint64_t noted = sb__now_coarse_ms();

	sb__store(last, noted);
	sb__mailbox_touch(world->mailbox, noted - 3000);
	assert_in_range(sb__load(last), noted, sb__now_ms());
	sb__store(last, UINT64_MAX); /* scribbled: nobody's time */
	sb__mailbox_touch(world->mailbox, noted);
	assert_in_range(sb__load(last), noted, sb__now_ms());
}

static void touching_moves_the_last_access(void **state)
{
	struct shm_world *world = *state;

	sb__store(&sb__mailbox_control(world->mailbox)->last_access_ms, 5);
	sb__mailbox_touch(world->mailbox, sb__now_coarse_ms());
	assert_in_range(sb__load(&sb__mailbox_control(world->mailbox)->last_access_ms), sb__now_ms() - 1000,
	                sb__now_ms());
}

/* ── claiming ── */

static void lanes_are_claimed_and_given_back(void **state)
{
	struct shm_world *world = *state;
	uint32_t a = claim(world), b = claim(world);
	uint64_t word;

	assert_int_not_equal(a, b);
	word = sb__load(&lane_of(world, a)->word);
	assert_int_equal(SB__WORD_SLOT(word), CALLER);
	assert_int_equal(SB__WORD_GEN(word), 1);
	assert_int_equal(world_claimed(world), 2);
	sb__lane_unclaim(world->mailbox, a);
	sb__lane_unclaim(world->mailbox, a);
	assert_int_equal(world_claimed(world), 1);
	assert_int_equal(sb__load(&lane_of(world, a)->word),
	                 SB__WORD(SB__LANE_FREE, SB__WORD_SEQ(word) + 1, 0, 0));
	assert_int_equal(claim(world), a);
}

static void a_lane_given_back_keeps_no_secrets(void **state)
{
	struct shm_world *world = *state;
	static const uint8_t zeroes[SB__INLINE_MAX];
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c;

	call_begin(&c, world, lane, 3000);
	accept_one(world, scratch, &accepted);
	assert_true(answer(world, &accepted, 3000));
	assert_int_equal(call_end(&c), SB__LANE_REPLIED);
	assert_memory_not_equal(lane_of(world, lane)->request, zeroes, sizeof(zeroes));
	sb__lane_unclaim(world->mailbox, lane);
	assert_memory_equal(lane_of(world, lane)->request, zeroes, sizeof(zeroes));
	assert_memory_equal(lane_of(world, lane)->reply, zeroes, sizeof(zeroes));
}

static void a_thousand_lanes_and_then_all_of_them(void **state)
{
	struct shm_world *world = *state, other;
	uint32_t lane = 0;

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(claim(world), i);
	assert_int_equal(sb__mailbox_lanes(world->mailbox), 1024);
	assert_int_equal(world_join(world, 5, &other), 0); /* attached before the rest grows */
	while (sb__lane_claim(world->mailbox, CALLER, 1, &lane) == 0)
		;
	assert_int_equal(lane, SB__LANES_MAX - 1);
	assert_int_equal(sb_last_error()->code, SB_ELANES);
	assert_int_equal(world_claimed(&other), SB__LANES_MAX);
	assert_int_equal(sb__mailbox_reclaim(other.mailbox, CALLER, 1, false), SB__LANES_MAX);
	assert_int_equal(world_claimed(world), 0);
	world_leave(&other);
}

static void calls_work_on_high_lanes(void **state)
{
	struct shm_world *world = *state;
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c[3];
	uint32_t lane = 0;

	while (lane < 300)
		lane = claim(world);
	call_begin(&c[0], world, 299, 10);
	call_begin(&c[1], world, 64, 10);
	call_begin(&c[2], world, 3, 10);
	for (int i = 0; i < 3; i++) {
		accept_one(world, scratch, &accepted);
		assert_true(answer(world, &accepted, 10));
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(call_end(&c[i]), SB__LANE_REPLIED);
}

/* ── a call's ways to end ── */

static void a_request_that_nobody_takes_is_withdrawn(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world), cursor = 0;
	uint8_t scratch[SB__INLINE_MAX];
	enum sb__lane_result result;
	struct sb__accepted accepted;

	assert_int_equal(world_call(world, lane, 7, 16, 3000000, &result), 0);
	assert_int_equal(result, SB__LANE_NOT_STARTED);
	assert_int_equal(state_of(world, lane), SB__LANE_IDLE);
	assert_int_equal(sb__load32(&lane_of(world, lane)->caller_parked), 0);
	/* Its bits are still set; they lead to nothing. */
	assert_int_equal(sb__mailbox_accept(world->mailbox, world->peers, &cursor, scratch, &accepted), 0);
}

static void a_request_past_its_deadline_is_passed_over(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world), cursor = 0;
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c;

	call_begin(&c, world, lane, 16);
	wait_for(world, lane, SB__LANE_READY);
	sb__store(&lane_of(world, lane)->deadline_ns, 1);
	assert_int_equal(sb__mailbox_accept(world->mailbox, world->peers, &cursor, scratch, &accepted), 0);
	assert_int_equal(state_of(world, lane), SB__LANE_READY);
	sb__mailbox_end(world->mailbox, SB__MAILBOX_EXPIRED);
	assert_int_equal(call_end(&c), SB__LANE_ENDED);
}

static void take_next(struct shm_world *world, struct sb__taking *at, void *scratch, struct sb__accepted *ret)
{
	while (sb__mailbox_accept_next(world->mailbox, world->peers, at, scratch, ret) != 1)
		usleep(100);
}

static bool has_bit(struct shm_world *world, uint32_t lane)
{
	return sb__load(&world->mailbox->control->ready[lane / 64]) & UINT64_C(1) << lane % 64;
}

/* One call after the other: the first one's bit is taken, that of those after it stands. */
static void a_lane_that_is_served_again_keeps_its_bit(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__taking at = { .cursor = 0 };
	struct sb__accepted accepted;
	struct call c;

	for (int i = 0; i < 4; i++) {
		call_begin(&c, world, lane, 16);
		take_next(world, &at, scratch, &accepted);
		assert_int_equal(has_bit(world, lane), i > 0);
		assert_true(answer(world, &accepted, 16));
		assert_int_equal(call_end(&c), SB__LANE_REPLIED);
		assert_int_equal(
			sb__mailbox_accept_next(world->mailbox, world->peers, &at, scratch, &accepted), 0);
	}
	/* One that is not to be run loses it. */
	call_begin(&c, world, lane, 16);
	wait_for(world, lane, SB__LANE_READY);
	sb__store(&lane_of(world, lane)->deadline_ns, 1);
	assert_int_equal(sb__mailbox_accept_next(world->mailbox, world->peers, &at, scratch, &accepted), 0);
	assert_int_equal(at.kept, 0); /* its caller may have set it again */
	sb__mailbox_end(world->mailbox, SB__MAILBOX_EXPIRED);
	assert_int_equal(call_end(&c), SB__LANE_ENDED);
}

/* However often the first one calls: the other is served in its turn. */
static void a_kept_bit_holds_nobody_up(void **state)
{
	struct shm_world *world = *state;
	uint32_t first = claim(world), other = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__taking at = { .cursor = 0 };
	struct sb__accepted accepted;
	struct call c, o;

	for (int i = 0; i < 2; i++) {
		call_begin(&c, world, first, 16);
		take_next(world, &at, scratch, &accepted);
		assert_true(answer(world, &accepted, 16));
		assert_int_equal(call_end(&c), SB__LANE_REPLIED);
	}
	assert_true(has_bit(world, first));
	call_begin(&c, world, first, 16);
	call_begin(&o, world, other, 16);
	wait_for(world, first, SB__LANE_READY);
	wait_for(world, other, SB__LANE_READY);
	while (!has_bit(world, other) || !sb__load32(&lane_of(world, first)->caller_parked) ||
	       !sb__load32(&lane_of(world, other)->caller_parked)) /* who is awake goes first */
		usleep(100);
	take_next(world, &at, scratch, &accepted);
	assert_int_equal(accepted.lane, other);
	assert_true(answer(world, &accepted, 16));
	take_next(world, &at, scratch, &accepted);
	assert_int_equal(accepted.lane, first);
	assert_true(answer(world, &accepted, 16));
	assert_int_equal(call_end(&o), SB__LANE_REPLIED);
	assert_int_equal(call_end(&c), SB__LANE_REPLIED);
}

static void a_running_call_is_abandoned_at_its_deadline(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c = { .world = world, .lane = lane, .bytes = 16, .timeout_ns = 200000000 };

	assert_int_equal(pthread_create(&c.thread, NULL, call_thread, &c), 0);
	accept_one(world, scratch, &accepted);
	assert_int_equal(call_end(&c), SB__LANE_MAYBE);
	assert_int_equal(state_of(world, lane), SB__LANE_ABANDONED);
	assert_int_not_equal(claim(world), lane); /* only the owner frees it */
	assert_false(answer(world, &accepted, 9000));
	assert_int_equal(state_of(world, lane), SB__LANE_FREE);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
	assert_int_equal(claim(world), lane);
}

static void an_ended_session_lets_everybody_go(void **state)
{
	struct shm_world *world = *state;
	uint32_t waiting = claim(world), running = claim(world), other;
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	enum sb__lane_result result;
	struct call w, r;

	call_begin(&r, world, running, 16);
	accept_one(world, scratch, &accepted);
	call_begin(&w, world, waiting, 16);
	wait_for(world, waiting, SB__LANE_READY);
	assert_true(sb__mailbox_end(world->mailbox, SB__MAILBOX_RELEASED));
	assert_false(sb__mailbox_end(world->mailbox, SB__MAILBOX_EXPIRED));
	assert_int_equal(sb__mailbox_state(world->mailbox), SB__MAILBOX_RELEASED);
	assert_int_equal(call_end(&w), SB__LANE_ENDED);
	assert_int_equal(call_end(&r), SB__LANE_MAYBE);
	assert_false(answer(world, &accepted, 16));
	assert_int_equal(world_call(world, waiting, 1, 16, FOREVER_NS, &result), 0);
	assert_int_equal(result, SB__LANE_ENDED);
	assert_int_equal(sb__lane_claim(world->mailbox, CALLER, 1, &other), SB_ERELEASED);
}

static void an_owner_that_lets_go_counts_as_dead(void **state)
{
	struct shm_world *world = *state;
	uint32_t waiting = claim(world), running = claim(world), other;
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	enum sb__lane_result result;
	struct call w, r;

	call_begin(&r, world, running, 16);
	accept_one(world, scratch, &accepted);
	call_begin(&w, world, waiting, 16);
	wait_for(world, waiting, SB__LANE_READY);
	assert_true(sb__mailbox_end(world->mailbox, SB__MAILBOX_ORPHANED));
	assert_int_equal(call_end(&w), SB__LANE_DIED_NOT_STARTED);
	assert_int_equal(call_end(&r), SB__LANE_DIED_MAYBE);
	assert_false(answer(world, &accepted, 16));
	assert_int_equal(world_call(world, waiting, 1, 16, FOREVER_NS, &result), 0);
	assert_int_equal(result, SB__LANE_DIED_NOT_STARTED);
	assert_int_equal(sb__lane_claim(world->mailbox, CALLER, 1, &other), SB_EOWNERDIED);
}

static void a_call_on_a_lane_of_others_is_refused(void **state)
{
	struct shm_world *world = *state;

	assert_int_equal(world_call(world, 0, 1, 16, FOREVER_NS, NULL), SB_EBUG);
}

static void what_fits_nowhere_is_refused_before_it_is_sent(void **state)
{
	struct shm_world *world = *state;
	struct sb__lane_post post = { .deadline_ns = FOREVER_NS };
	enum sb__lane_result result;
	uint32_t lane = claim(world);
	struct sb__buf buf;

	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, 1, SB__INLINE_MAX);
	assert_int_equal(sb__lane_call(world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL, &result),
	                 SB_ETOOBIG);
	sb__lane_request(world->mailbox, lane, &buf);
	buf.error = SB_ENOMEM;
	assert_int_equal(sb__lane_call(world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL, &result),
	                 SB_ENOMEM);
	assert_int_equal(state_of(world, lane), SB__LANE_IDLE);
}

static bool never_alive(void *arg)
{
	++*(unsigned *)arg;
	return false;
}

static void the_slow_question_is_asked_and_believed(void **state)
{
	struct shm_world *world = *state;
	struct sb__lane_post post = { .deadline_ns = FOREVER_NS };
	enum sb__lane_result result;
	uint32_t lane = claim(world);
	unsigned asked = 0;
	struct sb__buf buf;

	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, 1, 10);
	assert_int_equal(
		sb__lane_call(world->mailbox, &world->bell, lane, &buf, &post, never_alive, &asked, &result),
		0);
	assert_int_equal(result, SB__LANE_DIED_NOT_STARTED);
	assert_int_equal(asked, 1);
	assert_int_equal(state_of(world, lane), SB__LANE_IDLE);
}

/* ── replies ── */

static void a_reply_that_finds_no_room_is_an_error_for_the_caller(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX], memory[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct sb__buf reply;
	struct call c;
	sb_value *value;

	call_begin(&c, world, lane, 16);
	accept_one(world, scratch, &accepted);
	sb__accepted_reply(world->mailbox, &accepted, &reply);
	message_write(&reply, 8, 10000);
	assert_false(sb__accepted_complete(world->mailbox, &accepted, &reply, NULL));
	pthread_join(c.thread, NULL);
	assert_int_equal(c.result, SB__LANE_REPLIED);
	assert_int_not_equal(c.err, 0); /* no echo; what it is, is still in the lane */
	sb__buf_init(&reply, memory, sizeof(memory));
	sb__buf_append(&reply, lane_of(world, lane)->reply, lane_of(world, lane)->reply_len);
	assert_int_equal(sb__reply_decode(reply.data, reply.len, "world", &value), SB_ETOOBIG);
}

static void reply_blocks_live_until_their_reply_was_taken(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c;

	call_begin(&c, world, lane, 9000);
	accept_one(world, scratch, &accepted);
	assert_true(answer(world, &accepted, 9000));
	assert_int_equal(call_end(&c), SB__LANE_REPLIED);
	assert_in_range(sb__arena_in_use(world->arena), 9000, 9100); /* the request's is free */
	sb__mailbox_sweep_replies(world->mailbox, world->arena);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
}

/* Leaves lane DONE with a spilled reply that was not taken. */
static void reply_and_do_not_take(struct shm_world *world, uint32_t lane)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__lane_shm *l = lane_of(world, lane);
	uint64_t word = sb__load(&l->word);
	struct sb__accepted accepted;

	l->request_len = 0;
	sb__store(&l->deadline_ns, FOREVER_NS);
	sb__store(&l->word, SB__WORD_WITH(word + (UINT64_C(1) << 32), SB__LANE_READY));
	sb__or(&sb__mailbox_control(world->mailbox)->ready[0], UINT64_C(1) << lane);
	accept_one(world, scratch, &accepted);
	assert_true(answer(world, &accepted, 9000));
	assert_int_equal(state_of(world, lane), SB__LANE_DONE);
}

static void an_owner_that_leaves_takes_its_blocks_back(void **state)
{
	struct shm_world *world = *state, other;
	uint8_t memory[64];
	struct sb__buf buf;
	uint32_t lane;

	assert_int_equal(world_join(world, 5, &other), 0);
	assert_int_equal(sb__lane_claim(other.mailbox, CALLER, 1, &lane), 0);
	reply_and_do_not_take(world, lane);
	sb__mailbox_sweep_replies(world->mailbox, world->arena);
	assert_int_not_equal(sb__arena_in_use(world->arena), 0); /* may still be read */
	sb__mailbox_end(world->mailbox, SB__MAILBOX_RELEASED);
	sb__mailbox_detach(world->mailbox);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
	sb__buf_init(&buf, memory, sizeof(memory));
	assert_int_equal(sb__lane_reply(other.mailbox, lane, other.peers, &buf), SB_ERELEASED);
	sb__lane_consume(other.mailbox, lane);
	sb__lane_unclaim(other.mailbox, lane);
	assert_int_equal(world_claimed(&other), 0);
	sb__buf_free(&buf);
	world_leave(&other);
	assert_int_equal(sb__mailbox_attach(world->mailbox_dir, WORLD_INCARNATION, &world->mailbox), 0);
}

/* ── the dead ── */

static void reclaim_follows_the_table(void **state)
{
	static const struct {
		unsigned before;
		bool owner_dead;
		unsigned after;
		uint32_t counted;
	} table[] = {
		{ SB__LANE_IDLE, false, SB__LANE_FREE, 1 },
		{ SB__LANE_READY, false, SB__LANE_FREE, 1 },
		{ SB__LANE_DONE, false, SB__LANE_FREE, 1 },
		{ SB__LANE_BUSY, false, SB__LANE_ABANDONED, 1 },
		{ SB__LANE_ABANDONED, false, SB__LANE_ABANDONED, 0 },
		{ SB__LANE_IDLE, true, SB__LANE_FREE, 1 },
		{ SB__LANE_BUSY, true, SB__LANE_FREE, 1 },
		{ SB__LANE_ABANDONED, true, SB__LANE_FREE, 1 },
	};
	struct shm_world *world = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct sb__lane_shm *l = lane_of(world, 1);
		uint64_t word = SB__WORD(table[i].before, 100 + i, CALLER, 1);

		sb__store(&l->word, word);
		assert_int_equal(sb__mailbox_reclaim(world->mailbox, CALLER, 2, table[i].owner_dead), 0);
		assert_int_equal(sb__mailbox_reclaim(world->mailbox, CALLER + 1, 1, table[i].owner_dead), 0);
		assert_int_equal(sb__load(&l->word), word);
		assert_int_equal(sb__mailbox_reclaim(world->mailbox, CALLER, 1, table[i].owner_dead),
		                 table[i].counted);
		assert_int_equal(state_of(world, 1), table[i].after);
		if (table[i].after == SB__LANE_FREE)
			assert_int_equal(sb__load(&l->word), SB__WORD(SB__LANE_FREE, 101 + i, 0, 0));
		assert_int_equal(sb__mailbox_reclaim(world->mailbox, CALLER, 1, table[i].owner_dead), 0);
	}
	sb__store(&lane_of(world, 1)->word, 0);
}

static void the_owner_frees_what_its_dead_caller_left_running(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct call c;

	call_begin(&c, world, lane, 16);
	accept_one(world, scratch, &accepted);
	assert_int_equal(sb__mailbox_reclaim(world->mailbox, CALLER, 1, false), 1);
	assert_false(answer(world, &accepted, 16));
	assert_int_equal(world_claimed(world), 0);
	assert_int_equal(call_end(&c), SB__LANE_MAYBE); /* the caller was alive after all: told the truth */
}

/* ── inspect ── */

static void inspect_sees_lanes_in_use(void **state)
{
	struct shm_world *world = *state;
	uint32_t lane = claim(world);
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted accepted;
	struct sb__lane_view view;
	struct call c;

	claim(world);
	call_begin(&c, world, lane, 16);
	accept_one(world, scratch, &accepted);
	assert_int_equal(sb__mailbox_view(world->mailbox, &view, 1), 2);
	assert_int_equal(view.lane, lane);
	assert_int_equal(view.state, SB__LANE_BUSY);
	assert_int_equal(view.slot, CALLER);
	assert_int_equal(view.trace_id, 7);
	assert_int_equal(view.caller_pid, getpid());
	assert_string_equal(view.label, "echo");
	assert_false(view.torn);
	assert_true(view.accepted_ns >= view.published_ns);
	assert_true(answer(world, &accepted, 16));
	assert_int_equal(call_end(&c), SB__LANE_REPLIED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_blocks_of_lanes_meet_without_gaps),
		TEST(others_read_the_header_that_was_written),
		TEST(bad_files_are_refused_each_with_its_code),
		TEST(unlink_takes_mailbox_and_rows),
		TEST(touching_moves_the_last_access),
		TEST(touching_late_takes_nothing_back),
		TEST(lanes_are_claimed_and_given_back),
		TEST(a_lane_given_back_keeps_no_secrets),
		TEST(a_thousand_lanes_and_then_all_of_them),
		TEST(calls_work_on_high_lanes),
		TEST(a_request_that_nobody_takes_is_withdrawn),
		TEST(a_request_past_its_deadline_is_passed_over),
		TEST(a_lane_that_is_served_again_keeps_its_bit),
		TEST(a_kept_bit_holds_nobody_up),
		TEST(a_running_call_is_abandoned_at_its_deadline),
		TEST(an_ended_session_lets_everybody_go),
		TEST(an_owner_that_lets_go_counts_as_dead),
		TEST(a_call_on_a_lane_of_others_is_refused),
		TEST(what_fits_nowhere_is_refused_before_it_is_sent),
		TEST(the_slow_question_is_asked_and_believed),
		TEST(a_reply_that_finds_no_room_is_an_error_for_the_caller),
		TEST(reply_blocks_live_until_their_reply_was_taken),
		TEST(an_owner_that_leaves_takes_its_blocks_back),
		TEST(reclaim_follows_the_table),
		TEST(the_owner_frees_what_its_dead_caller_left_running),
		TEST(inspect_sees_lanes_in_use),
	};

	return cmocka_run_group_tests_name("shm_mailbox", tests, NULL, NULL);
}
