/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays as arguments and results of a batch's items: contract 16, 22, 29, and 31 for what they leave. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"
#include "rounds.h"

#define COUNT ((size_t)40000) /* doubles: 312 KiB */

static int setup(void **state, int (*place)(void **state))
{
	struct place *p;
	sb_value *v = NULL;
	bool has = false;

	place(state);
	p = *state;
	(void)(place_eval(p, "__import__('importlib.util').util.find_spec('numpy') is not None", 0, &v) ==
	               0 &&
	       sb_value_bool(v, &has));
	sb_value_free(v);
	if (!has) {
		print_message("NumPy is not there\n");
		place_teardown(state);
		exit(77);
	}
	place_exec(p, "import numpy as np\n"
	              "def total(a): return int(a.sum())\n"
	              "def twice(a): return a * 2\n"
	              "def write(a): a[0] = 7; return a\n"
	              "def make(n): global made; made = np.arange(float(n)); return made\n"
	              "def spoil(): made[:] = -1\n");
	return 0;
}

static int setup_there(void **state)
{
	return setup(state, place_there);
}

static int setup_here(void **state)
{
	return setup(state, place_here);
}

/* ── batches ── */

static int try_add(struct place *p, sb_batch *b, const char *function, sb_args *args, uint32_t flags)
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
	r.flags = flags;
	err = sb_batch_add(b, &r, NULL);
	sb_value_free(f);
	return err;
}

static void add(struct place *p, sb_batch *b, const char *function, sb_args *args, uint32_t flags)
{
	assert_ok(try_add(p, b, function, args, flags));
}

static void add_eval(struct place *p, sb_batch *b, const char *source, uint32_t flags)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:eval";
	r.args = sb_args("sr", source, &p->names);
	r.flags = flags;
	assert_ok(sb_batch_add(b, &r, NULL));
}

static int64_t int_at(const sb_batch *b, size_t item)
{
	sb_value *value = NULL;
	int64_t n = -1;

	assert_ok(sb_batch_result(b, item, &value));
	assert_ok(sb_value_int(value, &n));
	sb_value_free(value);
	return n;
}

/* A reference of its own. */
static sb_array *array_at(const sb_batch *b, size_t item)
{
	sb_value *value = NULL;
	sb_array *a;

	assert_ok(sb_batch_result(b, item, &value));
	a = sb_array_ref(sb_value_array(value));
	assert_non_null(a);
	sb_value_free(value);
	return a;
}

static double double_at(const sb_array *a, size_t i)
{
	size_t n = 0;
	const double *x = sb_array_as(a, "f8", &n);

	assert_non_null(x);
	assert_true(i < n);
	return x[i];
}

static sb_array *ones(struct place *p)
{
	sb_array *a = NULL;
	size_t n = COUNT;

	assert_ok(sb_array_new(p->s, "f8", 1, &n, &a));
	for (size_t i = 0; i < n; i++)
		((double *)sb_array_writable(a))[i] = 1;
	return a;
}

/* ── arguments ── */

static void test_29_array_arguments_are_the_callers_memory(void **state)
{
	struct place *p = *state;
	sb_array *shared = ones(p), *ordinary = NULL, *small = NULL;
	double few[] = { 1, 2, 3 }, *many = calloc(COUNT, sizeof(*many));
	size_t n = COUNT, three = 3;
	sb_batch *b = NULL;

	assert_non_null(many);
	many[5] = 100;
	assert_ok(sb_array_from(p->s, "f8", 1, &n, many, &ordinary));
	assert_ok(sb_array_from(p->s, "f8", 1, &three, few,
	                        &small)); /* so small that it travels in the message */
	free(many);
	assert_ok(sb_batch_new(0, &b));
	add(p, b, "total", sb_args("a", shared), 0);
	add(p, b, "write", sb_args("a", shared), SB_CALL_AS_REF);
	add(p, b, "total", sb_args("a", shared), 0); /* the same memory, with what the item before wrote */
	add(p, b, "total", sb_args("a", ordinary), 0);
	add(p, b, "total", sb_args("a", small), 0);
	sb_array_unref(ordinary); /* the batch has it */
	sb_array_unref(small);
	assert_ok(sb_batch_run(p->s, b, 0));
	assert_int_equal(int_at(b, 0), COUNT);
	assert_true(double_at(shared, 0) == 7);
	assert_int_equal(int_at(b, 2), COUNT + 6);
	assert_int_equal(int_at(b, 3), 100);
	assert_int_equal(int_at(b, 4), 6);
	((double *)sb_array_writable(shared))[1] = 11; /* another run sees what is in it then */
	assert_ok(sb_batch_run(p->s, b, 0));
	assert_int_equal(int_at(b, 0), COUNT + 16);
	sb_batch_free(b);
	sb_array_unref(shared);
}

