/* SPDX-License-Identifier: Apache-2.0 */
/* C functions of callers as objects that Python calls. All with the GIL. */
#ifndef SB_EMBED_CALLBACKS_H
#define SB_EMBED_CALLBACKS_H

#include "cancel.h"
#include "convert.h"

/* A running call whose caller can be asked. */
struct sb__talk;

/* The call of origin, which has an asker, begins on this thread. NULL without memory. */
struct sb__talk *sb__talk_begin(struct sb__table *table, const struct sb__call_origin *origin,
                                struct sb__running *running);
/* It is over: its functions cannot be called any more. Waits for threads that call one now. */
void sb__talk_end(struct sb__talk *talk);

/* After the tag: one of the functions of the call that runs. A new reference, or NULL and the reason in why. */
PyObject *sb__callback_make(struct sb__call *call, struct sb__cursor *cursor, struct sb__why *why);

#endif
