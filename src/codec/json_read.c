/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON → values: a parser that feeds a builder as it goes. The text may come from anywhere; depth is bounded.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "b64.h"
#include "fail.h"
#include "scalar.h"
#include "snakebridge/builder.h"
#include "utf8.h"
#include "value_impl.h"

struct parser {
	const char *text, *at;
	sb_builder *to;
	struct sb__buf string; /* the last one read, NUL-terminated */
	int error;
};

static void parse(struct parser *p, unsigned depth);

/* Keeps the first. */
static void wrong(struct parser *p, int code, const char *what)
{
	if (!p->error)
		p->error = sb__fail(code, "%s at byte %zu", what, (size_t)(p->at - p->text));
}

static void no_json(struct parser *p)
{
	wrong(p, SB_EINVAL, "no JSON");
}

static char peek(struct parser *p)
{
	while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')
		p->at++;
	return *p->at;
}

static bool take(struct parser *p, char c)
{
	if (p->error || peek(p) != c)
		return false;
	p->at++;
	return true;
}

static void need(struct parser *p, char c)
{
	if (!take(p, c))
		no_json(p);
}

/* ── strings ── */

static unsigned hex4(struct parser *p)
{
	unsigned v = 0;

	for (int i = 0; i < 4; i++) {
		int c = (unsigned char)*p->at;

		if (!isxdigit(c)) {
			no_json(p);
			return 0;
		}
		v = v << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
		p->at++;
	}
	return v;
}

static void put_character(struct sb__buf *buf, unsigned c)
{
	uint8_t bytes[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n; i-- > 1; c >>= 6)
		bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
	bytes[0] = (uint8_t)(n == 1 ? c : (0xf00u >> n & 0xffu) | c);
	sb__buf_append(buf, bytes, n);
}

/* \uXXXX, and the second half of a pair. */
static void take_unicode(struct parser *p)
{
	unsigned c = hex4(p), low;

	if (c >= 0xd800 && c < 0xdc00 && p->at[0] == '\\' && p->at[1] == 'u') {
		const char *before = p->at;

		p->at += 2;
		low = hex4(p);
		if (low >= 0xdc00 && low < 0xe000)
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		else
			p->at = before; /* a lone surrogate */
	}
	put_character(&p->string, c);
}

static void take_escape(struct parser *p)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found = *p->at ? strchr(from, *p->at) : NULL;

	if (found)
		sb__buf_append(&p->string, to + (found - from), 1);
	else if (*p->at != 'u')
		no_json(p);
	p->at += *p->at != '\0';
	if (!found && !p->error)
		take_unicode(p);
}

static void string(struct parser *p)
{
	need(p, '"');
	sb__buf_truncate(&p->string, 0);
	while (!p->error && *p->at != '"') {
		const char *plain = p->at;

		while ((uint8_t)*p->at >= 0x20 && *p->at != '"' && *p->at != '\\')
			p->at++;
		sb__buf_append(&p->string, plain, (size_t)(p->at - plain));
		if (*p->at == '\\') {
			p->at++;
			take_escape(p);
		} else if (*p->at != '"') {
			no_json(p); /* a control character, or the end */
		}
	}
	need(p, '"');
	sb__buf_append(&p->string, "", 1);
	if (p->string.error) {
		if (!p->error)
			p->error = sb__fail(p->string.error,
			                    "a string of JSON is too long or memory is short");
	} else if (p->string.len > 0) {
		p->string.len--;
	}
}

/* A string in its place; else what. */
static bool string_for(struct parser *p, const char *what)
{
	if (peek(p) != '"')
		wrong(p, SB_EINVAL, what);
	else
		string(p);
	return !p->error;
}

static const char *held(struct parser *p)
{
	return (const char *)p->string.data;
}

/* ── numbers ── */

static double to_double(const char *text, size_t len)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c);
	char *copy = strndup(text, len); /* strtod() would read on */
	double v = copy ? strtod(copy, NULL) : (double)NAN;

	free(copy);
	uselocale(before);
	freelocale(c);
	return v;
}

static const char *skip_digits(const char *at)
{
	while (*at >= '0' && *at <= '9')
		at++;
	return at;
}

