/* SPDX-License-Identifier: Apache-2.0 */
/* A call on its way: what dispatch.c shares with the ways of calling that do not wait (future.c, oneway.c). */
#ifndef SB_SESSION_WAY_H
#define SB_SESSION_WAY_H

#include "core.h"

#define SB__AGAIN 1 /* nothing ran, and the session may have moved to another incarnation */

/* What a thread knows of its calls. */
struct sb__way_thread {
	uint64_t trace_last, trace_epoch; /* the id made last, and in which process */
	uint64_t trace_now;               /* of the call that it makes; 0: none */
	struct sb__asked_call *asked;     /* the one that can be asked and waits; asked.h */
};
struct sb__way_thread *sb__way_thread(void); /* this thread's; a call, so ask once */

struct sb__way {
	struct sb__way_thread *thread; /* while it is on its way */
	sb_session *session;           /* NULL: closed since */
	const char *id;                /* of the session */
	const sb_request *request;
	uint64_t trace_id;
	uint64_t deadline_ns; /* 0: nothing of it ends then */
	uint64_t began_ms;    /* sb__now_coarse_ms() */
	uint32_t timeout_ms;
	/* What to do with the attachment, once everything is checked, instead of calling and waiting. SB__AGAIN as above. */
	int (*deliver)(struct sb__way *way, struct sb__attachment *a, void *arg);
	void *arg;
	char label[SB__LABEL_MAX]; /* empty until it is asked for */
};

/* What the call is called in errors and lists: verb and name. Only while there is the request, or if it was asked for before. */
const char *sb__way_label(const struct sb__way *way);

/* Resolves the session, checks, and delivers. way: request, deliver and arg set, all else 0. */
int sb__way_go(struct sb__way *way, sb_session *named);
/* Runs it here, in the designated owner itself; asker may be NULL. SB__AGAIN as above. */
struct sb__asker;
int sb__way_here(const struct sb__way *way, struct sb__attachment *a, const struct sb__asker *asker,
                 sb_value **ret_value);
/* Writes the request into a lane's buffer. An error: buf is freed. */
int sb__way_encode(const struct sb__way *way, struct sb__attachment *a, uint32_t lane, struct sb__buf *buf);
struct sb__lane_post sb__way_post(const struct sb__way *way);
/* Sends the request by a lane of ours and waits, without the GIL. post: sb__way_post(), perhaps with more in it. ret_late: of
 * one that can be asked (post->answering) only. */
int sb__way_call(const struct sb__way *way, struct sb__attachment *a, uint32_t lane,
                 struct sb__lane_post *post, enum sb__lane_result *ret, bool *ret_late);
/* The error that a result other than SB__LANE_REPLIED is. */
int sb__way_failed(const struct sb__way *way, struct sb__attachment *a, enum sb__lane_result result);
/* Takes a reply out of the lane, which is IDLE then: the value or the error. reply: where its bytes go. */
int sb__way_take(const struct sb__way *way, struct sb__attachment *a, uint32_t lane, struct sb__buf *reply,
                 sb_value **ret_value);
/* Marks the error just set as «nothing ran». Returns code. */
int sb__way_refused(const struct sb__way *way, int code);
/* No lane could be had: refused, or SB__AGAIN where that is because the incarnation has ended. */
int sb__way_no_lane(const struct sb__way *way, int code);
/* The life token of the attachment's owner (arg), for sb__alive_fn. */
bool sb__way_alive(void *attachment);

/* future.c: the session's handle goes: ends what is in flight by it. core->lock held. */
void sb__futures_drop_locked(sb_session *session);

#endif
