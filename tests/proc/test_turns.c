/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls whose Python takes long, beside each other in one designated owner: none starves, none holds up those that only wait.
 * Numbers are points of the contract.
 *
 * Nothing is timed: a loop runs until a call tells it to stop, so what ended before that ended beside it.
 */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define CALLERS 7
/* Of each, after a first one. Many, for on a busy machine single calls were seen to take 140 to 265 ms while others had dozens;
 * probably their threads wait for the GIL, where each 5 ms in vain costs a thread its place. */
#define CALLS 30
#define LOOPS 2

static const char source[] = "import time, threading\n"
			     "stop = threading.Event()\n"
			     "looping = []\n"
			     "meeting = threading.Barrier(7)\n"
			     "def loop():\n"
			     "  looping.append(1)\n"
			     "  while not stop.is_set(): pass\n"
			     "def loops(): return len(looping)\n"
			     "def work():\n"
			     "  until = time.thread_time() + 0.005\n"
			     "  while time.thread_time() < until: pass\n"
			     "def meet(): meeting.wait()\n";

struct turns {
	sb_session *session;
	sb_ref names;
	atomic_uint over; /* loops that came back */
	atomic_uint done[CALLERS];
	unsigned least; /* calls of the slowest, when the first was done with all of its own */
	atomic_bool first;
	atomic_uint failed;
	pthread_barrier_t begun; /* all have made their first call */
};

struct caller {
	struct turns *turns;
	unsigned number;
	const char *function;
	pthread_t thread;
};

/* names[function]() */
static int ask(struct turns *t, const char *function, sb_value **ret)
{
	sb_value *v = NULL;
	int err = sb_getitem(t->session, &t->names, sb_args("s", function), &v);

	if (!err)
		err = sb_method(t->session, sb_value_ref(v), "__call__", NULL, ret);
	sb_value_free(v);
	return err;
}

static void turns_begin(struct turns *t, struct fixture *f)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;

	*t = (struct turns){ .session = fixture_session(f->bridge, "turns", SB_DESIGNATED_DEDICATED) };
	r.name = "builtins:dict";
	r.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(t->session, &r, &v));
	t->names = *sb_value_ref(v);
	sb_value_free(v);
	assert_ok(sb_call(t->session, "builtins:exec", sb_args("sr", source, &t->names), NULL));
}

static void *loop(void *arg)
{
	struct caller *c = arg;

	if (ask(c->turns, "loop", NULL))
		atomic_fetch_add(&c->turns->failed, 1);
	atomic_fetch_add(&c->turns->over, 1);
	return NULL;
}

/* Returns once n loops run. */
static void loops_begin(struct turns *t, struct caller *loops, unsigned n)
{
	int64_t running = 0;

	for (unsigned i = 0; i < n; i++) {
		loops[i] = (struct caller){ .turns = t };
		assert_int_equal(pthread_create(&loops[i].thread, NULL, loop, &loops[i]), 0);
	}
	while (running < n) {
		sb_value *v = NULL;

		assert_ok(ask(t, "loops", &v));
		assert_int_equal(sb_value_int(v, &running), 0);
		sb_value_free(v);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

static void loops_end(struct turns *t, struct caller *loops, unsigned n)
{
	sb_value *v = NULL;

	assert_int_equal(atomic_load(&t->over), 0);
	assert_ok(sb_getitem(t->session, &t->names, sb_args("s", "stop"), &v));
	assert_ok(sb_method(t->session, sb_value_ref(v), "set", NULL, NULL));
	sb_value_free(v);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_join(loops[i].thread, NULL), 0);
	assert_int_equal(atomic_load(&t->over), n);
	assert_int_equal(atomic_load(&t->failed), 0);
	sb_session_close(t->session);
}

static void *call_on(void *arg)
{
	struct caller *c = arg;
	struct turns *t = c->turns;

	if (ask(t, c->function, NULL))
		atomic_fetch_add(&t->failed, 1);
	pthread_barrier_wait(&t->begun);
	for (unsigned i = 0; i < CALLS; i++) {
		if (ask(t, c->function, NULL))
			atomic_fetch_add(&t->failed, 1);
		atomic_fetch_add(&t->done[c->number], 1);
	}
	if (!atomic_exchange(&t->first, true)) {
		t->least = CALLS;
		for (unsigned i = 0; i < CALLERS; i++)
			t->least = atomic_load(&t->done[i]) < t->least ? atomic_load(&t->done[i]) : t->least;
	}
	return NULL;
}

/* Each makes all of its calls. */
static void callers_run(struct turns *t, const char *function)
{
	struct caller callers[CALLERS];

	assert_int_equal(pthread_barrier_init(&t->begun, NULL, CALLERS), 0);
	for (unsigned i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .turns = t, .number = i, .function = function };
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call_on, &callers[i]), 0);
	}
	for (unsigned i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
	pthread_barrier_destroy(&t->begun);
	assert_int_equal(atomic_load(&t->failed), 0);
}

