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

#define SB__LAYOUT_VERSION 4u
#define SB__PAGE           4096u
#define SB__CONTROL_AT     512u  /* a mailbox's control fields, in the page of its header */
#define SB__INLINE_MAX     4096u /* bytes of a request or reply inside the lane */
#define SB__SHORT_MAX      12u   /* of a reply that lies beside the lane's word: a number, say */
#define SB__LANES_MAX      4096u
#define SB__LANES_FIRST    4u  /* block 0; block k > 0 has 4 << (k - 1) lanes */
#define SB__LANE_BLOCKS    11u /* 4, 4, 8, 16 … 2048: 4096 lanes in all */
#define SB__LABEL_MAX      48u
#define SB__BELL_SESSIONS  16384u /* sessions that one process can serve at a time */

/*
 * ── Lane ──────────────────────────────────────────────────────────────────────────────────────────
 * One per calling thread and session. lane.word is {state:4 | sequence:28 | slot:16 | generation:16}:
 * claim, owner and progress in one word, so that every transition is one compare-and-swap and names who did
 * it. The sequence grows by one with each publish and each free, so no stale word ever matches.
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
 * Anyone who uses the session may cancel a call by its trace id: READY becomes CANCELLED by one CAS, so it is
 * certain that nothing ran, and the caller takes the lane back as after DONE. One that is BUSY is marked in
 * cancel with its word and the owner is told by control.attention: it interrupts the Python code, and the
 * reply comes the usual way. The same count tells of calls that were abandoned.
 *
 * A one-way call is one that nobody waits for: its caller leaves it and takes the lane back from DONE some time later.
 * Calls of the same thread that must come after it name it in after_word. Law of the follower: the follower's caller makes
 * it READY, sets followed in the lane of the one that goes first, full barrier, rereads that one's word, and announces the
 * follower itself unless that word is READY or BUSY; else whoever ends it (owner, canceller) reads followed after its CAS
 * and announces the follower. So one of them does.
 *
 * A call that is askable carries callbacks while it is BUSY: the owner puts a question into the reply's fields, the caller an
 * answer into the request's, one at a time. asked is odd while a question stands, and grows when one is put and when it
 * is done with: the question is read under it, too, as under a sequence lock. docs/design/callbacks.md.
 *
 * When a session ends while its owner process lives on, the owner takes back (frees) a DONE whose reply
 * lies in its arena, because it needs the block: the caller sees that after its copy.
 *
 * A spill block is read under the word as under a sequence lock: the reader copies, full barrier, rereads
 * the word, and drops the copy if the word moved. So the writer may reuse a block as soon as the word has
 * left BUSY (request: by abandoning) or DONE (reply), and no side waits for the other to let go of one.
 *
 * field          | writer                  | reader         | ordering           | if the writer dies here
 * word           | CAS by the party above  | all            | full CAS           | it says whose move it is
 * reply_bell     | owner after DONE; ender | caller         | add (full)         | caller's wait is bounded
 * caller_parked  | caller                  | owner, ender   | full barrier after | next claimer clears it
 * cancel         | canceller: store        | owner          | before attention   | a word of no call: nothing
 * followed       | caller of the follower  | owner,         | full barrier after | the follower's caller is dead:
 *                | (same process); claimer | canceller      |                    | it is reclaimed, not run
 * asked          | claimer in IDLE: 0;     | caller         | full barrier after | caller answers, and then
 *                | owner in BUSY           |                |                    | learns of the death
 * answered       | claimer in IDLE: 0;     | owner          | full barrier after | owner's wait is bounded, and
 *                | caller in BUSY          |                |                    | looks at the life token
 * answer_bell    | caller after answered;  | owner          | add (full)         | the same
 *                | canceller, ender, who   |                |                    |
 *                | abandons                |                |                    |
 * asker_parked   | owner in BUSY           | these          | full barrier after | one ring too many
 * request fields | caller in IDLE, and in  | owner in BUSY  | published by word  | never READY: never read
 *                | BUSY where asked is odd |                | or by answered     |
 * deadline_ns    | caller in IDLE          | owner in READY | none: the CAS that | the same
 *                |                         |                | follows decides    |
 * turn           | owner in BUSY           | caller         | none: a hint       | of the call before: ages
 * reply fields   | owner in BUSY where     | caller in DONE | published by word  | stays BUSY: caller learns
 *                | asked is even           | or asked odd   | or by asked        | of the death: unknown
 *
 * Inspect reads all of them at any time, copies, rereads word, and says "torn" if it moved.
 */
