/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a random history: what explains each outcome, and what it must not be. */
#include "history_impl.h"

#include <string.h>

#include "sim_bridge.h"

/* ── what may be ── */

void used(int k, uint64_t since_ms)
{
	struct modelled *s = &w.s[k];
	uint64_t ttl_ms = (uint64_t)s->options.ttl_seconds * 1000;

	if (ttl_ms && since_ms > s->sure_ms && since_ms - s->sure_ms + SLACK_MS >= ttl_ms)
		s->idled = true;
	if (since_ms > s->sure_ms)
		s->sure_ms = since_ms;
}

void use_begin(int k)
{
	w.s[k].uses++;
	if (w.s[k].maybe_ms < now_ms())
		w.s[k].maybe_ms = now_ms();
}

void use_end(int k)
{
	w.s[k].uses--;
	if (w.s[k].maybe_ms < now_ms())
		w.s[k].maybe_ms = now_ms();
}

bool may_have_expired(int k)
{
	const struct modelled *s = &w.s[k];
	uint64_t ttl_ms = (uint64_t)s->options.ttl_seconds * 1000;

	return ttl_ms && (s->idled || now_ms() - s->sure_ms + SLACK_MS >= ttl_ms);
}

bool may_have_expired_since(int k, uint64_t since_ms)
{
	uint64_t ttl_ms = (uint64_t)w.s[k].options.ttl_seconds * 1000;

	return ttl_ms && now_ms() - since_ms + SLACK_MS >= ttl_ms;
}

bool may_be_released(const struct handle *h)
{
	return w.s[h->k].releases_begun > h->releases;
}

/* A ref may be of an earlier session of the id, which its last owner's leaving ended. */
bool session_may_be(int code, const struct handle *h, bool of_ref)
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

void began(uint64_t number, uint64_t incarnation)
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
	c->order = ++w.runs;
	if (c->oneway && w.s[c->k].maybe_ms < now_ms() + c->works_ms)
		w.s[c->k].maybe_ms = now_ms() + c->works_ms; /* a use that its sender knows nothing of */
	if (c->ran > 1)
		wrong("call %llu ran twice", (unsigned long long)number);
	if (c->told_not)
		wrong("call %llu ran after its caller was told that it had not", (unsigned long long)number);
}

/* The session ends, or its designated owner leaves, while calls run. */
static bool owner_may_go(const struct handle *h)
{
	return w.s[h->k].lost || may_be_released(h) || may_have_expired(h->k);
}

void judge_error(const struct one_call *c, const sb_error *e)
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
	if (e->code == SB_EPYTHON && c->asked) /* the function's, or its asker was not answered */
		explained &= c->asked->raised || now_ms() + 1 >= c->began_ms + c->timeout_ms ||
		             owner_may_go(c->handle);
	if (e->code == SB_ENOVIEW) /* its maker or its owner leaves */
		explained = e->outcome == SB_OUTCOME_EXCEPTION &&
		            (owner_may_go(c->handle) || array_may_be_gone(c->gives));
	if (e->code == SB_ECANCELLED) /* the rest of a batch; the end of its session cancels it as well */
		explained = e->outcome == SB_OUTCOME_REFUSED &&
		            (c->stopped || (c->item && owner_may_go(c->handle)));
	if (e->code == SB_EINVAL)
		explained = e->outcome == SB_OUTCOME_REFUSED && c->unfounded;
	if (e->code == SB_EPROTOCOL)
		explained = array_may_be_gone(c->along) || array_may_be_gone(c->gives);
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

