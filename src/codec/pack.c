/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formats: argument lists and values are encoded while the format is read, so that a call copies each
 * argument once, into the bytes it will send.
 *
 * What goes wrong is kept in the sb_args (error and message) and reported by the call that consumes it.
 *
 * Locks: none; an sb_args belongs to one thread. Crash story: nothing is shared.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "fail.h"
#include "gather.h"
#include "scalar.h"
#include "utf8.h"
#include "value_impl.h"

/* What sb_args() returns when there is no memory for another: never freed, never changed. */
static const struct sb_args out_of_memory = { .error = SB_ENOMEM,
	                                      .message = "out of memory for the arguments" };

struct packer {
	const char *function; /* for messages */
	const char *format, *at;
	va_list ap;
	struct sb__buf *out;
	sb__ref_fn on_ref; /* told of every ref that is packed */
	void *arg;
	struct sb__array_list *arrays; /* all that are packed */
	int error;
	char message[sizeof(((struct sb_args *)0)->message)];
};

/* Keeps the first error. Position: of the code in question. */
static void fail_at(struct packer *p, const char *at, int code, const char *fmt, ...) SB_PRINTF_LIKE(4, 5);
static void fail_at(struct packer *p, const char *at, int code, const char *fmt, ...)
{
	size_t len = strlen(p->format), shown = sb__utf8_cut(p->format, len, 40);
	char what[80];
	va_list ap;

	if (p->error)
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	p->error = code;
	snprintf(p->message, sizeof(p->message), "%s(\"%.*s%s\"): %s at character %zu", p->function,
	         (int)shown, p->format, shown < len ? "…" : "", what, (size_t)(at - p->format) + 1);
}

static void skip_spaces(struct packer *p)
{
	while (*p->at == ' ' || *p->at == ',' || *p->at == ':')
		p->at++;
}

static void pack_text(struct packer *p, const char *at, const char *text, size_t len)
{
	size_t good = sb__utf8_prefix(text, len);

	if (good < len)
		fail_at(p, at, SB_EINVAL, "byte %zu of the str is not UTF-8, for '%c'", good, *at);
	else
		sb__put_str(p->out, text, len);
}

/* A str or bytes of given length, or a list of values: NULL is fine only where there is nothing. */
static bool check_pointer(struct packer *p, const char *at, const void *pointer, size_t len)
{
	if (!pointer && len > 0)
		fail_at(p, at, SB_EINVAL, "a NULL pointer with length %zu for '%c'", len, *at);
	return !p->error;
}

static void pack_ref(struct packer *p, const char *at, const sb_ref *ref)
{
	int err;

	if (!ref || !ref->session_id[0] || !memchr(ref->session_id, '\0', sizeof(ref->session_id))) {
		fail_at(p, at, SB_EINVAL, "%s for 'r'", ref ? "a ref without session id" : "a NULL ref");
		return;
	}
	sb__put_ref(p->out, ref, NULL);
	err = p->on_ref(p->arg, ref);
	if (err)
		fail_at(p, at, err, "out of memory for a ref");
}

static void pack_array(struct packer *p, const char *at, sb_array *array)
{
	if (!array) {
		sb__put_null(p->out);
		return;
	}
	sb__array_encode(array, p->out);
	if (sb__array_list_add(p->arrays, array))
		fail_at(p, at, SB_ENOMEM, "out of memory for an array");
}

static void pack_tree(struct packer *p, const char *at, const sb_value *value, unsigned depth)
{
	int err;

	sb__value_encode_at(value, p->out, depth);
	err = sb__value_each_ref(value, p->on_ref, p->arg);
	if (!err)
		err = sb__value_each_array(value, sb__array_list_add, p->arrays);
	if (err)
		fail_at(p, at, err, "out of memory for a ref or an array");
}

static uint32_t pack_star(struct packer *p, const char *at, unsigned depth)
{
	const sb_value *const *values = va_arg(p->ap, const sb_value *const *);
	size_t count = va_arg(p->ap, size_t);

	if (count > UINT32_MAX)
		fail_at(p, at, SB_ETOOBIG, "%zu values for '*'", count);
	if (!check_pointer(p, at, values, count))
		return 0;
	for (size_t i = 0; i < count && !p->error && !p->out->error; i++)
		pack_tree(p, at, values[i], depth);
	return (uint32_t)count;
}

