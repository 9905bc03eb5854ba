/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Point 31 at length: SB_KILL_ROUNDS (default 1,000) rounds of eight forked workers, of which a random one is killed
 * by SIGKILL at a random moment. No reaper runs meanwhile; one pass at the end leaves nothing of the dead.
 * SB_SEED repeats a run; the seed is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "rounds.h"

static void test_31_thousand_rounds_of_killed_workers(void **state)
{
	long rounds = rounds_number(1000);
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	rounds_run(*state, rounds, rounds_seed());
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("reliability: kill-rounds/rounds tried=%ld failed=0 seconds=%ld\n", rounds,
	              (long)(b.tv_sec - a.tv_sec));
	print_message("%.1f ms a round\n",
	              ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6) /
	                      (double)rounds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_31_thousand_rounds_of_killed_workers, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("kill_rounds", tests, NULL, NULL);
}
