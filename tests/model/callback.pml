/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and answers in a lane that is BUSY (src/shm/lane_ask.c; steps and fields: docs/design/callbacks.md): the owner's
 * thread asks QUESTIONS times, then replies; the caller answers while it waits for the reply.
 *
 * Whatever another process can see is a step of its own; an area that is being written holds TORN. The word is its state here,
 * since the lane is not given away meanwhile. Memory is sequentially consistent: the code has a full barrier wherever it counts
 * on that.
 *
 * Checked in every interleaving:
 *   - a function runs with the arguments of its own question, whole, and once;
 *   - an answer that the owner takes is that to its question, whole; the reply that the caller takes is the reply;
 *   - nobody sleeps for ever, though no wait has a timeout but the owner's for a dead caller: a state in which nothing can happen
 *     while a living one still waits is an error.
 *
 *   CANCEL       somebody cancels the call, at any step: each question from then on is withdrawn, and Python may ask again
 *   DEADLINE     the caller may give up at any look
 *   KILL_OWNER   SIGKILL of the owner at any step
 *   KILL_CALLER  SIGKILL of the caller at any step; the owner learns of it when its slice is over
 *
 * Seeded mistakes, each of which must be found:
 *   BUG_PARK     the owner looks for the answer before it says that it is parked
 *   BUG_SEEN     the caller reads its bell after it looked for a question
 *   BUG_TWICE    the caller does not remember which question it took up last
 *   BUG_EVEN     the owner withdraws a question without counting
 *   BUG_COPY     the caller does not look again after it copied a question
 *   BUG_STALE    the owner takes any answer for the one to its question
 *   BUG_CHECK    the owner does not reread the word after it copied an answer
 *
 * Runs:
 *   verify: QUESTIONS=3
 *   verify: QUESTIONS=2 CANCEL
 *   verify: QUESTIONS=2 DEADLINE
 *   verify: QUESTIONS=2 CANCEL DEADLINE
 *   verify: QUESTIONS=2 CANCEL KILL_OWNER
 *   verify: QUESTIONS=2 CANCEL DEADLINE KILL_CALLER
 *   find: QUESTIONS=1 BUG_PARK
 *   find: QUESTIONS=1 BUG_SEEN
 *   find: QUESTIONS=1 BUG_TWICE
 *   find: QUESTIONS=2 CANCEL BUG_EVEN
 *   find: QUESTIONS=2 CANCEL BUG_COPY
 *   find: QUESTIONS=2 CANCEL BUG_STALE
 *   find: QUESTIONS=1 DEADLINE BUG_CHECK
 */
#ifndef QUESTIONS
#define QUESTIONS 2
#endif

#define TORN  0
#define REPLY 100
#define REUSED 200 /* the caller's memory, used for something else */

mtype = { BUSY, DONE, ABANDONED, FREE };

mtype state = BUSY;
byte asked, answered;
byte question, answer; /* what lies in the two areas: whose it is */
bool caller_parked, asker_parked, caller_sleeps, asker_sleeps;
byte reply_bell, answer_bell;
bool cancelled, owner_dead, caller_dead;
byte ran[QUESTIONS + 1];

inline wake_caller()
{
	if
	:: caller_parked -> reply_bell++; caller_sleeps = false
	:: else
	fi
}

inline wake_asker()
{
	if
	:: asker_parked -> answer_bell++; asker_sleeps = false
	:: else
	fi
}

proctype Owner()
{
	byte n, seen, copy;
	bool got;

	{
	do
	:: n == QUESTIONS -> break
	:: else ->
		n++;
		if
		:: cancelled || state != BUSY -> break /* given up before it is put */
		:: else
		fi;
		question = TORN;
		question = n;
		asked++;
		wake_caller();
		got = false;
#ifndef BUG_PARK
		asker_parked = true;
#endif
		do
		:: true ->
			seen = answer_bell;
			if
#ifdef BUG_STALE
			:: answered != 0 -> got = true; break
#else
			:: answered == asked -> got = true; break
#endif
			:: else
			fi;
			if
			:: state != BUSY || cancelled -> break
			:: else
			fi;
#ifdef BUG_PARK
			asker_parked = true;
#endif
			atomic {
				if
				:: answer_bell == seen -> asker_sleeps = true
				:: else
				fi
			};
			if
			:: !asker_sleeps
			:: caller_dead -> /* the slice is over, its token is free */
				asker_sleeps = false;
				atomic {
					if
					:: state == BUSY -> state = ABANDONED
					:: else
					fi
				}
			fi
		od;
		asker_parked = false;
		if
		:: got ->
			copy = answer;
#ifndef BUG_CHECK
			if
			:: state != BUSY -> goto withdrawn
			:: else
			fi;
#endif
			assert(copy == n)
		:: else
		fi;
withdrawn:
#ifdef BUG_EVEN
		if
		:: got -> asked++
		:: else -> asked++; asked-- /* that nobody sees it is the mistake */
		fi
#else
		asked++
#endif
	od;
	question = TORN;
	question = REPLY;
	atomic {
		if
		:: state == BUSY -> state = DONE
		:: else -> state = FREE; goto gone
		fi
	};
	wake_caller();
gone:	skip
	} unless { owner_dead }
}

/* state: BUSY becomes ABANDONED by one compare-and-swap. What the answer lay in is the caller's own again. */
inline abandon()
{
	atomic {
		if
		:: state == BUSY -> state = ABANDONED
		:: else
		fi
	};
	wake_asker();
	answer = REUSED
}

proctype Caller()
{
	byte mine, now, seen, copy;

	{
	do
	:: true ->
		caller_parked = true;
#ifndef BUG_SEEN
		seen = reply_bell;
#endif
		if
		:: state == DONE -> assert(question == REPLY); break
		:: else
		fi;
#ifdef DEADLINE
		if
		:: abandon(); break
		:: true
		fi;
#endif
		if
		:: owner_dead -> abandon(); break
		:: else
		fi;
		now = asked; /* once: what was checked is what is used */
		if
#ifdef BUG_TWICE
		:: now % 2 == 1 ->
#else
		:: now % 2 == 1 && now != mine ->
#endif
			caller_parked = false;
			mine = now;
			copy = question;
#ifndef BUG_COPY
			if
			:: asked != mine || state != BUSY -> goto again
			:: else
			fi;
#endif
			d_step {
				assert(copy == (mine + 1) / 2);
				ran[copy]++;
				assert(ran[copy] == 1)
			};
			if
			:: asked != mine || state != BUSY -> goto again
			:: else
			fi;
			answer = TORN;
			answer = (mine + 1) / 2;
			answered = mine;
			wake_asker();
			goto again
		:: else
		fi;
#ifdef BUG_SEEN
		seen = reply_bell;
#endif
		atomic {
			if
			:: reply_bell == seen && !owner_dead -> caller_sleeps = true
			:: else
			fi
		};
		!caller_sleeps;
again:		skip
	od
	} unless { caller_dead }
}

proctype Canceller()
{
	cancelled = true;
	wake_asker()
}

init
{
	atomic {
		run Owner();
		run Caller();
#ifdef CANCEL
		run Canceller();
#endif
	};
#ifdef KILL_OWNER
	atomic { owner_dead = true; caller_sleeps = false };
#endif
#ifdef KILL_CALLER
	atomic { caller_dead = true; caller_sleeps = false };
#endif
	skip
}
