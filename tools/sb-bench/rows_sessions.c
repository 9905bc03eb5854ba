/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about sessions: opening, joining, memory, tidying, and whether calls mind how many there are. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ── opening and joining ── */

static double open_rate(struct bench *b)
{
	double begun = now_ns();
	unsigned n = 0;

	for (; n < 20 || now_ns() - begun < b->seconds * 1e9 / 4; n++) {
		sb_session *session;

		must(sb_session_open(b->bridge, NULL, &session), "a session");
		must(sb_session_release(b->bridge, sb_session_id(session), NULL), "its release");
		sb_session_close(session);
	}
	return n / (now_ns() - begun) * 1e9;
}

static double join_us(struct bench *b, const char *prefix, unsigned n)
{
	sb_session_options o = SB_SESSION_OPTIONS_INIT;
	double begun, took = 0;
	char id[64];

	o.session_id = id;
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	for (unsigned i = 0; i < n; i++) {
		sb_session *session;

		snprintf(id, sizeof(id), "%s%u", prefix, i);
		begun = now_ns();
		must(sb_session_open(b->bridge, &o, &session), "a join");
		took += now_ns() - begun;
		sb_session_close(session);
	}
	return took / n / 1e3;
}

void row_sessions(struct bench *b)
{
	struct figure *rate, *join;
	struct host host = host_start(b->dir, "joined", 100, false);

	rate = figure_new("session_open", "sessions opened and released by an attached process", "/s");
	figure_target(rate, TARGET_AT_LEAST, 0, 20000);
	figure_tried(
		rate,
		"one transaction to open and one to end; the ring of events stays mapped; a mailbox to which "
		"nobody else attached is renamed and used again; the keeper sleeps on; what is left is "
		"mostly "
		"the two transactions, which write some 20 pages");
	join = figure_new("session_join", "a session joined by a second process", "µs");
	figure_target(join, TARGET_AT_MOST, 0, 60);
	figure_tried(join, "one transaction; the mailbox is opened and mapped, the bell is there");
	open_rate(b);
	join_us(b, "joined", 100);
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&rate->ours, open_rate(b));
		series_add(&join->ours, join_us(b, "joined", 100));
	}
	host_stop(&host);
}

/* ── memory ── */

void row_memory(struct bench *b)
{
	enum { SESSIONS = 1000 };
	char program[4096], text[256], answer[128];
	char *argv[] = { program, (char[]){ "@probe" }, b->dir, text, (char[]){ "idle" }, (char[]){ "100" },
		         NULL };
	struct figure *one, *hundred, *tmpfs;
	struct host host;
	double before, first_us, one_kib, hundred_kib;

	bench_owner(b, NULL, SB_UNSET);
	before = tree_bytes(b->dir);
	host = host_start(b->dir, "idle", SESSIONS, false);
	tmpfs = figure_new("session_tmpfs", "memory in tmpfs per idle session, of 1,000", "KiB");
	figure_target(tmpfs, TARGET_AT_MOST, 0, 64);
	figure_tried(tmpfs, "no lanes before the first caller comes; then they come in blocks");
	series_add(&tmpfs->ours, (tree_bytes(b->dir) - before) / SESSIONS / 1024);
	sibling_path("sb-bench", program);
	must(sb_ref_format(&b->nothing, text, sizeof(text)), "a ref's text");
	one = figure_new("pss_one", "PSS of a calling process over one without us, 1 session", "KiB");
	figure_target(one, TARGET_AT_MOST, 0, 300);
	figure_tried(
		one,
		"callers link no Python and start no thread; what opening read of the store leaves the page "
		"tables; half of what is left is the library's own code, the rest LMDB's buffers and the "
		"stack");
	hundred = figure_new("pss_hundred", "the same, 100 sessions joined besides", "KiB");
	figure_target(hundred, TARGET_AT_MOST, 0, 300);
	figure_tried(hundred,
	             "four sessions are attached to when they are joined, others when they are called; "
	             "of those attached to, the last four keep their pages; else a joined session is a "
	             "handle of 200 bytes");
	for (unsigned i = 0; i < b->rounds; i++) {
		run_ms(argv, answer, sizeof(answer));
		if (sscanf(answer, "%lf %lf %lf", &first_us, &one_kib, &hundred_kib) != 3)
			give_up("a probe said: %s", answer);
		series_add(&one->ours, one_kib);
		series_add(&hundred->ours, hundred_kib);
	}
	host_stop(&host);
}

/* ── tidying ── */

void row_reaper(struct bench *b)
{
	enum { SESSIONS = 10000, DEAD = 10 };
	char reaper[4096], inspect[4096];
	char *pass[] = { reaper,
		         (char[]){ "--once" },
		         (char[]){ "--files-every" },
		         (char[]){ "3600" },
		         (char[]){ "--quiet" },
		         (char[]){ "--dir" },
		         b->dir,
		         NULL };
	char *look[] = { inspect, (char[]){ "--dir" }, b->dir, NULL };
	struct figure *sweep, *overview;
	struct host host, dead[DEAD];

	sibling_path("sb-reaper", reaper);
	sibling_path("sb-inspect", inspect);
	host = host_start(b->dir, "many", SESSIONS, false);
	sweep = figure_new("reaper_pass", "sb-reaper --once: 10,000 sessions, 10 of dead processes", "ms");
	figure_floor_label(sweep, "the same with nobody dead");
	figure_target(sweep, TARGET_AT_MOST, 0, 20);
	figure_tried(sweep, "what is dead is found by indexes; the look at all files is made once a minute, "
	                    "and not in this pass");
	overview = figure_new("inspect_overview", "sb-inspect: overview of as many", "ms");
	figure_target(overview, TARGET_AT_MOST, 0, 50);
	figure_tried(overview, "records are counted in one transaction; of each mailbox a page is "
	                       "read, its lanes only "
	                       "if one was ever claimed, by a thread on each CPU; the names of all files are "
	                       "listed");
	run_ms(pass, NULL, 0);
	for (unsigned i = 0; i < (b->rounds + 1) / 2; i++) {
		for (unsigned k = 0; k < DEAD; k++)
			dead[k] = host_start(b->dir, (char[]){ 'd', (char)('0' + k), '-', '\0' }, 1, false);
		for (unsigned k = 0; k < DEAD; k++)
			host_kill(&dead[k]);
		series_add(&overview->ours, run_ms(look, NULL, 0));
		series_add(&sweep->ours, run_ms(pass, NULL, 0));
		series_add(&sweep->floor, run_ms(pass, NULL, 0));
	}
	host_kill(&host);
}

