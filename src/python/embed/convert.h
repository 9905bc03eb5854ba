/* SPDX-License-Identifier: Apache-2.0 */
/* Python objects ⇄ bytes, names → Python objects, exceptions → bytes. All with the GIL. */
#ifndef SB_EMBED_CONVERT_H
#define SB_EMBED_CONVERT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "message.h"
#include "table.h"
#include "wire.h"

/* Why a request is refused, or a result not delivered. Begin with { 0 }. */
struct sb__why {
	int code;
	char message[512];
};

/* Notes the first reason. Returns its code. */
int sb__because(struct sb__why *why, int code, const char *fmt, ...) SB_PRINTF_LIKE(3, 4);
/* The same for an error that a table function gave about a ref. */
int sb__because_ref(struct sb__why *why, int code, const sb_ref *ref);
/* The same for the error that the codec has just reported. */
int sb__because_protocol(struct sb__why *why, int code);

/* ── text.c ── */

/*
 * Copies a str as UTF-8 into out (size bytes, NUL-terminated), cut at a character; what has no UTF-8 form is
 * escaped and NUL becomes '?'. Anything but a str gives "?". Leaves no exception. Returns the length.
 */
size_t sb__text(PyObject *str, char *out, size_t size);
/* "module.QualName" of a type, as sb__text(). Runs no Python code of the type's. */
size_t sb__type_name(PyTypeObject *type, char *out, size_t size);

/* ── decode.c ── */

struct sb__arguments {
	PyObject **items; /* items[-1] may be overwritten (vectorcall) */
	size_t count;
	PyObject *keywords; /* dict, or NULL if there are none */
	PyObject **memory;
	PyObject *inline_items[9];
};

/* Reads the two argument containers of a request. 0, or the reason in why and nothing to free. */
int sb__arguments_decode(struct sb__call *call, struct sb__cursor *cursor, struct sb__arguments *ret,
                         struct sb__why *why);
void sb__arguments_drop(struct sb__arguments *arguments);

/* ── encode.c ── */

/* Appends a result. 0, or the reason in why (buf then holds rubbish). as_ref: SB_CALL_AS_REF. */
int sb__encode(struct sb__call *call, PyObject *object, bool as_ref, struct sb__buf *buf,
               struct sb__why *why);

/* ── resolve.c ── */

/*
 * What a name means. A new reference; or NULL with *ret_code: SB_EINVAL and the reason in why (not a name),
 * else a Python exception is set and the code says what it means: SB_EMODULE, SB_EATTRIBUTE or SB_EPYTHON.
 */
PyObject *sb__resolve_path(const char *path, size_t len, bool for_call, int *ret_code, struct sb__why *why);
PyObject *sb__resolve_attr(PyObject *object, const char *name, size_t len, int *ret_code,
                           struct sb__why *why);
/* Sets an attribute; a dotted name walks down to it. 0, or as above. */
int sb__assign_attr(PyObject *object, const char *name, size_t len, PyObject *value, struct sb__why *why);

/* ── exception.c ── */

/* The exception that is set, which is cleared: never NULL, a new reference. */
PyObject *sb__exception_take(void);
/* Sets it again; takes the reference. */
void sb__exception_restore(PyObject *exception);
/* Appends it as message.h says, and drops the reference. */
void sb__exception_encode(PyObject *exception, int code, struct sb__buf *buf);

/* ── execute.c: engine.h ── */
void sb__execute(struct sb__table *table, const struct sb__call_origin *origin, const uint8_t *request,
                 size_t request_len, struct sb__buf *reply);

#endif
