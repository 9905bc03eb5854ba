/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NumPy's memory in the arena (NEP 49): arrays of a certain size on that service threads make lie in shared memory, so
 * that a view of any of them costs nothing. Small ones and those for which there is no room are NumPy's own business.
 *
 * NumPy's headers are not needed: what is used of its C interface is declared here, after numpy/ndarraytypes.h and the
 * table of numpy/__multiarray_api.h (since NumPy 1.22; the same in 2).
 *
 * The handler is set per context, that is per thread; arrays remember theirs, and bring memory back to it from any
 * thread, after a fork too. It is never taken back: arrays may live as long as the process.
 *
 * Locks: none of its own; NumPy may call without the GIL. Crash story: shm/arena.c.
 */
#include "arrays.h"
#include "gil.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define API_FEATURE_VERSION 211
#define API_SET_HANDLER     304
#define API_GET_HANDLER     305
#define FEATURES_1_22       0xfu
#define BRIDGES_MAX         8 /* bridges of one process whose arenas serve; further ones' arrays are copied */

struct allocator {
	void *ctx;
	void *(*malloc)(void *ctx, size_t size);
	void *(*calloc)(void *ctx, size_t count, size_t size);
	void *(*realloc)(void *ctx, void *memory, size_t size);
	void (*free)(void *ctx, void *memory, size_t size);
};

struct handler {
	char name[127];
	uint8_t version;
	struct allocator allocator;
};

static _Atomic(const struct sb__blocks *) bridges[BRIDGES_MAX];
static atomic_uint bridge_count;
static _Atomic uint64_t least_bytes;
static struct allocator before; /* what NumPy used before us, for all that is not ours */
static PyObject *ours;          /* the handler as a capsule, once NumPy is there */
static bool unusable;           /* no NumPy that can be told */
static _Thread_local bool installed;

/* Those that are over stay in memory, and where leak checkers find them. */
static struct retired {
	struct retired *next;
	const struct sb__blocks *blocks;
} * retired;

static bool over(const struct sb__blocks *blocks)
{
	return blocks->done(blocks->arg);
}

static void retire(const struct sb__blocks *blocks)
{
	struct retired *r = malloc(sizeof(*r));

	if (!r)
		return;
	r->next = retired;
	r->blocks = blocks;
	retired = r;
}

void sb__npalloc_use(const struct sb__blocks *blocks, uint64_t least)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* nothing is waited for with it held */
	unsigned n, i;

	if (!blocks || !least)
		return;
	pthread_mutex_lock(&lock);
	n = atomic_load(&bridge_count);
	for (i = 0; i < n && atomic_load(&bridges[i]) != blocks; i++)
		;
	if (i == n) /* a new one: in the place of one that is over */
		for (i = 0; i < n && !over(atomic_load(&bridges[i])); i++)
			;
	if (i < BRIDGES_MAX && (i == n || atomic_load(&bridges[i]) != blocks)) {
		blocks->pin(blocks->arg); /* for ever: somebody may be looking at it just now */
		if (i < n)
			retire(atomic_load(&bridges[i]));
		atomic_store(&least_bytes, least);
		atomic_store(&bridges[i], blocks);
		if (i == n)
			atomic_store(&bridge_count, n + 1);
	}
	pthread_mutex_unlock(&lock);
}

/* ── memory ── */

static void *take(size_t size, bool zero)
{
	if (size < atomic_load_explicit(&least_bytes, memory_order_relaxed))
		return NULL;
	for (unsigned i = atomic_load(&bridge_count); i-- > 0;) {
		const struct sb__blocks *b = atomic_load(&bridges[i]);
		void *memory = b->heap_make(b->arg, size, zero);

		if (memory)
			return memory;
	}
	return NULL;
}

static bool give(void *memory)
{
	for (unsigned i = atomic_load(&bridge_count); i-- > 0;) {
		const struct sb__blocks *b = atomic_load(&bridges[i]);

		if (b->heap_free(b->arg, memory))
			return true;
	}
	return false;
}

static void *our_malloc(void *ctx, size_t size)
{
	void *memory = take(size, false);

	(void)ctx;
	return memory ? memory : before.malloc(before.ctx, size);
}

