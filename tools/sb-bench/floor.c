/* SPDX-License-Identifier: Apache-2.0 */
/* The floor of a call: two words between two processes, spinning or by futex. */
#include "bench.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct pingpong {
	uint32_t ping __attribute__((aligned(64)));
	uint32_t pong __attribute__((aligned(64)));
	pid_t peer __attribute__((aligned(64)));
	bool spin;
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void await(uint32_t *word, uint32_t until, bool spin)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != until) {
		if (spin)
			relax();
		else
			syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
}

static void put(uint32_t *word, uint32_t value, bool spin)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	if (!spin)
		syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

struct pingpong *pingpong_start(const struct bench *bench, int cpu, bool spin)
{
	struct pingpong *pp = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t peer;

	if (pp == MAP_FAILED)
		give_up("memory: %s", strerror(errno));
	pp->spin = spin;
	peer = fork();
	if (peer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		place(bench, getpid(), cpu);
		for (uint32_t i = 1;; i++) {
			await(&pp->ping, i, spin);
			put(&pp->pong, i, spin);
		}
	}
	pp->peer = peer;
	if (spin)
		kill(peer, SIGSTOP); /* it runs while it is measured, and not beside us */
	return pp;
}

double pingpong_ns(struct pingpong *pp, unsigned n)
{
	double begun, took;

	if (pp->spin) {
		kill(pp->peer, SIGCONT);
		put(&pp->ping, pp->ping + 1, true); /* it is there */
		await(&pp->pong, pp->ping, true);
	}
	begun = now_ns();
	for (unsigned i = 0; i < n; i++) {
		put(&pp->ping, pp->ping + 1, pp->spin);
		await(&pp->pong, pp->ping, pp->spin);
	}
	took = now_ns() - begun;
	if (pp->spin)
		kill(pp->peer, SIGSTOP);
	return took / n;
}

void pingpong_stop(struct pingpong *pp)
{
	kill(pp->peer, SIGKILL);
	waitpid(pp->peer, NULL, 0);
	munmap(pp, 4096);
}
