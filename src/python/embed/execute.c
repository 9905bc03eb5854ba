/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request from bytes to bytes: read it, find what it names, run its verb (verbs.c), write the reply.
 *
 * There is always a whole reply: a value; the exception that Python raised; refused, where nothing ran; or
 * failed, where it ran and its result cannot be delivered. Only in the last two and for an exception are
 * the refs dropped again that were made for it.
 *
 * Locks: the GIL. The bytes of the request are the caller's and private.
 * Crash story: the caller's lane says BUSY, so a caller learns that it may have run.
 */
#include "convert.h"

#include "arrays.h"
#include "callbacks.h"
#include "cancel.h"
#include "clock.h"
#include "fail.h"
#include "frame.h"
#include "gil.h"
#include "run.h"
#include "snakebridge/async.h"
#include "snakebridge/error.h"
#include "snakebridge/stream.h"
#include "stream.h"
#include "utf8.h"

#include <string.h>

/* The target is what an earlier item gave, which may be no ref. */
static int prepare_item(struct sb__run *run)
{
	if (run->head->verb == SB_VERB_RELEASE || run->head->verb == SB_VERB_PIN ||
	    run->head->verb == SB_VERB_UNPIN || run->head->verb == SB_VERB_CLOSE)
		return sb__because(&run->why, SB_EINVAL,
		                   "the result of a batch's item cannot be released, closed or pinned within "
		                   "the batch: it "
		                   "takes a ref");
	run->target = sb__item_result(&run->call, run->ref->slot, &run->why);
	return run->target ? 0 : run->why.code;
}

/* Everything that can be refused: 0 and the verb, with target and arguments held. */
static int prepare(struct sb__run *run, struct sb__cursor *cursor, const struct sb__verb **ret_verb)
{
	int err;

	*ret_verb = sb__verb_find(run->head->verb);
	if (!*ret_verb ||
	    run->head->flags & ~(SB_CALL_AS_REF | SB_CALL_PLAIN | SB_CALL_AS_VIEW | SB_CALL_STREAM))
		return sb__because(&run->why, SB_EPROTOCOL,
		                   "verb %u with flags %#x is not known here; use the same "
		                   "version everywhere",
		                   run->head->verb, run->head->flags);
	err = sb__arguments_none(cursor, &run->arguments)
	              ? 0
	              : sb__arguments_decode(&run->call, cursor, &run->arguments, &run->why);
	/* A caller that gave up may have used their memory for something else before they were kept here. */
	if (!err && run->call.shares && run->call.origin.stands &&
	    !run->call.origin.stands(run->call.origin.stands_arg))
		err = sb__because(&run->why, SB_ECANCELLED,
		                  "the caller gave up before its arrays were taken");
	if (!err)
		err = sb__verb_check(run, *ret_verb);
	/* Release and close look their target up by themselves: there a stale one is no error. */
	if (!err && run->head->target_is_item)
		return prepare_item(run);
	if (!err && run->head->has_target && run->head->verb != SB_VERB_RELEASE &&
	    run->head->verb != SB_VERB_CLOSE) {
		err = sb__table_find(&run->call, run->ref, &run->target);
		run->exhausted = err == SB__REF_EXHAUSTED && run->head->verb == SB_VERB_NEXT;
		if (run->exhausted)
			return 0;
		if (err)
			err = sb__because_ref(&run->why, err, run->ref);
	}
	return err;
}

/* ── replies ── */

static void reply_exception(struct sb__run *run, struct sb__buf *reply)
{
	if (sb__cancel_raised())
		run->code = SB_ECANCELLED;
	sb__put_reply(reply, SB__REPLY_EXCEPTION);
	sb__exception_encode(sb__exception_take(), run->code, reply);
	if (reply->error)
		sb__reply_fail(reply, SB_EPYTHON,
		               "Python raised an exception, and there is no room to say which");
}

