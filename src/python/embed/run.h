/* SPDX-License-Identifier: Apache-2.0 */
/* One request that runs: what execute.c and batch.c share. */
#ifndef SB_EMBED_RUN_H
#define SB_EMBED_RUN_H

#include "cancel.h"
#include "convert.h"
#include "gil.h"
#include "stream.h"

struct sb__run {
	struct sb__call call; /* begun by who makes the run, ended by sb__run_one() */
	struct sb__thread *thread;
	const struct sb__request_head *head;
	const sb_ref *ref; /* the target that the head names */
	PyObject *target;
	struct sb__arguments arguments;
	struct sb__why why;
	int code;                    /* what an exception means */
	struct sb__stream_wish wish; /* next: what it wants of the stream that is its target */
	bool exhausted;              /* next: the target was a stream, which was read to its end */
	bool framed;                 /* a frame of the session's is around it: frame.h */
	bool delivered;              /* set when it has run: its reply is a value */
	PyObject **keep;             /* where a batch wants its item's result, too */
};

/* All but call and thread. */
void sb__run_init(struct sb__run *run, const struct sb__request_head *head);
/* Runs it; the cursor stands behind the head. Returns as engine.h's execute does. running, unless NULL: ends when it has
 * run. */
uint64_t sb__run_one(struct sb__run *run, struct sb__cursor *cursor, struct sb__running *running,
                     struct sb__buf *reply);

/* verbs.c: what a verb takes, and what it does. Everything that it does not take must not be there. */
struct sb__verb {
	const char *name;
	PyObject *(*run)(struct sb__run *run); /* a new reference; or NULL, with why set or an exception */
	bool has_target, has_name;
	size_t least, most; /* positional arguments */
};
const struct sb__verb *sb__verb_find(uint32_t number); /* NULL: there is none */
int sb__verb_check(struct sb__run *run, const struct sb__verb *verb);

/* batch.c: a request that is a batch; the same. running ends, too. */
uint64_t sb__run_batch(struct sb__table *table, const struct sb__call_origin *origin,
                       struct sb__thread *thread, struct sb__running *running,
                       const struct sb__request_head *head, struct sb__cursor *cursor, struct sb__buf *reply);

#endif
