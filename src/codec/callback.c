/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C functions as arguments, the questions that Python's calls of them are, and the answers. It runs no function.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "callback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "utf8.h"

#define TEXT_MAX 480 /* bytes of a traceback in an answer: what Python's notes come back with */

/* ── functions as arguments ── */

void sb__put_callback(struct sb__buf *buf, uint32_t function)
{
	sb__put_tag(buf, SB__TAG_CALLBACK);
	sb__put_uint(buf, function);
}

int sb__next_callback(struct sb__cursor *cursor, uint32_t *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_INT || item.u.integer < 0 || item.u.integer >= SB_CALLBACKS_MAX)
		return sb__fail(SB_EPROTOCOL, "a function's place is no number from 0 to %d",
		                SB_CALLBACKS_MAX - 1);
	*ret = (uint32_t)item.u.integer;
	return 0;
}

int sb__args_callback(struct sb_args *args, sb_callback_fn fn, void *arg)
{
	size_t n = args->callback_count;
	struct sb__callback *callbacks;

	if (n == SB_CALLBACKS_MAX)
		return SB_ETOOBIG;
	if ((n & (n - 1)) == 0) { /* full: it holds a power of two */
		callbacks = realloc(args->callbacks, (n ? 2 * n : 1) * sizeof(*callbacks));
		if (!callbacks)
			return SB_ENOMEM;
		args->callbacks = callbacks;
	}
	args->callbacks[args->callback_count++] = (struct sb__callback){ fn, arg };
	return 0;
}

int sb_callback_raise(const char *python_type, const char *format, ...)
{
	char type[256], message[2048];
	va_list ap;

	if (!python_type || !python_type[0] || !format)
		return sb__fail(SB_EINVAL, "sb_callback_raise: type or format is NULL or empty");
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	snprintf(type, sizeof(type), "%s%s", strchr(python_type, '.') ? "" : "builtins.", python_type);
	sb__fail(SB_EPYTHON, "%s: %s", type, message);
	sb__fail_set_python(type, message, NULL);
	return SB_EPYTHON;
}

/* ── questions ── */

void sb__put_question(struct sb__buf *buf, uint64_t call, uint32_t function)
{
	sb__put_array(buf, 4);
	sb__put_uint(buf, call);
	sb__put_uint(buf, function);
}

static int read_names(struct sb__cursor *cursor, struct sb__question *ret)
{
	struct sb__item head, call;
	int err = sb__next(cursor, &head);

	if (!err)
		err = sb__next(cursor, &call);
	if (err)
		return err;
	if (head.type != SB__ITEM_ARRAY || head.u.count != 4 || call.type != SB__ITEM_INT ||
	    call.u.integer < 0)
		return sb__fail(SB_EPROTOCOL, "a question is no array of 4 that begins with a number");
	ret->call = (uint64_t)call.u.integer;
	return sb__next_callback(cursor, &ret->function);
}

int sb__question_decode(const uint8_t *data, size_t len, const char *session_id,
                        const struct sb__blocks *blocks, struct sb__question *ret)
{
	struct sb__cursor cursor = { .data = data, .len = len, .blocks = blocks };
	int err;

	*ret = (struct sb__question){ .args = NULL };
	err = read_names(&cursor, ret);
	if (!err)
		err = sb__value_decode(&cursor, session_id, &ret->args);
	if (!err && cursor.pos < len && data[cursor.pos] == 0xf6) /* null */
		cursor.pos++;
	else if (!err)
		err = sb__value_decode(&cursor, session_id, &ret->kwargs);
	if (!err && (cursor.pos != len || sb_value_kind(ret->args) != SB_KIND_TUPLE ||
	             (ret->kwargs && sb_value_kind(ret->kwargs) != SB_KIND_DICT)))
		err = sb__fail(SB_EPROTOCOL, "a question's arguments are no tuple and dict");
	if (err)
		sb__question_drop(ret);
	return err;
}

void sb__question_drop(struct sb__question *question)
{
	sb_value_free(question->args);
	sb_value_free(question->kwargs);
	question->args = question->kwargs = NULL;
}

/* ── answers ── */

static void put_text(struct sb__buf *buf, const char *text)
{
	if (text && text[0])
		sb__put_str(buf, text, sb__utf8_prefix(text, strlen(text)));
	else
		sb__put_null(buf);
}

/* The end of a traceback, from a line's beginning on. */
static const char *tail(const char *text)
{
	size_t len = strlen(text);
	const char *line;

	if (len <= TEXT_MAX)
		return text;
	line = strchr(text + len - TEXT_MAX, '\n');
	return line && line[1] ? line + 1 : "";
}

void sb__answer_error(struct sb__buf *buf, int code)
{
	const sb_error *record = sb_last_error();
	bool known = record->code == code, python = known && record->python_type[0];
	char message[128];

	snprintf(message, sizeof(message),
	         code < 0 ? "a C function failed: %s (%s)"
	                  : "a C function returned neither 0 nor an error's code",
	         sb_strerror(code), sb_error_name(code));
	sb__buf_truncate(buf, 0);
	buf->error = 0;
	sb__put_array(buf, 4);
	sb__put_uint(buf, SB__ANSWER_ERROR);
	put_text(buf, python ? record->python_type : NULL);
	if (python)
		sb__put_str(buf, record->python_message,
		            sb__utf8_prefix(record->python_message, strlen(record->python_message)));
	else
		put_text(buf, known && record->message[0] ? record->message : message);
	put_text(buf, python ? tail(record->python_traceback) : NULL);
}

/* A str; or null, which gives NULL. */
static int next_text(struct sb__cursor *cursor, const char **ret, size_t *ret_len)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR && item.type != SB__ITEM_NULL)
		return sb__fail(SB_EPROTOCOL, "an answer's text is no str");
	*ret = item.type == SB__ITEM_STR ? (const char *)item.u.bytes.data : NULL;
	*ret_len = item.type == SB__ITEM_STR ? item.u.bytes.len : 0;
	return 0;
}

int sb__next_answer(struct sb__cursor *cursor, struct sb__answer *ret)
{
	struct sb__item head, kind;
	int err = sb__next(cursor, &head);

	*ret = (struct sb__answer){ .failed = false };
	if (!err)
		err = sb__next(cursor, &kind);
	if (err)
		return err;
	if (head.type == SB__ITEM_ARRAY && kind.type == SB__ITEM_INT) {
		if (kind.u.integer == SB__ANSWER_VALUE && head.u.count == 2)
			return 0;
		ret->failed = true;
		if (kind.u.integer == SB__ANSWER_ERROR && head.u.count == 4) {
			err = next_text(cursor, &ret->type, &ret->type_len);
			if (!err)
				err = next_text(cursor, &ret->message, &ret->message_len);
			return err ? err : next_text(cursor, &ret->text, &ret->text_len);
		}
	}
	return sb__fail(SB_EPROTOCOL, "an answer is neither a value nor an error");
}
