/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of one process on one store: transactions beside each other, while the map is full and must be changed
 * with every transaction out, and while other threads open and close the directory.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "store_fixture.h"
#include "store_test.h"

enum { THREADS = 4, SESSIONS = 150 };

struct worker {
	struct store_fixture *f;
	int number;
	const char *failed; /* the first thing that did, or NULL */
};

static struct sb__session_rec big_wish(const struct worker *w, int i)
{
	char id[32];
	struct sb__session_rec rec;

	snprintf(id, sizeof(id), "t%d.%d", w->number, i);
	rec = store_fixture_wish(&w->f->self, id);
	rec.tag_count = 1;
	rec.tags_len = SB_TAGS_BYTES_MAX;
	memset(rec.tags, 't', sizeof(rec.tags));
	rec.tags[0] = '\0';
	rec.tags[SB_TAGS_BYTES_MAX - 1] = '\0';
	return rec;
}

static int count_session(void *arg, const struct sb__session_rec *rec)
{
	(void)rec;
	*(int *)arg += 1;
	return 0;
}

static const char *work_once(struct worker *w, int i)
{
	struct sb__owner_rec owner = store_fixture_owner(&w->f->self, 0, (uint32_t)(w->number * 1000 + i));
	struct sb__session_rec rec = big_wish(w, i), found;
	struct sb__store *again;
	int seen = 0;

	if (sb__store_session_create(w->f->store, &rec, &owner) != 1)
		return "create";
	if (sb__store_session_activate(w->f->store, rec.session_id, rec.incarnation) != 1)
		return "activate";
	if (sb__store_session_get(w->f->store, rec.session_id, &found) != 1 || found.uid != rec.uid)
		return "get";
	if (i % 10 == 0 && (sb__store_sessions(w->f->store, count_session, &seen) != 0 || seen == 0))
		return "visit";
	if (sb__store_open(w->f->root, true, STORE_FIXTURE_LAYOUT, &again) != 0 || again != w->f->store)
		return "open";
	sb__store_close(again);
	if (i % 2 && sb__store_owner_remove(w->f->store, rec.uid, w->f->self.slot, w->f->self.generation,
	                                    owner.handle, NULL) != 2)
		return "remove";
	return NULL;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < SESSIONS && !w->failed; i++) {
		w->failed = work_once(w, i);
		if (w->failed)
			fprintf(stderr, "%s: %s\n", w->failed, sb_last_error()->message);
	}
	return NULL;
}

static void test_threads_share_a_growing_store(void **state)
{
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	struct store_fixture f;
	int seen = 0;

	(void)state;
	sb__store_test_map_size(1024 * 1024);
	assert_ok(store_fixture_make(&f));
	assert_ok(store_fixture_attach(&f, &f.self));
	for (int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .f = &f, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_null(workers[i].failed);
	}
	assert_int_equal(sb__store_sessions(f.store, count_session, &seen), 0);
	assert_int_equal(seen, THREADS * SESSIONS / 2);
	store_fixture_verify(f.store);
	store_fixture_drop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_share_a_growing_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
