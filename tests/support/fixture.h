/* SPDX-License-Identifier: Apache-2.0 */
/* What most tests of the whole library need: a bridge directory of their own, children, tools and their JSON. */
#ifndef SB_TESTS_FIXTURE_H
#define SB_TESTS_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

#include "snakebridge/snakebridge.h"

/* Makes an empty directory (in $TMPDIR, else /dev/shm, else /tmp) and removes it with all that is in it. */
void fixture_dir_make(char *path, size_t size);
void fixture_dir_remove(const char *path);

/* CMocka setup and teardown: *state is a struct fixture with an open bridge in a directory of its own. */
struct fixture {
	char dir[256];
	sb_bridge *bridge;
};
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Prints the library's last error after a failed assertion would have hidden it; true if err is 0. */
bool succeeds(int err);
#define assert_ok(call) assert_true(succeeds(call))

/* Opens a session by id (NULL: generated) with one mode; asserts. */
sb_session *fixture_session(sb_bridge *bridge, const char *id, sb_designated designated);

/* Forks; the child runs fn(arg) and _exits with what it returns. It must not use CMocka's assertions. */
pid_t fixture_fork(int (*fn)(void *arg), void *arg);
/* Waits; the exit status, or 1000 + signal. */
int fixture_wait(pid_t pid);

/* Reads what a child says through a pipe, all of it. False, and on stderr why, if it ends first or is silent for a minute: whoever
 * else has the pipe's other end open (this process, a child's child) holds nothing up. from 0: it is not known who says it. */
bool fixture_hear(int fd, pid_t from, void *word, size_t size);

/* Runs bin/<tool> --dir DIR args… (NULL-terminated); exit status; output (may be NULL) is the caller's to free. */
int fixture_tool(const char *dir, char **output, const char *tool, ...) __attribute__((sentinel));
/* The same, parsing its output; NULL if that is no JSON. */
json_t *fixture_tool_json(const char *dir, const char *tool, ...) __attribute__((sentinel));

/* Waits until a call so labelled runs in some designated owner, as sb-inspect sees it; asserts. */
void fixture_wait_running(const struct fixture *f, const char *label);

/* Seconds that a test under a sanitizer or valgrind may be slower by: 1 in plain builds. */
int fixture_slowness(void);

#endif
