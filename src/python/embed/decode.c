/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments: bytes → Python objects. Whatever fails here, nothing of the call has run: it is refused, and
 * the reason says which argument was at fault.
 *
 * The bytes were written by another process and may be anything; the cursor checks each item, this file
 * checks what they mean together. Refs are looked up, and pinned for the call, as they come.
 *
 * Locks: none of its own; needs the GIL, which hashing a dict's key may give up.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "callbacks.h"
#include "scalar.h"
#include "snakebridge/error.h"
#include "values.h"

struct decoding {
	struct sb__call *call;
	struct sb__cursor *cursor;
	struct sb__why *why;
};

static PyObject *decode(struct decoding *d, unsigned depth);

/* Python could not make an object. */
static void *no_object(struct decoding *d)
{
	PyErr_Clear();
	sb__because(d->why, SB_ENOMEM, "Python has no memory for the arguments; send less at a time");
	return NULL;
}

static bool next(struct decoding *d, struct sb__item *item)
{
	int err = sb__next(d->cursor, item);

	if (err)
		sb__because_protocol(d->why, err);
	return !err;
}

static PyObject *decode_list(struct decoding *d, uint64_t count, unsigned depth)
{
	PyObject *list = PyList_New((Py_ssize_t)count);

	if (!list)
		return no_object(d);
	for (uint64_t i = 0; i < count; i++) {
		PyObject *item = decode(d, depth);

		if (!item) {
			Py_DECREF(list);
			return NULL;
		}
		PyList_SET_ITEM(list, (Py_ssize_t)i, item);
	}
	return list;
}

/* An array's head; exactly: as sb__next_tagged_array() has it. */
static bool next_array(struct decoding *d, const char *what, uint64_t exactly, uint64_t *ret_count)
{
	int err = sb__next_tagged_array(d->cursor, what, exactly, ret_count);

	if (err)
		sb__because_protocol(d->why, err);
	return !err;
}

static PyObject *decode_tuple(struct decoding *d, unsigned depth)
{
	uint64_t count;
	PyObject *tuple;

	if (!next_array(d, "tuple", UINT64_MAX, &count))
		return NULL;
	tuple = PyTuple_New((Py_ssize_t)count);
	if (!tuple)
		return no_object(d);
	for (uint64_t i = 0; i < count; i++) {
		PyObject *item = decode(d, depth);

		if (!item) {
			Py_DECREF(tuple);
			return NULL;
		}
		PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
	}
	return tuple;
}

/* What a dict or set cannot have. */
static void no_key(struct decoding *d, PyObject *key, const char *what)
{
	char name[SB_TYPE_NAME_MAX + 1];

	sb__type_name(Py_TYPE(key), name, sizeof(name), NULL);
	PyErr_Clear();
	sb__because(d->why, SB_EINVAL,
	            "an argument holds a %s of type %s, which cannot be hashed; use one that can", what,
	            name);
}

static PyObject *decode_set(struct decoding *d, bool frozen, unsigned depth)
{
	uint64_t count = 0;
	PyObject *set;

	if (!next_array(d, "set", UINT64_MAX, &count))
		return NULL;
	set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
	if (!set)
		return no_object(d);
	for (uint64_t i = 0; i < count; i++) {
		PyObject *item = decode(d, depth);
		bool fine = item && PySet_Add(set, item) == 0;

		if (item && !fine)
			no_key(d, item, "set with an item");
		Py_XDECREF(item);
		if (!fine) {
			Py_DECREF(set);
			return NULL;
		}
	}
	return set;
}

static PyObject *decode_slice(struct decoding *d, unsigned depth)
{
	PyObject *parts[3] = { NULL }, *slice = NULL;
	uint64_t count;
	size_t have = 0;

	if (!next_array(d, "slice", 3, &count))
		return NULL;
	while (have < 3 && (parts[have] = decode(d, depth)))
		have++;
	if (have == 3) {
		slice = PySlice_New(parts[0], parts[1], parts[2]);
		if (!slice)
			no_object(d);
	}
	while (have > 0)
		Py_DECREF(parts[--have]);
	return slice;
}

/* Puts a pair into a dict, whose key may be any object that a ref names. */
static bool put_pair(struct decoding *d, PyObject *dict, PyObject *key, PyObject *value)
{
	if (PyDict_SetItem(dict, key, value) == 0)
		return true;
	no_key(d, key, "dict with a key");
	return false;
}

static PyObject *decode_dict(struct decoding *d, uint64_t pairs, unsigned depth)
{
	PyObject *dict = PyDict_New();
	bool fine = dict != NULL;

	if (!dict)
		return no_object(d);
	for (uint64_t i = 0; i < pairs && fine; i++) {
		PyObject *key = decode(d, depth);
		PyObject *value = key ? decode(d, depth) : NULL;

		fine = value && put_pair(d, dict, key, value);
		Py_XDECREF(key);
		Py_XDECREF(value);
	}
	if (!fine)
		Py_CLEAR(dict);
	return dict;
}

