/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's side of a call: publish, wait, take the reply. It does not know what the bytes mean. Claiming lanes:
 * lane_claim.c.
 *
 * Locks: none held; a lane belongs to one thread, or to one call in flight.
 *
 * Crash: see the table of lanes in layout.h. Killed while claiming: one CAS, claimed or not. While writing
 * the request: IDLE. After READY: the owner runs it, and the reply stays DONE. In each case reclaim frees
 * the lane, and nobody waits for this caller at any step. A spilled request's block goes with the caller's
 * arena.
 */
#include "mailbox.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

#define MS             UINT64_C(1000000)
#define FIRST_SLICE_NS (2 * MS) /* then the owner is asked whether its leader hangs */
#define SLICE_MAX_NS   (100 * MS)
#define POLL_MAX_NS    (20 * MS)   /* where the kernel cannot wait for reply and death at once */
#define ALIVE_EVERY_NS (100 * MS)  /* the slow question */
#define ALIVE_TOLD_NS  (1000 * MS) /* the same where the kernel tells of the owner's end */
#define TOLD_NS        (20 * MS)   /* so long counts what the owner told of turns */
#define TURN_YIELDS    4u          /* of a caller that has its turn, on the leader's CPU */
#define CLOCK_EVERY    64u         /* spins between looks at the clock */

/* ── publishing ── */

void sb__lane_request(struct sb__mailbox *mailbox, uint32_t lane, struct sb__buf *buf)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);

	sb__buf_init(buf, l ? l->request : NULL, l ? SB__INLINE_MAX : 0);
}

static int spill_request(struct sb__flight *f, const struct sb__buf *buf, struct sb__arena *arena)
{
	void *to;
	int err;

	if (!arena)
		return sb__fail(SB_ETOOBIG,
		                "a request of %zu bytes does not fit into a lane (%u), and there is no arena",
		                buf->len, SB__INLINE_MAX);
	err = sb__arena_alloc(arena, buf->len, &f->block, &to);
	if (err)
		return err;
	memcpy(to, buf->data, buf->len);
	f->arena = arena;
	f->l->request_spill = f->block;
	SB_POINT("lane.spilled");
	return 0;
}

/* The request fields of an IDLE lane. */
static int write_request(struct sb__flight *f, const struct sb__buf *buf, const struct sb__lane_post *post)
{
	const char *label = post->label ? post->label : "";
	struct sb__lane_shm *l = f->l;
	bool spilled = buf->len > SB__INLINE_MAX;
	size_t len;

	if (buf->error)
		return buf->error == SB_ENOMEM
		               ? sb__fail_memory("a request")
		               : sb__fail(buf->error, "the request is bigger than %zu bytes", buf->limit);
	if (spilled) {
		int err = spill_request(f, buf, post->arena);

		if (err)
			return err;
	} else if (buf->data != l->request) {
		memcpy(l->request, buf->data, buf->len);
	}
	/* A request that moved to the heap has filled the lane first. */
	f->notes->request_high = buf->heap                           ? SB__INLINE_MAX
	                         : buf->len > f->notes->request_high ? (uint32_t)buf->len
	                                                             : f->notes->request_high;
	if (sb__load32(&l->followed)) /* of an earlier one */
		sb__store32(&l->followed, 0);
	l->published_ns = (post->now_ms ? post->now_ms : sb__now_coarse_ms()) * MS;
	len = strnlen(label, sizeof(l->label) - 1);
	memcpy(l->label, label, len);
	l->label[len] = '\0';
	if (post->flags) {
		sb__store(&l->after_word, post->after_word);
		sb__store32(&l->after_lane, post->after_lane);
		sb__store32(&l->asked, 0); /* of an earlier one */
		sb__store32(&l->answered, 0);
		l->caller_thread = post->thread;
	}
	/* The line that the owner looks at, last and at once. */
	l->request_len = spilled ? 0 : (uint32_t)buf->len;
	l->request_spilled = spilled;
	sb__store(&l->deadline_ns, post->deadline_ns);
	sb__store(&l->trace_id, post->trace_id);
	sb__store32(&l->flags, post->flags);
	SB_POINT("lane.written");
	return 0;
}