static void beside(void **state, unsigned loops_count, const char *function)
{
	struct caller loops[LOOPS];
	struct turns t;

	turns_begin(&t, *state);
	loops_begin(&t, loops, loops_count);
	callers_run(&t, function);
	/* All wait nearly all the time, so they take turns; that a busy machine makes one late a few times says nothing. */
	print_message("the slowest had %u of %u when the first had all\n", t.least, CALLS);
	assert_true(t.least > 0);
	loops_end(&t, loops, loops_count);
}

static void test_35_calls_take_turns(void **state)
{
	beside(state, 0, "work");
}

static void test_35_none_starves_beside_a_loop(void **state)
{
	beside(state, 1, "work");
}

static void test_35_none_starves_beside_two_loops(void **state)
{
	beside(state, LOOPS, "work");
}

/* They wait for each other without the GIL: each comes back only when all of them run. */
static void test_35_calls_that_wait_run_at_once(void **state)
{
	beside(state, 0, "meet");
}

static void test_35_calls_that_wait_run_at_once_beside_a_loop(void **state)
{
	beside(state, 1, "meet");
}

#define IN_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

/* ── slices ── */

/* As the kernel has it: of this thread (0), or of another process's first. 0: it does not say. */
static uint64_t slice_of(pid_t pid)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime_ns, deadline_ns, period_ns;
	} attr = { 0 };

	return syscall(SYS_sched_getattr, pid, &attr, sizeof(attr), 0) ? 0 : attr.runtime_ns;
}

static uint64_t whole; /* what it was when this program began */

static int has_whole_slices(void *arg)
{
	(void)arg;
	return slice_of(0) >= whole ? 0 : 1;
}

/* Who waits long for a reply has short slices until its next call; what it starts meanwhile is to have none of that. */
static void test_what_a_waiter_starts_has_whole_slices(void **state)
{
	struct fixture *f = *state;
	sb_session *waits = fixture_session(f->bridge, "waits", SB_DESIGNATED_DEDICATED), *started;
	sb_session_info info = { .size = sizeof(info) };

	for (int i = 0; i < 2; i++) {
		assert_ok(sb_call(waits, "time:sleep", sb_args("d", 0.1), NULL));
		if (slice_of(0) >= whole) {
			sb_session_close(waits);
			skip(); /* an earlier kernel */
		}
		if (i == 0) {
			assert_int_equal(fixture_wait(fixture_fork(has_whole_slices, NULL)), 0);
			continue;
		}
		started = fixture_session(f->bridge, "started", SB_DESIGNATED_DEDICATED);
		assert_ok(sb_session_get_info(started, &info));
		assert_true(slice_of(info.designated_pid) >= whole);
		sb_session_close(started);
	}
	sb_session_close(waits);
}

/* How many threads of pid have shorter slices than ordinary ones, and the shortest of these. */
static unsigned short_slices(pid_t pid, uint64_t *ret_least)
{
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	*ret_least = whole;
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		uint64_t slice = *e->d_name == '.' ? 0 : slice_of(atoi(e->d_name));

		if (slice == 0 || slice >= whole)
			continue;
		count++;
		*ret_least = slice < *ret_least ? slice : *ret_least;
	}
	closedir(dir);
	return count;
}

/* Else, where they share a CPU, the caller may hear of its owner's death when that has freed its memory. */
static void test_who_waits_goes_before_who_dies(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "waits", SB_DESIGNATED_DEDICATED);
	sb_session_info info = { .size = sizeof(info) };
	uint64_t keepers, mine;
	unsigned count;

	assert_ok(sb_call(s, "time:sleep", sb_args("d", 0.1), NULL));
	mine = slice_of(0);
	assert_ok(sb_session_get_info(s, &info));
	count = short_slices(info.designated_pid, &keepers);
	sb_session_close(s); /* its owner ends with it */
	if (mine >= whole)
		skip(); /* an earlier kernel */
	assert_true(count > 0);
	assert_true(mine < keepers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FIXTURE(test_35_calls_take_turns),
		IN_FIXTURE(test_35_none_starves_beside_a_loop),
		IN_FIXTURE(test_35_none_starves_beside_two_loops),
		IN_FIXTURE(test_35_calls_that_wait_run_at_once),
		IN_FIXTURE(test_35_calls_that_wait_run_at_once_beside_a_loop),
		IN_FIXTURE(test_what_a_waiter_starts_has_whole_slices),
		IN_FIXTURE(test_who_waits_goes_before_who_dies),
	};

	whole = slice_of(0);
	return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
