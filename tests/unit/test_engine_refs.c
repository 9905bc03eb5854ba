/* SPDX-License-Identifier: Apache-2.0 */
/* The object table: identity, reasons why refs are stale, eviction, expiry, what failed results leave
 * behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "clock.h"
#include "engine_probe.h"
#include "message.h"

static struct sb__table_counts counts(const struct sb__table *table)
{
	struct sb__table_counts c;

	probe_engine()->counts(table, &c);
	return c;
}

/* A new box in the table. */
static sb_ref make(struct sb__table *table, int value)
{
	sb_value *box = NULL;
	sb_ref ref;

	assert_int_equal(0, probe_call(table, "sbprobe:Box", sb_args("i", value), &box));
	assert_int_equal(SB_KIND_REF, sb_value_kind(box));
	ref = *sb_value_ref(box);
	sb_value_free(box);
	return ref;
}

static int use(struct sb__table *table, const sb_ref *ref)
{
	return probe_method(table, ref, "get", NULL, NULL);
}

static bool drop(struct sb__table *table, const sb_ref *ref)
{
	sb_value *value = NULL;
	bool dropped = false;

	assert_int_equal(0, probe_run(table, SB_VERB_RELEASE, ref, NULL, NULL, 0, &value));
	assert_int_equal(0, sb_value_bool(value, &dropped));
	sb_value_free(value);
	return dropped;
}

static bool same_ref(const sb_ref *a, const sb_ref *b)
{
	return a->incarnation == b->incarnation && a->slot == b->slot && a->generation == b->generation &&
	       memcmp(a->nonce, b->nonce, sizeof(a->nonce)) == 0;
}

/* How many boxes Python keeps alive. */
static int64_t boxes_alive(void)
{
	struct sb__table *table = probe_table(NULL);
	sb_value *value = NULL;
	int64_t n = -1;

	assert_int_equal(0, probe_call(table, "gc:collect", NULL, NULL));
	assert_int_equal(0, probe_call(table, "sbprobe:boxes_alive", NULL, &value));
	assert_int_equal(0, sb_value_int(value, &n));
	sb_value_free(value);
	probe_table_free(table);
	return n;
}

static void test_same_object_same_ref(void **state)
{
	struct sb__table *table = probe_table(NULL);
	sb_value *value = NULL, *again = NULL;
	const sb_ref *first, *second, *third;

	(void)state;
	assert_int_equal(0, probe_call(table, "sbprobe:twice", NULL, &value));
	first = sb_value_ref(sb_value_at(value, 0));
	second = sb_value_ref(sb_value_at(sb_value_at(value, 1), 0));
	third = sb_value_ref(sb_value_lookup(sb_value_at(sb_value_at(value, 1), 1), "k"));
	assert_true(same_ref(first, second));
	assert_true(same_ref(first, third));
	assert_int_equal(1, counts(table).live);
	/* And in another result. */
	assert_int_equal(0, probe_call(table, "sbprobe:same", sb_args("r", first), &again));
	assert_true(same_ref(first, sb_value_ref(again)));
	assert_int_equal(1, counts(table).live);
	assert_string_equal(PROBE_SESSION, first->session_id);
	assert_string_equal("sbprobe.Box", first->type_name);
	sb_value_free(value);
	sb_value_free(again);
	probe_table_free(table);
}

static void test_release(void **state)
{
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(NULL);
	sb_ref ref = make(table, 1), next, again;

	(void)state;
	assert_int_equal(before + 1, boxes_alive());
	assert_true(drop(table, &ref));
	assert_int_equal(before, boxes_alive());
	assert_int_equal(0, counts(table).live);
	assert_false(drop(table, &ref));
	assert_int_equal(SB_EREFRELEASED, use(table, &ref));
	assert_int_equal(SB_OUTCOME_REFUSED, sb_last_error()->outcome);
	/* Its slot is used again, and it is still told from the newer ones. */
	next = make(table, 2);
	assert_int_equal(ref.slot, next.slot);
	assert_int_equal(SB_EREFRELEASED, use(table, &ref));
	assert_false(drop(table, &ref));
	assert_int_equal(0, use(table, &next));
	again = make(table, 3);
	assert_int_not_equal(next.slot, again.slot);
	probe_table_free(table);
	assert_int_equal(before, boxes_alive());
}

