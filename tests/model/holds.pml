/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who keeps a block of an arena: the writer, its table of holds, keepers that hand a hold on, a reaper
 * (src/shm/holds.c, arena.c: kept_locked(), settle_locked(); docs/design/arrays.md).
 *
 * The writer makes a block, names it in a message to keeper 0 and keeps it itself until that message is over, as lanes do.
 * Keeper 0 takes an entry, then looks whether the message still stands; if it does, it keeps the block. A keeper that keeps
 * it may name it to the next keeper, and keeps it itself until the next one has taken its hold or has given up. The
 * writer's last reference goes; when no entry names the block in one look at the table, it is made anew: another array lies
 * there from then on. A process may be killed at any step; the reaper then clears what names it.
 *
 * A message that hands a hold on is a request, in a lane of the sender's, which the reaper takes back if it died; or (REPLIES) the
 * reply of a designated owner, in a lane of its reader's, which stands though the owner died. Its reader looks at the owner's life token,
 * too, after it took its hold.
 *
 * Each access to a word that another process can see is a step. Entries are one word: {keeper, block}; here there is one
 * block, and an entry says whose it is, or nobody's. Entries are taken wherever one is free, so in any order.
 *
 * Checked in every interleaving:
 *   - a block that a living process keeps is never made anew, and nobody keeps a block of a message that is over;
 *   - in the end, when all have given back or were killed and the reaper passed, no entry names anybody, and the block is free.
 *
 *   KILLS   up to so many keepers are killed at any step
 *   HANDS   keeper 0 hands its hold on to keeper 1 (and that one to keeper 2)
 *   REPLIES it does so by replies
 *
 * Seeded mistakes, each of which must be found:
 *   BUG_TAKES    the writer does not look whether a hold was taken while it looked at the entries
 *   BUG_COUNT    a keeper counts its take after it says that it has the block
 *   BUG_STANDS   a keeper does not look again at the message after it took its hold
 *   BUG_REAPER   the reaper clears the holds of a process that lives
 *   BUG_ORDER    the reaper clears the holds of the dead before it ends their messages
 *   BUG_DEATH    a keeper does not look whether the owner whose reply it reads has died
 *   BUG_EARLY    it looks before it takes its hold
 *
 * Runs:
 *   verify: KEEPERS=1
 *   verify: KEEPERS=2 HANDS
 *   verify: KEEPERS=2 HANDS KILLS=1
 *   verify: KEEPERS=2 HANDS REPLIES KILLS=1
 *   find: KEEPERS=2 HANDS BUG_TAKES
 *   find: KEEPERS=2 HANDS BUG_COUNT
 *   find: KEEPERS=1 BUG_STANDS
 *   find: KEEPERS=2 HANDS KILLS=1 BUG_REAPER
 *   find: KEEPERS=2 HANDS KILLS=1 BUG_ORDER
 *   find: KEEPERS=2 HANDS REPLIES KILLS=1 BUG_DEATH
 *   find: KEEPERS=2 HANDS REPLIES KILLS=1 BUG_EARLY
 */
#ifndef KEEPERS
#define KEEPERS 2
#endif
#ifndef KILLS
#define KILLS 0
#endif

#define NOBODY  255
#define ENTRIES KEEPERS

byte entries[ENTRIES]; /* which keeper keeps the block, or NOBODY */
byte top;              /* no entry at or above it was ever used */
byte takes;

bool message[KEEPERS]; /* to this keeper: stands, so its sender keeps the block */
bool named[KEEPERS];   /* this keeper was told of the block */
bool answered[KEEPERS];/* it has taken its hold, or given up */
bool has[KEEPERS];     /* it uses the block */
bool done[KEEPERS];
bool dead[KEEPERS];
bool was_dead[KEEPERS]; /* when the reaper looked */
byte kills;
bool free;             /* the writer has made another array there */

inline kept_by_nobody()
{
	d_step {
		i = 0;
		do
		:: i < KEEPERS -> assert(!has[i] || dead[i]); i++
		:: else -> break
		od;
		i = 0
	}
}

inline raise_top(e)
{
	do
	:: top >= e + 1 -> break
	:: else -> atomic { /* compare-and-swap of the value that was read */
			if
			:: top < e + 1 -> top = e + 1
			:: else
			fi
		}
	od
}

/* Takes a free entry, from any on. */
inline take(me, e)
{
	atomic {
		if
		:: e = 0
#if KEEPERS > 1
		:: e = 1
#endif
#if KEEPERS > 2
		:: e = 2
#endif
		fi
	};
	taken = false;
	do
	:: taken -> break
	:: else ->
		if
		:: entries[e] == NOBODY ->
			raise_top(e);
			atomic { /* compare-and-swap */
				if
				:: entries[e] == NOBODY -> entries[e] = me; taken = true
				:: else
				fi
			}
		:: else
		fi;
		if
		:: !taken -> e = (e + 1) % ENTRIES
		:: else
		fi
	od;
#ifndef BUG_COUNT
	takes++
#else
	skip
#endif
}

