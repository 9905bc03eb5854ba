/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that rows start: callers, hosts of sessions, and fresh ones that are asked one thing. */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void sleep_s(double seconds)
{
	struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&t, NULL);
}

/* ── callers ── */

struct callers {
	volatile uint32_t stop, ready;
	unsigned processes, threads;
	pid_t pids[16];
	size_t size;
	uint64_t counts[]; /* one line each: callers[i * 8] */
};

struct caller {
	struct bench *bench;
	struct callers *all;
	unsigned index;
	caller_fn body;
	pthread_t thread;
};

static void *caller_main(void *arg)
{
	struct caller *c = arg;

	c->body(c->bench, c->index, &c->all->stop, &c->all->counts[c->index * 8]);
	return NULL;
}

static void caller_process(struct bench *bench, struct callers *all, unsigned process, caller_fn body)
{
	struct caller *list = calloc(all->threads, sizeof(*list));
	pthread_attr_t attr;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (unsigned i = 0; list && i < all->threads; i++) {
		list[i] = (struct caller){ bench, all, process * all->threads + i, body, 0 };
		if (pthread_create(&list[i].thread, &attr, caller_main, &list[i]))
			give_up("thread %u of a caller: %s", i, strerror(errno));
	}
	for (unsigned i = 0; list && i < all->threads; i++)
		pthread_join(list[i].thread, NULL);
	_exit(0);
}

static unsigned started(const struct callers *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->processes * c->threads; i++)
		n += __atomic_load_n(&c->counts[i * 8], __ATOMIC_RELAXED) > 0;
	return n;
}

struct callers *callers_start(struct bench *bench, unsigned processes, unsigned threads, caller_fn body)
{
	size_t size = sizeof(struct callers) + (size_t)processes * threads * 64;
	struct callers *c = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (c == MAP_FAILED)
		give_up("memory: %s", strerror(errno));
	c->processes = processes;
	c->threads = threads;
	c->size = size;
	for (unsigned i = 0; i < processes; i++) {
		pid_t pid = fork();

		if (pid == 0)
			caller_process(bench, c, i, body);
		c->pids[i] = pid; /* shared memory: by this process only */
	}
	for (int i = 0; i < 3000 && started(c) < processes * threads; i++)
		sleep_s(0.01);
	if (started(c) < processes * threads)
		give_up("only %u of %u callers got a call through within 30 s", started(c),
		        processes * threads);
	return c;
}

void callers_measure(struct callers *c, double seconds, double *ret_rate, double *ret_fairness)
{
	unsigned n = c->processes * c->threads;
	uint64_t *before = calloc(n, sizeof(*before)), sum = 0, least = UINT64_MAX;
	double begun = now_ns(), took;

	for (unsigned i = 0; before && i < n; i++)
		before[i] = __atomic_load_n(&c->counts[i * 8], __ATOMIC_RELAXED);
	sleep_s(seconds);
	took = now_ns() - begun;
	for (unsigned i = 0; before && i < n; i++) {
		uint64_t made = __atomic_load_n(&c->counts[i * 8], __ATOMIC_RELAXED) - before[i];

		sum += made;
		least = made < least ? made : least;
	}
	free(before);
	*ret_rate = (double)sum / took * 1e9;
	*ret_fairness = sum ? (double)least * n / (double)sum : 0;
}

void callers_stop(struct callers *c)
{
	c->stop = 1;
	for (unsigned i = 0; i < c->processes; i++)
		waitpid(c->pids[i], NULL, 0);
	munmap(c, c->size);
}

/* ── hosts ── */

