/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions in replies: reads one with its causes and writes it into the thread's error record, the
 * traceback as Python prints it: the innermost cause first, the exception itself last.
 *
 * It is bounded: at most CHAIN_MAX causes are read, and of a text that is too long the front is left out,
 * because the end says what was raised.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "message.h"
#include "utf8.h"

#define CHAIN_MAX     16
#define TEXT_MAX      (16 * 1024 - 1)   /* what the error record keeps of a traceback */
#define WHOLE_MAX     ((size_t)4 << 20) /* while it is put together */
#define MESSAGE_SHOWN 4096              /* bytes of one exception's message in it */

struct text {
	const char *data; /* not NUL-terminated */
	size_t len;
};

struct exception {
	struct text type, message;
	int code;
	bool has_cause;
	struct sb__cursor frames; /* at the array; empty if there is none */
	struct sb__cursor notes;  /* likewise */
	struct sb__cursor cause;
};

static int next_text(struct sb__cursor *cursor, struct text *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR)
		return sb__fail(SB_EPROTOCOL, "an exception's text is no str");
	ret->data = (const char *)item.u.bytes.data;
	ret->len = item.u.bytes.len;
	return 0;
}

static int next_int(struct sb__cursor *cursor, int64_t *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_INT)
		return sb__fail(SB_EPROTOCOL, "a number of an exception is no int");
	*ret = item.u.integer;
	return 0;
}

static int read_code(struct sb__cursor *cursor, int *ret)
{
	int64_t code = 0;
	int err = next_int(cursor, &code);

	if (err)
		return err;
	if (code != SB_EPYTHON && code != SB_EMODULE && code != SB_EATTRIBUTE && code != SB_ECANCELLED)
		return sb__fail(SB_EPROTOCOL, "an exception with code %lld", (long long)code);
	*ret = (int)code;
	return 0;
}

static int read_cause(struct sb__cursor *cursor, struct exception *ret)
{
	ret->cause = *cursor;
	ret->has_cause = cursor->pos < cursor->len && cursor->data[cursor->pos] != 0xf6; /* null */
	return sb__skip(cursor);
}

static int read_field(struct sb__cursor *cursor, int64_t key, struct exception *ret)
{
	switch (key) {
	case SB__EXC_TYPE: return next_text(cursor, &ret->type);
	case SB__EXC_MESSAGE: return next_text(cursor, &ret->message);
	case SB__EXC_FRAMES: ret->frames = *cursor; return sb__skip(cursor);
	case SB__EXC_CAUSE: return read_cause(cursor, ret);
	case SB__EXC_CODE: return read_code(cursor, &ret->code);
	case SB__EXC_NOTES: ret->notes = *cursor; return sb__skip(cursor);
	default: /* of a later version */ return sb__skip(cursor);
	}
}

static int read_exception(struct sb__cursor *cursor, struct exception *ret)
{
	struct sb__item item;
	int64_t key = 0;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_MAP)
		return sb__fail(SB_EPROTOCOL, "an exception is no map");
	*ret = (struct exception){ .type = { "Exception", 9 }, .message = { "", 0 }, .code = SB_EPYTHON };
	for (uint64_t i = 0; i < item.u.count && !err; i++) {
		err = next_int(cursor, &key);
		if (!err)
			err = read_field(cursor, key, ret);
	}
	return err;
}

/* ── the text ── */

/* Appends text; a NUL would end the C string that this becomes, so it is shown as Python would. */
static void put(struct sb__buf *buf, struct text text)
{
	while (text.len > 0) {
		const char *nul = memchr(text.data, 0, text.len);
		size_t n = nul ? (size_t)(nul - text.data) : text.len;

		sb__buf_append(buf, text.data, n);
		if (nul) {
			sb__buf_append(buf, "\\x00", 4);
			n++;
		}
		text.data += n;
		text.len -= n;
	}
}

static void put_string(struct sb__buf *buf, const char *string)
{
	sb__buf_append(buf, string, strlen(string));
}

/* Python leaves the module out where it says nothing. */
static struct text shown_type(struct text type)
{
	static const char *const silent[] = { "builtins.", "__main__." };

	for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++) {
		size_t n = strlen(silent[i]);

		if (type.len > n && memcmp(type.data, silent[i], n) == 0)
			return (struct text){ type.data + n, type.len - n };
	}
	return type;
}

static int put_frame(struct sb__buf *buf, struct sb__cursor *cursor)
{
	struct text file, function;
	struct sb__item item;
	int64_t line = 0;
	char number[32];
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_ARRAY || item.u.count != 3)
		return sb__fail(SB_EPROTOCOL, "a traceback frame is not an array of 3 items");
	if ((err = next_text(cursor, &file)) || (err = next_int(cursor, &line)) ||
	    (err = next_text(cursor, &function)))
		return err;
	snprintf(number, sizeof(number), "\", line %lld, in ", (long long)line);
	put_string(buf, "  File \"");
	put(buf, file);
	put_string(buf, number);
	put(buf, function);
	put_string(buf, "\n");
	return 0;
}

