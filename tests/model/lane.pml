/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane, the doorbell and death: CALLERS processes call through a lane each; one leader in the owner's process
 * serves them (src/shm/lane_call.c, lane_serve.c, bell.c; the laws are in src/shm/layout.h).
 *
 * Whatever another process can see is a step of its own; a compare-and-swap, a fetch-and-or and the kernel's compare
 * in futex_wait are one step, as they are in the code. Memory is sequentially consistent: the code has a full barrier
 * wherever it counts on that. The ready bit and the bell's session bit follow the same law and are one bit here.
 *
 * Checked in every interleaving:
 *   - a request runs at most once, and not after its caller was told that it had not started;
 *   - whoever is told of a reply gets the reply to this very request;
 *   - nobody sleeps for ever, though no wait has a timeout here: a state in which nothing can happen while a living
 *     caller still waits is an error;
 *   - in the end no lane names a dead caller, if the owner lives.
 *
 *   DEADLINE     a caller's deadline may pass at any look
 *   KILL_OWNER   SIGKILL of the owner at any step
 *   KILL_CALLER  SIGKILL of caller 0 at any step, and a reaper that then takes its lane back
 *   With both, a caller that was woken for the owner's death may be killed before it passes the wake-up on; the others
 *   then learn at the end of their slice: a wait ends when nothing else can happen.
 *
 * Seeded mistakes, each of which must be found:
 *   BUG_PARK     the leader looks for work before it says that it is parked
 *   BUG_CLEAR    the leader looks at the lane, then clears its bit
 *   BUG_ALIVE    a caller that is woken by the owner's death wakes the others only if its own call has died
 *   BUG_ABANDON  a caller that gives up takes a BUSY lane back
 *   BUG_SEEN     a caller reads its reply bell after it looked at the lane
 *   BUG_KEPT     the leader clears a bit that it had left standing, and does not look at the lane again
 *   BUG_ASIDE    the leader sleeps though a request waits aside
 *
 * Runs:
 *   verify: CALLERS=2 CALLS=1
 *   verify: CALLERS=1 CALLS=3 DEADLINE
 *   verify: CALLERS=2 CALLS=1 DEADLINE
 *   verify: CALLERS=2 CALLS=1 KILL_OWNER
 *   verify: CALLERS=2 CALLS=1 KILL_CALLER
 *   verify: CALLERS=1 CALLS=2 DEADLINE KILL_OWNER KILL_CALLER
 *   find: CALLERS=1 CALLS=2 BUG_PARK
 *   find: CALLERS=1 CALLS=2 BUG_SEEN
 *   find: CALLERS=1 CALLS=2 DEADLINE BUG_CLEAR
 *   find: CALLERS=1 CALLS=3 BUG_KEPT
 *   find: CALLERS=1 CALLS=1 BUG_ASIDE
 *   find: CALLERS=1 CALLS=2 DEADLINE BUG_ABANDON
 *   find: CALLERS=2 CALLS=1 KILL_OWNER BUG_ALIVE
 */
#ifndef CALLERS
#define CALLERS 2
#endif
#ifndef CALLS
#define CALLS 2
#endif

#define NOBODY 255

mtype = { FREE, IDLE, READY, BUSY, DONE, ABANDONED };

typedef lane_t {
	mtype state;
	byte seq;   /* with state the word; it never wraps here */
	byte claim; /* NOBODY in FREE */
	byte request, reply; /* numbers of the calls that they belong to */
	byte reply_bell;
	bool parked;
	bool ready;
}
lane_t lanes[CALLERS];

bool leader_parked;
byte bell;
bool leader_sleeps;
bool sleeps[CALLERS]; /* caller, on {reply_bell, alive} */

bool owner_dead, caller_dead;
byte ran[CALLERS];      /* how often the current request ran */
bool refused[CALLERS];  /* its caller was told that it had not started */
byte ended;             /* living callers that have made all their calls */

