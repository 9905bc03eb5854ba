/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refs: names of live Python objects. A ref is plain data that the caller stores; it keeps nothing
 * alive by itself (the session does) and may be copied, passed to a forked child, or printed and
 * parsed by another process.
 */
#ifndef SNAKEBRIDGE_REF_H
#define SNAKEBRIDGE_REF_H

#include <stddef.h>
#include <stdint.h>

#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SB_SESSION_ID_MAX 255 /* bytes, without the terminating NUL */
#define SB_TYPE_NAME_MAX  95  /* bytes kept of "module.Type", without the NUL */

/* Read-only fields; refs come from calls, sb_ref_parse() or copying only. */
typedef struct sb_ref {
	uint64_t incarnation;                   /* of the session that holds the object */
	uint32_t slot;                          /* in the session's object table */
	uint32_t generation;                    /* of the slot */
	uint8_t nonce[16];                      /* random: what makes a ref unguessable */
	char session_id[SB_SESSION_ID_MAX + 1]; /* NUL-terminated */
	char type_name[SB_TYPE_NAME_MAX + 1];   /* "module.Type", "" if parsed from its printed form */
} sb_ref;

/* Bytes enough for the printed form of any ref, including its NUL. */
#define SB_REF_TEXT_MAX (3 * SB_SESSION_ID_MAX + 96)

/*
 * Writes the printed form: "sbref:<session id, %-escaped>:<incarnation>:<slot>.<generation>:<nonce>",
 * numbers in decimal, the nonce in 32 hex digits. All bytes except ASCII letters, digits and ._-+@,/= are
 * escaped, so the form is one shell word. A ref has exactly one printed form.
 *
 * size: of text, in bytes; SB_REF_TEXT_MAX is enough for any ref.
 *
 * Errors: SB_EINVAL (NULL, or size too small).  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_ref_format(const sb_ref *ref, char *text, size_t size);

/*
 * Parses a printed form. It does not tell whether the object still exists; the call that uses the ref
 * does. *ret_ref is untouched on failure.
 *
 * Errors: SB_EINVAL (NULL), SB_EREFMALFORMED.  Threads: any.  Fork: safe.  Blocks: no.
 * Crash: nothing shared.  Since: 0.1
 */
SB_API int sb_ref_parse(const char *text, sb_ref *ret_ref);

#ifdef __cplusplus
}
#endif
#endif
