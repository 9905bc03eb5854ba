/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service threads: take requests from the mailboxes that the bell names, run them, reply.
 *
 * One thread leads: it takes sessions with work off the bell and runs their calls itself, so that a call
 * costs no hand-over. One stands by. A caller whose request was not picked up within a few milliseconds
 * nudges the one standing by, which takes the lead from a leader stuck in a long call (relief.c says when) and leaves another
 * standing by. So a hung call holds up no other session, nested calls between sessions find a thread, and
 * nothing ticks when nothing happens.
 *
 * Threads are shared out: a session gets one more only while more are free than half of what it has. So one whose calls all
 * hang has two thirds of them, a second such session two thirds of the rest, and some are left for a session that has none.
 *
 * Crash: a call that was accepted stays BUSY; its caller sees this process's death and reports «unknown».
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "asked.h"
#include "clock.h"
#include "fail.h"
#include "message.h"
#include "os_linux.h"
#include "point.h"
#include "spin.h"
#include "worker.h"

#define BATCH   32    /* calls of one session before the next session's turn */
#define SPIN_NS 20000 /* before the leader parks; not on the CPU of whoever calls */
#define IDLE_NS \
	10000000000ull  /* a parked thread's sleep: nothing depends on it but lost bits of killed callers */
#define STANDBY_SPARE 2 /* more than this many standing by end themselves */

static bool leads(const struct sb__worker *w)
{
	return atomic_load_explicit(&w->host->leader, memory_order_acquire) == w &&
	       !atomic_load(&w->host->stopping);
}

/* Where this thread's running call will write its reply: in the caller's lane. */
static __thread struct sb__buf *reply_in_lane;

void sb__serve_forked_child(void)
{
	/* The called code did os.fork(): what it does from here on must not reach the lane, which is the parent's
	 * to answer. */
	if (reply_in_lane)
		sb__buf_init(reply_in_lane, NULL, 0);
}

/* The call that runs, for whoever asks whether it is wanted. */
struct asked {
	const struct sb__hosted *hosted;
	const struct sb__accepted *call;
};

static bool stands(void *arg)
{
	const struct asked *asked = arg;

	/* One that was killed may not have been found dead yet. */
	return sb__accepted_stands(asked->hosted->mailbox, asked->call) &&
	       sb__caller_lives(asked->hosted, asked->call);
}

/* A word in a lane is a claim, so the slot may be any. */
static void meet(struct sb__host *host, uint32_t slot, uint32_t generation)
{
	if (slot < SB__SLOTS_MAX &&
	    atomic_load_explicit(&host->met[slot], memory_order_relaxed) != generation + 1)
		sb__watcher_meet(host, slot, generation);
}

/* A call's thread is going to sleep until its caller has answered: who leads must not. */
static void hand_over_lead(void *arg)
{
	struct sb__worker *w = arg;

	if (!leads(w))
		return;
	atomic_store(&w->parks, true);
	sb__bell_nudge(&w->host->bell);
}

/* Only this thread writes these, and whoever reads them looks again: relaxed, but for what must be seen before a nudge. */
static void progress(struct sb__worker *w)
{
	uint64_t steps = atomic_load_explicit(&w->steps, memory_order_relaxed);

	atomic_store_explicit(&w->steps, steps + 1, memory_order_relaxed);
}

static void call_begins(struct sb__worker *w, uint64_t now_ns)
{
	progress(w);
	atomic_store_explicit(&w->began_ns, now_ns, memory_order_release);
}

static void call_ends(struct sb__worker *w)
{
	atomic_store_explicit(&w->began_ns, 0, memory_order_release);
	if (atomic_load_explicit(&w->parks, memory_order_relaxed))
		atomic_store(&w->parks, false);
}

/* Before each look for a call: in Python, and since others may have waited for it, offered to them. True: that may have taken
 * long. */
