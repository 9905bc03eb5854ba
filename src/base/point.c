/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens at named points, for tests only. Without SNAKEBRIDGE_POINTS this file is empty.
 *
 * Locks: none. Crash: that is its purpose.
 */
#include "point.h"

#ifdef SNAKEBRIDGE_POINTS

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os_linux.h"

/* Made by the linker; weak, for a program or plugin may have no point at all. */
extern const struct sb__point *first_point[] __asm__("__start_sb_points")
	__attribute__((weak, visibility("hidden")));
extern const struct sb__point *points_end[] __asm__("__stop_sb_points")
	__attribute__((weak, visibility("hidden")));

atomic_bool sb__points_watched;

static _Atomic size_t armed = SIZE_MAX;
static atomic_int action;
static atomic_uint times_left;
static atomic_uint *_Atomic counts;

size_t sb__point_count(void)
{
	return (size_t)(points_end - first_point);
}

const char *sb__point_name(size_t index)
{
	return first_point[index]->name;
}

static void watch(void)
{
	atomic_store(&sb__points_watched, atomic_load(&counts) || atomic_load(&armed) != SIZE_MAX);
}

void sb__point_arm(size_t index, unsigned nth, enum sb__point_action what)
{
	atomic_store(&armed, SIZE_MAX);
	atomic_store(&times_left, nth);
	atomic_store(&action, (int)what);
	atomic_store(&armed, index);
	watch();
}

void sb__point_count_in(atomic_uint *where)
{
	atomic_store(&counts, where);
	watch();
}

void sb__point_hit(const struct sb__point **listed)
{
	size_t index = (size_t)(listed - first_point);
	atomic_uint *counted = atomic_load(&counts);

	if (counted)
		atomic_fetch_add(&counted[index], 1);
	if (index == atomic_load(&armed) && atomic_fetch_sub(&times_left, 1) == 1)
		(void)sb__os_kill(getpid(), atomic_load(&action) == SB__POINT_STOP ? SIGSTOP : SIGKILL);
}

/* SB_POINT=<name>:<nth>[:stop], so that programs that are started can be told, too. */
__attribute__((constructor)) static void arm_by_environment(void)
{
	const char *order = getenv("SB_POINT"), *nth = order ? strchr(order, ':') : NULL;

	for (size_t i = 0; nth && i < sb__point_count(); i++)
		if (strlen(sb__point_name(i)) == (size_t)(nth - order) &&
		    strncmp(sb__point_name(i), order, (size_t)(nth - order)) == 0)
			sb__point_arm(i, (unsigned)strtoul(nth + 1, NULL, 10),
			              strstr(nth, ":stop") ? SB__POINT_STOP : SB__POINT_KILL);
}

#endif
