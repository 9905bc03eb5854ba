/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pandas DataFrame in the owner, queries from forked workers.
 *
 * The columns are made here: an array of numbers in shared memory, which NumPy there has without a copy, and a list of
 * texts. Each worker asks the table about one region, takes its amounts over as an array, and compares with what it computes
 * itself. The table stays where it is. One worker asks for a column that there is not, and learns what Python raised.
 *
 * The workers never load Python. Exits 0 only if every part went as told, 77 where pandas is missing.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <snakebridge/snakebridge.h>

#define ROWS    20000
#define REGIONS 4

static const char *const regions[REGIONS] = { "north", "east", "south", "west" };
static char directory[] = "/tmp/snakebridge-pandas-XXXXXX";

/* Ends with the library's own words. */
static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "pandas_queries: %s: %s\n%s", what, sb_last_error()->message,
	        sb_last_error()->python_traceback);
	_exit(err == SB_EMODULE ? 77 : 1);
}

static void expect(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "pandas_queries: expected that %s\n", what);
	_exit(1);
}

/* ── the table ── */

static int region_of(size_t row)
{
	return (int)(row % 7 % REGIONS);
}

static double amount_of(size_t row)
{
	return (double)(row * 37 % 1000) / 4;
}

/* pandas.DataFrame({"region": [...], "amount": array}), which stays in the owner. */
static sb_value *make_table(sb_session *s)
{
	const size_t rows = ROWS;
	sb_builder *b = sb_builder_new();
	sb_value *names, *table = NULL;
	sb_array *amounts;
	double *amount;

	must(sb_array_new(s, "float64", 1, &rows, &amounts), "an array in shared memory");
	amount = sb_array_writable(amounts);
	sb_builder_begin(b, SB_KIND_LIST);
	for (size_t i = 0; i < rows; i++) {
		amount[i] = amount_of(i);
		sb_builder_str(b, regions[region_of(i)]);
	}
	sb_builder_end(b);
	must(sb_builder_finish(b, &names), "the names of the regions");
	must(sb_call(s, "pandas:DataFrame", sb_args("{sosa}", "region", names, "amount", amounts), &table),
	     "the table");
	sb_value_free(names);
	sb_array_unref(amounts);
	return table;
}

/* ── a worker ── */

/* table.query("region == 'north'")["amount"].to_numpy() */
static sb_value *amounts_of(sb_session *s, const sb_ref *table, const char *region)
{
	sb_value *rows = NULL, *column = NULL, *amounts = NULL;
	char query[64];

	snprintf(query, sizeof(query), "region == '%s'", region);
	must(sb_method(s, table, "query", sb_args("s", query), &rows), query);
	must(sb_getitem(s, sb_value_ref(rows), sb_args("s", "amount"), &column), "its amounts");
	must(sb_method(s, sb_value_ref(column), "to_numpy", NULL, &amounts), "as an array");
	sb_ref_release(s, sb_value_ref(rows), NULL); /* the table of these rows is not needed any more */
	sb_ref_release(s, sb_value_ref(column), NULL);
	sb_value_free(rows);
	sb_value_free(column);
	return amounts;
}

static void ask_wrongly(sb_session *s, const sb_ref *table)
{
	expect(sb_getitem(s, table, sb_args("s", "amuont"), NULL) == SB_EPYTHON,
	       "a column that is not there is an error");
	expect(sb_last_error()->outcome == SB_OUTCOME_EXCEPTION &&
	               strcmp(sb_last_error()->python_type, "builtins.KeyError") == 0,
	       "it is Python's KeyError");
	printf("  a mistake: %s\n", sb_last_error()->message);
}

static void work(sb_session *s, const sb_ref *table, int region)
{
	sb_value *value = amounts_of(s, table, regions[region]);
	double sum = 0, expected = 0;
	size_t count = 0, rows = 0;
	const double *amount = sb_array_as(sb_value_array(value), "float64", &count);

	for (size_t i = 0; i < ROWS; i++)
		if (region_of(i) == region) {
			expected += amount_of(i);
			rows++;
		}
	expect(amount && count == rows, "every row of the region came");
	for (size_t i = 0; i < count; i++)
		sum += amount[i];
	expect(fabs(sum - expected) < 1e-6 * expected, "the amounts are those that went into the table");
	if (region == 0)
		ask_wrongly(s, table);
	printf("  worker %d (pid %d): %s, %zu rows, %.2f in all\n", region, (int)getpid(), regions[region],
	       count, sum);
	fflush(stdout);
	sb_value_free(value);
	_exit(0);
}

static void run_workers(sb_session *s, const sb_ref *table)
{
	pid_t pids[REGIONS];
	int status;

	for (int i = 0; i < REGIONS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			work(s, table, i);
		expect(pids[i] > 0, "fork works");
	}
	for (int i = 0; i < REGIONS; i++)
		expect(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "each worker succeeds");
}

/* ── a small result, as plain values ── */

/* table.groupby("region")["amount"].max().to_dict(): {"east": 249.75, ...} */
static void print_highest(sb_session *s, const sb_ref *table)
{
	sb_value *groups = NULL, *column = NULL, *highest = NULL, *dict = NULL;

	must(sb_method(s, table, "groupby", sb_args("s", "region"), &groups), "groups");
	must(sb_getitem(s, sb_value_ref(groups), sb_args("s", "amount"), &column), "their amounts");
	must(sb_method(s, sb_value_ref(column), "max", NULL, &highest), "the highest");
	must(sb_method(s, sb_value_ref(highest), "to_dict", NULL, &dict), "as a dict");
	expect(sb_value_len(dict) == REGIONS, "each region has one");
	for (size_t i = 0; i < sb_value_len(dict); i++) {
		double amount = 0;

		must(sb_value_float(sb_value_at(dict, i), &amount), "a number");
		printf("  %s: at most %.2f\n", sb_value_str(sb_value_key_at(dict, i), NULL), amount);
	}
	sb_value_free(groups);
	sb_value_free(column);
	sb_value_free(highest);
	sb_value_free(dict);
}

int main(void)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	char command[64];
	sb_bridge *bridge;
	sb_session *s;
	sb_value *table;

	expect(mkdtemp(directory) != NULL, "a temporary directory can be made");
	must(sb_bridge_open(directory, NULL, &bridge), "opening the bridge");
	options.session_id = "sales";
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &s), "opening the session");
	table = make_table(s);
	printf("The owner holds a %s of %d rows. Four forked workers ask it:\n",
	       sb_value_ref(table)->type_name, ROWS);
	fflush(stdout);
	run_workers(s, sb_value_ref(table));
	print_highest(s, sb_value_ref(table));
	sb_value_free(table);
	sb_session_close(s);
	sb_bridge_close(bridge);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	expect(system(command) == 0, "the directory can be removed");
	printf("pandas_queries: ok\n");
	return 0;
}
