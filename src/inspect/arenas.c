/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas that share arrays, as their tables of holds tell.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include <stdlib.h>

#include "fail.h"
#include "holds.h"
#include "inspect_impl.h"

struct gathering {
	uint64_t words[SB__HOLDS_MAX];
	uint32_t count;
};

static void gather(void *arg, uint64_t word)
{
	struct gathering *g = arg;

	if (g->count < SB__HOLDS_MAX)
		g->words[g->count++] = word;
}

int sb__inspect_arenas(struct sb__inspect *inspect,
                       void (*visit)(void *arg, const struct sb__arena_view *view), void *arg)
{
	struct sb__bridge_file *files = NULL;
	size_t count = 0;
	int r = sb__bridge_files_of(&inspect->dir, SB__FOLDER_ARENA, &files, &count);
	struct gathering *g = malloc(sizeof(*g));

	if (r >= 0 && !g)
		r = sb__fail_memory("the list of arenas");
	for (size_t i = 0; r >= 0 && i < count; i++) {
		struct sb__holds_shm *holds;
		struct sb__arena_view view;

		if (files[i].kind != SB__FILE_HOLDS ||
		    sb__holds_attach(inspect->dir.arena, files[i].slot, files[i].generation, &holds) < 0)
			continue;
		g->count = 0;
		(void)sb__holds_each(holds, gather, g);
		view = (struct sb__arena_view){ .slot = files[i].slot,
			                        .generation = files[i].generation,
			                        .file_bytes = sb__load(&holds->file_bytes),
			                        .arrays = sb__load(&holds->blocks),
			                        .array_bytes = sb__load(&holds->bytes),
			                        .waiting = sb__load(&holds->waiting),
			                        .holds = g->count,
			                        .words = g->words };
		visit(arg, &view);
		sb__holds_detach(holds);
	}
	free(g);
	free(files);
	return r < 0 ? r : 0;
}

bool sb__inspect_hold_is_dead(struct sb__inspect *inspect, uint64_t word)
{
	struct sb__identity identity;

	if (SB__HOLD_SLOT(word) >= SB__SLOTS_MAX)
		return true;
	if (sb__store_process_get(inspect->store, SB__HOLD_SLOT(word), &identity) != 1 ||
	    (identity.generation & 0xffffu) != SB__HOLD_GENERATION(word))
		return true;
	return sb__look_evidence(inspect, identity.slot, identity.generation).verdict == SB__DEAD;
}
