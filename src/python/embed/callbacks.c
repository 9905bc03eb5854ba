/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C functions of callers, as objects that Python calls: arguments become a question, the answer a value or an exception.
 * How a question gets to the caller is the asker's matter (engine.h); why it goes by which call, and what a function lives by:
 * docs/design/callbacks.md.
 *
 * Python code runs while arguments are encoded and while a result is decoded, and may call the same function again, on this
 * thread or another: a question is encoded before the call's turn is taken, and who has the turn is known.
 *
 * Locks: a talk's lock, held for moments and never while waiting for the GIL; below the GIL.
 * Crash story: nothing is shared.
 */
#include "callbacks.h"

#include <pthread.h>
#include <stdlib.h>

#include "arrays.h"
#include "callback.h"
#include "os_linux.h"

struct sb__talk {
	struct sb__talk *outer; /* that the thread was in before */
	struct sb__table *table;
	struct sb__call_origin origin;
	struct sb__asker asker;
	struct sb__running *running;
	uint64_t epoch;       /* sb__fork_epoch() of the process that it runs in */
	unsigned refs;        /* its functions' objects, and the call itself; by the GIL */
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	bool open, busy;      /* busy: a question is out */
	unsigned users;       /* threads that call a function of it */
	unsigned long holder; /* the one whose question it is */
};

struct callback {
	PyObject_HEAD struct sb__talk *talk;
	uint32_t function;
};

static _Thread_local struct sb__talk *innermost;
static PyTypeObject *callback_type; /* by whoever holds the GIL, as the next */
static PyObject *error_type;

/* ── exceptions ── */

/* snakebridge.CallbackError, borrowed; NULL and an exception without memory. */
static PyObject *error_needed(void)
{
	if (!error_type)
		error_type = PyErr_NewExceptionWithDoc(
			"snakebridge.CallbackError",
			"A C function that was an argument failed, or cannot be called.", PyExc_RuntimeError,
			NULL);
	return error_type;
}

static void *fail(const char *why)
{
	PyObject *type = error_needed();

	if (type)
		PyErr_SetString(type, why);
	return NULL;
}

/* Why there is no answer. */
static void *no_answer(struct sb__talk *talk, enum sb__asker_result result)
{
	switch (result) {
	case SB__ASKER_CANCELLED: sb__running_interrupt(talk->running); return NULL;
	case SB__ASKER_LATE:
		return fail("the deadline of the call passed before its C function had returned");
	case SB__ASKER_ENDED: return fail("the session ended before the C function had returned");
	default: break;
	}
	return fail("the process that passed the C function is gone, or does not wait for its call any more");
}

/* The exception that came out of a call that the function made: how it got there. */
static void set_cause(PyObject *exception, const struct sb__talk *talk, const struct sb__answer *answer)
{
	PyObject *type = error_needed(), *cause = NULL, *text = NULL, *notes = NULL;

	if (type)
		text = PyUnicode_FromFormat("it was raised by a call that a C function of process %d made",
		                            (int)talk->origin.pid);
	if (text)
		cause = PyObject_CallOneArg(type, text);
	Py_XDECREF(text);
	if (cause)
		notes = Py_BuildValue("[s#]", answer->text, (Py_ssize_t)answer->text_len);
	if (notes && PyObject_SetAttrString(cause, "__notes__", notes) == 0)
		PyException_SetCause(exception, Py_NewRef(cause));
	Py_XDECREF(notes);
	Py_XDECREF(cause);
	PyErr_Clear(); /* it is worth having without */
}

static bool is_ours(const struct sb__answer *answer)
{
	static const char ours[] = "snakebridge.";

	return !answer->type ||
	       (answer->type_len >= sizeof(ours) - 1 && memcmp(answer->type, ours, sizeof(ours) - 1) == 0);
}

static void *raise_answer(const struct sb__talk *talk, const struct sb__call *call,
                          const struct sb__answer *answer)
{
	PyObject *exception = NULL, *type = error_needed();
	PyObject *message = PyUnicode_DecodeUTF8(answer->message ? answer->message : "",
	                                         (Py_ssize_t)answer->message_len, "replace");

	if (message && type)
		exception = is_ours(answer) ? PyObject_CallOneArg(type, message)
		                            : sb__exception_make(sb__call_policy(call), answer->type,
		                                                 answer->type_len, message);
	Py_XDECREF(message);
	if (!exception)
		return NULL;
	if (answer->text)
		set_cause(exception, talk, answer);
	PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_DECREF(exception);
	return NULL;
}

/* ── a call that can be asked ── */

static void talk_unref(struct sb__talk *talk)
{
	if (--talk->refs > 0)
		return;
	if (talk->epoch == sb__fork_epoch()) { /* else another thread may have had them when it was forked */
		pthread_mutex_destroy(&talk->lock);
		pthread_cond_destroy(&talk->changed);
	}
	free(talk);
}

struct sb__talk *sb__talk_begin(struct sb__table *table, const struct sb__call_origin *origin,
                                struct sb__running *running)
{
	struct sb__talk *talk = calloc(1, sizeof(*talk));

