/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge as this process sees it: the registry of open directories, attaching (life token, process
 * slot, store), and what a forked child does with what it inherited.
 *
 * A directory is opened by sb_bridge_open(); the process slot is taken at the first use of a session, so
 * that a parent that only opens and forks costs nothing.
 *
 * Lock order: registry lock, then core->lock.
 *
 * Crash: a kill between taking the life token and writing the process record leaves nothing (the kernel
 * frees the token); after it, a record whose token is free, which the reaper removes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "notify.h"
#include "os_linux.h"
#include "point.h"
#include "sweep.h"

/* Where every process slot is taken: */
#define ATTACH_TIDY_DEAD 32    /* how many dead processes attaching tidies up after at a time */
#define ATTACH_TIDY_MS   10000 /* and for how long at most, should others take the slots that it frees */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sb__core *registry;
static sb_bridge *default_bridge;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* ── fork ── */

static void lock_all(void)
{
	sb__turn_ordinary();
	pthread_mutex_lock(&registry_lock);
	for (struct sb__core *core = registry; core; core = core->next) {
		pthread_mutex_lock(&core->lock);
		if (core->arena)
			sb__arena_fork_before(core->arena);
	}
	sb__notify_before_fork();
}

static void unlock_all(void (*arena_fork)(struct sb__arena *arena), bool child)
{
	sb__notify_after_fork(child);
	for (struct sb__core *core = registry; core; core = core->next) {
		if (core->arena)
			arena_fork(core->arena);
		pthread_mutex_unlock(&core->lock);
	}
	pthread_mutex_unlock(&registry_lock);
}

static void unlock_all_in_parent(void)
{
	unlock_all(sb__arena_fork_parent, false);
}

/* A rejoin may wait long for a session to start, so fork() does not wait for it; the child begins anew. */
static void unlock_all_in_child(void)
{
	for (struct sb__core *core = registry; core; core = core->next) {
		pthread_mutex_init(&core->rejoin_lock, NULL);
		if (core->host)
			sb__bell_inherited(sb__host_bell(core));
	}
	unlock_all(sb__arena_fork_child, true);
	sb__serve_forked_child();
}

static void install_fork_hooks(void)
{
	(void)sb__life_guard(); /* its lock is taken after ours, by forks, too; whoever takes the token hears of an error */
	/* Only our locks: what a child must do anew it does at first use, by the fork epoch. */
	pthread_atfork(lock_all, unlock_all_in_parent, unlock_all_in_child);
}

bool sb__core_is_ours(const struct sb__core *core)
{
	return atomic_load_explicit(&core->epoch, memory_order_acquire) == sb__fork_epoch();
}

/* ── attaching ── */

static int hold_slot(void *arg, uint32_t slot)
{
	struct sb__core *core = arg;

	return sb__life_hold(core->dir.boot, slot, &core->life_pin);
}

static void drop_slot(void *arg, uint32_t slot)
{
	struct sb__core *core = arg;

	(void)slot;
	sb__life_drop(core->life_pin);
	core->life_pin = NULL;
}

static void close_space(struct sb__core *core, bool unlink)
{
	sb__space_close(core->space, unlink);
	core->space = NULL;
	core->arena = NULL;
	core->arenas = NULL;
}

static int open_space(struct sb__core *core)
{
	struct sb__arena_cache *cache;
	struct sb__arena *arena;
	int err = sb__arena_create(core->dir.arena, core->self.slot, core->self.generation, &arena);

	if (err)
		return err;
	sb__arena_limit(arena, sb__core_number(core, SB__CONFIG_MAX_ARENA_BYTES),
	                sb__core_number(core, SB__CONFIG_ARENA_WARM_BYTES));
	err = sb__arena_cache_create(core->dir.arena, &cache);
	if (!err) {
		err = sb__space_create(arena, cache, core->self.slot, core->self.generation,
		                       sb__core_number(core, SB__CONFIG_MAX_ARRAY_BYTES), core, &core->space);
		if (err)
			sb__arena_cache_destroy(cache);
	}
	if (err) {
		sb__arena_destroy(arena, true);
		return err;
	}
	core->arena = arena;
	core->arenas = cache;
	return 0;
}

/* What a parent process left in this memory: never given back, never used. */
static int forget_inherited_locked(struct sb__core *core)
{
	int err = sb__store_forget(core->store);

	if (err)
		return err;
	core->store = NULL;
	sb__host_forget_locked(core);
	sb__attachments_forget_locked(core);
	core->life_pin = NULL; /* the mapping was MADV_DONTFORK: it is not here */
	close_space(core, false);
	return 0;
}

/* Where dead processes keep all slots because no reaper runs, this one tidies before it gives up: after a few of them
 * at a time, since many may be attaching at once, and what each frees others may take. */
