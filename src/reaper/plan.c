/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot in, verdicts out. Decides, does not do: no I/O, no clock, no store.
 *
 * The order is what makes a sweep that is killed resumable: whatever hangs on a dead process goes before its
 * record, because the next sweep finds it only through that record. In the same way its lanes are found only through its owner
 * records. So where lanes could not be looked at, both stay; and with them its holds, which keep what its requests name.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include "plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "snakebridge/session.h"

const char *sb__verdict_kind_name(enum sb__verdict_kind kind)
{
	static const char *const names[SB__VERDICT_KINDS] = {
#define SB__VERDICT_NAME(constant, name, what) name,
		SB__VERDICT_MAP(SB__VERDICT_NAME)
#undef SB__VERDICT_NAME
	};

	return names[kind];
}

void sb__plan_free(struct sb__plan *plan)
{
	free(plan->verdicts);
	*plan = (struct sb__plan){ .verdicts = NULL };
}

/* What planning knows of a session beyond the snapshot: what is left of it after the verdicts so far. */
struct fate {
	uint32_t owners; /* records that would remain */
	bool over;       /* ended by an earlier verdict */
};

struct planning {
	const struct sb__reaper_snapshot *s;
	struct sb__plan *plan;
	struct fate *fates; /* one per seen session */
	const struct sb__seen_process *slots[SB__SLOTS_MAX];
	bool stays[SB__SLOTS_MAX]; /* a dead process's record is still needed */
	int error;
};

/* The new verdict, or NULL (then planning->error is set and all further ones fail too). */
SB_PRINTF_LIKE(3, 4)
static struct sb__verdict *add(struct planning *p, enum sb__verdict_kind kind, const char *evidence, ...)
{
	struct sb__plan *plan = p->plan;
	struct sb__verdict *v;
	va_list args;

	if (p->error)
		return NULL;
	if (plan->count == plan->cap) {
		size_t cap = plan->cap ? plan->cap * 2 : 32;

		v = realloc(plan->verdicts, cap * sizeof(*v));
		if (!v) {
			p->error = sb__fail_memory("the reaper's plan");
			return NULL;
		}
		plan->verdicts = v;
		plan->cap = cap;
	}
	v = &plan->verdicts[plan->count++];
	*v = (struct sb__verdict){ .kind = kind, .session_id = "" };
	va_start(args, evidence);
	vsnprintf(v->evidence, sizeof(v->evidence), evidence, args);
	va_end(args);
	return v;
}

static void name_session(struct sb__verdict *v, const struct sb__seen_session *session)
{
	v->uid = session->uid;
	v->incarnation = session->incarnation;
	v->session_id = session->session_id;
}

static void name_process(struct sb__verdict *v, const struct sb__identity *identity)
{
	v->slot = identity->slot;
	v->generation = identity->generation;
	v->pid = identity->pid;
}

/* The process record of exactly that slot and generation, or NULL. */
static const struct sb__seen_process *process_of(const struct planning *p, uint32_t slot, uint32_t generation)
{
	const struct sb__seen_process *process = slot < SB__SLOTS_MAX ? p->slots[slot] : NULL;

	return process && process->identity.generation == generation ? process : NULL;
}

static bool is_dead(const struct sb__seen_process *process)
{
	return process && process->evidence.verdict == SB__DEAD;
}

