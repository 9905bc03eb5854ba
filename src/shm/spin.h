/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether to spin before parking: yes until it was in vain a few times in a row, then only now and then, until it
 * pays again. Plain memory of one thread at a time.
 */
#ifndef SB_SHM_SPIN_H
#define SB_SHM_SPIN_H

#include <stdint.h>

#define SB__SPIN_NS       20000u /* for a peer that is awake */
#define SB__SPIN_WOKEN_NS 60000u /* for a peer that was just woken, which takes longer than its work */
#define SB__SPIN_FAILURES 4u     /* in a row, then park at once */
#define SB__SPIN_TRY      64u    /* one wait in so many tries again */

struct sb__spin {
	uint32_t failures; /* in a row */
	uint32_t declined; /* waits without spinning since then */
};

/* Worth it for this wait? */
static inline _Bool sb__spin_try(struct sb__spin *spin)
{
	return spin->failures < SB__SPIN_FAILURES || ++spin->declined % SB__SPIN_TRY == 0;
}

static inline void sb__spin_paid(struct sb__spin *spin)
{
	spin->failures = 0;
}

static inline void sb__spin_failed(struct sb__spin *spin)
{
	if (spin->failures < SB__SPIN_FAILURES)
		spin->failures++;
}

#endif
