/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, with padding). */
#ifndef SB_BASE_B64_H
#define SB_BASE_B64_H

#include <stdbool.h>
#include <stddef.h>

/* The four digits of 1 to 3 bytes (n). */
void sb__base64_group(const unsigned char *bytes, size_t n, char out[4]);
/* Reads text of len bytes into at most len / 4 * 3 bytes. False if it is not base64. */
bool sb__base64_read(const char *text, size_t len, unsigned char *bytes, size_t *ret_len);

#endif
