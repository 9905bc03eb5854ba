/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsearch() and its like for the library's sources: the C library's takes its nodes from a heap that outlives histories, so what
 * killed processes leave would pile up. A tree that is not balanced does for the few things that a history has.
 */
#include <search.h>
#include <stdbool.h>
#include <stddef.h>

#include "sim_hooked.h"

struct node {
	const void *key; /* first, as callers expect */
	struct node *below[2];
};

typedef int (*compare_fn)(const void *, const void *);

static struct node **place(struct node **at, const void *key, compare_fn compare)
{
	while (*at) {
		int order = compare(key, (*at)->key);

		if (order == 0)
			break;
		at = &(*at)->below[order > 0];
	}
	return at;
}

void *sim_tsearch(const void *key, void **root, compare_fn compare)
{
	struct node **at = place((struct node **)root, key, compare);

	if (!*at) {
		*at = sim_calloc(1, sizeof(**at));
		(*at)->key = key;
	}
	return *at;
}

void *sim_tfind(const void *key, void *const *root, compare_fn compare)
{
	struct node *top = *root;

	return *place(&top, key, compare);
}

void *sim_tdelete(const void *key, void **root, compare_fn compare)
{
	struct node **at = place((struct node **)root, key, compare), *gone = *at, **last;

	if (!gone)
		return NULL;
	if (!gone->below[0] || !gone->below[1]) {
		*at = gone->below[0] ? gone->below[0] : gone->below[1];
	} else {
		last = &gone->below[0]; /* the largest of the smaller ones takes its place */
		while ((*last)->below[1])
			last = &(*last)->below[1];
		*at = *last;
		*last = (*last)->below[0];
		(*at)->below[0] = gone->below[0];
		(*at)->below[1] = gone->below[1];
	}
	sim_free(gone);
	return root; /* anything but NULL */
}

void sim_tdestroy(void *root, void (*free_key)(void *key))
{
	struct node *n = root;

	if (!n)
		return;
	sim_tdestroy(n->below[0], free_key);
	sim_tdestroy(n->below[1], free_key);
	free_key((void *)(size_t)n->key);
	sim_free(n);
}

void sim_twalk_r(const void *root, void (*visit)(const void *node, VISIT which, void *arg), void *arg)
{
	const struct node *n = root;
	bool alone;

	if (!n)
		return;
	alone = !n->below[0] && !n->below[1];
	if (!alone)
		visit(n, preorder, arg);
	sim_twalk_r(n->below[0], visit, arg);
	visit(n, alone ? leaf : postorder, arg);
	sim_twalk_r(n->below[1], visit, arg);
	if (!alone)
		visit(n, endorder, arg);
}
