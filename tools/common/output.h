/* SPDX-License-Identifier: Apache-2.0 */
/* Standard streams that a shell closed, or that are full: a tool that could not say its answer has failed. */
#ifndef SB_TOOLS_OUTPUT_H
#define SB_TOOLS_OUTPUT_H

struct tool;

/* Puts something in the place of each closed stream, before a file of the bridge gets its number: stdin ends at
 * once, writing to stdout or stderr fails. tool_parse() does it. */
void tool_streams_open(void);
/* Streams of that kind swallow what is written from now on: for a process that stays, whose Python may print. */
void tool_streams_swallow(void);

/* Flushes stdout. Returns status, or TOOL_EXIT_ATTACH for TOOL_EXIT_OK where output was lost, which is said once. */
int tool_finish(const struct tool *tool, int status);

#endif
