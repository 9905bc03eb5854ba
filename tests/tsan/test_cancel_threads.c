/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of running calls as threads (src/python/embed/cancel.c): calls that wait, begin, call in turn and end, threads that
 * end and leave their records to others, and threads that cancel them, by key and by table. What must hold:
 *
 *   One that was told has been told: it never begins, or it finds itself cancelled.
 *   Nobody else hears of it: an exception comes only to a thread one of whose calls was meant, and never after its last one.
 *   A call that runs all the while that it is being cancelled is told, whoever else cancels it.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cancel.h"
#include "gil.h"

#define CALLERS    3
#define CANCELLERS 3
#define CALLS      20000 /* of each caller, but for those within others */
#define PER_THREAD 400   /* then its thread ends, and another goes on */
#define KEYS       (2 * CALLERS * CALLS + 1)

/* ── as Python has it ── */

struct object {
	int unused;
};
static PyObject base, cancelled;
PyObject *PyExc_BaseException = &base;

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;

struct python_thread {
	unsigned long ident;
	PyObject *pending; /* under the GIL */
};
static struct python_thread threads[CALLERS]; /* under the GIL; ident 0: none */
static _Thread_local struct sb__thread this_thread;

struct sb__thread *sb__thread(void)
{
	return &this_thread;
}

unsigned long PyThread_get_thread_ident(void)
{
	return (unsigned long)pthread_self();
}

int PyThreadState_SetAsyncExc(unsigned long ident, PyObject *exception)
{
	for (int i = 0; i < CALLERS; i++) {
		if (threads[i].ident != ident)
			continue;
		threads[i].pending = exception;
		return 1;
	}
	return 0;
}

PyObject *PyErr_NewExceptionWithDoc(const char *name, const char *doc, PyObject *bases, PyObject *dict)
{
	(void)name;
	(void)doc;
	(void)bases;
	(void)dict;
	return &cancelled;
}

void PyErr_Clear(void) {}

void PyErr_SetNone(PyObject *type)
{
	(void)type;
}

void PyErr_SetString(PyObject *type, const char *text)
{
	(void)type;
	(void)text;
}

PyObject *PyErr_NoMemory(void)
{
	return NULL;
}

int PyErr_ExceptionMatches(PyObject *type)
{
	(void)type;
	return 0;
}

const char *sb__python_unusable(void)
{
	return NULL;
}

struct sb__gil sb__gil_enter(void)
{
	pthread_mutex_lock(&gil);
	return (struct sb__gil){ .thread = &this_thread };
}

void sb__gil_leave(struct sb__gil taken)
{
	(void)taken;
	pthread_mutex_unlock(&gil);
}

/* ── calls ── */

static char tables[2]; /* only their addresses count */

/* Of each call, by its key. */
static _Atomic unsigned char meant[KEYS]; /* somebody is about to cancel it */
static _Atomic unsigned char told[KEYS];  /* somebody was told that it was told */
static _Atomic unsigned char found[KEYS]; /* it found itself cancelled, or never began */
static _Atomic unsigned all_meant;        /* whole tables are being cancelled, or were */
static _Atomic uint64_t last_key;
static _Atomic uint64_t running[CALLERS]; /* the call that has begun and not ended; 0: none */
static _Atomic unsigned callers_left, wrong;
static bool by_table;

static void check(bool holds, unsigned what)
{
	if (!holds)
		atomic_fetch_or(&wrong, 1u << what);
}

static bool is_meant(uint64_t key)
{
	return atomic_load(&meant[key]) || (by_table && atomic_load(&all_meant));
}

static const struct sb__table *table_of(uint64_t key)
{
	return (const struct sb__table *)&tables[key % 2];
}

/* Lets others have the GIL, as between bytecodes. An exception that comes is for this call, or for one around it. */
static void some_bytecodes(struct python_thread *t, uint64_t key, uint64_t outer)
{
	for (int i = 0; i < 3; i++) {
		pthread_mutex_unlock(&gil);
		sched_yield();
		pthread_mutex_lock(&gil);
		if (!t->pending)
			continue;
		t->pending = NULL;
		check(is_meant(key) || (outer && is_meant(outer)), 0);
	}
}

