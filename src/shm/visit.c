/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Visits to mailboxes: attach, do one thing, detach or stay for the next. For those who end sessions that they do not use.
 *
 * Locks: none.
 * Crash: a kill between the end and the ring: the designated owner sees the end when it glances around. What a kill
 * before the end leaves, the reaper ends by the grave.
 */
#include "visit.h"

#include "bell.h"

int sb__visitor_enter(struct sb__visitor *visitor, uint64_t incarnation)
{
	int r;

	if (visitor->mailbox && visitor->incarnation == incarnation)
		return 0;
	sb__visitor_leave(visitor);
	r = sb__mailbox_attach(visitor->mailbox_dir, incarnation, &visitor->mailbox);
	visitor->incarnation = incarnation;
	return r;
}

void sb__visitor_leave(struct sb__visitor *visitor)
{
	if (visitor->mailbox)
		sb__mailbox_detach(visitor->mailbox);
	visitor->mailbox = NULL;
}

void sb__visitor_end(struct sb__visitor *visitor, uint64_t incarnation, enum sb__mailbox_state state)
{
	const struct sb__mailbox_header_shm *header;
	struct sb__bell bell;

	if (sb__visitor_enter(visitor, incarnation) < 0)
		return;
	header = sb__mailbox_header(visitor->mailbox);
	sb__mailbox_end(visitor->mailbox, state);
	if (sb__bell_attach(visitor->bell_dir, header->owner.slot, header->owner.generation, &bell) == 0) {
		sb__bell_ring(&bell, header->bell_index); /* so that it drops the objects now */
		sb__bell_detach(&bell);
	}
}

uint64_t sb__visitor_last_access(struct sb__visitor *visitor, uint64_t incarnation)
{
	if (sb__visitor_enter(visitor, incarnation) < 0)
		return 0;
	return sb__load(&sb__mailbox_control(visitor->mailbox)->last_access_ms);
}

void sb__visit_end(int mailbox_dir, int bell_dir, uint64_t incarnation, enum sb__mailbox_state state)
{
	struct sb__visitor visitor = { .mailbox_dir = mailbox_dir, .bell_dir = bell_dir };

	sb__visitor_end(&visitor, incarnation, state);
	sb__visitor_leave(&visitor);
}

uint64_t sb__visit_last_access(int mailbox_dir, uint64_t incarnation)
{
	struct sb__visitor visitor = { .mailbox_dir = mailbox_dir, .bell_dir = -1 };
	uint64_t ms = sb__visitor_last_access(&visitor, incarnation);

	sb__visitor_leave(&visitor);
	return ms;
}
