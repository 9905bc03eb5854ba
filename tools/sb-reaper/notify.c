/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notification protocol as sd_notify(3) describes it under "Notes": one datagram of "NAME=value" lines
 * to the AF_UNIX socket that $NOTIFY_SOCKET names, a path, or an abstract name after '@'. By hand, because
 * libsystemd would be the heaviest dependency of all for one sendto().
 *
 * Crash: leaves nothing.
 */
#include "notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len < 2 || len >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(address.sun_path, path, len);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Never blocks for a manager that does not listen. */
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&address,
	             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);
	uint64_t number = 0;

	if (!text || sscanf(text, "%20" SCNu64, &number) != 1)
		return 0;
	return number;
}

uint64_t notify_watchdog_ms(void)
{
	uint64_t pid = number_of("WATCHDOG_PID"), usec = number_of("WATCHDOG_USEC");

	if (pid != 0 && pid != (uint64_t)getpid())
		return 0; /* inherited: it is meant for another process */
	return usec == 0     ? 0
	       : usec < 2000 ? 1
	                     : usec / 2000; /* half of the time, as sd_watchdog_enabled(3) advises */
}
