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
	uint32_t owners;      /* records by which it keeps sessions alive */
	uint32_t serving;     /* sessions whose designated owner it is */
	uint64_t arena_bytes; /* size of its arena's file */
	uint64_t arrays, array_bytes,
		waiting; /* blocks in it that hold arrays; those that only others keep */
	uint32_t holds;  /* arrays of others that it keeps */
};
/* One table of holds: the writer's arena, and who keeps arrays in it. */
struct sb__arena_view {
	uint32_t slot, generation;
	uint64_t file_bytes, arrays, array_bytes, waiting;
	uint32_t holds;
	const uint64_t *words; /* SB__HOLD(): the keepers' slot and generation; borrowed during the visit */
};
/* Visits each arena that shares arrays. */
int sb__inspect_arenas(struct sb__inspect *inspect,
                       void (*visit)(void *arg, const struct sb__arena_view *view), void *arg);
/* Is whoever a word of a table of holds names dead? Within a look. */
bool sb__inspect_hold_is_dead(struct sb__inspect *inspect, uint64_t word);

/* By slot; malloc'ed. */
int sb__inspect_processes(struct sb__inspect *inspect, struct sb__process_view **ret, size_t *ret_count);

/* ── sessions ── */

struct sb__mailbox_facts {
	bool present;
	int error;      /* SB_E… where it is there and cannot be read */
	unsigned state; /* enum sb__mailbox_state */
	uint32_t lanes, lanes_claimed, lanes_of_dead;
	uint32_t lanes_torn;      /* moved while they were read: what is said of them may be of two moments */
	uint32_t lanes_strange;   /* in no state that there is */
	uint32_t queued, running; /* calls in flight */
	uint64_t calls, exceptions, refused;
	uint64_t service_ns; /* that calls took in the designated owner, in all */
	uint64_t live_refs, evicted_refs, expired_refs, created_refs, pinned_refs;
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

/* Does a process of that pid own or serve the session? */
bool sb__inspect_owns(struct sb__inspect *inspect, const struct sb__session_view *view, int32_t pid);

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

/* ── over all sessions ── */

/* Calls visit for each owner record of each session. As sb__inspect_sessions(). */
int sb__inspect_owners(struct sb__inspect *inspect,
                       int (*visit)(void *arg, const struct sb__session_view *session,
                                    const struct sb__owner_view *owner),
                       void *arg);

struct sb__call_view {
	struct sb__lane_view lane; /* READY, BUSY, DONE, …: any state but FREE and IDLE */
	struct sb__evidence caller;
	char program[32];   /* of the caller */
	uint64_t waited_ns; /* from publishing to being accepted, or to now */
	uint64_t ran_ns;    /* since it was accepted */
};
/* Calls visit for each call in flight, each read at its own moment. As sb__inspect_sessions(). */
int sb__inspect_calls(struct sb__inspect *inspect,
                      int (*visit)(void *arg, const struct sb__session_view *session,
                                   const struct sb__call_view *call),
                      void *arg);

/* ── the whole bridge ── */

struct sb__overview {
	struct sb__bridge_rec bridge;
	uint32_t alive_processes, dead_processes, unsure_processes;
	uint32_t sessions[SB_SESSION_ENDED + 1]; /* by sb_session_state */
	uint64_t owners, dead_owners;
	uint64_t live_refs, queued, running;
	uint64_t lanes_claimed, claimed_lanes_of_dead, torn_lanes;
	uint32_t files[SB__FILE_KINDS], orphan_files;
	uint32_t readers, readers_max; /* of LMDB, this one included */
	uint32_t readers_of_dead;
	uint32_t unreadable; /* records and mailboxes */
	uint64_t fs_free_bytes;
	uint64_t arena_bytes, arrays, array_bytes; /* of all arenas that share arrays */
	uint32_t holds, holds_of_dead;
};
int sb__inspect_overview(struct sb__inspect *inspect, struct sb__overview *ret);
/* The same, and visits each session as sb__inspect_sessions() does: both from one pass. */
int sb__inspect_overview_sessions(struct sb__inspect *inspect, struct sb__overview *ret,
                                  int (*visit)(void *arg, const struct sb__session_view *view), void *arg);

/* Do records, indexes and mailboxes agree, and does nothing of the dead lie about? Calls problem with a sentence for each finding; how many, 0 =
 * sound, or an error. Looks at everything; what it finds it looks for again, so that what a living bridge was just doing is no finding. */
int sb__inspect_check(struct sb__inspect *inspect, void (*problem)(void *arg, const char *line), void *arg);

#endif