static bool enter(struct sb__worker *w)
{
	bool waited;

	progress(w);
	atomic_store_explicit(&w->entering, true, memory_order_release);
	waited = w->host->engine->batch_begin();
	atomic_store_explicit(&w->entering, false, memory_order_release);
	return waited;
}

/* Returns when it ended. */
static uint64_t run(struct sb__worker *w, struct sb__hosted *h, struct sb__accepted *call, uint64_t began_ns)
{
	struct sb__host *host = w->host;
	struct asked asked = { h, call };
	struct sb__call_origin origin = { .pid = call->caller_pid,
		                          .trace_id = call->trace_id,
		                          .key = sb__call_key(call->lane, call->word),
		                          .slot = call->caller_slot,
		                          .generation = call->caller_generation,
		                          .deadline_ns = call->deadline_ns,
		                          .stands = stands,
		                          .stands_arg = &asked,
		                          .kept = &call->kept };
	struct sb__asks asks = { .hosted = h, .call = call, .parking = hand_over_lead, .arg = w };
	struct sb__asker asker;
	uint64_t epoch = sb__fork_epoch(), ended_ns;
	struct sb__buf reply;
	uint64_t made;
	unsigned kind;
	bool delivered;

	call_begins(w, began_ns);
	meet(host, call->caller_slot, call->caller_generation);
	if (call->askable) {
		asker = sb__asks_asker(&asks);
		origin.asker = &asker;
	}
	sb__accepted_reply(h->mailbox, call, &reply);
	reply_in_lane = &reply;
	made = host->engine->execute(h->table, &origin, call->request.data, call->request.len, &reply);
	reply_in_lane = NULL;
	SB_POINT("serve.executed");
	if (sb__fork_epoch() != epoch)
		_exit(0); /* the child came back: of this process's threads only this one exists */
	kind = sb__reply_kind(&reply);
	if (sb__mailbox_has_turns(h->mailbox))
		call->took_ns = sb__now_ns() - began_ns;
	delivered = sb__accepted_complete(h->mailbox, call, &reply, host->core->arena);
	/* If not, its caller is gone: the refs in it are nobody's. */
	if (made & SB__ENGINE_TELL || (made && !delivered)) {
		host->engine->settle(h->table, made, delivered);
		SB_POINT("serve.settled"); /* what a stream gave is gone from it, or there again */
	}
	ended_ns = sb__now_ns();
	sb__hosted_count(h, kind, ended_ns - began_ns);
	call_ends(w);
	return ended_ns;
}

struct serving {
	struct sb__worker *w;
	struct sb__hosted *h;
	struct sb__taking at;
	struct sb__accepted call; /* accepted, not run: if more */
	bool more;                /* there may be more */
};

/* Whose turn it is is the session's matter, not the thread's: one that relieves another goes on where that one is. */
static bool accept_next(struct serving *s)
{
	int rc;

	s->at.cursor = atomic_load_explicit(&s->h->cursor, memory_order_relaxed);
	rc = sb__mailbox_accept_next(s->h->mailbox, s->w->host->core->arenas, &s->at, s->w->scratch,
	                             &s->call);
	atomic_store_explicit(&s->h->cursor, s->at.cursor, memory_order_relaxed);
	return rc == 1;
}

/* The next call of the session; perhaps it comes while this thread waits a moment, with the GIL and all that it has. */
static bool next_call(struct serving *s)
{
	struct sb__worker *w = s->w;

	for (;;) {
		if (enter(w))
			s->at.now_ns = 0;
		if (accept_next(s))
			return true;
		if (!sb__mailbox_linger(s->h->mailbox, &w->host->bell, &s->at, &w->linger) || !leads(w))
			return false;
	}
}

/* It begins now, or a moment ago, when this thread looked at the clock while it waited for it. */
static void run_accepted(struct serving *s)
{
	uint64_t began_ns = s->at.now_ns ? s->at.now_ns : sb__now_ns();

	s->at.now_ns = run(s->w, s->h, &s->call, began_ns);
}