enum sb__lane_state {
	SB__LANE_FREE = 0, /* all other bits of the word but the sequence are 0 */
	SB__LANE_IDLE = 1,
	SB__LANE_READY = 2,
	SB__LANE_BUSY = 3,
	SB__LANE_DONE = 4,
	SB__LANE_ABANDONED = 5,
	SB__LANE_CANCELLED = 6 /* a canceller took it out of READY; its caller makes it IDLE */
};

#define SB__WORD(state, seq, slot, gen)                                     \
	(((uint64_t)(state) << 60) | ((uint64_t)((seq)&0xfffffffu) << 32) | \
	 ((uint64_t)((slot)&0xffffu) << 16) | (uint64_t)((gen)&0xffffu))
#define SB__WORD_STATE(w) ((unsigned)((w) >> 60))
#define SB__WORD_SEQ(w)   ((uint32_t)((w) >> 32) & 0xfffffffu)
#define SB__WORD_SLOT(w)  ((uint32_t)((w) >> 16) & 0xffffu)
#define SB__WORD_GEN(w)   ((uint32_t)(w)&0xffffu)

/* Where a payload of more than SB__INLINE_MAX bytes lies: a block of the writer's arena file. */
struct sb__spill_shm {
	uint32_t slot, generation; /* arena file <slot>.<generation> */
	uint64_t offset, len;      /* bytes; offset a multiple of 64 */
};

#define SB__REQUEST_ONEWAY \
	1u /* nobody waits: the owner drops the reply, and refuses it itself when its time is over */
#define SB__REQUEST_ASKABLE 4u /* its caller answers questions; caller_thread says which thread waits */
#define SB__REQUEST_AFTER   2u /* not before the one-way call after_word in lane after_lane has ended */

/* What the owner tells a caller with its reply: whether its next call will be served at once. */
enum sb__lane_turn {
	SB__TURN_FREE = 0, /* nobody waits for a turn: it does as it has learnt */
	SB__TURN_ON = 1,   /* others wait, it has its turn: it does not sleep if it can help it */
	SB__TURN_OVER = 2, /* others go first: it sleeps at once */
	SB__TURN_OVER_LONG =
		3 /* the same, and many wait: it looks later than usual what becomes of the call */
};

/* A line that both sides write costs a tenth of a microsecond each time that it changes hands, so a short call has one for
 * everything but the request's bytes. */
struct sb__lane_shm {
	sb__word word; /* line 0: both */
	sb__word32 reply_bell;
	sb__word32 caller_parked;
	sb__word deadline_ns; /* CLOCK_MONOTONIC */
	sb__word trace_id;    /* cancellers look for it at any time */
	sb__word32 flags;     /* SB__REQUEST_… */
	int32_t caller_pid;
	uint32_t request_len; /* bytes in request, and in reply or reply_short */
	uint32_t reply_len;
	uint16_t request_spilled; /* 1: the length is 0 and the spill says where */
	uint8_t reply_spilled;
	uint8_t turn;                       /* enum sb__lane_turn */
	uint8_t reply_short[SB__SHORT_MAX]; /* instead of reply, where it has no more bytes */

	/* Line 1: both, seldom. cancel: the call (word without its state) that is to be interrupted. */
	sb__word cancel;
	sb__word32 answer_bell; /* the owner's thread that asked for a callback waits on it */
	sb__word32 asked;       /* questions put and done with: odd while one stands */
	sb__word32 answered;    /* the question that was answered last, as asked counts */
	sb__word32 asker_parked;
	sb__word after_word; /* with SB__REQUEST_AFTER: the call (word) that comes first */
	sb__word32 after_lane;
	int32_t caller_thread; /* with SB__REQUEST_ASKABLE: its number in the caller's pid namespace */
	struct sb__spill_shm request_spill;

	char label[SB__LABEL_MAX]; /* line 2: caller; "method predict": what inspect shows; may lack a NUL */
	uint64_t published_ns;     /* of a coarse clock: within 4 ms */
	sb__word32 followed;       /* 1 + the lane that waits for this one-way call to end; 0 = none */
	uint8_t pad2[64 - 60];

	struct sb__spill_shm reply_spill; /* line 3: owner */
	uint64_t accepted_ns;             /* coarse, too */
	uint8_t pad3[64 - 32];

