/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sessions a view shows, and in what order. Knows how to compare, not how to look.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "view.h"

struct view_filter view_filter;

/* ── do the options make sense? ── */

static bool is_one_of(const char *word, const char *words)
{
	size_t len = strlen(word);

	for (const char *at = words; len && (at = strstr(at, word)); at += len)
		if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return true;
	return false;
}

static bool tags_valid(void)
{
	for (size_t i = 0; i < view_filter.tags.count; i++) {
		const char *tag = view_filter.tags.items[i];

		if (*tag == '\0' || *tag == '=') {
			tool_usage(&inspect_tool, "--tag takes KEY or KEY=VALUE, not '%s': the key is empty",
			           tag);
			return false;
		}
	}
	return true;
}

/* The first option that was given and is none of these words; NULL: all are. */
static const char *unused(const char *used)
{
	const struct view_filter *f = &view_filter;

	if (f->tags.count && !is_one_of("tag", used))
		return "tag";
	if (f->owner && !is_one_of("owner", used))
		return "owner";
	if (f->state && !is_one_of("state", used))
		return "state";
	return f->type && !is_one_of("type", used) ? "type" : NULL;
}

bool view_filter_valid(const char *view, const char *used, const char *sort_keys)
{
	const struct view_filter *f = &view_filter;

	if (unused(used))
		tool_usage(&inspect_tool, "--%s does not go with %s", unused(used), view);
	else if (f->sort && !sort_keys)
		tool_usage(&inspect_tool, "%s has nothing to --sort", view);
	else if (f->sort && !is_one_of(f->sort, sort_keys))
		tool_usage(&inspect_tool, "%s can be sorted by one of: %s; not by '%s'", view, sort_keys,
		           f->sort);
	else if (!tags_valid())
		;
	else if (f->state && !is_one_of(f->state, "starting active orphaned"))
		tool_usage(&inspect_tool, "--state takes starting, active or orphaned, not '%s'", f->state);
	else
		return true;
	return false;
}

bool view_filter_sorts(const char *key)
{
	return view_filter.sort && strcmp(view_filter.sort, key) == 0;
}

/* ── sessions ── */

struct tag_search {
	const char *wanted; /* "key" or "key=value" */
	bool found;
};

static void tag_visit(void *arg, const char *key, const char *value)
{
	struct tag_search *s = arg;
	size_t len = strlen(key);

	if (strncmp(s->wanted, key, len) != 0)
		return;
	s->found |= s->wanted[len] == '\0' ||
	            (s->wanted[len] == '=' && strcmp(s->wanted + len + 1, value) == 0);
}

bool view_filter_matches(struct sb__inspect *inspect, const struct sb__session_view *v)
{
	const struct view_filter *f = &view_filter;

	if (f->state && strcmp(f->state, sb__session_state_name(v->rec.state)) != 0)
		return false;
	for (size_t i = 0; i < f->tags.count; i++) {
		struct tag_search search = { .wanted = f->tags.items[i] };

		view_each_tag(&v->rec, tag_visit, &search);
		if (!search.found)
			return false;
	}
	return !f->owner || sb__inspect_owns(inspect, v, (int32_t)f->owner);
}

int view_sessions_keep(void *arg, const struct sb__session_view *v)
{
	struct view_sessions *list = arg;
	struct sb__session_view *copy;

	if (!view_filter_matches(list->inspect, v))
		return 0;
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct sb__session_view **items = realloc(list->items,
		                                          cap * sizeof(struct sb__session_view *));

		if (!items) {
			list->failed = true;
			return 1;
		}
		list->items = items;
		list->cap = cap;
	}
	copy = malloc(sizeof(*copy));
	if (!copy) {
		list->failed = true;
		return 1;
	}
	*copy = *v;
	list->items[list->count++] = copy;
	return 0;
}

static uint64_t number_of(const struct sb__session_view *v)
{
	const struct sb__mailbox_facts *m = &v->mailbox;

	if (view_filter_sorts("age"))
		return v->age_ms;
	if (view_filter_sorts("idle"))
		return v->idle_ms;
	if (view_filter_sorts("owners"))
		return v->rec.owner_count;
	if (view_filter_sorts("refs"))
		return m->live_refs;
	if (view_filter_sorts("lanes"))
		return m->lanes_claimed;
	if (view_filter_sorts("calls"))
		return m->calls;
	if (view_filter_sorts("state"))
		return v->rec.state;
	if (view_filter_sorts("latency"))
		return m->calls ? m->service_ns / m->calls : 0;
	return 0;
}

static int by_order(const void *a, const void *b)
{
	const struct view_order *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? 1 : -1;
	return strcmp(x->text, y->text);
}

void view_order_sort(struct view_order *items, size_t count)
{
	if (count)
		qsort(items, count, sizeof(*items), by_order);
}

void view_sessions_sort(struct view_sessions *list)
{
	struct view_order *order = calloc(list->count + 1, sizeof(*order));

	if (!order)
		return; /* unsorted is better than nothing */
	for (size_t i = 0; i < list->count; i++)
		order[i] = (struct view_order){ number_of(list->items[i]), list->items[i]->rec.session_id,
			                        list->items[i] };
	view_order_sort(order, list->count);
	for (size_t i = 0; i < list->count; i++)
		list->items[i] = order[i].item;
	free(order);
}

void view_sessions_free(struct view_sessions *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	list->items = NULL;
	list->count = list->cap = 0;
}
