/* SPDX-License-Identifier: Apache-2.0 */
/* What sb-inspect shows of processes, sessions, lanes and refs, alive and dead; and that looking changes
 * nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "hand.h"
#include "mailbox_impl.h"
#include "many.h"
#include "names.h"
#include "refrows.h"
#include "snapshot.h"

struct bench {
	char path[256];
	struct hand hand;
	struct sb__mailbox *mailbox;
	struct sb__session_rec rec; /* of session "a", served and owned by the test */
};

static const char tags[] = "colour\0blue\0empty\0";

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	fixture_dir_make(b->path, sizeof(b->path));
	assert_ok(hand_attach(&b->hand, b->path));
	b->rec = hand_wish(&b->hand, "a");
	b->rec.tag_count = 2;
	b->rec.tags_len = sizeof(tags);
	memcpy(b->rec.tags, tags, sizeof(tags));
	assert_ok(hand_serve(&b->hand, &b->rec, true, &b->mailbox));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	sb__mailbox_detach(b->mailbox);
	hand_close(&b->hand);
	fixture_dir_remove(b->path);
	free(b);
	return 0;
}

static int act_claim(struct hand *hand, void *arg)
{
	struct sb__mailbox *mailbox;
	uint32_t lane;
	int err = hand_join(hand, arg, NULL, &mailbox);

	for (int i = 0; !err && i < 3; i++)
		err = sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
	return err;
}

static struct child start(struct bench *b, int (*act)(struct hand *hand, void *arg))
{
	static char id[] = "a";
	struct child child;

	assert_ok(child_start(&child, b->path, act, id));
	return child;
}

static struct sb__overview overview(struct bench *b)
{
	struct sb__inspect *inspect;
	struct sb__overview o;

	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_ok(sb__inspect_overview(inspect, &o));
	sb__inspect_close(inspect);
	return o;
}

static json_t *get(json_t *json, const char *key)
{
	json_t *value = json_object_get(json, key);

	if (!value)
		print_error("no key \"%s\"\n", key);
	assert_non_null(value);
	return value;
}

static json_int_t number(json_t *json, const char *key)
{
	assert_true(json_is_integer(get(json, key)));
	return json_integer_value(get(json, key));
}

static const char *text(json_t *json, const char *key)
{
	assert_true(json_is_string(get(json, key)));
	return json_string_value(get(json, key));
}

/* ── the bridge ── */

static void test_no_bridge(void **state)
{
	struct sb__inspect *inspect = NULL;
	char *output = NULL;
	char dir[256];

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	assert_int_equal(sb__inspect_open(dir, &inspect), SB_ENOBRIDGE);
	assert_null(inspect);
	assert_int_equal(fixture_tool(dir, &output, "sb-inspect", NULL), 3);
	assert_string_equal(output, "");
	free(output);
	assert_int_equal(rmdir(dir), 0); /* looking made nothing */
}

static void test_living(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	struct sb__overview o = overview(b);

	assert_int_equal(o.alive_processes, 2);
	assert_int_equal(o.dead_processes, 0);
	assert_int_equal(o.unsure_processes, 0);
	assert_int_equal(o.sessions[SB_SESSION_ACTIVE], 1);
	assert_int_equal(o.owners, 2);
	assert_int_equal(o.dead_owners, 0);
	assert_int_equal(o.lanes_claimed, 3);
	assert_int_equal(o.claimed_lanes_of_dead, 0);
	assert_int_equal(o.files[SB__FILE_MAILBOX], 1);
	assert_int_equal(o.files[SB__FILE_BELL], 1);
	assert_int_equal(o.orphan_files, 0);
	assert_int_equal(o.bridge.schema, SB__SCHEMA_VERSION);
	assert_true(o.readers_max >= 1024);
	assert_int_equal(o.unreadable, 0);
	child_kill(&child, true);
}

static void test_dead_caller(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	struct sb__overview o;

	child_kill(&child, false);
	for (int i = 0; i < 2; i++) { /* looking twice shows the same: it tidies nothing */
		o = overview(b);
		assert_int_equal(o.alive_processes, 1);
		assert_int_equal(o.dead_processes, 1);
		assert_int_equal(o.owners, 2);
		assert_int_equal(o.dead_owners, 1);
		assert_int_equal(o.lanes_claimed, 3);
		assert_int_equal(o.claimed_lanes_of_dead, 3);
	}
	waitpid(child.pid, NULL, 0);
}

