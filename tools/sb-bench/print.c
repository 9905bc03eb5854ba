/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for people and as JSON. */
#include "bench.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "options.h"
#include "render.h"

#define STOLEN_TOLD 1.0 /* percent */

/* Three digits that count, thousands apart. */
static const char *number(double v, char text[32])
{
	char digits[32];
	size_t len, at = 0;

	if (!isfinite(v)) {
		strcpy(text, "-");
		return text;
	}
	snprintf(digits, sizeof(digits), "%.*f", v >= 100 ? 0 : v >= 10 ? 1 : v >= 1 ? 2 : 3, v);
	if (v < 1000)
		return strcpy(text, digits);
	len = strlen(digits);
	for (size_t i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}

static const char *target_text(const struct figure *f, char text[64])
{
	const char *sign = f->target == TARGET_AT_MOST ? "≤" : "≥";
	char limit[32];

	if (f->target == TARGET_NONE)
		return strcpy(text, "");
	number(f->limit, limit);
	if (f->factor == 0)
		snprintf(text, 64, "%s %s", sign, limit);
	else if (f->limit == 0)
		snprintf(text, 64, "%s %g × floor", sign, f->factor);
	else if (f->factor == 1)
		snprintf(text, 64, "%s floor + %s", sign, limit);
	else
		snprintf(text, 64, "%s %g × floor + %s", sign, f->factor, limit);
	return text;
}

static const char *verdict(const struct figure *f)
{
	return f->target == TARGET_NONE ? ""
	       : f->ours.n == 0         ? "not measured"
	       : figure_met(f)          ? "met"
	                                : "falls short";
}

/* Pads by characters, not bytes. */
static void cell(const char *text, int width)
{
	int shown = 0;

	for (const char *at = text; *at; at++)
		shown += (*at & 0xc0) != 0x80;
	if (width < 0)
		printf("%s%*s", text, -width > shown ? -width - shown : 0, "");
	else
		printf("%*s%s", width > shown ? width - shown : 0, "", text);
}

static void print_histogram(const struct figure *f)
{
	uint32_t most = 0;
	uint64_t all = 0, below = 0;

	for (unsigned i = 0; i < BUCKETS; i++) {
		most = f->histogram[i] > most ? f->histogram[i] : most;
		all += f->histogram[i];
	}
	for (unsigned i = 0; i < BUCKETS && below < all; i++) {
		char bound[32];

		below += f->histogram[i];
		if (below == 0)
			continue;
		printf("      up to %7s µs  %8u  %6.2f %%  ", number(histogram_bound_ns(i) / 1e3, bound),
		       f->histogram[i], 100.0 * (double)below / (double)all);
		for (uint64_t n = 0; n < (uint64_t)f->histogram[i] * 40 / most; n++)
			putchar('#');
		putchar('\n');
	}
}

void print_heading(const struct row *row)
{
	printf("\n%s: %s\n", row->name, row->title);
	fflush(stdout);
}

static void print_figure(const struct figure *f)
{
	char text[64], digits[32], spread[80], low[32], high[32];
	double ours = series_median(&f->ours), floor = series_median(&f->floor);

	cell("  ", -2);
	cell(f->label, -54);
	cell(number(ours, digits), 10);
	cell(" ", -1);
	cell(f->unit, -7);
	snprintf(spread, sizeof(spread), "%s … %s", number(series_quartile(&f->ours, 1), low),
	         number(series_quartile(&f->ours, 3), high));
	cell(f->ours.n > 1 ? spread : "", -22);
	cell(target_text(f, text), -20);
	cell(verdict(f), -12);
	putchar('\n');
	if (f->floor.n > 0) {
		cell("    floor: ", -11);
		cell(f->floor_label, -45);
		cell(number(floor, digits), 10);
		cell(" ", -1);
		cell(f->unit, -7);
		printf("ratio %.2f\n", ours / floor);
	}
	if (f->target != TARGET_NONE && !figure_met(f) && *f->tried)
		printf("    tried: %s\n", f->tried);
	print_histogram(f);
}

void print_row(const struct shared_row *result)
{
	for (uint32_t i = 0; i < result->count; i++)
		print_figure(&result->figures[i]);
	if (*result->error)
		printf("  failed: %s\n", result->error);
	if (result->stolen_percent >= STOLEN_TOLD)
		printf("  (this machine's host took %.1f %% of its CPUs' time meanwhile)\n",
		       result->stolen_percent);
	fflush(stdout);
}

/* ── JSON ── */

static json_t *real(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *series_json(const struct series *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "median", real(series_median(s)));
	json_object_set_new(o, "quartile_1", real(series_quartile(s, 1)));
	json_object_set_new(o, "quartile_3", real(series_quartile(s, 3)));
	json_object_set_new(o, "samples", json_integer(s->n));
	return o;
}

static json_t *histogram_json(const struct figure *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < BUCKETS; i++)
		if (f->histogram[i])
			json_array_append_new(list, json_pack("{s:f,s:I}", "up_to_ns", histogram_bound_ns(i),
			                                      "count", (json_int_t)f->histogram[i]));
	return list;
}

static json_t *figure_json(const struct figure *f)
{
	json_t *o = json_object();
	char text[64];

	json_object_set_new(o, "id", json_string(f->id));
	json_object_set_new(o, "label", json_string(f->label));
	json_object_set_new(o, "unit", json_string(f->unit));
	json_object_set_new(o, "ours", series_json(&f->ours));
	if (f->floor.n > 0) {
		json_object_set_new(o, "floor", series_json(&f->floor));
		json_object_set_new(o, "floor_label", json_string(f->floor_label));
		json_object_set_new(o, "ratio", real(series_median(&f->ours) / series_median(&f->floor)));
	}
	if (f->target != TARGET_NONE) {
		json_object_set_new(o, "target", json_string(target_text(f, text)));
		json_object_set_new(o, "ratio_to_target", real(series_median(&f->ours) / figure_bound(f)));
		json_object_set_new(o, "verdict", json_string(verdict(f)));
		if (!figure_met(f) && *f->tried)
			json_object_set_new(o, "tried", json_string(f->tried));
	}
	for (unsigned i = 0; i < BUCKETS; i++)
		if (f->histogram[i]) {
			json_object_set_new(o, "histogram", histogram_json(f));
			break;
		}
	return o;
}

int print_json(const struct tool *tool, const struct bench *bench, const struct row **rows,
               const struct shared_row *results, unsigned count)
{
	json_t *all = json_object(), *list = json_array();
	struct utsname name;

	uname(&name);
	json_object_set_new(all, "schema", json_integer(1));
	json_object_set_new(all, "version", json_string(sb_version()));
	json_object_set_new(all, "kernel", json_string(name.release));
	json_object_set_new(all, "cpus", json_integer(bench->cpus));
	json_object_set_new(all, "rounds", json_integer(bench->rounds));
	for (unsigned i = 0; i < count; i++) {
		json_t *o = json_object(), *figures = json_array();

		json_object_set_new(o, "row", json_string(rows[i]->name));
		json_object_set_new(o, "title", json_string(rows[i]->title));
		for (uint32_t k = 0; k < results[i].count; k++)
			json_array_append_new(figures, figure_json(&results[i].figures[k]));
		json_object_set_new(o, "figures", figures);
		json_object_set_new(o, "stolen_percent", real(results[i].stolen_percent));
		if (*results[i].error)
			render_text(o, "error", results[i].error);
		json_array_append_new(list, o);
	}
	json_object_set_new(all, "rows", list);
	return render_line(tool, all);
}
