/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process of a bridge made by hand from the lower layers: slot, life token, doorbell, sessions, lanes. No
 * Python and no service thread, so a test can put it into any state and kill it there. All functions return
 * 0 or an error.
 */
#ifndef SB_TESTS_HAND_H
#define SB_TESTS_HAND_H

#include <stdbool.h>
#include <sys/types.h>

#include "arena.h"
#include "bell.h"
#include "bridge_dir.h"
#include "mailbox.h"
#include "snakebridge/error.h"
#include "store.h"

struct hand {
	struct sb__bridge_dir dir;
	struct sb__store *store;
	struct sb__identity self;
	void *pin;
	struct sb__bell bell; /* shm NULL until hand_serve() */
	uint32_t handles;
};

/* Opens the bridge, making it if need be, and takes a slot. */
int hand_attach(struct hand *hand, const char *dir);
/* Only opens: no process of the bridge. */
int hand_open(struct hand *hand, const char *dir);
/* Gives up the slot, if any, in order, and closes. */
void hand_close(struct hand *hand);

/* A wish, designated to the hand: TTL one hour, not persistent. */
struct sb__session_rec hand_wish(const struct hand *hand, const char *id);
/* Creates the session of that wish (then the record) with the hand as designated owner, and as owner if
 * as_owner; makes bell and mailbox and activates it. ret_mailbox may be NULL. */
int hand_serve(struct hand *hand, struct sb__session_rec *wish, bool as_owner,
               struct sb__mailbox **ret_mailbox);
/* Becomes an owner of a session, and attaches to its mailbox (ret_mailbox NULL: not). */
int hand_join(struct hand *hand, const char *id, struct sb__session_rec *ret,
              struct sb__mailbox **ret_mailbox);

/* ── children ── */

struct child {
	pid_t pid;
	int fd; /* tells when it is ready */
};

/* Forks a child that attaches, runs act, and then waits for its death. Returns what act returned. */
int child_start(struct child *child, const char *dir, int (*act)(struct hand *hand, void *arg), void *arg);
/* SIGKILL; waits for it if reap. */
void child_kill(struct child *child, bool reap);

#endif
