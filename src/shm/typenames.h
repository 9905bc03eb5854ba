/* SPDX-License-Identifier: Apache-2.0 */
/* Names of types that ref rows have, each once: numbers for them, in private memory. */
#ifndef SB_SHM_TYPENAMES_H
#define SB_SHM_TYPENAMES_H

#include <stdbool.h>
#include <stdint.h>

#define SB__NO_TYPE UINT32_MAX

#define SB__TYPE_BUCKETS 64u

/* Begins as zeroes. */
struct sb__type_names {
	struct sb__type_name *names; /* by number */
	uint32_t count, cap;
	uint32_t free;                      /* 1 + the first number to be used again; 0: none */
	uint32_t resting;                   /* 1 + the one that lost its last row last; 0: none */
	uint32_t buckets[SB__TYPE_BUCKETS]; /* by hash: 1 + the first number; 0: none */
};

/* The number of a name of at most 95 bytes, which has one more row now. *ret_made: the number was nobody's before.
 * SB__NO_TYPE: no memory. */
uint32_t sb__type_names_take(struct sb__type_names *names, const char *name, uint32_t module_len,
                             bool *ret_made);
/* One row less. Any number may come: it was read where others may write. */
void sb__type_names_give(struct sb__type_names *names, uint32_t number);
void sb__type_names_free(struct sb__type_names *names);

#endif
