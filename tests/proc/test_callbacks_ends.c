/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends a call while its C function runs: deadline, cancel, release, deaths, forks; and that others are served meanwhile.
 * Points 27, and as named.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define LONG_MS 30000
#define TRACE   0xca11bacc

/* Runs f() and notes in builtins.seen what came of it. */
#define NOTING                                                \
	"import builtins\n"                                   \
	"builtins.seen = []\n"                                \
	"try: seen.append(repr(f(object())))\n"               \
	"except BaseException as e:\n"                        \
	"    seen.append(type(e).__name__ + ': ' + str(e))\n" \
	"    raise\n"

static int run(sb_session *s, const char *source, sb_callback_fn fn, void *arg, uint32_t timeout_ms)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:exec";
	r.args = sb_args("s{sk}", source, "f", fn, arg);
	r.timeout_ms = timeout_ms;
	r.trace_id = TRACE;
	return sb_invoke(s, &r, NULL);
}

/* What NOTING's code has seen, once it has; the session's calls are served meanwhile. "" if that takes for ever. */
static const char *seen(sb_session *s)
{
	static __thread char text[300];

	text[0] = '\0';
	for (int i = 0; i < LONG_MS / 5 && !text[0]; i++) {
		sb_value *v = NULL;
		const char *str;

		if (sb_call(s, "builtins:eval",
		            sb_args("s{}", "(getattr(__import__('builtins'), 'seen', []) or [''])[0]"), &v))
			return sb_last_error()->message;
		str = sb_value_str(v, NULL);
		snprintf(text, sizeof(text), "%s", str ? str : "?");
		sb_value_free(v);
		usleep(5000);
	}
	return text;
}

static pid_t owner_pid(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	return sb_session_get_info(s, &info) ? -1 : (pid_t)info.designated_pid;
}

/* Nothing is left of anybody who died or gave up. */
static void check_clean(const struct fixture *f)
{
	int status = -1;

	for (int i = 0; i < 200 && status != 0; i++) {
		assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", NULL), 0);
		status = fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL);
		if (status)
			usleep(20000);
	}
	assert_int_equal(status, 0);
}

/* The numbers that others see follow a call by a moment. */
static bool live_refs_are(sb_session *s, uint64_t count)
{
	sb_session_info info = { .size = sizeof(info) };

	for (int i = 0; i < 10000; i++) {
		assert_ok(sb_session_get_info(s, &info));
		if (info.live_refs == count)
			return true;
		usleep(1000);
	}
	return false;
}

/* ── while it runs ── */

struct ending {
	struct fixture *f;
	sb_session *s;
	char seen[300];
	int level;
};

/* Returns once Python does not wait for it any more. */
static int outlasts(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;

	(void)args, (void)kwargs, (void)ret;
	snprintf(e->seen, sizeof(e->seen), "%s", seen(e->s));
	return 0;
}

static void test_27_23_deadline(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED), "", 0 };

	assert_int_equal(run(e.s, NOTING, outlasts, &e, 400), SB_ETIMEOUT);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	assert_string_equal(
		e.seen, "CallbackError: the deadline of the call passed before its C function had returned");
	assert_true(live_refs_are(e.s, 0));
	/* Python may go on by itself: its value counts. */
	assert_ok(run(e.s,
	              "import builtins\nbuiltins.seen = []\ntry: f()\nexcept RuntimeError as e: "
	              "seen.append(str(e))",
	              outlasts, &e, 400));
	sb_session_close(e.s);
	check_clean(f);
}

static int cancels(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;

	if (sb_cancel(e->s, TRACE, &e->level))
		return SB_EBUG;
	return outlasts(arg, args, kwargs, ret);
}

static void test_27_25_cancel(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED), "", 0 };

	for (int i = 0; i < 5; i++) {
		assert_int_equal(run(e.s, NOTING, cancels, &e, LONG_MS), SB_ECANCELLED);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
		assert_int_equal(e.level, SB_CANCEL_ASKED);
		assert_string_equal(e.seen, "CallCancelled: ");
	}
	/* It comes once: code that catches it goes on. */
	assert_ok(run(e.s,
	              "import builtins\nbuiltins.seen = []\ntry: f()\nexcept BaseException as e: "
	              "seen.append(repr(e))\n"
	              "sum(range(100000))",
	              cancels, &e, LONG_MS));
	assert_true(live_refs_are(e.s, 0));
	sb_session_close(e.s);
	check_clean(f);
}

