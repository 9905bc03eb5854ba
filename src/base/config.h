/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every knob of the library in one table, and where its value comes from: code (sb_config_set()), else the
 * environment, else the default. What a bridge, session or call sets for itself takes precedence over all of them and is
 * the business of the layer that reads it.
 */
#ifndef SB_BASE_CONFIG_H
#define SB_BASE_CONFIG_H

#include <stdint.h>

#include "snakebridge/config.h"

/*
 * Numbers. X(id, name, environment, default, min, max, option, text). The order is that of docs/configuration.md.
 */
#define SB__CONFIG_NUMBERS(X)                                                                                \
	X(TIMEOUT_MS, "timeout_ms", "SNAKEBRIDGE_TIMEOUT_MS", 120000, 1, 4294967295,                         \
	  "sb_request.timeout_ms, sb_session_options.timeout_ms, sb_bridge_options.timeout_ms",              \
	  "how long a call may take, in ms")                                                                 \
	X(START_TIMEOUT_MS, "start_timeout_ms", "SNAKEBRIDGE_START_TIMEOUT_MS", 60000, 100, 3600000, "",     \
	  "how long a designated owner may take to start, in ms")                                            \
	X(CLOSE_TIMEOUT_MS, "close_timeout_ms", "SNAKEBRIDGE_CLOSE_TIMEOUT_MS", 5000, 0, 3600000, "",        \
	  "how long sb_bridge_close() waits for calls that this process still runs for others, in ms")       \
	X(CANCEL_ABANDONED, "cancel_abandoned", "SNAKEBRIDGE_CANCEL_ABANDONED", 1, 0, 1, "",                 \
	  "1: a designated owner interrupts calls that nobody waits for any more (deadline passed, caller "  \
	  "died, session ended); 0: it lets them finish")                                                    \
	X(MAX_REFS, "max_refs", "SNAKEBRIDGE_MAX_REFS", 10000, 1, 100000000, "sb_session_options.max_refs",  \
	  "most refs that a new session holds")                                                              \
	X(TTL_SECONDS, "ttl_seconds", "SNAKEBRIDGE_TTL_SECONDS", 3600, 0, 3153600000,                        \
	  "sb_session_options.ttl_seconds",                                                                  \
	  "idle time after which a new session, or a ref in it, expires, in s; 0 = never")                   \
	X(MAX_LANES, "max_lanes_per_process", "SNAKEBRIDGE_MAX_LANES_PER_PROCESS", 1024, 1, 4096,            \
	  "sb_bridge_options.max_lanes_per_process",                                                         \
	  "most lanes of one calling process in one session, so threads and calls in flight at a time; the " \
	  "designated owner's value counts")                                                                 \
	X(MAX_PROCESS_REFS, "max_refs_per_process", "SNAKEBRIDGE_MAX_REFS_PER_PROCESS", 0, 0, 100000000,     \
	  "sb_session_options.max_refs_per_process",                                                         \
	  "most live refs of a new session that one process's calls may have created; 0 = max_refs only; "   \
	  "with on_full = evict, a process that has seven eighths of them evicts its own")                   \
	X(MAX_REQUEST_BYTES, "max_request_bytes", "SNAKEBRIDGE_MAX_REQUEST_BYTES", 1073741824, 4096,         \
	  1073741824, "sb_bridge_options.max_request_bytes",                                                 \
	  "most bytes of one request; the lower of the caller's and the designated owner's value counts")    \
	X(MAX_ARRAY_BYTES, "max_array_bytes", "SNAKEBRIDGE_MAX_ARRAY_BYTES", 274877906944, 4096,             \
	  274877906944, "", "most bytes of one array that this process shares")                              \
	X(MAX_ARENA_BYTES, "max_arena_bytes", "SNAKEBRIDGE_MAX_ARENA_BYTES", 274877906944, 1048576,          \
	  274877906944, "", "most bytes of shared memory for this process's arrays and long messages")       \
	X(MAX_SESSION_ARENA_BYTES, "max_session_arena_bytes", "SNAKEBRIDGE_MAX_SESSION_ARENA_BYTES", 0, 0,   \
	  274877906944, "sb_session_options.max_session_arena_bytes",                                        \
	  "most bytes of a new session's arrays that one process keeps in shared memory, as arguments or "   \
	  "as "                                                                                              \
	  "results; 0 = max_arena_bytes only")                                                               \
	X(ARENA_WARM_BYTES, "arena_warm_bytes", "SNAKEBRIDGE_ARENA_WARM_BYTES", 268435456, 0, 274877906944,  \
	  "",                                                                                                \
	  "bytes of freed array memory that a process keeps for later arrays, because fresh memory is slow") \
	X(NUMPY_ARENA_BYTES, "numpy_arena_bytes", "SNAKEBRIDGE_NUMPY_ARENA_BYTES", 65536, 0, 274877906944,   \
	  "",                                                                                                \
	  "size from which a designated owner allocates NumPy arrays in shared memory, so that they can be " \
	  "viewed without a copy; 0: never")                                                                 \
	X(MAX_THREADS, "max_service_threads", "SNAKEBRIDGE_MAX_SERVICE_THREADS", 64, 2, 4096, "",            \
	  "most service threads of a designated owner, so calls that can be blocked in Python at once")      \
	X(SWEEP_MS, "sweep_ms", "SNAKEBRIDGE_SWEEP_MS", 2000, 0, 3600000, "",                                \
	  "how often a designated owner cleans up what dead processes left, in ms; 0 = never, leave it to "  \
	  "sb-reaper")

/* Text, by environment or option only. X(id, name, environment, default, option, text). */
#define SB__CONFIG_TEXTS(X)                                                                       \
	X(DIR, "dir", "SNAKEBRIDGE_DIR", "$XDG_RUNTIME_DIR/snakebridge, else /run/snakebridge",   \
	  "sb_bridge_open(dir)", "the bridge's directory")                                        \
	X(PYTHON, "python_executable", "SNAKEBRIDGE_PYTHON",                                      \
	  "the Python that the library was built against", "sb_bridge_options.python_executable", \
	  "the Python (of a virtual environment) whose packages the embedded Python sees")        \
	X(OWNER, "owner_program", "SNAKEBRIDGE_OWNER",                                            \
	  "sb-owner beside the library, else where it was installed", "",                         \
	  "the program started for designated = dedicated")                                       \
	X(PLUGIN_DIR, "plugin_dir", "SNAKEBRIDGE_PLUGIN_DIR",                                     \
	  "snakebridge/ beside the library, else where it was installed", "",                     \
	  "the directory of the Python engine, snakebridge-python.so")

enum sb__config_number {
#define SB__CONFIG_ENUM(id, name, env, value, min, max, option, text) SB__CONFIG_##id,
	SB__CONFIG_NUMBERS(SB__CONFIG_ENUM)
#undef SB__CONFIG_ENUM
		SB__CONFIG_NUMBERS_END
};

struct sb__config {
	uint64_t numbers[SB__CONFIG_NUMBERS_END];
};

/* The values in effect in this process now. SB_EINVAL: an environment variable is not a number or out of range. */
int sb__config_read(struct sb__config *ret);
/* 0, or SB_EINVAL naming the knob and its range. */
int sb__config_check(enum sb__config_number knob, uint64_t value);

#endif
