/* SPDX-License-Identifier: Apache-2.0 */
/* The options of sb-call and sb-owner that name a session and say how it is created: one table for both. */
#ifndef SB_TOOLS_SESSION_H
#define SB_TOOLS_SESSION_H

#include "options.h"
#include "snakebridge/session.h"

struct tool_session {
	const char *id, *python;
	int64_t ttl, max_refs, max_refs_per_process, max_session_arena_bytes;
	struct tool_list tags, allow, deny;
	sb_tag tag_array[SB_TAGS_MAX]; /* filled by tool_session_fill() */
};

#define TOOL_SESSION_TTL_MAX INT64_C(3153600000) /* a hundred years, as the library has it */

/* Tables: a line is an entry. */
/* clang-format off */
#define TOOL_SESSION_INIT                                                                                    \
	{ .ttl = SB_UNSET, .max_refs = SB_UNSET, .max_refs_per_process = SB_UNSET,                           \
	  .max_session_arena_bytes = SB_UNSET }

#define TOOL_SESSION_OPTIONS(s)                                                                              \
	{ .name = "ttl", .argument = "SECONDS", .type = TOOL_WHOLE, .target = &(s).ttl,                      \
	  .max = TOOL_SESSION_TTL_MAX,                                                                       \
	  .help = "end the session after being idle this long; 0 for never (default 3600)" },                           \
	{ .name = "max-refs", .argument = "N", .type = TOOL_WHOLE, .target = &(s).max_refs, .min = 1,        \
	  .max = 100000000, .help = "the most refs that the session holds (default 10000)" },                 \
	{ .name = "max-refs-per-process", .argument = "N", .type = TOOL_WHOLE,                               \
	  .target = &(s).max_refs_per_process, .max = 100000000,                                             \
	  .help = "the most of them that one process's calls may have created; 0 for no quota (default)" },       \
	{ .name = "max-session-arena-bytes", .argument = "N", .type = TOOL_WHOLE,                            \
	  .target = &(s).max_session_arena_bytes, .max = INT64_C(274877906944),                              \
	  .help = "the most bytes of its arrays that one process keeps in shared memory; 0 for no limit (default)" }, \
	{ .name = "tag", .argument = "KEY=VALUE", .type = TOOL_LIST, .target = &(s).tags,                    \
	  .help = "a tag for the session; may be given several times" },                                      \
	{ .name = "allow", .argument = "PATTERN", .type = TOOL_LIST, .target = &(s).allow,                   \
	  .help = "policy: what may be reached: module, module:name or .attribute, with shell wildcards; may be "\
		  "given several times (default: everything)" },                                \
	{ .name = "deny", .argument = "PATTERN", .type = TOOL_LIST, .target = &(s).deny,                     \
	  .help = "policy: what may not be reached, written alike; takes precedence over --allow" },                            \
	{ .name = "python", .argument = "EXECUTABLE", .type = TOOL_TEXT, .target = &(s).python,              \
	  .help = "the Python (of a virtual environment, venv/bin/python3) whose packages are used" }
/* clang-format on */

/*
 * Puts what was given into options, which then points into s and argv; splits the tags in place. Returns 0, or
 * the exit status where a tag is wrong, having written why.
 */
int tool_session_fill(const struct tool *tool, struct tool_session *s, sb_session_options *options);
void tool_session_free(struct tool_session *s);

#endif
