/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of lanes: find requests, copy them out, publish replies. Everything that a caller wrote
 * is loaded once, bounded and copied before anybody parses it.
 *
 * Lock order: replies_lock before the arena's. Neither is held over a system call that waits.
 *
 * Crash: killed after READY -> BUSY, the lane stays BUSY and its caller says "may have run". Killed between
 * writing a reply and DONE: the same. Killed between DONE and the wake: the caller's wait is bounded and
 * rereads the word. Reply blocks go with the owner's arena.
 */
#include "mailbox.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "lane_turns.h"
#include "mailbox_impl.h"
#include "message.h"
#include "os_linux.h"
#include "point.h"
#include "spin.h"

#define MS          UINT64_C(1000000)
#define LINGER_NS   2000u /* about two calls' time: what comes later is found at the bell */
#define CLOCK_EVERY 4u    /* rounds between looks at the clock */
#define ROUNDS      64u   /* of looks for a call that can be accepted */
#define ALONE_LOOKS 64u   /* before who waits for those whose turn it is gives up its CPU */
#define KEPT_LOOKS  12u   /* at the lane that was served last, for one at everything else */

/* ── finding ── */

/* Lanes of one word of ready bits from which on; -1 if there are none. */
static int bit_at_or_after(struct sb__mailbox *m, uint32_t word, uint32_t from)
{
	uint64_t bits = sb__load_acquire(&m->control->ready[word]);

	bits &= from < 64 ? ~UINT64_C(0) << from : 0;
	return bits ? (int)(word * 64) + __builtin_ctzll(bits) : -1;
}

/* Looks into a word that the summary names (word 0 always): clears the summary bit if there is nothing, and
 * looks again, for a bit may have come before the clearing. */
static int bit_in_word(struct sb__mailbox *m, uint32_t word)
{
	uint64_t bit = UINT64_C(1) << word;
	int lane = bit_at_or_after(m, word, 0);

	if (lane >= 0 || word == 0)
		return lane;
	sb__and(&m->control->ready_summary, ~bit);
	lane = bit_at_or_after(m, word, 0);
	if (lane >= 0)
		sb__or(&m->control->ready_summary, bit);
	return lane;
}

/* The next lane with a bit, round robin from cursor. */
static int next_ready(struct sb__mailbox *m, uint32_t cursor)
{
	uint32_t lanes = sb__mailbox_lanes(m);
	uint32_t words = lanes ? (lanes + 63) / 64 : 1; /* a count that a peer wrote over may be 0 by now */
	uint32_t start = cursor / 64 % words;
	uint64_t summary = sb__load_acquire(&m->control->ready_summary) | 1;
	int lane = bit_at_or_after(m, start, cursor % 64);

	for (uint32_t i = 1; lane < 0 && i <= words; i++) {
		uint32_t word = (start + i) % words;

		if (summary & (UINT64_C(1) << word))
			lane = bit_in_word(m, word);
	}
	return lane;
}

/* Has the lane whose bit stands a request? True also where that cannot be told. */
static bool kept_is_ready(struct sb__mailbox *m, uint32_t kept)
{
	struct sb__lane_shm *l = sb__lane_at(m, kept - 1);

	return !l || SB__WORD_STATE(sb__load_acquire(&l->word)) == SB__LANE_READY;
}

/* The next lane with a bit; kept: 1 + the lane whose bit stands while its word is looked at instead. */
static int find_ready(struct sb__mailbox *m, uint32_t cursor, uint32_t kept)
{
	int lane = next_ready(m, cursor), other;

	if (lane < 0 || (uint32_t)lane + 1 != kept || kept_is_ready(m, kept))
		return lane;
	other = next_ready(m, kept);
	return other == lane ? -1 : other;
}

/* ── the last reply ── */

/* Frees the lane's last reply block unless its reply may still be read. With replies_lock held. */
static void drop_reply_locked(struct sb__mailbox *m, struct sb__lane_notes *notes)
{
	if (!notes->reply_arena && notes->reply_kept.count == 0)
		return;
	if (notes->reply_arena)
		sb__arena_free(notes->reply_arena, &notes->reply_block);
	notes->reply_arena = NULL;
	sb__kept_drop(&notes->reply_kept);
	atomic_fetch_sub_explicit(&m->replies_out, 1, memory_order_relaxed);
}

