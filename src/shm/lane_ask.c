/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks: while a call is BUSY its lane carries questions from the owner and answers from the caller. Fields and
 * states: layout.h; steps and what a kill at each leaves: docs/design/callbacks.md. It does not know what the bytes mean.
 *
 * Both sides bound and copy what the other wrote before anybody parses it, and look afterwards whether it still stood.
 *
 * Locks: none; one question at a time is the asking layer's matter.
 *
 * Crash: a killed owner leaves a question, and its caller learns of the death as in any call. A killed caller is noticed
 * between two slices by its life token; the lane is then abandoned here, and freed by whoever completes the call. Blocks go with
 * their writer's arena.
 */
#include "mailbox.h"

#include <errno.h>
#include <string.h>

#include "callback.h"
#include "clock.h"
#include "fail.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

#define MS             UINT64_C(1000000)
#define SLICE_FIRST_NS (1 * MS)
#define SLICE_MAX_NS   (20 * MS) /* a killed caller is noticed within it */
#define CLOCK_EVERY    64u       /* spins between looks at the clock */

/* Copies what lies in an area of a lane, or in the block that is named there. */
static int copy_out(uint32_t spilled, const struct sb__spill_shm *block, uint32_t len, const uint8_t *area,
                    struct sb__arena_cache *peers, struct sb__buf *ret)
{
	if (spilled)
		return sb__arena_copy(peers, block, ret);
	if (len > SB__INLINE_MAX)
		return sb__fail(SB_EPROTOCOL,
		                "a message of a callback says that it has %u bytes in a lane of %u", len,
		                SB__INLINE_MAX);
	sb__buf_append(ret, area, len);
	return ret->error ? sb__fail_memory("a callback") : 0;
}

/* A block of our arena with the bytes. */
static int spill(const struct sb__buf *buf, struct sb__arena *arena, struct sb__spill_shm *ret_block)
{
	void *to;
	int err;

	if (!arena)
		return sb__fail(SB_ETOOBIG,
		                "a message of a callback of %zu bytes does not fit into a lane (%u)",
		                buf->len, SB__INLINE_MAX);
	err = sb__arena_alloc(arena, buf->len, ret_block, &to);
	if (!err)
		memcpy(to, buf->data, buf->len);
	return err;
}

/* ── the caller answers ── */

/* Does the question that is being answered still stand? After what it names was kept or copied. */
static bool question_stands(const struct sb__flight *f)
{
	sb__barrier();
	return sb__load32(&f->l->asked) == f->answered &&
	       sb__load_acquire(&f->l->word) == SB__WORD_WITH(f->ready, SB__LANE_BUSY);
}

static int copy_question(struct sb__flight *f, struct sb__buf *ret)
{
	struct sb__lane_shm *l = f->l;
	struct sb__spill_shm block = { .slot = SB__ONCE(l->reply_spill.slot),
		                       .generation = SB__ONCE(l->reply_spill.generation),
		                       .offset = SB__ONCE(l->reply_spill.offset),
		                       .len = SB__ONCE(l->reply_spill.len) };
	uint32_t len = SB__ONCE(l->reply_len);
	int err = copy_out(SB__ONCE(l->reply_spilled), &block, len, l->reply, f->answering->peers, ret);

	if (!err && ret->len <= SB__INLINE_MAX && len > f->notes->reply_high)
		f->notes->reply_high = len;
	return err;
}

/* Request fields of a lane in which a question stands. */
static void write_answer(struct sb__flight *f, struct sb__buf *answer)
{
	struct sb__lane_shm *l = f->l;

	if (answer->len > SB__INLINE_MAX && !answer->error) {
		int err = spill(answer, f->answering->arena, &f->answer_block);

		if (err)
			sb__answer_error(answer, err);
	} else if (answer->error) {
		sb__answer_error(answer, sb__fail(answer->error,
		                                  "the result of a C function could not be sent: it is too "
		                                  "big, or memory is short"));
	}
	l->request_spilled = f->answer_block.len > 0;
	if (f->answer_block.len) {
		l->request_spill = f->answer_block;
		l->request_len = 0;
		return;
	}
	memcpy(l->request, answer->data, answer->len);
	l->request_len = (uint32_t)answer->len;
	if (l->request_len > f->notes->request_high)
		f->notes->request_high = l->request_len;
}

