/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sb-torture share: memory of all its processes, and what a caller may be told. */
#ifndef SB_TESTS_TORTURE_H
#define SB_TESTS_TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "snakebridge/snakebridge.h"

/* X(constant, name in the report) */
#define TORTURE_FAULTS(X)                         \
	X(FAULT_KILL_WORKER, "kill-worker")       \
	X(FAULT_STOP_WORKER, "stop-worker")       \
	X(FAULT_KILL_OWNER, "kill-owner")         \
	X(FAULT_STOP_OWNER, "stop-owner")         \
	X(FAULT_KILL_REAPER, "kill-reaper")       \
	X(FAULT_FULL, "full-file-system")         \
	X(FAULT_READERS, "exhausted-readers")     \
	X(FAULT_PROCESSES, "exhausted-processes") \
	X(FAULT_LANES, "exhausted-lanes")         \
	X(FAULT_SESSIONS, "thousand-sessions-killed")

enum torture_fault {
#define TORTURE_ENUM(constant, name) constant,
	TORTURE_FAULTS(TORTURE_ENUM)
#undef TORTURE_ENUM
		FAULTS
};
const char *torture_fault_name(enum torture_fault fault);

enum {
	TORTURE_WORKERS = 6,
	TORTURE_BYSTANDERS = 2,
	TORTURE_VICTIMS = 3, /* sessions whose designated owners are killed and stopped */
	TORTURE_SHARED = 6,  /* sessions that workers serve themselves */
	TORTURE_MARKS = 1 << 20,
	TORTURE_CODES = 64,
	TORTURE_REPORTS = 12,
};

/* What the torturer knows of a call by its number: each is made once. */
enum torture_mark { MARK_NONE, MARK_SENT, MARK_RAN, MARK_REFUSED };

struct torture {
	_Atomic bool stop;
	char dir[256];
	/* A fault that may show began so often, and is over so often. */
	struct {
		_Atomic uint32_t begun, over, tried, failed;
	} faults[FAULTS];
	_Atomic uint32_t codes[TORTURE_CODES], violations, workers_begun;
	_Atomic uint64_t acts, bystander_calls, bystander_most_us;
	char reports[TORTURE_REPORTS][512];
	_Atomic uint32_t next_mark;
	_Atomic uint8_t marks[TORTURE_MARKS];
	sb_ref mark; /* the function that marks, in the steady session */
	_Atomic int32_t owners[TORTURE_VICTIMS];
	struct {
		_Atomic uint64_t since_ms; /* of the act under way; 0: none */
		const char *_Atomic what;
	} doing[TORTURE_WORKERS];
};

extern struct torture *torture;

uint64_t torture_now_ms(void);
__attribute__((format(printf, 1, 2))) void torture_violation(const char *format, ...);

/* Faults that were over before: what an act remembers at its beginning. */
struct torture_before {
	uint32_t over[FAULTS];
};
void torture_before(struct torture_before *before);
bool torture_overlaps(const struct torture_before *before, enum torture_fault fault);

/* A process that opens the bridge and acts at random until it is killed or all shall stop. Exit status 0. */
int torture_worker(int number, unsigned seed);
/* A process that was there before, calls the steady session only, and must always be answered. */
int torture_bystander(void);
/* Makes the steady session. In the end: compares what ran with what callers were told. */
int torture_prepare(void);
int torture_settle(void);

/* Faults that take a process of their own; each makes its state, writes a byte to ready, and waits to be killed. */
int torture_take_readers(int ready);
int torture_take_processes(int ready);
int torture_take_lanes(const char *session, int ready);
int torture_open_sessions(int number, int count, int ready);

#endif
