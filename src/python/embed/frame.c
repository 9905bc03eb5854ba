/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Python frame that a call runs in. C code that calls a Python function leaves it without a caller, and much code looks at
 * its caller: exec() and eval() take their names from it, DataFrame.query() its variables, loggers and warnings its
 * place. So functions are called by a line of Python, whose globals are the session's.
 *
 * In tracebacks that line is left out: it is nobody's code.
 *
 * Locks: needs the GIL. Crash story: nothing is shared.
 */
#include "frame.h"

#include "convert.h"

/* By how many arguments there are, since that is fastest; then any number, and any number with keywords. */
static const char source[] = "(lambda f, /: f(), lambda f, a, /: f(a), lambda f, a, b, /: f(a, b), lambda f, "
			     "a, b, c, /: f(a, b, c), "
			     "lambda f, a, b, c, d, /: f(a, b, c, d), lambda f, /, *args: f(*args), "
			     "lambda f, args, keywords, /: f(*args, **keywords), lambda f, /: f())";

#define ANY_NUMBER 5
#define KEYWORDS   6
#define AROUND     7 /* as the first one: the interpreter adapts each to what it calls */

/* All of them, over the same globals. A new reference, or NULL and an exception. */
static PyObject *make(void)
{
	PyObject *globals = Py_BuildValue("{s:s,s:O}", "__name__", "__session__", "__builtins__",
	                                  PyEval_GetBuiltins());
	PyObject *code = globals ? Py_CompileString(source, "<snakebridge>", Py_eval_input) : NULL;
	PyObject *functions = code ? PyEval_EvalCode(code, globals, globals) : NULL;

	Py_XDECREF(code);
	Py_XDECREF(globals);
	return functions;
}

/* The exception that is set loses its outermost frame if that is the function's. */
static void leave_out(PyObject *function)
{
	PyObject *exception = sb__exception_take(), *traceback = PyException_GetTraceback(exception);
	PyTracebackObject *first = traceback && PyTraceBack_Check(traceback) ? (PyTracebackObject *)traceback
	                                                                     : NULL;

	if (first) {
		PyCodeObject *code = PyFrame_GetCode(first->tb_frame);

		if ((PyObject *)code == PyFunction_GetCode(function))
			PyException_SetTraceback(exception,
			                         first->tb_next ? (PyObject *)first->tb_next : Py_None);
		Py_DECREF(code);
	}
	Py_XDECREF(traceback);
	sb__exception_restore(exception);
}

static PyObject *call_plain(PyObject *caller, PyObject *function, PyObject **items, size_t count)
{
	PyObject *before = items[-1], *result;

	items[-1] = function;
	result = PyObject_Vectorcall(caller, items - 1, count + 1, NULL);
	items[-1] = before;
	return result;
}

static PyObject *call_with_keywords(PyObject *caller, PyObject *function, PyObject **items, size_t count,
                                    PyObject *keywords)
{
	PyObject *arguments = PyTuple_New((Py_ssize_t)count), *result;

	if (!arguments)
		return NULL;
	for (size_t i = 0; i < count; i++)
		PyTuple_SET_ITEM(arguments, (Py_ssize_t)i, Py_NewRef(items[i]));
	result = PyObject_CallFunctionObjArgs(caller, function, arguments, keywords, NULL);
	Py_DECREF(arguments);
	return result;
}

PyObject *sb__frame_call(PyObject **frame, PyObject *function, PyObject **items, size_t count,
                         PyObject *keywords)
{
	PyObject *caller, *result;

	if (!*frame)
		*frame = make();
	if (!*frame)
		return NULL;
	caller = PyTuple_GET_ITEM(*frame, keywords             ? KEYWORDS
	                                  : count < ANY_NUMBER ? (Py_ssize_t)count
	                                                       : ANY_NUMBER);
	Py_INCREF(caller);
	result = keywords ? call_with_keywords(caller, function, items, count, keywords)
	                  : call_plain(caller, function, items, count);
	if (!result)
		leave_out(caller);
	Py_DECREF(caller);
	return result;
}

/* ── around C code ── */

struct around {
	void (*fn)(void *arg, bool framed);
	void *arg;
	bool done;
};

static PyObject *run_around(PyObject *capsule, PyObject *ignored)
{
	struct around *a = PyCapsule_GetPointer(capsule, NULL);

	(void)ignored;
	if (!a)
		return NULL;
	if (a->done)
		return PyErr_Format(PyExc_RuntimeError, "not to be called from here");
	a->done = true;
	a->fn(a->arg, true);
	Py_RETURN_NONE;
}

static PyMethodDef around_method = { "__call__", run_around, METH_NOARGS, NULL };

/* What came between: an interrupt of the host's is its matter, and comes again; a call that was cancelled knows it. */
static void pass_on(void)
{
	if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
		PyErr_SetInterrupt();
	PyErr_Clear();
}

void sb__frame_around(PyObject **frame, void (*fn)(void *arg, bool framed), void *arg)
{
	struct around a = { fn, arg, false };
	PyObject *capsule = PyCapsule_New(&a, NULL, NULL), *function = NULL, *caller = NULL, *result = NULL;

	if (capsule)
		function = PyCFunction_New(&around_method, capsule);
	if (function && !*frame)
		*frame = make();
	if (function && *frame) {
		caller = Py_NewRef(PyTuple_GET_ITEM(*frame, AROUND));
		result = PyObject_CallOneArg(caller, function);
	}
	Py_XDECREF(result);
	Py_XDECREF(caller);
	Py_XDECREF(function);
	if (capsule) /* whoever took the function out of the frame cannot call it any more */
		(void)PyCapsule_SetName(capsule, "over");
	Py_XDECREF(capsule);
	pass_on();
	if (!a.done)
		fn(arg, false);
}

void sb__frame_free(PyObject **frame)
{
	PyObject *functions = *frame;

	*frame = NULL;
	if (!functions)
		return;
	/* What was defined there may refer to it. */
	PyDict_Clear(PyFunction_GetGlobals(PyTuple_GET_ITEM(functions, 0)));
	Py_DECREF(functions);
}