static int take_slot(struct sb__core *core)
{
	struct sb__sweep_options options = { .budget_ms = ATTACH_TIDY_MS / 2, .dead_max = ATTACH_TIDY_DEAD };
	struct sb__sweep_result result;
	uint64_t until_ms = sb__now_ms() + ATTACH_TIDY_MS;
	bool again = true;

	for (;;) {
		int err = sb__store_process_add(core->store, &core->self, hold_slot, drop_slot, core);

		if (err != SB_EPROCESSES || !again || sb__now_ms() >= until_ms)
			return err;
		err = sb__reaper_sweep(core->store, &core->dir, &options, &result);
		if (err)
			return err;
		again = sb__sweep_actions(&result) > 0 || !result.complete;
	}
}

static int attach_locked(struct sb__core *core)
{
	int err;

	if (!core->store) {
		err = sb__store_open(core->dir.boot, true, sb__layout_fingerprint(), &core->store);
		if (err)
			return err;
		core->store_epoch = sb__fork_epoch();
	}
	err = sb__identity_self(&core->self);
	if (err)
		return err;
	err = take_slot(core);
	if (err)
		return err;
	SB_POINT("attach.recorded");
	err = open_space(core);
	if (err) {
		sb__store_process_remove(core->store, core->self.slot, core->self.generation);
		drop_slot(core, core->self.slot);
	}
	return err;
}

int sb__core_enter_locked(struct sb__core *core)
{
	uint64_t epoch = sb__fork_epoch();
	int err;

	if (atomic_load_explicit(&core->epoch, memory_order_relaxed) == epoch)
		return 0;
	if (core->store_epoch != epoch) {
		err = forget_inherited_locked(core);
		if (err)
			return err;
		atomic_store(&core->epoch, 0);
	}
	err = attach_locked(core);
	if (err)
		return err;
	atomic_store_explicit(&core->epoch, epoch, memory_order_release);
	return 0;
}

int sb__core_enter(struct sb__core *core)
{
	int err;

	if (sb__core_is_ours(core))
		return 0;
	pthread_mutex_lock(&core->lock);
	err = sb__core_enter_locked(core);
	pthread_mutex_unlock(&core->lock);
	return err;
}

/* ── handles ── */

static void core_free(struct sb__core *core)
{
	sb__events_forget(&core->events);
	sb__index_free(&core->attachments);
	sb__index_free(&core->attachment_serials);
	sb__index_free(&core->sessions);
	sb__index_free(&core->sessions_by_id);
	sb__bridge_dir_close(&core->dir);
	pthread_mutex_destroy(&core->lock);
	pthread_mutex_destroy(&core->rejoin_lock);
	free(core->python_executable);
	free(core);
}

/* Takes over *dir on success. */
static int core_new(struct sb__bridge_dir *dir, struct sb__core **ret)
{
	struct sb__core *core = calloc(1, sizeof(*core));
	int err;

	if (!core)
		return sb__fail_memory("a bridge");
	err = sb__config_read(&core->config);
	if (err) {
		free(core);
		return err;
	}
	core->dir = *dir;
	pthread_mutex_init(&core->lock, NULL);
	pthread_mutex_init(&core->rejoin_lock, NULL);
	/* Opened here, so that a bridge of another version or a full file system is known at once. */
	err = sb__store_open(core->dir.boot, true, sb__layout_fingerprint(), &core->store);
	if (err) {
		pthread_mutex_destroy(&core->lock);
		pthread_mutex_destroy(&core->rejoin_lock);
		free(core);
		return err;
	}
	core->store_epoch = sb__fork_epoch(); /* known before the slot is taken: a child must not use it */
	*ret = core;
	return 0;
}

static int apply_number(struct sb__core *core, enum sb__config_number knob, uint64_t value)
{
	int err = value ? sb__config_check(knob, value) : 0;

	if (value && !err)
		core->config.numbers[knob] = value;
	return err;
}

static int apply_options(struct sb__core *core, const sb_bridge_options *options)
{
	int err;

	if (!options)
		return 0;
	if (options->python_executable) {
		char *copy = strdup(options->python_executable);

		if (!copy)
			return sb__fail_memory("the name of the Python executable");
		free(core->python_executable);
		core->python_executable = copy;
	}
	err = apply_number(core, SB__CONFIG_TIMEOUT_MS, options->timeout_ms);
	if (!err)
		err = apply_number(core, SB__CONFIG_MAX_LANES, options->max_lanes_per_process);
	if (!err)
		err = apply_number(core, SB__CONFIG_MAX_REQUEST_BYTES, options->max_request_bytes);
	return err;
}

