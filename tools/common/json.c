/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values ⇄ JSON, as the library has it.
 *
 * Locks: none. Crash story: nothing is shared.
 */
#include "json.h"

#include <stdlib.h>

#include "snakebridge/error.h"

void tool_json_write(FILE *to, const sb_value *value)
{
	char *text;

	if (sb_value_to_json(value, &text))
		return;
	fputs(text, to);
	free(text);
}

int tool_json_read(const char *text, sb_value **ret_value, char error[TOOL_JSON_ERROR_MAX])
{
	int err = sb_value_from_json(text, ret_value);

	if (err)
		snprintf(error, TOOL_JSON_ERROR_MAX, "%s", sb_last_error()->message);
	return err;
}