static uint32_t pack_items(struct packer *p, char closer, unsigned depth);

static void pack_container(struct packer *p, const char *at, unsigned depth)
{
	char closer = *at == '[' ? ']' : *at == '(' ? ')' : *at == '<' ? '>' : '}';
	size_t head;
	uint32_t count;

	if (depth >= SB__DEPTH_MAX) {
		fail_at(p, at, SB_ETOODEEP, "more than %u containers in each other", SB__DEPTH_MAX);
		return;
	}
	if (*at == '(' || *at == '<')
		sb__put_tag(p->out, *at == '(' ? SB__TAG_TUPLE : SB__TAG_SET);
	head = *at == '{' ? sb__put_map_later(p->out) : sb__put_array_later(p->out);
	count = pack_items(p, closer, depth + 1);
	if (p->error)
		return;
	if (*p->at != closer) {
		fail_at(p, at, SB_EINVAL, "no '%c' for the '%c'", closer, *at);
		return;
	}
	p->at++;
	if (*at == '{' && count % 2)
		fail_at(p, at, SB_EINVAL, "a key without value in the '{'");
	sb__patch_count(p->out, head, *at == '{' ? count / 2 : count);
}

static void pack_when(struct packer *p, const char *at, sb_datetime *when)
{
	sb_datetime fields;
	const char *fault;

	if (!when) {
		sb__put_null(p->out);
		return;
	}
	fields = *when;
	if (fields.zone && fields.zone_len == 0)
		fields.zone_len = strlen(fields.zone);
	fault = sb__when_fault(SB_KIND_DATETIME, &fields);
	if (fault)
		fail_at(p, at, SB_EINVAL, "%s for '%c'", fault, *at);
	else
		sb__put_when(p->out, SB_KIND_DATETIME, &fields);
}

/* Numbers written as text: NULL gives None. */
static void pack_digits(struct packer *p, const char *at, const char *text)
{
	if (!text)
		sb__put_null(p->out);
	else if (!(*at == 'D' ? sb__put_decimal : sb__put_int_text)(p->out, text, strlen(text)))
		fail_at(p, at, SB_EINVAL, "text that is no %s for '%c'", *at == 'D' ? "decimal" : "int", *at);
}

static void pack_tagged(struct packer *p, const char *at, const void *bytes, size_t len)
{
	if (!check_pointer(p, at, bytes, len))
		return;
	if (*at != 'w')
		sb__put_tagged_bytes(p->out, *at == 'U' ? SB__TAG_UUID : SB__TAG_BYTEARRAY, bytes, len);
	else if (!sb__put_wtf8(p->out, bytes, len))
		fail_at(p, at, SB_EINVAL, "bytes that are not WTF-8 for 'w'");
}

/* The codes of the rarer kinds. False if it is none. */
static bool pack_other(struct packer *p, const char *at)
{
	const void *pointer;
	double real;
	int64_t seconds;
	uint64_t number;
	uint8_t bytes[8];
	int microseconds;

	switch (*at) {
	case 'L':
		number = va_arg(p->ap, uint64_t);
		for (size_t i = 0; i < 8; i++)
			bytes[i] = (uint8_t)(number >> (56 - 8 * i));
		sb__put_bigint(p->out, false, bytes, sizeof(bytes));
		return true;
	case 'c':
		real = va_arg(p->ap, double);
		sb__put_complex(p->out, real, va_arg(p->ap, double));
		return true;
	case 't': pack_when(p, at, va_arg(p->ap, sb_datetime *)); return true;
	case 'T':
		seconds = va_arg(p->ap, int64_t);
		microseconds = va_arg(p->ap, int);
		if (!sb__timedelta_fits(seconds, microseconds))
			fail_at(p, at, SB_EINVAL, "no timedelta of Python's for 'T'");
		sb__put_timedelta(p->out, seconds, microseconds);
		return true;
	case 'D':
	case 'z': pack_digits(p, at, va_arg(p->ap, const char *)); return true;
	case 'U': pack_tagged(p, at, va_arg(p->ap, const uint8_t *), 16); return true;
	case 'w':
	case 'Y':
		pointer = va_arg(p->ap, const void *);
		pack_tagged(p, at, pointer, va_arg(p->ap, size_t));
		return true;
	case '.': sb__put_ellipsis(p->out); return true;
	default: return false;
	}
}

