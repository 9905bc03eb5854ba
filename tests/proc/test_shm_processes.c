/* SPDX-License-Identifier: Apache-2.0 */
/* Callers and owners in processes of their own: echo, big messages, killed callers, killed owners, forked
 * children. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"
#include "shm_world.h"
#include "snakebridge/error.h"

#define MINUTE_NS UINT64_C(60000000000)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KILLS 60
#else
#define KILLS 300
#endif

/* A world with a server thread in this process. */
struct served {
	struct shm_world world;
	pthread_t server;
};

static int setup(void **state)
{
	struct served *s = calloc(1, sizeof(*s));

	*state = s;
	if (world_open(&s->world, NULL) != 0)
		return -1;
	return pthread_create(&s->server, NULL, world_serve_thread, &s->world);
}

static int teardown(void **state)
{
	struct served *s = *state;
	void *failed;

	world_stop(&s->world);
	pthread_join(s->server, &failed);
	world_close(&s->world);
	free(s);
	return failed != NULL;
}

static pid_t fork_child(int (*fn)(struct shm_world *world, uint32_t slot), struct shm_world *world,
                        uint32_t slot)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct shm_world mine;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(world_join(world, slot, &mine) != 0 ? 100 : fn(&mine, slot));
	}
	return pid;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* ── echo ── */

static int call_and_check(struct shm_world *world, uint32_t slot)
{
	static const size_t sizes[] = { 0, 16, 1000, 4080, 4081, 20000 };
	uint32_t lane;

	if (sb__lane_claim(world->mailbox, slot, 1, &lane) != 0)
		return 1;
	for (unsigned i = 0; i < 1200; i++)
		if (world_call(world, lane, (uint64_t)slot << 32 | i, sizes[i % 6], MINUTE_NS, NULL) != 0)
			return 2;
	sb__lane_unclaim(world->mailbox, lane);
	world_leave(world);
	return 0;
}

static void children_get_their_own_answers(void **state)
{
	struct served *s = *state;
	pid_t pids[4];

	for (uint32_t i = 0; i < 4; i++)
		pids[i] = fork_child(call_and_check, &s->world, 10 + i);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wait_status(pids[i]), 0);
	assert_int_equal(s->world.garbled, 0);
	assert_int_equal(world_claimed(&s->world), 0);
	sb__mailbox_sweep_replies(s->world.mailbox, s->world.arena);
	assert_int_equal(sb__arena_in_use(s->world.arena), 0);
}

static int call_big(struct shm_world *world, uint32_t slot)
{
	uint32_t lane;

	if (sb__lane_claim(world->mailbox, slot, 1, &lane) != 0)
		return 1;
	for (unsigned i = 0; i < 4; i++)
		if (world_call(world, lane, i, (size_t)5 << 20, MINUTE_NS, NULL) != 0)
			return 2;
	return sb__arena_in_use(world->arena) == 0 ? 0 : 3;
}

static void five_mebibytes_go_both_ways(void **state)
{
	struct served *s = *state;

	assert_int_equal(wait_status(fork_child(call_big, &s->world, 10)), 0);
	assert_in_range(sb__arena_file_size(s->world.arena), 5 << 20, 16 << 20); /* blocks are used again */
}

/* ── killed callers ── */

static int call_for_ever(struct shm_world *world, uint32_t slot)
{
	uint32_t lane;

	for (uint64_t i = 0;; i++) {
		if (sb__lane_claim(world->mailbox, slot, (uint32_t)(getpid() & 0xffff), &lane) != 0)
			return 1;
		for (int k = 0; k < 5; k++)
			if (world_call(world, lane, i, k == 4 ? 9000 : i % 64, MINUTE_NS, NULL) != 0)
				return 2;
		sb__lane_unclaim(world->mailbox, lane);
	}
}

struct bystander {
	uint64_t calls;
	int failed;
	_Atomic bool stop;
};

static pid_t start_bystander(struct shm_world *world, struct bystander *b)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct shm_world mine;
		uint32_t lane;

		if (world_join(world, 11, &mine) != 0 || sb__lane_claim(mine.mailbox, 11, 1, &lane) != 0)
			_exit(100);
		while (!atomic_load(&b->stop)) {
			if (world_call(&mine, lane, b->calls, 32, MINUTE_NS, NULL) != 0)
				b->failed++;
			b->calls++;
		}
		sb__lane_unclaim(mine.mailbox, lane);
		_exit(0);
	}
	return pid;
}

