/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-reaper: tidies what dead processes, expired sessions and earlier boots left in a bridge. Once, or in the
 * foreground for ever. It is no process of the bridge: it takes no slot, and knows no Python.
 *
 * Crash: a sweep may be killed anywhere; the next one finishes it.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "layout.h"
#include "options.h"
#include "os_linux.h"
#include "render.h"
#include "report.h"
#include "sweep.h"

#define WATCHED_MAX    512   /* processes that a pidfd is kept for: half of the usual limit of descriptors */
#define FILES_EVERY_MS 60000 /* how often a sweep in which nobody died looks for orphan files too */

static struct tool_common common = TOOL_COMMON_INIT;
static bool once, dry_run;
static int64_t interval_ms, budget_ms;

static const struct tool_option own[] = {
	{ .name = "once",
	  .letter = '1',
	  .help = "make one pass and exit (the default)",
	  .type = TOOL_FLAG,
	  .target = &once },
	{ .name = "interval",
	  .letter = 'i',
	  .argument = "SECONDS",
	  .help = "stay in the foreground and make a pass this often, and at once when a process of the "
	          "bridge dies; "
	          "SIGTERM and SIGINT end it",
	  .type = TOOL_SECONDS,
	  .target = &interval_ms,
	  .min = 10,
	  .max = 86400000 },
	{ .name = "dry-run",
	  .letter = 'n',
	  .help = "say what would be done, change nothing",
	  .type = TOOL_FLAG,
	  .target = &dry_run },
	{ .name = "budget-ms",
	  .argument = "MS",
	  .help = "end a pass after about this many milliseconds; the next one goes on (default: no limit)",
	  .type = TOOL_WHOLE,
	  .target = &budget_ms,
	  .min = 1,
	  .max = 3600000 },
	{ 0 },
};
static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(common), { 0 } };
static const struct tool_group groups[] = { { "Options", own }, { "Common options", shared }, { 0 } };
static const struct tool tool = {
	.name = "sb-reaper",
	.usage = "[options]",
	.about = "Tidies a bridge: removes what dead processes left (owner records, lanes, sessions without "
		 "owners, files), "
		 "ends expired sessions, and never touches what a living process has.",
	.groups = groups,
	.exits = "0  done, whether there was something to tidy or not\n"
		 "2  usage\n"
		 "3  there is no bridge, or it cannot be used\n"
		 "4  the bridge is of another version\n"
		 "5  the bridge is damaged\n",
	.environment = TOOL_ENVIRONMENT,
	.common = &common,
};

/* ── telling ── */

static json_t *action_json(const struct sb__verdict *v)
{
	json_t *o = json_object();

	render_number(o, "schema", 1);
	render_text(o, "action", sb__verdict_kind_name(v->kind));
	if (dry_run)
		json_object_set_new(o, "dry_run", json_true());
	if (v->session_id[0])
		render_text(o, "session", v->session_id);
	if (v->uid)
		render_id(o, "session_uid", v->uid);
	if (v->incarnation)
		render_id(o, "incarnation", v->incarnation);
	if (v->kind == SB__VERDICT_PROCESS_DEAD || v->kind == SB__VERDICT_OWNER_REMOVED ||
	    v->kind == SB__VERDICT_LANES_RECLAIMED) {
		render_number(o, "slot", v->slot);
		render_number(o, "generation", v->generation);
	}
	if (v->pid)
		json_object_set_new(o, "pid", json_integer(v->pid));
	if (v->kind == SB__VERDICT_OWNER_REMOVED)
		render_number(o, "handle", v->handle);
	if (v->kind == SB__VERDICT_LANES_RECLAIMED)
		render_number(o, "lanes", v->count);
	if (v->kind == SB__VERDICT_READERS_CLEARED)
		render_number(o, "readers", v->count);
	if (v->file) {
		render_text(o, "folder", sb__folder_name(v->file->folder));
		render_text(o, "file", v->file->name);
		render_text(o, "file_kind", sb__file_kind_name(v->file->kind));
	}
	if (v->boot)
		render_text(o, "boot", v->boot);
	render_text(o, "evidence", v->evidence);
	if (v->code) {
		render_text(o, "error", sb_error_name(v->code));
		if (v->kind != SB__VERDICT_RECORD_UNREADABLE)
			render_text(o, "message", sb_last_error()->message);
	}
	return o;
}

