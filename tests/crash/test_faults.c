/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each operation with its 1st, 2nd, 3rd … system call failing, until it goes through; the same for allocations; each failing
 * once, and from there on always. Whatever fails: the error has its code and a message, nothing is leaked or left
 * half-made, and the same operation without a fault works.
 *
 * Each try is a child of its own. What a try may leave is what could not be cleared away because that very call failed;
 * then one pass of the reaper does it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "crash_world.h"
#include "echo_engine.h"
#include "faults.h"
#include "fixture.h"
#include "sweep.h"

#define BIG     6000
#define NTH_MAX 3000 /* an operation that makes more calls than that never ends */
#define CODES   80

static struct crash_world world;

struct operation {
	const char *name;
	int (*prepare)(void);
	int (*run)(void);
	void (*undo)(void); /* what it did when it worked */
	unsigned step;      /* the everyday run tries every so many */
	bool silent;        /* it cannot say that it failed: what it leaves is the reaper's */
	bool fresh;         /* needs a directory for a new bridge */
};

/* What a child tells of itself, in memory that is shared with it. */
struct telling {
	long live;
	int fds;
	unsigned failed; /* calls that were made to fail; 0: the operation went through before */
	int err, again;  /* of the operation with a fault, and of the next one without */
	int outcome;
	char name[32];
	char message[240], again_message[240];
};
static struct telling *told;

/* ── operations ── */

static sb_session *session; /* the operation's */
static sb_bridge *bridge;
static sb_session *python; /* a dedicated owner with a real Python */
static sb_ref object;
static char fresh[256];

static int open_session(const char *id, sb_designated designated, sb_session **ret)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;

	options.session_id = id;
	options.designated = designated;
	options.ttl_seconds = 0;
	*ret = NULL;
	return sb_session_open(world.bridge, &options, ret);
}

static int open_bridge(void)
{
	return sb_bridge_open(fresh, NULL, &bridge);
}

static void close_bridge(void)
{
	sb_bridge_close(bridge);
}

static int open_self(void)
{
	return open_session("x", SB_DESIGNATED_SELF, &session);
}

static void close_session(void)
{
	sb_session_close(session);
	session = NULL;
}

static int serve_another(void)
{
	sb_session *another;

	return open_session("y", SB_DESIGNATED_SELF, &another);
}

static int join(void)
{
	return open_session("bystander", SB_DESIGNATED_ATTACH_ONLY, &session);
}

static int attach(void)
{
	return serve_another() || join();
}

static int close_now(void)
{
	close_session();
	return 0;
}

static void open_again(void)
{
	(void)open_session("x", SB_DESIGNATED_SELF, &session);
}

static int release(void)
{
	int released = 0, err = sb_session_release(world.bridge, "x", &released);

	return err ? err : released ? 0 : 1;
}

static void replace_released(void)
{
	close_session();
	open_again();
}

/* Joined to the Python session by this process. */
static int use_python(void)
{
	sb_value *value = NULL;
	int err = open_session("python", SB_DESIGNATED_ATTACH_ONLY, &python);

	if (!err)
		err = sb_call(python, "collections:deque", NULL, &value);
	if (!err)
		object = *sb_value_ref(value);
	sb_value_free(value);
	return err;
}

static int call_small(void)
{
	sb_value *value = NULL;
	int64_t n = 0;
	int err = sb_call(python, "builtins:abs", sb_args("i", -5), &value);

	if (!err && (sb_value_int(value, &n) || n != 5))
		err = 1;
	sb_value_free(value);
	return err;
}

static int call_big(void)
{
	static char big[BIG];
	sb_value *value = NULL;
	int err = sb_call(python, "builtins:bytes", sb_args("y", big, sizeof(big)), &value);

	sb_value_free(value);
	return err;
}

static int make_array(void)
{
	size_t shape = 4000;
	sb_array *array = NULL;
	int err = sb_array_new(python, "float64", 1, &shape, &array);

	sb_array_unref(array);
	return err;
}

static int call_with_array(void)
{
	size_t shape = 4000;
	sb_array *array = NULL;
	sb_value *value = NULL;
	int err = sb_array_new(python, "float64", 1, &shape, &array);

	if (!err)
		err = sb_call(python, "numpy:negative", sb_args("a", array), &value);
	sb_value_free(value);
	sb_array_unref(array);
	return err;
}

