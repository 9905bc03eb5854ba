/* SPDX-License-Identifier: Apache-2.0 */
/* sb-inspect's lists: which, in what order; calls in flight; what --check finds; metrics; damaged and dead bridges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "hand.h"
#include "mailbox_impl.h"
#include "refrows.h"
#include "snapshot.h"
#include "store_test.h"

struct bench {
	char path[256];
	struct hand hand;
	struct sb__mailbox *a, *b;
	struct sb__session_rec rec_a, rec_b;
};

static const char tags[] = "colour\0blue\0empty\0";

/* Sessions "a", tagged, and "b", both served by the test, which owns "a" only. */
static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	fixture_dir_make(b->path, sizeof(b->path));
	assert_ok(hand_attach(&b->hand, b->path));
	b->rec_a = hand_wish(&b->hand, "a");
	b->rec_a.tag_count = 2;
	b->rec_a.tags_len = sizeof(tags);
	memcpy(b->rec_a.tags, tags, sizeof(tags));
	assert_ok(hand_serve(&b->hand, &b->rec_a, true, &b->a));
	b->rec_b = hand_wish(&b->hand, "b");
	assert_ok(hand_serve(&b->hand, &b->rec_b, false, &b->b));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	sb__mailbox_detach(b->a);
	sb__mailbox_detach(b->b);
	hand_close(&b->hand);
	fixture_dir_remove(b->path);
	free(b);
	return 0;
}

static int act_own_b(struct hand *hand, void *arg)
{
	struct sb__mailbox *mailbox;
	uint32_t lane;
	int err = hand_join(hand, "b", NULL, &mailbox);

	(void)arg;
	return err ? err : sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
}

/* The same, and dies while it reads the store. */
static int act_own_b_and_read(struct hand *hand, void *arg)
{
	return sb__store_test_fill_readers(hand->store, 2) == 2 ? act_own_b(hand, arg) : SB_EBUG;
}

/* What the tool says of sessions, as their ids one after the other. */
static void ids_are(struct bench *b, const char *expected, const char *option, const char *value)
{
	json_t *json = fixture_tool_json(b->path, "sb-inspect", "--json", "sessions", option, value, NULL);
	json_t *list = json_object_get(json, "sessions");
	char ids[64] = "";

	for (size_t i = 0; i < json_array_size(list); i++)
		strcat(ids, json_string_value(json_object_get(json_array_get(list, i), "session")));
	assert_string_equal(ids, expected);
	json_decref(json);
}

/* ── which, and in what order ── */

static void test_filters(void **state)
{
	struct bench *b = *state;
	struct child child;
	char pid[16];

	assert_ok(child_start(&child, b->path, act_own_b, NULL));
	ids_are(b, "ab", "--state", "active");
	ids_are(b, "", "--state", "orphaned");
	ids_are(b, "a", "--tag", "colour=blue");
	ids_are(b, "a", "--tag", "empty");
	ids_are(b, "a", "--tag", "empty=");
	ids_are(b, "", "--tag", "colour=red");
	ids_are(b, "", "--tag", "col");
	snprintf(pid, sizeof(pid), "%d", (int)child.pid);
	ids_are(b, "b", "--owner", pid);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	ids_are(b, "ab", "--owner", pid); /* serves both */
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "sessions", "--state", "sleepy", NULL), 2);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "sessions", "--owner", "0", NULL), 2);
	child_kill(&child, true);
}

static void test_order(void **state)
{
	struct bench *b = *state;

	sb__store(&sb__mailbox_control(b->b)->calls, 7);
	sb__store(&sb__mailbox_control(b->a)->live_refs, 3);
	ids_are(b, "ab", "--sort", "id");
	ids_are(b, "ba", "--sort", "calls");
	ids_are(b, "ab", "--sort", "refs");
	ids_are(b, "ab", "--sort", "owners");
	sb__store(&sb__mailbox_control(b->b)->service_ns, 7000);
	ids_are(b, "ba", "--sort", "latency");
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "sessions", "--sort", "colour", NULL), 2);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "processes", "--sort", "id", NULL), 2);
}

static void test_owners(void **state)
{
	struct bench *b = *state;
	struct child child;
	json_t *json, *list, *dead;
	char pid[16];

	assert_ok(child_start(&child, b->path, act_own_b, NULL));
	child_kill(&child, true);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "owners", NULL);
	list = json_object_get(json, "owners");
	assert_int_equal(json_array_size(list), 2);
	dead = json_array_get(list, 1);
	assert_string_equal(json_string_value(json_object_get(dead, "session")), "b");
	assert_string_equal(json_string_value(json_object_get(dead, "liveness")), "dead");
	assert_false(json_is_true(json_object_get(dead, "designated")));
	assert_true(json_is_true(json_object_get(json_array_get(list, 0), "designated")));
	json_decref(json);
	snprintf(pid, sizeof(pid), "%d", (int)child.pid);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "owners", "--owner", pid, NULL);
	assert_int_equal(json_array_size(json_object_get(json, "owners")), 1);
	json_decref(json);
}

