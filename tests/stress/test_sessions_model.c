/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hundred sessions and eight processes that join, call, leave, release, let expire and are killed at random.
 * Whatever a caller sees is checked against a model in shared memory: an outcome is allowed only if what explains it
 * had begun before the call ended. Afterwards one pass of sb-reaper must leave nothing for sb-inspect --check.
 *
 * The model knows, of each session, how many releases, leaves and deaths of possible designated owners have begun and
 * how many are over. A worker counts a begin before it acts and an end after; what a killed one left open stays open.
 * All counters only grow, so "may X have happened since?" is begun(now) > over(then).
 *
 * SB_STRESS_SECONDS sets how long (default 30). SB_SEED repeats the decisions, though not what the scheduler makes of
 * them; the seed is printed.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"

enum {
	SESSIONS = 200,
	WORKERS = 8,
	DEDICATED = 4, /* the first ones have a process of their own */
	SMALL = 7,     /* each seventh session holds few refs, and evicts */
	SMALL_REFS = 4,
	SHORT = 3, /* each third session has a short TTL */
	TTL_MS = 1000,
	WINDOW = 24, /* sessions in use at a time; the others are idle, and expire */
	WINDOW_MS = 1500,
	SHELF = 4, /* refs that a worker shows the others, per session */
	CODES = 64,
	REPORTS = 12,
};

/* ── the model ── */

struct counted {
	_Atomic uint32_t begun, over;
};

/* A ref that its maker shows to everybody. Only the maker's worker number writes it: odd while it does. */
struct shown {
	_Atomic uint32_t turn;
	sb_ref ref;
	uint64_t number;
	uint64_t made_seq; /* order among what happens to the session */
	uint64_t made_ms;
	int32_t designated_pid; /* 0: not known */
	uint32_t leaves, releases;
	_Atomic uint32_t drops; /* sb_ref_release() begun */
};

struct modelled {
	struct counted releases, leaves, deaths;
	_Atomic uint32_t hosts; /* a bit per worker that may be its designated owner */
	_Atomic uint32_t users; /* a bit per worker that may be an owner */
	struct shown shelf[WORKERS][SHELF];
};

struct model {
	_Atomic bool stop;
	_Atomic uint64_t seq, objects;
	_Atomic uint32_t done[CODES], violations, checked_refs, foreign_refs, elected, dedicated_kills;
	char reports[REPORTS][512];
	struct {
		_Atomic int release, leave; /* session number + 1 that an act is under way on */
	} acts[WORKERS];
	struct modelled s[SESSIONS];
	_Atomic int32_t dead[8192]; /* pids of workers and dedicated owners that may be dead */
	_Atomic uint32_t dead_count;
};

static struct model *model;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool short_lived(int i)
{
	return i >= DEDICATED && i % SHORT == 0;
}

static bool small(int i)
{
	return i % SMALL == 1;
}

static void mark_dead(int32_t pid)
{
	uint32_t n = atomic_fetch_add(&model->dead_count, 1);

	if (n < sizeof(model->dead) / sizeof(model->dead[0]))
		atomic_store(&model->dead[n], pid);
}

static bool may_be_dead(int32_t pid)
{
	uint32_t n = atomic_load(&model->dead_count);

	if (pid == 0 || n > sizeof(model->dead) / sizeof(model->dead[0]))
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (atomic_load(&model->dead[i]) == pid || atomic_load(&model->dead[i]) == 0)
			return true;
	return false;
}

/* In this order a kill between two steps leaves an act that never ends: the model then allows more, never less. */
static void counted_begin(struct counted *c, _Atomic int *act, int i)
{
	atomic_fetch_add(&c->begun, 1);
	atomic_store(act, i + 1);
}

static void counted_end(struct counted *c, _Atomic int *act)
{
	if (atomic_exchange(act, 0))
		atomic_fetch_add(&c->over, 1);
}

/* ── a worker ── */

struct held {
	sb_session *s;
	bool attach_only;
	uint64_t opened_seq, touched_ms;
	uint32_t releases; /* that were over when it was opened */
	uint32_t deaths;   /* that were over when a call last succeeded */
};

struct worker {
	int number;
	unsigned seed;
	sb_bridge *bridge;
	struct held held[SESSIONS];
};

