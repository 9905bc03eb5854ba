/* SPDX-License-Identifier: Apache-2.0 */
/* Named points: listed once each, counted, and deadly at the nth time and not before. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "point.h"

#ifdef SNAKEBRIDGE_POINTS

static void pass(void)
{
	SB_POINT("test.point");
}

static size_t index_of(const char *name)
{
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), name) == 0)
			return i;
	return SIZE_MAX;
}

static void points_are_listed_once(void **state)
{
	(void)state;
	assert_int_not_equal(index_of("test.point"), SIZE_MAX);
	for (size_t i = 0; i < sb__point_count(); i++) {
		assert_non_null(strchr(sb__point_name(i), '.'));
		assert_int_equal(index_of(sb__point_name(i)), i);
	}
}

static void points_are_counted(void **state)
{
	atomic_uint *counts = calloc(sb__point_count(), sizeof(*counts));

	(void)state;
	pass();
	sb__point_count_in(counts);
	pass();
	pass();
	sb__point_count_in(NULL);
	pass();
	assert_int_equal(counts[index_of("test.point")], 2);
	free(counts);
}

/* How a child ended that armed the point for nth and passed it so often. */
static int child_passing(unsigned nth, unsigned times)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		sb__point_arm(index_of("test.point"), nth, SB__POINT_KILL);
		while (times--)
			pass();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void the_nth_time_kills(void **state)
{
	(void)state;
	assert_int_equal(child_passing(3, 2), 0);
	assert_int_equal(WTERMSIG(child_passing(3, 3)), SIGKILL);
	assert_int_equal(WTERMSIG(child_passing(1, 5)), SIGKILL);
	pass(); /* not armed here */
}

static void a_stopped_process_goes_on(void **state)
{
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		sb__point_arm(index_of("test.point"), 1, SB__POINT_STOP);
		pass();
		pass();
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_are_listed_once),
		cmocka_unit_test(points_are_counted),
		cmocka_unit_test(the_nth_time_kills),
		cmocka_unit_test(a_stopped_process_goes_on),
	};

	return cmocka_run_group_tests_name("base_point", tests, NULL, NULL);
}

#else

int main(void)
{
	return 77;
}

#endif
