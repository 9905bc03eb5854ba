/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed at each named point (src/base/point.h) that it passes as caller, owner, reaper, opener, elector and
 * so on. After each death a bystander's call is answered at once, one pass of the reaper restores everything, and
 * sb-inspect's check finds nothing. A name that nobody ever passes fails the test.
 *
 * SB_CRASH=full: each point at its first four passings and its last, by a stop before the kill, too; else at the first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "crash_world.h"
#include "echo_engine.h"
#include "fixture.h"
#include "holds.h"
#include "point.h"
#include "sweep.h"

#ifdef SNAKEBRIDGE_POINTS

#define BIG  20000 /* bytes: beyond a lane */
#define MANY 18    /* lanes: more than are served without turns */

struct role {
	const char *name;
	const char *only;                      /* points that begin so; NULL: all that it passes */
	void (*before)(struct crash_world *w); /* in the test's process, before the fork */
	int (*act)(struct crash_world *w);     /* in the victim */
	void (*meanwhile)(struct crash_world *w, pid_t pid); /* in the test's process, while it acts */
	void (*after)(struct crash_world *w);                /* when it is dead, before the check */
	bool may_stop;                                       /* the test's process waits for nothing of it */
};

static bool full;
static const char *ordered = ""; /* the point at which the victim is to die; "": none */
static atomic_uint *counts;      /* of the run that is just made */
static unsigned *reached;        /* kills at each point, in all */
static struct crash_world world;

static size_t point_index(const char *name)
{
	size_t i = 0;

	while (strcmp(sb__point_name(i), name) != 0)
		i++;
	return i;
}

/* ── what callers do ── */

static sb_session *open_session(sb_bridge *bridge, const char *id, sb_designated designated)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *session = NULL;

	options.session_id = id;
	options.designated = designated;
	options.ttl_seconds = 0;
	(void)sb_session_open(bridge, &options, &session);
	return session;
}

static int call(sb_session *s, const char *what, sb_args *args, uint32_t timeout_ms)
{
	sb_request r = SB_REQUEST_INIT;
	sb_value *value = NULL;
	int err;

	r.verb = SB_VERB_CALL;
	r.name = what;
	r.args = args;
	r.timeout_ms = timeout_ms;
	err = sb_invoke(s, &r, &value);
	sb_value_free(value);
	return err;
}

static int oneway(sb_session *s, const char *what, sb_args *args)
{
	return sb_call_oneway(s, what, args);
}

/* What the owner asks its caller while it serves it. */
static int slow_answer(void *arg, const sb_value *args, const sb_value *kwargs, sb_value **ret)
{
	(void)arg;
	(void)args;
	(void)kwargs;
	(void)ret;    /* None */
	usleep(3000); /* the owner does not wait for that awake */
	return 0;
}

/* Cancels a call that runs. */
static void cancel_running(sb_session *s)
{
	sb_request r = SB_REQUEST_INIT;
	sb_future *f = NULL;
	int level = 0;

	r.verb = SB_VERB_CALL;
	r.name = "nap";
	r.args = sb_args("i", 10);
	(void)call(s, "echo", sb_args("i", 9), 0); /* nothing else runs */
	if (sb_call_start(s, &r, &f) != 0)
		return;
	for (int i = 0; i < 100 && sb_future_poll(f) == 0 && level == 0; i++) {
		usleep(200);
		(void)sb_future_cancel(f, &level);
	}
	(void)sb_future_wait(f, SB_WAIT_FOREVER, NULL);
	sb_future_free(f);
}

/* A call that its caller sleeps for while another one runs: it waits for its turn, for there are many lanes. */
static void call_behind(sb_session *s)
{
	sb_future *futures[MANY] = { NULL };
	sb_request r = SB_REQUEST_INIT;

	r.verb = SB_VERB_CALL;
	for (int i = 0; i < MANY; i++) {
		r.name = i == 0 ? "nap" : "echo";
		r.args = sb_args("i", 8);
		(void)sb_call_start(s, &r, &futures[i]);
	}
	(void)call(s, "echo", sb_args("i", 10), 0);
	for (int i = 0; i < MANY; i++) {
		if (futures[i])
			(void)sb_future_wait(futures[i], SB_WAIT_FOREVER, NULL);
		sb_future_free(futures[i]);
	}
}

