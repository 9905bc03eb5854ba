/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: Python functions, methods and attributes, run where the session's objects live.
 *
 * Which session: the one named (session), else the ref's own, else the thread's current context, else
 * the thread's auto-session. A ref of another session, as target or anywhere inside the arguments, is
 * refused with SB_EREFSESSION and nothing runs.
 *
 * Outcome: 0 and a value; or a negative code, and sb_last_error()->outcome says whether Python
 * raised, nothing ran, or it is unknown.
 *
 * All functions here consume args (NULL: no arguments), even when they fail. ret_value may be NULL to
 * drop the result; otherwise the caller owns *ret_value on success, and it is untouched on failure.
 *
 * Common to all, and referred to as "as sb_invoke()":
 * Errors: SB_EINVAL, SB_ENOMEM; SB_EPYTHON, SB_EMODULE, SB_EATTRIBUTE (exception); SB_EDENIED;
 * SB_ERELEASED, SB_EEXPIRED, SB_EOWNERDIED, SB_ENOOWNER, SB_ETIMEOUT, SB_ECANCELLED, SB_ELANES;
 * SB_EREFUNKNOWN, SB_EREFRELEASED, SB_EREFEXPIRED, SB_EREFEVICTED, SB_EREFSESSION, SB_EREFSFULL;
 * SB_ETOOBIG, SB_ETOODEEP, SB_ENOVIEW, SB_EPROTOCOL, SB_ENOSPACE. Of the bridge and the store:
 * SB_ENOBRIDGE, SB_ESTORE, SB_ECORRUPT, SB_ESYSTEM. If the call has to make an auto-session or elect
 * a designated owner: as sb_session_open(). At a forked child's first use: as sb_bridge_open().
 *
 * When a designated owner dies, calls in flight get SB_EOWNERDIED, and so does a call that finds the death
 * before anything has recorded it. After that, sb_call(), sb_get() and batches go to a new designated owner
 * (SB_ENOOWNER if the handle is attach-only), while refs of the dead one keep failing with SB_EOWNERDIED.
 */
#ifndef SNAKEBRIDGE_CALL_H
#define SNAKEBRIDGE_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/error.h"
#include "snakebridge/session.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers are wire format: append only. */
typedef enum sb_verb {
	SB_VERB_CALL = 1,      /* name: function path */
	SB_VERB_METHOD = 2,    /* target, name */
	SB_VERB_ATTR = 3,      /* target, name: dotted attribute path */
	SB_VERB_SET_ATTR = 4,  /* target, name, one positional argument */
	SB_VERB_GET = 5,       /* name: path of a module attribute */
	SB_VERB_RELEASE = 6,   /* target */
	SB_VERB_GETITEM = 7,   /* target, one argument: the key */
	SB_VERB_SETITEM = 8,   /* target, two: key and value */
	SB_VERB_DELITEM = 9,   /* target, one: the key */
	SB_VERB_LEN = 10,      /* target */
	SB_VERB_CONTAINS = 11, /* target, one: the item */
	SB_VERB_REPR = 12,     /* target */
	SB_VERB_STR = 13,      /* target */
	SB_VERB_HASH = 14,     /* target */
	SB_VERB_ITER = 15,     /* target; gives the ref of a stream: snakebridge/stream.h */
	SB_VERB_NEXT =
		16, /* target: a stream; one or two arguments: the most items, and after how many milliseconds fewer are
	                      enough; gives [was that the end, [item …]]; no item, and not the end: none came in time */
	SB_VERB_ENTER = 17, /* target */
	SB_VERB_EXIT =
		18, /* target; none, or two: an exception's type and message; gives whether it was suppressed */
	SB_VERB_PIN = 19,   /* target; gives how many pins it has */
	SB_VERB_UNPIN = 20, /* the same */
	SB_VERB_CHECK = 21, /* target; gives None if it exists, else the error that says why not */
	SB_VERB_BATCH = 22, /* used by sb_batch_run() only */
	SB_VERB_CLOSE =
		23 /* target: a stream; closes it for all its readers; gives whether this call did that */
} sb_verb;

