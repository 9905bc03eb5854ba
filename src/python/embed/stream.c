/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object that a stream's ref names: an iterator, what was read of it and not delivered yet, and the exception after that.
 * To Python code it is an iterator like others.
 *
 * The object is apart from its state, which a puller's thread may need for longer: once the object is gone, nobody can read.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "stream.h"

#include <stdlib.h>

#include "cancel.h"
#include "gil.h"

#define CAP_FIRST     16
#define BREATHE_EVERY 64 /* items; an iterator in C gives nobody the GIL */

struct stream_object {
	PyObject_HEAD struct sb__stream *s;
};

/* ── what was read ── */

static PyObject **at(const struct sb__stream *s, size_t i)
{
	return &s->items[(s->head + i) & (s->cap - 1)];
}

static bool grow(struct sb__stream *s)
{
	size_t cap = s->cap ? 2 * s->cap : CAP_FIRST;
	PyObject **items = malloc(cap * sizeof(*items));

	if (!items)
		return false;
	for (size_t i = 0; i < s->count; i++)
		items[i] = *at(s, i);
	free(s->items);
	s->items = items;
	s->cap = cap;
	s->head = 0;
	return true;
}

bool sb__stream_add(struct sb__stream *s, PyObject *item)
{
	if (s->count == s->cap && !grow(s)) {
		Py_DECREF(item);
		PyErr_NoMemory();
		return false;
	}
	s->items[(s->head + s->count++) & (s->cap - 1)] = item;
	if (sb__stream_available(s) >= s->wake_at)
		sb__stream_wake(s, false);
	return true;
}

void sb__stream_empty(struct sb__stream *s)
{
	PyObject **items = s->items;
	size_t head = s->head, count = s->count, cap = s->cap;

	s->items = NULL;
	s->head = s->count = s->cap = s->taken = 0;
	for (size_t i = 0; i < count; i++)
		Py_DECREF(items[(head + i) & (cap - 1)]);
	free(items);
	Py_CLEAR(s->pending);
}

/* ── waiters ── */

void sb__stream_count_waiters(struct sb__stream *s)
{
	s->wanted = 0;
	s->wake_at = SIZE_MAX;
	for (struct sb__stream_waiter *w = s->waiters; w; w = w->next) {
		if (w->most > s->wanted)
			s->wanted = w->most;
		if (!w->posted && w->need < s->wake_at)
			s->wake_at = w->need;
	}
}

void sb__stream_wake(struct sb__stream *s, bool all)
{
	for (struct sb__stream_waiter *w = s->waiters; w; w = w->next) {
		if (w->posted || (!all && sb__stream_available(s) < w->need))
			continue;
		w->posted = true;
		sb__event_post(&w->wake);
	}
	sb__stream_count_waiters(s);
}

/* ── reading ── */

void sb__stream_over(struct sb__stream *s)
{
	PyObject *exception = PyErr_Occurred() ? sb__exception_take() : NULL, *driver = s->driver;

	s->driver = NULL;
	if (driver && sb__async_close(driver) < 0 && !exception)
		exception = sb__exception_take();
	PyErr_Clear();
	Py_XDECREF(driver);
	Py_XSETREF(s->pending, exception);
	Py_CLEAR(s->iterator);
	sb__stream_wake(s, true);
}

/* Is it the exception by which a puller is told that the stream was closed? */
static bool told_to_end(const struct sb__stream *s)
{
	return s->closed && PyErr_ExceptionMatches(PyExc_GeneratorExit);
}

void sb__stream_pull(struct sb__stream *s)
{
	PyObject *iterator = Py_XNewRef(s->iterator);
	unsigned breath = 0;

	if (s->driver && sb__stream_wants(s)) {
		sb__async_pull(s);
	} else {
		while (sb__stream_wants(s)) {
			PyObject *item = PyIter_Next(iterator);

			if (!item && PyErr_Occurred() && told_to_end(s))
				PyErr_Clear();
			if (!item || !sb__stream_add(s, item))
				sb__stream_over(s);
			else if (++breath % BREATHE_EVERY == 0)
				sb__gil_breathe();
		}
	}
	Py_XDECREF(iterator);
}

/* Not files and their like, which have close() too: a loop over one leaves it open. */
static bool is_generator(PyObject *object)
{
	return PyGen_Check(object) ||
	       (PyObject_HasAttrString(object, "throw") && PyObject_HasAttrString(object, "close"));
}

void sb__stream_finish(struct sb__stream *s)
{
	PyObject *iterator = s->iterator, *driver = s->driver, *result = NULL;

	s->iterator = s->driver = NULL;
	if (driver)
		(void)sb__async_close(driver);
	else if (iterator && is_generator(iterator))
		result = PyObject_CallMethod(iterator, "close", NULL);
	Py_XDECREF(result);
	Py_XDECREF(driver);
	Py_XDECREF(iterator);
}

/* ── the object ── */

void sb__stream_unref(struct sb__stream *s)
{
	if (--s->refs > 0)
		return;
	free(s->items);
	free(s);
}

