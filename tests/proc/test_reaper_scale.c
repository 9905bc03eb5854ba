/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sweep costs grows with what died, not with what lives: shown by counting what was looked at, so that
 * no busy machine can upset it. bench/reaper_scale.c takes the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fixture.h"
#include "many.h"
#include "sweep.h"

#define PROCESSES 100
#define DEAD      2

struct outcome {
	uint64_t idle, death, second, with_files;
	uint32_t actions;
};

static struct sb__sweep_result sweep(struct many *many, bool files)
{
	struct sb__sweep_options options = { .files = files };
	struct sb__sweep_result result;

	assert_ok(sb__reaper_sweep(many->hand.store, &many->hand.dir, &options, &result));
	assert_true(result.complete);
	assert_int_equal(result.failed, 0);
	return result;
}

static struct outcome measure(unsigned sessions)
{
	struct many *many = malloc(sizeof(*many));
	struct sb__sweep_result result;
	struct outcome outcome;
	char dir[256];

	fixture_dir_make(dir, sizeof(dir));
	assert_ok(many_make(many, dir, PROCESSES, sessions));
	result = sweep(many, false);
	assert_int_equal(sb__sweep_actions(&result), 0);
	outcome.idle = result.visited;
	many_kill(many, 0);
	many_kill(many, 50);
	result = sweep(many, false);
	assert_int_equal(result.counts[SB__VERDICT_PROCESS_DEAD], DEAD);
	assert_int_equal(result.counts[SB__VERDICT_SESSION_ORPHANED], DEAD * sessions / PROCESSES);
	assert_int_equal(result.counts[SB__VERDICT_OWNER_REMOVED], DEAD * 2 * sessions / PROCESSES);
	outcome.death = result.visited;
	outcome.actions = sb__sweep_actions(&result);
	outcome.second = sweep(many, false).visited;
	result = sweep(many, true);
	assert_int_equal(result.counts[SB__VERDICT_FILE_REMOVED], 0); /* the orphaned ones' went with them */
	outcome.with_files = result.visited;
	many_drop(many);
	free(many);
	fixture_dir_remove(dir);
	return outcome;
}

static void a_sweep_looks_at_what_died_only(void **state)
{
	struct outcome small = measure(200), large = measure(2000);

	(void)state;
	print_message("200 sessions: %u looked at when nobody died, %u for %u actions, %u with files\n",
	              (unsigned)small.idle, (unsigned)small.death, small.actions, (unsigned)small.with_files);
	print_message("2000 sessions: %u looked at when nobody died, %u for %u actions, %u with files\n",
	              (unsigned)large.idle, (unsigned)large.death, large.actions, (unsigned)large.with_files);
	/* Nobody died: one record per process, no session, however many there are. */
	assert_int_equal(small.idle, PROCESSES);
	assert_int_equal(large.idle, PROCESSES);
	assert_int_equal(small.second, PROCESSES - DEAD);
	assert_int_equal(large.second, PROCESSES - DEAD);
	/* Some died: what hung on them, a few looks each. */
	assert_true(small.death <= PROCESSES + 4 * small.actions);
	assert_true(large.death <= PROCESSES + 4 * large.actions);
	assert_true(large.death < 2000);
	/* Only the file pass looks at all sessions. */
	assert_true(large.with_files > 3 * 1900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sweep_looks_at_what_died_only),
	};

	return cmocka_run_group_tests_name("reaper scale", tests, NULL, NULL);
}
