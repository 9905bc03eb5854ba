/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which number a type's name has among a session's ref rows. A name without rows gives its number to the next new one, so there
 * are as many as were live at once, and one: the last that lost its rows rests, since often it comes again at once.
 *
 * Locks: none; one writer at a time (refrows.c).
 * Crash: private memory.
 */
#include "typenames.h"

#include <stdlib.h>
#include <string.h>

struct sb__type_name {
	uint32_t rows; /* 0: free */
	uint32_t hash, module_len;
	uint32_t next; /* 1 + the next of the bucket, or of the free ones */
	char text[96];
};

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 2166136261u;

	for (const char *c = name; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	return hash;
}

static uint32_t find(const struct sb__type_names *names, const char *name, uint32_t module_len, uint32_t hash)
{
	uint32_t i = names->buckets[hash % SB__TYPE_BUCKETS];

	while (i > 0) {
		const struct sb__type_name *n = &names->names[i - 1];

		if (n->hash == hash && n->module_len == module_len && strcmp(n->text, name) == 0)
			break;
		i = n->next;
	}
	return i > 0 ? i - 1 : SB__NO_TYPE;
}

/* A number that is nobody's. */
static uint32_t new_number(struct sb__type_names *names)
{
	uint32_t number = names->free - 1;

	if (names->free > 0) {
		names->free = names->names[number].next;
		return number;
	}
	if (names->count == names->cap) {
		uint32_t cap = names->cap ? 2 * names->cap : 8;
		struct sb__type_name *more = realloc(names->names, cap * sizeof(*more));

		if (!more)
			return SB__NO_TYPE;
		names->names = more;
		names->cap = cap;
	}
	return names->count++;
}

uint32_t sb__type_names_take(struct sb__type_names *names, const char *name, uint32_t module_len,
                             bool *ret_made)
{
	uint32_t hash = hash_of(name), number = find(names, name, module_len, hash);
	uint32_t *bucket = &names->buckets[hash % SB__TYPE_BUCKETS];
	struct sb__type_name *n;

	*ret_made = number == SB__NO_TYPE;
	if (*ret_made)
		number = new_number(names);
	if (number == SB__NO_TYPE) {
		*ret_made = false;
		return number;
	}
	n = &names->names[number];
	if (*ret_made) {
		*n = (struct sb__type_name){ .hash = hash, .module_len = module_len, .next = *bucket };
		strncpy(n->text, name, sizeof(n->text) - 1);
		*bucket = number + 1;
	}
	if (names->resting == number + 1)
		names->resting = 0;
	n->rows++;
	return number;
}

/* It has no rows: its number is free. */
static void forget(struct sb__type_names *names, uint32_t number)
{
	struct sb__type_name *n = &names->names[number];
	uint32_t *at;

	at = &names->buckets[n->hash % SB__TYPE_BUCKETS];
	while (*at != number + 1)
		at = &names->names[*at - 1].next;
	*at = n->next;
	n->next = names->free;
	names->free = number + 1;
}

void sb__type_names_give(struct sb__type_names *names, uint32_t number)
{
	struct sb__type_name *n = number < names->count ? &names->names[number] : NULL;

	if (!n || n->rows == 0 || --n->rows > 0)
		return;
	if (names->resting)
		forget(names, names->resting - 1);
	names->resting = number + 1;
}

void sb__type_names_free(struct sb__type_names *names)
{
	free(names->names);
	*names = (struct sb__type_names){ .names = NULL };
}
