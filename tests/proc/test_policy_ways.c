/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways around a session's policy, tried: what SECURITY.md promises of it is refused by every one, before anything of it runs. The
 * helpers of Python that hand out attributes by other means are refused where the policy says what is allowed; where it only
 * denies they are not, which the last test holds on to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const allow[] = {
	"math",      "json:dumps", "shutil:copyfile", "collections:Counter", "builtins:sorted",
	"ast:parse", "ast:walk",   "threading:Lock",  ".most_common",        ".update"
};
static const char *const deny[] = { SB_POLICY_NO_DUNDER, "os", "posix" };

static unsigned tried;

static sb_session *open_policed(struct fixture *f, bool allows)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s = NULL;

	options.session_id = allows ? "allows" : "denies";
	options.designated = SB_DESIGNATED_SELF;
	options.allow = allows ? allow : NULL;
	options.allow_count = allows ? COUNT(allow) : 0;
	options.deny = deny;
	options.deny_count = COUNT(deny);
	assert_ok(sb_session_open(f->bridge, &options, &s));
	return s;
}

static sb_ref make(sb_session *s, const char *path)
{
	sb_value *value = NULL;
	sb_ref ref;

	assert_ok(sb_call(s, path, NULL, &value));
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

static void denied(int err, const char *what)
{
	tried++;
	if (err != SB_EDENIED)
		fail_msg("%s: %s: %s", what, sb_error_name(err), sb_last_error()->message);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_REFUSED);
}

/* By every verb that takes a name. */
static void every_verb(sb_session *s, const sb_ref *o, const char *name)
{
	denied(sb_attr(s, o, name, NULL), name);
	denied(sb_method(s, o, name, NULL, NULL), name);
	denied(sb_set_attr(s, o, name, sb_args("i", 1)), name);
}

/* As an item of a batch, on an earlier item's result. */
static void in_a_batch(sb_session *s, const char *name)
{
	sb_request make_it = SB_REQUEST_INIT, use_it = SB_REQUEST_INIT;
	sb_batch *batch = NULL;
	size_t item;
	sb_ref result;

	assert_ok(sb_batch_new(0, &batch));
	make_it.verb = SB_VERB_CALL;
	make_it.name = "collections:Counter";
	assert_ok(sb_batch_add(batch, &make_it, &item));
	result = sb_batch_ref(item);
	use_it.verb = SB_VERB_ATTR;
	use_it.target = &result;
	use_it.name = name;
	assert_ok(sb_batch_add(batch, &use_it, &item));
	assert_ok(sb_batch_run(s, batch, 0));
	denied(sb_batch_result(batch, item, NULL), name);
	sb_batch_free(batch);
}

static void test_01_policy_holds_against_names(void **state)
{
	static const char *const names[] = {
		"__class__",
		"__class__.__mro__",
		"__init__.__globals__",
		"__reduce__",
		"__getattribute__",
		"__subclasshook__",
		"update.__globals__",
		"update.__func__.__builtins__",
		"x.__dict__.y",
		"most_common.__self__",
		"__traceback__.tb_frame",
		"__class__.__base__.__subclasses__",
	};
	struct fixture *f = *state;

	for (int allows = 0; allows < 2; allows++) {
		sb_session *s = open_policed(f, allows);
		sb_ref o = make(s, "collections:Counter");

		for (size_t i = 0; i < COUNT(names); i++) {
			every_verb(s, &o, names[i]);
			in_a_batch(s, names[i]);
		}
		denied(sb_get(s, "collections:Counter.__subclasses__", NULL), "a path");
		denied(sb_call(s, "collections:Counter.__init__", NULL, NULL), "a path");
		denied(sb_call(s, "collections.Counter.__mro__", NULL, NULL), "a path");
		sb_session_close(s);
	}
}

