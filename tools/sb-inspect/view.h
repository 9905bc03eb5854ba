/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sb-inspect share. */
#ifndef SB_TOOLS_INSPECT_VIEW_H
#define SB_TOOLS_INSPECT_VIEW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "snapshot.h"

extern const struct tool inspect_tool;
extern struct tool_common inspect_common;

/* {"schema":1,"what":…} */
json_t *view_begin(const char *what);
/* Local time, "2026-01-31 12:00:00". Returns text. */
const char *view_wall(int64_t wall_ms, char *text, size_t size);
uint64_t view_since(uint64_t now_ms, uint64_t then_ms);
/* What the list of sessions and one session have in common. */
json_t *view_session_json(const struct sb__session_view *v);
/* The whole view of one session. Returns an exit status. */
int view_session(struct sb__inspect *inspect, const char *id);

#endif
