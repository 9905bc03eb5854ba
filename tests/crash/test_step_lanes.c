/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Killed at every instruction of what crosses between processes by shared memory alone: lanes, doorbell, mailbox, arena,
 * holds. After each death: nothing stays claimed, nothing is lost or wrong for anybody else.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fail.h"
#include "holds.h"
#include "mailbox_impl.h"
#include "shm_world.h"
#include "step_suite.h"

#define VICTIM    12
#define OTHER     13 /* who is dead already */
#define MS        UINT64_C(1000000)
#define MINUTE_NS (60000 * MS)
#define BIG       6000 /* beyond a lane */

/* Served by a process that nobody kills, while callers die; this process has lane 0. */
static struct shm_world served;
static pid_t server;
static uint32_t own_lane;

/* Made anew for each death of an owner. */
static struct shm_world fresh;
static uint32_t fresh_lane;
static struct sb__flight flight;
static struct shm_world mine; /* the victim's view of it */

/* ── calls ── */

static int post(struct shm_world *world, uint32_t lane, uint64_t number, size_t bytes, struct sb__flight *ret)
{
	struct sb__lane_post post = { .deadline_ns = sb__now_ns() + MINUTE_NS,
		                      .trace_id = number,
		                      .label = "echo",
		                      .arena = world->arena };
	struct sb__buf buf;

	sb__lane_request(world->mailbox, lane, &buf);
	message_write(&buf, number, bytes);
	return sb__flight_post(ret, world->mailbox, &world->bell, lane, &buf, &post, NULL, NULL);
}

static bool take_reply(struct shm_world *world, uint32_t lane, uint64_t number, size_t bytes)
{
	struct sb__buf buf;
	bool right;

	sb__buf_init(&buf, NULL, 0);
	right = sb__lane_reply(world->mailbox, lane, world->peers, &buf) == 0 &&
	        message_is(&buf, number + 1, bytes);
	sb__lane_consume(world->mailbox, lane);
	sb__buf_free(&buf);
	return right;
}

/* ── callers: the world that is served ── */

static struct sb__lane_post victims_post;
static struct sb__buf victims_buf;
static uint32_t victims_lane;

static int claim(void *arg)
{
	(void)arg;
	return sb__lane_claim(served.mailbox, VICTIM, 1, &victims_lane);
}

static int write_request(size_t bytes)
{
	int err = claim(NULL);

	/* An arena of its own: the inherited one is not to be used in a child. */
	if (!err)
		err = sb__arena_create(served.arena_dir, VICTIM, 1, &served.arena);
	victims_post = (struct sb__lane_post){ .deadline_ns = sb__now_ns() + MINUTE_NS,
		                               .label = "victim",
		                               .arena = served.arena };
	sb__lane_request(served.mailbox, victims_lane, &victims_buf);
	message_write(&victims_buf, 99, bytes);
	return err;
}

static int write_small(void *arg)
{
	(void)arg;
	return write_request(24);
}

static int write_big(void *arg)
{
	(void)arg;
	return write_request(BIG);
}

static int publish(void *arg)
{
	struct sb__flight f;

	(void)arg;
	return sb__flight_post(&f, served.mailbox, &served.bell, victims_lane, &victims_buf, &victims_post,
	                       NULL, NULL);
}

static int call_whole(void *arg)
{
	enum sb__lane_result result = SB__LANE_MAYBE;
	int err = sb__lane_call(served.mailbox, &served.bell, victims_lane, &victims_buf, &victims_post, NULL,
	                        NULL, &result);

	(void)arg;
	return err || result != SB__LANE_REPLIED;
}

static int called_small(void *arg)
{
	return write_small(arg) || call_whole(arg);
}

static int called_big(void *arg)
{
	return write_big(arg) || call_whole(arg);
}

static int take_and_give_back(size_t bytes)
{
	bool right = take_reply(&served, victims_lane, 99, bytes);

	sb__lane_unclaim(served.mailbox, victims_lane);
	return !right;
}

static int take_small(void *arg)
{
	(void)arg;
	return take_and_give_back(24);
}

static int take_big(void *arg)
{
	(void)arg;
	return take_and_give_back(BIG);
}

