/* SPDX-License-Identifier: Apache-2.0 */
/* Starting or finding the interpreter, and holding the GIL. */
#ifndef SB_EMBED_GIL_H
#define SB_EMBED_GIL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>

#include "engine.h"

/* What a thread knows of itself. */
struct sb__thread {
	bool batch; /* between batch_begin() and batch_end(): it holds the GIL, unless code that it calls has let go of it */
	PyGILState_STATE state;
	PyThreadState *python;
	PyThreadState *own;               /* the state that this file made for the thread; NULL: none */
	uint64_t since_ms;                /* when it took the GIL, or last offered it */
	const struct sb__table *framed;   /* whose frame is around what it does; frame.h */
	struct sb__running *bottom, *top; /* records of its calls, the lowest and the one in use; cancel.h */
	Py_ssize_t modules_seen;          /* how many there were when it looked for NumPy; npalloc.c */
};
struct sb__thread *sb__thread(void); /* this thread's; a call, so ask once */

/* A GIL that was taken; give it back by sb__gil_leave() on the same thread. */
struct sb__gil {
	struct sb__thread *thread;
	PyGILState_STATE state;
	enum {
		SB__GIL_ENSURED, /* by PyGILState_Ensure() */
		SB__GIL_TAKEN,   /* with the thread's own state */
		SB__GIL_HAD      /* before: by a batch, or by a call around this one */
	} how;
};

/* Takes the GIL, also where this thread holds it already. The interpreter must be usable. */
struct sb__gil sb__gil_enter(void);
struct sb__gil sb__gil_enter_as(struct sb__thread *thread); /* sb__thread() */
void sb__gil_leave(struct sb__gil gil);
/* Between two items of work: gives it up for a moment if this thread has had it for some milliseconds. */
void sb__gil_breathe(void);

/* engine.h: thread_begin, batch_begin, batch_end. */
void sb__gil_thread_begin(void);
bool sb__gil_batch_begin(void);
void sb__gil_batch_end(void);

/* engine.h: gil_release, gil_restore. */
void *sb__gil_release(void);
void sb__gil_restore(void *state);

/* Is the interpreter running and not on its way out? Says nothing about forks. */
bool sb__python_alive(void);

/* Why Python cannot be used in this process now: a sentence, or NULL if it can. */
const char *sb__python_unusable(void);

/* engine.h: start. */
int sb__python_start(const struct sb__engine_options *options, char *error, size_t size);

/* engine.h: before_fork, after_fork_parent, after_fork_child. */
void sb__python_before_fork(void);
void sb__python_after_fork_parent(void);
void sb__python_after_fork_child(void);

/* Gives up the GIL of an interpreter that this thread has just made. */
void sb__gil_made(void);

/* Makes the pthread key that clears a thread's state at its end. Once, before Python
 * starts, see gil.c. 0 or an errno. */
int sb__gil_prepare(void);

#endif
