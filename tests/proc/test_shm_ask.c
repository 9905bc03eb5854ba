/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and answers in a lane. A caller killed at instruction after instruction from a question to the next, by single-stepping it
 * under ptrace: the owner reads whole answers or learns that there is none, the lane comes back, a bystander's call works.
 * And who ends a question, without Python.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
#define BEYOND    20   /* kills after a phase has done what it is about */
#define QUESTIONS 3

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 17 /* a sanitizer makes many instructions out of one */
#else
#define STRIDE 1
#endif

static const size_t sizes[QUESTIONS] = { 24, 9000, 100 }; /* the second one by an arena, both ways */
static const unsigned strides[QUESTIONS] = { 1, 23,
	                                     5 }; /* an arena's first block is thousands of instructions */

/* What the owner has seen; shared with it. */
struct seen {
	_Atomic unsigned answered, gone, late, ended, stopped, garbled;
};
static struct seen *seen;

/* ── the owner ── */

static void nothing(void *arg)
{
	(void)arg;
}

static bool alive(void *arg)
{
	const struct sb__accepted *call = arg;

	return kill(call->caller_pid, 0) == 0 || errno != ESRCH;
}

static bool stopped(void *arg)
{
	(void)arg;
	return false;
}

static enum sb__asked ask(struct shm_world *world, struct sb__accepted *call, uint64_t number, size_t bytes)
{
	struct sb__asking asking = { .parking = nothing, .alive = alive, .stopped = stopped, .arg = call };
	struct sb__buf question, answer;
	enum sb__asked result;
	uint8_t memory[256];

	sb__buf_init(&question, NULL, 0);
	sb__buf_init(&answer, memory, sizeof(memory));
	message_write(&question, number, bytes);
	result = sb__accepted_ask(world->mailbox, call, &question, world->arena, world->peers, &asking,
	                          &answer);
	switch (result) {
	case SB__ASKED_ANSWERED:
		atomic_fetch_add(message_is(&answer, number + 1, bytes) ? &seen->answered : &seen->garbled,
		                 1);
		break;
	case SB__ASKED_GONE: atomic_fetch_add(&seen->gone, 1); break;
	case SB__ASKED_LATE: atomic_fetch_add(&seen->late, 1); break;
	case SB__ASKED_ENDED: atomic_fetch_add(&seen->ended, 1); break;
	case SB__ASKED_STOPPED: atomic_fetch_add(&seen->stopped, 1); break;
	case SB__ASKED_FAILED: atomic_fetch_add(&seen->garbled, 1); break;
	}
	sb__accepted_answered(world->mailbox, call);
	sb__buf_free(&question);
	sb__buf_free(&answer);
	return result;
}

static void serve_pending(struct shm_world *world, uint32_t *cursor)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted call;

	while (sb__mailbox_accept(world->mailbox, world->peers, cursor, scratch, &call) == 1) {
		struct sb__buf reply;
		uint64_t number;
		size_t bytes;

		sb__accepted_reply(world->mailbox, &call, &reply);
		if (!message_read(&call.request, &number, &bytes))
			atomic_fetch_add(&seen->garbled, 1);
		for (size_t i = 0; call.askable && i < QUESTIONS; i++)
			if (ask(world, &call, number + 10 * i, sizes[i]) != SB__ASKED_ANSWERED)
				break;
		message_write(&reply, number + 1, bytes);
		(void)sb__accepted_complete(world->mailbox, &call, &reply, world->arena);
	}
}

