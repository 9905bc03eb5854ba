/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of one random history share: the model, and whoever looks at it. */
#ifndef SB_TESTS_SIM_HISTORY_IMPL_H
#define SB_TESTS_SIM_HISTORY_IMPL_H

#include "core.h"
#include "history.h"
#include "sim.h"
#include "snakebridge/snakebridge.h"

enum {
	SESSIONS = 2,
	HANDLES = 4,
	SHELF = 8,
	CALLS = 512,
	OPS_MAX = 16,
	APPS_MAX = 6,
	ARRAYS = 256,
	HELD = 4
};

#define MS       UINT64_C(1000000)
#define SLACK_MS 12                /* coarse clocks */
#define LATE_MS  400               /* so late a caller may learn of its owner's death */
#define LONG_MS  UINT64_C(3000000) /* it begins at 1000000 */
#define TICK_MS  2500              /* so late idle sessions may be found by a pass that began then */

/* A number of its own for each call; what became of it. */
struct made_call {
	unsigned ran;
	bool told_not, oneway;
	unsigned array; /* that goes along; 0: none */
	int k;          /* one-way: its session, and how long it works */
	uint64_t works_ms;
	const struct sim_proc *ran_in;
	unsigned order; /* which of all that ran it was */
};

struct modelled {
	char id[48];
	sb_session_options options;
	unsigned releases_begun, releasing, releases_over, leaves_begun, refs_made, refs_released;
	uint64_t uid, incarnation;               /* of it, when it was looked at last */
	uint64_t released_since_ms, released_ms; /* the last release that ended one: begun, over */
	uint64_t sure_ms, maybe_ms;              /* used for certain, perhaps, at that time or later */
	unsigned uses;                           /* going on now */
	bool idled;                              /* for the TTL, between two certain uses */
	bool lost;                               /* one who may have been its designated owner may be gone */
	uint32_t hosts;                          /* processes that may be */
};

struct handle {
	sb_session *s;
	int k;
	bool attach_only;
	unsigned releases; /* that were over when it was opened */
};

/* An array is full of its number as long as anybody keeps it. */
struct held {
	sb_array *array;
	unsigned number; /* 0: none here */
};

struct app {
	struct sim_proc *proc;
	struct sb__core *core; /* once attached */
	uint64_t identity;     /* its incarnation number in the process record */
	uint32_t slot, generation;
	unsigned passes; /* of the reaper, since it was dead */
	struct handle handles[HANDLES];
	struct held held[HELD];
	unsigned ops;
	unsigned depth; /* of functions that run for calls of its */
};

struct history_world {
	struct history *h;
	struct modelled s[SESSIONS];
	struct app apps[APPS_MAX];
	unsigned app_count;
	struct {
		bool set;
		int k;
		sb_ref ref;
		uint64_t number; /* that its object tells */
		unsigned array;  /* that it keeps; 0: it is a number */
	} shelf[SHELF];
	struct made_call calls[CALLS];
	uint64_t next_call;
	struct {
		struct sim_proc *maker; /* NULL: the call's that is to make it */
		uint64_t call;
	} arrays[ARRAYS];
	unsigned next_array, runs;
	unsigned faults, ops_max;
	uint64_t fault_in, switch_in, switch_every;
	bool over; /* all apps have ended */
	uint64_t history_number;
};
extern struct history_world w;

/* ── history.c ── */

/* The first thing that the contract does not allow. */
void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ms(void);
/* What the model looks at by itself is no step of the history: until sim.decide is what this returned. */
struct sim_thread *(*quiet_begin(void))(enum sim_point);

/* ── history_calls.c: what may be, and calls ── */

void used(int k, uint64_t since_ms);
/* Between the two it may be used at any time, and afterwards it was; a killed user never comes to the second, but the owner
 * may still be at its call. */
void use_begin(int k);
void use_end(int k);
bool may_have_expired(int k);
/* While it started, or was started again, for one who began to use it then. */
bool may_have_expired_since(int k, uint64_t since_ms);
bool may_be_released(const struct handle *h);
bool session_may_be(int code, const struct handle *h, bool of_ref);
void began(uint64_t number, uint64_t incarnation);
void do_call(struct handle *h);

/* What a call is to be. */
struct wish {
	const char *name;
	int shelf;           /* its target; -1: none */
	int64_t k;           /* for how many milliseconds it works */
	struct held *along;  /* array among its arguments; NULL: none */
	struct asked *asked; /* function among them; NULL: none */
	unsigned makes;      /* number of the array that it is to make; 0: none */
};
/* One that is made, or an item of a batch. */
struct one_call {
	const struct handle *handle;
	const char *name;
	const sb_ref *target;
	uint64_t number, expected, began_ms;
	unsigned along, gives; /* arrays among its arguments, and that it results in; 0: none */
	uint32_t timeout_ms;
	struct sim_proc *owner;        /* designated owner when it began, or NULL */
	uint64_t stopped_ns;           /* the caller's last stop, when it began */
	uint64_t incarnation;          /* of the session, then */
	bool item, stopped, unfounded; /* of a batch: one before it failed; it stands on one that failed */
	struct asked *asked;           /* it passes a function */
};
void judge_error(const struct one_call *c, const sb_error *e);
void judge_value(const struct one_call *c, const sb_value *v);
void used_by(const struct handle *h, uint64_t since_ms);
void make_call(struct handle *h, const struct wish *wish);
void make_oneway(struct handle *h, const struct wish *wish);

/* ── history_batches.c, history_callbacks.c ── */

void do_batch(struct app *app, struct handle *h);

/* A function that goes along with a call, and what is known of it. */
struct asked {
	struct app *app;
	struct handle *handle;
	const struct sim_thread *thread;
	uint64_t number;
	unsigned times, most;
	bool waits, raised;
};
void do_ask(struct app *app, struct handle *h);
int answer(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value);

/* ── history_arrays.c ── */

struct app *me(void);
void do_array(struct app *app, struct handle *h);
/* Those that it keeps are what they were. */
void check_arrays(const struct app *app);
/* The array in a value is number: the app keeps it. */
void judge_array(const sb_value *v, unsigned number);
/* Nobody finds it any more who has not mapped it: its maker is gone, or goes. */
bool array_may_be_gone(unsigned number);
void saw(uint64_t number, uint64_t seen);

/* ── history_reaper.c: passes of the reaper, and the end ── */

void *reaper_main(void *arg);
/* Also after a history that went wrong: the next one finds the store empty. */
void end_all(void);

#endif
