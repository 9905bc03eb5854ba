/* SPDX-License-Identifier: Apache-2.0 */
/* Mailboxes and their lanes. Layout and laws: layout.h. */
#ifndef SB_SHM_MAILBOX_H
#define SB_SHM_MAILBOX_H

#include "arena.h"
#include "bell.h"
#include "layout.h"
#include "space.h"

/* This process's view of a mailbox. Thread-safe; lane blocks are mapped as they are needed (a private
 * mutex guards the mapping of a block, not its use). */
struct sb__mailbox;

/* Files of this process's ended sessions that no other process ever attached to, for its next ones. Thread-safe. */
struct sb__mailbox_pool;

struct sb__mailbox_params {
	uint64_t incarnation;
	struct sb__identity owner;
	uint32_t bell_index;
	uint32_t max_refs;
	uint64_t ttl_ms;
	uint64_t max_request_bytes; /* 0 = no quota, as the next */
	uint32_t max_lanes_per_process;
	const char *session_id;
	struct sb__mailbox_pool *pool; /* where its file may come from and go to; NULL: none */
};

/* mailbox_dir: borrowed. SB_ENOMEM. */
int sb__mailbox_pool_new(int mailbox_dir, uint32_t slot, uint32_t generation, struct sb__mailbox_pool **ret);
/* Removes the files that it keeps. After the last mailbox of it was detached; NULL is fine. */
void sb__mailbox_pool_free(struct sb__mailbox_pool *pool);

/* Owner. mailbox_dir: directory fd, borrowed: it must stay open as long as the mailbox is, which keeps no
 * descriptor of its own, so that sessions are not bounded by RLIMIT_NOFILE. SB_ENOSPACE, SB_ENOMEM,
 * SB_ESYSTEM. */
int sb__mailbox_create(int mailbox_dir, const struct sb__mailbox_params *params, struct sb__mailbox **ret);
/* Anyone. SB_ERELEASED if there is no such file (it is gone: ended), SB_EVERSION, SB_EPROTOCOL. */
int sb__mailbox_attach(int mailbox_dir, uint64_t incarnation, struct sb__mailbox **ret);
/* Unmaps. The owner, if there are replies in its arena that were not consumed, takes them back first: the
 * arena must still be there. In a forked child it only unmaps and frees. */
void sb__mailbox_detach(struct sb__mailbox *mailbox);
/* Owner, of one that was ended: from now on nobody finds it. Its file is removed, or goes back to the pool when it is
 * detached. refs: there may be a ".refs" to remove. */
void sb__mailbox_retire(struct sb__mailbox *mailbox, bool refs);
/* Removes the file and its ".refs"; idempotent. */
int sb__mailbox_unlink(int mailbox_dir, uint64_t incarnation);
const struct sb__mailbox_header_shm *sb__mailbox_header(const struct sb__mailbox *mailbox); /* private copy */
struct sb__mailbox_control_shm *sb__mailbox_control(struct sb__mailbox *mailbox);

unsigned sb__mailbox_state(struct sb__mailbox *mailbox); /* one load */
/* Ends it: CAS from serving; true if this call did. Wakes every parked caller. */
bool sb__mailbox_end(struct sb__mailbox *mailbox, enum sb__mailbox_state state);
/* Accessed at sb__now_coarse_ms(), read before. Whoever was stopped since then takes back nothing that others noted meanwhile. */
void sb__mailbox_touch(struct sb__mailbox *mailbox, uint64_t now_ms);
/* Its pages leave this process's page tables; they come back one by one with their next use. Any thread. */
void sb__mailbox_unload(struct sb__mailbox *mailbox);

/* ── caller ── */

/* Claims a lane for (slot, generation): a free one, else the file grows by a block. SB_ELANES, SB_ENOSPACE,
 * SB_ERELEASED, SB_EEXPIRED, SB_EOWNERDIED. */
int sb__lane_claim(struct sb__mailbox *mailbox, uint32_t slot, uint32_t generation, uint32_t *ret_lane);
/* Gives it back, whatever its state (a BUSY one is abandoned). Not after SB__LANE_MAYBE or SB__LANE_DIED_MAYBE: it may be
 * another thread's by then. */
