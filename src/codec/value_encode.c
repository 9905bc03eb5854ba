/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: encoding trees (tree.h), and walking them.
 *
 * Locks: none; a tree never changes. Crash story: nothing is shared.
 */
#include "array.h"
#include "scalar.h"
#include "tree.h"

static void encode_items(const sb_value *value, size_t count, struct sb__buf *buf, unsigned depth)
{
	if (depth >= SB__DEPTH_MAX) {
		if (!buf->error)
			buf->error = SB_ETOODEEP;
		return;
	}
	for (size_t i = 0; i < count && !buf->error; i++)
		sb__value_encode_at(&value->u.items[i], buf, depth + 1);
}

static void encode_shape(const sb_value *value, struct sb__buf *buf, unsigned depth)
{
	bool ints = value->kind == SB_KIND_RANGE || value->kind == SB_KIND_FRACTION;

	sb__put_tag(buf, sb__tree_tag((sb_kind)value->kind));
	sb__put_array(buf, value->len);
	encode_items(value, value->len, buf, ints ? 0 : depth);
}

static void encode_when(const sb_value *value, struct sb__buf *buf)
{
	sb_datetime when;

	sb__tree_when(value, &when);
	sb__put_when(buf, (sb_kind)value->kind, &when);
}

void sb__value_encode_at(const sb_value *value, struct sb__buf *buf, unsigned depth)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: sb__put_null(buf); return;
	case SB_KIND_BOOL: sb__put_bool(buf, value->boolean); return;
	case SB_KIND_INT: sb__put_int(buf, value->u.integer); return;
	case SB_KIND_FLOAT: sb__put_float(buf, value->u.number); return;
	case SB_KIND_STR:
		if (value->boolean)
			sb__put_tagged_bytes(buf, SB__TAG_WTF8, value->u.bytes, value->len);
		else
			sb__put_str(buf, value->u.bytes, value->len);
		return;
	case SB_KIND_BYTES: sb__put_bytes(buf, value->u.bytes, value->len); return;
	case SB_KIND_LIST:
		sb__put_array(buf, value->len);
		encode_items(value, value->len, buf, depth);
		return;
	case SB_KIND_DICT:
		sb__put_map(buf, value->len);
		encode_items(value, 2 * value->len, buf, depth);
		return;
	case SB_KIND_REF: sb__put_ref(buf, value->u.ref, NULL); return;
	case SB_KIND_ARRAY: sb__array_encode(value->u.array, buf); return;
	case SB_KIND_BIGINT:
		sb__put_bigint(buf, value->boolean, (const uint8_t *)value->u.bytes, value->len);
		return;
	case SB_KIND_COMPLEX: sb__put_complex(buf, value->u.number, value->imaginary); return;
	case SB_KIND_BYTEARRAY:
		sb__put_tagged_bytes(buf, SB__TAG_BYTEARRAY, value->u.bytes, value->len);
		return;
	case SB_KIND_DATETIME:
	case SB_KIND_DATE:
	case SB_KIND_TIME: encode_when(value, buf); return;
	case SB_KIND_TIMEDELTA:
		sb__put_timedelta(buf, value->u.integer, (int32_t)value->microseconds);
		return;
	case SB_KIND_DECIMAL: sb__put_decimal(buf, value->u.bytes, value->len); return;
	case SB_KIND_UUID: sb__put_tagged_bytes(buf, SB__TAG_UUID, value->u.bytes, value->len); return;
	case SB_KIND_ELLIPSIS: sb__put_ellipsis(buf); return;
	case SB_KIND_TUPLE:
	case SB_KIND_SET:
	case SB_KIND_FROZENSET:
	case SB_KIND_FRACTION:
	case SB_KIND_RANGE:
	case SB_KIND_SLICE: encode_shape(value, buf, depth); return;
	}
}

void sb__value_encode(const sb_value *value, struct sb__buf *buf)
{
	sb__value_encode_at(value, buf, 0);
}

/* ── walking ── */

size_t sb__tree_items(const sb_value *value)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_LIST:
	case SB_KIND_TUPLE:
	case SB_KIND_SET:
	case SB_KIND_FROZENSET:
	case SB_KIND_FRACTION:
	case SB_KIND_RANGE:
	case SB_KIND_SLICE: return value->len;
	case SB_KIND_DICT: return 2 * value->len;
	default: return 0;
	}
}

int sb__value_each_array(const sb_value *value, sb__array_fn fn, void *arg)
{
	size_t count = sb__tree_items(value);

	if (sb_value_kind(value) == SB_KIND_ARRAY)
		return fn(arg, value->u.array);
	for (size_t i = 0; i < count; i++) {
		int stop = sb__value_each_array(&value->u.items[i], fn, arg);

		if (stop)
			return stop;
	}
	return 0;
}

int sb__value_each_ref(const sb_value *value, sb__ref_fn fn, void *arg)
{
	size_t count = sb__tree_items(value);

	if (sb_value_kind(value) == SB_KIND_REF)
		return fn(arg, value->u.ref);
	for (size_t i = 0; i < count; i++) {
		int stop = sb__value_each_ref(&value->u.items[i], fn, arg);

		if (stop)
			return stop;
	}
	return 0;
}
