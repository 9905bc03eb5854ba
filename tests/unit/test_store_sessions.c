/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, owners, expiry and graveyard: what each function of the store does, and that all records agree after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "store_fixture.h"

static struct sb__session_rec get(struct store_fixture *f, const char *id)
{
	struct sb__session_rec rec;

	assert_int_equal(sb__store_session_get(f->store, id, &rec), 1);
	return rec;
}

static void assert_grave(struct store_fixture *f, uint64_t incarnation, enum sb__end_reason reason,
                         const char *id)
{
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_grave(f->store, incarnation, &grave), 1);
	assert_true(grave.incarnation == incarnation);
	assert_int_equal(grave.reason, reason);
	assert_int_equal(grave.designated_pid, f->self.pid);
	assert_string_equal(grave.session_id, id);
	assert_true(grave.wall_ms <= sb__wall_ms());
}

static void assert_newest_grave(struct store_fixture *f, const char *id, uint64_t incarnation,
                                enum sb__end_reason reason)
{
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_grave_of(f->store, id, &grave), 1);
	assert_true(grave.incarnation == incarnation);
	assert_int_equal(grave.reason, reason);
	assert_string_equal(grave.session_id, id);
}

static size_t served_count(struct store_fixture *f)
{
	struct sb__session_rec *recs = NULL;
	size_t count = 99;

	assert_ok(sb__store_sessions_of_owner(f->store, f->self.slot, f->self.generation, &recs, &count));
	free(recs);
	return count;
}

static size_t due_count(struct store_fixture *f, uint64_t now_ms)
{
	struct sb__session_rec *recs = NULL;
	size_t count = 99;

	assert_ok(sb__store_due(f->store, now_ms, 100, &recs, &count));
	free(recs);
	return count;
}

static void test_bridge_record(void **state)
{
	struct store_fixture *f = *state;
	struct sb__bridge_rec bridge, after;
	struct sb__session_rec rec;

	assert_ok(sb__store_bridge(f->store, &bridge));
	assert_int_equal(bridge.schema, SB__SCHEMA_VERSION);
	assert_int_equal(bridge.layout_fingerprint, STORE_FIXTURE_LAYOUT);
	assert_int_equal(bridge.creator_pid, f->self.pid);
	assert_true(bridge.pid_ns == f->self.pid_ns);
	assert_memory_equal(bridge.boot_id, f->self.boot_id, sizeof(bridge.boot_id));
	rec = store_fixture_session(f, "demo");
	assert_ok(sb__store_bridge(f->store, &after));
	assert_true(bridge.next_number <= rec.uid && rec.uid < rec.incarnation);
	assert_true(rec.incarnation < after.next_number);
}

/* ── create, get ── */

static void test_create_keeps_every_field(void **state)
{
	static const char tags[] = "team\0blue\0purpose\0";
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_wish(&f->self, "größe 1"), found;
	struct sb__owner_rec owner = store_fixture_owner(&f->self, 0, 42), *owners;
	uint64_t before = sb__now_ms();
	size_t count;

	rec.max_refs = 77;
	rec.designated_mode = SB_DESIGNATED_DEDICATED;
	rec.on_full = SB_ON_FULL_ERROR;
	rec.persistent = 1;
	rec.ttl_ms = 5000;
	rec.tag_count = 2;
	rec.tags_len = sizeof(tags);
	memcpy(rec.tags, tags, sizeof(tags));
	assert_int_equal(sb__store_session_create(f->store, &rec, &owner), 1);
	assert_true(rec.uid != 0 && rec.incarnation != 0 && rec.uid != rec.incarnation);
	assert_int_equal(rec.state, SB_SESSION_STARTING);
	assert_int_equal(rec.owner_count, 1);
	assert_true(rec.created_ms >= before && rec.expires_ms == rec.created_ms + 5000);

	found = get(f, "größe 1");
	assert_true(found.uid == rec.uid && found.incarnation == rec.incarnation);
	assert_int_equal(found.state, rec.state);
	assert_int_equal(found.owner_count, 1);
	assert_memory_equal(&found.designated, &rec.designated, sizeof(rec.designated));
	assert_int_equal(found.max_refs, 77);
	assert_int_equal(found.designated_mode, SB_DESIGNATED_DEDICATED);
	assert_int_equal(found.on_full, SB_ON_FULL_ERROR);
	assert_int_equal(found.persistent, 1);
	assert_true(found.ttl_ms == 5000 && found.expires_ms == rec.expires_ms);
	assert_true(found.created_ms == rec.created_ms && found.created_wall_ms == rec.created_wall_ms);
	assert_true(found.live_refs == 0);
	assert_int_equal(found.tag_count, 2);
	assert_int_equal(found.tags_len, sizeof(tags));
	assert_memory_equal(found.tags, tags, sizeof(tags));
	assert_int_equal(sb__store_session_by_uid(f->store, rec.uid, &found), 1);
	assert_string_equal(found.session_id, "größe 1");

	assert_ok(sb__store_owners_of_session(f->store, rec.uid, &owners, &count));
	assert_int_equal(count, 1);
	assert_true(owners[0].session_uid == rec.uid);
	assert_int_equal(owners[0].handle, 42);
	assert_int_equal(owners[0].pid, f->self.pid);
	assert_true(owners[0].joined_wall_ms == f->self.joined_wall_ms);
	free(owners);
	store_fixture_verify(f->store);
}

