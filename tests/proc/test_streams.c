/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: waiting, read-ahead and its bound, readers that share, and limits. Numbers are points of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "streams.h"

/* ── waiting ── */

static void test_28_what_is_there_comes_at_once(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(100, 0);
	const sb_value *item = NULL;
	sb_iter *it;

	place_exec(p, streams_source);
	options.timeout_ms = 60000;
	it = stream(p, "gated(3, 2)", &options);
	/* The fourth does not come: the first three do not wait for it, although the batch is not full. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(next_int(it), i);
	/* Nothing comes in time, which harms nothing. */
	sb_iter_detach(it);
	place_exec(p, "gate.clear()");
	options.timeout_ms = 100;
	it = stream(p, "gated(1, 2)", &options);
	assert_int_equal(next_int(it), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sb_iter_lend(it, &item), SB_ETIMEOUT);
		assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
		assert_int_equal(sb_iter_error(it), SB_ETIMEOUT);
	}
	place_exec(p, "gate.set()");
	for (int i = 0; i < 1000 && sb_iter_lend(it, &item) == SB_ETIMEOUT; i++)
		;
	assert_int_equal(sb_iter_error(it), 0);
	assert_non_null(item);
	assert_int_equal(next_int(it), 2);
	assert_int_equal(sb_iter_lend(it, &item), 0);
	sb_iter_close(it);
}

static void test_28_timeouts_lose_nothing(void **state)
{
	struct place *p = *state;
	static const uint32_t timeouts[] = { 1, 3, 8 };
	int missed = 0;

	place_exec(p, streams_source);
	for (size_t t = 0; t < 3; t++) {
		sb_iter_options options = batches(t == 1 ? 1 : 10, t == 2 ? SB_ITER_READ_AHEAD : 0);
		const sb_value *item = NULL;
		int64_t n = -1, expect = 0;
		sb_iter *it = stream(p, "count(60, 0.004)", &options);
		int rc;

		sb_iter_options hasty = options;
		hasty.timeout_ms = timeouts[t];
		sb_ref ref = *sb_iter_ref(it);
		sb_iter_detach(it);
		assert_ok(sb_iter_attach(p->s, &ref, &hasty, &it));
		while ((rc = sb_iter_lend(it, &item)) != 0) {
			if (rc < 0) {
				if (rc != SB_ETIMEOUT)
					fprintf(stderr, "%s\n", sb_last_error()->message);
				assert_int_equal(rc, SB_ETIMEOUT);
				missed++;
				continue;
			}
			assert_ok(sb_value_int(item, &n));
			assert_int_equal(n, expect++);
		}
		assert_int_equal(expect, 60);
		sb_iter_close(it);
	}
	assert_true(missed > 0);
}

