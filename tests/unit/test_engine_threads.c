/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads in the engine: one interpreter, two tables, thread states that come and go. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "engine_probe.h"

#define THREADS 4

struct worker {
	pthread_t thread;
	struct sb__table *table;
	sb_ref ref;
	int rounds;
	bool batch;
	bool crowded; /* others' new refs may evict ours */
	int failures;
};

/* No CMocka assertions in here: they would jump out of the wrong thread. */
/* Also so long ago that the slot does not remember. */
static bool evicted(int err)
{
	return err == SB_EREFEVICTED ||
	       (err == SB_EREFRELEASED && strstr(sb_last_error()->message, "too long ago"));
}

static void *work(void *arg)
{
	struct worker *w = arg;
	sb_value *value;

	for (int i = 0; i < w->rounds; i++) {
		if (w->batch)
			(void)probe_engine()->batch_begin();
		for (int n = 0; n < 5; n++) {
			int64_t got = -1;
			int err;

			value = NULL;
			err = probe_method(w->table, &w->ref, "put", sb_args("i", i), &value);
			w->failures += err != 0 && !(w->crowded && evicted(err));
			w->failures += err == 0 && sb_value_ref(value)->slot != w->ref.slot;
			sb_value_free(value);
			value = NULL;
			w->failures += probe_call(w->table, "sbprobe:count", sb_args("i", 20), &value) != 0;
			w->failures += sb_value_int(value, &got) != 0 || got != 20;
			sb_value_free(value);
			w->failures += probe_call(w->table, "sbprobe:boxes", sb_args("i", 3), NULL) != 0;
		}
		if (w->batch)
			probe_engine()->batch_end();
	}
	return NULL;
}

static void run_workers(bool batch, bool crowded)
{
	const struct sb__table_options options = { .max_refs = crowded ? 20 : 10000 };
	struct sb__table *tables[2] = { probe_table(&options), probe_table(&options) };
	struct worker workers[THREADS] = { 0 };

	for (int i = 0; i < THREADS; i++) {
		workers[i].table = tables[i % 2];
		workers[i].rounds = 40;
		workers[i].batch = batch;
		workers[i].crowded = crowded;
		assert_true(probe_eval_ref(tables[i % 2], "Box(0)", &workers[i].ref));
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(0, workers[i].failures);
	}
	for (int i = 0; i < 2; i++) {
		struct sb__table_counts counts;

		probe_engine()->counts(tables[i], &counts);
		/* Each made its own and 3 in every round. */
		assert_int_equal(crowded ? 20 : 2 * (1 + 40 * 5 * 3), counts.live);
		probe_table_free(tables[i]);
	}
}

static void test_two_tables_at_once(void **state)
{
	struct sb__table *table = probe_table(NULL);
	char expected[32];

	(void)state;
	assert_int_equal(0, probe_call(table, "builtins:exec",
	                               sb_args("s{}", "import sbprobe; sbprobe.counter = 0"), NULL));
	run_workers(false, false);
	snprintf(expected, sizeof(expected), "%d", THREADS * 40 * 5 * 20);
	assert_string_equal(expected, probe_eval(table, "counter"));
	probe_table_free(table);
}

static void test_batches(void **state)
{
	(void)state;
	run_workers(true, false);
}

static void test_evicting_each_other(void **state)
{
	(void)state;
	run_workers(false, true);
	run_workers(true, true);
}

/* A batch does not keep others out for good. */
static atomic_bool other_done;

static void *one_call(void *arg)
{
	struct worker *w = arg;

	w->failures += probe_call(w->table, "math:sqrt", sb_args("d", 4.0), NULL) != 0;
	atomic_store(&other_done, true);
	return NULL;
}

static void test_a_batch_lets_others_in(void **state)
{
	struct worker other = { .table = probe_table(NULL) };
	struct sb__table *table = probe_table(NULL);

	(void)state;
	atomic_store(&other_done, false);
	(void)probe_engine()->batch_begin();
	assert_int_equal(0, pthread_create(&other.thread, NULL, one_call, &other));
	/* Calls of C functions alone never look whether somebody waits. */
	while (!atomic_load(&other_done))
		assert_int_equal(0, probe_call(table, "math:sqrt", sb_args("d", 9.0), NULL));
	probe_engine()->batch_end();
	pthread_join(other.thread, NULL);
	assert_int_equal(0, other.failures);
	probe_table_free(table);
	probe_table_free(other.table);
}

static void *touch_local(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 3; i++)
		w->failures += probe_call(w->table, "sbprobe:touch_local", NULL, NULL) != 0;
	return NULL;
}

