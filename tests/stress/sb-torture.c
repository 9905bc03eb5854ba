/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-torture: processes that work on a bridge while everything happens to them: SIGKILL and SIGSTOP to workers and to
 * designated owners, reapers killed in mid-pass, a full file system, all lanes, all reader slots, all process slots taken,
 * a process with a thousand sessions killed. Whatever a caller is told must be explained by a fault that was under way
 * (torture_worker.c); calls of bystanders are always answered; what was marked as run ran once, what was refused never;
 * and after one pass of sb-reaper nothing is left for sb-inspect --check.
 *
 * SB_STRESS_SECONDS: how long (default 60). SB_SEED repeats the decisions, though not what the scheduler makes of them;
 * the seed is printed. As root it works on a small tmpfs of its own; else the full file system is left out, and named.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "torture.h"

#define FS_MB    768
#define HANGS_MS 100000 /* an act that takes so long, pauses of the worker itself aside */
#define SESSIONS 1000
#define READY_MS 240000

struct torturer {
	unsigned seed;
	bool small_fs;
	pid_t workers[TORTURE_WORKERS], bystanders[TORTURE_BYSTANDERS];
	int many; /* processes with many sessions so far */
	uint64_t begun_ms;
};

static unsigned roll(struct torturer *t, unsigned n)
{
	return (unsigned)rand_r(&t->seed) % n;
}

static void nap(struct torturer *t, unsigned from_ms, unsigned to_ms)
{
	usleep((from_ms + roll(t, to_ms - from_ms)) * 1000);
}

/* ── processes ── */

static uint32_t before[FAULTS]; /* violations when the fault began */

static void worker_start(struct torturer *t, int n)
{
	unsigned seed = (unsigned)rand_r(&t->seed);

	fflush(NULL);
	t->workers[n] = fork();
	assert_true(t->workers[n] >= 0);
	if (t->workers[n] == 0)
		_exit(torture_worker(n, seed));
}

/* Ended by SIGKILL, as was meant; anything else is its own fault. */
static void reap_killed(pid_t pid, const char *what)
{
	int status = fixture_wait(pid);

	if (status != 1000 + SIGKILL)
		torture_violation("%s ended with %d before it was killed", what, status);
}

static void begin(enum torture_fault fault)
{
	before[fault] = atomic_load(&torture->violations);
	atomic_fetch_add(&torture->faults[fault].begun, 1);
}

static void end(enum torture_fault fault)
{
	atomic_fetch_add(&torture->faults[fault].over, 1);
	atomic_fetch_add(&torture->faults[fault].tried, 1);
	atomic_fetch_add(&torture->faults[fault].failed, atomic_load(&torture->violations) - before[fault]);
}

static void kill_worker(struct torturer *t)
{
	int n = (int)roll(t, TORTURE_WORKERS);

	begin(FAULT_KILL_WORKER);
	kill(t->workers[n], SIGKILL);
	reap_killed(t->workers[n], "a worker");
	atomic_store(&torture->doing[n].since_ms, 0);
	end(FAULT_KILL_WORKER);
	worker_start(t, n);
}

/* One that stops in the middle of writing to the store holds up all writers, but no call. */
static void stop_worker(struct torturer *t)
{
	int n = (int)roll(t, TORTURE_WORKERS);

	begin(FAULT_STOP_WORKER);
	kill(t->workers[n], SIGSTOP);
	nap(t, 1, 400);
	kill(t->workers[n], SIGCONT);
	end(FAULT_STOP_WORKER);
}

static void kill_owner(struct torturer *t)
{
	pid_t pid = atomic_exchange(&torture->owners[roll(t, TORTURE_VICTIMS)], 0);

	if (pid <= 1)
		return;
	begin(FAULT_KILL_OWNER);
	kill(pid, SIGKILL);
	nap(t, 1, 20);
	end(FAULT_KILL_OWNER);
}

