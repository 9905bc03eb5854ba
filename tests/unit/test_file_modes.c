/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every file of a bridge that is opened is judged by what was opened: links, other kinds, further names, rights for others
 * and foreign owners are refused. What the foreign owner's test needs is root's.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "events.h"
#include "holds.h"
#include "identity.h"
#include "os_linux.h"
#include "refrows.h"
#include "shm_world.h"
#include "snakebridge/error.h"
#include "store_fixture.h"
#include "store_impl.h"

#define NOBODY 65534

static struct shm_world world;

static int attach_mailbox(void)
{
	struct sb__mailbox *m = NULL;
	int err = sb__mailbox_attach(world.mailbox_dir, WORLD_INCARNATION, &m);

	sb__mailbox_detach(m);
	return err;
}

static int attach_bell(void)
{
	struct sb__bell bell = { 0 };
	int err = sb__bell_attach(world.bell_dir, 1, 1, &bell);

	sb__bell_detach(&bell);
	return err;
}

static void see(void *arg, const struct sb__ref_view *view)
{
	(void)view;
	++*(int *)arg;
}

static int visit_rows(void)
{
	uint32_t torn;
	int rows = 0, err = sb__refrows_visit(world.mailbox_dir, WORLD_INCARNATION, see, &rows, &torn);

	return err ? err : rows == 1 ? 0 : SB_EBUG;
}

static int read_row(void)
{
	struct sb__ref_view view;
	int rc = sb__refrows_read(world.mailbox_dir, WORLD_INCARNATION, 0, &view);

	return rc == 1 ? 0 : rc;
}

static int open_events(void)
{
	struct sb__events events = { 0 };
	int err = sb__events_open(world.bell_dir, false, &events), err2;

	sb__events_close(&events);
	err2 = sb__events_open(world.bell_dir, true, &events);
	sb__events_close(&events);
	assert_int_equal(err, err2);
	return err;
}

static int attach_holds(void)
{
	struct sb__holds_shm *holds = NULL;
	int err = sb__holds_attach(world.arena_dir, 1, 1, &holds);

	sb__holds_detach(holds);
	return err;
}

static struct sb__spill_shm block;

static int copy_block(void)
{
	struct sb__arena_cache *cache = NULL;
	struct sb__buf buf;
	int err = sb__arena_cache_create(world.arena_dir, &cache);

	sb__buf_init(&buf, NULL, 0);
	if (!err)
		err = sb__arena_copy(cache, &block, &buf);
	sb__buf_free(&buf);
	sb__arena_cache_destroy(cache);
	return err;
}

/* A file by whose name, and what opens it. */
static const struct opener {
	const char *name;
	int *dir;
	int (*open)(void);
} openers[] = {
	{ "000000000000002a", &world.mailbox_dir, attach_mailbox },
	{ "1.1", &world.bell_dir, attach_bell },
	{ "000000000000002a.refs", &world.mailbox_dir, visit_rows },
	{ "000000000000002a.refs", &world.mailbox_dir, read_row },
	{ "events", &world.bell_dir, open_events },
	{ "1.1.holds", &world.arena_dir, attach_holds },
	{ "1.1", &world.arena_dir, copy_block },
};
#define OPENERS (sizeof(openers) / sizeof(openers[0]))

static int set_up(void **state)
{
	struct sb__refrows *rows = NULL;
	struct sb__holds_shm *holds = NULL;
	struct sb__event event = { .kind = 1 };
	struct sb__events events;
	void *addr;

	(void)state;
	if (world_open(&world, NULL) != 0 || sb__arena_alloc(world.arena, 100, &block, &addr) != 0 ||
	    sb__holds_create(world.arena_dir, 1, 1, &holds) != 0 ||
	    sb__refrows_create(world.mailbox_dir, WORLD_INCARNATION, 10, &rows) != 0 ||
	    sb__events_open(world.bell_dir, true, &events) != 0)
		return -1;
	sb__events_post(&events, &event);
	sb__events_close(&events);
	sb__refrows_set(rows, 0, 1, "a.B", 1, 1);
	sb__refrows_destroy(rows);
	sb__holds_detach(holds);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	world_close(&world);
	return 0;
}

/* Spoils the file, sees that it is refused, mends it, sees that it is taken. */
static void refused(const struct opener *o, void (*spoil)(int dir, const char *name),
                    void (*mend)(int dir, const char *name))
{
	assert_int_equal(o->open(), 0);
	spoil(*o->dir, o->name);
	if (o->open() != SB_EMODE)
		fail_msg("%s was not refused: %s", o->name, sb_last_error()->message);
	assert_non_null(strstr(sb_last_error()->message, "belongs"));
	mend(*o->dir, o->name);
	assert_int_equal(o->open(), 0);
}

