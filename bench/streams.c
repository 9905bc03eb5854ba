/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What streams cost: how many ints a second come from a generator, from map() and from range() in a dedicated owner, lent by
 * sb_iter_step() in batches of several sizes, with and without read-ahead, and how often a second a single item is fetched.
 * Beside them how fast Python runs through the same there by itself: the ratio says what is left of that. And whether it is
 * what is promised: whoever reads ints without options gets at least a million a second.
 *
 *   cmake --preset release && cmake --build build/release --target bench-streams
 *   build/release/bin/bench-streams [MILLIONS]
 *
 * or, against an installed library,
 *
 *   cc -O2 -std=gnu17 bench/streams.c $(pkg-config --cflags --libs snakebridge) -o streams
 *
 * Prints medians of rounds, interleaved, in million items a second. Needs nothing; makes a bridge in /dev/shm and removes it.
 * Exit status 1: a promise was not held.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "snakebridge/snakebridge.h"

#define ROUNDS 7

/* Promised: million items a second at least, as SB_FOR_EACH() without options gives them. */
#define PROMISED 1.0

static sb_session *session;
static sb_ref names;

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, sb_error_name(err), sb_last_error()->message);
	exit(1);
}

static const char source[] = "import time\n"
			     "def generator(n):\n"
			     "    for i in range(n):\n"
			     "        yield i\n"
			     "def mapped(n):\n"
			     "    return map(int, range(n))\n"
			     "def alone(make, n):\n"
			     "    began = time.perf_counter()\n"
			     "    for i in make(n):\n"
			     "        pass\n"
			     "    return time.perf_counter() - began\n";

static void prepare(void)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;

	r.name = "builtins:dict";
	r.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &r, &v), "dict");
	names = *sb_value_ref(v);
	sb_value_free(v);
	must(sb_call(session, "builtins:exec", sb_args("sr", source, &names), NULL), "exec");
}

static sb_value *eval(const char *text, uint32_t flags)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;

	r.name = "builtins:eval";
	r.args = sb_args("sr", text, &names);
	r.flags = flags;
	must(sb_invoke(session, &r, &v), text);
	return v;
}

/* Items a second, read from C. */
static double through(const char *make, int64_t n, const sb_iter_options *options)
{
	sb_request r = SB_REQUEST_INIT;
	int64_t sum = 0, i = 0, value = 0;
	char text[64];
	double began = now_s();
	sb_iter *it = NULL;

	snprintf(text, sizeof(text), "%s(%" PRId64 ")", make, n);
	r.name = "builtins:eval";
	r.args = sb_args("sr", text, &names);
	must(sb_iter_call(session, &r, options, &it), text);
	SB_FOR_EACH(item, it)
	{
		must(sb_value_int(item, &value), "an item");
		sum += value;
		i++;
	}
	must(sb_iter_error(it), "the stream");
	sb_iter_close(it);
	if (i != n || sum != n * (n - 1) / 2) {
		fprintf(stderr, "%" PRId64 " items came, and their sum is %" PRId64 "\n", i, sum);
		exit(1);
	}
	return (double)n / (now_s() - began);
}

/* The same by Python alone. */
static double alone(const char *make, int64_t n)
{
	char text[96];
	double seconds = 0;
	sb_value *v;

	snprintf(text, sizeof(text), "alone(%s, %" PRId64 ")", make, n);
	v = eval(text, 0);
	must(sb_value_float(v, &seconds), "seconds");
	sb_value_free(v);
	return (double)n / seconds;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *of)
{
	qsort(of, ROUNDS, sizeof(*of), ascending);
	return of[ROUNDS / 2];
}

static const struct reading {
	const char *what;
	size_t batch;
	uint32_t flags;
	int64_t divide; /* fewer items */
} readings[] = {
	{ "one by one", 1, 0, 100 },
	{ "batches of 100", 100, 0, 1 },
	{ "batches of 10000", 10000, 0, 1 },
	{ "default", 0, 0, 1 },
	{ "default, read-ahead", 0, SB_ITER_READ_AHEAD, 1 },
};
#define READINGS (sizeof(readings) / sizeof(readings[0]))

static bool broken;

static void promise(const char *make, const char *how, double rate)
{
	bool held = rate >= PROMISED;

	printf("%-6s ints of %s, %s: %.3f million/s of at least %.1f\n", held ? "held" : "BROKEN", make, how,
	       rate, PROMISED);
	broken = broken || !held;
}

static void measure(const char *make, int64_t n)
{
	double by_itself[ROUNDS], got[READINGS][ROUNDS], reference;

	for (int round = 0; round < ROUNDS; round++) {
		by_itself[round] = alone(make, n);
		for (size_t i = 0; i < READINGS; i++) {
			sb_iter_options options = SB_ITER_OPTIONS_INIT;

			options.batch = readings[i].batch;
			options.flags = readings[i].flags;
			got[i][round] = through(make, n / readings[i].divide, &options);
		}
	}
	reference = median(by_itself);
	printf("%-10s %-22s %8.3f\n", make, "Python alone", reference / 1e6);
	for (size_t i = 0; i < READINGS; i++) {
		double rate = median(got[i]);

		printf("%-10s %-22s %8.3f  %5.2f\n", make, readings[i].what, rate / 1e6, rate / reference);
	}
	for (size_t i = 0; i < READINGS; i++) /* sorted by now */
		if (readings[i].batch == 0)
			promise(make, readings[i].what, got[i][ROUNDS / 2] / 1e6);
}

int main(int argc, char **argv)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	int64_t n = (argc > 1 ? atoll(argv[1]) : 1) * 1000000;
	char dir[] = "/dev/shm/sb-bench-XXXXXX", command[64];
	sb_bridge *bridge = NULL;
	int status;

	if (n <= 0 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: bench-streams [MILLIONS]\n");
		return 2;
	}
	must(sb_bridge_open(dir, NULL, &bridge), "sb_bridge_open");
	options.session_id = "streams";
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &session), "sb_session_open");
	prepare();
	printf("%" PRId64 " ints, million items/s           ratio\n", n);
	measure("generator", n);
	measure("mapped", n);
	measure("range", n);
	must(sb_session_release(bridge, "streams", &status), "sb_session_release");
	sb_session_close(session);
	sb_bridge_close(bridge);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) || broken ? 1 : 0;
}