static void stop_owner(struct torturer *t)
{
	pid_t pid = atomic_exchange(&torture->owners[roll(t, TORTURE_VICTIMS)], 0);

	if (pid <= 1)
		return;
	begin(FAULT_STOP_OWNER);
	kill(pid, SIGSTOP);
	nap(t, 1, 500);
	kill(pid, roll(t, 3) == 0 ? SIGKILL : SIGCONT);
	kill(pid, SIGCONT);
	end(FAULT_STOP_OWNER);
}

/* Runs a tool; kill_after_us < 0: to its end. */
static int run_tool(const char *tool, const char *argument, int kill_after_us)
{
	const char *build = getenv("SB_BUILD_DIR");
	char path[512];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/bin/%s", build ? build : ".", tool);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execl(path, tool, "--dir", torture->dir, "-q", argument, (char *)NULL);
		_exit(127);
	}
	if (kill_after_us >= 0) {
		usleep((unsigned)kill_after_us);
		kill(pid, SIGKILL);
	}
	return fixture_wait(pid);
}

static void kill_reaper(struct torturer *t)
{
	int status;

	begin(FAULT_KILL_REAPER);
	status = run_tool("sb-reaper", "--once", (int)roll(t, 20000));
	if (status != 0 && status != 1000 + SIGKILL)
		torture_violation("sb-reaper ended with %d", status);
	end(FAULT_KILL_REAPER);
}

/* ── what is used up ── */

static void torment_meanwhile(struct torturer *t, unsigned ms)
{
	uint64_t until = torture_now_ms() + ms;

	while (torture_now_ms() < until) {
		if (roll(t, 2))
			kill_worker(t);
		else
			stop_worker(t);
		nap(t, 1, 40);
	}
}

static void fill_file_system(void)
{
	char name[300];
	int fd;

	snprintf(name, sizeof(name), "%s/filler", torture->dir);
	fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (off_t at = 0, step = 64 << 20; step >= 4096;) {
		if (posix_fallocate(fd, at, step) == 0)
			at += step;
		else
			step /= 4;
	}
	close(fd); /* a worker that is forked now must not keep it */
}

static void full_file_system(struct torturer *t)
{
	char name[300];

	if (!t->small_fs)
		return;
	begin(FAULT_FULL);
	fill_file_system();
	torment_meanwhile(t, 300);
	snprintf(name, sizeof(name), "%s/filler", torture->dir);
	unlink(name);
	end(FAULT_FULL);
}

struct taker {
	pid_t pid;
	int ready;
};

static struct taker taker_start(struct torturer *t, enum torture_fault fault)
{
	struct taker taker;
	char session[32] = "steady"; /* there, a quota keeps it from taking all */
	int fds[2];

	if (roll(t, 3))
		snprintf(session, sizeof(session), "victim-%d", t->many % TORTURE_VICTIMS);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	taker.pid = fork();
	if (taker.pid == 0)
		_exit(fault == FAULT_READERS     ? torture_take_readers(fds[1])
		      : fault == FAULT_PROCESSES ? torture_take_processes(fds[1])
		      : fault == FAULT_LANES     ? torture_take_lanes(session, fds[1])
		                                 : torture_open_sessions(t->many, SESSIONS, fds[1]));
	close(fds[1]);
	taker.ready = fds[0];
	return taker;
}

static void taker_end(struct taker *taker, enum torture_fault fault)
{
	struct pollfd p = { .fd = taker->ready, .events = POLLIN };

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLIN))
		torture_violation("%s: its process did not get ready", torture_fault_name(fault));
	kill(taker->pid, SIGKILL);
	reap_killed(taker->pid, torture_fault_name(fault));
	close(taker->ready);
}

