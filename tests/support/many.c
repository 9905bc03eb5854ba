/* SPDX-License-Identifier: Apache-2.0 */
#include "many.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "os_linux.h"

struct holding {
	struct many *many;
	void *pin;
};

static int hold(void *arg, uint32_t slot)
{
	struct holding *h = arg;

	return sb__life_hold(h->many->hand.dir.boot, slot, &h->pin);
}

static void drop(void *arg, uint32_t slot)
{
	struct holding *h = arg;

	(void)slot;
	sb__life_drop(h->pin);
	h->pin = NULL;
}

static int add_process(struct many *many)
{
	struct holding h = { .many = many };
	struct sb__identity *identity = &many->process[many->processes].identity;
	int err = sb__identity_self(identity);

	if (!err)
		err = sb__store_process_add(many->hand.store, identity, hold, drop, &h);
	many->process[many->processes].pin = h.pin;
	many->processes += !err;
	return err;
}

static struct sb__owner_rec owner_of(const struct sb__identity *identity, uint64_t uid, uint32_t handle)
{
	return (struct sb__owner_rec){ .session_uid = uid,
		                       .slot = identity->slot,
		                       .generation = identity->generation,
		                       .handle = handle,
		                       .pid = identity->pid,
		                       .joined_wall_ms = sb__wall_ms() };
}

static int add_file(struct many *many, uint64_t incarnation, const char *suffix)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%016" PRIx64 "%s", incarnation, suffix);
	fd = sb__os_openat(many->hand.dir.mailbox, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return SB_ESYSTEM;
	sb__os_close(fd);
	return 0;
}

static int add_session(struct many *many, unsigned number)
{
	const struct sb__identity *first = &many->process[number % many->processes].identity;
	const struct sb__identity *second = &many->process[(number + 1) % many->processes].identity;
	struct sb__session_rec rec;
	struct sb__owner_rec owner;
	char id[32];
	int err;

	many->hand.self = *first;
	snprintf(id, sizeof(id), "s%u", number);
	rec = hand_wish(&many->hand, id);
	owner = owner_of(first, 0, number + 1);
	err = sb__store_session_create(many->hand.store, &rec, &owner);
	if (err != 1)
		return err < 0 ? err : SB_EBUG;
	owner = owner_of(second, rec.uid, number + 1);
	if (sb__store_owner_add(many->hand.store, id, &owner) != 1 ||
	    sb__store_session_activate(many->hand.store, id, rec.incarnation) != 1)
		return SB_EBUG;
	err = add_file(many, rec.incarnation, "");
	return err ? err : add_file(many, rec.incarnation, ".refs");
}

int many_make(struct many *many, const char *dir, unsigned processes, unsigned sessions)
{
	int err;

	memset(many, 0, sizeof(*many));
	err = hand_open(&many->hand, dir);
	for (unsigned i = 0; i < processes && !err; i++)
		err = add_process(many);
	for (unsigned i = 0; i < sessions && !err; i++)
		err = add_session(many, i);
	return err;
}

void many_kill(struct many *many, unsigned process)
{
	sb__life_drop(many->process[process].pin);
	many->process[process].pin = NULL;
}

void many_drop(struct many *many)
{
	for (unsigned i = 0; i < many->processes; i++)
		if (many->process[i].pin)
			many_kill(many, i);
	sb__store_close(many->hand.store);
	sb__bridge_dir_close(&many->hand.dir);
}
