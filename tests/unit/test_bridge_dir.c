/* SPDX-License-Identifier: Apache-2.0 */
/* A bridge's directory: made, found, checked, refused with a sentence that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge_dir.h"
#include "fixture.h"
#include "identity.h"

#define OTHER_USER 65534

struct place {
	char parent[256]; /* the fixture's: exists */
	char dir[300];    /* parent/bridge: does not, yet */
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	fixture_dir_make(p->parent, sizeof(p->parent));
	snprintf(p->dir, sizeof(p->dir), "%s/bridge", p->parent);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	unsetenv("SNAKEBRIDGE_DIR");
	unsetenv("XDG_RUNTIME_DIR");
	fixture_dir_remove(p->parent);
	free(p);
	return 0;
}

/* Refused with that code, in words that name the path. */
static void assert_refused(const char *dir, bool create, int code, const char *words)
{
	struct sb__bridge_dir d = { .root = -7 };
	int r = sb__bridge_dir_open(dir, create, &d);

	if (r != code || !strstr(sb_last_error()->message, words))
		print_error("%s, \"%s\", where \"%s\" was expected\n", sb_error_name(r),
		            sb_last_error()->message, words);
	assert_int_equal(r, code);
	assert_non_null(strstr(sb_last_error()->message, words));
	assert_int_equal(d.root, -7); /* untouched */
}

static void test_make_and_find(void **state)
{
	struct place *p = *state;
	struct sb__bridge_dir made, found;
	struct stat st;

	assert_refused(p->dir, false, SB_ENOBRIDGE, p->dir);
	assert_ok(sb__bridge_dir_open(p->dir, true, &made));
	assert_string_equal(made.path, p->dir);
	assert_int_equal(fstat(made.root, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fstat(made.life_fd, &st), 0);
	assert_true(st.st_size >= SB__SLOTS_MAX);
	assert_int_equal(st.st_blocks > 0, 1);
	assert_int_equal(fstat(made.boot, &st), 0);
	assert_true(st.st_dev == made.dev && st.st_ino == made.ino);
	assert_int_equal(fcntl(made.bell, F_GETFD), FD_CLOEXEC);
	assert_ok(sb__bridge_dir_open(p->dir, false, &found));
	assert_true(found.dev == made.dev && found.ino == made.ino);
	sb__bridge_dir_close(&found);
	assert_int_equal(found.root, -1);
	sb__bridge_dir_close(&found); /* again is fine */
	assert_ok(sb__bridge_dir_open(p->dir, true, &found));
	sb__bridge_dir_close(&found);
	sb__bridge_dir_close(&made);
}

static void test_where(void **state)
{
	struct place *p = *state;
	struct sb__bridge_dir d;
	char expected[320], here[4096], slashes[320];

	assert_int_equal(setenv("XDG_RUNTIME_DIR", p->parent, 1), 0);
	assert_ok(sb__bridge_dir_open(NULL, true, &d));
	snprintf(expected, sizeof(expected), "%s/snakebridge", p->parent);
	assert_string_equal(d.path, expected);
	sb__bridge_dir_close(&d);
	assert_int_equal(setenv("SNAKEBRIDGE_DIR", p->dir, 1), 0);
	assert_ok(sb__bridge_dir_open(NULL, true, &d));
	assert_string_equal(d.path, p->dir);
	sb__bridge_dir_close(&d);
	assert_int_equal(setenv("SNAKEBRIDGE_DIR", "", 1), 0); /* as if it were not set */
	assert_ok(sb__bridge_dir_open(NULL, true, &d));
	assert_string_equal(d.path, expected);
	sb__bridge_dir_close(&d);
	snprintf(slashes, sizeof(slashes), "%s///", p->dir);
	assert_ok(sb__bridge_dir_open(slashes, true, &d));
	assert_string_equal(d.path, p->dir);
	sb__bridge_dir_close(&d);
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(p->parent), 0);
	assert_ok(sb__bridge_dir_open("bridge", false, &d));
	assert_string_equal(d.path, p->dir);
	sb__bridge_dir_close(&d);
	assert_int_equal(chdir(here), 0);
}