static void test_create_finds_what_exists(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec first = store_fixture_session(f, "demo");
	struct sb__session_rec second = store_fixture_wish(&f->self, "demo");
	struct sb__owner_rec owner = store_fixture_owner(&f->self, 0, 2);
	struct sb__bridge_rec before, after;

	assert_ok(sb__store_bridge(f->store, &before));
	second.max_refs = 5;
	assert_int_equal(sb__store_session_create(f->store, &second, &owner), 0);
	assert_true(second.uid == first.uid && second.incarnation == first.incarnation);
	assert_int_equal(second.state, SB_SESSION_ACTIVE);
	assert_int_equal(second.max_refs, first.max_refs);
	assert_int_equal(second.owner_count, 1); /* the owner did not join */
	assert_ok(sb__store_bridge(f->store, &after));
	assert_true(before.next_number == after.next_number);
	store_fixture_verify(f->store);
}

static void test_create_without_owner_or_designated(void **state)
{
	struct store_fixture *f = *state;
	struct sb__identity nobody = { .pid = 0 };
	struct sb__session_rec rec = store_fixture_wish(&nobody, "bare");

	rec.ttl_ms = 0;
	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), 1);
	assert_int_equal(rec.owner_count, 0);
	assert_true(rec.expires_ms == 0);
	assert_int_equal(due_count(f, UINT64_MAX), 0); /* 0 = never */
	assert_int_equal(served_count(f), 0);
	store_fixture_verify(f->store);
}

static void test_create_refuses_bad_records(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_wish(&f->self, "bad\n");

	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), SB_EID);
	rec = store_fixture_wish(&f->self, "tags");
	rec.tag_count = 1;
	rec.tags_len = 2;
	memcpy(rec.tags, "ab", 2);
	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), SB_EBUG);
	rec = store_fixture_wish(&f->self, "mode");
	rec.designated_mode = 9;
	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), SB_EBUG);
	assert_int_equal(sb__store_session_get(f->store, "mode", &rec), 0);
	store_fixture_verify(f->store);
}

static void test_ids_match_exactly(void **state)
{
	struct store_fixture *f = *state;
	char longest[SB_SESSION_ID_MAX + 1], longer[SB_SESSION_ID_MAX + 2];
	struct sb__session_rec rec;

	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	store_fixture_session(f, "abc");
	store_fixture_session(f, longest);
	assert_int_equal(sb__store_session_get(f->store, "ab", &rec), 0);
	assert_int_equal(sb__store_session_get(f->store, "abcd", &rec), 0);
	assert_int_equal(sb__store_session_get(f->store, "", &rec), 0);
	assert_int_equal(sb__store_session_get(f->store, longest, &rec), 1);
	assert_string_equal(rec.session_id, longest);
	assert_int_equal(sb__store_session_get(f->store, longer, &rec), 0);
	assert_int_equal(sb__store_session_by_uid(f->store, 999, &rec), 0);
	assert_int_equal(sb__store_session_end(f->store, "ab", 0, SB__END_RELEASED, NULL), 0);
	assert_int_equal(sb__store_session_get(f->store, "abc", &rec), 1);
}

static void test_numbers_are_never_used_twice(void **state)
{
	struct store_fixture *f = *state;
	uint64_t last = 0;

	for (int i = 0; i < 20; i++) {
		struct sb__session_rec rec = store_fixture_session(f, "again");

		assert_true(rec.uid > last);
		assert_true(rec.incarnation > rec.uid);
		last = rec.incarnation;
		assert_int_equal(sb__store_session_end(f->store, "again", rec.uid, SB__END_RELEASED, NULL),
		                 1);
	}
}

/* ── states ── */

