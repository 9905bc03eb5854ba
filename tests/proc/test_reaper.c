/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeps over bridges whose processes were really killed. Every test ends by the same two questions: does a
 * second sweep find nothing, and do the store's records agree?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "hand.h"
#include "holds.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"
#include "snapshot.h"
#include "sweep.h"

/* ── a bridge and what sweeps of it did ── */

struct bench {
	char path[256];
	struct hand hand; /* the test itself; attached: it may serve and own too */
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	fixture_dir_make(b->path, sizeof(b->path));
	assert_ok(hand_attach(&b->hand, b->path));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	hand_close(&b->hand);
	fixture_dir_remove(b->path);
	free(b);
	return 0;
}

/* Kinds of the actions, in order, as "owner-removed session-released". */
struct story {
	char text[2048];
};

static void tell(void *arg, const struct sb__verdict *v)
{
	struct story *story = arg;
	size_t used = strlen(story->text);

	if (v->code < 0 && v->kind != SB__VERDICT_RECORD_UNREADABLE)
		fprintf(stderr, "%s failed: %s\n", sb__verdict_kind_name(v->kind), sb_last_error()->message);
	snprintf(story->text + used, sizeof(story->text) - used, "%s%s", used ? " " : "",
	         sb__verdict_kind_name(v->kind));
}

static struct sb__sweep_result sweep_with(struct hand *hand, bool dry_run, uint32_t budget_ms,
                                          struct story *story)
{
	struct sb__sweep_options options = {
		.dry_run = dry_run, .files = true, .budget_ms = budget_ms, .report = tell, .arg = story
	};
	struct sb__sweep_result result;

	story->text[0] = '\0';
	assert_ok(sb__reaper_sweep(hand->store, &hand->dir, &options, &result));
	return result;
}

static void assert_swept(struct bench *b, const char *expected)
{
	struct story story;
	struct sb__sweep_result result = sweep_with(&b->hand, false, 0, &story);

	assert_string_equal(story.text, expected);
	assert_true(result.complete);
	assert_int_equal(result.failed, 0);
	assert_false(result.damaged);
}

static void print_problem(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "store: %s\n", line);
}

/* Nothing is left of the dead, and nothing is damaged. */
static void assert_clean(struct bench *b)
{
	struct sb__inspect *inspect;
	struct sb__overview o;

	assert_swept(b, "");
	assert_int_equal(sb__store_verify(b->hand.store, print_problem, NULL), 0);
	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_ok(sb__inspect_overview(inspect, &o));
	assert_int_equal(o.dead_processes, 0);
	assert_int_equal(o.dead_owners, 0);
	assert_int_equal(o.claimed_lanes_of_dead, 0);
	assert_int_equal(o.orphan_files, 0);
	assert_int_equal(o.unreadable, 0);
	sb__inspect_close(inspect);
}

static bool exists(int dir, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool exists(int dir, const char *fmt, ...)
{
	char name[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_mailbox(struct bench *b, uint64_t incarnation)
{
	return exists(b->hand.dir.mailbox, "%016llx", (unsigned long long)incarnation);
}

static struct sb__session_rec get_session(struct bench *b, const char *id)
{
	struct sb__session_rec rec;

	assert_int_equal(sb__store_session_get(b->hand.store, id, &rec), 1);
	return rec;
}

static bool has_session(struct bench *b, const char *id)
{
	struct sb__session_rec rec;
	int r = sb__store_session_get(b->hand.store, id, &rec);

	assert_true(r >= 0);
	return r == 1;
}

static uint32_t grave_reason(struct bench *b, uint64_t incarnation)
{
	struct sb__grave_rec grave;

	assert_int_equal(sb__store_grave(b->hand.store, incarnation, &grave), 1);
	return grave.reason;
}

/* The test serves session "s" and owns it. */
static struct sb__session_rec serve_here(struct bench *b, const char *id, struct sb__mailbox **ret)
{
	struct sb__session_rec rec = hand_wish(&b->hand, id);

	assert_ok(hand_serve(&b->hand, &rec, true, ret));
	return rec;
}

/* ── what children do ── */

static int act_serve(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, arg);
	struct sb__mailbox *mailbox;

	return hand_serve(hand, &wish, true, &mailbox);
}

static int act_serve_persistent(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, arg);
	struct sb__mailbox *mailbox;

	wish.persistent = 1;
	return hand_serve(hand, &wish, true, &mailbox);
}

static int act_serve_for_others(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, arg);
	struct sb__mailbox *mailbox;

	return hand_serve(hand, &wish, false, &mailbox);
}