static void *our_calloc(void *ctx, size_t count, size_t size)
{
	size_t bytes;
	void *memory = __builtin_mul_overflow(count, size, &bytes) ? NULL : take(bytes, true);

	(void)ctx;
	return memory ? memory : before.calloc(before.ctx, count, size);
}

static void our_free(void *ctx, void *memory, size_t size)
{
	(void)ctx;
	if (memory && !give(memory))
		before.free(before.ctx, memory, size);
}

/* How much of ours is at memory; 0: it is none of ours. */
static size_t our_size(const void *memory)
{
	for (unsigned i = atomic_load(&bridge_count); i-- > 0;) {
		const struct sb__blocks *b = atomic_load(&bridges[i]);
		size_t size = b->heap_size(b->arg, memory);

		if (size)
			return size;
	}
	return 0;
}

static void *our_realloc(void *ctx, void *memory, size_t size)
{
	size_t had = memory ? our_size(memory) : 0;
	void *moved;

	if (!had)
		return before.realloc(before.ctx, memory, size);
	moved = our_malloc(ctx, size);
	if (!moved)
		return NULL;
	memcpy(moved, memory, had < size ? had : size);
	give(memory);
	return moved;
}

static struct handler handler = {
	.name = "snakebridge",
	.version = 1,
	.allocator = { NULL, our_malloc, our_calloc, our_realloc, our_free },
};

/* ── telling NumPy ── */

static void **numpy_api(void)
{
	static PyObject *names[2];
	PyObject *modules = PyImport_GetModuleDict(), *module = NULL, *api;
	void **table = NULL;

	for (unsigned i = 0; i < 2 && !module; i++) {
		if (!names[i])
			names[i] = PyUnicode_InternFromString(
				i == 0 ? "numpy._core._multiarray_umath" /* NumPy 2 */
				       : "numpy.core._multiarray_umath");
		module = names[i] ? PyDict_GetItemWithError(modules, names[i]) : NULL;
	}
	if (!module && !PyErr_Occurred())
		return NULL;
	api = module ? PyObject_GetAttrString(module, "_ARRAY_API") : NULL;
	if (api && PyCapsule_CheckExact(api))
		table = PyCapsule_GetPointer(api, NULL);
	PyErr_Clear();
	Py_XDECREF(api); /* the module keeps it */
	return table;
}

/* The allocator in use before ours; false: NumPy is too old. */
static bool prepare(void **api)
{
	unsigned (*features)(void);
	PyObject *(*get)(void);
	const struct handler *current;
	PyObject *capsule;

	memcpy(&features, &api[API_FEATURE_VERSION], sizeof(features));
	if (features() < FEATURES_1_22)
		return false;
	memcpy(&get, &api[API_GET_HANDLER], sizeof(get));
	capsule = get();
	current = capsule && PyCapsule_CheckExact(capsule) ? PyCapsule_GetPointer(capsule, "mem_handler")
	                                                   : NULL;
	if (!current || current->version != 1) {
		PyErr_Clear();
		Py_XDECREF(capsule);
		return false;
	}
	before = current->allocator; /* its handler is kept: one count for ever */
	ours = PyCapsule_New(&handler, "mem_handler", NULL);
	PyErr_Clear();
	return ours != NULL;
}

void sb__npalloc_install(struct sb__thread *thread)
{
	PyObject *(*set)(PyObject * handler), *old;
	Py_ssize_t count;
	void **api;

	if (installed || unusable || atomic_load_explicit(&bridge_count, memory_order_relaxed) == 0)
		return;
	count = PyDict_GET_SIZE(PyImport_GetModuleDict());
	if (count == thread->modules_seen) /* asked before each call until NumPy is there */
		return;
	thread->modules_seen = count;
	api = numpy_api();
	if (!api)
		return;
	if (!ours && !prepare(api)) {
		unusable = true;
		return;
	}
	memcpy(&set, &api[API_SET_HANDLER], sizeof(set));
	old = set(ours);
	if (!old)
		PyErr_Clear();
	Py_XDECREF(old);
	installed = true;
}
