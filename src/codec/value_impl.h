/* SPDX-License-Identifier: Apache-2.0 */
/* What the layers below the API know of values and arguments. */
#ifndef SB_CODEC_VALUE_IMPL_H
#define SB_CODEC_VALUE_IMPL_H

#include <stdarg.h>

#include "array.h"
#include "buf.h"
#include "snakebridge/callback.h"
#include "snakebridge/value.h"
#include "wire.h"

/*
 * Decodes one value into a tree with one allocation. session_id is written into its refs.
 * 0, SB_EPROTOCOL, SB_ETOODEEP, SB_ENOMEM. The bytes after the item are left to the cursor.
 */
int sb__value_decode(struct sb__cursor *cursor, const char *session_id, sb_value **ret);
/* None, which takes no memory. */
sb_value *sb__value_none(void);
/* The same into lent memory if it fits there; sb_value_free() then frees nothing. */
int sb__value_decode_into(struct sb__cursor *cursor, const char *session_id, void *memory, size_t size,
                          sb_value **ret);
/* The same for bytes of our own: the tree's refs, in the order they were encoded, become copies of refs[], and its arrays
 * are those of cursor->own. */
int sb__value_decode_own(struct sb__cursor *cursor, const sb_ref *refs, size_t count, sb_value **ret);
/* Encodes a tree; NULL gives null. Nested deeper than SB__DEPTH_MAX with depth containers around it:
 * buf->error becomes SB_ETOODEEP. */
void sb__value_encode(const sb_value *value, struct sb__buf *buf);
void sb__value_encode_at(const sb_value *value, struct sb__buf *buf, unsigned depth);
/* Calls fn for every ref in a tree, in the order they are encoded, until one call returns non-zero. */
typedef int (*sb__ref_fn)(void *arg, const sb_ref *ref);
int sb__value_each_ref(const sb_value *value, sb__ref_fn fn, void *arg);
/* The same for arrays. */
typedef int (*sb__array_fn)(void *arg, sb_array *array);
int sb__value_each_array(const sb_value *value, sb__array_fn fn, void *arg);

/* A value of its own, from a root or from within a tree. SB_ENOMEM, SB_ETOOBIG. */
int sb__value_copy(const sb_value *value, sb_value **ret);

bool sb__value_has_arrays(const sb_value *root);

/* Arrays, referenced. */
struct sb__array_list {
	sb_array **items;
	size_t count, cap;
};
int sb__array_list_add(void *list, sb_array *array); /* an sb__array_fn; 0 or SB_ENOMEM */
void sb__array_list_drop(struct sb__array_list *list);

/* Arguments are encoded as they are packed; their refs are remembered so that the caller can check the
 * session of each before anything is sent. */
struct sb_args {
	int error; /* sticky: 0 or the code of what went wrong in building */
	char message[160];
	struct sb__buf positional; /* items one after the other */
	uint32_t positional_count;
	struct sb__buf keywords; /* name, item, name, item … */
	uint32_t keyword_count;
	struct sb__arg_ref {
		uint64_t incarnation;
		char session_id[SB_SESSION_ID_MAX + 1];
	} * refs; /* distinct sessions only */
	size_t ref_count;
	struct sb__array_list arrays; /* kept until the call is over: what was encoded names their blocks */
	struct sb__callback {
		sb_callback_fn fn;
		void *arg;
	} * callbacks; /* named by their place */
	size_t callback_count;
	uint8_t first[256]; /* where positional begins, so that a small call allocates once */
};

/* sb_value_unpack(). */
int sb__value_vunpack(const sb_value *value, const char *format, va_list ap);

/* Remembers the session of a ref (an sb__ref_fn; arg: the sb_args); for the result of a batch's item, incarnation is its
 * number. */
int sb__args_note(void *args, const sb_ref *ref);
/* 0, or what went wrong in building the arguments, with the error record set. NULL is fine. */
int sb__args_error(const sb_args *args);

#endif