static void test_orphan_files(void **state)
{
	struct bench *b = *state;
	struct sb__overview o;

	assert_int_equal(sb__store_session_end(b->hand.store, "a", 0, SB__END_RELEASED, NULL), 1);
	o = overview(b);
	assert_int_equal(o.orphan_files, 1);
	assert_int_equal(o.files[SB__FILE_MAILBOX], 1);
	assert_int_equal(o.owners, 0);
}

static int count_session(void *arg, const struct sb__session_view *view)
{
	unsigned *count = arg;

	assert_true(view->mailbox.present);
	++*count;
	return 0;
}

static int do_nothing(void *arg, const struct sb__session_view *view)
{
	(void)arg;
	(void)view;
	return 0;
}

static void claim_in(struct many *many, const char *id)
{
	struct sb__mailbox_params params = { .owner = many->process[0].identity, .session_id = id };
	struct sb__session_rec rec;
	struct sb__mailbox *mailbox;
	uint32_t lane;

	assert_int_equal(sb__store_session_get(many->hand.store, id, &rec), 1);
	params.incarnation = rec.incarnation;
	assert_ok(sb__mailbox_create(many->hand.dir.mailbox, &params, &mailbox));
	assert_ok(sb__lane_claim(mailbox, params.owner.slot, params.owner.generation, &lane));
	sb__store(&sb__mailbox_control(mailbox)->live_refs, 20);
	sb__mailbox_detach(mailbox);
}

/* So many that several threads read: each mailbox is counted once, those too that cannot be read. */
static void test_overview_of_thousands(void **state)
{
	enum { SESSIONS = 4000 };
	static struct many many;
	struct sb__overview counted, viewed;
	struct sb__inspect *inspect;
	char dir[256];

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	assert_ok(many_make(&many, dir, 4, SESSIONS));
	claim_in(&many, "s0");
	claim_in(&many, "s1999");
	claim_in(&many, "s3999");
	many_kill(&many, 0);
	assert_ok(sb__inspect_open(dir, &inspect));
	assert_ok(sb__inspect_overview(inspect, &counted));
	assert_ok(sb__inspect_overview_sessions(inspect, &viewed, do_nothing, NULL));
	sb__inspect_close(inspect);
	assert_int_equal(counted.unreadable, SESSIONS - 3);
	assert_int_equal(counted.lanes_claimed, 3);
	assert_int_equal(counted.claimed_lanes_of_dead, 3);
	assert_int_equal(counted.live_refs, 60);
	assert_int_equal(counted.owners, 2 * SESSIONS);
	counted.fs_free_bytes = viewed.fs_free_bytes;
	assert_memory_equal(&counted, &viewed, sizeof(counted));
	many_drop(&many);
	fixture_dir_remove(dir);
}

/* Lanes in every state and in a grown block, and a session without a mailbox: an overview that only counts reads less than
 * one that also visits the sessions, and says the same. */
static void test_overview_says_what_the_views_say(void **state)
{
	static const unsigned states[] = { SB__LANE_IDLE, SB__LANE_READY,     SB__LANE_BUSY,
		                           SB__LANE_DONE, SB__LANE_ABANDONED, SB__LANE_CANCELLED };
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	struct sb__overview counted, viewed;
	struct sb__inspect *inspect;
	unsigned visited = 0;
	uint32_t lane;

	assert_int_equal(overview(b).lanes_claimed, 3);
	for (unsigned i = 0; i < 6; i++) {
		assert_ok(sb__lane_claim(b->mailbox, b->hand.self.slot, b->hand.self.generation, &lane));
		assert_int_equal(lane, i + 3);
		sb__store(&sb__lane_at(b->mailbox, lane)->word,
		          SB__WORD(states[i], 7, b->hand.self.slot, b->hand.self.generation));
	}
	sb__store(&sb__mailbox_control(b->mailbox)->live_refs, 41);
	child_kill(&child, false);
	counted = overview(b);
	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_ok(sb__inspect_overview_sessions(inspect, &viewed, count_session, &visited));
	sb__inspect_close(inspect);
	assert_int_equal(visited, 1);
	assert_int_equal(counted.lanes_claimed, 3 + 5);
	assert_int_equal(counted.claimed_lanes_of_dead, 3);
	assert_int_equal(counted.queued, 1);
	assert_int_equal(counted.running, 2);
	assert_int_equal(counted.live_refs, 41);
	assert_int_equal(counted.dead_owners, 1);
	counted.fs_free_bytes = viewed.fs_free_bytes;
	assert_memory_equal(&counted, &viewed, sizeof(counted));
	waitpid(child.pid, NULL, 0);
}

