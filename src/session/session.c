/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Session handles: open, join, close, release, and finding out what became of a session.
 *
 * The store decides: a session exists exactly while its record does. Where its first owner serves it itself, one transaction
 * creates it ACTIVE, and its mailbox follows within microseconds; else there are two, STARTING (record) and ACTIVE (its
 * designated owner serves). Whoever finds a STARTING session, or an ACTIVE one without a mailbox, waits for it while its
 * designated owner lives.
 *
 * Lock order: core->lock, then the store's. Python is started and waited for with no lock held.
 *
 * Crash: killed before the mailbox is there: a session whose designated owner is dead; it is orphaned by the next who
 * looks, or by the reaper. Killed after the transaction that ends one: files without a record, removed
 * by the reaper; callers in flight see the end at their next look at the store (bounded waits).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "ids.h"
#include "note.h"
#include "os_linux.h"
#include "point.h"
#include "way.h"

#define UNWANTED_MS 10000 /* how long a dedicated session waits for its first owner */

const char *sb__session_name(const sb_session *session)
{
	return session->id;
}

/* ── open handles ── */

static void unregister_locked(sb_session *s)
{
	if (!s->at)
		return;
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	s->at = NULL;
	sb__index_remove(&s->core->sessions, &s->by_self);
	sb__index_remove(&s->core->sessions_by_id, &s->by_id);
}

bool sb__session_is_open_locked(struct sb__core *core, const sb_session *session)
{
	struct sb__index_node *n = sb__index_find(&core->sessions, sb__index_number((uintptr_t)session));

	while (n && SB__INDEX_OF(n, sb_session, by_self) != session)
		n = sb__index_find_next(&core->sessions, n);
	return n != NULL;
}

static bool is_wanted(const sb_session *s, const char *id, bool kept)
{
	return (s->kept || !kept) && strcmp(s->id, id) == 0;
}

sb_session *sb__session_find(struct sb__core *core, const char *id, bool kept)
{
	struct sb__index_node *n;

	pthread_mutex_lock(&core->lock);
	n = sb__index_find(&core->sessions_by_id, sb__index_text(id));
	while (n && !is_wanted(SB__INDEX_OF(n, sb_session, by_id), id, kept))
		n = sb__index_find_next(&core->sessions_by_id, n);
	pthread_mutex_unlock(&core->lock);
	return n ? SB__INDEX_OF(n, sb_session, by_id) : NULL;
}

/* ── closing ── */

/* over: its session is known to have ended, with all its owner records. */
static void disown_locked(sb_session *session, bool over)
{
	struct sb__core *core = session->core;
	struct sb__session_rec rec;
	int err;

	if (over || !session->handle || atomic_load(&session->epoch) != sb__fork_epoch() ||
	    !sb__core_is_ours(core))
		return; /* no owner by it (sb-owner), or inherited and never used here: this process is no owner by it */
	err = sb__store_owner_remove(core->store, session->uid, core->self.slot, core->self.generation,
	                             session->handle, &rec);
	if (err > 0)
		sb__events_note(&core->events, core->dir.boot, SB__EVENT_LEAVE, session->uid, session->id,
		                session->last_incarnation, sb__call_trace(), 0, 0, "handle closed");
	SB_POINT("leave.owner_removed");
	if (err == 2) {
		sb__session_finish_locked(core, &rec, SB__MAILBOX_RELEASED);
		sb__session_note(core, SB__EVENT_RELEASE, &rec, 0, "its last owner left");
	}
}

static void drop_attachments_locked(sb_session *session)
{
	if (!sb__core_is_ours(session->core))
		return; /* the parent's: forgotten as a whole when this process attaches */
	for (unsigned i = 0; i < session->retired_count; i++)
		sb__attachment_put_locked(session->retired[i]);
	session->retired_count = 0;
	free(session->retired);
	session->retired = NULL;
	sb__attachment_put_locked(atomic_load(&session->attached));
	atomic_store(&session->attached, NULL);
}

void sb__session_close_locked(sb_session *session)
{
	const struct sb__attachment *a = atomic_load(&session->attached);
	bool over = a && a->over && sb__core_is_ours(session->core);

	unregister_locked(session);
	sb__futures_drop_locked(session);
	drop_attachments_locked(session); /* first: the reaper looks for the lanes of owners only */
	SB_POINT("leave.lanes_given");
	disown_locked(session, over);
	free(session);
}

