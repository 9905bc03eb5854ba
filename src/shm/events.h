/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened on a bridge: a ring of records in the file "events" of the boot directory, written by every
 * process that changes a session's life, read by sb-inspect events. For people and monitoring: nothing in
 * the library depends on a record being there, and no call ever posts one.
 *
 * ── Layout ────────────────────────────────────────────────────────────────────────────────────────
 * A file of zeroes is a whole, empty ring: making it is idempotent, and a kill while it is made leaves
 * nothing to tidy. Event n lies in record n % SB__EVENTS_RECORDS; the first event is 1.
 *
 * record.word is {sequence:40 | pid:22 | state:2}: claim, writer and progress in one word.
 *
 *   EMPTY or DONE(n - records) ── claim (CAS) ──▶ WRITING(n, pid) ── publish (CAS) ──▶ DONE(n, pid)
 *   WRITING(n - records) of a dead pid ── claim (the same CAS) ──▲
 *
 * Only one living writer ever writes into a record: who finds it WRITING by a process that lives (a stopped
 * one) passes over that number, and readers count it as torn.
 *
 * field          | writer                        | reader | ordering          | if the writer dies here
 * magic, version | first writer: CAS from 0       | all    | full CAS          | the next one sets the other
 * head           | claimer or any writer after a | all    | after the claim   | the next writer advances it
 *                | claim: CAS n - 1 -> n         |        |                   |
 * record.word    | CAS by the party above        | all    | full CAS          | stays WRITING: readers skip it at
 *                |                               |        |                   | once, a writer a lap later takes it
 * other fields   | claimer in WRITING            | in DONE| published by word | never DONE: never shown
 *
 * A reader copies a record under its word as under a sequence lock: word, copy, full barrier, word again.
 * What was overwritten meanwhile is reported as lost, with its count. Readers write nothing.
 */
#ifndef SB_SHM_EVENTS_H
#define SB_SHM_EVENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atomics.h"
#include "snakebridge/ref.h"

#define SB__EVENTS_VERSION    1u
#define SB__EVENTS_RECORDS    1024u
#define SB__EVENT_REASON_SIZE 64u
#define SB__EVENTS_TORN_MS    200u /* how long a reader waits for a record that a living process writes */

/* X(constant, name in JSON and text, what happened). Numbers are shared: append only. */
#define SB__EVENT_MAP(X)                                                                        \
	X(SB__EVENT_CREATE, "create", "a session was created, and its designated owner serves") \
	X(SB__EVENT_JOIN, "join", "a process joined a session by a handle")                     \
	X(SB__EVENT_LEAVE, "leave", "a handle was closed")                                      \
	X(SB__EVENT_RELEASE, "release", "a session ended: released, or left by its last owner") \
	X(SB__EVENT_EXPIRE, "expire", "a session ended: idle past its TTL")                     \
	X(SB__EVENT_EVICT, "evict", "refs were evicted from a full session")                    \
	X(SB__EVENT_ORPHAN, "orphan", "a session lost its designated owner")                    \
	X(SB__EVENT_ELECT, "elect", "a session got a new designated owner")                     \
	X(SB__EVENT_REAP, "reap", "something that a dead process left was tidied")

enum sb__event_kind {
	SB__EVENT_NONE,
#define SB__EVENT_ENUM(constant, name, what) constant,
	SB__EVENT_MAP(SB__EVENT_ENUM)
#undef SB__EVENT_ENUM
		SB__EVENT_KINDS
};
const char *sb__event_kind_name(uint32_t kind); /* "?" if unknown */

struct sb__event_shm {
	sb__word word;
	uint32_t kind;
	int32_t subject_pid; /* the process that it is about, if that is another: who died; 0 = none */
	uint64_t mono_ns;    /* CLOCK_MONOTONIC */
	int64_t wall_ms;
	uint64_t session_uid; /* 0 = none */
	uint64_t incarnation; /* 0 = none */
	uint64_t trace_id;    /* of the call that it happened in; 0 = none */
	uint32_t count;       /* evict: how many; reap: lanes, readers; else 0 */
	uint32_t reserved;
	char session_id[SB_SESSION_ID_MAX + 1]; /* NUL-terminated; "" = none */
	char reason[SB__EVENT_REASON_SIZE];     /* NUL-terminated, cut */
};
_Static_assert(sizeof(struct sb__event_shm) == 384, "layout");
_Static_assert(offsetof(struct sb__event_shm, session_id) == 64, "layout");

