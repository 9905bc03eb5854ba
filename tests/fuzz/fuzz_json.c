/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader: what it takes is written back as text that reads as the same text again. */
#include "fuzz.h"

#include "snakebridge/snakebridge.h"
#include "value_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *first = NULL, *second = NULL;
	sb_value *value = NULL, *again = NULL;

	if (sb_value_from_json(text, &value) == 0 && sb_value_to_json(value, &first) == 0) {
		struct sb__buf buf;

		FUZZ_CHECK(sb_value_from_json(first, &again) == 0);
		FUZZ_CHECK(sb_value_to_json(again, &second) == 0);
		FUZZ_CHECK(strcmp(first, second) == 0);
		sb__buf_init(&buf, NULL, 0);
		sb__value_encode(value, &buf);
		FUZZ_CHECK(buf.error == 0);
		sb__buf_free(&buf);
	}
	free(first);
	free(second);
	free(text);
	sb_value_free(value);
	sb_value_free(again);
	return 0;
}