void sb__flight_forget_answer(struct sb__flight *f)
{
	if (f->answer_block.len)
		sb__arena_free(f->answering->arena, &f->answer_block);
	f->answer_block.len = 0;
	if (f->answered)
		f->answering->answered(f->answering->arg);
}

void sb__flight_answer(struct sb__flight *f, uint32_t asked)
{
	struct sb__lane_shm *l = f->l;
	struct sb__buf question, answer;
	uint8_t taken[1024], given[512];
	int err;

	sb__flight_forget_answer(f); /* the owner asks anew: it is done with the last one */
	if (sb__load32(&l->caller_parked))
		sb__store32(&l->caller_parked, 0);
	f->answered = asked;
	sb__buf_init(&question, taken, sizeof(taken));
	sb__buf_init(&answer, given, sizeof(given));
	err = copy_question(f, &question);
	SB_POINT("answer.question_copied");
	if (question_stands(f)) { /* else it was withdrawn, and the copy may be anything */
		if (!f->answering->answer(f->answering->arg, sb__call_key(f->lane, f->ready), &question, err,
		                          question_stands, f, &answer)) {
			f->over = true;
			f->result = SB__LANE_FORKED;
		} else if (question_stands(f)) {
			write_answer(f, &answer);
			SB_POINT("answer.written");
			sb__store32(&l->answered, asked);
			SB_POINT("answer.given");
			sb__barrier();
			sb__lane_wake_asker(l);
		}
		f->late |= sb__now_ns() >= f->deadline_ns || sb__mailbox_state(f->m) != SB__MAILBOX_SERVING;
	}
	sb__buf_free(&question);
	sb__buf_free(&answer);
}

/* ── the owner asks ── */

static bool stands(const struct sb__lane_shm *l, const struct sb__accepted *call)
{
	return sb__load_acquire(&l->word) == call->word;
}

/* The answer is there, or it is no use to wait: true and why. */
static bool decided(const struct sb__lane_shm *l, const struct sb__accepted *call, enum sb__asked *ret)
{
	if (!stands(l, call))
		*ret = SB__ASKED_GONE;
	else if (sb__load32(&l->answered) == call->asked)
		*ret = SB__ASKED_ANSWERED;
	else
		return false;
	return true;
}

/* Is there a reason to stop waiting? */
static bool given_up(struct sb__mailbox *m, struct sb__lane_shm *l, const struct sb__accepted *call,
                     const struct sb__asking *asking, bool slow, enum sb__asked *ret)
{
	if (sb__mailbox_state(m) != SB__MAILBOX_SERVING) {
		*ret = SB__ASKED_ENDED; /* before the next: its end stops the calls that run, which is no reason of its own */
	} else if (sb__load_acquire(&l->cancel) == SB__WORD_CALL(call->word) ||
	           asking->stopped(asking->arg)) {
		*ret = SB__ASKED_STOPPED;
	} else if (sb__now_ns() >= call->deadline_ns) {
		*ret = SB__ASKED_LATE;
	} else if (slow && !asking->alive(asking->arg)) {
		(void)sb__cas(&l->word, call->word, SB__WORD_WITH(call->word, SB__LANE_ABANDONED));
		*ret = SB__ASKED_GONE;
	} else {
		return false;
	}
	return true;
}

static bool spin_for_answer(const struct sb__lane_shm *l, const struct sb__accepted *call,
                            struct sb__spin *learnt, enum sb__asked *ret)
{
	uint64_t begun = 0;

	if (sb__os_cpu_count() < 2 || !sb__spin_try(learnt))
		return decided(l, call, ret);
	for (unsigned i = 1; !decided(l, call, ret); i++) {
		sb__pause();
		if (i % CLOCK_EVERY)
			continue;
		if (!begun) {
			begun = sb__now_ns();
		} else if (sb__now_ns() - begun >= SB__SPIN_NS) {
			sb__spin_failed(learnt);
			return false;
		}
	}
	sb__spin_paid(learnt);
	return true;
}

