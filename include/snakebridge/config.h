/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: every knob of the library, and its value for this process.
 *
 * What is said nearest to the matter holds: the call (sb_request) before the session handle (sb_session_options), the
 * bridge (sb_bridge_options), this process by code (sb_config_set()), the environment (SNAKEBRIDGE_…), the default.
 * A bridge takes the process's values when it is first opened in the process; later changes do not reach it. A
 * dedicated owner is a process of its own: it inherits the environment, not what was set by code.
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
	const char *option;      /* fields that go before it */
	const char *text;        /* what it is */
	int is_number;           /* else text: by environment and option only */
	uint64_t default_number, min, max;
	const char *default_text;
} sb_config_knob;

/*
 * Knob number index, from 0 on; NULL behind the last. Borrowed for ever.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const sb_config_knob *sb_config_describe(size_t index);

/*
 * Sets a number for this process, for bridges that are opened from now on.
 *
 * Errors: SB_EINVAL (no such knob, one that is text, or out of range).  Threads: any.  Fork: inherited.
 * Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_config_set(const char *name, uint64_t value);

/*
 * The number that holds in this process: set by code, else the environment's, else the default.
 *
 * Errors: SB_EINVAL (no such knob, one that is text, or its variable is no number or out of range).
 * Threads: any, but not beside setenv().  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_config_get(const char *name, uint64_t *ret_value);

#ifdef __cplusplus
}
#endif
#endif
