/* SPDX-License-Identifier: Apache-2.0 */
/* What rows measure with: an owner and its Python names, CPUs, and what /proc says of a process. */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void give_up(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!bench_shared) {
		vfprintf(stderr, format, args);
		fputc('\n', stderr);
	} else if (!*bench_shared->error) {
		vsnprintf(bench_shared->error, sizeof(bench_shared->error), format, args);
	}
	va_end(args);
	_exit(1);
}

void must(int err, const char *what)
{
	if (err)
		give_up("%s: %s: %s", what, sb_error_name(err), sb_last_error()->message);
}

/* ── Python's side ── */

static const char common_source[] = "import time\n"
				    "class Nothing:\n"
				    " def noop(self): return None\n"
				    "nothing = Nothing()\n";

sb_ref bench_name(sb_session *session, const sb_ref *names, const char *name)
{
	sb_value *v;
	sb_ref ref;

	must(sb_getitem(session, names, sb_args("s", name), &v), name);
	if (!sb_value_ref(v))
		give_up("%s is no ref", name);
	ref = *sb_value_ref(v);
	sb_value_free(v);
	return ref;
}

void bench_names(sb_session *session, const char *source, sb_ref *ret_names, sb_ref *ret_nothing)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v;

	r.name = "builtins:dict";
	r.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &r, &v), "a dict");
	*ret_names = *sb_value_ref(v);
	sb_value_free(v);
	must(sb_ref_pin(session, ret_names, NULL), "a pin");
	must(sb_call(session, "builtins:exec", sb_args("sr", common_source, ret_names), NULL), "the source");
	if (source)
		must(sb_call(session, "builtins:exec", sb_args("sr", source, ret_names), NULL),
		     "the row's source");
	*ret_nothing = bench_name(session, ret_names, "nothing");
	must(sb_ref_pin(session, ret_nothing, NULL), "a pin");
}

void bench_owner(struct bench *bench, const char *source, int64_t max_refs)
{
	bench_owner_of(bench, "bench", source, max_refs);
}

void bench_owner_of(struct bench *bench, const char *session_id, const char *source, int64_t max_refs)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };

	o.session_id = session_id;
	o.designated = SB_DESIGNATED_DEDICATED;
	o.max_refs = max_refs;
	must(sb_session_open(bench->bridge, &o, &bench->session), "a session with an owner");
	must(sb_session_get_info(bench->session, &info), "its facts");
	bench->owner = info.designated_pid;
	bench_names(bench->session, source, &bench->names, &bench->nothing);
}

sb_value *bench_ask(struct bench *bench, const char *function, sb_args *args, uint32_t flags)
{
	static struct {
		char name[32];
		sb_ref ref;
	} known[16];
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	unsigned i = 0;

	while (i < 15 && *known[i].name && strcmp(known[i].name, function) != 0)
		i++;
	if (!*known[i].name) {
		known[i].ref = bench_name(bench->session, &bench->names, function);
		snprintf(known[i].name, sizeof(known[i].name), "%s", function);
	}
	r.verb = SB_VERB_METHOD;
	r.target = &known[i].ref;
	r.name = "__call__";
	r.args = args;
	r.flags = flags;
	must(sb_invoke(bench->session, &r, &v), function);
	return v;
}

double bench_ask_number(struct bench *bench, const char *function, sb_args *args)
{
	sb_value *v = bench_ask(bench, function, args, 0);
	double number;

	must(sb_value_float(v, &number), function);
	sb_value_free(v);
	return number;
}

void bench_noops(sb_session *session, const sb_ref *nothing, unsigned n)
{
	while (n-- > 0)
		must(sb_method(session, nothing, "noop", NULL, NULL), "noop()");
}

/* ── CPUs ── */

static void place_thread(pid_t tid, const cpu_set_t *set)
{
	sched_setaffinity(tid, sizeof(*set), set); /* a thread that has just ended is none */
}

void place(const struct bench *bench, pid_t pid, int cpu)
{
	struct dirent *entry;
	char path[64];
	cpu_set_t set;
	DIR *tasks;

	CPU_ZERO(&set);
	for (int i = 0; i < 2; i++)
		if (cpu < 0 || cpu == bench->cpu[i])
			CPU_SET(bench->cpu[i], &set);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (!tasks)
		give_up("%s: %s", path, strerror(errno));
	while ((entry = readdir(tasks)))
		if (*entry->d_name != '.')
			place_thread((pid_t)atoi(entry->d_name), &set);
	closedir(tasks);
}

/* ── /proc ── */

static bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

double cpu_time_us(pid_t pid)
{
	struct dirent *entry;
	char path[64 + 256], text[128];
	double ns = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (!tasks)
		give_up("%s: %s", path, strerror(errno));
	while ((entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, entry->d_name);
		if (*entry->d_name != '.' && read_file(path, text, sizeof(text)))
			ns += strtod(text, NULL);
	}
	closedir(tasks);
	return ns / 1e3;
}

static double field_kib(const char *path, const char *field)
{
	char text[8192];
	const char *at;

	if (!read_file(path, text, sizeof(text)))
		give_up("%s: %s", path, strerror(errno));
	at = strstr(text, field);
	if (!at)
		give_up("%s has no %s", path, field);
	return strtod(at + strlen(field) + 1, NULL);
}

double status_kib(pid_t pid, const char *field)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	return field_kib(path, field);
}

double pss_kib(void)
{
	return field_kib("/proc/self/smaps_rollup", "\nPss");
}

static double bytes_found;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)type;
	(void)ftw;
	bytes_found += (double)st->st_blocks * 512;
	return 0;
}

double tree_bytes(const char *dir)
{
	bytes_found = 0;
	nftw(dir, count_file, 32, FTW_PHYS);
	return bytes_found;
}

/* ── programs ── */

void sibling_path(const char *name, char path[4096])
{
	ssize_t n = readlink("/proc/self/exe", path, 4000);
	char *slash;

	if (n < 0)
		give_up("/proc/self/exe: %s", strerror(errno));
	path[n] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash + 1, 4096 - (size_t)(slash + 1 - path), "%s", name);
}

static size_t read_all(int fd, char *to, size_t size)
{
	char drop[4096];
	size_t len = 0;
	ssize_t n;

	for (;;) {
		bool room = to && len + 1 < size;

		n = read(fd, room ? to + len : drop, room ? size - 1 - len : sizeof(drop));
		if (n <= 0)
			break;
		len += room ? (size_t)n : 0;
	}
	if (to)
		to[len] = '\0';
	return len;
}

double run_ms(char *const argv[], char *ret_output, size_t size)
{
	double begun = now_ns();
	posix_spawn_file_actions_t actions;
	int fds[2], status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		give_up("a pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	if (posix_spawn(&pid, argv[0], &actions, NULL, argv, environ))
		give_up("%s cannot be started", argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	read_all(fds[0], ret_output, size);
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > 1)
		give_up("%s failed", argv[0]);
	return (now_ns() - begun) / 1e6;
}