static void test_no_directory(void **state)
{
	struct place *p = *state;
	char deep[320], slashed[320], longest[5000];
	int fd;

	snprintf(deep, sizeof(deep), "%s/not/there", p->parent);
	assert_refused(deep, true, SB_EDIR, "parent does not exist");
	assert_refused(deep, false, SB_ENOBRIDGE, deep);
	assert_refused("", true, SB_EDIR, "empty");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	longest[0] = '/';
	assert_refused(longest, true, SB_EDIR, "shorter");
	assert_refused(longest + 1, true, SB_EDIR, "shorter");
	fd = open(p->dir, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_refused(p->dir, true, SB_EDIR, "not a directory");
	assert_refused(p->dir, false, SB_EDIR, p->dir);
	assert_int_equal(unlink(p->dir), 0);
	assert_int_equal(symlink(p->parent, p->dir), 0);
	assert_refused(p->dir, true, SB_EDIR, "symbolic link");
	snprintf(slashed, sizeof(slashed), "%s/", p->dir);
	assert_refused(slashed, true, SB_EDIR, "symbolic link");
}

static void test_open_to_others(void **state)
{
	struct place *p = *state;
	struct sb__bridge_dir d;

	assert_int_equal(mkdir(p->dir, 0700), 0);
	assert_int_equal(chmod(p->dir, 0750), 0);
	assert_refused(p->dir, true, SB_EMODE, "chmod 0700");
	assert_int_equal(chmod(p->dir, 0701), 0);
	assert_refused(p->dir, false, SB_EMODE, p->dir);
	assert_int_equal(chmod(p->dir, 0700), 0);
	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	assert_int_equal(fchmod(d.bell, 0770), 0); /* inside too */
	sb__bridge_dir_close(&d);
	assert_refused(p->dir, true, SB_EMODE, "bell");
}

static int open_as_other_user(void *arg)
{
	struct place *p = arg;
	struct sb__bridge_dir d;

	if (seteuid(OTHER_USER))
		return 9;
	if (sb__bridge_dir_open(p->dir, true, &d) != SB_EOWNER || !strstr(sb_last_error()->message, p->dir))
		return 1;
	if (sb__bridge_dir_open(p->dir, false, &d) != SB_EOWNER)
		return 2;
	return 0;
}

static int make_as_other_user(void *arg)
{
	struct place *p = arg;
	struct sb__bridge_dir d;

	if (seteuid(OTHER_USER))
		return 9;
	if (sb__bridge_dir_open(p->dir, true, &d) != SB_EDIR ||
	    !strstr(sb_last_error()->message, "SNAKEBRIDGE_DIR"))
		return 1;
	return 0;
}

static int use_unwritable(void *arg)
{
	struct place *p = arg;
	struct sb__bridge_dir d;
	int r;

	if (chown(p->dir, OTHER_USER, (gid_t)-1) || seteuid(OTHER_USER) || chmod(p->dir, 0500))
		return 9;
	r = sb__bridge_dir_open(p->dir, true, &d);
	return r == SB_EDIR && strstr(sb_last_error()->message, p->dir) ? 0 : 1;
}

/* These need to be root, to be somebody else for a moment. */
static void test_other_users(void **state)
{
	struct place *p = *state;

	if (geteuid() != 0) {
		print_message("skipped: only root can become another user\n");
		skip();
	}
	assert_int_equal(chmod(p->parent, 0711), 0);
	assert_int_equal(fixture_wait(fixture_fork(make_as_other_user, p)), 0);
	assert_int_equal(mkdir(p->dir, 0700), 0);
	assert_int_equal(fixture_wait(fixture_fork(open_as_other_user, p)), 0);
	assert_int_equal(chmod(p->dir, 0755), 0);
	assert_int_equal(fixture_wait(fixture_fork(open_as_other_user, p)), 0);
	assert_int_equal(chmod(p->dir, 0700), 0);
	assert_int_equal(fixture_wait(fixture_fork(use_unwritable, p)), 0);
}

/* What a killed maker left is completed; who may only look says that there is no bridge. */
static void test_half_made(void **state)
{
	struct place *p = *state;
	struct sb__bridge_dir d;
	struct stat st;

	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	assert_int_equal(unlinkat(d.boot, "arena", AT_REMOVEDIR), 0);
	assert_int_equal(ftruncate(d.life_fd, 0), 0);
	sb__bridge_dir_close(&d);
	assert_refused(p->dir, false, SB_ENOBRIDGE, p->dir);
	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	assert_int_equal(fstat(d.life_fd, &st), 0);
	assert_true(st.st_size >= SB__SLOTS_MAX);
	sb__bridge_dir_close(&d);
}

static int make_it(void *arg)
{
	struct place *p = arg;
	struct sb__bridge_dir d;

	for (int i = 0; i < 50; i++) {
		if (sb__bridge_dir_open(p->dir, true, &d))
			return 1;
		sb__bridge_dir_close(&d);
	}
	return 0;
}

static void test_made_by_many(void **state)
{
	struct place *p = *state;
	pid_t pids[4];

	for (int i = 0; i < 4; i++)
		pids[i] = fixture_fork(make_it, p);
	for (int i = 0; i < 4; i++)
		assert_int_equal(fixture_wait(pids[i]), 0);
}

static void make_boot(struct place *p, const char *name, unsigned files)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
	for (unsigned i = 0; i < files; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s/%u", p->dir, name, i);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
}

static void test_earlier_boots(void **state)
{
	struct place *p = *state;
	char names[8][SB__BOOT_NAME_SIZE];
	struct sb__bridge_dir d;
	unsigned budget = 10;

	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	sb__bridge_dir_close(&d);
	make_boot(p, "boot-00000001", 5);
	assert_ok(sb__bridge_dir_open(p->dir, false, &d)); /* only looks */
	assert_int_equal(sb__bridge_dir_old_boots(&d, names, 8), 1);
	assert_string_equal(names[0], "boot-00000001");
	sb__bridge_dir_close(&d);
	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	assert_int_equal(sb__bridge_dir_old_boots(&d, names, 8), 0);
	make_boot(p, "boot-00000002", 15);
	make_boot(p, "boot-0000000X", 1);
	make_boot(p, "boot-000000033", 1);
	assert_int_equal(sb__bridge_dir_old_boots(&d, names, 8), 1);
	assert_int_equal(sb__bridge_dir_remove_boot(&d, names[0], &budget), 0);
	assert_int_equal(budget, 0);
	budget = 10;
	assert_int_equal(sb__bridge_dir_remove_boot(&d, names[0], &budget), 1);
	assert_int_equal(budget, 5);
	assert_int_equal(sb__bridge_dir_remove_boot(&d, names[0], &budget), 1); /* gone is gone */
	assert_int_equal(sb__bridge_dir_remove_boot(&d, "boot-0000000X", &budget), SB_EINVAL);
	assert_int_equal(sb__bridge_dir_remove_boot(&d, "..", &budget), SB_EINVAL);
	sb__bridge_dir_close(&d);
}

static void test_this_boot_is_refused(void **state)
{
	struct place *p = *state;
	struct sb__identity self;
	struct sb__bridge_dir d;
	char name[SB__BOOT_NAME_SIZE];
	unsigned budget = 100;

	assert_ok(sb__bridge_dir_open(p->dir, true, &d));
	assert_ok(sb__identity_self(&self));
	snprintf(name, sizeof(name), "boot-%02x%02x%02x%02x", self.boot_id[0], self.boot_id[1],
	         self.boot_id[2], self.boot_id[3]);
	assert_int_equal(faccessat(d.root, name, F_OK, 0), 0);
	assert_int_equal(sb__bridge_dir_remove_boot(&d, name, &budget), SB_EINVAL);
	assert_int_equal(budget, 100);
	assert_int_equal(faccessat(d.boot, "life", F_OK, 0), 0);
	sb__bridge_dir_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_make_and_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_where, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_to_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_users, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_made, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_by_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_earlier_boots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_this_boot_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests_name("bridge directory", tests, NULL, NULL);
}
