/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single CBOR items: writing them into a buffer, reading them from a cursor. This is the only file that
 * includes libcbor, and it uses nothing of it but the streaming decoder, which allocates nothing, for what is not
 * common or not right.
 * What items mean together is not known here (value.c, message.c).
 *
 * Whatever is read was written by another process and may be anything: lengths and counts are checked
 * against the bytes that are left before anyone sees them.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "wire.h"

#include <cbor.h>
#include <string.h>

#include "fail.h"
#include "snakebridge/error.h"
#include "utf8.h"

/* ── writing ── */

static void put_head(struct sb__buf *buf, enum sb__major major, uint64_t v)
{
	uint8_t *to = sb__buf_room(buf, SB__HEAD_MAX);

	if (to && v < 24) {
		*to = (uint8_t)(major | v);
		buf->len++;
	} else if (to) {
		buf->len += sb__write_head(to, major, v);
	}
}

static void put_byte(struct sb__buf *buf, uint8_t byte)
{
	uint8_t *to = sb__buf_room(buf, 1);

	if (!to)
		return;
	*to = byte;
	buf->len++;
}

void sb__put_null(struct sb__buf *buf)
{
	put_byte(buf, SB__NULL_BYTE);
}

void sb__put_bool(struct sb__buf *buf, bool v)
{
	put_byte(buf, v ? SB__TRUE_BYTE : SB__FALSE_BYTE);
}

void sb__put_uint(struct sb__buf *buf, uint64_t v)
{
	put_head(buf, SB__MAJOR_UINT, v);
}

void sb__put_int(struct sb__buf *buf, int64_t v)
{
	/* CBOR writes a negative n as -1 - n, which in two's complement is the inversion. */
	if (v < 0)
		put_head(buf, SB__MAJOR_NEGINT, ~(uint64_t)v);
	else
		put_head(buf, SB__MAJOR_UINT, (uint64_t)v);
}

