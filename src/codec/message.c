/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and replies. This file knows what a message consists of; it does not know how it travels, nor
 * what a verb does. The arguments and results inside are left to value.c and to the interpreter.
 *
 * Locks: none. Crash story: a message is private bytes, or bytes of a lane that nobody reads before the
 * lane is published.
 */
#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "utf8.h"

/* ── requests ── */

/* What was packed goes in as it is; a failed packing spoils the request. */
void sb__arguments_encode(struct sb__buf *buf, const sb_args *args)
{
	if (!args) {
		sb__put_array(buf, 0);
		sb__put_map(buf, 0);
		return;
	}
	if (args->error && !buf->error)
		buf->error = args->error;
	sb__put_array(buf, args->positional_count);
	sb__buf_append(buf, args->positional.data, args->positional.len);
	sb__put_map(buf, args->keyword_count);
	sb__buf_append(buf, args->keywords.data, args->keywords.len);
}

static void encode_in_parts(struct sb__buf *buf, const sb_request *request)
{
	sb__put_array(buf, 6);
	sb__put_uint(buf, (uint64_t)request->verb);
	sb__put_uint(buf, request->flags);
	if (request->target && request->verb != SB_VERB_BATCH) /* there it only says which session is meant */
		sb__put_ref(buf, request->target, NULL);
	else
		sb__put_null(buf);
	if (request->name)
		sb__put_str(buf, request->name, strlen(request->name));
	else
		sb__put_null(buf);
	sb__arguments_encode(buf, request->args);
}

static uint8_t *write_bytes(uint8_t *to, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(to, bytes, len);
	return to + len;
}

/* The same bytes, where they fit: nearly always. */
void sb__request_encode(struct sb__buf *buf, const sb_request *request)
{
	const sb_args *args = request->args;
	size_t name_len = request->name ? strlen(request->name) : 0;
	size_t args_len = args ? args->positional.len + args->keywords.len : 0;
	uint8_t *to = buf->data + buf->len;

	if ((args && args->error) ||
	    !sb__buf_fits(buf, 6 * SB__HEAD_MAX + SB__REF_MAX + name_len + args_len)) {
		encode_in_parts(buf, request);
		return;
	}
	to += sb__write_head(to, SB__MAJOR_ARRAY, 6);
	to += sb__write_head(to, SB__MAJOR_UINT, (uint64_t)request->verb);
	to += sb__write_head(to, SB__MAJOR_UINT, request->flags);
	if (request->target && request->verb != SB_VERB_BATCH)
		to += sb__write_ref(to, request->target, false);
	else
		*to++ = SB__NULL_BYTE;
	if (request->name)
		to = write_bytes(to + sb__write_head(to, SB__MAJOR_STR, name_len), request->name, name_len);
	else
		*to++ = SB__NULL_BYTE;
	to += sb__write_head(to, SB__MAJOR_ARRAY, args ? args->positional_count : 0);
	if (args)
		to = write_bytes(to, args->positional.data, args->positional.len);
	to += sb__write_head(to, SB__MAJOR_MAP, args ? args->keyword_count : 0);
	if (args)
		to = write_bytes(to, args->keywords.data, args->keywords.len);
	buf->len = (size_t)(to - buf->data);
}

/* Reads the head of an array of exactly count items. */
static int next_array(struct sb__cursor *cursor, uint64_t count, const char *what)
{
	struct sb__item item;
	int err;

	if (count < 24 && sb__take_byte(cursor, (uint8_t)(0x80 | count))) /* a short array's head */
		return 0;
	err = sb__next(cursor, &item);
	if (err)
		return err;
	if (item.type != SB__ITEM_ARRAY || item.u.count != count)
		return sb__fail(SB_EPROTOCOL, "%s is not an array of %llu items", what,
		                (unsigned long long)count);
	return 0;
}

static int next_u32(struct sb__cursor *cursor, const char *what, uint32_t *ret)
{
	struct sb__item item;
	int err;

	if (cursor->pos < cursor->len &&
	    cursor->data[cursor->pos] < 24) { /* a small number is its own byte */
		*ret = cursor->data[cursor->pos++];
		return 0;
	}
	err = sb__next(cursor, &item);
	if (err)
		return err;
	if (item.type != SB__ITEM_INT || item.u.integer < 0 || item.u.integer > UINT32_MAX)
		return sb__fail(SB_EPROTOCOL, "a request's %s is not a 32-bit number", what);
	*ret = (uint32_t)item.u.integer;
	return 0;
}

