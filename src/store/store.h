/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session store: what LMDB holds. Each function is one short transaction: no Python, no callback into
 * other layers, no wait and no I/O inside; values are copied out. Never on the call path.
 *
 * One environment per process and directory, opened lazily, never used across fork: after a fork the old
 * one is left alone for ever (sb__store_forget) and a new one is opened.
 */
#ifndef SB_STORE_STORE_H
#define SB_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "identity.h"
#include "snakebridge/session.h"

struct sb__store;

#define SB__SCHEMA_VERSION 5u
#define SB__GRAVEYARD_MAX  4096u /* ended incarnations that are remembered, or some 32 fewer */

/* Why a session or an incarnation of it ended. Numbers are stored: append only. */
enum sb__end_reason {
	SB__END_RELEASED = 1,    /* sb_session_release() */
	SB__END_OWNERS_GONE = 2, /* last owner closed or died */
	SB__END_EXPIRED = 3,
	SB__END_OWNER_DIED = 4 /* designated owner died; the session went on */
};
const char *sb__end_reason_name(enum sb__end_reason reason);

/* A session as stored; a validated copy. state: sb_session_state. */
struct sb__session_rec {
	char session_id[SB_SESSION_ID_MAX + 1];
	uint64_t uid;         /* number of this session: key of its owners; never used twice */
	uint64_t incarnation; /* of its designated owner; bridge-wide unique, grows */
	uint32_t state;
	uint32_t owner_count;
	struct sb__identity designated;
	uint32_t max_refs;
	uint32_t max_refs_per_process;    /* 0 = no quota */
	uint64_t max_session_arena_bytes; /* 0 = none of its own */
	uint32_t designated_mode;         /* sb_designated as created */
	uint32_t on_full;                 /* sb_on_full */
	uint32_t persistent;
	uint64_t ttl_ms; /* 0 = never */
	int64_t created_wall_ms;
	uint64_t created_ms; /* sb__now_ms() */
	uint64_t expires_ms; /* key in the expiry database; 0 = never */
	uint64_t live_refs;  /* written behind by the designated owner */
	uint32_t tag_count;
	uint32_t tags_len, policy_len;
	/* Last, since seldom used: what is behind the length is not even zeroed. */
	char tags[SB_TAGS_BYTES_MAX];     /* key NUL value NUL … */
	char policy[SB_POLICY_BYTES_MAX]; /* "+allow" NUL … "-deny" NUL … */
};

struct sb__owner_rec {
	uint64_t session_uid;
	uint32_t slot, generation;
	uint32_t handle; /* number within the process */
	int32_t pid;
	int64_t joined_wall_ms;
};

struct sb__grave_rec {
	uint64_t incarnation;
	uint64_t session_uid; /* of the session that it was one of */
	uint32_t reason;      /* enum sb__end_reason */
	int64_t wall_ms;
	int32_t designated_pid;
	char session_id[SB_SESSION_ID_MAX + 1];
};

struct sb__bridge_rec {
	uint32_t schema, layout_fingerprint;
	uint64_t pid_ns;
	uint8_t boot_id[16];
	int64_t created_wall_ms;
	int32_t creator_pid;
	uint64_t next_number; /* no uid or incarnation was given out from here on; not stored */
};

/*
 * Opens the store in root (a bridge's directory fd), making "lmdb/" in a temporary directory and renaming it if
 * it is not there (create). SB_ENOBRIDGE (not create and none), SB_EVERSION, SB_ENAMESPACE, SB_ENOSPACE, SB_ECORRUPT,
 * SB_ESTORE. layout_fingerprint: sb__layout_fingerprint() of the caller, checked and stored.
 */
int sb__store_open(int root, bool create, uint32_t layout_fingerprint, struct sb__store **ret);
void sb__store_close(struct sb__store *store); /* same process as opened it */
/* What transactions have read of the file leaves this process's page tables; the next ones bring back what they need. For
 * processes that look at the store now and then. Any thread. */
void sb__store_unload(struct sb__store *store);
/* In a forked child: frees nothing of LMDB's. 0, or SB_ENOMEM: to be tried again, the child has the parent's guard still. */
int sb__store_forget(struct sb__store *store);

