/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results: Python objects → bytes. What has a plain form becomes a value, anything else a ref, at the level
 * of leaves: containers keep their shape. Exact types only, because a subclass has more to it than its base.
 * Numbers, dates and times are in values_number.c and values_time.c.
 *
 * A container that is on the way to itself, and one nested too deeply, end in a ref to that container.
 * Containers that are shared without a cycle are written once for each occurrence.
 *
 * While a result is encoded other threads may change it, wherever the GIL is given up (NumPy's item() may):
 * every item is held while it is encoded, sizes are read anew, and counts are written last.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include <string.h>

#include "arrays.h"
#include "scalar.h"
#include "snakebridge/error.h"
#include "stream.h"
#include "values.h"

#define NEXT_BYTES   ((size_t)1 << 20)    /* a reply that has so many takes no further items of a stream */
#define RESULT_DEPTH (SB__DEPTH_MAX - 8u) /* the reply itself takes some of what readers allow */

struct encoding {
	struct sb__call *call;
	struct sb__buf *buf;
	struct sb__why *why;
	uint32_t flags; /* SB_CALL_… */
	unsigned depth;
	PyObject *path[RESULT_DEPTH]; /* containers around the item, borrowed */
};

static int put(struct encoding *e, PyObject *object);

static int put_named_ref(struct encoding *e, PyObject *object, const char *name, size_t module_len)
{
	sb_ref ref;
	int err;

	ref.session_id[0] = '\0'; /* the receiver knows which session; not the mark of an item of a batch */
	err = sb__table_name(e->call, object, name, module_len, &ref);
	if (err == SB_EREFSFULL && e->call->over_quota)
		return sb__because(
			e->why, err,
			"the call ran, but this process (pid %d) holds as many refs of the session "
			"as each may (max_refs_per_process): release some, or raise it",
			(int)e->call->origin.pid);
	if (err == SB_EREFSFULL)
		return sb__because(e->why, err,
		                   "the call ran, but the session has no room for the refs in its "
		                   "result; %s",
		                   sb_error_advice(err));
	if (err)
		return sb__because(e->why, err, "the call ran, but no ref could be made for its result: %s",
		                   sb_strerror(err));
	sb__put_ref(e->buf, &ref, name);
	return 0;
}

static int put_ref(struct encoding *e, PyObject *object)
{
	const struct sb__type_info *info = sb__type_info(Py_TYPE(object));
	char name[SB_TYPE_NAME_MAX + 1];
	size_t module_len;

	if (info)
		return put_named_ref(e, object, info->name, info->module_len);
	sb__type_name(Py_TYPE(object), name, sizeof(name), &module_len);
	return put_named_ref(e, object, name, module_len);
}

/* Nearly all objects of classes: 1 if the object became a ref, 0 if there is more to look at, or an error. */
static int put_ref_only(struct encoding *e, PyObject *object)
{
	const struct sb__type_info *info = NULL;
	int err;

	if (!(e->flags & (SB_CALL_PLAIN | SB_CALL_AS_VIEW)))
		info = sb__type_info(Py_TYPE(object));
	if (!info || !info->ref_only)
		return 0;
	err = put_named_ref(e, object, info->name, info->module_len);
	return err ? err : 1;
}

/* rc: of a writer of values.h. */
static int put_or_ref(struct encoding *e, int rc, PyObject *original)
{
	return rc ? 0 : put_ref(e, original);
}

static int put_str(struct encoding *e, PyObject *object, PyObject *original)
{
	PyObject *utf8;

	if (PyUnicode_IS_COMPACT_ASCII(object)) {
		sb__put_str(e->buf, (const char *)PyUnicode_1BYTE_DATA(object),
		            (size_t)PyUnicode_GET_LENGTH(object));
		return 0;
	}
	/* Not PyUnicode_AsUTF8AndSize(): that would keep a second copy in the object for good. */
	utf8 = PyUnicode_AsUTF8String(object);
	if (!utf8) {
		bool memory = PyErr_ExceptionMatches(PyExc_MemoryError);

		PyErr_Clear();
		if (!memory) { /* lone surrogates */
			utf8 = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
			PyErr_Clear();
		}
		if (!utf8)
			return sb__because(e->why, SB_ENOMEM,
			                   "the call ran, but Python has no memory for its result");
	}
	if (!sb__put_wtf8(e->buf, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8))) {
		Py_DECREF(utf8);
		return put_ref(e, original);
	}
	Py_DECREF(utf8);
	return 0;
}

static void put_bytearray(struct encoding *e, PyObject *object)
{
	sb__put_tagged_bytes(e->buf, SB__TAG_BYTEARRAY, PyByteArray_AS_STRING(object),
	                     (size_t)PyByteArray_GET_SIZE(object));
}