/* One thing that a worker does: what held before it. */
struct act {
	struct worker *w;
	int i; /* session */
	struct modelled *m;
	struct held *h;
	const char *what;
	uint64_t begun_ms;
	uint32_t deaths;
};

static unsigned roll(struct worker *w, unsigned n)
{
	return (unsigned)rand_r(&w->seed) % n;
}

static struct act act_begin(struct worker *w, int i, const char *what)
{
	return (struct act){ .w = w,
		             .i = i,
		             .m = &model->s[i],
		             .h = &w->held[i],
		             .what = what,
		             .begun_ms = now_ms(),
		             .deaths = atomic_load(&model->s[i].deaths.over) };
}

__attribute__((format(printf, 2, 3))) static void violation(const struct act *a, const char *format, ...)
{
	uint32_t n = atomic_fetch_add(&model->violations, 1);
	size_t used;
	va_list args;

	if (n >= REPORTS)
		return;
	used = (size_t)snprintf(
		model->reports[n], sizeof(model->reports[n]), "session %d%s%s%s, worker %d, %s: ", a->i,
		a->i < DEDICATED ? " (dedicated)" : "", short_lived(a->i) ? " (short-lived)" : "",
		small(a->i) ? " (small)" : "", a->w->number, a->what);
	va_start(args, format);
	vsnprintf(model->reports[n] + used, sizeof(model->reports[n]) - used, format, args);
	va_end(args);
}

static bool released_since(const struct act *a, uint32_t over)
{
	return atomic_load(&a->m->releases.begun) > over;
}

static bool expired_since(const struct act *a, uint64_t touched_ms)
{
	return short_lived(a->i) && now_ms() - touched_ms + 5 >= TTL_MS;
}

/* May the session of this worker's handle have ended with this code? It is an owner: nobody else's leaving ends it. */
static bool end_allowed(const struct act *a, int err)
{
	if (err == SB_ERELEASED)
		return released_since(a, a->h->releases);
	return err == SB_EEXPIRED && expired_since(a, a->h->touched_ms);
}

static void drop_handle(struct act *a)
{
	counted_begin(&a->m->leaves, &model->acts[a->w->number].leave, a->i);
	sb_session_close(a->h->s);
	*a->h = (struct held){ .s = NULL };
	counted_end(&a->m->leaves, &model->acts[a->w->number].leave);
}

static void count(int err)
{
	atomic_fetch_add(&model->done[-err < CODES ? -err : CODES - 1], 1);
}

static void unexpected(const struct act *a, int err)
{
	violation(a, "%s (outcome %d): %s", sb_error_name(err), sb_last_error()->outcome,
	          sb_last_error()->message);
}

/* ── joining and leaving ── */

static bool join(struct act *a, bool attach_only)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	struct held h = { .attach_only = attach_only,
		          .opened_seq = atomic_fetch_add(&model->seq, 1),
		          .touched_ms = a->begun_ms,
		          .releases = atomic_load(&a->m->releases.over) };
	char id[32];
	int err;

	snprintf(id, sizeof(id), "model-%03d", a->i);
	o.session_id = id;
	o.designated = attach_only        ? SB_DESIGNATED_ATTACH_ONLY
	               : a->i < DEDICATED ? SB_DESIGNATED_DEDICATED
	                                  : SB_DESIGNATED_SELF;
	o.timeout_ms = 30000;
	if (!attach_only) {
		o.ttl_seconds = short_lived(a->i) ? TTL_MS / 1000 : 3600;
		o.max_refs = small(a->i) ? SMALL_REFS : 1000;
		if (a->i >= DEDICATED)
			atomic_fetch_or(&a->m->hosts, 1u << a->w->number);
	}
	atomic_fetch_or(&a->m->users, 1u << a->w->number);
	err = sb_session_open(a->w->bridge, &o, &h.s);
	count(err);
	if (err == 0) {
		h.opened_seq = atomic_fetch_add(&model->seq, 1);
		*a->h = h;
		return true;
	}
	/* Nobody knows of a session that is not there; one that ends while it is being made is not there either. */
	if (attach_only &&
	    (err == SB_ENOSESSION || err == SB_ERELEASED || (err == SB_EEXPIRED && short_lived(a->i))))
		return false;
	if ((err == SB_ERELEASED && released_since(a, h.releases)) ||
	    (err == SB_EEXPIRED && expired_since(a, a->begun_ms)))
		return false;
	unexpected(a, err);
	return false;
}

