/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose caller can be asked to run C functions: both sides; asked.c, ask.c. */
#ifndef SB_SESSION_ASKED_H
#define SB_SESSION_ASKED_H

#include "engine.h"
#include "value_impl.h"
#include "way.h"

struct sb__asked_call;
/* Must the way's caller be ready to be asked? It passes functions, or one of those is what calls. */
static inline bool sb__way_is_asked(const struct sb__way *way)
{
	return way->thread->asked || (way->request->args && way->request->args->callback_count);
}
/* Delivers such a call and waits for it. */
int sb__way_asked(struct sb__way *way, struct sb__attachment *a, sb_value **ret_value);
/* 0, or SB_EINVAL: functions in a call that nobody waits for. */
int sb__way_no_callbacks(const struct sb__way *way, const char *kind);

/* ask.c: the designated owner's side, of one running call. */

/* By its life token. A slot whose token is free has no process; one that another process has by now was tidied before, and
 * the lane is abandoned. */
bool sb__caller_lives(const struct sb__hosted *hosted, const struct sb__accepted *call);

struct sb__asks {
	struct sb__hosted *hosted;
	struct sb__accepted *call;
	void (*parking)(void *arg); /* this call's caller is waited for: another thread is to take the lead */
	void *arg;
};
struct sb__asker sb__asks_asker(struct sb__asks *asks);

#endif
