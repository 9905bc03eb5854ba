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
/* "module.QualName" of a type, as sb__text(), and (unless NULL) how much of that is the module. Runs no Python code of
 * the type's. */
size_t sb__type_name(PyTypeObject *type, char *out, size_t size, size_t *ret_module_len);

/* ── types.c ── */

struct sb__type_info {
	char name[SB_TYPE_NAME_MAX + 1]; /* as sb__type_name() */
	size_t len, module_len;
	bool ref_only; /* instances never have a value form, unless the call asks for more than the usual ones */
};

/* Of a class; NULL for static types, and where it is to be found out by the functions above. Until any other code runs. */
const struct sb__type_info *sb__type_info(PyTypeObject *type);

/* ── decode.c ── */

struct sb__arguments {
	PyObject **items; /* items[-1] and items[-2] may be overwritten: function and self of a vectorcall */
	size_t count;
	PyObject *keywords; /* dict, or NULL if there are none */
	PyObject **memory;
	PyObject *inline_items[10];
};

/* What earlier items of the batch gave; NULL: nothing. */
struct sb__items {
	PyObject **results;
	uint64_t count; /* of those before the one that runs */
	uint64_t
		number; /* of the calls that its items are, all the same, for withdraw(); 0: none was begun */
};
/* A new reference, or NULL and the reason in why. */
PyObject *sb__item_result(const struct sb__call *call, uint64_t item, struct sb__why *why);

/* Reads the two argument containers of a request. 0, or the reason in why and nothing to free. */
int sb__arguments_decode(struct sb__call *call, struct sb__cursor *cursor, struct sb__arguments *ret,
                         struct sb__why *why);
void sb__arguments_drop(struct sb__arguments *arguments);
/* Are there none? Then that is what they are. */
static inline bool sb__arguments_none(struct sb__cursor *cursor, struct sb__arguments *ret)
{
	if (cursor->len - cursor->pos != 2 || cursor->data[cursor->pos] != (SB__MAJOR_ARRAY | 0) ||
	    cursor->data[cursor->pos + 1] != (SB__MAJOR_MAP | 0))
		return false;
	ret->items = ret->inline_items + 2;
	ret->count = 0;
	ret->keywords = NULL;
	ret->memory = NULL;
	return true;
}
/* One value, treated as an argument. A new reference, or NULL and the reason in why. */
PyObject *sb__value_make(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why);

/* ── encode.c ── */

/* Appends a result. 0, or the reason in why (buf then holds rubbish). flags: SB_CALL_…. */
int sb__encode(struct sb__call *call, PyObject *object, uint32_t flags, struct sb__buf *buf,
               struct sb__why *why);
/*
 * The same for items of a stream, as message.h says, which are taken from it; each is treated as a result. Ends before most
 * where the reply has become big, or at an item that cannot be sent, if that is not the first. s NULL: one that has ended.
 */
struct sb__stream;
struct sb__stream_wish;
int sb__encode_next(struct sb__call *call, struct sb__stream *s, const struct sb__stream_wish *wish,
                    uint32_t flags, struct sb__buf *buf, struct sb__why *why);

/* ── names.c ── */

/* The interned str of a name's bytes: a new reference, or NULL and an exception. */
PyObject *sb__name(const char *text, size_t len);
/* The same if it is at hand and has no dot in it: borrowed, until another name is asked for. Else NULL and no exception. */
PyObject *sb__name_known(const char *text, size_t len);

/* ── resolve.c ── */

/* Looking names up for a call, within the session's policy. */
struct sb__lookup {
	const struct sb__policy *policy;
	struct sb__why *why;
	bool by_object; /* begins at an object of the caller's, not at a module that it names */
	int code;       /* of a failure */
};

/*
 * What a name means. A new reference; or NULL with lookup->code: SB_EINVAL (not a name) or SB_EDENIED and the reason in
 * why, else a Python exception is set and the code says what it means: SB_EMODULE, SB_EATTRIBUTE or SB_EPYTHON.
 */
PyObject *sb__resolve_path(struct sb__lookup *lookup, const char *path, size_t len, bool for_call);
PyObject *sb__resolve_attr(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len);
/* The same of what is to be called as a method. *ret_unbound: it is a function of the type's, to be called with the object
 * as its first argument; no bound method was made. */
PyObject *sb__resolve_method(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len,
                             bool *ret_unbound);
/* Sets an attribute; a dotted name walks down to it. 0, or as above. */
int sb__assign_attr(struct sb__lookup *lookup, PyObject *object, const char *name, size_t len,
                    PyObject *value);
/* A special method that a verb stands for: the verb names nothing, so the policy says nothing of it. */
PyObject *sb__resolve_special(struct sb__lookup *lookup, PyObject *object, const char *name);

/* ── exception.c ── */

/* An exception from what a caller knows of one: the class of that qualified name if it is loaded and is one that can be
 * made from the message, and the policy lets one name it, else a RuntimeError that says both. A new reference, or NULL and an
 * exception. */
PyObject *sb__exception_make(const struct sb__policy *policy, const char *type, size_t type_len,
                             PyObject *message);

/* The exception that is set, which is cleared: never NULL, a new reference. */
PyObject *sb__exception_take(void);
/* Sets it again; takes the reference. */
void sb__exception_restore(PyObject *exception);
/* Appends it as message.h says, and drops the reference. */
void sb__exception_encode(PyObject *exception, int code, struct sb__buf *buf);

/* ── execute.c: engine.h ── */
void sb__execute_within(struct sb__table *table, void (*fn)(void *arg), void *arg);
uint64_t sb__execute(struct sb__table *table, const struct sb__call_origin *origin, const uint8_t *request,
                     size_t request_len, struct sb__buf *reply);
uint64_t sb__execute_own(struct sb__table *table, const struct sb__call_origin *origin,
                         struct sb__own_request *request, struct sb__buf *reply);

#endif
