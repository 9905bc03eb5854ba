/* SPDX-License-Identifier: Apache-2.0 */
/* The use it is made for, in small: a scikit-learn model that lives in a table and predicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine_probe.h"

static void test_model(void **state)
{
	const char *make = "sklearn.linear_model:LinearRegression";
	struct sb__table *table = probe_table(NULL);
	sb_value *model = NULL, *fitted = NULL, *predicted = NULL, *list = NULL;
	double first = 0;
	const size_t zero = 0;
	int err;

	(void)state;
	err = probe_call(table, make, NULL, &model);
	if (err == SB_EMODULE) {
		print_message("no scikit-learn here\n");
		probe_table_free(table);
		skip();
	}
	assert_int_equal(0, err);
	assert_string_equal("<sklearn.linear_model._base.LinearRegression>", probe_show(model));
	assert_int_equal(0, probe_method(table, sb_value_ref(model), "fit",
	                                 sb_args("[[d][d][d]][ddd]", 0.0, 1.0, 2.0, 1.0, 3.0, 5.0), &fitted));
	/* fit() returns self: the same ref. */
	assert_int_equal(sb_value_ref(model)->slot, sb_value_ref(fitted)->slot);
	assert_int_equal(
		0, probe_method(table, sb_value_ref(model), "predict", sb_args("[[d]]", 10.0), &predicted));
	assert_string_equal("array <f8 of 1", probe_show(predicted));
	assert_int_equal(0, sb_array_get_float(sb_value_array(predicted), &zero, &first));
	assert_true(first > 20.999 && first < 21.001);
	/* A NumPy scalar is a plain value. */
	assert_int_equal(0, probe_call(table, "numpy:sum", sb_args("o", predicted), &list));
	assert_int_equal(SB_KIND_FLOAT, sb_value_kind(list));
	sb_value_free(list);
	sb_value_free(predicted);
	sb_value_free(fitted);
	sb_value_free(model);
	probe_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests_name("engine scikit-learn", tests, probe_start, NULL);
}
