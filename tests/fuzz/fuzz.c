/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static char path[64];
static int dir_fd = -1;
static pid_t maker;

static void remove_dir(void)
{
	DIR *dir = maker == getpid() ? opendir(path) : NULL;
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' || strncmp(entry->d_name, ".new", 4) == 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir) {
		closedir(dir);
		rmdir(path);
	}
}

int fuzz_dir(void)
{
	if (dir_fd >= 0)
		return dir_fd;
	snprintf(path, sizeof(path), "%s",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm/sb-fuzz-XXXXXX" : "/tmp/sb-fuzz-XXXXXX");
	if (!mkdtemp(path))
		abort();
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	maker = getpid();
	if (dir_fd < 0 || atexit(remove_dir) != 0)
		abort();
	return dir_fd;
}

void fuzz_file_at(int dir, const char *name, size_t size, size_t offset, const void *bytes, size_t len)
{
	int fd;

	(void)unlinkat(dir, name, 0);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
	    pwrite(fd, bytes, len, (off_t)offset) != (ssize_t)len)
		abort();
	close(fd);
}

void fuzz_file(int dir, const char *name, const void *bytes, size_t len)
{
	fuzz_file_at(dir, name, len, 0, bytes, len);
}
