/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values into variables, by a format that mirrors sb_value_pack()'s. It walks the format and the tree together; where
 * the tree has nothing for a part (an optional key, a None), the format is walked alone, to pass its arguments by.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "tree.h"
#include "utf8.h"

/* Where in the value: from the inside out. */
struct step {
	const struct step *up;
	const char *key; /* of a dict, or NULL */
	int64_t index;   /* the int key, or the index */
};

struct unpacker {
	const char *format, *at;
	va_list ap;
	int error;
};

static size_t put_path(const struct step *step, char *text, size_t size)
{
	size_t n = step->up ? put_path(step->up, text, size) : 0;

	if (!step->up || n + 1 >= size)
		return n;
	if (step->key)
		n += (size_t)snprintf(text + n, size - n, "[\"%.*s\"]",
		                      (int)sb__utf8_cut(step->key, strlen(step->key), 60), step->key);
	else
		n += (size_t)snprintf(text + n, size - n, "[%lld]", (long long)step->index);
	return n < size ? n : size - 1;
}

/* Keeps the first. */
static void mismatch(struct unpacker *u, const struct step *step, const char *fmt, ...) SB_PRINTF_LIKE(3, 4);
static void mismatch(struct unpacker *u, const struct step *step, const char *fmt, ...)
{
	char path[512] = "", what[256];
	va_list ap;

	if (u->error)
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	put_path(step, path, sizeof(path));
	u->error = sb__fail(SB_EKIND, "at %s: %s", path[0] ? path : "the top", what);
}

static void bad_format(struct unpacker *u, const char *at, const char *what)
{
	if (!u->error)
		u->error = sb__fail(SB_EINVAL, "sb_value_unpack(\"%.80s\"): %s at character %zu", u->format,
		                    what, (size_t)(at - u->format) + 1);
}

static void skip_spaces(struct unpacker *u)
{
	while (*u->at == ' ' || *u->at == ',' || *u->at == ':')
		u->at++;
}

static bool is_kind(struct unpacker *u, const struct step *step, const sb_value *value, sb_kind kind)
{
	sb_kind actual = sb_value_kind(value);

	if (actual == kind)
		return true;
	mismatch(u, step, "is %s, not %s", sb_kind_name(actual), sb_kind_name(kind));
	return false;
}

/* An int, as read by reader. */
static void unpack_int(struct unpacker *u, const struct step *step, const sb_value *value, char code,
                       void *ret)
{
	int64_t v = 0;

	if (sb_value_kind(value) != SB_KIND_BIGINT && !is_kind(u, step, value, SB_KIND_INT))
		return;
	if (code == 'L' ? sb_value_uint64(value, ret) : sb_value_int(value, code == 'l' ? ret : &v)) {
		mismatch(u, step, "is an int that does not fit %s", code == 'L' ? "uint64_t" : "int64_t");
	} else if (code == 'i') {
		if (v < INT_MIN || v > INT_MAX)
			mismatch(u, step, "is %lld, which does not fit int", (long long)v);
		else
			*(int *)ret = (int)v;
	}
}

static void unpack_float(struct unpacker *u, const struct step *step, const sb_value *value, double *ret)
{
	if (sb_value_kind(value) == SB_KIND_BIGINT)
		mismatch(u, step, "is an int that does not fit int64_t, not float");
	else if (sb_value_kind(value) == SB_KIND_INT || is_kind(u, step, value, SB_KIND_FLOAT))
		(void)sb_value_float(value, ret);
}

static void unpack_str(struct unpacker *u, const struct step *step, const sb_value *value, const char **ret,
                       size_t *ret_len)
{
	size_t len;
	const char *text;

	if (!is_kind(u, step, value, SB_KIND_STR))
		return;
	text = sb_value_str(value, &len);
	if (!ret_len && strlen(text) != len) {
		mismatch(u, step, "is a str with a NUL inside; take it with 'u'");
		return;
	}
	*ret = text;
	if (ret_len)
		*ret_len = len;
}

static void unpack_bytes(struct unpacker *u, const struct step *step, const sb_value *value, const void **ret,
                         size_t *ret_len)
{
	if (sb_value_kind(value) == SB_KIND_BYTEARRAY || is_kind(u, step, value, SB_KIND_BYTES))
		*ret = sb_value_bytes(value, ret_len);
}

