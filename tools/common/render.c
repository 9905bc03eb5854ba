/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output of the tools that only look. Knows nothing of bridges.
 *
 * Locks: none. Crash: nothing is shared.
 */
#include "render.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "output.h"

/* ── JSON ── */

void render_text(json_t *object, const char *key, const char *text)
{
	size_t len = strlen(text);
	json_t *string = json_stringn(text, len);

	for (int cut = 0; !string && cut < 3 && len > 0; cut++)
		string = json_stringn(text, --len);
	json_object_set_new(object, key, string ? string : json_string("?"));
}

void render_id(json_t *object, const char *key, uint64_t id)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, id);
	json_object_set_new(object, key, json_string(text));
}

void render_number(json_t *object, const char *key, uint64_t number)
{
	json_object_set_new(object, key, json_integer((json_int_t)number));
}

int render_line(const struct tool *tool, json_t *object)
{
	int r = object ? json_dumpf(object, stdout, JSON_COMPACT) : -1;

	json_decref(object);
	if (r == 0 && putchar('\n') != EOF)
		return tool_finish(tool, TOOL_EXIT_OK);
	if (!ferror(stdout))
		fprintf(stderr, "%s: out of memory for the output\n", tool->name);
	return tool_finish(tool, TOOL_EXIT_ATTACH);
}

/* ── tables ── */

void render_table_init(struct render_table *table, const char *const *titles)
{
	*table = (struct render_table){ .titles = titles };
	while (titles[table->columns] && table->columns < RENDER_COLUMNS_MAX)
		table->columns++;
}

void render_cell(struct render_table *table, const char *fmt, ...)
{
	va_list args;
	char *cell;
	int n;

	if (table->count == table->cap) {
		size_t cap = table->cap ? table->cap * 2 : 64;
		char **cells = realloc(table->cells, cap * sizeof(*cells));

		if (!cells) {
			table->failed = true;
			return;
		}
		table->cells = cells;
		table->cap = cap;
	}
	va_start(args, fmt);
	n = vasprintf(&cell, fmt, args);
	va_end(args);
	if (n < 0) {
		table->failed = true;
		return;
	}
	/* Names come from other processes: none may command the terminal. */
	for (char *c = cell; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	table->cells[table->count++] = cell;
}

/* Columns on a terminal, as far as counting the beginnings of UTF-8 sequences tells. */
static int display_width(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static const char *title_of(const struct render_table *table, size_t column)
{
	return table->titles[column] + (table->titles[column][0] == '>');
}

/* Without trailing blanks: the last column is not filled up, unless it is flush right. */
static void print_cell(const struct render_table *table, size_t column, const char *text, int width)
{
	int fill = width - display_width(text);

	if (column > 0)
		fputs("  ", stdout);
	if (table->titles[column][0] == '>')
		printf("%*s%s", fill, "", text);
	else
		printf("%s%*s", text, column + 1 < table->columns ? fill : 0, "");
	if (column + 1 == table->columns)
		putchar('\n');
}

void render_table_print(struct render_table *table, bool legend)
{
	int widths[RENDER_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < table->columns && legend; i++)
		widths[i] = display_width(title_of(table, i));
	for (size_t i = 0; i < table->count; i++) {
		int width = display_width(table->cells[i]);

		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t i = 0; i < table->columns && legend; i++)
		print_cell(table, i, title_of(table, i), widths[i]);
	for (size_t i = 0; i < table->count; i++)
		print_cell(table, i % table->columns, table->cells[i], widths[i % table->columns]);
	if (table->failed)
		fputs("(out of memory: the table is cut)\n", stdout);
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct render_table){ .titles = table->titles, .columns = table->columns };
}

const char *render_span(uint64_t ms, char *text)
{
	const uint64_t second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

	if (ms < second)
		snprintf(text, RENDER_TIME_SIZE, "%" PRIu64 " ms", ms);
	else if (ms < minute)
		snprintf(text, RENDER_TIME_SIZE, "%.1f s", (double)ms / 1000);
	else if (ms < 2 * hour)
		snprintf(text, RENDER_TIME_SIZE, "%" PRIu64 " min", ms / minute);
	else if (ms < 2 * day)
		snprintf(text, RENDER_TIME_SIZE, "%" PRIu64 " h", ms / hour);
	else
		snprintf(text, RENDER_TIME_SIZE, "%" PRIu64 " d", ms / day);
	return text;
}

/* ── giving up ── */

static const char *deadline_message;

static void give_up(int number)
{
	ssize_t ignored = write(STDERR_FILENO, deadline_message, strlen(deadline_message));

	(void)number;
	(void)ignored;
	_exit(TOOL_EXIT_ATTACH);
}

void render_deadline(int64_t ms, const char *message)
{
	struct itimerval timer = { .it_value = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 } };
	struct sigaction act = { .sa_handler = give_up };

	if (ms <= 0)
		return;
	deadline_message = message;
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}