/* The block of the call before on this lane is done with: its caller has published another. */
static void drop_reply(struct sb__mailbox *m, struct sb__lane_notes *notes)
{
	if (atomic_load_explicit(&m->replies_out, memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&m->replies_lock);
	drop_reply_locked(m, notes);
	pthread_mutex_unlock(&m->replies_lock);
}

/* ── accepting ── */

/* A BUSY lane whose caller does not want it any more. */
static void free_abandoned(struct sb__lane_shm *l, uint64_t busy)
{
	uint64_t word = SB__WORD_WITH(busy, SB__LANE_ABANDONED);

	(void)sb__cas(&l->word, word, sb__word_freed(word));
}

/* The request's bytes, copied. 0 or a code: then there is nothing to run. */
static int copy_request(struct sb__mailbox *m, struct sb__lane_shm *l, struct sb__arena_cache *peers,
                        void *scratch, struct sb__buf *ret)
{
	uint64_t most = m->header->max_request_bytes;

	if (SB__ONCE(l->request_spilled)) {
		struct sb__spill_shm block = {
			.slot = SB__ONCE(l->request_spill.slot),
			.generation = SB__ONCE(l->request_spill.generation),
			.offset = SB__ONCE(l->request_spill.offset),
			.len = SB__ONCE(l->request_spill.len),
		};

		sb__buf_init(ret, NULL, 0);
		if (most && block.len > most)
			return sb__fail(
				SB_ETOOBIG,
				"a request of %llu bytes; the session's owner takes up to %llu: send it in "
				"parts, or raise its max_request_bytes",
				(unsigned long long)block.len, (unsigned long long)most);
		return sb__arena_copy(peers, &block, ret);
	} else {
		uint32_t len = SB__ONCE(l->request_len);

		sb__buf_init(ret, scratch, SB__INLINE_MAX);
		if (len > SB__INLINE_MAX)
			return sb__fail(SB_EPROTOCOL, "a request says that it has %u bytes in a lane of %u",
			                len, SB__INLINE_MAX);
		sb__buf_append(ret, l->request, len);
		return 0;
	}
}

static void refuse(struct sb__mailbox *m, struct sb__accepted *call, int code)
{
	struct sb__buf reply;

	sb__accepted_reply(m, call, &reply);
	sb__reply_refuse(&reply, code, sb_last_error()->message);
	(void)sb__accepted_complete(m, call, &reply, NULL);
}

/* Must it wait for a one-way call that was sent before it? Read after its bit was cleared: whoever ends that one sets it
 * again. */
static bool must_wait(struct sb__mailbox *m, const struct sb__lane_shm *l)
{
	return !sb__lane_call_over(m, sb__load32(&l->after_lane), sb__load(&l->after_word));
}

/* Takes what lies in the lane if there is a request that can be run. */
static bool accept_lane(struct sb__mailbox *m, struct sb__arena_cache *peers, uint32_t lane, uint64_t now_ns,
                        void *scratch, struct sb__accepted *ret)
{
	struct sb__lane_shm *l = sb__lane_at(m, lane);
	uint64_t word, deadline_ns;
	uint32_t flags;
	int err;

	if (!l) { /* no memory, or no such block: not tried for each of its lanes; callers announce again */
		sb__and(&m->control->ready[lane / 64], 0);
		return false;
	}
	word = sb__load_acquire(&l->word);
	if (SB__WORD_STATE(word) != SB__LANE_READY)
		return false;
	__builtin_prefetch(l->request); /* its lines come while the word is changed */
	__builtin_prefetch(l->request + 64);
	deadline_ns = sb__load(&l->deadline_ns); /* if they are of another request, the CAS fails */
	flags = sb__load32(&l->flags);
	if (deadline_ns <= now_ns && !(flags & SB__REQUEST_ONEWAY))
		return false;
	if (((flags & SB__REQUEST_AFTER) && must_wait(m, l)) ||
	    !sb__cas(&l->word, word, SB__WORD_WITH(word, SB__LANE_BUSY)))
		return false;
	SB_POINT("serve.busy");
	l->accepted_ns = now_ns;
	drop_reply(
		m,
		sb__lane_notes(
			m,
			lane)); /* that its caller has published another says that it is done with the last */
	*ret = (struct sb__accepted){
		.lane = lane,
		.word = SB__WORD_WITH(word, SB__LANE_BUSY),
		.caller_slot = SB__WORD_SLOT(word),
		.caller_generation = SB__WORD_GEN(word),
		.caller_pid = SB__ONCE(l->caller_pid),
		.deadline_ns = deadline_ns,
		.trace_id = sb__load(&l->trace_id),
		.oneway = flags & SB__REQUEST_ONEWAY,
		.askable = flags & SB__REQUEST_ASKABLE,
		.caller_thread = flags & SB__REQUEST_ASKABLE ? SB__ONCE(l->caller_thread) : 0,
	};
	err = copy_request(m, l, peers, scratch, &ret->request);
	SB_POINT("serve.copied");
	/* Abandoned meanwhile? Then the block may have been used anew while we copied it (layout.h), and
	 * nobody wants the reply. If the word still stands, the copy is whole: the caller touches the block
	 * only after it moved the word. */
	sb__read_barrier();
	if (sb__load_acquire(&l->word) != ret->word) {
		sb__buf_free(&ret->request);
		free_abandoned(l, ret->word);
		return false;
	}
	if (!err && deadline_ns <= now_ns)
		err = sb__fail(SB_ETIMEOUT, "a one-way call was not begun in time");
	if (err)
		refuse(m, ret, err);
	return !err;
}

bool sb__accepted_stands(struct sb__mailbox *mailbox, const struct sb__accepted *call)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, call->lane);

	sb__barrier(); /* between taking holds and the look */
	return sb__load_acquire(&l->word) == call->word;
}

