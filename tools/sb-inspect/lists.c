/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect sessions, owners, calls and refs ID: the lists, as JSON and for people.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "names.h"
#include "render.h"
#include "report.h"
#include "snapshot.h"
#include "view.h"

/* A list as it grows: JSON, or rows with what they are sorted by. */
struct rows {
	struct sb__inspect *inspect;
	struct view_order *order; /* item: a json_t, or a copy of size bytes */
	size_t size, count, cap;
	uint32_t torn;
	bool failed;
};

/* Copies the row. The text is copied, too, behind it. */
static int keep(struct rows *rows, uint64_t number, const char *text, const void *row)
{
	char *copy;

	if (rows->count == rows->cap) {
		size_t cap = rows->cap ? rows->cap * 2 : 64;
		struct view_order *order = realloc(rows->order, cap * sizeof(*order));

		if (!order) {
			rows->failed = true;
			return 1;
		}
		rows->order = order;
		rows->cap = cap;
	}
	copy = malloc(rows->size + strlen(text) + 1);
	if (!copy) {
		rows->failed = true;
		return 1;
	}
	memcpy(copy, row, rows->size);
	strcpy(copy + rows->size, text);
	rows->order[rows->count++] = (struct view_order){ number, copy + rows->size, copy };
	return 0;
}

static void drop(struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		free(rows->order[i].item);
	free(rows->order);
}

/* Writes the list under its key; takes it over. Returns an exit status. */
static int write_json(const char *what, json_t *list, bool whole)
{
	json_t *root = view_begin(what);

	json_object_set_new(root, what, list);
	json_object_set_new(root, "whole", json_boolean(whole));
	if (!inspect_common.quiet)
		return render_line(&inspect_tool, root);
	json_decref(root);
	return TOOL_EXIT_OK;
}

static void note_torn(uint32_t torn)
{
	if (torn && !inspect_common.no_legend)
		printf("%" PRIu32 " moved while they were read: what is said of them may be of two moments\n",
		       torn);
}

/* ── sessions ── */

static void sessions_text(const struct view_sessions *list)
{
	static const char *const titles[] = { "SESSION", "STATE",  "OWNERS", "DESIGNATED OWNER",
		                              ">REFS",   ">LANES", ">CALLS", ">IDLE",
		                              ">TTL",    NULL };
	struct render_table table;
	char text[RENDER_TIME_SIZE];

	render_table_init(&table, titles);
	for (size_t i = 0; i < list->count; i++) {
		const struct sb__session_view *v = list->items[i];

		render_cell(&table, "%s", v->rec.session_id);
		render_cell(&table, "%s", sb__session_state_name(v->rec.state));
		render_cell(&table, "%" PRIu32 "%s", v->rec.owner_count, v->dead_owners ? " (dead)" : "");
		render_cell(&table, "%" PRId32 "%s", v->rec.designated.pid,
		            v->designated.verdict == SB__DEAD ? " (dead)" : "");
		if (v->mailbox.error) {
			render_cell(&table, "%s", "unreadable");
		} else {
			render_cell(&table, "%" PRIu64, v->mailbox.live_refs);
		}
		render_cell(&table, "%" PRIu32, v->mailbox.lanes_claimed);
		render_cell(&table, "%" PRIu64, v->mailbox.calls);
		render_cell(&table, "%s", render_span(v->idle_ms, text));
		render_cell(&table, "%s", v->rec.ttl_ms ? render_span(v->rec.ttl_ms, text) : "never");
	}
	render_table_print(&table, !inspect_common.no_legend);
}

int view_sessions(struct sb__inspect *inspect, const char *none)
{
	struct view_sessions list = { .inspect = inspect };
	int status = TOOL_EXIT_OK;

	(void)none;
	if (sb__inspect_sessions(inspect, view_sessions_keep, &list) < 0) {
		view_sessions_free(&list);
		return tool_report(&inspect_tool, sb_last_error());
	}
	view_sessions_sort(&list);
	if (inspect_common.json) {
		json_t *array = json_array();

		for (size_t i = 0; i < list.count; i++)
			json_array_append_new(array, view_session_json(list.items[i]));
		status = write_json("sessions", array, !list.failed);
	} else if (!inspect_common.quiet) {
		sessions_text(&list);
	}
	view_sessions_free(&list);
	return status;
}

/* ── owners ── */

struct owner_row {
	struct sb__owner_view owner;
	char session_id[SB_SESSION_ID_MAX + 1];
	uint32_t state;
	bool designated; /* the process serves the session, too */
};

