/* SPDX-License-Identifier: Apache-2.0 */
/* See wire_page.h. */
#include "wire_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static FILE *open_page(void)
{
	const char *root = getenv("SB_SOURCE_DIR");
	char path[WIRE_TEXT_MAX];
	FILE *page;

	snprintf(path, sizeof(path), "%s/docs/formats/wire.md", root ? root : ".");
	page = fopen(path, "r");
	assert_non_null(page);
	return page;
}

static void add_hex(struct wire_example *example, const char *line)
{
	for (; *line; line++) {
		unsigned byte;

		if (*line == ' ' || *line == '\n')
			continue;
		assert_int_equal(sscanf(line, "%2x", &byte), 1);
		assert_true(example->len < sizeof(example->bytes));
		example->bytes[example->len++] = (uint8_t)byte;
		line++;
	}
}

static void copy_line(char *to, const char *line)
{
	snprintf(to, WIRE_TEXT_MAX, "%.*s", (int)strcspn(line, "\n"), line);
}

unsigned wire_each(const char *kind, void (*fn)(const struct wire_example *, void *), void *arg)
{
	static struct wire_example example;
	char line[WIRE_TEXT_MAX], opening[64];
	unsigned count = 0;
	bool inside = false;
	FILE *page = open_page();

	memset(&example, 0, sizeof(example));
	snprintf(opening, sizeof(opening), "```%s\n", kind);
	while (fgets(line, sizeof(line), page)) {
		bool end = inside && strncmp(line, "```", 3) == 0;

		if (inside && strncmp(line, "    = ", 6) == 0) {
			copy_line(example.python, line + 6);
			continue;
		}
		if (inside && strncmp(line, "    ", 4) == 0) {
			add_hex(&example, line);
			continue;
		}
		if (inside && example.text[0]) {
			fn(&example, arg);
			count++;
			memset(&example, 0, sizeof(example));
		}
		if (end)
			inside = false;
		else if (inside)
			copy_line(example.text, line);
		else
			inside = strcmp(line, opening) == 0;
	}
	fclose(page);
	return count;
}
