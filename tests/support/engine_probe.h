/* SPDX-License-Identifier: Apache-2.0 */
/* Calls the engine directly, without sessions or mailboxes: a request goes in as bytes, a reply comes out. */
#ifndef SB_TESTS_ENGINE_PROBE_H
#define SB_TESTS_ENGINE_PROBE_H

#include "engine.h"
#include "snakebridge/snakebridge.h"

#define PROBE_SESSION "probe"

/* CMocka group setup: loads and starts the engine with tests/support on sys.path. Not zero if that fails. */
int probe_start(void **state);
const struct sb__engine *probe_engine(void);

/* A table of an incarnation of its own; NULL options: 1000 refs, evict, no TTL. Options' incarnation is
 * set. */
struct sb__table *probe_table(const struct sb__table_options *options);
void probe_table_free(struct sb__table *table);

/* Runs one request and decodes the reply as the API does. args is consumed. */
int probe_run(struct sb__table *table, sb_verb verb, const sb_ref *target, const char *name, sb_args *args,
              uint32_t flags, sb_value **ret);
int probe_call(struct sb__table *table, const char *path, sb_args *args, sb_value **ret);
int probe_method(struct sb__table *table, const sb_ref *target, const char *name, sb_args *args,
                 sb_value **ret);

/*
 * A value as Python would print it, with refs as <module.Type>. Static memory of the calling thread,
 * overwritten by the next call but one.
 */
const char *probe_show(const sb_value *value);
/* What a call gives as probe_show() has it; the error's name and Python type ("SB_EPYTHON
 * builtins.ValueError"), or name alone, if it fails. */
const char *probe_ask(struct sb__table *table, const char *path, sb_args *args);
/* The same for Python source, evaluated with nothing but builtins and sbprobe's own names. */
const char *probe_eval(struct sb__table *table, const char *source);
/* The ref that evaluating source gives; false if it gives none. */
bool probe_eval_ref(struct sb__table *table, const char *source, sb_ref *ret);

#endif
