/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words, or a dict, to a request. All that can be wrong with them is found before the bridge is touched; only the
 * elements of arrays are read later, straight into the session's memory.
 *
 * Crash: nothing shared.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"

void call_job_free(struct call_job *job)
{
	for (size_t i = 0; i < job->argument_count; i++) {
		free(job->arguments[i].name);
		free(job->arguments[i].file);
		sb_value_free(job->arguments[i].value);
		call_source_close(&job->arguments[i].source);
	}
	free(job->arguments);
	free(job->name);
	free(job->out);
	sb_args_free(job->request.args);
	job->arguments = NULL;
	job->argument_count = 0;
	job->name = job->out = NULL;
	job->request.args = NULL;
}

/* ── arguments ── */

/* Length of the name in name=JSON, 0 if text has none. JSON never begins this way. */
static size_t keyword_length(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

	return n > 0 && text[n] == '=' && !(text[0] >= '0' && text[0] <= '9') ? n : 0;
}

/* A place for one more, zeroed; it is the job's. */
static int new_argument(struct call_job *job, const char *name, size_t len, struct call_argument **ret)
{
	struct call_argument *more = realloc(job->arguments,
	                                     (job->argument_count + 1) * sizeof(*job->arguments));
	char *copy = name ? strndup(name, len) : NULL;

	if (more)
		job->arguments = more;
	if (!more || (name && !copy)) {
		free(copy);
		return tool_usage(&call_tool, "out of memory");
	}
	*ret = &job->arguments[job->argument_count++];
	**ret = (struct call_argument){ .name = copy };
	return 0;
}

static int add_word(struct call_job *job, const char *word)
{
	size_t n = keyword_length(word);
	const char *text = n ? word + n + 1 : word, *what = n ? "the keyword argument" : "the argument";
	struct call_argument *a;
	int status = new_argument(job, n ? word : NULL, n, &a);

	if (status)
		return status;
	a->word = word;
	if (!call_source_is(text))
		return call_read_json(text, what, word, &a->value);
	status = call_source_open(text, &a->source);
	if (!status && a->source.text)
		status = call_read_json(a->source.text, what, word, &a->value);
	return status;
}

/* Is the name of this keyword argument that of an earlier one, too? */
static bool is_repeated(const struct call_job *job, int first, int at)
{
	size_t n = keyword_length(job->words[at]);

	for (int i = first; n && i < at; i++)
		if (strncmp(job->words[i], job->words[at], n + 1) == 0)
			return true;
	return false;
}

/* The words from first on are arguments. */
static int add_words(struct call_job *job, int first)
{
	bool keywords = false;
	int status = 0;

	for (int i = first; i < job->count && !status; i++) {
		if (keyword_length(job->words[i]))
			keywords = true;
		else if (keywords)
			return tool_usage(&call_tool,
			                  "the positional argument '%s' follows keyword arguments",
			                  job->words[i]);
		if (is_repeated(job, first, i))
			return tool_usage(&call_tool, "the keyword argument '%s' is given twice",
			                  job->words[i]);
		status = add_word(job, job->words[i]);
	}
	return status;
}

bool call_job_needs_session(const struct call_job *job)
{
	for (size_t i = 0; i < job->argument_count; i++)
		if (!job->arguments[i].value)
			return true;
	return false;
}

static int take_array(struct call_argument *a, sb_session *session)
{
	char error[TOOL_NPY_ERROR_MAX] = "";
	sb_array *array = NULL;
	int err = tool_npy_read_array(a->source.file, &a->source.npy, session, &array, error);

	if (!err)
		err = sb_value_pack(&a->value, "a", array);
	sb_array_unref(array);
	if (error[0])
		return tool_usage(&call_tool, "'%s': %s", a->word, error);
	return err ? call_library_error() : 0;
}

int call_job_complete(struct call_job *job, sb_session *session)
{
	int status = 0;

	job->request.args = sb_args("");
	for (size_t i = 0; i < job->argument_count && !status; i++) {
		struct call_argument *a = &job->arguments[i];

		if (!a->value)
			status = take_array(a, session);
		if (!status && sb_args_add(job->request.args, a->name, a->value))
			status = call_library_error();
	}
	return status;
}

/* ── words of a verb ── */

