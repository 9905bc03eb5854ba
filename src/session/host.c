/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The designated owner's side: hosted sessions, starting and stopping. Serving threads: serve.c; the keeper: keeper.c.
 *
 * One host per bridge and process: one bell for all its sessions.
 *
 * Lock order: host->lock is a leaf but for the store's; never held while waiting for the GIL.
 *
 * Crash: everything here is private memory; what is shared (bell, mailboxes, records) is tidied by the
 * reaper, and callers see the alive mutex.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "fail.h"
#include "host_impl.h"
#include "message.h"
#include "note.h"
#include "os_linux.h"
#include "point.h"
#include "way.h"

#define MS UINT64_C(1000000)

#define WAIT_POLL_NS \
	UINT64_C(100000000) /* between looks at stop, where the kernel cannot wait for several words */

/* ── hosted sessions ── */

struct sb__hosted *sb__host_find(struct sb__core *core, uint64_t incarnation)
{
	struct sb__host *host = core->host;
	struct sb__hosted *found;
	struct sb__index_node *n;

	if (!host)
		return NULL;
	pthread_mutex_lock(&host->lock);
	n = sb__index_find(&host->incarnations, sb__index_number(incarnation));
	while (n && SB__INDEX_OF(n, struct sb__hosted, by_incarnation)->rec.incarnation != incarnation)
		n = sb__index_find_next(&host->incarnations, n);
	found = n ? SB__INDEX_OF(n, struct sb__hosted, by_incarnation) : NULL;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&host->lock);
	return found;
}

static void hosted_free(struct sb__hosted *h)
{
	sb__mailbox_detach(h->mailbox);
	if (h->rows)
		sb__refrows_destroy(h->rows);
	free(h);
}

static void put_locked(struct sb__hosted *h, struct sb__hosted **ret_free)
{
	*ret_free = --h->refs == 0 ? h : NULL;
}

void sb__hosted_put(struct sb__hosted *h)
{
	struct sb__host *host = h->host;
	struct sb__hosted *dead;

	pthread_mutex_lock(&host->lock);
	put_locked(h, &dead);
	pthread_mutex_unlock(&host->lock);
	if (dead)
		hosted_free(dead);
}

static void slot_free_locked(struct sb__hosted *h)
{
	struct sb__host *host = h->host;

	host->slots[h->bell_index] = NULL;
	host->slots_taken[h->bell_index / 64] &= ~(UINT64_C(1) << (h->bell_index % 64));
	host->count--;
}

/* Hands an ended session without running calls to the keeper, which may wait for the GIL. */
static void bury_if_idle_locked(struct sb__hosted *h)
{
	if (atomic_load(&h->users) != SB__HOSTED_ENDED || h->buried)
		return;
	h->buried = true;
	h->refs++;
	h->next_dead = h->host->dead;
	h->host->dead = h;
	pthread_cond_broadcast(&h->host->changed);
}

void sb__hosted_end(struct sb__hosted *h)
{
	struct sb__host *host = h->host;
	struct sb__hosted *dead = NULL;
	unsigned was;

	pthread_mutex_lock(&host->lock);
	was = atomic_fetch_or(&h->users, SB__HOSTED_ENDED);
	if (!(was & SB__HOSTED_ENDED)) {
		sb__index_remove(&host->incarnations, &h->by_incarnation);
		slot_free_locked(h);
		sb__due_remove_locked(h);
		if (was) { /* nobody waits for these calls any more */
			h->refs++;
			h->next_ending = host->ending;
			host->ending = h;
			pthread_cond_broadcast(&host->changed);
		} else if (!h->overheard && host->engine->table_discard(h->table)) {
			h->table = NULL; /* nothing for the keeper */
			h->buried = true;
		}
		bury_if_idle_locked(h);
		put_locked(h, &dead); /* the slot's reference; never the last, somebody called us with one */
		__atomic_add_fetch(&host->ends, 1,
		                   __ATOMIC_SEQ_CST); /* whoever waits counts itself, then reads it */
	}
	pthread_mutex_unlock(&host->lock);
	if (__atomic_load_n(&host->end_waiters, __ATOMIC_SEQ_CST))
		(void)sb__os_futex_wake(&host->ends, INT_MAX);
}

void sb__hosted_overheard(struct sb__hosted *h)
{
	pthread_mutex_lock(&h->host->lock);
	h->overheard = true;
	pthread_mutex_unlock(&h->host->lock);
	sb__hosted_end(h);
}

void sb__hosted_retire(struct sb__hosted *h)
{
	/* A call that runs on may make its first ref yet. */
	bool refs = atomic_load(&h->users) != SB__HOSTED_ENDED || sb__refrows_made(h->rows);

	sb__mailbox_retire(h->mailbox, refs);
}

