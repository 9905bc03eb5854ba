/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper thread of a designated owner. It holds the bell's alive mutex for as long as it runs: when it ends, by any
 * death or because the host stops, callers learn at once. It drops the objects of ended sessions, interrupts calls
 * that run on in them, mirrors counts to the store, and enforces TTLs by time.
 *
 * A pass costs what has changed or is due: sessions that had calls are on a list, those with a TTL in a heap by the time
 * at which there may be something to expire. Besides it glances at a few of the others, in case that somebody died
 * before ringing.
 *
 * Lock order: host->lock is a leaf but for the store's; never held while waiting for the GIL.
 *
 * Crash: everything here is private memory.
 */
#include <time.h>

#include "clock.h"
#include "fail.h"
#include "host_impl.h"
#include "note.h"
#include "os_linux.h"
#include "point.h"
#include "sweep.h"

#define MIRROR_MS       100 /* live ref counts reach the store this soon */
#define IDLE_TICK_MS    1000
#define SWEEP_BUDGET_MS 40    /* the keeper is in nobody's way */
#define LOOKS_PER_TTL   8     /* so late, in parts of the TTL, an idle ref is dropped */
#define LOOK_MAX_MS     60000 /* or so late */
#define LOOK_MIN_MS     50
#define GLANCES         64 /* sessions a pass */

/* ── when to look ── */

static void due_place(struct sb__host *host, uint32_t i, struct sb__hosted *h)
{
	host->due[i] = h;
	h->due_at = i + 1;
}

static void due_settle(struct sb__host *host, uint32_t i)
{
	struct sb__hosted *h = host->due[i];

	while (i > 0 && host->due[(i - 1) / 2]->due_ms > h->due_ms) {
		due_place(host, i, host->due[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child + 1 < host->due_count && host->due[child + 1]->due_ms < host->due[child]->due_ms)
			child++;
		if (child >= host->due_count || host->due[child]->due_ms >= h->due_ms)
			break;
		due_place(host, i, host->due[child]);
		i = child;
	}
	due_place(host, i, h);
}

void sb__due_remove_locked(struct sb__hosted *h)
{
	struct sb__host *host = h->host;
	uint32_t i = h->due_at - 1;
	struct sb__hosted *last;

	if (!h->due_at)
		return;
	h->due_at = 0;
	last = host->due[--host->due_count];
	if (last == h)
		return;
	host->due[i] = last;
	due_settle(host, i);
}

void sb__due_file_locked(struct sb__hosted *h, uint64_t due_ms)
{
	struct sb__host *host = h->host;

	sb__due_remove_locked(h);
	if (!due_ms || sb__hosted_has_ended(h))
		return;
	h->due_ms = due_ms;
	host->due[host->due_count++] = h;
	due_settle(host, host->due_count - 1);
	if (due_ms < host->keeper_until_ms)
		pthread_cond_broadcast(&host->changed);
}

static uint64_t look_interval(const struct sb__hosted *h)
{
	uint64_t ms = h->rec.ttl_ms / LOOKS_PER_TTL;

	return ms > LOOK_MAX_MS ? LOOK_MAX_MS : ms < LOOK_MIN_MS ? LOOK_MIN_MS : ms;
}

uint64_t sb__keeper_first_look(const struct sb__hosted *h)
{
	return h->rec.ttl_ms ? sb__now_ms() + look_interval(h) : 0;
}

/* ── ended sessions ── */

/* Whoever ends a session changes its record first. A record that says nothing of it is made true: the objects go, and the
 * next who needs them elects another owner. */
static void check_record(struct sb__hosted *h)
{
	struct sb__core *core = h->host->core;

	if (h->overheard &&
	    sb__store_session_orphan(core->store, h->rec.session_id, h->rec.incarnation) == 1) {
		sb__log(SB_LOG_WARN,
		        "session \"%s\": its mailbox says that it ended, its record does not: orphaned",
		        h->rec.session_id);
		sb__mailbox_unlink(core->dir.mailbox, h->rec.incarnation);
	}
}

/* The objects go now; the memory when nobody refers to it. */
void sb__keeper_bury(struct sb__host *host)
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
		check_record(h);
		host->engine->table_destroy(h->table);
		h->table = NULL;
		sb__hosted_put(h);
	}
}