/* A request of a caller that need not wait for its turn; those that have to are put aside. */
static bool accept_ready(struct sb__mailbox *m, struct sb__arena_cache *peers, struct sb__taking *at,
                         void *scratch, struct sb__accepted *ret)
{
	uint64_t now_ns = at->now_ns ? at->now_ns : sb__now_coarse_ms() * MS;
	uint32_t lanes = sb__mailbox_lanes(m);

	/* Bounded, so that one who sets bits without end holds up one session only for so long. */
	for (uint32_t tries = 0; tries < 2 * lanes; tries++) {
		int lane = find_ready(m, at->cursor % lanes, at->kept);

		if (lane < 0)
			return false;
		at->cursor = (uint32_t)lane + 1;
		at->kept = at->cursor == at->last &&
		                           (!sb__turns_any(m) || !sb__turns_waits(m, (uint32_t)lane))
		                   ? at->last
		                   : 0;
		if (at->kept && accept_lane(m, peers, at->kept - 1, now_ns, scratch, ret))
			return true;
		at->kept = at->last = 0;
		sb__and(&m->control->ready[lane / 64], ~(UINT64_C(1) << (lane % 64)));
		SB_POINT("serve.taken");
		if ((uint32_t)lane >= lanes)
			continue;
		/* Looked at again: what came before the clearing is not announced again. */
		if (sb__turns_waits(m, (uint32_t)lane) && sb__turns_put_aside(m, (uint32_t)lane)) {
			SB_POINT("serve.aside");
			continue;
		}
		if (accept_lane(m, peers, (uint32_t)lane, now_ns, scratch, ret)) {
			at->last = at->cursor;
			return true;
		}
	}
	return false;
}

/* One that was put aside: its caller's turn begins. */
static bool accept_aside(struct sb__mailbox *m, struct sb__arena_cache *peers, struct sb__taking *at,
                         void *scratch, struct sb__accepted *ret)
{
	uint64_t now_ns = at->now_ns ? at->now_ns : sb__now_coarse_ms() * MS;
	uint32_t lanes = sb__mailbox_lanes(m);

	for (uint32_t tries = 0; tries < lanes && sb__turns_any(m); tries++) {
		int lane = sb__turns_next(m);

		if (lane < 0)
			return false;
		SB_POINT("serve.turn");
		if ((uint32_t)lane < lanes && accept_lane(m, peers, (uint32_t)lane, now_ns, scratch, ret)) {
			at->kept = 0;
			at->cursor = at->last = (uint32_t)lane + 1;
			sb__lane_notes(m, (uint32_t)lane)->turn_over = true; /* the last one */
			if (at->bell)
				sb__turns_begin(m, (uint32_t)lane, at->now_ns);
			return true;
		}
	}
	return false;
}