static void test_what_never_existed(void **state)
{
	struct sb__table *table = probe_table(NULL), *other = probe_table(NULL);
	sb_ref ref = make(table, 1), forged;

	(void)state;
	for (size_t i = 0; i < 16; i++) {
		forged = ref;
		forged.nonce[i] ^= 1;
		assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	}
	forged = ref;
	forged.slot = 1;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	forged.slot = UINT32_MAX;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	forged = ref;
	forged.generation = 0;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	forged.generation = ref.generation + 1;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	forged.generation = UINT32_MAX;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	/* Never existed is an error for a release too: somebody has mixed something up. */
	assert_int_equal(SB_EREFUNKNOWN, probe_run(table, SB_VERB_RELEASE, &forged, NULL, NULL, 0, NULL));
	assert_int_equal(SB_OUTCOME_REFUSED, sb_last_error()->outcome);

	assert_int_equal(SB_EREFSESSION, use(other, &ref));
	assert_int_equal(SB_EREFSESSION,
	                 probe_call(other, "sbprobe:same", sb_args("[{sr}]", "k", &ref), NULL));
	assert_int_equal(SB_OUTCOME_REFUSED, sb_last_error()->outcome);

	/* A forged nonce does not learn how the ref ended while that can be told. */
	assert_true(drop(table, &ref));
	forged = ref;
	forged.nonce[0] ^= 1;
	assert_int_equal(SB_EREFUNKNOWN, use(table, &forged));
	probe_table_free(table);
	probe_table_free(other);
}

static void test_eviction_is_by_last_use(void **state)
{
	const struct sb__table_options options = { .max_refs = 3 };
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 1), b = make(table, 2), c = make(table, 3), d, e;

	(void)state;
	assert_int_equal(0, use(table, &a)); /* now b is the oldest */
	d = make(table, 4);
	assert_int_equal(SB_EREFEVICTED, use(table, &b));
	assert_int_equal(3, counts(table).live);
	assert_int_equal(1, counts(table).evicted);
	assert_int_equal(before + 3, boxes_alive());
	/* A use as argument counts, and so does being returned again. */
	assert_int_equal(0, probe_call(table, "builtins:repr", sb_args("[r]", &c), NULL));
	assert_int_equal(0, probe_call(table, "sbprobe:same", sb_args("r", &a), NULL));
	e = make(table, 5);
	assert_int_equal(SB_EREFEVICTED, use(table, &d));
	assert_int_equal(0, use(table, &a));
	assert_int_equal(0, use(table, &c));
	assert_int_equal(0, use(table, &e));
	assert_false(drop(table, &d));
	probe_table_free(table);
}

/* A slot remembers how its last refs ended; of older ones it says that it does not know any more. */
static void test_18_ends_long_ago(void **state)
{
	const struct sb__table_options options = { .max_refs = 1 };
	struct sb__table *table = probe_table(&options);
	sb_ref first = make(table, 1), recent = first;

	(void)state;
	for (int i = 0; i < 32; i++)
		recent = make(table, 2 + i);
	assert_int_equal(SB_EREFEVICTED, use(table, &first));
	(void)make(table, 100);
	assert_int_equal(SB_EREFRELEASED, use(table, &first));
	assert_non_null(strstr(sb_last_error()->message, "too long ago"));
	assert_int_equal(SB_EREFEVICTED, use(table, &recent));
	assert_false(drop(table, &first));
	probe_table_free(table);
}

static void test_a_call_never_evicts_its_own(void **state)
{
	const struct sb__table_options options = { .max_refs = 4 };
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 1), b = make(table, 2);
	sb_value *value = NULL;

	(void)state;
	/* b is the older of the two, but an argument: 3 new refs take a's place and the free two. */
	assert_int_equal(0, use(table, &b));
	assert_int_equal(0, use(table, &a));
	assert_int_equal(0, probe_method(table, &b, "of", sb_args("iii", 1, 2, 3), &value));
	assert_int_equal(SB_EREFEVICTED, use(table, &a));
	assert_int_equal(0, use(table, &b));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(0, use(table, sb_value_ref(sb_value_at(value, i))));
	sb_value_free(value);

	/* A result with more refs than there may be does not come, and leaves nothing behind. */
	assert_int_equal(SB_EREFSFULL, probe_call(table, "sbprobe:boxes", sb_args("i", 5), NULL));
	assert_int_equal(SB_OUTCOME_EXCEPTION, sb_last_error()->outcome); /* it did run */
	assert_int_equal(0, counts(table).live);
	assert_int_equal(before, boxes_alive());
	assert_int_equal(0, probe_call(table, "sbprobe:boxes", sb_args("i", 4), NULL));
	assert_int_equal(4, counts(table).live);
	probe_table_free(table);
}

