/* SPDX-License-Identifier: Apache-2.0 */
#include "echo_engine.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "engine.h"
#include "fail.h"
#include "message.h"
#include "os_linux.h"
#include "own_request.h"

#define MS UINT64_C(1000000)

struct sb__table {
	struct sb__row_writer rows;
};

static int start(const struct sb__engine_options *options, char *error, size_t size)
{
	(void)options;
	(void)error;
	(void)size;
	return 0;
}

static int table_create(const struct sb__table_options *options, struct sb__table **ret)
{
	struct sb__table *table = calloc(1, sizeof(*table));

	if (!table)
		return sb__fail_memory("a table");
	table->rows = options->rows;
	if (table->rows.set) /* one ref, so that the rows are had, too */
		table->rows.set(table->rows.arg, 0, 1, "echo", 0, 1);
	*ret = table;
	return 0;
}

static void table_destroy(struct sb__table *table)
{
	free(table);
}

static bool table_discard(struct sb__table *table)
{
	(void)table;
	return false; /* there is always its one ref */
}

/* The first positional argument: its bytes, and its number if it is one. */
static bool first_argument(struct sb__cursor *cursor, const uint8_t **ret, size_t *ret_len,
                           int64_t *ret_number)
{
	struct sb__cursor look;
	struct sb__item item;
	size_t from;

	*ret_number = 0;
	if (sb__next(cursor, &item) != 0 || item.type != SB__ITEM_ARRAY || item.u.count == 0)
		return false;
	look = *cursor;
	from = cursor->pos;
	if (sb__next(&look, &item) == 0 && item.type == SB__ITEM_INT)
		*ret_number = item.u.integer;
	if (sb__skip(cursor) != 0)
		return false;
	*ret = cursor->data + from;
	*ret_len = cursor->pos - from;
	return true;
}

static bool is_called(const struct sb__request_head *head, const char *name)
{
	return head->name_len == strlen(name) && memcmp(head->name, name, head->name_len) == 0;
}

