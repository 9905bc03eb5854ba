/* SPDX-License-Identifier: Apache-2.0 */
/* On a file system without room: an error each time, never a SIGBUS, and nothing half-made. Needs root for
 * the mount. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "refrows.h"
#include "shm_world.h"
#include "snakebridge/error.h"

struct small {
	char path[64];
	struct shm_world world;
};

static int setup(void **state)
{
	struct small *s = calloc(1, sizeof(*s));
	char options[] = "size=256k,mode=0700";

	*state = s;
	strcpy(s->path, "/tmp/sb-small-XXXXXX");
	if (!mkdtemp(s->path) || mount("none", s->path, "tmpfs", 0, options) != 0)
		return -1;
	return world_open(&s->world, s->path);
}

static int teardown(void **state)
{
	struct small *s = *state;

	world_close(&s->world);
	umount(s->path);
	rmdir(s->path);
	free(s);
	return 0;
}

/* Fills what is left; returns the file. */
static int fill(struct small *s)
{
	static const char block[4096];
	char name[96];
	int fd;

	snprintf(name, sizeof(name), "%s/filler", s->path);
	fd = open(name, O_WRONLY | O_CREAT, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	return errno == ENOSPC ? 0 : -1;
}

static unsigned files_in(int dir)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	unsigned count = 0;

	while (readdir(d))
		count++;
	closedir(d);
	return count - 2;
}

static void lanes_do_not_grow_but_those_there_work_on(void **state)
{
	struct small *s = *state;
	enum sb__lane_result result;
	uint32_t lane, count = 0;
	int err;

	while ((err = sb__lane_claim(s->world.mailbox, 1, 1, &lane)) == 0)
		count++;
	assert_int_equal(err, SB_ENOSPACE);
	assert_true(count >= 4 && (count & (count - 1)) == 0);
	assert_int_equal(fill(s), 0);
	assert_int_equal(world_call(&s->world, count - 1, 1, 4000, 1000000, &result), 0);
	assert_int_equal(result, SB__LANE_NOT_STARTED); /* nobody serves; but every byte could be touched */
	assert_int_equal(sb__mailbox_reclaim(s->world.mailbox, 1, 1, false), count);
}

static void big_requests_are_refused_unsent(void **state)
{
	struct small *s = *state;
	enum sb__lane_result result;
	uint32_t lane;

	assert_int_equal(sb__lane_claim(s->world.mailbox, 1, 1, &lane), 0);
	assert_int_equal(world_call(&s->world, lane, 1, 1 << 20, 1000000, &result), SB_ENOSPACE);
	/* What does fit is had, though the arena's usual first step does not. */
	assert_int_equal(world_call(&s->world, lane, 1, 20000, 1000000, &result), 0);
	assert_int_equal(result, SB__LANE_NOT_STARTED);
	assert_int_equal(sb__arena_in_use(s->world.arena), 0);
	assert_string_not_equal(sb_last_error()->message, "");
}

static void nothing_is_left_of_what_could_not_be_made(void **state)
{
	struct small *s = *state;
	struct sb__mailbox_params params = { .incarnation = 50,
		                             .owner = s->world.owner,
		                             .session_id = "full" };
	struct sb__identity other = { .slot = 2, .generation = 1 };
	struct sb__refrows *rows;
	struct sb__mailbox *mailbox;
	struct sb__bell bell;
	uint32_t torn;

	assert_int_equal(fill(s), 0);
	assert_int_equal(sb__mailbox_create(s->world.mailbox_dir, &params, &mailbox), SB_ENOSPACE);
	assert_int_equal(sb__bell_create(s->world.bell_dir, &other, &bell), SB_ENOSPACE);
	assert_int_equal(files_in(s->world.mailbox_dir), 1);
	assert_int_equal(files_in(s->world.bell_dir), 1);
	assert_int_equal(sb__refrows_create(s->world.mailbox_dir, 50, 100, &rows), 0);
	sb__refrows_set(rows, 0, 1, "dropped", 0, 1);
	sb__refrows_touch(rows, 0, 1);
	sb__refrows_clear(rows, 0);
	assert_int_equal(sb__refrows_visit(s->world.mailbox_dir, 50, NULL, NULL, &torn), 0);
	sb__refrows_destroy(rows);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lanes_do_not_grow_but_those_there_work_on),
		TEST(big_requests_are_refused_unsent),
		TEST(nothing_is_left_of_what_could_not_be_made),
	};
	struct small probe = { .path = "/tmp/sb-small-XXXXXX" };
	int mounted = mkdtemp(probe.path) && mount("none", probe.path, "tmpfs", 0, "size=64k") == 0;

	if (mounted)
		umount(probe.path);
	rmdir(probe.path);
	if (!mounted) {
		printf("skipped: cannot mount a tmpfs here (needs root): %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests_name("shm_space", tests, NULL, NULL);
}
