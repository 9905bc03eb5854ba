/* SPDX-License-Identifier: Apache-2.0 */
/* What refs are: identity, limits, eviction, expiry, pins, facts. Both where the objects live and through the mailbox. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"

static sb_session_info info_of(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	return info;
}

/* The owner writes its counts just after a reply. */
static bool live_comes_to(sb_session *s, uint64_t refs)
{
	for (int i = 0; i < 30000 && info_of(s).live_refs != refs; i++)
		usleep(1000);
	return info_of(s).live_refs == refs;
}

static bool same(const sb_ref *a, const sb_ref *b)
{
	return a->incarnation == b->incarnation && a->slot == b->slot && a->generation == b->generation &&
	       memcmp(a->nonce, b->nonce, sizeof(a->nonce)) == 0 && strcmp(a->session_id, b->session_id) == 0;
}

/* A session of its own, in the same place as p's. */
static sb_session *open_session(struct place *p, const char *id, int64_t max_refs, int64_t ttl_seconds,
                                sb_on_full on_full)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = info_of(p->s);
	sb_session *s = NULL;

	options.session_id = id;
	options.designated = info.designated_pid == getpid() ? SB_DESIGNATED_SELF : SB_DESIGNATED_DEDICATED;
	options.max_refs = max_refs;
	options.ttl_seconds = ttl_seconds;
	options.on_full = on_full;
	assert_ok(sb_session_open(p->f->bridge, &options, &s));
	return s;
}

static sb_ref make(sb_session *s)
{
	sb_value *value = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, "builtins:object", NULL, &value));
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

static int use(sb_session *s, const sb_ref *ref)
{
	return sb_repr(s, ref, NULL);
}

/* ── 15, 16 ── */

static void test_15_identity_across_results_and_processes(void **state)
{
	struct place *p = *state;
	sb_ref list = place_ref(p, "[object()] * 3");
	sb_value *a = NULL, *b = NULL;
	sb_ref other;

	assert_ok(sb_getitem(p->s, &list, sb_args("i", 0), &a));
	assert_ok(sb_method(p->s, &list, "copy", NULL, &b));
	for (size_t i = 0; i < 3; i++)
		assert_true(same(sb_value_ref(a), sb_value_ref(sb_value_at(b, i))));
	/* It goes with its ref: made anew, it is another. */
	assert_ok(sb_ref_release(p->s, sb_value_ref(a), NULL));
	other = *sb_value_ref(a);
	sb_value_free(a);
	sb_value_free(b);
	assert_ok(sb_getitem(p->s, &list, sb_args("i", 0), &a));
	assert_false(same(sb_value_ref(a), &other));
	assert_int_equal(use(p->s, &other), SB_EREFRELEASED);
	sb_value_free(a);
}

static void test_15_cycles_end_in_a_ref(void **state)
{
	struct place *p = *state;
	sb_value *v = NULL;

	place_exec(p, "cycle = [1]\ncycle.append(cycle)\n");
	assert_ok(place_eval(p, "cycle", 0, &v));
	assert_int_equal(sb_value_kind(v), SB_KIND_LIST);
	assert_string_equal(sb_value_ref(sb_value_at(v, 1))->type_name, "builtins.list");
	sb_value_free(v);
}

static void test_15_failed_encoding_leaves_no_refs(void **state)
{
	struct place *p = *state;
	sb_session *s = open_session(p, "strict", 3, SB_UNSET, SB_ON_FULL_ERROR);
	sb_ref first = make(s);
	sb_value *v = NULL;

	/* Room for two, three are needed. */
	assert_int_equal(
		sb_call(s, "builtins:eval", sb_args("s{}", "[1, [object(), {'k': object()}], object()]"), &v),
		SB_EREFSFULL);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION); /* it ran */
	assert_true(live_comes_to(s, 1));
	assert_ok(sb_call(s, "builtins:eval", sb_args("s{}", "[object(), object()]"), &v));
	sb_value_free(v);
	assert_true(live_comes_to(s, 3));
	assert_ok(use(s, &first));
	assert_int_equal(info_of(s).evicted_refs, 0);
	assert_int_equal(info_of(s).max_refs, 3);
	sb_session_close(s);
}

