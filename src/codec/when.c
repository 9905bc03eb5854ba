/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates and times. An aware datetime at a fixed offset of whole minutes goes as RFC 3339 text, a date as RFC 8943
 * text, so that other readers of CBOR understand them; everything else as Python's own fields. What a zone's name
 * means is not known here.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "scalar.h"
#include "utf8.h"

#define MINUTE_US INT64_C(60000000)
#define DAY_US    INT64_C(86400000000)
#define DAY_S     86400

/* ── what may be ── */

static int days_in(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

static const char *zone_fault(const sb_datetime *when)
{
	if (when->has_offset && (when->utc_offset_us <= -DAY_US || when->utc_offset_us >= DAY_US))
		return "the offset from UTC is not less than a day";
	if (!when->zone)
		return NULL;
	if (!sb__utf8_valid(when->zone, when->zone_len))
		return "the zone's name is not UTF-8";
	/* A key is a path under the zone database. */
	if (!when->has_offset && (when->zone_len == 0 || when->zone_len > SB_ZONE_KEY_MAX ||
	                          memchr(when->zone, '\0', when->zone_len)))
		return "the zone's key is empty, too long or holds a NUL";
	return NULL;
}

const char *sb__when_fault(sb_kind kind, const sb_datetime *when)
{
	if (kind != SB_KIND_TIME) {
		if (when->year < 1 || when->year > 9999)
			return "the year is not 1 to 9999";
		if (when->month < 1 || when->month > 12)
			return "the month is not 1 to 12";
		if (when->day < 1 || when->day > days_in(when->year, when->month))
			return "the month has no such day";
	}
	if (kind == SB_KIND_DATE)
		return NULL;
	if (when->hour < 0 || when->hour > 23)
		return "the hour is not 0 to 23";
	if (when->minute < 0 || when->minute > 59)
		return "the minute is not 0 to 59";
	if (when->second < 0 || when->second > 59)
		return "the second is not 0 to 59";
	if (when->microsecond < 0 || when->microsecond > 999999)
		return "the microsecond is not 0 to 999999";
	if (when->fold != 0 && when->fold != 1)
		return "fold is not 0 or 1";
	return zone_fault(when);
}

/* ── text ── */

/* A number of so many digits; then the character after it, unless that is NUL. */
static bool digits(const char **at, const char *end, int count, char after, int *ret)
{
	int v = 0;

	if (end - *at < count + (after != 0))
		return false;
	for (; count > 0; count--, ++*at) {
		if (**at < '0' || **at > '9')
			return false;
		v = v * 10 + (**at - '0');
	}
	if (after && *(*at)++ != after)
		return false;
	*ret = v;
	return true;
}

static bool read_date(const char **at, const char *end, sb_datetime *ret)
{
	return digits(at, end, 4, '-', &ret->year) && digits(at, end, 2, '-', &ret->month) &&
	       digits(at, end, 2, 0, &ret->day);
}

/* ".5", of up to 6 digits, or nothing. */
static bool read_fraction(const char **at, const char *end, int *ret)
{
	int scale = 100000;

	*ret = 0;
	if (*at == end || **at != '.')
		return true;
	for (++*at; *at < end && **at >= '0' && **at <= '9' && scale > 0; ++*at, scale /= 10)
		*ret += (**at - '0') * scale;
	return scale < 100000;
}

static bool read_offset(const char **at, const char *end, sb_datetime *ret)
{
	int hours, minutes, sign;

	ret->has_offset = true;
	if (*at < end && **at == 'Z') {
		++*at;
		return true;
	}
	if (*at == end || (**at != '+' && **at != '-'))
		return false;
	sign = *(*at)++ == '-' ? -1 : 1;
	if (!digits(at, end, 2, ':', &hours) || !digits(at, end, 2, 0, &minutes) || minutes > 59)
		return false;
	ret->utc_offset_us = sign * (hours * 60 + minutes) * MINUTE_US;
	return true;
}

static bool read_text(const char *text, size_t len, bool whole, sb_datetime *ret)
{
	const char *at = text, *end = text + len;

	if (!read_date(&at, end, ret))
		return false;
	if (whole && (at == end || *at++ != 'T' || !digits(&at, end, 2, ':', &ret->hour) ||
	              !digits(&at, end, 2, ':', &ret->minute) || !digits(&at, end, 2, 0, &ret->second) ||
	              !read_fraction(&at, end, &ret->microsecond) || !read_offset(&at, end, ret)))
		return false;
	return at == end;
}

static void put_text(struct sb__buf *buf, bool whole, const sb_datetime *when)
{
	int64_t offset = when->utc_offset_us / MINUTE_US, size = offset < 0 ? -offset : offset;
	char text[80];
	int n = snprintf(text, sizeof(text), "%04d-%02d-%02d", when->year, when->month, when->day);

	if (whole)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "T%02d:%02d:%02d", when->hour, when->minute,
		              when->second);
	if (whole && when->microsecond)
		n += snprintf(text + n, sizeof(text) - (size_t)n, ".%06d", when->microsecond);
	if (whole && offset)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%c%02d:%02d", offset < 0 ? '-' : '+',
		              (int)(size / 60), (int)(size % 60));
	else if (whole)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "Z");
	sb__put_str(buf, text, (size_t)n);
}

