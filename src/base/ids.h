/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers, unique ids, and the rules for session ids. */
#ifndef SB_BASE_IDS_H
#define SB_BASE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snakebridge/ref.h"

/* Fills from getrandom(2). 0 or SB_ESYSTEM. Buffers per thread so small requests cost no system call;
 * the buffer is dropped in a forked child (checks sb__fork_epoch()). */
int sb__random(void *buf, size_t len);

/* Checks a session id: 1 to 255 bytes, valid UTF-8, no control characters. 0 or SB_EID with the reason. */
int sb__session_id_check(const char *id);
/* The same question, without an error record: for bytes that another process wrote. */
bool sb__session_id_valid(const char *id);

/* Makes prefix + "<pid>_<start time hex>_<counter>_<96 random bits hex>" into id (SB_SESSION_ID_MAX + 1 bytes). */
int sb__session_id_make(const char *prefix, char *id);

#endif
