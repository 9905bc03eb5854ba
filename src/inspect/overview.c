/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole bridge in numbers: one pass over files, processes and sessions.
 *
 * Locks: none; threads of one look share nothing that they write. Crash: as snapshot.c.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "inspect_impl.h"
#include "os_linux.h"

struct summing {
	struct sb__inspect *inspect;
	struct sb__overview *ret;
	struct sb__known *known;
	int (*visit)(void *arg, const struct sb__session_view *view);
	void *arg;
	int error;
};

static int sum_session(void *arg, const struct sb__session_view *view, uint32_t lanes)
{
	struct summing *s = arg;
	struct sb__overview *o = s->ret;

	(void)lanes;
	if (view->rec.state <= SB_SESSION_ENDED)
		o->sessions[view->rec.state]++;
	o->owners += view->rec.owner_count;
	o->dead_owners += view->dead_owners;
	o->live_refs += view->mailbox.live_refs;
	o->queued += view->mailbox.queued;
	o->running += view->mailbox.running;
	o->lanes_claimed += view->mailbox.lanes_claimed;
	o->claimed_lanes_of_dead += view->mailbox.lanes_of_dead;
	o->torn_lanes += view->mailbox.lanes_torn;
	o->unreadable += view->mailbox.error < 0;
	s->error = sb__known_add_session(s->known, &view->rec);
	return s->error != 0 || (s->visit && s->visit(s->arg, view) != 0);
}

/* ── the same without a visitor: a few reads for each session, and no copy of its record ── */

#define PARTS_MAX  8
#define PART_LEAST 1000u /* sessions for which a thread pays */

/* Sessions whose mailboxes one thread reads. */
struct part {
	pthread_t thread;
	int mailbox_dir;
	const struct sb__session_brief *briefs;
	size_t count;
	uint64_t live_refs, torn_lanes, unreadable;
	uint64_t *words; /* of lanes that are claimed; few of thousands of sessions have any */
	size_t word_count, word_cap;
	bool full; /* no memory for words */
};

static void keep_word(void *arg, uint64_t word)
{
	struct part *p = arg;

	if (p->word_count == p->word_cap) {
		size_t cap = p->word_cap ? p->word_cap * 2 : 64;
		uint64_t *more = realloc(p->words, cap * sizeof(*more));

		p->full = !more;
		if (!more)
			return;
		p->words = more;
		p->word_cap = cap;
	}
	p->words[p->word_count++] = word;
}

static void *read_part(void *arg)
{
	struct part *p = arg;
	struct sb__mailbox_peek peek;

	for (size_t i = 0; i < p->count; i++) {
		int err = sb__mailbox_peek(p->mailbox_dir, p->briefs[i].incarnation, keep_word, p, &peek);

		if (!err) {
			p->live_refs += peek.live_refs;
			p->torn_lanes += peek.lanes_torn;
		}
		p->unreadable += err < 0 && err != SB_ERELEASED;
	}
	return NULL;
}

