/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The growing byte buffer. It does not know what the bytes mean, and sets no error record: errors stick
 * in buf->error and whoever finishes the message reports them.
 *
 * Locks: none; a buffer belongs to one thread. Crash story: nothing is shared but the memory the user
 * lent (a lane), whose bytes mean nothing before the user publishes them.
 */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

#include "snakebridge/error.h"

#define FIRST_HEAP_CAP ((size_t)512)

void sb__buf_init(struct sb__buf *buf, void *memory, size_t cap)
{
	*buf = (struct sb__buf){ .data = memory, .cap = memory ? cap : 0, .limit = SB__MESSAGE_MAX };
}

/* Moves to a heap block of at least need bytes. Doubles, so that appending costs constant time on average. */
static int grow(struct sb__buf *buf, size_t need)
{
	size_t cap = buf->cap < FIRST_HEAP_CAP ? FIRST_HEAP_CAP : buf->cap;
	uint8_t *data;

	while (cap < need)
		cap *= 2; /* cannot overflow: need <= limit, which is far below SIZE_MAX / 2 */
	data = realloc(buf->heap ? buf->data : NULL, cap);
	if (!data)
		return SB_ENOMEM;
	if (!buf->heap && buf->len > 0)
		memcpy(data, buf->data, buf->len);
	buf->data = data;
	buf->cap = cap;
	buf->heap = true;
	return 0;
}

uint8_t *sb__buf_reserve(struct sb__buf *buf, size_t n)
{
	if (buf->error)
		return NULL;
	if (buf->len > buf->limit || n > buf->limit - buf->len) {
		buf->error = SB_ETOOBIG;
		return NULL;
	}
	if (n > buf->cap - buf->len || !buf->data) {
		buf->error = grow(buf, buf->len + n);
		if (buf->error)
			return NULL;
	}
	return buf->data + buf->len;
}

void sb__buf_append(struct sb__buf *buf, const void *bytes, size_t n)
{
	uint8_t *to;

	if (n == 0)
		return;
	to = sb__buf_room(buf, n);
	if (!to)
		return;
	memcpy(to, bytes, n);
	buf->len += n;
}

void sb__buf_truncate(struct sb__buf *buf, size_t len)
{
	if (len < buf->len)
		buf->len = len;
}

void sb__buf_free(struct sb__buf *buf)
{
	if (buf->heap)
		free(buf->data);
	buf->data = NULL;
	buf->len = buf->cap = 0;
	buf->heap = false;
	buf->error = 0;
}
