/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names → Python objects: "module:path.to.name", "module.path.name", and attribute paths.
 *
 * Without a colon the longest importable prefix is the module. It is found from the left: a name that is a
 * module in sys.modules is taken; else one that its parent already has as an attribute ends the search;
 * else an import is tried. So a path that has worked before costs no failing import.
 *
 * The session's policy is asked here and nowhere else: of the whole name as text before anything is done, and again of
 * each step out of a module that a walk has come to by another way than its name.
 *
 * What a failure means is told by the exception itself: a ModuleNotFoundError about the module asked for (or a parent
 * of it), or an AttributeError about this very lookup. The same errors out of code that ran meanwhile are that code's.
 *
 * Locks: none of its own; needs the GIL, which importing and looking up may give up.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <string.h>

#include "policy.h"
#include "snakebridge/error.h"

/* ── what an exception is about ── */

/* The str attribute of the exception that is set, compared to one that was asked for. Keeps the exception. */
static bool exception_names(const char *attribute, PyObject *asked, bool or_parent)
{
	PyObject *exception = sb__exception_take();
	PyObject *name = PyObject_GetAttrString(exception, attribute);
	bool same = false;

	if (!name)
		PyErr_Clear();
	else if (PyUnicode_Check(name)) {
		Py_ssize_t len = PyUnicode_GET_LENGTH(name);

		same = PyUnicode_Compare(asked, name) == 0;
		if (!same && or_parent && len < PyUnicode_GET_LENGTH(asked))
			same = PyUnicode_Tailmatch(asked, name, 0, PY_SSIZE_T_MAX, -1) == 1 &&
			       PyUnicode_ReadChar(asked, len) == '.';
		if (PyErr_Occurred())
			PyErr_Clear();
	}
	Py_XDECREF(name);
	sb__exception_restore(exception);
	return same;
}

static int import_code(PyObject *module_name)
{
	if (PyErr_ExceptionMatches(PyExc_ModuleNotFoundError) && exception_names("name", module_name, true))
		return SB_EMODULE;
	return SB_EPYTHON;
}

/* Was the lookup of name in object itself what failed? The interpreter notes both in the exception. */
static int lookup_code(PyObject *object, PyObject *name)
{
	PyObject *exception, *looked_in;
	bool here;

	if (!PyErr_ExceptionMatches(PyExc_AttributeError) || !exception_names("name", name, false))
		return SB_EPYTHON;
	exception = sb__exception_take();
	looked_in = PyObject_GetAttrString(exception, "obj");
	here = looked_in == object;
	if (!looked_in)
		PyErr_Clear();
	Py_XDECREF(looked_in);
	sb__exception_restore(exception);
	return here ? SB_EATTRIBUTE : SB_EPYTHON;
}

/* ── pieces of names ── */

/* Takes the piece before the next dot off *name. NULL at the end, or without memory (an exception is set). */
static PyObject *next_piece(const char **name, size_t *len)
{
	const char *dot = memchr(*name, '.', *len);
	size_t n = dot ? (size_t)(dot - *name) : *len;
	PyObject *piece = sb__name(*name, n);

	*name += dot ? n + 1 : n;
	*len -= dot ? n + 1 : n;
	return piece;
}

/* One or more pieces, none of them empty. */
static bool is_dotted(const char *name, size_t len)
{
	bool empty = true;

	for (size_t i = 0; i < len; i++) {
		if (name[i] == '.' && empty)
			return false;
		empty = name[i] == '.';
	}
	return !empty;
}

static int not_a_name(struct sb__why *why, const char *what, const char *name, size_t len)
{
	return sb__because(why, SB_EINVAL, "\"%.*s\" is no %s; write names with single dots between them",
	                   (int)(len < 200 ? len : 200), name, what);
}

/* May this piece be looked up (or set) here? 0 or SB_EDENIED. */
static int check_step(struct sb__lookup *lookup, PyObject *object, PyObject *piece)
{
	char module[1024], name[1024];

	if (!lookup->policy || !PyModule_Check(object))
		return 0;
	PyObject *module_name = PyModule_GetNameObject(object);

	if (!module_name)
		PyErr_Clear();
	sb__text(module_name, module, sizeof(module));
	Py_XDECREF(module_name);
	sb__text(piece, name, sizeof(name));
	return sb__policy_in_module(lookup->policy, module, name, lookup->by_object, lookup->why);
}

