/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelling calls by trace id, and finding the running calls that nobody wants any more.
 *
 * It does not interrupt anything: that is the owner's engine. A call that has not begun is taken out by one CAS. Lanes
 * move while they are looked at: a word that was read before and after the trace id did not, and only the word that was
 * read is changed or marked.
 *
 * Locks: none.
 * Crash: killed between marking a lane and telling of it, the call runs on; whoever wanted it cancelled is gone.
 */
#include "mailbox.h"

#include "mailbox_impl.h"
#include "point.h"

enum found { OTHER, REMOVED, ASKED };

/* call: only that one (a word without its state); 0: any of that trace id. */
static enum found cancel_lane(struct sb__mailbox *m, struct sb__lane_shm *l, uint64_t trace_id, uint64_t call,
                              bool *ret_follower)
{
	for (;;) {
		uint64_t word = sb__load_acquire(&l->word);
		unsigned state = SB__WORD_STATE(word);
		bool same;

		if (state != SB__LANE_READY && state != SB__LANE_BUSY)
			return OTHER;
		same = call ? SB__WORD_CALL(word) == call : sb__load(&l->trace_id) == trace_id;
		sb__barrier();
		if (sb__load_acquire(&l->word) != word)
			continue;
		if (!same)
			return OTHER;
		if (state == SB__LANE_BUSY) {
			sb__store(&l->cancel, SB__WORD_CALL(word));
			SB_POINT("cancel.asked");
			sb__barrier(); /* pairs with a thread that is about to wait for an answer */
			sb__lane_wake_asker(l);
			return ASKED;
		}
		if (sb__cas(&l->word, word, SB__WORD_WITH(word, SB__LANE_CANCELLED))) {
			SB_POINT("cancel.removed");
			sb__lane_wake(l); /* the CAS is the full barrier before reading caller_parked */
			*ret_follower |= sb__lane_follow(m, l);
			return REMOVED;
		}
	}
}

void sb__mailbox_cancel(struct sb__mailbox *mailbox, struct sb__bell *bell, uint64_t trace_id,
                        uint32_t *ret_removed, uint32_t *ret_asked)
{
	uint32_t count = sb__mailbox_lanes(mailbox);
	bool follower = false;

	*ret_removed = *ret_asked = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct sb__lane_shm *l = sb__lane_at(mailbox, i);
		enum found found;

		if (!l)
			break; /* there are fewer than the count says */
		found = cancel_lane(mailbox, l, trace_id, 0, &follower);
		*ret_removed += found == REMOVED;
		*ret_asked += found == ASKED;
	}
	if (*ret_asked)
		sb__mailbox_attention(mailbox, bell);
	else if (follower && bell)
		sb__bell_ring(bell, mailbox->header->bell_index);
}

int sb__flight_cancel(struct sb__flight *f)
{
	bool follower = false;
	enum found found = f->over ? OTHER : cancel_lane(f->m, f->l, 0, SB__WORD_CALL(f->ready), &follower);

	if (found == ASKED)
		sb__mailbox_attention(f->m, f->bell);
	else if (follower)
		sb__bell_ring(f->bell, f->m->header->bell_index);
	return found == ASKED ? 1 : found == REMOVED ? 2 : 0;
}

void sb__mailbox_attention(struct sb__mailbox *mailbox, struct sb__bell *bell)
{
	sb__add(&mailbox->control->attention, 1);
	SB_POINT("cancel.attention");
	if (!bell)
		return;
	/* The leader may be in the very call that is meant: then the one standing by takes the lead. */
	if (!sb__bell_ring(bell, mailbox->header->bell_index))
		sb__bell_nudge(bell);
}

uint64_t sb__mailbox_attention_count(struct sb__mailbox *mailbox)
{
	return sb__load_acquire(&mailbox->control->attention);
}

void sb__mailbox_unwanted(struct sb__mailbox *mailbox, bool abandoned, void (*visit)(void *arg, uint64_t key),
                          void *arg)
{
	uint32_t count = sb__mailbox_lanes(mailbox);

	for (uint32_t i = 0; i < count; i++) {
		struct sb__lane_shm *l = sb__lane_at(mailbox, i);
		uint64_t word;
		unsigned state;

		if (!l)
			break;
		word = sb__load_acquire(&l->word);
		state = SB__WORD_STATE(word);
		if ((state == SB__LANE_BUSY && sb__load_acquire(&l->cancel) == SB__WORD_CALL(word)) ||
		    (state == SB__LANE_ABANDONED && abandoned))
			visit(arg, sb__call_key(i, word));
	}
}
