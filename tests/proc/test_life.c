/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life token and the fork epoch, with real processes: held exactly as long as the process image that took
 * it; a live process is never called dead, a dead one is.
 *
 * A child tells its state by a byte through a pipe and lives until it is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "identity.h"
#include "ids.h"
#include "os_linux.h"

#define SLOT 7u

struct place {
	char dir[256];
	int fd, life;
	int pipe[2];
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	fixture_dir_make(place->dir, sizeof(place->dir));
	place->fd = sb__os_open_dir(place->dir);
	place->life = sb__os_openat(place->fd, "life", O_RDWR | O_CREAT, 0600);
	assert_true(place->life >= 0);
	assert_int_equal(sb__os_fallocate(place->life, 0, 4096), 0);
	assert_int_equal(pipe2(place->pipe, O_CLOEXEC), 0);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	close(place->pipe[0]);
	close(place->pipe[1]);
	close(place->life);
	close(place->fd);
	fixture_dir_remove(place->dir);
	free(place);
	return 0;
}

/* ── children ── */

static void say(const struct place *place, char c)
{
	if (write(place->pipe[1], &c, 1) != 1)
		_exit(90);
}

static char hear(const struct place *place, pid_t from)
{
	char c = 0;

	assert_true(fixture_hear(place->pipe[0], from, &c, 1));
	return c;
}

static void live(void)
{
	alarm(100); /* a test that fails first leaves nobody behind */
	for (;;)
		pause();
}

static int hold_and_live(void *arg)
{
	struct place *place = arg;
	void *pin;

	say(place, sb__life_hold(place->fd, SLOT, &pin) == 0 ? 'h' : 'x');
	live();
	return 0;
}

/* Everything that drops other kinds of locks: a stray open and close, closing all descriptors. */
static int hold_and_close_all(void *arg)
{
	struct place *place = arg;
	int out = place->pipe[1];
	void *pin;
	int rc = sb__life_hold(place->fd, SLOT, &pin);

	close(sb__os_openat(place->fd, "life", O_RDWR, 0));
	for (int fd = 3; fd < 256; fd++)
		if (fd != out)
			close(fd);
	say(place, rc == 0 ? 'h' : 'x');
	live();
	return 0;
}

/* Holds, forks a child that lives on, and says the child's pid. */
static int hold_and_fork(void *arg)
{
	struct place *place = arg;
	void *pin;
	int rc = sb__life_hold(place->fd, SLOT, &pin);
	pid_t pid = rc == 0 ? fork() : -1;

	if (pid == 0)
		live();
	if (write(place->pipe[1], &pid, sizeof(pid)) != sizeof(pid))
		_exit(90);
	live();
	return 0;
}

static int hold_and_exec(void *arg)
{
	struct place *place = arg;
	void *pin;
	/* The image that follows holds the pipe's other end open, which shows that it runs. */
	int rc = sb__life_hold(place->fd, SLOT, &pin);
	char script[64];

	fcntl(place->pipe[1], F_SETFD, 0);
	snprintf(script, sizeof(script), "printf e >&%d; exec sleep 1000", place->pipe[1]);
	if (rc == 0)
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	return 91;
}

static void kill_and_reap(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Waits for its death without reaping it: a zombie. */
static void kill_to_zombie(pid_t pid)
{
	siginfo_t info;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

/* What the store would know of a process that holds SLOT. */
static struct sb__identity identity_of(pid_t pid)
{
	struct sb__identity identity;

	assert_ok(sb__identity_self(&identity));
	identity.slot = SLOT;
	identity.generation = 1;
	identity.pid = pid;
	assert_int_equal(sb__process_stat(pid, NULL, &identity.start_time), 0);
	return identity;
}

static void assert_verdict(const struct place *place, const struct sb__identity *identity,
                           enum sb__liveness verdict, const char *how)
{
	struct sb__evidence e = sb__liveness_check(place->life, identity);

	if (e.verdict != verdict || strcmp(e.how, how) != 0)
		fail_msg("verdict %d: %s; expected %d: %s", (int)e.verdict, e.how, (int)verdict, how);
}

/* ── the token ── */

static void test_held_by_this_process(void **state)
{
	struct place *place = *state;
	struct sb__identity self;
	void *pin = NULL, *again = NULL;

	assert_ok(sb__identity_self(&self));
	self.slot = SLOT;
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 0);
	assert_int_equal(sb__life_hold(place->fd, SLOT, &pin), 0);
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 1);
	assert_verdict(place, &self, SB__ALIVE, "life token held");
	assert_int_equal(sb__life_hold(place->fd, SLOT, &again), -EAGAIN);
	assert_int_equal(sb__os_ofd_test(place->life, SLOT + 1), 0);
	assert_int_equal(sb__life_hold(place->fd, SLOT + 1, &again), 0);
	sb__life_drop(again);
	sb__life_drop(pin);
	sb__life_drop(NULL);
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 0);
	assert_verdict(place, &self, SB__DEAD, "life token free");
	assert_int_equal(sb__life_hold(place->fd, SB__SLOTS_MAX, &pin), -EINVAL);
	sb__os_unlinkat(place->fd, "life", 0);
	assert_int_equal(sb__life_hold(place->fd, SLOT, &pin), -ENOENT);
}