static void after_caller(void)
{
	static uint64_t number;

	(void)sb__mailbox_reclaim(served.mailbox, VICTIM, 1, false);
	if (world_call(&served, own_lane, ++number, 24, MINUTE_NS, NULL) != 0)
		step_wrong("a bystander's call went wrong");
	for (int i = 0; world_claimed(&served) > 1 && i < 20000; i++)
		usleep(100); /* the owner finishes what it was running for the dead */
	if (world_claimed(&served) != 1)
		step_wrong("%u lanes stay claimed", world_claimed(&served) - 1);
	(void)sb__arena_unlink(served.arena_dir, VICTIM, 1);
}

/* ── owners and others: a world for each death ── */

static void open_fresh(void)
{
	if (world_open(&fresh, NULL) != 0 || sb__lane_claim(fresh.mailbox, 11, 1, &fresh_lane) != 0) {
		fprintf(stderr, "no world: %s\n", sb_last_error()->message);
		abort();
	}
}

static void close_fresh(void)
{
	world_close(&fresh);
}

static void post_fresh(size_t bytes)
{
	open_fresh();
	if (post(&fresh, fresh_lane, 7, bytes, &flight) != 0)
		step_wrong("nothing could be sent: %s", sb_last_error()->message);
}

static void post_small(void)
{
	post_fresh(24);
}

static void post_big(void)
{
	post_fresh(BIG);
}

static int become_owner(void *arg)
{
	(void)arg;
	return world_join(&fresh, VICTIM, &mine) || world_be_owner(&mine);
}

static int serve(void *arg)
{
	uint32_t sessions = 0, lanes = 0;

	(void)arg;
	if (sb__bell_take(&mine.bell, &sessions) != WORLD_BELL_INDEX)
		return 1;
	return world_serve_pending(&mine, &lanes) != 1;
}

static int sleep_as_leader(void *arg)
{
	(void)arg;
	return sb__bell_sleep(&mine.bell, 2 * MS, 1000);
}

/* Its caller knows what became of the call: the right answer, or that its owner died. */
static void settle(size_t bytes)
{
	if (!sb__flight_wait(&flight, sb__now_ns() + 20000 * MS))
		step_wrong("the caller still waits");
	else if (flight.result == SB__LANE_REPLIED && !take_reply(&fresh, fresh_lane, 7, bytes))
		step_wrong("a wrong answer");
	else if (flight.result != SB__LANE_REPLIED && flight.result != SB__LANE_DIED_NOT_STARTED &&
	         flight.result != SB__LANE_DIED_MAYBE)
		step_wrong("the caller was told %d", flight.result);
	(void)sb__mailbox_reclaim(fresh.mailbox, 11, 1, true);
	if (world_claimed(&fresh) != 0)
		step_wrong("%u lanes stay claimed", world_claimed(&fresh));
	if (sb__arena_in_use(fresh.arena) != 0)
		step_wrong("the request's block is lost");
	close_fresh();
}

static void settle_small(void)
{
	settle(24);
}

static void settle_big(void)
{
	settle(BIG);
}

/* A call after the leader died parked. */
static void call_the_dead(void)
{
	if (post(&fresh, fresh_lane, 7, 24, &flight) != 0)
		step_wrong("nothing could be sent: %s", sb_last_error()->message);
	settle(24);
}

/* This process serves its own call: shows that the world is whole. */
static void serve_oneself(struct shm_world *world, uint32_t lane)
{
	uint32_t lanes = 0;
	struct sb__flight f;

	if (post(world, lane, 21, 24, &f) != 0) {
		step_wrong("nothing could be sent: %s", sb_last_error()->message);
		return;
	}
	(void)world_serve_pending(world, &lanes);
	if (!sb__flight_poll(&f) || f.result != SB__LANE_REPLIED || !take_reply(world, lane, 21, 24))
		step_wrong("a call after it is not answered");
}

/* ── parking: an owner that does not serve ── */

static int park(void *arg)
{
	struct sb__lane_post p = { .deadline_ns = sb__now_ns() + 6 * MS, .label = "victim" };
	enum sb__lane_result result = SB__LANE_MAYBE;
	struct sb__buf buf;
	uint32_t lane;
	int err = sb__lane_claim(fresh.mailbox, VICTIM, 1, &lane);

	(void)arg;
	if (err)
		return err;
	sb__lane_request(fresh.mailbox, lane, &buf);
	message_write(&buf, 5, 24);
	err = sb__lane_call(fresh.mailbox, &fresh.bell, lane, &buf, &p, NULL, NULL, &result);
	return err || result != SB__LANE_NOT_STARTED;
}

