/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pidfd per process. The kernel makes it readable after the process has given up its memory, and with that its life
 * token. Processes beyond the limit get no pidfd: whoever watches looks at them from time to time.
 *
 * How it is known who there is: sb-reaper reads the process records, one read transaction, 4 times a second, measured at
 * 50 µs with 1,000 processes (bench/reaper_scale.c). (Watching the store's file by inotify would wake for every write of
 * every session instead.) A designated owner adds those that call it (session/watcher.c).
 *
 * Crash: leaves nothing. A descriptor is forgotten before it is closed, so a child forked in between may have one open that
 * it does not know, and never closes one that is not its.
 */
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "identity.h"
#include "os_linux.h"

#define FAILED_MS 100 /* between tries of a poll() that fails */

struct sb__watch {
	struct {
		uint32_t generation;
		bool told; /* that this generation is dead */
		int fd;    /* of this generation; -1: none */
	} slots[SB__SLOTS_MAX];
	unsigned open, max;
	struct pollfd *polled; /* room for max + 1 */
	uint32_t *polled_slots;
};

struct sb__watch *sb__watch_new(unsigned max)
{
	struct sb__watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->max = max;
	watch->polled = calloc(max + 1u, sizeof(*watch->polled));
	watch->polled_slots = calloc(max + 1u, sizeof(*watch->polled_slots));
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX; slot++)
		watch->slots[slot].fd = -1;
	if (watch->polled && watch->polled_slots)
		return watch;
	sb__watch_free(watch);
	return NULL;
}

static void drop(struct sb__watch *watch, uint32_t slot)
{
	int fd = __atomic_exchange_n(&watch->slots[slot].fd, -1, __ATOMIC_SEQ_CST);

	if (fd < 0)
		return;
	sb__os_close(fd);
	watch->open--;
}

void sb__watch_close(struct sb__watch *watch)
{
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX; slot++)
		drop(watch, slot);
}

void sb__watch_free(struct sb__watch *watch)
{
	if (!watch)
		return;
	sb__watch_close(watch);
	free(watch->polled);
	free(watch->polled_slots);
	free(watch);
}

bool sb__watch_add(struct sb__watch *watch, const struct sb__identity *identity, int life_fd)
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
	if (watch->open < watch->max)
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

bool sb__watch_update(struct sb__watch *watch, struct sb__store *store, const struct sb__bridge_dir *dir)
{
	struct sb__identity *ids = NULL;
	bool dead = false;
	size_t count = 0;

	if (sb__store_processes(store, &ids, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		dead |= sb__watch_add(watch, &ids[i], dir->life_fd);
	free(ids);
	return dead;
}

enum sb__watch_result sb__watch_wait(struct sb__watch *watch, int fd, int timeout_ms,
                                     void (*died)(void *arg, uint32_t slot, uint32_t generation), void *arg)
{
	enum sb__watch_result result = SB__WATCH_TIMEOUT;
	nfds_t count = 1;
	int err;

	watch->polled[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
	for (uint32_t slot = 0; slot < SB__SLOTS_MAX && count <= watch->open; slot++) {
		if (watch->slots[slot].fd < 0)
			continue;
		watch->polled_slots[count] = slot;
		watch->polled[count++] = (struct pollfd){ .fd = watch->slots[slot].fd, .events = POLLIN };
	}
	err = sb__os_poll(watch->polled, count, timeout_ms);
	if (err == -EINTR)
		return SB__WATCH_TIMEOUT;
	if (err < 0) { /* no memory, or more than RLIMIT_NOFILE by now: sweeps find the dead, too */
		err = sb__os_poll_fd(fd, FAILED_MS);
		if (err < 0)
			sb__os_sleep((uint64_t)FAILED_MS * 1000000);
		return err > 0 ? SB__WATCH_FD : SB__WATCH_TIMEOUT;
	}
	for (nfds_t i = 1; i < count; i++) {
		uint32_t slot = watch->polled_slots[i];

		if (watch->polled[i].revents == 0)
			continue;
		drop(watch, slot);
		result = SB__WATCH_DEATH;
		if (died)
			died(arg, slot, watch->slots[slot].generation);
	}
	return watch->polled[0].revents != 0 ? SB__WATCH_FD : result;
}