static void test_activate_only_the_incarnation_that_starts(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_wish(&f->self, "demo");

	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), 1);
	assert_int_equal(sb__store_session_activate(f->store, "demo", rec.incarnation + 1), 0);
	assert_int_equal(sb__store_session_activate(f->store, "none", rec.incarnation), 0);
	assert_int_equal(sb__store_session_activate(f->store, "demo", rec.incarnation), 1);
	assert_int_equal(sb__store_session_activate(f->store, "demo", rec.incarnation), 0);
	assert_int_equal(get(f, "demo").state, SB_SESSION_ACTIVE);
}

static void test_orphan_and_elect(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec first = store_fixture_session(f, "demo"), second;
	struct sb__identity other;

	assert_ok(store_fixture_attach(f, &other));
	assert_int_equal(sb__store_session_mirror(f->store, "demo", first.incarnation, 12), 1);
	assert_int_equal(served_count(f), 1);
	/* An active session is not up for election. */
	assert_int_equal(sb__store_session_elect(f->store, "demo", first.incarnation, &other, &second), 0);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", first.incarnation + 9), 0);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", first.incarnation), 1);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", first.incarnation), 0);
	assert_int_equal(get(f, "demo").state, SB_SESSION_ORPHANED);
	assert_true(get(f, "demo").live_refs == 0);
	assert_int_equal(served_count(f), 0);
	assert_grave(f, first.incarnation, SB__END_OWNER_DIED, "demo");
	store_fixture_verify(f->store);

	assert_int_equal(sb__store_session_elect(f->store, "demo", first.incarnation, &other, &second), 1);
	assert_true(second.incarnation > first.incarnation);
	assert_true(second.uid == first.uid);
	assert_int_equal(second.state, SB_SESSION_STARTING);
	assert_int_equal(second.owner_count, 1);
	assert_int_equal(second.designated.slot, other.slot);
	/* Who comes second with the old incarnation lost. */
	assert_int_equal(sb__store_session_elect(f->store, "demo", first.incarnation, &f->self, &first), 0);
	/* The old one cannot activate or mirror any more. */
	assert_int_equal(sb__store_session_activate(f->store, "demo", first.incarnation), 0);
	assert_int_equal(sb__store_session_mirror(f->store, "demo", first.incarnation, 3), 0);
	store_fixture_verify(f->store);
}

/* A designated owner that died before it was ready. */
static void test_elect_while_starting(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec first = store_fixture_wish(&f->self, "demo"), second;

	assert_int_equal(sb__store_session_create(f->store, &first, NULL), 1);
	assert_int_equal(sb__store_session_elect(f->store, "demo", first.incarnation, &f->self, &second), 1);
	assert_grave(f, first.incarnation, SB__END_OWNER_DIED, "demo");
	assert_int_equal(served_count(f), 1);
	assert_int_equal(sb__store_session_elect(f->store, "none", 1, &f->self, &second), 0);
	store_fixture_verify(f->store);
}

static void test_end_takes_everything_along(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), ended;
	struct sb__owner_rec *owners;
	size_t count = 99;

	for (uint32_t handle = 2; handle <= 50; handle++) {
		struct sb__owner_rec owner = store_fixture_owner(&f->self, rec.uid, handle);

		assert_int_equal(sb__store_owner_add(f->store, "demo", &owner), 1);
	}
	store_fixture_session(f, "stays");
	assert_int_equal(sb__store_session_end(f->store, "demo", rec.uid + 100, SB__END_RELEASED, NULL), 0);
	assert_int_equal(sb__store_session_end(f->store, "demo", rec.uid, SB__END_OWNERS_GONE, NULL),
	                 0); /* it has some */
	assert_int_equal(sb__store_session_end(f->store, "demo", rec.uid, SB__END_RELEASED, &ended), 1);
	assert_true(ended.uid == rec.uid);
	assert_int_equal(ended.owner_count, 50);
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_RELEASED, &ended), 0);
	assert_int_equal(sb__store_session_get(f->store, "demo", &ended), 0);
	assert_int_equal(sb__store_session_by_uid(f->store, rec.uid, &ended), 0);
	assert_ok(sb__store_owners_of_session(f->store, rec.uid, &owners, &count));
	assert_int_equal(count, 0);
	free(owners);
	assert_ok(sb__store_owners_of_process(f->store, f->self.slot, &owners, &count));
	assert_int_equal(count, 1); /* of the session that stays */
	free(owners);
	assert_grave(f, rec.incarnation, SB__END_RELEASED, "demo");
	assert_int_equal(due_count(f, UINT64_MAX), 1);
	store_fixture_verify(f->store);
}

