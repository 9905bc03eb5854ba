/* SPDX-License-Identifier: Apache-2.0 */
#include "rounds.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct worker {
	sb_session *s;
	const sb_ref *ref;
};

static int work(void *arg)
{
	struct worker *w = arg;

	for (;;)
		if (sb_method(w->s, w->ref, "append", sb_args("i", 1), NULL))
			return 1;
}

static int work_a_little(void *arg)
{
	struct worker *w = arg;
	sb_value *v = NULL;
	int64_t n;

	for (int i = 0; i < 3; i++) {
		if (sb_method(w->s, w->ref, "__len__", NULL, &v) || sb_value_int(v, &n)) {
			fprintf(stderr, "bystander: %s\n", sb_last_error()->message);
			return 1;
		}
		sb_value_free(v);
	}
	return 0;
}

long rounds_number(long otherwise)
{
	const char *text = getenv("SB_KILL_ROUNDS");

	return text ? atol(text) : otherwise;
}

unsigned rounds_seed(void)
{
	const char *text = getenv("SB_SEED");

	return text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
}

static long counter(json_t *inspect, const char *key)
{
	json_t *v = json_object_get(inspect, key);

	if (!json_is_integer(v))
		fail_msg("sb-inspect --json has no number \"%s\"", key);
	return (long)json_integer_value(v);
}

void rounds_assert_clean(struct fixture *f)
{
	json_t *j;

	assert_int_equal(fixture_tool(f->dir, NULL, "sb-reaper", "--once", "-q", NULL), 0);
	j = fixture_tool_json(f->dir, "sb-inspect", "--json", NULL);
	assert_non_null(j);
	assert_int_equal(counter(j, "dead_owners"), 0);
	assert_int_equal(counter(j, "dead_processes"), 0);
	assert_int_equal(counter(j, "claimed_lanes_of_dead"), 0);
	assert_int_equal(counter(j, "orphan_files"), 0);
	json_decref(j);
}

static void one_round(struct worker *w, unsigned *seed)
{
	int victim = rand_r(seed) % 8;
	pid_t pids[8];

	for (int i = 0; i < 8; i++)
		pids[i] = fixture_fork(i == victim ? work : work_a_little, w);
	usleep((unsigned)rand_r(seed) % 6000);
	kill(pids[victim], SIGKILL);
	for (int i = 0; i < 8; i++)
		assert_int_equal(fixture_wait(pids[i]), i == victim ? 1000 + SIGKILL : 0);
}

void rounds_run(struct fixture *f, long rounds, unsigned seed)
{
	struct worker w = { .s = fixture_session(f->bridge, "rounds", SB_DESIGNATED_DEDICATED) };
	sb_request r = SB_REQUEST_INIT;
	sb_value *list = NULL;

	print_message("%ld rounds, SB_SEED=%u\n", rounds, seed);
	r.name = "builtins:list";
	r.flags = SB_CALL_AS_REF;
	assert_ok(sb_invoke(w.s, &r, &list));
	w.ref = sb_value_ref(list);
	for (long round = 0; round < rounds; round++)
		one_round(&w, &seed);
	rounds_assert_clean(f);
	assert_ok(sb_method(w.s, w.ref, "clear", NULL, NULL));
	sb_value_free(list);
	sb_session_close(w.s);
}
