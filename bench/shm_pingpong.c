/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an echo call through a lane costs beside a raw ping-pong between two processes, spinning and parked,
 * on one CPU and across two.
 *
 *   cmake --build build/release --target bench-shm_pingpong && build/release/bin/bench-shm_pingpong
 *
 * Prints medians and the best of rounds, interleaved, in nanoseconds per round trip. On a busy machine believe the best.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "shm_world.h"

#define ROUNDS 31

static const struct sb__spin parks_at_once = { .failures = SB__SPIN_FAILURES };

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (cpu >= 0)
		sched_setaffinity(0, sizeof(set), &set);
}

/* ── raw ping-pong: two words on two lines ── */

struct raw {
	volatile unsigned int ping __attribute__((aligned(64)));
	volatile unsigned int pong __attribute__((aligned(64)));
};

static void raw_wait(volatile unsigned int *word, unsigned int until, bool spin)
{
	unsigned int seen;

	while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != until) {
		if (spin)
			sb__pause();
		else
			sb__os_futex_wait((unsigned int *)word, seen, UINT64_C(100000000));
	}
}

static void raw_set(volatile unsigned int *word, unsigned int value, bool spin)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	if (!spin)
		sb__os_futex_wake((unsigned int *)word, 1);
}

static double raw_round(struct raw *raw, unsigned n, bool spin)
{
	uint64_t begun = sb__now_ns();

	for (unsigned i = 0; i < n; i++) {
		unsigned int next = raw->ping + 1;

		raw_set(&raw->ping, next, spin);
		raw_wait(&raw->pong, next, spin);
	}
	return (double)(sb__now_ns() - begun) / n;
}

static pid_t raw_peer(struct raw *raw, int cpu, bool spin)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(cpu);
	for (unsigned int i = 1;; i++) {
		raw_wait(&raw->ping, i, spin);
		raw_set(&raw->pong, i, spin);
	}
}

/* ── lanes ── */

static double lane_round(struct shm_world *world, uint32_t lane, bool spin, unsigned n)
{
	struct sb__lane_notes *learnt = sb__lane_notes(world->mailbox, lane);
	uint64_t begun = sb__now_ns();

	for (unsigned i = 0; i < n; i++) {
		if (!spin)
			learnt->spin = learnt->spin_woken = parks_at_once;
		if (world_call(world, lane, i, 16, UINT64_C(5000000000), NULL) != 0)
			abort();
	}
	return (double)(sb__now_ns() - begun) / n;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), ascending);
	return v[ROUNDS / 2];
}

static pid_t serve_on(struct shm_world *world, int cpu, bool spin)
{
	pid_t pid;

	pin(cpu); /* inherited by the server */
	world->spin_ns = spin ? 20000 : 0;
	pid = world_fork_server(world);
	if (pid < 0)
		abort();
	return pid;
}

static void compare(const char *name, int caller_cpu, int owner_cpu, bool spin, unsigned n)
{
	struct raw *raw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double raws[ROUNDS], lanes[ROUNDS], r, l;
	struct shm_world world;
	uint32_t lane;
	pid_t peer, server;
	bool raw_spin;

	if (world_open(&world, NULL) != 0 || sb__lane_claim(world.mailbox, 9, 1, &lane) != 0)
		abort();
	server = serve_on(&world, owner_cpu, spin);
	raw_spin = spin && caller_cpu != owner_cpu; /* on one CPU each would burn its whole time slice */
	peer = raw_peer(raw, owner_cpu, raw_spin);
	kill(peer, SIGSTOP);
	pin(caller_cpu);
	lane_round(&world, lane, spin, n / 4 + 1);
	for (int i = 0; i < ROUNDS; i++) {
		kill(server, SIGSTOP);
		kill(peer, SIGCONT);
		raws[i] = raw_round(raw, n, raw_spin);
		kill(peer, SIGSTOP);
		kill(server, SIGCONT);
		lanes[i] = lane_round(&world, lane, spin, n);
	}
	kill(server, SIGKILL);
	kill(peer, SIGKILL);
	while (wait(NULL) > 0)
		;
	r = median(raws);
	l = median(lanes);
	printf("%-20s raw %8.0f (best %6.0f) ns   lane %8.0f (best %6.0f) ns   ratio %.2f (%.2f)\n", name, r,
	       raws[0], l, lanes[0], l / r, lanes[0] / raws[0]);
	world_close(&world);
	munmap(raw, 4096);
}

/* ── many callers ── */

static void many(unsigned callers, double seconds)
{
	uint64_t *counts = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t total = 0, least = UINT64_MAX, most = 0, until;
	struct shm_world world;
	pid_t server;

	if (world_open(&world, NULL) != 0)
		abort();
	server = serve_on(&world, -1, true);
	until = sb__now_ns() + (uint64_t)(seconds * 1e9);
	for (unsigned i = 0; i < callers; i++) {
		if (fork() == 0) {
			struct shm_world mine;
			uint32_t lane;

			if (world_join(&world, 10 + i, &mine) != 0 ||
			    sb__lane_claim(mine.mailbox, 10 + i, 1, &lane) != 0)
				_exit(1);
			while (sb__now_ns() < until) {
				if (world_call(&mine, lane, counts[i], 16, UINT64_C(5000000000), NULL) != 0)
					_exit(1);
				counts[i]++;
			}
			_exit(0);
		}
	}
	for (unsigned i = 0; i < callers; i++) {
		int status;

		if (wait(&status) < 0 || status != 0)
			abort();
	}
	kill(server, SIGKILL);
	wait(NULL);
	for (unsigned i = 0; i < callers; i++) {
		total += counts[i];
		least = counts[i] < least ? counts[i] : least;
		most = counts[i] > most ? counts[i] : most;
	}
	printf("%4u callers                 %9.0f calls/s   least %.2f, most %.2f of the mean\n", callers,
	       (double)total / seconds, (double)least * callers / (double)total,
	       (double)most * callers / (double)total);
	world_close(&world);
	munmap(counts, 65536);
}

int main(int argc, char **argv)
{
	cpu_set_t all;

	(void)argv;
	setvbuf(stdout, NULL, _IONBF, 0);
	sched_getaffinity(0, sizeof(all), &all);
	if (CPU_COUNT(&all) > 1)
		compare("spinning, two CPUs", 0, 1, true, 10000);
	if (CPU_COUNT(&all) > 1)
		compare("parked, two CPUs", 0, 1, false, 200);
	compare("parked, one CPU", 0, 0, false, 1000);
	compare("as it likes, one CPU", 0, 0, true, 1000);
	if (argc > 1)
		return 0;
	for (unsigned n = 1; n <= 64; n *= 8) {
		sched_setaffinity(0, sizeof(all), &all);
		many(n, 1.0);
	}
	return 0;
}