static void open_silent(void)
{
	open_fresh();
	(void)sb__bell_alive_hold(&fresh.bell);
}

static void after_parked(void)
{
	uint32_t lanes = 0;

	(void)world_serve_pending(&fresh, &lanes); /* what the dead may have asked for */
	(void)sb__mailbox_reclaim(fresh.mailbox, VICTIM, 1, false);
	serve_oneself(&fresh, fresh_lane);
	if (world_claimed(&fresh) != 1)
		step_wrong("%u lanes stay claimed", world_claimed(&fresh) - 1);
	sb__bell_alive_release(&fresh.bell);
	close_fresh();
}

/* ── cancelling ── */

static int cancel(void *arg)
{
	uint32_t removed, asked;

	(void)arg;
	sb__mailbox_cancel(fresh.mailbox, &fresh.bell, 7, &removed, &asked);
	return removed != 1;
}

static void after_cancel(void)
{
	uint32_t lanes = 0;

	(void)world_serve_pending(&fresh, &lanes);
	if (!sb__flight_poll(&flight))
		step_wrong("neither cancelled nor answered");
	else if (flight.result == SB__LANE_REPLIED && !take_reply(&fresh, fresh_lane, 7, 24))
		step_wrong("a wrong answer");
	else if (flight.result != SB__LANE_REPLIED && flight.result != SB__LANE_WAS_CANCELLED)
		step_wrong("the caller was told %d", flight.result);
	serve_oneself(&fresh, fresh_lane);
	close_fresh();
}

/* ── callbacks: the owner asks its caller ── */

static struct sb__accepted asking_call;

static bool answer(void *arg, uint64_t key, const struct sb__buf *question, int error,
                   bool (*stands)(const struct sb__flight *f), const struct sb__flight *f,
                   struct sb__buf *ret)
{
	(void)arg;
	(void)key;
	(void)question;
	(void)stands;
	(void)f;
	sb__buf_append(ret, "answer", 6);
	return error == 0;
}

static void answered(void *arg)
{
	(void)arg;
}

static struct sb__answering answering = { .answer = answer, .answered = answered };

static bool lives(void *arg)
{
	(void)arg;
	return kill((pid_t)asking_call.caller_pid, 0) == 0;
}

/* At the second look: the question has been put then. */
static bool seen_once(void *arg)
{
	return (*(int *)arg)++ > 0;
}

static int ask(struct shm_world *world, struct sb__accepted *call, int looks)
{
	struct sb__asking asking = { answered, lives, seen_once, &looks };
	struct sb__buf question, given;
	enum sb__asked result;

	sb__buf_init(&question, NULL, 0);
	sb__buf_init(&given, NULL, 0);
	sb__buf_append(&question, "question", 8);
	result = sb__accepted_ask(world->mailbox, call, &question, world->arena, world->peers, &asking,
	                          &given);
	sb__buf_free(&question);
	sb__buf_free(&given);
	return result != SB__ASKED_STOPPED && result != SB__ASKED_ANSWERED;
}

static void complete_asked(struct shm_world *world, struct sb__accepted *call)
{
	struct sb__buf reply;

	sb__accepted_answered(world->mailbox, call);
	sb__accepted_reply(world->mailbox, call, &reply);
	message_write(&reply, 8, 24);
	(void)sb__accepted_complete(world->mailbox, call, &reply, world->arena);
}

/* A process that asks the victim, and must not wait for it when it is dead. */
static pid_t asker;

static int be_asker(void)
{
	static uint8_t scratch[SB__INLINE_MAX];
	uint32_t cursor = 0;

	if (world_join(&fresh, OTHER, &mine) != 0)
		return 1;
	while (sb__mailbox_accept(mine.mailbox, mine.peers, &cursor, scratch, &asking_call) != 1)
		usleep(20);
	(void)ask(&mine, &asking_call, INT32_MIN);
	complete_asked(&mine, &asking_call);
	return 0;
}

static void open_asked(void)
{
	open_fresh();
	asker = fork();
	if (asker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(be_asker());
	}
}