PyObject *sb__item_result(const struct sb__call *call, uint64_t item, struct sb__why *why)
{
	if (!call->items) {
		sb__because(why, SB_EINVAL, "a call outside a batch names a batch item's result");
		return NULL;
	}
	if (item >= call->items->count) {
		sb__because(why, SB_EINVAL,
		            "item %llu uses the result of item %llu, which does not come before it",
		            (unsigned long long)call->items->count, (unsigned long long)item);
		return NULL;
	}
	if (!call->items->results[item]) {
		sb__because(why, SB_EINVAL, "item %llu uses the result of item %llu, which gave none",
		            (unsigned long long)call->items->count, (unsigned long long)item);
		return NULL;
	}
	return Py_NewRef(call->items->results[item]);
}

static PyObject *decode_item(struct decoding *d)
{
	struct sb__item item;

	if (!next(d, &item))
		return NULL;
	if (item.type != SB__ITEM_INT || item.u.integer < 0) {
		sb__because(d->why, SB_EPROTOCOL,
		            "the request cannot be read: the number of a batch's item is not valid");
		return NULL;
	}
	return sb__item_result(d->call, (uint64_t)item.u.integer, d->why);
}

static PyObject *decode_ref(struct decoding *d)
{
	PyObject *object = NULL;
	sb_ref ref;
	int err = sb__next_ref_fields(d->cursor, &ref);

	if (err) {
		sb__because_protocol(d->why, err);
		return NULL;
	}
	err = sb__table_find(d->call, &ref, &object);
	if (err)
		sb__because_ref(d->why, err, &ref);
	return object;
}

static PyObject *decode_scalar(struct decoding *d, const struct sb__item *item)
{
	const char *bytes = (const char *)item->u.bytes.data;
	PyObject *object;

	switch (item->type) {
	case SB__ITEM_NULL: return Py_NewRef(Py_None);
	case SB__ITEM_BOOL: return Py_NewRef(item->u.boolean ? Py_True : Py_False);
	case SB__ITEM_INT: object = PyLong_FromLongLong(item->u.integer); break;
	case SB__ITEM_FLOAT: object = PyFloat_FromDouble(item->u.number); break;
	case SB__ITEM_STR: object = PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)item->u.bytes.len, NULL); break;
	default: object = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)item->u.bytes.len); break;
	}
	return object ? object : no_object(d);
}

/* What stands under a tag and holds no other values. */
static PyObject *decode_tagged(struct decoding *d, uint64_t tag)
{
	struct sb__item item;
	PyObject *object;
	int err;

	switch (tag) {
	case SB__TAG_REF: return decode_ref(d);
	case SB__TAG_ITEM_RESULT: return decode_item(d);
	case SB__TAG_ARRAY: return sb__array_decode(d->call, d->cursor, d->why);
	case SB__TAG_CALLBACK: return sb__callback_make(d->call, d->cursor, d->why);
	case SB__TAG_WTF8:
	case SB__TAG_BYTEARRAY:
		err = tag == SB__TAG_WTF8 ? sb__next_wtf8(d->cursor, &item)
		                          : sb__next_tagged_bytes(d->cursor, "bytearray", SIZE_MAX, &item);
		break;
	case SB__TAG_ELLIPSIS: err = sb__next_ellipsis(d->cursor); break;
	case SB__TAG_DATETIME_TEXT:
	case SB__TAG_DATETIME:
	case SB__TAG_DATE:
	case SB__TAG_TIME:
	case SB__TAG_TIMEDELTA: return sb__time_make(d->cursor, tag, d->why);
	case SB__TAG_BIGNUM:
	case SB__TAG_BIGNUM_NEGATIVE:
	case SB__TAG_DECIMAL:
	case SB__TAG_DECIMAL_TEXT:
	case SB__TAG_FRACTION:
	case SB__TAG_UUID:
	case SB__TAG_COMPLEX:
	case SB__TAG_RANGE: return sb__number_make(d->cursor, tag, d->why);
	default:
		sb__because(d->why, SB_EPROTOCOL, "the request cannot be read: tag %llu is not known here",
		            (unsigned long long)tag);
		return NULL;
	}
	if (err) {
		sb__because_protocol(d->why, err);
		return NULL;
	}
	if (tag == SB__TAG_ELLIPSIS)
		return Py_NewRef(Py_Ellipsis);
	if (tag == SB__TAG_WTF8)
		object = PyUnicode_DecodeUTF8((const char *)item.u.bytes.data, (Py_ssize_t)item.u.bytes.len,
		                              "surrogatepass");
	else
		object = PyByteArray_FromStringAndSize((const char *)item.u.bytes.data,
		                                       (Py_ssize_t)item.u.bytes.len);
	return object ? object : no_object(d);
}

static bool is_container(const struct sb__item *item)
{
	if (item->type != SB__ITEM_TAG)
		return item->type == SB__ITEM_ARRAY || item->type == SB__ITEM_MAP;
	return item->u.count == SB__TAG_TUPLE || item->u.count == SB__TAG_SET ||
	       item->u.count == SB__TAG_FROZENSET || item->u.count == SB__TAG_SLICE;
}

