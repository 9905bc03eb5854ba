/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who keeps which block of an arena: file "arena/<slot>.<generation>.holds", made by the arena's writer with its first
 * block that holds an array. The reasoning and the law: docs/design/arrays.md.
 */
#ifndef SB_SHM_HOLDS_H
#define SB_SHM_HOLDS_H

#include <stdbool.h>
#include <stdint.h>

#include "atomics.h"
#include "layout.h"

#define SB__HOLDS_MAX 4096u

/*
 * field    | writer                         | reader  | ordering           | if the writer dies here
 * header   | the arena's writer, before the | all     | rename             | no file
 *          | file has its name              |         |                    |
 * top      | taker: CAS upwards             | all     | before its entry   | the writer looks at some zeros more
 * takes    | taker: add, after its entry    | writer  | full               | it is dead: its entry is nobody's
 * gives    | giver: add, after its entry    | writer  | full               | the writer looks a second later
 * blocks … | the arena's writer: store      | inspect | none               | stale at worst
 * entry    | taker: CAS 0 -> word; giver,   | all     | full CAS           | names a dead process: the reaper
 *          | reaper: CAS word -> 0          |         |                    | clears it
 */
struct sb__holds_shm {
	char magic[8]; /* "SBholds1" */
	uint32_t version, fingerprint;
	uint8_t pad0[48];
	sb__word top; /* line 1: no entry at or above it was ever used */
	sb__word takes, gives;
	uint8_t pad1[40];
	sb__word blocks, bytes, file_bytes,
		waiting; /* line 2: arrays' blocks in use; those only others keep */
	uint8_t pad2[32];
	uint8_t pad3[SB__PAGE - 192];
	sb__word entries[SB__HOLDS_MAX]; /* SB__HOLD() or 0 */
};
_Static_assert(offsetof(struct sb__holds_shm, top) == 64, "layout");
_Static_assert(offsetof(struct sb__holds_shm, blocks) == 128, "layout");
_Static_assert(offsetof(struct sb__holds_shm, entries) == SB__PAGE, "layout");

/* Slot and generation of who keeps it; the block by its offset. */
#define SB__HOLD(slot, generation, offset)                                               \
	(((uint64_t)((slot)&0xffffu) << 48) | ((uint64_t)((generation)&0xffffu) << 32) | \
	 ((uint64_t)(offset) / 64u & 0xffffffffu))
#define SB__HOLD_SLOT(word)       ((uint32_t)((word) >> 48))
#define SB__HOLD_GENERATION(word) ((uint32_t)((word) >> 32) & 0xffffu) /* its low half */
#define SB__HOLD_OFFSET(word)     (((word)&UINT64_C(0xffffffff)) * 64u)
#define SB__HOLD_OFFSET_END       (UINT64_C(64) << 32) /* arrays lie below it */

/* 0, SB_ENOSPACE, SB_ENOMEM, SB_ESYSTEM. */
int sb__holds_create(int arena_dir, uint32_t slot, uint32_t generation, struct sb__holds_shm **ret);
/* SB_EPROTOCOL if there is none or it is none of ours. */
int sb__holds_attach(int arena_dir, uint32_t slot, uint32_t generation, struct sb__holds_shm **ret);
void sb__holds_detach(struct sb__holds_shm *holds);
int sb__holds_unlink(int arena_dir, uint32_t slot, uint32_t generation);

/* Takes a free entry, from *hint on, which is moved. SB_ENOSPACE: all are taken. */
int sb__holds_take(struct sb__holds_shm *holds, uint64_t word, uint32_t *hint, uint32_t *ret_entry);
void sb__holds_give(struct sb__holds_shm *holds, uint32_t entry, uint64_t word);
/* Visits every entry. False: somebody took one meanwhile, so one that was handed on may have been missed. */
bool sb__holds_each(struct sb__holds_shm *holds, void (*visit)(void *arg, uint64_t word), void *arg);
/* Clears the entries of a process that is dead (or of this one, which leaves). Returns how many. */
uint32_t sb__holds_clear(struct sb__holds_shm *holds, uint32_t slot, uint32_t generation);

#endif
