/* SPDX-License-Identifier: Apache-2.0 */
/* The exported functions of calls that are not waited for: they check their arguments and call down. */
#include "fail.h"
#include "ops.h"
#include "request.h"
#include "snakebridge/snakebridge.h"

#define NEED(argument)                                                                     \
	do {                                                                               \
		if (!(argument))                                                           \
			return sb__fail(SB_EINVAL, "%s: " #argument " is NULL", __func__); \
	} while (0)

static int null_argument(const char *function, const char *argument)
{
	int err = sb__fail(SB_EINVAL, "%s: %s is NULL", function, argument);

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

int sb_call_start(sb_session *session, const sb_request *request, sb_future **ret_future)
{
	int err;

	if (!request)
		return null_argument("sb_call_start", "request");
	err = ret_future ? sb__request_check(request) : null_argument("sb_call_start", "ret_future");
	if (!err && (request->flags & SB_CALL_ONEWAY)) {
		err = sb__fail(SB_EINVAL,
		               "sb_call_start: a one-way call (SB_CALL_ONEWAY) has no result to wait "
		               "for: send it by sb_invoke()");
		sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	}
	if (!err)
		err = sb__call_start(session, request, ret_future);
	sb_args_free(request->args);
	return err;
}

int sb_future_wait(sb_future *future, uint32_t timeout_ms, sb_value **ret_value)
{
	NEED(future);
	return sb__future_wait(future, timeout_ms, ret_value);
}

int sb_future_poll(sb_future *future)
{
	NEED(future);
	return sb__future_poll(future);
}

int sb_future_cancel(sb_future *future, int *ret_level)
{
	NEED(future);
	return sb__future_cancel(future, ret_level);
}

int sb_future_fd(sb_future *future, int *ret_fd)
{
	NEED(future);
	NEED(ret_fd);
	return sb__future_fd(future, ret_fd);
}

void sb_future_free(sb_future *future)
{
	if (future)
		sb__future_free(future);
}

int sb_call_oneway(sb_session *session, const char *function, sb_args *args)
{
	sb_request request = SB_REQUEST_INIT;

	request.name = function;
	request.args = args;
	request.flags = SB_CALL_ONEWAY;
	return sb_invoke(session, &request, NULL);
}
