/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Point 32: no live process is ever declared dead, and no dead one is kept: reused pids, zombies, exec, long stops,
 * steps of the clock, other pid namespaces.
 *
 * The processes here are this program, executed anew with a mode as first argument (see main), so that nothing is
 * inherited. They talk through two pipes: each line sent asks for one call, and is answered by "ok" or an error's name.
 * Parts that need root (a chosen pid, a pid namespace) are skipped without.
 */
#include <errno.h>
#include <linux/sched.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

/* ── a wall clock that can be set ── */

static _Atomic time_t wall_step;

/* In front of libc's, for all of this process but Python: the machine's own clock is not touched. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += wall_step;
	return r;
}

/* ── the other processes ── */

struct other {
	pid_t pid;
	FILE *to, *from;
};

struct start {
	const char *mode, *dir;
	int in, out;
};

static void become(const struct start *s)
{
	dup2(s->in, 0);
	dup2(s->out, 1);
	execl("/proc/self/exe", "test_liveness", s->mode, s->dir, (char *)NULL);
	_exit(126);
}

/* A process with a pid of choice: *chosen, if that is not 0. */
static pid_t fork_as(const pid_t *chosen)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	fflush(NULL);
	if (!*chosen)
		return fork();
	args.set_tid = (uintptr_t)chosen;
	args.set_tid_size = 1;
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args)); /* the child only executes */
}

static bool other_start(struct other *o, struct fixture *f, const char *mode, pid_t chosen)
{
	struct start s = { mode, f->dir, -1, -1 };
	int in[2], out[2];
	char line[64];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	s.in = in[0];
	s.out = out[1];
	o->pid = fork_as(&chosen);
	if (o->pid == 0) {
		close(in[1]);
		close(out[0]);
		become(&s);
	}
	close(in[0]);
	close(out[1]);
	o->to = fdopen(in[1], "w");
	o->from = fdopen(out[0], "r");
	assert_true(o->to && o->from);
	if (o->pid > 0 && fgets(line, sizeof(line), o->from) && strcmp(line, "ready\n") == 0)
		return true;
	fclose(o->to);
	fclose(o->from);
	return false;
}

static void assert_works(struct other *o)
{
	char line[64] = "";

	fputs("call\n", o->to);
	fflush(o->to);
	assert_non_null(fgets(line, sizeof(line), o->from));
	assert_string_equal(line, "ok\n");
}

static int other_end(struct other *o, int signal)
{
	if (signal)
		kill(o->pid, signal);
	fclose(o->to); /* end of input: it leaves */
	fclose(o->from);
	return fixture_wait(o->pid);
}

/* Stopped when this returns: the signal alone takes its time. */
static void other_stop(const struct other *o)
{
	int status;

	kill(o->pid, SIGSTOP);
	assert_int_equal(waitpid(o->pid, &status, WUNTRACED), o->pid);
	assert_true(WIFSTOPPED(status));
}

/* Serves calls on request until its input ends. */
static int serve_requests(sb_session *s)
{
	char line[64];

	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int err = sb_call(s, "math:sqrt", sb_args("i", 4), NULL);

		printf("%s\n", err ? sb_error_name(err) : "ok");
		fflush(stdout);
	}
	return 0;
}

static void *serve_in_thread(void *arg)
{
	_exit(serve_requests(arg));
	return NULL;
}

static int other_main(const char *mode, const char *dir)
{
	bool host = strcmp(mode, "host") == 0;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge = NULL;
	sb_session *s = NULL;
	pthread_t t;

	if (sb_bridge_open(dir, NULL, &bridge))
		return -sb_last_error()->code;
	o.session_id = host ? "theirs" : "home";
	o.designated = host ? SB_DESIGNATED_SELF : SB_DESIGNATED_ATTACH_ONLY;
	if (sb_session_open(bridge, &o, &s) || sb_call(s, "math:sqrt", sb_args("i", 4), NULL))
		return 100;
	if (strcmp(mode, "exec") == 0)
		execl("/bin/sh", "sh", "-c", "echo ready; read line", (char *)NULL);
	if (strcmp(mode, "leaderless") == 0) {
		if (pthread_create(&t, NULL, serve_in_thread, s))
			return 101;
		pthread_exit(NULL);
	}
	return serve_requests(s);
}

/* ── what is known of them ── */

static void reap(struct fixture *f)
{
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
}

/* How many process records name the pid; with liveness, those of which sb-inspect says that. */
static int records_that_are(struct fixture *f, pid_t pid, const char *liveness)
{
	json_t *j = fixture_tool_json(f->dir, "sb-inspect", "--json", "processes", NULL), *p;
	size_t i;
	int n = 0;

	assert_true(json_is_array(json_object_get(j, "processes")));
	json_array_foreach(json_object_get(j, "processes"), i, p)
		n += json_integer_value(json_object_get(p, "pid")) == pid &&
	             (!liveness || strcmp(json_string_value(json_object_get(p, "liveness")), liveness) == 0);
	json_decref(j);
	return n;
}