#ifdef BUG_ASIDE
#define ANY_ASIDE false
#elif CALLERS == 1
#define ANY_ASIDE aside[0]
#else
#define ANY_ASIDE (aside[0] || aside[CALLERS - 1]) /* of two */
#endif
#define WORD(l, s, q) (lanes[l].state == s && lanes[l].seq == q)

inline free_lane(l)
{
	lanes[l].state = FREE;
	lanes[l].seq++;
	lanes[l].claim = NOBODY
}

/* Sets the bit unless it reads it as set, then rings if the leader is parked. */
inline announce(l)
{
	if
	:: lanes[l].ready
	:: else -> lanes[l].ready = true
	fi;
	if
	:: leader_parked -> bell++; leader_sleeps = false
	:: else
	fi
}

inline wake_all()
{
	d_step {
		i = 0;
		do
		:: i < CALLERS -> sleeps[i] = false; i++
		:: else -> break
		od
	}
}

proctype Caller(byte me)
{
	byte call, seq, seen, i;
	bool gives_up;

	{
	atomic { lanes[me].state == FREE; lanes[me].state = IDLE; lanes[me].claim = me };
	do
	:: call == CALLS || owner_dead -> break
	:: else ->
		atomic { call++; ran[me] = 0; refused[me] = false; lanes[me].request = call };
		atomic { /* publish */
			assert(lanes[me].state == IDLE && lanes[me].claim == me);
			lanes[me].state = READY; lanes[me].seq++; seq = lanes[me].seq
		};
		announce(me);
		lanes[me].parked = true;
		gives_up = false;
		do
		:: true ->
#ifdef BUG_SEEN
			if
			:: !WORD(me, READY, seq) && !WORD(me, BUSY, seq) -> break
			:: else
			fi;
			seen = lanes[me].reply_bell;
#else
			seen = lanes[me].reply_bell;
			if
			:: !WORD(me, READY, seq) && !WORD(me, BUSY, seq) -> break
			:: else
			fi;
#endif
			if
			:: owner_dead -> gives_up = true; break
#ifdef DEADLINE
			:: !owner_dead -> gives_up = true; break
#endif
			:: !owner_dead
			fi;
			atomic { /* the kernel compares both words */
				if
				:: lanes[me].reply_bell == seen && !owner_dead -> sleeps[me] = true
				:: else
				fi
			};
			if
			:: !sleeps[me]
#if defined(KILL_OWNER) && defined(KILL_CALLER)
			:: timeout -> sleeps[me] = false
#endif
			fi;
			if
			:: owner_dead ->
#ifdef BUG_ALIVE
				if
				:: WORD(me, READY, seq) || WORD(me, BUSY, seq) -> wake_all()
				:: else
				fi
#else
				wake_all()
#endif
			:: else
			fi
		od;
		atomic { /* settle: one compare-and-swap decides */
			if
			:: WORD(me, DONE, seq) -> assert(lanes[me].reply == call && ran[me] == 1)
			:: WORD(me, READY, seq) ->
				assert(gives_up);
				lanes[me].state = IDLE; refused[me] = true; assert(ran[me] == 0)
			:: WORD(me, BUSY, seq) ->
				assert(gives_up);
#ifdef BUG_ABANDON
				lanes[me].state = IDLE; refused[me] = true
#else
				lanes[me].state = ABANDONED; goto lost
#endif
			:: else -> assert(false) /* nobody takes a living caller's lane */
			fi
		};
		atomic { /* consume */
			if
			:: WORD(me, DONE, seq) -> lanes[me].state = IDLE
			:: else
			fi
		};
		lanes[me].parked = false
	od;
	atomic { assert(lanes[me].state == IDLE && lanes[me].claim == me); free_lane(me) };
lost:	ended++ /* an abandoned lane is the owner's to free */
	} unless { me == 0 && caller_dead }
}

