/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-call: calls on a session, from the shell. Arguments and results are JSON, or arrays in files. This file: the command
 * line. sb-call/request.c parses what it says; run.c and batch.c there run it.
 *
 * It is an ordinary user of the library. The sessions that it creates are dedicated and persistent, so that a ref
 * outlives the command that printed it; an existing session is joined as it is. It never becomes a
 * designated owner: it exits too soon.
 *
 * Crash: as any caller's: its lane and its ownership go at the next reaper pass; a persistent session stays.
 */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "output.h"

struct call_settings call_settings = {
	.common = TOOL_COMMON_INIT,
	.session = TOOL_SESSION_INIT,
};

/* Tables: a line is an entry. */
/* clang-format off */
static const struct tool_option session_options[] = {
	{ .name = "session", .letter = 's', .argument = "ID", .type = TOOL_TEXT, .target = &call_settings.session.id,
	  .help = "the session to call in; not needed with a ref, which names its own" },
	{ .name = "attach-only", .type = TOOL_FLAG, .target = &call_settings.attach_only,
	  .help = "fail if there is no such session, instead of creating it" },
	{ .name = "not-persistent", .type = TOOL_FLAG, .target = &call_settings.not_persistent,
	  .help = "let the session end with its last owner, which may be this command" },
	TOOL_SESSION_OPTIONS(call_settings.session),
	{ 0 }
};

static const struct tool_option call_options[] = {
	{ .name = "as-ref", .letter = 'r', .type = TOOL_FLAG, .target = &call_settings.as_ref,
	  .help = "leave the result where it is, whatever it is, and print a ref" },
	{ .name = "plain", .type = TOOL_FLAG, .target = &call_settings.plain,
	  .help = "print the plain base value of a Counter, OrderedDict, namedtuple, IntEnum, ... instead of a ref" },
	{ .name = "out", .letter = 'o', .argument = "FILE", .type = TOOL_TEXT, .target = &call_settings.out,
	  .help = "write the result, an array, to this file as numpy.save() does; - for stdout, without a line of JSON" },
	{ .name = "fetch", .argument = "N", .type = TOOL_WHOLE, .target = &call_settings.fetch, .min = 1,
	  .max = SB_ITER_BATCH_MAX,
	  .help = "the most items that iter and stream fetch in one round trip (default: as many as come in time)" },
	{ .name = "limit", .argument = "N", .type = TOOL_WHOLE, .target = &call_settings.limit, .min = 1, .max = INT64_MAX,
	  .help = "the most items that iter and stream print; then the stream is closed" },
	{ .name = "batch", .type = TOOL_FLAG, .target = &call_settings.batch,
	  .help = "run the requests in FILE, or on stdin, one per line, in one round trip" },
	{ .name = "stop-on-error", .type = TOOL_FLAG, .target = &call_settings.stop_on_error,
	  .help = "with --batch: run nothing after the first request that fails" },
	{ 0 }
};

static const struct tool_option shared_options[] = { TOOL_COMMON_OPTIONS(call_settings.common), { 0 } };

static const struct tool_group groups[] = {
	{ "Session", session_options }, { "Call", call_options }, { "Common options", shared_options }, { 0 }
};