/* The call that was accepted, and what follows it, up to a batch. */
static void run_more(void *arg)
{
	struct serving *s = arg;

	for (int i = 1; s->more && i < BATCH; i++) {
		run_accepted(s);
		if (!leads(s->w))
			return;
		if (i + 1 < BATCH)
			s->more = next_call(s);
	}
}

/* Calls of one session, up to a batch. A first one alone is not worth what makes those after it cheaper. */
static void run_batch(struct serving *s)
{
	struct sb__worker *w = s->w;

	s->more = accept_next(s);
	if (!s->more)
		return;
	run_accepted(s);
	if (!leads(w))
		return;
	s->more = next_call(s);
	if (s->more)
		w->host->engine->within(s->h->table, run_more, s);
}

static bool within_share(const struct sb__host *host, const struct sb__hosted *h)
{
	unsigned all = (unsigned)sb__core_number(host->core, SB__CONFIG_MAX_THREADS);
	unsigned running = atomic_load(&host->running), own = atomic_load(&h->running);

	return own == 0 || (running < all && own < 2 * (all - running));
}

/*
 * May this thread run calls of the session? If not they stay in their lanes until a thread that runs one is done with it.
 * Whoever is held back says so, then looks again; whoever is done lowers the count, then looks whether one is held back
 * (each a full barrier): so one of them sees the other.
 */
static bool share_take(struct sb__host *host, struct sb__hosted *h)
{
	if (!within_share(host, h)) {
		atomic_store(&h->held_back, true);
		if (!within_share(host, h))
			return false;
	}
	atomic_fetch_add(&host->running, 1);
	atomic_fetch_add(&h->running, 1);
	return true;
}

static void share_give(struct sb__host *host, struct sb__hosted *h)
{
	atomic_fetch_sub(&host->running, 1);
	atomic_fetch_sub(&h->running, 1);
	if (atomic_load(&h->held_back) && atomic_exchange(&h->held_back, false))
		sb__bell_ring(&host->bell, h->bell_index);
}

static void serve_session(struct sb__worker *w, uint32_t index)
{
	struct sb__hosted *h = sb__hosted_at(w->host, index);

	if (!h)
		return;
	if (sb__mailbox_state(h->mailbox) != SB__MAILBOX_SERVING) {
		sb__hosted_overheard(h);
	} else if (sb__hosted_begin(h)) {
		struct serving s = { .w = w, .h = h, .at = { .bell = &w->host->bell } };

		sb__hosted_attend(h, false);
		if (share_take(w->host, h)) {
			atomic_store_explicit(&w->serving, index + 1, memory_order_release);
			run_batch(&s);
			atomic_store_explicit(&w->serving, 0, memory_order_release);
			share_give(w->host, h);
		}
		sb__hosted_finish(h);
		if (s.more || sb__mailbox_turns(h->mailbox))
			sb__bell_ring(&w->host->bell, index);
	}
	sb__hosted_put(h);
}

static void lead(struct sb__worker *w)
{
	struct sb__host *host = w->host;
	uint32_t cursor;

	while (leads(w)) {
		int index;

		(void)enter(w);
		cursor = atomic_load_explicit(&host->cursor, memory_order_relaxed);
		index = sb__bell_take(&host->bell, &cursor);
		atomic_store_explicit(&host->cursor, cursor, memory_order_relaxed);
		if (index >= 0) {
			serve_session(w, (uint32_t)index);
			continue;
		}
		host->engine->batch_end();
		sb__bell_sleep(&host->bell, IDLE_NS, SPIN_NS);
	}
	host->engine->batch_end();
}

static void *worker_main(void *arg);

/* Adds a thread to stand by. With host->lock held. */
static int add_worker_locked(struct sb__host *host)
{
	struct sb__worker *w;
	int err;

	if (host->worker_count >= sb__core_number(host->core, SB__CONFIG_MAX_THREADS))
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return sb__fail_memory("a service thread");
	w->host = host;
	err = sb__thread_start(&w->thread, worker_main, w);
	if (err) {
		free(w);
		return err;
	}
	w->next = host->workers;
	host->workers = w;
	host->worker_count++;
	host->standby_count++;
	return 0;
}

