/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mailbox files that are used again (src/shm/layout.h, law of reuse): only those that no other process ever attached to,
 * whoever looks at them at whatever moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "hand.h"
#include "mailbox_impl.h"
#include "point.h"
#include "shm_world.h"

/* ── one owner, by hand ── */

struct owner {
	struct shm_world world;
	struct sb__mailbox_pool *pool;
	struct sb__mailbox *mailbox;
	uint64_t incarnation;
};

static void make(struct owner *o, uint64_t incarnation)
{
	struct sb__mailbox_params params = { .incarnation = incarnation,
		                             .owner = o->world.owner,
		                             .max_refs = 10,
		                             .session_id = "again",
		                             .pool = o->pool };

	assert_int_equal(sb__mailbox_create(o->world.mailbox_dir, &params, &o->mailbox), 0);
	o->incarnation = incarnation;
}

static void end(struct owner *o)
{
	assert_true(sb__mailbox_end(o->mailbox, SB__MAILBOX_RELEASED));
	sb__mailbox_retire(o->mailbox, false);
	sb__mailbox_detach(o->mailbox);
	o->mailbox = NULL;
}

static int setup(void **state)
{
	static struct owner o;

	memset(&o, 0, sizeof(o));
	if (world_open(&o.world, NULL) || sb__mailbox_pool_new(o.world.mailbox_dir, 1, 1, &o.pool))
		return -1;
	*state = &o;
	return 0;
}

static int teardown(void **state)
{
	struct owner *o = *state;

	if (o->mailbox)
		sb__mailbox_detach(o->mailbox);
	sb__mailbox_pool_free(o->pool);
	world_close(&o->world);
	return 0;
}

/* The number of the file with that name; 0: there is none. */
static ino_t file_of(const struct owner *o, uint64_t incarnation)
{
	char name[32];
	struct stat st;

	snprintf(name, sizeof(name), "%016" PRIx64, incarnation);
	return fstatat(o->world.mailbox_dir, name, &st, 0) == 0 ? st.st_ino : 0;
}

static unsigned kept_files(int mailbox_dir)
{
	DIR *dir = fdopendir(openat(mailbox_dir, ".", O_RDONLY | O_DIRECTORY));
	const struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += strncmp(entry->d_name, ".new.", 5) == 0;
	closedir(dir);
	return n;
}

static void test_a_file_is_used_again_and_is_as_new(void **state)
{
	struct owner *o = *state;
	struct sb__mailbox *other;
	ino_t first;

	make(o, 100);
	first = file_of(o, 100);
	sb__store(&o->mailbox->control->calls, 77);
	sb__or(&o->mailbox->control->ready[0], 5);
	end(o);
	assert_int_equal(file_of(o, 100), 0);
	assert_int_equal(kept_files(o->world.mailbox_dir), 1);
	make(o, 102);
	assert_int_equal(file_of(o, 102), first);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
	assert_int_equal(sb__mailbox_attach(o->world.mailbox_dir, 102, &other), 0);
	assert_int_equal(sb__mailbox_state(other), SB__MAILBOX_SERVING);
	assert_int_equal(sb__load(&other->control->calls), 0);
	assert_int_equal(sb__load(&other->control->ready[0]), 0);
	assert_string_equal(sb__mailbox_header(other)->session_id, "again");
	sb__mailbox_detach(other);
}

static void test_not_one_that_another_attached_to(void **state)
{
	struct owner *o = *state;
	struct sb__mailbox_peek peek;
	struct sb__mailbox *other;
	ino_t first;

	make(o, 100);
	first = file_of(o, 100);
	assert_int_equal(sb__mailbox_peek(o->world.mailbox_dir, 100, NULL, NULL, &peek), 0);
	end(o); /* who only peeked has nothing of it */
	make(o, 101);
	assert_int_equal(file_of(o, 101), first);
	assert_int_equal(sb__mailbox_attach(o->world.mailbox_dir, 101, &other), 0);
	end(o);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
	make(o, 102);
	assert_int_not_equal(file_of(o, 102), first);
	assert_int_equal(sb__mailbox_state(other), SB__MAILBOX_RELEASED);
	sb__mailbox_detach(other);
}

