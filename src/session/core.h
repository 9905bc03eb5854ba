/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the session layer's files share: a bridge as this process sees it, attachments to session
 * incarnations, session handles, and the thread's lanes.
 *
 * Lock order: registry lock, core->rejoin_lock, core->lock, host lock (host.c), then locks inside store and shm. None of
 * them is held while waiting for the GIL, a reply, or another process; fork() takes registry and core
 * locks in pthread_atfork handlers.
 */
#ifndef SB_SESSION_CORE_H
#define SB_SESSION_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "bell.h"
#include "bridge_dir.h"
#include "config.h"
#include "events.h"
#include "identity.h"
#include "index.h"
#include "mailbox.h"
#include "ops.h"
#include "snakebridge/call.h"
#include "snakebridge/session.h"
#include "space.h"
#include "store.h"

struct sb__asker;
struct sb__host;
struct sb__hosted;
struct sb__own_request;
struct sb__way;

/* Of so many sessions of other processes a mailbox is kept ready without being called: the first ones joined are attached to
 * at once, further ones by their first call; and those attached to last, or whose calling threads are newest, keep their
 * pages. So what a process that joins thousands takes for each is a handle. */
#define SB__WARM_MAX 4

/* One bell file of another process, shared by all attachments to its sessions. */
struct sb__peer {
	struct sb__peer *next;
	struct sb__bell bell;
	unsigned refs;
};

/*
 * This process's attachment to one incarnation of a session: shared by all handles. It lives until its
 * last handle is closed or moved on, and the lanes that threads claimed in it are given back then.
 */
struct sb__attachment {
	struct sb__index_node by_incarnation, by_serial; /* in core's */
	struct sb__core *core;
	uint64_t serial; /* process-unique, never reused: what a thread's lane cache goes by */
	uint32_t index;  /* in the thread's lane cache: small, reused */
	unsigned refs;   /* handles */
	bool over;       /* this process ended the session: no record of it is left, nor of its owners */
	uint64_t incarnation;
	struct sb__mailbox *mailbox;
	struct sb__peer *peer;     /* NULL where hosted */
	struct sb__hosted *hosted; /* this process is the designated owner */
	/* Bit sets of lanes, in words of 64; under core->lock. */
	struct sb__lane_bits {
		uint64_t claimed; /* by this process */
		uint64_t idle;    /* of these: no thread's, for calls that nobody waits for */
	} * lanes;
	uint32_t lane_words;
	unsigned idle_count;
	_Atomic bool any_oneway;                  /* was ever sent, by any thread */
	struct sb__oneway *oneways, **oneway_end; /* one-way calls whose lanes were not taken back yet */
};

/* One bridge directory in this process; shared by all its handles. */
struct sb__core {
	struct sb__core *next;
	unsigned handles;
	pthread_mutex_t lock;
	pthread_mutex_t
		rejoin_lock;    /* before lock; one thread of a forked child joins by a handle at a time */
	_Atomic uint64_t epoch; /* sb__fork_epoch() of the process that is attached; 0 = none yet */
	struct sb__bridge_dir dir;
	struct sb__store *store;
	uint64_t store_epoch; /* of the process that opened the store */
	struct sb__identity self;
	void *life_pin;
	struct sb__events_kept events;
	struct sb__arena *arena;
	struct sb__arena_cache *arenas;
	struct sb__space *space; /* both of them, for arrays */
	struct sb__host *host;   /* designated owner side, NULL until needed */
	struct sb__peer *peers;
	struct sb__attachment *warm[SB__WARM_MAX]; /* whose mailboxes' pages are kept; the last used first */
	struct sb__index attachments, attachment_serials; /* by incarnation; by serial */
	struct sb__index sessions, sessions_by_id;        /* open sessions by address; by session id */
	uint32_t next_handle;
	char *python_executable;
	struct sb__config
		config; /* as this process had it when the bridge was opened, and the bridge's options */
};

struct sb_bridge {
	struct sb__core *core;
	struct sb_session *sessions; /* opened by this handle; under core->lock */
};

struct sb_session {
	struct sb_session *next,
		**at; /* in the bridge's list; at: what points to it, NULL where it is in none */
	struct sb__index_node by_self, by_id;
	sb_bridge *bridge;
	struct sb__core *core;
	_Atomic uint64_t epoch; /* of the process that joined by it */
	_Atomic(struct sb__attachment *)
		attached; /* NULL: not called yet, or no living designated owner known */
	struct sb__attachment **
		retired; /* superseded incarnations, kept until close: threads may be in them. NULL: never any */
	unsigned retired_count;
	struct sb_future *futures; /* calls in flight by this handle; under core->lock */
	uint64_t uid;
	uint64_t max_session_arena_bytes;
	uint64_t last_incarnation; /* seen last, to tell what became of it */
	_Atomic uint64_t
		death_told; /* the incarnation of whose owner's death a call of this handle told last */
	uint32_t handle;
	sb_designated designated;
	bool kept; /* by sb_with_session or resolution of a ref; closed with the bridge */
	bool is_auto;
	uint32_t timeout_ms;
	char id[];
};

