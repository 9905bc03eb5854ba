/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One random history. The model is small because it sees everything: which releases, leaves and deaths of what could have been
 * a session's designated owner had begun, when a session was used for certain and when it may have been, and how often
 * each call ran. A result is allowed only if what explains it had begun before it was told.
 */
#include "history.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "sim.h"
#include "sim_bridge.h"
#include "sim_engine.h"
#include "snakebridge/snakebridge.h"
#include "sweep.h"

enum { SESSIONS = 2, HANDLES = 4, SHELF = 8, CALLS = 512, OPS_MAX = 16, APPS_MAX = 6 };

#define MS       UINT64_C(1000000)
#define SLACK_MS 12                /* coarse clocks */
#define LATE_MS  400               /* so late a caller may learn of its owner's death */
#define LONG_MS  UINT64_C(3000000) /* it begins at 1000000 */
#define TICK_MS  2500              /* so late idle sessions may be found by a pass that began then */

/* A number of its own for each call; what became of it. */
struct made_call {
	unsigned ran;
	bool told_not, oneway;
	int k; /* one-way: its session, and how long it works */
	uint64_t works_ms;
	const struct sim_proc *ran_in;
};

struct modelled {
	char id[48];
	sb_session_options options;
	unsigned releases_begun, releasing, releases_over, leaves_begun, refs_made, refs_released;
	uint64_t uid, incarnation;               /* of it, when it was looked at last */
	uint64_t released_since_ms, released_ms; /* the last release that ended one: begun, over */
	uint64_t sure_ms, maybe_ms;              /* used for certain, perhaps, at that time or later */
	unsigned uses;                           /* going on now */
	bool idled;                              /* for the TTL, between two certain uses */
	bool lost;                               /* one who may have been its designated owner may be gone */
	uint32_t hosts;                          /* processes that may be */
};

struct handle {
	sb_session *s;
	int k;
	bool attach_only;
	unsigned releases; /* that were over when it was opened */
};

struct app {
	struct sim_proc *proc;
	struct sb__core *core; /* once attached */
	uint64_t identity;     /* its incarnation number in the process record */
	unsigned passes;       /* of the reaper, since it was dead */
	struct handle handles[HANDLES];
	unsigned ops;
};

static struct {
	struct history *h;
	struct modelled s[SESSIONS];
	struct app apps[APPS_MAX];
	unsigned app_count;
	struct {
		bool set;
		int k;
		sb_ref ref;
		uint64_t number;
	} shelf[SHELF];
	struct made_call calls[CALLS];
	uint64_t next_call;
	unsigned faults, ops_max;
	uint64_t fault_in, switch_in, switch_every;
	bool over; /* all apps have ended */
	uint64_t history_number;
} w;

/* ── telling ── */

static void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void wrong(const char *fmt, ...)
{
	va_list ap;

	if (w.h->wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w.h->wrong, sizeof(w.h->wrong), fmt, ap);
	va_end(ap);
}

static void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *fmt, ...)
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

static uint64_t now_ms(void)
{
	return sim.now_ns / MS;
}

/* What the model looks at by itself is no step of the history. */
static struct sim_thread *(*quiet_begin(void))(enum sim_point)
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
static void going(const struct sim_proc *proc)
{
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

	return p->dead || p->index == 0 ? NULL : p; /* the first is the reaper */
}