/* A second look by somebody who owns it finds it. */
static void join_again(struct act *a)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	sb_session *again = NULL;
	char id[32];
	int err;

	snprintf(id, sizeof(id), "model-%03d", a->i);
	o.session_id = id;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	err = sb_session_open(a->w->bridge, &o, &again);
	count(err);
	if (err == 0)
		sb_session_close(again);
	else if ((err == SB_ERELEASED || err == SB_ENOSESSION || err == SB_EEXPIRED) &&
	         (released_since(a, a->h->releases) || expired_since(a, a->h->touched_ms)))
		drop_handle(a);
	else
		unexpected(a, err);
}

/* ── calls ── */

static void succeeded(struct act *a)
{
	a->h->deaths = a->deaths;
	a->h->touched_ms = a->begun_ms;
}

/* A call that needs no ref failed. */
static void explain(struct act *a, int err)
{
	if (err == SB_ERELEASED || err == SB_EEXPIRED) {
		if (!end_allowed(a, err))
			unexpected(a, err);
		drop_handle(a);
		return;
	}
	if (err == SB_EOWNERDIED && atomic_load(&a->m->deaths.begun) > a->h->deaths)
		return;
	if (err == SB_ENOOWNER && a->h->attach_only && atomic_load(&a->m->deaths.begun) > a->h->deaths)
		return;
	unexpected(a, err);
}

static void show(struct act *a, const struct shown *news)
{
	struct shown *at = &a->m->shelf[a->w->number][roll(a->w, SHELF)];
	uint32_t turn = atomic_load(&at->turn);

	atomic_store(&at->turn, turn | 1); /* a killed one may have left it odd */
	atomic_thread_fence(memory_order_seq_cst);
	memcpy((char *)at + offsetof(struct shown, ref), (const char *)news + offsetof(struct shown, ref),
	       offsetof(struct shown, drops) - offsetof(struct shown, ref));
	atomic_store(&at->drops, 0);
	atomic_store(&at->turn, (turn | 1) + 1);
}

/* Makes a list that holds its session's number and a number of its own. */
static void make(struct act *a)
{
	struct shown news = { .number = atomic_fetch_add(&model->objects, 1),
		              .made_seq = atomic_fetch_add(&model->seq, 1),
		              .made_ms = a->begun_ms,
		              .leaves = atomic_load(&a->m->leaves.over),
		              .releases = atomic_load(&a->m->releases.over) };
	sb_request r = SB_REQUEST_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_value *v = NULL;
	int err;

	if (!a->h->attach_only && a->i >= DEDICATED)
		atomic_fetch_or(&a->m->hosts, 1u << a->w->number); /* it may be elected */
	r.name = "builtins:list";
	r.args = sb_args("[ii]", (int64_t)a->i, (int64_t)news.number);
	r.flags = SB_CALL_AS_REF;
	err = sb_invoke(a->h->s, &r, &v);
	count(err);
	if (err) {
		explain(a, err);
		return;
	}
	news.ref = *sb_value_ref(v);
	sb_value_free(v);
	succeeded(a);
	if (sb_session_get_info(a->h->s, &info) == 0 && info.incarnation == news.ref.incarnation)
		news.designated_pid = info.designated_pid;
	if (news.designated_pid == getpid() && a->h->deaths)
		atomic_fetch_add(&model->elected, 1);
	show(a, &news);
}

static bool look_at_shelf(struct worker *w, int i, struct shown *ret, struct shown **ret_at,
                          uint32_t *ret_turn)
{
	struct shown *at = &model->s[i].shelf[roll(w, WORKERS)][roll(w, SHELF)];
	uint32_t turn = atomic_load(&at->turn);

	if (turn == 0 || turn & 1)
		return false;
	memcpy((char *)ret + offsetof(struct shown, ref), (const char *)at + offsetof(struct shown, ref),
	       offsetof(struct shown, drops) - offsetof(struct shown, ref));
	atomic_thread_fence(memory_order_seq_cst);
	*ret_at = at;
	*ret_turn = turn;
	return atomic_load(&at->turn) == turn;
}

