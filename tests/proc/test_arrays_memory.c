/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of arrays comes back: after many rounds both ways, from killed processes (contract 31), across forks, and where it is
 * short. $SB_ARRAY_ROUNDS says how many rounds (1000), $SB_SEED what is random.
 */
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"
#include "rounds.h"

#define COUNT ((size_t)40000) /* doubles: 312 KiB */

static int setup(void **state)
{
	struct place *p;
	sb_value *v = NULL;
	bool has = false;

	place_there(state);
	p = *state;
	(void)(place_eval(p, "__import__('importlib.util').util.find_spec('numpy') is not None", 0, &v) ==
	               0 &&
	       sb_value_bool(v, &has));
	sb_value_free(v);
	if (!has) {
		print_message("NumPy is not there\n");
		place_teardown(state);
		exit(77);
	}
	place_exec(p, "import numpy as np\n"
	              "held = []\n"
	              "def twice(a): return a * 2\n"
	              "def hold(a): held.append(a); return a\n");
	return 0;
}

static int call(sb_session *s, const sb_ref *names, const char *function, sb_array *a, uint32_t flags,
                sb_value **ret)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *f = NULL;
	int err = sb_getitem(s, names, sb_args("s", function), &f);

	if (err)
		return err;
	r.verb = SB_VERB_METHOD;
	r.target = sb_value_ref(f);
	r.name = "__call__";
	r.args = sb_args("a", a);
	r.flags = flags;
	err = sb_invoke(s, &r, ret);
	sb_value_free(f);
	return err;
}

/* An array there and its double back. Uses no assertion: for children, too. */
static int round_trip(sb_session *s, const sb_ref *names, uint32_t flags, unsigned i)
{
	sb_value *v = NULL;
	sb_array *a = NULL;
	const double *y;
	size_t n = COUNT;
	double *x;
	int err = sb_array_new(s, "f8", 1, &n, &a);

	if (err)
		return err;
	x = sb_array_writable(a);
	for (size_t k = 0; k < n; k += 512)
		x[k] = i + (double)k;
	err = call(s, names, "twice", a, flags, &v);
	y = err ? NULL : sb_array_as(sb_value_array(v), "f8", &n);
	for (size_t k = 0; y && k < n; k += 512)
		if (y[k] != 2 * (i + (double)k))
			err = SB_EBUG;
	if (!err && !y)
		err = SB_EBUG;
	sb_value_free(v);
	sb_array_unref(a);
	return err;
}

static void is_sound(struct place *p)
{
	char *output = NULL;
	int status;

	assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
	status = fixture_tool(p->f->dir, &output, "sb-inspect", "--check", NULL);
	if (status != 0)
		print_error("%s\n", output);
	free(output);
	assert_int_equal(status, 0);
}

/* ── killed ── */

struct child {
	struct place *p;
	int ready;
};

static int go_on(void *arg)
{
	struct child *c = arg;
	sb_value *v[8] = { NULL };

	for (unsigned i = 0;; i++) {
		sb_array *a = NULL;
		size_t n = COUNT;

		if (sb_array_new(c->p->s, "f8", 1, &n, &a) ||
		    call(c->p->s, &c->p->names, "twice", a, i % 2 ? SB_CALL_AS_VIEW : 0, &v[i % 8]))
			return 1;
		sb_array_unref(a);
		if (i == 20 && write(c->ready, "", 1) != 1)
			return 2;
		sb_value_free(v[(i + 1) % 8]);
		v[(i + 1) % 8] = NULL;
	}
}

