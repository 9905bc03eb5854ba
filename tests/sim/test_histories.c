/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random histories of several simulated processes on one bridge, against the contract: they open, join, call, pass refs on, close,
 * release and idle, while processes are killed and stopped at any step, the wall clock is set, and the machine stands
 * still for a while. docs/design/simulation.md says what is real and what is not.
 *
 * SB_SIM_HISTORIES=n  how many (default 20000)     SB_SIM_FIRST=s  the first seed (default 1); they go up by one
 * SB_SIM_SEED=s       only that one, telling what happens
 * The same seed is the same history: its hash says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core.h"
#include "history.h"
#include "sim.h"
#include "sim_bridge.h"

static double seconds_since(const struct timespec *begin)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - begin->tv_sec) + (double)(now.tv_nsec - begin->tv_nsec) / 1e9;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void add(struct history_tally *sum, const struct history_tally *one)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)one;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
}

static void tell_tally(const struct history_tally *t)
{
	const struct {
		uint64_t count;
		const char *of;
	} all[] = {
		{ t->steps, "steps" },
		{ t->switches, "switches" },
		{ t->calls, "calls" },
		{ t->futures, "of them in flight" },
		{ t->oneways, "one-way calls" },
		{ t->batches, "batches" },
		{ t->callbacks, "functions run" },
		{ t->arrays, "done with arrays" },
		{ t->values, "values" },
		{ t->exceptions, "exceptions" },
		{ t->refused, "refused" },
		{ t->unknown, "unknown" },
		{ t->opens, "opens" },
		{ t->elections, "elections" },
		{ t->kills, "kills" },
		{ t->stops, "stops" },
		{ t->jumps, "clocks set" },
		{ t->sweeps, "sweeps" },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		printf("%s %llu %s", i ? "," : "", (unsigned long long)all[i].count, all[i].of);
	printf("\n");
}

static void every_history_is_allowed(void **state)
{
	uint64_t first = from_environment("SB_SIM_FIRST", 1), only = from_environment("SB_SIM_SEED", 0);
	uint64_t count = only ? 1 : from_environment("SB_SIM_HISTORIES", 20000), failed = 0;
	struct history_tally sum = { 0 };
	struct timespec begin;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (uint64_t i = 0; i < count; i++) {
		struct history h = { .seed = only ? only : first + i, .tell = only != 0 };

		history_run(&h);
		add(&sum, &h.tally);
		if (only)
			printf("seed %llu: hash %016llx, %llu steps\n", (unsigned long long)h.seed,
			       (unsigned long long)h.hash, (unsigned long long)h.tally.steps);
		if (h.wrong[0] && failed++ < 10)
			printf("seed %llu: %s; again with SB_SIM_SEED=%llu\n", (unsigned long long)h.seed,
			       h.wrong, (unsigned long long)h.seed);
	}
	printf("%llu histories from seed %llu:", (unsigned long long)count,
	       (unsigned long long)(only ? only : first));
	tell_tally(&sum);
	printf("reliability: simulation/histories tried=%llu failed=%llu seconds=%.1f\n",
	       (unsigned long long)count, (unsigned long long)failed, seconds_since(&begin));
	assert_int_equal(failed, 0);
}

static void the_same_seed_is_the_same_history(void **state)
{
	(void)state;
	for (uint64_t seed = 1000; seed < 1100; seed++) {
		struct history a = { .seed = seed }, b = { .seed = seed }, other = { .seed = seed + 1 };

		history_run(&a);
		history_run(&other); /* what comes between changes nothing */
		history_run(&b);
		assert_int_equal(a.hash, b.hash);
		assert_int_equal(a.tally.steps, b.tally.steps);
		assert_int_not_equal(a.hash, other.hash);
	}
}

static void finds(int bug, uint64_t at_most)
{
	uint64_t seed = 1;
	char wrong[sizeof(((struct history *)0)->wrong)] = "";

	sim.bug = bug;
	for (; seed <= at_most && !wrong[0]; seed++) {
		struct history h = { .seed = seed };

		history_run(&h);
		memcpy(wrong, h.wrong, sizeof(wrong));
	}
	sim.bug = SIM_BUG_NONE;
	printf("%s: found by history %llu: %s\n", sim_bug_names[bug], (unsigned long long)seed - 1, wrong);
	assert_true(wrong[0] != '\0');
}

static void seeded_mistakes_are_found(void **state)
{
	(void)state;
	finds(SIM_BUG_STOPPED_IS_DEAD, 5000);
	finds(SIM_BUG_PID_IS_IDENTITY, 5000);
	finds(SIM_BUG_WALL_CLOCK, 5000);
	finds(SIM_BUG_END_UNTOLD, 5000);
	finds(SIM_BUG_UNTOUCHED, 5000);
	finds(SIM_BUG_HOLD_UNTAKEN, 5000);
	finds(SIM_BUG_HOLD_OF_DEAD, 5000);
	finds(SIM_BUG_LANE_OF_DEAD, 5000);
	finds(SIM_BUG_ITEM_RUNS_ON, 5000);
	finds(SIM_BUG_ANSWER_STANDS, 5000);
}

static int group_setup(void **state)
{
	(void)state;
	sim_bridge_make();
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	sim_bridge_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_history_is_allowed),
		cmocka_unit_test(the_same_seed_is_the_same_history),
		cmocka_unit_test(seeded_mistakes_are_found),
	};
	const struct CMUnitTest one[] = { cmocka_unit_test(every_history_is_allowed) };
	bool only = getenv("SB_SIM_SEED") || getenv("SB_SIM_HISTORIES");

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (only)
		return cmocka_run_group_tests_name("histories", one, group_setup, group_teardown);
	return cmocka_run_group_tests_name("histories", tests, group_setup, group_teardown);
}
