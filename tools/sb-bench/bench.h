/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sb-bench's rows share. Each row runs in a process of its own, with a bridge and an owner of its own, and leaves
 * figures in memory that it shares with the program, which prints them: a row that fails or hangs costs only itself.
 */
#ifndef SB_BENCH_H
#define SB_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "snakebridge/snakebridge.h"

#define SAMPLES_MAX 64
#define FIGURES_MAX 24 /* of one row */
#define BUCKETS     48 /* of a histogram: powers of the fourth root of two, from 100 ns on */

/* ── figures ── */

struct series {
	double v[SAMPLES_MAX];
	uint32_t n;
};

enum target { TARGET_NONE, TARGET_AT_MOST, TARGET_AT_LEAST };

/* Ours beside the floor: what the machine does for the same without us, measured in turns with it. */
struct figure {
	char id[40], label[72], unit[12];
	struct series ours, floor;
	char floor_label[72];
	enum target target;
	double factor, limit; /* the target: factor × floor + limit */
	char tried[400];      /* what was tried, for one that falls short */
	uint32_t histogram[BUCKETS];
};

/* A figure of the row; what is in it is 0. */
struct figure *figure_new(const char *id, const char *label, const char *unit);
void figure_target(struct figure *figure, enum target target, double factor, double limit);
void figure_floor_label(struct figure *figure, const char *label);
void figure_tried(struct figure *figure, const char *text);
void series_add(struct series *series, double v);
double series_median(const struct series *series);
/* The quarter-th quartile: 1, 2 or 3. */
double series_quartile(const struct series *series, int quarter);
/* What the target comes to, in the figure's unit. */
double figure_bound(const struct figure *figure);
bool figure_met(const struct figure *figure);
void histogram_add(struct figure *figure, double ns);
double histogram_bound_ns(unsigned bucket); /* the bucket's upper end */

/* ── a row ── */

struct bench {
	sb_bridge *bridge;
	char dir[128];
	unsigned rounds;
	double seconds; /* of one timed piece */
	int cpus;       /* that we may use; first and second of them: */
	int cpu[2];
	sb_session *session; /* with a dedicated owner: bench_owner() */
	pid_t owner;
	sb_ref names, nothing;
};

struct row {
	const char *name, *title;
	void (*run)(struct bench *bench);
};

extern const struct row bench_rows[]; /* ends with name NULL */

struct shared_row {
	uint32_t count;
	struct figure figures[FIGURES_MAX];
	char error[400];
	double stolen_percent; /* of the CPUs' time, meanwhile: stolen.h */
};
extern struct shared_row *bench_shared; /* of the row that runs */

/* ── what rows do ── */

double now_ns(void);
void must(int err, const char *what);
void give_up(const char *format, ...) SB_PRINTF_LIKE(1, 2);

/* A session with an owner process of its own, and Python's names of it: `nothing`, whose noop() does nothing, and source. */
void bench_owner(struct bench *bench, const char *source, int64_t max_refs);
void bench_owner_of(struct bench *bench, const char *session_id, const char *source, int64_t max_refs);
/* The same names in a session that was opened. */
void bench_names(sb_session *session, const char *source, sb_ref *ret_names, sb_ref *ret_nothing);
/* The ref of a name; a call of the function by that name. */
sb_ref bench_name(sb_session *session, const sb_ref *names, const char *name);
sb_value *bench_ask(struct bench *bench, const char *function, sb_args *args, uint32_t flags);
double bench_ask_number(struct bench *bench, const char *function, sb_args *args);
void bench_noops(sb_session *session, const sb_ref *nothing, unsigned n);

/* Where this process, or all threads of another, may run: a CPU, or -1 for all that we may use. */
void place(const struct bench *bench, pid_t pid, int cpu);
double cpu_time_us(pid_t pid);                        /* of all its threads */
double status_kib(pid_t pid, const char *field);      /* /proc/PID/status: "RssAnon" */
double pss_kib(void);                                 /* of this process */
double tree_bytes(const char *dir);                   /* blocks of all files below */
void sibling_path(const char *name, char path[4096]); /* of a program beside this one */
/* Runs a program, its output dropped (or, ret_output, the first of it kept); milliseconds. */
double run_ms(char *const argv[], char *ret_output, size_t size);

/* ── floors ── */

struct pingpong;
/* Two words between two processes on these CPUs. Without spin the peer sleeps by futex between two rounds, for as long as
 * nobody asks for one. */
struct pingpong *pingpong_start(const struct bench *bench, int cpu, bool spin);
double pingpong_ns(struct pingpong *pp, unsigned n); /* of one round trip */
void pingpong_stop(struct pingpong *pp);

/* ── processes that a row starts ── */

/* Runs body in n processes at once, each with threads; they call until *stop. counts: one per caller. */
struct callers;
typedef void (*caller_fn)(struct bench *bench, unsigned index, volatile uint32_t *stop, uint64_t *count);
struct callers *callers_start(struct bench *bench, unsigned processes, unsigned threads, caller_fn body);
/* Counts over that time: the sum per second, and the least as a part of the mean. */
void callers_measure(struct callers *c, double seconds, double *ret_rate, double *ret_fairness);
void callers_stop(struct callers *c);

/* A process that holds sessions PREFIX0, PREFIX1 … open until it is told to go. */
struct host {
	pid_t pid;
	int to_it;      /* closing it ends the process in an orderly way */
	sb_ref nothing; /* in its first session, where it was asked for */
};
struct host host_start(const char *dir, const char *prefix, unsigned sessions, bool with_object);
void host_stop(struct host *host);
void host_kill(struct host *host);

/* What a fresh process is asked to do (first argument "@probe"), and what it answers. */
int probe_main(int argc, char **argv);

/* turns.c: measures piece by piece, as stdin asks. bench: dir, cpu. */
int turns_main(struct bench *bench);

/* rows */
void row_noop(struct bench *b);
void row_parked(struct bench *b);
void row_idle(struct bench *b);
void row_callers(struct bench *b);
void row_slow(struct bench *b);
void row_own(struct bench *b);
void row_batch(struct bench *b);
void row_refs(struct bench *b);
void row_ref_memory(struct bench *b);
void row_arrays(struct bench *b);
void row_sessions(struct bench *b);
void row_memory(struct bench *b);
void row_first(struct bench *b);
void row_reaper(struct bench *b);
void row_scaling(struct bench *b);
void row_death(struct bench *b);

/* print.c */
struct tool;
void print_heading(const struct row *row);
void print_row(const struct shared_row *result);
int print_json(const struct tool *tool, const struct bench *bench, const struct row **rows,
               const struct shared_row *results, unsigned count);

#endif