/* ── scaling ── */

/* Calls on any of the refs for about a quarter of a piece of time, per second. */
static double rate_of(const struct bench *b, sb_session *session, const sb_ref *refs, unsigned count)
{
	double begun = now_ns();
	uint32_t at = 1;
	unsigned n = 0;

	do {
		for (unsigned i = 0; i < 100; i++, n++) {
			at = at * 1664525u + 1013904223u;
			must(sb_method(session, &refs[(at >> 8) % count], "noop", NULL, NULL), "noop()");
		}
	} while (now_ns() - begun < b->seconds * 1e9 / 4);
	return n / (now_ns() - begun) * 1e9;
}

static void many_sessions(struct bench *b, struct figure *f)
{
	struct host few = host_start(b->dir, "few", 1, true), many;
	sb_session *to_few, *to_many;
	sb_session_options o = SB_SESSION_OPTIONS_INIT;

	many = host_start(b->dir, "many", 10000, true);
	place(b, few.pid, b->cpu[1]);
	place(b, many.pid, b->cpu[1]);
	o.designated = SB_DESIGNATED_ATTACH_ONLY;
	o.session_id = "few0";
	must(sb_session_open(b->bridge, &o, &to_few), "a session");
	o.session_id = "many0";
	must(sb_session_open(b->bridge, &o, &to_many), "a session");
	rate_of(b, to_few, &few.nothing, 1);
	rate_of(b, to_many, &many.nothing, 1);
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&f->floor, rate_of(b, to_few, &few.nothing, 1));
		series_add(&f->ours, rate_of(b, to_many, &many.nothing, 1));
	}
	host_kill(&many); /* ending 10,000 sessions one by one is not what is measured */
	host_stop(&few);  /* second: the other one has the end of its pipe, too */
}

#define MANY_REFS 100000

/* The refs of so many objects of a session of an owner of their own, in a session called so. */
static sb_ref *refs_made(const struct bench *b, const char *session_id, unsigned count, struct bench *ret)
{
	static const char source[] = "some = [Nothing() for _ in range(100000)]\n"
				     "def give(at, n): return some[at:at + n]\n";
	sb_ref *refs = calloc(count, sizeof(*refs)), give;
	const unsigned part = 1000;

	if (!refs)
		give_up("no memory");
	*ret = *b;
	bench_owner_of(ret, session_id, source, 2 * MANY_REFS);
	place(ret, ret->owner, b->cpu[1]);
	give = bench_name(ret->session, &ret->names, "give");
	must(sb_ref_pin(ret->session, &give, NULL), "a pin");
	for (unsigned at = 0; at < count; at += part) {
		sb_value *v;

		must(sb_method(ret->session, &give, "__call__", sb_args("ii", (int64_t)at, (int64_t)part),
		               &v),
		     "give()");
		for (unsigned i = 0; i < part; i++)
			refs[at + i] = *sb_value_ref(sb_value_at(v, i));
		sb_value_free(v);
	}
	return refs;
}

/* Few and many take turns, each with its owner. */
static void many_refs(struct bench *b, struct figure *f)
{
	struct bench few, many;
	sb_ref *few_refs = refs_made(b, "few", 1000, &few), *refs = refs_made(b, "many", MANY_REFS, &many);

	rate_of(b, few.session, few_refs, 10);
	rate_of(b, many.session, refs, MANY_REFS);
	for (unsigned i = 0; i < 2 * b->rounds; i++) {
		series_add(&f->floor, rate_of(b, few.session, few_refs, 10));
		series_add(&f->ours, rate_of(b, many.session, refs, MANY_REFS));
	}
	sb_session_release(b->bridge, "few", NULL);
	sb_session_release(b->bridge, "many", NULL);
	free(few_refs);
	free(refs);
}

void row_scaling(struct bench *b)
{
	struct figure *sessions, *refs;

	place(b, getpid(), b->cpu[0]);
	sessions = figure_new("scale_sessions", "no-op calls, an owner of 10,000 sessions", "/s");
	figure_floor_label(sessions, "an owner of 1 session");
	figure_target(sessions, TARGET_AT_LEAST, 0.9, 0);
	figure_tried(sessions, "which session has work is found by two levels of bits whatever their number");
	refs = figure_new("scale_refs", "no-op calls on any of 100,000 refs", "/s");
	figure_floor_label(refs, "on any of 10 refs, 1,000 in the session");
	figure_target(refs, TARGET_AT_LEAST, 0.9, 0);
	figure_tried(
		refs,
		"a ref is found by its slot, whose 64 bytes are one line and fetched as soon as its number "
		"is "
		"known; its row is written and not read; a caller's ref is fetched when the call begins. "
		"What "
		"is left is that 100,000 slots, rows and objects are 15 MB, and the caller's refs 38 MB, as "
		"in "
		"any program that keeps an sb_ref of each: one or two lines of each call are in no cache");
	many_refs(b, refs);
	many_sessions(b, sessions);
}
