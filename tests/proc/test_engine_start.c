/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting Python: what it leaves alone, what it sees, what it says when it cannot start. Python starts
 * once per process, so each test starts it in a child of its own; the parent never does.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_probe.h"

#define CHILD_SECONDS 60

#define CHECK(number, condition)       \
	do {                           \
		if (!(condition))      \
			return number; \
	} while (0)

/* Runs fn in a child; its result is the child's exit status. No CMocka assertions in fn. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(CHILD_SECONDS);
		_exit(fn(arg));
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void plugin_dir(char path[PATH_MAX])
{
	const char *build = getenv("SB_BUILD_DIR");

	snprintf(path, PATH_MAX, "%s/lib/snakebridge", build ? build : ".");
}

/* The answer to source, without sbprobe's help. */
static const char *ask(struct sb__table *table, const char *source)
{
	return probe_ask(table, "builtins:eval", sb_args("s{}", source));
}

/* ── the host's signals and locale ── */

static int host_is_unchanged(void *arg)
{
	struct sigaction before[NSIG], after;
	sigset_t mask_before, mask_after;
	char locale_before[256];

	(void)arg;
	memset(before, 0, sizeof(before));
	setlocale(LC_CTYPE, "C");
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	snprintf(locale_before, sizeof(locale_before), "%s", setlocale(LC_ALL, NULL));
	sigprocmask(SIG_BLOCK, NULL, &mask_before);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, NULL, &before[sig]);

	CHECK(2, probe_start(NULL) == 0);

	for (int sig = 1; sig < NSIG; sig++) {
		memset(&after, 0, sizeof(after));
		sigaction(sig, NULL, &after);
		CHECK(3, after.sa_handler == before[sig].sa_handler);
		CHECK(4, after.sa_flags == before[sig].sa_flags);
	}
	sigprocmask(SIG_BLOCK, NULL, &mask_after);
	for (int sig = 1; sig < NSIG; sig++)
		CHECK(5, sigismember(&mask_before, sig) == sigismember(&mask_after, sig));
	CHECK(6, strcmp(locale_before, setlocale(LC_ALL, NULL)) == 0);
	return 0;
}

static void test_host_is_unchanged(void **state)
{
	(void)state;
	assert_int_equal(0, in_child(host_is_unchanged, NULL));
}

/* ── isolation ── */

static int is_isolated(void *arg)
{
	struct sb__table *table;

	(void)arg;
	setenv("PYTHONPATH", "/nonexistent/from-the-environment", 1);
	setenv("PYTHONDONTWRITEBYTECODE", "x", 1);
	setenv("PYTHONHASHSEED", "1", 1);
	setlocale(LC_ALL, "C");
	CHECK(2, probe_start(NULL) == 0);
	table = probe_table(NULL);
	CHECK(3, strcmp("1", ask(table, "__import__('sys').flags.isolated")) == 0);
	CHECK(4, strcmp("False",
	                ask(table, "'/nonexistent/from-the-environment' in __import__('sys').path")) == 0);
	CHECK(5, strcmp("False", ask(table, "'' in __import__('sys').path")) == 0);
	CHECK(6, strcmp("True", ask(table, "__import__('sys').flags.safe_path")) == 0);
	CHECK(7, strcmp("False", ask(table, "__import__('site').ENABLE_USER_SITE")) == 0);
	/* Text is UTF-8 whatever the host's locale. */
	CHECK(8, strcmp("'utf-8'", ask(table, "__import__('sys').getfilesystemencoding()")) == 0);
	CHECK(9, strcmp("'utf-8'", ask(table, "__import__('locale').getpreferredencoding().lower()")) == 0);
	CHECK(10, strcmp("True", ask(table, "len(__import__('sys').path) > 1")) == 0);
	probe_table_free(table);
	return 0;
}

static void test_isolation(void **state)
{
	(void)state;
	assert_int_equal(0, in_child(is_isolated, NULL));
}

/* ── executables ── */

struct venv {
	char dir[PATH_MAX - 512], executable[PATH_MAX];
};

static void make_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(0, fclose(file));
}

