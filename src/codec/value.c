/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: decoding into immutable trees (tree.h). Encoding them again is in value_encode.c, reading them in read.c, building
 * them from formats in pack.c.
 *
 * A first pass over the bytes checks and counts, a second fills; both see the same private bytes, so the second
 * cannot run past what the first counted.
 *
 * Locks: none; a tree never changes. Crash story: nothing is shared.
 */
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "fail.h"
#include "ints.h"
#include "scalar.h"
#include "tree.h"

struct measure {
	size_t nodes, refs, bytes, arrays;
};

/* Where the next of each goes. */
struct block {
	sb_value *node;
	sb_ref *ref;
	char *bytes;
	const char *session_id;
	sb_array **opened; /* those that the nodes so far have, to be given back if it fails */
	size_t opened_count;
};

/* What is known of a zone beside its name, which follows in the tree's bytes. */
struct zone {
	int64_t offset_us;
	size_t len;
	bool has_offset, has_name;
};

#define ANY UINT64_MAX

/* Tags whose array becomes the node's items. */
static const struct shape {
	uint64_t tag, count;
	sb_kind kind;
	bool ints; /* of nothing but ints, so that it nests no deeper */
} shapes[] = {
	{ SB__TAG_TUPLE, ANY, SB_KIND_TUPLE, false },
	{ SB__TAG_SET, ANY, SB_KIND_SET, false },
	{ SB__TAG_FROZENSET, ANY, SB_KIND_FROZENSET, false },
	{ SB__TAG_SLICE, 3, SB_KIND_SLICE, false },
	{ SB__TAG_RANGE, 3, SB_KIND_RANGE, true },
	{ SB__TAG_FRACTION, 2, SB_KIND_FRACTION, true },
};

static const struct shape *shape_of(uint64_t tag)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].tag == tag)
			return &shapes[i];
	return NULL;
}

uint64_t sb__tree_tag(sb_kind kind)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].kind == kind)
			return shapes[i].tag;
	return 0;
}

static int too_deep(void)
{
	return sb__fail(SB_ETOODEEP,
	                "a value is nested deeper than %u containers; flatten it, or keep it as a ref",
	                SB__DEPTH_MAX);
}

static int measure(struct sb__cursor *cursor, struct measure *m, unsigned depth);

static int measure_items(struct sb__cursor *cursor, struct measure *m, uint64_t count, unsigned depth)
{
	int err = 0;

	if (depth >= SB__DEPTH_MAX)
		return too_deep();
	/* No overflow: each count is at most the bytes that are left, and there are at most SB__DEPTH_MAX
	 * containers whose items have not been read. */
	m->nodes += count;
	for (uint64_t i = 0; i < count && !err; i++) {
		const uint8_t *bytes;
		int64_t skipped;
		size_t len;

		if (sb__take_int(cursor, &skipped))
			continue;
		if (sb__take_short_bytes(cursor, &bytes, &len))
			m->bytes += len + 1;
		else
			err = measure(cursor, m, depth + 1);
	}
	return err;
}

/* The parts of a fraction or range; the last, or the divisor, is not 0. */
static int measure_ints(struct sb__cursor *cursor, struct measure *m, const struct shape *shape)
{
	struct sb__item item = { .type = SB__ITEM_NULL };

	m->nodes += shape->count;
	for (uint64_t i = 0; i < shape->count; i++) {
		int err = sb__next(cursor, &item);
		bool big = !err && item.type == SB__ITEM_TAG &&
		           (item.u.count == SB__TAG_BIGNUM || item.u.count == SB__TAG_BIGNUM_NEGATIVE);
		bool negative = big && item.u.count == SB__TAG_BIGNUM_NEGATIVE;

		if (big)
			err = sb__next_bignum(cursor, &item);
		if (err)
			return err;
		if (!big && item.type != SB__ITEM_INT)
			return sb__fail(SB_EPROTOCOL, "a part of a %s is no int", sb_kind_name(shape->kind));
		if (big)
			m->bytes += item.u.bytes.len + 2;
		if (i + 1 == shape->count && !big && item.u.integer == 0)
			return sb__fail(SB_EPROTOCOL, "a %s has a step or denominator of 0",
			                sb_kind_name(shape->kind));
		if (i + 1 == shape->count && shape->kind == SB_KIND_FRACTION &&
		    (negative || (!big && item.u.integer < 0)))
			return sb__fail(SB_EPROTOCOL, "a Fraction's denominator is negative");
	}
	return 0;
}

