/* SPDX-License-Identifier: Apache-2.0 */
#include "store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "os_linux.h"

int store_fixture_open(struct store_fixture *f)
{
	f->root = sb__os_open_dir(f->dir);
	if (f->root < 0)
		return f->root;
	return sb__store_open(f->root, true, STORE_FIXTURE_LAYOUT, &f->store);
}

int store_fixture_make(struct store_fixture *f)
{
	memset(f, 0, sizeof(*f));
	fixture_dir_make(f->dir, sizeof(f->dir));
	return store_fixture_open(f);
}

void store_fixture_drop(struct store_fixture *f)
{
	sb__store_close(f->store);
	(void)sb__os_close(f->root);
	fixture_dir_remove(f->dir);
}

static int hold_nothing(void *arg, uint32_t slot)
{
	(void)arg;
	(void)slot;
	return 0;
}

static void drop_nothing(void *arg, uint32_t slot)
{
	(void)arg;
	(void)slot;
}

int store_fixture_attach(struct store_fixture *f, struct sb__identity *ret)
{
	int rc = sb__identity_self(ret);

	return rc < 0 ? rc : sb__store_process_add(f->store, ret, hold_nothing, drop_nothing, NULL);
}

int store_fixture_setup(void **state)
{
	struct store_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_ok(store_fixture_make(f));
	assert_ok(store_fixture_attach(f, &f->self));
	*state = f;
	return 0;
}

int store_fixture_teardown(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_drop(f);
	free(f);
	return 0;
}

struct sb__session_rec store_fixture_wish(const struct sb__identity *self, const char *id)
{
	struct sb__session_rec rec;

	memset(&rec, 0, sizeof(rec));
	snprintf(rec.session_id, sizeof(rec.session_id), "%s", id);
	rec.designated = *self;
	rec.max_refs = 10000;
	rec.designated_mode = SB_DESIGNATED_SELF;
	rec.on_full = SB_ON_FULL_EVICT;
	rec.ttl_ms = 3600 * 1000;
	return rec;
}

struct sb__owner_rec store_fixture_owner(const struct sb__identity *self, uint64_t uid, uint32_t handle)
{
	return (struct sb__owner_rec){ .session_uid = uid,
		                       .slot = self->slot,
		                       .generation = self->generation,
		                       .handle = handle,
		                       .pid = self->pid,
		                       .joined_wall_ms = self->joined_wall_ms };
}

struct sb__session_rec store_fixture_session(struct store_fixture *f, const char *id)
{
	struct sb__session_rec rec = store_fixture_wish(&f->self, id);
	struct sb__owner_rec owner = store_fixture_owner(&f->self, 0, 1);

	assert_int_equal(sb__store_session_create(f->store, &rec, &owner), 1);
	assert_int_equal(sb__store_session_activate(f->store, id, rec.incarnation), 1);
	rec.state = SB_SESSION_ACTIVE;
	return rec;
}

static void print_problem(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "store: %s\n", line);
}

void store_fixture_verify(struct sb__store *store)
{
	assert_int_equal(sb__store_verify(store, print_problem, NULL), 0);
}
