/* SPDX-License-Identifier: Apache-2.0 */
/* What host.c and serve.c share: the designated owner's side of a bridge. */
#ifndef SB_SESSION_HOST_IMPL_H
#define SB_SESSION_HOST_IMPL_H

#include "core.h"
#include "engine.h"
#include "refrows.h"

/* A session incarnation whose objects this process holds. */
struct sb__hosted {
	struct sb__host *host;
	struct sb__session_rec rec;
	struct sb__mailbox *mailbox;
	struct sb__refrows *rows;
	struct sb__table *table;   /* NULL once the keeper dropped it */
	uint32_t bell_index;
	unsigned refs;             /* slot, attachments, whoever looks */
	unsigned users;            /* calls running on the table */
	bool whole;                /* made; until then it only keeps its slot */
	bool ended, buried;
	struct sb__hosted *next_dead;
	_Atomic uint64_t calls, service_ns; /* what they took, in all */
	uint64_t stored_live, next_expire; /* keeper only */
};

struct sb__worker; /* a service thread; serve.c */

struct sb__host {
	struct sb__core *core;
	const struct sb__engine *engine;
	struct sb__bell bell;
	pthread_mutex_t lock;
	pthread_cond_t changed;    /* a session ended, work for the keeper, stopping; CLOCK_MONOTONIC */
	struct sb__hosted *slots[SB__BELL_SESSIONS];
	uint32_t top, count;       /* slots ever used; sessions now */
	struct sb__hosted *dead;   /* ended, idle: the keeper drops their objects */
	pthread_t keeper;
	bool keeper_ready, keeper_idle, dirty;
	uint64_t swept_ms;         /* keeper only */
	_Atomic bool stopping;
	_Atomic(struct sb__worker *) leader;
	struct sb__worker *workers; /* all that were started and not joined */
	unsigned worker_count, standby_count;
};

bool sb__hosted_begin(struct sb__hosted *hosted); /* false: it ended */
void sb__hosted_finish(struct sb__hosted *hosted);
struct sb__hosted *sb__hosted_at(struct sb__host *host, uint32_t index); /* referenced, or NULL */
void sb__hosted_mirror(struct sb__hosted *hosted); /* private counts to the control page */

/* Starts fn in a thread that gets no signals. */
int sb__thread_start(pthread_t *ret, void *(*fn)(void *), void *arg);

int sb__serve_start(struct sb__host *host);
void sb__serve_stop(struct sb__host *host); /* after stopping was set: waits for the calls that run */

#endif
