/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: what calls return, and what goes into them.
 *
 * An sb_value is an immutable tree. The root belongs to whoever it was given to (sb_value_free);
 * everything reached from it is borrowed and lives as long as the root.
 *
 * An sb_args is the argument list of one call, positional and keyword. A call consumes it, whether
 * the call succeeds or not, so sb_method(s, ref, "fit", sb_args("oo", x, y), NULL) leaks nothing.
 */
#ifndef SNAKEBRIDGE_VALUE_H
#define SNAKEBRIDGE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/ref.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sb_value sb_value;
typedef struct sb_args sb_args;

/* Numbers are ABI: append only. */
typedef enum sb_kind {
	SB_KIND_NONE = 0,
	SB_KIND_BOOL = 1,
	SB_KIND_INT = 2, /* fits int64_t */
	SB_KIND_FLOAT = 3,
	SB_KIND_STR = 4, /* UTF-8, may hold NUL bytes; see sb_value_has_surrogates() */
	SB_KIND_BYTES = 5,
	SB_KIND_LIST = 6,
	SB_KIND_TUPLE = 7,
	SB_KIND_DICT = 8, /* pairs in Python's order; keys of any kind */
	SB_KIND_REF = 9,
	SB_KIND_BIGINT = 10, /* an int beyond int64_t */
	SB_KIND_COMPLEX = 11,
	SB_KIND_BYTEARRAY = 12,
	SB_KIND_SET = 13,
	SB_KIND_FROZENSET = 14,
	SB_KIND_DATETIME = 15,
	SB_KIND_DATE = 16,
	SB_KIND_TIME = 17,
	SB_KIND_TIMEDELTA = 18,
	SB_KIND_DECIMAL = 19,
	SB_KIND_FRACTION = 20,
	SB_KIND_UUID = 21,
	SB_KIND_RANGE = 22,
	SB_KIND_SLICE = 23,
	SB_KIND_ELLIPSIS = 24,
	SB_KIND_ARRAY = 25 /* ndarray and other buffers */
} sb_kind;

#define SB_BIGINT_MAX   (1u << 20) /* most bytes of an int's magnitude; larger ones come back as refs */
#define SB_ZONE_KEY_MAX 255        /* most bytes of a zone's key */

/*
 * A datetime, date or time as Python has it; the fields that a date or time has not are 0. The zone is one of:
 *
 *   has_offset  zone            Python's tzinfo
 *   no          NULL            none: naive
 *   yes         NULL            timezone(timedelta(microseconds=utc_offset_us))
 *   yes         a name          timezone(…, name)
 *   no          a key           zoneinfo.ZoneInfo(key), whose rules tell the offset: "Europe/Berlin"
 */
typedef struct sb_datetime {
	int year, month, day; /* 1 to 9999, 1 to 12, 1 to 31 */
	int hour, minute, second, microsecond;
	int fold; /* 1: the second of two times that the clock shows alike */
	bool has_offset;
	int64_t utc_offset_us; /* microseconds east of UTC, less than a day */
	const char *zone;      /* UTF-8; NUL-terminated where the library gives it */
	size_t zone_len;
} sb_datetime;

/*
 * Frees a root that a call or sb_value_pack() gave; NULL is fine. Never pass a borrowed value.
 *
 * Errors: none.  Threads: any, once.  Fork: frees this process's copy.  Blocks: no.
 * Crash: nothing shared (refs inside stay in their session).  Since: 0.1
 */
SB_API void sb_value_free(sb_value *value);

