/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What calls do with a stream: wait for items, take them, hear whether the reply reached its caller, close it.
 *
 * A call never runs the iterator itself, unless that takes no time: a puller does. So its deadline, or being cancelled, ends
 * a wait and touches nothing; and what one call waited for another one gets. The iterator runs only while somebody waits.
 *
 * What a reply holds stays in the stream until it is known to have reached its caller. Until then nobody else takes, which is
 * short: nothing waits for Python code or for a caller between the two. So nothing is lost, comes twice or overtakes, as long as
 * the reader lives. What was delivered to one that is killed then is gone with it.
 *
 * Locks: none of its own; needs the GIL.
 * Crash story: nothing is shared.
 */
#include "stream.h"

#include "cancel.h"
#include "clock.h"
#include "gil.h"
#include "snakebridge/error.h"

#define MS       UINT64_C(1000000)
#define SLICE_NS (100 * MS) /* between looks whether the caller still waits */

static struct sb__stream *in_flight;

struct reader {
	struct sb__call *call;
	struct sb__stream *s;
	const struct sb__stream_wish *wish;
	struct sb__why *why;
	struct sb__stream_waiter waiter;
	uint64_t began_ns;
};

static bool is_taken(const struct sb__stream *s)
{
	return s->taken_table != NULL;
}

/* May this call take now? A batch's calls are one. */
static bool turn(const struct reader *r)
{
	const struct sb__stream *s = r->s;

	return !is_taken(s) ||
	       (r->call && s->taken_table == r->call->table && s->taken_number == r->call->number);
}

/* Until when to wait; 0: no longer. */
static uint64_t wait_until(const struct reader *r)
{
	const struct sb__stream *s = r->s;
	uint64_t now = sb__now_ns(), until = now + SLICE_NS, end;

	if (r->wish->until_ns && now >= r->wish->until_ns)
		return 0;
	if (r->wish->until_ns && r->wish->until_ns < until)
		until = r->wish->until_ns;
	if (r->wish->wait_ms == UINT32_MAX || !turn(r))
		return until;
	end = r->began_ns + r->wish->wait_ms * MS;
	if (now >= end)
		return sb__stream_available(s) > 0 ? 0 : until;
	return end < until ? end : until;
}

/* How many items are to wake it. */
static size_t needs(const struct reader *r)
{
	bool hurry = r->wish->wait_ms != UINT32_MAX && sb__now_ns() >= r->began_ns + r->wish->wait_ms * MS;

	if (!turn(r) || r->wish->most == 0)
		return SIZE_MAX;
	return hurry ? 1 : r->wish->most;
}

static int unwanted(const struct reader *r)
{
	if (r->s->closed)
		return sb__because(
			r->why, SB_EREFRELEASED,
			"the stream was closed, or released, while this call waited for its items");
	if (r->call && r->call->origin.stands && !r->call->origin.stands(r->call->origin.stands_arg))
		return sb__because(r->why, SB_ECANCELLED, "the caller gave up while it waited for items");
	if (sb__cancel_requested())
		return sb__because(r->why, SB_ECANCELLED,
		                   "cancelled while it waited for items; none were taken from the stream");
	return 0;
}

static void sleep_until(struct reader *r, uint64_t ns)
{
	PyThreadState *state;

	r->waiter.need = needs(r);
	r->waiter.posted = false;
	sb__stream_count_waiters(r->s);
	state = PyEval_SaveThread();
	(void)sb__event_wait(&r->waiter.wake, ns);
	PyEval_RestoreThread(state);
	r->waiter.posted = true; /* awake: no need to be told */
}

/* On this thread. */
static void pull_here(struct sb__stream *s)
{
	s->pulling = true;
	s->thread = PyThread_get_thread_ident();
	sb__stream_pull(s);
	if (s->closed) { /* meanwhile */
		sb__stream_finish(s);
		PyErr_Clear();
		sb__stream_empty(s);
	}
	s->pulling = false;
	sb__stream_wake(s, true);
}

/* Sees to it that somebody reads for this call. */
static int set_going(struct reader *r)
{
	struct sb__stream *s = r->s;

	if (s->pulling && s->thread == PyThread_get_thread_ident())
		return sb__because(r->why, SB_EINVAL,
		                   "the stream's iterator cannot read from the stream itself");
	if (s->pulling || !sb__stream_wants(s))
		return 0;
	if (s->immediate || !r->call)
		pull_here(s);
	else if (!sb__puller_start(s))
		return sb__because(r->why, SB_ENOMEM, "no thread can be had to run the stream's iterator");
	return 0;
}

static bool has_enough(const struct reader *r)
{
	const struct sb__stream *s = r->s;

	return turn(r) && (sb__stream_available(s) >= r->wish->most || !s->iterator);
}

static int wait(struct reader *r)
{
	bool enough = has_enough(r);
	uint64_t until;
	int err;

	if (enough && !r->s->closed) /* the usual case of a reader that is slower than the iterator */
		return 0;
	for (;;) {
		err = unwanted(r);
		if (err || enough)
			return err;
		err = set_going(r);
		if (err)
			return err;
		enough = has_enough(r);
		if (enough)
			continue;
		until = wait_until(r);
		if (!until)
			return 0;
		sleep_until(r, until);
		enough = has_enough(r);
	}
}

static void enlist(struct reader *r)
{
	struct sb__stream_waiter **at = &r->s->waiters;

	atomic_init(&r->waiter.wake.state, 0);
	r->waiter.next = NULL;
	r->waiter.most = r->wish->most;
	r->waiter.need = SIZE_MAX;
	r->waiter.posted = true;
	while (*at)
		at = &(*at)->next;
	*at = &r->waiter;
	sb__stream_count_waiters(r->s);
}

