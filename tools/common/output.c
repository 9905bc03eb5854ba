/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standard streams. Were a closed one left closed, the bridge's files would be opened in its place, and
 * what the tool prints would go there.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "output.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "options.h"

void tool_streams_open(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			/* The lowest free number, so this one; for reading only, so that writing fails. */
			(void)open("/dev/null", O_RDONLY);
}

void tool_streams_swallow(void)
{
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		int null;

		if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
			continue;
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0) {
			dup2(null, fd);
			close(null);
		}
	}
}

int tool_finish(const struct tool *tool, int status)
{
	static bool said;

	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (!said)
		fprintf(stderr, "%s: the output cannot be written\n", tool->name);
	said = true;
	return status == TOOL_EXIT_OK ? TOOL_EXIT_ATTACH : status;
}
