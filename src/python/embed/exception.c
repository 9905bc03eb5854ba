/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python exceptions → bytes, bounded in every direction: message, frames, causes. SystemExit and
 * KeyboardInterrupt are exceptions like others here; nothing is printed, and nothing ends the process.
 *
 * str() of an exception is Python code: it may raise, take long or return anything.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <stdio.h>
#include <string.h>

#include "policy.h"
#include "snakebridge/error.h"

#define MESSAGE_BYTES 2000
#define NAME_BYTES    256
#define FILE_BYTES    1024
#define FRAMES_MAX    32 /* the innermost ones */
#define CHAIN_MAX     4
#define NOTES_MAX     16
#define NOTE_BYTES    500

/* The exception that is set, whole, which is cleared; or NULL. */
static PyObject *fetch(void)
{
#if PY_VERSION_HEX >= 0x030c0000
	return PyErr_GetRaisedException();
#else
	PyObject *type, *exception, *traceback;

	PyErr_Fetch(&type, &exception, &traceback);
	if (type)
		PyErr_NormalizeException(&type, &exception, &traceback);
	if (exception && traceback)
		PyException_SetTraceback(exception, traceback);
	Py_XDECREF(type);
	Py_XDECREF(traceback);
	return exception;
#endif
}

PyObject *sb__exception_take(void)
{
	PyObject *exception = fetch();

	if (exception)
		return exception;
	/* Without memory Python sets a MemoryError that it has ready, so now there is one. */
	PyErr_SetString(PyExc_SystemError, "C code reported an error without setting an exception");
	return fetch();
}

