/* SPDX-License-Identifier: Apache-2.0 */
/* The Python frame that calls of a session run in. Both need the GIL. */
#ifndef SB_EMBED_FRAME_H
#define SB_EMBED_FRAME_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Calls function with count arguments and keywords (a dict, or NULL). *frame is the session's, made at its first call;
 * items[-1] may be overwritten meanwhile. A new reference, or NULL and an exception. */
PyObject *sb__frame_call(PyObject **frame, PyObject *function, PyObject **items, size_t count,
                         PyObject *keywords);
void sb__frame_free(PyObject **frame);

#endif
