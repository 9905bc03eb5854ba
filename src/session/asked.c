/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that can be asked: they pass C functions, or a C function that runs made them. The caller's side: a lane of the pool,
 * so that the thread's own is free for what a function calls; finding the function that a question names; its result.
 *
 * A thread's calls that wait are a chain: a question comes by the innermost, and may name a function of one further out, of the
 * same incarnation (docs/design/callbacks.md).
 *
 * Locks: core->lock for the pool's lanes.
 *
 * Crash: see shm/lane_ask.c.
 */
#include "asked.h"

#include <string.h>

#include "arrays.h"
#include "callback.h"
#include "fail.h"
#include "os_linux.h"
#include "value_impl.h"

#define HERE (UINT64_C(1) << 62) /* numbers of calls that go through no mailbox: no lane's key has this bit */

struct sb__asked_call {
	struct sb__asked_call *outer;
	const struct sb__way *way;
	struct sb__attachment *a;
	uint64_t incarnation;
	uint64_t number; /* what questions call it; 0: it was not asked yet */
	sb_args *answer; /* the last one, for what it names; the owner may not have it yet */
};

static __thread unsigned depth; /* functions that run in this thread, in each other */

/* ── a question ── */

static const struct sb__callback *find(const struct sb__asked_call *call, const struct sb__question *question)
{
	const struct sb_args *args = NULL;
	uint64_t incarnation = call->incarnation;

	for (; call && !args; call = call->outer)
		if (call->number == question->call && call->incarnation == incarnation)
			args = call->way->request->args;
	if (!args || question->function >= args->callback_count) {
		sb__fail(SB_EPROTOCOL,
		         "a question names a function that none of this thread's calls has passed");
		return NULL;
	}
	return &args->callbacks[question->function];
}

/* What is in the result must be of the session that asks. */
static int check_result(const struct sb__asked_call *call, const struct sb_args *args)
{
	for (size_t i = 0; i < args->ref_count; i++)
		if (strcmp(args->refs[i].session_id, call->way->id) != 0 ||
		    args->refs[i].incarnation != call->incarnation)
			return sb__fail(SB_EREFSESSION,
			                "the result of a C function holds a ref of session \"%s\", but it "
			                "goes to session "
			                "\"%s\", or to a later life of it",
			                args->refs[i].session_id, call->way->id);
	return sb__arrays_check(call->way->session->core, args);
}

static int put_result(struct sb__asked_call *call, const sb_value *value, struct sb__buf *answer)
{
	int err;

	sb_args_free(call->answer);
	call->answer = sb_args_pack("o", value);
	err = sb__args_error(call->answer);
	if (!err)
		err = check_result(call, call->answer);
	if (err)
		return err;
	sb__put_array(answer, 2);
	sb__put_uint(answer, SB__ANSWER_VALUE);
	sb__buf_append(answer, call->answer->positional.data, call->answer->positional.len);
	return 0;
}

/* Runs the function. False: this is a forked child of the process that was asked. */
static bool run(struct sb__asked_call *call, const struct sb__question *question, struct sb__buf *answer)
{
	const struct sb__callback *callback = find(call, question);
	struct sb__asked_call *before = sb__way_thread()->asked;
	uint64_t epoch = sb__fork_epoch();
	sb_value *result = NULL;
	int err = callback ? 0 : SB_EPROTOCOL;

	if (!err && depth >= SB_CALLBACK_DEPTH_MAX)
		err = sb__fail(SB_ETOODEEP,
		               "more than %d C functions that Python calls run within each other",
		               SB_CALLBACK_DEPTH_MAX);
	if (!err) {
		depth++;
		sb__way_thread()->asked = call; /* on another thread than the call's own it was not */
		err = callback->fn(callback->arg, question->args, question->kwargs, &result);
		sb__way_thread()->asked = before;
		depth--;
		if (epoch != sb__fork_epoch() && !call->a->hosted) {
			sb_value_free(result);
			return false;
		}
	}
	if (!err)
		err = put_result(call, result, answer);
	if (err)
		sb__answer_error(answer, err);
	sb_value_free(result);
	return true;
}

static void answered(void *arg)
{
	struct sb__asked_call *call = arg;

	sb_args_free(call->answer);
	call->answer = NULL;
}

/* ── through the mailbox ── */

static bool answer(void *arg, uint64_t key, const struct sb__buf *bytes, int error,
                   bool (*stands)(const struct sb__flight *flight), const struct sb__flight *flight,
                   struct sb__buf *to)
{
	struct sb__asked_call *call = arg;
	struct sb__question question;
	bool ours = true;
	int err = error;

	call->number = key;
	if (!err)
		err = sb__question_decode(bytes->data, bytes->len, call->way->id,
		                          sb__space_blocks(call->way->session->core->space), &question);
	if (err) {
		sb__answer_error(to, err);
		return true;
	}
	if (stands(flight)) /* else the arrays that were kept may be others' */
		ours = run(call, &question, to);
	sb__question_drop(&question);
	return ours;
}