proctype Leader()
{
	byte l, seq, seen, call;
	bool aside[CALLERS]; /* requests whose callers wait for their turn: private, as what follows */
	byte last = NOBODY; /* the lane that was served last: its bit may stand, and its word is looked at instead */

	{
	do
	:: true ->
		/* One that waits aside, if there is, and perhaps others with a bit. */
		l = 0;
		do
		:: l == CALLERS -> break
		:: l < CALLERS && aside[l] -> aside[l] = false; goto turn
		:: l < CALLERS -> l++
		od;
		l = 0;
		do
		:: l == CALLERS || lanes[l].ready -> break
		:: else -> l++
		od;
		if
		:: l == CALLERS && ANY_ASIDE -> skip
		:: l == CALLERS && !ANY_ASIDE ->
			seen = bell;
#ifndef BUG_PARK
			leader_parked = true;
#endif
			l = 0;
			do
			:: l == CALLERS || lanes[l].ready -> break
			:: else -> l++
			od;
#ifdef BUG_PARK
			leader_parked = true;
#endif
			if
			:: l == CALLERS ->
				atomic {
					if
					:: bell == seen -> leader_sleeps = true
					:: else
					fi
				};
end:				!leader_sleeps
			:: else
			fi;
			leader_parked = false
		:: else ->
			if
			:: l == last ->
				last = NOBODY;
				atomic { /* accept */
					if
					:: lanes[l].state == READY ->
						lanes[l].state = BUSY; seq = lanes[l].seq; call = lanes[l].request;
						goto took
					:: else
					fi
				};
#ifdef BUG_KEPT
				lanes[l].ready = false;
				goto next
#endif
			:: else
			fi;
#ifdef BUG_CLEAR
			seq = (lanes[l].state == READY -> 1 : 0);
			lanes[l].ready = false;
			if
			:: seq == 0 -> goto next
			:: else
			fi;
#else
			lanes[l].ready = false;
#endif
			if
			:: lanes[l].parked -> aside[l] = true; goto next /* its caller sleeps, or is about to */
			:: true
			fi;
turn:			atomic { /* accept */
				if
				:: lanes[l].state == READY ->
					lanes[l].state = BUSY; seq = lanes[l].seq; call = lanes[l].request
				:: else -> goto next
				fi
			};
took:			atomic { ran[l]++; assert(ran[l] == 1 && !refused[l]) };
			last = l;
			lanes[l].reply = call;
			atomic { /* complete */
				if
				:: WORD(l, BUSY, seq) -> lanes[l].state = DONE
				:: WORD(l, ABANDONED, seq) -> free_lane(l); goto next
				:: else -> assert(false)
				fi
			};
			if
			:: lanes[l].parked -> lanes[l].reply_bell++; sleeps[l] = false
			:: else
			fi
		fi;
next:		skip
	od
	} unless { owner_dead }
}

/* The kernel marks the alive word and wakes one waiter. */
proctype KillOwner()
{
	atomic {
		owner_dead = true;
		if
		:: sleeps[0] -> sleeps[0] = false
#if CALLERS > 1
		:: sleeps[1] -> sleeps[1] = false
#endif
#if CALLERS > 2
		:: sleeps[2] -> sleeps[2] = false
#endif
		:: else
		fi
	}
}

proctype KillCaller()
{
	d_step { caller_dead = true; sleeps[0] = false };
	do /* the reaper, from the life token */
	:: atomic { lanes[0].claim == 0 && (lanes[0].state == IDLE || lanes[0].state == READY || lanes[0].state == DONE) ->
		free_lane(0) }; break
	:: atomic { lanes[0].claim == 0 && lanes[0].state == BUSY -> lanes[0].state = ABANDONED }; break
	:: lanes[0].claim != 0 || lanes[0].state == ABANDONED -> break
	od
}

init
{
	byte i;

	atomic {
		do
		:: i < CALLERS -> lanes[i].state = FREE; lanes[i].claim = NOBODY; run Caller(i); i++
		:: else -> break
		od;
		run Leader();
#ifdef KILL_OWNER
		run KillOwner();
#endif
#ifdef KILL_CALLER
		run KillCaller()
#endif
	};
	ended >= CALLERS - (caller_dead -> 1 : 0);
	timeout;
	atomic {
		i = 0;
		do
		:: i < CALLERS -> assert(lanes[i].state == FREE || owner_dead); i++
		:: else -> break
		od
	}
}