static void test_01_policy_holds_against_odd_text(void **state)
{
	/* Fullwidth and other look-alikes are other names to getattr() (only source text is normalised); NUL, spaces and
	 * length do not hide what is behind them. */
	static const char *const names[] = { "__class__.\xef\xbc\xbf",
		                             "most_common\xe2\x80\x8b",
		                             " __class__ ",
		                             "most_common ",
		                             "\xef\xbc\xbf\xef\xbc\xbf"
		                             "class"
		                             "\xef\xbc\xbf\xef\xbc\xbf",
		                             "MOST_COMMON" };
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);
	sb_ref o = make(s, "collections:Counter");
	char long_name[2000];

	for (size_t i = 0; i < COUNT(names); i++)
		every_verb(s, &o, names[i]);
	memset(long_name, 'a', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	every_verb(s, &o, long_name);
	sb_session_close(s);
	/* Without a list of what is allowed they are other names, and there is no such thing. */
	s = open_policed(f, false);
	o = make(s, "collections:Counter");
	assert_int_equal(sb_attr(s, &o,
	                         "\xef\xbc\xbf\xef\xbc\xbf"
	                         "class"
	                         "\xef\xbc\xbf\xef\xbc\xbf",
	                         NULL),
	                 SB_EATTRIBUTE);
	assert_int_equal(sb_attr(s, &o, "__class__ ", NULL), SB_EATTRIBUTE);
	sb_session_close(s);
}

static void test_01_policy_holds_against_modules_by_another_way(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);
	sb_value *module = NULL;

	denied(sb_get(s, "shutil:os", NULL), "a module's module");
	denied(sb_get(s, "json:decoder", NULL), "a module's module");
	denied(sb_get(s, "math:__loader__", NULL), "a loader");
	denied(sb_get(s, "math:__spec__.loader", NULL), "a loader");
	assert_ok(sb_get(s, "math", &module));
	denied(sb_attr(s, sb_value_ref(module), "__dict__", NULL), "a module's names");
	denied(sb_method(s, sb_value_ref(module), "__loader__.load_module", sb_args("s", "os"), NULL),
	       "a loader");
	sb_value_free(module);
	sb_session_close(s);
	/* One that only denies: the module comes, what is in it does not. */
	s = open_policed(f, false);
	assert_ok(sb_call(s, "importlib:import_module", sb_args("s", "os"), &module));
	denied(sb_method(s, sb_value_ref(module), "getpid", NULL, NULL), "a denied module by importlib");
	denied(sb_attr(s, sb_value_ref(module), "path.join", NULL), "a denied module by importlib");
	denied(sb_set_attr(s, sb_value_ref(module), "x", sb_args("i", 1)), "a denied module by importlib");
	sb_value_free(module);
	sb_session_close(s);
}

static void test_01_policy_holds_against_helpers(void **state)
{
	static const char *const paths[] = {
		"builtins:getattr",
		"builtins:eval",
		"builtins:exec",
		"builtins:compile",
		"builtins:__import__",
		"builtins:vars",
		"builtins:globals",
		"builtins:type",
		"builtins:setattr",
		"builtins:str.format",
		"builtins:object.__getattribute__",
		"operator:attrgetter",
		"operator:methodcaller",
		"functools:partial",
		"functools:reduce",
		"types:MethodType",
		"types:FunctionType",
		"types:CodeType",
		"importlib:import_module",
		"sys:modules",
		"sys:modules.get",
		"pickle:loads",
		"marshal:loads",
		"gc:get_objects",
		"inspect:currentframe",
		"ctypes:CDLL",
		"string:Formatter",
		"copyreg:__newobj__",
		"runpy:run_module",
		"subprocess:run",
		"code:InteractiveInterpreter",
		"builtins.getattr",
		"operator.attrgetter",
		"math.__loader__",
		"collections:abc.sys",
	};
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);

	for (size_t i = 0; i < COUNT(paths); i++) {
		denied(sb_call(s, paths[i], sb_args("s", "x"), NULL), paths[i]);
		denied(sb_get(s, paths[i], NULL), paths[i]);
	}
	/* What is allowed works. */
	assert_ok(sb_call(s, "math:floor", sb_args("d", 1.5), NULL));
	sb_session_close(s);
}

/* ── in every kind of call ── */

static void denied_later(sb_session *s, const sb_request *request)
{
	sb_future *future = NULL;

	assert_ok(sb_call_start(s, request, &future));
	denied(sb_future_wait(future, SB_WAIT_FOREVER, NULL), request->name);
	sb_future_free(future);
}

