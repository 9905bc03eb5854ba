/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays both ways between processes (contract 16, 29 and docs/design/arrays.md): no copy where none is promised, one
 * where a snapshot is, and memory that comes back.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "place.h"

#define MIB (1 << 20)

static bool has_numpy(struct place *p)
{
	sb_value *v = NULL;
	bool has = place_eval(p, "__import__('importlib.util').util.find_spec('numpy') is not None", 0, &v) ==
	                   0 &&
	           sb_value_bool(v, &has) == 0 && has;

	sb_value_free(v);
	return has;
}

static int setup(void **state, int (*place)(void **state))
{
	int rc = place(state);

	if (!rc && !has_numpy(*state)) {
		print_message("NumPy is not there\n");
		place_teardown(state);
		exit(77);
	}
	if (!rc)
		place_exec(*state, "import numpy as np, array\n"
		                   "def where(a): return a.__array_interface__['data'][0]\n"
		                   "def place_of(a):\n"
		                   "  address = where(a)\n"
		                   "  for line in open('/proc/self/maps'):\n"
		                   "    words = line.split()\n"
		                   "    low, high = (int(x, 16) for x in words[0].split('-'))\n"
		                   "    if low <= address < high:\n"
		                   "      return f'{words[-1]} {address - low + int(words[2], 16)}'\n");
	return rc;
}

static int setup_there(void **state)
{
	return setup(state, place_there);
}

static int setup_here(void **state)
{
	return setup(state, place_here);
}

/* Calls a function of the place's names. */
static int ask(struct place *p, const char *name, sb_args *args, uint32_t flags, sb_value **ret)
{
	sb_request r = SB_REQUEST_INIT;
	sb_ref function = place_ref(p, name);

	r.verb = SB_VERB_METHOD;
	r.target = &function;
	r.name = "__call__";
	r.args = args;
	r.flags = flags;
	return sb_invoke(p->s, &r, ret);
}

static int64_t ask_int(struct place *p, const char *name, sb_args *args)
{
	sb_value *v = NULL;
	int64_t n = 0;

	assert_ok(ask(p, name, args, 0, &v));
	assert_ok(sb_value_int(v, &n));
	sb_value_free(v);
	return n;
}

static sb_array *eval_array(struct place *p, const char *source, uint32_t flags)
{
	sb_value *v = NULL;
	sb_array *a;

	assert_ok(place_eval(p, source, flags, &v));
	a = sb_array_ref(sb_value_array(v));
	if (!a)
		print_error("%s gave %s\n", source, sb_kind_name(sb_value_kind(v)));
	assert_non_null(a);
	sb_value_free(v);
	return a;
}

/* Which byte of which file an address is, "…/arena/5.1 64": the same in two processes is the same memory. */
static void place_of(const void *address, char *ret, size_t size)
{
	unsigned long low, high, offset, at = (unsigned long)(uintptr_t)address;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], path[400];

	ret[0] = '\0';
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %399s", &low, &high, &offset, path) == 4 &&
		    low <= at && at < high)
			snprintf(ret, size, "%s %lu", path, at - low + offset);
	fclose(maps);
}

static void is_the_same_memory(struct place *p, const void *here, const char *there)
{
	char mine[512], source[64];
	sb_value *v = NULL;

	place_of(here, mine, sizeof(mine));
	assert_non_null(strstr(mine, "/arena/"));
	snprintf(source, sizeof(source), "place_of(%s)", there);
	assert_ok(place_eval(p, source, 0, &v));
	assert_string_equal(sb_value_str(v, NULL), mine);
	sb_value_free(v);
}

static sb_array *new_doubles(struct place *p, size_t n)
{
	sb_array *a = NULL;
	double *x;

	assert_ok(sb_array_new(p->s, "float64", 1, &n, &a));
	x = sb_array_writable(a);
	for (size_t i = 0; i < n; i++)
		x[i] = (double)i;
	return a;
}

/* ── arguments ── */

