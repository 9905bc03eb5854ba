/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 as RFC 4648 has it: with padding, without line breaks. */
#ifndef SB_TOOLS_BASE64_H
#define SB_TOOLS_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

void tool_base64_write(FILE *to, const void *bytes, size_t len);

/* bytes: room for len / 4 * 3. False if text is not base64 in its one proper form. */
bool tool_base64_read(const char *text, size_t len, unsigned char *bytes, size_t *ret_len);

#endif