/* Nobody tells: what it would have done was not done. */
static void denied_one_way(sb_session *s, const sb_ref *counter)
{
	sb_request request = SB_REQUEST_INIT;
	sb_value *value = NULL;
	int64_t n = -1;

	request.verb = SB_VERB_SET_ATTR;
	request.target = counter;
	request.name = "x";
	request.args = sb_args("i", 1);
	request.flags = SB_CALL_ONEWAY;
	assert_ok(sb_invoke(s, &request, NULL));
	request = (sb_request)SB_REQUEST_INIT;
	request.verb = SB_VERB_METHOD;
	request.target = counter;
	request.name = "clear";
	request.flags = SB_CALL_ONEWAY;
	assert_ok(sb_invoke(s, &request, NULL));
	assert_ok(sb_getitem(s, counter, sb_args("s", "a"), &value)); /* after them */
	assert_ok(sb_value_int(value, &n));
	sb_value_free(value);
	tried++;
	assert_int_equal(n, 7);
}

static void test_01_policy_holds_in_futures_one_way_calls_and_streams(void **state)
{
	static const char *const paths[] = { "os:getpid", "builtins:getattr", "collections:Counter.__mro__" };
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);
	sb_ref o = make(s, "collections:Counter");
	sb_request request;

	for (size_t i = 0; i < COUNT(paths); i++) {
		request = (sb_request)SB_REQUEST_INIT;
		request.name = paths[i];
		denied_later(s, &request);
		request.flags = SB_CALL_STREAM;
		denied(sb_invoke(s, &request, NULL), paths[i]);
		request.verb = SB_VERB_GET;
		request.flags = 0;
		denied_later(s, &request);
	}
	request = (sb_request)SB_REQUEST_INIT;
	request.verb = SB_VERB_METHOD;
	request.target = &o;
	request.name = "elements";
	request.flags = SB_CALL_STREAM;
	denied(sb_invoke(s, &request, NULL), request.name);
	denied_later(s, &request);
	assert_ok(sb_setitem(s, &o, sb_args("si", "a", 7)));
	denied_one_way(s, &o);
	sb_session_close(s);
}

/* ── out of callbacks ── */

struct asked {
	sb_session *s;
	const char *raises; /* a type, or NULL: it makes calls */
	int calls;
};

static int call_what_is_denied(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	static const char *const paths[] = { "os:getpid", "builtins:eval", "sys:modules", "math:__loader__" };
	struct asked *asked = arg;

	(void)args;
	(void)kwargs;
	(void)ret_value;
	if (asked->raises)
		return sb_callback_raise(asked->raises, "text");
	for (size_t i = 0; i < COUNT(paths); i++) {
		denied(sb_call(asked->s, paths[i], NULL, NULL), paths[i]);
		denied(sb_get(asked->s, paths[i], NULL), paths[i]);
		asked->calls++;
	}
	return 0;
}

static int ask(struct asked *asked)
{
	return sb_call(asked->s, "builtins:sorted", sb_args("[i] key=k", 1, call_what_is_denied, asked),
	               NULL);
}

static void raises_as(struct asked *asked, const char *type, const char *seen)
{
	asked->raises = type;
	assert_int_equal(ask(asked), SB_EPYTHON);
	assert_string_equal(sb_last_error()->python_type, seen);
	tried++;
}

static void test_01_policy_holds_in_callbacks(void **state)
{
	struct fixture *f = *state;

	for (int allows = 0; allows < 2; allows++) {
		struct asked asked = { .s = open_policed(f, allows) };

		assert_ok(sb_get(asked.s, "shutil:copyfile", NULL)); /* loaded */
		if (allows) {
			assert_ok(ask(&asked));
			assert_int_equal(asked.calls, 4);
		}
		/* The type of an exception is a name, too: one that is denied is told in the text. */
		raises_as(&asked, "builtins.KeyError", "builtins.KeyError");
		raises_as(&asked, "os.error", "builtins.RuntimeError");
		raises_as(&asked, "collections.os.error", "builtins.RuntimeError");
		raises_as(&asked, "shutil.os.error", "builtins.RuntimeError");
		raises_as(&asked, "builtins.KeyError.__class__", "builtins.RuntimeError");
		raises_as(&asked, "shutil.SameFileError",
		          allows ? "builtins.RuntimeError" : "shutil.SameFileError");
		sb_session_close(asked.s);
	}
}

/* ── of what came back as a ref ── */