static int measure_when(struct sb__cursor *cursor, struct measure *m, uint64_t tag)
{
	sb_datetime when;
	int err = sb__next_when(cursor, tag, &when);

	if (!err && (when.has_offset || when.zone))
		m->bytes += sizeof(struct zone) + when.zone_len + 1;
	return err;
}

static int measure_decimal(struct sb__cursor *cursor, struct measure *m, uint64_t tag)
{
	char space[SB__DECIMAL_TEXT];
	const char *text;
	size_t len = 0;
	int err = sb__next_decimal(cursor, tag, space, &text, &len);

	m->bytes += len + 1;
	return err;
}

static int measure_bytes(int err, struct measure *m, const struct sb__item *item)
{
	if (!err)
		m->bytes += item->u.bytes.len +
		            2; /* a big int's magnitude may need one more than it has here */
	return err;
}

static int measure_array(struct sb__cursor *cursor, struct measure *m)
{
	struct sb__array_item item;

	m->arrays++;
	return sb__next_array(cursor, &item);
}

static int measure_tagged(struct sb__cursor *cursor, struct measure *m, uint64_t tag, size_t position,
                          unsigned depth)
{
	const struct shape *shape = shape_of(tag);
	struct sb__item item;
	double real, imaginary;
	int64_t seconds;
	int32_t microseconds;
	uint64_t count;
	sb_ref ref;
	int err;

	if (shape) {
		err = sb__next_tagged_array(cursor, sb_kind_name(shape->kind), shape->count, &count);
		if (err)
			return err;
		return shape->ints ? measure_ints(cursor, m, shape) : measure_items(cursor, m, count, depth);
	}
	switch (tag) {
	case SB__TAG_REF: m->refs++; return sb__next_ref_fields(cursor, &ref);
	case SB__TAG_ITEM_RESULT: m->refs++; return sb__next_item_ref(cursor, &ref);
	case SB__TAG_ARRAY: return measure_array(cursor, m);
	case SB__TAG_BIGNUM:
	case SB__TAG_BIGNUM_NEGATIVE: return measure_bytes(sb__next_bignum(cursor, &item), m, &item);
	case SB__TAG_BYTEARRAY:
		return measure_bytes(sb__next_tagged_bytes(cursor, "bytearray", SIZE_MAX, &item), m, &item);
	case SB__TAG_UUID: return measure_bytes(sb__next_tagged_bytes(cursor, "UUID", 16, &item), m, &item);
	case SB__TAG_WTF8: return measure_bytes(sb__next_wtf8(cursor, &item), m, &item);
	case SB__TAG_DECIMAL:
	case SB__TAG_DECIMAL_TEXT: return measure_decimal(cursor, m, tag);
	case SB__TAG_DATETIME_TEXT:
	case SB__TAG_DATETIME:
	case SB__TAG_DATE:
	case SB__TAG_TIME: return measure_when(cursor, m, tag);
	case SB__TAG_TIMEDELTA: return sb__next_timedelta(cursor, &seconds, &microseconds);
	case SB__TAG_COMPLEX: return sb__next_complex(cursor, &real, &imaginary);
	case SB__TAG_ELLIPSIS: return sb__next_ellipsis(cursor);
	default:
		return sb__fail(SB_EPROTOCOL, "tag %llu at byte %zu is not known here",
		                (unsigned long long)tag, position);
	}
}

static int measure(struct sb__cursor *cursor, struct measure *m, unsigned depth)
{
	size_t position = cursor->pos;
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	switch (item.type) {
	case SB__ITEM_STR:
	case SB__ITEM_BYTES: return measure_bytes(0, m, &item);
	case SB__ITEM_ARRAY: return measure_items(cursor, m, item.u.count, depth);
	case SB__ITEM_MAP: return measure_items(cursor, m, 2 * item.u.count, depth);
	case SB__ITEM_TAG: return measure_tagged(cursor, m, item.u.count, position, depth);
	default: return 0;
	}
}

