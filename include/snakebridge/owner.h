/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dedicated owners: a process of its own that holds a session's objects, so that they outlive the process
 * that created them. The tool sb-owner is this function with command-line options; a program can be an owner
 * itself, for instance to load a model before it serves calls.
 */
#ifndef SNAKEBRIDGE_OWNER_H
#define SNAKEBRIDGE_OWNER_H

#include "snakebridge/session.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called once, when the session can be joined and called. A non-zero result ends the owner. */
typedef int (*sb_owner_ready_fn)(sb_session *session, void *arg);

/*
 * Makes this process the designated owner of a new (or orphaned) session and serves it until the session
 * ends, *stop becomes non-zero (stop may be NULL), or ready returns non-zero. *stop is noticed at once if it is set by a
 * signal handler that runs in the calling thread, otherwise within a second. The process does not count as an owner:
 * unless the session is persistent, it ends with its last owner, or after ten seconds without one. If this process
 * stops while the session goes on, the session is orphaned.
 *
 * Errors: as sb_session_open(); SB_EOPTION (the session has a living designated owner); else what ready
 * returned.  Threads: one; calls are served by threads that it starts.  Fork: do not fork inside.
 * Blocks: that is its purpose.  Crash: as any designated owner's death: its session is orphaned.
 * Since: 0.1
 */
SB_API int sb_owner_run(sb_bridge *bridge, const sb_session_options *options, sb_owner_ready_fn ready,
                        void *arg, const volatile int *stop);

#ifdef __cplusplus
}
#endif
#endif
