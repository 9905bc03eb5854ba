/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python objects ⇄ bytes for single values that have their own tags. encode.c and decode.c ask; containers and refs
 * are theirs. All with the GIL.
 *
 * Writers: 1: written; 0: the object is of another type, or has no plain form, and nothing was written. exact: an
 * instance of a subclass counts as another type. Makers are called after the tag was read: a new reference, or NULL and
 * the reason in why.
 *
 * Types of modules of the standard library that need not be loaded are told by their name first, so nothing is imported
 * to write a result; a value that comes makes its module be imported.
 */
#ifndef SB_EMBED_VALUES_H
#define SB_EMBED_VALUES_H

#include "convert.h"
#include "ints.h"

/* Is object's type that class of a module that is loaded? Without asking anything of the object. */
bool sb__is_class(PyTypeObject *type, const char *module, const char *name);
/* Calls a class of the standard library. Takes argument (NULL: an exception is set). A new reference, or NULL and an
 * exception. */
PyObject *sb__make_instance(const char *module, const char *name, const char *keyword, PyObject *argument);
/* What Python could not make of a value: memory is short, or the value makes no sense there. Clears the exception. NULL. */
void *sb__no_value(struct sb__why *why, const char *what);

/* ── values_number.c: int, complex, Decimal, Fraction, UUID, range ── */
int sb__int_put(struct sb__buf *buf, PyObject *object);
/* Most ints, exactly of this type, have one digit of Python's; their value without a call. */
static inline bool sb__int_is_short(PyObject *object, int64_t *ret)
{
#if PY_VERSION_HEX >= 0x030c0000
	if (!PyLong_CheckExact(object) || !PyUnstable_Long_IsCompact((PyLongObject *)object))
		return false;
	*ret = PyUnstable_Long_CompactValue((PyLongObject *)object);
#else
	Py_ssize_t digits = PyLong_CheckExact(object) ? Py_SIZE(object) : 2;

	if (digits < -1 || digits > 1)
		return false;
	*ret = digits * (int64_t)((PyLongObject *)object)->ob_digit[0];
#endif
	return true;
}
int sb__number_put(struct sb__buf *buf, PyObject *object, bool exact);
PyObject *sb__number_make(struct sb__cursor *cursor, uint64_t tag, struct sb__why *why);

/* ── values_time.c: datetime, date, time, timedelta ── */
int sb__time_put(struct sb__buf *buf, PyObject *object, bool exact);
PyObject *sb__time_make(struct sb__cursor *cursor, uint64_t tag, struct sb__why *why);

#endif