/* A line or more for each, as Python shows them. */
static int put_notes(struct sb__buf *buf, const struct exception *exception)
{
	struct sb__cursor cursor = exception->notes;
	struct sb__item item;
	int err;

	if (!cursor.data)
		return 0;
	err = sb__next(&cursor, &item);
	if (!err && item.type != SB__ITEM_ARRAY)
		err = sb__fail(SB_EPROTOCOL, "an exception's notes are no array");
	for (uint64_t i = 0; !err && i < item.u.count; i++) {
		struct text note;

		err = next_text(&cursor, &note);
		if (!err) {
			put(buf, note);
			put_string(buf, "\n");
		}
	}
	return err;
}

static int put_exception(struct sb__buf *buf, const struct exception *exception)
{
	struct sb__cursor cursor = exception->frames;
	struct text message = exception->message;
	struct sb__item item = { .type = SB__ITEM_ARRAY };
	int err = 0;

	if (cursor.data)
		err = sb__next(&cursor, &item);
	if (!err && item.type != SB__ITEM_ARRAY)
		err = sb__fail(SB_EPROTOCOL, "an exception's frames are no array");
	if (!err && item.u.count > 0)
		put_string(buf, "Traceback (most recent call last):\n");
	for (uint64_t i = 0; !err && i < item.u.count; i++)
		err = put_frame(buf, &cursor);
	put(buf, shown_type(exception->type));
	message.len = sb__utf8_cut(message.data, message.len, MESSAGE_SHOWN);
	if (message.len > 0) {
		put_string(buf, ": ");
		put(buf, message);
	}
	put_string(buf, "\n");
	return err ? err : put_notes(buf, exception);
}

/* Leaves out whole lines at the front, so that what is left fits. */
static const char *fitting(struct sb__buf *buf)
{
	static const char note[] = "[earlier lines left out]\n";
	size_t room = TEXT_MAX - (sizeof(note) - 1), start;
	char *text = (char *)buf->data;
	char *line;

	if (buf->len - 1 <= TEXT_MAX) /* without the NUL */
		return text;
	start = buf->len - 1 - room;
	line = memchr(text + start, '\n', buf->len - 1 - start);
	start = line && line[1] ? (size_t)(line + 1 - text) : start;
	while (((uint8_t)text[start] & 0xc0) == 0x80) /* in one over-long line */
		start++;
	start -= sizeof(note) - 1;
	memcpy(text + start, note, sizeof(note) - 1);
	return text + start;
}

/* A text as a C string, of at most size - 1 bytes. */
static const char *string(struct text text, char *to, size_t size)
{
	struct sb__buf buf;
	uint8_t memory[256];
	size_t n;

	text.len = sb__utf8_cut(text.data, text.len, size - 1);
	sb__buf_init(&buf, memory, sizeof(memory));
	put(&buf, text);
	n = sb__utf8_cut((const char *)buf.data, buf.len, size - 1);
	memcpy(to, buf.data, n);
	to[n] = '\0';
	sb__buf_free(&buf);
	return to;
}

static int fill_record(const struct exception *exception, const char *traceback)
{
	char type[256], message[2048];
	/* A name of the caller's own was wrong: say what to do. Other exceptions speak for themselves. */
	const char *advice = exception->code == SB_EPYTHON ? "" : sb_error_advice(exception->code);

	string(exception->type, type, sizeof(type));
	string(exception->message, message, sizeof(message));
	sb__fail(exception->code, "%s%s%s%s%s", type, message[0] ? ": " : "", message, advice[0] ? "; " : "",
	         advice);
	sb__fail_set_python(type, message, traceback);
	return exception->code;
}

int sb__exception_decode(struct sb__cursor *cursor)
{
	struct exception chain[CHAIN_MAX];
	struct sb__buf buf;
	size_t count = 0;
	int err;

	do {
		struct sb__cursor cause = count ? chain[count - 1].cause : *cursor;

		err = read_exception(count ? &cause : cursor, &chain[count]);
		if (err)
			return err;
		count++;
	} while (chain[count - 1].has_cause && count < CHAIN_MAX);

	sb__buf_init(&buf, NULL, 0);
	buf.limit = WHOLE_MAX;
	for (size_t i = count; i-- > 0 && !err;) {
		err = put_exception(&buf, &chain[i]);
		if (i > 0)
			put_string(
				&buf,
				"\nThe above exception was the direct cause of the following exception:\n\n");
	}
	sb__buf_append(&buf, "", 1);
	if (!err) /* without memory, or beyond all measure: all but the traceback */
		err = fill_record(&chain[0], buf.error ? NULL : fitting(&buf));
	sb__buf_free(&buf);
	return err;
}
