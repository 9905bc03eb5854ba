/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a table of acts through step.h: each is recorded once, then killed at its instructions one by one.
 *
 * SB_CRASH unset: a sample of each, for every day. full: all points of short acts, thousands of the long ones. every: all of
 * all. A sample begins at a random point; SB_SEED repeats it.
 */
#ifndef SB_TESTS_STEP_SUITE_H
#define SB_TESTS_STEP_SUITE_H

#include "step.h"

struct step_item {
	const char *name;
	void (*before)(void); /* in this process, each time; may be NULL */
	int (*prepare)(void *arg);
	int (*act)(void *arg);
	void (*after)(void); /* it is dead: tidies, checks */
	unsigned sample;     /* kills in the everyday run; 0: not in that */
	unsigned most;       /* in the full run; 0: all */
};

/* Something is not as it must be; printed with where the child was killed. */
void step_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned step_wrongs(void);
/* Prints a table and the lines for docs/reliability.md. Returns what was wrong; -1: no process can be traced here. */
int step_suite_run(const char *suite, const struct step_item *items, size_t count);

#endif
