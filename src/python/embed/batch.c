/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: requests in one request, replies in one reply. Each item is a call of its own, with its own uses of refs and its
 * own outcome. What does not differ from item to item is done once: the GIL, the Python frame (frame.h), the head of a
 * request that is byte for byte the one before's, a look at the clock where one item ends and the next begins.
 *
 * Locks: the GIL. Crash story: as execute.c.
 */
#include "run.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "frame.h"
#include "gil.h"
#include "snakebridge/async.h"
#include "snakebridge/error.h"

#define MS         UINT64_C(1000000)
#define COARSE_MS  20 /* more than the coarse clock may be behind */
#define BREATHE_MS 4  /* how often the GIL is offered */

struct batch {
	struct sb__table *table;
	struct sb__thread *thread;
	struct sb__call_origin origin;
	struct sb__running *running;
	bool stops, failed; /* at an item that failed; one did */
	bool framed;
	struct sb__kept_list *kept; /* the reply's; empty for ever where it can have none */
	struct sb__cursor *cursor;
	struct sb__buf *reply;
	uint64_t count;
	struct sb__items items;
	uint64_t made, now_ms, breathed_ms;
	int err;
	/* The head that was read last. head_len 0: none. Its name is in head_bytes, which are the request's. */
	const uint8_t *head_bytes;
	size_t head_len;
	struct sb__request_head head;
};

/* Why no further item is to run: 0, or the code. */
static int stopped(const struct batch *b)
{
	uint64_t deadline_ns = b->origin.deadline_ns;

	if ((b->failed && b->stops) || sb__running_cancelled(b->running))
		return SB_ECANCELLED;
	if (!deadline_ns || (b->now_ms + COARSE_MS) * MS < deadline_ns)
		return 0;
	return sb__now_ns() >= deadline_ns ? SB_ETIMEOUT : 0;
}

static void refuse(const struct batch *b, int code, struct sb__buf *reply)
{
	const char *why = "not run: the batch was cancelled";

	if (b->failed && b->stops)
		why = "not run: an earlier item failed, and the batch stops at errors";
	else if (code == SB_ETIMEOUT)
		why = "not run: the batch's deadline passed";
	sb__reply_refuse(reply, code, why);
}

/* The head of an item's request: as the one before's, or read. */
static int read_head(struct batch *b, struct sb__cursor *cursor, struct sb__why *why)
{
	int err;

	if (b->head_len > 0 && cursor->len > b->head_len &&
	    memcmp(cursor->data, b->head_bytes, b->head_len) == 0) {
		cursor->pos = b->head_len;
		return 0;
	}
	b->head_len = 0;
	err = sb__request_decode(cursor, &b->head);
	if (err)
		return sb__because_protocol(why, err);
	if (b->head.verb == SB_VERB_BATCH)
		return sb__because(why, SB_EINVAL,
		                   "a batch cannot be an item of a batch; add its items instead");
	b->head_bytes = cursor->data;
	b->head_len = cursor->pos;
	return 0;
}

/* One item from its request's bytes. */
static void run_item(struct batch *b, const struct sb__item *bytes, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = bytes->u.bytes.data, .len = bytes->u.bytes.len };
	struct sb__run run;
	int code;

	sb__run_init(&run, &b->head);
	if (bytes->type != SB__ITEM_BYTES)
		code = sb__because(&run.why, SB_EPROTOCOL, "an item of a batch is not a request");
	else
		code = read_head(b, &cursor, &run.why);
	if (code) {
		sb__reply_refuse(reply, run.why.code, run.why.message);
		b->failed = true;
		return;
	}
	sb__call_begin_at(&run.call, b->table, &b->origin, b->now_ms);
	run.call.items = &b->items;
	if (b->items.number)
		run.call.number = b->items.number; /* for all of them there is one */
	else
		b->items.number = run.call.number;
	run.thread = b->thread;
	run.framed = b->framed;
	run.keep = &b->items.results[b->items.count];
	b->made |= sb__run_one(&run, &cursor, NULL, reply);
	b->failed |= !run.delivered;
	b->now_ms = run.call.now_ms;
}

