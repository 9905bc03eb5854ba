/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays: numbers and fixed-size text in memory that C and Python share.
 *
 * When an array from sb_array_new() is passed as an argument, the session's Python sees it as a NumPy array over the very
 * same bytes: nothing is copied, whatever its size, and each side sees what the other writes. An array that a call returns
 * is a snapshot (one copy), or with SB_CALL_AS_VIEW the object's own memory (no copy).
 *
 * An sb_array is reference-counted. Its memory lives as long as anything uses it: references in this process, holds of
 * other processes (their Python objects over it included), or forked children, which can go on reading what they inherited.
 * A process that dies holds on to nothing. Drop all references before closing the bridge: afterwards the memory can still
 * be read, but memory shared by another process may have been reused by then.
 *
 * dtype is NumPy's: "float64", "f8" or "<f8"; "U5", "S8", "M8[ns]". sb_array_dtype() gives the form "<f8" for all three.
 */
#ifndef SNAKEBRIDGE_ARRAY_H
#define SNAKEBRIDGE_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/session.h"
#include "snakebridge/value.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SB_ARRAY_NDIM_MAX 32
#define SB_DTYPE_MAX      31 /* bytes of a dtype's name */

typedef struct sb_array sb_array;

/*
 * Creates an array, in C order, in memory shared with the session's designated owner. Its contents are undefined.
 * session NULL: the thread's current context. *ret_array has one reference, owned by the caller.
 *
 * Errors: SB_EINVAL (dtype, ndim, shape), SB_ETOOBIG (max_array_bytes), SB_ENOSPACE (file system, max_arena_bytes),
 * SB_ENOMEM, SB_ESYSTEM; SB_ENOBRIDGE and what attaching reports.  Threads: any.  Fork: a child reads and writes the
 * same memory; its unref frees nothing.  Blocks: while memory is reserved.
 * Crash: a killed process's arrays live on while others hold them.  Since: 0.1
 */
SB_API int sb_array_new(sb_session *session, const char *dtype, int ndim, const size_t *shape,
                        sb_array **ret_array);

/*
 * As sb_array_new(), filled with a copy of data, which is in C order. A small array stays in ordinary memory and travels in
 * the message.
 *
 * Errors: as sb_array_new().  Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().
 * Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from(sb_session *session, const char *dtype, int ndim, const size_t *shape,
                         const void *data, sb_array **ret_array);

/*
 * Adds a reference; returns its argument. NULL is fine.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API sb_array *sb_array_ref(sb_array *array);

/*
 * Drops a reference; the last one frees the array. NULL is fine.
 *
 * Errors: none.  Threads: any.  Fork: a child frees nothing of its parent's.  Blocks: no.
 * Crash: as sb_array_new().  Since: 0.1
 */
SB_API void sb_array_unref(sb_array *array);

/*
 * The address of element 0; the strides give those of the others.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_array_data(const sb_array *array);

/*
 * As sb_array_data(), for writing; NULL (and the error SB_EDENIED) if the array is read-only.
 *
 * Errors: SB_EDENIED.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void *sb_array_writable(sb_array *array);

/* The dtype, as NumPy's dtype.str: "<f8". Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const char *sb_array_dtype(const sb_array *array);
/* The number of dimensions, 0 to SB_ARRAY_NDIM_MAX. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_array_ndim(const sb_array *array);
/* The lengths of the dimensions. Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const size_t *sb_array_shape(const sb_array *array);
/* Bytes from one element to the next in each dimension; may be negative or 0. Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const int64_t *sb_array_strides(const sb_array *array);
/* Bytes of one element. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_itemsize(const sb_array *array);
/* The number of elements. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_count(const sb_array *array);
/* Bytes of all elements together, without gaps. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_nbytes(const sb_array *array);
/* Whether it is read-only. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_readonly(const sb_array *array);
/* Whether it is in shared memory, so that passing it copies nothing. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_shared(const sb_array *array);
/* Whether its elements are in C order without gaps. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_contiguous(const sb_array *array);

/*
 * All elements as a C array. NULL (and the error SB_EKIND) unless the array has this dtype and is in C order without gaps.
 *   const double *x = sb_array_as(a, "float64", &n);
 * ret_count may be NULL.
 *
 * Errors: SB_EKIND, SB_EINVAL (dtype).  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_array_as(const sb_array *array, const char *dtype, size_t *ret_count);

/*
 * One element as a number, whatever the numeric dtype. index: an index for each dimension.
 *
 * Errors: SB_EINVAL (an index is out of range), SB_EKIND (not a real number; for sb_array_get_int(), not an integer that fits int64_t).
 * Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_array_get_float(const sb_array *array, const size_t *index, double *ret);
/* As sb_array_get_float(). Errors: SB_EINVAL, SB_EKIND. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_array_get_int(const sb_array *array, const size_t *index, int64_t *ret);

/*
 * The array in a value; NULL (and the error SB_EKIND) if it is not one. Borrowed: keep it with sb_array_ref().
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_array *sb_value_array(const sb_value *value);

#ifdef __cplusplus
}
#endif
#endif
