/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge's directory: found, checked, made, opened.
 *
 *   <dir>/boot-<first 8 hex digits of the boot id>/   everything of one boot
 *       lmdb/      the session store (store.h makes it)
 *       life       one byte per process slot, locked while the process lives (identity.h)
 *       mailbox/   <incarnation, 16 hex>, <incarnation>.refs
 *       bell/      <slot>.<generation>
 *       arena/     <slot>.<generation>
 *   Files in the last three are made as ".new.<slot>.<generation>.<random>", then renamed.
 */
#ifndef SB_STORE_BRIDGE_DIR_H
#define SB_STORE_BRIDGE_DIR_H

#include <stdbool.h>
#include <stdint.h>

struct sb__bridge_dir {
	int root; /* <dir> */
	int boot; /* this boot's folder: what sb__store_open() and sb__life_hold() take */
	int mailbox, bell, arena;
	int life_fd;       /* holds no lock: for asking (sb__liveness_check) */
	const char *path;  /* malloc'ed: of root, absolute, without trailing slash */
	uint64_t dev, ino; /* of boot: two handles with the same pair are the same bridge */
};

/*
 * Opens the directory of a bridge. dir NULL: $SNAKEBRIDGE_DIR, else $XDG_RUNTIME_DIR/snakebridge, else
 * /run/snakebridge. create: makes what is missing (the parent must exist) and removes what earlier boots
 * left, with bounded effort; else only looks, and never writes.
 *
 * 0, SB_EDIR (no parent, symbolic link, not a directory, unwritable, on a network file system, or the
 * process runs with raised privileges), SB_EOWNER, SB_EMODE, SB_ENOBRIDGE (not create, and nothing there),
 * SB_ENOSPACE, SB_ENOMEM, SB_ESYSTEM. Each message names the path and says what to do. On failure *ret is untouched.
 */
int sb__bridge_dir_open(const char *dir, bool create, struct sb__bridge_dir *ret);
void sb__bridge_dir_close(struct sb__bridge_dir *dir); /* any process; closes descriptors, frees the path */

/* Somebody removed the bridge under this process: its life file is unlinked. The folders may linger, where a file
 * was made in them during the removal. */
bool sb__bridge_dir_vanished(const struct sb__bridge_dir *dir);

#define SB__BOOT_NAME_SIZE 14 /* "boot-" + 8 hex digits + NUL */
/* Names of folders that other boots left and this user owns, at most max; how many, or an error. None on file
 * systems that another running machine may share. */
int sb__bridge_dir_old_boots(const struct sb__bridge_dir *dir, char (*names)[SB__BOOT_NAME_SIZE],
                             unsigned max);
/* Removes such a folder, spending at most *budget unlinks (counted down): 1 gone, 0 budget spent first, or an
 * error. A name that is not of another boot is refused (SB_EINVAL). */
int sb__bridge_dir_remove_boot(const struct sb__bridge_dir *dir, const char *name, unsigned *budget);

#endif