static void action_text(const struct sb__verdict *v)
{
	printf("%-20s", sb__verdict_kind_name(v->kind));
	if (v->kind == SB__VERDICT_LANES_RECLAIMED)
		printf(" %" PRIu32 " of", v->count);
	if (v->kind == SB__VERDICT_READERS_CLEARED)
		printf(" %" PRIu32, v->count);
	if (v->session_id[0])
		printf(" session \"%s\"", v->session_id);
	if (v->file)
		printf(" %s/%s", sb__folder_name(v->file->folder), v->file->name);
	if (v->boot)
		printf(" %s", v->boot);
	if (v->pid && v->kind != SB__VERDICT_SESSION_RELEASED)
		printf(" pid %" PRId32, v->pid);
	printf("%s %s", v->kind == SB__VERDICT_RECORD_UNREADABLE ? "" : ":", v->evidence);
	if (v->code && v->kind != SB__VERDICT_RECORD_UNREADABLE)
		printf(" — failed: %s", sb_last_error()->message);
	putchar('\n');
}

/* A pass and what is told of it. */
struct pass {
	struct sb__sweep_result result;
	int status; /* of writing */
};

static void report(void *arg, const struct sb__verdict *v)
{
	struct pass *pass = arg;

	if (common.quiet)
		return;
	if (!common.json)
		action_text(v);
	else if (pass->status == TOOL_EXIT_OK)
		pass->status = render_line(&tool, action_json(v));
}

static int summary_json(const struct sb__sweep_result *result)
{
	json_t *o = json_object(), *counts = json_object();

	render_number(o, "schema", 1);
	render_text(o, "action", "summary");
	json_object_set_new(o, "dry_run", json_boolean(dry_run));
	json_object_set_new(o, "complete", json_boolean(result->complete));
	render_number(o, "actions", sb__sweep_actions(result));
	render_number(o, "failed", result->failed);
	for (unsigned kind = 0; kind < SB__VERDICT_KINDS; kind++)
		render_number(counts, sb__verdict_kind_name(kind), result->counts[kind]);
	json_object_set_new(o, "counts", counts);
	render_number(o, "elapsed_ms", result->elapsed_ms);
	return render_line(&tool, o);
}

static void summary_text(const struct sb__sweep_result *result)
{
	uint32_t actions = sb__sweep_actions(result);

	if (actions == 0 && result->failed == 0)
		printf("nothing to do\n");
	else
		printf("%" PRIu32 " %s %s", actions, actions == 1 ? "action" : "actions",
		       dry_run ? "would be done" : "done");
	if (result->failed > 0)
		printf(", %" PRIu32 " failed", result->failed);
	if (actions > 0 || result->failed > 0)
		putchar('\n');
	if (!result->complete)
		printf("out of time: there is more to do\n");
	fflush(stdout);
}

/* ── passes ── */

struct reaper {
	struct sb__bridge_dir dir;
	struct sb__store *store;
	uint64_t files_ms; /* sb__now_ms() of the next file pass */
	struct {
		uint32_t generation;
		bool seen; /* a pidfd was opened for this generation, or could not be */
		int fd;    /* -1: none */
	} watched[SB__SLOTS_MAX];
	int signals;
};

/* One pass; files: also what costs by the number of files. Returns an exit status. */
static int make_pass(struct reaper *reaper, bool files, bool summary, struct sb__sweep_result *ret)
{
	struct pass pass = { .status = TOOL_EXIT_OK };
	struct sb__sweep_options options = { .dry_run = dry_run,
		                             .files = files,
		                             .budget_ms = (uint32_t)budget_ms,
		                             .report = report,
		                             .arg = &pass };
	int r = sb__reaper_sweep(reaper->store, &reaper->dir, &options, &pass.result);

	*ret = pass.result;
	if (r < 0)
		return tool_report(&tool, sb_last_error());
	if (pass.status == TOOL_EXIT_OK && !common.quiet &&
	    (summary || sb__sweep_actions(&pass.result) > 0 || pass.result.failed > 0)) {
		if (common.json)
			pass.status = summary_json(&pass.result);
		else if (!common.no_legend)
			summary_text(&pass.result);
	}
	if (pass.status != TOOL_EXIT_OK)
		return pass.status;
	return pass.result.damaged ? TOOL_EXIT_CORRUPT : TOOL_EXIT_OK;
}

/* ── waiting ── */

static void watch_one(struct reaper *reaper, const struct sb__identity *identity, unsigned *open)
{
	uint32_t slot = identity->slot;
	int fd;

	if (slot >= SB__SLOTS_MAX ||
	    (reaper->watched[slot].seen && reaper->watched[slot].generation == identity->generation))
		return;
	if (reaper->watched[slot].fd >= 0) {
		sb__os_close(reaper->watched[slot].fd);
		--*open;
	}
	reaper->watched[slot].fd = -1;
	if (*open >= WATCHED_MAX)
		return; /* the interval serves it */
	fd = sb__os_pidfd_open(identity->pid);
	/* Asked after the descriptor was opened: alive then, so the descriptor is of that very process. */
	if (fd >= 0 && sb__liveness_check(reaper->dir.life_fd, identity).verdict != SB__ALIVE) {
		sb__os_close(fd);
		fd = -1;
	}
	*open += fd >= 0;
	reaper->watched[slot].fd = fd;
	reaper->watched[slot].generation = identity->generation;
	reaper->watched[slot].seen = true;
}