/*
 * Waits for a call of those whose turn it is, or until others may have theirs. False: there is something else to do first. Those that
 * have not even taken their reply are given longer, and the CPU: they may have been woken on this one.
 */
static bool await_turns(struct sb__mailbox *m, struct sb__taking *at)
{
	uint64_t attention = sb__load(&m->control->attention), idle_ns = 0;
	bool elsewhere = sb__bell_placed(at->bell);

	for (unsigned i = 1;; i++) {
		if (find_ready(m, 0, at->kept) >= 0)
			return true;
		if (sb__mailbox_state(m) != SB__MAILBOX_SERVING ||
		    sb__load(&m->control->attention) != attention ||
		    sb__bell_others(at->bell, m->header->bell_index))
			return false;
		for (unsigned k = 0; at->kept && k < KEPT_LOOKS && !kept_is_ready(m, at->kept); k++)
			sb__pause();
		sb__pause();
		if (i % CLOCK_EVERY != 0)
			continue;
		at->now_ns = sb__now_ns();
		if (sb__turns_expected(m)) {
			idle_ns = 0;
			if (!elsewhere || i > ALONE_LOOKS)
				sb__os_yield();
		} else if (!idle_ns) {
			idle_ns = at->now_ns;
		} else if (at->now_ns - idle_ns > LINGER_NS) {
			sb__turns_clear(m);
		}
		if (sb__turns_room(m, at->now_ns))
			return true;
	}
}

int sb__mailbox_accept_next(struct sb__mailbox *m, struct sb__arena_cache *peers, struct sb__taking *at,
                            void *scratch, struct sb__accepted *ret)
{
	bool got = false;

	/* Bounded, too: bits may lead nowhere. */
	for (unsigned rounds = 0; !got && rounds < ROUNDS; rounds++) {
		if (at->bell && sb__turns_any(m) && !at->now_ns)
			at->now_ns = sb__now_ns();
		if (at->bell && sb__turns_any(m) && sb__turns_room(m, at->now_ns))
			got = accept_aside(m, peers, at, scratch, ret);
		if (!got)
			got = accept_ready(m, peers, at, scratch, ret);
		if (got || !sb__turns_any(m))
			break;
		if (!at->bell)
			got = accept_aside(m, peers, at, scratch, ret);
		else if (!await_turns(m, at))
			break;
	}
	if (got)
		sb__turns_served(m, ret->lane, at->now_ns);
	return got;
}

int sb__mailbox_accept(struct sb__mailbox *mailbox, struct sb__arena_cache *peers, uint32_t *cursor,
                       void *scratch, struct sb__accepted *ret)
{
	struct sb__taking at = { .cursor = *cursor };
	int rc = sb__mailbox_accept_next(mailbox, peers, &at, scratch, ret);

	*cursor = at.cursor;
	return rc;
}

bool sb__mailbox_has_turns(struct sb__mailbox *mailbox)
{
	return sb__turns_possible(mailbox);
}

bool sb__mailbox_turns(struct sb__mailbox *mailbox)
{
	return sb__turns_any(mailbox);
}

bool sb__mailbox_waiting(struct sb__mailbox *mailbox)
{
	int from = 0, lane;

	if (sb__turns_any(mailbox))
		return true;
	/* The bit of a lane that is served may stand. */
	while ((lane = next_ready(mailbox, (uint32_t)from)) >= from) {
		struct sb__lane_shm *l = sb__lane_at(mailbox, (uint32_t)lane);

		if (l && SB__WORD_STATE(sb__load_acquire(&l->word)) == SB__LANE_READY)
			return true;
		from = lane + 1;
	}
	return false;
}

bool sb__mailbox_linger(struct sb__mailbox *mailbox, struct sb__bell *bell, struct sb__taking *at,
                        struct sb__spin *spin)
{
	uint64_t attention = sb__load(&mailbox->control->attention), begun = 0;

