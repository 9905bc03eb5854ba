/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads command lines and writes --help, both from a tool's tables. It knows nothing of bridges.
 *
 * Locks: none, before any thread. Crash story: nothing is shared.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manual.h"
#include "output.h"
#include "report.h"

#define OPTIONS_MAX 64
#define WIDTH       80
#define HELP_COLUMN 28

/* ── tables for getopt_long ── */

struct flat {
	const struct tool_option *options[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char shorts[2 * OPTIONS_MAX + 4];
	int count;
};

static int argument_kind(const struct tool_option *o)
{
	if (o->type == TOOL_HELP)
		return optional_argument;
	return o->argument ? required_argument : no_argument;
}

static void flatten(const struct tool *tool, struct flat *flat)
{
	char *s = flat->shorts;

	memset(flat, 0, sizeof(*flat));
	if (tool->options_first)
		*s++ = '+';
	*s++ = ':'; /* tell a missing argument from an unknown option, and print nothing */
	for (const struct tool_group *g = tool->groups; g->title; g++)
		for (const struct tool_option *o = g->options; o->name && flat->count < OPTIONS_MAX; o++) {
			int has_arg = argument_kind(o);

			flat->options[flat->count] = o;
			/* Values from 256: they cannot be taken for a letter. */
			flat->longs[flat->count] = (struct option){ o->name, has_arg, NULL,
				                                    256 + flat->count };
			flat->count++;
			if (!o->letter)
				continue;
			*s++ = o->letter;
			if (has_arg == required_argument)
				*s++ = ':';
		}
}

static const struct tool_option *find(const struct flat *flat, int value)
{
	if (value >= 256)
		return value - 256 < flat->count ? flat->options[value - 256] : NULL;
	for (int i = 0; i < flat->count; i++)
		if (flat->options[i]->letter == value)
			return flat->options[i];
	return NULL;
}

/* ── taking one option; messages go to error ── */

#define ERROR_MAX 256

static bool take_whole(const struct tool_option *o, const char *text, char *error)
{
	int64_t max = o->max ? o->max : INT64_MAX;
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno || end == text || *end || isspace((unsigned char)text[0]) || v < o->min || v > max) {
		snprintf(error, ERROR_MAX, "--%s takes a whole number of %lld to %lld, not '%s'", o->name,
		         (long long)o->min, (long long)max, text);
		return false;
	}
	*(int64_t *)o->target = v;
	return true;
}

static bool take_seconds(const struct tool_option *o, const char *text, char *error)
{
	double max = o->max ? (double)o->max : 1e15, min = (double)o->min, v;
	char *end;

	v = strtod(text, &end) * 1000;
	/* strtod() knows blanks and hexadecimal, too. */
	if (end == text || *end || text[strspn(text, "0123456789.eE+-")] || !isfinite(v) || v < min ||
	    v > max) {
		snprintf(error, ERROR_MAX, "--%s takes %.10g to %.10g seconds, not '%s'", o->name, min / 1000,
		         max / 1000, text);
		return false;
	}
	*(int64_t *)o->target = (int64_t)(v + 0.5);
	return true;
}

/* No option of any tool means something by an empty text. */
static bool take_text(const struct tool_option *o, const char *text, char *error)
{
	if (!text[0]) {
		snprintf(error, ERROR_MAX, "--%s needs an argument that is not empty: %s", o->name,
		         o->argument);
		return false;
	}
	*(const char **)o->target = text;
	return true;
}

static bool take_item(const struct tool_option *o, const char *text, char *error)
{
	struct tool_list *list = o->target;
	const char **items = realloc(list->items, (list->count + 1) * sizeof(*items));

	if (!items) {
		snprintf(error, ERROR_MAX, "out of memory for --%s", o->name);
		return false;
	}
	list->items = items;
	list->items[list->count++] = text;
	return true;
}

static bool take_help(const struct tool_option *o, const char *text, char *error)
{
	if (text && strcmp(text, o->argument) != 0) {
		snprintf(error, ERROR_MAX, "--%s takes nothing or =%s, not '%s'", o->name, o->argument, text);
		return false;
	}
	*(enum tool_help *)o->target = text ? TOOL_HELP_MANUAL : TOOL_HELP_TEXT;
	return true;
}

static bool take(const struct tool_option *o, const char *text, char *error)
{
	switch (o->type) {
	case TOOL_FLAG: *(bool *)o->target = true; return true;
	case TOOL_TEXT: return take_text(o, text, error);
	case TOOL_WHOLE: return take_whole(o, text, error);
	case TOOL_SECONDS: return take_seconds(o, text, error);
	case TOOL_LIST: return take_item(o, text, error);
	case TOOL_HELP: return take_help(o, text, error);
	}
	return false;
}

