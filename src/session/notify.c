/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that watch calls in flight. They end nothing: they only tell.
 *
 * One thread waits by futex_waitv for the replies of up to FDS_MAX calls that have a descriptor, and the deaths of their
 * owners; more calls, more threads. The first thread also looks after a few milliseconds whether calls without a
 * descriptor were taken up. They start with the first call and end with the last bridge; they sleep while there is
 * nothing to watch.
 *
 * Locks: notify_lock, after core->lock. Not held while waiting: a word that is unmapped meanwhile makes the wait fail,
 * no more. Lanes are only looked at with the lock held, and sb__watch_stop() takes it.
 *
 * Crash: private memory, and descriptors that go with the process.
 */
#include "notify.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "fail.h"
#include "host_impl.h"
#include "os_linux.h"

#define MS         UINT64_C(1000000)
#define FDS_MAX    96u
#define ALIVES_MAX (SB__OS_WAITS_MAX - 1 - FDS_MAX) /* words of different owners that one thread waits on */
#define HURRY_NS   (2 * MS)
#define SLICE_NS   (100 * MS) /* the slow question: does the owner live? */
#define POLL_NS    (20 * MS)  /* where the kernel cannot wait for several words */
#define IDLE_NS    (3600000 * MS)

struct sb__watcher {
	struct sb__watcher *next;
	pthread_t thread;
	unsigned int control; /* futex: look again */
	uint64_t wakes_ns;    /* when it looks again by itself */
	struct sb__watch *watches;
	unsigned fds; /* of these, with a descriptor */
	bool stopping;
};

static pthread_mutex_t notify_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sb__watcher *watchers;

/* What a thread is about to wait for. */
struct round {
	struct sb__os_wait waits[SB__OS_WAITS_MAX];
	unsigned count, alives;
	uint64_t now, until;
};

static void sooner(struct round *r, uint64_t ns)
{
	if (ns < r->until)
		r->until = ns;
}

static void add_alive(struct round *r, struct sb__bell *bell)
{
	unsigned int expected;
	unsigned int *word = (unsigned int *)sb__bell_alive_word(bell, &expected);

	if (!word) {
		sooner(r, r->now + POLL_NS);
		return;
	}
	for (unsigned i = 0; i < r->count; i++)
		if (r->waits[i].word == word)
			return;
	if (r->alives == ALIVES_MAX) {
		sooner(r, r->now + POLL_NS);
		return;
	}
	r->alives++;
	r->waits[r->count++] = (struct sb__os_wait){ word, expected };
}

/* True if there is nothing more to watch about it. */
static bool watch_one(struct round *r, struct sb__watch *w)
{
	struct sb__os_wait wait = { 0 };

	if (w->fd >= 0) {
		wait.word = sb__flight_word(&w->flight, &wait.expected); /* before the look */
		/* The one waiter that the kernel woke for the owner's death may be us: the others must hear of it. */
		if (sb__bell_owner_died(w->flight.bell))
			sb__bell_pass_on(w->flight.bell);
		if (sb__flight_ended(&w->flight)) {
			sb__os_eventfd_set(w->fd);
			return true;
		}
	}
	if (!w->taken && r->now >= w->hurry_ns) {
		w->taken = !sb__flight_hurry(&w->flight);
		w->slice_ns = w->slice_ns * 2 < SLICE_NS ? w->slice_ns * 2 : SLICE_NS;
		w->hurry_ns = r->now + w->slice_ns;
		/* Nobody else would see that its owner is gone, or that its time is over. */
		if (w->fd < 0 && sb__flight_ended(&w->flight))
			w->taken = true;
	}
	if (!w->taken)
		sooner(r, w->hurry_ns);
	if (w->fd < 0)
		return w->taken;
	r->waits[r->count++] = wait;
	add_alive(r, w->flight.bell);
	sooner(r, w->flight.deadline_ns);
	sooner(r, r->now + SLICE_NS);
	return false;
}

