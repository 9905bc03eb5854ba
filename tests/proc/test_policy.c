/* SPDX-License-Identifier: Apache-2.0 */
/* A session's policy: what its patterns refuse, in every kind of walk; how it travels and is joined. Point 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static sb_session_options options_like(struct place *p)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };

	assert_ok(sb_session_get_info(p->s, &info));
	options.session_id = "policed";
	options.designated = info.designated_pid == getpid() ? SB_DESIGNATED_SELF : SB_DESIGNATED_DEDICATED;
	return options;
}

static sb_session *open_policed(struct place *p, const char *const *allow, size_t allow_count,
                                const char *const *deny, size_t deny_count)
{
	sb_session_options options = options_like(p);
	sb_session *s = NULL;

	options.allow = allow;
	options.allow_count = allow_count;
	options.deny = deny;
	options.deny_count = deny_count;
	assert_ok(sb_session_open(p->f->bridge, &options, &s));
	return s;
}

/* Refused, and the message names these. */
static void denied(int err, const char *name, const char *pattern)
{
	assert_int_equal(err, SB_EDENIED);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
	assert_non_null(strstr(sb_last_error()->message, name));
	if (pattern)
		assert_non_null(strstr(sb_last_error()->message, pattern));
}

static sb_ref make(sb_session *s, const char *function)
{
	sb_value *value = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, function, NULL, &value));
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

static void test_01_policy_denies_modules_and_names(void **state)
{
	struct place *p = *state;
	static const char *const deny[] = { "subprocess", "os:sys*", "os:path.join", "json.decoder" };
	sb_session *s = open_policed(p, NULL, 0, deny, COUNT(deny));

	denied(sb_call(s, "subprocess:run", sb_args("[s]", "true"), NULL), "subprocess", "\"subprocess\"");
	denied(sb_get(s, "subprocess", NULL), "subprocess", "\"subprocess\"");
	denied(sb_call(s, "os:system", sb_args("s", "true"), NULL), "os:system", "\"os:sys*\"");
	denied(sb_call(s, "os.system", sb_args("s", "true"), NULL), "os:system",
	       "\"os:sys*\""); /* written with a dot */
	denied(sb_call(s, "os:path.join", sb_args("ss", "a", "b"), NULL), "os:path.join", NULL);
	denied(sb_get(s, "json.decoder.JSONDecoder", NULL), "json.decoder", NULL);
	denied(sb_get(s, "json.decoder:JSONDecoder.decode", NULL), "json.decoder", NULL);
	assert_ok(sb_call(s, "os:getpid", NULL, NULL));
	assert_ok(sb_call(s, "os:path.split", sb_args("s", "a/b"), NULL));
	assert_ok(sb_call(s, "json:dumps", sb_args("i", 1), NULL));
	sb_session_close(s);
}

static void test_01_policy_denies_by_another_way(void **state)
{
	struct place *p = *state;
	static const char *const deny[] = { "os" };
	sb_session *s = open_policed(p, NULL, 0, deny, COUNT(deny));
	sb_value *module = NULL;

	/* shutil has os as an attribute, and so has a ref to shutil. */
	denied(sb_call(s, "shutil:os.getpid", NULL, NULL), "os", "\"os\"");
	denied(sb_call(s, "shutil.os.getpid", NULL, NULL), "os", "\"os\"");
	assert_ok(sb_get(s, "shutil", &module));
	denied(sb_method(s, sb_value_ref(module), "os.getpid", NULL, NULL), "os", "\"os\"");
	denied(sb_set_attr(s, sb_value_ref(module), "os.x", sb_args("i", 1)), "os", "\"os\"");
	assert_ok(sb_attr(s, sb_value_ref(module), "copyfile", NULL));
	sb_value_free(module);
	sb_session_close(s);
}

static void test_01_policy_denies_attributes(void **state)
{
	struct place *p = *state;
	static const char *const deny[] = { SB_POLICY_NO_DUNDER, ".secret" };
	sb_session *s = open_policed(p, NULL, 0, deny, COUNT(deny));
	sb_ref o = make(s, "types:SimpleNamespace"), c = make(s, "collections:Counter");
	uint64_t len;

	denied(sb_attr(s, &o, "__class__", NULL), "__class__", "\".__*__\"");
	denied(sb_attr(s, &o, "x.__class__.y", NULL), "__class__", "\".__*__\"");
	denied(sb_method(s, &o, "__init__", NULL, NULL), "__init__", "\".__*__\"");
	denied(sb_get(s, "types:SimpleNamespace.__subclasses__", NULL), "__subclasses__", NULL);
	denied(sb_set_attr(s, &o, "secret", sb_args("i", 1)), "secret", "\".secret\"");
	assert_ok(sb_set_attr(s, &o, "x", sb_args("i", 1)));
	assert_ok(sb_attr(s, &o, "x", NULL));
	/* Verbs name nothing. */
	assert_ok(sb_len(s, &c, &len));
	assert_ok(sb_setitem(s, &c, sb_args("si", "__class__", 1)));
	assert_ok(sb_getitem(s, &c, sb_args("s", "__class__"), NULL));
	assert_ok(sb_repr(s, &c, NULL));
	sb_session_close(s);
}

