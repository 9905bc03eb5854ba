/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Equality as Python's == has it, as far as value.h says.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <math.h>
#include <string.h>

#include "scalar.h"
#include "tree.h"

static bool is_number(sb_kind kind)
{
	return kind == SB_KIND_BOOL || kind == SB_KIND_INT || kind == SB_KIND_BIGINT ||
	       kind == SB_KIND_FLOAT || kind == SB_KIND_COMPLEX;
}

static bool same_bytes(const sb_value *a, const sb_value *b)
{
	return a->len == b->len && memcmp(a->u.bytes, b->u.bytes, a->len) == 0;
}

static int64_t integer_of(const sb_value *v)
{
	return v->kind == SB_KIND_BOOL ? v->boolean : v->u.integer;
}

/* A float against an int beyond 64 bits, exactly: the bits that are set must fit a float's 53. */
static bool big_equals_float(const sb_value *big, double v)
{
	const uint8_t *bytes = (const uint8_t *)big->u.bytes;
	uint64_t top = 0;

	if (!isfinite(v) || big->boolean != (signbit(v) != 0) || big->len > 128)
		return false;
	for (size_t i = 0; i < 8; i++)
		top = top << 8 | bytes[i];
	for (size_t i = 8; i < big->len; i++)
		if (bytes[i])
			return false;
	if (top >> __builtin_ctzll(top) >= UINT64_C(1) << 53)
		return false;
	return ldexp((double)top, (int)(8 * (big->len - 8))) == fabs(v);
}

static bool int_equals_float(const sb_value *a, double v)
{
	if (a->kind == SB_KIND_BIGINT)
		return big_equals_float(a, v);
	/* Within ±2^63 the conversion back is exact. */
	return v >= -0x1p63 && v < 0x1p63 && (double)(int64_t)v == v && (int64_t)v == integer_of(a);
}

static double real_of(const sb_value *v)
{
	return v->u.number;
}

static bool floating(const sb_value *v)
{
	return v->kind == SB_KIND_FLOAT || v->kind == SB_KIND_COMPLEX;
}

static bool numbers_equal(const sb_value *a, const sb_value *b)
{
	double a_imaginary = a->kind == SB_KIND_COMPLEX ? a->imaginary : 0;
	double b_imaginary = b->kind == SB_KIND_COMPLEX ? b->imaginary : 0;

	if (a_imaginary != b_imaginary)
		return false;
	if (floating(a) && floating(b))
		return real_of(a) == real_of(b);
	if (floating(a))
		return int_equals_float(b, real_of(a));
	if (floating(b))
		return int_equals_float(a, real_of(b));
	if (a->kind == SB_KIND_BIGINT || b->kind == SB_KIND_BIGINT)
		return a->kind == b->kind && a->boolean == b->boolean && same_bytes(a, b);
	return integer_of(a) == integer_of(b);
}

static bool items_equal(const sb_value *a, const sb_value *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!sb_value_equal(&a->u.items[i], &b->u.items[i]))
			return false;
	return true;
}

/* Each key of a in b, with its value: dict (stride 2) or set (1). The same place is tried first. */
static bool keys_equal(const sb_value *a, const sb_value *b, size_t stride)
{
	if (a->len != b->len)
		return false;
	for (size_t i = 0; i < a->len; i++) {
		const sb_value *key = &a->u.items[stride * i], *other = NULL;

		for (size_t k = 0; k < b->len && !other; k++) {
			const sb_value *candidate = &b->u.items[stride * ((i + k) % b->len)];

			if (sb_value_equal(key, candidate))
				other = candidate;
		}
		if (!other || (stride == 2 && !sb_value_equal(key + 1, other + 1)))
			return false;
	}
	return true;
}

