/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect: shows a bridge, its processes, sessions, owners, calls and refs. Only looks: takes no slot, no
 * write transaction, and knows no Python. This file: the command line, the bridge, its processes, soundness.
 *
 * Crash: leaves at most an LMDB reader slot, which the next reaper pass clears.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "happened.h"
#include "names.h"
#include "options.h"
#include "output.h"
#include "rates.h"
#include "render.h"
#include "report.h"
#include "snapshot.h"
#include "view.h"

struct tool_common inspect_common = TOOL_COMMON_INIT;

static bool check, metrics, watch;

static const struct tool_option own[] = {
	{ .name = "check",
	  .letter = 'c',
	  .help = "check that all records, indexes and mailboxes agree, and list what does not",
	  .type = TOOL_FLAG,
	  .target = &check },
	{ .name = "watch",
	  .letter = 'w',
	  .help = "show what the sessions are doing, every SECONDS (default 1), on a full screen if "
	          "stdout is a terminal; 'q', a signal or --timeout ends it",
	  .type = TOOL_FLAG,
	  .target = &watch },
	{ .name = "openmetrics",
	  .letter = 'm',
	  .help = "write metrics of the bridge and its sessions in the text format that Prometheus reads",
	  .type = TOOL_FLAG,
	  .target = &metrics },
	{ 0 },
};
/* clang-format off */
static const struct tool_option which_ones[] = {
	{ .name = "tag", .argument = "KEY[=VALUE]",
	  .help = "only sessions with this tag; if given several times, with all of them",
	  .type = TOOL_LIST, .target = &view_filter.tags },
	{ .name = "owner", .argument = "PID", .help = "only sessions that this process owns or serves",
	  .type = TOOL_WHOLE, .target = &view_filter.owner, .min = 1, .max = INT32_MAX },
	{ .name = "state", .argument = "STATE", .help = "only sessions that are starting, active or orphaned",
	  .type = TOOL_TEXT, .target = &view_filter.state },
	{ .name = "type", .argument = "PATTERN", .help = "only refs to objects of matching types, such as 'numpy.*'",
	  .type = TOOL_TEXT, .target = &view_filter.type },
	{ .name = "sort", .letter = 's', .argument = "KEY",
	  .help = "sessions by id, age, idle, state, owners, refs, lanes, calls or latency; owners by id, pid or age; "
		  "calls by age, id or pid; refs by id, type, age or idle",
	  .type = TOOL_TEXT, .target = &view_filter.sort },
	{ 0 },
};
/* clang-format on */
static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(inspect_common), { 0 } };
static const struct tool_group groups[] = { { "Options", own },
	                                    { "Filter and order", which_ones },
	                                    { "Events", view_events_options },
	                                    { "Common options", shared },
	                                    { 0 } };
const struct tool inspect_tool = {
	.name = "sb-inspect",
	.usage =
		"[options]\n[options] processes\n[options] sessions\n[options] session ID\n[options] owners\n"
		"[options] calls\n[options] refs ID\n[options] events\n--check [options]\n--openmetrics "
		"[options]\n--watch "
		"[options] [SECONDS]",
	.about = "Shows what is in a bridge, without changing anything and without waiting for anybody. Its "
		 "figures were read "
		 "within milliseconds, while the processes went on.\n"
		 "Without an operand it gives an overview. processes, sessions, owners and calls (those in "
		 "flight) list "
		 "what the bridge has; session ID shows one session with its owners, lanes and refs; refs ID "
		 "lists that "
		 "session's refs; events lists what happened to sessions, and why.",
	.groups = groups,
	.exits = "0  shown\n"
		 "1  there is no such session, or --check found something\n"
		 "2  the command line is wrong\n"
		 "3  there is no bridge, or it cannot be used\n"
		 "4  the bridge was made by another version\n"
		 "5  the bridge's data is damaged\n",
	.environment = TOOL_ENVIRONMENT,
	.examples = "sb-inspect calls --owner 4711\n"
		    "sb-inspect refs iris --type 'numpy.*' --sort idle\n"
		    "sb-inspect --watch 2\n"
		    "sb-inspect --check --quiet || sb-reaper --once\n",
	.common = &inspect_common,
};

/* ── the bridge ── */

