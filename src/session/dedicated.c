/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a dedicated designated owner: an sb-owner process that serves one session.
 *
 * posix_spawn() runs none of the host program's fork handlers and copies no memory. sb-owner detaches
 * itself: the process spawned here ends once the session is served, after writing "ready" to the pipe,
 * or an error sentence.
 *
 * Crash: killed while waiting, the sb-owner goes on and finds that nobody came: it ends the session.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "core.h"
#include "engine.h"
#include "fail.h"
#include "os_linux.h"
#include "point.h"

#ifndef SB_OWNER_INSTALL_PATH
#define SB_OWNER_INSTALL_PATH "/usr/bin/sb-owner"
#endif
#define LOOK_MS     100 /* between looks whether the session is still there */
#define EXIT_SERVED 6   /* of sb-owner: the session has a living designated owner */
#define ARGS_MAX    (24 + 2 * SB_TAGS_MAX + 4 * SB_POLICY_PATTERNS_MAX)

/* ── finding the program ── */

/* Beside the library or program that holds this code: build trees and relocated installations. */
static bool find_near(char *path, size_t size)
{
	static const char *const places[] = { "", "../bin/", "../../bin/", "../../../bin/" };
	Dl_info info;
	const char *slash;

	if (!dladdr((const void *)(uintptr_t)sb__dedicated_start, &info) || !info.dli_fname)
		return false;
	slash = strrchr(info.dli_fname, '/');
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int dir = slash ? (int)(slash - info.dli_fname + 1) : 0;
		int n = snprintf(path, size, "%.*s%ssb-owner", dir, info.dli_fname, places[i]);

		if (n > 0 && (size_t)n < size && sb__os_executable(path))
			return true;
	}
	return false;
}

static int find_program(char *path, size_t size)
{
	const char *named = secure_getenv("SNAKEBRIDGE_OWNER");

	if (named && *named) {
		snprintf(path, size, "%s", named);
		return sb__os_executable(path)
		               ? 0
		               : sb__fail(SB_ESTART, "SNAKEBRIDGE_OWNER names %s, which cannot be executed",
		                          named);
	}
	if (find_near(path, size))
		return 0;
	snprintf(path, size, "%s", SB_OWNER_INSTALL_PATH);
	return sb__os_executable(path) ? 0
	                               : sb__fail(SB_ESTART,
	                                          "the program sb-owner is neither beside the library nor at "
	                                          "%s: install it, or name it in SNAKEBRIDGE_OWNER",
	                                          SB_OWNER_INSTALL_PATH);
}

/* ── its arguments ── */

struct arguments {
	const char *argv[ARGS_MAX];
	unsigned count;
	char max_refs[32], quota[32], share[32], ttl[32];
	char tags[2 * SB_TAGS_BYTES_MAX]; /* "key=value" strings */
};

static void add(struct arguments *a, const char *arg)
{
	a->argv[a->count++] = arg;
	a->argv[a->count] = NULL;
}

static void add_option(struct arguments *a, const char *option, const char *value)
{
	add(a, option);
	add(a, value);
}

static void add_tags(struct arguments *a, const struct sb__session_rec *rec)
{
	const char *at = rec->tags;
	char *out = a->tags;

	for (uint32_t i = 0; i < rec->tag_count; i++) {
		const char *key = at, *value = at + strlen(at) + 1;

		add_option(a, "--tag", out);
		out += sprintf(out, "%s=%s", key, value) + 1;
		at = value + strlen(value) + 1;
	}
}

static void add_policy(struct arguments *a, const struct sb__session_rec *rec)
{
	for (const char *p = rec->policy; p < rec->policy + rec->policy_len; p += strlen(p) + 1)
		add_option(a, *p == '+' ? "--allow" : "--deny", p + 1);
}

static void make_arguments(struct arguments *a, const char *program, const struct sb__core *core,
                           const struct sb__session_rec *rec)
{
	memset(a, 0, sizeof(*a));
	add(a, program);
	add(a, "--detach");
	add_option(a, "--dir", core->dir.path);
	add_option(a, "--session", rec->session_id);
	snprintf(a->max_refs, sizeof(a->max_refs), "%u", rec->max_refs);
	add_option(a, "--max-refs", a->max_refs);
	snprintf(a->quota, sizeof(a->quota), "%u", rec->max_refs_per_process);
	add_option(a, "--max-refs-per-process", a->quota);
	snprintf(a->share, sizeof(a->share), "%llu", (unsigned long long)rec->max_session_arena_bytes);
	add_option(a, "--max-session-arena-bytes", a->share);
	snprintf(a->ttl, sizeof(a->ttl), "%llu", (unsigned long long)(rec->ttl_ms / 1000));
	add_option(a, "--ttl", a->ttl);
	add_option(a, "--on-full", rec->on_full == SB_ON_FULL_ERROR ? "error" : "evict");
	if (rec->persistent)
		add(a, "--persistent");
	if (core->python_executable)
		add_option(a, "--python", core->python_executable);
	add_tags(a, rec);
	add_policy(a, rec);
}

