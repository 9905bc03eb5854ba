/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that run, and interrupting them. */
#ifndef SB_EMBED_CANCEL_H
#define SB_EMBED_CANCEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "gil.h"

/*
 * One execute() on its thread. Records are made at need, each of one thread's and for one depth of calls within calls; they are
 * reused and never freed, so whoever cancels reads them without a lock. What they say belongs to the word that was seen: a
 * word never comes again.
 */
struct sb__running {
	struct sb__running *next; /* among all; never changes */
	struct sb__running *below,
		*above; /* its thread's: of the call around it, of one within it; its thread only */
	_Atomic(unsigned long) thread; /* as Python numbers them; 0: nobody's now */
	_Atomic(const struct sb__table *) table;
	_Atomic uint64_t trace_id, key;
	_Atomic uint64_t word; /* SB__RUN_…, and above them a number that grows with each call */
};

#define SB__RUN_WAITS     UINT64_C(1) /* for the GIL */
#define SB__RUN_BEGUN     UINT64_C(2)
#define SB__RUN_CANCELLED UINT64_C(4)
#define SB__RUN_NUMBER    UINT64_C(8)

/* Before the GIL is taken, which may take long. NULL: no memory. The last that was added is the first to be removed. */
struct sb__running *sb__running_add(struct sb__thread *thread, const struct sb__table *table,
                                    const struct sb__call_origin *origin);
/* With the GIL: false if it was cancelled meanwhile; then nothing may run. */
bool sb__running_begin(struct sb__running *running);
/* While it runs. */
static inline bool sb__running_cancelled(const struct sb__running *running)
{
	return atomic_load_explicit(&running->word, memory_order_relaxed) & SB__RUN_CANCELLED;
}
/* With the GIL, where C code notices by itself that its call was cancelled: sets the exception now, and it comes once. */
void sb__running_interrupt(struct sb__running *running);
/* With the GIL: from now on it cannot be interrupted, and what was on its way meets no other call. */
void sb__running_remove(struct sb__thread *thread, struct sb__running *running);

/* Is the exception that is set the one by which calls are cancelled? Needs the GIL. */
bool sb__cancel_raised(void);

/* Was a call of this thread's cancelled? For waits that run no Python code, which would hear of it by itself. */
bool sb__cancel_requested(void);
/* Sets that exception. Needs the GIL. */
void sb__cancel_raise(void);

/* engine.h: cancel. */
unsigned sb__cancel(const struct sb__table *table, uint64_t trace_id, uint64_t key);

/* In a forked child: the other threads' calls are not here. */
void sb__cancel_after_fork_child(void);

#endif