static void test_01_policy_allows_only(void **state)
{
	struct place *p = *state;
	static const char *const allow[] = { "math", "collections:Counter", "os:path.*", ".most_common",
		                             ".upd*" };
	static const char *const deny[] = { "math:sqrt" };
	sb_session *s = open_policed(p, allow, COUNT(allow), deny, COUNT(deny));
	sb_ref c = make(s, "collections:Counter"), also = make(s, "collections.Counter");
	sb_value *value = NULL;

	assert_ok(sb_call(s, "math:floor", sb_args("d", 1.5), NULL));
	denied(sb_call(s, "math:sqrt", sb_args("i", 16), NULL), "math:sqrt",
	       "\"math:sqrt\""); /* deny goes first */
	denied(sb_call(s, "collections:OrderedDict", NULL, NULL), "collections:OrderedDict", NULL);
	denied(sb_call(s, "builtins:eval", sb_args("s", "1"), NULL), "builtins:eval", NULL);
	assert_ok(sb_call(s, "os:path.join", sb_args("ss", "a", "b"), NULL));
	denied(sb_call(s, "os:getpid", NULL, NULL), "os:getpid", NULL);
	/* A module that is not allowed is not even imported. */
	denied(sb_get(s, "this", NULL), "this", NULL);
	assert_ok(sb_method(s, &c, "update", sb_args("s", "abca"), NULL));
	assert_ok(sb_method(s, &also, "most_common", NULL, NULL));
	denied(sb_method(s, &c, "elements", NULL, NULL), "elements", NULL);
	denied(sb_attr(s, &c, "most_common.__self__", NULL), "__self__", NULL);
	assert_ok(sb_get(s, "math", &value));
	assert_ok(sb_attr(s, sb_value_ref(value), "pi", NULL)); /* a module's names are judged as such */
	denied(sb_attr(s, sb_value_ref(value), "sqrt", NULL), "math:sqrt", NULL);
	sb_value_free(value);
	/* What is missing is told as ever, where it may be asked for. */
	assert_int_equal(sb_get(s, "math:no_such_name", NULL), SB_EATTRIBUTE);
	assert_int_equal(sb_call(s, "math:", NULL, NULL), SB_EINVAL);
	sb_session_close(s);
}

static void test_03_policy_is_joined(void **state)
{
	struct place *p = *state;
	static const char *const deny[] = { "os", ".x" };
	sb_session *s = open_policed(p, NULL, 0, deny, COUNT(deny)), *joined = NULL;
	sb_session_options options = options_like(p);

	/* Left out: inherited. */
	assert_ok(sb_session_open(p->f->bridge, &options, &joined));
	denied(sb_call(joined, "os:getpid", NULL, NULL), "os", NULL);
	sb_session_close(joined);
	/* The same. */
	options.deny = deny;
	options.deny_count = 2;
	assert_ok(sb_session_open(p->f->bridge, &options, &joined));
	sb_session_close(joined);
	/* Another. */
	options.deny_count = 1;
	assert_int_equal(sb_session_open(p->f->bridge, &options, &joined), SB_EOPTION);
	assert_non_null(strstr(sb_last_error()->message, "policy"));
	options.deny_count = 0;
	options.allow = deny;
	options.allow_count = 2;
	assert_int_equal(sb_session_open(p->f->bridge, &options, &joined), SB_EOPTION);
	sb_session_close(s);
}

static void test_01_policy_is_validated(void **state)
{
	struct place *p = *state;
	static const char *const bad[] = { "", NULL, ".", "a\nb" };
	const char *many[SB_POLICY_PATTERNS_MAX + 1];
	char long_one[300], each[251];
	sb_session_options options = options_like(p);
	sb_session *s = NULL;

	for (size_t i = 0; i < COUNT(bad); i++) {
		options.deny = &bad[i];
		options.deny_count = 1;
		assert_int_equal(sb_session_open(p->f->bridge, &options, &s), SB_EINVAL);
		assert_non_null(strstr(sb_last_error()->message, "deny[0]"));
	}
	memset(long_one, 'x', sizeof(long_one));
	long_one[256] = 0;
	many[0] = long_one;
	options.deny = many;
	assert_int_equal(sb_session_open(p->f->bridge, &options, &s), SB_EINVAL);
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = "m";
	options.deny_count = COUNT(many);
	assert_int_equal(sb_session_open(p->f->bridge, &options, &s), SB_EINVAL);
	memset(each, 'x', sizeof(each));
	each[250] = 0;
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = each;
	options.deny_count = 40; /* more than 4096 bytes in all */
	assert_int_equal(sb_session_open(p->f->bridge, &options, &s), SB_EINVAL);
	options.deny = NULL;
	options.deny_count = 1;
	assert_int_equal(sb_session_open(p->f->bridge, &options, &s), SB_EINVAL);
	assert_int_equal(sb_session_release(p->f->bridge, "policed", NULL), 0);
}

static void test_11_policy_outlives_its_owner(void **state)
{
	struct place *p = *state;
	static const char *const deny[] = { "shutil" };
	sb_session *s;
	sb_session_info info = { .size = sizeof(info) };
	int err = 0;

	assert_ok(sb_session_get_info(p->s, &info));
	if (info.designated_pid == getpid())
		return; /* its death would be the test's */
	s = open_policed(p, NULL, 0, deny, COUNT(deny));
	denied(sb_get(s, "shutil", NULL), "shutil", NULL);
	assert_int_equal(sb_call(s, "os:_exit", sb_args("i", 1), NULL), SB_EOWNERDIED);
	/* The next call that makes something elects another, with the same policy. */
	for (int i = 0; i < 100; i++) {
		err = sb_call(s, "os:getpid", NULL, NULL);
		if (err == 0)
			break;
		usleep(20000);
	}
	assert_ok(err);
	denied(sb_get(s, "shutil", NULL), "shutil", NULL);
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_PLACES(test_01_policy_denies_modules_and_names),
		BOTH_PLACES(test_01_policy_denies_by_another_way),
		BOTH_PLACES(test_01_policy_denies_attributes),
		BOTH_PLACES(test_01_policy_allows_only),
		BOTH_PLACES(test_03_policy_is_joined),
		BOTH_PLACES(test_01_policy_is_validated),
		BOTH_PLACES(test_11_policy_outlives_its_owner),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