static void test_error_on_full_leaves_nothing_behind(void **state)
{
	const struct sb__table_options options = { .max_refs = 3, .error_on_full = true };
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 1);

	(void)state;
	assert_int_equal(SB_EREFSFULL, probe_call(table, "sbprobe:boxes", sb_args("i", 3), NULL));
	assert_int_equal(SB_OUTCOME_EXCEPTION, sb_last_error()->outcome);
	assert_int_equal(1, counts(table).live);
	assert_int_equal(0, counts(table).evicted);
	assert_int_equal(before + 1, boxes_alive());
	assert_int_equal(0, use(table, &a));
	/* What a failed result held and was there before stays. */
	assert_int_equal(SB_EREFSFULL, probe_method(table, &a, "of", sb_args("orii", NULL, &a, 1, 2), NULL));
	assert_int_equal(1, counts(table).live);
	assert_int_equal(0, use(table, &a));
	assert_int_equal(0, probe_call(table, "sbprobe:boxes", sb_args("i", 2), NULL));
	assert_int_equal(SB_EREFSFULL, probe_call(table, "sbprobe:Box", NULL, NULL));
	assert_true(drop(table, &a));
	assert_int_equal(0, probe_call(table, "sbprobe:Box", NULL, NULL));
	probe_table_free(table);
}

/* Plain values need no room. */
static void test_values_do_not_need_refs(void **state)
{
	const struct sb__table_options options = { .max_refs = 1, .error_on_full = true };
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 7);

	(void)state;
	assert_int_equal(0, use(table, &a));
	assert_string_equal("[1, 2]", probe_ask(table, "builtins:list", sb_args("(ii)", 1, 2)));
	assert_int_equal(1, counts(table).live);
	probe_table_free(table);
}

static void test_expiry(void **state)
{
	const struct sb__table_options options = { .max_refs = 3, .ttl_ms = 3600 * 1000 };
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 1), b = make(table, 2);
	uint64_t now = sb__now_ms();

	(void)state;
	assert_int_equal(0, probe_engine()->expire(table, now));
	assert_int_equal(0, use(table, &a));
	assert_int_equal(2, probe_engine()->expire(table, now + 2 * options.ttl_ms));
	assert_int_equal(before, boxes_alive());
	assert_int_equal(SB_EREFEXPIRED, use(table, &a));
	assert_int_equal(SB_EREFEXPIRED, use(table, &b));
	assert_int_equal(2, counts(table).expired);
	assert_false(drop(table, &b));
	assert_int_equal(0, probe_engine()->expire(table, now + 4 * options.ttl_ms));
	probe_table_free(table);
}

/* Also without the timer a ref is stale once its time is over, and gives way before a live one would. */
static void test_expiry_on_access(void **state)
{
	const struct sb__table_options options = { .max_refs = 2, .ttl_ms = 30, .error_on_full = true };
	struct sb__table *table = probe_table(&options);
	sb_ref a = make(table, 1), b = make(table, 2), c;
	uint64_t until = sb__now_coarse_ms() + 40;

	(void)state;
	while (sb__now_coarse_ms() < until)
		;
	assert_int_equal(SB_EREFEXPIRED, use(table, &a));
	c = make(table, 3); /* in a's place */
	until = sb__now_coarse_ms() + 40;
	while (sb__now_coarse_ms() < until)
		;
	c = make(table, 4); /* the table was full of expired ones */
	assert_int_equal(0, probe_method(table, &c, "put", sb_args("n"), NULL));
	assert_int_equal(SB_EREFEXPIRED, use(table, &b));
	assert_int_equal(3, counts(table).expired);
	probe_table_free(table);
}

/* The reasons of a slot's earlier lives are told apart. */
static void test_reasons_are_remembered(void **state)
{
	const struct sb__table_options options = { .max_refs = 1, .ttl_ms = 3600 * 1000 };
	struct sb__table *table = probe_table(&options);
	int expected[12];
	sb_ref refs[12];

	(void)state;
	for (int i = 0; i < 12; i++) {
		refs[i] = make(table, i);
		assert_int_equal(0, refs[i].slot);
		switch (i % 3) {
		case 0:
			assert_true(drop(table, &refs[i]));
			expected[i] = SB_EREFRELEASED;
			break;
		case 1:
			probe_engine()->expire(table, sb__now_ms() + 2 * options.ttl_ms);
			expected[i] = SB_EREFEXPIRED;
			break;
		default: /* by the next one */ expected[i] = SB_EREFEVICTED; break;
		}
	}
	make(table, 99);
	for (int i = 0; i < 12; i++)
		assert_int_equal(expected[i], use(table, &refs[i]));
	probe_table_free(table);
}

