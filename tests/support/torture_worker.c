/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of sb-torture do, and what they may be told: an error is allowed only if the fault that explains it
 * was under way during the act.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "torture.h"

#define STEADY_MS 60000 /* a call there may take so long, however busy the machine is */
#define VICTIM_MS 3000

struct torture *torture;

static const char *const fault_names[] = {
#define FAULT_NAME(constant, name) name,
	TORTURE_FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

const char *torture_fault_name(enum torture_fault fault)
{
	return fault_names[fault];
}

uint64_t torture_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void torture_violation(const char *format, ...)
{
	uint32_t n = atomic_fetch_add(&torture->violations, 1);
	va_list args;

	if (n >= TORTURE_REPORTS)
		return;
	va_start(args, format);
	vsnprintf(torture->reports[n], sizeof(torture->reports[n]), format, args);
	va_end(args);
}

void torture_before(struct torture_before *before)
{
	for (int f = 0; f < FAULTS; f++)
		before->over[f] = atomic_load(&torture->faults[f].over);
}

bool torture_overlaps(const struct torture_before *before, enum torture_fault fault)
{
	return atomic_load(&torture->faults[fault].begun) > before->over[fault];
}

/* ── one act ── */

struct worker {
	int number;
	unsigned seed;
	sb_bridge *bridge;
	sb_session *steady;
};

struct act {
	struct worker *w;
	const char *what;
	bool steady; /* on a session that nothing happens to */
	struct torture_before before;
};

static unsigned roll(struct worker *w, unsigned n)
{
	return (unsigned)rand_r(&w->seed) % n;
}

static struct act act_begin(struct worker *w, const char *what, bool steady)
{
	struct act a = { .w = w, .what = what, .steady = steady };

	torture_before(&a.before);
	atomic_store(&torture->doing[w->number].what, what);
	atomic_store(&torture->doing[w->number].since_ms, torture_now_ms());
	return a;
}

static void act_end(struct act *a)
{
	atomic_store(&torture->doing[a->w->number].since_ms, 0);
	atomic_fetch_add(&torture->acts, 1);
}

static bool starting_may_fail(const struct torture_before *b)
{
	return torture_overlaps(b, FAULT_KILL_OWNER) || torture_overlaps(b, FAULT_STOP_OWNER) ||
	       torture_overlaps(b, FAULT_FULL) || torture_overlaps(b, FAULT_READERS) ||
	       torture_overlaps(b, FAULT_PROCESSES);
}

/* Whether what else was done explains the code. Nothing ever explains a bug, damage, or nonsense from a peer. */
static bool explained(const struct act *a, int err)
{
	const struct torture_before *b = &a->before;

	switch (err) {
	case 0: return true;
	case SB_ENOSPACE: return torture_overlaps(b, FAULT_FULL);
	case SB_ESTORE: return torture_overlaps(b, FAULT_FULL) || torture_overlaps(b, FAULT_READERS);
	case SB_EPROCESSES: return torture_overlaps(b, FAULT_PROCESSES);
	case SB_ESTART: return !a->steady && starting_may_fail(b);
	case SB_ELANES: return !a->steady && torture_overlaps(b, FAULT_LANES);
	case SB_ETIMEOUT: return !a->steady;
	case SB_EOWNERDIED:
	case SB_ERELEASED:
	case SB_ENOSESSION: return !a->steady;
	default: return false;
	}
}

/* Counts and judges; true: it went well. */
static bool judge(const struct act *a, int err)
{
	atomic_fetch_add(&torture->codes[-err < TORTURE_CODES ? -err : TORTURE_CODES - 1], 1);
	if (!explained(a, err))
		torture_violation("worker %d, %s: %s (outcome %d): %s", a->w->number, a->what,
		                  sb_error_name(err), sb_last_error()->outcome, sb_last_error()->message);
	return err == 0;
}

static int open_session(sb_bridge *bridge, const char *id, sb_designated designated, uint32_t timeout_ms,
                        sb_session **ret)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;

	o.session_id = id;
	o.designated = designated;
	o.timeout_ms = timeout_ms;
	return sb_session_open(bridge, &o, ret);
}

