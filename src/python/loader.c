/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds libpython and the engine plugin, and opens them. Knows nothing of Python but the two symbols that
 * tell whether and which Python is in the process; starting it is the plugin's job.
 *
 * A Python that is in the process already is the only one that may be used: a second libpython would be a
 * second runtime with the same symbols (HAZARDS 4). libpython is opened RTLD_GLOBAL because extension
 * modules leave its symbols undefined, and nothing is ever closed: Python keeps pointers into the plugin,
 * and threads and fork handlers do too.
 *
 * Locks: load_lock, held while the dynamic linker is at work, which a fork waits for: glibc does not bring
 * its linker through a fork in the middle of it. Nothing else is locked under it.
 * Crash story: nothing outside the process is touched.
 */
#include "engine.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "fail.h"
#include "os_linux.h"

#ifndef SB_PYTHON_VERSION
#define SB_PYTHON_VERSION "3.11"
#endif
#ifndef SB_LIBPYTHON_SONAME
#define SB_LIBPYTHON_SONAME "libpython3.11.so.1.0"
#endif
#ifndef SB_LIBPYTHON_PATH
#define SB_LIBPYTHON_PATH SB_LIBPYTHON_SONAME
#endif
#ifndef SB_PLUGIN_INSTALL_DIR
#define SB_PLUGIN_INSTALL_DIR "/usr/local/lib/snakebridge"
#endif

#define PLUGIN_FILE "snakebridge-python.so"

/* What was tried and why it did not do: "reason; reason", cut at the end. */
struct trail {
	size_t len;
	char text[1024];
};

static void trail_add(struct trail *trail, const char *reason)
{
	int n = snprintf(trail->text + trail->len, sizeof(trail->text) - trail->len, "%s%s",
	                 trail->len ? "; " : "", reason ? reason : "unknown reason");

	if (n > 0)
		trail->len += (size_t)n;
	if (trail->len >= sizeof(trail->text))
		trail->len = sizeof(trail->text) - 1;
}

/* ── libpython ── */

/* ISO C has no conversion from void * to a function pointer; POSIX promises that the bytes are the same. */
static bool find_function(void *handle, const char *name, void *ret_function)
{
	void *symbol = dlsym(handle, name);

	memcpy(ret_function, &symbol, sizeof(symbol));
	return symbol != NULL;
}

/* "3.11.2 (main, …)" -> is it SB_PYTHON_VERSION? Only major.minor count: they are one ABI. */
static bool version_fits(const char *version)
{
	size_t len = strlen(SB_PYTHON_VERSION);

	return strncmp(version, SB_PYTHON_VERSION, len) == 0 && (version[len] < '0' || version[len] > '9');
}

static int check_version(void)
{
	const char *(*get_version)(void);
	const char *version;

	if (!find_function(RTLD_DEFAULT, "Py_GetVersion", &get_version))
		return sb__fail(SB_ENOPYTHON, "the Python in this process does not tell its version; "
		                              "use a dedicated owner");
	version = get_version();
	if (!version_fits(version))
		return sb__fail(SB_ENOPYTHON,
		                "this process runs Python %.*s, and SnakeBridge was built for "
		                "Python " SB_PYTHON_VERSION
		                "; use that Python in the host program, or a dedicated owner",
		                (int)strcspn(version, " "), version);
	return 0;
}

static int load_python(void)
{
	struct trail trail = { 0 };
	int (*is_initialized)(void);

	/* The executable is a Python, or somebody has linked or opened one before. */
	if (find_function(RTLD_DEFAULT, "Py_IsInitialized", &is_initialized))
		return check_version();

	/* This also makes one global that a host has opened RTLD_LOCAL. */
	if (dlopen(SB_LIBPYTHON_SONAME, RTLD_NOW | RTLD_GLOBAL))
		return check_version();
	trail_add(&trail, dlerror());
	if (dlopen(SB_LIBPYTHON_PATH, RTLD_NOW | RTLD_GLOBAL))
		return check_version();
	trail_add(&trail, dlerror());
	return sb__fail(SB_ENOPYTHON,
	                "Python " SB_PYTHON_VERSION " cannot be loaded: %s; install its shared "
	                "library, or use a dedicated owner",
	                trail.text);
}

/* ── the plugin ── */

/* The file that holds this code: the shared library, or the executable it was linked into. */
static bool own_file(char path[PATH_MAX])
{
	static const char here;
	Dl_info own, program;

	if (!dladdr(&here, &own) || !own.dli_fname)
		return false;
	/* For the program itself the name is argv[0], which may be anything. */
	if (dladdr((const void *)getauxval(AT_PHDR), &program) && program.dli_fbase == own.dli_fbase)
		return sb__os_readlinkat(AT_FDCWD, "/proc/self/exe", path, PATH_MAX) > 0;
	return snprintf(path, PATH_MAX, "%s", own.dli_fname) < PATH_MAX;
}

