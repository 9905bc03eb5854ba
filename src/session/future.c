/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls in flight that no thread waits for all the time. Each has a lane of its own from the attachment's pool. Also where
 * the objects are this process's own: its service threads take the call from its own mailbox.
 *
 * Locks: core->lock for a session's list of them and the pool; notify_lock below it. A future is used by one thread at
 * a time; a watching thread only observes a copy.
 *
 * Crash: as for any call: the lane names its claimer.
 */
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "clock.h"
#include "engine.h"
#include "fail.h"
#include "message.h"
#include "notify.h"
#include "os_linux.h"
#include "value_impl.h"
#include "way.h"

#define MS UINT64_C(1000000)

struct sb_future {
	struct sb_future *next; /* of the session's */
	uint64_t epoch;         /* of the process that started it */
	struct sb__core *core;
	struct sb__way way;
	struct sb__attachment *a;
	uint32_t lane;
	struct sb__flight flight;
	struct sb__watch watch;
	int fd;
	bool linked;     /* in its session's list, with attachment and lane */
	sb_value *value; /* until it is fetched */
	bool fetched;
	struct sb__buf reply;         /* of one that gave an error */
	struct sb__array_list arrays; /* among the arguments */
	int code, outcome;
	char message[512];
	char id[SB_SESSION_ID_MAX + 1];
};

/* ── starting ── */

