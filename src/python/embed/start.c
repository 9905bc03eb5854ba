/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the interpreter, or attaches to the one that a host program runs, and keeps it right across
 * fork().
 *
 * Started here it is isolated: no environment variables, no user site directory, nothing of the current
 * directory in sys.path, no signal handlers, the locale untouched. It is in UTF-8 mode whatever the host's
 * locale is. It is never finalized: extension modules do not survive that, and threads may be inside
 * (HAZARDS 4). A host's interpreter is used as it is.
 *
 * Locks: start_lock, then the GIL. A fork handler holds start_lock across a fork while there is no
 * interpreter yet, so a child never inherits one half-started; once there is one, nobody waits for
 * start_lock any more, and the handler lets go of it before it takes the GIL. The lock is recursive because
 * site code that runs during the start may fork.
 * Crash story: nothing outside the process is touched.
 */
#include "cancel.h"
#include "gil.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "os_linux.h"
#include "snakebridge/error.h"
#include "stream.h"

enum engine_state { ENGINE_IDLE, ENGINE_READY, ENGINE_FAILED };

static atomic_int engine_state;
static atomic_uint_least64_t
	engine_epoch; /* sb__fork_epoch() of the process that Python believes itself to be in */
static pthread_mutex_t start_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static bool key_made;     /* under start_lock */
static char failure[256]; /* under start_lock: why a start failed for good */

/* What before_fork did, for the handlers after it: they run on the same thread. */
static _Thread_local struct {
	bool locked; /* start_lock */
	bool told;   /* has the GIL, and Python knows that a fork is under way */
	bool sane;   /* the child's Python will be in order */
	struct sb__gil gil;
} forking;

const char *sb__python_unusable(void)
{
	if (atomic_load_explicit(&engine_state, memory_order_acquire) != ENGINE_READY)
		return "Python was not started in this process; call start() first";
	if (atomic_load_explicit(&engine_epoch, memory_order_relaxed) != sb__fork_epoch())
		return "this process was made by a bare clone() from one that runs Python, which Python does "
		       "not survive; "
		       "make it by fork()";
	if (!sb__python_alive())
		return "the host program has ended its Python; end the sessions that use it first";
	return NULL;
}

/* ── fork ── */

void sb__python_before_fork(void)
{
	forking.locked = forking.told = forking.sane = false;
	pthread_mutex_lock(&start_lock);
	if (atomic_load(&engine_state) != ENGINE_READY) {
		forking.locked = true;
		return;
	}
	pthread_mutex_unlock(&start_lock);

	forking.sane = sb__python_unusable() == NULL;
	/* A thread that holds the GIL is in os.fork(), which tells Python itself. */
	if (!forking.sane || PyGILState_Check())
		return;
	forking.gil = sb__gil_enter();
	PyOS_BeforeFork();
	forking.told = true;
}

void sb__python_after_fork_parent(void)
{
	if (forking.locked)
		pthread_mutex_unlock(&start_lock);
	if (!forking.told)
		return;
	PyOS_AfterFork_Parent();
	sb__gil_leave(forking.gil);
}

void sb__python_after_fork_child(void)
{
	if (forking.locked) {
		/* It is owned by a thread id that is not this one's any more. */
		static const pthread_mutex_t fresh = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

		memcpy(&start_lock, &fresh, sizeof(start_lock));
	}
	sb__cancel_after_fork_child();
	sb__puller_after_fork_child();
	if (forking.sane)
		atomic_store(&engine_epoch, sb__fork_epoch());
	if (!forking.told)
		return;
	PyOS_AfterFork_Child();
	sb__gil_leave(forking.gil);
}

/* ── start ── */

/* Every CPython executable calls this or has it; a script, or any other program, would be taken silently, with
 * the packages of whatever Python lies about. True also where it cannot be told. */
static bool has_python_main(const char *executable, size_t size)
{
	static const char name[] = "Py_BytesMain";
	char *bytes = malloc(size + 1);
	ssize_t n = bytes ? sb__os_read_file_at(AT_FDCWD, executable, bytes, size + 1) : -1;
	bool found = n < 0 || memmem(bytes, (size_t)n, name, sizeof(name) - 1);

	free(bytes);
	return found;
}

static int check_executable(const char *executable, char *error, size_t size)
{
	struct stat st;
	int rc;

	if (!strchr(executable, '/')) {
		snprintf(error, size, "the Python executable \"%s\" is not a path; give its full path",
		         executable);
		return SB_ENOPYTHON;
	}
	rc = sb__os_statat(AT_FDCWD, executable, &st);
	if (rc < 0) {
		snprintf(error, size,
		         "the Python executable %s cannot be used: %s; install it, or name another "
		         "with SNAKEBRIDGE_PYTHON",
		         executable, strerror(-rc));
		return SB_ENOPYTHON;
	}
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)) {
		snprintf(error, size,
		         "%s is not an executable file; name a Python executable with SNAKEBRIDGE_PYTHON",
		         executable);
		return SB_ENOPYTHON;
	}
	if (!has_python_main(executable, (size_t)st.st_size)) {
		snprintf(error, size,
		         "%s is not a Python whose library can be embedded; name what sys.executable says in "
		         "the "
		         "Python you mean",
		         executable);
		return SB_ENOPYTHON;
	}
	return 0;
}

