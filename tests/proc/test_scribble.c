/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process of a session that writes random bytes: over its own lane, over the whole mailbox of a running designated owner, over ref rows,
 * tables of holds and all of the doorbell that it has mapped for writing. The owner stays up and refuses; another session of the same
 * owner process never notices. Only where the doorbell's file was opened anew to write over what is mapped for reading only, it may
 * believe what is written there, for as long as it is. Point 34; SECURITY.md says what is not promised.
 *
 * SB_SCRIBBLE_SECONDS: how long each kind of scribbling lasts, instead of one second. SB_SEED: as printed.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bell.h"
#include "bridge_dir.h"
#include "clock.h"
#include "fixture.h"
#include "holds.h"
#include "mailbox_impl.h"

#define NOTICE_MS 20000 /* no call of a bystander takes so long, however busy the machine */

/* What the processes of a test tell each other. */
struct board {
	_Atomic bool stop;
	_Atomic uint64_t calls, wrong, slowest_ms, writes;
	_Atomic int first_error;
};

struct scene {
	struct fixture *f;
	struct board *board;
	sb_session *victim, *bystander;
	struct sb__bridge_dir dir;
	uint64_t incarnation; /* of victim */
	struct sb__identity self;
	uint64_t seed;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static double seconds(void)
{
	const char *text = getenv("SB_SCRIBBLE_SECONDS");

	return text && atof(text) > 0 ? atof(text) : 1;
}

/* ── the bystander: calls its own session all the time, and its results are right ── */

static int one_call(sb_session *s, int64_t n)
{
	sb_value *value = NULL;
	int64_t got = 0;
	int err = sb_call(s, "operator:add", sb_args("ll", n, n + 1), &value);

	if (!err)
		err = sb_value_int(value, &got);
	if (!err && got != 2 * n + 1)
		err = SB_EBUG;
	sb_value_free(value);
	return err;
}

static int bystand(void *arg)
{
	struct scene *scene = arg;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge = NULL;
	sb_session *s = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
	options.session_id = "bystander";
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_bridge_open(scene->f->dir, NULL, &bridge) || sb_session_open(bridge, &options, &s))
		return 1;
	for (int64_t n = 0; !atomic_load(&scene->board->stop); n++) {
		uint64_t begun = sb__now_ms(), took;
		int err = one_call(s, n);

		took = sb__now_ms() - begun;
		if (took > atomic_load(&scene->board->slowest_ms))
			atomic_store(&scene->board->slowest_ms, took);
		if (err && atomic_fetch_add(&scene->board->wrong, 1) == 0) {
			atomic_store(&scene->board->first_error, err);
			fprintf(stderr, "the bystander's call %lld: %s: %s\n", (long long)n,
			        sb_error_name(err), sb_last_error()->message);
		}
		atomic_fetch_add(&scene->board->calls, 1);
	}
	sb_session_close(s);
	sb_bridge_close(bridge);
	return 0;
}

/* ── the scribblers ── */

static void scribble(uint64_t *state, void *memory, size_t len)
{
	uint8_t *to = memory;
	size_t at = next_random(state) % len, n = 1 + next_random(state) % 64;

	for (size_t i = at; i < at + n && i < len; i++)
		to[i] = (uint8_t)(next_random(state) % 4 ? next_random(state)
		                                         : 0xff * (next_random(state) & 1));
}

/* Enough of it is a request that the owner meets it again and again. */
static void pretend(uint64_t *state, struct sb__mailbox *m, struct sb__bell *bell, uint32_t lane)
{
	struct sb__lane_shm *l = sb__lane_at(m, lane);

	if (!l)
		return;
	sb__store(&l->deadline_ns, UINT64_MAX);
	if (next_random(state) % 2)
		l->request_len %= SB__INLINE_MAX + 1;
	if (next_random(state) % 2)
		l->request_spilled = 0;
	sb__store(&l->word, SB__WORD(SB__LANE_READY, next_random(state), next_random(state) % 4,
	                             next_random(state) % 4));
	sb__lane_announce(m, lane);
	(void)sb__bell_ring(bell, m->header->bell_index);
}

typedef void (*scribble_fn)(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell,
                            uint64_t *state);

static void own_lane(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell, uint64_t *state)
{
	static bool claimed;
	static uint32_t lane;

	(void)scene;
	if (!claimed && sb__lane_claim(m, 900, 1, &lane) != 0)
		return;
	claimed = true;
	scribble(state, sb__lane_at(m, lane), offsetof(struct sb__lane_shm, request) + 256);
	pretend(state, m, bell, lane);
}

