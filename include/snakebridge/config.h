/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: every knob of the library, and its value for this process.
 *
 * The first of these that sets a knob takes precedence: the call (sb_request), the session handle (sb_session_options),
 * the bridge (sb_bridge_options), the process's code (sb_config_set()), the environment (SNAKEBRIDGE_…), the default.
 * A bridge takes the process's values when it is first opened in the process; later changes do not reach it. A
 * dedicated owner is a process of its own: it inherits the environment, but not what was set in code.
 */
#ifndef SNAKEBRIDGE_CONFIG_H
#define SNAKEBRIDGE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One knob. Strings are static; "" where there is none. Grows at the end; size is the library's. */
typedef struct sb_config_knob {
	size_t size;
	const char *name;
	const char *environment; /* variable */
	const char *option;      /* fields that take precedence over it */
	const char *text;        /* what it is */
	int is_number;           /* else text: set by environment or option only */
	uint64_t default_number, min, max;
	const char *default_text;
} sb_config_knob;

/*
 * The knob with this index, from 0; NULL past the last one. Never freed.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_config_knob *sb_config_describe(size_t index);

/*
 * Sets a number for this process; it applies to bridges opened afterwards.
 *
 * Errors: SB_EINVAL (no such knob, one that is text, or out of range).  Threads: any.  Fork: inherited.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_config_set(const char *name, uint64_t value);

/*
 * The number in effect in this process: set in code, else the environment's, else the default.
 *
 * Errors: SB_EINVAL (no such knob, one that is text, or its variable is not a number or out of range).
 * Threads: any, but not while another calls setenv().  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_config_get(const char *name, uint64_t *ret_value);

#ifdef __cplusplus
}
#endif
#endif