static void test_survives_closing_everything(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_close_all, place);

	assert_int_equal(hear(place, pid), 'h');
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 1);
	kill_and_reap(pid);
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 0);
}

static void test_free_when_killed_even_as_zombie(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_live, place);
	struct sb__identity identity;

	assert_int_equal(hear(place, pid), 'h');
	identity = identity_of(pid);
	assert_verdict(place, &identity, SB__ALIVE, "life token held");
	kill_to_zombie(pid);
	assert_int_equal(kill(pid, 0), 0); /* which a zombie still answers */
	assert_verdict(place, &identity, SB__DEAD, "life token free");
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_verdict(place, &identity, SB__DEAD, "no such pid");
}

static void test_stopped_process_is_alive(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_live, place);
	struct sb__identity identity;
	siginfo_t info;

	assert_int_equal(hear(place, pid), 'h');
	identity = identity_of(pid);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED), 0);
	assert_verdict(place, &identity, SB__ALIVE, "life token held");
	kill_and_reap(pid);
}

static void test_a_forked_child_does_not_hold_it(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_fork, place);
	pid_t child = -1;

	assert_true(fixture_hear(place->pipe[0], pid, &child, sizeof(child)));
	assert_true(child > 0);
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 1);
	kill_and_reap(pid);
	assert_int_equal(kill(child, 0), 0);                     /* it lives on, */
	assert_int_equal(sb__os_ofd_test(place->life, SLOT), 0); /* and holds nothing */
	assert_int_equal(kill(child, SIGKILL), 0);
}

static void test_exec_frees_it(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_exec, place);
	struct sb__identity identity;

	assert_int_equal(hear(place, pid), 'e'); /* the new image runs */
	identity = identity_of(pid);
	assert_verdict(place, &identity, SB__DEAD, "life token free");
	kill_and_reap(pid);
}

/* The taker's thread takes and drops while this thread forks: a child must never come to hold it. */
static atomic_bool stop_taking;

static void *take_and_drop(void *arg)
{
	const struct place *place = arg;
	uintptr_t taken = 0;
	void *pin;

	while (!atomic_load(&stop_taking) && taken < 100000)
		if (sb__life_hold(place->fd, SLOT, &pin) == 0) {
			taken++;
			sb__life_drop(pin);
		}
	return (void *)taken;
}

static void test_fork_during_the_taking(void **state)
{
	enum { CHILDREN = 100 };
	struct place *place = *state;
	pid_t pids[CHILDREN];
	pthread_t thread;
	void *taken;
	int held;

	atomic_store(&stop_taking, false);
	assert_int_equal(pthread_create(&thread, NULL, take_and_drop, place), 0);
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			live();
		assert_true(pids[i] > 0);
	}
	atomic_store(&stop_taking, true);
	assert_int_equal(pthread_join(thread, &taken), 0);
	held = sb__os_ofd_test(place->life, SLOT);
	for (int i = 0; i < CHILDREN; i++)
		kill_and_reap(pids[i]);
	assert_true((uintptr_t)taken > 0);
	assert_int_equal(held, 0);
}

/* ── verdicts ── */

