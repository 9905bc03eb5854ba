/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas: one file per writing process, "arena/<slot>.<generation>", for payloads that outgrow a lane and for arrays.
 * The allocator's metadata is the writer's private memory; readers only map.
 *
 * Two kinds of blocks. A message is copied out by its one reader, under the lane's word, and is its writer's to free at
 * any time. An array's block is shared: whoever keeps it says so in the table of holds (holds.h), and the writer
 * uses it again when nobody does. docs/design/arrays.md.
 */
#ifndef SB_SHM_ARENA_H
#define SB_SHM_ARENA_H

#include "buf.h"
#include "layout.h"

struct sb__arena;
struct sb__holds_shm;

/* The file is made lazily by the first allocation. arena_dir is borrowed: it must stay open as long as the
 * arena is (a descriptor for each would be one too many). */
int sb__arena_create(int arena_dir, uint32_t slot, uint32_t generation, struct sb__arena **ret);
/* The file's largest size, and how many free bytes keep their pages; before the first allocation. */
void sb__arena_limit(struct sb__arena *arena, uint64_t max_bytes, uint64_t warm_bytes);
/* Unmaps; unlinks the file if unlink. In a forked child it only unmaps and frees, whatever unlink says. Arrays' blocks that
 * are still referred to stay mapped, and the arena with them, until the last one goes (in a forked child for
 * ever). */
void sb__arena_destroy(struct sb__arena *arena, bool unlink);
/* Thread-safe. 0, SB_ENOSPACE, SB_ENOMEM, SB_ETOOBIG, SB_ESYSTEM. *ret_addr: where to write the len bytes;
 * 64-byte aligned. */
int sb__arena_alloc(struct sb__arena *arena, size_t len, struct sb__spill_shm *ret, void **ret_addr);
void sb__arena_free(struct sb__arena *arena, const struct sb__spill_shm *block);
size_t sb__arena_in_use(struct sb__arena *arena); /* bytes of live blocks */
size_t sb__arena_file_size(struct sb__arena *arena);
int sb__arena_unlink(int arena_dir, uint32_t slot, uint32_t generation); /* with its table of holds */

/* ── blocks for arrays ── */

enum sb__pool {
	SB__POOL_MESSAGE,
	SB__POOL_ARRAY,
	SB__POOL_HEAP, /* of a library that believes it to be its own memory: private in a forked child */
	SB__POOLS
};

/* A block with one reference. zero: filled with zeros. Errors as sb__arena_alloc(). */
int sb__arena_block_make(struct sb__arena *arena, enum sb__pool pool, size_t len, bool zero,
                         struct sb__spill_shm *ret, void **ret_addr);
/* The same for an array of a session's, which counts against its share until it is free. And SB_ENOSPACE where that is used up. */
struct sb__share;
int sb__arena_block_make_for(struct sb__arena *arena, const struct sb__share *share, size_t len,
                             struct sb__spill_shm *ret, void **ret_addr);
/* One more reference to the block that [addr, addr + len) lies in: true and what it is. */
bool sb__arena_block_find(struct sb__arena *arena, const void *addr, size_t len, struct sb__spill_shm *ret,
                          void **ret_base);
/* One more reference to a block by its name: its address, or NULL if there is no such block. */
void *sb__arena_block_ref(struct sb__arena *arena, const struct sb__spill_shm *block);
/* One less. Without one it is free as soon as no other process keeps it. */
void sb__arena_block_unref(struct sb__arena *arena, uint64_t offset);
/* May addr lie in the arena? Without a lock; false is certain. */
bool sb__arena_spans(const struct sb__arena *arena, const void *addr);
/* In a forked child: how long the block of an array of the parent's is from addr on; it stays where it is. 0: there is none. */
size_t sb__arena_inherited(const struct sb__arena *arena, const void *addr);
bool sb__arena_is_empty(const struct sb__arena *arena); /* nothing is mapped */
/* The struct stays for ever, so that any address can be asked after at any time. */
void sb__arena_pin(struct sb__arena *arena);
/* Looks for blocks that nobody keeps any more. Cheap where there is nothing to look for. */
void sb__arena_sweep(struct sb__arena *arena);

/* Around a fork(), on the forking thread: a child goes on reading the arrays that it inherits, so their blocks are not used
 * again while it lives. Between before and the other two the arena is locked. */
void sb__arena_fork_before(struct sb__arena *arena);
void sb__arena_fork_parent(struct sb__arena *arena);
void sb__arena_fork_child(struct sb__arena *arena);

/* ── readers ── */

/* Peers' arena files, mapped, kept mapped as segments as they grow. Thread-safe. slot and generation: of this process, for
 * its holds. */
struct sb__arena_cache;
struct sb__arena_kept;
int sb__arena_cache_create(int arena_dir /* borrowed */, struct sb__arena_cache **ret);
void sb__arena_cache_identify(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation);
/* Gives back all holds, and what is mapped as soon as nobody here has it any more. In a forked child it leaves the
 * parent's holds alone, and what is kept stays mapped. */
void sb__arena_cache_destroy(struct sb__arena_cache *cache);
/* Copies a block out onto buf's heap. SB_EPROTOCOL if it does not lie within the file or len is above
 * SB__MESSAGE_MAX; SB_ENOMEM. */
int sb__arena_copy(struct sb__arena_cache *cache, const struct sb__spill_shm *block, struct sb__buf *ret);
/*
 * Keeps a block of a peer's: takes a hold, unless this process has one, and maps it. Whether the block is what it was when
 * it was named is for the caller to find out afterwards, as for messages. SB_EPROTOCOL, SB_ENOSPACE,
 * SB_ENOMEM, SB_ESYSTEM.
 */
int sb__arena_keep(struct sb__arena_cache *cache, const struct sb__spill_shm *block, bool writable,
                   struct sb__arena_kept **ret, void **ret_addr);
struct sb__arena_kept *sb__arena_kept_ref(struct sb__arena_kept *kept);
void sb__arena_kept_unref(struct sb__arena_kept *kept);
/* The kept block that [addr, addr + len) lies in, referenced once more; NULL if there is none. *ret_writable: was
 * it mapped so? */
struct sb__arena_kept *sb__arena_kept_find(struct sb__arena_cache *cache, const void *addr, size_t len,
                                           struct sb__spill_shm *ret, void **ret_base, bool *ret_writable);
/* Unmaps the arenas of a dead process; what is kept of it stays. */
void sb__arena_cache_forget(struct sb__arena_cache *cache, uint32_t slot, uint32_t generation);
/* Forgets those whose file is gone. */
void sb__arena_cache_tidy(struct sb__arena_cache *cache);
uint32_t sb__arena_cache_kept(struct sb__arena_cache *cache); /* blocks kept now */

#endif
