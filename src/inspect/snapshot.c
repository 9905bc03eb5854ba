/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at records, mailboxes, ref rows and files, and tells whose process is dead. Changes nothing: the
 * store is opened without making it, mailboxes are only loaded from.
 *
 * Locks: none. Crash: leaves nothing but an LMDB reader slot, which the next reaper pass clears.
 */
#include "snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "holds.h"
#include "inspect_impl.h"
#include "names.h"
#include "os_linux.h"

int sb__inspect_open(const char *dir, struct sb__inspect **ret)
{
	struct sb__inspect *inspect = calloc(1, sizeof(*inspect));
	int r;

	if (!inspect)
		return sb__fail_memory("inspection");
	r = sb__bridge_dir_open(dir, false, &inspect->dir);
	if (r < 0) {
		free(inspect);
		return r;
	}
	r = sb__store_open(inspect->dir.boot, false, sb__layout_fingerprint(), &inspect->store);
	if (r < 0) {
		sb__bridge_dir_close(&inspect->dir);
		free(inspect);
		return r;
	}
	*ret = inspect;
	return 0;
}

void sb__inspect_close(struct sb__inspect *inspect)
{
	if (!inspect)
		return;
	sb__store_close(inspect->store);
	sb__bridge_dir_close(&inspect->dir);
	free(inspect);
}

const char *sb__inspect_path(const struct sb__inspect *inspect)
{
	return inspect->dir.path;
}

/* ── liveness ── */

void sb__look_begin(struct sb__inspect *inspect)
{
	memset(inspect->slots, 0, sizeof(inspect->slots));
}

/* Records are asked for when they are needed, so that a process that came after the look began is known. */
static int ask(struct sb__inspect *inspect, uint32_t slot, uint32_t generation)
{
	int r;

	if (inspect->slots[slot].asked && inspect->slots[slot].present &&
	    inspect->slots[slot].identity.generation == generation)
		return 0;
	r = sb__store_process_get(inspect->store, slot, &inspect->slots[slot].identity);
	if (r < 0)
		return r;
	inspect->slots[slot].asked = true;
	inspect->slots[slot].present = r == 1;
	if (r == 1)
		inspect->slots[slot].evidence = sb__liveness_check(inspect->dir.life_fd,
		                                                   &inspect->slots[slot].identity);
	return 0;
}

struct sb__evidence sb__look_evidence(struct sb__inspect *inspect, uint32_t slot, uint32_t generation)
{
	const struct sb__evidence unknown = { SB__UNSURE, "its record cannot be read" };
	const struct sb__evidence gone = { SB__DEAD, "no process record" };

	if (slot >= SB__SLOTS_MAX || ask(inspect, slot, generation) < 0)
		return unknown;
	if (!inspect->slots[slot].present || inspect->slots[slot].identity.generation != generation)
		return gone;
	return inspect->slots[slot].evidence;
}

void sb__look_program(struct sb__inspect *inspect, uint32_t slot, uint32_t generation, char *program)
{
	program[0] = '\0';
	if (slot < SB__SLOTS_MAX && ask(inspect, slot, generation) == 0 && inspect->slots[slot].present &&
	    inspect->slots[slot].identity.generation == generation)
		memcpy(program, inspect->slots[slot].identity.program,
		       sizeof(inspect->slots[slot].identity.program));
}

/* ── processes ── */

static int view_process(struct sb__inspect *inspect, const struct sb__identity *identity,
                        struct sb__process_view *ret)
{
	struct sb__session_rec *sessions = NULL;
	struct sb__owner_rec *owners = NULL;
	size_t owner_count = 0, session_count = 0;
	int r;

	*ret = (struct sb__process_view){ .identity = *identity };
	ret->evidence = sb__look_evidence(inspect, identity->slot, identity->generation);
	r = sb__store_owners_of_process(inspect->store, identity->slot, &owners, &owner_count);
	for (size_t i = 0; r >= 0 && i < owner_count; i++)
		ret->owners += owners[i].generation == identity->generation;
	if (r >= 0)
		r = sb__store_sessions_of_owner(inspect->store, identity->slot, identity->generation,
		                                &sessions, &session_count);
	if (r >= 0)
		ret->serving = (uint32_t)session_count;
	free(owners);
	free(sessions);
	return r < 0 ? r : 0;
}

struct adding {
	struct sb__process_view *views;
	size_t count;
};

static void add_arena(void *arg, const struct sb__arena_view *arena)
{
	const struct adding *a = arg;

	for (size_t i = 0; i < a->count; i++) {
		struct sb__process_view *v = &a->views[i];

		if (v->identity.slot == arena->slot && v->identity.generation == arena->generation) {
			v->arena_bytes = arena->file_bytes;
			v->arrays = arena->arrays;
			v->array_bytes = arena->array_bytes;
			v->waiting = arena->waiting;
		}
		for (uint32_t k = 0; k < arena->holds; k++)
			v->holds += SB__HOLD_SLOT(arena->words[k]) == v->identity.slot &&
			            SB__HOLD_GENERATION(arena->words[k]) ==
			                    (v->identity.generation & 0xffffu);
	}
}