static void unpack_when(struct unpacker *u, const struct step *step, const sb_value *value, sb_datetime *ret)
{
	sb_kind kind = sb_value_kind(value);

	if (kind == SB_KIND_DATE || kind == SB_KIND_TIME || is_kind(u, step, value, SB_KIND_DATETIME))
		(void)sb_value_datetime(value, ret);
}

/* Codes with two variables. absent: there is nothing to store. */
static void unpack_two(struct unpacker *u, char code, const struct step *step, const sb_value *value,
                       bool absent)
{
	void *first = va_arg(u->ap, void *), *second = va_arg(u->ap, void *);

	if (absent)
		return;
	switch (code) {
	case 'u': unpack_str(u, step, value, first, second); return;
	case 'y': unpack_bytes(u, step, value, first, second); return;
	case 'c':
		if (is_kind(u, step, value, SB_KIND_COMPLEX))
			(void)sb_value_complex(value, first, second);
		return;
	default:
		if (is_kind(u, step, value, SB_KIND_TIMEDELTA))
			(void)sb_value_timedelta(value, first, second);
		return;
	}
}

static void unpack_one_variable(struct unpacker *u, char code, const struct step *step, const sb_value *value,
                                bool absent)
{
	void *ret = va_arg(u->ap, void *);

	if (absent)
		return;
	switch (code) {
	case 'b':
		if (is_kind(u, step, value, SB_KIND_BOOL))
			(void)sb_value_bool(value, ret);
		return;
	case 'i':
	case 'l':
	case 'L': unpack_int(u, step, value, code, ret); return;
	case 'd': unpack_float(u, step, value, ret); return;
	case 's': unpack_str(u, step, value, ret, NULL); return;
	case 'o': *(const sb_value **)ret = value; return;
	case 'r':
		if (is_kind(u, step, value, SB_KIND_REF))
			memcpy(ret, sb_value_ref(value), sizeof(sb_ref));
		return;
	case 't': unpack_when(u, step, value, ret); return;
	case 'D':
		if (is_kind(u, step, value, SB_KIND_DECIMAL))
			*(const char **)ret = sb_value_decimal(value);
		return;
	case 'U':
		if (is_kind(u, step, value, SB_KIND_UUID))
			memcpy(ret, sb_value_uuid(value), 16);
		return;
	default:
		if (is_kind(u, step, value, SB_KIND_ARRAY))
			*(sb_array **)ret = sb_value_array(value);
		return;
	}
}

static void unpack(struct unpacker *u, const struct step *step, const sb_value *value, bool absent,
                   unsigned depth);

/* The last '*': what is left may be there. */
static bool take_star(struct unpacker *u, char closer)
{
	const char *at = u->at;

	if (*at != '*')
		return false;
	u->at++;
	skip_spaces(u);
	if (*u->at != closer)
		bad_format(u, at, "'*' that is not the last in its container");
	return true;
}

static void unpack_items(struct unpacker *u, const struct step *step, const sb_value *value, bool absent,
                         char closer, unsigned depth)
{
	size_t len = absent ? 0 : sb_value_len(value), i = 0;
	bool more = false;

	for (skip_spaces(u); *u->at && *u->at != closer && !u->error && !more; skip_spaces(u)) {
		struct step inner = { .up = step, .index = (int64_t)i };

		more = take_star(u, closer);
		if (more)
			break;
		if (strchr("])}", *u->at))
			bad_format(u, u->at, "a bracket that closes another");
		else if (!absent && i >= len)
			mismatch(u, step, "has only %zu items", len);
		else
			unpack(u, &inner, sb_value_at(value, i), absent, depth);
		i++;
	}
	if (!absent && !more && i < len)
		mismatch(u, step, "has %zu items, not %zu", len, i);
}

static const sb_value *lookup_int(const sb_value *dict, int64_t key)
{
	for (size_t i = 0; i < sb_value_len(dict); i++) {
		const sb_value *k = sb_value_key_at(dict, i);

		if (k->kind == SB_KIND_INT && k->u.integer == key)
			return k + 1;
	}
	return NULL;
}

