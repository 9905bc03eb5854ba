/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as JSON. The form is described in docs/formats/json.md.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "b64.h"
#include "fail.h"
#include "scalar.h"
#include "text.h"
#include "tree.h"

static void say_json(struct sb__buf *buf, const sb_value *value);

static void say_string(struct sb__buf *buf, const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;

	sb__say(buf, "\"");
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '"' || p[i] == '\\')
			sb__sayf(buf, "\\%c", p[i]);
		else if (p[i] == '\n' || p[i] == '\t' || p[i] == '\r')
			sb__say(buf, p[i] == '\n' ? "\\n" : p[i] == '\t' ? "\\t" : "\\r");
		else if (p[i] < 0x20 || p[i] == 0x7f)
			sb__sayf(buf, "\\u%04x", p[i]);
		else if (p[i] == 0xed && p[i + 1] >= 0xa0) { /* a lone surrogate */
			sb__sayf(buf, "\\u%04x", 0xd000u | (p[i + 1] & 0x3fu) << 6 | (p[i + 2] & 0x3fu));
			i += 2;
		} else {
			sb__buf_append(buf, p + i, 1);
		}
	}
	sb__say(buf, "\"");
}

static void say_float(struct sb__buf *buf, double v)
{
	char text[SB__FLOAT_TEXT];
	uint64_t bits;

	sb__float_text(v, text);
	memcpy(&bits, &v, sizeof(bits));
	if (isnan(v) && bits != UINT64_C(0x7ff8000000000000))
		sb__sayf(buf, "{\"$float\": \"nan:%016" PRIx64 "\"}", bits);
	else
		sb__sayf(buf, isfinite(v) ? "%s" : "{\"$float\": \"%s\"}", text);
}

/* What JSON cannot have as a number. */
static void say_int(struct sb__buf *buf, const sb_value *value)
{
	bool hex = value->kind == SB_KIND_BIGINT && value->len > SB__INT_DIGITS_MAX * 2 / 5;

	sb__say(buf, hex ? "{\"$int\": \"" : "");
	sb__say_int(buf, value);
	sb__say(buf, hex ? "\"}" : "");
}

static void say_base64(struct sb__buf *buf, const char *key, const sb_value *value)
{
	const uint8_t *bytes = (const uint8_t *)value->u.bytes;
	char group[4];

	sb__sayf(buf, "{\"%s\": \"", key);
	for (size_t i = 0; i < value->len; i += 3) {
		sb__base64_group(bytes + i, value->len - i < 3 ? value->len - i : 3, group);
		sb__buf_append(buf, group, sizeof(group));
	}
	sb__say(buf, "\"}");
}

/* Two surrogates that JSON's readers would take for one character? */
static bool has_pair(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 5 < len; i++)
		if (p[i] == 0xed && p[i + 1] >= 0xa0 && p[i + 1] < 0xb0 && p[i + 3] == 0xed &&
		    p[i + 4] >= 0xb0)
			return true;
	return false;
}

/* A dict that JSON can have as an object: str keys, none that begins with '$' or
 * that readers would cut at a NUL. */
static bool is_object(const sb_value *dict)
{
	for (size_t i = 0; i < dict->len; i++) {
		const sb_value *key = &dict->u.items[2 * i];

		if (key->kind != SB_KIND_STR || key->boolean || key->u.bytes[0] == '$' ||
		    strlen(key->u.bytes) != key->len)
			return false;
	}
	return true;
}

static void say_dict(struct sb__buf *buf, const sb_value *dict)
{
	bool object = is_object(dict);

	sb__say(buf, object ? "{" : "{\"$dict\": [");
	for (size_t i = 0; i < dict->len && !buf->error; i++) {
		sb__say(buf, i ? ", " : "");
		sb__say(buf, object ? "" : "[");
		say_json(buf, &dict->u.items[2 * i]);
		sb__say(buf, object ? ": " : ", ");
		say_json(buf, &dict->u.items[2 * i + 1]);
		sb__say(buf, object ? "" : "]");
	}
	sb__say(buf, object ? "}" : "]}");
}

static void say_items(struct sb__buf *buf, const char *key, const sb_value *value)
{
	if (key)
		sb__sayf(buf, "{\"%s\": ", key);
	sb__say(buf, "[");
	for (size_t i = 0; i < value->len && !buf->error; i++) {
		sb__say(buf, i ? ", " : "");
		say_json(buf, &value->u.items[i]);
	}
	sb__say(buf, key ? "]}" : "]");
}

