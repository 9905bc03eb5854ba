/* SPDX-License-Identifier: Apache-2.0 */
/* A designated owner that stops in order while others still use its sessions. Numbers are points of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "core.h"
#include "fixture.h"
#include "point.h"

/* An owner in a process of its own: serves until it is told to close its bridge, then says that it has. */
struct owner {
	struct fixture *f;
	uint64_t close_timeout_ms;
	int go[2], said[2];
	pid_t pid;
};

static int say(int fd, char c)
{
	return write(fd, &c, 1) == 1 ? 0 : 1;
}

static int hear(int fd)
{
	char c = 0;

	return read(fd, &c, 1) == 1 ? c : -1;
}

static int heard_of(const struct owner *o)
{
	char c = 0;

	return fixture_hear(o->said[0], o->pid, &c, 1) ? c : -1;
}

static int serve(void *arg)
{
	struct owner *o = arg;
	sb_bridge *bridge = NULL;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	alarm(300); /* a test that fails leaves nobody behind */
	close(o->go[1]);
	sb_bridge_close(o->f->bridge); /* the parent's, with its configuration */
	options.session_id = "stopped";
	if (sb_config_set("close_timeout_ms", o->close_timeout_ms) ||
	    sb_bridge_open(o->f->dir, NULL, &bridge) || sb_session_open(bridge, &options, &s) ||
	    say(o->said[1], 'r'))
		return 1;
	hear(o->go[0]);
	sb_bridge_close(bridge);
	return say(o->said[1], 'c');
}

static void owner_start(struct owner *o, struct fixture *f, uint64_t close_timeout_ms)
{
	o->f = f;
	o->close_timeout_ms = close_timeout_ms;
	assert_int_equal(pipe(o->go), 0);
	assert_int_equal(pipe(o->said), 0);
	o->pid = fixture_fork(serve, o);
	close(o->go[0]);
	close(o->said[1]);
	assert_int_equal(heard_of(o), 'r');
}

static void owner_end(struct owner *o)
{
	close(o->go[1]);
	close(o->said[0]);
}

struct blocked {
	sb_session *s;
	pthread_t thread;
	int err, outcome;
};

/* Neither an asynchronous exception nor a closed bridge gets it out of there. */
static void *call_and_hang(void *arg)
{
	struct blocked *b = arg;

	b->err = sb_call(b->s, "time:sleep", sb_args("d", 200.0), NULL);
	b->outcome = sb_last_error()->outcome;
	return NULL;
}

static void hang(struct blocked *b, struct fixture *f)
{
	b->s = fixture_session(f->bridge, "stopped", SB_DESIGNATED_ATTACH_ONLY);
	assert_ok(sb_call(b->s, "math:sqrt", sb_args("i", 16), NULL));
	assert_int_equal(pthread_create(&b->thread, NULL, call_and_hang, b), 0);
	fixture_wait_running(f, "time:sleep");
}

/* Its callers are told at once, though it waits for the call that they made: it is still at that when they know. */
static void test_11_30_callers_are_told_of_a_clean_stop(void **state)
{
	struct fixture *f = *state;
	struct owner o;
	struct blocked b;
	sb_session_info info = { .size = sizeof(info) };

	owner_start(&o, f, 250000);
	hang(&b, f);
	assert_int_equal(say(o.go[1], 'g'), 0);
	pthread_join(b.thread, NULL);
	assert_int_equal(b.err, SB_EOWNERDIED);
	assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
	assert_int_equal(waitpid(o.pid, NULL, WNOHANG), 0); /* it waits in sb_bridge_close() */
	assert_ok(sb_session_get_info(b.s, &info));
	assert_int_equal(info.state, SB_SESSION_ORPHANED);
	assert_int_equal(sb_call(b.s, "math:sqrt", sb_args("i", 16), NULL), SB_ENOOWNER);
	kill(o.pid, SIGKILL);
	assert_int_equal(fixture_wait(o.pid), 1000 + SIGKILL);
	sb_session_close(b.s);
	owner_end(&o);
}

