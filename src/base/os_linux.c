/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every system call that the library makes: thin, with errno as a negative result, O_CLOEXEC everywhere,
 * and EINTR retried where the call has no timeout. Knows nothing of bridges and sets no error record.
 *
 * Locks: none; the two remembered facts (the fork page, "no futex_waitv") are atomics, so nothing can be
 * left locked by a fork.
 * Crash: leaves what the single call left.
 */
#include "os_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on every architecture */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef FUTEX_32
#define FUTEX_32 2
struct futex_waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define NS_PER_SEC UINT64_C(1000000000)

/* Evaluates a call until it is not interrupted; gives its result or -errno. */
#define RETRY(call)                                           \
	({                                                    \
		long retry_result;                            \
		do                                            \
			retry_result = (long)(call);          \
		while (retry_result == -1 && errno == EINTR); \
		retry_result == -1 ? -errno : retry_result;   \
	})

static int result_of(int rc)
{
	return rc == -1 ? -errno : rc;
}

/* ── files ── */

int sb__os_open_dir(const char *path)
{
	return (int)RETRY(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

int sb__os_openat(int dirfd, const char *name, int flags, mode_t mode)
{
	return (int)RETRY(openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode));
}

static int check_own(const struct stat *st)
{
	bool own = S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 077) == 0 &&
	           st->st_nlink <= 1;

	return own ? 0 : -EPERM;
}

int sb__os_own_at(int dirfd, const char *name)
{
	struct stat st;
	int rc = result_of(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW));

	return rc < 0 ? rc : check_own(&st);
}

int sb__os_open_own(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd = sb__os_openat(dirfd, name, flags | O_NONBLOCK, mode), rc;
	struct stat st;

	if (fd < 0 || flags & O_EXCL) /* what was made just now is ours */
		return fd;
	rc = sb__os_fstat(fd, &st);
	if (rc == 0)
		rc = check_own(&st);
	if (rc == 0)
		return fd;
	(void)sb__os_close(fd);
	return rc;
}

int sb__os_mkdirat(int dirfd, const char *name, mode_t mode)
{
	return result_of(mkdirat(dirfd, name, mode));
}

int sb__os_unlinkat(int dirfd, const char *name, int flags)
{
	return result_of(unlinkat(dirfd, name, flags));
}

int sb__os_renameat(int olddir, const char *oldname, int newdir, const char *newname)
{
	return result_of(renameat(olddir, oldname, newdir, newname));
}

int sb__os_fstat(int fd, struct stat *st)
{
	return result_of(fstat(fd, st));
}

int sb__os_statat(int dirfd, const char *path, struct stat *st)
{
	return result_of(fstatat(dirfd, path, st, 0));
}

ssize_t sb__os_readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	ssize_t n;

	if (size == 0)
		return -EINVAL;
	n = readlinkat(dirfd, path, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int sb__os_fallocate(int fd, off_t offset, off_t len)
{
	int errnum;

	do
		errnum = posix_fallocate(fd, offset, len);
	while (errnum == EINTR);
	return -errnum;
}

int sb__os_reserve(int fd, off_t offset, off_t len)
{
	return (int)RETRY(fallocate(fd, 0, offset, len));
}

int sb__os_punch(int fd, off_t offset, off_t len)
{
	return (int)RETRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len));
}

int sb__os_reopen(const char *path)
{
	return (int)RETRY(open(path, O_RDWR | O_CLOEXEC));
}

int sb__os_close(int fd)
{
	/* Never retried: Linux has freed the descriptor even when it says EINTR. */
	return result_of(close(fd));
}

int sb__os_set_cloexec(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags == -1)
		return -errno;
	return result_of(fcntl(fd, F_SETFD, flags | FD_CLOEXEC));
}

