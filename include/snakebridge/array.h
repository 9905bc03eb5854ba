/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays: numbers and fixed-size text in memory that C and Python share.
 *
 * sb_array_new() gives memory that a session's Python sees as a NumPy array over the very same bytes when the array is
 * passed as an argument: nothing is copied, whatever its size, and what either side writes the other sees. An array that a
 * call returns is a snapshot (one copy), or with SB_CALL_AS_VIEW the object's own memory (none).
 *
 * An sb_array is counted. Its memory lives as long as somebody has it: this process by references, others by what
 * they keep of it (Python objects over it included), and forked children, which go on reading what they inherited.
 * A process that dies keeps nothing. References go back before the bridge is closed; afterwards the memory can still be
 * read, but what another process shared may be used for something else by then.
 *
 * dtype is NumPy's: "float64", "f8" or "<f8"; "U5", "S8", "M8[ns]". Inside the second and third are one: the form that
 * sb_array_dtype() gives.
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
 * A new array, in C order, in memory that is shared with the session's designated owner. What is in it is not defined.
 * session NULL: the thread's current one. *ret_array has one reference.
 *
 * Errors: SB_EINVAL (dtype, ndim, shape), SB_ETOOBIG (max_array_bytes), SB_ENOSPACE (file system, max_arena_bytes),
 * SB_ENOMEM, SB_ESYSTEM; SB_ENOBRIDGE and what attaching reports.  Threads: any.  Fork: a child reads and writes the
 * same memory; its unref leaves it alone.  Blocks: while memory is reserved.
 * Crash: a killed process's arrays live on while others keep them.  Since: 0.1
 */
SB_API int sb_array_new(sb_session *session, const char *dtype, int ndim, const size_t *shape,
                        sb_array **ret_array);

/*
 * The same, filled with data, which is in C order: one copy. A small one stays in ordinary memory and travels in the message.
 *
 * Errors: as sb_array_new().  Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().
 * Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from(sb_session *session, const char *dtype, int ndim, const size_t *shape,
                         const void *data, sb_array **ret_array);

/*
 * Takes a reference; returns its argument. NULL is fine.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API sb_array *sb_array_ref(sb_array *array);

/*
 * Gives a reference back; the last one frees. NULL is fine.
 *
 * Errors: none.  Threads: any.  Fork: a child frees nothing of its parent's.  Blocks: no.
 * Crash: as sb_array_new().  Since: 0.1
 */
SB_API void sb_array_unref(sb_array *array);

/*
 * Where element 0 lies. Strides say where the others do.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_array_data(const sb_array *array);

/*
 * The same to write to; NULL (and the error SB_EDENIED) if the array is read-only.
 *
 * Errors: SB_EDENIED.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API void *sb_array_writable(sb_array *array);

/* The dtype, as NumPy's dtype.str: "<f8". Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const char *sb_array_dtype(const sb_array *array);
/* How many dimensions; 0 to SB_ARRAY_NDIM_MAX. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_array_ndim(const sb_array *array);
/* Lengths of the dimensions. Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const size_t *sb_array_shape(const sb_array *array);
/* Bytes from an element to the next, by dimension; may be negative or 0. Borrowed. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API const int64_t *sb_array_strides(const sb_array *array);
/* Bytes of one element. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_itemsize(const sb_array *array);
/* How many elements. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_count(const sb_array *array);
/* Bytes of all elements, without gaps. Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API size_t sb_array_nbytes(const sb_array *array);
/* May it not be written to? Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_readonly(const sb_array *array);
/* Does it lie in shared memory, so that passing it copies nothing? Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_shared(const sb_array *array);
/* Are its elements next to each other, in C order? Errors: none. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API bool sb_array_is_contiguous(const sb_array *array);

/*
 * All elements as a C array: of this dtype, in C order without gaps. NULL (and the error SB_EKIND) if they are not.
 *   const double *x = sb_array_as(a, "float64", &n);
 * ret_count may be NULL.
 *
 * Errors: SB_EKIND, SB_EINVAL (dtype).  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const void *sb_array_as(const sb_array *array, const char *dtype, size_t *ret_count);

/*
 * One element as a number, whatever the numeric dtype. index: one for each dimension.
 *
 * Errors: SB_EINVAL (an index is out of range), SB_EKIND (not a real number; for an int, not an integer of 64 bits).
 * Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_array_get_float(const sb_array *array, const size_t *index, double *ret);
/* As sb_array_get_float(). Errors: SB_EINVAL, SB_EKIND. Threads: any. Fork: safe. Blocks: no. Crash: nothing shared. Since: 0.1 */
SB_API int sb_array_get_int(const sb_array *array, const size_t *index, int64_t *ret);

/*
 * The array in a value; NULL (and the error SB_EKIND) if it is none. Borrowed: keep it by sb_array_ref().
 *
 * Errors: SB_EKIND.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API sb_array *sb_value_array(const sb_value *value);

#ifdef __cplusplus
}
#endif
#endif
