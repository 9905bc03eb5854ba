/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values ⇄ JSON. Written directly, because jansson 2.14 writes 0.1 as 0.10000000000000001; read by jansson.
 * It uses the public interface only. A value is built from the leaves up, so the cost grows with its depth.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "snakebridge/error.h"

/* ── writing ── */

static void write_text(FILE *to, const char *text, size_t len)
{
	fputc('"', to);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", to);
		else if (c == '\t')
			fputs("\\t", to);
		else if (c == '\r')
			fputs("\\r", to);
		else if (c < 0x20 || c == 0x7f)
			fprintf(to, "\\u%04x", c);
		else
			fputc(c, to);
	}
	fputc('"', to);
}

/* The shortest digits that read back as the same number. Always with '.' or 'e': it stays a float. */
static void write_float(FILE *to, double v)
{
	char text[40];

	if (!isfinite(v)) {
		fprintf(to, "{\"$float\": \"%s\"}", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
		return;
	}
	for (int precision = 15; precision <= 17; precision++) {
		snprintf(text, sizeof(text), "%.*g", precision, v);
		if (strtod(text, NULL) == v)
			break;
	}
	fprintf(to, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* A dict that JSON can have as an object: str keys, none that begins with '$' or that readers would cut at a NUL. */
static bool is_object(const sb_value *dict)
{
	for (size_t i = 0; i < sb_value_len(dict); i++) {
		const sb_value *key = sb_value_key_at(dict, i);
		const char *text = sb_value_kind(key) == SB_KIND_STR ? sb_value_str(key, NULL) : "$";

		if (text[0] == '$' || strlen(text) != sb_value_len(key))
			return false;
	}
	return true;
}

static void write_dict(FILE *to, const sb_value *dict)
{
	bool object = is_object(dict);

	fputs(object ? "{" : "{\"$dict\": [", to);
	for (size_t i = 0; i < sb_value_len(dict); i++) {
		fputs(i ? ", " : "", to);
		fputs(object ? "" : "[", to);
		tool_json_write(to, sb_value_key_at(dict, i));
		fputs(object ? ": " : ", ", to);
		tool_json_write(to, sb_value_at(dict, i));
		fputs(object ? "" : "]", to);
	}
	fputs(object ? "}" : "]}", to);
}

static void write_items(FILE *to, const sb_value *value)
{
	fputc('[', to);
	for (size_t i = 0; i < sb_value_len(value); i++) {
		fputs(i ? ", " : "", to);
		tool_json_write(to, sb_value_at(value, i));
	}
	fputc(']', to);
}

static void write_ref(FILE *to, const sb_ref *ref)
{
	char text[SB_REF_TEXT_MAX] = "";

	sb_ref_format(ref, text, sizeof(text));
	fprintf(to, "{\"$ref\": \"%s\"", text);
	if (ref->type_name[0]) {
		fputs(", \"type\": ", to);
		write_text(to, ref->type_name, strlen(ref->type_name));
	}
	fputc('}', to);
}

void tool_json_write(FILE *to, const sb_value *value)
{
	bool boolean = false;
	int64_t integer = 0;
	double number = 0;
	size_t len = 0;
	const void *bytes;

	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: fputs("null", to); break;
	case SB_KIND_BOOL:
		sb_value_bool(value, &boolean);
		fputs(boolean ? "true" : "false", to);
		break;
	case SB_KIND_INT:
		sb_value_int(value, &integer);
		fprintf(to, "%" PRId64, integer);
		break;
	case SB_KIND_FLOAT:
		sb_value_float(value, &number);
		write_float(to, number);
		break;
	case SB_KIND_STR:
		bytes = sb_value_str(value, &len);
		write_text(to, bytes, len);
		break;
	case SB_KIND_BYTES:
		bytes = sb_value_bytes(value, &len);
		fputs("{\"$bytes\": \"", to);
		tool_base64_write(to, bytes, len);
		fputs("\"}", to);
		break;
	case SB_KIND_LIST: write_items(to, value); break;
	case SB_KIND_TUPLE:
		fputs("{\"$tuple\": ", to);
		write_items(to, value);
		fputc('}', to);
		break;
	case SB_KIND_DICT: write_dict(to, value); break;
	case SB_KIND_REF: write_ref(to, sb_value_ref(value)); break;
	default: fputs("null", to); break; /* none comes yet */
	}
}

/* ── reading ── */

/* Values on their way into a container, which copies them. */
struct items {
	sb_value **values;
	size_t count, cap;
};

static int read_value(const json_t *json, sb_value **ret, char *error);

static int fail(char *error, int code, const char *message)
{
	snprintf(error, TOOL_JSON_ERROR_MAX, "%s", message);
	return code;
}

/* What a function of the library has just reported. */
static int pass_on(char *error, int code)
{
	return code ? fail(error, code, sb_last_error()->message) : 0;
}

static int items_init(struct items *items, size_t cap, char *error)
{
	*items = (struct items){ .values = calloc(cap ? cap : 1, sizeof(sb_value *)), .cap = cap };
	return items->values ? 0 : fail(error, SB_ENOMEM, "out of memory");
}

/* The container that format makes of the items, which are freed. err: what went wrong before. */
static int items_finish(struct items *items, const char *format, int err, sb_value **ret, char *error)
{
	const sb_value *const *values = (const sb_value *const *)items->values;

	if (!err)
		err = pass_on(error, sb_value_pack(ret, format, values, items->count));
	for (size_t i = 0; i < items->count; i++)
		sb_value_free(items->values[i]);
	free(items->values);
	return err;
}

static int add_item(struct items *items, const json_t *json, char *error)
{
	int err = read_value(json, &items->values[items->count], error);

	if (!err)
		items->count++;
	return err;
}

static int read_array(const json_t *array, const char *format, sb_value **ret, char *error)
{
	struct items items;
	int err = items_init(&items, json_array_size(array), error);

	if (err)
		return err;
	for (size_t i = 0; i < items.cap && !err; i++)
		err = add_item(&items, json_array_get(array, i), error);
	return items_finish(&items, format, err, ret, error);
}

static int read_object(json_t *object, sb_value **ret, char *error)
{
	struct items items;
	int err = items_init(&items, 2 * json_object_size(object), error);
	const char *key;
	json_t *value;

	if (err)
		return err;
	json_object_foreach(object, key, value)
	{
		err = pass_on(error, sb_value_pack(&items.values[items.count], "s", key));
		if (err)
			break;
		items.count++;
		err = add_item(&items, value, error);
		if (err)
			break;
	}
	return items_finish(&items, "{*}", err, ret, error);
}

static int read_pairs(const json_t *pairs, sb_value **ret, char *error)
{
	static const char shape[] = "\"$dict\" needs an array of [key, value] pairs";
	struct items items;
	int err;

	if (!json_is_array(pairs))
		return fail(error, SB_EINVAL, shape);
	err = items_init(&items, 2 * json_array_size(pairs), error);
	if (err)
		return err;
	for (size_t i = 0; i < json_array_size(pairs) && !err; i++) {
		const json_t *pair = json_array_get(pairs, i);

		if (json_array_size(pair) != 2) /* 0 for what is no array */
			err = fail(error, SB_EINVAL, shape);
		for (size_t k = 0; k < 2 && !err; k++)
			err = add_item(&items, json_array_get(pair, k), error);
	}
	return items_finish(&items, "{*}", err, ret, error);
}

static int read_bytes(const json_t *json, sb_value **ret, char *error)
{
	size_t len = json_string_length(json), n = 0;
	unsigned char *bytes;
	int err;

	if (!json_is_string(json))
		return fail(error, SB_EINVAL, "\"$bytes\" needs a string of base64");
	bytes = malloc(len + 1);
	if (!bytes)
		return fail(error, SB_ENOMEM, "out of memory");
	if (tool_base64_read(json_string_value(json), len, bytes, &n))
		err = pass_on(error, sb_value_pack(ret, "y", bytes, n));
	else
		err = fail(error, SB_EINVAL, "\"$bytes\" is not base64");
	free(bytes);
	return err;
}

static int read_float(const json_t *json, sb_value **ret, char *error)
{
	static const struct {
		const char *name;
		double value;
	} known[] = { { "nan", (double)NAN }, { "inf", (double)INFINITY }, { "-inf", -(double)INFINITY } };
	const char *name = json_string_value(json);

	for (size_t i = 0; name && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i].name) == 0)
			return pass_on(error, sb_value_pack(ret, "d", known[i].value));
	return fail(error, SB_EINVAL, "\"$float\" needs \"nan\", \"inf\" or \"-inf\"");
}

