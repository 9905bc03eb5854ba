/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays to and from other libraries: DLPack tensors and columns of the Arrow C data interface. Both are structs with a fixed
 * layout (dlpack.h; arrow/c/abi.h), so none of their headers is needed here.
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
 * A tensor over an array's memory, without a copy. It keeps the memory until its deleter is called.
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_EKIND (a dtype that DLPack does not have, or foreign byte order), SB_EDENIED (read-only: DLPack
 * cannot express that).  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_to_dlpack(sb_array *array, struct DLManagedTensor **ret_tensor);

/*
 * A shared array, in C order, with a copy of a tensor in ordinary memory. On success the tensor's deleter has been called.
 *
 * Errors: SB_EINVAL, SB_EKIND (another device, vectors, a type that arrays do not have), and as sb_array_new().
 * Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from_dlpack(sb_session *session, struct DLManagedTensor *tensor, sb_array **ret_array);

/*
 * A column over the memory of a one-dimensional array, without nulls and without a copy. It keeps the memory until its
 * release callback is called.
 * name may be NULL. Numbers, "S8" (fixed-size binary), "M8[s]" and "m8[s]" (s, ms, us, ns).
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_EKIND (not one dimension without gaps; a dtype that Arrow does not have, such as bool,
 * whose bits Arrow packs).  Threads: any.  Fork: safe.  Blocks: no.  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_to_arrow(sb_array *array, const char *name, struct ArrowArray *ret_column,
                             struct ArrowSchema *ret_schema);

/*
 * A shared array with a copy of a column. On success column and schema have been released.
 *
 * Errors: SB_EINVAL, SB_EKIND (nulls, or a type that arrays do not have), and as sb_array_new().
 * Threads: any.  Fork: as sb_array_new().  Blocks: as sb_array_new().  Crash: as sb_array_new().  Since: 0.1
 */
SB_API int sb_array_from_arrow(sb_session *session, struct ArrowArray *column, struct ArrowSchema *schema,
                               sb_array **ret_array);

#ifdef __cplusplus
}
#endif
#endif
