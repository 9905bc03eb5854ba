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
json_t *view_owner_json(const struct sb__owner_view *v);
json_t *view_ref_json(const struct sb__ref_view *ref, uint64_t now_ms);
void view_refs_text(const struct sb__session_detail *d);
/* Walks the tags of a record. */
void view_each_tag(const struct sb__session_rec *rec,
                   void (*visit)(void *arg, const char *key, const char *value), void *arg);
/* Reports that there is none of that id. Returns the exit status. */
int view_no_session(struct sb__inspect *inspect, const char *id);

/* ── which and in what order (filter.c) ── */

struct view_filter {
	struct tool_list tags; /* "key" or "key=value" */
	int64_t owner;         /* pid; 0: any */
	const char *state;     /* of the session; NULL: any */
	const char *type;      /* pattern for the types of refs; NULL: any */
	const char *sort;      /* NULL: as the view likes */
};
extern struct view_filter view_filter;

/* Do the options make sense for this view? used: the filters that it has, a list of words without "--", and so
 * are its sort keys, or NULL. Else a usage error was written and this is false. */
bool view_filter_valid(const char *view, const char *used, const char *sort_keys);
bool view_filter_matches(struct sb__inspect *inspect, const struct sb__session_view *v);
bool view_filter_sorts(const char *key); /* was this one asked for? */

#define VIEW_SESSION_FILTERS "tag owner state"
#define VIEW_SESSION_SORTS   "id age idle state owners refs lanes calls latency"
/* A copy of each session that matches, in order. */
struct view_sessions {
	struct sb__session_view **items;
	size_t count, cap;
	struct sb__inspect *inspect;
	bool failed; /* out of memory */
};
int view_sessions_keep(void *list, const struct sb__session_view *v); /* a visit function */
void view_sessions_sort(struct view_sessions *list);
void view_sessions_free(struct view_sessions *list);

/* Largest number first, then by text; strings are borrowed. */
struct view_order {
	uint64_t number;
	const char *text;
	void *item;
};
void view_order_sort(struct view_order *items, size_t count);

/* ── the views: each returns an exit status; the operand is what its usage names ── */

int view_session(struct sb__inspect *inspect, const char *id);
int view_refs(struct sb__inspect *inspect, const char *id);
int view_owners(struct sb__inspect *inspect, const char *none);
int view_calls(struct sb__inspect *inspect, const char *none);
int view_sessions(struct sb__inspect *inspect, const char *none);
int view_metrics(struct sb__inspect *inspect, const char *none);
int view_watch(struct sb__inspect *inspect, const char *none);
extern int64_t watch_interval_ms;

#endif
