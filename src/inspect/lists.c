/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners and calls of all sessions. Each is read at its own moment: a list says what was, within milliseconds.
 *
 * Locks: none. Crash: as snapshot.c.
 */
#include <stdlib.h>

#include "clock.h"
#include "inspect_impl.h"
#include "names.h"

/* ── owners ── */

struct owner_list {
	struct sb__inspect *inspect;
	int (*visit)(void *arg, const struct sb__session_view *session, const struct sb__owner_view *owner);
	void *arg;
	int error;
};

static int session_owners(void *arg, const struct sb__session_view *session, uint32_t lanes)
{
	struct owner_list *list = arg;
	struct sb__owner_view *owners = NULL;
	size_t count = 0;
	uint32_t dead;
	int stop = 0;

	(void)lanes;
	list->error = sb__look_owners(list->inspect, session->rec.uid, &dead, &owners, &count);
	for (size_t i = 0; list->error >= 0 && !stop && i < count; i++)
		stop = list->visit(list->arg, session, &owners[i]);
	free(owners);
	return list->error < 0 || stop;
}

int sb__inspect_owners(struct sb__inspect *inspect,
                       int (*visit)(void *arg, const struct sb__session_view *session,
                                    const struct sb__owner_view *owner),
                       void *arg)
{
	struct owner_list list = { .inspect = inspect, .visit = visit, .arg = arg };
	int r;

	sb__look_begin(inspect);
	r = sb__look_sessions(inspect, session_owners, &list);
	return list.error < 0 ? list.error : r;
}

bool sb__inspect_owns(struct sb__inspect *inspect, const struct sb__session_view *view, int32_t pid)
{
	struct sb__owner_rec *recs = NULL;
	bool owns = view->rec.designated.pid == pid;
	size_t count = 0;

	if (owns || sb__store_owners_of_session(inspect->store, view->rec.uid, &recs, &count) < 0)
		return owns;
	for (size_t i = 0; i < count; i++)
		owns |= recs[i].pid == pid;
	free(recs);
	return owns;
}

/* ── calls ── */

struct call_list {
	struct sb__inspect *inspect;
	int (*visit)(void *arg, const struct sb__session_view *session, const struct sb__call_view *call);
	void *arg;
};

static uint64_t between(uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns > from_ns ? to_ns - from_ns : 0;
}

static struct sb__call_view view_call(struct sb__inspect *inspect, const struct sb__lane_view *lane)
{
	struct sb__call_view call = { .lane = *lane };
	uint64_t now = sb__now_ns();
	/* An earlier call's, while this one waits. */
	bool accepted = lane->state != SB__LANE_READY && lane->accepted_ns >= lane->published_ns;

	call.caller = sb__look_evidence(inspect, lane->slot, lane->generation);
	sb__look_program(inspect, lane->slot, lane->generation, call.program);
	call.waited_ns = between(lane->published_ns, accepted ? lane->accepted_ns : now);
	call.ran_ns = accepted ? between(lane->accepted_ns, now) : 0;
	return call;
}

static int session_calls(void *arg, const struct sb__session_view *session, uint32_t lanes)
{
	struct call_list *list = arg;
	int stop = 0;

	for (uint32_t i = 0; i < lanes && !stop; i++) {
		const struct sb__lane_view *lane = &list->inspect->views[i];
		struct sb__call_view call;

		if (lane->state == SB__LANE_IDLE || sb__lane_state_name(lane->state)[0] == '?')
			continue;
		call = view_call(list->inspect, lane);
		stop = list->visit(list->arg, session, &call);
	}
	return stop;
}

int sb__inspect_calls(struct sb__inspect *inspect,
                      int (*visit)(void *arg, const struct sb__session_view *session,
                                   const struct sb__call_view *call),
                      void *arg)
{
	struct call_list list = { .inspect = inspect, .visit = visit, .arg = arg };

	sb__look_begin(inspect);
	return sb__look_sessions(inspect, session_calls, &list);
}