/* What getopt complains about: value is ':' or '?', argv[optind - 1] the word it was in. */
static void complaint(int value, char **argv, const struct flat *flat, char *error)
{
	const struct tool_option *o = optopt ? find(flat, optopt) : NULL;
	const char *word = argv[optind - 1];

	if (value == ':' && o)
		snprintf(error, ERROR_MAX, "--%s needs an argument: %s", o->name, o->argument);
	else if (o)
		snprintf(error, ERROR_MAX, "--%s takes no argument", o->name);
	else if (optopt & ~0x7f)
		snprintf(error, ERROR_MAX, "unknown option: letters are of ASCII");
	else if (optopt)
		snprintf(error, ERROR_MAX, "unknown option '-%c'", optopt);
	else
		snprintf(error, ERROR_MAX, "unknown or ambiguous option '%s'", word);
}

/* ── help ── */

/* Writes text wrapped at WIDTH; the cursor stands at column, further lines are indented. */
static void wrap(const char *text, int column, int indent)
{
	int at = column;

	while (*text) {
		int word = (int)strcspn(text, " ");

		if (at > indent && at + 1 + word > WIDTH) {
			printf("\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			putchar(' ');
			at++;
		}
		printf("%.*s", word, text);
		at += word;
		text += word + strspn(text + word, " ");
	}
	putchar('\n');
}

static void help_option(const struct tool_option *o)
{
	char left[64];
	int n;

	n = o->letter ? snprintf(left, sizeof(left), "  -%c, --%s", o->letter, o->name)
	              : snprintf(left, sizeof(left), "      --%s", o->name);
	if (o->argument && n > 0 && (size_t)n < sizeof(left))
		n += snprintf(left + n, sizeof(left) - (size_t)n, o->type == TOOL_HELP ? "[=%s]" : " %s",
		              o->argument);
	printf("%s", left);
	if (n >= HELP_COLUMN - 1)
		printf("\n%*s", HELP_COLUMN, "");
	else
		printf("%*s", HELP_COLUMN - n, "");
	wrap(o->help, HELP_COLUMN, HELP_COLUMN);
}

/* Lines, each indented by two. */
static void help_lines(const char *title, const char *lines)
{
	if (!lines)
		return;
	printf("\n%s:\n", title);
	while (*lines) {
		int n = (int)strcspn(lines, "\n");

		printf("  %.*s\n", n, lines);
		lines += n + (lines[n] == '\n');
	}
}

/* Paragraphs, each wrapped, with an empty line between them. */
static void help_about(const char *about)
{
	char paragraph[2048];

	while (*about) {
		int n = (int)strcspn(about, "\n");

		snprintf(paragraph, sizeof(paragraph), "%.*s", n, about);
		wrap(paragraph, 0, 0);
		about += n + (about[n] == '\n');
		if (*about)
			putchar('\n');
	}
}

static void help(const struct tool *tool)
{
	const char *form = tool->usage, *before = "usage:";

	while (*form) {
		int n = (int)strcspn(form, "\n");

		printf("%s %s %.*s\n", before, tool->name, n, form);
		before = "      ";
		form += n + (form[n] == '\n');
	}
	putchar('\n');
	help_about(tool->about);
	for (const struct tool_group *g = tool->groups; g->title; g++) {
		printf("\n%s:\n", g->title);
		for (const struct tool_option *o = g->options; o->name; o++)
			help_option(o);
	}
	help_lines("Exit status", tool->exits);
	help_lines("Environment", tool->environment);
	help_lines("Examples", tool->examples);
}

/* ── */

bool tool_parse(const struct tool *tool, int argc, char **argv, int *ret_status)
{
	struct flat flat;
	char error[ERROR_MAX] = "", later[ERROR_MAX];
	int value;

	tool_streams_open();
	flatten(tool, &flat);
	opterr = 0;
	/* An error does not end the loop: --json further on decides how it is written. */
	while ((value = getopt_long(argc, argv, flat.shorts, flat.longs, NULL)) != -1) {
		char *message = error[0] ? later : error;
		const struct tool_option *o = value == '?' || value == ':' ? NULL : find(&flat, value);

		if (o)
			take(o, optarg, message);
		else
			complaint(value, argv, &flat, message);
	}
	*ret_status = TOOL_EXIT_OK;
	if (tool->common->help == TOOL_HELP_MANUAL)
		tool_manual(tool);
	else if (tool->common->help)
		help(tool);
	else if (tool->common->version)
		printf("%s %s\n", tool->name, SB_VERSION_STRING);
	else if (error[0])
		*ret_status = tool_usage(tool, "%s", error);
	else
		return true;
	*ret_status = tool_finish(tool, *ret_status);
	return false;
}

int tool_usage(const struct tool *tool, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	tool_report_usage(tool, message);
	return TOOL_EXIT_USAGE;
}