static void pack_callback(struct packer *p, const char *at, sb_callback_fn fn, void *arg)
{
	struct sb_args *args = p->on_ref == sb__args_note ? p->arg : NULL;
	int err;

	if (!fn) {
		sb__put_null(p->out);
		return;
	}
	if (!args) {
		fail_at(p, at, SB_EINVAL, "a function, which only sb_args() takes,");
		return;
	}
	sb__put_callback(p->out, (uint32_t)args->callback_count);
	err = sb__args_callback(args, fn, arg);
	if (err)
		fail_at(p, at, err,
		        err == SB_ENOMEM ? "out of memory for a function" : "more than %u functions",
		        SB_CALLBACKS_MAX);
}

/* Reads one code and packs its argument. Returns how many values that made. */
static uint32_t pack_one(struct packer *p, unsigned depth)
{
	const char *at = p->at++;
	sb_callback_fn fn;
	const void *pointer;
	size_t len;

	switch (*at) {
	case 'n': sb__put_null(p->out); return 1;
	case 'b': sb__put_bool(p->out, va_arg(p->ap, int) != 0); return 1;
	case 'i': sb__put_int(p->out, va_arg(p->ap, int)); return 1;
	case 'l': sb__put_int(p->out, va_arg(p->ap, int64_t)); return 1;
	case 'd': sb__put_float(p->out, va_arg(p->ap, double)); return 1;
	case 's':
		pointer = va_arg(p->ap, const char *);
		if (pointer)
			pack_text(p, at, pointer, strlen(pointer));
		else
			sb__put_null(p->out);
		return 1;
	case 'u':
	case 'y':
		pointer = va_arg(p->ap, const void *);
		len = va_arg(p->ap, size_t);
		if (!check_pointer(p, at, pointer, len))
			return 1;
		if (*at == 'u')
			pack_text(p, at, pointer, len);
		else
			sb__put_bytes(p->out, pointer, len);
		return 1;
	case 'o': pack_tree(p, at, va_arg(p->ap, const sb_value *), depth); return 1;
	case 'r': pack_ref(p, at, va_arg(p->ap, const sb_ref *)); return 1;
	case 'a': pack_array(p, at, va_arg(p->ap, sb_array *)); return 1;
	case 'k':
		fn = va_arg(p->ap, sb_callback_fn);
		pack_callback(p, at, fn, va_arg(p->ap, void *));
		return 1;
	case '*': return pack_star(p, at, depth);
	case '[':
	case '(':
	case '<':
	case '{': pack_container(p, at, depth); return 1;
	default:
		if (pack_other(p, at))
			return 1;
		p->at = at;
		if (*at == '=')
			fail_at(p, at, SB_EINVAL, "'=' without a name before it");
		else if (*at > ' ' && *at < 0x7f)
			fail_at(p, at, SB_EINVAL, "unknown code '%c'", *at);
		else
			fail_at(p, at, SB_EINVAL, "byte 0x%02x, which is no code,", (unsigned char)*at);
		return 0;
	}
}

/* Packs values up to closer, or the format's end. Returns how many. */
static uint32_t pack_items(struct packer *p, char closer, unsigned depth)
{
	uint32_t count = 0;

	skip_spaces(p);
	while (*p->at && *p->at != closer && !p->error) {
		uint32_t more = pack_one(p, depth);

		if (more > UINT32_MAX - count) {
			fail_at(p, p->at, SB_ETOOBIG, "more than %u values", UINT32_MAX);
			break;
		}
		count += more;
		skip_spaces(p);
	}
	return count;
}

/* What the buffer ran into becomes the packer's error. */
static void check_buffer(struct packer *p, const struct sb__buf *buf)
{
	if (buf->error == SB_ENOMEM)
		fail_at(p, p->at, SB_ENOMEM, "out of memory");
	else if (buf->error == SB_ETOODEEP)
		fail_at(p, p->at, SB_ETOODEEP, "more than %u containers in each other", SB__DEPTH_MAX);
	else if (buf->error)
		fail_at(p, p->at, SB_ETOOBIG, "more than %zu bytes", buf->limit);
}

