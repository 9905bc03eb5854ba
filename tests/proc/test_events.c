/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of events: order, gaps, many writers, writers killed or stopped in mid-record; and who posts what. */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge_dir.h"
#include "events.h"
#include "fixture.h"
#include "os_linux.h"

/* As events.h says. */
#define WRITING(sequence, pid) ((uint64_t)(sequence) << 24 | (uint64_t)(pid) << 2 | 1)

struct ring {
	char path[256];
	int dir;
	struct sb__events events;
};

static int setup(void **state)
{
	struct ring *ring = calloc(1, sizeof(*ring));

	*state = ring;
	fixture_dir_make(ring->path, sizeof(ring->path));
	ring->dir = sb__os_open_dir(ring->path);
	return sb__events_open(ring->dir, true, &ring->events);
}

static int teardown(void **state)
{
	struct ring *ring = *state;

	sb__events_close(&ring->events);
	sb__os_close(ring->dir);
	fixture_dir_remove(ring->path);
	free(ring);
	return 0;
}

static uint64_t post_number(struct sb__events *events, uint32_t number)
{
	struct sb__event event = { .kind = SB__EVENT_EVICT, .count = number, .incarnation = number };

	snprintf(event.session_id, sizeof(event.session_id), "s%" PRIu32, number);
	snprintf(event.reason, sizeof(event.reason), "%d %" PRIu32, (int)getpid(), number);
	return sb__events_post(events, &event);
}

/* All fields tell the same number. */
static bool whole(const struct sb__event *e)
{
	char session[32], reason[64];

	snprintf(session, sizeof(session), "s%" PRIu32, e->count);
	snprintf(reason, sizeof(reason), "%d %" PRIu32, (int)e->pid, e->count);
	return e->kind == SB__EVENT_EVICT && e->incarnation == e->count &&
	       strcmp(e->session_id, session) == 0 && strcmp(e->reason, reason) == 0;
}

static pid_t dead_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

/* ── the ring ── */

static void tells_everything_in_order(void **state)
{
	struct ring *ring = *state;
	struct sb__event posted = { .kind = SB__EVENT_REAP,
		                    .subject_pid = 77,
		                    .session_uid = 5,
		                    .incarnation = 6,
		                    .trace_id = 7,
		                    .count = 8,
		                    .session_id = "iris",
		                    .reason = "no such pid" };
	struct sb__events_reader reader;
	struct sb__event seen;

	assert_int_equal(sb__events_post(&ring->events, &posted), 1);
	assert_int_equal(post_number(&ring->events, 1), 2);
	sb__events_reader_init(&reader, &ring->events, 0);
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_int_equal(seen.sequence, 1);
	assert_int_equal(seen.kind, SB__EVENT_REAP);
	assert_int_equal(seen.pid, getpid());
	assert_int_equal(seen.subject_pid, 77);
	assert_int_equal(seen.session_uid, 5);
	assert_int_equal(seen.incarnation, 6);
	assert_int_equal(seen.trace_id, 7);
	assert_int_equal(seen.count, 8);
	assert_string_equal(seen.session_id, "iris");
	assert_string_equal(seen.reason, "no such pid");
	assert_true(seen.mono_ns > 0 && seen.wall_ms > 0);
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_int_equal(seen.sequence, 2);
	assert_true(whole(&seen));
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 0);
	assert_int_equal(reader.lost + reader.torn, 0);
	sb__events_reader_init(&reader, &ring->events, 1); /* the first was seen already */
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_int_equal(seen.sequence, 2);
	sb__events_reader_init(&reader, &ring->events, 1000); /* of an earlier boot */
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_int_equal(seen.sequence, 1);
}