/* The same as sb__put_item_reply() has, of a few bytes, which name no arrays. */
static bool put_short(struct sb__buf *reply, const struct sb__buf *part)
{
	uint8_t *to = reply->data + reply->len;

	if (part->error || part->len >= 24 || !sb__buf_fits(reply, 24))
		return false;
	to[0] = (uint8_t)(SB__MAJOR_BYTES | part->len);
	if (part->len == 3) /* nearly always: None */
		memcpy(to + 1, part->data, 3);
	else
		memcpy(to + 1, part->data, part->len);
	reply->len += 1 + part->len;
	return true;
}

static void run_items(void *arg)
{
	struct batch *b = arg;

	for (; b->items.count < b->count && !b->err; b->items.count++) {
		/* Few items give more. Not in the reply's memory: an item may fork, see engine.h. */
		uint8_t memory[512];
		size_t kept = b->kept->count;
		struct sb__item bytes;
		struct sb__buf part;
		int stop;

		sb__buf_init(&part, memory, sizeof(memory));
		if (sb__take_short_bytes(b->cursor, &bytes.u.bytes.data, &bytes.u.bytes.len))
			bytes.type = SB__ITEM_BYTES;
		else
			b->err = sb__next(b->cursor, &bytes);
		stop = b->err ? b->err : stopped(b);
		if (stop) {
			refuse(b, stop, &part);
			b->failed = true;
		} else {
			run_item(b, &bytes, &part);
		}
		if (b->kept->count > kept || !put_short(b->reply, &part))
			sb__put_item_reply(b->reply, &part, b->kept->count > kept);
		if (part.heap)
			sb__buf_free(&part);
		if (b->now_ms - b->breathed_ms >= BREATHE_MS) {
			sb__gil_breathe();
			b->breathed_ms = b->now_ms;
		}
	}
}

static void run_framed(void *arg)
{
	struct batch *b = arg;

	b->framed = true;
	run_items(b);
}

static uint64_t run_batch(struct sb__table *table, const struct sb__call_origin *origin,
                          struct sb__thread *thread, struct sb__running *running,
                          const struct sb__request_head *head, struct sb__cursor *cursor,
                          struct sb__buf *reply, struct sb__items *ret_items)
{
	struct sb__kept_list none = { .items = NULL };
	struct batch b = { .table = table,
		           .thread = thread,
		           .kept = &none,
		           .running = running,
		           .stops = head->flags & SB_BATCH_STOP_ON_ERROR,
		           .cursor = cursor,
		           .reply = reply };
	struct sb__item count;
	int err = sb__next(cursor, &count);

	if (origin)
		b.origin = *origin;
	if (b.origin.kept)
		b.kept = b.origin.kept;
	if (err || count.type != SB__ITEM_ARRAY || count.u.count > SB_BATCH_MAX) {
		sb__reply_refuse(reply, SB_EPROTOCOL, "a batch without items, or with too many");
		return 0;
	}
	b.count = count.u.count;
	b.items.results = calloc(b.count + 1, sizeof(*b.items.results));
	if (!b.items.results) {
		sb__reply_refuse(reply, SB_ENOMEM, "no memory for a batch's results");
		return 0;
	}
	sb__put_reply(reply, SB__REPLY_VALUE);
	sb__put_array(reply, b.count);
	b.now_ms = b.breathed_ms = sb__now_coarse_ms();
	b.framed = thread->framed == table;
	if (b.framed || !sb__frame_around(sb__table_frame(table), run_framed, &b))
		run_items(&b);
	*ret_items = b.items;
	if (!b.err && !reply->error)
		return b.made;
	sb__reply_fail(reply, b.err ? b.err : reply->error,
	               "a batch's results could not be sent: they are too big "
	               "together, or memory is short");
	sb__kept_rewind(b.kept, 0);
	if (b.made)
		sb__settle(table, b.made, false);
	return 0;
}

uint64_t sb__run_batch(struct sb__table *table, const struct sb__call_origin *origin,
                       struct sb__thread *thread, struct sb__running *running,
                       const struct sb__request_head *head, struct sb__cursor *cursor, struct sb__buf *reply)
{
	struct sb__items items = { .results = NULL };
	uint64_t made = run_batch(table, origin, thread, running, head, cursor, reply, &items);

	sb__running_remove(thread, running);
	for (uint64_t i = 0; i < items.count; i++)
		Py_XDECREF(items.results[i]);
	free(items.results);
	return made;
}
