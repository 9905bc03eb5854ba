/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs of the store for tests, which link the static library. Nothing in the library calls them. */
#ifndef SB_STORE_STORE_TEST_H
#define SB_STORE_STORE_TEST_H

#include <stddef.h>
#include <stdint.h>

struct sb__store;

/* Size of the map of environments that are opened from now on, and how far it may grow; 0 = the default. */
void sb__store_test_map_size(size_t bytes);
void sb__store_test_map_bound(size_t bytes);

/* Writes any bytes behind the store's back; val NULL deletes. 0 or LMDB's error. */
int sb__store_test_put(struct sb__store *store, const char *db, const void *key, size_t key_len,
                       const void *val, size_t val_len);
/* A copy of a record's bytes: their number, or LMDB's error as a negative number. */
int sb__store_test_get(struct sb__store *store, const char *db, const void *key, size_t key_len, void *val,
                       size_t size);
/* Begins read transactions that never end, at most count; returns how many. */
unsigned sb__store_test_fill_readers(struct sb__store *store, unsigned count);
/* Every key's number of bytes and its bytes, in order, of one database: the n-th key. 0, or LMDB's error. */
int sb__store_test_key(struct sb__store *store, const char *db, unsigned n, void *key, size_t size,
                       size_t *ret_len);

/* Runs fn with the store locked for writing, and changes nothing. 0 or LMDB's error. */
int sb__store_test_locked(struct sb__store *store, void (*fn)(void *arg), void *arg);

#endif
