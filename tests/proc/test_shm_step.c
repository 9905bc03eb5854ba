/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller killed at every instruction of claim, publish and what follows, by single-stepping it under
 * ptrace, while an owner serves. After each kill: reclaim leaves no lane claimed, the owner never read a
 * request that nobody wrote, and a bystander's call works.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "mailbox_impl.h"
#include "shm_world.h"

#define VICTIM    12
#define MINUTE_NS UINT64_C(60000000000)
#define STEPS_MAX 4000 /* beyond it, a caller under ptrace only spins or sleeps */
#define BEYOND    60   /* kills after a phase has done what it is about */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 17 /* a sanitizer makes many instructions out of one */
#else
#define STRIDE 1
#endif

/* What is stepped; before it the victim runs freely. */
enum phase { CLAIM, PUBLISH_AND_WAIT, REPLY_AND_GIVE_BACK, PHASES };

static int victim(struct shm_world *world, enum phase phase)
{
	struct sb__lane_post post = { .deadline_ns = sb__now_ns() + MINUTE_NS,
		                      .label = "victim",
		                      .arena = world->arena };
	enum sb__lane_result result;
	uint8_t memory[512];
	struct sb__buf buf;
	uint32_t lane;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	if (phase == CLAIM)
		raise(SIGSTOP);
	if (sb__lane_claim(world->mailbox, VICTIM, 1, &lane) != 0)
		return 1;
	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, 99, 24);
	if (phase == PUBLISH_AND_WAIT)
		raise(SIGSTOP);
	if (sb__lane_call(world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL, &result) != 0 ||
	    result != SB__LANE_REPLIED)
		return 2;
	sb__buf_init(&buf, memory, sizeof(memory));
	if (phase == REPLY_AND_GIVE_BACK)
		raise(SIGSTOP);
	if (sb__lane_reply(world->mailbox, lane, world->peers, &buf) != 0)
		return 3;
	sb__lane_consume(world->mailbox, lane);
	sb__lane_unclaim(world->mailbox, lane);
	return message_is(&buf, 100, 24) ? 0 : 4;
}

/* Where a phase has passed what it is about: the lane's state then, seen from outside. */
static bool passed(enum phase phase, unsigned state)
{
	return phase == CLAIM && state == SB__LANE_IDLE;
}

/* Runs a victim for so many instructions and kills it. False: it had ended by itself before. */
static bool kill_after(struct shm_world *world, enum phase phase, unsigned steps)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(victim(world, phase));
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return false;
	for (unsigned i = 0; i < steps; i++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status)) {
			if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
				print_message("victim failed with %d\n", WEXITSTATUS(status));
			return false;
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return true;
}

/* Kills at each instruction of a phase, tidies, and checks; how many kills. */
static unsigned step_through(struct shm_world *world, enum phase phase, uint32_t lane, unsigned states[8])
{
	unsigned beyond = 0, kills = 0;

	for (unsigned steps = 0; steps < STEPS_MAX && beyond < BEYOND && kill_after(world, phase, steps);
	     steps += STRIDE) {
		unsigned state = SB__WORD_STATE(sb__load(&sb__lane_at(world->mailbox, 1)->word));

		states[state & 7]++;
		beyond += passed(phase, state);
		kills++;
		(void)sb__mailbox_reclaim(world->mailbox, VICTIM, 1, false);
		assert_int_equal(world_call(world, lane, steps, 24, MINUTE_NS, NULL), 0);
		for (int i = 0; world_claimed(world) > 1 && i < 10000; i++)
			usleep(100); /* the owner finishes what it was running for the dead */
		assert_int_equal(world_claimed(world), 1);
	}
	return kills;
}

/* A step is two switches between tracer and victim: cheap only on one CPU. */
static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void a_caller_may_be_killed_at_any_instruction(void **state)
{
	unsigned kills = 0, states[8] = { 0 };
	struct shm_world world;
	uint32_t lane;
	pid_t server;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	server = world_fork_server(&world);
	assert_true(server > 0);
	stay_on_this_cpu();
	assert_int_equal(sb__lane_claim(world.mailbox, 11, 1, &lane), 0);
	assert_int_equal(lane, 0); /* the victim's is then lane 1 */
	for (enum phase phase = 0; phase < PHASES; phase++)
		kills += step_through(&world, phase, lane, states);
	print_message("%u kill points; the lane was free %u, idle %u, ready %u, busy %u, done %u times\n",
	              kills, states[SB__LANE_FREE], states[SB__LANE_IDLE], states[SB__LANE_READY],
	              states[SB__LANE_BUSY], states[SB__LANE_DONE]);
	assert_true(states[SB__LANE_IDLE] > 0 && states[SB__LANE_FREE] > 0);
	assert_true(states[SB__LANE_READY] + states[SB__LANE_BUSY] + states[SB__LANE_DONE] > 0);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_caller_may_be_killed_at_any_instruction),
	};

	return cmocka_run_group_tests_name("shm_step", tests, NULL, NULL);
}