/* Walks down attributes. Steals object. */
static PyObject *walk(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len)
{
	while (object && len > 0) {
		PyObject *piece = next_piece(&name, &len);
		PyObject *next = NULL;

		lookup->code = piece ? check_step(lookup, object, piece) : SB_EPYTHON;
		if (!lookup->code) {
			next = PyObject_GetAttr(object, piece);
			if (!next)
				lookup->code = lookup_code(object, piece);
		}
		Py_XDECREF(piece);
		Py_DECREF(object);
		object = next;
	}
	return object;
}

/* ── modules ── */

/* Imports a module, or finds it imported (and waits while another thread imports it). */
static PyObject *import(PyObject *name)
{
	PyObject *top, *module;

	/* Without a list of names from it: that is a search in sys.modules where it was imported before. */
	top = PyImport_ImportModuleLevelObject(name, NULL, NULL, NULL, 0);
	if (!top)
		return NULL;
	if (PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) < 0)
		return top; /* also whatever a module has put into sys.modules in its own place */
	Py_DECREF(top);
	module = PyImport_GetModule(name);
	if (!module && !PyErr_Occurred())
		PyErr_Format(PyExc_ImportError, "module %R left sys.modules", name);
	return module;
}

/* Is there something by that name in sys.modules? -1 and an exception if that cannot be told. */
static int is_imported(PyObject *name)
{
	PyObject *module = PyImport_GetModule(name);
	int rc = module && module != Py_None;

	Py_XDECREF(module);
	return !module && PyErr_Occurred() ? -1 : rc;
}

/* Could parent.piece be a module that is not imported yet? -1 and an exception if that cannot be told. */
static int may_be_module(PyObject *parent, PyObject *piece)
{
	PyObject *dict = PyModule_Check(parent) ? PyModule_GetDict(parent) : NULL; /* borrowed */

	if (!dict || !PyDict_GetItemString(dict, "__path__"))
		return 0; /* not a package */
	if (PyDict_GetItemWithError(dict, piece))
		return 0;
	return PyErr_Occurred() ? -1 : 1;
}

/* The module of that name: 1 and *ret, 0 if there is none, -1 and an exception. */
static int try_import(PyObject *name, PyObject **ret)
{
	*ret = import(name);
	if (*ret)
		return 1;
	if (!PyErr_ExceptionMatches(PyExc_ModuleNotFoundError) || !exception_names("name", name, false))
		return -1;
	PyErr_Clear();
	return 0;
}

/* parent.piece as a module: 1, with its name and it; 0 if it is none; -1 and an exception. */
static int submodule(PyObject *parent, PyObject *parent_name, PyObject *piece, PyObject **ret_name,
                     PyObject **ret)
{
	int rc;

	*ret_name = PyUnicode_FromFormat("%U.%U", parent_name, piece);
	rc = *ret_name ? is_imported(*ret_name) : -1;
	if (rc == 0)
		rc = may_be_module(parent, piece);
	if (rc == 1)
		rc = try_import(*ret_name, ret);
	if (rc != 1)
		Py_CLEAR(*ret_name);
	return rc;
}

static PyObject *import_named(struct sb__lookup *lookup, const char *name, size_t len)
{
	PyObject *str = sb__name(name, len);
	PyObject *module = str ? import(str) : NULL;

	if (!module)
		lookup->code = str ? import_code(str) : SB_EPYTHON;
	Py_XDECREF(str);
	return module;
}

/*
 * Imports the longest prefix of *path that is a module and moves *path behind it; leaves a last name that
 * is to be called, for no module can be.
 */
static PyObject *import_prefix(struct sb__lookup *lookup, const char **path, size_t *len, bool keep_last)
{
	PyObject *name = next_piece(path, len);
	PyObject *module = name ? import(name) : NULL;
	int rc = 1;

	lookup->code = SB_EPYTHON;
	if (!module && name)
		lookup->code = import_code(name);
	while (module && rc == 1 && *len > 0 && !(keep_last && !memchr(*path, '.', *len))) {
		const char *rest = *path;
		size_t rest_len = *len;
		PyObject *next_name = NULL, *next = NULL, *piece = next_piece(&rest, &rest_len);

		rc = piece ? submodule(module, name, piece, &next_name, &next) : -1;
		if (rc == 1) {
			Py_SETREF(module, next);
			Py_SETREF(name, next_name);
			*path = rest;
			*len = rest_len;
		}
		Py_XDECREF(piece);
	}
	if (rc < 0)
		Py_CLEAR(module);
	Py_XDECREF(name);
	return module;
}

/* ── what others use ── */