/* So many processes take it all, others suffer for a while, and then they are killed with all that they took. */
static void take_all(struct torturer *t, enum torture_fault fault, int processes, unsigned ms)
{
	struct taker takers[4];

	begin(fault);
	t->many++;
	for (int i = 0; i < processes; i++)
		takers[i] = taker_start(t, fault);
	for (int i = 0; i < processes; i++) {
		struct pollfd p = { .fd = takers[i].ready, .events = POLLIN };

		poll(&p, 1, READY_MS);
	}
	torment_meanwhile(t, ms);
	for (int i = 0; i < processes; i++)
		taker_end(&takers[i], fault);
	end(fault);
}

/* ── all of it ── */

static void one_fault(struct torturer *t)
{
	unsigned what = roll(t, 100);

	if (what < 35)
		kill_worker(t);
	else if (what < 50)
		stop_worker(t);
	else if (what < 65)
		kill_owner(t);
	else if (what < 75)
		stop_owner(t);
	else if (what < 85)
		kill_reaper(t);
	else if (what < 90)
		full_file_system(t);
	else if (what < 93)
		take_all(t, FAULT_READERS, 1, 200);
	else if (what < 95)
		take_all(t, FAULT_PROCESSES, 1, 200);
	else if (what < 98)
		take_all(t, FAULT_LANES, 4, 200);
	else
		take_all(t, FAULT_SESSIONS, 1, 1);
}

/* Each fault once whatever the dice say. */
static void each_once(struct torturer *t)
{
	full_file_system(t);
	take_all(t, FAULT_READERS, 1, 200);
	take_all(t, FAULT_PROCESSES, 1, 200);
	take_all(t, FAULT_LANES, 4, 200);
	take_all(t, FAULT_SESSIONS, 1, 1);
	kill_reaper(t);
}

static void look_for_hangs(void)
{
	uint64_t now = torture_now_ms();

	for (int n = 0; n < TORTURE_WORKERS; n++) {
		uint64_t since = atomic_load(&torture->doing[n].since_ms);

		if (since && now > since && now - since > HANGS_MS) {
			torture_violation("worker %d, %s, hangs", n, atomic_load(&torture->doing[n].what));
			atomic_store(&torture->doing[n].since_ms, 0);
		}
	}
}

static int in_child(int (*fn)(void))
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(fn());
	return fixture_wait(pid);
}

/* Tried elsewhere first: in a chroot there is no mount to make private, and a namespace of one's own is no way back. */
static int mounts_of_our_own(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 ? 0
	                                                                                           : errno;
}

static void make_place(struct torturer *t)
{
	char options[64];
	int err;

	fixture_dir_make(torture->dir, sizeof(torture->dir));
	snprintf(options, sizeof(options), "size=%dm,mode=0700", FS_MB);
	err = in_child(mounts_of_our_own);
	t->small_fs = err == 0 && mounts_of_our_own() == 0 &&
	              mount("none", torture->dir, "tmpfs", 0, options) == 0;
	if (!t->small_fs)
		print_message("left out: full-file-system (%s)\n", strerror(err ? err : errno));
}

static void remove_place(struct torturer *t)
{
	if (t->small_fs)
		umount(torture->dir);
	fixture_dir_remove(torture->dir);
}

static void start_all(struct torturer *t)
{
	assert_int_equal(in_child(torture_prepare), 0);
	for (int i = 0; i < TORTURE_BYSTANDERS; i++) {
		fflush(NULL);
		t->bystanders[i] = fork();
		if (t->bystanders[i] == 0)
			_exit(torture_bystander());
	}
	while (atomic_load(&torture->bystander_calls) < 10)
		usleep(10000);
	for (int i = 0; i < TORTURE_WORKERS; i++)
		worker_start(t, i);
}

static void end_all(struct torturer *t)
{
	atomic_store(&torture->stop, true);
	for (int i = 0; i < TORTURE_WORKERS; i++)
		if (fixture_wait(t->workers[i]) != 0)
			torture_violation("a worker did not end well");
	for (int i = 0; i < TORTURE_BYSTANDERS; i++)
		if (fixture_wait(t->bystanders[i]) != 0)
			torture_violation("a bystander did not end well");
	if (in_child(torture_settle) != 0)
		torture_violation("the ledger could not be read");
}

