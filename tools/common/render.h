/* SPDX-License-Identifier: Apache-2.0 */
/* How the tools that only look write what they see: JSON values, tables, times; and how they give up in
 * time. */
#ifndef SB_TOOLS_RENDER_H
#define SB_TOOLS_RENDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"

/* ── JSON ── */

/* Text that may be cut or come from elsewhere: what is no UTF-8 at its end is left out, else it becomes "?".
 * */
void render_text(json_t *object, const char *key, const char *text);
/* A 64-bit id: as a string, because numbers of other languages are doubles. */
void render_id(json_t *object, const char *key, uint64_t id);
void render_number(json_t *object, const char *key, uint64_t number);
/* Writes the object as one line on stdout and frees it. Returns 0, or TOOL_EXIT_ATTACH with a message where
 * memory or stdout failed. */
int render_line(const struct tool *tool, json_t *object);

/* ── tables for people ── */

#define RENDER_COLUMNS_MAX 12

/* Cells are copied; columns get as wide as their widest cell. Numbers are set flush right. */
struct render_table {
	const char *const *titles; /* first character '>': a column of numbers */
	size_t columns;
	char **cells;
	size_t count, cap;
	bool failed; /* out of memory */
};

/* titles ends with NULL and stays the caller's. */
void render_table_init(struct render_table *table, const char *const *titles);
void render_cell(struct render_table *table, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
/* Writes it on stdout, with the titles if legend, and frees it. */
void render_table_print(struct render_table *table, bool legend);

#define RENDER_TIME_SIZE 24
/* "350 ms", "4.2 s", "3 min", "7 h", "12 d". Returns text, RENDER_TIME_SIZE bytes. */
const char *render_span(uint64_t ms, char *text);

/* ── giving up ── */

/* After ms (0: never) the process ends with status TOOL_EXIT_ATTACH and the message on stderr. For tools
 * whose every step may be cut short: a look, or a sweep. */
void render_deadline(int64_t ms, const char *message);

#endif