static void watch_processes(struct reaper *reaper)
{
	struct sb__identity *ids = NULL;
	unsigned open = 0;
	size_t count = 0;

	if (sb__store_processes(reaper->store, &ids, &count) < 0)
		return;
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX; slot++)
		open += reaper->watched[slot].fd >= 0;
	for (size_t i = 0; i < count; i++)
		watch_one(reaper, &ids[i], &open);
	free(ids);
}

/* Until the time is over, a watched process ends, or a signal comes: then false. */
static bool wait_for_work(struct reaper *reaper, int timeout_ms)
{
	struct pollfd fds[WATCHED_MAX + 1] = { { .fd = reaper->signals, .events = POLLIN } };
	uint32_t slots[WATCHED_MAX + 1];
	nfds_t count = 1;

	watch_processes(reaper);
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX && count <= WATCHED_MAX; slot++) {
		if (reaper->watched[slot].fd < 0)
			continue;
		slots[count] = slot;
		fds[count++] = (struct pollfd){ .fd = reaper->watched[slot].fd, .events = POLLIN };
	}
	if (poll(fds, count, timeout_ms) < 0 && errno != EINTR)
		return false;
	for (nfds_t i = 1; i < count; i++) {
		if (fds[i].revents == 0)
			continue;
		sb__os_close(fds[i].fd);
		reaper->watched[slots[i]].fd = -1;
	}
	return fds[0].revents == 0;
}

static int start_waiting(struct reaper *reaper)
{
	sigset_t set;

	for (uint32_t slot = 0; slot < SB__SLOTS_MAX; slot++)
		reaper->watched[slot].fd = -1;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	reaper->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return reaper->signals < 0 ? sb__fail_errno(SB_ESYSTEM, errno, "signals cannot be waited for") : 0;
}

/* The directory was removed: its files are of no use to anybody any more. */
static bool vanished(const struct reaper *reaper)
{
	struct stat st;

	return sb__os_fstat(reaper->dir.boot, &st) == 0 && st.st_nlink == 0;
}

static int stay(struct reaper *reaper)
{
	struct sb__sweep_result result;
	bool files = true, go_on;
	int status;

	if (start_waiting(reaper) < 0)
		return tool_report(&tool, sb_last_error());
	do {
		if (vanished(reaper)) {
			sb__fail(SB_ENOBRIDGE, "the bridge in %s was removed", reaper->dir.path);
			return tool_report(&tool, sb_last_error());
		}
		files = files || sb__now_ms() >= reaper->files_ms;
		status = make_pass(reaper, files, false, &result);
		if (status != TOOL_EXIT_OK && status != TOOL_EXIT_CORRUPT)
			return status;
		if (files)
			reaper->files_ms = sb__now_ms() + FILES_EVERY_MS;
		/* What was done may have uncovered files; what was cut short goes on at once. */
		files = !result.complete || sb__sweep_actions(&result) > 0;
		go_on = !result.complete && !dry_run && sb__sweep_actions(&result) > 0;
	} while (wait_for_work(reaper, go_on ? 0 : (int)interval_ms));
	return TOOL_EXIT_OK;
}

/* ── */

static int open_bridge(struct reaper *reaper)
{
	int r = sb__bridge_dir_open(common.dir, false, &reaper->dir);

	if (r < 0)
		return r;
	r = sb__store_open(reaper->dir.boot, false, sb__layout_fingerprint(), &reaper->store);
	if (r < 0)
		sb__bridge_dir_close(&reaper->dir);
	return r;
}

int main(int argc, char **argv)
{
	static struct reaper reaper;
	struct sb__sweep_result result;
	int status;

	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	if (optind < argc)
		return tool_usage(&tool, "sb-reaper takes no operand: '%s'", argv[optind]);
	if (once && interval_ms > 0)
		return tool_usage(&tool, "--once and --interval exclude each other");
	if (interval_ms == 0)
		render_deadline(common.timeout_ms,
		                "sb-reaper: gave up: the bridge did not answer in time; is a process of "
		                "it stopped in mid-write?\n");
	if (open_bridge(&reaper) < 0)
		return tool_report(&tool, sb_last_error());
	status = interval_ms > 0 ? stay(&reaper) : make_pass(&reaper, true, true, &result);
	sb__store_close(reaper.store);
	sb__bridge_dir_close(&reaper.dir);
	return status;
}