/* Dedicated owners end by themselves when nobody owns their sessions; until then they are in the directory. */
static void wait_for_owners(void)
{
	for (int i = 0; i < 1500; i++) {
		json_t *j = fixture_tool_json(torture->dir, "sb-inspect", "--json", "processes", NULL);
		size_t n = json_array_size(json_object_get(j, "processes"));

		json_decref(j);
		if (n == 0)
			return;
		usleep(20000);
	}
	torture_violation("dedicated owners without sessions did not end");
}

static void look_for_leaks(void)
{
	if (run_tool("sb-reaper", "--once", -1) != 0)
		torture_violation("sb-reaper --once failed");
	if (fixture_tool(torture->dir, NULL, "sb-inspect", "--check", NULL) != 0)
		torture_violation("sb-inspect --check has findings after one pass of sb-reaper");
	wait_for_owners();
}

static void print_outcomes(const struct torturer *t)
{
	unsigned violations = atomic_load(&torture->violations);
	unsigned long long acts = atomic_load(&torture->acts), calls = atomic_load(&torture->bystander_calls);
	double seconds = (double)(torture_now_ms() - t->begun_ms) / 1000;

	for (int f = 0; f < FAULTS; f++) {
		if (f != FAULT_FULL || t->small_fs)
			print_message("reliability: torture/%s tried=%u failed=%u seconds=%.0f\n",
			              torture_fault_name((enum torture_fault)f),
			              atomic_load(&torture->faults[f].tried),
			              atomic_load(&torture->faults[f].failed), seconds);
	}
	print_message("%llu acts of %u workers, %u marks\n", acts, atomic_load(&torture->workers_begun),
	              atomic_load(&torture->next_mark));
	for (int code = 0; code < TORTURE_CODES; code++)
		if (atomic_load(&torture->codes[code]))
			print_message("  %-16s %u\n", code ? sb_error_name(-code) : "went well",
			              atomic_load(&torture->codes[code]));
	print_message("bystanders: %llu calls, the longest took %.1f ms\n", calls,
	              (double)atomic_load(&torture->bystander_most_us) / 1000);
	for (unsigned n = 0; n < violations && n < TORTURE_REPORTS; n++)
		print_message("  not allowed: %s\n", torture->reports[n]);
	print_message("reliability: torture/answers tried=%llu failed=%u seconds=%.0f\n", acts + calls,
	              violations, seconds);
}

static void test_10_30_31_32_everything_at_once(void **state)
{
	const char *text = getenv("SB_STRESS_SECONDS"), *seed = getenv("SB_SEED");
	struct torturer t = { .seed = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL) };
	uint64_t end_ms;

	(void)state;
	print_message("SB_SEED=%u\n", t.seed);
	torture = mmap(NULL, sizeof(*torture), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(torture != MAP_FAILED);
	t.begun_ms = torture_now_ms();
	end_ms = t.begun_ms + (text ? strtoul(text, NULL, 10) : 60) * 1000;
	make_place(&t);
	start_all(&t);
	each_once(&t);
	while (torture_now_ms() < end_ms && atomic_load(&torture->violations) < TORTURE_REPORTS) {
		one_fault(&t);
		look_for_hangs();
		nap(&t, 5, 120);
	}
	end_all(&t);
	look_for_leaks();
	print_outcomes(&t);
	remove_place(&t);
	assert_int_equal(torture->violations, 0);
	assert_true(torture->acts > 100 && torture->bystander_calls > 100 && torture->codes[0] > 100);
	munmap(torture, sizeof(*torture));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_10_30_31_32_everything_at_once),
	};

	return cmocka_run_group_tests_name("sb-torture", tests, NULL, NULL);
}
