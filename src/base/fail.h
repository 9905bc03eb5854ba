/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread's error record: where a failure is known, its message is set there, and the code is
 * passed up unchanged.   return sb__fail(SB_EID, "session id \"%s\" …", id);
 */
#ifndef SB_BASE_FAIL_H
#define SB_BASE_FAIL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/error.h"

/* Sets the record afresh (all other fields empty) and returns code. Keeps errno. */
int sb__fail(int code, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
/* The same with sys_errno; the text of errnum is appended to the message as ": text". */
int sb__fail_errno(int code, int errnum, const char *fmt, ...) SB_PRINTF_LIKE(3, 4);
/* Out of memory, naming what was to be allocated. Allocates nothing. */
int sb__fail_memory(const char *what);

/* Add to the record just set. Strings are copied and capped. NULL counts as "". */
void sb__fail_set_outcome(int outcome);
void sb__fail_set_sessions(const char *session_id, const char *other_session_id);
void sb__fail_set_trace(uint64_t trace_id);
void sb__fail_set_python(const char *type, const char *message, const char *traceback);

/* Log line to the hook, if one is set. */
void sb__log(sb_log_level level, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);

#endif
