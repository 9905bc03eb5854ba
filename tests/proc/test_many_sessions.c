/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with many sessions: what it keeps of them is found without walking over the others. Counted, not timed: the
 * indexes count what their searches look at.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#include "core.h"
#include "fixture.h"
#include "host_impl.h"

#define MANY 1000u

static uint64_t looks(struct sb__core *core)
{
	return core->attachments.looks + core->attachment_serials.looks + core->sessions.looks +
	       core->sessions_by_id.looks + (core->host ? core->host->incarnations.looks : 0);
}

/* What is looked at while n sessions are opened, called by a ref alone, and closed, each. */
static double looks_of(const struct fixture *f, sb_session **sessions, unsigned n)
{
	struct sb__core *core = f->bridge->core;
	uint64_t before;

	for (unsigned i = 0; i < n; i++)
		sessions[i] = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
	before = looks(core);
	for (unsigned i = 0; i < 10; i++) {
		sb_session *s = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
		sb_value *v = NULL;

		assert_ok(sb_call(s, "collections:Counter", NULL, &v));
		assert_ok(sb_method(NULL, sb_value_ref(v), "most_common", NULL, NULL));
		sb_value_free(v);
		if (i % 2)
			assert_ok(sb_session_release(f->bridge, sb_session_id(s), NULL));
		sb_session_close(s);
	}
	return (double)(looks(core) - before) / 10;
}

static void test_10_closing_and_opening_mind_no_others(void **state)
{
	const struct fixture *f = *state;
	sb_session *few[4], **many = calloc(MANY, sizeof(sb_session *));
	struct sb__core *core = f->bridge->core;
	double with_few, with_many;
	uint64_t before;

	assert_non_null(many);
	with_few = looks_of(f, few, 4);
	with_many = looks_of(f, many, MANY);
	assert_true(with_few > 0);
	assert_true(with_many <
	            with_few + 20); /* chains may be a few long; a walk would look at a thousand */
	before = looks(core);
	for (unsigned i = 0; i < MANY; i++)
		sb_session_close(many[i]);
	assert_true(looks(core) - before < 10 * MANY);
	assert_int_equal(core->attachments.count, 4);
	assert_int_equal(core->sessions.count, 4);
	assert_int_equal(core->sessions_by_id.count, 4);
	for (unsigned i = 0; i < 4; i++)
		sb_session_close(few[i]);
	assert_int_equal(core->attachments.count, 0);
	assert_int_equal(core->attachment_serials.count, 0);
	assert_int_equal(core->sessions.count, 0);
	free(many);
}

/* Two handles of one bridge: each closes its own sessions, whatever the other has. */
static void test_10_a_bridge_handle_closes_its_own(void **state)
{
	const struct fixture *f = *state;
	struct sb__core *core = f->bridge->core;
	sb_session *kept[20];
	sb_bridge *other;

	assert_ok(sb_bridge_open(f->dir, NULL, &other));
	assert_ptr_equal(other->core, core);
	for (unsigned i = 0; i < 20; i++) {
		kept[i] = fixture_session(f->bridge, NULL, SB_DESIGNATED_SELF);
		fixture_session(other, NULL, SB_DESIGNATED_SELF);
	}
	assert_int_equal(core->sessions.count, 40);
	sb_bridge_close(other);
	assert_int_equal(core->sessions.count, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_ok(sb_call(kept[i], "math:sqrt", sb_args("i", 16), NULL));
	for (unsigned i = 0; i < 20; i++)
		sb_session_close(kept[i]);
}

/* ── sessions of another process ── */

#define JOINED 40u

struct host {
	const struct fixture *f;
	int ready, *go;
};

/* Serves them until the parent closes its end. */
static int serve_many(void *arg)
{
	const struct host *host = arg;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *s;
	sb_bridge *bridge;
	char id[32], byte = 1;

	close(host->go[1]);
	if (sb_bridge_open(host->f->dir, NULL, &bridge))
		return 2;
	o.session_id = id;
	o.persistent = 1;
	for (unsigned i = 0; i < JOINED; i++) {
		snprintf(id, sizeof(id), "joined%u", i);
		if (sb_session_open(bridge, &o, &s))
			return 3;
	}
	return write(host->ready, &byte, 1) != 1 || read(host->go[0], &byte, 1) != 0;
}

/* Mappings of this process whose file lies in the bridge's folder of mailboxes. */
static unsigned mailboxes_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4096];
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "/mailbox/") != NULL;
	fclose(maps);
	return n;
}

static sb_session *join_one(const struct fixture *f, unsigned i)
{
	char id[32];

	snprintf(id, sizeof(id), "joined%u", i);
	return fixture_session(f->bridge, id, SB_DESIGNATED_ATTACH_ONLY);
}

/* Joined before they are called, most are not attached to; each use works as if they were. */
static void test_03_joined_sessions_are_attached_to_when_used(void **state)
{
	struct fixture *f = *state;
	int ready[2], go[2], level = -1;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s[JOINED];
	struct host host = { .f = f };
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	host.ready = ready[1];
	host.go = go;
	pid = fixture_fork(serve_many, &host);
	close(ready[1]);
	assert_true(fixture_hear(ready[0], pid, &byte, 1));
	for (unsigned i = 0; i < JOINED; i++)
		s[i] = join_one(f, i);
	assert_in_range(mailboxes_mapped(), 1, SB__WARM_MAX);
	assert_int_equal(f->bridge->core->attachments.count, SB__WARM_MAX);
	/* The last of them was never called. */
	assert_ok(sb_cancel(s[JOINED - 1], 1, &level));
	assert_int_equal(level, SB_CANCEL_NONE);
	assert_ok(sb_session_get_info(s[JOINED - 2], &info));
	assert_int_equal(info.designated_pid, pid);
	assert_true(info.idle_ms >= 0 && info.idle_ms < 60000);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < JOINED - 4; i++)
			assert_ok(sb_call(s[i], "math:sqrt", sb_args("i", 16), NULL));
	assert_int_equal(f->bridge->core->attachments.count, JOINED - 2);
	/* One that ends before it is called says so; so does one whose owner dies. */
	assert_ok(sb_session_release(f->bridge, "joined37", NULL));
	assert_int_equal(sb_call(s[JOINED - 3], "math:sqrt", sb_args("i", 16), NULL), SB_ERELEASED);
	kill(pid, SIGKILL);
	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	assert_int_equal(sb_call(s[JOINED - 4], "math:sqrt", sb_args("i", 16), NULL), SB_EOWNERDIED);
	for (unsigned i = 0; i < JOINED; i++)
		sb_session_close(s[i]);
	assert_int_equal(f->bridge->core->attachments.count, 0);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_10_closing_and_opening_mind_no_others, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_03_joined_sessions_are_attached_to_when_used,
		                                fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_10_a_bridge_handle_closes_its_own, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("many sessions", tests, NULL, NULL);
}
