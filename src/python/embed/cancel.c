/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupting calls: a list of those that run, and an asynchronous exception in the thread of one.
 *
 * The exception, snakebridge.CallCancelled, derives from BaseException, so that "except Exception" lets it pass. Python
 * raises it between two bytecodes: C code that runs for long, or sleeps, is interrupted only when it comes back. Python
 * code that catches it goes on; it is sent once a call. One that comes too late is taken back before the thread begins
 * another call. Where a call runs inside another one on the same thread and the outer one was meant, both end.
 *
 * Locks: running_lock, after the GIL or without it, never the GIL after it.
 * Crash story: nothing outside the process is touched.
 */
#include "cancel.h"

#include <pthread.h>

#include "gil.h"

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sb__running *all_running;
static PyObject *cancelled_type; /* by whoever holds the GIL */

/* NULL, and no exception, without memory: then nothing can be cancelled. */
static PyObject *type_needed(void)
{
	if (!cancelled_type) {
		cancelled_type = PyErr_NewExceptionWithDoc(
			"snakebridge.CallCancelled",
			"The call was cancelled, or nobody waits for it any more.", PyExc_BaseException,
			NULL);
		if (!cancelled_type)
			PyErr_Clear();
	}
	return cancelled_type;
}

void sb__running_add(struct sb__running *running, const struct sb__table *table,
                     const struct sb__call_origin *origin)
{
	running->table = table;
	running->trace_id = origin ? origin->trace_id : 0;
	running->key = origin ? origin->key : 0;
	running->thread = PyThread_get_thread_ident();
	atomic_init(&running->state, 0);
	pthread_mutex_lock(&running_lock);
	running->next = all_running;
	all_running = running;
	pthread_mutex_unlock(&running_lock);
}

/* Whichever comes first, this or cancelling it, decides: one swap each. */
bool sb__running_begin(struct sb__running *running)
{
	unsigned waits = 0;

	return atomic_compare_exchange_strong(&running->state, &waits, SB__RUN_BEGUN);
}

static bool interrupted(const struct sb__running *running)
{
	return atomic_load_explicit(&running->state, memory_order_relaxed) ==
	       (SB__RUN_BEGUN | SB__RUN_CANCELLED);
}

void sb__running_interrupt(struct sb__running *running)
{
	PyObject *type = type_needed();

	pthread_mutex_lock(&running_lock);
	if (running->thread == PyThread_get_thread_ident()) {
		atomic_fetch_or(&running->state, SB__RUN_CANCELLED);
		(void)PyThreadState_SetAsyncExc(running->thread, NULL);
	}
	pthread_mutex_unlock(&running_lock);
	if (type)
		PyErr_SetNone(type);
	else
		PyErr_NoMemory();
}

static bool outer_cancelled_locked(unsigned long thread)
{
	struct sb__running *r = all_running;

	while (r && !(r->thread == thread && interrupted(r)))
		r = r->next;
	return r != NULL;
}

void sb__running_remove(struct sb__running *running)
{
	struct sb__running **at = &all_running;

	pthread_mutex_lock(&running_lock);
	while (*at && *at != running)
		at = &(*at)->next;
	if (*at)
		*at = running->next;
	if (interrupted(running))
		(void)PyThreadState_SetAsyncExc(running->thread, NULL);
	if (all_running && outer_cancelled_locked(running->thread))
		(void)PyThreadState_SetAsyncExc(running->thread, type_needed());
	pthread_mutex_unlock(&running_lock);
}

bool sb__cancel_raised(void)
{
	return cancelled_type && PyErr_ExceptionMatches(cancelled_type);
}

bool sb__cancel_requested(void)
{
	bool requested;

	pthread_mutex_lock(&running_lock);
	requested = outer_cancelled_locked(PyThread_get_thread_ident());
	pthread_mutex_unlock(&running_lock);
	return requested;
}

void sb__cancel_raise(void)
{
	PyObject *type = type_needed();

	if (type)
		PyErr_SetString(type, "the call was cancelled");
	else
		PyErr_NoMemory();
}

static bool meant(const struct sb__running *r, const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	if (r->table != table)
		return false;
	if (key)
		return r->key == key;
	return !trace_id || r->trace_id == trace_id;
}

/* Those that wait for the GIL need no exception. Counts those that were told, by this or earlier, and those that need one. */
static unsigned mark_waiting(const struct sb__table *table, uint64_t trace_id, uint64_t key,
                             unsigned *ret_need)
{
	unsigned told = 0;

	*ret_need = 0;
	pthread_mutex_lock(&running_lock);
	for (struct sb__running *r = all_running; r; r = r->next) {
		unsigned was = 0;

		if (!meant(r, table, trace_id, key))
			continue;
		if (atomic_compare_exchange_strong(&r->state, &was, SB__RUN_CANCELLED) ||
		    was & SB__RUN_CANCELLED)
			told++;
		else
			++*ret_need;
	}
	pthread_mutex_unlock(&running_lock);
	return told;
}

static unsigned interrupt(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	struct sb__gil gil = sb__gil_enter();
	PyObject *type = type_needed();
	unsigned told = 0;

	pthread_mutex_lock(&running_lock);
	for (struct sb__running *r = all_running; type && r; r = r->next) {
		if (!meant(r, table, trace_id, key) || atomic_load(&r->state) != SB__RUN_BEGUN)
			continue;
		atomic_fetch_or(&r->state, SB__RUN_CANCELLED);
		(void)PyThreadState_SetAsyncExc(r->thread, type);
		told++;
	}
	pthread_mutex_unlock(&running_lock);
	sb__gil_leave(gil);
	return told;
}

unsigned sb__cancel(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	unsigned need, told = mark_waiting(table, trace_id, key, &need);

	if (need && !sb__python_unusable())
		told += interrupt(table, trace_id, key);
	return told;
}

void sb__cancel_after_fork_child(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	running_lock = fresh;
	all_running = NULL;
}
