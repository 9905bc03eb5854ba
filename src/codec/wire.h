/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire format: CBOR (RFC 8949), definite lengths, through libcbor's streaming functions.
 *
 * Tags of ours: 21314 ("SB") tuple over an array; 21315 ref over an array
 * [incarnation, slot, generation, nonce bytes(16)] in requests, with a fifth item, the type name, in
 * replies. User data never emits a tag, so it can never pose as one.
 */
#ifndef SB_CODEC_WIRE_H
#define SB_CODEC_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "buf.h"
#include "snakebridge/ref.h"

/* Registered. */
#define SB__TAG_DATETIME_TEXT   0u     /* RFC 3339, of an aware datetime at a fixed offset of whole minutes */
#define SB__TAG_BIGNUM          2u     /* magnitude */
#define SB__TAG_BIGNUM_NEGATIVE 3u     /* of -1 - magnitude */
#define SB__TAG_DECIMAL         4u     /* [exponent, mantissa] */
#define SB__TAG_FRACTION        30u    /* [numerator, denominator] */
#define SB__TAG_UUID            37u    /* bytes(16) */
#define SB__TAG_SET             258u   /* array */
#define SB__TAG_WTF8            273u   /* bytes: a str with lone surrogates */
#define SB__TAG_TIMEDELTA       1002u  /* {1: seconds, -6: microseconds} */
#define SB__TAG_DATE            1004u  /* RFC 8943 text */
#define SB__TAG_COMPLEX         43000u /* [real, imaginary] */
/* Private. */
#define SB__TAG_TUPLE        21314u
#define SB__TAG_REF          21315u
#define SB__TAG_BYTEARRAY    21317u /* bytes */
#define SB__TAG_FROZENSET    21318u /* array */
#define SB__TAG_DATETIME     21319u /* [year, month, day, hour, minute, second, microsecond, fold, zone] */
#define SB__TAG_TIME         21320u /* [hour, minute, second, microsecond, fold, zone] */
#define SB__TAG_DECIMAL_TEXT 21321u /* text */
#define SB__TAG_RANGE        21322u /* [start, stop, step] */
#define SB__TAG_SLICE        21323u /* [start, stop, step] */
#define SB__TAG_ELLIPSIS     21324u /* null */
#define SB__TAG_ARRAY        21325u /* ndarray, buffer */
#define SB__TAG_BLOCK        21326u /* a block in an arena */
#define SB__TAG_ITEM_RESULT  21327u /* the result of an earlier item of the batch */
#define SB__TAG_CALLBACK     21328u /* the place of a C function among those of its call */

#define SB__DEPTH_MAX 128u /* containers within containers: a scalar or ref has depth 0, [] 1, [[]] 2 */

#define SB__HEAD_MAX 9u                        /* bytes of the longest head */
#define SB__REF_MAX  (6u * SB__HEAD_MAX + 16u) /* of a ref without its type */

#define SB__FALSE_BYTE 0xf4
#define SB__TRUE_BYTE  0xf5
#define SB__NULL_BYTE  0xf6

/* CBOR's major types, as the upper three bits of an item's first byte. */
enum sb__major {
	SB__MAJOR_UINT = 0x00,
	SB__MAJOR_NEGINT = 0x20,
	SB__MAJOR_BYTES = 0x40,
	SB__MAJOR_STR = 0x60,
	SB__MAJOR_ARRAY = 0x80,
	SB__MAJOR_MAP = 0xa0,
	SB__MAJOR_TAG = 0xc0,
	SB__MAJOR_SIMPLE = 0xe0
};

/* Writes the shortest head; returns its size. By hand and inline, because a call is made of little else. */
static inline size_t sb__write_head(uint8_t *to, enum sb__major major, uint64_t v)
{
	if (v < 24) {
		to[0] = (uint8_t)(major | v);
		return 1;
	}
	if (v <= UINT8_MAX) {
		to[0] = (uint8_t)(major | 24);
		to[1] = (uint8_t)v;
		return 2;
	}
	if (v <= UINT16_MAX) {
		to[0] = (uint8_t)(major | 25);
		to[1] = (uint8_t)(v >> 8);
		to[2] = (uint8_t)v;
		return 3;
	}
	if (v <= UINT32_MAX) {
		uint32_t be32 = htobe32((uint32_t)v);

		to[0] = (uint8_t)(major | 26);
		memcpy(to + 1, &be32, 4);
		return 5;
	}
	v = htobe64(v);
	to[0] = (uint8_t)(major | 27);
	memcpy(to + 1, &v, 8);
	return 9;
}
/* The same for a ref (a batch's item, too), of at most SB__REF_MAX bytes. typed: its type name will follow. */
size_t sb__write_ref(uint8_t *to, const sb_ref *ref, bool typed);

