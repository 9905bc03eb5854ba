/* SPDX-License-Identifier: Apache-2.0 */
/* The doorbell: bits, the leader's and the standby's sleep, the alive word. */
#include <fcntl.h>
#include <linux/futex.h>
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
#include "shm_world.h"
#include "snakebridge/error.h"

#define SECOND UINT64_C(1000000000)

static void gives_each_session_that_was_rung_once(void **state)
{
	static const uint32_t rung[] = { 0, 1, 63, 64, 4095, 4096, SB__BELL_SESSIONS - 1 };
	const unsigned count = sizeof(rung) / sizeof(rung[0]);
	struct shm_world *world = *state;
	uint32_t cursor = 0;

	assert_int_equal(sb__bell_take(&world->bell, &cursor), -1);
	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < count; i++) {
			sb__bell_ring(&world->bell, rung[count - 1 - i]);
			sb__bell_ring(&world->bell, rung[count - 1 - i]);
		}
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(sb__bell_take(&world->bell, &cursor), rung[i]);
		assert_int_equal(sb__bell_take(&world->bell, &cursor), -1);
	}
}

static void a_busy_session_does_not_keep_others_waiting(void **state)
{
	struct shm_world *world = *state;
	unsigned turns[4] = { 0 };
	uint32_t cursor = 0;

	for (uint32_t i = 0; i < 4; i++)
		sb__bell_ring(&world->bell, i * 5000 % SB__BELL_SESSIONS);
	for (int i = 0; i < 400; i++) {
		int taken = sb__bell_take(&world->bell, &cursor);

		assert_true(taken >= 0);
		turns[taken / 5000]++;
		sb__bell_ring(&world->bell, (uint32_t)taken); /* all of them always have work */
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(turns[i], 100);
}

static void many_sessions_that_came_to_rest_are_forgotten(void **state)
{
	struct shm_world *world = *state;
	uint64_t left = 0;
	uint32_t cursor = 0;

	for (uint32_t i = 0; i < SB__BELL_SESSIONS; i += 64)
		sb__bell_ring(&world->bell, i);
	while (sb__bell_take(&world->bell, &cursor) >= 0)
		;
	assert_false(sb__bell_sleep(&world->bell, 1000, 0));
	for (unsigned i = 0; i < SB__BELL_SESSIONS / 4096; i++)
		left |= sb__load(&world->bell.shm->summary[i]);
	assert_int_equal(left, 0);
	sb__bell_ring(&world->bell, 128);
	assert_int_equal(sb__bell_take(&world->bell, &cursor), 128);
}

static void *sleep_long(void *arg)
{
	struct shm_world *world = arg;

	return sb__bell_sleep(&world->bell, 600 * SECOND, 0) ? world : NULL;
}

static void wait_until_parked(struct shm_world *world)
{
	while (!sb__load32(&world->bell.shm->parked))
		usleep(100);
}

static void a_ring_wakes_the_parked_leader(void **state)
{
	struct shm_world *world = *state;
	struct shm_world other;
	pthread_t leader;
	uint32_t cursor = 0;
	void *work;

	assert_int_equal(world_join(world, 5, &other), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&leader, NULL, sleep_long, world), 0);
		wait_until_parked(world);
		sb__bell_ring(&other.bell, 77);
		pthread_join(leader, &work);
		assert_non_null(work);
		assert_int_equal(sb__bell_take(&world->bell, &cursor), 77);
		assert_int_equal(sb__load32(&world->bell.shm->parked), 0);
	}
	world_leave(&other);
}

/* A standby took the lead from one that sleeps, and sleeps, too: neither's waking hides the other, and one ring wakes both. */
static void a_ring_reaches_the_leader_behind_a_former_one(void **state)
{
	struct shm_world *world = *state;
	pthread_t former, leader;
	uint32_t cursor = 0;
	void *work;

	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&former, NULL, sleep_long, world), 0);
		assert_int_equal(pthread_create(&leader, NULL, sleep_long, world), 0);
		while (__atomic_load_n(&world->bell.sleepers, __ATOMIC_SEQ_CST) < 2)
			usleep(100);
		assert_false(sb__bell_sleep(&world->bell, 1000, 0)); /* a third wakes by itself */
		assert_int_equal(sb__load32(&world->bell.shm->parked), 1);
		sb__bell_ring(&world->bell, 77);
		pthread_join(former, &work);
		assert_non_null(work);
		pthread_join(leader, &work);
		assert_non_null(work);
		assert_int_equal(sb__load32(&world->bell.shm->parked), 0);
		assert_int_equal(sb__bell_take(&world->bell, &cursor), 77);
	}
}

static void sleep_ends_at_once_or_in_time(void **state)
{
	struct shm_world *world = *state;
	uint32_t cursor = 0;

	assert_false(sb__bell_sleep(&world->bell, 1000000, 20000));
	sb__bell_ring(&world->bell, 3);
	assert_true(sb__bell_sleep(&world->bell, 600 * SECOND, 0));
	assert_int_equal(sb__bell_take(&world->bell, &cursor), 3);
	sb__bell_wake_all(&world->bell);
	(void)sb__bell_sleep(&world->bell, 600 * SECOND, 20000); /* from now on nobody sleeps */
	(void)sb__bell_sleep(&world->bell, 600 * SECOND, 0);
	(void)sb__bell_standby(&world->bell, 600 * SECOND);
	(void)sb__bell_standby(&world->bell, 600 * SECOND);
}

