/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines. A tool describes itself and its options once, in tables; parsing, --help and the manual page
 * (--help=man) read them, so none can drift.
 *
 *	static struct tool_common common = TOOL_COMMON_INIT;
 *	static bool once;
 *	static const struct tool_option own[] = {
 *		{ .name = "once", .letter = '1', .help = "make one pass", .type = TOOL_FLAG, .target = &once },
 *		{ 0 }
 *	};
 *	static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(common), { 0 } };
 *	static const struct tool_group groups[] = { { "Options", own }, { "Common options", shared }, { 0 } };
 *	static const struct tool tool = { .name = "sb-reaper", .usage = "[options]", .about = "…", .groups = groups,
 *		.exits = "0  fine\n", .environment = TOOL_ENVIRONMENT, .common = &common };
 *
 *	if (!tool_parse(&tool, argc, argv, &status))
 *		return status;
 *	operands are argv[optind] … argv[argc - 1]
 */
#ifndef SB_TOOLS_OPTIONS_H
#define SB_TOOLS_OPTIONS_H

#include <getopt.h> /* optind */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/visibility.h"

/* Exit statuses that mean the same in all tools. 1 is each tool's own (findings, a Python exception). */
#define TOOL_EXIT_OK       0
#define TOOL_EXIT_FINDINGS 1
#define TOOL_EXIT_USAGE    2
#define TOOL_EXIT_ATTACH   3
#define TOOL_EXIT_VERSION  4
#define TOOL_EXIT_CORRUPT  5
#define TOOL_EXIT_REFUSED  6
#define TOOL_EXIT_UNKNOWN  7

enum tool_type {
	TOOL_FLAG,    /* bool: no argument, sets true */
	TOOL_TEXT,    /* const char *: points into argv */
	TOOL_WHOLE,   /* int64_t: min to max */
	TOOL_SECONDS, /* int64_t in milliseconds: "1.5" gives 1500; min and max are in milliseconds */
	TOOL_LIST,    /* struct tool_list: may be given several times */
	TOOL_HELP     /* enum tool_help: "--help" or "--help=ARGUMENT" */
};

enum tool_help { TOOL_HELP_NONE, TOOL_HELP_TEXT, TOOL_HELP_MANUAL };

struct tool_list {
	const char **items; /* malloc'ed; the strings are argv's */
	size_t count;
};

struct tool_option {
	const char *name;     /* long name without "--"; NULL ends a table */
	char letter;          /* short name or 0 */
	const char *argument; /* what its argument is called, "SECONDS"; NULL for a flag */
	const char *help;     /* without a full stop; wrapped by itself */
	enum tool_type type;
	void *target;
	int64_t min, max; /* of numbers; max 0: no bound */
};

struct tool_group {
	const char *title; /* NULL ends the table */
	const struct tool_option *options;
};

/* What every tool understands. */
struct tool_common {
	const char *dir; /* NULL: the environment's */
	bool json;
	bool no_legend;
	bool quiet;
	int64_t timeout_ms;  /* 0: not given */
	enum tool_help help; /* these two are handled by tool_parse() */
	bool version;
};
/* Tables: a line is an entry. */
/* clang-format off */
#define TOOL_COMMON_INIT { 0 }

#define TOOL_COMMON_OPTIONS(common)                                                                          \
	{ .name = "dir", .letter = 'd', .argument = "DIR",                                                   \
	  .help = "the bridge directory (default: see Environment)", .type = TOOL_TEXT,                      \
	  .target = &(common).dir },                                                                         \
	{ .name = "json", .letter = 'j', .help = "write JSON; errors become one JSON object on stderr",      \
	  .type = TOOL_FLAG, .target = &(common).json },                                                     \
	{ .name = "no-legend", .help = "leave out headings and totals", .type = TOOL_FLAG,                   \
	  .target = &(common).no_legend },                                                                   \
	{ .name = "timeout", .letter = 't', .argument = "SECONDS", .help = "give up after this long",        \
	  .type = TOOL_SECONDS, .target = &(common).timeout_ms, .min = 1, .max = UINT32_MAX },               \
	{ .name = "quiet", .letter = 'q', .help = "write nothing but errors", .type = TOOL_FLAG,             \
	  .target = &(common).quiet },                                                                       \
	{ .name = "help", .letter = 'h', .argument = "man",                                                  \
	  .help = "show this help and exit; =man: as a manual page", .type = TOOL_HELP,                      \
	  .target = &(common).help },                                                                        \
	{ .name = "version", .letter = 'V', .help = "show the version and exit", .type = TOOL_FLAG,          \
	  .target = &(common).version }
/* clang-format on */

#define TOOL_ENVIRONMENT                                                                    \
	"SNAKEBRIDGE_DIR  the bridge directory where --dir is not given; without either,\n" \
	"                 $XDG_RUNTIME_DIR/snakebridge, else /run/snakebridge\n"

struct tool {
	const char *name;
	const char *usage; /* what follows the name; several forms are separated by newlines */
	const char *
		about; /* paragraphs, separated by newlines and wrapped; the first sentence also names the manual page */
	const struct tool_group *groups;
	const char *exits;       /* lines "0  fine\n" */
	const char *environment; /* lines, begins with TOOL_ENVIRONMENT */
	const char *examples;    /* lines to type; may be NULL */
	struct tool_common *common;
	bool options_first; /* the first operand ends the options, so that operands may begin with '-' */
};

/*
 * Parses argv; operands begin at argv[optind]. False: help, version or a usage error was written, and
 * the program should exit with *ret_status.
 */
bool tool_parse(const struct tool *tool, int argc, char **argv, int *ret_status);

/* Writes a usage error to stderr, as text or JSON, and returns TOOL_EXIT_USAGE. */
int tool_usage(const struct tool *tool, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);

#endif