static int fill(struct sb__cursor *cursor, sb_value *node, struct block *block);

static const char *copy_bytes(const uint8_t *bytes, size_t len, struct block *block)
{
	char *to = block->bytes;

	if (len == 3) /* most items of batches give None */
		memcpy(to, bytes, 3);
	else
		memcpy(to, bytes, len);
	to[len] = '\0';
	block->bytes += len + 1;
	return to;
}

static int fill_items(struct sb__cursor *cursor, sb_value *node, uint64_t count, struct block *block)
{
	sb_value *items = block->node;

	block->node += count;
	node->u.items = items;
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *bytes;
		int64_t integer;
		size_t len;
		int err = 0;

		if (sb__take_int(cursor, &integer))
			items[i] = (sb_value){ .kind = SB_KIND_INT, .u.integer = integer };
		else if (sb__take_short_bytes(cursor, &bytes, &len))
			items[i] = (sb_value){ .kind = SB_KIND_BYTES,
				               .u.bytes = copy_bytes(bytes, len, block),
				               .len = len };
		else
			err = fill(cursor, &items[i], block);
		if (err)
			return err;
	}
	return 0;
}

static int fill_bytes(int err, sb_value *node, sb_kind kind, const void *bytes, size_t len,
                      struct block *block)
{
	if (err)
		return err;
	node->kind = (uint8_t)kind;
	if (len > 0)
		memcpy(block->bytes, bytes, len);
	block->bytes[len] = '\0';
	node->u.bytes = block->bytes;
	node->len = len;
	block->bytes += len + 1;
	return 0;
}

static int fill_item(int err, sb_value *node, sb_kind kind, const struct sb__item *item, struct block *block)
{
	return err ? err : fill_bytes(0, node, kind, item->u.bytes.data, item->u.bytes.len, block);
}

/* The magnitude of the int -1 - n is n + 1. */
static int fill_bignum(struct sb__cursor *cursor, sb_value *node, bool negative, struct block *block)
{
	uint8_t *magnitude = (uint8_t *)block->bytes;
	struct sb__item item;
	int err = sb__next_bignum(cursor, &item);
	size_t len, i;

	if (err)
		return err;
	len = item.u.bytes.len;
	fill_bytes(0, node, SB_KIND_BIGINT, item.u.bytes.data, len, block);
	node->boolean = negative;
	if (!negative)
		return 0;
	for (i = len; i > 0 && ++magnitude[i - 1] == 0;)
		i--;
	if (i > 0)
		return 0;
	/* It was all ones: a 1 and zeros. measure() left room. */
	magnitude[0] = 1;
	memset(magnitude + 1, 0, len + 1);
	node->len = len + 1;
	block->bytes++;
	return 0;
}

static int fill_ref(struct sb__cursor *cursor, sb_value *node, bool item, struct block *block)
{
	sb_ref *ref = block->ref++;
	int err = item ? sb__next_item_ref(cursor, ref) : sb__next_ref(cursor, ref);

	if (err)
		return err;
	node->kind = SB_KIND_REF;
	if (!item)
		strncpy(ref->session_id, block->session_id, SB_SESSION_ID_MAX);
	node->u.ref = ref;
	return 0;
}

static int fill_array(struct sb__cursor *cursor, sb_value *node, struct block *block)
{
	struct sb__array_item item;
	int err = sb__next_array(cursor, &item);

	if (!err && cursor->own)
		node->u.array = sb_array_ref(cursor->own[block->opened_count]);
	else if (!err)
		err = sb__array_open(&item, cursor->blocks, &node->u.array);
	if (err)
		return err;
	block->opened[block->opened_count++] = node->u.array;
	node->kind = SB_KIND_ARRAY;
	return 0;
}

static int fill_decimal(struct sb__cursor *cursor, sb_value *node, uint64_t tag, struct block *block)
{
	char space[SB__DECIMAL_TEXT];
	const char *text = space;
	size_t len = 0;
	int err = sb__next_decimal(cursor, tag, space, &text, &len);

	return fill_bytes(err, node, SB_KIND_DECIMAL, text, len, block);
}

