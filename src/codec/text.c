/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as text, as Python shows them. Whatever the locale of the process.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "scalar.h"
#include "tree.h"

void sb__say(struct sb__buf *buf, const char *text)
{
	sb__buf_append(buf, text, strlen(text));
}

void sb__sayf(struct sb__buf *buf, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sb__say(buf, text);
}

/* ── numbers ── */

/* Digits and exponent of the shortest form "d.ddde±xx" that reads back the same. */
static int shortest(double v, char digits[SB__FLOAT_TEXT], int *ret_exponent)
{
	char text[40];
	int n = 0;

	for (int precision = fabs(v) < 1e-300 ? 0 : 14; precision <= 16; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, v);
		if (strtod(text, NULL) == v)
			break;
	}
	*ret_exponent = atoi(strchr(text, 'e') + 1);
	*strchr(text, 'e') = '\0';
	for (const char *p = text; *p; p++) /* the point is the locale's */
		if (*p >= '0' && *p <= '9')
			digits[n++] = *p;
	while (n > 1 && digits[n - 1] == '0')
		n--;
	digits[n] = '\0';
	return n;
}

void sb__float_text(double v, char out[SB__FLOAT_TEXT])
{
	char digits[SB__FLOAT_TEXT];
	const char *sign = signbit(v) ? "-" : "";
	int exponent, n;

	if (!isfinite(v)) {
		snprintf(out, SB__FLOAT_TEXT, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
		return;
	}
	n = shortest(v, digits, &exponent);
	if (exponent < -4 || exponent >= 16)
		snprintf(out, SB__FLOAT_TEXT, "%s%c%s%.17se%c%02d", sign, digits[0], n > 1 ? "." : "",
		         digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
	else if (exponent < 0)
		snprintf(out, SB__FLOAT_TEXT, "%s0.%.*s%.17s", sign, -exponent - 1, "000", digits);
	else if (n <= exponent + 1)
		snprintf(out, SB__FLOAT_TEXT, "%s%.0f.0", sign, fabs(v)); /* whole, below 1e16: exact */
	else
		snprintf(out, SB__FLOAT_TEXT, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
}

void sb__say_int(struct sb__buf *buf, const sb_value *value)
{
	const uint8_t *magnitude;
	uint8_t *out;
	size_t len;

	if (value->kind == SB_KIND_INT) {
		sb__sayf(buf, "%" PRId64, value->u.integer);
		return;
	}
	magnitude = (const uint8_t *)value->u.bytes;
	len = value->len;
	if (value->boolean)
		sb__say(buf, "-");
	if (len > SB__INT_DIGITS_MAX * 2 / 5) {
		sb__say(buf, "0x");
		for (size_t i = 0; i < len; i++)
			sb__sayf(buf, "%02x", magnitude[i]);
		return;
	}
	out = sb__buf_reserve(buf, 3 * len + 9);
	if (!out)
		return;
	len = sb__magnitude_digits(magnitude, len, (char *)out);
	if (len == 0)
		buf->error = SB_ENOMEM;
	buf->len += len;
}

/* A float as part of a complex: without ".0". */
static void say_part(struct sb__buf *buf, double v, bool sign)
{
	char text[SB__FLOAT_TEXT];
	size_t len;

	sb__float_text(v, text);
	len = strlen(text);
	if (len > 2 && strcmp(text + len - 2, ".0") == 0)
		text[len - 2] = '\0';
	if (sign && text[0] != '-')
		sb__say(buf, "+");
	sb__say(buf, text);
}

static void say_complex(struct sb__buf *buf, double real, double imaginary)
{
	bool whole = real != 0 || signbit(real);

	if (whole) {
		sb__say(buf, "(");
		say_part(buf, real, false);
	}
	say_part(buf, imaginary, whole);
	sb__say(buf, whole ? "j)" : "j");
}

/* ── text and bytes ── */

/* What is said, for Python escapes a little differently in each. */
#define BYTES      1u
#define BYTEARRAY  2u /* its ' is escaped whatever the quotes */
#define SURROGATES 4u

static void say_escaped(struct sb__buf *buf, const uint8_t *p, size_t len, unsigned what)
{
	char quote = memchr(p, '\'', len) && !memchr(p, '"', len) ? '"' : '\'';

	sb__buf_append(buf, &quote, 1);
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '\\' || p[i] == (uint8_t)quote || (p[i] == '\'' && (what & BYTEARRAY)))
			sb__sayf(buf, "\\%c", p[i]);
		else if (p[i] == '\n' || p[i] == '\r' || p[i] == '\t')
			sb__say(buf, p[i] == '\n' ? "\\n" : p[i] == '\r' ? "\\r" : "\\t");
		else if (p[i] < 0x20 || p[i] == 0x7f || ((what & (BYTES | BYTEARRAY)) && p[i] > 0x7f))
			sb__sayf(buf, "\\x%02x", p[i]);
		else if ((what & SURROGATES) && p[i] == 0xed && p[i + 1] >= 0xa0) {
			sb__sayf(buf, "\\u%04x", 0xd000u | (p[i + 1] & 0x3fu) << 6 | (p[i + 2] & 0x3fu));
			i += 2;
		} else {
			sb__buf_append(buf, p + i, 1);
		}
	}
	sb__buf_append(buf, &quote, 1);
}

/* ── dates and times ── */

void sb__say_when(struct sb__buf *buf, sb_kind kind, const sb_datetime *w)
{
	if (kind != SB_KIND_TIME)
		sb__sayf(buf, "%04d-%02d-%02d", w->year, w->month, w->day);
	if (kind == SB_KIND_DATETIME)
		sb__say(buf, "T");
	if (kind != SB_KIND_DATE)
		sb__sayf(buf, "%02d:%02d:%02d", w->hour, w->minute, w->second);
	if (kind != SB_KIND_DATE && w->microsecond)
		sb__sayf(buf, ".%06d", w->microsecond);
}

static void say_timedelta(struct sb__buf *buf, int64_t seconds, int64_t microseconds)
{
	int64_t days = seconds / 86400 - (seconds % 86400 < 0);
	const char *comma = "";

	sb__say(buf, "datetime.timedelta(");
	seconds -= days * 86400;
	if (days) {
		sb__sayf(buf, "days=%" PRId64, days);
		comma = ", ";
	}
	if (seconds) {
		sb__sayf(buf, "%sseconds=%" PRId64, comma, seconds);
		comma = ", ";
	}
	if (microseconds)
		sb__sayf(buf, "%smicroseconds=%" PRId64, comma, microseconds);
	sb__say(buf, days || seconds || microseconds ? ")" : "0)");
}

static void say_zone(struct sb__buf *buf, const sb_datetime *w)
{
	int64_t seconds = w->utc_offset_us / 1000000 - (w->utc_offset_us % 1000000 < 0);

	if (!w->has_offset && w->zone) {
		sb__say(buf, ", tzinfo=zoneinfo.ZoneInfo(key=");
		say_escaped(buf, (const uint8_t *)w->zone, w->zone_len, 0);
		sb__say(buf, ")");
	} else if (w->has_offset && !w->zone && w->utc_offset_us == 0) {
		sb__say(buf, ", tzinfo=datetime.timezone.utc");
	} else if (w->has_offset) {
		sb__say(buf, ", tzinfo=datetime.timezone(");
		say_timedelta(buf, seconds, w->utc_offset_us - seconds * 1000000);
		if (w->zone) {
			sb__say(buf, ", ");
			say_escaped(buf, (const uint8_t *)w->zone, w->zone_len, 0);
		}
		sb__say(buf, ")");
	}
}

static void say_moment(struct sb__buf *buf, const sb_value *value)
{
	sb_kind kind = (sb_kind)value->kind;
	sb_datetime w;

	sb__tree_when(value, &w);
	sb__sayf(buf, "datetime.%s(", sb_kind_name(kind));
	if (kind != SB_KIND_TIME)
		sb__sayf(buf, "%d, %d, %d", w.year, w.month, w.day);
	if (kind == SB_KIND_DATETIME)
		sb__say(buf, ", ");
	if (kind != SB_KIND_DATE)
		sb__sayf(buf, "%d, %d", w.hour, w.minute);
	if (w.second || w.microsecond)
		sb__sayf(buf, ", %d", w.second);
	if (w.microsecond)
		sb__sayf(buf, ", %d", w.microsecond);
	/* A datetime says its fold first, a time its zone. */
	if (w.fold && kind == SB_KIND_DATETIME)
		sb__say(buf, ", fold=1");
	say_zone(buf, &w);
	if (w.fold && kind == SB_KIND_TIME)
		sb__say(buf, ", fold=1");
	sb__say(buf, ")");
}

void sb__say_uuid(struct sb__buf *buf, const uint8_t *uuid)
{
	for (unsigned i = 0; i < 16; i++)
		sb__sayf(buf, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

/* ── everything ── */

static void say_items(struct sb__buf *buf, const sb_value *value, const char *open, const char *close)
{
	bool dict = value->kind == SB_KIND_DICT;
	size_t count = dict ? value->len : sb__tree_items(value);

	sb__say(buf, open);
	for (size_t i = 0; i < count && !buf->error; i++) {
		sb__say(buf, i ? ", " : "");
		if (dict) {
			sb__say_repr(buf, &value->u.items[2 * i]);
			sb__say(buf, ": ");
		}
		sb__say_repr(buf, sb_value_at(value, i));
	}
	sb__say(buf, value->kind == SB_KIND_TUPLE && count == 1 ? ",)" : close);
}

static void say_range(struct sb__buf *buf, const sb_value *value)
{
	const sb_value *step = &value->u.items[2];

	sb__say(buf, "range(");
	sb__say_repr(buf, &value->u.items[0]);
	sb__say(buf, ", ");
	sb__say_repr(buf, &value->u.items[1]);
	if (step->kind != SB_KIND_INT || step->u.integer != 1) {
		sb__say(buf, ", ");
		sb__say_repr(buf, step);
	}
	sb__say(buf, ")");
}

static void say_ref(struct sb__buf *buf, const sb_ref *ref)
{
	if (sb__is_item_ref(ref)) {
		sb__sayf(buf, "<result of item %u>", ref->slot);
		return;
	}
	sb__sayf(buf, "<%s ref %u.%u of session ", ref->type_name[0] ? ref->type_name : "object", ref->slot,
	         ref->generation);
	sb__say(buf, ref->session_id);
	sb__say(buf, ">");
}

static void say_bytes(struct sb__buf *buf, const sb_value *value, const char *open, const char *close)
{
	sb__say(buf, open);
	say_escaped(buf, (const uint8_t *)value->u.bytes, value->len,
	            value->kind == SB_KIND_BYTEARRAY ? BYTEARRAY : BYTES);
	sb__say(buf, close);
}

static void say_array(struct sb__buf *buf, const sb_array *array)
{
	sb__sayf(buf, "<array of %s, shape (", sb_array_dtype(array));
	for (int i = 0; i < sb_array_ndim(array); i++)
		sb__sayf(buf, "%s%zu", i ? ", " : "", sb_array_shape(array)[i]);
	sb__say(buf, sb_array_ndim(array) == 1 ? ",)>" : ")>");
}

void sb__say_repr(struct sb__buf *buf, const sb_value *value)
{
	char text[SB__FLOAT_TEXT];

	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: sb__say(buf, "None"); return;
	case SB_KIND_BOOL: sb__say(buf, value->boolean ? "True" : "False"); return;
	case SB_KIND_INT:
	case SB_KIND_BIGINT: sb__say_int(buf, value); return;
	case SB_KIND_FLOAT:
		sb__float_text(value->u.number, text);
		sb__say(buf, text);
		return;
	case SB_KIND_COMPLEX: say_complex(buf, value->u.number, value->imaginary); return;
	case SB_KIND_STR:
		say_escaped(buf, (const uint8_t *)value->u.bytes, value->len,
		            value->boolean ? SURROGATES : 0);
		return;
	case SB_KIND_BYTES: say_bytes(buf, value, "b", ""); return;
	case SB_KIND_BYTEARRAY: say_bytes(buf, value, "bytearray(b", ")"); return;
	case SB_KIND_LIST: say_items(buf, value, "[", "]"); return;
	case SB_KIND_TUPLE: say_items(buf, value, "(", ")"); return;
	case SB_KIND_DICT: say_items(buf, value, "{", "}"); return;
	case SB_KIND_SET: say_items(buf, value, value->len ? "{" : "set(", value->len ? "}" : ")"); return;
	case SB_KIND_FROZENSET:
		say_items(buf, value, value->len ? "frozenset({" : "frozenset(", value->len ? "})" : ")");
		return;
	case SB_KIND_REF: say_ref(buf, value->u.ref); return;
	case SB_KIND_DATETIME:
	case SB_KIND_DATE:
	case SB_KIND_TIME: say_moment(buf, value); return;
	case SB_KIND_TIMEDELTA: say_timedelta(buf, value->u.integer, value->microseconds); return;
	case SB_KIND_DECIMAL:
		sb__say(buf, "Decimal('");
		sb__buf_append(buf, value->u.bytes, value->len);
		sb__say(buf, "')");
		return;
	case SB_KIND_FRACTION: say_items(buf, value, "Fraction(", ")"); return;
	case SB_KIND_UUID:
		sb__say(buf, "UUID('");
		sb__say_uuid(buf, (const uint8_t *)value->u.bytes);
		sb__say(buf, "')");
		return;
	case SB_KIND_RANGE: say_range(buf, value); return;
	case SB_KIND_SLICE: say_items(buf, value, "slice(", ")"); return;
	case SB_KIND_ELLIPSIS: sb__say(buf, "Ellipsis"); return;
	case SB_KIND_ARRAY: say_array(buf, value->u.array); return;
	}
}

int sb__text_finish(struct sb__buf *buf, char **ret_text)
{
	int err;

	sb__buf_append(buf, "", 1);
	err = buf->error;
	if (err) {
		sb__buf_free(buf);
		return err == SB_ENOMEM ? sb__fail_memory("a value's text")
		                        : sb__fail(err, "a value's text has more than %zu bytes", buf->limit);
	}
	*ret_text = (char *)buf->data; /* on the heap: it began without memory */
	return 0;
}

int sb_value_text(const sb_value *value, char **ret_text)
{
	struct sb__buf buf;

	if (!ret_text)
		return sb__fail(SB_EINVAL, "ret_text is NULL; give it the address of a variable");
	sb__buf_init(&buf, NULL, 0);
	switch (sb_value_kind(value)) {
	case SB_KIND_STR:
	case SB_KIND_DECIMAL: sb__buf_append(&buf, value->u.bytes, value->len); break;
	case SB_KIND_UUID: sb__say_uuid(&buf, (const uint8_t *)value->u.bytes); break;
	default: sb__say_repr(&buf, value); break;
	}
	return sb__text_finish(&buf, ret_text);
}

int sb_value_print(const sb_value *value, FILE *file)
{
	struct sb__buf buf;
	char *text;
	int err;

	if (!file)
		return sb__fail(SB_EINVAL, "file is NULL");
	sb__buf_init(&buf, NULL, 0);
	sb__say_repr(&buf, value);
	err = sb__text_finish(&buf, &text);
	if (err)
		return err;
	if (fputs(text, file) == EOF)
		err = sb__fail_errno(SB_ESYSTEM, errno, "a value could not be written to the file");
	free(text);
	return err;
}
