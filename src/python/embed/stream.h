/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: iterators of any kind that calls read in batches. stream.c is the object, stream_read.c what calls do with it,
 * puller.c the threads that run iterators, async.c the event loops of asynchronous ones. docs/design/streams.md
 *
 * All functions need the GIL, and all state is guarded by it; those that may run Python code, or give it up, say so.
 */
#ifndef SB_EMBED_STREAM_H
#define SB_EMBED_STREAM_H

#include <stdatomic.h>

#include "convert.h"

/* One thread sleeps, without the GIL, until another one says that it may go on. */
struct sb__event {
	atomic_uint state;
};
void sb__event_post(struct sb__event *event);
/* False: until_ns (sb__now_ns()) came first. */
bool sb__event_wait(struct sb__event *event, uint64_t until_ns);

/* A thread that waits for something to become of a stream; on its stack. */
struct sb__stream_waiter {
	struct sb__stream_waiter *next;
	struct sb__event wake;
	size_t most; /* items that it could use: so far may be read */
	size_t need; /* how many there must be to wake it; SIZE_MAX: something else must happen */
	bool posted;
};

struct sb__stream {
	PyObject *object; /* borrowed; NULL once it is gone */
	unsigned refs;    /* its object, its puller, the list of those that have something in flight */

	PyObject *iterator; /* NULL once it is over */
	PyObject *driver;   /* of an asynchronous one: its event loop */
	bool immediate;     /* the next item is there: to read it runs no Python code and waits for nothing */
	bool closed;        /* nobody reads any more: puller and readers leave */

	PyObject **
		items; /* read and not delivered: a ring; the first `taken` of them are in a reply under way */
	size_t head, count, cap;
	PyObject *pending; /* an exception that comes after them */

	/* In flight: in a reply that may not reach its caller. One reply at a time, so that nothing overtakes. */
	size_t taken;
	bool taken_pending, taken_end;
	struct sb__table *taken_table; /* NULL: nothing is */
	uint64_t taken_number;         /* of the call */
	struct sb__stream *next_taken;

	struct sb__stream_waiter *waiters;
	size_t wanted;  /* the puller reads on while fewer items can be had */
	size_t wake_at; /* with so many a waiter is to be woken */

	bool pulling;              /* a thread reads the iterator, or is about to */
	unsigned long thread;      /* this one, as Python numbers them; 0: not yet known */
	struct sb__puller *puller; /* it is one of puller.c; NULL: a call's own */
};

/* ── stream.c ── */

/* A stream of object's: the object itself if it is one. A new reference, or NULL and an exception. Runs Python code. */
PyObject *sb__stream_make(PyObject *object);
/* NULL: object is none. */
struct sb__stream *sb__stream_of(PyObject *object);
void sb__stream_unref(struct sb__stream *s);

/* Items that are in no reply. */
static inline size_t sb__stream_available(const struct sb__stream *s)
{
	return s->count - s->taken;
}
/* Does anybody want more? */
static inline bool sb__stream_wants(const struct sb__stream *s)
{
	return s->iterator && !s->closed && sb__stream_available(s) < s->wanted;
}
/* Reads on while somebody does. s->pulling is the caller's. Runs Python code. */
void sb__stream_pull(struct sb__stream *s);
/* One item was read: takes the reference, and wakes who waits. False, and an exception: no memory. */
bool sb__stream_add(struct sb__stream *s, PyObject *item);
/* Nothing more comes, but the exception that is set, if one is. May run Python code. */
void sb__stream_over(struct sb__stream *s);
/* Closed, and nobody pulls: the generator's finally blocks run. An exception of theirs is set. Runs Python code. */
void sb__stream_finish(struct sb__stream *s);
/* Drops what was read. May run Python code. */
void sb__stream_empty(struct sb__stream *s);

/* wake_at and wanted from the waiters. */
void sb__stream_count_waiters(struct sb__stream *s);
void sb__stream_wake(struct sb__stream *s, bool all);

/* ── stream_read.c ── */

struct sb__stream_wish {
	size_t most;       /* items, at least 1 */
	uint32_t wait_ms;  /* how long to go on where there is one; UINT32_MAX: until there are that many */
	uint64_t until_ns; /* sb__now_ns(): when to come back without one; 0: never */
};

/* Waits until items can be had. 0: they can, or nothing came in time, or that was the end. SB_EREFRELEASED: it was closed;
 * SB_ECANCELLED; SB_ENOMEM: no thread can be had; SB_EINVAL: it is this thread that reads it; each with the reason in why.
 * SB_EPYTHON: no items are left, and the exception that ended it is set. call NULL: for Python code, which reads the iterator
 * on its own thread. Gives up the GIL, runs Python code. */
int sb__stream_await(struct sb__call *call, struct sb__stream *s, const struct sb__stream_wish *wish,
                     struct sb__why *why);
/* An item that can be had, borrowed: no Python code may run meanwhile; NULL: there are only so many. */
static inline PyObject *sb__stream_peek(const struct sb__stream *s, size_t i)
{
	return s->taken + i < s->count ? s->items[(s->head + s->taken + i) & (s->cap - 1)] : NULL;
}
/* The call's reply holds the first count of these. True if there is nothing after them: the end. */
bool sb__stream_take(struct sb__call *call, struct sb__stream *s, size_t count);

/* engine.h: settle. */
void sb__settle(struct sb__table *table, uint64_t number, bool delivered);

/* Ends it for all its readers. Comes back when it is closed, or at until_ns (0: waits as long as it takes). An exception of the
 * generator's finally blocks is set: -1. Gives up the GIL, runs Python code. */
int sb__stream_close(struct sb__stream *s, uint64_t until_ns);

/* ── puller.c ── */

/* Lets a thread read on. False: none can be had. */
bool sb__puller_start(struct sb__stream *s);
/* The stream was closed: raises GeneratorExit in what its puller runs, as soon as that is Python code. Once. */
void sb__puller_interrupt(struct sb__stream *s);
void sb__puller_after_fork_child(void);

/* ── async.c ── */

/* All run Python code. */
PyObject *sb__async_driver(PyObject *iterator);
void sb__async_pull(struct sb__stream *s);
void sb__async_interrupt(PyObject *driver);
int sb__async_close(PyObject *driver); /* 0; -1 and an exception */

#endif