static int read_ref(struct call_job *job, const char *word)
{
	sb_value *value = NULL;
	const sb_ref *ref;
	int status;

	job->has_ref = true;
	job->request.target = &job->ref;
	if (word[0] != '{')
		return sb_ref_parse(word, &job->ref) ? call_library_error() : 0;
	status = call_read_json(word, "the ref", word, &value);
	if (status)
		return status;
	ref = sb_value_ref(value);
	if (ref)
		job->ref = *ref;
	sb_value_free(value);
	return ref ? 0 : tool_usage(&call_tool, "'%s' is not a ref", word);
}

int call_prepare_path(struct call_job *job)
{
	if (!job->words[0][0])
		return tool_usage(&call_tool, "PATH is empty; write module:name");
	job->request.name = job->words[0];
	return job->request.verb == SB_VERB_CALL ? add_words(job, 1) : 0;
}

int call_prepare_object(struct call_job *job)
{
	int status = read_ref(job, job->words[0]);

	if (status)
		return status;
	job->request.name = job->words[1];
	if (job->request.verb == SB_VERB_SET_ATTR && keyword_length(job->words[2]))
		return tool_usage(&call_tool, "'%s': set takes a value, not a keyword argument",
		                  job->words[2]);
	return job->request.verb == SB_VERB_ATTR ? 0 : add_words(job, 2);
}

/* A ref, and arguments without names. */
int call_prepare_operands(struct call_job *job)
{
	int status = read_ref(job, job->words[0]);

	for (int i = 1; i < job->count && !status; i++)
		if (keyword_length(job->words[i]))
			status = tool_usage(&call_tool, "'%s': this takes a value, not a keyword argument",
			                    job->words[i]);
	return status ? status : add_words(job, 1);
}

int call_prepare_release(struct call_job *job)
{
	return read_ref(job, job->words[0]);
}

/* ── a request as a dict ── */

#define TARGET 1u /* it needs one */
#define NAME   2u
#define NAMED  4u /* it may have keyword arguments */

static const struct request_verb {
	const char *name;
	sb_verb verb;
	unsigned needs;
	size_t args_min, args_max;
} request_verbs[] = {
	{ "call", SB_VERB_CALL, NAME | NAMED, 0, SIZE_MAX },
	{ "method", SB_VERB_METHOD, TARGET | NAME | NAMED, 0, SIZE_MAX },
	{ "get", SB_VERB_GET, NAME, 0, 0 },
	{ "attr", SB_VERB_ATTR, TARGET | NAME, 0, 0 },
	{ "set", SB_VERB_SET_ATTR, TARGET | NAME, 1, 1 },
	{ "getitem", SB_VERB_GETITEM, TARGET, 1, 1 },
	{ "setitem", SB_VERB_SETITEM, TARGET, 2, 2 },
	{ "delitem", SB_VERB_DELITEM, TARGET, 1, 1 },
	{ "contains", SB_VERB_CONTAINS, TARGET, 1, 1 },
	{ "len", SB_VERB_LEN, TARGET, 0, 0 },
	{ "hash", SB_VERB_HASH, TARGET, 0, 0 },
	{ "repr", SB_VERB_REPR, TARGET, 0, 0 },
	{ "str", SB_VERB_STR, TARGET, 0, 0 },
	{ "pin", SB_VERB_PIN, TARGET, 0, 0 },
	{ "unpin", SB_VERB_UNPIN, TARGET, 0, 0 },
	{ "release", SB_VERB_RELEASE, TARGET, 0, 0 },
};

struct reading {
	struct call_job *job;
	const char *where;
	const struct request_verb *verb;
	const sb_value *files; /* of arguments */
};

static int take_verb(struct reading *r, const sb_value *value)
{
	const char *name = sb_value_str(value, NULL);

	for (size_t i = 0; name && i < sizeof(request_verbs) / sizeof(request_verbs[0]); i++)
		if (strcmp(name, request_verbs[i].name) == 0) {
			r->verb = &request_verbs[i];
			return 0;
		}
	return tool_usage(&call_tool, "%s: requests have no verb '%.40s'", r->where, name ? name : "?");
}

static int take_name(struct reading *r, const sb_value *value)
{
	size_t len = 0;
	const char *name = sb_value_str(value, &len);

	if (!name || len == 0 || strlen(name) != len)
		return tool_usage(&call_tool, "%s: \"name\" needs a text that is not empty", r->where);
	r->job->name = strdup(name);
	r->job->request.name = r->job->name;
	return r->job->name ? 0 : tool_usage(&call_tool, "out of memory");
}

