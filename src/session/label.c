/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call is called in errors and lists. Put together when somebody asks.
 *
 * Locks: none. Crash: private memory.
 */
#include <string.h>

#include "way.h"

static const char *verb_name(sb_verb verb)
{
	static const char *const names[] = { "?",     "call",     "method",  "attr",    "set_attr",
		                             "get",   "release",  "getitem", "setitem", "delitem",
		                             "len",   "contains", "repr",    "str",     "hash",
		                             "iter",  "next",     "enter",   "exit",    "pin",
		                             "unpin", "check",    "batch",   "close" };

	_Static_assert(sizeof(names) / sizeof(names[0]) == SB_VERB_CLOSE + 1, "a name for each verb");

	return names[verb];
}

/* "verb name", or "verb" where nothing is named; cut where it is full. By hand: formatting it was an eighth of a call. */
static void set_label(const struct sb__way *c, char label[SB__LABEL_MAX])
{
	const char *verb = verb_name(c->request->verb), *name = c->request->name ? c->request->name : "";
	size_t at = strlen(verb), len = strnlen(name, SB__LABEL_MAX - at - 2);

	memcpy(label, verb, at);
	if (len)
		label[at++] = ' ';
	memcpy(label + at, name, len);
	label[at + len] = '\0';
}

const char *sb__way_label(const struct sb__way *c)
{
	struct sb__way *way = (struct sb__way *)(uintptr_t)c; /* it is the same whenever it is asked for */

	if (!*way->label)
		set_label(c, way->label);
	return way->label;
}
