/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ints beyond 64 bits and decimals, as bytes and as text. It adds and multiplies nothing but what changing the
 * base takes. That costs the square of the digits, so it is done only where there are few.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "scalar.h"

/* ── ints ── */

static void skip_zeros(const uint8_t **bytes, size_t *len)
{
	while (*len > 0 && **bytes == 0) {
		++*bytes;
		--*len;
	}
}

static bool fits_int64(const uint8_t *n, size_t len)
{
	return len < 8 || (len == 8 && n[0] < 0x80);
}

int sb__next_bignum(struct sb__cursor *cursor, struct sb__item *ret)
{
	size_t position = cursor->pos;
	int err = sb__next_tagged_bytes(cursor, "big int", SIZE_MAX, ret);

	if (err)
		return err;
	if (ret->u.bytes.len > SB_BIGINT_MAX)
		return sb__fail(SB_EPROTOCOL, "the int at byte %zu has more than %u bytes", position,
		                SB_BIGINT_MAX);
	if (fits_int64(ret->u.bytes.data, ret->u.bytes.len) || ret->u.bytes.data[0] == 0)
		return sb__fail(SB_EPROTOCOL, "the int at byte %zu is not in its shortest form", position);
	return 0;
}

void sb__put_bignum(struct sb__buf *buf, bool negative, const uint8_t *n, size_t len)
{
	skip_zeros(&n, &len);
	if (len > SB_BIGINT_MAX && !buf->error)
		buf->error = SB_ETOOBIG;
	sb__put_tagged_bytes(buf, negative ? SB__TAG_BIGNUM_NEGATIVE : SB__TAG_BIGNUM, n, len);
}

void sb__put_bigint(struct sb__buf *buf, bool negative, const uint8_t *magnitude, size_t len)
{
	uint64_t small = 0;
	size_t last, at;

	skip_zeros(&magnitude, &len);
	if (len <= 8) {
		for (size_t i = 0; i < len; i++)
			small = small << 8 | magnitude[i];
		if (small <= INT64_MAX || (negative && small == (uint64_t)INT64_MAX + 1)) {
			/* Negated as unsigned: the least has no positive. */
			sb__put_int(buf, (int64_t)(negative ? -small : small));
			return;
		}
	}
	if (!negative) {
		sb__put_bignum(buf, false, magnitude, len);
		return;
	}
	if (len > SB_BIGINT_MAX) {
		if (!buf->error)
			buf->error = SB_ETOOBIG;
		return;
	}
	/* n is one less than the magnitude: the last byte that is not 0 gives one, zeros after it become ff. A power of
	 * 256 loses its first byte. */
	for (last = len; magnitude[last - 1] == 0;)
		last--;
	at = last == 1 && magnitude[0] == 1 ? 1 : 0;
	sb__put_tag(buf, SB__TAG_BIGNUM_NEGATIVE);
	sb__put_bytes(buf, magnitude + at, len - at);
	if (buf->error)
		return;
	for (size_t i = 0; i < len - last; i++)
		buf->data[buf->len - 1 - i] = 0xff;
	if (last - 1 >= at)
		buf->data[buf->len - (len - last) - 1]--;
}

size_t sb__magnitude_digits(const uint8_t *magnitude, size_t len, char *out)
{
	uint32_t few[SB__DECIMAL_BYTES / 4 + 2], *limbs = few;
	size_t count = (len + 3) / 4, first = 0, digits = 0;

	if (count > sizeof(few) / sizeof(few[0])) {
		limbs = malloc(count * sizeof(*limbs));
		if (!limbs)
			return 0;
	}
	memset(limbs, 0, count * sizeof(*limbs));
	for (size_t i = 0; i < len; i++) /* limbs[0] is the most significant */
		limbs[count - 1 - i / 4] |= (uint32_t)magnitude[len - 1 - i] << (8 * (i % 4));
	while (first < count) {
		uint64_t rest = 0;

		for (size_t i = first; i < count; i++) {
			rest = rest << 32 | limbs[i];
			limbs[i] = (uint32_t)(rest / 1000000000u);
			rest %= 1000000000u;
		}
		for (unsigned k = 0; k < 9; k++, rest /= 10)
			out[digits++] = (char)('0' + rest % 10);
		while (first < count && limbs[first] == 0)
			first++;
	}
	if (limbs != few)
		free(limbs);
	while (digits > 1 && out[digits - 1] == '0')
		digits--;
	if (digits == 0)
		out[digits++] = '0';
	for (size_t i = 0; i < digits / 2; i++) {
		char c = out[i];

		out[i] = out[digits - 1 - i];
		out[digits - 1 - i] = c;
	}
	return digits;
}

