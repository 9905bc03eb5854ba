/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single CBOR items: writing them into a buffer, reading them from a cursor. This is the only file that
 * includes libcbor, and it uses nothing of it but the streaming functions, which allocate nothing.
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
#include "utf8.h"

#define HEAD_MAX 9 /* bytes of the longest head */

/* ── writing ── */

typedef size_t (*encode_fn)(uint64_t v, unsigned char *to, size_t size);

static void put_head(struct sb__buf *buf, encode_fn encode, uint64_t v)
{
	uint8_t *to = sb__buf_reserve(buf, HEAD_MAX);

	if (to)
		buf->len += encode(v, to, HEAD_MAX);
}

static void put_byte(struct sb__buf *buf, uint8_t byte)
{
	sb__buf_append(buf, &byte, 1);
}

void sb__put_null(struct sb__buf *buf)
{
	put_byte(buf, 0xf6);
}

void sb__put_bool(struct sb__buf *buf, bool v)
{
	put_byte(buf, v ? 0xf5 : 0xf4);
}

void sb__put_uint(struct sb__buf *buf, uint64_t v)
{
	put_head(buf, cbor_encode_uint, v);
}

void sb__put_int(struct sb__buf *buf, int64_t v)
{
	/* CBOR writes a negative n as -1 - n, which in two's complement is the inversion. */
	if (v < 0)
		put_head(buf, cbor_encode_negint, ~(uint64_t)v);
	else
		put_head(buf, cbor_encode_uint, (uint64_t)v);
}

void sb__put_float(struct sb__buf *buf, double v)
{
	uint8_t *to = sb__buf_reserve(buf, HEAD_MAX);
	uint64_t bits;

	if (!to)
		return;
	/* Not cbor_encode_double(): versions differ in what they make of a nan's payload. The bits are those of a
	 * 64-bit integer with another first byte. */
	memcpy(&bits, &v, sizeof(bits));
	buf->len += cbor_encode_uint64(bits, to, HEAD_MAX);
	to[0] = 0xfb;
}

void sb__put_str(struct sb__buf *buf, const char *utf8, size_t len)
{
	put_head(buf, cbor_encode_string_start, len);
	sb__buf_append(buf, utf8, len);
}

void sb__put_bytes(struct sb__buf *buf, const void *bytes, size_t len)
{
	put_head(buf, cbor_encode_bytestring_start, len);
	sb__buf_append(buf, bytes, len);
}

void sb__put_array(struct sb__buf *buf, uint64_t count)
{
	put_head(buf, cbor_encode_array_start, count);
}

void sb__put_map(struct sb__buf *buf, uint64_t pairs)
{
	put_head(buf, cbor_encode_map_start, pairs);
}

void sb__put_tag(struct sb__buf *buf, uint64_t tag)
{
	put_head(buf, cbor_encode_tag, tag);
}

sb_ref sb__item_ref(uint32_t item)
{
	sb_ref ref;

	memset(&ref, 0, sizeof(ref));
	strcpy(ref.session_id, SB__ITEM_SESSION);
	ref.slot = item;
	return ref;
}

bool sb__is_item_ref(const sb_ref *ref)
{
	return strcmp(ref->session_id, SB__ITEM_SESSION) == 0;
}

void sb__put_ref(struct sb__buf *buf, const sb_ref *ref, const char *type_name)
{
	if (sb__is_item_ref(ref)) {
		sb__put_tag(buf, SB__TAG_ITEM_RESULT);
		sb__put_uint(buf, ref->slot);
		return;
	}
	sb__put_tag(buf, SB__TAG_REF);
	sb__put_array(buf, type_name ? 5 : 4);
	sb__put_uint(buf, ref->incarnation);
	sb__put_uint(buf, ref->slot);
	sb__put_uint(buf, ref->generation);
	sb__put_bytes(buf, ref->nonce, sizeof(ref->nonce));
	if (type_name)
		sb__put_str(buf, type_name, sb__utf8_cut(type_name, strlen(type_name), SB_TYPE_NAME_MAX));
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

int sb__next(struct sb__cursor *cursor, struct sb__item *ret)
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

/* An integer of 0 to max. */
static int next_uint(struct sb__cursor *cursor, uint64_t max, uint64_t *ret)
{
	size_t position = cursor->pos;
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_INT || item.u.integer < 0 || (uint64_t)item.u.integer > max)
		return sb__fail(SB_EPROTOCOL, "byte %zu of a ref should hold an integer of 0 to %llu",
		                position, (unsigned long long)max);
	*ret = (uint64_t)item.u.integer;
	return 0;
}

static int next_nonce(struct sb__cursor *cursor, uint8_t nonce[16])
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_BYTES || item.u.bytes.len != 16)
		return sb__fail(SB_EPROTOCOL, "a ref's nonce should be 16 bytes");
	memcpy(nonce, item.u.bytes.data, 16);
	return 0;
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

int sb__next_ref(struct sb__cursor *cursor, sb_ref *ret)
{
	struct sb__item item;
	sb_ref ref = { 0 };
	uint64_t slot, generation;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_ARRAY || (item.u.count != 4 && item.u.count != 5))
		return sb__fail(SB_EPROTOCOL, "a ref should be an array of 4 or 5 items");
	if ((err = next_uint(cursor, INT64_MAX, &ref.incarnation)) ||
	    (err = next_uint(cursor, UINT32_MAX, &slot)) ||
	    (err = next_uint(cursor, UINT32_MAX, &generation)) || (err = next_nonce(cursor, ref.nonce)))
		return err;
	if (item.u.count == 5 && (err = next_type_name(cursor, ref.type_name)))
		return err;
	ref.slot = (uint32_t)slot;
	ref.generation = (uint32_t)generation;
	*ret = ref;
	return 0;
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
		struct sb__item item;
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
