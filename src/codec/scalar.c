/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single values under tags: complex numbers, byte strings, text with lone surrogates. Ints and decimals are
 * in number.c, dates and times in when.c.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "scalar.h"

#include <string.h>

#include "fail.h"
#include "utf8.h"

int sb__next_tagged_bytes(struct sb__cursor *cursor, const char *what, size_t exactly, struct sb__item *ret)
{
	size_t position = cursor->pos;
	int err = sb__next(cursor, ret);

	if (err)
		return err;
	if (ret->type != SB__ITEM_BYTES)
		return sb__fail(SB_EPROTOCOL, "the %s at byte %zu is no byte string", what, position);
	if (exactly != SIZE_MAX && ret->u.bytes.len != exactly)
		return sb__fail(SB_EPROTOCOL, "the %s at byte %zu has %zu bytes, not %zu", what, position,
		                ret->u.bytes.len, exactly);
	return 0;
}

int sb__next_tagged_array(struct sb__cursor *cursor, const char *what, uint64_t exactly, uint64_t *ret_count)
{
	size_t position = cursor->pos;
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_ARRAY)
		return sb__fail(SB_EPROTOCOL, "the %s at byte %zu is no array", what, position);
	if (exactly != UINT64_MAX && item.u.count != exactly)
		return sb__fail(SB_EPROTOCOL, "the %s at byte %zu has %llu items, not %llu", what, position,
		                (unsigned long long)item.u.count, (unsigned long long)exactly);
	*ret_count = item.u.count;
	return 0;
}

int sb__next_complex(struct sb__cursor *cursor, double *ret_real, double *ret_imaginary)
{
	struct sb__item real, imaginary;
	uint64_t count;
	int err = sb__next_tagged_array(cursor, "complex", 2, &count);

	if (err || (err = sb__next(cursor, &real)) || (err = sb__next(cursor, &imaginary)))
		return err;
	if (real.type != SB__ITEM_FLOAT || imaginary.type != SB__ITEM_FLOAT)
		return sb__fail(SB_EPROTOCOL, "a part of a complex is no float");
	*ret_real = real.u.number;
	*ret_imaginary = imaginary.u.number;
	return 0;
}

void sb__put_complex(struct sb__buf *buf, double real, double imaginary)
{
	sb__put_tag(buf, SB__TAG_COMPLEX);
	sb__put_array(buf, 2);
	sb__put_float(buf, real);
	sb__put_float(buf, imaginary);
}

int sb__next_ellipsis(struct sb__cursor *cursor)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (!err && item.type != SB__ITEM_NULL)
		err = sb__fail(SB_EPROTOCOL, "an ellipsis is not null");
	return err;
}

void sb__put_ellipsis(struct sb__buf *buf)
{
	sb__put_tag(buf, SB__TAG_ELLIPSIS);
	sb__put_null(buf);
}

void sb__put_tagged_bytes(struct sb__buf *buf, uint64_t tag, const void *bytes, size_t len)
{
	sb__put_tag(buf, tag);
	sb__put_bytes(buf, bytes, len);
}

/* Is it UTF-8 but for surrogates, of which there is at least one? Also pairs of them, which UTF-8 would write as one
 * character: Python's str tells them apart. */
static bool wtf8_valid(const uint8_t *p, size_t len)
{
	bool any = false;
	size_t i = 0;

	while ((i += sb__utf8_prefix(p + i, len - i)) < len) {
		if (len - i < 3 || p[i] != 0xed || (p[i + 1] & 0xe0) != 0xa0 || (p[i + 2] & 0xc0) != 0x80)
			return false;
		any = true;
		i += 3;
	}
	return any;
}

int sb__next_wtf8(struct sb__cursor *cursor, struct sb__item *ret)
{
	int err = sb__next_tagged_bytes(cursor, "str with surrogates", SIZE_MAX, ret);

	if (!err && !wtf8_valid(ret->u.bytes.data, ret->u.bytes.len))
		err = sb__fail(SB_EPROTOCOL, "a str with surrogates has none, or is not WTF-8");
	return err;
}

bool sb__put_wtf8(struct sb__buf *buf, const char *text, size_t len)
{
	if (sb__utf8_valid(text, len))
		sb__put_str(buf, text, len);
	else if (wtf8_valid((const uint8_t *)text, len))
		sb__put_tagged_bytes(buf, SB__TAG_WTF8, text, len);
	else
		return false;
	return true;
}