size_t sb__digits_magnitude(const char *digits, size_t len, uint8_t *out)
{
	size_t used = 0; /* bytes, the least significant first until the end */

	while (len > 0) {
		size_t take = len < 7 ? len : 7;
		uint32_t scale = 1, carry = 0;

		for (size_t i = 0; i < take; i++, scale *= 10)
			carry = carry * 10 + (uint32_t)(digits[i] - '0');
		digits += take;
		len -= take;
		for (size_t i = 0; i < used; i++) {
			uint32_t sum = out[i] * scale + carry; /* below 2^8 * 10^7 + 2^24 */

			out[i] = (uint8_t)sum;
			carry = sum >> 8;
		}
		for (; carry; carry >>= 8)
			out[used++] = (uint8_t)carry;
	}
	for (size_t i = 0; i < used / 2; i++) {
		uint8_t byte = out[i];

		out[i] = out[used - 1 - i];
		out[used - 1 - i] = byte;
	}
	return used;
}

static size_t count_digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && text[n] >= '0' && text[n] <= '9')
		n++;
	return n;
}

bool sb__put_int_text(struct sb__buf *buf, const char *text, size_t len)
{
	bool negative = len > 0 && text[0] == '-';
	uint8_t few[64], *bytes = few;

	text += negative;
	len -= negative;
	if (len == 0 || len > SB__INT_DIGITS_MAX || count_digits(text, len) != len)
		return false;
	if (len / 2 + 1 > sizeof(few))
		bytes = malloc(len / 2 + 1);
	if (!bytes) {
		if (!buf->error)
			buf->error = SB_ENOMEM;
		return true;
	}
	sb__put_bigint(buf, negative, bytes, sb__digits_magnitude(text, len, bytes));
	if (bytes != few)
		free(bytes);
	return true;
}

/* ── decimals ── */

#define EXPONENT_MAX INT64_C(1000000000000000000)

struct decimal {
	bool negative, special;        /* special: Infinity, NaN, sNaN */
	const char *digits, *fraction; /* before and after the point */
	size_t whole, places;
	int64_t exponent; /* of the last digit */
};

/* An exponent's digits, at the text's end. */
static bool read_exponent(const char *text, size_t len, int64_t *ret)
{
	bool negative = len > 0 && text[0] == '-';
	uint64_t v = 0; /* holds any 19 digits */

	if (len > 0 && (text[0] == '-' || text[0] == '+')) {
		text++;
		len--;
	}
	if (len == 0 || len > 19 || count_digits(text, len) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		v = v * 10 + (uint64_t)(text[i] - '0');
		if (v > 4 * (uint64_t)EXPONENT_MAX)
			return false;
	}
	*ret = negative ? -(int64_t)v : (int64_t)v;
	return true;
}

static bool is_special(const char *text, size_t len)
{
	if (len == 8 && memcmp(text, "Infinity", 8) == 0)
		return true;
	if (len > 0 && *text == 's') {
		text++;
		len--;
	}
	return len >= 3 && memcmp(text, "NaN", 3) == 0 && count_digits(text + 3, len - 3) == len - 3;
}

static bool read_decimal(const char *text, size_t len, struct decimal *ret)
{
	struct decimal d = { 0 };

	d.negative = len > 0 && text[0] == '-';
	text += d.negative;
	len -= d.negative;
	if (is_special(text, len)) {
		d.special = true;
		d.digits = text;
		d.whole = len;
		*ret = d;
		return true;
	}
	d.digits = text;
	d.whole = count_digits(text, len);
	text += d.whole;
	len -= d.whole;
	if (len > 0 && *text == '.') {
		d.fraction = text + 1;
		d.places = count_digits(text + 1, len - 1);
		text += d.places + 1;
		len -= d.places + 1;
	}
	if (d.whole + d.places == 0)
		return false;
	if (len > 0 && (*text == 'E' || *text == 'e')) {
		if (!read_exponent(text + 1, len - 1, &d.exponent))
			return false;
	} else if (len > 0) {
		return false;
	}
	d.exponent -= (int64_t)d.places;
	*ret = d;
	return true;
}

