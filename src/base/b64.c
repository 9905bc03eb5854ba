/* SPDX-License-Identifier: Apache-2.0 */
/* Base64. Pure. Locks: none. Crash story: nothing is shared. */
#include "b64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void sb__base64_group(const unsigned char *bytes, size_t n, char out[4])
{
	uint32_t group = (uint32_t)bytes[0] << 16;

	group |= n > 1 ? (uint32_t)bytes[1] << 8 : 0;
	group |= n > 2 ? bytes[2] : 0;
	out[0] = digits[group >> 18];
	out[1] = digits[group >> 12 & 63];
	out[2] = n > 1 ? digits[group >> 6 & 63] : '=';
	out[3] = n > 2 ? digits[group & 63] : '=';
}

bool sb__base64_read(const char *text, size_t len, unsigned char *bytes, size_t *ret_len)
{
	size_t out = 0, padding = 0;

	if (len % 4)
		return false;
	while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
		padding++;
	for (size_t i = 0; i < len; i += 4) {
		size_t n = i + 4 == len ? 4 - padding : 4; /* digits in this group: 2, 3 or 4 */
		uint32_t group = 0;

		for (size_t k = 0; k < 4; k++) {
			const char *digit = k < n && text[i + k] ? strchr(digits, text[i + k]) : NULL;

			if (k < n && !digit)
				return false;
			group = group << 6 | (digit ? (uint32_t)(digit - digits) : 0);
		}
		for (size_t k = 0; k + 1 < n; k++)
			bytes[out++] = (unsigned char)(group >> (16 - 8 * k));
		if (group & ((1u << (8 * (4 - n))) - 1)) /* bits that no byte takes */
			return false;
	}
	*ret_len = out;
	return true;
}