static void whole_mailbox(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell, uint64_t *state)
{
	static bool grown;

	(void)scene;
	if (!grown && sb__mailbox_grow(m, 0) != 0)
		return;
	grown = true;
	if (next_random(state) % 8 == 0) /* the header, too, and the state */
		scribble(state, m->map, SB__PAGE);
	else
		scribble(state, m->map, SB__PAGE + sb__block_size(0));
	if (next_random(state) % 4)
		sb__store(&m->control->state, SB__MAILBOX_SERVING);
	pretend(state, m, bell, (uint32_t)next_random(state) % SB__LANES_FIRST);
}

static void *map_file(int dir, const char *name, size_t *ret_len)
{
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC);
	off_t len = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	void *map = len > 0 ? mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	*ret_len = map == MAP_FAILED ? 0 : (size_t)len;
	return map == MAP_FAILED ? NULL : map;
}

/* Rows of refs, holds, and the arena itself, by their files. */
static void other_files(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell, uint64_t *state)
{
	static struct {
		void *map;
		size_t len;
	} files[3];
	static bool mapped;
	char name[64];

	if (!mapped) {
		snprintf(name, sizeof(name), "%016llx.refs", (unsigned long long)scene->incarnation);
		files[0].map = map_file(scene->dir.mailbox, name, &files[0].len);
		snprintf(name, sizeof(name), "%u.%u.holds", scene->self.slot, scene->self.generation);
		files[1].map = map_file(scene->dir.arena, name, &files[1].len);
		snprintf(name, sizeof(name), "%u.%u", scene->self.slot, scene->self.generation);
		files[2].map = map_file(scene->dir.arena, name, &files[2].len);
		mapped = true;
	}
	for (int i = 0; i < 3; i++)
		if (files[i].map)
			scribble(state, files[i].map, files[i].len);
	(void)sb__bell_ring(bell, m->header->bell_index);
}

/* All that stray stores can reach. */
static void bell_words(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell, uint64_t *state)
{
	(void)scene;
	(void)m;
	scribble(state, (uint8_t *)bell->shm + SB__PAGE, sizeof(*bell->shm) - SB__PAGE);
}

static void bell_file(struct scene *scene, struct sb__mailbox *m, struct sb__bell *bell, uint64_t *state)
{
	static void *map;
	static size_t len;
	char name[64];

	(void)m;
	(void)bell;
	if (!map) {
		snprintf(name, sizeof(name), "%u.%u", scene->self.slot, scene->self.generation);
		map = map_file(scene->dir.bell, name, &len);
	}
	if (map)
		scribble(state, map, len);
}

struct scribbler {
	struct scene *scene;
	scribble_fn fn;
};

static int scribble_for_a_while(void *arg)
{
	struct scribbler *s = arg;
	struct scene *scene = s->scene;
	uint64_t end = sb__now_ms() + (uint64_t)(seconds() * 1000), state = scene->seed | 1;
	struct sb__mailbox *m = NULL;
	struct sb__bell bell;

	if (sb__mailbox_attach(scene->dir.mailbox, scene->incarnation, &m) != 0 ||
	    sb__bell_attach(scene->dir.bell, scene->self.slot, scene->self.generation, &bell) != 0)
		return 1;
	while (sb__now_ms() < end) {
		for (int i = 0; i < 200; i++)
			s->fn(scene, m, &bell, &state);
		atomic_fetch_add(&scene->board->writes, 200);
		usleep(500); /* others want the CPU, too */
	}
	return 0;
}

/* ── ── */

static sb_session *open_here(struct scene *scene, const char *id)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	options.session_id = id;
	options.designated = SB_DESIGNATED_SELF;
	assert_ok(sb_session_open(scene->f->bridge, &options, &s));
	return s;
}

static uint64_t seed_of_run(void)
{
	const char *text = getenv("SB_SEED");

	return text ? strtoull(text, NULL, 0) : sb__now_ns();
}

