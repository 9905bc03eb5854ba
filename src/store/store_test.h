/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs of the store for tests, which link the static library. Nothing in the library calls them. */
#ifndef SB_STORE_STORE_TEST_H
#define SB_STORE_STORE_TEST_H

#include <stddef.h>

struct MDB_env;
struct sb__store;

/* Size of the map of environments that are opened from now on, and how far it may grow; 0 = the default. */
void sb__store_test_map_size(size_t bytes);
void sb__store_test_map_bound(size_t bytes);
/* The environment, to write garbage with. */
struct MDB_env *sb__store_test_env(struct sb__store *store);

#endif
