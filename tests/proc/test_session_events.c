/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions tell the ring of events: with session, reason, and the call that it happened in. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge_dir.h"
#include "events.h"
#include "fixture.h"

/* The newest event of that kind about the session; false: none yet. */
static bool newest(struct fixture *f, enum sb__event_kind kind, const char *id, struct sb__event *ret)
{
	struct sb__bridge_dir dir;
	struct sb__events events;
	struct sb__events_reader reader;
	struct sb__event e;
	bool found = false;

	assert_int_equal(sb__bridge_dir_open(f->dir, false, &dir), 0);
	if (sb__events_open(dir.boot, false, &events) == 0) {
		sb__events_reader_init(&reader, &events, 0);
		while (sb__events_read(&reader, &e, NULL) == 1) {
			if (e.kind == kind && strcmp(e.session_id, id) == 0) {
				*ret = e;
				found = true;
			}
		}
		sb__events_close(&events);
	}
	sb__bridge_dir_close(&dir);
	return found;
}

static struct sb__event wait_for(struct fixture *f, enum sb__event_kind kind, const char *id)
{
	struct sb__event e;

	for (int i = 0; i < 3000; i++) {
		if (newest(f, kind, id, &e))
			return e;
		usleep(10000);
	}
	fail_msg("no event \"%s\" about session %s", sb__event_kind_name(kind), id);
	return e;
}

static sb_session *open_session(struct fixture *f, const char *id, int64_t max_refs, int64_t ttl)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = id;
	o.max_refs = max_refs;
	o.ttl_seconds = ttl;
	assert_ok(sb_session_open(f->bridge, &o, &s));
	return s;
}

static int make(sb_session *s, uint64_t trace_id)
{
	sb_request r = SB_REQUEST_INIT;

	r.name = "builtins:object";
	r.trace_id = trace_id;
	return sb_invoke(s, &r, NULL);
}

static void test_17_evictions_are_told(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_session(f, "small", 2, SB_UNSET);
	sb_session_info info = { .size = sizeof(info) };
	struct sb__event e;

	for (int i = 0; i < 5; i++)
		assert_ok(make(s, 0));
	assert_ok(sb_session_get_info(s, &info));
	e = wait_for(f, SB__EVENT_EVICT, "small");
	assert_true(e.count >= 1 && e.count <= 3);
	assert_int_equal(e.pid, getpid());
	assert_true(e.incarnation == info.incarnation && e.session_uid != 0);
	assert_non_null(strstr(e.reason, "evicted"));
	sb_session_close(s);
}

static void test_13_expiry_is_told(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_session(f, "idle", SB_UNSET, 1);
	struct sb__event e = wait_for(f, SB__EVENT_EXPIRE, "idle");

	assert_non_null(strstr(e.reason, "TTL"));
	assert_true(e.incarnation != 0 && e.session_uid != 0);
	assert_int_equal(make(s, 0), SB_EEXPIRED);
	sb_session_close(s);
}

static int serve(void *arg)
{
	struct fixture *f = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	o.session_id = "moved";
	return sb_session_open(f->bridge, &o, &s) || pause();
}

/* The call that saw the death, and the one that elected: by their trace ids. */
static void test_11_23_orphan_and_election_are_told(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fixture_fork(serve, f);
	sb_session_info info = { .size = sizeof(info) };
	struct sb__event e;
	sb_session *s;

	wait_for(f, SB__EVENT_CREATE, "moved");
	s = open_session(f, "moved", SB_UNSET, SB_UNSET);
	assert_ok(sb_session_get_info(s, &info));
	assert_int_equal(info.designated_pid, pid);
	kill(pid, SIGKILL);
	fixture_wait(pid);
	assert_int_equal(make(s, 0x1234), SB_EOWNERDIED);
	e = wait_for(f, SB__EVENT_ORPHAN, "moved");
	assert_int_equal(e.subject_pid, pid);
	assert_true(e.trace_id == 0x1234);
	assert_true(e.incarnation == info.incarnation);
	assert_true(strlen(e.reason) > 0);

	assert_ok(make(s, 0x1235));
	e = wait_for(f, SB__EVENT_ELECT, "moved");
	assert_int_equal(e.subject_pid, pid);
	assert_int_equal(e.pid, getpid());
	assert_true(e.trace_id == 0x1235);
	assert_true(e.incarnation > info.incarnation);
	assert_true(strlen(e.reason) > 0);
	/* Not in a call: no trace. */
	sb_session_close(s);
	e = wait_for(f, SB__EVENT_LEAVE, "moved");
	assert_true(e.trace_id == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_17_evictions_are_told),
		TEST(test_13_expiry_is_told),
		TEST(test_11_23_orphan_and_election_are_told),
	};

	return cmocka_run_group_tests_name("session_events", tests, NULL, NULL);
}
