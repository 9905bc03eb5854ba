/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses to shared words: each is a point, then the access itself. Memory is sequentially consistent here, as in the
 * models; what needs a barrier is left to ThreadSanitizer (tests/tsan). Seeded mistakes find their place by the function
 * that the access is in.
 */
#include <stddef.h>
#include <string.h>

#include "sim.h"

#include "layout.h"
#include "sim_words.h"

/* A store that a seeded mistake holds back. */
static struct {
	sb__word32 *word32;
	sb__word *and_word;
	unsigned int value;
	uint64_t bits;
	struct sim_thread *by;
} late;

static bool seeded(int bug, const char *in, const char *function)
{
	return sim.bug == bug && strcmp(in, function) == 0;
}

/* Is it that field of a lane? Lanes begin at lines of a cache. */
static bool is_answered(const sb__word32 *w)
{
	return (uintptr_t)w % 64 == offsetof(struct sb__lane_shm, answered) % 64;
}

void sim_words_late(void)
{
	if (late.word32 && late.by == sim.current) {
		*late.word32 = late.value;
		late.word32 = NULL;
	}
}

void sim_words_begin(void)
{
	memset(&late, 0, sizeof(late));
}

uint64_t sim_load(const sb__word *w, const char *in)
{
	uint64_t v;

	sim_point(SIM_AT_LOAD);
	v = *w;
	if (late.and_word && strcmp(in, "accept_lane") == 0) {
		sim_point(SIM_AT_CAS);
		*late.and_word &= late.bits;
		late.and_word = NULL;
	}
	return v;
}

void sim_store(sb__word *w, uint64_t v, const char *in)
{
	(void)in;
	sim_point(SIM_AT_STORE);
	*w = v;
}

bool sim_cas(sb__word *w, uint64_t old, uint64_t new, const char *in)
{
	sim_point(SIM_AT_CAS);
	if (seeded(SIM_BUG_REAPER_FREES_BUSY, in, "reclaim_lane") &&
	    SB__WORD_STATE(new) == SB__LANE_ABANDONED)
		new = SB__WORD(SB__LANE_FREE, SB__WORD_SEQ(new) + 1, 0, 0);
	if (seeded(SIM_BUG_KEEPS_BUSY, in, "settle") && SB__WORD_STATE(new) == SB__LANE_ABANDONED)
		new = (new & ~(UINT64_C(0xf) << 60)) | (uint64_t)SB__LANE_IDLE << 60;
	if (seeded(SIM_BUG_UNTOUCHED, in, "sb__mailbox_touch") ||
	    seeded(SIM_BUG_END_UNTOLD, in, "sb__mailbox_end") ||
	    seeded(SIM_BUG_HOLD_UNTAKEN, in, "try_take") ||
	    seeded(SIM_BUG_HOLD_OF_DEAD, in, "sb__holds_clear") ||
	    seeded(SIM_BUG_LANE_OF_DEAD, in, "reclaim_lane"))
		return true;
	if (*w != old)
		return false;
	*w = new;
	return true;
}

uint64_t sim_add(sb__word *w, uint64_t n, const char *in)
{
	uint64_t v;

	sim_point(SIM_AT_CAS);
	v = *w;
	if (!seeded(SIM_BUG_HOLD_UNCOUNTED, in, "sb__holds_take"))
		*w = v + n;
	return v;
}

void sim_or(sb__word *w, uint64_t bits, const char *in)
{
	(void)in;
	sim_point(SIM_AT_CAS);
	*w |= bits;
}

void sim_and(sb__word *w, uint64_t bits, const char *in)
{
	sim_point(SIM_AT_CAS);
	if (seeded(SIM_BUG_CLEARS_LATE, in, "accept_ready")) {
		late.and_word = w;
		late.bits = bits;
		return;
	}
	*w &= bits;
}

unsigned int sim_load32(const sb__word32 *w, const char *in)
{
	(void)in;
	sim_point(SIM_AT_LOAD);
	return *w;
}

void sim_store32(sb__word32 *w, unsigned int v, const char *in)
{
	sim_point(SIM_AT_STORE);
	if (seeded(SIM_BUG_ANSWER_STANDS, in, "write_request") && is_answered(w))
		return;
	if (v && (seeded(SIM_BUG_CALLER_PARKS_LATE, in, "park_for_reply") ||
	          seeded(SIM_BUG_LEADER_PARKS_LATE, in, "count_sleeper"))) {
		late.word32 = w;
		late.value = v;
		late.by = sim.current;
		return;
	}
	*w = v;
}

bool sim_cas32(sb__word32 *w, unsigned int old, unsigned int new, const char *in)
{
	(void)in;
	sim_point(SIM_AT_CAS);
	if (*w != old)
		return false;
	*w = new;
	return true;
}

unsigned int sim_add32(sb__word32 *w, unsigned int n, const char *in)
{
	(void)in;
	sim_point(SIM_AT_CAS);
	*w += n;
	return *w - n;
}

void sim_barrier(const char *in)
{
	(void)in;
}

void sim_pause(void)
{
	sim.now_ns += 1000;
	sim_yield();
}
