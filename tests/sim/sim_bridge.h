/* SPDX-License-Identifier: Apache-2.0 */
/* The one bridge of the simulation: a real directory for the session store, everything else in memory. */
#ifndef SB_TESTS_SIM_BRIDGE_H
#define SB_TESTS_SIM_BRIDGE_H

#include "bridge_dir.h"
#include "store.h"

void sim_bridge_make(void);                      /* once per program */
void sim_bridge_remove(void);                    /* at its end */
struct sb__store *sim_bridge_store(void);        /* the program's own handle */
void sim_bridge_dir(struct sb__bridge_dir *ret); /* as sb__bridge_dir_open() fills it in */

#endif