static void test_mirror(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo");

	assert_int_equal(sb__store_session_mirror(f->store, "demo", rec.incarnation, 4711), 1);
	assert_true(get(f, "demo").live_refs == 4711);
	assert_int_equal(sb__store_session_mirror(f->store, "demo", rec.incarnation, 4711), 1);
	assert_int_equal(sb__store_session_mirror(f->store, "none", rec.incarnation, 1), 0);
}

/* ── owners ── */

static void test_owners_come_and_go(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), ended = { .uid = 0 };
	struct sb__owner_rec second = store_fixture_owner(&f->self, rec.uid, 2);
	struct sb__owner_rec stale = store_fixture_owner(&f->self, rec.uid + 50, 3);

	assert_int_equal(sb__store_owner_add(f->store, "demo", &second), 1);
	assert_int_equal(get(f, "demo").owner_count, 2);
	assert_int_equal(sb__store_owner_add(f->store, "demo", &second), 1); /* the same handle counts once */
	assert_int_equal(get(f, "demo").owner_count, 2);
	assert_int_equal(sb__store_owner_add(f->store, "demo", &stale), 0); /* another session by now */
	assert_int_equal(sb__store_owner_add(f->store, "none", &second), 0);
	store_fixture_verify(f->store);

	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 9, NULL),
	                 0);
	assert_int_equal(
		sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, &ended), 1);
	assert_int_equal(get(f, "demo").owner_count, 1);
	assert_int_equal(
		sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, &ended), 0);
	assert_true(ended.uid == 0);
	assert_int_equal(
		sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 2, &ended), 2);
	assert_true(ended.uid == rec.uid);
	assert_int_equal(sb__store_session_get(f->store, "demo", &ended), 0);
	assert_grave(f, rec.incarnation, SB__END_OWNERS_GONE, "demo");
	store_fixture_verify(f->store);
}

static void test_persistent_session_outlives_its_owners(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_wish(&f->self, "demo");
	struct sb__owner_rec owner = store_fixture_owner(&f->self, 0, 1);

	rec.persistent = 1;
	assert_int_equal(sb__store_session_create(f->store, &rec, &owner), 1);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, NULL),
	                 1);
	assert_int_equal(get(f, "demo").owner_count, 0);
	store_fixture_verify(f->store);
}

static void test_owners_are_listed_both_ways(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec a = store_fixture_session(f, "a"), b = store_fixture_session(f, "b");
	struct sb__identity other;
	struct sb__owner_rec owner, *owners;
	size_t count;

	assert_ok(store_fixture_attach(f, &other));
	assert_int_equal(other.slot, f->self.slot + 1);
	owner = store_fixture_owner(&other, a.uid, 1);
	assert_int_equal(sb__store_owner_add(f->store, "a", &owner), 1);

	assert_ok(sb__store_owners_of_process(f->store, f->self.slot, &owners, &count));
	assert_int_equal(count, 2);
	assert_true(owners[0].session_uid == a.uid && owners[1].session_uid == b.uid);
	assert_int_equal(owners[0].pid, f->self.pid);
	free(owners);
	assert_ok(sb__store_owners_of_process(f->store, other.slot, &owners, &count));
	assert_int_equal(count, 1);
	assert_int_equal(owners[0].generation, other.generation);
	free(owners);
	assert_ok(sb__store_owners_of_session(f->store, a.uid, &owners, &count));
	assert_int_equal(count, 2);
	free(owners);
	assert_ok(sb__store_owners_of_process(f->store, 4000, &owners, &count));
	assert_int_equal(count, 0);
	free(owners);
}

static void test_sessions_of_a_designated_owner(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec a = store_fixture_session(f, "a"), *recs;
	size_t count;

	for (int i = 0; i < 40; i++) { /* more than the list's first allocation */
		char id[16];

		snprintf(id, sizeof(id), "s%d", i);
		store_fixture_session(f, id);
	}
	assert_ok(sb__store_sessions_of_owner(f->store, f->self.slot, f->self.generation, &recs, &count));
	assert_int_equal(count, 41);
	assert_true(recs[0].uid == a.uid);
	assert_string_equal(recs[0].session_id, "a");
	free(recs);
	assert_ok(sb__store_sessions_of_owner(f->store, f->self.slot, f->self.generation + 1, &recs, &count));
	assert_int_equal(count, 0);
	free(recs);
}

/* ── listing ── */

struct seen {
	struct store_fixture *f;
	unsigned count, stop_at;
	int stop_with;
	char last[SB_SESSION_ID_MAX + 1];
};

