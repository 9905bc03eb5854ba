/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forked workers share one live Python object.
 *
 * A dedicated owner process trains a scikit-learn model on the iris flowers. Four forked C workers predict through the
 * same ref; one of them is killed with SIGKILL in mid-call. The owner takes back what it held, and the reaper finds nothing
 * left; inspect shows before and after. Then the owner is killed as well, and the next call says so in milliseconds.
 *
 * The workers never load Python. Exits 0 only if every part went as told.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <snakebridge/snakebridge.h>

#define WORKERS    4
#define ROWS       150
#define PER_WORKER 5 /* rows that each worker predicts and prints */
#define SLEEPER    2 /* the worker that is killed */

static char directory[] = "/tmp/snakebridge-demo-XXXXXX";

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* Ends the demo with the library's own words. */
static void must(int err, const char *what)
{
	if (!err)
		return;
	if (err == SB_EMODULE) { /* a package is missing: skipped, where tests run this */
		printf("demo: %s\n", sb_last_error()->message);
		fflush(stdout);
		_exit(77);
	}
	printf("demo: FAILED: %s: %s (%s)\n%s", what, sb_last_error()->message, sb_error_name(err),
	       sb_last_error()->python_traceback);
	fflush(stdout);
	_exit(1);
}

static void expect(int holds, const char *what)
{
	if (holds)
		return;
	printf("demo: FAILED: expected that %s\n", what);
	fflush(stdout);
	_exit(1);
}

/* ── what the model says ── */

/* model.predict(measurements): an array of species numbers. The value owns it. */
static const int64_t *predict(sb_session *s, const sb_ref *model, sb_array *measurements, sb_value **ret)
{
	const int64_t *species;
	size_t count = 0;

	must(sb_method(s, model, "predict", sb_args("a", measurements), ret), "a prediction");
	species = sb_array_as(sb_value_array(*ret), "int64", &count);
	expect(species && count == sb_array_shape(measurements)[0], "there is a number for each flower");
	return species;
}

/* One flower, as an array of one row. */
static sb_array *flower(sb_session *s, const sb_array *measurements, size_t i)
{
	const size_t columns = sb_array_shape(measurements)[1], shape[2] = { 1, columns };
	const double *numbers = sb_array_as(measurements, "float64", NULL);
	sb_array *row;

	must(sb_array_from(s, "float64", 2, shape, numbers + i * columns, &row), "a row");
	return row;
}

/* ── a worker ── */

/* Python of a forked child that only calls is never loaded: nothing of it is mapped. */
static int python_is_mapped(void)
{
	char line[512];
	int found = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		found |= strstr(line, "libpython") != NULL;
	if (maps)
		fclose(maps);
	return found;
}

static void worker(int number, sb_session *s, const sb_ref *model, const sb_array *measurements,
                   const int64_t *expected)
{
	char line[128];
	int at = 0;

	for (int k = 0; k < PER_WORKER; k++) {
		size_t i = (size_t)(number * PER_WORKER * 7 + k * 7) % ROWS;
		sb_array *row = flower(s, measurements, i);
		sb_value *got = NULL;
		int64_t said = *predict(s, model, row, &got);

		expect(said == expected[i], "a worker's prediction equals the owner's own");
		at += snprintf(line + at, sizeof(line) - (size_t)at, "  flower %zu: %lld", i,
		               (long long)said);
		sb_array_unref(row);
		sb_value_free(got);
	}
	expect(!python_is_mapped(), "a worker has no Python loaded");
	say("  worker %d (pid %d):%s", number, (int)getpid(), line);
	if (number == SLEEPER) /* in mid-call when it is killed */
		sb_call(s, "time:sleep", sb_args("d", 60.0), NULL);
	_exit(0);
}

/* ── the tools, as an operator would use them ── */

static char bin[4096];

static void find_bin(void)
{
	ssize_t n = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
	char *slash;

	expect(n > 0, "this program knows where it lies");
	bin[n] = 0;
	slash = strrchr(bin, '/');
	*slash = 0;
}

static void run_tool(const char *tool, const char *a, const char *b)
{
	char path[4200];
	pid_t pid;
	int status;

	snprintf(path, sizeof(path), "%s/%s", bin, tool);
	printf("$ %s%s%s%s%s\n", tool, a ? " " : "", a ? a : "", b ? " " : "", b ? b : "");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl(path, tool, "--dir", directory, a, b, (char *)NULL);
		_exit(127);
	}
	expect(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	       "the tool succeeds");
}

/* ── the story ── */

static sb_session *open_session(sb_bridge *bridge)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s;
	double t = now_ms();

	options.session_id = "iris";
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &s), "opening the session");
	must(sb_session_get_info(s, &info), "asking for the session's facts");
	say("Session \"iris\" is open; its designated owner is pid %d, ready after %.0f ms.",
	    info.designated_pid, now_ms() - t);
	return s;
}

