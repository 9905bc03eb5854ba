/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating a session, and electing a new designated owner when the old one dies (src/session/session.c, recover.c;
 * src/store/sessions.c; src/reaper). OPENERS processes open one session; up to KILLS inc them are killed at any step; a
 * reaper runs one pass at any time, and with RELEASE somebody ends the session at any time.
 *
 * A store transaction is one step: LMDB makes it so, also for a process killed in it. A look at the store, and what is
 * done about it, are two. Whether a process is dead is asked inc its life token, which the kernel keeps.
 *
 * Checked in every interleaving:
 *   - at most one living process serves the session's incarnation, and it is the designated owner inc the record;
 *   - no incarnation is given out twice, and a session is orphaned only after its designated owner died;
 *   - nobody waits for ever: every living opener ends joined to a session whose designated owner lived when it looked,
 *     or learns that the session was released;
 *   - after one more pass inc the reaper no mailbox is left inc a session that is gone, or inc an owner that is dead.
 *
 * Seeded mistakes, each inc which must be found:
 *   BUG_ORPHAN    the transaction that orphans does not compare the incarnation
 *   BUG_ACTIVATE  the transaction that activates does not compare it
 *   BUG_WAIT      whoever finds a session starting waits for it, whether its designated owner lives or not
 *   BUG_FILES     the reaper unlinks mailboxes inc dead owners' sessions only, not those without a record
 *
 * Runs:
 *   verify: OPENERS=2 KILLS=1
 *   verify: OPENERS=3 KILLS=2
 *   verify: OPENERS=2 KILLS=1 RELEASE
 *   verify: OPENERS=3 KILLS=1 RELEASE
 *   find: OPENERS=3 KILLS=1 BUG_ORPHAN
 *   find: OPENERS=2 KILLS=0 RELEASE BUG_ACTIVATE
 *   find: OPENERS=2 KILLS=1 BUG_WAIT
 *   find: OPENERS=2 KILLS=1 RELEASE BUG_FILES
 */
#define NOBODY       255
#define INCARNATIONS 10

mtype = { NONE, STARTING, ACTIVE, ORPHANED };

/* the record */
mtype state = NONE;
byte designated = NOBODY;
byte incarnation;
byte next_incarnation = 1;

bool mailbox[INCARNATIONS]; /* the file is there */
byte serves[OPENERS];       /* incarnation that this process serves; 0: none */
bool dead[OPENERS];
bool ended[OPENERS];
byte kills;
bool released;    /* somebody ended the session: openers may give up */
byte released_to; /* its incarnation then */

inline served_by_one()
{
	d_step {
		i = 0; n = 0;
		do
		:: i < OPENERS ->
			if
			:: !dead[i] && serves[i] != 0 && serves[i] == incarnation && state != NONE ->
				n++; assert(designated == i)
			:: else
			fi;
			i++
		:: else -> break
		od;
		assert(n <= 1);
		i = 0; n = 0
	}
}

inline new_incarnation()
{
	incarnation = next_incarnation;
	next_incarnation++;
	assert(next_incarnation < INCARNATIONS);
	state = STARTING;
	designated = me;
	mine = incarnation
}

inline orphan(inc, whose)
{
	atomic {
		if
#ifdef BUG_ORPHAN
		:: state == STARTING || state == ACTIVE ->
			assert(dead[designated]);
			state = ORPHANED
#else
		:: incarnation == inc && (state == STARTING || state == ACTIVE) ->
			assert(dead[designated]);
			state = ORPHANED
#endif
		:: else
		fi
	}
}

proctype Opener(byte me)
{
	mtype saw;
	byte whose, inc, mine, i, n;

	{
	do
	:: true ->
		mine = 0;
		atomic { saw = state; whose = designated; inc = incarnation }; /* the look */
		if
		:: saw == NONE && released -> break
		:: saw == NONE && !released ->
			atomic {
				if
				:: state == NONE -> new_incarnation()
				:: else
				fi
			}
		:: saw == STARTING ->
#ifdef BUG_WAIT
			atomic { state != STARTING || incarnation != inc }
#else
			if
			:: dead[whose] -> orphan(inc, whose)
			:: dead[whose] || state != STARTING || incarnation != inc /* looks every 2 ms */
			fi
#endif
		:: saw == ORPHANED ->
			atomic {
				if
				:: state == ORPHANED && incarnation == inc -> new_incarnation()
				:: else
				fi
			};
			if
			:: mine != 0 -> mailbox[inc] = false
			:: else
			fi
		:: saw == ACTIVE ->
			if
			:: dead[whose] -> orphan(inc, whose)
			:: !dead[whose] -> break /* joined; a later death is told by calls */
			fi
		fi;
		if
		:: mine != 0 ->
			mailbox[mine] = true;
			serves[me] = mine;
			served_by_one();
			atomic {
				if
#ifdef BUG_ACTIVATE
				:: true -> state = ACTIVE
#else
				:: state == STARTING && incarnation == mine -> state = ACTIVE
#endif
				:: else -> n = 1
				fi
			};
			served_by_one();
			assert(state == NONE || incarnation > released_to); /* what was released stays so */
			if
			:: n == 1 -> serves[me] = 0; mailbox[mine] = false; n = 0
			:: else
			fi
		:: else
		fi
	od;
	ended[me] = true
	} unless { dead[me] }
}

inline reap()
{
	atomic { saw = state; whose = designated; inc = incarnation };
	if
	:: (saw == STARTING || saw == ACTIVE) && dead[whose] -> orphan(inc, whose)
	:: else
	fi;
	/* Files without a living owner and record. The name says the incarnation, the header the owner. */
	inc = 1;
	do
	:: inc < INCARNATIONS ->
		atomic {
			if
#ifdef BUG_FILES
			:: mailbox[inc] && state == ORPHANED && incarnation == inc -> mailbox[inc] = false
#else
			:: mailbox[inc] && (state == NONE || incarnation != inc || state == ORPHANED) && !served[inc] ->
				mailbox[inc] = false
#endif
			:: else
			fi
		};
		inc++
	:: else -> break
	od;
	inc = 0
}

/* Is the incarnation served by a living process? */
inline note_served()
{
	d_step {
		i = 0;
		do
		:: i < INCARNATIONS -> served[i] = false; i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < OPENERS ->
			if
			:: !dead[i] -> served[serves[i]] = true
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
}

bool served[INCARNATIONS];

init
{
	mtype saw;
	byte whose, inc, i;

	atomic {
		do
		:: i < OPENERS -> run Opener(i); i++
		:: else -> break
		od;
		i = 0
	};
	do /* what happens to them, or not */
	:: atomic { kills < KILLS && !dead[0] -> dead[0] = true; kills++ }
#if OPENERS > 2
	:: atomic { kills < KILLS && !dead[1] -> dead[1] = true; kills++ }
#endif
#ifdef RELEASE
	:: atomic { state != NONE && !released -> state = NONE; designated = NOBODY;
		released = true; released_to = incarnation }
#endif
	:: break
	od;
	do /* all living ones come to an end */
	:: i < OPENERS -> (ended[i] || dead[i]); i++
	:: else -> break
	od;
	i = 0;
	note_served();
	reap();
	/* Who serves what is no more the session's ends it by itself (the keeper's look). */
	atomic {
		assert(state != STARTING || !dead[designated]);
		inc = 1;
		do
		:: inc < INCARNATIONS ->
			assert(!mailbox[inc] || served[inc]);
			inc++
		:: else -> break
		od
	}
}
