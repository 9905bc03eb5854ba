/* SPDX-License-Identifier: Apache-2.0 */
/* Handles and refs made before fork() work in the children, whoever the designated owner is. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

struct shared {
	sb_bridge *bridge;
	sb_session *s;
	const sb_ref *ref;
};

static int increment(void *arg)
{
	struct shared *sh = arg;
	sb_value *v = NULL;

	for (int i = 0; i < 20; i++) {
		if (sb_method(sh->s, sh->ref, "append", sb_args("i", (int)getpid()), NULL)) {
			fprintf(stderr, "child: %s\n", sb_last_error()->message);
			return 1;
		}
	}
	if (sb_method(sh->s, sh->ref, "count", sb_args("i", (int)getpid()), &v))
		return 2;

	int64_t n = 0;

	sb_value_int(v, &n);
	sb_value_free(v);
	return n == 20 ? 0 : 3;
}

static void children_call(struct shared *sh)
{
	pid_t pids[4];
	sb_value *v = NULL;
	int64_t n = 0;

	for (int i = 0; i < 4; i++)
		pids[i] = fixture_fork(increment, sh);
	for (int i = 0; i < 4; i++)
		assert_int_equal(fixture_wait(pids[i]), 0);
	assert_ok(sb_method(sh->s, sh->ref, "__len__", NULL, &v));
	assert_ok(sb_value_int(v, &n));
	assert_int_equal(n, 80);
	sb_value_free(v);
}

static sb_value *new_list(sb_session *s)
{
	sb_value *v = NULL;
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:list";
	r.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(s, &r, &v));
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	return v;
}

static void fork_with(struct fixture *f, sb_designated designated)
{
	struct shared sh = { f->bridge, fixture_session(f->bridge, "forked", designated), NULL };
	sb_value *list = new_list(sh.s);

	sh.ref = sb_value_ref(list);
	children_call(&sh);
	children_call(&(struct shared){ sh.bridge, sh.s,
	                                sb_value_ref(list = (sb_value_free(list), new_list(sh.s))) });
	sb_value_free(list);
	sb_session_close(sh.s);
}

static void test_dedicated_owner(void **state)
{
	fork_with(*state, SB_DESIGNATED_DEDICATED);
}

static void test_parent_is_designated_owner(void **state)
{
	fork_with(*state, SB_DESIGNATED_SELF);
}

/* A thread of the parent keeps its interpreter busy while another forks. */
static void *busy_thread(void *arg)
{
	struct shared *sh = arg;

	while (sb_method(sh->s, sh->ref, "sort", NULL, NULL) == 0)
		;
	return NULL;
}

static int one_call(void *arg)
{
	struct shared *sh = arg;
	sb_value *v = NULL;
	int err = sb_call(sh->s, "math:sqrt", sb_args("i", 49), &v);
	double d = 0;

	if (err)
		fprintf(stderr, "child: %s\n", sb_last_error()->message);
	sb_value_float(v, &d);
	sb_value_free(v);
	return err == 0 && d == 7.0 ? 0 : 1;
}

static void test_fork_while_calls_run(void **state)
{
	struct fixture *f = *state;
	struct shared sh = { f->bridge, fixture_session(f->bridge, "busy", SB_DESIGNATED_SELF), NULL };
	sb_value *list = new_list(sh.s);
	pthread_t t;

	sh.ref = sb_value_ref(list);
	for (int i = 0; i < 300; i++)
		assert_ok(sb_method(sh.s, sh.ref, "append", sb_args("i", (i * 7919) % 300), NULL));
	assert_int_equal(pthread_create(&t, NULL, busy_thread, &sh), 0);
	for (int round = 0; round < 20; round++)
		assert_int_equal(fixture_wait(fixture_fork(one_call, &sh)), 0);
	assert_ok(sb_session_release(f->bridge, "busy", NULL));
	pthread_join(t, NULL);
	sb_value_free(list);
	sb_session_close(sh.s);
}

/* Called code that forks: the child that comes back answers nothing, the parent's answer stands. */
static void called_code_forks(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, "os.fork", designated);
	sb_value *v = NULL;
	int64_t child = 0;

	for (int i = 0; i < 5; i++) {
		assert_ok(sb_call(s, "os:fork", NULL, &v));
		assert_ok(sb_value_int(v, &child));
		sb_value_free(v);
		if (child == 0)
			_exit(0); /* designated = self: this is the child */
		assert_true(child > 0);
		assert_ok(sb_call(s, "os:waitpid", sb_args("ii", (int)child, 0), NULL));
	}
	sb_session_close(s);
}

