/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world: simulated processes and threads, which of them runs, the clock, and the memory of one history.
 *
 * A history's memory is one region that is thrown away as a whole, so what killed processes had is gone with it; what is
 * freed within a history is spoiled, so a use after free shows.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/futex.h>

#define STACK_SIZE  ((size_t)256 << 10)
#define REGION_SIZE ((size_t)2 << 30)
#define SPOIL_MAX   256u
#define BIG         ((size_t)64 << 10)
#define PAGE        4096u
#define POINT_NS    40u /* what a step takes */

struct sim sim;

const char *const sim_bug_names[SIM_BUGS] = {
	[SIM_BUG_NONE] = "none",
	[SIM_BUG_CALLER_PARKS_LATE] = "caller-parks-late",
	[SIM_BUG_LEADER_PARKS_LATE] = "leader-parks-late",
	[SIM_BUG_CLEARS_LATE] = "clears-late",
	[SIM_BUG_REAPER_FREES_BUSY] = "reaper-frees-busy",
	[SIM_BUG_KEEPS_BUSY] = "keeps-busy",
	[SIM_BUG_HOLD_UNCOUNTED] = "hold-uncounted",
	[SIM_BUG_STOPPED_IS_DEAD] = "stopped-is-dead",
	[SIM_BUG_WALL_CLOCK] = "wall-clock",
	[SIM_BUG_PID_IS_IDENTITY] = "pid-is-identity",
	[SIM_BUG_END_UNTOLD] = "end-untold",
	[SIM_BUG_UNTOUCHED] = "untouched",
	[SIM_BUG_HOLD_UNTAKEN] = "hold-untaken",
	[SIM_BUG_HOLD_OF_DEAD] = "hold-of-dead",
	[SIM_BUG_ITEM_RUNS_ON] = "item-runs-on",
	[SIM_BUG_ANSWER_STANDS] = "answer-stands",
	[SIM_BUG_LANE_OF_DEAD] = "lane-of-dead",
};

extern char __start_sim_state[], __stop_sim_state[], __start_sim_tls[], __stop_sim_tls[];

static char pristine_state[SIM_STATE_MAX], outside_state[SIM_STATE_MAX];
static char pristine_tls[SIM_TLS_MAX], outside_tls[SIM_TLS_MAX];
static struct sim_proc *loaded; /* whose static data is in place; NULL: that of outside */
static struct sim_thread *loaded_tls;
static char *stacks, *region, *big, *aliases;
static size_t region_used, big_used, aliases_used;
static int big_fd;
static jmp_buf outside;
static bool stuck;
static unsigned unfinished; /* threads that must finish and have not */

/* ── memory ── */

struct block {
	size_t size, pad;
};

bool sim_owns(const void *p)
{
	return ((const char *)p >= region && (const char *)p < region + REGION_SIZE) ||
	       ((const char *)p >= big && (const char *)p < big + REGION_SIZE);
}

void *sim_reserve(size_t n, size_t align)
{
	size_t at = (region_used + align - 1) / align * align;

	if (at + n > REGION_SIZE) {
		fprintf(stderr, "simulation: seed %llu takes more than %zu bytes, at %llu ms\n",
		        (unsigned long long)sim.seed, REGION_SIZE,
		        (unsigned long long)(sim.now_ns / 1000000));
		abort();
	}
	region_used = at + n;
	return region + at;
}

/* Much of it is never touched, so the kernel's zeroes are cheaper than ours. */
void *sim_zeroes(size_t n)
{
	size_t at = big_used;

	if (at + n > REGION_SIZE)
		abort();
	big_used = at + (n + PAGE - 1) / PAGE * PAGE;
	return big + at;
}

void *sim_alias(void *pages, size_t n)
{
	char *at = aliases + aliases_used;

	aliases_used += (n + PAGE - 1) / PAGE * PAGE;
	if (aliases_used > REGION_SIZE || mmap(at, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, big_fd,
	                                       (char *)pages - big) == MAP_FAILED)
		abort();
	return at;
}

void *sim_malloc(size_t n)
{
	struct block *b;

	if (!sim.on)
		return malloc(n);
	b = sim_reserve(sizeof(*b) + n, 16);
	b->size = n;
	return b + 1;
}

