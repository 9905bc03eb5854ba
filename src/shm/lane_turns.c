/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns of callers (lane_turns.h). Private memory of the owner: only what a caller is told of its turn is shared, and that is
 * a hint.
 *
 * Locks: none. The thread that leads, and for a moment one that has lost the lead, change this: each word by itself, so that a
 * lane that waits aside is found by one of them, and a turn too many or too few does no harm.
 *
 * Crash: all of it goes with the owner. A caller that is killed or stopped in its turn loses it after PATIENCE_NS.
 */
#include "lane_turns.h"

#include <stdlib.h>

#include "os_linux.h"

#define TURN_CALLS  64u              /* of a turn */
#define TURN_NS     UINT64_C(100000) /* of service, likewise */
#define PATIENCE_NS UINT64_C(200000) /* for the next call of a caller that has its turn */
/* Callers: then a turn comes later than a caller's first look at what became of its call. */
#define LONG_QUEUE 64u
#define WORDS      (SB__LANES_MAX / 64)

/* ── aside ── */

static struct sb__turns *turns_of(struct sb__mailbox *m)
{
	return atomic_load_explicit(&m->turns, memory_order_acquire);
}

/* Few sessions need one. NULL without memory. */
static struct sb__turns *turns_made(struct sb__mailbox *m)
{
	struct sb__turns *t = turns_of(m), *made;
	int cpus = sb__os_cpu_count();

	if (t)
		return t;
	made = calloc(1, sizeof(*made));
	if (!made)
		return NULL;
	made->most = cpus < 2 ? 2 : cpus < (int)SB__TURNS_MAX ? (unsigned)cpus : SB__TURNS_MAX;
	if (atomic_compare_exchange_strong(&m->turns, &t, made))
		return made;
	free(made);
	return t;
}

bool sb__turns_put_aside(struct sb__mailbox *m, uint32_t lane)
{
	struct sb__turns *t = turns_made(m);

	if (!t)
		return false;
	if (atomic_load(&t->words) == 0)
		atomic_store_explicit(&t->cursor, lane, memory_order_relaxed); /* who came first */
	atomic_fetch_or(&t->aside[lane / 64], UINT64_C(1) << (lane % 64));
	atomic_fetch_or(&t->words, UINT64_C(1) << (lane / 64));
	return true;
}

/* Takes the first lane of the word at or after from; -1 if there is none. */
static int take_from(struct sb__turns *t, uint32_t word, uint32_t from)
{
	uint64_t bits = atomic_load(&t->aside[word]) & ~UINT64_C(0) << from;
	uint64_t bit = bits & -bits;

	if (!bit || !(atomic_fetch_and(&t->aside[word], ~bit) & bit))
		return -1;
	if (atomic_load(&t->aside[word]) == 0) {
		atomic_fetch_and(&t->words, ~(UINT64_C(1) << word));
		if (atomic_load(&t->aside[word]) != 0) /* it came before the clearing */
			atomic_fetch_or(&t->words, UINT64_C(1) << word);
	}
	return (int)(word * 64) + __builtin_ctzll(bit);
}

int sb__turns_next(struct sb__mailbox *m)
{
	struct sb__turns *t = turns_of(m);
	uint32_t from = atomic_load_explicit(&t->cursor, memory_order_relaxed) % SB__LANES_MAX;
	uint64_t words = atomic_load(&t->words);
	int lane = take_from(t, from / 64, from % 64);

	for (uint32_t i = 1; lane < 0 && i <= WORDS; i++) {
		uint32_t word = (from / 64 + i) % WORDS;

		if (words & UINT64_C(1) << word)
			lane = take_from(t, word, 0);
	}
	if (lane >= 0)
		atomic_store_explicit(&t->cursor, (uint32_t)lane + 1, memory_order_relaxed);
	return lane;
}

static bool long_queue(struct sb__turns *t)
{
	unsigned n = 0;

	for (uint64_t words = atomic_load(&t->words); words && n < LONG_QUEUE; words &= words - 1)
		n += (unsigned)__builtin_popcountll(atomic_load(&t->aside[__builtin_ctzll(words)]));
	return n >= LONG_QUEUE;
}

/* ── turns ── */

/* Its place among the turns, or NULL. */
static struct sb__turn *turn_of(struct sb__mailbox *m, uint32_t lane)
{
	struct sb__turns *t = turns_of(m);