void sb__session_close(sb_session *session)
{
	struct sb__core *core;

	if (!session)
		return;
	core = session->core;
	sb__context_drop(session);
	sb__oneways_drain(session);
	pthread_mutex_lock(&core->lock);
	sb__session_close_locked(session);
	pthread_mutex_unlock(&core->lock);
}

/* ── designated owners ── */

static void nap(unsigned ms)
{
	sb__os_sleep(ms * UINT64_C(1000000));
}

uint64_t sb__start_until(const struct sb__core *core)
{
	return sb__now_ms() + sb__core_number(core, SB__CONFIG_START_TIMEOUT_MS);
}

bool sb__designated_dead(struct sb__core *core, const struct sb__session_rec *rec)
{
	return sb__liveness_check(core->dir.life_fd, &rec->designated).verdict == SB__DEAD;
}

/* This process takes over (or begins) rec's incarnation, which the store has as STARTING with us. */
static int serve_here(struct sb__core *core, const struct sb__session_rec *rec, bool elected)
{
	int err = sb__host_session(core, rec);

	if (err) {
		/* Nothing half-made: nobody can have used it, so a new session ends, and an elected owner's has none
		 * again. A failure of this clean-up is the reaper's business and must not hide the reason. */
		char reason[512];

		snprintf(reason, sizeof(reason), "%s", sb_last_error()->message);
		if (elected)
			sb__store_session_orphan(core->store, rec->session_id, rec->incarnation);
		else
			sb__store_session_end(core->store, rec->session_id, rec->uid, SB__END_RELEASED, NULL);
		return sb__fail(err, "%s", reason);
	}
	SB_POINT("open.hosted");
	if (rec->state == SB_SESSION_ACTIVE) /* it was created so */
		return 0;
	err = sb__store_session_activate(core->store, rec->session_id, rec->incarnation);
	SB_POINT("open.active");
	if (err == 1)
		return 0;
	pthread_mutex_lock(&core->lock);
	sb__session_finish_locked(core, rec, SB__MAILBOX_RELEASED);
	pthread_mutex_unlock(&core->lock);
	if (err == 0)
		err = sb__incarnation_explain(core, rec->session_id, rec->incarnation, "starting");
	return err ? err : sb__fail(SB_EBUG, "session \"%s\" serves before it is ready", rec->session_id);
}

/* Makes this process the designated owner of an orphaned session. 1 done, and *ret is what it is now; 0 somebody else
 * was quicker. */
static int elect_here(struct sb__core *core, const struct sb__session_rec *rec, struct sb__session_rec *ret)
{
	int err = sb__host_python(core);

	if (!err)
		err = sb__store_session_elect(core->store, rec->session_id, rec->incarnation, &core->self,
		                              ret);
	if (err <= 0)
		return err;
	SB_POINT("elect.won");
	sb__mailbox_unlink(core->dir.mailbox, rec->incarnation);
	SB_POINT("elect.old_unlinked");
	err = serve_here(core, ret, true);
	if (err)
		return err;
	sb__session_note(core, SB__EVENT_ELECT, ret, rec->designated.pid,
	                 "the designated owner before it is gone");
	return 1;
}

bool sb__start_wanted(struct sb__core *core, const struct sb__session_rec *rec)
{
	struct sb__session_rec now;
	int found = rec->uid ? sb__store_session_get(core->store, rec->session_id, &now) : -1;

	return found < 0 || (found == 1 && now.uid == rec->uid);
}

/* Elects a designated owner for an orphaned session, as its mode says. 0: look again. */
int sb__elect(struct sb__core *core, const struct sb__session_rec *rec)
{
	struct sb__session_rec mine;
	int err;

	if (rec->designated_mode == SB_DESIGNATED_DEDICATED)
		return sb__dedicated_start(core, rec);
	err = elect_here(core, rec, &mine);
	return err < 0 ? err : 0;
}

/* The session exists in state STARTING: waits a moment, or orphans it if its designated owner died. */
int sb__wait_starting(struct sb__core *core, const struct sb__session_rec *rec, uint64_t until_ms)
{
	int err;

	if (sb__designated_dead(core, rec)) {
		err = sb__store_session_orphan(core->store, rec->session_id, rec->incarnation);
		if (err == 1)
			sb__session_note(core, SB__EVENT_ORPHAN, rec, rec->designated.pid,
			                 "its designated owner died starting it");
		return err < 0 ? err : 0;
	}
	if (sb__now_ms() >= until_ms)
		return sb__fail(SB_ESTART,
		                "session \"%s\": its designated owner (pid %d) did not get ready within %u s",
		                rec->session_id, (int)rec->designated.pid,
		                (unsigned)(sb__core_number(core, SB__CONFIG_START_TIMEOUT_MS) / 1000));
	nap(2);
	return 0;
}