static void train(sb_session *s, sb_value **data, sb_value **model, sb_value **measurements)
{
	sb_value *species = NULL;
	double t = now_ms();

	must(sb_call(s, "sklearn.datasets:load_iris", NULL, data), "loading the data set");
	say("The owner loaded the iris data: %s.", sb_value_ref(*data)->type_name);
	must(sb_attr(s, sb_value_ref(*data), "data", measurements), "its measurements");
	must(sb_attr(s, sb_value_ref(*data), "target", &species), "its species");
	must(sb_call(s, "sklearn.ensemble:RandomForestClassifier",
	             sb_args("n_estimators=i random_state=i", 50, 7), model),
	     "making the model");
	must(sb_method(s, sb_value_ref(*model), "fit", sb_args("oo", *measurements, species), NULL),
	     "training");
	say("It trained a %s in %.0f ms. The object stays there; here it is a ref.",
	    sb_value_ref(*model)->type_name, now_ms() - t);
	expect(sb_array_shape(sb_value_array(*measurements))[0] == ROWS, "the data set has 150 flowers");
	sb_value_free(species);
}

static void workers_predict(sb_session *s, const sb_ref *model, const sb_array *measurements,
                            const int64_t *expected)
{
	pid_t pids[WORKERS];
	int status;

	say("\nFour forked workers call it through the same handle and the same ref:");
	for (int i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			worker(i, s, model, measurements, expected);
		expect(pids[i] > 0, "fork works");
	}
	for (int i = 0; i < WORKERS; i++) {
		if (i == SLEEPER)
			continue;
		expect(waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status) &&
		               WEXITSTATUS(status) == 0,
		       "each worker succeeds");
	}
	say("All predictions equal those that the owner computed itself.");

	struct timespec moment = { 0, 300 * 1000 * 1000 };

	nanosleep(&moment, NULL); /* the sleeper is in its long call by now */
	say("\nWorker %d is in a call that takes a minute. Before it is killed:", SLEEPER);
	run_tool("sb-inspect", "session", "iris");
	kill(pids[SLEEPER], SIGKILL);
	waitpid(pids[SLEEPER], &status, 0);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the worker died by SIGKILL");
	say("\nKilled worker %d (pid %d) in mid-call. Nobody waits for it:", SLEEPER, (int)pids[SLEEPER]);
}

static void call_goes_on(sb_session *s)
{
	sb_value *v = NULL;
	double root = 0, t = now_ms();

	must(sb_call(s, "math:sqrt", sb_args("i", 16), &v), "a call after the worker's death");
	must(sb_value_float(v, &root), "its result");
	expect(root == 4.0, "sqrt(16) is 4");
	say("  math.sqrt(16) = %g, after %.1f ms, while the dead worker's call still sleeps in the owner.",
	    root, now_ms() - t);
	sb_value_free(v);
}

static void owner_dies(sb_session *s, const sb_ref *model, sb_array *measurements)
{
	sb_session_info info = { .size = sizeof(info) };
	double t;
	int err;

	must(sb_session_get_info(s, &info), "who is the owner");
	say("\nNow the designated owner itself (pid %d) dies by SIGKILL.", info.designated_pid);
	kill(info.designated_pid, SIGKILL);
	t = now_ms();
	err = sb_method(s, model, "predict", sb_args("a", measurements), NULL);
	t = now_ms() - t;
	expect(err == SB_EOWNERDIED, "the next call reports that the owner died");
	say("  The next call, after %.1f ms: %s", t, sb_last_error()->message);
	expect(t < 5000, "it says so at once");
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
	sb_bridge *bridge;
	sb_session *s;
	sb_value *data = NULL, *model = NULL, *measurements = NULL, *predictions = NULL;
	const int64_t *expected;

	find_bin();
	expect(mkdtemp(directory) != NULL, "a temporary directory can be made");
	say("SnakeBridge %s. The bridge is %s.", sb_version(), directory);
	must(sb_bridge_open(directory, NULL, &bridge), "opening the bridge");
	s = open_session(bridge);
	train(s, &data, &model, &measurements);
	expected = predict(s, sb_value_ref(model), sb_value_array(measurements), &predictions);
	workers_predict(s, sb_value_ref(model), sb_value_array(measurements), expected);
	call_goes_on(s);
	say("\nThe owner has taken back what the dead worker held. The reaper looks for anything left:");
	run_tool("sb-reaper", "--once", NULL);
	say("\nAnd now:");
	run_tool("sb-inspect", "session", "iris");
	owner_dies(s, sb_value_ref(model), sb_value_array(measurements));
	sb_value_free(data);
	sb_value_free(model);
	sb_value_free(measurements);
	sb_value_free(predictions);
	sb_bridge_close(bridge);
	run_tool("sb-reaper", "--once", NULL);
	run_tool("sb-inspect", NULL, NULL);
	remove_directory();
	say("demo: ok");
	return 0;
}