void *sim_calloc(size_t n, size_t size)
{
	void *p;

	if (!sim.on)
		return calloc(n, size);
	if (n * size >= BIG) {
		struct block *b = sim_zeroes(n * size + sizeof(*b));

		b->size = n * size;
		return b + 1;
	}
	p = sim_malloc(n * size);
	memset(p, 0, n * size);
	return p;
}

void sim_free(void *p)
{
	struct block *b = p;

	if (!p)
		return;
	if (!sim_owns(p)) {
		free(p);
		return;
	}
	b--;
	memset(p, 0xdd, b->size < SPOIL_MAX ? b->size : SPOIL_MAX);
}

void *sim_realloc(void *p, size_t n)
{
	void *q;
	size_t had;

	if (p && !sim_owns(p))
		return realloc(p, n);
	q = sim_malloc(n);
	had = p ? ((struct block *)p)[-1].size : 0;
	if (p)
		memcpy(q, p, had < n ? had : n);
	sim_free(p);
	return q;
}

char *sim_strdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(sim_malloc(n), s, n);
}

/* ── choices ── */

/* splitmix64: small, good enough, and the same everywhere. */
uint64_t sim_random(void)
{
	uint64_t z = sim.random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t sim_below(uint64_t n)
{
	return n ? sim_random() % n : 0;
}

void sim_note(uint64_t what)
{
	sim.hash = (sim.hash ^ what) * UINT64_C(0x100000001b3);
	sim.hash ^= sim.hash >> 29;
}

/* ── whose data is in place ── */

/* Before anybody uses the library. */
__attribute__((constructor)) static void set_up_once(void)
{
	size_t state = (size_t)(__stop_sim_state - __start_sim_state);
	size_t tls = (size_t)(__stop_sim_tls - __start_sim_tls);

	if (state > SIM_STATE_MAX || tls > SIM_TLS_MAX) {
		fprintf(stderr, "simulation: %zu bytes of static and %zu of thread-local data\n", state, tls);
		abort();
	}
	memcpy(pristine_state, __start_sim_state, state);
	memcpy(pristine_tls, __start_sim_tls, tls);
	memcpy(outside_state, pristine_state, state);
	memcpy(outside_tls, pristine_tls, tls);
	region = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	              -1, 0);
	stacks = mmap(NULL, STACK_SIZE * SIM_THREADS_MAX, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	big_fd = memfd_create("simulation", MFD_CLOEXEC);
	if (big_fd < 0 || ftruncate(big_fd, (off_t)REGION_SIZE))
		abort();
	big = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, big_fd, 0);
	aliases = mmap(NULL, REGION_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (aliases == MAP_FAILED || big == MAP_FAILED || region == MAP_FAILED || stacks == MAP_FAILED)
		abort();
}

static void load(struct sim_thread *t)
{
	size_t state = (size_t)(__stop_sim_state - __start_sim_state);
	size_t tls = (size_t)(__stop_sim_tls - __start_sim_tls);
	struct sim_proc *proc = t ? t->proc : NULL;

	if (loaded != proc) {
		memcpy(loaded ? loaded->state : outside_state, __start_sim_state, state);
		memcpy(__start_sim_state, proc ? proc->state : outside_state, state);
		loaded = proc;
	}
	if (loaded_tls != t) {
		memcpy(loaded_tls ? loaded_tls->tls : outside_tls, __start_sim_tls, tls);
		memcpy(__start_sim_tls, t ? t->tls : outside_tls, tls);
		loaded_tls = t;
	}
}

/* ── which thread runs ── */

static bool may_run(const struct sim_thread *t)
{
	return t->state == SIM_READY && !t->proc->dead && t->proc->stopped_until_ns <= sim.now_ns;
}

static void ready(struct sim_thread *t, bool timed_out)
{
	t->state = SIM_READY;
	t->timed_out = timed_out;
	t->waits = 0;
	t->object = NULL;
}

static uint64_t wakes_at(const struct sim_thread *t)
{
	uint64_t at = t->state == SIM_READY ? 0 : t->until_ns;

	if (t->proc->dead || t->state > SIM_WAITING || (t->state == SIM_WAITING && sim.timeouts_never_fire))
		return UINT64_MAX;
	return at < t->proc->stopped_until_ns ? t->proc->stopped_until_ns : at;
}

/* The clock has moved: whose time is over, whose pid the kernel gives back. */
static void clock_moved(void)
{
	for (unsigned i = 0; i < sim.proc_count; i++)
		if (sim.procs[i].dead && !sim.procs[i].gone && sim.procs[i].gone_at_ns <= sim.now_ns)
			sim_proc_gone(&sim.procs[i]);
	for (unsigned i = 0; i < sim.thread_count; i++) {
		struct sim_thread *t = &sim.threads[i];

		if (t->state == SIM_WAITING && wakes_at(t) <= sim.now_ns && t->until_ns <= sim.now_ns)
			ready(t, true);
	}
}

/* Nothing can run: the clock goes to the next thing that happens by itself. False: there is none. */
static bool clock_forward(void)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < sim.thread_count; i++) {
		uint64_t at = wakes_at(&sim.threads[i]);

		next = at < next ? at : next;
	}
	for (unsigned i = 0; i < sim.proc_count; i++)
		if (sim.procs[i].dead && !sim.procs[i].gone && sim.procs[i].gone_at_ns < next)
			next = sim.procs[i].gone_at_ns;
	if (next == UINT64_MAX)
		return false;
	if (next > sim.now_ns)
		sim.now_ns = next;
	return true;
}

