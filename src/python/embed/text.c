/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people out of Python objects, and reasons for refusals: bounded, valid UTF-8, without NUL.
 * Python's own strings may be none of this.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "snakebridge/error.h"
#include "utf8.h"

int sb__because(struct sb__why *why, int code, const char *fmt, ...)
{
	va_list ap;

	if (why->code)
		return why->code;
	va_start(ap, fmt);
	vsnprintf(why->message, sizeof(why->message), fmt, ap);
	va_end(ap);
	/* The cut may have split a character. */
	why->message[sb__utf8_prefix(why->message, strlen(why->message))] = '\0';
	why->code = code;
	return code;
}

int sb__because_ref(struct sb__why *why, int code, const sb_ref *ref)
{
	if (code == SB_ENOMEM)
		return sb__because(why, code, "out of memory for ref %u.%u", ref->slot, ref->generation);
	if (code == SB__REF_FORGOTTEN)
		return sb__because(
			why, SB_EREFRELEASED,
			"ref %u.%u was released, evicted or expired, too long ago to say which; %s",
			ref->slot, ref->generation, sb_error_advice(SB_EREFRELEASED));
	if (code == SB__REF_EXHAUSTED)
		return sb__because(why, SB_EREFRELEASED, "ref %u.%u was a stream, which was read to its end",
		                   ref->slot, ref->generation);
	return sb__because(why, code, "ref %u.%u: %s; %s", ref->slot, ref->generation, sb_strerror(code),
	                   sb_error_advice(code));
}

int sb__because_protocol(struct sb__why *why, int code)
{
	return sb__because(why, code, "the request cannot be read: %s", sb_last_error()->message);
}

size_t sb__text(PyObject *str, char *out, size_t size)
{
	PyObject *part, *bytes = NULL;
	size_t len = 0;

	if (!str || !PyUnicode_Check(str)) {
		snprintf(out, size, "?");
		return strlen(out);
	}
	/* Characters take a byte or more each: no need to encode more of a huge string than fits. */
	part = PyUnicode_Substring(str, 0, (Py_ssize_t)size);
	if (part)
		bytes = PyUnicode_AsEncodedString(part, "utf-8", "backslashreplace");
	if (bytes) {
		len = sb__utf8_cut(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), size - 1);
		memcpy(out, PyBytes_AS_STRING(bytes), len);
	}
	out[len] = '\0';
	for (char *nul = out; (nul = memchr(nul, '\0', len - (size_t)(nul - out)));)
		*nul = '?';
	if (PyErr_Occurred())
		PyErr_Clear();
	Py_XDECREF(part);
	Py_XDECREF(bytes);
	return len;
}

/* What a class statement stored, or NULL. Borrowed. */
static PyObject *type_module(PyTypeObject *type)
{
	PyObject *dict, *module = NULL;

#if PY_VERSION_HEX >= 0x030c0000
	dict = PyType_GetDict(type);
#else
	dict = Py_XNewRef(type->tp_dict);
#endif
	if (dict)
		module = PyDict_GetItemString(dict,
		                              "__module__"); /* clears errors; the type keeps it alive */
	Py_XDECREF(dict);
	return module;
}

size_t sb__type_name(PyTypeObject *type, char *out, size_t size, size_t *ret_module_len)
{
	size_t ignored, len;
	PyObject *name;

	if (!ret_module_len)
		ret_module_len = &ignored;

	if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
		const char *prefix = strchr(type->tp_name, '.') ? "" : "builtins.";

		snprintf(out, size, "%s%s", prefix, type->tp_name);
		len = sb__utf8_prefix(out, strlen(out));
		out[len] = '\0';
		*ret_module_len = strrchr(out, '.') ? (size_t)(strrchr(out, '.') - out) : 0;
		return len;
	}
	len = sb__text(type_module(type), out, size);
	*ret_module_len = len;
	if (len + 2 < size) {
		out[len++] = '.';
		name = PyType_GetQualName(type);
		if (!name)
			PyErr_Clear();
		len += sb__text(name, out + len, size - len);
		Py_XDECREF(name);
	}
	return len;
}