/* What python -m venv makes, as far as it matters: pyvenv.cfg, a link to the base, a site-packages. */
static void make_venv(struct venv *venv)
{
	const char *tmp = getenv("TMPDIR"), *version;
	char base[PATH_MAX];
	char path[PATH_MAX + 128], text[PATH_MAX];

	snprintf(venv->dir, sizeof(venv->dir), "%s/sb-venv-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(venv->dir));
	assert_non_null(realpath(sb__python_executable(), base));
	version = strrchr(base, '/') + strlen("/python");
	snprintf(path, sizeof(path), "%s/bin", venv->dir);
	assert_int_equal(0, mkdir(path, 0700));
	snprintf(venv->executable, sizeof(venv->executable), "%s/bin/python3", venv->dir);
	assert_int_equal(0, symlink(base, venv->executable));
	snprintf(text, sizeof(text), "home = %.*s\ninclude-system-site-packages = false\n",
	         (int)(strrchr(base, '/') - base), base);
	snprintf(path, sizeof(path), "%s/pyvenv.cfg", venv->dir);
	make_file(path, text);
	snprintf(path, sizeof(path), "mkdir -p %s/lib/python%s/site-packages", venv->dir, version);
	assert_int_equal(0, system(path));
	snprintf(path, sizeof(path), "%s/lib/python%s/site-packages/only_in_venv.py", venv->dir, version);
	make_file(path, "name = 'venv'\n");
}

static void remove_venv(const struct venv *venv)
{
	char command[PATH_MAX];

	snprintf(command, sizeof(command), "rm -rf %s", venv->dir);
	assert_int_equal(0, system(command));
}

static int sees_venv(void *arg)
{
	const struct venv *venv = arg;
	struct sb__table *table;
	char expected[PATH_MAX + 2];

	/* As a user chooses it. */
	setenv("SNAKEBRIDGE_PYTHON", venv->executable, 1);
	CHECK(2, probe_start(NULL) == 0);
	table = probe_table(NULL);
	CHECK(3, strcmp("'venv'", ask(table, "__import__('only_in_venv').name")) == 0);
	snprintf(expected, sizeof(expected), "'%s'", venv->executable);
	CHECK(4, strcmp(expected, ask(table, "__import__('sys').executable")) == 0);
	snprintf(expected, sizeof(expected), "'%s'", venv->dir);
	CHECK(5, strcmp(expected, ask(table, "__import__('sys').prefix")) == 0);
	CHECK(6, strcmp("False", ask(table, "any(p.endswith('dist-packages') for p in "
	                                    "__import__('sys').path)")) == 0);
	probe_table_free(table);
	return 0;
}

static void test_venv(void **state)
{
	struct venv venv;
	int status;

	(void)state;
	make_venv(&venv);
	status = in_child(sees_venv, &venv);
	remove_venv(&venv);
	assert_int_equal(0, status);
}

static int explains_bad_executables(void *arg)
{
	const struct sb__engine *engine;
	char error[256];

	(void)arg;
	setenv("SNAKEBRIDGE_PYTHON", "/nonexistent/bin/python3", 1);
	CHECK(2, probe_start(NULL) != 0);
	engine = probe_engine();
	CHECK(3, engine->start(&(struct sb__engine_options){ "/nonexistent/bin/python3", NULL }, error,
	                       sizeof(error)) == SB_ENOPYTHON);
	CHECK(4, strstr(error, "/nonexistent/bin/python3") && strstr(error, "No such file"));
	CHECK(5, engine->start(&(struct sb__engine_options){ "python3", NULL }, error, sizeof(error)) ==
	                 SB_ENOPYTHON);
	CHECK(6, strstr(error, "full path"));
	CHECK(7, engine->start(&(struct sb__engine_options){ "/etc/passwd", NULL }, error, sizeof(error)) ==
	                 SB_ENOPYTHON);
	CHECK(8, strstr(error, "not an executable"));
	CHECK(9,
	      engine->start(&(struct sb__engine_options){ "/", NULL }, error, sizeof(error)) == SB_ENOPYTHON);
	CHECK(12, engine->start(&(struct sb__engine_options){ "/bin/ls", NULL }, error, sizeof(error)) ==
	                  SB_ENOPYTHON);
	CHECK(13, strstr(error, "/bin/ls is not a Python"));
	/* Nothing was touched: the right one still starts, and starting again is fine. */
	unsetenv("SNAKEBRIDGE_PYTHON");
	CHECK(10, probe_start(NULL) == 0);
	CHECK(11, probe_start(NULL) == 0);
	return 0;
}

static void test_bad_executables(void **state)
{
	(void)state;
	assert_int_equal(0, in_child(explains_bad_executables, NULL));
}

/* ── a host that runs Python itself ── */

struct host_python {
	void (*initialize)(int signals);
	int (*has_gil)(void);
	void *(*save)(void);
	void (*restore)(void *state);
	int (*run)(const char *source);
	int (*finalize)(void);
};

static bool find(void *ret, const char *name)
{
	void *symbol = dlsym(RTLD_DEFAULT, name);

	memcpy(ret, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static bool find_host_python(struct host_python *python)
{
	const struct sb__engine *engine;
	char plugins[PATH_MAX];

	plugin_dir(plugins);
	setenv("SNAKEBRIDGE_PLUGIN_DIR", plugins, 0);
	/* Loading makes libpython's symbols global and starts nothing. */
	return sb__engine_load(&engine) == 0 && find(&python->initialize, "Py_InitializeEx") &&
	       find(&python->has_gil, "PyGILState_Check") && find(&python->save, "PyEval_SaveThread") &&
	       find(&python->restore, "PyEval_RestoreThread") && find(&python->run, "PyRun_SimpleString") &&
	       find(&python->finalize, "Py_FinalizeEx");
}

static void *ask_host(void *arg)
{
	struct sb__table *table = probe_table(NULL);

	/* The host's own state, seen from a thread that its Python does not know. */
	*(bool *)arg = strcmp("'host'", ask(table, "__import__('__main__').mark")) == 0;
	probe_table_free(table);
	return NULL;
}

static int attaches(void *arg)
{
	struct host_python python;
	struct sb__table *table;
	pthread_t thread;
	bool fine = false;
	void *state;
	sb_ref ref;

	(void)arg;
	CHECK(2, find_host_python(&python));
	python.initialize(0);
	CHECK(3, python.run("mark = 'host'") == 0);
	/* With the GIL in hand, as an extension module calls: it is in hand afterwards. */
	CHECK(4, probe_start(NULL) == 0);
	CHECK(5, python.has_gil());
	table = probe_table(NULL);
	CHECK(6, strcmp("'host'", ask(table, "__import__('__main__').mark")) == 0);
	CHECK(7, probe_eval_ref(table, "Box(1)", &ref));
	CHECK(8, python.has_gil());
	state = python.save();
	CHECK(9, pthread_create(&thread, NULL, ask_host, &fine) == 0);
	pthread_join(thread, NULL);
	CHECK(10, fine);
	CHECK(11, probe_method(table, &ref, "get", NULL, NULL) == 0);
	python.restore(state);
	/* The host ends its Python when it likes; from then on there is none to use. */
	CHECK(12, python.finalize() == 0);
	CHECK(13, probe_method(table, &ref, "get", NULL, NULL) == SB_ENOPYTHON);
	CHECK(14, sb_last_error()->outcome == SB_OUTCOME_REFUSED);
	probe_table_free(table);
	CHECK(15, fork() >= 0); /* the handlers leave it alone */
	return 0;
}

static void test_attach(void **state)
{
	(void)state;
	assert_int_equal(0, in_child(attaches, NULL));
}

/* ── forks and starts that meet ── */

/* Without setenv(), which has a lock of its own that no fork cares for. */
static int bare_start(const struct sb__engine **ret_engine)
{
	struct sb__engine_options options = { sb__python_executable(), NULL };
	char error[256];

	return sb__engine_load(ret_engine) < 0 ? -1 : (*ret_engine)->start(&options, error, sizeof(error));
}

static void *start(void *arg)
{
	const struct sb__engine *engine;

	*(int *)arg = bare_start(&engine);
	return NULL;
}

/* A table that answers. */
static int use_engine(const struct sb__engine *engine)
{
	/* [call, no flags, no target, "math:sqrt", [16.0], {}] -> [0, 4.0] */
	static const uint8_t request[] = { 0x86, 0x01, 0x00, 0xf6, 0x69, 'm',  'a',  't',  'h',
		                           ':',  's',  'q',  'r',  't',  0x81, 0xfb, 0x40, 0x30,
		                           0,    0,    0,    0,    0,    0,    0xa0 };
	static const uint8_t expected[] = { 0x82, 0x00, 0xfb, 0x40, 0x10, 0, 0, 0, 0, 0, 0 };
	const struct sb__table_options options = { .incarnation = 1, .max_refs = 1 };
	struct sb__call_origin origin = { .pid = 1 };
	struct sb__table *table;
	struct sb__buf reply;
	int differs;

	if (engine->table_create(&options, &table) < 0)
		return -1;
	sb__buf_init(&reply, NULL, 0);
	engine->execute(table, &origin, request, sizeof(request), &reply);
	differs = reply.len != sizeof(expected) || memcmp(reply.data, expected, sizeof(expected)) != 0;
	sb__buf_free(&reply);
	engine->table_destroy(table);
	return differs;
}

static int forks_while_starting(void *arg)
{
	pthread_t threads[2];
	int results[2] = { -1, -1 }, status;
	const struct sb__engine *engine;
	char plugins[PATH_MAX];

	(void)arg;
	plugin_dir(plugins);
	setenv("SNAKEBRIDGE_PLUGIN_DIR", plugins, 1);
	for (int i = 0; i < 2; i++)
		CHECK(2, pthread_create(&threads[i], NULL, start, &results[i]) == 0);
	/* Before, during and after the start: a child has all of it or none. */
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(CHILD_SECONDS);
			if (bare_start(&engine) != 0)
				_exit(3);
			_exit(use_engine(engine) == 0 ? 0 : 4);
		}
		CHECK(3, waitpid(pid, &status, 0) == pid);
		CHECK(4, WIFEXITED(status));
		CHECK(5, WEXITSTATUS(status) == 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		CHECK(6, results[i] == 0);
	}
	return 0;
}

static void test_fork_while_starting(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* gcc's holds no lock of its allocator over fork(): the children would stand still in malloc() */
#endif
	assert_int_equal(0, in_child(forks_while_starting, NULL));
}

/* ── the loader ── */

/* Run as "PROGRAM load" from a directory without plugin: 0 if it loads, else what was wrong. */
static int load_only(void)
{
	const struct sb__engine *engine;

	if (sb__engine_load(&engine) == 0)
		return 0;
	if (sb_last_error()->code != SB_ENOPYTHON)
		return 4;
	return strstr(sb_last_error()->message, "/nonexistent/plugins/") ? 3 : 5;
}

static int copy_self(const char *to)
{
	char buffer[65536];
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)n) != n)
			break;
	close(in);
	close(out);
	return n == 0 ? 0 : -1;
}

