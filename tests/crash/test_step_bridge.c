/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Killed at the instructions of what needs the store, too: opening a bridge and a session, joining, leaving, releasing,
 * electing, sweeping. After each death: a bystander's call is answered, one pass of the reaper restores everything, and
 * sb-inspect's check finds nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "crash_world.h"
#include "echo_engine.h"
#include "fixture.h"
#include "step_suite.h"
#include "sweep.h"

static struct crash_world world;

/* ── what is the same for all ── */

/* What the world found wrong is the suite's. */
static void check(void)
{
	unsigned wrong = world.wrong;

	snprintf(world.context, sizeof(world.context), "see below");
	crash_check(&world);
	if (world.wrong != wrong)
		step_wrong("see above");
}

static sb_session *open_session(const char *id, sb_designated designated)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *session = NULL;

	options.session_id = id;
	options.designated = designated;
	options.ttl_seconds = 0;
	(void)sb_session_open(world.bridge, &options, &session);
	return session;
}

static sb_session *own; /* the victim's */

/* ── sessions ── */

static int open_new(void *arg)
{
	(void)arg;
	own = open_session("x", SB_DESIGNATED_SELF);
	return !own;
}

static int join(void *arg)
{
	(void)arg;
	own = open_session("bystander", SB_DESIGNATED_ATTACH_ONLY);
	return !own;
}

static int join_and_call(void *arg)
{
	return join(arg) || sb_call(own, "echo", sb_args("i", 1), NULL);
}

/* The second session of a process: without attaching to the bridge. */
static int attached(void *arg)
{
	(void)arg;
	return !open_session("y", SB_DESIGNATED_SELF);
}

static int leave(void *arg)
{
	(void)arg;
	sb_session_close(own);
	return 0;
}

static int close_bridge(void *arg)
{
	(void)arg;
	sb_bridge_close(world.bridge);
	return 0;
}

static int release(void *arg)
{
	int released = 0;

	(void)arg;
	return sb_session_release(world.bridge, "x", &released) || !released;
}

static int call(void *arg)
{
	(void)arg;
	return sb_call(own, "echo", sb_args("i", 1), NULL);
}

/* ── elections ── */

static sb_session *orphan;
static struct child dead;

static int serve_o(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, "o");

	(void)arg;
	wish.ttl_ms = 0;
	return hand_serve(hand, &wish, true, NULL);
}

static void make_orphan(void)
{
	if (child_start(&dead, world.dir, serve_o, NULL) != 0)
		step_wrong("no session to orphan");
	orphan = open_session("o", SB_DESIGNATED_ATTACH_ONLY);
	child_kill(&dead, true);
}

static int elect(void *arg)
{
	(void)arg;
	own = open_session("o", SB_DESIGNATED_SELF);
	for (int i = 0; own && i < 3; i++)
		if (sb_call(own, "echo", sb_args("i", 1), NULL) == 0)
			return 0;
	return 1;
}

static void after_election(void)
{
	sb_session_close(orphan);
	check();
}

/* ── sweeping ── */

static int leave_debris(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, "mine"), rec;
	struct sb__mailbox *mailbox;
	struct sb__arena *arena;
	struct sb__spill_shm block;
	uint32_t lane;
	void *addr;
	int err = hand_serve(hand, &wish, true, NULL);

	(void)arg;
	if (!err) {
		wish = hand_wish(hand, "unowned");
		err = hand_serve(hand, &wish, false, NULL);
	}
	if (!err)
		err = hand_join(hand, "bystander", &rec, &mailbox);
	if (!err)
		err = sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
	if (!err)
		err = sb__arena_create(hand->dir.arena, hand->self.slot, hand->self.generation, &arena);
	if (!err)
		err = sb__arena_block_make(arena, SB__POOL_ARRAY, 100000, false, &block, &addr);
	return err;
}

static void make_debris(void)
{
	if (child_start(&dead, world.dir, leave_debris, NULL) != 0)
		step_wrong("no debris");
	child_kill(&dead, true);
}

static struct hand reaper;

static int open_reaper(void *arg)
{
	(void)arg;
	return hand_open(&reaper, world.dir);
}

static int sweep(void *arg)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;

	(void)arg;
	return sb__reaper_sweep(reaper.store, &reaper.dir, &options, &result);
}

/* ── a new bridge ── */

static char fresh[256];

static void make_fresh(void)
{
	fixture_dir_make(fresh, sizeof(fresh));
}

static int open_fresh(void *arg)
{
	sb_bridge *bridge;

	(void)arg;
	return sb_bridge_open(fresh, NULL, &bridge);
}

static void after_fresh(void)
{
	if (fixture_wait(fixture_fork(open_fresh, NULL)) != 0)
		step_wrong("whoever came next could not open the bridge");
	fixture_dir_remove(fresh);
	check();
}

/* ── the store alone ── */

static struct hand writer;

static int attach_writer(void *arg)
{
	(void)arg;
	return hand_attach(&writer, world.dir);
}

static int write_record(void *arg)
{
	struct sb__session_rec wish = hand_wish(&writer, "record");
	struct sb__owner_rec owner = { .slot = writer.self.slot,
		                       .generation = writer.self.generation,
		                       .handle = 1,
		                       .pid = writer.self.pid };

	(void)arg;
	return sb__store_session_create(writer.store, &wish, &owner) != 1;
}

static int written(void *arg)
{
	return attach_writer(arg) || write_record(arg);
}

static int end_record(void *arg)
{
	(void)arg;
	return sb__store_session_end(writer.store, "record", 0, SB__END_RELEASED, NULL) != 1;
}

static const struct step_item items[] = {
	{ "call-session", NULL, join_and_call, call, check, 80, 0 },
	{ "store-create", NULL, attach_writer, write_record, check, 100, 3000 },
	{ "store-end", NULL, written, end_record, check, 100, 3000 },
	{ "attach", NULL, open_reaper, attach_writer, check, 80, 3000 },
	{ "join", NULL, attached, join, check, 100, 3000 },
	{ "join-first", NULL, NULL, join, check, 0, 3000 },
	{ "open", NULL, attached, open_new, check, 100, 3000 },
	{ "open-first", NULL, NULL, open_new, check, 0, 3000 },
	{ "leave", NULL, join_and_call, leave, check, 100, 3000 },
	{ "leave-last", NULL, open_new, leave, check, 100, 3000 },
	{ "release", NULL, open_new, release, check, 100, 3000 },
	{ "close-bridge", NULL, open_new, close_bridge, check, 100, 3000 },
	{ "elect", make_orphan, attached, elect, after_election, 100, 1500 },
	{ "sweep", make_debris, open_reaper, sweep, check, 100, 6000 },
	{ "bridge-open", make_fresh, NULL, open_fresh, after_fresh, 0, 2000 },
};

static void test_30_31_kills_at_instructions_of_sessions(void **state)
{
	int wrong;

	(void)state;
	assert_int_equal(crash_world_open(&world), 0);
	step_one_cpu();
	wrong = step_suite_run("kill-steps", items, sizeof(items) / sizeof(items[0]));
	step_any_cpu();
	print_message("a bystander's call took %.1f ms at worst\n", (double)world.worst_ns / 1e6);
	crash_world_close(&world);
	if (wrong < 0)
		skip();
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_30_31_kills_at_instructions_of_sessions),
	};

	echo_engine_use();
	signal(SIGPIPE, SIG_IGN);
	setenv("SNAKEBRIDGE_SWEEP_MS", "0", 1); /* only this test sweeps */
	return cmocka_run_group_tests_name("step_bridge", tests, NULL, NULL);
}
