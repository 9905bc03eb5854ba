/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel as the library sees it through base/os_linux.h and base/clock.h: files in memory, open descriptions with their
 * locks, /proc, pids, futexes, clocks. Only the library's own files are simulated: the session store is LMDB itself, on a
 * real directory (sim_store.c).
 *
 * Mappings are addresses in a file's memory, which never moves and begins as zeroes; those of arenas are real ones of it.
 */
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "atomics.h"
#include "clock.h"
#include "os_linux.h"
#include "sim_os.h"
#include "sim_words.h"

enum { FILES_MAX = 256, DESCS_MAX = 2048, LOCKS_MAX = 64, FD_BASE = 1 << 20, NAME_MAX_ = 64 };

#define COARSE_NS 4000000u
#define PAGE      4096u

struct file {
	char name[NAME_MAX_];
	enum sim_dir dir;
	uint8_t *data;
	size_t size, reserved;
	bool linked, zeroes;
	const struct sim_proc *watched; /* of a pidfd */
};

/* An open file description. */
struct desc {
	struct file *file; /* NULL: not in use */
	struct sim_proc *proc;
	unsigned refs; /* its descriptor, and mappings that pin it */
};

struct lock {
	struct desc *by; /* NULL: free */
	struct file *file;
	off_t byte;
	int32_t pid; /* of the last holder: for a seeded mistake */
};

static struct file files[FILES_MAX];
static struct desc descs[DESCS_MAX];
static struct lock locks[LOCKS_MAX];
static unsigned file_count, desc_count;
static int boot_fd = -1;

/* ── files ── */

int sim_dir_fd(enum sim_dir dir)
{
	return dir == SIM_DIR_BOOT ? boot_fd : FD_BASE - SIM_DIRS + (int)dir;
}

void sim_boot_fd(int fd)
{
	boot_fd = fd;
}

static int dir_of(int fd)
{
	for (int dir = 0; dir < SIM_DIRS; dir++)
		if (fd == sim_dir_fd((enum sim_dir)dir))
			return dir;
	return -1;
}

static struct file *find(int dir, const char *name)
{
	for (unsigned i = 0; i < file_count; i++)
		if (files[i].linked && files[i].dir == (enum sim_dir)dir && strcmp(files[i].name, name) == 0)
			return &files[i];
	return NULL;
}

static struct file *make(int dir, const char *name)
{
	struct file *f = &files[file_count];

	if (file_count == FILES_MAX)
		return NULL;
	file_count++;
	*f = (struct file){ .dir = (enum sim_dir)dir, .linked = true };
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->reserved = dir == SIM_DIRS ? 0 : dir == SIM_DIR_MAILBOX ? (size_t)1 << 20 : (size_t)4 << 20;
	f->zeroes = dir == SIM_DIR_BOOT || dir == SIM_DIR_ARENA; /* large, and hardly touched */
	f->data = f->zeroes ? sim_zeroes(f->reserved) : sim_reserve(f->reserved, PAGE);
	return f;
}

void sim_files_begin(void)
{
	file_count = desc_count = 0;
	memset(locks, 0, sizeof(locks));
	sim_words_begin();
	if (make(SIM_DIR_BOOT, "life"))
		files[0].size = PAGE;
}

static struct desc *of(int fd)
{
	unsigned i = (unsigned)(fd - FD_BASE);

	return fd >= FD_BASE && i < desc_count && descs[i].file ? &descs[i] : NULL;
}

static void put(struct desc *d)
{
	if (--d->refs > 0)
		return;
	for (unsigned i = 0; i < LOCKS_MAX; i++)
		if (locks[i].by == d)
			locks[i].by = NULL;
	d->file = NULL;
}

static int open_desc(struct file *f)
{
	unsigned i = 0;

	while (i < desc_count && descs[i].file)
		i++;
	if (i == DESCS_MAX)
		return -EMFILE;
	if (i == desc_count)
		desc_count++;
	descs[i] = (struct desc){ .file = f, .proc = sim_self(), .refs = 1 };
	return FD_BASE + (int)i;
}

void sim_files_proc_gone(struct sim_proc *proc)
{
	for (unsigned i = 0; i < desc_count; i++)
		while (descs[i].file && descs[i].proc == proc)
			put(&descs[i]);
	sim_wake_object(files, UINT32_MAX); /* whoever polls a pidfd */
}

unsigned sim_files_in(enum sim_dir dir)
{
	unsigned n = 0;

	for (unsigned i = 0; i < file_count; i++)
		n += files[i].linked && files[i].dir == dir;
	return n;
}

int sim_file_each(enum sim_dir dir, int (*visit)(void *arg, const char *name), void *arg)
{
	for (unsigned i = 0; i < file_count; i++)
		if (files[i].linked && files[i].dir == dir) {
			int r = visit(arg, files[i].name);

			if (r)
				return r;
		}
	return 0;
}

