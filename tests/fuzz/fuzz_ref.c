/* SPDX-License-Identifier: Apache-2.0 */
/* Printed refs and session ids: what parses prints back to itself, and no other text parses to the same ref. */
#include "fuzz.h"

#include "ids.h"
#include "snakebridge/snakebridge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), printed[SB_REF_TEXT_MAX];
	sb_ref ref, again;

	(void)sb__session_id_valid(text);
	if (sb_ref_parse(text, &ref) == 0) {
		FUZZ_CHECK(sb__session_id_valid(ref.session_id));
		FUZZ_CHECK(sb_ref_format(&ref, printed, sizeof(printed)) == 0);
		FUZZ_CHECK(strcmp(text, printed) == 0);
		FUZZ_CHECK(sb_ref_parse(printed, &again) == 0);
		FUZZ_CHECK(again.slot == ref.slot && again.generation == ref.generation &&
		           again.incarnation == ref.incarnation);
		FUZZ_CHECK(memcmp(again.nonce, ref.nonce, sizeof(ref.nonce)) == 0);
		FUZZ_CHECK(strcmp(again.session_id, ref.session_id) == 0);
	}
	free(text);
	return 0;
}
