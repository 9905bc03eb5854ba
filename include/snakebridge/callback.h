/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks: C functions as arguments of calls, which Python calls like any other function.
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
 * The function runs in this process, in the thread that made the call, while that thread waits for it. (If this process is
 * the session's designated owner: in the Python thread that calls the function, one at a time per call.) It may make calls
 * itself, to this session or another, with callbacks too. The call's deadline keeps running meanwhile.
 *
 * It is valid as long as the call. Python may keep the object, but calling it afterwards raises snakebridge.CallbackError, a
 * RuntimeError. A function that fails raises the same, unless its error names another exception.
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
#define SB_CALLBACK_DEPTH_MAX 32  /* nested callbacks of one thread */

/*
 * What Python calls. arg: as it was packed. args: a tuple; kwargs: a dict, or NULL if there are no keyword arguments (which
 * accessors accept); both are borrowed until the function returns. *ret_value: NULL at first, which means None; the library
 * takes ownership of what it is set to. A ref among the arguments may be used until the function returns, or longer if it is
 * pinned (sb_ref_pin()); whoever pins it has to release it. Keep an array with sb_array_ref().
 *
 * Returns 0, or a negative code, which becomes an exception in Python. If sb_last_error() has that code and a python_type, the
 * exception is of that type: so exceptions of calls made in the function pass through it, and sb_callback_raise() chooses
 * one. Otherwise it is a snakebridge.CallbackError with the record's message.
 *
 * The function must not leave by longjmp() or a C++ exception, nor close the session handle that the call uses. If it forks,
 * only the parent may return: a child that returns gets SB_ECANCELLED, outcome unknown, from its call.
 */
typedef int (*sb_callback_fn)(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value);

/*
 * Appends a function as a positional (name NULL) or keyword argument. The same as 'k' in a format, which takes the function
 * and arg and may occur anywhere in it: sb_args("o[kk] key=k", rows, f, NULL, g, NULL, h, &data). Futures, one-way calls and
 * batches refuse functions as arguments: SB_EINVAL.
 *
 * Errors: SB_EINVAL (args or fn is NULL), else as a later call would report.  Threads: one at a time.  Fork: a copy in
 * each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_args_add_callback(sb_args *args, const char *name, sb_callback_fn fn, void *arg);

/*
 * Sets the thread's error record so that Python gets an exception of the given type, and returns the code to return:
 *   return sb_callback_raise("builtins.KeyError", "no row %d", n);
 * python_type: a qualified name, or that of a builtin. If the owner has not loaded the class, or it cannot be created from
 * a message alone, Python gets a RuntimeError that names it.
 *
 * Errors: SB_EPYTHON, always; SB_EINVAL (python_type or format is NULL).  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_callback_raise(const char *python_type, const char *format, ...) SB_PRINTF_LIKE(2, 3);

#ifdef __cplusplus
}
#endif
#endif