static int fill_when(struct sb__cursor *cursor, sb_value *node, uint64_t tag, struct block *block)
{
	sb_datetime w;
	int err = sb__next_when(cursor, tag, &w);
	struct zone zone;

	if (err)
		return err;
	node->kind = tag == SB__TAG_DATE   ? SB_KIND_DATE
	             : tag == SB__TAG_TIME ? SB_KIND_TIME
	                                   : SB_KIND_DATETIME;
	node->u.when = (uint64_t)w.year << 46 | (uint64_t)w.month << 42 | (uint64_t)w.day << 37 |
	               (uint64_t)w.hour << 32 | (uint64_t)w.minute << 26 | (uint64_t)w.second << 20 |
	               (uint64_t)w.microsecond;
	node->boolean = w.fold != 0;
	if (!w.has_offset && !w.zone)
		return 0;
	zone = (struct zone){ w.utc_offset_us, w.zone_len, w.has_offset, w.zone != NULL };
	node->zone = block->bytes;
	memcpy(block->bytes, &zone, sizeof(zone));
	block->bytes += sizeof(zone);
	if (w.zone_len > 0)
		memcpy(block->bytes, w.zone, w.zone_len);
	block->bytes[w.zone_len] = '\0';
	block->bytes += w.zone_len + 1;
	return 0;
}

void sb__tree_when(const sb_value *value, sb_datetime *ret)
{
	uint64_t w = value->u.when;
	struct zone zone;

	*ret = (sb_datetime){
		.year = (int)(w >> 46),
		.month = w >> 42 & 15,
		.day = w >> 37 & 31,
		.hour = w >> 32 & 31,
		.minute = w >> 26 & 63,
		.second = w >> 20 & 63,
		.microsecond = w & 0xfffff,
		.fold = value->boolean,
	};
	if (!value->zone)
		return;
	memcpy(&zone, value->zone, sizeof(zone));
	ret->has_offset = zone.has_offset;
	ret->utc_offset_us = zone.offset_us;
	if (zone.has_name) {
		ret->zone = value->zone + sizeof(zone);
		ret->zone_len = zone.len;
	}
}

static int fill_tagged(struct sb__cursor *cursor, sb_value *node, uint64_t tag, struct block *block)
{
	const struct shape *shape = shape_of(tag);
	int32_t microseconds = 0;
	struct sb__item item;
	uint64_t count;
	int err;

	if (shape) {
		err = sb__next_tagged_array(cursor, "", ANY, &count);
		if (err)
			return err;
		node->kind = (uint8_t)shape->kind;
		node->len = count;
		return fill_items(cursor, node, count, block);
	}
	switch (tag) {
	case SB__TAG_REF:
	case SB__TAG_ITEM_RESULT: return fill_ref(cursor, node, tag == SB__TAG_ITEM_RESULT, block);
	case SB__TAG_ARRAY: return fill_array(cursor, node, block);
	case SB__TAG_BIGNUM:
	case SB__TAG_BIGNUM_NEGATIVE: return fill_bignum(cursor, node, tag == SB__TAG_BIGNUM_NEGATIVE, block);
	case SB__TAG_BYTEARRAY:
		return fill_item(sb__next(cursor, &item), node, SB_KIND_BYTEARRAY, &item, block);
	case SB__TAG_UUID: return fill_item(sb__next(cursor, &item), node, SB_KIND_UUID, &item, block);
	case SB__TAG_WTF8:
		node->boolean = true;
		return fill_item(sb__next(cursor, &item), node, SB_KIND_STR, &item, block);
	case SB__TAG_DECIMAL:
	case SB__TAG_DECIMAL_TEXT: return fill_decimal(cursor, node, tag, block);
	case SB__TAG_TIMEDELTA:
		node->kind = SB_KIND_TIMEDELTA;
		err = sb__next_timedelta(cursor, &node->u.integer, &microseconds);
		node->microseconds = microseconds;
		return err;
	case SB__TAG_COMPLEX:
		node->kind = SB_KIND_COMPLEX;
		return sb__next_complex(cursor, &node->u.number, &node->imaginary);
	case SB__TAG_ELLIPSIS: node->kind = SB_KIND_ELLIPSIS; return sb__next_ellipsis(cursor);
	default: return fill_when(cursor, node, tag, block);
	}
}

