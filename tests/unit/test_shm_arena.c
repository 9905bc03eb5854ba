/* SPDX-License-Identifier: Apache-2.0 */
/* The arena's allocator against a shadow of what it gave out, and the bounds that readers check. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm_world.h"
#include "snakebridge/error.h"

#define MIB ((size_t)1 << 20)

static struct sb__spill_shm take(struct shm_world *world, size_t len, uint8_t fill)
{
	struct sb__spill_shm block;
	void *at;

	assert_int_equal(sb__arena_alloc(world->arena, len, &block, &at), 0);
	assert_int_equal((uintptr_t)at % 64, 0);
	assert_int_equal(block.offset % 64, 0);
	assert_int_equal(block.len, len);
	memset(at, fill, len);
	return block;
}

static bool holds(struct shm_world *world, const struct sb__spill_shm *block, uint8_t fill)
{
	struct sb__buf buf;
	bool same;

	sb__buf_init(&buf, NULL, 0);
	assert_int_equal(sb__arena_copy(world->peers, block, &buf), 0);
	same = buf.len == block->len;
	for (size_t i = 0; same && i < buf.len; i++)
		same = buf.data[i] == fill;
	sb__buf_free(&buf);
	return same;
}

static void makes_no_file_before_the_first_block(void **state)
{
	struct shm_world *world = *state;

	assert_int_equal(faccessat(world->arena_dir, "1.1", F_OK, 0), -1);
	take(world, 1, 1);
	assert_int_equal(faccessat(world->arena_dir, "1.1", F_OK, 0), 0);
}

static void reuses_freed_blocks_and_merges_them(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm a = take(world, 300000, 1), b = take(world, 300000, 2),
			     c = take(world, 300000, 3);
	size_t size = sb__arena_file_size(world->arena);

	assert_true(holds(world, &a, 1) && holds(world, &b, 2) && holds(world, &c, 3));
	sb__arena_free(world->arena, &a);
	sb__arena_free(world->arena, &c);
	sb__arena_free(world->arena, &b);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
	assert_int_equal(take(world, 900000, 4).offset, a.offset); /* only as one merged piece */
	assert_int_equal(sb__arena_file_size(world->arena), size);
}

static void a_second_free_changes_nothing(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm a = take(world, 1000, 1), b = take(world, 1000, 2);

	sb__arena_free(world->arena, &a);
	sb__arena_free(world->arena, &a);
	a.offset += 64;
	sb__arena_free(world->arena, &a);
	assert_true(holds(world, &b, 2));
	assert_int_equal(sb__arena_in_use(world->arena), 1024);
}

static void big_blocks_get_chunks_of_their_own_size(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm a = take(world, 5 * MIB, 1), b = take(world, 5 * MIB + 1, 2);

	assert_true(holds(world, &a, 1) && holds(world, &b, 2));
	assert_in_range(sb__arena_file_size(world->arena), 10 * MIB, 16 * MIB);
}

static void random_use_never_overlaps(void **state)
{
	enum { BLOCKS = 40 };
	struct shm_world *world = *state;
	struct sb__spill_shm blocks[BLOCKS] = { { 0 } };
	size_t in_use = 0;
	unsigned seed = 1;

	for (unsigned i = 0; i < 3000; i++) {
		unsigned k = (unsigned)rand_r(&seed) % BLOCKS;

		if (blocks[k].len) {
			assert_true(holds(world, &blocks[k], (uint8_t)(k + 1)));
			in_use -= (blocks[k].len + 63) / 64 * 64;
			sb__arena_free(world->arena, &blocks[k]);
			blocks[k].len = 0;
		} else {
			blocks[k] = take(world, 1 + (size_t)rand_r(&seed) % (1u << (rand_r(&seed) % 17)),
			                 (uint8_t)(k + 1));
			in_use += (blocks[k].len + 63) / 64 * 64;
		}
		assert_int_equal(sb__arena_in_use(world->arena), in_use);
	}
	for (unsigned k = 0; k < BLOCKS; k++)
		if (blocks[k].len)
			sb__arena_free(world->arena, &blocks[k]);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
	assert_in_range(sb__arena_file_size(world->arena), 1, 16 * MIB);
}