/* A child that was forked in a function: what it inherited is its parent's, and may be unmapped by now. */
static int forked(const struct sb__way *c)
{
	int err = sb__fail(
		SB_ECANCELLED,
		"%s: this process was forked in a C function that the call had passed; the call goes on in "
		"its parent",
		sb__way_label(c));

	sb__fail_set_outcome(SB_OUTCOME_UNKNOWN);
	sb__fail_set_trace(c->trace_id);
	return err;
}

static int take(struct sb__way *c, struct sb__attachment *a, uint32_t lane, bool late, sb_value **ret_value)
{
	uint8_t memory[SB__INLINE_MAX];
	struct sb__buf reply;
	int err;

	sb__buf_init(&reply, memory, sizeof(memory));
	err = sb__way_take(c, a, lane, &reply, ret_value);
	sb__buf_free(&reply);
	/* The deadline passed, or the session ended, while a function ran: that is what made Python fail. */
	if (late && err && sb_last_error()->outcome == SB_OUTCOME_EXCEPTION)
		return sb__way_failed(c, a, SB__LANE_MAYBE);
	return err;
}

static int post(struct sb__way *c, struct sb__attachment *a, uint32_t lane, struct sb__asked_call *call,
                enum sb__lane_result *ret, bool *ret_late)
{
	struct sb__core *core = c->session->core;
	struct sb__answering answering = { .answer = answer,
		                           .answered = answered,
		                           .arg = call,
		                           .arena = core->arena,
		                           .peers = core->arenas };
	struct sb__lane_post post = sb__way_post(c);

	post.flags |= SB__REQUEST_ASKABLE;
	post.answering = &answering;
	post.thread = (int32_t)sb__os_tid();
	return sb__way_call(c, a, lane, &post, ret, ret_late);
}

/* Keeps the attachment, whatever the functions do to the session's handles. */
static void give_back(struct sb__attachment *a, uint32_t lane, bool lost)
{
	struct sb__core *core = a->core;

	pthread_mutex_lock(&core->lock);
	sb__pool_lane_give_locked(a, lane, lost);
	sb__attachment_put_locked(a);
	pthread_mutex_unlock(&core->lock);
}

static int ask_there(struct sb__way *c, struct sb__attachment *a, struct sb__asked_call *call,
                     sb_value **ret_value)
{
	enum sb__lane_result result;
	bool late = false, lost;
	uint32_t lane;
	int err;

	if (sb__bell_owner_died(&a->peer->bell) || sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return SB__AGAIN;
	err = sb__pool_lane_take(a, &lane);
	if (err)
		return sb__way_no_lane(c, err);
	pthread_mutex_lock(&a->core->lock);
	a->refs++;
	pthread_mutex_unlock(&a->core->lock);
	sb__mailbox_touch(a->mailbox, c->began_ms);
	err = post(c, a, lane, call, &result, &late);
	if (!err && result == SB__LANE_FORKED)
		return forked(c);
	lost = !err && (result == SB__LANE_MAYBE || result == SB__LANE_DIED_MAYBE);
	if (!err)
		err = result == SB__LANE_REPLIED ? take(c, a, lane, late, ret_value)
		                                 : sb__way_failed(c, a, result);
	give_back(a, lane, lost);
	return err;
}

/* ── here ── */

static enum sb__asker_result ask_here(void *arg, const struct sb__buf *question, bool (*stopped)(void *arg),
                                      void *stopped_arg, struct sb__buf *to)
{
	struct sb__asked_call *call = arg;
	struct sb__question asked;
	int err = sb__question_decode(question->data, question->len, call->way->id,
	                              sb__space_blocks(call->way->session->core->space), &asked);

	(void)stopped;
	(void)stopped_arg;
	if (err) {
		sb__answer_error(to, err);
	} else {
		(void)run(call, &asked, to);
		sb__question_drop(&asked);
	}
	return SB__ASKER_ANSWERED;
}

static int ask_self(struct sb__way *c, struct sb__attachment *a, struct sb__asked_call *call,
                    sb_value **ret_value)
{
	static _Atomic uint64_t numbers;
	struct sb__asker asker = {
		.ask = ask_here, .done = answered, .arg = call, .thread = (int32_t)sb__os_tid()
	};

	call->number = asker.call = HERE | atomic_fetch_add(&numbers, 1);
	return sb__way_here(c, a, &asker, ret_value);
}

/* ── both ── */

int sb__way_asked(struct sb__way *c, struct sb__attachment *a, sb_value **ret_value)
{
	struct sb__asked_call call = {
		.outer = sb__way_thread()->asked, .way = c, .a = a, .incarnation = a->incarnation
	};
	int err;

	sb__way_thread()->asked = &call;
	err = a->hosted ? ask_self(c, a, &call, ret_value) : ask_there(c, a, &call, ret_value);
	sb__way_thread()->asked = call.outer;
	sb_args_free(call.answer);
	return err;
}

int sb__way_no_callbacks(const struct sb__way *c, const char *kind)
{
	if (!c->request->args || !c->request->args->callback_count)
		return 0;
	return sb__way_refused(
		c, sb__fail(SB_EINVAL,
	                    "%s: a C function is among the arguments of %s: it runs while the call is waited "
	                    "for, so make a call that is",
	                    sb__way_label(c), kind));
}
