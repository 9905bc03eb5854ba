/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doorbell of a designated owner process: which of its sessions have work, and the word that its
 * service threads sleep on. Also the word by which callers learn at once that it died.
 */
#ifndef SB_SHM_BELL_H
#define SB_SHM_BELL_H

#include "layout.h"
#include "spin.h"

struct sb__bell {
	struct sb__bell_shm *shm;
	struct sb__identity owner; /* private copy */
	bool mine;                 /* made by this process */
	bool held;                 /* the keeper holds the alive mutex */
	bool ending;               /* sb__bell_wake_all() was called */
	unsigned int nudges_seen;  /* standby threads: nudges already answered */
	struct sb__spin spin;      /* the leader's */
	pthread_mutex_t sleepers_lock;
	int sleepers; /* of this process, in sb__bell_sleep() */
};

/* Owner. bell_dir: directory fd. Made whole, then renamed to "<slot>.<generation>". */
int sb__bell_create(int bell_dir, const struct sb__identity *self, struct sb__bell *ret);
/* Caller. SB_EOWNERDIED if there is no such file, SB_EVERSION, SB_EPROTOCOL. */
int sb__bell_attach(int bell_dir, uint32_t slot, uint32_t generation, struct sb__bell *ret);
/* Unmaps, nothing else: after the keeper let go. Also right in a forked child. */
void sb__bell_detach(struct sb__bell *bell);
/* In a forked child of the owner: to it the bell is another's, which it only rings. */
void sb__bell_inherited(struct sb__bell *bell);
/* Idempotent. 0 or SB_ESYSTEM. */
int sb__bell_unlink(int bell_dir, uint32_t slot, uint32_t generation);

/* The keeper thread takes the alive mutex for as long as it runs, and lets go before it ends by itself.
 * FUTEX_WAITERS is set in its word at once, so that the kernel always wakes. SB_ESYSTEM if it cannot be
 * had: then callers learn of a death by asking, which is slower. Both by the same thread, never in a forked
 * child. */
int sb__bell_alive_hold(struct sb__bell *bell);
void sb__bell_alive_release(struct sb__bell *bell);
/* The keeper, now and then: puts its word and the header right where a peer wrote over them. */
void sb__bell_mend(struct sb__bell *bell);
/* Caller: did the kernel mark it? One load. Never true for an owner whose keeper runs. */
bool sb__bell_owner_died(const struct sb__bell *bell);
/* The futex word to wait on beside another, and the value that means alive. NULL where there is nothing to
 * wait for: the keeper does not hold it, or has died. */
sb__word32 *sb__bell_alive_word(struct sb__bell *bell, unsigned int *ret_expected);
/* Caller that was woken by the alive word, or saw the death: the kernel woke only one, this wakes the
 * others. */
void sb__bell_pass_on(struct sb__bell *bell);

/* Caller: session has work. Rings if the leader sleeps; true if it did. A full barrier must lie between
 * making the work visible and this (every read-modify-write of atomics.h is one). Also for the owner
 * itself, to put a session back. */
bool sb__bell_ring(struct sb__bell *bell, uint32_t session_index);
/* Caller: its request was not picked up for a while; wakes a standby thread. */
void sb__bell_nudge(struct sb__bell *bell);

/* Leader: next session index with work, its bit taken; -1 if none. *cursor makes it fair (start with 0). */
int sb__bell_take(struct sb__bell *bell, uint32_t *cursor);
/* Has any session work? */
bool sb__bell_waiting(struct sb__bell *bell);
/* Leader: has any session work but this one? */
bool sb__bell_others(const struct sb__bell *bell, uint32_t session_index);
/* Leader: where it runs, for callers that decide how to wait. Returns whether it is elsewhere than who rang last. */
bool sb__bell_placed(struct sb__bell *bell);
/* Leader, one thread at a time: sleeps until rung or timeout_ns passes; spins first, for at most spin_ns
 * and as long as that has paid of late. Returns true if there may be work. */
bool sb__bell_sleep(struct sb__bell *bell, uint64_t timeout_ns, uint64_t spin_ns);
/* Standby: sleeps until nudged (true) or timeout (false). A nudge that came while nobody stood by is not
 * lost. */
bool sb__bell_standby(struct sb__bell *bell, uint64_t timeout_ns);
/* Owner itself, to end: wakes leader and standby; from now on nobody sleeps on this bell. */
void sb__bell_wake_all(struct sb__bell *bell);

#endif