/* True if the result is in the reply. */
static bool reply_value(struct sb__run *run, PyObject *result, struct sb__buf *reply)
{
	if ((result == Py_None || (PyBool_Check(result) && !(run->head->flags & SB_CALL_AS_REF))) &&
	    run->head->verb != SB_VERB_NEXT && sb__buf_fits(reply, 3)) {
		uint8_t *to = reply->data + reply->len;

		to[0] = SB__MAJOR_ARRAY | 2;
		to[1] = SB__REPLY_VALUE;
		to[2] = result == Py_None   ? SB__NULL_BYTE
		        : result == Py_True ? SB__TRUE_BYTE
		                            : SB__FALSE_BYTE;
		reply->len += 3;
		return true;
	}
	sb__put_reply(reply, SB__REPLY_VALUE);
	if (run->head->verb == SB_VERB_NEXT
	            ? sb__encode_next(&run->call, sb__stream_of(result), &run->wish, run->head->flags, reply,
	                              &run->why) == 0
	            : sb__encode(&run->call, result, run->head->flags, reply, &run->why) == 0)
		return true;
	sb__reply_fail(reply, run->why.code, run->why.message);
	return false;
}

/* With the GIL. True if a value was delivered. */
static bool execute(struct sb__run *run, struct sb__cursor *cursor, struct sb__buf *reply)
{
	const struct sb__table *around = run->thread->framed;
	const struct sb__verb *verb;
	PyObject *result;
	bool delivered = false;

	if (prepare(run, cursor, &verb) < 0) {
		sb__reply_refuse(reply, run->why.code, run->why.message);
		return false;
	}
	run->code = SB_EPYTHON;
	sb__call_runs(&run->call);
	run->thread->framed = NULL; /* what runs here may call in turn, on its own frame */
	result = verb->run(run);
	run->thread->framed = around;
	if (result && run->head->flags & SB_CALL_STREAM)
		Py_SETREF(result, sb__stream_make(result));
	if (result)
		delivered = reply_value(run, result, reply);
	else if (run->why.code)
		sb__reply_refuse(reply, run->why.code, run->why.message);
	else
		reply_exception(run, reply);
	if (delivered && run->keep)
		*run->keep = Py_NewRef(result);
	Py_XDECREF(result);
	return delivered;
}

/* Why nothing may run on this table here, or NULL. */
static const char *unusable(const struct sb__table *table, int *ret_code)
{
	const char *why = sb__python_unusable();

	*ret_code = SB_ENOPYTHON;
	if (!why && !sb__table_is_ours(table)) {
		*ret_code = SB_EBUG;
		why = "a forked child cannot run calls on its parent's objects itself; they go through the "
		      "mailbox";
	}
	return why;
}

uint64_t sb__run_one(struct sb__run *run, struct sb__cursor *cursor, struct sb__running *running,
                     struct sb__buf *reply)
{
	uint64_t number;
	struct sb__kept_list *kept = run->call.origin.kept;
	size_t kept_before = kept ? kept->count : 0;
	bool takes;

	run->delivered = execute(run, cursor, reply);
	if (running)
		sb__running_remove(run->thread, running);
	if (!run->delivered && kept)
		sb__kept_rewind(kept, kept_before);
	if (run->arguments.count || run->arguments.keywords || run->arguments.memory)
		sb__arguments_drop(&run->arguments);
	Py_XDECREF(run->target);
	number = run->call.number;
	takes = run->call.takes;
	if (!sb__call_end(&run->call, run->delivered))
		number = takes ? number : 0;
	if (takes)
		number |= SB__ENGINE_TELL;
	if (PyErr_Occurred()) /* nothing of this call may meet the next one on this thread */
		PyErr_Clear();
	return number;
}

void sb__run_init(struct sb__run *run, const struct sb__request_head *head)
{
	run->head = head;
	run->ref = &head->target;
	run->target = NULL;
	run->arguments.count = 0;
	run->arguments.keywords = NULL;
	run->arguments.memory = NULL;
	run->why.code = 0;
	run->keep = NULL;
	run->exhausted = run->framed = run->delivered = false;
}

static void refuse_unreadable(struct sb__buf *reply, int code)
{
	struct sb__why why = { 0 };

	sb__because_protocol(&why, code);
	sb__reply_refuse(reply, why.code, why.message);
}

/* A request whose head was read, or never written. */
struct asked {
	struct sb__table *table;
	const struct sb__call_origin *origin;
	const struct sb__request_head *head;
	const sb_ref *ref;         /* its target */
	struct sb__cursor *cursor; /* at its arguments */
	struct sb__buf *reply;
	uint64_t ended_ms; /* 0: unknown */
	bool changed;      /* the table's counts, perhaps */
};

static uint64_t single(struct asked *a, struct sb__thread *thread, struct sb__running *running)
{
	struct sb__run run;
	uint64_t number;

	sb__run_init(&run, a->head);
	run.ref = a->ref;
	run.thread = thread;
	run.framed = thread->framed == a->table;
	sb__call_begin(&run.call, a->table, a->origin);
	run.call.items = NULL;
	number = sb__run_one(&run, a->cursor, running, a->reply);
	a->ended_ms = run.call.now_ms;
	a->changed = run.call.changed;
	return number;
}

