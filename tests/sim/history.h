/* SPDX-License-Identifier: Apache-2.0 */
/* One random history, and what the contract allows in it. */
#ifndef SB_TESTS_SIM_HISTORY_H
#define SB_TESTS_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

struct history_tally { /* of uint64_t only: they are summed up */
	uint64_t steps, switches, calls, values, exceptions, refused, unknown, opens, elections, kills, stops,
		jumps, sweeps, futures, oneways, arrays, batches, callbacks;
};

struct history {
	uint64_t seed;
	bool tell; /* print what happens */
	uint64_t hash;
	char wrong[256]; /* the first thing that the contract does not allow; "" if there is none */
	struct history_tally tally;
};

void history_run(struct history *h);

#endif
