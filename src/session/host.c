/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The designated owner's side: hosted sessions and the keeper thread. Serving threads: serve.c.
 *
 * One host per bridge and process: one bell for all its sessions. The keeper holds the bell's alive mutex
 * for as long as it runs: when it ends, by any death or because the host stops, callers learn at once.
 * It drops the objects of ended sessions, mirrors counts to the store, and enforces TTLs by time.
 *
 * Lock order: host->lock is a leaf but for the store's; never held while waiting for the GIL.
 *
 * Crash: everything here is private memory; what is shared (bell, mailboxes, records) is tidied by the
 * reaper, and callers see the alive mutex.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "fail.h"
#include "host_impl.h"
#include "os_linux.h"
#include "sweep.h"

#define MIRROR_MS 100  /* live ref counts reach the store this soon */
#define IDLE_TICK_MS 1000
#define SWEEP_BUDGET_MS 5

/* ── hosted sessions ── */

struct sb__hosted *sb__host_find(struct sb__core *core, uint64_t incarnation)
{
	struct sb__host *host = core->host;
	struct sb__hosted *found = NULL;

	if (!host)
		return NULL;
	pthread_mutex_lock(&host->lock);
	for (uint32_t i = 0; i < host->top && !found; i++)
		if (host->slots[i] && host->slots[i]->whole && host->slots[i]->rec.incarnation == incarnation)
			found = host->slots[i];
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

/* Hands an ended session without running calls to the keeper, which may wait for the GIL. */
static void bury_if_idle_locked(struct sb__hosted *h)
{
	if (!h->ended || h->users || h->buried)
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

	pthread_mutex_lock(&host->lock);
	if (!h->ended) {
		h->ended = true;
		host->slots[h->bell_index] = NULL;
		host->count--;
		bury_if_idle_locked(h);
		put_locked(h, &dead); /* the slot's reference; never the last, somebody called us with one */
		pthread_cond_broadcast(&host->changed);
	}
	pthread_mutex_unlock(&host->lock);
}

bool sb__hosted_begin(struct sb__hosted *h)
{
	bool ok;

	pthread_mutex_lock(&h->host->lock);
	ok = !h->ended;
	if (ok)
		h->users++;
	pthread_mutex_unlock(&h->host->lock);
	return ok;
}

void sb__hosted_finish(struct sb__hosted *h)
{
	struct sb__host *host = h->host;

	pthread_mutex_lock(&host->lock);
	h->users--;
	bury_if_idle_locked(h);
	if (!host->dirty) {
		host->dirty = true;
		if (host->keeper_idle)
			pthread_cond_broadcast(&host->changed);
	}
	pthread_mutex_unlock(&host->lock);
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
	sb__store(&control->service_ns, atomic_load_explicit(&h->service_ns, memory_order_relaxed));
}

int sb__hosted_execute(struct sb__hosted *h, uint64_t trace_id, const struct sb__buf *request, struct sb__buf *reply)
{
	struct sb__call_origin origin = { h->host->core->self.pid, trace_id };
	uint64_t began_ns = sb__now_ns();

	if (!sb__hosted_begin(h)) {
		int err = sb__fail(SB_ERELEASED, "session \"%s\" ended; open it again, its old refs are gone", h->rec.session_id);

		sb__fail_set_outcome(SB_OUTCOME_REFUSED);
		return err;
	}
	h->host->engine->execute(h->table, &origin, request->data, request->len, reply);
	atomic_fetch_add_explicit(&h->calls, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->service_ns, sb__now_ns() - began_ns, memory_order_relaxed);
	sb__hosted_mirror(h);
	sb__hosted_finish(h);
	return 0;
}

/* ── making one ── */

static int slot_take(struct sb__host *host, struct sb__hosted *h)
{
	int err = 0;
	uint32_t i;

	pthread_mutex_lock(&host->lock);
	for (i = 0; i < SB__BELL_SESSIONS && host->slots[i]; i++)
		;
	if (i == SB__BELL_SESSIONS) {
		err = sb__fail(SB_ENOMEM, "this process serves %u sessions already: release some, or use another process",
		               SB__BELL_SESSIONS);
	} else {
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

static int make_table(struct sb__hosted *h)
{
	struct sb__table_options options = { .incarnation = h->rec.incarnation, .max_refs = h->rec.max_refs,
		                             .error_on_full = h->rec.on_full == SB_ON_FULL_ERROR, .ttl_ms = h->rec.ttl_ms,
		                             .policy = h->rec.policy, .policy_len = h->rec.policy_len,
		                             .rows = { h->rows, sb__refrows_set, sb__refrows_touch, sb__refrows_pins,
		                                       sb__refrows_clear } };

	return h->host->engine->table_create(&options, &h->table);
}

static int make_mailbox(struct sb__core *core, struct sb__hosted *h)
{
	struct sb__mailbox_params params = { .incarnation = h->rec.incarnation, .owner = core->self,
		                             .bell_index = h->bell_index, .max_refs = h->rec.max_refs,
		                             .ttl_ms = h->rec.ttl_ms, .session_id = h->rec.session_id };

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
	err = make_rows(core, h);
	if (!err)
		err = make_table(h);
	if (!err)
		err = make_mailbox(core, h); /* last: it can be attached from now on */
	if (err) {
		pthread_mutex_lock(&h->host->lock);
		h->host->slots[h->bell_index] = NULL;
		h->host->count--;
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
	pthread_mutex_unlock(&h->host->lock);
	sb__hosted_put(h);
	return 0;
}

/* ── the keeper ── */

/* Ended sessions without running calls: the objects go now; the memory when nobody refers to it. */
static void bury_dead(struct sb__host *host)
{
	for (;;) {
		struct sb__hosted *h;

		pthread_mutex_lock(&host->lock);
		h = host->dead;
		if (h)
			host->dead = h->next_dead;
		pthread_mutex_unlock(&host->lock);
		if (!h)
			return;
		host->engine->table_destroy(h->table);
		h->table = NULL;
		sb__hosted_put(h);
	}
}

/* Writes the live count behind, so that inspect sees it without the mailbox. */
static void mirror_to_store(struct sb__hosted *h)
{
	struct sb__table_counts counts;

	h->host->engine->counts(h->table, &counts);
	if (counts.live == h->stored_live)
		return;
	if (sb__store_session_mirror(h->host->core->store, h->rec.session_id, h->rec.incarnation, counts.live) >= 0)
		h->stored_live = counts.live;
}

static void end_expired(struct sb__hosted *h, uint64_t last_ms, uint64_t now)
{
	struct sb__core *core = h->host->core;

	if (sb__store_session_expire(core->store, h->rec.session_id, h->rec.uid, last_ms, now, NULL) != 1)
		return;
	sb__mailbox_end(h->mailbox, SB__MAILBOX_EXPIRED);
	sb__hosted_end(h);
	sb__mailbox_unlink(core->dir.mailbox, h->rec.incarnation);
}

static void keep(struct sb__hosted *h, uint64_t now)
{
	struct sb__mailbox_control_shm *control = sb__mailbox_control(h->mailbox);
	uint64_t last = sb__load(&control->last_access_ms);

	if (sb__mailbox_state(h->mailbox) != SB__MAILBOX_SERVING) {
		sb__hosted_end(h);
		return;
	}
	if (!sb__hosted_begin(h))
		return;
	if (h->rec.ttl_ms && now > h->next_expire) {
		h->host->engine->expire(h->table, now);
		h->next_expire = now + (h->rec.ttl_ms / 8 < IDLE_TICK_MS ? h->rec.ttl_ms / 8 : IDLE_TICK_MS);
	}
	mirror_to_store(h);
	sb__hosted_mirror(h);
	sb__mailbox_sweep_replies(h->mailbox, h->host->core->arena);
	sb__hosted_finish(h);
	if (h->rec.ttl_ms && last && now > last && now - last > h->rec.ttl_ms)
		end_expired(h, last, now);
}

/* Dead owners of our sessions must end them even where no reaper runs. */
static void sweep(struct sb__host *host, uint64_t now)
{
	struct sb__sweep_options options = { .budget_ms = SWEEP_BUDGET_MS };
	struct sb__sweep_result result;
	uint64_t every = sb__core_number(host->core, SB__CONFIG_SWEEP_MS);

	if (!every || now - host->swept_ms < every || !host->count)
		return;
	host->swept_ms = now;
	if (sb__reaper_sweep(host->core->store, &host->core->dir, &options, &result))
		sb__log(SB_LOG_WARN, "tidying: %s", sb_last_error()->message);
}

/* Somebody removed the bridge's directory: nobody can reach these sessions any more. */
static bool directory_vanished(const struct sb__host *host)
{
	struct stat st;

	return sb__os_fstat(host->core->dir.boot, &st) == 0 && st.st_nlink == 0;
}

static void end_all(struct sb__host *host)
{
	for (uint32_t i = 0; i < host->top; i++) {
		struct sb__hosted *h = sb__hosted_at(host, i);

		if (!h)
			continue;
		sb__mailbox_end(h->mailbox, SB__MAILBOX_RELEASED);
		sb__hosted_end(h);
		sb__hosted_put(h);
	}
}

static void keep_all(struct sb__host *host)
{
	uint64_t now = sb__now_ms();

	if (directory_vanished(host))
		end_all(host);
	else
		sweep(host, now);

	for (uint32_t i = 0; i < host->top; i++) {
		struct sb__hosted *h = sb__hosted_at(host, i);

		if (!h)
			continue;
		keep(h, now);
		sb__hosted_put(h);
	}
	bury_dead(host);
}

static void keeper_sleep(struct sb__host *host)
{
	struct timespec until;
	uint64_t ns;

	pthread_mutex_lock(&host->lock);
	host->keeper_idle = !host->dirty;
	ns = sb__now_ns() + (host->dirty ? MIRROR_MS : IDLE_TICK_MS) * UINT64_C(1000000);
	until = (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	if (!host->dead && !host->stopping)
		pthread_cond_timedwait(&host->changed, &host->lock, &until);
	/* Woken by the first change after a rest: let more of them gather. */
	if (host->keeper_idle && host->dirty && !host->dead && !host->stopping) {
		host->keeper_idle = false;
		ns = sb__now_ns() + MIRROR_MS * UINT64_C(1000000);
		until = (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
		pthread_cond_timedwait(&host->changed, &host->lock, &until);
	}
	host->keeper_idle = false;
	host->dirty = false;
	pthread_mutex_unlock(&host->lock);
}

static void *keeper_main(void *arg)
{
	struct sb__host *host = arg;

	if (sb__bell_alive_hold(&host->bell) != 0)
		sb__log(SB_LOG_WARN, "callers of this process will learn of its death by polling: %s", sb_last_error()->message);
	pthread_mutex_lock(&host->lock);
	host->keeper_ready = true;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	while (!atomic_load(&host->stopping)) {
		keep_all(host);
		keeper_sleep(host);
	}
	keep_all(host);
	return NULL; /* without letting go of the alive mutex: callers must know that nobody serves them */
}

/* ── starting and stopping ── */

int sb__thread_start(pthread_t *ret, void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	int err;

	/* The host program's signals are its own business: none is ever delivered to our threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? sb__fail_errno(SB_ESYSTEM, err, "starting a service thread") : 0;
}

static int host_start(struct sb__host *host)
{
	int err = sb__bell_create(host->core->dir.bell, &host->core->self, &host->bell);

	if (err)
		return err;
	err = sb__thread_start(&host->keeper, keeper_main, host);
	if (err) {
		sb__bell_detach(&host->bell);
		sb__bell_unlink(host->core->dir.bell, host->core->self.slot, host->core->self.generation);
		return err;
	}
	pthread_mutex_lock(&host->lock);
	while (!host->keeper_ready)
		pthread_cond_wait(&host->changed, &host->lock);
	pthread_mutex_unlock(&host->lock);
	return sb__serve_start(host);
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
	return host;
}

static void host_free(struct sb__host *host)
{
	pthread_mutex_destroy(&host->lock);
	pthread_cond_destroy(&host->changed);
	free(host);
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
		return sb__fail(err, "Python (%s) cannot be started in this process: %s", options.executable, error);
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

bool sb__host_wait(struct sb__core *core, uint64_t incarnation, uint32_t timeout_ms)
{
	uint64_t ns = sb__now_ns() + timeout_ms * UINT64_C(1000000);
	struct timespec until = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	struct sb__hosted *h = sb__host_find(core, incarnation);
	bool ended;

	if (!h)
		return true;
	pthread_mutex_lock(&h->host->lock);
	while (!h->ended && sb__now_ns() < ns)
		if (pthread_cond_timedwait(&h->host->changed, &h->host->lock, &until) == ETIMEDOUT)
			break;
	ended = h->ended;
	pthread_mutex_unlock(&h->host->lock);
	sb__hosted_put(h);
	return ended;
}

/* Sessions that others still own lose their objects, and are told so; the rest had ended before. */
static void abandon_sessions(struct sb__host *host)
{
	struct sb__core *core = host->core;

	for (uint32_t i = 0; i < host->top; i++) {
		struct sb__hosted *h = sb__hosted_at(host, i);

		if (!h)
			continue;
		if (sb__store_session_orphan(core->store, h->rec.session_id, h->rec.incarnation) == 1)
			sb__mailbox_unlink(core->dir.mailbox, h->rec.incarnation);
		sb__hosted_end(h);
		sb__hosted_put(h);
	}
}

void sb__host_stop(struct sb__core *core)
{
	struct sb__host *host = core->host;

	if (!host)
		return;
	abandon_sessions(host);
	atomic_store(&host->stopping, true);
	sb__serve_stop(host);
	pthread_mutex_lock(&host->lock);
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	pthread_join(host->keeper, NULL);
	bury_dead(host);
	sb__bell_unlink(core->dir.bell, core->self.slot, core->self.generation);
	sb__bell_detach(&host->bell);
	core->host = NULL;
	host_free(host);
}

void sb__host_forget_locked(struct sb__core *core)
{
	core->host = NULL; /* its threads, locks and Python objects are the parent's: left alone for ever */
}
