/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte buffer that starts in memory of the user's (a lane, the stack) and moves to the heap when it
 * outgrows it. Errors stick: after the first failed append all further ones do nothing, and the user
 * checks once at the end.
 */
#ifndef SB_CODEC_BUF_H
#define SB_CODEC_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sb__buf {
	uint8_t *data;
	size_t len, cap;
	size_t limit; /* largest len allowed */
	bool heap;    /* data is malloc'ed and ours */
	int error;    /* 0, SB_ENOMEM or SB_ETOOBIG (SB_ETOODEEP from sb__value_encode) */
};

#define SB__MESSAGE_MAX ((size_t)1 << 30) /* bytes of one request or reply */

void sb__buf_init(struct sb__buf *buf, void *memory, size_t cap); /* memory may be NULL with cap 0 */
uint8_t *sb__buf_reserve(struct sb__buf *buf,
                         size_t n); /* room for n more bytes at data + len; NULL on error */
/* Is there room for so many where the buffer lies now? */
static inline bool sb__buf_fits(const struct sb__buf *buf, size_t n)
{
	return !buf->error && buf->data && n <= buf->cap - buf->len && buf->cap <= buf->limit;
}
/* As sb__buf_reserve(), without a call where there is room. */
static inline uint8_t *sb__buf_room(struct sb__buf *buf, size_t n)
{
	return sb__buf_fits(buf, n) ? buf->data + buf->len : sb__buf_reserve(buf, n);
}
void sb__buf_append(struct sb__buf *buf, const void *bytes, size_t n);
void sb__buf_truncate(struct sb__buf *buf, size_t len); /* keeps an error */
void sb__buf_free(struct sb__buf *buf);                 /* frees a heap part and resets to empty */

#endif