/* A call in the designated owner itself: the function ends first, then the exception comes. */
static int cancels_here(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;

	(void)args, (void)kwargs, (void)ret;
	return sb_cancel(e->s, TRACE, &e->level);
}

static void test_27_25_cancel_here(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF), "", 0 };

	assert_int_equal(run(e.s, "while True: f()", cancels_here, &e, LONG_MS), SB_ECANCELLED);
	assert_int_equal(e.level, SB_CANCEL_ASKED);
	sb_session_close(e.s);
}

static int releases(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;

	(void)args, (void)kwargs;
	if (sb_session_release(e->f->bridge, sb_session_id(e->s), NULL))
		return SB_EBUG;
	return sb_value_pack(ret, "s", "too late");
}

/* Where the objects are here, the call comes to its own end, or is interrupted before. */
static void test_27_09_session_released_here(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, fixture_session(f->bridge, "ends", SB_DESIGNATED_SELF), "", 0 };
	int err = run(e.s, "f()", releases, &e, LONG_MS);

	assert_true(err == 0 || (err == SB_ERELEASED && sb_last_error()->outcome == SB_OUTCOME_UNKNOWN));
	assert_int_equal(run(e.s, "f()", releases, &e, LONG_MS), SB_ERELEASED);
	sb_session_close(e.s);
	check_clean(f);
}

/* ── deaths ── */

static int kills_owner(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;

	(void)args, (void)kwargs;
	kill(owner_pid(e->s), SIGKILL);
	return sb_value_pack(ret, "s", "for nobody");
}

static void test_27_24_owner_killed(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, NULL, "", 0 };

	for (int i = 0; i < 5; i++) {
		e.s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
		assert_int_equal(run(e.s, NOTING, kills_owner, &e, LONG_MS), SB_EOWNERDIED);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
		sb_session_close(e.s);
	}
	check_clean(f);
}

static int kills_itself(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg, (void)args, (void)kwargs, (void)ret;
	raise(SIGKILL);
	return 0;
}

static int dying_caller(void *arg)
{
	struct ending *e = arg;

	return run(e->s, NOTING, kills_itself, NULL, LONG_MS) ? 1 : 0;
}

static void test_27_31_caller_killed(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, NULL, "", 0 };

	setenv("SNAKEBRIDGE_CANCEL_ABANDONED", "0", 1); /* else the code that notes it is interrupted, too */
	e.s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_CANCEL_ABANDONED");
	for (int i = 0; i < 10; i++) {
		assert_ok(sb_call(e.s, "builtins:exec", sb_args("s{}", "import builtins\nbuiltins.seen = []"),
		                  NULL));
		assert_int_equal(fixture_wait(fixture_fork(dying_caller, &e)), 1000 + SIGKILL);
		assert_string_equal(
			seen(e.s),
			"CallbackError: the process that passed the C function is gone, or does not wait "
			"for its call any more");
	}
	assert_true(live_refs_are(e.s, 0));
	check_clean(f);
	sb_session_close(e.s);
}

/* The owner ends by itself: it interrupts what waits for a function, and does not wait for its end. */
static int host(void *arg)
{
	int *pipes = arg;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge;
	sb_session *one, *two;
	const char *dir = getenv("HOST_DIR");
	char c;

	close(pipes[0]);
	close(pipes[3]); /* so that a test that fails takes this process along */
	if (sb_bridge_open(dir, NULL, &bridge))
		return 1;
	options.session_id = "one";
	if (sb_session_open(bridge, &options, &one))
		return 2;
	options.session_id = "two";
	if (sb_session_open(bridge, &options, &two))
		return 3;
	if (write(pipes[1], "x", 1) != 1 || read(pipes[2], &c, 1) != 1)
		return 4;
	sb_session_close(one);
	sb_session_close(two);
	sb_bridge_close(bridge);
	return 0;
}

struct hosting {
	struct fixture *f;
	char seen[300];
	int pipes[4]; /* ready: 0, 1; end: 2, 3 */
	pid_t pid;
	sb_session *one, *two;
	int err;
};

static void host_start(struct fixture *f, struct hosting *h)
{
	char c;

	h->f = f;
	setenv("HOST_DIR", f->dir, 1);
	assert_int_equal(pipe(h->pipes), 0);
	assert_int_equal(pipe(h->pipes + 2), 0);
	h->pid = fixture_fork(host, h->pipes);
	assert_true(fixture_hear(h->pipes[0], h->pid, &c, 1));
	h->one = fixture_session(f->bridge, "one", SB_DESIGNATED_ATTACH_ONLY);
	h->two = fixture_session(f->bridge, "two", SB_DESIGNATED_ATTACH_ONLY);
}