static int records_of(struct fixture *f, pid_t pid)
{
	return records_that_are(f, pid, NULL);
}

static long owners_of_home(struct fixture *f)
{
	sb_session *s = fixture_session(f->bridge, "home", SB_DESIGNATED_UNSET);
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	sb_session_close(s);
	return info.owner_count - 1L; /* without this look's own */
}

static void assert_reaped(struct fixture *f, pid_t pid, long owners)
{
	reap(f);
	assert_int_equal(records_of(f, pid), 0);
	assert_int_equal(owners_of_home(f), owners);
}

static void assert_kept(struct fixture *f, pid_t pid, long owners)
{
	reap(f);
	assert_int_equal(records_that_are(f, pid, "alive"), 1);
	assert_int_equal(owners_of_home(f), owners);
}

/* ── tests ── */

static void test_32_zombie_is_dead(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	siginfo_t info;
	struct other o;

	assert_true(other_start(&o, f, "worker", 0));
	assert_kept(f, o.pid, 2);
	kill(o.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)o.pid, &info, WEXITED | WNOWAIT), 0); /* it stays a zombie */
	assert_int_equal(kill(o.pid, 0), 0);
	assert_reaped(f, o.pid, 1);
	assert_int_equal(other_end(&o, 0), 1000 + SIGKILL);
	sb_session_close(home);
}

/* A process whose first thread has ended looks like a zombie, and lives. */
static void test_32_process_without_first_thread_is_alive(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	struct other o;

	assert_true(other_start(&o, f, "leaderless", 0));
	assert_works(&o);
	for (int i = 0; i < 3; i++)
		assert_kept(f, o.pid, 2);
	assert_works(&o);
	assert_int_equal(other_end(&o, 0), 0);
	assert_reaped(f, o.pid, 1);
	sb_session_close(home);
}

/* The pid and its start time live on, but whoever attached is gone. */
static void test_32_exec_is_a_death(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	struct other o;

	assert_true(other_start(&o, f, "exec", 0));
	assert_int_equal(kill(o.pid, 0), 0);
	assert_reaped(f, o.pid, 1);
	assert_int_equal(kill(o.pid, 0), 0); /* nobody took it for anything but what it is */
	other_end(&o, SIGKILL);
	sb_session_close(home);
}

/* A dead process's pid taken by a stranger: dead. Taken by another user of the bridge: one dead, one alive. */
static void test_32_reused_pid(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	struct other dead, stranger, next;

	assert_true(other_start(&dead, f, "worker", 0));
	assert_int_equal(other_end(&dead, SIGKILL), 1000 + SIGKILL);
	if (!other_start(&stranger, f, "stranger", dead.pid)) {
		sb_session_close(home);
		print_message("skipped: choosing a pid needs root (clone3 with set_tid)\n");
		skip();
	}
	assert_int_equal(stranger.pid, dead.pid);
	assert_reaped(f, dead.pid, 1);
	assert_int_equal(kill(stranger.pid, 0), 0);
	other_end(&stranger, SIGKILL);

	assert_true(other_start(&dead, f, "worker", 0));
	assert_int_equal(other_end(&dead, SIGKILL), 1000 + SIGKILL);
	assert_true(other_start(&next, f, "worker", dead.pid));
	for (int i = 0; i < 3; i++)
		assert_kept(f, next.pid, 2); /* the one record is the living one's */
	assert_works(&next);
	assert_int_equal(other_end(&next, 0), 0);
	assert_reaped(f, next.pid, 1);
	sb_session_close(home);
}

static void test_32_stopped_worker_is_alive(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	struct other o;

	assert_true(other_start(&o, f, "worker", 0));
	other_stop(&o);
	for (int i = 0; i < 6; i++) { /* longer than every period at which anything here looks around */
		assert_kept(f, o.pid, 2);
		usleep(400000);
	}
	kill(o.pid, SIGCONT);
	assert_works(&o);
	assert_int_equal(other_end(&o, 0), 0);
	sb_session_close(home);
}

