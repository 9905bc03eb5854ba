/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Iteration in batches: an object that holds an iterator, and what was read of it and not delivered yet.
 *
 * Nothing is lost and nothing comes twice: items leave the object when they are in a reply, an exception that comes
 * after some items waits for its turn, and one reader at a time has it. To Python code it is an iterator like others.
 *
 * Locks: none of its own; needs the GIL, which the iterator may give up: busy keeps a second reader out meanwhile.
 * Crash story: nothing is shared.
 */
#include "convert.h"

#include "snakebridge/error.h"

struct batch {
	PyObject_HEAD PyObject *iterator; /* NULL once it is exhausted */
	PyObject *unread;                 /* list */
	PyObject *pending;                /* exception that comes after what is unread, or NULL */
	bool busy;
};

static int traverse(PyObject *self, visitproc visit, void *arg)
{
	struct batch *b = (struct batch *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(b->iterator);
	Py_VISIT(b->unread);
	Py_VISIT(b->pending);
	return 0;
}

static int clear(PyObject *self)
{
	struct batch *b = (struct batch *)self;

	Py_CLEAR(b->iterator);
	Py_CLEAR(b->unread);
	Py_CLEAR(b->pending);
	return 0;
}

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

/* One more into unread: 1; 0 at the end; -1 with pending set. */
static int read_one(struct batch *b)
{
	PyObject *iterator = b->iterator, *item;
	int rc = 0;

	if (!iterator || !b->unread)
		return 0;
	Py_INCREF(iterator);
	item = PyIter_Next(iterator);
	Py_DECREF(iterator);
	if (item)
		rc = b->unread && PyList_Append(b->unread, item) == 0 ? 1 : -1;
	else if (PyErr_Occurred())
		rc = -1;
	Py_XDECREF(item);
	if (rc <= 0)
		Py_CLEAR(b->iterator);
	if (rc < 0)
		Py_XSETREF(b->pending, sb__exception_take());
	return rc;
}

static void raise_pending(struct batch *b)
{
	PyObject *exception = b->pending;

	b->pending = NULL;
	sb__exception_restore(exception);
}

/* False, and an exception, if another call has it. */
static bool begin(struct batch *b)
{
	if (b->busy) {
		PyErr_SetString(PyExc_ValueError, "another call is reading this iterator now");
		return false;
	}
	b->busy = true;
	return true;
}

static PyObject *iternext(PyObject *self)
{
	struct batch *b = (struct batch *)self;
	PyObject *item = NULL;

	if (!begin(b))
		return NULL;
	if (b->unread && PyList_GET_SIZE(b->unread) == 0 && !b->pending)
		read_one(b);
	if (b->unread && PyList_GET_SIZE(b->unread) > 0) {
		item = Py_NewRef(PyList_GET_ITEM(b->unread, 0));
		if (PyList_SetSlice(b->unread, 0, 1, NULL) < 0)
			Py_CLEAR(item);
	} else if (b->pending) {
		raise_pending(b);
	}
	b->busy = false;
	return item;
}

static PyType_Slot slots[] = {
	{ Py_tp_traverse, (void *)traverse }, { Py_tp_clear, (void *)clear },
	{ Py_tp_dealloc, (void *)dealloc },   { Py_tp_iter, (void *)PyObject_SelfIter },
	{ Py_tp_iternext, (void *)iternext }, { 0, NULL },
};

static PyType_Spec spec = {
	.name = "snakebridge.Iterator",
	.basicsize = sizeof(struct batch),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots,
};

static PyTypeObject *batch_type; /* made at the first use, kept for ever */

PyObject *sb__batch_iterator(PyObject *object)
{
	PyObject *iterator = PyObject_GetIter(object), *unread = iterator ? PyList_New(0) : NULL;
	struct batch *b = NULL;

	if (unread && !batch_type)
		batch_type = (PyTypeObject *)PyType_FromSpec(&spec);
	if (unread && batch_type)
		b = PyObject_GC_New(struct batch, batch_type);
	if (!b) {
		Py_XDECREF(iterator);
		Py_XDECREF(unread);
		return NULL;
	}
	b->iterator = iterator;
	b->unread = unread;
	b->pending = NULL;
	b->busy = false;
	PyObject_GC_Track((PyObject *)b);
	return (PyObject *)b;
}

PyObject *sb__batch_next(PyObject *object, Py_ssize_t max, bool *ret_last, struct sb__why *why)
{
	struct batch *b = (struct batch *)object;
	PyObject *items = NULL;

	if (!batch_type || Py_TYPE(object) != batch_type) {
		sb__because(why, SB_EINVAL,
		            "the target of next is not an iterator that iter gave; ask iter for one");
		return NULL;
	}
	if (!begin(b))
		return NULL;
	while (b->unread && PyList_GET_SIZE(b->unread) < max && !b->pending && read_one(b) > 0)
		;
	if (b->unread && PyList_GET_SIZE(b->unread) == 0 && b->pending)
		raise_pending(b);
	else
		items = PyList_GetSlice(b->unread, 0, max);
	*ret_last = items && !b->iterator && !b->pending && PyList_GET_SIZE(b->unread) <= max;
	if (!items)
		b->busy = false;
	return items;
}

void sb__batch_end(PyObject *object, Py_ssize_t taken)
{
	struct batch *b = (struct batch *)object;

	if (taken && b->unread && PyList_SetSlice(b->unread, 0, taken, NULL) < 0)
		PyErr_Clear();
	b->busy = false;
}

bool sb__batch_is_busy(PyObject *object)
{
	return ((struct batch *)object)->busy;
}
