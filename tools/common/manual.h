/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages of tools, from the table that their --help is written from. */
#ifndef SB_TOOLS_MANUAL_H
#define SB_TOOLS_MANUAL_H

#include "options.h"

/* Writes the tool's page of section 1 to stdout. */
void tool_manual(const struct tool *tool);

#endif
