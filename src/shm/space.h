/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blocks that a process shares and keeps in one bridge: its own arena and its peers', as one. What the codec and the
 * Python engine see of shared memory.
 */
#ifndef SB_SHM_SPACE_H
#define SB_SHM_SPACE_H

#include "arena.h"
#include "array.h"

struct sb__space;

/* Takes over arena and cache: they go with it. */
int sb__space_create(struct sb__arena *arena, struct sb__arena_cache *cache, uint32_t slot,
                     uint32_t generation, uint64_t max_array_bytes, const void *bridge,
                     struct sb__space **ret);
/* The bridge is closed, or this is a forked child: nothing is made or kept any more. What is kept stays mapped; the
 * space itself goes with the last user of its blocks. */
void sb__space_close(struct sb__space *space, bool unlink);
/* Borrowed as long as the space is referenced. */
const struct sb__blocks *sb__space_blocks(struct sb__space *space);
/* Now and then: blocks that others let go of, arenas of the dead. */
void sb__space_sweep(struct sb__space *space);

#endif