static int overview_json(const struct sb__inspect *inspect, const struct sb__overview *o)
{
	json_t *root = view_begin("bridge"), *files = json_object(), *sessions = json_object();
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
		render_number(sessions, sb__session_state_name(state), o->sessions[state]);
	json_object_set_new(root, "sessions", sessions);
	render_number(root, "owners", o->owners);
	render_number(root, "dead_owners", o->dead_owners);
	render_number(root, "live_refs", o->live_refs);
	render_number(root, "in_flight_calls", o->queued + o->running);
	render_number(root, "queued_calls", o->queued);
	render_number(root, "running_calls", o->running);
	render_number(root, "claimed_lanes", o->lanes_claimed);
	render_number(root, "claimed_lanes_of_dead", o->claimed_lanes_of_dead);
	render_number(root, "torn_lanes", o->torn_lanes);
	for (unsigned kind = 0; kind < SB__FILE_KINDS; kind++)
		render_number(files, sb__file_kind_name(kind), o->files[kind]);
	json_object_set_new(root, "files", files);
	render_number(root, "orphan_files", o->orphan_files);
	render_number(root, "lmdb_readers", o->readers);
	render_number(root, "lmdb_readers_max", o->readers_max);
	render_number(root, "lmdb_readers_of_dead", o->readers_of_dead);
	render_number(root, "unreadable_mailboxes", o->unreadable);
	render_number(root, "free_bytes", o->fs_free_bytes);
	render_number(root, "arrays", o->arrays);
	render_number(root, "array_bytes", o->array_bytes);
	render_number(root, "array_arena_bytes", o->arena_bytes);
	render_number(root, "array_holds", o->holds);
	render_number(root, "array_holds_of_dead", o->holds_of_dead);
	return render_line(&inspect_tool, root);
}

static void overview_text(const struct sb__inspect *inspect, const struct sb__overview *o)
{
	char created[32];

	printf("bridge     %s\n", sb__inspect_path(inspect));
	printf("           schema %" PRIu32 ", layout %08" PRIx32 ", made %s by pid %" PRId32 "\n",
	       o->bridge.schema, o->bridge.layout_fingerprint,
	       view_wall(o->bridge.created_wall_ms, created, sizeof(created)), o->bridge.creator_pid);
	printf("processes  %" PRIu32 " alive, %" PRIu32 " dead", o->alive_processes, o->dead_processes);
	if (o->unsure_processes)
		printf(", %" PRIu32 " unsure", o->unsure_processes);
	printf("\nsessions   %" PRIu32 " active, %" PRIu32 " starting, %" PRIu32 " orphaned\n",
	       o->sessions[SB_SESSION_ACTIVE], o->sessions[SB_SESSION_STARTING],
	       o->sessions[SB_SESSION_ORPHANED]);
	printf("owners     %" PRIu64 ", %" PRIu64 " of them dead\n", o->owners, o->dead_owners);
	printf("refs       %" PRIu64 " live\n", o->live_refs);
	printf("lanes      %" PRIu64 " claimed, %" PRIu64 " of them by dead processes\n", o->lanes_claimed,
	       o->claimed_lanes_of_dead);
	printf("calls      %" PRIu64 " queued, %" PRIu64 " running\n", o->queued, o->running);
	printf("files      %" PRIu32 " mailboxes, %" PRIu32 " ref lists, %" PRIu32 " bells, %" PRIu32
	       " arenas, %" PRIu32 " temporary; %" PRIu32 " orphans\n",
	       o->files[SB__FILE_MAILBOX], o->files[SB__FILE_REFS], o->files[SB__FILE_BELL],
	       o->files[SB__FILE_ARENA], o->files[SB__FILE_TEMPORARY], o->orphan_files);
	printf("arrays     %" PRIu64 ", %" PRIu64 " KiB, in arenas of %" PRIu64 " KiB; %" PRIu32
	       " kept by others, %" PRIu32 " of them dead\n",
	       o->arrays, o->array_bytes >> 10, o->arena_bytes >> 10, o->holds, o->holds_of_dead);
	printf("lmdb       %" PRIu32 " of %" PRIu32 " readers; %" PRIu64 " MiB free in the file system\n",
	       o->readers, o->readers_max, o->fs_free_bytes >> 20);
	if (o->unreadable)
		printf("damage     %" PRIu32 " mailboxes cannot be read\n", o->unreadable);
	if (o->torn_lanes && !inspect_common.no_legend)
		printf("torn       %" PRIu64 " lanes moved while they were read\n", o->torn_lanes);
	if (!inspect_common.no_legend &&
	    (o->dead_processes || o->dead_owners || o->orphan_files || o->claimed_lanes_of_dead))
		printf("\nsb-reaper --once tidies what dead processes left.\n");
}

