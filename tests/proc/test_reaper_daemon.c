/* SPDX-License-Identifier: Apache-2.0 */
/* sb-reaper as a daemon: a death is noticed at once, its evidence is told, and the service manager hears of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "hand.h"
#include "os_linux.h"

struct world {
	char dir[256], bridge[300], notify[300], out[300];
	struct hand hand; /* the test: opens, is no process of the bridge */
	int socket;
	pid_t daemon;
};

static void start_daemon(struct world *w, const char *interval, const char *watchdog_usec, const char *wait)
{
	const char *build = getenv("SB_BUILD_DIR");
	char path[512];

	snprintf(path, sizeof(path), "%s/bin/sb-reaper", build ? build : ".");
	fflush(NULL);
	w->daemon = fork();
	if (w->daemon == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("NOTIFY_SOCKET", w->notify, 1);
		if (watchdog_usec)
			setenv("WATCHDOG_USEC", watchdog_usec, 1);
		if (!freopen(w->out, "w", stdout))
			_exit(126);
		execl(path, path, "--dir", w->bridge, "--json", "--interval", interval, wait, (char *)NULL);
		_exit(127);
	}
	assert_true(w->daemon > 0);
}

static bool hears_next(struct world *w, const char *text)
{
	char message[256];
	ssize_t n;

	assert_int_equal(sb__os_poll_fd(w->socket, 10000), 1);
	n = recv(w->socket, message, sizeof(message) - 1, 0);
	assert_true(n > 0);
	message[n] = '\0';
	return strstr(message, text) != NULL;
}

/* The next message that has text in it; the others are dropped. */
static void hears(struct world *w, const char *text)
{
	while (!hears_next(w, text))
		;
}

static void ends_by(struct world *w, int signal)
{
	int status;

	kill(w->daemon, signal);
	hears(w, "STOPPING=1");
	assert_int_equal(waitpid(w->daemon, &status, 0), w->daemon);
	w->daemon = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*state = w;
	fixture_dir_make(w->dir, sizeof(w->dir));
	snprintf(w->bridge, sizeof(w->bridge), "%s/bridge", w->dir);
	snprintf(w->notify, sizeof(w->notify), "%s/notify", w->dir);
	snprintf(w->out, sizeof(w->out), "%s/out", w->dir);
	strncpy(address.sun_path, w->notify, sizeof(address.sun_path) - 1);
	w->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return bind(w->socket, (struct sockaddr *)&address, sizeof(address));
}

static int teardown(void **state)
{
	struct world *w = *state;

	if (w->daemon > 0) {
		kill(w->daemon, SIGKILL);
		waitpid(w->daemon, NULL, 0);
	}
	if (w->hand.store)
		hand_close(&w->hand);
	close(w->socket);
	fixture_dir_remove(w->dir);
	free(w);
	return 0;
}

/* hand_open() makes the bridge, too. */
static void open_bridge(struct world *w)
{
	assert_ok(hand_open(&w->hand, w->bridge));
}

static size_t attached(struct world *w)
{
	struct sb__identity *ids = NULL;
	size_t count = 0;

	assert_ok(sb__store_processes(w->hand.store, &ids, &count));
	free(ids);
	return count;
}

/* Milliseconds until only that many processes are left. */
static unsigned until_attached(struct world *w, size_t count)
{
	uint64_t start = sb__now_ms();

	while (attached(w) != count) {
		assert_true(sb__now_ms() - start < 20000);
		usleep(1000);
	}
	return (unsigned)(sb__now_ms() - start);
}

/* The action of that kind on that pid in the daemon's output; borrowed from *ret_root. */
static json_t *find_action(struct world *w, const char *action, pid_t pid)
{
	FILE *f = fopen(w->out, "r");
	char line[4096];
	json_t *found = NULL;

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		json_t *o = json_loads(line, 0, NULL);

		if (o && strcmp(json_string_value(json_object_get(o, "action")), action) == 0 &&
		    json_integer_value(json_object_get(o, "pid")) == pid)
			found = o;
		else
			json_decref(o);
	}
	fclose(f);
	return found;
}

static json_t *await_action(struct world *w, const char *action, pid_t pid)
{
	uint64_t start = sb__now_ms();
	json_t *found;

	while (!(found = find_action(w, action, pid))) {
		assert_true(sb__now_ms() - start < 10000);
		usleep(2000);
	}
	return found;
}