/* Batches of a stream, fetched ahead, and its end by closing. */
static void read_stream(sb_session *s)
{
	sb_iter_options options = SB_ITER_OPTIONS_INIT;
	sb_session_info info = { .size = sizeof(info) };
	const sb_value *item = NULL;
	sb_ref ref = { .slot = 1 };
	sb_iter *it = NULL;

	if (sb_session_get_info(s, &info))
		return;
	ref.incarnation = info.incarnation;
	memcpy(ref.session_id, info.session_id, sizeof(ref.session_id));
	options.flags = SB_ITER_READ_AHEAD;
	if (sb_iter_attach(s, &ref, &options, &it))
		return;
	for (int i = 0; i < 7 && sb_iter_lend(it, &item) == 1; i++)
		;
	sb_iter_close(it);
}

/* Each kind of call once. */
static void call_all(sb_session *s)
{
	static char big[BIG];
	sb_future *futures[6] = { NULL };
	sb_request r = SB_REQUEST_INIT;
	int level = 0;

	(void)call(s, "echo", sb_args("i", 7), 0);
	(void)call(s, "echo", sb_args("y", big, sizeof(big)), 0); /* there and back by arenas */
	(void)oneway(s, "nap", sb_args("i", 3));
	(void)oneway(s, "echo", sb_args("y", big, sizeof(big))); /* waits for the first */
	(void)call(s, "echo", sb_args("i", 8), 0);
	read_stream(s);
	(void)call(s, "nap", sb_args("i", 30), 5); /* abandoned */
	cancel_running(s);
	call_behind(s);
	(void)call(s, "ask", sb_args("k", slow_answer, NULL), 0);
	for (int i = 0; i < 6; i++) { /* more lanes than there are at first */
		r.verb = SB_VERB_CALL;
		r.name = "nap";
		r.args = sb_args("i", 4);
		r.timeout_ms = i == 5 ? 1 : 0; /* withdrawn */
		(void)sb_call_start(s, &r, &futures[i]);
	}
	if (futures[4])
		(void)sb_future_cancel(futures[4], &level); /* before it has begun */
	if (futures[0])
		(void)sb_future_cancel(futures[0], &level);
	for (int i = 0; i < 6; i++) {
		if (futures[i])
			(void)sb_future_wait(futures[i], SB_WAIT_FOREVER, NULL);
		sb_future_free(futures[i]);
	}
}

static int act_as_caller(struct crash_world *w)
{
	sb_session *s = open_session(w->bridge, "s", SB_DESIGNATED_ATTACH_ONLY);

	if (!s)
		return 1;
	call_all(s);
	sb_session_close(s);
	sb_bridge_close(w->bridge);
	return 0;
}

/* ── owners ── */

/* Serves "s" until told to close it in order. */
static int act_as_owner(struct crash_world *w)
{
	sb_session *s = open_session(w->bridge, "s", SB_DESIGNATED_SELF);
	sb_session *t = open_session(w->bridge, "t", SB_DESIGNATED_SELF);

	if (!s || !t || !crash_tell(w->to_parent))
		return 1;
	(void)crash_hear(w->to_victim);
	sb_bridge_close(w->bridge); /* with "s" owned by another: orphaned */
	return 0;
}

/* Until the owner has looked at replies that were taken: it does so now and then. */
static void wait_for_tidy_owner(struct crash_world *w)
{
	struct pollfd gone = { .fd = w->to_parent[0], .events = POLLIN };
	size_t swept = point_index("serve.swept");

	if (ordered[0] && strcmp(ordered, "serve.swept") != 0)
		return;
	for (int i = 0; i < 500 && (ordered[0] || !atomic_load(&counts[swept])); i++)
		if (poll(&gone, 1, 10) != 0)
			return;
}