/* Forks one that passes arrays and holds results, and kills it in the middle. */
static void kill_one(struct place *p, unsigned *seed)
{
	struct child c = { .p = p };
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	c.ready = fds[1];
	pid = fixture_fork(go_on, &c);
	close(fds[1]);
	assert_true(fixture_hear(fds[0], pid, &byte, 1));
	close(fds[0]);
	for (int k = rand_r(seed) % 20; k > 0; k--)
		assert_ok(round_trip(p->s, &p->names, 0, (unsigned)k));
	kill(pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
}

static void test_31_killed_processes_keep_nothing(void **state)
{
	struct place *p = *state;
	unsigned seed = rounds_seed();

	for (unsigned i = 0; i < 6; i++)
		kill_one(p, &seed);
	is_sound(p);
	place_becomes(p, "array_holds_of_dead", 0);
	place_becomes(p, "arrays", 0);
	place_becomes(p, "array_holds", 0);
	is_sound(p);
}

/* ── rounds ── */

static long rounds_wanted(void)
{
	const char *text = getenv("SB_ARRAY_ROUNDS");

	if (text)
		return atol(text);
	return fixture_slowness() > 1 ? 100 : 1000;
}

/* Kilobytes that /proc says of a process, by the name of the line. */
static long status_kb(pid_t pid, const char *name)
{
	char path[64], line[256];
	long kb = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && kb < 0 && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			kb = atol(line + strlen(name) + 1);
	if (file)
		fclose(file);
	return kb;
}

static int64_t blocks;

static int add_blocks(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)path;
	(void)type;
	(void)walk;
	blocks += st->st_blocks;
	return 0;
}

/* What the bridge's files take in the file system. */
static int64_t file_bytes(const struct place *p)
{
	blocks = 0;
	nftw(p->f->dir, add_blocks, 16,
	     FTW_PHYS); /* a file may vanish meanwhile: an error that ends nothing that matters */
	return blocks * 512;
}

struct memory {
	long own_kb, owner_kb;
	json_int_t arena_bytes;
	int64_t file_bytes;
};

static struct memory memory_now(struct place *p, pid_t owner)
{
	return (struct memory){ .own_kb = status_kb(getpid(), "VmRSS"),
		                .owner_kb = status_kb(owner, "VmRSS"),
		                .arena_bytes = place_number(p, "array_arena_bytes"),
		                .file_bytes = file_bytes(p) };
}

/* With a process killed among the rounds every now and then. */
static void run_rounds(struct place *p, long rounds, unsigned *seed)
{
	for (long i = 0; i < rounds; i++) {
		assert_ok(round_trip(p->s, &p->names, i % 2 ? SB_CALL_AS_VIEW : 0, (unsigned)i));
		if (i % 25 == 24)
			kill_one(p, seed);
		if (i % 200 ==
		    199) /* as its daemon would; else the owner keeps for the dead what they kept */
			assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
	}
	assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
	place_becomes(p, "array_holds_of_dead", 0);
	place_becomes(p, "arrays", 0);
	place_becomes(p, "array_holds", 0);
	is_sound(p);
}

/* Little is kept for the next arrays, so that what is lost shows. */
static int setup_cold(void **state)
{
	int rc;

	setenv("SNAKEBRIDGE_ARENA_WARM_BYTES", "2097152", 1);
	rc = setup(state);
	unsetenv("SNAKEBRIDGE_ARENA_WARM_BYTES");
	return rc;
}

static void test_31_rounds_leave_no_memory(void **state)
{
	const long slack_kb =
		8 << 10; /* what allocators keep; an array lost in each of 1000 rounds would be 300 MB */
	struct place *p = *state;
	unsigned seed = rounds_seed();
	pid_t owner = (pid_t)place_int(p, "__import__('os').getpid()");
	struct memory begun, ended;

	run_rounds(p, 400, &seed);
	begun = memory_now(p, owner);
	run_rounds(p, rounds_wanted(), &seed);
	ended = memory_now(p, owner);
	print_message("%ld rounds: own %ld to %ld kB, owner's %ld to %ld kB, arenas of arrays %lld to %lld, "
	              "files %lld to %lld "
	              "bytes\n",
	              rounds_wanted(), begun.own_kb, ended.own_kb, begun.owner_kb, ended.owner_kb,
	              (long long)begun.arena_bytes, (long long)ended.arena_bytes, (long long)begun.file_bytes,
	              (long long)ended.file_bytes);
	assert_in_range(ended.arena_bytes, 1, begun.arena_bytes + slack_kb * 1024);
	assert_in_range(ended.file_bytes, 1, begun.file_bytes + slack_kb * 1024);
	if (fixture_slowness() > 1)
		return; /* a sanitizer keeps what was freed */
	assert_in_range(ended.own_kb, 1, begun.own_kb + slack_kb);
	assert_in_range(ended.owner_kb, 1, begun.owner_kb + slack_kb);
}