static int show_bridge(struct sb__inspect *inspect, const char *none)
{
	struct sb__overview overview;
	int status = TOOL_EXIT_OK;

	(void)none;
	if (sb__inspect_overview(inspect, &overview) < 0)
		return tool_report(&inspect_tool, sb_last_error());
	if (inspect_common.quiet)
		;
	else if (inspect_common.json)
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
	render_text(o, "liveness", sb__liveness_name(view->evidence));
	render_text(o, "evidence", view->evidence.how);
	render_number(o, "owners", view->owners);
	render_number(o, "serving_sessions", view->serving);
	render_number(o, "array_arena_bytes", view->arena_bytes);
	render_number(o, "arrays", view->arrays);
	render_number(o, "array_bytes", view->array_bytes);
	render_number(o, "arrays_only_others_keep", view->waiting);
	render_number(o, "array_holds", view->holds);
	render_id(o, "start_time_ticks", view->identity.start_time);
	render_id(o, "pid_namespace", view->identity.pid_ns);
	json_object_set_new(o, "joined_wall_ms", json_integer(view->identity.joined_wall_ms));
	return o;
}

static void processes_text(const struct sb__process_view *views, size_t count)
{
	static const char *const titles[] = { ">SLOT",   ">PID",     "PROGRAM",  "LIVENESS",
		                              ">OWNERS", ">SERVING", ">ARRAYS",  ">KIB",
		                              ">HOLDS",  "JOINED",   "EVIDENCE", NULL };
	struct render_table table;
	char joined[32];

	render_table_init(&table, titles);
	for (size_t i = 0; i < count; i++) {
		const struct sb__process_view *v = &views[i];

		render_cell(&table, "%" PRIu32 ".%" PRIu32, v->identity.slot, v->identity.generation);
		render_cell(&table, "%" PRId32, v->identity.pid);
		render_cell(&table, "%s", v->identity.program);
		render_cell(&table, "%s", sb__liveness_name(v->evidence));
		render_cell(&table, "%" PRIu32, v->owners);
		render_cell(&table, "%" PRIu32, v->serving);
		render_cell(&table, "%" PRIu64, v->arrays);
		render_cell(&table, "%" PRIu64, v->array_bytes >> 10);
		render_cell(&table, "%" PRIu32, v->holds);
		render_cell(&table, "%s", view_wall(v->identity.joined_wall_ms, joined, sizeof(joined)));
		render_cell(&table, "%s", v->evidence.how);
	}
	render_table_print(&table, !inspect_common.no_legend);
}

static int show_processes(struct sb__inspect *inspect, const char *none)
{
	struct sb__process_view *views = NULL;
	int status = TOOL_EXIT_OK;
	size_t count = 0;

	(void)none;
	if (sb__inspect_processes(inspect, &views, &count) < 0)
		return tool_report(&inspect_tool, sb_last_error());
	if (inspect_common.json) {
		json_t *root = view_begin("processes"), *list = json_array();

		for (size_t i = 0; i < count; i++)
			json_array_append_new(list, process_json(&views[i]));
		json_object_set_new(root, "processes", list);
		if (inspect_common.quiet)
			json_decref(root);
		else
			status = render_line(&inspect_tool, root);
	} else if (!inspect_common.quiet) {
		processes_text(views, count);
	}
	free(views);
	return status;
}

/* ── soundness ── */

static void problem(void *arg, const char *line)
{
	json_t *list = arg;
	json_t *text;

	if (inspect_common.quiet)
		return;
	if (!inspect_common.json) {
		puts(line);
		return;
	}
	text = json_string(line);
	json_array_append_new(list, text ? text : json_string("?"));
}

static int show_check(struct sb__inspect *inspect, const char *none)
{
	json_t *problems = json_array();
	int status = TOOL_EXIT_OK;
	int r = sb__inspect_check(inspect, problem, problems);

	(void)none;
	if (r < 0) {
		json_decref(problems);
		return tool_report(&inspect_tool, sb_last_error());
	}
	if (inspect_common.json && !inspect_common.quiet) {
		json_t *root = view_begin("check");

		json_object_set_new(root, "sound", json_boolean(r == 0));
		json_object_set_new(root, "problems", problems);
		status = render_line(&inspect_tool, root);
	} else {
		json_decref(problems);
		if (!inspect_common.quiet && !inspect_common.no_legend)
			printf("%d %s\n", r, r == 1 ? "problem" : "problems");
	}
	return r > 0 ? TOOL_EXIT_FINDINGS : status;
}