/* Tells the owner where to look. Again and again is fine. After a full barrier that followed READY. */
static void announce(struct sb__flight *f)
{
	sb__lane_announce(f->m, f->lane);
	f->woke = sb__bell_ring(f->bell, f->m->header->bell_index);
}

bool sb__lane_call_over(struct sb__mailbox *mailbox, uint32_t lane, uint64_t ready)
{
	struct sb__lane_shm *l = lane < sb__mailbox_lanes(mailbox) ? sb__lane_at(mailbox, lane) : NULL;
	uint64_t word = l ? sb__load_acquire(&l->word) : 0;

	return !l || (word != ready && word != SB__WORD_WITH(ready, SB__LANE_BUSY));
}

/* Announces it, unless it has to wait for a one-way call: then whoever ends that one does. Law of the follower: layout.h. */
static void announce_in_turn(struct sb__flight *f, const struct sb__lane_post *post)
{
	struct sb__lane_shm *first = post->flags & SB__REQUEST_AFTER ? sb__lane_at(f->m, post->after_lane)
	                                                             : NULL;

	if (first) {
		sb__store32(&first->followed, f->lane + 1);
		SB_POINT("lane.followed");
		sb__barrier();
		if (!sb__lane_call_over(f->m, post->after_lane, post->after_word)) {
			f->woke = false;
			return;
		}
	}
	announce(f);
}

/* ── waiting ── */

enum why { DEADLINE, ENDED, DIED };

/* There will be no waiting any more: makes the word say so, unless the reply is there. */
static enum sb__lane_result settle(struct sb__flight *f, enum why why)
{
	static const enum sb__lane_result not_started[] = { [DEADLINE] = SB__LANE_NOT_STARTED,
		                                            [ENDED] = SB__LANE_ENDED,
		                                            [DIED] = SB__LANE_DIED_NOT_STARTED };
	enum sb__lane_result maybe = why == DIED ? SB__LANE_DIED_MAYBE : SB__LANE_MAYBE;

	for (;;) {
		uint64_t word = sb__load_acquire(&f->l->word);

		if (SB__WORD_CALL(word) != SB__WORD_CALL(f->ready))
			break; /* taken back by somebody who held us for dead: it may have run */
		switch (SB__WORD_STATE(word)) {
		case SB__LANE_DONE: return SB__LANE_REPLIED;
		case SB__LANE_READY:
			if (!sb__cas(&f->l->word, word, SB__WORD_WITH(word, SB__LANE_IDLE)))
				continue;
			SB_POINT("lane.withdrawn");
			return not_started[why];
		case SB__LANE_BUSY:
			if (!sb__cas(&f->l->word, word, SB__WORD_WITH(word, SB__LANE_ABANDONED)))
				continue;
			SB_POINT("lane.abandoned");
			sb__lane_wake_asker(f->l);
			if (why != DIED)
				sb__mailbox_attention(f->m, f->bell); /* nobody waits for it any more */
			break;
		case SB__LANE_CANCELLED:
			if (!sb__cas(&f->l->word, word, SB__WORD_WITH(word, SB__LANE_IDLE)))
				continue;
			return SB__LANE_WAS_CANCELLED;
		default: break;
		}
		break;
	}
	return maybe; /* from here on lane and notes are the next claimer's */
}

/* True once the word is neither READY nor BUSY: the reply is there, or the lane was taken from us. */
static bool replied(const struct sb__flight *f)
{
	uint64_t word = sb__load_acquire(&f->l->word);

	return word != f->ready && word != SB__WORD_WITH(f->ready, SB__LANE_BUSY);
}

/* The same, or there is something to answer. */
static bool moved_on(const struct sb__flight *f)
{
	return replied(f) || sb__flight_asked(f);
}

static bool spin(const struct sb__flight *f, uint64_t spin_ns)
{
	uint64_t begun = 0;

	for (unsigned i = 1;; i++) {
		if (moved_on(f))
			return true;
		sb__pause();
		if (i % CLOCK_EVERY == 0) {
			uint64_t now = sb__now_ns();

			if (!begun)
				begun = now;
			else if (now - begun >= spin_ns)
				return false;
		}
	}
}

/* Lets the leader, which is on this CPU, run. False also if the reply took as long as others here wanted: then a
 * wake-up, which goes before them, is quicker. */
