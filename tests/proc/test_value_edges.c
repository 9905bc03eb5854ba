/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values at their edges, row by row: each is made there, comes here as a value, goes back, and is exactly what it was, as
 * tests/support/sbvalues.py compares it. Contract 29.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "place.h"

static const char *const rows[] = {
	/* ints */
	"0",
	"-1",
	"2**63 - 1",
	"-2**63",
	"2**63",
	"-2**63 - 1",
	"2**64",
	"10**9999",
	"-10**9999 + 1",
	"7**11832",
	/* floats and complex numbers: signs, infinities, payloads of nan */
	"0.0",
	"-0.0",
	"5e-324",
	"float('-inf')",
	"struct.unpack('d', bytes.fromhex('010000000000f87f'))[0]",
	"struct.unpack('d', bytes.fromhex('efbeadde0000f4ff'))[0]",
	"complex(-0.0, float('nan'))",
	/* text: empty, with NUL, beyond the first plane, lone surrogates, long */
	"''",
	"'\\0'",
	"'\\U0010ffff'",
	"'\\ud800'",
	"'a\\udcffb'",
	"'\\udc00\\ud800'",
	"'é' * 100000",
	/* bytes */
	"b''",
	"bytes(range(256))",
	"bytearray()",
	"bytearray(b'x' * 70000)",
	/* containers: empty, nested, keys of any kind in their order */
	"[]",
	"()",
	"{}",
	"set()",
	"frozenset()",
	"[[[[[]]]]]",
	"((),)",
	"{'b': 1, 'a': 2, '': 3}",
	"{1: 'i', '1': 's', 2.5: 'f', None: 'n', (1, (2,)): 't', frozenset((1,)): 'fs', b'1': 'b'}",
	"{'$ref': 'sbref:x'}",
	"[None, True, False, 1, 0]",
	"list(range(-30, 300)) + [2**62, -2**62, 2**32, 255, 256, 65535, 65536]",
	/* times: naive, at offsets odd and named, in zones, folded, at both ends */
	"datetime.datetime.min",
	"datetime.datetime.max",
	"datetime.time(23, 59, 59, 999999, fold=1)",
	"datetime.date.min",
	"datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'), fold=1)",
	"datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)",
	"datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=-1, "
	"microseconds=1), 'odd'))",
	"datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=23, minutes=59)))",
	"datetime.timedelta.min",
	"datetime.timedelta.max",
	/* the rest */
	"decimal.Decimal('-0E-7')",
	"decimal.Decimal('sNaN123')",
	"decimal.Decimal('-Infinity')",
	"decimal.Decimal('1E+999999')",
	"fractions.Fraction(-10**50, 3)",
	"uuid.UUID(int=0)",
	"range(0)",
	"range(10**30, -10**30, -10**29)",
	"slice(None)",
	"slice((1,), 'a', [2])",
	"...",
};

static int setup(void **state, int (*place)(void **state))
{
	char source[1024];

	place(state);
	snprintf(source, sizeof(source),
	         "import sys\nsys.path.insert(0, '%s/tests/support')\nfrom sbvalues import *\n"
	         "import datetime, decimal, fractions, struct, uuid, zoneinfo, sbvalues\n"
	         "sbvalues.struct = struct\nsys.set_int_max_str_digits(0)\n",
	         getenv("SB_SOURCE_DIR") ? getenv("SB_SOURCE_DIR") : ".");
	place_exec(*state, source);
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

static void test_29_edges_come_and_go(void **state)
{
	struct place *p = *state;
	sb_ref is_made = place_ref(p, "is_made");
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sb_value *v = NULL, *answer = NULL;
		sb_request r = SB_REQUEST_INIT;
		bool same = false;

		assert_ok(place_eval(p, rows[i], 0, &v));
		r.verb = SB_VERB_METHOD;
		r.target = &is_made;
		r.name = "__call__";
		r.args = sb_args("so", rows[i], v);
		assert_ok(sb_invoke(p->s, &r, &answer));
		if (sb_value_kind(v) == SB_KIND_REF || sb_value_bool(answer, &same) != 0 || !same) {
			print_error("%s: %s\n", rows[i],
			            sb_value_str(answer, NULL) ? sb_value_str(answer, NULL) : "a ref");
			wrong++;
		}
		sb_value_free(answer);
		sb_value_free(v);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_29_edges_come_and_go, setup_there, place_teardown),
		{ "test_29_edges_come_and_go_here", test_29_edges_come_and_go, setup_here, place_teardown,
		  NULL },
	};

	return cmocka_run_group_tests_name("value_edges", tests, NULL, NULL);
}