static int act_start_only(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, arg);
	struct sb__owner_rec owner = { .slot = hand->self.slot,
		                       .generation = hand->self.generation,
		                       .handle = 1,
		                       .pid = hand->self.pid };

	return sb__store_session_create(hand->store, &wish, &owner) == 1 ? 0 : SB_EBUG;
}

static int act_join(struct hand *hand, void *arg)
{
	return hand_join(hand, arg, NULL, NULL);
}

static int act_join_twice(struct hand *hand, void *arg)
{
	int err = hand_join(hand, arg, NULL, NULL);

	return err ? err : hand_join(hand, arg, NULL, NULL);
}

static int act_claim_lanes(struct hand *hand, void *arg)
{
	struct sb__mailbox *mailbox;
	uint32_t lane;
	int err = hand_join(hand, arg, NULL, &mailbox);

	for (int i = 0; !err && i < 6; i++)
		err = sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
	return err;
}

static int act_spill(struct hand *hand, void *arg)
{
	struct sb__spill_shm block;
	struct sb__arena *arena;
	void *addr;
	int err = sb__arena_create(hand->dir.arena, hand->self.slot, hand->self.generation, &arena);

	(void)arg;
	return err ? err : sb__arena_alloc(arena, 100000, &block, &addr);
}

static int act_leave_temporary(struct hand *hand, void *arg)
{
	char name[64];

	(void)arg;
	for (int i = 0; i < SB__FOLDERS; i++) {
		int fd;

		snprintf(name, sizeof(name), ".new.%u.%u.%x", hand->self.slot, hand->self.generation, i);
		fd = sb__os_openat(sb__folder_fd(&hand->dir, i), name, O_CREAT | O_RDWR, 0600);
		if (fd < 0)
			return SB_ESYSTEM;
		close(fd);
	}
	return 0;
}

static struct child start(struct bench *b, int (*act)(struct hand *hand, void *arg), const char *id)
{
	struct child child;

	assert_ok(child_start(&child, b->path, act, (void *)(uintptr_t)id));
	return child;
}

/* ── nothing is taken from the living ── */

static void test_living_left_alone(void **state)
{
	struct bench *b = *state;
	struct child running = start(b, act_serve, "a"), stopped = start(b, act_claim_lanes, "a"),
		     bare = start(b, NULL, NULL);

	kill(stopped.pid, SIGSTOP);
	assert_clean(b);
	assert_int_equal(get_session(b, "a").state, SB_SESSION_ACTIVE);
	child_kill(&running, true);
	child_kill(&stopped, true);
	child_kill(&bare, true);
}

static void *sleep_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int act_end_main_thread(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, "a");
	int *ready = arg, err = hand_serve(hand, &wish, true, NULL);
	pthread_t thread;

	if (err || pthread_create(&thread, NULL, sleep_for_ever, NULL))
		return err ? err : SB_ESYSTEM;
	if (write(*ready, "x", 1) != 1)
		return SB_ESYSTEM;
	pthread_exit(NULL);
}

/* A process whose first thread ended shows as a zombie, and lives. */
static void test_zombie_leader_lives(void **state)
{
	struct bench *b = *state;
	char line[512] = "", path[64], ready;
	struct hand hand;
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(hand_attach(&hand, b->path) || act_end_main_thread(&hand, &fds[1]));
	assert_true(fixture_hear(fds[0], pid, &ready, 1));
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	for (int i = 0; i < 1000 && !strstr(line, ") Z "); i++) {
		FILE *f = fopen(path, "r");

		assert_non_null(f);
		assert_non_null(fgets(line, sizeof(line), f));
		fclose(f);
		usleep(1000);
	}
	assert_non_null(strstr(line, ") Z "));
	assert_clean(b);
	assert_int_equal(get_session(b, "a").state, SB_SESSION_ACTIVE);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_swept(b, "owner-removed session-released file-removed process-dead");
	close(fds[0]);
	close(fds[1]);
}

/* ── the dead ── */

static void test_bare_process(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, NULL, NULL);

	child_kill(&child, true);
	assert_swept(b, "process-dead");
	assert_clean(b);
}

static void test_unwaited_child(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_serve, "a");

	child_kill(&child, false); /* a zombie: kill(pid, 0) still says it is there */
	assert_swept(b, "owner-removed session-released file-removed process-dead");
	assert_clean(b);
	waitpid(child.pid, NULL, 0);
}

static int act_exec(struct hand *hand, void *arg)
{
	char id[] = "a";
	int err = act_serve(hand, id);

	if (err)
		return err;
	if (write(*(int *)arg, "x", 1) == 1)
		execlp("sleep", "sleep", "60", (char *)NULL);
	return SB_ESYSTEM;
}

