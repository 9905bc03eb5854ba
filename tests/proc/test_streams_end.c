/* SPDX-License-Identifier: Apache-2.0 */
/* How streams end: closed, let go of, asynchronous ones too, and killed. Numbers are points of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "streams.h"

/* ── closing ── */

static void test_28_close_interrupts_what_blocks(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(10, 0);
	const sb_value *item = NULL;
	sb_iter *it;

	place_exec(p, streams_source);
	options.timeout_ms = 50;
	it = stream(p, "never()", &options);
	assert_int_equal(sb_iter_lend(it, &item), SB_ETIMEOUT); /* it runs, and gives nothing */
	sb_iter_close(it);
	assert_int_equal(comes_to(p, "len(ended)", 1), 1);
	/* One that catches whatever comes is closed at its next item. */
	place_exec(p, "ended.clear()\n"
	              "def stubborn():\n"
	              "    try:\n"
	              "        for i in range(10**9):\n"
	              "            try:\n"
	              "                time.sleep(0.3)\n"
	              "            except BaseException: pass\n"
	              "            yield i\n"
	              "    finally: ended.append('stubborn')\n");
	it = stream(p, "stubborn()", &options);
	assert_int_equal(sb_iter_lend(it, &item), SB_ETIMEOUT);
	sb_iter_close(it);
	assert_int_equal(comes_to(p, "len(ended)", 1), 1);
}

static void test_28_close_ends_it_for_all(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(2, 0);
	const sb_value *item = NULL;
	sb_iter *it, *other = NULL;

	place_exec(p, streams_source);
	place_exec(p, "g = count(100)");
	it = stream(p, "g", &options); /* somebody else holds the generator, too */
	assert_ok(sb_iter_attach(p->s, sb_iter_ref(it), &options, &other));
	assert_int_equal(next_int(it), 0);
	assert_int_equal(next_int(other), 2);
	sb_iter_close(it);
	assert_int_equal(place_int(p, "len(ended)"), 1);
	assert_int_equal(next_int(other), 3); /* it has that one */
	assert_int_equal(sb_iter_lend(other, &item), SB_EREFRELEASED);
	sb_iter_close(other);
	assert_int_equal(place_int(p, "len(ended)"), 1);
}

struct blocked {
	sb_iter *it;
	int rc;
};

static void *read_blocked(void *arg)
{
	struct blocked *b = arg;
	const sb_value *item = NULL;

	b->rc = sb_iter_lend(b->it, &item);
	return NULL;
}

static void test_28_close_wakes_readers(void **state)
{
	struct place *p = *state;
	sb_iter *it;
	struct blocked b = { .rc = 1 };
	pthread_t thread;

	place_exec(p, streams_source);
	it = stream(p, "never()", NULL);
	assert_ok(sb_iter_attach(p->s, sb_iter_ref(it), NULL, &b.it));
	assert_int_equal(pthread_create(&thread, NULL, read_blocked, &b), 0);
	nap(50);
	sb_iter_close(it);
	pthread_join(thread, NULL);
	assert_int_equal(b.rc, SB_EREFRELEASED);
	sb_iter_close(b.it);
	assert_int_equal(comes_to(p, "len(ended)", 1), 1);
}

