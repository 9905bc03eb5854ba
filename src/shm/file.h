/* SPDX-License-Identifier: Apache-2.0 */
/* Making and mapping the files that processes share. Internal to this folder. */
#ifndef SB_SHM_FILE_H
#define SB_SHM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SB__FILE_NAME_MAX 80

/* A file being made: whole, mapped writable, not yet under its name. */
struct sb__new_file {
	int dir, fd;
	char name[SB__FILE_NAME_MAX];
	void *map;
	size_t map_size;
};

/*
 * A zeroed file of size bytes (whole pages, real blocks) named ".new.<slot>.<generation>.<random>". what:
 * for messages, "the mailbox". SB_ENOSPACE, SB_ENOMEM, SB_ESYSTEM; leaves nothing behind then.
 */
int sb__file_make(int dir, uint32_t slot, uint32_t generation, size_t size, const char *what,
                  struct sb__new_file *ret);
/* The same, mapped for map_size bytes: what lies behind size must not be touched before the file was extended. */
int sb__file_make_to_grow(int dir, uint32_t slot, uint32_t generation, size_t size, size_t map_size,
                          const char *what, struct sb__new_file *ret);
/* The name of a file that a process is making, or keeps for the next one that it makes. */
void sb__file_temporary(char name[SB__FILE_NAME_MAX], uint32_t slot, uint32_t generation, uint64_t number);
/* Renames it; the map is now the caller's. On failure everything is undone. fd -1: it is closed already. */
int sb__file_publish(struct sb__new_file *file, const char *name, const char *what);

/* Maps len bytes at offset of an open file that must be that long. SB_EPROTOCOL if it is shorter. */
int sb__file_map(int fd, uint64_t offset, size_t len, bool writable, const char *what, void **ret);
/* Is an open file that long? SB_EPROTOCOL if it is shorter. */
int sb__file_check(int fd, uint64_t size, const char *what);
/* Real blocks up to size. SB_ENOSPACE, SB_ESYSTEM. */
int sb__file_extend(int fd, uint64_t offset, uint64_t len, const char *what);
/* Code and message for a failed system call on what: SB_ENOSPACE, SB_ENOMEM or SB_ESYSTEM. err is -errno. */
int sb__file_fail(int err, const char *verb, const char *what);

#endif
