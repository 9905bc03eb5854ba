/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever takes as much as it gets leaves something for the others: service threads, lanes, refs, bytes of the file system;
 * an owner without memory answers; a thousand processes use one session, and one bridge has thousands of sessions.
 */
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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define HANGING   200 /* calls; a designated owner has 64 service threads */
#define PROCESSES 1000
#define SESSIONS  2000

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static sb_session *attach(struct fixture *f, const char *id)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = id;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	return sb_session_open(f->bridge, &o, &s) ? NULL : s;
}

static bool answers(sb_session *s, int64_t n)
{
	sb_value *v = NULL;
	int64_t got = -1;
	bool ok = succeeds(sb_call(s, "builtins:abs", sb_args("i", -n), &v)) && sb_value_int(v, &got) == 0 &&
	          got == n;

	sb_value_free(v);
	return ok;
}

/* ── threads ── */

struct hog {
	struct fixture *f;
	const char *id;
	int ready[2];
	int go[2];
};

static bool may_go(const struct hog *hog)
{
	char go;

	return read(hog->go[0], &go, 1) == 1;
}

/* Calls that never end, as many as there are lanes for; then waits to be killed. */
static int hang_many(void *arg)
{
	struct hog *hog = arg;
	sb_session *s = may_go(hog) ? attach(hog->f, hog->id) : NULL;

	for (int i = 0; s && i < HANGING; i++) {
		sb_request r = SB_REQUEST_INIT;
		sb_future *future;

		r.name = "builtins:exec";
		r.args = sb_args("s{}", "import time\nwhile True: time.sleep(0.05)");
		if (sb_call_start(s, &r, &future))
			return 1;
	}
	return s && write(hog->ready[1], "R", 1) == 1 ? pause() : 2;
}

static int call_other(void *arg)
{
	struct hog *caller = arg;
	sb_session *s = may_go(caller) ? attach(caller->f, caller->id) : NULL;
	bool ok = s != NULL;

	for (int64_t n = 0; ok && n < 50; n++)
		ok = answers(s, n);
	return ok ? 0 : 1;
}

/*
 * One process serves all three sessions. In the others, each call finds a thread, though the first would take all there are.
 * All children are forked before that process has threads: a lock of a sanitizer's that one of them held would stay locked.
 */
static void test_35_session_that_hangs_slows_no_other(void **state)
{
	struct fixture *f = *state;
	struct hog hog[3] = { { .f = f, .id = "hangs" },
		              { .f = f, .id = "hangs too" },
		              { .f = f, .id = "other" } };
	sb_session *sessions[3];
	pid_t pids[3];
	char ready;

	for (int i = 0; i < 3; i++) {
		assert_true(pipe(hog[i].ready) == 0 && pipe(hog[i].go) == 0);
		pids[i] = fixture_fork(i < 2 ? hang_many : call_other, &hog[i]);
	}
	for (int i = 0; i < 3; i++)
		sessions[i] = fixture_session(f->bridge, hog[i].id, SB_DESIGNATED_SELF);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write(hog[i].go[1], "g", 1), 1);
		assert_true(fixture_hear(hog[i].ready[0], pids[i], &ready, 1));
	}
	usleep(500000); /* they are spread over the threads by nudges */
	assert_int_equal(write(hog[2].go[1], "g", 1), 1);
	assert_int_equal(fixture_wait(pids[2]), 0);
	for (int i = 0; i < 3; i++) {
		if (i < 2) {
			kill(pids[i], SIGKILL);
			fixture_wait(pids[i]);
			sb_session_release(f->bridge, hog[i].id, NULL);
		}
		sb_session_close(sessions[i]);
		for (int end = 0; end < 2; end++) {
			close(hog[i].ready[end]);
			close(hog[i].go[end]);
		}
	}
}

/* ── lanes ── */

/* As many calls in flight as one process gets. Their lanes are taken until the results are fetched: never. */
static int take_lanes(void *arg)
{
	struct hog *hog = arg;
	sb_session *s = attach(hog->f, hog->id);
	int err = s ? 0 : SB_ENOSESSION;

	while (!err) {
		sb_request r = SB_REQUEST_INIT;
		sb_future *future;

		r.name = "builtins:abs";
		r.args = sb_args("i", (int64_t)1);
		err = sb_call_start(s, &r, &future);
	}
	return err == SB_ELANES && write(hog->ready[1], "R", 1) == 1 ? pause() : 2;
}

