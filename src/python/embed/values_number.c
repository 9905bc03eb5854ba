/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and the like: ints of any size, complex, Decimal, Fraction, UUID, range.
 *
 * Ints are never made into digits: that costs the square of their length, and Python limits it.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "values.h"

#include <string.h>

#include "scalar.h"
#include "snakebridge/error.h"

/* ── classes ── */

bool sb__is_class(PyTypeObject *type, const char *module, const char *name)
{
	const char *dot = strrchr(type->tp_name, '.');
	PyObject *loaded, *class;
	bool same;

	if (strcmp(dot ? dot + 1 : type->tp_name, name) != 0)
		return false;
	loaded = PyDict_GetItemString(PyImport_GetModuleDict(), module);
	class = loaded ? PyObject_GetAttrString(loaded, name) : NULL;
	same = class == (PyObject *)type;
	Py_XDECREF(class);
	if (PyErr_Occurred())
		PyErr_Clear();
	return same;
}

PyObject *sb__make_instance(const char *module, const char *name, const char *keyword, PyObject *argument)
{
	PyObject *loaded = argument ? PyImport_ImportModule(module) : NULL;
	PyObject *class = loaded ? PyObject_GetAttrString(loaded, name) : NULL;
	PyObject *names = class && keyword ? Py_BuildValue("(s)", keyword) : NULL;
	PyObject *made = NULL;

	if (class && (names || !keyword))
		made = PyObject_Vectorcall(class, &argument, keyword ? 0 : 1, names);
	Py_XDECREF(names);
	Py_XDECREF(class);
	Py_XDECREF(loaded);
	Py_XDECREF(argument);
	return made;
}

void *sb__no_value(struct sb__why *why, const char *what)
{
	bool memory = !PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_MemoryError);

	PyErr_Clear();
	if (memory)
		sb__because(why, SB_ENOMEM, "Python has no memory for the arguments; send less at a time");
	else
		sb__because(why, SB_EINVAL,
		            "an argument holds a %s that this Python cannot make; pass another", what);
	return NULL;
}

/* ── ints ── */

/* Bytes of an int that is not negative, most significant first, as many as size. */
static int to_bytes(PyObject *n, uint8_t *bytes, size_t size)
{
#if PY_VERSION_HEX >= 0x030d0000
	return PyLong_AsNativeBytes(n, bytes, (Py_ssize_t)size,
	                            Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER) < 0
	               ? -1
	               : 0;
#else
	return _PyLong_AsByteArray((PyLongObject *)n, bytes, size, 0, 0);
#endif
}