static void long_texts_are_cut_between_characters(void **state)
{
	struct ring *ring = *state;
	struct sb__event posted = { .kind = SB__EVENT_JOIN }, seen;
	struct sb__events_reader reader;

	memset(posted.session_id, 'a', SB_SESSION_ID_MAX);
	for (size_t i = 0; i + 2 < sizeof(posted.reason); i += 2)
		memcpy(posted.reason + i, "é", 2);
	posted.reason[62] = (char)0xc3; /* half a character, and no end */
	posted.reason[63] = (char)0xa9;
	assert_int_equal(sb__events_post(&ring->events, &posted), 1);
	sb__events_reader_init(&reader, &ring->events, 0);
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_int_equal(strlen(seen.session_id), SB_SESSION_ID_MAX);
	assert_int_equal(strlen(seen.reason), 62);
}

static void what_is_overwritten_is_counted_as_lost(void **state)
{
	struct ring *ring = *state;
	struct sb__events_reader reader;
	struct sb__event seen;
	uint32_t expected;

	sb__events_reader_init(&reader, &ring->events, 0);
	for (uint32_t i = 1; i <= 3000; i++)
		assert_int_equal(post_number(&ring->events, i), i);
	for (expected = 3000 - SB__EVENTS_RECORDS + 1; sb__events_read(&reader, &seen, NULL); expected++) {
		assert_int_equal(seen.sequence, expected);
		assert_int_equal(seen.count, expected);
	}
	assert_int_equal(expected, 3001);
	assert_int_equal(reader.lost, 3000 - SB__EVENTS_RECORDS);
	assert_int_equal(reader.torn, 0);
}

/* Claimed and never finished, with head moved or not. */
static void a_record_of_a_dead_writer_is_skipped_and_taken_again(void **state)
{
	struct ring *ring = *state;
	struct sb__events_shm *shm = ring->events.shm;
	struct sb__events_reader reader;
	struct sb__event seen;
	bool pending;

	post_number(&ring->events, 1);
	sb__store(&shm->records[2].word, WRITING(2, dead_pid())); /* killed before it moved head */
	assert_int_equal(post_number(&ring->events, 3), 3);
	sb__events_reader_init(&reader, &ring->events, 0);
	assert_int_equal(sb__events_read(&reader, &seen, &pending), 1);
	assert_int_equal(sb__events_read(&reader, &seen, &pending), 1);
	assert_int_equal(seen.sequence, 3);
	assert_int_equal(reader.torn, 1);
	assert_int_equal(sb__events_read(&reader, &seen, &pending), 0);
	assert_false(pending);
	for (uint32_t i = 4; i <= SB__EVENTS_RECORDS + 5; i++)
		assert_int_equal(post_number(&ring->events, i), i); /* a lap later its record is used */
	for (uint32_t i = 4; sb__events_read(&reader, &seen, NULL); i++)
		assert_true(whole(&seen));
	assert_int_equal(reader.torn, 1);
}

static void a_stopped_writer_costs_its_record_only(void **state)
{
	struct ring *ring = *state;
	struct sb__events_shm *shm = ring->events.shm;
	struct sb__events_reader reader;
	struct sb__event seen;
	unsigned pauses = 0;
	bool pending;

	sb__store(&shm->records[1].word, WRITING(1, getppid())); /* alive, and writes for ever */
	sb__store(&shm->head, 1);
	assert_int_equal(post_number(&ring->events, 2), 2); /* no writer waits for it */
	sb__events_reader_init(&reader, &ring->events, 0);
	while (sb__events_read(&reader, &seen, &pending) == 0) {
		assert_true(pending);
		usleep(10000);
		assert_true(++pauses < 1000);
	}
	assert_int_equal(seen.sequence, 2);
	assert_int_equal(reader.torn, 1);
	for (uint32_t i = 3; i <= SB__EVENTS_RECORDS; i++)
		assert_int_equal(post_number(&ring->events, i), i);
	/* Its record is passed over as long as it lives. */
	assert_int_equal(post_number(&ring->events, 9), SB__EVENTS_RECORDS + 2);
	while (sb__events_read(&reader, &seen, NULL) == 1)
		;
	assert_int_equal(reader.next, SB__EVENTS_RECORDS + 3);
	assert_int_equal(reader.torn, 2);
	assert_int_equal(reader.lost, 0);
	assert_int_equal(sb__load(&shm->records[1].word), WRITING(1, getppid()));
}

