/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrays cost: 64 MiB of float64 summed by NumPy in a dedicated owner, made in shared memory or in ordinary memory, and
 * results of 1 KiB and 1 GiB as views. Beside them what NumPy's sum alone takes there, and memcpy here. Not part of the
 * build:
 *
 *   cc -O2 -std=gnu17 -Iinclude bench/arrays.c -LBUILD/lib -lsnakebridge -Wl,-rpath,$PWD/BUILD/lib -o arrays
 *   SNAKEBRIDGE_OWNER=BUILD/bin/sb-owner ./arrays DIRECTORY
 *
 * Prints medians and the best of rounds, interleaved, in milliseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "snakebridge/snakebridge.h"

#define ROUNDS 21
#define COUNT  ((size_t)8 << 20)

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
	exit(1);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void show(const char *what, double *ms)
{
	qsort(ms, ROUNDS, sizeof(*ms), ascending);
	printf("%-58s %9.4f %9.4f\n", what, ms[ROUNDS / 2], ms[0]);
}

static sb_session *session;
static sb_ref names;

/* Calls a function of the source below. */
static sb_value *ask(const char *function, sb_args *args, uint32_t flags)
{
	static sb_ref functions[8];
	static const char *known[8];
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	int i = 0;

	while (i < 8 && known[i] && strcmp(known[i], function) != 0)
		i++;
	if (!known[i]) {
		must(sb_getitem(session, &names, sb_args("s", function), &v), function);
		functions[i] = *sb_value_ref(v);
		known[i] = function;
		sb_value_free(v);
	}
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

static const char source[] = "import numpy as np, time\n"
			     "def total(a): return float(a.sum())\n"
			     "def bare(a):\n"
			     "  t = time.perf_counter(); a.sum(); return (time.perf_counter() - t) * 1e3\n"
			     "def nothing(a): return None\n"
			     "small = np.zeros(128)\n"
			     "big = np.zeros(1 << 27)\n" /* 1 GiB */
			     "middle = np.zeros(1 << 23)\n"
			     "little = np.zeros(1 << 13)\n" /* 64 KiB, the smallest that is in the arena */
			     "def get_small(): return little\n"
			     "def get_big(): return big\n"
			     "def get_middle(): return middle\n";

int main(int argc, char **argv)
{
	static double sum_ms[ROUNDS], bare_ms[ROUNDS], pass_ms[ROUNDS], from_ms[ROUNDS], copy_ms[ROUNDS], small_ms[ROUNDS],
		big_ms[ROUNDS], snapshot_ms[ROUNDS], none_ms[ROUNDS];
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_request r = SB_REQUEST_INIT;
	double *ordinary = malloc(COUNT * sizeof(double)), *other = malloc(COUNT * sizeof(double));
	size_t n = COUNT;
	sb_bridge *bridge;
	sb_array *a;
	sb_value *v;

	if (argc != 2 || !ordinary || !other) {
		fprintf(stderr, "usage: arrays DIRECTORY\n");
		return 2;
	}
	must(sb_bridge_open(argv[1], NULL, &bridge), "opening");
	o.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &o, &session), "a session");
	r.name = "builtins:dict";
	r.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &r, &v), "names");
	names = *sb_value_ref(v);
	sb_value_free(v);
	must(sb_get(session, "numpy", &v), "numpy"); /* so that the arrays below are made in the arena */
	sb_value_free(v);
	must(sb_call(session, "builtins:exec", sb_args("sr", source, &names), NULL), "the source");
	must(sb_array_new(session, "f8", 1, &n, &a), "an array");
	for (size_t i = 0; i < n; i++)
		((double *)sb_array_writable(a))[i] = ordinary[i] = other[i] = (double)i;
	for (int i = 0; i < ROUNDS; i++) {
		sb_array *copy;
		double begun;

		sum_ms[i] = ask_ms("total", sb_args("a", a), 0);
		v = ask("bare", sb_args("a", a), 0);
		sb_value_float(v, &bare_ms[i]);
		sb_value_free(v);
		pass_ms[i] = ask_ms("nothing", sb_args("a", a), 0);
		none_ms[i] = ask_ms("nothing", sb_args("n"), 0);
		begun = now_ms();
		must(sb_array_from(session, "f8", 1, &n, ordinary, &copy), "a copy");
		v = ask("total", sb_args("a", copy), 0);
		from_ms[i] = now_ms() - begun;
		sb_value_free(v);
		sb_array_unref(copy);
		begun = now_ms();
		memcpy(other, ordinary, COUNT * sizeof(double));
		copy_ms[i] = now_ms() - begun;
		small_ms[i] = ask_ms("get_small", NULL, SB_CALL_AS_VIEW);
		big_ms[i] = ask_ms("get_big", NULL, SB_CALL_AS_VIEW);
		snapshot_ms[i] = ask_ms("get_middle", NULL, 0);
	}
	printf("%-58s %9s %9s\n", "", "median", "best");
	show("64 MiB made in shared memory, summed by NumPy there", sum_ms);
	show("  NumPy's sum alone", bare_ms);
	show("  passing it to a function that does nothing", pass_ms);
	show("  passing nothing to it", none_ms);
	show("64 MiB from ordinary memory, summed there", from_ms);
	show("  memcpy of as much, warm", copy_ms);
	show("a result of 64 KiB as a view", small_ms);
	show("a result of 1 GiB as a view", big_ms);
	show("a result of 64 MiB as a snapshot", snapshot_ms);
	sb_array_unref(a);
	sb_session_close(session);
	sb_bridge_close(bridge);
	return 0;
}
