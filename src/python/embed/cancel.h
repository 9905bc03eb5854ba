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

/* One execute() on its thread's stack. */
struct sb__running {
	struct sb__running *next;
	const struct sb__table *table;
	uint64_t trace_id, key;
	unsigned long thread;   /* as Python numbers them */
	_Atomic unsigned state; /* SB__RUN_… */
};

#define SB__RUN_BEGUN     1u
#define SB__RUN_CANCELLED 2u

/* Before the GIL is taken, which may take long. */
void sb__running_add(struct sb__running *running, const struct sb__table *table,
                     const struct sb__call_origin *origin);
/* With the GIL: false if it was cancelled meanwhile; then nothing may run. */
bool sb__running_begin(struct sb__running *running);
/* While it runs. */
static inline bool sb__running_cancelled(const struct sb__running *running)
{
	return atomic_load_explicit(&running->state, memory_order_relaxed) & SB__RUN_CANCELLED;
}
/* With the GIL, where C code notices by itself that its call was cancelled: sets the exception now, and it comes once. */
void sb__running_interrupt(struct sb__running *running);
/* With the GIL: from now on it cannot be interrupted, and what was on its way meets no other call. */
void sb__running_remove(struct sb__running *running);

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
