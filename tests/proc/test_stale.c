/* SPDX-License-Identifier: Apache-2.0 */
/* What stale handles and refs are told: every end by its own code, also of what they never met. Numbers are points of the
 * contract. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "hand.h"

static sb_session *open_ttl(sb_bridge *b, const char *id, int64_t ttl)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = id;
	o.designated = SB_DESIGNATED_DEDICATED;
	o.ttl_seconds = ttl;
	assert_ok(sb_session_open(b, &o, &s));
	return s;
}

static sb_ref make(sb_session *s)
{
	sb_value *v = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, "builtins:object", NULL, &v));
	ref = *sb_value_ref(v);
	sb_value_free(v);
	return ref;
}

static int use(sb_session *s, const sb_ref *ref)
{
	return sb_method(s, ref, "__repr__", NULL, NULL);
}

static void kill_owner(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(s, &info));
	assert_true(info.designated_pid > 1 && info.designated_pid != getpid());
	kill(info.designated_pid, SIGKILL);
}

static void wait_ended(sb_session *s)
{
	sb_session_info info = { .size = sizeof(info) };

	for (int i = 0; i < 2000; i++) {
		assert_ok(sb_session_get_info(s, &info));
		if (info.state == SB_SESSION_ENDED)
			return;
		usleep(10000);
	}
	fail_msg("the session did not end");
}

/* ── ends in incarnations that a handle never met ── */

static int elect(void *arg)
{
	/* The inherited handle makes this process another owner; the second call elects, the first may tell of the death. */
	if (sb_call(arg, "builtins:object", NULL, NULL) == 0)
		return 0;
	return sb_call(arg, "builtins:object", NULL, NULL) ? 1 : 0;
}

/* Another process elects a new designated owner; then the session ends. This handle did not look in between. */
static void ends_unmet(struct fixture *f, const char *id, bool expires, bool opened_again)
{
	sb_session *s = open_ttl(f->bridge, id, expires ? 1 : 3600), *again = NULL;
	int end = expires ? SB_EEXPIRED : SB_ERELEASED;
	sb_ref first = make(s);

	kill_owner(s);
	assert_int_equal(fixture_wait(fixture_fork(elect, s)), 0);
	if (expires)
		wait_ended(s);
	else
		assert_ok(sb_session_release(f->bridge, id, NULL));
	if (opened_again)
		again = open_ttl(f->bridge, id, 3600);
	assert_int_equal(sb_call(s, "builtins:object", NULL, NULL), end);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	/* That ref's incarnation ended before, by its owner's death. */
	if (again)
		assert_int_equal(use(again, &first), SB_EOWNERDIED);
	sb_session_close(again);
	sb_session_close(s);
}

static void test_18_expired_after_an_election_unmet(void **state)
{
	ends_unmet(*state, "expired", true, false);
}

static void test_18_expired_unmet_and_opened_again(void **state)
{
	ends_unmet(*state, "expired-again", true, true);
}

static void test_18_released_unmet_and_opened_again(void **state)
{
	ends_unmet(*state, "released-again", false, true);
}

/* The session is orphaned; the ref is of an earlier session by its id, which expired. */
static void test_18_old_end_told_by_an_orphan(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "twice", 1), *again;
	sb_ref old = make(s), young;

	wait_ended(s);
	again = open_ttl(f->bridge, "twice", 3600);
	young = make(again);
	kill_owner(again);
	assert_int_equal(use(again, &young), SB_EOWNERDIED);
	assert_int_equal(use(again, &old), SB_EEXPIRED);
	sb_session_close(again);
	sb_session_close(s);
}

/* ── incarnations that never were ── */

static void expect_unknown(sb_session *s, const sb_ref *like, uint64_t incarnation)
{
	char text[SB_REF_TEXT_MAX];
	sb_ref_info info = { .size = sizeof(info) };
	sb_ref forged = *like, parsed;

	forged.incarnation = incarnation;
	assert_ok(sb_ref_format(&forged, text, sizeof(text)));
	assert_ok(sb_ref_parse(text, &parsed));
	assert_int_equal(use(s, &parsed), SB_EREFUNKNOWN);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_string_equal(sb_last_error()->session_id, sb_session_id(s));
	assert_int_equal(sb_call(s, "builtins:id", sb_args("r", &parsed), NULL), SB_EREFUNKNOWN);
	assert_int_equal(sb_ref_get_info(s, &parsed, &info), SB_EREFUNKNOWN);
	assert_int_equal(sb_ref_release(s, &parsed, NULL), SB_EREFUNKNOWN);
}