static int fill(struct sb__cursor *cursor, sb_value *node, struct block *block)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	*node = (sb_value){ .kind = SB_KIND_NONE };
	switch (item.type) {
	case SB__ITEM_NULL: return 0;
	case SB__ITEM_BOOL:
		node->kind = SB_KIND_BOOL;
		node->boolean = item.u.boolean;
		return 0;
	case SB__ITEM_INT:
		node->kind = SB_KIND_INT;
		node->u.integer = item.u.integer;
		return 0;
	case SB__ITEM_FLOAT:
		node->kind = SB_KIND_FLOAT;
		node->u.number = item.u.number;
		return 0;
	case SB__ITEM_STR: return fill_item(0, node, SB_KIND_STR, &item, block);
	case SB__ITEM_BYTES: return fill_item(0, node, SB_KIND_BYTES, &item, block);
	case SB__ITEM_ARRAY:
		node->kind = SB_KIND_LIST;
		node->len = item.u.count;
		return fill_items(cursor, node, item.u.count, block);
	case SB__ITEM_MAP:
		node->kind = SB_KIND_DICT;
		node->len = item.u.count;
		return fill_items(cursor, node, 2 * item.u.count, block);
	case SB__ITEM_TAG: return fill_tagged(cursor, node, item.u.count, block);
	}
	return sb__fail(SB_EBUG, "an item of type %d", (int)item.type);
}

/* None, bools and small ints are the same few values for everybody: they need no memory, and freeing leaves them alone. */
#define INT(i)                                        \
	{                                             \
		.kind = SB_KIND_INT, .u.integer = (i) \
	}
#define INT4(i)  INT(i), INT((i) + 1), INT((i) + 2), INT((i) + 3)
#define INT16(i) INT4(i), INT4((i) + 4), INT4((i) + 8), INT4((i) + 12)
#define INT64(i) INT16(i), INT16((i) + 16), INT16((i) + 32), INT16((i) + 48)

#define SMALL_MIN (-16)
#define SMALL_MAX 255
static const sb_value small_ints[SMALL_MAX - SMALL_MIN + 1] = { INT16(-16), INT64(0), INT64(64), INT64(128),
	                                                        INT64(192) };
static const sb_value none = { .kind = SB_KIND_NONE };
static const sb_value bools[2] = { { .kind = SB_KIND_BOOL, .boolean = false },
	                           { .kind = SB_KIND_BOOL, .boolean = true } };

/* What comes next if it is one of them, else NULL and the cursor is where it was. */
static const sb_value *next_constant(struct sb__cursor *cursor)
{
	struct sb__cursor after = *cursor;
	const sb_value *constant = NULL;
	struct sb__item item;

	if (sb__take_byte(cursor, SB__NULL_BYTE))
		return &none;
	if (after.pos < after.len && (after.data[after.pos] & 0xe0) == SB__MAJOR_TAG)
		return NULL;
	if (sb__next(&after, &item))
		return NULL;
	if (item.type == SB__ITEM_NULL)
		constant = &none;
	else if (item.type == SB__ITEM_BOOL)
		constant = &bools[item.u.boolean];
	else if (item.type == SB__ITEM_INT && item.u.integer >= SMALL_MIN && item.u.integer <= SMALL_MAX)
		constant = &small_ints[item.u.integer - SMALL_MIN];
	if (constant)
		*cursor = after;
	return constant;
}

/* memory: where the tree goes if it fits, else it is allocated. *ret_refs: the tree's refs, for
 * sb__value_decode_own(). */
