/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about one caller's calls: awake, parked, idle, own session, batches, the first. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap_us(unsigned us)
{
	struct timespec t = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&t, NULL);
}

/* No-ops for about a quarter of a piece of time: nanoseconds of one. */
static double noop_ns(struct bench *b)
{
	double begun = now_ns();
	unsigned n = 0;

	for (; n == 0 || now_ns() - begun < b->seconds * 1e9 / 4; n += 100)
		bench_noops(b->session, &b->nothing, 100);
	return (now_ns() - begun) / n;
}

/* ── awake ── */

void row_noop(struct bench *b)
{
	struct pingpong *raw;
	struct figure *f;

	bench_owner(b, NULL, SB_UNSET);
	place(b, b->owner, b->cpu[1]);
	place(b, getpid(), b->cpu[0]);
	raw = pingpong_start(b, b->cpu[1], b->cpus > 1);
	noop_ns(b);
	f = figure_new("noop_awake", "sb_method() of a no-op, both awake", "µs");
	figure_floor_label(f, b->cpus > 1 ? "ping-pong through a shared word, spinning" : "futex ping-pong");
	figure_target(f, TARGET_AT_MOST, 0, 1);
	figure_tried(
		f, "names of methods kept as objects, the wire format's heads by hand, no printf, no "
		   "allocation for None, the GIL kept while calls keep coming, spinning that learns, ready "
		   "bits that stand while one lane calls, one line of memory that goes to and fro, looks at "
		   "the clock outside of the call, optimising across files; what is left is told in "
		   "docs/design/call-cost.md");
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&f->floor, pingpong_ns(raw, 20000) / 1e3);
		series_add(&f->ours, noop_ns(b) / 1e3);
	}
	pingpong_stop(raw);
	for (double begun = now_ns(), until = begun + b->seconds * 1e9; begun < until;) {
		double ended;

		bench_noops(b->session, &b->nothing, 1);
		ended = now_ns();
		histogram_add(f, ended - begun);
		begun = ended;
	}
}

/* ── parked ── */

#define PARKED_CALLS 40

/* Owner, or raw peer, have gone to sleep before each call, and the caller slept for as long: waking a CPU that rests is part of
 * both. */
static double parked_us(struct bench *b, struct pingpong *raw)
{
	double took[PARKED_CALLS];
	struct series s = { .n = 0 };

	for (unsigned i = 0; i < PARKED_CALLS; i++) {
		nap_us(500);
		if (raw) {
			took[i] = pingpong_ns(raw, 1);
		} else {
			double begun = now_ns();

			bench_noops(b->session, &b->nothing, 1);
			took[i] = now_ns() - begun;
		}
		series_add(&s, took[i] / 1e3);
	}
	return series_median(&s);
}

static void parked(struct bench *b, const char *id, const char *label, int cpu)
{
	struct figure *f = figure_new(id, label, "µs");
	struct pingpong *raw;

	place(b, b->owner, cpu);
	place(b, getpid(), b->cpu[0]);
	raw = pingpong_start(b, cpu, false);
	figure_floor_label(f, "futex ping-pong, as placed and as rested");
	figure_target(f, TARGET_AT_MOST, 1.3, 0);
	figure_tried(f, "one wake-up and one wait on each side, two switches, as in the floor; a caller on "
	                "another CPU "
	                "spins for the reply. What is over the floor is the call itself, and that nothing it "
	                "needs is in the "
	                "caches of a CPU that rested");
	parked_us(b, raw);
	parked_us(b, NULL);
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&f->floor, parked_us(b, raw));
		series_add(&f->ours, parked_us(b, NULL));
	}
	pingpong_stop(raw);
}

void row_parked(struct bench *b)
{
	bench_owner(b, NULL, SB_UNSET);
	bench_noops(b->session, &b->nothing, 1000);
	parked(b, "parked_same_cpu", "a no-op when the owner was parked, one CPU", b->cpu[0]);
	if (b->cpus > 1)
		parked(b, "parked_other_cpu", "a no-op when the owner was parked, two CPUs", b->cpu[1]);
}

/* ── idle ── */

