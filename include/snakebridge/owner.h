/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dedicated owners: a process of its own that holds a session's objects, so that they outlive the process
 * that made them. The tool sb-owner is this function with options; programs may be their own owner, for
 * instance to load a model before they serve.
 */
#ifndef SNAKEBRIDGE_OWNER_H
#define SNAKEBRIDGE_OWNER_H

#include "snakebridge/session.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called once, when the session can be joined and called. Non-zero ends the owner again. */
typedef int (*sb_owner_ready_fn)(sb_session *session, void *arg);

/*
 * Makes this process the designated owner of a new (or orphaned) session and serves it until the session
 * ends, *stop becomes non-zero (may be NULL), or ready returns non-zero. A signal handler that sets *stop is
 * noticed at once where it runs in the calling thread, any other writer within a second. The process does
 * not count as an owner: the session ends with its last one, or after ten seconds without any, unless it is
 * persistent. If it stops while the session goes on, the session is orphaned.
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
