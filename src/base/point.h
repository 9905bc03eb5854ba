/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named points on every step that another process can see, where a test kills or stops the process that comes by.
 * They exist only where SNAKEBRIDGE_POINTS is defined (presets dev, asan, tsan); a release has nothing of them.
 *
 * A name is "what.step" and says what has just been done, so "lane.ready" is the first moment at which others can see the
 * READY. Each is used once. The list is made by the linker: every SB_POINT() of a program or library is in it.
 */
#ifndef SB_BASE_POINT_H
#define SB_BASE_POINT_H

#ifndef SNAKEBRIDGE_POINTS
#define SB_POINT(name) ((void)0)
#else

#include <stdatomic.h>
#include <stddef.h>

struct sb__point {
	const char *name;
};

extern atomic_bool sb__points_watched; /* anything to be done at points in this process? */

#define SB_POINT(name)                                                                                    \
	do {                                                                                              \
		static const struct sb__point point_here = { name };                                      \
		static const struct sb__point *point_listed                                               \
			__attribute__((section("sb_points"), used)) = &point_here;                        \
		if (__builtin_expect(atomic_load_explicit(&sb__points_watched, memory_order_relaxed), 0)) \
			sb__point_hit(&point_listed);                                                     \
	} while (0)

void sb__point_hit(const struct sb__point **listed);

enum sb__point_action { SB__POINT_KILL, SB__POINT_STOP };

/* How many points there are, and the name of one. */
size_t sb__point_count(void);
const char *sb__point_name(size_t index);

/*
 * In this process, and in those forked off later: at the nth time (1 = the next) that any of its threads comes to that
 * point, the process gets SIGKILL or SIGSTOP. index SIZE_MAX: nothing is armed any more. A program takes an order from the
 * environment, too: SB_POINT=<name>:<nth>[:stop].
 */
void sb__point_arm(size_t index, unsigned nth, enum sb__point_action action);

/* Counts how often each point is passed in counts[sb__point_count()], which may be memory shared with the children;
 * NULL: not any more. */
void sb__point_count_in(atomic_uint *counts);

#endif
#endif
