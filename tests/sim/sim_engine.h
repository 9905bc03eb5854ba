/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter of the simulation: objects are numbers. It stands behind the same interface as Python does
 * (src/python/engine.h), and speaks the same messages.
 *
 *   call "make" (n)       a new object of value n: a ref
 *   call "echo" (n)       n
 *   call "raise" (n)      an exception
 *   call "work" (n, ms)   n after so long; as C code, it cannot be interrupted
 *   call "hang" (n, ms)   n after so long; as Python code, it can
 *   method "get" (n)      the object's value; release: drops it
 *   call "array" (n, v)   a new array, all of whose elements are v, in the owner's memory
 *   call "sum" (n, ms, a) what all elements of the array are, also after so long
 *   call "keep" (n, _, a) a new object: the array itself. "get": what its elements are
 *   method "view" (n)     the array of such an object
 *   call "ask" (n, k, f)  calls the function once or, if k is odd, twice: the sum of its answers, or its exception
 * And batches of these; the target of an item may be what an earlier one made.
 */
#ifndef SB_TESTS_SIM_ENGINE_H
#define SB_TESTS_SIM_ENGINE_H

#include <stdint.h>

#include "snakebridge/array.h"

/* Told of each request that begins to run: its number, in the table of which incarnation. */
extern void (*sim_engine_began)(uint64_t number, uint64_t incarnation);
/* Told of the array that a request brings, when it may be used: what its elements are. */
extern void (*sim_engine_saw)(uint64_t number, uint64_t seen);

#define SIM_ARRAY_COUNT 256u                  /* of uint64_t: more than travels in a message */
uint64_t sim_array_is(const sb_array *array); /* what all its elements are; UINT64_MAX: not the same */

#endif