bool sb__hosted_begin(struct sb__hosted *h)
{
	if (!(atomic_fetch_add(&h->users, 1) & SB__HOSTED_ENDED))
		return true;
	sb__hosted_leave(h);
	return false;
}

void sb__hosted_leave(struct sb__hosted *h)
{
	if (atomic_fetch_sub(&h->users, 1) != (SB__HOSTED_ENDED | 1))
		return;
	pthread_mutex_lock(&h->host->lock);
	bury_if_idle_locked(h);
	pthread_mutex_unlock(&h->host->lock);
}

static void set_dirty(struct sb__hosted *h)
{
	struct sb__host *host = h->host;

	pthread_mutex_lock(&host->lock);
	if (!atomic_load(&h->dirty) && !sb__hosted_has_ended(h)) {
		atomic_store(&h->dirty, true);
		h->refs++;
		h->next_dirty = host->dirty_list;
		host->dirty_list = h;
	}
	if (!atomic_load(&host->dirty)) {
		atomic_store(&host->dirty, true);
		if (host->keeper_idle)
			pthread_cond_broadcast(&host->changed);
	}
	pthread_mutex_unlock(&host->lock);
}

void sb__hosted_finish(struct sb__hosted *h)
{
	/* Counts, then this swap, then these flags: the keeper takes the flags back before it reads the counts. */
	sb__hosted_leave(h);
	if (!atomic_load(&h->dirty) || !atomic_load(&h->host->dirty))
		set_dirty(h);
}

struct sb__hosted *sb__hosted_at(struct sb__host *host, uint32_t index)
{
	struct sb__hosted *h;

	pthread_mutex_lock(&host->lock);
	h = index < host->top ? host->slots[index] : NULL;
	if (h && !h->whole)
		h = NULL;
	if (h)
		h->refs++;
	pthread_mutex_unlock(&host->lock);
	return h;
}

struct sb__mailbox *sb__hosted_mailbox(struct sb__hosted *h)
{
	return h->mailbox;
}

struct sb__bell *sb__host_bell(struct sb__core *core)
{
	return core->host ? &core->host->bell : NULL;
}

void sb__hosted_mirror(struct sb__hosted *h)
{
	struct sb__mailbox_control_shm *control = sb__mailbox_control(h->mailbox);
	struct sb__table_counts counts;

	h->host->engine->counts(h->table, &counts);
	sb__store(&control->live_refs, counts.live);
	sb__store(&control->evicted_refs, counts.evicted);
	sb__store(&control->expired_refs, counts.expired);
	sb__store(&control->created_refs, counts.created);
	sb__store(&control->pinned_refs, counts.pinned);
	sb__store(&control->calls, atomic_load_explicit(&h->calls, memory_order_relaxed));
	sb__store(&control->exceptions, atomic_load_explicit(&h->exceptions, memory_order_relaxed));
	sb__store(&control->refused, atomic_load_explicit(&h->refused, memory_order_relaxed));
	sb__store(&control->service_ns, atomic_load_explicit(&h->service_ns, memory_order_relaxed));
}

static void count_more(struct sb__hosted *h, unsigned kind, uint64_t service_ns)
{
	if (kind == SB__REPLY_EXCEPTION || kind == SB__REPLY_FAILED)
		atomic_fetch_add_explicit(&h->exceptions, 1, memory_order_relaxed);
	else if (kind == SB__REPLY_REFUSED)
		atomic_fetch_add_explicit(&h->refused, 1, memory_order_relaxed);
	if (service_ns)
		atomic_fetch_add_explicit(&h->service_ns, service_ns, memory_order_relaxed);
	sb__hosted_mirror(h);
}

void sb__hosted_count(struct sb__hosted *h, unsigned kind, uint64_t took_ns)
{
	atomic_fetch_add_explicit(&h->calls, 1, memory_order_relaxed);
	count_more(h, kind, took_ns);
}

/* By the clock that moves every few milliseconds: one call in so many is found to have taken so many times as long, which comes
 * to the same in all, and spares two looks at the other clock. */
static uint64_t own_took_ns(const struct sb__own_call *call)
{
	uint64_t began = call->way->began_ms, ended = call->request->ended_ms;

	return ended > began ? (ended - began) * MS : 0;
}

static void count_own(struct sb__hosted *h, const struct sb__own_call *call, unsigned kind)
{
	uint64_t calls = atomic_fetch_add_explicit(&h->calls, 1, memory_order_relaxed) + 1;
	uint64_t service_ns = own_took_ns(call);

	if (call->request->changed || kind != SB__REPLY_VALUE || service_ns)
		count_more(h, kind, service_ns);
	else
		sb__store(&sb__mailbox_control(h->mailbox)->calls, calls);
}

