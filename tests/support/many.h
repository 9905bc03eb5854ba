/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge with many processes and sessions, made from the lower layers in this one process: each process
 * record has a life token of its own, so each can die alone. Uses no CMocka. All functions return 0 or an error.
 */
#ifndef SB_TESTS_MANY_H
#define SB_TESTS_MANY_H

#include "hand.h"

#define MANY_PROCESSES_MAX 1024

struct many {
	struct hand hand; /* only opens the bridge */
	unsigned processes;
	struct {
		struct sb__identity identity;
		void *pin;
	} process[MANY_PROCESSES_MAX];
};

/* sessions are dealt out to the processes in turn, as "s0", "s1" …: each is designated owner and an owner,
 * and the next process is another owner. Their mailboxes and ref files are empty files of the right names. */
int many_make(struct many *many, const char *dir, unsigned processes, unsigned sessions);
/* Lets go of the life token of a process: it is dead for everybody. */
void many_kill(struct many *many, unsigned process);
void many_drop(struct many *many); /* closes; the directory stays */

#endif
