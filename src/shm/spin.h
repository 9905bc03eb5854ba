/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether to spin before parking: yes until it was in vain a few times in a row, then only now and then, until it
 * pays again. Of one thread at a time, but for a leader that has lost the lead and the one that has it: counts that are a little wrong
 * do no harm.
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
	uint32_t declined;

	if (__atomic_load_n(&spin->failures, __ATOMIC_RELAXED) < SB__SPIN_FAILURES)
		return 1;
	declined = __atomic_load_n(&spin->declined, __ATOMIC_RELAXED) + 1;
	__atomic_store_n(&spin->declined, declined, __ATOMIC_RELAXED);
	return declined % SB__SPIN_TRY == 0;
}

static inline void sb__spin_paid(struct sb__spin *spin)
{
	__atomic_store_n(&spin->failures, 0, __ATOMIC_RELAXED);
}

static inline void sb__spin_failed(struct sb__spin *spin)
{
	uint32_t failures = __atomic_load_n(&spin->failures, __ATOMIC_RELAXED);

	if (failures < SB__SPIN_FAILURES)
		__atomic_store_n(&spin->failures, failures + 1, __ATOMIC_RELAXED);
}

#endif
