/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a function that can fail returns 0 (SB_OK; a few also return 1, and say so) or a negative
 * code from the list below; one that returns a pointer returns NULL. The details for people are in a
 * per-thread record, sb_last_error().
 *
 * Branch on the code and, for calls, on the outcome; there is never a need to parse text.
 */
#ifndef SNAKEBRIDGE_ERROR_H
#define SNAKEBRIDGE_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * X(name, code, text, what to do). Enum, sb_strerror(), sb_error_name(), sb_error_advice() and the
 * errors page come from this one list. Codes are ABI: append only, never renumber.
 */
#define SB_ERROR_MAP(X)                                                                                      \
	X(SB_EINVAL, -1, "invalid argument", "see the message for the argument and its limits")              \
	X(SB_ENOMEM, -2, "out of memory", "free memory or raise the limit, then try again")                  \
	X(SB_ESYSTEM, -3, "a system call failed", "see sys_errno and the message")                           \
	X(SB_ENOSPACE, -4, "no space left in the bridge's file system",                                      \
	  "free space there, or give the bridge a larger tmpfs (SNAKEBRIDGE_DIR)")                           \
	X(SB_EBUG, -5, "internal error", "please report it with the message")                                \
	X(SB_EDIR, -10, "the bridge directory cannot be used",                                               \
	  "create it, make it writable, or name another with SNAKEBRIDGE_DIR")                               \
	X(SB_EOWNER, -11, "the bridge directory belongs to another user",                                    \
	  "use a directory of your own; a bridge never crosses user ids")                                    \
	X(SB_EMODE, -12, "the bridge directory is open to group or others", "chmod 0700 it")                 \
	X(SB_EVERSION, -13, "the bridge was made by another version of SnakeBridge",                         \
	  "use the same version everywhere, or another directory")                                           \
	X(SB_ENAMESPACE, -14, "the bridge belongs to another pid namespace",                                 \
	  "give each container its own bridge directory, or let them share the pid namespace")               \
	X(SB_ECORRUPT, -15, "the bridge's data is damaged",                                                  \
	  "run sb-inspect --check; stop its processes and remove the directory if it persists")              \
	X(SB_ESTORE, -16, "the session store failed", "see the message; sb-inspect shows the store")         \
	X(SB_EPROCESSES, -17, "too many processes are attached to the bridge",                               \
	  "run sb-reaper --once; spread processes over several bridges")                                     \
	X(SB_ENOBRIDGE, -18, "there is no bridge here",                                                      \
	  "start a program that uses this directory first, or name the right one with --dir")                \
	X(SB_ENOSESSION, -20, "no such session", "check the id, or open the session first")                  \
	X(SB_EID, -21, "not a valid session id", "use 1 to 255 bytes without control characters")            \
	X(SB_EOPTION, -22, "the option contradicts the existing session",                                    \
	  "leave the option out to inherit it, or use another session id")                                   \
	X(SB_ERELEASED, -23, "the session was released", "open it again; its old refs are gone")             \
	X(SB_EEXPIRED, -24, "the session expired", "open it again, or give it a longer TTL")                 \
	X(SB_EOWNERDIED, -25, "the session's designated owner died",                                         \
	  "its objects are gone: open the session again and rebuild them")                                   \
	X(SB_ENOOWNER, -26, "the session has no designated owner",                                           \
	  "open it with designated = self or dedicated to elect one")                                        \
	X(SB_ELANES, -27, "no free lane to the session", "let calls end, or raise max_lanes_per_process")    \
	X(SB_ESTART, -28, "the dedicated owner could not be started",                                        \
	  "see the message; run sb-owner by hand")                                                           \
	X(SB_ECLOSED, -29, "the handle is closed", "open the session again")                                 \
	X(SB_EREFMALFORMED, -30, "not a well-formed ref", "pass a ref exactly as it was printed")            \
	X(SB_EREFUNKNOWN, -31, "the ref never existed in this session", "check where it came from")          \
	X(SB_EREFRELEASED, -32, "the ref was released", "make the object again")                             \
	X(SB_EREFEXPIRED, -33, "the ref expired", "make the object again, or raise the TTL")                 \
	X(SB_EREFEVICTED, -34, "the ref was evicted to make room",                                           \
	  "make the object again, raise max_refs, or release refs earlier")                                  \
	X(SB_EREFSESSION, -35, "the ref belongs to another session", "use it in its own session")            \
	X(SB_EREFSFULL, -36, "the session, or this process in it, holds as many refs as it may",             \
	  "release refs, raise max_refs (or max_refs_per_process), or use on_full = evict")                  \
	X(SB_EPYTHON, -40, "Python raised an exception", "see python_type, message and traceback")           \
	X(SB_EMODULE, -41, "no such Python module",                                                          \
	  "check its name, and that the owner's Python can import it")                                       \
	X(SB_EATTRIBUTE, -42, "no such Python attribute", "check the name; dir() lists what there is")       \
	X(SB_ETIMEOUT, -43, "the deadline passed", "see the outcome: refused did not run, unknown may have") \
	X(SB_ECANCELLED, -44, "the call was cancelled", "see the outcome")                                   \
	X(SB_ENOPYTHON, -45, "Python cannot be started in this process",                                     \
	  "install the Python this library was built for, or use a dedicated owner")                         \
	X(SB_EPROTOCOL, -46, "bytes from another process do not make sense",                                 \
	  "use the same version everywhere; run sb-inspect --check")                                         \
	X(SB_ETOOBIG, -47, "the value is too big", "send it in parts, or keep it as a ref")                  \
	X(SB_ETOODEEP, -48, "the value is nested too deeply", "flatten it, or keep it as a ref")             \
	X(SB_EKIND, -49, "the value is of another kind", "ask sb_value_kind() first")                        \
	X(SB_EDENIED, -50, "the session's policy does not allow this",                                       \
	  "ask whoever set it, or change allow and deny")                                                    \
	X(SB_ENOVIEW, -60, "the result's memory is not shared, so there is no view of it",                   \
	  "leave SB_CALL_AS_VIEW out and take a snapshot")