/* Calls what the victim serves, whatever becomes of it; then lets it go. */
static void call_owner(struct crash_world *w, pid_t pid)
{
	sb_session *s;

	(void)pid;
	if (!crash_hear(w->to_parent))
		return;
	s = open_session(w->bridge, "s", SB_DESIGNATED_ATTACH_ONLY);
	if (s) {
		call_all(s);
		(void)call(s, "size", sb_args("i", BIG), 0);
		wait_for_tidy_owner(w);
		(void)call(s, "size", sb_args("i", BIG),
		           0); /* a reply that its owner still has in its arena */
	}
	(void)crash_tell(w->to_victim);
	while (crash_hear(w->to_parent)) /* until it is gone */
		;
	if (s && call(s, "echo", sb_args("i", 1), 1000) == 0)
		crash_wrong(w, "a dead owner's session answered");
	sb_session_close(s);
}

/* "s" served by a process of its own that nobody kills. */
static pid_t keeper_of_s;

static void serve_s(struct crash_world *w)
{
	sb_session *s;

	crash_pipes(w);
	fflush(NULL);
	keeper_of_s = fork();
	if (keeper_of_s == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		crash_pipes_in_victim(w);
		s = open_session(w->bridge, "s", SB_DESIGNATED_SELF);
		_exit(!s || !crash_tell(w->to_parent) || pause());
	}
	crash_pipes_in_parent(w);
	if (!crash_hear(w->to_parent))
		crash_wrong(w, "\"s\" is not served");
	crash_pipes_close(w);
	s = open_session(w->bridge, "s", SB_DESIGNATED_ATTACH_ONLY);
	if (s)
		call_all(s); /* so that mailbox and arenas have the size that they will have */
	sb_session_close(s);
	crash_world_baseline(w);
}

/* The bystander of the same session: its owner lives. */
static void call_s(struct crash_world *w)
{
	sb_session *s = open_session(w->bridge, "s", SB_DESIGNATED_ATTACH_ONLY);

	if (!s)
		crash_wrong(w, "\"s\" cannot be joined: %s", sb_last_error()->message);
	else
		crash_call(w, s, "a caller of the same session");
	sb_session_close(s);
}

/* ── who ends and elects ── */

/* Twice: the mailbox of the first may be the second's, too. */
static int act_as_releaser(struct crash_world *w)
{
	for (int i = 0; i < 2; i++) {
		sb_session *s = open_session(w->bridge, "r", SB_DESIGNATED_SELF);
		int released = 0;

		if (!s || sb_session_release(w->bridge, "r", &released) != 0 || released != 1)
			return 1;
		sb_session_close(s);
		usleep(10000); /* the keeper drops it */
	}
	return 0;
}

/* One that dies after having served "o", which this process owns, too. */
static int die_as_owner_of_o(struct crash_world *w)
{
	if (!open_session(w->bridge, "o", SB_DESIGNATED_SELF) || !crash_tell(w->to_parent))
		return 1;
	(void)crash_hear(w->to_victim);
	return 0;
}

static sb_session *orphan;

static void make_orphan(struct crash_world *w)
{
	pid_t pid;

	crash_pipes(w);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		crash_pipes_in_victim(w);
		_exit(die_as_owner_of_o(w));
	}
	crash_pipes_in_parent(w);
	(void)crash_hear(w->to_parent);
	orphan = open_session(w->bridge, "o", SB_DESIGNATED_ATTACH_ONLY);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	crash_pipes_close(w);
}

static int act_as_elector(struct crash_world *w)
{
	sb_session *s = open_session(w->bridge, "o", SB_DESIGNATED_SELF);

	if (!s)
		return 1;
	for (int i = 0; i < 3; i++) /* learns of the death, elects itself, is answered */
		if (call(s, "echo", sb_args("i", 1), 0) == 0)
			return 0;
	return 2;
}

static void close_orphan(struct crash_world *w)
{
	(void)w;
	sb_session_close(orphan);
	orphan = NULL;
}

/* Joined while its owner lived, and notices the death by its own call. */
static int act_as_mourner(struct crash_world *w)
{
	sb_session *s = open_session(w->bridge, "o", SB_DESIGNATED_SELF);

	if (!s || !crash_tell(w->to_parent) || !crash_hear(w->to_victim))
		return 1;
	for (int i = 0; i < 3; i++)
		if (call(s, "echo", sb_args("i", 1), 0) == 0)
			return 0;
	return 2;
}

static int pipes_of_o[2];
static pid_t pid_of_o;

