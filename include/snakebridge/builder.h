/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building values step by step, where a format for sb_value_pack() is not enough:
 *
 *	sb_builder *b = sb_builder_new();
 *	sb_builder_begin(b, SB_KIND_DICT);
 *	sb_builder_str(b, "rows");
 *	sb_builder_begin(b, SB_KIND_LIST);
 *	for (size_t i = 0; i < n; i++)
 *		sb_builder_float(b, row[i]);
 *	sb_builder_end(b);
 *	sb_builder_end(b);
 *	err = sb_builder_finish(b, &value);
 *
 * No step reports an error: the first one is remembered, later steps do nothing, and sb_builder_finish(), which also frees
 * the builder, returns it.
 */
#ifndef SNAKEBRIDGE_BUILDER_H
#define SNAKEBRIDGE_BUILDER_H

#include "snakebridge/value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sb_builder sb_builder;

/*
 * Creates a builder of one value. Never returns NULL: if memory runs out, sb_builder_finish() reports it.
 *
 * Errors: none (sb_builder_finish() reports them).  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_builder *sb_builder_new(void);

/*
 * Begins a container; its items are what is added up to the matching sb_builder_end(). SB_KIND_LIST, TUPLE, SET, FROZENSET;
 * SB_KIND_DICT: keys and values in turn; SB_KIND_SLICE and SB_KIND_RANGE: start, stop and step; SB_KIND_FRACTION: numerator
 * and denominator. If keys of a dict are equal, Python keeps the last.
 *
 * Errors: none (sb_builder_finish() reports them).  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_builder_begin(sb_builder *builder, sb_kind kind);
/* Ends the innermost open container. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_end(sb_builder *builder);

/*
 * Each of these adds one value of the kind in its name; what a pointer points to is copied.
 *
 * Errors: none (sb_builder_finish() reports them).  Threads: one at a time.  Fork: a copy in each.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_builder_none(sb_builder *builder);
/* As sb_builder_none(): a bool. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_bool(sb_builder *builder, bool v);
/* As sb_builder_none(): an int. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_int(sb_builder *builder, int64_t v);
/* As sb_builder_none(): an int. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_uint64(sb_builder *builder, uint64_t v);
/* As sb_builder_none(): an int, from its magnitude, the most significant byte first; at most SB_BIGINT_MAX bytes. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_bigint(sb_builder *builder, bool negative, const void *magnitude, size_t len);
/* As sb_builder_none(): an int, from its decimal digits, at most 150000, with or without "-". Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_int_text(sb_builder *builder, const char *digits);
/* As sb_builder_none(): a float. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_float(sb_builder *builder, double v);
/* As sb_builder_none(): a complex. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_complex(sb_builder *builder, double real, double imaginary);
/* As sb_builder_none(): a str; NULL gives None. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_str(sb_builder *builder, const char *text);
/* As sb_builder_none(): a str of len bytes, UTF-8, or WTF-8 if it has lone surrogates. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_str_len(sb_builder *builder, const char *text, size_t len);
/* As sb_builder_none(): a bytes. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_bytes(sb_builder *builder, const void *bytes, size_t len);
/* As sb_builder_none(): a bytearray. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_bytearray(sb_builder *builder, const void *bytes, size_t len);
/* As sb_builder_none(): a datetime. zone_len 0 means that zone is NUL-terminated. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_datetime(sb_builder *builder, const sb_datetime *when);
/* As sb_builder_datetime(): a date, of the first three fields. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_date(sb_builder *builder, const sb_datetime *when);
/* As sb_builder_datetime(): a time, of all fields but the first three. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_time(sb_builder *builder, const sb_datetime *when);
/* As sb_builder_none(): a timedelta, as sb_value_timedelta() has it. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_timedelta(sb_builder *builder, int64_t seconds, int32_t microseconds);
/* As sb_builder_none(): a Decimal, from its text: "1.50", "-1E+400", "NaN". Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_decimal(sb_builder *builder, const char *text);
/* As sb_builder_none(): a UUID. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_uuid(sb_builder *builder, const uint8_t uuid[16]);
/* As sb_builder_none(): the Ellipsis. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_ellipsis(sb_builder *builder);
/* As sb_builder_none(): a ref. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_ref(sb_builder *builder, const sb_ref *ref);
/* As sb_builder_none(): any value, copied; NULL gives None. Errors: none. Threads: one at a time. Fork: a copy in each. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API void sb_builder_value(sb_builder *builder, const sb_value *value);

/*
 * Makes the value, which the caller owns, and frees the builder in any case. *ret_value is untouched on failure.
 *
 * Errors: SB_EINVAL (an error of an earlier step; nothing was added; a container is still open), SB_ENOMEM, SB_ETOOBIG,
 * SB_ETOODEEP.  Threads: one at a time.  Fork: a copy in each.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_builder_finish(sb_builder *builder, sb_value **ret_value);

/*
 * Frees a builder without finishing it; NULL is fine.
 *
 * Errors: none.  Threads: any, once.  Fork: frees this process's copy.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void sb_builder_free(sb_builder *builder);

#ifdef __cplusplus
}
#endif
#endif
