/* SPDX-License-Identifier: Apache-2.0 */
/* The reaper of a random history: what each pass must have found, and what is left when all is over. */
#include "history_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "holds.h"
#include "mailbox.h"
#include "sim_bridge.h"
#include "sweep.h"

/* ── the reaper ── */

struct pass {
	uint64_t began_ms;
	bool gone[SIM_PROCS_MAX]; /* before it began */
	struct sb__sweep_result result;
};

/* ── what dead processes had ── */

static const struct app *dead_one(uint32_t slot, uint32_t generation)
{
	for (unsigned i = 0; i < w.app_count; i++)
		if (w.apps[i].passes > 1 && w.apps[i].slot == slot &&
		    (w.apps[i].generation & 0xffffu) == (generation & 0xffffu))
			return &w.apps[i];
	return NULL;
}

static void check_hold(void *arg, uint64_t word)
{
	const struct app *app = dead_one(SB__HOLD_SLOT(word), SB__HOLD_GENERATION(word));

	if (app)
		wrong("pid %d, dead, still keeps an array of arena/%s after a pass of the reaper",
		      (int)app->proc->pid, (const char *)arg);
}

static int check_holds(void *arg, const char *name)
{
	struct sb__holds_shm *holds;
	unsigned slot, generation;
	int end = 0;

	(void)arg;
	if (sscanf(name, "%u.%u.holds%n", &slot, &generation, &end) == 2 && end && !name[end] &&
	    sb__holds_attach(sim_dir_fd(SIM_DIR_ARENA), slot, generation, &holds) == 0)
		(void)sb__holds_each(holds, check_hold, (void *)(uintptr_t)name);
	return 0;
}

/* In the mailbox of a session whose owner lives: that of a dead one, and that of a session that ended, goes as a whole. */
static bool serves(const struct sb__mailbox *mailbox)
{
	const struct sb__mailbox_header_shm *header = sb__mailbox_header(mailbox);
	const struct sb__identity *owner = &header->owner;
	struct sb__session_rec rec;

	if (sb__store_session_get(sim_bridge_store(), header->session_id, &rec) != 1 ||
	    rec.incarnation != header->incarnation)
		return false;
	for (unsigned i = 0; i < sim.proc_count; i++)
		if (sim.procs[i].pid == owner->pid && sim.procs[i].start_time == owner->start_time)
			return !sim.procs[i].dead;
	return false;
}

static int check_lanes(void *arg, const char *name)
{
	struct sb__lane_view views[64];
	struct sb__mailbox *mailbox;
	uint64_t incarnation;
	int end = 0;
	uint32_t count;

	(void)arg;
	if (sscanf(name, "%" SCNx64 "%n", &incarnation, &end) != 1 || name[end] ||
	    sb__mailbox_attach(sim_dir_fd(SIM_DIR_MAILBOX), incarnation, &mailbox) != 0 || !serves(mailbox))
		return 0;
	count = sb__mailbox_view(mailbox, views, 64);
	for (uint32_t i = 0; i < count && i < 64; i++) {
		const struct app *app = dead_one(views[i].slot, views[i].generation);

		if (app && views[i].state != SB__LANE_ABANDONED) /* that is the owner's */
			wrong("pid %d, dead, still has lane %u of mailbox %s, state %u, after a pass of the "
			      "reaper",
			      (int)app->proc->pid, views[i].lane, name, views[i].state);
	}
	return 0;
}

/* One may join what it left meanwhile: then the second pass finds it. */
static void check_dead(const struct pass *pass)
{
	for (unsigned i = 0; i < w.app_count; i++)
		w.apps[i].passes += w.apps[i].identity && pass->gone[w.apps[i].proc->index];
	(void)sim_file_each(SIM_DIR_ARENA, check_holds, NULL);
	(void)sim_file_each(SIM_DIR_MAILBOX, check_lanes, NULL);
}

static void check_pass(const struct pass *pass)
{
	struct sim_thread *(*decide_then)(enum sim_point) = quiet_begin();
	struct sb__identity *records = NULL;
	size_t count = 0;

	check_dead(pass);
	(void)sb__store_processes(sim_bridge_store(), &records, &count);
	for (unsigned i = 0; i < w.app_count; i++)
		for (size_t r = 0; r < count; r++)
			if (w.apps[i].passes > 1 && records[r].incarnation == w.apps[i].identity)
				wrong("pid %d, dead, is still there after a pass of the reaper (pass of %llu "
				      "ms)",
				      (int)w.apps[i].proc->pid,
				      (unsigned long long)(pass->began_ms - 1000000));
	sim_free(records);
	for (int k = 0; k < SESSIONS; k++) {
		uint64_t ttl_ms = (uint64_t)w.s[k].options.ttl_seconds * 1000;
		struct sb__session_rec rec;

		if (ttl_ms && !w.s[k].uses && w.s[k].maybe_ms + ttl_ms + TICK_MS < pass->began_ms &&
		    sb__store_session_get(sim_bridge_store(), w.s[k].id, &rec) == 1 &&
		    rec.state != SB_SESSION_STARTING &&
		    (rec.state != SB_SESSION_ORPHANED ||
		     rec.expires_ms < pass->began_ms)) /* that begins it anew */
			wrong("session %d, of TTL %llu ms, used at %llu ms perhaps, is still there after a "
			      "pass of the reaper that "
			      "began at %llu ms: state %u",
			      k, (unsigned long long)ttl_ms, (unsigned long long)w.s[k].maybe_ms - 1000000,
			      (unsigned long long)pass->began_ms - 1000000, rec.state);
	}
	sim.decide = decide_then;
}

