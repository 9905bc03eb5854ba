/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects what a plan needs: who is dead and what hangs on them, due sessions, files, earlier boots. Changes
 * nothing.
 *
 * The process scan asks the life token for every record, and of those that have lost it all the rest. From a dead
 * process the store's indexes lead to its owner records and sessions. Files are listed before the records are read that could claim them:
 * a file is made after its record, so what was listed and has no record then is an orphan.
 *
 * Locks: none of its own; each store call is one short read transaction.
 * Crash: leaves nothing.
 */
#include "collect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "mailbox.h"

#define DUE_MAX     1024u   /* due sessions per sweep; the rest is still due in the next */
#define BOOTS_MAX   16u     /* earlier boots per sweep */
#define UNJOINED_MS 120000u /* twice what starting a dedicated owner may take */

struct vector {
	void *items;
	size_t count, cap, size; /* size of one item */
};

struct collecting {
	struct sb__store *store;
	const struct sb__bridge_dir *dir;
	const struct sb__collect_options *options;
	struct sb__reaper_snapshot *s;
	struct vector sessions, owners, lanes, troubles;
	int16_t slots[SB__SLOTS_MAX]; /* index into s->processes, or -1 */
	bool complete;
};

/* One more, zeroed; NULL and the error record set if there is no memory. */
static void *push(struct vector *v)
{
	if (v->count == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 16;
		void *items = realloc(v->items, cap * v->size);

		if (!items) {
			sb__fail_memory("the reaper's snapshot");
			return NULL;
		}
		v->items = items;
		v->cap = cap;
	}
	return memset((char *)v->items + v->count++ * v->size, 0, v->size);
}

/* Notes what the error record says; the sweep goes on. Only running out of memory stops it. */
static int trouble(struct collecting *c, int code, const char *what)
{
	char message[160];
	struct sb__seen_trouble *t;

	if (code == SB_ENOMEM)
		return code;
	snprintf(message, sizeof(message), "%s", sb_last_error()->message);
	t = push(&c->troubles);
	if (!t)
		return SB_ENOMEM;
	t->code = code;
	snprintf(t->what, sizeof(t->what), "%.40s: %.140s", what, message);
	return 0;
}

/* ── processes ── */

/* The one that is asked for, or all. */
static int read_processes(struct collecting *c, struct sb__identity **ret, size_t *ret_count)
{
	const struct sb__identity *only = c->options->only;
	int r;

	if (!only)
		return sb__store_processes(c->store, ret, ret_count);
	*ret = malloc(sizeof(**ret));
	if (!*ret)
		return sb__fail_memory("the reaper's snapshot");
	r = sb__store_process_get(c->store, only->slot, *ret);
	*ret_count = r == 1 && (*ret)->generation == only->generation;
	return r;
}

static int collect_processes(struct collecting *c)
{
	struct sb__reaper_snapshot *s = c->s;
	struct sb__identity *ids = NULL;
	size_t count = 0;
	int r;

	memset(c->slots, -1, sizeof(c->slots));
	r = read_processes(c, &ids, &count);
	if (r < 0) {
		free(ids);
		return r;
	}
	s->processes = calloc(count + 1, sizeof(*s->processes));
	if (!s->processes) {
		free(ids);
		return sb__fail_memory("the reaper's snapshot");
	}
	for (size_t i = 0; i < count; i++) {
		if (ids[i].slot >= SB__SLOTS_MAX)
			continue;
		c->slots[ids[i].slot] = (int16_t)s->process_count;
		s->processes[s->process_count].identity = ids[i];
		s->processes[s->process_count].evidence = sb__liveness_quick(c->dir->life_fd, &ids[i]);
		s->process_count++;
	}
	s->visited += count;
	free(ids);
	return 0;
}

static const struct sb__seen_process *process_of(const struct collecting *c, uint32_t slot,
                                                 uint32_t generation)
{
	const struct sb__seen_process *p;

	if (slot >= SB__SLOTS_MAX || c->slots[slot] < 0)
		return NULL;
	p = &c->s->processes[c->slots[slot]];
	return p->identity.generation == generation ? p : NULL;
}

static bool is_dead(const struct collecting *c, uint32_t slot, uint32_t generation)
{
	const struct sb__seen_process *p = process_of(c, slot, generation);

	return p && p->evidence.verdict == SB__DEAD;
}

/* ── sessions ── */

static struct sb__seen_session *see_session(struct collecting *c, const struct sb__session_rec *rec)
{
	struct sb__seen_session *session = push(&c->sessions);

