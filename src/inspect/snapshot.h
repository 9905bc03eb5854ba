/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only looks at a bridge, for tools. Nothing here takes a write transaction, attaches as a process, or
 * changes a shared word. Processes go on while it looks: numbers of one snapshot were read within
 * milliseconds, not at once.
 */
#ifndef SB_INSPECT_SNAPSHOT_H
#define SB_INSPECT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge_dir.h"
#include "bridge_files.h"
#include "mailbox.h"
#include "refrows.h"
#include "store.h"

struct sb__inspect;

/* dir as in sb__bridge_dir_open(). SB_ENOBRIDGE where there is none, and what that and sb__store_open()
 * return. */
int sb__inspect_open(const char *dir, struct sb__inspect **ret);
void sb__inspect_close(struct sb__inspect *inspect);
const char *sb__inspect_path(const struct sb__inspect *inspect);

/* ── processes ── */

struct sb__process_view {
	struct sb__identity identity;
	struct sb__evidence evidence;
	uint32_t owners;  /* records by which it keeps sessions alive */
	uint32_t serving; /* sessions whose designated owner it is */
};
/* By slot; malloc'ed. */
int sb__inspect_processes(struct sb__inspect *inspect, struct sb__process_view **ret, size_t *ret_count);

/* ── sessions ── */

struct sb__mailbox_facts {
	bool present;
	int error;      /* SB_E… where it is there and cannot be read */
	unsigned state; /* enum sb__mailbox_state */
	uint32_t lanes, lanes_claimed, lanes_of_dead;
	uint64_t calls, exceptions, refused, in_flight;
	uint64_t live_refs, evicted_refs, expired_refs, created_refs;
	uint64_t last_access_ms; /* sb__now_ms() */
};

struct sb__session_view {
	struct sb__session_rec rec;
	struct sb__evidence designated;
	uint32_t dead_owners;
	struct sb__mailbox_facts mailbox;
	uint64_t age_ms, idle_ms;
};
/* Calls visit for each session, ordered by the store; non-zero stops. Records that cannot be read end it
 * with an error. */
int sb__inspect_sessions(struct sb__inspect *inspect,
                         int (*visit)(void *arg, const struct sb__session_view *view), void *arg);

struct sb__owner_view {
	struct sb__owner_rec rec;
	struct sb__evidence evidence;
	char program[32];
};

struct sb__session_detail {
	struct sb__session_view session;
	struct sb__owner_view *owners;
	size_t owner_count;
	struct sb__lane_view *lanes; /* claimed ones */
	size_t lane_count;
	struct sb__ref_view *refs;
	size_t ref_count;
	uint32_t refs_torn; /* rows that changed while they were read */
	uint64_t now_ms;
};
/* 1 and *ret (freed with sb__session_detail_free), 0 if there is no such session, or an error. */
int sb__inspect_session(struct sb__inspect *inspect, const char *session_id, struct sb__session_detail *ret);
void sb__session_detail_free(struct sb__session_detail *detail);

/* ── the whole bridge ── */

struct sb__overview {
	struct sb__bridge_rec bridge;
	uint32_t alive_processes, dead_processes, unsure_processes;
	uint32_t sessions[SB_SESSION_ENDED + 1]; /* by sb_session_state */
	uint64_t owners, dead_owners;
	uint64_t live_refs, in_flight;
	uint64_t lanes_claimed, claimed_lanes_of_dead;
	uint32_t files[SB__FILE_KINDS], orphan_files;
	uint32_t readers, readers_max; /* of LMDB, this one included */
	uint32_t unreadable;           /* records and mailboxes */
	uint64_t fs_free_bytes;
};
int sb__inspect_overview(struct sb__inspect *inspect, struct sb__overview *ret);

/* Do records, indexes and mailboxes agree? Calls problem with a sentence for each that do not; how many, 0 =
 * sound, or an error. Looks at everything. */
int sb__inspect_check(struct sb__inspect *inspect, void (*problem)(void *arg, const char *line), void *arg);

#endif