/* Its digits in one row, without leading zeros; space for all of them. */
static size_t join_digits(const struct decimal *d, char *out)
{
	size_t skip = 0, n = d->whole + d->places;

	memcpy(out, d->digits, d->whole);
	if (d->places > 0)
		memcpy(out + d->whole, d->fraction, d->places);
	while (skip < n && out[skip] == '0')
		skip++;
	memmove(out, out + skip, n - skip);
	return n - skip;
}

bool sb__put_decimal(struct sb__buf *buf, const char *text, size_t len)
{
	char digits[SB__DECIMAL_DIGITS];
	uint8_t magnitude[SB__DECIMAL_DIGITS / 2 + 1];
	struct decimal d;
	size_t n = 0;

	if (!read_decimal(text, len, &d))
		return false;
	if (!d.special && d.whole + d.places <= SB__DECIMAL_DIGITS) {
		n = join_digits(&d, digits);
		if (d.exponent >= -EXPONENT_MAX && d.exponent <= EXPONENT_MAX && (n > 0 || !d.negative)) {
			sb__put_tag(buf, SB__TAG_DECIMAL);
			sb__put_array(buf, 2);
			sb__put_int(buf, d.exponent);
			sb__put_bigint(buf, d.negative, magnitude,
			               sb__digits_magnitude(digits, n, magnitude));
			return true;
		}
	}
	sb__put_tag(buf, SB__TAG_DECIMAL_TEXT);
	sb__put_str(buf, text, len);
	return true;
}

/* The text of digits * 10^exponent, as the General Decimal Arithmetic's to-scientific-string has it. */
static size_t decimal_text(bool negative, const char *digits, size_t n, int64_t exponent, char *out)
{
	int64_t adjusted = exponent + (int64_t)n - 1;
	char *at = out;

	if (negative)
		*at++ = '-';
	if (exponent > 0 || adjusted < -6) {
		*at++ = digits[0];
		if (n > 1) {
			*at++ = '.';
			memcpy(at, digits + 1, n - 1);
			at += n - 1;
		}
		return (size_t)(at - out) + (size_t)snprintf(at, 24, "E%+lld", (long long)adjusted);
	}
	if (adjusted < 0) {
		*at++ = '0';
		*at++ = '.';
		memset(at, '0', (size_t)(-adjusted - 1));
		at += -adjusted - 1;
		memcpy(at, digits, n);
		return (size_t)(at - out) + n;
	}
	memcpy(at, digits, (size_t)adjusted + 1);
	at += adjusted + 1;
	if (exponent < 0) {
		*at++ = '.';
		memcpy(at, digits + adjusted + 1, n - (size_t)adjusted - 1);
		at += n - (size_t)adjusted - 1;
	}
	return (size_t)(at - out);
}

/* The mantissa: its digits and sign. */
static int next_mantissa(struct sb__cursor *cursor, char *digits, size_t *ret_count, bool *ret_negative)
{
	uint8_t magnitude[SB__DECIMAL_BYTES + 1] = { 0 }; /* the first byte takes the carry */
	struct sb__item item;
	size_t len = 8;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type == SB__ITEM_INT) {
		uint64_t v = (uint64_t)item.u.integer;

		*ret_negative = item.u.integer < 0;
		v = *ret_negative ? -v : v;
		for (size_t i = 0; i < 8; i++)
			magnitude[1 + i] = (uint8_t)(v >> (56 - 8 * i));
	} else if (item.type == SB__ITEM_TAG &&
	           (item.u.count == SB__TAG_BIGNUM || item.u.count == SB__TAG_BIGNUM_NEGATIVE)) {
		*ret_negative = item.u.count == SB__TAG_BIGNUM_NEGATIVE;
		err = sb__next_bignum(cursor, &item);
		if (err)
			return err;
		len = item.u.bytes.len;
		if (len > SB__DECIMAL_BYTES)
			return sb__fail(SB_EPROTOCOL, "a decimal's mantissa has more than %u bytes",
			                SB__DECIMAL_BYTES);
		memcpy(magnitude + 1, item.u.bytes.data, len);
		for (size_t i = len + 1; *ret_negative && i-- > 0 && ++magnitude[i] == 0;)
			; /* the magnitude is n + 1 */
	} else {
		return sb__fail(SB_EPROTOCOL, "a decimal's mantissa is no int");
	}
	*ret_count = sb__magnitude_digits(magnitude, len + 1, digits);
	return 0;
}

