/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates in front of LMDB's two shared mutexes (writers, table of readers), so that processes never wait on
 * those themselves.
 *
 * Why: a robust mutex loses a wake-up when processes are killed. Unlocking wakes one waiter; if that one is
 * killed before it runs, while a newcomer has taken the free mutex without waiting, the kernel sees an owner
 * and wakes nobody, and the newcomer's unlock sees no waiters. Every other waiter then sleeps until somebody
 * else happens to contend, perhaps for ever. The kernel mends only the case without a newcomer
 * (handle_futex_death() in kernel/futex/core.c). tests/proc/test_store_gate.c makes it happen.
 *
 * A gate is a POSIX record lock far behind the end of lock.mdb: the kernel drops it with its process, wakes
 * everybody who waits for it, and a forked child does not inherit it. It belongs to the process, so its threads
 * take a private mutex first. Not an OFD lock: a child inherits those, and would keep its dead parent's.
 *
 * Behind a gate LMDB's mutex has at most two that want it (whoever finds the writers' mutex left by the dead
 * looks at the table of readers without its gate), and two cannot lose a wake-up of a third.
 *
 * Where the kernel refuses a lock (no memory for it), LMDB's own mutex still excludes.
 *
 * Lock order: store->lock, a gate, LMDB's mutex. Never two gates at once.
 *
 * Crash: a process killed at any line has its record lock dropped by the kernel, after its robust mutexes are
 * marked: whoever comes through the gate next recovers LMDB's mutex.
 */
#include <errno.h>

#include "os_linux.h"
#include "store_impl.h"

#define GATES_AT ((off_t)1 << 40) /* LMDB locks byte 0 and one byte for each pid */
#define RETRY_NS 100000u

void sb__gates_init(struct sb__store *store)
{
	for (int i = 0; i < SB__GATE_COUNT; i++)
		(void)pthread_mutex_init(&store->gates[i], NULL);
}

void sb__gate_enter(struct sb__store *store, enum sb__gate gate)
{
	(void)pthread_mutex_lock(&store->gates[gate]);
	/* The kernel looks for deadlocks between processes, not threads: two processes with a thread at either
	 * gate look like one to it, but go on. */
	while (sb__os_posix_lock(store->guard, GATES_AT + (off_t)gate) == -EDEADLK)
		sb__os_sleep(RETRY_NS);
}

void sb__gate_leave(struct sb__store *store, enum sb__gate gate)
{
	(void)sb__os_posix_unlock(store->guard, GATES_AT + (off_t)gate);
	(void)pthread_mutex_unlock(&store->gates[gate]);
}