static pid_t fork_owner(struct shm_world *world)
{
	struct shm_world mine;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) != 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		uint32_t sessions = 0, lanes = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (world_join(world, world->owner.slot, &mine) != 0 || world_be_owner(&mine) != 0 ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			if (sb__bell_take(&mine.bell, &sessions) < 0)
				(void)sb__bell_sleep(&mine.bell, UINT64_C(100000000), mine.spin_ns);
			else
				serve_pending(&mine, &lanes);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

/* ── a caller that can be asked ── */

struct answerer {
	unsigned questions, stop_at, answered;
	void (*meanwhile)(void *arg); /* runs in the last question's answer */
	void *arg;
};

static bool answer(void *arg, uint64_t key, const struct sb__buf *question, int error,
                   bool (*stands)(const struct sb__flight *flight), const struct sb__flight *flight,
                   struct sb__buf *to)
{
	struct answerer *a = arg;
	uint64_t number = 0;
	size_t bytes = 0;

	if (error || !key || !stands(flight) || !message_read(question, &number, &bytes))
		number = 0; /* seen as garbled */
	a->questions++;
	if (a->meanwhile && a->questions == QUESTIONS)
		a->meanwhile(a->arg);
	message_write(to, number + 1, bytes);
	if (a->questions == a->stop_at)
		raise(SIGSTOP);
	return true;
}

static void answered(void *arg)
{
	struct answerer *a = arg;

	a->answered++;
}

static enum sb__lane_result call_asked(struct shm_world *world, uint32_t lane, struct answerer *a,
                                       uint64_t timeout_ns, bool *ret_late)
{
	struct sb__answering answering = {
		.answer = answer, .answered = answered, .arg = a, .arena = world->arena, .peers = world->peers
	};
	struct sb__lane_post post = { .deadline_ns = sb__now_ns() + timeout_ns,
		                      .label = "asked",
		                      .arena = world->arena,
		                      .flags = SB__REQUEST_ASKABLE,
		                      .answering = &answering,
		                      .thread = 7 };
	enum sb__lane_result result = SB__LANE_ENDED;
	uint8_t memory[512];
	struct sb__buf buf;

	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, 100, 24);
	if (sb__lane_call_asked(world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL, &result,
	                        ret_late) != 0)
		return SB__LANE_NOT_STARTED;
	if (result != SB__LANE_REPLIED)
		return result;
	sb__buf_init(&buf, memory, sizeof(memory));
	if (sb__lane_reply(world->mailbox, lane, world->peers, &buf) != 0 || !message_is(&buf, 101, 24))
		result = SB__LANE_NOT_STARTED;
	sb__lane_consume(world->mailbox, lane);
	sb__buf_free(&buf);
	return result;
}

/* ── killed at any instruction ── */

/* Each victim is a process of its own: another generation, another arena file. */
static uint32_t generation;

static int victim(struct shm_world *world, unsigned phase)
{
	struct answerer a = { .stop_at = phase };
	struct shm_world mine;
	uint32_t lane;
	bool late;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	if (world_join(world, VICTIM + generation, &mine) != 0 ||
	    sb__lane_claim(mine.mailbox, VICTIM, generation, &lane) != 0)
		return 1;
	if (call_asked(&mine, lane, &a, MINUTE_NS, &late) != SB__LANE_REPLIED)
		return 2;
	sb__lane_unclaim(mine.mailbox, lane);
	return a.questions == QUESTIONS ? 0 : 3;
}