/* Objects whose end runs Python code, and lets others run, leave the table in order. */
static void test_objects_with_destructors(void **state)
{
	const struct sb__table_options options = { .max_refs = 50 };
	struct sb__table *table = probe_table(&options);
	sb_ref ref;

	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(0, probe_call(table, "sbprobe:droppers", sb_args("i", 30), NULL));
	assert_int_equal(50, counts(table).live);
	assert_true(probe_eval_ref(table, "Resurrector()", &ref));
	assert_true(drop(table, &ref));
	assert_int_equal(SB_EREFRELEASED, use(table, &ref));
	assert_string_equal("1", probe_eval(table, "len(Resurrector.kept)"));
	probe_table_free(table);
}

/* Random use, checked against a plain list of what should be there. */
static void test_against_a_model(void **state)
{
	enum { MAX = 40, STEPS = 4000 };
	const struct sb__table_options options = { .max_refs = MAX };
	struct sb__table *table = probe_table(&options);
	sb_ref refs[MAX]; /* oldest first */
	size_t live = 0;
	unsigned seed = 12345;

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		unsigned dice;

		seed = seed * 1103515245u + 12345u;
		dice = seed >> 16;
		if (live == 0 || dice % 8 < 4) {
			if (live == MAX)
				memmove(refs, refs + 1, --live * sizeof(refs[0]));
			refs[live++] = make(table, step);
		} else {
			size_t i = dice / 8 % live;
			sb_ref ref = refs[i];

			memmove(refs + i, refs + i + 1, (--live - i) * sizeof(refs[0]));
			if (dice % 8 < 6) {
				assert_int_equal(0, use(table, &ref));
				refs[live++] = ref;
			} else {
				assert_true(drop(table, &ref));
				assert_int_equal(SB_EREFRELEASED, use(table, &ref));
			}
		}
		assert_int_equal(live, counts(table).live);
	}
	for (size_t i = 0; i < live; i++)
		assert_int_equal(0, use(table, &refs[i]));
	probe_table_free(table);
}

/* ── replies that nobody took ── */

/* Runs a call as a service thread does, and gives the number for settle(). */
static uint64_t run_unread(struct sb__table *table, const char *path, sb_args *args)
{
	struct sb__call_origin origin = { .pid = 1 };
	sb_request request = SB_REQUEST_INIT;
	struct sb__buf out, in;
	uint64_t number;

	request.name = path;
	request.args = args;
	sb__buf_init(&out, NULL, 0);
	sb__buf_init(&in, NULL, 0);
	sb__request_encode(&out, &request);
	number = probe_engine()->execute(table, &origin, out.data, out.len, &in);
	sb__buf_free(&out);
	sb__buf_free(&in);
	sb_args_free(args);
	return number;
}

static void test_withdrawn_refs_go(void **state)
{
	int64_t before = boxes_alive();
	struct sb__table *table = probe_table(NULL);
	sb_ref kept = make(table, 1);
	sb_value *list = NULL;
	uint64_t number;

	(void)state;
	/* A reply without new refs has no number. */
	assert_int_equal(0, run_unread(table, "builtins:int", NULL));
	assert_int_equal(0, run_unread(table, "sbprobe:same", sb_args("r", &kept)));
	number = run_unread(table, "sbprobe:boxes", sb_args("i", 3));
	assert_int_not_equal(0, number);
	assert_int_equal(4, counts(table).live);
	probe_engine()->settle(table, number, false);
	assert_int_equal(1, counts(table).live);
	assert_int_equal(before + 1, boxes_alive());
	assert_int_equal(0, use(table, &kept));
	probe_engine()->settle(table, number, false); /* once more: nothing */
	/* What another call was told of meanwhile stays. */
	assert_int_equal(0,
	                 probe_call(table, "builtins:exec",
	                            sb_args("s{}", "import sbprobe; sbprobe.shared = sbprobe.Box(9)"), NULL));
	number = run_unread(table, "builtins:getattr", sb_args("os", NULL, "x"));
	assert_int_equal(0, number); /* it raised */
	number = run_unread(table, "builtins:eval",
	                    sb_args("s{}", "[__import__('sbprobe').shared, __import__('sbprobe').Box(1)]"));
	assert_int_equal(0, probe_call(table, "builtins:eval",
	                               sb_args("s{}", "[__import__('sbprobe').shared]"), &list));
	assert_int_equal(3, counts(table).live);
	probe_engine()->settle(table, number, false);
	assert_int_equal(2, counts(table).live);
	assert_int_equal(0, use(table, sb_value_ref(sb_value_at(list, 0))));
	sb_value_free(list);
	assert_int_equal(0, probe_call(table, "builtins:exec",
	                               sb_args("s{}", "import sbprobe; del sbprobe.shared"), NULL));
	probe_table_free(table);
	assert_int_equal(before, boxes_alive());
}