	uint8_t request[SB__INLINE_MAX];
	uint8_t reply[SB__INLINE_MAX];
};
_Static_assert(sizeof(struct sb__spill_shm) == 24, "layout");
_Static_assert(offsetof(struct sb__lane_shm, reply_short) + SB__SHORT_MAX == 64, "layout");
_Static_assert(offsetof(struct sb__lane_shm, cancel) == 64, "layout");
_Static_assert(offsetof(struct sb__lane_shm, label) == 128, "layout");
_Static_assert(offsetof(struct sb__lane_shm, reply_spill) == 192, "layout");
_Static_assert(offsetof(struct sb__lane_shm, request) == 256, "layout");
_Static_assert(sizeof(struct sb__lane_shm) == 256 + 2 * SB__INLINE_MAX, "layout");

/* Blocks of lanes follow the first page one after the other, each rounded up to whole pages. After block
 * k the file has SB__LANES_FIRST << k lanes, so lane_count is always a power of two. A new mailbox has none: a session that
 * nobody calls from another process needs none. */
static inline uint32_t sb__block_of_lane(uint32_t lane)
{
	return lane < SB__LANES_FIRST ? 0 : 32u - (uint32_t)__builtin_clz(lane / SB__LANES_FIRST);
}
static inline uint32_t sb__block_first(uint32_t block)
{
	return block ? SB__LANES_FIRST << (block - 1) : 0;
}
static inline uint32_t sb__block_lanes(uint32_t block)
{
	return SB__LANES_FIRST << (block ? block - 1 : 0);
}
static inline size_t sb__block_size(uint32_t block)
{
	return (sb__block_lanes(block) * sizeof(struct sb__lane_shm) + SB__PAGE - 1) / SB__PAGE * SB__PAGE;
}
static inline uint64_t sb__block_offset(uint32_t block)
{
	uint64_t offset = SB__PAGE; /* header and control */

	for (uint32_t i = 0; i < block; i++)
		offset += sb__block_size(i);
	return offset;
}
_Static_assert(SB__LANES_FIRST << (SB__LANE_BLOCKS - 1) == SB__LANES_MAX, "layout");

/*
 * ── Mailbox ───────────────────────────────────────────────────────────────────────────────────────
 * File "mailbox/<incarnation, 16 hex digits>": a page with header and control fields, lane blocks.
 *
 * header: written before the rename that publishes the file; immutable until the incarnation has ended; read by those
 * who attached (see attached), and with a second look at attached by those who only peek.
 *
 * control field  | writer                       | reader  | ordering         | if the writer dies here
 * state          | ender: CAS from SERVING      | all     | full CAS         | one word: done or not
 * lane_count     | growing caller: CAS          | all     | after fallocate  | file longer than said: harmless
 * claimed        | claimer: store              | inspect | before its CAS   | lanes are looked at for nothing
 * attached       | owner: store, CAS to 0;      | all     | full CAS         | law of reuse
 *                | who attaches: CAS            |         |                  |
 * attention      | canceller, abandoner: add    | owner   | full             | a call runs on unwanted
 * ready_summary  | caller or; owner and         | owner   | full             | hides requests of the dead
 * ready[]        | caller or; owner and         | owner   | full             | the same
 * last_access_ms | caller, owner: CAS, grows    | reaper  | full CAS         | a few ms off
 * counters       | owner: store (mirror)        | inspect | none             | stale at worst
 *
 * Law of the bits
 *   Publisher: word READY (full); its bit in ready[]; that word's bit in ready_summary (ready[0] needs none:
 *              it is always looked at); ring. It may skip setting a bit that it reads as set.
 *   Owner:     clears the bit (full), then reads the lane's word. Clears a summary bit (full), then reads
 *              ready[], and sets it again if there is something. It may leave the bit of a lane that it has just
 *              served standing and read the lane's word instead: then neither side writes the line of bits, and
 *              whoever leaves the bit behind leaves one that leads to nothing, or to a request.
 *
 *   Aside:     a request whose caller sleeps may wait for its turn: the owner clears the bit, reads the word, and notes the lane in
 *              private memory (lane_turns.h). Whoever leaves the mailbox then rings for it.
 *
 * Law of reuse
 *   attached is {incarnation:63 | attached:1}, or 0: the file is nobody's.
 *   Who attaches:  has the file open by its name; swaps the word from {its incarnation, 0} to {its incarnation, 1}, or
 *                  finds that; only then reads the header, and writes anything. Any other word: the incarnation that the
 *                  name stood for has ended.
 *   Owner, ended:  swaps {its incarnation, 0} to 0. Done: no other process ever attached, none ever will, and the file
 *                  may become another incarnation's. Not done: it is unlinked for good.
 *   Owner, again:  renames it to ".new.…"; when nobody in its process uses it any more, wipes it but for magic, version
 *                  and fingerprint; writes header and control fields, then attached; renames it to its new name.
 *   Killed before the rename to ".new.…": a mailbox without a session, whose word is 0; after it: a file that was being
 *   made by a dead process. The reaper removes either by name and the owner that finds its file gone makes another.
 *
 * Skipping a bit is sound: the publisher reads the bit after its READY with a full barrier between, and the owner
 * reads the word after clearing with one between. If the publisher read a set bit, the owner's clearing
 * comes after that read, so (both cannot read the past) the owner's read of the word sees READY.
 * A publisher killed between READY and its bits leaves a lane that nobody looks at and nobody waits for;
 * reclaim frees it. One that was stopped there goes on when continued. So no live request is ever hidden.
 */
