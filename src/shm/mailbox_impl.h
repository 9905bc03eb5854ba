/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that make up the mailbox share. Internal to this folder. */
#ifndef SB_SHM_MAILBOX_IMPL_H
#define SB_SHM_MAILBOX_IMPL_H

#include <stdatomic.h>

#include "file.h"
#include "mailbox.h"
#include "spin.h"

/* Loads a plain shared field exactly once, so that what was checked is what is used (HAZARDS, double
 * fetch). */
#define SB__ONCE(field) (*(const volatile __typeof__(field) *)&(field))

/* This process's notes about a lane: private, so no peer can spoil them. */
struct sb__lane_notes {
	uint64_t claim; /* ours: slot and generation, with a bit that makes it not 0; by the lane's thread */
	struct sb__spin spin, spin_woken;  /* what waiting for an awake, and a woken, leader has taught */
	struct sb__spin spin_asked;        /* likewise for the next question; for an answer, in the owner */
	uint32_t request_high, reply_high; /* bytes to wipe when it is given back */
	/* Owner, under replies_lock: the block of the lane's last reply, until the caller is done with it. */
	struct sb__arena *reply_arena;
	struct sb__spill_shm reply_block;
	struct sb__kept_list reply_kept; /* arrays in it */
	uint64_t reply_word;             /* the call's word, whatever its state */
	/* Owner, whoever serves the lane: lane_turns.h. */
	uint64_t turn_ns; /* of service, in this turn */
	/* When its caller came for the second time: until then it may have been waking. */
	uint64_t turn_began_ns;
	uint32_t turn_calls; /* in this turn */
	bool turn_over;      /* the next one has to wait for its turn if others do */
};

struct sb__lane_block {
	_Atomic(struct sb__lane_shm *) lanes; /* NULL until mapped; set last */
	struct sb__lane_notes *notes;
};

#define SB__TURNS_MAX 8u

struct sb__turn {
	_Atomic uint32_t lane;      /* 1 + the lane whose turn it is; 0: nobody's */
	_Atomic uint64_t called_ns; /* when its last call was accepted */
};

/* lane_turns.h. */
struct sb__turns {
	unsigned most;           /* at a time */
	_Atomic uint32_t cursor; /* of those aside: whose turn is next */
	struct sb__turn turn[SB__TURNS_MAX];
	_Atomic uint64_t words; /* bit w: aside[w] may be non-zero */
	_Atomic uint64_t aside[SB__LANES_MAX / 64];
};

struct sb__mailbox {
	int dir;        /* borrowed */
	int32_t pid;    /* ours, for inspect */
	uint64_t epoch; /* sb__fork_epoch() of the process that attached */
	struct sb__mailbox_header_shm
		*header;  /* private copy, behind this struct; no longer than its session id */
	uint8_t *map;     /* header, control and block 0 */
	bool first_there; /* block 0 is known to be in the file */
	struct sb__mailbox_control_shm *control;
	struct sb__lane_block blocks[SB__LANE_BLOCKS];
	pthread_mutex_t map_lock; /* mapping of further blocks */
	pthread_mutex_t replies_lock;
	_Atomic unsigned replies_out;  /* notes with a reply block */
	struct sb__mailbox_pool *pool; /* owner; NULL: none */
	uint64_t
		kept_as; /* number in the pool's name that its file has since it was retired; 0: it has none */
	_Atomic(struct sb__turns *) turns; /* owner, once a caller had to wait for its turn: lane_turns.h */
};

/* ── files: mailbox_file.c ── */

#define SB__MAILBOX_MAGIC "SBmail01"
#define SB__MAILBOX_MAPPED \
	(SB__PAGE + sb__block_size(0)) /* at once: with block 0, which a new file has not */

void sb__mailbox_name(char name[SB__FILE_NAME_MAX], uint64_t incarnation);
/* Takes over map, also on failure. lanes: block 0 is in the file. */
int sb__mailbox_new(int dir, uint8_t *map, bool lanes, const struct sb__mailbox_header_shm *header,
                    struct sb__mailbox **ret);
/* Of a mailbox that goes: true where the map was taken over. */
bool sb__mailbox_pool_put(struct sb__mailbox *mailbox);

/* Law of reuse: layout.h. */
#define SB__ATTACHED_NOT(incarnation) ((uint64_t)(incarnation) << 1)
#define SB__ATTACHED(incarnation)     ((uint64_t)(incarnation) << 1 | 1)
/* The file that a name led to is word's, and its header says named: SB_ERELEASED, or SB_EPROTOCOL. */
int sb__mailbox_moved_on(uint64_t word, uint64_t named, uint64_t incarnation);