static void test_not_one_with_lanes(void **state)
{
	struct owner *o = *state;
	uint32_t lane;

	make(o, 100);
	assert_int_equal(sb__lane_claim(o->mailbox, 1, 1, &lane), 0);
	sb__lane_unclaim(o->mailbox, lane);
	end(o);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
	/* Nor one that gets its first lanes when it was retired: who does that uses it still. */
	make(o, 101);
	assert_true(sb__mailbox_end(o->mailbox, SB__MAILBOX_RELEASED));
	sb__mailbox_retire(o->mailbox, false);
	assert_int_equal(kept_files(o->world.mailbox_dir), 1);
	sb__store(&o->mailbox->control->lane_count, SB__LANES_FIRST);
	sb__mailbox_detach(o->mailbox);
	o->mailbox = NULL;
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
}

static void test_whoever_removes_a_kept_file_does_no_harm(void **state)
{
	struct owner *o = *state;

	make(o, 100);
	end(o);
	assert_int_equal(unlinkat(o->world.mailbox_dir, ".new.1.1.0000000000000001", 0), 0);
	make(o, 101);
	assert_int_not_equal(file_of(o, 101), 0);
	/* And one that is gone before it is kept. */
	assert_int_equal(sb__mailbox_unlink(o->world.mailbox_dir, 101), 0);
	end(o);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
	make(o, 102);
	assert_int_not_equal(file_of(o, 102), 0);
}

static void test_a_word_that_makes_no_sense(void **state)
{
	struct owner *o = *state;
	struct sb__mailbox_peek peek;
	struct sb__mailbox *other;

	make(o, 100);
	sb__store(&o->mailbox->control->attached, 12345);
	assert_int_equal(sb__mailbox_attach(o->world.mailbox_dir, 100, &other), SB_EPROTOCOL);
	assert_int_equal(sb__mailbox_peek(o->world.mailbox_dir, 100, NULL, NULL, &peek), SB_EPROTOCOL);
	end(o);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
}

static void test_31_a_child_leaves_its_parents_alone(void **state)
{
	struct owner *o = *state;
	pid_t pid;
	int status;

	make(o, 100);
	assert_true(sb__mailbox_end(o->mailbox, SB__MAILBOX_RELEASED));
	sb__mailbox_retire(o->mailbox, false);
	pid = fork();
	if (pid == 0) {
		sb__mailbox_detach(o->mailbox);
		_exit(kept_files(o->world.mailbox_dir) != 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	sb__mailbox_detach(o->mailbox);
	o->mailbox = NULL;
	make(o, 101);
	assert_int_equal(kept_files(o->world.mailbox_dir), 0);
}

#ifdef SNAKEBRIDGE_POINTS

/* Attaches to 100, and stands still at a point on the way. */
static int attach_and_be_stopped(struct owner *o, const char *point)
{
	struct sb__mailbox *other;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), point) == 0)
			sb__point_arm(i, 1, SB__POINT_STOP);
	err = sb__mailbox_attach(o->world.mailbox_dir, 100, &other);
	return err == 0 ? 1 : err == SB_ERELEASED ? 0 : 2;
}