/* Calls that run in ended sessions: their callers were told already. Before sb__keeper_bury(): the tables exist. */
static void interrupt_ending(struct sb__host *host)
{
	for (;;) {
		struct sb__hosted *h;

		pthread_mutex_lock(&host->lock);
		h = host->ending;
		if (h)
			host->ending = h->next_ending;
		pthread_mutex_unlock(&host->lock);
		if (!h)
			return;
		if (h->table && sb__core_number(host->core, SB__CONFIG_CANCEL_ABANDONED))
			host->engine->cancel(h->table, 0, 0);
		sb__hosted_put(h);
	}
}

/* ── sessions that had calls ── */

/* Writes the live count behind, so that inspect sees it without the mailbox. */
static void mirror(struct sb__hosted *h)
{
	struct sb__table_counts counts;

	h->host->engine->counts(h->table, &counts);
	sb__hosted_mirror(h);
	if (counts.evicted > h->told_evicted) {
		sb__events_note(&h->host->core->events, h->host->core->dir.boot, SB__EVENT_EVICT, h->rec.uid,
		                h->rec.session_id, h->rec.incarnation, 0, 0,
		                (uint32_t)(counts.evicted - h->told_evicted),
		                "full: least recently used refs evicted");
		h->told_evicted = counts.evicted;
	}
	if (counts.live == h->stored_live)
		return;
	if (sb__store_session_mirror(h->host->core->store, h->rec.session_id, h->rec.incarnation,
	                             counts.live) >= 0)
		h->stored_live = counts.live;
}

static struct sb__hosted *take_dirty(struct sb__host *host)
{
	struct sb__hosted *h;

	pthread_mutex_lock(&host->lock);
	h = host->dirty_list;
	if (h) {
		host->dirty_list = h->next_dirty;
		atomic_store(&h->dirty, false); /* a full barrier: before the counts are read */
	}
	pthread_mutex_unlock(&host->lock);
	return h;
}

static void mirror_dirty(struct sb__host *host)
{
	struct sb__hosted *h;

	while ((h = take_dirty(host))) {
		if (sb__hosted_begin(h)) {
			mirror(h);
			sb__mailbox_sweep_replies(h->mailbox, host->core->arena);
			sb__hosted_leave(h);
		}
		sb__hosted_put(h);
	}
}

/* ── sessions that are due ── */

static bool end_expired(struct sb__hosted *h, uint64_t last_ms, uint64_t now)
{
	struct sb__core *core = h->host->core;

	if (sb__store_session_expire(core->store, h->rec.session_id, h->rec.uid, last_ms, now, NULL) != 1)
		return false;
	SB_POINT("keeper.expired");
	sb__mailbox_end(h->mailbox, SB__MAILBOX_EXPIRED);
	SB_POINT("keeper.told");
	sb__hosted_end(h);
	sb__hosted_retire(h);
	sb__session_note(core, SB__EVENT_EXPIRE, &h->rec, 0, "idle for its TTL");
	return true;
}

static bool in_use(const struct sb__hosted *h)
{
	return atomic_load(&h->users) & ~SB__HOSTED_ENDED;
}

static void keep(struct sb__hosted *h, uint64_t now)
{
	struct sb__mailbox_control_shm *control = sb__mailbox_control(h->mailbox);
	uint64_t next = now + look_interval(h), last;

	/* A call that runs is an access, however long it takes. */
	if (in_use(h))
		sb__mailbox_touch(h->mailbox, sb__now_coarse_ms());
	if (!sb__hosted_begin(h))
		return;
	if (h->host->engine->expire(h->table, now))
		mirror(h);
	sb__hosted_leave(h);
	last = sb__load(&control->last_access_ms);
	if (last && last <= now && now - last >= h->rec.ttl_ms && end_expired(h, last, now))
		return;
	if (last + h->rec.ttl_ms > now && last + h->rec.ttl_ms < next)
		next = last + h->rec.ttl_ms;
	pthread_mutex_lock(&h->host->lock);
	sb__due_file_locked(h, next);
	pthread_mutex_unlock(&h->host->lock);
}