static void look_locked(struct sb__watcher *t, struct round *r)
{
	struct sb__watch **at = &t->watches;

	r->now = sb__now_ns();
	r->until = r->now + IDLE_NS;
	r->alives = 0;
	r->count = 1;
	r->waits[0] = (struct sb__os_wait){ &t->control, __atomic_load_n(&t->control, __ATOMIC_ACQUIRE) };
	while (*at) {
		struct sb__watch *w = *at;

		if (!watch_one(r, w)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		t->fds -= w->fd >= 0;
		w->by = NULL;
	}
	t->wakes_ns = r->until;
}

static void *watcher_main(void *arg)
{
	struct sb__watcher *t = arg;
	struct round r;

	for (;;) {
		uint64_t now;
		bool stop;

		pthread_mutex_lock(&notify_lock);
		look_locked(t, &r);
		stop = t->stopping;
		pthread_mutex_unlock(&notify_lock);
		if (stop)
			return NULL;
		now = sb__now_ns();
		if (r.until <= now)
			continue;
		if (sb__os_futex_waitv(r.waits, r.count, r.until - now) != -ENOSYS)
			continue;
		if (r.count > 1 && r.until > now + POLL_NS)
			r.until = now + POLL_NS;
		(void)sb__os_futex_wait(&t->control, r.waits[0].expected, r.until - now);
	}
}

/* ── starting and stopping ── */

static void wake(struct sb__watcher *t)
{
	__atomic_add_fetch(&t->control, 1, __ATOMIC_SEQ_CST);
	(void)sb__os_futex_wake(&t->control, 1);
}

static struct sb__watcher *watcher_for_locked(bool fd)
{
	struct sb__watcher *t = watchers, **at = &watchers;

	while (t && fd && t->fds == FDS_MAX) {
		at = &t->next;
		t = t->next;
	}
	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t) {
		sb__fail_memory("a thread that watches calls in flight");
		return NULL;
	}
	if (sb__thread_start(&t->thread, watcher_main, t)) {
		free(t);
		return NULL;
	}
	*at = t; /* at the end: the first one stays the first */
	return t;
}

int sb__watch_start(struct sb__watch *w, const struct sb__flight *flight, int fd)
{
	struct sb__watcher *t;
	bool sleeps;

	*w = (struct sb__watch){ .flight = *flight, .fd = fd, .slice_ns = HURRY_NS };
	w->hurry_ns = sb__now_ns() + HURRY_NS;
	if (fd >= 0)
		sb__flight_park(&w->flight);
	pthread_mutex_lock(&notify_lock);
	t = watcher_for_locked(fd >= 0);
	if (!t) {
		pthread_mutex_unlock(&notify_lock);
		return sb_last_error()->code;
	}
	w->by = t;
	w->next = t->watches;
	t->watches = w;
	t->fds += fd >= 0;
	sleeps = fd >= 0 || t->wakes_ns > w->hurry_ns + HURRY_NS;
	if (sleeps)
		wake(t);
	pthread_mutex_unlock(&notify_lock);
	return 0;
}

void sb__watch_stop(struct sb__watch *w)
{
	struct sb__watch **at;

	pthread_mutex_lock(&notify_lock);
	if (w->by) {
		for (at = &w->by->watches; *at && *at != w; at = &(*at)->next)
			;
		if (*at)
			*at = w->next;
		w->by->fds -= w->fd >= 0;
		w->by = NULL;
	}
	pthread_mutex_unlock(&notify_lock);
}

struct sb__watcher *sb__notify_end(void)
{
	struct sb__watcher *all;

	pthread_mutex_lock(&notify_lock);
	all = watchers;
	watchers = NULL;
	for (struct sb__watcher *t = all; t; t = t->next) {
		t->stopping = true;
		wake(t);
	}
	pthread_mutex_unlock(&notify_lock);
	return all;
}

void sb__notify_join(struct sb__watcher *ended)
{
	while (ended) {
		struct sb__watcher *t = ended;

		ended = t->next;
		pthread_join(t->thread, NULL);
		free(t);
	}
}

void sb__notify_before_fork(void)
{
	pthread_mutex_lock(&notify_lock);
}

void sb__notify_after_fork(bool child)
{
	if (child)
		watchers = NULL; /* their memory is the parent's matter */
	pthread_mutex_unlock(&notify_lock);
}