static int next_target(struct sb__cursor *cursor, struct sb__request_head *ret)
{
	struct sb__item item;
	int err;

	if (sb__take_tag(cursor, SB__TAG_REF)) {
		ret->has_target = true;
		return sb__next_ref_fields(cursor, &ret->target);
	}
	if (sb__take_byte(cursor, SB__NULL_BYTE))
		return 0;
	err = sb__next(cursor, &item);
	if (err)
		return err;
	if (item.type == SB__ITEM_TAG && item.u.count == SB__TAG_ITEM_RESULT) {
		ret->has_target = ret->target_is_item = true;
		return next_u32(cursor, "target", &ret->target.slot);
	}
	if (item.type != SB__ITEM_TAG || item.u.count != SB__TAG_REF)
		return sb__fail(SB_EPROTOCOL, "a request's target is neither a ref nor null");
	ret->has_target = true;
	return sb__next_ref_fields(cursor, &ret->target);
}

static int next_name(struct sb__cursor *cursor, struct sb__request_head *ret)
{
	struct sb__item item;
	int err;

	if (sb__take_byte(cursor, SB__NULL_BYTE))
		return 0;
	err = sb__next(cursor, &item);
	if (err)
		return err;
	if (item.type != SB__ITEM_STR)
		return sb__fail(SB_EPROTOCOL, "a request's name is neither a str nor null");
	ret->name = (const char *)item.u.bytes.data;
	ret->name_len = item.u.bytes.len;
	return 0;
}

int sb__request_decode(struct sb__cursor *cursor, struct sb__request_head *ret)
{
	int err = next_array(cursor, 6, "a request");

	/* Not all of it: the target's texts are large. */
	ret->has_target = ret->target_is_item = false;
	ret->target.slot = 0;
	ret->name = NULL;
	ret->name_len = 0;
	if (err || (err = next_u32(cursor, "verb", &ret->verb)) ||
	    (err = next_u32(cursor, "flags", &ret->flags)) || (err = next_target(cursor, ret)))
		return err;
	return next_name(cursor, ret);
}

/* ── replies ── */

static void put_verdict(struct sb__buf *buf, unsigned kind, int code, const char *message)
{
	const char *text = message ? message : "";

	sb__buf_truncate(buf, 0);
	buf->error = 0;
	sb__put_array(buf, 3);
	sb__put_uint(buf, kind);
	sb__put_int(buf, code);
	sb__put_str(buf, text, sb__utf8_prefix(text, strlen(text)));
}

void sb__put_reply(struct sb__buf *buf, unsigned kind)
{
	const uint8_t head[2] = { SB__MAJOR_ARRAY | 2, (uint8_t)kind };

	sb__buf_append(buf, head, sizeof(head));
}

void sb__reply_refuse(struct sb__buf *buf, int code, const char *message)
{
	put_verdict(buf, SB__REPLY_REFUSED, code, message);
}

void sb__reply_fail(struct sb__buf *buf, int code, const char *message)
{
	put_verdict(buf, SB__REPLY_FAILED, code, message);
}

/* What a decoding error of ours says of the call: it was answered, so it may have run. */
static int unreadable(int err, const char *session_id)
{
	sb__fail_set_outcome(SB_OUTCOME_UNKNOWN);
	sb__fail_set_sessions(session_id, NULL);
	return err;
}

static int decode_value(struct sb__cursor *cursor, const char *session_id, sb_value **ret_value)
{
	sb_value *value = NULL;
	int err = ret_value ? sb__value_decode(cursor, session_id, &value) : sb__skip(cursor);

	if (!err && cursor->pos != cursor->len)
		err = sb__fail(SB_EPROTOCOL, "%zu bytes follow the reply", cursor->len - cursor->pos);
	if (err) {
		sb_value_free(value);
		return unreadable(err, session_id);
	}
	if (ret_value)
		*ret_value = value;
	return 0;
}

static int decode_exception(struct sb__cursor *cursor, const char *session_id)
{
	int code = sb__exception_decode(cursor);

	if (code == SB_EPROTOCOL || code == SB_ENOMEM)
		return unreadable(code, session_id);
	sb__fail_set_outcome(SB_OUTCOME_EXCEPTION);
	sb__fail_set_sessions(session_id, NULL);
	return code;
}

/* Refused or failed: a code and a message. */
static int decode_verdict(struct sb__cursor *cursor, const char *session_id, int outcome)
{
	struct sb__item code, message;
	int err = sb__next(cursor, &code);

	if (!err)
		err = sb__next(cursor, &message);
	if (err)
		return unreadable(err, session_id);
	if (code.type != SB__ITEM_INT || code.u.integer >= 0 || code.u.integer < INT32_MIN ||
	    strcmp(sb_error_name((int)code.u.integer), "SB_E?") == 0 || message.type != SB__ITEM_STR)
		return unreadable(sb__fail(SB_EPROTOCOL, "a reply without known code and message"),
		                  session_id);
	err = (int)code.u.integer;
	if (message.u.bytes.len > 0)
		sb__fail(err, "%.*s",
		         (int)sb__utf8_cut((const char *)message.u.bytes.data, message.u.bytes.len, 4096),
		         (const char *)message.u.bytes.data);
	else
		sb__fail(err, "%s; %s", sb_strerror(err), sb_error_advice(err));
	sb__fail_set_outcome(outcome);
	sb__fail_set_sessions(session_id, NULL);
	return err;
}