/* Whoever has opened the file by its old name, however long ago, finds its session ended. */
static void test_09_stopped_while_attaching(void **state)
{
	static const char *const points[] = { "mailbox.mapped", "mailbox.entering" };
	struct owner *o = *state;

	for (unsigned i = 0; i < 2; i++)
		for (unsigned after = 0; after < 3; after++) {
			struct sb__mailbox *other;
			int status;
			pid_t pid;

			make(o, 100);
			pid = fork();
			if (pid == 0)
				_exit(attach_and_be_stopped(o, points[i]));
			assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
			assert_true(WIFSTOPPED(status));
			if (after == 0) { /* retired, not yet wiped */
				assert_true(sb__mailbox_end(o->mailbox, SB__MAILBOX_RELEASED));
				sb__mailbox_retire(o->mailbox, false);
			} else {
				end(o);
			}
			if (after == 2)
				make(o, 101);
			assert_int_equal(kill(pid, SIGCONT), 0);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_int_equal(status, 0);
			if (after == 0) {
				sb__mailbox_detach(o->mailbox);
				o->mailbox = NULL;
			}
			if (after != 2)
				continue;
			assert_int_equal(sb__load(&o->mailbox->control->attached), SB__ATTACHED_NOT(101));
			assert_int_equal(sb__mailbox_attach(o->world.mailbox_dir, 101, &other), 0);
			sb__mailbox_detach(other);
			end(o);
		}
}

#endif

/* ── through the API ── */

#define MANY 40

static void settle(const struct hand *hand, unsigned want)
{
	for (int i = 0; i < 1000 && kept_files(hand->dir.mailbox) > want; i++)
		usleep(5000);
}

static void test_31_a_process_keeps_few(void **state)
{
	struct fixture *f = *state;
	sb_session *s[MANY];
	struct hand look;
	sb_bridge *bridge;

	assert_ok(hand_open(&look, f->dir));
	assert_ok(sb_bridge_open(f->dir, NULL, &bridge));
	for (unsigned i = 0; i < MANY; i++)
		s[i] = fixture_session(bridge, NULL, SB_DESIGNATED_SELF);
	for (unsigned i = 0; i < MANY; i++) {
		assert_ok(sb_session_release(bridge, sb_session_id(s[i]), NULL));
		sb_session_close(s[i]);
	}
	settle(&look, 16);
	assert_in_range(kept_files(look.dir.mailbox), 1, 16);
	sb_bridge_close(bridge);
	sb_bridge_close(f->bridge);
	f->bridge = NULL;
	assert_int_equal(kept_files(look.dir.mailbox), 0);
	hand_close(&look);
	assert_ok(sb_bridge_open(f->dir, NULL, &f->bridge));
}

/* Opened, used by another process or not, ended: each session is its own. */
static int use_one(void *arg)
{
	sb_session *s = NULL;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge;
	sb_value *v = NULL;
	int64_t n = 0;

	if (sb_bridge_open(arg, NULL, &bridge))
		return 1;
	o.session_id = "turns";
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_session_open(bridge, &o, &s))
		return 2;
	if (sb_call(s, "builtins:abs", sb_args("i", -5), &v) || sb_value_int(v, &n) || n != 5)
		return 3;
	sb_value_free(v);
	sb_session_close(s);
	sb_bridge_close(bridge);
	return 0;
}

static void test_09_14_used_by_others_in_turn(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 6; i++) {
		sb_session *s = fixture_session(f->bridge, "turns", SB_DESIGNATED_SELF);

		if (i % 2)
			assert_int_equal(fixture_wait(fixture_fork(use_one, f->dir)), 0);
		assert_ok(sb_session_release(f->bridge, "turns", NULL));
		sb_session_close(s);
	}
}

#define OWNED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		OWNED(test_a_file_is_used_again_and_is_as_new),
		OWNED(test_not_one_that_another_attached_to),
		OWNED(test_not_one_with_lanes),
		OWNED(test_whoever_removes_a_kept_file_does_no_harm),
		OWNED(test_a_word_that_makes_no_sense),
		OWNED(test_31_a_child_leaves_its_parents_alone),
#ifdef SNAKEBRIDGE_POINTS
		OWNED(test_09_stopped_while_attaching),
#endif
		cmocka_unit_test_setup_teardown(test_31_a_process_keeps_few, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_09_14_used_by_others_in_turn, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("reuse", tests, NULL, NULL);
}
