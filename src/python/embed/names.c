/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names as interned str objects. A process calls few methods, often: the last names are kept by their bytes, so that a call
 * neither decodes its method's name nor looks it up among all interned ones.
 *
 * Locks: needs the GIL.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <string.h>

#define KEPT     128 /* a power of two */
#define KEPT_LEN 48

static struct kept {
	PyObject *name; /* one count for ever, or until another name takes the place */
	size_t len;
	bool dotted;
	char text[KEPT_LEN];
} kept[KEPT];

static PyObject *intern(const char *text, size_t len)
{
	PyObject *name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)len, NULL);

	if (name)
		PyUnicode_InternInPlace(&name);
	return name;
}

/* Where a name of 1 to KEPT_LEN bytes is kept, if it is. */
static struct kept *place_of(const char *text, size_t len)
{
	const uint8_t *bytes = (const uint8_t *)text;

	return &kept[(bytes[0] * 5u + bytes[len / 2] * 11u + bytes[len - 1] * 3u + len) % KEPT];
}

static bool is_kept(const struct kept *place, const char *text, size_t len)
{
	return place->name && place->len == len && memcmp(place->text, text, len) == 0;
}

PyObject *sb__name_known(const char *text, size_t len)
{
	struct kept *place;

	if (len == 0 || len > KEPT_LEN)
		return NULL;
	place = place_of(text, len);
	return !place->dotted && is_kept(place, text, len) ? place->name : NULL;
}

PyObject *sb__name(const char *text, size_t len)
{
	struct kept *place;
	PyObject *name;

	if (len == 0 || len > KEPT_LEN)
		return intern(text, len);
	place = place_of(text, len);
	if (is_kept(place, text, len))
		return Py_NewRef(place->name);
	name = intern(text, len);
	if (!name)
		return NULL;
	memcpy(place->text, text, len);
	place->len = len;
	place->dotted = memchr(text, '.', len) != NULL;
	Py_XSETREF(place->name, Py_NewRef(name)); /* of an exact str: runs no code */
	return name;
}
