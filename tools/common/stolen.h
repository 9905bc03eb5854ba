/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host of a virtual machine takes of its CPUs' time. While a CPU is away nothing can be done there, and whoever waits
 * for it waits on: figures mean little where that is more than next to nothing.
 */
#ifndef SB_TOOLS_STOLEN_H
#define SB_TOOLS_STOLEN_H

#include <stdio.h>
#include <unistd.h>

/* Of all CPUs, in seconds since the machine started; 0 where it is not told. Source: proc_stat(5), "steal". */
static inline double stolen_seconds(void)
{
	FILE *f = fopen("/proc/stat", "r");
	unsigned long long ticks = 0;

	if (!f)
		return 0;
	if (fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks) != 1)
		ticks = 0;
	fclose(f);
	return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* Of the last seconds, since stolen_seconds() said before. */
static inline double stolen_percent(double before, double seconds)
{
	return 100 * (stolen_seconds() - before) / (seconds * (double)sysconf(_SC_NPROCESSORS_ONLN));
}

#endif