/* Where the number at p->at ends; NULL if it is none. */
static const char *number_end(const char *at, bool *ret_float)
{
	const char *from;

	at += *at == '-';
	from = at;
	at = skip_digits(at);
	if (at == from || (*from == '0' && at > from + 1))
		return NULL;
	*ret_float = *at == '.' || *at == 'e' || *at == 'E';
	if (*at == '.') {
		from = ++at;
		at = skip_digits(at);
		if (at == from)
			return NULL;
	}
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '+' || *at == '-';
		from = at;
		at = skip_digits(at);
		if (at == from)
			return NULL;
	}
	return at;
}

static void put_integer(struct parser *p, const char *text, size_t len)
{
	char *copy;

	if (len > SB__INT_DIGITS_MAX) {
		wrong(p, SB_ETOOBIG, "an int of more than 150000 digits; write it as {\"$int\": \"0x…\"}");
		return;
	}
	copy = strndup(text, len);
	if (copy)
		sb_builder_int_text(p->to, copy);
	else
		p->error = sb__fail_memory("a number");
	free(copy);
}

static void number(struct parser *p)
{
	bool is_float = false;
	const char *end = number_end(p->at, &is_float);
	double v;

	if (!end) {
		no_json(p);
		return;
	}
	if (is_float) {
		v = to_double(p->at, (size_t)(end - p->at));
		if (!isfinite(v))
			wrong(p, SB_EINVAL, "a number beyond what a float holds");
		sb_builder_float(p->to, v);
	} else {
		put_integer(p, p->at, (size_t)(end - p->at));
	}
	p->at = end;
}

static int64_t integer(struct parser *p, const char *what)
{
	bool is_float = false;
	const char *end = (peek(p), number_end(p->at, &is_float));
	int64_t v = 0;

	errno = 0;
	if (!p->error && end && !is_float)
		v = strtoll(p->at, NULL, 10);
	if (!end || is_float || errno == ERANGE)
		wrong(p, SB_EINVAL, what);
	else if (!p->error)
		p->at = end;
	return v;
}

/* ── objects with a meaning ── */

static void items(struct parser *p, sb_kind kind, const char *what, unsigned depth)
{
	if (!take(p, '[')) {
		wrong(p, SB_EINVAL, what);
		return;
	}
	if (depth >= SB__DEPTH_MAX)
		wrong(p, SB_ETOODEEP, "more than 128 containers in each other");
	sb_builder_begin(p->to, kind);
	if (!take(p, ']')) {
		do
			parse(p, depth + 1);
		while (take(p, ','));
		need(p, ']');
	}
	sb_builder_end(p->to);
}

static void pairs(struct parser *p, unsigned depth)
{
	static const char what[] = "\"$dict\" needs an array of [key, value] pairs";

	if (!take(p, '[')) {
		wrong(p, SB_EINVAL, what);
		return;
	}
	if (depth >= SB__DEPTH_MAX)
		wrong(p, SB_ETOODEEP, "more than 128 containers in each other");
	sb_builder_begin(p->to, SB_KIND_DICT);
	for (bool more = !take(p, ']'); more && !p->error;) {
		if (!take(p, '['))
			wrong(p, SB_EINVAL, what);
		parse(p, depth + 1);
		if (!take(p, ','))
			wrong(p, SB_EINVAL, what);
		parse(p, depth + 1);
		if (!take(p, ']'))
			wrong(p, SB_EINVAL, what);
		more = take(p, ',');
		if (!more)
			need(p, ']');
	}
	sb_builder_end(p->to);
}

static void base64(struct parser *p, sb_kind kind)
{
	unsigned char *bytes;
	size_t n = 0;

	if (!string_for(p, "it needs a string of base64"))
		return;
	bytes = malloc(p->string.len + 1);
	if (!bytes)
		p->error = sb__fail_memory("bytes");
	else if (!sb__base64_read(held(p), p->string.len, bytes, &n))
		wrong(p, SB_EINVAL, "it is not base64");
	else if (kind == SB_KIND_STR)
		sb_builder_str_len(p->to, (const char *)bytes, n);
	else if (kind == SB_KIND_BYTEARRAY)
		sb_builder_bytearray(p->to, bytes, n);
	else
		sb_builder_bytes(p->to, bytes, n);
	free(bytes);
}

/* "nan", "inf", "-inf" or "nan:" and 16 hex digits. */
static double special_float(struct parser *p)
{
	static const char what[] = "\"$float\" needs \"nan\", \"inf\" or \"-inf\"";
	uint64_t bits;
	double v = 0;
	int end = 0;

	if (!string_for(p, what))
		return 0;
	if (strcmp(held(p), "nan") == 0)
		return (double)NAN;
	if (strcmp(held(p), "inf") == 0 || strcmp(held(p), "-inf") == 0)
		return held(p)[0] == '-' ? -(double)INFINITY : (double)INFINITY;
	if (p->string.len == 20 && sscanf(held(p), "nan:%16" SCNx64 "%n", &bits, &end) == 1 && end == 20) {
		memcpy(&v, &bits, sizeof(v));
		if (isnan(v))
			return v;
	}
	wrong(p, SB_EINVAL, what);
	return 0;
}

