/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions and incarnations that ended: how they are ended, and what is said about them afterwards.
 *
 * Ending one is one transaction; then whoever has its mailbox mapped is told, and the files go.
 *
 * Lock order: core->lock, then the store's.
 * Crash: killed after the transaction: files without a record, which the reaper removes; callers in flight see the end at
 * their next look at the store (bounded waits).
 */
#include <inttypes.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "ids.h"
#include "note.h"
#include "point.h"
#include "visit.h"

/* ── explaining ── */

static int grave_code(const struct sb__grave_rec *grave)
{
	switch (grave->reason) {
	case SB__END_EXPIRED: return SB_EEXPIRED;
	case SB__END_OWNER_DIED: return SB_EOWNERDIED;
	default: return SB_ERELEASED;
	}
}

static int explain_grave(const struct sb__grave_rec *g, const char *what)
{
	int code = grave_code(g);
	double ago = (double)(sb__wall_ms() - g->wall_ms) / 1000;

	if (code == SB_EOWNERDIED)
		sb__fail(code,
		         "%s: the designated owner (pid %d) of session \"%s\" died %.1f s ago and its "
		         "objects with it; "
		         "make them again",
		         what, (int)g->designated_pid, g->session_id, ago);
	else
		sb__fail(code,
		         "%s: session \"%s\" ended %.1f s ago (%s); open it again, its old refs are gone",
		         what, g->session_id, ago, sb__end_reason_name((enum sb__end_reason)g->reason));
	sb__fail_set_sessions(g->session_id, NULL);
	return code;
}

int sb__incarnation_explain(struct sb__core *core, const char *session_id, uint64_t incarnation,
                            const char *what)
{
	struct sb__grave_rec grave;
	int err = sb__store_fate(core->store, session_id, incarnation, &grave);

	if (err < 0)
		return err;
	switch ((enum sb__fate)err) {
	case SB__FATE_LIVES: return 0;
	case SB__FATE_ENDED: return explain_grave(&grave, what);
	case SB__FATE_NONE:
		err = sb__fail(SB_EREFUNKNOWN,
		               "%s: the ref never existed: session \"%s\" never had incarnation %" PRIu64
		               "; check where it came from",
		               what, session_id, incarnation);
		break;
	case SB__FATE_FORGOTTEN:
		err = sb__fail(SB_ERELEASED,
		               "%s: session \"%s\" of that time has ended, too long ago to "
		               "say why; open it again, its old refs are gone",
		               what, session_id);
		break;
	}
	sb__fail_set_sessions(session_id, NULL);
	return err;
}

int sb__session_explain(sb_session *session, bool another, const char *what)
{
	struct sb__grave_rec grave;
	/* By its uid: it may have had designated owners after the one that this handle saw last. */
	int found = sb__store_grave_of_uid(session->core->store, session->uid, &grave), err;

	if (found == 1 && grave.reason != SB__END_OWNER_DIED)
		return explain_grave(&grave, what);
	if (found < 0)
		return found;
	err = sb__fail(
		SB_ERELEASED,
		"%s: session \"%s\" as this handle joined it has ended, too long ago to say why%s; open "
		"it again, its old refs are gone",
		what, session->id, another ? ", and another one has its id now" : "");
	sb__fail_set_sessions(session->id, NULL);
	return err;
}

int sb__no_such_session(struct sb__core *core, const char *id)
{
	struct sb__grave_rec grave;
	int found = sb__store_grave_of(core->store, id, &grave);
	int err;

	if (found > 0)
		return explain_grave(&grave, "joining");
	if (found < 0)
		return found;
	err = sb__fail(SB_ENOSESSION,
	               "there is no session \"%s\" on bridge %s: check the id, or open it first", id,
	               core->dir.path);
	sb__fail_set_sessions(id, NULL);
	return err;
}

/* ── ending ── */

void sb__session_finish_locked(struct sb__core *core, const struct sb__session_rec *rec,
                               enum sb__mailbox_state state)
{
	struct sb__hosted *hosted = sb__host_find(core, rec->incarnation);

	sb__attachment_over_locked(core, rec->incarnation);
	if (hosted) {
		sb__mailbox_end(sb__hosted_mailbox(hosted), state);
		sb__hosted_end(hosted);
		SB_POINT("release.told");
		sb__hosted_retire(hosted);
		sb__hosted_put(hosted);
	} else {
		sb__visit_end(core->dir.mailbox, core->dir.bell, rec->incarnation, state);
		SB_POINT("release.told");
		sb__mailbox_unlink(core->dir.mailbox, rec->incarnation);
	}
}

int sb__session_release(sb_bridge *bridge, const char *id, int *ret_released)
{
	struct sb__core *core = bridge->core;
	struct sb__session_rec rec;
	int err = sb__session_id_check(id);

	if (err)
		return err;
	pthread_mutex_lock(&core->lock);
	err = sb__core_enter_locked(core);
	if (!err)
		err = sb__store_session_end(core->store, id, 0, SB__END_RELEASED, &rec);
	SB_POINT("release.ended");
	if (err > 0) {
		sb__session_finish_locked(core, &rec, SB__MAILBOX_RELEASED);
		sb__session_note(core, SB__EVENT_RELEASE, &rec, 0, "released");
	}
	pthread_mutex_unlock(&core->lock);
	if (err < 0)
		return err;
	if (ret_released)
		*ret_released = err;
	return 0;
}

/* ── TTL, on access ── */

int sb__session_expire_idle(struct sb__core *core, const struct sb__session_rec *rec)
{
	uint64_t now = sb__now_ms(), last;
	struct sb__session_rec ended;
	int err;

	if (!rec->ttl_ms || rec->expires_ms > now)
		return 0;
	last = rec->state == SB_SESSION_ACTIVE ? sb__visit_last_access(core->dir.mailbox, rec->incarnation)
	                                       : 0;
	if (!last) /* nobody knows better than the record */
		last = rec->expires_ms - rec->ttl_ms;
	err = sb__store_session_expire(core->store, rec->session_id, rec->uid, last, now, &ended);
	SB_POINT("expire.ended");
	if (err != 1)
		return err;
	pthread_mutex_lock(&core->lock);
	sb__session_finish_locked(core, &ended, SB__MAILBOX_EXPIRED);
	pthread_mutex_unlock(&core->lock);
	sb__session_note(core, SB__EVENT_EXPIRE, &ended, 0, "idle for its TTL, seen by an access");
	return 1;
}

void sb__session_refresh(struct sb__core *core, const struct sb__session_rec *rec)
{
	if (rec->ttl_ms)
		(void)sb__store_session_expire(core->store, rec->session_id, rec->uid, sb__now_ms(), 0, NULL);
}
