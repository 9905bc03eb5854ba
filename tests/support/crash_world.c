/* SPDX-License-Identifier: Apache-2.0 */
#include "crash_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "fixture.h"
#include "sweep.h"

#define MS        UINT64_C(1000000)
#define SETTLE_MS 20000 /* how long an owner that lives may take to finish with the dead */

/* ── what is wrong ── */

void crash_wrong(struct crash_world *w, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fprintf(stderr, "wrong (%s): %s\n", w->context, text);
	w->wrong++;
}

/* ── files ── */

struct listing {
	char *text;
	size_t len;
};

static void list_add(struct listing *l, const char *folder, const char *name)
{
	size_t more = strlen(folder) + strlen(name) + 2;

	l->text = realloc(l->text, l->len + more + 1);
	if (!l->text)
		abort();
	l->len += (size_t)sprintf(l->text + l->len, "%s/%s\n", folder, name);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void list_folder(struct listing *l, const char *path, const char *folder)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, by_name);

	for (int i = 0; i < count; i++) {
		char deeper[4096];
		const char *name = entries[i]->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			list_add(l, folder, name);
			if (entries[i]->d_type == DT_DIR) {
				snprintf(deeper, sizeof(deeper), "%s/%s", path, name);
				list_folder(l, deeper, name);
			}
		}
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static char *list_files(const char *path)
{
	struct listing l = { .text = calloc(1, 1) };

	list_folder(&l, path, ".");
	return l.text;
}

/* ── the bystander ── */

static int serve_bystander(struct crash_world *w)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *session;
	sb_bridge *bridge;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	options.session_id = "bystander";
	options.designated = SB_DESIGNATED_SELF;
	options.ttl_seconds = 0;
	if (sb_bridge_open(w->dir, NULL, &bridge) != 0 || sb_session_open(bridge, &options, &session) != 0 ||
	    !crash_tell(w->to_parent))
		return 1;
	for (;;)
		pause();
}

static int start_bystander(struct crash_world *w)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;

	crash_pipes(w);
	fflush(NULL);
	w->bystander_pid = fork();
	if (w->bystander_pid == 0) {
		crash_pipes_in_victim(w);
		_exit(serve_bystander(w));
	}
	crash_pipes_in_parent(w);
	if (!crash_hear(w->to_parent))
		return SB_ESTART;
	crash_pipes_close(w);
	options.session_id = "bystander";
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	return sb_session_open(w->bridge, &options, &w->bystander);
}

/* This process's arena, which its first big call makes, is there before the baseline is taken. */
static void make_own_arena(struct crash_world *w)
{
	static char big[20000];
	int err = sb_call(w->bystander, "echo", sb_args("y", big, sizeof(big)), NULL);

	if (err)
		crash_wrong(w, "a big call: %s", sb_last_error()->message);
}

int crash_world_open(struct crash_world *w)
{
	int err;

	memset(w, 0, sizeof(*w));
	fixture_dir_make(w->dir, sizeof(w->dir));
	err = sb_bridge_open(w->dir, NULL, &w->bridge);
	if (!err)
		err = start_bystander(w);
	if (!err)
		err = hand_open(&w->hand, w->dir);
	if (!err)
		err = sb__inspect_open(w->dir, &w->inspect);
	snprintf(w->context, sizeof(w->context), "opening");
	if (err) {
		crash_wrong(w, "%s: %s", sb_error_name(err), sb_last_error()->message);
		return err;
	}
	crash_bystander_call(w);
	make_own_arena(w);
	crash_world_baseline(w);
	return 0;
}

void crash_world_close(struct crash_world *w)
{
	sb__inspect_close(w->inspect);
	sb_session_close(w->bystander);
	kill(w->bystander_pid, SIGKILL);
	waitpid(w->bystander_pid, NULL, 0);
	hand_close(&w->hand);
	sb_bridge_close(w->bridge);
	fixture_dir_remove(w->dir);
	free(w->files);
}

static size_t count_processes(struct crash_world *w)
{
	struct sb__identity *ids = NULL;
	size_t count = 0;

	if (sb__store_processes(w->hand.store, &ids, &count) < 0)
		crash_wrong(w, "processes cannot be listed: %s", sb_last_error()->message);
	free(ids);
	return count;
}

struct lanes {
	struct crash_world *w;
	uint64_t sessions;
};

static int count_session(void *arg, const struct sb__session_rec *rec)
{
	struct lanes *l = arg;

	(void)rec;
	l->sessions++;
	return 0;
}

static uint64_t count_sessions(struct crash_world *w)
{
	struct lanes l = { .w = w };

	if (sb__store_sessions(w->hand.store, count_session, &l) < 0)
		crash_wrong(w, "sessions cannot be listed: %s", sb_last_error()->message);
	return l.sessions;
}

void crash_world_baseline(struct crash_world *w)
{
	free(w->files);
	w->files = list_files(w->dir);
	w->processes = count_processes(w);
	w->sessions = count_sessions(w);
}

/* ── questions after a death ── */