/*
 * The kind of a value. NULL counts as None.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_kind sb_value_kind(const sb_value *value);

/*
 * Static name of a kind as Python names it: "NoneType", "bool", "int", …, "ref"; "?" if not known.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_kind_name(sb_kind kind);

/*
 * The scalar inside. *ret is untouched on failure. sb_value_float() also takes an int.
 *
 * Errors: SB_EINVAL (ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_bool(const sb_value *value, bool *ret);
/* As sb_value_bool(). Errors: SB_EINVAL, SB_EKIND. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_value_int(const sb_value *value, int64_t *ret);
/* As sb_value_bool(). Errors: SB_EINVAL, SB_EKIND. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_value_float(const sb_value *value, double *ret);

/*
 * An int from 0 to UINT64_MAX. One that is negative or larger is SB_EKIND.
 *
 * Errors: SB_EINVAL (ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_uint64(const sb_value *value, uint64_t *ret);

/*
 * An int beyond int64_t: the bytes of its magnitude, the most significant first, without leading zeros. NULL (and the
 * error SB_EKIND) if it is none; an int that fits is SB_KIND_INT. Either ret may be NULL. Borrowed. sb_value_text()
 * gives the decimal digits.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const uint8_t *sb_value_bigint(const sb_value *value, bool *ret_negative, size_t *ret_len);

/*
 * The two parts of a complex. Both are untouched on failure.
 *
 * Errors: SB_EINVAL (a ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_complex(const sb_value *value, double *ret_real, double *ret_imaginary);

/*
 * The fields of a datetime, date or time. ret->zone is borrowed from the value.
 *
 * Errors: SB_EINVAL (ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_datetime(const sb_value *value, sb_datetime *ret);

/*
 * A timedelta: seconds, rounded down, and 0 to 999999 microseconds on top of them.
 *
 * Errors: SB_EINVAL (a ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_timedelta(const sb_value *value, int64_t *ret_seconds, int32_t *ret_microseconds);

/*
 * The text of a Decimal as Python's str() gives it: "1.50", "-0", "1E+400", "NaN". It says all there is. NULL (and the
 * error SB_EKIND) if the value is none. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_value_decimal(const sb_value *value);

/*
 * The 16 bytes of a UUID; NULL (and the error SB_EKIND) if the value is none. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const uint8_t *sb_value_uuid(const sb_value *value);

/*
 * The two ints of a Fraction, in its lowest terms if Python made it; the denominator is positive. Borrowed.
 *
 * Errors: SB_EINVAL (a ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_fraction(const sb_value *value, const sb_value **ret_numerator,
                             const sb_value **ret_denominator);

/*
 * Start, stop and step of a slice (each of any kind) or of a range (ints). Borrowed.
 *
 * Errors: SB_EINVAL (a ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_slice(const sb_value *value, const sb_value **ret_start, const sb_value **ret_stop,
                          const sb_value **ret_step);

/*
 * Has a str lone surrogates? Then it has no UTF-8 form: its bytes are UTF-8 but for the surrogates, which are written
 * as other characters are, in three bytes each (WTF-8; Python: str.encode("utf-8", "surrogatepass")).
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API bool sb_value_has_surrogates(const sb_value *value);

/*
 * The bytes of a str, NUL-terminated for convenience; NULL (and the error SB_EKIND) if it is none.
 * ret_len: bytes without the NUL; may be NULL. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_value_str(const sb_value *value, size_t *ret_len);

/*
 * The bytes of a bytes or bytearray; NULL (and the error SB_EKIND) if it is none. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_value_bytes(const sb_value *value, size_t *ret_len);

/*
 * The ref inside; NULL (and the error SB_EKIND) if the value is none. Borrowed: copy the struct to
 * keep it beyond the value.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_ref *sb_value_ref(const sb_value *value);

/*
 * How many items a list, tuple, set, frozenset or dict has (pairs for a dict), or bytes a str, bytes or
 * bytearray has; 0 for other kinds.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API size_t sb_value_len(const sb_value *value);

/*
 * Item i of a list, tuple, set or frozenset, value i of a dict, part i of a Fraction, range or slice; NULL if there is
 * none. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_at(const sb_value *value, size_t i);

/*
 * Key i of a dict; NULL if there is none. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_key_at(const sb_value *value, size_t i);

/*
 * The value of a dict's str key; NULL if there is none or value is no dict. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_lookup(const sb_value *value, const char *key);

/*
 * Argument list from a format. Positional arguments first, then keywords written as name=code,
 * separated by spaces:  sb_args("od n_jobs=i", x, 0.5, 4).
 *
 *   n  None                       no argument
 *   b  bool                       int
 *   i  int                        int
 *   l  int                        int64_t
 *   d  float                      double
 *   s  str                        const char * (UTF-8; NULL gives None)
 *   u  str                        const char *, size_t (UTF-8; may hold NUL bytes)
 *   y  bytes                      const void *, size_t
 *   o  any value, copied          const sb_value * (NULL gives None)
 *   r  ref, copied                const sb_ref *
 *   a  array, kept until then     sb_array * (array.h; NULL gives None)
 *   [codes]  (codes)              list, tuple
 *   {codes}                       dict: key and value codes in turn
 *   *  any number of values       const sb_value *const *, size_t: "[*]" is a list of them, "*"
 *                                 positional arguments, "{*}" a dict of keys and values in turn
 *
 * Never returns NULL. If the format is wrong or memory is short, the call that gets the result fails
 * with that error, so nothing need be checked in between.
 *
 * Errors: reported by the call that consumes it (SB_EINVAL, SB_ENOMEM, SB_ETOOBIG).
 * Threads: any.  Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_args *sb_args_pack(const char *format, ...);
#define sb_args(...) sb_args_pack(__VA_ARGS__)

/*
 * Appends a positional (name NULL) or keyword argument, copied. args: from sb_args(""), and still
 * the caller's.
 *
 * Errors: SB_EINVAL (args is NULL), else as a later call would report.  Threads: one at a time.
 * Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_args_add(sb_args *args, const char *name, const sb_value *value);

/*
 * Frees arguments that no call consumed; NULL is fine.
 *
 * Errors: none.  Threads: any, once.  Fork: frees this process's copy.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_args_free(sb_args *args);

/*
 * One value from a format as for sb_args(), without keywords: sb_value_pack(&v, "{s[ii]}", "k", 1, 2).
 * *ret_value becomes the caller's.
 *
 * Errors: SB_EINVAL (format, or not exactly one value), SB_ENOMEM, SB_ETOOBIG.  Threads: any.
 * Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_pack(sb_value **ret_value, const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