int sb__store_bridge(struct sb__store *store, struct sb__bridge_rec *ret);

/* ── processes ── */

/* Takes the lowest free slot: calls hold(arg, slot) before the transaction (it takes the life token: 0, or -EAGAIN to
 * try the next), then writes the record with a new generation. Fills self->slot and self->generation. SB_EPROCESSES. */
int sb__store_process_add(struct sb__store *store, struct sb__identity *self,
                          int (*hold)(void *arg, uint32_t slot), void (*drop)(void *arg, uint32_t slot),
                          void *arg);
/* Removes a process record if it is still of that generation, keeping the slot's generation count. Only after its
 * owners are removed. 1 removed, 0 it is another's by now; SB_EBUG: it still owns sessions. */
int sb__store_process_remove(struct sb__store *store, uint32_t slot, uint32_t generation);
int sb__store_process_get(struct sb__store *store, uint32_t slot,
                          struct sb__identity *ret); /* SB_ENOSESSION-free: 1 found, 0 none */
/* All records into a malloc'ed array. */
int sb__store_processes(struct sb__store *store, struct sb__identity **ret, size_t *ret_count);

/* ── sessions ── */

/* 1 and *ret, 0 if there is none, or an error. Of these two and sb__store_session_end() *ret
 * holds nothing of use otherwise, and session_id must not lie in it. */
int sb__store_session_get(struct sb__store *store, const char *session_id, struct sb__session_rec *ret);
int sb__store_session_by_uid(struct sb__store *store, uint64_t uid, struct sb__session_rec *ret);
/* Creates a session in state STARTING (or ACTIVE, where rec says so: its designated owner is ready to make the mailbox) with a new uid and incarnation and owner as its first owner, unless the id
 * exists: then *ret is what there is. Returns 1 created, 0 exists. rec: the wish; its uid, incarnation, state, counts and expiry are
 * filled in. owner NULL: no owner record (a dedicated owner serving for others). */
int sb__store_session_create(struct sb__store *store, struct sb__session_rec *rec,
                             const struct sb__owner_rec *owner);
/* STARTING -> ACTIVE if still of that incarnation: 1; 0 if it is not. */
int sb__store_session_activate(struct sb__store *store, const char *session_id, uint64_t incarnation);
/* A new incarnation with another designated owner, state STARTING, if the session is ORPHANED or STARTING with
 * the given incarnation: 1 and *ret; 0 if somebody else was quicker. The old incarnation goes to the graveyard. */
int sb__store_session_elect(struct sb__store *store, const char *session_id, uint64_t old_incarnation,
                            const struct sb__identity *designated, struct sb__session_rec *ret);
/* Marks it orphaned if it is still of that incarnation; the incarnation goes to the graveyard. 1, or 0. */
int sb__store_session_orphan(struct sb__store *store, const char *session_id, uint64_t incarnation);
/* Ends it, with all its owner records; goes to the graveyard. uid 0 = whichever. With SB__END_OWNERS_GONE only a session that
 * has no owner. *ret (may be NULL): the record as it was. 1 ended, 0 there was none. */
int sb__store_session_end(struct sb__store *store, const char *session_id, uint64_t uid,
                          enum sb__end_reason reason, struct sb__session_rec *ret);
/* Ends it only if it is still due: expires_ms of the record <= now and last_access + ttl <= now; else re-files it at
 * last_access + ttl. 1 ended, 0 not. */
int sb__store_session_expire(struct sb__store *store, const char *session_id, uint64_t uid,
                             uint64_t last_access_ms, uint64_t now_ms, struct sb__session_rec *ret);
int sb__store_session_mirror(struct sb__store *store, const char *session_id, uint64_t incarnation,
                             uint64_t live_refs);
/* Visits copies of all sessions, in batches: a read transaction never spans a visit. visit returns non-zero
 * to stop; a negative number is passed up, else 0. */
int sb__store_sessions(struct sb__store *store, int (*visit)(void *arg, const struct sb__session_rec *rec),
                       void *arg);
