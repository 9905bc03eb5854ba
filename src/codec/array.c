/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays: descriptions in messages, and the counted sb_array. A description is another process's claim: every number in
 * it is bounded here, so that no element lies outside the block or the message's bytes. Whether the block is
 * there is for whoever maps it.
 *
 * Locks: none; references are counted atomically. Crash story: nothing is shared.
 */
#include "array.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "value_impl.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE '<'
#else
#define NATIVE '>'
#endif

/* ── shapes ── */

bool sb__array_pack_strides(int ndim, const size_t *shape, size_t itemsize, bool fortran,
                            int64_t *ret_strides, size_t *ret_nbytes)
{
	size_t step = itemsize, bytes = itemsize;

	for (int k = 0; k < ndim; k++) {
		int d = fortran ? k : ndim - 1 - k;

		ret_strides[d] = (int64_t)step;
		if (__builtin_mul_overflow(bytes, shape[d], &bytes) ||
		    __builtin_mul_overflow(step, shape[d] ? shape[d] : 1, &step) || step > INT64_MAX)
			return false;
	}
	*ret_nbytes = bytes;
	return true;
}

bool sb__array_span(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize, int64_t *ret_low,
                    int64_t *ret_high)
{
	int64_t low = 0, high = (int64_t)itemsize;

	*ret_low = *ret_high = 0;
	for (int d = 0; d < ndim; d++)
		if (shape[d] == 0)
			return true;
	for (int d = 0; d < ndim; d++) {
		int64_t reach;

		if (shape[d] > INT64_MAX ||
		    __builtin_mul_overflow((int64_t)(shape[d] - 1), strides[d], &reach))
			return false;
		if (reach < 0 ? __builtin_add_overflow(low, reach, &low)
		              : __builtin_add_overflow(high, reach, &high))
			return false;
	}
	*ret_low = low;
	*ret_high = high;
	return true;
}

bool sb__array_is_packed(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize, bool fortran)
{
	size_t step = itemsize;

	for (int d = 0; d < ndim; d++)
		if (shape[d] == 0)
			return true;
	for (int k = 0; k < ndim; k++) {
		int d = fortran ? k : ndim - 1 - k;

		if (shape[d] > 1 && strides[d] != (int64_t)step)
			return false;
		step *= shape[d];
	}
	return true;
}

/* Dimensions from the outermost to the innermost of the order are order[0] … */
struct gathering {
	const size_t *shape;
	const int64_t *strides;
	int order[SB_ARRAY_NDIM_MAX];
	int depth; /* below this the elements lie next to each other */
	size_t run;
	uint8_t *to;
};

static void gather(struct gathering *g, int k, const uint8_t *from)
{
	if (k == g->depth) {
		memcpy(g->to, from, g->run);
		g->to += g->run;
		return;
	}
	for (size_t i = 0; i < g->shape[g->order[k]]; i++)
		gather(g, k + 1, from + (int64_t)i * g->strides[g->order[k]]);
}

void sb__array_gather(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize, bool fortran,
                      const void *from, void *to)
{
	struct gathering g = { .shape = shape, .strides = strides, .depth = ndim, .run = itemsize, .to = to };

	for (int k = 0; k < ndim; k++) {
		g.order[k] = fortran ? ndim - 1 - k : k;
		if (shape[k] == 0)
			return;
	}
	while (g.depth > 0) {
		int d = g.order[g.depth - 1];

		if (shape[d] != 1 && strides[d] != (int64_t)g.run)
			break;
		g.run *= shape[d];
		g.depth--;
	}
	gather(&g, 0, from);
}

/* ── dtypes ── */

static const struct {
	const char *name, *code;
} names[] = {
	{ "bool", "b1" },      { "int8", "i1" },        { "int16", "i2" },   { "int32", "i4" },
	{ "int64", "i8" },     { "uint8", "u1" },       { "uint16", "u2" },  { "uint32", "u4" },
	{ "uint64", "u8" },    { "float16", "f2" },     { "float32", "f4" }, { "float64", "f8" },
	{ "complex64", "c8" }, { "complex128", "c16" }, { "float", "f8" },   { "int", "i8" },
	{ "complex", "c16" },  { "double", "f8" },
};