/* ── fields ── */

static int next_small(struct sb__cursor *cursor, int *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_INT || item.u.integer < 0 || item.u.integer > 999999)
		return sb__fail(SB_EPROTOCOL, "a field of a date or time is no int of 0 to 999999");
	*ret = (int)item.u.integer;
	return 0;
}

static int next_name(struct sb__cursor *cursor, sb_datetime *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR)
		return sb__fail(SB_EPROTOCOL, "a zone's name is no str");
	ret->zone = (const char *)item.u.bytes.data;
	ret->zone_len = item.u.bytes.len;
	return 0;
}

/* null, an offset, [offset, name], or a zone's key. */
static int next_zone(struct sb__cursor *cursor, sb_datetime *ret)
{
	struct sb__cursor before = *cursor;
	struct sb__item item;
	bool named;
	int err = sb__next(cursor, &item);

	if (err || item.type == SB__ITEM_NULL)
		return err;
	if (item.type == SB__ITEM_STR) {
		*cursor = before;
		return next_name(cursor, ret);
	}
	named = item.type == SB__ITEM_ARRAY && item.u.count == 2;
	if (named && (err = sb__next(cursor, &item)))
		return err;
	if (item.type != SB__ITEM_INT)
		return sb__fail(SB_EPROTOCOL, "a time's zone is neither null nor an offset nor a name");
	ret->has_offset = true;
	ret->utc_offset_us = item.u.integer;
	return named ? next_name(cursor, ret) : 0;
}

static void put_zone(struct sb__buf *buf, const sb_datetime *when)
{
	if (when->has_offset && when->zone)
		sb__put_array(buf, 2);
	if (when->has_offset)
		sb__put_int(buf, when->utc_offset_us);
	if (when->zone)
		sb__put_str(buf, when->zone, when->zone_len);
	if (!when->has_offset && !when->zone)
		sb__put_null(buf);
}

static int next_fields(struct sb__cursor *cursor, bool dated, sb_datetime *ret)
{
	int *const fields[] = { &ret->year,   &ret->month,  &ret->day,         &ret->hour,
		                &ret->minute, &ret->second, &ret->microsecond, &ret->fold };
	uint64_t count;
	int err = sb__next_tagged_array(cursor, dated ? "datetime" : "time", dated ? 9 : 6, &count);

	for (size_t i = dated ? 0 : 3; !err && i < sizeof(fields) / sizeof(fields[0]); i++)
		err = next_small(cursor, fields[i]);
	return err ? err : next_zone(cursor, ret);
}

static int next_text(struct sb__cursor *cursor, bool whole, sb_datetime *ret)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	if (err)
		return err;
	if (item.type != SB__ITEM_STR ||
	    !read_text((const char *)item.u.bytes.data, item.u.bytes.len, whole, ret))
		return sb__fail(SB_EPROTOCOL, "a date's text is none");
	return 0;
}

