/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-call: one call on a session, from the shell. Arguments and the result are JSON.
 *
 * It is an ordinary user of the library. The sessions it makes are dedicated and persistent, so that a ref
 * outlives the command that printed it; what exists already is joined as it is. It never becomes a
 * designated owner: it is gone too soon.
 *
 * Crash: as any caller's: its lane and its ownership go at the next reaper pass; a persistent session stays.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "options.h"
#include "output.h"
#include "report.h"
#include "session.h"
#include "snakebridge/snakebridge.h"

static struct tool_common common = TOOL_COMMON_INIT;
static struct tool_session wanted = TOOL_SESSION_INIT;
static bool not_persistent, attach_only, as_ref, plain;
static int64_t batch = 100;

/* Tables: a line is an entry. */
/* clang-format off */
static const struct tool_option session_options[] = {
	{ .name = "session", .letter = 's', .argument = "ID", .type = TOOL_TEXT, .target = &wanted.id,
	  .help = "the session to call in; not needed with a ref, which knows its own" },
	{ .name = "attach-only", .type = TOOL_FLAG, .target = &attach_only,
	  .help = "fail if there is no such session, instead of making it" },
	{ .name = "not-persistent", .type = TOOL_FLAG, .target = &not_persistent,
	  .help = "let the session end with its last owner, which may be this command" },
	TOOL_SESSION_OPTIONS(wanted),
	{ 0 }
};

static const struct tool_option call_options[] = {
	{ .name = "as-ref", .letter = 'r', .type = TOOL_FLAG, .target = &as_ref,
	  .help = "leave the result where it is, whatever it is, and print a ref" },
	{ .name = "plain", .type = TOOL_FLAG, .target = &plain,
	  .help = "print the plain base value of a Counter, OrderedDict, namedtuple, IntEnum, ... instead of a ref" },
	{ .name = "batch", .argument = "N", .type = TOOL_WHOLE, .target = &batch, .min = 1, .max = SB_ITER_BATCH_MAX,
	  .help = "items that iter fetches in one round trip (default 100)" },
	{ 0 }
};

static const struct tool_option shared_options[] = { TOOL_COMMON_OPTIONS(common), { 0 } };

static const struct tool_group groups[] = {
	{ "Session", session_options }, { "Call", call_options }, { "Common options", shared_options }, { 0 }
};

static const struct tool tool = {
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
		 "[options] iter REF\n"
		 "[options] pin|unpin|info REF\n"
		 "[options] release REF\n"
		 "[options] release-session ID",
	.about = "Makes one call in a SnakeBridge session and prints its result as one line of JSON. "
		 "PATH is module:name or module.name. An ARG is JSON, or name=JSON for a keyword argument; a "
		 "text is '\"text\"' with its quotes. A REF is what an earlier call printed, "
		 "{\"$ref\": \"sbref:...\"} or only the sbref:... in it. What JSON has not is written "
		 "{\"$tuple\": [...]}, {\"$bytes\": \"base64\"}, {\"$float\": \"nan\"}, "
		 "{\"$dict\": [[key, value], ...]}. KEY, VALUE and ITEM are JSON, too. iter prints "
		 "each item as a line of its own. The session is made if need be, with an owner process of "
		 "its own, and stays until it is released or idle for its TTL.",
	.groups = groups,
	.exits = "0  the result was printed\n"
		 "1  it ran and failed: Python raised an exception, which is on stderr\n"
		 "2  the command line is wrong\n"
		 "3  the bridge or the session's owner cannot be had\n"
		 "4  the bridge was made by another version\n"
		 "5  the bridge's data is damaged\n"
		 "6  refused, and nothing ran: a stale ref, another session's ref, a released session, ...\n"
		 "7  unknown: the owner died or the timeout passed while it ran\n",
	.environment = TOOL_ENVIRONMENT "SNAKEBRIDGE_PYTHON  as --python\n",
	.examples = "sb-call --session demo call math:sqrt 16\n"
		    "sb-call --session demo call builtins:sorted '[3, 1, 2]' reverse=true\n"
		    "sb-call --session demo call collections:Counter '\"hello\"'\n"
		    "sb-call method 'sbref:demo:2:0.1:...' most_common 1\n"
		    "sb-call release-session demo\n",
	.common = &common,
	.options_first = true, /* so that an ARG may be -1 */
};
/* clang-format on */

/* ── what the words after the options say ── */

