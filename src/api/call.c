/* SPDX-License-Identifier: Apache-2.0 */
/* The exported verbs: each fills an sb_request; sb_invoke() checks it, calls down and consumes the arguments. */
#include <string.h>

#include "fail.h"
#include "ops.h"
#include "request.h"
#include "snakebridge/snakebridge.h"
#include "value_impl.h"

static int refuse(const char *what)
{
	int err = sb__fail(SB_EINVAL, "%s", what);

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

#define ANY_COUNT UINT32_MAX

/* What each verb needs. */
static const struct shape {
	bool target, name;
	uint32_t least, most; /* positional arguments; ANY_COUNT: keywords, too */
	const char *arguments;
} shapes[] = {
	[SB_VERB_CALL] = { false, true, 0, ANY_COUNT, "" },
	[SB_VERB_METHOD] = { true, true, 0, ANY_COUNT, "" },
	[SB_VERB_ATTR] = { true, true, 0, 0, "reading an attribute takes no arguments" },
	[SB_VERB_SET_ATTR] = { true, true, 1, 1,
	                       "setting an attribute takes exactly one positional argument: sb_args(\"i\", "
	                       "3)" },
	[SB_VERB_GET] = { false, true, 0, 0, "reading a module's attribute takes no arguments" },
	[SB_VERB_RELEASE] = { true, false, 0, 0, "releasing takes no arguments" },
	[SB_VERB_GETITEM] = { true, false, 1, 1,
	                      "reading an item takes exactly one positional argument, the key: "
	                      "sb_args(\"i\", 3)" },
	[SB_VERB_SETITEM] = { true, false, 2, 2,
	                      "setting an item takes exactly two positional arguments, key and value: "
	                      "sb_args(\"si\", \"width\", 3)" },
	[SB_VERB_DELITEM] = { true, false, 1, 1,
	                      "deleting an item takes exactly one positional argument, the key: "
	                      "sb_args(\"i\", 3)" },
	[SB_VERB_LEN] = { true, false, 0, 0, "len takes no arguments" },
	[SB_VERB_CONTAINS] = { true, false, 1, 1,
	                       "contains takes exactly one positional argument, the item: sb_args(\"i\", "
	                       "3)" },
	[SB_VERB_REPR] = { true, false, 0, 0, "repr takes no arguments" },
	[SB_VERB_STR] = { true, false, 0, 0, "str takes no arguments" },
	[SB_VERB_HASH] = { true, false, 0, 0, "hash takes no arguments" },
	[SB_VERB_ITER] = { true, false, 0, 0, "iter takes no arguments" },
	[SB_VERB_NEXT] = { true, false, 1, 2,
	                   "next takes the number of items and, if it likes, milliseconds to wait for them: "
	                   "sb_args(\"ii\", 100, 10)" },
	[SB_VERB_ENTER] = { true, false, 0, 0, "enter takes no arguments" },
	[SB_VERB_EXIT] = { true, false, 0, 2, "exit takes no arguments, or an exception's type and message" },
	[SB_VERB_PIN] = { true, false, 0, 0, "pin takes no arguments" },
	[SB_VERB_UNPIN] = { true, false, 0, 0, "unpin takes no arguments" },
	[SB_VERB_CHECK] = { true, false, 0, 0, "check takes no arguments" },
	[SB_VERB_CLOSE] = { true, false, 0, 0, "close takes no arguments" },
};

static int check_arguments(const struct shape *shape, const sb_args *args)
{
	uint32_t count = args ? args->positional_count : 0;

	if (shape->most == ANY_COUNT || (args && args->error)) /* that error is reported later */
		return 0;
	if (count < shape->least || count > shape->most || (args && args->keyword_count))
		return refuse(shape->arguments);
	return 0;
}

int sb__request_check(const sb_request *r)
{
	const struct shape *shape;

	if (r->size != sizeof(*r))
		return refuse("the request's size is wrong: start with SB_REQUEST_INIT");
	if ((int)r->verb < SB_VERB_CALL || (size_t)r->verb >= sizeof(shapes) / sizeof(shapes[0]) ||
	    r->verb == SB_VERB_BATCH)
		return refuse("the request's verb is not one of SB_VERB_…");
	shape = &shapes[r->verb];
	if (shape->target && !r->target)
		return refuse("the target is NULL: this call needs a ref (sb_value_ref() of a result that is "
		              "no ref gives NULL)");
	if (shape->name && (!r->name || !*r->name))
		return refuse("the name is NULL or empty");
	if (r->flags & ~(SB_CALL_AS_REF | SB_CALL_PLAIN | SB_CALL_AS_VIEW | SB_CALL_ONEWAY | SB_CALL_STREAM))
		return refuse("the request's flags have bits other than SB_CALL_…");
	if ((r->flags & SB_CALL_AS_REF) && (r->flags & SB_CALL_AS_VIEW))
		return refuse("SB_CALL_AS_REF and SB_CALL_AS_VIEW contradict each other: a result stays "
		              "where it is, or its "
		              "memory is shared");
	if ((r->flags & SB_CALL_AS_REF) && (r->flags & SB_CALL_PLAIN))
		return refuse("SB_CALL_AS_REF and SB_CALL_PLAIN contradict each other: a result stays where "
		              "it is, or is sent as a value");
	return check_arguments(shape, r->args);
}

int sb_invoke(sb_session *session, const sb_request *request, sb_value **ret_value)
{
	int err;

	if (!request)
		return refuse("sb_invoke: request is NULL");
	err = sb__request_check(request);
	if (!err && (request->flags & SB_CALL_ONEWAY)) {
		err = sb__call_oneway(session, request);
		if (!err && ret_value)
			*ret_value = NULL;
	} else if (!err) {
		err = sb__invoke(session, request, ret_value);
	}
	sb_args_free(request->args);
	return err;
}

int sb_call(sb_session *session, const char *function, sb_args *args, sb_value **ret_value)
{
	sb_request request = SB_REQUEST_INIT;

	request.verb = SB_VERB_CALL;
	request.name = function;
	request.args = args;
	return sb_invoke(session, &request, ret_value);
}

static int on_object(sb_session *session, sb_verb verb, const sb_ref *target, const char *name, sb_args *args,
                     sb_value **ret_value)
{
	sb_request request = SB_REQUEST_INIT;

	__builtin_prefetch(target); /* one of many is in no cache */
	request.verb = verb;
	request.target = target;
	request.name = name;
	request.args = args;
	return sb_invoke(session, &request, ret_value);
}

int sb_method(sb_session *session, const sb_ref *target, const char *name, sb_args *args,
              sb_value **ret_value)
{
	return on_object(session, SB_VERB_METHOD, target, name, args, ret_value);
}

int sb_attr(sb_session *session, const sb_ref *target, const char *name, sb_value **ret_value)
{
	return on_object(session, SB_VERB_ATTR, target, name, NULL, ret_value);
}

int sb_set_attr(sb_session *session, const sb_ref *target, const char *name, sb_args *args)
{
	return on_object(session, SB_VERB_SET_ATTR, target, name, args, NULL);
}

int sb_get(sb_session *session, const char *path, sb_value **ret_value)
{
	sb_request request = SB_REQUEST_INIT;

	request.verb = SB_VERB_GET;
	request.name = path;
	return sb_invoke(session, &request, ret_value);
}

int sb_getitem(sb_session *session, const sb_ref *target, sb_args *key, sb_value **ret_value)
{
	return on_object(session, SB_VERB_GETITEM, target, NULL, key, ret_value);
}

int sb_setitem(sb_session *session, const sb_ref *target, sb_args *key_and_value)
{
	return on_object(session, SB_VERB_SETITEM, target, NULL, key_and_value, NULL);
}

int sb_delitem(sb_session *session, const sb_ref *target, sb_args *key)
{
	return on_object(session, SB_VERB_DELITEM, target, NULL, key, NULL);
}

/* A verb whose result is an int. */
static int int_of(sb_session *session, sb_verb verb, const sb_ref *target, int64_t *ret)
{
	sb_value *value = NULL;
	int err = on_object(session, verb, target, NULL, NULL, &value);

	if (!err && ret)
		err = sb_value_int(value, ret);
	sb_value_free(value);
	return err;
}

/* A verb whose result is a bool. */
static int bool_of(sb_session *session, sb_verb verb, const sb_ref *target, sb_args *args, bool *ret)
{
	sb_value *value = NULL;
	int err = on_object(session, verb, target, NULL, args, &value);

	if (!err && ret)
		err = sb_value_bool(value, ret);
	sb_value_free(value);
	return err;
}

int sb_len(sb_session *session, const sb_ref *target, uint64_t *ret_len)
{
	int64_t len = 0;
	int err = int_of(session, SB_VERB_LEN, target, &len);

	if (!err && ret_len)
		*ret_len = (uint64_t)len;
	return err;
}

int sb_contains(sb_session *session, const sb_ref *target, sb_args *item, bool *ret_contains)
{
	return bool_of(session, SB_VERB_CONTAINS, target, item, ret_contains);
}

int sb_repr(sb_session *session, const sb_ref *target, sb_value **ret_value)
{
	return on_object(session, SB_VERB_REPR, target, NULL, NULL, ret_value);
}

int sb_str(sb_session *session, const sb_ref *target, sb_value **ret_value)
{
	return on_object(session, SB_VERB_STR, target, NULL, NULL, ret_value);
}

int sb_hash(sb_session *session, const sb_ref *target, int64_t *ret_hash)
{
	return int_of(session, SB_VERB_HASH, target, ret_hash);
}

/* ── context managers ── */

int sb_enter(sb_session *session, const sb_ref *target, sb_value **ret_value)
{
	return on_object(session, SB_VERB_ENTER, target, NULL, NULL, ret_value);
}

int sb_exit(sb_session *session, const sb_ref *target, const sb_error *error, bool *ret_suppressed)
{
	sb_args *args = NULL;

	if (error && *error->python_type)
		args = sb_args("ss", error->python_type, error->python_message);
	else if (error)
		args = sb_args("ss", sb_error_name(error->code), error->message);
	return bool_of(session, SB_VERB_EXIT, target, args, ret_suppressed);
}

int sb_with_object(sb_session *session, const sb_ref *target, sb_with_fn body, void *arg)
{
	sb_value *entered = NULL;
	bool suppressed = false;
	int err, left;

	if (!body)
		return refuse("sb_with_object: body is NULL");
	err = sb_enter(session, target, &entered);
	if (err)
		return err;
	err = body(session, entered, arg);
	sb_value_free(entered);
	if (err < 0 && sb_last_error()->code != err)
		sb__fail(err, "the body of a with block failed with code %d", err);
	left = sb_exit(session, target, err < 0 ? sb_last_error() : NULL, &suppressed);
	if (left)
		return left;
	return err < 0 && suppressed ? 0 : err;
}

/* ── refs ── */

static int pin(sb_session *session, sb_verb verb, const sb_ref *ref, uint32_t *ret_pins)
{
	int64_t pins = 0;
	int err = int_of(session, verb, ref, &pins);

	if (!err && ret_pins)
		*ret_pins = (uint32_t)pins;
	return err;
}

int sb_ref_pin(sb_session *session, const sb_ref *ref, uint32_t *ret_pins)
{
	return pin(session, SB_VERB_PIN, ref, ret_pins);
}

int sb_ref_unpin(sb_session *session, const sb_ref *ref, uint32_t *ret_pins)
{
	return pin(session, SB_VERB_UNPIN, ref, ret_pins);
}

int sb_ref_get_info(sb_session *session, const sb_ref *ref, sb_ref_info *ret_info)
{
	sb_ref_info info = { .size = sizeof(info) };
	size_t size;
	int err;

	if (!ref || !ret_info || ret_info->size < offsetof(sb_ref_info, type_module))
		return refuse("sb_ref_get_info: ref or info is NULL, or info's size is not set");
	size = ret_info->size < sizeof(info) ? ret_info->size : sizeof(info);
	err = sb__ref_info(session, ref, &info);
	if (err == SB__REF_NOT_LISTED) /* stale: a call says why; else there was no room to list it */
		err = on_object(session, SB_VERB_CHECK, ref, NULL, NULL, NULL);
	if (!err) {
		info.size = ret_info->size;
		memcpy(ret_info, &info, size);
	}
	return err;
}

/* Gone already is as good as dropped now. */
static bool is_gone(int code)
{
	return code == SB_EREFRELEASED || code == SB_EREFEVICTED || code == SB_EREFEXPIRED ||
	       code == SB_ERELEASED || code == SB_EEXPIRED || code == SB_EOWNERDIED;
}

int sb_ref_release(sb_session *session, const sb_ref *ref, bool *ret_dropped)
{
	sb_value *value = NULL;
	bool dropped = false;
	int err = on_object(session, SB_VERB_RELEASE, ref, NULL, NULL, &value);

	if (is_gone(err))
		err = 0;
	else if (!err)
		sb_value_bool(value, &dropped);
	if (!err && ret_dropped)
		*ret_dropped = dropped;
	sb_value_free(value);
	return err;
}