static int start_and_wait(void)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *f = NULL;
	sb_value *value = NULL;
	int err;

	r.verb = SB_VERB_CALL;
	r.name = "builtins:abs";
	r.args = sb_args("i", -5);
	err = sb_call_start(python, &r, &f);
	if (!err)
		err = sb_future_wait(f, SB_WAIT_FOREVER, &value);
	sb_value_free(value);
	sb_future_free(f);
	return err;
}

static int start_with_descriptor(void)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *f = NULL;
	int err, fd;

	r.verb = SB_VERB_CALL;
	r.name = "builtins:abs";
	r.args = sb_args("i", -5);
	err = sb_call_start(python, &r, &f);
	if (!err)
		err = sb_future_fd(f, &fd);
	if (!err)
		err = sb_future_wait(f, SB_WAIT_FOREVER, NULL);
	sb_future_free(f);
	return err;
}

static int batch(void)
{
	sb_request r = SB_REQUEST_INIT;
	sb_batch *b = NULL;
	sb_value *value = NULL;
	int err = sb_batch_new(0, &b);

	r.verb = SB_VERB_CALL;
	r.name = "builtins:abs";
	for (int i = 0; !err && i < 3; i++) {
		r.args = sb_args("i", -i);
		err = sb_batch_add(b, &r, NULL);
	}
	if (!err)
		err = sb_batch_run(python, b, 0);
	if (!err)
		err = sb_batch_result(b, 2, &value);
	sb_value_free(value);
	sb_batch_free(b);
	return err;
}

static int oneway(void)
{
	return sb_call_oneway(python, "builtins:abs", sb_args("i", -5));
}

static void settle_oneway(void)
{
	(void)call_small();
}

static int ref_operations(void)
{
	sb_value *value = NULL;
	uint64_t len = 0;
	int err = sb_method(python, &object, "append", sb_args("i", 1), NULL);

	if (!err)
		err = sb_len(python, &object, &len);
	if (!err)
		err = sb_getitem(python, &object, sb_args("i", 0), &value);
	sb_value_free(value);
	return err;
}

static int get_info(void)
{
	sb_session_info info = { .size = sizeof(info) };

	return sb_session_get_info(python, &info);
}

static struct hand reaper;

static int open_reaper(void)
{
	return hand_open(&reaper, world.dir);
}

static int sweep(void)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;

	/* Where one thing failed it goes on with the rest. */
	return sb__reaper_sweep(reaper.store, &reaper.dir, &options, &result);
}

static int leave_something(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, "left");

	(void)arg;
	return hand_serve(hand, &wish, true, NULL);
}

static int debris(void)
{
	struct child child;
	int err = open_reaper();

	if (!err)
		err = child_start(&child, world.dir, leave_something, NULL);
	if (!err)
		child_kill(&child, true);
	return err;
}