static int join_fresh(void *arg)
{
	(void)arg;
	return world_join(&fresh, VICTIM, &mine);
}

static int call_and_answer(void *arg)
{
	struct sb__lane_post p = { .deadline_ns = sb__now_ns() + MINUTE_NS,
		                   .label = "victim",
		                   .flags = SB__REQUEST_ASKABLE,
		                   .answering = &answering };
	enum sb__lane_result result = SB__LANE_MAYBE;
	struct sb__buf buf;
	uint32_t lane;
	bool late;
	int err = sb__lane_claim(mine.mailbox, VICTIM, 1, &lane);

	(void)arg;
	if (err)
		return err;
	sb__lane_request(mine.mailbox, lane, &buf);
	message_write(&buf, 5, 24);
	err = sb__lane_call_asked(mine.mailbox, &mine.bell, lane, &buf, &p, NULL, NULL, &result, &late);
	return err || result != SB__LANE_REPLIED;
}

/* If it took the call up, it notices the death and is done with it. */
static void after_answer(void)
{
	unsigned state = SB__WORD_STATE(sb__load(&sb__lane_at(fresh.mailbox, 1)->word));
	bool busy = state == SB__LANE_BUSY || state == SB__LANE_ABANDONED;
	pid_t ended = 0;

	for (int i = 0; busy && ended == 0 && i < 20000; i++) {
		ended = waitpid(asker, NULL, WNOHANG);
		if (ended == 0)
			usleep(500);
	}
	if (busy && ended != asker)
		step_wrong("the owner waits for an answer of the dead");
	if (ended != asker) {
		kill(asker, SIGKILL);
		waitpid(asker, NULL, 0);
	}
	(void)sb__mailbox_reclaim(fresh.mailbox, VICTIM, 1, true);
	serve_oneself(&fresh, fresh_lane);
	if (world_claimed(&fresh) != 1)
		step_wrong("%u lanes stay claimed", world_claimed(&fresh) - 1);
	close_fresh();
}

/* The victim asks; its caller, which is this process, does not answer. */
static int accept_as_owner(void *arg)
{
	static uint8_t scratch[SB__INLINE_MAX];
	uint32_t cursor = 0;

	return become_owner(arg) ||
	       sb__mailbox_accept(mine.mailbox, mine.peers, &cursor, scratch, &asking_call) != 1;
}

static int ask_and_reply(void *arg)
{
	int err = ask(&mine, &asking_call, 0);

	(void)arg;
	complete_asked(&mine, &asking_call);
	return err;
}

/* ── growing ── */

static void take_all_lanes(void)
{
	uint32_t lane;

	open_fresh();
	while (world_claimed(&fresh) < SB__LANES_FIRST)
		if (sb__lane_claim(fresh.mailbox, 11, 1, &lane) != 0)
			abort();
}

static int claim_one_more(void *arg)
{
	uint32_t lane;

	(void)arg;
	return sb__lane_claim(fresh.mailbox, VICTIM, 1, &lane);
}

static void after_growing(void)
{
	uint32_t lane = 0;

	(void)sb__mailbox_reclaim(fresh.mailbox, VICTIM, 1, false);
	if (sb__lane_claim(fresh.mailbox, 11, 1, &lane) != 0 ||
	    sb__mailbox_lanes(fresh.mailbox) != 2 * SB__LANES_FIRST)
		step_wrong("no lane, or %u in all: %s", sb__mailbox_lanes(fresh.mailbox),
		           sb_last_error()->message);
	else
		serve_oneself(&fresh, lane);
	close_fresh();
}

/* ── ending ── */

static int end_mailbox(void *arg)
{
	(void)arg;
	return !sb__mailbox_end(fresh.mailbox, SB__MAILBOX_RELEASED);
}

static void after_ending(void)
{
	(void)sb__mailbox_end(fresh.mailbox, SB__MAILBOX_RELEASED); /* whoever comes next */
	if (!sb__flight_wait(&flight, sb__now_ns() + 20000 * MS) || flight.result != SB__LANE_ENDED)
		step_wrong("the caller was told %d", flight.over ? (int)flight.result : -1);
	close_fresh();
}

/* ── reclaiming ── */

