/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log file is followed in the owner, and read line by line from C.
 *
 * A Python generator does what tail -f does. It runs in a dedicated owner process, and only while somebody waits for a line.
 * This program writes the log in bursts and reads it as a stream: the lines of a burst come at once, together, and none waits
 * for the next burst. Quiet times end in SB_ETIMEOUT, which loses nothing. A forked worker reads the same stream: each line
 * goes to one of the two. Closing the stream runs the generator's finally block, which tells what it has seen.
 *
 * Exits 0 only if every part went as told.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <snakebridge/snakebridge.h>

static char directory[] = "/tmp/snakebridge-follow-XXXXXX";
static char log_path[64];

static const char follower[] = "import time\n"
			       "seen = {'lines': 0, 'closed': False}\n"
			       "def follow(path):\n"
			       "    with open(path) as file:\n"
			       "        try:\n"
			       "            while True:\n"
			       "                line = file.readline()\n"
			       "                if line.endswith('\\n'):\n"
			       "                    seen['lines'] += 1\n"
			       "                    yield line.rstrip('\\n')\n"
			       "                else:\n"
			       "                    file.seek(file.tell() - len(line.encode()))\n"
			       "                    time.sleep(0.01)\n"
			       "        finally:\n"
			       "            seen['closed'] = True\n";

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static void fail(const char *what)
{
	printf("follow_log: FAILED: %s: %s (%s)\n%s", what, sb_last_error()->message,
	       sb_error_name(sb_last_error()->code), sb_last_error()->python_traceback);
	fflush(stdout);
	_exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		fail(what);
}

static void expect(int true_or_not, const char *what)
{
	if (!true_or_not)
		fail(what);
}

static void remove_all(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s' '%s'", directory, log_path);
	if (system(command))
		say("follow_log: %s stays", directory);
}

/* Lines of a burst, in one write. */
static void log_burst(int first, int count)
{
	FILE *log = fopen(log_path, "a");

	expect(log != NULL, "the log");
	for (int i = first; i < first + count; i++)
		fprintf(log, "request %d served\n", i);
	fclose(log);
}

/* The generator's function in the owner's names, called: a stream. */
static sb_iter *follow(sb_session *session, const sb_ref *names, const sb_iter_options *options)
{
	sb_request call = SB_REQUEST_INIT;
	sb_iter *lines = NULL;

	call.name = "builtins:eval";
	call.args = sb_args("sr", "follow(path)", names);
	must(sb_iter_call(session, &call, options, &lines), "follow");
	return lines;
}

/* Reads so many lines, and says them. */
static void read_lines(sb_iter *lines, int first, int count)
{
	char expected[64];

	SB_FOR_EACH(line, lines)
	{
		snprintf(expected, sizeof(expected), "request %d served", first);
		expect(strcmp(sb_value_str(line, NULL), expected) == 0, expected);
		say("  %s", expected);
		first++;
		if (--count == 0)
			break;
	}
	must(sb_iter_error(lines), "reading a line");
}

/* A worker: reads what it can get of the shared stream for a while. Its exit status: how many lines. */
static int work(sb_session *session, const sb_ref *stream, int most)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;
	sb_iter *lines = NULL;
	int got = 0;

	options.batch = 1; /* so that others get their share */
	options.timeout_ms = 60000;
	must(sb_iter_attach(session, stream, &options, &lines), "attaching");
	SB_FOR_EACH(line, lines)
	{
		got++;
		if (got == most)
			break;
	}
	sb_iter_detach(lines);
	return got;
}

static void share(sb_session *session, sb_iter *lines, int first)
{
	int status = 0, ours, theirs;
	pid_t pid = fork();

	if (pid == 0)
		_exit(work(session, sb_iter_ref(lines), 5));
	log_burst(first, 10);
	ours = work(session, sb_iter_ref(lines), 5);
	expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the worker");
	theirs = WEXITSTATUS(status);
	say("ten more lines: %d came here, %d to worker %d, none to both", ours, theirs, (int)pid);
	expect(ours + theirs == 10, "ten lines for two readers");
}

/* A further reader, which has less patience. */
static void quiet(sb_session *session, const sb_ref *stream)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;
	const sb_value *line = NULL;
	sb_iter *hasty = NULL;

	options.timeout_ms = 300;
	must(sb_iter_attach(session, stream, &options, &hasty), "attaching");
	expect(sb_iter_lend(hasty, &line) == SB_ETIMEOUT, "a quiet log");
	sb_iter_detach(hasty);
	say("the log is quiet: %s", sb_last_error()->message);
}

static void finish(sb_session *session, const sb_ref *names, sb_iter *lines)
{
	sb_value *seen = NULL;
	int64_t count = 0;

	sb_iter_close(lines);
	must(sb_call(session, "builtins:eval", sb_args("sr", "[seen['closed'], seen['lines']]", names),
	             &seen),
	     "seen");
	must(sb_value_int(sb_value_at(seen, 1), &count), "the count");
	expect(sb_value_kind(sb_value_at(seen, 0)) == SB_KIND_BOOL && count == 19, "what the generator saw");
	sb_value_free(seen);
	say("closed: the generator's finally block ran, after %d lines", (int)count);
}

static void run(sb_session *session)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;
	sb_request make = SB_REQUEST_INIT;
	sb_value *names = NULL;
	const sb_ref *ref;
	sb_iter *lines;

	make.name = "builtins:dict";
	make.args = sb_args("path=s", log_path);
	make.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &make, &names), "names");
	ref = sb_value_ref(names);
	must(sb_call(session, "builtins:exec", sb_args("sr", follower, ref), NULL), "the generator");

	options.timeout_ms = 60000;
	log_burst(1, 4);
	lines = follow(session, ref, &options);
	say("a burst of four lines, though a batch has room for more:");
	read_lines(lines, 1, 4);
	quiet(session, sb_iter_ref(lines));
	log_burst(5, 5);
	say("five more:");
	read_lines(lines, 5, 5);
	share(session, lines, 10);
	finish(session, ref, lines);
	sb_value_free(names);
}

int main(void)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge = NULL;
	sb_session *session = NULL;

	expect(mkdtemp(directory) != NULL, "a directory");
	snprintf(log_path, sizeof(log_path), "%s.log", directory);
	must(sb_bridge_open(directory, NULL, &bridge), "sb_bridge_open");
	options.session_id = "tail";
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &session), "sb_session_open");
	run(session);
	must(sb_session_release(bridge, "tail", NULL), "sb_session_release");
	sb_session_close(session);
	sb_bridge_close(bridge);
	remove_all();
	say("follow_log: ok");
	return 0;
}