	for (unsigned i = 0; t && i < t->most; i++)
		if (atomic_load_explicit(&t->turn[i].lane, memory_order_relaxed) == lane + 1)
			return &t->turn[i];
	return NULL;
}

static void end_turn(struct sb__turn *turn)
{
	if (turn)
		atomic_store_explicit(&turn->lane, 0, memory_order_relaxed);
}

bool sb__turns_waits(struct sb__mailbox *m, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(m, lane);

	/* The word first: whoever served this lane's last call wrote the notes before. */
	if (!l || SB__WORD_STATE(sb__load_acquire(&l->word)) != SB__LANE_READY || !sb__turns_possible(m))
		return false;
	if (!sb__load32(&l->caller_parked) && !(sb__lane_notes(m, lane)->turn_over && sb__turns_any(m)))
		return false;
	return !turn_of(m, lane);
}

void sb__turns_begin(struct sb__mailbox *m, uint32_t lane, uint64_t now_ns)
{
	struct sb__turns *t = turns_of(m);
	struct sb__turn *turn = NULL;

	for (unsigned i = 0; i < t->most && !turn; i++)
		if (!atomic_load_explicit(&t->turn[i].lane, memory_order_relaxed))
			turn = &t->turn[i];
	if (!turn)
		return; /* one more than there should be */
	atomic_store_explicit(&turn->called_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&turn->lane, lane + 1, memory_order_relaxed);
}

void sb__turns_served(struct sb__mailbox *m, uint32_t lane, uint64_t now_ns)
{
	struct sb__lane_notes *notes = sb__lane_notes(m, lane);
	struct sb__turn *turn;

	if (notes->turn_over) {
		notes->turn_over = false;
		notes->turn_calls = 0;
		notes->turn_ns = 0;
	}
	if (notes->turn_calls == 1)
		notes->turn_began_ns = now_ns;
	else if (notes->turn_calls > 1 && now_ns > notes->turn_began_ns + TURN_NS)
		notes->turn_calls = TURN_CALLS; /* it is one that comes slowly */
	turn = sb__turns_any(m) ? turn_of(m, lane) : NULL;
	if (turn)
		atomic_store_explicit(&turn->called_ns, now_ns, memory_order_relaxed);
}

bool sb__turns_room(struct sb__mailbox *m, uint64_t now_ns)
{
	struct sb__turns *t = turns_of(m);
	bool room = false;

	for (unsigned i = 0; i < t->most; i++) {
		struct sb__turn *turn = &t->turn[i];

		uint64_t called_ns = atomic_load_explicit(&turn->called_ns, memory_order_relaxed);

		if (now_ns > called_ns + PATIENCE_NS)
			end_turn(turn);
		room |= !atomic_load_explicit(&turn->lane, memory_order_relaxed);
	}
	return room;
}

bool sb__turns_expected(struct sb__mailbox *m)
{
	struct sb__turns *t = turns_of(m);

	for (unsigned i = 0; i < t->most; i++) {
		uint32_t lane = atomic_load_explicit(&t->turn[i].lane, memory_order_relaxed);

		if (lane && SB__WORD_STATE(sb__load(&sb__lane_at(m, lane - 1)->word)) == SB__LANE_DONE)
			return true;
	}
	return false;
}

void sb__turns_clear(struct sb__mailbox *m)
{
	struct sb__turns *t = turns_of(m);

	for (unsigned i = 0; i < t->most; i++)
		end_turn(&t->turn[i]);
}

unsigned sb__turns_count(struct sb__mailbox *m, const struct sb__accepted *call)
{
	struct sb__lane_notes *notes = sb__lane_notes(m, call->lane);

	notes->turn_calls++;
	notes->turn_ns += call->took_ns;
	/* Also where nobody waits, as far as is known: who comes while it calls on is not behind it. */
	notes->turn_over = notes->turn_calls >= TURN_CALLS || notes->turn_ns >= TURN_NS;
	if (!sb__turns_any(m))
		return SB__TURN_FREE;
	if (!notes->turn_over)
		return SB__TURN_ON;
	end_turn(turn_of(m, call->lane));
	return long_queue(turns_of(m)) ? SB__TURN_OVER_LONG : SB__TURN_OVER;
}
