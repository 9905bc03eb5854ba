/* SPDX-License-Identifier: Apache-2.0 */
#include "streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define HANGS_MS 60000

void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

int64_t comes_to(struct place *p, const char *expression, int64_t wanted)
{
	int64_t n = place_int(p, expression);

	for (int i = 0; n != wanted && i < HANGS_MS / 5; i++) {
		nap(5);
		n = place_int(p, expression);
	}
	return n;
}

sb_iter *stream(struct place *p, const char *expression, const sb_iter_options *options)
{
	sb_request r = SB_REQUEST_INIT;
	sb_iter *it = NULL;

	r.name = "builtins:eval";
	r.args = sb_args("sr", expression, &p->names);
	assert_ok(sb_iter_call(p->s, &r, options, &it));
	return it;
}

sb_iter_options batches(size_t batch, uint32_t flags)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;

	options.batch = batch;
	options.flags = flags;
	return options;
}

int64_t next_int(sb_iter *it)
{
	const sb_value *item = NULL;
	int64_t n = INT64_MIN;
	int rc = sb_iter_lend(it, &item);

	if (rc == 1)
		assert_ok(sb_value_int(item, &n));
	else
		fprintf(stderr, "no item: %d %s\n", rc, rc ? sb_last_error()->message : "the end");
	return n;
}

const char streams_source[] = "import threading, time, asyncio, os\n"
			      "gate = threading.Event()\n"
			      "ended = []\n"
			      "made = []\n"
			      "def count(n, nap=0):\n"
			      "    try:\n"
			      "        for i in range(n):\n"
			      "            if nap: time.sleep(nap)\n"
			      "            made.append(i)\n"
			      "            yield i\n"
			      "    finally:\n"
			      "        ended.append('count')\n"
			      "def gated(first, after):\n"
			      "    try:\n"
			      "        yield from range(first)\n"
			      "        gate.wait()\n"
			      "        yield from range(first, first + after)\n"
			      "    finally:\n"
			      "        ended.append('gated')\n"
			      "def never():\n"
			      "    try:\n"
			      "        while not gate.is_set():\n"
			      "            time.sleep(0.001)\n"
			      "        yield 1\n"
			      "    finally:\n"
			      "        ended.append('never')\n";