static int see(void *arg, const struct sb__session_rec *rec)
{
	struct seen *seen = arg;

	assert_true(strcmp(rec->session_id, seen->last) > 0);
	memcpy(seen->last, rec->session_id, sizeof(seen->last));
	seen->count++;
	return seen->count == seen->stop_at ? seen->stop_with : 0;
}

static int end_what_is_seen(void *arg, const struct sb__session_rec *rec)
{
	struct seen *seen = arg;

	seen->count++;
	/* A visit may write: no transaction is open. */
	return sb__store_session_end(seen->f->store, rec->session_id, rec->uid, SB__END_RELEASED, NULL) == 1
	               ? 0
	               : -1;
}

static void make_sessions(struct store_fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char id[32];

		snprintf(id, sizeof(id), "session %u", i);
		store_fixture_session(f, id);
	}
}

static void test_visits_all_sessions_once(void **state)
{
	static const unsigned sizes[] = { 0, 1, 31, 1,
		                          31 }; /* 0, 1, 32, 33, 64 in all: about the batch's size */
	struct store_fixture *f = *state;
	unsigned total = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct seen seen = { .f = f };

		for (unsigned k = 0; k < sizes[i]; k++) {
			char id[32];

			snprintf(id, sizeof(id), "session %u", total++);
			store_fixture_session(f, id);
		}
		assert_int_equal(sb__store_sessions(f->store, see, &seen), 0);
		assert_int_equal(seen.count, total);
	}
}

static void test_a_visit_can_stop(void **state)
{
	struct store_fixture *f = *state;
	struct seen seen = { .f = f, .stop_at = 5, .stop_with = 1 };

	make_sessions(f, 70);
	assert_int_equal(sb__store_sessions(f->store, see, &seen), 0);
	assert_int_equal(seen.count, 5);
	seen = (struct seen){ .f = f, .stop_at = 40, .stop_with = SB_EINVAL };
	assert_int_equal(sb__store_sessions(f->store, see, &seen), SB_EINVAL);
	assert_int_equal(seen.count, 40);
}

static void test_a_visit_may_change_the_store(void **state)
{
	struct store_fixture *f = *state;
	struct seen seen = { .f = f };

	make_sessions(f, 100);
	assert_int_equal(sb__store_sessions(f->store, end_what_is_seen, &seen), 0);
	assert_int_equal(seen.count, 100);
	assert_int_equal(served_count(f), 0);
	store_fixture_verify(f->store);
}

/* ── expiry ── */

static struct sb__session_rec with_ttl(struct store_fixture *f, const char *id, uint64_t ttl_ms)
{
	struct sb__session_rec rec = store_fixture_wish(&f->self, id);

	rec.ttl_ms = ttl_ms;
	assert_int_equal(sb__store_session_create(f->store, &rec, NULL), 1);
	return rec;
}

static void test_due_in_order_and_at_most(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec late = with_ttl(f, "late", 90000), soon = with_ttl(f, "soon", 1000);
	struct sb__session_rec *recs;
	size_t count;

	with_ttl(f, "never", 0);
	assert_int_equal(due_count(f, soon.expires_ms - 1), 0);
	assert_int_equal(due_count(f, soon.expires_ms), 1);
	assert_ok(sb__store_due(f->store, late.expires_ms, 10, &recs, &count));
	assert_int_equal(count, 2);
	assert_string_equal(recs[0].session_id, "soon");
	assert_string_equal(recs[1].session_id, "late");
	free(recs);
	assert_ok(sb__store_due(f->store, UINT64_MAX, 1, &recs, &count));
	assert_int_equal(count, 1);
	free(recs);
	assert_ok(sb__store_due(f->store, UINT64_MAX, 0, &recs, &count));
	assert_int_equal(count, 0);
	free(recs);
}

