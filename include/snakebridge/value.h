/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: what calls return and take.
 *
 * An sb_value is an immutable tree. Whoever receives the root owns it (sb_value_free); everything reached from
 * it is borrowed and valid as long as the root. A tree is one block of memory, whatever is in it; None, bools and
 * ints from -16 to 255 need none.
 *
 * An sb_args is the argument list of one call, positional and keyword. A call consumes it, whether the call
 * succeeds or not, so sb_method(s, ref, "fit", sb_args("oo", x, y), NULL) leaks nothing.
 */
#ifndef SNAKEBRIDGE_VALUE_H
#define SNAKEBRIDGE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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

#define SB_BIGINT_MAX   (1u << 20) /* bytes of an int's magnitude at most; larger ints come back as refs */
#define SB_ZONE_KEY_MAX 255        /* bytes of a zone's key at most */

/*
 * A datetime, date or time as in Python; fields that a date or time does not have are 0. The zone is one of:
 *
 *   has_offset  zone            Python's tzinfo
 *   no          NULL            none: naive
 *   yes         NULL            timezone(timedelta(microseconds=utc_offset_us))
 *   yes         a name          timezone(…, name)
 *   no          a key           zoneinfo.ZoneInfo(key), whose rules give the offset: "Europe/Berlin"
 */
typedef struct sb_datetime {
	int year, month, day; /* 1 to 9999, 1 to 12, 1 to 31 */
	int hour, minute, second, microsecond;
	int fold; /* 1: the second of two times that read the same on the clock */
	bool has_offset;
	int64_t utc_offset_us; /* microseconds east of UTC, less than a day */
	const char *zone;      /* UTF-8; NUL-terminated if it comes from the library */
	size_t zone_len;
} sb_datetime;