static void call(int number, uint64_t outer, unsigned *seed)
{
	uint64_t key = atomic_fetch_add(&last_key, 1) + 1;
	struct sb__call_origin origin = { .key = key, .trace_id = key };
	struct sb__running *r = sb__running_add(&this_thread, table_of(key), &origin);
	struct python_thread *t = &threads[number];
	bool began;

	if (!outer)
		pthread_mutex_lock(&gil);
	began = sb__running_begin(r);
	if (began) {
		atomic_store(&running[number], key);
		some_bytecodes(t, key, outer);
		if (!outer && rand_r(seed) % 2) {
			atomic_store(&running[number], 0);
			call(number, key, seed);
			atomic_store(&running[number], key);
			some_bytecodes(t, key, outer);
		}
		atomic_store(&running[number], 0);
	}
	if (!began || sb__running_cancelled(r)) {
		atomic_store(&found[key], 1);
		check(is_meant(key), 1);
	}
	sb__running_remove(&this_thread, r);
	if (!outer) {
		check(t->pending == NULL, 2);
		pthread_mutex_unlock(&gil);
	}
}

static void *call_many(void *arg)
{
	int number = (int)(intptr_t)arg;
	unsigned seed = (unsigned)number + 1;

	pthread_mutex_lock(&gil);
	threads[number] = (struct python_thread){ PyThread_get_thread_ident(), NULL };
	pthread_mutex_unlock(&gil);
	for (int i = 0; i < PER_THREAD; i++)
		call(number, 0, &seed);
	pthread_mutex_lock(&gil);
	check(threads[number].pending == NULL, 3);
	threads[number].ident = 0;
	pthread_mutex_unlock(&gil);
	return NULL;
}

/* One thread after the other, as a process has them. */
static void *call_in_threads(void *arg)
{
	for (int i = 0; i < CALLS / PER_THREAD; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, call_many, arg) == 0)
			pthread_join(thread, NULL);
		else
			check(false, 4);
	}
	atomic_fetch_sub(&callers_left, 1);
	return NULL;
}

/* ── cancelling ── */

static void cancel_key(uint64_t key, int number)
{
	unsigned n;

	atomic_store(&meant[key], 1);
	n = sb__cancel(table_of(key), 0, key);
	check(n <= 1, 5);
	if (n)
		atomic_store(&told[key], 1);
	else /* it began before, and goes on */
		check(atomic_load(&running[number]) != key, 6);
}

static void *cancel_many(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg + 100, n = 0;

	while (atomic_load(&callers_left)) {
		int number = (int)((unsigned)rand_r(&seed) % CALLERS);
		uint64_t key = atomic_load(&running[number]), newest = atomic_load(&last_key);

		if (by_table && n++ % 16 == 0) {
			atomic_store(&all_meant, 1);
			(void)sb__cancel((const struct sb__table *)&tables[n / 16 % 2], 0, 0);
		} else if (key && rand_r(&seed) % 2) {
			cancel_key(key, number);
		} else if (newest) { /* it waits, or is about to */
			atomic_store(&meant[newest], 1);
			if (sb__cancel(table_of(newest), newest, 0))
				atomic_store(&told[newest], 1);
		}
		usleep((unsigned)rand_r(&seed) % 100);
	}
	return NULL;
}

static void run_all(bool whole_tables)
{
	pthread_t callers[CALLERS], cancellers[CANCELLERS];
	unsigned lost = 0, cancelled_calls = 0;

	by_table = whole_tables;
	atomic_store(&all_meant, 0);
	atomic_store(&last_key, 0);
	atomic_store(&callers_left, CALLERS);
	for (size_t i = 0; i < KEYS; i++) {
		atomic_store(&meant[i], 0);
		atomic_store(&told[i], 0);
		atomic_store(&found[i], 0);
	}
	for (intptr_t i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&callers[i], NULL, call_in_threads, (void *)i), 0);
	for (intptr_t i = 0; i < CANCELLERS; i++)
		assert_int_equal(pthread_create(&cancellers[i], NULL, cancel_many, (void *)i), 0);
	for (int i = 0; i < CALLERS; i++)
		pthread_join(callers[i], NULL);
	for (int i = 0; i < CANCELLERS; i++)
		pthread_join(cancellers[i], NULL);
	for (size_t i = 0; i < KEYS; i++) {
		lost += atomic_load(&told[i]) && !atomic_load(&found[i]);
		cancelled_calls += atomic_load(&found[i]);
	}
	print_message("%u of %u calls were cancelled\n", cancelled_calls, (unsigned)atomic_load(&last_key));
	assert_int_equal(atomic_load(&wrong), 0);
	assert_int_equal(lost, 0);
	assert_true(cancelled_calls > 100);
}

static void test_25_by_key(void **state)
{
	(void)state;
	run_all(false);
}

static void test_25_whole_tables(void **state)
{
	(void)state;
	run_all(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_25_by_key),
		cmocka_unit_test(test_25_whole_tables),
	};

	return cmocka_run_group_tests_name("cancel_threads", tests, NULL, NULL);
}
