/* SPDX-License-Identifier: Apache-2.0 */
/* Values as JSON, for the shell: sb_value_to_json() and its form, docs/formats/json.md. */
#ifndef SB_TOOLS_JSON_H
#define SB_TOOLS_JSON_H

#include <stddef.h>
#include <stdio.h>

#include "snakebridge/value.h"

#define TOOL_JSON_ERROR_MAX 256

/* Writes the value as one line of JSON, without a newline. */
void tool_json_write(FILE *to, const sb_value *value);

/* Reads JSON text. 0 and *ret_value, which becomes the caller's; or what sb_value_from_json() reports. error: a sentence. */
int tool_json_read(const char *text, sb_value **ret_value, char error[TOOL_JSON_ERROR_MAX]);

#endif
