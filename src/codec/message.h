/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and replies: self-contained bytes without pointers, paths or host order.
 *
 *   request  [verb, flags, target: ref or null, name: str or null, [positional …], {name: value …}]
 *   reply    [0, value]                         value
 *            [1, exception]                     Python raised
 *            [2, code, message]                 refused: nothing ran
 *            [3, code, message]                 failed: it ran, but the result could not be delivered and is
 *                                               lost (SB_EREFSFULL, SB_ETOOBIG, SB_ENOMEM, ...); outcome EXCEPTION
 *   exception {0: type, 1: message, 2: [[file, line, function] …], 3: exception (cause) or null, 4: code,
 *              5: [note …], left out where there are none}
 *
 * The positional arguments of verbs that take some and are no calls: getitem, delitem [key], setitem [key, value],
 * set_attr, contains [item]; next [most items wanted, or these and a number of milliseconds after which fewer will do], whose
 * value is [whether these were the last, [item …]]: none, and not the last, if none came in time; exit [] or [exception's
 * qualified type, its message].
 *
 * A batch is a request of verb SB_VERB_BATCH, without target and name, whose positional arguments are bytes: each a whole
 * request; flags: SB_BATCH_STOP_ON_ERROR. Its value is a list of bytes: each a whole reply, in the same order; or, where
 * arrays in shared memory are in the reply, [bytes, array …] with all its arrays once more, in order, so that who reads the
 * batch's reply keeps them. In its items' arguments and as their target, tag 21327 over a number stands for the result of
 * that earlier item.
 *
 * code in an exception is SB_EPYTHON, or SB_EMODULE / SB_EATTRIBUTE where the name asked for was missing.
 */
#ifndef SB_CODEC_MESSAGE_H
#define SB_CODEC_MESSAGE_H

#include "buf.h"
#include "snakebridge/call.h"
#include "value_impl.h"
#include "wire.h"

#define SB__REPLY_VALUE     0
#define SB__REPLY_EXCEPTION 1
#define SB__REPLY_REFUSED   2
#define SB__REPLY_FAILED    3

#define SB__EXC_TYPE    0
#define SB__EXC_MESSAGE 1
#define SB__EXC_FRAMES  2
#define SB__EXC_CAUSE   3
#define SB__EXC_CODE    4
#define SB__EXC_NOTES   5

/* What the receiver reads of a request before the arguments; the cursor then stands at the positional
 * array. name points into the request's bytes and is not NUL-terminated. */
struct sb__request_head {
	uint32_t verb, flags;
	bool has_target;
	bool target_is_item; /* target.slot: the number of an earlier item of the batch */
	sb_ref target;
	const char *name; /* NULL if none */
	size_t name_len;
};

/* Writes the whole request; arguments that carry an error make it buf's. Frees nothing. */
void sb__request_encode(struct sb__buf *buf, const sb_request *request);
/* The same of its last two items, the argument containers; NULL: empty ones. */
void sb__arguments_encode(struct sb__buf *buf, const sb_args *args);
int sb__request_decode(struct sb__cursor *cursor, struct sb__request_head *ret); /* 0 or SB_EPROTOCOL */

/* The beginning of a reply that holds a value or an exception. */
void sb__put_reply(struct sb__buf *buf, unsigned kind);
void sb__reply_refuse(struct sb__buf *buf, int code,
                      const char *message); /* replaces what buf holds, its error too */
void sb__reply_fail(struct sb__buf *buf, int code,
                    const char *message); /* the same for a call that did run */

/*
 * Turns a reply into the caller's result: 0 and *ret_value (if ret_value is not NULL), or the code with the
 * thread's error record set, outcome and Python parts included. session_id goes into refs and errors.
 * A reply that cannot be read is SB_EPROTOCOL with outcome unknown: the call ran, or may have.
 */
int sb__reply_decode(const uint8_t *data, size_t len, const char *session_id, sb_value **ret_value);
/* The same where arrays may lie in shared memory. */
int sb__reply_decode_shared(const uint8_t *data, size_t len, const char *session_id,
                            const struct sb__blocks *blocks, sb_value **ret_value);

/* The same for an item's reply within a batch's, as sb__put_item_reply() wrote it. */
int sb__item_reply_decode(const sb_value *reply, const char *session_id, sb_value **ret_value);
/* Appends an item's reply to a batch's. shared: arrays in shared memory are in it. */
void sb__put_item_reply(struct sb__buf *buf, const struct sb__buf *reply, bool shared);

/* exception.c: reads the exception of a reply into the error record. Returns its code, or SB_EPROTOCOL. */
int sb__exception_decode(struct sb__cursor *cursor);

/* Is it None? It takes no reading. */
static inline bool sb__reply_is_none(const struct sb__buf *reply)
{
	return reply->len == 3 && !reply->error && reply->data[0] == (SB__MAJOR_ARRAY | 2) &&
	       reply->data[1] == SB__REPLY_VALUE && reply->data[2] == SB__NULL_BYTE;
}
/* SB__REPLY_… of a whole reply, from its second byte: the first is the array's head. SB__REPLY_FAILED for anything else. */
unsigned sb__reply_kind(const struct sb__buf *reply);

/* Where the layout of messages stands; part of the mailbox fingerprint. */
#define SB__MESSAGE_VERSION 5u

#endif