	if (!session)
		return NULL;
	c->s->visited++;
	session->uid = rec->uid;
	session->incarnation = rec->incarnation;
	session->state = rec->state;
	session->owner_count = rec->owner_count;
	session->persistent = rec->persistent != 0;
	session->designated = rec->designated;
	session->ttl_ms = rec->ttl_ms;
	memcpy(session->session_id, rec->session_id, sizeof(session->session_id));
	return session;
}

static int see_sessions(struct collecting *c, const struct sb__session_rec *recs, size_t count, bool due)
{
	for (size_t i = 0; i < count; i++) {
		struct sb__seen_session *session = see_session(c, &recs[i]);

		if (!session)
			return SB_ENOMEM;
		session->due = due;
	}
	return 0;
}

static int by_uid(const void *a, const void *b)
{
	const struct sb__seen_session *x = a, *y = b;

	return (x->uid > y->uid) - (x->uid < y->uid);
}

/* Sessions are reached on several ways; one entry per session, which knows all that each way told. */
static void merge_sessions(struct collecting *c)
{
	struct sb__seen_session *sessions = c->sessions.items;
	size_t kept = 0;

	if (c->sessions.count > 0)
		qsort(sessions, c->sessions.count, sizeof(*sessions), by_uid);
	for (size_t i = 0; i < c->sessions.count; i++) {
		if (kept > 0 && sessions[kept - 1].uid == sessions[i].uid) {
			sessions[kept - 1].due |= sessions[i].due;
			sessions[kept - 1].unjoined |= sessions[i].unjoined;
		} else {
			sessions[kept++] = sessions[i];
		}
	}
	c->sessions.count = kept;
}

/* ── what hangs on a dead process ── */

/* Did somebody take the slot since the processes were listed? Asked after the owner record was read, which is made after
 * the process's. */
static bool successor_owns(struct collecting *c, const struct sb__owner_rec *owner)
{
	struct sb__identity now;

	return sb__store_process_get(c->store, owner->slot, &now) == 1 && now.generation == owner->generation;
}

static int gather_owners(struct collecting *c, const struct sb__seen_process *process)
{
	uint32_t slot = process->identity.slot;
	struct sb__owner_rec *recs = NULL;
	size_t count = 0;
	int r;

	r = sb__store_owners_of_process(c->store, slot, &recs, &count);
	c->s->visited += count;
	for (size_t i = 0; r >= 0 && i < count; i++) {
		bool own = recs[i].generation == process->identity.generation;
		struct sb__session_rec rec;
		struct sb__seen_owner *owner;

		if (!own && successor_owns(c, &recs[i]))
			continue;
		owner = push(&c->owners);
		if (!owner) {
			r = SB_ENOMEM;
			break;
		}
		owner->rec = recs[i];
		owner->how = own ? process->evidence.how : "its slot was taken again";
		r = sb__store_session_by_uid(c->store, recs[i].session_uid, &rec);
		if (r == 1)
			r = see_sessions(c, &rec, 1, false);
	}
	free(recs);
	return r < 0 ? r : 0;
}

static int gather_served(struct collecting *c, const struct sb__identity *who)
{
	struct sb__session_rec *recs = NULL;
	size_t count = 0;
	int r;

	r = sb__store_sessions_of_owner(c->store, who->slot, who->generation, &recs, &count);
	if (r >= 0)
		r = see_sessions(c, recs, count, false);
	free(recs);
	return r < 0 ? r : 0;
}

static bool out_of_time(const struct collecting *c)
{
	return c->options->deadline_ms != 0 && sb__now_ms() >= c->options->deadline_ms;
}

static int gather_process(struct collecting *c, struct sb__seen_process *process)
{
	int r;

	/* The whole question only now: it takes some twenty times longer, and thousands may be dead. */
	process->evidence = sb__liveness_check(c->dir->life_fd, &process->identity);
	if (process->evidence.verdict != SB__DEAD)
		return 0;
	r = gather_owners(c, process);
	if (r == 0)
		r = gather_served(c, &process->identity);
	if (r == 0)
		process->gathered = true;
	else if (trouble(c, r, "what a dead process left cannot be read") < 0)
		return SB_ENOMEM;
	return 0;
}

/* At least one dead process is gathered, however small the budget: every sweep gets further. Where only a few are
 * wanted, several processes may be doing the same at this moment: each begins somewhere else. */
