/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that dead processes keep: finds and lets go of them. */
#ifndef SB_REAPER_HOLDS_SWEEP_H
#define SB_REAPER_HOLDS_SWEEP_H

#include "bridge_dir.h"
#include "store.h"

/* Clears the holds of processes that are dead in all tables of the bridge. reclaimed: have the lanes of a dead process that still
 * has its record been taken back? If not, its holds are left for another time. told (may be NULL) hears of each process and
 * table. arg is told's. 0, SB_ESTORE, SB_ENOMEM, SB_ESYSTEM. */
int sb__reaper_drop_holds(struct sb__store *store, const struct sb__bridge_dir *dir, bool dry_run,
                          bool (*reclaimed)(void *arg, uint32_t slot, uint32_t generation),
                          void *reclaimed_arg,
                          void (*told)(void *arg, uint32_t slot, uint32_t generation, uint32_t count),
                          void *arg);

#endif
