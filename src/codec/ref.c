/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The printed form of refs. Only one text is the form of a given ref, so texts can be compared; whether
 * the object still lives is for the call that uses the ref to find out.
 *
 * A ref's nonce is what a guess does not know, so error messages never repeat the text.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "snakebridge/ref.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "ids.h"

#define PREFIX "sbref:"

/* May it stand in the form as it is? The rest is what a shell, a URL or the form itself may give a meaning. */
static bool plain(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("._-+@,/=", c));
}

/* ret: at least 3 * SB_SESSION_ID_MAX + 1 bytes. */
static void escape(const char *id, char *ret)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *id; id++) {
		unsigned char c = (unsigned char)*id;

		if (plain(c)) {
			*ret++ = (char)c;
			continue;
		}
		*ret++ = '%';
		*ret++ = hex[c >> 4];
		*ret++ = hex[c & 15];
	}
	*ret = '\0';
}

int sb_ref_format(const sb_ref *ref, char *text, size_t size)
{
	char id[3 * SB_SESSION_ID_MAX + 1], nonce[2 * sizeof(ref->nonce) + 1], whole[SB_REF_TEXT_MAX];
	int n;

	if (!ref || !text)
		return sb__fail(SB_EINVAL, "%s is NULL", ref ? "text" : "ref");
	if (!ref->session_id[0] || !memchr(ref->session_id, '\0', sizeof(ref->session_id)))
		return sb__fail(SB_EINVAL,
		                "the ref has no session id; take it from a call or sb_ref_parse()");
	escape(ref->session_id, id);
	for (size_t i = 0; i < sizeof(ref->nonce); i++)
		snprintf(nonce + 2 * i, 3, "%02x", ref->nonce[i]);
	n = snprintf(whole, sizeof(whole), PREFIX "%s:%" PRIu64 ":%" PRIu32 ".%" PRIu32 ":%s", id,
	             ref->incarnation, ref->slot, ref->generation, nonce);
	if (n < 0 || (size_t)n >= size)
		return sb__fail(SB_EINVAL,
		                "a buffer of %zu bytes is too small for the ref; give it "
		                "SB_REF_TEXT_MAX",
		                size);
	memcpy(text, whole, (size_t)n + 1);
	return 0;
}

/* ── parsing: *at moves past what was read ── */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Two hex digits; -1 if there are none. */
static int hex_byte(const char *p)
{
	int high = hex_digit(p[0]), low = high < 0 ? -1 : hex_digit(p[1]);

	return low < 0 ? -1 : high * 16 + low;
}

static bool read_id(const char **at, char id[SB_SESSION_ID_MAX + 1])
{
	const char *p = *at;
	size_t n = 0;

	while (*p && *p != ':') {
		int c = (unsigned char)*p;
		size_t width = c == '%' ? 3 : 1;

		if (width == 3)
			c = hex_byte(p + 1);
		if (c <= 0 || n == SB_SESSION_ID_MAX)
			return false;
		id[n++] = (char)c;
		p += width;
	}
	id[n] = '\0';
	*at = p;
	return n > 0;
}

static bool read_number(const char **at, uint64_t max, uint64_t *ret)
{
	const char *p = *at;
	uint64_t v = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (v > (max - digit) / 10)
			return false;
		v = 10 * v + digit;
	}
	if (p == *at)
		return false;
	*at = p;
	*ret = v;
	return true;
}

static bool read_char(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static bool read_nonce(const char **at, uint8_t nonce[16])
{
	for (size_t i = 0; i < 16; i++) {
		int byte = hex_byte(*at);

		if (byte < 0)
			return false;
		nonce[i] = (uint8_t)byte;
		*at += 2;
	}
	return true;
}

/* What is wrong with the text; NULL if nothing. */
static const char *read_ref(const char *text, sb_ref *ref)
{
	const char *p = text;
	uint64_t slot, generation;

	if (strncmp(p, PREFIX, strlen(PREFIX)) != 0)
		return "it does not begin with \"" PREFIX "\"";
	p += strlen(PREFIX);
	if (!read_id(&p, ref->session_id) || !read_char(&p, ':'))
		return "its session id is not well-formed";
	/* Incarnations are counted from 1 and travel as signed 64-bit integers. */
	if (!read_number(&p, INT64_MAX, &ref->incarnation) || !read_char(&p, ':'))
		return "its incarnation is not a number";
	if (!read_number(&p, UINT32_MAX, &slot) || !read_char(&p, '.'))
		return "its slot is not a number";
	if (!read_number(&p, UINT32_MAX, &generation) || !read_char(&p, ':'))
		return "its generation is not a number";
	if (!read_nonce(&p, ref->nonce))
		return "its last part is not 32 hex digits";
	if (*p)
		return "something follows its last part";
	ref->slot = (uint32_t)slot;
	ref->generation = (uint32_t)generation;
	return NULL;
}

int sb_ref_parse(const char *text, sb_ref *ret_ref)
{
	char again[SB_REF_TEXT_MAX];
	sb_ref ref = { 0 };
	const char *wrong;

	if (!text || !ret_ref)
		return sb__fail(SB_EINVAL, "%s is NULL", text ? "ret_ref" : "text");
	wrong = read_ref(text, &ref);
	if (!wrong && sb__session_id_check(ref.session_id))
		wrong = "its session id is not a valid one";
	if (!wrong && (sb_ref_format(&ref, again, sizeof(again)) || strcmp(text, again) != 0))
		wrong = "it is not written as it was printed";
	if (wrong)
		return sb__fail(SB_EREFMALFORMED,
		                "not a well-formed ref: %s; pass a ref exactly as it was printed", wrong);
	*ret_ref = ref;
	return 0;
}