struct job {
	char **words; /* after the verb */
	int count;
	sb_request request;
	sb_ref ref; /* of request.target */
	sb_session_options options;
	bool ref_verb;
};

/* All of these return 0 or an exit status, having written why. */

static int library_error(void)
{
	return tool_report(&tool, sb_last_error());
}

/* The JSON text in a word. what: how to call the word in a message. */
static int read_json(const char *text, const char *what, const char *word, sb_value **ret)
{
	char error[TOOL_JSON_ERROR_MAX];
	int err;

	if (text[strspn(text, " \t\n")] == '\0')
		return tool_usage(&tool, "%s '%s': there is no JSON in it (an empty text is '\"\"')", what,
		                  word);
	err = tool_json_read(text, ret, error);
	if (err == 0)
		return 0;
	if (err == SB_EREFMALFORMED)
		return library_error();
	return tool_usage(&tool, "%s '%.80s%s': %s (a text needs its quotes: '\"text\"')", what, word,
	                  strlen(word) > 80 ? "..." : "", error);
}

/* Length of the name in name=JSON, 0 if text has none. JSON never begins this way. */
static size_t keyword_length(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

	return n > 0 && text[n] == '=' && !(text[0] >= '0' && text[0] <= '9') ? n : 0;
}

static int add_argument(struct job *job, const char *word)
{
	size_t n = keyword_length(word);
	char *name = n ? strndup(word, n) : NULL;
	sb_value *value = NULL;
	int status = read_json(n ? word + n + 1 : word, n ? "the keyword argument" : "the argument", word,
	                       &value);

	if (!status && n && !name)
		status = tool_usage(&tool, "out of memory");
	if (!status && sb_args_add(job->request.args, name, value))
		status = library_error();
	sb_value_free(value);
	free(name);
	return status;
}

/* Is the name of this keyword argument that of an earlier one, too? */
static bool is_repeated(const struct job *job, int first, int at)
{
	size_t n = keyword_length(job->words[at]);

	for (int i = first; n && i < at; i++)
		if (strncmp(job->words[i], job->words[at], n + 1) == 0)
			return true;
	return false;
}

/* The words from first on are arguments. */
static int add_arguments(struct job *job, int first)
{
	bool keywords = false;
	int status = 0;

	job->request.args = sb_args("");
	for (int i = first; i < job->count && !status; i++) {
		if (keyword_length(job->words[i]))
			keywords = true;
		else if (keywords)
			return tool_usage(&tool, "the positional argument '%s' follows keyword arguments",
			                  job->words[i]);
		if (is_repeated(job, first, i))
			return tool_usage(&tool, "the keyword argument '%s' is given twice", job->words[i]);
		status = add_argument(job, job->words[i]);
	}
	return status;
}

static int read_ref(struct job *job, const char *word)
{
	sb_value *value = NULL;
	const sb_ref *ref;
	int status;

	job->ref_verb = true;
	job->request.target = &job->ref;
	if (word[0] != '{')
		return sb_ref_parse(word, &job->ref) ? library_error() : 0;
	status = read_json(word, "the ref", word, &value);
	if (status)
		return status;
	ref = sb_value_ref(value);
	if (ref)
		job->ref = *ref;
	sb_value_free(value);
	return ref ? 0 : tool_usage(&tool, "'%s' is not a ref", word);
}

static int prepare_path(struct job *job)
{
	if (!job->words[0][0])
		return tool_usage(&tool, "PATH is empty; write module:name");
	job->request.name = job->words[0];
	return job->request.verb == SB_VERB_CALL ? add_arguments(job, 1) : 0;
}

static int prepare_object(struct job *job)
{
	int status = read_ref(job, job->words[0]);

	if (status)
		return status;
	job->request.name = job->words[1];
	if (job->request.verb == SB_VERB_SET_ATTR && keyword_length(job->words[2]))
		return tool_usage(&tool, "'%s': set takes a value, not a keyword argument", job->words[2]);
	return job->request.verb == SB_VERB_ATTR ? 0 : add_arguments(job, 2);
}

/* A ref, and arguments without names. */
static int prepare_operands(struct job *job)
{
	int status = read_ref(job, job->words[0]);

	for (int i = 1; i < job->count && !status; i++)
		if (keyword_length(job->words[i]))
			status = tool_usage(&tool, "'%s': this takes a value, not a keyword argument",
			                    job->words[i]);
	return status ? status : add_arguments(job, 1);
}

static int prepare_release(struct job *job)
{
	return read_ref(job, job->words[0]);
}

