/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a sweep takes: many sessions, of whose owners ten died.
 *
 *   cmake --build build/release --target bench-reaper_scale
 *   mkdir DIR && build/release/bin/bench-reaper_scale DIR [SESSIONS [PROCESSES]]     (DIR on tmpfs, removed by you)
 *
 * 10,000 sessions of 1,000 processes on 2 cores that six others kept busy; a process that dies takes ten sessions
 * with it and was an owner of ten more:
 *
 *   one look at 1000 process records      0.048 ms
 *   nobody died                        5.65 ms,     5.43 ms of CPU time,     0 actions,  1000 looked at
 *   nobody died, with files           48.04 ms,    29.74 ms of CPU time,     0 actions, 31000 looked at
 *   one process died                  12.47 ms,     6.77 ms of CPU time,    31 actions,  1050 looked at
 *   ten more died                     36.48 ms,    22.23 ms of CPU time,   310 actions,  1499 looked at
 *   one more, with files              57.81 ms,    25.07 ms of CPU time,    31 actions, 30819 looked at
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "many.h"
#include "sweep.h"

static struct many many;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, sb_last_error()->message);
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sweep(const char *what, bool files)
{
	struct sb__sweep_options options = { .files = files };
	struct sb__sweep_result result;
	uint64_t start = sb__now_ns(), cpu = cpu_ns();

	if (sb__reaper_sweep(many.hand.store, &many.hand.dir, &options, &result) < 0)
		die("sweep");
	cpu = cpu_ns() - cpu;
	printf(" *   %-30s %8.2f ms, %8.2f ms of CPU time, %5u actions, %5llu looked at\n", what,
	       (double)(sb__now_ns() - start) / 1e6, (double)cpu / 1e6, sb__sweep_actions(&result),
	       (unsigned long long)result.visited);
}

static void processes(void)
{
	struct sb__identity *ids;
	uint64_t start = sb__now_ns();
	size_t count;

	for (int i = 0; i < 1000; i++) {
		if (sb__store_processes(many.hand.store, &ids, &count) < 0)
			die("processes");
		free(ids);
	}
	printf(" *   one look at %4zu process records   %8.3f ms\n", count,
	       (double)(sb__now_ns() - start) / 1e9);
}

int main(int argc, char **argv)
{
	unsigned sessions = argc > 2 ? (unsigned)atoi(argv[2]) : 10000;
	unsigned count = argc > 3 ? (unsigned)atoi(argv[3]) : 1000;

	if (argc < 2 || count < 20 || count > MANY_PROCESSES_MAX)
		return 2;
	if (many_make(&many, argv[1], count, sessions))
		die("making the bridge");
	processes();
	sweep("nobody died", false);
	sweep("nobody died, with files", true);
	many_kill(&many, 0);
	sweep("one process died", false);
	for (unsigned i = 1; i <= 10; i++)
		many_kill(&many, i * count / 12);
	sweep("ten more died", false);
	many_kill(&many, 5);
	sweep("one more, with files", true);
	many_drop(&many);
	return 0;
}
