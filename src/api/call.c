/* SPDX-License-Identifier: Apache-2.0 */
/* The exported verbs: each fills an sb_request; sb_invoke() checks it, calls down and consumes the arguments. */
#include <string.h>

#include "fail.h"
#include "ops.h"
#include "snakebridge/snakebridge.h"
#include "value_impl.h"

static int refuse(const char *what)
{
	int err = sb__fail(SB_EINVAL, "%s", what);

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

/* What each verb needs. */
static int check(const sb_request *r)
{
	bool on_object = r->verb == SB_VERB_METHOD || r->verb == SB_VERB_ATTR || r->verb == SB_VERB_SET_ATTR ||
	                 r->verb == SB_VERB_RELEASE;

	if (r->size != sizeof(*r))
		return refuse("the request's size is wrong: start with SB_REQUEST_INIT");
	if (r->verb < SB_VERB_CALL || r->verb > SB_VERB_RELEASE)
		return refuse("the request's verb is none of SB_VERB_…");
	if (on_object && !r->target)
		return refuse("the target is NULL: this call needs a ref (sb_value_ref() of a result that is no ref gives NULL)");
	if (r->verb != SB_VERB_RELEASE && (!r->name || !*r->name))
		return refuse("the name is NULL or empty");
	if (r->flags & ~SB_CALL_AS_REF)
		return refuse("the request's flags are none of SB_CALL_…");
	if (r->verb == SB_VERB_SET_ATTR && !(r->args && (r->args->error || (r->args->positional_count == 1 && !r->args->keyword_count))))
		return refuse("setting an attribute takes exactly one positional argument: sb_args(\"i\", 3)");
	return 0;
}

int sb_invoke(sb_session *session, const sb_request *request, sb_value **ret_value)
{
	int err;

	if (!request)
		return refuse("sb_invoke: request is NULL");
	err = check(request);
	if (!err)
		err = sb__invoke(session, request, ret_value);
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

	request.verb = verb;
	request.target = target;
	request.name = name;
	request.args = args;
	return sb_invoke(session, &request, ret_value);
}

int sb_method(sb_session *session, const sb_ref *target, const char *name, sb_args *args, sb_value **ret_value)
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

/* Gone already is as good as dropped now. */
static bool is_gone(int code)
{
	return code == SB_EREFRELEASED || code == SB_EREFEVICTED || code == SB_EREFEXPIRED || code == SB_ERELEASED ||
	       code == SB_EEXPIRED || code == SB_EOWNERDIED;
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
