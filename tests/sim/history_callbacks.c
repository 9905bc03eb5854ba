/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of a random history that calls pass along. One may run only while its call is waited for, in the thread that waits, as
 * often as the call asks for it; what it answers is what the call results in. It calls in turn, with functions again.
 */
#include "history_impl.h"

enum { DEPTH_MAX = 3 };

static struct handle *some_open(struct app *app)
{
	struct handle *h = &app->handles[sim_below(HANDLES)];

	for (int i = 0; i < HANDLES && !h->s; i++)
		h = &app->handles[i];
	return h;
}

int answer(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	struct asked *a = arg;

	(void)args;
	(void)kwargs;
	tell("the function of call %llu runs", (unsigned long long)a->number);
	if (sim_self() != a->app->proc || sim.current != a->thread)
		wrong("the function of call %llu runs in another thread", (unsigned long long)a->number);
	if (!a->waits)
		wrong("the function of call %llu runs when that is over", (unsigned long long)a->number);
	if (++a->times > a->most)
		wrong("the function of call %llu runs %u times", (unsigned long long)a->number, a->times);
	w.h->tally.callbacks++;
	if (sim_below(4) == 0)
		sim_sleep(sim_below(30) * MS);
	if (a->app->depth < DEPTH_MAX && sim_below(2)) {
		a->app->depth++;
		if (sim_below(2))
			do_ask(a->app, some_open(a->app));
		else
			do_call(some_open(a->app));
		a->app->depth--;
	}
	if (sim_below(8) == 0) {
		a->raised = true;
		return sb_callback_raise("builtins.ValueError", "simulated");
	}
	return sb_value_pack(ret_value, "i", (int)a->number);
}

void do_ask(struct app *app, struct handle *h)
{
	struct asked asked = { .app = app };
	struct wish wish = { .name = "ask", .shelf = -1, .k = (int64_t)sim_below(2), .asked = &asked };

	make_call(h, &wish);
}
