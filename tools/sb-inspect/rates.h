/* SPDX-License-Identifier: Apache-2.0 */
/* How often and how long sessions are called, from one look to the next. */
#ifndef SB_TOOLS_INSPECT_RATES_H
#define SB_TOOLS_INSPECT_RATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "view.h"

#define RATE_HISTORY 20 /* looks that are remembered */

struct rate {
	struct sb__session_view *view; /* NULL: of the whole bridge */
	uint64_t calls, service_ns;    /* counters at the look */
	double calls_per_s, latency_us;
	float history[RATE_HISTORY]; /* calls per second, the newest last */
};

struct rates {
	struct rate *items; /* sorted */
	size_t count;
	struct rate total;
	struct sb__overview overview;
	struct view_sessions views;
	uint64_t looked_ns;
	bool due;        /* look again at once */
	char error[256]; /* of the last look, or "": then all else is of an earlier one */
};

#define RATES_SORTS "calls latency refs idle id"

/* Looks again. What failed is in error. */
void rates_look(struct sb__inspect *inspect, struct rates *rates);
void rates_sort_next(struct rates *rates); /* goes on to the next order */
const char *rates_sort_name(void);
void rates_free(struct rates *rates);

#endif