/* The kernel lets go of the old program's life token a moment after it closed its files. */
static void wait_seen_dead(struct bench *b, pid_t pid)
{
	struct sb__process_view *views;
	struct sb__inspect *inspect;
	size_t count, dead = 0;

	for (int tries = 0; tries < 5000 && dead == 0; tries++) {
		assert_ok(sb__inspect_open(b->path, &inspect));
		assert_ok(sb__inspect_processes(inspect, &views, &count));
		for (size_t i = 0; i < count; i++)
			dead += views[i].evidence.verdict == SB__DEAD && views[i].identity.pid == pid;
		free(views);
		sb__inspect_close(inspect);
		usleep(1000);
	}
	assert_int_equal(dead, 1);
}

/* exec keeps pid and start time; the program that was attached is gone all the same. */
static void test_exec_is_death(void **state)
{
	struct bench *b = *state;
	struct hand hand;
	int fds[2];
	pid_t pid;
	char ready;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(hand_attach(&hand, b->path) || act_exec(&hand, &fds[1]));
	close(fds[1]);
	assert_true(fixture_hear(fds[0], pid, &ready, 1));
	assert_int_equal(read(fds[0], &ready, 1), 0); /* closed by exec */
	assert_int_equal(kill(pid, 0), 0);
	wait_seen_dead(b, pid);
	assert_swept(b, "owner-removed session-released file-removed process-dead");
	assert_clean(b);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fds[0]);
}

#ifdef SNAKEBRIDGE_POINTS

/* A request that names an array of the test's, which the caller keeps. */
static int act_post_with_hold(struct hand *hand, void *arg)
{
	struct sb__lane_post post = { .deadline_ns = UINT64_MAX };
	const struct sb__identity *maker = arg;
	struct sb__mailbox *mailbox;
	struct sb__holds_shm *holds;
	struct sb__flight flight;
	struct sb__bell bell;
	struct sb__buf buf;
	uint32_t lane, hint = 0, entry;
	int err = hand_join(hand, "a", NULL, &mailbox);

	if (!err)
		err = sb__holds_attach(hand->dir.arena, maker->slot, maker->generation, &holds);
	if (!err)
		err = sb__holds_take(holds, SB__HOLD(hand->self.slot, hand->self.generation, 64), &hint,
		                     &entry);
	if (!err)
		err = sb__bell_attach(hand->dir.bell, maker->slot, maker->generation, &bell);
	if (!err)
		err = sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
	if (err)
		return err;
	sb__lane_request(mailbox, lane, &buf);
	sb__buf_append(&buf, "request", 7);
	return sb__flight_post(&flight, mailbox, &bell, lane, &buf, &post, NULL, NULL);
}

/* A reaper that is killed when it has dropped the first hold. */
static int sweep_until_a_hold_is_dropped(void *arg)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	struct bench *b = arg;
	struct hand hand;

	if (hand_open(&hand, b->path))
		return 1;
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), "holds.cleared") == 0)
			sb__point_arm(i, 1, SB__POINT_KILL);
	(void)sb__reaper_sweep(hand.store, &hand.dir, &options, &result);
	return 2;
}

/* What the dead caller's request names is kept by its hold as long as the request can still be run. */
static void test_33_lanes_are_taken_back_before_holds(void **state)
{
	struct bench *b = *state;
	struct sb__mailbox *mailbox;
	struct sb__holds_shm *holds;
	struct child child;

	serve_here(b, "a", &mailbox);
	assert_ok(sb__holds_create(b->hand.dir.arena, b->hand.self.slot, b->hand.self.generation, &holds));
	assert_ok(child_start(&child, b->path, act_post_with_hold, &b->hand.self));
	child_kill(&child, true);
	assert_int_equal(SB__WORD_STATE(sb__load_acquire(&sb__lane_at(mailbox, 0)->word)), SB__LANE_READY);
	assert_int_not_equal(sb__load_acquire(&holds->entries[0]), 0);
	assert_int_equal(fixture_wait(fixture_fork(sweep_until_a_hold_is_dropped, b)), 1000 + SIGKILL);
	assert_int_equal(sb__load_acquire(&holds->entries[0]), 0);
	assert_int_equal(SB__WORD_STATE(sb__load_acquire(&sb__lane_at(mailbox, 0)->word)), SB__LANE_FREE);
	assert_swept(b, "process-dead");
	assert_clean(b);
	sb__holds_detach(holds);
	sb__mailbox_detach(mailbox);
}

/* ── lanes that cannot be taken back this time ── */