static void host_end(struct hosting *h)
{
	sb_session_close(h->one);
	sb_session_close(h->two);
	for (int i = 0; i < 4; i++)
		close(h->pipes[i]);
}

/* Returns once Python does not wait any more, which the other session of that process tells. */
static int releases_one(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct hosting *h = arg;

	if (sb_session_release(h->f->bridge, "one", NULL))
		return SB_EBUG;
	snprintf(h->seen, sizeof(h->seen), "%s", seen(h->two));
	(void)args, (void)kwargs;
	return sb_value_pack(ret, "s", "too late");
}

static void test_27_09_session_released(void **state)
{
	/* From a thread of its own: the call's is interrupted at any moment from the session's end on. */
	static const char source[] = "import builtins, threading\n"
				     "builtins.seen = []\n"
				     "def work():\n"
				     "    try: f()\n"
				     "    except RuntimeError as e: seen.append(str(e))\n"
				     "t = threading.Thread(target=work)\n"
				     "t.start()\n"
				     "t.join()\n"
				     "raise RuntimeError('ended')\n";
	struct hosting h;
	char c = 'x';

	host_start(*state, &h);
	assert_int_equal(run(h.one, source, releases_one, &h, LONG_MS), SB_ERELEASED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	assert_string_equal(h.seen, "the session ended before the C function had returned");
	assert_int_equal(run(h.one, source, releases_one, &h, LONG_MS), SB_ERELEASED);
	assert_int_equal(write(h.pipes[3], &c, 1), 1);
	assert_int_equal(fixture_wait(h.pid), 0);
	host_end(&h);
	check_clean(*state);
}

static int ends_host(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct hosting *h = arg;

	(void)args, (void)kwargs, (void)ret;
	if (write(h->pipes[3], "x", 1) != 1)
		return SB_EBUG;
	return fixture_wait(h->pid) ? SB_EBUG : 0;
}

static void test_27_24_owner_leaves(void **state)
{
	struct hosting h;

	host_start(*state, &h);
	assert_int_equal(run(h.one, NOTING, ends_host, &h, LONG_MS), SB_EOWNERDIED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	host_end(&h);
}

/* ── others meanwhile ── */

static void *calls_both(void *arg)
{
	struct hosting *h = arg;

	h->err = sb_call(h->one, "builtins:abs", sb_args("i", -1), NULL);
	if (!h->err)
		h->err = sb_call(h->two, "builtins:abs", sb_args("i", -1), NULL);
	return NULL;
}

static int waits_for_others(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct hosting *h = arg;
	pthread_t thread;
	int err;

	(void)args, (void)kwargs, (void)ret;
	if (pthread_create(&thread, NULL, calls_both, h))
		return SB_ESYSTEM;
	pthread_join(thread, NULL);
	if (h->err)
		return h->err;
	err = sb_call(h->two, "builtins:abs", sb_args("i", -2), NULL);
	return err ? err : sb_call(h->one, "builtins:abs", sb_args("i", -2), NULL);
}

/* One owner process with two sessions: while a function of one runs, both are served; several levels deep, too. */
static void test_27_35_others_are_served(void **state)
{
	struct hosting h;
	char c = 'x';

	host_start(*state, &h);
	for (int i = 0; i < 100; i++)
		assert_ok(run(h.one, "f()", waits_for_others, &h, LONG_MS));
	assert_ok(run(h.one, "for _ in range(100): f()", waits_for_others, &h, LONG_MS));
	assert_int_equal(write(h.pipes[3], &c, 1), 1);
	assert_int_equal(fixture_wait(h.pid), 0);
	host_end(&h);
}

static int looks(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct ending *e = arg;
	json_t *j = fixture_tool_json(e->f->dir, "sb-inspect", "--json", "calls", NULL);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	(void)args, (void)kwargs, (void)ret;
	e->level = text && strstr(text, "\"in callback\"") && strstr(text, "call builtins:exec");
	free(text);
	json_decref(j);
	return 0;
}

static void test_27_23_inspect_shows_it(void **state)
{
	struct fixture *f = *state;
	struct ending e = { f, fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED), "", 0 };

	assert_ok(run(e.s, "f()", looks, &e, LONG_MS));
	assert_true(e.level);
	sb_session_close(e.s);
}

/* Many threads of many calls, each with functions that call: lanes and turns do not mix. */
struct crowd {
	sb_session *s;
	int number, err;
};

static int add_number(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	struct crowd *c = arg;
	sb_value *v = NULL;
	int64_t n = 0, sum = 0;
	int err = sb_value_int(sb_value_at(args, 0), &n);

	(void)kwargs;
	if (!err && n % 10 == 0)
		err = sb_call(c->s, "operator:add", sb_args("li", n, c->number), &v);
	if (!err && v)
		err = sb_value_int(v, &sum);
	sb_value_free(v);
	return err ? err : sb_value_pack(ret, "l", v ? sum : n + c->number);
}

static void *crowd_member(void *arg)
{
	struct crowd *c = arg;

	for (int i = 0; i < 20 && !c->err; i++) {
		sb_value *v = NULL;
		int64_t sum = 0;

		c->err = sb_call(c->s, "builtins:eval",
		                 sb_args("s{sk}", "sum(map(f, range(100)))", "f", add_number, c), &v);
		if (!c->err)
			c->err = sb_value_int(v, &sum);
		if (!c->err && sum != 4950 + 100 * c->number)
			c->err = SB_EBUG;
		sb_value_free(v);
	}
	return NULL;
}

static void test_27_many_at_once(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	struct crowd crowd[8];
	pthread_t threads[8];

	for (int i = 0; i < 8; i++) {
		crowd[i] = (struct crowd){ s, i, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, &crowd[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(crowd[i].err, 0);
	}
	sb_session_close(s);
	check_clean(f);
}

/* ── forks ── */

static int forks(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	pid_t *child = arg;

	(void)args, (void)kwargs;
	*child = fork();
	if (*child < 0)
		return SB_ESYSTEM;
	if (*child > 0)
		usleep(20000); /* the child goes first where it can */
	return sb_value_pack(ret, "i", *child ? 1 : 2);
}

static void test_27_forked_in_a_function(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_DEDICATED);
	sb_value *v = NULL;
	pid_t child = -1;
	int64_t n = 0;
	int err;

	for (int i = 0; i < 5; i++) {
		err = sb_call(s, "builtins:eval", sb_args("s{sk}", "f()", "f", forks, &child), &v);
		if (child == 0) { /* it has sessions of its own: it can call */
			bool fine = err == SB_ECANCELLED && sb_last_error()->outcome == SB_OUTCOME_UNKNOWN;

			_exit(fine && sb_call(s, "builtins:abs", sb_args("i", -1), NULL) == 0 ? 0 : 1);
		}
		assert_ok(err);
		assert_ok(sb_value_int(v, &n));
		assert_int_equal(n, 1);
		sb_value_free(v);
		assert_int_equal(fixture_wait(child), 0);
	}
	sb_session_close(s);
	check_clean(f);
}

static int five(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg, (void)args, (void)kwargs;
	return sb_value_pack(ret, "i", 5);
}

static void forked_in_python(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, NULL, designated);

	assert_ok(run(s,
	              "import os\n"
	              "child = os.fork()\n"
	              "if child == 0:\n"
	              "    try: f()\n"
	              "    except RuntimeError: os._exit(7)\n"
	              "    os._exit(8)\n"
	              "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
	              "assert f() == 5\n",
	              five, NULL, LONG_MS));
	sb_session_close(s);
}

static void test_27_forked_in_python(void **state)
{
	forked_in_python(*state, SB_DESIGNATED_DEDICATED);
}

static void test_27_forked_in_python_here(void **state)
{
	forked_in_python(*state, SB_DESIGNATED_SELF);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_27_23_deadline),
		TEST(test_27_25_cancel),
		TEST(test_27_25_cancel_here),
		TEST(test_27_09_session_released),
		TEST(test_27_09_session_released_here),
		TEST(test_27_24_owner_killed),
		TEST(test_27_31_caller_killed),
		TEST(test_27_24_owner_leaves),
		TEST(test_27_35_others_are_served),
		TEST(test_27_many_at_once),
		TEST(test_27_23_inspect_shows_it),
		TEST(test_27_forked_in_a_function),
		TEST(test_27_forked_in_python),
		TEST(test_27_forked_in_python_here),
	};

	if (!getenv("SB_BUILD_DIR")) {
		fprintf(stderr, "skipped: SB_BUILD_DIR says where the tools are\n");
		return 77;
	}
	return cmocka_run_group_tests_name("callbacks_ends", tests, NULL, NULL);
}