static int bad_dtype(const char *name, size_t len)
{
	return sb__fail(SB_EINVAL,
	                "\"%.*s\" is no dtype that can be shared; numbers, \"S8\", \"U5\" and \"M8[ns]\" can",
	                (int)(len < 40 ? len : 40), name);
}

/* Which sizes a kind of number has, as bits by exponent. */
static unsigned sizes_of(char kind)
{
	switch (kind) {
	case 'b': return 1u << 0;
	case 'i':
	case 'u': return 1u << 0 | 1u << 1 | 1u << 2 | 1u << 3;
	case 'f': return 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4;
	case 'c': return 1u << 3 | 1u << 4 | 1u << 5;
	case 'M':
	case 'm': return 1u << 3;
	default: return 0;
	}
}

/* "[25us]" at text, all of it. */
static bool is_unit(const char *text, size_t len)
{
	static const char *const units[] = { "Y",  "M",  "W",  "D",  "h",  "m", "s",
		                             "ms", "us", "ns", "ps", "fs", "as" };
	size_t i = 1;

	if (len < 3 || text[0] != '[' || text[len - 1] != ']')
		return false;
	while (i < len && i < 11 && text[i] >= '0' && text[i] <= '9')
		i++;
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++)
		if (strlen(units[u]) == len - 1 - i && memcmp(units[u], text + i, len - 1 - i) == 0)
			return true;
	return false;
}

int sb__dtype_parse(const char *name, size_t len, char ret[SB_DTYPE_MAX + 1], size_t *ret_itemsize)
{
	const char *code = name;
	size_t left = len, size = 0, digits = 0;
	char order = NATIVE, kind;
	bool number;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0) {
			code = names[i].code;
			left = strlen(code);
		}
	if (left > 0 && (*code == '<' || *code == '>' || *code == '=' || *code == '|')) {
		order = *code == '<' || *code == '>' ? *code : NATIVE;
		code++;
		left--;
	}
	if (left < 2 || left > SB_DTYPE_MAX - 1)
		return bad_dtype(name, len);
	kind = *code;
	while (1 + digits < left && digits < 9 && code[1 + digits] >= '0' && code[1 + digits] <= '9')
		size = size * 10 + (size_t)(code[1 + digits++] - '0');
	number = size > 0 && size <= 32 && (size & (size - 1)) == 0 &&
	         (sizes_of(kind) & 1u << __builtin_ctzll(size));
	if (digits == 0 || size == 0 || code[1] == '0' ||
	    (!number && kind != 'S' && kind != 'U' && kind != 'V'))
		return bad_dtype(name, len);
	if (1 + digits != left &&
	    !((kind == 'M' || kind == 'm') && is_unit(code + 1 + digits, left - 1 - digits)))
		return bad_dtype(name, len);
	ret[0] = kind == 'S' || kind == 'V' || size == 1 ? '|' : order;
	if (kind == 'U') {
		ret[0] = order;
		size *= 4;
	}
	memcpy(ret + 1, code, left);
	ret[1 + left] = '\0';
	*ret_itemsize = size;
	return 0;
}

/* ── items ── */

static int malformed(const char *what)
{
	sb__fail(SB_EPROTOCOL, "an array whose %s makes no sense", what);
	return SB_EPROTOCOL; /* a constant, so that the compiler sees that it is not 0 */
}

static int next_list(struct sb__cursor *cursor, uint64_t most, uint64_t *ret_count, const char *what)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_ARRAY || item.u.count > most)
		return malformed(what);
	*ret_count = item.u.count;
	return 0;
}

static int next_number(struct sb__cursor *cursor, int64_t least, int64_t most, int64_t *ret, const char *what)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_INT || item.u.integer < least || item.u.integer > most)
		return malformed(what);
	*ret = item.u.integer;
	return 0;
}

static int next_dtype(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR ||
	    sb__dtype_parse((const char *)item.u.bytes.data, item.u.bytes.len, ret->dtype, &ret->itemsize))
		return malformed("dtype");
	return 0;
}

