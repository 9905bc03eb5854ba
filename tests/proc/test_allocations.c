/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call allocates in its caller: one block for the arguments, one for the result whatever is in it, and none for a small
 * scalar. Counted by a malloc() of the test's own, in the calling thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "place.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define COUNTED 0
static size_t count, bytes;
#else
#define COUNTED 1
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static __thread size_t count, bytes;

void *malloc(size_t size)
{
	count++;
	bytes += size;
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count++;
	bytes += n * size;
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	count++;
	bytes += size;
	return __libc_realloc(old, size);
}
#endif

/* Lanes, caches and the like are there after a few calls. */
#define WARM 20

static void test_result(struct place *p, const char *source, size_t expected)
{
	sb_ref function;
	char lambda[512];
	size_t counted = 0, most = 0;

	snprintf(lambda, sizeof(lambda), "lambda: %s", source);
	function = place_ref(p, lambda);
	for (int i = 0; i < WARM; i++) {
		sb_value *v = NULL;

		count = bytes = 0;
		assert_ok(sb_method(p->s, &function, "__call__", NULL, &v));
		counted = count;
		most = bytes;
		sb_value_free(v);
	}
	if (counted != expected)
		fail_msg("%s: %zu allocations of %zu bytes, not %zu", source, counted, most, expected);
}

static void test_29_one_allocation_for_a_result(void **state)
{
	static const char *const sources[] = {
		"'x' * 1000",
		"1.5",
		"1 << 80",
		"[]",
		"list(range(1000))",
		"{'a': [1, (2, {3}, None)], 'b': b'xyz' * 100}",
		"[[[['deep']]]] * 100",
		"__import__('datetime').datetime(2024, 2, 29)",
		"__import__('decimal').Decimal('1.5')",
		"object()",
		"[object(), object()]",
	};

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		test_result(*state, sources[i], 1);
}

static void test_29_none_for_a_small_scalar(void **state)
{
	static const char *const sources[] = { "None", "True", "False", "0", "255", "-16" };
	struct place *p = *state;
	sb_ref list = place_ref(p, "[1, 2, 3]");
	uint64_t len = 0;

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		test_result(p, sources[i], 0);
	for (int i = 0; i < WARM; i++) {
		count = 0;
		assert_ok(sb_len(p->s, &list, &len));
	}
	assert_int_equal(count, 0);
}

static void test_22_one_for_the_arguments(void **state)
{
	struct place *p = *state;
	sb_ref function = place_ref(p, "lambda *a, **k: None");

	for (int i = 0; i < WARM; i++) {
		count = 0;
		assert_ok(sb_method(p->s, &function, "__call__", sb_args("isd[ii]", 1, "two", 3.0, 4, 5),
		                    NULL));
	}
	assert_int_equal(count, 1);
}

/* What needs no memory is a value like any other. */
static void test_29_constants_are_values(void **state)
{
	sb_value *a = NULL, *b = NULL, *list = NULL;
	int64_t n = 0;

	(void)state;
	for (int i = -20; i <= 260; i++) {
		assert_ok(sb_value_pack(&a, "i", i));
		assert_ok(sb_value_copy(a, &b));
		assert_ok(sb_value_pack(&list, "[oo]", a, b));
		sb_value_free(a);
		assert_ok(sb_value_int(b, &n));
		assert_int_equal(n, i);
		sb_value_free(b);
		assert_ok(sb_value_int(sb_value_at(list, 1), &n));
		assert_int_equal(n, i);
		sb_value_free(list);
	}
}

static int setup(void **state)
{
	if (!COUNTED) {
		print_message("a sanitizer has a malloc() of its own\n");
		exit(77);
	}
	return place_there(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_29_constants_are_values),
		TEST(test_29_one_allocation_for_a_result),
		TEST(test_29_none_for_a_small_scalar),
		TEST(test_22_one_for_the_arguments),
	};

	return cmocka_run_group_tests_name("allocations", tests, NULL, NULL);
}
