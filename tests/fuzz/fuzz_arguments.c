/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sb-call's command line, parsed in this process: options, verb, refs, JSON arguments. It ends where the tool would open the
 * bridge.
 *
 * Input: words, a NUL behind each.
 */
#include "fuzz.h"

#include <getopt.h>
#include <sys/wait.h>
#include <unistd.h>

#define main sb_call_main
int sb_call_main(int argc, char **argv);
#define sb_bridge_open fuzz_bridge_open
#include "sb-call.c"
#undef sb_bridge_open
#undef main

#define WORDS_MAX 24

/* Instead of the library's: nothing is called. */
int fuzz_bridge_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret)
{
	(void)dir;
	(void)options;
	(void)ret;
	return SB_ENOBRIDGE;
}

static void forget(void)
{
	tool_session_free(&wanted);
	common = (struct tool_common)TOOL_COMMON_INIT;
	wanted = (struct tool_session)TOOL_SESSION_INIT;
	not_persistent = attach_only = as_ref = plain = false;
	batch = 100;
	optind = 0; /* glibc: begin anew */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *words[WORDS_MAX + 2] = { (char *)(uintptr_t) "sb-call" };
	static FILE *nowhere;
	FILE *out = stdout, *err = stderr;
	int count = 1, status;

	if (!nowhere && !(nowhere = fopen("/dev/null", "w")))
		abort();
	for (char *p = text; p < text + size && count <= WORDS_MAX; p += strlen(p) + 1)
		words[count++] = p;
	forget();
	stdout = stderr = nowhere; /* glibc's are variables; the fuzzer has its own copy */
	status = sb_call_main(count, words);
	stdout = out;
	stderr = err;
	FUZZ_CHECK(status >= 0 && status <= 7);
	free(text);
	return 0;
}