#define SB_CALL_AS_REF 1u /* leave the result where it is, whatever it is */
/* Instances of subclasses of int, float, str, bytes, list, tuple or dict (Counter, OrderedDict, defaultdict, namedtuple,
 * IntEnum, …) come back as the plain value of that base, at any depth. Without this flag they are refs, because a subclass
 * has more to it than its base. */
#define SB_CALL_PLAIN 2u
/* Arrays in the result are shared, not copied: later writes by the designated owner show here, and the caller's writes
 * show there. Their memory must be in an arena, as it is for large NumPy arrays that a designated owner creates and for
 * arguments; otherwise the call fails with SB_ENOVIEW, after it ran. */
#define SB_CALL_AS_VIEW 4u

/* Return as soon as the request is published; see sb_call_oneway(). The result is dropped; if ret_value is given, *ret_value
 * becomes NULL. */
#define SB_CALL_ONEWAY 8u

/* The result comes back as the ref of a stream that iterates over it: snakebridge/stream.h. */
#define SB_CALL_STREAM 16u

/* One call. Start with SB_REQUEST_INIT. Grows at the end. */
typedef struct sb_request {
	size_t size;
	sb_verb verb;
	const sb_ref *target; /* NULL for SB_VERB_CALL and SB_VERB_GET */
	const char *name;
	sb_args *args;       /* consumed */
	uint32_t timeout_ms; /* 0: the session's default */
	uint32_t flags;      /* SB_CALL_… */
	uint64_t trace_id;   /* 0: the library generates one */
} sb_request;
#define SB_REQUEST_INIT                                                     \
	{                                                                   \
		sizeof(sb_request), SB_VERB_CALL, NULL, NULL, NULL, 0, 0, 0 \
	}

/*
 * The general form; the functions below are shorthands for it.
 *
 * Errors: see the top of this file.
 * Threads: any; each thread has its own lane.  Fork: the child attaches anew at its first call.
 * Blocks: until the reply, the deadline (default 120 s) or the owner's death.
 * Crash: a killed caller's request is dropped if not started; its lane is taken back by the owner or
 * the reaper.  Since: 0.1
 */
SB_API int sb_invoke(sb_session *session, const sb_request *request, sb_value **ret_value);

/*
 * Calls a function, or constructs an object by calling its class: "module:path.to.name", or dotted "module.path.name"
 * where the longest importable prefix is the module.
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
 * Reads an attribute of an object; a dotted name follows attributes of attributes.
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
 * target[key]. key: exactly one positional argument, sb_args("i", 3) or sb_args("(ss)", "a", "b").
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_getitem(sb_session *session, const sb_ref *target, sb_args *key, sb_value **ret_value);

/*
 * target[key] = value. key_and_value: exactly two positional arguments, sb_args("si", "width", 3).
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_setitem(sb_session *session, const sb_ref *target, sb_args *key_and_value);

/*
 * del target[key]. key as for sb_getitem().
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_delitem(sb_session *session, const sb_ref *target, sb_args *key);

/*
 * len(target). *ret_len is untouched on failure.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_len(sb_session *session, const sb_ref *target, uint64_t *ret_len);

/*
 * item in target. item: exactly one positional argument. *ret_contains is untouched on failure.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_contains(sb_session *session, const sb_ref *target, sb_args *item, bool *ret_contains);

/*
 * repr(target), a str.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_repr(sb_session *session, const sb_ref *target, sb_value **ret_value);

/*
 * str(target), a str.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_str(sb_session *session, const sb_ref *target, sb_value **ret_value);

/*
 * hash(target); an object that cannot be hashed raises TypeError. The hash of a str differs from process to process.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_hash(sb_session *session, const sb_ref *target, int64_t *ret_hash);

/* ── context managers ── */

/*
 * Enters a context manager: calls its __enter__() and gives that method's result, often the manager itself.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_enter(sb_session *session, const sb_ref *target, sb_value **ret_value);

/*
 * Leaves a context manager: calls its __exit__(), without an exception if error is NULL. Otherwise with a new one, without
 * traceback: of the class error->python_type if the owner has loaded it and it can be created from a message alone, else a
 * RuntimeError. ret_suppressed (may be NULL): whether __exit__() asked to suppress it.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_exit(sb_session *session, const sb_ref *target, const sb_error *error, bool *ret_suppressed);

/* The body of sb_with_object(). entered: what __enter__() gave, borrowed. Returns 0 or a negative code. */
typedef int (*sb_with_fn)(sb_session *session, const sb_value *entered, void *arg);