static void fault(void)
{
	struct sim_proc *p = some_proc();
	uint64_t kind = sim_below(20);

	if (kind < 12 && p) {
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
		sim.now_ns += sim_below(5000) * MS; /* nobody ran */
		w.h->tally.jumps++;
		tell("the machine stood still");
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

/* ── what may be ── */

static void used(int k, uint64_t since_ms)
{
	struct modelled *s = &w.s[k];
	uint64_t ttl_ms = (uint64_t)s->options.ttl_seconds * 1000;

	if (ttl_ms && since_ms > s->sure_ms && since_ms - s->sure_ms + SLACK_MS >= ttl_ms)
		s->idled = true;
	if (since_ms > s->sure_ms)
		s->sure_ms = since_ms;
}

/* Between the two it may be used at any time, and afterwards it was; a killed user never comes to the second, but the owner
 * may still be at its call. */
static void use_begin(int k)
{
	w.s[k].uses++;
	if (w.s[k].maybe_ms < now_ms())
		w.s[k].maybe_ms = now_ms();
}

static void use_end(int k)
{
	w.s[k].uses--;
	if (w.s[k].maybe_ms < now_ms())
		w.s[k].maybe_ms = now_ms();
}

static bool may_have_expired(int k)
{
	const struct modelled *s = &w.s[k];
	uint64_t ttl_ms = (uint64_t)s->options.ttl_seconds * 1000;

	return ttl_ms && (s->idled || now_ms() - s->sure_ms + SLACK_MS >= ttl_ms);
}

/* While it started, or was started again, for one who began to use it then. */
static bool may_have_expired_since(int k, uint64_t since_ms)
{
	uint64_t ttl_ms = (uint64_t)w.s[k].options.ttl_seconds * 1000;

	return ttl_ms && now_ms() - since_ms + SLACK_MS >= ttl_ms;
}

static bool may_be_released(const struct handle *h)
{
	return w.s[h->k].releases_begun > h->releases;
}

/* A ref may be of an earlier session of the id, which its last owner's leaving ended. */
static bool session_may_be(int code, const struct handle *h, bool of_ref)
{
	const struct modelled *s = &w.s[h->k];

	switch (code) {
	case SB_ERELEASED: return may_be_released(h) || (of_ref && (s->releases_begun || s->leaves_begun));
	case SB_EEXPIRED: return may_have_expired(h->k);
	case SB_EOWNERDIED: return s->lost;
	case SB_ENOOWNER: return s->lost && h->attach_only;
	case SB_ESTART: return may_be_released(h) || w.h->tally.kills || w.h->tally.stops || w.h->tally.jumps;
	default: return false;
	}
}

static bool ref_may_be(int code, int k)
{
	const struct modelled *s = &w.s[k];

	switch (code) {
	case SB_EREFRELEASED: return s->refs_released || s->refs_made > (unsigned)s->options.max_refs;
	case SB_EREFEVICTED: return s->refs_made > (unsigned)s->options.max_refs;
	case SB_EREFEXPIRED: return s->options.ttl_seconds > 0;
	default: return false;
	}
}

/* ── calls ── */

struct one_call {
	const struct handle *handle;
	const char *name;
	const sb_ref *target;
	uint64_t number, expected, began_ms;
	uint32_t timeout_ms;
	struct sim_proc *owner; /* designated owner when it began, or NULL */
	uint64_t stopped_ns;    /* the caller's last stop, when it began */
	uint64_t incarnation;   /* of the session, then */
};

static void began(uint64_t number, uint64_t incarnation)
{
	struct made_call *c = number < CALLS ? &w.calls[number] : NULL;

	(void)incarnation;
	if (!c) {
		wrong("a request that nobody sent ran, or one on objects that were dropped (%llu)",
		      (unsigned long long)number);
		return;
	}
	c->ran++;
	c->ran_in = sim_self();
	if (c->oneway && w.s[c->k].maybe_ms < now_ms() + c->works_ms)
		w.s[c->k].maybe_ms = now_ms() + c->works_ms; /* a use that its sender knows nothing of */
	if (c->ran > 1)
		wrong("call %llu ran twice", (unsigned long long)number);
	if (c->told_not)
		wrong("call %llu ran after its caller was told that it had not", (unsigned long long)number);
}

static void judge_error(const struct one_call *c, const sb_error *e)
{
	struct made_call *m = &w.calls[c->number];
	bool explained = session_may_be(e->code, c->handle, c->target != NULL) ||
	                 (c->target && ref_may_be(e->code, c->handle->k));

	if (e->code == SB_EEXPIRED)
		explained |= may_have_expired_since(c->handle->k, c->began_ms);
	if (e->code == SB_ETIMEOUT)
		explained = now_ms() + 1 >= c->began_ms + c->timeout_ms;
	if (e->code == SB_EPYTHON)
		explained = e->outcome == SB_OUTCOME_EXCEPTION && m->ran == 1;
	if (e->code == SB_EREFSFULL)
		explained = e->outcome == SB_OUTCOME_EXCEPTION;
	if (!explained)
		wrong("call %llu \"%s\" on session %d: %s, outcome %d, which nothing explains: %s",
		      (unsigned long long)c->number, c->name, c->handle->k, sb_error_name(e->code),
		      e->outcome, e->message);
	switch (e->outcome) {
	case SB_OUTCOME_REFUSED:
		w.h->tally.refused++;
		m->told_not = true;
		if (m->ran)
			wrong("call %llu \"%s\": refused (%s), but it ran", (unsigned long long)c->number,
			      c->name, sb_error_name(e->code));
		break;
	case SB_OUTCOME_EXCEPTION: w.h->tally.exceptions++; break;
	case SB_OUTCOME_UNKNOWN: w.h->tally.unknown++; break;
	default:
		wrong("call %llu \"%s\": %s without an outcome", (unsigned long long)c->number, c->name,
		      sb_error_name(e->code));
	}
}

static void judge_value(const struct one_call *c, const sb_value *v)
{
	const sb_ref *ref = sb_value_ref(v);
	int64_t got = 0;

	w.h->tally.values++;
	if (w.calls[c->number].ran != 1)
		wrong("call %llu \"%s\": a value, but it ran %u times", (unsigned long long)c->number,
		      c->name, w.calls[c->number].ran);
	if (strcmp(c->name, "make") == 0) {
		unsigned at = (unsigned)sim_below(SHELF);

		if (!ref) {
			wrong("call %llu: no ref", (unsigned long long)c->number);
			return;
		}
		w.shelf[at].set = true;
		w.shelf[at].k = c->handle->k;
		w.shelf[at].ref = *ref;
		w.shelf[at].number = c->number;
	} else if (sb_value_int(v, &got) != 0 || (uint64_t)got != c->expected) {
		wrong("call %llu \"%s\": the reply of another (%lld)", (unsigned long long)c->number, c->name,
		      (long long)got);
	}
}

static struct sim_proc *designated_owner(int k)
{
	struct sim_thread *(*decide_then)(enum sim_point) = quiet_begin();
	struct sb__session_rec rec;
	struct sim_proc *found = NULL;

	if (sb__store_session_get(sim_bridge_store(), w.s[k].id, &rec) == 1) {
		w.h->tally.elections += rec.uid == w.s[k].uid && rec.incarnation != w.s[k].incarnation;
		w.s[k].uid = rec.uid;
		w.s[k].incarnation = rec.incarnation;
		for (unsigned i = 0; i < sim.proc_count; i++)
			if (sim.procs[i].pid == rec.designated.pid &&
			    sim.procs[i].start_time == rec.designated.start_time)
				found = &sim.procs[i];
	}
	sim.decide = decide_then;
	return found;
}

/* The call goes to an earlier owner: to one that was stopped, say, when it had left and not told so yet. */
static bool knows_another_owner(const struct handle *h, uint64_t incarnation)
{
	const struct sb__attachment *a = atomic_load(&h->s->attached);

	return a && a->incarnation != incarnation;
}

/* A caller outlives its owner's death by no more than a moment without an answer; and its own deadline. */
static void judge_time(const struct one_call *c, int err)
{
	uint64_t end = now_ms(), from = c->began_ms;
	const struct sim_proc *me = sim_self();

	if (w.h->tally.jumps || me->stopped_until_ns != c->stopped_ns)
		return; /* it did not run all the time */
	if (w.s[c->handle->k].released_since_ms > c->began_ms && w.calls[c->number].ran_in != me &&
	    end > w.s[c->handle->k].released_ms + LATE_MS)
		wrong("call %llu was told %llu ms after the release of its session",
		      (unsigned long long)c->number,
		      (unsigned long long)(end - w.s[c->handle->k].released_ms));
	(void)designated_owner(c->handle->k);
	if (w.s[c->handle->k].incarnation != c->incarnation)
		return; /* it may have gone to another owner than the one that died */
	if (err == SB_EOWNERDIED && c->owner && c->owner->dead) {
		uint64_t died = c->owner->gone_at_ns / MS;

		from = died > from ? died : from;
		if (end > from + LATE_MS)
			wrong("call %llu learnt of its owner's death after %llu ms",
			      (unsigned long long)c->number, (unsigned long long)(end - from));
	}
}

/* Only of the session that has the id now: an earlier one may go on for a moment where it was not told of its end. */
static void used_by(const struct handle *h, uint64_t since_ms)
{
	(void)designated_owner(h->k);
	if (w.s[h->k].uid == h->s->uid)
		used(h->k, since_ms);
}

/* As a call that is waited for, or as one in flight that is waited for now and then. */
static int invoke(const struct handle *h, const sb_request *request, sb_value **ret_value)
{
	sb_future *future;
	int err;

	if (sim_below(4))
		return sb_invoke(h->s, request, ret_value);
	w.h->tally.futures++;
	err = sb_call_start(h->s, request, &future);
	if (err)
		return err;
	do
		err = sb_future_wait(future, sim_below(2) ? 1 + (uint32_t)sim_below(30) : SB_WAIT_FOREVER,
		                     ret_value);
	while (err == 1);
	sb_future_free(future);
	return err;
}

/* Sent, and no more is known of it but that it runs once at most. */
static void make_oneway(struct handle *h, const char *name, int64_t k)
{
	static const uint32_t timeouts[] = { 50, 1000, 120000 };
	struct one_call c = { .handle = h, .name = name, .number = w.next_call };
	sb_request request = SB_REQUEST_INIT;
	int err;

	if (w.next_call == CALLS)
		return;
	w.next_call++;
	request.timeout_ms = c.timeout_ms = timeouts[sim_below(3)];
	request.name = name;
	request.args = sb_args_pack("ii", (int)c.number, (int)k);
	request.flags = SB_CALL_ONEWAY;
	w.calls[c.number].oneway = true;
	w.calls[c.number].k = h->k;
	w.calls[c.number].works_ms = (uint64_t)k;
	w.s[h->k].hosts |= UINT32_C(1) << sim_self()->index;
	c.began_ms = now_ms();
	w.h->tally.oneways++;
	use_begin(h->k);
	err = sb_invoke(h->s, &request, NULL);
	use_end(h->k);
	tell("one-way call %llu \"%s\" on session %d: %s", (unsigned long long)c.number, name, h->k,
	     err ? sb_error_name(err) : "sent");
	sim_note((uint64_t)(uint32_t)err);
	if (err)
		judge_error(&c, sb_last_error());
	else
		used_by(h, c.began_ms);
}

static void make_call(struct handle *h, const char *name, int shelf, int64_t k)
{
	static const uint32_t timeouts[] = { 5, 50, 1000, 120000 };
	struct one_call c = { .handle = h, .name = name, .number = w.next_call, .expected = w.next_call };
	sb_request request = SB_REQUEST_INIT;
	sb_value *value = NULL;
	sb_ref ref;
	int err;

	if (w.next_call == CALLS)
		return;
	w.next_call++;
	c.timeout_ms = timeouts[sim_below(4)];
	request.timeout_ms = c.timeout_ms;
	request.name = name;
	request.args = sb_args_pack("ii", (int)c.number, (int)k);
	if (shelf >= 0) {
		ref = w.shelf[shelf].ref;
		c.expected = w.shelf[shelf].number;
		c.target = request.target = &ref;
		request.verb = SB_VERB_METHOD;
	} else {
		w.s[h->k].hosts |= UINT32_C(1) << sim_self()->index; /* it may elect this process */
		w.s[h->k].refs_made += strcmp(name, "make") == 0;
	}
	c.owner = designated_owner(h->k);
	c.incarnation = w.s[h->k].incarnation;
	if (knows_another_owner(h, c.incarnation))
		c.owner = NULL;
	c.began_ms = now_ms();
	c.stopped_ns = sim_self()->stopped_until_ns;
	w.h->tally.calls++;
	use_begin(h->k);
	err = invoke(h, &request, &value);
	use_end(h->k);
	tell("call %llu \"%s\" on session %d: %s", (unsigned long long)c.number, name, h->k,
	     err ? sb_error_name(err) : "a value");
	sim_note((uint64_t)(uint32_t)err);
	if (err) {
		judge_error(&c, sb_last_error());
		if (sb_last_error()->outcome == SB_OUTCOME_EXCEPTION)
			used_by(h, c.began_ms);
		if (sb_last_error()->outcome == SB_OUTCOME_UNKNOWN &&
		    w.s[h->k].maybe_ms < now_ms() + (uint64_t)k)
			w.s[h->k].maybe_ms = now_ms() + (uint64_t)k; /* it runs on */
	} else {
		judge_value(&c, value);
		used_by(h, c.began_ms);
	}
	judge_time(&c, err);
	sb_value_free(value);
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

static void do_drop_ref(struct handle *h, int shelf)
{
	sb_ref ref = w.shelf[shelf].ref;
	bool dropped;

	w.s[h->k].refs_released++;
	use_begin(h->k);
	(void)sb_ref_release(h->s, &ref, &dropped);
	use_end(h->k);
	tell("drop the ref of call %llu", (unsigned long long)w.shelf[shelf].number);
}

static void do_call(struct handle *h)
{
	static const char *const names[] = { "make", "make", "echo", "echo", "raise", "work", "hang" };
	int shelf = (int)sim_below(SHELF);

	if (w.shelf[shelf].set && w.shelf[shelf].k == h->k && sim_below(3)) {
		if (sim_below(8) == 0)
			do_drop_ref(h, shelf);
		else
			make_call(h, "get", shelf, 0);
		return;
	}
	if (sim_below(8) == 0) {
		make_oneway(h, names[2 + sim_below(5)], (int64_t)sim_below(sim_below(4) ? 20 : 3000));
		return;
	}
	make_call(h, names[sim_below(7)], -1, (int64_t)sim_below(sim_below(4) ? 20 : 3000));
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

	if (!h->s)
		do_open(app, bridge, h);
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

/* ── the reaper ── */

struct pass {
	uint64_t began_ms;
	bool gone[SIM_PROCS_MAX]; /* before it began */
	struct sb__sweep_result result;
};

static void check_pass(const struct pass *pass)
{
	struct sim_thread *(*decide_then)(enum sim_point) = quiet_begin();
	struct sb__identity *records = NULL;
	size_t count = 0;

	(void)sb__store_processes(sim_bridge_store(), &records, &count);
	for (unsigned i = 0; i < w.app_count; i++)
		for (size_t r = 0; r < count; r++)
			if (w.apps[i].identity && records[r].incarnation == w.apps[i].identity &&
			    pass->gone[w.apps[i].proc->index] &&
			    ++w.apps[i].passes > 1) /* one may join what it left meanwhile */
				wrong("pid %d, dead, is still there after a pass of the reaper (pass of %llu "
				      "ms)",
				      (int)w.apps[i].proc->pid,
				      (unsigned long long)(pass->began_ms - 1000000));
	sim_free(records);
	for (int k = 0; k < SESSIONS; k++) {
		uint64_t ttl_ms = (uint64_t)w.s[k].options.ttl_seconds * 1000;
		struct sb__session_rec rec;

		if (ttl_ms && !w.s[k].uses && w.s[k].maybe_ms + ttl_ms + TICK_MS < pass->began_ms &&
		    sb__store_session_get(sim_bridge_store(), w.s[k].id, &rec) == 1 &&
		    rec.state != SB_SESSION_STARTING &&
		    (rec.state != SB_SESSION_ORPHANED ||
		     rec.expires_ms < pass->began_ms)) /* that begins it anew */
			wrong("session %d, of TTL %llu ms, used at %llu ms perhaps, is still there after a "
			      "pass of the reaper that "
			      "began at %llu ms: state %u",
			      k, (unsigned long long)ttl_ms, (unsigned long long)w.s[k].maybe_ms - 1000000,
			      (unsigned long long)pass->began_ms - 1000000, rec.state);
	}
	sim.decide = decide_then;
}

static void tell_verdict(void *arg, const struct sb__verdict *v)
{
	(void)arg;
	tell("  %s: slot %u, pid %d, incarnation %llu, code %d, %s", sb__verdict_kind_name(v->kind), v->slot,
	     (int)v->pid, (unsigned long long)v->incarnation, v->code, v->evidence);
}

static void sweep(struct sb__bridge_dir *dir, bool files)
{
	struct sb__sweep_options options = { .files = files, .report = w.h->tell ? tell_verdict : NULL };
	struct pass pass = { .began_ms = now_ms() };
	int err;

	for (unsigned i = 0; i < sim.proc_count; i++)
		pass.gone[i] = sim.procs[i].gone && !sim.procs[i].zombie;
	err = sb__reaper_sweep(sim_bridge_store(), dir, &options, &pass.result);
	w.h->tally.sweeps++;
	tell("a pass of the reaper%s", files ? ", with files" : "");
	if (err)
		wrong("the reaper: %s", sb_last_error()->message);
	else if (pass.result.failed || pass.result.damaged)
		wrong("the reaper: %u failed, damaged %d: %s", pass.result.failed, pass.result.damaged,
		      sb_last_error()->message);
	else if (pass.result.complete)
		check_pass(&pass);
}

static void *reaper_main(void *arg)
{
	struct sb__bridge_dir dir;

	(void)arg;
	sim_bridge_dir(&dir);
	while (!w.over) {
		sim_sleep(sim_below(1500) * MS);
		sweep(&dir, sim_below(3) == 0);
	}
	return NULL;
}

/* ── the end ── */

static void *release_all(void *arg)
{
	sb_bridge *bridge;

	(void)arg;
	if (sb_bridge_open(NULL, NULL, &bridge) != 0)
		return NULL;
	for (int k = 0; k < SESSIONS; k++) {
		w.s[k].releases_begun++;
		(void)sb_session_release(bridge, w.s[k].id, NULL);
	}
	sb_bridge_close(bridge);
	sim_sleep(5000 * MS); /* dedicated owners see it and end */
	return NULL;
}

static void *last_sweeps(void *arg)
{
	struct sb__bridge_dir dir;

	(void)arg;
	sim_bridge_dir(&dir);
	sweep(&dir, true);
	sim_sleep(100 * MS);
	sweep(&dir, true);
	return NULL;
}

static int tell_file(void *arg, const char *name)
{
	(void)arg;
	wrong("file %s is left", name);
	return 0;
}

/* Ended by force, too: the next history finds none. */
static int left_session(void *arg, const struct sb__session_rec *rec)
{
	(void)arg;
	wrong("session %s is left: state %u, %u owners, persistent %u", rec->session_id, rec->state,
	      rec->owner_count, rec->persistent);
	(void)sb__store_session_end(sim_bridge_store(), rec->session_id, 0, SB__END_RELEASED, NULL);
	return 0;
}

static void problem(void *arg, const char *line)
{
	(void)arg;
	wrong("the store: %s", line);
}

static void check_end(void)
{
	struct sb__identity *records = NULL;
	size_t count = 0;

	(void)sb__store_sessions(sim_bridge_store(), left_session, NULL);
	(void)sb__store_processes(sim_bridge_store(), &records, &count);
	for (size_t i = 0; i < count; i++) {
		wrong("the record of pid %d is left", (int)records[i].pid);
		(void)sb__store_process_remove(sim_bridge_store(), records[i].slot, records[i].generation);
	}
	sim_free(records);
	for (int dir = SIM_DIR_MAILBOX; dir < SIM_DIRS; dir++)
		(void)sim_file_each((enum sim_dir)dir, tell_file, NULL);
	if (w.h->seed % 64 == 0)
		(void)sb__store_verify(sim_bridge_store(), problem, NULL);
}

/* Whoever is left is killed: stopped ones, those that hang. */
static void kill_the_rest(void)
{
	for (unsigned i = 0; i < sim.proc_count; i++) {
		sim.procs[i].zombie = false;
		sim_kill(&sim.procs[i], 0);
		sim_proc_gone(&sim.procs[i]);
	}
}

/* Also after a history that went wrong: the next one finds the store empty. */
static void end_all(void)
{
	int bug = sim.bug;

	sim.bug = w.h->wrong[0] ? SIM_BUG_NONE : sim.bug;
	sim_call(sim_proc_new(), release_all, NULL);
	kill_the_rest();
	/* A dedicated owner whose opener was killed may have begun a persistent session after that. */
	sim_call(sim_proc_new(), release_all, NULL);
	kill_the_rest();
	sim_call(sim_proc_new(), last_sweeps, NULL);
	check_end();
	sim.bug = bug;
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