static void no_problem(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

static int inspect(void)
{
	struct sb__inspect *i = NULL;
	struct sb__overview o;
	int err = sb__inspect_open(world.dir, &i);

	if (!err)
		err = sb__inspect_overview(i, &o);
	if (!err)
		err = sb__inspect_check(i, no_problem, NULL);
	sb__inspect_close(i);
	return err < 0 ? err : 0;
}

static int start_dedicated(void)
{
	return open_session("dedicated", SB_DESIGNATED_DEDICATED, &session);
}

static void nothing(void) {}

static int prepared(void)
{
	return 0;
}

static const struct operation operations[] = {
	{ "bridge-open", prepared, open_bridge, close_bridge, 6, false, true },
	{ "session-open-first", prepared, open_self, close_session, 3, false, false },
	{ "session-open", serve_another, open_self, close_session, 1, false, false },
	{ "session-join-first", prepared, join, close_session, 3, false, false },
	{ "session-join", serve_another, join, close_session, 1, false, false },
	{ "session-leave", attach, close_now, NULL, 1, true, false },
	{ "session-close-last", open_self, close_now, open_again, 1, true, false },
	{ "session-release", open_self, release, replace_released, 1, false, false },
	{ "session-info", use_python, get_info, nothing, 1, false, false },
	{ "call", use_python, call_small, nothing, 1, false, false },
	{ "call-spilled", use_python, call_big, nothing, 1, false, false },
	{ "array", use_python, make_array, nothing, 1, false, false },
	{ "call-array", use_python, call_with_array, nothing, 1, false, false },
	{ "future", use_python, start_and_wait, nothing, 1, false, false },
	{ "future-fd", use_python, start_with_descriptor, nothing, 1, false, false },
	{ "batch", use_python, batch, nothing, 1, false, false },
	{ "one-way", use_python, oneway, settle_oneway, 1, false, false },
	{ "refs", use_python, ref_operations, nothing, 1, false, false },
	{ "sweep", debris, sweep, nothing, 10, false, false },
	{ "inspect", prepared, inspect, nothing, 20, false, false },
	{ "dedicated", prepared, start_dedicated, close_session, 20, false, false },
};

/* ── a try ── */

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

struct fault {
	enum fault_kind kind;
	unsigned nth; /* 0: none, for comparison */
	bool always;
};

static void tell_failure(const struct operation *op, const struct fault *fault, int err)
{
	const sb_error *e = sb_last_error();

	(void)op;
	(void)fault;
	told->err = err;
	told->outcome = e->outcome;
	snprintf(told->message, sizeof(told->message), "%s%s", e->code == err ? "" : "(other code) ",
	         e->message);
}

/* What threads have in hand for a moment is not lost. */
static void count_leaks(const struct telling *reference)
{
	int most = reference->live < 0 ? 200
	                               : 5000; /* ms; itself the reference: there is nothing to wait for */

	for (int i = 0; i < most; i++) {
		told->live = fault_live();
		told->fds = count_fds();
		if (told->live <= reference->live && told->fds == reference->fds)
			return;
		usleep(1000);
	}
}

static int be_tried(const struct operation *op, const struct fault *fault, const struct telling *reference)
{
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(200);
	if (op->prepare() != 0)
		return 2;
	fault_arm(fault->kind, fault->nth, fault->always);
	err = op->run();
	told->failed = fault_disarm();
	snprintf(told->name, sizeof(told->name), "%s", fault_name());
	if (err)
		tell_failure(op, fault, err);
	else if (op->undo)
		op->undo();
	told->again = op->run();
	if (told->again)
		snprintf(told->again_message, sizeof(told->again_message), "%s", sb_last_error()->message);
	else if (op->undo)
		op->undo();
	(void)sb_session_release(world.bridge, "",
	                         NULL); /* fails: now the thread has its error record in any case */
	count_leaks(reference);
	sb_session_close(python);
	sb_bridge_close(world.bridge);
	return 0;
}

/* ── judging ── */

struct tally {
	unsigned tried, left, codes[CODES];
};

/* What it is called when one call failed. */
static int expected(const struct fault *fault, const char *name)
{
	static const char *const need_space[] = { "posix_fallocate", "fallocate", "pwrite", "writev",
		                                  "mkdirat" };

	if (fault->kind == FAULT_MEMORY)
		return SB_ENOMEM;
	for (size_t i = 0; i < sizeof(need_space) / sizeof(need_space[0]); i++)
		if (!fault->always && strcmp(name, need_space[i]) == 0)
			return SB_ENOSPACE;
	return 0; /* any that is not strange */
}

/* Errors that say something else than what happened. */
static bool is_strange(int err)
{
	switch (err) {
	case SB_EBUG:
	case SB_EINVAL:
	case SB_ECORRUPT:
	case SB_EVERSION:
	case SB_ENAMESPACE:
	case SB_EPROTOCOL:
	case SB_EID:
	case SB_EOPTION:
	case SB_EOWNER:
	case SB_EMODE: return true;
	default: return err > 0 || err <= -CODES;
	}
}

static void judge_leftovers(const struct operation *op, const struct fault *fault, struct tally *tally)
{
	uint64_t until = sb__now_ms() + (strcmp(op->name, "dedicated") == 0 ? 20000 : 5000);
	bool may_leave = op->silent || fault->always || fault_is_clearing(told->name);
	char text[400];

	do {
		crash_compare(&world, text);
		if (text[0])
			usleep(2000);
	} while (text[0] && !may_leave && sb__now_ms() < until);
	if (!text[0])
		return;
	tally->left++;
	if (!may_leave)
		crash_wrong(&world, "left behind: %s", text);
	crash_sweep(&world);
	do {
		crash_compare(&world, text);
		if (text[0])
			usleep(2000);
	} while (text[0] && sb__now_ms() < until);
	if (text[0]) {
		crash_wrong(&world, "after a pass of the reaper: %s", text);
		crash_world_baseline(&world);
	}
}

static void judge(const struct operation *op, const struct fault *fault, int status,
                  const struct telling *reference, struct tally *tally)
{
	if (status != 0)
		crash_wrong(&world, "the child ended with status %d", status);
	if (told->err && !op->silent && is_strange(told->err))
		crash_wrong(&world, "%s: %s", sb_error_name(told->err), told->message);
	if (told->err && !op->silent && expected(fault, told->name) &&
	    told->err != expected(fault, told->name))
		crash_wrong(&world, "%s, not %s: %s", sb_error_name(told->err),
		            sb_error_name(expected(fault, told->name)), told->message);
	if (told->err && strncmp(told->message, "(other", 6) == 0 && strcmp(op->name, "sweep") != 0)
		crash_wrong(&world, "error %s, but the record says %s", sb_error_name(told->err),
		            told->message);
	if (told->again)
		crash_wrong(&world, "the next one without a fault: %s: %s", sb_error_name(told->again),
		            told->again_message);
	if (status == 0 && told->fds != reference->fds)
		crash_wrong(&world, "%d descriptors, not %d", told->fds, reference->fds);
	if (status == 0 && told->live > reference->live)
		crash_wrong(&world, "%ld allocations more than without a fault",
		            told->live - reference->live);
	if (told->err <= 0 && told->err > -CODES)
		tally->codes[-told->err]++;
	tally->tried++;
	judge_leftovers(op, fault, tally);
}

/* False: the operation went through before the nth call. */
static bool try(const struct operation *op, const struct fault *fault, struct telling *reference,
                struct tally *tally)
{
	int status;
	pid_t pid;

	memset(told, 0, sizeof(*told));
	if (op->fresh)
		fixture_dir_make(fresh, sizeof(fresh));
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(be_tried(op, fault, reference));
	status = fixture_wait(pid);
	snprintf(world.context, sizeof(world.context), "%s, %s %u fails %s: %s", op->name,
	         fault->kind == FAULT_CALL ? "call" : "allocation", fault->nth,
	         fault->always ? "and all later" : "once", told->name);
	if (fault->nth == 0) {
		*reference = *told;
		if (status || told->err || told->again)
			crash_wrong(&world, "without a fault: status %d, %s, %s", status, told->message,
			            told->again_message);
	} else if (told->failed || status) {
		judge(op, fault, status, reference, tally);
	}
	if (op->fresh)
		fixture_dir_remove(fresh);
	return told->failed > 0 || status != 0;
}

static void run_operation(const struct operation *op, bool full, unsigned *seed)
{
	struct fault none = { .nth = 0 };
	struct tally tally = { .tried = 0 };
	struct telling reference = { .live = -1 };
	uint64_t began = sb__now_ns();
	unsigned wrong = world.wrong, step = full ? 1 : op->step;

	(void)try(op, &none, &reference, &tally);
	for (int kind = FAULT_CALL; kind <= FAULT_MEMORY; kind++)
		for (int always = 0; always <= 1; always++) {
			unsigned nth = 1 + (unsigned)rand_r(seed) % step;

			for (; nth < NTH_MAX; nth += step) {
				struct fault fault = { (enum fault_kind)kind, nth, always };

				if (!try(op, &fault, &reference, &tally))
					break;
			}
		}
	print_message("%-20s %5u faults %4u left to the reaper %3u wrong; went on %u", op->name, tally.tried,
	              tally.left, world.wrong - wrong, tally.codes[0]);
	for (int code = 1; code < CODES; code++)
		if (tally.codes[code])
			print_message(", %s %u", sb_error_name(-code), tally.codes[code]);
	print_message("\n");
	crash_report("faults", op->name, tally.tried, world.wrong - wrong, began);
}

static void test_31_every_call_and_allocation_fails(void **state)
{
	const char *only = getenv("SB_CRASH_ITEM"), *mode = getenv("SB_CRASH"), *given = getenv("SB_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)sb__now_ns();
	sb_session *keep;

	(void)state;
	if (!fault_possible())
		skip();
	print_message("SB_SEED=%u\n", seed);
	assert_int_equal(crash_world_open(&world), 0);
	assert_int_equal(open_session("python", SB_DESIGNATED_DEDICATED, &keep), 0);
	assert_int_equal(use_python() || call_with_array(), 0);
	crash_world_baseline(&world);
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		if (!only || strcmp(only, operations[i].name) == 0)
			run_operation(&operations[i], mode && strcmp(mode, "full") == 0, &seed);
	sb_session_close(python);
	sb_session_close(keep);
	crash_world_close(&world);
	assert_int_equal(world.wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_31_every_call_and_allocation_fails),
	};

	echo_engine_use();
	signal(SIGPIPE, SIG_IGN);
	setenv("SNAKEBRIDGE_SWEEP_MS", "0", 1); /* only this test sweeps */
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return told == MAP_FAILED || cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