void sb__put_float(struct sb__buf *buf, double v)
{
	uint8_t *to = sb__buf_room(buf, SB__HEAD_MAX);
	uint64_t bits;

	if (!to)
		return;
	/* The bits as they are, so that a nan's payload is kept. */
	memcpy(&bits, &v, sizeof(bits));
	to[0] = 0xfb;
	for (unsigned i = 0; i < 8; i++)
		to[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
	buf->len += SB__HEAD_MAX;
}

void sb__put_str(struct sb__buf *buf, const char *utf8, size_t len)
{
	put_head(buf, SB__MAJOR_STR, len);
	sb__buf_append(buf, utf8, len);
}

void sb__put_bytes(struct sb__buf *buf, const void *bytes, size_t len)
{
	put_head(buf, SB__MAJOR_BYTES, len);
	sb__buf_append(buf, bytes, len);
}

void sb__put_array(struct sb__buf *buf, uint64_t count)
{
	put_head(buf, SB__MAJOR_ARRAY, count);
}

void sb__put_map(struct sb__buf *buf, uint64_t pairs)
{
	put_head(buf, SB__MAJOR_MAP, pairs);
}

void sb__put_tag(struct sb__buf *buf, uint64_t tag)
{
	put_head(buf, SB__MAJOR_TAG, tag);
}

sb_ref sb__item_ref(uint32_t item)
{
	sb_ref ref;

	memset(&ref, 0, sizeof(ref));
	strcpy(ref.session_id, SB__ITEM_SESSION);
	ref.slot = item;
	return ref;
}

size_t sb__write_ref(uint8_t *to, const sb_ref *ref, bool typed)
{
	uint8_t *begin = to;

	if (sb__is_item_ref(ref)) {
		to += sb__write_head(to, SB__MAJOR_TAG, SB__TAG_ITEM_RESULT);
		return (size_t)(to - begin) + sb__write_head(to, SB__MAJOR_UINT, ref->slot);
	}
	to += sb__write_head(to, SB__MAJOR_TAG, SB__TAG_REF);
	to += sb__write_head(to, SB__MAJOR_ARRAY, typed ? 5 : 4);
	to += sb__write_head(to, SB__MAJOR_UINT, ref->incarnation);
	to += sb__write_head(to, SB__MAJOR_UINT, ref->slot);
	to += sb__write_head(to, SB__MAJOR_UINT, ref->generation);
	to += sb__write_head(to, SB__MAJOR_BYTES, sizeof(ref->nonce));
	memcpy(to, ref->nonce, sizeof(ref->nonce));
	return (size_t)(to - begin) + sizeof(ref->nonce);
}

void sb__put_ref(struct sb__buf *buf, const sb_ref *ref, const char *type_name)
{
	uint8_t *to = sb__buf_room(buf, SB__REF_MAX);

	if (!to)
		return;
	buf->len += sb__write_ref(to, ref, type_name != NULL);
	if (type_name && !sb__is_item_ref(ref))
		sb__put_str(buf, type_name, sb__utf8_cut(type_name, strlen(type_name), SB_TYPE_NAME_MAX));
}

void sb__nest(struct sb__buf *buf, size_t head, struct sb__buf *ret)
{
	if (!buf->error && buf->data && buf->cap - buf->len > SB__HEAD_MAX)
		sb__buf_init(ret, buf->data + buf->len + head, buf->cap - buf->len - SB__HEAD_MAX);
	else
		sb__buf_init(ret, NULL, 0);
}

void sb__nested(struct sb__buf *buf, size_t head, struct sb__buf *part)
{
	uint8_t *to = buf->data + buf->len, first[SB__HEAD_MAX];
	size_t n = sb__write_head(first, SB__MAJOR_BYTES, part->len);

	if (part->error && !buf->error)
		buf->error = part->error;
	if (part->heap || !part->data) {
		sb__put_bytes(buf, part->data, part->len);
	} else if (!buf->error && n + part->len > buf->limit - buf->len) {
		buf->error = SB_ETOOBIG;
	} else if (!buf->error) {
		if (n != head)
			memmove(to + n, part->data, part->len);
		memcpy(to, first, n);
		buf->len += n + part->len;
	}
	sb__buf_free(part);
}

/* A head with a 4-byte count, 0 for now. */
static size_t put_later(struct sb__buf *buf, uint8_t first)
{
	const uint8_t head[5] = { first, 0, 0, 0, 0 };
	size_t position = buf->len;

	sb__buf_append(buf, head, sizeof(head));
	return position;
}

size_t sb__put_array_later(struct sb__buf *buf)
{
	return put_later(buf, 0x9a);
}

size_t sb__put_map_later(struct sb__buf *buf)
{
	return put_later(buf, 0xba);
}

void sb__patch_count(struct sb__buf *buf, size_t position, uint32_t count)
{
	if (buf->error)
		return;
	for (size_t i = 0; i < 4; i++)
		buf->data[position + 1 + i] = (uint8_t)(count >> (24 - 8 * i));
}

/* ── reading ── */

/* What the callbacks fill. refused: why the item is none of ours. */
struct reading {
	struct sb__item *item;
	const char *refused;
};

static void got_uint(struct reading *r, uint64_t v)
{
	if (v > INT64_MAX) {
		r->refused = "an integer beyond 64 bits";
		return;
	}
	r->item->type = SB__ITEM_INT;
	r->item->u.integer = (int64_t)v;
}

static void got_negint(struct reading *r, uint64_t v)
{
	if (v > INT64_MAX) {
		r->refused = "an integer beyond 64 bits";
		return;
	}
	r->item->type = SB__ITEM_INT;
	r->item->u.integer = -1 - (int64_t)v;
}

static void got_bytes(struct reading *r, enum sb__item_type type, cbor_data data, size_t len)
{
	r->item->type = type;
	r->item->u.bytes.data = data;
	r->item->u.bytes.len = len;
}

static void got_count(struct reading *r, enum sb__item_type type, uint64_t count)
{
	r->item->type = type;
	r->item->u.count = count;
}

/* Tables: a line is an entry. */
/* clang-format off */
static void on_uint8(void *r, uint8_t v) { got_uint(r, v); }
static void on_uint16(void *r, uint16_t v) { got_uint(r, v); }
static void on_uint32(void *r, uint32_t v) { got_uint(r, v); }
static void on_uint64(void *r, uint64_t v) { got_uint(r, v); }
static void on_negint8(void *r, uint8_t v) { got_negint(r, v); }
static void on_negint16(void *r, uint16_t v) { got_negint(r, v); }
static void on_negint32(void *r, uint32_t v) { got_negint(r, v); }
static void on_negint64(void *r, uint64_t v) { got_negint(r, v); }
static void on_string(void *r, cbor_data data, size_t len) { got_bytes(r, SB__ITEM_STR, data, len); }
static void on_byte_string(void *r, cbor_data data, size_t len) { got_bytes(r, SB__ITEM_BYTES, data, len); }
static void on_array(void *r, size_t count) { got_count(r, SB__ITEM_ARRAY, count); }
static void on_map(void *r, size_t count) { got_count(r, SB__ITEM_MAP, count); }
static void on_tag(void *r, uint64_t tag) { got_count(r, SB__ITEM_TAG, tag); }
static void on_null(void *r) { ((struct reading *)r)->item->type = SB__ITEM_NULL; }
static void on_indefinite(void *r) { ((struct reading *)r)->refused = "an item of indefinite length"; }
static void on_undefined(void *r) { ((struct reading *)r)->refused = "the simple value 'undefined'"; }
/* clang-format on */

static void on_double(void *context, double v)
{
	struct reading *r = context;

	r->item->type = SB__ITEM_FLOAT;
	r->item->u.number = v;
}

static void on_short_float(void *context, float v)
{
	(void)v;
	((struct reading *)context)->refused = "a float of less than 8 bytes";
}

static void on_bool(void *context, bool v)
{
	struct reading *r = context;

	r->item->type = SB__ITEM_BOOL;
	r->item->u.boolean = v;
}

static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negint8,
	.negint16 = on_negint16,
	.negint32 = on_negint32,
	.negint64 = on_negint64,
	.byte_string = on_byte_string,
	.byte_string_start = on_indefinite,
	.string = on_string,
	.string_start = on_indefinite,
	.array_start = on_array,
	.indef_array_start = on_indefinite,
	.map_start = on_map,
	.indef_map_start = on_indefinite,
	.tag = on_tag,
	.float2 = on_short_float,
	.float4 = on_short_float,
	.float8 = on_double,
	.null = on_null,
	.undefined = on_undefined,
	.boolean = on_bool,
	.indef_break = on_indefinite,
};

