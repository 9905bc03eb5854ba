/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a process is, and whether it still lives.
 *
 * A bare pid never identifies a process. kill(pid, 0) is the quick first question; the life token
 * decides: one byte of the bridge's life file, locked (F_OFD_SETLK) through a description that only a
 * MADV_DONTFORK mapping keeps open. The kernel frees it exactly when that process image is gone: by
 * death, even as a zombie, or by exec; never by a stray close or a forked child (HAZARDS 2).
 */
#ifndef SB_BASE_IDENTITY_H
#define SB_BASE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#define SB__SLOTS_MAX 4096 /* processes attached to one bridge at a time */

/* Fixed layout: also stored in LMDB records and shared memory headers. */
struct sb__identity {
	uint32_t slot;       /* byte of the life file, 0 … SB__SLOTS_MAX - 1 */
	uint32_t generation; /* of the slot: 16 bits used, grows each time the slot is taken */
	int32_t pid;
	uint32_t uid;
	uint64_t start_time;  /* /proc/PID/stat field 22, clock ticks since boot */
	uint64_t pid_ns;      /* inode of /proc/self/ns/pid */
	uint64_t incarnation; /* random: fences a recycled (slot, pid, start time) */
	int64_t joined_wall_ms;
	uint8_t boot_id[16];
	char program[32]; /* for people: name of the executable, NUL-terminated */
};

/* Which boot this is, and in which pid namespace this process is (may be NULL). 0 or SB_ESYSTEM. */
int sb__identity_place(uint8_t ret_boot_id[16], uint64_t *ret_pid_ns);
/* This process: everything but slot and generation, which are left 0. */
int sb__identity_self(struct sb__identity *ret);

/* State letter and start time of a process from /proc/PID/stat; pid 0: this process. For people and for
 * evidence, never alone a proof of death. 0 or -errno. ret_state may be NULL. */
int sb__process_stat(int32_t pid, char *ret_state, uint64_t *ret_start_time);

enum sb__liveness {
	SB__ALIVE = 1,
	SB__DEAD = 2,
	SB__UNSURE = 3 /* cannot tell: treat as alive */
};

/* How a verdict was reached: static text such as "life token free", "no such pid". */
struct sb__evidence {
	enum sb__liveness verdict;
	const char *how;
};

/*
 * Is the process that identity names alive? life_fd: a description of the life file that holds no lock.
 * Verdict: another boot id -> dead. kill() gives ESRCH and same pid namespace -> dead. Else the token:
 * free -> dead, held -> alive unless start time or state prove that the slot was taken over (then the
 * caller compares generations). Errors of the question itself -> unsure.
 */
struct sb__evidence sb__liveness_check(int life_fd, const struct sb__identity *identity);
/* The same for those who only care whether it is dead: one system call, not nine, for the token alone decides. Says
 * alive where sb__liveness_check() would be unsure whether another process has taken the slot meanwhile. */
struct sb__evidence sb__liveness_quick(int life_fd, const struct sb__identity *identity);

/* Takes the life token of a slot. dirfd: directory of the file "life", which must exist with at least
 * one page. *ret_pin keeps it. 0, -EAGAIN if another process has it, or -errno. */
int sb__life_hold(int dirfd, uint32_t slot, void **ret_pin);
/* Keeps forks out of it from now on, which sb__life_hold() does by itself. Of fork handlers the last that was registered takes its
 * locks first: who calls it with locks of its own held that fork() takes, too, calls this before it registers these. */
int sb__life_guard(void);
void sb__life_drop(void *pin); /* in the process that took it; not in a forked child */

#endif