/* ── on the steady session ── */

/* Each number is marked once. The caller notes what it was told; torture_settle() compares. */
static void mark(struct worker *w)
{
	struct act a = act_begin(w, "marking", true);
	uint32_t n = atomic_fetch_add(&torture->next_mark, 1);
	sb_value *v = NULL;
	int64_t got = -1;
	int err;

	if (n >= TORTURE_MARKS)
		return;
	atomic_store(&torture->marks[n], MARK_SENT);
	err = sb_method(w->steady, &torture->mark, "__call__", sb_args("i", (int64_t)n), &v);
	if (judge(&a, err)) {
		atomic_store(&torture->marks[n], MARK_RAN);
		if (sb_value_int(v, &got) || got != (int64_t)n)
			torture_violation("worker %d marked %u and was told %lld", w->number, n,
			                  (long long)got);
		sb_value_free(v);
	} else if (sb_last_error()->outcome == SB_OUTCOME_REFUSED) {
		atomic_store(&torture->marks[n], MARK_REFUSED);
	}
	act_end(&a);
}

static void check_length(const struct act *a, sb_value *v, int64_t length)
{
	int64_t got = -1;

	if (sb_value_int(v, &got) || got != length)
		torture_violation("worker %d, %s: %lld instead of %lld", a->w->number, a->what,
		                  (long long)got, (long long)length);
	sb_value_free(v);
}

/* More than fits a lane: through this process's arena. */
static void send_much(struct worker *w)
{
	struct act a = act_begin(w, "sending much", true);
	size_t len = 5000 + roll(w, 300000);
	char *bytes = calloc(1, len);
	sb_value *v = NULL;

	if (judge(&a, sb_call(w->steady, "builtins:len", sb_args("y", bytes, len), &v)))
		check_length(&a, v, (int64_t)len);
	free(bytes);
	act_end(&a);
}

static void start_several(struct worker *w)
{
	struct act a = act_begin(w, "calls in flight", true);
	sb_future *futures[8] = { NULL };

	for (int i = 0; i < 8; i++) {
		sb_request r = SB_REQUEST_INIT;

		r.name = "builtins:abs";
		r.args = sb_args("i", (int64_t)-i);
		judge(&a, sb_call_start(w->steady, &r, &futures[i]));
	}
	for (int i = 0; i < 8; i++) {
		sb_value *v = NULL;

		if (futures[i] && judge(&a, sb_future_wait(futures[i], SB_WAIT_FOREVER, &v)))
			check_length(&a, v, i);
		sb_future_free(futures[i]);
	}
	act_end(&a);
}

struct threaded {
	struct act *a;
	int64_t number;
};

static void *call_in_thread(void *arg)
{
	struct threaded *t = arg;
	sb_value *v = NULL;

	if (judge(t->a, sb_call(t->a->w->steady, "builtins:abs", sb_args("i", t->number), &v)))
		check_length(t->a, v, t->number);
	return NULL;
}