static int next_shape(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	uint64_t count;
	int err = next_list(cursor, SB_ARRAY_NDIM_MAX, &count, "shape");

	if (err)
		return err;
	ret->ndim = (int)count;
	for (int d = 0; d < ret->ndim; d++) {
		int64_t n;

		err = next_number(cursor, 0, INT64_MAX, &n, "shape");
		if (err)
			return err;
		ret->shape[d] = (size_t)n;
	}
	if (!sb__array_pack_strides(ret->ndim, ret->shape, ret->itemsize, false, ret->strides, &ret->nbytes))
		return malformed("shape");
	return 0;
}

static int next_strides(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err || item.type == SB__ITEM_NULL)
		return err;
	if (item.type != SB__ITEM_ARRAY || item.u.count != (uint64_t)ret->ndim)
		return malformed("strides");
	for (int d = 0; d < ret->ndim && !err; d++)
		err = next_number(cursor, INT64_MIN, INT64_MAX, &ret->strides[d], "strides");
	return err;
}

static int next_block(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	int64_t slot, generation, offset, len, first;
	uint64_t count;
	int err = next_list(cursor, 5, &count, "block");

	if (err)
		return err;
	if (count != 5)
		return malformed("block");
	if ((err = next_number(cursor, 0, UINT32_MAX, &slot, "block")) ||
	    (err = next_number(cursor, 0, UINT32_MAX, &generation, "block")) ||
	    (err = next_number(cursor, 0, INT64_MAX, &offset, "block")) ||
	    (err = next_number(cursor, 1, INT64_MAX, &len, "block")) ||
	    (err = next_number(cursor, 0, len, &first, "block")))
		return err;
	ret->block = (struct sb__block){ (uint32_t)slot, (uint32_t)generation, (uint64_t)offset,
		                         (uint64_t)len };
	ret->first = (uint64_t)first;
	return 0;
}

static int next_data(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	struct sb__item item;
	int64_t low, high;
	uint64_t len;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type == SB__ITEM_BYTES) {
		ret->data = item.u.bytes.data;
		len = item.u.bytes.len;
		/* All of it is in the message: a few bytes must not stand for gigabytes. */
		if (ret->nbytes > len)
			return malformed("data");
	} else if (item.type == SB__ITEM_TAG && item.u.count == SB__TAG_BLOCK) {
		err = next_block(cursor, ret);
		if (err)
			return err;
		len = ret->block.len;
	} else {
		return malformed("data");
	}
	if (!sb__array_span(ret->ndim, ret->shape, ret->strides, ret->itemsize, &low, &high) ||
	    (low < 0 && (uint64_t) - (low + 1) + 1 > ret->first) || ret->first > len ||
	    (uint64_t)high > len - ret->first)
		return malformed("data");
	return 0;
}

int sb__next_array(struct sb__cursor *cursor, struct sb__array_item *ret)
{
	int64_t made_as, flags;
	uint64_t count;
	int err = next_list(cursor, 6, &count, "description");

	ret->data = NULL;
	ret->first = 0;
	if (!err && count != 6)
		err = malformed("description");
	if (!err)
		err = next_number(cursor, 0, SB__MADE_MASK | 0xff, &made_as, "kind");
	if (!err)
		err = next_dtype(cursor, ret);
	if (!err)
		err = next_shape(cursor, ret);
	if (!err)
		err = next_strides(cursor, ret);
	if (!err)
		err = next_number(cursor, 0, SB__ARRAY_READONLY, &flags, "flags");
	if (!err)
		err = next_data(cursor, ret);
	if (err)
		return err;
	ret->made_as = (uint32_t)made_as;
	ret->flags = (uint32_t)flags;
	return 0;
}

