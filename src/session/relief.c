/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relief of the leader: when does another service thread help?
 *
 * A caller that was not picked up within a slice nudges a thread standing by. But where Python code runs, a further thread
 * cannot run any beside it: it only makes one more that wants the GIL, which CPython hands to whoever it happens to wake. With
 * a call in each of eight threads that order let some wait for a second. So a thread that was nudged looks first, and as
 * long as work waits it stays on duty and looks again, for the nudger's next nudge may be 100 ms away:
 *
 *   The leader goes from call to call     it will come to what waits. Looked at again a tick later.
 *   The leader waits for Python           nobody else would have it sooner.
 *   It is in one call for 2 ms or more    relieved where no other call was left behind, or this one used LONG_NS of CPU time: it
 *                                         is one that takes long, and those that wait take turns with it.
 *     and other calls were left behind    not relieved as long as it gets CPU time: it shares the GIL with them and goes on.
 *     and it gets no CPU time             relieved: it gave up the GIL and blocks. But where others compute, it may only
 *                                         wait for its turn with the GIL: first that has to be over.
 *   It does nothing at all, in no call    relieved after a tick.
 *   Its call waits for its caller         relieved at once.
 *
 * To relieve, a thread has the GIL first and looks again: so one thread at a time queues for it without a call, and calls that
 * wait do so in their lanes, in order.
 *
 * So of n calls that run Python for long, n threads share the GIL, and one more that runs the others one after the other:
 * docs/design/call-cost.md, calls that take long.
 *
 * Lock order: the GIL before host->lock. The leader is looked at with it held: then the leader stays the leader, for only the thread
 * on duty takes the lead, and is not freed, for that is done when it lost the lead or the host stops.
 *
 * Crash: nothing here outlives the process.
 */
#include "worker.h"

#include "clock.h"
#include "os_linux.h"

#define MS        UINT64_C(1000000)
#define TICK_NS   (2 * MS)  /* a call for which others wait that takes longer is looked after */
#define LONG_NS   (10 * MS) /* of CPU time: two switch intervals of CPython */
#define TURN_NS   (5 * MS)  /* of each other thread that computes: CPython's switch interval */
#define TURNS_MAX 4u        /* that are waited for */
#define NONE_NS   (MS / 10) /* less CPU time than that is none: waiting for the GIL takes some */

enum need { NOT_NEEDED, LATER, QUEUE, NOW };

/* What is remembered of the leader from one look to the next. */
struct watch {
	struct sb__worker *leader;
	uint64_t steps, seen_ns;        /* since when they are these */
	bool in_call;                   /* what follows is of this call */
	uint64_t first_cpu_ns;          /* its thread's CPU time at the first look */
	uint64_t cpu_ns, grew_ns;       /* and when it was last seen to have grown, and when that was */
	uint64_t all_cpu_ns, looked_ns; /* the whole process's at the last look, and when that was */
};

/* Also in the session that the leader serves: its bit is taken. With host->lock held. */
static bool work_waits_locked(struct sb__host *host, struct sb__worker *leader)
{
	uint32_t serving = atomic_load(&leader->serving);
	struct sb__hosted *h = serving ? host->slots[serving - 1] : NULL;

	return (h && h->whole && sb__mailbox_waiting(h->mailbox)) || sb__bell_waiting(&host->bell);
}

static bool moved_locked(struct sb__host *host, struct watch *watch, uint64_t now)
{
	struct sb__worker *leader = atomic_load(&host->leader);
	uint64_t steps = atomic_load(&leader->steps);

	if (watch->leader == leader && watch->steps == steps)
		return false;
	*watch = (struct watch){ .leader = leader, .steps = steps, .seen_ns = now };
	return true;
}

static uint64_t cpu_of(struct sb__worker *w)
{
	return sb__os_cpu_time(atomic_load(&w->cpu_clock));
}

/* Looks at the clocks. Does the call get no CPU time though it could have had some? */
static bool blocks(struct sb__host *host, struct watch *watch, uint64_t now)
{
	uint64_t cpu = cpu_of(watch->leader);
	uint64_t all = sb__os_cpu_time(0), all_used = all - watch->all_cpu_ns;
	uint64_t passed = now - watch->looked_ns;
	unsigned others = atomic_load(&host->running) - 1;

	watch->all_cpu_ns = all;
	watch->looked_ns = now;
	if (!watch->in_call) {
		watch->in_call = true;
		watch->first_cpu_ns = cpu;
	} else if (cpu - watch->cpu_ns < NONE_NS) {
		return all_used < passed / 2 ||
		       now - watch->grew_ns > TURN_NS * (others < TURNS_MAX ? others : TURNS_MAX) + TICK_NS;
	}
	watch->cpu_ns = cpu;
	watch->grew_ns = now;
	return false;
}

