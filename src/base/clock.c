/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the clocks. Does not cache, convert between clocks or sleep.
 *
 * Locks: none.  Crash: nothing is kept anywhere.
 */
#include "clock.h"

#include <time.h>

#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MS  UINT64_C(1000000)

static uint64_t read_ns(clockid_t clock)
{
	struct timespec ts = { 0, 0 };

	/* Cannot fail: the ids are constants that every Linux has. */
	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t sb__now_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

uint64_t sb__now_ms(void)
{
	return read_ns(CLOCK_MONOTONIC) / NS_PER_MS;
}

uint64_t sb__now_coarse_ms(void)
{
	return read_ns(CLOCK_MONOTONIC_COARSE) / NS_PER_MS;
}

int64_t sb__wall_ms(void)
{
	return (int64_t)(read_ns(CLOCK_REALTIME) / NS_PER_MS);
}
