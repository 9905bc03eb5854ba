/* SPDX-License-Identifier: Apache-2.0 */
/* Making arrays that are shared. What they are otherwise: src/codec/array.c. */
#include "snakebridge/array.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "fail.h"
#include "ops.h"

static int describe(const char *what, const char *dtype, int ndim, const size_t *shape,
                    struct sb__array_item *ret)
{
	int err;

	if (!dtype)
		return sb__fail(SB_EINVAL, "%s: dtype is NULL", what);
	if (ndim < 0 || ndim > SB_ARRAY_NDIM_MAX || (ndim > 0 && !shape))
		return sb__fail(SB_EINVAL, "%s: %d dimensions; an array has 0 to %d, and a shape", what, ndim,
		                SB_ARRAY_NDIM_MAX);
	*ret = (struct sb__array_item){ .ndim = ndim };
	err = sb__dtype_parse(dtype, strlen(dtype), ret->dtype, &ret->itemsize);
	if (err)
		return err;
	if (ndim > 0)
		memcpy(ret->shape, shape, (size_t)ndim * sizeof(*shape));
	if (!sb__array_pack_strides(ndim, ret->shape, ret->itemsize, false, ret->strides, &ret->nbytes))
		return sb__fail(SB_EINVAL, "%s: the shape has more bytes than there are addresses", what);
	return 0;
}

static int make_private(struct sb__array_item *item, const void *data, sb_array **ret)
{
	void *memory = aligned_alloc(64, (item->nbytes + 64) / 64 * 64);
	int err;

	if (!memory)
		return sb__fail_memory("an array");
	if (data && item->nbytes > 0)
		memcpy(memory, data, item->nbytes);
	err = sb__array_make(item, memory, free, memory, ret);
	if (err)
		free(memory);
	return err;
}

static int make_shared(sb_session *session, struct sb__array_item *item, sb_array **ret)
{
	const struct sb__blocks *blocks;
	struct sb__share share;
	void *addr, *kept;
	int err = sb__session_blocks(session, &blocks, &share);

	if (!err)
		err = blocks->make(blocks->arg, &share, item->nbytes, &item->block, &addr, &kept);
	if (err)
		return err;
	err = sb__array_make(item, addr, blocks->release, kept, ret);
	if (err)
		blocks->release(kept);
	else
		(*ret)->bridge = blocks->bridge;
	return err;
}

int sb_array_new(sb_session *session, const char *dtype, int ndim, const size_t *shape, sb_array **ret_array)
{
	struct sb__array_item item;
	int err = ret_array ? describe("sb_array_new", dtype, ndim, shape, &item)
	                    : sb__fail(SB_EINVAL, "sb_array_new: ret_array is NULL");

	if (err)
		return err;
	return item.nbytes ? make_shared(session, &item, ret_array) : make_private(&item, NULL, ret_array);
}

int sb_array_from(sb_session *session, const char *dtype, int ndim, const size_t *shape, const void *data,
                  sb_array **ret_array)
{
	struct sb__array_item item;
	int err = ret_array ? describe("sb_array_from", dtype, ndim, shape, &item)
	                    : sb__fail(SB_EINVAL, "sb_array_from: ret_array is NULL");

	if (!err && item.nbytes > 0 && !data)
		err = sb__fail(SB_EINVAL, "sb_array_from: data is NULL");
	if (err)
		return err;
	if (item.nbytes <= SB__ARRAY_INLINE)
		return make_private(&item, data, ret_array);
	err = make_shared(session, &item, ret_array);
	if (!err)
		memcpy((*ret_array)->data, data, item.nbytes);
	return err;
}
