/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of a random history. If one is refused none of its items ran or will; else each has its own outcome, which is judged as a
 * call's; those that ran did so in their order.
 */
#include "history_impl.h"

enum { ITEMS_MAX = 6 };

struct batch {
	struct handle *h;
	uint32_t flags, timeout_ms;
	unsigned count;
	struct one_call items[ITEMS_MAX];
	sb_ref refs[ITEMS_MAX];
	int on[ITEMS_MAX]; /* the item whose result is its target; -1: none */
	bool failed[ITEMS_MAX];
	uint64_t began_ms;
	bool has_target;
};

static void add_item(struct batch *b, sb_batch *batch, struct app *app)
{
	static const char *const names[] = { "make", "echo", "raise", "work", "make" };
	struct one_call *c = &b->items[b->count];
	sb_request request = SB_REQUEST_INIT;
	struct held *held = &app->held[sim_below(HELD)];
	unsigned shelf = (unsigned)sim_below(SHELF);

	*c = (struct one_call){ .handle = b->h,
		                .name = names[sim_below(5)],
		                .number = w.next_call,
		                .expected = w.next_call,
		                .timeout_ms = b->timeout_ms,
		                .item = true };
	w.next_call++;
	b->on[b->count] = -1;
	request.args = sb_args("ii", (int)c->number, (int)sim_below(20));
	if (b->count && sim_below(4) == 0) {
		b->on[b->count] = (int)sim_below(b->count);
		b->refs[b->count] = sb_batch_ref((size_t)b->on[b->count]);
		c->expected = b->items[b->on[b->count]].number;
		c->name = "get";
	} else if (w.shelf[shelf].set && w.shelf[shelf].k == b->h->k && sim_below(3)) {
		b->refs[b->count] = w.shelf[shelf].ref;
		b->has_target = true;
		c->expected = w.shelf[shelf].number;
		if (w.shelf[shelf].array && sim_below(2)) {
			c->name = "view";
			c->gives = w.shelf[shelf].array;
		} else {
			c->name = "get";
		}
	} else if (held->number && sim_below(3)) {
		sb_args_free(request.args);
		request.args = sb_args("iia", (int)c->number, (int)sim_below(20), held->array);
		c->along = held->number;
		c->expected = held->number;
		c->name = sim_below(2) ? "sum" : "keep";
		w.calls[c->number].array = c->along;
	}
	if (c->name[0] == 'g' || c->name[0] == 'v') {
		request.verb = SB_VERB_METHOD;
		request.target = &b->refs[b->count];
		c->target = b->on[b->count] < 0 ? request.target : NULL;
	} else {
		w.s[b->h->k].refs_made += c->name[0] == 'm' || c->name[0] == 'k';
	}
	request.name = c->name;
	if (sb_batch_add(batch, &request, NULL) != 0)
		wrong("an item of a batch: %s", sb_last_error()->message);
	b->count++;
}

/* The whole of it was not run, or nobody knows. */
static void judge_whole(struct batch *b, const sb_error *e)
{
	struct one_call c = b->items[0];

	c.name = "batch";
	c.item = false;
	c.target = b->has_target ? &b->refs[0] : NULL;
	for (unsigned i = 0; i < b->count; i++)
		if (array_may_be_gone(b->items[i].along) || array_may_be_gone(b->items[i].gives))
			c.along = b->items[i].along ? b->items[i].along : b->items[i].gives;
	judge_error(&c, e);
	if (e->outcome == SB_OUTCOME_EXCEPTION)
		wrong("a batch that raises: %s", e->message);
	for (unsigned i = 0; e->outcome == SB_OUTCOME_REFUSED && i < b->count; i++) {
		w.calls[b->items[i].number].told_not = true;
		if (w.calls[b->items[i].number].ran)
			wrong("a batch was refused (%s), but item %u ran", sb_error_name(e->code), i);
	}
}

static void judge_items(struct batch *b, sb_batch *batch)
{
	bool failed = false;

	for (unsigned i = 0; i < b->count; i++) {
		struct one_call *c = &b->items[i];
		sb_value *value = NULL;
		int err;

		c->stopped = failed && b->flags & SB_BATCH_STOP_ON_ERROR;
		c->unfounded = b->on[i] >= 0 && b->failed[b->on[i]];
		err = sb_batch_result(batch, i, &value);
		tell("  item %u, call %llu \"%s\": %s", i, (unsigned long long)c->number, c->name,
		     err ? sb_error_name(err) : "a value");
		sim_note((uint64_t)(uint32_t)err);
		if (err)
			judge_error(c, sb_last_error());
		else if (c->stopped)
			wrong("item %u of a batch ran after one that failed", i);
		else
			judge_value(c, value);
		sb_value_free(value);
		b->failed[i] = err != 0;
		failed |= err != 0;
	}
}

void do_batch(struct app *app, struct handle *h)
{
	static const uint32_t timeouts[] = { 20, 1000, 120000 };
	struct batch b = { .h = h, .timeout_ms = timeouts[sim_below(3)] };
	unsigned count = 1 + (unsigned)sim_below(ITEMS_MAX), last = 0;
	sb_batch *batch;
	int err;

	b.flags = sim_below(2) ? SB_BATCH_STOP_ON_ERROR : 0;
	if (w.next_call + count > CALLS || sb_batch_new(b.flags, &batch) != 0)
		return;
	while (b.count < count)
		add_item(&b, batch, app);
	w.s[h->k].hosts |= UINT32_C(1) << sim_self()->index;
	b.began_ms = now_ms();
	for (unsigned i = 0; i < b.count; i++)
		b.items[i].began_ms = b.began_ms;
	w.h->tally.batches++;
	use_begin(h->k);
	err = sb_batch_run(h->s, batch, b.timeout_ms);
	use_end(h->k);
	tell("batch of %u on session %d: %s", b.count, h->k, err ? sb_error_name(err) : "done");
	sim_note((uint64_t)(uint32_t)err);
	if (err) {
		judge_whole(&b, sb_last_error());
		if (w.s[h->k].maybe_ms < now_ms() + ITEMS_MAX * 20)
			w.s[h->k].maybe_ms = now_ms() + ITEMS_MAX * 20; /* it runs on */
	} else {
		judge_items(&b, batch);
		used_by(h, b.began_ms);
	}
	for (unsigned i = 0; i < b.count; i++) {
		unsigned order = w.calls[b.items[i].number].order;

		if (order && order < last)
			wrong("item %u of a batch ran before one that stands before it", i);
		last = order ? order : last;
	}
	sb_batch_free(batch);
}
