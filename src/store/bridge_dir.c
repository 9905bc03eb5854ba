/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds, checks, makes and opens a bridge's directory. Knows no LMDB and no shared-memory layout.
 *
 * Security: one user is one trust domain. The directory is opened once, without following a link in its last
 * component, and judged by what was opened (owner, mode); from there everything goes by *at() calls.
 *
 * Locks: none; every step is idempotent, so processes may make the same directory at the same time.
 *
 * Crash story: a kill leaves some of the folders, or a life file that is too short. The next opener that may
 * create completes them; one that may not sees no bridge. A kill while an old boot's folder is removed leaves
 * part of it, which the next opener or the reaper removes.
 */
#include "bridge_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "identity.h"
#include "os_linux.h"

#define BOOT_PREFIX         "boot-"
#define OLD_BOOTS_AT_OPEN   4u    /* folders of earlier boots that one opener tries to remove */
#define OLD_UNLINKS_AT_OPEN 1024u /* and what it spends on them: a few milliseconds at most */
#define REMOVE_DEPTH        3u    /* boot-…/lmdb/file; one level to spare for temporary folders */

/* File systems by what another machine can do to them while we use them. */
enum sharing {
	SHARING_NONE,     /* one kernel: locks, mappings and boot ids mean what they say */
	SHARING_POSSIBLE, /* a virtual machine's other side may run its own boot in the same directory */
	SHARING_NETWORK   /* mappings and locks are not coherent: refused */
};

static enum sharing fs_sharing(unsigned long magic)
{
	switch (magic & 0xfffffffful) {
	case 0x6969ul:     /* NFS */
	case 0x517bul:     /* SMB */
	case 0xff534d42ul: /* CIFS */
	case 0xfe534d42ul: /* SMB2 */
	case 0x00c36400ul: /* Ceph */
	case 0x5346414ful: /* AFS */
	case 0x47504653ul: /* GPFS */
	case 0x0bd00bd0ul: /* Lustre */ return SHARING_NETWORK;
	case 0x01021997ul: /* 9P */
	case 0x65735546ul: /* FUSE, virtiofs */
	case 0x786f4256ul: /* VirtualBox shared folder */ return SHARING_POSSIBLE;
	default: return SHARING_NONE;
	}
}

static bool memory_backed(unsigned long magic)
{
	return magic == 0x01021994ul /* tmpfs */ || magic == 0x858458f6ul /* ramfs */;
}

static int too_long(const char *dir)
{
	return sb__fail(SB_EDIR, "the bridge directory \"%.64s…\" has too long a path; use a shorter one",
	                dir);
}