static void test_28_cancelling_loses_nothing(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(10, 0);
	sb_request r = SB_REQUEST_INIT;
	sb_future *future = NULL;
	sb_value *batch = NULL;
	sb_iter *it;
	int level = SB_CANCEL_NONE, err;

	place_exec(p, streams_source);
	it = stream(p, "gated(0, 3)", &options);
	r.verb = SB_VERB_NEXT;
	r.target = sb_iter_ref(it);
	r.args = sb_args("ii", 10, 0);
	r.trace_id = 0xabcd;
	assert_ok(sb_call_start(p->s, &r, &future));
	while (level == SB_CANCEL_NONE) {
		nap(5);
		assert_ok(sb_cancel(p->s, 0xabcd, &level));
	}
	err = sb_future_wait(future, SB_WAIT_FOREVER, &batch);
	assert_int_equal(err, SB_ECANCELLED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	sb_future_free(future);
	place_exec(p, "gate.set()");
	for (int i = 0; i < 3; i++)
		assert_int_equal(next_int(it), i);
	sb_iter_close(it);
	assert_int_equal(place_int(p, "len(ended)"), 1);
}

/* ── read-ahead ── */

/* An infinite generator is ahead of its reader by one batch, with read-ahead by two, and no more. */
static void test_28_read_ahead_is_bounded(void **state)
{
	struct place *p = *state;
	const int batch = 10;

	place_exec(p, streams_source);
	for (int ahead = 0; ahead <= 1; ahead++) {
		sb_iter_options options = batches((size_t)batch, ahead ? SB_ITER_READ_AHEAD : 0);
		sb_iter *it;

		options.wait_ms = SB_ITER_WAIT_FULL;
		place_exec(p, "made.clear(); ended.clear()");
		it = stream(p, "count(10**12)", &options);
		assert_int_equal(place_int(p, "len(made)"), 0); /* lazy */
		for (int i = 0; i < 35; i++) {
			int64_t bound = (i / batch + 1 + ahead) * batch;

			assert_int_equal(next_int(it), i);
			assert_int_equal(comes_to(p, "len(made)", bound), bound);
			if (i % batch == 0) {
				nap(30);
				assert_int_equal(place_int(p, "len(made)"), bound);
			}
		}
		sb_iter_close(it);
		assert_int_equal(comes_to(p, "len(ended)", 1), 1);
	}
}

/* ── sharing ── */

struct sharer {
	struct place *p;
	sb_ref ref;
	const char *dir;
	int fd;
	size_t batch;
	uint32_t flags;
};

/* Writes every item into the pipe; whether all went well. */
static int share(sb_session *s, const struct sharer *sharer)
{
	sb_iter_options options = batches(sharer->batch, sharer->flags);
	sb_iter *it = NULL;
	int64_t n, last = -1;
	int bad = 0;

	if (sb_iter_attach(s, &sharer->ref, &options, &it))
		return 1;
	SB_FOR_EACH(item, it)
	{
		bad |= sb_value_int(item, &n) != 0 || n <= last;
		last = n;
		bad |= write(sharer->fd, &n, sizeof(n)) != sizeof(n);
	}
	if (sb_iter_error(it))
		fprintf(stderr, "a sharer: %s\n", sb_last_error()->message);
	bad |= sb_iter_error(it) != 0;
	sb_iter_detach(it);
	return bad;
}

static int share_in_child(void *arg)
{
	const struct sharer *sharer = arg;
	sb_bridge *bridge = NULL;
	sb_session *s = NULL;
	int bad;

	if (sb_bridge_open(sharer->dir, NULL, &bridge))
		return 2;
	s = fixture_session(bridge, "place", SB_DESIGNATED_ATTACH_ONLY);
	bad = share(s, sharer);
	sb_session_close(s);
	sb_bridge_close(bridge);
	return bad;
}

static void *share_in_thread(void *arg)
{
	const struct sharer *sharer = arg;

	return (void *)(intptr_t)share(sharer->p->s, sharer);
}

/* Each of 0 … n - 1 once. */
static void read_once_each(int fd, int64_t n)
{
	static unsigned char seen[4096];
	int64_t item, count = 0;

	assert_true((size_t)n <= sizeof(seen));
	memset(seen, 0, sizeof(seen));
	while (read(fd, &item, sizeof(item)) == sizeof(item)) {
		assert_true(item >= 0 && item < n);
		assert_int_equal(seen[item], 0);
		seen[item] = 1;
		count++;
	}
	assert_int_equal(count, n);
}

static void test_28_processes_share_a_stream(void **state)
{
	struct place *p = *state;
	pid_t children[3];
	int fds[2];

	place_exec(p, streams_source);
	for (int ahead = 0; ahead <= 1; ahead++) {
		sb_iter *it = stream(p, "count(2000, 0.00005)", NULL);
		struct sharer sharer = { .ref = *sb_iter_ref(it),
			                 .dir = p->f->dir,
			                 .batch = 7,
			                 .flags = ahead ? SB_ITER_READ_AHEAD : 0 };

		sb_iter_detach(it);
		assert_int_equal(pipe(fds), 0);
		sharer.fd = fds[1];
		for (int i = 0; i < 3; i++)
			children[i] = fixture_fork(share_in_child, &sharer);
		close(fds[1]);
		read_once_each(fds[0], 2000);
		for (int i = 0; i < 3; i++)
			assert_int_equal(fixture_wait(children[i]), 0);
		close(fds[0]);
	}
}

static void test_28_threads_share_a_stream(void **state)
{
	struct place *p = *state;
	pthread_t threads[3];
	struct sharer sharer = { .p = p, .batch = 5 };
	sb_iter *it;
	int fds[2];

	place_exec(p, streams_source);
	it = stream(p, "count(2000)", NULL);
	sharer.ref = *sb_iter_ref(it);
	assert_int_equal(pipe(fds), 0);
	sharer.fd = fds[1];
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, share_in_thread, &sharer), 0);
	for (int i = 0; i < 3; i++) {
		void *bad = NULL;

		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	close(fds[1]);
	read_once_each(fds[0], 2000);
	close(fds[0]);
	/* For one who comes after the end it is the end; for all other uses the ref is gone. */
	assert_int_equal(next_int(it), INT64_MIN);
	assert_int_equal(sb_iter_error(it), 0);
	assert_int_equal(sb_repr(p->s, &sharer.ref, NULL), SB_EREFRELEASED);
	sb_iter_close(it);
}