static void tell_verdict(void *arg, const struct sb__verdict *v)
{
	(void)arg;
	tell("  %s: slot %u, pid %d, incarnation %llu, code %d, %s", sb__verdict_kind_name(v->kind), v->slot,
	     (int)v->pid, (unsigned long long)v->incarnation, v->code, v->evidence);
}

static void sweep(struct sb__bridge_dir *dir, bool files)
{
	struct sb__sweep_options options = { .files = files, .report = w.h->tell ? tell_verdict : NULL };
	struct pass pass = { .began_ms = now_ms() };
	int err;

	for (unsigned i = 0; i < sim.proc_count; i++)
		pass.gone[i] = sim.procs[i].gone && !sim.procs[i].zombie;
	err = sb__reaper_sweep(sim_bridge_store(), dir, &options, &pass.result);
	w.h->tally.sweeps++;
	tell("a pass of the reaper%s", files ? ", with files" : "");
	if (err)
		wrong("the reaper: %s", sb_last_error()->message);
	else if (pass.result.failed || pass.result.damaged)
		wrong("the reaper: %u failed, damaged %d: %s", pass.result.failed, pass.result.damaged,
		      sb_last_error()->message);
	else if (pass.result.complete)
		check_pass(&pass);
}

void *reaper_main(void *arg)
{
	struct sb__bridge_dir dir;

	(void)arg;
	sim_bridge_dir(&dir);
	while (!w.over) {
		sim_sleep(sim_below(1500) * MS);
		sweep(&dir, sim_below(3) == 0);
	}
	return NULL;
}

/* ── the end ── */

static void *release_all(void *arg)
{
	sb_bridge *bridge;

	(void)arg;
	if (sb_bridge_open(NULL, NULL, &bridge) != 0)
		return NULL;
	for (int k = 0; k < SESSIONS; k++) {
		w.s[k].releases_begun++;
		(void)sb_session_release(bridge, w.s[k].id, NULL);
	}
	sb_bridge_close(bridge);
	sim_sleep(5000 * MS); /* dedicated owners see it and end */
	return NULL;
}

static void *last_sweeps(void *arg)
{
	struct sb__bridge_dir dir;

	(void)arg;
	sim_bridge_dir(&dir);
	sweep(&dir, true);
	sim_sleep(100 * MS);
	sweep(&dir, true);
	return NULL;
}

static int tell_file(void *arg, const char *name)
{
	(void)arg;
	wrong("file %s is left", name);
	return 0;
}

/* Ended by force, too: the next history finds none. */
static int left_session(void *arg, const struct sb__session_rec *rec)
{
	(void)arg;
	wrong("session %s is left: state %u, %u owners, persistent %u", rec->session_id, rec->state,
	      rec->owner_count, rec->persistent);
	(void)sb__store_session_end(sim_bridge_store(), rec->session_id, 0, SB__END_RELEASED, NULL);
	return 0;
}

static void problem(void *arg, const char *line)
{
	(void)arg;
	wrong("the store: %s", line);
}

static void check_end(void)
{
	struct sb__identity *records = NULL;
	size_t count = 0;

	(void)sb__store_sessions(sim_bridge_store(), left_session, NULL);
	(void)sb__store_processes(sim_bridge_store(), &records, &count);
	for (size_t i = 0; i < count; i++) {
		wrong("the record of pid %d is left", (int)records[i].pid);
		(void)sb__store_process_remove(sim_bridge_store(), records[i].slot, records[i].generation);
	}
	sim_free(records);
	for (int dir = SIM_DIR_MAILBOX; dir < SIM_DIRS; dir++)
		(void)sim_file_each((enum sim_dir)dir, tell_file, NULL);
	if (w.h->seed % 64 == 0)
		(void)sb__store_verify(sim_bridge_store(), problem, NULL);
}

/* Whoever is left is killed: stopped ones, those that hang. */
static void kill_the_rest(void)
{
	for (unsigned i = 0; i < sim.proc_count; i++) {
		sim.procs[i].zombie = false;
		sim_kill(&sim.procs[i], 0);
		sim_proc_gone(&sim.procs[i]);
	}
}

void end_all(void)
{
	int bug = sim.bug;

	sim.bug = w.h->wrong[0] ? SIM_BUG_NONE : sim.bug;
	sim_call(sim_proc_new(), release_all, NULL);
	kill_the_rest();
	/* A dedicated owner whose opener was killed may have begun a persistent session after that. */
	sim_call(sim_proc_new(), release_all, NULL);
	kill_the_rest();
	sim_call(sim_proc_new(), last_sweeps, NULL);
	check_end();
	sim.bug = bug;
}