static const struct sb__seen_session *session_of(const struct planning *p, uint64_t uid)
{
	size_t low = 0, high = p->s->session_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->s->sessions[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->s->session_count && p->s->sessions[low].uid == uid ? &p->s->sessions[low] : NULL;
}

static struct fate *fate_of(struct planning *p, const struct sb__seen_session *session)
{
	return &p->fates[session - p->s->sessions];
}

/* ── what hangs on dead processes ── */

/* A mailbox whose designated owner is dead goes as a whole: its lanes need no care. */
static void plan_lanes(struct planning *p)
{
	for (size_t i = 0; i < p->s->lanes_count; i++) {
		const struct sb__seen_lanes *lanes = &p->s->lanes[i];
		const struct sb__seen_process *claimer = process_of(p, lanes->slot, lanes->generation);
		const struct sb__seen_session *session = session_of(p, lanes->uid);
		struct sb__verdict *v;

		if (!is_dead(claimer) || !session || lanes->lanes == 0 ||
		    is_dead(process_of(p, session->designated.slot, session->designated.generation)))
			continue;
		v = add(p, SB__VERDICT_LANES_RECLAIMED, "claimed by a dead process: %s",
		        claimer->evidence.how);
		if (!v)
			return;
		name_session(v, session);
		name_process(v, &claimer->identity);
		v->count = lanes->lanes;
	}
}

/* What becomes of a session that just lost an owner record. */
static void plan_after_owner(struct planning *p, const struct sb__seen_session *session, int32_t pid)
{
	struct fate *fate = fate_of(p, session);
	struct sb__verdict *v;

	if (fate->owners > 0)
		fate->owners--;
	if (fate->owners > 0 || session->persistent || fate->over)
		return;
	fate->over = true;
	v = add(p, SB__VERDICT_SESSION_RELEASED, "its last owner, pid %d, is dead", (int)pid);
	if (v) {
		name_session(v, session);
		v->pid = pid;
		v->consequence = true;
	}
}

/* May it have lanes there that nobody has seen? Those of a dead designated owner's mailbox go with it. */
static bool may_have_lanes(const struct planning *p, const struct sb__seen_process *dead,
                           const struct sb__seen_session *session)
{
	return dead && session && session->unread &&
	       !is_dead(process_of(p, session->designated.slot, session->designated.generation));
}

static void plan_owners(struct planning *p)
{
	for (size_t i = 0; i < p->s->owner_count; i++) {
		const struct sb__owner_rec *owner = &p->s->owners[i].rec;
		const struct sb__seen_process *process = process_of(p, owner->slot, owner->generation);
		const struct sb__seen_session *session = session_of(p, owner->session_uid);
		struct sb__verdict *v;

		if (process && !is_dead(process))
			continue;
		if (may_have_lanes(p, process, session)) {
			p->stays[owner->slot] = true;
			continue;
		}
		v = add(p, SB__VERDICT_OWNER_REMOVED, "its process is dead: %s", p->s->owners[i].how);
		if (!v)
			return;
		v->slot = owner->slot;
		v->generation = owner->generation;
		v->pid = owner->pid;
		v->handle = owner->handle;
		v->uid = owner->session_uid;
		if (session) {
			name_session(v, session);
			plan_after_owner(p, session, owner->pid);
		}
	}
}

/* Sessions that dead processes served. All dead owners are gone by now: a session all of whose owners died is
 * released, not orphaned. */
static void plan_served(struct planning *p)
{
	for (size_t i = 0; i < p->s->session_count; i++) {
		const struct sb__seen_session *session = &p->s->sessions[i];
		const struct sb__identity *who = &session->designated;
		const struct sb__seen_process *process = process_of(p, who->slot, who->generation);
		struct fate *fate = fate_of(p, session);
		struct sb__verdict *v;

		if (fate->over || !is_dead(process))
			continue;
		if (fate->owners == 0 && !session->persistent) {
			fate->over = true;
			v = add(p, SB__VERDICT_SESSION_RELEASED,
			        "it has no owner, and its designated owner is dead: %s",
			        process->evidence.how);
		} else if (session->state != SB_SESSION_ORPHANED) {
			v = add(p, SB__VERDICT_SESSION_ORPHANED, "its designated owner is dead: %s",
			        process->evidence.how);
		} else {
			continue;
		}
		if (!v)
			return;
		name_session(v, session);
		name_process(v, &process->identity);
	}
}

/* A dedicated owner makes a session for somebody else, who may die before joining. */
static void plan_unjoined(struct planning *p)
{
	for (size_t i = 0; i < p->s->session_count; i++) {
		const struct sb__seen_session *session = &p->s->sessions[i];
		struct sb__verdict *v;

		if (!session->unjoined || session->owner_count != 0 || session->persistent ||
		    fate_of(p, session)->over)
			continue;
		v = add(p, SB__VERDICT_SESSION_RELEASED, "nobody has joined it since it was made");
		if (!v)
			return;
		fate_of(p, session)->over = true;
		name_session(v, session);
	}
}

static void plan_dead(struct planning *p)
{
	for (size_t i = 0; i < p->s->process_count; i++) {
		const struct sb__seen_process *process = &p->s->processes[i];
		struct sb__verdict *v;

		if (!is_dead(process) || !process->gathered || p->stays[process->identity.slot])
			continue;
		v = add(p, SB__VERDICT_PROCESS_DEAD, "%s", process->evidence.how);
		if (!v)
			return;
		name_process(v, &process->identity);
		v->identity = &process->identity;
	}
}

/* ── the rest ── */

static void plan_due(struct planning *p)
{
	for (size_t i = 0; i < p->s->session_count; i++) {
		const struct sb__seen_session *session = &p->s->sessions[i];
		uint64_t last = session->last_access_ms, now = p->s->now_ms;
		struct sb__verdict *v;

		if (!session->due || session->ttl_ms == 0 || fate_of(p, session)->over)
			continue;
		if (session->state == SB_SESSION_STARTING) /* its TTL begins when it can be used */
			continue;
		if (last == 0)
			v = add(p, SB__VERDICT_SESSION_EXPIRED,
			        "nobody serves it and its TTL of %" PRIu64 " ms is over", session->ttl_ms);
		else if (now >= last && now - last >= session->ttl_ms)
			v = add(p, SB__VERDICT_SESSION_EXPIRED,
			        "idle for %" PRIu64 " ms, its TTL is %" PRIu64 " ms", now - last,
			        session->ttl_ms);
		else
			continue;
		if (!v)
			return;
		fate_of(p, session)->over = true;
		name_session(v, session);
		v->last_access_ms = last;
	}
}

static void plan_files(struct planning *p)
{
	for (size_t i = 0; i < p->s->file_count; i++) {
		const struct sb__bridge_file *file = &p->s->files[i];
		const char *why = sb__bridge_file_orphan(file, p->s->known);
		struct sb__verdict *v;

		if (!why &&
		    (file->kind == SB__FILE_BELL || file->kind == SB__FILE_ARENA ||
		     file->kind == SB__FILE_HOLDS) &&
		    is_dead(process_of(p, file->slot, file->generation)))
			why = "its maker is dead";
		if (!why)
			continue;
		v = add(p, SB__VERDICT_FILE_REMOVED, "%s", why);
		if (!v)
			return;
		v->file = file;
		v->incarnation = file->incarnation;
		v->slot = file->slot;
		v->generation = file->generation;
	}
}

static void plan_boots(struct planning *p)
{
	for (size_t i = 0; i < p->s->boot_count; i++) {
		struct sb__verdict *v = add(p, SB__VERDICT_BOOT_REMOVED, "of an earlier boot");

		if (v)
			v->boot = p->s->boots[i];
	}
}

static void plan_troubles(struct planning *p)
{
	for (size_t i = 0; i < p->s->trouble_count; i++) {
		struct sb__verdict *v = add(p, SB__VERDICT_RECORD_UNREADABLE, "%s", p->s->troubles[i].what);

		if (v)
			v->code = p->s->troubles[i].code;
	}
}

int sb__reaper_plan(const struct sb__reaper_snapshot *snapshot, struct sb__plan *plan)
{
	struct planning *p = calloc(1, sizeof(*p));
	int error = 0;

	if (p)
		p->fates = calloc(snapshot->session_count + 1, sizeof(*p->fates));
	if (!p || !p->fates) {
		error = sb__fail_memory("the reaper's plan");
		goto end;
	}
	p->s = snapshot;
	p->plan = plan;
	for (size_t i = 0; i < snapshot->process_count; i++)
		if (snapshot->processes[i].identity.slot < SB__SLOTS_MAX)
			p->slots[snapshot->processes[i].identity.slot] = &snapshot->processes[i];
	for (size_t i = 0; i < snapshot->session_count; i++)
		p->fates[i].owners = snapshot->sessions[i].owner_count;
	plan_lanes(p);
	plan_owners(p);
	plan_served(p);
	plan_unjoined(p);
	plan_due(p);
	if (snapshot->known)
		plan_files(p);
	plan_dead(p);
	plan_boots(p);
	plan_troubles(p);
	error = p->error;
	free(p->fates);
end:
	free(p);
	return error;
}