static void test_overview_counts_what_it_cannot_read(void **state)
{
	struct bench *b = *state;
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%016llx", (unsigned long long)b->rec.incarnation);
	fd = openat(b->hand.dir.mailbox, name, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "?", 1, 0), 1);
	assert_int_equal(overview(b).unreadable, 1);
	assert_int_equal(pwrite(fd, "S", 1, 0), 1);
	assert_int_equal(overview(b).unreadable, 0);
	assert_int_equal(ftruncate(fd, 1000), 0);
	assert_int_equal(overview(b).unreadable, 1);
	close(fd);
	assert_int_equal(unlinkat(b->hand.dir.mailbox, name, 0), 0);
	assert_int_equal(overview(b).unreadable, 0); /* it is no more: as if it had just ended */
}

/* ── processes ── */

static void test_processes(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	struct sb__process_view *views;
	struct sb__inspect *inspect;
	size_t count;

	child_kill(&child, true);
	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_ok(sb__inspect_processes(inspect, &views, &count));
	assert_int_equal(count, 2);
	assert_int_equal(views[0].identity.pid, getpid());
	assert_int_equal(views[0].evidence.verdict, SB__ALIVE);
	assert_int_equal(views[0].owners, 1);
	assert_int_equal(views[0].serving, 1);
	assert_int_equal(views[1].identity.pid, child.pid);
	assert_int_equal(views[1].evidence.verdict, SB__DEAD);
	assert_int_equal(views[1].owners, 1);
	assert_int_equal(views[1].serving, 0);
	assert_true(strlen(views[1].evidence.how) > 0);
	free(views);
	sb__inspect_close(inspect);
}

/* ── sessions ── */

static void test_session_detail(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	struct sb__session_detail d;
	struct sb__inspect *inspect;
	struct sb__refrows *rows;

	assert_ok(sb__refrows_create(b->hand.dir.mailbox, b->rec.incarnation, 100, &rows));
	sb__refrows_set(rows, 0, 1, "collections.OrderedDict", 0, 4711);
	sb__refrows_set(rows, 7, 3, "numpy.ndarray", 0, 4712);
	sb__refrows_set(rows, 8, 1, "gone", 0, 4713);
	sb__refrows_clear(rows, 8);
	child_kill(&child, true);
	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_int_equal(sb__inspect_session(inspect, "nobody", &d), 0);
	assert_int_equal(sb__inspect_session(inspect, "a", &d), 1);
	assert_string_equal(d.session.rec.session_id, "a");
	assert_string_equal(sb__session_state_name(d.session.rec.state), "active");
	assert_string_equal(sb__mailbox_state_name(&d.session.mailbox), "serving");
	assert_int_equal(d.session.designated.verdict, SB__ALIVE);
	assert_int_equal(d.session.dead_owners, 1);
	assert_int_equal(d.owner_count, 2);
	assert_int_equal(d.owners[0].rec.pid, getpid());
	assert_int_equal(d.owners[0].evidence.verdict, SB__ALIVE);
	assert_int_equal(d.owners[1].rec.pid, child.pid);
	assert_int_equal(d.owners[1].evidence.verdict, SB__DEAD);
	assert_string_equal(d.owners[0].program, b->hand.self.program);
	assert_int_equal(d.lane_count, 3);
	assert_int_equal(d.lanes[0].state, SB__LANE_IDLE);
	assert_int_equal(d.session.mailbox.lanes_of_dead, 3);
	assert_int_equal(d.ref_count, 2);
	assert_string_equal(d.refs[0].type_name, "collections.OrderedDict");
	assert_int_equal(d.refs[0].creator_pid, 4711);
	assert_int_equal(d.refs[1].slot, 7);
	assert_int_equal(d.refs[1].generation, 3);
	assert_true(d.refs[1].created_ms <= d.now_ms);
	sb__session_detail_free(&d);
	sb__inspect_close(inspect);
	sb__refrows_destroy(rows);
}