static sb_ref ref_of(sb_session *s, sb_verb verb, const char *path, sb_args *args)
{
	sb_request request = SB_REQUEST_INIT;
	sb_value *value = NULL;
	sb_ref ref;

	request.verb = verb;
	request.name = path;
	request.args = args;
	request.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(s, &request, &value));
	ref = *sb_value_ref(value);
	sb_value_free(value);
	return ref;
}

static void names_are_denied(sb_session *s, const sb_ref *o, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		every_verb(s, o, names[i]);
		denied(sb_method(s, o, names[i], sb_args("rs", o, "x"), NULL), names[i]);
	}
}

static void test_01_policy_holds_on_functions_generators_and_types(void **state)
{
	static const char *const of_function[] = { "__call__",     "__globals__",  "__code__",
		                                   "__closure__",  "__builtins__", "__get__",
		                                   "__defaults__", "__module__",   "__wrapped__",
		                                   "__reduce__",   "__class__" };
	static const char *const of_generator[] = {
		"gi_frame",       "gi_code",  "gi_yieldfrom",       "send",
		"throw",          "__next__", "gi_frame.f_globals", "gi_frame.f_builtins",
		"gi_frame.f_back"
	};
	static const char *const of_type[] = { "__subclasses__",    "mro",      "__mro__",
		                               "__base__",          "__dict__", "fromkeys.__self__",
		                               "__init_subclass__", "__new__" };
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);
	sb_ref tree = ref_of(s, SB_VERB_CALL, "ast:parse", sb_args("s", "1"));
	sb_ref function = ref_of(s, SB_VERB_GET, "json:dumps", NULL);
	sb_ref generator = ref_of(s, SB_VERB_CALL, "ast:walk", sb_args("r", &tree));
	sb_ref type = ref_of(s, SB_VERB_GET, "collections:Counter", NULL);

	names_are_denied(s, &function, of_function, COUNT(of_function));
	names_are_denied(s, &generator, of_generator, COUNT(of_generator));
	names_are_denied(s, &type, of_type, COUNT(of_type));
	denied(sb_get(s, "json:dumps.__globals__", NULL), "a function's names");
	denied(sb_get(s, "json:dumps.__code__.co_consts", NULL), "a function's code");
	sb_session_close(s);
}

/* What __exit__ is told of an exception is a name, too; it is told in any case. */
static void test_01_policy_holds_in_exit(void **state)
{
	static const char *const types[] = { "os.error", "shutil.os.error", "builtins.KeyError" };
	struct fixture *f = *state;
	sb_session *s = open_policed(f, true);
	sb_ref lock = make(s, "threading:Lock");
	sb_error error = { .code = SB_EPYTHON, .message = "text" };
	bool suppressed = true;

	for (size_t i = 0; i < COUNT(types); i++) {
		assert_ok(sb_enter(s, &lock, NULL)); /* it hangs where it was not left */
		error.python_type = types[i];
		assert_ok(sb_exit(s, &lock, &error, &suppressed));
		assert_false(suppressed);
		tried++;
	}
	sb_session_close(s);
}

/* What is not promised: SECURITY.md says so. Should one of these be refused one day, say so there. */
static void test_01_policy_that_only_denies_is_a_guard_rail(void **state)
{
	struct fixture *f = *state;
	sb_session *s = open_policed(f, false);
	sb_ref o = make(s, "collections:Counter");

	assert_ok(sb_call(s, "builtins:getattr", sb_args("rs", &o, "__class__"), NULL));
	assert_ok(sb_call(s, "builtins:str.format", sb_args("sr", "{0.__class__}", &o), NULL));
	assert_ok(sb_call(s, "builtins:str.format_map", sb_args("s{sr}", "{x.__class__}", "x", &o), NULL));
	assert_ok(sb_call(s, "random:_urandom", sb_args("i", 4),
	                  NULL)); /* os.urandom, by the name that another has for it */
	sb_session_close(s);
	printf("reliability: policy/ways-around tried=%u failed=0 seconds=0\n", tried);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_01_policy_holds_against_names, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_against_odd_text, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_against_modules_by_another_way,
		                                fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_against_helpers, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_in_futures_one_way_calls_and_streams,
		                                fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_in_callbacks, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_on_functions_generators_and_types,
		                                fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_holds_in_exit, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_01_policy_that_only_denies_is_a_guard_rail,
		                                fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests_name("policy_ways", tests, NULL, NULL);
}
