/* SPDX-License-Identifier: Apache-2.0 */
/* Visits to the mailbox of an incarnation that the caller is not attached to. All but entering are fine if it is gone. */
#ifndef SB_SHM_VISIT_H
#define SB_SHM_VISIT_H

#include <stdint.h>

#include "mailbox.h"

/* Attached to one mailbox at a time, the last that was entered: a sweep comes to the same one several times, and attaching takes
 * longer than all else that it does there. */
struct sb__visitor {
	int mailbox_dir, bell_dir;   /* directory fds, not owned */
	struct sb__mailbox *mailbox; /* NULL: none */
	uint64_t incarnation;        /* its */
};

int sb__visitor_enter(struct sb__visitor *visitor,
                      uint64_t incarnation);         /* 0, or what sb__mailbox_attach() returns */
void sb__visitor_leave(struct sb__visitor *visitor); /* also where there is none */
/* Enters and does what the functions below do. */
void sb__visitor_end(struct sb__visitor *visitor, uint64_t incarnation, enum sb__mailbox_state state);
uint64_t sb__visitor_last_access(struct sb__visitor *visitor, uint64_t incarnation);

/* Tells callers and the designated owner, if it lives, that the incarnation is over. mailbox_dir, bell_dir: directory
 * fds. */
void sb__visit_end(int mailbox_dir, int bell_dir, uint64_t incarnation, enum sb__mailbox_state state);
/* When it was used last, as sb__now_ms(); 0: nobody knows. */
uint64_t sb__visit_last_access(int mailbox_dir, uint64_t incarnation);

#endif