static void plain(struct place *p, const char *source, const char *type_name, const char *expect)
{
	char check[512];
	sb_value *v = NULL, *back = NULL;

	/* As it is: a ref. */
	assert_ok(place_eval(p, source, 0, &v));
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	assert_string_equal(sb_value_ref(v)->type_name, type_name);
	sb_value_free(v);
	/* Plain: its base value, of exactly that type. */
	assert_ok(place_eval(p, source, SB_CALL_PLAIN, &v));
	assert_int_not_equal(sb_value_kind(v), SB_KIND_REF);
	snprintf(check, sizeof(check), "%s", expect);
	assert_ok(sb_call(p->s, "builtins:repr", sb_args("o", v), &back));
	assert_string_equal(sb_value_str(back, NULL), check);
	sb_value_free(back);
	sb_value_free(v);
}

static void test_16_plain_values_of_subclasses(void **state)
{
	struct place *p = *state;
	sb_request both = SB_REQUEST_INIT;
	sb_value *v = NULL;

	place_exec(p, "import collections, enum\n"
	              "class Text(str): pass\n"
	              "class Number(int): pass\n"
	              "class Real(float): pass\n"
	              "class Raw(bytes): pass\n"
	              "class Row(list): pass\n"
	              "class Color(enum.IntEnum):\n    RED = 3\n"
	              "Point = collections.namedtuple('Point', 'x y')\n"
	              "ordered = collections.OrderedDict(a=1, b=2)\n"
	              "ordered.move_to_end('a')\n"
	              "default = collections.defaultdict(list, k=[1])\n");
	plain(p, "collections.Counter('aab')", "collections.Counter", "{'a': 2, 'b': 1}");
	plain(p, "ordered", "collections.OrderedDict", "{'b': 2, 'a': 1}");
	plain(p, "default", "collections.defaultdict", "{'k': [1]}");
	plain(p, "Point(1, Point(2, 3))", "__main__.Point", "(1, (2, 3))");
	plain(p, "Color.RED", "builtins.Color", "3");
	plain(p, "Text('x')", "builtins.Text", "'x'");
	plain(p, "Number(7)", "builtins.Number", "7");
	plain(p, "Real(0.5)", "builtins.Real", "0.5");
	plain(p, "Raw(b'r')", "builtins.Raw", "b'r'");
	plain(p, "Row([Row()])", "builtins.Row", "[[]]");
	/* At leaf level, and what has no base value stays a ref. */
	assert_ok(place_eval(p, "[Text('x'), object()]", SB_CALL_PLAIN, &v));
	assert_string_equal(sb_value_str(sb_value_at(v, 0), NULL), "x");
	assert_int_equal(sb_value_kind(sb_value_at(v, 1)), SB_KIND_REF);
	sb_value_free(v);
	both.name = "builtins:int";
	both.flags = SB_CALL_PLAIN | SB_CALL_AS_REF;
	assert_int_equal(sb_invoke(p->s, &both, &v), SB_EINVAL);
}

/* ── 17 ── */

