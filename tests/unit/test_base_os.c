/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls: results as -errno, flags that must be there, futexes that work between mappings. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "identity.h"
#include "os_linux.h"

#define PAGE 4096u
#define MS   UINT64_C(1000000)
#define LONG (UINT64_C(20000) * MS) /* longer than any test may take */

struct place {
	char dir[256];
	int fd;
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	fixture_dir_make(place->dir, sizeof(place->dir));
	place->fd = sb__os_open_dir(place->dir);
	assert_true(place->fd >= 0);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;

	assert_int_equal(sb__os_close(place->fd), 0);
	fixture_dir_remove(place->dir);
	free(place);
	return 0;
}

static int make_file(const struct place *place, const char *name, off_t size)
{
	int fd = sb__os_openat(place->fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(sb__os_fallocate(fd, 0, size), 0);
	return fd;
}

static void test_files(void **state)
{
	const struct place *place = *state;
	struct stat st;
	char path[300], text[8];
	int fd = make_file(place, "f", 3 * PAGE);

	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(place->fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(sb__os_fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 3 * PAGE);
	assert_true(st.st_blocks * 512 >= 3 * PAGE); /* real blocks, not a hole */
	assert_int_equal(sb__os_close(fd), 0);
	assert_int_equal(sb__os_close(fd), -EBADF);

	assert_int_equal(sb__os_openat(place->fd, "f", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	assert_int_equal(sb__os_openat(place->fd, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(symlinkat("f", place->fd, "link"), 0);
	assert_int_equal(sb__os_openat(place->fd, "link", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sb__os_statat(place->fd, "link", &st), 0);
	assert_int_equal(st.st_size, 3 * PAGE);
	assert_int_equal(sb__os_readlinkat(place->fd, "link", text, sizeof(text)), 1);
	assert_string_equal(text, "f");
	assert_int_equal(sb__os_readlinkat(place->fd, "f", text, sizeof(text)), -EINVAL);

	assert_int_equal(sb__os_mkdirat(place->fd, "d", 0700), 0);
	assert_int_equal(sb__os_mkdirat(place->fd, "d", 0700), -EEXIST);
	assert_int_equal(sb__os_renameat(place->fd, "f", place->fd, "d/g"), 0);
	assert_int_equal(sb__os_unlinkat(place->fd, "f", 0), -ENOENT);
	assert_int_equal(sb__os_unlinkat(place->fd, "d/g", 0), 0);
	snprintf(path, sizeof(path), "%s/link", place->dir);
	assert_int_equal(sb__os_open_dir(path), -ENOTDIR);
	assert_int_equal(sb__os_unlinkat(place->fd, "d", AT_REMOVEDIR), 0);
}

static void test_cloexec_can_be_added(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(sb__os_set_cloexec(fds[0]), 0);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	sb__os_close(fds[0]);
	sb__os_close(fds[1]);
	assert_int_equal(sb__os_set_cloexec(fds[0]), -EBADF);
}

static void test_read_whole_file(void **state)
{
	const struct place *place = *state;
	int fd = make_file(place, "text", 1);
	char buf[6];

	assert_int_equal(pwrite(fd, "hello", 5, 0), 5);
	assert_int_equal(sb__os_read_file_at(place->fd, "text", buf, 6), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(sb__os_read_file_at(place->fd, "text", buf, 5), -EFBIG);
	assert_int_equal(sb__os_read_file_at(place->fd, "none", buf, 5), -ENOENT);
	sb__os_close(fd);
}

static void test_mappings_are_shared(void **state)
{
	const struct place *place = *state;
	int fd = make_file(place, "map", PAGE);
	volatile char *writer, *reader;
	void *a, *b;

	assert_int_equal(sb__os_map(fd, 0, PAGE, true, &a), 0);
	assert_int_equal(sb__os_map(fd, 0, PAGE, false, &b), 0);
	assert_ptr_not_equal(a, b);
	writer = a;
	reader = b;
	writer[17] = 'x';
	assert_int_equal(reader[17], 'x');
	assert_int_equal(sb__os_unmap(a, PAGE), 0);
	assert_int_equal(sb__os_unmap(b, PAGE), 0);
	assert_int_equal(sb__os_map(-1, 0, PAGE, true, &a), -EBADF);
	assert_true(sb__os_map_fits(PAGE));
	assert_false(sb__os_map_fits((size_t)1 << 60));
	sb__os_close(fd);
}

static void test_ofd_locks(void **state)
{
	const struct place *place = *state;
	int a = make_file(place, "locks", PAGE);
	int b = sb__os_openat(place->fd, "locks", O_RDWR, 0);

	assert_true(b >= 0);
	assert_int_equal(sb__os_ofd_test(b, 5), 0);
	assert_int_equal(sb__os_ofd_lock(a, 5, true), 0);
	/* Another description of the same process is another party. */
	assert_int_equal(sb__os_ofd_test(b, 5), 1);
	assert_int_equal(sb__os_ofd_lock(b, 5, true), -EAGAIN);
	assert_int_equal(sb__os_ofd_test(b, 4), 0);
	assert_int_equal(sb__os_ofd_lock(b, 6, false), 0);
	assert_int_equal(sb__os_ofd_lock(a, 6, false), 0); /* readers together */
	assert_int_equal(sb__os_ofd_lock(a, 6, true), -EAGAIN);
	/* A stray open and close takes no lock away, as it would with POSIX locks. */
	sb__os_close(sb__os_openat(place->fd, "locks", O_RDWR, 0));
	assert_int_equal(sb__os_ofd_test(b, 5), 1);
	sb__os_close(a);
	assert_int_equal(sb__os_ofd_test(b, 5), 0);
	assert_int_equal(sb__os_ofd_test(-1, 5), -EBADF);
	sb__os_close(b);
}

struct sleeper {
	unsigned int *word, *other;
	int result;
};

static void *sleep_on_word(void *arg)
{
	struct sleeper *s = arg;

	do
		s->result = sb__os_futex_wait(s->word, 7, LONG);
	while (s->result == -EINTR);
	return NULL;
}

static void *sleep_on_two(void *arg)
{
	struct sleeper *s = arg;

	do
		s->result = sb__os_futex_wait2(s->word, 7, s->other, 7, LONG);
	while (s->result == -EINTR);
	return NULL;
}

/* Wakes until somebody was woken; false if nobody comes for a long time. */
static bool wake_one(unsigned int *word)
{
	uint64_t until = sb__now_ns() + LONG;

	while (sb__now_ns() < until) {
		if (sb__os_futex_wake(word, 1) == 1)
			return true;
		sched_yield();
	}
	return false;
}

static void test_futex_results(void **state)
{
	unsigned int word = 7, other = 7;
	int rc;

	(void)state;
	assert_int_equal(sb__os_futex_wait(&word, 8, LONG), -EAGAIN);
	assert_int_equal(sb__os_futex_wait(&word, 7, 1 * MS), -ETIMEDOUT);
	assert_int_equal(sb__os_futex_wait(&word, 7, 0), -ETIMEDOUT);
	assert_int_equal(sb__os_futex_wake(&word, 1), 0);
	rc = sb__os_futex_wait2(&word, 7, &other, 7, 1 * MS);
	if (rc == -ENOSYS)
		return;
	assert_int_equal(rc, -ETIMEDOUT);
	assert_int_equal(sb__os_futex_wait2(&word, 7, &other, 8, LONG), -EAGAIN);
	assert_int_equal(sb__os_futex_wait2(&word, 8, &other, 7, LONG), -EAGAIN);
	assert_int_equal(sb__os_futex_wait2(&word, 7, &other, 7, 0), -ETIMEDOUT);
}

/* Two mappings of one page stand for two processes: a private futex would wake nobody. */
static void test_futex_wakes_through_another_mapping(void **state)
{
	const struct place *place = *state;
	int fd = make_file(place, "futex", PAGE);
	struct sleeper s = { .result = -1 };
	pthread_t thread;
	void *a, *b;

	assert_int_equal(sb__os_map(fd, 0, PAGE, true, &a), 0);
	assert_int_equal(sb__os_map(fd, 0, PAGE, true, &b), 0);
	s.word = a;
	*s.word = 7;
	assert_int_equal(pthread_create(&thread, NULL, sleep_on_word, &s), 0);
	assert_true(wake_one(b));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(s.result, 0);

	s.other = (unsigned int *)a + 16;
	*s.other = 7;
	if (sb__os_futex_wait2(s.word, 7, s.other, 7, 0) != -ENOSYS)
		for (int which = 0; which < 2; which++) {
			assert_int_equal(pthread_create(&thread, NULL, sleep_on_two, &s), 0);
			assert_true(wake_one((unsigned int *)b + 16 * which));
			assert_int_equal(pthread_join(thread, NULL), 0);
			assert_int_equal(s.result, 0);
		}
	sb__os_unmap(a, PAGE);
	sb__os_unmap(b, PAGE);
	sb__os_close(fd);
}

static void test_processes_and_machine(void **state)
{
	const struct place *place = *state;
	unsigned long magic = 0;
	uint8_t zero[32] = { 0 }, random[32] = { 0 };
	int fd = sb__os_pidfd_open(getpid());

	assert_int_equal(sb__os_kill(getpid(), 0), 0);
	assert_true(sb__os_kill(0x7ffffff0, 0) == -ESRCH);
	assert_true(fd >= 0);
	assert_int_equal(sb__os_poll_fd(fd, 0), 0); /* we live */
	sb__os_close(fd);
	assert_in_range(sb__os_cpu_count(), 1, 1 << 20);
	assert_in_range(sb__os_cpu(), 0, 1 << 20);
	assert_int_equal(sb__os_fs_type(place->fd, &magic), 0);
	assert_true(magic != 0);
	assert_true(sb__os_fs_free(place->fd) > 0);
	assert_true(sb__os_fs_free(-1) == 0);
	assert_int_equal(sb__os_getrandom(random, sizeof(random)), 0);
	assert_memory_not_equal(random, zero, sizeof(zero));
}

/* Where the kernel has no slices (before 6.12), or a filter is in the way, nothing changes. */
static void test_slice_is_given_back(void **state)
{
	const uint64_t ns = 200000;
	uint64_t before = sb__os_slice_shorten(ns), again;

	(void)state;
	if (!before)
		skip();
	assert_true(before > ns);
	assert_true(sb__os_slice_shorten(ns) == 0); /* it is */
	sb__os_slice_restore(0);
	assert_true(sb__os_slice_shorten(ns / 2) == ns);
	sb__os_slice_restore(ns); /* of somebody who had one of his own */
	assert_true(sb__os_slice_shorten(ns) == 0);
	sb__os_slice_restore(before);
	again = sb__os_slice_shorten(ns);
	assert_true(again == before);
	sb__os_slice_restore(again);
}

static void test_own_stat(void **state)
{
	uint64_t mine = 0, by_pid = 0;
	char letter = 0;

	(void)state;
	assert_int_equal(sb__process_stat(0, &letter, &mine), 0);
	assert_int_equal(letter, 'R');
	assert_int_equal(sb__process_stat(getpid(), NULL, &by_pid), 0);
	assert_true(mine != 0 && mine == by_pid);
	assert_true(sb__process_stat(0x7ffffff0, &letter, &mine) < 0);
}

static void *ask_epoch(void *arg)
{
	*(uint64_t *)arg = sb__fork_epoch();
	return NULL;
}

static void test_epoch_is_one_per_process(void **state)
{
	uint64_t mine = sb__fork_epoch(), other[4] = { 0 };
	pthread_t threads[4];

	(void)state;
	assert_true(mine != 0);
	assert_true(mine == sb__fork_epoch());
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_epoch, &other[i]), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_true(other[i] == mine);
	}
	assert_true(sb__fork_epoch_by_pid() != 0);
	assert_true(sb__fork_epoch_by_pid() == sb__fork_epoch_by_pid());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test(test_cloexec_can_be_added),
		cmocka_unit_test_setup_teardown(test_read_whole_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mappings_are_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ofd_locks, setup, teardown),
		cmocka_unit_test(test_futex_results),
		cmocka_unit_test_setup_teardown(test_futex_wakes_through_another_mapping, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes_and_machine, setup, teardown),
		cmocka_unit_test(test_slice_is_given_back),
		cmocka_unit_test(test_own_stat),
		cmocka_unit_test(test_epoch_is_one_per_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