/* Absolute, without trailing slashes: with one, a link in the last component would be followed. */
static int path_set(const char *dir, char *path, size_t size)
{
	size_t used = 0, len = strlen(dir);

	if (dir[0] != '/') {
		int r = sb__os_getcwd(path, size);

		if (r < 0)
			return sb__fail_errno(SB_EDIR, -r,
			                      "the relative bridge directory %s cannot be resolved: "
			                      "name it by its absolute path",
			                      dir);
		used = strlen(path);
		if (used + 1 >= size)
			return too_long(dir);
		if (used > 1)
			path[used++] = '/';
	}
	if (used + len >= size)
		return too_long(dir);
	memcpy(path + used, dir, len + 1);
	for (len += used; len > 1 && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	return 0;
}

static int path_resolve(const char *dir, char *path, size_t size)
{
	const char *value;
	int n;

	if (dir != NULL && dir[0] == '\0')
		return sb__fail(
			SB_EDIR,
			"the bridge directory is an empty string; name a directory, or none for the default");
	if (dir != NULL)
		return path_set(dir, path, size);
	value = secure_getenv("SNAKEBRIDGE_DIR");
	if (value != NULL && value[0] != '\0')
		return path_set(value, path, size);
	value = secure_getenv("XDG_RUNTIME_DIR");
	if (value == NULL || value[0] != '/')
		return path_set("/run/snakebridge", path, size);
	n = snprintf(path, size, "%s/snakebridge", value);
	return n < 0 || (size_t)n >= size ? too_long(value) : 0;
}

static int fail_open(const char *path, const char *name, int errnum)
{
	const char *slash = name[0] == '\0' ? "" : "/";

	switch (errnum) {
	case ENOENT:
		return sb__fail(SB_ENOBRIDGE,
		                "there is no bridge in %s: start a program that uses this directory first, "
		                "or name the right one",
		                path);
	case ENOTDIR:
	case ELOOP:
		return sb__fail(SB_EDIR,
		                "%s%s%s is a symbolic link or not a directory; name the directory itself",
		                path, slash, name);
	case EACCES:
	case EPERM:
	case EROFS:
		return sb__fail_errno(SB_EDIR, errnum,
		                      "%s%s%s cannot be used by this user; make it yours and writable, "
		                      "or name another with SNAKEBRIDGE_DIR",
		                      path, slash, name);
	case ENOSPC:
	case EDQUOT:
		return sb__fail_errno(SB_ENOSPACE, errnum,
		                      "%s%s%s cannot be made: free space there, or use another file "
		                      "system",
		                      path, slash, name);
	default: return sb__fail_errno(SB_ESYSTEM, errnum, "%s%s%s cannot be opened", path, slash, name);
	}
}

static int fail_owner(const char *path, const char *name, uid_t uid)
{
	return sb__fail(
		SB_EOWNER,
		"%s%s%s belongs to user %u, not to this process's user %u; use a directory of your own", path,
		name[0] == '\0' ? "" : "/", name, (unsigned)uid, (unsigned)sb__os_euid());
}

/* It could not be opened: because it is another user's? Only the message hangs on this second look. */
static int fail_open_whose(int parent, const char *path, const char *name, int errnum)
{
	struct stat st;

	if ((errnum == EACCES || errnum == EPERM) &&
	    sb__os_statat(parent, name[0] == '\0' ? path : name, &st) == 0 && st.st_uid != sb__os_euid())
		return fail_owner(path, name, st.st_uid);
	return fail_open(path, name, errnum);
}

/* Judges what was opened: ours, and closed to everybody else. */
static int check_private(int fd, const char *path, const char *name, struct stat *st)
{
	const char *slash = name[0] == '\0' ? "" : "/";
	int r = sb__os_fstat(fd, st);

	if (r < 0)
		return sb__fail_errno(SB_ESYSTEM, -r, "%s%s%s cannot be examined", path, slash, name);
	if (st->st_uid != sb__os_euid())
		return sb__fail(
			SB_EOWNER,
			"%s%s%s belongs to user %u, not to this process's user %u; use a directory of "
			"your own",
			path, slash, name, (unsigned)st->st_uid, (unsigned)sb__os_euid());
	if ((st->st_mode & 077) != 0)
		return sb__fail(SB_EMODE,
		                "%s%s%s has mode %04o, open to group or others; name a directory for the "
		                "bridge alone, "
		                "or chmod 0700 this one",
		                path, slash, name, (unsigned)(st->st_mode & 07777));
	return 0;
}

/* Opens a directory (name "" is path itself), made first if need be. Its descriptor, or an error. */
static int open_checked(int parent, const char *path, const char *name, bool create, struct stat *st)
{
	bool top = name[0] == '\0';
	int fd, r;

	fd = top ? sb__os_open_dir(path) : sb__os_openat(parent, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT && create) { /* seldom: it is there for all but the first */
		r = sb__os_mkdirat(parent, top ? path : name, 0700);
		if (r == -ENOENT)
			return sb__fail(SB_EDIR,
			                "%s cannot be made because its parent does not exist; create the "
			                "parent first, or name another directory with SNAKEBRIDGE_DIR",
			                path);
		if (r < 0 && r != -EEXIST)
			return fail_open(path, name, -r);
		fd = top ? sb__os_open_dir(path) : sb__os_openat(parent, name, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return fail_open_whose(parent, path, name, -fd);
	r = check_private(fd, path, name, st);
	if (r == 0 && create) {
		int denied = sb__os_writable_dir(fd);

		r = denied < 0 ? fail_open(path, name, -denied) : 0;
	}
	if (r < 0) {
		sb__os_close(fd);
		return r;
	}
	return fd;
}

static int check_fs(int root, const char *path)
{
	unsigned long magic = 0;
	int r = sb__os_fs_type(root, &magic);

	if (r < 0)
		return sb__fail_errno(SB_ESYSTEM, -r, "the file system of %s cannot be examined", path);
	if (fs_sharing(magic) == SHARING_NETWORK)
		return sb__fail(
			SB_EDIR,
			"%s lies on a network file system, where shared memory and locks do not work between "
			"machines; use a local directory, best on tmpfs",
			path);
	if (!memory_backed(magic))
		sb__log(SB_LOG_INFO, "bridge directory %s is not on tmpfs: its store is written to disk",
		        path);
	return 0;
}

/* Growing it is idempotent, so a life file that a killed process left too short needs no tidying. */
static int open_life(int boot, const char *path, bool create)
{
	struct stat st;
	int fd, r;

	fd = sb__os_open_own(boot, "life", create ? O_RDWR | O_CREAT : O_RDONLY, 0600);
	if (fd < 0)
		return fail_open(path, "life", -fd);
	r = sb__os_fstat(fd, &st);
	if (r == 0 && !S_ISREG(st.st_mode)) {
		sb__os_close(fd);
		return sb__fail(SB_EDIR, "the life file in %s is no regular file; remove the directory",
		                path);
	}
	if (r == 0 && create && st.st_size < SB__SLOTS_MAX)
		r = sb__os_fallocate(fd, 0, SB__SLOTS_MAX);
	if (r < 0) {
		sb__os_close(fd);
		return fail_open(path, "life", -r);
	}
	return fd;
}

static int boot_name(char *name)
{
	uint8_t id[16];
	int r = sb__identity_place(id, NULL);

	if (r < 0)
		return r;
	snprintf(name, SB__BOOT_NAME_SIZE, BOOT_PREFIX "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
	return 0;
}

static int open_inside(struct sb__bridge_dir *dir, bool create)
{
	char name[SB__BOOT_NAME_SIZE];
	const struct {
		const char *name;
		int *fd;
	} folders[] = { { "mailbox", &dir->mailbox }, { "bell", &dir->bell }, { "arena", &dir->arena } };
	struct stat st;
	int r;

	r = boot_name(name);
	if (r < 0)
		return r;
	dir->boot = open_checked(dir->root, dir->path, name, create, &st);
	if (dir->boot < 0)
		return dir->boot;
	dir->dev = st.st_dev;
	dir->ino = st.st_ino;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		*folders[i].fd = open_checked(dir->boot, dir->path, folders[i].name, create, &st);
		if (*folders[i].fd < 0)
			return *folders[i].fd;
	}
	dir->life_fd = open_life(dir->boot, dir->path, create);
	return dir->life_fd < 0 ? dir->life_fd : 0;
}

static void remove_old_boots_at_open(const struct sb__bridge_dir *dir)
{
	char names[OLD_BOOTS_AT_OPEN][SB__BOOT_NAME_SIZE];
	unsigned budget = OLD_UNLINKS_AT_OPEN;
	int n = sb__bridge_dir_old_boots(dir, names, OLD_BOOTS_AT_OPEN);

	for (int i = 0; i < n; i++) {
		int r = sb__bridge_dir_remove_boot(dir, names[i], &budget);

		sb__log(r < 0 ? SB_LOG_WARN : SB_LOG_INFO, "%s/%s is of an earlier boot: %s", dir->path,
		        names[i],
		        r == 1   ? "removed"
		        : r == 0 ? "removed in part"
		                 : "cannot be removed");
	}
}

/* Has the root no other folder than this boot's? Most file systems count them in its links; others are listed. */
static bool is_only_boot(const struct sb__bridge_dir *dir)
{
	struct stat st;

	return sb__os_fstat(dir->root, &st) == 0 && st.st_nlink == 3;
}

static int keep_path(const char *dir, const char **ret)
{
	char path[4096];
	int r = path_resolve(dir, path, sizeof(path));

	if (r < 0)
		return r;
	*ret = strdup(path);
	return *ret ? 0 : sb__fail_memory("the path of a bridge");
}

int sb__bridge_dir_open(const char *dir, bool create, struct sb__bridge_dir *ret)
{
	struct sb__bridge_dir d = {
		.root = -1, .boot = -1, .mailbox = -1, .bell = -1, .arena = -1, .life_fd = -1
	};
	struct stat st;
	int r;

	if (sb__os_secure())
		return sb__fail(SB_EDIR, "this process runs with raised privileges (set-user-id or "
		                         "capabilities), where a bridge "
		                         "is refused; run it as the plain user");
	r = keep_path(dir, &d.path);
	if (r == 0) {
		d.root = open_checked(AT_FDCWD, d.path, "", create, &st);
		r = d.root < 0 ? d.root : check_fs(d.root, d.path);
	}
	if (r == 0)
		r = open_inside(&d, create);
	if (r < 0) {
		sb__bridge_dir_close(&d);
		return r;
	}
	if (create && !is_only_boot(&d))
		remove_old_boots_at_open(&d);
	*ret = d;
	return 0;
}

void sb__bridge_dir_close(struct sb__bridge_dir *dir)
{
	int *fds[] = { &dir->life_fd, &dir->arena, &dir->bell, &dir->mailbox, &dir->boot, &dir->root };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			sb__os_close(*fds[i]);
		*fds[i] = -1;
	}
	free((char *)dir->path);
	dir->path = NULL;
}

/* ── what other boots left ── */

static bool is_boot_name(const char *name)
{
	size_t prefix = sizeof(BOOT_PREFIX) - 1;

	return strlen(name) == SB__BOOT_NAME_SIZE - 1 && strncmp(name, BOOT_PREFIX, prefix) == 0 &&
	       strspn(name + prefix, "0123456789abcdef") == SB__BOOT_NAME_SIZE - 1 - prefix;
}

struct old_boots {
	int root;
	char current[SB__BOOT_NAME_SIZE];
	char (*names)[SB__BOOT_NAME_SIZE];
	unsigned count, max;
};

static int old_boot_visit(void *arg, const char *name)
{
	struct old_boots *old = arg;
	struct stat st;
	int fd, r;

	if (!is_boot_name(name) || strcmp(name, old->current) == 0)
		return 0;
	fd = sb__os_openat(old->root, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	r = sb__os_fstat(fd, &st);
	sb__os_close(fd);
	if (r < 0 || st.st_uid != sb__os_euid())
		return 0;
	memcpy(old->names[old->count++], name, SB__BOOT_NAME_SIZE);
	return old->count == old->max;
}

int sb__bridge_dir_old_boots(const struct sb__bridge_dir *dir, char (*names)[SB__BOOT_NAME_SIZE],
                             unsigned max)
{
	struct old_boots old = { .root = dir->root, .names = names, .max = max };
	unsigned long magic;
	int r;

	if (max == 0 || sb__os_fs_type(dir->root, &magic) < 0 || fs_sharing(magic) != SHARING_NONE)
		return 0;
	r = boot_name(old.current);
	if (r < 0)
		return r;
	r = sb__os_dir_each(dir->root, old_boot_visit, &old);
	if (r < 0)
		return sb__fail_errno(SB_ESYSTEM, -r, "%s cannot be listed", dir->path);
	return (int)old.count;
}

struct removal {
	int fd;
	unsigned depth;
	unsigned *budget;
};

/* Stops with 1 when the budget is spent; what cannot be removed is left for the final rmdir to notice. */
static int remove_visit(void *arg, const char *name)
{
	struct removal *outer = arg;
	struct removal inner = { .depth = outer->depth + 1, .budget = outer->budget };
	int r;

	if (*outer->budget == 0)
		return 1;
	--*outer->budget;
	r = sb__os_unlinkat(outer->fd, name, 0);
	if (r != -EISDIR && r != -EPERM)
		return 0;
	if (inner.depth > REMOVE_DEPTH)
		return 0;
	inner.fd = sb__os_openat(outer->fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (inner.fd < 0)
		return 0;
	r = sb__os_dir_each(inner.fd, remove_visit, &inner);
	sb__os_close(inner.fd);
	if (r == 0)
		sb__os_unlinkat(outer->fd, name, AT_REMOVEDIR);
	return r > 0;
}

int sb__bridge_dir_remove_boot(const struct sb__bridge_dir *dir, const char *name, unsigned *budget)
{
	struct removal removal = { .budget = budget };
	char current[SB__BOOT_NAME_SIZE];
	int r;

	r = boot_name(current);
	if (r < 0)
		return r;
	if (!is_boot_name(name) || strcmp(name, current) == 0)
		return sb__fail(SB_EINVAL, "%s/%s is no other boot's folder; it stays", dir->path, name);
	removal.fd = sb__os_openat(dir->root, name, O_RDONLY | O_DIRECTORY, 0);
	if (removal.fd == -ENOENT)
		return 1;
	if (removal.fd < 0)
		return fail_open(dir->path, name, -removal.fd);
	r = sb__os_dir_each(removal.fd, remove_visit, &removal);
	sb__os_close(removal.fd);
	if (r > 0)
		return 0;
	if (r == 0)
		r = sb__os_unlinkat(dir->root, name, AT_REMOVEDIR);
	if (r < 0 && r != -ENOENT)
		return sb__fail_errno(SB_ESYSTEM, -r, "%s/%s cannot be removed; remove it by hand", dir->path,
		                      name);
	return 1;
}

bool sb__bridge_dir_vanished(const struct sb__bridge_dir *dir)
{
	struct stat st;

	return sb__os_fstat(dir->life_fd, &st) == 0 && st.st_nlink == 0;
}