static int post(struct sb__way *c, struct sb__attachment *a, void *arg)
{
	struct sb_future *f = arg;
	struct sb__bell *bell = sb__attachment_bell(a);
	struct sb__lane_post post = sb__way_post(c);
	struct sb__buf buf;
	int err;

	err = sb__way_no_callbacks(c, "a future");
	if (err)
		return err;
	if (sb__bell_owner_died(bell) || sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return SB__AGAIN;
	err = sb__pool_lane_take(a, &f->lane);
	if (err)
		return sb__way_no_lane(c, err);
	sb__mailbox_touch(a->mailbox, c->began_ms);
	err = sb__way_encode(c, a, f->lane, &buf);
	if (!err)
		err = sb__flight_post(&f->flight, a->mailbox, bell, f->lane, &buf, &post, sb__way_alive, a);
	pthread_mutex_lock(&a->core->lock);
	if (err) {
		sb__pool_lane_give_locked(a, f->lane, false);
	} else {
		f->a = a;
		a->refs++;
		f->next = c->session->futures;
		c->session->futures = f;
		f->linked = true;
	}
	pthread_mutex_unlock(&a->core->lock);
	return err ? sb__way_refused(c, err) : 0;
}

int sb__call_start(sb_session *named, const sb_request *request, sb_future **ret)
{
	struct sb_future *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return sb__fail_memory("a call in flight");
	f->epoch = sb__fork_epoch();
	f->fd = -1;
	f->way.request = request;
	f->way.deliver = post;
	f->way.arg = f;
	sb__buf_init(&f->reply, NULL, 0);
	err = sb__way_go(&f->way, named);
	if (err) {
		free(f);
		return err;
	}
	f->core = f->way.session->core;
	memcpy(f->id, f->way.id, strlen(f->way.id) + 1);
	f->way.id = f->id;
	(void)sb__way_label(&f->way);
	f->way.request = NULL; /* the caller's */
	if (request->args) {   /* the designated owner may take them at any time from now on */
		f->arrays = request->args->arrays;
		request->args->arrays = (struct sb__array_list){ .items = NULL };
	}
	if (!f->flight.over)
		(void)sb__watch_start(&f->watch, &f->flight, -1); /* without it the call may begin late */
	*ret = f;
	return 0;
}

/* ── ending ── */

static void unlink_locked(struct sb_future *f)
{
	struct sb_future **at = &f->way.session->futures;

	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	f->linked = false;
}

/* The flight is over: takes what there is out of the lane. */
static void take(struct sb_future *f)
{
	int err = 0;

	if (f->flight.result == SB__LANE_REPLIED) {
		err = sb__way_take(&f->way, f->a, f->lane, &f->reply, &f->value);
		/* An exception is read anew each time that somebody asks. */
		if (!err || sb_last_error()->outcome != SB_OUTCOME_EXCEPTION)
			sb__buf_free(&f->reply);
	} else {
		err = sb__way_failed(&f->way, f->a, f->flight.result);
	}
	if (!err)
		return;
	f->code = err;
	f->outcome = sb_last_error()->outcome;
	strncpy(f->message, sb_last_error()->message, sizeof(f->message) - 1);
}

static void let_go_locked(struct sb_future *f)
{
	enum sb__lane_result result = f->flight.result;

	unlink_locked(f);
	sb__pool_lane_give_locked(f->a, f->lane, result == SB__LANE_MAYBE || result == SB__LANE_DIED_MAYBE);
	sb__attachment_put_locked(f->a);
	f->a = NULL;
}

static void conclude(struct sb_future *f)
{
	sb__watch_stop(&f->watch);
	if (f->fd >= 0)
		sb__os_eventfd_set(f->fd);
	take(f);
	pthread_mutex_lock(&f->core->lock);
	let_go_locked(f);
	pthread_mutex_unlock(&f->core->lock);
}

void sb__futures_drop_locked(sb_session *session)
{
	while (session->futures) {
		struct sb_future *f = session->futures;

		if (f->epoch != sb__fork_epoch()) { /* the parent's */
			unlink_locked(f);
			continue;
		}
		sb__watch_stop(&f->watch);
		sb__flight_abandon(&f->flight);
		if (f->flight.result == SB__LANE_REPLIED) {
			take(f); /* takes no lock of the core's */
		} else {
			f->code = SB_ECLOSED;
			f->outcome = f->flight.result == SB__LANE_MAYBE ||
			                             f->flight.result == SB__LANE_DIED_MAYBE
			                     ? SB_OUTCOME_UNKNOWN
			                     : SB_OUTCOME_REFUSED;
			strcpy(f->message, "the session's handle was closed while the call was in flight");
		}
		if (f->fd >= 0)
			sb__os_eventfd_set(f->fd);
		let_go_locked(f);
		f->way.session = NULL;
	}
}

/* ── for its user ── */

static int inherited(void)
{
	return sb__fail(SB_EINVAL,
	                "this call was started before a fork(), by the parent process: only that one "
	                "can wait for it; the child can only free it");
}

static int result_of(struct sb_future *f, sb_value **ret_value)
{
	if (f->fetched)
		return sb__fail(SB_EINVAL, "the result of this call was fetched before: it is given once");
	if (!f->code) {
		f->fetched = true;
		if (ret_value)
			*ret_value = f->value;
		else
			sb_value_free(f->value);
		f->value = NULL;
		return 0;
	}
	if (f->reply.len > 0)
		(void)sb__reply_decode(f->reply.data, f->reply.len, f->id, NULL);
	else
		sb__fail(f->code, "%s", f->message);
	sb__fail_set_outcome(f->outcome);
	sb__fail_set_trace(f->way.trace_id);
	sb__fail_set_sessions(f->id, NULL);
	return f->code;
}

int sb__future_wait(struct sb_future *f, uint32_t timeout_ms, sb_value **ret_value)
{
	const struct sb__engine *engine;
	bool over = true;
	void *gil;

	if (f->epoch != sb__fork_epoch())
		return inherited();
	if (f->linked && timeout_ms == 0) {
		over = sb__flight_poll(&f->flight);
	} else if (f->linked) {
		uint64_t until = timeout_ms == UINT32_MAX ? UINT64_MAX : sb__now_ns() + timeout_ms * MS;

		/* As for any call: whoever answers may need the GIL that this thread holds. */
		engine = sb__engine_loaded();
		gil = engine ? engine->gil_release() : NULL;
		over = sb__flight_wait(&f->flight, until);
		if (gil)
			engine->gil_restore(gil);
	}
	if (!over)
		return 1;
	if (f->linked)
		conclude(f);
	return result_of(f, ret_value);
}

int sb__future_poll(struct sb_future *f)
{
	if (f->epoch != sb__fork_epoch())
		return inherited();
	if (f->linked && sb__flight_poll(&f->flight))
		conclude(f);
	return !f->linked;
}

int sb__future_cancel(struct sb_future *f, int *ret_level)
{
	int level = 0;

	if (f->epoch != sb__fork_epoch())
		return inherited();
	if (f->linked)
		level = sb__flight_cancel(&f->flight);
	if (ret_level)
		*ret_level = level == 1 ? SB_CANCEL_ASKED : level == 2 ? SB_CANCEL_REMOVED : SB_CANCEL_NONE;
	return 0;
}

int sb__future_fd(struct sb_future *f, int *ret_fd)
{
	int err = 0;

	if (f->epoch != sb__fork_epoch())
		return inherited();
	if (f->fd < 0) {
		int fd = sb__os_eventfd();

		if (fd < 0)
			return sb__fail_errno(SB_ESYSTEM, fd, "an event descriptor for a call in flight");
		sb__watch_stop(&f->watch);
		if (!f->linked || f->flight.over)
			sb__os_eventfd_set(fd);
		else
			err = sb__watch_start(&f->watch, &f->flight, fd);
		if (err) {
			(void)sb__os_close(fd);
			return err;
		}
		f->fd = fd;
	}
	*ret_fd = f->fd;
	return 0;
}

void sb__future_free(struct sb_future *f)
{
	bool ours = f->epoch == sb__fork_epoch();

	if (f->linked && sb__core_lock_if_open(f->core)) {
		if (f->linked && ours) {
			sb__watch_stop(&f->watch);
			sb__flight_abandon(&f->flight);
			if (f->flight.result == SB__LANE_REPLIED)
				sb__lane_consume(f->a->mailbox, f->lane);
			let_go_locked(f);
		} else if (f->linked) {
			unlink_locked(f);
		}
		pthread_mutex_unlock(&f->core->lock);
	}
	if (f->fd >= 0)
		(void)sb__os_close(f->fd);
	sb__buf_free(&f->reply);
	sb__array_list_drop(&f->arrays);
	sb_value_free(f->value);
	free(f);
}