/* Why an item that was read whole cannot be taken; NULL if it can. left: bytes after it. */
static const char *unfit(const struct sb__item *item, size_t left)
{
	switch (item->type) {
	case SB__ITEM_STR:
		return sb__utf8_valid(item->u.bytes.data, item->u.bytes.len) ? NULL
		                                                             : "a str that is not UTF-8";
	case SB__ITEM_ARRAY: /* an item takes at least one byte */
		return item->u.count <= left ? NULL : "an array longer than the message";
	case SB__ITEM_MAP: return item->u.count <= left / 2 ? NULL : "a map longer than the message";
	default: return NULL;
	}
}

/* The argument of a head whose first byte is p[0], read from left bytes: its size with the first byte, or 0 where it is
 * not whole, or of another kind than a number in 0, 1, 2, 4 or 8 bytes. */
static size_t read_head(const uint8_t *p, size_t left, uint64_t *ret)
{
	unsigned info = p[0] & 0x1f, extra;
	uint64_t be64;
	uint32_t be32;

	if (info < 24) {
		*ret = info;
		return 1;
	}
	if (info > 27)
		return 0;
	extra = 1u << (info - 24);
	if (left <= extra)
		return 0;
	if (extra == 8) {
		memcpy(&be64, p + 1, 8);
		*ret = be64toh(be64);
	} else if (extra == 4) {
		memcpy(&be32, p + 1, 4);
		*ret = be32toh(be32);
	} else {
		*ret = extra == 2 ? (uint64_t)p[1] << 8 | p[2] : p[1];
	}
	return 1 + extra;
}