/* ── rows for inspect ── */

struct rows {
	int set, touched, cleared;
	uint64_t touched_ms;
	uint32_t slot, generation, module_len, pins;
	char type_name[96];
	int32_t pid;
};

static void row_set(void *arg, uint32_t slot, uint32_t generation, const char *type_name, uint32_t module_len,
                    int32_t pid)
{
	struct rows *rows = arg;

	rows->set++;
	rows->slot = slot;
	rows->generation = generation;
	rows->module_len = module_len;
	rows->pid = pid;
	snprintf(rows->type_name, sizeof(rows->type_name), "%s", type_name);
}

static void row_touch(void *arg, uint32_t slot, uint64_t now_ms)
{
	struct rows *rows = arg;

	rows->touched++;
	rows->touched_ms = now_ms;
	rows->slot = slot;
}

static void row_pins(void *arg, uint32_t slot, uint32_t pins)
{
	struct rows *rows = arg;

	rows->slot = slot;
	rows->pins = pins;
}

static void row_clear(void *arg, uint32_t slot)
{
	struct rows *rows = arg;

	rows->cleared++;
	rows->slot = slot;
}

static void test_rows(void **state)
{
	struct rows rows = { 0 };
	const struct sb__table_options options = {
		.max_refs = 2, .rows = { &rows, row_set, row_touch, row_pins, row_clear }
	};
	const struct timespec moment = {
		0, 30000000
	}; /* more than the coarse clock needs to tell two times apart */
	struct sb__table *table = probe_table(&options);
	uint64_t before_ms = sb__now_coarse_ms();
	sb_ref a = make(table, 1), b;

	(void)state;
	assert_int_equal(1, rows.set);
	assert_int_equal(a.slot, rows.slot);
	assert_int_equal(a.generation, rows.generation);
	assert_string_equal("sbprobe.Box", rows.type_name);
	assert_int_equal(strlen("sbprobe"), rows.module_len);
	assert_int_not_equal(0, rows.pid);
	b = make(table, 2);
	nanosleep(&moment, NULL);
	assert_int_equal(0, use(table, &b));
	assert_in_range(rows.touched, 1, 2); /* when it began, and when it ended if that was later */
	assert_in_range(rows.touched_ms, before_ms, sb__now_ms());
	assert_int_equal(0, probe_run(table, SB_VERB_PIN, &b, NULL, NULL, 0, NULL));
	assert_int_equal(1, rows.pins);
	assert_int_equal(0, probe_run(table, SB_VERB_UNPIN, &b, NULL, NULL, 0, NULL));
	assert_int_equal(0, rows.pins);
	assert_int_equal(b.slot, rows.slot);
	make(table, 3);
	assert_int_equal(1, rows.cleared);
	assert_true(drop(table, &b));
	assert_int_equal(2, rows.cleared);
	assert_int_equal(b.slot, rows.slot);
	probe_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_object_same_ref),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_what_never_existed),
		cmocka_unit_test(test_eviction_is_by_last_use),
		cmocka_unit_test(test_18_ends_long_ago),
		cmocka_unit_test(test_a_call_never_evicts_its_own),
		cmocka_unit_test(test_error_on_full_leaves_nothing_behind),
		cmocka_unit_test(test_values_do_not_need_refs),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_expiry_on_access),
		cmocka_unit_test(test_reasons_are_remembered),
		cmocka_unit_test(test_objects_with_destructors),
		cmocka_unit_test(test_against_a_model),
		cmocka_unit_test(test_withdrawn_refs_go),
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests_name("engine refs", tests, probe_start, NULL);
}
