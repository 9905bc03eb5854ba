/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with many sessions: what it keeps of them is found without walking over the others. Counted, not timed: the
 * indexes count what their searches look at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core.h"
#include "fixture.h"
#include "host_impl.h"

#define MANY 1000u

static uint64_t looks(struct sb__core *core)
{
	return core->attachments.looks + core->attachment_serials.looks + core->sessions.looks +
	       core->sessions_by_id.looks + (core->host ? core->host->incarnations.looks : 0);
}

/* What is looked at while n sessions are opened, called by a ref alone, and closed, each. */
static double looks_of(const struct fixture *f, sb_session **sessions, unsigned n)
{
	struct sb__core *core = f->bridge->core;
	uint64_t before;

	for (unsigned i = 0; i < n; i++)
		sessions[i] = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
	before = looks(core);
	for (unsigned i = 0; i < 10; i++) {
		sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
		sb_value *v = NULL;

		assert_ok(sb_call(s, "collections:Counter", NULL, &v));
		assert_ok(sb_method(NULL, sb_value_ref(v), "most_common", NULL, NULL));
		sb_value_free(v);
		if (i % 2)
			assert_ok(sb_session_release(f->bridge, sb_session_id(s), NULL));
		sb_session_close(s);
	}
	return (double)(looks(core) - before) / 10;
}

static void test_10_closing_and_opening_mind_no_others(void **state)
{
	const struct fixture *f = *state;
	sb_session *few[4], **many = calloc(MANY, sizeof(sb_session *));
	struct sb__core *core = f->bridge->core;
	double with_few, with_many;
	uint64_t before;

	assert_non_null(many);
	with_few = looks_of(f, few, 4);
	with_many = looks_of(f, many, MANY);
	assert_true(with_few > 0);
	assert_true(with_many <
	            with_few + 20); /* chains may be a few long; a walk would look at a thousand */
	before = looks(core);
	for (unsigned i = 0; i < MANY; i++)
		sb_session_close(many[i]);
	assert_true(looks(core) - before < 10 * MANY);
	assert_int_equal(core->attachments.count, 4);
	assert_int_equal(core->sessions.count, 4);
	assert_int_equal(core->sessions_by_id.count, 4);
	for (unsigned i = 0; i < 4; i++)
		sb_session_close(few[i]);
	assert_int_equal(core->attachments.count, 0);
	assert_int_equal(core->attachment_serials.count, 0);
	assert_int_equal(core->sessions.count, 0);
	free(many);
}

/* Two handles of one bridge: each closes its own sessions, whatever the other has. */
static void test_10_a_bridge_handle_closes_its_own(void **state)
{
	const struct fixture *f = *state;
	struct sb__core *core = f->bridge->core;
	sb_session *kept[20];
	sb_bridge *other;

	assert_ok(sb_bridge_open(f->dir, NULL, &other));
	assert_ptr_equal(other->core, core);
	for (unsigned i = 0; i < 20; i++) {
		kept[i] = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
		fixture_session(other, NULL, SB_DESIGNATED_SELF);
	}
	assert_int_equal(core->sessions.count, 40);
	sb_bridge_close(other);
	assert_int_equal(core->sessions.count, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_ok(sb_call(kept[i], "math:sqrt", sb_args("i", 16), NULL));
	for (unsigned i = 0; i < 20; i++)
		sb_session_close(kept[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_10_closing_and_opening_mind_no_others, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_10_a_bridge_handle_closes_its_own, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("many sessions", tests, NULL, NULL);
}
