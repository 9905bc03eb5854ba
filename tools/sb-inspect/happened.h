/* SPDX-License-Identifier: Apache-2.0 */
/* sb-inspect events: what happened on the bridge. */
#ifndef SB_TOOLS_INSPECT_HAPPENED_H
#define SB_TOOLS_INSPECT_HAPPENED_H

#include <stdbool.h>

#include "options.h"
#include "snapshot.h"

extern const struct tool_option view_events_options[];
/* An option of these was given: makes sense with this view only. */
bool view_events_wanted(void);
/* --follow: it lasts until --timeout, so that is no failure. */
bool view_events_follows(void);
int view_events(struct sb__inspect *inspect, const char *none);

#endif
