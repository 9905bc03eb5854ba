/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes errors to stderr. Nothing here goes to stdout: a tool that fails has written nothing there.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char *outcome_name(int outcome)
{
	switch (outcome) {
	case SB_OUTCOME_EXCEPTION: return "exception";
	case SB_OUTCOME_REFUSED: return "refused";
	case SB_OUTCOME_UNKNOWN: return "unknown";
	default: return "none";
	}
}

int tool_exit_status(const sb_error *error)
{
	switch (error->outcome) {
	case SB_OUTCOME_EXCEPTION: return TOOL_EXIT_FINDINGS;
	case SB_OUTCOME_UNKNOWN: return TOOL_EXIT_UNKNOWN;
	default: break;
	}
	switch (error->code) {
	case SB_EVERSION: return TOOL_EXIT_VERSION;
	case SB_ECORRUPT:
	case SB_EPROTOCOL: return TOOL_EXIT_CORRUPT;
	case SB_EINVAL:
	case SB_EID:
	case SB_EOPTION:
	case SB_EREFMALFORMED:
		/* Of a call they mean that the owner refused it; else that the command line was wrong. */
		return error->outcome == SB_OUTCOME_REFUSED ? TOOL_EXIT_REFUSED : TOOL_EXIT_USAGE;
	case SB_EDIR:
	case SB_EOWNER:
	case SB_EMODE:
	case SB_ENAMESPACE:
	case SB_ESTORE:
	case SB_EPROCESSES:
	case SB_ENOBRIDGE:
	case SB_ENOSPACE:
	case SB_ENOMEM:
	case SB_ESYSTEM:
	case SB_ESTART:
	case SB_ENOPYTHON: return error->outcome == SB_OUTCOME_REFUSED ? TOOL_EXIT_REFUSED : TOOL_EXIT_ATTACH;
	default: return TOOL_EXIT_REFUSED;
	}
}

/* Adds key: text unless it is empty. Text from elsewhere may be no UTF-8, which jansson refuses: then "?". */
static void add_text(json_t *object, const char *key, const char *text)
{
	json_t *string;

	if (!text || !text[0])
		return;
	string = json_string(text);
	json_object_set_new(object, key, string ? string : json_string("?"));
}

/* {"schema":1,"error":…} as one line; takes error over. */
static void write_json(json_t *error)
{
	json_t *root = json_pack("{s:i, s:o}", "schema", 1, "error", error);

	if (!root || json_dumpf(root, stderr, JSON_COMPACT))
		fputs("{\"schema\":1,\"error\":{\"code\":\"SB_ENOMEM\"}}", stderr);
	fputc('\n', stderr);
	json_decref(root);
}

static json_t *error_object(const sb_error *e)
{
	json_t *error = json_object();
	char trace[24];

	add_text(error, "code", sb_error_name(e->code));
	json_object_set_new(error, "number", json_integer(e->code));
	add_text(error, "outcome", outcome_name(e->outcome));
	add_text(error, "message", e->message);
	add_text(error, "advice", sb_error_advice(e->code));
	json_object_set_new(error, "errno", json_integer(e->sys_errno));
	if (e->trace_id) {
		snprintf(trace, sizeof(trace), "%" PRIu64, e->trace_id);
		add_text(error, "trace_id", trace);
	}
	add_text(error, "session", e->session_id);
	add_text(error, "other_session", e->other_session_id);
	if (e->python_type[0]) {
		json_t *python = json_object();

		add_text(python, "type", e->python_type);
		add_text(python, "message", e->python_message);
		add_text(python, "traceback", e->python_traceback);
		json_object_set_new(error, "python", python);
	}
	return error;
}

void tool_error_write(FILE *to, const sb_error *error)
{
	json_t *object = error_object(error);

	if (!object || json_dumpf(object, to, 0))
		fputs("{\"code\": \"SB_ENOMEM\"}", to);
	json_decref(object);
}

static void report_text(const struct tool *tool, const sb_error *e)
{
	size_t n = strlen(e->python_traceback);

	fprintf(stderr, "%s: %s\n", tool->name, e->message[0] ? e->message : sb_strerror(e->code));
	if (n > 0)
		fprintf(stderr, "%s%s", e->python_traceback, e->python_traceback[n - 1] == '\n' ? "" : "\n");
}

int tool_report(const struct tool *tool, const sb_error *error)
{
	if (tool->common->json)
		write_json(error_object(error));
	else
		report_text(tool, error);
	return tool_exit_status(error);
}

void tool_report_usage(const struct tool *tool, const char *message)
{
	if (tool->common->json) {
		json_t *error = json_object();

		add_text(error, "code", "usage");
		add_text(error, "outcome", "refused");
		add_text(error, "message", message);
		write_json(error);
		return;
	}
	fprintf(stderr, "%s: %s\nTry '%s --help'.\n", tool->name, message, tool->name);
}