/* ── running it ── */

/* What it says until it closes its end: 0; -ETIMEDOUT: the time is over; -ECANCELED: its session is; or -errno. */
static int listen_to(int fd, struct sb__core *core, const struct sb__session_rec *rec, char *text,
                     size_t size)
{
	uint64_t until = sb__start_until(core);
	size_t len = 0;

	text[0] = 0;
	for (;;) {
		uint64_t now = sb__now_ms();
		uint64_t slice = until - now < LOOK_MS ? until - now : LOOK_MS;
		int ready = now < until ? sb__os_poll_fd(fd, (int)slice) : 0;
		ssize_t n;

		if (ready == 0 && !sb__start_wanted(core, rec))
			return -ECANCELED;
		if (ready == -EINTR || (ready == 0 && now < until))
			continue;
		if (ready <= 0)
			return ready ? ready : -ETIMEDOUT;
		n = sb__os_read(fd, text + len, size - 1 - len);
		if (n < 0)
			return (int)n;
		if (n == 0 || len + (size_t)n == size - 1)
			return 0;
		len += (size_t)n;
		text[len] = 0;
	}
}

static int verdict(const struct sb__core *core, const char *program, const char *session_id, int heard,
                   char *text)
{
	size_t len = strlen(text);

	if (heard < 0 && heard != -ETIMEDOUT)
		return sb__fail_errno(SB_ESTART, -heard, "listening to %s, which starts session \"%s\"",
		                      program, session_id);
	if (heard < 0)
		return sb__fail(SB_ESTART, "%s did not get session \"%s\" ready within %u ms", program,
		                session_id, (unsigned)sb__core_number(core, SB__CONFIG_START_TIMEOUT_MS));
	while (len && text[len - 1] == '\n')
		text[--len] = 0;
	if (len >= 5 && strcmp(text + len - 5, "ready") == 0)
		return 0;
	return sb__fail(SB_ESTART, "the dedicated owner of session \"%s\" did not start: %s", session_id,
	                len ? text : "it said nothing; try sb-owner by hand");
}

/* Two may start an owner at once: the second one ends with an error, but there is what was wanted. */
static bool somebody_was_quicker(struct sb__core *core, const struct sb__session_rec *rec, int status)
{
	struct sb__session_rec now;

	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SERVED)
		return true;
	/* Where the host program reaps all children there is no status. */
	return sb__store_session_get(core->store, rec->session_id, &now) == 1 &&
	       now.incarnation != rec->incarnation;
}

int sb__dedicated_start(struct sb__core *core, const struct sb__session_rec *rec)
{
	struct arguments a;
	char program[4096], text[1024];
	int fds[2], heard = -EINTR, status = 0, err;
	pid_t pid;

	err = find_program(program, sizeof(program));
	if (err)
		return err;
	make_arguments(&a, program, core, rec);
	err = sb__os_pipe(fds);
	if (err < 0)
		return sb__fail_errno(SB_ESTART, -err, "a pipe to sb-owner");
	sb__turn_ordinary();
	err = sb__os_spawn(program, a.argv, fds[1], &pid);
	(void)sb__os_close(fds[1]);
	SB_POINT("dedicated.spawned");
	if (err < 0) {
		err = sb__fail_errno(SB_ESTART, -err, "starting %s", program);
	} else {
		heard = listen_to(fds[0], core, rec, text, sizeof(text));
		if (heard < 0) {
			(void)sb__os_kill(pid, SIGTERM);
			(void)sb__os_kill(pid, SIGCONT); /* one that is stopped does not end before */
		}
		/* -ECHILD: the host program reaps all children itself; what was said counts */
		(void)sb__os_wait(pid, &status);
		SB_POINT("dedicated.heard");
		err = heard == -ECANCELED ? 0 : verdict(core, program, rec->session_id, heard, text);
	}
	(void)sb__os_close(fds[0]);
	return err && heard == 0 && somebody_was_quicker(core, rec, status) ? 0 : err;
}
