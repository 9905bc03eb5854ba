/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a ref without asking its owner: the row that the owner keeps for people (shm/refrows.h).
 *
 * Locks: none held. Crash: reads only.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "refrows.h"

static int64_t since(uint64_t then_ms, uint64_t now_ms)
{
	return now_ms > then_ms ? (int64_t)(now_ms - then_ms) : 0;
}

/* A row says what is in its slot now; so it is this ref's only if the generation is. */
static bool find_row(sb_session *s, const sb_ref *ref, struct sb__ref_view *ret)
{
	return sb__refrows_read(s->core->dir.mailbox, ref->incarnation, ref->slot, ret) == 1 &&
	       ret->generation == ref->generation;
}

static int check_session(sb_session *s, const sb_ref *ref)
{
	const struct sb__attachment *a = atomic_load_explicit(&s->attached, memory_order_acquire);
	int err = 0;

	if (strcmp(ref->session_id, s->id) != 0) {
		err = sb__fail(
			SB_EREFSESSION,
			"a ref of session \"%s\" is asked about in session \"%s\": use it in its own session",
			ref->session_id, s->id);
		sb__fail_set_sessions(s->id, ref->session_id);
	} else if (!a || a->incarnation != ref->incarnation) {
		err = sb__incarnation_explain(s->core, s->id, ref->incarnation, "ref info");
	}
	if (err)
		sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

int sb__ref_info(sb_session *named, const sb_ref *ref, sb_ref_info *ret)
{
	struct sb__ref_view view;
	sb_session *s;
	int err = sb__resolve(named, ref, &s);

	if (!err)
		err = sb__session_enter(s);
	if (!err)
		err = check_session(s, ref);
	if (err)
		return err;
	snprintf(ret->session_id, sizeof(ret->session_id), "%s", s->id);
	snprintf(ret->type_name, sizeof(ret->type_name), "%s", ref->type_name);
	ret->incarnation = ref->incarnation;
	ret->age_ms = ret->idle_ms = -1;
	if (!find_row(s, ref, &view))
		return SB__REF_NOT_LISTED;
	snprintf(ret->type_name, sizeof(ret->type_name), "%s", view.type_name);
	snprintf(ret->type_module, sizeof(ret->type_module), "%.*s", (int)view.module_len, view.type_name);
	ret->creator_pid = view.creator_pid;
	ret->pins = view.pins;
	ret->age_ms = since(view.created_ms, sb__now_ms());
	ret->idle_ms = since(view.used_ms, sb__now_ms());
	return 0;
}