/* What counting needs of a session. */
struct sb__session_brief {
	uint64_t uid, incarnation, live_refs;
	uint32_t state, owner_count;
	uint32_t slot, generation; /* of its designated owner */
};
/* All of them from one transaction, malloc'ed. Tags and policies are not looked at. */
int sb__store_session_briefs(struct sb__store *store, struct sb__session_brief **ret, size_t *ret_count);
/* Sessions whose stored expiry is <= now, at most max, malloc'ed. */
int sb__store_due(struct sb__store *store, uint64_t now_ms, size_t max, struct sb__session_rec **ret,
                  size_t *ret_count);

/* ── owners ── */

/* Adds an owner to a session that is still (uid): 1, or 0 if it ended. */
int sb__store_owner_add(struct sb__store *store, const char *session_id, const struct sb__owner_rec *owner);
/* Removes one; if it was the last and the session is not persistent, ends the session in the same transaction
 * (reason OWNERS_GONE): then 2 and *ret (may be NULL) is the record. 1 removed, 0 there was none. */
int sb__store_owner_remove(struct sb__store *store, uint64_t session_uid, uint32_t slot, uint32_t generation,
                           uint32_t handle, struct sb__session_rec *ret);
/* Owners of one session, or of one process (index, so its cost is what it returns); malloc'ed. */
int sb__store_owners_of_session(struct sb__store *store, uint64_t session_uid, struct sb__owner_rec **ret,
                                size_t *ret_count);
int sb__store_owners_of_process(struct sb__store *store, uint32_t slot, struct sb__owner_rec **ret,
                                size_t *ret_count);
/* How many owner records each process has, ordered by process; malloc'ed. */
struct sb__owner_count {
	uint32_t slot, generation;
	uint64_t owners;
};
int sb__store_owner_counts(struct sb__store *store, struct sb__owner_count **ret, size_t *ret_count);
/* Sessions whose designated owner is the process (index); malloc'ed. */
int sb__store_sessions_of_owner(struct sb__store *store, uint32_t slot, uint32_t generation,
                                struct sb__session_rec **ret, size_t *ret_count);

/* ── graveyard ── */

int sb__store_grave(struct sb__store *store, uint64_t incarnation, struct sb__grave_rec *ret); /* 1, 0 */
/* The newest grave of a session id: 1, 0. */
int sb__store_grave_of(struct sb__store *store, const char *session_id, struct sb__grave_rec *ret);
/* The newest grave of one session, however many incarnations it had and whatever has its id by now: 1, 0. Of a living
 * one: its last designated owner's death. */
int sb__store_grave_of_uid(struct sb__store *store, uint64_t session_uid, struct sb__grave_rec *ret);

/* What became of an incarnation that a ref says it is of. */
enum sb__fate {
	SB__FATE_NONE = 1,  /* no session of that id ever was of it */
	SB__FATE_LIVES,     /* the session is of it now */
	SB__FATE_ENDED,     /* see its grave */
	SB__FATE_FORGOTTEN, /* it may have ended too long ago */
};
/* enum sb__fate (with SB__FATE_ENDED also *ret), or an error. */
int sb__store_fate(struct sb__store *store, const char *session_id, uint64_t incarnation,
                   struct sb__grave_rec *ret);

/* Do all records and indexes agree? Calls problem (may be NULL) with a sentence each, at most 64 times, after the
 * transaction; returns how many problems there are, 0 = sound. Costs a look at every record. */
int sb__store_verify(struct sb__store *store, void (*problem)(void *arg, const char *line), void *arg);

/* Removes "lmdb.new.…" directories whose makers were killed; returns how many. root: as sb__store_open(). */
int sb__store_sweep_temporary(int root);

/* Clears LMDB reader slots of dead processes; returns how many. */
int sb__store_check_readers(struct sb__store *store);
int sb__store_reader_count(struct sb__store *store, uint32_t *ret_used, uint32_t *ret_max);
/* How many slots belong to processes that are no more; changes nothing, unlike the check above. */
int sb__store_readers_of_dead(struct sb__store *store, uint32_t *ret);

#endif
