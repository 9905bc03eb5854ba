/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bridges: one directory that cooperating processes of one user share.
 */
#ifndef SNAKEBRIDGE_BRIDGE_H
#define SNAKEBRIDGE_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#include "snakebridge/visibility.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sb_bridge sb_bridge;

/* Start with SB_BRIDGE_OPTIONS_INIT. Zero or NULL means the default. Grows at the end. */
typedef struct sb_bridge_options {
	size_t size;
	const char *python_executable; /* venv/bin/python3 whose packages the embedded Python sees;
	                                  default $SNAKEBRIDGE_PYTHON, else the Python built against */
	uint32_t timeout_ms;           /* default deadline of calls in this process; 0: see config.h */
	/* Quotas. A designated owner's values limit each process that calls it; 0: see config.h. */
	uint32_t max_lanes_per_process; /* threads and calls in flight of one process in one session */
	uint64_t max_request_bytes;     /* of one call; in a caller also the most that it sends */
} sb_bridge_options;
#define SB_BRIDGE_OPTIONS_INIT                        \
	{                                             \
		sizeof(sb_bridge_options), 0, 0, 0, 0 \
	}

/*
 * Opens a bridge. dir: its directory, created with mode 0700 if its parent exists; NULL means
 * $SNAKEBRIDGE_DIR, else $XDG_RUNTIME_DIR/snakebridge, else /run/snakebridge. options may be NULL; what they leave
 * out comes from sb_config_set(), the environment or the defaults (snakebridge/config.h).
 * The caller owns the handle. Starts neither Python nor a thread. Opening the same directory twice in a process
 * shares everything behind the handles.
 *
 * Errors: SB_EINVAL, SB_ENOMEM, SB_EDIR, SB_EOWNER, SB_EMODE, SB_EVERSION, SB_ENAMESPACE,
 * SB_ENOSPACE, SB_ECORRUPT, SB_ESTORE, SB_EPROCESSES, SB_ESYSTEM.
 * Threads: any.  Fork: the handle works in the child; the child attaches anew at first use.
 * Blocks: for the store's write lock: microseconds, unless the process that holds it is stopped.
 * Crash: a kill leaves at most a process record or a temporary directory, which the reaper removes.
 * Since: 0.1
 */
SB_API int sb_bridge_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret_bridge);

/*
 * Closes the handle and every session handle opened through it; NULL is fine. Sessions whose last owner
 * this process was end. No other thread may be using the handle or its sessions.
 *
 * Errors: none.  Threads: one at a time per handle.  Fork: in a child that did not use it, only
 * frees memory.  Blocks: until the calls that this process runs for others have ended; they are interrupted. After
 * close_timeout_ms (snakebridge/config.h) it returns all the same and leaves them their memory.
 * Crash: as a kill.  Since: 0.1
 */
SB_API void sb_bridge_close(sb_bridge *bridge);

/*
 * The bridge's directory, an absolute path. Borrowed; valid as long as the handle.
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_bridge_dir(const sb_bridge *bridge);

/*
 * The version of the loaded library, "major.minor.patch".
 *
 * Errors: none.  Threads: any.  Fork: safe.  Blocks: no.  Crash: nothing shared.  Since: 0.1
 */
SB_API const char *sb_version(void);

#ifdef __cplusplus
}
#endif
#endif