static void leave_lanes(void)
{
	struct sb__flight f;
	uint32_t lane, lanes = 0;

	open_fresh();
	for (int i = 0; i < 3; i++) {
		if (sb__lane_claim(fresh.mailbox, OTHER, 1, &lane) != 0 ||
		    (i > 0 && post(&fresh, lane, 3, 24, &f) != 0))
			abort();
		if (i == 1)
			(void)world_serve_pending(&fresh, &lanes);
	} /* IDLE, DONE, READY */
}

static int reclaim(void *arg)
{
	(void)arg;
	return sb__mailbox_reclaim(fresh.mailbox, OTHER, 1, false) != 3;
}

static void after_reclaim(void)
{
	(void)sb__mailbox_reclaim(fresh.mailbox, OTHER, 1, false);
	if (world_claimed(&fresh) != 1)
		step_wrong("%u lanes stay claimed", world_claimed(&fresh) - 1);
	serve_oneself(&fresh, fresh_lane);
	close_fresh();
}

/* ── files ── */

static struct sb__identity victim_identity(void)
{
	return (struct sb__identity){ .slot = VICTIM, .generation = 1, .pid = (int32_t)getpid() };
}

static int make_bell(void *arg)
{
	struct sb__identity self = victim_identity();
	struct sb__bell bell;

	(void)arg;
	return sb__bell_create(fresh.bell_dir, &self, &bell);
}

static int make_mailbox(void *arg)
{
	struct sb__mailbox_params params = {
		.incarnation = 77, .owner = victim_identity(), .max_refs = 10, .session_id = "made"
	};
	struct sb__mailbox *mailbox;

	(void)arg;
	return sb__mailbox_create(fresh.mailbox_dir, &params, &mailbox);
}

/* ── a mailbox that is used again ── */

static struct sb__mailbox *again;

static int make_again(uint64_t incarnation)
{
	static struct sb__mailbox_pool *pool;
	struct sb__mailbox_params params = {
		.incarnation = incarnation, .owner = victim_identity(), .max_refs = 10, .session_id = "again"
	};

	if (!pool && sb__mailbox_pool_new(fresh.mailbox_dir, VICTIM, 1, &pool) != 0)
		return 1;
	params.pool = pool;
	return sb__mailbox_create(fresh.mailbox_dir, &params, &again);
}

static int have_mailbox(void *arg)
{
	(void)arg;
	return make_again(78);
}

static int use_again(void *arg)
{
	(void)arg;
	(void)sb__mailbox_end(again, SB__MAILBOX_RELEASED);
	sb__mailbox_retire(again, false);
	sb__mailbox_detach(again);
	return make_again(79);
}

static void check_whose(uint64_t incarnation)
{
	struct sb__mailbox *mailbox;
	int err = sb__mailbox_attach(fresh.mailbox_dir, incarnation, &mailbox);

	if (err && err != SB_ERELEASED)
		step_wrong("mailbox %u cannot be had: %s", (unsigned)incarnation, sb_last_error()->message);
	if (err)
		return;
	if (sb__mailbox_header(mailbox)->incarnation != incarnation ||
	    (incarnation == 79 && sb__mailbox_state(mailbox) != SB__MAILBOX_SERVING))
		step_wrong("mailbox %u is another's", (unsigned)incarnation);
	sb__mailbox_detach(mailbox);
}

/* Of names that are no sessions' the victim leaves at most one, which says that it was being made. */
static void after_again(void)
{
	const struct dirent *entry;
	unsigned files = 0;
	DIR *dir;

	check_whose(78);
	check_whose(79);
	dir = fdopendir(dup(fresh.mailbox_dir));
	while (dir && (entry = readdir(dir)))
		files += entry->d_name[0] == '0' ? strcmp(entry->d_name, "000000000000002a") != 0
		                                 : strncmp(entry->d_name, ".new.12.1.", 10) == 0;
	if (dir)
		closedir(dir);
	if (files != 1)
		step_wrong("%u files where one was used twice", files);
	close_fresh();
}

static void after_bell(void)
{
	struct sb__bell bell;
	int err = sb__bell_attach(fresh.bell_dir, VICTIM, 1, &bell);

	if (err && err != SB_EOWNERDIED)
		step_wrong("half a doorbell: %s", sb_last_error()->message);
	if (!err)
		sb__bell_detach(&bell);
	close_fresh();
}

