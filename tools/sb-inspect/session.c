/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect session ID: facts, tags, policy, owners, lanes and refs of one session, as JSON and for people.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "fail.h"
#include "names.h"
#include "render.h"
#include "report.h"
#include "snapshot.h"
#include "view.h"

/* ── words ── */

const char *view_wall(int64_t wall_ms, char *text, size_t size)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (!localtime_r(&seconds, &tm) || strftime(text, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(text, size, "?");
	return text;
}

uint64_t view_since(uint64_t now_ms, uint64_t then_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

json_t *view_begin(const char *what)
{
	json_t *o = json_object();

	render_number(o, "schema", 1);
	render_text(o, "what", what);
	return o;
}

/* ── any session ── */

static json_t *mailbox_json(const struct sb__mailbox_facts *m, uint64_t recorded_refs)
{
	json_t *o = json_object();

	render_text(o, "state", sb__mailbox_state_name(m));
	render_number(o, "lanes", m->lanes);
	render_number(o, "claimed_lanes", m->lanes_claimed);
	render_number(o, "claimed_lanes_of_dead", m->lanes_of_dead);
	render_number(o, "torn_lanes", m->lanes_torn);
	render_number(o, "calls", m->calls);
	render_number(o, "exceptions", m->exceptions);
	render_number(o, "refused", m->refused);
	render_number(o, "in_flight_calls", (uint64_t)m->queued + m->running);
	render_number(o, "queued_calls", m->queued);
	render_number(o, "running_calls", m->running);
	render_id(o, "service_ns", m->service_ns);
	render_number(o, "live_refs", m->live_refs);
	render_number(o, "recorded_refs", recorded_refs);
	render_number(o, "pinned_refs", m->pinned_refs);
	render_number(o, "created_refs", m->created_refs);
	render_number(o, "evicted_refs", m->evicted_refs);
	render_number(o, "expired_refs", m->expired_refs);
	return o;
}

json_t *view_session_json(const struct sb__session_view *v)
{
	const struct sb__session_rec *rec = &v->rec;
	json_t *o = json_object(), *designated = json_object();

	render_text(o, "session", rec->session_id);
	render_id(o, "session_uid", rec->uid);
	render_id(o, "incarnation", rec->incarnation);
	render_text(o, "state", sb__session_state_name(rec->state));
	render_number(o, "owners", rec->owner_count);
	render_number(o, "dead_owners", v->dead_owners);
	json_object_set_new(designated, "pid", json_integer(rec->designated.pid));
	render_number(designated, "slot", rec->designated.slot);
	render_number(designated, "generation", rec->designated.generation);
	render_text(designated, "program", rec->designated.program);
	render_text(designated, "liveness", sb__liveness_name(v->designated));
	render_text(designated, "evidence", v->designated.how);
	json_object_set_new(o, "designated_owner", designated);
	render_text(o, "designated_mode", sb__designated_name(rec->designated_mode));
	json_object_set_new(o, "persistent", json_boolean(rec->persistent));
	render_text(o, "on_full", sb__on_full_name(rec->on_full));
	render_number(o, "max_refs", rec->max_refs);
	render_number(o, "max_refs_per_process", rec->max_refs_per_process);
	render_number(o, "max_session_arena_bytes", rec->max_session_arena_bytes);
	render_number(o, "ttl_ms", rec->ttl_ms);
	render_number(o, "age_ms", v->age_ms);
	render_number(o, "idle_ms", v->idle_ms);
	json_object_set_new(o, "created_wall_ms", json_integer(rec->created_wall_ms));
	json_object_set_new(o, "mailbox", mailbox_json(&v->mailbox, rec->live_refs));
	return o;
}

/* ── one session ── */

/* Walks "key NUL value NUL …" of a record, which was validated when it was read; still bounded here. */
void view_each_tag(const struct sb__session_rec *rec,
                   void (*visit)(void *arg, const char *key, const char *value), void *arg)
{
	const char *at = rec->tags;
	const char *end = rec->tags + (rec->tags_len < sizeof(rec->tags) ? rec->tags_len : sizeof(rec->tags));

	for (uint32_t i = 0; i < rec->tag_count && at < end; i++) {
		const char *key = at, *value = memchr(key, '\0', (size_t)(end - key));

		if (!value || ++value >= end || !(at = memchr(value, '\0', (size_t)(end - value))))
			return;
		at++;
		visit(arg, key, value);
	}
}

static void tag_json(void *arg, const char *key, const char *value)
{
	render_text(arg, key, value);
}

static void tag_text(void *arg, const char *key, const char *value)
{
	(void)arg;
	printf("tag               %s = %s\n", key, value);
}

/* Walks "+allowed NUL -denied NUL …" of a record, bounded as above. sign: which of them. */
static void each_pattern(const struct sb__session_rec *rec, char sign,
                         void (*visit)(void *arg, const char *pattern), void *arg)
{
	const char *at = rec->policy, *next;
	const char *end = at +
	                  (rec->policy_len < sizeof(rec->policy) ? rec->policy_len : sizeof(rec->policy));

	for (; at < end && (next = memchr(at, '\0', (size_t)(end - at))); at = next + 1)
		if (*at == sign)
			visit(arg, at + 1);
}

static void pattern_json(void *arg, const char *pattern)
{
	json_t *text = json_string(pattern);

	json_array_append_new(arg, text ? text : json_string("?"));
}

/* Without patterns: two empty lists, which means that everything is allowed. */
static json_t *policy_json(const struct sb__session_rec *rec)
{
	json_t *o = json_object(), *allow = json_array(), *deny = json_array();

	each_pattern(rec, '+', pattern_json, allow);
	each_pattern(rec, '-', pattern_json, deny);
	json_object_set_new(o, "allow", allow);
	json_object_set_new(o, "deny", deny);
	return o;
}

static void pattern_text(void *arg, const char *pattern)
{
	printf("%-18s%s\n", (const char *)arg, pattern);
}

static void policy_text(const struct sb__session_rec *rec)
{
	static char allow[] = "allow", deny[] = "deny";

	each_pattern(rec, '+', pattern_text, allow);
	each_pattern(rec, '-', pattern_text, deny);
}

json_t *view_owner_json(const struct sb__owner_view *v)
{
	json_t *o = json_object();

	json_object_set_new(o, "pid", json_integer(v->rec.pid));
	render_text(o, "program", v->program);
	render_number(o, "slot", v->rec.slot);
	render_number(o, "generation", v->rec.generation);
	render_number(o, "handle", v->rec.handle);
	render_text(o, "liveness", sb__liveness_name(v->evidence));
	render_text(o, "evidence", v->evidence.how);
	json_object_set_new(o, "joined_wall_ms", json_integer(v->rec.joined_wall_ms));
	return o;
}

static uint64_t running_ms(const struct sb__lane_view *lane)
{
	uint64_t since_ns = lane->state == SB__LANE_READY ? lane->published_ns : lane->accepted_ns,
		 now = sb__now_ns();

	return since_ns && now > since_ns ? (now - since_ns) / 1000000 : 0;
}

static json_t *lane_json(const struct sb__lane_view *lane)
{
	json_t *o = json_object();

	render_number(o, "lane", lane->lane);
	render_text(o, "state", sb__lane_state_name(lane->state));
	json_object_set_new(o, "caller_pid", json_integer(lane->caller_pid));
	render_number(o, "slot", lane->slot);
	render_number(o, "generation", lane->generation);
	render_number(o, "sequence", lane->sequence);
	if (lane->state != SB__LANE_IDLE) {
		render_text(o, "label", lane->label);
		render_id(o, "trace_id", lane->trace_id);
		render_number(o, "running_ms", running_ms(lane));
	}
	json_object_set_new(o, "in_callback", json_boolean(lane->asking));
	json_object_set_new(o, "torn", json_boolean(lane->torn));
	return o;
}

json_t *view_ref_json(const struct sb__ref_view *ref, uint64_t now_ms)
{
	json_t *o = json_object();

	render_number(o, "slot", ref->slot);
	render_number(o, "generation", ref->generation);
	render_text(o, "type", ref->type_name);
	render_number(o, "pins", ref->pins);
	json_object_set_new(o, "creator_pid", json_integer(ref->creator_pid));
	render_number(o, "age_ms", view_since(now_ms, ref->created_ms));
	render_number(o, "idle_ms", view_since(now_ms, ref->used_ms));
	return o;
}

static int detail_json(const struct sb__session_detail *d)
{
	json_t *root = view_begin("session"), *tags = json_object(), *owners = json_array(),
	       *lanes = json_array(), *refs = json_array();

	json_object_update_new(root, view_session_json(&d->session));
	view_each_tag(&d->session.rec, tag_json, tags);
	json_object_set_new(root, "tags", tags);
	json_object_set_new(root, "policy", policy_json(&d->session.rec));
	/* "owners" is the number that the list of sessions has too. */
	for (size_t i = 0; i < d->owner_count; i++)
		json_array_append_new(owners, view_owner_json(&d->owners[i]));
	json_object_set_new(root, "owner_list", owners);
	for (size_t i = 0; i < d->lane_count; i++)
		json_array_append_new(lanes, lane_json(&d->lanes[i]));
	json_object_set_new(root, "lane_list", lanes);
	for (size_t i = 0; i < d->ref_count; i++)
		json_array_append_new(refs, view_ref_json(&d->refs[i], d->now_ms));
	json_object_set_new(root, "ref_list", refs);
	render_number(root, "refs_torn", d->refs_torn);
	return render_line(&inspect_tool, root);
}

static void facts_text(const struct sb__session_view *v)
{
	const struct sb__session_rec *rec = &v->rec;
	char text[RENDER_TIME_SIZE], created[32];

	printf("session           %s\n", rec->session_id);
	printf("state             %s, incarnation %" PRIu64 ", mailbox %s\n",
	       sb__session_state_name(rec->state), rec->incarnation, sb__mailbox_state_name(&v->mailbox));
	printf("designated owner  pid %" PRId32 " %s, %s (%s), mode %s\n", rec->designated.pid,
	       rec->designated.program, sb__liveness_name(v->designated), v->designated.how,
	       sb__designated_name(rec->designated_mode));
	printf("made              %s, %s ago", view_wall(rec->created_wall_ms, created, sizeof(created)),
	       render_span(v->age_ms, text));
	printf(", idle %s", render_span(v->idle_ms, text));
	printf(", TTL %s%s\n", rec->ttl_ms ? render_span(rec->ttl_ms, text) : "never",
	       rec->persistent ? ", persistent" : "");
	printf("refs              %" PRIu64 " live of at most %" PRIu32 " (then %s); %" PRIu64
	       " made, %" PRIu64 " evicted, %" PRIu64 " expired\n",
	       v->mailbox.live_refs, rec->max_refs, sb__on_full_name(rec->on_full), v->mailbox.created_refs,
	       v->mailbox.evicted_refs, v->mailbox.expired_refs);
	if (rec->max_refs_per_process)
		printf("                  at most %" PRIu32 " made by one process's calls\n",
		       rec->max_refs_per_process);
	if (rec->max_session_arena_bytes)
		printf("arrays            at most %" PRIu64 " bytes in each process\n",
		       rec->max_session_arena_bytes);
	printf("calls             %" PRIu64 " done, %" PRIu64 " raised, %" PRIu64 " refused, %" PRIu64
	       " in flight\n",
	       v->mailbox.calls, v->mailbox.exceptions, v->mailbox.refused,
	       (uint64_t)v->mailbox.queued + v->mailbox.running);
	printf("lanes             %" PRIu32 " claimed of %" PRIu32 ", %" PRIu32 " by dead processes\n",
	       v->mailbox.lanes_claimed, v->mailbox.lanes, v->mailbox.lanes_of_dead);
}

static void owners_text(const struct sb__session_detail *d)
{
	static const char *const titles[] = { "OWNER",  ">PID",     "PROGRAM", "LIVENESS",
		                              "JOINED", "EVIDENCE", NULL };
	struct render_table table;
	char joined[32];

	if (d->owner_count == 0)
		return;
	render_table_init(&table, titles);
	for (size_t i = 0; i < d->owner_count; i++) {
		const struct sb__owner_view *v = &d->owners[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32 "/%" PRIu32, v->rec.slot, v->rec.generation,
		            v->rec.handle);
		render_cell(&table, "%" PRId32, v->rec.pid);
		render_cell(&table, "%s", v->program);
		render_cell(&table, "%s", sb__liveness_name(v->evidence));
		render_cell(&table, "%s", view_wall(v->rec.joined_wall_ms, joined, sizeof(joined)));
		render_cell(&table, "%s", v->evidence.how);
	}
	putchar('\n');
	render_table_print(&table, !inspect_common.no_legend);
}

static void lanes_text(const struct sb__session_detail *d)
{
	static const char *const titles[] = { ">LANE", "STATE", ">PID", ">FOR", "TRACE", "CALL", NULL };
	struct render_table table;
	char text[RENDER_TIME_SIZE];

	if (d->lane_count == 0)
		return;
	render_table_init(&table, titles);
	for (size_t i = 0; i < d->lane_count; i++) {
		const struct sb__lane_view *v = &d->lanes[i];
		bool idle = v->state == SB__LANE_IDLE;

		render_cell(&table, "%" PRIu32, v->lane);
		render_cell(&table, "%s%s", sb__lane_state_name(v->state), v->torn ? " (moving)" : "");
		render_cell(&table, "%" PRId32, v->caller_pid);
		render_cell(&table, "%s", idle ? "" : render_span(running_ms(v), text));
		if (idle)
			render_cell(&table, "%s", "");
		else
			render_cell(&table, "%" PRIx64, v->trace_id);
		render_cell(&table, "%s", idle ? "" : v->label);
	}
	putchar('\n');
	render_table_print(&table, !inspect_common.no_legend);
}

void view_refs_text(const struct sb__session_detail *d)
{
	static const char *const titles[] = {
		">REF", "TYPE", ">AGE", ">IDLE", ">PINS", ">MADE BY PID", NULL
	};
	struct render_table table;
	char text[RENDER_TIME_SIZE];

	if (d->ref_count == 0 && d->refs_torn == 0)
		return;
	render_table_init(&table, titles);
	for (size_t i = 0; i < d->ref_count; i++) {
		const struct sb__ref_view *v = &d->refs[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32, v->slot, v->generation);
		render_cell(&table, "%s", v->type_name);
		render_cell(&table, "%s", render_span(view_since(d->now_ms, v->created_ms), text));
		render_cell(&table, "%s", render_span(view_since(d->now_ms, v->used_ms), text));
		render_cell(&table, "%" PRIu32, v->pins);
		render_cell(&table, "%" PRId32, v->creator_pid);
	}
	render_table_print(&table, !inspect_common.no_legend);
	if (d->refs_torn)
		printf("%" PRIu32 " more changed while they were read\n", d->refs_torn);
}

int view_no_session(struct sb__inspect *inspect, const char *id)
{
	sb__fail(SB_ENOSESSION,
	         "there is no session \"%s\" on bridge %s; 'sb-inspect sessions' lists the sessions", id,
	         sb__inspect_path(inspect));
	sb__fail_set_sessions(id, NULL);
	tool_report(&inspect_tool, sb_last_error());
	return TOOL_EXIT_FINDINGS;
}

int view_session(struct sb__inspect *inspect, const char *id)
{
	static struct sb__session_detail detail;
	int status = TOOL_EXIT_OK;
	int r = sb__inspect_session(inspect, id, &detail);

	if (r < 0)
		return tool_report(&inspect_tool, sb_last_error());
	if (r == 0)
		return view_no_session(inspect, id);
	if (inspect_common.quiet) {
		/* the exit status is all */
	} else if (inspect_common.json) {
		status = detail_json(&detail);
	} else {
		facts_text(&detail.session);
		view_each_tag(&detail.session.rec, tag_text, NULL);
		policy_text(&detail.session.rec);
		owners_text(&detail);
		lanes_text(&detail);
		if (detail.ref_count)
			putchar('\n');
		view_refs_text(&detail);
	}
	if (status == TOOL_EXIT_OK && detail.session.mailbox.error)
		status = TOOL_EXIT_CORRUPT;
	sb__session_detail_free(&detail);
	return status;
}
