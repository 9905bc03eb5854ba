/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments that are arrays: an object that owns the memory and exports it as a buffer, and NumPy arrays and
 * memoryviews over it.
 *
 * The exporter's memory is given back in its deallocation and nowhere else: whatever looks into it (an ndarray, a
 * memoryview, a slice of one) has a reference to the exporter, so memory never goes while it can be seen.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: what a killed process keeps of shared memory names it (shm/holds.h).
 */
#include "arrays.h"
#include "gil.h"

#include <string.h>

#include "snakebridge/error.h"

struct block {
	PyObject_HEAD sb_array *array;
	bool raw; /* exports bytes from the lowest element's to the highest's, else elements */
	Py_ssize_t low, len;
	Py_ssize_t shape[SB_ARRAY_NDIM_MAX], strides[SB_ARRAY_NDIM_MAX];
	char format[2];
};

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	sb_array_unref(((struct block *)self)->array);
	PyObject_Free(self);
	Py_DECREF(type);
}

static int get_elements(struct block *b, Py_buffer *view, int flags)
{
	sb_array *a = b->array;
	bool packed = sb__array_is_packed(a->ndim, a->shape, a->strides, a->itemsize, false);
	bool fortran = sb__array_is_packed(a->ndim, a->shape, a->strides, a->itemsize, true);
	bool fits = packed;

	if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS)
		fits = fortran;
	else if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS)
		fits = packed || fortran;
	else if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS)
		fits = packed;
	else if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES)
		fits = true;
	if (!fits || ((flags & PyBUF_WRITABLE) && a->flags & SB__ARRAY_READONLY)) {
		PyErr_SetString(PyExc_BufferError,
		                fits ? "the array is read-only" : "the array is not contiguous");
		return -1;
	}
	*view = (Py_buffer){
		.buf = a->data,
		.obj = Py_NewRef((PyObject *)b),
		.len = (Py_ssize_t)a->nbytes,
		.itemsize = (Py_ssize_t)a->itemsize,
		.readonly = a->flags & SB__ARRAY_READONLY ? 1 : 0,
		.ndim = flags & PyBUF_ND ? a->ndim : 1,
		.format = flags & PyBUF_FORMAT ? b->format : NULL,
		.shape = flags & PyBUF_ND ? b->shape : NULL,
		.strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? b->strides : NULL,
	};
	return 0;
}

static int getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct block *b = (struct block *)self;

	if (!b->raw)
		return get_elements(b, view, flags);
	return PyBuffer_FillInfo(view, self, b->array->data + b->low, b->len,
	                         b->array->flags & SB__ARRAY_READONLY ? 1 : 0, flags);
}

static PyType_Slot slots[] = {
	{ Py_tp_dealloc, (void *)dealloc },
	{ Py_bf_getbuffer, (void *)getbuffer },
	{ 0, NULL },
};

static PyType_Spec spec = {
	.name = "snakebridge.SharedMemory",
	.basicsize = sizeof(struct block),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots,
};

static PyTypeObject *block_type; /* made at the first use, kept for ever */

/* Takes over array, also on failure. */
static PyObject *exporter(sb_array *array, char letter)
{
	struct block *b = NULL;
	int64_t low, high;

	if (!block_type)
		block_type = (PyTypeObject *)PyType_FromSpec(&spec);
	if (block_type)
		b = PyObject_New(struct block, block_type);
	if (!b) {
		sb_array_unref(array);
		return NULL;
	}
	sb__array_span(array->ndim, array->shape, array->strides, array->itemsize, &low, &high);
	b->array = array;
	b->raw = letter == '\0';
	b->low = (Py_ssize_t)low;
	b->len = (Py_ssize_t)(high - low);
	b->format[0] = letter;
	b->format[1] = '\0';
	for (int d = 0; d < array->ndim; d++) {
		b->shape[d] = (Py_ssize_t)array->shape[d];
		b->strides[d] = (Py_ssize_t)array->strides[d];
	}
	return (PyObject *)b;
}

/* ── opening ── */

/* Takes data out of the message, or keeps the block. */
static sb_array *open_item(struct sb__call *call, const struct sb__array_item *item, struct sb__why *why)
{
	const struct sb__blocks *blocks = sb__call_blocks(call);
	void *addr, *kept;
	sb_array *array;
	int err;

	if (item->data || item->nbytes == 0) {
		err = sb__array_open(item, NULL, &array);
		if (err)
			sb__because(why, err, "out of memory for an array of %zu bytes", item->nbytes);
		return err ? NULL : array;
	}
	if (!blocks) {
		sb__because(why, SB_EPROTOCOL,
		            "an argument is an array in shared memory, which is not to be had here");
		return NULL;
	}
	err = blocks->keep(blocks->arg, &item->block, !(item->flags & SB__ARRAY_READONLY), &addr, &kept);
	if (err) {
		sb__because(why, err, "an argument is an array that cannot be used: %s", blocks->why());
		return NULL;
	}
	err = sb__array_make(item, (uint8_t *)addr + item->first, blocks->release, kept, &array);
	if (err) {
		blocks->release(kept);
		sb__because(why, err, "out of memory for an array");
		return NULL;
	}
	call->shares = true;
	return array;
}

/* ── what it becomes ── */

