/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values made by this process: they are encoded first and decoded at the end, so that a tree of one block comes of it
 * without anybody counting beforehand.
 *
 * Locks: none; one thread's. Crash story: nothing is shared.
 */
#include "gather.h"

#include <stdlib.h>

#include "snakebridge/error.h"

void sb__gather_init(struct sb__gather *gather)
{
	gather->refs = NULL;
	gather->count = gather->cap = 0;
	gather->arrays = (struct sb__array_list){ .items = NULL };
	sb__buf_init(&gather->buf, gather->memory, sizeof(gather->memory));
}

int sb__gather_ref(void *arg, const sb_ref *ref)
{
	struct sb__gather *gather = arg;

	if (gather->count == gather->cap) {
		size_t cap = gather->cap ? 2 * gather->cap : 4;
		sb_ref *refs = realloc(gather->refs, cap * sizeof(*refs));

		if (!refs)
			return SB_ENOMEM;
		gather->refs = refs;
		gather->cap = cap;
	}
	gather->refs[gather->count++] = *ref;
	return 0;
}

int sb__gather_finish(struct sb__gather *gather, sb_value **ret_value)
{
	struct sb__cursor cursor = { .data = gather->buf.data,
		                     .len = gather->buf.len,
		                     .own = gather->arrays.items,
		                     .own_count = gather->arrays.count };

	return sb__value_decode_own(&cursor, gather->refs, gather->count, ret_value);
}

void sb__gather_drop(struct sb__gather *gather)
{
	sb__buf_free(&gather->buf);
	sb__array_list_drop(&gather->arrays);
	free(gather->refs);
}