/* ── damage ── */

static void count_line(void *arg, const char *line)
{
	(void)line;
	++*(int *)arg;
}

static void test_check(void **state)
{
	struct bench *b = *state;
	struct sb__inspect *inspect;
	int lines = 0;

	assert_ok(sb__inspect_open(b->path, &inspect));
	assert_int_equal(sb__inspect_check(inspect, count_line, &lines), 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 0);
	assert_ok(sb__mailbox_unlink(b->hand.dir.mailbox, b->rec.incarnation));
	assert_int_equal(sb__inspect_check(inspect, count_line, &lines), 1);
	assert_int_equal(lines, 1);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 1);
	sb__inspect_close(inspect);
}

/* ── the tool's JSON: keys are a promise ── */

static void test_tool_bridge(void **state)
{
	struct bench *b = *state;
	struct child child = start(b, act_claim);
	json_t *json;

	child_kill(&child, true);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", NULL);
	assert_int_equal(number(json, "schema"), 1);
	assert_string_equal(text(json, "what"), "bridge");
	assert_string_equal(text(json, "dir"), b->path);
	assert_int_equal(number(json, "alive_processes"), 1);
	assert_int_equal(number(json, "dead_processes"), 1);
	assert_int_equal(number(json, "dead_owners"), 1);
	assert_int_equal(number(json, "claimed_lanes_of_dead"), 3);
	assert_int_equal(number(json, "orphan_files"), 0);
	assert_int_equal(number(get(json, "sessions"), "active"), 1);
	assert_int_equal(number(get(json, "files"), "mailbox"), 1);
	assert_int_equal(strlen(text(json, "boot_id")), 32);
	text(json, "pid_namespace"); /* a 64-bit id: text */
	json_decref(json);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "processes", NULL);
	assert_int_equal(json_array_size(get(json, "processes")), 2);
	json_decref(json);
}

static void test_tool_session(void **state)
{
	struct bench *b = *state;
	json_t *json, *sessions;
	char incarnation[24];

	json = fixture_tool_json(b->path, "sb-inspect", "--json", "sessions", NULL);
	sessions = get(json, "sessions");
	assert_int_equal(json_array_size(sessions), 1);
	assert_string_equal(text(json_array_get(sessions, 0), "session"), "a");
	json_decref(json);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "session", "a", NULL);
	assert_string_equal(text(json, "state"), "active");
	snprintf(incarnation, sizeof(incarnation), "%llu", (unsigned long long)b->rec.incarnation);
	assert_string_equal(text(json, "incarnation"), incarnation);
	assert_int_equal(number(json, "ttl_ms"), 3600000);
	assert_int_equal(number(json, "owners"), 1);
	assert_int_equal(json_array_size(get(json, "owner_list")), 1);
	assert_string_equal(text(get(json, "designated_owner"), "liveness"), "alive");
	assert_string_equal(text(get(json, "tags"), "colour"), "blue");
	assert_string_equal(text(get(json, "tags"), "empty"), "");
	assert_string_equal(text(get(json, "mailbox"), "state"), "serving");
	json_decref(json);
}

static void test_tool_text(void **state)
{
	struct bench *b = *state;
	char *output = NULL;

	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "sessions", NULL), 0);
	assert_true(strncmp(output, "SESSION ", 8) == 0);
	free(output);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "--no-legend", "sessions", NULL), 0);
	assert_true(strncmp(output, "a ", 2) == 0);
	free(output);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "session", "a", NULL), 0);
	assert_non_null(strstr(output, "colour = blue"));
	free(output);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "--quiet", "session", "a", NULL), 0);
	assert_string_equal(output, "");
	free(output);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "session", "A", NULL), 1);
	assert_string_equal(output, ""); /* the error is on stderr */
	free(output);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "session", NULL), 2);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "sesions", NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_bridge),
		cmocka_unit_test_setup_teardown(test_living, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dead_caller, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphan_files, setup, teardown),
		cmocka_unit_test(test_overview_of_thousands),
		cmocka_unit_test_setup_teardown(test_overview_says_what_the_views_say, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overview_counts_what_it_cannot_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session_detail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_bridge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_session, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_text, setup, teardown),
	};

	return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
