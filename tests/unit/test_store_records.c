/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records are untrusted bytes: whatever is written behind the store's back, every function answers with a value
 * in range or with SB_ECORRUPT naming database and key, and nothing crashes (the sanitizers look on).
 */
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

static const char *const databases[] = { "bridge", "processes",         "sessions",     "session_uids",
	                                 "owners", "owners_by_process", "expiry",       "designated",
	                                 "graves", "grave_order",       "graves_by_id", "graves_by_uid" };
#define DATABASES (sizeof(databases) / sizeof(databases[0]))

static int check_identity(const struct sb__identity *identity)
{
	return identity->slot < SB__SLOTS_MAX && identity->generation <= 65535 && identity->pid >= 0 &&
	       memchr(identity->program, '\0', sizeof(identity->program));
}

static int check_session(void *arg, const struct sb__session_rec *rec)
{
	(void)arg;
	assert_non_null(memchr(rec->session_id, '\0', sizeof(rec->session_id)));
	assert_in_range(rec->state, SB_SESSION_STARTING, SB_SESSION_ORPHANED);
	assert_true(rec->tags_len <= SB_TAGS_BYTES_MAX && rec->tag_count <= SB_TAGS_MAX);
	assert_true(check_identity(&rec->designated));
	return 0;
}

/* A value in range, none, or a code. */
static void fine(int rc)
{
	assert_true(rc == SB_ECORRUPT || rc == SB_EBUG || rc >= 0);
}

static uint64_t demo; /* the uid of that session; a few numbers behind it is that of the grave */

/* Calls everything that reads, and checks what it gives. */
static void read_everything(struct store_fixture *f)
{
	struct sb__session_rec rec, *recs = NULL;
	struct sb__owner_rec *owners = NULL;
	struct sb__identity identity, *identities = NULL;
	struct sb__grave_rec grave;
	struct sb__bridge_rec bridge;
	size_t count;
	int rc;

	fine(sb__store_bridge(f->store, &bridge));
	fine(sb__store_process_get(f->store, 0, &identity));
	rc = sb__store_processes(f->store, &identities, &count);
	fine(rc);
	for (size_t i = 0; rc == 0 && i < count; i++)
		assert_true(check_identity(&identities[i]));
	free(rc == 0 ? identities : NULL);
	rc = sb__store_session_get(f->store, "demo", &rec);
	fine(rc);
	if (rc == 1)
		check_session(NULL, &rec);
	for (uint64_t uid = demo; uid < demo + 24; uid++) {
		fine(sb__store_session_by_uid(f->store, uid, &rec));
		fine(sb__store_grave(f->store, uid, &grave));
		fine(sb__store_grave_of_uid(f->store, uid, &grave));
		fine(sb__store_fate(f->store, "gone", uid, &grave));
		rc = sb__store_owners_of_session(f->store, uid, &owners, &count);
		fine(rc);
		free(rc == 0 ? owners : NULL);
	}
	fine(sb__store_grave_of(f->store, "gone", &grave));
	fine(sb__store_sessions(f->store, check_session, NULL));
	rc = sb__store_due(f->store, UINT64_MAX, 100, &recs, &count);
	fine(rc);
	for (size_t i = 0; rc == 0 && i < count; i++)
		check_session(NULL, &recs[i]);
	free(rc == 0 ? recs : NULL);
	rc = sb__store_sessions_of_owner(f->store, f->self.slot, f->self.generation, &recs, &count);
	fine(rc);
	free(rc == 0 ? recs : NULL);
	rc = sb__store_owners_of_process(f->store, f->self.slot, &owners, &count);
	fine(rc);
	free(rc == 0 ? owners : NULL);
	assert_true(sb__store_verify(f->store, NULL, NULL) >= SB_ECORRUPT);
}

/* And everything that writes; the store may be left in any state. */
static void write_everything(struct store_fixture *f)
{
	struct sb__session_rec rec;
	struct sb__owner_rec owner = store_fixture_owner(&f->self, demo, 9);
	struct sb__identity identity;

	fine(sb__store_owner_add(f->store, "demo", &owner));
	fine(sb__store_owner_remove(f->store, demo, f->self.slot, f->self.generation, 9, NULL));
	fine(sb__store_session_mirror(f->store, "demo", demo + 1, 5));
	fine(sb__store_session_orphan(f->store, "demo", demo + 1));
	fine(sb__store_session_elect(f->store, "demo", demo + 1, &f->self, &rec));
	fine(sb__store_session_expire(f->store, "demo", 0, 0, UINT64_MAX, NULL));
	rec = store_fixture_wish(&f->self, "new");
	fine(sb__store_session_create(f->store, &rec, NULL));
	fine(sb__store_session_end(f->store, "new", 0, SB__END_RELEASED, NULL));
	fine(sb__store_session_end(f->store, "demo", 0, SB__END_RELEASED, NULL));
	fine(store_fixture_attach(f, &identity));
	fine(sb__store_process_remove(f->store, 0, 1));
}

