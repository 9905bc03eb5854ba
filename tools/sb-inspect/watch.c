/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-inspect --watch: what sessions do, again and again: rates.c counts, this draws, on a terminal or line by line.
 *
 * On a terminal: ncurses, 80 columns by 24 lines are enough. Keys: q ends, s sorts by the next key, space looks at
 * once. However it ends, the terminal is as it was: signals only set a flag.
 *
 * Locks: none. Crash: leaves nothing but, after SIGKILL, the terminal as it was drawn ("reset" mends it).
 */
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <ncurses.h>

#include "clock.h"
#include "fail.h"
#include "names.h"
#include "output.h"
#include "rates.h"
#include "render.h"
#include "report.h"
#include "view.h"

#define FIXED_WIDTH 51 /* of all columns but the session's name and the sparkline, with the gaps */
#define NAME_WIDTH  18
#define LINE_BYTES  512
#define FIRST_LINE  5 /* of sessions */
#define DEFAULT_MS  1000

int64_t watch_interval_ms = DEFAULT_MS;

static volatile sig_atomic_t ended_by;

static void note_signal(int number)
{
	ended_by = number;
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction act = { .sa_handler = note_signal }; /* without SA_RESTART: a wait ends */

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &act, NULL);
}

/* Once the terminal is restored: ends by that signal, so that whoever waits for us knows. */
static void pass_signal_on(void)
{
	if (!ended_by)
		return;
	signal(ended_by, SIG_DFL);
	raise(ended_by);
}

/* ── words ── */

/* "-" where there was no call. Returns text, RENDER_TIME_SIZE bytes. */
static const char *latency(const struct rate *rate, char *text)
{
	if (rate->calls_per_s <= 0)
		snprintf(text, RENDER_TIME_SIZE, "-");
	else if (rate->latency_us < 1000)
		snprintf(text, RENDER_TIME_SIZE, "%.0f us", rate->latency_us);
	else if (rate->latency_us < 1000000)
		snprintf(text, RENDER_TIME_SIZE, "%.1f ms", rate->latency_us / 1000);
	else
		snprintf(text, RENDER_TIME_SIZE, "%.1f s", rate->latency_us / 1000000);
	return text;
}

static const char *clock_time(char *text, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	if (!localtime_r(&now, &tm) || strftime(text, size, "%H:%M:%S", &tm) == 0)
		snprintf(text, size, "?");
	return text;
}

/* ── on a terminal ── */

