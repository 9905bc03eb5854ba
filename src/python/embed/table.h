/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object table: which Python object a ref names. All functions but those marked need the GIL; none runs
 * Python code or gives the GIL up, but sb__call_end() and those of engine.h, which drop objects last.
 */
#ifndef SB_EMBED_TABLE_H
#define SB_EMBED_TABLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "snakebridge/ref.h"

/* A use of a ref by a call: keeps it from being evicted or expiring until the call ends. */
struct sb__pin {
	uint32_t slot, generation;
	bool created; /* by this call */
};

#define SB__CALL_PINS 8

struct sb__policy;

/* One call in progress on a table. */
struct sb__call {
	struct sb__table *table;
	uint64_t number; /* of the table's calls, from 1 */
	struct sb__call_origin origin;
	struct sb__pin *pins;
	size_t pin_count, pin_cap;
	PyObject **drops; /* objects that left the table, to be dropped at the end */
	size_t drop_count, drop_cap;
	struct sb__pin inline_pins[SB__CALL_PINS];
	bool shares;                   /* keeps arrays in shared memory that its arguments name */
	const struct sb__items *items; /* of the batch that it is an item of; execute.c */
	bool lends;   /* the refs in what it sends are lent: sb__call_end() drops those that it made */
	bool takes;   /* its reply holds items of a stream */
	bool changed; /* what sb__table_counts() says */
	uint64_t
		now_ms; /* sb__now_coarse_ms(), until something runs that may take long; then 0: look again */
	bool over_quota; /* SB_EREFSFULL came from the quota of its process, not from max_refs */
};

/* Is it this process's, not one inherited by a fork? Without the GIL. */
bool sb__table_is_ours(const struct sb__table *table);

/* origin NULL: nobody's. */
void sb__call_begin(struct sb__call *call, struct sb__table *table, const struct sb__call_origin *origin);
/* The same by one who has just looked at the clock. */
void sb__call_begin_at(struct sb__call *call, struct sb__table *table, const struct sb__call_origin *origin,
                       uint64_t now_ms);
/* From here on its time may have passed. */
static inline void sb__call_runs(struct sb__call *call)
{
	call->now_ms = 0;
}
/* Ends it: its refs stay (delivered), or those that it created and nobody else got are dropped again. Then
 * drops what left the table, which may run Python code. Returns whether refs stay that it created. call->now_ms is the time
 * when it ended. */
bool sb__call_end(struct sb__call *call, bool delivered);
/* What the session allows; NULL: everything. */
const struct sb__policy *sb__call_policy(const struct sb__call *call);
/* How its arrays in shared memory are had; NULL: not at all. */
const struct sb__blocks *sb__call_blocks(const struct sb__call *call);
const struct sb__share *sb__call_share(const struct sb__call *call); /* of them: the session's */
/* The Python frame that the session's functions are called in; frame.h. */
PyObject **sb__table_frame(struct sb__table *table);
/* Takes those of its reply; NULL: it cannot have any. */
struct sb__kept_list *sb__call_kept(const struct sb__call *call);

/* It lived and has ended, too long ago to say how: SB_EREFRELEASED with a sentence that says so. */
#define SB__REF_FORGOTTEN 1
/* It was a stream, which was read to its end. Everybody but a reader hears SB_EREFRELEASED. */
#define SB__REF_EXHAUSTED 2

/* A ref of that slot will be looked for in a moment: where there are many it is in no cache. */
void sb__table_fetch(const struct sb__table *table, uint32_t slot);
/*
 * The object of a ref, as a new reference in *ret, pinned for the call. Errors: SB_EREFSESSION,
 * SB_EREFUNKNOWN, SB_EREFRELEASED, SB_EREFEXPIRED, SB_EREFEVICTED, SB__REF_FORGOTTEN, SB__REF_EXHAUSTED, SB_ENOMEM.
 */
int sb__table_find(struct sb__call *call, const sb_ref *ref, PyObject **ret);

/*
 * The ref of an object: the one it has, else a new one; pinned for the call. Fills all of *ret but session
 * id and type name. Errors: SB_EREFSFULL, SB_ENOMEM, SB_ESYSTEM.
 */
int sb__table_name(struct sb__call *call, PyObject *object, const char *type_name, size_t module_len,
                   sb_ref *ret);

/*
 * Pins a ref or takes a pin away (by: 1 or -1): while it has one it is not evicted. Unpinning one that has none is
 * fine. *ret_pins: how many it has now. Errors: as sb__table_find(); SB_EINVAL: pinned too often.
 */
int sb__table_pin(struct sb__call *call, const sb_ref *ref, int by, uint32_t *ret_pins);

/* Takes a ref's object out of the table. *ret_dropped: false if it was gone already, which is fine. Errors:
 * SB_EREFSESSION, SB_EREFUNKNOWN, SB_ENOMEM. */
int sb__table_release(struct sb__call *call, const sb_ref *ref, bool *ret_dropped);

/* Drops a stream that was read to its end. */
void sb__table_exhausted(struct sb__table *table, const PyObject *stream);

/* How many uses of refs the call has noted; and back there: refs that it made since are dropped again. */
size_t sb__call_mark(const struct sb__call *call);
void sb__call_rewind(struct sb__call *call, size_t mark);

/* engine.h. */
int sb__table_create(const struct sb__table_options *options, struct sb__table **ret);
void sb__table_destroy(struct sb__table *table);
bool sb__table_discard(struct sb__table *table);
uint32_t sb__table_expire(struct sb__table *table, uint64_t now_ms);
void sb__table_withdraw(struct sb__table *table, uint64_t number);
void sb__table_counts(const struct sb__table *table, struct sb__table_counts *ret);

#endif
