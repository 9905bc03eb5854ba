/* SPDX-License-Identifier: Apache-2.0 */
/* A session whose objects live here or in a dedicated owner, and Python source run in it. */
#ifndef SB_TESTS_PLACE_H
#define SB_TESTS_PLACE_H

#include "fixture.h"

struct place {
	struct fixture *f;
	sb_session *s;
	sb_ref names; /* a dict: the globals of the source that ran */
};

/* CMocka setup and teardown; *state is a struct place. */
int place_here(void **state);
int place_there(void **state);
int place_teardown(void **state);

/* Runs statements, whose names stay; asserts. */
void place_exec(struct place *p, const char *source);
/* An expression's value; flags: SB_CALL_…; the error's code, unasserted. */
int place_eval(struct place *p, const char *source, uint32_t flags, sb_value **ret);
/* Its value as a ref; asserts. */
sb_ref place_ref(struct place *p, const char *source);
/* Its value as an int; asserts. */
int64_t place_int(struct place *p, const char *source);

/* What sb-inspect --json says of the bridge by that name; asserts. */
json_int_t place_number(struct place *p, const char *name);
/* Waits until it is so, for owners look around once a second; asserts. */
void place_becomes(struct place *p, const char *name, json_int_t wanted);

/* Both places for a test. */
#define BOTH_PLACES(name)                                               \
	{ #name "_here", name, place_here, place_teardown, NULL },      \
	{                                                               \
#name "_there", name, place_there, place_teardown, NULL \
	}

#endif
