/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-reaper: tidies what dead processes, expired sessions and earlier boots left in a bridge. Once, or in the
 * foreground for ever. It is no process of the bridge: it takes no slot, and knows no Python.
 *
 * Crash: a sweep may be killed anywhere; the next one finishes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "layout.h"
#include "notify.h"
#include "options.h"
#include "os_linux.h"
#include "output.h"
#include "render.h"
#include "report.h"
#include "sweep.h"
#include "watch.h"

#define FILES_EVERY_MS 60000 /* how often a daemon looks for orphan files too, unless told otherwise */
#define RESCAN_MS      250   /* how soon a process that just attached is watched */
#define WATCHED_MAX \
	512 /* pidfds: half of the usual limit of descriptors; whether others live is asked 4 times a second */
#define ALONE_MAX 8    /* of those that die at once are tidied after alone, the others by the whole pass */
#define AWAIT_MS  1000 /* how often --wait looks for the bridge */
#define STAMP     "files-pass" /* in the boot directory: when files were last looked through, as its mtime */

static struct tool_common common = TOOL_COMMON_INIT;
static bool once, dry_run, await_bridge;
static int64_t interval_ms, budget_ms, files_every_ms = -1;

static const struct tool_option own[] = {
	{ .name = "once",
	  .letter = '1',
	  .help = "make one pass and exit (the default)",
	  .type = TOOL_FLAG,
	  .target = &once },
	{ .name = "interval",
	  .letter = 'i',
	  .argument = "SECONDS",
	  .help = "stay in the foreground; make a pass this often, and at once when a process of the "
	          "bridge dies. SIGTERM and SIGINT end it",
	  .type = TOOL_SECONDS,
	  .target = &interval_ms,
	  .min = 10,
	  .max = 86400000 },
	{ .name = "wait",
	  .letter = 'w',
	  .help = "with --interval: if there is no bridge (any more), wait for one instead of giving up",
	  .type = TOOL_FLAG,
	  .target = &await_bridge },
	{ .name = "files-every",
	  .letter = 'f',
	  .argument = "SECONDS",
	  .help = "look for orphan files only if that was last done this long ago. It is the one part of a "
	          "pass "
	          "whose cost grows with what lives, not with what died (default: 0, in every pass, with "
	          "--once; "
	          "60 with --interval)",
	  .type = TOOL_SECONDS,
	  .target = &files_every_ms,
	  .max = 86400000 },
	{ .name = "dry-run",
	  .letter = 'n',
	  .help = "show what would be done, change nothing",
	  .type = TOOL_FLAG,
	  .target = &dry_run },
	{ .name = "budget-ms",
	  .argument = "MS",
	  .help = "end a pass after about this many milliseconds; the next one continues (default: no limit)",
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
	.about =
		"Cleans up a bridge: removes what dead processes left (owner records, lanes, sessions "
		"without owners, files) and "
		"ends expired sessions. It never touches what belongs to a living process. Each action is "
		"reported "
		"with its evidence: who died, and how that was established.\n"
		"Run it as a service (sb-reaper.service, --interval), from a timer or cron (sb-reaper.timer, "
		"--once --files-every), or by hand.",
	.groups = groups,
	.exits = "0  done, whether or not there was anything to do\n"
		 "2  the command line is wrong\n"
		 "3  there is no bridge, or it cannot be used\n"
		 "4  the bridge was made by another version\n"
		 "5  the bridge's data is damaged\n",
	.environment = TOOL_ENVIRONMENT
	"NOTIFY_SOCKET    where a service manager listens: with --interval it is told READY=1, STATUS=,\n"
	"                 WATCHDOG=1 (as often as WATCHDOG_USEC asks) and STOPPING=1, see sd_notify(3)\n",
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
	render_number(o, "visited", result->visited);
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
	struct sb__store *store; /* NULL: none open */
	struct sb__watch *watch;
	unsigned alone;       /* how many deaths of this wake-up were tidied after alone */
	int alone_status;     /* what came of telling of them */
	uint64_t files_ms;    /* sb__now_ms() of the next file pass */
	uint64_t watchdog_ms; /* how often the service manager wants to hear of us; 0: never */
	uint64_t told_ms;     /* sb__now_ms() when it last did */
	bool ready;           /* the service manager knows that we are up */
	bool gone;            /* there is no bridge (any more); the error record says so */
	int signals;
};

static struct sb__sweep_options pass_options(struct pass *pass)
{
	return (struct sb__sweep_options){
		.dry_run = dry_run, .budget_ms = (uint32_t)budget_ms, .report = report, .arg = pass
	};
}

static void summarize(struct pass *pass, bool always)
{
	if (pass->status != TOOL_EXIT_OK || common.quiet ||
	    (!always && sb__sweep_actions(&pass->result) == 0 && pass->result.failed == 0))
		return;
	if (common.json)
		pass->status = summary_json(&pass->result);
	else if (!common.no_legend)
		summary_text(&pass->result);
}

/* One pass; files: also what costs by the number of files. Returns an exit status, of telling of deaths before it, too. */
static int make_pass(struct reaper *reaper, bool files, bool summary, struct sb__sweep_result *ret)
{
	struct pass pass = { .status = reaper->alone_status };
	struct sb__sweep_options options = pass_options(&pass);
	int r;

	reaper->alone_status = TOOL_EXIT_OK;
	options.files = files;
	r = sb__reaper_sweep(reaper->store, &reaper->dir, &options, &pass.result);
	*ret = pass.result;
	if (r < 0)
		return tool_report(&tool, sb_last_error());
	summarize(&pass, summary);
	if (pass.status != TOOL_EXIT_OK)
		return pass.status;
	return pass.result.damaged ? TOOL_EXIT_CORRUPT : TOOL_EXIT_OK;
}

/* ── the file pass ── */

/* With --once nobody remembers when it was last made but the bridge. A clock set back makes it due. */
static bool files_due_by_stamp(const struct reaper *reaper)
{
	int64_t now_ms = sb__wall_ms(), then_ms;
	struct stat st;

	if (files_every_ms <= 0 || sb__os_statat(reaper->dir.boot, STAMP, &st) < 0)
		return true;
	then_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	return now_ms < then_ms || now_ms - then_ms >= files_every_ms;
}

/* Emptying a file sets its time. A stamp that cannot be written costs a pass more, no less. */
static void stamp_files(const struct reaper *reaper)
{
	int fd = dry_run ? -1 : sb__os_open_own(reaper->dir.boot, STAMP, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd >= 0)
		sb__os_close(fd);
}

static int pass_once(struct reaper *reaper)
{
	struct sb__sweep_result result;
	bool files = files_due_by_stamp(reaper);
	int status = make_pass(reaper, files, true, &result);

	if (files && result.complete)
		stamp_files(reaper);
	return status;
}

/* ── staying ── */

static void notify_status(struct reaper *reaper, const char *status)
{
	char message[64];

	snprintf(message, sizeof(message), "%sSTATUS=%s", reaper->ready ? "" : "READY=1\n", status);
	notify_send(message);
	reaper->ready = true;
	reaper->told_ms = sb__now_ms();
}

static void notify_alive(struct reaper *reaper)
{
	if (reaper->watchdog_ms == 0 || sb__now_ms() - reaper->told_ms < reaper->watchdog_ms)
		return;
	notify_send("WATCHDOG=1");
	reaper->told_ms = sb__now_ms();
}

static int slice_ms(const struct reaper *reaper, uint64_t left_ms)
{
	uint64_t slice = left_ms < RESCAN_MS ? left_ms : RESCAN_MS;

	if (reaper->watchdog_ms != 0 && slice > reaper->watchdog_ms)
		slice = reaper->watchdog_ms;
	return (int)slice;
}

/* Who is seen to die is tidied after at once: the pass that follows asks about every process first, and tells what goes wrong
 * here, too. */
static void tidy_after(void *arg, uint32_t slot, uint32_t generation)
{
	struct reaper *reaper = arg;
	struct pass pass = { .status = TOOL_EXIT_OK };
	struct sb__identity dead = { .slot = slot, .generation = generation };
	struct sb__sweep_options options = pass_options(&pass);

	if (dry_run || reaper->alone++ >= ALONE_MAX)
		return;
	options.only = &dead;
	if (sb__reaper_sweep(reaper->store, &reaper->dir, &options, &pass.result) == 0)
		summarize(&pass, false);
	if (pass.status != TOOL_EXIT_OK)
		reaper->alone_status = pass.status;
	notify_alive(reaper);
}

/* Until the time is over or a process of the bridge dies: true; a signal: false. */
static bool wait_for_work(struct reaper *reaper, uint64_t timeout_ms)
{
	uint64_t until_ms = sb__now_ms() + timeout_ms;

	for (;;) {
		uint64_t now = sb__now_ms();
		bool dead = sb__watch_update(reaper->watch, reaper->store, &reaper->dir);
		enum sb__watch_result result;

		reaper->alone = 0;
		result = sb__watch_wait(reaper->watch, reaper->signals,
		                        dead || now >= until_ms ? 0 : slice_ms(reaper, until_ms - now),
		                        tidy_after, reaper);
		notify_alive(reaper);
		if (result == SB__WATCH_FD)
			return false;
		if (dead || result == SB__WATCH_DEATH || sb__now_ms() >= until_ms)
			return true;
	}
}

static int start_waiting(struct reaper *reaper)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	reaper->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (reaper->signals < 0)
		return sb__fail_errno(SB_ESYSTEM, errno, "signals cannot be waited for");
	reaper->watchdog_ms = notify_watchdog_ms();
	return 0;
}

