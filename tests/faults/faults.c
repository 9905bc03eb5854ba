/* SPDX-License-Identifier: Apache-2.0 */
#include "faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* A sanitizer has a malloc() and an open() of its own: then nothing fails. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULTS_POSSIBLE 0
#else
#define FAULTS_POSSIBLE 1
#endif

bool fault_possible(void)
{
	return FAULTS_POSSIBLE;
}

/* ── which one fails ── */

static atomic_int armed = -1; /* enum fault_kind */
static atomic_uint passed, nth_fails, failures;
static atomic_bool for_ever;
static _Atomic(const char *) first_name = "";
static atomic_long live;

void fault_arm(enum fault_kind kind, unsigned nth, bool always)
{
	atomic_store(&passed, 0);
	atomic_store(&failures, 0);
	atomic_store(&nth_fails, nth);
	atomic_store(&for_ever, always);
	atomic_store(&first_name, "");
	atomic_store(&armed, (int)kind);
}

unsigned fault_disarm(void)
{
	atomic_store(&armed, -1);
	return atomic_load(&failures);
}

const char *fault_name(void)
{
	return atomic_load(&first_name);
}

long fault_live(void)
{
	return atomic_load(&live);
}

bool fault_is_clearing(const char *name)
{
	return strcmp(name, "unlinkat") == 0 || strcmp(name, "close") == 0 || strcmp(name, "fstatat") == 0;
}

#if FAULTS_POSSIBLE
static bool fails(enum fault_kind kind, const char *name)
{
	unsigned number;

	if (atomic_load_explicit(&armed, memory_order_relaxed) != (int)kind)
		return false;
	number = atomic_fetch_add(&passed, 1) + 1;
	if (number != atomic_load(&nth_fails) &&
	    !(atomic_load(&for_ever) && number > atomic_load(&nth_fails)))
		return false;
	if (atomic_fetch_add(&failures, 1) == 0)
		atomic_store(&first_name, name);
	return true;
}

/* ── memory ── */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *memory);

static void *counted(void *memory)
{
	if (memory)
		atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
	return memory;
}

static bool no_memory(const char *name)
{
	if (!fails(FAULT_MEMORY, name))
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return no_memory("malloc") ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return no_memory("calloc") ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
	void *memory;

	if (no_memory("realloc"))
		return NULL;
	memory = __libc_realloc(old, size);
	if (!old)
		return counted(memory);
	if (size == 0)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	return memory;
}

void *aligned_alloc(size_t align, size_t size)
{
	return no_memory("aligned_alloc") ? NULL : counted(__libc_memalign(align, size));
}

int posix_memalign(void **ret, size_t align, size_t size)
{
	void *memory = no_memory("posix_memalign") ? NULL : counted(__libc_memalign(align, size));

	if (!memory)
		return ENOMEM;
	*ret = memory;
	return 0;
}

void free(void *memory)
{
	if (memory)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	__libc_free(memory);
}

/* ── system calls ── */

