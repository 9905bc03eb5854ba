/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the nth system call, or the nth allocation, of this process fail, whoever makes it: this library, LMDB, libcbor. A
 * program that links this has its own malloc(), open() and so on, which libraries then use, too. Not under a
 * sanitizer, which has its own.
 */
#ifndef SB_TESTS_FAULTS_H
#define SB_TESTS_FAULTS_H

#include <stdbool.h>

enum fault_kind { FAULT_CALL, FAULT_MEMORY };

bool fault_possible(void);
/* From now on the nth of its kind fails, and with always all after it. */
void fault_arm(enum fault_kind kind, unsigned nth, bool always);
/* How many failed. */
unsigned fault_disarm(void);
/* The function that failed first; "" if none did. */
const char *fault_name(void);
/* Allocations that are not freed. */
long fault_live(void);
/* Is the function one that clears away, so that if it fails something may stay? */
bool fault_is_clearing(const char *name);

#endif