/* ── argument lists ── */

int sb__args_note(void *arg, const sb_ref *ref)
{
	struct sb_args *args = arg;
	struct sb__arg_ref *refs;
	uint64_t incarnation = sb__is_item_ref(ref) ? ref->slot : ref->incarnation;

	for (size_t i = 0; i < args->ref_count; i++)
		if (args->refs[i].incarnation == incarnation &&
		    strcmp(args->refs[i].session_id, ref->session_id) == 0)
			return 0;
	refs = realloc(args->refs, (args->ref_count + 1) * sizeof(*refs));
	if (!refs)
		return SB_ENOMEM;
	args->refs = refs;
	refs += args->ref_count++;
	refs->incarnation = incarnation;
	memcpy(refs->session_id, ref->session_id, sizeof(refs->session_id)); /* pack_ref() saw its NUL */
	return 0;
}

static bool name_byte(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80 ||
	       (!first && c >= '0' && c <= '9');
}

/* Length of the name of "name=" at text; 0 if there is none. */
static size_t keyword_length(const char *text)
{
	size_t n = 0;

	while (name_byte(text[n], n == 0))
		n++;
	return n > 0 && text[n] == '=' ? n : 0;
}

/* Is there such a keyword already? The bytes are our own, so they can be read. */
static bool has_keyword(const struct sb_args *args, const char *name, size_t len)
{
	struct sb__cursor cursor = { .data = args->keywords.data, .len = args->keywords.len };
	struct sb__item item;

	for (uint32_t i = 0; i < args->keyword_count; i++) {
		if (sb__next(&cursor, &item))
			return false;
		if (item.u.bytes.len == len && memcmp(item.u.bytes.data, name, len) == 0)
			return true;
		if (sb__skip(&cursor))
			return false;
	}
	return false;
}

/* Appends the name of a keyword, whose value the caller appends next. */
static void put_keyword(struct packer *p, struct sb_args *args, const char *name, size_t len)
{
	int shown = (int)sb__utf8_cut(name, len, 40);

	if (sb__utf8_prefix(name, len) < len)
		fail_at(p, p->at, SB_EINVAL, "a keyword that is not UTF-8");
	else if (has_keyword(args, name, len))
		fail_at(p, p->at, SB_EINVAL, "keyword '%.*s' given twice,", shown, name);
	p->out = &args->keywords;
	sb__put_str(p->out, name, len);
	args->keyword_count++;
}

static void pack_keyword(struct packer *p, struct sb_args *args, size_t len)
{
	const char *name = p->at;

	put_keyword(p, args, name, len);
	p->at += len + 1;
	if (p->error)
		return;
	if (*p->at == '\0' || *p->at == ' ' || *p->at == '*') {
		fail_at(p, p->at, SB_EINVAL, "no code of one value for keyword '%.*s'",
		        (int)sb__utf8_cut(name, len, 40), name);
		return;
	}
	pack_one(p, 0);
	if (!p->error && *p->at && *p->at != ' ')
		fail_at(p, p->at, SB_EINVAL, "no space after a keyword's value");
}

static void pack_arguments(struct packer *p, struct sb_args *args)
{
	bool word = true; /* a new word begins here: a keyword may */

	while (*p->at && !p->error) {
		size_t name = word ? keyword_length(p->at) : 0;

		if (*p->at == ' ') {
			p->at++;
			word = true;
			continue;
		}
		word = false;
		if (name > 0) {
			pack_keyword(p, args, name);
		} else if (args->keyword_count > 0) {
			fail_at(p, p->at, SB_EINVAL, "positional argument after keywords");
		} else {
			uint32_t more = pack_one(p, 0);

			if (more > UINT32_MAX - args->positional_count)
				fail_at(p, p->at, SB_ETOOBIG, "more than %u values", UINT32_MAX);
			else
				args->positional_count += more;
		}
	}
}

static struct sb_args *args_new(void)
{
	struct sb_args *args = malloc(sizeof(*args));

	if (!args)
		return NULL;
	memset(args, 0, offsetof(struct sb_args, first));
	sb__buf_init(&args->positional, args->first, sizeof(args->first));
	sb__buf_init(&args->keywords, NULL, 0);
	return args;
}

