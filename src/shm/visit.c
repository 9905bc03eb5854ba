/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short visits to mailboxes: attach, do one thing, detach. For those who end sessions that they do not use.
 *
 * Locks: none.
 * Crash: a kill between the end and the ring: the designated owner sees the end when it glances around. What a kill
 * before the end leaves, the reaper ends by the grave.
 */
#include "visit.h"

#include "bell.h"

void sb__visit_end(int mailbox_dir, int bell_dir, uint64_t incarnation, enum sb__mailbox_state state)
{
	const struct sb__mailbox_header_shm *header;
	struct sb__mailbox *mailbox;
	struct sb__bell bell;

	if (sb__mailbox_attach(mailbox_dir, incarnation, &mailbox) < 0)
		return;
	header = sb__mailbox_header(mailbox);
	sb__mailbox_end(mailbox, state);
	if (sb__bell_attach(bell_dir, header->owner.slot, header->owner.generation, &bell) == 0) {
		sb__bell_ring(&bell, header->bell_index); /* so that it drops the objects now */
		sb__bell_detach(&bell);
	}
	sb__mailbox_detach(mailbox);
}

uint64_t sb__visit_last_access(int mailbox_dir, uint64_t incarnation)
{
	struct sb__mailbox *mailbox;
	uint64_t ms;

	if (sb__mailbox_attach(mailbox_dir, incarnation, &mailbox) < 0)
		return 0;
	ms = sb__load(&sb__mailbox_control(mailbox)->last_access_ms);
	sb__mailbox_detach(mailbox);
	return ms;
}