void sb__put_array_item(struct sb__buf *buf, const struct sb__array_item *item)
{
	bool packed = sb__array_is_packed(item->ndim, item->shape, item->strides, item->itemsize, false);

	sb__put_tag(buf, SB__TAG_ARRAY);
	sb__put_array(buf, 6);
	sb__put_uint(buf, item->made_as);
	sb__put_str(buf, item->dtype, strlen(item->dtype));
	sb__put_array(buf, (uint64_t)item->ndim);
	for (int d = 0; d < item->ndim; d++)
		sb__put_uint(buf, item->shape[d]);
	if (packed) {
		sb__put_null(buf);
	} else {
		sb__put_array(buf, (uint64_t)item->ndim);
		for (int d = 0; d < item->ndim; d++)
			sb__put_int(buf, item->strides[d]);
	}
	sb__put_uint(buf, item->flags);
	if (item->data || item->nbytes == 0) {
		sb__put_bytes(buf, item->data, item->data ? item->nbytes : 0);
		return;
	}
	sb__put_tag(buf, SB__TAG_BLOCK);
	sb__put_array(buf, 5);
	sb__put_uint(buf, item->block.slot);
	sb__put_uint(buf, item->block.generation);
	sb__put_uint(buf, item->block.offset);
	sb__put_uint(buf, item->block.len);
	sb__put_uint(buf, item->first);
}

/* ── sb_array ── */

int sb__array_make(const struct sb__array_item *item, void *data, void (*release)(void *kept), void *kept,
                   sb_array **ret)
{
	sb_array *array = malloc(sizeof(*array));

	if (!array)
		return sb__fail_memory("an array");
	*array = (sb_array){ .made_as = item->made_as,
		             .flags = item->flags,
		             .itemsize = item->itemsize,
		             .nbytes = item->nbytes,
		             .ndim = item->ndim,
		             .data = data,
		             .shared = item->block.len > 0,
		             .block = item->block,
		             .first = item->first,
		             .release = release,
		             .kept = kept };
	atomic_init(&array->refs, 1);
	memcpy(array->dtype, item->dtype, sizeof(array->dtype));
	memcpy(array->shape, item->shape, (size_t)item->ndim * sizeof(array->shape[0]));
	memcpy(array->strides, item->strides, (size_t)item->ndim * sizeof(array->strides[0]));
	*ret = array;
	return 0;
}

static int open_inline(const struct sb__array_item *item, sb_array **ret)
{
	struct sb__array_item copied = *item;
	void *memory;
	int err;

	memory = aligned_alloc(64, (item->nbytes + 64) / 64 * 64);
	if (!memory)
		return sb__fail_memory("an array");
	/* Strides that are no packing of either order are taken out of the message, too. */
	if (!sb__array_is_packed(item->ndim, item->shape, item->strides, item->itemsize, true)) {
		sb__array_gather(item->ndim, item->shape, item->strides, item->itemsize, false, item->data,
		                 memory);
		sb__array_pack_strides(item->ndim, item->shape, item->itemsize, false, copied.strides,
		                       &copied.nbytes);
	} else if (item->nbytes > 0) {
		memcpy(memory, item->data, item->nbytes);
	}
	copied.block.len = 0;
	copied.first = 0;
	err = sb__array_make(&copied, memory, free, memory, ret);
	if (err)
		free(memory);
	return err;
}

int sb__array_open(const struct sb__array_item *item, const struct sb__blocks *blocks, sb_array **ret)
{
	void *addr, *kept;
	int err;

	if (item->data || item->nbytes == 0)
		return open_inline(item, ret);
	if (!blocks)
		return sb__fail(SB_EPROTOCOL, "an array in shared memory where there is none");
	err = blocks->keep(blocks->arg, &item->block, !(item->flags & SB__ARRAY_READONLY), &addr, &kept);
	if (err)
		return err;
	err = sb__array_make(item, (uint8_t *)addr + item->first, blocks->release, kept, ret);
	if (err)
		blocks->release(kept);
	else
		(*ret)->bridge = blocks->bridge;
	return err;
}

void sb__array_encode(const sb_array *array, struct sb__buf *buf)
{
	struct sb__array_item item = { .made_as = array->made_as,
		                       .flags = array->flags,
		                       .itemsize = array->itemsize,
		                       .ndim = array->ndim,
		                       .nbytes = array->nbytes,
		                       .data = array->shared ? NULL : array->data,
		                       .block = array->block,
		                       .first = array->first };

	memcpy(item.dtype, array->dtype, sizeof(item.dtype));
	memcpy(item.shape, array->shape, sizeof(item.shape[0]) * (size_t)array->ndim);
	memcpy(item.strides, array->strides, sizeof(item.strides[0]) * (size_t)array->ndim);
	sb__put_array_item(buf, &item);
}