void judge_value(const struct one_call *c, const sb_value *v)
{
	const sb_ref *ref = sb_value_ref(v);
	int64_t got = 0;

	w.h->tally.values++;
	if (w.calls[c->number].ran != 1)
		wrong("call %llu \"%s\": a value, but it ran %u times", (unsigned long long)c->number,
		      c->name, w.calls[c->number].ran);
	if (c->gives) {
		judge_array(v, c->gives);
	} else if (strcmp(c->name, "make") == 0 || strcmp(c->name, "keep") == 0) {
		unsigned at = (unsigned)sim_below(SHELF);

		if (!ref) {
			wrong("call %llu: no ref", (unsigned long long)c->number);
			return;
		}
		w.shelf[at].set = true;
		w.shelf[at].k = c->handle->k;
		w.shelf[at].ref = *ref;
		w.shelf[at].number = c->along ? c->along : c->number;
		w.shelf[at].array = c->along;
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
void used_by(const struct handle *h, uint64_t since_ms)
{
	(void)designated_owner(h->k);
	if (w.s[h->k].uid == h->s->uid)
		used(h->k, since_ms);
}

/* As a call that is waited for, or as one in flight that is waited for now and then. */
static int invoke(const struct handle *h, const sb_request *request, bool at_once, sb_value **ret_value)
{
	sb_future *future;
	int err;

	if (at_once || sim_below(4))
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

static struct sb_args *arguments(const struct one_call *c, const struct wish *wish)
{
	w.calls[c->number].array = c->along;
	if (wish->asked)
		return sb_args("iik", (int)c->number, (int)wish->k, answer, wish->asked);
	if (wish->along)
		return sb_args_pack("iia", (int)c->number, (int)wish->k, wish->along->array);
	return sb_args_pack("ii", (int)c->number, (int)(wish->makes ? (int64_t)wish->makes : wish->k));
}

/* Sent, and no more is known of it but that it runs once at most. */
void make_oneway(struct handle *h, const struct wish *wish)
{
	static const uint32_t timeouts[] = { 50, 1000, 120000 };
	struct one_call c = { .handle = h,
		              .name = wish->name,
		              .number = w.next_call,
		              .along = wish->along ? wish->along->number : 0 };
	sb_request request = SB_REQUEST_INIT;
	int err;

	if (w.next_call == CALLS)
		return;
	w.next_call++;
	request.timeout_ms = c.timeout_ms = timeouts[sim_below(3)];
	request.name = c.name;
	request.args = arguments(&c, wish);
	request.flags = SB_CALL_ONEWAY;
	w.calls[c.number].oneway = true;
	w.calls[c.number].k = h->k;
	w.calls[c.number].works_ms = (uint64_t)wish->k;
	w.s[h->k].refs_made += strcmp(c.name, "keep") == 0;
	w.s[h->k].hosts |= UINT32_C(1) << sim_self()->index;
	c.began_ms = now_ms();
	w.h->tally.oneways++;
	use_begin(h->k);
	err = sb_invoke(h->s, &request, NULL);
	use_end(h->k);
	tell("one-way call %llu \"%s\" on session %d: %s", (unsigned long long)c.number, c.name, h->k,
	     err ? sb_error_name(err) : "sent");
	sim_note((uint64_t)(uint32_t)err);
	if (err)
		judge_error(&c, sb_last_error());
	else
		used_by(h, c.began_ms);
}

void make_call(struct handle *h, const struct wish *wish)
{
	static const uint32_t timeouts[] = { 5, 50, 1000, 120000 };
	struct one_call c = { .handle = h,
		              .name = wish->name,
		              .number = w.next_call,
		              .expected = w.next_call,
		              .along = wish->along ? wish->along->number : 0,
		              .gives = wish->makes,
		              .asked = wish->asked };
	sb_request request = SB_REQUEST_INIT;
	sb_value *value = NULL;
	sb_ref ref;
	int err;

	if (w.next_call == CALLS)
		return;
	w.next_call++;
	c.timeout_ms = timeouts[sim_below(4)];
	request.timeout_ms = c.timeout_ms;
	request.name = c.name;
	request.args = arguments(&c, wish);
	if (wish->makes)
		w.arrays[wish->makes].call = c.number;
	if (c.along)
		c.expected = c.along;
	if (c.asked) {
		*c.asked = (struct asked){ .app = me(),
			                   .handle = h,
			                   .thread = sim.current,
			                   .number = c.number,
			                   .most = 1 + (unsigned)wish->k % 2,
			                   .waits = true };
		c.expected = c.number * c.asked->most;
	}
	if (wish->shelf >= 0) {
		ref = w.shelf[wish->shelf].ref;
		c.expected = w.shelf[wish->shelf].number;
		if (strcmp(c.name, "view") == 0)
			c.gives = w.shelf[wish->shelf].array;
		c.target = request.target = &ref;
		request.verb = SB_VERB_METHOD;
	} else {
		w.s[h->k].hosts |= UINT32_C(1) << sim_self()->index; /* it may elect this process */
		w.s[h->k].refs_made += strcmp(c.name, "make") == 0 || strcmp(c.name, "keep") == 0;
	}
	c.owner = designated_owner(h->k);
	c.incarnation = w.s[h->k].incarnation;
	if (knows_another_owner(h, c.incarnation))
		c.owner = NULL;
	c.began_ms = now_ms();
	c.stopped_ns = sim_self()->stopped_until_ns;
	w.h->tally.calls++;
	use_begin(h->k);
	err = invoke(h, &request, wish->asked != NULL, &value);
	use_end(h->k);
	if (c.asked) {
		c.asked->waits = false;
		if (!err && c.asked->times != c.asked->most)
			wrong("call %llu: a value, but its function ran %u times",
			      (unsigned long long)c.number, c.asked->times);
	}
	tell("call %llu \"%s\" on session %d: %s", (unsigned long long)c.number, c.name, h->k,
	     err ? sb_error_name(err) : "a value");
	sim_note((uint64_t)(uint32_t)err);
	if (err) {
		judge_error(&c, sb_last_error());
		if (sb_last_error()->outcome == SB_OUTCOME_EXCEPTION)
			used_by(h, c.began_ms);
		if (sb_last_error()->outcome == SB_OUTCOME_UNKNOWN &&
		    w.s[h->k].maybe_ms < now_ms() + (uint64_t)wish->k)
			w.s[h->k].maybe_ms = now_ms() + (uint64_t)wish->k; /* it runs on */
	} else {
		judge_value(&c, value);
		used_by(h, c.began_ms);
	}
	if (!c.asked) /* functions take their time */
		judge_time(&c, err);
	sb_value_free(value);
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

void do_call(struct handle *h)
{
	static const char *const names[] = { "make", "make", "echo", "echo", "raise", "work", "hang" };
	int shelf = (int)sim_below(SHELF);
	struct wish wish = { .shelf = -1 };

	if (w.shelf[shelf].set && w.shelf[shelf].k == h->k && sim_below(3)) {
		if (sim_below(8) == 0)
			do_drop_ref(h, shelf);
		else
			make_call(h, &(struct wish){ .name = w.shelf[shelf].array && sim_below(2) ? "view"
			                                                                          : "get",
			                             .shelf = shelf });
		return;
	}
	wish.k = (int64_t)sim_below(sim_below(4) ? 20 : 3000);
	if (sim_below(8) == 0) {
		wish.name = names[2 + sim_below(5)];
		make_oneway(h, &wish);
		return;
	}
	wish.name = names[sim_below(7)];
	make_call(h, &wish);
}
