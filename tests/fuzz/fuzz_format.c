/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format languages: sb_args() and sb_value_pack(), sb_value_unpack(). A format is its program's, not a stranger's; but
 * whatever it is, it must be refused or do what it says.
 *
 * Input: first byte odd: packing; else unpacking. Then a format up to a NUL, then a value. For packing a letter whose arguments the
 * fixed ones below do not fit is replaced by one that they do.
 */
#include "fuzz.h"

#include "snakebridge/snakebridge.h"
#include "value_impl.h"

/* Codes whose arguments are one pointer to text, or a word that any number fits. */
static void tame(char *format)
{
	static const char one[] = "nsDz.bilL";

	for (char *p = format; *p; p++)
		if (strchr("uyYwtTcUorad*", *p))
			*p = one[(unsigned char)*p % (sizeof(one) - 1)];
}

static void pack(char *format)
{
	static const char t[] = "12";
	sb_value *value = NULL;
	sb_args *args;

	tame(format);
	if (strlen(format) > 12) /* as many arguments as are there */
		format[12] = '\0';
	args = sb_args_pack(format, t, t, t, t, t, t, t, t, t, t, t, t);
	FUZZ_CHECK(args);
	(void)sb__args_error(args);
	sb_args_free(args);
	if (sb_value_pack(&value, format, t, t, t, t, t, t, t, t, t, t, t, t) == 0)
		FUZZ_CHECK(value);
	sb_value_free(value);
}

static void unpack(const char *format, const uint8_t *data, size_t len)
{
	struct sb__cursor cursor = { .data = data, .len = len };
	/* Large enough for whatever a code writes; a key of a dict is read from it as text, too. */
	static union {
		sb_ref ref;
		sb_datetime when;
		char text[sizeof(sb_ref)];
	} out[24];
	sb_value *value = NULL;

	if (strlen(format) > 12 || sb__value_decode(&cursor, "s", &value) != 0)
		return;
	memset(out, 0, sizeof(out));
#define TWO(i)  &out[i], &out[(i) + 1]
#define FOUR(i) TWO(i), TWO((i) + 2)
	(void)sb_value_unpack(value, format, FOUR(0), FOUR(4), FOUR(8), FOUR(12), FOUR(16), FOUR(20));
	sb_value_free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size > 1 ? memchr(data + 1, '\0', size - 1) : NULL;
	size_t len = end ? (size_t)(end - data) - 1 : size > 1 ? size - 1 : 0;
	char *format;

	if (size < 2)
		return 0;
	format = fuzz_text(data + 1, len);
	if (data[0] & 1)
		pack(format);
	else if (end)
		unpack(format, end + 1, size - (size_t)(end + 1 - data));
	free(format);
	return 0;
}