static int registry_get_locked(const char *dir, struct sb__core **ret)
{
	struct sb__bridge_dir opened;
	struct sb__core *core;
	int err = sb__bridge_dir_open(dir, true, &opened);

	if (err)
		return err;
	for (core = registry; core; core = core->next) {
		if (core->dir.dev == opened.dev && core->dir.ino == opened.ino) {
			sb__bridge_dir_close(&opened);
			*ret = core;
			return 0;
		}
	}
	err = core_new(&opened, &core);
	if (err) {
		sb__bridge_dir_close(&opened);
		return err;
	}
	core->next = registry;
	registry = core;
	*ret = core;
	return 0;
}

static int handle_new_locked(struct sb__core *core, const sb_bridge_options *options, sb_bridge **ret)
{
	sb_bridge *bridge = calloc(1, sizeof(*bridge));
	int err;

	if (!bridge)
		return sb__fail_memory("a bridge handle");
	err = apply_options(core, options);
	if (err) {
		free(bridge);
		return err;
	}
	bridge->core = core;
	core->handles++;
	if (!default_bridge)
		default_bridge = bridge;
	*ret = bridge;
	return 0;
}

int sb__core_open(const char *dir, const sb_bridge_options *options, sb_bridge **ret)
{
	struct sb__core *core = NULL;
	int err;

	pthread_once(&fork_once, install_fork_hooks);
	pthread_mutex_lock(&registry_lock);
	err = registry_get_locked(dir, &core);
	if (!err)
		err = handle_new_locked(core, options, ret);
	pthread_mutex_unlock(&registry_lock);
	return err;
}

sb_bridge *sb__core_default(void)
{
	sb_bridge *bridge;

	pthread_mutex_lock(&registry_lock);
	bridge = default_bridge;
	pthread_mutex_unlock(&registry_lock);
	return bridge;
}

const char *sb__core_path(const sb_bridge *bridge)
{
	return bridge->core->dir.path;
}

bool sb__core_lock_if_open(struct sb__core *wanted)
{
	struct sb__core *core;

	pthread_mutex_lock(&registry_lock);
	for (core = registry; core && core != wanted; core = core->next)
		;
	if (core)
		pthread_mutex_lock(&core->lock);
	pthread_mutex_unlock(&registry_lock);
	return core != NULL;
}

/* ── closing ── */

static void close_sessions(sb_bridge *bridge)
{
	struct sb__core *core = bridge->core;
	sb_session *session;

	for (;;) {
		pthread_mutex_lock(&core->lock);
		session = bridge->sessions;
		pthread_mutex_unlock(&core->lock);
		if (!session)
			return;
		sb__session_close(session);
	}
}

/* False: threads still use core, which must stay. */
static bool detach(struct sb__core *core)
{
	if (core->store_epoch != sb__fork_epoch()) {
		(void)forget_inherited_locked(core);
		return true;
	}
	if (!sb__core_is_ours(core)) { /* never used: no slot was taken */
		sb__store_close(core->store);
		return true;
	}
	if (!sb__host_stop(core)) {
		/* The memory and the arena are left to the call that hangs; for all others this process is gone. */
		sb__store_process_remove(core->store, core->self.slot, core->self.generation);
		return false;
	}
	close_space(core, true);
	SB_POINT("detach.space_closed");
	/* Record first, token last: a record whose token is free means a death. */
	sb__store_process_remove(core->store, core->self.slot, core->self.generation);
	SB_POINT("detach.record_removed");
	sb__store_close(core->store);
	sb__life_drop(core->life_pin);
	SB_POINT("detach.token_dropped");
	return true;
}

static bool unregister(sb_bridge *bridge)
{
	struct sb__core *core = bridge->core;
	bool last;

	pthread_mutex_lock(&registry_lock);
	last = --core->handles == 0;
	if (last) {
		struct sb__core **at = &registry;

		while (*at != core)
			at = &(*at)->next;
		*at = core->next;
	}
	if (default_bridge == bridge)
		default_bridge = NULL;
	pthread_mutex_unlock(&registry_lock);
	return last;
}

/* Once no bridge is open nothing is left to be watched. With the registry locked: a bridge that is opened meanwhile has threads
 * of its own. */
static void end_watching(void)
{
	struct sb__watcher *ended;

	pthread_mutex_lock(&registry_lock);
	ended = registry ? NULL : sb__notify_end();
	pthread_mutex_unlock(&registry_lock);
	sb__notify_join(ended);
}

void sb__core_close(sb_bridge *bridge)
{
	if (!bridge)
		return;
	close_sessions(bridge);
	if (unregister(bridge)) {
		end_watching();
		if (detach(bridge->core))
			core_free(bridge->core);
	}
	free(bridge);
}
