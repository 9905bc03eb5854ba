/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table whose nodes lie in the structs that it finds: adding never fails, adding and removing take the same time
 * whatever their number. Private memory; whoever owns one locks it. All zero is an empty one.
 */
#ifndef SB_BASE_INDEX_H
#define SB_BASE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define SB__INDEX_FEW 8u /* buckets that need no memory of their own */

struct sb__index_node {
	struct sb__index_node *next, **at; /* at: what points to it; NULL where it is in no index */
	uint64_t hash;
};

struct sb__index {
	struct sb__index_node **buckets; /* NULL: few */
	struct sb__index_node *few[SB__INDEX_FEW];
	uint32_t size, count; /* size: a power of two, 0 while few */
	uint64_t looks;       /* nodes that searches have looked at: what a test of their cost goes by */
};

/* The struct that a node lies in. */
#define SB__INDEX_OF(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

uint64_t sb__index_number(uint64_t number); /* hashes */
uint64_t sb__index_text(const char *text);

void sb__index_add(struct sb__index *index, struct sb__index_node *node, uint64_t hash);
void sb__index_remove(struct sb__index *index, struct sb__index_node *node); /* also of one that is in none */
void sb__index_free(struct sb__index *index); /* its own memory; the nodes are forgotten */

/* A node of that hash, then the others of it, in no order; NULL: no more. Equal hashes need not be equal keys. */
struct sb__index_node *sb__index_find(struct sb__index *index, uint64_t hash);
struct sb__index_node *sb__index_find_next(struct sb__index *index, const struct sb__index_node *node);
/* All nodes, in no order; after NULL: the first. */
struct sb__index_node *sb__index_next(const struct sb__index *index, const struct sb__index_node *after);

#endif
