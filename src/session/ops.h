/* SPDX-License-Identifier: Apache-2.0 */
/* What the session layer offers to the API layer above it: the only header of this folder that it includes. */
#ifndef SB_SESSION_OPS_H
#define SB_SESSION_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "snakebridge/async.h"
#include "snakebridge/bridge.h"
#include "snakebridge/call.h"
#include "snakebridge/session.h"

/* core.c */
int sb__core_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret);
void sb__core_close(sb_bridge *bridge);
const char *sb__core_path(const sb_bridge *bridge);

/* session.c */
int sb__session_open(sb_bridge *bridge, const sb_session_options *options, sb_session **ret);
/* Makes this process the designated owner of a dedicated session without being an owner: what sb-owner does. */
int sb__session_host(sb_bridge *bridge, const sb_session_options *options, sb_session **ret);
/* Blocks until a session opened by sb__session_host() ended or lost this process (1), or (0) a signal handler has set *stop
 * (may be NULL) or timeout_ms passed. */
int sb__session_host_wait(sb_session *session, const volatile int *stop, uint32_t timeout_ms);
void sb__session_close(sb_session *session);
int sb__session_release(sb_bridge *bridge, const char *id, int *ret_released);
int sb__session_info(sb_session *session, sb_session_info *ret);
const char *sb__session_name(const sb_session *session);

/* context.c */
sb_session *sb__context_set(sb_session *session); /* returns the previous one */
sb_session *sb__context_current(void);
/* The current context's session, else the thread's auto-session, made if need be. */
int sb__context_session(sb_bridge *bridge, sb_session **ret);
int sb__scope_enter(sb_scope *scope, sb_bridge *bridge, const sb_session_options *options);
void sb__scope_leave(sb_scope *scope); /* once more is fine */

/* dispatch.c: does not consume request->args */
int sb__invoke(sb_session *session, const sb_request *request, sb_value **ret_value);
/* The same, and which session it went to. */
int sb__invoke_where(sb_session *session, const sb_request *request, sb_value **ret_value,
                     char ret_session_id[SB_SESSION_ID_MAX + 1]);

/* arrays.c: the shared blocks of a session's bridge, and its share of them; session NULL: the thread's current one. */
struct sb__blocks;
struct sb__share;
int sb__session_blocks(sb_session *session, const struct sb__blocks **ret, struct sb__share *ret_share);

/* future.c: a call in flight. sb__call_start() does not consume request->args. Wait: 1 not yet; 0 and a value; or an error. */
int sb__call_start(sb_session *session, const sb_request *request, sb_future **ret);
int sb__future_wait(sb_future *future, uint32_t timeout_ms, sb_value **ret_value);
int sb__future_poll(sb_future *future);
int sb__future_cancel(sb_future *future, int *ret_level);
int sb__future_fd(sb_future *future, int *ret_fd);
void sb__future_free(sb_future *future);

/* oneway.c: does not consume request->args */
int sb__call_oneway(sb_session *session, const sb_request *request);

/* cancel.c */
int sb__session_cancel(sb_session *session, uint64_t trace_id, int *ret_level);
/* refinfo.c: facts from the ref's row. SB__REF_NOT_LISTED: there is none, all but the facts of the row is filled in. */
#define SB__REF_NOT_LISTED 1
int sb__ref_info(sb_session *session, const sb_ref *ref, sb_ref_info *ret);

#endif