/* ── sessions ── */

/* The session is not there, but it can be made. */
static bool can_be_made(int err)
{
	return err == SB_ENOSESSION || err == SB_ERELEASED || err == SB_EEXPIRED || err == SB_EOWNERDIED;
}

/* A session that lost its designated owner gets another, if it is of the kind that we can give one. */
static void revive(sb_bridge *bridge, sb_session_options *options, sb_session **session)
{
	sb_session_info info = { .size = sizeof(info) };
	sb_session *other;

	if (sb_session_get_info(*session, &info) || info.state != SB_SESSION_ORPHANED)
		return;
	options->designated = SB_DESIGNATED_DEDICATED;
	if (sb_session_open(bridge, options, &other))
		return; /* of another kind: the call says that it has no owner */
	sb_session_close(*session);
	*session = other;
}

/*
 * Joins the session as it is, else makes it. Joining first, because our defaults are not the user's wish: they
 * must not contradict what a program has made.
 */
static int open_session(sb_bridge *bridge, const struct job *job, sb_session **ret)
{
	const char *id = wanted.id ? wanted.id : job->ref.session_id;
	bool own = job->ref_verb && strcmp(id, job->ref.session_id) == 0; /* a ref's session is never made */
	sb_session_options options = job->options;
	int err;

	options.session_id = id;
	options.timeout_ms = (uint32_t)common.timeout_ms;
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	options.persistent = not_persistent ? 0 : SB_UNSET;
	err = sb_session_open(bridge, &options, ret);
	if (attach_only || own)
		return err;
	if (!err) {
		revive(bridge, &options, ret);
		return 0;
	}
	if (!can_be_made(err))
		return err;
	options.designated = SB_DESIGNATED_DEDICATED;
	options.persistent = !not_persistent;
	return sb_session_open(bridge, &options, ret);
}

/* ── running ── */

static int print_value(const sb_value *value)
{
	if (common.quiet)
		return TOOL_EXIT_OK;
	tool_json_write(stdout, value);
	putchar('\n');
	return tool_finish(&tool, TOOL_EXIT_OK); /* at once: iter may take its time */
}

static int print_fact(const char *key, const char *fact)
{
	if (!common.quiet)
		printf("{\"%s\": %s}\n", key, fact);
	return TOOL_EXIT_OK;
}

static int run_request(sb_session *session, struct job *job)
{
	sb_value *value = NULL;
	int err, status;

	job->request.flags = (as_ref ? SB_CALL_AS_REF : 0) | (plain ? SB_CALL_PLAIN : 0);
	err = sb_invoke(session, &job->request, &value);
	job->request.args = NULL; /* consumed */
	if (err)
		return library_error();
	status = print_value(value);
	sb_value_free(value);
	return status;
}

