/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request from bytes to bytes: read it, find what it names, run it, write the reply.
 *
 * There is always a whole reply: a value; the exception that Python raised; refused, where nothing ran; or
 * failed, where it ran and its result cannot be delivered. Only in the last two and for an exception are
 * the refs dropped again that were made for it.
 *
 * Locks: the GIL. The bytes of the request are the caller's and private.
 * Crash story: the caller's lane says BUSY, so a caller learns that it may have run.
 */
#include "convert.h"

#include <stdio.h>

#include "gil.h"
#include "snakebridge/error.h"

struct run {
	struct sb__call call;
	struct sb__request_head head;
	PyObject *target;
	struct sb__arguments arguments;
	struct sb__why why;
	int code; /* what an exception means */
};

/* ── verbs: a new reference; or NULL, with why set or an exception ── */

static PyObject *call_object(struct run *run, PyObject *function)
{
	PyObject *result;

	if (!function)
		return NULL;
	run->code = SB_EPYTHON;
	result = PyObject_VectorcallDict(function, run->arguments.items,
	                                 run->arguments.count | PY_VECTORCALL_ARGUMENTS_OFFSET,
	                                 run->arguments.keywords);
	Py_DECREF(function);
	return result;
}

static PyObject *do_call(struct run *run)
{
	return call_object(run,
	                   sb__resolve_path(run->head.name, run->head.name_len, true, &run->code, &run->why));
}

static PyObject *do_method(struct run *run)
{
	return call_object(run, sb__resolve_attr(run->target, run->head.name, run->head.name_len, &run->code,
	                                         &run->why));
}

static PyObject *do_attr(struct run *run)
{
	return sb__resolve_attr(run->target, run->head.name, run->head.name_len, &run->code, &run->why);
}

static PyObject *do_set_attr(struct run *run)
{
	run->code = sb__assign_attr(run->target, run->head.name, run->head.name_len, run->arguments.items[0],
	                            &run->why);
	return run->code ? NULL : Py_NewRef(Py_None);
}

static PyObject *do_get(struct run *run)
{
	return sb__resolve_path(run->head.name, run->head.name_len, false, &run->code, &run->why);
}

static PyObject *do_release(struct run *run)
{
	bool dropped = false;
	int err = sb__table_release(&run->call, &run->head.target, &dropped);

	if (err) {
		sb__because_ref(&run->why, err, &run->head.target);
		return NULL;
	}
	return Py_NewRef(dropped ? Py_True : Py_False);
}

/* What a verb takes. Everything it does not take must not be there. */
static const struct verb {
	const char *name;
	PyObject *(*run)(struct run *run);
	bool has_target, has_name, has_arguments;
} verbs[] = {
	[SB_VERB_CALL] = { "call", do_call, false, true, true },
	[SB_VERB_METHOD] = { "method", do_method, true, true, true },
	[SB_VERB_ATTR] = { "attr", do_attr, true, true, false },
	[SB_VERB_SET_ATTR] = { "set_attr", do_set_attr, true, true, true },
	[SB_VERB_GET] = { "get", do_get, false, true, false },
	[SB_VERB_RELEASE] = { "release", do_release, true, false, false },
};

static const struct verb *find_verb(uint32_t number)
{
	return number < sizeof(verbs) / sizeof(verbs[0]) && verbs[number].run ? &verbs[number] : NULL;
}

static int check_shape(struct run *run, const struct verb *verb)
{
	const struct sb__request_head *head = &run->head;
	const struct sb__arguments *arguments = &run->arguments;

	if (head->has_target != verb->has_target)
		return sb__because(&run->why, SB_EINVAL, "%s takes %s target; %s", verb->name,
		                   verb->has_target ? "a" : "no",
		                   verb->has_target ? "pass a ref" : "leave it out");
	if ((head->name != NULL) != verb->has_name)
		return sb__because(&run->why, SB_EINVAL, "%s takes %s name; %s", verb->name,
		                   verb->has_name ? "a" : "no", verb->has_name ? "pass one" : "leave it out");
	if (head->verb == SB_VERB_SET_ATTR && (arguments->count != 1 || arguments->keywords))
		return sb__because(&run->why, SB_EINVAL,
		                   "set_attr takes exactly one positional argument, the value; "
		                   "it got %zu and %zu keywords",
		                   arguments->count,
		                   arguments->keywords ? (size_t)PyDict_GET_SIZE(arguments->keywords) : 0);
	if (!verb->has_arguments && (arguments->count || arguments->keywords))
		return sb__because(&run->why, SB_EINVAL, "%s takes no arguments; leave them out", verb->name);
	return 0;
}