static int owner_visit(void *arg, const struct sb__session_view *session, const struct sb__owner_view *owner)
{
	struct rows *rows = arg;
	struct owner_row row = { .owner = *owner, .state = session->rec.state };
	uint64_t number = view_filter_sorts("pid")   ? (uint64_t)owner->rec.pid
	                  : view_filter_sorts("age") ? UINT64_MAX - (uint64_t)owner->rec.joined_wall_ms
	                                             : 0;

	if (!view_filter_matches(rows->inspect, session) ||
	    (view_filter.owner && view_filter.owner != owner->rec.pid))
		return 0;
	memcpy(row.session_id, session->rec.session_id, sizeof(row.session_id));
	row.designated = session->rec.designated.slot == owner->rec.slot &&
	                 session->rec.designated.generation == owner->rec.generation;
	return keep(rows, number, row.session_id, &row);
}

static int owners_json(const struct rows *rows)
{
	json_t *list = json_array();

	for (size_t i = 0; i < rows->count; i++) {
		const struct owner_row *row = rows->order[i].item;
		json_t *o = view_owner_json(&row->owner);

		render_text(o, "session", row->session_id);
		render_text(o, "session_state", sb__session_state_name(row->state));
		json_object_set_new(o, "designated", json_boolean(row->designated));
		json_array_append_new(list, o);
	}
	return write_json("owners", list, !rows->failed);
}

static void owners_text(const struct rows *rows)
{
	static const char *const titles[] = { "SESSION",  "OWNER",  ">PID",     "PROGRAM",
		                              "LIVENESS", "JOINED", "EVIDENCE", NULL };
	struct render_table table;
	char joined[32];

	render_table_init(&table, titles);
	for (size_t i = 0; i < rows->count; i++) {
		const struct owner_row *row = rows->order[i].item;
		const struct sb__owner_view *v = &row->owner;

		render_cell(&table, "%s", row->session_id);
		render_cell(&table, "%" PRIu32 ".%" PRIu32 "/%" PRIu32 "%s", v->rec.slot, v->rec.generation,
		            v->rec.handle, row->designated ? " designated" : "");
		render_cell(&table, "%" PRId32, v->rec.pid);
		render_cell(&table, "%s", v->program);
		render_cell(&table, "%s", sb__liveness_name(v->evidence));
		render_cell(&table, "%s", view_wall(v->rec.joined_wall_ms, joined, sizeof(joined)));
		render_cell(&table, "%s", v->evidence.how);
	}
	render_table_print(&table, !inspect_common.no_legend);
}

int view_owners(struct sb__inspect *inspect, const char *none)
{
	struct rows rows = { .inspect = inspect, .size = sizeof(struct owner_row) };
	int status = TOOL_EXIT_OK;

	(void)none;
	if (sb__inspect_owners(inspect, owner_visit, &rows) < 0) {
		drop(&rows);
		return tool_report(&inspect_tool, sb_last_error());
	}
	view_order_sort(rows.order, rows.count);
	if (inspect_common.json)
		status = owners_json(&rows);
	else if (!inspect_common.quiet)
		owners_text(&rows);
	drop(&rows);
	return status;
}

/* ── calls ── */

struct call_row {
	struct sb__call_view call;
	char session_id[SB_SESSION_ID_MAX + 1];
	uint64_t incarnation;
	int32_t designated_pid;
};

static int call_visit(void *arg, const struct sb__session_view *session, const struct sb__call_view *call)
{
	struct rows *rows = arg;
	struct call_row row = { .call = *call,
		                .incarnation = session->rec.incarnation,
		                .designated_pid = session->rec.designated.pid };
	uint64_t number = view_filter_sorts("id")    ? 0
	                  : view_filter_sorts("pid") ? (uint64_t)(uint32_t)call->lane.caller_pid
	                                             : call->waited_ns + call->ran_ns;

	if (!view_filter_matches(rows->inspect, session))
		return 0;
	memcpy(row.session_id, session->rec.session_id, sizeof(row.session_id));
	rows->torn += call->lane.torn;
	return keep(rows, number, row.session_id, &row);
}

/* As callers see it. */
static const char *call_state(const struct sb__lane_view *lane)
{
	switch (lane->state) {
	case SB__LANE_READY: return "queued";
	case SB__LANE_BUSY: return lane->asking ? "in callback" : "running";
	case SB__LANE_DONE: return "answered";
	default: return sb__lane_state_name(lane->state);
	}
}

