/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupting calls: records of those that run, and an asynchronous exception in the thread of one.
 *
 * The exception, snakebridge.CallCancelled, derives from BaseException, so that "except Exception" lets it pass. Python
 * raises it between two bytecodes: C code that runs for long, or sleeps, is interrupted only when it comes back. Python
 * code that catches it goes on; it is sent once a call. One that comes too late is taken back before the thread begins
 * another call. Where a call runs inside another one on the same thread and the outer one was meant, both end.
 *
 * A record's word goes 0 → WAITS → BEGUN → 0 by its thread. Who cancels changes WAITS by one swap, with or without the GIL;
 * BEGUN is left and changed by holders of the GIL only.
 *
 * Locks: records_lock, to make a record or to take one that nobody has; the GIL may be held.
 * Crash story: nothing outside the process is touched.
 */
#include "cancel.h"

#include <pthread.h>
#include <stdlib.h>

#include "gil.h"

static pthread_mutex_t records_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct sb__running *) all_records;
static pthread_key_t records_key;
static pthread_once_t records_once = PTHREAD_ONCE_INIT;
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

/* ── records ── */

/* The thread ends. Its records may still say that they run, where it was ended from within a call. */
static void give_records(void *lowest)
{
	for (struct sb__running *r = lowest, *above; r; r = above) {
		above = r->above;
		r->above = r->below = NULL;
		atomic_fetch_and(&r->word, ~(SB__RUN_NUMBER - 1));
		atomic_store(&r->thread, 0);
	}
	sb__thread()->bottom = sb__thread()->top = NULL;
}

static void make_key(void)
{
	(void)pthread_key_create(&records_key, give_records);
}

static struct sb__running *record_locked(void)
{
	struct sb__running *r = atomic_load(&all_records);

	while (r && atomic_load(&r->thread))
		r = r->next;
	if (r)
		return r;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->next = atomic_load(&all_records);
	atomic_store(&all_records, r);
	return r;
}

/* One more for this thread: its first, or the next depth of calls within calls. */
static struct sb__running *new_record(struct sb__thread *thread)
{
	struct sb__running *r;

	pthread_once(&records_once, make_key);
	pthread_mutex_lock(&records_lock);
	r = record_locked();
	if (r)
		atomic_store(&r->thread, PyThread_get_thread_ident());
	pthread_mutex_unlock(&records_lock);
	if (!r)
		return NULL;
	r->below = thread->top;
	if (thread->top)
		thread->top->above = r;
	else
		thread->bottom = r;
	(void)pthread_setspecific(
		records_key,
		thread->bottom); /* without memory for it the record is lost at the thread's end */
	return r;
}

struct sb__running *sb__running_add(struct sb__thread *thread, const struct sb__table *table,
                                    const struct sb__call_origin *origin)
{
	struct sb__running *r = thread->top ? thread->top->above : thread->bottom;
	uint64_t number;

	if (!r)
		r = new_record(thread);
	if (!r)
		return NULL;
	/* Each after the 0 that the word became: who reads one of these finds the word changed. */
	number = (atomic_load_explicit(&r->word, memory_order_relaxed) | (SB__RUN_NUMBER - 1)) + 1;
	atomic_store_explicit(&r->table, table, memory_order_release);
	atomic_store_explicit(&r->trace_id, origin ? origin->trace_id : 0, memory_order_release);
	atomic_store_explicit(&r->key, origin ? origin->key : 0, memory_order_release);
	atomic_store_explicit(&r->word, number | SB__RUN_WAITS, memory_order_release);
	thread->top = r;
	return r;
}

/* Whichever comes first, this or cancelling it, decides: one swap each. */
bool sb__running_begin(struct sb__running *running)
{
	uint64_t word = atomic_load_explicit(&running->word, memory_order_relaxed);

	return word & SB__RUN_WAITS &&
	       atomic_compare_exchange_strong(&running->word, &word, (word & ~SB__RUN_WAITS) | SB__RUN_BEGUN);
}

static bool interrupted(const struct sb__running *running)
{
	uint64_t word = atomic_load_explicit(&running->word, memory_order_relaxed);

	return word & SB__RUN_BEGUN && word & SB__RUN_CANCELLED;
}

void sb__running_interrupt(struct sb__running *running)
{
	PyObject *type = type_needed();

	if (atomic_load(&running->thread) == PyThread_get_thread_ident()) {
		atomic_fetch_or(&running->word, SB__RUN_CANCELLED);
		(void)PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), NULL);
	}
	if (type)
		PyErr_SetNone(type);
	else
		PyErr_NoMemory();
}

/* Is one of this thread's interrupted? */
static bool any_cancelled(const struct sb__thread *thread)
{
	struct sb__running *r = thread->top;

	while (r && !interrupted(r))
		r = r->below;
	return r != NULL;
}