#define WRITERS    4
#define PER_WRITER 20000

static void write_for_ever(const struct ring *ring, uint32_t count)
{
	struct sb__events events;

	if (sb__events_open(ring->dir, true, &events) != 0)
		_exit(2);
	for (uint32_t i = 1; i <= count; i++)
		if (post_number(&events, i) == 0)
			_exit(3);
	_exit(0);
}

static void many_writers_and_a_reader(void **state)
{
	struct ring *ring = *state;
	struct sb__events_reader reader;
	uint32_t last[WRITERS] = { 0 };
	pid_t pids[WRITERS];
	struct sb__event seen;
	uint64_t got = 0;
	unsigned running = WRITERS;

	sb__events_reader_init(&reader, &ring->events, 0);
	for (unsigned w = 0; w < WRITERS; w++) {
		pids[w] = fork();
		if (pids[w] == 0)
			write_for_ever(ring, PER_WRITER);
	}
	for (;;) {
		while (sb__events_read(&reader, &seen, NULL) == 1) {
			assert_true(whole(&seen));
			got++;
			for (unsigned w = 0; w < WRITERS; w++)
				if (pids[w] == seen.pid) {
					assert_true(seen.count > last[w]);
					last[w] = seen.count;
				}
		}
		if (running == 0)
			break;
		for (int status; waitpid(-1, &status, WNOHANG) > 0; running--)
			assert_int_equal(status, 0);
	}
	/* Of one writer all may have been overwritten before this process had its turn; not of all. */
	assert_true(got > 0);
	/* Every number was seen once, or is accounted for. No number is ever used twice, so none is missing. */
	assert_int_equal(got + reader.lost + reader.torn, sb__load(&ring->events.shm->head));
	assert_true(sb__load(&ring->events.shm->head) >= WRITERS * PER_WRITER);
	print_message("%" PRIu64 " events read, %" PRIu64 " overwritten, %" PRIu64 " torn\n", got,
	              reader.lost, reader.torn);
}