void sb__serve_take_lead_locked(struct sb__worker *w)
{
	struct sb__host *host = w->host;

	host->standby_count--;
	if (host->standby_count == 0 && add_worker_locked(host) != 0)
		sb__log(SB_LOG_WARN, "no further service thread: %s", sb_last_error()->message);
	atomic_store_explicit(&host->leader, w, memory_order_release);
}

/* Back from leading: stands by again, or ends where enough do. */
static bool stand_by_again(struct sb__worker *w)
{
	struct sb__host *host = w->host;
	bool stay;

	pthread_mutex_lock(&host->lock);
	stay = host->standby_count < STANDBY_SPARE;
	if (stay)
		host->standby_count++;
	pthread_mutex_unlock(&host->lock);
	return stay;
}

/* Ends this thread by itself: true; unless the host stops just now: then it is joined. */
static bool leave(struct sb__worker *w)
{
	struct sb__host *host = w->host;
	struct sb__worker **at;

	pthread_mutex_lock(&host->lock);
	for (at = &host->workers; *at && *at != w; at = &(*at)->next)
		;
	if (*at) {
		*at = w->next;
		host->worker_count--;
	} else {
		w = NULL;
	}
	pthread_mutex_unlock(&host->lock);
	if (!w)
		return false;
	pthread_detach(pthread_self());
	free(w);
	return true;
}

static void *worker_main(void *arg)
{
	struct sb__worker *w = arg;
	struct sb__host *host = w->host;

	atomic_store(&w->cpu_clock, sb__os_cpu_clock());
	host->engine->thread_begin(); /* there was memory for its stack just now */
	while (!atomic_load(&host->stopping)) {
		bool first;

		pthread_mutex_lock(&host->lock);
		first = !atomic_load(&host->leader);
		if (first)
			sb__serve_take_lead_locked(w);
		pthread_mutex_unlock(&host->lock);
		if (!first && (!sb__bell_standby(&host->bell, IDLE_NS) || !sb__relief(w)))
			continue;
		lead(w);
		if (!atomic_load(&host->stopping) && !stand_by_again(w)) {
			if (leave(w))
				return NULL;
			break;
		}
	}
	pthread_mutex_lock(&host->lock);
	w->done = true;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	return NULL;
}

int sb__serve_start(struct sb__host *host)
{
	int err;

	pthread_mutex_lock(&host->lock);
	err = add_worker_locked(host);
	if (!err)
		err = add_worker_locked(host);
	pthread_mutex_unlock(&host->lock);
	return err;
}

/* Takes one that is done off the list; NULL if none is. */
static struct sb__worker *take_done_locked(struct sb__host *host)
{
	struct sb__worker **at = &host->workers, *w;

	while (*at && !(*at)->done)
		at = &(*at)->next;
	w = *at;
	if (w)
		*at = w->next;
	return w;
}

bool sb__serve_stop(struct sb__host *host, uint64_t timeout_ms)
{
	uint64_t ns = sb__now_ns() + timeout_ms * UINT64_C(1000000);
	struct timespec until = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	int rc = 0;

	sb__bell_wake_all(&host->bell);
	pthread_mutex_lock(&host->lock);
	while (host->workers && rc != ETIMEDOUT) {
		struct sb__worker *w = take_done_locked(host);

		if (!w) {
			rc = pthread_cond_timedwait(&host->changed, &host->lock, &until);
			continue;
		}
		pthread_mutex_unlock(&host->lock);
		pthread_join(w->thread, NULL);
		free(w);
		pthread_mutex_lock(&host->lock);
	}
	for (struct sb__worker *w = host->workers; w; w = w->next)
		pthread_detach(w->thread);
	rc = host->workers == NULL;
	pthread_mutex_unlock(&host->lock);
	return rc;
}