sb_array *sb_array_ref(sb_array *array)
{
	if (array)
		atomic_fetch_add_explicit(&array->refs, 1, memory_order_relaxed);
	return array;
}

void sb_array_unref(sb_array *array)
{
	if (!array || atomic_fetch_sub_explicit(&array->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (array->release)
		array->release(array->kept);
	free(array);
}

bool sb__kept_add(struct sb__kept_list *list, const struct sb__blocks *blocks, void *kept)
{
	list->release = blocks->release;
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 4;
		void **items = realloc(list->items, cap * sizeof(*items));

		if (!items) {
			blocks->release(kept);
			return false;
		}
		list->items = items;
		list->cap = cap;
	}
	list->items[list->count++] = kept;
	return true;
}

void sb__kept_rewind(struct sb__kept_list *list, size_t count)
{
	while (list->count > count)
		list->release(list->items[--list->count]);
}

void sb__kept_drop(struct sb__kept_list *list)
{
	sb__kept_rewind(list, 0);
	free(list->items);
	*list = (struct sb__kept_list){ .items = NULL };
}

int sb__array_list_add(void *arg, sb_array *array)
{
	struct sb__array_list *list = arg;

	if (list->count == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 4;
		sb_array **items = realloc(list->items, cap * sizeof(sb_array *));

		if (!items)
			return SB_ENOMEM;
		list->items = items;
		list->cap = cap;
	}
	list->items[list->count++] = sb_array_ref(array);
	return 0;
}

void sb__array_list_drop(struct sb__array_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		sb_array_unref(list->items[i]);
	free(list->items);
	*list = (struct sb__array_list){ .items = NULL };
}

/* ── reading ── */

const void *sb_array_data(const sb_array *array)
{
	return array ? array->data : NULL;
}

void *sb_array_writable(sb_array *array)
{
	if (array && !(array->flags & SB__ARRAY_READONLY))
		return array->data;
	sb__fail(SB_EDENIED, array ? "the array is read-only; copy it to write" : "the array is NULL");
	return NULL;
}

const char *sb_array_dtype(const sb_array *array)
{
	return array ? array->dtype : "";
}

int sb_array_ndim(const sb_array *array)
{
	return array ? array->ndim : 0;
}

const size_t *sb_array_shape(const sb_array *array)
{
	return array ? array->shape : NULL;
}

const int64_t *sb_array_strides(const sb_array *array)
{
	return array ? array->strides : NULL;
}

size_t sb_array_itemsize(const sb_array *array)
{
	return array ? array->itemsize : 0;
}

size_t sb_array_nbytes(const sb_array *array)
{
	return array ? array->nbytes : 0;
}

size_t sb_array_count(const sb_array *array)
{
	return array ? array->nbytes / array->itemsize : 0;
}

bool sb_array_is_readonly(const sb_array *array)
{
	return array && array->flags & SB__ARRAY_READONLY;
}

bool sb_array_is_shared(const sb_array *array)
{
	return array && array->shared;
}

bool sb_array_is_contiguous(const sb_array *array)
{
	return array &&
	       sb__array_is_packed(array->ndim, array->shape, array->strides, array->itemsize, false);
}

const void *sb_array_as(const sb_array *array, const char *dtype, size_t *ret_count)
{
	char wanted[SB_DTYPE_MAX + 1];
	size_t itemsize;

	if (!array || !dtype) {
		sb__fail(SB_EINVAL, "sb_array_as: array or dtype is NULL");
		return NULL;
	}
	if (sb__dtype_parse(dtype, strlen(dtype), wanted, &itemsize))
		return NULL;
	if (strcmp(wanted, array->dtype) != 0) {
		sb__fail(SB_EKIND, "the array's dtype is %s, not %s", array->dtype, wanted);
		return NULL;
	}
	if (!sb_array_is_contiguous(array) || (uintptr_t)array->data % (itemsize < 16 ? itemsize : 16) != 0) {
		sb__fail(SB_EKIND, "the array's elements do not lie next to each other in C order; go by its "
		                   "strides, or call numpy:ascontiguousarray first");
		return NULL;
	}
	if (ret_count)
		*ret_count = sb_array_count(array);
	return array->data;
}

static int element(const sb_array *array, const size_t *index, const uint8_t **ret)
{
	const uint8_t *at = array ? array->data : NULL;

	if (!array || (array->ndim > 0 && !index))
		return sb__fail(SB_EINVAL, "the array or the index is NULL");
	for (int d = 0; d < array->ndim; d++) {
		if (index[d] >= array->shape[d])
			return sb__fail(SB_EINVAL, "index %zu of dimension %d, which has %zu", index[d], d,
			                array->shape[d]);
		at += (int64_t)index[d] * array->strides[d];
	}
	*ret = at;
	return 0;
}

static int no_number(const sb_array *array, const char *what)
{
	return sb__fail(SB_EKIND, "elements of dtype %s are no %s that can be read here", array->dtype, what);
}

/* An integer, with its sign apart. */
static bool integer(const sb_array *array, const uint8_t *at, uint64_t *ret, bool *ret_negative)
{
	uint8_t bytes[8];
	uint64_t v = 0;
	char kind = array->dtype[1];
	size_t n = array->itemsize;

	if (n > 8 || (kind != 'b' && kind != 'i' && kind != 'u' && kind != 'M' && kind != 'm'))
		return false;
	memcpy(bytes, at, n);
	for (size_t k = 0; k < n; k++)
		v |= (uint64_t)bytes[array->dtype[0] == '>' ? n - 1 - k : k] << (8 * k);
	*ret_negative = kind != 'u' && kind != 'b' && v >> (8 * n - 1) & 1;
	if (*ret_negative && n < 8)
		v |= ~UINT64_C(0) << (8 * n);
	*ret = v;
	return true;
}

static bool real(const sb_array *array, const uint8_t *at, double *ret)
{
	uint8_t bytes[8];
	size_t n = array->itemsize;
	uint64_t bits = 0;
	uint32_t bits32;
	float single;

	if (array->dtype[1] != 'f' || (n != 2 && n != 4 && n != 8))
		return false;
	memcpy(bytes, at, n);
	for (size_t k = 0; k < n; k++)
		bits |= (uint64_t)bytes[array->dtype[0] == '>' ? n - 1 - k : k] << (8 * k);
	if (n == 8) {
		memcpy(ret, &bits, 8);
		return true;
	}
	if (n == 2) { /* sign, 5 bits of exponent, 10 of mantissa */
		int exponent = (int)(bits >> 10 & 31);
		double mantissa = (double)(bits & 1023) / 1024;

		if (exponent == 31)
			*ret = mantissa != 0 ? __builtin_nan("") : __builtin_inf();
		else
			*ret = exponent ? __builtin_ldexp(1 + mantissa, exponent - 15)
			                : __builtin_ldexp(mantissa, -14);
		if (bits >> 15)
			*ret = -*ret;
		return true;
	}
	bits32 = (uint32_t)bits;
	memcpy(&single, &bits32, 4);
	*ret = (double)single;
	return true;
}

int sb_array_get_float(const sb_array *array, const size_t *index, double *ret)
{
	const uint8_t *at;
	uint64_t v;
	bool negative;
	int err = ret ? element(array, index, &at) : sb__fail(SB_EINVAL, "ret is NULL");

	if (err)
		return err;
	if (real(array, at, ret))
		return 0;
	if (!integer(array, at, &v, &negative))
		return no_number(array, "number");
	*ret = negative ? (double)(int64_t)v : (double)v;
	return 0;
}

int sb_array_get_int(const sb_array *array, const size_t *index, int64_t *ret)
{
	const uint8_t *at;
	uint64_t v;
	bool negative;
	int err = ret ? element(array, index, &at) : sb__fail(SB_EINVAL, "ret is NULL");

	if (err)
		return err;
	if (!integer(array, at, &v, &negative) || (!negative && v > INT64_MAX))
		return no_number(array, "integer of 64 bits");
	*ret = (int64_t)v;
	return 0;
}