static void after_mailbox(void)
{
	struct sb__mailbox *mailbox;
	int err = sb__mailbox_attach(fresh.mailbox_dir, 77, &mailbox);

	if (err && err != SB_ERELEASED)
		step_wrong("half a mailbox: %s", sb_last_error()->message);
	if (!err)
		sb__mailbox_detach(mailbox);
	close_fresh();
}

/* ── arenas ── */

static struct sb__arena *victims_arena;
static struct sb__spill_shm victims_block;

static int have_arena(void *arg)
{
	(void)arg;
	return sb__arena_create(fresh.arena_dir, VICTIM, 1, &victims_arena);
}

static int allocate(void *arg)
{
	void *addr;

	(void)arg;
	return sb__arena_alloc(victims_arena, BIG, &victims_block, &addr);
}

static int have_block(void *arg)
{
	return have_arena(arg) || allocate(arg);
}

static int free_block(void *arg)
{
	(void)arg;
	sb__arena_free(victims_arena, &victims_block);
	return 0;
}

static int make_array(void *arg)
{
	void *addr;

	(void)arg;
	return sb__arena_block_make(victims_arena, SB__POOL_ARRAY, 100000, true, &victims_block, &addr);
}

static int have_array(void *arg)
{
	int err = have_arena(arg);

	sb__arena_limit(victims_arena, (uint64_t)1 << 30, 0);
	return err || make_array(arg);
}

static int drop_array(void *arg)
{
	(void)arg;
	sb__arena_block_unref(victims_arena, victims_block.offset);
	return 0;
}

static int destroy_arena(void *arg)
{
	(void)arg;
	sb__arena_destroy(victims_arena, true);
	return 0;
}

/* What the dead had goes by two names; another's arena is as before. */
static void after_arena(void)
{
	struct sb__spill_shm block;
	const struct dirent *entry;
	void *addr;
	DIR *dir;
	int rest = 0;

	if (sb__arena_unlink(fresh.arena_dir, VICTIM, 1) != 0)
		step_wrong("the dead's arena cannot be removed: %s", sb_last_error()->message);
	dir = fdopendir(dup(fresh.arena_dir));
	while (dir && (entry = readdir(dir)))
		rest += strncmp(entry->d_name, "12.", 3) == 0;
	if (dir)
		closedir(dir);
	if (rest)
		step_wrong("%d files of the dead's arena are left", rest);
	if (sb__arena_alloc(fresh.arena, BIG, &block, &addr) != 0)
		step_wrong("another's arena is no good: %s", sb_last_error()->message);
	close_fresh();
}

/* ── holds: of a block of this process's ── */

static struct sb__spill_shm kept_block;
static struct sb__arena_cache *victims_cache;
static struct sb__arena_kept *kept;

static void offer_block(void)
{
	void *addr;

	open_fresh();
	if (sb__arena_block_make(fresh.arena, SB__POOL_ARRAY, 5000, false, &kept_block, &addr) != 0)
		step_wrong("no array: %s", sb_last_error()->message);
}

static int have_cache(void *arg)
{
	int err = sb__arena_cache_create(fresh.arena_dir, &victims_cache);

	(void)arg;
	if (!err)
		sb__arena_cache_identify(victims_cache, VICTIM, 1);
	return err;
}

static int keep(void *arg)
{
	void *addr;

	(void)arg;
	return sb__arena_keep(victims_cache, &kept_block, true, &kept, &addr);
}

static int have_kept(void *arg)
{
	return have_cache(arg) || keep(arg);
}

static int give_back(void *arg)
{
	(void)arg;
	sb__arena_kept_unref(kept);
	return 0;
}

static void after_holds(void)
{
	struct sb__holds_shm *holds;

	if (sb__holds_attach(fresh.arena_dir, fresh.owner.slot, fresh.owner.generation, &holds) != 0) {
		step_wrong("no table of holds: %s", sb_last_error()->message);
		return;
	}
	(void)sb__holds_clear(holds, VICTIM, 1);
	sb__holds_detach(holds);
	sb__arena_block_unref(fresh.arena, kept_block.offset);
	sb__arena_sweep(fresh.arena);
	if (sb__arena_in_use(fresh.arena) != 0)
		step_wrong("the dead keeps %zu bytes", sb__arena_in_use(fresh.arena));
	close_fresh();
}

