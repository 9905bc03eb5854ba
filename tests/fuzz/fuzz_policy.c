/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's policy: patterns against paths and attribute names. What must hold for any of both: a name of which a piece is
 * denied as an attribute stays denied, whatever else it has.
 *
 * Input: the patterns up to an empty one ("+json" NUL "-.__*__" NUL NUL), then a name.
 */
#include "fuzz.h"

#include "convert.h"
#include "policy.h"
#include "snakebridge/snakebridge.h"

/* The engine's, which is not linked here: its plugin needs Python. */
int sb__because(struct sb__why *why, int code, const char *fmt, ...)
{
	(void)fmt;
	why->code = code;
	return code;
}

static void check(const struct sb__policy *policy, const char *name, size_t len)
{
	struct sb__why why = { 0 };
	int path = sb__policy_path(policy, name, len, &why);
	int attr = sb__policy_attr(policy, name, len, &why);
	int pieces = sb__policy_denied_pieces(policy, name, len, &why);

	FUZZ_CHECK(path == 0 || path == SB_EDENIED);
	FUZZ_CHECK(attr == 0 || attr == SB_EDENIED);
	FUZZ_CHECK(pieces == 0 || (pieces == SB_EDENIED && attr == SB_EDENIED));
	if (!memchr(name, '\0', len)) {
		char *text = fuzz_text((const uint8_t *)name, len);
		char *colon = strchr(text, ':');

		if (colon) {
			int in;

			*colon = '\0';
			in = sb__policy_in_module(policy, text, colon + 1, true, &why);
			FUZZ_CHECK(in == 0 || in == SB_EDENIED);
			/* A path that is allowed stays so for one who walks there. */
			if (path == 0 && text[0])
				FUZZ_CHECK(sb__policy_in_module(policy, text, colon + 1, false, &why) == 0);
		}
		free(text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sb__policy *policy = NULL;
	size_t len = 0;
	char *text;

	while (len + 1 < size && (data[len] || data[len + 1]))
		len++;
	if (len + 2 > size)
		return 0;
	text = fuzz_text(data, len + 1);
	/* As the store has checked it: every pattern with a sign. */
	for (size_t i = 0; i < len; i++)
		if ((i == 0 || !text[i - 1]) && text[i] != '-')
			text[i] = '+';
	if (sb__policy_make(text, len > 0 ? len + 1 : 0, &policy) == 0) {
		char *name = malloc(size - len - 2 + 1);

		if (!name)
			abort();
		memcpy(name, data + len + 2, size - len - 2);
		check(policy, name, size - len - 2);
		free(name);
	}
	sb__policy_free(policy);
	free(text);
	return 0;
}