/* Runs a victim to its phase, then so many instructions, and kills it. False: it had ended by itself before. */
static bool kill_after(struct shm_world *world, unsigned phase, unsigned steps)
{
	pid_t pid;
	int status;

	generation++;
	pid = fork();
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

static unsigned step_through(struct shm_world *world, unsigned phase, uint32_t lane)
{
	unsigned beyond = 0, kills = 0;

	for (unsigned steps = 0; steps < STEPS_MAX && beyond < BEYOND && kill_after(world, phase, steps);
	     steps += STRIDE * strides[phase - 1]) {
		beyond += sb__load32(&sb__lane_at(world->mailbox, 1)->answered) >= 2 * phase - 1;
		kills++;
		(void)sb__mailbox_reclaim(world->mailbox, VICTIM, generation, false);
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

static void test_27_31_killed_at_any_instruction(void **state)
{
	struct shm_world *world = *state;
	cpu_set_t before;
	unsigned kills = 0;
	uint32_t lane;
	pid_t owner = fork_owner(world);

	assert_true(owner > 0);
	sched_getaffinity(0, sizeof(before), &before);
	stay_on_this_cpu();
	assert_int_equal(sb__lane_claim(world->mailbox, 11, 1, &lane), 0);
	assert_int_equal(lane, 0); /* the victim's is then lane 1 */
	for (unsigned phase = 1; phase <= QUESTIONS; phase++)
		kills += step_through(world, phase, lane);
	print_message("%u kill points; %u answers, %u times none\n", kills, seen->answered, seen->gone);
	assert_int_equal(seen->garbled, 0);
	assert_true(kills > 100 / STRIDE && seen->answered > 0 && seen->gone > 0);
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	sched_setaffinity(0, sizeof(before), &before);
}

/* ── what ends a question ── */

static void *serve(void *arg)
{
	struct shm_world *world = arg;
	uint32_t sessions = 0, lanes = 0;

	if (sb__bell_alive_hold(&world->bell) != 0)
		return world;
	while (!atomic_load(&world->stop))
		if (sb__bell_take(&world->bell, &sessions) < 0)
			(void)sb__bell_sleep(&world->bell, UINT64_C(100000000), world->spin_ns);
		else
			serve_pending(world, &lanes);
	sb__bell_alive_release(&world->bell);
	return NULL;
}

/* A caller with its own view, asked by a thread of the owner's. */
struct pair {
	struct shm_world *owner, caller;
	pthread_t thread;
	uint32_t lane;
};

static void pair_open(struct shm_world *world, struct pair *p)
{
	p->owner = world;
	assert_int_equal(world_join(world, 11, &p->caller), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, serve, world), 0);
	assert_int_equal(sb__lane_claim(p->caller.mailbox, 11, 1, &p->lane), 0);
}

static void pair_close(struct pair *p)
{
	void *failed;

	world_stop(p->owner);
	assert_int_equal(pthread_join(p->thread, &failed), 0);
	assert_null(failed);
	world_leave(&p->caller);
}

static void wait_until(_Atomic unsigned *counter)
{
	for (int i = 0; i < 60000 && !atomic_load(counter); i++)
		usleep(1000);
}

static void cancel_it(void *arg)
{
	struct pair *p = arg;
	uint32_t removed, asked;

	sb__mailbox_cancel(p->caller.mailbox, &p->caller.bell, 0, &removed, &asked);
	wait_until(&seen->stopped);
}

static void end_it(void *arg)
{
	struct pair *p = arg;

	(void)sb__mailbox_end(p->caller.mailbox, SB__MAILBOX_RELEASED);
	wait_until(&seen->ended);
}

static void outlast_it(void *arg)
{
	(void)arg;
	wait_until(&seen->late);
}

static void reclaim_it(void *arg)
{
	struct pair *p = arg;

	(void)sb__mailbox_reclaim(p->owner->mailbox, 11, 1, false);
	wait_until(&seen->gone);
}

static void test_27_answered(void **state)
{
	struct answerer a = { .questions = 0 };
	struct pair p;
	bool late;

	pair_open(*state, &p);
	for (int i = 1; i <= 200; i++) {
		a.questions = a.answered = 0;
		assert_int_equal(call_asked(&p.caller, p.lane, &a, MINUTE_NS, &late), SB__LANE_REPLIED);
		assert_int_equal(a.questions, QUESTIONS);
		assert_true(a.answered >= QUESTIONS);
		assert_false(late);
	}
	assert_int_equal(seen->answered, 200 * QUESTIONS);
	assert_int_equal(seen->garbled, 0);
	/* A call that cannot be asked is as before. */
	assert_int_equal(world_call(&p.caller, p.lane, 5, 24, MINUTE_NS, NULL), 0);
	pair_close(&p);
}

static void ends(struct shm_world *world, void (*meanwhile)(void *arg), uint64_t timeout_ns,
                 _Atomic unsigned *counter, enum sb__lane_result result, bool is_late)
{
	struct answerer a = { .meanwhile = meanwhile };
	struct pair p;
	bool late;

	pair_open(world, &p);
	a.arg = &p;
	assert_int_equal(call_asked(&p.caller, p.lane, &a, timeout_ns, &late), result);
	assert_int_equal(late, is_late);
	assert_int_equal(atomic_load(counter), 1);
	assert_int_equal(seen->answered, QUESTIONS - 1);
	assert_int_equal(seen->garbled, 0);
	pair_close(&p);
}

static void test_27_25_cancelled(void **state)
{
	ends(*state, cancel_it, MINUTE_NS, &seen->stopped, SB__LANE_REPLIED, false);
}

static void test_27_09_session_ended(void **state)
{
	struct shm_world *world = *state;
	struct answerer a = { .meanwhile = end_it };
	enum sb__lane_result result;
	struct pair p;
	bool late;

	pair_open(world, &p);
	a.arg = &p;
	result = call_asked(&p.caller, p.lane, &a, MINUTE_NS, &late);
	assert_true(result == SB__LANE_REPLIED || result == SB__LANE_MAYBE);
	assert_true(late);
	assert_int_equal(seen->ended, 1);
	pair_close(&p);
}

static void test_27_23_too_late(void **state)
{
	ends(*state, outlast_it, UINT64_C(300000000), &seen->late, SB__LANE_REPLIED, true);
}

static void test_27_31_held_for_dead(void **state)
{
	ends(*state, reclaim_it, MINUTE_NS, &seen->gone, SB__LANE_MAYBE, false);
}

static int setup(void **state)
{
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return seen == MAP_FAILED ? -1 : world_setup(state);
}

static int teardown(void **state)
{
	munmap(seen, sizeof(*seen));
	return world_teardown(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_27_answered),         TEST(test_27_25_cancelled),
		TEST(test_27_09_session_ended), TEST(test_27_23_too_late),
		TEST(test_27_31_held_for_dead), TEST(test_27_31_killed_at_any_instruction),
	};

	return cmocka_run_group_tests_name("shm_ask", tests, NULL, NULL);
}