int sb__hosted_execute(struct sb__hosted *h, const struct sb__own_call *call, struct sb__buf *reply,
                       struct sb__kept_list *kept)
{
	const struct sb__engine *engine = h->host->engine;
	const struct sb__identity *self = &h->host->core->self;
	struct sb__call_origin origin = { .pid = self->pid,
		                          .trace_id = call->way->trace_id,
		                          .slot = self->slot,
		                          .generation = self->generation,
		                          .deadline_ns = call->way->deadline_ns,
		                          .began_ms = call->way->began_ms,
		                          .kept = kept,
		                          .asker = call->asker };
	uint64_t made;

	if (!sb__hosted_begin(h)) {
		int err = sb__fail(SB_ERELEASED, "session \"%s\" ended; open it again, its old refs are gone",
		                   h->rec.session_id);

		sb__fail_set_outcome(SB_OUTCOME_REFUSED);
		return err;
	}
	made = engine->execute_own(h->table, &origin, call->request, reply);
	if (!sb__core_is_ours(h->host->core))
		return 0; /* the called code did os.fork(): in the child this host is the parent's */
	if (made & SB__ENGINE_TELL)
		engine->settle(h->table, made, true);
	count_own(h, call, sb__reply_kind(reply));
	sb__hosted_finish(h);
	return 0;
}

/* ── making one ── */

static int slot_take(struct sb__host *host, struct sb__hosted *h)
{
	int err = 0;
	uint32_t w = 0, i;

	pthread_mutex_lock(&host->lock);
	while (w < SB__BELL_SESSIONS / 64 && !~host->slots_taken[w])
		w++;
	if (w == SB__BELL_SESSIONS / 64) {
		err = sb__fail(
			SB_ENOMEM,
			"this process serves %u sessions already: release some, or use another process",
			SB__BELL_SESSIONS);
	} else {
		i = w * 64 + (uint32_t)__builtin_ctzll(~host->slots_taken[w]);
		host->slots_taken[w] |= UINT64_C(1) << (i % 64);
		host->slots[i] = h;
		host->count++;
		h->bell_index = i;
		if (host->top <= i)
			host->top = i + 1;
	}
	pthread_mutex_unlock(&host->lock);
	return err;
}

static int make_rows(struct sb__core *core, struct sb__hosted *h)
{
	return sb__refrows_create(core->dir.mailbox, h->rec.incarnation, h->rec.max_refs, &h->rows);
}

static int make_table(struct sb__core *core, struct sb__hosted *h)
{
	struct sb__table_options options = {
		.incarnation = h->rec.incarnation,
		.max_refs = h->rec.max_refs,
		.max_refs_per_process = h->rec.max_refs_per_process,
		.error_on_full = h->rec.on_full == SB_ON_FULL_ERROR,
		.ttl_ms = h->rec.ttl_ms,
		.policy = h->rec.policy,
		.policy_len = h->rec.policy_len,
		.blocks = sb__space_blocks(core->space),
		.share = { h->rec.uid, h->rec.max_session_arena_bytes, h->rec.session_id },
		.heap_bytes = sb__core_number(core, SB__CONFIG_NUMPY_ARENA_BYTES),
		.rows = { h->rows, sb__refrows_set, sb__refrows_touch, sb__refrows_pins, sb__refrows_clear }
	};

	return h->host->engine->table_create(&options, &h->table);
}

static int make_mailbox(struct sb__core *core, struct sb__hosted *h)
{
	struct sb__mailbox_params params = {
		.incarnation = h->rec.incarnation,
		.owner = core->self,
		.bell_index = h->bell_index,
		.max_refs = h->rec.max_refs,
		.ttl_ms = h->rec.ttl_ms,
		.session_id = h->rec.session_id,
		.pool = h->host->mailboxes,
		.max_request_bytes = sb__core_number(core, SB__CONFIG_MAX_REQUEST_BYTES),
		.max_lanes_per_process = (uint32_t)sb__core_number(core, SB__CONFIG_MAX_LANES)
	};

	return sb__mailbox_create(core->dir.mailbox, &params, &h->mailbox);
}