enum sb__mailbox_state {
	SB__MAILBOX_SERVING = 1,
	SB__MAILBOX_RELEASED = 2,
	SB__MAILBOX_EXPIRED = 3,
	SB__MAILBOX_ORPHANED =
		4 /* its owner let go of it but lives on: for callers the same as if it had died */
};

struct sb__mailbox_header_shm {
	char magic[8];        /* "SBmail01", without a NUL */
	uint32_t version;     /* SB__LAYOUT_VERSION */
	uint32_t fingerprint; /* sb__layout_fingerprint() */
	uint64_t incarnation;
	struct sb__identity owner;  /* designated owner */
	uint32_t bell_index;        /* of this session in the owner's bell file */
	uint32_t lanes_max;         /* ≤ SB__LANES_MAX */
	uint64_t created_ms;        /* sb__now_ms() */
	uint64_t ttl_ms;            /* 0 = never */
	uint64_t max_request_bytes; /* quotas of each calling process; 0 = none */
	uint32_t max_lanes_per_process;
	uint32_t max_refs;
	uint32_t session_id_len;
	char session_id[SB_SESSION_ID_MAX + 1];
};
_Static_assert(sizeof(struct sb__mailbox_header_shm) <= SB__CONTROL_AT, "layout");

struct sb__mailbox_control_shm {
	sb__word state;
	sb__word lane_count; /* lanes that exist; a whole number of blocks */
	sb__word attention;  /* grows when a running call is cancelled or abandoned */
	sb__word claimed;    /* not 0 once any lane was claimed: until then all are FREE */
	sb__word attached; /* whose file it is, and whether another process was ever attached: law of reuse */
	uint8_t pad0[24];
	sb__word ready_summary; /* bit w: ready[w] may be non-zero; bit 0 is not used */
	sb__word ready[SB__LANES_MAX / 64];
	uint8_t pad1[56];
	sb__word last_access_ms; /* sb__now_coarse_ms() */
	uint8_t pad2[120];       /* CPUs fetch lines in pairs: these change with each call, that one hardly */
	sb__word calls, exceptions, refused; /* mirrors of the owner's private counters */
	sb__word live_refs, evicted_refs, expired_refs, created_refs;
	sb__word in_flight;
	sb__word service_ns; /* that these calls took in the owner, in all */
	sb__word pinned_refs;
};
_Static_assert(offsetof(struct sb__mailbox_control_shm, ready_summary) == 64, "layout");
_Static_assert(offsetof(struct sb__mailbox_control_shm, last_access_ms) % 64 == 0, "layout");
_Static_assert(SB__CONTROL_AT + sizeof(struct sb__mailbox_control_shm) <= SB__PAGE, "layout");

