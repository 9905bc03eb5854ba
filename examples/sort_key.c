/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C functions that Python calls: as the key of sorted(), as what functools.reduce() folds with, and one that calls in turn.
 *
 * The list lies in a dedicated owner process; the functions run here, in the thread that makes the call, while it waits. Exits
 * 0 only if every part went as told.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <snakebridge/snakebridge.h>

static char directory[] = "/tmp/snakebridge-sort-key-XXXXXX";

/* Ends the example with the library's own words. */
static void must(int err, const char *what)
{
	if (!err)
		return;
	printf("sort_key: FAILED: %s: %s (%s)\n%s", what, sb_last_error()->message, sb_error_name(err),
	       sb_last_error()->python_traceback);
	exit(1);
}

static void expect(int holds, const char *what)
{
	if (holds)
		return;
	printf("sort_key: FAILED: expected that %s\n", what);
	exit(1);
}

static void show(const char *what, const sb_value *value)
{
	printf("%-34s ", what);
	must(sb_value_print(value, stdout), "printing");
	putchar('\n');
}

/* ── the functions ── */

/* The price of a row: its key. arg: counts the calls. */
static int by_price(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	double price;
	int err = sb_value_unpack(args, "({s: d, *})", "price", &price);

	(void)kwargs;
	++*(int *)arg;
	return err ? err : sb_value_pack(ret_value, "d", price);
}

/* What reduce() folds with: the sum so far, and a row. */
static int add_price(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	double sum, price;
	int err = sb_value_unpack(args, "(d {s: d, *})", &sum, "price", &price);

	(void)arg;
	(void)kwargs;
	return err ? err : sb_value_pack(ret_value, "d", sum + price);
}

/* A check that Python sees as an exception of its own kind. */
static int affordable(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	const double *most = arg;
	const char *name;
	double price;
	int err = sb_value_unpack(args, "({s: s, s: d, *})", "name", &name, "price", &price);

	(void)kwargs;
	if (!err && price > *most)
		return sb_callback_raise("ValueError", "%s costs %.2f, which is more than %.2f", name, price,
		                         *most);
	return err ? err : sb_value_pack(ret_value, "b", 1);
}

/* It may call, too: here the session that is waiting for it. */
static int title(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret_value)
{
	sb_session *session = arg;
	const char *name;
	int err = sb_value_unpack(args, "({s: s, *})", "name", &name);

	(void)kwargs;
	return err ? err : sb_call(session, "builtins:str.title", sb_args("s", name), ret_value);
}

/* ── using them ── */

static void sort_rows(sb_session *s, const sb_value *rows)
{
	sb_value *sorted = NULL, *sum = NULL;
	const char *first;
	double total;
	int calls = 0;

	must(sb_call(s, "builtins:sorted", sb_args("o key=k reverse=b", rows, by_price, &calls, 1), &sorted),
	     "sorting");
	show("sorted(rows, key=by_price):", sorted);
	must(sb_value_unpack(sorted, "[{s: s, *} *]", "name", &first), "the dearest");
	expect(strcmp(first, "cherries") == 0 && calls == 3,
	       "cherries are the dearest, found with a key for each row");
	must(sb_call(s, "functools:reduce", sb_args("kod", add_price, NULL, rows, 0.0), &sum), "adding up");
	show("functools.reduce(add_price, …):", sum);
	must(sb_value_float(sum, &total), "the sum");
	expect(total == 13.75, "the prices add up to 13.75");
	sb_value_free(sorted);
	sb_value_free(sum);
}

static void fail_and_call(sb_session *s, const sb_value *rows)
{
	sb_value *titles = NULL;
	double most = 5;
	int err;

	err = sb_call(s, "builtins:eval",
	              sb_args("s{sosk}", "[ok(row) for row in rows]", "rows", rows, "ok", affordable, &most),
	              NULL);
	expect(err == SB_EPYTHON && strcmp(sb_last_error()->python_type, "builtins.ValueError") == 0,
	       "the function's error becomes Python's");
	printf("%-34s %s\n", "its error is an exception:", sb_last_error()->message);
	must(sb_call(s, "builtins:eval",
	             sb_args("s{sosk}", "[t(row) for row in rows]", "rows", rows, "t", title, s), &titles),
	     "calling from a function");
	show("a function that calls:", titles);
	expect(sb_value_len(titles) == 3, "each row has a title");
	sb_value_free(titles);
}

static void remove_directory(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", directory);
	if (system(command) != 0)
		fprintf(stderr, "could not remove %s\n", directory);
}

int main(void)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_value *rows = NULL;
	sb_bridge *bridge;
	sb_session *s;

	expect(mkdtemp(directory) != NULL, "a temporary directory can be made");
	must(sb_bridge_open(directory, NULL, &bridge), "opening the bridge");
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &s), "opening the session");
	must(sb_value_pack(&rows, "[{sssd}{sssd}{sssd}]", "name", "apples", "price", 2.25, "name", "cherries",
	                   "price", 8.5, "name", "plums", "price", 3.0),
	     "making the rows");
	sort_rows(s, rows);
	fail_and_call(s, rows);
	sb_value_free(rows);
	sb_session_close(s);
	sb_bridge_close(bridge);
	remove_directory();
	puts("sort_key: ok");
	return 0;
}