static void test_called_code_forks_there(void **state)
{
	called_code_forks(*state, SB_DESIGNATED_DEDICATED);
}

static void test_called_code_forks_here(void **state)
{
	called_code_forks(*state, SB_DESIGNATED_SELF);
}

/* The child of a designated owner can become one itself, with objects of its own. */
static int own_session(void *arg)
{
	struct shared *sh = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *mine = NULL;
	sb_value *v = NULL;
	int bad = 0;

	o.session_id = "child's own";
	bad |= sb_session_open(sh->bridge, &o, &mine) != 0;
	bad |= bad || sb_call(mine, "collections:OrderedDict", NULL, &v) != 0;
	bad |= bad || sb_value_kind(v) != SB_KIND_REF;
	bad |= bad || sb_method(mine, sb_value_ref(v), "clear", NULL, NULL) != 0;
	bad |= one_call(sh) << 1;
	if (bad)
		fprintf(stderr, "child: %s\n", sb_last_error()->message);
	sb_value_free(v);
	sb_session_close(mine);
	return bad;
}

static void test_child_becomes_designated_owner(void **state)
{
	struct fixture *f = *state;
	struct shared sh = { f->bridge, fixture_session(f->bridge, "parent's", SB_DESIGNATED_SELF), NULL };

	assert_int_equal(one_call(&sh), 0);
	assert_int_equal(fixture_wait(fixture_fork(own_session, &sh)), 0);
	assert_int_equal(one_call(&sh), 0);
	sb_session_close(sh.s);
}

/* Opened before the fork, used only after it; and grandchildren. */
static int with_grandchild(void *arg)
{
	if (one_call(arg))
		return 1;
	return fixture_wait(fixture_fork(one_call, arg));
}

static int only_child_uses(void *arg)
{
	struct fixture *f = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	struct shared sh = { f->bridge, NULL, NULL };

	o.session_id = "made in a child";
	o.designated = SB_DESIGNATED_SELF;
	if (sb_session_open(f->bridge, &o, &sh.s))
		return 9;
	return with_grandchild(&sh);
}

static void test_bridge_opened_before_fork_only(void **state)
{
	assert_int_equal(fixture_wait(fixture_fork(only_child_uses, *state)), 0);
}

static void test_context_is_inherited(void **state)
{
	struct fixture *f = *state;
	struct shared sh = { f->bridge, NULL, NULL };
	sb_session *s = fixture_session(f->bridge, "context", SB_DESIGNATED_DEDICATED);

	sb_context_set(s);
	assert_int_equal(fixture_wait(fixture_fork(with_grandchild, &sh)), 0);
	sb_context_clear();
	sb_session_close(s);
}

/* 10: a child that used the handle is an owner; one that only inherited it is not. */
static int call_then_wait(void *arg)
{
	struct shared *sh = arg;

	return one_call(sh) || pause() ? 1 : 0;
}

static int just_wait(void *arg)
{
	(void)arg;
	return pause();
}

static void wait_for_owners(sb_session *s, uint32_t count)
{
	sb_session_info info = { .size = sizeof(info) };

	for (int i = 0; i < 2000; i++) {
		assert_ok(sb_session_get_info(s, &info));
		if (info.owner_count == count)
			return;
		usleep(5000);
	}
	fail_msg("owner_count is %u, not %u", info.owner_count, count);
}

static void test_10_owner_at_first_use(void **state)
{
	struct fixture *f = *state;
	struct shared sh = { f->bridge, fixture_session(f->bridge, "owners", SB_DESIGNATED_DEDICATED), NULL };
	pid_t uses = fixture_fork(call_then_wait, &sh), waits = fixture_fork(just_wait, &sh);

	wait_for_owners(sh.s, 2);
	kill(uses, SIGKILL);
	kill(waits, SIGKILL);
	fixture_wait(uses);
	fixture_wait(waits);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
	wait_for_owners(sh.s, 1);
	sb_session_close(sh.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		T(test_dedicated_owner),
		T(test_parent_is_designated_owner),
		T(test_fork_while_calls_run),
		T(test_child_becomes_designated_owner),
		T(test_called_code_forks_there),
		T(test_called_code_forks_here),
		T(test_bridge_opened_before_fork_only),
		T(test_context_is_inherited),
		T(test_10_owner_at_first_use),
	};

	return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