static int read_ref(const json_t *json, sb_value **ret, char *error)
{
	sb_ref ref;
	int err;

	if (!json_is_string(json))
		return fail(error, SB_EINVAL, "\"$ref\" needs a ref's printed form");
	err = sb_ref_parse(json_string_value(json), &ref);
	if (!err)
		err = sb_value_pack(ret, "r", &ref);
	return pass_on(error, err);
}

static int read_tuple(const json_t *json, sb_value **ret, char *error)
{
	if (!json_is_array(json))
		return fail(error, SB_EINVAL, "\"$tuple\" needs an array");
	return read_array(json, "(*)", ret, error);
}

/* An object with a key that begins with '$'. */
static int read_special(const json_t *object, sb_value **ret, char *error)
{
	static const struct {
		const char *key;
		int (*read)(const json_t *, sb_value **, char *);
		const char *also; /* a key that may stand beside it */
	} known[] = {
		{ "$ref", read_ref, "type" },   { "$tuple", read_tuple, NULL },
		{ "$bytes", read_bytes, NULL }, { "$float", read_float, NULL },
		{ "$dict", read_pairs, NULL },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const json_t *value = json_object_get(object, known[i].key);
		size_t size = 1 + (known[i].also && json_object_get(object, known[i].also) ? 1 : 0);

		if (value && json_object_size(object) == size)
			return known[i].read(value, ret, error);
	}
	return fail(error, SB_EINVAL,
	            "a key that begins with '$' has a meaning here; write such a dict as {\"$dict\": [[key, "
	            "value]]}");
}