/* Nobody can read it any more. A generator that others hold goes on where it is. */
static void drop(struct sb__stream *s)
{
	PyObject *driver = s->driver;

	s->closed = true;
	if (s->pulling) {
		sb__puller_interrupt(s); /* and the puller tidies up */
		return;
	}
	s->driver = NULL;
	if (driver && sb__async_close(driver) < 0)
		PyErr_WriteUnraisable(driver);
	Py_XDECREF(driver);
	Py_CLEAR(s->iterator);
	sb__stream_empty(s);
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
	struct sb__stream *s = ((struct stream_object *)self)->s;

	Py_VISIT(Py_TYPE(self));
	if (!s)
		return 0;
	Py_VISIT(s->iterator);
	Py_VISIT(s->driver);
	Py_VISIT(s->pending);
	for (size_t i = 0; i < s->count; i++)
		Py_VISIT(*at(s, i));
	return 0;
}

static int clear(PyObject *self)
{
	struct stream_object *object = (struct stream_object *)self;
	struct sb__stream *s = object->s;

	object->s = NULL;
	if (s) {
		s->object = NULL;
		drop(s);
		sb__stream_unref(s);
	}
	return 0;
}

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	PyObject *exception = PyErr_Occurred() ? sb__exception_take() : NULL;

	PyObject_GC_UnTrack(self);
	clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
	if (exception)
		sb__exception_restore(exception);
}

/* For Python code: here, on its thread, as it would read the iterator itself. */
static PyObject *iternext(PyObject *self)
{
	struct sb__stream *s = ((struct stream_object *)self)->s;
	struct sb__stream_wish wish = { .most = 1 };
	struct sb__why why = { 0 };
	PyObject *item;
	int err;

	if (!s)
		return NULL;
	err = sb__stream_await(NULL, s, &wish, &why);
	if (err == SB_ECANCELLED)
		sb__cancel_raise();
	else if (err && err != SB_EPYTHON)
		PyErr_SetString(PyExc_ValueError, why.message);
	if (err || s->count == 0)
		return NULL;
	item = *at(s, 0); /* nothing is in flight */
	s->head++;
	s->count--;
	return item;
}

static PyType_Slot slots[] = {
	{ Py_tp_traverse, (void *)traverse }, { Py_tp_clear, (void *)clear },
	{ Py_tp_dealloc, (void *)dealloc },   { Py_tp_iter, (void *)PyObject_SelfIter },
	{ Py_tp_iternext, (void *)iternext }, { 0, NULL },
};

static PyType_Spec spec = {
	.name = "snakebridge.Stream",
	.basicsize = sizeof(struct stream_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots,
};

static PyTypeObject *stream_type; /* made at the first use, kept for ever */

struct sb__stream *sb__stream_of(PyObject *object)
{
	return stream_type && Py_TYPE(object) == stream_type ? ((struct stream_object *)object)->s : NULL;
}

static bool is_immediate(const PyObject *iterator)
{
	const PyTypeObject *const types[] = {
		&PyListIter_Type,    &PyTupleIter_Type,     &PyRangeIter_Type,   &PyLongRangeIter_Type,
		&PySetIter_Type,     &PyUnicodeIter_Type,   &PyBytesIter_Type,   &PyByteArrayIter_Type,
		&PyDictIterKey_Type, &PyDictIterValue_Type, &PyDictIterItem_Type
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (Py_TYPE(iterator) == types[i])
			return true;
	return false;
}

static bool is_async(PyObject *object)
{
	const PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;

	return methods && methods->am_aiter && !Py_TYPE(object)->tp_iter;
}

static PyObject *async_iterator(PyObject *object)
{
	PyObject *iterator = Py_TYPE(object)->tp_as_async->am_aiter(object);

	if (iterator && (!Py_TYPE(iterator)->tp_as_async || !Py_TYPE(iterator)->tp_as_async->am_anext)) {
		PyErr_Format(PyExc_TypeError, "'%.100s' object is not an async iterator",
		             Py_TYPE(iterator)->tp_name);
		Py_CLEAR(iterator);
	}
	return iterator;
}

static struct stream_object *make_object(void)
{
	struct stream_object *object;

	if (!stream_type)
		stream_type = (PyTypeObject *)PyType_FromSpec(&spec);
	object = stream_type ? PyObject_GC_New(struct stream_object, stream_type) : NULL;
	if (!object)
		return NULL;
	object->s = calloc(1, sizeof(*object->s));
	if (object->s) {
		object->s->refs = 1;
		object->s->object = (PyObject *)object;
		object->s->wake_at = SIZE_MAX;
		return object;
	}
	PyErr_NoMemory();
	Py_DECREF(object);
	return NULL;
}

PyObject *sb__stream_make(PyObject *object)
{
	bool async = is_async(object);
	PyObject *iterator, *driver = NULL;
	struct stream_object *made = NULL;

	if (sb__stream_of(object))
		return Py_NewRef(object);
	iterator = async ? async_iterator(object) : PyObject_GetIter(object);
	if (iterator && async)
		driver = sb__async_driver(iterator);
	if (iterator && (driver || !async))
		made = make_object();
	if (!made) {
		Py_XDECREF(driver);
		Py_XDECREF(iterator);
		return NULL;
	}
	made->s->iterator = iterator;
	made->s->driver = driver;
	made->s->immediate = !async && is_immediate(iterator);
	PyObject_GC_Track((PyObject *)made);
	return (PyObject *)made;
}
