/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of streams share. */
#ifndef SB_TESTS_STREAMS_H
#define SB_TESTS_STREAMS_H

#include "place.h"

/*
 * Python source: count(n, nap) counts, naps before each, and notes in made what it made and in ended that it ended;
 * gated(first, after) waits for gate in between; never() runs and gives nothing until gate is set.
 */
extern const char streams_source[];

void nap(int ms);
/* Waits until an expression has that value; what it came to. */
int64_t comes_to(struct place *p, const char *expression, int64_t wanted);
/* A reader of what an expression gives; asserts. options may be NULL. */
sb_iter *stream(struct place *p, const char *expression, const sb_iter_options *options);
sb_iter_options batches(size_t batch, uint32_t flags);
/* The next item, an int; INT64_MIN, said on stderr: there is none. */
int64_t next_int(sb_iter *it);

#endif
