/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is, where many callers share a session: the owner's side. Internal to this folder.
 *
 * A caller that has a CPU makes many calls in the time that it takes to wake another one. So requests of callers that are awake
 * are served as they come, and those of callers that sleep wait aside, for their turn: few callers have one at a time, about
 * as many as there are CPUs, each for SB__TURN_CALLS calls or SB__TURN_NS of service. Where nobody waits aside there are no
 * turns. docs/design/mailbox.md, turns.
 */
#ifndef SB_SHM_LANE_TURNS_H
#define SB_SHM_LANE_TURNS_H

#include "mailbox_impl.h"

/* Up to so many have no turns: the kernel shares the CPUs among their callers well enough. */
#define SB__FEW_LANES 16u

static inline bool sb__turns_possible(struct sb__mailbox *m)
{
	return sb__mailbox_lanes(m) > SB__FEW_LANES;
}

/* Does any request wait for its caller's turn? */
static inline bool sb__turns_any(struct sb__mailbox *m)
{
	struct sb__turns *t = atomic_load_explicit(&m->turns, memory_order_acquire);

	return t && atomic_load_explicit(&t->words, memory_order_acquire) != 0;
}

/* Is the lane's request one that waits for its turn? Not of a caller that is awake and had none of late, nor of one that has it. */
bool sb__turns_waits(struct sb__mailbox *m, uint32_t lane);
/* False without memory: then it is served at once. */
bool sb__turns_put_aside(struct sb__mailbox *m, uint32_t lane);
/* The next lane that was put aside, round robin, and not any more; -1 if there is none. */
int sb__turns_next(struct sb__mailbox *m);
/* The lane's turn begins. */
void sb__turns_begin(struct sb__mailbox *m, uint32_t lane, uint64_t now_ns);
/* A request of the lane was accepted. */
void sb__turns_served(struct sb__mailbox *m, uint32_t lane, uint64_t now_ns);
/* May another turn begin? Ends those whose callers have not come for long. */
bool sb__turns_room(struct sb__mailbox *m, uint64_t now_ns);
/* Callers in their turn that have not taken their last reply yet: they are on their way. */
bool sb__turns_expected(struct sb__mailbox *m);
/* All turns are over: nobody who has one calls. */
void sb__turns_clear(struct sb__mailbox *m);
/* A call is complete but for its reply: what its caller is told of its turn (SB__TURN_…). */
unsigned sb__turns_count(struct sb__mailbox *m, const struct sb__accepted *call);

#endif
