/* SPDX-License-Identifier: Apache-2.0 */
/* sb-inspect --watch under a pseudo terminal and without one: what it shows, its keys, and that the terminal is as it was. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <cmocka.h>

#include "clock.h"
#include "fixture.h"
#include "hand.h"

#define PATIENCE_MS 60000
#define LEAVES      "\033[?1049l" /* xterm: back from the full screen */

struct bench {
	char path[256];
	struct hand hand;
	struct sb__mailbox *mailbox;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct sb__session_rec rec;

	fixture_dir_make(b->path, sizeof(b->path));
	assert_ok(hand_attach(&b->hand, b->path));
	rec = hand_wish(&b->hand, "watched");
	assert_ok(hand_serve(&b->hand, &rec, true, &b->mailbox));
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

/* ── a terminal ── */

struct terminal {
	int fd;
	pid_t pid;
	char *text; /* all that was written */
	size_t len, cap;
	struct termios before;
};

static void terminal_start(struct terminal *t, const char *dir)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	char tool[512];
	int tty;

	snprintf(tool, sizeof(tool), "%s/bin/sb-inspect",
	         getenv("SB_BUILD_DIR") ? getenv("SB_BUILD_DIR") : ".");
	*t = (struct terminal){ .fd = -1 };
	fflush(NULL);
	if (openpty(&t->fd, &tty, NULL, NULL, &size)) { /* a container without /dev/pts */
		print_message("no pseudo terminal can be had here: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(tcgetattr(t->fd, &t->before), 0); /* the tool changes it as soon as it runs */
	t->pid = fork();
	if (t->pid == 0) {
		close(t->fd);
		login_tty(tty);
		setenv("TERM", "xterm", 1);
		setenv("LC_ALL", "C.UTF-8", 1);
		execl(tool, tool, "--dir", dir, "--watch", "0.1", (char *)NULL);
		_exit(127);
	}
	assert_true(t->pid > 0);
	close(tty);
}

/* Reads what there is within wait_ms. False: nothing more will come. */
static bool terminal_read(struct terminal *t, int wait_ms)
{
	struct pollfd in = { .fd = t->fd, .events = POLLIN };
	ssize_t n;

	if (poll(&in, 1, wait_ms) <= 0)
		return true;
	if (t->len + 4096 > t->cap) {
		t->cap = t->cap * 2 + 8192;
		t->text = realloc(t->text, t->cap);
		assert_non_null(t->text);
	}
	n = read(t->fd, t->text + t->len, 4095);
	if (n <= 0)
		return false;
	t->len += (size_t)n;
	t->text[t->len] = '\0';
	return true;
}

/* Waits until it was written. */
static void terminal_expect(struct terminal *t, const char *text)
{
	uint64_t end = sb__now_ms() + PATIENCE_MS;

	while (!t->text || !strstr(t->text, text)) {
		if (!terminal_read(t, 50) || sb__now_ms() > end) {
			print_error("no \"%s\" in: %s\n", text, t->text ? t->text : "");
			kill(t->pid, SIGKILL);
			fail();
		}
	}
}

static void terminal_forget(struct terminal *t)
{
	t->len = 0;
	if (t->text)
		t->text[0] = '\0';
}

/* Waits for its end; the terminal is as it was. Returns the status of wait(). */
static int terminal_end(struct terminal *t)
{
	struct termios after;
	int status = 0;
	uint64_t end = sb__now_ms() + PATIENCE_MS;
	bool more = true;

	while (more && !strstr(t->text, LEAVES) && sb__now_ms() < end)
		more = terminal_read(t, 50);
	while (waitpid(t->pid, &status, WNOHANG) == 0) {
		(void)terminal_read(t, 20);
		if (sb__now_ms() > end) {
			kill(t->pid, SIGKILL);
			fail_msg("%s", "it does not end");
		}
	}
	assert_non_null(strstr(t->text, LEAVES));
	assert_int_equal(tcgetattr(t->fd, &after), 0);
	assert_int_equal(after.c_lflag, t->before.c_lflag);
	assert_int_equal(after.c_iflag, t->before.c_iflag);
	assert_int_equal(after.c_oflag, t->before.c_oflag);
	close(t->fd);
	free(t->text);
	return status;
}

static void test_screen(void **state)
{
	struct bench *b = *state;
	struct sb__mailbox_control_shm *control = sb__mailbox_control(b->mailbox);
	struct terminal t;
	int status;

	terminal_start(&t, b->path);
	terminal_expect(&t, "CALLS/S");
	terminal_expect(&t, "watched");
	terminal_expect(&t, "by calls");
	terminal_expect(&t, "1 of 1 sessions");
	/* Some between each look and the next; one look may see the half of it. */
	for (uint64_t n = 1, end = sb__now_ms() + PATIENCE_MS; !strstr(t.text, "250 us"); n++) {
		sb__store(&control->calls, n * 1000);
		sb__store(&control->service_ns, n * 250000000);
		assert_true(terminal_read(&t, 300) && sb__now_ms() < end);
	}
	terminal_expect(&t, "█");
	terminal_forget(&t);
	assert_int_equal(write(t.fd, "s", 1), 1);
	terminal_expect(&t, "latency");
	assert_int_equal(write(t.fd, "q", 1), 1);
	status = terminal_end(&t);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_signals(void **state)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	struct bench *b = *state;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct terminal t;
		int status;

		terminal_start(&t, b->path);
		terminal_expect(&t, "watched");
		terminal_expect(&t, "1 of 1");
		assert_int_equal(kill(t.pid, numbers[i]), 0);
		status = terminal_end(&t);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), numbers[i]);
	}
}