/*
 * Frees a root, as returned by a call or sb_value_pack(); NULL is fine. Never pass a borrowed value.
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
 * Static name of a kind as Python names it: "NoneType", "bool", "int", …, "ref"; "?" if unknown.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_kind_name(sb_kind kind);

/*
 * The value of a scalar. *ret is untouched on failure. sb_value_float() also accepts an int.
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
 * An int from 0 to UINT64_MAX. For one that is negative or larger it fails with SB_EKIND.
 *
 * Errors: SB_EINVAL (ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_uint64(const sb_value *value, uint64_t *ret);

/*
 * The magnitude of an int beyond int64_t: its bytes, most significant first, without leading zeros. NULL (and the error
 * SB_EKIND) for any other value; an int that fits int64_t is SB_KIND_INT. Either ret may be NULL. Borrowed.
 * sb_value_text() gives the decimal digits.
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
 * A timedelta: seconds, rounded down, plus 0 to 999999 microseconds.
 *
 * Errors: SB_EINVAL (a ret is NULL), SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_timedelta(const sb_value *value, int64_t *ret_seconds, int32_t *ret_microseconds);

/*
 * The text of a Decimal as Python's str() gives it: "1.50", "-0", "1E+400", "NaN", without loss. NULL (and the
 * error SB_EKIND) if the value is not a Decimal. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_value_decimal(const sb_value *value);

/*
 * The 16 bytes of a UUID; NULL (and the error SB_EKIND) if the value is not one. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const uint8_t *sb_value_uuid(const sb_value *value);

/*
 * The two ints of a Fraction, in lowest terms if it comes from Python; the denominator is positive. Borrowed.
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
 * Whether a str has lone surrogates. If so it has no UTF-8 form; its bytes are then WTF-8: UTF-8 in which each surrogate is
 * encoded like any other character, in three bytes (Python: str.encode("utf-8", "surrogatepass")).
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API bool sb_value_has_surrogates(const sb_value *value);

/*
 * The bytes of a str, NUL-terminated for convenience; NULL (and the error SB_EKIND) for any other value.
 * ret_len: bytes without the NUL; may be NULL. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_value_str(const sb_value *value, size_t *ret_len);

/*
 * The bytes of a bytes or bytearray; NULL (and the error SB_EKIND) for any other value. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_value_bytes(const sb_value *value, size_t *ret_len);

/*
 * The ref in a value; NULL (and the error SB_EKIND) if it is not one. Borrowed: copy the struct to keep it
 * longer than the value.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_ref *sb_value_ref(const sb_value *value);

/*
 * The number of items of a list, tuple, set or frozenset, of pairs of a dict, or of bytes of a str, bytes or
 * bytearray; 0 for other kinds.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API size_t sb_value_len(const sb_value *value);

/*
 * Item i of a list, tuple, set or frozenset, value i of a dict, part i of a Fraction, range or slice; NULL if there is
 * no such item. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_at(const sb_value *value, size_t i);

/*
 * Key i of a dict; NULL if there is no such key. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_key_at(const sb_value *value, size_t i);

/*
 * The value for a str key of a dict; NULL if there is no such key, or value is not a dict. Borrowed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_value *sb_value_lookup(const sb_value *value, const char *key);

/*
 * An argument list from a format. Positional arguments come first, then keyword arguments, written as name=code and
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
 *   a  array, reference taken     sb_array * (array.h; NULL gives None)
 *   L  int                        uint64_t
 *   z  int of any size            const char *: its decimal digits (NULL gives None)
 *   c  complex                    double, double
 *   t  datetime                   const sb_datetime * (NULL gives None; zone_len 0: zone is NUL-terminated)
 *   T  timedelta                  int64_t seconds, int microseconds
 *   D  Decimal                    const char *: its text (NULL gives None)
 *   U  UUID                       const uint8_t * to 16 bytes
 *   Y  bytearray                  const void *, size_t
 *   w  str                        const char *, size_t (UTF-8, or WTF-8 if it has lone surrogates)
 *   k  C function, sb_args() only sb_callback_fn, void * (callback.h; a NULL function gives None)
 *   .  Ellipsis                   no argument
 *   [codes]  (codes)  <codes>     list, tuple, set
 *   {codes}                       dict: key and value codes in turn
 *   *  any number of values       const sb_value *const *, size_t: "[*]" is a list of them, "*"
 *                                 positional arguments, "{*}" a dict of keys and values in turn
 *
 * Never returns NULL. If the format is wrong or memory runs out, the call that consumes the result fails
 * with that error, so there is nothing to check in between.
 *
 * Errors: reported by the call that consumes it (SB_EINVAL, SB_ENOMEM, SB_ETOOBIG).
 * Threads: any.  Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_args *sb_args_pack(const char *format, ...);
#define sb_args(...) sb_args_pack(__VA_ARGS__)

/*
 * Appends a positional (name NULL) or keyword argument, copied. args: from sb_args(), for instance sb_args(""); still
 * owned by the caller.
 *
 * Errors: SB_EINVAL (args is NULL), else as a later call would report.  Threads: one at a time.
 * Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_args_add(sb_args *args, const char *name, const sb_value *value);

/*
 * Frees an argument list that no call has consumed; NULL is fine.
 *
 * Errors: none.  Threads: any, once.  Fork: frees this process's copy.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_args_free(sb_args *args);

/*
 * One value from a format as for sb_args(), without keywords: sb_value_pack(&v, "{s[ii]}", "k", 1, 2).
 * The caller owns *ret_value.
 *
 * Errors: SB_EINVAL (format, or not exactly one value), SB_ENOMEM, SB_ETOOBIG.  Threads: any.
 * Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_pack(sb_value **ret_value, const char *format, ...);

/*
 * Unpacks a value into variables. The format mirrors sb_value_pack()'s; spaces, ',' and ':' between codes are
 * ignored:  sb_value_unpack(v, "{s:i, s?:[dd], *}", "n", &n, "pair", &x, &y)
 *
 *   n  must be None                  no argument
 *   b  bool                          bool *
 *   i l L  int that fits             int *, int64_t *, uint64_t *
 *   d  float or int                  double *
 *   c  complex                       double *, double *
 *   s  str without NUL               const char **
 *   u  str                           const char **, size_t *
 *   y  bytes, bytearray              const void **, size_t *
 *   t  datetime, date, time          sb_datetime *
 *   T  timedelta                     int64_t *, int32_t *
 *   D  Decimal                       const char **
 *   U  UUID                          uint8_t * to 16 bytes
 *   r  ref                           sb_ref * (copied)
 *   a  array                         sb_array ** (array.h; borrowed)
 *   o  anything                      const sb_value **
 *   [codes]  (codes)                 list, tuple: with exactly as many items
 *   {key code …}                     dict: s, i or l with the key itself (const char *, int, int64_t), then a code for
 *                                    its value. s? : the key may be missing; its variables are then left alone
 *   code?                            or None, which leaves the variables alone
 *   *  before a closing bracket      there may be more items or keys
 *
 * Pointers that it stores are borrowed from the value. An error says where and what: `at ["items"][3]: is str, not int`;
 * variables for earlier parts may have been set by then.
 *
 * Errors: SB_EINVAL (format), SB_EKIND (the value has another shape).  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_unpack(const sb_value *value, const char *format, ...);

/*
 * An independent copy; arrays in it are shared, not copied. The caller owns *ret_value.
 *
 * Errors: SB_EINVAL (ret_value is NULL), SB_ENOMEM.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.
 * Since: 0.1
 */
