/* SPDX-License-Identifier: Apache-2.0 */
#include "hand.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

int hand_open(struct hand *hand, const char *dir)
{
	int err;

	memset(hand, 0, sizeof(*hand));
	err = sb__bridge_dir_open(dir, true, &hand->dir);
	if (err)
		return err;
	err = sb__store_open(hand->dir.boot, true, sb__layout_fingerprint(), &hand->store);
	if (err)
		sb__bridge_dir_close(&hand->dir);
	return err;
}

static int hold(void *arg, uint32_t slot)
{
	struct hand *hand = arg;

	return sb__life_hold(hand->dir.boot, slot, &hand->pin);
}

static void drop(void *arg, uint32_t slot)
{
	struct hand *hand = arg;

	(void)slot;
	sb__life_drop(hand->pin);
	hand->pin = NULL;
}

int hand_attach(struct hand *hand, const char *dir)
{
	int err = hand_open(hand, dir);

	if (!err)
		err = sb__identity_self(&hand->self);
	if (!err)
		err = sb__store_process_add(hand->store, &hand->self, hold, drop, hand);
	return err;
}

void hand_close(struct hand *hand)
{
	if (hand->bell.shm) {
		sb__bell_detach(&hand->bell);
		sb__bell_unlink(hand->dir.bell, hand->self.slot, hand->self.generation);
	}
	if (hand->pin) {
		sb__store_process_remove(hand->store, hand->self.slot, hand->self.generation);
		sb__life_drop(hand->pin);
	}
	sb__store_close(hand->store);
	sb__bridge_dir_close(&hand->dir);
}

struct sb__session_rec hand_wish(const struct hand *hand, const char *id)
{
	struct sb__session_rec rec = { .designated = hand->self,
		                       .max_refs = 10000,
		                       .designated_mode = SB_DESIGNATED_SELF,
		                       .on_full = SB_ON_FULL_EVICT,
		                       .ttl_ms = 3600 * 1000 };

	snprintf(rec.session_id, sizeof(rec.session_id), "%s", id);
	return rec;
}

static struct sb__owner_rec owner_of(struct hand *hand, uint64_t uid)
{
	return (struct sb__owner_rec){ .session_uid = uid,
		                       .slot = hand->self.slot,
		                       .generation = hand->self.generation,
		                       .handle = ++hand->handles,
		                       .pid = hand->self.pid,
		                       .joined_wall_ms = sb__wall_ms() };
}

int hand_serve(struct hand *hand, struct sb__session_rec *wish, bool as_owner,
               struct sb__mailbox **ret_mailbox)
{
	struct sb__owner_rec owner = owner_of(hand, 0);
	struct sb__mailbox_params params = { .owner = hand->self,
		                             .max_refs = wish->max_refs,
		                             .ttl_ms = wish->ttl_ms };
	struct sb__mailbox *mailbox;
	int err;

	err = sb__store_session_create(hand->store, wish, as_owner ? &owner : NULL);
	if (err != 1)
		return err < 0 ? err : SB_EINVAL;
	err = hand->bell.shm ? 0 : sb__bell_create(hand->dir.bell, &hand->self, &hand->bell);
	if (err)
		return err;
	params.incarnation = wish->incarnation;
	params.session_id = wish->session_id;
	err = sb__mailbox_create(hand->dir.mailbox, &params, &mailbox);
	if (err)
		return err;
	if (ret_mailbox)
		*ret_mailbox = mailbox;
	else
		sb__mailbox_detach(mailbox);
	err = sb__store_session_activate(hand->store, wish->session_id, wish->incarnation);
	wish->state = SB_SESSION_ACTIVE;
	return err == 1 ? 0 : SB_EBUG;
}

int hand_join(struct hand *hand, const char *id, struct sb__session_rec *ret,
              struct sb__mailbox **ret_mailbox)
{
	struct sb__session_rec rec;
	struct sb__owner_rec owner;
	int err = sb__store_session_get(hand->store, id, &rec);

	if (err != 1)
		return err < 0 ? err : SB_ENOSESSION;
	owner = owner_of(hand, rec.uid);
	err = sb__store_owner_add(hand->store, id, &owner);
	if (err != 1)
		return err < 0 ? err : SB_ERELEASED;
	if (ret)
		*ret = rec;
	return ret_mailbox ? sb__mailbox_attach(hand->dir.mailbox, rec.incarnation, ret_mailbox) : 0;
}

/* ── children ── */

int child_start(struct child *child, const char *dir, int (*act)(struct hand *hand, void *arg), void *arg)
{
	struct hand hand;
	int fds[2], err = SB_EBUG;

	if (pipe(fds))
		return SB_ESYSTEM;
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody behind */
		close(fds[0]);
		err = hand_attach(&hand, dir);
		if (!err && act)
			err = act(&hand, arg);
		if (err)
			fprintf(stderr, "child: %s: %s\n", sb_error_name(err), sb_last_error()->message);
		if (write(fds[1], &err, sizeof(err)) == sizeof(err))
			for (;;)
				pause();
		_exit(1);
	}
	close(fds[1]);
	child->fd = fds[0];
	if (child->pid < 0 || read(child->fd, &err, sizeof(err)) != sizeof(err))
		return SB_EBUG;
	return err;
}

void child_kill(struct child *child, bool reap)
{
	siginfo_t info;

	kill(child->pid, SIGKILL);
	/* It is dead when this returns; without reap it stays a zombie. */
	waitid(P_PID, (id_t)child->pid, &info, WEXITED | (reap ? 0 : WNOWAIT));
	close(child->fd);
}