/* A store with something in every database: session demo, and the two graves of one that had two incarnations. */
static int setup(void **state)
{
	static const char tags[] = "k\0v\0";
	struct store_fixture *f;
	struct sb__session_rec rec;
	struct sb__owner_rec owner;

	store_fixture_setup(state);
	f = *state;
	rec = store_fixture_wish(&f->self, "demo");
	rec.tag_count = 1;
	rec.tags_len = 4;
	memcpy(rec.tags, tags, 4);
	owner = store_fixture_owner(&f->self, 0, 1);
	assert_int_equal(sb__store_session_create(f->store, &rec, &owner), 1);
	demo = rec.uid;
	owner = store_fixture_owner(&f->self, demo, 2); /* the first is with its designated owner's entry */
	assert_int_equal(sb__store_owner_add(f->store, "demo", &owner), 1);
	rec = store_fixture_session(f, "gone");
	assert_int_equal(sb__store_session_orphan(f->store, "gone", rec.incarnation), 1);
	assert_int_equal(sb__store_session_elect(f->store, "gone", rec.incarnation, &f->self, &rec), 1);
	assert_true(rec.incarnation < demo + 24);
	assert_int_equal(sb__store_session_end(f->store, "gone", 0, SB__END_RELEASED, NULL), 1);
	store_fixture_verify(f->store);
	return 0;
}

struct entry {
	uint8_t key[512], val[8192];
	size_t key_len, val_len;
};

/* The n-th entry of a database; false behind the last. */
static bool take(struct store_fixture *f, const char *db, unsigned n, struct entry *ret)
{
	int rc;

	if (sb__store_test_key(f->store, db, n, ret->key, sizeof(ret->key), &ret->key_len) != 0)
		return false;
	rc = sb__store_test_get(f->store, db, ret->key, ret->key_len, ret->val, sizeof(ret->val));
	assert_true(rc >= 0);
	ret->val_len = (size_t)rc;
	return true;
}

static void put(struct store_fixture *f, const char *db, const struct entry *e)
{
	assert_int_equal(sb__store_test_put(f->store, db, e->key, e->key_len, e->val, e->val_len), 0);
}

static void test_every_database_has_an_entry(void **state)
{
	struct store_fixture *f = *state;
	struct entry e;

	for (size_t i = 0; i < DATABASES; i++)
		if (!take(f, databases[i], 0, &e))
			fail_msg("\"%s\" is empty", databases[i]);
}

static void test_any_truncation(void **state)
{
	struct store_fixture *f = *state;
	struct entry whole, cut;

	for (size_t i = 0; i < DATABASES; i++) {
		assert_true(take(f, databases[i], 0, &whole));
		for (cut = whole, cut.val_len = 0; cut.val_len < whole.val_len; cut.val_len++) {
			put(f, databases[i], &cut);
			read_everything(f);
			assert_true(sb__store_verify(f->store, NULL, NULL) != 0);
		}
		put(f, databases[i], &whole);
	}
	store_fixture_verify(f->store);
}

static void test_any_byte_flipped(void **state)
{
	static const uint8_t masks[] = { 0x01, 0x80, 0xff };
	struct store_fixture *f = *state;
	struct entry whole, flipped;

	for (size_t i = 0; i < DATABASES; i++) {
		assert_true(take(f, databases[i], 0, &whole));
		for (size_t at = 0; at < whole.val_len; at++)
			for (size_t m = 0; m < sizeof(masks); m++) {
				flipped = whole;
				flipped.val[at] ^= masks[m];
				put(f, databases[i], &flipped);
				read_everything(f);
			}
		put(f, databases[i], &whole);
	}
	store_fixture_verify(f->store);
}

static void test_longer_than_it_says(void **state)
{
	struct store_fixture *f = *state;
	struct entry whole, longer;

	for (size_t i = 0; i < DATABASES; i++) {
		assert_true(take(f, databases[i], 0, &whole));
		longer = whole;
		memset(longer.val + longer.val_len, 'x', 5000);
		longer.val_len += 5000;
		put(f, databases[i], &longer);
		read_everything(f);
		assert_true(sb__store_verify(f->store, NULL, NULL) != 0);
		put(f, databases[i], &whole);
	}
}

static void test_strange_keys(void **state)
{
	struct store_fixture *f = *state;
	struct entry e, strange;

	for (size_t i = 1; i < DATABASES; i++) /* of the bridge's database only one key is read */
		for (size_t len = 1; len < 40; len++) {
			assert_true(take(f, databases[i], 0, &e));
			strange = e;
			strange.key_len = len;
			memset(strange.key, 0xff, sizeof(strange.key));
			put(f, databases[i], &strange);
			read_everything(f);
			assert_true(sb__store_verify(f->store, NULL, NULL) != 0);
			assert_int_equal(
				sb__store_test_put(f->store, databases[i], strange.key, len, NULL, 0), 0);
		}
	store_fixture_verify(f->store);
}

