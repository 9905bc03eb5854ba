/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differences between looks. Counters belong to an incarnation: another one begins anew.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include "rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"

/* ── order ── */

static const char *const orders[] = { "calls", "latency", "refs", "idle", "id" };

const char *rates_sort_name(void)
{
	return view_filter.sort ? view_filter.sort : orders[0];
}

static double number_of(const struct rate *rate)
{
	const char *key = rates_sort_name();

	if (strcmp(key, "calls") == 0)
		return rate->calls_per_s;
	if (strcmp(key, "latency") == 0)
		return rate->calls_per_s > 0 ? rate->latency_us : 0;
	if (strcmp(key, "refs") == 0)
		return (double)rate->view->mailbox.live_refs;
	if (strcmp(key, "idle") == 0)
		return (double)rate->view->idle_ms;
	return 0;
}

static int by_order(const void *a, const void *b)
{
	double x = number_of(a), y = number_of(b);

	if (x > y || x < y)
		return x < y ? 1 : -1;
	return strcmp(((const struct rate *)a)->view->rec.session_id,
	              ((const struct rate *)b)->view->rec.session_id);
}

static int by_incarnation(const void *a, const void *b)
{
	uint64_t x = ((const struct rate *)a)->view->rec.incarnation,
		 y = ((const struct rate *)b)->view->rec.incarnation;

	return (x > y) - (x < y);
}

static void sort(struct rate *items, size_t count, int (*order)(const void *a, const void *b))
{
	if (count)
		qsort(items, count, sizeof(*items), order);
}

void rates_sort_next(struct rates *rates)
{
	size_t count = sizeof(orders) / sizeof(orders[0]), at = 0;

	while (at < count && strcmp(orders[at], rates_sort_name()) != 0)
		at++;
	view_filter.sort = orders[(at + 1) % count];
	sort(rates->items, rates->count, by_order);
}

/* ── rates ── */

/* now has its counters; before: the same at the look before, or NULL. */
static void compare(struct rate *now, const struct rate *before, double seconds)
{
	uint64_t calls, service_ns;

	if (!before || seconds <= 0 || now->calls < before->calls)
		return;
	calls = now->calls - before->calls;
	service_ns = now->service_ns > before->service_ns ? now->service_ns - before->service_ns : 0;
	now->calls_per_s = (double)calls / seconds;
	now->latency_us = calls ? (double)service_ns / (double)calls / 1000 : 0;
	memcpy(now->history, before->history + 1, sizeof(now->history) - sizeof(now->history[0]));
	now->history[RATE_HISTORY - 1] = (float)now->calls_per_s;
}

/* The sum over sessions that there are in both looks: those that ended took their counters with them. */
static void sum_up(struct rates *rates, const struct rate *items, size_t count)
{
	struct rate *total = &rates->total;
	double busy_us = 0;

	total->calls_per_s = 0;
	for (size_t i = 0; i < count; i++) {
		total->calls_per_s += items[i].calls_per_s;
		busy_us += items[i].calls_per_s * items[i].latency_us;
	}
	total->latency_us = total->calls_per_s > 0 ? busy_us / total->calls_per_s : 0;
	memmove(total->history, total->history + 1, sizeof(total->history) - sizeof(total->history[0]));
	total->history[RATE_HISTORY - 1] = (float)total->calls_per_s;
}

static void take(struct rates *rates, struct view_sessions *views, struct rate *items, uint64_t now_ns)
{
	double seconds = rates->looked_ns ? (double)(now_ns - rates->looked_ns) / 1e9 : 0;

	sort(rates->items, rates->count, by_incarnation);
	for (size_t i = 0; i < views->count; i++) {
		const struct rate *before = NULL;

		items[i] = (struct rate){ .view = views->items[i],
			                  .calls = views->items[i]->mailbox.calls,
			                  .service_ns = views->items[i]->mailbox.service_ns };
		if (rates->count)
			before = bsearch(&items[i], rates->items, rates->count, sizeof(*items),
			                 by_incarnation);
		compare(&items[i], before, seconds);
	}
	sum_up(rates, items, views->count);
	sort(items, views->count, by_order);
	free(rates->items);
	view_sessions_free(&rates->views);
	rates->items = items;
	rates->count = views->count;
	rates->views = *views;
	rates->looked_ns = now_ns;
}

void rates_look(struct sb__inspect *inspect, struct rates *rates)
{
	struct view_sessions views = { .inspect = inspect };
	struct sb__overview overview;
	struct rate *items = NULL;
	int r = sb__inspect_overview_sessions(inspect, &overview, view_sessions_keep, &views);

	rates->error[0] = '\0';
	if (r >= 0)
		items = calloc(views.count + 1, sizeof(*items));
	if (r < 0 || views.failed || !items) {
		snprintf(rates->error, sizeof(rates->error), "%s",
		         r < 0 ? sb_last_error()->message : "out of memory");
		view_sessions_free(&views);
		free(items);
		return;
	}
	rates->overview = overview;
	take(rates, &views, items, sb__now_ns());
}

void rates_free(struct rates *rates)
{
	free(rates->items);
	view_sessions_free(&rates->views);
	rates->items = NULL;
	rates->count = 0;
}