int sb__inspect_processes(struct sb__inspect *inspect, struct sb__process_view **ret, size_t *ret_count)
{
	struct sb__identity *ids = NULL;
	struct sb__process_view *views;
	size_t count = 0;
	int r;

	sb__look_begin(inspect);
	r = sb__store_processes(inspect->store, &ids, &count);
	if (r < 0)
		return r;
	views = calloc(count + 1, sizeof(*views));
	if (!views)
		r = sb__fail_memory("the list of processes");
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = view_process(inspect, &ids[i], &views[i]);
	free(ids);
	if (r >= 0) {
		struct adding adding = { views, count };

		r = sb__inspect_arenas(inspect, add_arena, &adding);
	}
	if (r < 0) {
		free(views);
		return r;
	}
	*ret = views;
	*ret_count = count;
	return 0;
}

/* ── sessions ── */

/* Fills facts and, up to SB__LANES_MAX, inspect->views. Returns how many views. */
static uint32_t view_mailbox(struct sb__inspect *inspect, uint64_t incarnation, struct sb__mailbox_facts *ret)
{
	const struct sb__mailbox_control_shm *control;
	struct sb__mailbox *mailbox;
	uint32_t count;
	int r;

	*ret = (struct sb__mailbox_facts){ .present = false };
	r = sb__mailbox_attach(inspect->dir.mailbox, incarnation, &mailbox);
	if (r == SB_ERELEASED)
		return 0;
	ret->present = true;
	if (r < 0) {
		ret->error = r;
		return 0;
	}
	control = sb__mailbox_control(mailbox);
	ret->state = sb__mailbox_state(mailbox);
	ret->lanes = (uint32_t)sb__load(&control->lane_count);
	ret->last_access_ms = sb__load(&control->last_access_ms);
	ret->calls = sb__load(&control->calls);
	ret->exceptions = sb__load(&control->exceptions);
	ret->refused = sb__load(&control->refused);
	ret->service_ns = sb__load(&control->service_ns);
	ret->live_refs = sb__load(&control->live_refs);
	ret->evicted_refs = sb__load(&control->evicted_refs);
	ret->expired_refs = sb__load(&control->expired_refs);
	ret->created_refs = sb__load(&control->created_refs);
	ret->pinned_refs = sb__load(&control->pinned_refs);
	count = sb__mailbox_view(mailbox, inspect->views, SB__LANES_MAX);
	sb__mailbox_detach(mailbox);
	return count < SB__LANES_MAX ? count : SB__LANES_MAX;
}

bool sb__look_lane_claimed(const struct sb__lane_view *view)
{
	return view->state != SB__LANE_FREE && view->state != SB__LANE_ABANDONED;
}

static void count_lane(struct sb__inspect *inspect, const struct sb__lane_view *view,
                       struct sb__mailbox_facts *facts)
{
	facts->queued += view->state == SB__LANE_READY;
	facts->running += view->state == SB__LANE_BUSY || view->state == SB__LANE_ABANDONED;
	facts->lanes_torn += view->torn;
	facts->lanes_strange += sb__lane_state_name(view->state)[0] == '?' && !view->torn;
	if (!sb__look_lane_claimed(view))
		return;
	facts->lanes_claimed++;
	facts->lanes_of_dead += sb__look_evidence(inspect, view->slot, view->generation).verdict == SB__DEAD;
}

int sb__look_owners(struct sb__inspect *inspect, uint64_t uid, uint32_t *ret_dead,
                    struct sb__owner_view **ret, size_t *ret_count)
{
	struct sb__owner_rec *recs = NULL;
	struct sb__owner_view *views = NULL;
	size_t count = 0;
	int r = sb__store_owners_of_session(inspect->store, uid, &recs, &count);

	*ret_dead = 0;
	if (r >= 0 && ret && !(views = calloc(count + 1, sizeof(*views))))
		r = sb__fail_memory("the list of owners");
	for (size_t i = 0; r >= 0 && i < count; i++) {
		struct sb__evidence evidence = sb__look_evidence(inspect, recs[i].slot, recs[i].generation);

		*ret_dead += evidence.verdict == SB__DEAD;
		if (!views)
			continue;
		views[i].rec = recs[i];
		views[i].evidence = evidence;
		sb__look_program(inspect, recs[i].slot, recs[i].generation, views[i].program);
	}
	free(recs);
	if (r < 0) {
		free(views);
		return r;
	}
	if (ret) {
		*ret = views;
		*ret_count = count;
	}
	return 0;
}