static void test_31_an_array_outlives_its_killed_maker(void **state)
{
	struct place *p = *state;
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		sb_array *a = NULL;
		size_t n = COUNT;

		if (sb_array_new(p->s, "f8", 1, &n, &a))
			_exit(1);
		for (size_t k = 0; k < n; k++)
			((double *)sb_array_writable(a))[k] = 1;
		if (call(p->s, &p->names, "hold", a, SB_CALL_AS_REF, NULL) || write(fds[1], "", 1) != 1)
			_exit(2);
		pause();
		_exit(3);
	}
	close(fds[1]);
	assert_true(fixture_hear(fds[0], pid, &byte, 1));
	close(fds[0]);
	kill(pid, SIGKILL);
	fixture_wait(pid);
	assert_int_equal(fixture_tool(p->f->dir, NULL, "sb-reaper", "--once", NULL), 0);
	assert_int_equal(place_int(p, "int(held[0].sum())"), (int64_t)COUNT);
	is_sound(p);
}

/* ── forks ── */

/* Reads what it inherited, slowly, and passes it on. */
static int use_inherited(void *arg)
{
	struct {
		struct place *p;
		sb_array *a;
		int go;
	} *c = arg;
	const double *x = sb_array_data(c->a);
	sb_value *v = NULL;
	char byte;

	if (read(c->go, &byte, 1) != 1)
		return 1;
	for (size_t k = 0; k < COUNT; k++)
		if (x[k] != 3)
			return 2;
	if (call(c->p->s, &c->p->names, "twice", c->a, 0, &v))
		return 3;
	if (((const double *)sb_array_data(sb_value_array(v)))[COUNT - 1] != 6)
		return 4;
	sb_value_free(v);
	sb_array_unref(c->a); /* leaves the parent's alone */
	return round_trip(c->p->s, &c->p->names, 0, 5) ? 5 : 0;
}

static void test_fork_children_read_the_arrays_they_inherited(void **state)
{
	struct place *p = *state;
	struct {
		struct place *p;
		sb_array *a;
		int go;
	} c = { p, NULL, -1 };
	size_t n = COUNT;
	sb_array *again[8];
	int fds[2];
	pid_t pid;

	assert_ok(sb_array_new(p->s, "f8", 1, &n, &c.a));
	for (size_t k = 0; k < n; k++)
		((double *)sb_array_writable(c.a))[k] = 3;
	assert_int_equal(pipe(fds), 0);
	c.go = fds[0];
	pid = fixture_fork(use_inherited, &c);
	/* The parent is done with it and makes others, which may not take its place while the child lives. */
	sb_array_unref(c.a);
	for (int i = 0; i < 8; i++) {
		assert_ok(sb_array_new(p->s, "f8", 1, &n, &again[i]));
		memset(sb_array_writable(again[i]), 0, n * 8);
	}
	assert_int_equal(write(fds[1], "", 1), 1);
	assert_int_equal(fixture_wait(pid), 0);
	for (int i = 0; i < 8; i++)
		sb_array_unref(again[i]);
	close(fds[0]);
	close(fds[1]);
	assert_ok(round_trip(p->s, &p->names, 0, 1));
	place_becomes(p, "array_holds", 0);
	is_sound(p);
}

static void test_fork_a_child_of_the_owner_writes_into_its_own_copy(void **state)
{
	struct place *p = *state;
	sb_value *v = NULL;

	place_exec(p, "big = np.full(200000, 7.0)\n"
	              "import os\n"
	              "def in_child():\n"
	              "  pid = os.fork()\n"
	              "  if pid == 0:\n"
	              "    ok = (big == 7).all()\n"
	              "    big[:] = 1\n"
	              "    more = np.zeros(300000) + big.sum()\n"
	              "    ok = ok and (more == 200000).all()\n"
	              "    os._exit(0 if ok else 1)\n"
	              "  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n");
	assert_int_equal(place_int(p, "in_child()"), 0);
	assert_int_equal(place_int(p, "int(big.sum())"), 1400000);
	assert_ok(place_eval(p, "big", SB_CALL_AS_VIEW, &v));
	sb_value_free(v);
}

/* ── limits ── */

