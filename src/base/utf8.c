/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks UTF-8 and finds where it may be cut. Pure: no state, no locks, nothing that a kill could leave.
 * It does not decode: nobody here needs code points.
 */
#include "utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the character that starts at p, of which there are len > 0; 0 if it is not valid. */
static size_t character(const uint8_t *p, size_t len)
{
	uint8_t first = p[0];
	/* Bounds of the second byte: they alone exclude overlong forms, surrogates and what lies above U+10FFFF. */
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf) {
		n = 2;
	} else if (first >= 0xe0 && first <= 0xef) {
		n = 3;
		if (first == 0xe0)
			low = 0xa0;
		else if (first == 0xed)
			high = 0x9f;
	} else if (first >= 0xf0 && first <= 0xf4) {
		n = 4;
		if (first == 0xf0)
			low = 0x90;
		else if (first == 0xf4)
			high = 0x8f;
	} else {
		return 0;
	}
	if (len < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* Most text is short and ASCII: no byte of it has the upper bit. */
static bool is_ascii(const uint8_t *p, size_t len)
{
	uint64_t eight = 0, last;
	uint32_t four[2];

	if (len >= sizeof(eight)) {
		for (size_t i = 0; i + sizeof(last) <= len; i += sizeof(last)) {
			memcpy(&last, p + i, sizeof(last));
			eight |= last;
		}
		memcpy(&last, p + len - sizeof(last), sizeof(last)); /* may overlap the one before */
		eight |= last;
	} else if (len >= sizeof(four[0])) {
		memcpy(&four[0], p, sizeof(four[0]));
		memcpy(&four[1], p + len - sizeof(four[1]), sizeof(four[1]));
		eight = four[0] | four[1];
		eight |= eight << 32;
	} else if (len > 0) {
		eight = (uint64_t)(p[0] | p[len / 2] | p[len - 1]) << 56;
	}
	return (eight & UINT64_C(0x8080808080808080)) == 0;
}

size_t sb__utf8_prefix(const void *text, size_t len)
{
	const uint8_t *p = text;
	size_t i = 0;

	if (is_ascii(p, len))
		return len;
	while (i < len) {
		size_t n;

		for (; len - i >= 8 && is_ascii(p + i, 8); i += 8)
			;
		if (i == len)
			break;
		n = character(p + i, len - i);
		if (n == 0)
			break;
		i += n;
	}
	return i;
}

bool sb__utf8_valid(const void *text, size_t len)
{
	return sb__utf8_prefix(text, len) == len;
}

size_t sb__utf8_cut(const char *text, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && ((uint8_t)text[max] & 0xc0) == 0x80)
		max--;
	return max;
}
