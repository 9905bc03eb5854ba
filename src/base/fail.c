/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread's error record, the static texts of the codes, and the log hook.
 *
 * The record is allocated by a thread's first failure and freed at the thread's end; a thread that never
 * fails has only a few words of thread-local storage. Where the record cannot be had, a small
 * thread-local one carries the code and a short message, so that reporting a failure never fails itself.
 *
 * Does not print, does not abort, does not decide which failure matters: the last one wins.
 *
 * Locks: one, around the list of log hooks that were ever set; never taken to log or to fail, so a fork
 * at any time leaves logging and failing usable in the child.
 * Crash: the record is private memory of its thread; nothing is left.
 */
#include "fail.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snakebridge/ref.h"
#include "utf8.h"

#define MESSAGE_MAX        1024
#define PYTHON_TYPE_MAX    256
#define PYTHON_MESSAGE_MAX 2048
#define TRACEBACK_MAX      ((size_t)16 * 1024)
#define SHORT_MESSAGE_MAX  96
#define LOG_LINE_MAX       1024

struct record {
	sb_error error;
	char message[MESSAGE_MAX];
	char session_id[SB_SESSION_ID_MAX + 1];
	char other_session_id[SB_SESSION_ID_MAX + 1];
	char python_type[PYTHON_TYPE_MAX];
	char python_message[PYTHON_MESSAGE_MAX];
	char *traceback; /* TRACEBACK_MAX bytes, allocated when first needed */
};

/* What is there without allocation. error.message is NULL until the thread's first failure. */
struct short_record {
	sb_error error;
	char message[SHORT_MESSAGE_MAX];
};

struct log_hook {
	sb_log_fn fn;
	void *arg;
	struct log_hook *next;
};

static const sb_error nothing_failed = { SB_OK, SB_OUTCOME_NONE, 0, 0, "", "", "", "", "", "" };

static _Thread_local struct record *thread_record;
static _Thread_local struct short_record thread_short;
static _Thread_local const sb_error *thread_last; /* NULL, or into one of the two */

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_made;

static void free_record(void *arg)
{
	struct record *record = arg;

	if (thread_record == record) {
		thread_record = NULL;
		thread_last = NULL;
	}
	free(record->traceback);
	free(record);
}

static void make_key(void)
{
	key_made = pthread_key_create(&key, free_record) == 0;
}

/* The thread's record, or NULL if there is none and none can be had. */
static struct record *get_record(void)
{
	struct record *record = thread_record;

	if (record)
		return record;
	(void)pthread_once(&key_once, make_key);
	if (!key_made)
		return NULL;
	record = calloc(1, sizeof(*record));
	if (!record)
		return NULL;
	if (pthread_setspecific(key, record) != 0) {
		free(record);
		return NULL;
	}
	thread_record = record;
	return record;
}

/* Copies text, cut before size at the start of a UTF-8 character. The two may overlap. */
static void copy_capped(char *to, size_t size, const char *text)
{
	size_t len = text ? sb__utf8_cut(text, strnlen(text, size), size - 1) : 0;

	if (len > 0)
		memmove(to, text, len);
	to[len] = '\0';
}

/* vsnprintf that cuts at the start of a UTF-8 character; to must have room for size + 1 bytes. */
static size_t format_capped(char *to, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(to, size + 1, fmt, ap); /* one more, to see what was cut off */
	size_t len = n < 0 ? 0 : (size_t)n;

	if (len >= size)
		len = sb__utf8_cut(to, size, size - 1);
	to[len] = '\0';
	return len;
}

/* Begins the record afresh. record NULL: only the short one. */
static void put(struct record *record, int code, int sys_errno, const char *message)
{
	sb_error *error = &thread_short.error;
	char *text = thread_short.message;
	size_t size = sizeof(thread_short.message);

	if (record) {
		error = &record->error;
		text = record->message;
		size = sizeof(record->message);
	}
	copy_capped(text, size, message);
	*error = nothing_failed;
	error->code = code;
	error->sys_errno = sys_errno;
	error->message = text;
	thread_last = error;
}

int sb__fail(int code, const char *fmt, ...)
{
	int saved = errno;
	char message[MESSAGE_MAX + 1]; /* the arguments may point into the record */
	va_list ap;

	va_start(ap, fmt);
	(void)format_capped(message, MESSAGE_MAX, fmt, ap);
	va_end(ap);
	put(get_record(), code, 0, message);
	errno = saved;
	return code;
}

int sb__fail_errno(int code, int errnum, const char *fmt, ...)
{
	int saved = errno;
	char message[MESSAGE_MAX + 1];
	char number[128];
	size_t len;
	va_list ap;

	if (errnum < 0) /* os_linux.h returns -errno */
		errnum = -errnum;
	va_start(ap, fmt);
	len = format_capped(message, MESSAGE_MAX, fmt, ap);
	va_end(ap);
	if (len < MESSAGE_MAX - 1)
		(void)snprintf(message + len, MESSAGE_MAX - len, ": %s",
		               strerror_r(errnum, number, sizeof(number)));
	put(get_record(), code, errnum, message);
	errno = saved;
	return code;
}

