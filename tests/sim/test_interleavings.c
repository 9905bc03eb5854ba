/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every interleaving of small scenes of the lane protocol, up to a bound of preemptions, on the code that is shipped: src/shm
 * compiled for the simulator. At each access to a shared word and each system call another thread may go on; a process may be
 * killed there; a deadline may pass there. A thread that waits wakes only when it is woken: no timeout mends a lost
 * wake-up. Iterative depth-first search over the choices, each run from the beginning.
 *
 * Checked in each: a request runs at most once, and not after its caller was told that it had not started; whoever gets a
 * reply gets that of its own call; no living caller sleeps for ever; in the end no lane is anybody's; a block that is kept
 * is never taken for free.
 *
 * SB_INTERLEAVE_MORE=n adds n preemptions to each bound: 1 takes minutes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bell.h"
#include "holds.h"
#include "mailbox.h"
#include "mailbox_impl.h"
#include "sim.h"

enum { CALLERS = 2, DEPTH_MAX = 4096, CALLS_MAX = 8, BELL_INDEX = 3, INCARNATION = 9 };

#define DEADLINE_NS   UINT64_C(5000000)
#define FAR_NS        UINT64_C(3600000000000)
#define INTERLEAVINGS 100000000u /* of a scene, at most: more is no small scene */

/* ── what a scene is ── */

struct scene {
	const char *name;
	unsigned callers, calls; /* calls: of each */
	unsigned preemptions;
	bool deadline, kill_owner, kill_caller, end, holds;
	unsigned servers;
};

/* ── the choices of a run ── */

struct choice {
	uint8_t taken, count;
};

static struct {
	const struct scene *scene;
	struct choice path[DEPTH_MAX];
	unsigned depth, length;
	unsigned preemptions, kills, deadlines;
	uint64_t runs, seconds_at_most;
	unsigned longest;
	char wrong[256]; /* the first thing that was found wrong */
} search;

static struct {
	struct sim_proc *owner, *callers[CALLERS];
	struct sb__mailbox *mailbox[CALLERS + 1]; /* the last: the owner's */
	struct sb__bell bell[CALLERS + 1];
	struct sb__holds_shm *holds;
	unsigned ran[CALLERS * CALLS_MAX];
	bool told_not[CALLERS * CALLS_MAX]; /* its caller was told that it had not started */
	bool done[CALLERS];
	uint64_t deadline_ns[CALLERS]; /* of the call that is made */
	bool has[2], handed;           /* who keeps the block */
	bool taken_for_free;
} world;

static void wrong(const char *what, unsigned a, unsigned b)
{
	if (!search.wrong[0])
		snprintf(search.wrong, sizeof(search.wrong), "%s (%u, %u)", what, a, b);
}

static unsigned choose(unsigned count)
{
	struct choice *c = &search.path[search.depth];

	if (count < 2)
		return 0;
	if (search.depth == DEPTH_MAX) {
		wrong("a run of too many choices", DEPTH_MAX, 0);
		return 0;
	}
	if (search.depth == search.length)
		search.path[search.length++] = (struct choice){ 0, (uint8_t)count };
	search.depth++;
	if (c->taken >= count) { /* a run that does not repeat itself proves nothing */
		wrong("not the same run as before", c->taken, count);
		return 0;
	}
	return c->taken;
}

/* The next path in the order of the search; false: that was the last. */
static bool next_path(void)
{
	while (search.length > 0) {
		struct choice *c = &search.path[search.length - 1];

		if (c->taken + 1 < c->count) {
			c->taken++;
			return true;
		}
		search.length--;
	}
	return false;
}

static struct sim_thread *pick_one(struct sim_thread **list, unsigned n)
{
	return list[choose(n)];
}

/* Who may be killed now, or NULL. Also a process that sleeps: when its death shows matters to others. */
static struct sim_proc *victim(void)
{
	const struct scene *s = search.scene;
	struct sim_proc *p = s->kill_owner ? world.owner : s->kill_caller ? world.callers[0] : NULL;

	return search.kills == 0 && p && !p->dead && !world.done[0] ? p : NULL;
}

