/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays in calls. */
#ifndef SB_SESSION_ARRAYS_H
#define SB_SESSION_ARRAYS_H

#include "core.h"

/* Can the arrays among these arguments be had through this bridge? SB_EINVAL. */
int sb__arrays_check(const struct sb__core *core, const struct sb_args *args);

#endif
