/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for numbers. Pure.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include "names.h"

#define NAME(names, number) ((number) < sizeof(names) / sizeof((names)[0]) ? (names)[number] : (names)[0])

const char *sb__session_state_name(uint32_t state)
{
	static const char *const names[] = { "?", "starting", "active", "orphaned", "ended" };

	return NAME(names, state);
}

const char *sb__mailbox_state_name(const struct sb__mailbox_facts *mailbox)
{
	static const char *const names[] = { "?", "serving", "released", "expired", "orphaned" };

	if (!mailbox->present)
		return "none";
	return mailbox->error ? "unreadable" : NAME(names, mailbox->state);
}

const char *sb__lane_state_name(unsigned state)
{
	static const char *const names[] = {
		"free", "idle", "ready", "busy", "done", "abandoned", "cancelled"
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

const char *sb__liveness_name(struct sb__evidence evidence)
{
	return evidence.verdict == SB__ALIVE ? "alive" : evidence.verdict == SB__DEAD ? "dead" : "unsure";
}

const char *sb__designated_name(uint32_t mode)
{
	static const char *const names[] = { "?", "self", "dedicated", "attach-only" };

	return NAME(names, mode);
}

const char *sb__on_full_name(uint32_t on_full)
{
	static const char *const names[] = { "?", "evict", "error" };

	return NAME(names, on_full);
}