/* Those of another bridge lie in memory that this session's owner has no part in. */
static void test_22_an_array_of_another_bridge_is_refused(void **state)
{
	struct place *p = *state;
	struct fixture *other = NULL;
	sb_session *s;
	sb_array *a;
	sb_batch *b = NULL;

	fixture_setup((void **)&other);
	s = fixture_session(other->bridge, NULL, SB_DESIGNATED_SELF);
	{
		size_t n = COUNT;

		assert_ok(sb_array_new(s, "f8", 1, &n, &a));
	}
	assert_ok(sb_batch_new(0, &b));
	add(p, b, "total", sb_args("a", a), 0);
	assert_int_equal(sb_batch_run(p->s, b, 0), SB_EINVAL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_batch_free(b);
	sb_array_unref(a);
	sb_session_close(s);
	fixture_teardown((void **)&other);
}

/* ── results ── */

static void test_16_array_results_are_snapshots_or_views(void **state)
{
	struct place *p = *state;
	sb_array *snapshot, *view, *again;
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(0, &b));
	add(p, b, "make", sb_args("i", (int)COUNT), 0);
	add_eval(p, b, "made", SB_CALL_AS_VIEW);
	add_eval(p, b, "made[:3]", 0); /* in the message */
	add_eval(p, b, "1 + 1", 0);
	assert_ok(sb_batch_run(p->s, b, 0));
	place_exec(p, "spoil()\n");
	snapshot = array_at(b, 0);
	view = array_at(b, 1);
	again = array_at(b, 1);
	assert_true(double_at(snapshot, 9) == 9);
	assert_true(double_at(view, 9) == -1);
	assert_ptr_equal(view, again);
	((double *)sb_array_writable(view))[9] = 5;
	assert_int_equal(place_int(p, "int(made[9])"), 5);
	sb_array_unref(again);
	again = array_at(b, 2);
	assert_true(double_at(again, 2) == 2);
	assert_int_equal(int_at(b, 3), 2);
	/* They stay when the batch is gone, and what Python had is gone. */
	sb_batch_free(b);
	place_exec(p, "del made\n"
	              "others = [np.zeros(40000) for i in range(5)]\n");
	assert_true(double_at(snapshot, 39999) == 39999);
	assert_true(double_at(view, 9) == 5);
	sb_array_unref(snapshot);
	sb_array_unref(view);
	sb_array_unref(again);
}

/* A result may hold several, long ones and short ones; and an earlier item's array is a later one's argument. */
static void test_29_arrays_anywhere_in_items_results(void **state)
{
	struct place *p = *state;
	sb_ref first = sb_batch_ref(0);
	sb_value *v = NULL;
	sb_batch *b = NULL;

	assert_ok(sb_batch_new(0, &b));
	add(p, b, "make", sb_args("i", (int)COUNT), 0);
	add(p, b, "total", sb_args("r", &first), 0);
	add_eval(p, b,
	         "{'a': [np.arange(3.), (np.ones(3000), None)], 'b': np.full(9000, 2.), 'c': b'x' * 5000}",
	         0);
	assert_ok(sb_batch_run(p->s, b, 0));
	assert_int_equal(int_at(b, 1), (int64_t)COUNT * (int64_t)(COUNT - 1) / 2);
	for (int round = 0; round < 2; round++) {
		assert_ok(sb_batch_result(b, 2, &v));
		assert_true(double_at(sb_value_array(sb_value_at(sb_value_lookup(v, "a"), 0)), 2) == 2);
		assert_true(double_at(sb_value_array(sb_value_at(sb_value_at(sb_value_lookup(v, "a"), 1), 0)),
		                      2999) == 1);
		assert_true(double_at(sb_value_array(sb_value_lookup(v, "b")), 8999) == 2);
		assert_int_equal(sb_value_len(sb_value_lookup(v, "c")), 5000);
		sb_value_free(v);
	}
	assert_ok(sb_batch_run(p->s, b, 0)); /* replaces the results */
	assert_ok(sb_batch_result(b, 2, NULL));
	sb_batch_free(b);
}

