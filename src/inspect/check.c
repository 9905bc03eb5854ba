/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Soundness: do records, mailboxes, files and processes agree, and does nothing of the dead lie about?
 *
 * A bridge goes on while it is looked at, so what one pass finds may be something that was just being done.
 * Sentences say nothing that moves by itself; only those that a second pass finds, too, are findings.
 *
 * Locks: none. Crash: as snapshot.c.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "inspect_impl.h"

#define LINE_MAX_BYTES 320
#define OVERDUE_MS \
	10000 /* a session may outlive its TTL by this much: timers and the reaper come now and then */

struct findings {
	char **lines;
	size_t count, cap;
	int error;
};

struct pass {
	struct sb__inspect *inspect;
	struct findings *found;
	struct sb__known *known;
	struct sb__bridge_file *files;
	size_t file_count;
};

static void keep(struct findings *f, const char *line)
{
	char *copy;

	if (f->count == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 16;
		char **lines = realloc(f->lines, cap * sizeof(*lines));

		if (!lines) {
			f->error = sb__fail_memory("the list of findings");
			return;
		}
		f->lines = lines;
		f->cap = cap;
	}
	copy = strdup(line);
	if (copy)
		f->lines[f->count++] = copy;
	else
		f->error = sb__fail_memory("the list of findings");
}

static void keep_line(void *arg, const char *line)
{
	keep(arg, line);
}

static void found(struct pass *p, const char *fmt, ...) SB_PRINTF_LIKE(2, 3);
static void found(struct pass *p, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	keep(p->found, line);
}

static void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->lines[i]);
	free(f->lines);
	*f = (struct findings){ .lines = NULL };
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ── one pass ── */

static bool has_bell(const struct pass *p, const struct sb__identity *owner)
{
	for (size_t i = 0; i < p->file_count; i++)
		if (p->files[i].kind == SB__FILE_BELL && p->files[i].slot == owner->slot &&
		    p->files[i].generation == owner->generation)
			return true;
	return false;
}

static void check_serving(struct pass *p, const struct sb__session_view *view)
{
	const struct sb__session_rec *rec = &view->rec;
	const char *id = rec->session_id;

	if (view->designated.verdict == SB__DEAD) {
		found(p, "session \"%s\" counts on its designated owner, pid %" PRId32 ", which is dead (%s)",
		      id, rec->designated.pid, view->designated.how);
		return; /* the rest is what that death left */
	}
	if (rec->state != SB_SESSION_ACTIVE)
		return;
	if (!view->mailbox.present || view->mailbox.error)
		found(p, "session \"%s\" is active, but its mailbox %s", id,
		      view->mailbox.present ? "cannot be read" : "is missing");
	if (!has_bell(p, &rec->designated))
		found(p,
		      "session \"%s\" is active, but its designated owner's doorbell bell/%" PRIu32
		      ".%" PRIu32 " is missing",
		      id, rec->designated.slot, rec->designated.generation);
}

/* Due long ago by the record and by the last access: nobody ends it. */
static bool overdue(const struct sb__session_view *view)
{
	const struct sb__session_rec *rec = &view->rec;

	return rec->ttl_ms && rec->expires_ms && sb__now_ms() > rec->expires_ms + OVERDUE_MS &&
	       view->idle_ms > rec->ttl_ms + OVERDUE_MS;
}

static int check_session(void *arg, const struct sb__session_view *view, uint32_t lanes)
{
	struct pass *p = arg;
	const struct sb__session_rec *rec = &view->rec;
	struct sb__owner_view *owners = NULL;
	size_t count = 0;
	uint32_t dead = 0;
	int err;

	(void)lanes;
	if (sb__known_add_session(p->known, rec) != 0)
		p->found->error = SB_ENOMEM;
	if (rec->state == SB_SESSION_ACTIVE || rec->state == SB_SESSION_STARTING)
		check_serving(p, view);
	if (overdue(view))
		found(p, "session \"%s\" is past its TTL and has not ended", rec->session_id);
	if (view->mailbox.lanes_of_dead)
		found(p, "session \"%s\": %" PRIu32 " lanes are claimed by dead processes", rec->session_id,
		      view->mailbox.lanes_of_dead);
	if (view->mailbox.lanes_strange)
		found(p, "session \"%s\": %" PRIu32 " lanes are in no state that there is", rec->session_id,
		      view->mailbox.lanes_strange);
	err = sb__look_owners(p->inspect, rec->uid, &dead, &owners, &count);
	if (err < 0)
		p->found->error = err;
	for (size_t i = 0; i < count && owners; i++)
		if (owners[i].evidence.verdict == SB__DEAD)
			found(p,
			      "session \"%s\": owner %" PRIu32 ".%" PRIu32 "/%" PRIu32 ", pid %" PRId32
			      ", is dead (%s)",
			      rec->session_id, owners[i].rec.slot, owners[i].rec.generation,
			      owners[i].rec.handle, owners[i].rec.pid, owners[i].evidence.how);
	free(owners);
	return p->found->error < 0;
}