/* May a call on the ref have ended so? */
static bool stale_allowed(const struct act *a, const struct shown *it, uint32_t drops, int err)
{
	/* An owner's handle that is older than the ref, and whose session cannot have ended, is of the ref's session. */
	bool this_life = it->made_seq > a->h->opened_seq && !expired_since(a, a->h->touched_ms);

	switch (err) {
	case SB_EREFRELEASED: /* its slot may have had so many refs since that nobody knows how it ended */
		return drops > 0 || (strstr(sb_last_error()->message, "too long ago") &&
		                     (small(a->i) || expired_since(a, it->made_ms)));
	case SB_EREFEVICTED: return small(a->i);
	case SB_EREFEXPIRED: return expired_since(a, it->made_ms);
	case SB_EOWNERDIED: return may_be_dead(it->designated_pid);
	case SB_EEXPIRED: return expired_since(a, this_life ? a->h->touched_ms : it->made_ms);
	case SB_ERELEASED:
		return released_since(a, it->releases) ||
		       (!this_life && atomic_load(&a->m->leaves.begun) > it->leaves);
	default: return false;
	}
}

static void check_value(struct act *a, const struct shown *it, const sb_value *v)
{
	int64_t session = -1, number = -1;

	if (sb_value_len(v) != 2 || sb_value_int(sb_value_at(v, 0), &session) ||
	    sb_value_int(sb_value_at(v, 1), &number))
		violation(a, "not the value that was made");
	else if (session != a->i || (uint64_t)number != it->number)
		violation(a, "object %lld of session %lld instead of %llu", (long long)number,
		          (long long)session, (unsigned long long)it->number);
	atomic_fetch_add(&model->checked_refs, 1);
}

static void use(struct act *a)
{
	struct shown it = { .number = 0 }, *at;
	sb_value *v = NULL;
	uint32_t turn;
	int err;

	if (!look_at_shelf(a->w, a->i, &it, &at, &turn))
		return;
	err = sb_method(a->h->s, &it.ref, "copy", NULL, &v);
	count(err);
	if (err == 0) {
		check_value(a, &it, v);
		sb_value_free(v);
		succeeded(a);
	} else if (end_allowed(a, err)) {
		drop_handle(
			a); /* the session of the handle ended; the ref may be of a later one by the same id */
	} else if (!stale_allowed(a, &it, atomic_load(&at->turn) == turn ? atomic_load(&at->drops) : 1,
	                          err)) {
		unexpected(a, err);
	}
}

static void drop(struct act *a)
{
	struct shown it = { .number = 0 }, *at;
	bool dropped = false;
	uint32_t turn;
	int err;

	if (!look_at_shelf(a->w, a->i, &it, &at, &turn))
		return;
	atomic_fetch_add(&at->drops, 1);
	err = sb_ref_release(a->h->s, &it.ref, &dropped);
	count(err);
	if (err && !end_allowed(a, err) && !stale_allowed(a, &it, 1, err))
		unexpected(a, err);
	else if (!err && dropped)
		succeeded(a);
}

/* A ref of another session is refused, whatever has become of either. */
static void cross(struct act *a)
{
	int other = (a->i + 1) % SESSIONS;
	struct shown it = { .number = 0 }, *at;
	uint32_t turn;
	int err;

	if (!look_at_shelf(a->w, other, &it, &at, &turn))
		return;
	err = sb_method(a->h->s, &it.ref, "copy", NULL, NULL);
	count(err);
	if (err != SB_EREFSESSION)
		violation(a, "a ref of session %d: %s instead of SB_EREFSESSION", other, sb_error_name(err));
	else if (sb_last_error()->outcome != SB_OUTCOME_REFUSED)
		violation(a, "a refused call with outcome %d", sb_last_error()->outcome);
	atomic_fetch_add(&model->foreign_refs, 1);
}

/* ── ends ── */