/* Cut at the right margin: ncurses would go on in the next line. Names may not command the terminal. */
static void put_line(int y, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
static void put_line(int y, const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	mvaddnstr(y, 0, line, COLS);
}

/* The newest at the right. width: columns there are. */
static void put_spark(int y, int x, const struct rate *rate, int width)
{
	static const char *const blocks[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const marks[] = { " ", ".", ".", ":", "-", "=", "+", "*", "#" };
	const char *const *levels = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? blocks : marks;
	float most = 0;

	if (width > RATE_HISTORY)
		width = RATE_HISTORY;
	for (int i = 0; i < RATE_HISTORY; i++)
		most = rate->history[i] > most ? rate->history[i] : most;
	for (int i = 0; i < width; i++) {
		float part = most > 0 ? rate->history[RATE_HISTORY - width + i] / most : 0;

		mvaddstr(y, x + i, levels[part > 0 ? 1 + (int)(part * 7) : 0]);
	}
}

static void draw_heading(struct sb__inspect *inspect, const struct rates *r)
{
	const struct sb__overview *o = &r->overview;
	char text[RENDER_TIME_SIZE], now[16];

	put_line(0, "%s  every %.10g s  %s", clock_time(now, sizeof(now)), (double)watch_interval_ms / 1000,
	         sb__inspect_path(inspect));
	put_line(1,
	         "sessions %" PRIu32 " active, %" PRIu32 " starting, %" PRIu32 " orphaned; refs %" PRIu64
	         "; processes %" PRIu32 " alive, %" PRIu32 " dead",
	         o->sessions[SB_SESSION_ACTIVE], o->sessions[SB_SESSION_STARTING],
	         o->sessions[SB_SESSION_ORPHANED], o->live_refs, o->alive_processes, o->dead_processes);
	put_line(2, "calls %.1f/s, %s each; %" PRIu64 " queued, %" PRIu64 " running", r->total.calls_per_s,
	         latency(&r->total, text), o->queued, o->running);
	if (COLS > 60)
		put_spark(2, COLS - RATE_HISTORY > 58 ? COLS - RATE_HISTORY : 58, &r->total, COLS - 58);
	if (r->error[0])
		put_line(3, "cannot look: %s", r->error);
	else if (o->torn_lanes)
		put_line(3, "%" PRIu64 " lanes moved while they were read", o->torn_lanes);
	else if (o->dead_owners || o->orphan_files || o->claimed_lanes_of_dead)
		put_line(3, "left by the dead: %" PRIu64 " owners, %" PRIu64 " lanes, %" PRIu32 " files",
		         o->dead_owners, o->claimed_lanes_of_dead, o->orphan_files);
}

static void draw_session(int y, const struct rate *rate, int name_width)
{
	const struct sb__session_view *v = rate->view;
	char text[RENDER_TIME_SIZE];

	put_line(y, "%-*.*s %-8s %4" PRIu32 " %7" PRIu64 " %4" PRIu32 " %4" PRIu32 " %8.1f %8s", name_width,
	         name_width, v->rec.session_id, sb__session_state_name(v->rec.state), v->rec.owner_count,
	         v->mailbox.live_refs, v->mailbox.queued, v->mailbox.running, rate->calls_per_s,
	         latency(rate, text));
	if (COLS > name_width + FIXED_WIDTH)
		put_spark(y, name_width + FIXED_WIDTH, rate, COLS - name_width - FIXED_WIDTH);
}

static void draw(struct sb__inspect *inspect, const struct rates *r)
{
	int name_width = COLS > FIXED_WIDTH + NAME_WIDTH + RATE_HISTORY ? COLS - FIXED_WIDTH - RATE_HISTORY
	                                                                : NAME_WIDTH;
	int lines = LINES - FIRST_LINE - 1;

	erase();
	draw_heading(inspect, r);
	attron(A_REVERSE);
	put_line(4, "%-*s %-8s %4s %7s %4s %4s %8s %8s %*s", name_width, "SESSION", "STATE", "OWN", "REFS",
	         "WAIT", "RUN", "CALLS/S", "LATENCY",
	         COLS > name_width + FIXED_WIDTH ? COLS - name_width - FIXED_WIDTH : 0, "");
	attroff(A_REVERSE);
	for (int i = 0; i < lines && i < (int)r->count; i++)
		draw_session(FIRST_LINE + i, &r->items[i], name_width);
	put_line(LINES - 1, "q quit  s sort (by %s)  space now  %zu of %zu sessions", rates_sort_name(),
	         lines > 0 && r->count > (size_t)lines ? (size_t)lines : r->count, r->count);
	refresh();
}

/* Waits for a key until then. False: it is time to end. */
static bool wait_for_key(struct rates *r, uint64_t until_ms, bool *ret_redraw)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	uint64_t now = sb__now_ms();
	int key;

	*ret_redraw = false;
	(void)poll(&in, 1, until_ms > now ? (int)(until_ms - now) : 0);
	if (ended_by || in.revents & (POLLHUP | POLLERR | POLLNVAL))
		return false;
	while ((key = getch()) != ERR) { /* does not wait; tells of a new size, too */
		*ret_redraw = true;
		if (key == 'q' || key == 'Q')
			return false;
		if (key == 's' || key == 'S')
			rates_sort_next(r);
		if (key == ' ')
			r->due = true;
	}
	return true;
}

static void watch_terminal(struct sb__inspect *inspect, struct rates *r, uint64_t end_ms)
{
	bool going = true, redraw;

	while (going && !ended_by && sb__now_ms() < end_ms) {
		uint64_t next_ms = sb__now_ms() + (uint64_t)watch_interval_ms;

		rates_look(inspect, r);
		r->due = false;
		draw(inspect, r);
		while (going && !r->due && sb__now_ms() < next_ms && sb__now_ms() < end_ms) {
			going = wait_for_key(r, next_ms < end_ms ? next_ms : end_ms, &redraw);
			if (going && redraw)
				draw(inspect, r);
		}
	}
}

/* ── line by line ── */

static json_t *rate_json(const struct rate *rate)
{
	json_t *o = json_object();

	render_text(o, "session", rate->view->rec.session_id);
	render_text(o, "state", sb__session_state_name(rate->view->rec.state));
	render_number(o, "owners", rate->view->rec.owner_count);
	render_number(o, "live_refs", rate->view->mailbox.live_refs);
	render_number(o, "queued_calls", rate->view->mailbox.queued);
	render_number(o, "running_calls", rate->view->mailbox.running);
	json_object_set_new(o, "calls_per_s", json_real(rate->calls_per_s));
	json_object_set_new(o, "latency_us",
	                    rate->calls_per_s > 0 ? json_real(rate->latency_us) : json_null());
	return o;
}

static int print_json(const struct rates *r)
{
	json_t *root = view_begin("watch"), *list = json_array();

	json_object_set_new(root, "wall_ms", json_integer(sb__wall_ms()));
	json_object_set_new(root, "calls_per_s", json_real(r->total.calls_per_s));
	render_number(root, "queued_calls", r->overview.queued);
	render_number(root, "running_calls", r->overview.running);
	render_number(root, "torn_lanes", r->overview.torn_lanes);
	render_text(root, "error", r->error);
	for (size_t i = 0; i < r->count; i++)
		json_array_append_new(list, rate_json(&r->items[i]));
	json_object_set_new(root, "sessions", list);
	return render_line(&inspect_tool, root);
}

static int print_text(const struct rates *r)
{
	static const char *const titles[] = { "SESSION",  "STATE",    ">OWNERS",  ">REFS", ">QUEUED",
		                              ">RUNNING", ">CALLS/S", ">LATENCY", NULL };
	struct render_table table;
	char text[RENDER_TIME_SIZE], now[16];

	if (!inspect_common.no_legend)
		printf("%s  %.1f calls/s%s%s\n", clock_time(now, sizeof(now)), r->total.calls_per_s,
		       r->error[0] ? "  cannot look: " : "", r->error);
	render_table_init(&table, titles);
	for (size_t i = 0; i < r->count; i++) {
		const struct sb__session_view *v = r->items[i].view;

		render_cell(&table, "%s", v->rec.session_id);
		render_cell(&table, "%s", sb__session_state_name(v->rec.state));
		render_cell(&table, "%" PRIu32, v->rec.owner_count);
		render_cell(&table, "%" PRIu64, v->mailbox.live_refs);
		render_cell(&table, "%" PRIu32, v->mailbox.queued);
		render_cell(&table, "%" PRIu32, v->mailbox.running);
		render_cell(&table, "%.1f", r->items[i].calls_per_s);
		render_cell(&table, "%s", latency(&r->items[i], text));
	}
	render_table_print(&table, !inspect_common.no_legend);
	if (!inspect_common.no_legend)
		putchar('\n');
	return tool_finish(&inspect_tool, TOOL_EXIT_OK);
}

static int watch_lines(struct sb__inspect *inspect, struct rates *r, uint64_t end_ms)
{
	int status = TOOL_EXIT_OK;

	while (status == TOOL_EXIT_OK && !ended_by) {
		uint64_t now = sb__now_ms(), next_ms = now + (uint64_t)watch_interval_ms;

		rates_look(inspect, r);
		if (!inspect_common.quiet)
			status = inspect_common.json ? print_json(r) : print_text(r);
		if (next_ms > end_ms)
			break;
		(void)poll(NULL, 0, (int)(next_ms - now));
	}
	return status;
}

/* ── */

int view_watch(struct sb__inspect *inspect, const char *none)
{
	uint64_t end_ms = inspect_common.timeout_ms ? sb__now_ms() + (uint64_t)inspect_common.timeout_ms
	                                            : UINT64_MAX;
	struct rates rates = { .count = 0 };
	SCREEN *screen = NULL;
	int status = TOOL_EXIT_OK;

	(void)none;
	if (!inspect_common.json && !inspect_common.quiet && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		(void)setlocale(LC_CTYPE, "");
		screen = newterm(NULL, stdout, stdin); /* NULL: it does not know the terminal */
	}
	catch_signals(); /* after newterm, which sets some, too */
	if (screen) {
		(void)cbreak();
		(void)noecho();
		(void)nodelay(stdscr, TRUE);
		(void)keypad(stdscr, TRUE);
		(void)curs_set(0);
		watch_terminal(inspect, &rates, end_ms);
		(void)endwin();
		delscreen(screen);
	} else {
		status = watch_lines(inspect, &rates, end_ms);
	}
	rates_free(&rates);
	pass_signal_on();
	return status;
}
