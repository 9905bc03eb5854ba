/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter of the simulation. What it does with refs is what engine.h asks, no more: Python's own has its own tests. */
#include "sim_engine.h"

#include <string.h>

#include "clock.h"
#include "engine.h"
#include "fail.h"
#include "ids.h"
#include "message.h"
#include "sim.h"
#include "snakebridge/error.h"

enum { OBJECTS = 64, RUNNING = 16 };

struct object {
	bool live, used_by_others;
	int gone; /* why it is not live: SB_EREF… */
	uint32_t generation;
	uint8_t nonce[16];
	uint64_t value, used_ms, made;
};

struct running {
	bool on, cancelled;
	uint64_t trace_id, key;
};

struct sb__table {
	struct sb__table_options options;
	struct object objects[OBJECTS];
	struct running running[RUNNING];
	struct sb__table_counts counts;
	uint64_t replies; /* numbers for withdraw() */
	bool destroyed;
};

void (*sim_engine_began)(uint64_t number, uint64_t incarnation);

/* ── objects ── */

static void drop(struct sb__table *t, struct object *o, int why)
{
	o->live = false;
	o->gone = why;
	t->counts.live--;
	if (t->options.rows.clear)
		t->options.rows.clear(t->options.rows.arg, (uint32_t)(o - t->objects));
}

static struct object *oldest(struct sb__table *t)
{
	struct object *found = NULL;

	for (unsigned i = 0; i < OBJECTS; i++) {
		struct object *o = &t->objects[i];

		if (o->live && (!found || o->used_ms < found->used_ms))
			found = o;
	}
	return found;
}

/* NULL: the session is full, and says so. */
static struct object *make(struct sb__table *t, const struct sb__call_origin *origin, uint64_t value)
{
	struct object *o = t->objects;

	if (t->counts.live >= t->options.max_refs || t->counts.live == OBJECTS) {
		if (t->options.error_on_full)
			return NULL;
		drop(t, oldest(t), SB_EREFEVICTED);
		t->counts.evicted++;
	}
	/* One that was never used before, if there is: so that stale refs stay stale for a reason. */
	for (struct object *p = t->objects; p < t->objects + OBJECTS; p++)
		if (!p->live && (o->live || p->generation < o->generation))
			o = p;
	*o = (struct object){
		.live = true, .generation = o->generation + 1, .value = value, .used_ms = sb__now_ms()
	};
	(void)sb__random(o->nonce, sizeof(o->nonce));
	t->counts.live++;
	t->counts.created++;
	if (t->options.rows.set)
		t->options.rows.set(t->options.rows.arg, (uint32_t)(o - t->objects), o->generation,
		                    "sim.Number", 3, origin->pid);
	return o;
}

/* Finds the target, or says why it is stale. */
static int find(struct sb__table *t, const sb_ref *ref, struct object **ret)
{
	struct object *o = ref->slot < OBJECTS ? &t->objects[ref->slot] : NULL;

	if (!o || ref->generation > o->generation || ref->generation == 0)
		return SB_EREFUNKNOWN;
	if (ref->generation != o->generation)
		return SB_EREFRELEASED; /* which of the reasons is forgotten: the slot is another's */
	if (memcmp(ref->nonce, o->nonce, sizeof(o->nonce)) != 0)
		return SB_EREFUNKNOWN;
	if (!o->live)
		return o->gone;
	o->used_ms = sb__now_ms();
	o->used_by_others = true;
	*ret = o;
	return 0;
}

/* ── replies ── */

static void reply_number(struct sb__buf *reply, uint64_t number)
{
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_int(reply, (int64_t)number);
}

static void reply_raised(struct sb__buf *reply, const char *type)
{
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_EXCEPTION);
	sb__put_map(reply, 5);
	sb__put_uint(reply, SB__EXC_TYPE);
	sb__put_str(reply, type, strlen(type));
	sb__put_uint(reply, SB__EXC_MESSAGE);
	sb__put_str(reply, "simulated", 9);
	sb__put_uint(reply, SB__EXC_FRAMES);
	sb__put_array(reply, 0);
	sb__put_uint(reply, SB__EXC_CAUSE);
	sb__put_null(reply);
	sb__put_uint(reply, SB__EXC_CODE);
	sb__put_int(reply, SB_EPYTHON);
}