int sb__host_session(struct sb__core *core, const struct sb__session_rec *rec)
{
	struct sb__hosted *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return sb__fail_memory("a hosted session");
	h->host = core->host;
	h->rec = *rec;
	h->refs = 2; /* the slot's, and ours until it is whole */
	err = slot_take(h->host, h);
	if (err) {
		free(h);
		return err;
	}
	SB_POINT("host.slot_taken");
	err = make_rows(core, h);
	if (!err)
		err = make_table(core, h);
	if (!err)
		err = make_mailbox(core, h); /* last: it can be attached from now on */
	SB_POINT("host.mailbox_made");
	if (err) {
		pthread_mutex_lock(&h->host->lock);
		slot_free_locked(h);
		pthread_mutex_unlock(&h->host->lock);
		if (h->table)
			h->host->engine->table_destroy(h->table);
		if (h->rows)
			sb__refrows_destroy(h->rows);
		sb__mailbox_unlink(core->dir.mailbox, rec->incarnation);
		free(h);
		return err;
	}
	pthread_mutex_lock(&h->host->lock);
	h->whole = true; /* from now on others find it */
	sb__index_add(&h->host->incarnations, &h->by_incarnation, sb__index_number(rec->incarnation));
	sb__due_file_locked(h, sb__keeper_first_look(h));
	pthread_mutex_unlock(&h->host->lock);
	sb__hosted_put(h);
	return 0;
}

/* ── starting and stopping ── */