/* Passes until a signal (TOOL_EXIT_OK), a failure, or the bridge is gone. */
static int keep_tidy(struct reaper *reaper)
{
	struct sb__sweep_result result;
	bool again = false;
	int status;

	do {
		bool files = sb__now_ms() >= reaper->files_ms;

		if (sb__bridge_dir_vanished(&reaper->dir)) {
			reaper->gone = true;
			return sb__fail(SB_ENOBRIDGE, "the bridge in %s was removed", reaper->dir.path);
		}
		status = make_pass(reaper, files, false, &result);
		if (status != TOOL_EXIT_OK && status != TOOL_EXIT_CORRUPT) {
			reaper->gone = await_bridge; /* removed under the pass, most likely: look again */
			return status;
		}
		if (files && result.complete) {
			reaper->files_ms = sb__now_ms() + (uint64_t)files_every_ms;
			stamp_files(reaper);
		}
		/* What was cut short goes on at once; what was done may have brought more to light, once. */
		again = !dry_run && sb__sweep_actions(&result) > 0 && (!result.complete || !again);
		notify_alive(reaper);
	} while (wait_for_work(reaper, again ? 0 : (uint64_t)interval_ms));
	return TOOL_EXIT_OK;
}

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

static void close_bridge(struct reaper *reaper)
{
	if (!reaper->store)
		return;
	sb__watch_free(reaper->watch);
	sb__store_close(reaper->store);
	sb__bridge_dir_close(&reaper->dir);
	reaper->watch = NULL;
	reaper->store = NULL;
}