static int take_target(struct reading *r, const sb_value *value)
{
	const char *text = sb_value_kind(value) == SB_KIND_STR ? sb_value_str(value, NULL) : NULL;
	const sb_ref *ref = sb_value_kind(value) == SB_KIND_REF ? sb_value_ref(value) : NULL;

	if (text && sb_ref_parse(text, &r->job->ref))
		return call_library_error();
	if (ref)
		r->job->ref = *ref;
	if (!text && !ref)
		return tool_usage(&call_tool, "%s: \"target\" needs a ref", r->where);
	r->job->has_ref = true;
	r->job->request.target = &r->job->ref;
	return 0;
}

static int take_argument(struct reading *r, const char *name, size_t len, const sb_value *value)
{
	struct call_argument *a;
	int status = new_argument(r->job, name, len, &a);

	if (!status && sb_value_copy(value, &a->value))
		status = call_library_error();
	return status;
}

static int take_args(struct reading *r, const sb_value *value)
{
	int status = 0;

	if (sb_value_kind(value) != SB_KIND_LIST)
		return tool_usage(&call_tool, "%s: \"args\" needs an array", r->where);
	for (size_t i = 0; i < sb_value_len(value) && !status; i++)
		status = take_argument(r, NULL, 0, sb_value_at(value, i));
	return status;
}

static int take_kwargs(struct reading *r, const sb_value *value)
{
	int status = 0;

	for (size_t i = 0; i < sb_value_len(value) && !status; i++) {
		const sb_value *key = sb_value_kind(value) == SB_KIND_DICT ? sb_value_key_at(value, i) : NULL;
		size_t len = 0;
		const char *name = sb_value_str(key, &len);

		if (!name || strlen(name) != len)
			return tool_usage(&call_tool, "%s: \"kwargs\" needs an object", r->where);
		status = take_argument(r, name, len, sb_value_at(value, i));
	}
	return status || sb_value_kind(value) == SB_KIND_DICT
	               ? status
	               : tool_usage(&call_tool, "%s: \"kwargs\" needs an object", r->where);
}

/* Where the positional argument of that number stands, or would: after the last one. False: there are fewer. */
static bool find_position(const struct call_job *job, size_t number, size_t *ret)
{
	size_t i = 0;

	for (; i < job->argument_count && number > 0; i++)
		number -= job->arguments[i].name == NULL;
	*ret = i;
	return number == 0;
}

/* An argument that is in a file, by its position or name. */
static int take_file(struct reading *r, const char *key, const char *path)
{
	bool positional = key[0] >= '0' && key[0] <= '9';
	size_t n = strlen(path) + 2, at = r->job->argument_count;
	struct call_argument *a, taken;
	int status;

	if (positional && !find_position(r->job, strtoul(key, NULL, 10), &at))
		return tool_usage(&call_tool, "%s: there are fewer arguments than \"files\" says: '%.40s'",
		                  r->where, key);
	status = new_argument(r->job, positional ? NULL : key, strlen(key), &a);
	if (status)
		return status;
	a->word = a->file = malloc(n);
	if (!a->file)
		return tool_usage(&call_tool, "out of memory");
	snprintf(a->file, n, "@%s", path);
	status = call_source_open(a->file, &a->source);
	if (!status && a->source.text)
		status = call_read_json(a->source.text, "the argument", a->word, &a->value);
	taken = *a;
	memmove(r->job->arguments + at + 1, r->job->arguments + at,
	        (r->job->argument_count - 1 - at) * sizeof(taken));
	r->job->arguments[at] = taken;
	return status;
}

/* Once all others are there. */
static int take_files(struct reading *r)
{
	int status = 0;

	for (size_t i = 0; i < sb_value_len(r->files) && !status; i++) {
		bool is_dict = sb_value_kind(r->files) == SB_KIND_DICT;
		const char *key = is_dict ? sb_value_str(sb_value_key_at(r->files, i), NULL) : NULL;
		const char *path = sb_value_str(sb_value_at(r->files, i), NULL);

		if (!key || !path)
			return tool_usage(
				&call_tool,
				"%s: \"files\" needs an object: a position or name, and a FILE for it",
				r->where);
		status = take_file(r, key, path);
	}
	return status;
}

