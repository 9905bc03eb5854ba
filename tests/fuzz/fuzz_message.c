/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as the owner reads them, replies and exceptions as the caller does. */
#include "fuzz.h"

#include "message.h"
#include "snakebridge/snakebridge.h"

static void as_request(const uint8_t *data, size_t len)
{
	struct sb__cursor cursor = { .data = data, .len = len };
	struct sb__request_head head;

	if (sb__request_decode(&cursor, &head) != 0)
		return;
	FUZZ_CHECK(cursor.pos <= len);
	if (head.name) {
		FUZZ_CHECK((const uint8_t *)head.name >= data);
		FUZZ_CHECK(head.name_len <= len && (const uint8_t *)head.name + head.name_len <= data + len);
	}
	/* The two containers of arguments, as values. */
	for (int i = 0; i < 2; i++) {
		sb_value *value = NULL;

		if (sb__value_decode(&cursor, "s", &value) != 0)
			return;
		sb_value_free(value);
	}
}

static void as_reply(const uint8_t *data, size_t len)
{
	sb_value *value = NULL;
	int err = sb__reply_decode(data, len, "s", &value);
	const sb_error *e = sb_last_error();

	if (err == 0) {
		FUZZ_CHECK(value);
		sb_value_free(value);
	} else {
		FUZZ_CHECK(e->code == err);
	}
	FUZZ_CHECK(sb__reply_decode(data, len, "s", NULL) == err || err == SB_EPROTOCOL ||
	           err == SB_ETOODEEP);
}

/* As one of the replies in a batch's reply: its arrays beside it, where it has any. */
static void as_item(const uint8_t *data, size_t len)
{
	struct sb__cursor cursor = { .data = data, .len = len };
	sb_value *reply = NULL, *value = NULL;

	if (sb__value_decode(&cursor, "s", &reply) != 0)
		return;
	if (sb__item_reply_decode(reply, "s", &value) == 0)
		FUZZ_CHECK(value);
	sb_value_free(value);
	sb_value_free(reply);
}

static void as_exception(const uint8_t *data, size_t len)
{
	struct sb__cursor cursor = { .data = data, .len = len };

	(void)sb__exception_decode(&cursor);
	FUZZ_CHECK(cursor.pos <= len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sb__buf buf = { .data = (uint8_t *)(uintptr_t)data, .len = size };

	as_request(data, size);
	as_reply(data, size);
	as_item(data, size);
	as_exception(data, size);
	(void)sb__reply_kind(&buf);
	return 0;
}