static int gather_dead(struct collecting *c)
{
	size_t count = c->s->process_count;
	size_t start = c->options->dead_max && count ? (size_t)(sb__now_ns() / 1000 % count) : 0;
	uint32_t gathered = 0;

	for (size_t i = 0; i < count; i++) {
		struct sb__seen_process *process = &c->s->processes[(start + i) % count];

		if (process->evidence.verdict != SB__DEAD)
			continue;
		if (gathered > 0 && (out_of_time(c) || gathered == c->options->dead_max)) {
			c->complete = false;
			return 0;
		}
		gathered++;
		if (gather_process(c, process) < 0)
			return SB_ENOMEM;
	}
	return 0;
}

static int collect_due(struct collecting *c)
{
	struct sb__session_rec *recs = NULL;
	size_t count = 0;
	int r;

	r = sb__store_due(c->store, c->s->now_ms, DUE_MAX, &recs, &count);
	if (r >= 0)
		r = see_sessions(c, recs, count, true);
	if (count == DUE_MAX)
		c->complete = false;
	free(recs);
	return r < 0 ? trouble(c, r, "due sessions cannot be read") : 0;
}

/* ── mailboxes of the sessions that were reached ── */

struct views {
	struct sb__lane_view *items;
	uint32_t max;
};

static int count_lane(struct collecting *c, uint64_t uid, size_t first, const struct sb__lane_view *view)
{
	struct sb__seen_lanes *lanes = c->lanes.items;

	for (size_t i = first; i < c->lanes.count; i++)
		if (lanes[i].slot == view->slot && lanes[i].generation == view->generation) {
			lanes[i].lanes++;
			return 0;
		}
	lanes = push(&c->lanes);
	if (!lanes)
		return SB_ENOMEM;
	*lanes = (struct sb__seen_lanes){
		.uid = uid, .slot = view->slot, .generation = view->generation, .lanes = 1
	};
	return 0;
}

/* An abandoned lane has lost its claimer already: the designated owner frees it. */
static int look_at_lanes(struct collecting *c, uint64_t uid, struct sb__mailbox *mailbox, struct views *views)
{
	int r = sb__mailbox_map_lanes(mailbox);
	uint32_t count = r == 0 ? sb__mailbox_view(mailbox, views->items, views->max) : 0;
	size_t first = c->lanes.count;

	for (uint32_t i = 0; i < count && i < views->max && r == 0; i++) {
		const struct sb__lane_view *view = &views->items[i];

		if (view->state != SB__LANE_ABANDONED && is_dead(c, view->slot, view->generation))
			r = count_lane(c, uid, first, view);
	}
	return r;
}

/* What is damaged stays so, and is no reason to keep what is left of the dead; anything else may be better the next time. */
static int unread(struct collecting *c, struct sb__seen_session *session, int code)
{
	session->unread = code != SB_EPROTOCOL;
	session->due = false; /* when it was used last cannot be told */
	return trouble(c, code, "a mailbox cannot be read");
}

static int look_into_mailboxes(struct collecting *c)
{
	struct sb__seen_session *sessions = c->sessions.items;
	struct views views = { .max = SB__LANES_MAX };
	int r = 0;

	if (c->sessions.count == 0)
		return 0;
	views.items = malloc(views.max * sizeof(*views.items));
	if (!views.items)
		return sb__fail_memory("the reaper's view of lanes");
	for (size_t i = 0; i < c->sessions.count && r >= 0; i++) {
		struct sb__seen_session *session = &sessions[i];
		struct sb__visitor *visitor = c->options->visitor;

		r = sb__visitor_enter(visitor, session->incarnation);
		if (r == SB_ERELEASED) {
			r = 0;
			continue;
		}
		if (r < 0) {
			r = unread(c, session, r);
			continue;
		}
		session->has_mailbox = true;
		session->last_access_ms = sb__visitor_last_access(visitor, session->incarnation);
		if (!is_dead(c, session->designated.slot, session->designated.generation))
			r = look_at_lanes(c, session->uid, visitor->mailbox, &views);
		if (r < 0)
			r = r == SB_ERELEASED ? 0 : unread(c, session, r);
	}
	free(views.items);
	return r;
}

/* ── files ── */

/* Records anew, since the files were listed after the first look. A process not seen then counts as alive. */
static int know_processes(struct collecting *c, struct sb__known *known)
{
	struct sb__identity *ids = NULL;
	size_t count = 0;
	int r = sb__store_processes(c->store, &ids, &count);

	for (size_t i = 0; r >= 0 && i < count; i++)
		sb__known_add_process(known, &ids[i], !is_dead(c, ids[i].slot, ids[i].generation));
	free(ids);
	return r < 0 ? r : 0;
}