static void refuses_impossible_sizes(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm block;
	void *at;

	assert_int_equal(sb__arena_alloc(world->arena, 0, &block, &at), SB_ETOOBIG);
	assert_int_equal(sb__arena_alloc(world->arena, SB__MESSAGE_MAX + 1, &block, &at), SB_ETOOBIG);
}

static void readers_check_every_bound(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm good = take(world, 100, 1);
	uint64_t size = sb__arena_file_size(world->arena);
	const struct sb__spill_shm bad[] = {
		{ good.slot, good.generation, size, 64 },
		{ good.slot, good.generation, size - 64, 65 },
		{ good.slot, good.generation, 0, size + 1 },
		{ good.slot, good.generation, 1, 10 },
		{ good.slot, good.generation, 0, 0 },
		{ good.slot, good.generation, 0, SB__MESSAGE_MAX + 1 },
		{ good.slot, good.generation, 0, UINT64_MAX },
		{ good.slot, good.generation, UINT64_MAX - 63, 64 },
		{ good.slot, good.generation, UINT64_C(1) << 63, 64 },
		{ good.slot, good.generation + 1, 0, 64 },
		{ good.slot + 1, good.generation, 0, 64 },
		{ UINT32_MAX, UINT32_MAX, 0, 64 },
	};
	struct sb__buf buf;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sb__buf_init(&buf, NULL, 0);
		assert_int_equal(sb__arena_copy(world->peers, &bad[i], &buf), SB_EPROTOCOL);
		assert_int_equal(buf.len, 0);
		sb__buf_free(&buf);
	}
	assert_true(holds(world, &good, 1));
}

static void readers_follow_growth_and_forget(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm a = take(world, 100, 1), b;

	assert_true(holds(world, &a, 1));
	b = take(world, 9 * MIB, 2);
	assert_true(holds(world, &b, 2) && holds(world, &a, 1));
	sb__arena_cache_forget(world->peers, a.slot, a.generation);
	sb__arena_cache_forget(world->peers, a.slot, a.generation);
	assert_true(holds(world, &a, 1));
}

static void a_forked_child_only_lets_go(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm a = take(world, 100, 1);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sb__spill_shm block;
		void *at;
		int ok = sb__arena_alloc(world->arena, 10, &block, &at) == SB_EBUG;

		sb__arena_free(world->arena, &a);
		sb__arena_destroy(world->arena, true);
		sb__arena_cache_destroy(world->peers);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(faccessat(world->arena_dir, "1.1", F_OK, 0), 0);
	assert_int_equal(sb__arena_in_use(world->arena), 128);
	assert_true(holds(world, &a, 1));
}

static void unlinks_only_when_told(void **state)
{
	struct shm_world *world = *state;
	struct sb__arena *other;
	struct sb__spill_shm block;
	void *at;

	assert_int_equal(sb__arena_create(world->arena_dir, 7, 3, &other), 0);
	assert_int_equal(sb__arena_alloc(other, 10, &block, &at), 0);
	sb__arena_destroy(other, false);
	assert_int_equal(faccessat(world->arena_dir, "7.3", F_OK, 0), 0);
	assert_int_equal(sb__arena_unlink(world->arena_dir, 7, 3), 0);
	assert_int_equal(faccessat(world->arena_dir, "7.3", F_OK, 0), -1);
	assert_int_equal(sb__arena_unlink(world->arena_dir, 7, 3), 0);
	sb__arena_destroy(NULL, true);
	sb__arena_cache_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(makes_no_file_before_the_first_block),
		TEST(reuses_freed_blocks_and_merges_them),
		TEST(a_second_free_changes_nothing),
		TEST(big_blocks_get_chunks_of_their_own_size),
		TEST(random_use_never_overlaps),
		TEST(refuses_impossible_sizes),
		TEST(readers_check_every_bound),
		TEST(readers_follow_growth_and_forget),
		TEST(a_forked_child_only_lets_go),
		TEST(unlinks_only_when_told),
	};

	return cmocka_run_group_tests_name("shm_arena", tests, NULL, NULL);
}