static uint64_t reply_ref(struct sb__table *t, struct object *o, struct sb__buf *reply)
{
	sb_ref ref = { .incarnation = t->options.incarnation,
		       .slot = (uint32_t)(o - t->objects),
		       .generation = o->generation };

	memcpy(ref.nonce, o->nonce, sizeof(ref.nonce));
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_ref(reply, &ref, "sim.Number");
	o->made = ++t->replies;
	return o->made;
}

/* ── running ── */

static struct running *begin(struct sb__table *t, const struct sb__call_origin *origin)
{
	for (unsigned i = 0; i < RUNNING; i++)
		if (!t->running[i].on) {
			t->running[i] = (struct running){ true, false, origin->trace_id, origin->key };
			return &t->running[i];
		}
	return NULL;
}

static void hang(struct sb__table *t, const struct sb__call_origin *origin, uint64_t number, int64_t ms,
                 struct sb__buf *reply)
{
	struct running *r = begin(t, origin);
	uint64_t until = sb__now_ms() + (uint64_t)ms;

	while (r && !r->cancelled && sb__now_ms() < until)
		sim_sleep(UINT64_C(5000000));
	if (r && r->cancelled)
		reply_raised(reply, "snakebridge.Cancelled");
	else
		reply_number(reply, number);
	if (r)
		r->on = false;
}

static bool is(const struct sb__request_head *head, const char *name)
{
	return head->name_len == strlen(name) && memcmp(head->name, name, head->name_len) == 0;
}

static uint64_t call(struct sb__table *t, const struct sb__call_origin *origin,
                     const struct sb__request_head *head, uint64_t number, int64_t k, struct sb__buf *reply)
{
	struct object *o;

	if (is(head, "make")) {
		o = make(t, origin, number);
		if (o)
			return reply_ref(t, o, reply);
		sb__reply_fail(reply, SB_EREFSFULL, "as many refs as it may hold");
	} else if (is(head, "raise")) {
		reply_raised(reply, "ValueError");
	} else if (is(head, "work")) {
		sim_sleep((uint64_t)k * 1000000);
		reply_number(reply, number);
	} else if (is(head, "hang")) {
		hang(t, origin, number, k, reply);
	} else {
		reply_number(reply, number);
	}
	return 0;
}

static uint64_t run(struct sb__table *t, const struct sb__call_origin *origin,
                    const struct sb__request_head *head, const int64_t numbers[2], struct sb__buf *reply)
{
	struct object *o = NULL;
	int err = head->has_target ? find(t, &head->target, &o) : 0;

	if (err) {
		sb__reply_refuse(reply, err, "stale");
		return 0;
	}
	sim_engine_began((uint64_t)numbers[0], t->options.incarnation);
	if (!o)
		return call(t, origin, head, (uint64_t)numbers[0], numbers[1], reply);
	reply_number(reply, o->value);
	return 0;
}

/* Releasing says whether it dropped something; a stale ref is fine. */
static void release(struct sb__table *t, const struct sb__request_head *head, struct sb__buf *reply)
{
	struct object *o = NULL;
	bool dropped = find(t, &head->target, &o) == 0;

	if (dropped)
		drop(t, o, SB_EREFRELEASED);
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_bool(reply, dropped);
}

static uint64_t engine_execute(struct sb__table *t, const struct sb__call_origin *origin,
                               const uint8_t *request, size_t len, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = request, .len = len };
	struct sb__request_head head;
	struct sb__item item;
	int64_t numbers[2] = { 0, 0 };

	sim_point(SIM_AT_CALL);
	if (t->destroyed)
		sim_engine_began(UINT64_MAX,
		                 t->options.incarnation); /* the history says that this must not be */
	if (sb__request_decode(&cursor, &head) != 0 || sb__next(&cursor, &item) != 0 ||
	    item.type != SB__ITEM_ARRAY) {
		sb__reply_refuse(reply, SB_EPROTOCOL, "no request");
		return 0;
	}
	for (uint64_t i = 0, n = item.u.count; i < n && i < 2; i++)
		if (sb__next(&cursor, &item) == 0 && item.type == SB__ITEM_INT)
			numbers[i] = item.u.integer;
	if (head.verb == SB_VERB_RELEASE && head.has_target) {
		release(t, &head, reply);
		return 0;
	}
	return run(t, origin, &head, numbers, reply);
}