/* ── joining ── */

static int join_locked(sb_session *s, const struct sb__session_rec *rec)
{
	struct sb__core *core = s->core;
	struct sb__attachment *a = NULL;
	struct sb__owner_rec owner = { .session_uid = rec->uid,
		                       .slot = core->self.slot,
		                       .generation = core->self.generation,
		                       .pid = core->self.pid,
		                       .joined_wall_ms = sb__wall_ms() };
	int err;

	if (rec->state == SB_SESSION_ACTIVE) {
		err = sb__attach_locked(core, rec, &a);
		if (err && err != SB_EOWNERDIED)
			return err;
	}
	SB_POINT("join.attached");
	owner.handle = ++core->next_handle;
	err = sb__store_owner_add(core->store, rec->session_id, &owner);
	SB_POINT("join.owner_added");
	if (err <= 0) {
		sb__attachment_put_locked(a);
		return err ? err : SB_ERELEASED;
	}
	sb__session_note(core, SB__EVENT_JOIN, rec, 0, "handle opened");
	if (a)
		sb__mailbox_touch(a->mailbox, sb__now_coarse_ms());
	else
		sb__session_refresh(core, rec);
	if (a && a->refs == 1 && !a->hosted && core->attachments.count > SB__WARM_MAX) {
		sb__attachment_put_locked(a); /* it is there: the first call attaches to it again */
		a = NULL;
	}
	s->uid = rec->uid;
	s->max_session_arena_bytes = rec->max_session_arena_bytes;
	s->last_incarnation = rec->incarnation;
	s->handle = owner.handle;
	atomic_store(&s->attached, a);
	atomic_store(&s->epoch, sb__fork_epoch());
	return 0;
}

/* Joins s to the session that the store has. 0 joined; 1 look again; or an error. */
int sb__join(sb_session *s, const struct sb__session_rec *rec, uint64_t until_ms)
{
	struct sb__core *core = s->core;
	int err;

	if (rec->state == SB_SESSION_STARTING) {
		err = sb__wait_starting(core, rec, until_ms);
		return err ? err : 1;
	}
	pthread_mutex_lock(&core->lock);
	err = join_locked(s, rec);
	pthread_mutex_unlock(&core->lock);
	/* It ended between our look and the attempt, so that the record is gone, or a new one comes; or its mailbox is not made
	 * yet, and never will be if its maker died. */
	if (err == SB_ERELEASED && sb__now_ms() < until_ms) {
		err = sb__wait_starting(core, rec, until_ms);
		return err ? err : 1;
	}
	return err;
}

/* The handle is open: joined by this process (handle number 0: not as an owner) and attached to what it serves. */
static int attach_served(sb_session *s, const struct sb__session_rec *rec, uint32_t handle)
{
	struct sb__core *core = s->core;
	struct sb__attachment *a = NULL;
	int err;

	pthread_mutex_lock(&core->lock);
	err = sb__attach_locked(core, rec, &a);
	if (!err) {
		s->uid = rec->uid;
		s->max_session_arena_bytes = rec->max_session_arena_bytes;
		s->last_incarnation = rec->incarnation;
		s->handle = handle;
		atomic_store(&s->attached, a);
		atomic_store(&s->epoch, sb__fork_epoch());
	}
	pthread_mutex_unlock(&core->lock);
	return err;
}

/* The session that was just made cannot be used by the handle that made it: it ends, and the reason is kept. */
static int undo_create(struct sb__core *core, const struct sb__session_rec *rec, int err)
{
	struct sb__session_rec ended;
	char reason[512];

	snprintf(reason, sizeof(reason), "%s", sb_last_error()->message);
	pthread_mutex_lock(&core->lock);
	if (sb__store_session_end(core->store, rec->session_id, rec->uid, SB__END_RELEASED, &ended) == 1)
		sb__session_finish_locked(core, &ended, SB__MAILBOX_RELEASED);
	pthread_mutex_unlock(&core->lock);
	return sb__fail(err, "%s", reason);
}

