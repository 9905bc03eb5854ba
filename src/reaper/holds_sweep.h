/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that dead processes keep: finds and lets go of them. */
#ifndef SB_REAPER_HOLDS_SWEEP_H
#define SB_REAPER_HOLDS_SWEEP_H

#include "bridge_dir.h"
#include "store.h"

/* Clears the holds of processes that are dead in all tables of the bridge. told (may be NULL) hears of each process and table.
 * 0, SB_ESTORE, SB_ENOMEM, SB_ESYSTEM. */
int sb__reaper_drop_holds(struct sb__store *store, const struct sb__bridge_dir *dir, bool dry_run,
                          void (*told)(void *arg, uint32_t slot, uint32_t generation, uint32_t count), void *arg);

#endif
