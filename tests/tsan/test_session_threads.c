/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A designated owner's own threads, where ThreadSanitizer sees them: they open, call, send, cancel and close one session while others
 * release it, so that calls meet its end at every step (src/session/host.c, cancel.c, keeper.c, serve.c, relief.c). The engine has no
 * Python. And bridges that come and go beside each other.
 */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "echo_engine.h"
#include "fixture.h"

#define USERS      3
#define ROUNDS     300 /* of each: a handle, and some calls */
#define FIRST_USES 300

struct world {
	struct fixture *f;
	atomic_uint users_left, served, ended;
	_Atomic int wrong; /* a code that may not be */
	_Atomic uint64_t trace;
};

static void judge(struct world *w, int err)
{
	if (err == 0)
		atomic_fetch_add(&w->served, 1);
	else if (err == SB_ERELEASED)
		atomic_fetch_add(&w->ended, 1);
	else if (err != SB_ECANCELLED)
		atomic_store(&w->wrong, err);
}

static void call(struct world *w, sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "echo";
	r.args = sb_args("i", 7);
	r.trace_id = atomic_load(&w->trace);
	judge(w, sb_invoke(s, &r, NULL));
}

/* By its own mailbox, a service thread runs it. */
static void start_and_wait(struct world *w, sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;
	int err;

	r.name = "nap";
	r.args = sb_args("i", 1);
	r.trace_id = atomic_fetch_add(&w->trace, 1) + 1;
	err = sb_call_start(s, &r, &future);
	if (!err)
		err = sb_future_wait(future, SB_WAIT_FOREVER, NULL);
	sb_future_free(future);
	judge(w, err);
}

static void *use(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < ROUNDS; i++) {
		sb_session_options o = SB_SESSION_OPTIONS_INIT;
		sb_session *s = NULL;
		int err;

		o.session_id = "shared";
		err = sb_session_open(w->f->bridge, &o, &s);
		judge(w, err);
		for (int n = 0; !err && n < 8; n++) {
			if (n % 4 == 3)
				start_and_wait(w, s);
			else if (n % 4 == 2)
				judge(w, sb_call_oneway(s, "echo", sb_args("i", 1)));
			else
				call(w, s);
		}
		sb_session_close(s);
	}
	atomic_fetch_sub(&w->users_left, 1);
	return NULL;
}

static void *disturb(void *arg)
{
	struct world *w = arg;

	for (unsigned i = 0; atomic_load(&w->users_left); i++) {
		sb_session_options o = SB_SESSION_OPTIONS_INIT;
		sb_session *s = NULL;

		o.session_id = "shared";
		o.designated = SB_DESIGNATED_ATTACH_ONLY;
		if (sb_session_open(w->f->bridge, &o, &s) == 0) {
			(void)sb_cancel(s, atomic_load(&w->trace), NULL);
			sb_session_close(s);
		}
		if (i % 4 == 0)
			(void)sb_session_release(w->f->bridge, "shared", NULL);
		usleep(500);
	}
	return NULL;
}

static void test_09_calls_meet_the_end(void **state)
{
	struct world w = { .f = *state, .trace = 1 };
	pthread_t users[USERS], disturber;

	atomic_store(&w.users_left, USERS);
	for (int i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&users[i], NULL, use, &w), 0);
	assert_int_equal(pthread_create(&disturber, NULL, disturb, &w), 0);
	for (int i = 0; i < USERS; i++)
		pthread_join(users[i], NULL);
	pthread_join(disturber, NULL);
	print_message("%u calls and opens went well, %u met the end\n", atomic_load(&w.served),
	              atomic_load(&w.ended));
	assert_int_equal(atomic_load(&w.wrong), 0);
	assert_true(atomic_load(&w.served) > 0 && atomic_load(&w.ended) > 0);
}

/* The thread of a running call may be held up before the engine knows of it: one that is cancelled then is told all the same. */
static void test_25_a_cancel_is_not_missed(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "late", SB_DESIGNATED_SELF);
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;
	int level = SB_CANCEL_NONE;

	atomic_store(&echo_engine_unknown, 150);
	r.name = "nap";
	r.trace_id = 4711;
	while (level != SB_CANCEL_ASKED) { /* else it had not begun: another one */
		sb_future_free(future);
		r.args = sb_args("i", 5000);
		assert_ok(sb_call_start(s, &r, &future));
		usleep(20000);
		assert_ok(sb_cancel(s, 4711, &level));
	}
	while (!atomic_load(&echo_engine_told) && sb_future_poll(future) == 0)
		usleep(1000);
	assert_true(atomic_load(&echo_engine_told) > 0);
	sb_future_free(future);
	sb_session_close(s);
	atomic_store(&echo_engine_unknown, UINT_MAX);
}

/* ── bridges ── */

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* A process forks while one of its threads takes its place on a bridge: neither waits for the other. */
static void *fork_often(void *arg)
{
	atomic_uint *left = arg;

	while (atomic_load(left)) {
		pid_t pid = fixture_fork(nothing, NULL);

		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
	}
	return NULL;
}

struct comer {
	char dir[256];
	unsigned failed;
	pthread_t thread;
};

/* Has calls in flight watched, by threads that end with the last bridge that is open. */
static void *come_and_go(void *arg)
{
	struct comer *c = arg;

	for (int i = 0; i < ROUNDS; i++) {
		sb_request r = SB_REQUEST_INIT;
		sb_session_options o = SB_SESSION_OPTIONS_INIT;
		sb_bridge *bridge = NULL;
		sb_session *s = NULL;
		sb_future *future = NULL;
		int fd;

		r.name = "echo";
		r.args = sb_args("i", 1);
		o.session_id = "mine";
		c->failed += sb_bridge_open(c->dir, NULL, &bridge) || sb_session_open(bridge, &o, &s) ||
		             sb_call_start(s, &r, &future) || sb_future_fd(future, &fd) ||
		             sb_future_wait(future, SB_WAIT_FOREVER, NULL);
		sb_future_free(future);
		sb_session_close(s);
		sb_bridge_close(bridge);
	}
	return NULL;
}

static void test_bridges_come_and_go(void **state)
{
	struct comer comers[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		comers[i].failed = 0;
		fixture_dir_make(comers[i].dir, sizeof(comers[i].dir));
		assert_int_equal(pthread_create(&comers[i].thread, NULL, come_and_go, &comers[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(comers[i].thread, NULL);
		fixture_dir_remove(comers[i].dir);
		assert_int_equal(comers[i].failed, 0);
	}
}

static void test_a_fork_meets_the_first_use(void **state)
{
	atomic_uint left = FIRST_USES;
	pthread_t forks;
	char dir[256];

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	assert_int_equal(pthread_create(&forks, NULL, fork_often, &left), 0);
	for (; atomic_load(&left); atomic_fetch_sub(&left, 1)) {
		sb_bridge *bridge = NULL;

		assert_ok(sb_bridge_open(dir, NULL, &bridge));
		sb_session_close(fixture_session(bridge, "first", SB_DESIGNATED_SELF));
		sb_bridge_close(bridge);
	}
	pthread_join(forks, NULL);
	fixture_dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_09_calls_meet_the_end, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_25_a_cancel_is_not_missed, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test(test_bridges_come_and_go),
		cmocka_unit_test(test_a_fork_meets_the_first_use),
	};

	echo_engine_use();
	return cmocka_run_group_tests_name("session_threads", tests, NULL, NULL);
}