/* Closing takes no longer than it may: a call that cannot be interrupted is left alone. */
static void test_30_close_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct owner o;
	struct blocked b;

	owner_start(&o, f, 100);
	hang(&b, f);
	assert_int_equal(say(o.go[1], 'g'), 0);
	assert_int_equal(heard_of(&o), 'c'); /* the call would take minutes */
	assert_int_equal(fixture_wait(o.pid), 0);
	pthread_join(b.thread, NULL);
	assert_int_equal(b.err, SB_EOWNERDIED);
	assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
	sb_session_close(b.s);
	owner_end(&o);
}

/* A session that expired just before, and nobody has told its callers: they hear of that, not of a release. */
static void test_13_18_a_stop_tells_what_ended_the_session(void **state)
{
	struct fixture *f = *state;
	struct sb__store *store;
	struct sb__session_rec rec;
	struct owner o;
	struct blocked b;

	owner_start(&o, f, 100);
	hang(&b, f);
	store = f->bridge->core->store;
	assert_int_equal(sb__store_session_get(store, "stopped", &rec), 1);
	assert_int_equal(sb__store_session_expire(store, "stopped", rec.uid, sb__now_ms(),
	                                          sb__now_ms() + 2 * rec.ttl_ms, NULL),
	                 1);
	assert_int_equal(say(o.go[1], 'g'), 0);
	pthread_join(b.thread, NULL);
	assert_int_equal(b.err, SB_EEXPIRED);
	assert_int_equal(b.outcome, SB_OUTCOME_UNKNOWN);
	assert_int_equal(fixture_wait(o.pid), 0);
	sb_session_close(b.s);
	owner_end(&o);
}

#ifdef SNAKEBRIDGE_POINTS

/* Used the session before, and goes on when told; is stopped between the look at the store and the move. */
static int call_again(void *arg)
{
	struct owner *o = arg; /* whose pipes are ours */
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge = NULL;
	sb_session *s = NULL;

	options.session_id = "stopped";
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_bridge_open(o->f->dir, NULL, &bridge) || sb_session_open(bridge, &options, &s) ||
	    sb_call(s, "math:sqrt", sb_args("i", 16), NULL) || say(o->said[1], 'r'))
		return 1;
	hear(o->go[0]);
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), "recover.looked") == 0)
			sb__point_arm(i, 1, SB__POINT_STOP);
	return sb_call(s, "math:sqrt", sb_args("i", 16), NULL) == SB_EEXPIRED ? 0 : 2;
}

/* A handle moves on to a new incarnation, which expires at that moment: that is what its call is told. */
static void test_14_18_moving_on_to_one_that_just_expired(void **state)
{
	struct fixture *f = *state;
	struct sb__core *core = f->bridge->core;
	struct owner o, caller = { .f = f };
	struct sb__session_rec rec;
	sb_session *s;
	int status;

	owner_start(&o, f, 5000);
	assert_int_equal(pipe(caller.go) | pipe(caller.said), 0);
	caller.pid = fixture_fork(call_again, &caller);
	assert_int_equal(heard_of(&caller), 'r');
	assert_int_equal(say(o.go[1], 'g'), 0);
	assert_int_equal(fixture_wait(o.pid), 0);
	s = fixture_session(f->bridge, "stopped", SB_DESIGNATED_SELF);
	assert_ok(sb_call(s, "math:sqrt", sb_args("i", 16), NULL)); /* elects this process */
	assert_int_equal(say(caller.go[1], 'g'), 0);
	assert_int_equal(waitpid(caller.pid, &status, WUNTRACED), caller.pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(sb__store_session_get(core->store, "stopped", &rec), 1);
	assert_int_equal(sb__store_session_expire(core->store, "stopped", rec.uid, sb__now_ms(),
	                                          sb__now_ms() + 2 * rec.ttl_ms, NULL),
	                 1);
	sb__mailbox_unlink(core->dir.mailbox, rec.incarnation);
	assert_int_equal(kill(caller.pid, SIGCONT), 0);
	assert_int_equal(fixture_wait(caller.pid), 0);
	sb_session_close(s);
	owner_end(&o);
	owner_end(&caller);
}

#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_11_30_callers_are_told_of_a_clean_stop),
		TEST(test_30_close_is_bounded),
		TEST(test_13_18_a_stop_tells_what_ended_the_session),
#ifdef SNAKEBRIDGE_POINTS
		TEST(test_14_18_moving_on_to_one_that_just_expired),
#endif
	};

	return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