static PyObject *tuple_of(int ndim, const Py_ssize_t *numbers)
{
	PyObject *tuple = PyTuple_New(ndim);

	for (int d = 0; tuple && d < ndim; d++) {
		PyObject *n = PyLong_FromSsize_t(numbers[d]);

		if (n)
			PyTuple_SET_ITEM(tuple, d, n);
		else
			Py_CLEAR(tuple);
	}
	return tuple;
}

/* numpy.ndarray(shape, dtype, buffer, offset, strides): knows every dtype, and its base is the buffer. */
static PyObject *make_ndarray(PyObject *numpy, PyObject *buffer)
{
	struct block *b = (struct block *)buffer;
	PyObject *type = PyObject_GetAttrString(numpy, "ndarray");
	PyObject *shape = tuple_of(b->array->ndim, b->shape), *strides = tuple_of(b->array->ndim, b->strides);
	PyObject *made = NULL;

	if (type && shape && strides && b->len > 0)
		made = PyObject_CallFunction(type, "OsOnO", shape, b->array->dtype, buffer, -b->low, strides);
	else if (type && shape && strides)
		made = PyObject_CallFunction(type, "Os", shape, b->array->dtype);
	Py_XDECREF(type);
	Py_XDECREF(shape);
	Py_XDECREF(strides);
	return made;
}

/* array.array owns its memory: a copy. */
static PyObject *make_array(const sb_array *a, char letter)
{
	char typecode[2] = { letter, '\0' };
	PyObject *module = PyImport_ImportModule("array"), *made = NULL;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)a->nbytes);

	if (module && bytes) {
		sb__array_gather(a->ndim, a->shape, a->strides, a->itemsize, false, a->data,
		                 PyBytes_AS_STRING(bytes));
		made = PyObject_CallMethod(module, "array", "sO", typecode, bytes);
	}
	Py_XDECREF(module);
	Py_XDECREF(bytes);
	return made;
}

/* The letter of PEP 3118 of a dtype in this machine's order, or 0. */
static char letter_of(const char *dtype)
{
	static const struct {
		char dtype[4], letter;
	} letters[] = { { "b1", '?' }, { "i1", 'b' }, { "u1", 'B' }, { "i2", 'h' }, { "u2", 'H' },
		        { "i4", 'i' }, { "u4", 'I' }, { "i8", 'q' }, { "u8", 'Q' }, { "f2", 'e' },
		        { "f4", 'f' }, { "f8", 'd' }, { "S1", 'c' } };

	for (size_t i = 0; *dtype != '>' && i < sizeof(letters) / sizeof(letters[0]); i++)
		if (strcmp(dtype + 1, letters[i].dtype) == 0)
			return letters[i].letter;
	return '\0';
}

/* Without NumPy: elements where PEP 3118 has a letter for them, else bytes. */
static PyObject *make_memoryview(sb_array *array, char letter)
{
	PyObject *buffer = exporter(array, letter), *made = buffer ? PyMemoryView_FromObject(buffer) : NULL;

	Py_XDECREF(buffer);
	return made;
}

static bool letter_fits(uint32_t made_as, const char *dtype)
{
	char letter = letter_of(dtype), wanted = (char)(made_as & 0xff);

	return letter == wanted || (letter == 'q' && wanted == 'l') || (letter == 'Q' && wanted == 'L');
}

static PyObject *make_object(sb_array *array)
{
	uint32_t kind = array->made_as & SB__MADE_MASK;
	char letter = (char)(array->made_as & 0xff);
	PyObject *numpy, *buffer, *made;

	if (kind != SB__MADE_NDARRAY && !letter_fits(array->made_as, array->dtype))
		kind = SB__MADE_NDARRAY;
	if (kind == SB__MADE_ARRAY) {
		made = make_array(array, letter);
		sb_array_unref(array);
		return made;
	}
	if (kind == SB__MADE_MEMORYVIEW)
		return make_memoryview(array, letter);
	numpy = PyImport_ImportModule("numpy");
	if (!numpy) {
		PyErr_Clear();
		return make_memoryview(array, letter_of(array->dtype));
	}
	sb__npalloc_install(sb__thread());
	buffer = exporter(array, '\0');
	made = buffer ? make_ndarray(numpy, buffer) : NULL;
	/* Without elements there is no buffer that says that it is read-only. */
	if (made && ((struct block *)buffer)->len == 0 &&
	    ((struct block *)buffer)->array->flags & SB__ARRAY_READONLY)
		Py_XDECREF(PyObject_CallMethod(made, "setflags", "i", 0));
	Py_DECREF(numpy);
	Py_XDECREF(buffer);
	return made;
}

PyObject *sb__array_decode(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why)
{
	struct sb__array_item item;
	sb_array *array;
	PyObject *made;
	int err = sb__next_array(cursor, &item);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	array = open_item(call, &item, why);
	if (!array)
		return NULL;
	made = make_object(array);
	if (!made) {
		char name[64];

		sb__type_name(PyErr_Occurred() ? (PyTypeObject *)PyErr_Occurred() : &PyBaseObject_Type, name,
		              sizeof(name), NULL);
		PyErr_Clear();
		sb__because(why, SB_EINVAL, "an argument of dtype %s cannot be made an array here (%s)",
		            item.dtype, name);
	}
	return made;
}