static void test_refs(void **state)
{
	struct bench *b = *state;
	struct sb__refrows *rows;
	json_t *json, *list;

	assert_ok(sb__refrows_create(b->hand.dir.mailbox, b->rec_a.incarnation, 100, &rows));
	sb__refrows_set(rows, 0, 1, "numpy.ndarray", 0, 1);
	sb__refrows_set(rows, 1, 1, "builtins.dict", 0, 1);
	sb__refrows_set(rows, 2, 1, "numpy.dtype", 0, 1);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "refs", "a", "--type", "numpy.*", "--sort",
	                         "type", NULL);
	list = json_object_get(json, "refs");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "type")),
	                    "numpy.dtype");
	assert_int_equal(json_integer_value(json_object_get(json, "refs_torn")), 0);
	json_decref(json);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "refs", "nobody", NULL), 1);
	sb__refrows_destroy(rows);
}

/* ── calls ── */

/* What a caller does up to publishing; then what its owner does, if busy. */
static struct sb__lane_shm *put_call(struct bench *b, bool busy)
{
	struct sb__lane_shm *lane;
	uint32_t index;
	uint64_t word;

	assert_ok(sb__lane_claim(b->a, b->hand.self.slot, b->hand.self.generation, &index));
	lane = sb__lane_at(b->a, index);
	lane->caller_pid = (int32_t)getpid();
	lane->trace_id = 0x1234567890abcdef;
	lane->published_ns = sb__now_ns() - 3000000000u;
	lane->accepted_ns = busy ? sb__now_ns() - 2000000000u : 1;
	sb__store(&lane->deadline_ns, sb__now_ns() + 60000000000u);
	snprintf(lane->label, sizeof(lane->label), "%s", busy ? "method fit" : "call \033[2J");
	word = sb__load(&lane->word);
	assert_true(sb__cas(&lane->word, word, SB__WORD_WITH(word, busy ? SB__LANE_BUSY : SB__LANE_READY)));
	return lane;
}

static void test_calls(void **state)
{
	struct bench *b = *state;
	json_t *json, *list, *call;
	char *output = NULL;

	put_call(b, true);
	put_call(b, false);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "calls", "--sort", "id", NULL);
	list = json_object_get(json, "calls");
	assert_int_equal(json_array_size(list), 2);
	call = json_array_get(list, 0);
	for (size_t i = 0; i < 2; i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "state")), "running") ==
		    0)
			call = json_array_get(list, i);
	assert_string_equal(json_string_value(json_object_get(call, "session")), "a");
	assert_string_equal(json_string_value(json_object_get(call, "state")), "running");
	assert_string_equal(json_string_value(json_object_get(call, "label")), "method fit");
	assert_string_equal(json_string_value(json_object_get(call, "trace_id")), "1311768467294899695");
	assert_int_equal(json_integer_value(json_object_get(call, "caller_pid")), getpid());
	assert_true(json_integer_value(json_object_get(call, "running_ms")) >= 2000);
	assert_true(json_integer_value(json_object_get(call, "waited_ms")) >= 990);
	assert_true(json_integer_value(json_object_get(call, "deadline_in_ms")) <= 60000);
	json_decref(json);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "calls", NULL), 0);
	assert_non_null(strstr(output, "queued"));
	assert_non_null(strstr(output, "1234567890abcdef"));
	assert_null(strchr(output, '\033')); /* a label does not command the terminal */
	free(output);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", NULL);
	assert_int_equal(json_integer_value(json_object_get(json, "queued_calls")), 1);
	assert_int_equal(json_integer_value(json_object_get(json, "running_calls")), 1);
	json_decref(json);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "calls", "--tag", "colour=red", NULL);
	assert_int_equal(json_array_size(json_object_get(json, "calls")), 0);
	json_decref(json);
}

/* ── --check ── */

/* Some finding has all of this text. */
static bool finds(json_t *problems, const char *text)
{
	for (size_t i = 0; i < json_array_size(problems); i++)
		if (strstr(json_string_value(json_array_get(problems, i)), text))
			return true;
	return false;
}

