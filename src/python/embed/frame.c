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
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

/* What the frame that was just made is to call. The function below can be had by others; it does nothing for them. */
static _Thread_local struct around *waiting;

static PyObject *run_around(PyObject *self, PyObject *ignored)
{
	struct around *a = waiting;

	(void)self;
	(void)ignored;
	if (!a)
		return PyErr_Format(PyExc_RuntimeError, "not to be called from here");
	waiting = NULL;
	a->done = true;
	a->fn(a->arg);
	Py_RETURN_NONE;
}

static PyObject *around_function(void)
{
	static PyMethodDef method = { "session", run_around, METH_NOARGS, NULL };
	static PyObject *function;

	if (!function)
		function = PyCFunction_New(&method, NULL);
	return function;
}

/* What came between: an interrupt of the host's is its matter, and comes again; a call that was cancelled knows it. */
static void pass_on(void)
{
	if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
		PyErr_SetInterrupt();
	PyErr_Clear();
}

bool sb__frame_around(PyObject **frame, void (*fn)(void *arg), void *arg)
{
	struct around a = { fn, arg, false };
	PyObject *function = around_function(), *caller, *result;

	if (function && !*frame)
		*frame = make();
	if (!function || !*frame) {
		PyErr_Clear();
		return false;
	}
	caller = Py_NewRef(PyTuple_GET_ITEM(*frame, AROUND));
	waiting = &a;
	result = PyObject_CallOneArg(caller, function);
	waiting = NULL;
	if (!result)
		pass_on();
	Py_XDECREF(result);
	Py_DECREF(caller);
	return a.done;
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
