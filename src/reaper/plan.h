/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to tidy: a pure function from a snapshot to verdicts. No I/O, no clock, no store: what it decides can
 * be tested by tables. collect.h makes snapshots, sweep.h executes verdicts.
 */
#ifndef SB_REAPER_PLAN_H
#define SB_REAPER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge_files.h"
#include "identity.h"
#include "store.h"

/* X(constant, name in JSON and text, what it does) */
#define SB__VERDICT_MAP(X)                                                                                   \
	X(SB__VERDICT_LANES_RECLAIMED, "lanes-reclaimed", "takes back the lanes of a dead caller")           \
	X(SB__VERDICT_HOLDS_DROPPED, "holds-dropped", "lets go of arrays that a dead process kept")          \
	X(SB__VERDICT_OWNER_REMOVED, "owner-removed", "removes an owner record of a dead process")           \
	X(SB__VERDICT_SESSION_RELEASED, "session-released", "ends a session whose last owner died")          \
	X(SB__VERDICT_SESSION_ORPHANED, "session-orphaned", "marks a session whose designated owner died")   \
	X(SB__VERDICT_SESSION_EXPIRED, "session-expired", "ends a session idle past its TTL")                \
	X(SB__VERDICT_FILE_REMOVED, "file-removed", "removes a shared-memory file that nobody owns")         \
	X(SB__VERDICT_PROCESS_DEAD, "process-dead", "removes the record of a dead process")                  \
	X(SB__VERDICT_READERS_CLEARED, "lmdb-readers-cleared", "clears LMDB reader slots of dead processes") \
	X(SB__VERDICT_BOOT_REMOVED, "boot-removed", "removes what an earlier boot left")                     \
	X(SB__VERDICT_RECORD_UNREADABLE, "record-unreadable", "reports a damaged record; changes nothing")

enum sb__verdict_kind {
#define SB__VERDICT_ENUM(constant, name, what) constant,
	SB__VERDICT_MAP(SB__VERDICT_ENUM)
#undef SB__VERDICT_ENUM
		SB__VERDICT_KINDS
};
const char *sb__verdict_kind_name(enum sb__verdict_kind kind);

/* ── snapshot: what collect.c saw, part of it at different moments ── */

struct sb__seen_process {
	struct sb__identity identity;
	struct sb__evidence evidence;
	bool gathered; /* dead, and all that hangs on it is in the snapshot; else the next sweep's */
};

/* A session that hangs on a dead process, or is due. */
struct sb__seen_session {
	uint64_t uid, incarnation;
	uint32_t state; /* sb_session_state */
	uint32_t owner_count;
	bool persistent;
	bool due;      /* the store says that its TTL may be over */
	bool unjoined; /* old enough that somebody should have joined it */
	bool unread;   /* its lanes could not be looked at this time: the dead may have some */
	struct sb__identity designated;
	uint64_t ttl_ms;
	bool has_mailbox;
	uint64_t last_access_ms; /* of the mailbox; 0 if it has none */
	char session_id[SB_SESSION_ID_MAX + 1];
};

struct sb__seen_owner {
	struct sb__owner_rec rec; /* of a dead process, or of an earlier holder of its slot */
	const char *how;          /* evidence of that death */
};

struct sb__seen_lanes {
	uint64_t uid; /* of a seen session */
	uint32_t slot, generation;
	uint32_t lanes;
};

struct sb__seen_trouble {
	int code; /* SB_E… */
	char what[192];
};

struct sb__reaper_snapshot {
	uint64_t now_ms;
	struct sb__seen_process *processes;
	size_t process_count;
	struct sb__seen_session *sessions; /* ascending by uid, each once */
	size_t session_count;
	struct sb__seen_owner *owners;
	size_t owner_count;
	struct sb__seen_lanes *lanes;
	size_t lanes_count;
	struct sb__bridge_file *files; /* none when the file pass is left out */
	size_t file_count;
	struct sb__known *known; /* NULL without files */
	char (*boots)[SB__BOOT_NAME_SIZE];
	size_t boot_count;
	struct sb__seen_trouble *troubles;
	size_t trouble_count;
	uint64_t visited; /* records and files that were looked at: what the pass costs */
};

/* ── verdicts ── */

/* Only the fields that the kind has are set; strings are borrowed from the snapshot. */
struct sb__verdict {
	enum sb__verdict_kind kind;
	bool consequence;          /* comes with an earlier verdict: told in a dry run, not executed */
	bool held_back;            /* what comes first has failed: the next sweep's */
	uint32_t slot, generation; /* of the dead process (process, owner, lanes), or of the file's maker */
	int32_t pid;               /* of the same process */
	uint32_t handle;           /* owner */
	uint64_t uid, incarnation; /* session; mailbox and refs files */
	const char *session_id;    /* "" if none */
	const struct sb__identity *identity; /* process */
	uint64_t last_access_ms;             /* expired */
	uint32_t count;                      /* lanes, readers */
	const struct sb__bridge_file *file;
	const char *boot;
	int code; /* record-unreadable: SB_E…; in a report: why it failed, or 0 */
	char evidence[128];
};

struct sb__plan {
	struct sb__verdict *verdicts;
	size_t count, cap;
};

/*
 * Fills plan (zeroed by the caller) in the order of execution: of dead processes the lanes, the owner
 * records, the sessions that they served; due sessions; files; then the records of the dead, boots, troubles.
 * Nothing about a process that is alive or unsure, and of one that is dead neither the owner record nor its own where its lanes
 * could not be looked at. 0 or SB_ENOMEM.
 */
int sb__reaper_plan(const struct sb__reaper_snapshot *snapshot, struct sb__plan *plan);
void sb__plan_free(struct sb__plan *plan);

#endif