static struct sb__hosted *take_due(struct sb__host *host, uint64_t now)
{
	struct sb__hosted *h;

	pthread_mutex_lock(&host->lock);
	h = host->due_count ? host->due[0] : NULL;
	if (h && h->due_ms > now)
		h = NULL;
	if (h) {
		h->refs++;
		sb__due_remove_locked(h);
	}
	pthread_mutex_unlock(&host->lock);
	return h;
}

static void keep_due(struct sb__host *host, uint64_t now)
{
	struct sb__hosted *h;

	while ((h = take_due(host, now))) {
		keep(h, now);
		sb__hosted_put(h);
	}
}

/* ── all sessions ── */

/* Ended, but nobody rang; cancelled or abandoned, but nobody rang. */
static void glance(struct sb__hosted *h)
{
	if (sb__mailbox_state(h->mailbox) != SB__MAILBOX_SERVING) {
		sb__hosted_overheard(h);
	} else if (sb__hosted_begin(h)) {
		sb__hosted_attend(h, true);
		sb__mailbox_sweep_replies(h->mailbox, h->host->core->arena);
		sb__hosted_leave(h);
	}
}

static void glance_around(struct sb__host *host)
{
	uint32_t top = host->top;

	for (uint32_t i = 0; i < top && i < GLANCES; i++) {
		struct sb__hosted *h = sb__hosted_at(host, host->glance++ % top);

		if (!h)
			continue;
		glance(h);
		sb__hosted_put(h);
	}
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
	else if (!result.complete)
		host->swept_ms = 0; /* more is left than the budget allows: go on at the next pass */
}

/* Somebody removed the bridge's directory: nobody can reach these sessions any more. */
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

/* ── the thread ── */

static void keep_all(struct sb__host *host)
{
	uint64_t now = sb__now_ms();

	sb__bell_mend(&host->bell);
	if (sb__bridge_dir_vanished(&host->core->dir))
		end_all(host);
	else
		sweep(host, now);
	interrupt_ending(host);
	mirror_dirty(host);
	keep_due(host, now);
	glance_around(host);
	sb__space_sweep(host->core->space);
	sb__keeper_bury(host);
}

static bool work_waits(const struct sb__host *host)
{
	return host->dead || host->ending || atomic_load(&host->keeper_stopping);
}

static struct timespec wake_at(struct sb__host *host, uint64_t within_ms)
{
	uint64_t now = sb__now_ms(), ms = now + within_ms;

	if (host->due_count && host->due[0]->due_ms < ms)
		ms = host->due[0]->due_ms;
	host->keeper_until_ms = ms;
	return (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
}

static void keeper_sleep(struct sb__host *host)
{
	struct timespec until;

	pthread_mutex_lock(&host->lock);
	host->keeper_idle = !host->dirty;
	until = wake_at(host, host->dirty ? MIRROR_MS : IDLE_TICK_MS);
	if (!work_waits(host))
		pthread_cond_timedwait(&host->changed, &host->lock, &until);
	/* Woken by the first change after a rest: let more of them gather. */
	if (host->keeper_idle && host->dirty && !work_waits(host)) {
		host->keeper_idle = false;
		until = wake_at(host, MIRROR_MS);
		pthread_cond_timedwait(&host->changed, &host->lock, &until);
	}
	host->keeper_idle = false;
	host->dirty = false;
	pthread_mutex_unlock(&host->lock);
}

void *sb__keeper_main(void *arg)
{
	struct sb__host *host = arg;

	/* Its end is the notice of a death, on a busy CPU too. */
	(void)sb__os_slice_shorten(SB__SLICE_TELLS_NS);
	if (sb__bell_alive_hold(&host->bell) != 0)
		sb__log(SB_LOG_WARN, "callers of this process will learn of its death by polling: %s",
		        sb_last_error()->message);
	pthread_mutex_lock(&host->lock);
	host->keeper_ready = true;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	host->engine->thread_begin();
	while (!atomic_load(&host->keeper_stopping)) {
		keep_all(host);
		keeper_sleep(host);
	}
	keep_all(host);
	return NULL; /* without letting go of the alive mutex: callers must know that nobody serves them */
}
