/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter behind an interface of bytes. The implementation lives in a plugin
 * (snakebridge-python.so, src/python/embed) that is loaded only in a process that becomes a designated
 * owner, so that callers, the reaper and inspect never load Python.
 *
 * A table holds one session incarnation's objects. execute() takes a request's bytes (codec/message.h) and
 * appends the reply's bytes. All functions may be called from any thread; they take the GIL themselves. The
 * caller never holds one of its own locks that a fork hook needs while calling in.
 *
 * Fork: the loader's pthread_atfork handlers call the engine's, which take the GIL around a plain fork(),
 * so in the child the engine works for new tables. A table that was made before the fork belongs to the
 * parent: execute() on it refuses, expire() drops nothing, table_destroy() frees the table's own memory and
 * nothing of Python's. Python code run by execute() may itself fork and return in the child: whoever calls
 * execute() compares sb__fork_epoch() before it publishes the reply.
 */
#ifndef SB_PYTHON_ENGINE_H
#define SB_PYTHON_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array.h"
#include "buf.h"
#include "snakebridge/ref.h"

#define SB__ENGINE_ABI 10u

struct sb__table; /* opaque to everyone but the engine */

/*
 * One row per ref for inspect, in shared memory or not (shm/refrows.h); written by the engine only, through
 * these functions, read by anyone at any time. Any of them may be NULL. They are called with the GIL held,
 * so they take no lock whose holder may wait for it; table_destroy() calls none.
 */
struct sb__row_writer {
	void *arg;
	/* module_len: how much of type_name is the module; 0 if there is none. */
	void (*set)(void *arg, uint32_t slot, uint32_t generation, const char *type_name, uint32_t module_len,
	            int32_t creator_pid);
	void (*touch)(void *arg, uint32_t slot, uint64_t now_ms); /* used now, by sb__now_coarse_ms() */
	void (*pins)(void *arg, uint32_t slot, uint32_t pins);
	void (*clear)(void *arg, uint32_t slot);
};

struct sb__table_options {
	uint64_t incarnation;
	uint32_t max_refs;
	uint32_t max_refs_per_process; /* that one process's calls made; 0 = no quota */
	bool error_on_full;            /* else evict the least recently used */
	uint64_t ttl_ms;               /* a ref idle longer is dropped by expire(); 0 = never */
	struct sb__row_writer rows;    /* functions may be NULL */
	const char *
		policy; /* "+pattern" and "-pattern", a NUL behind each; copied. What they match: session.h */
	size_t policy_len; /* 0: everything is allowed */
	const struct sb__blocks *
		blocks; /* how arrays in shared memory are had; NULL: not at all. Borrowed; pinned if for longer */
	struct sb__share share; /* of them, for results; its text is borrowed for as long */
	uint64_t heap_bytes;    /* NumPy arrays of at least so many are made in them; 0: none */
};

struct sb__table_counts {
	uint64_t live, evicted, expired, created, pinned;
};

/* What became of a question. */
enum sb__asker_result {
	SB__ASKER_ANSWERED,
	SB__ASKER_CANCELLED,
	SB__ASKER_LATE,  /* the call's deadline passed */
	SB__ASKER_ENDED, /* the session did */
	SB__ASKER_GONE   /* the caller is dead, or gave up */
};

/* How the caller of a running call is asked to run its C functions (codec/callback.h). */
struct sb__asker {
	/* The question's bytes go to the caller, the answer's are appended. One at a time; without the GIL. stopped: is
	 * there a reason not to wait any more? */
	enum sb__asker_result (*ask)(void *arg, const struct sb__buf *question, bool (*stopped)(void *arg),
	                             void *stopped_arg, struct sb__buf *answer);
	/* After each ask(): what the answer names was kept, or will not be. */
	void (*done)(void *arg);
	void *arg;
	uint64_t call;  /* its number among its caller's, for questions */
	int32_t thread; /* which of its caller's threads waits for it */
};

/* Who makes this call, for ref metadata and quotas. */
struct sb__call_origin {
	int32_t pid;
	uint64_t trace_id;
	uint64_t
		key; /* names the call among those that run on its table, for cancel(); 0: it has no such name */
	uint32_t slot, generation; /* of the process among the bridge's */
	uint64_t deadline_ns;      /* sb__now_ns(): no further item of a batch begins after it; 0: none */
	uint64_t began_ms; /* sb__now_coarse_ms(): refs that lived then live; 0: when it begins to run */
	/* Does the caller still wait? Asked after the arrays among the arguments were kept: if not, their memory may be
	 * another's by now, and nothing runs. And while a call waits for a stream's items, which are not for the dead. NULL: it
	 * does. */
	bool (*stands)(void *arg);
	void *stands_arg;
	struct sb__kept_list
		*kept; /* takes the arrays in the reply; NULL: those in shared memory cannot be sent */
	const struct sb__asker *asker; /* NULL: its caller cannot be asked */
};