/* 0 created and open; 1 somebody was quicker: join it. */
static int create_here(sb_session *s, struct sb__wish *wish, bool as_owner)
{
	struct sb__core *core = s->core;
	struct sb__owner_rec owner = { .slot = core->self.slot,
		                       .generation = core->self.generation,
		                       .pid = core->self.pid,
		                       .joined_wall_ms = sb__wall_ms() };
	struct sb__session_rec rec;
	int err = sb__host_python(core);

	if (err)
		return err;
	pthread_mutex_lock(&core->lock);
	owner.handle = ++core->next_handle;
	pthread_mutex_unlock(&core->lock);
	rec = wish->rec;
	rec.designated = core->self;
	/* Python runs: all that is missing is the mailbox, for which whoever joins meanwhile waits. */
	rec.state = as_owner ? SB_SESSION_ACTIVE : SB_SESSION_STARTING;
	err = sb__store_session_create(core->store, &rec, as_owner ? &owner : NULL);
	SB_POINT("open.starting");
	if (err != 1)
		return err < 0 ? err : 1;
	wish->rec = rec;
	err = serve_here(core, &wish->rec, false);
	if (err)
		return err;
	sb__session_note(core, SB__EVENT_CREATE, &wish->rec, 0,
	                 as_owner ? "designated owner and first owner" : "dedicated designated owner");
	err = attach_served(s, &wish->rec, as_owner ? owner.handle : 0);
	if (err == SB_ERELEASED)
		return 1; /* others have used it and ended it since it is active */
	return err ? undo_create(core, &wish->rec, err) : 0;
}

/* Opens by what the store says, until it is open. */
static int open_by_store(sb_session *s, struct sb__wish *wish)
{
	struct sb__core *core = s->core;
	uint64_t until_ms = sb__start_until(s->core);
	struct sb__session_rec rec;
	bool fresh = wish->generated; /* nothing has its id */
	int err;

	do {
		err = fresh ? 0 : sb__store_session_get(core->store, wish->rec.session_id, &rec);
		fresh = false;
		if (err < 0)
			return err;
		if (err == 1 && sb__session_expire_idle(core, &rec) == 1)
			continue; /* nobody had noticed yet: look again */
		if (err == 1) {
			err = sb__wish_check_join(wish, &rec);
			if (!err)
				err = sb__join(s, &rec, until_ms);
		} else if (wish->designated == SB_DESIGNATED_ATTACH_ONLY) {
			err = sb__no_such_session(core, wish->rec.session_id);
		} else if (wish->designated == SB_DESIGNATED_DEDICATED) {
			err = sb__dedicated_start(core, &wish->rec);
			err = err ? err : 1;
		} else {
			err = create_here(s, wish, true);
		}
	} while (err == 1);
	return err;
}

static sb_session *session_new(sb_bridge *bridge, const struct sb__wish *wish)
{
	size_t len = strlen(wish->rec.session_id);
	sb_session *s = calloc(1, sizeof(*s) + len + 1);

	if (!s)
		return NULL;
	s->bridge = bridge;
	s->core = bridge->core;
	s->designated = wish->designated;
	s->timeout_ms = wish->timeout_ms;
	memcpy(s->id, wish->rec.session_id, len + 1);
	return s;
}

static void register_session(sb_session *s)
{
	struct sb__core *core = s->core;

	pthread_mutex_lock(&core->lock);
	s->next = s->bridge->sessions;
	s->at = &s->bridge->sessions;
	if (s->next)
		s->next->at = &s->next;
	s->bridge->sessions = s;
	sb__index_add(&core->sessions, &s->by_self, sb__index_number((uintptr_t)s));
	sb__index_add(&core->sessions_by_id, &s->by_id, sb__index_text(s->id));
	if (!core->host) /* one that only calls needs the store no more */
		sb__store_unload(core->store);
	pthread_mutex_unlock(&core->lock);
}

int sb__session_open(sb_bridge *bridge, const sb_session_options *options, sb_session **ret)
{
	struct sb__wish wish;
	sb_session *s;
	int err = sb__wish_make(bridge->core, options, &wish);

	if (!err)
		err = sb__core_enter(bridge->core);
	if (err)
		return err;
	s = session_new(bridge, &wish);
	if (!s)
		return sb__fail_memory("a session handle");
	err = open_by_store(s, &wish);
	if (err) {
		free(s);
		return err;
	}
	register_session(s);
	*ret = s;
	return 0;
}