/* So quick that its parent may not have waited for it: then the zombie's life token tells. */
static void proven_dead(json_t *action)
{
	const char *evidence = json_string_value(json_object_get(action, "evidence"));

	assert_non_null(evidence);
	assert_true(strcmp(evidence, "no such pid") == 0 || strcmp(evidence, "life token free") == 0);
}

static int serve(struct hand *hand, void *arg)
{
	struct sb__session_rec wish = hand_wish(hand, arg);

	return hand_serve(hand, &wish, true, NULL);
}

static void a_death_is_noticed_at_once_and_explained(void **state)
{
	struct world *w = *state;
	struct child before, after, quick, survivor;
	unsigned ms;
	json_t *action;

	open_bridge(w);
	assert_ok(child_start(&before, w->bridge, serve, (char *)"before"));
	assert_ok(child_start(&survivor, w->bridge, serve, (char *)"survivor"));
	start_daemon(w, "3600", NULL, NULL); /* the interval has no part in it */
	hears(w, "READY=1");
	child_kill(&before, true);
	ms = until_attached(w, 1);
	print_message("a process that was there when the reaper came: tidied after %u ms\n", ms);
	assert_true(ms < 2000);
	action = await_action(w, "process-dead", before.pid);
	proven_dead(action);
	json_decref(action);
	action = await_action(w, "owner-removed", before.pid);
	assert_string_equal(json_string_value(json_object_get(action, "session")), "before");
	assert_non_null(json_string_value(json_object_get(action, "evidence")));
	json_decref(action);

	assert_ok(child_start(&after, w->bridge, serve, (char *)"after"));
	usleep(600000);            /* long enough to be watched */
	child_kill(&after, false); /* a zombie: its pid is still there, the life token is not */
	ms = until_attached(w, 1);
	print_message("one that attached between passes, a zombie now: tidied after %u ms\n", ms);
	assert_true(ms < 2000);
	action = await_action(w, "process-dead", after.pid);
	proven_dead(action);
	json_decref(action);
	waitpid(after.pid, NULL, 0);

	assert_ok(child_start(&quick, w->bridge, serve, (char *)"quick"));
	child_kill(&quick, true); /* never watched */
	ms = until_attached(w, 1);
	print_message("one that was never seen alive: tidied after %u ms\n", ms);
	assert_true(ms < 2000);

	kill(survivor.pid, SIGSTOP);
	usleep(600000);
	assert_int_equal(attached(w), 1); /* stopped is not dead */
	ends_by(w, SIGTERM);
	child_kill(&survivor, true);
}

static int only_attach(struct hand *hand, void *arg)
{
	(void)hand;
	(void)arg;
	return 0;
}

/* What the first pass that did anything looked at. */
static json_int_t first_visited(struct world *w)
{
	FILE *f = fopen(w->out, "r");
	char line[4096];
	json_int_t visited = -1;

	assert_non_null(f);
	while (visited < 0 && fgets(line, sizeof(line), f)) {
		json_t *o = json_loads(line, 0, NULL);

		if (o && strcmp(json_string_value(json_object_get(o, "action")), "summary") == 0)
			visited = json_integer_value(json_object_get(o, "visited"));
		json_decref(o);
	}
	fclose(f);
	return visited;
}

/* However many others there are: a pass over all of them looks at each. */
static void who_dies_is_tidied_after_before_others_are_looked_at(void **state)
{
	struct world *w = *state;
	struct child others[12], dies;

	open_bridge(w);
	for (unsigned i = 0; i < 12; i++)
		assert_ok(child_start(&others[i], w->bridge, only_attach, NULL));
	assert_ok(child_start(&dies, w->bridge, serve, (char *)"dies"));
	start_daemon(w, "3600", "200000", NULL);
	hears(w, "READY=1");
	for (int i = 0; i < 2; i++) /* the first may come before it watches anybody */
		hears(w, "WATCHDOG=1");
	child_kill(&dies, true);
	until_attached(w, 12);
	json_decref(await_action(w, "summary", 0));
	assert_in_range(first_visited(w), 1, 11);
	ends_by(w, SIGTERM);
	for (unsigned i = 0; i < 12; i++)
		child_kill(&others[i], true);
}