static PyObject *from_bytes(const uint8_t *bytes, size_t len)
{
#if PY_VERSION_HEX >= 0x030d0000
	return PyLong_FromUnsignedNativeBytes(bytes, len, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
	return _PyLong_FromByteArray(bytes, len, 0, 0);
#endif
}

static size_t bytes_of(PyObject *n)
{
#if PY_VERSION_HEX >= 0x030d0000
	return (size_t)PyLong_AsNativeBytes(n, NULL, 0, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
	return _PyLong_NumBits(n) / 8 + 1;
#endif
}

/* An int beyond 64 bits. */
static int put_big(struct sb__buf *buf, PyObject *object, bool negative)
{
	uint8_t few[256], *bytes = few;
	/* -1 - object; int's own, for a subclass may give anything */
	PyObject *n = negative ? PyLong_Type.tp_as_number->nb_invert(object) : Py_NewRef(object);
	size_t size = n ? bytes_of(n) : 0;
	int rc = 0;

	if (size > sizeof(few))
		bytes = size <= SB_BIGINT_MAX ? PyMem_Malloc(size) : NULL;
	if (n && bytes && to_bytes(n, bytes, size) == 0) {
		sb__put_bignum(buf, negative, bytes, size);
		rc = 1;
	}
	if (PyErr_Occurred())
		PyErr_Clear();
	if (bytes != few)
		PyMem_Free(bytes);
	Py_XDECREF(n);
	return rc;
}

int sb__int_put(struct sb__buf *buf, PyObject *object)
{
	int overflow = 0;
	int64_t v;

	if (!sb__int_is_short(object, &v))
		v = PyLong_AsLongLongAndOverflow(object, &overflow);
	if (overflow)
		return put_big(buf, object, overflow < 0);
	sb__put_int(buf, v);
	return 1;
}

static PyObject *make_big(struct sb__cursor *cursor, bool negative, struct sb__why *why)
{
	struct sb__item item;
	int err = sb__next_bignum(cursor, &item);
	PyObject *n, *inverted;

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	n = from_bytes(item.u.bytes.data, item.u.bytes.len);
	if (n && negative) {
		inverted = PyNumber_Invert(n);
		Py_DECREF(n);
		n = inverted;
	}
	return n ? n : sb__no_value(why, "int");
}

/* ── of ints: Fraction, range ── */

/* Attributes that are ints, under a tag. */
static int put_ints(struct sb__buf *buf, PyObject *object, uint64_t tag, const char *const *names,
                    size_t count)
{
	size_t before = buf->len;
	int rc = 1;

	sb__put_tag(buf, tag);
	sb__put_array(buf, count);
	for (size_t i = 0; i < count && rc; i++) {
		PyObject *part = PyObject_GetAttrString(object, names[i]);

		rc = part && PyLong_CheckExact(part) ? sb__int_put(buf, part) : 0;
		Py_XDECREF(part);
	}
	if (!rc) {
		PyErr_Clear();
		sb__buf_truncate(buf, before);
	}
	return rc;
}

static PyObject *make_int(struct sb__cursor *cursor, struct sb__why *why)
{
	struct sb__item item;
	PyObject *made;
	int err = sb__next(cursor, &item);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	if (item.type == SB__ITEM_TAG &&
	    (item.u.count == SB__TAG_BIGNUM || item.u.count == SB__TAG_BIGNUM_NEGATIVE))
		return make_big(cursor, item.u.count == SB__TAG_BIGNUM_NEGATIVE, why);
	if (item.type != SB__ITEM_INT) {
		sb__because(why, SB_EPROTOCOL,
		            "the request cannot be read: a part of a Fraction or range is "
		            "no int");
		return NULL;
	}
	made = PyLong_FromLongLong(item.u.integer);
	return made ? made : sb__no_value(why, "int");
}

/* A call of class, which is given away, with so many ints. */
static PyObject *make_of_ints(struct sb__cursor *cursor, PyObject *class, const char *what, uint64_t count,
                              struct sb__why *why)
{
	PyObject *parts[3] = { NULL }, *made = NULL;
	uint64_t ignored;
	size_t have = 0;
	int err = sb__next_tagged_array(cursor, what, count, &ignored);

	if (err) {
		PyErr_Clear(); /* of class */
		sb__because_protocol(why, err);
	} else if (!class) {
		sb__no_value(why, what);
	}
	while (!why->code && have < count) {
		parts[have] = make_int(cursor, why);
		if (parts[have])
			have++;
	}
	if (!why->code) {
		made = PyObject_Vectorcall(class, parts, have, NULL);
		if (!made)
			sb__no_value(why, what);
	}
	while (have > 0)
		Py_DECREF(parts[--have]);
	Py_XDECREF(class);
	return made;
}

static PyObject *fraction_class(void)
{
	PyObject *module = PyImport_ImportModule("fractions");
	PyObject *class = module ? PyObject_GetAttrString(module, "Fraction") : NULL;

	Py_XDECREF(module);
	return class;
}

/* ── Decimal, UUID, complex ── */

static int put_decimal(struct sb__buf *buf, PyObject *object)
{
	PyObject *text = PyObject_Str(object);
	Py_ssize_t len = 0;
	const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
	int rc = utf8 && sb__put_decimal(buf, utf8, (size_t)len);

	if (PyErr_Occurred())
		PyErr_Clear();
	Py_XDECREF(text);
	return rc;
}

static PyObject *make_decimal(struct sb__cursor *cursor, uint64_t tag, struct sb__why *why)
{
	char space[SB__DECIMAL_TEXT];
	const char *text;
	size_t len = 0;
	PyObject *made;
	int err = sb__next_decimal(cursor, tag, space, &text, &len);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	made = sb__make_instance("decimal", "Decimal", NULL,
	                         PyUnicode_FromStringAndSize(text, (Py_ssize_t)len));
	return made ? made : sb__no_value(why, "Decimal");
}

static int put_uuid(struct sb__buf *buf, PyObject *object)
{
	PyObject *bytes = PyObject_GetAttrString(object, "bytes");
	int rc = bytes && PyBytes_CheckExact(bytes) && PyBytes_GET_SIZE(bytes) == 16;

	if (rc)
		sb__put_tagged_bytes(buf, SB__TAG_UUID, PyBytes_AS_STRING(bytes), 16);
	PyErr_Clear();
	Py_XDECREF(bytes);
	return rc;
}

static PyObject *make_uuid(struct sb__cursor *cursor, struct sb__why *why)
{
	struct sb__item item;
	PyObject *made;
	int err = sb__next_tagged_bytes(cursor, "UUID", 16, &item);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	made = sb__make_instance("uuid", "UUID", "bytes",
	                         PyBytes_FromStringAndSize((const char *)item.u.bytes.data, 16));
	return made ? made : sb__no_value(why, "UUID");
}

static PyObject *make_complex(struct sb__cursor *cursor, struct sb__why *why)
{
	double real, imaginary;
	PyObject *made;
	int err = sb__next_complex(cursor, &real, &imaginary);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	made = PyComplex_FromDoubles(real, imaginary);
	return made ? made : sb__no_value(why, "complex");
}

int sb__number_put(struct sb__buf *buf, PyObject *object, bool exact)
{
	static const char *const range[] = { "start", "stop", "step" };
	static const char *const fraction[] = { "numerator", "denominator" };
	PyTypeObject *type = Py_TYPE(object);

	if (exact ? PyComplex_CheckExact(object) : PyComplex_Check(object)) {
		const Py_complex v = ((PyComplexObject *)object)->cval;

		sb__put_complex(buf, v.real, v.imag);
		return 1;
	}
	if (type == &PyRange_Type)
		return put_ints(buf, object, SB__TAG_RANGE, range, 3);
	if (sb__is_class(type, "decimal", "Decimal"))
		return put_decimal(buf, object);
	if (sb__is_class(type, "fractions", "Fraction"))
		return put_ints(buf, object, SB__TAG_FRACTION, fraction, 2);
	if (sb__is_class(type, "uuid", "UUID"))
		return put_uuid(buf, object);
	return 0;
}

PyObject *sb__number_make(struct sb__cursor *cursor, uint64_t tag, struct sb__why *why)
{
	switch (tag) {
	case SB__TAG_BIGNUM:
	case SB__TAG_BIGNUM_NEGATIVE: return make_big(cursor, tag == SB__TAG_BIGNUM_NEGATIVE, why);
	case SB__TAG_COMPLEX: return make_complex(cursor, why);
	case SB__TAG_RANGE:
		return make_of_ints(cursor, Py_NewRef((PyObject *)&PyRange_Type), "range", 3, why);
	case SB__TAG_FRACTION: return make_of_ints(cursor, fraction_class(), "Fraction", 2, why);
	case SB__TAG_UUID: return make_uuid(cursor, why);
	default: return make_decimal(cursor, tag, why);
	}
}