static int host_main(const char *dir, const char *prefix, unsigned sessions, bool with_object, int said,
                     int told)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *session, *first = NULL;
	sb_bridge *bridge;
	char id[64], text[256] = "ready";
	sb_ref names, nothing;

	must(sb_bridge_open(dir, NULL, &bridge), "a host's bridge");
	o.session_id = id;
	for (unsigned i = 0; i < sessions; i++) {
		snprintf(id, sizeof(id), "%s%u", prefix, i);
		must(sb_session_open(bridge, &o, &session), id);
		first = first ? first : session;
	}
	if (with_object) {
		bench_names(first, NULL, &names, &nothing);
		must(sb_ref_format(&nothing, text, sizeof(text)), "a ref's text");
	}
	if (write(said, text, sizeof(text)) != (ssize_t)sizeof(text) || read(told, text, 1) != 0)
		return 1;
	sb_bridge_close(bridge);
	return 0;
}

struct host host_start(const char *dir, const char *prefix, unsigned sessions, bool with_object)
{
	struct host host;
	char text[256];
	int said[2], told[2];

	if (pipe(said) || pipe(told))
		give_up("pipes: %s", strerror(errno));
	host.pid = fork();
	if (host.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(said[0]);
		close(told[1]);
		_exit(host_main(dir, prefix, sessions, with_object, said[1], told[0]));
	}
	close(said[1]);
	close(told[0]);
	if (read(said[0], text, sizeof(text)) != (ssize_t)sizeof(text))
		give_up("a process that should hold %u sessions failed", sessions);
	close(said[0]);
	if (with_object)
		must(sb_ref_parse(text, &host.nothing), "a ref's text");
	host.to_it = told[1];
	return host;
}

void host_stop(struct host *host)
{
	close(host->to_it);
	waitpid(host->pid, NULL, 0);
}

void host_kill(struct host *host)
{
	kill(host->pid, SIGKILL);
	host_stop(host);
}

/* ── probes ── */

static sb_session *join(sb_bridge *bridge, const char *id)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *session = NULL;

	o.session_id = id;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_session_open(bridge, &o, &session)) {
		fprintf(stderr, "sb-bench @probe: %s\n", sb_last_error()->message);
		exit(1);
	}
	return session;
}

/* KiB of PSS of the mapped files that a program has because of us. */
static double pss_of_us_kib(void)
{
	static const char *const ours[] = { "libsnakebridge", "liblmdb", "libcbor" };
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[4096];
	double kib = 0;
	bool count = false;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (strchr(line, '-') && strchr(line, '-') < line + 18) { /* a mapping's first line */
			count = false;
			for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
				count |= strstr(line, ours[i]) != NULL;
		} else if (count && strncmp(line, "Pss:", 4) == 0) {
			kib += strtod(line + 4, NULL);
		}
	}
	if (maps)
		fclose(maps);
	return kib;
}

static int fail(void)
{
	fprintf(stderr, "sb-bench @probe: %s\n", sb_last_error()->message);
	return 1;
}

/*
 * @probe DIR REF [PREFIX N]: prints the microseconds from main() to the end of the first call. With PREFIX and N: the KiB
 * of PSS that calls in the ref's session made it grow by, and calls' worth of joining N sessions more.
 */
int probe_main(int argc, char **argv)
{
	double begun = now_ns(), first_us, before = 0, one;
	sb_session *session;
	sb_bridge *bridge;
	sb_ref ref;

	if (argc < 4 || sb_ref_parse(argv[3], &ref))
		return 2;
	if (argc > 5) {
		before = pss_kib() - pss_of_us_kib();
		begun = now_ns();
	}
	if (sb_bridge_open(argv[2], NULL, &bridge))
		return fail();
	session = join(bridge, ref.session_id);
	if (sb_method(session, &ref, "noop", NULL, NULL))
		return fail();
	first_us = (now_ns() - begun) / 1e3;
	if (argc > 5) {
		char id[64];

		bench_noops(session, &ref, 1000);
		one = pss_kib() - before;
		for (int i = 0; i < atoi(argv[5]); i++) {
			snprintf(id, sizeof(id), "%s%d", argv[4], i);
			join(bridge, id);
		}
		printf("%f %f %f\n", first_us, one, pss_kib() - before);
	} else {
		printf("%f\n", first_us);
	}
	fflush(stdout);
	sb_session_close(session);
	sb_bridge_close(bridge);
	return 0;
}
