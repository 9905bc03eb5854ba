/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping a handle up with its session: joining again in a forked child, moving on to a new incarnation, and finding out
 * what became of the old one.
 *
 * Lock order: core->rejoin_lock, core->lock, then the store's.
 * Crash: as session.c.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "note.h"
#include "os_linux.h"
#include "point.h"

/* ── in a forked child ── */

static int rejoin(sb_session *s)
{
	uint64_t until_ms = sb__start_until(s->core);
	struct sb__session_rec rec;
	int err;

	do {
		err = sb__store_session_get(s->core->store, s->id, &rec);
		if (err < 0)
			return err;
		if (err == 0 || rec.uid != s->uid || sb__session_expire_idle(s->core, &rec) == 1)
			return sb__session_explain(s, err == 1 && rec.uid != s->uid,
			                           "using an inherited session");
		err = sb__join(s, &rec, until_ms);
	} while (err == 1);
	return err;
}

int sb__session_enter(sb_session *s)
{
	int err;

	if (atomic_load_explicit(&s->epoch, memory_order_acquire) == sb__fork_epoch())
		return 0;
	err = sb__core_enter(s->core);
	if (err)
		return err;
	/* Two threads of a forked child may come here at once with one handle; the second finds it joined. */
	pthread_mutex_lock(&s->core->rejoin_lock);
	if (atomic_load(&s->epoch) != sb__fork_epoch())
		err = rejoin(s);
	pthread_mutex_unlock(&s->core->rejoin_lock);
	return err;
}

#define RETIRED_MAX 8u

static int retire_locked(sb_session *s, struct sb__attachment *next)
{
	struct sb__attachment *old;

	if (!s->retired && atomic_load(&s->attached))
		s->retired = calloc(RETIRED_MAX, sizeof(struct sb__attachment *));
	if (!s->retired && atomic_load(&s->attached))
		return sb__fail_memory("a session's next incarnation");
	old = atomic_exchange(&s->attached, next);
	if (!old)
		return 0;
	if (s->retired_count == RETIRED_MAX) {
		/* Eight incarnations ago: no call can be in it any more, its owner is long dead. */
		sb__attachment_put_locked(s->retired[0]);
		memmove(s->retired, s->retired + 1, (RETIRED_MAX - 1) * sizeof(struct sb__attachment *));
		s->retired_count--;
	}
	s->retired[s->retired_count++] = old;
	return 0;
}

static int move_to(sb_session *s, const struct sb__session_rec *rec)
{
	struct sb__core *core = s->core;
	struct sb__attachment *a = NULL;
	int err;

	pthread_mutex_lock(&core->lock);
	err = sb__attach_locked(core, rec, &a);
	SB_POINT("recover.attached");
	if (!err && atomic_load(&s->attached) == a) {
		sb__attachment_put_locked(a); /* another thread was quicker */
	} else if (!err) {
		err = retire_locked(s, a);
		if (err)
			sb__attachment_put_locked(a);
	}
	if (!err)
		s->last_incarnation = rec->incarnation;
	pthread_mutex_unlock(&core->lock);
	return err;
}

struct sb__attachment *sb__session_attachment(sb_session *s)
{
	struct sb__attachment *a = atomic_load_explicit(&s->attached, memory_order_acquire);
	struct sb__session_rec rec;

	if (!a && sb__store_session_get(s->core->store, s->id, &rec) == 1 && rec.uid == s->uid &&
	    rec.state == SB_SESSION_ACTIVE && move_to(s, &rec) == 0)
		a = atomic_load_explicit(&s->attached, memory_order_acquire);
	return a;
}

/* It may have ended between the look at the store and the attempt: what the store has now says why (1: look again). */
static int move_on(sb_session *s, const struct sb__session_rec *rec)
{
	struct sb__session_rec now;
	int err, found;

	SB_POINT("recover.looked");
	err = move_to(s, rec);
	if (err != SB_ERELEASED)
		return err;
	found = sb__store_session_get(s->core->store, s->id, &now);
	if (found < 0)
		return found;
	return found == 1 && now.incarnation == rec->incarnation && now.state == rec->state ? err : 1;
}

static int owner_died(sb_session *s, const struct sb__session_rec *rec)
{
	int err = sb__fail(
		SB_EOWNERDIED,
		"the designated owner (pid %d) of session \"%s\" died and its objects with it; make them "
		"again",
		(int)rec->designated.pid, s->id);

	sb__fail_set_sessions(s->id, NULL);
	return err;
}

