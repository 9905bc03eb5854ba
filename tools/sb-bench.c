/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-bench: what the library costs on this machine, beside what the machine itself needs for the same.
 *
 * Each row runs in a process of its own, with a bridge and an owner of its own in a private directory, within a time limit:
 * a row that fails is reported as such, and the others go on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "options.h"
#include "output.h"
#include "stolen.h"

#define ROWS_MAX       32
#define ROW_TIMEOUT_MS 100000

static struct tool_common common = TOOL_COMMON_INIT;
static int64_t rounds = 11, piece_ms = 400;
static bool quick, list;
static struct tool_list only;

static const struct tool_option own[] = {
	{ .name = "only",
	  .letter = 'o',
	  .argument = "ROW",
	  .help = "run this row; may be given several times (default: all)",
	  .type = TOOL_LIST,
	  .target = &only },
	{ .name = "rounds",
	  .letter = 'r',
	  .argument = "N",
	  .help = "rounds of each measurement, in which we and the floor take turns (default 11)",
	  .type = TOOL_WHOLE,
	  .target = &rounds,
	  .min = 3,
	  .max = SAMPLES_MAX },
	{ .name = "piece",
	  .letter = 'p',
	  .argument = "SECONDS",
	  .help = "how long one timed piece takes, roughly (default 0.4)",
	  .type = TOOL_SECONDS,
	  .target = &piece_ms,
	  .min = 10,
	  .max = 60000 },
	{ .name = "quick",
	  .help = "3 rounds of pieces of 0.1 seconds: does it run, and what order are the figures of?",
	  .type = TOOL_FLAG,
	  .target = &quick },
	{ .name = "list",
	  .letter = 'l',
	  .help = "list the rows and exit",
	  .type = TOOL_FLAG,
	  .target = &list },
	{ 0 },
};
static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(common), { 0 } };
static const struct tool_group groups[] = { { "Measuring", own }, { "Common options", shared }, { 0 } };
static const struct tool tool = {
	.name = "sb-bench",
	.usage = "[options]",
	.about = "Measures calls, refs, arrays, sessions and tidying on this machine, beside what the "
		 "machine itself needs for the "
		 "same, and says which targets are met. Medians of rounds, with quartiles. Takes about two "
		 "minutes, two CPUs, and "
		 "a quiet machine to mean much.",
	.groups = groups,
	.exits = "0  all targets are met\n"
		 "1  a target is not met, or a row failed\n"
		 "2  usage\n"
		 "3  no directory for the bridges, or output was lost\n",
	.environment = TOOL_ENVIRONMENT
	"TMPDIR           where --dir is not given: the bridges are made below /dev/shm, else here\n"
	"(SNAKEBRIDGE_DIR is not used: a bench makes bridges of its own)\n",
	.examples = "sb-bench --only noop --only refs\n"
		    "sb-bench --json > figures.json\n",
	.common = &common,
};

const struct row bench_rows[] = {
	{ "noop", "a no-op call, caller and owner awake", row_noop },
	{ "parked", "a no-op call that wakes the owner", row_parked },
	{ "idle", "what nobody asks for", row_idle },
	{ "callers", "many callers", row_callers },
	{ "slow", "calls whose Python takes long", row_slow },
	{ "own", "a call in one's own session", row_own },
	{ "batch", "batches", row_batch },
	{ "refs", "refs", row_refs },
	{ "ref-memory", "memory of refs", row_ref_memory },
	{ "arrays", "arrays of 64 MiB", row_arrays },
	{ "sessions", "sessions opened and joined", row_sessions },
	{ "memory", "memory of callers and idle sessions", row_memory },
	{ "first", "the first call", row_first },
	{ "reaper", "tidying and looking", row_reaper },
	{ "scaling", "many sessions, many refs", row_scaling },
	{ "death", "an owner's death", row_death },
	{ NULL, NULL, NULL },
};

/* ── directories ── */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

static int make_base(char base[64])
{
	const char *tmp = getenv("TMPDIR");

	if (common.dir)
		snprintf(base, 64, "%s/sb-bench-XXXXXX", common.dir);
	else
		snprintf(base, 64, "/dev/shm/sb-bench-XXXXXX");
	if (mkdtemp(base))
		return 0;
	if (!common.dir) {
		snprintf(base, 64, "%s/sb-bench-XXXXXX", tmp ? tmp : "/tmp");
		if (mkdtemp(base))
			return 0;
	}
	fprintf(stderr, "sb-bench: %s cannot be made: %s\n", base, strerror(errno));
	return TOOL_EXIT_ATTACH;
}

/* ── rows ── */

static void find_cpus(struct bench *b)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set) && b->cpus++ < 2)
			b->cpu[b->cpus - 1] = i;
	if (b->cpus < 2)
		b->cpu[1] = b->cpu[0];
}

/* In the row's own process. */
static void run_here(const struct row *row, struct bench *b)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	must(sb_bridge_open(b->dir, NULL, &b->bridge), "opening the bridge");
	row->run(b);
	if (b->session)
		sb_session_release(b->bridge, sb_session_id(b->session), NULL);
	sb_bridge_close(b->bridge);
	_exit(0);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

