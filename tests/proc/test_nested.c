/* SPDX-License-Identifier: Apache-2.0 */
/* Calls within calls, between sessions and back: they complete, or fail by rule, never hang. Point 35. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

/* Lets the session's Python find tests/support/sbnest.py, and opens the bridge there. */
static void prepare(const struct fixture *f, sb_session *s)
{
	char support[4096], library[4096];
	sb_value *path = NULL;

	snprintf(support, sizeof(support), "%s/tests/support", getenv("SB_SOURCE_DIR"));
	snprintf(library, sizeof(library), "%s/lib/libsnakebridge.so", getenv("SB_BUILD_DIR"));
	assert_ok(
		sb_call(s, "builtins:exec",
	                sb_args("s{ss}", "import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, p)",
	                        "p", support),
	                NULL));
	assert_ok(sb_call(s, "sbnest:attach", sb_args("ss", library, f->dir), &path));
	sb_value_free(path);
}

static int64_t bounce(sb_session *s, const char *here, const char *there, int depth, uint32_t timeout_ms,
                      int *ret_err)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	int64_t n = -1;

	r.name = "sbnest:bounce";
	r.args = sb_args("ssi", here, there, depth);
	r.timeout_ms = timeout_ms;
	*ret_err = sb_invoke(s, &r, &v);
	if (!*ret_err) {
		assert_ok(sb_value_int(v, &n));
		sb_value_free(v);
	}
	return n;
}

/* A -> B -> A …, 20 deep: each level holds a service thread of its owner. */
static void test_35_two_owners_twenty_deep(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "nest-a", SB_DESIGNATED_DEDICATED);
	sb_session *b = fixture_session(f->bridge, "nest-b", SB_DESIGNATED_DEDICATED);
	int err;

	prepare(f, a);
	prepare(f, b);
	assert_int_equal(bounce(a, "nest-a", "nest-b", 3, 60000, &err), 3);
	assert_ok(err);
	assert_int_equal(bounce(a, "nest-a", "nest-b", 20, 60000, &err), 20);
	assert_ok(err);
	sb_session_close(a);
	sb_session_close(b);
}

/* The same owner calls itself. */
static void test_35_same_owner_again(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "self", SB_DESIGNATED_DEDICATED);
	int err;

	prepare(f, a);
	assert_int_equal(bounce(a, "self", "self", 20, 60000, &err), 20);
	assert_ok(err);
	sb_session_close(a);
}

/* More deep than there are service threads: it ends by the deadline, and what hung is gone with it. */
static void test_35_too_deep_fails_by_deadline(void **state)
{
	struct fixture *f = *state;
	sb_session *a, *b;
	int err;

	setenv("SNAKEBRIDGE_MAX_SERVICE_THREADS", "4", 1);
	setenv("SNAKEBRIDGE_TIMEOUT_MS", "1500", 1);
	a = fixture_session(f->bridge, "deep-a", SB_DESIGNATED_DEDICATED);
	b = fixture_session(f->bridge, "deep-b", SB_DESIGNATED_DEDICATED);
	unsetenv("SNAKEBRIDGE_MAX_SERVICE_THREADS");
	unsetenv("SNAKEBRIDGE_TIMEOUT_MS");
	prepare(f, a);
	prepare(f, b);
	bounce(a, "deep-a", "deep-b", 40, 4000, &err);
	assert_true(err == SB_ETIMEOUT || err == SB_EPYTHON || err == SB_ECANCELLED);
	/* Each call in between has those 1.5 s: on a busy machine one may need more. */
	for (int i = 0; i < 20 && bounce(a, "deep-a", "deep-b", 2, 20000, &err) != 2; i++)
		assert_true(err == SB_ETIMEOUT || err == SB_EPYTHON);
	assert_ok(err);
	sb_session_close(a);
	sb_session_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_35_two_owners_twenty_deep, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_35_same_owner_again, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_35_too_deep_fails_by_deadline, fixture_setup,
		                                fixture_teardown),
	};

	if (!getenv("SB_BUILD_DIR") || !getenv("SB_SOURCE_DIR")) {
		fprintf(stderr,
		        "skipped: SB_BUILD_DIR and SB_SOURCE_DIR say where library and Python module lie\n");
		return 77;
	}
	return cmocka_run_group_tests_name("nested", tests, NULL, NULL);
}
