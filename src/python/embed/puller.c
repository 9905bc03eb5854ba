/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that run the iterators of streams. A stream that somebody waits for has one; it lets go when nobody waits any more,
 * and stands by for a few seconds for whatever stream comes next. The one that stood by for the shortest time is taken, so
 * that a stream which is read alone stays on one thread.
 *
 * An iterator that blocks for ever keeps its thread: Python code is interrupted when the stream is closed, C code is not.
 *
 * Locks: none of its own; needs the GIL but while it sleeps.
 * Crash story: nothing is shared.
 */
#include "stream.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "arrays.h"
#include "clock.h"
#include "gil.h"
#include "os_linux.h"

#define LINGER_NS UINT64_C(5000000000)
#define SPIN_NS   20000 /* before an event's sleep; not on one CPU */

/* ── events ── */

enum { EVENT_NONE, EVENT_POSTED, EVENT_SLEEPING };

void sb__event_post(struct sb__event *event)
{
	if (atomic_exchange(&event->state, EVENT_POSTED) == EVENT_SLEEPING)
		(void)sb__os_futex_wake((unsigned int *)&event->state, 1);
}

static bool take(struct sb__event *event)
{
	unsigned posted = EVENT_POSTED;

	return atomic_compare_exchange_strong(&event->state, &posted, EVENT_NONE);
}

static uint64_t spin_ns(void)
{
	static atomic_int cpus;

	if (!atomic_load_explicit(&cpus, memory_order_relaxed))
		atomic_store_explicit(&cpus, sb__os_cpu_count(), memory_order_relaxed);
	return atomic_load_explicit(&cpus, memory_order_relaxed) > 1 ? SPIN_NS : 0;
}

bool sb__event_wait(struct sb__event *event, uint64_t until_ns)
{
	uint64_t now = sb__now_ns(), spin = now + spin_ns();
	unsigned none = EVENT_NONE;

	for (; now < spin; now = sb__now_ns())
		if (take(event))
			return true;
	while (!take(event)) {
		none = EVENT_NONE;
		now = sb__now_ns();
		if (now >= until_ns) {
			/* A post that comes meanwhile is not lost: who waited looks again with the GIL. */
			(void)atomic_exchange(&event->state, EVENT_NONE);
			return false;
		}
		(void)atomic_compare_exchange_strong(&event->state, &none, EVENT_SLEEPING);
		(void)sb__os_futex_wait((unsigned int *)&event->state, EVENT_SLEEPING, until_ns - now);
	}
	return true;
}

/* ── threads ── */

struct sb__puller {
	struct sb__puller *next; /* of those that stand by */
	struct sb__event wake;
	unsigned long ident;
	struct sb__stream *work;
	bool told; /* that its stream was closed */
};

static struct sb__puller *idle;

static void idle_remove(struct sb__puller *p)
{
	struct sb__puller **at = &idle;

	while (*at && *at != p)
		at = &(*at)->next;
	if (*at)
		*at = p->next;
}

/* A closed stream: whoever closed it waits for its end; nobody does if it was dropped. */
static void conclude(struct sb__stream *s)
{
	sb__stream_finish(s);
	if (PyErr_Occurred())
		Py_XSETREF(s->pending, sb__exception_take());
	if (s->refs > 1)
		return;
	if (s->pending) {
		sb__exception_restore(Py_NewRef(s->pending));
		PyErr_WriteUnraisable(NULL);
	}
	sb__stream_empty(s);
}

static void work(struct sb__puller *p)
{
	struct sb__stream *s = p->work;
	uint64_t epoch = sb__fork_epoch();

	s->thread = p->ident;
	sb__npalloc_install(sb__thread());
	sb__stream_pull(s);
	if (sb__fork_epoch() != epoch)
		_exit(0); /* the child of an os.fork() in there came back: of its threads only this one exists */
	/* Told too late: it must not meet the next one. */
	(void)PyThreadState_SetAsyncExc(p->ident, NULL);
	p->work = NULL;
	p->told = false;
	s->puller = NULL;
	if (s->closed)
		conclude(s);
	PyErr_Clear();
	s->pulling = false;
	s->thread = 0;
	sb__stream_wake(s, true);
	sb__stream_unref(s);
}

static void *run(void *arg)
{
	struct sb__puller *p = arg;
	struct sb__gil gil;
	bool woken = true;

	for (;;) {
		if (sb__python_unusable())
			return NULL; /* Python has ended: p is in a list of its time */
		gil = sb__gil_enter();
		p->ident = PyThread_get_thread_ident();
		if (!p->work && !woken)
			break;
		if (p->work) {
			work(p);
			p->next = idle;
			idle = p;
		}
		sb__gil_leave(gil);
		woken = sb__event_wait(&p->wake, sb__now_ns() + LINGER_NS);
	}
	idle_remove(p);
	sb__gil_leave(gil);
	free(p);
	return NULL;
}

/* It takes no signals: those are the host program's. */
static bool start_thread(struct sb__puller *p)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int rc;

	if (pthread_attr_init(&attributes))
		return false;
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attributes, run, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return rc == 0;
}

bool sb__puller_start(struct sb__stream *s)
{
	struct sb__puller *p = idle;

	if (p)
		idle = p->next;
	else
		p = calloc(1, sizeof(*p));
	if (!p)
		return false;
	p->work = s;
	s->refs++;
	s->pulling = true;
	s->puller = p;
	if (p->ident) {
		sb__event_post(&p->wake);
		return true;
	}
	if (start_thread(p))
		return true;
	free(p);
	s->refs--;
	s->pulling = false;
	s->puller = NULL;
	return false;
}

void sb__puller_interrupt(struct sb__stream *s)
{
	struct sb__puller *p = s->puller;

	if (!p || p->told)
		return;
	p->told = true;
	if (s->driver)
		sb__async_interrupt(s->driver);
	else if (p->ident)
		(void)PyThreadState_SetAsyncExc(p->ident, PyExc_GeneratorExit);
}

void sb__puller_after_fork_child(void)
{
	idle = NULL;
}