static void test_29_an_array_argument_is_the_callers_memory(void **state)
{
	struct place *p = *state;
	size_t n = MIB;
	sb_array *a = new_doubles(p, n);
	double *x = sb_array_writable(a);

	place_exec(p, "def keep(a):\n"
	              "  global kept\n"
	              "  kept = a\n"
	              "  return int(a.sum())\n");
	assert_int_equal(ask_int(p, "keep", sb_args("a", a)), (int64_t)n * (int64_t)(n - 1) / 2);
	is_the_same_memory(p, x, "kept"); /* no copy: where Python sees it is the caller's own byte */
	assert_int_equal(place_int(p, "int(kept.flags.owndata)"), 0);
	x[5] = 1e6; /* shows there */
	assert_int_equal(place_int(p, "int(kept[5])"), 1000000);
	place_exec(p, "kept[6] = -3\n"); /* shows here */
	assert_true(x[6] == -3);
	/* It lives as long as Python has it. */
	sb_array_unref(a);
	a = new_doubles(p, n);
	assert_int_equal(place_int(p, "int(kept[6])"), -3);
	sb_array_unref(a);
	place_exec(p, "part = kept[2:9:2]; del kept\n");
	assert_int_equal(place_int(p, "int(part[2])"), -3);
	place_exec(p, "del part\n");
}

static void test_29_dtypes_and_shapes_arrive_as_they_are(void **state)
{
	static const char *const dtypes[] = { "bool",    "int8",    "int16",     "int32",      "int64",
		                              "uint8",   "uint16",  "uint32",    "uint64",     "float16",
		                              "float32", "float64", "complex64", "complex128", "S5",
		                              "U3",      "M8[ns]",  "m8[25us]",  ">f8",        ">i2" };
	static const size_t shapes[][3] = { { 2, 3, 4 }, { 0, 3, 4 }, { 1, 1, 1 }, { 50, 40, 3 } };
	struct place *p = *state;

	place_exec(p, "def told(a): return (a.dtype.str, list(a.shape), list(a.strides), type(a).__name__)\n"
	              "def same(a): return a\n");
	for (size_t t = 0; t < sizeof(dtypes) / sizeof(dtypes[0]); t++)
		for (size_t s = 0; s < 4; s++)
			for (int ndim = 0; ndim <= 3; ndim++) {
				sb_array *a, *b;
				sb_value *v = NULL, *w = NULL;

				assert_ok(sb_array_new(p->s, dtypes[t], ndim, shapes[s], &a));
				memset((void *)(uintptr_t)sb_array_data(a), 0, sb_array_nbytes(a));
				assert_ok(ask(p, "told", sb_args("a", a), 0, &v));
				assert_string_equal(sb_value_str(sb_value_at(v, 0), NULL), sb_array_dtype(a));
				assert_int_equal(sb_value_len(sb_value_at(v, 1)), ndim);
				assert_string_equal(sb_value_str(sb_value_at(v, 3), NULL), "ndarray");
				assert_ok(ask(p, "same", sb_args("a", a), 0, &w));
				b = sb_value_array(w);
				assert_non_null(b);
				assert_string_equal(sb_array_dtype(b), sb_array_dtype(a));
				assert_int_equal(sb_array_ndim(b), ndim);
				assert_int_equal(sb_array_nbytes(b), sb_array_nbytes(a));
				for (int d = 0; d < ndim; d++)
					assert_int_equal(sb_array_shape(b)[d], shapes[s][d]);
				assert_memory_equal(sb_array_data(b), sb_array_data(a), sb_array_nbytes(a));
				sb_value_free(v);
				sb_value_free(w);
				sb_array_unref(a);
			}
}

static void test_29_ordinary_memory_is_copied_once(void **state)
{
	struct place *p = *state;
	static double x[4096];
	size_t shape[2] = { 64, 64 }, few = 3;
	sb_array *a, *small;

	for (size_t i = 0; i < 4096; i++)
		x[i] = (double)i;
	place_exec(p, "def total(a, b):\n"
	              "  global kept\n"
	              "  kept = a\n"
	              "  return int(a.sum() + b.sum())\n");
	assert_ok(sb_array_from(p->s, "float64", 2, shape, x, &a));
	assert_ok(sb_array_from(p->s, "f8", 1, &few, x, &small));
	assert_true(sb_array_is_shared(a));
	assert_false(sb_array_is_shared(small));
	assert_int_equal(ask_int(p, "total", sb_args("a b=a", a, small)), 4095 * 2048 + 3);
	assert_memory_equal(sb_array_data(a), x, sizeof(x)); /* the copy, */
	is_the_same_memory(p, sb_array_data(a), "kept");     /* and there is no other */
	place_exec(p, "del kept\n");
	sb_array_unref(a);
	sb_array_unref(small);
}