	/* On the CPU of whoever calls, our spinning is what keeps it from calling. */
	if (!sb__bell_placed(bell) || !sb__spin_try(spin))
		return false;
	for (unsigned i = 1;; i++) {
		if (find_ready(mailbox, 0, at->kept) >= 0) {
			sb__spin_paid(spin);
			return true;
		}
		if (sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING ||
		    sb__load(&mailbox->control->attention) != attention ||
		    sb__bell_others(bell, mailbox->header->bell_index))
			return false;
		/* What comes nearly always is looked for most often. */
		for (unsigned k = 0; at->kept && k < KEPT_LOOKS && !kept_is_ready(mailbox, at->kept); k++)
			sb__pause();
		sb__pause();
		if (i % CLOCK_EVERY == 0) {
			at->now_ns = sb__now_ns();
			if (begun && at->now_ns - begun >= LINGER_NS)
				break;
			begun = begun ? begun : at->now_ns;
		}
	}
	sb__spin_failed(spin);
	return false;
}

/* ── replying ── */

void sb__accepted_reply(struct sb__mailbox *mailbox, const struct sb__accepted *call, struct sb__buf *buf)
{
	/* Where a question may come, it needs the place. */
	if (call->askable)
		sb__buf_init(buf, NULL, 0);
	else
		sb__buf_init(buf, sb__lane_at(mailbox, call->lane)->reply, SB__INLINE_MAX);
}

static int spill_reply(struct sb__mailbox *m, const struct sb__accepted *call, struct sb__lane_shm *l,
                       const struct sb__buf *buf, struct sb__arena *arena)
{
	struct sb__lane_notes *notes = sb__lane_notes(m, call->lane);
	struct sb__spill_shm block;
	void *to;
	int err;

	if (!arena)
		return sb__fail(SB_ETOOBIG, "a reply of %zu bytes does not fit into a lane (%u)", buf->len,
		                SB__INLINE_MAX);
	err = sb__arena_alloc(arena, buf->len, &block, &to);
	if (err)
		return err;
	memcpy(to, buf->data, buf->len);
	l->reply_spill = block;
	l->reply_spilled = 1;
	l->reply_len = 0;
	SB_POINT("serve.spilled");
	pthread_mutex_lock(&m->replies_lock);
	drop_reply_locked(
		m, notes); /* of another thread's call on this lane, where somebody wrote over its word */
	notes->reply_arena = arena;
	notes->reply_block = block;
	notes->reply_word = SB__WORD_CALL(call->word);
	atomic_fetch_add_explicit(&m->replies_out, 1, memory_order_relaxed);
	pthread_mutex_unlock(&m->replies_lock);
	return 0;
}

/* The arrays in the reply are kept until its caller keeps them. */
static void keep_arrays(struct sb__mailbox *m, struct sb__accepted *call, struct sb__lane_notes *notes)
{
	pthread_mutex_lock(&m->replies_lock);
	if (!notes->reply_arena && notes->reply_kept.count == 0)
		atomic_fetch_add_explicit(&m->replies_out, 1, memory_order_relaxed);
	sb__kept_drop(&notes->reply_kept); /* as in spill_reply() */
	notes->reply_kept = call->kept;
	notes->reply_word = SB__WORD_CALL(call->word);
	pthread_mutex_unlock(&m->replies_lock);
	call->kept = (struct sb__kept_list){ .items = NULL };
}

/* Reply fields of a BUSY lane. False if the reply itself could not be had and the caller is told so
 * instead. */
static bool write_reply(struct sb__mailbox *m, const struct sb__accepted *call, struct sb__lane_shm *l,
                        struct sb__buf *buf, struct sb__arena *arena)
{
	int err = buf->error;