static void never_existed(struct fixture *f, sb_designated designated)
{
	sb_session *s = fixture_session(f->bridge, "known", designated);
	sb_session *other = fixture_session(f->bridge, "other", designated);
	sb_ref ref = make(s), foreign = make(other);

	expect_unknown(s, &ref, ref.incarnation - 1); /* a number, but not of an incarnation */
	expect_unknown(s, &ref, INT64_MAX);
	expect_unknown(s, &ref, ref.incarnation + 1000000);
	expect_unknown(s, &ref, foreign.incarnation); /* another session's */
	expect_unknown(other, &foreign, ref.incarnation);
	assert_ok(sb_session_release(f->bridge, "other", NULL));
	expect_unknown(s, &ref, foreign.incarnation);
	assert_ok(use(s, &ref));
	sb_session_close(other);
	sb_session_close(s);
}

static void test_18_33_never_existed_here(void **state)
{
	never_existed(*state, SB_DESIGNATED_SELF);
}

static void test_18_33_never_existed_there(void **state)
{
	never_existed(*state, SB_DESIGNATED_DEDICATED);
}

static void test_18_never_existed_said_by_an_orphan(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_ttl(f->bridge, "orphan", 3600);
	sb_ref ref = make(s), forged = ref;

	kill_owner(s);
	assert_int_equal(use(s, &ref), SB_EOWNERDIED);
	forged.incarnation += 5;
	assert_int_equal(use(s, &forged), SB_EREFUNKNOWN);
	assert_int_equal(use(s, &ref), SB_EOWNERDIED);
	sb_session_close(s);
}

/* ── ends that are forgotten ── */

static void fill_graveyard(const char *dir)
{
	struct hand hand;

	assert_int_equal(hand_attach(&hand, dir), 0);
	for (unsigned i = 0; i < SB__GRAVEYARD_MAX; i++) {
		struct sb__session_rec rec = hand_wish(&hand, "passing");

		assert_int_equal(sb__store_session_create(hand.store, &rec, NULL), 1);
		assert_int_equal(sb__store_session_end(hand.store, "passing", rec.uid, SB__END_EXPIRED, NULL),
		                 1);
	}
	hand_close(&hand);
}

/* The bridge remembers the last few thousand ends; of what is older, only that it is over. */
static void test_14_18_graveyard_full(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "long-gone", SB_DESIGNATED_SELF), *again;
	sb_session *probe = NULL;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_ref ref = make(s);

	assert_ok(sb_session_release(f->bridge, "long-gone", NULL));
	fill_graveyard(f->dir);
	assert_int_equal(use(s, &ref), SB_ERELEASED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	o.session_id = "long-gone";
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	assert_int_equal(sb_session_open(f->bridge, &o, &probe), SB_ENOSESSION); /* as if it had never been */
	again = fixture_session(f->bridge, "long-gone", SB_DESIGNATED_SELF);
	assert_int_equal(use(again, &ref), SB_ERELEASED);
	assert_non_null(strstr(sb_last_error()->message, "too long ago"));
	assert_int_equal(sb_call(s, "builtins:object", NULL, NULL), SB_ERELEASED);
	assert_non_null(strstr(sb_last_error()->message, "another one has its id now"));
	/* What never was is still known never to have been. */
	ref.incarnation = UINT64_MAX;
	assert_int_equal(use(again, &ref), SB_EREFUNKNOWN);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL), 0);
	sb_session_close(again);
	sb_session_close(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_18_expired_after_an_election_unmet), TEST(test_18_expired_unmet_and_opened_again),
		TEST(test_18_released_unmet_and_opened_again), TEST(test_18_old_end_told_by_an_orphan),
		TEST(test_18_33_never_existed_here),           TEST(test_18_33_never_existed_there),
		TEST(test_18_never_existed_said_by_an_orphan), TEST(test_14_18_graveyard_full),
	};

	return cmocka_run_group_tests_name("stale", tests, NULL, NULL);
}