struct obstructed {
	struct sb__mailbox *mailbox;
	struct sb__holds_shm *holds;
	char name[32];
};

/* A directory has its name: it cannot be opened, and is not gone. */
static void obstruct(struct bench *b, const struct obstructed *o)
{
	assert_int_equal(renameat(b->hand.dir.mailbox, o->name, b->hand.dir.root, "aside"), 0);
	assert_int_equal(mkdirat(b->hand.dir.mailbox, o->name, 0700), 0);
}

static void clear_the_way(struct bench *b, const struct obstructed *o)
{
	assert_int_equal(unlinkat(b->hand.dir.mailbox, o->name, AT_REMOVEDIR), 0);
	assert_int_equal(renameat(b->hand.dir.root, "aside", b->hand.dir.mailbox, o->name), 0);
}

/* The caller of a request that names an array has died. */
static void post_and_die(struct bench *b, struct obstructed *o, int (*act)(struct hand *hand, void *arg))
{
	struct sb__session_rec rec = serve_here(b, "a", &o->mailbox);
	struct child child;

	serve_here(b, "b", NULL);
	snprintf(o->name, sizeof(o->name), "%016llx", (unsigned long long)rec.incarnation);
	assert_ok(sb__holds_create(b->hand.dir.arena, b->hand.self.slot, b->hand.self.generation, &o->holds));
	assert_ok(child_start(&child, b->path, act, &b->hand.self));
	child_kill(&child, true);
	assert_ok(sb__mailbox_map_lanes(o->mailbox)); /* as whoever serves it has */
}

/* As long as the request may be run, what it names is kept, and what leads to it is there. */
static void assert_waits(struct bench *b, const struct obstructed *o)
{
	assert_int_equal(SB__WORD_STATE(sb__load_acquire(&sb__lane_at(o->mailbox, 0)->word)), SB__LANE_READY);
	assert_int_not_equal(sb__load_acquire(&o->holds->entries[0]), 0);
	assert_int_equal(get_session(b, "a").owner_count, 2);
}

static void finish_obstructed(struct bench *b, struct obstructed *o)
{
	clear_the_way(b, o);
	assert_waits(b, o);
	assert_swept(b, "lanes-reclaimed owner-removed holds-dropped process-dead");
	assert_int_equal(sb__load_acquire(&o->holds->entries[0]), 0);
	assert_int_equal(SB__WORD_STATE(sb__load_acquire(&sb__lane_at(o->mailbox, 0)->word)), SB__LANE_FREE);
	assert_clean(b);
	sb__holds_detach(o->holds);
	sb__mailbox_detach(o->mailbox);
}

static void test_31_lanes_that_cannot_be_seen_keep_what_they_name(void **state)
{
	struct bench *b = *state;
	struct sb__sweep_result result;
	struct obstructed o;
	struct story story;

	post_and_die(b, &o, act_post_with_hold);
	obstruct(b, &o);
	for (int i = 0; i < 2; i++) {
		result = sweep_with(&b->hand, false, 0, &story);
		assert_string_equal(story.text, "record-unreadable");
		assert_true(result.damaged);
		assert_waits(b, &o);
	}
	finish_obstructed(b, &o);
}

/* Sweeps, and is stopped when it knows what to do: the way is barred then. How many verdicts failed. */
static int sweep_into_an_obstacle(void *arg)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	struct bench *b = arg;
	struct hand hand;

	if (hand_open(&hand, b->path))
		return 100;
	for (size_t i = 0; i < sb__point_count(); i++)
		if (strcmp(sb__point_name(i), "sweep.planned") == 0)
			sb__point_arm(i, 1, SB__POINT_STOP);
	if (sb__reaper_sweep(hand.store, &hand.dir, &options, &result))
		return 101;
	return sb__sweep_actions(&result) == 1 ? (int)result.failed : 102; /* one: its other owner record */
}

/* A sweep looks into mailboxes in the order in which their sessions were made, and stays in the last. So the caller is an owner
 * of a second session. */
static int act_post_and_join(struct hand *hand, void *arg)
{
	int err = act_post_with_hold(hand, arg);

	return err ? err : hand_join(hand, "b", NULL, NULL);
}

static void test_31_lanes_that_cannot_be_taken_back_keep_what_they_name(void **state)
{
	struct bench *b = *state;
	struct obstructed o;
	int status;
	pid_t pid;

	post_and_die(b, &o, act_post_and_join);
	pid = fixture_fork(sweep_into_an_obstacle, b);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	obstruct(b, &o);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(fixture_wait(pid), 1);
	assert_waits(b, &o);
	finish_obstructed(b, &o);
}

