/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References to Python objects: LeakSanitizer overlooks libpython, so Python's own count of allocated
 * blocks is what must stand still while each kind of request is repeated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine_probe.h"

#define ROUNDS    300
#define TOLERANCE 100 /* one leaked object per round would be ROUNDS */

static int64_t blocks(struct sb__table *table)
{
	sb_value *value = NULL;
	int64_t n = -1;

	assert_int_equal(0, probe_call(table, "gc:collect", NULL, NULL));
	assert_int_equal(0, probe_call(table, "sys:getallocatedblocks", NULL, &value));
	assert_int_equal(0, sb_value_int(value, &n));
	sb_value_free(value);
	return n;
}

struct step {
	const char *what;
	int expected; /* code */
	int (*run)(struct sb__table *table, const sb_ref *box);
};

static int call_values(struct sb__table *table, const sb_ref *box)
{
	return probe_call(
		table, "sbprobe:same",
		sb_args("i[d(sy)]{si} k=r z=n", 70000, 2.5, "text", "y", (size_t)1, "k", 99999, box), NULL);
}

static int method(struct sb__table *table, const sb_ref *box)
{
	return probe_method(table, box, "put", sb_args("[r]", box), NULL);
}

static int attr(struct sb__table *table, const sb_ref *box)
{
	return probe_run(table, SB_VERB_ATTR, box, "__class__.__name__", NULL, 0, NULL);
}

static int set_attr(struct sb__table *table, const sb_ref *box)
{
	return probe_run(table, SB_VERB_SET_ATTR, box, "value", sb_args("[ii]", 700000, 800000), 0, NULL);
}

static int get(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_run(table, SB_VERB_GET, NULL, "os.path.sep", NULL, 0, NULL);
}

static int make_and_release(struct sb__table *table, const sb_ref *box)
{
	sb_value *value = NULL;
	int err = probe_call(table, "sbprobe.Box.of", sb_args("i", 123456), &value);

	(void)box;
	if (!err)
		err = probe_run(table, SB_VERB_RELEASE, sb_value_ref(sb_value_at(value, 0)), NULL, NULL, 0,
		                NULL);
	sb_value_free(value);
	return err;
}

static int shapes(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "sbprobe:nest_dict", sb_args("i", 100), NULL);
}

static int raising(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "sbprobe:raises", sb_args("s", "chain"), NULL);
}

static int unprintable(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "sbprobe:raises", sb_args("s", "unprintable"), NULL);
}

static int no_module(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "nosuchmodule:f", NULL, NULL);
}

static int no_submodule(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "json.nosuch.f", NULL, NULL);
}

static int no_attribute(struct sb__table *table, const sb_ref *box)
{
	return probe_method(table, box, "no_such_thing", sb_args("i", 70000), NULL);
}

static int no_slot(struct sb__table *table, const sb_ref *box)
{
	return probe_run(table, SB_VERB_SET_ATTR, box, "nope.value", sb_args("[i]", 1), 0, NULL);
}

static int refused_late(struct sb__table *table, const sb_ref *box)
{
	return probe_call(table, "sbprobe:same", sb_args("[ir]{[i]i}", 70000, box, 1, 2), NULL);
}

static int refused_twice(struct sb__table *table, const sb_ref *box)
{
	return probe_call(table, "sbprobe:same", sb_args("a=i a=r", 70000, box), NULL);
}

static int refused_shape(struct sb__table *table, const sb_ref *box)
{
	return probe_run(table, SB_VERB_SET_ATTR, box, "value", sb_args("ir", 70000, box), 0, NULL);
}

static int too_many_refs(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "sbprobe:boxes", sb_args("i", 60), NULL);
}

static const struct step steps[] = {
	{ "call with values", 0, call_values },
	{ "method", 0, method },
	{ "attr", 0, attr },
	{ "set_attr", 0, set_attr },
	{ "get", 0, get },
	{ "make and release", 0, make_and_release },
	{ "shapes", 0, shapes },
	{ "exception with causes", SB_EPYTHON, raising },
	{ "exception without text", SB_EPYTHON, unprintable },
	{ "no module", SB_EMODULE, no_module },
	{ "no submodule", SB_EATTRIBUTE, no_submodule },
	{ "no attribute", SB_EATTRIBUTE, no_attribute },
	{ "no attribute to set on", SB_EATTRIBUTE, no_slot },
	{ "unhashable key", SB_EINVAL, refused_late },
	{ "keyword twice", SB_EINVAL, refused_twice },
	{ "wrong shape", SB_EINVAL, refused_shape },
	{ "too many refs", SB_EREFSFULL, too_many_refs },
};

/* Blocks that ROUNDS of a step add; the best of a few tries, because Python's caches grow for a while. */
static int64_t growth(struct sb__table *table, const struct step *step)
{
	int64_t best = INT64_MAX;
	sb_ref box;

	assert_true(probe_eval_ref(table, "Box()", &box));
	for (int attempt = 0; attempt < 6 && best >= TOLERANCE; attempt++) {
		int64_t before = blocks(table), more;

		for (int n = 0; n < ROUNDS; n++)
			assert_int_equal(step->expected, step->run(table, &box));
		more = blocks(table) - before;
		best = more < best ? more : best;
	}
	return best;
}

static void test_nothing_is_left(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct sb__table *table = probe_table(&(struct sb__table_options){ .max_refs = 50 });
		int64_t more = growth(table, &steps[i]);

		if (more >= TOLERANCE)
			print_error("%s: %lld blocks more\n", steps[i].what, (long long)more);
		assert_true(more < TOLERANCE);
		probe_table_free(table);
	}
}

static int evict(struct sb__table *table, const sb_ref *box)
{
	(void)box;
	return probe_call(table, "sbprobe:boxes", sb_args("i", 10), NULL);
}

/* Eviction lets go of the objects. */
static void test_eviction_frees(void **state)
{
	struct sb__table *table = probe_table(&(struct sb__table_options){ .max_refs = 10 });

	(void)state;
	assert_true(growth(table, &(struct step){ "eviction", 0, evict }) < TOLERANCE);
	probe_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_left),
		cmocka_unit_test(test_eviction_frees),
	};

	return cmocka_run_group_tests_name("engine leaks", tests, probe_start, NULL);
}
