/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: named scopes that own refs. A handle makes its process an owner; the session ends when
 * its last owner is gone, when it is released, or when it has been idle for its TTL.
 */
#ifndef SNAKEBRIDGE_SESSION_H
#define SNAKEBRIDGE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/bridge.h"
#include "snakebridge/ref.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sb_session sb_session;

#define SB_UNSET (-1) /* option left out: the default, or when joining, the session's value */

typedef enum sb_designated {
	SB_DESIGNATED_UNSET = 0,
	SB_DESIGNATED_SELF = 1,       /* the opening process holds the objects (default) */
	SB_DESIGNATED_DEDICATED = 2,  /* a separate process, sb-owner, holds them */
	SB_DESIGNATED_ATTACH_ONLY = 3 /* only join: never become one, never create the session */
} sb_designated;

typedef enum sb_on_full {
	SB_ON_FULL_UNSET = 0,
	SB_ON_FULL_EVICT = 1, /* drop the least recently used ref (default) */
	SB_ON_FULL_ERROR = 2  /* fail the call with SB_EREFSFULL */
} sb_on_full;

typedef struct sb_tag {
	const char *key;   /* 1 to 63 bytes */
	const char *value; /* 0 to 255 bytes */
} sb_tag;
#define SB_TAGS_MAX       64
#define SB_TAGS_BYTES_MAX 4096 /* all keys and values together, including their NULs */

/*
 * A session's policy: shell-style patterns that say what may be reached in it: * any text, ? one character, [ab] either.
 *
 *   "numpy" "sklearn.*"     a module, and everything in and below it
 *   "math:sqrt" "os:path.*" a name in a module, and everything below it
 *   ".fit" ".predict*"      the name of an attribute or method
 *
 * Whatever deny matches is refused, wherever it occurs in a path. If allow has patterns without a leading dot, a path
 * (sb_call(), sb_get()) must match one of them; if it has patterns with a leading dot, an attribute or method of an object
 * must. A refusal is SB_EDENIED, and nothing ran. Verbs that name nothing (items, len, iteration, with, repr, …) are always
 * allowed.
 *
 * This is a guard rail for well-meaning callers, not a sandbox: a caller that may call a single function that reaches
 * others (getattr, eval, import_module, …) gets around it, and so does allowed code.
 */
#define SB_POLICY_NO_DUNDER    ".__*__" /* to deny: attributes such as __class__, __dict__, __globals__ */
#define SB_POLICY_PATTERNS_MAX 64       /* in each list */
#define SB_POLICY_BYTES_MAX    4096     /* all patterns together, plus two bytes for each */

/* Start with SB_SESSION_OPTIONS_INIT. Copied by the functions that take it. Grows at the end. */
typedef struct sb_session_options {
	size_t size;
	const char *session_id; /* NULL: the library generates one, "session_…" */
	int64_t max_refs;       /* 1 to 100 000 000; default 10 000 */
	int64_t ttl_seconds;    /* idle time after which it ends; 0 = never; default 3600 */
	sb_designated designated;
	sb_on_full on_full;
	int persistent;      /* 1: outlives its last owner; 0: not (default); SB_UNSET */
	int release_on_exit; /* 1: leaving the with-block drops this handle's ownership */
	const sb_tag *tags;
	size_t tag_count;
	uint32_t timeout_ms;      /* default deadline of this handle's calls; 0 = the bridge's */
	const char *const *allow; /* policy, see above; without patterns everything is allowed */
	size_t allow_count;
	const char *const *deny;
	size_t deny_count;
	int64_t max_refs_per_process; /* quota: live refs that one process's calls may have created. A call that would
	                                 exceed it fails, even if on_full = evict, so no process can evict the others'
	                                 refs. 0 (the default, see config.h): max_refs only; with on_full = evict, a
	                                 process that has seven eighths of them evicts its own refs, not others' */
	int64_t max_session_arena_bytes; /* bytes of the session's arrays that one process keeps in shared memory, as
	                                    arguments or as results; 0 = the process's limit only. An array that would
	                                    exceed it fails with SB_ENOSPACE. Default: see config.h */
} sb_session_options;
#define SB_SESSION_OPTIONS_INIT                                                                              \
	{                                                                                                    \
		sizeof(sb_session_options), NULL, SB_UNSET, SB_UNSET, SB_DESIGNATED_UNSET, SB_ON_FULL_UNSET, \
			SB_UNSET, 0, NULL, 0, 0, NULL, 0, NULL, 0, SB_UNSET, SB_UNSET                        \
	}