/* One part of a complex. */
static double part(struct parser *p)
{
	bool is_float;
	const char *end;
	double v = 0;

	if (take(p, '{')) {
		if (string_for(p, "\"$complex\" needs two floats") && strcmp(held(p), "$float") != 0)
			wrong(p, SB_EINVAL, "\"$complex\" needs two floats");
		need(p, ':');
		v = special_float(p);
		need(p, '}');
		return v;
	}
	peek(p);
	end = number_end(p->at, &is_float);
	if (!end) {
		wrong(p, SB_EINVAL, "\"$complex\" needs two floats");
		return 0;
	}
	v = to_double(p->at, (size_t)(end - p->at));
	p->at = end;
	return v;
}

static void complex_number(struct parser *p)
{
	double real, imaginary;

	need(p, '[');
	real = part(p);
	need(p, ',');
	imaginary = part(p);
	need(p, ']');
	sb_builder_complex(p->to, real, imaginary);
}

static void ref(struct parser *p)
{
	sb_ref r;

	if (!string_for(p, "\"$ref\" needs a ref's printed form"))
		return;
	p->error = sb_ref_parse(held(p), &r);
	if (!p->error)
		sb_builder_ref(p->to, &r);
	if (take(p, ',')) {
		string(p);
		if (!p->error && strcmp(held(p), "type") != 0)
			wrong(p, SB_EINVAL,
			      "a key that begins with '$' has a meaning here, and beside \"$ref\" only "
			      "\"type\" may stand");
		need(p, ':');
		string(p);
	}
}

/* The result of an earlier item of a batch. */
static void item_ref(struct parser *p)
{
	int64_t item = integer(p, "\"$item\" needs the number of an item of the batch");
	sb_ref r;

	if (!p->error && (item < 0 || item > UINT32_MAX))
		wrong(p, SB_EINVAL, "\"$item\" needs the number of an item of the batch");
	if (p->error)
		return;
	r = sb__item_ref((uint32_t)item);
	sb_builder_ref(p->to, &r);
}

static void uuid(struct parser *p)
{
	uint8_t bytes[16];
	const char *at;

	if (!string_for(p, "\"$uuid\" needs a string"))
		return;
	at = held(p);
	for (unsigned i = 0; i < 16; i++) {
		int end = 0;

		at += (i == 4 || i == 6 || i == 8 || i == 10) && *at == '-';
		if (!isxdigit((unsigned char)at[0]) || !isxdigit((unsigned char)at[1]) ||
		    sscanf(at, "%2hhx%n", &bytes[i], &end) != 1 || end != 2) {
			wrong(p, SB_EINVAL, "\"$uuid\" is no UUID");
			return;
		}
		at += 2;
	}
	if (*at)
		wrong(p, SB_EINVAL, "\"$uuid\" is no UUID");
	sb_builder_uuid(p->to, bytes);
}

static void big_hex(struct parser *p)
{
	const char *digits;
	uint8_t *bytes;
	bool negative;
	size_t n = 0, len;

	if (!string_for(p, "\"$int\" needs a string"))
		return;
	digits = held(p);
	negative = *digits == '-';
	digits += negative;
	if (strncmp(digits, "0x", 2) != 0) {
		sb_builder_int_text(p->to, held(p));
		return;
	}
	digits += 2;
	len = strlen(digits);
	bytes = calloc(len / 2 + 2, 1);
	if (!bytes) {
		p->error = sb__fail_memory("an int");
		return;
	}
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)digits[i];

		if (!isxdigit(c))
			wrong(p, SB_EINVAL, "\"$int\" is no int");
		n = (i + len % 2) / 2;
		bytes[n] = (uint8_t)(bytes[n] << 4 | (c <= '9' ? c - '0' : (c | 32) - 'a' + 10));
	}
	sb_builder_bigint(p->to, negative, bytes, len > 0 ? n + 1 : 0);
	free(bytes);
}

