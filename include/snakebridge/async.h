/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that do not wait: futures, whose result is fetched later or from an event loop, and one-way calls. And batches:
 * many calls in one round trip.
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

/* A call in flight. To be used by one thread at a time. */
typedef struct sb_future sb_future;

/* For sb_future_wait(): until the call ends, at its deadline at the latest. */
#define SB_WAIT_FOREVER UINT32_MAX

/*
 * Starts a call and returns. The caller owns *ret_future; request->args are consumed. Calls in flight run concurrently,
 * in no particular order. Each holds a lane of its own until its result is fetched or it is freed, so
 * max_lanes_per_process limits how many a process can have in flight (SB_ELANES). Closing the session's handle ends
 * those in flight with SB_ECLOSED.
 *
 * Errors: as sb_invoke(), as far as known at once; sb_future_wait() reports the others.  Threads: any.  Fork: a child
 * inherits no calls: only sb_future_free() may be used there.  Blocks: no, unless the session must first be found or
 * an owner elected.  Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_call_start(sb_session *session, const sb_request *request, sb_future **ret_future);

/*
 * Waits for the result: returns 0 and *ret_value (ret_value may be NULL), which the caller owns; 1 if timeout_ms passed and
 * the call is still in flight (timeout_ms 0: does not wait; SB_WAIT_FOREVER: until it ends); or the call's error, as
 * sb_invoke() would have returned it. An error can be fetched again, a value only once.
 *
 * Errors: as sb_invoke(); SB_ECLOSED; SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: yes.
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_future_wait(sb_future *future, uint32_t timeout_ms, sb_value **ret_value);

/*
 * Whether the call has ended, successfully or not: 1 yes, and sb_future_wait() will not block; 0 no.
 *
 * Errors: SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API int sb_future_poll(sb_future *future);

/*
 * Cancels this call only, as sb_cancel() does. ret_level (may be NULL): an sb_cancel_level. sb_future_wait() gives the
 * result.
 *
 * Errors: SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.  Crash: cancelled or not.
 * Since: 0.1
 */
SB_API int sb_future_cancel(sb_future *future, int *ret_level);

/*
 * A descriptor for poll(), epoll or an event loop. It is readable as soon as the call has ended: by a reply, the owner's
 * death, the session's end or the deadline. It belongs to the future and is closed with it; do not read from it.
 *
 * Errors: SB_ESYSTEM, SB_ENOMEM, SB_EINVAL.  Threads: one at a time.  Fork: SB_EINVAL in a child.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_future_fd(sb_future *future, int *ret_fd);

/*
 * Frees a future; NULL is fine. A call in flight is abandoned as if its deadline had passed: if it has not begun it is
 * withdrawn; otherwise it may still finish, and its result is dropped.
 *
 * Errors: none.  Threads: once.  Fork: frees this process's copy only.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API void sb_future_free(sb_future *future);

/* ── one-way calls ── */

/*
 * Calls a function and returns as soon as the request is published. Other verbs can be sent this way with SB_CALL_ONEWAY
 * in sb_request.flags. Result and exception are dropped (sb-inspect counts exceptions), and refs created for the result
 * are withdrawn.
 *
 * Order: it runs after the one-way calls that this thread sent to the session earlier, and before the calls that this
 * thread makes and waits for afterwards, so a later sb_call() sees its effects. Futures and other threads' calls are not
 * ordered with it.
 *
 * Each holds a lane until it has ended, so max_lanes_per_process limits how many a process can have in flight
 * (SB_ELANES). It has a deadline like any call; if it has not begun by then it is dropped. Closing the session's handle
 * waits for those in flight, for close_timeout_ms at most.
 *
 * Errors: as sb_invoke(), as far as known before it is published.  Threads: any.  Fork: a child has sent none.
 * Blocks: no, unless as sb_call_start().  Crash: a killed caller's calls that have not begun are dropped; those that run are
 * interrupted, or finish if cancel_abandoned (snakebridge/config.h) is 0.
 * Since: 0.1
 */
SB_API int sb_call_oneway(sb_session *session, const char *function, sb_args *args);

/* ── batches ── */

/* Calls that go to a session together, in one round trip. To be used by one thread at a time. */
typedef struct sb_batch sb_batch;
#define SB_BATCH_MAX 10000 /* items */
#define SB_BATCH_STOP_ON_ERROR \
	1u /* the first item that fails is the last that runs; those after it are refused */

/*
 * Creates an empty batch. flags: 0 or SB_BATCH_STOP_ON_ERROR; without it every item is run, whatever became of the others.
 *
 * Errors: SB_EINVAL, SB_ENOMEM.  Threads: any.  Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_batch_new(uint32_t flags, sb_batch **ret_batch);

/*
 * Adds a call; its args are consumed. Its target, and any argument, may be sb_batch_ref() of an earlier item. ret_item (may
 * be NULL): its number, from 0. request->timeout_ms and trace_id are ignored: the batch has one of each. Arrays among the
 * arguments are kept as long as the batch; each run sees what they hold at that time.
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_ETOOBIG; the batch is then unchanged.  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_batch_add(sb_batch *batch, const sb_request *request, size_t *ret_item);

/*
 * Stands for the result of an item within its batch: as a target, or anywhere in arguments, sb_args("r", &ref). It is the
 * object itself, even if the result comes back as a value. Outside a batch it is refused (SB_EINVAL).
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_ref sb_batch_ref(size_t item);

/*
 * Runs the items in the session, one after the other. Returns 0 if they were run: sb_batch_result() then says what became of
 * each. Otherwise none ran (outcome refused), or that is not known (outcome unknown). timeout_ms: for the whole batch; 0: the
 * session's; items that have not begun by then are refused. A batch may be run again, which replaces its results.
 *
 * Errors: as sb_invoke().  Threads: one at a time.  Fork: as sb_invoke().  Blocks: as sb_invoke().  Crash: as sb_invoke().
 * Since: 0.1
 */
SB_API int sb_batch_run(sb_session *session, sb_batch *batch, uint32_t timeout_ms);

/*
 * What became of an item in the last run, as sb_invoke() would have returned it. The caller owns *ret_value (ret_value may
 * be NULL). Each call gives a new copy, but arrays in the copies are the same array, which lives as long as a value or the
 * batch has it.
 *
 * Errors: as sb_invoke(); SB_ECANCELLED (refused) for an item that did not run because an earlier one failed or the batch
 * was cancelled; SB_EINVAL (no such item, or the batch was not run).  Threads: one at a time.  Fork: a copy in each.
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