void sb__lane_unclaim(struct sb__mailbox *mailbox, uint32_t lane);
/* Where to write the request: buf starts inside the lane. The lane must be IDLE and ours. */
void sb__lane_request(struct sb__mailbox *mailbox, uint32_t lane, struct sb__buf *buf);

struct sb__lane_post {
	uint64_t deadline_ns; /* absolute, CLOCK_MONOTONIC */
	uint64_t trace_id;
	uint64_t now_ms; /* sb__now_coarse_ms(); 0: is asked for */
	const char *label;
	struct sb__arena *arena; /* takes a request that outgrew the lane */
	uint32_t flags;          /* SB__REQUEST_… */
	uint32_t after_lane;     /* with SB__REQUEST_AFTER */
	uint64_t after_word;
	const struct sb__answering
		*answering; /* with SB__REQUEST_ASKABLE, which only sb__lane_call_asked() takes */
	int32_t thread;     /* likewise: the calling thread's number */
};

struct sb__flight;
/* How a caller that waits answers what the owner asks. */
struct sb__answering {
	/* question: a private copy, or error: why there is none. Appends the answer. stands: is the question still the
	 * owner's? To be asked after the arrays in it were kept. False: this is not the process that was asked (a forked
	 * child), so nothing is answered. */
	bool (*answer)(void *arg, uint64_t key, const struct sb__buf *question, int error,
	               bool (*stands)(const struct sb__flight *flight), const struct sb__flight *flight,
	               struct sb__buf *answer);
	/* The owner is done with the last answer: what it names need not be kept any more. */
	void (*answered)(void *arg);
	void *arg;
	struct sb__arena *arena;       /* takes an answer that outgrew the lane */
	struct sb__arena_cache *peers; /* where a question that did is read */
};

enum sb__lane_result {
	SB__LANE_REPLIED,     /* the reply can be read; lane is ours until sb__lane_consume() */
	SB__LANE_NOT_STARTED, /* withdrawn at the deadline: nothing ran; lane is IDLE */
	SB__LANE_MAYBE, /* abandoned while running, the lane is no longer ours: the deadline passed, or the
	                           * session ended (then sb__mailbox_state() is not SERVING) */
	SB__LANE_DIED_NOT_STARTED, /* the owner died before it accepted the request; lane is IDLE */
	SB__LANE_DIED_MAYBE,       /* the owner died while it ran; the lane is no longer ours */
	SB__LANE_ENDED,            /* session ended before it was accepted: nothing ran; lane is IDLE */
	SB__LANE_WAS_CANCELLED, /* somebody cancelled it before it was accepted: nothing ran; lane is IDLE */
	SB__LANE_FORKED /* this is a child that was forked in an answer: lane and call are its parent's */
};

/* Called by a parked caller between slices: is the owner still alive? Slow check (life token). */
typedef bool (*sb__alive_fn)(void *arg);

/*
 * Publishes the request in buf (which was initialised by sb__lane_request and is freed here), rings the
 * bell and waits for the reply. 0 and *ret_result, or SB_ETOOBIG / SB_ENOSPACE / SB_ENOMEM when nothing was
 * sent (SB_EBUG: the lane is not IDLE and ours). alive may be NULL.
 */
int sb__lane_call(struct sb__mailbox *mailbox, struct sb__bell *bell, uint32_t lane, struct sb__buf *buf,
                  const struct sb__lane_post *post, sb__alive_fn alive, void *alive_arg,
                  enum sb__lane_result *ret_result);
/* The same for a call that can be asked. *ret_late: its deadline passed, or its session ended, while an answer was
 * made. */
int sb__lane_call_asked(struct sb__mailbox *mailbox, struct sb__bell *bell, uint32_t lane,
                        struct sb__buf *buf, const struct sb__lane_post *post, sb__alive_fn alive,
                        void *alive_arg, enum sb__lane_result *ret_result, bool *ret_late);

/* A thread that waited long for a reply has short slices of a CPU until its next call. That ends here: what it starts, thread or
 * process, has what it has. */
void sb__turn_ordinary(void);

/*
 * The same in parts, for calls that nobody waits for all the time. One call in flight: the caller's memory, used by one
 * thread at a time; a copy may be observed by another, as long as mailbox, bell and lane are kept. Fields are lane_call.c's
 * but for over and result.
 */