#endif

static void test_sole_owner_killed(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_serve, "a");
	struct sb__session_rec rec = get_session(b, "a");

	assert_true(has_mailbox(b, rec.incarnation));
	child_kill(&child, true);
	assert_swept(b, "owner-removed session-released file-removed process-dead");
	assert_false(has_session(b, "a"));
	assert_false(has_mailbox(b, rec.incarnation));
	assert_false(exists(b->hand.dir.bell, "%u.%u", rec.designated.slot, rec.designated.generation));
	assert_int_equal(grave_reason(b, rec.incarnation), SB__END_OWNERS_GONE);
	assert_clean(b);
}

static void test_caller_killed(void **state)
{
	struct bench *b = *state;
	struct sb__mailbox *mailbox;
	struct sb__lane_view views[8];
	struct child child;
	struct sb__session_rec rec = serve_here(b, "a", &mailbox);
	uint32_t lane;

	assert_ok(sb__lane_claim(mailbox, b->hand.self.slot, b->hand.self.generation, &lane));
	child = start(b, act_claim_lanes, "a");
	assert_int_equal(get_session(b, "a").owner_count, 2);
	assert_int_equal(sb__mailbox_view(mailbox, views, 8), 7);
	child_kill(&child, true);
	assert_swept(b, "lanes-reclaimed owner-removed process-dead");
	assert_int_equal(get_session(b, "a").owner_count, 1);
	assert_int_equal(sb__mailbox_view(mailbox, views, 8), 1); /* ours */
	assert_int_equal(views[0].lane, lane);
	assert_int_equal(sb__mailbox_state(mailbox), SB__MAILBOX_SERVING);
	assert_true(has_mailbox(b, rec.incarnation));
	assert_clean(b);
	sb__mailbox_detach(mailbox);
}

/* Two handles of one process, the last owners of a session that a living process serves: it is told. */
static void test_last_callers_killed(void **state)
{
	struct bench *b = *state;
	struct sb__session_rec wish = hand_wish(&b->hand, "a");
	struct sb__mailbox *mailbox;
	struct child child;
	uint32_t cursor = 0;

	assert_ok(hand_serve(&b->hand, &wish, false, &mailbox));
	child = start(b, act_join_twice, "a");
	child_kill(&child, true);
	assert_swept(b, "owner-removed owner-removed session-released process-dead");
	assert_int_equal(sb__mailbox_state(mailbox), SB__MAILBOX_RELEASED);
	assert_int_equal(sb__bell_take(&b->hand.bell, &cursor), 0); /* rung for its session */
	assert_false(has_mailbox(b, wish.incarnation));
	assert_clean(b);
	sb__mailbox_detach(mailbox);
}

static void test_designated_killed(void **state)
{
	struct bench *b = *state;
	struct child owner = start(b, act_serve, "a"), caller = start(b, act_claim_lanes, "a");
	struct sb__session_rec before = get_session(b, "a"), after;
	struct sb__mailbox *mailbox;

	assert_ok(sb__mailbox_attach(b->hand.dir.mailbox, before.incarnation, &mailbox));
	child_kill(&owner, true);
	assert_swept(b, "owner-removed session-orphaned file-removed process-dead");
	after = get_session(b, "a");
	assert_int_equal(after.state, SB_SESSION_ORPHANED);
	assert_int_equal(after.owner_count, 1);
	assert_false(has_mailbox(b, before.incarnation));
	/* Who still has it mapped learns of the owner's death, which is not the session's end. */
	assert_int_equal(sb__mailbox_state(mailbox), SB__MAILBOX_SERVING);
	assert_int_equal(grave_reason(b, before.incarnation), SB__END_OWNER_DIED);
	assert_clean(b);
	child_kill(&caller, true);
	assert_swept(b, "owner-removed session-released process-dead");
	assert_false(has_session(b, "a"));
	assert_clean(b);
	sb__mailbox_detach(mailbox);
}

/* The last access, which only the mailbox knew, still counts for the TTL of the orphaned session. */
static void test_orphan_keeps_last_access(void **state)
{
	struct bench *b = *state;
	struct child owner = start(b, act_serve_persistent, "a");
	struct sb__session_rec before = get_session(b, "a"), after;
	struct sb__mailbox *mailbox;
	uint64_t used_ms;

	assert_ok(sb__mailbox_attach(b->hand.dir.mailbox, before.incarnation, &mailbox));
	used_ms = sb__load(&sb__mailbox_control(mailbox)->last_access_ms) + 50000;
	sb__store(&sb__mailbox_control(mailbox)->last_access_ms, used_ms);
	sb__mailbox_detach(mailbox);
	child_kill(&owner, true);
	assert_swept(b, "owner-removed session-orphaned file-removed process-dead");
	after = get_session(b, "a");
	assert_true(after.expires_ms == used_ms + after.ttl_ms);
	assert_int_equal(after.owner_count, 0);
	assert_int_equal(after.state, SB_SESSION_ORPHANED);
	assert_clean(b);
}

