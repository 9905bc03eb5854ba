/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge on which one process after another is killed, with a bystander that must never notice, and the question that is
 * asked after each death: does one pass of the reaper leave everything as it was before?
 *
 * Uses no CMocka: what is wrong is printed and counted.
 */
#ifndef SB_TESTS_CRASH_WORLD_H
#define SB_TESTS_CRASH_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hand.h"
#include "snakebridge/snakebridge.h"
#include "snapshot.h"

struct crash_world {
	char dir[256];
	sb_bridge *bridge;     /* of this process, which calls the bystander */
	sb_session *bystander; /* served by a process that nobody kills */
	pid_t bystander_pid;
	struct hand hand; /* what this process sweeps with; attached only by who needs it */
	struct sb__inspect *inspect;
	char *files;       /* what was there before */
	size_t processes;  /* records then */
	uint64_t sessions; /* and sessions */
	int to_victim[2], to_parent[2];

	unsigned tried, wrong; /* deaths; what was found wrong */
	uint64_t worst_ns;     /* that a bystander's call took */
	char context[160];     /* printed with what is wrong */
};

/* 0, or the process is in no state to go on. */
int crash_world_open(struct crash_world *w);
void crash_world_close(struct crash_world *w);
/* What is there now is what must be there after each death. */
void crash_world_baseline(struct crash_world *w);

void crash_wrong(struct crash_world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "echo" through a session; false (and counted as wrong) unless the answer is right. */
bool crash_call(struct crash_world *w, sb_session *session, const char *who);
void crash_bystander_call(struct crash_world *w);
/* One pass of the reaper, then: nothing to find, nothing left over, nothing missing. The bystander first. */
void crash_check(struct crash_world *w);

/* The parts of that: one pass; and what differs from the baseline, said in text, empty if nothing does. */
void crash_sweep(struct crash_world *w);
void crash_compare(struct crash_world *w, char text[400]);

/* Pipes between this process and a victim that is to be forked off: each end closes with its process. */
void crash_pipes(struct crash_world *w);
void crash_pipes_in_victim(struct crash_world *w);
void crash_pipes_in_parent(struct crash_world *w);
void crash_pipes_close(struct crash_world *w);
bool crash_tell(int fd[2]);
bool crash_hear(int fd[2]); /* false: its other end is gone */

/* Prints the line that docs/reliability.md is made of. */
void crash_report(const char *suite, const char *item, unsigned long tried, unsigned long failed,
                  uint64_t began_ns);

#endif