static void test_35_one_process_cannot_take_all_lanes(void **state)
{
	struct fixture *f = *state;
	struct hog hog = { .f = f, .id = "lanes" };
	sb_session *s = fixture_session(f->bridge, "lanes", SB_DESIGNATED_DEDICATED);
	uint64_t quota;
	pid_t pid;
	char ready;

	assert_ok(sb_config_get("max_lanes_per_process", &quota));
	assert_true(quota <= 4096 / 2); /* of a session's lanes */
	assert_int_equal(pipe(hog.ready), 0);
	pid = fixture_fork(take_lanes, &hog);
	assert_true(fixture_hear(hog.ready[0], pid, &ready, 1));
	for (int64_t n = 0; n < 20; n++)
		assert_true(answers(s, n));
	kill(pid, SIGKILL);
	fixture_wait(pid);
	sb_session_close(s);
}

/* ── bytes ── */

static int fill_with_arrays(void *arg)
{
	struct hog *hog = arg;
	sb_session *s = attach(hog->f, hog->id);
	size_t shape[1] = { 1 << 20 };
	int err = s ? 0 : SB_ENOSESSION;
	int n = 0;

	for (; !err; n++) {
		sb_array *array;

		err = sb_array_new(s, "|u1", 1, shape, &array); /* kept */
	}
	return err == SB_ENOSPACE && n > 5 && write(hog->ready[1], "R", 1) == 1 ? pause() : 2;
}

/* On a file system of 48 MB one process keeps arrays, as many as it gets. What is left does for the others. */
static int others_go_on(struct fixture *f)
{
	static char big[200000];
	struct hog hog = { .f = f, .id = "bytes" };
	sb_session *s = fixture_session(f->bridge, "bytes", SB_DESIGNATED_SELF), *more;
	bool ok = s && pipe(hog.ready) == 0;
	pid_t pid = fixture_fork(fill_with_arrays, &hog);
	char ready, id[32];

	ok = ok && fixture_hear(hog.ready[0], pid, &ready, 1);
	for (int i = 0; ok && i < 20; i++) {
		snprintf(id, sizeof(id), "more-%d", i);
		more = fixture_session(f->bridge, id, SB_DESIGNATED_SELF);
		ok = answers(more, i);
	}
	more = fixture_session(f->bridge, "there", SB_DESIGNATED_DEDICATED);
	for (int i = 0; ok && i < 20; i++)
		ok = succeeds(sb_call(more, "builtins:len", sb_args("y", big, sizeof(big)), NULL));
	kill(pid, SIGKILL);
	fixture_wait(pid);
	sb_session_close(more);
	return ok;
}

static void test_35_one_process_cannot_take_all_bytes(void **state)
{
	struct fixture f = { .dir = "" };
	int status;
	pid_t pid;

	(void)state;
	fixture_dir_make(f.dir, sizeof(f.dir));
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", f.dir, "tmpfs", 0, "size=48m,mode=0700"))
			_exit(77);
		_exit(succeeds(sb_bridge_open(f.dir, NULL, &f.bridge)) && others_go_on(&f) ? 0 : 1);
	}
	status = fixture_wait(pid);
	fixture_dir_remove(f.dir);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

/* ── memory ── */

static long address_space_kb(int32_t pid)
{
	char path[64], line[256];
	long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmSize: %ld kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* The owner has 24 MB more than it uses: what needs more fails with an error, and it goes on. */
static void test_30_owner_out_of_memory_answers(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "poor", SB_DESIGNATED_DEDICATED);
	sb_session_info info = { .size = sizeof(info) };
	size_t len = (size_t)64 << 20;
	char *big = calloc(1, len);
	struct rlimit limit;
	int32_t pid;
	int err;

	if (fixture_slowness() > 1) {
		free(big);
		sb_session_close(s);
		skip(); /* a sanitizer's shadow is address space as well */
	}
	assert_true(answers(s, 1));
	assert_ok(sb_session_get_info(s, &info));
	pid = info.designated_pid;
	limit.rlim_cur = limit.rlim_max = ((rlim_t)address_space_kb(pid) << 10) + ((rlim_t)24 << 20);
	assert_int_equal(prlimit(pid, RLIMIT_AS, &limit, NULL), 0);
	for (int i = 0; i < 20; i++) {
		/* Python has no memory. */
		assert_int_equal(sb_call(s, "builtins:bytearray", sb_args("i", (int64_t)1 << 30), NULL),
		                 SB_EPYTHON);
		assert_non_null(strstr(sb_last_error()->python_type, "MemoryError"));
		/* Neither for the request, wherever it is copied to. */
		err = sb_call(s, "builtins:len", sb_args("y", big, len), NULL);
		assert_true(err == SB_ENOMEM || err == SB_EPYTHON || err == SB_ENOSPACE);
		/* Nor for the result. */
		err = sb_call(s, "builtins:eval", sb_args("s{}", "b'x' * (20 << 20)"), NULL);
		assert_true(err == 0 || err == SB_ENOMEM || err == SB_EPYTHON || err == SB_ENOSPACE);
		assert_true(answers(s, i));
	}
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.designated_pid, pid);
	assert_int_equal(info.state, SB_SESSION_ACTIVE);
	free(big);
	sb_session_close(s);
}