static void test_check_of_the_dead(void **state)
{
	struct bench *b = *state;
	struct child child;
	json_t *json, *problems;
	char path[300];

	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 0);
	assert_ok(child_start(&child, b->path, act_own_b_and_read, NULL));
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 0);
	child_kill(&child, true);
	snprintf(path, sizeof(path), "%016" PRIx64, b->rec_b.incarnation + 1000);
	assert_true(openat(b->hand.dir.mailbox, path, O_CREAT | O_RDWR, 0600) >= 0);
	json = fixture_tool_json(b->path, "sb-inspect", "--json", "--check", NULL);
	problems = json_object_get(json, "problems");
	assert_false(json_is_true(json_object_get(json, "sound")));
	assert_true(finds(problems, "session \"b\": owner"));
	assert_true(finds(problems, "1 lanes are claimed by dead"));
	assert_true(finds(problems, "is dead and has a record"));
	assert_true(finds(problems, "belongs to nobody"));
	assert_true(finds(problems, "LMDB: 2 reader slots"));
	assert_int_equal(json_array_size(problems), 5);
	json_decref(json);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", "--quiet", NULL), 1);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-reaper", "--once", NULL), 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 0);
}

static int act_serve_c(struct hand *hand, void *arg)
{
	struct sb__session_rec rec = hand_wish(hand, "c");

	(void)arg;
	return hand_serve(hand, &rec, true, NULL);
}

/* A bridge where everybody is dead. */
static void test_all_dead(void **state)
{
	static const char *const views[] = { "processes", "sessions", "owners", "calls", "--openmetrics" };
	struct child child;
	json_t *json, *problems;
	char dir[256];

	(void)state;
	fixture_dir_make(dir, sizeof(dir));
	assert_ok(child_start(&child, dir, act_serve_c, NULL));
	child_kill(&child, true);
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
		assert_int_equal(fixture_tool(dir, NULL, "sb-inspect", views[i], NULL), 0);
	json = fixture_tool_json(dir, "sb-inspect", "--json", NULL);
	assert_int_equal(json_integer_value(json_object_get(json, "alive_processes")), 0);
	assert_int_equal(json_integer_value(json_object_get(json, "dead_processes")), 1);
	json_decref(json);
	json = fixture_tool_json(dir, "sb-inspect", "--json", "--check", NULL);
	problems = json_object_get(json, "problems");
	assert_true(finds(problems, "session \"c\" counts on its designated owner"));
	json_decref(json);
	fixture_dir_remove(dir);
}

/* ── damage ── */

/* Every view ends by itself, whatever lies in the mailbox; --check says that something is wrong. */
static void all_views_end(struct bench *b, bool unreadable)
{
	static const char *const views[] = { "processes", "sessions", "owners", "calls", "--openmetrics" };

	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
		assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", views[i], NULL), 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", NULL), unreadable ? 5 : 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "session", "b", NULL), unreadable ? 5 : 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "refs", "b", NULL), 0);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--check", NULL), 1);
	assert_int_equal(
		fixture_tool(b->path, NULL, "sb-inspect", "--watch", "0.05", "--timeout", "0.01", NULL), 0);
}

static int open_mailbox_b(struct bench *b, const char *suffix)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%016" PRIx64 "%s", b->rec_b.incarnation, suffix);
	fd = openat(b->hand.dir.mailbox, name, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void test_truncated_mailbox(void **state)
{
	static const off_t sizes[] = { 8192, 4096, 100, 0 };
	struct bench *b = *state;
	int fd = open_mailbox_b(b, "");

	assert_ok(sb__mailbox_grow(b->b, 0));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		all_views_end(b, true);
	}
	close(fd);
}

static void test_lanes_that_are_not_there(void **state)
{
	struct bench *b = *state;

	/* It says that it has more lanes than its file; and one is in no state that there is. */
	assert_ok(sb__mailbox_grow(b->b, 0));
	sb__store(&sb__mailbox_control(b->b)->lane_count, SB__LANES_MAX);
	sb__store(&sb__lane_at(b->b, 1)->word, UINT64_MAX);
	all_views_end(b, false);
}