int sb__fail_memory(const char *what)
{
	int saved = errno;
	char message[256];

	(void)snprintf(message, sizeof(message), "out of memory for %s", what ? what : "something");
	put(thread_record, SB_ENOMEM, 0, message);
	errno = saved;
	return SB_ENOMEM;
}

/* The record that the last failure filled, for adding to it; NULL where only the short one is there. */
static struct record *last_record(void)
{
	struct record *record = thread_record;

	return record && thread_last == &record->error ? record : NULL;
}

/* Either kind of record, or NULL if nothing failed yet. */
static sb_error *last_error(void)
{
	struct record *record = last_record();

	if (record)
		return &record->error;
	return thread_last ? &thread_short.error : NULL;
}

void sb__fail_set_outcome(int outcome)
{
	sb_error *error = last_error();

	if (error)
		error->outcome = outcome;
}

void sb__fail_set_trace(uint64_t trace_id)
{
	sb_error *error = last_error();

	if (error)
		error->trace_id = trace_id;
}

void sb__fail_set_sessions(const char *session_id, const char *other_session_id)
{
	struct record *record = last_record();
	char other[SB_SESSION_ID_MAX + 1]; /* either may point at the other's place */

	if (!record)
		return;
	copy_capped(other, sizeof(other), other_session_id);
	copy_capped(record->session_id, sizeof(record->session_id), session_id);
	copy_capped(record->other_session_id, sizeof(record->other_session_id), other);
	record->error.session_id = record->session_id;
	record->error.other_session_id = record->other_session_id;
}

void sb__fail_set_python(const char *type, const char *message, const char *traceback)
{
	struct record *record = last_record();
	int saved = errno;

	if (!record)
		return;
	copy_capped(record->python_type, sizeof(record->python_type), type);
	copy_capped(record->python_message, sizeof(record->python_message), message);
	record->error.python_type = record->python_type;
	record->error.python_message = record->python_message;
	record->error.python_traceback = "";
	if (traceback && traceback[0]) {
		if (!record->traceback)
			record->traceback = malloc(TRACEBACK_MAX);
		if (record->traceback) { /* else the rest of the record is still worth having */
			copy_capped(record->traceback, TRACEBACK_MAX, traceback);
			record->error.python_traceback = record->traceback;
		}
	}
	errno = saved;
}

const sb_error *sb_last_error(void)
{
	return thread_last ? thread_last : &nothing_failed;
}

const char *sb_strerror(int code)
{
	switch (code) {
	case SB_OK: return "no error";
#define TEXT(name, number, text, advice) \
	case name: return text;
		SB_ERROR_MAP(TEXT)
#undef TEXT
	default: return "unknown error";
	}
}

const char *sb_error_name(int code)
{
	switch (code) {
	case SB_OK: return "SB_OK";
#define NAME(name, number, text, advice) \
	case name: return #name;
		SB_ERROR_MAP(NAME)
#undef NAME
	default: return "SB_E?";
	}
}

const char *sb_error_advice(int code)
{
	switch (code) {
#define ADVICE(name, number, text, advice) \
	case name: return advice;
		SB_ERROR_MAP(ADVICE)
#undef ADVICE
	default: return "";
	}
}

/*
 * The hook in use. A thread may be calling one that was just replaced, so hooks are never freed; the
 * list lets a program that sets the same few again and again not grow.
 */
static _Atomic(struct log_hook *) log_current;
static struct log_hook *log_all;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

void sb_log_set(sb_log_fn fn, void *arg)
{
	struct log_hook *hook = NULL;

	if (!fn) {
		atomic_store(&log_current, NULL);
		return;
	}
	(void)pthread_mutex_lock(&log_lock);
	for (hook = log_all; hook; hook = hook->next)
		if (hook->fn == fn && hook->arg == arg)
			break;
	if (!hook) {
		hook = malloc(sizeof(*hook));
		if (hook) {
			hook->fn = fn;
			hook->arg = arg;
			hook->next = log_all;
			log_all = hook;
		}
	}
	atomic_store(&log_current, hook); /* without memory: no log */
	(void)pthread_mutex_unlock(&log_lock);
}

void sb__log(sb_log_level level, const char *fmt, ...)
{
	const struct log_hook *hook = atomic_load(&log_current);
	int saved = errno;
	char line[LOG_LINE_MAX + 1];
	va_list ap;

	if (!hook)
		return;
	va_start(ap, fmt);
	(void)format_capped(line, LOG_LINE_MAX, fmt, ap);
	va_end(ap);
	for (char *p = line; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	hook->fn(hook->arg, level, line);
	errno = saved;
}
