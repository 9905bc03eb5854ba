/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills a child at chosen instructions. A child is forked off, prepares itself, and acts; a first run is single-stepped and
 * gives the list of instructions that acting consists of. Each later run is the same child again, killed at one of
 * them: by a breakpoint there, so that the ten-thousandth instruction costs little more than the first.
 *
 * Single-stepping sees the thread that acts; others of the same process run. Where a breakpoint meets one of these, the
 * process dies there, too.
 */
#ifndef SB_TESTS_STEP_H
#define SB_TESTS_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct step_act {
	int (*prepare)(void *arg); /* may be NULL; not 0: the child gives up */
	int (*act)(void *arg);     /* what is stepped through */
	void *arg;
};

struct step_point {
	uintptr_t pc;
	unsigned nth; /* 1: the first time that it comes there */
};

struct step_trace {
	struct step_point *points; /* in the order of execution; of loops the first rounds only */
	size_t count;
	unsigned long instructions; /* all that were executed */
	bool whole;                 /* acting came to its end within that many */
	int status;                 /* what act returned, if whole */
};

/* Runs it once, for at most so many instructions. 0; 1: it failed before it acted; -1: this machine does not let one process trace
 * another. */
int step_record(const struct step_act *act, unsigned long most, struct step_trace *ret);
void step_trace_free(struct step_trace *trace);

enum step_end { STEP_KILLED, STEP_ENDED, STEP_FAILED };

/* Runs it and kills it before the instruction of that point. STEP_ENDED: it never came there. Waits until it is dead.
 * meanwhile (may be NULL) is called in this process once the child has begun to act. */
enum step_end step_kill(const struct step_act *act, const struct step_point *point);

/* A step is two switches between tracer and child: cheap only on one CPU. Undone by step_any_cpu(). */
void step_one_cpu(void);
void step_any_cpu(void);

#endif
