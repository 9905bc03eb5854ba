/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds of forked workers of which one is killed, and the proof that nothing of the dead is left. */
#ifndef SB_TESTS_ROUNDS_H
#define SB_TESTS_ROUNDS_H

#include "fixture.h"

long rounds_number(long otherwise); /* $SB_KILL_ROUNDS */
unsigned rounds_seed(void);         /* $SB_SEED, else the time */

/* Each round forks eight that call one object of a dedicated owner, and kills a random one at a random moment. */
void rounds_run(struct fixture *f, long rounds, unsigned seed);

/* One pass of sb-reaper, then sb-inspect --json has zeros where the dead are counted. */
void rounds_assert_clean(struct fixture *f);

#endif
