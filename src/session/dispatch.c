/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call's way: resolve its session, check its refs, run it here (designated owner) or through the
 * mailbox, and turn what came back into a value or an error with an outcome.
 *
 * Nothing here takes an LMDB transaction unless something went wrong: the call path is the thread's lane,
 * the mailbox and the bell.
 *
 * Crash: a killed caller's lane is taken back by its word; see shm/layout.h.
 */
#include <string.h>

#include "arrays.h"
#include "asked.h"
#include "clock.h"
#include "core.h"
#include "engine.h"
#include "fail.h"
#include "ids.h"
#include "message.h"
#include "os_linux.h"
#include "value_impl.h"
#include "way.h"

#define MS UINT64_C(1000000)

/* ── errors of calls ── */

int sb__way_refused(const struct sb__way *c, int code)
{
	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	sb__fail_set_trace(c->trace_id);
	return code;
}

static int mismatch(const struct sb__way *c, const char *ref_session, const char *role)
{
	int err;

	if (sb__is_item_session(ref_session))
		return sb__way_refused(
			c, sb__fail(SB_EINVAL,
		                    "%s: the %s is the result of a batch's item (sb_batch_ref()): "
		                    "that is known only to later items of the same batch",
		                    sb__way_label(c), role));
	err = sb__fail(SB_EREFSESSION,
	               "%s: the %s is a ref of session \"%s\", but the call goes to session \"%s\": use "
	               "it in its own session",
	               sb__way_label(c), role, ref_session, c->id);

	sb__fail_set_sessions(c->id, ref_session);
	return sb__way_refused(c, err);
}

static int check_references(const struct sb__way *c)
{
	const sb_ref *target = c->request->target;
	const struct sb_args *args = c->request->args;

	if (target && strcmp(target->session_id, c->id) != 0)
		return mismatch(c, target->session_id, "target");
	for (size_t i = 0; args && i < args->ref_count; i++)
		if (strcmp(args->refs[i].session_id, c->id) != 0)
			return mismatch(c, args->refs[i].session_id, "argument");
	return sb__arrays_check(c->session->core, args) ? sb__way_refused(c, SB_EINVAL) : 0;
}

/* A ref of another incarnation than this handle is at: says what ended it. SB__AGAIN: nothing did, the session moved on to it
 * and we have not noticed. */
static int stale(const struct sb__way *c, uint64_t incarnation)
{
	int err = sb__incarnation_explain(c->session->core, c->id, incarnation, sb__way_label(c));

	return err ? sb__way_refused(c, err) : SB__AGAIN;
}

static int check_incarnations(const struct sb__way *c, const struct sb__attachment *a)
{
	const sb_ref *target = c->request->target;
	const struct sb_args *args = c->request->args;

	if (target && target->incarnation != a->incarnation)
		return stale(c, target->incarnation);
	for (size_t i = 0; args && i < args->ref_count; i++)
		if (args->refs[i].incarnation != a->incarnation)
			return stale(c, args->refs[i].incarnation);
	return 0;
}

static int timed_out(const struct sb__way *c, int outcome)
{
	int err = outcome == SB_OUTCOME_REFUSED ? sb__fail(SB_ETIMEOUT,
	                                                   "%s: not started within %u ms, so nothing ran "
	                                                   "(the designated owner of session \"%s\" is busy)",
	                                                   sb__way_label(c), c->timeout_ms, c->id)
	                                        : sb__fail(SB_ETIMEOUT,
	                                                   "%s: no reply within %u ms; it was running in "
	                                                   "session \"%s\" and may still finish",
	                                                   sb__way_label(c), c->timeout_ms, c->id);

	sb__fail_set_outcome(outcome);
	sb__fail_set_sessions(c->id, NULL);
	sb__fail_set_trace(c->trace_id);
	return err;
}