static void call_from_threads(struct worker *w)
{
	struct act a = act_begin(w, "calling from threads", true);
	struct threaded t[4];
	pthread_t threads[4];
	int n = 0;

	for (; n < 4; n++) {
		t[n] = (struct threaded){ &a, n + 10 };
		if (pthread_create(&threads[n], NULL, call_in_thread, &t[n]))
			break;
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	act_end(&a);
}

/* ── on sessions whose designated owners suffer ── */

static void tell_owner(sb_session *s, int i)
{
	sb_session_info info = { .size = sizeof(info) };

	if (sb_session_get_info(s, &info) == 0 && info.state == SB_SESSION_ACTIVE && info.designated_pid > 1)
		atomic_store(&torture->owners[i], info.designated_pid);
}

/* Makes a list there and fills it: its length is what went well, and at most one more that nobody knows of. */
static void fill_list(struct act *a, sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *list = NULL, *v = NULL;
	int64_t sure = 0, length = -1;
	bool unknown = false;

	r.name = "builtins:list";
	r.flags = SB_CALL_AS_REF;
	if (!judge(a, sb_invoke(s, &r, &list)))
		return;
	for (int i = 0; i < 5 && !unknown; i++) {
		int err = sb_method(s, sb_value_ref(list), "append", sb_args("i", (int64_t)i), NULL);

		sure += judge(a, err);
		unknown = err && sb_last_error()->outcome == SB_OUTCOME_UNKNOWN;
	}
	if (judge(a, sb_method(s, sb_value_ref(list), "__len__", NULL, &v))) {
		if (sb_value_int(v, &length) || length < sure || length > sure + unknown)
			torture_violation("worker %d: %lld appends went well, the list has %lld",
			                  a->w->number, (long long)sure, (long long)length);
		sb_value_free(v);
	}
	sb_value_free(list);
}

static void visit_victim(struct worker *w)
{
	struct act a = act_begin(w, "using a victim", false);
	int i = (int)roll(w, TORTURE_VICTIMS);
	sb_session *s = NULL;
	char id[32];

	snprintf(id, sizeof(id), "victim-%d", i);
	if (judge(&a, open_session(w->bridge, id, SB_DESIGNATED_DEDICATED, VICTIM_MS, &s))) {
		tell_owner(s, i);
		fill_list(&a, s);
		sb_session_close(s);
	}
	act_end(&a);
}

static void visit_shared(struct worker *w)
{
	struct act a = act_begin(w, "using a shared session", false);
	sb_session *s = NULL;
	char id[32];

	snprintf(id, sizeof(id), "shared-%u", roll(w, TORTURE_SHARED));
	if (judge(&a, open_session(w->bridge, id, SB_DESIGNATED_SELF, VICTIM_MS, &s))) {
		fill_list(&a, s);
		if (roll(w, 10) == 0)
			judge(&a, sb_session_release(w->bridge, id, NULL));
		sb_session_close(s);
	}
	act_end(&a);
}

/* ── processes ── */

/* What keeps it from opening must be a fault that is under way; then it tries again. */
static bool attach(struct worker *w)
{
	while (!atomic_load(&torture->stop)) {
		struct act a = act_begin(w, "attaching", true);
		bool ok = judge(&a, sb_bridge_open(torture->dir, NULL, &w->bridge)) &&
		          judge(&a, open_session(w->bridge, "steady", SB_DESIGNATED_DEDICATED, STEADY_MS,
		                                 &w->steady));

		act_end(&a);
		if (ok)
			return true;
		if (w->bridge)
			sb_bridge_close(w->bridge);
		w->bridge = NULL;
		usleep(20000);
	}
	return false;
}

static void one_act(struct worker *w)
{
	static void (*const acts[])(struct worker * w) = {
		mark,          mark,         mark,         mark,         send_much,
		start_several, visit_victim, visit_victim, visit_shared, call_from_threads
	};

	acts[roll(w, sizeof(acts) / sizeof(acts[0]))](w);
}

int torture_worker(int number, unsigned seed)
{
	struct worker w = { .number = number, .seed = seed };

	atomic_fetch_add(&torture->workers_begun, 1);
	if (!attach(&w))
		return 0;
	while (!atomic_load(&torture->stop))
		one_act(&w);
	sb_bridge_close(w.bridge);
	return 0;
}

int torture_bystander(void)
{
	sb_bridge *bridge;
	sb_session *s;

	if (sb_bridge_open(torture->dir, NULL, &bridge) ||
	    open_session(bridge, "steady", SB_DESIGNATED_DEDICATED, STEADY_MS, &s))
		return 1;
	for (int64_t i = 0; !atomic_load(&torture->stop); i++) {
		struct timespec a, b;
		uint64_t us, most;
		sb_value *v = NULL;
		int64_t got = -1;
		int err;

		clock_gettime(CLOCK_MONOTONIC, &a);
		err = sb_call(s, "builtins:abs", sb_args("i", -i), &v);
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (err || sb_value_int(v, &got) || got != i)
			torture_violation("a bystander's call: %s: %s", sb_error_name(err),
			                  sb_last_error()->message);
		sb_value_free(v);
		us = (uint64_t)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
		most = atomic_load(&torture->bystander_most_us);
		if (us > most)
			atomic_store(&torture->bystander_most_us, us);
		atomic_fetch_add(&torture->bystander_calls, 1);
		usleep(500);
	}
	sb_bridge_close(bridge);
	return 0;
}

/* ── the ledger ── */

static int as_ref(sb_session *s, const char *name, const sb_ref *target, sb_args *args, sb_ref *ret)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	int err;

	r.verb = target ? SB_VERB_METHOD : SB_VERB_CALL;
	r.target = target;
	r.name = name;
	r.args = args;
	r.flags = SB_CALL_AS_REF;
	err = sb_invoke(s, &r, &v);
	if (!err)
		*ret = *sb_value_ref(v);
	sb_value_free(v);
	return err;
}