static bool yield_for_reply(const struct sb__flight *f)
{
	uint64_t begun = sb__now_ns();

	sb__os_yield();
	return moved_on(f) && sb__now_ns() - begun <= SB__SPIN_NS;
}

/* It has its turn: the leader waits for its call, and goes on with others once it sleeps. */
static bool stay_awake(const struct sb__flight *f, bool same_cpu)
{
	if (!same_cpu)
		return spin(f, SB__SPIN_NS);
	for (unsigned i = 0; i < TURN_YIELDS && !moved_on(f); i++)
		sb__os_yield();
	return moved_on(f);
}

static bool spin_for_reply(struct sb__flight *f)
{
	struct sb__spin *learnt = f->answered ? &f->notes->spin_asked
	                          : f->woke   ? &f->notes->spin_woken
	                                      : &f->notes->spin;
	bool same_cpu = sb__load32(&f->bell->shm->leader_cpu) == (unsigned int)sb__os_cpu();

	if (f->turn == SB__TURN_ON && !f->answered)
		return stay_awake(f, same_cpu);
	if ((f->turn != SB__TURN_FREE && !f->answered) || !sb__spin_try(learnt))
		return moved_on(f);
	/* On the leader's CPU (or the only one) our spinning is what keeps it from replying. */
	if (!(same_cpu ? yield_for_reply(f) : spin(f, f->woke ? SB__SPIN_WOKEN_NS : SB__SPIN_NS))) {
		sb__spin_failed(learnt);
		return moved_on(f);
	}
	/* In time though the leader had to be woken: all the more so when it is awake. */
	sb__spin_paid(&f->notes->spin);
	sb__spin_paid(learnt);
	return true;
}

static uint64_t ask_alive_next(const struct sb__flight *f, uint64_t now)
{
	unsigned int unused;

	return now + (sb__bell_alive_word(f->bell, &unused) ? ALIVE_TOLD_NS : ALIVE_EVERY_NS);
}

/* Between slices: is there a reason to stop waiting? */
static bool given_up(struct sb__flight *f, uint64_t now, enum why *ret_why)
{
	/* A session that ended did so before its owner went, which may follow at once. */
	if (sb__mailbox_state(f->m) != SB__MAILBOX_SERVING) {
		*ret_why = sb__mailbox_state(f->m) == SB__MAILBOX_ORPHANED ? DIED : ENDED;
		return true;
	}
	if (sb__bell_owner_died(f->bell)) {
		*ret_why = DIED;
		return true;
	}
	if (now >= f->deadline_ns) {
		*ret_why = DEADLINE;
		return true;
	}
	if (f->alive && now >= f->next_alive_ns) {
		f->next_alive_ns = ask_alive_next(f, now);
		if (!f->alive(f->alive_arg)) {
			*ret_why = DIED;
			return true;
		}
	}
	return false;
}

/* A slice passed without an answer: the leader may hang in another call, or a bit may have got lost with a
 * thread. One that runs needs nothing more of us. */
static void slice_passed(struct sb__flight *f, bool polling)
{
	bool waits = sb__load_acquire(&f->l->word) == f->ready;

	f->slices++;
	if (waits) {
		sb__barrier();
		announce(f);
		sb__bell_nudge(f->bell);
	}
	if (polling)
		f->slice_ns += f->slice_ns < POLL_MAX_NS ? FIRST_SLICE_NS : 0;
	else if (!waits)
		f->slice_ns = SLICE_MAX_NS;
	else if (f->slice_ns < POLL_MAX_NS)
		f->slice_ns = POLL_MAX_NS;
	else
		f->slice_ns = f->slice_ns * 2 < SLICE_MAX_NS ? f->slice_ns * 2 : SLICE_MAX_NS;
}

/* One slice of sleep, shorter if until_ns is nearer. Law: parked was set, full barrier; seen was read
 * before the word and the mailbox's state were looked at. */
static void sleep_slice(struct sb__flight *f, unsigned int seen, uint64_t now, uint64_t until_ns)
{
	uint64_t ns = until_ns - now < f->slice_ns ? until_ns - now : f->slice_ns;
	unsigned int *bell = (unsigned int *)&f->l->reply_bell;
	unsigned int expected;
	sb__word32 *alive = sb__bell_alive_word(f->bell, &expected);
	int err = -ENOSYS;

	if (!alive && sb__bell_owner_died(f->bell))
		return; /* since it was looked at: there is no word to wait for any more */
	if (alive)
		err = sb__os_futex_wait2(bell, seen, (unsigned int *)alive, expected, ns);
	if (err == -ENOSYS) {
		alive = NULL;
		if (ns > POLL_MAX_NS)
			ns = f->slice_ns = POLL_MAX_NS;
		err = sb__os_futex_wait(bell, seen, ns);
	}
	if (err == -ETIMEDOUT)
		slice_passed(f, !alive);
}

