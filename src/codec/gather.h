/* SPDX-License-Identifier: Apache-2.0 */
/* A value on its way into a tree of this process's own: its bytes, and what bytes do not hold of refs and arrays. */
#ifndef SB_CODEC_GATHER_H
#define SB_CODEC_GATHER_H

#include "value_impl.h"

struct sb__gather {
	struct sb__buf buf;
	sb_ref *refs; /* in the order they were encoded */
	size_t count, cap;
	struct sb__array_list arrays;
	uint8_t memory[512];
};

void sb__gather_init(struct sb__gather *gather);
int sb__gather_ref(void *gather, const sb_ref *ref); /* an sb__ref_fn; 0 or SB_ENOMEM */
/* Makes the tree; the bytes hold exactly one value. 0 or an error. */
int sb__gather_finish(struct sb__gather *gather, sb_value **ret_value);
void sb__gather_drop(struct sb__gather *gather);

#endif