static int cancelled(const struct sb__way *c)
{
	int err = sb__fail(SB_ECANCELLED, "%s: cancelled before it began, so nothing ran", sb__way_label(c));

	sb__fail_set_sessions(c->id, NULL);
	return sb__way_refused(c, err);
}

/* An owner whose session has ended leaves, and its leaving may be seen before the end: what ended the session is what
 * happened. 0 if it is not over but for its owner. */
static int ended_before(const struct sb__way *c, const struct sb__attachment *a)
{
	int why = c->session
	                  ? sb__incarnation_explain(c->session->core, c->id, a->incarnation, sb__way_label(c))
	                  : 0;

	return why == SB_ERELEASED || why == SB_EEXPIRED ? why : 0;
}

static int died(const struct sb__way *c, struct sb__attachment *a, int outcome)
{
	bool sure = c->session && sb__session_note_death(c->session, a);
	int err = sure ? 0 : ended_before(c, a);

	if (err) {
		sb__fail_set_outcome(outcome);
		sb__fail_set_trace(c->trace_id);
		return err;
	}
	err = sb__fail(SB_EOWNERDIED,
	               "%s: the designated owner (pid %d) of session \"%s\" died%s; its objects are gone: "
	               "make them again",
	               sb__way_label(c), (int)sb__mailbox_header(a->mailbox)->owner.pid, c->id,
	               outcome == SB_OUTCOME_UNKNOWN ? " while the call was running, so it may have run"
	                                             : " before the call started");

	sb__fail_set_outcome(outcome);
	sb__fail_set_sessions(c->id, NULL);
	sb__fail_set_trace(c->trace_id);
	return err;
}

static int ended(const struct sb__way *c, struct sb__attachment *a, int outcome)
{
	unsigned state = sb__mailbox_state(a->mailbox);
	bool expired = state == SB__MAILBOX_EXPIRED;
	int err;

	if (state == SB__MAILBOX_ORPHANED) /* its owner stopped serving: the same as its death */
		return died(c, a, outcome);
	err = sb__fail(expired ? SB_EEXPIRED : SB_ERELEASED,
	               "%s: session \"%s\" was %s%s; open it again, its old refs are gone", sb__way_label(c),
	               c->id, expired ? "idle for its TTL and expired" : "released",
	               outcome == SB_OUTCOME_UNKNOWN ? " while the call was running" : "");
	sb__fail_set_outcome(outcome);
	sb__fail_set_sessions(c->id, NULL);
	sb__fail_set_trace(c->trace_id);
	return err;
}

/* Did the last failure come before the call ran? Else it must not be tried again. */
static bool was_refused(void)
{
	return sb_last_error()->outcome == SB_OUTCOME_REFUSED;
}

/* ── here ── */

