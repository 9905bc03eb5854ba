/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect events: shows the bridge's ring of events (src/shm/events.h), oldest first, one line each; with
 * --follow also what comes. Only reads; what was overwritten before it was shown is told as a gap.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include "happened.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bridge_dir.h"
#include "clock.h"
#include "events.h"
#include "fail.h"
#include "os_linux.h"
#include "render.h"
#include "report.h"
#include "view.h"

#define LOOK_MS    50 /* how often --follow looks */
#define PENDING_MS 10 /* and where a record is just being written */

static bool follow;
static int64_t since = -1;

const struct tool_option view_events_options[] = {
	{ .name = "follow",
	  .letter = 'f',
	  .help = "go on with what happens, until a signal or --timeout",
	  .type = TOOL_FLAG,
	  .target = &follow },
	{ .name = "since",
	  .argument = "NUMBER",
	  .help = "only events after that number, the last one already seen (default: 0, all that the ring "
	          "still has)",
	  .type = TOOL_WHOLE,
	  .target = &since,
	  .min = 0,
	  .max = INT64_MAX },
	{ 0 },
};

bool view_events_wanted(void)
{
	return follow || since >= 0;
}

bool view_events_follows(void)
{
	return follow;
}

/* ── telling ── */

static json_t *event_json(const struct sb__event *e)
{
	json_t *o = json_object();

	render_number(o, "schema", 1);
	render_text(o, "event", sb__event_kind_name(e->kind));
	render_number(o, "sequence", e->sequence);
	json_object_set_new(o, "wall_ms", json_integer(e->wall_ms));
	render_id(o, "mono_ns", e->mono_ns);
	json_object_set_new(o, "pid", json_integer(e->pid));
	if (e->subject_pid)
		json_object_set_new(o, "subject_pid", json_integer(e->subject_pid));
	if (e->session_id[0])
		render_text(o, "session", e->session_id);
	if (e->session_uid)
		render_id(o, "session_uid", e->session_uid);
	if (e->incarnation)
		render_id(o, "incarnation", e->incarnation);
	if (e->trace_id)
		render_id(o, "trace_id", e->trace_id);
	if (e->count)
		render_number(o, "count", e->count);
	render_text(o, "reason", e->reason);
	return o;
}

static void event_text(const struct sb__event *e)
{
	char wall[32];

	printf("%s.%03d  %6" PRIu64 "  %-8s", view_wall(e->wall_ms, wall, sizeof(wall)),
	       (int)(e->wall_ms % 1000), e->sequence, sb__event_kind_name(e->kind));
	if (e->session_id[0])
		printf(" \"%s\"", e->session_id);
	if (e->count)
		printf(" %" PRIu32, e->count);
	if (e->subject_pid)
		printf(" about pid %" PRId32, e->subject_pid);
	printf(", by pid %" PRId32 ": %s\n", e->pid, e->reason);
}

/* What the reader could not have since the last time. */
static int tell_gap(const struct sb__events_reader *reader, uint64_t *lost, uint64_t *torn)
{
	uint64_t more_lost = reader->lost - *lost, more_torn = reader->torn - *torn;
	json_t *o;

	if (more_lost + more_torn == 0 || inspect_common.quiet)
		return TOOL_EXIT_OK;
	*lost = reader->lost;
	*torn = reader->torn;
	if (!inspect_common.json) {
		printf("%" PRIu64 " events were overwritten before they could be shown, %" PRIu64
		       " never finished by their writers\n",
		       more_lost, more_torn);
		return TOOL_EXIT_OK;
	}
	o = json_object();
	render_number(o, "schema", 1);
	render_text(o, "event", "gap");
	render_number(o, "lost", more_lost);
	render_number(o, "torn", more_torn);
	return render_line(&inspect_tool, o);
}

static int tell(const struct sb__event *e)
{
	if (inspect_common.quiet)
		return TOOL_EXIT_OK;
	if (inspect_common.json)
		return render_line(&inspect_tool, event_json(e));
	event_text(e);
	return TOOL_EXIT_OK;
}

/* ── following ── */

static bool over(uint64_t until_ms)
{
	return until_ms != 0 && sb__now_ms() >= until_ms;
}

static void nap(long ms)
{
	struct timespec t = { 0, ms * 1000000 };

	nanosleep(&t, NULL);
}

static bool removed(const struct sb__bridge_dir *dir)
{
	struct stat st;

	return sb__os_fstat(dir->boot, &st) == 0 && st.st_nlink == 0;
}

/* Nobody has posted yet: waits for the first. 0 open, 1 none came, or an error. */
static int open_ring(const struct sb__bridge_dir *dir, uint64_t until_ms, struct sb__events *ret)
{
	int r;

	while ((r = sb__events_open(dir->boot, false, ret)) == 1 && follow && !over(until_ms) &&
	       !removed(dir))
		nap(LOOK_MS);
	return r;
}

static int show_ring(const struct sb__bridge_dir *dir, const struct sb__events *ring, uint64_t until_ms)
{
	struct sb__events_reader reader;
	struct sb__event event;
	uint64_t lost = 0, torn = 0;
	bool pending;
	int status;

	sb__events_reader_init(&reader, ring, since > 0 ? (uint64_t)since : 0);
	for (;;) {
		int got = sb__events_read(&reader, &event, &pending);

		status = tell_gap(&reader, &lost, &torn);
		if (status == TOOL_EXIT_OK && got == 1)
			status = tell(&event);
		if (status != TOOL_EXIT_OK)
			return status;
		if (over(until_ms))
			return TOOL_EXIT_OK;
		if (got == 1)
			continue;
		fflush(stdout);
		if (!pending && !follow)
			return TOOL_EXIT_OK;
		if (removed(dir)) {
			sb__fail(SB_ENOBRIDGE, "the bridge in %s was removed", dir->path);
			return tool_report(&inspect_tool, sb_last_error());
		}
		nap(pending ? PENDING_MS : LOOK_MS);
	}
}

int view_events(struct sb__inspect *inspect, const char *none)
{
	uint64_t until_ms = follow && inspect_common.timeout_ms
	                            ? sb__now_ms() + (uint64_t)inspect_common.timeout_ms
	                            : 0;
	struct sb__events ring = { .shm = NULL };
	struct sb__bridge_dir dir;
	int r, status;

	(void)none;
	r = sb__bridge_dir_open(sb__inspect_path(inspect), false, &dir);
	if (r < 0)
		return tool_report(&inspect_tool, sb_last_error());
	r = open_ring(&dir, until_ms, &ring);
	if (r < 0)
		status = tool_report(&inspect_tool, sb_last_error());
	else
		status = r == 1 ? TOOL_EXIT_OK : show_ring(&dir, &ring, until_ms);
	sb__events_close(&ring);
	sb__bridge_dir_close(&dir);
	return status;
}
