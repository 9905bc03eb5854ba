/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many processes in one: simulated processes with threads, a clock, files, locks and futexes under the library's own
 * code. What is simulated is what base/os_linux.h and base/clock.h ask the kernel for, and pthreads; everything above them
 * is the code that is shipped, compiled once more with sim_hooks.h. docs/design/simulation.md.
 *
 * Everything happens in one thread of the operating system. Each simulated thread has a stack of its own and runs until
 * it comes to a point (an access to a shared word, a system call, a lock), where the world may let another run, kill or
 * stop a process, or move the clock. All choices come from one seed (random histories) or from a list of choices
 * (enumeration), so the same seed or list does the same again.
 */
#ifndef SB_TESTS_SIM_H
#define SB_TESTS_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "sim_hooked.h"

enum {
	SIM_PROCS_MAX = 24,
	SIM_THREADS_MAX = 96,
	SIM_THREADS_KEPT =
		8, /* of them, for sim_call(): a history that starts threads without end is ended all the same */
	SIM_KEYS_MAX = 8,
	SIM_TLS_MAX = 2048,
	SIM_STATE_MAX = 16384,
	SIM_WAITS_MAX = 4,
};

struct sim_proc;

enum sim_state {
	SIM_READY,
	SIM_WAITING, /* on words, or on an object, or for the clock */
	SIM_ENDED,   /* its function returned */
	SIM_KILLED
};

struct sim_thread {
	struct sim_proc *proc;
	enum sim_state state;
	unsigned index;
	void *(*fn)(void *arg);
	void *arg;
	void *result;
	ucontext_t start;
	jmp_buf at;
	bool started, detached, timed_out, must_finish;
	unsigned waits; /* futex words */
	const volatile unsigned int *words[SIM_WAITS_MAX];
	const void *object; /* mutex, condition or thread that it waits for */
	uint64_t until_ns;  /* when it wakes by itself; UINT64_MAX: never */
	void *specific[SIM_KEYS_MAX];
	char tls[SIM_TLS_MAX];
};

struct sim_proc {
	bool used, dead, gone; /* dead: runs no more; gone: the kernel has given back its pid and its locks */
	bool zombie;           /* nobody has waited for it yet */
	bool leaving;          /* closes its bridge, or is killed */
	unsigned index;
	int32_t pid;
	uint64_t start_time; /* clock ticks */
	uint64_t stopped_until_ns, gone_at_ns;
	unsigned keys;
	void (*key_destroy[SIM_KEYS_MAX])(void *value);
	volatile unsigned int
		*robust; /* word of the robust mutex that it holds, for which the kernel cares */
	unsigned threads;
	char state[SIM_STATE_MAX]; /* its copy of the library's static data */
};

/* What happens at a point, for whoever decides. */
enum sim_point { SIM_AT_LOAD, SIM_AT_STORE, SIM_AT_CAS, SIM_AT_BARRIER, SIM_AT_CALL, SIM_AT_STORE_LAYER };

struct sim {
	bool on; /* a world exists */
	uint64_t now_ns, steps, switches;
	int64_t wall_offset_ms;
	uint64_t seed, random; /* random: state of the generator */
	struct sim_proc procs[SIM_PROCS_MAX];
	struct sim_thread threads[SIM_THREADS_MAX];
	unsigned proc_count, thread_count;
	struct sim_thread *current;
	bool timeouts_never_fire; /* a wait ends by a wake only */
	uint64_t hash;            /* of all that was decided and seen: equal hashes, equal histories */
	/* Called at each point of the current thread: which thread runs on. May kill. NULL: the same. */
	struct sim_thread *(*decide)(enum sim_point point);
	/* Nobody is ready: which of them goes first when several are. */
	struct sim_thread *(*pick)(struct sim_thread **ready, unsigned count);
	int bug; /* a seeded mistake, enum sim_bug */
	/* Statistics of one history. */
	uint64_t kills, stops, jumps;
};
extern struct sim sim;

