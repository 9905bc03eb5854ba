/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pidfd per attached process. The kernel makes it readable after the process has given up its memory, and
 * with that its life token.
 *
 * A process that attaches is found by reading the process records again: one read transaction, 4 times a
 * second, measured at 50 µs with 1,000 processes (bench/reaper_scale.c). (Watching the store's file by inotify would
 * wake for every write of every session instead.) Processes beyond WATCHED_MAX get no pidfd, but each such
 * look asks whether they live.
 *
 * Crash: leaves nothing.
 */
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "identity.h"
#include "os_linux.h"

#define WATCHED_MAX 512 /* pidfds: half of the usual limit of descriptors */

struct watch {
	struct {
		uint32_t generation;
		bool told; /* that this generation is dead */
		int fd;    /* of this generation; -1: none */
	} slots[SB__SLOTS_MAX];
	unsigned open;
	struct pollfd polled[WATCHED_MAX + 1];
	uint32_t polled_slots[WATCHED_MAX + 1];
};

struct watch *watch_new(void)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	for (uint32_t slot = 0; watch && slot < SB__SLOTS_MAX; slot++)
		watch->slots[slot].fd = -1;
	return watch;
}

static void drop(struct watch *watch, uint32_t slot)
{
	if (watch->slots[slot].fd < 0)
		return;
	sb__os_close(watch->slots[slot].fd);
	watch->slots[slot].fd = -1;
	watch->open--;
}

void watch_free(struct watch *watch)
{
	for (uint32_t slot = 0; watch && slot < SB__SLOTS_MAX; slot++)
		drop(watch, slot);
	free(watch);
}

/* True: it is dead, and that is news. */
static bool update_one(struct watch *watch, const struct sb__identity *identity, int life_fd)
{
	uint32_t slot = identity->slot;
	int fd = -1;

	if (slot >= SB__SLOTS_MAX)
		return false;
	if (watch->slots[slot].generation != identity->generation) {
		drop(watch, slot);
		watch->slots[slot].generation = identity->generation;
		watch->slots[slot].told = false;
	}
	if (watch->slots[slot].fd >= 0 || watch->slots[slot].told)
		return false;
	if (watch->open < WATCHED_MAX)
		fd = sb__os_pidfd_open(identity->pid);
	/* Asked after the descriptor was opened: alive now, so the descriptor is of that very process. */
	if (sb__liveness_quick(life_fd, identity).verdict == SB__DEAD) {
		if (fd >= 0)
			sb__os_close(fd);
		watch->slots[slot].told = true;
		return true;
	}
	watch->slots[slot].fd = fd;
	watch->open += fd >= 0;
	return false;
}

bool watch_update(struct watch *watch, struct sb__store *store, const struct sb__bridge_dir *dir)
{
	struct sb__identity *ids = NULL;
	bool dead = false;
	size_t count = 0;

	if (sb__store_processes(store, &ids, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		dead |= update_one(watch, &ids[i], dir->life_fd);
	free(ids);
	return dead;
}

enum watch_result watch_wait(struct watch *watch, int signals, int timeout_ms)
{
	enum watch_result result = WATCH_TIMEOUT;
	nfds_t count = 1;

	watch->polled[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX && count <= watch->open; slot++) {
		if (watch->slots[slot].fd < 0)
			continue;
		watch->polled_slots[count] = slot;
		watch->polled[count++] = (struct pollfd){ .fd = watch->slots[slot].fd, .events = POLLIN };
	}
	if (poll(watch->polled, count, timeout_ms) < 0)
		return errno == EINTR ? WATCH_TIMEOUT : WATCH_SIGNAL;
	for (nfds_t i = 1; i < count; i++)
		if (watch->polled[i].revents != 0) {
			drop(watch, watch->polled_slots[i]);
			result = WATCH_DEATH;
		}
	return watch->polled[0].revents != 0 ? WATCH_SIGNAL : result;
}