static _Noreturn void jump(struct sim_thread *t)
{
	load(t);
	sim.current = t;
	if (!t)
		longjmp(outside, 1);
	sim.switches++;
	if (!t->started) {
		t->started = true;
		setcontext(&t->start);
		abort();
	}
	longjmp(t->at, 1);
}

static struct sim_thread *next_thread(void)
{
	struct sim_thread *list[SIM_THREADS_MAX];

	if (!unfinished)
		return NULL;
	for (;;) {
		unsigned n = 0;

		clock_moved();
		for (unsigned i = 0; i < sim.thread_count; i++)
			if (may_run(&sim.threads[i]))
				list[n++] = &sim.threads[i];
		if (n > 0)
			return n == 1 ? list[0] : sim.pick ? sim.pick(list, n) : list[sim_below(n)];
		if (!clock_forward()) {
			stuck = true;
			return NULL;
		}
	}
}

/* Leaves the current thread, which runs again when it is chosen. */
static void leave(struct sim_thread *to)
{
	struct sim_thread *me = sim.current;

	if (to == me)
		return;
	if (_setjmp(me->at) == 0)
		jump(to);
}

static void thread_main(void)
{
	struct sim_thread *t = sim.current;

	t->result = t->fn(t->arg);
	for (unsigned i = 0; i < SIM_KEYS_MAX; i++) {
		void *value = t->specific[i];

		t->specific[i] = NULL;
		if (value && i < t->proc->keys && t->proc->key_destroy[i])
			t->proc->key_destroy[i](value);
	}
	t->state = SIM_ENDED;
	unfinished -= t->must_finish;
	sim_wake_object(t, UINT32_MAX);
	jump(next_thread());
}

/* ── points ── */

void sim_point(enum sim_point point)
{
	struct sim_thread *to;

	if (!sim.current)
		return;
	sim.steps++;
	sim.now_ns += POINT_NS;
	to = sim.decide ? sim.decide(point) : sim.current;
	if (to == sim.current && to->proc->dead)
		to = NULL;
	if (to != sim.current)
		leave(to ? to : next_thread());
}

void sim_yield(void)
{
	if (sim.current) {
		sim.now_ns += POINT_NS;
		leave(next_thread());
	}
}

struct sim_proc *sim_self(void)
{
	return sim.current ? sim.current->proc : NULL;
}

static bool sleep_now(uint64_t until_ns)
{
	struct sim_thread *me = sim.current;

	me->state = SIM_WAITING;
	me->until_ns = until_ns;
	leave(next_thread());
	return !me->timed_out;
}

