/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates and times, through datetime's C interface. A zone is a value if it is a datetime.timezone or a
 * zoneinfo.ZoneInfo with a key; a time in any other has no plain form.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "values.h"

#include <datetime.h>
#include <string.h>

#include "scalar.h"
#include "snakebridge/error.h"

#define SECOND_US INT64_C(1000000)
#define DAY_S     INT64_C(86400)

/* Makes PyDateTimeAPI usable. */
static bool have_api(void)
{
	if (!PyDateTimeAPI)
		PyDateTime_IMPORT;
	return PyDateTimeAPI != NULL;
}

/* ── writing ── */

static int64_t delta_seconds(PyObject *delta)
{
	return PyDateTime_DELTA_GET_DAYS(delta) * DAY_S + PyDateTime_DELTA_GET_SECONDS(delta);
}

/* What a zone's text is taken from: it must live until that is written. */
static bool take_text(PyObject *text, PyObject **ret_keep, sb_datetime *ret)
{
	PyObject *utf8 = text && PyUnicode_CheckExact(text) ? PyUnicode_AsUTF8String(text) : NULL;

	if (!utf8)
		return false;
	*ret_keep = utf8;
	ret->zone = PyBytes_AS_STRING(utf8);
	ret->zone_len = (size_t)PyBytes_GET_SIZE(utf8);
	return true;
}

/* The arguments that pickle would make a timezone of tell whether it was given a name. */
static bool read_timezone(PyObject *zone, sb_datetime *ret, PyObject **ret_keep)
{
	PyObject *arguments = PyObject_CallMethod(zone, "__getinitargs__", NULL), *delta;
	bool fine = arguments && PyTuple_CheckExact(arguments) && PyTuple_GET_SIZE(arguments) >= 1 &&
	            PyDelta_CheckExact(PyTuple_GET_ITEM(arguments, 0));

	if (fine) {
		delta = PyTuple_GET_ITEM(arguments, 0);
		ret->has_offset = true;
		ret->utc_offset_us = delta_seconds(delta) * SECOND_US +
		                     PyDateTime_DELTA_GET_MICROSECONDS(delta);
	}
	if (fine && PyTuple_GET_SIZE(arguments) > 1)
		fine = take_text(PyTuple_GET_ITEM(arguments, 1), ret_keep, ret);
	Py_XDECREF(arguments);
	return fine;
}

/* One that was read from a file refuses to be pickled: its key, if any, does not say what it is. */
static bool read_zoneinfo(PyObject *zone, sb_datetime *ret, PyObject **ret_keep)
{
	PyObject *reduced = PyObject_CallMethod(zone, "__reduce__", NULL);
	PyObject *key = reduced ? PyObject_GetAttrString(zone, "key") : NULL;
	bool fine = key && take_text(key, ret_keep, ret);

	Py_XDECREF(key);
	Py_XDECREF(reduced);
	return fine;
}

static bool read_zone(PyObject *zone, sb_datetime *ret, PyObject **ret_keep)
{
	if (zone == Py_None)
		return true;
	if (zone == PyDateTime_TimeZone_UTC) {
		ret->has_offset = true;
		return true;
	}
	if (Py_TYPE(zone) == Py_TYPE(PyDateTime_TimeZone_UTC))
		return read_timezone(zone, ret, ret_keep);
	if (sb__is_class(Py_TYPE(zone), "zoneinfo", "ZoneInfo"))
		return read_zoneinfo(zone, ret, ret_keep);
	return false;
}

static int put_when(struct sb__buf *buf, sb_kind kind, sb_datetime *when, PyObject *zone)
{
	PyObject *keep = NULL;
	int rc = read_zone(zone, when, &keep) && !sb__when_fault(kind, when);

	if (rc)
		sb__put_when(buf, kind, when);
	if (PyErr_Occurred())
		PyErr_Clear();
	Py_XDECREF(keep);
	return rc;
}

static void read_date(PyObject *object, sb_datetime *ret)
{
	ret->year = PyDateTime_GET_YEAR(object);
	ret->month = PyDateTime_GET_MONTH(object);
	ret->day = PyDateTime_GET_DAY(object);
}

static int put_datetime(struct sb__buf *buf, PyObject *object)
{
	sb_datetime when = {
		.hour = PyDateTime_DATE_GET_HOUR(object),
		.minute = PyDateTime_DATE_GET_MINUTE(object),
		.second = PyDateTime_DATE_GET_SECOND(object),
		.microsecond = PyDateTime_DATE_GET_MICROSECOND(object),
		.fold = PyDateTime_DATE_GET_FOLD(object),
	};

	read_date(object, &when);
	return put_when(buf, SB_KIND_DATETIME, &when, PyDateTime_DATE_GET_TZINFO(object));
}

static int put_time(struct sb__buf *buf, PyObject *object)
{
	sb_datetime when = {
		.hour = PyDateTime_TIME_GET_HOUR(object),
		.minute = PyDateTime_TIME_GET_MINUTE(object),
		.second = PyDateTime_TIME_GET_SECOND(object),
		.microsecond = PyDateTime_TIME_GET_MICROSECOND(object),
		.fold = PyDateTime_TIME_GET_FOLD(object),
	};

	return put_when(buf, SB_KIND_TIME, &when, PyDateTime_TIME_GET_TZINFO(object));
}

