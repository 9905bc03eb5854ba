/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() around a running interpreter: from C, from Python, while other threads are in Python. Children use
 * no CMocka assertion and leave by _exit().
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_probe.h"
#include "os_linux.h"

#define CHILD_SECONDS 60 /* a child that hangs is a failure, by SIGALRM */

/* In a child: which check failed is in the exit status. */
#define CHECK(number, condition)       \
	do {                           \
		if (!(condition))      \
			_exit(number); \
	} while (0)

static int wait_for(pid_t pid)
{
	int status = 0;

	assert_int_equal(pid, waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool answers(struct sb__table *table)
{
	return strcmp("'[1, 2]'", probe_ask(table, "builtins:repr", sb_args("[ii]", 1, 2))) == 0;
}

/* Everything a new designated owner does. */
static void use_a_new_table(void)
{
	struct sb__table *table = probe_table(NULL);
	char pid[32];
	sb_ref box;

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	CHECK(10, answers(table));
	CHECK(11, strcmp(pid, probe_ask(table, "sbprobe:pid", NULL)) == 0);
	CHECK(12, strcmp("42", probe_ask(table, "sbprobe:thread_answer", NULL)) == 0);
	CHECK(13, probe_eval_ref(table, "Box(3)", &box));
	CHECK(14, probe_method(table, &box, "get", NULL, NULL) == 0);
	CHECK(15,
	      strcmp("<builtins.module>", probe_eval(table, "__import__('wave')")) == 0); /* a new import */
	probe_table_free(table);
}

/* ── fork while another thread is in Python ── */

struct spinner {
	pthread_t thread;
	struct sb__table *table;
	int err;
};

static void *spin(void *arg)
{
	struct spinner *s = arg;

	s->err = probe_call(s->table, "sbprobe:spin", NULL, NULL);
	return NULL;
}

static void spinner_start(struct spinner *s)
{
	s->table = probe_table(NULL);
	assert_string_equal("None", probe_eval(s->table, "[stop.clear(), spinning.clear()][0]"));
	assert_int_equal(0, pthread_create(&s->thread, NULL, spin, s));
	assert_string_equal("True", probe_ask(s->table, "sbprobe:wait_spinning", NULL));
}

static void spinner_stop(struct spinner *s)
{
	assert_string_equal("None", probe_eval(s->table, "stop.set()"));
	pthread_join(s->thread, NULL);
	assert_int_equal(0, s->err);
	probe_table_free(s->table);
}

static void test_child_runs_python(void **state)
{
	struct spinner spinner;
	struct sb__engine_options options = { sb__python_executable(), NULL };
	pid_t pid;

	(void)state;
	spinner_start(&spinner);
	pid = fork();
	if (pid == 0) {
		char error[256];

		alarm(CHILD_SECONDS);
		CHECK(2, probe_engine()->start(&options, error, sizeof(error)) == 0);
		use_a_new_table();
		_exit(0);
	}
	assert_int_equal(0, wait_for(pid));
	assert_true(answers(spinner.table)); /* the parent goes on */
	spinner_stop(&spinner);
}

/* A child's child, and one that forks again and again. */
static void test_generations(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		alarm(CHILD_SECONDS);
		use_a_new_table();
		for (int i = 0; i < 3; i++) {
			int status = 0;
			pid_t grandchild = fork();

			if (grandchild == 0) {
				alarm(CHILD_SECONDS);
				use_a_new_table();
				_exit(0);
			}
			CHECK(20, waitpid(grandchild, &status, 0) == grandchild);
			CHECK(21, status == 0);
		}
		use_a_new_table();
		_exit(0);
	}
	assert_int_equal(0, wait_for(pid));
}

/* ── inherited tables ── */

static void test_inherited_tables_are_left_alone(void **state)
{
	struct sb__table *table = probe_table(&(struct sb__table_options){ .max_refs = 10, .ttl_ms = 60000 });
	struct sb__table *look = probe_table(NULL);
	char alive[32];
	sb_ref box;
	pid_t pid;

	(void)state;
	snprintf(alive, sizeof(alive), "%s", probe_ask(look, "sbprobe:boxes_alive", NULL));
	assert_true(probe_eval_ref(table, "Box(1)", &box));
	pid = fork();
	if (pid == 0) {
		struct sb__table *own = probe_table(NULL);
		char before[32];

		alarm(CHILD_SECONDS);
		snprintf(before, sizeof(before), "%s", probe_ask(own, "sbprobe:boxes_alive", NULL));
		CHECK(30, probe_method(table, &box, "get", NULL, NULL) == SB_EBUG);
		CHECK(31, sb_last_error()->outcome == SB_OUTCOME_REFUSED);
		CHECK(32, probe_engine()->expire(table, UINT64_MAX / 2) == 0);
		probe_table_free(table);
		CHECK(33, strcmp(before, probe_ask(own, "sbprobe:boxes_alive", NULL)) == 0);
		CHECK(34, strcmp(before, alive) != 0);
		_exit(0);
	}
	assert_int_equal(0, wait_for(pid));
	assert_string_not_equal(alive, probe_ask(look, "sbprobe:boxes_alive", NULL));
	probe_table_free(table);
	assert_string_equal(alive, probe_ask(look, "sbprobe:boxes_alive", NULL));
	probe_table_free(look);
}

/* ── Python's own hooks ── */

static void test_python_is_told_once(void **state)
{
	struct sb__table *table = probe_table(NULL);
	pid_t pid;

	(void)state;
	assert_string_equal("[None, None, None]",
	                    probe_eval(table, "[before.clear(), after_parent.clear(), after_child.clear()]"));
	pid = fork();
	if (pid == 0) {
		struct sb__table *own = probe_table(NULL);

		alarm(CHILD_SECONDS);
		CHECK(40, strcmp("[1, 0, 1]", probe_ask(own, "sbprobe:fork_hooks", NULL)) == 0);
		_exit(0);
	}
	assert_int_equal(0, wait_for(pid));
	assert_string_equal("[1, 1, 0]", probe_ask(table, "sbprobe:fork_hooks", NULL));
	/* os.fork() tells Python itself. */
	assert_string_equal("7", probe_ask(table, "sbprobe:fork_in_python", NULL));
	assert_string_equal("[2, 2, 0]", probe_ask(table, "sbprobe:fork_hooks", NULL));
	probe_table_free(table);
}

/* A child that os.fork() made, in the middle of a call, can use the engine when it gets back to C. */
static void test_child_of_python_returns(void **state)
{
	struct sb__table *table = probe_table(NULL);
	pid_t parent = getpid();
	uint64_t epoch = sb__fork_epoch();
	sb_value *value = NULL;
	int64_t child = -1;

	(void)state;
	assert_int_equal(0, probe_call(table, "os:fork", NULL, &value));
	if (getpid() != parent) {
		alarm(CHILD_SECONDS);
		CHECK(50, sb__fork_epoch() != epoch); /* whoever serves calls must look */
		use_a_new_table();
		_exit(0);
	}
	assert_int_equal(0, sb_value_int(value, &child));
	sb_value_free(value);
	assert_int_equal(0, wait_for((pid_t)child));
	assert_true(answers(table));
	probe_table_free(table);
}

/* ── storms ── */

struct caller {
	pthread_t thread;
	struct sb__table *table;
	int *stop;
	int failures;
};

static void *keep_calling(void *arg)
{
	struct caller *c = arg;

	while (!__atomic_load_n(c->stop, __ATOMIC_RELAXED))
		c->failures += probe_call(c->table, "sbprobe:count", sb_args("i", 200), NULL) != 0;
	return NULL;
}

static void test_forks_while_threads_call(void **state)
{
	struct caller callers[2] = { 0 };
	int stop = 0;

	(void)state;
	for (int i = 0; i < 2; i++) {
		callers[i].table = probe_table(NULL);
		callers[i].stop = &stop;
		assert_int_equal(0, pthread_create(&callers[i].thread, NULL, keep_calling, &callers[i]));
	}
	for (int round = 0; round < 30; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			struct sb__table *table = probe_table(NULL);

			alarm(CHILD_SECONDS);
			CHECK(60, answers(table));
			_exit(0);
		}
		assert_int_equal(0, wait_for(pid));
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(0, callers[i].failures);
		probe_table_free(callers[i].table);
	}
}