#define SB__CLAIMED (UINT64_C(1) << 32) /* tells the claim of slot 0, generation 0 from none */

/* Everything of a word but its state. */
#define SB__WORD_CALL(w)        ((w) & ~(UINT64_C(0xf) << 60))
#define SB__WORD_CLAIM(w)       ((w)&UINT64_C(0xffffffff))
#define SB__WORD_WITH(w, state) (SB__WORD_CALL(w) | ((uint64_t)(state) << 60))
/* The FREE word that follows w. */
static inline uint64_t sb__word_freed(uint64_t w)
{
	return SB__WORD(SB__LANE_FREE, SB__WORD_SEQ(w) + 1, 0, 0);
}

/* Is the lane still claimed by us, as it was when we claimed it? */
static inline bool sb__lane_is_ours(const struct sb__lane_notes *notes, uint64_t word)
{
	return SB__WORD_STATE(word) != SB__LANE_FREE && (SB__WORD_CLAIM(word) | SB__CLAIMED) == notes->claim;
}

/* Lanes that exist, as far as that is believable. */
uint32_t sb__mailbox_lanes(struct sb__mailbox *mailbox);
/* Maps the lane's block if need be; NULL with the error record set. */
struct sb__lane_shm *sb__lane_map(struct sb__mailbox *mailbox, uint32_t lane);
int sb__mailbox_grow(struct sb__mailbox *mailbox,
                     uint32_t lanes_now);                 /* by a block; 0 also if another was quicker */
int sb__mailbox_ended_error(struct sb__mailbox *mailbox); /* SB_ERELEASED …; record set */
void sb__lane_wake(struct sb__lane_shm *lane);            /* if its caller is parked */
void sb__lane_wake_asker(struct sb__lane_shm *lane);      /* if the owner's thread waits for an answer */
/* The question that stands and was not answered, or 0. */
static inline uint32_t sb__flight_asked(const struct sb__flight *flight)
{
	uint32_t asked = flight->answering ? sb__load32(&flight->l->asked) : 0;

	return asked % 2 && asked != flight->answered ? asked : 0;
}
/* Answers it: lane_ask.c. */
void sb__flight_answer(struct sb__flight *flight, uint32_t asked);
void sb__flight_forget_answer(struct sb__flight *flight);
/* How many lanes there are where the control page says count. */
uint32_t sb__lanes_said(uint64_t count, uint32_t lanes_max);
int sb__mailbox_open_file(int dir, uint64_t incarnation, int flags,
                          int *ret_fd); /* SB_ERELEASED: there is none */
/* Of the first fields alone: what follows may be another incarnation's by now. */
int sb__mailbox_check_version(const struct sb__mailbox_header_shm *header, uint64_t incarnation);
int sb__mailbox_check_header(const struct sb__mailbox_header_shm *header, uint64_t incarnation);
/* A call in it has ended: announces the one that waits for that. After a full barrier; the bell is the caller's matter. True
 * if there was one. */
bool sb__lane_follow(struct sb__mailbox *mailbox, struct sb__lane_shm *lane);
/* Sets the lane's ready bits. After a full barrier that followed READY. */
void sb__lane_announce(struct sb__mailbox *mailbox, uint32_t lane);
/* Owner leaving a mailbox: takes back the replies whose blocks it needs. */
void sb__mailbox_revoke_replies(struct sb__mailbox *mailbox);

static inline struct sb__lane_shm *sb__lane_at(struct sb__mailbox *mailbox, uint32_t lane)
{
	uint32_t block = sb__block_of_lane(lane);
	struct sb__lane_shm *lanes;

	if (block >= SB__LANE_BLOCKS)
		return NULL;
	lanes = atomic_load_explicit(&mailbox->blocks[block].lanes, memory_order_acquire);
	return lanes ? &lanes[lane - sb__block_first(block)] : sb__lane_map(mailbox, lane);
}

/* Only for a lane that sb__lane_at() gave. */
static inline struct sb__lane_notes *sb__lane_notes(struct sb__mailbox *mailbox, uint32_t lane)
{
	uint32_t block = sb__block_of_lane(lane);

	return &mailbox->blocks[block].notes[lane - sb__block_first(block)];
}

#endif
