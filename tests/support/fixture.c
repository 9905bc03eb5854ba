/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HANGS_MS  110000
#define SILENT_MS 60000
#define LOOK_MS   100

void fixture_dir_make(char *path, size_t size)
{
	const char *parent = getenv("TMPDIR");

	if (!parent || !*parent)
		parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(path, size, "%s/snakebridge-test-XXXXXX", parent);
	if (!mkdtemp(path)) {
		fprintf(stderr, "mkdtemp %s: %s\n", path, strerror(errno));
		exit(1);
	}
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) && errno != ENOENT ? -1 : 0;
}

void fixture_dir_remove(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

bool succeeds(int err)
{
	if (err)
		fprintf(stderr, "failed with %s: %s\n%s", sb_error_name(err), sb_last_error()->message,
		        sb_last_error()->python_traceback);
	return err == 0;
}

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture_dir_make(f->dir, sizeof(f->dir));
	assert_ok(sb_bridge_open(f->dir, NULL, &f->bridge));
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	sb_bridge_close(f->bridge);
	fixture_dir_remove(f->dir);
	free(f);
	return 0;
}

sb_session *fixture_session(sb_bridge *bridge, const char *id, sb_designated designated)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *session = NULL;

	options.session_id = id;
	options.designated = designated;
	assert_ok(sb_session_open(bridge, &options, &session));
	return session;
}

pid_t fixture_fork(int (*fn)(void *arg), void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(fn(arg));
	return pid;
}

static void print_file(const char *what, pid_t pid)
{
	char path[64], text[256] = "";
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	fprintf(stderr, "%s: %.*s\n", path, n > 0 ? (int)n : 0, text);
}

/*
 * gcc 12's AddressSanitizer takes no lock of its allocator around fork(): where another thread of the parent held one at that
 * moment, the child waits for it for ever. Those locks lie behind the allocator's space (kSpaceBeg + kSpaceSize in
 * sanitizer_common/sanitizer_allocator_primary64.h), where nothing of ours is.
 */
static bool hangs_in_sanitizer(pid_t pid)
{
	const unsigned long locks = 0x640000000000, locks_size = 0x100000;
	unsigned long address = 0;
	char path[64];
	long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "%ld %lx", &number, &address) != 2)
		number = -1;
	fclose(file);
	return number == SYS_futex && address - locks < locks_size;
}

/* A process that hangs says where it does, and ends, before the whole test runs out of time. */
static void end_if_it_hangs(pid_t pid)
{
	struct pollfd ended = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	bool sanitizers;
	int rc;

	if (ended.fd < 0)
		return;
	do
		rc = poll(&ended, 1, HANGS_MS);
	while (rc < 0 && errno == EINTR);
	close(ended.fd);
	if (rc != 0)
		return;
	fprintf(stderr, "process %d still runs after %d s: killed\n", (int)pid, HANGS_MS / 1000);
	print_file("stat", pid);
	print_file("wchan", pid);
	print_file("syscall", pid);
	print_file("stack", pid);
	sanitizers = hangs_in_sanitizer(pid);
	kill(pid, SIGKILL);
	if (sanitizers) {
		(void)waitpid(pid, NULL, 0);
		print_message(
			"skipped: AddressSanitizer's allocator was locked when this process was forked\n");
		skip();
	}
}

int fixture_wait(pid_t pid)
{
	int status;

	end_if_it_hangs(pid);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ── what a child says ── */

/* Has it ended? It stays to be waited for. */
static bool has_ended(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

/* Waits for one more byte or more. */
static bool is_heard(int fd, pid_t from)
{
	struct pollfd word = { .fd = fd, .events = POLLIN };

	for (int waited = 0; waited < SILENT_MS; waited += LOOK_MS) {
		bool ended = has_ended(from); /* before the look: what it said before it ended counts */
		int rc = poll(&word, 1, ended ? 0 : LOOK_MS);

		if (rc > 0)
			return true;
		if (ended)
			break;
	}
	fprintf(stderr, "process %d %s and has not said what was waited for\n", (int)from,
	        has_ended(from) ? "has ended" : "still runs");
	return false;
}

bool fixture_hear(int fd, pid_t from, void *word, size_t size)
{
	size_t got = 0;

	while (got < size && is_heard(fd, from)) {
		ssize_t n = read(fd, (char *)word + got, size - got);

		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	return got == size;
}

/* ── tools ── */

static char *read_all(int fd)
{
	size_t len = 0, cap = 4096;
	char *text = malloc(cap + 1);
	ssize_t n;

	while ((n = read(fd, text + len, cap - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		len += (size_t)n;
		if (len == cap)
			text = realloc(text, (cap *= 2) + 1);
	}
	text[len] = 0;
	return text;
}

static int run_tool(const char *dir, char **output, const char *tool, va_list args)
{
	const char *argv[64] = { tool, "--dir", dir };
	const char *build = getenv("SB_BUILD_DIR");
	char path[4096], *text;
	int fds[2], n = 3, status;
	pid_t pid;

	while (n < 63 && (argv[n] = va_arg(args, const char *)))
		n++;
	snprintf(path, sizeof(path), "%s/bin/%s", build ? build : ".", tool);
	if (pipe(fds))
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		execv(path, (char *const *)(uintptr_t)argv);
		fprintf(stderr, "cannot run %s: %s\n", path, strerror(errno));
		_exit(127);
	}
	close(fds[1]);
	text = read_all(fds[0]);
	close(fds[0]);
	status = fixture_wait(pid);
	if (output)
		*output = text;
	else
		free(text);
	return status;
}

int fixture_tool(const char *dir, char **output, const char *tool, ...)
{
	va_list args;
	int status;

	va_start(args, tool);
	status = run_tool(dir, output, tool, args);
	va_end(args);
	return status;
}

json_t *fixture_tool_json(const char *dir, const char *tool, ...)
{
	va_list args;
	char *text = NULL;
	json_t *json;

	va_start(args, tool);
	run_tool(dir, &text, tool, args);
	va_end(args);
	json = json_loads(text ? text : "", JSON_DECODE_ANY, NULL);
	if (!json)
		fprintf(stderr, "%s wrote no JSON: %s\n", tool, text ? text : "");
	free(text);
	return json;
}

void fixture_wait_running(const struct fixture *f, const char *label)
{
	for (int i = 0; i < 3000; i++) {
		json_t *j = fixture_tool_json(f->dir, "sb-inspect", "--json", "calls", NULL);
		char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
		bool runs = text && strstr(text, label) && strstr(text, "\"running\"");

		free(text);
		json_decref(j);
		if (runs)
			return;
		usleep(10000);
	}
	fail_msg("no call of %s runs", label);
}

int fixture_slowness(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return 5;
#else
	return 1;
#endif
}