static bool ranges_equal(const sb_value *a, const sb_value *b)
{
	__int128 len[2];
	const sb_value *both[] = { a, b };

	for (int i = 0; i < 2; i++) {
		const sb_value *part = both[i]->u.items;
		__int128 start, stop, step;

		if (part[0].kind != SB_KIND_INT || part[1].kind != SB_KIND_INT || part[2].kind != SB_KIND_INT)
			return items_equal(a, b, 3);
		start = part[0].u.integer;
		stop = part[1].u.integer;
		step = part[2].u.integer;
		len[i] = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
		if (step > 0 ? stop <= start : stop >= start)
			len[i] = 0;
	}
	return len[0] == len[1] &&
	       (len[0] == 0 || (sb_value_equal(&a->u.items[0], &b->u.items[0]) &&
	                        (len[0] == 1 || sb_value_equal(&a->u.items[2], &b->u.items[2]))));
}

/* Days since some day, of the proleptic Gregorian calendar. */
static int64_t day_number(const sb_datetime *w)
{
	int64_t y = w->month > 2 ? w->year : w->year - 1, m = w->month > 2 ? w->month - 3 : w->month + 9;

	return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + w->day;
}

static int64_t moment(const sb_datetime *w)
{
	int64_t seconds = (int64_t)w->hour * 3600 + w->minute * 60 + w->second;

	return (day_number(w) * 86400 + seconds) * 1000000 + w->microsecond - w->utc_offset_us;
}

static bool moments_equal(const sb_value *a, const sb_value *b)
{
	sb_datetime x, y;

	sb__tree_when(a, &x);
	sb__tree_when(b, &y);
	if (x.has_offset != y.has_offset || (!x.has_offset && !x.zone != !y.zone))
		return false;
	if (!x.has_offset && x.zone && (x.zone_len != y.zone_len || memcmp(x.zone, y.zone, x.zone_len) != 0))
		return false;
	return moment(&x) == moment(&y);
}

static bool refs_equal(const sb_ref *a, const sb_ref *b)
{
	return a->incarnation == b->incarnation && a->slot == b->slot && a->generation == b->generation &&
	       memcmp(a->nonce, b->nonce, sizeof(a->nonce)) == 0 && strcmp(a->session_id, b->session_id) == 0;
}

/* Kinds that compare with each other, as one of them. */
static sb_kind family(sb_kind kind)
{
	return kind == SB_KIND_BYTEARRAY ? SB_KIND_BYTES : kind == SB_KIND_FROZENSET ? SB_KIND_SET : kind;
}

bool sb_value_equal(const sb_value *a, const sb_value *b)
{
	sb_kind kind = family(sb_value_kind(a));

	if (is_number(sb_value_kind(a)) && is_number(sb_value_kind(b)))
		return numbers_equal(a, b);
	if (kind != family(sb_value_kind(b)))
		return false;
	switch (kind) {
	case SB_KIND_STR:
	case SB_KIND_BYTES:
	case SB_KIND_UUID: return same_bytes(a, b);
	case SB_KIND_DECIMAL: return sb__decimal_equal(a->u.bytes, a->len, b->u.bytes, b->len);
	case SB_KIND_DICT: return keys_equal(a, b, 2);
	case SB_KIND_SET: return keys_equal(a, b, 1);
	case SB_KIND_REF: return refs_equal(a->u.ref, b->u.ref);
	case SB_KIND_DATETIME:
	case SB_KIND_TIME: return moments_equal(a, b);
	case SB_KIND_DATE: return a->u.when == b->u.when;
	case SB_KIND_TIMEDELTA: return a->u.integer == b->u.integer && a->microseconds == b->microseconds;
	case SB_KIND_RANGE: return ranges_equal(a, b);
	case SB_KIND_LIST:
	case SB_KIND_TUPLE:
	case SB_KIND_FRACTION:
	case SB_KIND_SLICE: return a->len == b->len && items_equal(a, b, a->len);
	case SB_KIND_ARRAY: return a->u.array == b->u.array;
	default: return true; /* None, Ellipsis */
	}
}
