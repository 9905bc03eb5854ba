/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about refs and arrays. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* ── refs ── */

static const char made_source[] = "class Made: pass\n"
				  "def bare(n):\n"
				  "  t = time.perf_counter()\n"
				  "  for _ in range(n): Made()\n"
				  "  return (time.perf_counter() - t) / n * 1e9\n";

static double made_rate(struct bench *b, const sb_ref *made)
{
	double begun = now_ns();
	unsigned n = 0;

	for (; n < 100 || now_ns() - begun < b->seconds * 1e9 / 4; n++) {
		sb_value *v;

		must(sb_method(b->session, made, "__call__", NULL, &v), "an instance");
		must(sb_ref_release(b->session, sb_value_ref(v), NULL), "its release");
		sb_value_free(v);
	}
	return n / (now_ns() - begun) * 1e9;
}

void row_refs(struct bench *b)
{
	struct figure *f;
	sb_ref made;

	bench_owner(b, made_source, SB_UNSET);
	made = bench_name(b->session, &b->names, "Made");
	place(b, b->owner, b->cpu[1]);
	place(b, getpid(), b->cpu[0]);
	f = figure_new("refs", "refs made and released, two calls each", "/s");
	figure_floor_label(f, "instance made and dropped in a Python loop");
	figure_target(f, TARGET_AT_LEAST, 0, 300000);
	figure_tried(f, "what calls in general got; what is known of a class, and its name among the rows, "
	                "is kept; a "
	                "ref that is all of a reply is read once; each is two round trips");
	made_rate(b, &made);
	for (unsigned i = 0; i < b->rounds; i++) {
		series_add(&f->floor, 1e9 / bench_ask_number(b, "bare", sb_args("i", (int64_t)20000)));
		series_add(&f->ours, made_rate(b, &made));
	}
}

static const char many_source[] = "class Made: __slots__ = ()\n"
				  "made = []\n"
				  "def make(n):\n"
				  "  made.extend(Made() for _ in range(n))\n"
				  "  made.append(None)\n"
				  "def give(at, n): return made[at:at + n]\n";

void row_ref_memory(struct bench *b)
{
	enum { REFS = 100000, PART = 1000 };
	struct figure *f;
	double before, after;

	bench_owner(b, many_source, 2 * REFS);
	f = figure_new("ref_bytes", "memory per ref beside the object: owner's and tmpfs", "bytes");
	figure_target(f, TARGET_AT_MOST, 0, 160);
	figure_tried(
		f, "80 bytes in the owner's tables and a row of 32 for people; a type's name is there once, "
		   "and the rows' file grows by 64 KiB");
	sb_value_free(bench_ask(b, "make", sb_args("i", (int64_t)REFS), 0));
	sb_value_free(bench_ask(b, "give", sb_args("ii", (int64_t)0, (int64_t)PART), 0));
	before = status_kib(b->owner, "RssAnon:") * 1024 + tree_bytes(b->dir);
	for (int at = PART; at < REFS; at += PART)
		sb_value_free(bench_ask(b, "give", sb_args("ii", (int64_t)at, (int64_t)PART), 0));
	after = status_kib(b->owner, "RssAnon:") * 1024 + tree_bytes(b->dir);
	series_add(&f->ours, (after - before) / (REFS - PART));
}

/* ── arrays ── */

#define COUNT ((size_t)8 << 20) /* 64 MiB of float64 */

static const char array_source[] =
	"import numpy as np\n"
	"def total(a): return float(a.sum())\n"
	"def bare(a):\n"
	"  t = time.perf_counter(); a.sum(); return (time.perf_counter() - t) * 1e3\n"
	"big = np.zeros(1 << 23)\n"
	"def get(): return big\n";

struct arrays {
	double *ordinary, *other;
	sb_array *shared;
};

static double copy_ms(struct arrays *a)
{
	double begun = now_ns();

	memcpy(a->other, a->ordinary, COUNT * sizeof(double));
	return (now_ns() - begun) / 1e6;
}