/* What a thread keeps in Python goes when it ends. */
static void test_ended_threads_leave_nothing(void **state)
{
	struct sb__table *table = probe_table(NULL);
	char before[32];

	(void)state;
	snprintf(before, sizeof(before), "%s", probe_ask(table, "sbprobe:boxes_alive", NULL));
	for (int i = 0; i < 50; i++) {
		struct worker w = { .table = table };

		assert_int_equal(0, pthread_create(&w.thread, NULL, touch_local, &w));
		pthread_join(w.thread, NULL);
		assert_int_equal(0, w.failures);
	}
	assert_string_equal(before, probe_ask(table, "sbprobe:boxes_alive", NULL));
	probe_table_free(table);
}

/* A ref that one thread releases while another uses it: the object lives on for the call that has it. */
static void *use_or_stale(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < w->rounds; i++) {
		int err = probe_call(w->table, "sbprobe:same", sb_args("r", &w->ref), NULL);

		w->failures += err != 0 && err != SB_EREFRELEASED && err != SB_EREFUNKNOWN;
	}
	return NULL;
}

static void test_release_while_in_use(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct worker workers[2] = { { .rounds = 50 }, { .rounds = 50 } };
		struct sb__table *table = probe_table(NULL);
		struct sb__table_counts counts;
		sb_ref ref;

		assert_true(probe_eval_ref(table, "Box(0)", &ref));
		for (int i = 0; i < 2; i++) {
			workers[i].table = table;
			workers[i].ref = ref;
			assert_int_equal(0,
			                 pthread_create(&workers[i].thread, NULL, use_or_stale, &workers[i]));
		}
		assert_int_equal(0, probe_run(table, SB_VERB_RELEASE, &ref, NULL, NULL, 0, NULL));
		for (int i = 0; i < 2; i++) {
			pthread_join(workers[i].thread, NULL);
			assert_int_equal(0, workers[i].failures);
		}
		assert_int_equal(SB_EREFRELEASED,
		                 probe_call(table, "sbprobe:same", sb_args("r", &ref), NULL));
		/* A call that had the object when it was released may have named it anew. */
		probe_engine()->counts(table, &counts);
		assert_in_range(counts.live, 0, 1);
		probe_table_free(table);
	}
}

static void *hold(void *arg)
{
	struct worker *w = arg;

	w->failures += probe_call(w->table, "sbprobe:hold", sb_args("r", &w->ref), NULL) != 0;
	return NULL;
}

/* What a running call uses is neither evicted nor expires, however long the call takes. */
static void test_running_calls_keep_their_refs(void **state)
{
	const uint64_t ttl_ms = 3600 * 1000;
	struct worker w = { .table = probe_table(
				    &(struct sb__table_options){ .max_refs = 1, .ttl_ms = ttl_ms }) };
	struct sb__table *other = probe_table(NULL);
	sb_value *box = NULL;

	(void)state;
	assert_string_equal("[None, None]", probe_eval(other, "[stop.clear(), spinning.clear()]"));
	assert_int_equal(0, probe_call(w.table, "sbprobe:Box", NULL, &box));
	w.ref = *sb_value_ref(box);
	sb_value_free(box);
	assert_int_equal(0, pthread_create(&w.thread, NULL, hold, &w));
	assert_string_equal("True", probe_ask(other, "sbprobe:wait_spinning", NULL));
	assert_int_equal(SB_EREFSFULL, probe_call(w.table, "sbprobe:Box", NULL, NULL));
	assert_int_equal(0, probe_engine()->expire(w.table, sb__now_ms() + 2 * ttl_ms));
	assert_string_equal("None", probe_eval(other, "stop.set()"));
	pthread_join(w.thread, NULL);
	assert_int_equal(0, w.failures);
	assert_int_equal(0, probe_method(w.table, &w.ref, "get", NULL, NULL));
	/* Now it is idle. */
	assert_int_equal(1, probe_engine()->expire(w.table, sb__now_ms() + 2 * ttl_ms));
	assert_int_equal(SB_EREFEXPIRED, probe_method(w.table, &w.ref, "get", NULL, NULL));
	probe_table_free(w.table);
	probe_table_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_tables_at_once),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_evicting_each_other),
		cmocka_unit_test(test_a_batch_lets_others_in),
		cmocka_unit_test(test_ended_threads_leave_nothing),
		cmocka_unit_test(test_release_while_in_use),
		cmocka_unit_test(test_running_calls_keep_their_refs),
	};

	return cmocka_run_group_tests_name("engine threads", tests, probe_start, NULL);
}
