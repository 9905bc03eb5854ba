/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a designated owner asks a caller that waits, and what it is answered: Python called a C function.
 *
 *   question  [call, function, (positional …), {name: value …} or null]
 *   answer    [0, value]
 *             [1, type or null, message, text or null]   it failed: Python exception to raise; text: traceback of the
 *                                                        exception that went through it
 *
 * call: which of the caller's calls brought the function, in numbers of its mailbox; function: its place among that call's.
 */
#ifndef SB_CODEC_CALLBACK_H
#define SB_CODEC_CALLBACK_H

#include "snakebridge/callback.h"
#include "value_impl.h"

#define SB__ANSWER_VALUE 0
#define SB__ANSWER_ERROR 1

/* As an argument: tag 21328 over its place. */
void sb__put_callback(struct sb__buf *buf, uint32_t function);
/* After the tag. 0 or SB_EPROTOCOL. */
int sb__next_callback(struct sb__cursor *cursor, uint32_t *ret);
/* Notes one more function of the arguments. 0, SB_ENOMEM, SB_ETOOBIG. */
int sb__args_callback(struct sb_args *args, sb_callback_fn fn, void *arg);

/* The two values are appended by whoever asks. */
void sb__put_question(struct sb__buf *buf, uint64_t call, uint32_t function);

struct sb__question {
	uint64_t call;
	uint32_t function;
	sb_value *args, *kwargs; /* kwargs: NULL for none */
};
/* 0, or an error and nothing to free. */
int sb__question_decode(const uint8_t *data, size_t len, const char *session_id,
                        const struct sb__blocks *blocks, struct sb__question *ret);
void sb__question_drop(struct sb__question *question);

/* Replaces what buf holds by the answer that says: it failed with that code. Words: the thread's error record, if it is of
 * that code. */
void sb__answer_error(struct sb__buf *buf, int code);

/* An answer as it was read; pointers into its bytes. */
struct sb__answer {
	bool failed;
	const char *type, *message, *text; /* failed; NULL where there is none */
	size_t type_len, message_len, text_len;
};
/* The cursor stands at the value if it has not failed. 0 or SB_EPROTOCOL. */
int sb__next_answer(struct sb__cursor *cursor, struct sb__answer *ret);

#endif