struct knowing {
	struct collecting *c;
	int error;
};

static int know_session(void *arg, const struct sb__session_rec *rec)
{
	struct knowing *k = arg;
	struct collecting *c = k->c;
	struct sb__seen_session *session;

	c->s->visited++;
	k->error = sb__known_add_session(c->s->known, rec);
	if (k->error == 0 && rec->owner_count == 0 && rec->persistent == 0 &&
	    c->s->now_ms > rec->created_ms && c->s->now_ms - rec->created_ms > UNJOINED_MS) {
		session = see_session(c, rec);
		if (session)
			session->unjoined = true;
		else
			k->error = SB_ENOMEM;
	}
	return k->error != 0;
}

static int collect_files(struct collecting *c)
{
	struct sb__reaper_snapshot *s = c->s;
	struct knowing k = { .c = c };
	int r;

	r = sb__bridge_files_list(c->dir, &s->files, &s->file_count);
	s->visited += s->file_count;
	if (r == 0 && !(s->known = calloc(1, sizeof(*s->known))))
		r = sb__fail_memory("the reaper's snapshot");
	if (r == 0)
		r = know_processes(c, s->known);
	if (r == 0)
		r = sb__store_sessions(c->store, know_session, &k);
	if (r >= 0)
		r = k.error;
	if (r == 0) {
		sb__known_sort(s->known);
		return 0;
	}
	/* With one record unread, a file that it claims would look like an orphan. */
	free(s->files);
	s->files = NULL;
	s->file_count = 0;
	return trouble(c, r, "files are left alone, because the records cannot all be read");
}

static int collect_boots(struct collecting *c)
{
	int n;

	c->s->boots = calloc(BOOTS_MAX, sizeof(*c->s->boots));
	if (!c->s->boots)
		return sb__fail_memory("the reaper's snapshot");
	n = sb__bridge_dir_old_boots(c->dir, c->s->boots, BOOTS_MAX);
	if (n < 0)
		return trouble(c, n, "what earlier boots left cannot be listed");
	c->s->boot_count = (size_t)n;
	return 0;
}

/* ── */

static int collect_all(struct collecting *c)
{
	int r = collect_processes(c);

	if (r == 0)
		r = gather_dead(c);
	if (r == 0 && !c->options->only)
		r = collect_due(c);
	if (r == 0 && c->options->files && c->complete)
		r = collect_files(c);
	if (r == 0) {
		merge_sessions(c);
		r = look_into_mailboxes(c);
	}
	if (r == 0 && c->options->files && c->complete)
		r = collect_boots(c);
	return r;
}

int sb__reaper_collect(struct sb__store *store, const struct sb__bridge_dir *dir,
                       const struct sb__collect_options *options, struct sb__reaper_snapshot *ret,
                       bool *ret_complete)
{
	struct collecting *c = calloc(1, sizeof(*c));
	int r;

	memset(ret, 0, sizeof(*ret));
	*ret_complete = false;
	if (!c)
		return sb__fail_memory("the reaper's snapshot");
	*c = (struct collecting){ .store = store,
		                  .dir = dir,
		                  .options = options,
		                  .s = ret,
		                  .sessions.size = sizeof(struct sb__seen_session),
		                  .owners.size = sizeof(struct sb__seen_owner),
		                  .lanes.size = sizeof(struct sb__seen_lanes),
		                  .troubles.size = sizeof(struct sb__seen_trouble),
		                  .complete = true };
	ret->now_ms = sb__now_ms();
	r = collect_all(c);
	ret->sessions = c->sessions.items;
	ret->session_count = c->sessions.count;
	ret->owners = c->owners.items;
	ret->owner_count = c->owners.count;
	ret->lanes = c->lanes.items;
	ret->lanes_count = c->lanes.count;
	ret->troubles = c->troubles.items;
	ret->trouble_count = c->troubles.count;
	*ret_complete = r == 0 && c->complete;
	free(c);
	return r;
}

void sb__reaper_snapshot_free(struct sb__reaper_snapshot *snapshot)
{
	free(snapshot->processes);
	free(snapshot->sessions);
	free(snapshot->owners);
	free(snapshot->lanes);
	free(snapshot->files);
	if (snapshot->known)
		sb__known_free(snapshot->known);
	free(snapshot->known);
	free(snapshot->boots);
	free(snapshot->troubles);
	memset(snapshot, 0, sizeof(*snapshot));
}
