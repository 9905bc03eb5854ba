/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays of a random history. Each has a number, and whoever made it fills it with that, once. So wherever it is seen, by who
 * keeps it, by a call that it goes along with, or in a result, each element must be that number, as long as its memory is nobody
 * else's.
 */
#include "history_impl.h"

#include "sim_engine.h"

struct app *me(void)
{
	for (unsigned i = 0; i < w.app_count; i++)
		if (w.apps[i].proc == sim_self())
			return &w.apps[i];
	return NULL;
}

bool array_may_be_gone(unsigned number)
{
	const struct sim_proc *maker = w.arrays[number].maker;

	if (number && !maker)
		maker = w.calls[w.arrays[number].call].ran_in;
	return maker && maker->leaving;
}

void saw(uint64_t number, uint64_t seen)
{
	if (number < CALLS && w.calls[number].array != seen)
		wrong("call %llu ran on array %u, but there was %lld: its memory was another's",
		      (unsigned long long)number, w.calls[number].array, (long long)seen);
}

void check_arrays(const struct app *app)
{
	for (unsigned i = 0; i < HELD; i++)
		if (app->held[i].number && sim_array_is(app->held[i].array) != app->held[i].number)
			wrong("array %u, which pid %d keeps, was used for another: %lld", app->held[i].number,
			      (int)app->proc->pid, (long long)sim_array_is(app->held[i].array));
}

static void let_go(struct held *held)
{
	sb_array *array = held->array;

	if (!held->number)
		return;
	tell("lets go of array %u", held->number);
	*held = (struct held){ .number = 0 };
	sb_array_unref(array);
}

static void take(sb_array *array, unsigned number)
{
	struct held *held = &me()->held[sim_below(HELD)];

	let_go(held);
	*held = (struct held){ array, number };
}

void judge_array(const sb_value *v, unsigned number)
{
	sb_array *array = sb_value_array(v);

	if (!array)
		wrong("no array %u", number);
	else if (sim_array_is(array) != number)
		wrong("instead of array %u there was %lld", number, (long long)sim_array_is(array));
	else
		take(sb_array_ref(array), number);
}

static void make_array(struct handle *h)
{
	size_t count = SIM_ARRAY_COUNT;
	unsigned number = w.next_array++; /* at once: another process makes one while ours is being made */
	sb_array *array;

	w.arrays[number].maker = sim_self();
	if (sb_array_new(h->s, "<u8", 1, &count, &array) != 0) {
		wrong("an array cannot be made: %s", sb_last_error()->message);
		return;
	}
	for (size_t i = 0; i < count; i++)
		((uint64_t *)sb_array_writable(array))[i] = number;
	tell("makes array %u", number);
	take(array, number);
}

void do_array(struct app *app, struct handle *h)
{
	struct held *held = &app->held[sim_below(HELD)];
	struct wish wish = { .shelf = -1, .k = (int64_t)sim_below(sim_below(4) ? 20 : 3000) };

	w.h->tally.arrays++;
	if (w.next_array == 0)
		w.next_array = 1;
	if (!held->number && w.next_array < ARRAYS) {
		if (sim_below(3)) {
			make_array(h);
			return;
		}
		wish.name = "array";
		wish.makes = w.next_array++;
		wish.k = 0;
		make_call(h, &wish);
		return;
	}
	if (!held->number)
		return;
	wish.along = held;
	wish.name = sim_below(2) ? "sum" : "keep";
	if (sim_below(4) == 0)
		make_oneway(h, &wish);
	else
		make_call(h, &wish);
	if (sim_below(2))
		let_go(held); /* also while a one-way call is on its way, or one runs on that nobody waits for */
}