/* As if it had been written. */
static uint64_t engine_execute_own(struct sb__table *table, const struct sb__call_origin *origin,
                                   struct sb__own_request *own, struct sb__buf *reply)
{
	uint8_t memory[1024];
	struct sb__buf buf;
	uint64_t number;

	sb__buf_init(&buf, memory, sizeof(memory));
	sb__put_array(&buf, 6);
	sb__put_uint(&buf, own->verb);
	sb__put_uint(&buf, own->flags);
	if (own->target)
		sb__put_ref(&buf, own->target, NULL);
	else
		sb__put_null(&buf);
	if (own->name)
		sb__put_str(&buf, own->name, strlen(own->name));
	else
		sb__put_null(&buf);
	sb__buf_append(&buf, own->arguments, own->arguments_len);
	number = engine_execute(table, origin, buf.data, buf.len, reply);
	sb__buf_free(&buf);
	own->ended_ms = 0;
	return number;
}

static void engine_settle(struct sb__table *t, uint64_t number, bool delivered)
{
	for (unsigned i = 0; !delivered && i < OBJECTS; i++)
		if (t->objects[i].live && t->objects[i].made == number && !t->objects[i].used_by_others)
			drop(t, &t->objects[i], SB_EREFRELEASED);
}

static uint32_t engine_expire(struct sb__table *t, uint64_t now_ms)
{
	uint32_t n = 0;

	for (unsigned i = 0; t->options.ttl_ms && i < OBJECTS; i++)
		if (t->objects[i].live && now_ms >= t->objects[i].used_ms + t->options.ttl_ms) {
			drop(t, &t->objects[i], SB_EREFEXPIRED);
			n++;
		}
	t->counts.expired += n;
	return n;
}

static void engine_counts(const struct sb__table *t, struct sb__table_counts *ret)
{
	*ret = t->counts;
}

static unsigned engine_cancel(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	struct sb__table *t = (struct sb__table *)(uintptr_t)table;
	unsigned n = 0;

	for (unsigned i = 0; i < RUNNING; i++) {
		struct running *r = &t->running[i];

		if (r->on && (key ? r->key == key : !trace_id || r->trace_id == trace_id)) {
			r->cancelled = true;
			n++;
		}
	}
	return n;
}

/* ── the interface ── */

static int engine_start(const struct sb__engine_options *options, char *error, size_t size)
{
	(void)options;
	(void)error;
	(void)size;
	sim_point(SIM_AT_CALL);
	return 0;
}

static int engine_table_create(const struct sb__table_options *options, struct sb__table **ret)
{
	*ret = sim_calloc(1, sizeof(**ret));
	(*ret)->options = *options;
	return 0;
}

static void engine_table_destroy(struct sb__table *t)
{
	t->destroyed = true; /* its memory goes with the history */
}

static void nothing(void) {}

static void *engine_gil_release(void)
{
	return NULL;
}

static void engine_gil_restore(void *state)
{
	(void)state;
}

static void engine_within(struct sb__table *table, void (*fn)(void *arg), void *arg)
{
	(void)table;
	fn(arg);
}

static const struct sb__engine engine = {
	.abi = SB__ENGINE_ABI,
	.start = engine_start,
	.table_create = engine_table_create,
	.table_destroy = engine_table_destroy,
	.execute = engine_execute,
	.execute_own = engine_execute_own,
	.settle = engine_settle,
	.expire = engine_expire,
	.counts = engine_counts,
	.batch_begin = nothing,
	.batch_end = nothing,
	.within = engine_within,
	.cancel = engine_cancel,
	.gil_release = engine_gil_release,
	.gil_restore = engine_gil_restore,
	.before_fork = nothing,
	.after_fork_parent = nothing,
	.after_fork_child = nothing,
};

int sb__engine_load(const struct sb__engine **ret_engine)
{
	*ret_engine = &engine;
	return 0;
}

const struct sb__engine *sb__engine_loaded(void)
{
	return &engine;
}

const char *sb__python_executable(void)
{
	return "simulated";
}