/* The items that nearly all messages are made of, read without libcbor: their size in bytes; 0: it must look itself. */
static inline size_t read_common(const uint8_t *p, size_t left, struct sb__item *ret)
{
	size_t head = 1;
	uint64_t v = p[0] & 0x1f;

	if (v >= 24 && (p[0] & 0xe0) != SB__MAJOR_SIMPLE)
		head = read_head(p, left, &v);
	if (!head)
		return 0;
	switch (p[0] & 0xe0) {
	case SB__MAJOR_UINT:
	case SB__MAJOR_NEGINT:
		if (v > INT64_MAX)
			return 0;
		ret->type = SB__ITEM_INT;
		ret->u.integer = (p[0] & 0xe0) == SB__MAJOR_UINT ? (int64_t)v : -1 - (int64_t)v;
		return head;
	case SB__MAJOR_BYTES:
	case SB__MAJOR_STR:
		if (v > left - head)
			return 0;
		ret->type = (p[0] & 0xe0) == SB__MAJOR_STR ? SB__ITEM_STR : SB__ITEM_BYTES;
		ret->u.bytes.data = p + head;
		ret->u.bytes.len = (size_t)v;
		if (ret->type == SB__ITEM_STR && !sb__utf8_valid(p + head, (size_t)v))
			return 0;
		return head + (size_t)v;
	case SB__MAJOR_ARRAY: /* an item takes at least one byte */
		ret->type = SB__ITEM_ARRAY;
		ret->u.count = v;
		return v <= left - head ? head : 0;
	case SB__MAJOR_MAP:
		ret->type = SB__ITEM_MAP;
		ret->u.count = v;
		return v <= (left - head) / 2 ? head : 0;
	case SB__MAJOR_TAG:
		ret->type = SB__ITEM_TAG;
		ret->u.count = v;
		return head;
	default: break;
	}
	ret->type = p[0] == SB__NULL_BYTE ? SB__ITEM_NULL : SB__ITEM_BOOL;
	ret->u.boolean = p[0] == SB__TRUE_BYTE;
	return p[0] == SB__NULL_BYTE || p[0] == SB__TRUE_BYTE || p[0] == SB__FALSE_BYTE;
}

/* Everything else, and what is to be refused. */
static int next_uncommon(struct sb__cursor *cursor, struct sb__item *ret)
{
	size_t left = cursor->len - cursor->pos;
	struct sb__item item = { .type = SB__ITEM_NULL };
	struct reading r = { .item = &item };
	struct cbor_decoder_result result;

	if (left == 0)
		return sb__fail(SB_EPROTOCOL, "the message ends at byte %zu where an item should begin",
		                cursor->pos);
	result = cbor_stream_decode(cursor->data + cursor->pos, left, &callbacks, &r);
	if (result.status == CBOR_DECODER_NEDATA)
		return sb__fail(SB_EPROTOCOL,
		                "the item at byte %zu is cut off at the message's end, byte %zu", cursor->pos,
		                cursor->len);
	if (result.status != CBOR_DECODER_FINISHED || result.read > left)
		return sb__fail(SB_EPROTOCOL, "byte %zu begins no CBOR item that is known here", cursor->pos);
	if (!r.refused)
		r.refused = unfit(&item, left - result.read);
	if (r.refused)
		return sb__fail(SB_EPROTOCOL, "%s at byte %zu", r.refused, cursor->pos);
	cursor->pos += result.read;
	*ret = item;
	return 0;
}

int sb__next(struct sb__cursor *cursor, struct sb__item *ret)
{
	size_t left = cursor->len - cursor->pos;
	size_t n = left > 0 ? read_common(cursor->data + cursor->pos, left, ret) : 0;

	if (!n)
		return next_uncommon(cursor, ret);
	cursor->pos += n;
	return 0;
}

/* An integer of 0 to max. */
static int next_uint(struct sb__cursor *cursor, uint64_t max, uint64_t *ret)
{
	size_t position = cursor->pos, left = cursor->len - position, head = 0;
	struct sb__item item = { .type = SB__ITEM_NULL };
	int err;

	if (left > 0 && (cursor->data[position] & 0xe0) == SB__MAJOR_UINT)
		head = read_head(cursor->data + position, left, ret);
	if (head && *ret <= max) {
		cursor->pos += head;
		return 0;
	}
	err = sb__next(cursor, &item);
	if (err)
		return err;
	return sb__fail(SB_EPROTOCOL, "byte %zu of a ref should hold an integer of 0 to %llu", position,
	                (unsigned long long)max);
}

static int next_nonce(struct sb__cursor *cursor, uint8_t nonce[16])
{
	const uint8_t *at = cursor->data + cursor->pos;
	struct sb__item item;
	int err;

	if (cursor->len - cursor->pos > 16 && at[0] == (SB__MAJOR_BYTES | 16)) {
		memcpy(nonce, at + 1, 16);
		cursor->pos += 17;
		return 0;
	}
	err = sb__next(cursor, &item);
	if (err)
		return err;
	return sb__fail(SB_EPROTOCOL, "a ref's nonce should be 16 bytes");
}

static int next_type_name(struct sb__cursor *cursor, char name[SB_TYPE_NAME_MAX + 1])
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR || item.u.bytes.len > SB_TYPE_NAME_MAX ||
	    memchr(item.u.bytes.data, 0, item.u.bytes.len))
		return sb__fail(SB_EPROTOCOL,
		                "a ref's type name should be a str of at most %d bytes without NUL",
		                SB_TYPE_NAME_MAX);
	memcpy(name, item.u.bytes.data, item.u.bytes.len);
	name[item.u.bytes.len] = '\0';
	return 0;
}

