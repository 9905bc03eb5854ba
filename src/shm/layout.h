/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in shared memory: mailbox files (one per session incarnation), bell files (one per designated
 * owner process), ref row files. docs/design/mailbox.md has the reasoning; the tables here are the law.
 *
 * Files are made whole under a temporary name, then renamed; they only grow. Every page has real blocks
 * (posix_fallocate), so that touching it cannot raise SIGBUS on a full file system.
 *
 * Trust: bytes here are claims by processes of the same user. Whoever reads loads each field once,
 * bounds the copy, and parses copies. The designated owner keeps its truth (objects, refs) in private
 * memory.
 */
#ifndef SB_SHM_LAYOUT_H
#define SB_SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include "atomics.h"
#include "identity.h"
#include "snakebridge/ref.h"

#define SB__LAYOUT_VERSION 1u
#define SB__PAGE 4096u
#define SB__INLINE_MAX 4096u      /* bytes of a request or reply inside the lane */
#define SB__LANES_MAX 4096u
#define SB__LANES_FIRST 4u        /* block 0; block k > 0 has 4 << (k - 1) lanes */
#define SB__LANE_BLOCKS 11u       /* 4, 4, 8, 16 … 2048: 4096 lanes in all */
#define SB__LABEL_MAX 48u
#define SB__BELL_SESSIONS 16384u  /* sessions that one process can serve at a time */

/*
 * ── Lane ──────────────────────────────────────────────────────────────────────────────────────────
 * One per calling thread and session. lane.word is {state:4 | sequence:28 | slot:16 | generation:16}:
 * claim, owner and progress in one word, so that every transition is one compare-and-swap and names who
 * did it. The sequence grows by one with each publish and each free, so no stale word ever matches.
 *
 *            claim              publish               accept               complete
 *   FREE ───────────▶ IDLE ───────────────▶ READY ───────────────▶ BUSY ───────────────▶ DONE
 *     ▲    (caller)    │ ▲     (caller)      │        (owner)       │        (owner)       │
 *     │                │ │  withdraw (caller)│                      │ abandon (caller,     │
 *     │                │ └───────────────────┘                      │  reaper)             │
 *     │ unclaim        │ ▲                                          ▼                      │
 *     │ (caller,reaper)│ └──────────────── consume (caller) ─────────────────────────────── ┘
 *     └────────────────┘                                       ABANDONED ── free (owner) ──▶ FREE
 *
 * The reaper (or owner), knowing the claimer to be dead, frees IDLE, READY and DONE, and abandons BUSY;
 * only the owner frees what was BUSY.
 *
 * field          | writer                  | reader        | ordering              | if the writer dies here
 * word           | CAS by the party above  | all           | full CAS              | state says whose move it is; owner or reaper frees it
 * reply_bell     | owner, after DONE       | caller        | add (full)            | caller's wait is bounded; it rereads word
 * caller_parked  | caller                  | owner         | full barrier after    | owner wakes nobody: harmless
 * request fields | caller in IDLE          | owner in BUSY | published by word     | never READY, so never read
 * reply fields   | owner in BUSY           | caller in DONE| published by word     | stays BUSY: caller sees owner's death: unknown
 */
enum sb__lane_state {
	SB__LANE_FREE = 0, /* all other bits of the word but the sequence are 0 */
	SB__LANE_IDLE = 1,
	SB__LANE_READY = 2,
	SB__LANE_BUSY = 3,
	SB__LANE_DONE = 4,
	SB__LANE_ABANDONED = 5
};

#define SB__WORD(state, seq, slot, gen)                                                                  \
	(((uint64_t)(state) << 60) | ((uint64_t)((seq)&0xfffffffu) << 32) | ((uint64_t)((slot)&0xffffu) << 16) | \
	 (uint64_t)((gen)&0xffffu))
