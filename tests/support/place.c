/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static int as_ref(sb_session *s, const char *function, sb_args *args, sb_ref *ret)
{
	sb_request request = SB_REQUEST_INIT;
	sb_value *value = NULL;
	int err;

	request.name = function;
	request.args = args;
	request.flags = SB_CALL_AS_REF;
	err = sb_invoke(s, &request, &value);
	if (!err)
		*ret = *sb_value_ref(value);
	sb_value_free(value);
	return err;
}

static int setup(void **state, sb_designated designated)
{
	struct place *p = calloc(1, sizeof(*p));

	fixture_setup((void **)&p->f);
	p->s = fixture_session(p->f->bridge, "place", designated);
	assert_ok(as_ref(p->s, "builtins:dict", NULL, &p->names));
	*state = p;
	return 0;
}

int place_here(void **state)
{
	return setup(state, SB_DESIGNATED_SELF);
}

int place_there(void **state)
{
	return setup(state, SB_DESIGNATED_DEDICATED);
}

int place_teardown(void **state)
{
	struct place *p = *state;

	sb_session_close(p->s);
	fixture_teardown((void **)&p->f);
	free(p);
	return 0;
}

void place_exec(struct place *p, const char *source)
{
	assert_ok(sb_call(p->s, "builtins:exec", sb_args("sr", source, &p->names), NULL));
}

int place_eval(struct place *p, const char *source, uint32_t flags, sb_value **ret)
{
	sb_request request = SB_REQUEST_INIT;

	request.name = "builtins:eval";
	request.args = sb_args("sr", source, &p->names);
	request.flags = flags;
	return sb_invoke(p->s, &request, ret);
}

sb_ref place_ref(struct place *p, const char *source)
{
	sb_ref ref = { 0 };

	assert_ok(as_ref(p->s, "builtins:eval", sb_args("sr", source, &p->names), &ref));
	return ref;
}

int64_t place_int(struct place *p, const char *source)
{
	sb_value *value = NULL;
	int64_t n = INT64_MIN;

	assert_ok(place_eval(p, source, 0, &value));
	assert_ok(sb_value_int(value, &n));
	sb_value_free(value);
	return n;
}

json_int_t place_number(struct place *p, const char *name)
{
	json_t *root = fixture_tool_json(p->f->dir, "sb-inspect", "--json", NULL);
	json_int_t n = -1;

	assert_non_null(root);
	n = json_integer_value(json_object_get(root, name));
	json_decref(root);
	return n;
}

void place_becomes(struct place *p, const char *name, json_int_t wanted)
{
	const struct timespec moment = { 0, 50000000 };
	json_int_t n = -1;

	for (int i = 0; i < 400 && (n = place_number(p, name)) != wanted; i++)
		nanosleep(&moment, NULL);
	if (n != wanted)
		print_error("%s\n", name);
	assert_int_equal(n, wanted);
}