static void release(struct act *a)
{
	bool alone, mine = a->h->s != NULL;
	int released = -1, err;
	char id[32];

	snprintf(id, sizeof(id), "model-%03d", a->i);
	counted_begin(&a->m->releases, &model->acts[a->w->number].release, a->i);
	err = sb_session_release(a->w->bridge, id, &released);
	alone = atomic_load(&a->m->releases.begun) == a->h->releases + 1;
	counted_end(&a->m->releases, &model->acts[a->w->number].release);
	count(err);
	if (err)
		unexpected(a, err);
	else if (mine && alone && !short_lived(a->i) && released != 1)
		violation(a, "an owner's session was not there to release");
	if (!mine)
		return;
	err = sb_call(a->h->s, "math:sqrt", sb_args("i", (int64_t)4), NULL);
	count(err);
	if (err == 0 &&
	    !alone) /* another's release was killed after its transaction: a sweep tells the callers */
		;
	else if (err != SB_ERELEASED && !(err == SB_EEXPIRED && end_allowed(a, err)) &&
	         !(err == SB_EOWNERDIED && atomic_load(&a->m->deaths.begun) > a->h->deaths))
		violation(a, "a call after the release: %s", sb_error_name(err));
	drop_handle(a);
}

static void kill_dedicated(struct act *a)
{
	sb_session_info info = { .size = sizeof(info) };

	if (sb_session_get_info(a->h->s, &info) || info.state != SB_SESSION_ACTIVE ||
	    info.designated_pid <= 1)
		return;
	atomic_fetch_add(&a->m->deaths.begun, 1); /* never over: nobody here can wait for it */
	mark_dead(info.designated_pid);
	kill(info.designated_pid, SIGKILL);
	atomic_fetch_add(&model->dedicated_kills, 1);
}

static int choose_session(struct worker *w)
{
	unsigned window = (unsigned)(now_ms() / WINDOW_MS) * 61;

	if (roll(w, 24) == 0)
		return (int)roll(w, DEDICATED);
	return (int)((window + roll(w, WINDOW)) % SESSIONS);
}

static void one_act(struct worker *w)
{
	int i = choose_session(w);
	unsigned what = roll(w, 1000);
	struct act a = act_begin(w, i, "joining");

	if (!a.h->s && (what < 4 ? (a.what = "releasing", release(&a), true) : !join(&a, roll(w, 4) == 0)))
		return;
	if (!a.h->s)
		return;
	a = act_begin(w, i, "calling");
	if (what < 8)
		a.what = "releasing", release(&a);
	else if (what < 40)
		drop_handle(&a);
	else if (what < 80)
		a.what = "joining again", join_again(&a);
	else if (what < 120)
		a.what = "passing a foreign ref", cross(&a);
	else if (what < 180)
		a.what = "dropping a ref", drop(&a);
	else if (what < 190 && i < DEDICATED)
		kill_dedicated(&a);
	else if (what < 450)
		a.what = "making", make(&a);
	else
		a.what = "using", use(&a);
}

/* Leaves: properly, or as if it crashed. Either way what it served is gone. */
static int leave(struct worker *w)
{
	mark_dead(getpid());
	for (int i = 0; i < SESSIONS; i++)
		if (atomic_load(&model->s[i].hosts) & 1u << w->number)
			atomic_fetch_add(&model->s[i].deaths.begun, 1);
	if (roll(w, 2))
		sb_bridge_close(w->bridge);
	return 0;
}

static int work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&model->stop))
		one_act(w);
	return leave(w);
}

/* ── the parent ── */

static void worker_start(struct fixture *f, struct worker *w, pid_t *ret_pid, unsigned *seed)
{
	w->seed = (unsigned)rand_r(seed);
	w->bridge = f->bridge;
	*ret_pid = fixture_fork(work, w);
	assert_true(*ret_pid > 0);
}

/* What a killed worker was in the middle of is never over: a release may be in the store and come to light later. What
 * it hosted and owned is gone. */
static void settle(int number)
{
	uint32_t bit = 1u << number;

	atomic_store(&model->acts[number].release, 0);
	atomic_store(&model->acts[number].leave, 0);
	for (int i = 0; i < SESSIONS; i++) {
		if (atomic_fetch_and(&model->s[i].hosts, ~bit) & bit)
			atomic_fetch_add(&model->s[i].deaths.over, 1);
		if (atomic_fetch_and(&model->s[i].users, ~bit) & bit)
			atomic_fetch_add(&model->s[i].leaves.over, 1);
	}
}