#define SB__WORD_STATE(w) ((unsigned)((w) >> 60))
#define SB__WORD_SEQ(w) ((uint32_t)((w) >> 32) & 0xfffffffu)
#define SB__WORD_SLOT(w) ((uint32_t)((w) >> 16) & 0xffffu)
#define SB__WORD_GEN(w) ((uint32_t)(w)&0xffffu)

/* Where a payload of more than SB__INLINE_MAX bytes lies: a block of the writer's arena file. */
struct sb__spill_shm {
	uint32_t slot, generation; /* arena file <slot>.<generation> */
	uint64_t offset, len;      /* bytes; offset a multiple of 64 */
};

struct sb__lane_shm {
	sb__word word;            /* line 0: both */
	sb__word32 reply_bell;
	sb__word32 caller_parked;
	sb__word32 caller_cpu;    /* where each side last ran: a hint for spin or park */
	sb__word32 owner_cpu;
	uint8_t pad0[64 - 24];

	uint32_t request_len;     /* lines 1-2: caller */
	uint32_t request_spilled; /* 1: request_len is 0 and request_spill says where */
	uint64_t deadline_ns;     /* CLOCK_MONOTONIC */
	uint64_t trace_id;
	struct sb__spill_shm request_spill;
	char label[SB__LABEL_MAX]; /* "method predict": what inspect shows; may lack a NUL */
	uint64_t published_ns;
	int32_t caller_pid;
	uint8_t pad1[128 - 108];

	uint32_t reply_len;       /* line 3: owner */
	uint32_t reply_spilled;
	struct sb__spill_shm reply_spill;
	uint64_t accepted_ns;
	uint8_t pad2[64 - 40];

	uint8_t request[SB__INLINE_MAX];
	uint8_t reply[SB__INLINE_MAX];
};
_Static_assert(sizeof(struct sb__spill_shm) == 24, "layout");
_Static_assert(offsetof(struct sb__lane_shm, request_len) == 64, "layout");
_Static_assert(offsetof(struct sb__lane_shm, reply_len) == 192, "layout");
_Static_assert(offsetof(struct sb__lane_shm, request) == 256, "layout");
_Static_assert(sizeof(struct sb__lane_shm) == 256 + 2 * SB__INLINE_MAX, "layout");

/*
 * ── Mailbox ───────────────────────────────────────────────────────────────────────────────────────
 * File "mailbox/<incarnation, 16 hex digits>": header page, control page, lane blocks.
 *
 * header: written before the rename that publishes the file; immutable after; read by all.
 *
 * control field  | writer                        | reader         | ordering            | if the writer dies here
 * state          | releaser, reaper: CAS from 1  | all            | full CAS            | one word: done or not
 * lane_count     | growing caller: CAS           | all            | after posix_fallocate | file longer than said: harmless
 * ready_summary  | caller or; owner and          | owner          | full                | owner also sweeps all lanes when idle
 * ready[]        | caller or; owner and          | owner          | full                | the same
 * last_access_ms | caller, owner: store          | reaper         | none                | a few ms off
 * counters       | owner: store (mirror)         | inspect        | none                | stale at worst
 */
enum sb__mailbox_state { SB__MAILBOX_SERVING = 1, SB__MAILBOX_RELEASED = 2, SB__MAILBOX_EXPIRED = 3 };

struct sb__mailbox_header_shm {
	char magic[8];              /* "SBmail01" */
	uint32_t version;           /* SB__LAYOUT_VERSION */
	uint32_t fingerprint;       /* sb__layout_fingerprint() */
	uint64_t incarnation;
	struct sb__identity owner;  /* designated owner */
	uint32_t bell_index;        /* of this session in the owner's bell file */
	uint32_t lanes_max;         /* ≤ SB__LANES_MAX */
	uint64_t created_ms;        /* sb__now_ms() */
	uint64_t ttl_ms;            /* 0 = never */
	uint32_t max_refs;
	uint32_t session_id_len;
	char session_id[SB_SESSION_ID_MAX + 1];
};
_Static_assert(sizeof(struct sb__mailbox_header_shm) <= SB__PAGE, "layout");

