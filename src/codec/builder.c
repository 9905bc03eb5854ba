/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values built step by step. What goes wrong first is kept and makes every later step do nothing; finishing reports
 * it.
 *
 * Locks: none; a builder belongs to one thread. Crash story: nothing is shared.
 */
#include "snakebridge/builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "gather.h"
#include "scalar.h"

struct level {
	sb_kind kind;
	size_t head; /* where its count is written */
	uint32_t count;
};

struct sb_builder {
	struct sb__gather gather;
	struct level levels[SB__DEPTH_MAX + 1]; /* [0]: around everything */
	unsigned depth;
	int error;
	char message[160];
};

static const struct sb_builder out_of_memory = { .error = SB_ENOMEM };

sb_builder *sb_builder_new(void)
{
	sb_builder *b = malloc(sizeof(*b));

	if (!b)
		return (sb_builder *)&out_of_memory; /* known by its address, and never written to */
	sb__gather_init(&b->gather);
	b->depth = 0;
	b->levels[0] = (struct level){ .kind = SB_KIND_NONE };
	b->error = 0;
	return b;
}

static void stick(sb_builder *b, int code, const char *message)
{
	if (b->error)
		return;
	b->error = code;
	snprintf(b->message, sizeof(b->message), "%s", message);
}

/* Before each value: NULL if there is nothing to do, else where it goes. */
static struct sb__buf *next(sb_builder *b)
{
	struct level *level;

	if (!b || b->error)
		return NULL;
	level = &b->levels[b->depth];
	if (b->depth == 0 && level->count == 1) {
		stick(b, SB_EINVAL, "a builder makes one value, and it has one; begin a container first");
		return NULL;
	}
	if (level->count == UINT32_MAX) {
		stick(b, SB_ETOOBIG, "a container has too many items");
		return NULL;
	}
	level->count++;
	return &b->gather.buf;
}

void sb_builder_none(sb_builder *b)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_null(buf);
}

void sb_builder_bool(sb_builder *b, bool v)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_bool(buf, v);
}

void sb_builder_int(sb_builder *b, int64_t v)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_int(buf, v);
}

void sb_builder_bigint(sb_builder *b, bool negative, const void *magnitude, size_t len)
{
	struct sb__buf *buf = next(b);

	if (buf && len > SB_BIGINT_MAX)
		stick(b, SB_ETOOBIG, "an int has more bytes than SB_BIGINT_MAX");
	else if (buf && !magnitude && len > 0)
		stick(b, SB_EINVAL, "an int's magnitude is NULL");
	else if (buf)
		sb__put_bigint(buf, negative, magnitude, len);
}

void sb_builder_uint64(sb_builder *b, uint64_t v)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(v >> (56 - 8 * i));
	sb_builder_bigint(b, false, bytes, sizeof(bytes));
}

void sb_builder_float(sb_builder *b, double v)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_float(buf, v);
}

void sb_builder_complex(sb_builder *b, double real, double imaginary)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_complex(buf, real, imaginary);
}

void sb_builder_str_len(sb_builder *b, const char *text, size_t len)
{
	struct sb__buf *buf = next(b);

	if (!buf)
		return;
	if ((!text && len > 0) || !sb__put_wtf8(buf, text ? text : "", len))
		stick(b, SB_EINVAL, "a str is NULL, or neither UTF-8 nor WTF-8");
}

void sb_builder_str(sb_builder *b, const char *text)
{
	if (text)
		sb_builder_str_len(b, text, strlen(text));
	else
		sb_builder_none(b);
}

static void put_bytes(sb_builder *b, uint64_t tag, const void *bytes, size_t len)
{
	struct sb__buf *buf = next(b);

	if (!buf)
		return;
	if (!bytes && len > 0)
		stick(b, SB_EINVAL, "bytes are NULL");
	else if (tag)
		sb__put_tagged_bytes(buf, tag, bytes, len);
	else
		sb__put_bytes(buf, bytes, len);
}

void sb_builder_bytes(sb_builder *b, const void *bytes, size_t len)
{
	put_bytes(b, 0, bytes, len);
}

void sb_builder_bytearray(sb_builder *b, const void *bytes, size_t len)
{
	put_bytes(b, SB__TAG_BYTEARRAY, bytes, len);
}

void sb_builder_uuid(sb_builder *b, const uint8_t uuid[16])
{
	put_bytes(b, SB__TAG_UUID, uuid, 16);
}

void sb_builder_decimal(sb_builder *b, const char *text)
{
	struct sb__buf *buf = next(b);

	if (buf && (!text || !sb__put_decimal(buf, text, strlen(text))))
		stick(b, SB_EINVAL, "a text is no decimal");
}

void sb_builder_int_text(sb_builder *b, const char *digits)
{
	struct sb__buf *buf = next(b);

	if (buf && (!digits || !sb__put_int_text(buf, digits, strlen(digits))))
		stick(b, SB_EINVAL, "a text is no int, or one of more than 150000 digits");
}

static void put_when(sb_builder *b, sb_kind kind, const sb_datetime *when)
{
	struct sb__buf *buf = next(b);
	const char *fault = "a datetime is NULL";
	sb_datetime fields;

	if (!buf)
		return;
	if (when) {
		fields = *when;
		if (fields.zone && fields.zone_len == 0)
			fields.zone_len = strlen(fields.zone);
		fault = sb__when_fault(kind, &fields);
	}
	if (fault)
		stick(b, SB_EINVAL, fault);
	else
		sb__put_when(buf, kind, &fields);
}

