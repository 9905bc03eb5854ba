/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays: Python's buffers ⇄ messages and shared memory; NumPy's memory. All with the GIL unless said otherwise. */
#ifndef SB_EMBED_ARRAYS_H
#define SB_EMBED_ARRAYS_H

#include "array.h"
#include "convert.h"

/* ── buffer.c: arguments ── */

/* After the tag: an ndarray, memoryview or array.array. A new reference, or NULL and the reason in why. One in shared memory
 * is kept as long as anything that looks into it. */
PyObject *sb__array_decode(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why);

/* ── ndarray.c: results ── */

/* 1: object is an array and was written; 0: it is none, or has no value form; or an error. view: share its memory
 * instead of copying it. */
int sb__array_put(struct sb__call *call, PyObject *object, bool view, struct sb__buf *buf,
                  struct sb__why *why);

/* ── npalloc.c: NumPy's memory in the arena ── */

/* These blocks, from so many bytes on. Without the GIL. */
void sb__npalloc_use(const struct sb__blocks *blocks, uint64_t least);
/* If NumPy is there, this thread's new arrays get their memory from us from now on. Cheap. */
struct sb__thread;
void sb__npalloc_install(struct sb__thread *thread);

#endif
