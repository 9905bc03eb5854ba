/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of streams. The session has the iterator; this side has one batch of its items and lends them out, and with read-ahead
 * the request for the next batch is on its way meanwhile.
 *
 * The owner comes back in time when there is nothing, so a wait that ends without an item is no lost reply, and leaves the
 * lane as it was.
 *
 * Crash: the stream stays in the session until it is evicted or expires.
 */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "os_linux.h"
#include "point.h"
#include "request.h"
#include "snakebridge/snakebridge.h"
#include "value_impl.h"

#define BATCH_FIRST      64 /* where the reader may choose */
#define BATCH_MOST       4096
#define CLOSE_TIMEOUT_MS 1000

struct sb_iter {
	sb_session *session; /* as it was named, or NULL: the ref's own */
	sb_ref ref;
	sb_iter_options options;
	size_t ask;      /* items to ask for */
	sb_value *batch; /* [was that the end, [item …]], or NULL */
	const sb_value *list;
	size_t next, count; /* of the list */
	sb_future *ahead;   /* the next batch, on its way */
	size_t ahead_asked;
	uint64_t epoch; /* of the process whose these are */
	bool ended;     /* nothing is left in the session */
	int code;       /* of the last reading */
};

static const sb_iter_options defaults = SB_ITER_OPTIONS_INIT;

