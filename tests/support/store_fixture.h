/* SPDX-License-Identifier: Apache-2.0 */
/* A session store in a directory of its own, and records to put into it; for tests below the public API. */
#ifndef SB_TESTS_STORE_FIXTURE_H
#define SB_TESTS_STORE_FIXTURE_H

#include "store.h"

#define STORE_FIXTURE_LAYOUT 0x1234u

struct store_fixture {
	char dir[256];
	int root;
	struct sb__store *store;
	struct sb__identity self; /* slot and generation as taken by store_fixture_attach() */
};

/* CMocka setup and teardown: *state is a struct store_fixture with an open store. */
int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);
/* The same without CMocka, for programs that want another moment. 0 or the error. */
int store_fixture_make(struct store_fixture *f);
int store_fixture_open(struct store_fixture *f);
void store_fixture_drop(struct store_fixture *f);

/* Takes a process slot; no life token. 0 or the error. */
int store_fixture_attach(struct store_fixture *f, struct sb__identity *ret);
/* A wish for sb__store_session_create(), designated to self. */
struct sb__session_rec store_fixture_wish(const struct sb__identity *self, const char *id);
struct sb__owner_rec store_fixture_owner(const struct sb__identity *self, uint64_t uid, uint32_t handle);
/* Creates a session with one owner (handle 1) and makes it ACTIVE; asserts. */
struct sb__session_rec store_fixture_session(struct store_fixture *f, const char *id);
/* Asserts that records and indexes agree; prints what does not. */
void store_fixture_verify(struct sb__store *store);

#endif