static int decode(struct sb__cursor *cursor, const char *session_id, void *memory, size_t size,
                  sb_value **ret, sb_ref **ret_refs, size_t *ret_count)
{
	struct sb__cursor first = *cursor;
	struct measure m = { .nodes = 1 };
	struct block block = { .session_id = session_id };
	sb_value *root = memory;
	size_t need;
	int err = measure(&first, &m, 0);

	*ret_count = 0;
	if (err)
		return err;
	if (cursor->own && m.arrays != cursor->own_count)
		return sb__fail(SB_EPROTOCOL, "%zu arrays are named and %zu given", m.arrays,
		                cursor->own_count);
	need = m.nodes * sizeof(sb_value) + m.arrays * sizeof(sb_array *) + m.refs * sizeof(sb_ref) + m.bytes;
	if (need > size || m.arrays > 0)
		root = malloc(need);
	if (!root)
		return sb__fail_memory("a value");
	block.node = root + 1;
	block.opened = (sb_array **)(root + m.nodes);
	block.ref = (sb_ref *)(block.opened + m.arrays);
	block.bytes = (char *)(block.ref + m.refs);
	*ret_refs = block.ref;
	*ret_count = m.refs;
	err = fill(cursor, root, &block);
	if (err) {
		while (block.opened_count > 0)
			sb_array_unref(block.opened[--block.opened_count]);
		if (root != memory)
			free(root);
		return err;
	}
	root->root = root == memory ? 0 : m.arrays > 0 ? 2 : 1;
	*ret = root;
	return 0;
}

/* A ref and nothing else, as calls that make something give: read once, where it will lie. 1: it is none of these. */
static int decode_ref(struct sb__cursor *cursor, const char *session_id, sb_value **ret)
{
	size_t id_len = strlen(session_id);
	struct sb__cursor at = *cursor;
	sb_value *root;
	sb_ref *ref;
	int err;

	if (!sb__take_tag(&at, SB__TAG_REF))
		return 1;
	root = malloc(sizeof(*root) + sizeof(*ref));
	if (!root)
		return sb__fail_memory("a value");
	ref = (sb_ref *)(root + 1);
	err = sb__next_ref(&at, ref);
	if (err) {
		free(root);
		return err;
	}
	memcpy(ref->session_id, session_id, id_len < SB_SESSION_ID_MAX ? id_len : SB_SESSION_ID_MAX);
	*root = (sb_value){ .kind = SB_KIND_REF, .root = 1, .u.ref = ref };
	*cursor = at;
	*ret = root;
	return 0;
}

sb_value *sb__value_none(void)
{
	return (sb_value *)(uintptr_t)&none;
}

int sb__value_decode(struct sb__cursor *cursor, const char *session_id, sb_value **ret)
{
	return sb__value_decode_into(cursor, session_id, NULL, 0, ret);
}

int sb__value_decode_into(struct sb__cursor *cursor, const char *session_id, void *memory, size_t size,
                          sb_value **ret)
{
	const sb_value *constant = memory ? NULL : next_constant(cursor);
	sb_ref *refs;
	size_t count;
	int err;

	if (constant) {
		*ret = (sb_value *)(uintptr_t)constant; /* values are only read */
		return 0;
	}
	err = memory ? 1 : decode_ref(cursor, session_id ? session_id : "", ret);
	if (err != 1)
		return err;
	return decode(cursor, session_id ? session_id : "", memory, size, ret, &refs, &count);
}

int sb__value_decode_own(struct sb__cursor *cursor, const sb_ref *refs, size_t count, sb_value **ret)
{
	const sb_value *constant = next_constant(cursor);
	sb_value *value = (sb_value *)(uintptr_t)constant;
	sb_ref *to = NULL;
	size_t found = 0;
	int err = constant ? 0 : decode(cursor, "", NULL, 0, &value, &to, &found);

	if (err)
		return err;
	if (found != count) {
		sb_value_free(value);
		return sb__fail(SB_EBUG, "%zu refs were encoded and %zu decoded", count, found);
	}
	if (count > 0)
		memcpy(to, refs, count * sizeof(*refs));
	*ret = value;
	return 0;
}

static void drop_arrays(const sb_value *value)
{
	size_t count = sb__tree_items(value);

	if (value->kind == SB_KIND_ARRAY)
		sb_array_unref(value->u.array);
	for (size_t i = 0; i < count; i++)
		drop_arrays(&value->u.items[i]);
}

bool sb__value_has_arrays(const sb_value *root)
{
	return root && root->root == 2;
}

void sb_value_free(sb_value *value)
{
	if (!value || !value->root) /* a borrowed value is left alone */
		return;
	if (value->root == 2)
		drop_arrays(value);
	free(value);
}
