/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executes a plan. Every verdict names exact generations and incarnations and is checked again by the
 * transaction or compare-and-swap that executes it, so it does no harm when it is late, done twice, or done
 * by two reapers.
 *
 * Locks: none of its own; the store's write lock for one short transaction at a time, never two.
 *
 * Crash story: a kill between a transaction that ends or orphans a session and the removal of its mailbox
 * leaves a file without a serving session: the file pass of the next sweep tells whoever still has it
 * mapped, and removes it. A kill anywhere else leaves the rest of the plan undone; a dead process's record
 * goes last, so the next sweep finds what hangs on it again.
 */
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bell.h"
#include "clock.h"
#include "collect.h"
#include "events.h"
#include "fail.h"
#include "holds_sweep.h"
#include "mailbox.h"
#include "os_linux.h"
#include "point.h"
#include "visit.h"

struct sweep {
	struct sb__store *store;
	const struct sb__bridge_dir *dir;
	const struct sb__sweep_options *options;
	struct sb__sweep_result *result;
	uint64_t deadline_ms;       /* 0: none */
	struct sb__events events;   /* mapped at the first action */
	struct sb__visitor visitor; /* many dead processes often had lanes in the same mailbox */
};

uint32_t sb__sweep_actions(const struct sb__sweep_result *result)
{
	uint32_t n = 0;

	for (unsigned kind = 0; kind < SB__VERDICT_KINDS; kind++)
		if (kind != SB__VERDICT_RECORD_UNREADABLE)
			n += result->counts[kind];
	return n;
}

static enum sb__event_kind event_kind(enum sb__verdict_kind kind)
{
	switch (kind) {
	case SB__VERDICT_SESSION_RELEASED: return SB__EVENT_RELEASE;
	case SB__VERDICT_SESSION_ORPHANED: return SB__EVENT_ORPHAN;
	case SB__VERDICT_SESSION_EXPIRED: return SB__EVENT_EXPIRE;
	default: return SB__EVENT_REAP;
	}
}

/* Tells whoever watches the bridge. A ring that cannot be had keeps nobody from tidying. */
static void post(struct sweep *s, const struct sb__verdict *v)
{
	struct sb__event event = { .kind = event_kind(v->kind),
		                   .subject_pid = v->pid,
		                   .session_uid = v->uid,
		                   .incarnation = v->incarnation,
		                   .count = v->count };

	if (!s->events.shm && sb__events_open(s->dir->boot, true, &s->events) != 0)
		return;
	snprintf(event.session_id, sizeof(event.session_id), "%s", v->session_id);
	if (event.kind == SB__EVENT_REAP)
		snprintf(event.reason, sizeof(event.reason), "%s: %.40s", sb__verdict_kind_name(v->kind),
		         v->evidence);
	else
		snprintf(event.reason, sizeof(event.reason), "%.63s", v->evidence);
	sb__events_post(&s->events, &event);
}

static void report(struct sweep *s, const struct sb__verdict *v)
{
	if (v->kind == SB__VERDICT_RECORD_UNREADABLE)
		s->result->damaged = true;
	if (v->code < 0 && v->kind != SB__VERDICT_RECORD_UNREADABLE)
		s->result->failed++;
	else
		s->result->counts[v->kind]++;
	if (s->options->report)
		s->options->report(s->options->arg, v);
	if (v->code >= 0 && v->kind != SB__VERDICT_RECORD_UNREADABLE && !s->options->dry_run)
		post(s, v);
}

/* ── mailboxes of what ended ── */

static int finish(struct sweep *s, uint64_t incarnation, enum sb__mailbox_state state)
{
	sb__visitor_end(&s->visitor, incarnation, state);
	SB_POINT("sweep.told");
	return sb__mailbox_unlink(s->dir->mailbox, incarnation);
}

/* ── one function per kind: 1 done, 0 there was nothing to do any more, or an error ── */

static int reclaim_lanes(struct sweep *s, struct sb__verdict *v)
{
	int r = sb__visitor_enter(&s->visitor, v->incarnation);

	if (r == 0)
		r = sb__mailbox_map_lanes(s->visitor.mailbox);
	if (r == SB_ERELEASED)
		return 0;
	if (r < 0)
		return r;
	v->count = sb__mailbox_reclaim(s->visitor.mailbox, v->slot, v->generation, false);
	return v->count > 0;
}

static int remove_owner(struct sweep *s, struct sb__verdict *v)
{
	struct sb__session_rec rec;
	struct sb__verdict released;
	int r = sb__store_owner_remove(s->store, v->uid, v->slot, v->generation, v->handle, &rec);

	if (r != 2)
		return r;
	SB_POINT("sweep.last_owner");
	finish(s, rec.incarnation, SB__MAILBOX_RELEASED); /* what is left of the files is an orphan */
	report(s, v);
	released = *v;
	released.kind = SB__VERDICT_SESSION_RELEASED;
	released.incarnation = rec.incarnation;
	released.session_id = rec.session_id;
	snprintf(released.evidence, sizeof(released.evidence), "its last owner, pid %d, is dead",
	         (int)v->pid);
	report(s, &released);
	return 0; /* both told */
}