/* The owner had nothing to do while this process copied: without these calls waking it would be measured, as in other rows. */
static double begin_awake(struct bench *b)
{
	bench_noops(b->session, &b->nothing, 20);
	return now_ns();
}

static double total_ms(struct bench *b, sb_array *array)
{
	double begun = begin_awake(b);

	(void)bench_ask_number(b, "total", sb_args("a", array));
	return (now_ns() - begun) / 1e6;
}

static double from_ms(struct bench *b, struct arrays *a)
{
	size_t n = COUNT;
	double begun = now_ns();
	sb_array *copy;

	must(sb_array_from(b->session, "f8", 1, &n, a->ordinary, &copy), "a copy");
	(void)bench_ask_number(b, "total", sb_args("a", copy));
	sb_array_unref(copy);
	return (now_ns() - begun) / 1e6;
}

static double get_ms(struct bench *b, uint32_t flags)
{
	double begun = begin_awake(b);

	sb_value_free(bench_ask(b, "get", NULL, flags));
	return (now_ns() - begun) / 1e6;
}

static void prepare_arrays(struct bench *b, struct arrays *a)
{
	size_t n = COUNT;
	sb_value *v;

	a->ordinary = malloc(COUNT * sizeof(double));
	a->other = malloc(COUNT * sizeof(double));
	if (!a->ordinary || !a->other)
		give_up("no memory");
	bench_owner(b, NULL, SB_UNSET);
	if (sb_get(b->session, "numpy", &v))
		give_up("NumPy cannot be imported: %s", sb_last_error()->message);
	sb_value_free(v);
	must(sb_call(b->session, "builtins:exec", sb_args("sr", array_source, &b->names), NULL),
	     "the source");
	must(sb_array_new(b->session, "f8", 1, &n, &a->shared), "an array");
	for (size_t i = 0; i < n; i++)
		((double *)sb_array_writable(a->shared))[i] = a->ordinary[i] = a->other[i] = (double)i;
}

void row_arrays(struct bench *b)
{
	struct arrays a;
	struct figure *in, *from, *view, *snapshot;

	prepare_arrays(b, &a);
	in = figure_new("array_in_arena", "64 MiB in, made in shared memory, its sum out", "ms");
	figure_floor_label(in, "NumPy's sum alone");
	figure_target(in, TARGET_AT_MOST, 1, 0.05);
	figure_tried(in, "nothing is copied and the owner's mapping is kept; what is over the sum is the "
	                 "call, whose caller "
	                 "sleeps meanwhile and is woken");
	from = figure_new("array_in_ordinary", "64 MiB in, from ordinary memory, its sum out", "ms");
	figure_floor_label(from, "NumPy's sum and 1.3 × memcpy into warm pages");
	figure_target(from, TARGET_AT_MOST, 1, 0);
	figure_tried(from, "one copy, into pages that an earlier array left warm");
	view = figure_new("array_out_view", "64 MiB out, as a view", "ms");
	figure_target(view, TARGET_AT_MOST, 0, 0.05);
	figure_tried(view, "nothing is copied; what it takes is the call");
	snapshot = figure_new("array_out_snapshot", "64 MiB out, as a snapshot", "ms");
	figure_floor_label(snapshot, "memcpy into warm pages");
	figure_target(snapshot, TARGET_AT_MOST, 1.3, 0);
	figure_tried(snapshot, "one copy, into pages that an earlier snapshot left warm");
	for (unsigned i = 0; i < b->rounds + 2; i++) {
		double sum = bench_ask_number(b, "bare", sb_args("a", a.shared)), copy = copy_ms(&a);
		double took[4] = { total_ms(b, a.shared), from_ms(b, &a), get_ms(b, SB_CALL_AS_VIEW),
			           get_ms(b, 0) };

		if (i < 2) /* pages and mappings get warm */
			continue;
		series_add(&in->floor, sum);
		series_add(&from->floor, sum + 1.3 * copy);
		series_add(&snapshot->floor, copy);
		series_add(&in->ours, took[0]);
		series_add(&from->ours, took[1]);
		series_add(&view->ours, took[2]);
		series_add(&snapshot->ours, took[3]);
	}
	sb_array_unref(a.shared);
}