typedef enum sb_code {
	SB_OK = 0,
#define SB_ERROR_ENUM(name, code, text, advice) name = (code),
	SB_ERROR_MAP(SB_ERROR_ENUM)
#undef SB_ERROR_ENUM
} sb_code;

/* What became of a call; sb_error.outcome. */
typedef enum sb_outcome {
	SB_OUTCOME_NONE = 0,      /* not a call, or the call gave a value */
	SB_OUTCOME_EXCEPTION = 1, /* it ran and Python raised */
	SB_OUTCOME_REFUSED = 2,   /* nothing ran */
	SB_OUTCOME_UNKNOWN = 3    /* sent, and may have run: the owner died or the deadline passed */
} sb_outcome;

/* The details of a thread's last failure. Strings are never NULL ("" if there is nothing). */
typedef struct sb_error {
	int code;                     /* sb_code */
	int outcome;                  /* sb_outcome */
	int sys_errno;                /* errno if a system call failed, else 0 */
	uint64_t trace_id;            /* of the call, 0 if it was not one */
	const char *message;          /* one sentence: what happened, to what, what to do */
	const char *session_id;       /* the session that the call resolved to */
	const char *other_session_id; /* the ref's session, where two are involved */
	const char *python_type;      /* qualified, e.g. "builtins.ValueError" */
	const char *python_message;   /* str(exception), capped */
	const char *python_traceback; /* as Python prints it, causes first; cut at the front if too long */
} sb_error;

/*
 * The calling thread's last error. Never NULL; code is SB_OK if nothing failed yet.
 *
 * A function that fails replaces it; one that succeeds leaves it alone. The record and its strings
 * belong to the library and are valid until the thread's next failure or its end.
 *
 * Errors: none.  Threads: per thread.  Fork: kept by the forking thread's child.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_error *sb_last_error(void);

/*
 * Static text for a code, e.g. "the session was released"; "unknown error" for an unknown code.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_strerror(int code);

/*
 * Static name of a code, e.g. "SB_ERELEASED"; "SB_OK" for 0, "SB_E?" for an unknown code.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_error_name(int code);

/*
 * Static advice for a code: what to do about it; "" for 0 or an unknown code.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_error_advice(int code);

typedef enum sb_log_level { SB_LOG_DEBUG = 0, SB_LOG_INFO = 1, SB_LOG_WARN = 2 } sb_log_level;

/* Called with one line of text, without its newline. Must not call into SnakeBridge. */
typedef void (*sb_log_fn)(void *arg, sb_log_level level, const char *line);

/*
 * Sets the function that receives the library's log lines in this process; NULL (the default) drops them.
 * The library itself never writes to stdout or stderr.
 *
 * Errors: none.  Threads: any; fn may be called from any thread.  Fork: inherited.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_log_set(sb_log_fn fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
