/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The designated owner asks a caller, through the lane of its call (shm/lane_ask.c), and watches that it lives.
 *
 * Locks: none. Crash: see shm/lane_ask.c.
 */
#include "asked.h"
#include "callback.h"
#include "fail.h"
#include "host_impl.h"
#include "os_linux.h"

/* One question on its way. */
struct waiting {
	struct sb__asks *asks;
	bool (*stopped)(void *arg);
	void *stopped_arg;
};

static void parking(void *arg)
{
	const struct waiting *w = arg;

	w->asks->parking(w->asks->arg);
}

bool sb__caller_lives(const struct sb__hosted *hosted, const struct sb__accepted *call)
{
	return sb__os_ofd_test(hosted->host->core->dir.life_fd, (off_t)call->caller_slot) != 0;
}

static bool alive(void *arg)
{
	const struct waiting *w = arg;

	return sb__caller_lives(w->asks->hosted, w->asks->call);
}

static bool stopped(void *arg)
{
	const struct waiting *w = arg;

	return w->stopped(w->stopped_arg);
}

static enum sb__asker_result ask(void *arg, const struct sb__buf *question, bool (*stop)(void *arg),
                                 void *stop_arg, struct sb__buf *answer)
{
	struct sb__asks *asks = arg;
	struct sb__core *core = asks->hosted->host->core;
	struct waiting w = { asks, stop, stop_arg };
	struct sb__asking asking = { .parking = parking, .alive = alive, .stopped = stopped, .arg = &w };

	switch (sb__accepted_ask(asks->hosted->mailbox, asks->call, question, core->arena, core->arenas,
	                         &asking, answer)) {
	case SB__ASKED_ANSWERED: return SB__ASKER_ANSWERED;
	case SB__ASKED_STOPPED: return SB__ASKER_CANCELLED;
	case SB__ASKED_LATE: return SB__ASKER_LATE;
	case SB__ASKED_ENDED: return SB__ASKER_ENDED;
	case SB__ASKED_GONE: return SB__ASKER_GONE;
	case SB__ASKED_FAILED: break;
	}
	sb__answer_error(answer, sb_last_error()->code); /* said as if the function had */
	return SB__ASKER_ANSWERED;
}

static void done(void *arg)
{
	struct sb__asks *asks = arg;

	sb__accepted_answered(asks->hosted->mailbox, asks->call);
}

struct sb__asker sb__asks_asker(struct sb__asks *asks)
{
	return (struct sb__asker){ .ask = ask,
		                   .done = done,
		                   .arg = asks,
		                   .call = sb__call_key(asks->call->lane, asks->call->word),
		                   .thread = asks->call->caller_thread };
}
