/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the words of a command line to the options of a session. It checks what only a command line can get
 * wrong; the library checks the rest.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "session.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int fill_tags(const struct tool *tool, struct tool_session *s)
{
	if (s->tags.count > SB_TAGS_MAX)
		return tool_usage(tool, "%zu tags are given; a session has at most %d", s->tags.count,
		                  SB_TAGS_MAX);
	for (size_t i = 0; i < s->tags.count; i++) {
		char *text = (char *)(uintptr_t)s->tags.items[i]; /* a string of argv: ours to change */
		char *equals = strchr(text, '=');

		if (!equals || equals == text)
			return tool_usage(tool, "--tag takes KEY=VALUE, not '%s'%s", text,
			                  equals ? ": the key is empty" : "");
		*equals = '\0';
		s->tag_array[i] = (sb_tag){ .key = text, .value = equals + 1 };
	}
	return 0;
}

int tool_session_fill(const struct tool *tool, struct tool_session *s, sb_session_options *options)
{
	int status = fill_tags(tool, s);

	options->session_id = s->id;
	options->ttl_seconds = s->ttl;
	options->max_refs = s->max_refs;
	options->max_refs_per_process = s->max_refs_per_process;
	options->max_session_arena_bytes = s->max_session_arena_bytes;
	options->tags = s->tag_array;
	options->tag_count = s->tags.count;
	options->allow = (const char *const *)s->allow.items;
	options->allow_count = s->allow.count;
	options->deny = (const char *const *)s->deny.items;
	options->deny_count = s->deny.count;
	return status;
}

void tool_session_free(struct tool_session *s)
{
	free(s->tags.items);
	free(s->allow.items);
	free(s->deny.items);
	s->tags = s->allow = s->deny = (struct tool_list){ .items = NULL };
}