struct eater {
	struct fixture *f;
	int orders[2], answers[2];
	pid_t pid;
};

/* Takes all memory that there is, down to the last bytes, sleeps on it, and gives it back. */
static void eat(int tell)
{
	static const size_t sizes[] = { 1 << 20, 1 << 16, 4096, 1024, 512, 256, 128, 64, 32, 16 };
	struct rlimit limit = { (rlim_t)address_space_kb(getpid()) << 10, RLIM_INFINITY };
	void **list = NULL, **p;

	setrlimit(RLIMIT_AS, &limit);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		while ((p = malloc(sizes[i])) != NULL) {
			*p = list;
			list = p;
		}
	(void)!write(tell, "e", 1);
	usleep(300000);
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_AS, &limit);
	while ((p = list) != NULL) {
		list = *p;
		free(p);
	}
	(void)!write(tell, "d", 1);
}

/* A designated owner that eats when it is told: this program anew, so that all its threads have their memory from one arena of
 * malloc()'s. */
static int become_eater(void *arg)
{
	struct eater *e = arg;
	char in[16], out[16];

	close(e->orders[1]);
	snprintf(in, sizeof(in), "%d", e->orders[0]);
	snprintf(out, sizeof(out), "%d", e->answers[1]);
	setenv("MALLOC_ARENA_MAX", "1", 1);
	execl("/proc/self/exe", "eater", e->f->dir, in, out, (char *)NULL);
	return 127;
}

static int eater_main(const char *dir, int in, int out)
{
	sb_bridge *bridge;
	sb_session *s;
	char order;

	if (!succeeds(sb_bridge_open(dir, NULL, &bridge)))
		return 1;
	s = fixture_session(bridge, "eaten", SB_DESIGNATED_SELF);
	if (!answers(s, 1) || write(out, "r", 1) != 1)
		return 2;
	while (read(in, &order, 1) == 1)
		eat(out);
	sb_session_close(s);
	sb_bridge_close(bridge);
	return 0;
}

static char said(const struct eater *e)
{
	char c = 0;

	return fixture_hear(e->answers[0], e->pid, &c, 1) ? c : '?';
}

/* Or it was answered nevertheless. */
static bool is_no_memory(int err)
{
	return err == 0 || err == SB_EPYTHON || err == SB_ENOMEM;
}

static sb_future *start_sleep(sb_session *s, double seconds)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;

	r.name = "time:sleep";
	r.args = sb_args("d", seconds);
	assert_ok(sb_call_start(s, &r, &future));
	return future;
}

/*
 * A service thread that never ran Python needs a thread state, and Python ends the process where there is no memory for
 * that: the thread waits. The calls that sleep take the threads that have one.
 */
static void test_30_owner_without_memory_for_another_thread(void **state)
{
	struct eater e = { .f = *state };
	sb_session *s;

	if (fixture_slowness() > 1)
		skip();
	assert_true(pipe(e.orders) == 0 && pipe(e.answers) == 0);
	e.pid = fixture_fork(become_eater, &e);
	close(e.answers[1]);
	assert_int_equal(said(&e), 'r');
	s = fixture_session(e.f->bridge, "eaten", SB_DESIGNATED_SELF);
	for (int i = 0; i < 3; i++) {
		sb_future *sleeping[8];
		int err;

		for (int k = 0; k < 8; k++) {
			sleeping[k] = start_sleep(s, 0.8);
			usleep(20000);
		}
		assert_int_equal(write(e.orders[1], "e", 1), 1);
		assert_int_equal(said(&e), 'e');
		err = sb_call(s, "builtins:abs", sb_args("i", 1), NULL);
		assert_true(is_no_memory(err));
		assert_int_equal(said(&e), 'd');
		for (int k = 0; k < 8; k++) {
			assert_true(is_no_memory(sb_future_wait(sleeping[k], SB_WAIT_FOREVER, NULL)));
			sb_future_free(sleeping[k]);
		}
		assert_true(answers(s, i));
	}
	sb_session_close(s);
	close(e.orders[1]);
	assert_int_equal(fixture_wait(e.pid), 0);
	close(e.orders[0]);
	close(e.answers[0]);
}