static void open_up(int dir, const char *name)
{
	assert_int_equal(fchmodat(dir, name, 0604, 0), 0);
}

static void close_up(int dir, const char *name)
{
	assert_int_equal(fchmodat(dir, name, 0600, 0), 0);
}

static void make_link(int dir, const char *name)
{
	assert_int_equal(renameat(dir, name, dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", dir, name), 0);
}

static void move_back(int dir, const char *name)
{
	assert_int_equal(unlinkat(dir, name, 0), 0);
	assert_int_equal(renameat(dir, "elsewhere", dir, name), 0);
}

static void add_name(int dir, const char *name)
{
	assert_int_equal(linkat(dir, name, dir, "elsewhere", 0), 0);
}

static void drop_name(int dir, const char *name)
{
	(void)name;
	assert_int_equal(unlinkat(dir, "elsewhere", 0), 0);
}

static void make_fifo(int dir, const char *name)
{
	assert_int_equal(renameat(dir, name, dir, "elsewhere"), 0);
	assert_int_equal(mkfifoat(dir, name, 0600), 0);
}

static void give_away(int dir, const char *name)
{
	assert_int_equal(fchownat(dir, name, NOBODY, NOBODY, 0), 0);
}

static void take_back(int dir, const char *name)
{
	assert_int_equal(fchownat(dir, name, geteuid(), getegid(), 0), 0);
}

static void files_open_to_others_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < OPENERS; i++)
		refused(&openers[i], open_up, close_up);
}

static void links_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < OPENERS; i++) {
		refused(&openers[i], make_link, move_back);
		refused(&openers[i], add_name, drop_name);
	}
}

static void other_kinds_are_refused_at_once(void **state)
{
	(void)state;
	alarm(30); /* opening a FIFO could wait for ever */
	for (size_t i = 0; i < OPENERS; i++)
		refused(&openers[i], make_fifo, move_back);
	alarm(0);
}

static void foreign_owners_are_refused(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < OPENERS; i++)
		refused(&openers[i], give_away, take_back);
}

/* ── the store and the life file ── */

static void the_store_opens_its_own_files_only(void **state)
{
	static const char *const names[] = { "lmdb/data.mdb", "lmdb/lock.mdb" };
	struct store_fixture *f = *state;
	struct sb__store *store = NULL;

	sb__store_close(f->store); /* this process keeps its environment: a child opens anew */
	f->store = NULL;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fchmodat(f->root, names[i], 0660, 0), 0);
		assert_int_equal(sb__env_check_files(f->root, "lmdb"), SB_EMODE);
		assert_int_equal(fchmodat(f->root, names[i], 0600, 0), 0);
		assert_int_equal(linkat(f->root, names[i], f->root, "elsewhere", 0), 0);
		assert_int_equal(sb__env_check_files(f->root, "lmdb"), SB_EMODE);
		assert_int_equal(unlinkat(f->root, "elsewhere", 0), 0);
		assert_int_equal(renameat(f->root, names[i], f->root, "elsewhere"), 0);
		assert_int_equal(symlinkat("../elsewhere", f->root, names[i]), 0);
		assert_int_equal(sb__env_check_files(f->root, "lmdb"), SB_EMODE);
		assert_int_equal(unlinkat(f->root, names[i], 0), 0);
		assert_int_equal(renameat(f->root, "elsewhere", f->root, names[i]), 0);
	}
	assert_int_equal(fchmodat(f->root, "lmdb", 0750, 0), 0);
	assert_int_equal(sb__env_check_files(f->root, "lmdb"), SB_EMODE);
	assert_int_equal(fchmodat(f->root, "lmdb", 0700, 0), 0);
	assert_int_equal(sb__store_open(f->root, false, STORE_FIXTURE_LAYOUT, &store), 0);
	f->store = store;
}

static void the_life_file_is_our_own(void **state)
{
	struct store_fixture *f = *state;
	int fd = openat(f->root, "life", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *pin = NULL;

	assert_true(fd >= 0 && ftruncate(fd, SB__SLOTS_MAX) == 0);
	close(fd);
	assert_int_equal(sb__life_hold(f->root, 3, &pin), 0);
	sb__life_drop(pin);
	assert_int_equal(fchmodat(f->root, "life", 0640, 0), 0);
	assert_int_not_equal(sb__life_hold(f->root, 3, &pin), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_open_to_others_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(links_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_kinds_are_refused_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(foreign_owners_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_store_opens_its_own_files_only, store_fixture_setup,
		                                store_fixture_teardown),
		cmocka_unit_test_setup_teardown(the_life_file_is_our_own, store_fixture_setup,
		                                store_fixture_teardown),
	};

	return cmocka_run_group_tests_name("file_modes", tests, NULL, NULL);
}
