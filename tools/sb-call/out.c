/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A result's array into a file. A file appears whole, under its name, or not at all; what is no file, a pipe or a
 * terminal, is written to.
 *
 * Crash: a kill leaves FILE.XXXXXX beside it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "call.h"
#include "report.h"

static int fail(int code, int outcome, const char *fmt, ...) SB_PRINTF_LIKE(3, 4);
static int fail(int code, int outcome, const char *fmt, ...)
{
	char message[512];
	const sb_error error = { .code = code,
		                 .outcome = outcome,
		                 .message = message,
		                 .session_id = "",
		                 .other_session_id = "",
		                 .python_type = "",
		                 .python_message = "",
		                 .python_traceback = "" };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return tool_report(&call_tool, &error);
}

static int cannot(const char *path, const char *why)
{
	return fail(SB_ESYSTEM, SB_OUTCOME_NONE, "the result was computed, but %s cannot be written: %s",
	            path, why);
}

/* Writes and closes. */
static int write_to(FILE *file, const char *path, const sb_array *array)
{
	char error[TOOL_NPY_ERROR_MAX];
	bool fine = tool_npy_write(file, array, error);

	if ((file == stdout ? fflush(file) : fclose(file)) && fine) {
		snprintf(error, sizeof(error), "%s", strerror(errno));
		fine = false;
	}
	return fine ? 0 : cannot(path, error);
}

static int replace(const char *path, const sb_array *array)
{
	size_t n = strlen(path) + sizeof(".XXXXXX");
	char *beside = malloc(n);
	mode_t mask = umask(0);
	FILE *file = NULL;
	int fd, status;

	umask(mask);
	if (!beside)
		return cannot(path, "out of memory");
	snprintf(beside, n, "%s.XXXXXX", path);
	fd = mkstemp(beside);
	if (fd >= 0 && fchmod(fd, 0666 & ~mask) == 0)
		file = fdopen(fd, "w");
	status = file ? write_to(file, path, array) : cannot(path, strerror(errno));
	if (!file && fd >= 0)
		close(fd);
	if (!status && rename(beside, path))
		status = cannot(path, strerror(errno));
	if (status && fd >= 0)
		unlink(beside);
	free(beside);
	return status;
}

int call_write_array(const sb_value *value, const char *path)
{
	const sb_array *array = sb_value_kind(value) == SB_KIND_ARRAY ? sb_value_array(value) : NULL;
	struct stat st;
	FILE *file;

	if (!array)
		return fail(SB_EKIND, SB_OUTCOME_EXCEPTION,
		            "the result is %s, not an array, and %s is not written: call what gives one, as "
		            "numpy:asarray does",
		            sb_kind_name(sb_value_kind(value)), path);
	if (strcmp(path, "-") == 0)
		return write_to(stdout, "stdout", array);
	if (stat(path, &st) || S_ISREG(st.st_mode))
		return replace(path, array);
	file = fopen(path, "we");
	return file ? write_to(file, path, array) : cannot(path, strerror(errno));
}