static enum sb__asked park_for_answer(struct sb__mailbox *m, struct sb__lane_shm *l,
                                      const struct sb__accepted *call, const struct sb__asking *asking)
{
	uint64_t slice_ns = SLICE_FIRST_NS;
	enum sb__asked result;
	bool slow = false;

	asking->parking(asking->arg);
	sb__store32(&l->asker_parked, 1);
	SB_POINT("ask.parked");
	for (;;) {
		unsigned int seen = sb__load32(&l->answer_bell);

		sb__barrier(); /* between parked and the look: pairs with whoever rings */
		if (decided(l, call, &result) || given_up(m, l, call, asking, slow, &result))
			break;
		slow = sb__os_futex_wait((unsigned int *)&l->answer_bell, seen, slice_ns) == -ETIMEDOUT;
		if (slow && slice_ns < SLICE_MAX_NS)
			slice_ns += slice_ns;
	}
	sb__store32(&l->asker_parked, 0);
	return result;
}

/* Reply fields of a BUSY lane in which no question stands. */
static int write_question(struct sb__lane_shm *l, struct sb__accepted *call, const struct sb__buf *question,
                          struct sb__arena *arena)
{
	int err;

	l->reply_spilled = question->len > SB__INLINE_MAX;
	if (!l->reply_spilled) {
		memcpy(l->reply, question->data, question->len);
		l->reply_len = (uint32_t)question->len;
		return 0;
	}
	err = spill(question, arena, &call->question);
	if (!err) {
		call->question_arena = arena;
		l->reply_spill = call->question;
		l->reply_len = 0;
	}
	return err;
}

static enum sb__asked take_answer(struct sb__lane_shm *l, const struct sb__accepted *call,
                                  struct sb__arena_cache *peers, struct sb__buf *answer)
{
	struct sb__spill_shm block = { .slot = SB__ONCE(l->request_spill.slot),
		                       .generation = SB__ONCE(l->request_spill.generation),
		                       .offset = SB__ONCE(l->request_spill.offset),
		                       .len = SB__ONCE(l->request_spill.len) };
	int err = copy_out(SB__ONCE(l->request_spilled), &block, SB__ONCE(l->request_len), l->request, peers,
	                   answer);

	SB_POINT("ask.answer_copied");
	sb__barrier();
	if (!stands(l, call))
		return SB__ASKED_GONE; /* its caller gave up, and may use the block anew */
	return err ? SB__ASKED_FAILED : SB__ASKED_ANSWERED;
}

enum sb__asked sb__accepted_ask(struct sb__mailbox *mailbox, struct sb__accepted *call,
                                const struct sb__buf *question, struct sb__arena *arena,
                                struct sb__arena_cache *peers, const struct sb__asking *asking,
                                struct sb__buf *answer)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, call->lane);
	enum sb__asked result;

	if (given_up(mailbox, l, call, asking, false, &result))
		return result;
	if (write_question(l, call, question, arena))
		return SB__ASKED_FAILED;
	SB_POINT("ask.written");
	sb__store32(&l->asked, ++call->asked);
	SB_POINT("ask.asked");
	sb__barrier(); /* pairs with the caller's park */
	sb__lane_wake(l);
	if (!spin_for_answer(l, call, &sb__lane_notes(mailbox, call->lane)->spin_asked, &result))
		result = park_for_answer(mailbox, l, call, asking);
	return result == SB__ASKED_ANSWERED ? take_answer(l, call, peers, answer) : result;
}

void sb__accepted_answered(struct sb__mailbox *mailbox, struct sb__accepted *call)
{
	if (call->asked % 2)
		sb__store32(&sb__lane_at(mailbox, call->lane)->asked, ++call->asked);
	SB_POINT("ask.over");
	sb__barrier(); /* whoever copies the question sees that it is over before its bytes change */
	if (call->question.len)
		sb__arena_free(call->question_arena, &call->question);
	call->question.len = 0;
}
