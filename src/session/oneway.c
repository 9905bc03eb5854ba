/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-way calls: published, and left to the owner. Each has a lane from the attachment's pool, which is taken back some
 * time after it has ended, by whoever needs a lane next.
 *
 * Order: a one-way call, and a call that is waited for, come after the one-way calls that their thread has sent to the
 * session before. The lane names the last of these (shm/layout.h, law of the follower); where the objects are this
 * process's own, the thread waits for it.
 *
 * Locks: core->lock for the list.
 *
 * Crash: a killed caller's calls that have not begun never will.
 */
#include <stdlib.h>

#include "asked.h"
#include "clock.h"
#include "engine.h"
#include "fail.h"
#include "notify.h"
#include "os_linux.h"
#include "value_impl.h"
#include "way.h"

#define MS       UINT64_C(1000000)
#define LOOK_MAX 8 /* of those still out, when a lane is needed */

struct sb__oneway {
	struct sb__oneway *next;
	struct sb__flight flight;
	struct sb__watch watch;
	struct sb__array_list arrays; /* among the arguments: until the lane is taken back */
};

/* ── taking lanes back ── */

/* 1: it has ended, *at is the next one. */
static int recover_locked(struct sb__attachment *a, struct sb__oneway **at)
{
	struct sb__oneway *o = *at;
	int state = sb__lane_recover(a->mailbox, o->flight.lane);

	if (!state)
		return 0;
	sb__watch_stop(&o->watch);
	sb__flight_forget(&o->flight);
	sb__pool_lane_give_locked(a, o->flight.lane, state < 0);
	*at = o->next;
	if (!*at)
		a->oneway_end = at;
	sb__array_list_drop(&o->arrays);
	free(o);
	return 1;
}

void sb__oneways_recover_locked(struct sb__attachment *a)
{
	struct sb__oneway **at = &a->oneways;

	for (int looks = 0; *at && looks < LOOK_MAX;) {
		if (recover_locked(a, at))
			continue;
		at = &(*at)->next;
		looks++;
	}
}

void sb__oneways_drop_locked(struct sb__attachment *a, bool forked)
{
	while (a->oneways) {
		struct sb__oneway *o = a->oneways;

		a->oneways = o->next;
		if (!forked) {
			sb__watch_stop(&o->watch);
			sb__lane_unclaim(a->mailbox, o->flight.lane); /* the owner may free it at once */
			sb__flight_forget(&o->flight);
			sb__pool_lane_give_locked(a, o->flight.lane, true);
		}
		sb__array_list_drop(&o->arrays);
		free(o);
	}
	a->oneway_end = &a->oneways;
}

/* ── sending ── */

static int post(struct sb__way *c, struct sb__attachment *a, void *arg)
{
	struct sb__oneway *o = calloc(1, sizeof(*o));
	struct sb__lane_post post = sb__way_post(c);
	struct sb__bell *bell = sb__attachment_bell(a);
	struct sb__buf buf;
	uint32_t lane;
	int err;

	(void)arg;
	err = sb__way_no_callbacks(c, "a one-way call");
	if (err) {
		free(o);
		return err;
	}
	if (!o)
		return sb__way_refused(c, sb__fail_memory("a one-way call"));
	err = sb__bell_owner_died(bell) || sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING ? SB__AGAIN
	                                                                                        : 0;
	if (!err && (err = sb__pool_lane_take(a, &lane)))
		err = sb__way_no_lane(c, err);
	if (err) {
		free(o);
		return err;
	}
	sb__mailbox_touch(a->mailbox, c->began_ms);
	post.flags = SB__REQUEST_ONEWAY;
	sb__thread_after(a, &post);
	err = sb__way_encode(c, a, lane, &buf);
	if (!err)
		err = sb__flight_post(&o->flight, a->mailbox, bell, lane, &buf, &post, NULL, NULL);
	if (!err && o->flight.over)
		err = sb__way_failed(c, a, o->flight.result);
	if (!err) {
		sb__thread_sent(a, lane, o->flight.ready);
		atomic_store_explicit(&a->any_oneway, true, memory_order_relaxed);
	}
	pthread_mutex_lock(&a->core->lock);
	if (err) {
		sb__pool_lane_give_locked(a, lane, false);
		free(o);
	} else {
		if (c->request->args) {
			o->arrays = c->request->args->arrays;
			c->request->args->arrays = (struct sb__array_list){ .items = NULL };
		}
		*a->oneway_end = o;
		a->oneway_end = &o->next;
		(void)sb__watch_start(&o->watch, &o->flight, -1);
	}
	pthread_mutex_unlock(&a->core->lock);
	return err ? sb__way_refused(c, err) : 0;
}

int sb__call_oneway(sb_session *named, const sb_request *request)
{
	sb_request sent = *request;
	struct sb__way c = { .request = &sent, .deliver = post };

	sent.flags &= ~SB_CALL_ONEWAY;
	return sb__way_go(&c, named);
}

/* ── waiting for them ── */

void sb__oneways_settle(struct sb__attachment *a)
{
	struct sb__lane_post post = { .flags = 0 };
	const struct sb__engine *engine;
	void *gil;

	sb__thread_after(a, &post);
	if (!(post.flags & SB__REQUEST_AFTER))
		return;
	engine = sb__engine_loaded();
	gil = engine ? engine->gil_release() : NULL;
	(void)sb__lane_wait_over(a->mailbox, sb__attachment_bell(a), post.after_lane, post.after_word,
	                         UINT64_MAX);
	if (gil)
		engine->gil_restore(gil);
}

/* One that has not ended. */
static bool one_out(struct sb__core *core, sb_session *session, struct sb__mailbox **ret,
                    struct sb__flight *ret_flight)
{
	struct sb__attachment *a;
	bool found = false;

	pthread_mutex_lock(&core->lock);
	a = sb__core_is_ours(core) ? atomic_load(&session->attached) : NULL;
	for (struct sb__oneway *o = a ? a->oneways : NULL; o && !found; o = o->next) {
		found = !sb__lane_call_over(a->mailbox, o->flight.lane, o->flight.ready) &&
		        sb__mailbox_state(a->mailbox) == SB__MAILBOX_SERVING &&
		        !sb__bell_owner_died(o->flight.bell);
		*ret = a->mailbox;
		*ret_flight = o->flight;
	}
	pthread_mutex_unlock(&core->lock);
	return found;
}

void sb__oneways_drain(sb_session *session)
{
	struct sb__core *core = session->core;
	uint64_t until = sb__now_ns() + sb__core_number(core, SB__CONFIG_CLOSE_TIMEOUT_MS) * MS;
	const struct sb__engine *engine = sb__engine_loaded();
	struct sb__mailbox *mailbox;
	struct sb__flight flight;
	void *gil = engine ? engine->gil_release() : NULL;

	while (sb__now_ns() < until && one_out(core, session, &mailbox, &flight))
		(void)sb__lane_wait_over(mailbox, flight.bell, flight.lane, flight.ready, until);
	if (gil)
		engine->gil_restore(gil);
}