struct sb__flight {
	struct sb__mailbox *m;
	struct sb__bell *bell;
	struct sb__lane_shm *l;
	struct sb__lane_notes *notes;
	uint32_t lane;
	bool woke;      /* the leader was parked when we rang */
	bool over;      /* it has ended: result says how */
	uint64_t ready; /* our word after publishing */
	struct sb__spill_shm
		block;           /* of a spilled request; len 0 if it is not. A copy: the lane may be lost */
	struct sb__arena *arena; /* of block */
	uint64_t deadline_ns;
	sb__alive_fn alive;
	void *alive_arg;
	uint64_t next_alive_ns;
	uint64_t slice_ns;
	unsigned slices;
	enum sb__lane_result result;
	const struct sb__answering *answering; /* NULL: it cannot be asked */
	uint32_t answered;                     /* the question that was taken up last */
	unsigned turn;                         /* what the last reply told (SB__TURN_…) */
	bool late; /* the deadline passed, or the session ended, while it was answered */
	struct sb__spill_shm answer_block; /* len 0: none */
};
/* Publishes as sb__lane_call() does, and does not wait. 0, with over set if it has ended already; or an error: nothing was
 * sent. */
int sb__flight_post(struct sb__flight *flight, struct sb__mailbox *mailbox, struct sb__bell *bell,
                    uint32_t lane, struct sb__buf *buf, const struct sb__lane_post *post, sb__alive_fn alive,
                    void *alive_arg);
/* Has it ended? Looks, without waiting. */
bool sb__flight_poll(struct sb__flight *flight);
/* Waits until it has ended (true) or until_ns. */
bool sb__flight_wait(struct sb__flight *flight, uint64_t until_ns);
/* Nobody wants it any more: withdraws or abandons it. Sets over. */
void sb__flight_abandon(struct sb__flight *flight);
/* Asks to cancel it: 1 it runs and the owner is asked; 2 removed, nothing ran; 0 it has ended. */
int sb__flight_cancel(struct sb__flight *flight);
/* Observers, of a copy: would sb__flight_poll() say true? */
bool sb__flight_ended(struct sb__flight *copy);
/* Is it still to be taken up by the owner? Then the owner is told again, and that it may need another thread. */
bool sb__flight_hurry(struct sb__flight *copy);
/* The word to wait on for the end, and what it holds; whoever waits there by futex must have set parked first, and looks
 * with sb__flight_ended() between. */
unsigned int *sb__flight_word(struct sb__flight *copy, unsigned int *ret_expected);
void sb__flight_park(struct sb__flight *copy);
/* One-way: is the call (its word when it was READY) neither to be run nor running any more? */
bool sb__lane_call_over(struct sb__mailbox *mailbox, uint32_t lane, uint64_t ready);
/* Waits for that, until_ns at most, or until the session or its owner ends. */
bool sb__lane_wait_over(struct sb__mailbox *mailbox, const struct sb__bell *bell, uint32_t lane,
                        uint64_t ready, uint64_t until_ns);
/* A one-way call has ended: frees what it held. */
void sb__flight_forget(struct sb__flight *flight);
/* Takes back a lane of ours whose one-way call has ended: 1 it is IDLE; 0 the call is not over; -1 the lane is no longer
 * ours. */
int sb__lane_recover(struct sb__mailbox *mailbox, uint32_t lane);
/* Copies the reply out: small ones into the buffer's own memory, larger ones onto its heap. SB_EPROTOCOL,
 * SB_ENOMEM, SB_ERELEASED (the session ended and its owner took the reply back: it did run). */
int sb__lane_reply(struct sb__mailbox *mailbox, uint32_t lane, struct sb__arena_cache *peers,
                   struct sb__buf *ret);
/* After the arrays in the reply were kept: is it still the caller's, so that they are what the owner sent? */
bool sb__lane_reply_stands(struct sb__mailbox *mailbox, uint32_t lane);
void sb__lane_consume(struct sb__mailbox *mailbox, uint32_t lane); /* DONE -> IDLE */

/* ── cancelling (lane_cancel.c) ── */

/* Any process: cancels every call of that trace id. *ret_removed: those that had not begun, and never will;
 * *ret_asked: those that run, which the owner is asked to interrupt. */