static void say_ref(struct sb__buf *buf, const sb_ref *ref)
{
	char text[SB_REF_TEXT_MAX] = "";

	if (sb__is_item_ref(ref)) {
		sb__sayf(buf, "{\"$item\": %" PRIu32 "}", ref->slot);
		return;
	}
	sb_ref_format(ref, text, sizeof(text));
	sb__say(buf, "{\"$ref\": \"");
	sb__say(buf, text);
	sb__say(buf, "\"");
	if (ref->type_name[0]) {
		sb__say(buf, ", \"type\": ");
		say_string(buf, ref->type_name, strlen(ref->type_name));
	}
	sb__say(buf, "}");
}

static void say_when(struct sb__buf *buf, const sb_value *value)
{
	sb_kind kind = (sb_kind)value->kind;
	sb_datetime when;

	sb__tree_when(value, &when);
	sb__sayf(buf, "{\"$%s\": \"", sb_kind_name(kind));
	sb__say_when(buf, kind, &when);
	sb__say(buf, "\"");
	if (when.fold)
		sb__say(buf, ", \"fold\": 1");
	if (when.has_offset)
		sb__sayf(buf, ", \"utc_offset_us\": %" PRId64, when.utc_offset_us);
	if (when.zone) {
		sb__say(buf, ", \"zone\": ");
		say_string(buf, when.zone, when.zone_len);
	}
	sb__say(buf, "}");
}

static void say_array(struct sb__buf *buf, const sb_array *array)
{
	sb__say(buf, "{\"$array\": {\"dtype\": ");
	say_string(buf, sb_array_dtype(array), strlen(sb_array_dtype(array)));
	sb__say(buf, ", \"shape\": [");
	for (int i = 0; i < sb_array_ndim(array); i++)
		sb__sayf(buf, "%s%zu", i ? ", " : "", sb_array_shape(array)[i]);
	sb__say(buf, "]}}");
}

static void say_json(struct sb__buf *buf, const sb_value *value)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: sb__say(buf, "null"); return;
	case SB_KIND_BOOL: sb__say(buf, value->boolean ? "true" : "false"); return;
	case SB_KIND_INT:
	case SB_KIND_BIGINT: say_int(buf, value); return;
	case SB_KIND_FLOAT: say_float(buf, value->u.number); return;
	case SB_KIND_COMPLEX:
		sb__say(buf, "{\"$complex\": [");
		say_float(buf, value->u.number);
		sb__say(buf, ", ");
		say_float(buf, value->imaginary);
		sb__say(buf, "]}");
		return;
	case SB_KIND_STR:
		if (value->boolean && has_pair((const uint8_t *)value->u.bytes, value->len))
			say_base64(buf, "$str", value);
		else
			say_string(buf, value->u.bytes, value->len);
		return;
	case SB_KIND_BYTES: say_base64(buf, "$bytes", value); return;
	case SB_KIND_BYTEARRAY: say_base64(buf, "$bytearray", value); return;
	case SB_KIND_LIST: say_items(buf, NULL, value); return;
	case SB_KIND_TUPLE: say_items(buf, "$tuple", value); return;
	case SB_KIND_SET: say_items(buf, "$set", value); return;
	case SB_KIND_FROZENSET: say_items(buf, "$frozenset", value); return;
	case SB_KIND_FRACTION: say_items(buf, "$fraction", value); return;
	case SB_KIND_RANGE: say_items(buf, "$range", value); return;
	case SB_KIND_SLICE: say_items(buf, "$slice", value); return;
	case SB_KIND_DICT: say_dict(buf, value); return;
	case SB_KIND_REF: say_ref(buf, value->u.ref); return;
	case SB_KIND_DATETIME:
	case SB_KIND_DATE:
	case SB_KIND_TIME: say_when(buf, value); return;
	case SB_KIND_TIMEDELTA:
		sb__sayf(buf, "{\"$timedelta\": [%" PRId64 ", %" PRId64 "]}", value->u.integer,
		         value->microseconds);
		return;
	case SB_KIND_DECIMAL:
		sb__say(buf, "{\"$decimal\": ");
		say_string(buf, value->u.bytes, value->len);
		sb__say(buf, "}");
		return;
	case SB_KIND_UUID:
		sb__say(buf, "{\"$uuid\": \"");
		sb__say_uuid(buf, (const uint8_t *)value->u.bytes);
		sb__say(buf, "\"}");
		return;
	case SB_KIND_ELLIPSIS: sb__say(buf, "{\"$ellipsis\": null}"); return;
	case SB_KIND_ARRAY: say_array(buf, value->u.array); return;
	}
}

int sb_value_to_json(const sb_value *value, char **ret_text)
{
	struct sb__buf buf;

	if (!ret_text)
		return sb__fail(SB_EINVAL, "ret_text is NULL; give it the address of a variable");
	sb__buf_init(&buf, NULL, 0);
	say_json(&buf, value);
	return sb__text_finish(&buf, ret_text);
}
