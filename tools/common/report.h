/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as tools write them: on stderr, as text for people or as one JSON object. */
#ifndef SB_TOOLS_REPORT_H
#define SB_TOOLS_REPORT_H

#include <stdio.h>

#include "options.h"
#include "snakebridge/error.h"

/*
 * Writes the error and returns the exit status that goes with it.
 *
 *	sb-call: the ref was released: …
 *	{"schema":1,"error":{"code":"SB_EREFRELEASED","number":-32,"outcome":"refused","message":"…",
 *	 "advice":"…","errno":0,"trace_id":"…","session":"…","other_session":"…",
 *	 "python":{"type":"…","message":"…","traceback":"…"}}}
 *
 * session, other_session, trace_id and python are left out where there is nothing to say.
 */
int tool_report(const struct tool *tool, const sb_error *error);

/* Writes only the object that stands for the error there, without a newline. */
void tool_error_write(FILE *to, const sb_error *error);

/* Writes a usage error; see tool_usage(). The JSON has the code "usage" and no number. */
void tool_report_usage(const struct tool *tool, const char *message);

/* The exit status for an error: by outcome and code; see TOOL_EXIT_…. */
int tool_exit_status(const sb_error *error);

#endif
