/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: generators and other iterators, asynchronous ones too, read item by item from C.
 *
 * A stream is an object in the session that runs an iterator; like any object it has a ref, which any process that uses the
 * session can read from. An sb_iter is one reader of it. Items travel in batches. The iterator runs only while a reader waits
 * for items, so it is never further ahead than one batch (with SB_ITER_READ_AHEAD two) of what its readers were given.
 *
 * Each item goes to one reader, in order; none is lost or comes twice, whatever times out or is cancelled. Only what was
 * fetched by a process that dies, or by an sb_iter that is closed or detached, is gone with it.
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
 * A stream ends with its iterator: that frees it in the session. Or it is closed, by sb_iter_close() in any of its readers:
 * then the generator's finally blocks run. One that is evicted, or expires, or whose session ends, is let go of, which closes a
 * generator that nothing else holds.
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
#define SB_ITER_WAIT_FULL UINT32_MAX /* for wait_ms: go on until the batch is full */

/* While the items of a batch are used up, the next one is fetched already. It holds a lane of its own. */
#define SB_ITER_READ_AHEAD 1u

/* How to read. Start with SB_ITER_OPTIONS_INIT. Grows at the end. */
typedef struct sb_iter_options {
	size_t size;
	size_t batch; /* items of a batch at most, up to SB_ITER_BATCH_MAX; 0: as many as come in time, up to 4096 */
	uint32_t
		wait_ms; /* how long to wait for the rest of a batch when there is an item: 1. A slow stream's items come at
	                        once whatever it says: it is counted from the request for them */
	uint32_t timeout_ms; /* of a wait for items; 0: the session's default */
	uint32_t flags;      /* SB_ITER_… */
	uint32_t call_flags; /* what becomes of items: SB_CALL_AS_REF, SB_CALL_PLAIN, SB_CALL_AS_VIEW */
} sb_iter_options;
#define SB_ITER_OPTIONS_INIT                           \
	{                                              \
		sizeof(sb_iter_options), 0, 1, 0, 0, 0 \
	}

/*
 * Makes a stream of an object, any that Python can iterate over with "for" or "async for", and a reader of it; of a stream, a
 * further reader. A generator goes on where it is. options NULL: the defaults. *ret_iter becomes the caller's. The stream is a
 * ref of the session like any other: it can be evicted or expire.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke(); the stream stays in the session until it is evicted or expires.  Since: 0.1
 */
SB_API int sb_iter_open(sb_session *session, const sb_ref *target, const sb_iter_options *options,
                        sb_iter **ret_iter);

/*
 * Makes a call, and a stream of its result, in one round trip. request->args are consumed.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_iter_open().  Since: 0.1
 */
SB_API int sb_iter_call(sb_session *session, const sb_request *request, const sb_iter_options *options,
                        sb_iter **ret_iter);

/*
 * A further reader of a stream whose ref came from elsewhere: sb_iter_ref() in this or another process. Asks nobody: what
 * is wrong with the ref is said by the first sb_iter_next().
 *
 * Errors: SB_EINVAL, SB_ENOMEM.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_iter_attach(sb_session *session, const sb_ref *stream, const sb_iter_options *options,
                          sb_iter **ret_iter);

/*
 * The stream's ref, to be handed to others. It is the reader's, and stays as it is until that is closed.
 *
 * Errors: NULL if iter is NULL.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_ref *sb_iter_ref(const sb_iter *iter);

/*
 * The next item: 1 and *ret_item, which becomes the caller's; 0 at the end, again and again. An exception of the iterator's
 * comes after the items before it, and ends the stream. After any other error (SB_ETIMEOUT, SB_ECANCELLED, SB_EREFSFULL) the
 * next call may be tried: no item was lost.
 *
 * Errors: as sb_invoke(); SB_ETIMEOUT (refused) if no item came in time; SB_EREFRELEASED if the stream was closed.
 * Threads: one at a time.  Fork: a child takes over none of the items that were fetched before, and shares what comes after.
 * Blocks: as sb_invoke(), once a batch.  Crash: items that were fetched are gone with the process.  Since: 0.1
 */
SB_API int sb_iter_next(sb_iter *iter, sb_value **ret_item);

/*
 * The same, but the item is lent: it stays until the next call with this reader. Copies nothing.
 *
 * Errors: as sb_iter_next().  Threads: as sb_iter_next().  Fork: as sb_iter_next().  Blocks: as sb_iter_next().
 * Crash: as sb_iter_next().  Since: 0.1
 */
SB_API int sb_iter_lend(sb_iter *iter, const sb_value **ret_item);

/*
 * For SB_FOR_EACH(): an item as sb_iter_lend() gives it; NULL at the end, and after an error, which sb_iter_error() says.
 *
 * Errors: NULL.  Threads: as sb_iter_next().  Fork: as sb_iter_next().  Blocks: as sb_iter_next().
 * Crash: as sb_iter_next().  Since: 0.1
 */
SB_API const sb_value *sb_iter_step(sb_iter *iter);

/*
 * The code with which the last reading of this reader failed, as sb_last_error() had it; 0: it did not.
 *
 * Errors: none.  Threads: as sb_iter_next().  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_iter_error(const sb_iter *iter);

/*
 * Closes a stream, for all its readers, and frees this one; NULL is fine. If the stream has not ended, its generator's close()
 * (or aclose()) is called, so that its finally blocks run; one that runs just then is interrupted by GeneratorExit as soon as
 * it is in Python code. Never fails.
 *
 * Errors: none (but sb_last_error() may change, and tells of an exception in a finally block).  Threads: once, after the last
 * sb_iter_next().  Fork: in a child that inherited it, closes it for the parent too.  Blocks: a second at most, and only if it
 * has not ended.  Crash: as sb_iter_open().  Since: 0.1
 */
SB_API void sb_iter_close(sb_iter *iter);

/*
 * Frees a reader and leaves the stream to others, or until it is evicted or expires; NULL is fine. What the reader has fetched
 * and not given is gone.
 *
 * Errors: none.  Threads: as sb_iter_close().  Fork: frees this process's copy.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API void sb_iter_detach(sb_iter *iter);

/*
 * SB_FOR_EACH(item, iter) { … }  runs the block for each item, a const sb_value * that it declares. The items are lent, so
 * there is nothing to free, and break, continue, return and goto are fine: the reader is where it is, and can go on. Look at
 * sb_iter_error() behind it.
 */
#define SB_FOR_EACH(item, iter) for (const sb_value *item; ((item) = sb_iter_step(iter)) != NULL;)

#if defined(__GNUC__)
/* SB_ITER_SCOPED sb_iter *iter = NULL;  is closed on every way out of the block that it is declared in. */
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