void sb__mailbox_cancel(struct sb__mailbox *mailbox, struct sb__bell *bell, uint64_t trace_id,
                        uint32_t *ret_removed, uint32_t *ret_asked);
/* A running call was cancelled or abandoned: the owner looks at it soon, also while its leader is in a call. bell NULL:
 * it looks by itself within seconds. */
void sb__mailbox_attention(struct sb__mailbox *mailbox, struct sb__bell *bell);
/* Owner: changes when there is something to look at. */
uint64_t sb__mailbox_attention_count(struct sb__mailbox *mailbox);
/* Owner: visits the running calls that were cancelled, and, if abandoned, those that nobody waits for. */
void sb__mailbox_unwanted(struct sb__mailbox *mailbox, bool abandoned, void (*visit)(void *arg, uint64_t key),
                          void *arg);
/* Names a running call within its mailbox; never 0. word: the BUSY one. */
static inline uint64_t sb__call_key(uint32_t lane, uint64_t word)
{
	return (uint64_t)(lane + 1) << 28 | SB__WORD_SEQ(word);
}

/* ── designated owner ── */

/* A request as accepted: everything copied out of shared memory. */
struct sb__accepted {
	uint32_t lane;
	uint64_t word; /* the BUSY word, to complete by CAS */
	uint32_t caller_slot, caller_generation;
	int32_t caller_pid;
	uint64_t deadline_ns, trace_id;
	bool oneway; /* nobody reads the reply */
	bool askable;
	int32_t caller_thread; /* askable: the thread that waits */
	/* How long it ran, to be set before it is completed where sb__mailbox_has_turns(). */
	uint64_t took_ns;
	uint32_t asked;                /* as in the lane */
	struct sb__spill_shm question; /* len 0: none */
	struct sb__arena *question_arena;
	struct sb__buf request;
	struct sb__kept_list kept; /* arrays in the reply: the caller may not have them yet */
};

/* Accepts the next READY lane of this mailbox: 1 and *ret, 0 if none is left. scratch (SB__INLINE_MAX
 * bytes) is where small requests are copied. Requests past their deadline are passed over (their caller
 * withdraws). *cursor as in sb__bell_take. Requests whose bytes cannot be had (bad spill) are completed
 * with a refusal inside. */
int sb__mailbox_accept(struct sb__mailbox *mailbox, struct sb__arena_cache *peers, uint32_t *cursor,
                       void *scratch, struct sb__accepted *ret);
/* Where a service thread is among the lanes of a mailbox; cursor as above, the rest 0 when it comes. */
struct sb__taking {
	uint32_t cursor;
	uint32_t last;   /* 1 + the lane that it served last */
	uint32_t kept;   /* likewise, where it has left the ready bit standing: layout.h, law of the bits */
	uint64_t now_ns; /* sb__now_ns(), when it was last asked for a moment ago; 0: longer ago */
	struct sb__bell *bell; /* the owner's; NULL: it waits for nobody */
};
/* The same for one that goes on until there is nothing: a lane that is served again and again costs it no bits. With a bell it
 * waits a moment, spinning, for callers that have their turn before it gives others theirs; then 0 may also mean that there is something
 * else to do first: see sb__mailbox_turns(). */
int sb__mailbox_accept_next(struct sb__mailbox *mailbox, struct sb__arena_cache *peers, struct sb__taking *at,
                            void *scratch, struct sb__accepted *ret);
/* May callers have to wait for their turn, so that it matters how long calls take (sb__accepted, took_ns)? */
bool sb__mailbox_has_turns(struct sb__mailbox *mailbox);
/* Is there one that waits for its caller's turn? Whoever leaves the mailbox then has to ring for it. */
bool sb__mailbox_turns(struct sb__mailbox *mailbox);
/* Is there a request that nobody has taken? */
bool sb__mailbox_waiting(struct sb__mailbox *mailbox);
/* The leader, who found no request: waits for one a moment, spinning, unless that was in vain of late. True: there may be one.
 * False also where there is something else to do. spin: of this thread. */
struct sb__spin;
bool sb__mailbox_linger(struct sb__mailbox *mailbox, struct sb__bell *bell, struct sb__taking *at,
                        struct sb__spin *spin);