/*
 * Opens a session: creates it, or joins the one with that id as another owner. Options given when joining
 * must agree with the session's. options may be NULL. The caller owns the handle.
 *
 * Errors: SB_EINVAL, SB_EID, SB_EOPTION (names the option), SB_ENOSESSION (attach-only and there is
 * none), SB_ESTART (dedicated owner), SB_ENOPYTHON, SB_ERELEASED (released by others while it was being
 * opened), SB_ENOSPACE, SB_ENOMEM, SB_ESTORE, SB_ESYSTEM; SB_ECORRUPT, SB_EPROTOCOL, SB_EVERSION (files of
 * the bridge that do not make sense). At a forked child's first use: as sb_bridge_open().
 * Threads: any; a handle may be used by all threads.  Fork: the handle works in the child, which
 * becomes an owner in its own right at its first use.
 * Blocks: until the owner is ready (a dedicated one starts Python: tens of milliseconds).
 * Crash: a kill leaves a session without a living owner, which ends at the next reaper pass.
 * Since: 0.1
 */
SB_API int sb_session_open(sb_bridge *bridge, const sb_session_options *options, sb_session **ret_session);

/*
 * Drops this owner; NULL is fine. The session ends if this was its last owner and it is not
 * persistent. Never fails, never waits for Python.
 *
 * Errors: none.  Threads: once, when no other thread uses the handle.  Fork: in a child that
 * did not use the handle, only frees memory.  Blocks: for the store's write lock.
 * Crash: as a kill.  Since: 0.1
 */
SB_API void sb_session_close(sb_session *session);

/*
 * Ends a session for everyone, at once: its objects are dropped, calls in flight get SB_ERELEASED.
 * ret_released (may be NULL): 1 if this call ended it, 0 if there is no such session, which is no error.
 *
 * Errors: SB_EINVAL, SB_EID, SB_ESTORE, SB_ENOSPACE, SB_ESYSTEM.  Threads: any.
 * Fork: the child attaches anew.  Blocks: for the store's write lock.
 * Crash: one transaction: released or not; the reaper removes files left behind.  Since: 0.1
 */
SB_API int sb_session_release(sb_bridge *bridge, const char *session_id, int *ret_released);

/*
 * The session's id. Borrowed; valid as long as the handle.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_session_id(const sb_session *session);

/* What the store knows of a session, and its counters. Grows at the end. */
typedef struct sb_session_info {
	size_t size; /* set by the caller: sizeof(sb_session_info) */
	char session_id[SB_SESSION_ID_MAX + 1];
	uint64_t incarnation;
	int state;              /* sb_session_state */
	int32_t designated_pid; /* 0 if it has none */
	uint32_t owner_count;
	uint32_t max_refs;
	uint64_t live_refs;
	uint64_t evicted_refs;
	uint64_t calls;
	int64_t ttl_seconds;
	int64_t idle_ms;
	uint64_t expired_refs; /* dropped after being idle for the TTL */
	uint64_t created_refs;
	uint64_t pinned_refs;             /* live refs with pins */
	uint64_t max_refs_per_process;    /* 0 = no quota */
	uint64_t max_session_arena_bytes; /* 0 = no limit of its own */
} sb_session_info;

typedef enum sb_session_state {
	SB_SESSION_STARTING = 1, /* its designated owner is starting */
	SB_SESSION_ACTIVE = 2,
	SB_SESSION_ORPHANED = 3, /* its designated owner died */
	SB_SESSION_ENDED = 4     /* released or expired */
} sb_session_state;

/*
 * Describes an open session. ret_info->size must be set.
 *
 * Errors: SB_EINVAL, SB_ESTORE, SB_ECORRUPT, SB_ENOMEM. A session that has ended is no error: state says so.
 * Threads: any.  Fork: the child attaches anew.
 * Blocks: no.  Crash: reads only.  Since: 0.1
 */
SB_API int sb_session_get_info(sb_session *session, sb_session_info *ret_info);