ssize_t sb__os_read_file_at(int dirfd, const char *path, char *buf, size_t size)
{
	/* Not sb__os_openat(): /proc has links on the way. */
	int fd = (int)RETRY(openat(dirfd, path, O_RDONLY | O_CLOEXEC));
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	while (len < size) {
		n = RETRY(read(fd, buf + len, size - len));
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	(void)sb__os_close(fd);
	if (n < 0)
		return n;
	if (len >= size)
		return -EFBIG;
	buf[len] = '\0';
	return (ssize_t)len;
}

int sb__os_fs_type(int fd, unsigned long *ret_magic)
{
	struct statfs fs;
	long rc = RETRY(fstatfs(fd, &fs));

	if (rc < 0)
		return (int)rc;
	*ret_magic = (unsigned long)fs.f_type;
	return 0;
}

uint64_t sb__os_fs_size(int fd)
{
	struct statfs st;

	if (RETRY(fstatfs(fd, &st)) < 0)
		return 0;
	return (uint64_t)st.f_blocks * (uint64_t)st.f_bsize;
}

uint64_t sb__os_fs_free(int fd)
{
	struct statfs fs;

	if (RETRY(fstatfs(fd, &fs)) < 0)
		return 0;
	return (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
}

/* ── directories ── */

int sb__os_dir_each(int dirfd, int (*visit)(void *arg, const char *name), void *arg)
{
	/* Not a dup: that would share the read position with every other lister of dirfd. */
	int fd = sb__os_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	const struct dirent *entry;
	int rc = 0;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		(void)sb__os_close(fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			rc = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = visit(arg, entry->d_name);
	}
	(void)closedir(dir);
	return rc;
}

int sb__os_writable_dir(int dirfd)
{
	return result_of(faccessat(dirfd, ".", W_OK | X_OK, AT_EACCESS));
}

int sb__os_getcwd(char *buf, size_t size)
{
	return getcwd(buf, size) ? 0 : -errno;
}

uid_t sb__os_euid(void)
{
	return geteuid();
}

bool sb__os_secure(void)
{
	return getauxval(AT_SECURE) != 0;
}

/* ── memory ── */

int sb__os_map(int fd, off_t offset, size_t len, bool writable, void **ret)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	void *addr = mmap(NULL, len, prot, MAP_SHARED, fd, offset);

	if (addr == MAP_FAILED)
		return -errno;
	(void)madvise(addr, len, MADV_DONTDUMP); /* a core dump that shows it is no failure */
	*ret = addr;
	return 0;
}

int sb__os_map_dontfork(int fd, size_t len, void **ret)
{
	void *addr = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	int rc;

	if (addr == MAP_FAILED)
		return -errno;
	if (madvise(addr, len, MADV_DONTFORK) == -1) {
		rc = -errno;
		(void)munmap(addr, len);
		return rc;
	}
	*ret = addr;
	return 0;
}

int sb__os_map_over(int fd, off_t offset, size_t len, void *addr)
{
	void *got = mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, offset);

	return got == MAP_FAILED ? -errno : 0;
}

int sb__os_map_shield(void *addr, size_t len)
{
	return mprotect(addr, len, PROT_READ) == -1 ? -errno : 0;
}

bool sb__os_map_fits(size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (addr == MAP_FAILED)
		return false;
	(void)munmap(addr, len);
	return true;
}

int sb__os_map_secret(void *old, size_t old_len, size_t len, void **ret)
{
	void *addr = old ? mremap(old, old_len, len, MREMAP_MAYMOVE)
	                 : mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return -errno;
	(void)madvise(addr, len, MADV_DONTDUMP);
	*ret = addr;
	return 0;
}

int sb__os_unmap(void *addr, size_t len)
{
	return result_of(munmap(addr, len));
}

void sb__os_unload(void *addr, size_t len)
{
	(void)madvise(addr, len, MADV_DONTNEED); /* the file keeps them */
}

bool sb__os_is_mapped(const void *addr, size_t len)
{
	return msync((void *)addr, len, MS_ASYNC) == 0;
}

int sb__os_getrandom(void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		long n = RETRY(getrandom((char *)buf + done, len - done, 0));

		if (n < 0)
			return (int)n;
		done += (size_t)n;
	}
	return 0;
}

/* ── processes ── */

int sb__os_kill(pid_t pid, int sig)
{
	return result_of(kill(pid, sig));
}

bool sb__os_executable(const char *path)
{
	return access(path, X_OK) == 0;
}

int sb__os_spawn(const char *program, const char *const *argv, int out, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	err = posix_spawn_file_actions_init(&actions);
	if (err)
		return -err;
	err = posix_spawnattr_init(&attr);
	if (err) {
		posix_spawn_file_actions_destroy(&actions);
		return -err;
	}
	err = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, out, 2);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (!err)
		err = posix_spawn(ret, program, &actions, &attr, (char *const *)(uintptr_t)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -err;
}

int sb__os_wait(pid_t pid, int *ret_status)
{
	return (int)RETRY(waitpid(pid, ret_status, 0));
}

int sb__os_pipe(int fds[2])
{
	return result_of(pipe2(fds, O_CLOEXEC));
}

ssize_t sb__os_read(int fd, void *buf, size_t size)
{
	return RETRY(read(fd, buf, size));
}

ssize_t sb__os_pread(int fd, void *buf, size_t size, off_t offset)
{
	return RETRY(pread(fd, buf, size, offset));
}