int sb__reply_decode(const uint8_t *data, size_t len, const char *session_id, sb_value **ret_value)
{
	return sb__reply_decode_shared(data, len, session_id, NULL, ret_value);
}

static int decode_reply(struct sb__cursor *cursor, const char *session_id, sb_value **ret_value)
{
	struct sb__item array, kind;
	int err = sb__next(cursor, &array);

	if (!err)
		err = sb__next(cursor, &kind);
	if (err)
		return unreadable(err, session_id);
	if (array.type == SB__ITEM_ARRAY && kind.type == SB__ITEM_INT) {
		if (kind.u.integer == SB__REPLY_VALUE && array.u.count == 2)
			return decode_value(cursor, session_id, ret_value);
		if (kind.u.integer == SB__REPLY_EXCEPTION && array.u.count == 2)
			return decode_exception(cursor, session_id);
		if (kind.u.integer == SB__REPLY_REFUSED && array.u.count == 3)
			return decode_verdict(cursor, session_id, SB_OUTCOME_REFUSED);
		if (kind.u.integer == SB__REPLY_FAILED && array.u.count == 3)
			return decode_verdict(cursor, session_id, SB_OUTCOME_EXCEPTION);
	}
	return unreadable(sb__fail(SB_EPROTOCOL, "the reply is of no kind that is known here"), session_id);
}

int sb__reply_decode_shared(const uint8_t *data, size_t len, const char *session_id,
                            const struct sb__blocks *blocks, sb_value **ret_value)
{
	struct sb__cursor cursor = { .data = data, .len = len, .blocks = blocks };

	/* A value, as nearly always. */
	if (sb__take_byte(&cursor, SB__MAJOR_ARRAY | 2) && sb__take_byte(&cursor, SB__REPLY_VALUE))
		return decode_value(&cursor, session_id, ret_value);
	cursor.pos = 0;
	return decode_reply(&cursor, session_id, ret_value);
}

int sb__item_reply_decode(const sb_value *reply, const char *session_id, sb_value **ret_value)
{
	bool shared = sb_value_kind(reply) == SB_KIND_LIST;
	size_t len = 0, count = shared ? sb_value_len(reply) : 0;
	const void *bytes = sb_value_bytes(shared ? sb_value_at(reply, 0) : reply, &len);
	struct sb__cursor cursor = { .data = bytes, .len = len };
	sb_array **arrays = NULL;
	int err;

	if (!bytes)
		return unreadable(sb__fail(SB_EPROTOCOL, "an item's reply is no bytes"), session_id);
	if (count > 1)
		arrays = malloc((count - 1) * sizeof(*arrays));
	if (count > 1 && !arrays)
		return unreadable(sb__fail_memory("an item's arrays"), session_id);
	for (size_t i = 1; i < count; i++) {
		arrays[i - 1] = sb_value_array(sb_value_at(reply, i));
		cursor.own_count += arrays[i - 1] != NULL;
	}
	cursor.own = arrays;
	err = cursor.own_count + 1 < count
	              ? unreadable(sb__fail(SB_EPROTOCOL, "an item's array is none"), session_id)
	              : decode_reply(&cursor, session_id, ret_value);
	free(arrays);
	return err;
}

/* All arrays that are in a message, wherever: a walk over the heads of items passes each. */
static size_t put_arrays_of(struct sb__buf *buf, const struct sb__buf *message)
{
	struct sb__cursor cursor = { .data = message->data, .len = message->len };
	struct sb__array_item array;
	struct sb__item item;
	size_t count = 0;

	while (cursor.pos < cursor.len && !sb__next(&cursor, &item)) {
		if (item.type != SB__ITEM_TAG || item.u.count != SB__TAG_ARRAY)
			continue;
		if (sb__next_array(&cursor, &array))
			break; /* of our own making: it is none */
		sb__put_array_item(buf, &array);
		count++;
	}
	return count;
}

void sb__put_item_reply(struct sb__buf *buf, const struct sb__buf *reply, bool shared)
{
	size_t head = shared ? sb__put_array_later(buf) : 0;

	sb__put_bytes(buf, reply->data, reply->len);
	if (shared)
		sb__patch_count(buf, head, (uint32_t)(1 + put_arrays_of(buf, reply)));
	if (reply->error && !buf->error)
		buf->error = reply->error;
}

unsigned sb__reply_kind(const struct sb__buf *reply)
{
	if (reply->error || reply->len < 2 || reply->data[1] > SB__REPLY_FAILED)
		return SB__REPLY_FAILED;
	return reply->data[1];
}