bool crash_call(struct crash_world *w, sb_session *session, const char *who)
{
	uint64_t began = sb__now_ns(), took;
	sb_value *value = NULL;
	int64_t answer = 0;
	int err = sb_call(session, "echo", sb_args("i", (int)w->tried), &value);

	if (!err)
		err = sb_value_int(value, &answer);
	sb_value_free(value);
	took = sb__now_ns() - began;
	if (took > w->worst_ns)
		w->worst_ns = took;
	if (err)
		crash_wrong(w, "%s's call: %s: %s", who, sb_error_name(err), sb_last_error()->message);
	else if (answer != (int)w->tried)
		crash_wrong(w, "%s got %lld for %u", who, (long long)answer, w->tried);
	return !err && answer == (int)w->tried;
}

void crash_bystander_call(struct crash_world *w)
{
	crash_call(w, w->bystander, "the bystander");
}

/* Stores that were never finished are taken for somebody's that works on it, until they are old. */
static void age_temporaries(struct crash_world *w)
{
	static const struct timespec old[2] = { { 1, 0 }, { 1, 0 } };
	DIR *dir = opendir(w->dir);
	const struct dirent *boot, *entry;

	while (dir && (boot = readdir(dir))) {
		int fd = strncmp(boot->d_name, "boot-", 5) == 0
		                 ? openat(dirfd(dir), boot->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
		                 : -1;
		DIR *inner = fd >= 0 ? fdopendir(fd) : NULL;

		while (inner && (entry = readdir(inner)))
			if (strncmp(entry->d_name, "lmdb.new.", 9) == 0)
				utimensat(fd, entry->d_name, old, 0);
		if (inner)
			closedir(inner);
	}
	if (dir)
		closedir(dir);
}

static void problem(void *arg, const char *line)
{
	snprintf(arg, 400, "%s", line);
}

/* Adds the lines of a that b lacks, up to a few. */
static void lines_without(const char *a, const char *b, const char *mark, char text[400])
{
	while (*a) {
		size_t len = strcspn(a, "\n") + 1, used = strlen(text);
		char line[300];

		snprintf(line, sizeof(line), "\n%.*s", (int)len, a);
		if (!strstr(b, line) && strncmp(b, line + 1, len) != 0)
			snprintf(text + used, 400 - used, "%s%.*s", mark, (int)len - 1, a);
		a += len;
	}
}

void crash_compare(struct crash_world *w, char text[400])
{
	char *files = list_files(w->dir);
	size_t processes = count_processes(w);
	uint64_t sessions = count_sessions(w);
	int problems;

	text[0] = '\0';
	problems = sb__inspect_check(w->inspect, problem, text);
	if (problems < 0)
		snprintf(text, 400, "the check failed: %s", sb_last_error()->message);
	lines_without(files, w->files, " additional ", text);
	lines_without(w->files, files, " missing ", text);
	if (!text[0] && (processes != w->processes || sessions != w->sessions))
		snprintf(text, 400, "%zu processes (before: %zu), %llu sessions (%llu)", processes,
		         w->processes, (unsigned long long)sessions, (unsigned long long)w->sessions);
	free(files);
}

void crash_sweep(struct crash_world *w)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result = { .complete = false };
	int err;

	age_temporaries(w);
	err = sb__reaper_sweep(w->hand.store, &w->hand.dir, &options, &result);
	if (err || !result.complete || result.failed || result.damaged)
		crash_wrong(w, "the sweep: %s%s, %u failed%s", err ? sb_last_error()->message : "no error",
		            result.complete ? "" : ", incomplete", result.failed,
		            result.damaged ? ", damage" : "");
}

void crash_check(struct crash_world *w)
{
	uint64_t until = sb__now_ms() + SETTLE_MS;
	char text[400];

	crash_bystander_call(w);
	crash_sweep(w);
	/* What is left may still be with an owner that lives and frees it itself: no further sweep helps it. */
	do {
		crash_compare(w, text);
		if (text[0])
			usleep(1000);
	} while (text[0] && sb__now_ms() < until);
	if (text[0])
		crash_wrong(w, "after one pass: %s", text);
	w->tried++;
}

/* ── pipes ── */

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void crash_pipes(struct crash_world *w)
{
	if (pipe2(w->to_victim, O_CLOEXEC) != 0 || pipe2(w->to_parent, O_CLOEXEC) != 0)
		abort();
}

void crash_pipes_in_victim(struct crash_world *w)
{
	close_end(&w->to_victim[1]);
	close_end(&w->to_parent[0]);
}

void crash_pipes_in_parent(struct crash_world *w)
{
	close_end(&w->to_victim[0]);
	close_end(&w->to_parent[1]);
}

void crash_pipes_close(struct crash_world *w)
{
	for (int i = 0; i < 2; i++) {
		close_end(&w->to_victim[i]);
		close_end(&w->to_parent[i]);
	}
}

bool crash_tell(int fd[2])
{
	return write(fd[1], "x", 1) == 1;
}

bool crash_hear(int fd[2])
{
	char byte;

	return read(fd[0], &byte, 1) == 1;
}

void crash_report(const char *suite, const char *item, unsigned long tried, unsigned long failed,
                  uint64_t began_ns)
{
	printf("reliability: %s/%s tried=%lu failed=%lu seconds=%.1f\n", suite, item, tried, failed,
	       (double)(sb__now_ns() - began_ns) / 1e9);
	fflush(stdout);
}
