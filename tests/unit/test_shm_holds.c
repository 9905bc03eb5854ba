/* SPDX-License-Identifier: Apache-2.0 */
/* Who keeps which block: the table of holds, and blocks that wait for it (docs/design/arrays.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "holds.h"
#include "shm_world.h"
#include "snakebridge/error.h"

#define MIB ((size_t)1 << 20)

static int setup(void **state)
{
	struct shm_world *world = calloc(1, sizeof(*world));

	*state = world;
	return world && world_open(world, NULL) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	world_close(*state);
	free(*state);
	return 0;
}

static struct sb__spill_shm make(struct shm_world *world, size_t len, void **addr)
{
	struct sb__spill_shm block;

	assert_int_equal(sb__arena_block_make(world->arena, SB__POOL_ARRAY, len, false, &block, addr), 0);
	return block;
}

static void a_block_waits_for_whoever_keeps_it(void **state)
{
	struct shm_world *world = *state;
	struct sb__arena_kept *kept, *again;
	void *addr, *seen, *other;
	struct sb__spill_shm block = make(world, MIB, &addr);

	memset(addr, 7, MIB);
	sb__arena_cache_identify(world->peers, 12, 5);
	assert_int_equal(sb__arena_keep(world->peers, &block, true, &kept, &seen), 0);
	assert_int_equal(sb__arena_keep(world->peers, &block, true, &again, &seen), 0);
	assert_ptr_equal(kept, again); /* one hold for a process */
	sb__arena_block_unref(world->arena, block.offset);
	assert_int_equal(sb__arena_in_use(world->arena), MIB);
	for (int i = 0; i < 4; i++) { /* others come and go meanwhile, at once */
		struct sb__spill_shm more = make(world, MIB, &other);

		assert_int_not_equal(more.offset, block.offset);
		sb__arena_block_unref(world->arena, more.offset);
		assert_int_equal(sb__arena_in_use(world->arena), MIB);
	}
	assert_int_equal(((uint8_t *)seen)[MIB - 1], 7);
	sb__arena_kept_unref(kept);
	sb__arena_sweep(world->arena);
	assert_int_equal(sb__arena_in_use(world->arena), MIB);
	sb__arena_kept_unref(again);
	sb__arena_sweep(world->arena);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
}

static void holds_of_the_dead_are_cleared(void **state)
{
	struct shm_world *world = *state;
	struct sb__holds_shm *holds;
	struct sb__arena_kept *kept;
	void *addr;
	struct sb__spill_shm block = make(world, 1000, &addr);

	sb__arena_cache_identify(world->peers, 12, 0x10005); /* of a generation half is named */
	assert_int_equal(sb__arena_keep(world->peers, &block, false, &kept, &addr), 0);
	sb__arena_block_unref(world->arena, block.offset);
	assert_int_equal(sb__holds_attach(world->arena_dir, block.slot, block.generation, &holds), 0);
	assert_int_equal(sb__holds_clear(holds, 12, 0x10006), 0);
	assert_int_equal(sb__holds_clear(holds, 12, 0x10005), 1);
	sb__arena_sweep(world->arena);
	assert_int_equal(sb__arena_in_use(world->arena), 0);
	sb__arena_kept_unref(kept); /* what it held is gone: nothing happens */
	sb__holds_detach(holds);
}

static void count(void *arg, uint64_t word)
{
	(void)word;
	++*(unsigned *)arg;
}

struct handing {
	struct sb__holds_shm *holds;
	uint32_t from, hint;
	bool done;
};

/* While the writer looks at its first entry, the hold moves to one that it has passed. */
static void hand_on(void *arg, uint64_t word)
{
	struct handing *h = arg;
	uint32_t to;

	if (h->done)
		return;
	h->done = true;
	h->hint = 0;
	assert_int_equal(sb__holds_take(h->holds, word + 1, &h->hint, &to), 0);
	sb__holds_give(h->holds, h->from, SB__HOLD(9, 9, 64));
}

static void a_hold_that_is_handed_on_is_not_missed(void **state)
{
	struct shm_world *world = *state;
	struct handing h = { .hint = 0 };
	void *addr;
	struct sb__spill_shm block = make(world, 1000, &addr);
	uint32_t entries[3];
	unsigned seen = 0;

	assert_int_equal(sb__holds_attach(world->arena_dir, block.slot, block.generation, &h.holds), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sb__holds_take(h.holds, i == 2 ? SB__HOLD(9, 9, 64) : SB__HOLD(1, 1, 64),
		                                &h.hint, &entries[i]),
		                 0);
	sb__holds_give(h.holds, entries[0], SB__HOLD(1, 1, 64));
	h.from = entries[2];
	assert_false(sb__holds_each(h.holds, hand_on, &h)); /* it says that it may have missed one */
	assert_true(sb__holds_each(h.holds, count, &seen));
	assert_int_equal(seen, 2);
	sb__holds_detach(h.holds);
	sb__arena_block_unref(world->arena, block.offset);
}