static void test_killed_while_starting(void **state)
{
	struct bench *b = *state;
	struct child alone = start(b, act_start_only, "a"), joined = start(b, act_start_only, "b"), other;

	other = start(b, act_join, "b");
	child_kill(&alone, true);
	child_kill(&joined, true);
	assert_swept(
		b, "owner-removed session-released owner-removed session-orphaned process-dead process-dead");
	assert_false(has_session(b, "a"));
	assert_int_equal(get_session(b, "b").state, SB_SESSION_ORPHANED);
	assert_clean(b);
	child_kill(&other, true);
}

static void test_served_for_nobody(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_serve_for_others, "a");

	assert_clean(b); /* young: its caller is about to join */
	child_kill(&child, true);
	assert_swept(b, "session-released file-removed process-dead");
	assert_clean(b);
}

static void test_arena_and_temporaries(void **state)
{
	struct bench *b = *state;
	struct child spiller = start(b, act_spill, NULL), maker = start(b, act_leave_temporary, NULL),
		     alive = start(b, act_leave_temporary, NULL);

	child_kill(&spiller, true);
	child_kill(&maker, true);
	assert_swept(b, "file-removed file-removed file-removed file-removed process-dead process-dead");
	assert_clean(b); /* what the living one left in all three folders is not touched */
	child_kill(&alive, true);
	assert_swept(b, "file-removed file-removed file-removed process-dead");
	assert_clean(b);
}

static void test_foreign_files_stay(void **state)
{
	struct bench *b = *state;
	int fd = sb__os_openat(b->hand.dir.mailbox, "notes.txt", O_CREAT | O_RDWR, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_clean(b);
	assert_true(exists(b->hand.dir.mailbox, "notes.txt"));
}

/* ── what a killed releaser or reaper leaves ── */

static void test_ended_without_tidying(void **state)
{
	struct bench *b = *state;
	struct sb__mailbox *released, *expired, *orphaned;
	struct sb__session_rec a = serve_here(b, "a", &released), e = serve_here(b, "e", &expired),
			       o = serve_here(b, "o", &orphaned);

	assert_int_equal(sb__store_session_end(b->hand.store, "a", a.uid, SB__END_RELEASED, NULL), 1);
	assert_int_equal(sb__store_session_end(b->hand.store, "e", e.uid, SB__END_EXPIRED, NULL), 1);
	assert_int_equal(sb__store_session_orphan(b->hand.store, "o", o.incarnation), 1);
	assert_swept(b, "file-removed file-removed file-removed");
	assert_int_equal(sb__mailbox_state(released), SB__MAILBOX_RELEASED);
	assert_int_equal(sb__mailbox_state(expired), SB__MAILBOX_EXPIRED);
	assert_int_equal(sb__mailbox_state(orphaned), SB__MAILBOX_SERVING);
	assert_true(has_session(b, "o"));
	assert_clean(b);
	sb__mailbox_detach(released);
	sb__mailbox_detach(expired);
	sb__mailbox_detach(orphaned);
}

static void test_expiry(void **state)
{
	struct bench *b = *state;
	struct sb__session_rec idle = hand_wish(&b->hand, "idle"), used = hand_wish(&b->hand, "used"),
			       kept = hand_wish(&b->hand, "kept");
	struct sb__mailbox *idle_box, *used_box, *kept_box;
	struct sb__mailbox_control_shm *control;

	idle.ttl_ms = used.ttl_ms = 1;
	kept.ttl_ms = 0;
	idle.persistent = 1;
	assert_ok(hand_serve(&b->hand, &idle, false, &idle_box));
	assert_ok(hand_serve(&b->hand, &used, true, &used_box));
	assert_ok(hand_serve(&b->hand, &kept, true, &kept_box));
	control = sb__mailbox_control(used_box);
	sb__store(&control->last_access_ms, sb__load(&control->last_access_ms) + 3600000);
	usleep(20000); /* past two ticks of the coarse clock */
	assert_swept(b, "session-expired");
	assert_false(has_session(b, "idle"));
	assert_true(has_session(b, "used"));
	assert_true(has_session(b, "kept"));
	assert_int_equal(grave_reason(b, idle.incarnation), SB__END_EXPIRED);
	assert_int_equal(sb__mailbox_state(idle_box), SB__MAILBOX_EXPIRED);
	assert_clean(b);
	sb__mailbox_detach(idle_box);
	sb__mailbox_detach(used_box);
	sb__mailbox_detach(kept_box);
}

static void test_damaged_mailbox(void **state)
{
	struct bench *b = *state;
	struct sb__session_rec rec = serve_here(b, "a", NULL);
	struct child child = start(b, act_join, "a");
	struct sb__sweep_result result;
	struct story story;
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "%016llx", (unsigned long long)rec.incarnation);
	fd = sb__os_openat(b->hand.dir.mailbox, name, O_RDWR, 0);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "garbage!", 8, 0), 8);
	close(fd);
	child_kill(&child, true);
	result = sweep_with(&b->hand, false, 0, &story);
	assert_string_equal(story.text, "owner-removed process-dead record-unreadable");
	assert_true(result.damaged);
	assert_int_equal(result.failed, 0);
	assert_true(has_session(b, "a"));
}

