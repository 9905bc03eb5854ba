/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May LMDB open what lies in the store's folder? It opens by name and follows links, so they are looked at before, without opening
 * them: closing lock.mdb would drop LMDB's locks.
 *
 * Locks: none. Crash: changes nothing.
 */
#include <errno.h>
#include <fcntl.h>

#include "fail.h"
#include "os_linux.h"
#include "store_impl.h"

static int refuse(const char *name, int errnum)
{
	if (errnum != EPERM && errnum != ELOOP && errnum != ENOTDIR)
		return sb__fail_errno(errnum == ENOMEM ? SB_ENOMEM : SB_ESYSTEM, errnum,
		                      "the session store's %s cannot be looked at", name);
	return sb__fail_errno(
		SB_EMODE, errnum,
		"the session store's %s is a link, of another kind, or belongs or is open to others; "
		"remove the bridge's directory, or make it yours alone",
		name);
}

/* The folder itself: ours, and closed to everybody else. */
static int check_folder(int dir)
{
	struct stat st;
	int rc = sb__os_fstat(dir, &st);

	if (rc == 0 && (st.st_uid != sb__os_euid() || (st.st_mode & 077) != 0))
		rc = -EPERM;
	return rc;
}

int sb__env_check_files(int root, const char *folder)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };
	int dir = sb__os_openat(root, folder, O_RDONLY | O_DIRECTORY, 0), rc;

	if (dir == -ENOENT)
		return 0; /* the one who opens says so */
	if (dir < 0)
		return refuse("folder", -dir);
	rc = check_folder(dir);
	if (rc < 0)
		rc = refuse("folder", -rc);
	for (int i = 0; rc == 0 && i < 2; i++) {
		int err = sb__os_own_at(dir, names[i]);

		if (err < 0 && err != -ENOENT)
			rc = refuse(names[i], -err);
	}
	(void)sb__os_close(dir);
	return rc;
}