/* Encoding: appends one item (or the head of one) to buf; see buf->error at the end. */
void sb__put_null(struct sb__buf *buf);
void sb__put_bool(struct sb__buf *buf, bool v);
void sb__put_int(struct sb__buf *buf, int64_t v);
void sb__put_uint(struct sb__buf *buf, uint64_t v);
void sb__put_float(struct sb__buf *buf, double v); /* always 8 bytes: keeps nan payload and -0.0 */
void sb__put_str(struct sb__buf *buf, const char *utf8, size_t len);
void sb__put_bytes(struct sb__buf *buf, const void *bytes, size_t len);
void sb__put_array(struct sb__buf *buf, uint64_t count); /* head only */
void sb__put_map(struct sb__buf *buf, uint64_t pairs);   /* head only */
void sb__put_tag(struct sb__buf *buf, uint64_t tag);     /* head only */
/* Pseudo-refs, of use in batches only: slot says which earlier item of the batch has the result that is meant. */
#define SB__ITEM_SESSION "\001batch"
sb_ref sb__item_ref(uint32_t item);
static inline bool sb__is_item_session(const char *session_id)
{
	return session_id[0] == SB__ITEM_SESSION[0] && strcmp(session_id, SB__ITEM_SESSION) == 0;
}
static inline bool sb__is_item_ref(const sb_ref *ref)
{
	return sb__is_item_session(ref->session_id);
}
/* A ref; type_name NULL in requests. */
void sb__put_ref(struct sb__buf *buf, const sb_ref *ref, const char *type_name);
/* A bytes item that is a message of its own, built where it will lie: what is appended to *ret, then sb__nested(), which
 * frees it. head: how long the item's head will be, most likely. Between the two buf is left alone. */
void sb__nest(struct sb__buf *buf, size_t head, struct sb__buf *ret);
void sb__nested(struct sb__buf *buf, size_t head, struct sb__buf *part);
/* A head whose count is known later: 5 bytes, patched by sb__patch_count(buf, position). */
size_t sb__put_array_later(struct sb__buf *buf);
size_t sb__put_map_later(struct sb__buf *buf);
void sb__patch_count(struct sb__buf *buf, size_t position, uint32_t count);

struct sb__blocks;
struct sb_array;

/* Decoding: a cursor over private bytes (never over shared memory). Begin with { .data = …, .len = … }. */
struct sb__cursor {
	const uint8_t *data;
	size_t len, pos;
	const struct sb__blocks *blocks; /* how arrays in shared memory are had (array.h); NULL: not at all */
	struct sb_array *const *
		own; /* the arrays in these bytes, in their order, which are not opened but shared; NULL: they are */
	size_t own_count;
};

enum sb__item_type {
	SB__ITEM_NULL,
	SB__ITEM_BOOL,
	SB__ITEM_INT, /* fits int64 */
	SB__ITEM_FLOAT,
	SB__ITEM_STR,
	SB__ITEM_BYTES,
	SB__ITEM_ARRAY,
	SB__ITEM_MAP,
	SB__ITEM_TAG
};

struct sb__item {
	enum sb__item_type type;
	union {
		bool boolean;
		int64_t integer;
		double number;
		uint64_t count; /* array items, map pairs (each checked against the bytes left), tag number */
		struct {
			const uint8_t *data;
			size_t len;
		} bytes; /* str (checked UTF-8) and bytes; into the cursor's data */
	} u;
};

/* Reads one item or head. 0 or SB_EPROTOCOL (also: indefinite length, integers beyond int64, other
 * simple values; floats shorter than 8 bytes; a count larger than the bytes left). The cursor moves only
 * on success. */
int sb__next(struct sb__cursor *cursor, struct sb__item *ret);
/* After a TAG item with SB__TAG_ITEM_RESULT. */
int sb__next_item_ref(struct sb__cursor *cursor, sb_ref *ret);
/* Is the next item this one of a single byte (a small number, a short array's head)? Then it is taken. */
static inline bool sb__take_byte(struct sb__cursor *cursor, uint8_t byte)
{
	if (cursor->pos >= cursor->len || cursor->data[cursor->pos] != byte)
		return false;
	cursor->pos++;
	return true;
}
/* The same for a tag of 256 to 65535, as those of ours are. */
static inline bool sb__take_tag(struct sb__cursor *cursor, unsigned tag)
{
	const uint8_t *at = cursor->data + cursor->pos;

	if (cursor->len - cursor->pos < 3 || at[0] != (SB__MAJOR_TAG | 25) || at[1] != tag >> 8 ||
	    at[2] != (tag & 0xff))
		return false;
	cursor->pos += 3;
	return true;
}
/* Is the next item bytes of less than 256? Then it is taken. */
static inline bool sb__take_short_bytes(struct sb__cursor *cursor, const uint8_t **ret, size_t *ret_len)
{
	const uint8_t *at = cursor->data + cursor->pos;
	size_t left = cursor->len - cursor->pos, head = 1, len;

	if (left < 2 || at[0] < SB__MAJOR_BYTES || at[0] > (SB__MAJOR_BYTES | 24))
		return false;
	len = at[0] & 0x1f;
	if (len == 24) {
		head = 2;
		len = at[1];
	}
	if (len > left - head)
		return false;
	*ret = at + head;
	*ret_len = len;
	cursor->pos += head + len;
	return true;
}
/* As sb__next_ref(), but leaves the bytes after the empty texts as they are. */
int sb__next_ref_fields(struct sb__cursor *cursor, sb_ref *ret);
/* After a TAG item with SB__TAG_REF: reads the array. Type name optional; session_id is left empty. */
int sb__next_ref(struct sb__cursor *cursor, sb_ref *ret);
/* Skips one whole item, however deep (bounded). */
int sb__skip(struct sb__cursor *cursor);

#endif
