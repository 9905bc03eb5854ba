/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One random history. The model is small because it sees everything: which releases, leaves and deaths of what could have been
 * a session's designated owner had begun, when a session was used for certain and when it may have been, and how often
 * each call ran. A result is allowed only if what explains it had begun before it was told.
 */
#include "history_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim_bridge.h"
#include "sim_engine.h"

struct history_world w;

/* ── telling ── */

void wrong(const char *fmt, ...)
{
	va_list ap;

	if (w.h->wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w.h->wrong, sizeof(w.h->wrong), fmt, ap);
	va_end(ap);
}

void tell(const char *fmt, ...)
{
	va_list ap;

	if (!w.h->tell)
		return;
	printf("%9.3f ms  pid %d  ", (double)(sim.now_ns - UINT64_C(1000000000000)) / 1e6,
	       sim_self() ? (int)sim_self()->pid : 0);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

uint64_t now_ms(void)
{
	return sim.now_ns / MS;
}

/* What the model looks at by itself is no step of the history. */
struct sim_thread *(*quiet_begin(void))(enum sim_point)
{
	struct sim_thread *(*decide)(enum sim_point) = sim.decide;

	sim.decide = NULL;
	return decide;
}

/* ── faults ── */

static void *app_main(void *arg);

static void app_start(void)
{
	struct sim_proc *proc = w.app_count < APPS_MAX ? sim_proc_new() : NULL;
	struct app *app = &w.apps[w.app_count];
	struct sim_thread *t;

	if (!proc)
		return;
	w.app_count++;
	memset(app, 0, sizeof(*app));
	app->proc = proc;
	app->ops = 2 + (unsigned)sim_below(w.ops_max);
	t = sim_thread_new(proc, app_main, app);
	if (t)
		sim_must_finish(t);
}

/* Whatever it hosted may be without an owner from now on. */
static void going(struct sim_proc *proc)
{
	proc->leaving = true;
	for (int k = 0; k < SESSIONS; k++)
		if (w.s[k].hosts & UINT32_C(1) << proc->index)
			w.s[k].lost = true;
}

static void kill_one(struct sim_proc *proc)
{
	for (int k = 0; k < SESSIONS; k++)
		w.s[k].leaves_begun++;
	going(proc);
	w.h->tally.kills++;
	tell("SIGKILL of pid %d", (int)proc->pid);
	/* A large process is gone long after its threads are. */
	sim_kill(proc, sim_below(3) ? sim_below(2 * MS) : sim_below(60 * MS));
	proc->zombie = sim_below(4) == 0;
}

static struct sim_proc *some_proc(void)
{
	struct sim_proc *p = &sim.procs[sim_below(sim.proc_count)];

	return p->dead ? NULL : p;
}

static bool is_reaper(const struct sim_proc *p)
{
	return p->index == 0;
}

/* Nobody ran: what was to end meanwhile runs on until now, which is a use. */
static void stand_still(void)
{
	uint64_t before = now_ms();

	sim.now_ns += sim_below(5000) * MS;
	for (unsigned k = 0; k < SESSIONS; k++)
		if (w.s[k].maybe_ms > before && w.s[k].maybe_ms < now_ms())
			w.s[k].maybe_ms = now_ms();
	w.h->tally.jumps++;
	tell("the machine stood still");
}

static void fault(void)
{
	struct sim_proc *p = some_proc();
	uint64_t kind = sim_below(20);

	if (kind < 12 && p && !is_reaper(p)) { /* that is only stopped */
		kill_one(p);
		if (sim_below(2))
			app_start();
	} else if (kind < 17 && p) {
		p->stopped_until_ns = sim.now_ns + (sim_below(2) ? sim_below(300) : sim_below(20000)) * MS;
		w.h->tally.stops++;
		tell("SIGSTOP of pid %d for %u ms", (int)p->pid,
		     (unsigned)((p->stopped_until_ns - sim.now_ns) / MS));
	} else if (kind < 19) {
		sim.wall_offset_ms += (int64_t)sim_below(UINT64_C(4000000000)) - INT64_C(2000000000);
		w.h->tally.jumps++;
		tell("the wall clock is set");
	} else {
		stand_still();
	}
	w.fault_in = 100 + sim_below(1500);
}

/* It takes far longer than all timeouts together: somebody waits for what will never be. */
static void end_it(void)
{
	for (unsigned i = 0; i < w.app_count; i++)
		if (!w.apps[i].proc->dead)
			wrong("pid %d goes on for ever", (int)w.apps[i].proc->pid);
	for (unsigned i = 1; i < sim.proc_count; i++)
		sim_kill(&sim.procs[i], 0);
}

static struct sim_thread *decide(enum sim_point point)
{
	struct sim_thread *list[SIM_THREADS_MAX], *to = sim.current;
	unsigned n;

	(void)point;
	if (now_ms() > LONG_MS && !w.over) {
		end_it();
		return NULL;
	}
	if (w.faults && --w.fault_in == 0) {
		w.faults--;
		fault();
		if (to->proc->dead || to->proc->stopped_until_ns > sim.now_ns)
			return NULL;
	}
	if (--w.switch_in > 0)
		return to;
	w.switch_in = 1 + sim_below(w.switch_every);
	n = sim_ready(list);
	to = n ? list[sim_below(n)] : NULL;
	sim_note(to ? to->index : UINT32_MAX);
	return to;
}

/* ── what an app does ── */

static void do_open(struct app *app, sb_bridge *bridge, struct handle *h)
{
	struct handle fresh = { .k = (int)sim_below(SESSIONS), .attach_only = sim_below(4) == 0 };
	struct modelled *s = &w.s[fresh.k];
	sb_session_options options = s->options;
	uint64_t since = now_ms();
	int err;

	if (fresh.attach_only)
		options.designated = SB_DESIGNATED_ATTACH_ONLY;
	else
		s->hosts |= UINT32_C(1) << app->proc->index;
	fresh.releases = s->releases_over;
	w.h->tally.opens++;
	use_begin(fresh.k);
	err = sb_session_open(bridge, &options, &fresh.s);
	use_end(fresh.k);
	tell("open session %d%s: %s", fresh.k, fresh.attach_only ? ", attach-only" : "",
	     err ? sb_last_error()->message : "done");
	sim_note((uint64_t)(uint32_t)err);
	app->core = bridge->core;
	app->identity = bridge->core->self.incarnation;
	app->slot = bridge->core->self.slot;
	app->generation = bridge->core->self.generation;
	if (!err) {
		if (now_ms() - since <=
		    SLACK_MS) /* else it may have been stopped, owner already, before it noted the use */
			used(fresh.k, since);
		*h = fresh;
		return;
	}
	if (err == SB_ENOSESSION || err == SB_ERELEASED || err == SB_EEXPIRED || err == SB_EOWNERDIED) {
		if (fresh.attach_only || session_may_be(err, &fresh, true))
			return;
	} else if (session_may_be(err, &fresh, false)) {
		return;
	}
	if (err == SB_EEXPIRED && may_have_expired_since(fresh.k, since))
		return; /* while it started */
	wrong("opening session %d: %s, which nothing explains: %s", fresh.k, sb_error_name(err),
	      sb_last_error()->message);
}

static void do_close(struct handle *h)
{
	struct handle closing = *h;

	memset(h, 0, sizeof(*h));
	w.s[closing.k].leaves_begun++;
	tell("close session %d", closing.k);
	sb_session_close(closing.s);
}

static void do_release(sb_bridge *bridge)
{
	int k = (int)sim_below(SESSIONS), released = 0;
	uint64_t since_ms = now_ms();

	w.s[k].releases_begun++;
	w.s[k].releasing++;
	if (sb_session_release(bridge, w.s[k].id, &released) != 0)
		wrong("releasing session %d: %s", k, sb_last_error()->message);
	if (--w.s[k].releasing == 0) /* a killed one goes on for ever */
		w.s[k].releases_over = w.s[k].releases_begun;
	if (released) {
		w.s[k].released_since_ms = since_ms;
		w.s[k].released_ms = now_ms();
	}
	tell("release session %d: %d", k, released);
	sim_note((uint64_t)released);
}

/* Sessions end only when they may, and nobody who lives is taken for dead. */
static void check_handle(const struct app *app, const struct handle *h)
{
	struct sim_thread *(*decide_then)(enum sim_point) = quiet_begin();
	struct sb__session_rec rec;
	struct sb__identity record;

	if (sb__store_process_get(sim_bridge_store(), app->core->self.slot, &record) != 1 ||
	    record.incarnation != app->identity)
		wrong("a process that lives was taken for dead");
	if (!may_be_released(h) && !may_have_expired(h->k) &&
	    (sb__store_session_get(sim_bridge_store(), w.s[h->k].id, &rec) != 1 || rec.uid != h->s->uid))
		wrong("session %d ended though it has an owner that lives", h->k);
	sim.decide = decide_then;
}

static void do_something(struct app *app, sb_bridge *bridge)
{
	struct handle *h = &app->handles[sim_below(HANDLES)];
	uint64_t what = sim_below(20);

	for (int i = 0; i < HANDLES && !h->s && sim_below(4); i++)
		h = &app->handles[i]; /* most do something with what they have */
	if (!h->s)
		do_open(app, bridge, h);
	else if (what < 5)
		do_array(app, h);
	else if (what < 7)
		do_batch(app, h);
	else if (what < 9)
		do_ask(app, h);
	else if (what < 13)
		do_call(h);
	else if (what < 15)
		do_close(h);
	else if (what < 16)
		do_release(bridge);
	else
		sim_sleep((what < 18 ? sim_below(50) : sim_below(4000)) * MS);
	for (unsigned i = 0; i < HANDLES; i++)
		if (app->handles[i].s)
			check_handle(app, &app->handles[i]);
	check_arrays(app);
}

static void *app_main(void *arg)
{
	struct app *app = arg;
	sb_bridge *bridge;

	sim_sleep(sim_below(20) * MS);
	if (sb_bridge_open(NULL, NULL, &bridge) != 0) {
		wrong("the bridge: %s", sb_last_error()->message);
		return NULL;
	}
	for (unsigned i = 0; i < app->ops; i++)
		do_something(app, bridge);
	for (int k = 0; k < SESSIONS; k++)
		w.s[k].leaves_begun++;
	going(app->proc);
	tell("leaves");
	if (sim_below(3)) /* else it exits without a word */
		sb_bridge_close(bridge);
	sim_kill(app->proc, 0);
	sim_yield();
	return NULL;
}

/* ── a history ── */

static void choose_session(int k)
{
	struct modelled *s = &w.s[k];

	snprintf(s->id, sizeof(s->id), "h%012llx-%d", (unsigned long long)w.history_number, k);
	s->options = (sb_session_options)SB_SESSION_OPTIONS_INIT;
	s->options.session_id = s->id;
	s->options.max_refs = sim_below(2) ? 3 : 40;
	s->options.ttl_seconds = sim_below(2) ? 0 : 1 + (int64_t)sim_below(2);
	s->options.designated = sim_below(4) ? SB_DESIGNATED_SELF : SB_DESIGNATED_DEDICATED;
	s->options.persistent = sim_below(5) == 0;
	s->lost = s->options.designated ==
	          SB_DESIGNATED_DEDICATED; /* by any of the processes that are killed */
	s->sure_ms = now_ms();
}

void history_run(struct history *h)
{
	static uint64_t histories;
	struct sim_proc *reaper;

	sim.decide = NULL;
	sim.pick = NULL;
	sim.timeouts_never_fire = false;
	sim_begin(h->seed);
	memset(&w, 0, sizeof(w));
	w.h = h;
	w.history_number = ++histories;
	sim_engine_began = began;
	sim_engine_saw = saw;
	for (int k = 0; k < SESSIONS; k++)
		choose_session(k);
	w.ops_max = 3 + (unsigned)sim_below(OPS_MAX);
	w.faults = (unsigned)sim_below(6);
	w.fault_in = 1 + sim_below(1500);
	w.switch_every = UINT64_C(1) << sim_below(9);
	w.switch_in = 1;
	reaper = sim_proc_new();
	sim_thread_new(reaper, reaper_main, NULL);
	for (unsigned i = 2 + (unsigned)sim_below(2); i-- > 0;)
		app_start();
	sim.decide = decide;
	if (!sim_run())
		wrong("nothing can happen any more, and somebody waits");
	sim.decide = NULL;
	w.over = true;
	end_all();
	h->hash = sim.hash;
	h->tally.steps = sim.steps;
	h->tally.switches = sim.switches;
	sim_end();
}