static void delist(struct reader *r)
{
	struct sb__stream_waiter **at = &r->s->waiters;

	while (*at != &r->waiter)
		at = &(*at)->next;
	*at = r->waiter.next;
	sb__stream_count_waiters(r->s);
}

static void in_flight_add(struct sb__call *call, struct sb__stream *s)
{
	if (!is_taken(s)) {
		s->refs++;
		s->taken_table = call->table;
		s->taken_number = call->number;
		s->next_taken = in_flight;
		in_flight = s;
	}
	call->takes = true;
}

int sb__stream_await(struct sb__call *call, struct sb__stream *s, const struct sb__stream_wish *wish,
                     struct sb__why *why)
{
	struct reader r = { .call = call, .s = s, .wish = wish, .why = why, .began_ns = sb__now_ns() };
	int err;

	s->refs++;
	enlist(&r);
	err = wait(&r);
	delist(&r);
	if (!err && turn(&r) && sb__stream_available(s) == 0 && s->pending && !s->taken_pending) {
		if (call) {
			in_flight_add(call, s);
			s->taken_pending = true;
			sb__exception_restore(Py_NewRef(s->pending));
		} else {
			PyObject *pending = s->pending;

			s->pending = NULL;
			sb__exception_restore(pending);
		}
		err = SB_EPYTHON;
	}
	sb__stream_unref(s);
	return err;
}

bool sb__stream_take(struct sb__call *call, struct sb__stream *s, size_t count)
{
	bool end;

	if (s->closed)
		return false;
	end = turn(&(struct reader){ .call = call, .s = s }) && sb__stream_available(s) == count &&
	      !s->iterator && !s->pending;
	if (count == 0 && !end)
		return false;
	in_flight_add(call, s);
	s->taken += count;
	s->taken_end = end;
	return end;
}

/* The first count of its items have arrived. Objects are dropped last: that may run any code. */
static void deliver(struct sb__stream *s, size_t count)
{
	PyObject *gone[64];

	while (count > 0) {
		size_t n = 0;

		for (; n < 64 && count > 0; count--) {
			gone[n++] = s->items[s->head & (s->cap - 1)];
			s->head++;
			s->count--;
		}
		for (size_t i = 0; i < n; i++)
			Py_DECREF(gone[i]);
		if (s->closed) /* and emptied, meanwhile */
			return;
	}
}

/* Takes one of the call's off the list. */
static struct sb__stream *take_settled(const struct sb__table *table, uint64_t number)
{
	struct sb__stream **at = &in_flight, *s;

	while (*at && ((*at)->taken_table != table || (*at)->taken_number != number))
		at = &(*at)->next_taken;
	s = *at;
	if (s)
		*at = s->next_taken;
	return s;
}

static void settle_one(struct sb__stream *s, struct sb__table *table, bool delivered)
{
	size_t taken = s->taken;
	bool end = s->taken_end || s->taken_pending;
	PyObject *pending = NULL;

	if (delivered && s->taken_pending) {
		pending = s->pending;
		s->pending = NULL;
	}
	if (delivered && end && s->object)
		sb__table_exhausted(table, s->object);
	s->taken = 0;
	if (delivered && !s->closed)
		deliver(s, taken);
	s->taken_pending = s->taken_end = false;
	s->taken_table = NULL;
	sb__stream_wake(s, true);
	Py_XDECREF(pending);
	sb__stream_unref(s);
}

void sb__settle(struct sb__table *table, uint64_t number, bool delivered)
{
	struct sb__stream *s;
	struct sb__gil gil;

	if (!sb__table_is_ours(table) || sb__python_unusable())
		return;
	gil = sb__gil_enter();
	while ((s = take_settled(table, number & ~SB__ENGINE_TELL)) != NULL)
		settle_one(s, table, delivered);
	sb__gil_leave(gil);
	if (!delivered)
		sb__table_withdraw(table, number & ~SB__ENGINE_TELL);
}

int sb__stream_close(struct sb__stream *s, uint64_t until_ns)
{
	struct sb__stream_wish wish = { .most = 0, .wait_ms = UINT32_MAX, .until_ns = until_ns };
	struct sb__why why = { 0 };
	struct reader r = { .s = s, .wish = &wish, .why = &why, .began_ns = sb__now_ns() };
	uint64_t until;

	if (s->pulling && s->thread == PyThread_get_thread_ident()) {
		s->closed = true; /* by the iterator itself: it is closed when it comes back */
		return 0;
	}
	s->refs++;
	s->closed = true;
	sb__stream_wake(s, true);
	if (s->pulling) {
		sb__puller_interrupt(s);
		enlist(&r);
		while (s->pulling && !sb__cancel_requested() && (until = wait_until(&r)) != 0)
			sleep_until(&r, until);
		delist(&r);
	} else {
		s->pulling = true; /* keeps others out while Python code runs */
		s->thread = PyThread_get_thread_ident();
		sb__stream_finish(s);
		s->pulling = false;
		sb__stream_wake(s, true);
	}
	if (!s->pulling && !PyErr_Occurred() && s->pending) {
		sb__exception_restore(s->pending);
		s->pending = NULL;
	}
	if (!s->pulling) {
		PyObject *exception = PyErr_Occurred() ? sb__exception_take() : NULL;

		sb__stream_empty(s);
		if (exception)
			sb__exception_restore(exception);
	}
	sb__stream_unref(s);
	return PyErr_Occurred() ? -1 : 0;
}