/* Stopped first, so that what it may host or own cannot change between the count and the kill. */
static void worker_kill(pid_t pid, int number)
{
	int status;

	kill(pid, SIGSTOP);
	while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	for (int i = 0; i < SESSIONS; i++) {
		if (atomic_load(&model->s[i].hosts) & 1u << number)
			atomic_fetch_add(&model->s[i].deaths.begun, 1);
		if (atomic_load(&model->s[i].users) & 1u << number)
			atomic_fetch_add(&model->s[i].leaves.begun, 1);
	}
	mark_dead(pid);
	kill(pid, SIGKILL);
	if (!WIFEXITED(status) && !WIFSIGNALED(status))
		assert_int_equal(fixture_wait(pid), 1000 + SIGKILL);
	settle(number);
}

static unsigned chosen_seed(void)
{
	const char *text = getenv("SB_SEED");

	return text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
}

static void print_outcomes(unsigned kills)
{
	print_message("%u workers and %u dedicated owners killed; %u refs checked, %u foreign refs refused, "
	              "%u elections\n",
	              kills, model->dedicated_kills, model->checked_refs, model->foreign_refs,
	              model->elected);
	for (int code = 0; code < CODES; code++)
		if (model->done[code])
			print_message("  %-16s %u\n", sb_error_name(-code), model->done[code]);
	for (uint32_t n = 0; n < model->violations && n < REPORTS; n++)
		print_message("  not allowed: %s\n", model->reports[n]);
}

/* Dedicated owners end by themselves when nobody owns their sessions; until then they are in the directory. */
static void wait_for_dedicated(struct fixture *f)
{
	for (int i = 0; i < 1000; i++) {
		json_t *j = fixture_tool_json(f->dir, "sb-inspect", "--json", "processes", NULL);
		size_t n = json_array_size(json_object_get(j, "processes"));

		json_decref(j);
		if (n <= 1) /* this one */
			return;
		usleep(20000);
	}
	fail_msg("dedicated owners without sessions did not end");
}

static void test_10_31_33_random_life_and_death(void **state)
{
	struct fixture *f = *state;
	const char *text = getenv("SB_STRESS_SECONDS");
	uint64_t begun = now_ms(), end = begun + (text ? strtoul(text, NULL, 10) : 30) * 1000;
	unsigned seed = chosen_seed(), kills = 0;
	struct worker *workers = calloc(WORKERS, sizeof(*workers));
	pid_t pids[WORKERS];

	print_message("SB_SEED=%u\n", seed);
	model = mmap(NULL, sizeof(*model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(model != MAP_FAILED && workers);
	for (int n = 0; n < WORKERS; n++) {
		workers[n].number = n;
		worker_start(f, &workers[n], &pids[n], &seed);
	}
	while (now_ms() < end && model->violations < REPORTS) {
		int n = rand_r(&seed) % WORKERS;

		usleep(100000 + (unsigned)rand_r(&seed) % 500000);
		worker_kill(pids[n], n);
		kills++;
		worker_start(f, &workers[n], &pids[n], &seed);
	}
	atomic_store(&model->stop, true);
	for (int n = 0; n < WORKERS; n++)
		assert_int_equal(fixture_wait(pids[n]), 0);
	print_outcomes(kills);
	print_message("reliability: sessions-model/kills tried=%u failed=%u seconds=%.0f\n",
	              kills + model->dedicated_kills, model->violations, (double)(now_ms() - begun) / 1000);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
	assert_int_equal(fixture_tool(f->dir, NULL, "sb-inspect", "--check", NULL), 0);
	assert_int_equal(model->violations, 0);
	assert_true(model->checked_refs > 0 && model->foreign_refs > 0 && model->done[0] > 1000);
	wait_for_dedicated(f);
	munmap(model, sizeof(*model));
	free(workers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_10_31_33_random_life_and_death, fixture_setup,
		                                fixture_teardown),
	};

	return cmocka_run_group_tests_name("sessions_model", tests, NULL, NULL);
}