/* So many digits and the character after them, if it is not NUL. */
static int field(const char **at, int digits, char after, bool *fine)
{
	int v = 0;

	for (int i = 0; i < digits; i++, ++*at) {
		if (**at < '0' || **at > '9') {
			*fine = false;
			return 0;
		}
		v = v * 10 + (**at - '0');
	}
	if (after && **at != after)
		*fine = false;
	else if (after)
		++*at;
	return v;
}

static bool when_text(const char *at, sb_kind kind, sb_datetime *w)
{
	bool fine = true;

	if (kind != SB_KIND_TIME) {
		w->year = field(&at, 4, '-', &fine);
		w->month = fine ? field(&at, 2, '-', &fine) : 0;
		w->day = fine ? field(&at, 2, kind == SB_KIND_DATE ? 0 : 'T', &fine) : 0;
	}
	if (kind != SB_KIND_DATE) {
		w->hour = fine ? field(&at, 2, ':', &fine) : 0;
		w->minute = fine ? field(&at, 2, ':', &fine) : 0;
		w->second = fine ? field(&at, 2, 0, &fine) : 0;
		if (fine && *at == '.') {
			at++;
			w->microsecond = field(&at, 6, 0, &fine);
		}
	}
	return fine && *at == '\0';
}

static void when(struct parser *p, sb_kind kind)
{
	sb_datetime w = { 0 };
	char *zone = NULL;

	if (!string_for(p, "a date or time needs a string"))
		return;
	if (p->string.len != strlen(held(p)) || !when_text(held(p), kind, &w))
		wrong(p, SB_EINVAL, "a date or time is none");
	while (take(p, ',')) {
		string(p);
		need(p, ':');
		if (p->error)
			break;
		if (strcmp(held(p), "fold") == 0) {
			w.fold = integer(p, "\"fold\" needs 0 or 1") != 0;
		} else if (strcmp(held(p), "utc_offset_us") == 0) {
			w.utc_offset_us = integer(p, "\"utc_offset_us\" needs an int");
			w.has_offset = true;
		} else if (strcmp(held(p), "zone") == 0 && !zone) {
			string(p);
			zone = p->error ? NULL : malloc(p->string.len + 1);
			if (zone)
				memcpy(zone, held(p), p->string.len + 1);
			w.zone_len = p->string.len;
		} else {
			wrong(p, SB_EINVAL,
			      "a key that begins with '$' has a meaning here, and such a key beside it "
			      "none");
		}
	}
	w.zone = zone;
	if (kind == SB_KIND_DATE)
		sb_builder_date(p->to, &w);
	else if (kind == SB_KIND_TIME)
		sb_builder_time(p->to, &w);
	else
		sb_builder_datetime(p->to, &w);
	free(zone);
}

static void timedelta(struct parser *p)
{
	static const char what[] = "\"$timedelta\" needs [seconds, microseconds]";
	int64_t seconds, microseconds;

	need(p, '[');
	seconds = integer(p, what);
	need(p, ',');
	microseconds = integer(p, what);
	need(p, ']');
	sb_builder_timedelta(p->to, seconds,
	                     microseconds >= 0 && microseconds <= 999999 ? (int32_t)microseconds : -1);
}