static void test_expire_or_file_anew(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = with_ttl(f, "demo", 1000), ended = { .uid = 0 };
	uint64_t at = rec.expires_ms;

	/* Not yet due by its record. */
	assert_int_equal(sb__store_session_expire(f->store, "demo", rec.uid, 0, at - 1, &ended), 0);
	assert_true(get(f, "demo").expires_ms == at); /* an early access does not move it back */
	/* Used in between: filed anew. */
	assert_int_equal(sb__store_session_expire(f->store, "demo", rec.uid, at - 100, at, &ended), 0);
	assert_true(get(f, "demo").expires_ms == at + 900);
	assert_int_equal(due_count(f, at), 0);
	assert_int_equal(due_count(f, at + 900), 1);
	store_fixture_verify(f->store);
	/* Another session of the same id. */
	assert_int_equal(sb__store_session_expire(f->store, "demo", rec.uid + 77, 0, at + 5000, &ended), 0);
	assert_int_equal(sb__store_session_expire(f->store, "none", 0, 0, at, &ended), 0);
	assert_true(ended.uid == 0);
	/* Idle for its TTL. */
	assert_int_equal(sb__store_session_expire(f->store, "demo", rec.uid, at - 100, at + 900, &ended), 1);
	assert_true(ended.uid == rec.uid);
	assert_grave(f, rec.incarnation, SB__END_EXPIRED, "demo");
	assert_int_equal(due_count(f, UINT64_MAX), 0);
	store_fixture_verify(f->store);
}

static void test_expiry_at_the_ends_of_time(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = with_ttl(f, "long", UINT64_MAX - 5);

	assert_true(rec.expires_ms == UINT64_MAX);
	assert_int_equal(sb__store_session_expire(f->store, "long", 0, sb__now_ms(), sb__now_ms(), NULL), 0);
	with_ttl(f, "never", 0);
	assert_int_equal(sb__store_session_expire(f->store, "never", 0, 0, UINT64_MAX, NULL), 0);
	store_fixture_verify(f->store);
}

/* Without a mailbox nobody knows when it was used last: the TTL begins anew. */
static void test_13_ttl_begins_anew_when_the_owner_changes(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = with_ttl(f, "demo", 60000);
	uint64_t before = rec.expires_ms, after;

	while (sb__now_ms() <= rec.created_ms)
		;
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	after = get(f, "demo").expires_ms;
	assert_true(after > before);
	assert_int_equal(due_count(f, before), 0);
	store_fixture_verify(f->store);
	while (sb__now_ms() + 60000 <= after)
		;
	assert_int_equal(sb__store_session_elect(f->store, "demo", rec.incarnation, &rec.designated, &rec),
	                 1);
	assert_true(get(f, "demo").expires_ms > after);
	after = get(f, "demo").expires_ms;
	while (sb__now_ms() + 60000 <= after)
		;
	assert_int_equal(sb__store_session_activate(f->store, "demo", rec.incarnation), 1);
	assert_true(get(f, "demo").expires_ms > after);
	store_fixture_verify(f->store);
}

/* ── graveyard ── */

static void test_graves_tell_the_first_reason(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), again;
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_grave_of(f->store, "demo", &grave), 0);
	assert_int_equal(sb__store_grave(f->store, rec.incarnation, &grave), 0);
	assert_int_equal(sb__store_grave_of(f->store, "", &grave), 0);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	assert_newest_grave(f, "demo", rec.incarnation, SB__END_OWNER_DIED);
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_RELEASED, NULL), 1);
	/* Refs of that incarnation say for good that their owner died; the session says it was released. */
	assert_grave(f, rec.incarnation, SB__END_OWNER_DIED, "demo");
	assert_newest_grave(f, "demo", rec.incarnation, SB__END_RELEASED);

	again = store_fixture_session(f, "demo");
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_EXPIRED, NULL), 1);
	assert_grave(f, again.incarnation, SB__END_EXPIRED, "demo");
	assert_newest_grave(f, "demo", again.incarnation, SB__END_EXPIRED);
	assert_grave(f, rec.incarnation, SB__END_OWNER_DIED, "demo");
	store_fixture_verify(f->store);
}

static unsigned owners_listed(struct store_fixture *f, uint64_t uid, uint32_t slot, uint32_t handle)
{
	struct sb__owner_rec *of_session, *of_process;
	struct sb__owner_count *counts;
	size_t n_session, n_process, n_counts, found = 0;

	assert_ok(sb__store_owners_of_session(f->store, uid, &of_session, &n_session));
	assert_ok(sb__store_owners_of_process(f->store, slot, &of_process, &n_process));
	assert_ok(sb__store_owner_counts(f->store, &counts, &n_counts));
	for (size_t i = 0; i < n_session; i++)
		found += of_session[i].slot == slot && of_session[i].handle == handle &&
		         of_session[i].session_uid == uid && of_session[i].pid == f->self.pid;
	for (size_t i = 0; i < n_process; i++)
		found += of_process[i].session_uid == uid && of_process[i].handle == handle;
	assert_int_equal(n_counts, n_process > 0);
	if (n_counts)
		assert_true(counts[0].slot == slot && counts[0].owners == n_process);
	free(of_session);
	free(of_process);
	free(counts);
	return (unsigned)found;
}

