/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: Python functions, methods and attributes, run where the session's objects live.
 *
 * Which session: the one named (session), else the ref's own, else the thread's current context, else
 * the thread's auto-session. A ref of another session, as target or anywhere inside the arguments, is
 * refused with SB_EREFSESSION and nothing runs.
 *
 * Outcome: 0 and a value; or a negative code, with sb_last_error()->outcome saying whether Python
 * raised, nothing ran, or it is unknown.
 *
 * All functions here consume args (NULL: no arguments), also when they fail. ret_value may be NULL to
 * drop the result; else *ret_value becomes the caller's on success and is untouched on failure.
 *
 * What is common to all, referred to as «as sb_invoke()»:
 * Errors: SB_EINVAL, SB_ENOMEM; SB_EPYTHON, SB_EMODULE, SB_EATTRIBUTE (exception); SB_ERELEASED,
 * SB_EEXPIRED, SB_EOWNERDIED, SB_ENOOWNER, SB_ETIMEOUT, SB_ELANES; SB_EREFUNKNOWN, SB_EREFRELEASED,
 * SB_EREFEXPIRED, SB_EREFEVICTED, SB_EREFSESSION, SB_EREFSFULL; SB_ETOOBIG, SB_ETOODEEP,
 * SB_EPROTOCOL, SB_ENOSPACE, SB_ENOPYTHON.
 */
#ifndef SNAKEBRIDGE_CALL_H
#define SNAKEBRIDGE_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/session.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers are wire format: append only. */
typedef enum sb_verb {
	SB_VERB_CALL = 1,     /* name: function path */
	SB_VERB_METHOD = 2,   /* target, name */
	SB_VERB_ATTR = 3,     /* target, name: dotted attribute path */
	SB_VERB_SET_ATTR = 4, /* target, name, one positional argument */
	SB_VERB_GET = 5,      /* name: path of a module attribute */
	SB_VERB_RELEASE = 6   /* target */
} sb_verb;

#define SB_CALL_AS_REF 1u /* leave the result where it is, whatever it is */

/* One call. Start with SB_REQUEST_INIT. Grows at the end. */
typedef struct sb_request {
	size_t size;
	sb_verb verb;
	const sb_ref *target; /* NULL for call and get */
	const char *name;
	sb_args *args;        /* consumed */
	uint32_t timeout_ms;  /* 0: the session's default */
	uint32_t flags;       /* SB_CALL_… */
	uint64_t trace_id;    /* 0: the library makes one */
} sb_request;
#define SB_REQUEST_INIT { sizeof(sb_request), SB_VERB_CALL, NULL, NULL, NULL, 0, 0, 0 }

/*
 * The general form; the functions below are short for it.
 *
 * Errors: see the top of this file.
 * Threads: any; each thread has its own lane.  Fork: the child attaches anew at its first call.
 * Blocks: until the reply, the deadline (default 120 s) or the owner's death.
 * Crash: a killed caller's request is dropped if not started; its lane is taken back by the owner or
 * the reaper.  Since: 0.1
 */
SB_API int sb_invoke(sb_session *session, const sb_request *request, sb_value **ret_value);

/*
 * Calls a function or constructs a class: "module:path.to.name", or dotted "module.path.name" where
 * the longest importable prefix is the module.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_call(sb_session *session, const char *function, sb_args *args, sb_value **ret_value);

/*
 * Calls a method of an object.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_method(sb_session *session, const sb_ref *target, const char *name, sb_args *args,
                     sb_value **ret_value);

/*
 * Reads an attribute of an object; a dotted name walks down.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_attr(sb_session *session, const sb_ref *target, const char *name, sb_value **ret_value);

/*
 * Sets an attribute of an object. args: exactly one positional argument, sb_args("i", 3).
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_set_attr(sb_session *session, const sb_ref *target, const char *name, sb_args *args);

/*
 * Reads a module's attribute, "math:pi"; "math" alone gives the module as a ref.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_get(sb_session *session, const char *path, sb_value **ret_value);

/*
 * Drops a ref: the session no longer holds the object. Dropping one that is gone already is fine.
 * ret_dropped (may be NULL): whether this call dropped it.
 *
 * Errors: as sb_invoke(), but a ref that was released, evicted or expired is no error, nor is a
 * session that ended.  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_ref_release(sb_session *session, const sb_ref *ref, bool *ret_dropped);

#ifdef __cplusplus
}
#endif
#endif