struct sb__mailbox_control_shm {
	sb__word state;
	sb__word lane_count;        /* lanes that exist; a whole number of blocks */
	uint8_t pad0[48];
	sb__word ready_summary;     /* bit w: ready[w] may be non-zero */
	uint8_t pad1[56];
	sb__word ready[SB__LANES_MAX / 64];
	sb__word last_access_ms;    /* sb__now_coarse_ms() */
	uint8_t pad2[56];
	sb__word calls, exceptions, refused; /* mirrors of the owner's private counters */
	sb__word live_refs, evicted_refs, expired_refs, created_refs;
	sb__word in_flight;
};
_Static_assert(offsetof(struct sb__mailbox_control_shm, ready) == 128, "layout");
_Static_assert(sizeof(struct sb__mailbox_control_shm) <= SB__PAGE, "layout");

/*
 * ── Bell ──────────────────────────────────────────────────────────────────────────────────────────
 * File "bell/<slot>.<generation>": one per designated owner process, for all the sessions it serves, so
 * that few threads wait for many sessions.
 *
 * Law of the doorbell.   Publisher: lane READY; ready bits (full); session bits (full); read parked;
 *                        if parked: bell += 1, wake.
 *                        Sleeper: s = bell; parked = 1; full barrier; rescan; wait while bell == s.
 * field     | writer               | reader  | ordering | if the writer dies here
 * bell      | publisher: add       | leader  | full     | leader's wait is bounded and rescans
 * parked    | leader               | callers | full barrier after | owner dead: nobody to wake
 * standby   | nudging caller: add  | standby | full     | another caller nudges
 * alive     | keeper thread holds it for life (robust, pshared) | callers | kernel sets FUTEX_OWNER_DIED | that is its purpose
 * summary, sessions | caller or; leader and | leader | full | leader rescans
 */
struct sb__bell_shm {
	char magic[8];             /* "SBbell01" */
	uint32_t version, fingerprint;
	struct sb__identity owner;
	uint8_t pad0[192 - 16 - sizeof(struct sb__identity)];

	sb__word32 bell;           /* line 3 */
	sb__word32 parked;
	sb__word32 leader_cpu;
	uint8_t pad1[52];
	sb__word32 standby;        /* line 4 */
	uint8_t pad2[60];
	pthread_mutex_t alive;     /* line 5: its first word is the futex that dies with the owner */
	uint8_t pad3[64 - sizeof(pthread_mutex_t)];
	sb__word summary[SB__BELL_SESSIONS / 4096];
	uint8_t pad4[64 - 8 * (SB__BELL_SESSIONS / 4096)];
	sb__word sessions[SB__BELL_SESSIONS / 64];
};
_Static_assert(sizeof(struct sb__identity) <= 176, "layout");
_Static_assert(sizeof(pthread_mutex_t) <= 64, "layout");
_Static_assert(offsetof(struct sb__bell_shm, bell) == 192, "layout");
_Static_assert(offsetof(struct sb__bell_shm, summary) == 384, "layout");

/*
 * ── Ref rows ──────────────────────────────────────────────────────────────────────────────────────
 * File "mailbox/<incarnation>.refs": what people may know of each ref; no nonces. Only the owner writes.
 * generation is odd-even guarded: a reader copies the row, rereads generation, and drops a row that
 * changed. generation 0: no ref here.
 */
struct sb__ref_row_shm {
	sb__word32 generation; /* 0 while being written or empty; else the slot's generation */
	int32_t creator_pid;
	uint64_t created_ms;   /* sb__now_ms() */
	sb__word used_ms;
	char type_name[104];   /* NUL-terminated */
};
_Static_assert(sizeof(struct sb__ref_row_shm) == 128, "layout");

/* Differs whenever a struct above or the message format does. */
uint32_t sb__layout_fingerprint(void);

#endif
