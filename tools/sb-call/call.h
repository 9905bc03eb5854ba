/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sb-call share. Functions that return int return 0 or an exit status, having written why. */
#ifndef SB_TOOLS_CALL_CALL_H
#define SB_TOOLS_CALL_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "npy.h"
#include "options.h"
#include "session.h"
#include "snakebridge/snakebridge.h"

extern const struct tool call_tool;

struct call_settings {
	struct tool_common common;
	struct tool_session session;
	bool not_persistent, attach_only, as_ref, plain, batch, stop_on_error;
	int64_t fetch; /* items of a stream in one round trip; 0: as many as come */
	int64_t limit; /* items of a stream; 0: all */
	const char *out;
};
extern struct call_settings call_settings;

/* Writes the library's last error. Returns the exit status that goes with it. */
int call_library_error(void);

/* ── what a word stands for (source.c) ── */

/* A file or stdin, of which the beginning was read: it is an array, or else JSON text. */
struct call_source {
	FILE *file; /* of an array: at its first element */
	struct tool_npy npy;
	char *text; /* of JSON, NUL-terminated */
};

/* Does the word name a file ("@data.npy") or stdin ("-")? */
bool call_source_is(const char *word);
int call_source_open(const char *word, struct call_source *ret);
void call_source_close(struct call_source *source);

/* JSON text. what and word: how messages call it. */
int call_read_json(const char *text, const char *what, const char *word, sb_value **ret);

/* ── what is to be done (request.c) ── */

struct call_argument {
	char *name;      /* NULL: positional */
	sb_value *value; /* NULL: an array, of source */
	struct call_source source;
	const char *word;
	char *file; /* that word, where it is the argument's own */
};

struct call_job {
	char **words; /* after the verb */
	int count;
	sb_request request; /* args only once they are complete */
	sb_ref ref;         /* of request.target */
	sb_session_options options;
	bool has_ref;
	bool stream; /* its result is a stream */
	char *name;  /* of request.name, where it is not a word */
	char *out;   /* the file for its result */
	struct call_argument *arguments;
	size_t argument_count;
};
void call_job_free(struct call_job *job);

/* Before the bridge is touched: the words of a verb. */
int call_prepare_path(struct call_job *job);
int call_prepare_object(struct call_job *job);
int call_prepare_operands(struct call_job *job);
int call_prepare_release(struct call_job *job);
int call_prepare_request(struct call_job *job);

/* A request as a dict: the keys of sb_request. where: how messages call it. */
int call_job_from_value(struct call_job *job, const sb_value *value, const char *where);
/* The arguments become the request's; arrays are read into the session's memory. */
int call_job_complete(struct call_job *job, sb_session *session);
bool call_job_needs_session(const struct call_job *job); /* for that */

/* ── sessions (join.c) ── */

/* Joins the job's session as it is, else makes it. 0 or the library's error, which was not written. */
int call_session_open(sb_bridge *bridge, const struct call_job *job, sb_session **ret);
/* The session is not there, but it could be made. */
bool call_session_can_be_made(int err);

/* ── running (run.c, batch.c) ── */

int call_run(sb_bridge *bridge, struct call_job *job); /* in the job's session */
int call_run_release_session(sb_bridge *bridge, struct call_job *job);
/* The requests in a file, or stdin; opens the bridge once they are read. */
int call_batch(const char *file);
int call_open_bridge(sb_bridge **ret);

/* ── a stream (stream.c) ── */

int call_stream(sb_session *session, struct call_job *job);

/* ── an array into a file (out.c) ── */

int call_write_array(const sb_value *value, const char *path);

#endif
