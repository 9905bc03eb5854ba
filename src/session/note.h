/* SPDX-License-Identifier: Apache-2.0 */
/* Posts what happened to a session to the bridge's ring of events. Never on the call path. */
#ifndef SB_SESSION_NOTE_H
#define SB_SESSION_NOTE_H

#include "core.h"
#include "events.h"

static inline void sb__session_note(struct sb__core *core, enum sb__event_kind kind,
                                    const struct sb__session_rec *rec, int32_t subject_pid,
                                    const char *reason)
{
	sb__events_note(&core->events, core->dir.boot, kind, rec->uid, rec->session_id, rec->incarnation,
	                sb__call_trace(), subject_pid, 0, reason);
}

#endif
