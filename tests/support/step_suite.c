/* SPDX-License-Identifier: Apache-2.0 */
#include "step_suite.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"

#define INSTRUCTIONS_MAX 3000000ul

static unsigned wrongs;
static char where[128];

void step_wrong(const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fprintf(stderr, "wrong (%s): %s\n", where, text);
	wrongs++;
}

unsigned step_wrongs(void)
{
	return wrongs;
}

static bool mode_is(const char *mode)
{
	const char *wanted = getenv("SB_CRASH");

	return wanted && strcmp(wanted, mode) == 0;
}

/* Every how many points one is tried. */
static size_t stride(const struct step_item *item, size_t points)
{
	size_t most = mode_is("every") ? 0 : mode_is("full") ? item->most : item->sample;

	return most && points > most ? (points + most - 1) / most : 1;
}

static int record(const struct step_item *item, const struct step_act *act, struct step_trace *ret)
{
	int err;

	snprintf(where, sizeof(where), "%s, not killed", item->name);
	if (item->before)
		item->before();
	err = step_record(act, INSTRUCTIONS_MAX, ret);
	item->after();
	if (!err && ret->whole && ret->status != 0)
		step_wrong("acting failed with status %d", ret->status);
	if (err > 0 || (!err && ret->count == 0))
		step_wrong("nothing was recorded");
	return err;
}

static unsigned kill_all(const struct step_item *item, const struct step_act *act,
                         const struct step_trace *trace, unsigned *seed)
{
	size_t every = stride(item, trace->count);
	unsigned kills = 0, failed = 0;

	for (size_t i = every > 1 ? (size_t)rand_r(seed) % every : 0; i < trace->count; i += every) {
		enum step_end end;

		snprintf(where, sizeof(where), "%s killed at point %zu of %zu, pc %#lx for the %u. time",
		         item->name, i, trace->count, (unsigned long)trace->points[i].pc,
		         trace->points[i].nth);
		if (item->before)
			item->before();
		end = step_kill(act, &trace->points[i]);
		item->after();
		kills += end == STEP_KILLED;
		failed += end == STEP_FAILED;
	}
	if (failed)
		step_wrong("%u children could not be made", failed);
	return kills;
}

static int run_item(const char *suite, const struct step_item *item, unsigned *seed)
{
	struct step_act act = { item->prepare, item->act, NULL };
	uint64_t began = sb__now_ns();
	struct step_trace trace;
	unsigned before = wrongs, kills;
	double seconds;
	int err;

	err = record(item, &act, &trace);
	if (err)
		return err < 0 ? -1 : 0;
	kills = kill_all(item, &act, &trace, seed);
	seconds = (double)(sb__now_ns() - began) / 1e9;
	printf("%-18s %8lu instructions %7zu points %7u kills %3u wrong %7.1f s\n", item->name,
	       trace.instructions, trace.count, kills, wrongs - before, seconds);
	printf("reliability: %s/%s tried=%u failed=%u seconds=%.1f\n", suite, item->name, kills,
	       wrongs - before, seconds);
	fflush(stdout);
	step_trace_free(&trace);
	return (int)kills;
}

int step_suite_run(const char *suite, const struct step_item *items, size_t count)
{
	const char *only = getenv("SB_CRASH_ITEM"), *given = getenv("SB_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
	uint64_t began = sb__now_ns();
	unsigned long total = 0;

	printf("SB_SEED=%u\n", seed);
	for (size_t i = 0; i < count; i++) {
		int kills;

		if (only ? strcmp(only, items[i].name) != 0
		         : !items[i].sample && !mode_is("full") && !mode_is("every"))
			continue;
		kills = run_item(suite, &items[i], &seed);
		if (kills < 0)
			return -1;
		total += (unsigned long)kills;
	}
	printf("%-18s %lu kills, %u wrong, %.1f s\n", "in all", total, wrongs,
	       (double)(sb__now_ns() - began) / 1e9);
	return (int)wrongs;
}