int sb__time_put(struct sb__buf *buf, PyObject *object, bool exact)
{
	/* The module need not be loaded if no object can be of its types; and their names tell. */
	if (exact && strncmp(Py_TYPE(object)->tp_name, "datetime.", 9) != 0)
		return 0;
	if (!PyDateTimeAPI && !PyDict_GetItemString(PyImport_GetModuleDict(), "datetime"))
		return 0;
	if (!have_api()) {
		PyErr_Clear();
		return 0;
	}
	if (exact ? PyDateTime_CheckExact(object) : PyDateTime_Check(object))
		return put_datetime(buf, object);
	if (exact ? PyDate_CheckExact(object) : PyDate_Check(object)) {
		sb_datetime when = { 0 };

		read_date(object, &when);
		sb__put_when(buf, SB_KIND_DATE, &when);
		return 1;
	}
	if (exact ? PyTime_CheckExact(object) : PyTime_Check(object))
		return put_time(buf, object);
	if (!(exact ? PyDelta_CheckExact(object) : PyDelta_Check(object)))
		return 0;
	sb__put_timedelta(buf, delta_seconds(object), PyDateTime_DELTA_GET_MICROSECONDS(object));
	return 1;
}

/* ── reading ── */

static PyObject *make_delta(int64_t seconds, int32_t microseconds)
{
	int64_t days = seconds / DAY_S;

	if (seconds % DAY_S < 0)
		days--;
	return PyDelta_FromDSU((int)days, (int)(seconds - days * DAY_S), microseconds);
}

static PyObject *make_offset(const sb_datetime *when)
{
	int64_t seconds = when->utc_offset_us / SECOND_US, rest = when->utc_offset_us % SECOND_US;
	PyObject *delta, *name = NULL, *zone = NULL;

	if (rest < 0) {
		rest += SECOND_US;
		seconds--;
	}
	delta = make_delta(seconds, (int32_t)rest);
	if (delta && when->zone)
		name = PyUnicode_FromStringAndSize(when->zone, (Py_ssize_t)when->zone_len);
	if (delta && (name || !when->zone))
		zone = name ? PyTimeZone_FromOffsetAndName(delta, name) : PyTimeZone_FromOffset(delta);
	Py_XDECREF(delta);
	Py_XDECREF(name);
	return zone;
}

/* A new reference, or NULL and the reason in why. */
static PyObject *make_zone(const sb_datetime *when, struct sb__why *why)
{
	PyObject *zone;

	if (!when->has_offset && !when->zone)
		return Py_NewRef(Py_None);
	if (when->has_offset) {
		zone = make_offset(when);
		return zone ? zone : sb__no_value(why, "timezone");
	}
	zone = sb__make_instance("zoneinfo", "ZoneInfo", NULL,
	                         PyUnicode_FromStringAndSize(when->zone, (Py_ssize_t)when->zone_len));
	if (!zone && !PyErr_ExceptionMatches(PyExc_MemoryError))
		sb__because(why, SB_EINVAL,
		            "an argument's time is in the zone \"%.*s\", which is not in the owner's zone "
		            "database; use another zone, or an offset",
		            (int)(when->zone_len < 80 ? when->zone_len : 80), when->zone);
	return zone ? zone : sb__no_value(why, "zone");
}

static PyObject *make_timedelta(struct sb__cursor *cursor, struct sb__why *why)
{
	int64_t seconds;
	int32_t microseconds;
	PyObject *made;
	int err = sb__next_timedelta(cursor, &seconds, &microseconds);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	made = make_delta(seconds, microseconds);
	return made ? made : sb__no_value(why, "timedelta");
}

static PyObject *make_when(const sb_datetime *w, uint64_t tag, PyObject *zone)
{
	if (tag == SB__TAG_DATE)
		return PyDate_FromDate(w->year, w->month, w->day);
	if (tag == SB__TAG_TIME)
		return PyDateTimeAPI->Time_FromTimeAndFold(w->hour, w->minute, w->second, w->microsecond,
		                                           zone, w->fold, PyDateTimeAPI->TimeType);
	return PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(w->year, w->month, w->day, w->hour, w->minute,
	                                                      w->second, w->microsecond, zone, w->fold,
	                                                      PyDateTimeAPI->DateTimeType);
}

PyObject *sb__time_make(struct sb__cursor *cursor, uint64_t tag, struct sb__why *why)
{
	sb_datetime when;
	PyObject *zone, *made;
	int err;

	if (!have_api())
		return sb__no_value(why, "datetime");
	if (tag == SB__TAG_TIMEDELTA)
		return make_timedelta(cursor, why);
	err = sb__next_when(cursor, tag, &when);
	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	zone = make_zone(&when, why);
	if (!zone)
		return NULL;
	made = make_when(&when, tag, zone);
	Py_DECREF(zone);
	return made ? made : sb__no_value(why, "datetime");
}
