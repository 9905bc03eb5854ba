/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: requests that travel as one. Each item is encoded when it is added; the replies are kept as bytes and read when
 * somebody asks.
 *
 * Crash: nothing shared.
 */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "message.h"
#include "ops.h"
#include "request.h"
#include "snakebridge/snakebridge.h"

struct sb_batch {
	uint32_t flags;
	sb_args *args; /* each positional argument an item's request */
	sb_ref target; /* of the first item that has one: says which session is meant */
	bool has_target;
	sb_value *replies;
	char session_id[SB_SESSION_ID_MAX + 1]; /* where they came from */
};

static int refuse(int code, const char *what)
{
	int err = sb__fail(code, "%s", what);

	sb__fail_set_outcome(SB_OUTCOME_REFUSED);
	return err;
}

int sb_batch_new(uint32_t flags, sb_batch **ret_batch)
{
	sb_batch *batch;

	if (!ret_batch || (flags & ~SB_BATCH_STOP_ON_ERROR))
		return refuse(
			SB_EINVAL,
			"sb_batch_new: ret_batch is NULL, or flags are not 0 or SB_BATCH_STOP_ON_ERROR");
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return sb__fail_memory("a batch");
	batch->flags = flags;
	batch->args = sb_args("");
	if (batch->args->error) {
		free(batch);
		return sb__fail_memory("a batch");
	}
	*ret_batch = batch;
	return 0;
}

sb_ref sb_batch_ref(size_t item)
{
	return sb__item_ref(item < UINT32_MAX ? (uint32_t)item : UINT32_MAX);
}

/* Nearly always all items have targets of one session. */
static bool is_noted(const sb_batch *batch, const sb_ref *ref)
{
	return batch->has_target && ref->incarnation == batch->target.incarnation &&
	       strcmp(ref->session_id, batch->target.session_id) == 0;
}

/* The sessions of an item's refs become the batch's; the results that it uses must come before it. */
static int note_refs(sb_batch *batch, const sb_request *r)
{
	size_t count = r->args ? r->args->ref_count : 0;
	int err = 0;

	if (r->target && sb__is_item_session(r->target->session_id) &&
	    r->target->slot >= batch->args->positional_count)
		return refuse(SB_EINVAL,
		              "sb_batch_add: the target is the result of an item that does not come before");
	for (size_t i = 0; i < count; i++)
		if (sb__is_item_session(r->args->refs[i].session_id) &&
		    r->args->refs[i].incarnation >= batch->args->positional_count)
			return refuse(SB_EINVAL, "sb_batch_add: an argument is the result of an item that "
			                         "does not come before");
	if (r->target && !sb__is_item_session(r->target->session_id) && !is_noted(batch, r->target)) {
		err = sb__args_note(batch->args, r->target);
		if (!err && !batch->has_target)
			batch->target = *r->target;
		batch->has_target |= !err;
	}
	for (size_t i = 0; i < count && !err; i++) {
		sb_ref ref;

		if (sb__is_item_session(r->args->refs[i].session_id))
			continue;
		memset(&ref, 0, sizeof(ref));
		memcpy(ref.session_id, r->args->refs[i].session_id, sizeof(ref.session_id));
		ref.incarnation = r->args->refs[i].incarnation;
		err = sb__args_note(batch->args, &ref);
	}
	return err ? sb__fail_memory("a batch's refs") : 0;
}

/* The batch's from now on: what an item's bytes name stays while the batch does. */
static int keep_arrays(sb_batch *batch, const sb_args *args)
{
	int err = 0;

	for (size_t i = 0; args && i < args->arrays.count && !err; i++)
		err = sb__array_list_add(&batch->args->arrays, args->arrays.items[i]);
	return err ? sb__fail_memory("a batch's arrays") : 0;
}

static int add(sb_batch *batch, const sb_request *r)
{
	struct sb__buf *items = &batch->args->positional, part;
	size_t before = items->len;
	int err;

	if (batch->args->positional_count >= SB_BATCH_MAX)
		return refuse(SB_ETOOBIG,
		              "sb_batch_add: the batch has 10000 items (SB_BATCH_MAX): run it, and begin "
		              "another");
	if (r->flags & SB_CALL_ONEWAY)
		return refuse(SB_EINVAL,
		              "sb_batch_add: a batch's items have results: leave SB_CALL_ONEWAY out");
	if (r->args && r->args->callback_count > 0)
		return refuse(
			SB_EINVAL,
			"sb_batch_add: a C function cannot be an argument in a batch: it runs while its call "
			"is waited for, so make a call of its own");
	err = sb__args_error(r->args);
	if (!err)
		err = note_refs(batch, r);
	if (!err)
		err = keep_arrays(batch, r->args);
	if (err)
		return err;
	sb__nest(items, 2, &part); /* nearly all are of 24 to 255 bytes */
	sb__request_encode(&part, r);
	sb__nested(items, 2, &part);
	err = items->error;
	if (err) {
		items->error = 0;
		sb__buf_truncate(items, before);
		return refuse(err, "sb_batch_add: the item's arguments, or all items together, are too big, "
		                   "or memory is "
		                   "short");
	}
	batch->args->positional_count++;
	return 0;
}

int sb_batch_add(sb_batch *batch, const sb_request *request, size_t *ret_item)
{
	int err;

	if (!request)
		return refuse(SB_EINVAL, "sb_batch_add: request is NULL");
	err = batch ? sb__request_check(request) : refuse(SB_EINVAL, "sb_batch_add: batch is NULL");
	if (!err)
		err = add(batch, request);
	if (!err && ret_item)
		*ret_item = batch->args->positional_count - 1;
	sb_args_free(request->args);
	return err;
}

int sb_batch_run(sb_session *session, sb_batch *batch, uint32_t timeout_ms)
{
	sb_request request = SB_REQUEST_INIT;
	sb_value *replies = NULL;
	int err;

	if (!batch)
		return refuse(SB_EINVAL, "sb_batch_run: batch is NULL");
	request.verb = SB_VERB_BATCH;
	request.target = batch->has_target ? &batch->target : NULL;
	request.args = batch->args;
	request.timeout_ms = timeout_ms;
	request.flags = batch->flags;
	sb_value_free(batch->replies);
	batch->replies = NULL;
	err = sb__invoke_where(session, &request, &replies, batch->session_id);
	if (!err)
		batch->replies = replies;
	return err;
}

int sb_batch_result(const sb_batch *batch, size_t item, sb_value **ret_value)
{
	const sb_value *reply = batch && batch->replies ? sb_value_at(batch->replies, item) : NULL;

	if (!reply)
		return sb__fail(SB_EINVAL, "sb_batch_result: there is no item %zu, or the batch was not run",
		                item);
	return sb__item_reply_decode(reply, batch->session_id, ret_value);
}

void sb_batch_free(sb_batch *batch)
{
	if (!batch)
		return;
	sb_args_free(batch->args);
	sb_value_free(batch->replies);
	free(batch);
}