/* ── many ── */

struct crowd {
	_Atomic int attached, answered;
	_Atomic int failed, go;
};

static int use_in_crowd(struct fixture *f, struct crowd *c, int n)
{
	sb_session *s = attach(f, "crowded");
	bool ok = s && answers(s, n);

	atomic_fetch_add(ok ? &c->attached : &c->failed, 1);
	while (!atomic_load(&c->go))
		usleep(20000);
	ok = ok && answers(s, n + 1); /* all of them at once */
	atomic_fetch_add(ok ? &c->answered : &c->failed, 1);
	sb_bridge_close(f->bridge);
	return ok ? 0 : 1;
}

static int number(const char *name, int otherwise)
{
	const char *text = getenv(name);

	return text ? atoi(text) : otherwise / (fixture_slowness() > 1 ? 10 : 1);
}

/* SB_LIMIT_PROCESSES: how many (default 1000; a tenth under a sanitizer). */
static void test_31_thousand_processes_use_one_session(void **state)
{
	struct fixture *f = *state;
	int processes = number("SB_LIMIT_PROCESSES", PROCESSES), bad = 0;
	struct crowd *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t *pids = calloc((size_t)processes, sizeof(*pids));
	sb_session *s = fixture_session(f->bridge, "crowded", SB_DESIGNATED_DEDICATED);
	double begun = now_s(), all;

	for (int i = 0; i < processes; i++) {
		fflush(NULL);
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			_exit(use_in_crowd(f, c, i));
	}
	while (atomic_load(&c->attached) + atomic_load(&c->failed) < processes)
		usleep(20000);
	all = now_s();
	assert_true(answers(s, 1));
	atomic_store(&c->go, 1);
	for (int i = 0; i < processes; i++)
		bad += fixture_wait(pids[i]) != 0;
	print_message("%d processes attached to one session in %.1f s, called and left in %.1f s\n",
	              processes, all - begun, now_s() - all);
	print_message("reliability: limits/processes tried=%d failed=%d seconds=%.0f\n", processes, bad,
	              now_s() - begun);
	assert_int_equal(bad, 0);
	assert_int_equal(c->answered, processes);
	assert_true(answers(s, 2));
	sb_session_close(s);
	free(pids);
	munmap(c, sizeof(*c));
}

/* SB_LIMIT_SESSIONS: how many (default 2000, for the time it takes; a tenth under a sanitizer). All of one process. */
static void test_31_thousands_of_sessions_on_one_bridge(void **state)
{
	struct fixture *f = *state;
	int count = number("SB_LIMIT_SESSIONS", SESSIONS), bad = 0;
	sb_session **sessions = calloc((size_t)count, sizeof(sb_session *));
	double begun = now_s(), opened, called;
	char id[32];

	for (int i = 0; i < count; i++) {
		sb_session_options o = SB_SESSION_OPTIONS_INIT;

		snprintf(id, sizeof(id), "session-%d", i);
		o.session_id = id;
		o.designated = SB_DESIGNATED_SELF;
		if (!succeeds(sb_session_open(f->bridge, &o, &sessions[i])))
			bad++;
	}
	assert_int_equal(bad, 0);
	opened = now_s();
	for (int i = 0; i < count; i++)
		bad += !answers(sessions[i], i);
	called = now_s();
	for (int i = 0; i < count; i++)
		sb_session_close(sessions[i]);
	print_message("%d sessions opened in %.1f s, called in %.1f s, closed in %.1f s\n", count,
	              opened - begun, called - opened, now_s() - called);
	print_message("reliability: limits/sessions tried=%d failed=%d seconds=%.0f\n", count, bad,
	              now_s() - begun);
	assert_int_equal(bad, 0);
	free(sessions);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_35_session_that_hangs_slows_no_other, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_35_one_process_cannot_take_all_lanes, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test(test_35_one_process_cannot_take_all_bytes),
		cmocka_unit_test_setup_teardown(test_30_owner_out_of_memory_answers, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_30_owner_without_memory_for_another_thread,
		                                fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_31_thousand_processes_use_one_session, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_31_thousands_of_sessions_on_one_bridge, fixture_setup,
		                                fixture_teardown),
	};

	if (argc == 4)
		return eater_main(argv[1], atoi(argv[2]), atoi(argv[3]));

	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
