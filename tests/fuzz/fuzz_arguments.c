/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-call's command line, parsed in this process: options, verb, refs, JSON arguments, files of requests. It ends where the tool
 * would open the bridge.
 *
 * Input: words, a NUL behind each. One that names a file ("@...", "name=@...") names the same one always, which holds the first word.
 */
#include "fuzz.h"

#include <getopt.h>

#define main sb_call_main
int sb_call_main(int argc, char **argv);
#include "sb-call.c"
#undef main

#define WORDS_MAX 24
#define FILE_NAME "@/proc/self/fd/"

/* Instead of the library's (CMakeLists.txt): nothing is called. */
int fuzz_bridge_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret)
{
	(void)dir;
	(void)options;
	(void)ret;
	return SB_ENOBRIDGE;
}

static void forget(void)
{
	static struct call_settings fresh;
	static bool known;

	if (!known)
		fresh = call_settings;
	known = true;
	tool_session_free(&call_settings.session);
	call_settings = fresh;
	optind = 0; /* glibc: begin anew */
}

/* A word to be freed. */
static char *word(const char *text, FILE *named)
{
	const char *at = text[0] == '@' ? text : strstr(text, "=@");
	char *copy;
	int n;

	if (!at)
		return fuzz_text((const uint8_t *)text, strlen(text));
	n = asprintf(&copy, "%.*s" FILE_NAME "%d", (int)(at - text) + (at[0] == '='), text, fileno(named));
	if (n < 0)
		abort();
	return copy;
}

static FILE *file_of(const char *text)
{
	FILE *file = tmpfile();

	if (!file || fputs(text, file) < 0 || fflush(file) != 0)
		abort();
	return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *words[WORDS_MAX + 2] = { NULL };
	FILE *out = stdout, *err = stderr, *named = file_of(text);
	static FILE *nowhere;
	int count = 0, status;

	if (!nowhere && (!(nowhere = fopen("/dev/null", "w")) || !freopen("/dev/null", "r", stdin)))
		abort();
	words[count++] = fuzz_text((const uint8_t *)"sb-call", 7);
	for (char *p = text; p < text + size && count <= WORDS_MAX; p += strlen(p) + 1)
		words[count++] = word(p, named);
	forget();
	stdout = stderr = nowhere; /* glibc's are variables; the fuzzer has its own copy */
	status = sb_call_main(count, words);
	stdout = out;
	stderr = err;
	FUZZ_CHECK(status >= 0 && status <= 7);
	forget();
	for (int i = 0; i < count; i++)
		free(words[i]);
	fclose(named);
	free(text);
	return 0;
}
