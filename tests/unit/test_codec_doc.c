/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays the examples of docs/formats/wire.md: each example's bytes are read and shown in diagnostic notation,
 * which must be what the page says, and written again, which must give the same bytes.
 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fail.h"
#include "value_impl.h"
#include "wire.h"
#include "wire_page.h"

#define TEXT_MAX WIRE_TEXT_MAX

/* ── diagnostic notation, and writing again ── */

struct shown {
	struct sb__cursor cursor;
	struct sb__buf again;
	char text[TEXT_MAX];
	size_t len;
};

static void say(struct shown *s, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
static void say(struct shown *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	s->len += (size_t)vsnprintf(s->text + s->len, sizeof(s->text) - s->len, fmt, ap);
	va_end(ap);
	assert_true(s->len < sizeof(s->text));
}

static void show_float(struct shown *s, double v)
{
	char number[64];

	if (isnan(v))
		say(s, "NaN");
	else if (isinf(v))
		say(s, "%sInfinity", v < 0 ? "-" : "");
	else {
		for (int digits = 1; digits <= 17; digits++) {
			snprintf(number, sizeof(number), "%.*g", digits, v);
			if (strtod(number, NULL) == v)
				break;
		}
		say(s, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
	}
	sb__put_float(&s->again, v);
}

static void show(struct shown *s);

static void show_items(struct shown *s, const struct sb__item *item)
{
	bool map = item->type == SB__ITEM_MAP;

	if (map)
		sb__put_map(&s->again, item->u.count);
	else
		sb__put_array(&s->again, item->u.count);
	say(s, map ? "{" : "[");
	for (uint64_t i = 0; i < item->u.count; i++) {
		if (i > 0)
			say(s, ", ");
		show(s);
		if (map) {
			say(s, ": ");
			show(s);
		}
	}
	say(s, map ? "}" : "]");
}

static void show_bytes(struct shown *s, const struct sb__item *item)
{
	if (item->type == SB__ITEM_STR) {
		say(s, "\"%.*s\"", (int)item->u.bytes.len, (const char *)item->u.bytes.data);
		sb__put_str(&s->again, (const char *)item->u.bytes.data, item->u.bytes.len);
		return;
	}
	say(s, "h'");
	for (size_t i = 0; i < item->u.bytes.len; i++)
		say(s, "%02x", item->u.bytes.data[i]);
	say(s, "'");
	sb__put_bytes(&s->again, item->u.bytes.data, item->u.bytes.len);
}

static void show(struct shown *s)
{
	struct sb__item item;

	assert_int_equal(sb__next(&s->cursor, &item), 0);
	switch (item.type) {
	case SB__ITEM_NULL:
		say(s, "null");
		sb__put_null(&s->again);
		break;
	case SB__ITEM_BOOL:
		say(s, item.u.boolean ? "true" : "false");
		sb__put_bool(&s->again, item.u.boolean);
		break;
	case SB__ITEM_INT:
		say(s, "%" PRId64, item.u.integer);
		sb__put_int(&s->again, item.u.integer);
		break;
	case SB__ITEM_FLOAT: show_float(s, item.u.number); break;
	case SB__ITEM_STR:
	case SB__ITEM_BYTES: show_bytes(s, &item); break;
	case SB__ITEM_ARRAY:
	case SB__ITEM_MAP: show_items(s, &item); break;
	case SB__ITEM_TAG:
		say(s, "%" PRIu64 "(", item.u.count);
		sb__put_tag(&s->again, item.u.count);
		show(s);
		say(s, ")");
		break;
	}
}

/* The same through a tree. */
static void replay_value(const struct wire_example *example)
{
	struct sb__cursor cursor = { .data = example->bytes, .len = example->len };
	struct sb__buf again;
	sb_value *value = NULL;

	sb__buf_init(&again, NULL, 0);
	assert_int_equal(sb__value_decode(&cursor, "s", &value), 0);
	sb__value_encode(value, &again);
	assert_int_equal(again.error, 0);
	assert_int_equal(again.len, example->len);
	assert_memory_equal(again.data, example->bytes, example->len);
	sb_value_free(value);
	sb__buf_free(&again);
}

/* One in shared memory is of some process, which there is none of here. */
static bool is_array_in_message(const struct wire_example *example)
{
	return strncmp(example->text, "21325(", 6) == 0 && !strstr(example->text, "21326(");
}

static void replay(const struct wire_example *example, bool same_bytes)
{
	struct shown s = { .cursor = { .data = example->bytes, .len = example->len } };
	struct sb__cursor skipped = s.cursor;

	sb__buf_init(&s.again, NULL, 0);
	show(&s);
	assert_string_equal(s.text, example->text);
	assert_int_equal(s.cursor.pos, example->len);
	assert_int_equal(s.again.error, 0);
	if (same_bytes) {
		assert_int_equal(s.again.len, example->len);
		assert_memory_equal(s.again.data, example->bytes, example->len);
	}
	sb__buf_free(&s.again);
	assert_int_equal(sb__skip(&skipped), 0);
	assert_int_equal(skipped.pos, example->len);
	if (example->python[0] || is_array_in_message(example))
		replay_value(example);
}

static void replay_exact(const struct wire_example *example, void *arg)
{
	(void)arg;
	replay(example, true);
}

static void replay_long(const struct wire_example *example, void *arg)
{
	(void)arg;
	replay(example, false);
}

static void replay_refused(const struct wire_example *example, void *arg)
{
	struct sb__cursor cursor = { .data = example->bytes, .len = example->len };
	sb_value *value = (sb_value *)1;

	(void)arg;
	assert_int_equal(sb__value_decode(&cursor, "s", &value), SB_EPROTOCOL);
	assert_ptr_equal(value, (sb_value *)1);
	if (!strstr(sb_last_error()->message, example->text))
		fail_msg("expected \"%s\" in \"%s\"", example->text, sb_last_error()->message);
}

static void test_examples(void **state)
{
	(void)state;
	assert_int_equal(wire_each("wire", replay_exact, NULL), 78);
}

static void test_long_heads(void **state)
{
	(void)state;
	assert_int_equal(wire_each("wire-long", replay_long, NULL), 2);
}

static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(wire_each("wire-refused", replay_refused, NULL), 67);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_long_heads),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("codec_doc", tests, NULL, NULL);
}