/* ── results ── */

static void test_16_an_array_result_is_a_snapshot(void **state)
{
	struct place *p = *state;
	sb_array *a;
	const double *x;
	const char *theirs;
	sb_value *v = NULL;
	char mine[512];
	size_t n;

	place_exec(p, "big = np.arange(100000.0)\n");
	a = eval_array(p, "big", 0);
	place_exec(p, "big[7] = -1\n");
	x = sb_array_as(a, "float64", &n);
	assert_non_null(x);
	assert_int_equal(n, 100000);
	assert_true(x[7] == 7 && x[99999] == 99999);
	assert_false(sb_array_is_readonly(a));
	/* The one copy: in the owner's arena, where its own large arrays are, and read there; the original is elsewhere in it. */
	place_of(x, mine, sizeof(mine));
	assert_ok(place_eval(p, "place_of(big)", 0, &v));
	theirs = sb_value_str(v, NULL);
	assert_string_not_equal(mine, theirs);
	assert_memory_equal(mine, theirs, (size_t)(strchr(theirs, ' ') - theirs + 1));
	sb_value_free(v);
	((double *)sb_array_writable(a))[7] = 5; /* ours */
	assert_int_equal(place_int(p, "int(big[7])"), -1);
	sb_array_unref(a);
}

static void test_16_as_view_shares_what_the_owner_writes_later(void **state)
{
	struct place *p = *state;
	sb_array *a, *part;
	sb_value *v = NULL;

	place_exec(p, "big = np.zeros((300, 1000))\n"); /* its memory is in the arena (NEP 49) */
	a = eval_array(p, "big", SB_CALL_AS_VIEW);
	is_the_same_memory(p, sb_array_data(a), "big");
	place_exec(p, "big[2, 3] = 42\n");
	assert_true(((const double *)sb_array_data(a))[2003] == 42);
	((double *)sb_array_writable(a))[2004] = 43;
	assert_int_equal(place_int(p, "int(big[2, 4])"), 43);
	/* Strides are kept: nothing is copied. */
	part = eval_array(p, "big.T[10:20, ::-3]", SB_CALL_AS_VIEW);
	assert_int_equal(sb_array_ndim(part), 2);
	assert_int_equal(sb_array_strides(part)[0], 8);
	assert_int_equal(sb_array_strides(part)[1], -24000);
	place_exec(p, "big.T[12, ::-3][1] = 9\n");
	assert_true(((const double *)sb_array_data(part))[2 - 3000] == 9);
	/* Gone there, it is still here. */
	place_exec(p, "del big\n"
	              "other = [np.ones((300, 1000)) for i in range(3)]\n");
	assert_true(((const double *)sb_array_data(a))[2003] == 42);
	sb_array_unref(part);
	sb_array_unref(a);
	assert_int_equal(place_eval(p, "np.arange(3)", SB_CALL_AS_VIEW, &v), SB_ENOVIEW);
	assert_int_equal(sb_last_error()->outcome, SB_OUTCOME_EXCEPTION);
}

static void test_16_as_view_of_an_argument_is_that_argument(void **state)
{
	struct place *p = *state;
	sb_array *a = new_doubles(p, 5000), *b;
	sb_value *v = NULL;

	place_exec(p, "def tail(a): return a[1000:]\n");
	assert_ok(ask(p, "tail", sb_args("a", a), SB_CALL_AS_VIEW, &v));
	b = sb_value_array(v);
	assert_non_null(b);
	assert_int_equal(sb_array_count(b), 4000);
	assert_ptr_equal((const char *)sb_array_data(b), (const char *)sb_array_data(a) + 8000);
	sb_value_free(v);
	sb_array_unref(a);
}

static void test_16_as_ref_leaves_an_array_where_it_is(void **state)
{
	struct place *p = *state;
	sb_value *v = NULL;

	assert_ok(place_eval(p, "np.arange(10)", SB_CALL_AS_REF, &v));
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	sb_value_free(v);
	assert_ok(place_eval(p, "np.array([object()])", 0, &v)); /* objects have no value form */
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	sb_value_free(v);
	assert_ok(place_eval(p, "np.ma.array([1])", 0, &v)); /* nor have subclasses */
	assert_int_equal(sb_value_kind(v), SB_KIND_REF);
	sb_value_free(v);
}

