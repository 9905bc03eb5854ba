/* SPDX-License-Identifier: Apache-2.0 */
/* npy files: headers right and wrong, files that are cut off, and arrays there and back. The seed is printed; SB_TEST_SEED sets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "npy.h"

/* A file of that version with this header, and elements; at its beginning, without the magic. */
static FILE *file_of(int version, const char *header, size_t elements)
{
	FILE *file = tmpfile();
	size_t len = strlen(header);

	assert_non_null(file);
	fputc(version, file);
	fputc(0, file);
	for (int i = 0; i < (version == 1 ? 2 : 4); i++)
		fputc((int)(len >> 8 * i & 0xff), file);
	fputs(header, file);
	for (size_t i = 0; i < elements; i++)
		fputc((int)(i & 0xff), file);
	rewind(file);
	return file;
}

static void test_headers(void **state)
{
	static const struct {
		const char *header, *dtype;
		size_t itemsize, nbytes;
		int ndim;
		bool fortran;
	} good[] = {
		{ "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }  \n", "<f8", 8, 96, 2, false },
		{ "{\"shape\":(2,),\"descr\":\"|u1\",\"fortran_order\":True}\n", "|u1", 1, 2, 1, true },
		{ "{'descr': '<U5', 'fortran_order': False, 'shape': ()}", "<U5", 20, 20, 0, false },
		{ "{'descr': '>c16', 'fortran_order': False, 'shape': (0L, 7L)}", ">c16", 16, 0, 2, false },
		{ "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,)}", "<M8[ns]", 8, 8, 1, false },
		{ "{'descr': '<m8[25us]', 'fortran_order': False, 'shape': (1,),}", "<m8[25us]", 8, 8, 1,
		  false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		for (int version = 1; version <= 3; version++) {
			FILE *file = file_of(version, good[i].header, 200);
			char error[TOOL_NPY_ERROR_MAX] = "";
			struct tool_npy npy;

			if (!tool_npy_read_header(file, &npy, error))
				fail_msg("%s: %s", good[i].header, error);
			assert_string_equal(npy.dtype, good[i].dtype);
			assert_int_equal(npy.itemsize, good[i].itemsize);
			assert_int_equal(npy.nbytes, good[i].nbytes);
			assert_int_equal(npy.ndim, good[i].ndim);
			assert_int_equal(npy.fortran, good[i].fortran);
			assert_int_equal(ftell(file), (version == 1 ? 4 : 6) + (long)strlen(good[i].header));
			fclose(file);
		}
}

static void test_wrong_headers(void **state)
{
	static const struct {
		int version;
		const char *header, *says;
	} wrong[] = {
		{ 0, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", "version 0.0" },
		{ 4, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", "version 4.0" },
		{ 1, "", "the header is not" },
		{ 1, "{}", "says not all" },
		{ 1, "{'descr': '<f8', 'shape': (3,)}", "says not all" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)} x", "the header is not" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3)}", "the header is not" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3 4)}", "the header is not" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': [3]}", "the header is not" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}", "negative" },
		{ 1, "{'descr': '<f8', 'fortran_order': 0, 'shape': (3,)}", "the header is not" },
		{ 1, "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", "twice" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}", "means nothing" },
		{ 1, "{'descr: '<f8', 'fortran_order': False}", "the header is not" },
		{ 1, "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "Python objects" },
		{ 1, "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,)}", "fields" },
		{ 1, "{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (3,)}", "fields" },
		{ 1, "{'descr': '|V8', 'fortran_order': False, 'shape': (3,)}", "not one of numbers" },
		{ 1, "{'descr': '', 'fortran_order': False, 'shape': (3,)}", "not one of numbers" },
		{ 1, "{'descr': 'f', 'fortran_order': False, 'shape': (3,)}", "not one of numbers" },
		{ 1, "{'descr': '<f8x', 'fortran_order': False, 'shape': (3,)}", "not one of numbers" },
		{ 1, "{'descr': '<U99999999999', 'fortran_order': False, 'shape': (3,)}",
		  "not one of numbers" },
		{ 1, "{'descr': '<f8<f8<f8<f8<f8<f8<f8<f8<f8<f8<f8', 'fortran_order': False, 'shape': ()}",
		  "a text of" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
		  "beyond any memory" },
		{ 1,
		  "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296)}",
		  "beyond any memory" },
		{ 1,
		  "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, "
		  "4611686018427387904, 0)}",
		  "beyond any memory" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,)}",
		  "beyond any memory" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}",
		  "is cut off: it has 200" },
		{ 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (26,)}",
		  "is cut off: it has 200 of the 208" },
		{ 1,
		  "{'descr': '<f8', 'fortran_order': False, 'shape': "
		  "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}",
		  "more than 32 dimensions" },
	};
	struct tool_npy npy;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		FILE *file = file_of(wrong[i].version, wrong[i].header, 200);
		char error[TOOL_NPY_ERROR_MAX] = "";

		if (tool_npy_read_header(file, &npy, error))
			fail_msg("%s was read", wrong[i].header);
		if (!strstr(error, wrong[i].says))
			fail_msg("%s: %s", wrong[i].header, error);
		fclose(file);
	}
}