/* Is a call that takes 2 ms or more to be left behind? */
static bool leave_behind(struct sb__host *host, struct watch *watch, uint64_t now)
{
	return blocks(host, watch, now) || atomic_load(&host->running) <= 1 ||
	       watch->cpu_ns - watch->first_cpu_ns >= LONG_NS;
}

/* *ret_wait_ns: with LATER. */
static enum need look_locked(struct sb__host *host, struct watch *watch, uint64_t *ret_wait_ns)
{
	uint64_t now = sb__now_ns(), since;
	struct sb__worker *leader;

	(void)moved_locked(host, watch, now);
	leader = watch->leader;
	*ret_wait_ns = TICK_NS;
	if (atomic_load(&leader->parks))
		return NOW;
	if (!work_waits_locked(host, leader))
		return NOT_NEEDED;
	if (atomic_load(&leader->entering))
		return LATER;
	since = atomic_load(&leader->began_ns);
	if (!since)
		return now - watch->seen_ns >= TICK_NS ? NOW : LATER;
	if (now - since < TICK_NS) {
		*ret_wait_ns = since + TICK_NS - now;
		return LATER;
	}
	return leave_behind(host, watch, now) ? QUEUE : LATER;
}

/* The GIL is this thread's now, and it may have taken long to get it. One that seemed to block and computed since does not. */
static bool still_needed_locked(struct sb__host *host, struct watch *watch)
{
	uint64_t cpu;

	if (atomic_load(&host->stopping) || moved_locked(host, watch, sb__now_ns()) ||
	    !work_waits_locked(host, watch->leader))
		return false;
	cpu = cpu_of(watch->leader);
	return cpu - watch->cpu_ns < NONE_NS || atomic_load(&host->running) <= 1 ||
	       cpu - watch->first_cpu_ns >= LONG_NS;
}

/* What waits in the old leader's session is announced, and a thread comes on duty for this one, if there is work for it. */
static void relieve_locked(struct sb__worker *w)
{
	struct sb__host *host = w->host;
	uint32_t serving = atomic_load(&atomic_load(&host->leader)->serving);
	struct sb__hosted *h = serving ? host->slots[serving - 1] : NULL;

	if (h && h->whole && sb__mailbox_waiting(h->mailbox))
		(void)sb__bell_ring(&host->bell, h->bell_index);
	host->on_duty = false;
	sb__serve_take_lead_locked(w);
	if (sb__bell_waiting(&host->bell))
		sb__bell_nudge(&host->bell);
}

/* One look, and the wait for the GIL if that is what it takes. */
static enum need step(struct sb__worker *w, struct watch *watch, uint64_t *ret_wait_ns)
{
	struct sb__host *host = w->host;
	enum need need;

	pthread_mutex_lock(&host->lock);
	need = atomic_load(&host->stopping) ? NOT_NEEDED : look_locked(host, watch, ret_wait_ns);
	if (need == QUEUE) {
		pthread_mutex_unlock(&host->lock);
		(void)host->engine->batch_begin();
		pthread_mutex_lock(&host->lock);
		need = still_needed_locked(host, watch) ? NOW : LATER;
	}
	if (need == NOT_NEEDED && host->nudged_again) {
		host->nudged_again = false;
		need = LATER;
	}
	if (need == NOT_NEEDED)
		host->on_duty = false;
	else if (need == NOW)
		relieve_locked(w);
	pthread_mutex_unlock(&host->lock);
	if (need != NOW)
		host->engine->batch_end();
	return need;
}

bool sb__relief(struct sb__worker *w)
{
	struct sb__host *host = w->host;
	struct watch watch = { .leader = NULL };
	enum need need = LATER;
	uint64_t wait_ns = 0;

	pthread_mutex_lock(&host->lock);
	if (host->on_duty) {
		host->nudged_again = true;
		need = NOT_NEEDED;
	}
	host->on_duty = true;
	pthread_mutex_unlock(&host->lock);
	while (need != NOT_NEEDED) {
		need = step(w, &watch, &wait_ns);
		if (need == NOW)
			return true;
		if (need != NOT_NEEDED)
			sb__os_sleep(wait_ns);
	}
	return false;
}
