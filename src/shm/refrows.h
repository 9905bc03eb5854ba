/* SPDX-License-Identifier: Apache-2.0 */
/* Ref rows: what inspect may know of each ref of a session. Written by the owner, read by anyone. */
#ifndef SB_SHM_REFROWS_H
#define SB_SHM_REFROWS_H

#include "layout.h"

struct sb__refrows;

/* Owner: makes "<incarnation>.refs" lazily at the first row; grows in blocks. mailbox_dir is duplicated. */
int sb__refrows_create(int mailbox_dir, uint64_t incarnation, uint32_t max_refs, struct sb__refrows **ret);
/* May there be a file? Asked when no call runs on the session any more, it says for good. */
bool sb__refrows_made(struct sb__refrows *rows);
void sb__refrows_destroy(struct sb__refrows *rows); /* unmaps; the file goes with the mailbox's */
/* Signatures as in struct sb__row_writer (python/engine.h). A row that cannot be had is dropped silently. */
void sb__refrows_set(void *rows, uint32_t slot, uint32_t generation, const char *type_name,
                     uint32_t module_len, int32_t creator_pid);
void sb__refrows_touch(void *rows, uint32_t slot, uint64_t now_ms);
void sb__refrows_pins(void *rows, uint32_t slot, uint32_t pins);
void sb__refrows_clear(void *rows, uint32_t slot);

struct sb__ref_view {
	uint32_t slot, generation;
	int32_t creator_pid;
	uint64_t created_ms, used_ms;
	char type_name[96];
	uint32_t module_len; /* ≤ strlen(type_name) */
	uint32_t pins;
};
/* Reader: calls visit for each live row; rows that change while read are skipped and counted in *ret_torn.
 * 0, or SB_EPROTOCOL; no file means no rows. */
int sb__refrows_visit(int mailbox_dir, uint64_t incarnation,
                      void (*visit)(void *arg, const struct sb__ref_view *view), void *arg,
                      uint32_t *ret_torn);

/* Reader: one slot's row. 1 and *ret; 0: there is none, or it keeps changing; or an error as above. */
int sb__refrows_read(int mailbox_dir, uint64_t incarnation, uint32_t slot, struct sb__ref_view *ret);

#endif