/* Seeded mistakes, each of which the simulator or the enumerator must find. */
enum sim_bug {
	SIM_BUG_NONE,
	SIM_BUG_CALLER_PARKS_LATE, /* a caller says that it is parked after it looked at its lane */
	SIM_BUG_LEADER_PARKS_LATE, /* the leader the same */
	SIM_BUG_CLEARS_LATE,       /* the owner takes a lane's bit away after it looked at the lane */
	SIM_BUG_REAPER_FREES_BUSY, /* a dead caller's running lane is freed under the owner */
	SIM_BUG_KEEPS_BUSY,        /* a caller that gives up takes its running lane back */
	SIM_BUG_HOLD_UNCOUNTED,    /* takes are not counted, so a hold that is handed on is missed */
	SIM_BUG_STOPPED_IS_DEAD,   /* a stopped process is taken for dead, as heartbeats would */
	SIM_BUG_WALL_CLOCK,        /* what times out goes by the wall clock */
	SIM_BUG_PID_IS_IDENTITY,   /* a process lives as long as its pid does */
	SIM_BUG_END_UNTOLD,        /* the end of a session is not told in its mailbox */
	SIM_BUG_UNTOUCHED,         /* calls do not count as accesses */
	SIM_BUG_HOLD_UNTAKEN,      /* who keeps an array does not say so */
	SIM_BUG_HOLD_OF_DEAD,      /* the reaper leaves what dead processes keep */
	SIM_BUG_LANE_OF_DEAD,      /* it leaves their lanes */
	SIM_BUG_ITEM_RUNS_ON,      /* an item of a batch that is said not to have run has run */
	SIM_BUG_ANSWER_STANDS, /* what was answered in the lane's last call is taken for an answer in the next */
	SIM_BUGS
};
extern const char *const sim_bug_names[SIM_BUGS];

/* ── world ── */

void sim_begin(uint64_t seed); /* an empty world; everything of the last one is gone */
void sim_end(void);
struct sim_proc *sim_proc_new(void); /* or NULL: no room */
struct sim_thread *sim_thread_new(struct sim_proc *proc, void *(*fn)(void *arg), void *arg);
void sim_must_finish(struct sim_thread *t); /* the world goes on until it ends */
/* Runs until every thread that must_finish has ended or was killed, or nothing can happen any more (false). */
bool sim_run(void);
/* Runs until nothing can happen any more: every thread sleeps for ever, or without an end. */
void sim_settle(void);
/* The clock was moved: wakes those whose time is over, also where timeouts never fire. */
void sim_time_out(void);
unsigned sim_ready(struct sim_thread **ret); /* threads that may run now, at most SIM_THREADS_MAX */
/* Runs fn as a thread of proc, while the others go on, to its end. */
void *sim_call(struct sim_proc *proc, void *(*fn)(void *arg), void *arg);
void sim_kill(struct sim_proc *proc, uint64_t gone_in_ns);
void sim_proc_gone(struct sim_proc *proc); /* what the kernel does last */

/* ── in a simulated thread ── */

void sim_point(enum sim_point point);
void sim_yield(void); /* lets any other run */
/* Sleeps until woken: on words, on an object, or by the clock. False: the time was over. */
bool sim_wait_object(const void *object, uint64_t until_ns);
void sim_wake_object(const void *object, unsigned count);
unsigned sim_wake_word(const volatile unsigned int *word, unsigned count);
bool sim_wait_words(const volatile unsigned int *const *words, unsigned count, uint64_t until_ns);
void sim_sleep(uint64_t ns);
struct sim_proc *sim_self(void); /* NULL: not in a simulated thread */

/* ── choices ── */

uint64_t sim_random(void);
uint64_t sim_below(uint64_t n); /* 0 … n - 1 */
void sim_note(uint64_t what);   /* into the hash */

/* ── memory of one history ── */

void *sim_reserve(size_t n, size_t align); /* not zeroed */
void *sim_zeroes(size_t n);                /* whole pages */
void *sim_alias(void *pages, size_t n);    /* of them, at another address, as a further mapping is */
bool sim_owns(const void *p);

/* ── files (sim_os.c) ── */

enum sim_dir { SIM_DIR_BOOT, SIM_DIR_MAILBOX, SIM_DIR_BELL, SIM_DIR_ARENA, SIM_DIRS };
int sim_dir_fd(enum sim_dir dir);
void sim_boot_fd(int fd); /* the real descriptor that stands for SIM_DIR_BOOT: the store is real */
void sim_files_begin(void);
void sim_files_proc_gone(struct sim_proc *proc);
unsigned sim_files_in(enum sim_dir dir);
int sim_file_each(enum sim_dir dir, int (*visit)(void *arg, const char *name), void *arg);

#endif