int sb__next_when(struct sb__cursor *cursor, uint64_t tag, sb_datetime *ret)
{
	size_t position = cursor->pos;
	sb_kind kind = tag == SB__TAG_DATE   ? SB_KIND_DATE
	               : tag == SB__TAG_TIME ? SB_KIND_TIME
	                                     : SB_KIND_DATETIME;
	sb_datetime when = { 0 };
	const char *fault;
	int err;

	if (tag == SB__TAG_DATE || tag == SB__TAG_DATETIME_TEXT)
		err = next_text(cursor, kind == SB_KIND_DATETIME, &when);
	else
		err = next_fields(cursor, kind == SB_KIND_DATETIME, &when);
	if (err)
		return err;
	fault = sb__when_fault(kind, &when);
	if (fault)
		return sb__fail(SB_EPROTOCOL, "the %s at byte %zu is none: %s", sb_kind_name(kind), position,
		                fault);
	*ret = when;
	return 0;
}

void sb__put_when(struct sb__buf *buf, sb_kind kind, const sb_datetime *when)
{
	const int fields[] = { when->year,   when->month,  when->day,         when->hour,
		               when->minute, when->second, when->microsecond, when->fold };
	bool dated = kind == SB_KIND_DATETIME;

	if (kind == SB_KIND_DATE) {
		sb__put_tag(buf, SB__TAG_DATE);
		put_text(buf, false, when);
	} else if (dated && when->has_offset && !when->zone && !when->fold &&
	           when->utc_offset_us % MINUTE_US == 0) {
		sb__put_tag(buf, SB__TAG_DATETIME_TEXT);
		put_text(buf, true, when);
	} else {
		sb__put_tag(buf, dated ? SB__TAG_DATETIME : SB__TAG_TIME);
		sb__put_array(buf, dated ? 9 : 6);
		for (size_t i = dated ? 0 : 3; i < sizeof(fields) / sizeof(fields[0]); i++)
			sb__put_int(buf, fields[i]);
		put_zone(buf, when);
	}
}

/* ── timedelta ── */

bool sb__timedelta_fits(int64_t seconds, int32_t microseconds)
{
	return seconds >= -INT64_C(999999999) * DAY_S && seconds < (INT64_C(999999999) + 1) * DAY_S &&
	       microseconds >= 0 && microseconds <= 999999;
}

int sb__next_timedelta(struct sb__cursor *cursor, int64_t *ret_seconds, int32_t *ret_microseconds)
{
	size_t position = cursor->pos;
	int64_t numbers[4] = { 0 };
	struct sb__item item;
	int err = sb__next(cursor, &item);
	size_t count;

	if (err)
		return err;
	count = item.type == SB__ITEM_MAP ? 2 * item.u.count : 0;
	if (count != 4)
		return sb__fail(SB_EPROTOCOL, "the timedelta at byte %zu is no map of two numbers", position);
	for (size_t i = 0; i < count; i++) {
		err = sb__next(cursor, &item);
		if (err)
			return err;
		if (item.type != SB__ITEM_INT)
			return sb__fail(SB_EPROTOCOL, "the timedelta at byte %zu is not of ints", position);
		numbers[i] = item.u.integer;
	}
	if (numbers[0] != 1 || numbers[2] != -6)
		return sb__fail(SB_EPROTOCOL, "the timedelta at byte %zu has keys that are not known here",
		                position);
	if (numbers[3] < 0 || numbers[3] > 999999 || !sb__timedelta_fits(numbers[1], (int32_t)numbers[3]))
		return sb__fail(SB_EPROTOCOL, "the timedelta at byte %zu is out of Python's range", position);
	*ret_seconds = numbers[1];
	*ret_microseconds = (int32_t)numbers[3];
	return 0;
}

void sb__put_timedelta(struct sb__buf *buf, int64_t seconds, int32_t microseconds)
{
	sb__put_tag(buf, SB__TAG_TIMEDELTA);
	sb__put_map(buf, 2);
	sb__put_int(buf, 1);
	sb__put_int(buf, seconds);
	sb__put_int(buf, -6);
	sb__put_int(buf, microseconds);
}