static int recover_orphaned(sb_session *s, const struct sb__session_rec *rec, bool creating)
{
	int err;

	if (!creating)
		return owner_died(s, rec);
	if (s->designated == SB_DESIGNATED_ATTACH_ONLY) {
		err = sb__fail(SB_ENOOWNER,
		               "session \"%s\" has no designated owner since pid %d died, and this handle is "
		               "attach-only: open "
		               "it with designated = self or dedicated to elect one",
		               s->id, (int)rec->designated.pid);
		sb__fail_set_sessions(s->id, NULL);
		return err;
	}
	err = sb__elect(s->core, rec);
	return err ? err : 1;
}

/*
 * The designated owner of rec is dead, or its service of the incarnation that we are attached to is: the kernel marked
 * its alive mutex, which a dying process's memory may outlive for a while before its life token goes.
 */
static bool stopped_serving(struct sb__core *core, const struct sb__session_rec *rec,
                            const struct sb__attachment *failed)
{
	if (failed && failed->peer && failed->incarnation == rec->incarnation &&
	    sb__bell_owner_died(&failed->peer->bell))
		return true;
	return sb__designated_dead(core, rec);
}

/* Whoever finds the death is using the session: an access. What the mailbox knew of earlier ones goes with it. */
static int orphan(struct sb__core *core, const struct sb__session_rec *rec)
{
	int err = sb__store_session_orphan(core->store, rec->session_id, rec->incarnation);

	SB_POINT("recover.orphaned");
	if (err == 1) {
		sb__session_refresh(core, rec);
		SB_POINT("recover.refreshed");
		sb__mailbox_unlink(core->dir.mailbox, rec->incarnation);
		sb__session_note(core, SB__EVENT_ORPHAN, rec, rec->designated.pid,
		                 "a caller saw its designated owner dead");
	}
	return err;
}

/* 0 moved on; 1 look again; or the code that says why not. */
static int recover_once(sb_session *s, const struct sb__attachment *failed, bool creating, uint64_t until_ms)
{
	struct sb__core *core = s->core;
	struct sb__session_rec rec;
	int err = sb__store_session_get(core->store, s->id, &rec);

	if (err < 0)
		return err;
	if (err == 0 || rec.uid != s->uid || sb__session_expire_idle(core, &rec) == 1)
		return sb__session_explain(s, err == 1 && rec.uid != s->uid, "calling");
	if (rec.state == SB_SESSION_STARTING) {
		err = sb__wait_starting(core, &rec, until_ms);
		return err ? err : 1;
	}
	if (rec.state == SB_SESSION_ORPHANED)
		return recover_orphaned(s, &rec, creating);
	if (!stopped_serving(core, &rec, failed)) {
		if (!failed || rec.incarnation != failed->incarnation)
			return move_on(s, &rec);
		return sb__fail(SB_EOWNERDIED,
		                "the designated owner (pid %d) of session \"%s\" stopped serving it",
		                (int)rec.designated.pid, s->id);
	}
	err = orphan(core, &rec);
	if (err >= 0 && atomic_load(&s->death_told) == rec.incarnation)
		return 1;
	return err < 0 ? err
	               : owner_died(s, &rec); /* this call learns of the death; the next one may elect */
}

/* A dying process keeps its record locks, so the store's gates, until its memory is free, which takes long where there is much
 * of it: a caller that has the kernel's word in the doorbell does not wait for the store. Who next uses the session records the
 * death, or the reaper. */
static bool told_by_kernel(const struct sb__attachment *failed)
{
	return failed->peer && sb__bell_owner_died(&failed->peer->bell) &&
	       sb__mailbox_state(failed->mailbox) ==
	               SB__MAILBOX_SERVING; /* else it stopped before it ended */
}

bool sb__session_note_death(sb_session *s, const struct sb__attachment *failed)
{
	struct sb__session_rec rec;

	if (told_by_kernel(failed)) {
		atomic_store(&s->death_told, failed->incarnation);
		return true;
	}
	if (sb__store_session_get(s->core->store, s->id, &rec) == 1 && rec.state == SB_SESSION_ACTIVE &&
	    rec.incarnation == failed->incarnation && stopped_serving(s->core, &rec, failed))
		orphan(s->core, &rec);
	return false;
}

int sb__session_record_death(sb_session *s, struct sb__session_rec *rec)
{
	int err;

	if (rec->state != SB_SESSION_ACTIVE || atomic_load(&s->death_told) != rec->incarnation)
		return 1;
	err = orphan(s->core, rec);
	return err < 0 ? err : sb__store_session_get(s->core->store, s->id, rec);
}

int sb__session_recover(sb_session *s, struct sb__attachment *failed, bool creating)
{
	uint64_t until_ms = sb__start_until(s->core);
	int err;

	do {
		err = recover_once(s, failed, creating, until_ms);
	} while (err == 1);
	return err;
}