static int next_decimal_fraction(struct sb__cursor *cursor, char *space, size_t *ret_len)
{
	char digits[3 * (SB__DECIMAL_BYTES + 1) + 16];
	struct sb__item exponent;
	uint64_t count;
	bool negative = false;
	size_t n = 0;
	int err = sb__next_tagged_array(cursor, "decimal", 2, &count);

	if (err || (err = sb__next(cursor, &exponent)))
		return err;
	if (exponent.type != SB__ITEM_INT || exponent.u.integer > EXPONENT_MAX ||
	    exponent.u.integer < -EXPONENT_MAX)
		return sb__fail(SB_EPROTOCOL, "a decimal's exponent is no int of -10^18 to 10^18");
	err = next_mantissa(cursor, digits, &n, &negative);
	if (err)
		return err;
	if (n > SB__DECIMAL_DIGITS)
		return sb__fail(SB_EPROTOCOL, "a decimal's mantissa has more than %u digits",
		                SB__DECIMAL_DIGITS);
	*ret_len = decimal_text(negative, digits, n, exponent.u.integer, space);
	return 0;
}

int sb__next_decimal(struct sb__cursor *cursor, uint64_t tag, char space[SB__DECIMAL_TEXT], const char **ret,
                     size_t *ret_len)
{
	struct sb__item item;
	struct decimal d;
	int err;

	if (tag == SB__TAG_DECIMAL) {
		*ret = space;
		return next_decimal_fraction(cursor, space, ret_len);
	}
	err = sb__next(cursor, &item);
	if (err)
		return err;
	if (item.type != SB__ITEM_STR || !read_decimal((const char *)item.u.bytes.data, item.u.bytes.len, &d))
		return sb__fail(SB_EPROTOCOL, "a decimal's text is none");
	*ret = (const char *)item.u.bytes.data;
	*ret_len = item.u.bytes.len;
	return 0;
}

/* Digit i of those that count, from the first that is not 0. */
static char digit_at(const struct decimal *d, size_t i)
{
	return i < d->whole ? d->digits[i] : d->fraction[i - d->whole];
}

/* Without zeros on either side; empty for 0. */
static void trim(const struct decimal *d, size_t *ret_first, size_t *ret_end)
{
	size_t first = 0, end = d->whole + d->places;

	while (end > 0 && digit_at(d, end - 1) == '0')
		end--;
	while (first < end && digit_at(d, first) == '0')
		first++;
	*ret_first = first;
	*ret_end = end;
}

bool sb__decimal_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
	struct decimal x, y;
	size_t x_first, x_end, y_first, y_end;

	if (!read_decimal(a, a_len, &x) || !read_decimal(b, b_len, &y) || x.special != y.special)
		return false;
	if (x.special)
		return x.negative == y.negative && *x.digits == 'I' && *y.digits == 'I';
	trim(&x, &x_first, &x_end);
	trim(&y, &y_first, &y_end);
	if (x_first == x_end || y_first == y_end)
		return x_first == x_end && y_first == y_end;
	if (x.negative != y.negative || x_end - x_first != y_end - y_first ||
	    x.exponent + (int64_t)(x.whole + x.places - x_end) !=
	            y.exponent + (int64_t)(y.whole + y.places - y_end))
		return false;
	for (size_t i = x_first; i < x_end; i++)
		if (digit_at(&x, i) != digit_at(&y, i - x_first + y_first))
			return false;
	return true;
}
