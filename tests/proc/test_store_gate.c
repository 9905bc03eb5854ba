/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wake-up that a robust mutex loses (src/store/gate.c says how), made to happen: three processes want to
 * write. The first has waited longest; it is woken where a hog keeps it from running, a newcomer takes the lock
 * meanwhile, and the first is killed. The second must get its turn all the same.
 *
 * Needs two CPUs and SCHED_FIFO (root).
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "os_linux.h"
#include "store_fixture.h"
#include "store_test.h"

#define MS        UINT64_C(1000000)
#define ASLEEP_MS 50    /* a process that sleeps that long waits for the lock */
#define LONG_MS   20000 /* for a machine under load */

struct page {
	atomic_int hog; /* 1: it runs; 2: it may end */
	atomic_int writes;
};

struct scene {
	struct store_fixture *f;
	struct page *page;
	int cpu; /* of the two that wait, and of the hog */
	pid_t first, second, hog;
};

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static void nothing(void *arg)
{
	(void)arg;
}

static int writer(void *arg)
{
	struct scene *s = arg;

	if (pin(s->cpu) || store_fixture_open(s->f) || sb__store_test_locked(s->f->store, nothing, NULL))
		return 1;
	atomic_fetch_add(&s->page->writes, 1);
	return 0;
}

static int hog(void *arg)
{
	struct scene *s = arg;
	struct sched_param param = { .sched_priority = 50 };

	if (pin(s->cpu) || sched_setscheduler(0, SCHED_FIFO, &param))
		return 1;
	atomic_store(&s->page->hog, 1);
	while (atomic_load(&s->page->hog) != 2)
		;
	return 0;
}

static bool sleeps(pid_t pid)
{
	char path[64], text[512];
	const char *state;
	ssize_t n;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	n = (ssize_t)fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n > 0 ? n : 0] = '\0';
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

static void wait_asleep(pid_t pid)
{
	int quiet = 0;

	for (int ms = 0; ms < LONG_MS && quiet < ASLEEP_MS; ms++) {
		quiet = sleeps(pid) ? quiet + 1 : 0;
		sb__os_sleep(MS);
	}
	assert_int_equal(quiet, ASLEEP_MS);
}

static void let_two_wait(void *arg)
{
	struct scene *s = arg;

	s->first = fixture_fork(writer, s);
	wait_asleep(s->first);
	s->second = fixture_fork(writer, s);
	wait_asleep(s->second);
	s->hog = fixture_fork(hog, s);
	for (int ms = 0; ms < LONG_MS && atomic_load(&s->page->hog) == 0; ms++)
		sb__os_sleep(MS);
	assert_int_equal(atomic_load(&s->page->hog), 1);
}

static void kill_the_woken(void *arg)
{
	struct scene *s = arg;

	kill(s->first, SIGKILL);
	atomic_store(&s->page->hog, 2);
	assert_int_equal(fixture_wait(s->hog), 0);
	assert_int_equal(fixture_wait(s->first), 1000 + SIGKILL);
}

/* Two CPUs of this process, or a skip; pins it to the second. */
static int two_cpus(void)
{
	struct sched_param param = { .sched_priority = 50 };
	cpu_set_t set;
	int found[2], count = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			found[count++] = cpu;
	if (count < 2 || sched_setscheduler(0, SCHED_FIFO, &param)) {
		print_message("skipped: needs two CPUs and the right to SCHED_FIFO (root)\n");
		skip();
	}
	param.sched_priority = 0;
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &param), 0);
	assert_int_equal(pin(found[1]), 0);
	return found[0];
}

static void test_30_waiting_writer_outlives_a_killed_one(void **state)
{
	struct scene s = { .f = *state, .cpu = two_cpus() };
	bool done = false;

	s.page = mmap(NULL, sizeof(*s.page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s.page, MAP_FAILED);
	assert_int_equal(sb__store_test_locked(s.f->store, let_two_wait, &s), 0);
	assert_int_equal(sb__store_test_locked(s.f->store, kill_the_woken, &s), 0);
	for (int ms = 0; ms < LONG_MS && !done; ms++) {
		done = waitpid(s.second, NULL, WNOHANG) == s.second;
		sb__os_sleep(MS);
	}
	if (!done) {
		kill(s.second, SIGKILL);
		fixture_wait(s.second);
	}
	assert_true(done);
	assert_int_equal(atomic_load(&s.page->writes), 1);
	munmap(s.page, sizeof(*s.page));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_30_waiting_writer_outlives_a_killed_one,
		                                store_fixture_setup, store_fixture_teardown),
	};

	return cmocka_run_group_tests_name("store_gate", tests, NULL, NULL);
}
