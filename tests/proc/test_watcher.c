/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A designated owner notices by itself, at once, that a process which called it died: its sweeps are an hour apart here,
 * and no reaper runs. bench/death_notice.c takes the time.
 */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define LONG_MS 30000

static const char told[] = "import os\n"
			   "class Told:\n"
			   "    def __init__(self, fd): self.fd = fd\n"
			   "    def __del__(self): os.write(self.fd, b'x')\n";

struct world {
	struct fixture *f;
	int ready[2], told[2];
	const char *id;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	setenv("SNAKEBRIDGE_SWEEP_MS", "3600000", 1);
	fixture_setup((void **)&w->f);
	unsetenv("SNAKEBRIDGE_SWEEP_MS");
	assert_int_equal(pipe(w->ready), 0);
	assert_int_equal(pipe(w->told), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 2; i++) {
		close(w->ready[i]);
		close(w->told[i]);
	}
	fixture_teardown((void **)&w->f);
	free(w);
	return 0;
}

static int as_ref(sb_session *s, const char *name, const sb_ref *target, sb_args *args, sb_ref *ret)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	int err;

	r.verb = target ? SB_VERB_METHOD : SB_VERB_CALL;
	r.target = target;
	r.name = name;
	r.args = args;
	r.flags = SB_CALL_AS_REF;
	err = sb_invoke(s, &r, &v);
	if (!err)
		*ret = *sb_value_ref(v);
	sb_value_free(v);
	return err;
}

/* Joins, leaves an object that tells of its end, and waits for its own. */
static int own(void *arg)
{
	struct world *w = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;
	sb_ref names, type, object;

	o.session_id = w->id;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_session_open(w->f->bridge, &o, &s) || as_ref(s, "builtins:dict", NULL, NULL, &names) ||
	    sb_call(s, "builtins:exec", sb_args("sr", told, &names), NULL) ||
	    as_ref(s, "__getitem__", &names, sb_args("s", "Told"), &type) ||
	    as_ref(s, "__call__", &type, sb_args("i", (int64_t)w->told[1]), &object))
		return 1;
	return write(w->ready[1], "R", 1) == 1 ? pause() : 2;
}

static pid_t owner_start(struct world *w, const char *id)
{
	char ready;
	pid_t pid;

	w->id = id;
	pid = fixture_fork(own, w);
	assert_true(fixture_hear(w->ready[0], pid, &ready, 1));
	return pid;
}

static bool comes(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	return poll(&p, 1, ms) == 1 && read(fd, &c, 1) == 1;
}

static void test_10_31_last_owners_death_ends_the_session_at_once(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 10; i++) { /* they have the same slot, one after the other */
		sb_session *s = fixture_session(w->f->bridge, "watched", SB_DESIGNATED_SELF);
		pid_t pid = owner_start(w, "watched");

		sb_session_close(s);
		assert_false(comes(w->told[0], 20));
		kill(pid, SIGKILL);
		assert_true(comes(w->told[0], LONG_MS));
		assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	}
}

/* Stopped is not dead; and what others own stays. */
static void test_32_watched_and_stopped(void **state)
{
	struct world *w = *state;
	sb_session *s = fixture_session(w->f->bridge, "stopped", SB_DESIGNATED_SELF);
	pid_t pid = owner_start(w, "stopped"), other = owner_start(w, "stopped");

	sb_session_close(s);
	kill(pid, SIGSTOP);
	kill(other, SIGKILL);
	assert_int_equal(fixture_wait(other), 1000 + SIGKILL);
	assert_false(comes(w->told[0], 300));
	kill(pid, SIGKILL);
	assert_true(comes(w->told[0], LONG_MS));
	assert_true(comes(w->told[0], LONG_MS));
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A forked child of the designated owner becomes a process of its own, without the parent's descriptors. */
static int use_as_child(void *arg)
{
	struct world *w = arg;
	int before = descriptors();
	sb_session *s = fixture_session(w->f->bridge, "childs own", SB_DESIGNATED_SELF);

	if (sb_call(s, "math:sqrt", sb_args("i", 4), NULL))
		return 1;
	sb_session_close(s);
	sb_bridge_close(w->f->bridge);
	return descriptors() < before ? 0 : 2;
}

static void test_10_forked_child_closes_what_it_inherited(void **state)
{
	struct world *w = *state;
	sb_session *s = fixture_session(w->f->bridge, "parents", SB_DESIGNATED_SELF);
	pid_t pid = owner_start(w, "parents");

	usleep(100000); /* its descriptor is open by then; if not, nothing is shown */
	assert_int_equal(fixture_wait(fixture_fork(use_as_child, w)), 0);
	sb_session_close(s);
	kill(pid, SIGKILL);
	assert_true(comes(w->told[0], LONG_MS));
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_10_31_last_owners_death_ends_the_session_at_once, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_32_watched_and_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_10_forked_child_closes_what_it_inherited, setup,
		                                teardown),
	};

	return cmocka_run_group_tests_name("watcher", tests, NULL, NULL);
}
