/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds of dead processes in the tables beside arenas. A hold names its keeper by slot and half a generation; a process
 * has its record before its first hold and until it gave the last one back or died, so a hold that was seen and whose
 * process has no record then is a dead one's. Clearing is a compare-and-swap of the exact word.
 *
 * Locks: none; short read transactions. Crash: what was not cleared is found by the next sweep: the record of a dead
 * process goes after its holds.
 */
#include "holds_sweep.h"

#include <stdlib.h>

#include "bridge_files.h"
#include "fail.h"
#include "holds.h"

#define GONE_MAX 64 /* dead keepers of one table that one pass lets go of */

struct looking {
	struct sb__store *store;
	const struct sb__bridge_dir *dir;
	bool (*reclaimed)(void *arg, uint32_t slot, uint32_t generation);
	void *arg;
	struct {
		uint32_t slot, generation, count;
	} gone[GONE_MAX];
	unsigned gone_count;
	uint32_t alive_slot,
		alive_generation; /* the last that was found alive: holds of one process come together */
	bool has_alive;
	int error;
};

static bool is_gone(struct looking *l, uint32_t slot, uint32_t generation)
{
	struct sb__identity identity;
	int r;

	if (l->has_alive && l->alive_slot == slot && l->alive_generation == generation)
		return false;
	r = sb__store_process_get(l->store, slot, &identity);
	if (r < 0) {
		l->error = r;
		return false;
	}
	if (r == 0 || (identity.generation & 0xffffu) != generation)
		return true;
	if (sb__liveness_quick(l->dir->life_fd, &identity).verdict == SB__DEAD)
		return l->reclaimed(l->arg, slot, generation);
	l->alive_slot = slot;
	l->alive_generation = generation;
	l->has_alive = true;
	return false;
}

static void look(void *arg, uint64_t word)
{
	struct looking *l = arg;
	uint32_t slot = SB__HOLD_SLOT(word), generation = SB__HOLD_GENERATION(word);

	if (l->error)
		return;
	for (unsigned i = 0; i < l->gone_count; i++)
		if (l->gone[i].slot == slot && l->gone[i].generation == generation) {
			l->gone[i].count++;
			return;
		}
	if (l->gone_count == GONE_MAX || !is_gone(l, slot, generation))
		return;
	l->gone[l->gone_count].slot = slot;
	l->gone[l->gone_count].generation = generation;
	l->gone[l->gone_count++].count = 1;
}

int sb__reaper_drop_holds(struct sb__store *store, const struct sb__bridge_dir *dir, bool dry_run,
                          bool (*reclaimed)(void *arg, uint32_t slot, uint32_t generation),
                          void *reclaimed_arg,
                          void (*told)(void *arg, uint32_t slot, uint32_t generation, uint32_t count),
                          void *arg)
{
	struct looking l = { .store = store, .dir = dir, .reclaimed = reclaimed, .arg = reclaimed_arg };
	struct sb__bridge_file *files = NULL;
	size_t count = 0;
	int r = sb__bridge_files_of(dir, SB__FOLDER_ARENA, &files, &count);

	for (size_t i = 0; r == 0 && i < count; i++) {
		struct sb__holds_shm *holds;

		if (files[i].kind != SB__FILE_HOLDS ||
		    sb__holds_attach(dir->arena, files[i].slot, files[i].generation, &holds) < 0)
			continue;
		l.gone_count = 0;
		(void)sb__holds_each(holds, look, &l);
		for (unsigned k = 0; k < l.gone_count; k++) {
			uint32_t cleared = dry_run ? l.gone[k].count
			                           : sb__holds_clear(holds, l.gone[k].slot,
			                                             l.gone[k].generation);

			if (cleared && told)
				told(arg, l.gone[k].slot, l.gone[k].generation, cleared);
		}
		sb__holds_detach(holds);
		r = l.error;
	}
	free(files);
	return r;
}