/* ── core.c ── */

/* Makes sure that this very process is attached (slot, life token, store). Cheap when it is. */
int sb__core_enter(struct sb__core *core);
/* The same with core->lock held. */
int sb__core_enter_locked(struct sb__core *core);
bool sb__core_is_ours(const struct sb__core *core); /* attached by this process, not by a parent */
/* A knob's value for this bridge. */
static inline uint64_t sb__core_number(const struct sb__core *core, enum sb__config_number knob)
{
	return core->config.numbers[knob];
}
/* Bridge used when none is named: the first open one; NULL if none is. */
sb_bridge *sb__core_default(void);
/* Takes core->lock if core is still an open bridge; false if it was closed. */
bool sb__core_lock_if_open(struct sb__core *core);

/* ── attach.c ── */

/* Attaches to the incarnation of rec, or takes another reference. 0, SB_ERELEASED (gone), SB_EOWNERDIED,
 * SB_EPROTOCOL, … core->lock held. */
int sb__attach_locked(struct sb__core *core, const struct sb__session_rec *rec, struct sb__attachment **ret);
void sb__attachment_put_locked(struct sb__attachment *attachment);
/* This process's transaction ended the session of that incarnation. core->lock held. */
void sb__attachment_over_locked(struct sb__core *core, uint64_t incarnation);
/* In a forked child: unmaps what the parent had, without touching shared words. core->lock held. */
void sb__attachments_forget_locked(struct sb__core *core);
bool sb__attachment_owner_alive(struct sb__attachment *attachment); /* slow question: life token */

/* The calling thread's lane in the attachment, claimed at first use. */
int sb__thread_lane(struct sb__attachment *attachment, uint32_t *ret_lane);
/* The lane is no longer this thread's (abandoned). */
void sb__thread_lane_lost(struct sb__attachment *attachment);

/* A lane for one call that no thread waits for, and giving it back (lost: it was abandoned, and is no longer ours). */
int sb__pool_lane_take(struct sb__attachment *attachment, uint32_t *ret_lane);
void sb__pool_lane_give_locked(struct sb__attachment *attachment, uint32_t lane, bool lost);
/* What the thread's next call on it must come after, if anything: fills in post. And: it has sent a one-way call. */
void sb__thread_after(struct sb__attachment *attachment, struct sb__lane_post *post);
void sb__thread_sent(struct sb__attachment *attachment, uint32_t lane, uint64_t ready);
/* The bell of the process that serves it, this one's own included. */
struct sb__bell *sb__attachment_bell(struct sb__attachment *attachment);

/* ── oneway.c ── */

void sb__oneways_recover_locked(
	struct sb__attachment *attachment); /* takes back lanes of some that have ended */
void sb__oneways_drop_locked(struct sb__attachment *attachment, bool forked); /* all, ended or not */
void sb__oneways_settle(struct sb__attachment *attachment); /* waits for those that this thread has sent */
/* The handle is about to be closed: lets those that were sent come to their end, for as long as closing may wait. No lock
 * held. */
void sb__oneways_drain(sb_session *session);

/* ── session.c ── */

void sb__session_close_locked(sb_session *session);
bool sb__session_is_open_locked(struct sb__core *core, const sb_session *session); /* it may be gone */
/* An open handle of the session with that id; kept: one that was kept. NULL: none. Takes core->lock. */
sb_session *sb__session_find(struct sb__core *core, const char *id, bool kept);
/* Joins s to the session that the store has. 0 joined; 1 look again; or an error. */
int sb__join(sb_session *session, const struct sb__session_rec *rec, uint64_t until_ms);
/* Elects a designated owner for an orphaned session, as its mode says. 0: look again. */
int sb__elect(struct sb__core *core, const struct sb__session_rec *rec);
/* The session exists in state STARTING: waits a moment, or orphans it if its designated owner died. 0: look again. */
int sb__wait_starting(struct sb__core *core, const struct sb__session_rec *rec, uint64_t until_ms);
/* Is the session of rec, whose designated owner is being started, still there? True of one that is being made. */
bool sb__start_wanted(struct sb__core *core, const struct sb__session_rec *rec);
uint64_t sb__start_until(const struct sb__core *core); /* how long to wait from now on for one that starts */
bool sb__designated_dead(struct sb__core *core, const struct sb__session_rec *rec);

/* ── recover.c ── */

/* Makes sure that the handle is joined by this process and attached to the current incarnation, if there is one. */
int sb__session_enter(sb_session *session);
/* After a call found its incarnation ended or its owner dead: looks at the store. 0: attached to another,
 * living incarnation now: try again if nothing ran; else the code that says why not, error record set.
 * creating: the call makes something, so that electing a new designated owner is right. */
int sb__session_recover(sb_session *session, struct sb__attachment *failed, bool creating);
/* What it is attached to; if nothing, it is attached to what the store has now. NULL: no living designated owner. */
struct sb__attachment *sb__session_attachment(sb_session *session);
/* A call saw the designated owner of the incarnation die: sees to it that the next creating call can elect. True: the kernel
 * marked its death in the doorbell, so that nothing need be asked. False: the store knows what became of it. */
