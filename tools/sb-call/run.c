/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call, and its result as a line of JSON.
 *
 * Crash: as any caller's: its lane and its ownership go at the next reaper pass.
 */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "json.h"
#include "output.h"
#include "report.h"

int call_library_error(void)
{
	return tool_report(&call_tool, sb_last_error());
}

int call_open_bridge(sb_bridge **ret)
{
	sb_bridge_options options = SB_BRIDGE_OPTIONS_INIT;

	options.python_executable = call_settings.session.python;
	options.timeout_ms = (uint32_t)call_settings.common.timeout_ms;
	return sb_bridge_open(call_settings.common.dir, &options, ret) ? call_library_error() : 0;
}

static int print_value(const sb_value *value)
{
	if (call_settings.common.quiet)
		return TOOL_EXIT_OK;
	tool_json_write(stdout, value);
	putchar('\n');
	return tool_finish(&call_tool, TOOL_EXIT_OK);
}

static int print_fact(const char *key, const char *fact)
{
	if (!call_settings.common.quiet)
		printf("{\"%s\": %s}\n", key, fact);
	return TOOL_EXIT_OK;
}

static int run_request(sb_session *session, struct call_job *job)
{
	const char *out = call_settings.out ? call_settings.out : job->out;
	sb_value *value = NULL;
	int status = call_job_complete(job, session), err;

	if (status)
		return status;
	job->request.flags |= (call_settings.as_ref ? SB_CALL_AS_REF : 0) |
	                      (call_settings.plain ? SB_CALL_PLAIN : 0);
	err = sb_invoke(session, &job->request, &value);
	job->request.args = NULL; /* consumed */
	if (err)
		return call_library_error();
	if (out)
		status = call_write_array(value, out);
	if (!status && (!out || strcmp(out, "-") != 0))
		status = print_value(value);
	sb_value_free(value);
	return status;
}

/* Texts of the library's own: type names and session ids, which may hold anything but control characters. */
static void print_text(const char *key, const char *text)
{
	sb_value *value = NULL;

	printf("\"%s\": ", key);
	if (sb_value_pack(&value, "s", text) == 0)
		tool_json_write(stdout, value);
	else
		printf("null");
	printf(", ");
	sb_value_free(value);
}

static int run_info(sb_session *session, struct call_job *job)
{
	sb_ref_info info = { .size = sizeof(info) };

	if (sb_ref_get_info(session, &job->ref, &info))
		return call_library_error();
	if (call_settings.common.quiet)
		return TOOL_EXIT_OK;
	putchar('{');
	print_text("type", info.type_name);
	print_text("module", info.type_module);
	print_text("session", info.session_id);
	printf("\"incarnation\": \"%llu\", \"creator_pid\": %d, \"pins\": %u, \"age_ms\": %lld, \"idle_ms\": "
	       "%lld}\n",
	       (unsigned long long)info.incarnation, (int)info.creator_pid, info.pins, (long long)info.age_ms,
	       (long long)info.idle_ms);
	return TOOL_EXIT_OK;
}

static int run_release(sb_session *session, struct call_job *job)
{
	bool dropped = false;

	if (sb_ref_release(session, &job->ref, &dropped))
		return call_library_error();
	return print_fact("dropped", dropped ? "true" : "false");
}

static int run_in(sb_session *session, struct call_job *job)
{
	if (job->stream)
		return call_stream(session, job);
	switch (job->request.verb) {
	case SB_VERB_RELEASE: return run_release(session, job);
	case SB_VERB_CHECK: return run_info(session, job);
	default: return run_request(session, job);
	}
}

int call_run(sb_bridge *bridge, struct call_job *job)
{
	sb_session *session = NULL;
	int status;

	if (call_session_open(bridge, job, &session) == 0) {
		status = run_in(session, job);
	} else if (job->request.verb == SB_VERB_RELEASE && !call_settings.session.id &&
	           call_session_can_be_made(sb_last_error()->code)) {
		status = print_fact("dropped", "false"); /* gone with its session, which is fine */
	} else {
		status = call_library_error();
	}
	call_job_free(job); /* arrays go back before the session and its bridge are closed */
	sb_session_close(session);
	return status;
}

int call_run_release_session(sb_bridge *bridge, struct call_job *job)
{
	int released = 0;

	if (sb_session_release(bridge, job->words[0], &released))
		return call_library_error();
	return print_fact("released", released ? "1" : "0");
}
