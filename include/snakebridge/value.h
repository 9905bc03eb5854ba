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
	SB_KIND_STR = 4, /* UTF-8, may hold NUL bytes */
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
 * The bytes of a str, NUL-terminated for convenience; NULL (and the error SB_EKIND) if it is none.
 * ret_len: bytes without the NUL; may be NULL. Borrowed.
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_value_str(const sb_value *value, size_t *ret_len);

/*
 * The bytes of a bytes; NULL (and the error SB_EKIND) if it is none. Borrowed.
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
 * How many items a list, tuple or dict has (pairs for a dict), or bytes a str or bytes has; 0 for
 * other kinds.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API size_t sb_value_len(const sb_value *value);

/*
 * Item i of a list or tuple, value i of a dict; NULL if there is none. Borrowed.
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