/* A session that nobody owns. Whoever joins between the look and the end keeps it. */
static int release_ownerless(struct sweep *s, const struct sb__verdict *v)
{
	struct sb__session_rec rec;
	char id[SB_SESSION_ID_MAX + 1];
	int r = sb__store_session_by_uid(s->store, v->uid, &rec);

	if (r != 1)
		return r;
	if (rec.incarnation != v->incarnation || rec.owner_count != 0 || rec.persistent != 0)
		return 0;
	memcpy(id, rec.session_id, sizeof(id));
	r = sb__store_session_end(s->store, id, v->uid, SB__END_OWNERS_GONE, &rec);
	SB_POINT("sweep.ownerless");
	if (r == 1)
		finish(s, rec.incarnation, SB__MAILBOX_RELEASED);
	return r;
}

/* Callers learn from the owner's death, not from the mailbox: its state stays serving. Its file goes so that
 * nobody attaches to it any more; the last access, which only it knew, is filed before that. */
static int orphan_session(struct sweep *s, const struct sb__verdict *v)
{
	uint64_t used_ms = sb__visitor_last_access(&s->visitor, v->incarnation);
	int r = sb__store_session_orphan(s->store, v->session_id, v->incarnation);

	if (r != 1)
		return r;
	SB_POINT("sweep.orphaned");
	if (used_ms != 0)
		sb__store_session_expire(s->store, v->session_id, v->uid, used_ms, 0, NULL);
	SB_POINT("sweep.refiled");
	sb__mailbox_unlink(s->dir->mailbox, v->incarnation);
	return 1;
}

static int expire_session(struct sweep *s, const struct sb__verdict *v)
{
	struct sb__session_rec rec;
	/* The clock first: the session may be used while we are stopped between the two. */
	uint64_t now_ms = sb__now_ms();
	uint64_t used_ms = sb__visitor_last_access(&s->visitor, v->incarnation);
	int r = sb__store_session_expire(s->store, v->session_id, v->uid,
	                                 used_ms ? used_ms : v->last_access_ms, now_ms, &rec);

	SB_POINT("sweep.expired");
	if (r == 1)
		finish(s, rec.incarnation, SB__MAILBOX_EXPIRED);
	return r;
}

/* Tells by the grave why an incarnation is over. One whose owner died keeps its state: callers see the
 * death. */
static void tell_by_grave(struct sweep *s, uint64_t incarnation)
{
	struct sb__grave_rec grave;
	int r = sb__store_grave(s->store, incarnation, &grave);

	if (r != 1 || grave.reason != SB__END_OWNER_DIED)
		sb__visitor_end(&s->visitor, incarnation,
		                r == 1 && grave.reason == SB__END_EXPIRED ? SB__MAILBOX_EXPIRED
		                                                          : SB__MAILBOX_RELEASED);
}

/*
 * A verdict came too late: somebody else did it, and may have died before removing the mailbox. The file pass
 * cannot know, because its snapshot still had the session.
 */
static void finish_others(struct sweep *s, const struct sb__verdict *v)
{
	struct sb__grave_rec grave;

	if (v->incarnation == 0 || sb__store_grave(s->store, v->incarnation, &grave) != 1)
		return;
	tell_by_grave(s, v->incarnation);
	sb__mailbox_unlink(s->dir->mailbox, v->incarnation);
}

static int remove_file(struct sweep *s, const struct sb__verdict *v)
{
	const struct sb__bridge_file *file = v->file;
	int r;

	if (file->kind == SB__FILE_MAILBOX)
		tell_by_grave(s, file->incarnation);
	SB_POINT("sweep.file_told");
	r = sb__os_unlinkat(sb__folder_fd(s->dir, file->folder), file->name, 0);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return sb__fail_errno(SB_ESYSTEM, -r, "%s/%s of bridge %s cannot be removed",
		                      sb__folder_name(file->folder), file->name, s->dir->path);
	return 1;
}

/* Nothing may hang on the record any more, or nobody would find it again. */
static int nothing_left(struct sweep *s, const struct sb__verdict *v)
{
	struct sb__session_rec *sessions = NULL;
	struct sb__owner_rec *owners = NULL;
	size_t owner_count = 0, session_count = 0, left = 0;
	int r = sb__store_owners_of_process(s->store, v->slot, &owners, &owner_count);

	for (size_t i = 0; r >= 0 && i < owner_count; i++)
		left += owners[i].generation == v->generation;
	if (r >= 0)
		r = sb__store_sessions_of_owner(s->store, v->slot, v->generation, &sessions, &session_count);
	for (size_t i = 0; r >= 0 && i < session_count; i++)
		left += sessions[i].state != SB_SESSION_ORPHANED;
	free(owners);
	free(sessions);
	return r < 0 ? r : left == 0;
}

