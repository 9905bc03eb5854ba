/* SPDX-License-Identifier: Apache-2.0 */
/* Values off the wire: what decodes can be encoded again and decodes to the same; as JSON and as text it is well-formed. */
#include "fuzz.h"

#include "snakebridge/snakebridge.h"
#include "utf8.h"
#include "value_impl.h"

static void check_json(const sb_value *value)
{
	sb_value *back = NULL, *again = NULL;
	char *text = NULL, *second = NULL;

	if (sb_value_to_json(value, &text) != 0)
		return; /* too deep or too big: said so */
	FUZZ_CHECK(sb__utf8_prefix(text, strlen(text)) == strlen(text));
	if (sb_value_from_json(text, &back) == 0) {
		FUZZ_CHECK(sb_value_to_json(back, &second) == 0);
		FUZZ_CHECK(strcmp(text, second) == 0);
	}
	free(text);
	free(second);
	sb_value_free(back);
	sb_value_free(again);
}

static void check_text(const sb_value *value)
{
	char *text = NULL;

	if (sb_value_text(value, &text) == 0)
		FUZZ_CHECK(sb__utf8_prefix(text, strlen(text)) == strlen(text));
	free(text);
}

/* Encoded, decoded and encoded again: the same bytes. */
static void check_round(const sb_value *value)
{
	struct sb__buf first, second;
	struct sb__cursor cursor;
	sb_value *again = NULL, *copy = NULL;

	sb__buf_init(&first, NULL, 0);
	sb__buf_init(&second, NULL, 0);
	sb__value_encode(value, &first);
	FUZZ_CHECK(first.error == 0);
	cursor = (struct sb__cursor){ .data = first.data, .len = first.len };
	FUZZ_CHECK(sb__value_decode(&cursor, "s", &again) == 0);
	FUZZ_CHECK(cursor.pos == cursor.len);
	sb__value_encode(again, &second);
	FUZZ_CHECK(second.error == 0 && first.len == second.len);
	FUZZ_CHECK(memcmp(first.data, second.data, first.len) == 0);
	(void)sb_value_equal(value, again);
	FUZZ_CHECK(sb_value_copy(value, &copy) == 0);
	FUZZ_CHECK(sb_value_kind(copy) == sb_value_kind(value) && sb_value_len(copy) == sb_value_len(value));
	sb_value_free(copy);
	sb_value_free(again);
	sb__buf_free(&first);
	sb__buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sb__cursor cursor = { .data = data, .len = size }, skip = cursor;
	sb_value *value = NULL, *lent = NULL;
	_Alignas(16) uint8_t memory[512];
	int skipped = sb__skip(&skip);
	int err = sb__value_decode(&cursor, "s", &value);

	FUZZ_CHECK(cursor.pos <= size && skip.pos <= size);
	if (err == 0) {
		FUZZ_CHECK(skipped == 0 && skip.pos == cursor.pos);
		cursor.pos = 0;
		FUZZ_CHECK(sb__value_decode_into(&cursor, "s", memory, sizeof(memory), &lent) == 0);
		sb_value_free(lent);
		check_round(value);
		check_json(value);
		check_text(value);
	}
	sb_value_free(value);
	return 0;
}