/* After the key, which is held. */
static void special(struct parser *p, unsigned depth)
{
	static const struct {
		const char *key;
		sb_kind kind;
		const char *what;
	} arrays[] = {
		{ "$tuple", SB_KIND_TUPLE, "\"$tuple\" needs an array" },
		{ "$set", SB_KIND_SET, "\"$set\" needs an array" },
		{ "$frozenset", SB_KIND_FROZENSET, "\"$frozenset\" needs an array" },
		{ "$fraction", SB_KIND_FRACTION, "\"$fraction\" needs an array of two ints" },
		{ "$range", SB_KIND_RANGE, "\"$range\" needs an array of three ints" },
		{ "$slice", SB_KIND_SLICE, "\"$slice\" needs an array of three" },
	};
	static const char alone[] =
		"a key that begins with '$' has a meaning here, and no other key beside it";
	char key[16];

	snprintf(key, sizeof(key), "%s", held(p));
	need(p, ':');
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		if (strcmp(key, arrays[i].key) == 0) {
			items(p, arrays[i].kind, arrays[i].what, depth);
			if (!p->error && peek(p) != '}')
				wrong(p, SB_EINVAL, alone);
			return;
		}
	if (strcmp(key, "$dict") == 0) {
		pairs(p, depth);
	} else if (strcmp(key, "$bytes") == 0) {
		base64(p, SB_KIND_BYTES);
	} else if (strcmp(key, "$bytearray") == 0) {
		base64(p, SB_KIND_BYTEARRAY);
	} else if (strcmp(key, "$str") == 0) {
		base64(p, SB_KIND_STR);
	} else if (strcmp(key, "$float") == 0) {
		sb_builder_float(p->to, special_float(p));
	} else if (strcmp(key, "$complex") == 0) {
		complex_number(p);
	} else if (strcmp(key, "$ref") == 0) {
		ref(p);
	} else if (strcmp(key, "$item") == 0) {
		item_ref(p);
	} else if (strcmp(key, "$uuid") == 0) {
		uuid(p);
	} else if (strcmp(key, "$int") == 0) {
		big_hex(p);
	} else if (strcmp(key, "$decimal") == 0) {
		if (string_for(p, "\"$decimal\" needs a string"))
			sb_builder_decimal(p->to, held(p));
	} else if (strcmp(key, "$datetime") == 0) {
		when(p, SB_KIND_DATETIME);
	} else if (strcmp(key, "$date") == 0) {
		when(p, SB_KIND_DATE);
	} else if (strcmp(key, "$time") == 0) {
		when(p, SB_KIND_TIME);
	} else if (strcmp(key, "$timedelta") == 0) {
		timedelta(p);
	} else if (strcmp(key, "$ellipsis") == 0 && peek(p) == 'n' && strncmp(p->at, "null", 4) == 0) {
		p->at += 4;
		sb_builder_ellipsis(p->to);
	} else {
		wrong(p, SB_EINVAL,
		      "a key that begins with '$' has a meaning here; write such a dict as {\"$dict\": "
		      "[[key, "
		      "value]]}");
	}
	if (!p->error && peek(p) != '}')
		wrong(p, SB_EINVAL, alone);
}

static void object(struct parser *p, unsigned depth)
{
	bool first = true;

	need(p, '{');
	if (peek(p) == '"') {
		string(p);
		if (!p->error && held(p)[0] == '$') {
			special(p, depth);
			need(p, '}');
			return;
		}
	} else if (*p->at != '}') {
		no_json(p);
	}
	if (depth >= SB__DEPTH_MAX)
		wrong(p, SB_ETOODEEP, "more than 128 containers in each other");
	sb_builder_begin(p->to, SB_KIND_DICT);
	while (!p->error && (!first || peek(p) != '}')) {
		if (!first)
			string(p);
		if (!p->error && held(p)[0] == '$')
			wrong(p, SB_EINVAL,
			      "a key that begins with '$' has a meaning here, and only as the first");
		if (!p->error)
			sb_builder_str_len(p->to, held(p), p->string.len);
		need(p, ':');
		parse(p, depth + 1);
		first = false;
		if (!take(p, ','))
			break;
	}
	need(p, '}');
	sb_builder_end(p->to);
}

static void word(struct parser *p, const char *text)
{
	size_t len = strlen(text);

	if (strncmp(p->at, text, len) != 0)
		no_json(p);
	else
		p->at += len;
}

static void parse(struct parser *p, unsigned depth)
{
	if (p->error)
		return;
	switch (peek(p)) {
	case '{': object(p, depth); return;
	case '[': items(p, SB_KIND_LIST, "", depth); return;
	case '"':
		string(p);
		if (!p->error)
			sb_builder_str_len(p->to, held(p), p->string.len);
		return;
	case 'n':
		word(p, "null");
		sb_builder_none(p->to);
		return;
	case 't':
		word(p, "true");
		sb_builder_bool(p->to, true);
		return;
	case 'f':
		word(p, "false");
		sb_builder_bool(p->to, false);
		return;
	default: number(p); return;
	}
}

int sb_value_from_json(const char *text, sb_value **ret_value)
{
	struct parser p = { .text = text, .at = text };

	if (!text || !ret_value)
		return sb__fail(SB_EINVAL, "%s is NULL", text ? "ret_value" : "text");
	if (!sb__utf8_valid(text, strlen(text)))
		return sb__fail(SB_EINVAL, "no JSON: the text is not UTF-8");
	p.to = sb_builder_new();
	sb__buf_init(&p.string, NULL, 0);
	parse(&p, 0);
	if (!p.error && peek(&p))
		no_json(&p);
	sb__buf_free(&p.string);
	if (p.error) {
		sb_builder_free(p.to);
		return p.error;
	}
	return sb_builder_finish(p.to, ret_value);
}