static void test_earlier_boots(void **state)
{
	struct bench *b = *state;
	char path[512];
	int fd;

	assert_int_equal(mkdirat(b->hand.dir.root, "boot-00c0ffee", 0700), 0);
	assert_int_equal(mkdirat(b->hand.dir.root, "boot-00c0ffee/lmdb", 0700), 0);
	fd = openat(b->hand.dir.root, "boot-00c0ffee/lmdb/data.mdb", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkdirat(b->hand.dir.root, "boot-photos", 0700), 0);
	snprintf(path, sizeof(path), "%s/boot-photos", b->path);
	assert_int_equal(symlinkat(path, b->hand.dir.root, "boot-00000001"), 0);
	assert_swept(b, "boot-removed");
	assert_false(exists(b->hand.dir.root, "boot-00c0ffee"));
	assert_true(exists(b->hand.dir.root, "boot-photos"));
	assert_true(exists(b->hand.dir.root, "boot-00000001"));
	assert_clean(b);
}

/* ── dry runs, budgets, many reapers, killed reapers ── */

static void make_dirt(struct bench *b, unsigned salt)
{
	struct child children[4];
	char ids[2][32];

	snprintf(ids[0], sizeof(ids[0]), "dirt-%u", salt);
	snprintf(ids[1], sizeof(ids[1]), "more-dirt-%u", salt);
	children[0] = start(b, act_serve, ids[0]);
	children[1] = start(b, act_claim_lanes, ids[0]);
	children[2] = start(b, act_serve_for_others, ids[1]);
	children[3] = start(b, act_leave_temporary, NULL);
	for (int i = 0; i < 4; i++)
		child_kill(&children[i], true);
}

static void test_dry_run(void **state)
{
	struct bench *b = *state;
	struct story planned, again, done;
	struct sb__sweep_result result;

	make_dirt(b, 1);
	result = sweep_with(&b->hand, true, 0, &planned);
	assert_true(sb__sweep_actions(&result) > 0);
	sweep_with(&b->hand, true, 0, &again);
	assert_string_equal(planned.text, again.text); /* nothing was changed */
	sweep_with(&b->hand, false, 0, &done);
	for (unsigned kind = 0; kind < SB__VERDICT_KINDS; kind++) {
		const char *name = sb__verdict_kind_name(kind);

		if (kind != SB__VERDICT_READERS_CLEARED)
			assert_int_equal(strstr(planned.text, name) != NULL, strstr(done.text, name) != NULL);
	}
	assert_clean(b);
}

static void test_small_budget(void **state)
{
	struct bench *b = *state;
	struct sb__sweep_result result;
	struct story story;
	int sweeps = 0;

	for (unsigned i = 0; i < 4; i++)
		make_dirt(b, i);
	do {
		result = sweep_with(&b->hand, false, 1, &story);
		assert_int_equal(result.failed, 0);
		assert_true(result.complete || sb__sweep_actions(&result) > 0);
	} while (!result.complete && ++sweeps < 1000);
	assert_true(result.complete);
	assert_clean(b);
}

struct sweeper {
	const char *path;
	int ready; /* written to when it begins; -1: not */
};

static int sweep_once(void *arg)
{
	struct sweeper *sweeper = arg;
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	struct hand hand;
	int err = hand_open(&hand, sweeper->path);

	if (!err && sweeper->ready >= 0 && write(sweeper->ready, "x", 1) != 1)
		return 1;
	if (!err)
		err = sb__reaper_sweep(hand.store, &hand.dir, &options, &result);
	if (err)
		fprintf(stderr, "sweeper: %s\n", sb_last_error()->message);
	return err != 0 || result.failed != 0;
}