static struct sim_thread *decide(enum sim_point point)
{
	struct sim_thread *list[SIM_THREADS_MAX], *me = sim.current;
	unsigned ready = search.preemptions ? sim_ready(list) : 0, others = 0, option;
	struct sim_proc *dies = victim();
	bool late = search.deadlines > 0;

	(void)point;
	for (unsigned i = 0; i < ready; i++)
		if (list[i] != me)
			list[others++] = list[i];
	option = choose(1 + (dies != NULL) + late + others);
	if (option == 0)
		return me;
	option--;
	if (dies && option-- == 0) {
		search.kills++;
		sim_kill(dies, 0);
		sim_wake_object(&search, UINT32_MAX); /* the reaper */
		return dies == me->proc ? NULL : me;
	}
	if (late && option-- == 0) {
		search.deadlines--;
		sim.now_ns += 2 * DEADLINE_NS;
		sim_time_out();
		return me;
	}
	search.preemptions--;
	return list[option];
}

/* ── the parts that are played ── */

static void *hold_alive(void *arg)
{
	(void)arg;
	if (sb__bell_alive_hold(&world.bell[CALLERS]) != 0)
		wrong("the alive mutex", 0, 0);
	return NULL;
}

static void serve_call(struct sb__mailbox *m, struct sb__accepted *call)
{
	struct sb__buf reply;
	uint32_t number = UINT32_MAX;

	if (call->request.len == sizeof(number))
		memcpy(&number, call->request.data, sizeof(number));
	if (number >= CALLERS * CALLS_MAX) {
		wrong("a request that nobody sent", number, (unsigned)call->request.len);
		number = 0;
	}
	if (++world.ran[number] > 1 || world.told_not[number])
		wrong("it runs again, or though its caller was told that it would not", number,
		      world.ran[number]);
	sim_point(SIM_AT_CALL); /* it runs */
	/* Only the owner frees what runs: the lane is this call's until it is complete. */
	if (SB__WORD_CALL(sb__lane_at(m, call->lane)->word) != SB__WORD_CALL(call->word))
		wrong("the lane of a running call was given to another", number, call->lane);
	sb__accepted_reply(m, call, &reply);
	number += 1000;
	sb__buf_append(&reply, &number, sizeof(number));
	(void)sb__accepted_complete(m, call, &reply, NULL);
}

static void *serve(void *arg)
{
	struct sb__mailbox *m = world.mailbox[CALLERS];
	struct sb__bell *bell = &world.bell[CALLERS];
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__taking at = { .cursor = 0 };
	uint32_t sessions = 0;
	struct sb__accepted call;

	(void)arg;
	for (;;) {
		int index = sb__bell_take(bell, &sessions);

		if (index < 0)
			(void)sb__bell_sleep(bell, FAR_NS, 0);
		while (index == BELL_INDEX && sb__mailbox_accept_next(m, NULL, &at, scratch, &call) == 1)
			serve_call(m, &call);
	}
	return NULL;
}

/* What may be said, and what must then be so. True: the lane is still the caller's. */
static bool judge(enum sb__lane_result result, unsigned me, uint32_t number, uint32_t lane)
{
	const struct scene *s = search.scene;
	uint8_t memory[64];
	struct sb__buf reply;
	uint32_t answer = 0;

	switch (result) {
	case SB__LANE_REPLIED:
		sb__buf_init(&reply, memory, sizeof(memory));
		if (sb__lane_reply(world.mailbox[me], lane, NULL, &reply) == 0 && reply.len == sizeof(answer))
			memcpy(&answer, reply.data, sizeof(answer));
		if (answer != number + 1000 || world.ran[number] != 1)
			wrong("the reply of another call", answer, number);
		sb__lane_consume(world.mailbox[me], lane);
		return true;
	case SB__LANE_NOT_STARTED:
	case SB__LANE_DIED_NOT_STARTED:
	case SB__LANE_ENDED:
		world.told_not[number] = true;
		if (world.ran[number])
			wrong("told that it had not started, but it ran", number, result);
		break;
	case SB__LANE_MAYBE:
	case SB__LANE_DIED_MAYBE: break;
	default: wrong("an outcome that nothing led to", result, number);
	}
	if ((result == SB__LANE_DIED_NOT_STARTED || result == SB__LANE_DIED_MAYBE) && !world.owner->dead)
		wrong("the owner lives", number, result);
	if (result == SB__LANE_ENDED && !s->end)
		wrong("nobody ended it", number, result);
	if (result == SB__LANE_NOT_STARTED && !s->deadline)
		wrong("no deadline passed", number, result);
	return result != SB__LANE_MAYBE && result != SB__LANE_DIED_MAYBE;
}