static void test_quota_of_arrays_and_arenas(void **state)
{
	struct fixture *f;
	sb_session *s;
	sb_array *a = NULL, *b = NULL, *many[12] = { NULL };
	size_t n = 5000, little = 100;

	assert_ok(sb_config_set("max_array_bytes", 100000));
	assert_ok(sb_config_set("max_arena_bytes", 1 << 20));
	fixture_setup(state);
	f = *state;
	s = fixture_session(f->bridge, "quota", SB_DESIGNATED_SELF);
	assert_ok(sb_array_new(s, "f8", 1, &n, &a));
	n = 20000;
	assert_int_equal(sb_array_new(s, "f8", 1, &n, &b), SB_ETOOBIG);
	assert_non_null(strstr(sb_last_error()->message, "max_array_bytes"));
	n = 12000;
	for (int i = 0; i < 12; i++) { /* more than 1 MiB in all */
		int err = sb_array_new(s, "f8", 1, &n, &many[i]);

		if (err) {
			assert_int_equal(err, SB_ENOSPACE);
			break;
		}
		assert_true(i < 11);
	}
	assert_non_null(strstr(sb_last_error()->message, "max_arena_bytes"));
	assert_ok(sb_array_new(s, "f8", 1, &little, &b)); /* a hole is left for it */
	sb_array_unref(b);
	sb_array_unref(a);
	for (int i = 0; i < 12; i++)
		sb_array_unref(many[i]);
	sb_session_close(s);
	fixture_teardown(state);
	assert_ok(sb_config_set("max_array_bytes", UINT64_C(274877906944)));
	assert_ok(sb_config_set("max_arena_bytes", UINT64_C(274877906944)));
}

/* An array of n doubles there, as a snapshot. */
static int result(sb_session *s, int n, sb_value **ret)
{
	return sb_call(s, "numpy:zeros", sb_args("i", n), ret);
}

/* Refused, for this reason, with the session's name; nothing of it is left. */
static void is_used_up(const sb_session *s, int err, int outcome)
{
	const sb_error *e = sb_last_error();

	assert_int_equal(err, SB_ENOSPACE);
	if (!strstr(e->message, "max_session_arena_bytes") || !strstr(e->message, sb_session_id(s)) ||
	    !strstr(e->message, "1048576"))
		fail_msg("%s", e->message);
	assert_string_equal(e->session_id, sb_session_id(s));
	assert_int_equal(e->outcome, outcome);
}

static void test_quota_of_a_session(void **state)
{
	struct place *p = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s = NULL, *joined = NULL;
	sb_value *held[3] = { NULL }, *v = NULL;
	sb_array *a[3] = { NULL }, *b = NULL;
	size_t n = 50000; /* 400,000 bytes: two of them fit */

	o.session_id = "limited";
	o.designated = SB_DESIGNATED_DEDICATED;
	o.max_session_arena_bytes = 1 << 20;
	assert_ok(sb_session_open(p->f->bridge, &o, &s));
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.max_session_arena_bytes, 1 << 20);
	for (int round = 0; round < 20; round++) {
		/* Arguments are this process's. */
		assert_ok(sb_array_new(s, "f8", 1, &n, &a[0]));
		assert_ok(sb_array_new(s, "f8", 1, &n, &a[1]));
		is_used_up(s, sb_array_new(s, "f8", 1, &n, &a[2]), SB_OUTCOME_NONE);
		assert_ok(sb_array_new(p->s, "f8", 1, &n, &b)); /* other sessions have theirs */
		sb_array_unref(b);
		/* Results are the owner's. */
		assert_ok(result(s, (int)n, &held[0]));
		assert_ok(result(s, (int)n, &held[1]));
		is_used_up(s, result(s, (int)n, &held[2]), SB_OUTCOME_EXCEPTION);
		assert_ok(result(p->s, (int)n, &v));
		sb_value_free(v);
		assert_ok(result(s, 100, &v)); /* short ones are in the message */
		sb_value_free(v);
		/* What is given back can be used at once. */
		sb_value_free(held[0]);
		assert_ok(result(s, (int)n, &held[0]));
		sb_array_unref(a[0]);
		assert_ok(sb_array_new(s, "f8", 1, &n, &a[0]));
		for (int i = 0; i < 2; i++) {
			sb_value_free(held[i]);
			sb_array_unref(a[i]);
		}
	}
	/* It is the session's, for whoever joins it. */
	o.max_session_arena_bytes = 2 << 20;
	assert_int_equal(sb_session_open(p->f->bridge, &o, &joined), SB_EOPTION);
	assert_non_null(strstr(sb_last_error()->message, "max_session_arena_bytes"));
	o.max_session_arena_bytes = SB_UNSET;
	assert_ok(sb_session_open(p->f->bridge, &o, &joined));
	assert_ok(sb_array_new(s, "f8", 1, &n, &a[0]));
	assert_ok(sb_array_new(joined, "f8", 1, &n, &a[1]));
	is_used_up(s, sb_array_new(joined, "f8", 1, &n, &a[2]), SB_OUTCOME_NONE);
	sb_array_unref(a[0]);
	sb_array_unref(a[1]);
	o.max_session_arena_bytes = -2;
	assert_int_equal(sb_session_open(p->f->bridge, &o, &(sb_session *){ NULL }), SB_EINVAL);
	sb_session_close(joined);
	sb_session_close(s);
	is_sound(p);
}

