/* SPDX-License-Identifier: Apache-2.0 */
/* See engine_probe.h. No CMocka assertions: forked children use it too. */
#include "engine_probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "value_impl.h"

static const struct sb__engine *engine;

const struct sb__engine *probe_engine(void)
{
	return engine;
}

int probe_start(void **state)
{
	const char *source = getenv("SB_SOURCE_DIR"), *build = getenv("SB_BUILD_DIR");
	char modules[4096], plugins[4096], error[512] = "";
	struct sb__engine_options options = { sb__python_executable(), modules };
	sb_value *sys = NULL;
	struct sb__table *table;
	int err;

	(void)state;
	snprintf(modules, sizeof(modules), "%s/tests/support", source ? source : ".");
	snprintf(plugins, sizeof(plugins), "%s/lib/snakebridge", build ? build : ".");
	setenv("SNAKEBRIDGE_PLUGIN_DIR", plugins, 0);
	if (sb__engine_load(&engine) < 0) {
		fprintf(stderr, "%s\n", sb_last_error()->message);
		return -1;
	}
	if (engine->start(&options, error, sizeof(error)) < 0) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	/* No byte code into the source tree. */
	table = probe_table(NULL);
	err = probe_run(table, SB_VERB_GET, NULL, "sys", NULL, 0, &sys);
	if (!err)
		err = probe_run(table, SB_VERB_SET_ATTR, sb_value_ref(sys), "dont_write_bytecode",
		                sb_args("b", 1), 0, NULL);
	if (err)
		fprintf(stderr, "%s\n", sb_last_error()->message);
	sb_value_free(sys);
	probe_table_free(table);
	return err;
}

struct sb__table *probe_table(const struct sb__table_options *options)
{
	static uint64_t incarnation;
	struct sb__table_options own = { .max_refs = 1000 };
	struct sb__table *table = NULL;

	if (options)
		own = *options;
	own.incarnation = __atomic_add_fetch(&incarnation, 1, __ATOMIC_RELAXED);
	if (engine->table_create(&own, &table) < 0)
		abort();
	return table;
}

void probe_table_free(struct sb__table *table)
{
	engine->table_destroy(table);
}

int probe_run(struct sb__table *table, sb_verb verb, const sb_ref *target, const char *name, sb_args *args,
              uint32_t flags, sb_value **ret)
{
	sb_request request = SB_REQUEST_INIT;
	struct sb__call_origin origin = { .pid = getpid(), .trace_id = 1 };
	struct sb__buf out, in;
	uint8_t out_memory[512], in_memory[512];
	uint64_t made;
	int err;

	request.verb = verb;
	request.target = target;
	request.name = name;
	request.args = args;
	request.flags = flags;
	sb__buf_init(&out, out_memory, sizeof(out_memory));
	sb__buf_init(&in, in_memory, sizeof(in_memory));
	sb__request_encode(&out, &request);
	err = out.error;
	if (!err) {
		made = engine->execute(table, &origin, out.data, out.len, &in);
		if (made & SB__ENGINE_TELL)
			engine->settle(table, made, true);
		err = in.error;
	}
	if (!err)
		err = sb__reply_decode(in.data, in.len, PROBE_SESSION, ret);
	sb__buf_free(&out);
	sb__buf_free(&in);
	sb_args_free(args);
	return err;
}

int probe_call(struct sb__table *table, const char *path, sb_args *args, sb_value **ret)
{
	return probe_run(table, SB_VERB_CALL, NULL, path, args, 0, ret);
}

int probe_method(struct sb__table *table, const sb_ref *target, const char *name, sb_args *args,
                 sb_value **ret)
{
	return probe_run(table, SB_VERB_METHOD, target, name, args, 0, ret);
}

/* ── showing ── */

struct text {
	char *at, *end;
};

static void show(struct text *t, const sb_value *value);

static void put(struct text *t, const char *string)
{
	size_t n = strlen(string);

	if (n >= (size_t)(t->end - t->at))
		n = (size_t)(t->end - t->at) - 1;
	memcpy(t->at, string, n);
	t->at += n;
	*t->at = '\0';
}

static void put_quoted(struct text *t, const char *quote, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	char part[8];

	put(t, quote);
	for (size_t i = 0; i < len; i++) {
		snprintf(part, sizeof(part), p[i] < 0x20 || p[i] == 0x7f ? "\\x%02x" : "%c", p[i]);
		put(t, part);
	}
	put(t, "'");
}

