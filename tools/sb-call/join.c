/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session: joined as it is, else made, dedicated and persistent, so that a ref outlives the command that printed it.
 *
 * Crash: the ownership goes at the next reaper pass; a persistent session stays.
 */
#include <string.h>

#include "call.h"

bool call_session_can_be_made(int err)
{
	return err == SB_ENOSESSION || err == SB_ERELEASED || err == SB_EEXPIRED || err == SB_EOWNERDIED;
}

/* A session that lost its designated owner gets another, if it is of the kind that we can give one. */
static void revive(sb_bridge *bridge, sb_session_options *options, sb_session **session)
{
	sb_session_info info = { .size = sizeof(info) };
	sb_session *other;

	if (sb_session_get_info(*session, &info) || info.state != SB_SESSION_ORPHANED)
		return;
	options->designated = SB_DESIGNATED_DEDICATED;
	if (sb_session_open(bridge, options, &other))
		return; /* of another kind: the call says that it has no owner */
	sb_session_close(*session);
	*session = other;
}

/* Joining first, because our defaults are not the user's wish: they must not contradict what a program has made. */
int call_session_open(sb_bridge *bridge, const struct call_job *job, sb_session **ret)
{
	const char *id = call_settings.session.id ? call_settings.session.id : job->ref.session_id;
	bool own = job->has_ref && strcmp(id, job->ref.session_id) == 0; /* a ref's session is never made */
	bool not_persistent = call_settings.not_persistent;
	sb_session_options options = job->options;
	int err;

	options.session_id = id;
	options.timeout_ms = (uint32_t)call_settings.common.timeout_ms;
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	options.persistent = not_persistent ? 0 : SB_UNSET;
	err = sb_session_open(bridge, &options, ret);
	if (call_settings.attach_only || own)
		return err;
	if (!err) {
		revive(bridge, &options, ret);
		return 0;
	}
	if (!call_session_can_be_made(err))
		return err;
	options.designated = SB_DESIGNATED_DEDICATED;
	options.persistent = !not_persistent;
	return sb_session_open(bridge, &options, ret);
}