/* ISO C has no conversion from void * to a function pointer. */
#define NEXT(name)                                                  \
	static __typeof__(&name) next_##name;                       \
	if (!next_##name) {                                         \
		void *symbol = dlsym(RTLD_NEXT, #name);             \
		memcpy(&next_##name, &symbol, sizeof(next_##name)); \
	}
#define FAIL(name, error, result)               \
	do {                                    \
		if (fails(FAULT_CALL, #name)) { \
			errno = (error);        \
			return (result);        \
		}                               \
	} while (0)

/* A function that is passed on as it is unless it fails. */
#define PASS(type, name, error, result, params, ...) \
	type name params                             \
	{                                            \
		NEXT(name)                           \
		FAIL(name, error, result);           \
		return next_##name(__VA_ARGS__);     \
	}

PASS(ssize_t, read, EIO, -1, (int fd, void *buf, size_t size), fd, buf, size)
PASS(ssize_t, pread, EIO, -1, (int fd, void *buf, size_t size, off_t at), fd, buf, size, at)
PASS(ssize_t, pwrite, ENOSPC, -1, (int fd, const void *buf, size_t size, off_t at), fd, buf, size, at)
PASS(ssize_t, writev, ENOSPC, -1, (int fd, const struct iovec *iov, int count), fd, iov, count)
PASS(void *, mmap, ENOMEM, MAP_FAILED, (void *addr, size_t len, int prot, int flags, int fd, off_t at), addr,
     len, prot, flags, fd, at)
PASS(int, mprotect, ENOMEM, -1, (void *addr, size_t len, int prot), addr, len, prot)
PASS(int, madvise, EINVAL, -1, (void *addr, size_t len, int advice), addr, len, advice)
PASS(int, ftruncate, ENOSPC, -1, (int fd, off_t len), fd, len)
PASS(int, fallocate, ENOSPC, -1, (int fd, int mode, off_t at, off_t len), fd, mode, at, len)
PASS(int, fstat, EIO, -1, (int fd, struct stat *st), fd, st)
PASS(int, fstatat, EIO, -1, (int dir, const char *restrict name, struct stat *restrict st, int flags), dir,
     name, st, flags)
PASS(int, fstatfs, EIO, -1, (int fd, struct statfs *fs), fd, fs)
PASS(int, mkdirat, ENOSPC, -1, (int dir, const char *name, mode_t mode), dir, name, mode)
PASS(int, unlinkat, EIO, -1, (int dir, const char *name, int flags), dir, name, flags)
PASS(int, renameat, EIO, -1, (int from, const char *a, int to, const char *b), from, a, to, b)
PASS(ssize_t, readlinkat, EIO, -1, (int dir, const char *restrict name, char *restrict buf, size_t size), dir,
     name, buf, size)
PASS(int, faccessat, EIO, -1, (int dir, const char *name, int mode, int flags), dir, name, mode, flags)
PASS(ssize_t, getrandom, EIO, -1, (void *buf, size_t size, unsigned flags), buf, size, flags)
PASS(DIR *, fdopendir, ENOMEM, NULL, (int fd), fd)
PASS(struct dirent *, readdir, EIO, NULL, (DIR * dir), dir)
PASS(int, eventfd, EMFILE, -1, (unsigned value, int flags), value, flags)
PASS(int, pipe2, EMFILE, -1, (int fds[2], int flags), fds, flags)
PASS(int, poll, ENOMEM, -1, (struct pollfd * fds, nfds_t count, int timeout), fds, count, timeout)
PASS(int, fsync, EIO, -1, (int fd), fd)
PASS(int, fdatasync, EIO, -1, (int fd), fd)
PASS(int, msync, EIO, -1, (void *addr, size_t len, int flags), addr, len, flags)

/* These return their error. */
int posix_fallocate(int fd, off_t at, off_t len)
{
	NEXT(posix_fallocate)
	FAIL(posix_fallocate, ENOSPC, ENOSPC);
	return next_posix_fallocate(fd, at, len);
}

int pthread_create(pthread_t *restrict ret, const pthread_attr_t *restrict attr, void *(*fn)(void *),
                   void *restrict arg)
{
	NEXT(pthread_create)
	FAIL(pthread_create, EAGAIN, EAGAIN);
	return next_pthread_create(ret, attr, fn, arg);
}

int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
	NEXT(posix_spawn)
	FAIL(posix_spawn, EAGAIN, EAGAIN);
	return next_posix_spawn(pid, path, actions, attr, argv, env);
}

/* It closes even where it fails. */
int close(int fd)
{
	NEXT(close)
	if (fails(FAULT_CALL, "close")) {
		(void)next_close(fd);
		errno = EIO;
		return -1;
	}
	return next_close(fd);
}

int open(const char *path, int flags, ...)
{
	NEXT(open)
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	FAIL(open, EMFILE, -1);
	return next_open(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	NEXT(openat)
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	FAIL(openat, EMFILE, -1);
	return next_openat(dir, path, flags, mode);
}

int fcntl(int fd, int command, ...)
{
	NEXT(fcntl)
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	/* Linux can always give a whole lock back; one that stays would hold up everybody else by right. */
	if ((command == F_SETLK || command == F_OFD_SETLK) && ((const struct flock *)arg)->l_type == F_UNLCK)
		return next_fcntl(fd, command, arg);
	FAIL(fcntl, ENOLCK, -1);
	return next_fcntl(fd, command, arg);
}

/* Only those that may be denied: a futex that cannot wait or wake is no system to run on. */
long syscall(long number, ...)
{
	NEXT(syscall)
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_pidfd_open)
		FAIL(syscall, EMFILE, -1);
	if (number == SYS_futex_waitv)
		FAIL(syscall, ENOSYS, -1);
	return next_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#endif