/* Everything that can be refused: 0 and the verb, with target and arguments held. */
static int prepare(struct run *run, struct sb__cursor *cursor, const struct verb **ret_verb)
{
	int err;

	*ret_verb = find_verb(run->head.verb);
	if (!*ret_verb || run->head.flags & ~SB_CALL_AS_REF)
		return sb__because(&run->why, SB_EPROTOCOL,
		                   "verb %u with flags %#x is not known here; use the same "
		                   "version everywhere",
		                   run->head.verb, run->head.flags);
	err = sb__arguments_decode(&run->call, cursor, &run->arguments, &run->why);
	if (!err)
		err = check_shape(run, *ret_verb);
	/* A release looks its target up by itself: there a stale one is no error. */
	if (!err && run->head.has_target && run->head.verb != SB_VERB_RELEASE) {
		err = sb__table_find(&run->call, &run->head.target, &run->target);
		if (err)
			sb__because_ref(&run->why, err, &run->head.target);
	}
	return err;
}

/* ── replies ── */

static void reply_exception(struct run *run, struct sb__buf *reply)
{
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_EXCEPTION);
	sb__exception_encode(sb__exception_take(), run->code, reply);
	if (reply->error)
		sb__reply_fail(reply, SB_EPYTHON,
		               "Python raised an exception, and there is no room to say which");
}

/* True if the result is in the reply. */
static bool reply_value(struct run *run, PyObject *result, struct sb__buf *reply)
{
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	if (sb__encode(&run->call, result, run->head.flags & SB_CALL_AS_REF, reply, &run->why) == 0)
		return true;
	sb__reply_fail(reply, run->why.code, run->why.message);
	return false;
}

/* With the GIL. True if a value was delivered. */
static bool execute(struct run *run, struct sb__cursor *cursor, struct sb__buf *reply)
{
	const struct verb *verb;
	PyObject *result;
	bool delivered = false;

	if (prepare(run, cursor, &verb) < 0) {
		sb__reply_refuse(reply, run->why.code, run->why.message);
		return false;
	}
	run->code = SB_EPYTHON;
	result = verb->run(run);
	if (result)
		delivered = reply_value(run, result, reply);
	else if (run->why.code)
		sb__reply_refuse(reply, run->why.code, run->why.message);
	else
		reply_exception(run, reply);
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

void sb__execute(struct sb__table *table, const struct sb__call_origin *origin, const uint8_t *request,
                 size_t request_len, struct sb__buf *reply)
{
	struct sb__cursor cursor = { request, request_len, 0 };
	struct run run;
	struct sb__gil gil;
	bool delivered;
	int code;
	const char *why = unusable(table, &code);

	if (why) {
		sb__reply_refuse(reply, code, why);
		return;
	}
	run.target = NULL;
	run.arguments.count = 0;
	run.arguments.keywords = NULL;
	run.arguments.memory = NULL;
	run.why.code = 0;
	code = sb__request_decode(&cursor, &run.head);
	if (code) {
		sb__because_protocol(&run.why, code);
		sb__reply_refuse(reply, run.why.code, run.why.message);
		return;
	}
	gil = sb__gil_enter();
	sb__call_begin(&run.call, table, origin ? origin->pid : 0);
	delivered = execute(&run, &cursor, reply);
	sb__arguments_drop(&run.arguments);
	Py_XDECREF(run.target);
	sb__call_end(&run.call, delivered);
	if (PyErr_Occurred()) /* nothing of this call may meet the next one on this thread */
		PyErr_Clear();
	sb__gil_leave(gil);
}
