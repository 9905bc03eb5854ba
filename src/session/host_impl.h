/* SPDX-License-Identifier: Apache-2.0 */
/* What host.c, keeper.c, serve.c, watcher.c and cancel.c share: the designated owner's side of a bridge. */
#ifndef SB_SESSION_HOST_IMPL_H
#define SB_SESSION_HOST_IMPL_H

#include "core.h"
#include "engine.h"
#include "refrows.h"

/* A session incarnation whose objects this process holds. */
struct sb__hosted {
	struct sb__index_node by_incarnation; /* in the host's, from when it is whole until it ends */
	struct sb__host *host;
	struct sb__session_rec rec;
	struct sb__mailbox *mailbox;
	struct sb__refrows *rows;
	struct sb__table *table; /* NULL once the keeper dropped it */
	uint32_t bell_index;
	unsigned refs; /* slot, attachments, whoever looks */
	_Atomic unsigned
		users; /* calls running on the table, and SB__HOSTED_ENDED, which is set under the lock */
	_Atomic bool dirty; /* had calls since the keeper looked; changed under the lock */
	bool whole;         /* made; until then it only keeps its slot */
	bool buried;
	bool overheard; /* that it ended was seen in its mailbox, where a peer may have written anything */
	struct sb__hosted *next_dead, *next_dirty, *next_ending;
	uint64_t due_ms; /* when the keeper looks at it again; its place in the heap */
	uint32_t due_at; /* 1 + index there; 0 = not in it */
	_Atomic uint64_t calls, exceptions, refused, service_ns; /* service: what they took, in all */
	_Atomic uint64_t attention_seen;
	_Atomic bool missed;      /* then the engine did not know a call that was to be interrupted */
	_Atomic unsigned running; /* service threads that run its calls */
	_Atomic uint32_t cursor;  /* of its lanes: whose turn is next */
	_Atomic bool held_back;   /* has calls that were left in their lanes: serve.c, share */
	uint64_t stored_live, told_evicted; /* keeper only */
};

#define SB__HOSTED_ENDED 0x80000000u

static inline bool sb__hosted_has_ended(const struct sb__hosted *hosted)
{
	return atomic_load(&hosted->users) & SB__HOSTED_ENDED;
}

struct sb__worker;  /* a service thread; serve.c */
struct sb__watcher; /* watcher.c */

struct sb__host {
	struct sb__core *core;
	const struct sb__engine *engine;
	struct sb__bell bell;
	struct sb__mailbox_pool *mailboxes; /* those that are used again */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* work for the keeper, stopping; CLOCK_MONOTONIC */
	struct sb__hosted *slots[SB__BELL_SESSIONS];
	uint64_t slots_taken[SB__BELL_SESSIONS / 64];
	struct sb__index incarnations;
	_Atomic uint32_t top, count;    /* slots ever used; sessions now: changed under the lock */
	unsigned int ends, end_waiters; /* grows with each that ends: a futex; threads in sb__host_wait() */
	struct sb__hosted *dead;        /* ended, idle: the keeper drops their objects */
	struct sb__hosted *ending;      /* ended while calls run: the keeper interrupts these */
	struct sb__hosted *dirty_list;  /* had calls since the keeper looked */
	struct sb__hosted *due[SB__BELL_SESSIONS]; /* those with a TTL: a heap, the earliest first */
	uint32_t due_count;
	uint32_t glance; /* keeper only: where it goes on looking around */
	pthread_t keeper;
	bool keeper_ready, keeper_idle;
	uint64_t keeper_until_ms; /* so long it sleeps, if it does */
	_Atomic bool dirty;       /* one has become dirty; changed under the lock */
	uint64_t swept_ms;        /* keeper only */
	_Atomic bool stopping, keeper_stopping;
	_Atomic(struct sb__worker *) leader;
	struct sb__worker *workers; /* all that were started and not joined */
	_Atomic uint32_t cursor;    /* whose turn is next: where the last leader stopped */
	unsigned worker_count, standby_count;
	bool on_duty, nudged_again;  /* one that stands by watches the leader; another nudge came since */
	_Atomic unsigned running;    /* of these, those that run calls */
	struct sb__watcher *watcher; /* NULL until somebody else calls */
	_Atomic uint32_t met[SB__SLOTS_MAX]; /* callers: 1 + generation of the last of that slot */
};

bool sb__hosted_begin(struct sb__hosted *hosted);  /* false: it ended */
void sb__hosted_finish(struct sb__hosted *hosted); /* after a call: its counts have changed */
void sb__hosted_leave(struct sb__hosted *hosted);  /* after anything else */
struct sb__hosted *sb__hosted_at(struct sb__host *host, uint32_t index); /* referenced, or NULL */
/* One more call, answered so (SB__REPLY_…). */
void sb__hosted_count(struct sb__hosted *hosted, unsigned kind, uint64_t took_ns);
void sb__hosted_mirror(struct sb__hosted *hosted); /* private counts to the control page */

/* Starts fn in a thread that gets no signals. */
int sb__thread_start(pthread_t *ret, void *(*fn)(void *), void *arg);

int sb__serve_start(struct sb__host *host);
/* After stopping was set: waits for the calls that run. False: some still do; their threads are left alone, and host and
 * all that it names must stay for ever. */
bool sb__serve_stop(struct sb__host *host, uint64_t timeout_ms);

/* keeper.c */
void *sb__keeper_main(void *host);
void sb__keeper_bury(struct sb__host *host); /* drops the objects of ended sessions without running calls */
uint64_t sb__keeper_first_look(const struct sb__hosted *hosted);
/* With host->lock held. due_ms 0: never. */
void sb__due_file_locked(struct sb__hosted *hosted, uint64_t due_ms);
void sb__due_remove_locked(struct sb__hosted *hosted);

/* watcher.c */

/* A process calls that was not met before: from now on its death is known at once. */
void sb__watcher_meet(struct sb__host *host, uint32_t slot, uint32_t generation);
void sb__watcher_stop(struct sb__host *host);   /* after the service threads; waits for the thread */
void sb__watcher_free(struct sb__host *host);   /* after that */
void sb__watcher_forget(struct sb__host *host); /* in a forked child: closes what it inherited */

/* cancel.c: interrupts running calls of the session that were cancelled or abandoned. Between begin and finish. again: those that
 * were missed, too. */
void sb__hosted_attend(struct sb__hosted *hosted, bool again);

#endif