static void test_17_eviction_is_by_last_use(void **state)
{
	struct place *p = *state;
	sb_session *s = open_session(p, "small", 3, SB_UNSET, SB_ON_FULL_EVICT);
	sb_ref a = make(s), b = make(s), c = make(s), d;

	assert_ok(use(s, &a)); /* b is now the one that was used last of all */
	d = make(s);
	assert_int_equal(use(s, &b), SB_EREFEVICTED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_ok(use(s, &a));
	assert_ok(use(s, &c));
	assert_ok(use(s, &d));
	assert_true(live_comes_to(s, 3));
	assert_int_equal(info_of(s).evicted_refs, 1);
	assert_int_equal(info_of(s).created_refs, 4);
	sb_session_close(s);
}

static void test_17_never_of_the_running_call(void **state)
{
	struct place *p = *state;
	sb_session *s = open_session(p, "small", 3, SB_UNSET, SB_ON_FULL_EVICT);
	sb_ref a = make(s), b = make(s);
	sb_value *v = NULL;

	/* Its arguments are safe: two of three stay, one fits, two do not. */
	make(s);
	assert_ok(sb_call(s, "builtins:eval", sb_args("s{srsr}", "[x, y, object()]", "x", &a, "y", &b), &v));
	assert_true(same(sb_value_ref(sb_value_at(v, 0)), &a));
	assert_true(same(sb_value_ref(sb_value_at(v, 1)), &b));
	sb_value_free(v);
	assert_int_equal(
		sb_call(s, "builtins:eval", sb_args("s{srsr}", "[object(), object()]", "x", &a, "y", &b), &v),
		SB_EREFSFULL);
	assert_ok(use(s, &a));
	assert_ok(use(s, &b));
	/* And its result: more than may live at all. */
	assert_int_equal(sb_call(s, "builtins:eval", sb_args("s{}", "[object() for i in range(4)]"), &v),
	                 SB_EREFSFULL);
	sb_session_close(s);
}

static void test_17_pins(void **state)
{
	struct place *p = *state;
	sb_session *s = open_session(p, "small", 2, SB_UNSET, SB_ON_FULL_EVICT);
	sb_ref a = make(s), b, c;
	uint32_t pins = 99;
	sb_value *v = NULL;

	assert_ok(sb_ref_pin(s, &a, &pins));
	assert_int_equal(pins, 1);
	assert_ok(sb_ref_pin(s, &a, &pins)); /* they count */
	assert_int_equal(pins, 2);
	for (int i = 0; i < 20; i++)
		b = make(s);
	assert_ok(use(s, &a));
	assert_ok(use(s, &b));
	assert_true(live_comes_to(s, 2));
	assert_int_equal(info_of(s).evicted_refs, 19);
	assert_int_equal(info_of(s).pinned_refs, 1);
	/* All pinned: then there is no room, and nothing is lost. */
	assert_ok(sb_ref_pin(s, &b, NULL));
	assert_int_equal(sb_call(s, "builtins:object", NULL, &v), SB_EREFSFULL);
	assert_ok(use(s, &a));
	assert_ok(use(s, &b));
	/* Unpinned to the last, it can go. */
	assert_ok(sb_ref_unpin(s, &a, &pins));
	assert_int_equal(pins, 1);
	assert_int_equal(sb_call(s, "builtins:object", NULL, &v), SB_EREFSFULL);
	assert_ok(sb_ref_unpin(s, &a, &pins));
	assert_ok(sb_ref_unpin(s, &a, &pins));
	assert_int_equal(pins, 0);
	c = make(s);
	assert_int_equal(use(s, &a), SB_EREFEVICTED);
	assert_int_equal(sb_ref_pin(s, &a, &pins), SB_EREFEVICTED);
	assert_int_equal(sb_ref_unpin(s, &a, &pins), SB_EREFEVICTED);
	assert_ok(use(s, &c));
	/* A pinned one can be released. */
	assert_ok(sb_ref_release(s, &b, NULL));
	assert_int_equal(use(s, &b), SB_EREFRELEASED);
	assert_true(live_comes_to(s, 1));
	assert_int_equal(info_of(s).pinned_refs, 0);
	sb_session_close(s);
}

/* ── 13 ── */

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As in test_ttl.c: where the machine held the test up for as long as the TTL, nothing is shown, and it is tried with a longer one. */
static void in_time(void **state, bool (*try_with)(struct place *p, int64_t ttl))
{
	int64_t ttl = 1;

	while (!try_with(*state, ttl)) {
		print_message("too late for a TTL of %d s\n", (int)ttl);
		ttl *= 3;
		assert_true(ttl <= 9);
	}
}

/* What came of a use, which was to be well and came within half a TTL after since_s or not. */
static bool is_late(int err, double since_s, int64_t ttl)
{
	if ((err == SB_EEXPIRED || err == SB_EREFEXPIRED) && now_s() - since_s >= (double)ttl / 2)
		return true;
	assert_ok(err);
	return false;
}

/* The session and one ref are used all the time. Only that ref lives on; the timer drops the others. */
static bool ref_expires(struct place *p, int64_t ttl)
{
	double begun = now_s(), last = begun;
	sb_session *s = open_session(p, "brief", SB_UNSET, ttl, SB_ON_FULL_EVICT);
	sb_ref idle = make(s), used = make(s), pinned = make(s);
	bool late = is_late(sb_ref_pin(s, &pinned, NULL), begun, ttl);

	while (!late && info_of(s).live_refs != 1 && now_s() - begun < 60 * (double)ttl) {
		double before = now_s();

		late = is_late(use(s, &used), last, ttl);
		last = before;
		pause_ms(ttl * 100);
	}
	late = late || is_late(use(s, &used), last, ttl);
	if (!late) {
		assert_true(live_comes_to(s, 1));
		assert_int_equal(info_of(s).expired_refs, 2);
		assert_int_equal(info_of(s).evicted_refs, 0);
		assert_true(now_s() - begun >= (double)ttl * 0.9);
		assert_int_equal(use(s, &idle), SB_EREFEXPIRED);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
		assert_int_equal(use(s, &pinned), SB_EREFEXPIRED); /* a pin keeps from eviction only */
		last = now_s();
		late = is_late(use(s, &used), last, ttl);
	}
	sb_session_close(s);
	return !late;
}

static void test_13_ttl_of_a_ref(void **state)
{
	in_time(state, ref_expires);
}

/* Asked often how long it was idle, and used once past the TTL: expired, whoever noticed it first. */
static bool ref_expired_on_access(struct place *p, int64_t ttl)
{
	double last = now_s();
	sb_session *s = open_session(p, "brief", SB_UNSET, ttl, SB_ON_FULL_EVICT);
	sb_ref idle = make(s);
	bool late = false;
	int err = 0;

	while (!late) {
		sb_ref_info info = { .size = sizeof(info) };
		double before = now_s();

		late = is_late(sb_call(s, "builtins:int", NULL, NULL), last, ttl); /* the session is in use */
		last = before;
		err = late ? 0 : sb_ref_get_info(s, &idle, &info);
		if (err || info.idle_ms > ttl * 1000 + 10)
			break;
		pause_ms(10);
	}
	if (!late) {
		assert_true(err == 0 || err == SB_EREFEXPIRED);
		err = use(s, &idle);
		late = err == SB_EEXPIRED && is_late(err, last, ttl);
		assert_true(late || err == SB_EREFEXPIRED);
	}
	sb_session_close(s);
	return !late;
}

static void test_13_ttl_on_access(void **state)
{
	in_time(state, ref_expired_on_access);
}

/* ── 20 ── */

static int facts_in_child(void *arg)
{
	const struct {
		sb_session *s;
		sb_ref ref;
		int32_t creator;
	} *a = arg;
	sb_ref_info info = { .size = sizeof(info) };

	if (sb_ref_get_info(a->s, &a->ref, &info))
		return 1;
	if (strcmp(info.type_name, "collections.Counter") || info.creator_pid != a->creator)
		return 2;
	return 0;
}

static void test_20_facts_without_a_round_trip(void **state)
{
	struct place *p = *state;
	struct {
		sb_session *s;
		sb_ref ref;
		int32_t creator;
	} arg = { .s = p->s, .creator = getpid() };
	sb_ref_info info = { .size = sizeof(info) };
	int32_t owner = info_of(p->s).designated_pid;
	sb_value *v = NULL;
	uint64_t calls;
	char text[SB_REF_TEXT_MAX];
	sb_ref parsed;

	assert_ok(sb_call(p->s, "collections:Counter", NULL, &v));
	arg.ref = *sb_value_ref(v);
	sb_value_free(v);
	assert_ok(sb_ref_pin(p->s, &arg.ref, NULL));
	pause_ms(50);
	/* Nobody is asked: not an owner that is stopped, and here no call is counted. */
	calls = info_of(p->s).calls;
	if (owner != getpid())
		kill(owner, SIGSTOP);
	assert_ok(sb_ref_get_info(p->s, &arg.ref, &info));
	if (owner != getpid())
		kill(owner, SIGCONT);
	else
		assert_int_equal(info_of(p->s).calls, calls);
	assert_string_equal(info.type_name, "collections.Counter");
	assert_string_equal(info.type_module, "collections");
	assert_string_equal(info.session_id, "place");
	assert_int_equal(info.incarnation, arg.ref.incarnation);
	assert_int_equal(info.creator_pid, getpid());
	assert_int_equal(info.pins, 1);
	assert_true(info.age_ms >= 40 && info.age_ms < 60000);
	assert_true(info.idle_ms >= 40 && info.idle_ms <= info.age_ms + 10);
	/* By its printed form, which has no type, and through the ref's own session. */
	assert_ok(sb_ref_format(&arg.ref, text, sizeof(text)));
	assert_ok(sb_ref_parse(text, &parsed));
	assert_ok(sb_ref_get_info(NULL, &parsed, &info));
	assert_string_equal(info.type_name, "collections.Counter");
	/* In another process. */
	assert_int_equal(fixture_wait(fixture_fork(facts_in_child, &arg)), 0);
	/* A caller built against an earlier header gets what it knows. */
	memset(&info, 'x', sizeof(info));
	info.size = offsetof(sb_ref_info, creator_pid);
	assert_ok(sb_ref_get_info(p->s, &arg.ref, &info));
	assert_int_equal(info.creator_pid, 0x78787878);
	info.size = 0;
	assert_int_equal(sb_ref_get_info(p->s, &arg.ref, &info), SB_EINVAL);
}

static void test_18_20_facts_of_stale_refs(void **state)
{
	struct place *p = *state;
	sb_session *other = open_session(p, "other", SB_UNSET, SB_UNSET, SB_ON_FULL_UNSET);
	sb_ref ref = make(p->s), next, wrong;
	sb_ref_info info = { .size = sizeof(info) };

	assert_int_equal(sb_ref_get_info(other, &ref, &info), SB_EREFSESSION);
	assert_string_equal(sb_last_error()->session_id, "other");
	assert_string_equal(sb_last_error()->other_session_id, "place");
	assert_ok(sb_ref_release(p->s, &ref, NULL));
	assert_int_equal(sb_ref_get_info(p->s, &ref, &info), SB_EREFRELEASED);
	next = make(p->s); /* in the same slot */
	assert_int_equal(next.slot, ref.slot);
	assert_int_equal(sb_ref_get_info(p->s, &ref, &info), SB_EREFRELEASED);
	assert_ok(sb_ref_get_info(p->s, &next, &info));
	wrong = next;
	wrong.generation++;
	assert_int_equal(sb_ref_get_info(p->s, &wrong, &info), SB_EREFUNKNOWN);
	wrong.slot = 1000000;
	assert_int_equal(sb_ref_get_info(p->s, &wrong, &info), SB_EREFUNKNOWN);
	sb_ref far = make(other);
	assert_ok(sb_session_release(p->f->bridge, "other", NULL));
	assert_int_equal(sb_ref_get_info(other, &far, &info), SB_ERELEASED);
	sb_session_close(other);
}

static void test_33_a_guess_reaches_nothing(void **state)
{
	struct place *p = *state;
	sb_ref ref = make(p->s), guess = ref;

	for (int byte = 0; byte < 16; byte++)
		for (int bit = 0; bit < 8; bit += 3) {
			guess = ref;
			guess.nonce[byte] ^= (uint8_t)(1 << bit);
			assert_int_equal(use(p->s, &guess), SB_EREFUNKNOWN);
			assert_int_equal(sb_ref_pin(p->s, &guess, NULL), SB_EREFUNKNOWN);
		}
	assert_ok(use(p->s, &ref));
}

/* ── a reply that nobody takes ── */

static void test_31_late_reply_leaves_no_refs(void **state)
{
	struct place *p = *state;
	sb_request request = SB_REQUEST_INIT;
	sb_value *v = NULL;
	sb_ref kept;

	if (info_of(p->s).designated_pid == getpid())
		return; /* here a caller waits for its call whatever the deadline */
	place_exec(
		p,
		"import time\nkept = object()\nfresh = []\n"
		"def slow():\n"
		"    try:\n" /* it is interrupted when its caller has gone, and gives a result all the same */
		"        while True: time.sleep(0.01)\n"
		"    except BaseException:\n"
		"        pass\n"
		"    fresh.append(object())\n"
		"    return [kept, fresh[0], object()]\n");
	kept = place_ref(p, "kept");
	sb_ref slow = place_ref(p, "slow");
	uint64_t before = 3;

	request.verb = SB_VERB_METHOD;
	request.target = &slow;
	request.name = "__call__";
	request.timeout_ms = 200;
	assert_true(live_comes_to(p->s, before));
	do /* one that did not begin in time shows nothing */
		assert_int_equal(sb_invoke(p->s, &request, &v), SB_ETIMEOUT);
	while (sb_last_error()->outcome == SB_OUTCOME_REFUSED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_UNKNOWN);
	for (int i = 0; i < 3000 && place_int(p, "len(fresh)") == 0; i++)
		pause_ms(10);
	assert_int_equal(place_int(p, "len(fresh)"), 1); /* it ran, and gave a list with three objects */
	assert_true(live_comes_to(p->s, before));
	assert_ok(use(p->s, &kept)); /* that one was somebody's before */
	assert_int_equal(place_int(p, "__import__('sys').getrefcount(fresh[0])"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_15_identity_across_results_and_processes),
		BOTH_PLACES(test_15_cycles_end_in_a_ref),
		BOTH_PLACES(test_15_failed_encoding_leaves_no_refs),
		BOTH_PLACES(test_16_plain_values_of_subclasses),
		BOTH_PLACES(test_17_eviction_is_by_last_use),
		BOTH_PLACES(test_17_never_of_the_running_call),
		BOTH_PLACES(test_17_pins),
		BOTH_PLACES(test_13_ttl_of_a_ref),
		BOTH_PLACES(test_13_ttl_on_access),
		BOTH_PLACES(test_20_facts_without_a_round_trip),
		BOTH_PLACES(test_18_20_facts_of_stale_refs),
		BOTH_PLACES(test_33_a_guess_reaches_nothing),
		BOTH_PLACES(test_31_late_reply_leaves_no_refs),
	};

	return cmocka_run_group_tests_name("refs", tests, NULL, NULL);
}
