/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks: C functions as arguments of calls, which Python calls like any function.
 *
 *	static int by_price(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
 *	{
 *		double price;
 *		int err = sb_value_unpack(args, "({s: d, *})", "price", &price);
 *
 *		return err ? err : sb_value_pack(ret_value, "d", price);
 *	}
 *	…
 *	err = sb_call(session, "builtins:sorted", sb_args("o key=k", rows, by_price, NULL), &sorted);
 *
 * The function runs in this process, in the thread that made the call, while it waits for the call. (Where this process is
 * the session's designated owner itself: on the Python thread that calls it, one at a time per call.) It may call in turn,
 * this session or another, also with callbacks. The call's deadline goes on while it runs.
 *
 * It lives as long as the call. Python may keep the object; calling it afterwards raises snakebridge.CallbackError, a
 * RuntimeError. So it does when the function fails, unless the failure names another exception.
 */
#ifndef SNAKEBRIDGE_CALLBACK_H
#define SNAKEBRIDGE_CALLBACK_H

#include "snakebridge/error.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SB_CALLBACKS_MAX      256 /* functions among the arguments of one call */
#define SB_CALLBACK_DEPTH_MAX 32  /* callbacks within each other, of one thread */

/*
 * What Python calls. arg: as it was packed. args: a tuple; kwargs: a dict, or NULL where there are no keywords (accessors
 * take that); both borrowed until it returns. *ret_value: NULL at first, which is None; what it is set to becomes the
 * library's. A ref among the arguments may be used until it returns; longer if it is pinned (sb_ref_pin()), and then
 * released by whoever pinned it. An array: as any other, by sb_array_ref().
 *
 * 0, or a negative code: Python gets an exception. It is of the type of sb_last_error()->python_type if the record is of that
 * code and has one, so that an exception of a call that it makes goes through it, and that sb_callback_raise() chooses one;
 * else a snakebridge.CallbackError with the record's message.
 *
 * It must not longjmp() or throw out of here, nor close the session's handle that the call was made by. One that forks returns
 * in the parent only: the child's call ends with SB_ECANCELLED, outcome unknown.
 */
typedef int (*sb_callback_fn)(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value);

/*
 * Appends a positional (name NULL) or keyword argument: a function. The same as 'k' in a format, which takes function and
 * arg, and which may stand anywhere in it: sb_args("o[kk] key=k", rows, f, NULL, g, NULL, h, &data). Futures, one-way calls
 * and batches refuse arguments with functions: SB_EINVAL.
 *
 * Errors: SB_EINVAL (args or fn is NULL), else as a later call would report.  Threads: one at a time.  Fork: a copy in
 * each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_args_add_callback(sb_args *args, const char *name, sb_callback_fn fn, void *arg);

/*
 * Sets the thread's error record so that Python gets an exception of a type of its own, and returns the code to return:
 *   return sb_callback_raise("builtins.KeyError", "no row %d", n);
 * python_type: qualified, or the name of a builtin. A class that the owner has not loaded, or that cannot be made from
 * a message alone, becomes a RuntimeError that names it.
 *
 * Errors: SB_EPYTHON, always; SB_EINVAL (python_type or format is NULL).  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_callback_raise(const char *python_type, const char *format, ...) SB_PRINTF_LIKE(2, 3);

#ifdef __cplusplus
}
#endif
#endif