static void test_identity_of_this_process(void **state)
{
	struct sb__identity a, b;

	(void)state;
	assert_ok(sb__identity_self(&a));
	assert_ok(sb__identity_self(&b));
	assert_int_equal(a.pid, getpid());
	assert_int_equal(a.uid, geteuid());
	assert_true(a.start_time != 0 && a.start_time == b.start_time);
	assert_true(a.pid_ns != 0);
	assert_true(a.incarnation != 0 && a.incarnation != b.incarnation);
	assert_memory_equal(a.boot_id, b.boot_id, sizeof(a.boot_id));
	assert_non_null(strstr(a.program, "test_life"));
	assert_int_equal(a.slot, 0);
	assert_int_equal(a.generation, 0);
}

static void test_verdicts_without_a_process(void **state)
{
	struct place *place = *state;
	struct sb__identity identity;
	void *pin;

	assert_ok(sb__identity_self(&identity));
	identity.slot = SLOT;
	assert_int_equal(sb__life_hold(place->fd, SLOT, &pin), 0);

	identity.boot_id[0] ^= 1;
	assert_verdict(place, &identity, SB__DEAD, "of another boot");
	identity.boot_id[0] ^= 1;

	/* Another namespace's pids mean nothing here: only the token speaks. */
	identity.pid_ns ^= 1;
	identity.pid = 0x7ffffff0;
	assert_verdict(place, &identity, SB__ALIVE, "life token held");
	identity.pid_ns ^= 1;
	assert_verdict(place, &identity, SB__DEAD, "no such pid");

	/* The slot was taken over, or a time namespace shifts the times: no proof of death. */
	identity.pid = getpid();
	identity.start_time ^= 1;
	assert_verdict(place, &identity, SB__UNSURE, "life token held, but the pid started at another time");
	identity.start_time ^= 1;

	identity.slot = SB__SLOTS_MAX;
	assert_verdict(place, &identity, SB__UNSURE, "not a process identity");
	identity.slot = SLOT;
	identity.pid = 0;
	assert_verdict(place, &identity, SB__UNSURE, "not a process identity");
	identity.pid = getpid();
	sb__life_drop(pin);

	/* A question that cannot be asked proves nothing. */
	close(place->life);
	place->life = -1;
	assert_verdict(place, &identity, SB__UNSURE, "the life token could not be asked for");
}

static int check_as_nobody(void *arg)
{
	struct place *place = arg;
	struct sb__identity identity;
	struct sb__evidence e;

	if (sb__identity_self(&identity) != 0)
		return 92;
	identity.slot = SLOT;
	identity.pid = getppid();
	if (sb__process_stat(identity.pid, NULL, &identity.start_time) != 0)
		return 93;
	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 94;
	if (sb__os_kill(identity.pid, 0) != -EPERM)
		return 95;
	e = sb__liveness_check(place->life, &identity);
	return e.verdict == SB__ALIVE ? 0 : 96;
}

static void test_eperm_is_not_death(void **state)
{
	struct place *place = *state;
	void *pin;

	if (geteuid() != 0) {
		print_message("skipped: needs root to become another user\n");
		skip();
	}
	assert_int_equal(sb__life_hold(place->fd, SLOT, &pin), 0);
	assert_int_equal(fixture_wait(fixture_fork(check_as_nobody, place)), 0);
	sb__life_drop(pin);
}

/* The first thread ends, another goes on: /proc says Z, the process lives. */
static void *outlive_main(void *arg)
{
	struct place *place = arg;
	char state = 0;
	uint64_t start_time;

	while (sb__process_stat(0, &state, &start_time) == 0 && state != 'Z')
		sched_yield();
	say(place, state);
	live();
	return NULL;
}

static int hold_and_end_main_thread(void *arg)
{
	struct place *place = arg;
	pthread_t thread;
	void *pin;

	if (sb__life_hold(place->fd, SLOT, &pin) != 0 ||
	    pthread_create(&thread, NULL, outlive_main, place) != 0)
		return 97;
	pthread_exit(NULL);
}

static void test_zombie_main_thread_is_alive(void **state)
{
	struct place *place = *state;
	pid_t pid = fixture_fork(hold_and_end_main_thread, place);
	struct sb__identity identity;

	assert_int_equal(hear(place, pid), 'Z');
	identity = identity_of(pid);
	assert_verdict(place, &identity, SB__ALIVE, "life token held, main thread ended");
	kill_and_reap(pid);
}