	if (!talk)
		return NULL;
	talk->table = table;
	talk->origin = *origin;
	talk->asker = *origin->asker;
	talk->running = running;
	talk->epoch = sb__fork_epoch();
	talk->refs = 1;
	pthread_mutex_init(&talk->lock, NULL);
	pthread_cond_init(&talk->changed, NULL);
	talk->open = true;
	talk->outer = innermost;
	innermost = talk;
	return talk;
}

static void wait_for_users(struct sb__talk *talk)
{
	Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&talk->lock);
	while (talk->users > 0)
		pthread_cond_wait(&talk->changed, &talk->lock);
	pthread_mutex_unlock(&talk->lock);
	Py_END_ALLOW_THREADS
}

void sb__talk_end(struct sb__talk *talk)
{
	unsigned users;

	innermost = talk->outer;
	if (talk->epoch == sb__fork_epoch()) {
		pthread_mutex_lock(&talk->lock);
		talk->open = false;
		users = talk->users;
		pthread_cond_broadcast(&talk->changed);
		pthread_mutex_unlock(&talk->lock);
		if (users)
			wait_for_users(talk);
	}
	talk_unref(talk);
}

/* False: the call is over. */
static bool enter(struct sb__talk *talk)
{
	bool open;

	if (talk->epoch != sb__fork_epoch())
		return false;
	pthread_mutex_lock(&talk->lock);
	open = talk->open;
	talk->users += open;
	pthread_mutex_unlock(&talk->lock);
	return open;
}

static void leave(struct sb__talk *talk)
{
	pthread_mutex_lock(&talk->lock);
	talk->users--;
	pthread_cond_broadcast(&talk->changed);
	pthread_mutex_unlock(&talk->lock);
}

/* Waits for its turn, without the GIL. NULL, or why it does not get one. */
static const char *take_turn(struct sb__talk *talk)
{
	unsigned long me = PyThread_get_thread_ident();
	const char *why = NULL;

	pthread_mutex_lock(&talk->lock);
	while (talk->open && talk->busy && talk->holder != me)
		pthread_cond_wait(&talk->changed, &talk->lock);
	if (!talk->open) {
		why = "the call that the C function was passed to is over";
	} else if (talk->busy) {
		why = "a C function was called while the result of another one is being read";
	} else {
		talk->busy = true;
		talk->holder = me;
	}
	pthread_mutex_unlock(&talk->lock);
	return why;
}

static void give_turn(struct sb__talk *talk)
{
	talk->asker.done(talk->asker.arg);
	if (talk->epoch != sb__fork_epoch())
		return; /* the function forked, and this is the child: the lock may be another thread's */
	pthread_mutex_lock(&talk->lock);
	talk->busy = false;
	pthread_cond_broadcast(&talk->changed);
	pthread_mutex_unlock(&talk->lock);
}

/* ── calling ── */

static bool stopped(void *arg)
{
	return sb__running_cancelled(arg);
}

/* The call by which to ask: the function runs in the thread that made its call, which may wait for another one by now. */
static struct sb__talk *way_of(const struct callback *self)
{
	const struct sb__call_origin *theirs = &self->talk->origin;
	struct sb__talk *now = innermost;

	if (now && now->table == self->talk->table && now->asker.thread == self->talk->asker.thread &&
	    now->origin.slot == theirs->slot && now->origin.generation == theirs->generation)
		return now;
	return self->talk;
}

/* What encoding says of results is true of arguments, but for how it begins. */
static const char *of_arguments(const char *message)
{
	static const char result[] = "the call ran, but ";

	return strncmp(message, result, sizeof(result) - 1) == 0 ? message + sizeof(result) - 1 : message;
}

static bool put_question(const struct callback *self, struct sb__call *call, PyObject *args, PyObject *kwargs,
                         struct sb__buf *question)
{
	struct sb__why why = { 0 };
	bool keywords = kwargs && PyDict_GET_SIZE(kwargs) > 0;
	int err;

	sb__put_question(question, self->talk->asker.call, self->function);
	err = sb__encode(call, args, 0, question, &why);
	if (!err && keywords)
		err = sb__encode(call, kwargs, 0, question, &why);
	else if (!err)
		sb__put_null(question);
	if (!err && question->error)
		err = sb__because(&why, question->error, "memory is short");
	if (PyErr_Occurred())
		PyErr_Clear();
	if (err && error_needed())
		PyErr_Format(error_type, "the arguments of a C function cannot be sent: %s",
		             of_arguments(why.message));
	return !err;
}

