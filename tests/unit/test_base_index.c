/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table with nodes inside: finds what is in it, however many there are, and looks at few others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index.h"

#define MANY 20000u

struct thing {
	struct sb__index_node node;
	uint64_t number;
};

static struct thing *find(struct sb__index *index, uint64_t number)
{
	struct sb__index_node *n = sb__index_find(index, sb__index_number(number));

	while (n && SB__INDEX_OF(n, struct thing, node)->number != number)
		n = sb__index_find_next(index, n);
	return n ? SB__INDEX_OF(n, struct thing, node) : NULL;
}

static void test_finds_all_that_are_in_it(void **state)
{
	struct thing *things = calloc(MANY, sizeof(*things));
	struct sb__index index = { .buckets = NULL };

	(void)state;
	assert_non_null(things);
	for (uint32_t i = 0; i < MANY; i++) {
		things[i].number = i * UINT64_C(4096); /* numbers alike in their low bits */
		sb__index_add(&index, &things[i].node, sb__index_number(things[i].number));
	}
	assert_int_equal(index.count, MANY);
	for (uint32_t i = 0; i < MANY; i++)
		assert_ptr_equal(find(&index, i * UINT64_C(4096)), &things[i]);
	assert_null(find(&index, 1));
	for (uint32_t i = 0; i < MANY; i += 2)
		sb__index_remove(&index, &things[i].node);
	sb__index_remove(&index, &things[0].node); /* once more is fine */
	assert_int_equal(index.count, MANY / 2);
	for (uint32_t i = 0; i < MANY; i++)
		assert_ptr_equal(find(&index, i * UINT64_C(4096)), i % 2 ? &things[i] : NULL);
	sb__index_free(&index);
	free(things);
}

/* Every search looks at about one node: no more of them where there are more. */
static void test_search_does_not_grow_with_the_number(void **state)
{
	struct thing *things = calloc(MANY, sizeof(*things));
	struct sb__index index = { .buckets = NULL };

	(void)state;
	assert_non_null(things);
	for (uint32_t i = 0; i < MANY; i++) {
		uint64_t before = index.looks;

		things[i].number = i;
		sb__index_add(&index, &things[i].node, sb__index_number(i));
		for (uint32_t k = 1; k <= 10; k++)
			assert_non_null(find(&index, (uint64_t)i * k / 10));
		assert_in_range(index.looks - before, 10,
		                10 * 12); /* the longest chain; on the average below */
	}
	assert_in_range(index.looks, 10 * MANY, 20 * MANY);
	sb__index_free(&index);
	free(things);
}

static void test_equal_hashes_are_kept_apart(void **state)
{
	struct sb__index index = { .buckets = NULL };
	struct sb__index_node nodes[5], *n;
	unsigned met = 0;

	(void)state;
	memset(nodes, 0, sizeof(nodes));
	for (unsigned i = 0; i < 5; i++)
		sb__index_add(&index, &nodes[i], 7);
	sb__index_remove(&index, &nodes[2]);
	for (n = sb__index_find(&index, 7); n; n = sb__index_find_next(&index, n))
		met |= 1u << (n - nodes);
	assert_int_equal(met, 0x1b);
	assert_null(sb__index_find(&index, 15)); /* in the same bucket */
	sb__index_free(&index);
}

static void test_walks_over_each_once(void **state)
{
	struct thing *things = calloc(1000, sizeof(*things));
	struct sb__index index = { .buckets = NULL };
	struct sb__index_node *n = NULL;
	unsigned count = 0;

	(void)state;
	assert_non_null(things);
	assert_null(sb__index_next(&index, NULL));
	for (uint32_t i = 0; i < 1000; i++)
		sb__index_add(&index, &things[i].node, sb__index_text(i % 2 ? "odd" : "even") + i);
	while ((n = sb__index_next(&index, n))) {
		SB__INDEX_OF(n, struct thing, node)->number++;
		count++;
	}
	assert_int_equal(count, 1000);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(things[i].number, 1);
	assert_int_not_equal(sb__index_text("odd"), sb__index_text("even"));
	sb__index_free(&index);
	free(things);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_all_that_are_in_it),
		cmocka_unit_test(test_search_does_not_grow_with_the_number),
		cmocka_unit_test(test_equal_hashes_are_kept_apart),
		cmocka_unit_test(test_walks_over_each_once),
	};

	return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