/* depth: containers around this item. */
static PyObject *decode(struct decoding *d, unsigned depth)
{
	struct sb__item item;

	if (!next(d, &item))
		return NULL;
	if (!is_container(&item))
		return item.type == SB__ITEM_TAG ? decode_tagged(d, item.u.count) : decode_scalar(d, &item);
	if (depth >= SB__DEPTH_MAX) {
		sb__because(d->why, SB_ETOODEEP,
		            "an argument is nested more than %u deep; flatten it, or build it in "
		            "Python and pass its ref",
		            SB__DEPTH_MAX);
		return NULL;
	}
	if (item.type == SB__ITEM_ARRAY)
		return decode_list(d, item.u.count, depth + 1);
	if (item.type == SB__ITEM_MAP)
		return decode_dict(d, item.u.count, depth + 1);
	switch (item.u.count) {
	case SB__TAG_TUPLE: return decode_tuple(d, depth + 1);
	case SB__TAG_SLICE: return decode_slice(d, depth + 1);
	default: return decode_set(d, item.u.count == SB__TAG_FROZENSET, depth + 1);
	}
}

PyObject *sb__value_make(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why)
{
	struct decoding d = { .call = call, .cursor = cursor, .why = why };

	return decode(&d, 0);
}

/* ── argument containers ── */

static int decode_positional(struct decoding *d, struct sb__arguments *arguments)
{
	struct sb__item head;

	if (sb__take_byte(d->cursor, SB__MAJOR_ARRAY | 0)) /* none */
		return 0;
	if (!next(d, &head))
		return d->why->code;
	if (head.type != SB__ITEM_ARRAY)
		return sb__because(d->why, SB_EPROTOCOL,
		                   "the request cannot be read: its arguments are not an array");
	if (head.u.count + 2 > sizeof(arguments->inline_items) / sizeof(arguments->inline_items[0])) {
		arguments->memory = malloc((head.u.count + 2) * sizeof(PyObject *));
		if (!arguments->memory)
			return sb__because(d->why, SB_ENOMEM, "out of memory for %llu arguments",
			                   (unsigned long long)head.u.count);
		arguments->items = arguments->memory + 2;
	}
	while (arguments->count < head.u.count) {
		PyObject *item = decode(d, 0);

		if (!item)
			return d->why->code;
		arguments->items[arguments->count++] = item;
	}
	return 0;
}

static int put_keyword(struct decoding *d, struct sb__arguments *arguments, uint64_t already)
{
	struct sb__item name;
	PyObject *key, *value;
	bool fine;

	if (!next(d, &name))
		return d->why->code;
	if (name.type != SB__ITEM_STR)
		return sb__because(d->why, SB_EPROTOCOL,
		                   "the request cannot be read: a keyword is not a str");
	key = decode_scalar(d, &name);
	value = key ? decode(d, 0) : NULL;
	fine = value && put_pair(d, arguments->keywords, key, value);
	Py_XDECREF(key);
	Py_XDECREF(value);
	if (fine && (uint64_t)PyDict_GET_SIZE(arguments->keywords) == already)
		return sb__because(d->why, SB_EINVAL,
		                   "the keyword argument %.*s is given twice; give it once",
		                   (int)(name.u.bytes.len < 80 ? name.u.bytes.len : 80),
		                   (const char *)name.u.bytes.data);
	return d->why->code;
}

static int decode_keywords(struct decoding *d, struct sb__arguments *arguments)
{
	struct sb__item head;

	if (sb__take_byte(d->cursor, SB__MAJOR_MAP | 0))
		return 0;
	if (!next(d, &head))
		return d->why->code;
	if (head.type != SB__ITEM_MAP)
		return sb__because(d->why, SB_EPROTOCOL,
		                   "the request cannot be read: its keywords are not a map");
	if (head.u.count == 0)
		return 0;
	arguments->keywords = PyDict_New();
	if (!arguments->keywords) {
		no_object(d);
		return d->why->code;
	}
	for (uint64_t i = 0; i < head.u.count; i++) {
		int err = put_keyword(d, arguments, i);

		if (err)
			return err;
	}
	return 0;
}

int sb__arguments_decode(struct sb__call *call, struct sb__cursor *cursor, struct sb__arguments *ret,
                         struct sb__why *why)
{
	struct decoding d = { .call = call, .cursor = cursor, .why = why };
	int err;

	ret->items = ret->inline_items + 2;
	ret->count = 0;
	ret->keywords = NULL;
	ret->memory = NULL;
	err = decode_positional(&d, ret);
	if (!err)
		err = decode_keywords(&d, ret);
	if (!err && cursor->pos != cursor->len)
		err = sb__because(why, SB_EPROTOCOL, "the request cannot be read: %zu bytes follow its end",
		                  cursor->len - cursor->pos);
	if (err)
		sb__arguments_drop(ret);
	return err;
}

void sb__arguments_drop(struct sb__arguments *arguments)
{
	for (size_t i = 0; i < arguments->count; i++)
		Py_DECREF(arguments->items[i]);
	arguments->count = 0;
	Py_CLEAR(arguments->keywords);
	free(arguments->memory);
	arguments->memory = NULL;
}