static bool is_special(json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value) if (key[0] == '$') return true;
	return false;
}

static int read_value(const json_t *json, sb_value **ret, char *error)
{
	switch (json_typeof(json)) {
	case JSON_NULL: return pass_on(error, sb_value_pack(ret, "n"));
	case JSON_TRUE:
	case JSON_FALSE: return pass_on(error, sb_value_pack(ret, "b", json_is_true(json)));
	case JSON_INTEGER: return pass_on(error, sb_value_pack(ret, "l", (int64_t)json_integer_value(json)));
	case JSON_REAL: return pass_on(error, sb_value_pack(ret, "d", json_real_value(json)));
	case JSON_STRING:
		return pass_on(error,
		               sb_value_pack(ret, "u", json_string_value(json), json_string_length(json)));
	case JSON_ARRAY: return read_array(json, "[*]", ret, error);
	case JSON_OBJECT:
		if (is_special((json_t *)json))
			return read_special(json, ret, error);
		return read_object((json_t *)json, ret, error);
	}
	return fail(error, SB_EBUG, "JSON of an unknown type");
}

int tool_json_read(const char *text, sb_value **ret_value, char error[TOOL_JSON_ERROR_MAX])
{
	json_error_t where;
	json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
	int err;

	if (json) {
		err = read_value(json, ret_value, error);
		json_decref(json);
		return err;
	}
	if (json_error_code(&where) == json_error_numeric_overflow)
		return fail(error, SB_EINVAL, "a number beyond 64 bits, which cannot be passed");
	if (json_error_code(&where) == json_error_out_of_memory)
		return fail(error, SB_ENOMEM, "out of memory");
	snprintf(error, TOOL_JSON_ERROR_MAX, "no JSON: %s", where.text);
	return SB_EINVAL;
}
