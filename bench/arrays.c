/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrays cost between a process and a dedicated owner, and whether it is what is promised:
 *
 *   - An array made in shared memory is summed by NumPy there for the sum and a constant that its size does not change.
 *   - The same array from ordinary memory costs one copy on top.
 *   - A result as a view costs the same whatever its size; as a snapshot, one copy.
 *
 *   cmake --build build/release --target bench-arrays && build/release/bin/bench-arrays DIRECTORY
 *
 * DIRECTORY, on a tmpfs with 2 GiB to spare, is made and left. "there" is what NumPy takes for the sum by its own clock in
 * the owner, so "beyond" is all that the bridge adds. Prints medians and the best of rounds, interleaved, in
 * milliseconds; on a busy machine believe the best. Exit status 1: a promise was not held.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "snakebridge/snakebridge.h"

#define ROUNDS 21
#define SIZES  4

/* Promised: that much more at most, in milliseconds, for an array of any size. */
#define CONSTANT_MS 1.0
/* One copy: what memcpy() takes for as much, with this for memory that is colder than in a loop of nothing else. */
#define COPY_SLACK 2.0

static const size_t counts[SIZES] = { (size_t)1 << 7, (size_t)1 << 17, (size_t)1 << 20, (size_t)8 << 20 };
static const char *const count_names[SIZES] = { "1 KiB", "1 MiB", "8 MiB", "64 MiB" };

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, sb_error_name(err), sb_last_error()->message);
	exit(2);
}

/* ── series ── */

struct series {
	double ms[ROUNDS];
	int count;
};

static void add(struct series *s, double ms)
{
	s->ms[s->count++] = ms;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(struct series *s)
{
	qsort(s->ms, (size_t)s->count, sizeof(*s->ms), ascending);
	return s->ms[s->count / 2];
}

static double best(struct series *s)
{
	median(s);
	return s->ms[0];
}

static void show(const char *size, const char *what, struct series *s)
{
	printf("%-8s %-54s %9.4f %9.4f\n", size, what, median(s), best(s));
}

static bool broken;

static void promise(bool held, const char *what, double ms, double limit)
{
	printf("%-6s %s: %.4f ms of %.4f\n", held ? "held" : "BROKEN", what, ms, limit);
	broken = broken || !held;
}

/* ── the owner's side ── */

static const char source[] =
	"import numpy as np, time\n"
	"def timed(a):\n"
	"  t = time.perf_counter(); x = float(a.sum()); return ((time.perf_counter() - t) * 1e3, x)\n"
	"def nothing(a): return None\n"
	"small = np.ones(1 << 13)\n"  /* 64 KiB, the smallest whose memory is in the arena */
	"middle = np.ones(1 << 23)\n" /* 64 MiB */
	"big = np.ones(1 << 27)\n"    /* 1 GiB */
	"kib = np.frombuffer(bytearray(1024))\n"
	"def get_kib(): return kib\n"
	"def get_small(): return small\n"
	"def get_middle(): return middle\n"
	"def get_big(): return big\n";

static const char *const function_names[] = { "timed",     "nothing",    "get_kib",
	                                      "get_small", "get_middle", "get_big" };
#define FUNCTIONS (sizeof(function_names) / sizeof(function_names[0]))
static sb_ref functions[FUNCTIONS];
static sb_session *session;

static void prepare(void)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *names, *v;

	r.name = "builtins:dict";
	r.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &r, &names), "names");
	must(sb_get(session, "numpy", &v),
	     "numpy"); /* first, so that the arrays below are made in the arena */
	sb_value_free(v);
	must(sb_call(session, "builtins:exec", sb_args("sr", source, sb_value_ref(names)), NULL),
	     "the source");
	for (size_t i = 0; i < FUNCTIONS; i++) {
		must(sb_getitem(session, sb_value_ref(names), sb_args("s", function_names[i]), &v),
		     function_names[i]);
		functions[i] = *sb_value_ref(v);
		sb_value_free(v);
	}
	sb_value_free(names);
}

static sb_value *ask(const char *function, sb_args *args, uint32_t flags)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	size_t i = 0;

	while (strcmp(function_names[i], function) != 0)
		i++;
	r.verb = SB_VERB_METHOD;
	r.target = &functions[i];
	r.name = "__call__";
	r.args = args;
	r.flags = flags;
	must(sb_invoke(session, &r, &v), function);
	return v;
}

static double ask_ms(const char *function, sb_args *args, uint32_t flags)
{
	double begun = now_ms();
	sb_value *v = ask(function, args, flags);
	double took = now_ms() - begun;

	sb_value_free(v);
	return took;
}

/* ── arguments ── */

struct argument {
	struct series shared, there, beyond, ordinary, ordinary_beyond, copy;
};

static void must_be_sum(const sb_value *v, size_t n)
{
	double there, sum;

	must(sb_value_unpack(v, "(dd)", &there, &sum), "the sum");
	if (sum == (double)n)
		return;
	fprintf(stderr, "the sum of %zu ones is said to be %f\n", n, sum);
	exit(2);
}

