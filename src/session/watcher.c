/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A designated owner watches the processes that call it, so that what a killed one owned or kept is given back at once
 * and not when the keeper looks the next time. One more thread, which sleeps in poll() on a pidfd per caller; it is
 * started at the first call from another process, and not at all where sweep_ms is 0.
 *
 * Processes that never called, and those beyond WATCHED_MAX, are found by the keeper's sweeps.
 *
 * Locks: host->lock, to start the thread only.
 * Crash: everything here is private memory.
 */
#include <stdlib.h>

#include "fail.h"
#include "host_impl.h"
#include "os_linux.h"
#include "sweep.h"
#include "watch.h"

#define WATCHED_MAX 256u /* descriptors: a quarter of the usual limit, which is the host program's as well */

struct sb__watcher {
	struct sb__host *host;
	struct sb__watch *watch; /* the thread's own */
	pthread_t thread;
	int wake; /* eventfd */
	_Atomic bool stopping;
	_Atomic uint64_t news[SB__SLOTS_MAX / 64]; /* slots of callers that were just met */
};

static void tidy(struct sb__watcher *w, const struct sb__identity *dead)
{
	struct sb__sweep_options options = { .only = dead };
	struct sb__sweep_result result;

	if (sb__reaper_sweep(w->host->core->store, &w->host->core->dir, &options, &result))
		sb__log(SB_LOG_WARN, "tidying after a process that died: %s", sb_last_error()->message);
}

static void died(void *arg, uint32_t slot, uint32_t generation)
{
	struct sb__identity dead = { .slot = slot, .generation = generation };

	tidy(arg, &dead);
}

static void add_slot(struct sb__watcher *w, uint32_t slot)
{
	struct sb__core *core = w->host->core;
	struct sb__identity identity;

	/* Without a record it has left, or was tidied up after. */
	if (sb__store_process_get(core->store, slot, &identity) == 1 &&
	    sb__watch_add(w->watch, &identity, core->dir.life_fd))
		tidy(w, &identity);
}

static void add_news(struct sb__watcher *w)
{
	for (uint32_t i = 0; i < SB__SLOTS_MAX / 64; i++) {
		uint64_t bits = atomic_load_explicit(&w->news[i], memory_order_relaxed);

		if (bits)
			bits = atomic_exchange(&w->news[i], 0);
		for (; bits; bits &= bits - 1)
			add_slot(w, i * 64 + (uint32_t)__builtin_ctzll(bits));
	}
}

static void *watcher_main(void *arg)
{
	struct sb__watcher *w = arg;

	(void)sb__os_slice_shorten(SB__SLICE_TELLS_NS);
	while (!atomic_load(&w->stopping)) {
		if (sb__watch_wait(w->watch, w->wake, -1, died, w) != SB__WATCH_FD)
			continue;
		sb__os_eventfd_clear(w->wake); /* before the look: what comes later makes it readable again */
		add_news(w);
	}
	return NULL;
}

static void watcher_free(struct sb__watcher *w)
{
	if (w->wake >= 0)
		sb__os_close(w->wake);
	sb__watch_free(w->watch);
	free(w);
}

static struct sb__watcher *watcher_start(struct sb__host *host)
{
	struct sb__watcher *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->host = host;
	w->wake = sb__os_eventfd();
	w->watch = sb__watch_new(WATCHED_MAX);
	if (w->wake >= 0 && w->watch && sb__thread_start(&w->thread, watcher_main, w) == 0)
		return w;
	watcher_free(w);
	return NULL;
}

void sb__watcher_meet(struct sb__host *host, uint32_t slot, uint32_t generation)
{
	struct sb__watcher *w;

	/* Whatever comes of it: this caller is not asked about again on the call path. */
	atomic_store_explicit(&host->met[slot], generation + 1, memory_order_relaxed);
	if (!sb__core_number(host->core, SB__CONFIG_SWEEP_MS))
		return;
	pthread_mutex_lock(&host->lock);
	if (!host->watcher && !atomic_load(&host->stopping))
		host->watcher = watcher_start(host);
	w = host->watcher;
	pthread_mutex_unlock(&host->lock);
	if (!w)
		return; /* the keeper's sweeps will do */
	atomic_fetch_or(&w->news[slot / 64], UINT64_C(1) << (slot % 64));
	sb__os_eventfd_set(w->wake);
}

void sb__watcher_stop(struct sb__host *host)
{
	struct sb__watcher *w = host->watcher;

	if (!w)
		return;
	atomic_store(&w->stopping, true);
	sb__os_eventfd_set(w->wake);
	pthread_join(w->thread, NULL);
}

void sb__watcher_forget(struct sb__host *host)
{
	struct sb__watcher *w = host->watcher;

	if (!w)
		return;
	sb__watch_close(w->watch);
	sb__os_close(w->wake);
}

void sb__watcher_free(struct sb__host *host)
{
	if (host->watcher)
		watcher_free(host->watcher);
	host->watcher = NULL;
}