/* What a bridge that is being made or removed at this moment looks like. One that stays so is looked at again and
 * again, which the status says. */
static bool half_made(int code)
{
	return code == SB_ESTORE || code == SB_ESYSTEM || code == SB_ECORRUPT || code == SB_EDIR;
}

/* One bridge's time. */
static int tidy_bridge(struct reaper *reaper)
{
	int status = open_bridge(reaper);

	if (status < 0) {
		reaper->gone = status == SB_ENOBRIDGE || (await_bridge && half_made(status));
		return reaper->gone && await_bridge ? status : tool_report(&tool, sb_last_error());
	}
	reaper->files_ms = 0;
	(void)sb__os_slice_shorten(SB__SLICE_TELLS_NS);
	reaper->watch = sb__watch_new(WATCHED_MAX);
	if (reaper->watch) {
		notify_status(reaper, "tidying");
		status = keep_tidy(reaper);
		if (reaper->gone && !await_bridge)
			status = tool_report(&tool, sb_last_error());
	} else {
		sb__fail_memory("the list of watched processes");
		status = tool_report(&tool, sb_last_error());
	}
	close_bridge(reaper);
	return status;
}

static int stay(struct reaper *reaper)
{
	int status;

	if (start_waiting(reaper) < 0)
		return tool_report(&tool, sb_last_error());
	for (;;) {
		reaper->gone = false;
		status = tidy_bridge(reaper);
		if (!reaper->gone || !await_bridge)
			break;
		notify_status(reaper, "waiting for a bridge");
		if (sb__os_poll_fd(reaper->signals, slice_ms(reaper, AWAIT_MS)) != 0) {
			status = TOOL_EXIT_OK;
			break;
		}
		notify_alive(reaper);
	}
	notify_send("STOPPING=1");
	return status;
}

int main(int argc, char **argv)
{
	static struct reaper reaper;
	int status;

	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	if (optind < argc)
		return tool_usage(&tool, "sb-reaper takes no operand: '%s'", argv[optind]);
	if (once && interval_ms > 0)
		return tool_usage(&tool, "--once and --interval exclude each other");
	if (await_bridge && interval_ms == 0)
		return tool_usage(&tool, "--wait goes with --interval");
	if (common.timeout_ms > 0 && interval_ms > 0)
		return tool_usage(&tool, "--timeout goes with one pass, not with --interval");
	if (files_every_ms < 0)
		files_every_ms = interval_ms > 0 ? FILES_EVERY_MS : 0;
	if (interval_ms > 0)
		return stay(&reaper);
	render_deadline(common.timeout_ms,
	                "sb-reaper: gave up: the bridge did not answer in time; is a process of "
	                "it stopped in mid-write?\n");
	if (open_bridge(&reaper) < 0)
		return tool_report(&tool, sb_last_error());
	status = pass_once(&reaper);
	close_bridge(&reaper);
	return tool_finish(&tool, status);
}