PyObject *sb__resolve_path(struct sb__lookup *lookup, const char *path, size_t len, bool for_call)
{
	const char *colon = memchr(path, ':', len);
	size_t module_len = colon ? (size_t)(colon - path) : len;
	size_t rest_len = colon ? len - module_len - 1 : 0;
	PyObject *module;

	if (!is_dotted(path, module_len) || (colon && !is_dotted(colon + 1, rest_len))) {
		lookup->code = not_a_name(lookup->why, "path of a Python name such as \"module:name\"", path,
		                          len);
		return NULL;
	}
	lookup->code = sb__policy_path(lookup->policy, path, len, lookup->why);
	if (lookup->code)
		return NULL;
	if (colon) {
		module = import_named(lookup, path, module_len);
		return walk(lookup, module, colon + 1, rest_len);
	}
	module = import_prefix(lookup, &path, &len, for_call);
	return walk(lookup, module, path, len);
}

/* Is it a name, and one that may be asked for? 0, SB_EINVAL or SB_EDENIED. */
static int check_attr(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len)
{
	lookup->by_object = true;
	if (!is_dotted(name, len))
		return lookup->code = not_a_name(lookup->why, "attribute name", name, len);
	/* What is in a module is named as such; its first step is checked when it is made. */
	if (PyModule_Check(object))
		return lookup->code = sb__policy_denied_pieces(lookup->policy, name, len, lookup->why);
	return lookup->code = sb__policy_attr(lookup->policy, name, len, lookup->why);
}

PyObject *sb__resolve_attr(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len)
{
	PyObject *known = lookup->policy ? NULL : sb__name_known(name, len), *found;

	if (known) { /* nearly always: one piece, and nothing to check */
		Py_INCREF(known);
		found = PyObject_GetAttr(object, known);
		if (!found)
			lookup->code = lookup_code(object, known);
		Py_DECREF(known);
		return found;
	}
	if (check_attr(lookup, object, name, len))
		return NULL;
	return walk(lookup, Py_NewRef(object), name, len);
}

/* CPython's own way to call a method without making it an object; not in its headers, so perhaps not there. */
extern int _PyObject_GetMethod(PyObject *object, PyObject *name, PyObject **method) __attribute__((weak));

PyObject *sb__resolve_method(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len,
                             bool *ret_unbound)
{
	PyObject *known = lookup->policy || !_PyObject_GetMethod ? NULL : sb__name_known(name, len);
	PyObject *found = NULL;

	*ret_unbound = false;
	if (!known)
		return sb__resolve_attr(lookup, object, name, len);
	/* A plain class is what its __call__ calls, unless it has one for its instances. */
	if (PyType_CheckExact(object) && len == 8 && memcmp(name, "__call__", 8) == 0 &&
	    !_PyType_Lookup((PyTypeObject *)object, known))
		return Py_NewRef(object);
	Py_INCREF(known);
	*ret_unbound = _PyObject_GetMethod(object, known, &found) == 1;
	if (!found)
		lookup->code = lookup_code(object, known);
	Py_DECREF(known);
	return found;
}

PyObject *sb__resolve_special(struct sb__lookup *lookup, PyObject *object, const char *name)
{
	struct sb__lookup free_lookup = { .why = lookup->why };
	PyObject *found = walk(&free_lookup, Py_NewRef(object), name, strlen(name));

	lookup->code = free_lookup.code;
	return found;
}

/* What a failed assignment means. */
static int assign_code(void)
{
	PyObject *exception = sb__exception_take();
	PyObject *traceback = PyException_GetTraceback(exception);
	/* Without a traceback it comes from the assignment itself, not from a setter's code. */
	int code = !traceback && PyErr_GivenExceptionMatches(exception, PyExc_AttributeError) ? SB_EATTRIBUTE
	                                                                                      : SB_EPYTHON;

	Py_XDECREF(traceback);
	sb__exception_restore(exception);
	return code;
}

int sb__assign_attr(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len,
                    PyObject *value)
{
	const char *dot = memrchr(name, '.', len);
	size_t last_len = dot ? len - (size_t)(dot - name) - 1 : len;
	const char *last = name + len - last_len;
	PyObject *holder, *piece;

	if (check_attr(lookup, object, name, len))
		return lookup->code;
	holder = walk(lookup, Py_NewRef(object), name, dot ? (size_t)(dot - name) : 0);
	if (!holder)
		return lookup->code;
	piece = next_piece(&last, &last_len);
	lookup->code = piece ? check_step(lookup, holder, piece) : SB_EPYTHON;
	if (!lookup->code && PyObject_SetAttr(holder, piece, value) < 0)
		lookup->code = assign_code();
	Py_XDECREF(piece);
	Py_DECREF(holder);
	return lookup->code;
}
