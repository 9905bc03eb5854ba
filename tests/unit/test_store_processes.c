/* SPDX-License-Identifier: Apache-2.0 */
/* Process slots: taken lowest first, each time with a new generation, given back only by whom they belong to. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "store_fixture.h"
#include "store_test.h"

/* Stands for the life file: which tokens are held, and by others. */
struct tokens {
	unsigned held, dropped;
	uint32_t last;
	uint32_t busy_below; /* these slots' tokens are held by others */
	int fail_with;
};

static int hold(void *arg, uint32_t slot)
{
	struct tokens *tokens = arg;

	if (tokens->fail_with)
		return tokens->fail_with;
	if (slot < tokens->busy_below)
		return -EAGAIN;
	tokens->held++;
	tokens->last = slot;
	return 0;
}

static void drop(void *arg, uint32_t slot)
{
	struct tokens *tokens = arg;

	tokens->dropped++;
	assert_int_equal(slot, tokens->last);
}

static struct sb__identity add(struct store_fixture *f, struct tokens *tokens)
{
	struct sb__identity identity;

	assert_ok(sb__identity_self(&identity));
	assert_ok(sb__store_process_add(f->store, &identity, hold, drop, tokens));
	assert_int_equal(identity.slot, tokens->last);
	return identity;
}

static void test_lowest_free_slot(void **state)
{
	struct store_fixture *f = *state;
	struct tokens tokens = { 0 };
	struct sb__identity a, b, c, found, *all;
	size_t count;

	assert_int_equal(f->self.slot, 0);
	assert_int_equal(f->self.generation, 1);
	a = add(f, &tokens);
	b = add(f, &tokens);
	assert_int_equal(a.slot, 1);
	assert_int_equal(b.slot, 2);
	assert_int_equal(sb__store_process_remove(f->store, a.slot, a.generation), 1);
	assert_int_equal(sb__store_process_get(f->store, a.slot, &found), 0);
	c = add(f, &tokens);
	assert_int_equal(c.slot, 1);
	assert_int_equal(c.generation, a.generation + 1); /* never the same pair twice */
	assert_int_equal(sb__store_process_get(f->store, 1, &found), 1);
	assert_memory_equal(&found, &c, sizeof(found));
	assert_int_equal(sb__store_process_get(f->store, 3, &found), 0);
	assert_int_equal(sb__store_process_get(f->store, SB__SLOTS_MAX, &found), 0);
	assert_ok(sb__store_processes(f->store, &all, &count));
	assert_int_equal(count, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(all[i].slot, i);
	free(all);
	assert_int_equal(tokens.dropped, 0);
	store_fixture_verify(f->store);
}

/* A token that is held although the record is free: its holder is about to write the record. */
static void test_held_tokens_are_passed_over(void **state)
{
	struct store_fixture *f = *state;
	struct tokens tokens = { .busy_below = 10 };

	assert_int_equal(add(f, &tokens).slot, 10);
	assert_int_equal(tokens.held, 1);
}

static void test_hold_may_fail(void **state)
{
	struct store_fixture *f = *state;
	struct tokens tokens = { .fail_with = -ENOSPC };
	struct sb__identity identity = f->self;

	assert_int_equal(sb__store_process_add(f->store, &identity, hold, drop, &tokens), SB_ESYSTEM);
	assert_int_equal(sb_last_error()->sys_errno, ENOSPC);
	assert_int_equal(tokens.dropped, 0);
}

static void test_remove_only_the_right_generation(void **state)
{
	struct store_fixture *f = *state;
	struct sb__identity found;

	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation + 1), 0);
	assert_int_equal(sb__store_process_remove(f->store, 0, 0), 0);
	assert_int_equal(sb__store_process_remove(f->store, 5, 1), 0);
	assert_int_equal(sb__store_process_remove(f->store, SB__SLOTS_MAX, 1), 0);
	assert_int_equal(sb__store_process_get(f->store, 0, &found), 1);
	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation), 1);
	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation), 0);
}

static void test_remove_refuses_an_owner(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo");
	struct sb__identity found;

	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation), SB_EBUG);
	assert_int_equal(sb__store_process_get(f->store, 0, &found), 1);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, 0, f->self.generation, 1, NULL), 2);
	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation), 1);
	store_fixture_verify(f->store);
}

/* 16 bits, and 0 is nobody's. */
static void test_generations_wrap_around_zero(void **state)
{
	static const uint8_t slot[4] = { 0 };
	struct store_fixture *f = *state;
	struct tokens tokens = { 0 };
	uint8_t record[112];
	uint32_t generation = 65535;

	assert_int_equal(sb__store_process_remove(f->store, 0, f->self.generation), 1);
	assert_int_equal(sb__store_test_get(f->store, "processes", slot, 4, record, sizeof(record)),
	                 sizeof(record));
	memcpy(record + 12, &generation, sizeof(generation));
	assert_int_equal(sb__store_test_put(f->store, "processes", slot, 4, record, sizeof(record)), 0);
	assert_int_equal(add(f, &tokens).generation, 1);
}

static void test_all_slots_taken(void **state)
{
	struct store_fixture *f = *state;
	struct tokens tokens = { 0 };
	struct sb__identity identity = f->self;

	for (uint32_t slot = 1; slot < SB__SLOTS_MAX; slot++) {
		assert_ok(sb__store_process_add(f->store, &identity, hold, drop, &tokens));
		assert_int_equal(identity.slot, slot);
	}
	assert_int_equal(sb__store_process_add(f->store, &identity, hold, drop, &tokens), SB_EPROCESSES);
	assert_non_null(strstr(sb_last_error()->message, "sb-reaper"));
	assert_int_equal(sb__store_process_remove(f->store, 4000, 1), 1);
	assert_ok(sb__store_process_add(f->store, &identity, hold, drop, &tokens));
	assert_int_equal(identity.slot, 4000);
	assert_int_equal(identity.generation, 2);
}

int main(void)
{
#define IN_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
	const struct CMUnitTest tests[] = {
		IN_STORE(test_lowest_free_slot),        IN_STORE(test_held_tokens_are_passed_over),
		IN_STORE(test_hold_may_fail),           IN_STORE(test_remove_only_the_right_generation),
		IN_STORE(test_remove_refuses_an_owner), IN_STORE(test_generations_wrap_around_zero),
		IN_STORE(test_all_slots_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