static void test_cut_off_at_each_byte(void **state)
{
	static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}";
	struct tool_npy npy;
	char error[TOOL_NPY_ERROR_MAX];

	(void)state;
	for (size_t len = 0; len < 4 + strlen(header) + 24; len++) {
		FILE *file = file_of(1, header, 24);

		assert_int_equal(ftruncate(fileno(file), (off_t)len), 0);
		assert_false(tool_npy_read_header(file, &npy, error));
		assert_non_null(strstr(error, "cut off"));
		fclose(file);
	}
}

/* Whatever a header says: read, or refused with a sentence. */
static void test_random_headers(void **state)
{
	static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }";
	static const char alphabet[] = "{}()[],:'\"LTFalse0123456789<>|=OUSMm \\\x01\xff";
	const char *given = getenv("SB_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);

	(void)state;
	print_message("SB_TEST_SEED=%u\n", seed);
	for (int i = 0; i < 20000; i++) {
		char text[sizeof(header) + 8], bytes[sizeof(text) + 8] = { 1, 0 },
								    error[TOOL_NPY_ERROR_MAX] = "";
		struct tool_npy npy;
		FILE *file;

		strcpy(text, header);
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			text[(unsigned)rand_r(&seed) % strlen(header)] =
				alphabet[(unsigned)rand_r(&seed) % (sizeof(alphabet) - 1)];
		bytes[2] = (char)strlen(text);
		memcpy(bytes + 4, text, strlen(text));
		file = fmemopen(bytes, 4 + strlen(text), "r");
		assert_non_null(file);
		if (!tool_npy_read_header(file, &npy, error))
			assert_true(error[0]);
		else
			assert_true(npy.ndim <= SB_ARRAY_NDIM_MAX && npy.nbytes == npy.count * npy.itemsize);
		fclose(file);
	}
}

/* ── elements ── */

static sb_array *read_back(FILE *file, sb_session *s)
{
	char magic[TOOL_NPY_MAGIC_LEN], error[TOOL_NPY_ERROR_MAX] = "";
	sb_array *array = NULL;
	struct tool_npy npy;

	rewind(file);
	assert_int_equal(fread(magic, 1, sizeof(magic), file), sizeof(magic));
	assert_memory_equal(magic, TOOL_NPY_MAGIC, sizeof(magic));
	if (!tool_npy_read_header(file, &npy, error))
		fail_msg("%s", error);
	assert_int_equal(ftell(file) % 64, 0);
	assert_ok(tool_npy_read_array(file, &npy, s, &array, error));
	assert_true(sb_array_is_contiguous(array) && (npy.nbytes == 0 || sb_array_is_shared(array)));
	return array;
}