static void serve_o(struct crash_world *w)
{
	crash_pipes(w);
	fflush(NULL);
	pid_of_o = fork();
	if (pid_of_o == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		crash_pipes_in_victim(w);
		_exit(die_as_owner_of_o(w));
	}
	crash_pipes_in_parent(w);
	(void)crash_hear(w->to_parent);
	pipes_of_o[0] = w->to_victim[1];
	pipes_of_o[1] = w->to_parent[0];
	w->to_victim[1] = w->to_parent[0] = -1;
	orphan = open_session(w->bridge, "o", SB_DESIGNATED_ATTACH_ONLY);
}

static void kill_owner_of_o(struct crash_world *w, pid_t pid)
{
	bool joined = crash_hear(w->to_parent);

	(void)pid;
	kill(pid_of_o, SIGKILL);
	waitpid(pid_of_o, NULL, 0);
	close(pipes_of_o[0]);
	close(pipes_of_o[1]);
	if (joined)
		(void)crash_tell(w->to_victim);
}

/* ── time ── */

static int act_as_keeper(struct crash_world *w)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_session *s;

	options.session_id = "ttl";
	options.ttl_seconds = 1;
	options.designated = SB_DESIGNATED_SELF;
	if (sb_session_open(w->bridge, &options, &s) != 0)
		return 1;
	for (int i = 0; i < 400; i++) { /* until its keeper ends it */
		sb_session_info info = { .size = sizeof(info) };

		if (sb_session_get_info(s, &info) != 0 || info.state == SB_SESSION_ENDED)
			return 0;
		usleep(10000);
	}
	return 2;
}

/* Sessions by hand: nobody's keeper looks after them. */
static int serve_by_hand(struct hand *hand, const char *id, uint64_t ttl_ms, bool as_owner)
{
	struct sb__session_rec wish = hand_wish(hand, id);

	wish.ttl_ms = ttl_ms;
	return hand_serve(hand, &wish, as_owner, NULL);
}

static struct hand expiring;

static void make_expired(struct crash_world *w)
{
	if (hand_attach(&expiring, w->dir) != 0 || serve_by_hand(&expiring, "late", 1, true) != 0)
		crash_wrong(w, "no session to expire");
	usleep(20000);
}

static int act_as_visitor_of_expired(struct crash_world *w)
{
	return open_session(w->bridge, "late", SB_DESIGNATED_ATTACH_ONLY) != NULL;
}

static void drop_expired(struct crash_world *w)
{
	int released;

	(void)sb_session_release(w->bridge, "late", &released);
	hand_close(&expiring);
}

/* ── reapers ── */

static int leave_debris(struct hand *hand, void *arg)
{
	struct sb__session_rec rec;
	struct sb__mailbox *mailbox;
	struct sb__arena *arena;
	struct sb__spill_shm block;
	uint32_t lane;
	void *addr;
	int err = serve_by_hand(hand, "mine", 3600000, true); /* released with its last owner */

	(void)arg;
	if (!err)
		err = serve_by_hand(hand, "unowned", 3600000, false);
	if (!err)
		err = serve_by_hand(hand, "orphan", 3600000, true);
	if (!err)
		err = hand_join(hand, "bystander", &rec, &mailbox);
	if (!err)
		err = sb__lane_claim(mailbox, hand->self.slot, hand->self.generation, &lane);
	if (!err)
		err = sb__arena_create(hand->dir.arena, hand->self.slot, hand->self.generation, &arena);
	if (!err)
		err = sb__arena_block_make(arena, SB__POOL_ARRAY, 100000, false, &block, &addr);
	return err;
}

static struct child debris;
static struct hand alive; /* owns "orphan", serves "late", has an array that the dead keeps */
static struct sb__arena *alive_arena;
static struct sb__spill_shm alive_block;

static int keep_block(struct hand *hand, void *arg)
{
	struct sb__arena_cache *cache;
	struct sb__arena_kept *kept;
	void *addr;
	int err = leave_debris(hand, arg);

	if (!err)
		err = sb__arena_cache_create(hand->dir.arena, &cache);
	if (err)
		return err;
	sb__arena_cache_identify(cache, hand->self.slot, hand->self.generation);
	return sb__arena_keep(cache, &alive_block, false, &kept, &addr);
}