/* poll() takes no more descriptors than the process may have. */
static void it_stays_where_it_cannot_wait_for_deaths(void **state)
{
	struct world *w = *state;
	struct rlimit few = { 5, 4096 };
	struct child child[8];

	open_bridge(w);
	for (unsigned i = 0; i < 8; i++)
		assert_ok(child_start(&child[i], w->bridge, only_attach, NULL));
	start_daemon(w, "3600", "200000", NULL);
	hears(w, "READY=1");
	for (int i = 0; i < 2; i++)
		hears(w, "WATCHDOG=1");
	assert_int_equal(prlimit(w->daemon, RLIMIT_NOFILE, &few, NULL), 0);
	usleep(500000); /* it cannot tell of itself meanwhile */
	assert_int_equal(waitpid(w->daemon, NULL, WNOHANG), 0);
	few.rlim_cur = few.rlim_max;
	assert_int_equal(prlimit(w->daemon, RLIMIT_NOFILE, &few, NULL), 0);
	child_kill(&child[0], true);
	until_attached(w, 7);
	ends_by(w, SIGTERM);
	for (unsigned i = 1; i < 8; i++)
		child_kill(&child[i], true);
}

static void a_failure_to_tell_is_told_once(void **state)
{
	struct world *w = *state;
	struct child first, second;

	open_bridge(w);
	snprintf(w->out, sizeof(w->out), "/dev/full");
	assert_ok(child_start(&first, w->bridge, only_attach, NULL));
	assert_ok(child_start(&second, w->bridge, only_attach, NULL));
	start_daemon(w, "3600", "200000", "--wait");
	hears(w, "READY=1");
	for (int i = 0; i < 2; i++)
		hears(w, "WATCHDOG=1");
	child_kill(&first, true);
	hears(w, "STATUS=waiting for a bridge");
	hears(w, "STATUS=tidying");
	for (int i = 0; i < 5; i++)
		assert_false(hears_next(w, "STATUS="));
	assert_int_equal(attached(w), 1);
	child_kill(&second, true);
	until_attached(w, 0);
}

static void the_service_manager_is_kept_informed(void **state)
{
	struct world *w = *state;

	open_bridge(w);
	start_daemon(w, "3600", "200000", NULL);
	hears(w, "READY=1");
	for (int i = 0; i < 5; i++)
		hears(w, "WATCHDOG=1");
	ends_by(w, SIGINT);
}

static void it_waits_for_a_bridge_and_for_the_next_one(void **state)
{
	struct world *w = *state;
	struct child child;
	char away[320];

	start_daemon(w, "0.1", NULL, "--wait");
	hears(w, "STATUS=waiting for a bridge");
	open_bridge(w);
	hears(w, "STATUS=tidying");
	hand_close(&w->hand);
	w->hand.store = NULL;
	snprintf(away, sizeof(away), "%s/away", w->dir);
	assert_int_equal(rename(w->bridge, away), 0);
	fixture_dir_remove(away);
	hears(w, "STATUS=waiting for a bridge");
	open_bridge(w);
	hears(w, "STATUS=tidying");
	assert_ok(child_start(&child, w->bridge, serve, (char *)"s"));
	child_kill(&child, true);
	until_attached(w, 0);
	ends_by(w, SIGTERM);
}

static void files_are_looked_through_when_it_is_time(void **state)
{
	struct world *w = *state;
	struct stat st;
	int fd;

	open_bridge(w);
	for (int round = 0; round < 2; round++) {
		char *output;

		fd = sb__os_openat(w->hand.dir.arena, "77.7", O_RDWR | O_CREAT, 0600); /* of no process */
		sb__os_close(fd);
		assert_int_equal(fixture_tool(w->bridge, &output, "sb-reaper", "--once", "--files-every",
		                              "3600", NULL),
		                 0);
		free(output);
		assert_int_equal(sb__os_statat(w->hand.dir.arena, "77.7", &st), round == 0 ? -ENOENT : 0);
	}
	/* Without the option every pass by hand looks. */
	assert_int_equal(fixture_tool(w->bridge, NULL, "sb-reaper", "--once", NULL), 0);
	assert_int_equal(sb__os_statat(w->hand.dir.arena, "77.7", &st), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_death_is_noticed_at_once_and_explained, setup, teardown),
		cmocka_unit_test_setup_teardown(who_dies_is_tidied_after_before_others_are_looked_at, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(it_stays_where_it_cannot_wait_for_deaths, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failure_to_tell_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(the_service_manager_is_kept_informed, setup, teardown),
		cmocka_unit_test_setup_teardown(it_waits_for_a_bridge_and_for_the_next_one, setup, teardown),
		cmocka_unit_test_setup_teardown(files_are_looked_through_when_it_is_time, setup, teardown),
	};

	return cmocka_run_group_tests_name("reaper daemon", tests, NULL, NULL);
}