int sb__os_openat(int dirfd, const char *name, int flags, mode_t mode)
{
	int dir = dir_of(dirfd);
	struct file *f;

	(void)mode;
	sim_point(SIM_AT_CALL);
	if (dir < 0)
		return -EBADF;
	f = find(dir, name);
	if (f && (flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (!f && !(flags & O_CREAT))
		return -ENOENT;
	if (!f)
		f = make(dir, name);
	return f ? open_desc(f) : -ENOSPC;
}

/* All files here are the user's own. */
int sb__os_open_own(int dirfd, const char *name, int flags, mode_t mode)
{
	return sb__os_openat(dirfd, name, flags, mode);
}

int sb__os_own_at(int dirfd, const char *name)
{
	int dir = dir_of(dirfd);

	sim_point(SIM_AT_CALL);
	return dir >= 0 && find(dir, name) ? 0 : -ENOENT;
}

int sb__os_unlinkat(int dirfd, const char *name, int flags)
{
	int dir = dir_of(dirfd);
	struct file *f = NULL;

	(void)flags;
	sim_point(SIM_AT_CALL);
	if (dir >= 0)
		f = find(dir, name);
	if (!f)
		return -ENOENT;
	f->linked = false;
	return 0;
}

int sb__os_renameat(int olddir, const char *oldname, int newdir, const char *newname)
{
	struct file *f, *over;

	sim_point(SIM_AT_CALL);
	f = find(dir_of(olddir), oldname);
	over = find(dir_of(newdir), newname);
	if (!f)
		return -ENOENT;
	if (over)
		over->linked = false;
	f->dir = (enum sim_dir)dir_of(newdir);
	snprintf(f->name, sizeof(f->name), "%s", newname);
	return 0;
}

int sb__os_fstat(int fd, struct stat *st)
{
	struct desc *d = of(fd);

	memset(st, 0, sizeof(*st));
	if (!d)
		return -EBADF;
	st->st_mode = S_IFREG | 0600;
	st->st_size = (off_t)d->file->size;
	st->st_nlink = d->file->linked;
	return 0;
}

int sb__os_fallocate(int fd, off_t offset, off_t len)
{
	struct desc *d = of(fd);
	size_t end = (size_t)(offset + len);

	sim_point(SIM_AT_CALL);
	if (!d)
		return -EBADF;
	if (end > d->file->reserved)
		return -ENOSPC;
	if (end > d->file->size && !d->file->zeroes)
		memset(d->file->data + d->file->size, 0, end - d->file->size);
	if (end > d->file->size)
		d->file->size = end;
	return 0;
}

int sb__os_reserve(int fd, off_t offset, off_t len)
{
	return sb__os_fallocate(fd, offset, len);
}

int sb__os_punch(int fd, off_t offset, off_t len)
{
	struct desc *d = of(fd);

	if (!d)
		return -EBADF;
	memset(d->file->data + offset, 0, (size_t)len);
	return 0;
}

int sb__os_close(int fd)
{
	struct desc *d = of(fd);

	if (d)
		put(d);
	return 0;
}

int sb__os_map(int fd, off_t offset, size_t len, bool writable, void **ret)
{
	struct desc *d = of(fd);

	(void)writable;
	sim_point(SIM_AT_CALL);
	if (!d)
		return -EBADF;
	*ret = d->file->data + offset;
	/* Blocks are found by their address, so a process that maps an arena once more sees it elsewhere. */
	if (d->file->dir == SIM_DIR_ARENA && !strstr(d->file->name, "holds"))
		*ret = sim_alias(*ret, len);
	return 0;
}

/* The life token's mapping keeps the open description; where it lies says which. */
int sb__os_map_dontfork(int fd, size_t len, void **ret)
{
	struct desc *d = of(fd);

	(void)len;
	if (!d)
		return -EBADF;
	d->refs++;
	*ret = d;
	return 0;
}

int sb__os_unmap(void *addr, size_t len)
{
	struct desc *d = addr;

	(void)len;
	sim_point(SIM_AT_CALL);
	if (d >= descs && d < descs + DESCS_MAX)
		put(d);
	return 0;
}

void sb__os_unload(void *addr, size_t len)
{
	(void)addr;
	(void)len;
}

ssize_t sb__os_pread(int fd, void *buf, size_t size, off_t offset)
{
	struct desc *d = of(fd);

	if (!d)
		return -EBADF;
	if ((size_t)offset >= d->file->size)
		return 0;
	if (size > d->file->size - (size_t)offset)
		size = d->file->size - (size_t)offset;
	memcpy(buf, d->file->data + offset, size);
	return (ssize_t)size;
}

int sb__os_map_over(int fd, off_t offset, size_t len, void *addr)
{
	(void)fd;
	(void)offset;
	(void)len;
	(void)addr;
	return -ENOSYS; /* nobody forks here */
}

int sb__os_map_shield(void *addr, size_t len)
{
	(void)addr;
	(void)len;
	return 0; /* one mapping for all */
}

int sb__os_reopen(const char *path)
{
	(void)path;
	return -ENOSYS;
}

int sb__os_dir_each(int dirfd, int (*visit)(void *arg, const char *name), void *arg)
{
	int dir = dir_of(dirfd);

	sim_point(SIM_AT_CALL);
	return dir < 0 ? -EBADF : sim_file_each((enum sim_dir)dir, visit, arg);
}

/* ── locks ── */

static struct lock *lock_of(const struct file *f, off_t byte)
{
	for (unsigned i = 0; i < LOCKS_MAX; i++)
		if (locks[i].file == f && locks[i].byte == byte)
			return &locks[i];
	return NULL;
}

int sb__os_ofd_lock(int fd, off_t byte, bool exclusive)
{
	struct desc *d = of(fd);
	struct lock *l;

	(void)exclusive;
	sim_point(SIM_AT_CALL);
	if (!d)
		return -EBADF;
	l = lock_of(d->file, byte);
	if (l && l->by && l->by != d)
		return -EAGAIN;
	for (unsigned i = 0; !l && i < LOCKS_MAX; i++)
		if (!locks[i].file)
			l = &locks[i];
	if (!l)
		return -ENOLCK;
	*l = (struct lock){ d, d->file, byte, sim_pid() };
	return 0;
}

static bool pid_lives(int32_t pid)
{
	for (unsigned i = 0; i < sim.proc_count; i++)
		if (sim.procs[i].pid == pid && !sim.procs[i].gone)
			return true;
	return false;
}

int sb__os_ofd_test(int fd, off_t byte)
{
	struct desc *d = of(fd);
	struct file *f = d ? d->file : &files[0]; /* only the life file is asked by those who hold no lock */
	struct lock *l;

	sim_point(SIM_AT_CALL);
	l = lock_of(f, byte);
	if (l && l->by && sim.bug == SIM_BUG_STOPPED_IS_DEAD && l->by->proc->stopped_until_ns > sim.now_ns)
		return 0;
	if (l && !l->by && sim.bug == SIM_BUG_PID_IS_IDENTITY && pid_lives(l->pid))
		return 1;
	return l && l->by && l->by != d;
}

int sb__os_ofd_test_from(int fd, off_t byte)
{
	(void)fd;
	(void)byte;
	return 0; /* locks of forked children */
}

/* ── processes ── */

int sim_pid(void)
{
	return sim_self() ? sim_self()->pid : 1;
}

int sim_tid(void)
{
	return sim.current ? sim.current->proc->pid * 256 + (int)sim.current->index : 1;
}

static struct sim_proc *proc_of(int32_t pid)
{
	for (unsigned i = sim.proc_count; i-- > 0;)
		if (sim.procs[i].pid == pid && (!sim.procs[i].gone || sim.procs[i].zombie))
			return &sim.procs[i];
	return NULL;
}

int sb__os_kill(pid_t pid, int sig)
{
	(void)sig;
	sim_point(SIM_AT_CALL);
	return proc_of(pid) || pid == 1 ? 0 : -ESRCH;
}

pid_t sb__os_tid(void)
{
	return sim_tid();
}

int sb__os_statat(int dirfd, const char *path, struct stat *st)
{
	(void)dirfd;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/proc/thread-self/ns/pid") != 0)
		return -ENOENT;
	st->st_ino = 4026531836;
	return 0;
}

ssize_t sb__os_readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	(void)dirfd;
	if (strcmp(path, "/proc/self") == 0)
		return snprintf(buf, size, "%d", sim_pid());
	return snprintf(buf, size, "/usr/bin/simulated");
}

static ssize_t read_stat(int32_t pid, char *buf, size_t size)
{
	const struct sim_proc *p = proc_of(pid);

	if (!p && pid != 1) /* that is whoever made the world */
		return -ENOENT;
	if (!p)
		return snprintf(buf, size, "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0");
	return snprintf(buf, size, "%d (sim) u) %c 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %" PRIu64 " 0 0",
	                pid,
	                p->dead                            ? 'Z'
	                : p->stopped_until_ns > sim.now_ns ? 'T'
	                                                   : 'S',
	                p->start_time);
}

ssize_t sb__os_read_file_at(int dirfd, const char *path, char *buf, size_t size)
{
	int pid;

	(void)dirfd;
	sim_point(SIM_AT_CALL);
	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		return snprintf(buf, size, "5a5a5a5a-0000-4000-8000-00000000b007\n");
	if (strcmp(path, "/proc/self/stat") == 0)
		return read_stat(sim_pid(), buf, size);
	if (sscanf(path, "/proc/%d/stat", &pid) == 1)
		return read_stat(pid, buf, size);
	return -ENOENT;
}

int sb__os_getrandom(void *buf, size_t len)
{
	uint8_t *to = buf;

	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(sim_random() >> 32);
	return 0;
}

int sb__os_cpu_count(void)
{
	return 1;
}

int sb__os_cpu(void)
{
	return -1; /* the same for all: who spins lets others run */
}

int sb__os_cpu_clock(void)
{
	return 0;
}

uint64_t sb__os_cpu_time(int clock)
{
	(void)clock; /* no call computes: whatever takes long waits */
	return 0;
}

void sb__os_yield(void)
{
	sim_yield();
}

uint64_t sb__os_slice_shorten(uint64_t ns)
{
	(void)ns;
	return 0;
}

void sb__os_slice_restore(uint64_t before)
{
	(void)before;
}

void sb__os_sleep(uint64_t ns)
{
	sim_sleep(ns);
}

int sb__os_eventfd(void)
{
	struct file *f = make(SIM_DIRS, "eventfd");

	return f ? open_desc(f) : -EMFILE;
}

void sb__os_eventfd_set(int fd)
{
	struct desc *d = of(fd);

	if (d)
		d->file->size = 8;
	sim_wake_object(files, UINT32_MAX);
}

void sb__os_eventfd_clear(int fd)
{
	struct desc *d = of(fd);

	if (d)
		d->file->size = 0;
}

int sb__os_pidfd_open(pid_t pid)
{
	struct sim_proc *p = proc_of(pid);
	struct file *f;

	sim_point(SIM_AT_CALL);
	if (!p)
		return -ESRCH;
	f = make(SIM_DIRS, "pidfd");
	if (!f)
		return -EMFILE;
	f->watched = p;
	return open_desc(f);
}

static bool readable(int fd)
{
	struct desc *d = of(fd);

	return d && (d->file->watched ? d->file->watched->gone : d->file->size > 0);
}

int sb__os_poll(struct pollfd *fds, unsigned long count, int timeout_ms)
{
	uint64_t until = timeout_ms < 0 ? UINT64_MAX : sim.now_ns + (uint64_t)timeout_ms * 1000000u;
	bool over = false;

	for (;;) {
		int n = 0;

		sim_point(SIM_AT_CALL);
		for (unsigned long i = 0; i < count; i++) {
			fds[i].revents = readable(fds[i].fd) ? POLLIN : 0;
			n += fds[i].revents != 0;
		}
		if (n > 0 || over)
			return n;
		over = !sim_wait_object(files, until);
	}
}

/* ── futexes ── */

int sb__os_futex_waitv(const struct sb__os_wait *waits, unsigned count, uint64_t timeout_ns)
{
	const volatile unsigned int *words[SIM_WAITS_MAX];

	sim_point(SIM_AT_CALL);
	sim_words_late();
	if (count > SIM_WAITS_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		words[i] = waits[i].word;
		if (*words[i] != waits[i].expected)
			return -EAGAIN;
	}
	if (timeout_ns > UINT64_MAX - sim.now_ns)
		timeout_ns = UINT64_MAX - sim.now_ns;
	return sim_wait_words(words, count, sim.now_ns + timeout_ns) ? 0 : -ETIMEDOUT;
}

int sb__os_futex_wait(unsigned int *word, unsigned int expected, uint64_t timeout_ns)
{
	struct sb__os_wait wait = { word, expected };

	return sb__os_futex_waitv(&wait, 1, timeout_ns);
}

int sb__os_futex_wait2(unsigned int *a, unsigned int expect_a, unsigned int *b, unsigned int expect_b,
                       uint64_t timeout_ns)
{
	struct sb__os_wait waits[2] = { { a, expect_a }, { b, expect_b } };

	return sb__os_futex_waitv(waits, 2, timeout_ns);
}

int sb__os_futex_wake(unsigned int *word, int count)
{
	sim_point(SIM_AT_CALL);
	return (int)sim_wake_word(word, (unsigned)count);
}

/* ── clocks ── */

uint64_t sb__now_ns(void)
{
	sim.now_ns += 20;
	return sim.now_ns;
}

static uint64_t in_ms(uint64_t ns)
{
	return sim.bug == SIM_BUG_WALL_CLOCK ? (uint64_t)((int64_t)(ns / 1000000) + sim.wall_offset_ms)
	                                     : ns / 1000000;
}

uint64_t sb__now_ms(void)
{
	return in_ms(sim.now_ns);
}

uint64_t sb__now_coarse_ms(void)
{
	return in_ms(sim.now_ns / COARSE_NS * COARSE_NS);
}

int64_t sb__wall_ms(void)
{
	return (int64_t)(sim.now_ns / 1000000) + sim.wall_offset_ms;
}
