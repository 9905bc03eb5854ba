/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ints of up to 64 bits, one after the other, as long lists and streams of them are read and written: the same bytes as
 * sb__put_int() and sb__next() have, without a call for each. What is not plain is left to those.
 */
#ifndef SB_CODEC_INTS_H
#define SB_CODEC_INTS_H

#include <string.h>

#include "wire.h"

#define SB__INT_MAX_BYTES 9u /* of one on the wire */

static inline uint64_t sb__big_endian(uint64_t v)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(v) : v;
}

/* Writes one, the shortest way. to: room for SB__INT_MAX_BYTES, all of which may be written. Returns its size. */
static inline size_t sb__write_int(uint8_t *to, int64_t v)
{
	uint64_t n = v < 0 ? ~(uint64_t)v : (uint64_t)v, bytes;
	uint8_t major = v < 0 ? 0x20 : 0;
	unsigned power; /* it takes 1 << power bytes */

	if (n < 24) {
		to[0] = (uint8_t)(major | n);
		return 1;
	}
	power = n <= UINT8_MAX ? 0 : n <= UINT16_MAX ? 1 : n <= UINT32_MAX ? 2 : 3;
	bytes = sb__big_endian(n << (64 - (8u << power)));
	to[0] = (uint8_t)(major | (24 + power));
	memcpy(to + 1, &bytes, sizeof(bytes));
	return 1 + (1u << power);
}

/* Is the next item an int, of at most 64 bits, that does not end the message? Then it is taken. */
static inline bool sb__take_int(struct sb__cursor *cursor, int64_t *ret)
{
	const uint8_t *at = cursor->data + cursor->pos;
	uint64_t n;
	unsigned info;

	if (cursor->len - cursor->pos < SB__INT_MAX_BYTES || at[0] > (0x20 | 27))
		return false;
	info = at[0] & 0x1f;
	n = info;
	if (info > 27)
		return false;
	if (info >= 24) {
		memcpy(&n, at + 1, sizeof(n));
		n = sb__big_endian(n) >> (64 - (8u << (info - 24)));
		if (n > INT64_MAX)
			return false;
		cursor->pos += 1u << (info - 24);
	}
	cursor->pos++;
	*ret = (int64_t)(at[0] & 0x20 ? ~n : n);
	return true;
}

#endif