static void test_29_read_only_stays_read_only(void **state)
{
	struct place *p = *state;
	sb_array *a;

	place_exec(p, "fixed = np.arange(20000)\n"
	              "fixed.flags.writeable = False\n"
	              "def is_writeable(a): return int(a.flags.writeable)\n");
	for (uint32_t flags = 0; flags <= SB_CALL_AS_VIEW; flags += SB_CALL_AS_VIEW) {
		a = eval_array(p, "fixed", flags);
		assert_true(sb_array_is_readonly(a));
		assert_null(sb_array_writable(a));
		assert_int_equal(sb_last_error()->code, SB_EDENIED);
		assert_int_equal(ask_int(p, "is_writeable", sb_args("a", a)), 0);
		sb_array_unref(a);
	}
	a = eval_array(p, "fixed[:5]", 0);
	assert_int_equal(ask_int(p, "is_writeable", sb_args("a", a)), 0);
	sb_array_unref(a);
}

static void test_29_other_buffers_keep_their_types(void **state)
{
	static const char *const sources[] = {
		"array.array('d', [1.5, 2])",
		"array.array('l', range(5000))",
		"array.array('B')",
		"memoryview(b'abc')",
		"memoryview(bytearray(9000)).cast('h')",
		"memoryview(array.array('I', range(24))).cast('B').cast('I', [4, 6])",
		"np.asfortranarray(np.arange(6000.).reshape(60, 100))"
	};
	struct place *p = *state;

	place_exec(p, "def like(a, b):\n"
	              "  if type(a) is memoryview: return int(a.format == b.format and a.shape == b.shape "
	              "and a == b "
	              "and type(b) is memoryview)\n"
	              "  if type(a) is array.array: return int(type(b) is type(a) and a.typecode == "
	              "b.typecode and a == b)\n"
	              "  return int(a.flags.f_contiguous == b.flags.f_contiguous and (a == b).all())\n");
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		sb_array *a = eval_array(p, sources[i], 0);
		sb_ref original = place_ref(p, sources[i]);

		if (ask_int(p, "like", sb_args("ra", &original, a)) != 1)
			fail_msg("%s came back as something else", sources[i]);
		sb_array_unref(a);
	}
}

static void test_29_arrays_anywhere_in_a_result(void **state)
{
	struct place *p = *state;
	sb_value *v = NULL, *packed = NULL;
	int64_t n = 0;

	assert_ok(place_eval(p, "{'a': [np.arange(3), (np.ones(3000), None)], 'b': np.float32([1])}", 0, &v));
	assert_int_equal(sb_array_count(sb_value_array(sb_value_at(sb_value_lookup(v, "a"), 0))), 3);
	assert_ok(sb_value_pack(&packed, "[oa]", v, sb_value_array(sb_value_lookup(v, "b"))));
	sb_value_free(v);
	place_exec(p, "def deep(x): return int(x[0]['a'][0].sum() + x[0]['a'][1][0].sum() + x[1][0])\n");
	assert_ok(ask(p, "deep", sb_args("o", packed), 0, &v));
	assert_ok(sb_value_int(v, &n));
	assert_int_equal(n, 3004);
	sb_value_free(v);
	sb_value_free(packed);
}

#define BOTH(name)                                                          \
	cmocka_unit_test_setup_teardown(name, setup_there, place_teardown), \
	{                                                                   \
#name "_here", name, setup_here, place_teardown, NULL       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_29_an_array_argument_is_the_callers_memory),
		BOTH(test_29_dtypes_and_shapes_arrive_as_they_are),
		BOTH(test_29_ordinary_memory_is_copied_once),
		BOTH(test_16_an_array_result_is_a_snapshot),
		BOTH(test_16_as_view_shares_what_the_owner_writes_later),
		BOTH(test_16_as_view_of_an_argument_is_that_argument),
		BOTH(test_16_as_ref_leaves_an_array_where_it_is),
		BOTH(test_29_read_only_stays_read_only),
		BOTH(test_29_other_buffers_keep_their_types),
		BOTH(test_29_arrays_anywhere_in_a_result),
	};

	return cmocka_run_group_tests_name("arrays", tests, NULL, NULL);
}