static void test_there_and_back(void **state)
{
	static const char *const dtypes[] = { "bool", "int16", ">f4", "c16", "S7", "U3", "M8[ms]" };
	static const size_t shapes[][3] = { { 0, 2, 2 }, { 1, 1, 1 }, { 3, 5, 7 }, { 40, 30, 20 } };
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "npy", SB_DESIGNATED_SELF);

	for (size_t t = 0; t < sizeof(dtypes) / sizeof(dtypes[0]); t++)
		for (size_t k = 0; k < 4; k++)
			for (int ndim = 0; ndim <= 3; ndim++) {
				char error[TOOL_NPY_ERROR_MAX];
				FILE *file = tmpfile();
				sb_array *a, *b;
				uint8_t *x;

				assert_ok(sb_array_new(s, dtypes[t], ndim, shapes[k], &a));
				x = sb_array_writable(a);
				for (size_t i = 0; i < sb_array_nbytes(a); i++)
					x[i] = (uint8_t)(i * 7);
				assert_true(tool_npy_write(file, a, error));
				b = read_back(file, s);
				assert_string_equal(sb_array_dtype(b), sb_array_dtype(a));
				assert_int_equal(sb_array_ndim(b), ndim);
				assert_int_equal(sb_array_nbytes(b), sb_array_nbytes(a));
				assert_memory_equal(sb_array_data(b), x, sb_array_nbytes(a));
				sb_array_unref(a);
				sb_array_unref(b);
				fclose(file);
			}
	sb_session_close(s);
}

/* The first index runs fastest in the file, the last one here. More than the buffer holds. */
static void test_fortran_order_is_turned(void **state)
{
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "npy", SB_DESIGNATED_SELF);
	const size_t rows = 91, columns = 203;
	char error[TOOL_NPY_ERROR_MAX], header[128];
	sb_array *a = NULL;
	struct tool_npy npy;
	const int32_t *x;
	FILE *file;

	snprintf(header, sizeof(header), "{'descr': '<i4', 'fortran_order': True, 'shape': (%zu, %zu)}", rows,
	         columns);
	file = file_of(2, header, 0);
	fseek(file, 0, SEEK_END);
	for (int32_t c = 0; c < (int32_t)columns; c++)
		for (int32_t r = 0; r < (int32_t)rows; r++) {
			int32_t element = r * 1000 + c;

			fwrite(&element, sizeof(element), 1, file);
		}
	rewind(file);
	assert_true(tool_npy_read_header(file, &npy, error));
	assert_ok(tool_npy_read_array(file, &npy, s, &a, error));
	x = sb_array_as(a, "int32", NULL);
	assert_non_null(x);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < columns; c++)
			assert_int_equal(x[r * columns + c], (int)(r * 1000 + c));
	sb_array_unref(a);
	fclose(file);
	sb_session_close(s);
}

/* From a pipe nobody knows beforehand how much there is. */
static void test_a_pipe_that_ends_early(void **state)
{
	static const char bytes[] =
		"\x01\x00\x37\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}half of it";
	struct fixture *f = *state;
	sb_session *s = fixture_session(f->bridge, "npy", SB_DESIGNATED_SELF);
	char error[TOOL_NPY_ERROR_MAX];
	sb_array *a = NULL;
	struct tool_npy npy;
	FILE *file;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], bytes, sizeof(bytes) - 1), sizeof(bytes) - 1);
	close(fds[1]);
	file = fdopen(fds[0], "r");
	if (!tool_npy_read_header(file, &npy, error))
		fail_msg("%s", error);
	assert_int_equal(tool_npy_read_array(file, &npy, s, &a, error), SB_EINVAL);
	assert_non_null(strstr(error, "10 of the 24 bytes"));
	assert_null(a);
	fclose(file);
	sb_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_wrong_headers),
		cmocka_unit_test(test_cut_off_at_each_byte),
		cmocka_unit_test(test_random_headers),
		cmocka_unit_test_setup_teardown(test_there_and_back, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_fortran_order_is_turned, fixture_setup,
		                                fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_pipe_that_ends_early, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests_name("tool_npy", tests, NULL, NULL);
}