static json_t *call_json(const struct call_row *row)
{
	const struct sb__lane_view *lane = &row->call.lane;
	uint64_t now = sb__now_ns();
	json_t *o = json_object();

	render_text(o, "session", row->session_id);
	render_id(o, "incarnation", row->incarnation);
	render_number(o, "lane", lane->lane);
	render_text(o, "state", call_state(lane));
	render_text(o, "label", lane->label);
	render_id(o, "trace_id", lane->trace_id);
	json_object_set_new(o, "caller_pid", json_integer(lane->caller_pid));
	render_text(o, "caller_program", row->call.program);
	render_text(o, "caller_liveness", sb__liveness_name(row->call.caller));
	json_object_set_new(o, "designated_pid", json_integer(row->designated_pid));
	render_number(o, "waited_ms", row->call.waited_ns / 1000000);
	render_number(o, "running_ms", row->call.ran_ns / 1000000);
	if (lane->deadline_ns > INT64_MAX)
		json_object_set_new(o, "deadline_in_ms", json_null());
	else
		json_object_set_new(o, "deadline_in_ms",
		                    json_integer(((int64_t)lane->deadline_ns - (int64_t)now) / 1000000));
	json_object_set_new(o, "torn", json_boolean(lane->torn));
	return o;
}

static void calls_text(const struct rows *rows)
{
	static const char *const titles[] = { "SESSION", "STATE",    "CALL",  ">PID", "PROGRAM",
		                              ">WAITED", ">RUNNING", "TRACE", NULL };
	struct render_table table;
	char text[RENDER_TIME_SIZE];

	render_table_init(&table, titles);
	for (size_t i = 0; i < rows->count; i++) {
		const struct call_row *row = rows->order[i].item;
		const struct sb__lane_view *lane = &row->call.lane;

		render_cell(&table, "%s", row->session_id);
		render_cell(&table, "%s%s", call_state(lane), lane->torn ? " (moving)" : "");
		render_cell(&table, "%s", lane->label);
		render_cell(&table, "%" PRId32 "%s", lane->caller_pid,
		            row->call.caller.verdict == SB__DEAD ? " (dead)" : "");
		render_cell(&table, "%s", row->call.program);
		render_cell(&table, "%s", render_span(row->call.waited_ns / 1000000, text));
		render_cell(&table, "%s",
		            row->call.ran_ns ? render_span(row->call.ran_ns / 1000000, text) : "");
		render_cell(&table, "%" PRIx64, lane->trace_id);
	}
	render_table_print(&table, !inspect_common.no_legend);
	note_torn(rows->torn);
}

int view_calls(struct sb__inspect *inspect, const char *none)
{
	struct rows rows = { .inspect = inspect, .size = sizeof(struct call_row) };
	int status = TOOL_EXIT_OK;

	(void)none;
	if (sb__inspect_calls(inspect, call_visit, &rows) < 0) {
		drop(&rows);
		return tool_report(&inspect_tool, sb_last_error());
	}
	view_order_sort(rows.order, rows.count);
	if (inspect_common.json) {
		json_t *list = json_array();

		for (size_t i = 0; i < rows.count; i++)
			json_array_append_new(list, call_json(rows.order[i].item));
		status = write_json("calls", list, !rows.failed);
	} else if (!inspect_common.quiet) {
		calls_text(&rows);
	}
	drop(&rows);
	return status;
}

/* ── refs ── */

static int by_row(const void *a, const void *b)
{
	const struct sb__ref_view *x = a, *y = b;
	int order = 0;

	if (view_filter_sorts("type"))
		order = strcmp(x->type_name, y->type_name);
	else if (view_filter_sorts("age"))
		order = (x->created_ms > y->created_ms) - (x->created_ms < y->created_ms);
	else if (view_filter_sorts("idle"))
		order = (x->used_ms > y->used_ms) - (x->used_ms < y->used_ms);
	return order ? order : (x->slot > y->slot) - (x->slot < y->slot);
}

static void choose_refs(struct sb__session_detail *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->ref_count; i++)
		if (!view_filter.type || fnmatch(view_filter.type, d->refs[i].type_name, 0) == 0)
			d->refs[kept++] = d->refs[i];
	d->ref_count = kept;
	if (kept)
		qsort(d->refs, kept, sizeof(*d->refs), by_row);
}

int view_refs(struct sb__inspect *inspect, const char *id)
{
	static struct sb__session_detail d;
	int status = TOOL_EXIT_OK, r;

	r = sb__inspect_session(inspect, id, &d);
	if (r <= 0)
		return r < 0 ? tool_report(&inspect_tool, sb_last_error()) : view_no_session(inspect, id);
	choose_refs(&d);
	if (inspect_common.json && !inspect_common.quiet) {
		json_t *root = view_begin("refs"), *list = json_array();

		render_text(root, "session", d.session.rec.session_id);
		render_id(root, "incarnation", d.session.rec.incarnation);
		for (size_t i = 0; i < d.ref_count; i++)
			json_array_append_new(list, view_ref_json(&d.refs[i], d.now_ms));
		json_object_set_new(root, "refs", list);
		render_number(root, "refs_torn", d.refs_torn);
		status = render_line(&inspect_tool, root);
	} else if (!inspect_common.quiet) {
		view_refs_text(&d);
	}
	sb__session_detail_free(&d);
	return status;
}
