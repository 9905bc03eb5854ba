/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clock for everything that times out: CLOCK_MONOTONIC, the same in all processes of a boot,
 * upset neither by setting the time nor by suspend (it stands still while the machine sleeps, so
 * nothing expires that could not have been used).
 */
#ifndef SB_BASE_CLOCK_H
#define SB_BASE_CLOCK_H

#include <stdint.h>

uint64_t sb__now_ns(void);        /* CLOCK_MONOTONIC */
uint64_t sb__now_ms(void);        /* CLOCK_MONOTONIC in milliseconds */
uint64_t sb__now_coarse_ms(void); /* CLOCK_MONOTONIC_COARSE: within 4 ms, a few nanoseconds to read */
int64_t sb__wall_ms(void);        /* CLOCK_REALTIME, only for people to read */

#endif