pid_t sb__os_tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

int sb__os_pidfd_open(pid_t pid)
{
	return (int)RETRY(syscall(SYS_pidfd_open, pid, 0)); /* close-on-exec by itself */
}

int sb__os_poll_fd(int fd, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return result_of(poll(&pollfd, 1, timeout_ms));
}

int sb__os_poll(struct pollfd *fds, unsigned long count, int timeout_ms)
{
	return result_of(poll(fds, count, timeout_ms));
}

int sb__os_cpu_count(void)
{
	cpu_set_t set;
	long n;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds */
	return n > 0 && n <= INT_MAX ? (int)n : 1;
}

int sb__os_cpu(void)
{
	return result_of(sched_getcpu());
}

int sb__os_cpu_clock(void)
{
	clockid_t clock;

	return pthread_getcpuclockid(pthread_self(), &clock) == 0 ? (int)clock : 0;
}

uint64_t sb__os_cpu_time(int clock)
{
	struct timespec t;

	if (clock_gettime(clock ? (clockid_t)clock : CLOCK_PROCESS_CPUTIME_ID, &t))
		return 0;
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void sb__os_yield(void)
{
	(void)sched_yield(); /* cannot fail on Linux */
}

/* The kernel's struct sched_attr as of Linux 3.14 (sched_setattr(2)): some C libraries have none. */
struct slice_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

/* An ordinary thread's slice is its runtime since Linux 6.12; earlier kernels have 0 there. */
static bool slice_get(struct slice_attr *ret)
{
	*ret = (struct slice_attr){ 0 };
	return syscall(SYS_sched_getattr, 0, ret, sizeof(*ret), 0) == 0 && ret->policy == SCHED_OTHER &&
	       ret->runtime_ns > 0;
}

static bool slice_set(struct slice_attr *attr, uint64_t ns)
{
	attr->runtime_ns = ns;
	return syscall(SYS_sched_setattr, 0, attr, 0) == 0;
}

uint64_t sb__os_slice_shorten(uint64_t ns)
{
	struct slice_attr attr;
	uint64_t before;

	if (!slice_get(&attr) || attr.runtime_ns <= ns)
		return 0;
	before = attr.runtime_ns;
	return slice_set(&attr, ns) ? before : 0;
}

void sb__os_slice_restore(uint64_t before)
{
	struct slice_attr attr;

	if (!before || !slice_get(&attr))
		return;
	(void)slice_set(&attr, 0); /* what threads have that never set one */
	if (slice_get(&attr) && attr.runtime_ns != before)
		(void)slice_set(&attr, before);
}

/* ── locks ── */

static struct flock one_byte(off_t byte, short type)
{
	/* l_pid must be 0 for F_OFD_* */
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

int sb__os_ofd_lock(int fd, off_t byte, bool exclusive)
{
	struct flock lock = one_byte(byte, exclusive ? F_WRLCK : F_RDLCK);
	int rc = (int)RETRY(fcntl(fd, F_OFD_SETLK, &lock));

	return rc == -EACCES ? -EAGAIN : rc; /* POSIX allows either */
}

int sb__os_ofd_test(int fd, off_t byte)
{
	struct flock lock = one_byte(byte, F_WRLCK);
	int rc = (int)RETRY(fcntl(fd, F_OFD_GETLK, &lock));

	if (rc < 0)
		return rc;
	return lock.l_type == F_UNLCK ? 0 : 1;
}

int sb__os_ofd_test_from(int fd, off_t byte)
{
	struct flock lock = one_byte(byte, F_WRLCK);
	int rc;

	lock.l_len = 0; /* to the end of all files */
	rc = (int)RETRY(fcntl(fd, F_OFD_GETLK, &lock));
	if (rc < 0)
		return rc;
	return lock.l_type == F_UNLCK ? 0 : 1;
}

int sb__os_posix_lock(int fd, off_t byte)
{
	struct flock lock = one_byte(byte, F_WRLCK);

	return (int)RETRY(fcntl(fd, F_SETLKW, &lock));
}

int sb__os_posix_unlock(int fd, off_t byte)
{
	struct flock lock = one_byte(byte, F_UNLCK);

	return (int)RETRY(fcntl(fd, F_SETLK, &lock));
}

void sb__os_sleep(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NS_PER_SEC), .tv_nsec = (long)(ns % NS_PER_SEC) };

	(void)nanosleep(&ts, NULL);
}

/* ── futexes ── */