bool sim_wait_object(const void *object, uint64_t until_ns)
{
	sim.current->object = object;
	return sleep_now(until_ns);
}

bool sim_wait_words(const volatile unsigned int *const *words, unsigned count, uint64_t until_ns)
{
	for (unsigned i = 0; i < count; i++)
		sim.current->words[i] = words[i];
	sim.current->waits = count;
	return sleep_now(until_ns);
}

void sim_sleep(uint64_t ns)
{
	bool never = sim.timeouts_never_fire;

	if (!sim.current)
		return;
	if (never) /* a nap is no wait */
		sim_yield();
	else
		(void)sleep_now(sim.now_ns + ns);
}

void sim_wake_object(const void *object, unsigned count)
{
	for (unsigned i = 0; i < sim.thread_count && count; i++)
		if (sim.threads[i].state == SIM_WAITING && sim.threads[i].object == object) {
			ready(&sim.threads[i], false);
			count--;
		}
}

static bool waits_on(const struct sim_thread *t, const volatile unsigned int *word)
{
	for (unsigned i = 0; i < t->waits; i++)
		if (t->words[i] == word)
			return t->state == SIM_WAITING;
	return false;
}

/* The kernel wakes in the order of coming; any order is as good, so that is not kept. */
unsigned sim_wake_word(const volatile unsigned int *word, unsigned count)
{
	unsigned woken = 0;

	for (unsigned i = 0; i < sim.thread_count && woken < count; i++)
		if (waits_on(&sim.threads[i], word) && !sim.threads[i].proc->dead) {
			ready(&sim.threads[i], false);
			woken++;
		}
	return woken;
}

/* ── processes ── */

struct sim_proc *sim_proc_new(void)
{
	struct sim_proc *p;
	bool taken = true;

	if (sim.proc_count == SIM_PROCS_MAX)
		return NULL;
	p = &sim.procs[sim.proc_count];
	memset(p, 0, offsetof(struct sim_proc, state));
	memcpy(p->state, pristine_state, (size_t)(__stop_sim_state - __start_sim_state));
	p->used = true;
	p->index = sim.proc_count;
	/* Few pids, so that one is given out again within a history. */
	for (int32_t pid = 101; taken; pid++) {
		taken = false;
		for (unsigned i = 0; i < sim.proc_count; i++)
			taken |= sim.procs[i].pid == pid && (!sim.procs[i].gone || sim.procs[i].zombie);
		p->pid = pid;
	}
	p->start_time = sim.now_ns / 10000000;
	sim.proc_count++;
	return p;
}

/* By itself, because it may seem to return twice. */
static __attribute__((noinline)) void a_context(ucontext_t *c)
{
	getcontext(c);
}

static struct sim_thread *thread_new(struct sim_proc *proc, void *(*fn)(void *arg), void *arg, unsigned most)
{
	struct sim_thread *t;

	if (sim.thread_count >= most)
		return NULL;
	t = &sim.threads[sim.thread_count];
	memset(t, 0, offsetof(struct sim_thread, tls));
	memcpy(t->tls, pristine_tls, sizeof(t->tls));
	t->proc = proc;
	t->index = sim.thread_count++;
	t->fn = fn;
	t->arg = arg;
	proc->threads++;
	a_context(&t->start);
	t->start.uc_stack.ss_sp = stacks + t->index * STACK_SIZE;
	t->start.uc_stack.ss_size = STACK_SIZE;
	t->start.uc_link = NULL;
	makecontext(&t->start, thread_main, 0);
	return t;
}

struct sim_thread *sim_thread_new(struct sim_proc *proc, void *(*fn)(void *arg), void *arg)
{
	return thread_new(proc, fn, arg, SIM_THREADS_MAX - SIM_THREADS_KEPT);
}

void sim_must_finish(struct sim_thread *t)
{
	unfinished += !t->must_finish;
	t->must_finish = true;
}

