/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words that stand for a file's contents, or for stdin. What is in it decides what it is: an array, by the magic of
 * numpy.save(), or JSON.
 *
 * Crash: nothing shared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "json.h"

#define TEXT_MAX ((size_t)1 << 30)

int call_read_json(const char *text, const char *what, const char *word, sb_value **ret)
{
	char error[TOOL_JSON_ERROR_MAX];
	int err;

	if (text[strspn(text, " \t\r\n")] == '\0')
		return tool_usage(&call_tool, "%s '%s': there is no JSON in it (an empty text is '\"\"')",
		                  what, word);
	err = tool_json_read(text, ret, error);
	if (err == 0)
		return 0;
	if (err == SB_EREFMALFORMED)
		return call_library_error();
	return tool_usage(&call_tool, "%s '%.80s%s': %s (a text needs its quotes: '\"text\"')", what, word,
	                  strlen(word) > 80 ? "..." : "", error);
}

bool call_source_is(const char *word)
{
	return word[0] == '@' || strcmp(word, "-") == 0;
}

/* The rest of the file, after the bytes that are there already. */
static int read_text(FILE *file, const char *word, const char *begun, size_t len, char **ret)
{
	size_t size = 4096, n;
	char *text = malloc(size), *more;

	if (text)
		memcpy(text, begun, len);
	while (text && (n = fread(text + len, 1, size - len - 1, file)) > 0) {
		len += n;
		if (len > TEXT_MAX) {
			free(text);
			return tool_usage(&call_tool, "'%s': more than %zu bytes of JSON", word, TEXT_MAX);
		}
		if (size - len > 1)
			continue;
		size *= 2;
		more = realloc(text, size);
		if (!more)
			free(text);
		text = more;
	}
	if (!text)
		return tool_usage(&call_tool, "'%s': out of memory", word);
	text[len] = '\0';
	if (!ferror(file) && strlen(text) == len) {
		*ret = text;
		return 0;
	}
	free(text);
	return ferror(file) ? tool_usage(&call_tool, "'%s': reading failed: %s", word, strerror(errno))
	                    : tool_usage(&call_tool, "'%s': no JSON: it holds a NUL byte", word);
}

static int read_source(struct call_source *source, const char *word)
{
	char begun[TOOL_NPY_MAGIC_LEN], error[TOOL_NPY_ERROR_MAX];
	size_t n = fread(begun, 1, sizeof(begun), source->file);
	int status;

	if (n < sizeof(begun) || memcmp(begun, TOOL_NPY_MAGIC, sizeof(begun)) != 0) {
		status = read_text(source->file, word, begun, n, &source->text);
		if (source->file != stdin)
			fclose(source->file);
		source->file = NULL;
		return status;
	}
	if (tool_npy_read_header(source->file, &source->npy, error))
		return 0;
	return tool_usage(&call_tool, "'%s': %s", word, error);
}

int call_source_open(const char *word, struct call_source *ret)
{
	static bool stdin_taken;
	bool is_stdin = strcmp(word, "-") == 0 || strcmp(word, "@-") == 0;

	if (is_stdin && stdin_taken)
		return tool_usage(&call_tool, "'%s': stdin is read once only", word);
	if (is_stdin) {
		stdin_taken = true;
		ret->file = stdin;
		return read_source(ret, word);
	}
	if (!word[1])
		return tool_usage(&call_tool, "'@' names no file: write @data.npy, or - for stdin");
	ret->file = fopen(word + 1, "re");
	if (!ret->file)
		return tool_usage(&call_tool, "'%s': %s", word, strerror(errno));
	return read_source(ret, word);
}

void call_source_close(struct call_source *source)
{
	if (source->file && source->file != stdin)
		fclose(source->file);
	free(source->text);
	source->file = NULL;
	source->text = NULL;
}
