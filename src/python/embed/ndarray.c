/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results that are arrays: NumPy's ndarray, array.array and memoryview, of exactly these types. A snapshot copies the
 * elements once, into the message or a block of this process's arena; a view tells where they are, if that is shared.
 *
 * NumPy is told by its types' names and asked through __array_struct__, so it need not be there.
 *
 * Locks: none of its own; needs the GIL, which is given up while much is copied: the object and its buffer are held.
 * Crash story: a block that no reply names yet goes with the process.
 */
#include "arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snakebridge/error.h"

#define ALONE_BYTES (256 * 1024) /* copies of so much let other threads run */

/* NumPy's "array interface" for C (numpy/ndarraytypes.h, PyArrayInterface), a stable interface. */
struct array_struct {
	int two, nd;
	char typekind;
	int itemsize, flags;
	Py_intptr_t *shape, *strides;
	void *data;
	PyObject *descr;
};
#define NOT_SWAPPED 0x200
#define WRITEABLE   0x400
#define HAS_DESCR   0x800 /* fields */

/* An array, described; holder keeps its memory. */
struct found {
	struct sb__array_item item;
	const uint8_t *data; /* element 0 */
	PyObject *holder;    /* or NULL */
	Py_buffer view;      /* view.obj NULL: not used */
};

static void forget(struct found *f)
{
	Py_XDECREF(f->holder);
	PyBuffer_Release(&f->view); /* fine without one */
}

/* ── describing ── */

static bool set_dtype(struct found *f, const char *dtype)
{
	return sb__dtype_parse(dtype, strlen(dtype), f->item.dtype, &f->item.itemsize) == 0;
}

static bool set_shape(struct found *f, int ndim, const Py_ssize_t *shape, const Py_ssize_t *strides)
{
	int64_t packed[SB_ARRAY_NDIM_MAX];

	if (ndim > SB_ARRAY_NDIM_MAX)
		return false;
	f->item.ndim = ndim;
	for (int d = 0; d < ndim; d++)
		f->item.shape[d] = (size_t)shape[d];
	if (!sb__array_pack_strides(ndim, f->item.shape, f->item.itemsize, false, packed, &f->item.nbytes))
		return false;
	for (int d = 0; d < ndim; d++)
		f->item.strides[d] = strides ? (int64_t)strides[d] : packed[d];
	return true;
}

/* datetime64 and timedelta64 have a unit, which only the dtype's text tells. */
static bool set_time_dtype(struct found *f, PyObject *object)
{
	PyObject *dtype = PyObject_GetAttrString(object, "dtype");
	PyObject *text = dtype ? PyObject_GetAttrString(dtype, "str") : NULL;
	const char *utf8 = text && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;
	bool ok = utf8 && set_dtype(f, utf8);

	PyErr_Clear();
	Py_XDECREF(dtype);
	Py_XDECREF(text);
	return ok;
}

/* Of a void dtype. HAS_DESCR does not tell: NumPy clears it, with all other flags, just where it should be set. */
static bool has_fields(PyObject *object)
{
	PyObject *dtype = PyObject_GetAttrString(object, "dtype");
	PyObject *names = dtype ? PyObject_GetAttrString(dtype, "names") : NULL;
	bool none = names == Py_None;

	PyErr_Clear();
	Py_XDECREF(dtype);
	Py_XDECREF(names);
	return !none;
}

static bool describe_ndarray(PyObject *object, struct found *f)
{
	const struct array_struct *s;
	char dtype[32];
	bool swapped;

	f->holder = PyObject_GetAttrString(object, "__array_struct__");
	s = f->holder && PyCapsule_CheckExact(f->holder) ? PyCapsule_GetPointer(f->holder, NULL) : NULL;
	if (!s || s->two != 2 || s->itemsize <= 0 || s->flags & HAS_DESCR ||
	    (s->typekind == 'V' && has_fields(object))) {
		PyErr_Clear();
		return false;
	}
	swapped = !(s->flags & NOT_SWAPPED);
	snprintf(dtype, sizeof(dtype), "%c%c%d", swapped == (PY_LITTLE_ENDIAN != 0) ? '>' : '<', s->typekind,
	         s->typekind == 'U' ? s->itemsize / 4 : s->itemsize);
	if (s->typekind == 'M' || s->typekind == 'm' ? !set_time_dtype(f, object) : !set_dtype(f, dtype))
		return false; /* objects, among others */
	f->data = s->data;
	f->item.flags = s->flags & WRITEABLE ? 0 : SB__ARRAY_READONLY;
	return set_shape(f, s->nd, s->shape, s->strides);
}