static void test_28_a_stream_of_a_stream_is_the_same(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(1, 0);
	sb_iter *it, *other = NULL;
	sb_value *sum = NULL;
	int64_t n = 0;

	place_exec(p, streams_source);
	it = stream(p, "count(10)", &options);
	assert_int_equal(next_int(it), 0);
	assert_ok(sb_iter_open(p->s, sb_iter_ref(it), &options, &other));
	assert_int_equal(sb_iter_ref(other)->slot, sb_iter_ref(it)->slot);
	assert_int_equal(next_int(other), 1);
	assert_int_equal(next_int(it), 2);
	/* To Python code it is an iterator: the rest of them. */
	assert_ok(sb_call(p->s, "builtins:sum", sb_args("r", sb_iter_ref(it)), &sum));
	assert_ok(sb_value_int(sum, &n));
	assert_int_equal(n, 3 + 4 + 5 + 6 + 7 + 8 + 9);
	sb_value_free(sum);
	assert_int_equal(next_int(other), INT64_MIN);
	sb_iter_close(other);
	sb_iter_close(it);
}

static void test_28_a_forked_child_takes_over_nothing(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(10, SB_ITER_READ_AHEAD);
	sb_iter *it;
	int fds[2];
	int64_t n;
	pid_t pid;

	place_exec(p, streams_source);
	options.wait_ms = SB_ITER_WAIT_FULL;
	it = stream(p, "count(60)", &options);
	assert_int_equal(next_int(it), 0);
	assert_int_equal(comes_to(p, "len(made)", 20), 20);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		n = next_int(it); /* 0 … 19 are the parent's */
		_exit(write(fds[1], &n, sizeof(n)) == sizeof(n) ? 0 : 1);
	}
	assert_int_equal(fixture_wait(pid), 0);
	assert_true(fixture_hear(fds[0], pid, &n, sizeof(n)));
	assert_int_equal(n, 20);
	for (int i = 1; i < 20; i++)
		assert_int_equal(next_int(it), i);
	assert_true(next_int(it) >= 30); /* the child may have asked for one batch more before it ended */
	sb_iter_close(it);
	close(fds[0]);
	close(fds[1]);
}

/* ── the C side ── */

static int64_t first_of(struct place *p, int64_t wanted)
{
	SB_ITER_SCOPED sb_iter *it = stream(p, "count(100)", NULL);

	SB_FOR_EACH(item, it)
	{
		int64_t n = -1;

		if (sb_value_int(item, &n) || n % 2)
			continue;
		if (n == wanted)
			return n;
	}
	return -1;
}