struct sb__events_shm {
	sb__word magic;   /* "SBevnt01" */
	sb__word version; /* SB__EVENTS_VERSION << 32 | SB__EVENTS_RECORDS */
	uint8_t pad0[48];
	sb__word head; /* the last event's number */
	uint8_t pad1[4096 - 72];
	struct sb__event_shm records[SB__EVENTS_RECORDS];
};
_Static_assert(offsetof(struct sb__events_shm, head) == 64, "layout");
_Static_assert(offsetof(struct sb__events_shm, records) == 4096, "layout");
_Static_assert(sizeof(struct sb__events_shm) % 4096 == 0, "layout");

/* An event in private memory. To post one: kind, and whatever is known of the rest. */
struct sb__event {
	enum sb__event_kind kind;
	uint64_t sequence; /* set by reading */
	int32_t pid;       /* writer; set by reading */
	int32_t subject_pid;
	uint64_t mono_ns; /* set by posting */
	int64_t wall_ms;  /* set by posting */
	uint64_t session_uid, incarnation, trace_id;
	uint32_t count;
	char session_id[SB_SESSION_ID_MAX + 1];
	char reason[SB__EVENT_REASON_SIZE];
};

/* The ring, mapped. */
struct sb__events {
	struct sb__events_shm *shm;
	bool writable;
};

/*
 * Maps the ring of a boot directory. create: for writing, made if it is not there; else for reading.
 * 0; 1 (not create): nobody posted an event yet; SB_ENOSPACE, SB_ENOMEM, SB_ESYSTEM (also: a file system
 * without fallocate), SB_EVERSION, SB_EPROTOCOL.
 */
int sb__events_open(int boot, bool create, struct sb__events *ret);
void sb__events_close(struct sb__events *events); /* also of one that was never opened (zeroed) */

/* Posts: lock-free, takes well under a microsecond on a mapped ring. Returns the event's number, 0 if all
 * tries met records of stopped writers. */
uint64_t sb__events_post(struct sb__events *events, const struct sb__event *event);

/*
 * A ring that is mapped at the first event and stays mapped, for a process that posts again and again; any thread, and a
 * forked child too. Zeroed: nothing is mapped yet. Few of its pages stay in the process's tables, however many events it posts.
 */
struct sb__events_kept {
	_Atomic(struct sb__events_shm *) shm;
	_Atomic uint32_t posts;
};
/* Returns nothing: an event that nobody can store must not fail what happened. It may leave an error record behind, so
 * report a failure first. reason may be NULL. */
void sb__events_note(struct sb__events_kept *kept, int boot, enum sb__event_kind kind, uint64_t session_uid,
                     const char *session_id, uint64_t incarnation, uint64_t trace_id, int32_t subject_pid,
                     uint32_t count, const char *reason);
void sb__events_forget(struct sb__events_kept *kept); /* unmaps it; nobody may be posting */

/* ── reading ── */

struct sb__events_reader {
	const struct sb__events *events;
	uint64_t next;             /* number that is wanted next */
	uint64_t lost;             /* overwritten before they were read; counts up */
	uint64_t torn;             /* never finished by their writers; counts up */
	uint64_t pending_since_ms; /* 0: next is not being waited for */
};

/* since: number of the last event already seen; 0 = from the oldest there is. One that this ring has not
 * reached (of an earlier boot) starts from the oldest, too. */
void sb__events_reader_init(struct sb__events_reader *reader, const struct sb__events *events,
                            uint64_t since);
/* 1 and *ret; 0: none more now; look again later. *ret_pending (may be NULL): a record is being written,
 * look again in milliseconds. Never blocks; passes over what is lost or torn. */
int sb__events_read(struct sb__events_reader *reader, struct sb__event *ret, bool *ret_pending);

#endif
