/* SPDX-License-Identifier: Apache-2.0 */
/* Ref rows: what the owner sets, readers see; rows that cannot be had are dropped. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "refrows.h"
#include "shm_world.h"
#include "snakebridge/error.h"

struct rows_test {
	struct shm_world world;
	struct sb__refrows *rows;
};

static int setup(void **state)
{
	struct rows_test *t = malloc(sizeof(*t));

	*state = t;
	return world_open(&t->world, NULL) ||
	       sb__refrows_create(t->world.mailbox_dir, WORLD_INCARNATION, 10000, &t->rows);
}

static int teardown(void **state)
{
	struct rows_test *t = *state;

	sb__refrows_destroy(t->rows);
	world_close(&t->world);
	free(t);
	return 0;
}

struct seen {
	unsigned count;
	struct sb__ref_view last;
};

static void note(void *arg, const struct sb__ref_view *view)
{
	struct seen *seen = arg;

	seen->count++;
	seen->last = *view;
}

static struct seen visit(struct rows_test *t)
{
	struct seen seen = { 0 };
	uint32_t torn;

	assert_int_equal(sb__refrows_visit(t->world.mailbox_dir, WORLD_INCARNATION, note, &seen, &torn), 0);
	assert_int_equal(torn, 0);
	return seen;
}

static void no_file_means_no_rows(void **state)
{
	assert_int_equal(visit(*state).count, 0);
}

static void a_row_is_seen_until_it_is_cleared(void **state)
{
	struct rows_test *t = *state;
	struct seen seen;

	sb__refrows_set(t->rows, 3, 17, "numpy.ndarray", 5, 1234);
	sb__refrows_pins(t->rows, 3, 2);
	sb__refrows_touch(t->rows, 3, sb__now_coarse_ms());
	seen = visit(t);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.slot, 3);
	assert_int_equal(seen.last.generation, 17);
	assert_int_equal(seen.last.creator_pid, 1234);
	assert_string_equal(seen.last.type_name, "numpy.ndarray");
	assert_true(seen.last.created_ms > 0);
	assert_int_equal(seen.last.module_len, 5);
	assert_int_equal(seen.last.pins, 2);
	sb__refrows_clear(t->rows, 3);
	assert_int_equal(visit(t).count, 0);
	sb__refrows_clear(t->rows, 9999); /* never set: no row, no harm */
	sb__refrows_touch(t->rows, 9999, 1);
}

static void one_row_is_read_alone(void **state)
{
	struct rows_test *t = *state;
	struct sb__ref_view view;
	int dir = t->world.mailbox_dir;

	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, 0, &view), 0); /* no file yet */
	sb__refrows_set(t->rows, 500, 2, "a.B", 1, 77);
	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, 500, &view), 1);
	assert_int_equal(view.slot, 500);
	assert_int_equal(view.generation, 2);
	assert_string_equal(view.type_name, "a.B");
	assert_int_equal(view.creator_pid, 77);
	assert_int_equal(view.pins, 0);
	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, 499, &view), 0);
	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, UINT32_MAX, &view),
	                 0); /* beyond the file */
	sb__refrows_clear(t->rows, 500);
	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, 500, &view), 0);
	sb__refrows_set(t->rows, 500, 3, "a.B", 99, 77); /* a module longer than the name is cut */
	assert_int_equal(sb__refrows_read(dir, WORLD_INCARNATION, 500, &view), 1);
	assert_int_equal(view.module_len, 3);
}

static void rows_grow_to_many(void **state)
{
	struct rows_test *t = *state;

	for (uint32_t i = 0; i < 10000; i++)
		sb__refrows_set(t->rows, i, i + 1, "t", 0, 1);
	assert_int_equal(visit(t).count, 10000);
	assert_int_equal(visit(t).last.slot, 9999);
}

static void long_names_are_cut(void **state)
{
	struct rows_test *t = *state;
	char name[300];

	memset(name, 'x', sizeof(name));
	name[299] = '\0';
	sb__refrows_set(t->rows, 0, 1, name, 0, 1);
	assert_int_equal(strlen(visit(t).last.type_name), 95);
}

static void impossible_slots_are_dropped(void **state)
{
	struct rows_test *t = *state;

	sb__refrows_set(t->rows, UINT32_MAX, 1, "t", 0, 1);
	sb__refrows_touch(t->rows, UINT32_MAX, 1);
	sb__refrows_clear(t->rows, UINT32_MAX);
	assert_int_equal(visit(t).count, 0);
}

