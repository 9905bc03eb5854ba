/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of Python's C interface as src/python/embed/cancel.c uses, for test_cancel_threads.c, which defines it: threads, a GIL,
 * asynchronous exceptions, no interpreter.
 */
#ifndef SB_TESTS_TSAN_PYTHON_H
#define SB_TESTS_TSAN_PYTHON_H

#include <stddef.h>
#include <sys/types.h>

typedef struct object PyObject;
typedef struct thread_state PyThreadState;
typedef ssize_t Py_ssize_t;
typedef int PyGILState_STATE;

extern PyObject *PyExc_BaseException;

unsigned long PyThread_get_thread_ident(void);
int PyThreadState_SetAsyncExc(unsigned long thread, PyObject *exception);
PyObject *PyErr_NewExceptionWithDoc(const char *name, const char *doc, PyObject *base, PyObject *dict);
void PyErr_Clear(void);
void PyErr_SetNone(PyObject *type);
void PyErr_SetString(PyObject *type, const char *text);
PyObject *PyErr_NoMemory(void);
int PyErr_ExceptionMatches(PyObject *type);

#endif
