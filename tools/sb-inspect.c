/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect: shows a bridge, its processes, its sessions, and one session with owners, lanes and refs. Only
 * looks: takes no slot, no write transaction, and knows no Python.
 *
 * Crash: leaves at most an LMDB reader slot, which the next reaper pass clears.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "options.h"
#include "render.h"
#include "report.h"
#include "snapshot.h"

static struct tool_common common = TOOL_COMMON_INIT;

static bool check;

static const struct tool_option own[] = {
	{ .name = "check",
	  .letter = 'c',
	  .help = "look whether all records, indexes and mailboxes agree, and say what does not",
	  .type = TOOL_FLAG,
	  .target = &check },
	{ 0 },
};
static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(common), { 0 } };
static const struct tool_group groups[] = { { "Options", own }, { "Common options", shared }, { 0 } };
static const struct tool tool = {
	.name = "sb-inspect",
	.usage =
		"[options]\n[options] processes\n[options] sessions\n[options] session ID\n--check [options]",
	.about = "Shows a bridge: its state as a whole, its processes, its sessions, or one session with its "
		 "owners, "
		 "lanes and refs. Changes nothing.",
	.groups = groups,
	.exits = "0  shown\n"
		 "1  there is no such session\n"
		 "2  usage\n"
		 "3  there is no bridge, or it cannot be used\n"
		 "4  the bridge is of another version\n"
		 "5  the bridge is damaged\n",
	.environment = TOOL_ENVIRONMENT,
	.common = &common,
};

/* ── words ── */

static const char *state_name(uint32_t state)
{
	static const char *const names[] = { "?", "starting", "active", "orphaned", "ended" };

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : names[0];
}

static const char *mailbox_name(const struct sb__mailbox_facts *mailbox)
{
	static const char *const names[] = { "?", "serving", "released", "expired" };

	if (!mailbox->present)
		return "none";
	if (mailbox->error)
		return "unreadable";
	return mailbox->state < sizeof(names) / sizeof(names[0]) ? names[mailbox->state] : names[0];
}

