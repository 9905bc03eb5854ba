/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our part in bench/bench.py, which lets us and other systems measure the same work in turns: a line in ("noop 0.2"), a line of
 * JSON out, as bench/peers/peer.py has it.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void call_noop(struct bench *b, unsigned index, volatile uint32_t *stop, uint64_t *count)
{
	(void)index;
	while (!*stop) {
		must(sb_method(b->session, &b->nothing, "noop", NULL, NULL), "noop()");
		__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	}
}

static void turn_noop(struct bench *b, double seconds)
{
	double begun = now_ns();
	unsigned n = 0;

	for (; now_ns() - begun < seconds * 1e9; n += 10)
		bench_noops(b->session, &b->nothing, 10);
	printf("{\"us\": %f}\n", (now_ns() - begun) / n / 1e3);
}

static void turn_callers(struct bench *b, double seconds)
{
	struct callers *c = callers_start(b, 8, 1, call_noop);
	double rate, fairness;

	callers_measure(c, seconds, &rate, &fairness);
	callers_stop(c);
	printf("{\"rate\": %f, \"fairness\": %f}\n", rate, fairness);
}

static void turn_refs(struct bench *b, double seconds)
{
	static sb_ref made;
	double begun;
	unsigned n = 0;

	if (!made.incarnation)
		made = bench_name(b->session, &b->names, "Made");
	for (begun = now_ns(); now_ns() - begun < seconds * 1e9; n++) {
		sb_value *v;

		must(sb_method(b->session, &made, "__call__", NULL, &v), "an instance");
		must(sb_ref_release(b->session, sb_value_ref(v), NULL), "its release");
		sb_value_free(v);
	}
	printf("{\"rate\": %f}\n", n / (now_ns() - begun) * 1e9);
}

#define COUNT ((size_t)8 << 20) /* 64 MiB of float64 */

static void turn_in(struct bench *b)
{
	static double *numbers;
	size_t n = COUNT;
	double begun, total;
	sb_array *array;

	if (!numbers) {
		numbers = malloc(COUNT * sizeof(*numbers));
		for (size_t i = 0; numbers && i < COUNT; i++)
			numbers[i] = (double)i;
	}
	if (!numbers)
		give_up("no memory");
	begun = now_ns();
	must(sb_array_from(b->session, "f8", 1, &n, numbers, &array), "an array");
	total = bench_ask_number(b, "total", sb_args("a", array));
	sb_array_unref(array);
	begun = now_ns() - begun;
	if (total != (double)COUNT * (double)(COUNT - 1) / 2)
		give_up("a wrong sum");
	printf("{\"ms\": %f}\n", begun / 1e6);
}

static void turn_out(struct bench *b)
{
	double begun = now_ns();
	sb_value *v = bench_ask(b, "get", NULL, 0);

	begun = now_ns() - begun;
	sb_value_free(v);
	printf("{\"ms\": %f}\n", begun / 1e6);
}

static void take_turn(struct bench *b, const char *piece, double seconds)
{
	if (strcmp(piece, "noop") == 0)
		turn_noop(b, seconds);
	else if (strcmp(piece, "callers") == 0)
		turn_callers(b, seconds);
	else if (strcmp(piece, "refs") == 0)
		turn_refs(b, seconds);
	else if (strcmp(piece, "in") == 0)
		turn_in(b);
	else if (strcmp(piece, "out") == 0)
		turn_out(b);
	else
		printf("{\"error\": \"no such piece\"}\n");
	fflush(stdout);
}

int turns_main(struct bench *b)
{
	static const char source[] = "import numpy as np\n"
				     "class Made:\n"
				     " def noop(self): return None\n"
				     "big = np.zeros(1 << 23) + 1.0\n"
				     "def total(a): return float(a.sum())\n"
				     "def get(): return big\n";
	char line[128], piece[32];
	double seconds;

	must(sb_bridge_open(b->dir, NULL, &b->bridge), "opening the bridge");
	bench_owner(b, NULL, SB_UNSET);
	must(sb_get(b->session, "numpy", NULL),
	     "numpy"); /* before arrays are made, so that they are made in the arena */
	must(sb_call(b->session, "builtins:exec", sb_args("sr", source, &b->names), NULL), "the source");
	printf("{\"title\": \"SnakeBridge\", \"note\": \"sb_method() and the like, called from C\"}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) && sscanf(line, "%31s %lf", piece, &seconds) == 2)
		take_turn(b, piece, seconds);
	sb_session_release(b->bridge, sb_session_id(b->session), NULL);
	sb_bridge_close(b->bridge);
	return 0;
}