static int check_processes(struct pass *p)
{
	struct sb__identity *ids = NULL;
	size_t count = 0;
	int r = sb__store_processes(p->inspect->store, &ids, &count);

	for (size_t i = 0; r >= 0 && i < count; i++) {
		struct sb__evidence e = sb__look_evidence(p->inspect, ids[i].slot, ids[i].generation);

		sb__known_add_process(p->known, &ids[i], e.verdict != SB__DEAD);
		if (e.verdict == SB__DEAD)
			found(p,
			      "process %" PRIu32 ".%" PRIu32 ", pid %" PRId32
			      " %s, is dead and has a record (%s)",
			      ids[i].slot, ids[i].generation, ids[i].pid, ids[i].program, e.how);
	}
	free(ids);
	return r < 0 ? r : 0;
}

static void check_files(struct pass *p)
{
	sb__known_sort(p->known);
	for (size_t i = 0; i < p->file_count; i++) {
		const char *why = sb__bridge_file_orphan(&p->files[i], p->known);

		if (why)
			found(p, "file %s/%s belongs to nobody: %s", sb__folder_name(p->files[i].folder),
			      p->files[i].name, why);
	}
}

static void check_arena(void *arg, const struct sb__arena_view *view)
{
	struct pass *p = arg;
	uint32_t dead = 0;

	for (uint32_t i = 0; i < view->holds; i++)
		dead += sb__inspect_hold_is_dead(p->inspect, view->words[i]);
	if (dead)
		found(p, "arena/%" PRIu32 ".%" PRIu32 ": %" PRIu32 " arrays are kept for dead processes",
		      view->slot, view->generation, dead);
}

static int check_all(struct pass *p)
{
	uint32_t dead_readers = 0;
	int r = sb__store_verify(p->inspect->store, keep_line, p->found);

	if (r > 0) /* records that do not agree cannot be followed */
		return 0;
	if (r == 0)
		r = sb__bridge_files_list(&p->inspect->dir, &p->files, &p->file_count);
	if (r >= 0)
		r = check_processes(p);
	if (r >= 0)
		r = sb__look_sessions(p->inspect, check_session, p);
	if (r >= 0)
		r = sb__store_readers_of_dead(p->inspect->store, &dead_readers);
	if (r < 0)
		return r;
	if (dead_readers)
		found(p, "LMDB: %" PRIu32 " reader slots belong to dead processes", dead_readers);
	check_files(p);
	return sb__inspect_arenas(p->inspect, check_arena, p);
}

static int one_pass(struct sb__inspect *inspect, struct findings *ret)
{
	struct pass p = { .inspect = inspect, .found = ret, .known = calloc(1, sizeof(*p.known)) };
	int r;

	if (!p.known)
		return sb__fail_memory("the check");
	sb__look_begin(inspect);
	r = check_all(&p);
	sb__known_free(p.known);
	free(p.known);
	free(p.files);
	if (r >= 0)
		r = ret->error;
	if (r >= 0 && ret->count)
		qsort(ret->lines, ret->count, sizeof(*ret->lines), by_text);
	return r < 0 ? r : 0;
}

/* ── */

int sb__inspect_check(struct sb__inspect *inspect, void (*problem)(void *arg, const char *line), void *arg)
{
	struct findings first = { .lines = NULL }, second = { .lines = NULL };
	int r = one_pass(inspect, &first), problems = 0;

	if (r >= 0 && first.count)
		r = one_pass(inspect, &second);
	for (size_t i = 0; r >= 0 && first.count && i < second.count; i++) {
		if (!bsearch(&second.lines[i], first.lines, first.count, sizeof(*first.lines), by_text))
			continue;
		problem(arg, second.lines[i]);
		problems++;
	}
	findings_free(&first);
	findings_free(&second);
	return r < 0 ? r : problems;
}