/* One that fails half-way takes none of the others' arrays with it. */
static void test_24_an_item_fails_and_others_arrays_stay(void **state)
{
	struct place *p = *state;
	sb_batch *b = NULL;
	sb_array *a;

	assert_ok(sb_batch_new(0, &b));
	add(p, b, "make", sb_args("i", (int)COUNT), 0);
	add_eval(p, b, "(made, np.arange(3))", SB_CALL_AS_VIEW); /* the second is in no shared memory */
	add_eval(p, b, "1 / 0", 0);
	add(p, b, "make", sb_args("i", (int)COUNT), 0);
	for (int round = 0; round < 20; round++) {
		assert_ok(sb_batch_run(p->s, b, 0));
		assert_int_equal(sb_batch_result(b, 1, NULL), SB_ENOVIEW);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
		assert_int_equal(sb_batch_result(b, 2, NULL), SB_EPYTHON);
		for (size_t item = 0; item < 4; item += 3) {
			a = array_at(b, item);
			for (size_t i = 0; i < COUNT; i += 1000)
				assert_true(double_at(a, i) == (double)i);
			sb_array_unref(a);
		}
	}
	sb_batch_free(b);
}

/* ── memory ── */

/* A batch with three arrays there and three back. Uses no assertion: for children, too. */
static int round_trip(struct place *p, uint32_t flags, unsigned number_of_round)
{
	sb_array *a[3] = { NULL };
	sb_batch *b = NULL;
	size_t n = COUNT;
	int err = sb_batch_new(0, &b);

	for (int i = 0; i < 3 && !err; i++) {
		err = sb_array_new(p->s, "f8", 1, &n, &a[i]);
		if (!err)
			((double *)sb_array_writable(a[i]))[i] = number_of_round;
		if (!err)
			err = try_add(p, b, "twice", sb_args("a", a[i]), flags);
		sb_array_unref(a[i]);
	}
	if (!err)
		err = sb_batch_run(p->s, b, 0);
	for (size_t i = 0; i < 3 && !err; i++) {
		sb_value *v = NULL;
		const double *x;

		err = sb_batch_result(b, i, &v);
		x = err ? NULL : sb_array_as(sb_value_array(v), "f8", &n);
		if (!err && (!x || x[i] != 2.0 * number_of_round))
			err = SB_EBUG;
		sb_value_free(v);
	}
	sb_batch_free(b);
	return err;
}

struct child {
	struct place *p;
	int ready;
};

static int go_on(void *arg)
{
	struct child *c = arg;

	for (unsigned i = 0;; i++) {
		if (round_trip(c->p, i % 2 ? SB_CALL_AS_VIEW : 0, i))
			return 1;
		if (i == 10 && write(c->ready, "", 1) != 1)
			return 2;
	}
}

static void kill_one(struct place *p, unsigned *seed)
{
	struct timespec moment = { 0, 0 };
	struct child c = { .p = p };
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	c.ready = fds[1];
	pid = fixture_fork(go_on, &c);
	close(fds[1]);
	assert_true(fixture_hear(fds[0], pid, &byte, 1));
	close(fds[0]);
	moment.tv_nsec = rand_r(seed) % 3000000;
	nanosleep(&moment, NULL);
	kill(pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
}

static void test_31_batches_leave_no_arrays(void **state)
{
	struct place *p = *state;
	unsigned seed = rounds_seed();
	json_int_t begun, ended;
	char *output = NULL;

	for (unsigned i = 0; i < 20; i++)
		assert_ok(round_trip(p, i % 2 ? SB_CALL_AS_VIEW : 0, i));
	place_becomes(p, "arrays", 0);
	begun = place_number(p, "array_arena_bytes");
	for (unsigned i = 0; i < 200; i++) {
		assert_ok(round_trip(p, i % 2 ? SB_CALL_AS_VIEW : 0, i));
		if (i % 50 == 49)
			kill_one(p, &seed);
	}
	assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
	place_becomes(p, "array_holds_of_dead", 0);
	place_becomes(p, "arrays", 0);
	place_becomes(p, "array_holds", 0);
	ended = place_number(p, "array_arena_bytes");
	assert_in_range(ended, 1, begun + (8 << 20)); /* what was lost in each round would be 180 MB */
	if (fixture_tool(p->f->dir, &output, "sb-inspect", "--check", NULL) != 0)
		fail_msg("%s", output);
	free(output);
}

#define BOTH(name)                                                          \
	cmocka_unit_test_setup_teardown(name, setup_there, place_teardown), \
	{                                                                   \
#name "_here", name, setup_here, place_teardown, NULL       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_29_array_arguments_are_the_callers_memory),
		BOTH(test_16_array_results_are_snapshots_or_views),
		BOTH(test_29_arrays_anywhere_in_items_results),
		BOTH(test_24_an_item_fails_and_others_arrays_stay),
		cmocka_unit_test_setup_teardown(test_22_an_array_of_another_bridge_is_refused, setup_there,
		                                place_teardown),
		cmocka_unit_test_setup_teardown(test_31_batches_leave_no_arrays, setup_there, place_teardown),
	};

	return cmocka_run_group_tests_name("batch_arrays", tests, NULL, NULL);
}