void sb_builder_datetime(sb_builder *b, const sb_datetime *when)
{
	put_when(b, SB_KIND_DATETIME, when);
}

void sb_builder_date(sb_builder *b, const sb_datetime *when)
{
	put_when(b, SB_KIND_DATE, when);
}

void sb_builder_time(sb_builder *b, const sb_datetime *when)
{
	put_when(b, SB_KIND_TIME, when);
}

void sb_builder_timedelta(sb_builder *b, int64_t seconds, int32_t microseconds)
{
	struct sb__buf *buf = next(b);

	if (buf && !sb__timedelta_fits(seconds, microseconds))
		stick(b, SB_EINVAL,
		      "a timedelta is beyond Python's, or its microseconds are not 0 to 999999");
	else if (buf)
		sb__put_timedelta(buf, seconds, microseconds);
}

void sb_builder_ellipsis(sb_builder *b)
{
	struct sb__buf *buf = next(b);

	if (buf)
		sb__put_ellipsis(buf);
}

void sb_builder_ref(sb_builder *b, const sb_ref *ref)
{
	struct sb__buf *buf = next(b);

	if (!buf)
		return;
	if (!ref || !ref->session_id[0]) {
		stick(b, SB_EINVAL, "a ref is NULL or without session id");
		return;
	}
	sb__put_ref(buf, ref, NULL);
	if (sb__gather_ref(&b->gather, ref))
		stick(b, SB_ENOMEM, "out of memory for a ref");
}

void sb_builder_value(sb_builder *b, const sb_value *value)
{
	struct sb__buf *buf = next(b);

	if (!buf)
		return;
	sb__value_encode_at(value, buf, b->depth);
	if (sb__value_each_ref(value, sb__gather_ref, &b->gather) ||
	    sb__value_each_array(value, sb__array_list_add, &b->gather.arrays))
		stick(b, SB_ENOMEM, "out of memory for a ref or an array");
}

/* ── containers ── */

void sb_builder_begin(sb_builder *b, sb_kind kind)
{
	static const uint32_t tags[] = {
		[SB_KIND_LIST] = 1,
		[SB_KIND_DICT] = 1,
		[SB_KIND_TUPLE] = SB__TAG_TUPLE,
		[SB_KIND_SET] = SB__TAG_SET,
		[SB_KIND_FROZENSET] = SB__TAG_FROZENSET,
		[SB_KIND_SLICE] = SB__TAG_SLICE,
		[SB_KIND_RANGE] = SB__TAG_RANGE,
		[SB_KIND_FRACTION] = SB__TAG_FRACTION,
	};
	uint32_t tag = (size_t)kind < sizeof(tags) / sizeof(tags[0]) ? tags[kind] : 0;
	struct sb__buf *buf = next(b);

	if (!buf)
		return;
	if (tag == 0 || b->depth == SB__DEPTH_MAX) {
		stick(b, tag ? SB_ETOODEEP : SB_EINVAL,
		      tag ? "more than 128 containers in each other" : "a kind that is no container");
		return;
	}
	if (tag > 1)
		sb__put_tag(buf, tag);
	b->levels[++b->depth] = (struct level){
		.kind = kind,
		.head = kind == SB_KIND_DICT ? sb__put_map_later(buf) : sb__put_array_later(buf),
	};
}

void sb_builder_end(sb_builder *b)
{
	const struct level *level;
	uint32_t count;

	if (!b || b->error)
		return;
	if (b->depth == 0) {
		stick(b, SB_EINVAL, "an end without a begin");
		return;
	}
	level = &b->levels[b->depth--];
	count = level->count;
	if (level->kind == SB_KIND_DICT) {
		if (count % 2)
			stick(b, SB_EINVAL, "a dict has a key without value");
		count /= 2;
	}
	sb__patch_count(&b->gather.buf, level->head, count);
}

/* ── the end ── */

static int check(sb_builder *b)
{
	int err = b->gather.buf.error;

	if (err && !b->error)
		stick(b, err,
		      err == SB_ETOODEEP ? "more than 128 containers in each other"
		      : err == SB_ENOMEM ? "out of memory"
		                         : "the value has too many bytes");
	if (b->depth > 0)
		stick(b, SB_EINVAL, "a container was begun and not ended");
	if (b->levels[0].count == 0)
		stick(b, SB_EINVAL, "nothing was added");
	return b->error;
}

int sb_builder_finish(sb_builder *b, sb_value **ret_value)
{
	int err;

	if (b == &out_of_memory)
		return sb__fail_memory("a builder");
	if (!b || !ret_value) {
		sb_builder_free(b);
		return sb__fail(SB_EINVAL, "%s is NULL", b ? "ret_value" : "the builder");
	}
	err = check(b);
	if (err) {
		sb__fail(err, "the value could not be built: %s", b->message);
	} else {
		err = sb__gather_finish(&b->gather, ret_value);
		if (err == SB_EPROTOCOL) { /* a Fraction, range or slice of the wrong parts */
			snprintf(b->message, sizeof(b->message), "%s", sb_last_error()->message);
			err = sb__fail(SB_EINVAL, "the value could not be built: %s", b->message);
		}
	}
	sb_builder_free(b);
	return err;
}

void sb_builder_free(sb_builder *b)
{
	if (!b || b == &out_of_memory)
		return;
	sb__gather_drop(&b->gather);
	free(b);
}