int torture_prepare(void)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_bridge *bridge;
	sb_ref names;
	char source[160];
	int err = sb_bridge_open(torture->dir, NULL, &bridge);

	o.session_id = "steady";
	o.designated = SB_DESIGNATED_DEDICATED;
	o.persistent = 1;
	o.ttl_seconds = 0;
	snprintf(source, sizeof(source), "L = bytearray(%d)\ndef mark(i):\n    L[i] += 1\n    return i\n",
	         TORTURE_MARKS);
	if (!err)
		err = sb_session_open(bridge, &o, &s);
	if (!err)
		err = as_ref(s, "builtins:dict", NULL, NULL, &names);
	if (!err)
		err = sb_call(s, "builtins:exec", sb_args("sr", source, &names), NULL);
	if (!err)
		err = as_ref(s, "__getitem__", &names, sb_args("s", "mark"), &torture->mark);
	if (!err)
		err = sb_ref_pin(s, &torture->mark, NULL);
	if (err)
		fprintf(stderr, "preparing: %s\n", sb_last_error()->message);
	else
		sb_bridge_close(bridge);
	return err ? 1 : 0;
}

static void compare(const unsigned char *ran, size_t len)
{
	uint32_t n = atomic_load(&torture->next_mark);

	if (n > len)
		n = (uint32_t)len;
	for (uint32_t i = 0; i < n; i++) {
		unsigned told = atomic_load(&torture->marks[i]);

		if (ran[i] > 1 || (told == MARK_RAN && ran[i] != 1) || (told == MARK_REFUSED && ran[i]))
			torture_violation("call %u ran %u times, its caller was told %s", i, ran[i],
			                  told == MARK_RAN       ? "that it ran"
			                  : told == MARK_REFUSED ? "that it did not run"
			                                         : "nothing certain");
	}
}

int torture_settle(void)
{
	sb_bridge *bridge;
	sb_session *s = NULL;
	sb_value *v = NULL;
	sb_ref globals;
	const unsigned char *bytes = NULL;
	size_t len = 0;
	int err = sb_bridge_open(torture->dir, NULL, &bridge);

	if (!err)
		err = open_session(bridge, "steady", SB_DESIGNATED_DEDICATED, STEADY_MS, &s);
	if (!err)
		err = as_ref(s, "__getattribute__", &torture->mark, sb_args("s", "__globals__"), &globals);
	if (!err)
		err = sb_method(s, &globals, "__getitem__", sb_args("s", "L"), &v);
	if (!err)
		bytes = sb_value_bytes(v, &len);
	if (!bytes) {
		torture_violation("reading the ledger: %s", sb_last_error()->message);
		return 1;
	}
	compare(bytes, len);
	sb_value_free(v);
	sb_session_release(bridge, "steady", NULL);
	sb_bridge_close(bridge);
	return 0;
}