static int run_iter(sb_session *session, struct job *job)
{
	sb_value *item = NULL;
	sb_iter *iter = NULL;
	int rc, status = 0;

	if (sb_iter_open(session, &job->ref, (size_t)batch, &iter))
		return library_error();
	while (!status && (rc = sb_iter_next(iter, &item)) != 0) {
		status = rc < 0 ? library_error() : print_value(item);
		if (rc > 0)
			sb_value_free(item);
	}
	sb_iter_close(iter);
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

static int run_info(sb_session *session, struct job *job)
{
	sb_ref_info info = { .size = sizeof(info) };

	if (sb_ref_get_info(session, &job->ref, &info))
		return library_error();
	if (common.quiet)
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

static int run_release(sb_session *session, struct job *job)
{
	bool dropped = false;

	if (sb_ref_release(session, &job->ref, &dropped))
		return library_error();
	return print_fact("dropped", dropped ? "true" : "false");
}

static int run_in(sb_session *session, struct job *job)
{
	switch (job->request.verb) {
	case SB_VERB_RELEASE: return run_release(session, job);
	case SB_VERB_ITER: return run_iter(session, job);
	case SB_VERB_CHECK: return run_info(session, job);
	default: return run_request(session, job);
	}
}

/* In the job's session. */
static int run(sb_bridge *bridge, struct job *job)
{
	sb_session *session = NULL;
	int status;

	if (open_session(bridge, job, &session) == 0) {
		status = run_in(session, job);
	} else if (job->request.verb == SB_VERB_RELEASE && !wanted.id && can_be_made(sb_last_error()->code)) {
		status = print_fact("dropped", "false"); /* gone with its session, which is fine */
	} else {
		status = library_error();
	}
	sb_session_close(session);
	return status;
}

static int run_release_session(sb_bridge *bridge, struct job *job)
{
	int released = 0;

	if (sb_session_release(bridge, job->words[0], &released))
		return library_error();
	return print_fact("released", released ? "1" : "0");
}

static const struct verb {
	const char *name, *operands;
	int min, max;
	sb_verb verb;
	int (*prepare)(struct job *job); /* before the bridge is touched */
	int (*run)(sb_bridge *bridge, struct job *job);
} verbs[] = {
	{ "call", "PATH [ARG...]", 1, INT32_MAX, SB_VERB_CALL, prepare_path, run },
	{ "get", "PATH", 1, 1, SB_VERB_GET, prepare_path, run },
	{ "method", "REF NAME [ARG...]", 2, INT32_MAX, SB_VERB_METHOD, prepare_object, run },
	{ "attr", "REF NAME", 2, 2, SB_VERB_ATTR, prepare_object, run },
	{ "set", "REF NAME VALUE", 3, 3, SB_VERB_SET_ATTR, prepare_object, run },
	{ "getitem", "REF KEY", 2, 2, SB_VERB_GETITEM, prepare_operands, run },
	{ "setitem", "REF KEY VALUE", 3, 3, SB_VERB_SETITEM, prepare_operands, run },
	{ "delitem", "REF KEY", 2, 2, SB_VERB_DELITEM, prepare_operands, run },
	{ "contains", "REF ITEM", 2, 2, SB_VERB_CONTAINS, prepare_operands, run },
	{ "len", "REF", 1, 1, SB_VERB_LEN, prepare_operands, run },
	{ "hash", "REF", 1, 1, SB_VERB_HASH, prepare_operands, run },
	{ "repr", "REF", 1, 1, SB_VERB_REPR, prepare_operands, run },
	{ "str", "REF", 1, 1, SB_VERB_STR, prepare_operands, run },
	{ "iter", "REF", 1, 1, SB_VERB_ITER, prepare_operands, run },
	{ "pin", "REF", 1, 1, SB_VERB_PIN, prepare_operands, run },
	{ "unpin", "REF", 1, 1, SB_VERB_UNPIN, prepare_operands, run },
	{ "info", "REF", 1, 1, SB_VERB_CHECK, prepare_operands, run },
	{ "release", "REF", 1, 1, SB_VERB_RELEASE, prepare_release, run },
	{ "release-session", "ID", 1, 1, SB_VERB_RELEASE, NULL, run_release_session },
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

static int run_verb(const struct verb *verb, struct job *job)
{
	sb_bridge_options options = SB_BRIDGE_OPTIONS_INIT;
	sb_bridge *bridge = NULL;
	int status;

	if (job->count < verb->min || job->count > verb->max)
		return tool_usage(&tool, "%s takes %s, not %d words", verb->name, verb->operands, job->count);
	if (as_ref && plain)
		return tool_usage(&tool, "--as-ref and --plain contradict each other");
	job->request.verb = verb->verb;
	status = verb->prepare ? verb->prepare(job) : 0;
	if (!status)
		status = tool_session_fill(&tool, &wanted, &job->options);
	if (status)
		return status;
	if (!wanted.id && !job->ref_verb && verb->run == run)
		return tool_usage(&tool, "no session is named; give --session ID");
	options.python_executable = wanted.python;
	options.timeout_ms = (uint32_t)common.timeout_ms;
	if (sb_bridge_open(common.dir, &options, &bridge))
		return library_error();
	status = verb->run(bridge, job);
	sb_bridge_close(bridge);
	return status;
}

int main(int argc, char **argv)
{
	struct job job = { .request = SB_REQUEST_INIT, .options = SB_SESSION_OPTIONS_INIT };
	const struct verb *verb = NULL;
	char list[256];
	int status;

	if (!tool_parse(&tool, argc, argv, &status))
		return status;
	if (optind == argc)
		return tool_usage(&tool, "no verb is given; there are%s", verb_list(list, sizeof(list)));
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(argv[optind], verbs[i].name) == 0)
			verb = &verbs[i];
	if (!verb)
		return tool_usage(&tool, "unknown verb '%s'; there are%s", argv[optind],
		                  verb_list(list, sizeof(list)));
	job.words = argv + optind + 1;
	job.count = argc - optind - 1;
	status = run_verb(verb, &job);
	sb_args_free(job.request.args);
	tool_session_free(&wanted);
	return tool_finish(&tool, status);
}
