/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What instructions.py counts the instructions of: no-op method calls, in the session "budget" that an sb-owner serves there, or
 * in one of this process's own, one by one or in batches.
 *
 *	noop_calls DIRECTORY CALLS there|here|batch
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snakebridge/snakebridge.h"

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "noop_calls: %s: %s\n", what, sb_last_error()->message);
	exit(1);
}

/* A ref to an object whose noop() does nothing. */
static sb_ref make_object(sb_session *session)
{
	static const char source[] = "class Nothing:\n def noop(self): return None\n"
				     "nothing = Nothing()\n";
	sb_request request = SB_REQUEST_INIT;
	sb_value *names, *object;
	sb_ref ref;

	request.name = "builtins:dict";
	request.flags = SB_CALL_AS_REF;
	must(sb_invoke(session, &request, &names), "a dict");
	must(sb_call(session, "builtins:exec", sb_args("sr", source, sb_value_ref(names)), NULL),
	     "the source");
	must(sb_getitem(session, sb_value_ref(names), sb_args("s", "nothing"), &object), "the object");
	ref = *sb_value_ref(object);
	sb_value_free(object);
	sb_value_free(names);
	return ref;
}

static void run_batch(sb_session *session, const sb_ref *ref, int items)
{
	sb_request request = SB_REQUEST_INIT;
	sb_batch *batch;

	request.verb = SB_VERB_METHOD;
	request.target = ref;
	request.name = "noop";
	must(sb_batch_new(0, &batch), "a batch");
	for (int i = 0; i < items; i++)
		must(sb_batch_add(batch, &request, NULL), "an item");
	must(sb_batch_run(session, batch, 0), "the batch");
	sb_batch_free(batch);
}

int main(int argc, char **argv)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *session;
	sb_bridge *bridge;
	sb_value *value;
	sb_ref ref;

	if (argc != 4)
		return 2;
	must(sb_bridge_open(argv[1], NULL, &bridge), "opening the bridge");
	if (strcmp(argv[3], "there") == 0) {
		options.session_id = "budget";
		options.designated = SB_DESIGNATED_ATTACH_ONLY;
	}
	must(sb_session_open(bridge, &options, &session), "opening a session");
	ref = make_object(session);
	if (strcmp(argv[3], "batch") == 0)
		for (int i = 0; i < 2; i++)
			run_batch(session, &ref, atoi(argv[2]) / 2);
	for (int i = atoi(argv[2]); strcmp(argv[3], "batch") != 0 && i > 0; i--) {
		must(sb_method(session, &ref, "noop", NULL, &value), "noop()");
		sb_value_free(value);
	}
	must(sb_session_release(bridge, sb_session_id(session), NULL), "the release");
	sb_session_close(session);
	sb_bridge_close(bridge);
	return 0;
}