const struct tool call_tool = {
	.name = "sb-call",
	.usage = "[options] --session ID call PATH [ARG...]\n"
		 "[options] --session ID get PATH\n"
		 "[options] method REF NAME [ARG...]\n"
		 "[options] attr REF NAME\n"
		 "[options] set REF NAME VALUE\n"
		 "[options] getitem REF KEY\n"
		 "[options] setitem REF KEY VALUE\n"
		 "[options] delitem REF KEY\n"
		 "[options] contains REF ITEM\n"
		 "[options] len|hash|repr|str REF\n"
		 "[options] --session ID stream PATH [ARG...]\n"
		 "[options] iter REF\n"
		 "[options] pin|unpin|info REF\n"
		 "[options] release REF\n"
		 "[options] request REQUEST\n"
		 "[options] --batch [FILE]\n"
		 "[options] release-session ID",
	.about = "Makes one call in a SnakeBridge session and prints its result as one line of JSON. The session is "
		 "created if need be, with an owner process of its own, and stays until it is released or has been "
		 "idle for its TTL.\n"
		 "PATH is module:name or module.name. ARG, KEY, VALUE and ITEM are JSON: a text is '\"text\"', with its "
		 "quotes. An ARG of the form name=JSON is a keyword argument. In place of JSON, @FILE reads a file and "
		 "- reads stdin: JSON, or an array as numpy.save() writes it, which goes straight into shared memory.\n"
		 "A REF is what an earlier call printed: {\"$ref\": \"sbref:...\"}, or just the sbref:... in it. Other "
		 "values that JSON lacks are {\"$tuple\": [...]}, {\"$bytes\": \"base64\"}, {\"$float\": \"nan\"}, "
		 "{\"$dict\": [[key, value], ...]} and the like.\n"
		 "stream makes a call and prints each item of its result on a line of its own as soon as it comes; iter "
		 "does so with an object. With --timeout they wait that long for each item. Both close the stream when "
		 "they end, even if nobody reads their output any more.\n"
		 "A REQUEST is a JSON object, @FILE or -: {\"verb\": \"method\", \"target\": REF, \"name\": \"fit\", "
		 "\"args\": [...], \"kwargs\": {...}, \"as_ref\": true, \"plain\": true, \"files\": {\"0\": \"a.npy\"}, "
		 "\"out\": \"b.npy\"}. Leave out what is not needed; without a verb it is a call. files: arguments by "
		 "position or name, read as with @FILE. out: as --out.\n"
		 "--batch reads one request per line, at most 10000, and runs none if one is wrong. {\"$item\": 0} in a "
		 "line stands for the result of the first, wherever a value or a target may be. It prints "
		 "{\"item\": 0, \"result\": ...} or {\"item\": 0, \"error\": {...}} for each.",
	.groups = groups,
	.exits = "0  the result was printed\n"
		 "1  it ran and failed: Python raised an exception, which is on stderr, or the result is not an array for --out\n"
		 "2  the command line, or what is in a file or on stdin, is wrong; nothing ran\n"
		 "3  the bridge cannot be used, or the session's owner cannot be started\n"
		 "4  the bridge was made by another version\n"
		 "5  the bridge's data is damaged\n"
		 "6  refused, and nothing ran: a stale ref, another session's ref, a released session, ...\n"
		 "7  unknown: the owner died or the timeout passed while it ran\n"
		 "With --batch: the status of the first item that failed; 0 if none did.\n",
	.environment = TOOL_ENVIRONMENT "SNAKEBRIDGE_PYTHON  as --python\n",
	.examples = "sb-call --session demo call math:sqrt 16\n"
		    "sb-call --session demo call builtins:sorted '[3, 1, 2]' reverse=true\n"
		    "sb-call --session demo call collections:Counter '\"hello\"'\n"
		    "sb-call method 'sbref:demo:2:0.1:...' most_common 1\n"
		    "sb-call --session demo --out inverse.npy call numpy:linalg.inv @matrix.npy\n"
		    "sb-call --session demo --batch < requests.jsonl\n"
		    "sb-call --session demo stream builtins:range 1000000 | head -n 3\n"
		    "sb-call release-session demo\n",
	.common = &call_settings.common,
	.options_first = true, /* so that an ARG may be -1 */
};
/* clang-format on */

static const struct verb {
	const char *name, *operands;
	int min, max;
	sb_verb verb;
	int (*prepare)(struct call_job *job); /* before the bridge is touched */
	int (*run)(sb_bridge *bridge, struct call_job *job);
} verbs[] = {
	{ "call", "PATH [ARG...]", 1, INT32_MAX, SB_VERB_CALL, call_prepare_path, call_run },
	{ "get", "PATH", 1, 1, SB_VERB_GET, call_prepare_path, call_run },
	{ "method", "REF NAME [ARG...]", 2, INT32_MAX, SB_VERB_METHOD, call_prepare_object, call_run },
	{ "attr", "REF NAME", 2, 2, SB_VERB_ATTR, call_prepare_object, call_run },
	{ "set", "REF NAME VALUE", 3, 3, SB_VERB_SET_ATTR, call_prepare_object, call_run },
	{ "getitem", "REF KEY", 2, 2, SB_VERB_GETITEM, call_prepare_operands, call_run },
	{ "setitem", "REF KEY VALUE", 3, 3, SB_VERB_SETITEM, call_prepare_operands, call_run },
	{ "delitem", "REF KEY", 2, 2, SB_VERB_DELITEM, call_prepare_operands, call_run },
	{ "contains", "REF ITEM", 2, 2, SB_VERB_CONTAINS, call_prepare_operands, call_run },
	{ "len", "REF", 1, 1, SB_VERB_LEN, call_prepare_operands, call_run },
	{ "hash", "REF", 1, 1, SB_VERB_HASH, call_prepare_operands, call_run },
	{ "repr", "REF", 1, 1, SB_VERB_REPR, call_prepare_operands, call_run },
	{ "str", "REF", 1, 1, SB_VERB_STR, call_prepare_operands, call_run },
	{ "stream", "PATH [ARG...]", 1, INT32_MAX, SB_VERB_CALL, call_prepare_path, call_run },
	{ "iter", "REF", 1, 1, SB_VERB_ITER, call_prepare_operands, call_run },
	{ "pin", "REF", 1, 1, SB_VERB_PIN, call_prepare_operands, call_run },
	{ "unpin", "REF", 1, 1, SB_VERB_UNPIN, call_prepare_operands, call_run },
	{ "info", "REF", 1, 1, SB_VERB_CHECK, call_prepare_operands, call_run },
	{ "release", "REF", 1, 1, SB_VERB_RELEASE, call_prepare_release, call_run },
	{ "request", "REQUEST", 1, 1, SB_VERB_CALL, call_prepare_request, call_run },
	{ "release-session", "ID", 1, 1, SB_VERB_RELEASE, NULL, call_run_release_session },
};