/* On success this thread holds the GIL. */
static PyStatus initialize(const char *executable)
{
	PyPreConfig pre;
	PyConfig config;
	PyStatus status;

	PyPreConfig_InitIsolatedConfig(&pre);
	pre.utf8_mode = 1; /* files and paths are UTF-8 even where the host never calls setlocale() */
	status = Py_PreInitialize(&pre);
	if (PyStatus_Exception(status))
		return status;

	PyConfig_InitIsolatedConfig(&config);
	config.install_signal_handlers = 0;
	config.parse_argv = 0;
	config.site_import = 1;
	/* Both: where Python looks for its library and for pyvenv.cfg is worked out from them. */
	status = PyConfig_SetBytesString(&config, &config.executable, executable);
	if (!PyStatus_Exception(status))
		status = PyConfig_SetBytesString(&config, &config.program_name, executable);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	return status;
}

/* No interpreter runs yet: make one. */
static int start_own(const struct sb__engine_options *options)
{
	PyStatus status;

	if (check_executable(options->executable, failure, sizeof(failure)) < 0)
		return SB_ENOPYTHON; /* nothing was touched: another try may do better */
	status = initialize(options->executable);
	if (PyStatus_Exception(status)) {
		snprintf(failure, sizeof(failure),
		         "Python at %s does not start: %s%s%s; see that this Python is complete",
		         options->executable, status.func ? status.func : "", status.func ? ": " : "",
		         status.err_msg ? status.err_msg : "no reason given");
		atomic_store(&engine_state, ENGINE_FAILED); /* a runtime half made cannot be started again */
		return SB_ENOPYTHON;
	}
	sb__gil_made();
	return 0;
}

static int start_locked(const struct sb__engine_options *options)
{
	int rc;

	switch (atomic_load(&engine_state)) {
	case ENGINE_READY: return 0;
	case ENGINE_FAILED: return SB_ENOPYTHON;
	default: break;
	}
	rc = key_made ? 0 : sb__gil_prepare();
	if (rc) {
		snprintf(failure, sizeof(failure), "this process has no thread-specific key left: %s",
		         strerror(rc));
		return SB_ENOPYTHON;
	}
	key_made = true;
	if (Py_IsInitialized() && !sb__python_alive()) {
		snprintf(failure, sizeof(failure), "the host program is ending its Python");
		return SB_ENOPYTHON;
	}
	/* A host's interpreter is taken as it is. */
	rc = Py_IsInitialized() ? 0 : start_own(options);
	if (rc < 0)
		return rc;
	atomic_store(&engine_epoch, sb__fork_epoch());
	atomic_store_explicit(&engine_state, ENGINE_READY, memory_order_release);
	return 0;
}

/* Puts dir first in sys.path, unless it is there. Not under start_lock: it needs the GIL. */
static int add_module_dir(const char *dir)
{
	struct sb__gil gil = sb__gil_enter();
	PyObject *path = PySys_GetObject("path"); /* borrowed */
	PyObject *item = path && PyList_Check(path) ? PyUnicode_DecodeFSDefault(dir) : NULL;
	int rc = item ? PySequence_Contains(path, item) : -1;

	if (rc == 0)
		rc = PyList_Insert(path, 0, item);
	if (rc < 0)
		PyErr_Clear();
	Py_XDECREF(item);
	sb__gil_leave(gil);
	return rc < 0 ? SB_ENOPYTHON : 0;
}

int sb__python_start(const struct sb__engine_options *options, char *error, size_t size)
{
	const char *why;
	int rc = 0;

	if (atomic_load_explicit(&engine_state, memory_order_acquire) != ENGINE_READY) {
		pthread_mutex_lock(&start_lock);
		rc = start_locked(options);
		if (rc < 0)
			snprintf(error, size, "%s", failure);
		pthread_mutex_unlock(&start_lock);
		if (rc < 0)
			return rc;
	}
	why = sb__python_unusable();
	if (why) {
		snprintf(error, size, "%s", why);
		return SB_ENOPYTHON;
	}
	if (options->module_dir)
		rc = add_module_dir(options->module_dir);
	if (rc < 0)
		snprintf(error, size,
		         "the directory %s cannot be added to sys.path; see that its name is valid",
		         options->module_dir);
	return rc;
}
