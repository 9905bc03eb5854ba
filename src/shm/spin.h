/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to spin before parking: doubles when spinning paid, halves when it did not, and tries again now
 * and then. Plain memory of one thread at a time. Internal to this folder.
 */
#ifndef SB_SHM_SPIN_H
#define SB_SHM_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SB__SPIN_MAX_NS 20000u

struct sb__spin {
	uint32_t budget_ns;
	uint32_t declined; /* waits since the last try */
};

static inline void sb__spin_init(struct sb__spin *spin)
{
	*spin = (struct sb__spin){ .budget_ns = SB__SPIN_MAX_NS };
}

/* For this wait; 0: park at once. */
static inline uint32_t sb__spin_budget(struct sb__spin *spin)
{
	if (spin->budget_ns)
		return spin->budget_ns;
	if (++spin->declined % 64 == 0)
		return SB__SPIN_MAX_NS / 4;
	return 0;
}

static inline void sb__spin_paid(struct sb__spin *spin)
{
	uint32_t more = spin->budget_ns * 2 + SB__SPIN_MAX_NS / 8;

	spin->budget_ns = more < SB__SPIN_MAX_NS ? more : SB__SPIN_MAX_NS;
}

static inline void sb__spin_failed(struct sb__spin *spin)
{
	spin->budget_ns = spin->budget_ns > SB__SPIN_MAX_NS / 16 ? spin->budget_ns / 2 : 0;
}

#endif