int sb__thread_start(pthread_t *ret, void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	int err;

	sb__turn_ordinary();
	/* The host program's signals are its own business: none is ever delivered to our threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? sb__fail_errno(SB_ESYSTEM, err, "starting a service thread") : 0;
}

/* Ends service threads and keeper. False: a call still runs, and its thread with it. */
static bool stop_threads(struct sb__host *host)
{
	bool ended;

	atomic_store(&host->stopping, true);
	ended = sb__serve_stop(host, sb__core_number(host->core, SB__CONFIG_CLOSE_TIMEOUT_MS));
	atomic_store(&host->keeper_stopping, true);
	pthread_mutex_lock(&host->lock);
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	pthread_join(host->keeper, NULL);
	return ended;
}

/* With all threads, or with none. */
static int start_threads(struct sb__host *host)
{
	int err = sb__thread_start(&host->keeper, sb__keeper_main, host);

	if (err)
		return err;
	pthread_mutex_lock(&host->lock);
	while (!host->keeper_ready)
		pthread_cond_wait(&host->changed, &host->lock);
	pthread_mutex_unlock(&host->lock);
	SB_POINT("host.kept");
	err = sb__serve_start(host);
	if (err)
		(void)stop_threads(host); /* at once: they serve nothing yet */
	return err;
}

static int host_start(struct sb__host *host)
{
	int err = sb__bell_create(host->core->dir.bell, &host->core->self, &host->bell);

	if (err)
		return err;
	err = start_threads(host);
	if (err) {
		sb__bell_detach(&host->bell);
		sb__bell_unlink(host->core->dir.bell, host->core->self.slot, host->core->self.generation);
	}
	return err;
}

static void host_free(struct sb__host *host)
{
	pthread_mutex_destroy(&host->lock);
	pthread_cond_destroy(&host->changed);
	sb__index_free(&host->incarnations);
	sb__mailbox_pool_free(host->mailboxes);
	free(host);
}

static struct sb__host *host_new(struct sb__core *core, const struct sb__engine *engine)
{
	struct sb__host *host = calloc(1, sizeof(*host));
	pthread_condattr_t attr;

	if (!host)
		return NULL;
	host->core = core;
	host->engine = engine;
	pthread_mutex_init(&host->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&host->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (sb__mailbox_pool_new(core->dir.mailbox, core->self.slot, core->self.generation,
	                         &host->mailboxes) != 0) {
		host_free(host);
		return NULL;
	}
	return host;
}

int sb__host_python(struct sb__core *core)
{
	struct sb__engine_options options = { .executable = core->python_executable };
	const struct sb__engine *engine;
	char error[512] = "";
	int err = sb__engine_load(&engine);

	if (err)
		return err;
	if (!options.executable)
		options.executable = sb__python_executable();
	err = engine->start(&options, error, sizeof(error));
	if (err)
		return sb__fail(err, "Python (%s) cannot be started in this process: %s", options.executable,
		                error);
	pthread_mutex_lock(&core->lock);
	if (!core->host) {
		struct sb__host *host = host_new(core, engine);

		err = host ? host_start(host) : sb__fail_memory("the designated owner's side");
		if (!err)
			core->host = host;
		else if (host)
			host_free(host);
	}
	pthread_mutex_unlock(&core->lock);
	return err;
}

/* Until a session of the host ends, stop is set by a signal handler, or ns passed. The kernel compares *stop as it goes to
 * sleep, and a handler interrupts the sleep: so none comes unnoticed between the caller's look and here. */
static void wait_for_end(struct sb__host *host, unsigned int seen, const volatile int *stop, uint64_t ns)
{
	struct sb__os_wait waits[2] = { { &host->ends, seen }, { (unsigned int *)(uintptr_t)stop, 0 } };
	int err = sb__os_futex_waitv(waits, stop ? 2 : 1, ns);

	if (err == 0 || err == -EAGAIN || err == -EINTR || err == -ETIMEDOUT)
		return;
	(void)sb__os_futex_wait(&host->ends, seen, ns < WAIT_POLL_NS ? ns : WAIT_POLL_NS);
}

bool sb__host_wait(struct sb__core *core, uint64_t incarnation, const volatile int *stop, uint32_t timeout_ms)
{
	uint64_t now = sb__now_ns(), until = now + timeout_ms * UINT64_C(1000000);
	struct sb__hosted *h = sb__host_find(core, incarnation);
	bool ended = !h;

	if (h)
		__atomic_add_fetch(&h->host->end_waiters, 1, __ATOMIC_SEQ_CST);
	for (; !ended && now < until && !(stop && *stop); now = sb__now_ns()) {
		unsigned int seen = __atomic_load_n(&h->host->ends, __ATOMIC_SEQ_CST);

		ended = sb__hosted_has_ended(h);
		if (!ended)
			wait_for_end(h->host, seen, stop, until - now);
	}
	if (h) {
		__atomic_sub_fetch(&h->host->end_waiters, 1, __ATOMIC_SEQ_CST);
		sb__hosted_put(h);
	}
	return ended;
}

/* Of a session that is not this host's any more. Whoever ended it may have been killed before it told the callers. Where the store
 * failed, the record is there and will be orphaned. */
static enum sb__mailbox_state how_it_ended(struct sb__core *core, uint64_t incarnation, int found)
{
	struct sb__grave_rec grave;

	if (found < 0)
		return SB__MAILBOX_ORPHANED;
	if (sb__store_grave(core->store, incarnation, &grave) != 1)
		return SB__MAILBOX_RELEASED;
	switch (grave.reason) {
	case SB__END_EXPIRED: return SB__MAILBOX_EXPIRED;
	case SB__END_OWNER_DIED: return SB__MAILBOX_ORPHANED;
	default: return SB__MAILBOX_RELEASED;
	}
}

/* Sessions that others still own lose their objects, and their callers are told so at once: calls that run here may go on
 * for a while. The rest had ended before. */
static void abandon_sessions(struct sb__host *host)
{
	struct sb__core *core = host->core;

	for (uint32_t i = 0; i < host->top; i++) {
		struct sb__hosted *h = sb__hosted_at(host, i);
		int rc;

		if (!h)
			continue;
		rc = sb__store_session_orphan(core->store, h->rec.session_id, h->rec.incarnation);
		SB_POINT("stop.orphaned");
		if (rc == 1) {
			sb__mailbox_end(h->mailbox, SB__MAILBOX_ORPHANED);
			SB_POINT("stop.told");
			sb__mailbox_unlink(core->dir.mailbox, h->rec.incarnation);
			sb__session_note(core, SB__EVENT_ORPHAN, &h->rec, core->self.pid,
			                 "its designated owner stopped serving");
		} else {
			sb__mailbox_end(h->mailbox, how_it_ended(core, h->rec.incarnation, rc));
		}
		sb__hosted_end(h);
		sb__hosted_put(h);
	}
}

bool sb__host_stop(struct sb__core *core)
{
	struct sb__host *host = core->host;
	const struct sb__engine *engine = sb__engine_loaded();
	void *gil;
	bool ended;

	if (!host)
		return true;
	gil = engine->gil_release(); /* those that we wait for need it */
	abandon_sessions(host);
	ended = stop_threads(host);
	SB_POINT("stop.keeper_ended");
	sb__watcher_stop(host);
	sb__bell_unlink(core->dir.bell, core->self.slot, core->self.generation);
	if (ended) {
		sb__keeper_bury(host);
		sb__watcher_free(host);
		sb__bell_detach(&host->bell);
		host_free(host);
		core->host = NULL;
	} else {
		sb__log(SB_LOG_WARN,
		        "closing the bridge: a call still runs after %llu ms; what it uses is left to it",
		        (unsigned long long)sb__core_number(core, SB__CONFIG_CLOSE_TIMEOUT_MS));
	}
	engine->gil_restore(gil);
	return ended;
}

void sb__host_forget_locked(struct sb__core *core)
{
	if (core->host)
		sb__watcher_forget(core->host);
	core->host = NULL; /* its threads, locks and Python objects are the parent's: left alone for ever */
}
