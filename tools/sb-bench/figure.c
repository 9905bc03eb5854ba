/* SPDX-License-Identifier: Apache-2.0 */
/* Figures: samples, medians and spread, targets and verdicts, histograms. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shared_row *bench_shared;

struct figure *figure_new(const char *id, const char *label, const char *unit)
{
	struct figure *f;

	if (bench_shared->count == FIGURES_MAX)
		give_up("more than %d figures in a row", FIGURES_MAX);
	f = &bench_shared->figures[bench_shared->count++];
	memset(f, 0, sizeof(*f));
	snprintf(f->id, sizeof(f->id), "%s", id);
	snprintf(f->label, sizeof(f->label), "%s", label);
	snprintf(f->unit, sizeof(f->unit), "%s", unit);
	return f;
}

void figure_target(struct figure *figure, enum target target, double factor, double limit)
{
	figure->target = target;
	figure->factor = factor;
	figure->limit = limit;
}

void figure_floor_label(struct figure *figure, const char *label)
{
	snprintf(figure->floor_label, sizeof(figure->floor_label), "%s", label);
}

void figure_tried(struct figure *figure, const char *text)
{
	snprintf(figure->tried, sizeof(figure->tried), "%s", text);
}

void series_add(struct series *series, double v)
{
	if (series->n < SAMPLES_MAX)
		series->v[series->n++] = v;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double series_quartile(const struct series *series, int quarter)
{
	double sorted[SAMPLES_MAX];

	if (series->n == 0)
		return NAN;
	memcpy(sorted, series->v, series->n * sizeof(*sorted));
	qsort(sorted, series->n, sizeof(*sorted), ascending);
	return sorted[(size_t)quarter * (series->n - 1) / 4];
}

double series_median(const struct series *series)
{
	return series_quartile(series, 2);
}

double figure_bound(const struct figure *figure)
{
	double bound = figure->limit;

	if (figure->factor != 0)
		bound += figure->factor * series_median(&figure->floor);
	return bound;
}

bool figure_met(const struct figure *figure)
{
	double ours = series_median(&figure->ours), bound = figure_bound(figure);

	switch (figure->target) {
	case TARGET_AT_MOST: return ours <= bound;
	case TARGET_AT_LEAST: return ours >= bound;
	case TARGET_NONE: break;
	}
	return true;
}

/* Four buckets to an octave. */
double histogram_bound_ns(unsigned bucket)
{
	return 100.0 * exp2((bucket + 1) / 4.0);
}

void histogram_add(struct figure *figure, double ns)
{
	int bucket = ns <= 100 ? 0 : (int)(log2(ns / 100.0) * 4.0);

	figure->histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}