static void test_28_for_each(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(10, 0);
	sb_value *kept[3] = { NULL };
	sb_iter *it;
	int64_t n = 0;

	place_exec(p, streams_source);
	assert_int_equal(first_of(p, 42), 42); /* returned from within; closed */
	assert_int_equal(place_int(p, "len(ended)"), 1);
	it = stream(p, "count(30)", &options);
	SB_FOR_EACH(item, it)
	if (sb_value_int(item, &n) == 0 && n == 11)
		break;
	assert_int_equal(next_int(it), 12); /* it goes on where it was left */
	for (int i = 0; i < 3; i++)
		assert_int_equal(sb_iter_next(it, &kept[i]), 1);
	SB_FOR_EACH(item, it)
	assert_ok(sb_value_int(item, &n));
	assert_int_equal(n, 29);
	sb_iter_close(it);
	for (int i = 0; i < 3; i++) { /* these are ours */
		assert_ok(sb_value_int(kept[i], &n));
		assert_int_equal(n, 13 + i);
		sb_value_free(kept[i]);
	}
}

static void test_28_a_call_becomes_a_stream(void **state)
{
	struct place *p = *state;
	sb_iter_options wrong = SB_ITER_OPTIONS_INIT;
	sb_request r = SB_REQUEST_INIT;
	sb_iter *it = NULL;
	const sb_value *item = NULL;

	r.name = "builtins:range"; /* what would come back as a value, too */
	r.args = sb_args("i", 3);
	assert_ok(sb_iter_call(p->s, &r, NULL, &it));
	for (int i = 0; i < 3; i++)
		assert_int_equal(next_int(it), i);
	assert_int_equal(sb_iter_lend(it, &item), 0);
	sb_iter_close(it);
	r.args = NULL;
	r.name = "builtins:int";
	assert_int_equal(sb_iter_call(p->s, &r, NULL, &it), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.TypeError");
	r.args = sb_args("i", 1);
	wrong.call_flags = SB_CALL_ONEWAY;
	assert_int_equal(sb_iter_call(p->s, &r, &wrong, &it), SB_EINVAL);
	sb_ref list = place_ref(p, "[1]");
	assert_ok(sb_iter_attach(p->s, &list, NULL, &it)); /* no stream */
	assert_int_equal(sb_iter_lend(it, &item), SB_EINVAL);
	sb_iter_detach(it);
}

static void test_22_28_in_a_batch(void **state)
{
	struct place *p = *state;
	sb_request r = SB_REQUEST_INIT;
	sb_batch *batch = NULL;
	sb_value *v = NULL;
	sb_ref made = sb_batch_ref(0);
	int64_t n = -1;

	place_exec(p, streams_source);
	assert_ok(sb_batch_new(0, &batch));
	r.name = "builtins:eval";
	r.args = sb_args("sr", "count(5)", &p->names);
	r.flags = SB_CALL_STREAM;
	assert_ok(sb_batch_add(batch, &r, NULL));
	for (int i = 0; i < 2; i++) {
		r = (sb_request)SB_REQUEST_INIT;
		r.verb = SB_VERB_NEXT;
		r.target = &made;
		r.args = sb_args("i", 2);
		assert_ok(sb_batch_add(batch, &r, NULL));
	}
	assert_ok(sb_batch_run(p->s, batch, 0));
	for (int i = 0; i < 2; i++) {
		assert_ok(sb_batch_result(batch, (size_t)i + 1, &v));
		assert_ok(sb_value_int(sb_value_at(sb_value_at(v, 1), 1), &n));
		assert_int_equal(n, 2 * i + 1);
		sb_value_free(v);
	}
	assert_ok(sb_batch_result(batch, 0, &v));
	sb_iter *it = NULL;
	assert_ok(sb_iter_attach(p->s, sb_value_ref(v), NULL, &it));
	assert_int_equal(next_int(it), 4);
	assert_int_equal(next_int(it), INT64_MIN);
	sb_iter_detach(it);
	assert_int_equal(sb_repr(p->s, sb_value_ref(v), NULL), SB_EREFRELEASED);
	sb_value_free(v);
	sb_batch_free(batch);
}

static void test_28_big_items(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(1000, SB_ITER_READ_AHEAD);
	size_t count = 0, len = 0;
	sb_iter *it = stream(p, "(bytes([i]) * 700000 for i in range(40))", &options);

	SB_FOR_EACH(item, it)
	{
		const unsigned char *bytes = sb_value_bytes(item, &len);

		assert_int_equal(len, 700000);
		assert_int_equal(bytes[len - 1], count++);
	}
	assert_int_equal(sb_iter_error(it), 0);
	assert_int_equal(count, 40);
	sb_iter_close(it);
}

/* ── limits ── */

static void test_17_28_max_refs(void **state)
{
	struct place *p = *state;
	sb_session_options session_options = SB_SESSION_OPTIONS_INIT;
	sb_iter_options options = batches(100, 0);
	const sb_value *item = NULL;
	sb_request r = SB_REQUEST_INIT;
	sb_session *s = NULL;
	sb_iter *it = NULL;
	sb_ref held[4];
	int got = 0, full = 0, rc;

	session_options.session_id = "few";
	session_options.designated = SB_DESIGNATED_DEDICATED;
	session_options.max_refs = 5; /* the stream is one of them */
	session_options.on_full = SB_ON_FULL_ERROR;
	assert_ok(sb_session_open(p->f->bridge, &session_options, &s));
	r.name = "builtins:eval";
	r.args = sb_args("s{}", "({i} and iter([i]) for i in range(10))");
	assert_ok(sb_iter_call(s, &r, &options, &it));
	while ((rc = sb_iter_lend(it, &item)) != 0) {
		if (rc < 0) {
			sb_value *repr = NULL;

			assert_int_equal(rc, SB_EREFSFULL);
			assert_int_equal(got % 4, 0); /* as many as there was room for */
			full++;
			for (int i = 0; i < 4; i++) {
				assert_ok(sb_repr(s, &held[i], &repr));
				sb_value_free(repr);
				assert_ok(sb_ref_release(s, &held[i], NULL));
			}
			continue;
		}
		held[got++ % 4] = *sb_value_ref(item);
	}
	assert_int_equal(got, 10);
	assert_int_equal(full, 2);
	sb_iter_close(it);
	assert_ok(sb_session_release(p->f->bridge, "few", NULL));
	sb_session_close(s);
}

static void test_22_28_policy(void **state)
{
	struct place *p = *state;
	static const char *const allow[] = { "builtins:range" };
	sb_session_options session_options = SB_SESSION_OPTIONS_INIT;
	sb_request r = SB_REQUEST_INIT;
	sb_session *s = NULL;
	sb_iter *it = NULL;

	session_options.session_id = "strict";
	session_options.designated = SB_DESIGNATED_SELF;
	session_options.allow = allow;
	session_options.allow_count = 1;
	assert_ok(sb_session_open(p->f->bridge, &session_options, &s));
	r.name = "builtins:eval";
	r.args = sb_args("s", "[1]");
	assert_int_equal(sb_iter_call(s, &r, NULL, &it), SB_EDENIED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	r.name = "builtins:range";
	r.args = sb_args("i", 2);
	assert_ok(sb_iter_call(s, &r, NULL, &it));
	assert_int_equal(next_int(it), 0);
	sb_iter_close(it);
	assert_ok(sb_session_release(p->f->bridge, "strict", NULL));
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_28_what_is_there_comes_at_once),
		BOTH_PLACES(test_28_timeouts_lose_nothing),
		BOTH_PLACES(test_28_cancelling_loses_nothing),
		BOTH_PLACES(test_28_read_ahead_is_bounded),
		BOTH_PLACES(test_28_processes_share_a_stream),
		BOTH_PLACES(test_28_threads_share_a_stream),
		BOTH_PLACES(test_28_a_stream_of_a_stream_is_the_same),
		BOTH_PLACES(test_28_a_forked_child_takes_over_nothing),
		BOTH_PLACES(test_28_for_each),
		BOTH_PLACES(test_28_a_call_becomes_a_stream),
		BOTH_PLACES(test_22_28_in_a_batch),
		BOTH_PLACES(test_28_big_items),
		cmocka_unit_test_setup_teardown(test_17_28_max_refs, place_there, place_teardown),
		cmocka_unit_test_setup_teardown(test_22_28_policy, place_there, place_teardown),
	};

	return cmocka_run_group_tests_name("proc.test_streams", tests, NULL, NULL);
}