/* The owner record of a designated owner's own handle has another place than others', and nobody sees that. */
static void test_10_11_a_designated_owners_own_record(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), next;
	struct sb__owner_rec second = store_fixture_owner(&f->self, rec.uid, 2);

	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 1), 2);
	assert_int_equal(sb__store_owner_add(f->store, "demo", &second), 1);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 1), 2);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 2), 2);
	second.handle = 1; /* is one already */
	assert_int_equal(sb__store_owner_add(f->store, "demo", &second), 1);
	assert_int_equal(sb__store_session_get(f->store, "demo", &next), 1);
	assert_int_equal(next.owner_count, 2);
	assert_int_equal(sb__store_process_remove(f->store, f->self.slot, f->self.generation), SB_EBUG);
	/* It stays an owner when the session has lost its objects, and when another holds them. */
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 1), 2);
	store_fixture_verify(f->store);
	assert_int_equal(sb__store_session_elect(f->store, "demo", rec.incarnation, &f->self, &next), 1);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 1), 2);
	store_fixture_verify(f->store);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, NULL),
	                 1);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 1), 0);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 2, NULL),
	                 2);
	store_fixture_verify(f->store);
	assert_int_equal(sb__store_process_remove(f->store, f->self.slot, f->self.generation), 1);
}

static void test_10_the_own_record_goes_first(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), now;
	struct sb__owner_rec second = store_fixture_owner(&f->self, rec.uid, 2);

	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 7, NULL),
	                 0);
	assert_int_equal(sb__store_owner_add(f->store, "demo", &second), 1);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, NULL),
	                 1);
	assert_int_equal(sb__store_owner_remove(f->store, rec.uid, f->self.slot, f->self.generation, 1, NULL),
	                 0);
	assert_int_equal(sb__store_session_get(f->store, "demo", &now), 1);
	assert_int_equal(now.owner_count, 1);
	assert_int_equal(owners_listed(f, rec.uid, f->self.slot, 2), 2);
	store_fixture_verify(f->store);
	/* It is served still, by a process that owns it no more by its first handle. */
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	store_fixture_verify(f->store);
}

/* A handle that knew its session's first incarnation asks by uid, whatever has the id by then. */
static void test_18_graves_by_uid(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), next, again;
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_grave_of_uid(f->store, rec.uid, &grave), 0);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	assert_int_equal(sb__store_session_elect(f->store, "demo", rec.incarnation, &rec.designated, &next),
	                 1);
	assert_int_equal(sb__store_grave_of_uid(f->store, rec.uid, &grave), 1);
	assert_int_equal(grave.reason, SB__END_OWNER_DIED);
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_EXPIRED, NULL), 1);
	again = store_fixture_session(f, "demo");
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_RELEASED, NULL), 1);

	assert_int_equal(sb__store_grave_of_uid(f->store, rec.uid, &grave), 1);
	assert_int_equal(grave.reason, SB__END_EXPIRED);
	assert_true(grave.incarnation == next.incarnation && grave.session_uid == rec.uid);
	assert_int_equal(sb__store_grave_of_uid(f->store, again.uid, &grave), 1);
	assert_int_equal(grave.reason, SB__END_RELEASED);
	store_fixture_verify(f->store);
}