SB_API int sb_value_copy(const sb_value *value, sb_value **ret_value);

/*
 * Whether two values are equal, as Python's == would say: bool, int, float and complex by number, whatever their kinds (a
 * nan equals nothing); set and frozenset, bytes and bytearray by content; dicts and sets in any order; Decimals by number;
 * ranges by the numbers they contain; aware times at fixed offsets by the moment. Differences from Python: identity does
 * not make values equal; Decimals and Fractions equal only their own kind; times in named zones are equal if their fields
 * and zones are; arrays are equal if they are the same array; refs, if they name the same object. Comparing dicts or sets
 * takes time proportional to the product of their sizes unless their order is the same.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API bool sb_value_equal(const sb_value *a, const sb_value *b);

/*
 * The value as one line of JSON, as all tools write it. What JSON can express is written plainly, ints with all their digits;
 * the rest is an object whose key begins with '$': {"$float": "nan"}, {"$tuple": […]}, {"$bytes": "base64"},
 * {"$ref": "sbref:…", "type": "module.Type"}, {"$dict": [[key, value], …]} and so on (docs/formats/json.md).
 * *ret_text is NUL-terminated; free it with free().
 *
 * Errors: SB_EINVAL (ret_text is NULL), SB_ENOMEM, SB_ETOOBIG.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_to_json(const sb_value *value, char **ret_text);

/*
 * A value from JSON text as sb_value_to_json() writes it. Arrays cannot be read back. The caller owns *ret_value.
 *
 * Errors: SB_EINVAL (NULL, not JSON, or an object with an unknown '$' key), SB_EREFMALFORMED, SB_ENOMEM,
 * SB_ETOOBIG, SB_ETOODEEP.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_from_json(const char *text, sb_value **ret_value);

/*
 * The value as Python's str() would give it, for people and for numbers too big for C: a str as it is, an int of any
 * size in decimal, everything else as by Python's repr() (a ref as <module.Type …>). *ret_text is NUL-terminated; free it
 * with free(). Ints of more than 150000 digits are written in hexadecimal.
 *
 * Errors: SB_EINVAL (ret_text is NULL), SB_ENOMEM, SB_ETOOBIG.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_value_text(const sb_value *value, char **ret_text);

/*
 * Writes the value as Python's repr() would show it, without a newline.
 *
 * Errors: SB_EINVAL (file is NULL), SB_ENOMEM, SB_ETOOBIG, SB_ESYSTEM (writing failed).  Threads: any.  Fork: safe.
 * Blocks: as writing to the file does.  Crash: nothing shared but the file.  Since: 0.1
 */
SB_API int sb_value_print(const sb_value *value, FILE *file);

/* sb_value_foreach(item, value) statement  runs the statement for each item of a list, tuple, set or frozenset, or each value
 * of a dict; it declares item, a const sb_value *. */
#define sb_value_foreach(item, value)                                                        \
	for (size_t sb_i_##item = 0, sb_once_##item = 1; sb_once_##item; sb_once_##item = 0) \
		for (const sb_value *item; (item = sb_value_at((value), sb_i_##item)) != NULL; sb_i_##item++)

#ifdef __cplusplus
}
#endif
#endif