static void killed_callers_leak_nothing_and_disturb_nobody(void **state)
{
	struct served *s = *state;
	struct bystander *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t bystander = start_bystander(&s->world, b);
	unsigned seed = 7, reclaimed = 0;

	for (int i = 0; i < KILLS; i++) {
		pid_t victim = fork_child(call_for_ever, &s->world, 12);

		usleep((unsigned)rand_r(&seed) % 3000);
		kill(victim, SIGKILL);
		assert_int_equal(wait_status(victim), SIGKILL);
		reclaimed += sb__mailbox_reclaim(s->world.mailbox, 12, (uint32_t)victim & 0xffff, false);
		sb__arena_cache_forget(s->world.peers, 12, 1);
		assert_int_equal(sb__arena_unlink(s->world.arena_dir, 12, 1), 0);
	}
	atomic_store(&b->stop, true);
	assert_int_equal(wait_status(bystander), 0);
	while (world_claimed(&s->world) > 0) /* the owner frees what it was running */
		usleep(1000);
	print_message("%d callers killed, %u lanes reclaimed, %llu calls beside them\n", KILLS, reclaimed,
	              (unsigned long long)b->calls);
	assert_int_equal(b->failed, 0);
	assert_true(b->calls > 0);
	assert_int_equal(s->world.garbled, 0);
	sb__mailbox_sweep_replies(s->world.mailbox, s->world.arena);
	assert_int_equal(sb__arena_in_use(s->world.arena), 0);
	munmap(b, 4096);
}

/* ── owners that end ── */

/* An owner process that accepts what it is sent (or not) and never answers. Calls exit() once *exits is
 * true. */
static pid_t fork_mute_owner(struct shm_world *world, bool accepts, _Atomic bool *exits)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) != 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		static struct shm_world mine; /* reachable: LeakSanitizer looks when it exits */
		uint8_t scratch[SB__INLINE_MAX];
		struct sb__accepted call;
		uint32_t cursor = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (world_join(world, 1, &mine) != 0 || world_be_owner(&mine) != 0 ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		while (!accepts)
			pause();
		for (;;) {
			(void)sb__mailbox_accept(mine.mailbox, mine.peers, &cursor, scratch, &call);
			usleep(1000);
			if (exits && atomic_load(exits))
				exit(0);
		}
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

struct waiter {
	struct shm_world *world;
	pthread_t thread;
	uint32_t lane;
	enum sb__lane_result result;
	int err;
	uint64_t ended_ns;
};

static void *wait_for_death(void *arg)
{
	struct waiter *w = arg;

	w->err = world_call(w->world, w->lane, 1, 16, MINUTE_NS, &w->result);
	w->ended_ns = sb__now_ns();
	return NULL;
}

#define WAITERS 3

/* Several callers wait, parked, in the state given; then the owner dies. The slowest notice in ns, or 0 if
 * wrong. */
static uint64_t notice_of_death(unsigned state, enum sb__lane_result expected)
{
	struct waiter waiters[WAITERS];
	struct shm_world world;
	uint64_t begun, slowest = 1;
	pid_t owner;

	if (world_open(&world, NULL) != 0)
		return 0;
	owner = fork_mute_owner(&world, state == SB__LANE_BUSY, NULL);
	for (uint32_t i = 0; i < WAITERS; i++) {
		struct waiter *w = &waiters[i];

		*w = (struct waiter){ .world = &world };
		if (sb__lane_claim(world.mailbox, 20 + i, 1, &w->lane) != 0 ||
		    pthread_create(&w->thread, NULL, wait_for_death, w) != 0)
			return 0;
	}
	for (int i = 0; i < WAITERS; i++) {
		struct sb__lane_shm *l = sb__lane_at(world.mailbox, waiters[i].lane);

		while (SB__WORD_STATE(sb__load(&l->word)) != state || !sb__load32(&l->caller_parked))
			usleep(100);
	}
	usleep(20000);
	begun = sb__now_ns();
	kill(owner, SIGKILL);
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(waiters[i].thread, NULL);
		if (waiters[i].err != 0 || waiters[i].result != expected)
			slowest = 0;
		if (slowest && waiters[i].ended_ns - begun > slowest)
			slowest = waiters[i].ended_ns - begun;
	}
	waitpid(owner, NULL, 0);
	if (sb__mailbox_reclaim(world.mailbox, 20, 1, true) !=
	    1) /* withdrawn or abandoned, but still claimed */
		slowest = 0;
	world_close(&world);
	return slowest;
}

