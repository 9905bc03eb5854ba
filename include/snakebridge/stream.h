/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: generators and other iterators, async ones too, read item by item from C.
 *
 * A stream is an object in the session that runs an iterator. Like any object it has a ref, and any process that uses the
 * session can read from it. An sb_iter is one reader of a stream. Items travel in batches. The iterator runs only while a
 * reader waits for items, so it is at most one batch ahead of its readers (two with SB_ITER_READ_AHEAD).
 *
 * Each item goes to one reader, in order; none is lost or delivered twice, whatever times out or is cancelled. Only items
 * fetched by a process that dies, or by an sb_iter that is closed or detached, are lost with it.
 *
 *	sb_iter *lines = NULL;
 *
 *	if (sb_iter_call(session, &request, NULL, &lines) == 0) {
 *		SB_FOR_EACH (line, lines)
 *			puts(sb_value_str(line, NULL));
 *		err = sb_iter_error(lines);
 *		sb_iter_close(lines);
 *	}
 *
 * A stream ends when its iterator does, which frees it in the session, or when any reader calls sb_iter_close(), which runs
 * the generator's finally blocks. A stream that is evicted, expires, or goes with its session drops its iterator, which closes
 * a generator that nothing else holds.
 */
#ifndef SNAKEBRIDGE_STREAM_H
#define SNAKEBRIDGE_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "snakebridge/call.h"
#include "snakebridge/session.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A reader of a stream. */
typedef struct sb_iter sb_iter;

#define SB_ITER_BATCH_MAX 1000000
#define SB_ITER_WAIT_FULL UINT32_MAX /* for wait_ms: wait until the batch is full */

/* Fetch the next batch while the items of this one are used. Takes a lane of its own. */
#define SB_ITER_READ_AHEAD 1u

/* How to read. Start with SB_ITER_OPTIONS_INIT. Grows at the end. */
typedef struct sb_iter_options {
	size_t size;
	size_t batch; /* most items of a batch, up to SB_ITER_BATCH_MAX; 0: as many as come in time, up to 4096 */
	uint32_t
		wait_ms; /* how long to wait for the rest of a batch once there is an item, counted from the request, so a
	                        slow stream's items come at once in any case. SB_ITER_OPTIONS_INIT: 1 */
	uint32_t timeout_ms; /* for a wait for items; 0: the session's default */
	uint32_t flags;      /* SB_ITER_… */
	uint32_t call_flags; /* how items come back: SB_CALL_AS_REF, SB_CALL_PLAIN, SB_CALL_AS_VIEW */
} sb_iter_options;
#define SB_ITER_OPTIONS_INIT                           \
	{                                              \
		sizeof(sb_iter_options), 0, 1, 0, 0, 0 \
	}

/*
 * Streams an object that Python can iterate over with "for" or "async for": creates a stream and a reader of it; if the
 * object is a stream, only another reader. A generator continues where it is. options NULL: the defaults. The caller owns
 * *ret_iter. The stream's ref is like any other: it can be evicted or expire.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke(); the stream stays in the session until it is evicted or expires.  Since: 0.1
 */
SB_API int sb_iter_open(sb_session *session, const sb_ref *target, const sb_iter_options *options,
                        sb_iter **ret_iter);

/*
 * Makes a call and streams its result, in one round trip. request->args are consumed.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_iter_open().  Since: 0.1
 */
SB_API int sb_iter_call(sb_session *session, const sb_request *request, const sb_iter_options *options,
                        sb_iter **ret_iter);

/*
 * Creates another reader of a stream from its ref, as sb_iter_ref() gives it in this or another process. Does not ask the
 * owner: if the ref is stale, the first sb_iter_next() says so.
 *
 * Errors: SB_EINVAL, SB_ENOMEM.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_iter_attach(sb_session *session, const sb_ref *stream, const sb_iter_options *options,
                          sb_iter **ret_iter);

/*
 * The stream's ref, to pass to other processes. Borrowed; valid until the reader is closed or detached.
 *
 * Errors: none; NULL if iter is NULL.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_ref *sb_iter_ref(const sb_iter *iter);

/*
 * The next item: returns 1 and *ret_item, which the caller owns; 0 at the end, and on every call after that. An exception
 * raised by the iterator comes after the items before it and ends the stream. After SB_ETIMEOUT, SB_ECANCELLED or
 * SB_EREFSFULL, call it again: no item was lost.
 *
 * Errors: as sb_invoke(); SB_ETIMEOUT (refused) if no item came in time; SB_EREFRELEASED if the stream was closed.
 * Threads: one at a time.  Fork: a child gets none of the items fetched before, and shares those that come after.
 * Blocks: as sb_invoke(), once per batch.  Crash: items that were fetched are lost with the process.  Since: 0.1
 */
SB_API int sb_iter_next(sb_iter *iter, sb_value **ret_item);

/*
 * As sb_iter_next(), but the item is borrowed: it is valid until the next call with this reader. Copies nothing.
 *
 * Errors: as sb_iter_next().  Threads: as sb_iter_next().  Fork: as sb_iter_next().  Blocks: as sb_iter_next().
 * Crash: as sb_iter_next().  Since: 0.1
 */
SB_API int sb_iter_lend(sb_iter *iter, const sb_value **ret_item);

/*
 * For SB_FOR_EACH(): an item as from sb_iter_lend(); NULL at the end, and on an error, which sb_iter_error() gives.
 *
 * Errors: NULL, and sb_iter_error() gives the code.  Threads: as sb_iter_next().  Fork: as sb_iter_next().  Blocks: as sb_iter_next().
 * Crash: as sb_iter_next().  Since: 0.1
 */
SB_API const sb_value *sb_iter_step(sb_iter *iter);

/*
 * The code with which the last read by this reader failed; 0 if it did not fail.
 *
 * Errors: none.  Threads: as sb_iter_next().  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_iter_error(const sb_iter *iter);

/*
 * Closes a stream for all its readers and frees this one; NULL is fine. If the stream has not ended, its generator's close()
 * (or aclose()) is called, so that its finally blocks run; a generator that is running is interrupted by GeneratorExit as
 * soon as it executes Python code. Never fails.
 *
 * Errors: none (but sb_last_error() may change: it reports an exception in a finally block).  Threads: once, after the last
 * sb_iter_next().  Fork: in a child that inherited it, closes it for the parent too.  Blocks: a second at most, and only if the
 * stream has not ended.  Crash: as sb_iter_open().  Since: 0.1
 */
SB_API void sb_iter_close(sb_iter *iter);

/*
 * Frees a reader and leaves the stream to others, or until it is evicted or expires; NULL is fine. Items that the reader has
 * fetched but not returned are lost.
 *
 * Errors: none.  Threads: as sb_iter_close().  Fork: frees this process's copy.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API void sb_iter_detach(sb_iter *iter);

/*
 * SB_FOR_EACH(item, iter) { … }  runs the block for each item; it declares item, a const sb_value *. The items are borrowed,
 * so there is nothing to free, and break, continue, return and goto are fine: the reader keeps its place and can go on. Check
 * sb_iter_error() afterwards.
 */
#define SB_FOR_EACH(item, iter) for (const sb_value *item; ((item) = sb_iter_step(iter)) != NULL;)

#if defined(__GNUC__)
/* SB_ITER_SCOPED sb_iter *iter = NULL;  is closed when the block that declares it is left, in whatever way. */
#define SB_ITER_SCOPED __attribute__((cleanup(sb_iter_close_scoped)))
static inline void sb_iter_close_scoped(sb_iter **iter)
{
	sb_iter_close(*iter);
}
#endif

#ifdef __cplusplus
}
#endif
#endif
