/* SPDX-License-Identifier: Apache-2.0 */
/* Notices at once when a process of the bridge dies: for sb-reaper, and for designated owners. One thread uses it. */
#ifndef SB_REAPER_WATCH_H
#define SB_REAPER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge_dir.h"
#include "store.h"

struct sb__watch;

/* max: how many processes at most get a descriptor. NULL: no memory. */
struct sb__watch *sb__watch_new(unsigned max);
void sb__watch_free(struct sb__watch *watch);
/* In a forked child: closes the inherited descriptors, nothing else. */
void sb__watch_close(struct sb__watch *watch);

/* Keeps a pidfd for one more process. True: it is dead, and that was not reported before. */
bool sb__watch_add(struct sb__watch *watch, const struct sb__identity *identity, int life_fd);
/* The same for all that are attached now. Costs a read transaction and, for each new process, a few system calls. */
bool sb__watch_update(struct sb__watch *watch, struct sb__store *store, const struct sb__bridge_dir *dir);

enum sb__watch_result { SB__WATCH_TIMEOUT, SB__WATCH_DEATH, SB__WATCH_FD };
/* Until a watched process ends, fd is readable, or the time is over (-1: never). died, unless NULL, is told which. Where
 * the system cannot wait for so many, it waits for fd alone, for a moment. */
enum sb__watch_result sb__watch_wait(struct sb__watch *watch, int fd, int timeout_ms,
                                     void (*died)(void *arg, uint32_t slot, uint32_t generation), void *arg);

#endif