static int remove_process(struct sweep *s, const struct sb__verdict *v)
{
	int r;

	if (sb__liveness_check(s->dir->life_fd, v->identity).verdict != SB__DEAD)
		return 0;
	r = nothing_left(s, v);
	if (r != 1)
		return r;
	sb__bell_unlink(s->dir->bell, v->slot, v->generation);
	SB_POINT("sweep.bell_unlinked");
	sb__arena_unlink(s->dir->arena, v->slot, v->generation);
	SB_POINT("sweep.arena_unlinked");
	return sb__store_process_remove(s->store, v->slot, v->generation);
}

static int remove_boot(struct sweep *s, const struct sb__verdict *v)
{
	int r;

	do {
		unsigned budget = 256;

		r = sb__bridge_dir_remove_boot(s->dir, v->boot, &budget);
	} while (r == 0 && (s->deadline_ms == 0 || sb__now_ms() < s->deadline_ms));
	if (r == 0)
		s->result->complete = false;
	return r;
}

static int execute(struct sweep *s, struct sb__verdict *v)
{
	switch (v->kind) {
	case SB__VERDICT_LANES_RECLAIMED: return reclaim_lanes(s, v);
	case SB__VERDICT_OWNER_REMOVED: return remove_owner(s, v);
	case SB__VERDICT_SESSION_RELEASED: return release_ownerless(s, v);
	case SB__VERDICT_SESSION_ORPHANED: return orphan_session(s, v);
	case SB__VERDICT_SESSION_EXPIRED: return expire_session(s, v);
	case SB__VERDICT_FILE_REMOVED: return remove_file(s, v);
	case SB__VERDICT_PROCESS_DEAD: return remove_process(s, v);
	case SB__VERDICT_BOOT_REMOVED: return remove_boot(s, v);
	case SB__VERDICT_HOLDS_DROPPED: return 0;     /* done before */
	case SB__VERDICT_RECORD_UNREADABLE: return 1; /* its report is all */
	default: return 0;
	}
}

/* ── */

static bool is_of_session(enum sb__verdict_kind kind)
{
	return kind == SB__VERDICT_OWNER_REMOVED || kind == SB__VERDICT_SESSION_RELEASED ||
	       kind == SB__VERDICT_SESSION_ORPHANED || kind == SB__VERDICT_SESSION_EXPIRED;
}

/* What is tidied as a whole: how many there were, or a code. */
static void report_many(struct sweep *s, enum sb__verdict_kind kind, int n, const char *evidence)
{
	struct sb__verdict v = { .kind = kind, .session_id = "" };

	if (n == 0)
		return;
	if (n < 0)
		v.code = n;
	else
		v.count = (uint32_t)n;
	snprintf(v.evidence, sizeof(v.evidence), "%s", evidence);
	report(s, &v);
}

static void report_holds(void *arg, uint32_t slot, uint32_t generation, uint32_t count)
{
	struct sweep *s = arg;
	struct sb__verdict v = { .kind = SB__VERDICT_HOLDS_DROPPED,
		                 .session_id = "",
		                 .slot = slot,
		                 .generation = generation,
		                 .count = count };

	snprintf(v.evidence, sizeof(v.evidence), "kept by a dead process");
	report(s, &v);
}

static bool lanes_were_reclaimed(void *arg, uint32_t slot, uint32_t generation)
{
	const struct sb__plan *plan = arg;

	for (size_t i = 0; i < plan->count; i++) {
		const struct sb__verdict *v = &plan->verdicts[i];

		if (v->kind == SB__VERDICT_PROCESS_DEAD && v->slot == slot &&
		    (v->generation & 0xffffu) == generation)
			return !v->held_back;
	}
	return false;
}

/*
 * Before the records of the dead go: while there is one, its slot is nobody else's. And after their lanes were reclaimed: what
 * a request of a dead caller names is kept by its hold until the lane's word has moved (docs/design/arrays.md; tests/model/holds.pml,
 * BUG_ORDER).
 */
static void drop_holds(struct sweep *s, struct sb__plan *plan)
{
	struct sb__verdict v = { .kind = SB__VERDICT_HOLDS_DROPPED, .session_id = "" };

	v.code = sb__reaper_drop_holds(s->store, s->dir, s->options->dry_run, lanes_were_reclaimed, plan,
	                               report_holds, s);
	if (v.code < 0)
		report(s, &v);
}