static int finish(const struct sb__way *c, struct sb__attachment *a, const struct sb__buf *reply,
                  sb_value **ret_value)
{
	int err;

	if (sb__reply_is_none(reply)) {
		if (ret_value)
			*ret_value = sb__value_none();
		return 0;
	}
	if (reply->error) {
		err = sb__fail(reply->error, "%s: the reply could not be taken", sb__way_label(c));
		sb__fail_set_outcome(SB_OUTCOME_EXCEPTION);
	} else {
		err = sb__reply_decode_shared(reply->data, reply->len, c->id,
		                              sb__space_blocks(c->session->core->space), ret_value);
	}
	/* The end of a session cancels what waits for its turn, and interrupts what runs: say why. */
	if (err == SB_ECANCELLED && sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return ended(c, a, was_refused() ? SB_OUTCOME_REFUSED : SB_OUTCOME_UNKNOWN);
	if (err) {
		sb__fail_set_trace(c->trace_id);
		sb__fail_set_sessions(c->id, NULL);
	}
	return err;
}

/* The two argument containers; without any they are what they always are. */
static void own_arguments(struct sb__own_request *own, const sb_args *args, struct sb__buf *buf)
{
	static const uint8_t none[] = { SB__MAJOR_ARRAY | 0, SB__MAJOR_MAP | 0 };

	own->arguments = none;
	own->arguments_len = sizeof(none);
	if (!args)
		return;
	sb__arguments_encode(buf, args);
	own->arguments = buf->data;
	own->arguments_len = buf->len;
}

int sb__way_here(const struct sb__way *c, struct sb__attachment *a, const struct sb__asker *asker,
                 sb_value **ret_value)
{
	const sb_request *r = c->request;
	struct sb__own_request own = { .verb = r->verb,
		                       .flags = r->flags,
		                       .target = r->verb == SB_VERB_BATCH ? NULL : r->target,
		                       .name = r->name };
	struct sb__own_call call = { .way = c, .request = &own, .asker = asker };
	uint8_t arguments_memory[512], reply_memory[1024];
	struct sb__kept_list kept = { .items = NULL };
	struct sb__buf arguments, reply;
	int err;

	if (sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return SB__AGAIN; /* another process ended it just now; our keeper will see that in a moment */
	sb__buf_init(&arguments, arguments_memory, sizeof(arguments_memory));
	sb__buf_init(&reply, reply_memory, sizeof(reply_memory));
	own_arguments(&own, r->args, &arguments);
	if (arguments.error) {
		err = sb__way_refused(
			c, sb__fail(arguments.error, "%s: the arguments cannot be sent", sb__way_label(c)));
	} else {
		sb__mailbox_touch(a->mailbox, c->began_ms);
		if (atomic_load_explicit(&a->any_oneway, memory_order_relaxed))
			sb__oneways_settle(a);
		err = sb__hosted_execute(a->hosted, &call, &reply, &kept);
		if (!err)
			err = finish(c, a, &reply, ret_value);
	}
	if (kept.items)
		sb__kept_drop(&kept);
	if (arguments.heap)
		sb__buf_free(&arguments);
	if (reply.heap)
		sb__buf_free(&reply);
	return err;
}

/* ── both ways ── */

/* A session that was idle for its TTL has ended, also where nobody had the time to end it. */
static int check_idle(const struct sb__way *c, struct sb__attachment *a)
{
	uint64_t ttl_ms = sb__mailbox_header(a->mailbox)->ttl_ms;
	uint64_t last = sb__load(&sb__mailbox_control(a->mailbox)->last_access_ms), now = c->began_ms;
	struct sb__session_rec rec;

	if (!ttl_ms || now <= last || now - last < ttl_ms)
		return 0;
	if (sb__store_session_get(c->session->core->store, c->id, &rec) == 1 &&
	    rec.incarnation == a->incarnation && sb__session_expire_idle(c->session->core, &rec) == 1)
		return SB__AGAIN;
	return 0;
}

/* ── through the mailbox ── */

bool sb__way_alive(void *arg)
{
	return sb__attachment_owner_alive(arg);
}

static int is_of_another(void *arg, sb_array *array)
{
	const struct sb__identity *owner = arg;

	return array->shared &&
	       (array->block.slot != owner->slot || array->block.generation != owner->generation);
}

/* A reply stands in its lane though its owner died: then nothing but our hold, if it was there before the reaper dropped the
 * owner's, keeps what lies in a third process's arena, or in ours; and the owner's own files may be gone. A look at the life token
 * after the hold was taken tells (tests/model/holds.pml, REPLIES). */
static int kept_in_time(const struct sb__way *c, struct sb__attachment *a, uint32_t lane,
                        const sb_value *value, int err)
{
	struct sb__identity owner = sb__mailbox_header(a->mailbox)->owner;

	if (!sb__lane_reply_stands(a->mailbox, lane))
		return ended(c, a, SB_OUTCOME_UNKNOWN);
	if ((err || sb__value_each_array(value, is_of_another, &owner)) && !sb__attachment_owner_alive(a))
		return died(c, a, SB_OUTCOME_UNKNOWN);
	return err;
}

int sb__way_take(const struct sb__way *c, struct sb__attachment *a, uint32_t lane, struct sb__buf *reply,
                 sb_value **ret_value)
{
	sb_value *value = NULL;
	int err = sb__lane_reply(a->mailbox, lane, c->session->core->arenas, reply);

	if (err) {
		sb__fail_set_outcome(SB_OUTCOME_UNKNOWN); /* it ran, but what it gave is lost */
		sb__fail_set_trace(c->trace_id);
	} else {
		err = finish(c, a, reply, ret_value ? &value : NULL);
	}
	/* Arrays are kept now, or could not be. If the owner took the reply back before, they may be others' by now. */
	if (err == SB_EPROTOCOL || sb__value_has_arrays(value))
		err = kept_in_time(c, a, lane, value, err);
	if (err) {
		sb_value_free(value);
		value = NULL;
	}
	sb__lane_consume(a->mailbox, lane);
	if (!err && ret_value)
		*ret_value = value;
	return err;
}

static int take_reply(const struct sb__way *c, struct sb__attachment *a, uint32_t lane, sb_value **ret_value)
{
	uint8_t memory[SB__INLINE_MAX];
	struct sb__buf reply;
	int err;

	sb__buf_init(&reply, memory, sizeof(memory));
	err = sb__way_take(c, a, lane, &reply, ret_value);
	sb__buf_free(&reply);
	return err;
}

static void limit_request(const struct sb__way *c, struct sb__attachment *a, struct sb__buf *buf)
{
	uint64_t ours = sb__core_number(c->session->core, SB__CONFIG_MAX_REQUEST_BYTES);
	uint64_t theirs = sb__mailbox_header(a->mailbox)->max_request_bytes;

	if (theirs && theirs < ours)
		ours = theirs;
	if (ours < buf->limit)
		buf->limit = ours;
}

int sb__way_encode(const struct sb__way *c, struct sb__attachment *a, uint32_t lane, struct sb__buf *buf)
{
	int err;

	sb__lane_request(a->mailbox, lane, buf);
	limit_request(c, a, buf);
	sb__request_encode(buf, c->request);
	if (!buf->error)
		return 0;
	err = buf->error == SB_ETOOBIG
	              ? sb__fail(buf->error,
	                         "%s: the request takes more than %zu bytes (max_request_bytes): send it in "
	                         "parts, or raise the quota here and where the session's objects live",
	                         sb__way_label(c), buf->limit)
	              : sb__fail(buf->error, "%s: the arguments cannot be sent (%zu bytes or more)",
	                         sb__way_label(c), buf->len);
	sb__buf_free(buf);
	return sb__way_refused(c, err);
}

struct sb__lane_post sb__way_post(const struct sb__way *c)
{
	return (struct sb__lane_post){ .deadline_ns = c->deadline_ns,
		                       .trace_id = c->trace_id,
		                       .now_ms = c->began_ms,
		                       .label = sb__way_label(c),
		                       .arena = c->session->core->arena };
}

int sb__way_no_lane(const struct sb__way *c, int code)
{
	if (code == SB_ERELEASED || code == SB_EEXPIRED || code == SB_EOWNERDIED)
		return SB__AGAIN; /* the store knows why */
	return sb__way_refused(c, code);
}

int sb__way_call(const struct sb__way *c, struct sb__attachment *a, uint32_t lane, struct sb__lane_post *post,
                 enum sb__lane_result *ret, bool *ret_late)
{
	/* A host program's Python thread may come here from C code with the GIL held; whoever answers may need it. */
	const struct sb__engine *engine = sb__engine_loaded();
	struct sb__buf buf;
	void *gil;
	int err = sb__way_encode(c, a, lane, &buf);

	if (err)
		return err;
	sb__thread_after(a, post);
	gil = engine ? engine->gil_release() : NULL;
	err = post->answering
	              ? sb__lane_call_asked(a->mailbox, &a->peer->bell, lane, &buf, post, sb__way_alive, a,
	                                    ret, ret_late)
	              : sb__lane_call(a->mailbox, &a->peer->bell, lane, &buf, post, sb__way_alive, a, ret);
	if (gil)
		engine->gil_restore(gil);
	return err ? sb__way_refused(c, err) : 0;
}

int sb__way_failed(const struct sb__way *c, struct sb__attachment *a, enum sb__lane_result result)
{
	switch (result) {
	case SB__LANE_NOT_STARTED: return timed_out(c, SB_OUTCOME_REFUSED);
	case SB__LANE_DIED_NOT_STARTED: return died(c, a, SB_OUTCOME_REFUSED);
	case SB__LANE_DIED_MAYBE: return died(c, a, SB_OUTCOME_UNKNOWN);
	case SB__LANE_ENDED: return ended(c, a, SB_OUTCOME_REFUSED);
	case SB__LANE_WAS_CANCELLED: return cancelled(c);
	case SB__LANE_REPLIED:
	case SB__LANE_FORKED:
	case SB__LANE_MAYBE: break;
	}
	if (sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return ended(c, a, SB_OUTCOME_UNKNOWN);
	return timed_out(c, SB_OUTCOME_UNKNOWN);
}

static int call_there(const struct sb__way *c, struct sb__attachment *a, sb_value **ret_value)
{
	struct sb__lane_post post = sb__way_post(c);
	enum sb__lane_result result;
	uint32_t lane;
	int err;

	if (sb__bell_owner_died(&a->peer->bell) || sb__mailbox_state(a->mailbox) != SB__MAILBOX_SERVING)
		return SB__AGAIN;
	err = sb__thread_lane(a, &lane);
	if (err)
		return sb__way_no_lane(c, err);
	sb__mailbox_touch(a->mailbox, c->began_ms);
	err = sb__way_call(c, a, lane, &post, &result, NULL);
	if (err)
		return err;
	if (result == SB__LANE_REPLIED)
		return take_reply(c, a, lane, ret_value);
	if (result == SB__LANE_DIED_MAYBE || result == SB__LANE_MAYBE)
		sb__thread_lane_lost(a);
	return sb__way_failed(c, a, result);
}

static int call(struct sb__way *c, struct sb__attachment *a, void *ret_value)
{
	if (sb__way_is_asked(c))
		return sb__way_asked(c, a, ret_value);
	return a->hosted ? sb__way_here(c, a, NULL, ret_value) : call_there(c, a, ret_value);
}

/* ── the way ── */

static bool creates(const sb_request *request)
{
	return request->verb == SB_VERB_CALL || request->verb == SB_VERB_GET ||
	       (request->verb == SB_VERB_BATCH && !request->target);
}

/* The session has no designated owner. What became of the target's own incarnation comes first: it may have ended
 * otherwise, long before, or never have been. */
static int why_not(const struct sb__way *c, int code)
{
	const sb_ref *target = c->request->target;
	int why = 0;

	if (target && code == SB_EOWNERDIED)
		why = sb__incarnation_explain(c->session->core, c->id, target->incarnation, sb__way_label(c));
	return why ? why : code;
}

/* Is there anything that ends when the deadline has passed? Not in a call that this very thread runs, but for these. */
static bool has_deadline(const struct sb__way *c, const struct sb__attachment *a)
{
	sb_verb verb = c->request->verb;

	return !a->hosted || c->deliver != call || sb__way_is_asked(c) || verb == SB_VERB_NEXT ||
	       verb == SB_VERB_CLOSE || verb == SB_VERB_BATCH;
}

#define EXACT_MS  1000u /* of a longer wait nobody misses what the coarse clock may be behind */
#define BEHIND_MS 11u   /* at most, where the kernel ticks a hundred times a second */

static void set_deadline(struct sb__way *c)
{
	if (c->deadline_ns)
		return;
	if (c->timeout_ms < EXACT_MS)
		c->deadline_ns = sb__now_ns() + c->timeout_ms * MS;
	else
		c->deadline_ns = (c->began_ms + BEHIND_MS + c->timeout_ms) * MS;
}

static int send(struct sb__way *c)
{
	struct sb__attachment *a;
	int err = check_references(c);

	if (err)
		return err;

	for (;;) {
		err = sb__session_enter(c->session);
		if (err)
			return sb__way_refused(c, err);
		a = atomic_load_explicit(&c->session->attached, memory_order_acquire);
		err = a ? check_incarnations(c, a) : SB__AGAIN;
		if (err && err != SB__AGAIN)
			return err;
		if (!err)
			err = check_idle(c, a);
		if (!err) {
			if (has_deadline(c, a))
				set_deadline(c);
			err = c->deliver(c, a, c->arg);
		}
		if (err == SB_ERELEASED && a && a->hosted && was_refused())
			err = SB__AGAIN; /* ended under us: the store knows why */
		if (err != SB__AGAIN)
			return err;
		set_deadline(c); /* what follows may take long */
		err = sb__session_recover(c->session, a, creates(c->request));
		if (err)
			return sb__way_refused(c, why_not(c, err));
		c->began_ms = sb__now_coarse_ms();
	}
}

static uint64_t make_trace(struct sb__way_thread *t)
{
	uint64_t epoch = sb__fork_epoch();

	if (!t->trace_last || t->trace_epoch != epoch) {
		t->trace_epoch = epoch;
		if (sb__random(&t->trace_last, sizeof(t->trace_last)))
			t->trace_last = sb__now_ns();
	}
	t->trace_last += UINT64_C(0x9e3779b97f4a7c15);
	return t->trace_last ? t->trace_last : 1;
}

static uint32_t timeout_of(const sb_session *session, const sb_request *request)
{
	if (request->timeout_ms)
		return request->timeout_ms;
	return session->timeout_ms ? session->timeout_ms
	                           : (uint32_t)sb__core_number(session->core, SB__CONFIG_TIMEOUT_MS);
}

/* Not inline: there each use of the address would be a call. */
__attribute__((noinline)) struct sb__way_thread *sb__way_thread(void)
{
	static __thread struct sb__way_thread thread;

	return &thread;
}

uint64_t sb__call_trace(void)
{
	return sb__way_thread()->trace_now;
}

static int begin(struct sb__way *c, sb_session *named)
{
	const sb_request *request = c->request;
	int err;

	if (request->args && request->args->error)
		return sb__way_refused(c, sb__fail(request->args->error, "%s: %s", sb__way_label(c),
		                                   request->args->message));
	err = sb__resolve(named, request->target, &c->session);
	if (err)
		return sb__way_refused(c, err);
	c->id = c->session->id;
	c->timeout_ms = timeout_of(c->session, request);
	c->began_ms = sb__now_coarse_ms();
	return send(c);
}

int sb__way_go(struct sb__way *c, sb_session *named)
{
	struct sb__way_thread *thread = c->thread = sb__way_thread();
	uint64_t outer = thread->trace_now; /* Python that runs here may call in turn */
	int err;

	c->trace_id = c->request->trace_id ? c->request->trace_id : make_trace(thread);
	thread->trace_now = c->trace_id;
	err = begin(c, named);
	thread->trace_now = outer;
	return err;
}

int sb__invoke(sb_session *named, const sb_request *request, sb_value **ret_value)
{
	struct sb__way c = { .request = request, .deliver = call, .arg = ret_value };

	return sb__way_go(&c, named);
}

int sb__invoke_where(sb_session *named, const sb_request *request, sb_value **ret_value,
                     char ret_session_id[SB_SESSION_ID_MAX + 1])
{
	struct sb__way c = { .request = request, .deliver = call, .arg = ret_value };
	int err = sb__way_go(&c, named);

	if (!err)
		memcpy(ret_session_id, c.id, strlen(c.id) + 1);
	return err;
}
