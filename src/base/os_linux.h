/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every system call that the library makes, so that faults can be injected in one place. Functions
 * return >= 0 or -errno (never set errno themselves beyond what libc does), retry EINTR where that is
 * right, and set O_CLOEXEC on every descriptor.
 */
#ifndef SB_BASE_OS_LINUX_H
#define SB_BASE_OS_LINUX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct pollfd;

int sb__os_open_dir(const char *path); /* O_DIRECTORY | O_NOFOLLOW | O_PATH-less, readable */
int sb__os_openat(int dirfd, const char *name, int flags, mode_t mode); /* adds O_CLOEXEC | O_NOFOLLOW */
/*
 * The same for a file of this user's alone, judged by what was opened: a regular one of the effective user's, without other
 * names and without rights for group or others; else -EPERM. A link is -ELOOP, and nothing (a FIFO) makes it wait.
 */
int sb__os_open_own(int dirfd, const char *name, int flags, mode_t mode);
int sb__os_own_at(int dirfd, const char *name); /* 0: it is such a file; opens nothing */
int sb__os_mkdirat(int dirfd, const char *name, mode_t mode);
int sb__os_unlinkat(int dirfd, const char *name, int flags);
int sb__os_renameat(int olddir, const char *oldname, int newdir, const char *newname);
int sb__os_fstat(int fd, struct stat *st);
int sb__os_statat(int dirfd, const char *path, struct stat *st); /* follows links: for /proc/self/ns/… */
ssize_t sb__os_readlinkat(int dirfd, const char *path, char *buf,
                          size_t size);                /* NUL-terminated; cut if longer */
int sb__os_fallocate(int fd, off_t offset, off_t len); /* posix_fallocate: real blocks or -ENOSPC */
/* fallocate(2) itself: where the file system lacks it, -EOPNOTSUPP, and no emulation that writes over what
 * others are writing. */
int sb__os_reserve(int fd, off_t offset, off_t len);
int sb__os_punch(int fd, off_t offset, off_t len); /* gives the blocks back; they read as zeros */
int sb__os_reopen(
	const char *path); /* a further description of an open file: "/proc/self/fd/N", read and write */
int sb__os_close(int fd);
int sb__os_map(int fd, off_t offset, size_t len, bool writable, void **ret); /* MAP_SHARED, MADV_DONTDUMP */
/* Over a MAP_SHARED mapping of the same bytes: a private one, writable. For forked children. */
int sb__os_map_over(int fd, off_t offset, size_t len, void *addr);
int sb__os_map_shield(void *addr, size_t len); /* of a mapping: from now on for reading only */
/* Private memory of zeros that no core dump shows (MADV_DONTDUMP), made larger if old is not NULL: *ret, and old is gone. */
int sb__os_map_secret(void *old, size_t old_len, size_t len, void **ret);
int sb__os_unmap(void *addr, size_t len);
/* Of a MAP_SHARED mapping: its pages leave this process's tables, and come back when they are touched. */
void sb__os_unload(void *addr, size_t len);
bool sb__os_is_mapped(const void *addr, size_t len); /* addr: of a page */
int sb__os_kill(pid_t pid, int sig);
bool sb__os_executable(const char *path);
/* Runs a program with this process's environment, no signal blocked or ignored, its input empty, and all that it says going
 * to out. */
int sb__os_spawn(const char *program, const char *const *argv, int out, pid_t *ret);
int sb__os_wait(pid_t pid, int *ret_status);
int sb__os_pipe(int fds[2]);
ssize_t sb__os_read(int fd, void *buf, size_t size);
ssize_t sb__os_pread(int fd, void *buf, size_t size, off_t offset);
pid_t sb__os_tid(void); /* of this thread */
int sb__os_pidfd_open(pid_t pid);
int sb__os_poll_fd(int fd, int timeout_ms); /* 1 readable, 0 timeout */
int sb__os_poll(struct pollfd *fds, unsigned long count, int timeout_ms);
ssize_t sb__os_read_file_at(int dirfd, const char *path, char *buf,
                            size_t size); /* whole small file, NUL-terminated; -EFBIG if it does not fit */
int sb__os_getrandom(void *buf, size_t len);
int sb__os_fs_type(int fd, unsigned long *ret_magic); /* fstatfs */
uint64_t sb__os_fs_free(int fd);                      /* bytes, 0 on error */
uint64_t sb__os_fs_size(int fd);                      /* bytes, 0 where it has none or cannot be asked */

int sb__os_map_dontfork(int fd, size_t len, void **ret); /* MAP_SHARED, read-only, MADV_DONTFORK */
int sb__os_set_cloexec(int fd);
bool sb__os_map_fits(size_t len); /* is there address space for a mapping of that size? */