static void *read_answer(struct sb__talk *talk, struct sb__call *call, const struct sb__buf *bytes)
{
	struct sb__cursor cursor = { .data = bytes->data, .len = bytes->len };
	struct sb__answer answer;
	struct sb__why why = { 0 };
	PyObject *value;
	int err = bytes->error ? bytes->error : sb__next_answer(&cursor, &answer);

	if (err)
		return fail("the answer of a C function cannot be read");
	if (answer.failed)
		return raise_answer(talk, call, &answer);
	value = sb__value_make(call, &cursor, &why);
	/* A caller that gave up may have used their memory for something else before they were kept here. */
	if (value && call->shares && call->origin.stands && !call->origin.stands(call->origin.stands_arg)) {
		Py_DECREF(value);
		return no_answer(talk, SB__ASKER_GONE);
	}
	if (!value && error_needed())
		PyErr_Format(error_type, "the result of a C function cannot be used: %s", why.message);
	return value;
}

/* Puts the question, reads the answer. */
static PyObject *ask(struct sb__talk *talk, struct sb__call *call, const struct sb__buf *question)
{
	enum sb__asker_result result = SB__ASKER_GONE;
	PyObject *value;
	struct sb__buf answer;
	uint8_t memory[512];
	const char *why;

	sb__buf_init(&answer, memory, sizeof(memory));
	Py_BEGIN_ALLOW_THREADS why = take_turn(talk);
	if (!why)
		result = talk->asker.ask(talk->asker.arg, question, stopped, talk->running, &answer);
	Py_END_ALLOW_THREADS if (why) return fail(why);
	if (result == SB__ASKER_ANSWERED)
		value = read_answer(talk, call, &answer);
	else
		value = no_answer(talk, result);
	give_turn(talk);
	sb__buf_free(&answer);
	return value;
}

static PyObject *call_by(struct sb__talk *talk, const struct callback *self, PyObject *args, PyObject *kwargs)
{
	struct sb__kept_list kept = { .items = NULL };
	PyObject *value = NULL, *exception = NULL;
	struct sb__buf question;
	struct sb__call call;
	uint8_t memory[512];
	bool sent;

	sb__call_begin(&call, talk->table, &talk->origin);
	call.origin.kept = &kept;
	call.origin.asker = NULL;
	sb__call_runs(&call);
	call.items = NULL;
	call.lends = true;
	sb__buf_init(&question, memory, sizeof(memory));
	sent = put_question(self, &call, args, kwargs, &question);
	if (sent)
		value = ask(talk, &call, &question);
	sb__buf_free(&question);
	sb__kept_drop(&kept);
	if (!value)
		exception = sb__exception_take();
	(void)sb__call_end(&call, sent); /* may run any code */
	if (exception)
		sb__exception_restore(exception);
	return value;
}

static PyObject *call_function(PyObject *object, PyObject *args, PyObject *kwargs)
{
	struct callback *self = (struct callback *)object;
	struct sb__talk *own = self->talk, *talk;
	PyObject *value;

	if (!enter(own))
		return fail("the call that the C function was passed to is over");
	talk = way_of(self); /* innermost: of this thread, so it stays */
	value = call_by(talk, self, args, kwargs);
	if (own->epoch == sb__fork_epoch()) /* a function of this process's own may have forked */
		leave(own);
	return value;
}

/* ── the type ── */

static PyObject *repr(PyObject *object)
{
	const struct callback *self = (const struct callback *)object;

	return PyUnicode_FromFormat("<C function %u of process %d>", self->function,
	                            (int)self->talk->origin.pid);
}

static PyObject *get_name(PyObject *object, void *closure)
{
	(void)object;
	(void)closure;
	return PyUnicode_FromString("callback");
}

static void dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	talk_unref(((struct callback *)object)->talk);
	PyObject_Free(object);
	Py_DECREF(type);
}

static PyTypeObject *type_needed(void)
{
	static PyGetSetDef getset[] = { { "__name__", get_name, NULL, NULL, NULL },
		                        { NULL, NULL, NULL, NULL, NULL } };
	static PyType_Slot slots[] = { { Py_tp_call, call_function },
		                       { Py_tp_repr, repr },
		                       { Py_tp_dealloc, dealloc },
		                       { Py_tp_getset, getset },
		                       { 0, NULL } };
	static PyType_Spec spec = { "snakebridge.Callback", sizeof(struct callback), 0,
		                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots };

	if (!callback_type)
		callback_type = (PyTypeObject *)PyType_FromSpec(&spec);
	return callback_type;
}

PyObject *sb__callback_make(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why)
{
	PyTypeObject *type = type_needed();
	struct callback *self;
	uint32_t function;
	int err = sb__next_callback(cursor, &function);

	if (err) {
		sb__because_protocol(why, err);
		return NULL;
	}
	if (!call->origin.asker || !innermost) {
		sb__because(why, SB_EINVAL,
		            "a C function is among the arguments of a call that nobody waits for");
		return NULL;
	}
	self = type ? (struct callback *)PyObject_Malloc(sizeof(*self)) : NULL;
	if (!self) {
		PyErr_Clear();
		sb__because(why, SB_ENOMEM, "Python has no memory for a C function");
		return NULL;
	}
	(void)PyObject_Init((PyObject *)self, type);
	self->talk = innermost;
	self->talk->refs++;
	self->function = function;
	return (PyObject *)self;
}