/* " call, get, …" */
static const char *verb_list(char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%s %s", i ? "," : "", verbs[i].name);
	return text;
}

static bool is_stream(const struct verb *verb)
{
	return verb->verb == SB_VERB_ITER || strcmp(verb->name, "stream") == 0;
}

/* Do the options make sense for it? */
static int check_options(const struct verb *verb)
{
	if (call_settings.as_ref && call_settings.plain)
		return tool_usage(&call_tool, "--as-ref and --plain contradict each other");
	if (call_settings.out && call_settings.as_ref)
		return tool_usage(&call_tool, "--as-ref and --out contradict each other");
	if (call_settings.stop_on_error && !call_settings.batch)
		return tool_usage(&call_tool, "--stop-on-error goes with --batch");
	if ((call_settings.fetch || call_settings.limit) && (!verb || !is_stream(verb)))
		return tool_usage(&call_tool, "--fetch and --limit go with iter and stream");
	if (call_settings.out &&
	    (!verb || is_stream(verb) || verb->verb == SB_VERB_CHECK || verb->verb == SB_VERB_RELEASE))
		return tool_usage(&call_tool, "--out does not go with %s", verb ? verb->name : "--batch");
	return 0;
}

static int run_verb(const struct verb *verb, struct call_job *job)
{
	sb_bridge *bridge = NULL;
	int status;

	if (job->count < verb->min || job->count > verb->max)
		return tool_usage(&call_tool, "%s takes %s, not %d words", verb->name, verb->operands,
		                  job->count);
	status = check_options(verb);
	job->request.verb = verb->verb;
	job->stream = is_stream(verb);
	if (!status && verb->prepare)
		status = verb->prepare(job);
	if (!status)
		status = tool_session_fill(&call_tool, &call_settings.session, &job->options);
	if (status)
		return status;
	if (!call_settings.session.id && !job->has_ref && verb->run == call_run)
		return tool_usage(&call_tool, "no session is named; give --session ID");
	status = call_open_bridge(&bridge);
	if (status)
		return status;
	status = verb->run(bridge, job);
	sb_bridge_close(bridge);
	return status;
}

static int run_batch(char **words, int count)
{
	int status = check_options(NULL);

	if (!status && count > 1)
		status = tool_usage(&call_tool, "--batch takes one FILE at most, not %d words", count);
	return status ? status : call_batch(count > 0 ? words[0] : "-");
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(name, verbs[i].name) == 0)
			return &verbs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct call_job job = { .request = SB_REQUEST_INIT, .options = SB_SESSION_OPTIONS_INIT };
	const struct verb *verb;
	char list[256];
	int status;

	if (!tool_parse(&call_tool, argc, argv, &status))
		return status;
	if (call_settings.batch) {
		status = run_batch(argv + optind, argc - optind);
		tool_session_free(&call_settings.session);
		return tool_finish(&call_tool, status);
	}
	if (optind == argc)
		return tool_usage(&call_tool, "no verb is given; the verbs are%s",
		                  verb_list(list, sizeof(list)));
	verb = find_verb(argv[optind]);
	if (!verb)
		return tool_usage(&call_tool, "unknown verb '%s'; the verbs are%s", argv[optind],
		                  verb_list(list, sizeof(list)));
	job.words = argv + optind + 1;
	job.count = argc - optind - 1;
	status = run_verb(verb, &job);
	call_job_free(&job);
	tool_session_free(&call_settings.session);
	return tool_finish(&call_tool, status);
}