static void killed_writers_never_hide_the_others(void **state)
{
	struct ring *ring = *state;
	struct sb__events_reader reader;
	struct sb__event seen;
	uint64_t before;

	srand(11);
	for (int round = 0; round < 100; round++) {
		pid_t pid = fork();

		if (pid == 0)
			write_for_ever(ring, UINT32_MAX);
		usleep((useconds_t)(rand() % 1000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	before = sb__load(&ring->events.shm->head);
	for (uint32_t i = 1; i <= SB__EVENTS_RECORDS; i++)
		assert_true(post_number(&ring->events, i) > before);
	sb__events_reader_init(&reader, &ring->events, 0);
	for (uint32_t i = 0; sb__events_read(&reader, &seen, NULL); i++)
		assert_true(whole(&seen));
	assert_true(reader.torn <= 1); /* a last one that was claimed but for head */
}

static void foreign_bytes_do_no_harm(void **state)
{
	struct ring *ring = *state;
	struct sb__events_shm *shm = ring->events.shm;
	struct sb__events_reader reader;
	struct sb__events other;
	struct sb__event seen;

	post_number(&ring->events, 1);
	memset(shm->records[1].session_id, 0xff, sizeof(shm->records[1].session_id));
	memset(shm->records[1].reason, 'x', sizeof(shm->records[1].reason));
	shm->records[1].kind = 999;
	sb__events_reader_init(&reader, &ring->events, 0);
	assert_int_equal(sb__events_read(&reader, &seen, NULL), 1);
	assert_string_equal(seen.session_id, "");
	assert_int_equal(strlen(seen.reason), SB__EVENT_REASON_SIZE - 1);
	assert_string_equal(sb__event_kind_name(seen.kind), "?");
	sb__store(&shm->head, UINT64_MAX / 2); /* a head that no record knows of */
	while (sb__events_read(&reader, &seen, NULL) == 1)
		;
	assert_int_equal(sb__events_open(ring->dir, false, &other), 0);
	sb__events_close(&other);
	sb__store(&shm->version, 12345);
	assert_int_equal(sb__events_open(ring->dir, false, &other), SB_EVERSION);
	assert_int_equal(sb__events_open(ring->dir, true, &other), SB_EVERSION);
}

static void a_ring_that_is_not_made_yet_is_empty(void **state)
{
	struct ring *ring = *state;
	struct sb__events other;
	int fd;

	assert_int_equal(sb__os_unlinkat(ring->dir, "events", 0), 0);
	assert_int_equal(sb__events_open(ring->dir, false, &other), 1);
	fd = sb__os_openat(ring->dir, "events", O_RDWR | O_CREAT, 0600); /* its maker was killed here */
	sb__os_close(fd);
	assert_int_equal(sb__events_open(ring->dir, false, &other), 1);
	assert_int_equal(sb__events_open(ring->dir, true, &other), 0);
	assert_int_equal(post_number(&other, 1), 1);
	sb__events_close(&other);
}

/* ── who posts ── */

/* Appends "kind " of each event of a session to text. */
static void kinds_of(const char *dir, const char *session, char *text, size_t size)
{
	struct sb__bridge_dir bridge;
	struct sb__events events;
	struct sb__events_reader reader;
	struct sb__event e;

	text[0] = '\0';
	assert_int_equal(sb__bridge_dir_open(dir, false, &bridge), 0);
	assert_int_equal(sb__events_open(bridge.boot, false, &events), 0);
	sb__events_reader_init(&reader, &events, 0);
	while (sb__events_read(&reader, &e, NULL) == 1)
		if (strcmp(e.session_id, session) == 0)
			snprintf(text + strlen(text), size - strlen(text), "%s ",
			         sb__event_kind_name(e.kind));
	assert_int_equal(reader.lost + reader.torn, 0);
	sb__events_close(&events);
	sb__bridge_dir_close(&bridge);
}

static int join_and_leave(void *arg)
{
	struct fixture *f = arg;
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s;

	options.session_id = "life";
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	if (sb_session_open(f->bridge, &options, &s))
		return 1;
	sb_session_close(s);
	return 0;
}

static void a_session_s_life_is_told(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "life", SB_DESIGNATED_SELF);
	char kinds[256];

	assert_int_equal(fixture_wait(fixture_fork(join_and_leave, f)), 0);
	sb_session_close(s);
	kinds_of(f->dir, "life", kinds, sizeof(kinds));
	assert_string_equal(kinds, "create join leave leave release ");
	s = fixture_session(f->bridge, "other", SB_DESIGNATED_SELF);
	assert_ok(sb_session_release(f->bridge, "other", NULL));
	sb_session_close(s);
	kinds_of(f->dir, "other", kinds, sizeof(kinds));
	assert_string_equal(kinds, "create release ");
}

static int own_and_die(void *arg)
{
	sb_session *s = fixture_session(((struct fixture *)arg)->bridge, "mortal", SB_DESIGNATED_SELF);

	return s ? raise(SIGKILL) : 1;
}

/* The event of that kind in lines of JSON, about that process and session (0, NULL: any); NULL if there is none. */
static json_t *find_event(const char *lines, const char *kind, pid_t subject, const char *session)
{
	while (*lines) {
		size_t len = strcspn(lines, "\n");
		json_t *event = json_loadb(lines, len, 0, NULL);
		const char *id = json_string_value(json_object_get(event, "session"));

		assert_non_null(event);
		if (strcmp(json_string_value(json_object_get(event, "event")), kind) == 0 &&
		    (subject == 0 || json_integer_value(json_object_get(event, "subject_pid")) == subject) &&
		    (!session || (id && strcmp(id, session) == 0)))
			return event;
		json_decref(event);
		lines += len + (lines[len] == '\n');
	}
	return NULL;
}

static void a_death_and_its_tidying_are_told(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fixture_fork(own_and_die, f);
	json_t *event;
	char *output;

	assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	assert_int_equal(fixture_tool(f->dir, &output, "sb-reaper", "--once", NULL), 0);
	free(output);
	assert_int_equal(fixture_tool(f->dir, &output, "sb-inspect", "events", "--json", NULL), 0);
	event = find_event(output, "create", 0, "mortal");
	assert_non_null(event);
	assert_int_equal(json_integer_value(json_object_get(event, "pid")), pid);
	json_decref(event);
	event = find_event(output, "release", pid, "mortal");
	assert_non_null(event);
	assert_non_null(strstr(json_string_value(json_object_get(event, "reason")), "last owner"));
	json_decref(event);
	event = find_event(output, "reap", pid, NULL);
	assert_non_null(event);
	assert_true(json_integer_value(json_object_get(event, "pid")) != pid);
	json_decref(event);
	free(output);
}

static void the_tool_says_what_is_missing(void **state)
{
	struct fixture *f = *state;
	struct sb__bridge_dir bridge;
	struct sb__events events;
	char *output;

	assert_int_equal(sb__bridge_dir_open(f->dir, false, &bridge), 0);
	assert_int_equal(sb__events_open(bridge.boot, true, &events), 0);
	for (uint32_t i = 1; i <= SB__EVENTS_RECORDS + 10; i++)
		post_number(&events, i);
	assert_int_equal(fixture_tool(f->dir, &output, "sb-inspect", "events", "--since", "3", NULL), 0);
	assert_ptr_equal(strstr(output, "7 events were overwritten"), output); /* 4 to 10 */
	free(output);
	assert_int_equal(fixture_tool(f->dir, &output, "sb-inspect", "events", "--since", "1033", NULL), 0);
	assert_non_null(strstr(output, "evict    \"s1034\" 1034"));
	assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1); /* one line */
	free(output);
	sb__events_close(&events);
	sb__bridge_dir_close(&bridge);
}

static int follow(void *arg)
{
	struct fixture *f = arg;
	const char *build = getenv("SB_BUILD_DIR");
	char path[512], out[300];

	snprintf(path, sizeof(path), "%s/bin/sb-inspect", build ? build : ".");
	snprintf(out, sizeof(out), "%s/followed", f->dir);
	if (!freopen(out, "w", stdout))
		return 126;
	execl(path, path, "--dir", f->dir, "events", "--follow", "--json", (char *)NULL);
	return 127;
}

static void follow_goes_on(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fixture_fork(follow, f);
	char path[300], text[8192];
	json_t *event = NULL;

	sb_session_close(fixture_session(f->bridge, "seen", SB_DESIGNATED_SELF));
	snprintf(path, sizeof(path), "%s/followed", f->dir);
	for (int i = 0; i < 1000 && !event; i++) {
		FILE *file = fopen(path, "r");
		size_t len = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

		text[len] = '\0';
		while (len > 0 && text[len - 1] != '\n') /* a line that is being written */
			text[--len] = '\0';
		if (file)
			fclose(file);
		event = find_event(text, "release", 0, "seen");
		usleep(10000);
	}
	kill(pid, SIGTERM);
	assert_int_equal(fixture_wait(pid), 1000 + SIGTERM);
	assert_non_null(event);
	json_decref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tells_everything_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(long_texts_are_cut_between_characters, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_overwritten_is_counted_as_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(a_record_of_a_dead_writer_is_skipped_and_taken_again, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(a_stopped_writer_costs_its_record_only, setup, teardown),
		cmocka_unit_test_setup_teardown(many_writers_and_a_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(killed_writers_never_hide_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_bytes_do_no_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(a_ring_that_is_not_made_yet_is_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(a_session_s_life_is_told, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_death_and_its_tidying_are_told, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(the_tool_says_what_is_missing, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(follow_goes_on, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