/* After the arrays in the request were kept: does its caller still wait, so that they are what it sent? */
bool sb__accepted_stands(struct sb__mailbox *mailbox, const struct sb__accepted *call);
/* Where to write the reply: buf starts inside the lane. */
void sb__accepted_reply(struct sb__mailbox *mailbox, const struct sb__accepted *call, struct sb__buf *buf);
/* Publishes the reply (buf and call->request are freed); wakes the caller. Returns false if the caller had
 * abandoned it (the lane was freed), or if the reply did not fit anywhere and the caller was told so
 * instead: then the refs created for it are nobody's. Spills through arena, which must outlive the mailbox. */
bool sb__accepted_complete(struct sb__mailbox *mailbox, struct sb__accepted *call, struct sb__buf *buf,
                           struct sb__arena *arena);

/* ── asking the caller (lane_ask.c) ── */

/* What a thread that waits for an answer asks of the layers above, all without a lock. */
struct sb__asking {
	void (*parking)(void *arg); /* it is going to sleep */
	bool (*alive)(void *arg);   /* does the caller live? Some microseconds */
	bool (*stopped)(void *arg); /* is there another reason to stop waiting? */
	void *arg;
};
enum sb__asked {
	SB__ASKED_ANSWERED,
	SB__ASKED_STOPPED, /* cancelled, or stopped() */
	SB__ASKED_LATE,    /* the call's deadline passed */
	SB__ASKED_ENDED,   /* the session did */
	SB__ASKED_GONE,    /* the caller is dead, or gave up */
	SB__ASKED_FAILED   /* the question or the answer cannot be had: error record set */
};
/* Asks, and waits for the answer, whose bytes are appended. One at a time per call, which is askable; followed by
 * sb__accepted_answered() whatever came of it. */
enum sb__asked sb__accepted_ask(struct sb__mailbox *mailbox, struct sb__accepted *call,
                                const struct sb__buf *question, struct sb__arena *arena,
                                struct sb__arena_cache *peers, const struct sb__asking *asking,
                                struct sb__buf *answer);
/* The arrays in the answer were kept, or it is not to be had. */
void sb__accepted_answered(struct sb__mailbox *mailbox, struct sb__accepted *call);
/* Frees reply blocks whose caller has consumed them or died. Called now and then. */
void sb__mailbox_sweep_replies(struct sb__mailbox *mailbox, struct sb__arena *arena);

/* ── owner, reaper ── */

/* Maps all lanes that there are, so that none is passed over in what follows. 0, SB_ERELEASED (its file is gone),
 * SB_EPROTOCOL, SB_ESYSTEM, SB_ENOMEM. */
int sb__mailbox_map_lanes(struct sb__mailbox *mailbox);
/* Takes back every lane claimed by (slot, generation), known to be dead: frees or abandons by CAS on the
 * exact word seen. Returns how many. owner_dead: the mailbox's owner is known to be dead, so BUSY may be
 * freed. */
uint32_t sb__mailbox_reclaim(struct sb__mailbox *mailbox, uint32_t slot, uint32_t generation,
                             bool owner_dead);

/* ── inspect ── */

struct sb__lane_view {
	uint32_t lane;
	unsigned state;
	uint32_t sequence, slot, generation;
	int32_t caller_pid;
	uint64_t trace_id, published_ns, accepted_ns, deadline_ns;
	char label[SB__LABEL_MAX + 1];
	bool asking; /* its owner waits for a callback */
	bool torn;   /* the lane moved while it was read */
};
/* What can be had of a mailbox without mapping it, which takes ten times as long: for looks at thousands of them. */
struct sb__mailbox_peek {
	unsigned state;
	uint64_t live_refs;
	uint32_t lanes_torn; /* moved while they were read */
};
/* Reads it, and calls lane for the word of each lane that is not FREE. 0, SB_ERELEASED (there is none), and what
 * sb__mailbox_attach() returns. */
int sb__mailbox_peek(int mailbox_dir, uint64_t incarnation, void (*lane)(void *arg, uint64_t word), void *arg,
                     struct sb__mailbox_peek *ret);
/* Views of all lanes that are not FREE; returns how many there are, fills up to max. */
uint32_t sb__mailbox_view(struct sb__mailbox *mailbox, struct sb__lane_view *views, uint32_t max);

#endif