static void test_garbage(void **state)
{
	struct bench *b = *state;
	off_t whose_at = SB__CONTROL_AT + offsetof(struct sb__mailbox_control_shm, attached);
	int fd = open_mailbox_b(b, ""), refs = open_mailbox_b(b, ".refs");
	uint64_t whose = SB__ATTACHED(b->rec_b.incarnation);
	struct stat st;
	uint8_t *bytes;

	assert_ok(sb__mailbox_grow(b->b, 0));

	/* All but the header and whose it is first: what the header says is then believed. */
	assert_int_equal(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	for (off_t i = 0; i < st.st_size; i++)
		bytes[i] = (uint8_t)((uint64_t)i * 2654435761u >> 13);
	assert_int_equal(
		pwrite(fd, bytes + SB__CONTROL_AT, (size_t)st.st_size - SB__CONTROL_AT, SB__CONTROL_AT),
		st.st_size - SB__CONTROL_AT);
	assert_int_equal(pwrite(fd, &whose, 8, whose_at), 8);
	assert_int_equal(pwrite(refs, bytes, 5000, 0), 5000);
	all_views_end(b, false);
	assert_int_equal(pwrite(fd, bytes + whose_at, 8, whose_at), 8);
	all_views_end(b, true);
	assert_int_equal(pwrite(fd, bytes, SB__CONTROL_AT, 0), SB__CONTROL_AT);
	all_views_end(b, true);
	free(bytes);
	close(refs);
	close(fd);
}

/* ── metrics ── */

/* One sample: name, labels in braces or none, a number. */
static bool is_sample(const char *line, const char *family)
{
	size_t len = strlen(family);
	char *end;

	if (strncmp(line, family, len) != 0)
		return false;
	line += len;
	if (strncmp(line, "_total", 6) == 0)
		line += 6;
	if (*line == '{') {
		for (line++; *line && *line != '}'; line++) {
			line += strspn(line, "abcdefghijklmnopqrstuvwxyz_");
			if (strncmp(line, "=\"", 2) != 0)
				return false;
			for (line += 2; *line && *line != '"'; line++)
				line += *line == '\\';
			if (!*line)
				return false;
		}
		if (*line++ != '}')
			return false;
	}
	if (*line++ != ' ')
		return false;
	(void)strtod(line, &end);
	return end != line && *end == '\0';
}

/* Families are whole and come once, each with help and type before its samples; counters end in _total. */
static void check_metrics(char *text, unsigned *ret_families)
{
	char *families[64], *family = NULL, *save = NULL;
	unsigned count = 0;
	bool counter = false, ended = false;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		assert_false(ended);
		if (strncmp(line, "# HELP ", 7) == 0) {
			family = line + 7;
			assert_non_null(strchr(family, ' '));
			*strchr(family, ' ') = '\0';
			for (unsigned i = 0; i < count; i++)
				assert_string_not_equal(families[i], family);
			assert_true(count < 64);
			families[count++] = family;
		} else if (strncmp(line, "# TYPE ", 7) == 0) {
			size_t len = strlen(family);

			assert_memory_equal(line + 7, family, len);
			counter = strcmp(line + 7 + len, " counter") == 0;
			assert_true(counter || strcmp(line + 7 + len, " gauge") == 0);
		} else if (strcmp(line, "# EOF") == 0) {
			ended = true;
		} else if (strncmp(line, "# UNIT ", 7) != 0) {
			assert_non_null(family);
			if (!is_sample(line, family))
				print_error("no sample of %s: %s\n", family, line);
			assert_true(is_sample(line, family));
			assert_int_equal(strstr(line, "_total") != NULL, counter);
		}
	}
	assert_true(ended);
	*ret_families = count;
}

static void test_metrics(void **state)
{
	struct bench *b = *state;
	char *output = NULL;
	unsigned families;

	put_call(b, true);
	sb__store(&sb__mailbox_control(b->a)->calls, 12);
	sb__store(&sb__mailbox_control(b->a)->service_ns, 1500000000);
	sb__store(&sb__mailbox_control(b->b)->evicted_refs, 4);
	assert_int_equal(fixture_tool(b->path, &output, "sb-inspect", "--openmetrics", NULL), 0);
	assert_non_null(strstr(output, "\nsnakebridge_sessions{state=\"active\"} 2\n"));
	assert_non_null(strstr(output, "\nsnakebridge_processes{liveness=\"alive\"} 1\n"));
	assert_non_null(strstr(output, "\nsnakebridge_calls_in_flight{state=\"running\"} 1\n"));
	assert_non_null(strstr(output, "\nsnakebridge_session_calls_total{session=\"a\"} 12\n"));
	assert_non_null(
		strstr(output, "\nsnakebridge_session_service_seconds_total{session=\"a\"} 1.500000000\n"));
	assert_non_null(strstr(output, "\nsnakebridge_session_refs_evicted_total{session=\"b\"} 4\n"));
	assert_non_null(strstr(output, "\nsnakebridge_files{kind=\"mailbox\"} 2\n"));
	assert_string_equal(output + strlen(output) - 6, "# EOF\n");
	check_metrics(output, &families);
	assert_true(families > 15);
	free(output);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--openmetrics", "--check", NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check_of_the_dead, setup, teardown),
		cmocka_unit_test(test_all_dead),
		cmocka_unit_test_setup_teardown(test_truncated_mailbox, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lanes_that_are_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_metrics, setup, teardown),
	};

	return cmocka_run_group_tests_name("inspect_lists", tests, NULL, NULL);
}