void sb__exception_restore(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030c0000
	PyErr_SetRaisedException(exception);
#else
	PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

static void put_key(struct sb__buf *buf, unsigned key)
{
	sb__put_uint(buf, key);
}

static void put_text(struct sb__buf *buf, PyObject *str, size_t size)
{
	char text[MESSAGE_BYTES + 1];
	size_t len = sb__text(str, text, size < sizeof(text) ? size : sizeof(text));

	sb__put_str(buf, text, len);
}

static void put_message(struct sb__buf *buf, PyObject *exception)
{
	PyObject *str = PyObject_Str(exception);
	PyObject *inner;
	char text[NAME_BYTES], name[NAME_BYTES - 64];

	if (str) {
		put_text(buf, str, MESSAGE_BYTES + 1);
		Py_DECREF(str);
		return;
	}
	inner = sb__exception_take();
	sb__type_name(Py_TYPE(inner), name, sizeof(name), NULL);
	Py_DECREF(inner);
	snprintf(text, sizeof(text), "(its message is not available: str() raised %s)", name);
	sb__put_str(buf, text, strlen(text));
}

static void put_frame(struct sb__buf *buf, PyTracebackObject *traceback)
{
	PyCodeObject *code = PyFrame_GetCode(traceback->tb_frame);
	int line = traceback->tb_lineno;

	if (line < 0) /* not worked out yet */
		line = PyCode_Addr2Line(code, traceback->tb_lasti);
	sb__put_array(buf, 3);
	put_text(buf, code->co_filename, FILE_BYTES);
	sb__put_int(buf, line);
	put_text(buf, code->co_name, NAME_BYTES);
	Py_DECREF(code);
}

static void put_frames(struct sb__buf *buf, PyObject *exception)
{
	PyObject *object = PyException_GetTraceback(exception);
	PyTracebackObject *first = object && PyTraceBack_Check(object) ? (PyTracebackObject *)object : NULL;
	PyTracebackObject *traceback;
	size_t count = 0;

	for (traceback = first; traceback; traceback = traceback->tb_next)
		count++;
	for (traceback = first; count > FRAMES_MAX; count--)
		traceback = traceback->tb_next;
	sb__put_array(buf, count);
	for (; count > 0; count--, traceback = traceback->tb_next)
		put_frame(buf, traceback);
	Py_XDECREF(object);
}

/* What "raise … from" names, else what was being handled. A new reference, or NULL. */
static PyObject *cause_of(PyObject *exception)
{
	PyObject *cause = PyException_GetCause(exception);

	if (cause || ((PyBaseExceptionObject *)exception)->suppress_context)
		return cause;
	return PyException_GetContext(exception);
}

/* What add_note() gathered (from 3.11 on), or NULL. A new reference. */
static PyObject *notes_of(PyObject *exception)
{
	PyObject *notes = PyObject_GetAttrString(exception, "__notes__");

	if (!notes)
		PyErr_Clear();
	else if (!PyList_Check(notes) || PyList_GET_SIZE(notes) == 0)
		Py_CLEAR(notes);
	return notes;
}

static void put_notes(struct sb__buf *buf, PyObject *notes)
{
	Py_ssize_t count = PyList_GET_SIZE(notes) < NOTES_MAX ? PyList_GET_SIZE(notes) : NOTES_MAX;

	put_key(buf, SB__EXC_NOTES);
	sb__put_array(buf, (uint64_t)count);
	for (Py_ssize_t i = 0; i < count; i++)
		put_text(buf, PyList_GET_ITEM(notes, i), NOTE_BYTES);
}

static void put_exception(struct sb__buf *buf, PyObject *exception, int code, unsigned depth)
{
	char name[NAME_BYTES];
	PyObject *cause, *notes = notes_of(exception);
	size_t len;

	sb__put_map(buf, notes ? 6 : 5);
	put_key(buf, SB__EXC_TYPE);
	len = sb__type_name(Py_TYPE(exception), name, sizeof(name), NULL);
	sb__put_str(buf, name, len);
	put_key(buf, SB__EXC_MESSAGE);
	put_message(buf, exception);
	put_key(buf, SB__EXC_FRAMES);
	put_frames(buf, exception);
	put_key(buf, SB__EXC_CAUSE);
	cause = depth + 1 < CHAIN_MAX ? cause_of(exception) : NULL;
	if (cause)
		put_exception(buf, cause, SB_EPYTHON, depth + 1);
	else
		sb__put_null(buf);
	Py_XDECREF(cause);
	put_key(buf, SB__EXC_CODE);
	sb__put_int(buf, code);
	if (notes)
		put_notes(buf, notes);
	Py_XDECREF(notes);
}

void sb__exception_encode(PyObject *exception, int code, struct sb__buf *buf)
{
	put_exception(buf, exception, code, 0);
	Py_DECREF(exception);
}

/* ── from a caller's words ── */

/* Python's own exceptions need no permission; of everything else the policy is asked before it is looked for. */
static bool may_be_named(const struct sb__policy **policy, const char *name, size_t len)
{
	static const char own[] = "builtins.";
	const size_t n = sizeof(own) - 1;
	struct sb__why why = { 0 };

	if (len > n && memcmp(name, own, n) == 0 && !memchr(name + n, '.', len - n)) {
		*policy = NULL;
		return true;
	}
	return sb__policy_path(*policy, name, len, &why) == 0;
}

/* The object of a qualified name, if its module is loaded; NULL if not. A new reference; leaves no exception. */
static PyObject *find_loaded(const struct sb__policy *policy, const char *name, size_t len)
{
	PyObject *found = NULL;

	/* The longest beginning that is a module; what follows it are attributes. */
	for (size_t n = len; !found && n > 0; n--) {
		PyObject *module_name, *rest;
		struct sb__why why = { 0 };
		struct sb__lookup lookup = { .policy = policy, .why = &why };

		if (name[n - 1] != '.')
			continue;
		module_name = PyUnicode_DecodeUTF8(name, (Py_ssize_t)n - 1, NULL);
		rest = module_name ? PyImport_GetModule(module_name) : NULL;
		Py_XDECREF(module_name);
		if (rest)
			found = sb__resolve_attr(&lookup, rest, name + n, len - n);
		Py_XDECREF(rest);
		PyErr_Clear();
	}
	return found;
}

PyObject *sb__exception_make(const struct sb__policy *policy, const char *type, size_t type_len,
                             PyObject *message)
{
	PyObject *found = NULL, *exception = NULL, *name, *text;

	if (may_be_named(&policy, type, type_len))
		found = find_loaded(policy, type, type_len);
	if (found && PyExceptionClass_Check(found))
		exception = PyObject_CallOneArg(found, message);
	Py_XDECREF(found);
	if (exception && PyExceptionInstance_Check(exception))
		return exception;
	Py_XDECREF(exception);
	PyErr_Clear();
	name = PyUnicode_DecodeUTF8(type_len ? type : "?", type_len ? (Py_ssize_t)type_len : 1, "replace");
	text = name ? PyUnicode_FromFormat("%.200U: %S", name, message) : NULL;
	Py_XDECREF(name);
	exception = text ? PyObject_CallOneArg(PyExc_RuntimeError, text) : NULL;
	Py_XDECREF(text);
	return exception;
}