static void test_smaller_screens(void **state)
{
	static const struct winsize sizes[] = { { .ws_row = 3, .ws_col = 20 },
		                                { .ws_row = 1, .ws_col = 1 },
		                                { .ws_row = 60, .ws_col = 250 } };
	struct bench *b = *state;
	struct winsize size;
	struct terminal t;
	int status;

	terminal_start(&t, b->path);
	terminal_expect(&t, "1 of 1 sessions");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size = sizes[i];
		assert_int_equal(ioctl(t.fd, TIOCSWINSZ, &size), 0);
		for (int j = 0; j < 5; j++)
			assert_true(terminal_read(&t, 100));
	}
	assert_int_equal(write(t.fd, "q", 1), 1);
	status = terminal_end(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ── no terminal ── */

/* Looks for some tenths of a second; for longer where that was not enough for two looks. The caller frees. */
static unsigned count_looks(const struct bench *b, bool json, const char *each, char **ret_output)
{
	unsigned looks = 0;
	char seconds[16];

	for (double s = 0.35; looks < 2 && s < 60; s *= 4) {
		free(*ret_output);
		snprintf(seconds, sizeof(seconds), "%.2f", s);
		assert_int_equal(fixture_tool(b->path, ret_output, "sb-inspect", "--watch", "0.1",
		                              "--timeout", seconds, json ? "--json" : NULL, NULL),
		                 0);
		looks = 0;
		for (const char *at = *ret_output; (at = strstr(at, each)); at++)
			looks++;
	}
	return looks;
}

static void test_lines(void **state)
{
	struct bench *b = *state;
	char *output = NULL, *line, *save = NULL;

	assert_true(count_looks(b, false, "\nwatched ", &output) >= 2);
	assert_null(strchr(output, '\033'));
	assert_true(count_looks(b, true, "\n", &output) >= 2);
	for (line = strtok_r(output, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *json = json_loads(line, 0, NULL);

		assert_non_null(json);
		assert_int_equal(json_integer_value(json_object_get(json, "schema")), 1);
		assert_int_equal(json_array_size(json_object_get(json, "sessions")), 1);
		json_decref(json);
	}
	free(output);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--watch", "0", NULL), 2);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--watch", "often", NULL), 2);
	assert_int_equal(fixture_tool(b->path, NULL, "sb-inspect", "--watch", "--sort", "colour", NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_screen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_smaller_screens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
	};

	return cmocka_run_group_tests_name("inspect_watch", tests, NULL, NULL);
}