void sb__running_remove(struct sb__thread *thread, struct sb__running *running)
{
	uint64_t word = atomic_load_explicit(&running->word, memory_order_relaxed);

	/* With the GIL nobody else changes it once it has begun; and one that was cancelled before is not looked at again. */
	atomic_store_explicit(&running->word, word & ~(SB__RUN_NUMBER - 1), memory_order_release);
	thread->top = running->below;
	if (word & SB__RUN_BEGUN && word & SB__RUN_CANCELLED)
		(void)PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), NULL);
	if (thread->top && any_cancelled(thread))
		(void)PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), type_needed());
}

/* ── cancelling ── */

bool sb__cancel_raised(void)
{
	return cancelled_type && PyErr_ExceptionMatches(cancelled_type);
}

bool sb__cancel_requested(void)
{
	return any_cancelled(sb__thread());
}

void sb__cancel_raise(void)
{
	PyObject *type = type_needed();

	if (type)
		PyErr_SetString(type, "the call was cancelled");
	else
		PyErr_NoMemory();
}

/* Is it among those that run on the table and are meant? ret_word: the word that what was read belongs to. */
static bool meant(const struct sb__running *r, const struct sb__table *table, uint64_t trace_id, uint64_t key,
                  uint64_t *ret_word)
{
	*ret_word = atomic_load_explicit(&r->word, memory_order_acquire);
	if (!(*ret_word & (SB__RUN_NUMBER - 1)) ||
	    atomic_load_explicit(&r->table, memory_order_acquire) != table)
		return false;
	if (key)
		return atomic_load_explicit(&r->key, memory_order_acquire) == key;
	return !trace_id || atomic_load_explicit(&r->trace_id, memory_order_acquire) == trace_id;
}

/* One that was found is told: 1 now or before, 0 if it needs an exception, -1 if it is over: it is another call's by now. */
static int mark(struct sb__running *r, uint64_t word)
{
	if (word & SB__RUN_CANCELLED)
		return atomic_load(&r->word) == word ? 1 : -1;
	if (word & SB__RUN_BEGUN)
		return 0;
	return atomic_compare_exchange_strong(&r->word, &word, (word & ~SB__RUN_WAITS) | SB__RUN_CANCELLED)
	               ? 1
	               : -1;
}

/* Those that wait for the GIL need no exception. Counts those of them that were told, by this or earlier; those that run and
 * were told earlier; and those that run and need one. */
static unsigned mark_waiting(const struct sb__table *table, uint64_t trace_id, uint64_t key,
                             unsigned *ret_running, unsigned *ret_need)
{
	unsigned told = 0;

	*ret_running = *ret_need = 0;
	for (struct sb__running *r = atomic_load(&all_records); r; r = r->next) {
		uint64_t word;
		int marked = -1;

		/* Again where it went on meanwhile: it may have begun. */
		while (marked < 0 && meant(r, table, trace_id, key, &word))
			marked = mark(r, word);
		*(word & SB__RUN_BEGUN ? ret_running : &told) += marked > 0;
		*ret_need += marked == 0;
	}
	return told;
}

/* Counts those that run and were told, by this or earlier: another canceller may have been quicker since they were looked at. */
static unsigned interrupt(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	struct sb__gil gil = sb__gil_enter();
	PyObject *type = type_needed();
	unsigned told = 0;

	for (struct sb__running *r = atomic_load(&all_records); type && r; r = r->next) {
		uint64_t word;

		if (!meant(r, table, trace_id, key, &word) || !(word & SB__RUN_BEGUN))
			continue;
		told++;
		if (word & SB__RUN_CANCELLED)
			continue;
		atomic_fetch_or(&r->word, SB__RUN_CANCELLED); /* the GIL is ours: it is still the same call */
		(void)PyThreadState_SetAsyncExc(atomic_load(&r->thread), type);
	}
	sb__gil_leave(gil);
	return told;
}

unsigned sb__cancel(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	unsigned running, need, waiting = mark_waiting(table, trace_id, key, &running, &need);

	if (need && !sb__python_unusable())
		running = interrupt(table, trace_id, key);
	return waiting + running;
}

/* The other threads' records are nobody's now. This one may be in a call that forked. */
void sb__cancel_after_fork_child(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
	unsigned long self = PyThread_get_thread_ident();

	records_lock = fresh;
	for (struct sb__running *r = atomic_load(&all_records); r; r = r->next) {
		if (atomic_load(&r->thread) == self)
			continue;
		r->above = r->below = NULL;
		atomic_fetch_and(&r->word, ~(SB__RUN_NUMBER - 1));
		atomic_store(&r->thread, 0);
	}
}
