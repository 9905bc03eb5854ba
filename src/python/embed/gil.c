/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GIL, and the thread states that threads need to hold it.
 *
 * A thread that Python does not know gets a thread state at its first entry and keeps it until it ends:
 * making one per entry costs ten times what taking the GIL does. The kept state has a count of its own beside those of
 * PyGILState_Ensure(), so extension modules that use PyGILState_* in the same thread see what they expect. Since that count
 * keeps it for as long as the thread lives, further entries take the GIL with it directly.
 *
 * At the thread's end a pthread key's destructor clears the state. glibc clears keys in the order of their
 * numbers, and those without destructor too: if Python's key comes first, PyGILState_* no longer knows this
 * thread, hence two ways in forget_thread(). Keys of a process that ends by exit() are not destroyed, so an
 * exit never waits for the GIL here.
 *
 * Locks: the GIL only.
 * Crash story: nothing outside the process is touched.
 */
#include "gil.h"

#include <pthread.h>

#include "clock.h"
#include "os_linux.h"

#define WAIT_FIRST_NS 1000000
#define WAIT_MAX_NS   50000000
/* More than CPython's switch interval of 5 ms: a thread that waits for the GIL begins to wait anew whenever it is let go of, and asks for it,
 * which is never refused, after an interval without. */
#define BATCH_YIELD_MS 12

static pthread_key_t kept_key; /* PyThreadState * that this file made */

static _Thread_local struct sb__thread this_thread;

struct sb__thread *sb__thread(void)
{
	return &this_thread;
}

bool sb__python_alive(void)
{
#if PY_VERSION_HEX >= 0x030d0000
	return Py_IsInitialized() && !Py_IsFinalizing();
#else
	return Py_IsInitialized() && !_Py_IsFinalizing();
#endif
}

/* The thread ends: drop the state that enter() made for it. */
static void forget_thread(void *kept)
{
	PyThreadState *state = kept;

	this_thread.own = NULL;
	/* In a child that Python was not told of, or once Python ends, nobody may touch it. */
	if (sb__python_unusable())
		return;
	if (PyGILState_GetThisThreadState() == state) {
		PyGILState_STATE was = PyGILState_Ensure();

		PyGILState_Release(PyGILState_LOCKED);
		PyGILState_Release(
			was); /* the kept count: clears and deletes the state, and gives up the GIL */
		return;
	}
	PyEval_RestoreThread(state);
	PyThreadState_Clear(state);
	PyThreadState_DeleteCurrent();
}

int sb__gil_prepare(void)
{
	return pthread_key_create(&kept_key, forget_thread);
}

void sb__gil_made(void)
{
	/* The interpreter's first state; it stays as long as that. */
	this_thread.own = PyEval_SaveThread();
}

static bool breathe(struct sb__thread *thread)
{
	if (sb__now_coarse_ms() - thread->since_ms < BATCH_YIELD_MS)
		return false;
	PyEval_RestoreThread(PyEval_SaveThread()); /* lets those in who asked for it */
	thread->since_ms = sb__now_coarse_ms();
	return true;
}

void sb__gil_breathe(void)
{
	(void)breathe(&this_thread);
}

/* Where there is no memory for one, PyGILState_Ensure() ends the process. What takes it all may be a call that runs in another
 * thread: this one waits until some is given back. */
static void make_state(void)
{
	uint64_t pause_ns = WAIT_FIRST_NS;
	PyThreadState *state;

	while ((state = PyThreadState_New(PyInterpreterState_Main())) == NULL) {
		sb__os_sleep(pause_ns);
		if (pause_ns < WAIT_MAX_NS)
			pause_ns *= 2;
	}
	/* Its count is 1, which leave() does not take back. Without memory for the key it is lost at the thread's end. */
	this_thread.own = state;
	(void)pthread_setspecific(kept_key, state);
}

/* Thread-local memory of the plugin, and the state. */
void sb__gil_thread_begin(void)
{
	this_thread.batch = false;
	if (!sb__python_unusable() && !PyGILState_GetThisThreadState())
		make_state();
}

static PyGILState_STATE ensure(void)
{
	if (!PyGILState_GetThisThreadState())
		make_state();
	return PyGILState_Ensure();
}

struct sb__gil sb__gil_enter(void)
{
	return sb__gil_enter_as(&this_thread);
}

struct sb__gil sb__gil_enter_as(struct sb__thread *thread)
{
	struct sb__gil gil = { .thread = thread };
	PyThreadState *own = gil.thread->own, *now = _PyThreadState_UncheckedGet();

	if (gil.thread->batch && now == gil.thread->python) {
		gil.how = SB__GIL_HAD;
	} else if (!own) {
		gil.how = SB__GIL_ENSURED;
		gil.state = ensure();
	} else if (now == own) {
		gil.how = SB__GIL_HAD;
	} else {
		gil.how = SB__GIL_TAKEN;
		PyEval_RestoreThread(own);
	}
	return gil;
}

void sb__gil_leave(struct sb__gil gil)
{
	if (gil.how == SB__GIL_TAKEN)
		(void)PyEval_SaveThread();
	else if (gil.how == SB__GIL_ENSURED)
		PyGILState_Release(gil.state);
}

void *sb__gil_release(void)
{
	if (sb__python_unusable() || !PyGILState_Check())
		return NULL;
	return PyEval_SaveThread();
}

void sb__gil_restore(void *state)
{
	if (state)
		PyEval_RestoreThread(state);
}

bool sb__gil_batch_begin(void)
{
	struct sb__thread *thread = &this_thread;

	if (sb__python_unusable())
		return false;
	if (thread->batch)
		return breathe(thread);
	thread->state = ensure();
	thread->python = PyGILState_GetThisThreadState();
	thread->since_ms = sb__now_coarse_ms();
	thread->batch = true;
	return true;
}

void sb__gil_batch_end(void)
{
	struct sb__thread *thread = &this_thread;

	if (!thread->batch)
		return;
	thread->batch = false;
	PyGILState_Release(thread->state);
}
