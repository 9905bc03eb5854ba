/* SPDX-License-Identifier: Apache-2.0 */
/* One pass of the reaper: snapshot, plan, execution. Any process may do it, several at once too. */
#ifndef SB_REAPER_SWEEP_H
#define SB_REAPER_SWEEP_H

#include "bridge_dir.h"
#include "plan.h"

struct sb__sweep_options {
	bool dry_run; /* report the plan, change nothing */
	bool files; /* look for orphan files and earlier boots too: by far the dearest part, linear in sessions */
	const struct sb__identity
		*only;      /* tidy up after this process, if it is dead, and do nothing else; NULL: all */
	uint32_t budget_ms; /* stop after about this long; 0: no limit */
	uint32_t dead_max;  /* tidy up after so many dead processes, from anywhere among them; 0: after all */
	/* Called after each action that was done or failed (verdict->code, with the error record set), in a
	 * dry run for each that would be. May be NULL. */
	void (*report)(void *arg, const struct sb__verdict *verdict);
	void *arg;
};

struct sb__sweep_result {
	uint32_t counts[SB__VERDICT_KINDS]; /* done; in a dry run: planned */
	uint32_t failed;
	bool complete; /* nothing was left for lack of time: else call again */
	bool damaged;  /* a record or mailbox could not be read: SB__VERDICT_RECORD_UNREADABLE was reported */
	uint64_t visited; /* records and files that the snapshot looked at */
	uint64_t elapsed_ms;
};

/* How many actions that changed something. */
uint32_t sb__sweep_actions(const struct sb__sweep_result *result);

/*
 * Tidies what dead processes, expired sessions and earlier boots left. Each verdict is checked again when it
 * is executed and is idempotent; a sweep that is killed leaves a bridge that the next sweep finishes. What was
 * done is posted to the bridge's ring of events. 0, or
 * the error that kept it from making a snapshot: SB_ENOMEM, SB_ESTORE, SB_ESYSTEM, SB_ECORRUPT.
 */
int sb__reaper_sweep(struct sb__store *store, const struct sb__bridge_dir *dir,
                     const struct sb__sweep_options *options, struct sb__sweep_result *ret);

#endif
