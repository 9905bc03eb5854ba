/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter of the simulation. What it does with refs is what engine.h asks, no more: Python's own has its own tests. */
#include "sim_engine.h"

#include <string.h>

#include "callback.h"
#include "clock.h"
#include "engine.h"
#include "fail.h"
#include "ids.h"
#include "message.h"
#include "own_request.h"
#include "sim.h"
#include "snakebridge/async.h"
#include "snakebridge/error.h"

enum { OBJECTS = 64, RUNNING = 16, ITEMS = 8 };

struct object {
	bool live, used_by_others;
	int gone; /* why it is not live: SB_EREF… */
	uint32_t generation;
	uint8_t nonce[16];
	uint64_t value, used_ms, made;
	sb_array *array; /* its value, if it is not a number */
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
void (*sim_engine_saw)(uint64_t number, uint64_t seen);

/* One request. */
struct request {
	struct sb__request_head head;
	int64_t numbers[2];
	sb_array *array;   /* among its arguments, or NULL */
	bool has_function; /* among its arguments, too */
	uint32_t function;
	uint64_t reply;          /* number of its reply, or of its batch's */
	bool made;               /* the reply has refs that were made for it */
	bool gave;               /* a value */
	uint64_t earlier[ITEMS]; /* what the batch's items before this gave; UINT64_MAX: nothing */
	unsigned items;
};

/* ── objects ── */

static void drop(struct sb__table *t, struct object *o, int why)
{
	sb_array *array = o->array;

	o->live = false;
	o->gone = why;
	o->array = NULL;
	t->counts.live--;
	if (t->options.rows.clear)
		t->options.rows.clear(t->options.rows.arg, (uint32_t)(o - t->objects));
	sb_array_unref(array);
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
static struct object *make(struct sb__table *t, const struct sb__call_origin *origin, uint64_t value,
                           sb_array *array)
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
		.live = true,
		.generation = o->generation + 1,
		.value = value,
		.used_ms = sb__now_ms(),
		.array = sb_array_ref(array),
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

static void reply_ref(struct sb__table *t, struct object *o, struct request *r, struct sb__buf *reply)
{
	sb_ref ref = { .incarnation = t->options.incarnation,
		       .slot = (uint32_t)(o - t->objects),
		       .generation = o->generation };

	memcpy(ref.nonce, o->nonce, sizeof(ref.nonce));
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_ref(reply, &ref, "sim.Number");
	o->made = r->reply;
	r->made = true;
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

/* ── arrays ── */

uint64_t sim_array_is(const sb_array *array)
{
	size_t count = 0;
	const uint64_t *at = sb_array_as(array, "<u8", &count);

	for (size_t i = 0; i < count; i++)
		if (at[i] != at[0])
			return UINT64_MAX;
	return count ? at[0] : UINT64_MAX;
}

/* Kept until its reader keeps it, too. */
static bool reply_block(const struct sb__table *t, const struct sb__call_origin *origin,
                        const struct sb__block *block, void *kept, struct sb__buf *reply)
{
	struct sb__array_item item = { .dtype = "<u8",
		                       .itemsize = 8,
		                       .ndim = 1,
		                       .shape = { SIM_ARRAY_COUNT },
		                       .strides = { 8 },
		                       .nbytes = SIM_ARRAY_COUNT * 8,
		                       .block = *block };

	if (!sb__kept_add(origin->kept, t->options.blocks, kept))
		return false;
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_array_item(reply, &item);
	return true;
}

static void make_array(const struct sb__table *t, const struct sb__call_origin *origin, uint64_t value,
                       struct sb__buf *reply)
{
	const struct sb__blocks *blocks = t->options.blocks;
	struct sb__block block;
	void *addr, *kept;

	if (blocks->make(blocks->arg, &t->options.share, SIM_ARRAY_COUNT * 8, &block, &addr, &kept) != 0) {
		sb__reply_fail(reply, SB_ENOSPACE, blocks->why());
		return;
	}
	for (size_t i = 0; i < SIM_ARRAY_COUNT; i++)
		((uint64_t *)addr)[i] = value;
	(void)reply_block(t, origin, &block, kept, reply);
}

static void view_array(const struct sb__table *t, const struct sb__call_origin *origin, sb_array *array,
                       struct sb__buf *reply)
{
	const struct sb__blocks *blocks = t->options.blocks;
	struct sb__block block;
	bool writable;
	void *kept;

	if (!array || !blocks->find(blocks->arg, sb_array_data(array), sb_array_nbytes(array), &block,
	                            &writable, &kept))
		sb__reply_fail(reply, SB_ENOVIEW, "it is not shared");
	else
		(void)reply_block(t, origin, &block, kept, reply);
}

/* The array that a request brings. Until it was kept only its caller kept it, who may have given up before. */
static int take_array(struct sb__table *t, const struct sb__call_origin *origin, struct sb__cursor *cursor,
                      struct request *r)
{
	struct sb__array_item item;
	int err = sb__next_array(cursor, &item);

	if (!err)
		err = sb__array_open(&item, t->options.blocks, &r->array);
	if (!err && origin->stands && !origin->stands(origin->stands_arg))
		err = SB_ECANCELLED;
	return err;
}

static bool is(const struct sb__request_head *head, const char *name)
{
	return head->name_len == strlen(name) && memcmp(head->name, name, head->name_len) == 0;
}

/* ── callbacks ── */

static bool never(void *arg)
{
	(void)arg;
	return false;
}

/* One question. True: it was answered with a number. */
static bool ask(const struct sb__asker *asker, uint32_t function, int64_t *ret)
{
	struct sb__buf question, given;
	struct sb__cursor cursor;
	struct sb__answer answer = { .failed = true };
	struct sb__item item = { .type = SB__ITEM_NULL };

	sb__buf_init(&question, NULL, 0);
	sb__buf_init(&given, NULL, 0);
	sb__put_question(&question, asker->call, function);
	sb__put_tag(&question, SB__TAG_TUPLE);
	sb__put_array(&question, 0);
	sb__put_null(&question);
	if (asker->ask(asker->arg, &question, never, NULL, &given) == SB__ASKER_ANSWERED) {
		cursor = (struct sb__cursor){ .data = given.data, .len = given.len };
		if (sb__next_answer(&cursor, &answer) != 0 ||
		    (!answer.failed && sb__next(&cursor, &item) != 0))
			answer.failed = true;
	}
	asker->done(asker->arg);
	sb__buf_free(&question);
	sb__buf_free(&given);
	*ret = item.type == SB__ITEM_INT ? item.u.integer : -1;
	return !answer.failed && item.type == SB__ITEM_INT;
}

static void ask_all(const struct sb__call_origin *origin, const struct request *r, struct sb__buf *reply)
{
	int64_t sum = 0, one;

	for (int64_t i = 0; i <= r->numbers[1] % 2; i++) {
		if (!origin->asker || !ask(origin->asker, r->function, &one)) {
			reply_raised(reply, "snakebridge.CallbackError");
			return;
		}
		sum += one;
	}
	reply_number(reply, (uint64_t)sum);
}

static void call(struct sb__table *t, const struct sb__call_origin *origin, struct request *r,
                 struct sb__buf *reply)
{
	const struct sb__request_head *head = &r->head;
	uint64_t number = (uint64_t)r->numbers[0];
	int64_t k = r->numbers[1];
	struct object *o;

	if (is(head, "make") || is(head, "keep")) {
		o = make(t, origin, number, r->array);
		if (o)
			reply_ref(t, o, r, reply);
		else
			sb__reply_fail(reply, SB_EREFSFULL, "as many refs as it may hold");
	} else if (is(head, "ask") && r->has_function) {
		ask_all(origin, r, reply);
	} else if (is(head, "array")) {
		make_array(t, origin, (uint64_t)k, reply);
	} else if (is(head, "sum")) {
		sim_sleep((uint64_t)k * 1000000);
		reply_number(reply, sim_array_is(r->array));
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
}

static int find_target(struct sb__table *t, const struct request *r, struct object **ret)
{
	uint32_t item = r->head.target.slot;

	if (!r->head.has_target)
		return 0;
	if (!r->head.target_is_item)
		return find(t, &r->head.target, ret);
	return item < r->items && r->earlier[item] != UINT64_MAX ? 0 : SB_EINVAL;
}

static void run(struct sb__table *t, const struct sb__call_origin *origin, struct request *r,
                struct sb__buf *reply)
{
	struct object *o = NULL;
	int err = find_target(t, r, &o);
	sb_array *array;

	if (err) {
		sb__reply_refuse(reply, err, "stale");
		return;
	}
	sim_engine_began((uint64_t)r->numbers[0], t->options.incarnation);
	if (r->array)
		sim_engine_saw((uint64_t)r->numbers[0], sim_array_is(r->array));
	r->gave = true;
	if (r->head.target_is_item) {
		reply_number(reply, r->earlier[r->head.target.slot]);
		return;
	}
	if (!o) {
		call(t, origin, r, reply);
		r->gave = reply->len > 1 && reply->data[1] == SB__REPLY_VALUE;
		return;
	}
	array = sb_array_ref(o->array); /* the object may go meanwhile */
	if (is(&r->head, "view"))
		view_array(t, origin, array, reply);
	else
		reply_number(reply, array ? sim_array_is(array) : o->value);
	sb_array_unref(array);
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

/* What comes after a request's head. */
static void run_one(struct sb__table *t, const struct sb__call_origin *origin, struct sb__cursor *cursor,
                    struct request *r, struct sb__buf *reply)
{
	struct sb__item item;
	int err = sb__next(cursor, &item);

	for (uint64_t i = 0, n = item.u.count; !err && i < n && i < 3; i++) {
		err = sb__next(cursor, &item);
		if (!err && item.type == SB__ITEM_INT && i < 2) {
			r->numbers[i] = item.u.integer;
		} else if (!err && item.type == SB__ITEM_TAG && item.u.count == SB__TAG_ARRAY) {
			err = take_array(t, origin, cursor, r);
		} else if (!err && item.type == SB__ITEM_TAG && item.u.count == SB__TAG_CALLBACK) {
			err = sb__next_callback(cursor, &r->function);
			r->has_function = !err;
		}
	}
	if (err)
		sb__reply_refuse(reply, err, sb_last_error()->message);
	else if (r->head.verb == SB_VERB_RELEASE && r->head.has_target)
		release(t, &r->head, reply);
	else
		run(t, origin, r, reply);
	sb_array_unref(r->array);
	r->array = NULL;
}

/* Why no further item is to run; 0: it is. */
static int batch_stopped(const struct sb__call_origin *origin, const struct running *running, bool failed)
{
	if (failed || (running && running->cancelled))
		return SB_ECANCELLED;
	return origin->deadline_ns && sb__now_ns() >= origin->deadline_ns ? SB_ETIMEOUT : 0;
}

static void run_item(struct sb__table *t, const struct sb__call_origin *origin, const struct sb__item *bytes,
                     struct request *batch, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = bytes->u.bytes.data, .len = bytes->u.bytes.len };
	struct request r = { .reply = batch->reply, .items = batch->items };

	memcpy(r.earlier, batch->earlier, sizeof(r.earlier));
	if (sb__request_decode(&cursor, &r.head) != 0)
		sb__reply_refuse(reply, SB_EPROTOCOL, "no request");
	else
		run_one(t, origin, &cursor, &r, reply);
	batch->made |= r.made;
	batch->earlier[batch->items++] = r.gave ? (uint64_t)r.numbers[0] : UINT64_MAX;
}

static void run_batch(struct sb__table *t, const struct sb__call_origin *origin, struct sb__cursor *cursor,
                      struct request *batch, struct sb__buf *reply)
{
	struct running *running = begin(t, origin);
	struct sb__item item = { .type = SB__ITEM_NULL };
	bool failed = false;
	uint64_t n;

	(void)sb__next(cursor, &item);
	n = item.u.count < ITEMS ? item.u.count : ITEMS;
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	sb__put_array(reply, n);
	for (uint64_t i = 0; i < n; i++) {
		size_t kept = origin->kept->count;
		int stop = batch_stopped(origin, running,
		                         failed && batch->head.flags & SB_BATCH_STOP_ON_ERROR);
		struct sb__buf part;

		sb__buf_init(&part, NULL, 0);
		(void)sb__next(cursor, &item);
		if (stop && sim.bug == SIM_BUG_ITEM_RUNS_ON) {
			run_item(t, origin, &item, batch, &part);
			sb__buf_free(&part);
			sb__kept_rewind(origin->kept, kept);
			sb__buf_init(&part, NULL, 0);
			sb__reply_refuse(&part, stop, "not run");
		} else if (stop) {
			sb__reply_refuse(&part, stop, "not run");
			batch->earlier[batch->items++] = UINT64_MAX;
		} else {
			run_item(t, origin, &item, batch, &part);
		}
		failed |= sb__reply_kind(&part) != SB__REPLY_VALUE;
		sb__put_item_reply(reply, &part, origin->kept->count > kept);
		sb__buf_free(&part);
		sim_point(SIM_AT_CALL);
	}
	if (running)
		running->on = false;
}

static uint64_t engine_execute(struct sb__table *t, const struct sb__call_origin *origin,
                               const uint8_t *request, size_t len, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = request, .len = len };
	struct request r = { .reply = ++t->replies };

	sim_point(SIM_AT_CALL);
	if (t->destroyed)
		sim_engine_began(UINT64_MAX,
		                 t->options.incarnation); /* the history says that this must not be */
	if (sb__request_decode(&cursor, &r.head) != 0)
		sb__reply_refuse(reply, SB_EPROTOCOL, "no request");
	else if (r.head.verb == SB_VERB_BATCH)
		run_batch(t, origin, &cursor, &r, reply);
	else
		run_one(t, origin, &cursor, &r, reply);
	return r.made ? r.reply : 0;
}

/* As if it had been written. */
static uint64_t engine_execute_own(struct sb__table *table, const struct sb__call_origin *origin,
                                   struct sb__own_request *own, struct sb__buf *reply)
{
	uint8_t memory[1024];
	struct sb__buf buf;
	uint64_t number;

	sb__buf_init(&buf, memory, sizeof(memory));
	own_request_write(&buf, own);
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
	for (unsigned i = 0; i < OBJECTS; i++) {
		sb_array_unref(t->objects[i].array);
		t->objects[i].array = NULL;
	}
	t->destroyed = true; /* its memory goes with the history */
}

static bool engine_table_discard(struct sb__table *t)
{
	if (t->counts.created)
		return false;
	engine_table_destroy(t);
	return true;
}

static void nothing(void) {}

static bool at_once(void)
{
	return false;
}

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
	.table_discard = engine_table_discard,
	.execute = engine_execute,
	.execute_own = engine_execute_own,
	.settle = engine_settle,
	.expire = engine_expire,
	.counts = engine_counts,
	.thread_begin = nothing,
	.batch_begin = at_once,
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
