/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-owner: a process of its own that holds one session's Python objects and serves calls on them.
 *
 * With --detach it leaves the caller's terminal, and the process that was started ends once the session is
 * served: status 0 and the line "ready", else an error. The library starts it this way for sessions with
 * designated = dedicated.
 *
 * Crash: as any designated owner's death: callers are told at once, the session is orphaned.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "output.h"
#include "report.h"
#include "session.h"
#include "snakebridge/snakebridge.h"

static struct tool_common common = TOOL_COMMON_INIT;
static struct tool_session wanted = TOOL_SESSION_INIT;
static const char *on_full;
static bool persistent, detach;

static const struct tool_option own[] = {
	{ .name = "session",
	  .letter = 's',
	  .argument = "ID",
	  .help = "the session to serve (required)",
	  .type = TOOL_TEXT,
	  .target = &wanted.id },
	{ .name = "persistent",
	  .letter = 'p',
	  .help = "let the session outlive its last owner; it ends on release or after its TTL",
	  .type = TOOL_FLAG,
	  .target = &persistent },
	{ .name = "on-full",
	  .argument = "evict|error",
	  .help = "when the session is full, evict a ref or fail the call (default evict)",
	  .type = TOOL_TEXT,
	  .target = &on_full },
	TOOL_SESSION_OPTIONS(wanted),
	{ .name = "detach",
	  .help = "continue in the background once the session is served",
	  .type = TOOL_FLAG,
	  .target = &detach },
	{ 0 },
};
static const struct tool_option shared[] = { TOOL_COMMON_OPTIONS(common), { 0 } };
static const struct tool_group groups[] = { { "Session", own }, { "Common options", shared }, { 0 } };
static const struct tool tool = {
	.name = "sb-owner",
	.usage = "--session ID [options]",
	.about =
		"Holds the Python objects of one session and serves calls on them, until the session ends or "
		"SIGTERM or SIGINT stops it. If it stops first, the session is orphaned.\n"
		"The library starts it for sessions that are opened with designated = dedicated. Started by "
		"hand, or "
		"as a service, it keeps objects independent of the programs that use them.",
	.groups = groups,
	.exits = "0  the session ended, or a signal ended the owner\n"
		 "2  the command line is wrong\n"
		 "3  the bridge cannot be used, or Python cannot be started\n"
		 "4  the bridge was made by another version\n"
		 "5  the bridge's data is damaged\n"
		 "6  the session has a living designated owner or contradicting options\n",
	.environment = TOOL_ENVIRONMENT "SNAKEBRIDGE_PYTHON  as --python\n",
	.examples = "sb-owner --session iris --persistent --ttl 0 --detach\n",
	.common = &common,
};

static volatile int stop;
static int ready_fd = -1; /* detached: where the starter waits */

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static void handle_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };

	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void to_null(int fd)
{
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, fd);
		if (null > 2)
			close(null);
	}
}

/* The session can be used: says so, and when detached lets go of the starter's pipe. */
static int ready(sb_session *session, void *arg)
{
	(void)arg;
	if (!common.quiet && ready_fd < 0)
		fprintf(stderr, "sb-owner: serving session \"%s\"\n", sb_session_id(session));
	if (ready_fd >= 0) {
		ssize_t ignored = write(ready_fd, "R", 1);

		(void)ignored;
		close(ready_fd);
		to_null(1);
		to_null(2);
	}
	return 0;
}

/* The session is over. A call that hangs in Python must not keep this process: it is then ended by SIGALRM, and what it
 * left is tidied as after any death. */
static void close_within_a_second(sb_bridge *bridge)
{
	signal(SIGALRM, SIG_DFL);
	alarm(1);
	sb_bridge_close(bridge);
	alarm(0);
}

static int serve(const sb_session_options *options)
{
	sb_bridge_options bridge_options = SB_BRIDGE_OPTIONS_INIT;
	sb_bridge *bridge;
	int err;

	bridge_options.timeout_ms = (uint32_t)common.timeout_ms;
	bridge_options.python_executable = wanted.python;
	err = sb_bridge_open(common.dir, &bridge_options, &bridge);
	if (err)
		return tool_report(&tool, sb_last_error());
	err = sb_owner_run(bridge, options, ready, NULL, &stop);
	if (err) {
		int status = tool_report(&tool, sb_last_error());

		sb_bridge_close(bridge);
		return err == SB_EOPTION ? TOOL_EXIT_REFUSED
		                         : status; /* the session is somebody else's: no usage error */
	}
	close_within_a_second(bridge);
	return 0;
}

/* The starter waits for the byte that says ready; without it the owner has reported an error, and its status counts. */
static int wait_ready(int fd, pid_t owner)
{
	char byte;
	ssize_t n;
	int status;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1) {
		puts("ready");
		(void)fflush(stdout); /* nobody may hear it: the session is served all the same */
		return 0;
	}
	if (waitpid(owner, &status, 0) == owner && WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "sb-owner: the owner process died before it was ready\n");
	return TOOL_EXIT_ATTACH;
}

static int run_detached(const sb_session_options *options)
{
	int fds[2];
	pid_t pid;

	closefrom(3); /* what the starting program left open is not ours to keep open */
	if (pipe(fds)) {
		perror("sb-owner: pipe");
		return TOOL_EXIT_ATTACH;
	}
	pid = fork();
	if (pid < 0) {
		perror("sb-owner: fork");
		return TOOL_EXIT_ATTACH;
	}
	if (pid > 0) {
		close(fds[1]);
		return wait_ready(fds[0], pid);
	}
	close(fds[0]);
	setsid();
	if (chdir("/"))
		perror("sb-owner: chdir /");
	ready_fd = fds[1];
	return serve(options);
}

int main(int argc, char **argv)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	int status;

	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	if (!wanted.id)
		return tool_usage(&tool, "--session ID is required");
	if (optind < argc)
		return tool_usage(&tool, "unexpected argument '%s'", argv[optind]);
	if (on_full && strcmp(on_full, "evict") != 0 && strcmp(on_full, "error") != 0)
		return tool_usage(&tool, "--on-full takes evict or error, not '%s'", on_full);
	status = tool_session_fill(&tool, &wanted, &options);
	if (status)
		return status;
	options.on_full = !on_full                               ? SB_ON_FULL_UNSET
	                  : *on_full == 'e' && on_full[1] == 'r' ? SB_ON_FULL_ERROR
	                                                         : SB_ON_FULL_EVICT;
	options.persistent = persistent;
	handle_signals();
	tool_streams_swallow();
	return detach ? run_detached(&options) : serve(&options);
}
