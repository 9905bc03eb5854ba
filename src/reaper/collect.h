/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the snapshot that a plan is made from. Reads only. */
#ifndef SB_REAPER_COLLECT_H
#define SB_REAPER_COLLECT_H

#include "bridge_dir.h"
#include "plan.h"
#include "visit.h"

struct sb__collect_options {
	bool files; /* list files too, which costs by how many there are, not by what died */
	const struct sb__identity
		*only;        /* what hangs on this process, if it is dead, and nothing else; NULL: all */
	uint64_t deadline_ms; /* sb__now_ms() after which no further dead process is gathered; 0: none */
	uint32_t dead_max;    /* gather so many dead processes, from anywhere among them; 0: all */
	struct sb__visitor *visitor; /* to look into mailboxes with; stays in the last that was entered */
};

/*
 * Fills *ret (freed with sb__reaper_snapshot_free, also after an error). What cannot be read becomes a
 * trouble in the snapshot, and what depends on it is left out. *ret_complete: nothing was left for lack of
 * time. 0, or the error that stopped it: SB_ENOMEM, SB_ESTORE, SB_ESYSTEM.
 */
int sb__reaper_collect(struct sb__store *store, const struct sb__bridge_dir *dir,
                       const struct sb__collect_options *options, struct sb__reaper_snapshot *ret,
                       bool *ret_complete);
void sb__reaper_snapshot_free(struct sb__reaper_snapshot *snapshot);

#endif