static int set_up(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	void *fixture = NULL;

	if (!scene || fixture_setup(&fixture))
		return -1;
	scene->f = fixture;
	scene->board = mmap(NULL, sizeof(*scene->board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	                    -1, 0);
	scene->seed = seed_of_run();
	*state = scene;
	return scene->board == MAP_FAILED ? -1 : sb__bridge_dir_open(scene->f->dir, false, &scene->dir);
}

static int tear_down(void **state)
{
	struct scene *scene = *state;
	void *fixture = scene->f;

	sb__bridge_dir_close(&scene->dir);
	munmap(scene->board, sizeof(*scene->board));
	free(scene);
	return fixture_teardown(&fixture);
}

/* The victim's mailbox: by its header. */
static void find_victim(struct scene *scene)
{
	sb_session_info info = { .size = sizeof(info) };
	struct sb__mailbox *m = NULL;

	assert_ok(sb_session_get_info(scene->victim, &info));
	scene->incarnation = info.incarnation;
	assert_ok(sb__mailbox_attach(scene->dir.mailbox, scene->incarnation, &m));
	scene->self = sb__mailbox_header(m)->owner;
	sb__mailbox_detach(m);
}

/* Refs and an array, so that there are rows and holds to write over. */
static void furnish(sb_session *s)
{
	sb_value *value = NULL;

	for (int i = 0; i < 20; i++) {
		assert_ok(sb_call(s, "collections:Counter", sb_args("s", "abc"), &value));
		sb_value_free(value);
	}
}

/* A session of the victim's name can be had and works, if not the very one. */
static void victim_heals(struct scene *scene)
{
	int err = SB_EBUG;

	sb_session_close(scene->victim);
	for (int i = 0; i < 200 && err; i++) {
		assert_ok(sb_session_release(scene->f->bridge, "victim", NULL));
		scene->victim = open_here(scene, "victim");
		err = one_call(scene->victim, 1);
		if (err) {
			sb_session_close(scene->victim);
			usleep(50000);
		}
	}
	assert_int_equal(err, 0);
	sb_session_close(scene->victim);
}

/* The owner puts its doorbell right once a second, where it has the CPU. */
static void calls_go_well_again(struct board *board)
{
	for (int i = 0, well = 0; i < 600 && well < 3; i++) {
		uint64_t wrong = atomic_load(&board->wrong), calls = atomic_load(&board->calls);

		usleep(100000);
		well = atomic_load(&board->wrong) == wrong && atomic_load(&board->calls) > calls ? well + 1
		                                                                                 : 0;
	}
}

static void run(void **state, const char *name, scribble_fn fn, bool lies)
{
	struct scene *scene = *state;
	struct scribbler scribbler = { scene, fn };
	struct board *board = scene->board;
	pid_t bystander, writer;

	fprintf(stderr, "seed %llu\n", (unsigned long long)scene->seed);
	scene->victim = open_here(scene, "victim");
	scene->bystander = open_here(scene, "bystander");
	furnish(scene->victim);
	find_victim(scene);
	bystander = fixture_fork(bystand, scene);
	while (!atomic_load(&board->calls)) /* it has attached */
		usleep(1000);
	writer = fixture_fork(scribble_for_a_while, &scribbler);
	assert_int_equal(fixture_wait(writer), 0);
	if (lies) { /* it may have been told lies, for so long as they were written */
		calls_go_well_again(board);
		atomic_store(&board->wrong, 0);
		atomic_store(&board->slowest_ms, 0);
	}
	usleep(200000);
	atomic_store(&board->stop, true);
	assert_int_equal(fixture_wait(bystander), 0);
	printf("reliability: scribble/%s tried=%llu failed=%llu seconds=%.1f\n", name,
	       (unsigned long long)atomic_load(&board->writes),
	       (unsigned long long)atomic_load(&board->wrong), seconds());
	fprintf(stderr, "%llu calls of the bystander, the slowest %llu ms\n",
	        (unsigned long long)atomic_load(&board->calls),
	        (unsigned long long)atomic_load(&board->slowest_ms));
	assert_true(atomic_load(&board->calls) > 0);
	assert_int_equal(atomic_load(&board->wrong), 0);
	assert_in_range(atomic_load(&board->slowest_ms), 0, NOTICE_MS);
	assert_ok(one_call(scene->bystander, 5));
	victim_heals(scene);
	assert_ok(one_call(scene->bystander, 6));
	sb_session_close(scene->bystander);
}

static void test_34_own_lane(void **state)
{
	run(state, "lane", own_lane, false);
}

static void test_34_whole_mailbox(void **state)
{
	run(state, "mailbox", whole_mailbox, false);
}

static void test_34_rows_holds_arena(void **state)
{
	run(state, "files", other_files, false);
}

static void test_34_doorbell(void **state)
{
	run(state, "bell", bell_words, false);
}

static void test_34_doorbells_file(void **state)
{
	run(state, "bell-file", bell_file, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_34_own_lane, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_34_whole_mailbox, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_34_rows_holds_arena, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_34_doorbell, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_34_doorbells_file, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("scribble", tests, NULL, NULL);
}