/* Arrays of one process's own session, which is the one that makes results, too: one share for both. */
static void test_quota_of_a_session_here(void **state)
{
	struct place *p = *state;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_value *v = NULL;
	sb_array *a[2] = { NULL };
	size_t n = 50000;

	o.designated = SB_DESIGNATED_SELF;
	o.max_session_arena_bytes = 1 << 20;
	assert_ok(sb_session_open(p->f->bridge, &o, &s));
	assert_ok(sb_array_new(s, "f8", 1, &n, &a[0]));
	assert_ok(result(s, (int)n, &v));
	is_used_up(s, sb_array_new(s, "f8", 1, &n, &a[1]), SB_OUTCOME_NONE);
	sb_value_free(v);
	assert_ok(sb_array_new(s, "f8", 1, &n, &a[1]));
	sb_session_close(s); /* arrays outlive it, and their bridge */
	sb_array_unref(a[0]);
	sb_array_unref(a[1]);
}

/* Docker's /dev/shm has 64 MB. */
static void test_space_a_small_file_system_gives_an_error_and_goes_on(void **state)
{
	char dir[256];
	sb_bridge *bridge = NULL;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_array *a = NULL, *b = NULL;
	sb_value *v = NULL;
	size_t n = 4 << 20;

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	if (mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700") != 0) {
		fixture_dir_remove(dir);
		print_message("not allowed to mount\n");
		skip();
	}
	assert_ok(sb_bridge_open(dir, NULL, &bridge));
	o.session_id = "small";
	o.designated = SB_DESIGNATED_SELF;
	assert_ok(sb_session_open(bridge, &o, &s));
	assert_ok(sb_array_new(s, "f8", 1, &n, &a)); /* 32 MiB */
	memset(sb_array_writable(a), 0, n * 8);
	assert_int_equal(sb_array_new(s, "f8", 1, &n, &b), SB_ENOSPACE);
	assert_ok(sb_call(s, "builtins:len", sb_args("a", a), &v));
	sb_value_free(v);
	/* NumPy's own memory goes on without the arena; a snapshot of it has no room. */
	assert_ok(sb_call(s, "numpy:zeros", sb_args("i", 10), NULL));
	assert_int_equal(sb_call(s, "numpy:zeros", sb_args("i", 4 << 20), &v), SB_ENOSPACE);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
	sb_array_unref(a);
	assert_ok(sb_call(s, "numpy:zeros", sb_args("i", 1 << 20), &v));
	sb_value_free(v);
	sb_session_close(s);
	sb_bridge_close(bridge);
	assert_int_equal(umount2(dir, MNT_DETACH), 0); /* LMDB's guard stays open for ever */
	fixture_dir_remove(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_31_rounds_leave_no_memory, setup_cold, place_teardown),
		TEST(test_31_killed_processes_keep_nothing),
		TEST(test_31_an_array_outlives_its_killed_maker),
		TEST(test_fork_children_read_the_arrays_they_inherited),
		TEST(test_fork_a_child_of_the_owner_writes_into_its_own_copy),
		cmocka_unit_test(test_quota_of_arrays_and_arenas),
		TEST(test_quota_of_a_session),
		TEST(test_quota_of_a_session_here),
		cmocka_unit_test(test_space_a_small_file_system_gives_an_error_and_goes_on),
	};

	return cmocka_run_group_tests_name("arrays_memory", tests, NULL, NULL);
}
