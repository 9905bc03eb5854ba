/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --batch: a request a line, all of them in one round trip, and what became of each as a line. All lines are read and
 * understood before the first runs.
 *
 * Crash: as any caller's. What had begun may have run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "json.h"
#include "output.h"
#include "report.h"

struct batch {
	sb_batch *items;
	char **outs; /* of each item: the file for its result, or NULL */
	size_t count, line;
	sb_bridge *bridge; /* opened for the first array, or else to run */
	sb_session *session;
	struct call_job where; /* its ref: the first target, which says which session is meant */
};

/* A target that is not an earlier item's result. */
static void note_session(struct batch *b, const struct call_job *job)
{
	const sb_ref item = sb_batch_ref(0);

	if (b->where.has_ref || !job->has_ref || strcmp(job->ref.session_id, item.session_id) == 0)
		return;
	b->where.ref = job->ref;
	b->where.has_ref = true;
}

/* For an array among the arguments, which is read into the session's memory: before all lines are read, but nothing runs. */
static int open_session(struct batch *b)
{
	int status;

	if (b->session)
		return 0;
	status = tool_session_fill(&call_tool, &call_settings.session, &b->where.options);
	if (!status && !call_settings.session.id && !b->where.has_ref)
		status = tool_usage(&call_tool, "no session is named; give --session ID");
	if (!status)
		status = call_open_bridge(&b->bridge);
	if (!status && call_session_open(b->bridge, &b->where, &b->session))
		status = call_library_error();
	return status;
}

static int add_request(struct batch *b, struct call_job *job)
{
	char **outs = realloc(b->outs, (b->count + 1) * sizeof(*outs));
	int status = 0, err;

	if (!outs)
		return tool_usage(&call_tool, "out of memory");
	b->outs = outs;
	note_session(b, job);
	if (call_job_needs_session(job))
		status = open_session(b);
	if (!status)
		status = call_job_complete(job, b->session);
	if (status)
		return status;
	job->request.flags |= (call_settings.as_ref ? SB_CALL_AS_REF : 0) |
	                      (call_settings.plain ? SB_CALL_PLAIN : 0);
	err = sb_batch_add(b->items, &job->request, NULL);
	job->request.args = NULL; /* consumed */
	if (err)
		return tool_usage(&call_tool, "line %zu: %s", b->line, sb_last_error()->message);
	b->outs[b->count++] = job->out;
	job->out = NULL;
	return 0;
}

static int add_line(struct batch *b, char *text)
{
	struct call_job job = { .request = SB_REQUEST_INIT };
	char where[32], error[TOOL_JSON_ERROR_MAX];
	sb_value *value = NULL;
	int status;

	b->line++;
	if (text[strspn(text, " \t\r")] == '\0')
		return 0;
	snprintf(where, sizeof(where), "line %zu", b->line);
	if (tool_json_read(text, &value, error))
		return tool_usage(&call_tool, "%s: %s", where, error);
	status = call_job_from_value(&job, value, where);
	sb_value_free(value);
	if (!status)
		status = add_request(b, &job);
	call_job_free(&job);
	return status;
}

static int read_lines(struct batch *b, char *text)
{
	int status = 0;

	for (char *end; text && !status; text = end) {
		end = strchr(text, '\n');
		if (end)
			*end++ = '\0';
		status = add_line(b, text);
	}
	return status;
}

/* {"item": 0, "result": …} or {"item": 0, "error": {…}}. The exit status that the item alone would have given. */
static int print_outcome(const struct batch *b, size_t item)
{
	bool quiet = call_settings.common.quiet;
	sb_value *value = NULL;
	int status = 0;

	if (sb_batch_result(b->items, item, &value))
		status = tool_exit_status(sb_last_error());
	else if (b->outs[item] && (status = call_write_array(value, b->outs[item])) != 0)
		quiet = true; /* it said why */
	if (!quiet)
		printf("{\"item\": %zu, \"%s\": ", item, status ? "error" : "result");
	if (!quiet && status)
		tool_error_write(stdout, sb_last_error());
	else if (!quiet)
		tool_json_write(stdout, value);
	if (!quiet)
		puts("}");
	sb_value_free(value);
	return status;
}

static int run(struct batch *b)
{
	int status = open_session(b), first = 0;

	if (!status && sb_batch_run(b->session, b->items, 0))
		status = call_library_error();
	for (size_t i = 0; i < b->count && !status; i++) {
		int outcome = print_outcome(b, i);

		if (outcome && !first)
			first = outcome;
	}
	return status ? status : tool_finish(&call_tool, first);
}

/* Arrays go back before the session and its bridge are closed. */
static void close_all(struct batch *b)
{
	sb_batch_free(b->items);
	for (size_t i = 0; i < b->count; i++)
		free(b->outs[i]);
	free(b->outs);
	sb_session_close(b->session);
	sb_bridge_close(b->bridge);
}

int call_batch(const char *file)
{
	struct batch b = { .where = { .request = SB_REQUEST_INIT, .options = SB_SESSION_OPTIONS_INIT } };
	struct call_source source = { .file = NULL };
	size_t n = strlen(file) + 2;
	char *word = malloc(n);
	int status;

	if (!word || sb_batch_new(call_settings.stop_on_error ? SB_BATCH_STOP_ON_ERROR : 0, &b.items)) {
		free(word);
		return tool_usage(&call_tool, "out of memory");
	}
	snprintf(word, n, "@%s", file);
	status = call_source_open(word, &source);
	if (!status && !source.text)
		status = tool_usage(&call_tool, "'%s': an array is not a request", file);
	if (!status)
		status = read_lines(&b, source.text);
	if (!status && b.count > 0)
		status = run(&b);
	call_source_close(&source);
	close_all(&b);
	free(word);
	return status;
}