	if (err)
		err = sb__fail(err, "the reply could not be built: it is too big, or memory is short");
	else if (buf->len > SB__INLINE_MAX)
		err = spill_reply(m, call, l, buf, arena);
	if (!err && buf->len > SB__INLINE_MAX)
		return true;
	if (err) {
		sb__buf_free(buf);
		sb__accepted_reply(m, call, buf);
		sb__reply_fail(buf, err, sb_last_error()->message);
	}
	if (buf->data == l->reply)
		memcpy(l->reply_short, l->reply, sizeof(l->reply_short)); /* if it is no longer */
	else if (buf->len > 0)
		memcpy(buf->len <= SB__SHORT_MAX ? l->reply_short : l->reply, buf->data, buf->len);
	l->reply_len = (uint32_t)buf->len;
	l->reply_spilled = 0;
	return !err;
}

bool sb__accepted_complete(struct sb__mailbox *mailbox, struct sb__accepted *call, struct sb__buf *buf,
                           struct sb__arena *arena)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, call->lane);
	struct sb__lane_notes *notes = sb__lane_notes(mailbox, call->lane);
	unsigned turn = sb__turns_count(mailbox, call);
	bool delivered, wanted;

	drop_reply(mailbox, notes);
	if (call->oneway)
		sb__buf_truncate(buf, 0);
	delivered = write_reply(mailbox, call, l, buf, arena) && !call->oneway;
	if (delivered && call->kept.count > 0)
		keep_arrays(mailbox, call, notes);
	l->turn = turn;
	SB_POINT("serve.written");
	wanted = sb__cas(&l->word, call->word, SB__WORD_WITH(call->word, SB__LANE_DONE));
	SB_POINT("serve.done");
	if (wanted) {
		sb__lane_wake(l); /* the CAS is the full barrier between DONE and reading caller_parked */
	} else {
		/* Before the lane is free: after it the notes are those of whoever serves its next call. */
		drop_reply(mailbox, notes);
		free_abandoned(l, call->word);
		SB_POINT("serve.freed");
	}
	if (call->oneway)
		(void)sb__lane_follow(mailbox, l); /* whoever completes calls goes on looking for more */
	sb__kept_drop(&call->kept);
	sb__buf_free(buf);
	sb__buf_free(&call->request);
	return wanted && delivered;
}

/* ── reply blocks ── */

typedef void (*notes_fn)(struct sb__mailbox *m, struct sb__lane_shm *l, struct sb__lane_notes *notes);

static void each_reply(struct sb__mailbox *m, notes_fn visit)
{
	if (atomic_load_explicit(&m->replies_out, memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&m->replies_lock);
	for (uint32_t k = 0; k < SB__LANE_BLOCKS; k++) {
		struct sb__lane_shm *lanes = atomic_load_explicit(&m->blocks[k].lanes, memory_order_acquire);

		for (uint32_t i = 0; lanes && i < sb__block_lanes(k); i++)
			if (m->blocks[k].notes[i].reply_arena || m->blocks[k].notes[i].reply_kept.count > 0)
				visit(m, &lanes[i], &m->blocks[k].notes[i]);
	}
	pthread_mutex_unlock(&m->replies_lock);
}

static bool may_be_read(uint64_t word, const struct sb__lane_notes *notes)
{
	/* BUSY: written, about to be DONE. ABANDONED: whoever completes it drops it. */
	return SB__WORD_CALL(word) == notes->reply_word && SB__WORD_STATE(word) >= SB__LANE_BUSY;
}

static void sweep_reply(struct sb__mailbox *m, struct sb__lane_shm *l, struct sb__lane_notes *notes)
{
	if (!may_be_read(sb__load_acquire(&l->word), notes))
		drop_reply_locked(m, notes);
	SB_POINT("serve.swept");
}

void sb__mailbox_sweep_replies(struct sb__mailbox *mailbox, struct sb__arena *arena)
{
	(void)arena; /* the notes name it */
	each_reply(mailbox, sweep_reply);
}

static void revoke_reply(struct sb__mailbox *m, struct sb__lane_shm *l, struct sb__lane_notes *notes)
{
	uint64_t done = notes->reply_word | (uint64_t)SB__LANE_DONE << 60;

	(void)sb__cas(&l->word, done, sb__word_freed(done));
	SB_POINT("serve.revoked");
	drop_reply_locked(m, notes);
}

void sb__mailbox_revoke_replies(struct sb__mailbox *mailbox)
{
	each_reply(mailbox, revoke_reply);
}