void sim_kill(struct sim_proc *proc, uint64_t gone_in_ns)
{
	if (proc->dead)
		return;
	proc->dead = proc->leaving = true;
	proc->gone_at_ns = sim.now_ns + gone_in_ns;
	for (unsigned i = 0; i < sim.thread_count; i++) {
		struct sim_thread *t = &sim.threads[i];

		if (t->proc == proc && t->state <= SIM_WAITING) {
			t->state = SIM_KILLED;
			unfinished -= t->must_finish;
		}
	}
	/* Robust futexes come first, before the memory goes: the word is marked, and one waiter woken. */
	if (proc->robust) {
		unsigned int word = *proc->robust;

		*proc->robust = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
		if (word & FUTEX_WAITERS)
			(void)sim_wake_word(proc->robust, 1);
		proc->robust = NULL;
	}
	if (!gone_in_ns)
		sim_proc_gone(proc);
}

void sim_proc_gone(struct sim_proc *proc)
{
	if (proc->gone)
		return;
	proc->gone = true;
	sim_files_proc_gone(proc);
}

/* ── histories ── */

void sim_begin(uint64_t seed)
{
	struct sim_thread *(*decide)(enum sim_point) = sim.decide;
	struct sim_thread *(*pick)(struct sim_thread **, unsigned) = sim.pick;
	bool never = sim.timeouts_never_fire;
	int bug = sim.bug;

	memset(&sim, 0, offsetof(struct sim, procs));
	sim.proc_count = sim.thread_count = 0;
	sim.current = NULL;
	sim.hash = UINT64_C(0xcbf29ce484222325);
	sim.kills = sim.stops = sim.jumps = 0;
	sim.random = sim.seed = seed;
	sim.now_ns = UINT64_C(1000000000000);
	sim.wall_offset_ms = INT64_C(1700000000000);
	sim.decide = decide;
	sim.pick = pick;
	sim.bug = bug;
	sim.timeouts_never_fire = never;
	unfinished = 0;
	region_used = 0;
	if (big_used > 0)
		(void)madvise(big, big_used, MADV_REMOVE);
	big_used = 0;
	if (aliases_used > 0)
		(void)mmap(aliases, aliases_used, PROT_NONE,
		           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	aliases_used = 0;
	sim.on = true;
	memcpy(__start_sim_state, pristine_state, (size_t)(__stop_sim_state - __start_sim_state));
	memcpy(__start_sim_tls, pristine_tls, (size_t)(__stop_sim_tls - __start_sim_tls));
	loaded = NULL;
	loaded_tls = NULL;
	sim_files_begin();
}

void sim_end(void)
{
	sim.on = false;
}

/* Runs simulated threads until one of them comes back here. */
static __attribute__((noinline)) void enter(struct sim_thread *first)
{
	if (first && _setjmp(outside) == 0)
		jump(first);
	load(NULL);
	sim.current = NULL;
}

bool sim_run(void)
{
	struct sim_thread *first;

	unfinished = 0;
	for (unsigned i = 0; i < sim.thread_count; i++)
		unfinished += sim.threads[i].must_finish && sim.threads[i].state <= SIM_WAITING;
	stuck = false;
	first = next_thread();
	enter(first);
	return !stuck;
}

/* Those asleep whose time is over wake, also where timeouts never fire. */
void sim_time_out(void)
{
	for (unsigned i = 0; i < sim.thread_count; i++) {
		struct sim_thread *t = &sim.threads[i];

		if (t->state == SIM_WAITING && !t->proc->dead && t->until_ns <= sim.now_ns)
			ready(t, true);
	}
}

void sim_settle(void)
{
	struct sim_thread *first;

	unfinished = UINT32_MAX / 2; /* more than there are: it ends when nothing can happen */
	first = next_thread();
	enter(first);
}

unsigned sim_ready(struct sim_thread **ret)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sim.thread_count; i++)
		if (may_run(&sim.threads[i]))
			ret[n++] = &sim.threads[i];
	return n;
}

void *sim_call(struct sim_proc *proc, void *(*fn)(void *arg), void *arg)
{
	struct sim_thread *t = thread_new(proc, fn, arg, SIM_THREADS_MAX);

	if (!t) {
		fprintf(stderr, "simulation: more than %d threads\n", SIM_THREADS_MAX);
		abort();
	}
	sim_must_finish(t);
	return sim_run() ? t->result : NULL;
}