static void parked_callers_learn_of_their_owners_death(void **state)
{
	uint64_t busy = notice_of_death(SB__LANE_BUSY, SB__LANE_DIED_MAYBE);
	uint64_t ready = notice_of_death(SB__LANE_READY, SB__LANE_DIED_NOT_STARTED);

	(void)state;
	print_message("slowest of %d callers knew after %.3f ms (running), %.3f ms (not started)\n", WAITERS,
	              (double)busy / 1e6, (double)ready / 1e6);
	assert_in_range(busy, 1, UINT64_C(2000000000));
	assert_in_range(ready, 1, UINT64_C(2000000000));
}

#ifdef SNAKEBRIDGE_POINTS

/* Is stopped when it has looked, found its owner alive, and is about to sleep. Did it sleep a slice nevertheless? */
static int look_and_be_stopped(struct shm_world *world)
{
	struct sb__lane_post post = { .deadline_ns = FOREVER_NS };
	struct shm_world mine;
	struct sb__flight f;
	struct sb__buf buf;
	uint32_t lane;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (world_join(world, 30, &mine) || sb__lane_claim(mine.mailbox, 30, 1, &lane))
		return 1;
	sb__lane_request(mine.mailbox, lane, &buf);
	message_write(&buf, 1, 16);
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), "lane.looked") == 0)
			sb__point_arm(i, 1, SB__POINT_STOP);
	if (sb__flight_post(&f, mine.mailbox, &mine.bell, lane, &buf, &post, NULL, NULL) ||
	    !sb__flight_wait(&f, FOREVER_NS))
		return 2;
	if (f.result != SB__LANE_DIED_NOT_STARTED)
		return 3;
	return f.slices == 0 ? 0 : 4;
}

static void a_death_between_look_and_sleep_is_seen_at_once(void **state)
{
	struct shm_world world;
	pid_t owner, caller;
	int status;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	owner = fork_mute_owner(&world, false, NULL);
	caller = fork();
	if (caller == 0)
		_exit(look_and_be_stopped(&world));
	assert_int_equal(waitpid(caller, &status, WUNTRACED), caller);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(kill(owner, SIGKILL), 0);
	assert_int_equal(waitpid(owner, &status, 0), owner);
	assert_int_equal(kill(caller, SIGCONT), 0);
	assert_int_equal(wait_status(caller), 0);
	world_close(&world);
}

#endif