static uint64_t run_asked(struct asked *a)
{
	const struct sb__call_origin *origin = a->origin;
	struct sb__thread *thread = sb__thread();
	struct sb__running *running = sb__running_add(thread, a->table, origin);
	struct sb__talk *talk = NULL;
	struct sb__gil gil;
	uint64_t number = 0;

	if (!running) {
		sb__reply_refuse(a->reply, SB_ENOMEM, "no memory for one more call");
		return 0;
	}
	gil = sb__gil_enter_as(thread);
	if (a->head->has_target)
		sb__table_fetch(a->table, a->ref->slot);
	if (!sb__running_begin(running)) {
		sb__running_remove(thread, running);
		sb__reply_refuse(a->reply, SB_ECANCELLED, "the call was cancelled before it began");
	} else if (origin && origin->asker && !(talk = sb__talk_begin(a->table, origin, running))) {
		sb__running_remove(thread, running);
		sb__reply_refuse(a->reply, SB_ENOMEM, "no memory for a call with C functions");
	} else if (a->head->verb == SB_VERB_BATCH) {
		number = sb__run_batch(a->table, origin, thread, running, a->head, a->cursor, a->reply);
	} else {
		number = single(a, thread, running);
	}
	if (talk)
		sb__talk_end(talk);
	if (PyErr_Occurred())
		PyErr_Clear();
	sb__gil_leave(gil);
	return number;
}

uint64_t sb__execute(struct sb__table *table, const struct sb__call_origin *origin, const uint8_t *request,
                     size_t request_len, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = request, .len = request_len };
	struct sb__request_head head;
	struct asked a = { table, origin, &head, &head.target, &cursor, reply, 0, true };
	int code;
	const char *why = unusable(table, &code);

	if (why) {
		sb__reply_refuse(reply, code, why);
		return 0;
	}
	code = sb__request_decode(&cursor, &head);
	if (code) {
		refuse_unreadable(reply, code);
		return 0;
	}
	return run_asked(&a);
}

/* False: it is not UTF-8. */
static bool name_len(const char *name, size_t *ret)
{
	const char *end = name;
	char all = 0;

	while (name && *end)
		all |= *end++;
	*ret = (size_t)(end - name);
	return !(all & 0x80) || sb__utf8_valid(name, *ret);
}

uint64_t sb__execute_own(struct sb__table *table, const struct sb__call_origin *origin,
                         struct sb__own_request *request, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = request->arguments, .len = request->arguments_len };
	struct sb__request_head head;
	struct asked a = { table, origin, &head, request->target, &cursor, reply, 0, true };
	uint64_t number;
	int code;
	const char *why = unusable(table, &code);

	request->ended_ms = 0;
	request->changed = true;
	if (why) {
		sb__reply_refuse(reply, code, why);
		return 0;
	}
	head.verb = request->verb;
	head.flags = request->flags;
	head.has_target = request->target != NULL;
	head.target_is_item = false;
	head.name = request->name;
	head.name_len = 0;
	if (!name_len(request->name, &head.name_len)) {
		refuse_unreadable(reply, sb__fail(SB_EPROTOCOL, "the name is not UTF-8"));
		return 0;
	}
	number = run_asked(&a);
	request->ended_ms = a.ended_ms;
	request->changed = a.changed;
	return number;
}

/* ── many on one frame ── */

struct within {
	struct sb__table *table;
	struct sb__thread *thread;
	void (*fn)(void *arg);
	void *arg;
};

static void run_within(void *arg)
{
	const struct within *w = arg;

	w->thread->framed = w->table;
	w->fn(w->arg);
	w->thread->framed = NULL;
}

void sb__execute_within(struct sb__table *table, void (*fn)(void *arg), void *arg)
{
	struct within w = { .table = table, .fn = fn, .arg = arg };
	struct sb__gil gil;
	bool done;

	if (sb__python_unusable() || !sb__table_is_ours(table)) {
		fn(arg);
		return;
	}
	gil = sb__gil_enter();
	w.thread = gil.thread;
	done = sb__frame_around(sb__table_frame(table), run_within, &w);
	if (!done)
		fn(arg);
	sb__gil_leave(gil);
}