bool sb__session_note_death(sb_session *session, const struct sb__attachment *failed);
/* Records a death that a call of this handle has told of, if rec does not know of it, and reads rec again: as
 * sb__store_session_get(). */
int sb__session_record_death(sb_session *session, struct sb__session_rec *rec);

/* ── ended.c ── */

/* Says what became of an incarnation that a ref says it is of: sets the error record, returns its code. 0: the session
 * is of it now. */
int sb__incarnation_explain(struct sb__core *core, const char *session_id, uint64_t incarnation,
                            const char *what);
/* Wakes and unlinks after the store ended rec: mailbox state, bell, files. */
void sb__session_finish_locked(struct sb__core *core, const struct sb__session_rec *rec,
                               enum sb__mailbox_state state);
/* The same for a session that is over: what ended its last incarnation. */
int sb__session_explain(sb_session *session, bool another,
                        const char *what); /* another: one that has its id now */
int sb__no_such_session(struct sb__core *core, const char *id);
/* Ends the session if it was idle for its TTL. 1 ended, 0 not. core->lock
 * not held. */
int sb__session_expire_idle(struct sb__core *core, const struct sb__session_rec *rec);
/* An access that no mailbox has noted: the TTL begins anew. */
void sb__session_refresh(struct sb__core *core, const struct sb__session_rec *rec);

/* ── options.c ── */

/* A validated wish: rec holds it, with defaults where unset. given: which were set, for joins. */
struct sb__wish {
	bool max_refs_given, quota_given, share_given, ttl_given, designated_given, on_full_given,
		persistent_given, tags_given, policy_given;
	sb_designated designated;
	uint32_t timeout_ms;
	bool generated;
	struct sb__session_rec rec;
};
int sb__wish_make(const struct sb__core *core, const sb_session_options *options, struct sb__wish *ret);
/* 0 or SB_EOPTION naming the option that contradicts. */
int sb__wish_check_join(const struct sb__wish *wish, const struct sb__session_rec *rec);

/* ── dedicated.c ── */

/* Starts an sb-owner process for the session of rec and waits until it serves, or until nobody wants it any more: 0, look
 * again. SB_ESTART. No lock held. */
int sb__dedicated_start(struct sb__core *core, const struct sb__session_rec *rec);

/* ── host.c ── */

/* Starts Python in this process. SB_ENOPYTHON. No lock held. */
int sb__host_python(struct sb__core *core);
/* Makes this process designated owner of rec's incarnation (state STARTING in the store, designated = self):
 * mailbox, table, service threads. On failure nothing is left but the record. No lock held. */
int sb__host_session(struct sb__core *core, const struct sb__session_rec *rec);
/* The hosted session of an incarnation, referenced (sb__hosted_put), or NULL. */
struct sb__hosted *sb__host_find(struct sb__core *core, uint64_t incarnation);
/* Its mailbox was ended: drop the objects as soon as no call runs on them. Any thread; does not wait. */
void sb__hosted_end(struct sb__hosted *hosted);
/* The same where only its mailbox says that it ended. */
void sb__hosted_overheard(struct sb__hosted *hosted);
/* After its mailbox was ended: nobody finds its files any more. */
void sb__hosted_retire(struct sb__hosted *hosted);
/* Runs one request here, without the mailbox. SB_ERELEASED where it ended. */
struct sb__own_call {
	const struct sb__way *way;
	struct sb__own_request *request;
	const struct sb__asker *asker;
};
int sb__hosted_execute(struct sb__hosted *hosted, const struct sb__own_call *call, struct sb__buf *reply,
                       struct sb__kept_list *kept);
/* An attachment found by sb__host_find() goes. */
void sb__hosted_put(struct sb__hosted *hosted);
struct sb__mailbox *sb__hosted_mailbox(struct sb__hosted *hosted);
struct sb__bell *sb__host_bell(struct sb__core *core);
/* Stops serving: orphans what is still served, interrupts and waits for the calls that run, ends the threads. False: a call
 * did not end in time, and core and all that it names must stay for ever. No lock held. */
bool sb__host_stop(struct sb__core *core);
/* In a forked child: leaves the parent's host alone for ever. core->lock held. */
void sb__host_forget_locked(struct sb__core *core);
/* Blocks until the hosted incarnation ended (true), a signal handler has set *stop (may be NULL), or timeout_ms passed. */
bool sb__host_wait(struct sb__core *core, uint64_t incarnation, const volatile int *stop,
                   uint32_t timeout_ms);

/* ── serve.c ── */

/* In a forked child: if the forking thread runs a call of the mailbox, its reply is not this process's to write. */
void sb__serve_forked_child(void);

/* ── dispatch.c ── */

/* Trace id of the call that this thread is making, for events; 0: none. */
uint64_t sb__call_trace(void);

/* ── context.c ── */

/* Which session a call goes to; see SEMANTICS 4. */
int sb__resolve(sb_session *named, const sb_ref *target, sb_session **ret);
/* The session handle is going away: forget it where a thread's context points to it (this thread only). */
void sb__context_drop(const sb_session *session);

#endif