static void *make_calls(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	struct sb__mailbox *m = world.mailbox[me];
	uint32_t lane = UINT32_MAX;

	for (unsigned i = 0; i < search.scene->calls && !world.owner->dead; i++) {
		uint64_t wait_ns = search.scene->deadline && i == 0 ? DEADLINE_NS : FAR_NS;
		struct sb__lane_post post = { .deadline_ns = sim.now_ns + wait_ns, .label = "call" };
		uint32_t number = me * CALLS_MAX + i;
		enum sb__lane_result result;
		struct sb__buf buf;

		if (lane == UINT32_MAX && sb__lane_claim(m, 10 + me, 1, &lane) != 0)
			break; /* the session ended */
		world.deadline_ns[me] = post.deadline_ns;
		sb__lane_request(m, lane, &buf);
		sb__buf_append(&buf, &number, sizeof(number));
		if (sb__lane_call(m, &world.bell[me], lane, &buf, &post, NULL, NULL, &result) != 0)
			wrong("the call could not be sent", number, lane);
		else if (!judge(result, me, number, lane))
			lane = UINT32_MAX;
	}
	if (lane != UINT32_MAX)
		sb__lane_unclaim(m, lane);
	world.done[me] = true;
	return NULL;
}

static void *reap(void *arg)
{
	(void)arg;
	while (!world.callers[0]->dead)
		(void)sim_wait_object(&search, UINT64_MAX);
	(void)sb__mailbox_reclaim(world.mailbox[CALLERS], 10, 1, false);
	return NULL;
}

static void *end_session(void *arg)
{
	(void)arg;
	(void)sb__mailbox_end(world.mailbox[1], SB__MAILBOX_RELEASED);
	return NULL;
}

/* ── holds: A keeps a block and hands it on to B; the writer looks whether anybody keeps it ── */

static void named(void *arg, uint64_t word)
{
	(void)word;
	*(bool *)arg = true;
}

static void *hand_on(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t word = SB__HOLD(10 + me, 1, 64);
	uint32_t hint = me == 1 ? 0 : 1, entry; /* B's entry lies before A's */

	if (me == 0) {
		while (!world.has[0])
			(void)sim_wait_object(&world, UINT64_MAX);
		while (!world.handed)
			(void)sim_wait_object(&world, UINT64_MAX);
		world.has[0] = false;
		sb__holds_give(world.holds, 1, SB__HOLD(10, 1, 64));
		return NULL;
	}
	if (sb__holds_take(world.holds, word, &hint, &entry) != 0)
		wrong("no entry", me, 0);
	world.has[1] = true;
	world.handed = true; /* A learns of it */
	sim_wake_object(&world, UINT32_MAX);
	return NULL;
}

static void *look(void *arg)
{
	bool found = false;

	(void)arg;
	if (sb__holds_each(world.holds, named, &found) && !found && (world.has[0] || world.has[1]))
		wrong("a block that is kept was taken for free", world.has[0], world.has[1]);
	return NULL;
}

static void set_holds(void)
{
	uint32_t hint = 0, entry;

	if (sb__holds_create(sim_dir_fd(SIM_DIR_ARENA), 1, 1, &world.holds) != 0)
		wrong("no table", 0, 0);
	/* A's entry is the second: what lies in the first is given back before. */
	(void)sb__holds_take(world.holds, SB__HOLD(9, 1, 128), &hint, &entry);
	(void)sb__holds_take(world.holds, SB__HOLD(10, 1, 64), &hint, &entry);
	sb__holds_give(world.holds, 0, SB__HOLD(9, 1, 128));
	world.has[0] = true;
	sim_must_finish(sim_thread_new(world.callers[0], hand_on, (void *)0));
	sim_must_finish(sim_thread_new(world.callers[1], hand_on, (void *)1));
	sim_must_finish(sim_thread_new(world.owner, look, NULL));
}

