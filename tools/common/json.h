/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as JSON, for the shell. What JSON has is written as it is; the rest is an object whose key
 * begins with '$':
 *
 *	nan, inf, -inf      {"$float": "nan"}
 *	tuple               {"$tuple": [1, 2]}
 *	bytes               {"$bytes": "AP8="}            base64
 *	ref                 {"$ref": "sbref:…", "type": "module.Type"}   the type is not needed in input
 *	any other dict      {"$dict": [[key, value], …]}
 *
 * A dict with a str key that begins with '$' is written the last way, so that data cannot pose as one of
 * these; in input, an object with such a key that is none of these is an error.
 */
#ifndef SB_TOOLS_JSON_H
#define SB_TOOLS_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "snakebridge/value.h"

#define TOOL_JSON_ERROR_MAX 256

/* Writes the value as one line of JSON, without a newline. */
void tool_json_write(FILE *to, const sb_value *value);

/*
 * Reads JSON text. 0 and *ret_value, which becomes the caller's; SB_EREFMALFORMED for a ref that is none,
 * SB_EINVAL for text that is no JSON or none of ours, or what sb_value_pack() reports. error: a sentence.
 */
int tool_json_read(const char *text, sb_value **ret_value, char error[TOOL_JSON_ERROR_MAX]);

#endif