/* A thread that Python has never seen forks. */
static void *fork_once(void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		alarm(CHILD_SECONDS);
		use_a_new_table();
		_exit(0);
	}
	*(pid_t *)arg = pid;
	return NULL;
}

static void test_unknown_thread_forks(void **state)
{
	struct spinner spinner;
	pthread_t thread;
	pid_t pid = 0;

	(void)state;
	spinner_start(&spinner);
	assert_int_equal(0, pthread_create(&thread, NULL, fork_once, &pid));
	pthread_join(thread, NULL);
	assert_int_equal(0, wait_for(pid));
	spinner_stop(&spinner);
}

/* A bare clone() runs no handlers: Python cannot be used in there, and says so. */
static void test_bare_clone_is_told(void **state)
{
	struct sb__engine_options options = { sb__python_executable(), NULL };
	struct sb__table *table = probe_table(NULL);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0L);

	(void)state;
	if (pid == 0) {
		char error[256] = "";

		alarm(CHILD_SECONDS);
		CHECK(70, probe_engine()->start(&options, error, sizeof(error)) == SB_ENOPYTHON);
		CHECK(71, strstr(error, "clone()") != NULL);
		CHECK(72, probe_call(table, "math:sqrt", sb_args("d", 4.0), NULL) == SB_ENOPYTHON);
		probe_table_free(table);
		_exit(0);
	}
	assert_int_equal(0, wait_for(pid));
	assert_true(answers(table));
	probe_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_runs_python),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_inherited_tables_are_left_alone),
		cmocka_unit_test(test_python_is_told_once),
		cmocka_unit_test(test_child_of_python_returns),
		cmocka_unit_test(test_forks_while_threads_call),
		cmocka_unit_test(test_unknown_thread_forks),
		cmocka_unit_test(test_bare_clone_is_told),
	};

	return cmocka_run_group_tests_name("engine fork", tests, probe_start, NULL);
}