/*
 * What is no container, exactly: 1 if it was, 0 if not, or an error. One that has no plain form after all becomes a
 * ref to original.
 */
static int put_scalar(struct encoding *e, PyObject *object, PyObject *original)
{
	int err = 0;

	if (object == Py_None)
		sb__put_null(e->buf);
	else if (PyBool_Check(object))
		sb__put_bool(e->buf, object == Py_True);
	else if (PyLong_CheckExact(object))
		err = put_or_ref(e, sb__int_put(e->buf, object), original);
	else if (PyFloat_CheckExact(object))
		sb__put_float(e->buf, PyFloat_AS_DOUBLE(object));
	else if (PyUnicode_CheckExact(object))
		err = put_str(e, object, original);
	else if (PyBytes_CheckExact(object))
		sb__put_bytes(e->buf, PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
	else if (PyByteArray_CheckExact(object))
		put_bytearray(e, object);
	else if (object == Py_Ellipsis)
		sb__put_ellipsis(e->buf);
	else
		return 0;
	return err ? err : 1;
}

static int put_held(struct encoding *e, PyObject *item)
{
	int err;

	Py_INCREF(item);
	err = put(e, item);
	Py_DECREF(item);
	return err ? err : e->buf->error;
}

static int put_list(struct encoding *e, PyObject *list)
{
	size_t head = sb__put_array_later(e->buf);
	Py_ssize_t i = 0;
	int err = e->buf->error;

	for (; !err && i < PyList_GET_SIZE(list); i++)
		err = put_held(e, PyList_GET_ITEM(list, i));
	sb__patch_count(e->buf, head, (uint32_t)i); /* each item took a byte of at most SB__MESSAGE_MAX */
	return err;
}

static int put_tuple(struct encoding *e, PyObject *tuple)
{
	int err = 0;

	sb__put_tag(e->buf, SB__TAG_TUPLE);
	sb__put_array(e->buf, (uint64_t)PyTuple_GET_SIZE(tuple));
	for (Py_ssize_t i = 0; !err && i < PyTuple_GET_SIZE(tuple); i++)
		err = put_held(e, PyTuple_GET_ITEM(tuple, i));
	return err;
}

static int put_dict(struct encoding *e, PyObject *dict)
{
	size_t head = sb__put_map_later(e->buf);
	Py_ssize_t at = 0, pairs = 0, limit = PyDict_GET_SIZE(dict);
	PyObject *key, *value;
	int err = e->buf->error;

	/* The limit ends it also when somebody keeps adding meanwhile. */
	while (!err && pairs < limit && PyDict_Next(dict, &at, &key, &value)) {
		Py_INCREF(value);
		err = put_held(e, key);
		if (!err)
			err = put_held(e, value);
		Py_DECREF(value);
		pairs++;
	}
	sb__patch_count(e->buf, head, (uint32_t)pairs);
	return err;
}

/* An OrderedDict's own order is told by its items only. */
static int put_ordered(struct encoding *e, PyObject *dict)
{
	PyObject *items = PyMapping_Items(dict);
	Py_ssize_t count = items ? PyList_GET_SIZE(items) : -1;
	int err = 0;

	for (Py_ssize_t i = 0; i < count; i++)
		if (!PyTuple_Check(PyList_GET_ITEM(items, i)) ||
		    PyTuple_GET_SIZE(PyList_GET_ITEM(items, i)) != 2)
			count = -1; /* a subclass with items of its own kind */
	if (count < 0) {
		PyErr_Clear();
		Py_XDECREF(items);
		return put_ref(e, dict);
	}
	sb__put_map(e->buf, (uint64_t)count);
	for (Py_ssize_t i = 0; !err && i < count; i++) {
		PyObject *pair = PyList_GET_ITEM(items, i);

		err = put_held(e, PyTuple_GET_ITEM(pair, 0));
		if (!err)
			err = put_held(e, PyTuple_GET_ITEM(pair, 1));
	}
	Py_DECREF(items);
	return err;
}

/* Of a copy: others may change it meanwhile. A subclass's own iteration is not asked. */
static int put_set(struct encoding *e, PyObject *set)
{
	PyObject *iterator = PySet_Type.tp_iter(set);
	PyObject *items = iterator ? PySequence_List(iterator) : NULL;
	int err = 0;

	Py_XDECREF(iterator);
	if (!items) {
		PyErr_Clear();
		return sb__because(e->why, SB_ENOMEM,
		                   "the call ran, but Python has no memory for its result");
	}
	sb__put_tag(e->buf, PyFrozenSet_Check(set) ? SB__TAG_FROZENSET : SB__TAG_SET);
	sb__put_array(e->buf, (uint64_t)PyList_GET_SIZE(items));
	for (Py_ssize_t i = 0; !err && i < PyList_GET_SIZE(items); i++)
		err = put_held(e, PyList_GET_ITEM(items, i));
	Py_DECREF(items);
	return err;
}

static int put_slice(struct encoding *e, PyObject *object)
{
	const PySliceObject *slice = (const PySliceObject *)object; /* never changes */
	int err;

	sb__put_tag(e->buf, SB__TAG_SLICE);
	sb__put_array(e->buf, 3);
	err = put_held(e, slice->start);
	if (!err)
		err = put_held(e, slice->stop);
	return err ? err : put_held(e, slice->step);
}

static bool on_path(const struct encoding *e, const PyObject *object)
{
	for (unsigned i = e->depth; i-- > 0;)
		if (e->path[i] == object)
			return true;
	return false;
}

static int put_container(struct encoding *e, PyObject *object)
{
	int err;

	if (e->depth == RESULT_DEPTH || on_path(e, object))
		return put_ref(e, object);
	e->path[e->depth++] = object;
	if (PyList_Check(object))
		err = put_list(e, object);
	else if (PyTuple_Check(object))
		err = put_tuple(e, object);
	else if (PyAnySet_Check(object))
		err = put_set(e, object);
	else if (PySlice_Check(object))
		err = put_slice(e, object);
	else if (PyODict_Check(object))
		err = put_ordered(e, object);
	else
		err = put_dict(e, object);
	e->depth--;
	return err;
}

/* Is it one of NumPy's own scalar types? Told by name, so that NumPy need not be there. */
static bool is_numpy_scalar(const PyTypeObject *type)
{
	if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) || strncmp(type->tp_name, "numpy.", 6) != 0)
		return false;
	/* Not along tp_base: numpy.str_ has two bases. */
	for (Py_ssize_t i = 0; type->tp_mro && i < PyTuple_GET_SIZE(type->tp_mro); i++)
		if (strcmp(((PyTypeObject *)PyTuple_GET_ITEM(type->tp_mro, i))->tp_name, "numpy.generic") ==
		    0)
			return true;
	return false;
}

