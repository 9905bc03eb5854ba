/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelling calls by their trace id, in three steps: one that has not begun is removed, one that runs Python is
 * interrupted there, one that is in C code goes on until it comes back.
 *
 * Locks: none.  Crash: see shm/lane_cancel.c.
 */

#include "core.h"
#include "fail.h"
#include "host_impl.h"
#include "os_linux.h"

#define TRIES 100

/* This process's own calls on objects that it holds go by no lane: the engine knows them. */
static unsigned cancel_here(struct sb__hosted *h, uint64_t trace_id)
{
	unsigned told = 0;

	if (sb__hosted_begin(h)) {
		told = h->host->engine->cancel(h->table, trace_id, 0);
		sb__hosted_leave(h);
	}
	return told;
}

int sb__session_cancel(sb_session *s, uint64_t trace_id, int *ret_level)
{
	struct sb__attachment *a;
	uint32_t removed = 0, asked = 0;
	int err;

	if (!s)
		s = sb__context_current();
	if (!s)
		return sb__fail(SB_EINVAL, "sb_cancel: no session is named and none is current: pass the one "
		                           "that the call went to");
	err = sb__session_enter(s);
	if (err)
		return err;
	a = sb__session_attachment(s);
	if (a) {
		sb__mailbox_cancel(a->mailbox, a->hosted ? sb__host_bell(s->core) : &a->peer->bell, trace_id,
		                   &removed, &asked);
		if (a->hosted)
			asked += cancel_here(a->hosted, trace_id);
	}
	if (ret_level)
		*ret_level = asked ? SB_CANCEL_ASKED : removed ? SB_CANCEL_REMOVED : SB_CANCEL_NONE;
	return 0;
}

/* ── the owner's side ── */

struct attending {
	struct sb__hosted *h;
	unsigned missed;
};

static void interrupt(void *arg, uint64_t key)
{
	struct attending *at = arg;

	if (!at->h->host->engine->cancel(at->h->table, 0, key))
		at->missed++;
}

void sb__hosted_attend(struct sb__hosted *h, bool again)
{
	uint64_t count = sb__mailbox_attention_count(h->mailbox);
	bool abandoned = sb__core_number(h->host->core, SB__CONFIG_CANCEL_ABANDONED);
	struct attending at = { .h = h };

	if (atomic_exchange(&h->attention_seen, count) == count && !(again && atomic_load(&h->missed)))
		return;
	/* A call that the engine does not know was taken a moment ago, or has just ended. Its thread may be held up on its way:
	 * then the keeper looks again. */
	for (int i = 0; i < TRIES; i++) {
		at.missed = 0;
		sb__mailbox_unwanted(h->mailbox, abandoned, interrupt, &at);
		if (!at.missed)
			break;
		sb__os_yield();
	}
	atomic_store(&h->missed, at.missed > 0);
}
