/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about many callers at once, and about an owner's death. */
#include "bench.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void call_noop(struct bench *b, unsigned index, volatile uint32_t *stop, uint64_t *count)
{
	(void)index;
	while (!*stop) {
		must(sb_method(b->session, &b->nothing, "noop", NULL, NULL), "noop()");
		__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	}
}

static double many(struct bench *b, unsigned processes, unsigned threads, double least_sum)
{
	char id[40], label[72];
	struct figure *rate, *fair;
	struct callers *c;
	unsigned n = processes * threads;

	snprintf(id, sizeof(id), "callers_%u", n);
	snprintf(label, sizeof(label),
	         n == 1 ? "no-op calls, one caller" : "no-op calls, %u callers (%u processes)", n, processes);
	rate = figure_new(id, label, "/s");
	snprintf(id, sizeof(id), "fairness_%u", n);
	fair = figure_new(id, "  of them, the slowest caller's as a part of the mean", "");
	if (n > 1) {
		figure_target(rate, TARGET_AT_LEAST, 0, least_sum);
		figure_tried(
			rate,
			n > 100 ? "few callers have their turn at a time, 64 calls each, the others sleep "
				  "and are "
				  "woken for theirs; those that wait long look less often; what is left is "
				  "waking "
				  "them, and that the leader shares its CPU with those that are awake "
				  "(docs/design/mailbox.md, turns)"
				: "up to 32 calls of a session in a row with the GIL kept, wake-ups only "
				  "for who sleeps, yielding where a CPU is shared; what is left is the "
				  "owner's work and, with more callers than CPUs, the callers' switches");
	}
	if (n == 8) {
		figure_target(fair, TARGET_AT_LEAST, 0, 0.5);
		figure_tried(fair,
		             "lanes are served round robin; what is left is how the kernel shares the CPUs");
	}
	c = callers_start(b, processes, threads, call_noop);
	for (unsigned i = 0; i < (b->rounds + 1) / 2; i++) {
		double per_second, fairness;

		callers_measure(c, n > 100 ? 2 * b->seconds : b->seconds, &per_second, &fairness);
		series_add(&rate->ours, per_second);
		series_add(&fair->ours, fairness);
	}
	callers_stop(c);
	return series_median(&rate->ours);
}

void row_callers(struct bench *b)
{
	double eight;

	bench_owner(b, NULL, SB_UNSET);
	bench_noops(b->session, &b->nothing, 10000);
	many(b, 1, 1, 0);
	eight = many(b, 8, 1, 500000);
	many(b, 8, 8, 0.95 * eight);
	many(b, 8, 125, 0.95 * eight);
}

/* ── calls that take long ── */

#define SLOW_CALLERS 8
#define SLOW_MS      5
#define SLOW_MAX     1000

static struct slow {
	uint32_t n;
	double took_ms[SLOW_MAX];
} * slow; /* shared memory: one per caller */

static void call_slow(struct bench *b, unsigned index, volatile uint32_t *stop, uint64_t *count)
{
	struct slow *mine = &slow[index];

	while (!*stop && mine->n < SLOW_MAX) {
		double begun = now_ns();

		sb_value_free(bench_ask(b, "work", sb_args("d", index == 0 ? 0.5 : SLOW_MS / 1e3), 0));
		mine->took_ms[mine->n++] = (now_ns() - begun) / 1e6;
		__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	}
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the seven that make short calls. */
static void slow_figures(struct figure *p99, struct figure *fair)
{
	double *all = calloc((size_t)SLOW_CALLERS * SLOW_MAX, sizeof(*all));
	uint32_t n = 0, least = UINT32_MAX;

	for (unsigned i = 1; all && i < SLOW_CALLERS; i++) {
		for (uint32_t k = 0; k < slow[i].n; k++)
			all[n++] = slow[i].took_ms[k];
		least = slow[i].n < least ? slow[i].n : least;
	}
	if (n == 0)
		give_up("no slow call ended");
	qsort(all, n, sizeof(*all), ascending);
	series_add(&p99->ours, all[(size_t)n * 99 / 100]);
	series_add(&fair->ours, (double)least * (SLOW_CALLERS - 1) / n);
	free(all);
}

void row_slow(struct bench *b)
{
	/* CPU time of the thread: what it takes when nobody else wants the GIL. */
	static const char source[] = "def work(s):\n"
				     "  until = time.thread_time() + s\n"
				     "  while time.thread_time() < until: pass\n";
	struct figure *p99, *fair;
	struct callers *c;
	double rate, fairness;

	bench_owner(b, source, SB_UNSET);
	p99 = figure_new("slow_p99", "calls of 5 ms of Python, one of 8 callers in a loop: p99", "ms");
	/* Each of the seven waits for the six others and for itself, and the loop has a switch interval of 5 ms with each: 70 ms,
	 * and up to two intervals until the first. docs/design/call-cost.md, calls that take long. */
	figure_target(p99, TARGET_AT_MOST, 0, 2 * SLOW_CALLERS * SLOW_MS);
	figure_tried(p99, "one thread runs the calls that wait, one after the other, and shares the GIL with "
	                  "the loop alone; "
	                  "what is over 7 x (5 + 5) ms is other programs' use of the CPUs");
	fair = figure_new("slow_fairness", "  the slowest of the other seven as a part of their mean", "");
	figure_target(fair, TARGET_AT_LEAST, 0, 0.5);
	figure_tried(fair, "calls that wait are run by one thread, in turn");
	slow = mmap(NULL, SLOW_CALLERS * sizeof(*slow), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	            -1, 0);
	if (slow == MAP_FAILED)
		give_up("no memory");
	c = callers_start(b, SLOW_CALLERS, 1, call_slow);
	callers_measure(c, 8 * b->seconds, &rate, &fairness);
	callers_stop(c);
	slow_figures(p99, fair);
}

/* ── death ── */

static double killed_ns; /* when the owner was */

static void *kill_owner(void *arg)
{
	const struct bench *b = arg;
	struct timespec t = { 0, 50000000 };

	nanosleep(&t, NULL); /* the caller has parked long since */
	killed_ns = now_ns();
	kill(b->owner, SIGKILL);
	return NULL;
}

/* A caller that waits for a reply learns that the owner was killed. */
static double notice_us(struct bench *b)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	pthread_t killer;
	sb_session *session;
	double took;
	int err;

	o.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(b->bridge, &o, &session), "a session with an owner");
	must(sb_session_get_info(session, &info), "its facts");
	b->owner = info.designated_pid;
	must(sb_call(session, "builtins:bytearray", sb_args("i", (int64_t)64 << 20), NULL), "memory");
	if (pthread_create(&killer, NULL, kill_owner, b))
		give_up("no thread");
	err = sb_call(session, "time:sleep", sb_args("d", 5.0), NULL);
	took = (now_ns() - killed_ns) / 1e3;
	pthread_join(killer, NULL);
	if (err != SB_EOWNERDIED)
		give_up("a call whose owner was killed gave %s", sb_error_name(err));
	sb_session_close(session);
	return took;
}

void row_death(struct bench *b)
{
	struct figure *f = figure_new("death_notice", "a waiting caller learns that the owner was killed",
	                              "µs");

	figure_target(f, TARGET_AT_MOST, 0, 3000);
	figure_tried(f, "the kernel marks a robust futex before it frees the process's memory, and callers "
	                "wait on that, too");
	for (unsigned i = 0; i < (b->rounds + 1) / 2; i++)
		series_add(&f->ours, notice_us(b));
}