/* It has ended, or will be ended by this: the block of its request is free. Also of an abandoned request that the owner
 * copies at this moment: it rereads the word after the copy. */
static void over(struct sb__flight *f, enum sb__lane_result result)
{
	f->over = true;
	f->result = result;
	if (result != SB__LANE_MAYBE && result != SB__LANE_DIED_MAYBE && sb__load32(&f->l->caller_parked))
		sb__store32(&f->l->caller_parked,
		            0); /* else the lane is not ours; its next claimer clears it */
	sb__flight_forget(f);
	sb__flight_forget_answer(f);
}

/* Ends the flight if it is over. True also if there is a question to be answered first. The barrier pairs with the owner's CAS to DONE, after which it reads caller_parked, and
 * with sb__mailbox_end(). */
static bool look(struct sb__flight *f, uint64_t now)
{
	enum why why =
		DEADLINE; /* where it moved on settle() tells a reply from a lane that was taken from us */

	sb__barrier();
	if (!replied(f) && !given_up(f, now, &why))
		return sb__flight_asked(f);
	over(f, settle(f, why));
	return true;
}

/* The scheduler's slice of this thread before be_prompt(); 0: as it was. */
static _Thread_local uint64_t turn_before;

/* For who waits long. With a shorter slice than others' (some milliseconds) it gets a busy CPU as soon as it is woken, for
 * long enough to take a reply or to learn of a death, and no more of it in the end. */
static void be_prompt(void)
{
	if (!turn_before)
		turn_before = sb__os_slice_shorten(SB__SLICE_WAITS_NS);
}

/* Not at once when it was woken: the kernel hands the CPU to others when a slice grows. */
void sb__turn_ordinary(void)
{
	if (turn_before)
		sb__os_slice_restore(turn_before);
	turn_before = 0;
}

static bool park_for_reply(struct sb__flight *f, uint64_t until_ns)
{
	if (!f->slice_ns) {
		f->slice_ns = f->turn == SB__TURN_OVER_LONG ? SLICE_MAX_NS : FIRST_SLICE_NS;
		f->next_alive_ns = ask_alive_next(f, sb__now_ns());
	}
	if (until_ns > f->deadline_ns)
		until_ns = f->deadline_ns;
	sb__store32(&f->l->caller_parked, 1);
	SB_POINT("lane.parked");
	for (;;) {
		unsigned int seen = sb__load32(&f->l->reply_bell);
		uint64_t now = sb__now_ns();

		if (look(f, now))
			return true;
		if (now >= until_ns)
			return false;
		SB_POINT("lane.looked");
		if (f->slices)
			be_prompt();
		sleep_slice(f, seen, now, until_ns);
		SB_POINT("lane.woken");
		/* The kernel wakes one waiter for the owner's death, perhaps us though our reply was published just
		 * before: the others must hear of it whatever we find (tests/model/lane.pml, BUG_ALIVE). */
		if (sb__bell_owner_died(f->bell))
			sb__bell_pass_on(f->bell);
	}
}

static bool sleep_for_reply(struct sb__flight *f, uint64_t until_ns)
{
	bool ended = park_for_reply(f, until_ns);

	if (!f->slices)
		sb__turn_ordinary();
	return ended;
}

/* What the last reply said of our turn, unless it was long ago: then others' calls are over. The lane is IDLE. */
static unsigned turn_told(const struct sb__lane_shm *l)
{
	uint8_t turn = SB__ONCE(l->turn);

	if (turn == SB__TURN_FREE || turn > SB__TURN_OVER_LONG)
		return SB__TURN_FREE; /* without a look at the line where the owner says when it accepted a call */
	return l->published_ns - SB__ONCE(l->accepted_ns) < TOLD_NS ? turn : SB__TURN_FREE;
}