static void a_nudge_is_answered_once_and_not_lost(void **state)
{
	struct shm_world *world = *state;

	assert_false(sb__bell_standby(&world->bell, 1000));
	sb__bell_nudge(&world->bell);
	sb__bell_nudge(&world->bell);
	assert_true(sb__bell_standby(&world->bell, 600 * SECOND));
	assert_false(sb__bell_standby(&world->bell, 1000));
}

static void *stand_by(void *arg)
{
	struct shm_world *world = arg;

	while (!sb__bell_standby(&world->bell, 600 * SECOND))
		;
	return NULL;
}

static void a_nudge_wakes_a_standby_thread(void **state)
{
	struct shm_world *world = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, stand_by, world), 0);
	usleep(2000);
	sb__bell_nudge(&world->bell);
	pthread_join(thread, NULL);
}

/* ── the alive word ── */

static void *hold_and_end(void *arg)
{
	struct shm_world *world = arg;
	unsigned int expected = 0;
	void *wrong = world;

	if (sb__bell_alive_hold(&world->bell) == 0 && sb__bell_alive_word(&world->bell, &expected) &&
	    expected != 0 && !sb__bell_owner_died(&world->bell))
		wrong = NULL;
	sb__bell_alive_release(&world->bell);
	return wrong;
}

static void *hold_and_die(void *arg)
{
	struct shm_world *world = arg;

	return sb__bell_alive_hold(&world->bell) == 0 ? NULL : world;
}

static void the_alive_word_tells_death_from_a_normal_end(void **state)
{
	struct shm_world *world = *state;
	unsigned int expected;
	pthread_t keeper;
	void *wrong;

	assert_null(sb__bell_alive_word(&world->bell, &expected)); /* no keeper yet: nothing to wait for */
	assert_false(sb__bell_owner_died(&world->bell));
	assert_int_equal(pthread_create(&keeper, NULL, hold_and_end, world), 0);
	pthread_join(keeper, &wrong);
	assert_null(wrong);
	assert_null(sb__bell_alive_word(&world->bell, &expected));
	assert_false(sb__bell_owner_died(&world->bell));
	assert_int_equal(pthread_create(&keeper, NULL, hold_and_die, world), 0);
	pthread_join(keeper, &wrong);
	assert_null(wrong);
	assert_true(sb__bell_owner_died(&world->bell));
	assert_null(sb__bell_alive_word(&world->bell, &expected));
}

static void bad_bells_are_refused(void **state)
{
	struct shm_world *world = *state;
	const uint32_t wrong = 0xffffffff;
	struct sb__bell bell;
	int fd = openat(world->bell_dir, "1.1", O_RDWR);

	assert_int_equal(sb__bell_attach(world->bell_dir, 1, 2, &bell), SB_EOWNERDIED);
	assert_int_equal(renameat(world->bell_dir, "1.1", world->bell_dir, "2.1"), 0);
	assert_int_equal(sb__bell_attach(world->bell_dir, 2, 1, &bell), SB_EPROTOCOL); /* another's */
	assert_int_equal(renameat(world->bell_dir, "2.1", world->bell_dir, "1.1"), 0);
	assert_int_equal(pwrite(fd, &wrong, 4, offsetof(struct sb__bell_shm, version)), 4);
	assert_int_equal(sb__bell_attach(world->bell_dir, 1, 1, &bell), SB_EVERSION);
	assert_int_equal(pwrite(fd, &wrong, 4, 0), 4);
	assert_int_equal(sb__bell_attach(world->bell_dir, 1, 1, &bell), SB_EPROTOCOL);
	close(fd);
	assert_int_equal(sb__bell_unlink(world->bell_dir, 1, 1), 0);
	assert_int_equal(sb__bell_unlink(world->bell_dir, 1, 1), 0);
	assert_int_equal(sb__bell_attach(world->bell_dir, 1, 1, &bell), SB_EOWNERDIED);
}

static int write_to_the_first_page(void *arg)
{
	struct sb__bell *bell = arg;

	signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own */
	sb__store32((sb__word32 *)&bell->shm->alive, FUTEX_OWNER_DIED);
	return 0;
}

/* No stray store of a caller, or of the owner's forked child, tells others that the owner died. */
static void only_its_owner_writes_that_it_lives(void **state)
{
	struct shm_world *world = *state;
	struct sb__bell bell;

	assert_ok(sb__bell_attach(world->bell_dir, 1, 1, &bell));
	assert_int_equal(fixture_wait(fixture_fork(write_to_the_first_page, &bell)), 1000 + SIGSEGV);
	assert_false(sb__bell_owner_died(&world->bell));
	sb__bell_ring(&bell, 5);
	sb__bell_nudge(&bell);
	sb__bell_pass_on(&bell);
	sb__bell_detach(&bell);
	sb__bell_inherited(&world->bell);
	assert_int_equal(fixture_wait(fixture_fork(write_to_the_first_page, &world->bell)), 1000 + SIGSEGV);
	assert_false(sb__bell_owner_died(&world->bell));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gives_each_session_that_was_rung_once),
		TEST(a_busy_session_does_not_keep_others_waiting),
		TEST(many_sessions_that_came_to_rest_are_forgotten),
		TEST(a_ring_wakes_the_parked_leader),
		TEST(a_ring_reaches_the_leader_behind_a_former_one),
		TEST(sleep_ends_at_once_or_in_time),
		TEST(a_nudge_is_answered_once_and_not_lost),
		TEST(a_nudge_wakes_a_standby_thread),
		TEST(the_alive_word_tells_death_from_a_normal_end),
		TEST(only_its_owner_writes_that_it_lives),
		TEST(bad_bells_are_refused),
	};

	return cmocka_run_group_tests_name("shm_bell", tests, NULL, NULL);
}
