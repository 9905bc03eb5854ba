/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays to and from other libraries: DLPack tensors and columns of the Arrow C data interface. Both are structs that everybody
 * declares alike (dlpack.h; arrow/c/abi.h), so no header of theirs is needed here.
 */
#ifndef SNAKEBRIDGE_EXCHANGE_H
#define SNAKEBRIDGE_EXCHANGE_H

#include "snakebridge/array.h"
#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

struct DLManagedTensor;
struct ArrowArray;
struct ArrowSchema;

/*
 * A tensor over an array's memory, which keeps it until its deleter is called. No copy.
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_EKIND (a dtype that DLPack has not, or of foreign byte order), SB_EDENIED (read-only: DLPack
 * cannot say so).  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_to_dlpack(sb_array *array, struct DLManagedTensor **ret_tensor);

/*
 * A shared array with a copy of a tensor in ordinary memory, in C order. On success the tensor's deleter was called.
 *
 * Errors: SB_EINVAL, SB_EKIND (another device, vectors, a type that arrays have not), and as sb_array_new().
 * Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from_dlpack(sb_session *session, struct DLManagedTensor *tensor, sb_array **ret_array);

/*
 * A column over the memory of an array of one dimension, without nulls, which keeps it until its release is called. No copy.
 * name may be NULL. Numbers, "S8" (fixed-size binary), "M8[s]" and "m8[s]" (s, ms, us, ns).
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_EKIND (not one dimension without gaps, a dtype that Arrow has not; bool is one, for
 * Arrow packs bits).  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_to_arrow(sb_array *array, const char *name, struct ArrowArray *ret_column,
                             struct ArrowSchema *ret_schema);

/*
 * A shared array with a copy of a column. On success column and schema were released.
 *
 * Errors: SB_EINVAL, SB_EKIND (nulls, or a type that arrays have not), and as sb_array_new().
 * Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from_arrow(sb_session *session, struct ArrowArray *column, struct ArrowSchema *schema,
                               sb_array **ret_array);

#ifdef __cplusplus
}
#endif
#endif