/* The program's signals are its own business: none is delivered to a thread of ours. */
static bool read_part_beside(struct part *p)
{
	sigset_t all, old;
	bool started;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	started = pthread_create(&p->thread, NULL, read_part, p) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

static void sum_lane(struct summing *s, uint64_t word)
{
	struct sb__overview *o = s->ret;
	unsigned state = SB__WORD_STATE(word);

	o->queued += state == SB__LANE_READY;
	o->running += state == SB__LANE_BUSY || state == SB__LANE_ABANDONED;
	if (state == SB__LANE_ABANDONED)
		return; /* it has no claimer any more */
	o->lanes_claimed++;
	o->claimed_lanes_of_dead +=
		sb__look_evidence(s->inspect, SB__WORD_SLOT(word), SB__WORD_GEN(word)).verdict == SB__DEAD;
}

static int sum_part(struct summing *s, struct part *p)
{
	s->ret->live_refs += p->live_refs;
	s->ret->torn_lanes += p->torn_lanes;
	s->ret->unreadable += p->unreadable;
	for (size_t i = 0; i < p->word_count; i++)
		sum_lane(s, p->words[i]);
	free(p->words);
	return p->full ? sb__fail_memory("the lanes of a bridge") : 0;
}

/* Nearly all of the time goes here, into opening and reading a file for each session: on all CPUs, where there are many. */
static int sum_mailboxes(struct summing *s, const struct sb__session_brief *briefs, size_t count)
{
	struct part parts[PARTS_MAX];
	bool beside[PARTS_MAX] = { false };
	size_t n = (size_t)sb__os_cpu_count(), from = 0;
	int r = 0;

	if (n > count / PART_LEAST)
		n = count / PART_LEAST ? count / PART_LEAST : 1;
	if (n > PARTS_MAX)
		n = PARTS_MAX;
	for (size_t i = 0; i < n; i++) {
		size_t to = count * (i + 1) / n;

		parts[i] = (struct part){ .mailbox_dir = s->inspect->dir.mailbox,
			                  .briefs = briefs + from,
			                  .count = to - from };
		from = to;
	}
	for (size_t i = 1; i < n; i++)
		beside[i] = read_part_beside(&parts[i]);
	for (size_t i = 0; i < n; i++)
		if (!beside[i])
			(void)read_part(&parts[i]);
	for (size_t i = 0; i < n; i++) {
		int err;

		if (beside[i])
			(void)pthread_join(parts[i].thread, NULL);
		err = sum_part(s, &parts[i]);
		r = r < 0 ? r : err;
	}
	return r;
}

static int sum_brief(struct summing *s, const struct sb__session_brief *brief)
{
	s->ret->sessions[brief->state]++;
	s->ret->owners += brief->owner_count;
	return sb__known_add_incarnation(s->known, brief->state, brief->incarnation);
}

static int sum_dead_owners(struct summing *s)
{
	struct sb__owner_count *counts = NULL;
	size_t count = 0;
	int r = sb__store_owner_counts(s->inspect->store, &counts, &count);

	for (size_t i = 0; r >= 0 && i < count; i++)
		if (sb__look_evidence(s->inspect, counts[i].slot, counts[i].generation).verdict == SB__DEAD)
			s->ret->dead_owners += counts[i].owners;
	free(counts);
	return r;
}

static int sum_briefs(struct summing *s)
{
	struct sb__session_brief *briefs = NULL;
	size_t count = 0;
	int r = sb__store_session_briefs(s->inspect->store, &briefs, &count);

	for (size_t i = 0; r >= 0 && i < count; i++)
		r = sum_brief(s, &briefs[i]);
	if (r >= 0)
		r = sum_mailboxes(s, briefs, count);
	free(briefs);
	return r < 0 ? r : sum_dead_owners(s);
}

static int sum_sessions(struct sb__inspect *inspect, struct summing *s)
{
	int r;

	if (!s->visit)
		return sum_briefs(s);
	r = sb__look_sessions(inspect, sum_session, s);
	return r < 0 ? r : s->error;
}

static int sum_processes(struct sb__inspect *inspect, struct summing *s)
{
	struct sb__identity *ids = NULL;
	size_t count = 0;
	int r = sb__store_processes(inspect->store, &ids, &count);

	for (size_t i = 0; r >= 0 && i < count; i++) {
		struct sb__evidence e = sb__look_evidence(inspect, ids[i].slot, ids[i].generation);

		sb__known_add_process(s->known, &ids[i], e.verdict != SB__DEAD);
		s->ret->alive_processes += e.verdict == SB__ALIVE;
		s->ret->dead_processes += e.verdict == SB__DEAD;
		s->ret->unsure_processes += e.verdict == SB__UNSURE;
	}
	free(ids);
	return r < 0 ? r : 0;
}

struct arenas {
	struct sb__inspect *inspect;
	struct sb__overview *ret;
};

static void sum_arena(void *arg, const struct sb__arena_view *view)
{
	struct arenas *a = arg;

	a->ret->arena_bytes += view->file_bytes;
	a->ret->arrays += view->arrays;
	a->ret->array_bytes += view->array_bytes;
	a->ret->holds += view->holds;
	for (uint32_t i = 0; i < view->holds; i++)
		a->ret->holds_of_dead += sb__inspect_hold_is_dead(a->inspect, view->words[i]);
}

/* Listed first, judged last: a file is made after its record. */
static int sum_all(struct sb__inspect *inspect, struct summing *s)
{
	struct sb__overview *o = s->ret;
	struct sb__bridge_file *files = NULL;
	size_t file_count = 0;
	int r;

	r = sb__store_bridge(inspect->store, &o->bridge);
	if (r >= 0)
		r = sb__bridge_files_list(&inspect->dir, &files, &file_count);
	if (r >= 0)
		r = sum_processes(inspect, s);
	if (r >= 0)
		r = sum_sessions(inspect, s);
	if (r >= 0)
		r = sb__store_reader_count(inspect->store, &o->readers, &o->readers_max);
	if (r >= 0)
		r = sb__store_readers_of_dead(inspect->store, &o->readers_of_dead);
	if (r >= 0) {
		struct arenas arenas = { inspect, o };

		r = sb__inspect_arenas(inspect, sum_arena, &arenas);
	}
	sb__known_sort(s->known);
	for (size_t i = 0; r >= 0 && i < file_count; i++) {
		o->files[files[i].kind]++;
		o->orphan_files += sb__bridge_file_orphan(&files[i], s->known) != NULL;
	}
	free(files);
	return r < 0 ? r : 0;
}

int sb__inspect_overview_sessions(struct sb__inspect *inspect, struct sb__overview *ret,
                                  int (*visit)(void *arg, const struct sb__session_view *view), void *arg)
{
	struct summing s = { .inspect = inspect,
		             .ret = ret,
		             .known = calloc(1, sizeof(*s.known)),
		             .visit = visit,
		             .arg = arg };
	int r;

	if (!s.known)
		return sb__fail_memory("the overview");
	memset(ret, 0, sizeof(*ret));
	sb__look_begin(inspect);
	ret->fs_free_bytes = sb__os_fs_free(inspect->dir.boot);
	r = sum_all(inspect, &s);
	sb__known_free(s.known);
	free(s.known);
	return r;
}

int sb__inspect_overview(struct sb__inspect *inspect, struct sb__overview *ret)
{
	return sb__inspect_overview_sessions(inspect, ret, NULL, NULL);
}
