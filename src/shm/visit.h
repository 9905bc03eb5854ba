/* SPDX-License-Identifier: Apache-2.0 */
/* Short visits to the mailbox of an incarnation that the caller is not attached to. All are fine if it is gone. */
#ifndef SB_SHM_VISIT_H
#define SB_SHM_VISIT_H

#include <stdint.h>

#include "mailbox.h"

/* Tells callers and the designated owner, if it lives, that the incarnation is over. mailbox_dir, bell_dir: directory
 * fds. */
void sb__visit_end(int mailbox_dir, int bell_dir, uint64_t incarnation, enum sb__mailbox_state state);
/* When it was used last, as sb__now_ms(); 0: nobody knows. */
uint64_t sb__visit_last_access(int mailbox_dir, uint64_t incarnation);

#endif