static void test_32_stopped_designated_owner_is_alive(void **state)
{
	struct fixture *f = *state;
	sb_session_options opt = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s = NULL;
	sb_value *v = NULL;
	struct other o;

	assert_true(other_start(&o, f, "host", 0));
	opt.session_id = "theirs";
	opt.designated = SB_DESIGNATED_ATTACH_ONLY;
	opt.timeout_ms = 250;
	assert_ok(sb_session_open(f->bridge, &opt, &s));
	assert_ok(sb_call(s, "collections:Counter", NULL, &v));
	other_stop(&o);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(sb_call(s, "math:sqrt", sb_args("i", 4), NULL), SB_ETIMEOUT);
		reap(f);
		assert_ok(sb_session_get_info(s, &info));
		assert_int_equal(info.state, SB_SESSION_ACTIVE);
		assert_int_equal(info.designated_pid, o.pid);
	}
	kill(o.pid, SIGCONT);
	for (int i = 0; i < 40 && sb_method(s, sb_value_ref(v), "clear", NULL, NULL) == SB_ETIMEOUT; i++)
		;
	assert_ok(sb_method(s, sb_value_ref(v), "clear", NULL,
	                    NULL)); /* the same incarnation, the same object */
	assert_works(&o);
	sb_value_free(v);
	sb_session_close(s);
	assert_int_equal(other_end(&o, 0), 0);
}

/* Neither verdicts nor TTLs go by a clock that can be set. */
static void test_13_32_wall_clock_set_forward_and_back(void **state)
{
	static const time_t steps[] = { 315360000, -315360000, 0 };
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF), *brief = NULL;
	sb_session_options opt = SB_SESSION_OPTIONS_INIT;
	struct other o;
	int err = 0;

	assert_true(other_start(&o, f, "worker", 0));
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		wall_step = steps[i];
		usleep(1200000); /* this process's keeper looks around at least each second */
		assert_ok(sb_call(home, "math:sqrt", sb_args("i", 4), NULL));
		assert_kept(f, o.pid, 2);
		assert_works(&o);
	}
	wall_step = -315360000;
	opt.session_id = "brief";
	opt.ttl_seconds = 1;
	assert_ok(sb_session_open(f->bridge, &opt, &brief));
	assert_ok(sb_call(brief, "math:sqrt", sb_args("i", 4), NULL));
	wall_step = -2 * 315360000;
	for (int i = 0; i < 10 && !err; i++) {
		usleep(2200000);
		err = sb_call(brief, "math:sqrt", sb_args("i", 4), NULL);
	}
	assert_int_equal(err, SB_EEXPIRED);
	wall_step = 0;
	sb_session_close(brief);
	assert_int_equal(other_end(&o, 0), 0);
	sb_session_close(home);
}

/* Runs a command in a pid namespace of its own; its exit status, or -1 where that is not possible. */
static int in_other_namespace(const char *path, const char *const *argv)
{
	pid_t pid, inner;
	int status;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWPID))
			_exit(77);
		inner = fork();
		if (inner == 0) {
			execv(path, (char *const *)(uintptr_t)argv);
			_exit(126);
		}
		while (waitpid(inner, &status, 0) < 0 && errno == EINTR)
			;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
	}
	status = fixture_wait(pid);
	return status == 77 ? -1 : status;
}

static void test_32_another_pid_namespace(void **state)
{
	struct fixture *f = *state;
	sb_session *home = fixture_session(f->bridge, "home", SB_DESIGNATED_SELF);
	const char *attach[] = { "test_liveness", "worker", f->dir, NULL };
	const char *reaper[] = { "sb-reaper", "--dir", f->dir, "--once", "-q", NULL };
	const char *build = getenv("SB_BUILD_DIR");
	char path[4096];
	struct other o;
	int status = in_other_namespace("/proc/self/exe", attach);

	if (status < 0) {
		sb_session_close(home);
		print_message("skipped: a pid namespace needs root\n");
		skip();
	}
	assert_int_equal(status, -SB_ENAMESPACE);
	assert_true(other_start(&o, f, "worker", 0));
	snprintf(path, sizeof(path), "%s/bin/sb-reaper", build ? build : ".");
	for (int i = 0; i < 3; i++) {
		status = in_other_namespace(path, reaper);
		assert_true(status == 0 || status == 3);
		assert_int_equal(records_of(f, o.pid), 1);
		assert_int_equal(records_of(f, getpid()), 1);
		assert_int_equal(owners_of_home(f), 2);
	}
	assert_works(&o);
	assert_ok(sb_call(home, "math:sqrt", sb_args("i", 4), NULL));
	assert_int_equal(other_end(&o, 0), 0);
	sb_session_close(home);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_32_zombie_is_dead),
		T(test_32_process_without_first_thread_is_alive),
		T(test_32_exec_is_a_death),
		T(test_32_reused_pid),
		T(test_32_stopped_worker_is_alive),
		T(test_32_stopped_designated_owner_is_alive),
		T(test_13_32_wall_clock_set_forward_and_back),
		T(test_32_another_pid_namespace),
	};

	if (argc == 3 && strcmp(argv[1], "stranger") == 0) {
		printf("ready\n");
		fflush(stdout);
		return getchar() == EOF;
	}
	if (argc == 3)
		return other_main(argv[1], argv[2]);
	return cmocka_run_group_tests_name("liveness", tests, NULL, NULL);
}
