/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous iterators: each stream of one has an event loop of its own, which runs while somebody waits for items, on the
 * puller's thread. What the iterator has started in it stands still in between.
 *
 * Locks: none of its own; needs the GIL, which the loop gives up while it waits.
 * Crash story: nothing is shared.
 */
#include "stream.h"

static const char source[] =
	"import asyncio\n"
	"\n"
	"class Driver:\n"
	"    def __init__(self, iterator):\n"
	"        self.iterator = iterator\n"
	"        self.loop = asyncio.new_event_loop()\n"
	"        self.task = None\n"
	"        self.stopped = False\n"
	"\n"
	"    async def read(self, put):\n"
	"        if self.stopped:\n"
	"            return False\n"
	"        try:\n"
	"            while put(await self.iterator.__anext__()):\n"
	"                pass\n"
	"        except StopAsyncIteration:\n"
	"            return True\n"
	"        return False\n"
	"\n"
	"    def pull(self, put):\n"
	"        self.task = self.loop.create_task(self.read(put))\n"
	"        try:\n"
	"            return self.loop.run_until_complete(self.task)\n"
	"        except asyncio.CancelledError:\n"
	"            if not self.stopped:\n"
	"                raise\n"
	"            return False\n"
	"        finally:\n"
	"            self.task = None\n"
	"\n"
	"    def interrupt(self):\n" /* from another thread */
	"        self.stopped = True\n"
	"        task = self.task\n"
	"        if task is not None:\n"
	"            self.loop.call_soon_threadsafe(task.cancel)\n"
	"\n"
	"    def close(self):\n"
	"        loop = self.loop\n"
	"        try:\n"
	"            aclose = getattr(self.iterator, 'aclose', None)\n"
	"            if aclose is not None:\n"
	"                loop.run_until_complete(aclose())\n"
	"        finally:\n"
	"            try:\n"
	"                tasks = asyncio.all_tasks(loop)\n"
	"                for task in tasks:\n"
	"                    task.cancel()\n"
	"                if tasks:\n"
	"                    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))\n"
	"                loop.run_until_complete(loop.shutdown_asyncgens())\n"
	"            finally:\n"
	"                loop.close()\n";

static PyObject *driver_class; /* made at the first use, kept for ever */

static PyObject *make_class(void)
{
	PyObject *globals = PyDict_New(), *result = NULL, *found = NULL,
		 *name = PyUnicode_FromString("snakebridge");

	if (globals && name && PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) == 0 &&
	    PyDict_SetItemString(globals, "__name__", name) == 0)
		result = PyRun_String(source, Py_file_input, globals, globals);
	if (result)
		found = Py_XNewRef(PyDict_GetItemString(globals, "Driver"));
	Py_XDECREF(result);
	Py_XDECREF(name);
	Py_XDECREF(globals);
	return found;
}

PyObject *sb__async_driver(PyObject *iterator)
{
	if (!driver_class) {
		PyObject *made = make_class(); /* importing may let another thread in */

		if (made && !driver_class)
			driver_class = made;
		else
			Py_XDECREF(made);
	}
	return driver_class ? PyObject_CallOneArg(driver_class, iterator) : NULL;
}

/* An item, from the event loop: is another one wanted? */
static PyObject *put(PyObject *self, PyObject *item)
{
	struct sb__stream *s = PyCapsule_GetPointer(self, NULL);

	if (!s || !sb__stream_add(s, Py_NewRef(item)))
		return NULL;
	return PyBool_FromLong(sb__stream_wants(s));
}

static PyMethodDef put_method = { "put", put, METH_O, NULL };

void sb__async_pull(struct sb__stream *s)
{
	PyObject *driver = Py_NewRef(s->driver), *capsule = PyCapsule_New(s, NULL, NULL), *function = NULL;
	PyObject *result = NULL;

	if (capsule)
		function = PyCFunction_New(&put_method, capsule);
	if (function)
		result = PyObject_CallMethod(driver, "pull", "O", function);
	/* A traceback may keep the function for as long as it likes; it leads to the stream no more. */
	if (capsule)
		(void)PyCapsule_SetName(capsule, "ended");
	if (!result || result == Py_True)
		sb__stream_over(s);
	Py_XDECREF(result);
	Py_XDECREF(function);
	Py_XDECREF(capsule);
	Py_DECREF(driver);
}

void sb__async_interrupt(PyObject *driver)
{
	PyObject *result = PyObject_CallMethod(driver, "interrupt", NULL);

	if (!result)
		PyErr_WriteUnraisable(driver);
	Py_XDECREF(result);
}

int sb__async_close(PyObject *driver)
{
	PyObject *result = PyObject_CallMethod(driver, "close", NULL);

	Py_XDECREF(result);
	return result ? 0 : -1;
}
