/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four processes work on one image that Python holds, each on a quarter of it, in place: nobody copies a pixel.
 *
 * A dedicated owner makes the image with NumPy. Each worker asks for its quarter as a view, image[0:600, 800:1600], and gets
 * an array over the owner's own memory, with the strides that the whole image has. What a worker writes, the owner sees;
 * in the end it says whether all was done. The workers need not be forked from one parent: whoever opens the session can ask.
 *
 * The workers never load Python. Exits 0 only if every part went as told, 77 where NumPy is missing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <snakebridge/snakebridge.h>

#define ROWS    1200
#define COLUMNS 1600
#define WORKERS 4

static const char source[] = "import numpy as np\n"
			     "y, x = np.mgrid[0:1200, 0:1600]\n"
			     "image = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)\n"
			     "before = image.copy()\n"
			     "def is_negative():\n"
			     "  return bool((image == 255 - before).all())\n";

static char directory[] = "/dev/shm/snakebridge-image-XXXXXX";

/* Ends with the library's own words. */
static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "shared_image: %s: %s\n%s", what, sb_last_error()->message,
	        sb_last_error()->python_traceback);
	_exit(err == SB_EMODULE ? 77 : 1);
}

static void expect(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "shared_image: expected that %s\n", what);
	_exit(1);
}

/* ── a worker ── */

static void put_slice(sb_builder *b, int64_t start, int64_t stop)
{
	sb_builder_begin(b, SB_KIND_SLICE);
	sb_builder_int(b, start);
	sb_builder_int(b, stop);
	sb_builder_none(b);
	sb_builder_end(b);
}

/* image[first row : last row, first column : last column], shared and not copied. */
static sb_value *quarter(sb_session *s, const sb_ref *image, int number)
{
	int64_t row = number / 2 * (ROWS / 2), column = number % 2 * (COLUMNS / 2);
	sb_request request = SB_REQUEST_INIT;
	sb_builder *b = sb_builder_new();
	sb_value *key, *view;

	sb_builder_begin(b, SB_KIND_TUPLE);
	put_slice(b, row, row + ROWS / 2);
	put_slice(b, column, column + COLUMNS / 2);
	sb_builder_end(b);
	must(sb_builder_finish(b, &key), "the key");
	request.verb = SB_VERB_GETITEM;
	request.target = image;
	request.args = sb_args("o", key);
	request.flags = SB_CALL_AS_VIEW;
	must(sb_invoke(s, &request, &view), "a quarter of the image");
	sb_value_free(key);
	return view;
}

static void negate(sb_array *part)
{
	const size_t *shape = sb_array_shape(part);
	const int64_t *strides = sb_array_strides(part);
	uint8_t *pixels = sb_array_writable(part);

	expect(pixels != NULL, "the quarter may be written to");
	for (size_t y = 0; y < shape[0]; y++)
		for (size_t x = 0; x < shape[1]; x++)
			for (size_t c = 0; c < shape[2]; c++) {
				uint8_t *channel = pixels + (int64_t)y * strides[0] +
				                   (int64_t)x * strides[1] + (int64_t)c * strides[2];

				*channel = (uint8_t)(255 - *channel);
			}
}

static void work(sb_session *s, const sb_ref *image, int number)
{
	sb_value *view = quarter(s, image, number);
	sb_array *part = sb_value_array(view);

	expect(part && sb_array_is_shared(part) && sb_array_ndim(part) == 3, "the quarter is shared memory");
	negate(part);
	printf("  worker %d (pid %d): %zu x %zu pixels, a row every %lld bytes, in place\n", number,
	       (int)getpid(), sb_array_shape(part)[0], sb_array_shape(part)[1],
	       (long long)sb_array_strides(part)[0]);
	fflush(stdout);
	sb_value_free(view);
	_exit(0);
}

static void run_workers(sb_session *s, const sb_ref *image)
{
	pid_t pids[WORKERS];
	int status;

	for (int i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			work(s, image, i);
		expect(pids[i] > 0, "fork works");
	}
	for (int i = 0; i < WORKERS; i++)
		expect(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "each worker succeeds");
}

/* ── the owner ── */

/* Runs the source there; *ret_names: what it defines. */
static void prepare(sb_session *s, sb_value **ret_names, sb_value **ret_image)
{
	sb_request request = SB_REQUEST_INIT;

	/* First: from then on NumPy's large arrays are made in memory that can be shared. */
	must(sb_get(s, "numpy", NULL), "NumPy");
	request.name = "builtins:dict";
	request.flags = SB_CALL_AS_REF;
	must(sb_invoke(s, &request, ret_names), "names");
	must(sb_call(s, "builtins:exec", sb_args("sr", source, sb_value_ref(*ret_names)), NULL),
	     "making the image");
	request = (sb_request)SB_REQUEST_INIT;
	request.verb = SB_VERB_GETITEM;
	request.target = sb_value_ref(*ret_names);
	request.args = sb_args("s", "image");
	request.flags = SB_CALL_AS_REF; /* else it would come over */
	must(sb_invoke(s, &request, ret_image), "the image");
}

static int is_negative(sb_session *s, const sb_ref *names)
{
	sb_value *function = NULL, *answer = NULL;
	bool yes = false;

	must(sb_getitem(s, names, sb_args("s", "is_negative"), &function), "the check");
	must(sb_method(s, sb_value_ref(function), "__call__", NULL, &answer), "checking");
	must(sb_value_bool(answer, &yes), "its answer");
	sb_value_free(function);
	sb_value_free(answer);
	return yes;
}

int main(void)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_value *names = NULL, *image = NULL;
	char command[64];
	sb_bridge *bridge;
	sb_session *s;

	expect(mkdtemp(directory) != NULL, "a directory can be made in /dev/shm");
	must(sb_bridge_open(directory, NULL, &bridge), "opening the bridge");
	options.session_id = "image";
	options.designated = SB_DESIGNATED_DEDICATED;
	must(sb_session_open(bridge, &options, &s), "opening the session");
	prepare(s, &names, &image);
	printf("The owner holds an image of %d x %d pixels, %s. Four processes make its negative:\n", ROWS,
	       COLUMNS, sb_value_ref(image)->type_name);
	fflush(stdout);
	expect(!is_negative(s, sb_value_ref(names)), "nothing is done yet");
	run_workers(s, sb_value_ref(image));
	expect(is_negative(s, sb_value_ref(names)), "the owner sees what the workers wrote");
	printf("The owner compared it with the original: every pixel is done.\n");
	sb_value_free(names);
	sb_value_free(image);
	sb_session_close(s);
	sb_bridge_close(bridge);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	expect(system(command) == 0, "the directory can be removed");
	printf("shared_image: ok\n");
	return 0;
}