static int refuse(const char *what)
{
	int err = sb__fail(SB_EINVAL, "%s", what);

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

static int make(sb_session *session, const sb_iter_options *options, sb_iter **ret)
{
	struct sb_iter *iter;

	if (!ret)
		return refuse("ret_iter is NULL");
	if (!options)
		options = &defaults;
	if (options->size != sizeof(*options))
		return refuse("the options' size is wrong: start with SB_ITER_OPTIONS_INIT");
	if (options->batch > SB_ITER_BATCH_MAX)
		return refuse("a batch of so many items is more than SB_ITER_BATCH_MAX");
	if (options->flags & ~SB_ITER_READ_AHEAD)
		return refuse("the options' flags have bits other than SB_ITER_READ_AHEAD");
	if (options->call_flags & ~(SB_CALL_AS_REF | SB_CALL_PLAIN | SB_CALL_AS_VIEW))
		return refuse("the options' call_flags may have SB_CALL_AS_REF, SB_CALL_PLAIN and "
		              "SB_CALL_AS_VIEW only");
	iter = calloc(1, sizeof(*iter));
	if (!iter)
		return sb__fail_memory("a reader of a stream");
	iter->session = session;
	iter->options = *options;
	iter->ask = options->batch ? options->batch : BATCH_FIRST;
	iter->epoch = sb__fork_epoch();
	*ret = iter;
	return 0;
}

/* A reader of what a request makes. Its args are consumed. */
static int open_by(sb_session *session, const sb_request *request, const sb_iter_options *options,
                   sb_iter **ret)
{
	sb_value *value = NULL;
	sb_iter *iter = NULL;
	int err = make(session, options, ret ? &iter : NULL);

	if (err) {
		sb_args_free(request->args);
		return err;
	}
	err = sb_invoke(session, request, &value);
	if (!err && !sb_value_ref(value))
		err = sb__fail(SB_EPROTOCOL, "the owner replied with a stream that is not a ref");
	if (err) {
		free(iter);
	} else {
		iter->ref = *sb_value_ref(value);
		*ret = iter;
	}
	sb_value_free(value);
	return err;
}

int sb_iter_open(sb_session *session, const sb_ref *target, const sb_iter_options *options,
                 sb_iter **ret_iter)
{
	sb_request request = SB_REQUEST_INIT;

	request.verb = SB_VERB_ITER;
	request.target = target;
	return open_by(session, &request, options, ret_iter);
}

int sb_iter_call(sb_session *session, const sb_request *request, const sb_iter_options *options,
                 sb_iter **ret_iter)
{
	sb_request with;

	if (!request)
		return refuse("sb_iter_call: request is NULL");
	if (request->size != sizeof(*request) || (request->flags & SB_CALL_ONEWAY)) {
		sb_args_free(request->args);
		return refuse("sb_iter_call: start the request with SB_REQUEST_INIT; it cannot be one-way");
	}
	with = *request;
	with.flags |= SB_CALL_STREAM;
	return open_by(session, &with, options, ret_iter);
}

int sb_iter_attach(sb_session *session, const sb_ref *stream, const sb_iter_options *options,
                   sb_iter **ret_iter)
{
	int err = stream ? make(session, options, ret_iter) : refuse("sb_iter_attach: stream is NULL");

	if (!err)
		(*ret_iter)->ref = *stream;
	return err;
}

const sb_ref *sb_iter_ref(const sb_iter *iter)
{
	return iter ? &iter->ref : NULL;
}

/* ── fetching ── */

static void request_next(const struct sb_iter *iter, size_t ask, sb_request *r)
{
	r->verb = SB_VERB_NEXT;
	r->target = &iter->ref;
	r->flags = iter->options.call_flags;
	r->timeout_ms = iter->options.timeout_ms;
	r->args = iter->options.wait_ms == SB_ITER_WAIT_FULL
	                  ? sb_args("l", (int64_t)ask)
	                  : sb_args("ll", (int64_t)ask, (int64_t)iter->options.wait_ms);
}

static void drop_batch(struct sb_iter *iter)
{
	sb_value_free(iter->batch);
	iter->batch = NULL;
	iter->list = NULL;
	iter->next = iter->count = 0;
}

/* In a forked child: what was fetched is the parent's. */
static void take_over(struct sb_iter *iter)
{
	if (iter->epoch == sb__fork_epoch())
		return;
	iter->epoch = sb__fork_epoch();
	sb_future_free(iter->ahead);
	iter->ahead = NULL;
	iter->ended = false; /* maybe: the owner knows */
	drop_batch(iter);
}

/* Half a batch may do where a whole one had no room. */
static int failed(struct sb_iter *iter, int err)
{
	if (sb_last_error()->outcome == SB_OUTCOME_EXCEPTION && *sb_last_error()->python_type &&
	    err != SB_ECANCELLED)
		iter->ended = true; /* the iterator raised: the owner has freed it */
	else if (!iter->options.batch && iter->ask > 1)
		iter->ask /= 2;
	return err;
}

/* A batch has come. */
static int take(struct sb_iter *iter, sb_value *batch, size_t asked)
{
	const sb_value *list = sb_value_at(batch, 1);
	bool end = false;
	size_t count = sb_value_len(list);

	if (sb_value_bool(sb_value_at(batch, 0), &end) || sb_value_kind(list) != SB_KIND_LIST) {
		sb_value_free(batch);
		return sb__fail(SB_EPROTOCOL, "the owner replied with items that are not a list");
	}
	SB_POINT("iter.taken"); /* the owner has let go of these items */
	iter->batch = batch;
	iter->list = list;
	iter->next = 0;
	iter->count = count;
	iter->ended = end;
	if (!iter->options.batch) {
		iter->ask = 2 * count < BATCH_FIRST  ? BATCH_FIRST
		            : 2 * count < BATCH_MOST ? 2 * count
		                                     : BATCH_MOST;
		if (count < asked && iter->ask > asked)
			iter->ask = asked;
	}
	return 0;
}

/* The next request goes out while this batch is used. If it cannot, it is made later, and says why then. */
static void read_ahead(struct sb_iter *iter)
{
	sb_request request = SB_REQUEST_INIT;

	if (!(iter->options.flags & SB_ITER_READ_AHEAD) || iter->ended || iter->count == 0)
		return;
	request_next(iter, iter->ask, &request);
	iter->ahead_asked = iter->ask;
	if (sb_call_start(iter->session, &request, &iter->ahead))
		iter->ahead = NULL;
	SB_POINT("iter.asked_ahead");
}

/* What was asked for ahead: 1; 0 if nothing was, or it came back empty; or an error. */
static int fetch_ahead(struct sb_iter *iter)
{
	sb_value *batch = NULL;
	int err;

	if (!iter->ahead)
		return 0;
	err = sb_future_wait(iter->ahead, SB_WAIT_FOREVER, &batch);
	sb_future_free(iter->ahead);
	iter->ahead = NULL;
	if (err)
		return sb_last_error()->code == SB_ETIMEOUT ? 0 : failed(iter, err);
	err = take(iter, batch, iter->ahead_asked);
	return err ? err : iter->count > 0 || iter->ended;
}

static int nothing_came(const struct sb_iter *iter)
{
	int err = sb__fail(SB_ETIMEOUT, "the stream gave no item in time; nothing is lost: ask again");

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	sb__fail_set_sessions(iter->ref.session_id, NULL);
	return err;
}

/* The next batch: 0, or an error. */
static int fetch(struct sb_iter *iter)
{
	sb_request request = SB_REQUEST_INIT;
	sb_value *batch = NULL;
	size_t asked;
	int err = fetch_ahead(iter);

	if (!err) {
		drop_batch(iter);
		asked = iter->ask;
		request_next(iter, asked, &request);
		err = sb_invoke(iter->session, &request, &batch);
		if (err ==
		    SB_ETIMEOUT) /* the owner could not even say so; what it had for us stays in the stream */
			return nothing_came(iter);
		err = err ? failed(iter, err) : take(iter, batch, asked);
		if (!err && iter->count == 0 && !iter->ended)
			err = nothing_came(iter);
	}
	if (err >= 0)
		read_ahead(iter);
	return err < 0 ? err : 0;
}

static int lend(struct sb_iter *iter, const sb_value **ret)
{
	int err;

	take_over(iter);
	while (iter->next == iter->count) {
		if (iter->ended && !iter->ahead)
			return 0;
		drop_batch(iter);
		err = fetch(iter);
		if (err)
			return err;
	}
	*ret = sb_value_at(iter->list, iter->next++);
	return 1;
}

/* ── for its user ── */

int sb_iter_lend(sb_iter *iter, const sb_value **ret_item)
{
	int rc;

	if (!iter || !ret_item)
		return refuse(iter ? "sb_iter_lend: ret_item is NULL" : "sb_iter_lend: iter is NULL");
	if (iter->next < iter->count && iter->epoch == sb__fork_epoch()) { /* it is here already */
		*ret_item = sb_value_at(iter->list, iter->next++);
		iter->code = 0;
		return 1;
	}
	rc = lend(iter, ret_item);
	iter->code = rc < 0 ? rc : 0;
	return rc;
}

const sb_value *sb_iter_step(sb_iter *iter)
{
	const sb_value *item = NULL;

	return sb_iter_lend(iter, &item) == 1 ? item : NULL;
}

int sb_iter_error(const sb_iter *iter)
{
	return iter ? iter->code : SB_EINVAL;
}

int sb_iter_next(sb_iter *iter, sb_value **ret_item)
{
	const sb_value *item = NULL;
	int rc, err;

	if (!iter || !ret_item)
		return refuse(iter ? "sb_iter_next: ret_item is NULL" : "sb_iter_next: iter is NULL");
	rc = sb_iter_lend(iter, &item);
	if (rc != 1)
		return rc;
	err = sb__value_copy(item, ret_item);
	if (!err)
		return 1;
	iter->next--; /* it is still there */
	iter->code = err;
	return err;
}

void sb_iter_detach(sb_iter *iter)
{
	if (!iter)
		return;
	sb_future_free(iter->ahead);
	sb_value_free(iter->batch);
	free(iter);
}

void sb_iter_close(sb_iter *iter)
{
	sb_request request = SB_REQUEST_INIT;

	if (!iter)
		return;
	take_over(iter);
	sb_future_free(iter->ahead);
	iter->ahead = NULL;
	if (!iter->ended) {
		request.verb = SB_VERB_CLOSE;
		request.target = &iter->ref;
		request.timeout_ms = CLOSE_TIMEOUT_MS;
		(void)sb_invoke(iter->session, &request, NULL);
		SB_POINT("iter.closed");
	}
	sb_iter_detach(iter);
}
