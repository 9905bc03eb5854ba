/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas: one file per writing process, "arena/<slot>.<generation>", for payloads that outgrow a lane.
 * The allocator's metadata is the writer's private memory; readers only map and copy.
 */
#ifndef SB_SHM_ARENA_H
#define SB_SHM_ARENA_H

#include "buf.h"
#include "layout.h"

struct sb__arena;

/* The file is made lazily by the first allocation. arena_dir is borrowed: it must stay open as long as the
 * arena is (a descriptor for each would be one too many). */
int sb__arena_create(int arena_dir, uint32_t slot, uint32_t generation, struct sb__arena **ret);
/* Unmaps; unlinks the file if unlink. In a forked child it only unmaps and frees, whatever unlink says. */
void sb__arena_destroy(struct sb__arena *arena, bool unlink);
/* Thread-safe. 0, SB_ENOSPACE, SB_ENOMEM, SB_ETOOBIG, SB_ESYSTEM. *ret_addr: where to write the len bytes;
 * 64-byte aligned. */
int sb__arena_alloc(struct sb__arena *arena, size_t len, struct sb__spill_shm *ret, void **ret_addr);
void sb__arena_free(struct sb__arena *arena, const struct sb__spill_shm *block);
size_t sb__arena_in_use(struct sb__arena *arena); /* bytes of live blocks */
size_t sb__arena_file_size(struct sb__arena *arena);
int sb__arena_unlink(int arena_dir, uint32_t slot, uint32_t generation);

/* Readers: peers' arena files, mapped read-only, kept mapped and grown on demand. Thread-safe. */
struct sb__arena_cache;
int sb__arena_cache_create(int arena_dir /* borrowed */, struct sb__arena_cache **ret);
void sb__arena_cache_destroy(struct sb__arena_cache *cache);
/* Copies a block out onto buf's heap. SB_EPROTOCOL if it does not lie within the file or len is above
 * SB__MESSAGE_MAX; SB_ENOMEM. */
int sb__arena_copy(struct sb__arena_cache *cache, const struct sb__spill_shm *block, struct sb__buf *ret);
/* Unmaps the arenas of a dead process. */
void sb__arena_cache_forget(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation);

#endif