static const char *lane_name(unsigned state)
{
	static const char *const names[] = { "free", "idle", "ready", "busy", "done", "abandoned" };

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static const char *liveness_name(struct sb__evidence evidence)
{
	return evidence.verdict == SB__ALIVE ? "alive" : evidence.verdict == SB__DEAD ? "dead" : "unsure";
}

static const char *designated_name(uint32_t mode)
{
	static const char *const names[] = { "?", "self", "dedicated", "attach-only" };

	return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : names[0];
}

static const char *on_full_name(uint32_t on_full)
{
	return on_full == SB_ON_FULL_ERROR ? "error" : "evict";
}

static const char *wall(int64_t wall_ms, char *text, size_t size)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (!localtime_r(&seconds, &tm) || strftime(text, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(text, size, "?");
	return text;
}

static uint64_t since(uint64_t now_ms, uint64_t then_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

static json_t *begin(const char *what)
{
	json_t *o = json_object();

	render_number(o, "schema", 1);
	render_text(o, "what", what);
	return o;
}

/* ── the bridge ── */

static int overview_json(const struct sb__inspect *inspect, const struct sb__overview *o)
{
	json_t *root = begin("bridge"), *files = json_object(), *sessions = json_object();
	char hex[33];

	render_text(root, "dir", sb__inspect_path(inspect));
	render_number(root, "store_schema", o->bridge.schema);
	snprintf(hex, sizeof(hex), "%08" PRIx32, o->bridge.layout_fingerprint);
	render_text(root, "layout", hex);
	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", o->bridge.boot_id[i]);
	render_text(root, "boot_id", hex);
	render_id(root, "pid_namespace", o->bridge.pid_ns);
	json_object_set_new(root, "created_wall_ms", json_integer(o->bridge.created_wall_ms));
	json_object_set_new(root, "creator_pid", json_integer(o->bridge.creator_pid));
	render_number(root, "alive_processes", o->alive_processes);
	render_number(root, "dead_processes", o->dead_processes);
	render_number(root, "unsure_processes", o->unsure_processes);
	for (uint32_t state = SB_SESSION_STARTING; state < SB_SESSION_ENDED; state++)
		render_number(sessions, state_name(state), o->sessions[state]);
	json_object_set_new(root, "sessions", sessions);
	render_number(root, "owners", o->owners);
	render_number(root, "dead_owners", o->dead_owners);
	render_number(root, "live_refs", o->live_refs);
	render_number(root, "in_flight_calls", o->in_flight);
	render_number(root, "claimed_lanes", o->lanes_claimed);
	render_number(root, "claimed_lanes_of_dead", o->claimed_lanes_of_dead);
	for (unsigned kind = 0; kind < SB__FILE_KINDS; kind++)
		render_number(files, sb__file_kind_name(kind), o->files[kind]);
	json_object_set_new(root, "files", files);
	render_number(root, "orphan_files", o->orphan_files);
	render_number(root, "lmdb_readers", o->readers);
	render_number(root, "lmdb_readers_max", o->readers_max);
	render_number(root, "unreadable_mailboxes", o->unreadable);
	render_number(root, "free_bytes", o->fs_free_bytes);
	return render_line(&tool, root);
}

static void overview_text(const struct sb__inspect *inspect, const struct sb__overview *o)
{
	char created[32];

	printf("bridge     %s\n", sb__inspect_path(inspect));
	printf("           schema %" PRIu32 ", layout %08" PRIx32 ", made %s by pid %" PRId32 "\n",
	       o->bridge.schema, o->bridge.layout_fingerprint,
	       wall(o->bridge.created_wall_ms, created, sizeof(created)), o->bridge.creator_pid);
	printf("processes  %" PRIu32 " alive, %" PRIu32 " dead", o->alive_processes, o->dead_processes);
	if (o->unsure_processes)
		printf(", %" PRIu32 " unsure", o->unsure_processes);
	printf("\nsessions   %" PRIu32 " active, %" PRIu32 " starting, %" PRIu32 " orphaned\n",
	       o->sessions[SB_SESSION_ACTIVE], o->sessions[SB_SESSION_STARTING],
	       o->sessions[SB_SESSION_ORPHANED]);
	printf("owners     %" PRIu64 ", %" PRIu64 " of them dead\n", o->owners, o->dead_owners);
	printf("refs       %" PRIu64 " live\n", o->live_refs);
	printf("lanes      %" PRIu64 " claimed, %" PRIu64 " of them by dead processes; %" PRIu64
	       " calls in flight\n",
	       o->lanes_claimed, o->claimed_lanes_of_dead, o->in_flight);
	printf("files      %" PRIu32 " mailboxes, %" PRIu32 " ref lists, %" PRIu32 " bells, %" PRIu32
	       " arenas, %" PRIu32 " temporary; %" PRIu32 " orphans\n",
	       o->files[SB__FILE_MAILBOX], o->files[SB__FILE_REFS], o->files[SB__FILE_BELL],
	       o->files[SB__FILE_ARENA], o->files[SB__FILE_TEMPORARY], o->orphan_files);
	printf("lmdb       %" PRIu32 " of %" PRIu32 " readers; %" PRIu64 " MiB free in the file system\n",
	       o->readers, o->readers_max, o->fs_free_bytes >> 20);
	if (o->unreadable)
		printf("damage     %" PRIu32 " mailboxes cannot be read\n", o->unreadable);
	if (!common.no_legend &&
	    (o->dead_processes || o->dead_owners || o->orphan_files || o->claimed_lanes_of_dead))
		printf("\nsb-reaper --once tidies what dead processes left.\n");
}

static int show_bridge(struct sb__inspect *inspect)
{
	struct sb__overview overview;
	int status = TOOL_EXIT_OK;

	if (sb__inspect_overview(inspect, &overview) < 0)
		return tool_report(&tool, sb_last_error());
	if (common.quiet)
		;
	else if (common.json)
		status = overview_json(inspect, &overview);
	else
		overview_text(inspect, &overview);
	return status == TOOL_EXIT_OK && overview.unreadable ? TOOL_EXIT_CORRUPT : status;
}

/* ── processes ── */

static json_t *process_json(const struct sb__process_view *view)
{
	json_t *o = json_object();

	render_number(o, "slot", view->identity.slot);
	render_number(o, "generation", view->identity.generation);
	json_object_set_new(o, "pid", json_integer(view->identity.pid));
	render_text(o, "program", view->identity.program);
	render_number(o, "uid", view->identity.uid);
	render_text(o, "liveness", liveness_name(view->evidence));
	render_text(o, "evidence", view->evidence.how);
	render_number(o, "owners", view->owners);
	render_number(o, "serving_sessions", view->serving);
	render_id(o, "start_time_ticks", view->identity.start_time);
	render_id(o, "pid_namespace", view->identity.pid_ns);
	json_object_set_new(o, "joined_wall_ms", json_integer(view->identity.joined_wall_ms));
	return o;
}

static void processes_text(const struct sb__process_view *views, size_t count)
{
	static const char *const titles[] = { ">SLOT",    ">PID",   "PROGRAM",  "LIVENESS", ">OWNERS",
		                              ">SERVING", "JOINED", "EVIDENCE", NULL };
	struct render_table table;
	char joined[32];

	render_table_init(&table, titles);
	for (size_t i = 0; i < count; i++) {
		const struct sb__process_view *v = &views[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32, v->identity.slot, v->identity.generation);
		render_cell(&table, "%" PRId32, v->identity.pid);
		render_cell(&table, "%s", v->identity.program);
		render_cell(&table, "%s", liveness_name(v->evidence));
		render_cell(&table, "%" PRIu32, v->owners);
		render_cell(&table, "%" PRIu32, v->serving);
		render_cell(&table, "%s", wall(v->identity.joined_wall_ms, joined, sizeof(joined)));
		render_cell(&table, "%s", v->evidence.how);
	}
	render_table_print(&table, !common.no_legend);
}

static int show_processes(struct sb__inspect *inspect)
{
	struct sb__process_view *views = NULL;
	int status = TOOL_EXIT_OK;
	size_t count = 0;

	if (sb__inspect_processes(inspect, &views, &count) < 0)
		return tool_report(&tool, sb_last_error());
	if (common.json) {
		json_t *root = begin("processes"), *list = json_array();

		for (size_t i = 0; i < count; i++)
			json_array_append_new(list, process_json(&views[i]));
		json_object_set_new(root, "processes", list);
		if (common.quiet)
			json_decref(root);
		else
			status = render_line(&tool, root);
	} else if (!common.quiet) {
		processes_text(views, count);
	}
	free(views);
	return status;
}

/* ── sessions ── */

static json_t *mailbox_json(const struct sb__mailbox_facts *m, uint64_t recorded_refs)
{
	json_t *o = json_object();

	render_text(o, "state", mailbox_name(m));
	render_number(o, "lanes", m->lanes);
	render_number(o, "claimed_lanes", m->lanes_claimed);
	render_number(o, "claimed_lanes_of_dead", m->lanes_of_dead);
	render_number(o, "calls", m->calls);
	render_number(o, "exceptions", m->exceptions);
	render_number(o, "refused", m->refused);
	render_number(o, "in_flight_calls", m->in_flight);
	render_number(o, "live_refs", m->live_refs);
	render_number(o, "recorded_refs", recorded_refs);
	render_number(o, "created_refs", m->created_refs);
	render_number(o, "evicted_refs", m->evicted_refs);
	render_number(o, "expired_refs", m->expired_refs);
	return o;
}

static json_t *session_json(const struct sb__session_view *v)
{
	const struct sb__session_rec *rec = &v->rec;
	json_t *o = json_object(), *designated = json_object();

	render_text(o, "session", rec->session_id);
	render_id(o, "session_uid", rec->uid);
	render_id(o, "incarnation", rec->incarnation);
	render_text(o, "state", state_name(rec->state));
	render_number(o, "owners", rec->owner_count);
	render_number(o, "dead_owners", v->dead_owners);
	json_object_set_new(designated, "pid", json_integer(rec->designated.pid));
	render_number(designated, "slot", rec->designated.slot);
	render_number(designated, "generation", rec->designated.generation);
	render_text(designated, "program", rec->designated.program);
	render_text(designated, "liveness", liveness_name(v->designated));
	render_text(designated, "evidence", v->designated.how);
	json_object_set_new(o, "designated_owner", designated);
	render_text(o, "designated_mode", designated_name(rec->designated_mode));
	json_object_set_new(o, "persistent", json_boolean(rec->persistent));
	render_text(o, "on_full", on_full_name(rec->on_full));
	render_number(o, "max_refs", rec->max_refs);
	render_number(o, "ttl_ms", rec->ttl_ms);
	render_number(o, "age_ms", v->age_ms);
	render_number(o, "idle_ms", v->idle_ms);
	json_object_set_new(o, "created_wall_ms", json_integer(rec->created_wall_ms));
	json_object_set_new(o, "mailbox", mailbox_json(&v->mailbox, rec->live_refs));
	return o;
}

struct sessions {
	json_t *list;              /* with --json */
	struct render_table table; /* without */
};

static int session_row(void *arg, const struct sb__session_view *v)
{
	struct sessions *s = arg;
	char text[RENDER_TIME_SIZE];

	if (common.json) {
		json_array_append_new(s->list, session_json(v));
		return 0;
	}
	render_cell(&s->table, "%s", v->rec.session_id);
	render_cell(&s->table, "%s", state_name(v->rec.state));
	render_cell(&s->table, "%" PRIu32 "%s", v->rec.owner_count, v->dead_owners ? " (dead)" : "");
	render_cell(&s->table, "%" PRId32 "%s", v->rec.designated.pid,
	            v->designated.verdict == SB__DEAD ? " (dead)" : "");
	render_cell(&s->table, "%" PRIu64, v->mailbox.live_refs);
	render_cell(&s->table, "%" PRIu32, v->mailbox.lanes_claimed);
	render_cell(&s->table, "%" PRIu64, v->mailbox.calls);
	render_cell(&s->table, "%s", render_span(v->idle_ms, text));
	render_cell(&s->table, "%s", v->rec.ttl_ms ? render_span(v->rec.ttl_ms, text) : "never");
	return 0;
}

static int show_sessions(struct sb__inspect *inspect)
{
	static const char *const titles[] = { "SESSION", "STATE",  "OWNERS", "DESIGNATED OWNER",
		                              ">REFS",   ">LANES", ">CALLS", ">IDLE",
		                              ">TTL",    NULL };
	struct sessions s = { .list = NULL };
	int status = TOOL_EXIT_OK, r;

	if (common.json)
		s.list = json_array();
	render_table_init(&s.table, titles);
	r = sb__inspect_sessions(inspect, session_row, &s);
	if (r < 0) {
		json_decref(s.list);
		return tool_report(&tool, sb_last_error());
	}
	if (common.json) {
		json_t *root = begin("sessions");

		json_object_set_new(root, "sessions", s.list);
		if (common.quiet)
			json_decref(root);
		else
			status = render_line(&tool, root);
	} else if (!common.quiet) {
		render_table_print(&s.table, !common.no_legend);
	}
	return status;
}

/* ── one session ── */

/* Walks "key NUL value NUL …" of a record, which was validated when it was read; still bounded here. */
static void each_tag(const struct sb__session_rec *rec,
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

static json_t *owner_json(const struct sb__owner_view *v)
{
	json_t *o = json_object();

	json_object_set_new(o, "pid", json_integer(v->rec.pid));
	render_text(o, "program", v->program);
	render_number(o, "slot", v->rec.slot);
	render_number(o, "generation", v->rec.generation);
	render_number(o, "handle", v->rec.handle);
	render_text(o, "liveness", liveness_name(v->evidence));
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
	render_text(o, "state", lane_name(lane->state));
	json_object_set_new(o, "caller_pid", json_integer(lane->caller_pid));
	render_number(o, "slot", lane->slot);
	render_number(o, "generation", lane->generation);
	render_number(o, "sequence", lane->sequence);
	if (lane->state != SB__LANE_IDLE) {
		render_text(o, "label", lane->label);
		render_id(o, "trace_id", lane->trace_id);
		render_number(o, "running_ms", running_ms(lane));
	}
	json_object_set_new(o, "torn", json_boolean(lane->torn));
	return o;
}

static json_t *ref_json(const struct sb__ref_view *ref, uint64_t now_ms)
{
	json_t *o = json_object();

	render_number(o, "slot", ref->slot);
	render_number(o, "generation", ref->generation);
	render_text(o, "type", ref->type_name);
	json_object_set_new(o, "creator_pid", json_integer(ref->creator_pid));
	render_number(o, "age_ms", since(now_ms, ref->created_ms));
	render_number(o, "idle_ms", since(now_ms, ref->used_ms));
	return o;
}

static int detail_json(const struct sb__session_detail *d)
{
	json_t *root = begin("session"), *tags = json_object(), *owners = json_array(), *lanes = json_array(),
	       *refs = json_array();

	json_object_update_new(root, session_json(&d->session));
	each_tag(&d->session.rec, tag_json, tags);
	json_object_set_new(root, "tags", tags);
	/* "owners" is the number that the list of sessions has too. */
	for (size_t i = 0; i < d->owner_count; i++)
		json_array_append_new(owners, owner_json(&d->owners[i]));
	json_object_set_new(root, "owner_list", owners);
	for (size_t i = 0; i < d->lane_count; i++)
		json_array_append_new(lanes, lane_json(&d->lanes[i]));
	json_object_set_new(root, "lane_list", lanes);
	for (size_t i = 0; i < d->ref_count; i++)
		json_array_append_new(refs, ref_json(&d->refs[i], d->now_ms));
	json_object_set_new(root, "ref_list", refs);
	render_number(root, "refs_torn", d->refs_torn);
	return render_line(&tool, root);
}

static void facts_text(const struct sb__session_view *v)
{
	const struct sb__session_rec *rec = &v->rec;
	char text[RENDER_TIME_SIZE], created[32];

	printf("session           %s\n", rec->session_id);
	printf("state             %s, incarnation %" PRIu64 ", mailbox %s\n", state_name(rec->state),
	       rec->incarnation, mailbox_name(&v->mailbox));
	printf("designated owner  pid %" PRId32 " %s, %s (%s), mode %s\n", rec->designated.pid,
	       rec->designated.program, liveness_name(v->designated), v->designated.how,
	       designated_name(rec->designated_mode));
	printf("made              %s, %s ago", wall(rec->created_wall_ms, created, sizeof(created)),
	       render_span(v->age_ms, text));
	printf(", idle %s", render_span(v->idle_ms, text));
	printf(", TTL %s%s\n", rec->ttl_ms ? render_span(rec->ttl_ms, text) : "never",
	       rec->persistent ? ", persistent" : "");
	printf("refs              %" PRIu64 " live of at most %" PRIu32 " (then %s); %" PRIu64
	       " made, %" PRIu64 " evicted, %" PRIu64 " expired\n",
	       v->mailbox.live_refs, rec->max_refs, on_full_name(rec->on_full), v->mailbox.created_refs,
	       v->mailbox.evicted_refs, v->mailbox.expired_refs);
	printf("calls             %" PRIu64 " done, %" PRIu64 " raised, %" PRIu64 " refused, %" PRIu64
	       " in flight\n",
	       v->mailbox.calls, v->mailbox.exceptions, v->mailbox.refused, v->mailbox.in_flight);
	printf("lanes             %" PRIu32 " claimed of %" PRIu32 ", %" PRIu32 " by dead processes\n",
	       v->mailbox.lanes_claimed, v->mailbox.lanes, v->mailbox.lanes_of_dead);
}

static void owners_text(const struct sb__session_detail *d)
{
	static const char *const titles[] = { "OWNER",  ">PID",     "PROGRAM", "LIVENESS",
		                              "JOINED", "EVIDENCE", NULL };
	struct render_table table;
	char joined[32];

	render_table_init(&table, titles);
	for (size_t i = 0; i < d->owner_count; i++) {
		const struct sb__owner_view *v = &d->owners[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32 "/%" PRIu32, v->rec.slot, v->rec.generation,
		            v->rec.handle);
		render_cell(&table, "%" PRId32, v->rec.pid);
		render_cell(&table, "%s", v->program);
		render_cell(&table, "%s", liveness_name(v->evidence));
		render_cell(&table, "%s", wall(v->rec.joined_wall_ms, joined, sizeof(joined)));
		render_cell(&table, "%s", v->evidence.how);
	}
	putchar('\n');
	render_table_print(&table, !common.no_legend);
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
		render_cell(&table, "%s%s", lane_name(v->state), v->torn ? " (moving)" : "");
		render_cell(&table, "%" PRId32, v->caller_pid);
		render_cell(&table, "%s", idle ? "" : render_span(running_ms(v), text));
		if (idle)
			render_cell(&table, "%s", "");
		else
			render_cell(&table, "%" PRIx64, v->trace_id);
		render_cell(&table, "%s", idle ? "" : v->label);
	}
	putchar('\n');
	render_table_print(&table, !common.no_legend);
}

static void refs_text(const struct sb__session_detail *d)
{
	static const char *const titles[] = { ">REF", "TYPE", ">AGE", ">IDLE", ">MADE BY PID", NULL };
	struct render_table table;
	char text[RENDER_TIME_SIZE];

	if (d->ref_count == 0)
		return;
	render_table_init(&table, titles);
	for (size_t i = 0; i < d->ref_count; i++) {
		const struct sb__ref_view *v = &d->refs[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32, v->slot, v->generation);
		render_cell(&table, "%s", v->type_name);
		render_cell(&table, "%s", render_span(since(d->now_ms, v->created_ms), text));
		render_cell(&table, "%s", render_span(since(d->now_ms, v->used_ms), text));
		render_cell(&table, "%" PRId32, v->creator_pid);
	}
	putchar('\n');
	render_table_print(&table, !common.no_legend);
	if (d->refs_torn)
		printf("%" PRIu32 " more changed while they were read\n", d->refs_torn);
}

static int no_session(struct sb__inspect *inspect, const char *id)
{
	sb__fail(SB_ENOSESSION,
	         "there is no session \"%s\" on bridge %s; sb-inspect sessions lists those there are", id,
	         sb__inspect_path(inspect));
	sb__fail_set_sessions(id, NULL);
	tool_report(&tool, sb_last_error());
	return TOOL_EXIT_FINDINGS;
}

static int show_session(struct sb__inspect *inspect, const char *id)
{
	static struct sb__session_detail detail;
	int status = TOOL_EXIT_OK;
	int r = sb__inspect_session(inspect, id, &detail);

	if (r < 0)
		return tool_report(&tool, sb_last_error());
	if (r == 0)
		return no_session(inspect, id);
	if (common.quiet) {
		/* the exit status is all */
	} else if (common.json) {
		status = detail_json(&detail);
	} else {
		facts_text(&detail.session);
		each_tag(&detail.session.rec, tag_text, NULL);
		owners_text(&detail);
		lanes_text(&detail);
		refs_text(&detail);
	}
	if (status == TOOL_EXIT_OK && detail.session.mailbox.error)
		status = TOOL_EXIT_CORRUPT;
	sb__session_detail_free(&detail);
	return status;
}

/* ── soundness ── */

static void problem(void *arg, const char *line)
{
	json_t *list = arg;
	json_t *text;

	if (common.quiet)
		return;
	if (!common.json) {
		puts(line);
		return;
	}
	text = json_string(line);
	json_array_append_new(list, text ? text : json_string("?"));
}

static int show_check(struct sb__inspect *inspect)
{
	json_t *problems = json_array();
	int status = TOOL_EXIT_OK;
	int r = sb__inspect_check(inspect, problem, problems);

	if (r < 0) {
		json_decref(problems);
		return tool_report(&tool, sb_last_error());
	}
	if (common.json && !common.quiet) {
		json_t *root = begin("check");

		json_object_set_new(root, "sound", json_boolean(r == 0));
		json_object_set_new(root, "problems", problems);
		status = render_line(&tool, root);
	} else {
		json_decref(problems);
		if (!common.quiet && !common.no_legend)
			printf("%d %s\n", r, r == 1 ? "problem" : "problems");
	}
	return r > 0 ? TOOL_EXIT_CORRUPT : status;
}

/* ── */

enum view { VIEW_BRIDGE, VIEW_PROCESSES, VIEW_SESSIONS, VIEW_SESSION, VIEW_CHECK, VIEW_WRONG };

static enum view which(int count, char **operands)
{
	if (check)
		return count == 0 ? VIEW_CHECK : VIEW_WRONG;
	if (count == 0)
		return VIEW_BRIDGE;
	if (count == 1 && strcmp(operands[0], "processes") == 0)
		return VIEW_PROCESSES;
	if (count == 1 && strcmp(operands[0], "sessions") == 0)
		return VIEW_SESSIONS;
	if (count == 2 && strcmp(operands[0], "session") == 0)
		return VIEW_SESSION;
	return VIEW_WRONG;
}

static int show(struct sb__inspect *inspect, enum view view, char **operands)
{
	switch (view) {
	case VIEW_PROCESSES: return show_processes(inspect);
	case VIEW_SESSIONS: return show_sessions(inspect);
	case VIEW_SESSION: return show_session(inspect, operands[1]);
	case VIEW_CHECK: return show_check(inspect);
	default: return show_bridge(inspect);
	}
}

int main(int argc, char **argv)
{
	struct sb__inspect *inspect;
	enum view view;
	int status;

	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	view = which(argc - optind, argv + optind);
	if (view == VIEW_WRONG)
		return tool_usage(&tool, "say nothing, 'processes', 'sessions', 'session ID' or --check");
	render_deadline(common.timeout_ms, "sb-inspect: gave up: the bridge did not answer in time\n");
	if (sb__inspect_open(common.dir, &inspect) < 0)
		return tool_report(&tool, sb_last_error());
	status = show(inspect, view, argv + optind);
	sb__inspect_close(inspect);
	return status;
}
