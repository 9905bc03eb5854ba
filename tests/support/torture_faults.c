/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that use something up, say so, and wait to be killed: LMDB's reader slots, the bridge's process slots, the
 * lanes of a session, sessions by the thousand.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hand.h"
#include "os_linux.h"
#include "store_test.h"
#include "torture.h"

static int hold_until_killed(int ready)
{
	if (write(ready, "R", 1) != 1)
		return 1;
	for (;;)
		pause();
}

int torture_take_readers(int ready)
{
	struct hand hand;

	if (hand_open(&hand, torture->dir) || sb__store_test_fill_readers(hand.store, 100000) == 0)
		return 1;
	return hold_until_killed(ready);
}

/* ── process slots: one process holds the life tokens of all that are free ── */

struct taking {
	struct hand hand;
	void *pin;
};

static int take(void *arg, uint32_t slot)
{
	struct taking *t = arg;

	return sb__life_hold(t->hand.dir.boot, slot, &t->pin);
}

static void give(void *arg, uint32_t slot)
{
	struct taking *t = arg;

	(void)slot;
	sb__life_drop(t->pin);
}

int torture_take_processes(int ready)
{
	struct taking t = { .pin = NULL };
	struct sb__identity identity;
	int err = hand_open(&t.hand, torture->dir), n = 0;

	while (!err) {
		err = sb__identity_self(&identity);
		if (!err)
			err = sb__store_process_add(t.hand.store, &identity, take, give, &t);
		n += !err;
	}
	if (err != SB_EPROCESSES || n == 0) {
		fprintf(stderr, "taking process slots: %d, then %s\n", n, sb_last_error()->message);
		return 1;
	}
	return hold_until_killed(ready);
}

/* ── by the library ── */

static sb_session *join(const char *id, sb_designated designated)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_bridge *bridge;

	o.session_id = id;
	o.designated = designated;
	return sb_bridge_open(torture->dir, NULL, &bridge) || sb_session_open(bridge, &o, &s) ? NULL : s;
}

/* A call in flight keeps its lane until its result is fetched, and nobody ever does. */
int torture_take_lanes(const char *session, int ready)
{
	sb_session *s = join(session, SB_DESIGNATED_DEDICATED);
	int err = s ? 0 : sb_last_error()->code, n = 0;

	while (!err) {
		sb_request r = SB_REQUEST_INIT;
		sb_future *f;

		r.name = "builtins:abs";
		r.args = sb_args("i", (int64_t)n);
		err = sb_call_start(s, &r, &f);
		n += !err;
	}
	if (err != SB_ELANES) /* killed, released, no space: then it took what there was */
		fprintf(stderr, "taking lanes: %d, then %s\n", n, sb_error_name(err));
	return hold_until_killed(ready);
}

int torture_open_sessions(int number, int count, int ready)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge;
	char id[64];

	if (sb_bridge_open(torture->dir, NULL, &bridge))
		return 1;
	for (int i = 0; i < count; i++) {
		sb_session *s = NULL;

		snprintf(id, sizeof(id), "one-of-many-%d-%d", number, i);
		o.session_id = id;
		o.designated = SB_DESIGNATED_SELF;
		if (sb_session_open(bridge, &o, &s) || sb_call(s, "builtins:object", NULL, NULL)) {
			fprintf(stderr, "session %d: %s\n", i, sb_last_error()->message);
			return 1;
		}
	}
	return hold_until_killed(ready);
}