/* A file of a session that there is no record of. */
static void make_stray_file(struct crash_world *w)
{
	struct sb__mailbox_params params = {
		.incarnation = 0xfffff, .owner = alive.self, .max_refs = 10, .session_id = "stray"
	};
	struct sb__mailbox *mailbox;

	if (sb__mailbox_create(alive.dir.mailbox, &params, &mailbox) == 0)
		sb__mailbox_detach(mailbox);
	else
		crash_wrong(w, "no stray file");
}

static void make_debris(struct crash_world *w)
{
	void *addr;
	int err = hand_attach(&alive, w->dir);

	if (!err)
		err = serve_by_hand(&alive, "late", 1, true);
	if (!err)
		err = sb__arena_create(alive.dir.arena, alive.self.slot, alive.self.generation, &alive_arena);
	if (!err)
		err = sb__arena_block_make(alive_arena, SB__POOL_ARRAY, 100000, false, &alive_block, &addr);
	if (!err)
		err = child_start(&debris, w->dir, keep_block, NULL);
	if (!err)
		err = hand_join(&alive, "orphan", NULL, NULL);
	if (err)
		crash_wrong(w, "no debris: %s", sb_last_error()->message);
	make_stray_file(w);
	usleep(3000);
	child_kill(&debris, true);
}

static int act_as_reaper(struct crash_world *w)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	struct hand hand;
	int err = hand_open(&hand, w->dir);

	return err ? err : sb__reaper_sweep(hand.store, &hand.dir, &options, &result);
}

static void drop_alive(struct crash_world *w)
{
	struct sb__owner_rec *owners = NULL;
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	size_t count = 0;

	/* The pass that counts comes before those that live give up what they have. */
	if (sb__reaper_sweep(w->hand.store, &w->hand.dir, &options, &result) != 0 || !result.complete)
		crash_wrong(w, "the sweep after a reaper's death: %s", sb_last_error()->message);
	if (sb__store_owners_of_process(alive.store, alive.self.slot, &owners, &count) < 0)
		crash_wrong(w, "owners cannot be listed");
	if (count != 1) /* of "orphan": "late" must be over */
		crash_wrong(w, "%zu owner records of one that lives, not 1", count);
	for (size_t i = 0; i < count; i++)
		(void)sb__store_owner_remove(alive.store, owners[i].session_uid, owners[i].slot,
		                             owners[i].generation, owners[i].handle, NULL);
	free(owners);
	sb__arena_block_unref(alive_arena, alive_block.offset); /* nobody keeps it: it is free at once */
	if (sb__arena_in_use(alive_arena) != 0)
		crash_wrong(w, "a dead process keeps an array");
	sb__arena_destroy(alive_arena, true);
	hand_close(&alive);
}

/* ── lanes ── */

static void serve_lanes(struct crash_world *w)
{
	int err = hand_attach(&alive, w->dir);

	if (!err)
		err = serve_by_hand(&alive, "lanes", 0, true);
	if (err)
		crash_wrong(w, "no mailbox to grow: %s", sb_last_error()->message);
}

static int act_as_grower(struct crash_world *w)
{
	struct sb__mailbox *mailbox;
	struct hand hand;
	uint32_t lane;
	int err = hand_attach(&hand, w->dir);

	if (!err)
		err = hand_join(&hand, "lanes", NULL, &mailbox);
	for (int i = 0; !err && i < 9; i++) /* from 4 to 8 to 16 */
		err = sb__lane_claim(mailbox, hand.self.slot, hand.self.generation, &lane);
	return err != 0;
}

/* Swept while its owner lives: all lanes are free again. */
static void count_lanes(struct crash_world *w)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;
	struct sb__session_rec rec;
	struct sb__mailbox *mailbox;
	int released;

	if (sb__reaper_sweep(w->hand.store, &w->hand.dir, &options, &result) != 0 || !result.complete)
		crash_wrong(w, "the sweep: %s", sb_last_error()->message);
	if (sb__store_session_get(w->hand.store, "lanes", &rec) != 1 ||
	    sb__mailbox_attach(w->hand.dir.mailbox, rec.incarnation, &mailbox) != 0) {
		crash_wrong(w, "the mailbox is gone: %s", sb_last_error()->message);
	} else {
		if (sb__mailbox_view(mailbox, NULL, 0) != 0)
			crash_wrong(w, "%u lanes are claimed by nobody", sb__mailbox_view(mailbox, NULL, 0));
		sb__mailbox_detach(mailbox);
	}
	(void)sb_session_release(w->bridge, "lanes", &released);
	hand_close(&alive);
}