/* An integer where p points; its size, or 0 if there is none or it is greater than max. */
static inline size_t take_uint(const uint8_t *p, const uint8_t *end, uint64_t max, uint64_t *ret)
{
	size_t n = 1;

	if (p == end || (p[0] & 0xe0) != SB__MAJOR_UINT)
		return 0;
	*ret = p[0];
	if (p[0] >= 24)
		n = read_head(p, (size_t)(end - p), ret);
	return n && *ret <= max ? n : 0;
}

/* A ref's fields behind the array's head; false: they are to be read one by one, to say what is wrong. */
static bool take_ref(struct sb__cursor *cursor, sb_ref *ret)
{
	const uint8_t *p = cursor->data + cursor->pos, *end = cursor->data + cursor->len;
	uint64_t slot = 0, generation = 0;
	size_t n = take_uint(p, end, INT64_MAX, &ret->incarnation);

	p += n;
	n = n ? take_uint(p, end, UINT32_MAX, &slot) : 0;
	p += n;
	n = n ? take_uint(p, end, UINT32_MAX, &generation) : 0;
	p += n;
	if (!n || end - p < 17 || p[0] != (SB__MAJOR_BYTES | 16))
		return false;
	ret->slot = (uint32_t)slot;
	ret->generation = (uint32_t)generation;
	memcpy(ret->nonce, p + 1, 16);
	cursor->pos = (size_t)(p + 17 - cursor->data);
	return true;
}

/* The same, with what is wrong. */
static int next_ref_parts(struct sb__cursor *cursor, sb_ref *ret)
{
	uint64_t slot = 0, generation = 0;
	int err;

	if ((err = next_uint(cursor, INT64_MAX, &ret->incarnation)) ||
	    (err = next_uint(cursor, UINT32_MAX, &slot)) ||
	    (err = next_uint(cursor, UINT32_MAX, &generation)))
		return err;
	ret->slot = (uint32_t)slot;
	ret->generation = (uint32_t)generation;
	return next_nonce(cursor, ret->nonce);
}

int sb__next_ref_fields(struct sb__cursor *cursor, sb_ref *ret)
{
	bool typed = !sb__take_byte(cursor, SB__MAJOR_ARRAY | 4);
	struct sb__item item;
	int err;

	if (typed) {
		err = sb__next(cursor, &item);
		if (err)
			return err;
		if (item.type != SB__ITEM_ARRAY || (item.u.count != 4 && item.u.count != 5))
			return sb__fail(SB_EPROTOCOL, "a ref should be an array of 4 or 5 items");
		typed = item.u.count == 5;
	}
	if (!take_ref(cursor, ret)) {
		err = next_ref_parts(cursor, ret);
		if (err)
			return err;
	}
	ret->session_id[0] = ret->type_name[0] = '\0';
	return typed ? next_type_name(cursor, ret->type_name) : 0;
}

int sb__next_ref(struct sb__cursor *cursor, sb_ref *ret)
{
	memset(ret, 0, sizeof(*ret)); /* also what follows the texts: users may compare the bytes */
	return sb__next_ref_fields(cursor, ret);
}

int sb__next_item_ref(struct sb__cursor *cursor, sb_ref *ret)
{
	uint64_t item = 0;
	int err = next_uint(cursor, UINT32_MAX, &item);

	if (!err)
		*ret = sb__item_ref((uint32_t)item);
	return err;
}

int sb__skip(struct sb__cursor *cursor)
{
	uint64_t items = 1; /* still to be skipped; every one needs a byte, so it cannot overflow */

	while (items > 0) {
		struct sb__item item = { .type = SB__ITEM_NULL };
		int err = sb__next(cursor, &item);

		if (err)
			return err;
		items--;
		if (item.type == SB__ITEM_ARRAY)
			items += item.u.count;
		else if (item.type == SB__ITEM_MAP)
			items += 2 * item.u.count;
		else if (item.type == SB__ITEM_TAG)
			items++;
		if (items > cursor->len - cursor->pos)
			return sb__fail(SB_EPROTOCOL, "the message ends at byte %zu with %llu items missing",
			                cursor->len, (unsigned long long)items);
	}
	return 0;
}
