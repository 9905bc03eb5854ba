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
 */
#ifndef SB_TESTS_SIM_ENGINE_H
#define SB_TESTS_SIM_ENGINE_H

#include <stdint.h>

/* Told of each request that begins to run: its number, in the table of which incarnation. */
extern void (*sim_engine_began)(uint64_t number, uint64_t incarnation);

#endif
