/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reply that names an array which a third process made: only the designated owner's hold keeps it until
 * its reader has one. The owner is killed while it waits to be read, the reaper drops its holds, the array's maker makes
 * others in the same place: what the reader gets is the owner's death, never another array (docs/design/arrays.md, "Who keeps a
 * block"; tests/model/holds.pml, REPLIES).
 */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"

#define COUNT ((size_t)40000)
#define AGAIN 8

static void setup_python(struct place *p)
{
	sb_value *v = NULL;
	bool has = false;

	(void)(place_eval(p, "__import__('importlib.util').util.find_spec('numpy') is not None", 0, &v) ==
	               0 &&
	       sb_value_bool(v, &has));
	sb_value_free(v);
	if (!has) {
		print_message("NumPy is not there\n");
		exit(77);
	}
	place_exec(p, "import numpy as np\n"
	              "held = []\n"
	              "def hold(a): held.append(a)\n");
}

static int setup(void **state)
{
	place_there(state);
	setup_python(*state);
	return 0;
}

static int call(struct place *p, const char *function, sb_args *args)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *f = NULL;
	int err = sb_getitem(p->s, &p->names, sb_args("s", function), &f);

	if (err) {
		sb_args_free(args);
		return err;
	}
	r.verb = SB_VERB_METHOD;
	r.target = sb_value_ref(f);
	r.name = "__call__";
	r.args = args;
	r.flags = SB_CALL_AS_REF;
	err = sb_invoke(p->s, &r, NULL);
	sb_value_free(f);
	return err;
}

static int make(struct place *p, double fill, sb_array **ret)
{
	size_t n = COUNT;
	int err = sb_array_new(p->s, "f8", 1, &n, ret);

	for (size_t k = 0; !err && k < n; k++)
		((double *)sb_array_writable(*ret))[k] = fill;
	return err;
}

/* Gives the owner an array of fives and forgets it itself. */
static int give_fives(struct place *p)
{
	sb_array *a = NULL;
	int err = make(p, 5, &a);

	if (!err)
		err = call(p, "hold", sb_args("a", a));
	sb_array_unref(a);
	return err;
}

static int make_nines(struct place *p, sb_array *ret[AGAIN])
{
	for (int i = 0; i < AGAIN; i++) {
		int err = make(p, 9, &ret[i]);

		if (err)
			return err;
	}
	return 0;
}

/* What fixture_wait() cannot wait for: a process that is not our child. */
static void kill_owner(struct place *p, pid_t owner)
{
	const struct timespec moment = { 0, 1000000 };

	assert_int_equal(kill(owner, SIGKILL), 0);
	while (kill(owner, 0) == 0)
		nanosleep(&moment, NULL);
	assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
}

/* The maker in a process of its own, led step by step. */
struct maker {
	struct place *p;
	int steps, said;
	pid_t pid;
};

static int be_maker(void *arg)
{
	struct maker *m = arg;
	sb_array *again[AGAIN];
	char byte;

	if (give_fives(m->p) || write(m->said, "", 1) != 1 || read(m->steps, &byte, 1) != 1)
		return 1;
	if (make_nines(m->p, again) || write(m->said, "", 1) != 1 || read(m->steps, &byte, 1) != 1)
		return 2;
	_exit(0);
}

static int steps_fd, said_fd;
static pid_t maker_pid;

static void start_maker(struct maker *m)
{
	int steps[2], said[2];

	assert_int_equal(pipe(steps) | pipe(said), 0);
	m->steps = steps[0];
	m->said = said[1];
	maker_pid = m->pid = fixture_fork(be_maker, m);
	close(steps[0]);
	close(said[1]);
	steps_fd = steps[1];
	said_fd = said[0];
}

static void maker_has_done_a_step(void)
{
	char byte;

	assert_true(fixture_hear(said_fd, maker_pid, &byte, 1));
}

static void let_maker_go_on(void)
{
	assert_int_equal(write(steps_fd, "", 1), 1);
}

static void end_maker(struct maker *m)
{
	let_maker_go_on();
	assert_int_equal(fixture_wait(m->pid), 0);
	close(steps_fd);
	close(said_fd);
}

/* Starts to ask for what the owner holds and waits until the reply lies there. */
static sb_future *ask_for_it(struct place *p)
{
	sb_request request = SB_REQUEST_INIT;
	struct pollfd poll_fd = { .events = POLLIN };
	sb_future *future = NULL;

	request.name = "builtins:eval";
	request.args = sb_args("sr", "held[0]", &p->names);
	request.flags = SB_CALL_AS_VIEW;
	assert_ok(sb_call_start(p->s, &request, &future));
	assert_ok(sb_future_fd(future, &poll_fd.fd));
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	return future;
}

static void is_the_owners_death(sb_future *future)
{
	sb_value *value = NULL;
	int err = sb_future_wait(future, SB_WAIT_FOREVER, &value);

	if (!err) {
		const sb_array *a = sb_value_array(value);

		print_error("an array that begins with %g\n", a ? *(const double *)sb_array_data(a) : -1);
	}
	sb_value_free(value);
	assert_int_equal(err, SB_EOWNERDIED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	sb_future_free(future);
}

static void test_33_a_dead_owners_reply_names_a_third_processs_array(void **state)
{
	struct place *p = *state;
	struct maker maker = { .p = p };
	pid_t owner = (pid_t)place_int(p, "__import__('os').getpid()");
	sb_future *future;

	start_maker(&maker);
	maker_has_done_a_step();
	future = ask_for_it(p);
	kill_owner(p, owner);
	let_maker_go_on();
	maker_has_done_a_step();
	is_the_owners_death(future);
	end_maker(&maker);
}

static void test_33_a_dead_owners_reply_names_its_readers_own_array(void **state)
{
	struct place *p = *state;
	pid_t owner = (pid_t)place_int(p, "__import__('os').getpid()");
	sb_array *again[AGAIN];
	sb_future *future;

	assert_ok(give_fives(p));
	future = ask_for_it(p);
	kill_owner(p, owner);
	assert_ok(make_nines(p, again));
	is_the_owners_death(future);
	for (int i = 0; i < AGAIN; i++)
		sb_array_unref(again[i]);
}

/* What is the owner's own memory, nobody uses again: the reply counts, or its memory is gone. */
static void test_33_a_dead_owners_reply_names_its_own_array(void **state)
{
	struct place *p = *state;
	pid_t owner = (pid_t)place_int(p, "__import__('os').getpid()");
	sb_value *value = NULL;
	sb_future *future;
	int err;

	place_exec(p, "hold(np.full(40000, 5.0))\n");
	future = ask_for_it(p);
	kill_owner(p, owner);
	err = sb_future_wait(future, SB_WAIT_FOREVER, &value);
	if (err)
		assert_int_equal(err, SB_EOWNERDIED);
	else
		assert_true(*(const double *)sb_array_data(sb_value_array(value)) == 5);
	sb_value_free(value);
	sb_future_free(future);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_33_a_dead_owners_reply_names_a_third_processs_array),
		TEST(test_33_a_dead_owners_reply_names_its_readers_own_array),
		TEST(test_33_a_dead_owners_reply_names_its_own_array),
	};

	return cmocka_run_group_tests_name("arrays_death", tests, NULL, NULL);
}