static void test_28_an_exception_in_finally_is_told(void **state)
{
	struct place *p = *state;
	sb_iter *it;

	place_exec(p, "def g():\n"
	              "    try:\n"
	              "        yield 1\n"
	              "        yield 2\n"
	              "    finally: raise KeyError('from finally')\n");
	sb_iter_options options = batches(1, 0);
	it = stream(p, "g()", &options);
	assert_int_equal(next_int(it), 1);
	sb_iter_close(it);
	assert_int_equal(sb_last_error()->code, SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.KeyError");
}

/* Detached, then let go of: released, evicted, or its session ends while the generator runs. */
static void test_28_letting_go_closes(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(1, 0);
	bool dropped = false;
	sb_iter *it;
	sb_ref ref;

	place_exec(p, streams_source);
	it = stream(p, "count(100)", &options);
	assert_int_equal(next_int(it), 0);
	ref = *sb_iter_ref(it);
	sb_iter_detach(it);
	assert_int_equal(place_int(p, "len(ended)"), 0);
	assert_ok(sb_ref_release(p->s, &ref, &dropped));
	assert_true(dropped);
	assert_int_equal(comes_to(p, "len(ended)", 1), 1);
}

static void test_28_the_sessions_end_closes(void **state)
{
	struct place *p = *state;
	sb_session_options session_options = SB_SESSION_OPTIONS_INIT;
	sb_iter_options options = batches(1, 0);
	const sb_value *item = NULL;
	sb_session *s = NULL;
	sb_request r = SB_REQUEST_INIT;
	sb_iter *it = NULL;

	/* Of the same process, so that its names can be looked at when the other session is gone. */
	session_options.session_id = "other";
	session_options.designated = SB_DESIGNATED_SELF;
	assert_ok(sb_session_open(p->f->bridge, &session_options, &s));
	place_exec(p, streams_source);
	place_exec(p, "import builtins\nbuiltins.sb_never = never\nbuiltins.sb_count = count");
	options.timeout_ms = 50;
	for (int blocked = 0; blocked <= 1; blocked++) {
		r.name = blocked ? "builtins:sb_never" : "builtins:sb_count";
		r.args = blocked ? NULL : sb_args("i", 100);
		assert_ok(sb_iter_call(s, &r, &options, &it));
		assert_int_equal(sb_iter_lend(it, &item), blocked ? SB_ETIMEOUT : 1);
		sb_iter_detach(it);
	}
	assert_ok(sb_session_release(p->f->bridge, "other", NULL));
	sb_session_close(s);
	assert_int_equal(comes_to(p, "len(ended)", 2), 2);
}

/* A session whose objects live in this process, so that its names can be looked at when it is gone, and a stream in it, of which
 * one item was read and another one is at hand. */
static sb_session *with_stream(struct place *p, sb_session_options *options, sb_iter **ret)
{
	sb_iter_options two = batches(2, 0);
	sb_request r = SB_REQUEST_INIT;
	sb_session *s = NULL;

	place_exec(p, streams_source);
	place_exec(p, "import builtins\nbuiltins.sb_count = count");
	options->session_id = "other";
	options->designated = SB_DESIGNATED_SELF;
	assert_ok(sb_session_open(p->f->bridge, options, &s));
	r.name = "builtins:sb_count";
	r.args = sb_args("i", 100);
	assert_ok(sb_iter_call(s, &r, &two, ret));
	assert_int_equal(next_int(*ret), 0);
	return s;
}

/* A reader in another process: 0, or what it was not told. Uses no assertion. */
struct other_reader {
	sb_session *s;
	sb_ref ref;
	int code;
};

static int reads_elsewhere(void *arg)
{
	struct other_reader *o = arg;
	const sb_value *item = NULL;
	sb_iter *it = NULL;
	int rc;

	if (sb_iter_attach(o->s, &o->ref, NULL, &it))
		return 1;
	rc = sb_iter_lend(it, &item);
	sb_iter_detach(it);
	if (rc != o->code)
		fprintf(stderr, "elsewhere: %d %s\n", rc, rc < 0 ? sb_last_error()->message : "");
	return rc == o->code ? 0 : 2;
}

/* What has become of the stream is told to both readers, here and in another process; what was fetched before is still there. */
static void gone(struct place *p, sb_session *s, sb_iter *it, int code)
{
	struct other_reader other = { .s = s, .ref = *sb_iter_ref(it), .code = code };
	const sb_value *item = NULL;

	assert_int_equal(comes_to(p, "len(ended)", 1), 1); /* its generator was closed */
	assert_int_equal(fixture_wait(fixture_fork(reads_elsewhere, &other)), 0);
	assert_int_equal(next_int(it), 1);
	assert_int_equal(sb_iter_lend(it, &item), code);
	assert_int_equal(sb_iter_lend(it, &item), code); /* for good */
	sb_iter_close(it);
	assert_int_equal(place_int(p, "len(ended)"), 1);
}

static void test_17_18_28_evicted(void **state)
{
	struct place *p = *state;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_request r = SB_REQUEST_INIT;
	sb_session *s;
	sb_iter *it = NULL;

	options.max_refs = 3;
	s = with_stream(p, &options, &it);
	r.name = "builtins:object";
	for (int i = 0; i < 3; i++)
		assert_ok(sb_invoke(s, &r, NULL));
	gone(p, s, it, SB_EREFEVICTED);
	sb_session_close(s);
}

static void test_13_18_28_expired(void **state)
{
	struct place *p = *state;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s;
	sb_iter *it = NULL;

	options.ttl_seconds = 2;
	s = with_stream(p, &options, &it);
	for (int i = 0; i < 200 && place_int(p, "len(ended)") == 0; i++) {
		assert_ok(sb_call(s, "builtins:abs", sb_args("i", 1), NULL)); /* its session is in use */
		nap(50);
	}
	gone(p, s, it, SB_EREFEXPIRED);
	sb_session_close(s);
}

/* While a reader in another process waits for its items. */
static void test_09_28_session_released(void **state)
{
	struct place *p = *state;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_iter_options one = batches(1, 0);
	struct other_reader other = { .code = SB_ERELEASED };
	const sb_value *item = NULL;
	sb_request r = SB_REQUEST_INIT;
	sb_iter *blocked = NULL, *it = NULL;
	pid_t pid;

	other.s = with_stream(p, &options, &it);
	place_exec(p, "builtins.sb_never = never");
	r.name = "builtins:sb_never";
	assert_ok(sb_iter_call(other.s, &r, &one, &blocked));
	other.ref = *sb_iter_ref(blocked);
	pid = fixture_fork(reads_elsewhere, &other);
	fixture_wait_running(p->f, "\"next\"");
	assert_ok(sb_session_release(p->f->bridge, "other", NULL));
	assert_int_equal(fixture_wait(pid), 0);
	assert_int_equal(comes_to(p, "len(ended)", 2), 2);
	assert_int_equal(next_int(it), 1); /* it has that one */
	assert_int_equal(sb_iter_lend(it, &item), SB_ERELEASED);
	sb_iter_close(it);
	sb_iter_close(blocked);
	sb_session_close(other.s);
}

/* ── asynchronous ones ── */

static const char async_helpers[] = "loops = []\n"
				    "async def acount(n, nap=0):\n"
				    "    loops.append(asyncio.get_running_loop())\n"
				    "    try:\n"
				    "        for i in range(n):\n"
				    "            if nap: await asyncio.sleep(nap)\n"
				    "            yield i\n"
				    "    finally:\n"
				    "        await asyncio.sleep(0)\n" /* finally may await, too */
				    "        ended.append('acount')\n"
				    "async def araises():\n"
				    "    yield 1\n"
				    "    yield 2\n"
				    "    raise LookupError('no more')\n"
				    "async def ablocks():\n"
				    "    try:\n"
				    "        yield 0\n"
				    "        await asyncio.Event().wait()\n"
				    "    finally:\n"
				    "        ended.append('ablocks')\n"
				    "class Ait:\n"
				    "    def __init__(self, n): self.n = n\n"
				    "    def __aiter__(self): return self\n"
				    "    async def __anext__(self):\n"
				    "        if self.n == 0: raise StopAsyncIteration\n"
				    "        self.n -= 1\n"
				    "        await asyncio.sleep(0)\n"
				    "        return self.n\n";

static void test_28_async_generators(void **state)
{
	struct place *p = *state;
	static const char *const sources[] = { "acount(500)", "acount(20, 0.002)" };
	sb_iter_options options = batches(7, 0);
	const sb_value *item = NULL;
	sb_iter *it;

	place_exec(p, streams_source);
	place_exec(p, async_helpers);
	for (int ahead = 0; ahead <= 1; ahead++) {
		for (int i = 0; i < 2; i++) {
			int64_t n = 0;

			options.flags = ahead ? SB_ITER_READ_AHEAD : 0;
			it = stream(p, sources[i], &options);
			SB_FOR_EACH(each, it)
			{
				int64_t got = -1;

				assert_ok(sb_value_int(each, &got));
				assert_int_equal(got, n++);
			}
			assert_int_equal(sb_iter_error(it), 0);
			assert_int_equal(n, i ? 20 : 500);
			sb_iter_close(it);
		}
	}
	/* Each had a loop of its own, which is closed. */
	assert_int_equal(place_int(p, "len(set(map(id, loops)))"), 4);
	assert_int_equal(place_int(p, "sum(loop.is_closed() for loop in loops)"), 4);
	assert_int_equal(place_int(p, "len(ended)"), 4);
	it = stream(p, "Ait(3)", NULL);
	for (int i = 2; i >= 0; i--)
		assert_int_equal(next_int(it), i);
	assert_int_equal(sb_iter_lend(it, &item), 0);
	sb_iter_close(it);
	place_exec(p,
	           "import gc; gc.disable()"); /* its traceback keeps nothing that LeakSanitizer would see */
	it = stream(p, "araises()", NULL);
	assert_int_equal(next_int(it), 1);
	assert_int_equal(next_int(it), 2);
	assert_int_equal(sb_iter_lend(it, &item), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, "builtins.LookupError");
	assert_int_equal(sb_iter_lend(it, &item), 0);
	sb_iter_close(it);
}

static void test_28_async_generators_are_closed(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(3, 0);
	const sb_value *item = NULL;
	sb_iter *it;

	place_exec(p, streams_source);
	place_exec(p, async_helpers);
	it = stream(p, "acount(100)", &options); /* while it stands still */
	assert_int_equal(next_int(it), 0);
	sb_iter_close(it);
	assert_int_equal(place_int(p, "len(ended)"), 1);
	options.timeout_ms = 50;
	it = stream(p, "ablocks()", &options); /* while it waits */
	assert_int_equal(next_int(it), 0);
	assert_int_equal(sb_iter_lend(it, &item), SB_ETIMEOUT);
	sb_iter_close(it);
	assert_int_equal(comes_to(p, "len(ended)", 2), 2);
	assert_int_equal(place_int(p, "sum(not loop.is_closed() for loop in loops)"), 0);
	it = stream(p, "acount(3)", &options); /* before it has begun */
	sb_iter_close(it);
	it = stream(p, "acount(3)", &options); /* let go of */
	assert_int_equal(next_int(it), 0);
	sb_ref ref = *sb_iter_ref(it);
	sb_iter_detach(it);
	assert_ok(sb_ref_release(p->s, &ref, NULL));
	assert_int_equal(comes_to(p, "len(ended)", 3), 3);
}

/* ── kills ── */

static void test_28_30_owner_killed(void **state)
{
	struct place *p = *state;
	const sb_value *item = NULL;

	place_exec(p, streams_source);
	for (int ahead = 0; ahead <= 1; ahead++) {
		sb_iter_options options = batches(3, ahead ? SB_ITER_READ_AHEAD : 0);
		sb_iter *it;
		int got = 1, rc;

		if (ahead) { /* a new incarnation */
			sb_value *dict = NULL;
			sb_request r = SB_REQUEST_INIT;

			r.name = "builtins:dict";
			r.flags = SB_CALL_AS_REF;
			assert_ok(sb_invoke(p->s, &r, &dict));
			p->names = *sb_value_ref(dict);
			sb_value_free(dict);
			place_exec(p, streams_source);
		}
		it = stream(p, "count(10**9, 0.001)", &options);
		assert_int_equal(next_int(it), 0);
		assert_int_equal(kill((pid_t)place_int(p, "os.getpid()"), SIGKILL), 0);
		while ((rc = sb_iter_lend(it, &item)) == 1)
			got++;
		assert_int_equal(rc, SB_EOWNERDIED);
		assert_true(got <= 6 + ahead * 3);
		assert_int_equal(sb_iter_lend(it, &item), SB_EOWNERDIED); /* for good */
		sb_iter_close(it);
	}
}

/* A reader is killed while it waits: what it waited for, another one gets. */
static void test_28_31_reader_killed(void **state)
{
	struct place *p = *state;
	sb_iter_options options = batches(1, 0);
	sb_iter *it;
	char byte;
	int fds[2];
	pid_t pid;

	place_exec(p, streams_source);
	it = stream(p, "gated(3, 5)", &options);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			if (next_int(it) != i)
				_exit(1);
		(void)!write(fds[1], "w", 1);
		(void)next_int(it);
		_exit(2);
	}
	assert_true(fixture_hear(fds[0], pid, &byte, 1));
	fixture_wait_running(p->f, "\"next\"");
	kill(pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	place_exec(p, "gate.set()");
	for (int i = 3; i < 8; i++)
		assert_int_equal(next_int(it), i);
	sb_iter_close(it);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(place_int(p, "len(ended)"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_28_close_interrupts_what_blocks),
		BOTH_PLACES(test_28_close_ends_it_for_all),
		BOTH_PLACES(test_28_close_wakes_readers),
		BOTH_PLACES(test_28_an_exception_in_finally_is_told),
		BOTH_PLACES(test_28_letting_go_closes),
		cmocka_unit_test_setup_teardown(test_28_the_sessions_end_closes, place_here, place_teardown),
		cmocka_unit_test_setup_teardown(test_17_18_28_evicted, place_here, place_teardown),
		cmocka_unit_test_setup_teardown(test_13_18_28_expired, place_here, place_teardown),
		cmocka_unit_test_setup_teardown(test_09_28_session_released, place_here, place_teardown),
		BOTH_PLACES(test_28_async_generators),
		BOTH_PLACES(test_28_async_generators_are_closed),
		cmocka_unit_test_setup_teardown(test_28_30_owner_killed, place_there, place_teardown),
		cmocka_unit_test_setup_teardown(test_28_31_reader_killed, place_there, place_teardown),
	};

	return cmocka_run_group_tests_name("proc.test_streams_end", tests, NULL, NULL);
}