/*
 * Contexts: the calling thread's current session, used by calls that name none. Not inherited by new
 * threads; kept by a forked child's thread.
 *
 * sb_context_create() opens a session as sb_session_open() does and makes it current.
 * sb_context_set() makes a handle (NULL: none) current and returns the previous one.
 * sb_context_current() returns the current one, or NULL.
 * sb_context_clear() makes none current and returns the previous one. None of them closes a handle.
 *
 * Errors: as sb_session_open() for create; none for the others.  Threads: per thread.
 * Fork: inherited.  Blocks: create as sb_session_open().  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_context_create(sb_bridge *bridge, const sb_session_options *options, sb_session **ret_session);
/* See sb_context_create(). Errors: none. Threads: per thread. Fork: inherited. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API sb_session *sb_context_set(sb_session *session);
/* See sb_context_create(). Errors: none. Threads: per thread. Fork: inherited. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API sb_session *sb_context_current(void);
/* See sb_context_create(). Errors: none. Threads: per thread. Fork: inherited. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API sb_session *sb_context_clear(void);

/*
 * The id of the session that a call naming none would use now: the current context's, else this
 * thread's auto-session's, which is created if need be. bridge NULL: the first bridge that the process opened.
 * *ret_id is borrowed and valid as long as that session's handle.
 *
 * Errors: as sb_session_open(); SB_ENOBRIDGE (no bridge is open).  Threads: per thread.
 * Fork: a child's thread gets its own.  Blocks: as sb_session_open().  Crash: as sb_session_open().
 * Since: 0.1
 */
SB_API int sb_session_current_id(sb_bridge *bridge, const char **ret_id);

/* The body of sb_with_session(). */
typedef int (*sb_body_fn)(sb_session *session, void *arg);

/*
 * Opens a session, runs body with it as the current context, and restores the previous context.
 * Returns what body returned, or the error of opening. By default the session stays open: the process keeps
 * the handle (opening the same id again costs nothing) until the bridge is closed. With release_on_exit the
 * handle's ownership ends here.
 *
 * Errors: as sb_session_open(), else body's.  Threads: any.  Fork: as sb_session_open().
 * Blocks: as sb_session_open() and body.  Crash: as sb_session_open().  Since: 0.1
 */
SB_API int sb_with_session(sb_bridge *bridge, const sb_session_options *options, sb_body_fn body, void *arg);

/* What SB_WITH_SESSION keeps on the stack; not for direct use. */
typedef struct sb_scope {
	sb_session *session;
	sb_session *previous;
	int once;
	int release_on_exit;
} sb_scope;

/*
 * The two halves of SB_WITH_SESSION. sb_scope_leave() leaves *scope empty and may be called again.
 *
 * Errors: as sb_with_session(); leave has none.  Threads: same thread for both.  Fork: as
 * sb_session_open().  Blocks: as sb_session_open().  Crash: as sb_session_open().  Since: 0.1
 */
SB_API int sb_scope_enter(sb_scope *scope, sb_bridge *bridge, const sb_session_options *options);
/* See sb_scope_enter(). Errors: none. Threads: same thread. Fork: safe. Blocks: for the store's write lock. Crash: as a kill. Since: 0.1 */
SB_API void sb_scope_leave(sb_scope *scope);

#if defined(__GNUC__)
/*
 * SB_WITH_SESSION(bridge, &options, s) { … }  runs the block once with s as the current session, and
 * restores the previous context however the block is left: at its end, by break, return or goto. If opening
 * fails, the block does not run and sb_last_error() says why.
 */
#define SB_WITH_SESSION(bridge, options, name)     SB__WITH_SESSION(bridge, options, name, __COUNTER__)
#define SB__WITH_SESSION(bridge, options, name, n) SB__WITH_SESSION2(bridge, options, name, n)
#define SB__WITH_SESSION2(bridge, options, name, n)                                                  \
	for (sb_scope sb__scope_##n                                                                  \
	     __attribute__((cleanup(sb_scope_leave))) = { 0, 0, 0, 0 },                              \
	     *sb__p_##n = sb_scope_enter(&sb__scope_##n, bridge, options) == 0 ? &sb__scope_##n : 0; \
	     sb__p_##n && !sb__p_##n->once; sb__p_##n->once = 1)                                     \
		for (sb_session *name = sb__p_##n->session; name && !sb__p_##n->once; name = 0)
#endif

#ifdef __cplusplus
}
#endif
#endif
