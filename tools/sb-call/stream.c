/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items of a stream, each a line of JSON, written as soon as it is there.
 *
 * The stream is closed whatever ends the command: its end, --limit, an error, SIGINT, SIGTERM, or that nobody reads our output
 * any more, which is looked at also while no item comes.
 *
 * Crash: the stream stays in the session until it is evicted or expires.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "json.h"
#include "output.h"

#define SLICE_MS 200

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
	signalled = number;
}

static void set_handler(int number, void (*handler)(int))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	sigaction(number, &action, NULL);
}

/* Has whoever read our output gone away? */
static bool nobody_reads(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO };

	return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

/* So that nothing of what is left in the buffer is complained of at the end. */
static void forget_output(void)
{
	clearerr(stdout);
	if (!freopen("/dev/null", "w", stdout))
		clearerr(stdout);
}

/* One line. *ret_gone: nobody reads it. */
static int print_item(const sb_value *item, bool *ret_gone)
{
	if (call_settings.common.quiet)
		return 0;
	tool_json_write(stdout, item);
	putchar('\n');
	errno = 0;
	if (fflush(stdout) != 0 && errno == EPIPE) {
		*ret_gone = true;
		return 0;
	}
	return tool_finish(&call_tool, TOOL_EXIT_OK);
}

/* Is that all the time that --timeout gives an item? */
static bool too_long(int64_t waited_ms)
{
	return call_settings.common.timeout_ms > 0 && waited_ms >= call_settings.common.timeout_ms;
}

static int print_items(sb_iter *iter)
{
	int64_t left = call_settings.limit ? call_settings.limit : INT64_MAX, waited_ms = 0;
	bool gone = false;
	int status = 0;

	while (!status && !gone && !signalled && left > 0) {
		const sb_value *item = NULL;
		int rc = sb_iter_lend(iter, &item);

		if (rc == 0)
			break;
		if (rc == 1) {
			status = print_item(item, &gone);
			waited_ms = 0;
			left--;
		} else if (rc == SB_ETIMEOUT && !too_long(waited_ms += SLICE_MS)) {
			gone = nobody_reads();
		} else {
			status = call_library_error();
		}
	}
	if (gone)
		forget_output();
	return status;
}

static int open_stream(sb_session *session, struct call_job *job, sb_iter **ret)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;
	int status = call_job_complete(job, session), err;

	if (status)
		return status;
	options.batch = (size_t)call_settings.fetch;
	options.timeout_ms = SLICE_MS;
	options.call_flags = (call_settings.as_ref ? SB_CALL_AS_REF : 0) |
	                     (call_settings.plain ? SB_CALL_PLAIN : 0);
	if (job->request.verb == SB_VERB_ITER) {
		err = sb_iter_open(session, &job->ref, &options, ret);
	} else {
		err = sb_iter_call(session, &job->request, &options, ret);
		job->request.args = NULL; /* consumed */
	}
	return err ? call_library_error() : 0;
}

int call_stream(sb_session *session, struct call_job *job)
{
	sb_iter *iter = NULL;
	int status;

	set_handler(SIGPIPE, SIG_IGN);
	set_handler(SIGINT, on_signal);
	set_handler(SIGTERM, on_signal);
	status = open_stream(session, job, &iter);
	if (!status)
		status = print_items(iter);
	sb_iter_close(iter);
	if (signalled) {
		fflush(stdout);
		set_handler(signalled, SIG_DFL);
		raise(signalled);
	}
	return status;
}