static void a_full_table_says_so(void **state)
{
	struct shm_world *world = *state;
	struct sb__holds_shm *holds;
	struct sb__arena_kept *kept;
	uint32_t hint = 0, entry;
	void *addr;
	struct sb__spill_shm block = make(world, 1000, &addr);

	assert_int_equal(sb__holds_attach(world->arena_dir, block.slot, block.generation, &holds), 0);
	for (uint32_t i = 0; i < SB__HOLDS_MAX; i++)
		assert_int_equal(sb__holds_take(holds, SB__HOLD(3, 1, 64 * i), &hint, &entry), 0);
	sb__arena_cache_identify(world->peers, 12, 5);
	assert_int_equal(sb__arena_keep(world->peers, &block, false, &kept, &addr), SB_ENOSPACE);
	assert_int_equal(sb__holds_clear(holds, 3, 1), SB__HOLDS_MAX);
	assert_int_equal(sb__arena_keep(world->peers, &block, false, &kept, &addr), 0);
	sb__arena_kept_unref(kept);
	sb__holds_detach(holds);
	sb__arena_block_unref(world->arena, block.offset);
}

static void names_that_make_no_sense_are_refused(void **state)
{
	struct shm_world *world = *state;
	void *addr;
	struct sb__spill_shm block = make(world, 4096, &addr);
	uint64_t size = sb__arena_file_size(world->arena);
	const struct sb__spill_shm bad[] = {
		{ block.slot, block.generation, block.offset, 0 },
		{ block.slot, block.generation, block.offset + 1, 64 },
		{ block.slot, block.generation, size, 64 },
		{ block.slot, block.generation, 0, size + 1 },
		{ block.slot, block.generation, 0, UINT64_MAX },
		{ block.slot, block.generation, SB__HOLD_OFFSET_END, 64 },
		{ block.slot, block.generation + 1, 0, 64 },
		{ UINT32_MAX, 0, 0, 64 },
	};
	struct sb__arena_kept *kept;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sb__arena_keep(world->peers, &bad[i], i % 2, &kept, &addr), SB_EPROTOCOL);
	assert_int_equal(sb__arena_cache_kept(world->peers), 0);
	sb__arena_block_unref(world->arena, block.offset);
}

static void free_memory_beyond_what_is_kept_warm_goes_back(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm blocks[8];
	void *addr[8];

	sb__arena_limit(world->arena, UINT64_C(1) << 30, 2 * MIB);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++) {
			blocks[i] = make(world, MIB, &addr[i]);
			memset(addr[i], round + 1, MIB);
		}
		for (int i = 0; i < 8; i++) {
			assert_int_equal(((uint8_t *)addr[i])[MIB / 2], round + 1);
			sb__arena_block_unref(world->arena, blocks[i].offset);
		}
		assert_int_equal(sb__arena_in_use(world->arena), 0);
	}
	assert_in_range(sb__arena_file_size(world->arena), 8 * MIB, 32 * MIB);
}

static void what_is_asked_for_zeroed_is_zero(void **state)
{
	struct shm_world *world = *state;
	struct sb__spill_shm block;
	uint8_t *addr;
	void *at;

	block = make(world, 100000, &at);
	memset(at, 9, 100000);
	sb__arena_block_unref(world->arena, block.offset);
	assert_int_equal(sb__arena_block_make(world->arena, SB__POOL_ARRAY, 90000, true, &block, &at), 0);
	addr = at;
	for (size_t i = 0; i < 90000; i++)
		assert_int_equal(addr[i], 0);
	sb__arena_block_unref(world->arena, block.offset);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_block_waits_for_whoever_keeps_it),
		TEST(holds_of_the_dead_are_cleared),
		TEST(a_hold_that_is_handed_on_is_not_missed),
		TEST(a_full_table_says_so),
		TEST(names_that_make_no_sense_are_refused),
		TEST(free_memory_beyond_what_is_kept_warm_goes_back),
		TEST(what_is_asked_for_zeroed_is_zero),
	};

	return cmocka_run_group_tests_name("shm_holds", tests, NULL, NULL);
}
