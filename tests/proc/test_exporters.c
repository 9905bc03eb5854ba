/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has Python's buffer interface (PEP 3118), row by row: which of it is an array as a result, of which dtype and shape, what is
 * left in the session as a ref, and what has no view. Contract 15, 16, 29.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "place.h"

#define ANY_VIEW SB_CALL_AS_VIEW

struct row {
	const char *source;
	uint32_t flags;
	sb_kind kind; /* SB_KIND_NONE: the error */
	int code;
	const char *dtype;
	int ndim;
	size_t shape[3];
	bool readonly;
	const char *needs; /* a module that may not be there */
};

static const struct row rows[] = {
	/* array.array */
	{ "array.array('d', [1.5, 2, 3])", 0, SB_KIND_ARRAY, 0, "<f8", 1, { 3 }, false, NULL },
	{ "array.array('h', range(-5, 5))", 0, SB_KIND_ARRAY, 0, "<i2", 1, { 10 }, false, NULL },
	{ "array.array('i')", 0, SB_KIND_ARRAY, 0, "<i4", 1, { 0 }, false, NULL },
	{ "array.array('d', range(5000))", ANY_VIEW, SB_KIND_NONE, SB_ENOVIEW, NULL, 0, { 0 }, false, NULL },
	/* memoryview: contiguous or not, of any direction, read-only or not, of other exporters */
	{ "memoryview(b'abc')", 0, SB_KIND_ARRAY, 0, "|u1", 1, { 3 }, true, NULL },
	{ "memoryview(bytearray(b'abc'))", 0, SB_KIND_ARRAY, 0, "|u1", 1, { 3 }, false, NULL },
	{ "memoryview(bytearray(b'abc')).toreadonly()", 0, SB_KIND_ARRAY, 0, "|u1", 1, { 3 }, true, NULL },
	{ "memoryview(array.array('i', range(10)))[::2]", 0, SB_KIND_ARRAY, 0, "<i4", 1, { 5 }, false, NULL },
	{ "memoryview(array.array('i', range(10)))[::-1]",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "<i4",
	  1,
	  { 10 },
	  false,
	  NULL },
	{ "memoryview(array.array('i', range(3000)))[::3]",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "<i4",
	  1,
	  { 1000 },
	  false,
	  NULL },
	{ "memoryview(bytes(range(24))).cast('B', [4, 6])",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "|u1",
	  2,
	  { 4, 6 },
	  true,
	  NULL },
	{ "memoryview(mmap.mmap(-1, 4096))", 0, SB_KIND_ARRAY, 0, "|u1", 1, { 4096 }, false, NULL },
	{ "memoryview(mmap.mmap(-1, 4096, access=mmap.ACCESS_READ))",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "|u1",
	  1,
	  { 4096 },
	  true,
	  NULL },
	{ "memoryview(np.arange(6.).reshape(2, 3).T)", 0, SB_KIND_ARRAY, 0, "<f8", 2, { 3, 2 }, false, NULL },
	{ "memoryview(np.zeros(3, dtype=[('a', 'f8')]))", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	/* what is a value of its own, or none */
	{ "bytearray(b'abc')", 0, SB_KIND_BYTEARRAY, 0, NULL, 0, { 0 }, false, NULL },
	{ "b'abc'", 0, SB_KIND_BYTES, 0, NULL, 0, { 0 }, false, NULL },
	{ "(ctypes.c_double * 3)(1, 2, 3)", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	{ "(ctypes.c_double * 3)(1, 2, 3)", ANY_VIEW, SB_KIND_NONE, SB_ENOVIEW, NULL, 0, { 0 }, false, NULL },
	{ "np.asarray((ctypes.c_double * 3)(1, 2, 3))", 0, SB_KIND_ARRAY, 0, "<f8", 1, { 3 }, false, NULL },
	{ "mmap.mmap(-1, 4096)", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	{ "mmap.mmap(-1, 4096)", ANY_VIEW, SB_KIND_NONE, SB_ENOVIEW, NULL, 0, { 0 }, false, NULL },
	/* NumPy */
	{ "np.frombuffer(b'12345678', dtype='i4')", 0, SB_KIND_ARRAY, 0, "<i4", 1, { 2 }, true, NULL },
	{ "np.asfortranarray(np.arange(6.).reshape(2, 3))",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "<f8",
	  2,
	  { 2, 3 },
	  false,
	  NULL },
	{ "np.arange(6.)[::-2]", 0, SB_KIND_ARRAY, 0, "<f8", 1, { 3 }, false, NULL },
	{ "np.arange(20000.)[::-2]", ANY_VIEW, SB_KIND_ARRAY, 0, "<f8", 1, { 10000 }, false, NULL },
	{ "np.broadcast_to(np.arange(3.), (2, 3))", 0, SB_KIND_ARRAY, 0, "<f8", 2, { 2, 3 }, true, NULL },
	{ "np.zeros((3, 0, 2))", 0, SB_KIND_ARRAY, 0, "<f8", 3, { 3, 0, 2 }, false, NULL },
	{ "np.zeros((3, 0, 2))", ANY_VIEW, SB_KIND_ARRAY, 0, "<f8", 3, { 3, 0, 2 }, false, NULL },
	{ "np.array(2.5)", 0, SB_KIND_ARRAY, 0, "<f8", 0, { 0 }, false, NULL },
	{ "np.arange(3, dtype='>i2')", 0, SB_KIND_ARRAY, 0, ">i2", 1, { 3 }, false, NULL },
	{ "np.array([True, False])", 0, SB_KIND_ARRAY, 0, "|b1", 1, { 2 }, false, NULL },
	{ "np.zeros(3, dtype=[('a', 'f8')])", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	{ "np.zeros(3, dtype='V8')", 0, SB_KIND_ARRAY, 0, "|V8", 1, { 3 }, false, NULL }, /* without fields */
	{ "memoryview((ctypes.c_double * 3)(1, 2, 3))", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	{ "np.array([object()])", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, NULL },
	{ "np.rec.array([(1, 2.)], dtype=[('a', 'i4'), ('b', 'f8')])",
	  0,
	  SB_KIND_REF,
	  0,
	  NULL,
	  0,
	  { 0 },
	  false,
	  NULL },
	/* frames and tensors, through NumPy */
	{ "pandas.Series([1., 2.])", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, "pandas" },
	{ "pandas.Series([1., 2.]).to_numpy(copy=True)",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "<f8",
	  1,
	  { 2 },
	  false,
	  "pandas" },
	{ "pandas.DataFrame({'a': [1, 2], 'b': [3, 4]}).to_numpy(dtype='i8', copy=True)",
	  0,
	  SB_KIND_ARRAY,
	  0,
	  "<i8",
	  2,
	  { 2, 2 },
	  false,
	  "pandas" },
	{ "torch.arange(3)", 0, SB_KIND_REF, 0, NULL, 0, { 0 }, false, "torch" },
	{ "torch.arange(3).numpy()", 0, SB_KIND_ARRAY, 0, "<i8", 1, { 3 }, false, "torch" },
};

static bool has_module(struct place *p, const char *name)
{
	char source[128];

	snprintf(source, sizeof(source), "int(__import__('importlib.util').util.find_spec('%s') is not None)",
	         name);
	return place_int(p, source) == 1;
}

static int setup(void **state, int (*place)(void **state))
{
	place(state);
	if (!has_module(*state, "numpy")) {
		print_message("NumPy is not there\n");
		place_teardown(state);
		exit(77);
	}
	place_exec(*state,
	           "import array, ctypes, mmap, importlib, numpy as np\n"
	           "def same(a, b):\n"
	           "  a, b = np.asarray(a), np.asarray(b)\n"
	           "  return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()\n");
	return 0;
}

static int setup_there(void **state)
{
	return setup(state, place_there);
}

static int setup_here(void **state)
{
	return setup(state, place_here);
}

static bool equal_there(struct place *p, const char *source, sb_array *a)
{
	sb_ref same = place_ref(p, "same"), original = place_ref(p, source);
	sb_request r = SB_REQUEST_INIT;
	sb_value *v = NULL;
	bool equal = false;

	r.verb = SB_VERB_METHOD;
	r.target = &same;
	r.name = "__call__";
	r.args = sb_args("ra", &original, a);
	assert_ok(sb_invoke(p->s, &r, &v));
	assert_ok(sb_value_bool(v, &equal));
	sb_value_free(v);
	return equal;
}

/* NULL: it is as the row says. */
static const char *differs(struct place *p, const struct row *row)
{
	sb_value *v = NULL;
	int err = place_eval(p, row->source, row->flags, &v);
	const char *what = NULL;
	sb_array *a;

	if (row->kind == SB_KIND_NONE)
		return err == row->code ? NULL : "another error";
	if (err)
		return sb_last_error()->message;
	a = sb_value_kind(v) == SB_KIND_ARRAY ? sb_value_array(v) : NULL;
	if (sb_value_kind(v) != row->kind)
		what = sb_kind_name(sb_value_kind(v));
	else if (a && strcmp(sb_array_dtype(a), row->dtype) != 0)
		what = sb_array_dtype(a);
	else if (a && (sb_array_ndim(a) != row->ndim ||
	               (row->ndim &&
	                memcmp(sb_array_shape(a), row->shape, (size_t)row->ndim * sizeof(size_t)) != 0)))
		what = "another shape";
	else if (a && sb_array_is_readonly(a) != row->readonly)
		what = "read-only, or not";
	else if (a && !equal_there(p, row->source, a))
		what = "other elements";
	if (what)
		print_error("%s\n", what); /* it may be the value's */
	sb_value_free(v);
	return what ? "that" : NULL;
}

static void test_29_exporters(void **state)
{
	struct place *p = *state;
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *what;
		char import[96];

		if (rows[i].needs && !has_module(p, rows[i].needs)) {
			print_message("%s is not there: left out %s\n", rows[i].needs, rows[i].source);
			continue;
		}
		if (rows[i].needs) {
			snprintf(import, sizeof(import), "import %s\n", rows[i].needs);
			place_exec(p, import);
		}
		what = differs(p, &rows[i]);
		if (what)
			print_error("%s (flags %u): %s\n", rows[i].source, rows[i].flags, what);
		wrong += what != NULL;
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_29_exporters, setup_there, place_teardown),
		{ "test_29_exporters_here", test_29_exporters, setup_here, place_teardown, NULL },
	};

	return cmocka_run_group_tests_name("exporters", tests, NULL, NULL);
}