/* ── one run ── */

static void set_mailbox(const struct scene *s)
{
	struct sb__mailbox_params params = { .incarnation = INCARNATION,
		                             .owner = { .slot = 1, .generation = 1, .pid = world.owner->pid },
		                             .bell_index = BELL_INDEX,
		                             .session_id = "scene" };

	if (sb__bell_create(sim_dir_fd(SIM_DIR_BELL), &params.owner, &world.bell[CALLERS]) != 0 ||
	    sb__mailbox_create(sim_dir_fd(SIM_DIR_MAILBOX), &params, &world.mailbox[CALLERS]) != 0)
		wrong("no mailbox", 0, 0);
	for (unsigned i = 0; i < CALLERS; i++)
		if (sb__bell_attach(sim_dir_fd(SIM_DIR_BELL), 1, 1, &world.bell[i]) != 0 ||
		    sb__mailbox_attach(sim_dir_fd(SIM_DIR_MAILBOX), INCARNATION, &world.mailbox[i]) != 0)
			wrong("no mailbox", i, 0);
	sim_call(world.owner, hold_alive, NULL);
	for (unsigned i = 0; i < s->servers + 1; i++)
		sim_thread_new(world.owner, serve, NULL);
	for (unsigned i = 0; i < s->callers; i++)
		sim_must_finish(sim_thread_new(world.callers[i], make_calls, (void *)(uintptr_t)i));
	if (s->kill_caller)
		sim_must_finish(sim_thread_new(sim_proc_new(), reap, NULL));
	if (s->end)
		sim_must_finish(sim_thread_new(sim_proc_new(), end_session, NULL));
}

static void check_end(const struct scene *s, bool ended)
{
	if (s->holds) {
		if (!ended)
			wrong("somebody sleeps for ever", 0, 0);
		return;
	}
	for (unsigned i = 0; i < s->callers; i++)
		if (!world.done[i] && !world.callers[i]->dead)
			wrong("a caller sleeps for ever", i, world.owner->dead);
	sim.decide = NULL;
	sim_settle();
	if (!world.owner->dead && sb__mailbox_view(world.mailbox[CALLERS], NULL, 0) > 0)
		wrong("a lane is left", sb__mailbox_view(world.mailbox[CALLERS], NULL, 0), 0);
}

static void run_once(const struct scene *s)
{
	bool ended;

	sim.decide = NULL;
	sim.pick = NULL;
	sim.timeouts_never_fire = true;
	sim_begin(1);
	memset(&world, 0, sizeof(world));
	world.owner = sim_proc_new();
	for (unsigned i = 0; i < CALLERS; i++)
		world.callers[i] = sim_proc_new();
	if (s->holds)
		set_holds();
	else
		set_mailbox(s);
	search.depth = 0;
	search.preemptions = s->preemptions;
	search.deadlines = s->deadline;
	search.kills = 0;
	sim.decide = decide;
	sim.pick = pick_one;
	ended = sim_run();
	/* A deadline is a timed wait by what it is, and may pass just before the wait begins. */
	if (!ended && s->deadline && sim.now_ns >= world.deadline_ns[0]) {
		sim.now_ns += 2 * DEADLINE_NS;
		sim_time_out();
		ended = sim_run();
	}
	check_end(s, ended);
	sim_end();
	search.runs++;
	search.longest = search.depth > search.longest ? search.depth : search.longest;
}

/* All interleavings, or up to the first that is wrong. True: none is. */
static bool explore(const struct scene *s, int bug)
{
	struct timespec begin, end;

	memset(&search, 0, sizeof(search));
	search.scene = s;
	sim.bug = bug;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		run_once(s);
	} while (!search.wrong[0] && search.runs < INTERLEAVINGS && next_path());
	clock_gettime(CLOCK_MONOTONIC, &end);
	sim.bug = SIM_BUG_NONE;
	printf("%s [%s, %u preemptions]: %llu interleavings%s, up to %u choices, %.2f s%s%s\n", s->name,
	       bug ? sim_bug_names[bug] : "as shipped", s->preemptions, (unsigned long long)search.runs,
	       search.length && !search.wrong[0] ? " (cut off)" : "", search.longest,
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9,
	       search.wrong[0] ? ": " : "", search.wrong);
	if (!bug)
		printf("reliability: interleavings/%s tried=%llu failed=%d seconds=%.2f\n", s->name,
		       (unsigned long long)search.runs, search.wrong[0] != 0,
		       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return !search.wrong[0];
}

