/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect --openmetrics: the bridge in the text format that Prometheus and its kin read.
 *
 * Names and labels are a promise. Counters belong to an incarnation: they begin anew with the next one, as those of
 * a restarted process do.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "names.h"
#include "report.h"
#include "view.h"

static void family(const char *name, const char *type, const char *help)
{
	printf("# HELP snakebridge_%s %s\n# TYPE snakebridge_%s %s\n", name, help, name, type);
}

static void one(const char *name, const char *help, uint64_t number)
{
	family(name, "gauge", help);
	printf("snakebridge_%s %" PRIu64 "\n", name, number);
}

/* A label's value: backslash, quote and newline have to be escaped. */
static void label(const char *key, const char *value)
{
	printf("%s=\"", key);
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", stdout);
		else if (*value == '\\' || *value == '"')
			printf("\\%c", *value);
		else
			putchar(*value);
	}
	putchar('"');
}

static void labelled(const char *name, const char *key, const char *value, uint64_t number)
{
	printf("snakebridge_%s{", name);
	label(key, value);
	printf("} %" PRIu64 "\n", number);
}

static void bridge_metrics(const struct sb__overview *o)
{
	family("processes", "gauge", "Processes with a record, by whether they live.");
	labelled("processes", "liveness", "alive", o->alive_processes);
	labelled("processes", "liveness", "dead", o->dead_processes);
	labelled("processes", "liveness", "unsure", o->unsure_processes);
	family("sessions", "gauge", "Sessions by state.");
	for (uint32_t state = SB_SESSION_STARTING; state < SB_SESSION_ENDED; state++)
		labelled("sessions", "state", sb__session_state_name(state), o->sessions[state]);
	family("owners", "gauge", "Owner records of all sessions, by whether the process lives.");
	labelled("owners", "liveness", "alive", o->owners > o->dead_owners ? o->owners - o->dead_owners : 0);
	labelled("owners", "liveness", "dead", o->dead_owners);
	one("refs", "Live refs of all sessions.", o->live_refs);
	family("calls_in_flight", "gauge", "Calls that wait for the designated owner or run there.");
	labelled("calls_in_flight", "state", "queued", o->queued);
	labelled("calls_in_flight", "state", "running", o->running);
	family("lanes_claimed", "gauge", "Lanes that threads have claimed, by whether their process lives.");
	labelled("lanes_claimed", "liveness", "alive",
	         o->lanes_claimed > o->claimed_lanes_of_dead ? o->lanes_claimed - o->claimed_lanes_of_dead
	                                                     : 0);
	labelled("lanes_claimed", "liveness", "dead", o->claimed_lanes_of_dead);
	family("files", "gauge", "Shared-memory files by kind.");
	for (unsigned kind = 0; kind < SB__FILE_KINDS; kind++)
		labelled("files", "kind", sb__file_kind_name(kind), o->files[kind]);
	one("orphan_files", "Files that belong to nobody any more.", o->orphan_files);
	one("unreadable_mailboxes", "Mailboxes that are damaged.", o->unreadable);
	one("lmdb_readers", "LMDB reader slots in use, this tool's included.", o->readers);
	one("lmdb_readers_of_dead", "LMDB reader slots of dead processes.", o->readers_of_dead);
	one("lmdb_readers_max", "LMDB reader slots there are.", o->readers_max);
	one("free_bytes", "Free space in the bridge's file system.", o->fs_free_bytes);
}

/* A number of a session's view: 64 bits wide, or 32. */
static uint64_t number_at(const struct sb__session_view *v, size_t offset, size_t size)
{
	const char *at = (const char *)v + offset;
	uint64_t wide;
	uint32_t narrow;

	if (size == sizeof(wide)) {
		memcpy(&wide, at, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return narrow;
}

static void session_name(const char *name, const char *suffix, const struct sb__session_view *v)
{
	printf("snakebridge_session_%s%s{", name, suffix);
	label("session", v->rec.session_id);
	fputs("} ", stdout);
}

/* clang-format off */
#define NUMBER(field) offsetof(struct sb__session_view, field), sizeof(((struct sb__session_view *)0)->field)
static const struct {
	const char *name, *type, *help;
	size_t offset, size;
} metrics[] = {
	{ "owners", "gauge", "Owner records of the session.", NUMBER(rec.owner_count) },
	{ "refs", "gauge", "Live refs of the session.", NUMBER(mailbox.live_refs) },
	{ "refs_pinned", "gauge", "Refs that are pinned.", NUMBER(mailbox.pinned_refs) },
	{ "lanes_claimed", "gauge", "Lanes claimed in the session.", NUMBER(mailbox.lanes_claimed) },
	{ "calls_queued", "gauge", "Calls that wait for the designated owner.", NUMBER(mailbox.queued) },
	{ "calls_running", "gauge", "Calls that run.", NUMBER(mailbox.running) },
	{ "calls", "counter", "Calls that were answered.", NUMBER(mailbox.calls) },
	{ "refs_created", "counter", "Refs that were made.", NUMBER(mailbox.created_refs) },
	{ "refs_evicted", "counter", "Refs evicted because the session was full.", NUMBER(mailbox.evicted_refs) },
	{ "refs_expired", "counter", "Refs that expired.", NUMBER(mailbox.expired_refs) },
};
/* clang-format on */

static void session_metrics(const struct view_sessions *list)
{
	for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++) {
		printf("# HELP snakebridge_session_%s %s\n# TYPE snakebridge_session_%s %s\n",
		       metrics[m].name, metrics[m].help, metrics[m].name, metrics[m].type);
		for (size_t i = 0; i < list->count; i++) {
			session_name(metrics[m].name, metrics[m].type[0] == 'c' ? "_total" : "",
			             list->items[i]);
			printf("%" PRIu64 "\n",
			       number_at(list->items[i], metrics[m].offset, metrics[m].size));
		}
	}
	puts("# HELP snakebridge_session_service_seconds Time that answered calls took in the designated "
	     "owner.\n"
	     "# TYPE snakebridge_session_service_seconds counter\n"
	     "# UNIT snakebridge_session_service_seconds seconds");
	for (size_t i = 0; i < list->count; i++) {
		uint64_t ns = list->items[i]->mailbox.service_ns;

		session_name("service_seconds", "_total", list->items[i]);
		printf("%" PRIu64 ".%09" PRIu64 "\n", ns / 1000000000, ns % 1000000000);
	}
}

int view_metrics(struct sb__inspect *inspect, const char *none)
{
	struct view_sessions list = { .inspect = inspect };
	struct sb__overview overview;

	(void)none;
	if (sb__inspect_overview_sessions(inspect, &overview, view_sessions_keep, &list) < 0) {
		view_sessions_free(&list);
		return tool_report(&inspect_tool, sb_last_error());
	}
	if (!inspect_common.quiet) {
		view_sessions_sort(&list);
		bridge_metrics(&overview);
		session_metrics(&list);
		puts("# EOF");
	}
	view_sessions_free(&list);
	return TOOL_EXIT_OK;
}
