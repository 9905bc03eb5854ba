/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text: the parts that Python's repr() and JSON have in common. All append to a buffer. */
#ifndef SB_CODEC_TEXT_H
#define SB_CODEC_TEXT_H

#include "value_impl.h"

#define SB__FLOAT_TEXT 40

void sb__say(struct sb__buf *buf, const char *text);
void sb__sayf(struct sb__buf *buf, const char *fmt, ...) SB_PRINTF_LIKE(2, 3); /* at most 255 bytes */
/* The shortest digits that read back as the same float, as Python's repr() has them. Any locale. */
void sb__float_text(double v, char out[SB__FLOAT_TEXT]);
/* An int of any size, decimal; with too many digits hexadecimal ("0x…"). */
void sb__say_int(struct sb__buf *buf, const sb_value *value);
/* As Python's repr(). */
void sb__say_repr(struct sb__buf *buf, const sb_value *value);
/* A date or time as its isoformat(), without zone. */
void sb__say_when(struct sb__buf *buf, sb_kind kind, const sb_datetime *when);
void sb__say_uuid(struct sb__buf *buf, const uint8_t *uuid);
/* Ends it with a NUL and gives it away; or frees it and reports its error. */
int sb__text_finish(struct sb__buf *buf, char **ret_text);

#endif