/* ── pid namespace ── */

static uint64_t own_namespace(void)
{
	uint8_t boot_id[16];
	uint64_t ns = 0;

	return sb__identity_place(boot_id, &ns) == 0 ? ns : 0;
}

/* Only what is forked after unshare() is in the other one; it knew its parent's. */
static int enter_another(void *arg)
{
	uint64_t mine = own_namespace();
	pid_t pid;

	(void)arg;
	if (unshare(CLONE_NEWPID))
		return 77;
	if (mine == 0 || own_namespace() != mine)
		return 1;
	pid = fork();
	if (pid == 0)
		_exit(own_namespace() == 0 ? 2 : own_namespace() == mine ? 3 : 0);
	return fixture_wait(pid);
}

static void test_namespace_is_ones_own(void **state)
{
	int status = fixture_wait(fixture_fork(enter_another, NULL));

	(void)state;
	if (status == 77) {
		print_message("skipped: a pid namespace needs root\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* ── fork epoch ── */

static int epoch_grew(void *arg)
{
	const uint64_t *parents = arg;
	uint64_t mine = sb__fork_epoch();
	pid_t pid;

	if (mine <= parents[0] || sb__fork_epoch() != mine)
		return 1;
	if (sb__fork_epoch_by_pid() <= parents[1])
		return 2;
	pid = fork(); /* a grandchild's is larger again */
	if (pid == 0)
		_exit(sb__fork_epoch() > mine ? 0 : 3);
	return fixture_wait(pid);
}

static void test_epoch_grows_in_forked_children(void **state)
{
	uint64_t mine[2] = { sb__fork_epoch(), sb__fork_epoch_by_pid() };

	(void)state;
	assert_int_equal(fixture_wait(fixture_fork(epoch_grew, mine)), 0);
	assert_true(sb__fork_epoch() == mine[0]);
	assert_true(sb__fork_epoch_by_pid() == mine[1]);
}

/* A raw clone() runs no atfork handlers and still is a fork. */
static void test_epoch_grows_after_raw_clone(void **state)
{
	uint64_t mine = sb__fork_epoch();
	long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	(void)state;
	if (pid == 0)
		_exit(sb__fork_epoch() > mine ? 0 : 1);
	assert_true(pid > 0);
	assert_int_equal(fixture_wait((pid_t)pid), 0);
	assert_true(sb__fork_epoch() == mine);
}

static int say_random(void *arg)
{
	const struct place *place = arg;
	uint64_t random = 0;

	if (sb__random(&random, sizeof(random)) != 0 ||
	    write(place->pipe[1], &random, sizeof(random)) != sizeof(random))
		return 1;
	return 0;
}

/* The pool of random bytes is filled before the fork: both sides would read the same. */
static void test_random_differs_after_fork(void **state)
{
	struct place *place = *state;
	uint64_t mine = 0, childs = 0;

	assert_ok(sb__random(&mine, sizeof(mine)));
	assert_int_equal(fixture_wait(fixture_fork(say_random, place)), 0);
	assert_true(fixture_hear(place->pipe[0], 0, &childs, sizeof(childs)));
	assert_ok(sb__random(&mine, sizeof(mine)));
	assert_true(mine != childs);
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_PLACE(test_held_by_this_process),
		IN_PLACE(test_survives_closing_everything),
		IN_PLACE(test_free_when_killed_even_as_zombie),
		IN_PLACE(test_stopped_process_is_alive),
		IN_PLACE(test_a_forked_child_does_not_hold_it),
		IN_PLACE(test_exec_frees_it),
		IN_PLACE(test_fork_during_the_taking),
		IN_PLACE(test_identity_of_this_process),
		IN_PLACE(test_verdicts_without_a_process),
		IN_PLACE(test_eperm_is_not_death),
		IN_PLACE(test_zombie_main_thread_is_alive),
		cmocka_unit_test(test_namespace_is_ones_own),
		cmocka_unit_test(test_epoch_grows_in_forked_children),
		cmocka_unit_test(test_epoch_grows_after_raw_clone),
		IN_PLACE(test_random_differs_after_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