/* ── arrays ── */

static int act_with_arrays(struct crash_world *w)
{
	struct sb__arena_cache *cache;
	struct sb__arena_kept *kept;
	struct sb__spill_shm block;
	struct sb__arena *arena;
	struct hand hand;
	void *addr;
	int err = hand_attach(&hand, w->dir);

	if (!err)
		err = sb__arena_create(hand.dir.arena, hand.self.slot, hand.self.generation, &arena);
	if (err)
		return err;
	sb__arena_limit(arena, (uint64_t)1 << 30, 0); /* free pages go back at once */
	err = sb__arena_block_make(arena, SB__POOL_ARRAY, 200000, true, &block, &addr);
	if (!err)
		err = sb__arena_cache_create(hand.dir.arena, &cache);
	if (err)
		return err;
	sb__arena_cache_identify(cache, hand.self.slot, hand.self.generation);
	err = sb__arena_keep(cache, &alive_block, true, &kept, &addr);
	if (err)
		return err;
	if (write(w->to_parent[1], &block, sizeof(block)) != sizeof(block) || !crash_hear(w->to_victim))
		return 1;
	sb__arena_block_unref(arena, block.offset); /* the other keeps it: it waits */
	if (!crash_tell(w->to_parent) || !crash_hear(w->to_victim))
		return 1;
	sb__arena_sweep(arena);
	sb__arena_kept_unref(kept);
	sb__arena_cache_destroy(cache);
	sb__arena_destroy(arena, true);
	hand_close(&hand);
	return 0;
}

static void make_array(struct crash_world *w)
{
	void *addr;
	int err = hand_attach(&alive, w->dir);

	if (!err)
		err = sb__arena_create(alive.dir.arena, alive.self.slot, alive.self.generation, &alive_arena);
	if (!err)
		err = sb__arena_block_make(alive_arena, SB__POOL_ARRAY, 100000, false, &alive_block, &addr);
	if (err)
		crash_wrong(w, "no array: %s", sb_last_error()->message);
}

static void keep_victims_array(struct crash_world *w, pid_t pid)
{
	struct sb__arena_cache *cache;
	struct sb__arena_kept *kept = NULL;
	struct sb__spill_shm block;
	void *addr;

	(void)pid;
	if (sb__arena_cache_create(alive.dir.arena, &cache) != 0)
		abort();
	sb__arena_cache_identify(cache, alive.self.slot, alive.self.generation);
	if (read(w->to_parent[0], &block, sizeof(block)) == sizeof(block)) {
		if (sb__arena_keep(cache, &block, false, &kept, &addr) != 0)
			crash_wrong(w, "a living process's array cannot be kept: %s",
			            sb_last_error()->message);
		(void)crash_tell(w->to_victim);
		(void)crash_hear(w->to_parent);
	}
	if (kept)
		sb__arena_kept_unref(kept);
	(void)crash_tell(w->to_victim);
	while (crash_hear(w->to_parent))
		;
	sb__arena_cache_destroy(cache);
}

static void drop_array(struct crash_world *w)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;

	if (sb__reaper_sweep(w->hand.store, &w->hand.dir, &options, &result) != 0 || !result.complete)
		crash_wrong(w, "the sweep: %s", sb_last_error()->message);
	sb__arena_block_unref(alive_arena, alive_block.offset);
	if (sb__arena_in_use(alive_arena) != 0)
		crash_wrong(w, "a dead process keeps an array");
	sb__arena_destroy(alive_arena, true);
	hand_close(&alive);
}

/* ── a new bridge ── */

static char fresh[256];

static void make_fresh(struct crash_world *w)
{
	(void)w;
	fixture_dir_make(fresh, sizeof(fresh));
}

