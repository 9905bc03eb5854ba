/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of arrays, also of such as lie in a block: an item that is believed stays within its memory. */
#include "fuzz.h"

#include "array.h"
#include "snakebridge/snakebridge.h"

#define BLOCK_SIZE ((size_t)1 << 16)

static uint8_t *block; /* what the message's block is mapped to; at the end of an allocation */

static int keep(void *arg, const struct sb__block *wanted, bool writable, void **ret_addr, void **ret_kept)
{
	(void)arg;
	(void)writable;
	if (wanted->len == 0 || wanted->len > BLOCK_SIZE)
		return SB_EPROTOCOL; /* as the arena says of one that does not lie within its file */
	*ret_addr = block + BLOCK_SIZE - wanted->len;
	*ret_kept = block;
	return 0;
}

static void release(void *kept)
{
	FUZZ_CHECK(kept == block);
}

static void *address(void *kept)
{
	return kept;
}

static const char *why(void)
{
	return "because";
}

static const struct sb__blocks blocks = {
	.bridge = &blocks, .keep = keep, .release = release, .address = address, .why = why
};

/* Every element can be read. */
static void touch(const sb_array *array)
{
	volatile uint8_t sum = 0;
	uint8_t *to;

	if (array->nbytes > BLOCK_SIZE)
		return;
	to = malloc(array->nbytes ? array->nbytes : 1);
	if (!to)
		abort();
	sb__array_gather(array->ndim, array->shape, array->strides, array->itemsize, false, array->data, to);
	for (size_t i = 0; i < array->nbytes; i++)
		sum = (uint8_t)(sum + to[i]);
	free(to);
}

static void again(const sb_array *array)
{
	struct sb__cursor cursor;
	struct sb__array_item item;
	struct sb__item tag;
	struct sb__buf buf;

	sb__buf_init(&buf, NULL, 0);
	sb__array_encode(array, &buf);
	if (!buf.error) {
		cursor = (struct sb__cursor){ .data = buf.data, .len = buf.len };
		FUZZ_CHECK(sb__next(&cursor, &tag) == 0 && tag.type == SB__ITEM_TAG);
		FUZZ_CHECK(sb__next_array(&cursor, &item) == 0);
		FUZZ_CHECK(item.nbytes == array->nbytes && item.ndim == array->ndim);
	}
	sb__buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sb__cursor cursor = { .data = data, .len = size };
	char dtype[SB_DTYPE_MAX + 1];
	struct sb__array_item item;
	sb_array *array = NULL;
	size_t itemsize;

	if (!block)
		block = calloc(1, BLOCK_SIZE);
	if (!block)
		abort();
	if (sb__dtype_parse((const char *)data, size < 40 ? size : 40, dtype, &itemsize) == 0)
		FUZZ_CHECK(itemsize > 0 && memchr(dtype, '\0', sizeof(dtype)));
	if (sb__next_array(&cursor, &item) != 0)
		return 0;
	FUZZ_CHECK(cursor.pos <= size && item.ndim >= 0 && item.ndim <= SB_ARRAY_NDIM_MAX);
	if (sb__array_open(&item, &blocks, &array) != 0)
		return 0;
	touch(array);
	again(array);
	sb_array_unref(array);
	return 0;
}
