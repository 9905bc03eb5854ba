/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claiming lanes and giving them back.
 *
 * Locks: none held; whoever claims one uses it alone.
 *
 * Crash: one CAS each way: claimed or not. What a killed claimer leaves, reclaim frees (mailbox.c).
 */
#include "mailbox.h"

#include <string.h>

#include "fail.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

static bool try_claim(struct sb__mailbox *m, uint32_t lane, struct sb__lane_shm *l, uint64_t claim)
{
	uint64_t word = sb__load_acquire(&l->word);
	struct sb__lane_notes *notes;

	if (SB__WORD_STATE(word) != SB__LANE_FREE ||
	    !sb__cas(&l->word, word, SB__WORD(SB__LANE_IDLE, SB__WORD_SEQ(word), 0, 0) | claim))
		return false;
	SB_POINT("lane.claimed");
	notes = sb__lane_notes(m, lane);
	notes->claim = claim | SB__CLAIMED;
	notes->request_high = notes->reply_high = 0;
	notes->spin = notes->spin_woken = (struct sb__spin){ 0 };
	sb__store32(&l->caller_parked, 0); /* of a caller that died parked */
	sb__store32(&l->followed, 0);
	l->label[0] = '\0';
	l->caller_pid = m->pid;
	return true;
}

int sb__lane_claim(struct sb__mailbox *mailbox, uint32_t slot, uint32_t generation, uint32_t *ret_lane)
{
	uint64_t claim = SB__WORD(0, 0, slot, generation);

	if (!sb__load(&mailbox->control->claimed))
		sb__store(&mailbox->control->claimed, 1);
	for (;;) {
		uint32_t count = sb__mailbox_lanes(mailbox);
		int err;

		if (sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING)
			return sb__mailbox_ended_error(mailbox);
		for (uint32_t i = 0; i < count; i++) {
			struct sb__lane_shm *l = sb__lane_at(mailbox, i);

			if (!l)
				return sb_last_error()->code;
			if (try_claim(mailbox, i, l, claim)) {
				*ret_lane = i;
				return 0;
			}
		}
		err = sb__mailbox_grow(mailbox, count);
		if (err)
			return err;
	}
}

/* Requests and replies may hold secrets: gone before the next claimer comes. In IDLE nobody else writes
 * them. */
static void wipe(struct sb__lane_shm *l, struct sb__lane_notes *notes)
{
	memset(l->request, 0, notes->request_high);
	memset(l->reply, 0, notes->reply_high);
	memset(l->reply_short, 0, sizeof(l->reply_short));
	memset(l->label, 0, sizeof(l->label));
	notes->request_high = notes->reply_high = 0;
}

void sb__lane_unclaim(struct sb__mailbox *mailbox, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);
	struct sb__lane_notes *notes;

	if (!l || mailbox->epoch != sb__fork_epoch())
		return;
	notes = sb__lane_notes(mailbox, lane);
	for (;;) {
		uint64_t word = sb__load_acquire(&l->word);
		uint64_t next = SB__WORD_WITH(word, SB__LANE_IDLE);

		if (!sb__lane_is_ours(notes, word) || SB__WORD_STATE(word) == SB__LANE_ABANDONED)
			break; /* the owner frees an abandoned one */
		if (SB__WORD_STATE(word) == SB__LANE_BUSY) {
			next = SB__WORD_WITH(word, SB__LANE_ABANDONED);
		} else if (SB__WORD_STATE(word) == SB__LANE_IDLE) {
			wipe(l, notes);
			SB_POINT("lane.wiped");
			next = sb__word_freed(word);
		}
		if (sb__cas(&l->word, word, next) && SB__WORD_STATE(next) != SB__LANE_IDLE) {
			if (SB__WORD_STATE(next) == SB__LANE_ABANDONED)
				sb__lane_wake_asker(l);
			break; /* from here on the notes are the next claimer's */
		}
	}
	SB_POINT("lane.unclaimed");
}

int sb__lane_recover(struct sb__mailbox *mailbox, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(mailbox, lane);

	for (;;) {
		uint64_t word = l ? sb__load_acquire(&l->word) : 0;
		unsigned state = SB__WORD_STATE(word);

		if (!l || !sb__lane_is_ours(sb__lane_notes(mailbox, lane), word) ||
		    state == SB__LANE_ABANDONED)
			return -1;
		if (state == SB__LANE_IDLE)
			return 1;
		if (state != SB__LANE_DONE && state != SB__LANE_CANCELLED)
			return 0;
		(void)sb__cas(&l->word, word, SB__WORD_WITH(word, SB__LANE_IDLE));
	}
}
