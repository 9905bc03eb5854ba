/* SPDX-License-Identifier: Apache-2.0 */
/* The Python frame that calls of a session run in. All need the GIL. */
#ifndef SB_EMBED_FRAME_H
#define SB_EMBED_FRAME_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* Calls function with count arguments and keywords (a dict, or NULL). *frame is the session's, made at its first call;
 * items[-1] may be overwritten meanwhile. A new reference, or NULL and an exception. */
PyObject *sb__frame_call(PyObject **frame, PyObject *function, PyObject **items, size_t count,
                         PyObject *keywords);
/* Calls fn(arg) with such a frame around it, in which it may call many functions one after the other without another: those
 * that sb__frame_serves(). False: no frame could be had, and fn was not called. Leaves no exception. */
bool sb__frame_around(PyObject **frame, void (*fn)(void *arg), void *arg);
/* Is a frame that others use, too, as good for it? For a function in Python, which has a frame of its own, and a class with
 * nothing built in but object. Built-in functions may take their names from it, and leave some there (exec). */
static inline bool sb__frame_serves(PyObject *function)
{
	if (PyType_CheckExact(function))
		return ((PyTypeObject *)function)->tp_flags & Py_TPFLAGS_HEAPTYPE &&
		       ((PyTypeObject *)function)->tp_base == &PyBaseObject_Type;
	return PyFunction_Check(function) ||
	       (PyMethod_Check(function) && PyFunction_Check(PyMethod_GET_FUNCTION(function)));
}
void sb__frame_free(PyObject **frame);

#endif