static void show_items(struct text *t, const sb_value *value, const char *open, const char *close)
{
	put(t, open);
	for (size_t i = 0; i < sb_value_len(value); i++) {
		if (i > 0)
			put(t, ", ");
		if (sb_value_kind(value) == SB_KIND_DICT) {
			show(t, sb_value_key_at(value, i));
			put(t, ": ");
		}
		show(t, sb_value_at(value, i));
	}
	if (sb_value_kind(value) == SB_KIND_TUPLE && sb_value_len(value) == 1)
		put(t, ",");
	put(t, close);
}

static void show_scalar(struct text *t, const sb_value *value)
{
	char part[64];
	int64_t integer = 0;
	double number = 0;
	bool boolean = false;

	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: put(t, "None"); break;
	case SB_KIND_BOOL:
		sb_value_bool(value, &boolean);
		put(t, boolean ? "True" : "False");
		break;
	case SB_KIND_INT:
		sb_value_int(value, &integer);
		snprintf(part, sizeof(part), "%" PRId64, integer);
		put(t, part);
		break;
	case SB_KIND_ARRAY:
		snprintf(part, sizeof(part), "array %s of %zu", sb_array_dtype(sb_value_array(value)),
		         sb_array_count(sb_value_array(value)));
		put(t, part);
		break;
	default:
		sb_value_float(value, &number);
		snprintf(part, sizeof(part), "%.17g", number);
		put(t, part);
		put(t, strpbrk(part, ".en") ? "" : ".0");
		break;
	}
}

static void show(struct text *t, const sb_value *value)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_STR: put_quoted(t, "'", sb_value_str(value, NULL), sb_value_len(value)); break;
	case SB_KIND_BYTES: put_quoted(t, "b'", sb_value_bytes(value, NULL), sb_value_len(value)); break;
	case SB_KIND_LIST: show_items(t, value, "[", "]"); break;
	case SB_KIND_TUPLE: show_items(t, value, "(", ")"); break;
	case SB_KIND_DICT: show_items(t, value, "{", "}"); break;
	case SB_KIND_REF:
		put(t, "<");
		put(t, sb_value_ref(value)->type_name);
		put(t, ">");
		break;
	default: show_scalar(t, value); break;
	}
}

/* Two buffers in turn, so that two answers can be compared. */
static char *next_text(size_t *ret_size)
{
	static _Thread_local char texts[2][16384];
	static _Thread_local unsigned turn;

	*ret_size = sizeof(texts[0]);
	turn ^= 1;
	return texts[turn];
}

const char *probe_show(const sb_value *value)
{
	size_t size;
	char *text = next_text(&size);
	struct text t = { text, text + size };

	text[0] = '\0';
	show(&t, value);
	return text;
}

const char *probe_ask(struct sb__table *table, const char *path, sb_args *args)
{
	sb_value *value = NULL;
	const char *shown;
	char *text;
	size_t size;
	int err = probe_call(table, path, args, &value);

	if (err) {
		const sb_error *error = sb_last_error();

		text = next_text(&size);
		snprintf(text, size, "%s%s%s", sb_error_name(err), error->python_type[0] ? " " : "",
		         error->python_type);
		return text;
	}
	shown = probe_show(value);
	sb_value_free(value);
	return shown;
}

/* sbprobe's names, as a ref; *ret_value is to be freed. */
static const sb_ref *names(struct sb__table *table, sb_value **ret_value)
{
	if (probe_run(table, SB_VERB_GET, NULL, "sbprobe:__dict__", NULL, SB_CALL_AS_REF, ret_value) < 0) {
		fprintf(stderr, "%s\n", sb_last_error()->message);
		abort();
	}
	return sb_value_ref(*ret_value);
}

const char *probe_eval(struct sb__table *table, const char *source)
{
	sb_value *value = NULL;
	const sb_ref *dict = names(table, &value);
	const char *shown = probe_ask(table, "builtins:eval", sb_args("sr", source, dict));

	probe_run(table, SB_VERB_RELEASE, dict, NULL, NULL, 0, NULL);
	sb_value_free(value);
	return shown;
}

bool probe_eval_ref(struct sb__table *table, const char *source, sb_ref *ret)
{
	sb_value *value = NULL, *result = NULL;
	const sb_ref *dict = names(table, &value);
	const sb_ref *ref = NULL;

	if (probe_run(table, SB_VERB_CALL, NULL, "builtins:eval", sb_args("sr", source, dict), SB_CALL_AS_REF,
	              &result) == 0)
		ref = sb_value_ref(result);
	if (ref)
		*ret = *ref;
	probe_run(table, SB_VERB_RELEASE, dict, NULL, NULL, 0, NULL);
	sb_value_free(result);
	sb_value_free(value);
	return ref != NULL;
}