/* A key and its code. Returns whether the dict had it. */
static bool unpack_pair(struct unpacker *u, const struct step *step, const sb_value *dict, bool absent,
                        unsigned depth)
{
	struct step inner = { .up = step };
	const sb_value *value = NULL;
	const char *at = u->at++;
	bool optional;

	switch (*at) {
	case 's':
		inner.key = va_arg(u->ap, const char *);
		if (!inner.key)
			bad_format(u, at, "a NULL key");
		break;
	case 'i': inner.index = va_arg(u->ap, int); break;
	case 'l': inner.index = va_arg(u->ap, int64_t); break;
	default: bad_format(u, at, "a key that is none of 's', 'i', 'l'"); break;
	}
	optional = *u->at == '?';
	u->at += optional;
	skip_spaces(u);
	if (u->error)
		return false;
	if (!absent)
		value = inner.key ? sb_value_lookup(dict, inner.key) : lookup_int(dict, inner.index);
	if (!absent && !value && !optional)
		mismatch(u, &inner, "is not there");
	else
		unpack(u, &inner, value, !value, depth);
	return value != NULL;
}

static void unpack_dict(struct unpacker *u, const struct step *step, const sb_value *dict, bool absent,
                        unsigned depth)
{
	size_t len = absent ? 0 : sb_value_len(dict), found = 0;
	bool more = false;

	for (skip_spaces(u); *u->at && *u->at != '}' && !u->error && !more; skip_spaces(u)) {
		more = take_star(u, '}');
		if (!more)
			found += unpack_pair(u, step, dict, absent, depth);
	}
	if (!absent && !more && found < len)
		mismatch(u, step, "has %zu keys, of which %zu are asked for; end with '*' to take any more",
		         len, found);
}

static void unpack_container(struct unpacker *u, const char *at, const struct step *step,
                             const sb_value *value, bool absent, unsigned depth)
{
	char closer = *at == '[' ? ']' : *at == '(' ? ')' : '}';
	sb_kind kind = *at == '[' ? SB_KIND_LIST : *at == '(' ? SB_KIND_TUPLE : SB_KIND_DICT;

	if (depth >= SB__DEPTH_MAX) {
		bad_format(u, at, "too many containers in each other");
		return;
	}
	if (!absent && !is_kind(u, step, value, kind))
		return;
	if (*at == '{')
		unpack_dict(u, step, value, absent, depth + 1);
	else
		unpack_items(u, step, value, absent, closer, depth + 1);
	if (u->error)
		return;
	if (*u->at != closer)
		bad_format(u, at, "a container that is not closed");
	else
		u->at++;
}

/* Where the code at u->at ends. */
static const char *end_of_code(const char *at)
{
	unsigned open = 0;

	do {
		open += *at == '[' || *at == '(' || *at == '{';
		open -= (*at == ']' || *at == ')' || *at == '}') && open > 0;
		at++;
	} while (open > 0 && *at);
	return at;
}

static void unpack(struct unpacker *u, const struct step *step, const sb_value *value, bool absent,
                   unsigned depth)
{
	const char *at = u->at;

	if (*at && *end_of_code(at) == '?' && sb_value_kind(value) == SB_KIND_NONE)
		absent = true;
	u->at++;
	if (*at == 'n') {
		if (!absent)
			(void)is_kind(u, step, value, SB_KIND_NONE);
	} else if (*at && strchr("[({", *at)) {
		unpack_container(u, at, step, value, absent, depth);
	} else if (*at && strchr("uycT", *at)) {
		unpack_two(u, *at, step, value, absent);
	} else if (*at && strchr("bilLdsortDUa", *at)) {
		unpack_one_variable(u, *at, step, value, absent);
	} else {
		u->at = at;
		bad_format(u, at, "an unknown code");
		return;
	}
	if (!u->error && *u->at == '?')
		u->at++;
}

static int unpack_all(struct unpacker *u, const sb_value *value, const char *format)
{
	static const struct step top = { 0 };

	u->format = u->at = format;
	u->error = 0;
	skip_spaces(u);
	unpack(u, &top, value, false, 0);
	if (u->error)
		return u->error;
	skip_spaces(u);
	if (*u->at)
		bad_format(u, u->at, "more than one code");
	return u->error;
}

int sb__value_vunpack(const sb_value *value, const char *format, va_list ap)
{
	struct unpacker u;
	int err;

	if (!format)
		return sb__fail(SB_EINVAL, "the format is NULL");
	va_copy(u.ap, ap);
	err = unpack_all(&u, value, format);
	va_end(u.ap);
	return err;
}

int sb_value_unpack(const sb_value *value, const char *format, ...)
{
	va_list ap;
	int err;

	va_start(ap, format);
	err = sb__value_vunpack(value, format, ap);
	va_end(ap);
	return err;
}