static int act_as_first(struct crash_world *w)
{
	sb_bridge *bridge;
	sb_session *s;

	(void)w;
	if (sb_bridge_open(fresh, NULL, &bridge) != 0)
		return 1;
	s = open_session(bridge, "first", SB_DESIGNATED_SELF);
	if (!s)
		return 2;
	sb_bridge_close(bridge);
	return 0;
}

static int open_after(void *arg)
{
	return act_as_first(arg);
}

static void use_fresh(struct crash_world *w)
{
	int status = fixture_wait(fixture_fork(open_after, w));

	if (status != 0)
		crash_wrong(w, "whoever came after the first could not use the bridge: %d", status);
	fixture_dir_remove(fresh);
}

/* ── dedicated owners ── */

static int act_as_starter(struct crash_world *w)
{
	return open_session(w->bridge, "dedicated", SB_DESIGNATED_DEDICATED)
	               ? 0
	               : 1; /* without closing: the session outlives this process until it is swept */
}

/* What was started goes on without its starter, until the session ends. */
static void end_dedicated(struct crash_world *w)
{
	uint64_t until = sb__now_ms() + 60000;
	int released = 0;

	while (sb_session_release(w->bridge, "dedicated", &released) == 0 && !released &&
	       sb__now_ms() < until)
		usleep(10000);
	if (!released)
		crash_wrong(w, "no sb-owner came");
}

/* ── roles ── */

static const struct role roles[] = {
	{ "caller", NULL, NULL, act_as_caller, NULL, call_s, true },
	{ "owner", NULL, NULL, act_as_owner, call_owner, NULL, false },
	{ "releaser", NULL, NULL, act_as_releaser, NULL, NULL, true },
	{ "elector", NULL, make_orphan, act_as_elector, NULL, close_orphan, true },
	{ "mourner", NULL, serve_o, act_as_mourner, kill_owner_of_o, close_orphan, false },
	{ "keeper", "keeper.", NULL, act_as_keeper, NULL, NULL, true },
	{ "expirer", NULL, make_expired, act_as_visitor_of_expired, NULL, drop_expired, true },
	{ "reaper", NULL, make_debris, act_as_reaper, NULL, drop_alive, true },
	{ "grower", NULL, serve_lanes, act_as_grower, NULL, count_lanes, true },
	{ "arrays", NULL, make_array, act_with_arrays, keep_victims_array, drop_array, false },
	{ "first", NULL, make_fresh, act_as_first, NULL, use_fresh, true },
	{ "starter", "dedicated.", NULL, act_as_starter, NULL, end_dedicated, true },
};

/* ── runs ── */

struct order {
	size_t point; /* SIZE_MAX: none, the passings are counted */
	unsigned nth;
	bool stop; /* first */
};

static int be_victim(const struct role *role, const struct order *order)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	crash_pipes_in_victim(&world);
	if (order->point == SIZE_MAX)
		sb__point_count_in(counts);
	else
		sb__point_arm(order->point, order->nth, order->stop ? SB__POINT_STOP : SB__POINT_KILL);
	return role->act(&world);
}

/* One that stands still at the point: nobody waits for it. Then it is killed. */
static void look_at_stopped(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	if (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT) != 0 || info.si_code != CLD_STOPPED)
		return;
	crash_bystander_call(&world);
	kill(pid, SIGKILL);
}