int sb__os_futex_wait(unsigned int *word, unsigned int expected, uint64_t timeout_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / NS_PER_SEC),
		               .tv_nsec = (long)(timeout_ns % NS_PER_SEC) };

	return syscall(SYS_futex, word, FUTEX_WAIT, expected, &ts, NULL, 0) == -1 ? -errno : 0;
}

int sb__os_futex_wake(unsigned int *word, int count)
{
	return result_of((int)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0));
}

int sb__os_futex_waitv(const struct sb__os_wait *waits, unsigned count, uint64_t timeout_ns)
{
	static atomic_bool missing; /* denied once, denied for ever: a filter is never lifted */
	struct futex_waitv waiters[SB__OS_WAITS_MAX];
	struct timespec until;

	if (atomic_load_explicit(&missing, memory_order_relaxed))
		return -ENOSYS;
	for (unsigned i = 0; i < count; i++)
		waiters[i] = (struct futex_waitv){ .val = waits[i].expected,
			                           .uaddr = (uintptr_t)waits[i].word,
			                           .flags = FUTEX_32 };
	(void)clock_gettime(CLOCK_MONOTONIC, &until); /* this call wants an absolute time */
	timeout_ns += (uint64_t)until.tv_nsec;
	until.tv_sec += (time_t)(timeout_ns / NS_PER_SEC);
	until.tv_nsec = (long)(timeout_ns % NS_PER_SEC);
	if (syscall(SYS_futex_waitv, waiters, count, 0, &until, CLOCK_MONOTONIC) != -1)
		return 0;
	if (errno != ENOSYS && errno != EPERM)
		return -errno;
	atomic_store_explicit(&missing, true, memory_order_relaxed);
	return -ENOSYS;
}

int sb__os_futex_wait2(unsigned int *a, unsigned int expect_a, unsigned int *b, unsigned int expect_b,
                       uint64_t timeout_ns)
{
	struct sb__os_wait waits[2] = { { a, expect_a }, { b, expect_b } };

	return sb__os_futex_waitv(waits, 2, timeout_ns);
}

/* ── event descriptors ── */

int sb__os_eventfd(void)
{
	return result_of(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void sb__os_eventfd_set(int fd)
{
	uint64_t one = 1;

	(void)RETRY(write(fd, &one, sizeof(one))); /* full: it is readable already */
}

void sb__os_eventfd_clear(int fd)
{
	uint64_t value;

	(void)RETRY(read(fd, &value, sizeof(value))); /* not readable: it is clear already */
}

/* ── fork detection ── */

static atomic_uint_least64_t epochs; /* given out so far; copied by a fork, so a child's are larger */

uint64_t sb__fork_epoch_by_pid(void)
{
	static atomic_uint_least64_t known; /* pid:32 | epoch:32, so that both change in one step */
	uint64_t pid = (uint32_t)getpid();
	uint64_t seen = atomic_load(&known);

	while (seen == 0 || seen >> 32 != pid) {
		uint64_t next = pid << 32 | (uint32_t)(atomic_fetch_add(&epochs, 1) + 1);

		if (atomic_compare_exchange_weak(&known, &seen, next))
			seen = next;
	}
	return (uint32_t)seen;
}

/* The page whose first word the kernel zeroes in a child. NULL: not tried yet; MAP_FAILED: the kernel cannot. */
static _Atomic(void *) page;

/* NULL where there is no such thing. */
static _Atomic uint64_t *wipe_page(void)
{
	void *have = atomic_load_explicit(&page, memory_order_acquire);
	void *mine;
	long size;

	if (have)
		return have == MAP_FAILED ? NULL : have;
	size = sysconf(_SC_PAGESIZE);
	mine = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mine != MAP_FAILED && madvise(mine, (size_t)size, MADV_WIPEONFORK) == -1) {
		(void)munmap(mine, (size_t)size);
		mine = MAP_FAILED;
	}
	if (!atomic_compare_exchange_strong(&page, &have, mine)) {
		if (mine != MAP_FAILED)
			(void)munmap(mine, (size_t)size); /* another thread was quicker */
		mine = have;
	}
	return mine == MAP_FAILED ? NULL : mine;
}

_Atomic(_Atomic uint64_t *) sb__fork_word;

uint64_t sb__fork_epoch_first(void)
{
	_Atomic uint64_t *word = wipe_page();
	uint64_t epoch = 0, next;

	if (!word)
		return sb__fork_epoch_by_pid();
	atomic_store_explicit(&sb__fork_word, word, memory_order_release);
	/* First look in this process. Of several threads one sets it; all return what it set. */
	next = atomic_fetch_add(&epochs, 1) + 1;
	return atomic_compare_exchange_strong(word, &epoch, next) ? next : epoch;
}