static const struct sb__engine *open_plugin(const char *dir, const char *below, struct trail *trail)
{
	sb__engine_entry_fn entry;
	const struct sb__engine *engine;
	char path[PATH_MAX];
	void *handle;

	if (snprintf(path, sizeof(path), "%s%s/" PLUGIN_FILE, dir, below) >= (int)sizeof(path)) {
		trail_add(trail, "a directory name is too long");
		return NULL;
	}
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		trail_add(trail, dlerror());
		return NULL;
	}
	if (!find_function(handle, SB__ENGINE_ENTRY, &entry)) {
		trail_add(trail, dlerror());
		return NULL;
	}
	engine = entry();
	if (engine->abi != SB__ENGINE_ABI) {
		trail_add(trail, path);
		trail_add(trail, "it is of another version of SnakeBridge");
		return NULL;
	}
	return engine;
}

static int load_plugin(const struct sb__engine **ret_engine)
{
	const char *dir = secure_getenv("SNAKEBRIDGE_PLUGIN_DIR");
	const struct sb__engine *engine = NULL;
	struct trail trail = { 0 };
	char own[PATH_MAX], *slash;

	if (dir && *dir)
		engine = open_plugin(dir, "", &trail);
	if (!engine && own_file(own) && (slash = strrchr(own, '/'))) {
		*slash = '\0';
		engine = open_plugin(own, "/snakebridge", &trail);
		if (!engine)
			engine = open_plugin(own, "/../lib/snakebridge", &trail);
	}
	if (!engine)
		engine = open_plugin(SB_PLUGIN_INSTALL_DIR, "", &trail);
	if (!engine)
		return sb__fail(SB_ENOPYTHON,
		                "the Python engine cannot be loaded: %s; install SnakeBridge whole, or "
		                "name the directory of " PLUGIN_FILE " in SNAKEBRIDGE_PLUGIN_DIR",
		                trail.text);
	*ret_engine = engine;
	return 0;
}

/* ── fork ── */

static const struct sb__engine *_Atomic loaded;
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

/* What the handlers before a fork did on this thread. */
static _Thread_local struct {
	const struct sb__engine *told; /* its before_fork has run */
	bool by_gate;                  /* called by the gate */
	bool locked;                   /* load_lock */
} forking;

/*
 * Two sets of handlers, because those before a fork run last registered first, and those after it first
 * registered first. The engine's set is registered with the load: so the GIL is taken before the locks of
 * whoever registered earlier, in the order in which a thread of Python's that calls into this library takes
 * them, and given up after them. The gate is there from the beginning. It keeps forks out of a load, and
 * stands in where a fork had passed by the other's place when that was not registered yet.
 */
static void engine_before(void)
{
	forking.told = atomic_load_explicit(&loaded, memory_order_acquire);
	forking.by_gate = false;
	if (forking.told)
		forking.told->before_fork();
}

static void engine_parent(void)
{
	if (forking.told)
		forking.told->after_fork_parent();
	forking.told = NULL;
}

static void engine_child(void)
{
	if (forking.told)
		forking.told->after_fork_child();
	forking.told = NULL;
}

static void gate_before(void)
{
	const struct sb__engine *engine;

	pthread_mutex_lock(&load_lock);
	engine = atomic_load_explicit(&loaded, memory_order_acquire);
	forking.locked = !engine;
	if (engine)
		pthread_mutex_unlock(&load_lock); /* there is no other load */
	if (!forking.told && engine) {
		engine_before();
		forking.by_gate = true;
	}
}

static void gate_open(void)
{
	if (forking.locked)
		pthread_mutex_unlock(&load_lock);
	forking.locked = false;
}

static void gate_parent(void)
{
	gate_open();
	if (forking.by_gate)
		engine_parent();
}

static void gate_child(void)
{
	gate_open();
	if (forking.by_gate)
		engine_child();
}

/* Without memory for the gate a fork in the middle of a load stays dangerous, and nothing else. */
__attribute__((constructor)) static void install_gate(void)
{
	(void)pthread_atfork(gate_before, gate_parent, gate_child);
}

/* ── once per process ── */

static int load_locked(const struct sb__engine **ret_engine)
{
	int err = 0;

	*ret_engine = atomic_load_explicit(&loaded, memory_order_relaxed);
	if (*ret_engine)
		return 0;
	err = load_python();
	if (!err)
		err = load_plugin(ret_engine);
	if (!err && pthread_atfork(engine_before, engine_parent, engine_child) != 0)
		err = sb__fail_memory("fork handlers");
	if (!err)
		atomic_store_explicit(&loaded, *ret_engine, memory_order_release);
	return err;
}

const struct sb__engine *sb__engine_loaded(void)
{
	return atomic_load_explicit(&loaded, memory_order_acquire);
}

int sb__engine_load(const struct sb__engine **ret_engine)
{
	const struct sb__engine *engine = atomic_load_explicit(&loaded, memory_order_acquire);
	int err;

	if (!engine) {
		pthread_mutex_lock(&load_lock);
		err = load_locked(&engine);
		pthread_mutex_unlock(&load_lock);
		if (err)
			return err;
	}
	*ret_engine = engine;
	return 0;
}