/* One call; *ret_there: what NumPy's sum took. Begun is when its array began to be made. */
static double sum_ms(sb_array *a, double begun, double *ret_there)
{
	sb_value *v = ask("timed", sb_args("a", a), 0);
	double took = now_ms() - begun;

	must_be_sum(v, sb_array_count(a));
	must(sb_value_unpack(v, "(d*)", ret_there), "its time");
	sb_value_free(v);
	return took;
}

static void measure_argument(struct argument *m, sb_array *shared, const double *ordinary, double *other)
{
	size_t n = sb_array_count(shared);
	double there, took, begun;
	sb_array *copy;

	took = sum_ms(shared, now_ms(), &there);
	add(&m->shared, took);
	add(&m->there, there);
	add(&m->beyond, took - there);
	begun = now_ms();
	must(sb_array_from(session, "f8", 1, &n, ordinary, &copy), "a copy");
	took = sum_ms(copy, begun, &there);
	sb_array_unref(copy);
	add(&m->ordinary, took);
	add(&m->ordinary_beyond, took - there);
	begun = now_ms();
	memcpy(other, ordinary, n * sizeof(double));
	add(&m->copy, now_ms() - begun);
}

static void measure_arguments(struct argument m[SIZES])
{
	double *ordinary = malloc(counts[SIZES - 1] * sizeof(double)),
	       *other = malloc(counts[SIZES - 1] * sizeof(double));
	sb_array *shared[SIZES];

	if (!ordinary || !other)
		exit(2);
	for (size_t k = 0; k < counts[SIZES - 1]; k++)
		ordinary[k] = other[k] = 1;
	for (int i = 0; i < SIZES; i++) {
		must(sb_array_new(session, "f8", 1, &counts[i], &shared[i]), "an array");
		memcpy(sb_array_writable(shared[i]), ordinary, sb_array_nbytes(shared[i]));
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < SIZES; i++)
			measure_argument(&m[i], shared[i], ordinary, other);
	for (int i = 0; i < SIZES; i++)
		sb_array_unref(shared[i]);
	free(ordinary);
	free(other);
}

static void report_arguments(struct argument m[SIZES])
{
	struct argument *last = &m[SIZES - 1];
	double copy;

	for (int i = 0; i < SIZES; i++) {
		show(count_names[i], "made in shared memory, summed there", &m[i].shared);
		show("", "  the sum, by the owner's clock", &m[i].there);
		show("", "  beyond", &m[i].beyond);
		show("", "from ordinary memory, summed there", &m[i].ordinary);
		show("", "  beyond", &m[i].ordinary_beyond);
		show("", "  memcpy of as much", &m[i].copy);
	}
	promise(best(&last->beyond) - best(&m[0].beyond) < CONSTANT_MS,
	        "64 MiB in shared memory costs no more than 1 KiB, beyond the sum",
	        best(&last->beyond) - best(&m[0].beyond), CONSTANT_MS);
	copy = best(&last->ordinary_beyond) - best(&last->beyond);
	promise(copy < best(&last->copy) * COPY_SLACK + CONSTANT_MS,
	        "64 MiB from ordinary memory costs one copy on top", copy,
	        best(&last->copy) * COPY_SLACK + CONSTANT_MS);
}

/* ── results ── */

static void measure_results(void)
{
	static struct series kib, small, middle, big, snapshot, none;
	double more;

	for (int i = 0; i < ROUNDS; i++) {
		add(&none, ask_ms("nothing", sb_args("n"), 0));
		add(&kib, ask_ms("get_kib", NULL, 0));
		add(&small, ask_ms("get_small", NULL, SB_CALL_AS_VIEW));
		add(&middle, ask_ms("get_middle", NULL, SB_CALL_AS_VIEW));
		add(&big, ask_ms("get_big", NULL, SB_CALL_AS_VIEW));
		add(&snapshot, ask_ms("get_middle", NULL, 0));
	}
	show("", "a call that returns nothing", &none);
	show("1 KiB", "a result", &kib);
	show("64 KiB", "a result as a view", &small);
	show("64 MiB", "a result as a view", &middle);
	show("1 GiB", "a result as a view", &big);
	show("64 MiB", "a result as a snapshot", &snapshot);
	more = median(&big) - median(&kib);
	promise(more < CONSTANT_MS, "1 GiB as a view arrives at most a millisecond after 1 KiB", more,
	        CONSTANT_MS);
}

int main(int argc, char **argv)
{
	static struct argument arguments[SIZES];
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-arrays DIRECTORY\n");
		return 2;
	}
	must(sb_bridge_open(argv[1], NULL, &bridge), "opening");
	o.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &o, &session), "a session");
	prepare();
	measure_arguments(arguments);
	printf("%-8s %-54s %9s %9s\n", "", "milliseconds", "median", "best");
	report_arguments(arguments);
	measure_results();
	sb_session_close(session);
	sb_bridge_close(bridge);
	return broken;
}