static void put_size(struct sb__buf *reply, size_t len)
{
	char *zeroes = calloc(1, len + 1);

	if (zeroes)
		sb__put_bytes(reply, zeroes, len);
	else
		reply->error = SB_ENOMEM;
	free(zeroes);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

/* The bytes are of a function: asks its caller, and replies with the answer's value. */
static void put_answer(struct sb__buf *reply, const struct sb__asker *asker, const uint8_t *bytes, size_t len)
{
	struct sb__cursor cursor = { .data = bytes, .len = len };
	struct sb__answer answer = { .failed = true };
	struct sb__buf question, given;
	struct sb__item item;
	uint32_t function = 0;

	sb__buf_init(&question, NULL, 0);
	sb__buf_init(&given, NULL, 0);
	if (asker && sb__next(&cursor, &item) == 0 && item.type == SB__ITEM_TAG &&
	    sb__next_callback(&cursor, &function) == 0) {
		sb__put_question(&question, asker->call, function);
		sb__put_tag(&question, SB__TAG_TUPLE);
		sb__put_array(&question, 0);
		sb__put_null(&question);
		if (asker->ask(asker->arg, &question, never, NULL, &given) == SB__ASKER_ANSWERED) {
			cursor = (struct sb__cursor){ .data = given.data, .len = given.len };
			if (sb__next_answer(&cursor, &answer) != 0)
				answer.failed = true;
		}
	}
	if (answer.failed)
		sb__put_null(reply);
	else
		sb__buf_append(reply, given.data + cursor.pos, given.len - cursor.pos);
	if (question.len)
		asker->done(asker->arg);
	sb__buf_free(&question);
	sb__buf_free(&given);
}

/* A stream without end, whichever ref it is of: its next items, all at hand. */
static uint64_t put_next(struct sb__buf *reply)
{
	sb__put_array(reply, 2);
	sb__put_bool(reply, false);
	sb__put_array(reply, 3);
	for (int i = 0; i < 3; i++)
		sb__put_int(reply, i);
	return SB__ENGINE_TELL;
}

static uint64_t execute(struct sb__table *table, const struct sb__call_origin *origin, const uint8_t *request,
                        size_t request_len, struct sb__buf *reply)
{
	struct sb__cursor cursor = { .data = request, .len = request_len };
	struct sb__request_head head;
	const uint8_t *bytes = NULL;
	size_t len = 0;
	int64_t number = 0;
	bool has;

	(void)table;
	if (sb__request_decode(&cursor, &head) != 0) {
		sb__reply_refuse(reply, SB_EPROTOCOL, "no request");
		return 0;
	}
	has = first_argument(&cursor, &bytes, &len, &number);
	sb__put_array(reply, 2);
	sb__put_uint(reply, SB__REPLY_VALUE);
	if (head.verb == SB_VERB_NEXT)
		return put_next(reply);
	if (head.verb == SB_VERB_CLOSE) {
		sb__put_bool(reply, true);
	} else if (has && is_called(&head, "size")) {
		put_size(reply, (size_t)number);
	} else if (has && is_called(&head, "echo")) {
		sb__buf_append(reply, bytes, len);
	} else if (has && is_called(&head, "ask")) {
		put_answer(reply, origin->asker, bytes, len);
	} else {
		if (has && is_called(&head, "nap"))
			sb__os_sleep((uint64_t)number * MS);
		sb__put_null(reply);
	}
	return 0;
}

/* As if it had been written. */
static uint64_t execute_own(struct sb__table *table, const struct sb__call_origin *origin,
                            struct sb__own_request *own, struct sb__buf *reply)
{
	uint8_t memory[1024];
	struct sb__buf buf;
	uint64_t number;

	sb__buf_init(&buf, memory, sizeof(memory));
	own_request_write(&buf, own);
	number = execute(table, origin, buf.data, buf.len, reply);
	sb__buf_free(&buf);
	own->ended_ms = 0;
	return number;
}

static void settle(struct sb__table *table, uint64_t number, bool delivered)
{
	(void)table;
	(void)number;
	(void)delivered;
}

static uint32_t expire(struct sb__table *table, uint64_t now_ms)
{
	(void)table;
	(void)now_ms;
	return 0;
}

static void counts(const struct sb__table *table, struct sb__table_counts *ret)
{
	(void)table;
	*ret = (struct sb__table_counts){ .live = 0 };
}

static void nothing(void) {}

static bool at_once(void)
{
	return false;
}

static void within(struct sb__table *table, void (*fn)(void *arg), void *arg)
{
	(void)table;
	fn(arg);
}

atomic_uint echo_engine_unknown = UINT_MAX, echo_engine_told;

static unsigned cancel(const struct sb__table *table, uint64_t trace_id, uint64_t key)
{
	unsigned left = atomic_load(&echo_engine_unknown);

	(void)table;
	(void)trace_id;
	(void)key;
	while (left && left != UINT_MAX &&
	       !atomic_compare_exchange_weak(&echo_engine_unknown, &left, left - 1))
		;
	if (left)
		return 0;
	atomic_fetch_add(&echo_engine_told, 1);
	return 1;
}

static void *gil_release(void)
{
	return NULL;
}

static void gil_restore(void *state)
{
	(void)state;
}

static const struct sb__engine echo = { .abi = SB__ENGINE_ABI,
	                                .start = start,
	                                .table_create = table_create,
	                                .table_destroy = table_destroy,
	                                .table_discard = table_discard,
	                                .execute = execute,
	                                .execute_own = execute_own,
	                                .settle = settle,
	                                .expire = expire,
	                                .counts = counts,
	                                .thread_begin = nothing,
	                                .batch_begin = at_once,
	                                .batch_end = nothing,
	                                .within = within,
	                                .cancel = cancel,
	                                .gil_release = gil_release,
	                                .gil_restore = gil_restore,
	                                .before_fork = nothing,
	                                .after_fork_parent = nothing,
	                                .after_fork_child = nothing };

void echo_engine_use(void) {}

int sb__engine_load(const struct sb__engine **ret_engine)
{
	*ret_engine = &echo;
	return 0;
}

const struct sb__engine *sb__engine_loaded(void)
{
	return &echo;
}
