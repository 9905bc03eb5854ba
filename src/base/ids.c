/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers, unique ids, and the rules for session ids. Only the kernel's generator is used.
 *
 * Locks: none: the pool is per thread, the counter is an atomic.
 * Crash: nothing is kept; a killed process never gives out the same id again, since pid, start time and
 * 96 random bits are in it.
 */
#include "ids.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "identity.h"
#include "os_linux.h"
#include "utf8.h"

#define POOL_BYTES 256 /* what getrandom(2) gives without ever being interrupted */

/* Random bytes of this thread that nobody has seen yet: the last `left` ones. */
static _Thread_local struct {
	uint64_t epoch; /* sb__fork_epoch() that filled it: a child must not repeat its parent */
	size_t left;
	uint8_t bytes[POOL_BYTES];
} pool;

static int fill(void *buf, size_t len)
{
	int rc = sb__os_getrandom(buf, len);

	if (rc < 0)
		return sb__fail_errno(SB_ESYSTEM, -rc, "the kernel gives no random numbers");
	return 0;
}

int sb__random(void *buf, size_t len)
{
	uint64_t epoch = sb__fork_epoch();
	uint8_t *from;
	int rc;

	if (len > POOL_BYTES / 2)
		return fill(buf, len);
	if (pool.epoch != epoch || pool.left < len) {
		pool.left = 0;
		rc = fill(pool.bytes, POOL_BYTES);
		if (rc < 0)
			return rc;
		pool.epoch = epoch;
		pool.left = POOL_BYTES;
	}
	from = pool.bytes + POOL_BYTES - pool.left;
	memcpy(buf, from, len);
	explicit_bzero(from, len); /* nonces are secrets: keep no second copy */
	pool.left -= len;
	return 0;
}

/* Where the first control character begins: C0, DEL or, as two bytes of UTF-8, C1; len if none. */
static size_t find_control(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;

	for (size_t i = 0; i < len; i++) {
		if (p[i] < 0x20 || p[i] == 0x7f)
			return i;
		if (p[i] == 0xc2 && p[i + 1] >= 0x80 && p[i + 1] <= 0x9f) /* text[len] is the NUL */
			return i;
	}
	return len;
}

int sb__session_id_check(const char *id)
{
	size_t len, at;

	if (!id)
		return sb__fail(SB_EID, "a session id is missing; give 1 to %d bytes", SB_SESSION_ID_MAX);
	len = strnlen(id, SB_SESSION_ID_MAX + 1);
	if (len == 0)
		return sb__fail(SB_EID, "a session id is empty; give 1 to %d bytes", SB_SESSION_ID_MAX);
	if (len > SB_SESSION_ID_MAX)
		return sb__fail(SB_EID, "a session id is longer than %d bytes; shorten it",
		                SB_SESSION_ID_MAX);
	/* The id itself stays out of the next messages: it is not fit to print. */
	at = sb__utf8_prefix(id, len);
	if (at < len)
		return sb__fail(SB_EID, "a session id is not valid UTF-8 at byte %zu; use UTF-8", at);
	at = find_control(id, len);
	if (at < len)
		return sb__fail(SB_EID, "a session id has a control character at byte %zu; leave it out", at);
	return 0;
}

bool sb__session_id_valid(const char *id)
{
	size_t len = strnlen(id, SB_SESSION_ID_MAX + 1);

	return len > 0 && len <= SB_SESSION_ID_MAX && sb__utf8_valid(id, len) && find_control(id, len) == len;
}

/* This process's start time, read once per process. */
static int own_start_time(uint64_t *ret)
{
	static atomic_uint_least64_t known_epoch, known; /* known is written first */
	uint64_t epoch = sb__fork_epoch();
	int rc;

	if (atomic_load(&known_epoch) == epoch) {
		*ret = atomic_load(&known);
		return 0;
	}
	rc = sb__process_stat(0, NULL, ret);
	if (rc < 0)
		return sb__fail_errno(SB_ESYSTEM, -rc, "cannot read /proc/self/stat; mount /proc");
	atomic_store(&known, *ret); /* of several threads all write the same */
	atomic_store(&known_epoch, epoch);
	return 0;
}

int sb__session_id_make(const char *prefix, char *id)
{
	static atomic_uint_least64_t counter;
	uint32_t random[3];
	uint64_t start_time;
	int n, rc;

	rc = own_start_time(&start_time);
	if (rc == 0)
		rc = sb__random(random, sizeof(random));
	if (rc != 0)
		return rc;
	n = snprintf(id, SB_SESSION_ID_MAX + 1,
	             "%s%d_%" PRIx64 "_%" PRIu64 "_%08" PRIx32 "%08" PRIx32 "%08" PRIx32, prefix,
	             (int)getpid(), start_time, (uint64_t)atomic_fetch_add(&counter, 1) + 1, random[0],
	             random[1], random[2]);
	if (n < 0 || n > SB_SESSION_ID_MAX)
		return sb__fail(SB_EID, "the prefix of a generated session id is too long");
	return sb__session_id_check(id); /* the prefix may be anything */
}