/* Another reaper clears them meanwhile. */
static void offer_and_hold(void)
{
	struct sb__holds_shm *holds;
	uint32_t hint = 0, entry;

	offer_block();
	if (sb__holds_attach(fresh.arena_dir, fresh.owner.slot, fresh.owner.generation, &holds) != 0)
		abort();
	(void)sb__holds_take(holds, SB__HOLD(VICTIM, 1, kept_block.offset), &hint, &entry);
	sb__holds_detach(holds);
}

static int clear_holds(void *arg)
{
	struct sb__holds_shm *holds;
	uint32_t cleared;

	(void)arg;
	if (sb__holds_attach(fresh.arena_dir, fresh.owner.slot, fresh.owner.generation, &holds) != 0)
		return 1;
	cleared = sb__holds_clear(holds, VICTIM, 1);
	return cleared != 1;
}

/* ── */

static const struct step_item items[] = {
	{ "claim", NULL, NULL, claim, after_caller, 60, 0 },
	{ "publish", NULL, write_small, publish, after_caller, 150, 0 },
	{ "publish-spilled", NULL, write_big, publish, after_caller, 150, 0 },
	{ "call", NULL, write_small, call_whole, after_caller, 150, 0 },
	{ "reply-and-give", NULL, called_small, take_small, after_caller, 100, 0 },
	{ "reply-spilled", NULL, called_big, take_big, after_caller, 100, 0 },
	{ "park", open_silent, NULL, park, after_parked, 150, 0 },
	{ "cancel", post_small, NULL, cancel, after_cancel, 80, 0 },
	{ "ask", post_small, accept_as_owner, ask_and_reply, settle_small, 80, 0 },
	{ "answer", open_asked, join_fresh, call_and_answer, after_answer, 80, 0 },
	{ "grow", take_all_lanes, NULL, claim_one_more, after_growing, 120, 0 },
	{ "serve", post_small, become_owner, serve, settle_small, 150, 0 },
	{ "serve-spilled", post_big, become_owner, serve, settle_big, 150, 0 },
	{ "leader-park", open_fresh, become_owner, sleep_as_leader, call_the_dead, 100, 0 },
	{ "end", post_small, NULL, end_mailbox, after_ending, 80, 0 },
	{ "reclaim", leave_lanes, NULL, reclaim, after_reclaim, 80, 0 },
	{ "bell-make", open_fresh, NULL, make_bell, after_bell, 80, 0 },
	{ "mailbox-make", open_fresh, NULL, make_mailbox, after_mailbox, 80, 0 },
	{ "mailbox-again", open_fresh, have_mailbox, use_again, after_again, 100, 0 },
	{ "arena-alloc", open_fresh, have_arena, allocate, after_arena, 80, 0 },
	{ "arena-alloc-again", open_fresh, have_block, allocate, after_arena, 80, 0 },
	{ "arena-free", open_fresh, have_block, free_block, after_arena, 60, 0 },
	{ "array-make", open_fresh, have_arena, make_array, after_arena, 100, 0 },
	{ "array-drop", open_fresh, have_array, drop_array, after_arena, 60, 0 },
	{ "arena-destroy", open_fresh, have_array, destroy_arena, after_arena, 60, 0 },
	{ "hold-take", offer_block, have_cache, keep, after_holds, 100, 0 },
	{ "hold-give", offer_block, have_kept, give_back, after_holds, 60, 0 },
	{ "hold-clear", offer_and_hold, NULL, clear_holds, after_holds, 60, 0 },
};

static void test_31_kills_at_each_instruction_of_lanes(void **state)
{
	int wrong;

	(void)state;
	assert_int_equal(world_open(&served, NULL), 0);
	server = world_fork_server(&served);
	assert_true(server > 0);
	step_one_cpu();
	assert_int_equal(sb__lane_claim(served.mailbox, 11, 1, &own_lane), 0);
	wrong = step_suite_run("kill-steps", items, sizeof(items) / sizeof(items[0]));
	step_any_cpu();
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	world_close(&served);
	if (wrong < 0)
		skip();
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_31_kills_at_each_instruction_of_lanes),
	};

	return cmocka_run_group_tests_name("step_lanes", tests, NULL, NULL);
}