/* ── the scenes ── */

static const struct scene one_caller = { .name = "one-caller", .callers = 1, .calls = 2, .preemptions = 2 };
static const struct scene two_callers = { .name = "two-callers", .callers = 2, .calls = 1, .preemptions = 1 };
static const struct scene deadline = {
	.name = "deadline", .callers = 1, .calls = 2, .preemptions = 1, .deadline = true
};
static const struct scene kill_owner = {
	.name = "kill-owner", .callers = 1, .calls = 2, .preemptions = 1, .kill_owner = true
};
static const struct scene kill_owner_of_two = {
	.name = "kill-owner-of-two", .callers = 2, .calls = 1, .preemptions = 0, .kill_owner = true
};
static const struct scene kill_caller = {
	.name = "kill-caller", .callers = 1, .calls = 1, .preemptions = 1, .kill_caller = true
};
static const struct scene kill_one_of_two = {
	.name = "kill-one-of-two", .callers = 2, .calls = 1, .preemptions = 0, .kill_caller = true
};
static const struct scene release = {
	.name = "release", .callers = 1, .calls = 1, .preemptions = 2, .end = true
};
static const struct scene two_servers = {
	.name = "two-servers", .callers = 1, .calls = 2, .preemptions = 1, .servers = 1
};
static const struct scene holds = { .name = "holds", .preemptions = 4, .holds = true };

static void check(const struct scene *s)
{
	struct scene more = *s;
	const char *text = getenv("SB_INTERLEAVE_MORE");

	more.preemptions += text ? (unsigned)atoi(text) : 0;
	assert_true(explore(&more, SIM_BUG_NONE));
}

static void calls_of_one_caller(void **state)
{
	(void)state;
	check(&one_caller);
}

static void calls_of_two_callers(void **state)
{
	(void)state;
	check(&two_callers);
}

static void a_deadline_passes_anywhere(void **state)
{
	(void)state;
	check(&deadline);
}

static void the_owner_is_killed_anywhere(void **state)
{
	(void)state;
	check(&kill_owner);
	check(&kill_owner_of_two);
}

static void a_caller_is_killed_anywhere(void **state)
{
	(void)state;
	check(&kill_caller);
	check(&kill_one_of_two);
}

static void the_session_is_released_anywhere(void **state)
{
	(void)state;
	check(&release);
}

static void two_service_threads(void **state)
{
	(void)state;
	check(&two_servers);
}

static void a_hold_is_handed_on(void **state)
{
	(void)state;
	check(&holds);
}

static void seeded_mistakes_are_found(void **state)
{
	(void)state;
	assert_false(explore(&one_caller, SIM_BUG_CALLER_PARKS_LATE));
	assert_false(explore(&one_caller, SIM_BUG_LEADER_PARKS_LATE));
	assert_false(explore(&deadline, SIM_BUG_CLEARS_LATE));
	assert_false(explore(&deadline, SIM_BUG_KEEPS_BUSY));
	assert_false(explore(&kill_caller, SIM_BUG_REAPER_FREES_BUSY));
	assert_false(explore(&holds, SIM_BUG_HOLD_UNCOUNTED));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_of_one_caller),
		cmocka_unit_test(calls_of_two_callers),
		cmocka_unit_test(a_deadline_passes_anywhere),
		cmocka_unit_test(the_owner_is_killed_anywhere),
		cmocka_unit_test(a_caller_is_killed_anywhere),
		cmocka_unit_test(the_session_is_released_anywhere),
		cmocka_unit_test(two_service_threads),
		cmocka_unit_test(a_hold_is_handed_on),
		cmocka_unit_test(seeded_mistakes_are_found),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("interleavings", tests, NULL, NULL);
}