static int exec_copy(void *arg)
{
	execl(arg, arg, "load", (char *)NULL);
	return 99;
}

static void test_plugin_search(void **state)
{
	char dir[] = "/tmp/sb-loader-XXXXXX", copy[64], beside[64], plugin[PATH_MAX];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(copy, sizeof(copy), "%s/program", dir);
	snprintf(beside, sizeof(beside), "%s/snakebridge", dir);
	plugin_dir(plugin);
	assert_int_equal(0, copy_self(copy));

	/* Nowhere (unless it is installed on this machine): the error lists where it looked. */
	setenv("SNAKEBRIDGE_PLUGIN_DIR", "/nonexistent/plugins", 1);
	assert_in_set(in_child(exec_copy, copy), ((const unsigned long[]){ 0, 3 }), 2);
	/* Beside the program. */
	assert_int_equal(0, symlink(plugin, beside));
	assert_int_equal(0, in_child(exec_copy, copy));
	assert_int_equal(0, unlink(beside));
	/* Where the environment says. */
	setenv("SNAKEBRIDGE_PLUGIN_DIR", plugin, 1);
	assert_int_equal(0, in_child(exec_copy, copy));

	unsetenv("SNAKEBRIDGE_PLUGIN_DIR");
	assert_int_equal(0, unlink(copy));
	assert_int_equal(0, rmdir(dir));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_is_unchanged),
		cmocka_unit_test(test_isolation),
		cmocka_unit_test(test_venv),
		cmocka_unit_test(test_bad_executables),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_fork_while_starting),
		cmocka_unit_test(test_plugin_search),
	};

	if (argc == 2 && strcmp(argv[1], "load") == 0)
		return load_only();
	return cmocka_run_group_tests_name("engine start", tests, NULL, NULL);
}