static void test_18_fates(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec rec = store_fixture_session(f, "demo"), other, next;
	struct sb__grave_rec grave;

	other = store_fixture_session(f, "other");
	assert_int_equal(sb__store_fate(f->store, "demo", rec.incarnation, &grave), SB__FATE_LIVES);
	assert_int_equal(sb__store_fate(f->store, "demo", 0, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_fate(f->store, "demo", rec.uid, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_fate(f->store, "demo", UINT64_MAX, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_fate(f->store, "demo", other.incarnation, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_fate(f->store, "other", rec.incarnation, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_fate(f->store, "none", rec.incarnation, &grave), SB__FATE_NONE);
	assert_int_equal(sb__store_session_orphan(f->store, "demo", rec.incarnation), 1);
	assert_int_equal(sb__store_fate(f->store, "demo", rec.incarnation, &grave), SB__FATE_ENDED);
	assert_int_equal(grave.reason, SB__END_OWNER_DIED);
	assert_int_equal(sb__store_session_elect(f->store, "demo", rec.incarnation, &rec.designated, &next),
	                 1);
	assert_int_equal(sb__store_fate(f->store, "demo", next.incarnation, &grave), SB__FATE_LIVES);
	assert_int_equal(sb__store_fate(f->store, "demo", rec.incarnation, &grave), SB__FATE_ENDED);
	assert_int_equal(sb__store_session_end(f->store, "demo", 0, SB__END_RELEASED, NULL), 1);
	assert_int_equal(sb__store_fate(f->store, "demo", next.incarnation, &grave), SB__FATE_ENDED);
	assert_int_equal(grave.reason, SB__END_RELEASED);
	assert_int_equal(sb__store_fate(f->store, "other", next.incarnation, &grave), SB__FATE_NONE);
}

static void test_graveyard_forgets_the_oldest_burials(void **state)
{
	struct store_fixture *f = *state;
	struct sb__session_rec lasting = store_fixture_session(f, "lasting");
	struct sb__session_rec first = store_fixture_session(f, "first"), rec;
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_session_end(f->store, "first", 0, SB__END_RELEASED, NULL), 1);
	for (unsigned i = 0; i < SB__GRAVEYARD_MAX - 1; i++) {
		rec = store_fixture_wish(&f->self, "passing");
		assert_int_equal(sb__store_session_create(f->store, &rec, NULL), 1);
		assert_int_equal(sb__store_session_end(f->store, "passing", 0, SB__END_RELEASED, NULL), 1);
	}
	assert_grave(f, first.incarnation, SB__END_RELEASED, "first"); /* just fits */
	/* What ended last is remembered, however old its number; the oldest burial makes room. */
	assert_int_equal(sb__store_session_end(f->store, "lasting", 0, SB__END_RELEASED, NULL), 1);
	assert_grave(f, lasting.incarnation, SB__END_RELEASED, "lasting");
	assert_int_equal(sb__store_grave(f->store, first.incarnation, &grave), 0);
	assert_int_equal(sb__store_grave_of(f->store, "first", &grave), 0);
	assert_int_equal(sb__store_grave_of_uid(f->store, first.uid, &grave), 0);
	assert_int_equal(sb__store_fate(f->store, "first", first.incarnation, &grave), SB__FATE_FORGOTTEN);
	assert_int_equal(sb__store_fate(f->store, "first", UINT64_MAX, &grave), SB__FATE_NONE);
	assert_newest_grave(f, "passing", rec.incarnation, SB__END_RELEASED);
	store_fixture_verify(f->store);
}

static void test_reason_names(void **state)
{
	(void)state;
	assert_string_equal(sb__end_reason_name(SB__END_RELEASED), "released");
	assert_string_equal(sb__end_reason_name(SB__END_OWNERS_GONE), "owners_gone");
	assert_string_equal(sb__end_reason_name(SB__END_EXPIRED), "expired");
	assert_string_equal(sb__end_reason_name(SB__END_OWNER_DIED), "owner_died");
	assert_string_equal(sb__end_reason_name((enum sb__end_reason)99), "?");
}

int main(void)
{
#define IN_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
	const struct CMUnitTest tests[] = {
		IN_STORE(test_bridge_record),
		IN_STORE(test_create_keeps_every_field),
		IN_STORE(test_create_finds_what_exists),
		IN_STORE(test_create_without_owner_or_designated),
		IN_STORE(test_create_refuses_bad_records),
		IN_STORE(test_ids_match_exactly),
		IN_STORE(test_numbers_are_never_used_twice),
		IN_STORE(test_activate_only_the_incarnation_that_starts),
		IN_STORE(test_orphan_and_elect),
		IN_STORE(test_elect_while_starting),
		IN_STORE(test_end_takes_everything_along),
		IN_STORE(test_mirror),
		IN_STORE(test_owners_come_and_go),
		IN_STORE(test_persistent_session_outlives_its_owners),
		IN_STORE(test_owners_are_listed_both_ways),
		IN_STORE(test_sessions_of_a_designated_owner),
		IN_STORE(test_visits_all_sessions_once),
		IN_STORE(test_a_visit_can_stop),
		IN_STORE(test_a_visit_may_change_the_store),
		IN_STORE(test_due_in_order_and_at_most),
		IN_STORE(test_expire_or_file_anew),
		IN_STORE(test_expiry_at_the_ends_of_time),
		IN_STORE(test_13_ttl_begins_anew_when_the_owner_changes),
		IN_STORE(test_graves_tell_the_first_reason),
		IN_STORE(test_10_11_a_designated_owners_own_record),
		IN_STORE(test_10_the_own_record_goes_first),
		IN_STORE(test_18_graves_by_uid),
		IN_STORE(test_18_fates),
		IN_STORE(test_graveyard_forgets_the_oldest_burials),
		cmocka_unit_test(test_reason_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
