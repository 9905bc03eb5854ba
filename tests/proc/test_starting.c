/* SPDX-License-Identifier: Apache-2.0 */
/* Designated owners that are killed before they serve. Numbers are points of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "hand.h"

static int start_only(struct hand *hand, void *arg)
{
	struct sb__session_rec rec = hand_wish(hand, arg);
	struct sb__owner_rec owner = { .slot = hand->self.slot,
		                       .generation = hand->self.generation,
		                       .handle = 1,
		                       .pid = hand->self.pid };

	return sb__store_session_create(hand->store, &rec, &owner) == 1 ? 0 : SB_EBUG;
}

/* Wins the election of an orphaned session, and gets no further. */
static int elect_only(struct hand *hand, void *arg)
{
	struct sb__session_rec rec;

	if (sb__store_session_get(hand->store, arg, &rec) != 1)
		return SB_ENOSESSION;
	return sb__store_session_elect(hand->store, arg, rec.incarnation, &hand->self, &rec) == 1 ? 0
	                                                                                          : SB_EBUG;
}

static void die_by(struct fixture *f, int (*act)(struct hand *hand, void *arg), const char *id)
{
	struct child child;

	assert_int_equal(child_start(&child, f->dir, act, (void *)(uintptr_t)id), 0);
	child_kill(&child, true);
}

static sb_session_info info_of(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	return info;
}

/* Killed between the two transactions that make a session: whoever looks next orphans it, and can be elected. */
static void starter_dies(struct fixture *f, sb_designated designated)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_session_info before;

	die_by(f, start_only, "started");
	o.session_id = "started";
	o.designated = designated;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	before = info_of(s);
	assert_int_equal(before.state, SB_SESSION_ORPHANED);
	if (designated == SB_DESIGNATED_ATTACH_ONLY) {
		assert_int_equal(sb_call(s, "builtins:object", NULL, NULL), SB_ENOOWNER);
	} else {
		assert_ok(sb_call(s, "builtins:object", NULL, NULL));
		assert_true(info_of(s).incarnation > before.incarnation);
		assert_int_equal(info_of(s).state, SB_SESSION_ACTIVE);
	}
	sb_session_close(s);
}

static void test_11_starter_dies(void **state)
{
	starter_dies(*state, SB_DESIGNATED_SELF);
}

static void test_11_starter_dies_attach_only(void **state)
{
	starter_dies(*state, SB_DESIGNATED_ATTACH_ONLY);
}

/* The same in an election: also by a handle that was there before. */
static void test_11_elected_owner_dies_starting(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_session_info before;

	die_by(f, start_only, "elected");
	o.session_id = "elected";
	assert_ok(sb_session_open(f->bridge, &o, &s));
	before = info_of(s);
	die_by(f, elect_only, "elected");
	assert_int_equal(info_of(s).state, SB_SESSION_STARTING);
	assert_ok(sb_call(s, "builtins:object", NULL, NULL)); /* orphans it, and elects */
	assert_int_equal(info_of(s).state, SB_SESSION_ACTIVE);
	assert_int_equal(info_of(s).designated_pid, getpid());
	assert_true(info_of(s).incarnation >= before.incarnation + 2);
	sb_session_close(s);
}

/* Nobody looks: the reaper does. With an owner left it is orphaned, without one it is over. */
static void test_11_31_reaper_finds_those_that_died_starting(void **state)
{
	struct fixture *f = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	int released = -1;

	die_by(f, start_only, "alone");
	die_by(f, start_only, "kept");
	o.session_id = "kept";
	assert_ok(sb_session_open(f->bridge, &o, &s));
	die_by(f, elect_only, "kept");
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
	assert_int_equal(info_of(s).state, SB_SESSION_ORPHANED);
	assert_ok(sb_session_release(f->bridge, "alone", &released));
	assert_int_equal(released, 0);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL), 0);
	assert_ok(sb_call(s, "builtins:object", NULL, NULL));
	sb_session_close(s);
}

/* ── one that does not come on ── */

static void *call_and_elect(void *arg)
{
	static int err;

	err = sb_call(arg, "builtins:object", NULL, NULL);
	return &err;
}

/* In place of sb-owner: says that it runs, and is stopped. */
static void make_stuck_owner(const struct fixture *f, char *path, char *ran, size_t size)
{
	FILE *file;

	assert_in_range(snprintf(path, size, "%s/stuck", f->dir), 1, size - 1);
	assert_in_range(snprintf(ran, size, "%s/stuck.ran", f->dir), 1, size - 1);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n: >'%s'\nkill -STOP $$\nexec sleep 1000\n", ran);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0700), 0);
}

/* A call that waits for an election hears that the session was released meanwhile; it takes no time-out. */
static void test_09_released_while_an_owner_starts(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "stuck", SB_DESIGNATED_DEDICATED);
	pid_t owner = info_of(s).designated_pid;
	char path[300], ran[300];
	pthread_t thread;
	void *err;

	make_stuck_owner(f, path, ran, sizeof(path));
	assert_int_equal(setenv("SNAKEBRIDGE_OWNER", path, 1), 0);
	assert_int_equal(kill(owner, SIGKILL), 0);
	while (kill(owner, 0) == 0)
		usleep(1000);
	assert_int_equal(sb_call(s, "builtins:object", NULL, NULL), SB_EOWNERDIED);
	assert_int_equal(pthread_create(&thread, NULL, call_and_elect, s), 0);
	while (access(ran, F_OK) != 0)
		usleep(1000);
	assert_ok(sb_session_release(f->bridge, "stuck", NULL));
	assert_int_equal(pthread_join(thread, &err), 0);
	assert_int_equal(*(int *)err, SB_ERELEASED);
	unsetenv("SNAKEBRIDGE_OWNER");
	sb_session_close(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_11_starter_dies),
		TEST(test_11_starter_dies_attach_only),
		TEST(test_11_elected_owner_dies_starting),
		TEST(test_11_31_reaper_finds_those_that_died_starting),
		TEST(test_09_released_while_an_owner_starts),
	};

	return cmocka_run_group_tests_name("starting", tests, NULL, NULL);
}