/* ── */

struct view {
	const char *name;
	const char *operand; /* NULL: takes none */
	int (*show)(struct sb__inspect *inspect, const char *operand);
	const char *filters, *sorts; /* see view_filter_valid() */
};

static const struct view views[] = {
	{ "processes", NULL, show_processes, "", NULL },
	{ "sessions", NULL, view_sessions, VIEW_SESSION_FILTERS, VIEW_SESSION_SORTS },
	{ "session", "ID", view_session, "", NULL },
	{ "owners", NULL, view_owners, VIEW_SESSION_FILTERS, "id pid age" },
	{ "calls", NULL, view_calls, VIEW_SESSION_FILTERS, "age id pid" },
	{ "refs", "ID", view_refs, "type", "id type age idle" },
	{ "events", NULL, view_events, "", NULL },
};
/* Without operands. */
static const struct view bridge_view = { "the bridge", NULL, show_bridge, "", NULL },
			 check_view = { "--check", NULL, show_check, "", NULL },
			 metrics_view = { "--openmetrics", NULL, view_metrics, VIEW_SESSION_FILTERS,
	                                  VIEW_SESSION_SORTS },
			 watch_view = { "--watch", NULL, view_watch, VIEW_SESSION_FILTERS, RATES_SORTS };

static bool take_interval(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	watch_interval_ms = seconds >= 0.05 && seconds <= 86400 ? (int64_t)(seconds * 1000) : 0;
	return end != text && *end == '\0' && watch_interval_ms;
}

/* --check, --openmetrics, --watch. NULL: a usage error was written. */
static const struct view *which_option(int count, char **operands)
{
	if (check + metrics + watch > 1)
		tool_usage(&inspect_tool, "--check, --openmetrics and --watch exclude each other");
	else if (watch && count > 1)
		tool_usage(&inspect_tool, "--watch takes one operand at most, SECONDS, not %d words", count);
	else if (watch && count && !take_interval(operands[0]))
		tool_usage(&inspect_tool, "--watch takes 0.05 to 86400 seconds, not '%s'", operands[0]);
	else if (!watch && count)
		tool_usage(&inspect_tool, "--%s shows the whole bridge: '%s' is one word too many",
		           check ? "check" : "openmetrics", operands[0]);
	else
		return watch ? &watch_view : check ? &check_view : &metrics_view;
	return NULL;
}

/* NULL: a usage error was written. */
static const struct view *which(int count, char **operands)
{
	if (check || metrics || watch)
		return which_option(count, operands);
	if (count == 0)
		return &bridge_view;
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
		const struct view *view = &views[i];

		if (strcmp(operands[0], view->name) != 0)
			continue;
		if (count == (view->operand ? 2 : 1) && (!view->operand || operands[1][0]))
			return view;
		tool_usage(&inspect_tool,
		           view->operand ? "%s takes the id of one session" : "%s takes no operand",
		           view->name);
		return NULL;
	}
	tool_usage(
		&inspect_tool,
		"unknown view '%s': say nothing, 'processes', 'sessions', 'session ID', 'owners', 'calls', "
		"'refs ID', 'events', --check, --openmetrics or --watch [SECONDS]",
		operands[0]);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sb__inspect *inspect;
	const struct view *view;
	int status;

	if (!tool_parse(&inspect_tool, argc, argv, &status))
		return status;
	view = which(argc - optind, argv + optind);
	if (!view || !view_filter_valid(view->name, view->filters, view->sorts))
		return TOOL_EXIT_USAGE;
	if (view_events_wanted() && view->show != view_events)
		return tool_usage(&inspect_tool, "--follow and --since go with 'events'");
	if (!watch && !view_events_follows())
		render_deadline(inspect_common.timeout_ms,
		                "sb-inspect: gave up: the bridge did not answer in time\n");
	if (sb__inspect_open(inspect_common.dir, &inspect) < 0)
		return tool_report(&inspect_tool, sb_last_error());
	status = view->show(inspect, view->operand ? argv[optind + 1] : NULL);
	sb__inspect_close(inspect);
	return tool_finish(&inspect_tool, status);
}
