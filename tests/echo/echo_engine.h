/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine without Python, for tests of what lies around it: it starts at once, and a process that has one can be forked,
 * stepped through and killed by the thousand. A program that calls echo_engine_use() has it in place of the loader.
 *
 *   echo X    X as it was sent         size N   N bytes         nap MS   sleeps, then None
 *   ask F     what the C function F    else     None
 *             gives for no arguments
 */
#ifndef SB_TESTS_ECHO_ENGINE_H
#define SB_TESTS_ECHO_ENGINE_H

#include <stdatomic.h>

void echo_engine_use(void);

/* It interrupts nothing. So many times it does not know the call that is to be cancelled; then it does, and counts. */
extern atomic_uint echo_engine_unknown, echo_engine_told;

#endif