static void test_entries_missing(void **state)
{
	struct store_fixture *f = *state;
	struct entry e;

	for (size_t i = 0; i < DATABASES; i++) {
		assert_true(take(f, databases[i], 0, &e));
		assert_int_equal(sb__store_test_put(f->store, databases[i], e.key, e.key_len, NULL, 0), 0);
		read_everything(f);
		if (strcmp(databases[i], "processes") != 0 && strncmp(databases[i], "graves_by", 9) != 0)
			assert_true(sb__store_verify(f->store, NULL, NULL) != 0);
		put(f, databases[i], &e);
	}
	store_fixture_verify(f->store);
}

/* Writing over damage: random damage in every database, then every function that writes. */
static void test_writing_over_damage(void **state)
{
	unsigned seed = 20240229;

	(void)state;
	for (int round = 0; round < 40; round++) {
		void *inner;
		struct store_fixture *f;
		struct entry e;

		setup(&inner);
		f = inner;
		for (size_t i = 1; i < DATABASES; i++) {
			assert_true(take(f, databases[i], 0, &e));
			if (rand_r(&seed) % 3 == 0)
				continue;
			if (e.val_len > 0 && rand_r(&seed) % 2)
				e.val[(unsigned)rand_r(&seed) % e.val_len] ^= (uint8_t)(1 +
				                                                        rand_r(&seed) % 255);
			else
				e.val_len = e.val_len ? (unsigned)rand_r(&seed) % e.val_len : 3;
			put(f, databases[i], &e);
		}
		write_everything(f);
		read_everything(f);
		store_fixture_teardown(&inner);
	}
}

static void assert_names(const char *db, const char *key)
{
	char quoted[64];

	snprintf(quoted, sizeof(quoted), "\"%s\"", db);
	assert_int_equal(sb_last_error()->code, SB_ECORRUPT);
	if (!strstr(sb_last_error()->message, quoted) || !strstr(sb_last_error()->message, key))
		fail_msg("\"%s\" names not both %s and %s", sb_last_error()->message, db, key);
}

static void test_the_message_names_database_and_key(void **state)
{
	static const uint8_t slot[4] = { 0 };
	uint8_t uid[8] = { 0, 0, 0, 0, 0, 0, 0, (uint8_t)demo };
	struct store_fixture *f = *state;
	struct sb__session_rec rec;
	struct sb__identity identity;
	struct sb__bridge_rec bridge;
	char hex[17];

	assert_true(demo < 256);
	assert_int_equal(sb__store_test_put(f->store, "sessions", "demo", 4, "x", 1), 0);
	assert_int_equal(sb__store_session_get(f->store, "demo", &rec), SB_ECORRUPT);
	assert_names("sessions", "\"demo\"");
	assert_int_equal(sb__store_test_put(f->store, "processes", slot, 4, "x", 1), 0);
	assert_int_equal(sb__store_process_get(f->store, 0, &identity), SB_ECORRUPT);
	assert_names("processes", "00000000");
	assert_int_equal(sb__store_test_put(f->store, "session_uids", uid, 8, "\n", 1), 0);
	assert_int_equal(sb__store_session_by_uid(f->store, demo, &rec), SB_ECORRUPT);
	snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)demo);
	assert_names("session_uids", hex);
	assert_int_equal(sb__store_test_put(f->store, "bridge", "bridge", 6, "x", 1), 0);
	assert_int_equal(sb__store_bridge(f->store, &bridge), SB_ECORRUPT);
	assert_names("bridge", "\"bridge\"");
}

static void test_wrong_counts_are_found(void **state)
{
	struct store_fixture *f = *state;
	struct entry e;
	uint32_t none = 0;

	assert_true(take(f, "sessions", 0, &e));
	memcpy(e.val + 28, &none, sizeof(none)); /* owner_count */
	put(f, "sessions", &e);
	assert_int_equal(sb__store_verify(f->store, NULL, NULL), 1);
	assert_int_equal(sb__store_owner_remove(f->store, demo, f->self.slot, f->self.generation, 1, NULL),
	                 SB_ECORRUPT);
	assert_names("sessions", "\"demo\"");
}

int main(void)
{
#define DAMAGED(test) cmocka_unit_test_setup_teardown(test, setup, store_fixture_teardown)
	const struct CMUnitTest tests[] = {
		DAMAGED(test_every_database_has_an_entry),
		DAMAGED(test_any_truncation),
		DAMAGED(test_any_byte_flipped),
		DAMAGED(test_longer_than_it_says),
		DAMAGED(test_strange_keys),
		DAMAGED(test_entries_missing),
		cmocka_unit_test(test_writing_over_damage),
		DAMAGED(test_the_message_names_database_and_key),
		DAMAGED(test_wrong_counts_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