/* A letter of the struct module, with its kind and size. */
static bool set_letter(struct found *f, const char *format, Py_ssize_t itemsize)
{
	static const char signed_ones[] = "bhilqn", unsigned_ones[] = "BHILQN", floats[] = "efd";
	char dtype[8], kind, order = '=';

	if (!format)
		format = "B";
	if (*format == '@')
		format++;
	else if (f->item.made_as == SB__MADE_NDARRAY && (*format == '<' || *format == '>'))
		order = *format++; /* as ctypes has it; a memoryview of such a format cannot be made again */
	if (!*format || format[1] || itemsize < 1 || itemsize > 8)
		return false;
	kind = strchr(signed_ones, *format)     ? 'i'
	       : strchr(unsigned_ones, *format) ? 'u'
	       : strchr(floats, *format)        ? 'f'
	       : *format == '?'                 ? 'b'
	       : *format == 'c'                 ? 'S'
	                                        : '\0';
	if (!kind)
		return false;
	snprintf(dtype, sizeof(dtype), "%c%c%d", order, kind, (int)itemsize);
	f->item.made_as |= (unsigned char)*format;
	return set_dtype(f, dtype);
}

static bool describe_buffer(PyObject *object, uint32_t made_as, struct found *f)
{
	if (PyObject_GetBuffer(object, &f->view, PyBUF_FULL_RO) < 0) {
		PyErr_Clear();
		f->view.obj = NULL;
		return false;
	}
	f->item.made_as = made_as;
	f->data = f->view.buf;
	f->item.flags = f->view.readonly ? SB__ARRAY_READONLY : 0;
	return !f->view.suboffsets && set_letter(f, f->view.format, f->view.itemsize) &&
	       set_shape(f, f->view.ndim, f->view.shape, f->view.strides);
}

/* A class by name, of a module that need not be loaded. */
static bool is_named(PyObject *object, const char *name)
{
	return strcmp(Py_TYPE(object)->tp_name, name) == 0;
}

/* Is it an array that has a value form? */
static bool describe(PyObject *object, bool view, struct found *f)
{
	if (is_named(object, "numpy.ndarray"))
		return describe_ndarray(object, f);
	if (PyMemoryView_Check(object))
		return describe_buffer(object, SB__MADE_MEMORYVIEW, f);
	if (is_named(object, "array.array"))
		return describe_buffer(object, SB__MADE_ARRAY, f);
	/* Whoever asks for a view of something else that is a buffer gets it as an ndarray. */
	if (!view || !PyObject_CheckBuffer(object) || PyBytes_Check(object) || PyByteArray_Check(object))
		return false;
	if (describe_ndarray(object, f))
		return true;
	Py_CLEAR(f->holder);
	if (!describe_buffer(object, SB__MADE_NDARRAY, f))
		return false;
	f->item.made_as = SB__MADE_NDARRAY;
	return true;
}

/* ── writing ── */

static int keep(struct sb__call *call, const struct sb__blocks *blocks, void *kept, struct sb__why *why)
{
	if (sb__kept_add(sb__call_kept(call), blocks, kept))
		return 0;
	return sb__because(why, SB_ENOMEM, "the call ran, but there is no memory for its result");
}