/* Each entry but "." and "..", through a description of its own. visit returns non-zero to stop, which is then
 * returned; else 0, or -errno. Entries made or removed meanwhile may or may not be seen. */
int sb__os_dir_each(int dirfd, int (*visit)(void *arg, const char *name), void *arg);
int sb__os_writable_dir(int dirfd); /* 0: the effective user may make files in it; else -errno */
int sb__os_getcwd(char *buf, size_t size);
uid_t sb__os_euid(void);
bool sb__os_secure(void); /* AT_SECURE: runs with privileges that its starter lacks */

/* Locks of the open file description (F_OFD_*) on one byte. */
int sb__os_ofd_lock(int fd, off_t byte, bool exclusive); /* non-blocking; -EAGAIN if held elsewhere */
int sb__os_ofd_test(int fd, off_t byte);                 /* 1 held by somebody, 0 free */
int sb__os_ofd_test_from(int fd, off_t byte);            /* the same for that byte and all behind it */
/* POSIX record locks: of the process, not of the descriptor; gone when it closes any descriptor of the file.
 * Waits; -EDEADLK where the kernel sees a circle of processes. */
int sb__os_posix_lock(int fd, off_t byte);
int sb__os_posix_unlock(int fd, off_t byte);
void sb__os_sleep(uint64_t ns);

/* Futexes: shared between processes, never FUTEX_PRIVATE. timeout_ns relative. */
int sb__os_futex_wait(unsigned int *word, unsigned int expected,
                      uint64_t timeout_ns); /* 0 woken, -EAGAIN, -ETIMEDOUT, -EINTR */
int sb__os_futex_wake(unsigned int *word, int count);
struct sb__os_wait {
	unsigned int *word;
	unsigned int expected;
};
#define SB__OS_WAITS_MAX 128u
/* Waits until one of up to SB__OS_WAITS_MAX words is rung (FUTEX_WAITV, Linux 5.16); -ENOSYS where the kernel or a filter
 * denies it. */
int sb__os_futex_waitv(const struct sb__os_wait *waits, unsigned count, uint64_t timeout_ns);
/* Waits on two words (FUTEX_WAITV, Linux 5.16); -ENOSYS where the kernel or a filter denies it. */
int sb__os_futex_wait2(unsigned int *a, unsigned int expect_a, unsigned int *b, unsigned int expect_b,
                       uint64_t timeout_ns);

int sb__os_eventfd(void);        /* non-blocking, not readable yet */
void sb__os_eventfd_set(int fd); /* makes it readable */
void sb__os_eventfd_clear(int fd);

int sb__os_cpu_count(void); /* CPUs this process may run on */
int sb__os_cpu(void);       /* CPU this thread runs on now */
/* This thread's CPU time as others may read it: a clock that is good for as long as the thread lives, and what it says (clock
 * 0: of the whole process). 0 where it cannot be read. */
int sb__os_cpu_clock(void);
uint64_t sb__os_cpu_time(int clock);
void sb__os_yield(void); /* lets others on this CPU run */
/* Makes ns this thread's slice, what it may run in a row before others of its priority: whoever wakes with a shorter slice
 * than the running thread's goes before it at once, and gets no more of the CPU in the end (Linux 6.12, EEVDF). The
 * slice before, for sb__os_slice_restore(); 0: nothing was changed (an older kernel, a filter, no ordinary thread). */
uint64_t sb__os_slice_shorten(uint64_t ns);
void sb__os_slice_restore(uint64_t before); /* 0: nothing to do */
/* Who waits for a death goes before who dies. A waiter is woken beside the threads of the process that was killed, and the last
 * of these frees its memory without a pause: a millisecond even where that is small, up to the next tick else. So a waiter has
 * the least slice that there is; threads whose end, or whose word, tells of a death have one that is longer than that but goes
 * before others', too. */
#define SB__SLICE_WAITS_NS UINT64_C(100000)
#define SB__SLICE_TELLS_NS UINT64_C(300000)

/* Fork detection. The epoch grows in every forked child, also after a raw clone(): a page with
 * MADV_WIPEONFORK tells. Costs one load where nothing changed. Never 0. */
extern _Atomic(_Atomic uint64_t *) sb__fork_word; /* NULL: not tried yet, or the kernel cannot */
uint64_t sb__fork_epoch_first(void);
static inline uint64_t sb__fork_epoch(void)
{
	_Atomic uint64_t *word = atomic_load_explicit(&sb__fork_word, memory_order_acquire);
	uint64_t epoch = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	return epoch ? epoch : sb__fork_epoch_first();
}
/* What it falls back to where the kernel has no MADV_WIPEONFORK: compares getpid(). */
uint64_t sb__fork_epoch_by_pid(void);

#endif
