/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading values: the accessors, each of which checks the kind.
 *
 * Locks: none; a tree never changes. Crash story: nothing is shared.
 */
#include <string.h>

#include "fail.h"
#include "scalar.h"
#include "tree.h"

sb_kind sb_value_kind(const sb_value *value)
{
	return value ? (sb_kind)value->kind : SB_KIND_NONE;
}

const char *sb_kind_name(sb_kind kind)
{
	static const char *const names[] = {
		[SB_KIND_NONE] = "NoneType",
		[SB_KIND_BOOL] = "bool",
		[SB_KIND_INT] = "int",
		[SB_KIND_FLOAT] = "float",
		[SB_KIND_STR] = "str",
		[SB_KIND_BYTES] = "bytes",
		[SB_KIND_LIST] = "list",
		[SB_KIND_TUPLE] = "tuple",
		[SB_KIND_DICT] = "dict",
		[SB_KIND_REF] = "ref",
		[SB_KIND_BIGINT] = "int",
		[SB_KIND_COMPLEX] = "complex",
		[SB_KIND_BYTEARRAY] = "bytearray",
		[SB_KIND_SET] = "set",
		[SB_KIND_FROZENSET] = "frozenset",
		[SB_KIND_DATETIME] = "datetime",
		[SB_KIND_DATE] = "date",
		[SB_KIND_TIME] = "time",
		[SB_KIND_TIMEDELTA] = "timedelta",
		[SB_KIND_DECIMAL] = "Decimal",
		[SB_KIND_FRACTION] = "Fraction",
		[SB_KIND_UUID] = "UUID",
		[SB_KIND_RANGE] = "range",
		[SB_KIND_SLICE] = "slice",
		[SB_KIND_ELLIPSIS] = "ellipsis",
		[SB_KIND_ARRAY] = "array",
	};

	return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

/* 0 if the value is of this kind. */
static int expect(const sb_value *value, sb_kind kind)
{
	sb_kind actual = sb_value_kind(value);

	if (actual == kind)
		return 0;
	return sb__fail(SB_EKIND, "the value is of kind %s, not %s; ask sb_value_kind() first",
	                sb_kind_name(actual), sb_kind_name(kind));
}

static int no_ret(void)
{
	return sb__fail(SB_EINVAL, "ret is NULL; give it the address of a variable");
}

static int expect_into(const sb_value *value, sb_kind kind, const void *ret)
{
	return ret ? expect(value, kind) : no_ret();
}

int sb_value_bool(const sb_value *value, bool *ret)
{
	int err = expect_into(value, SB_KIND_BOOL, ret);

	if (!err)
		*ret = value->boolean;
	return err;
}

static int beyond(const char *type)
{
	return sb__fail(SB_EKIND,
	                "the int does not fit %s; ask sb_value_kind() first, or read it with "
	                "sb_value_bigint()",
	                type);
}

int sb_value_int(const sb_value *value, int64_t *ret)
{
	if (ret && value && value->kind == SB_KIND_INT) {
		*ret = value->u.integer;
		return 0;
	}
	if (ret && sb_value_kind(value) == SB_KIND_BIGINT)
		return beyond("int64_t");
	return expect_into(value, SB_KIND_INT, ret);
}

int sb_value_uint64(const sb_value *value, uint64_t *ret)
{
	uint64_t v = 0;
	int err;

	if (!ret || sb_value_kind(value) != SB_KIND_BIGINT) {
		err = expect_into(value, SB_KIND_INT, ret);
		if (!err && value->u.integer < 0)
			return beyond("uint64_t");
		if (!err)
			*ret = (uint64_t)value->u.integer;
		return err;
	}
	if (value->boolean || value->len > 8)
		return beyond("uint64_t");
	for (size_t i = 0; i < value->len; i++)
		v = v << 8 | (uint8_t)value->u.bytes[i];
	*ret = v;
	return 0;
}

int sb_value_float(const sb_value *value, double *ret)
{
	bool integer = sb_value_kind(value) == SB_KIND_INT;
	int err = expect_into(value, integer ? SB_KIND_INT : SB_KIND_FLOAT, ret);

	if (!err)
		*ret = integer ? (double)value->u.integer : value->u.number;
	return err;
}

int sb_value_complex(const sb_value *value, double *ret_real, double *ret_imaginary)
{
	int err = ret_imaginary ? expect_into(value, SB_KIND_COMPLEX, ret_real) : no_ret();

	if (!err) {
		*ret_real = value->u.number;
		*ret_imaginary = value->imaginary;
	}
	return err;
}

const uint8_t *sb_value_bigint(const sb_value *value, bool *ret_negative, size_t *ret_len)
{
	if (expect(value, SB_KIND_BIGINT))
		return NULL;
	if (ret_negative)
		*ret_negative = value->boolean;
	if (ret_len)
		*ret_len = value->len;
	return (const uint8_t *)value->u.bytes;
}

static const char *text_of(const sb_value *value, sb_kind kind, size_t *ret_len)
{
	if (expect(value, kind))
		return NULL;
	if (ret_len)
		*ret_len = value->len;
	return value->u.bytes;
}

const char *sb_value_str(const sb_value *value, size_t *ret_len)
{
	return text_of(value, SB_KIND_STR, ret_len);
}

bool sb_value_has_surrogates(const sb_value *value)
{
	return sb_value_kind(value) == SB_KIND_STR && value->boolean;
}

const void *sb_value_bytes(const sb_value *value, size_t *ret_len)
{
	return text_of(value, sb_value_kind(value) == SB_KIND_BYTEARRAY ? SB_KIND_BYTEARRAY : SB_KIND_BYTES,
	               ret_len);
}

const char *sb_value_decimal(const sb_value *value)
{
	return text_of(value, SB_KIND_DECIMAL, NULL);
}

const uint8_t *sb_value_uuid(const sb_value *value)
{
	return (const uint8_t *)text_of(value, SB_KIND_UUID, NULL);
}

const sb_ref *sb_value_ref(const sb_value *value)
{
	return expect(value, SB_KIND_REF) ? NULL : value->u.ref;
}

int sb_value_datetime(const sb_value *value, sb_datetime *ret)
{
	sb_kind kind = sb_value_kind(value);
	int err = expect_into(value, kind == SB_KIND_DATE || kind == SB_KIND_TIME ? kind : SB_KIND_DATETIME,
	                      ret);

	if (!err)
		sb__tree_when(value, ret);
	return err;
}

int sb_value_timedelta(const sb_value *value, int64_t *ret_seconds, int32_t *ret_microseconds)
{
	int err = ret_microseconds ? expect_into(value, SB_KIND_TIMEDELTA, ret_seconds) : no_ret();

	if (!err) {
		*ret_seconds = value->u.integer;
		*ret_microseconds = (int32_t)value->microseconds;
	}
	return err;
}

int sb_value_fraction(const sb_value *value, const sb_value **ret_numerator, const sb_value **ret_denominator)
{
	int err = ret_denominator ? expect_into(value, SB_KIND_FRACTION, ret_numerator) : no_ret();

	if (!err) {
		*ret_numerator = &value->u.items[0];
		*ret_denominator = &value->u.items[1];
	}
	return err;
}

int sb_value_slice(const sb_value *value, const sb_value **ret_start, const sb_value **ret_stop,
                   const sb_value **ret_step)
{
	sb_kind kind = sb_value_kind(value) == SB_KIND_RANGE ? SB_KIND_RANGE : SB_KIND_SLICE;
	int err = ret_stop && ret_step ? expect_into(value, kind, ret_start) : no_ret();

	if (!err) {
		*ret_start = &value->u.items[0];
		*ret_stop = &value->u.items[1];
		*ret_step = &value->u.items[2];
	}
	return err;
}

sb_array *sb_value_array(const sb_value *value)
{
	return expect(value, SB_KIND_ARRAY) ? NULL : value->u.array;
}

size_t sb_value_len(const sb_value *value)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_STR:
	case SB_KIND_BYTES:
	case SB_KIND_BYTEARRAY:
	case SB_KIND_LIST:
	case SB_KIND_TUPLE:
	case SB_KIND_SET:
	case SB_KIND_FROZENSET:
	case SB_KIND_DICT: return value->len;
	default: return 0;
	}
}

const sb_value *sb_value_at(const sb_value *value, size_t i)
{
	if (value && value->kind == SB_KIND_LIST) /* mostly */
		return i < value->len ? &value->u.items[i] : NULL;
	if (sb_value_kind(value) == SB_KIND_DICT)
		return i < value->len ? &value->u.items[2 * i + 1] : NULL;
	return i < sb__tree_items(value) ? &value->u.items[i] : NULL;
}

const sb_value *sb_value_key_at(const sb_value *value, size_t i)
{
	if (sb_value_kind(value) != SB_KIND_DICT || i >= value->len)
		return NULL;
	return &value->u.items[2 * i];
}

const sb_value *sb_value_lookup(const sb_value *value, const char *key)
{
	size_t len;

	if (sb_value_kind(value) != SB_KIND_DICT || !key)
		return NULL;
	len = strlen(key);
	for (size_t i = 0; i < value->len; i++) {
		const sb_value *k = &value->u.items[2 * i];

		if (k->kind == SB_KIND_STR && k->len == len && memcmp(k->u.bytes, key, len) == 0)
			return k + 1;
	}
	return NULL;
}