int sb__flight_post(struct sb__flight *f, struct sb__mailbox *mailbox, struct sb__bell *bell, uint32_t lane,
                    struct sb__buf *buf, const struct sb__lane_post *post, sb__alive_fn alive,
                    void *alive_arg)
{
	uint64_t word;
	int err;

	*f = (struct sb__flight){ .m = mailbox,
		                  .bell = bell,
		                  .l = sb__lane_at(mailbox, lane),
		                  .lane = lane,
		                  .deadline_ns = post->deadline_ns,
		                  .alive = alive,
		                  .alive_arg = alive_arg,
		                  .answering = post->answering };
	word = f->l ? sb__load_acquire(&f->l->word) : 0;
	if (f->l)
		f->notes = sb__lane_notes(mailbox, lane);
	if (!f->l || SB__WORD_STATE(word) != SB__LANE_IDLE || !sb__lane_is_ours(f->notes, word)) {
		sb__buf_free(buf);
		return sb__fail(SB_EBUG, "lane %" PRIu32 " is not this thread's to call on", lane);
	}
	err = write_request(f, buf, post);
	sb__buf_free(buf);
	if (err)
		return err;
	f->turn = turn_told(f->l);
	f->ready = SB__WORD(SB__LANE_READY, SB__WORD_SEQ(word) + 1, 0, 0) | SB__WORD_CLAIM(word);
	if (sb__bell_owner_died(bell) || sb__mailbox_state(mailbox) == SB__MAILBOX_ORPHANED) {
		over(f, SB__LANE_DIED_NOT_STARTED);
	} else if (sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING) {
		over(f, SB__LANE_ENDED);
	} else if (sb__cas(&f->l->word, word, f->ready)) {
		SB_POINT("lane.ready");
		announce_in_turn(f, post); /* the CAS to READY was the full barrier */
	} else {
		sb__flight_forget(f);
		return sb__fail(SB_EBUG,
		                "lane %" PRIu32 " was taken from this thread while it wrote a request", lane);
	}
	return 0;
}

int sb__lane_call(struct sb__mailbox *mailbox, struct sb__bell *bell, uint32_t lane, struct sb__buf *buf,
                  const struct sb__lane_post *post, sb__alive_fn alive, void *alive_arg,
                  enum sb__lane_result *ret_result)
{
	struct sb__flight f;
	int err = sb__flight_post(&f, mailbox, bell, lane, buf, post, alive, alive_arg);

	if (err)
		return err;
	if (!f.over) {
		if (spin_for_reply(&f))
			over(&f, settle(&f, DEADLINE));
		else
			sleep_for_reply(&f, UINT64_MAX);
	}
	*ret_result = f.result;
	return 0;
}

int sb__lane_call_asked(struct sb__mailbox *mailbox, struct sb__bell *bell, uint32_t lane,
                        struct sb__buf *buf, const struct sb__lane_post *post, sb__alive_fn alive,
                        void *alive_arg, enum sb__lane_result *ret_result, bool *ret_late)
{
	struct sb__flight f;
	int err = sb__flight_post(&f, mailbox, bell, lane, buf, post, alive, alive_arg);

	while (!err && !f.over) {
		uint32_t asked;

		if (!spin_for_reply(&f))
			sleep_for_reply(&f, UINT64_MAX);
		else if (replied(&f))
			over(&f, settle(&f, DEADLINE));
		asked = f.over ? 0 : sb__flight_asked(&f);
		if (asked)
			sb__flight_answer(&f, asked);
	}
	*ret_result = f.result;
	*ret_late = f.late;
	return err;
}

/* ── calls that nobody waits for all the time ── */

bool sb__flight_poll(struct sb__flight *f)
{
	return f->over || look(f, sb__now_ns());
}

bool sb__flight_wait(struct sb__flight *f, uint64_t until_ns)
{
	if (f->over)
		return true;
	if (!f->slice_ns && spin_for_reply(f)) {
		over(f, settle(f, DEADLINE));
		return true;
	}
	return sleep_for_reply(f, until_ns);
}

void sb__flight_abandon(struct sb__flight *f)
{
	if (!f->over)
		over(f, settle(f, DEADLINE));
}

void sb__flight_forget(struct sb__flight *f)
{
	if (f->block.len)
		sb__arena_free(f->arena, &f->block);
	f->block.len = 0;
}

