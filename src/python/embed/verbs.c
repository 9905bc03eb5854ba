/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each verb does with a target and arguments that were found: one function each, and a table of what a request of each has.
 *
 * Locks: the GIL. Crash story: as execute.c.
 */
#include "run.h"

#include <string.h>

#include "arrays.h"
#include "clock.h"
#include "frame.h"
#include "snakebridge/error.h"
#include "snakebridge/stream.h"

#define MS UINT64_C(1000000)

/* ── verbs: a new reference; or NULL, with why set or an exception ── */

static struct sb__lookup lookup_of(struct sb__run *run)
{
	return (struct sb__lookup){ .policy = sb__call_policy(&run->call), .why = &run->why };
}

/* self: the first argument, or NULL. */
static PyObject *call_object(struct sb__run *run, PyObject *function, PyObject *self)
{
	PyObject **items = run->arguments.items, *keywords = run->arguments.keywords, *result;
	size_t count = run->arguments.count;

	if (!function)
		return NULL;
	if (self) {
		*--items = self;
		count++;
	}
	run->code = SB_EPYTHON;
	sb__npalloc_install(run->thread);
	if (!run->framed || !sb__frame_serves(function))
		result = sb__frame_call(sb__table_frame(run->call.table), function, items, count, keywords);
	else if (keywords)
		result = PyObject_VectorcallDict(function, items, count | PY_VECTORCALL_ARGUMENTS_OFFSET,
		                                 keywords);
	else
		result = PyObject_Vectorcall(function, items, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
	Py_DECREF(function);
	return result;
}

/* The function or attribute of the path in the request. */
static PyObject *find_path(struct sb__run *run, bool for_call)
{
	struct sb__lookup lookup = lookup_of(run);
	PyObject *found = sb__resolve_path(&lookup, run->head->name, run->head->name_len, for_call);

	run->code = lookup.code;
	return found;
}

static PyObject *do_attr(struct sb__run *run)
{
	struct sb__lookup lookup = lookup_of(run);
	PyObject *found = sb__resolve_attr(&lookup, run->target, run->head->name, run->head->name_len);

	run->code = lookup.code;
	return found;
}

static PyObject *do_call(struct sb__run *run)
{
	return call_object(run, find_path(run, true), NULL);
}

static PyObject *do_get(struct sb__run *run)
{
	return find_path(run, false);
}

static PyObject *do_method(struct sb__run *run)
{
	struct sb__lookup lookup = lookup_of(run);
	bool unbound;
	PyObject *found = sb__resolve_method(&lookup, run->target, run->head->name, run->head->name_len,
	                                     &unbound);

	run->code = lookup.code;
	return call_object(run, found, unbound ? run->target : NULL);
}

static PyObject *do_set_attr(struct sb__run *run)
{
	struct sb__lookup lookup = lookup_of(run);

	run->code = sb__assign_attr(&lookup, run->target, run->head->name, run->head->name_len,
	                            run->arguments.items[0]);
	return run->code ? NULL : Py_NewRef(Py_None);
}

static PyObject *none_unless(int failed)
{
	return failed < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *do_getitem(struct sb__run *run)
{
	return PyObject_GetItem(run->target, run->arguments.items[0]);
}

static PyObject *do_setitem(struct sb__run *run)
{
	return none_unless(PyObject_SetItem(run->target, run->arguments.items[0], run->arguments.items[1]));
}

static PyObject *do_delitem(struct sb__run *run)
{
	return none_unless(PyObject_DelItem(run->target, run->arguments.items[0]));
}

static PyObject *do_len(struct sb__run *run)
{
	Py_ssize_t n = PyObject_Size(run->target);

	return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

static PyObject *do_contains(struct sb__run *run)
{
	int found = PySequence_Contains(run->target, run->arguments.items[0]);

	return found < 0 ? NULL : PyBool_FromLong(found);
}

static PyObject *do_repr(struct sb__run *run)
{
	return PyObject_Repr(run->target);
}

static PyObject *do_str(struct sb__run *run)
{
	return PyObject_Str(run->target);
}

static PyObject *do_hash(struct sb__run *run)
{
	Py_hash_t hash = PyObject_Hash(run->target);

	return hash == -1 ? NULL : PyLong_FromSsize_t(hash);
}

static PyObject *do_iter(struct sb__run *run)
{
	return sb__stream_make(run->target);
}

/* When a call that waits has to come back, so that its reply is in time; 0: it has all the time. */
static uint64_t wait_until(const struct sb__run *run)
{
	uint64_t now = sb__now_ns(), deadline = run->call.origin.deadline_ns, spare;

	if (!deadline)
		return 0;
	spare = deadline > now ? (deadline - now) / 4 : 0;
	return deadline > now ? deadline - (spare < 50 * MS ? spare : 50 * MS) : 1;
}

static struct sb__stream *stream_needed(struct sb__run *run)
{
	struct sb__stream *s = sb__stream_of(run->target);

	if (!s)
		sb__because(&run->why, SB_EINVAL,
		            "the target is not a stream, as iter gives them; ask iter for one");
	return s;
}

/* An argument of next: -1 if it is no int of least to most. */
static int64_t next_argument(struct sb__run *run, size_t i, int64_t least, int64_t most)
{
	PyObject *object = run->arguments.items[i];
	long long n = PyLong_CheckExact(object) ? PyLong_AsLongLong(object) : -1;

	PyErr_Clear();
	if (n >= least && n <= most)
		return n;
	sb__because(&run->why, SB_EINVAL,
	            "next takes a number of items from 1 to %d, and milliseconds to wait", SB_ITER_BATCH_MAX);
	return -1;
}

/* Gives the stream, whose items reply_value() takes. */
static PyObject *do_next(struct sb__run *run)
{
	int64_t most = next_argument(run, 0, 1, SB_ITER_BATCH_MAX), wait_ms = UINT32_MAX;
	struct sb__stream *s;

	if (most > 0 && run->arguments.count == 2)
		wait_ms = next_argument(run, 1, 0, UINT32_MAX);
	if (most < 0 || wait_ms < 0)
		return NULL;
	if (run->exhausted)
		return Py_NewRef(Py_None);
	s = stream_needed(run);
	run->wish = (struct sb__stream_wish){ .most = (size_t)most,
		                              .wait_ms = (uint32_t)wait_ms,
		                              .until_ns = wait_until(run) };
	if (!s || sb__stream_await(&run->call, s, &run->wish, &run->why) != 0)
		return NULL;
	return Py_NewRef(run->target);
}

/* Leaves the table at once: what comes after finds it closed, even while finally blocks run. */
static PyObject *do_close(struct sb__run *run)
{
	struct sb__stream *s;
	bool dropped = false;
	int err = sb__table_find(&run->call, run->ref, &run->target);

	if (err == SB_EREFSESSION || err == SB_EREFUNKNOWN || err == SB_ENOMEM) {
		sb__because_ref(&run->why, err, run->ref);
		return NULL;
	}
	if (err)
		return Py_NewRef(Py_False);
	s = stream_needed(run);
	if (!s)
		return NULL;
	(void)sb__table_release(&run->call, run->ref, &dropped);
	return sb__stream_close(s, wait_until(run)) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *special(struct sb__run *run, const char *name)
{
	struct sb__lookup lookup = lookup_of(run);
	PyObject *found = sb__resolve_special(&lookup, run->target, name);

	run->code = found ? SB_EPYTHON : lookup.code;
	return found;
}

static PyObject *do_enter(struct sb__run *run)
{
	PyObject *enter, *leave = special(run, "__exit__"), *result;

	if (!leave) /* as "with" does: what cannot be left is not entered */
		return NULL;
	Py_DECREF(leave);
	enter = special(run, "__enter__");
	result = enter ? PyObject_CallNoArgs(enter) : NULL;
	Py_XDECREF(enter);
	return result;
}

static PyObject *do_exit(struct sb__run *run)
{
	PyObject *exception = Py_NewRef(Py_None), *type = Py_None, *leave, *result = NULL;
	const char *name;
	Py_ssize_t len;
	int suppressed = 0;

	if (run->arguments.count == 2) {
		name = PyUnicode_Check(run->arguments.items[0])
		               ? PyUnicode_AsUTF8AndSize(run->arguments.items[0], &len)
		               : NULL;
		if (!name) {
			PyErr_Clear();
			sb__because(&run->why, SB_EINVAL,
			            "exit takes nothing, or an exception's type (a str) and message");
			Py_DECREF(exception);
			return NULL;
		}
		Py_SETREF(exception, sb__exception_make(sb__call_policy(&run->call), name, (size_t)len,
		                                        run->arguments.items[1]));
		if (!exception)
			return NULL;
		type = (PyObject *)Py_TYPE(exception);
	}
	leave = special(run, "__exit__");
	if (leave)
		result = PyObject_CallFunctionObjArgs(leave, type, exception, Py_None, NULL);
	if (result && type != Py_None)
		suppressed = PyObject_IsTrue(result);
	Py_XDECREF(leave);
	Py_DECREF(exception);
	if (!result || suppressed < 0) {
		Py_XDECREF(result);
		return NULL;
	}
	Py_DECREF(result);
	return PyBool_FromLong(suppressed);
}

static PyObject *do_pin(struct sb__run *run)
{
	bool pin = run->head->verb == SB_VERB_PIN;
	uint32_t pins = 0;
	int err = sb__table_pin(&run->call, run->ref, pin ? 1 : -1, &pins);

	if (err) {
		sb__because_ref(&run->why, err, run->ref);
		return NULL;
	}
	return PyLong_FromUnsignedLong(pins);
}

static PyObject *do_check(struct sb__run *run)
{
	(void)run; /* that the target was found is all */
	return Py_NewRef(Py_None);
}

static PyObject *do_release(struct sb__run *run)
{
	bool dropped = false;
	int err = sb__table_release(&run->call, run->ref, &dropped);

	if (err) {
		sb__because_ref(&run->why, err, run->ref);
		return NULL;
	}
	return Py_NewRef(dropped ? Py_True : Py_False);
}

#define ANY_COUNT SIZE_MAX /* of positional arguments, and keywords too */

/* What a verb takes. Everything it does not take must not be there. */
static const struct sb__verb verbs[] = {
	[SB_VERB_CALL] = { "call", do_call, false, true, 0, ANY_COUNT },
	[SB_VERB_METHOD] = { "method", do_method, true, true, 0, ANY_COUNT },
	[SB_VERB_ATTR] = { "attr", do_attr, true, true, 0, 0 },
	[SB_VERB_SET_ATTR] = { "set_attr", do_set_attr, true, true, 1, 1 },
	[SB_VERB_GET] = { "get", do_get, false, true, 0, 0 },
	[SB_VERB_RELEASE] = { "release", do_release, true, false, 0, 0 },
	[SB_VERB_GETITEM] = { "getitem", do_getitem, true, false, 1, 1 },
	[SB_VERB_SETITEM] = { "setitem", do_setitem, true, false, 2, 2 },
	[SB_VERB_DELITEM] = { "delitem", do_delitem, true, false, 1, 1 },
	[SB_VERB_LEN] = { "len", do_len, true, false, 0, 0 },
	[SB_VERB_CONTAINS] = { "contains", do_contains, true, false, 1, 1 },
	[SB_VERB_REPR] = { "repr", do_repr, true, false, 0, 0 },
	[SB_VERB_STR] = { "str", do_str, true, false, 0, 0 },
	[SB_VERB_HASH] = { "hash", do_hash, true, false, 0, 0 },
	[SB_VERB_ITER] = { "iter", do_iter, true, false, 0, 0 },
	[SB_VERB_NEXT] = { "next", do_next, true, false, 1, 2 },
	[SB_VERB_ENTER] = { "enter", do_enter, true, false, 0, 0 },
	[SB_VERB_EXIT] = { "exit", do_exit, true, false, 0, 2 },
	[SB_VERB_PIN] = { "pin", do_pin, true, false, 0, 0 },
	[SB_VERB_UNPIN] = { "unpin", do_pin, true, false, 0, 0 },
	[SB_VERB_CHECK] = { "check", do_check, true, false, 0, 0 },
	[SB_VERB_CLOSE] = { "close", do_close, true, false, 0, 0 },
};

const struct sb__verb *sb__verb_find(uint32_t number)
{
	return number < sizeof(verbs) / sizeof(verbs[0]) && verbs[number].run ? &verbs[number] : NULL;
}

int sb__verb_check(struct sb__run *run, const struct sb__verb *verb)
{
	const struct sb__request_head *head = run->head;
	const struct sb__arguments *arguments = &run->arguments;

	if (head->has_target != verb->has_target)
		return sb__because(&run->why, SB_EINVAL, "%s takes %s target; %s", verb->name,
		                   verb->has_target ? "a" : "no",
		                   verb->has_target ? "pass a ref" : "leave it out");
	if ((head->name != NULL) != verb->has_name)
		return sb__because(&run->why, SB_EINVAL, "%s takes %s name; %s", verb->name,
		                   verb->has_name ? "a" : "no", verb->has_name ? "pass one" : "leave it out");
	if (verb->most == ANY_COUNT)
		return 0;
	if (arguments->keywords)
		return sb__because(&run->why, SB_EINVAL, "%s takes no keyword arguments; leave them out",
		                   verb->name);
	if (arguments->count < verb->least || arguments->count > verb->most ||
	    (head->verb == SB_VERB_EXIT && arguments->count == 1))
		return sb__because(&run->why, SB_EINVAL, "%s takes %zu positional arguments%s; it got %zu",
		                   verb->name, verb->most, head->verb == SB_VERB_EXIT ? " or none" : "",
		                   arguments->count);
	return 0;
}