static void test_reapers_at_once(void **state)
{
	struct bench *b = *state;
	struct sweeper sweeper = { b->path, -1 };
	pid_t pids[3];

	for (int round = 0; round < 5; round++) {
		make_dirt(b, (unsigned)round);
		for (int i = 0; i < 3; i++)
			pids[i] = fixture_fork(sweep_once, &sweeper);
		for (int i = 0; i < 3; i++)
			assert_int_equal(fixture_wait(pids[i]), 0);
		assert_clean(b);
	}
}

struct interference {
	struct hand *hand;
	unsigned actions;
};

/* Between two actions of the sweep another process ends all sessions and dies before it removes their files.
 * */
static void end_all(void *arg, const struct sb__verdict *v)
{
	struct interference *other = arg;

	(void)v;
	if (other->actions++ > 0)
		return;
	sb__store_session_end(other->hand->store, "x", 0, SB__END_RELEASED, NULL);
	sb__store_session_end(other->hand->store, "y", 0, SB__END_RELEASED, NULL);
}

static void test_too_late(void **state)
{
	struct bench *b = *state;
	struct child x = start(b, act_serve, "x"), y = start(b, act_serve, "y"), bare = start(b, NULL, NULL);
	uint64_t incarnations[] = { get_session(b, "x").incarnation, get_session(b, "y").incarnation };
	struct interference other = { .hand = &b->hand };
	struct sb__sweep_options options = { .files = true, .report = end_all, .arg = &other };
	struct sb__sweep_result result;

	child_kill(&x, true);
	child_kill(&y, true);
	child_kill(&bare, true);
	assert_ok(sb__reaper_sweep(b->hand.store, &b->hand.dir, &options, &result));
	assert_int_equal(result.failed, 0);
	assert_false(has_mailbox(b, incarnations[0]));
	assert_false(has_mailbox(b, incarnations[1]));
	assert_clean(b);
}

/* A sweep is killed after a random part of the time that one takes; the next one finishes it. */
static void test_killed_reaper(void **state)
{
	struct bench *b = *state;
	unsigned seed = (unsigned)time(NULL), killed = 0, begun = 0;
	struct sb__sweep_result result;
	struct story story;
	uint64_t start_ns, whole_ns;
	uint32_t whole;

	print_message("seed %u\n", seed);
	srand(seed);
	make_dirt(b, 1000);
	start_ns = sb__now_ns();
	result = sweep_with(&b->hand, false, 0, &story);
	whole_ns = sb__now_ns() - start_ns;
	whole = sb__sweep_actions(&result);
	for (unsigned round = 0; round < 50; round++) {
		useconds_t after = (useconds_t)((uint64_t)rand() % (whole_ns * 3 / 2) / 1000);
		struct sweeper sweeper = { .path = b->path };
		int fds[2], status;
		char ready;
		pid_t pid;

		make_dirt(b, round);
		assert_int_equal(pipe(fds), 0);
		sweeper.ready = fds[1];
		pid = fixture_fork(sweep_once, &sweeper);
		assert_true(fixture_hear(fds[0], pid, &ready, 1));
		usleep(after);
		kill(pid, SIGKILL);
		status = fixture_wait(pid);
		assert_true(status == 0 || status == 1000 + SIGKILL);
		killed += status != 0;
		result = sweep_with(&b->hand, false, 0, &story);
		begun += status != 0 && sb__sweep_actions(&result) < whole;
		assert_int_equal(result.failed, 0);
		assert_clean(b);
		close(fds[0]);
		close(fds[1]);
	}
	print_message("%u of 50 reapers were killed, %u of them between two actions\n", killed, begun);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_living_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zombie_leader_lives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bare_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unwaited_child, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_is_death, setup, teardown),
#ifdef SNAKEBRIDGE_POINTS
		cmocka_unit_test_setup_teardown(test_33_lanes_are_taken_back_before_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_31_lanes_that_cannot_be_seen_keep_what_they_name, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_31_lanes_that_cannot_be_taken_back_keep_what_they_name,
		                                setup, teardown),
#endif
		cmocka_unit_test_setup_teardown(test_sole_owner_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_caller_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_callers_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_designated_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphan_keeps_last_access, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_while_starting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_served_for_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arena_and_temporaries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_files_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_without_tidying, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_mailbox, setup, teardown),
		cmocka_unit_test_setup_teardown(test_earlier_boots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dry_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_budget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reapers_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_reaper, setup, teardown),
	};

	return cmocka_run_group_tests_name("reaper", tests, NULL, NULL);
}