/* The session exists already: serve it if it has lost its designated owner. */
static int host_existing(sb_session *s)
{
	struct sb__session_rec rec = { .state = 0 }, mine;
	int err = sb__store_session_get(s->core->store, s->id, &rec);

	if (err == 1 && rec.state == SB_SESSION_ORPHANED) {
		err = elect_here(s->core, &rec, &mine);
		if (err == 1) {
			err = attach_served(s, &mine, 0);
			if (err != SB_ERELEASED)
				return err;
			err = 0; /* it has ended since: as if another had been quicker */
		}
	}
	if (err < 0)
		return err;
	return sb__fail(SB_EOPTION,
	                "session \"%s\" has a designated owner already (pid %d): join it with "
	                "sb_session_open(), release it, or use another id",
	                s->id, (int)rec.designated.pid);
}

int sb__session_host(sb_bridge *bridge, const sb_session_options *options, sb_session **ret)
{
	struct sb__wish wish;
	sb_session *s;
	int err = sb__wish_make(bridge->core, options, &wish);

	if (!err)
		err = sb__core_enter(bridge->core);
	if (err)
		return err;
	wish.rec.designated_mode = SB_DESIGNATED_DEDICATED;
	s = session_new(bridge, &wish);
	if (!s)
		return sb__fail_memory("a session handle");
	err = create_here(s, &wish, false);
	if (err == 1)
		err = host_existing(s);
	if (err) {
		free(s);
		return err;
	}
	register_session(s);
	*ret = s;
	return 0;
}

/* A dedicated owner that nobody came to use, because whoever started it died meanwhile, ends what it began. */
static void end_if_unwanted(sb_session *s, const struct sb__session_rec *rec)
{
	struct sb__core *core = s->core;
	struct sb__session_rec ended;

	if (rec->persistent || rec->owner_count || sb__now_ms() - rec->created_ms < UNWANTED_MS)
		return;
	pthread_mutex_lock(&core->lock);
	if (sb__store_session_end(core->store, s->id, s->uid, SB__END_OWNERS_GONE, &ended) == 1) {
		sb__session_finish_locked(core, &ended, SB__MAILBOX_RELEASED);
		sb__session_note(core, SB__EVENT_RELEASE, &ended, 0, "it was left without an owner");
	}
	pthread_mutex_unlock(&core->lock);
}

int sb__session_host_wait(sb_session *s, const volatile int *stop, uint32_t timeout_ms)
{
	struct sb__session_rec rec;

	if (sb__host_wait(s->core, s->last_incarnation, stop, timeout_ms))
		return 1;
	if (sb__store_session_get(s->core->store, s->id, &rec) == 1 && rec.uid == s->uid)
		end_if_unwanted(s, &rec);
	return 0;
}

/* ── facts ── */

static void info_counters(sb_session *s, sb_session_info *ret)
{
	struct sb__attachment *a = sb__session_attachment(s);
	struct sb__mailbox_control_shm *control;
	uint64_t now = sb__now_ms(), last;

	if (!a)
		return;
	control = sb__mailbox_control(a->mailbox);
	ret->live_refs = sb__load(&control->live_refs);
	ret->evicted_refs = sb__load(&control->evicted_refs);
	ret->expired_refs = sb__load(&control->expired_refs);
	ret->created_refs = sb__load(&control->created_refs);
	ret->pinned_refs = sb__load(&control->pinned_refs);
	ret->calls = sb__load(&control->calls);
	last = sb__load(&control->last_access_ms);
	ret->idle_ms = now > last ? (int64_t)(now - last) : 0;
}

int sb__session_info(sb_session *s, sb_session_info *ret)
{
	sb_session_info info = { .size = ret->size };
	struct sb__session_rec rec;
	int err = sb__session_enter(s);

	if (err)
		return err;
	err = sb__store_session_get(s->core->store, s->id, &rec);
	if (err == 1)
		err = sb__session_record_death(s, &rec);
	if (err < 0)
		return err;
	strcpy(info.session_id, s->id);
	if (err == 0 || rec.uid != s->uid) {
		info.state = SB_SESSION_ENDED;
		info.incarnation = s->last_incarnation;
	} else {
		info.state = (int)rec.state;
		info.incarnation = rec.incarnation;
		info.designated_pid = rec.state == SB_SESSION_ORPHANED ? 0 : rec.designated.pid;
		info.owner_count = rec.owner_count;
		info.max_refs = rec.max_refs;
		info.max_refs_per_process = rec.max_refs_per_process;
		info.max_session_arena_bytes = rec.max_session_arena_bytes;
		info.ttl_seconds = (int64_t)(rec.ttl_ms / 1000);
		info_counters(s, &info);
	}
	memcpy(ret, &info, ret->size < sizeof(info) ? ret->size : sizeof(info));
	return 0;
}