static int put_view(struct sb__call *call, struct found *f, const struct sb__blocks *blocks, int64_t low,
                    int64_t high, struct sb__buf *buf, struct sb__why *why)
{
	uint8_t *base = NULL;
	bool writable;
	void *kept;
	int err;

	if (!blocks ||
	    !blocks->find(blocks->arg, f->data + low, (size_t)(high - low), &f->item.block, &writable, &kept))
		return sb__because(why, SB_ENOVIEW,
		                   "the call ran, but the memory of its result is not shared, so there is no "
		                   "view of it; %s",
		                   sb_error_advice(SB_ENOVIEW));
	err = keep(call, blocks, kept, why);
	if (err)
		return err;
	base = blocks->address(kept);
	f->item.first = (uint64_t)(f->data - base);
	if (!writable)
		f->item.flags |= SB__ARRAY_READONLY;
	sb__put_array_item(buf, &f->item);
	return 0;
}

static void gather(const struct found *f, bool fortran, void *to)
{
	const struct sb__array_item *i = &f->item;

	if (i->nbytes < ALONE_BYTES) {
		sb__array_gather(i->ndim, i->shape, i->strides, i->itemsize, fortran, f->data, to);
		return;
	}
	Py_BEGIN_ALLOW_THREADS sb__array_gather(i->ndim, i->shape, i->strides, i->itemsize, fortran, f->data,
	                                        to);
	Py_END_ALLOW_THREADS
}

/* Fortran's order is kept, any other becomes C's. */
static bool set_packed(struct found *f)
{
	struct sb__array_item *i = &f->item;
	bool fortran = !sb__array_is_packed(i->ndim, i->shape, i->strides, i->itemsize, false) &&
	               sb__array_is_packed(i->ndim, i->shape, i->strides, i->itemsize, true);

	return fortran;
}

static int put_in_message(struct found *f, bool fortran, struct sb__buf *buf, struct sb__why *why)
{
	uint8_t small[SB__ARRAY_INLINE], *memory = small;

	if (f->item.nbytes > sizeof(small) && !(memory = malloc(f->item.nbytes)))
		return sb__because(why, SB_ENOMEM, "the call ran, but there is no memory for its result");
	gather(f, fortran, memory);
	sb__array_pack_strides(f->item.ndim, f->item.shape, f->item.itemsize, fortran, f->item.strides,
	                       &f->item.nbytes);
	f->item.data = memory;
	sb__put_array_item(buf, &f->item);
	if (memory != small)
		free(memory);
	return 0;
}

static int put_snapshot(struct sb__call *call, struct found *f, const struct sb__blocks *blocks,
                        struct sb__buf *buf, struct sb__why *why)
{
	bool fortran = set_packed(f);
	void *to, *kept;
	int err;

	if (f->item.nbytes <= SB__ARRAY_INLINE || !blocks)
		return put_in_message(f, fortran, buf, why);
	err = blocks->make(blocks->arg, sb__call_share(call), f->item.nbytes, &f->item.block, &to, &kept);
	if (err)
		return sb__because(why, err, "the call ran, but its result cannot be shared: %s",
		                   blocks->why());
	err = keep(call, blocks, kept, why);
	if (err)
		return err;
	gather(f, fortran, to);
	sb__array_pack_strides(f->item.ndim, f->item.shape, f->item.itemsize, fortran, f->item.strides,
	                       &f->item.nbytes);
	sb__put_array_item(buf, &f->item);
	return 0;
}

int sb__array_put(struct sb__call *call, PyObject *object, bool view, struct sb__buf *buf,
                  struct sb__why *why)
{
	const struct sb__blocks *blocks = sb__call_kept(call) ? sb__call_blocks(call) : NULL;
	struct found f = { .holder = NULL, .view = { .obj = NULL } };
	int64_t low, high;
	int err;

	if (!describe(object, view, &f)) {
		forget(&f);
		return 0;
	}
	if (!sb__array_span(f.item.ndim, f.item.shape, f.item.strides, f.item.itemsize, &low, &high))
		err = sb__because(why, SB_ETOOBIG,
		                  "the call ran, but its result is an array beyond all addresses");
	else if (view && f.item.nbytes > 0)
		err = put_view(call, &f, blocks, low, high, buf, why);
	else
		err = put_snapshot(call, &f, blocks, buf, why);
	forget(&f);
	return err ? err : 1;
}