static uint64_t since(uint64_t now_ms, uint64_t then_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

/* All but the owners. Returns how many lane views there are. */
static uint32_t view_session(struct sb__inspect *inspect, const struct sb__session_rec *rec,
                             struct sb__session_view *ret)
{
	uint64_t now_ms = sb__now_ms();
	uint32_t views;

	memset(ret, 0, sizeof(*ret));
	ret->rec = *rec;
	ret->designated = sb__look_evidence(inspect, rec->designated.slot, rec->designated.generation);
	views = view_mailbox(inspect, rec->incarnation, &ret->mailbox);
	for (uint32_t i = 0; i < views; i++)
		count_lane(inspect, &inspect->views[i], &ret->mailbox);
	ret->age_ms = since(now_ms, rec->created_ms);
	ret->idle_ms = ret->mailbox.last_access_ms ? since(now_ms, ret->mailbox.last_access_ms) : ret->age_ms;
	return views;
}

struct look_visit {
	struct sb__inspect *inspect;
	int (*visit)(void *arg, const struct sb__session_view *view, uint32_t lanes);
	void *arg;
	int error;
	struct sb__session_view view;
};

static int look_visit(void *arg, const struct sb__session_rec *rec)
{
	struct look_visit *v = arg;
	uint32_t lanes = view_session(v->inspect, rec, &v->view);

	v->error = sb__look_owners(v->inspect, rec->uid, &v->view.dead_owners, NULL, NULL);
	return v->error < 0 || v->visit(v->arg, &v->view, lanes) != 0;
}

int sb__look_sessions(struct sb__inspect *inspect,
                      int (*visit)(void *arg, const struct sb__session_view *view, uint32_t lanes), void *arg)
{
	struct look_visit v = { .inspect = inspect, .visit = visit, .arg = arg };
	int r = sb__store_sessions(inspect->store, look_visit, &v);

	return v.error < 0 ? v.error : r < 0 ? r : 0;
}

struct session_visit {
	int (*visit)(void *arg, const struct sb__session_view *view);
	void *arg;
};

static int session_visit(void *arg, const struct sb__session_view *view, uint32_t lanes)
{
	struct session_visit *v = arg;

	(void)lanes;
	return v->visit(v->arg, view);
}

int sb__inspect_sessions(struct sb__inspect *inspect,
                         int (*visit)(void *arg, const struct sb__session_view *view), void *arg)
{
	struct session_visit v = { visit, arg };

	sb__look_begin(inspect);
	return sb__look_sessions(inspect, session_visit, &v);
}

/* ── one session ── */

struct ref_list {
	struct sb__ref_view *items;
	size_t count, cap;
	int error;
};

static void ref_visit(void *arg, const struct sb__ref_view *view)
{
	struct ref_list *list = arg;

	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct sb__ref_view *items = realloc(list->items, cap * sizeof(*items));

		if (!items) {
			list->error = sb__fail_memory("the list of refs");
			return;
		}
		list->items = items;
		list->cap = cap;
	}
	list->items[list->count++] = *view;
}

static int keep_lanes(struct sb__inspect *inspect, uint32_t views, struct sb__session_detail *detail)
{
	detail->lanes = calloc((size_t)views + 1, sizeof(*detail->lanes));
	if (!detail->lanes)
		return sb__fail_memory("the list of lanes");
	for (uint32_t i = 0; i < views; i++)
		if (sb__look_lane_claimed(&inspect->views[i]))
			detail->lanes[detail->lane_count++] = inspect->views[i];
	return 0;
}

int sb__inspect_session(struct sb__inspect *inspect, const char *session_id, struct sb__session_detail *ret)
{
	struct sb__session_detail detail = { .owners = NULL };
	struct ref_list refs = { .items = NULL };
	struct sb__session_rec rec;
	uint32_t views;
	int r;

	sb__look_begin(inspect);
	r = sb__store_session_get(inspect->store, session_id, &rec);
	if (r != 1)
		return r;
	views = view_session(inspect, &rec, &detail.session);
	r = keep_lanes(inspect, views, &detail);
	if (r == 0)
		r = sb__look_owners(inspect, rec.uid, &detail.session.dead_owners, &detail.owners,
		                    &detail.owner_count);
	if (r == 0)
		r = sb__refrows_visit(inspect->dir.mailbox, rec.incarnation, ref_visit, &refs,
		                      &detail.refs_torn);
	detail.refs = refs.items;
	detail.ref_count = refs.count;
	detail.now_ms = sb__now_ms();
	if (r == 0)
		r = refs.error;
	if (r < 0) {
		sb__session_detail_free(&detail);
		return r;
	}
	*ret = detail;
	return 1;
}

void sb__session_detail_free(struct sb__session_detail *detail)
{
	free(detail->owners);
	free(detail->lanes);
	free(detail->refs);
	detail->owners = NULL;
	detail->lanes = NULL;
	detail->refs = NULL;
}
