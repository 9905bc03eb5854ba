/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a core dump and the tools would show of refs' nonces. A core dump holds the memory whose mappings are not marked
 * MADV_DONTDUMP; here that memory is read from the living process, which needs no kernel setting. Points 33, 20.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

#define REFS   64
#define ON_WAY 8 /* of refs that were passed last: copies on stacks and in buffers that were not used again */

struct nonces {
	uint8_t bytes[REFS][16];
	bool seen[REFS];
};

static void make_refs(sb_session *s, struct nonces *n, sb_ref *first)
{
	for (int i = 0; i < REFS; i++) {
		sb_value *value = NULL;

		assert_ok(sb_call(s, "collections:Counter", NULL, &value));
		memcpy(n->bytes[i], sb_value_ref(value)->nonce, 16);
		if (i == 0)
			*first = *sb_value_ref(value);
		sb_value_free(value);
	}
	for (int i = 0; i < 200; i++) /* other things pass through the same buffers */
		assert_ok(sb_call(s, "operator:add", sb_args("ll", (int64_t)i, (int64_t)i), NULL));
}

static void search(struct nonces *n, const uint8_t *memory, size_t len)
{
	for (int i = 0; i < REFS; i++)
		n->seen[i] |= memmem(memory, len, n->bytes[i], 16) != NULL;
}

static void search_range(int mem, struct nonces *n, uint64_t from, uint64_t to)
{
	static uint8_t chunk[1 << 20];

	while (from < to) {
		size_t len = to - from < sizeof(chunk) ? (size_t)(to - from) : sizeof(chunk);
		ssize_t got = pread(mem, chunk, len, (off_t)from);

		if (got <= 16)
			return; /* no page there */
		search(n, chunk, (size_t)got);
		from += (uint64_t)got == to - from ? (uint64_t)got : (uint64_t)got - 15;
	}
}

/* Writable mappings that would be dumped. False: not ours to read. */
static bool search_process(pid_t pid, struct nonces *n)
{
	char path[64], line[512];
	uint64_t from = 0, to = 0;
	bool writable = false;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	maps = fopen(path, "re");
	if (mem < 0 || !maps)
		return false;
	while (fgets(line, sizeof(line), maps)) {
		char flags[8];

		uint64_t a, b;

		/* Not straight into from and to: "Anonymous:" begins like a number. */
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &a, &b, flags) == 3) {
			writable = flags[1] == 'w';
			from = a;
			to = b;
		} else if (strncmp(line, "VmFlags:", 8) == 0 && writable && !strstr(line, " dd"))
			search_range(mem, n, from, to);
	}
	fclose(maps);
	close(mem);
	return true;
}

static void test_33_no_nonces_in_a_core_dump_of_the_owner(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "secrets", SB_DESIGNATED_DEDICATED);
	sb_session_info info = { .size = sizeof(info) };
	static struct nonces n;
	unsigned found = 0;
	sb_ref first;

	if (fixture_slowness() > 1) {
		sb_session_close(s);
		skip(); /* ASan keeps what was freed, and stacks that were left, to see who still reads them */
	}
	make_refs(s, &n, &first);
	assert_ok(sb_session_get_info(s, &info));
	if (!search_process((pid_t)info.designated_pid, &n)) {
		fprintf(stderr, "the owner's memory may not be read here\n");
		skip();
	}
	for (int i = 0; i < REFS; i++)
		found += n.seen[i];
	printf("reliability: secrets/core-dump tried=%d failed=%u seconds=0\n", REFS,
	       found > ON_WAY ? found : 0);
	assert_in_range(found, 0, ON_WAY);
	/* The search finds what is there: in this process, the ref that it keeps. */
	memset(n.seen, 0, sizeof(n.seen));
	assert_true(search_process(getpid(), &n));
	assert_true(n.seen[0]);
	assert_memory_equal(first.nonce, n.bytes[0], 16);
	sb_session_close(s);
}

static void look(struct fixture *f, struct nonces *n, const char *tool, const char *word, const char *more)
{
	char *output = NULL;
	char hex[REFS][33];

	assert_int_equal(fixture_tool(f->dir, &output, tool, word, "--json", more, NULL), 0);
	assert_non_null(output);
	assert_true(strlen(output) > 20);
	for (int i = 0; i < REFS; i++) {
		for (int k = 0; k < 16; k++)
			snprintf(hex[i] + 2 * k, 3, "%02x", n->bytes[i][k]);
		assert_null(strstr(output, hex[i]));
	}
	free(output);
}

static void test_20_no_nonces_in_what_tools_print(void **state)
{
	static const char *const views[] = {
		"sessions", "processes", "owners", "calls", "events", "--check"
	};
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "secrets", SB_DESIGNATED_DEDICATED);
	char text[SB_REF_TEXT_MAX], hex[33];
	static struct nonces n;
	sb_ref first;

	make_refs(s, &n, &first);
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
		look(f, &n, "sb-inspect", views[i], NULL);
	look(f, &n, "sb-inspect", "refs", "secrets");
	look(f, &n, "sb-inspect", "session", "secrets");
	look(f, &n, "sb-reaper", "--once", NULL);
	/* Errors about a ref do not repeat what a guess does not know. */
	assert_ok(sb_ref_release(s, &first, NULL));
	assert_int_not_equal(sb_repr(s, &first, NULL), 0);
	for (int k = 0; k < 16; k++)
		snprintf(hex + 2 * k, 3, "%02x", first.nonce[k]);
	assert_null(strstr(sb_last_error()->message, hex));
	assert_ok(sb_ref_format(&first, text, sizeof(text)));
	text[strlen(text) - 1] = 'x'; /* malformed */
	assert_int_equal(sb_ref_parse(text, &first), SB_EREFMALFORMED);
	hex[30] = '\0';
	assert_null(strstr(sb_last_error()->message, hex));
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_33_no_nonces_in_a_core_dump_of_the_owner, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_20_no_nonces_in_what_tools_print, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("secrets", tests, NULL, NULL);
}