/* Lanes of a dead process were not taken back: its owner record, by which they are found, its holds, which keep what requests in
 * them name, and its own record, which keeps the holds, wait for the next sweep. In a mailbox that is damaged for good they would wait
 * for ever. */
static void hold_back(struct sb__plan *plan, const struct sb__verdict *lanes)
{
	for (size_t i = 0; lanes->code != SB_EPROTOCOL && i < plan->count; i++) {
		struct sb__verdict *v = &plan->verdicts[i];

		if (v->slot == lanes->slot && v->generation == lanes->generation &&
		    (v->kind == SB__VERDICT_PROCESS_DEAD ||
		     (v->kind == SB__VERDICT_OWNER_REMOVED && v->uid == lanes->uid)))
			v->held_back = true;
	}
}

static void execute_plan(struct sweep *s, struct sb__plan *plan)
{
	bool dropped = false;

	for (size_t i = 0; i < plan->count; i++) {
		struct sb__verdict *v = &plan->verdicts[i];
		int r;

		if (v->consequence || v->held_back)
			continue;
		/* At least one, however small the budget: every sweep gets further. */
		if (i > 0 && s->deadline_ms != 0 && sb__now_ms() >= s->deadline_ms) {
			s->result->complete = false;
			return;
		}
		if (v->kind == SB__VERDICT_PROCESS_DEAD && !dropped) {
			drop_holds(s, plan);
			SB_POINT("sweep.holds_dropped");
			dropped = true;
		}
		r = execute(s, v);
		SB_POINT("sweep.executed");
		if (r < 0)
			v->code = r;
		if (r < 0 && v->kind == SB__VERDICT_LANES_RECLAIMED)
			hold_back(plan, v);
		if (r != 0)
			report(s, v);
		else if (is_of_session(v->kind))
			finish_others(s, v);
	}
	if (s->options->files && !dropped)
		drop_holds(s, plan);
}

/* A write transaction that changes nothing. LMDB shows a commit to readers a moment after it was made, so
 * what a killed writer committed may come to light only with the next write: better now than after the
 * snapshot. */
static void settle(struct sweep *s)
{
	sb__store_session_activate(s->store, "", 0); /* no session has that id */
}

int sb__reaper_sweep(struct sb__store *store, const struct sb__bridge_dir *dir,
                     const struct sb__sweep_options *options, struct sb__sweep_result *ret)
{
	uint64_t start_ms = sb__now_ms();
	struct sweep s = { .store = store,
		           .dir = dir,
		           .options = options,
		           .result = ret,
		           .visitor = { .mailbox_dir = dir->mailbox, .bell_dir = dir->bell } };
	struct sb__collect_options collect = { .files = options->files,
		                               .only = options->only,
		                               .dead_max = options->dead_max,
		                               .visitor = &s.visitor };
	struct sb__reaper_snapshot snapshot;
	struct sb__plan plan = { .verdicts = NULL };
	int r;

	memset(ret, 0, sizeof(*ret));
	if (options->budget_ms != 0) {
		s.deadline_ms = start_ms + options->budget_ms;
		collect.deadline_ms = start_ms + options->budget_ms / 2;
	}
	if (options->files && !options->dry_run)
		settle(&s);
	SB_POINT("sweep.settled");
	r = sb__reaper_collect(store, dir, &collect, &snapshot, &ret->complete);
	if (r == 0)
		r = sb__reaper_plan(&snapshot, &plan);
	/* Where much died, looking takes the whole budget: half of it is kept for doing. */
	if (s.deadline_ms != 0 && s.deadline_ms < sb__now_ms() + options->budget_ms / 2)
		s.deadline_ms = sb__now_ms() + options->budget_ms / 2;
	SB_POINT("sweep.planned");
	if (r == 0 && options->dry_run) {
		bool deaths = options->files;

		for (size_t i = 0; i < plan.count; i++) {
			report(&s, &plan.verdicts[i]);
			deaths |= plan.verdicts[i].kind == SB__VERDICT_PROCESS_DEAD;
		}
		if (deaths)
			drop_holds(&s, &plan);
	} else if (r == 0) {
		execute_plan(&s, &plan);
		report_many(&s, SB__VERDICT_READERS_CLEARED, sb__store_check_readers(store),
		            "their processes are dead");
		if (options->files)
			report_many(&s, SB__VERDICT_FILE_REMOVED, sb__store_sweep_temporary(dir->boot),
			            "stores that were never finished");
	}
	sb__visitor_leave(&s.visitor);
	ret->visited = snapshot.visited;
	sb__events_close(&s.events);
	sb__plan_free(&plan);
	sb__reaper_snapshot_free(&snapshot);
	ret->elapsed_ms = sb__now_ms() - start_ms;
	return r;
}