/* True: it died of the order. */
static bool run(const struct role *role, const struct order *order)
{
	int status = 0;
	pid_t pid;

	if (role->before)
		role->before(&world);
	crash_pipes(&world);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(be_victim(role, order));
	crash_pipes_in_parent(&world);
	if (order->stop)
		look_at_stopped(pid);
	if (role->meanwhile)
		role->meanwhile(&world, pid);
	waitpid(pid, &status, 0);
	crash_pipes_close(&world);
	if (role->after)
		role->after(&world);
	crash_check(&world);
	if (order->point == SIZE_MAX && status != 0)
		crash_wrong(&world, "undisturbed it ended with status %x", (unsigned)status);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Threads do not pass the points in the same order each time: tries again until it dies of the order. */
static bool kill_surely(const struct role *role, const struct order *order)
{
	for (int i = 0; i < 20; i++)
		if (run(role, order))
			return true;
	return false;
}

static unsigned kill_at(const struct role *role, size_t point, unsigned passings)
{
	unsigned kills = 0, most = full ? 4 : 1;

	ordered = sb__point_name(point);
	for (unsigned nth = 1; nth <= passings && nth <= most; nth++)
		for (int stop = 0; stop <= (full && role->may_stop); stop++) {
			struct order order = { point, nth, stop };

			snprintf(world.context, sizeof(world.context), "%s killed at %s, time %u of %u%s",
			         role->name, ordered, nth, passings, stop ? ", stopped first" : "");
			kills += nth == 1 ? kill_surely(role, &order) : run(role, &order);
		}
	ordered = "";
	return kills;
}

/* All callers are through: the owner of "s" goes, and all that was its. */
static void end_s(struct crash_world *w)
{
	struct sb__sweep_options options = { .files = true };
	struct sb__sweep_result result;

	kill(keeper_of_s, SIGKILL);
	waitpid(keeper_of_s, NULL, 0);
	if (sb__reaper_sweep(w->hand.store, &w->hand.dir, &options, &result) != 0)
		crash_wrong(w, "the sweep: %s", sb_last_error()->message);
	crash_world_baseline(w);
}

/* again: only at points at which nobody has died yet. */
static void run_role(const struct role *role, bool again)
{
	uint64_t began = sb__now_ns();
	unsigned wrong = world.wrong, kills = 0, names = 0;
	struct order none = { .point = SIZE_MAX };

	memset(counts, 0, sb__point_count() * sizeof(*counts));
	snprintf(world.context, sizeof(world.context), "%s, not killed", role->name);
	if (strcmp(role->name, "caller") == 0)
		serve_s(&world);
	(void)run(role, &none);
	for (size_t i = 0; i < sb__point_count(); i++) {
		unsigned passings = atomic_load(&counts[i]), here = 0;

		if (passings && !(again && reached[i]) &&
		    (!role->only || strncmp(sb__point_name(i), role->only, strlen(role->only)) == 0))
			here = kill_at(role, i, passings);
		reached[i] += here;
		names += here > 0;
		kills += here;
	}
	if (strcmp(role->name, "caller") == 0)
		end_s(&world);
	if (!again || kills)
		print_message("%-9s %4u kills at %3u points, %u wrong\n", role->name, kills, names,
		              world.wrong - wrong);
	if (!again || kills)
		crash_report("kill-points", role->name, kills, world.wrong - wrong, began);
}

/* Points at which nobody was killed; printed if tell. */
static unsigned dead_names(bool tell)
{
	unsigned dead = 0;

	for (size_t i = 0; i < sb__point_count(); i++) {
		dead += !reached[i];
		if (tell && !reached[i])
			print_message("nobody was killed at %s\n", sb__point_name(i));
	}
	return dead;
}

static void test_30_31_kills_at_named_points(void **state)
{
	const char *role = getenv("SB_CRASH_ROLE");

	(void)state;
	assert_int_equal(crash_world_open(&world), 0);
	/* Whether a point is passed may be a matter of time: what was not is tried again. */
	for (int round = 0; round < 40 && (round == 0 || (!role && dead_names(false))); round++)
		for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
			if (!role || strcmp(role, roles[i].name) == 0)
				run_role(&roles[i], round > 0);
	print_message("%zu points; a bystander's call took %.1f ms at worst\n", sb__point_count(),
	              (double)world.worst_ns / 1e6);
	crash_world_close(&world);
	assert_int_equal(world.wrong, 0);
	if (!role)
		assert_int_equal(dead_names(true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_30_31_kills_at_named_points),
	};

	echo_engine_use();
	signal(SIGPIPE, SIG_IGN);
	setenv("SNAKEBRIDGE_SWEEP_MS", "0", 1); /* only this test sweeps */
	full = getenv("SB_CRASH") && strcmp(getenv("SB_CRASH"), "full") == 0;
	counts = mmap(NULL, sb__point_count() * sizeof(*counts), PROT_READ | PROT_WRITE,
	              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	reached = calloc(sb__point_count(), sizeof(*reached));
	return counts == MAP_FAILED || !reached || cmocka_run_group_tests_name("points", tests, NULL, NULL);
}

#else

int main(void)
{
	return 77;
}

#endif
