/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that processes share: made whole under a temporary name, then renamed, so that nobody ever sees
 * half of one. Knows nothing of what is in them.
 *
 * Locks: none. Crash: a kill before the rename leaves ".new.<slot>.<generation>.…", which the reaper
 * removes once that process is dead; after it, a whole file.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "fail.h"
#include "ids.h"
#include "os_linux.h"
#include "point.h"

int sb__file_fail(int err, const char *verb, const char *what)
{
	int code = SB_ESYSTEM;

	if (err == -ELOOP || err == -EPERM) /* sb__os_open_own() */
		return sb__fail_errno(
			SB_EMODE, -err,
			"%s cannot be %s: it is a link, no regular file, has another name, or belongs "
			"or is open to others; remove it",
			what, verb);
	if (err == -ENOSPC || err == -EDQUOT)
		code = SB_ENOSPACE;
	else if (err == -ENOMEM)
		code = SB_ENOMEM;
	return sb__fail_errno(code, -err, "%s cannot be %s", what, verb);
}

int sb__file_extend(int fd, uint64_t offset, uint64_t len, const char *what)
{
	int err = sb__os_fallocate(fd, (off_t)offset, (off_t)len);

	if (err == -EFBIG) /* RLIMIT_FSIZE, or beyond what the file system can hold */
		return sb__fail_errno(SB_ENOSPACE, EFBIG, "%s cannot grow to %" PRIu64 " bytes", what,
		                      offset + len);
	return err < 0 ? sb__file_fail(err, "given space", what) : 0;
}

static void discard(struct sb__new_file *file)
{
	if (file->map)
		(void)sb__os_unmap(file->map, file->map_size);
	if (file->fd >= 0)
		(void)sb__os_close(file->fd);
	(void)sb__os_unlinkat(file->dir, file->name, 0);
	file->map = NULL;
	file->fd = -1;
}

void sb__file_temporary(char name[SB__FILE_NAME_MAX], uint32_t slot, uint32_t generation, uint64_t number)
{
	snprintf(name, SB__FILE_NAME_MAX, ".new.%" PRIu32 ".%" PRIu32 ".%016" PRIx64, slot, generation,
	         number);
}

int sb__file_make(int dir, uint32_t slot, uint32_t generation, size_t size, const char *what,
                  struct sb__new_file *ret)
{
	return sb__file_make_to_grow(dir, slot, generation, size, size, what, ret);
}

int sb__file_make_to_grow(int dir, uint32_t slot, uint32_t generation, size_t size, size_t map_size,
                          const char *what, struct sb__new_file *ret)
{
	struct sb__new_file file = { .dir = dir, .map_size = map_size };
	uint64_t number;
	int err = sb__random(&number, sizeof(number));

	if (err)
		return err;
	sb__file_temporary(file.name, slot, generation, number);
	file.fd = sb__os_open_own(dir, file.name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (file.fd < 0)
		return sb__file_fail(file.fd, "created", what);
	SB_POINT("file.created");
	err = sb__file_extend(file.fd, 0, size, what);
	SB_POINT("file.extended");
	if (!err) {
		err = sb__os_map(file.fd, 0, map_size, true, &file.map);
		err = err < 0 ? sb__file_fail(err, "mapped", what) : 0;
	}
	if (err) {
		discard(&file);
		return err;
	}
	*ret = file;
	return 0;
}

int sb__file_publish(struct sb__new_file *file, const char *name, const char *what)
{
	int err = sb__os_renameat(file->dir, file->name, file->dir, name);

	if (err < 0) {
		discard(file);
		return sb__file_fail(err, "published", what);
	}
	SB_POINT("file.renamed");
	if (file->fd >= 0)
		(void)sb__os_close(file->fd);
	file->fd = -1;
	return 0;
}

int sb__file_check(int fd, uint64_t size, const char *what)
{
	struct stat st;
	int err = sb__os_fstat(fd, &st);

	if (err < 0)
		return sb__file_fail(err, "examined", what);
	/* A touch beyond the end would raise SIGBUS, and files of ours only grow. */
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size < size)
		return sb__fail(SB_EPROTOCOL, "%s is shorter than it says: %lld bytes, needed are %" PRIu64,
		                what, (long long)st.st_size, size);
	return 0;
}

int sb__file_map(int fd, uint64_t offset, size_t len, bool writable, const char *what, void **ret)
{
	int err = sb__file_check(fd, offset + len, what);

	if (err)
		return err;
	err = sb__os_map(fd, (off_t)offset, len, writable, ret);
	return err < 0 ? sb__file_fail(err, "mapped", what) : 0;
}
