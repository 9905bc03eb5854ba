/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exported functions for bridges, sessions, contexts and owners: they check their arguments and call down. Those for
 * values and refs are in src/codec, those for errors in src/base; calls are in call.c.
 */
#include <string.h>

#include "fail.h"
#include "ops.h"
#include "snakebridge/snakebridge.h"

#define NEED(argument)                                                                     \
	do {                                                                               \
		if (!(argument))                                                           \
			return sb__fail(SB_EINVAL, "%s: " #argument " is NULL", __func__); \
	} while (0)

#define OWNER_LOOK_MS \
	1000 /* a dedicated owner: has its session become nobody's? has another thread set stop? */

const char *sb_version(void)
{
	return SB_VERSION_STRING;
}

/* A larger struct than ours is fine if what we do not know is zero. */
static int check_bridge_options(const sb_bridge_options *from, sb_bridge_options *to)
{
	const unsigned char *bytes = (const unsigned char *)from;

	*to = (sb_bridge_options)SB_BRIDGE_OPTIONS_INIT;
	if (!from)
		return 0;
	if (from->size < sizeof(from->size))
		return sb__fail(SB_EINVAL, "bridge options: size is %zu; start with SB_BRIDGE_OPTIONS_INIT",
		                from->size);
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return sb__fail(SB_EINVAL, "bridge options: made for a newer SnakeBridge than %s",
			                SB_VERSION_STRING);
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	return 0;
}

int sb_bridge_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret_bridge)
{
	sb_bridge_options checked;
	int err;

	NEED(ret_bridge);
	err = check_bridge_options(options, &checked);
	return err ? err : sb__core_open(dir, &checked, ret_bridge);
}

void sb_bridge_close(sb_bridge *bridge)
{
	sb__core_close(bridge);
}

const char *sb_bridge_dir(const sb_bridge *bridge)
{
	return bridge ? sb__core_path(bridge) : "";
}

int sb_session_open(sb_bridge *bridge, const sb_session_options *options, sb_session **ret_session)
{
	NEED(bridge);
	NEED(ret_session);
	return sb__session_open(bridge, options, ret_session);
}

void sb_session_close(sb_session *session)
{
	sb__session_close(session);
}

int sb_session_release(sb_bridge *bridge, const char *session_id, int *ret_released)
{
	NEED(bridge);
	NEED(session_id);
	return sb__session_release(bridge, session_id, ret_released);
}

const char *sb_session_id(const sb_session *session)
{
	return session ? sb__session_name(session) : "";
}

int sb_session_get_info(sb_session *session, sb_session_info *ret_info)
{
	NEED(session);
	NEED(ret_info);
	if (ret_info->size < sizeof(size_t) || ret_info->size > 65536)
		return sb__fail(SB_EINVAL,
		                "sb_session_get_info: size is %zu; set it to sizeof(sb_session_info)",
		                ret_info->size);
	return sb__session_info(session, ret_info);
}

int sb_cancel(sb_session *session, uint64_t trace_id, int *ret_level)
{
	if (!trace_id)
		return sb__fail(SB_EINVAL, "sb_cancel: trace_id is 0: pass the one of the request");
	return sb__session_cancel(session, trace_id, ret_level);
}

int sb_context_create(sb_bridge *bridge, const sb_session_options *options, sb_session **ret_session)
{
	sb_session *session;
	int err;

	NEED(bridge);
	err = sb__session_open(bridge, options, &session);
	if (err)
		return err;
	sb__context_set(session);
	if (ret_session)
		*ret_session = session;
	return 0;
}

sb_session *sb_context_set(sb_session *session)
{
	return sb__context_set(session);
}

sb_session *sb_context_current(void)
{
	return sb__context_current();
}

sb_session *sb_context_clear(void)
{
	return sb__context_set(NULL);
}

int sb_session_current_id(sb_bridge *bridge, const char **ret_id)
{
	sb_session *session;
	int err;

	NEED(ret_id);
	err = sb__context_session(bridge, &session);
	if (!err)
		*ret_id = sb__session_name(session);
	return err;
}

int sb_scope_enter(sb_scope *scope, sb_bridge *bridge, const sb_session_options *options)
{
	NEED(scope);
	NEED(bridge);
	return sb__scope_enter(scope, bridge, options);
}

void sb_scope_leave(sb_scope *scope)
{
	if (scope)
		sb__scope_leave(scope);
}

int sb_with_session(sb_bridge *bridge, const sb_session_options *options, sb_body_fn body, void *arg)
{
	sb_scope scope = { 0, 0, 0, 0 };
	int err;

	NEED(body);
	err = sb_scope_enter(&scope, bridge, options);
	if (err)
		return err;
	err = body(scope.session, arg);
	sb__scope_leave(&scope);
	return err;
}

int sb_owner_run(sb_bridge *bridge, const sb_session_options *options, sb_owner_ready_fn ready, void *arg,
                 const volatile int *stop)
{
	sb_session *session;
	int err;

	NEED(bridge);
	err = sb__session_host(bridge, options, &session);
	if (err)
		return err;
	err = ready ? ready(session, arg) : 0;
	while (!err && !(stop && *stop))
		if (sb__session_host_wait(session, stop, OWNER_LOOK_MS))
			break;
	sb__session_close(session);
	return err;
}
