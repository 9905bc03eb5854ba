/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#ifndef SB_BASE_UTF8_H
#define SB_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* How many bytes at the front of text are whole, valid characters: len if all of it is. */
size_t sb__utf8_prefix(const void *text, size_t len);
/* Is all of it valid? */
bool sb__utf8_valid(const void *text, size_t len);
/* The most bytes <= max at which text can be cut without splitting a character. */
size_t sb__utf8_cut(const char *text, size_t len, size_t max);

#endif
