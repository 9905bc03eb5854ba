/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table with chains. It doubles when there are more nodes than buckets; where there is no memory for that, it gets
 * slower and stays right.
 *
 * Locks: none. Crash: private memory.
 */
#include "index.h"

#include <stdlib.h>

uint64_t sb__index_number(uint64_t n)
{
	/* The finalizer of splitmix64: every bit of the number moves every bit of the hash. */
	n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
	return n ^ n >> 31;
}

uint64_t sb__index_text(const char *text)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
	return sb__index_number(hash);
}

static struct sb__index_node **bucket(struct sb__index *index, uint64_t hash)
{
	if (!index->buckets)
		return &index->few[hash & (SB__INDEX_FEW - 1)];
	return &index->buckets[hash & (index->size - 1)];
}

static void put(struct sb__index *index, struct sb__index_node *node)
{
	struct sb__index_node **at = bucket(index, node->hash);

	node->next = *at;
	node->at = at;
	if (*at)
		(*at)->at = &node->next;
	*at = node;
}

static void grow(struct sb__index *index)
{
	struct sb__index_node **old = index->buckets ? index->buckets : index->few;
	uint32_t size = index->buckets ? index->size : SB__INDEX_FEW;
	struct sb__index_node **more;

	if (index->count < size || size > UINT32_MAX / 4)
		return;
	more = calloc(size * (size_t)2, sizeof(struct sb__index_node *));
	if (!more)
		return;
	index->buckets = more;
	index->size = size * 2;
	for (uint32_t i = 0; i < size; i++) {
		struct sb__index_node *node = old[i], *next;

		old[i] = NULL;
		for (; node; node = next) {
			next = node->next;
			put(index, node);
		}
	}
	if (old != index->few)
		free(old);
}

void sb__index_add(struct sb__index *index, struct sb__index_node *node, uint64_t hash)
{
	grow(index);
	node->hash = hash;
	put(index, node);
	index->count++;
}

void sb__index_remove(struct sb__index *index, struct sb__index_node *node)
{
	if (!node->at)
		return;
	*node->at = node->next;
	if (node->next)
		node->next->at = node->at;
	node->at = NULL;
	index->count--;
}

void sb__index_free(struct sb__index *index)
{
	free(index->buckets);
	*index = (struct sb__index){ .buckets = NULL };
}

static struct sb__index_node *of_hash(struct sb__index *index, struct sb__index_node *node, uint64_t hash)
{
	for (; node; node = node->next) {
		index->looks++;
		if (node->hash == hash)
			return node;
	}
	return NULL;
}

struct sb__index_node *sb__index_find(struct sb__index *index, uint64_t hash)
{
	return of_hash(index, *bucket(index, hash), hash);
}

struct sb__index_node *sb__index_find_next(struct sb__index *index, const struct sb__index_node *node)
{
	return of_hash(index, node->next, node->hash);
}

struct sb__index_node *sb__index_next(const struct sb__index *index, const struct sb__index_node *after)
{
	struct sb__index_node *const *buckets = index->buckets ? index->buckets : index->few;
	uint32_t size = index->buckets ? index->size : SB__INDEX_FEW, i = 0;

	if (after && after->next)
		return after->next;
	if (after)
		i = (uint32_t)(after->hash & (size - 1)) + 1;
	for (; i < size; i++)
		if (buckets[i])
			return buckets[i];
	return NULL;
}