static void garbage_rows_are_only_shown(void **state)
{
	struct rows_test *t = *state;
	uint8_t garbage[SB__PAGE + 1000];
	int fd = openat(t->world.mailbox_dir, "000000000000002a.refs", O_RDWR | O_CREAT, 0600);

	memset(garbage, 0xff, sizeof(garbage)); /* no NUL anywhere, and a part of a page at the end */
	assert_int_equal(write(fd, garbage, sizeof(garbage)), sizeof(garbage));
	assert_int_equal(visit(t).count, SB__ROWS_PER_PAGE);
	assert_string_equal(visit(t).last.type_name, "?"); /* there is no such name */
	for (uint32_t i = 0; i < SB__ROWS_PER_PAGE; i++)
		((struct sb__ref_page_shm *)garbage)->rows[i].type = 3;
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), 0), sizeof(garbage));
	close(fd);
	assert_int_equal(strlen(visit(t).last.type_name), 95);
	sb__refrows_set(t->rows, 2, 1, "t", 1, 1);
	sb__refrows_clear(t->rows, 3);
	assert_int_equal(visit(t).count, SB__ROWS_PER_PAGE - 1);
}

static void assert_named(struct rows_test *t, uint32_t slot, const char *name)
{
	struct sb__ref_view view;

	assert_int_equal(sb__refrows_read(t->world.mailbox_dir, WORLD_INCARNATION, slot, &view), 1);
	assert_string_equal(view.type_name, name);
}

static void name_of(char name[32], uint32_t i)
{
	snprintf(name, 32, "module.Type%u", i);
}

/* Each row with a name of its own; then others in their places, and the same ones for many. */
static void names_are_kept_while_rows_have_them(void **state)
{
	struct rows_test *t = *state;
	char name[32];

	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			name_of(name, round * 1000 + i);
			sb__refrows_set(t->rows, i, round + 1, name, 6, 1);
		}
		for (uint32_t i = 0; i < 1000; i++) {
			name_of(name, round * 1000 + i);
			assert_named(t, i, name);
		}
	}
	for (uint32_t i = 0; i < 500; i++) /* half of them: the other names stay */
		sb__refrows_set(t->rows, i, 3, i % 2 ? "odd" : "even", 0, 1);
	for (uint32_t i = 0; i < 1000; i++) {
		name_of(name, 1000 + i);
		assert_named(t, i, i >= 500 ? name : i % 2 ? "odd" : "even");
	}
	for (uint32_t i = 0; i < 1000; i++)
		sb__refrows_clear(t->rows, i);
	assert_int_equal(visit(t).count, 0);
}

struct flipper {
	struct rows_test *t;
	_Atomic bool stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	for (uint32_t i = 1; !atomic_load(&f->stop); i++) {
		sb__refrows_clear(f->t->rows, 5);
		sb__refrows_set(f->t->rows, 5, i,
		                i % 2 ? "aaaaaaaaaaaaaaaaaaaaaaaa" : "bbbbbbbbbbbbbbbbbbbbbbbb", 0,
		                (int32_t)(i % 2));
	}
	return NULL;
}

static void whole(void *arg, const struct sb__ref_view *view)
{
	char expected = view->generation % 2 ? 'a' : 'b';

	for (const char *c = view->type_name; *c; c++)
		if (*c != expected)
			++*(unsigned *)arg;
	if (view->creator_pid != (int32_t)(view->generation % 2))
		++*(unsigned *)arg;
}

static void readers_see_whole_rows_while_they_change(void **state)
{
	struct flipper f = { .t = *state };
	unsigned mixed = 0;
	pthread_t thread;
	uint32_t torn;

	assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(
			sb__refrows_visit(f.t->world.mailbox_dir, WORLD_INCARNATION, whole, &mixed, &torn),
			0);
	atomic_store(&f.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(mixed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_file_means_no_rows),
		TEST(a_row_is_seen_until_it_is_cleared),
		TEST(one_row_is_read_alone),
		TEST(rows_grow_to_many),
		TEST(long_names_are_cut),
		TEST(impossible_slots_are_dropped),
		TEST(garbage_rows_are_only_shown),
		TEST(readers_see_whole_rows_while_they_change),
		TEST(names_are_kept_while_rows_have_them),
	};

	return cmocka_run_group_tests_name("shm_refrows", tests, NULL, NULL);
}
