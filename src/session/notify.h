/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching calls in flight that no thread waits for: that their owner takes them up though its leader hangs in another
 * call, and that a descriptor becomes readable when they end.
 */
#ifndef SB_SESSION_NOTIFY_H
#define SB_SESSION_NOTIFY_H

#include "mailbox.h"

struct sb__watcher;

struct sb__watch {
	struct sb__watch *next;
	struct sb__watcher *by;   /* NULL: not watched (any more) */
	struct sb__flight flight; /* a copy: observed only */
	int fd;                   /* set once when it has ended; -1: only hurried on */
	bool taken;               /* it needs no hurrying any more */
	uint64_t hurry_ns, slice_ns;
};

/* Begins, until the call has been taken up (fd -1) or has ended. watch must stay until sb__watch_stop(). SB_ESYSTEM or
 * SB_ENOMEM: no thread can be had. */
int sb__watch_start(struct sb__watch *watch, const struct sb__flight *flight, int fd);
/* Afterwards nobody looks at it any more. Fine if it is not watched. */
void sb__watch_stop(struct sb__watch *watch);

/* No bridge is open: the threads that there are end, to be joined. Watches that are started from now on have others. */
struct sb__watcher *sb__notify_end(void);
void sb__notify_join(struct sb__watcher *ended); /* no lock held; NULL: none */
/* Around fork(): after the locks of core.c. A child has no such threads, and watches nothing of its parent's. */
void sb__notify_before_fork(void);
void sb__notify_after_fork(bool child);

#endif
