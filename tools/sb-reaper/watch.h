/* SPDX-License-Identifier: Apache-2.0 */
/* Notices at once when a process of the bridge dies. */
#ifndef SB_TOOLS_REAPER_WATCH_H
#define SB_TOOLS_REAPER_WATCH_H

#include <stdbool.h>

#include "bridge_dir.h"
#include "store.h"

struct watch;

struct watch *watch_new(void); /* NULL: no memory */
void watch_free(struct watch *watch);

/* Looks which processes are attached, and keeps a pidfd for each. True: one is dead that was not reported
 * before. Costs a read transaction and, for each new process, a few system calls. */
bool watch_update(struct watch *watch, struct sb__store *store, const struct sb__bridge_dir *dir);

enum watch_result { WATCH_TIMEOUT, WATCH_DEATH, WATCH_SIGNAL };
/* Until a watched process ends, signals (a descriptor) is readable, or the time is over. */
enum watch_result watch_wait(struct watch *watch, int signals, int timeout_ms);

#endif