bool sb__lane_wait_over(struct sb__mailbox *mailbox, const struct sb__bell *bell, uint32_t lane,
                        uint64_t ready, uint64_t until_ns)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);

	while (l) {
		unsigned int seen = sb__load32(&l->reply_bell);
		uint64_t now = sb__now_ns();

		sb__store32(&l->caller_parked, 1);
		sb__barrier();
		if (sb__lane_call_over(mailbox, lane, ready))
			return true;
		if (now >= until_ns || sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING ||
		    sb__bell_owner_died(bell))
			return false;
		(void)sb__os_futex_wait((unsigned int *)&l->reply_bell, seen,
		                        until_ns - now < POLL_MAX_NS ? until_ns - now : POLL_MAX_NS);
	}
	return true;
}

bool sb__flight_ended(struct sb__flight *copy)
{
	enum why why;

	sb__barrier();
	return moved_on(copy) || given_up(copy, sb__now_ns(), &why);
}

bool sb__flight_hurry(struct sb__flight *copy)
{
	if (sb__load_acquire(&copy->l->word) != copy->ready)
		return false;
	sb__barrier();
	announce(copy);
	sb__bell_nudge(copy->bell);
	return true;
}

unsigned int *sb__flight_word(struct sb__flight *copy, unsigned int *ret_expected)
{
	*ret_expected = sb__load32(&copy->l->reply_bell);
	return (unsigned int *)&copy->l->reply_bell;
}

void sb__flight_park(struct sb__flight *copy)
{
	sb__store32(&copy->l->caller_parked, 1);
	sb__barrier();
}

/* ── the reply ── */

static int copy_inline(struct sb__lane_shm *l, struct sb__lane_notes *notes, struct sb__buf *ret)
{
	uint32_t len = SB__ONCE(l->reply_len);

	if (len > SB__INLINE_MAX)
		return sb__fail(SB_EPROTOCOL, "a reply says that it has %" PRIu32 " bytes in a lane of %u",
		                len, SB__INLINE_MAX);
	if (len > notes->reply_high)
		notes->reply_high = len;
	sb__buf_append(ret, len <= SB__SHORT_MAX ? l->reply_short : l->reply, len);
	return ret->error ? sb__fail_memory("a reply") : 0;
}

int sb__lane_reply(struct sb__mailbox *mailbox, uint32_t lane, struct sb__arena_cache *peers,
                   struct sb__buf *ret)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);
	uint64_t word = l ? sb__load_acquire(&l->word) : 0;
	struct sb__lane_notes *notes;
	int err;

	if (!l)
		return sb_last_error()->code;
	notes = sb__lane_notes(mailbox, lane);
	if (SB__WORD_STATE(word) != SB__LANE_DONE || !sb__lane_is_ours(notes, word))
		return sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING
		               ? sb__mailbox_ended_error(mailbox)
		               : sb__fail(SB_EBUG, "there is no reply in lane %" PRIu32, lane);
	if (SB__ONCE(l->reply_spilled)) {
		struct sb__spill_shm block = SB__ONCE(l->reply_spill);

		err = sb__arena_copy(peers, &block, ret);
		SB_POINT("lane.reply_copied");
		sb__barrier();
		if (sb__load_acquire(&l->word) != word)
			return sb__mailbox_ended_error(
				mailbox); /* the owner left and took the block: layout.h */
	} else {
		err = copy_inline(l, notes, ret);
	}
	return err;
}

bool sb__lane_reply_stands(struct sb__mailbox *mailbox, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);
	uint64_t word;

	sb__barrier(); /* between taking holds and the look */
	word = l ? sb__load_acquire(&l->word) : 0;
	return l && SB__WORD_STATE(word) == SB__LANE_DONE &&
	       sb__lane_is_ours(sb__lane_notes(mailbox, lane), word);
}

void sb__lane_consume(struct sb__mailbox *mailbox, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);
	uint64_t word = l ? sb__load_acquire(&l->word) : 0;

	if (l && SB__WORD_STATE(word) == SB__LANE_DONE &&
	    sb__lane_is_ours(sb__lane_notes(mailbox, lane), word))
		(void)sb__cas(&l->word, word, SB__WORD_WITH(word, SB__LANE_IDLE));
	SB_POINT("lane.consumed");
}
