/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls without waiting: futures, that are waited for later or from an event loop, and one-way calls. And batches: many
 * calls in one round trip.
 *
 * Errors of the call itself are those of sb_invoke(), see snakebridge/call.h.
 */
#ifndef SNAKEBRIDGE_ASYNC_H
#define SNAKEBRIDGE_ASYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/call.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ── futures ── */

/* A call in flight. Used by one thread at a time. */
typedef struct sb_future sb_future;

/* For sb_future_wait(): until the call ends, which its deadline bounds. */
#define SB_WAIT_FOREVER UINT32_MAX

/*
 * Starts a call and returns. *ret_future becomes the caller's. request->args are consumed. Calls in flight run side by
 * side, in no order. Each holds a lane of its own until its result is fetched or it is freed, so max_lanes_per_process
 * bounds how many a process has in flight (SB_ELANES). Closing the session's handle ends those in flight: SB_ECLOSED.
 *
 * Errors: as sb_invoke(), of what is known at once; the rest comes by sb_future_wait().  Threads: any.  Fork: a child
 * inherits no calls: only sb_future_free() is right there.  Blocks: no, but where a session must first be found or an
 * owner elected.  Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_call_start(sb_session *session, const sb_request *request, sb_future **ret_future);

/*
 * Waits for the result: 0 and *ret_value (may be NULL), which becomes the caller's; 1 if timeout_ms passed and the call is
 * still in flight (0: just looks; SB_WAIT_FOREVER: until it ends); or the error of the call, as sb_invoke() would have
 * given it. An error may be asked for again, a value is given once.
 *
 * Errors: as sb_invoke(); SB_ECLOSED; SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: yes.
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_future_wait(sb_future *future, uint32_t timeout_ms, sb_value **ret_value);

/*
 * Has it ended, well or not? 1 yes, and sb_future_wait() does not block; 0 no.
 *
 * Errors: SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API int sb_future_poll(sb_future *future);

/*
 * Cancels it as sb_cancel() does, but this call only. ret_level (may be NULL): an sb_cancel_level. The result comes by
 * sb_future_wait().
 *
 * Errors: SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.  Crash: cancelled or not.
 * Since: 0.1
 */
SB_API int sb_future_cancel(sb_future *future, int *ret_level);

/*
 * A descriptor for poll(), epoll or an event loop: readable as soon as the call has ended: a reply, the owner's death,
 * the session's end, the deadline. It belongs to the future and is closed with it; do not read from it.
 *
 * Errors: SB_ESYSTEM, SB_ENOMEM, SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_future_fd(sb_future *future, int *ret_fd);

/*
 * Frees a future; NULL is fine. A call in flight is abandoned as if its deadline had passed: it is withdrawn if it has not
 * begun; else it may still finish, and its result is dropped.
 *
 * Errors: none.  Threads: once.  Fork: frees this process's copy only.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API void sb_future_free(sb_future *future);

/* ── one-way calls ── */

/*
 * Calls a function and returns as soon as the request is published. Any other call can be sent so by SB_CALL_ONEWAY in
 * sb_request.flags. Result and exception are dropped (sb-inspect counts exceptions), refs that it made are withdrawn.
 *
 * Order: it comes after the one-way calls that this thread has sent to the session before, and so do this thread's calls
 * that are waited for: sb_call() after it sees what it did. Futures and other threads' calls come in no order with it.
 *
 * Each holds a lane until it has ended, so max_lanes_per_process bounds how many a process has out (SB_ELANES). Its
 * deadline is that of any call: what has not begun by then is dropped. Closing the session's handle waits for those that are
 * out, for as long as close_timeout_ms allows.
 *
 * Errors: as sb_invoke(), of what is known before it is published.  Threads: any.  Fork: a child has sent none.
 * Blocks: no, but as sb_call_start().  Crash: what a killed caller has sent runs, or if it has not begun may not.
 * Since: 0.1
 */
SB_API int sb_call_oneway(sb_session *session, const char *function, sb_args *args);

/* ── batches ── */

/* Calls that go to a session together, in one round trip. Used by one thread at a time. */
typedef struct sb_batch sb_batch;
#define SB_BATCH_MAX           10000 /* items */
#define SB_BATCH_STOP_ON_ERROR 1u /* an item that fails is the last that runs; those after it are refused */

/*
 * Makes an empty batch. flags: 0 or SB_BATCH_STOP_ON_ERROR. Without it each item is tried, whatever became of others.
 *
 * Errors: SB_EINVAL, SB_ENOMEM.  Threads: any.  Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_batch_new(uint32_t flags, sb_batch **ret_batch);

/*
 * Adds a call; its args are consumed. Its target, and any argument, may be sb_batch_ref() of an earlier item. ret_item (may
 * be NULL): its number, from 0. timeout_ms and trace_id are the batch's matter. Arrays among the arguments stay as long as
 * the batch does; what is written into them before a run is what that run sees.
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_ETOOBIG; then the batch is as before.  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_batch_add(sb_batch *batch, const sb_request *request, size_t *ret_item);

/*
 * Stands for the result of an item, within its batch: as target, or anywhere in arguments, sb_args("r", &ref). It is the
 * object itself, also where the result comes back as a value. Anywhere else but in a batch it is refused (SB_EINVAL).
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_ref sb_batch_ref(size_t item);

/*
 * Runs the items in the session, one after the other. 0: they were run, and sb_batch_result() says what became of each;
 * else none may have been (outcome «refused»), or it is not known (outcome «unknown»). timeout_ms: of the whole batch; 0: the
 * session's; items that have not begun by then are refused. May be run again: that replaces the results.
 *
 * Errors: as sb_invoke().  Threads: one at a time.  Fork: as sb_invoke().  Blocks: as sb_invoke().  Crash: as sb_invoke().
 * Since: 0.1
 */
SB_API int sb_batch_run(sb_session *session, sb_batch *batch, uint32_t timeout_ms);

/*
 * What became of an item in the last run, as sb_invoke() would have given it. *ret_value (may be NULL) becomes the
 * caller's; each call gives one of its own, but arrays in them are the same array: it stays as long as a value or the batch
 * has it.
 *
 * Errors: as sb_invoke(); SB_ECANCELLED (refused) of an item that was not run because an earlier one failed or the batch
 * was cancelled; SB_EINVAL: there is no such item, or no results.  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_batch_result(const sb_batch *batch, size_t item, sb_value **ret_value);

/*
 * Frees a batch and its results; NULL is fine.
 *
 * Errors: none.  Threads: once.  Fork: frees this process's copy.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_batch_free(sb_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
