/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a service manager how the daemon is, by the protocol of sd_notify(3). */
#ifndef SB_TOOLS_REAPER_NOTIFY_H
#define SB_TOOLS_REAPER_NOTIFY_H

#include <stdint.h>

/* One message, "READY=1", "STATUS=…", "STOPPING=1". Nothing happens where no manager listens. */
void notify_send(const char *state);
/* How often the manager wants to hear "WATCHDOG=1" at the least; 0: it does not. */
uint64_t notify_watchdog_ms(void);

#endif
