/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a tool's manual page from the table that --help is written from: roff with the man macros, on stdout.
 *
 * Locks: none, before any thread. Crash story: nothing is shared.
 */
#include "manual.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Text in the middle of a line: what roff would take for its own is escaped. */
static void roff(const char *text, int n)
{
	for (int i = 0; i < n && text[i]; i++)
		switch (text[i]) {
		case '\\': fputs("\\e", stdout); break;
		case '-': fputs("\\-", stdout); break;
		case '"': fputs("\\(dq", stdout); break;
		case '\'': fputs("\\(aq", stdout); break;
		case '^': fputs("\\(ha", stdout); break;
		case '~': fputs("\\(ti", stdout); break;
		default: putchar(text[i]);
		}
}

/* A line of text of its own; one that would begin with roff's control character gets an empty one before it. */
static void roff_line(const char *text, int n)
{
	if (n > 0 && text[0] == '.')
		fputs("\\&", stdout);
	roff(text, n);
	putchar('\n');
}

static void roff_text(const char *text)
{
	roff_line(text, (int)strlen(text));
}

static void section(const char *title)
{
	printf(".SH ");
	for (; *title; title++)
		putchar(toupper((unsigned char)*title));
	putchar('\n');
}

static void write_header(const struct tool *tool)
{
	int sentence = (int)strcspn(tool->about, ".");

	printf(".\\\" Written by %s --help=man.\n.TH ", tool->name);
	for (const char *c = tool->name; *c; c++)
		putchar(toupper((unsigned char)*c));
	printf(" 1 \"\" \"SnakeBridge %s\" \"SnakeBridge\"\n.nh\n.ad l\n", SB_VERSION_STRING);
	section("name");
	roff(tool->name, (int)strlen(tool->name));
	printf(" \\- %c", tolower((unsigned char)tool->about[0]));
	roff_line(tool->about + 1, sentence - 1);
}

/* Paragraphs, separated by newlines. */
static void write_about(const char *about)
{
	section("description");
	while (*about) {
		int n = (int)strcspn(about, "\n");

		roff_line(about, n);
		about += n + (about[n] == '\n');
		if (*about)
			puts(".PP");
	}
}

static void write_synopsis(const struct tool *tool)
{
	const char *form = tool->usage;

	section("synopsis");
	while (*form) {
		int n = (int)strcspn(form, "\n");

		printf(".B ");
		roff_text(tool->name);
		roff_line(form, n);
		form += n + (form[n] == '\n');
		if (*form)
			puts(".br");
	}
}

static void write_option(const struct tool_option *o)
{
	puts(".TP");
	if (o->letter)
		printf("\\fB\\-%c\\fR, ", o->letter);
	fputs("\\fB\\-\\-", stdout);
	roff(o->name, (int)strlen(o->name));
	fputs("\\fR", stdout);
	if (o->argument) {
		fputs(o->type == TOOL_HELP ? "[=\\fI" : " \\fI", stdout);
		roff(o->argument, (int)strlen(o->argument));
		fputs(o->type == TOOL_HELP ? "\\fR]" : "\\fR", stdout);
	}
	putchar('\n');
	roff_text(o->help);
}

static void write_options(const struct tool *tool)
{
	section("options");
	for (const struct tool_group *g = tool->groups; g->title; g++) {
		printf(".SS ");
		roff_text(g->title);
		for (const struct tool_option *o = g->options; o->name; o++)
			write_option(o);
	}
}

/* Lines "term  what it is"; a line that begins with a space goes on with the one above. */
static void write_terms(const char *title, const char *lines)
{
	if (!lines)
		return;
	section(title);
	while (*lines) {
		int n = (int)strcspn(lines, "\n"), skip = (int)strspn(lines, " ");
		const char *gap = strstr(lines, "  ");

		if (skip == 0 && gap && gap < lines + n) {
			fputs(".TP\n.B ", stdout);
			roff_line(lines, (int)(gap - lines));
			skip = (int)(gap - lines) + (int)strspn(gap, " ");
		}
		roff_line(lines + skip, n - skip);
		lines += n + (lines[n] == '\n');
	}
}

static void write_examples(const char *lines)
{
	if (!lines)
		return;
	section("examples");
	puts(".nf");
	while (*lines) {
		int n = (int)strcspn(lines, "\n");

		roff_line(lines, n);
		lines += n + (lines[n] == '\n');
	}
	puts(".fi");
}

void tool_manual(const struct tool *tool)
{
	write_header(tool);
	write_synopsis(tool);
	write_about(tool->about);
	write_options(tool);
	write_terms("exit status", tool->exits);
	write_terms("environment", tool->environment);
	write_examples(tool->examples);
	section("see also");
	puts(".BR sb\\-call (1),\n.BR sb\\-owner (1),\n.BR sb\\-inspect (1),\n.BR sb\\-reaper (1),\n.BR "
	     "sb_session (3)");
}