/*
 * ── Bell ──────────────────────────────────────────────────────────────────────────────────────────
 * File "bell/<slot>.<generation>": one per designated owner process, for all the sessions it serves, so
 * that few threads wait for many sessions.
 *
 * Law of the doorbell.   Publisher: lane READY; ready bits (full); session bits (full); read parked;
 *                        if parked: bell += 1, wake.
 *                        Sleeper: s = bell; parked = 1; full barrier; rescan; wait while bell == s.
 *                        parked goes back to 0 when the last sleeper of the owner is awake, and a ring wakes all of
 *                        them: one that lost the lead in its sleep must not take the wake-up of the one that has it.
 * field      | writer                | reader  | ordering           | if the writer dies here
 * bell       | publisher: add        | leader  | full               | leader's wait is bounded and rescans
 * parked     | leader                | callers | full barrier after | owner dead: nobody to wake
 * leader_cpu | leader: store         | callers | none: a hint       | spins for 20 µs where parking is better
 * ringer_cpu | ringing caller: store | leader  | none: a hint       | the same
 * rung_ns    | ringing caller: store | leader  | none: a hint       | the same
 * standby    | nudging caller: add   | standby | full               | another caller nudges
 * alive      | keeper holds it for   | callers | kernel sets        | that is its purpose
 *            | life (robust, pshared)|         | FUTEX_OWNER_DIED   |
 * summary,   | caller or; leader and | leader  | full               | as for ready[]: hides only requests
 * sessions   |                       |         |                    | of the dead
 *
 * All sessions of a process hang on this file, so its first page, which says whose it is and that it lives, is mapped for reading
 * only by everybody but the owner: no stray store of a caller tells another session that its owner died. What callers write, in the
 * second page, can make calls late by a slice when it is wrong, and no more.
 *
 * The leader clears a summary bit (and rereads the word below) only when the bits below it are gone and it
 * is about to park, so that busy callers find it set and write one line, not two.
 *
 * The first int of alive is glibc's lock word: the keeper's thread id, with FUTEX_WAITERS. The keeper sets
 * FUTEX_WAITERS so that the kernel, which wakes one waiter when the holder dies, always looks for one; the
 * woken one wakes the others. A word without a thread id: the keeper does not run (yet, any more) or the C
 * library is another one; then callers wait in short slices and ask.
 */
struct sb__bell_shm {
	char magic[8]; /* "SBbell01" */
	uint32_t version, fingerprint;
	struct sb__identity owner;
	uint8_t pad0[192 - 16 - sizeof(struct sb__identity)];
	pthread_mutex_t alive; /* line 3: its first word is the futex that dies with the owner */
	uint8_t pad1[SB__PAGE - 192 - sizeof(pthread_mutex_t)];

	sb__word32 bell; /* the second page, line 0 */
	sb__word32 parked;
	sb__word32 leader_cpu; /* where the leader last ran: a hint for spin or park */
	sb__word32 ringer_cpu; /* where the last caller that rang ran */
	sb__word rung_ns;      /* CLOCK_MONOTONIC, when the parked leader was rung for last */
	uint8_t pad2[40];
	sb__word32 standby; /* line 1 */
	uint8_t pad3[60];
	sb__word summary[SB__BELL_SESSIONS / 4096]; /* line 2 */
	uint8_t pad4[64 - 8 * (SB__BELL_SESSIONS / 4096)];
	sb__word sessions[SB__BELL_SESSIONS / 64];
};
_Static_assert(sizeof(struct sb__identity) <= 176, "layout");
_Static_assert(sizeof(pthread_mutex_t) <= 64, "layout");
_Static_assert(offsetof(struct sb__bell_shm, bell) == SB__PAGE, "layout");
_Static_assert(offsetof(struct sb__bell_shm, summary) == SB__PAGE + 128, "layout");

/*
 * ── Ref rows ──────────────────────────────────────────────────────────────────────────────────────
 * File "mailbox/<incarnation>.refs": what people may know of each ref; no nonces. Only the owner writes. Whole pages, each with
 * the rows of so many slots and places for a few names of types; a row says by number which name, wherever it stands.
 * generation is odd-even guarded: a reader copies the row and its name, rereads generation, and drops a row that
 * changed. generation 0: no ref here. A name stays while a live row has it.
 */
struct sb__ref_row_shm {
	sb__word32 generation; /* 0 while being written or empty; else the slot's generation */
	int32_t creator_pid;
	uint64_t created_ms; /* sb__now_ms() */
	sb__word used_ms;
	sb__word32 pins; /* sb_ref_pin() */
	uint32_t type;   /* number of its name: that of a place in page type / SB__TYPES_PER_PAGE */
};
_Static_assert(sizeof(struct sb__ref_row_shm) == 32, "layout");

struct sb__ref_type_shm {
	char name[96];       /* NUL-terminated */
	uint32_t module_len; /* how much of it is the module */
	uint8_t pad[28];
};
_Static_assert(sizeof(struct sb__ref_type_shm) == 128, "layout");

#define SB__ROWS_PER_PAGE  96u
#define SB__TYPES_PER_PAGE 8u

struct sb__ref_page_shm {
	struct sb__ref_row_shm rows[SB__ROWS_PER_PAGE];
	struct sb__ref_type_shm types[SB__TYPES_PER_PAGE];
};
_Static_assert(sizeof(struct sb__ref_page_shm) == SB__PAGE, "layout");

/* Differs whenever a struct above or the message format does. */
uint32_t sb__layout_fingerprint(void);

#endif