inline give(me, e)
{
	atomic { /* compare-and-swap of the very word */
		if
		:: entries[e] == me -> entries[e] = NOBODY
		:: else
		fi
	}
}

/* Does whoever replied live? The first message is the writer's, which never dies here. */
inline look_at_sender(me)
{
	lives = me == 0 || !dead[me - 1]
}

proctype Keeper(byte me)
{
	byte e;
	bool taken, lives = true;

	{
	skip;
end:	named[me];
#ifdef BUG_EARLY
	look_at_sender(me);
#endif
	take(me, e);
#if defined(REPLIES) && !defined(BUG_DEATH) && !defined(BUG_EARLY)
	look_at_sender(me);
#endif
#ifdef BUG_STANDS
	has[me] = true;
#else
	if /* does the message still stand? */
	:: message[me] && lives -> atomic { assert(!free); has[me] = true }
	:: else
	fi;
#endif
	atomic { assert(!has[me] || !free); answered[me] = true };
#ifdef BUG_COUNT
	takes++;
#endif
#ifdef HANDS
	if
	:: has[me] && me + 1 < KEEPERS ->
		message[me + 1] = true;
		named[me + 1] = true;
		if /* the call ends by its reply, or by its deadline at any time */
		:: answered[me + 1] || dead[me + 1]
		:: true
		fi;
		message[me + 1] = false
	:: else
	fi;
#endif
	assert(!has[me] || !free);
	has[me] = false;
	give(me, e);
	done[me] = true
	} unless { dead[me] }
}

/* One look at the table: true if it names nobody and nobody took an entry meanwhile. */
inline look()
{
	seen = takes;
	n = top;
	i = 0;
	none = true;
	do
	:: i < n ->
		if
		:: entries[i] != NOBODY -> none = false
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0;
#ifndef BUG_TAKES
	if
	:: takes != seen -> none = false
	:: else
	fi
#endif
}

proctype Writer()
{
	byte seen, n, i;
	bool none;

	atomic { message[0] = true; named[0] = true };
	if /* the call ends by its reply, or by its deadline at any time */
	:: answered[0] || dead[0]
	:: true
	fi;
	message[0] = false; /* first the word moves, then the reference goes */
	look();
	if
	:: none -> atomic { kept_by_nobody(); free = true }
	:: else
	fi;
	do /* waits; looks again when holds were given back */
	:: free -> break
	:: else ->
		look();
		if
		:: none -> atomic { kept_by_nobody(); free = true }
		:: else
		fi
	od
}

inline end_messages()
{
	i = 0;
#ifndef REPLIES
	do
	:: i + 1 < KEEPERS ->
		atomic {
			if
			:: dead[i] -> message[i + 1] = false
			:: else
			fi
		};
		i++
	:: else -> break
	od;
	i = 0
#endif
}

inline clear_holds()
{
	i = 0;
	do
	:: i < KEEPERS * ENTRIES ->
		atomic {
			if
#ifdef BUG_REAPER
			:: entries[i % ENTRIES] == i / ENTRIES -> entries[i % ENTRIES] = NOBODY
#else
			:: was_dead[i / ENTRIES] && entries[i % ENTRIES] == i / ENTRIES -> entries[i % ENTRIES] = NOBODY
#endif
			:: else
			fi
		};
		i++
	:: else -> break
	od;
	i = 0
}

/* The life token tells who is dead. Only whose messages were ended is dropped: who dies later is the next pass's. */
proctype Reaper()
{
	byte i;

	d_step {
		do
		:: i < KEEPERS -> was_dead[i] = dead[i]; i++
		:: else -> break
		od;
		i = 0
	};
#ifdef BUG_ORDER
	clear_holds();
	end_messages()
#else
	end_messages();
	clear_holds()
#endif
}

init
{
	byte i;

	atomic {
		do
		:: i < ENTRIES -> entries[i] = NOBODY; i++
		:: else -> break
		od;
		i = 0;
		run Writer();
		do
		:: i < KEEPERS -> run Keeper(i); i++
		:: else -> break
		od;
		i = 0
	};
#if KILLS > 0
	do
	:: atomic { kills < KILLS && !dead[0] && !done[0] -> dead[0] = true; kills++ }
	:: atomic { kills < KILLS && !dead[KEEPERS - 1] && !done[KEEPERS - 1] -> dead[KEEPERS - 1] = true; kills++ }
	:: break
	od;
#endif
	run Reaper();
	timeout;
	atomic { /* everything has come to its end, but for keepers that nobody named it to */
		assert(free);
		i = 0;
		do
		:: i < ENTRIES -> assert(entries[i] == NOBODY); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < KEEPERS -> assert(done[i] || dead[i] || !named[i]); i++
		:: else -> break
		od
	}
}