/* Its end, for ROW_TIMEOUT_MS at most. */
static void await_row(pid_t pid, struct shared_row *result)
{
	struct timespec nap = { 0, 20000000 };
	int status = 0;

	for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
		nanosleep(&nap, NULL);
		if (i == ROW_TIMEOUT_MS / 20) {
			snprintf(result->error, sizeof(result->error), "not done after %d seconds",
			         ROW_TIMEOUT_MS / 1000);
			kill(-pid, SIGKILL);
		}
	}
	if (status && !*result->error)
		snprintf(result->error, sizeof(result->error), "its process ended with status %#x",
		         (unsigned)status);
	kill(-pid, SIGKILL); /* of its process group, whom a failed row left */
}

static void run_row(const struct row *row, const struct bench *common_bench, const char *base,
                    struct shared_row *result)
{
	double stolen = stolen_seconds(), begun = now_ns();
	struct bench b = *common_bench;
	pid_t pid;

	snprintf(b.dir, sizeof(b.dir), "%s/%s", base, row->name);
	bench_shared = result;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_here(row, &b);
	if (pid < 0)
		snprintf(result->error, sizeof(result->error), "no process: %s", strerror(errno));
	else
		await_row(pid, result);
	result->stolen_percent = stolen_percent(stolen, (now_ns() - begun) / 1e9);
	nftw(b.dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

static const struct row *find_row(const char *name)
{
	for (const struct row *row = bench_rows; row->name; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

static unsigned choose(const struct row *chosen[ROWS_MAX], int *ret_status)
{
	unsigned n = 0;

	*ret_status = 0;
	for (size_t i = 0; i < only.count && n < ROWS_MAX; i++) {
		chosen[n] = find_row(only.items[i]);
		if (!chosen[n++]) {
			*ret_status = tool_usage(&tool, "there is no row '%s'; --list shows them",
			                         only.items[i]);
			return 0;
		}
	}
	for (const struct row *row = bench_rows; only.count == 0 && row->name; row++)
		chosen[n++] = row;
	return n;
}

static bool all_met(const struct shared_row *result)
{
	bool met = !*result->error;

	for (uint32_t i = 0; i < result->count; i++)
		met &= result->figures[i].target == TARGET_NONE ||
		       (result->figures[i].ours.n && figure_met(&result->figures[i]));
	return met;
}

static int measure(struct bench *b, const char *base)
{
	const struct row *chosen[ROWS_MAX];
	struct shared_row *results;
	bool met = true;
	int status;
	unsigned n = choose(chosen, &status);

	if (status)
		return status;
	results = mmap(NULL, n * sizeof(*results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED) {
		fprintf(stderr, "sb-bench: no memory\n");
		return TOOL_EXIT_ATTACH;
	}
	if (!common.json && !common.no_legend && !common.quiet)
		printf("%u rounds, %d CPUs; median, its unit, quartiles, target, verdict\n", b->rounds,
		       b->cpus);
	for (unsigned i = 0; i < n && !interrupted; i++) {
		if (!common.json && !common.quiet)
			print_heading(chosen[i]);
		run_row(chosen[i], b, base, &results[i]);
		met &= all_met(&results[i]);
		if (!common.json && !common.quiet)
			print_row(&results[i]);
	}
	if (common.json && !common.quiet && print_json(&tool, b, chosen, results, n))
		return TOOL_EXIT_ATTACH;
	return met ? TOOL_EXIT_OK : TOOL_EXIT_FINDINGS;
}

/* @turns: our part in bench/bench.py. */
static int take_turns(void)
{
	struct bench b = { .rounds = 1, .seconds = 0.1 };
	char base[64];
	int status = make_base(base);

	if (status)
		return status;
	find_cpus(&b);
	snprintf(b.dir, sizeof(b.dir), "%s/turns", base);
	status = turns_main(&b);
	nftw(base, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	return status;
}

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct bench b = { .cpus = 0 };
	char base[64];
	int status;

	if (argc > 1 && strcmp(argv[1], "@probe") == 0)
		return probe_main(argc, argv);
	if (argc > 1 && strcmp(argv[1], "@turns") == 0)
		return take_turns();
	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	if (optind < argc)
		return tool_usage(&tool, "sb-bench takes no operand: '%s'", argv[optind]);
	if (list) {
		for (const struct row *row = bench_rows; row->name; row++)
			printf("%-12s %s\n", row->name, row->title);
		return tool_finish(&tool, TOOL_EXIT_OK);
	}
	b.rounds = quick ? 3 : (unsigned)rounds;
	b.seconds = quick ? 0.1 : (double)piece_ms / 1e3;
	find_cpus(&b);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	setenv("SNAKEBRIDGE_SWEEP_MS", "0", 1); /* nobody tidies but who is measured doing it */
	status = make_base(base);
	if (status)
		return status;
	status = measure(&b, base);
	nftw(base, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	if (interrupted) {
		signal(interrupted, SIG_DFL);
		raise(interrupted);
	}
	return tool_finish(&tool, status);
}