/*
 * Python's with statement: enters target, runs body, leaves target. If body fails, __exit__() gets the thread's last error
 * (sb_last_error(), if it has that code) and may suppress it; the result is then 0. Otherwise the result is what body
 * returned, or the error of entering or leaving.
 *
 * Errors: as sb_invoke(), else body's.  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as
 * sb_invoke() and body.  Crash: __exit__() is not called.  Since: 0.1
 */
SB_API int sb_with_object(sb_session *session, const sb_ref *target, sb_with_fn body, void *arg);

/* ── refs ── */

/*
 * Pins a ref: as long as it has pins it is not evicted. Pins are counted. They do not stop a ref from expiring after
 * being idle for the session's TTL, nor from going with its session. ret_pins (may be NULL): how many pins it has now.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_ref_pin(sb_session *session, const sb_ref *ref, uint32_t *ret_pins);

/*
 * Removes a pin; if the ref has none, does nothing and gives 0.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_ref_unpin(sb_session *session, const sb_ref *ref, uint32_t *ret_pins);

/* What is known of a ref. Grows at the end. */
typedef struct sb_ref_info {
	size_t size;                            /* set by the caller: sizeof(sb_ref_info) */
	char type_name[SB_TYPE_NAME_MAX + 1];   /* "module.Type" */
	char type_module[SB_TYPE_NAME_MAX + 1]; /* "module" */
	char session_id[SB_SESSION_ID_MAX + 1];
	uint64_t incarnation;
	int32_t creator_pid; /* the process whose call created it; 0: unknown */
	uint32_t pins;
	int64_t age_ms;  /* since it was created; -1: unknown */
	int64_t idle_ms; /* since it was last used; -1: unknown */
} sb_ref_info;

/*
 * Describes a live ref from shared memory: no call, no Python, and it does not count as a use that would keep the ref from
 * expiring. Only a ref that is not found there costs a call, to learn why it is stale.
 *
 * Errors: as sb_invoke().  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_ref_get_info(sb_session *session, const sb_ref *ref, sb_ref_info *ret_info);

/*
 * Releases a ref: the session no longer holds the object. Releasing one that is gone already is no error.
 * ret_dropped (may be NULL): whether this call dropped it.
 *
 * Errors: as sb_invoke(), but a ref that was released, evicted or expired is no error, nor is a
 * session that ended.  Threads: as sb_invoke().  Fork: as sb_invoke().  Blocks: as sb_invoke().
 * Crash: as sb_invoke().  Since: 0.1
 */
SB_API int sb_ref_release(sb_session *session, const sb_ref *ref, bool *ret_dropped);

/* What sb_cancel() found and did. */
typedef enum sb_cancel_level {
	SB_CANCEL_NONE = 0, /* no such call is in flight: it has ended or was never sent */
	SB_CANCEL_REMOVED =
		1, /* it had not begun and never will: its caller gets SB_ECANCELLED, outcome refused */
	SB_CANCEL_ASKED =
		2 /* it is running: snakebridge.CallCancelled, a BaseException, is raised in it as soon as it
	                          executes Python code; its caller gets SB_ECANCELLED, outcome exception. C code is not
	                          interrupted, and a call that catches the exception goes on */
} sb_cancel_level;

/*
 * Cancels the calls with a trace id (sb_request.trace_id; sb-inspect shows it), from any thread of any process that
 * uses the session. session NULL: the thread's current context. ret_level may be NULL. Does not wait for the call to
 * end. A call that the designated owner makes on objects of its own process can be cancelled in that process only.
 *
 * A call whose caller no longer waits is cancelled automatically: see the knob cancel_abandoned (snakebridge/config.h).
 *
 * Errors: SB_EINVAL; those of sb_invoke() about the session.  Threads: any.  Fork: the child attaches anew.
 * Blocks: no; in the designated owner's process, for the GIL.  Crash: cancelled or not.  Since: 0.1
 */
SB_API int sb_cancel(sb_session *session, uint64_t trace_id, int *ret_level);

#ifdef __cplusplus
}
#endif
#endif