/* A request of this process's own: its head as it is, and the two argument containers at a request's end in bytes. */
struct sb__own_request {
	uint32_t verb, flags;
	const sb_ref *target; /* NULL: none; of a live session, not of a batch's item */
	const char *name;     /* NULL: none; UTF-8, or it is refused */
	const uint8_t *arguments;
	size_t arguments_len;
	uint64_t ended_ms; /* set: when it ended, sb__now_coarse_ms(); 0: nobody looked */
	bool changed;      /* set: what counts() says may have changed */
};

struct sb__engine_options {
	const char *executable; /* never NULL */
	const char *module_dir; /* NULL, or a directory put first in sys.path */
};

/* In what execute() returns: settle() is to be told of this reply in any case. */
#define SB__ENGINE_TELL (UINT64_C(1) << 63)

struct sb__engine {
	uint32_t abi;
	/* Starts the interpreter, or attaches to a host's. Idempotent. 0 or SB_ENOPYTHON with a sentence in
	 * error (size bytes). After it returns, the calling thread holds the GIL only if it did before (a
	 * thread of a host's Python). */
	int (*start)(const struct sb__engine_options *options, char *error, size_t size);
	/* 0 or SB_ENOMEM. */
	int (*table_create)(const struct sb__table_options *options, struct sb__table **ret);
	/* Drops every object, then the table. Waits for the GIL. No execute() may be running on it. */
	void (*table_destroy)(struct sb__table *table);
	/* The same, at once and without the GIL, of a table that never held anything; false: it may have, and nothing was done. No
	 * execute() may be running on it. */
	bool (*table_discard)(struct sb__table *table);
	/* Runs one request. Always leaves a whole reply in reply (buf->error set only when even a refusal
	 * did not fit). New refs created for a reply that fails half-way are dropped again. Returns 0, or a
	 * number for settle(): the reply holds refs that were created for it, or (SB__ENGINE_TELL) items of a stream. */
	uint64_t (*execute)(struct sb__table *table, const struct sb__call_origin *origin,
	                    const uint8_t *request, size_t request_len, struct sb__buf *reply);
	/* The same without reading the request's head, which was never written. */
	uint64_t (*execute_own)(struct sb__table *table, const struct sb__call_origin *origin,
	                        struct sb__own_request *request, struct sb__buf *reply);
	/* What became of the reply of that number; if it reached its caller, that matters only where SB__ENGINE_TELL is in it.
	 * It reached nobody: drops the refs that were created for it, but for those that another call has used or been told of
	 * meanwhile; items go back to their stream. Until it is called the stream gives no others. */
	void (*settle)(struct sb__table *table, uint64_t number, bool delivered);
	/* Drops refs idle since before now_ms - ttl; returns how many. now_ms: sb__now_ms(). */
	uint32_t (*expire)(struct sb__table *table, uint64_t now_ms);
	/* Lock-free copy of the counts. */
	void (*counts)(const struct sb__table *table, struct sb__table_counts *ret);
	/* By a thread that will call in, at its beginning: has the memory that its first call takes otherwise. Where there is none
	 * then, the C library ends the process. Does not take the GIL. */
	void (*thread_begin)(void);
	/* Brackets a batch: keeps the GIL between executes. batch_begin() within a batch gives it up for a moment if that was
	 * not done for some milliseconds, so that other threads run. Optional to call; nests not. No wait and no fork()
	 * inside. True: that may have taken long. */
	bool (*batch_begin)(void);
	void (*batch_end)(void);
	/* Calls fn(arg) once. Executes on the table within it, by this thread, are cheaper: what they need around them is made
	 * once. After batch_begin() only, and only where execute() may be called. Nests not. */
	void (*within)(struct sb__table *table, void (*fn)(void *arg), void *arg);
	/* Interrupts calls that run on the table: the one of that key; key 0: those of that trace id; both 0: all. One that
	 * only waits for its turn never begins. Returns how many were told, now or before. Waits for the GIL only if
	 * it must. The table must exist. */
	unsigned (*cancel)(const struct sb__table *table, uint64_t trace_id, uint64_t key);
	/* If this thread holds the GIL, gives it up around a wait for others; what is returned goes back to gil_restore(),
	 * on the same thread. NULL: it did not hold it. */
	void *(*gil_release)(void);
	void (*gil_restore)(void *state);
	/* For the loader's fork handlers, all three on the forking thread. */
	void (*before_fork)(void);
	void (*after_fork_parent)(void);
	void (*after_fork_child)(void);
};

/* The plugin's only exported symbol. */
typedef const struct sb__engine *(*sb__engine_entry_fn)(void);
#define SB__ENGINE_ENTRY "sb__engine_entry"

/*
 * loader.c: finds libpython (RTLD_DEFAULT first, else dlopen RTLD_GLOBAL) and the plugin beside the
 * library, once per process. 0 and *ret_engine, or SB_ENOPYTHON with the error record set.
 */
int sb__engine_load(const struct sb__engine **ret_engine);

/* The engine if it was loaded in this process, else NULL. */
const struct sb__engine *sb__engine_loaded(void);

/* executable.c: $SNAKEBRIDGE_PYTHON, else the Python that the library was built against. */
const char *sb__python_executable(void);

#endif
