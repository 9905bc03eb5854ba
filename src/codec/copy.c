/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of values, out of a tree that goes on living. Locks: none. Crash story: nothing is shared. */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "tree.h"

static int copy_node(const sb_value *value, const char *bytes, sb_value **ret)
{
	size_t len = bytes ? value->len + 1 : 0;
	sb_value *copy = malloc(sizeof(*copy) + len);

	if (!copy)
		return sb__fail_memory("a value");
	*copy = *value;
	copy->root = 1;
	if (bytes)
		copy->u.bytes = memcpy(copy + 1, bytes, len);
	*ret = copy;
	return 0;
}

int sb__value_copy(const sb_value *value, sb_value **ret)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_BOOL:
	case SB_KIND_INT:
	case SB_KIND_FLOAT: return copy_node(value, NULL, ret);
	case SB_KIND_STR:
	case SB_KIND_BYTES:
	case SB_KIND_BYTEARRAY: return copy_node(value, value->u.bytes, ret);
	default: return sb_value_pack(ret, "o", value);
	}
}