/* A process that is not given futex_waitv, as in some containers. */
static int deny_futex_waitv(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void they_learn_it_without_futex_waitv_too(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		if (deny_futex_waitv() != 0)
			_exit(77);
		_exit(notice_of_death(SB__LANE_BUSY, SB__LANE_DIED_MAYBE) == 0 ||
		      notice_of_death(SB__LANE_READY, SB__LANE_DIED_NOT_STARTED) == 0);
	}
	status = wait_status(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* exit() ends the keeper thread with its mutex held: the kernel tells, though nobody closed anything. */
static void an_owner_that_exits_without_closing_counts_as_dead(void **state)
{
	_Atomic bool *exits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static struct shm_world world;
	struct waiter w = { .world = &world };
	enum sb__lane_result result;
	struct sb__lane_shm *lane;
	pid_t owner;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	owner = fork_mute_owner(&world, true, exits);
	assert_int_equal(sb__lane_claim(world.mailbox, 20, 1, &w.lane), 0);
	assert_int_equal(pthread_create(&w.thread, NULL, wait_for_death, &w), 0);
	lane = sb__lane_at(world.mailbox, w.lane);
	while (!sb__load32(&lane->caller_parked) || SB__WORD_STATE(sb__load(&lane->word)) != SB__LANE_BUSY)
		usleep(100);
	atomic_store(exits, true);
	pthread_join(w.thread, NULL);
	assert_int_equal(wait_status(owner), 0);
	assert_int_equal(w.err, 0);
	assert_int_equal(w.result, SB__LANE_DIED_MAYBE);
	assert_int_equal(sb__lane_claim(world.mailbox, 20, 1, &w.lane), 0);
	assert_int_equal(world_call(&world, w.lane, 1, 16, MINUTE_NS, &result),
	                 0); /* does not wait any more */
	assert_int_equal(result, SB__LANE_DIED_NOT_STARTED);
	world_close(&world);
	munmap(exits, 4096);
}

/* ── a hung leader ── */

static void *answer_when_nudged(void *arg)
{
	struct shm_world *world = arg;
	uint32_t cursor = 0;

	while (!sb__bell_standby(&world->bell, MINUTE_NS))
		;
	(void)world_serve_pending(world, &cursor);
	return NULL;
}

static void a_standby_thread_answers_when_the_leader_hangs(void **state)
{
	uint8_t scratch[SB__INLINE_MAX];
	struct sb__accepted hung;
	struct shm_world world;
	struct waiter first = { .world = &world };
	uint32_t cursor = 0, lane;
	struct sb__buf reply;
	pthread_t standby;

	(void)state;
	assert_int_equal(world_open(&world, NULL), 0);
	assert_int_equal(sb__lane_claim(world.mailbox, 20, 1, &first.lane), 0);
	assert_int_equal(sb__lane_claim(world.mailbox, 20, 1, &lane), 0);
	assert_int_equal(pthread_create(&first.thread, NULL, wait_for_death, &first), 0);
	while (sb__mailbox_accept(world.mailbox, world.peers, &cursor, scratch, &hung) != 1)
		usleep(100);
	(void)sb__bell_standby(&world.bell, 1); /* nudges about the first are answered */
	assert_int_equal(pthread_create(&standby, NULL, answer_when_nudged, &world), 0);
	assert_int_equal(world_call(&world, lane, 5, 16, MINUTE_NS, NULL), 0);
	pthread_join(standby, NULL);
	sb__accepted_reply(world.mailbox, &hung, &reply);
	message_write(&reply, 2, 16);
	assert_true(sb__accepted_complete(world.mailbox, &hung, &reply, world.arena));
	pthread_join(first.thread, NULL);
	assert_int_equal(first.err, 0);
	world_close(&world);
}

/* ── forked children ── */

static void a_forked_child_lets_go_without_touching_anything(void **state)
{
	struct served *s = *state;
	uint32_t lane;
	uint64_t word;
	pid_t pid;

	assert_int_equal(sb__lane_claim(s->world.mailbox, 30, 1, &lane), 0);
	assert_int_equal(world_call(&s->world, lane, 1, 9000, MINUTE_NS, NULL), 0); /* a reply block is out */
	word = sb__load(&sb__lane_at(s->world.mailbox, lane)->word);
	pid = fork();
	if (pid == 0) {
		sb__lane_unclaim(s->world.mailbox, lane);
		sb__mailbox_detach(s->world.mailbox);
		sb__arena_destroy(s->world.arena, true);
		sb__bell_detach(&s->world.bell);
		_exit(0);
	}
	assert_int_equal(wait_status(pid), 0);
	assert_int_equal(sb__load(&sb__lane_at(s->world.mailbox, lane)->word), word);
	assert_false(sb__bell_owner_died(&s->world.bell));
	assert_int_equal(world_call(&s->world, lane, 2, 9000, MINUTE_NS, NULL), 0);
	sb__lane_unclaim(s->world.mailbox, lane);
}

#define SERVED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(children_get_their_own_answers),
		SERVED(five_mebibytes_go_both_ways),
		SERVED(killed_callers_leak_nothing_and_disturb_nobody),
		cmocka_unit_test(parked_callers_learn_of_their_owners_death),
#ifdef SNAKEBRIDGE_POINTS
		cmocka_unit_test(a_death_between_look_and_sleep_is_seen_at_once),
#endif
		cmocka_unit_test(they_learn_it_without_futex_waitv_too),
		cmocka_unit_test(an_owner_that_exits_without_closing_counts_as_dead),
		cmocka_unit_test(a_standby_thread_answers_when_the_leader_hangs),
		SERVED(a_forked_child_lets_go_without_touching_anything),
	};

	return cmocka_run_group_tests_name("shm_processes", tests, NULL, NULL);
}