static int take_out(struct reading *r, const sb_value *value)
{
	const char *path = sb_value_str(value, NULL);

	if (!path || !path[0])
		return tool_usage(&call_tool, "%s: \"out\" needs the name of a FILE", r->where);
	r->job->out = strdup(path);
	return r->job->out ? 0 : tool_usage(&call_tool, "out of memory");
}

static int take_flag(struct reading *r, const char *key, const sb_value *value, uint32_t flag)
{
	bool on = false;

	if (sb_value_bool(value, &on))
		return tool_usage(&call_tool, "%s: \"%s\" needs true or false", r->where, key);
	r->job->request.flags |= on ? flag : 0;
	return 0;
}

static int take_key(struct reading *r, const char *key, const sb_value *value)
{
	if (strcmp(key, "verb") == 0)
		return take_verb(r, value);
	if (strcmp(key, "name") == 0)
		return take_name(r, value);
	if (strcmp(key, "target") == 0)
		return take_target(r, value);
	if (strcmp(key, "args") == 0)
		return take_args(r, value);
	if (strcmp(key, "kwargs") == 0)
		return take_kwargs(r, value);
	if (strcmp(key, "out") == 0)
		return take_out(r, value);
	if (strcmp(key, "files") == 0) {
		r->files = value;
		return 0;
	}
	if (strcmp(key, "as_ref") == 0)
		return take_flag(r, key, value, SB_CALL_AS_REF);
	if (strcmp(key, "plain") == 0)
		return take_flag(r, key, value, SB_CALL_PLAIN);
	return tool_usage(&call_tool, "%s: a request has no key '%.40s'", r->where, key);
}

/* Do the parts go with the verb? */
static int check_parts(const struct reading *r)
{
	const struct request_verb *v = r->verb;
	const struct call_job *job = r->job;
	bool named = false;

	for (size_t i = 0; i < job->argument_count; i++)
		named = named || job->arguments[i].name;
	if ((v->needs & TARGET) != 0 && !job->has_ref)
		return tool_usage(&call_tool, "%s: %s needs a \"target\"", r->where, v->name);
	if ((v->needs & TARGET) == 0 && job->has_ref)
		return tool_usage(&call_tool, "%s: %s takes no \"target\"", r->where, v->name);
	if (((v->needs & NAME) != 0) != (job->request.name != NULL))
		return tool_usage(&call_tool, "%s: %s %s \"name\"", r->where, v->name,
		                  v->needs & NAME ? "needs a" : "takes no");
	if (named && !(v->needs & NAMED))
		return tool_usage(&call_tool, "%s: %s takes no \"kwargs\"", r->where, v->name);
	if (job->argument_count < v->args_min || job->argument_count > v->args_max)
		return tool_usage(&call_tool, "%s: %s takes %zu \"args\", not %zu", r->where, v->name,
		                  v->args_min, job->argument_count);
	return 0;
}

int call_job_from_value(struct call_job *job, const sb_value *value, const char *where)
{
	struct reading r = { .job = job, .where = where, .verb = &request_verbs[0] };
	int status = 0;

	if (sb_value_kind(value) != SB_KIND_DICT)
		return tool_usage(&call_tool,
		                  "%s: a request is an object: {\"name\": \"math:sqrt\", \"args\": [16]}",
		                  where);
	for (size_t i = 0; i < sb_value_len(value) && !status; i++) {
		const char *key = sb_value_str(sb_value_key_at(value, i), NULL);

		status = take_key(&r, key ? key : "?", sb_value_at(value, i));
	}
	if (!status && r.files)
		status = take_files(&r);
	if (!status)
		status = check_parts(&r);
	job->request.verb = r.verb->verb;
	return status;
}

int call_prepare_request(struct call_job *job)
{
	struct call_source source = { .file = NULL };
	const char *word = job->words[0], *text = word;
	sb_value *value = NULL;
	int status = 0;

	if (call_source_is(word)) {
		status = call_source_open(word, &source);
		text = source.text;
		if (!status && !text)
			status = tool_usage(&call_tool, "'%s': an array is not a request", word);
	}
	if (!status)
		status = call_read_json(text, "the request", word, &value);
	if (!status)
		status = call_job_from_value(job, value, "the request");
	sb_value_free(value);
	call_source_close(&source);
	return status;
}