static void packer_init(struct packer *p, const char *function, const char *format, struct sb__buf *out,
                        sb__ref_fn on_ref, void *arg, struct sb__array_list *arrays)
{
	p->function = function;
	p->format = p->at = format ? format : "";
	p->out = out;
	p->on_ref = on_ref;
	p->arg = arg;
	p->arrays = arrays;
	p->error = 0;
	p->message[0] = '\0';
	if (!format)
		fail_at(p, p->at, SB_EINVAL, "the format is NULL,");
}

/* Makes the packer's error the arguments'. */
static void args_finish(struct sb_args *args, struct packer *p)
{
	check_buffer(p, &args->positional);
	check_buffer(p, &args->keywords);
	if (!p->error)
		return;
	args->error = p->error;
	memcpy(args->message, p->message, sizeof(args->message));
}

sb_args *sb_args_pack(const char *format, ...)
{
	struct sb_args *args = args_new();
	struct packer p;

	if (!args)
		return (sb_args *)&out_of_memory; /* known by its address, and never written to */
	packer_init(&p, "sb_args", format, &args->positional, sb__args_note, args, &args->arrays);
	va_start(p.ap, format);
	pack_arguments(&p, args);
	va_end(p.ap);
	args_finish(args, &p);
	return args;
}

/* Begins to append an argument: a packer that stands where its value goes. */
static void begin_argument(struct packer *p, const char *function, sb_args *args, const char *name)
{
	packer_init(p, function, name ? name : "", &args->positional, sb__args_note, args, &args->arrays);
	if (name && !name[0])
		fail_at(p, p->at, SB_EINVAL, "an empty keyword");
	else if (name)
		put_keyword(p, args, name, strlen(name));
	else
		args->positional_count++;
}

int sb_args_add(sb_args *args, const char *name, const sb_value *value)
{
	struct packer p;

	if (!args)
		return sb__fail(SB_EINVAL, "args is NULL; take it from sb_args(\"\")");
	if (args->error)
		return sb__args_error(args);
	begin_argument(&p, "sb_args_add", args, name);
	if (!p.error)
		pack_tree(&p, p.at, value, 0);
	args_finish(args, &p);
	return sb__args_error(args);
}

int sb_args_add_callback(sb_args *args, const char *name, sb_callback_fn fn, void *arg)
{
	struct packer p;

	if (!args || !fn)
		return sb__fail(SB_EINVAL,
		                args ? "the function is NULL" : "args is NULL; take it from sb_args(\"\")");
	if (args->error)
		return sb__args_error(args);
	begin_argument(&p, "sb_args_add_callback", args, name);
	if (!p.error)
		pack_callback(&p, p.at, fn, arg);
	args_finish(args, &p);
	return sb__args_error(args);
}

int sb__args_error(const sb_args *args)
{
	return args && args->error ? sb__fail(args->error, "%s", args->message) : 0;
}

void sb_args_free(sb_args *args)
{
	if (!args || args == &out_of_memory)
		return;
	sb__buf_free(&args->positional);
	sb__buf_free(&args->keywords);
	free(args->refs);
	free(args->callbacks);
	sb__array_list_drop(&args->arrays);
	free(args);
}

/* ── values ── */

int sb_value_pack(sb_value **ret_value, const char *format, ...)
{
	struct sb__gather gather;
	struct packer p;
	uint32_t count;
	int err;

	if (!ret_value)
		return sb__fail(SB_EINVAL, "ret_value is NULL; give it the address of a variable");
	sb__gather_init(&gather);
	packer_init(&p, "sb_value_pack", format, &gather.buf, sb__gather_ref, &gather, &gather.arrays);
	va_start(p.ap, format);
	count = pack_items(&p, '\0', 0);
	va_end(p.ap);
	check_buffer(&p, &gather.buf);
	if (!p.error && count != 1)
		fail_at(&p, p.at, SB_EINVAL, "%u values where there should be one", count);
	err = p.error ? sb__fail(p.error, "%s", p.message) : sb__gather_finish(&gather, ret_value);
	sb__gather_drop(&gather);
	return err;
}

int sb_value_copy(const sb_value *value, sb_value **ret_value)
{
	return sb_value_pack(ret_value, "o", value);
}
