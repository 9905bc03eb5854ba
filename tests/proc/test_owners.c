/* SPDX-License-Identifier: Apache-2.0 */
/* Owner handles, and elections that many want at once. Numbers are points of the contract. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define RACERS 8

static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* Shared by the racers and their parent. */
struct race {
	atomic_int ready, go, done, end;
	atomic_int bad; /* a code that the contract does not allow */
	_Atomic uint64_t incarnation[RACERS];
	sb_session *session;
};

static int racer(struct race *race, int number)
{
	sb_session_info info = { .size = sizeof(info) };
	int err;

	if (sb_call(race->session, "math:sqrt", sb_args("i", 16), NULL))
		return 1;
	atomic_fetch_add(&race->ready, 1);
	while (!atomic_load(&race->go))
		nap(1);
	for (int tries = 0; tries < 10; tries++) {
		err = sb_call(race->session, "math:sqrt", sb_args("i", 16), NULL);
		if (!err)
			break;
		if (err != SB_EOWNERDIED)
			atomic_store(&race->bad, err);
	}
	if (!err && sb_session_get_info(race->session, &info) == 0)
		atomic_store(&race->incarnation[number], info.incarnation);
	atomic_fetch_add(&race->done, 1);
	while (!atomic_load(&race->end)) /* whoever was elected serves the others until all are done */
		nap(1);
	return err != 0;
}

static void wait_for(atomic_int *count)
{
	for (int i = 0; i < 9000 && atomic_load(count) < RACERS; i++)
		nap(10);
	assert_int_equal(atomic_load(count), RACERS);
}

struct start {
	struct race *race;
	int number;
};

static int start_racer(void *arg)
{
	struct start *start = arg;

	return racer(start->race, start->number);
}

static int serve_until_killed(void *arg)
{
	sb_session *s = fixture_session(arg, "raced", SB_DESIGNATED_SELF);

	(void)s;
	for (;;)
		pause();
	return 0;
}

static void run_race(sb_bridge *bridge, sb_designated designated)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	                         0);
	sb_session_info info = { .size = sizeof(info) };
	struct start starts[RACERS];
	pid_t pids[RACERS], server = 0;

	if (designated == SB_DESIGNATED_SELF)
		server = fixture_fork(serve_until_killed, bridge);
	for (int i = 0; server && i < 6000; i++) { /* until it is there */
		sb_session_options o = SB_SESSION_OPTIONS_INIT;

		o.session_id = "raced";
		o.designated = SB_DESIGNATED_ATTACH_ONLY;
		if (sb_session_open(bridge, &o, &race->session) == 0)
			break;
		nap(10);
	}
	if (server) {
		sb_session *joined = race->session;

		assert_non_null(joined);
		race->session = fixture_session(bridge, "raced",
		                                SB_DESIGNATED_UNSET); /* may become its owner */
		sb_session_close(joined);
	} else {
		race->session = fixture_session(bridge, "raced", designated);
	}
	assert_ok(sb_session_get_info(race->session, &info));
	for (int i = 0; i < RACERS; i++) {
		starts[i] = (struct start){ race, i };
		pids[i] = fixture_fork(start_racer, &starts[i]);
	}
	wait_for(&race->ready);
	kill(info.designated_pid, SIGKILL);
	if (server)
		fixture_wait(server);
	atomic_store(&race->go, 1);
	wait_for(&race->done);
	for (int i = 0; i < RACERS; i++) {
		assert_true(atomic_load(&race->incarnation[i]) > info.incarnation);
		assert_true(atomic_load(&race->incarnation[i]) ==
		            atomic_load(&race->incarnation[0])); /* one election */
	}
	assert_int_equal(atomic_load(&race->bad), 0);
	atomic_store(&race->end, 1);
	for (int i = 0; i < RACERS; i++)
		assert_int_equal(fixture_wait(pids[i]), 0);
	sb_session_close(race->session);
	munmap(race, sizeof(*race));
}

static void test_11_one_election_of_a_dedicated_owner(void **state)
{
	run_race(((struct fixture *)*state)->bridge, SB_DESIGNATED_DEDICATED);
}

static void test_11_one_election_among_workers(void **state)
{
	run_race(((struct fixture *)*state)->bridge, SB_DESIGNATED_SELF);
}

/* Each handle counts; the session ends with the last. */
static void test_10_several_handles_of_one_process(void **state)
{
	struct fixture *f = *state;
	sb_session *a = fixture_session(f->bridge, "many", SB_DESIGNATED_DEDICATED);
	sb_session *b = fixture_session(f->bridge, "many", SB_DESIGNATED_UNSET);
	sb_session *c = fixture_session(f->bridge, "many", SB_DESIGNATED_ATTACH_ONLY);
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(a, &info));
	assert_int_equal(info.owner_count, 3);
	sb_session_close(a);
	sb_session_close(b);
	assert_ok(sb_call(c, "math:sqrt", sb_args("i", 16), NULL));
	sb_session_close(c);
	{
		sb_session_options o = SB_SESSION_OPTIONS_INIT;

		o.session_id = "many";
		o.designated = SB_DESIGNATED_ATTACH_ONLY;
		assert_int_equal(sb_session_open(f->bridge, &o, &c), SB_ERELEASED);
	}
}

static int make_ref(sb_session *s, sb_value **ret)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:dict";
	r.args = sb_args("");
	r.flags = SB_CALL_AS_REF;
	return sb_invoke(s, &r, ret);
}

static int elect_and_show(void *arg)
{
	struct race *race = arg;
	sb_value *v = NULL;
	char text[SB_REF_TEXT_MAX];

	if (make_ref(race->session, &v) == SB_EOWNERDIED && make_ref(race->session, &v))
		return 1;
	if (sb_ref_format(sb_value_ref(v), text, sizeof(text)) < 0)
		return 2;
	memcpy((char *)(race + 1), text, sizeof(text));
	return 0;
}

/* A handle whose session moved on to a new designated owner takes the new one's refs. */
static void test_21_newer_ref_than_the_handle(void **state)
{
	struct fixture *f = *state;
	struct race *race = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sb_session_info info = { .size = sizeof(info) };
	sb_value *copy = NULL;
	sb_ref ref;

	race->session = fixture_session(f->bridge, "moved", SB_DESIGNATED_DEDICATED);
	assert_ok(sb_call(race->session, "math:sqrt", sb_args("i", 16), NULL));
	assert_ok(sb_session_get_info(race->session, &info));
	kill(info.designated_pid, SIGKILL);
	assert_int_equal(fixture_wait(fixture_fork(elect_and_show, race)), 0);
	assert_ok(sb_ref_parse((char *)(race + 1), &ref));
	assert_ok(sb_method(race->session, &ref, "copy", NULL,
	                    &copy)); /* this handle never heard of the death */
	sb_value_free(copy);
	sb_session_close(race->session);
	munmap(race, 65536);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_11_one_election_of_a_dedicated_owner),
		TEST(test_11_one_election_among_workers),
		TEST(test_10_several_handles_of_one_process),
		TEST(test_21_newer_ref_than_the_handle),
	};

	return cmocka_run_group_tests_name("owners", tests, NULL, NULL);
}