/* The plain value of a NumPy scalar if it has one, else a ref. longdouble has none, nor have datetime64 and
 * timedelta64: what item() gives of them depends on their unit. */
static int put_numpy_scalar(struct encoding *e, PyObject *object)
{
	const char *name = Py_TYPE(object)->tp_name + strlen("numpy.");
	PyObject *item;
	int rc = 0;

	if (strcmp(name, "datetime64") == 0 || strcmp(name, "timedelta64") == 0)
		return put_ref(e, object);
	item = PyObject_CallMethod(object, "item", NULL);
	if (!item)
		PyErr_Clear();
	else if (PyComplex_CheckExact(item))
		rc = sb__number_put(e->buf, item, true);
	else if (item != Py_None)
		rc = put_scalar(e, item, object);
	Py_XDECREF(item);
	if (rc)
		return rc < 0 ? rc : 0;
	return put_ref(e, object);
}

/* The base value of an instance of a subclass: 1 if it has one, 0 if not, or an error. */
static int put_base(struct encoding *e, PyObject *object)
{
	int err = 0;

	if (PyLong_Check(object))
		err = put_or_ref(e, sb__int_put(e->buf, object), object);
	else if (PyFloat_Check(object))
		sb__put_float(e->buf, PyFloat_AS_DOUBLE(object));
	else if (PyUnicode_Check(object))
		err = put_str(e, object, object);
	else if (PyBytes_Check(object))
		sb__put_bytes(e->buf, PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
	else if (PyByteArray_Check(object))
		put_bytearray(e, object);
	else if (PyList_Check(object) || PyTuple_Check(object) || PyDict_Check(object) ||
	         PyAnySet_Check(object))
		err = put_container(e, object);
	else
		return sb__number_put(e->buf, object, false) || sb__time_put(e->buf, object, false);
	return err ? err : 1;
}

static bool is_container(PyObject *object)
{
	return PyList_CheckExact(object) || PyTuple_CheckExact(object) || PyDict_CheckExact(object) ||
	       PyAnySet_CheckExact(object) || PySlice_Check(object);
}

static int put(struct encoding *e, PyObject *object)
{
	int rc = Py_TYPE(object)->tp_flags & Py_TPFLAGS_HEAPTYPE ? put_ref_only(e, object) : 0;

	if (!rc)
		rc = put_scalar(e, object, object);
	if (rc)
		return rc < 0 ? rc : 0;
	if (is_container(object))
		return put_container(e, object);
	if (sb__number_put(e->buf, object, true) || sb__time_put(e->buf, object, true))
		return 0;
	if (is_numpy_scalar(Py_TYPE(object)))
		return put_numpy_scalar(e, object);
	rc = sb__array_put(e->call, object, e->flags & SB_CALL_AS_VIEW, e->buf, e->why);
	if (rc)
		return rc < 0 ? rc : 0;
	if (e->flags & SB_CALL_PLAIN)
		rc = put_base(e, object);
	if (rc)
		return rc < 0 ? rc : 0;
	return put_ref(e, object);
}

/* A result, or an item of a batch. */
static int put_result(struct encoding *e, PyObject *object)
{
	return e->flags & SB_CALL_AS_REF && object != Py_None ? put_ref(e, object) : put(e, object);
}

static void begin(struct encoding *e, struct sb__call *call, uint32_t flags, struct sb__buf *buf,
                  struct sb__why *why)
{
	e->call = call;
	e->buf = buf;
	e->why = why;
	e->flags = flags;
	e->depth = 0; /* path is filled as it is used */
}

static int finish(struct encoding *e, int err)
{
	if (!err)
		err = e->buf->error;
	if (err == SB_ETOOBIG)
		return sb__because(e->why, err, "the call ran, but its result takes more than %zu bytes; %s",
		                   e->buf->limit, sb_error_advice(err));
	if (err)
		return sb__because(e->why, err, "the call ran, but its result could not be stored: %s",
		                   sb_strerror(err));
	return 0;
}

int sb__encode(struct sb__call *call, PyObject *object, uint32_t flags, struct sb__buf *buf,
               struct sb__why *why)
{
	struct encoding e;

	begin(&e, call, flags, buf, why);
	return finish(&e, put_result(&e, object));
}

/* Where an item began. */
struct mark {
	size_t len, uses, kept;
};

static struct mark mark(const struct encoding *e)
{
	return (struct mark){ e->buf->len, sb__call_mark(e->call),
		              e->call->origin.kept ? e->call->origin.kept->count : 0 };
}

static void rewind_to(struct encoding *e, const struct mark *m)
{
	e->buf->error = 0;
	sb__buf_truncate(e->buf, m->len);
	sb__call_rewind(e->call, m->uses);
	if (e->call->origin.kept)
		sb__kept_rewind(e->call->origin.kept, m->kept);
}

/* Short ints, of which most streams of ints consist: how many there are from the first-th item on, until the buffer is so
 * long. */
static size_t put_short_ints(struct encoding *e, const struct sb__stream *s, size_t first, size_t most,
                             size_t len)
{
	size_t i = first;
	PyObject *item;
	int64_t v;

	for (; i < most && e->buf->len < len && (item = sb__stream_peek(s, i)) != NULL &&
	       sb__int_is_short(item, &v);
	     i++) {
		uint8_t *to = sb__buf_room(e->buf, SB__INT_MAX_BYTES);

		if (!to)
			break; /* the same item is tried once more, and what is wrong is looked at there */
		e->buf->len += sb__write_int(to, v);
	}
	return i - first;
}

static int put_next_items(struct encoding *e, struct sb__stream *s, size_t most, size_t *ret_count)
{
	size_t end = e->buf->len + NEXT_BYTES, i = 0;

	for (;; i++) {
		struct mark before;
		PyObject *item;
		int err;

		if (!(e->flags & SB_CALL_AS_REF) && !e->buf->error)
			i += put_short_ints(e, s, i, most, end);
		item = i < most && e->buf->len < end ? Py_XNewRef(sb__stream_peek(s, i)) : NULL;
		if (!item)
			break;
		before = mark(e);
		err = put_result(e, item);
		Py_DECREF(item);
		if (!err && !e->buf->error)
			continue;
		if (i == 0)
			return err;
		rewind_to(e, &before); /* it comes first the next time, and says what is wrong */
		e->why->code = 0;
		break;
	}
	*ret_count = i;
	return 0;
}

int sb__encode_next(struct sb__call *call, struct sb__stream *s, const struct sb__stream_wish *wish,
                    uint32_t flags, struct sb__buf *buf, struct sb__why *why)
{
	size_t count = 0, head, last;
	struct encoding e;
	bool end = true;
	int err = 0;

	begin(&e, call, flags, buf, why);
	sb__put_array(buf, 2);
	last = buf->len;
	sb__put_bool(buf, true);
	head = sb__put_array_later(buf);
	if (s && !buf->error)
		err = put_next_items(&e, s, wish->most, &count);
	err = finish(&e, err);
	if (err)
		return err;
	if (s)
		end = sb__stream_take(call, s, count);
	if (!end) {
		struct sb__buf byte = { .data = buf->data + last, .cap = 1, .limit = 1 };

		sb__put_bool(&byte, false);
	}
	sb__patch_count(buf, head, (uint32_t)count);
	return 0;
}