/* Of this process: one system call, while a look into /proc would take as much time as what is measured. */
static double own_cpu_time_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void row_idle(struct bench *b)
{
	static const char source[] = "def rest(s): time.sleep(s)\n";
	struct figure *owner, *caller;

	bench_owner(b, source, SB_UNSET);
	owner = figure_new("idle_owner", "CPU time of an owner that nobody calls", "µs/s");
	figure_target(owner, TARGET_AT_MOST, 0, 500);
	figure_tried(owner, "nothing spins, and what can be told is waited for; the keeper looks after time "
	                    "and the dead once a "
	                    "second, as does the thread that waits for the session's end");
	caller = figure_new("idle_caller", "CPU time of a caller that waits for a reply", "µs/s");
	figure_target(caller, TARGET_AT_MOST, 0, 500);
	figure_tried(caller,
	             "nothing spins; it waits for the reply and the owner's death, and looks ten times a "
	             "second whether it was told of neither; once a second takes 80 to 110 us/s and was "
	             "not kept: a wake-up that a killed waiter lost would be missed for as long");
	bench_noops(b->session, &b->nothing, 100);
	for (unsigned i = 0; i < (b->rounds + 3) / 4; i++) {
		double before, begun;

		nap_us(10000);
		before = cpu_time_us(b->owner);
		begun = now_ns();
		nap_us(1000000);
		series_add(&owner->ours, (cpu_time_us(b->owner) - before) / ((now_ns() - begun) / 1e9));
		before = own_cpu_time_us();
		begun = now_ns();
		sb_value_free(bench_ask(b, "rest", sb_args("d", 1.0), 0));
		series_add(&caller->ours, (own_cpu_time_us() - before) / ((now_ns() - begun) / 1e9));
	}
}

/* ── one's own session ── */

static const char bare_source[] = "def bare(n):\n"
				  "  f = nothing.noop; t = time.perf_counter()\n"
				  "  for _ in range(n): f()\n"
				  "  return (time.perf_counter() - t) / n * 1e9\n";

void row_own(struct bench *b)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	struct figure *f;

	must(sb_session_open(b->bridge, &o, &b->session), "a session of this process's own");
	bench_names(b->session, bare_source, &b->names, &b->nothing);
	place(b, getpid(), b->cpu[0]);
	f = figure_new("own_session", "an owner's call in its own session", "µs");
	figure_floor_label(f, "the method called in a Python loop");
	figure_target(f, TARGET_AT_MOST, 1, 0.3);
	figure_tried(
		f,
		"the head of a request is not written and read, only arguments are; no lock is taken but the "
		"GIL, with a kept thread state; the coarse clock; optimising across files; a third is "
		"CPython's "
		"and taking the GIL and giving it up; what is left is told in docs/design/call-cost.md");
	noop_ns(b);
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&f->floor, bench_ask_number(b, "bare", sb_args("i", (int64_t)50000)) / 1e3);
		series_add(&f->ours, noop_ns(b) / 1e3);
	}
}

/* ── batches ── */

void row_batch(struct bench *b)
{
	enum { ITEMS = 1000 };
	sb_request r = SB_REQUEST_INIT;
	struct figure *f;
	sb_batch *batch;

	bench_owner(b, bare_source, SB_UNSET);
	f = figure_new("batch_1000", "calls of no-ops in batches of 1,000", "/s");
	figure_floor_label(f, "the method called in a Python loop");
	figure_target(f, TARGET_AT_LEAST, 0, 3e6);
	figure_tried(
		f, "one request, one GIL, one Python frame; a request's head that is the one before's is not "
		   "read again, methods are called unbound, a caller's items are encoded where they travel, "
		   "short "
		   "replies are written and read without a call; optimising across files");
	r.verb = SB_VERB_METHOD;
	r.target = &b->nothing;
	r.name = "noop";
	for (unsigned i = 0; i < b->rounds + 3; i++) {
		double begun, took;

		must(sb_batch_new(0, &batch), "a batch");
		begun = now_ns();
		for (int k = 0; k < ITEMS; k++)
			must(sb_batch_add(batch, &r, NULL), "an item");
		must(sb_batch_run(b->session, batch, 0), "a batch's run");
		took = now_ns() - begun;
		sb_batch_free(batch);
		if (i < 3)
			continue;
		series_add(&f->floor, 1e9 / bench_ask_number(b, "bare", sb_args("i", (int64_t)ITEMS)));
		series_add(&f->ours, ITEMS / took * 1e9);
	}
}

/* ── the first call ── */

void row_first(struct bench *b)
{
	char program[4096], text[256], answer[128];
	char *argv[] = { program, (char[]){ "@probe" }, b->dir, text, NULL };
	struct figure *f;

	bench_owner(b, NULL, SB_UNSET);
	sibling_path("sb-bench", program);
	must(sb_ref_format(&b->nothing, text, sizeof(text)), "a ref's text");
	f = figure_new("first_call", "first call in a fresh process, from main() on", "µs");
	figure_target(f, TARGET_AT_MOST, 0, 300);
	figure_tried(f, "no Python and no thread in a caller; the boot id is read once, folders are opened "
	                "before any is "
	                "made, earlier boots are looked for only where there are some; what is left is "
	                "mapping files");
	for (unsigned i = 0; i < 2 * b->rounds; i++) {
		run_ms(argv, answer, sizeof(answer));
		series_add(&f->ours, strtod(answer, NULL));
	}
}
