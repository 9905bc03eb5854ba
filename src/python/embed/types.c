/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of an object's type: its name, and whether its instances never have a value form. A session's objects are of
 * few types, so the last ones asked about are kept.
 *
 * A kept entry is the type's as long as the interpreter's version tag of it stands: a tag never comes again, and changing
 * __module__ or anything else in the class takes it away. __qualname__ does not, so that object is compared, too.
 *
 * Locks: needs the GIL.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <string.h>

#define KEPT 64 /* a power of two */

static struct kept {
	PyTypeObject *type; /* NULL: empty. Not held: the tag tells a type from one that came in its place */
	unsigned tag;
	PyObject *qualname; /* held */
	struct sb__type_info info;
} kept[KEPT];

/* The classes whose instances are values, by the last part of their names; whether a class of such a name is one is found
 * out the long way. */
static bool may_have_value(const PyTypeObject *type)
{
	static const char *const names[] = { "Decimal", "Fraction", "UUID", "array", "ndarray" };
	const char *dot = strrchr(type->tp_name, '.'), *last = dot ? dot + 1 : type->tp_name;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(last, names[i]) == 0)
			return true;
	return false;
}

const struct sb__type_info *sb__type_info(PyTypeObject *type)
{
	struct kept *place = &kept[((uintptr_t)type >> 4 ^ (uintptr_t)type >> 11) % KEPT];
	PyObject *qualname, *name;

	if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE))
		return NULL;
	qualname = ((PyHeapTypeObject *)type)->ht_qualname;
	if (place->type == type && place->tag == type->tp_version_tag && place->qualname == qualname)
		return &place->info;
	if (!PyUnicode_CheckExact(qualname))
		return NULL;
	name = sb__name("__module__", strlen("__module__"));
	if (name)
		(void)_PyType_Lookup(type, name); /* gives it a tag */
	else
		PyErr_Clear();
	Py_XDECREF(name);
	if (type->tp_version_tag == 0)
		return NULL; /* the interpreter has none left */
	place->type = NULL;
	place->info.len = sb__type_name(type, place->info.name, sizeof(place->info.name),
	                                &place->info.module_len);
	place->info.ref_only = !may_have_value(type);
	place->type = type;
	place->tag = type->tp_version_tag;
	Py_XSETREF(place->qualname, Py_NewRef(qualname)); /* of exact strs: runs no code */
	return &place->info;
}
