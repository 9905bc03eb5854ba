/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands under the tags of single values: ints beyond 64 bits, decimals, dates and times, text with lone
 * surrogates. For the trees (value.c) and for the interpreter's side alike, so that both refuse the same.
 *
 * A reader is called after the tag was read. It gives 0 or SB_EPROTOCOL with a sentence; pointers go into the
 * cursor's bytes.
 */
#ifndef SB_CODEC_SCALAR_H
#define SB_CODEC_SCALAR_H

#include "snakebridge/value.h"
#include "wire.h"

#define SB__DECIMAL_DIGITS \
	1000u /* most digits of a decimal fraction under its registered tag; more go as text */
#define SB__DECIMAL_BYTES 416u                       /* that many digits as a magnitude */
#define SB__DECIMAL_TEXT  (SB__DECIMAL_DIGITS + 40u) /* bytes of the text of one */
#define SB__INT_DIGITS_MAX \
	150000u /* digits of an int that are made into text or out of it: that costs their square */

/* ── ints ── */

/* n, most significant byte first, of the int n or (negative) -1 - n, which is beyond int64_t. */
int sb__next_bignum(struct sb__cursor *cursor, struct sb__item *ret);
/* Writes the int of that magnitude: as a plain integer if it fits. More than SB_BIGINT_MAX bytes: SB_ETOOBIG in buf. */
void sb__put_bigint(struct sb__buf *buf, bool negative, const uint8_t *magnitude, size_t len);
/* The same for n as above, where the int is beyond int64_t. */
void sb__put_bignum(struct sb__buf *buf, bool negative, const uint8_t *n, size_t len);
/* Decimal digits of a magnitude, into 3 * len + 9 bytes. Returns how many, 0 if there is no memory. Not NUL-terminated. */
size_t sb__magnitude_digits(const uint8_t *magnitude, size_t len, char *out);
/* The other way; out: digits / 2 + 1 bytes. Returns how many are used. digits are checked by the caller. */
size_t sb__digits_magnitude(const char *digits, size_t len, uint8_t *out);
/* "-123", decimal: writes the int. False if it is no int, or one of more than SB__INT_DIGITS_MAX digits. */
bool sb__put_int_text(struct sb__buf *buf, const char *text, size_t len);

/* ── decimals ── */

/* A decimal's text as Python's str() gives it. space: where it is made if it is not in the message. */
int sb__next_decimal(struct sb__cursor *cursor, uint64_t tag, char space[SB__DECIMAL_TEXT], const char **ret,
                     size_t *ret_len);
/* Writes one. False if the text is none. */
bool sb__put_decimal(struct sb__buf *buf, const char *text, size_t len);
/* Do two texts say the same number? A nan does not. */
bool sb__decimal_equal(const char *a, size_t a_len, const char *b, size_t b_len);

/* ── dates and times ── */

/* A datetime, date or time, by tag. zone is not NUL-terminated. */
int sb__next_when(struct sb__cursor *cursor, uint64_t tag, sb_datetime *ret);
void sb__put_when(struct sb__buf *buf, sb_kind kind, const sb_datetime *when);
/* Why it is no such datetime, date or time: a few words, or NULL. */
const char *sb__when_fault(sb_kind kind, const sb_datetime *when);
int sb__next_timedelta(struct sb__cursor *cursor, int64_t *ret_seconds, int32_t *ret_microseconds);
void sb__put_timedelta(struct sb__buf *buf, int64_t seconds, int32_t microseconds);
/* -999999999 to 999999999 days, and microseconds of 0 to 999999? */
bool sb__timedelta_fits(int64_t seconds, int32_t microseconds);

/* ── others ── */

int sb__next_complex(struct sb__cursor *cursor, double *ret_real, double *ret_imaginary);
void sb__put_complex(struct sb__buf *buf, double real, double imaginary);
int sb__next_ellipsis(struct sb__cursor *cursor);
void sb__put_ellipsis(struct sb__buf *buf);
/* A byte string. exactly: how long, or SIZE_MAX. what: for the message. */
int sb__next_tagged_bytes(struct sb__cursor *cursor, const char *what, size_t exactly, struct sb__item *ret);
/* The same for text with lone surrogates, which is checked. */
int sb__next_wtf8(struct sb__cursor *cursor, struct sb__item *ret);
/* An array's head. exactly: how many items, or UINT64_MAX. */
int sb__next_tagged_array(struct sb__cursor *cursor, const char *what, uint64_t exactly, uint64_t *ret_count);
/* A tag and a byte string. */
void sb__put_tagged_bytes(struct sb__buf *buf, uint64_t tag, const void *bytes, size_t len);
/* Text that is UTF-8 but for lone surrogates: writes it in the form it needs. False if it is not even that. */
bool sb__put_wtf8(struct sb__buf *buf, const char *text, size_t len);

#endif
