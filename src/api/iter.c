/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Iteration in batches: the owner has the iterator, this side has one batch of it and hands out its items.
 *
 * Crash: the iterator in the session stays until it is evicted or expires.
 */
#include <stdlib.h>

#include "fail.h"
#include "snakebridge/snakebridge.h"

#define BATCH_DEFAULT    100
#define CLOSE_TIMEOUT_MS 1000

struct sb_iter {
	sb_session *session; /* as it was named, or NULL: the ref's own */
	sb_ref ref;
	size_t batch;
	sb_value *items; /* [was it the last, [item …]], or NULL */
	size_t next;
	bool ended; /* nothing is left in the session */
};

static int invoke(const struct sb_iter *iter, sb_verb verb, const sb_ref *target, sb_args *args,
                  uint32_t timeout_ms, sb_value **ret)
{
	sb_request request = SB_REQUEST_INIT;

	request.verb = verb;
	request.target = target;
	request.args = args;
	request.timeout_ms = timeout_ms;
	return sb_invoke(iter->session, &request, ret);
}

int sb_iter_open(sb_session *session, const sb_ref *target, size_t batch, sb_iter **ret_iter)
{
	sb_value *value = NULL;
	struct sb_iter *iter;
	int err;

	if (!ret_iter || batch > SB_ITER_BATCH_MAX)
		return sb__fail(SB_EINVAL,
		                "sb_iter_open: ret_iter is NULL, or a batch of %zu items is more than %d",
		                batch, SB_ITER_BATCH_MAX);
	iter = calloc(1, sizeof(*iter));
	if (!iter)
		return sb__fail_memory("an iterator");
	iter->session = session;
	iter->batch = batch ? batch : BATCH_DEFAULT;
	err = invoke(iter, SB_VERB_ITER, target, NULL, 0, &value);
	if (!err && !sb_value_ref(value))
		err = sb__fail(SB_EPROTOCOL, "the owner gave an iterator that is no ref");
	if (err) {
		free(iter);
	} else {
		iter->ref = *sb_value_ref(value);
		*ret_iter = iter;
	}
	sb_value_free(value);
	return err;
}

/* The next batch: 0, or an error. */
static int fetch(struct sb_iter *iter)
{
	sb_value *items = NULL;
	bool last = false;
	int err = invoke(iter, SB_VERB_NEXT, &iter->ref, sb_args("l", (int64_t)iter->batch), 0, &items);

	if (err) {
		if (sb_last_error()->outcome == SB_OUTCOME_EXCEPTION && *sb_last_error()->python_type)
			iter->ended = true; /* Python raised: the owner has freed it */
		return err;
	}
	if (sb_value_bool(sb_value_at(items, 0), &last) ||
	    sb_value_kind(sb_value_at(items, 1)) != SB_KIND_LIST) {
		sb_value_free(items);
		return sb__fail(SB_EPROTOCOL, "the owner gave a batch that is none");
	}
	iter->items = items;
	iter->next = 0;
	iter->ended = last;
	return 0;
}

int sb_iter_next(sb_iter *iter, sb_value **ret_item)
{
	const sb_value *list;
	int err;

	if (!iter || !ret_item)
		return sb__fail(SB_EINVAL, "sb_iter_next: %s is NULL", iter ? "ret_item" : "iter");
	for (;;) {
		list = sb_value_at(iter->items, 1);
		if (iter->next < sb_value_len(list))
			break;
		sb_value_free(iter->items);
		iter->items = NULL;
		iter->next = 0;
		if (iter->ended)
			return 0;
		err = fetch(iter);
		if (err)
			return err;
	}
	err = sb_value_pack(ret_item, "o", sb_value_at(list, iter->next));
	if (err)
		return err;
	iter->next++;
	return 1;
}

void sb_iter_close(sb_iter *iter)
{
	if (!iter)
		return;
	if (!iter->ended)
		(void)invoke(iter, SB_VERB_RELEASE, &iter->ref, NULL, CLOSE_TIMEOUT_MS, NULL);
	sb_value_free(iter->items);
	free(iter);
}
