/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reaper's plan by tables: each row makes a small world and says what is to be done about it, in order.
 * Rows with an empty plan matter most: what is alive, or may be, is left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan.h"
#include "snakebridge/error.h"
#include "snakebridge/session.h"

#define NOW 1000000u
#define MAX 16

/* ── a world ── */

struct world {
	struct sb__reaper_snapshot s;
	struct sb__seen_process processes[MAX];
	struct sb__seen_session sessions[MAX];
	struct sb__seen_owner owners[MAX];
	struct sb__seen_lanes lanes[MAX];
	struct sb__bridge_file files[MAX];
	char boots[MAX][SB__BOOT_NAME_SIZE];
	struct sb__seen_trouble troubles[MAX];
	struct sb__known known;
};

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->s = (struct sb__reaper_snapshot){ .now_ms = NOW,
		                             .processes = w->processes,
		                             .sessions = w->sessions,
		                             .owners = w->owners,
		                             .lanes = w->lanes,
		                             .files = w->files,
		                             .boots = w->boots,
		                             .troubles = w->troubles,
		                             .known = &w->known };
}

static struct sb__identity identity(uint32_t slot, uint32_t generation)
{
	return (struct sb__identity){ .slot = slot, .generation = generation, .pid = (int32_t)(1000 + slot) };
}

static struct sb__seen_process *process(struct world *w, uint32_t slot, uint32_t generation,
                                        enum sb__liveness verdict, const char *how)
{
	struct sb__seen_process *p = &w->processes[w->s.process_count++];

	p->identity = identity(slot, generation);
	p->evidence = (struct sb__evidence){ verdict, how };
	p->gathered = verdict == SB__DEAD;
	sb__known_add_process(&w->known, &p->identity, verdict != SB__DEAD);
	return p;
}

static void alive(struct world *w, uint32_t slot)
{
	process(w, slot, 1, SB__ALIVE, "life token held");
}

static void dead(struct world *w, uint32_t slot)
{
	process(w, slot, 1, SB__DEAD, "no such pid");
}

/* Served by slot.1, through incarnation 100 + uid. */
static struct sb__seen_session *session(struct world *w, uint64_t uid, uint32_t owners, uint32_t designated)
{
	struct sb__seen_session *s = &w->sessions[w->s.session_count++];
	struct sb__session_rec rec = { .incarnation = 100 + uid, .state = SB_SESSION_ACTIVE };

	*s = (struct sb__seen_session){ .uid = uid,
		                        .incarnation = rec.incarnation,
		                        .state = SB_SESSION_ACTIVE,
		                        .owner_count = owners,
		                        .designated = identity(designated, 1),
		                        .ttl_ms = 3600000,
		                        .has_mailbox = true,
		                        .last_access_ms = NOW - 10 };
	snprintf(s->session_id, sizeof(s->session_id), "s%u", (unsigned)uid);
	assert_int_equal(sb__known_add_session(&w->known, &rec), 0);
	return s;
}

static void owner(struct world *w, uint64_t uid, uint32_t slot, uint32_t handle)
{
	struct sb__seen_owner *o = &w->owners[w->s.owner_count++];

	o->rec = (struct sb__owner_rec){ .session_uid = uid,
		                         .slot = slot,
		                         .generation = 1,
		                         .handle = handle,
		                         .pid = (int32_t)(1000 + slot) };
	o->how = "no such pid";
}

static void lanes(struct world *w, uint64_t uid, uint32_t slot, uint32_t count)
{
	w->lanes[w->s.lanes_count++] =
		(struct sb__seen_lanes){ .uid = uid, .slot = slot, .generation = 1, .lanes = count };
}

static void file(struct world *w, enum sb__folder folder, const char *name)
{
	sb__bridge_file_parse(folder, name, &w->files[w->s.file_count++]);
}

/* ── rows ── */

static void empty_bridge(struct world *w)
{
	(void)w;
}

static void all_alive(struct world *w)
{
	alive(w, 3);
	session(w, 1, 1, 3);
	lanes(w, 1, 3, 2);
	file(w, SB__FOLDER_MAILBOX, "0000000000000065");
	file(w, SB__FOLDER_MAILBOX, "0000000000000065.refs");
	file(w, SB__FOLDER_BELL, "3.1");
	file(w, SB__FOLDER_ARENA, "3.1");
	file(w, SB__FOLDER_ARENA, ".new.3.1.00ff");
}

/* What an alive process has must be safe even when a snapshot lists it as if it were dead. */
static void full_of(struct world *w, enum sb__liveness verdict, const char *how)
{
	process(w, 3, 1, verdict, how);
	session(w, 1, 1, 3);
	owner(w, 1, 3, 1);
	lanes(w, 1, 3, 2);
	file(w, SB__FOLDER_BELL, "3.1");
	file(w, SB__FOLDER_BELL, ".new.3.1.7");
}

static void signal_refused(struct world *w)
{
	full_of(w, SB__ALIVE, "kill is not permitted, life token held");
}

static void zombie_with_token(struct world *w)
{
	full_of(w, SB__ALIVE, "state Z, life token held");
}

static void unsure(struct world *w)
{
	full_of(w, SB__UNSURE, "the life file cannot be asked");
}

static void unsure_designated(struct world *w)
{
	process(w, 3, 1, SB__UNSURE, "the life file cannot be asked");
	session(w, 1, 0, 3);
}

static void dead_alone(struct world *w)
{
	dead(w, 3);
}

static void one_of_two_owners(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 2, 4);
	owner(w, 1, 3, 1);
}

static void last_owner(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 1, 4);
	owner(w, 1, 3, 1);
}

static void all_owners(struct world *w)
{
	dead(w, 3);
	dead(w, 5);
	alive(w, 4);
	session(w, 1, 2, 4);
	owner(w, 1, 3, 1);
	owner(w, 1, 5, 1);
}

static void two_handles(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 2, 4);
	owner(w, 1, 3, 1);
	owner(w, 1, 3, 2);
}

static void persistent_loses_owner(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 1, 4)->persistent = true;
	owner(w, 1, 3, 1);
}

static void owner_of_unknown_session(struct world *w)
{
	dead(w, 3);
	owner(w, 9, 3, 1);
}

static void earlier_holder_of_slot(struct world *w)
{
	process(w, 3, 2, SB__ALIVE, "life token held");
	alive(w, 4);
	session(w, 1, 2, 4);
	owner(w, 1, 3, 1); /* of generation 1 */
}

static void designated_dead(struct world *w)
{
	dead(w, 3);
	session(w, 1, 1, 3);
}

static void designated_dead_starting(struct world *w)
{
	dead(w, 3);
	session(w, 1, 1, 3)->state = SB_SESSION_STARTING;
}

static void designated_dead_last_owner(struct world *w)
{
	dead(w, 3);
	session(w, 1, 1, 3);
	owner(w, 1, 3, 1);
}

static void designated_dead_before_last_owner(struct world *w)
{
	dead(w, 3);
	dead(w, 5);
	session(w, 1, 1, 3);
	owner(w, 1, 5, 1);
}

static void designated_dead_persistent(struct world *w)
{
	dead(w, 3);
	session(w, 1, 0, 3)->persistent = true;
}

static void designated_dead_unowned(struct world *w)
{
	dead(w, 3);
	session(w, 1, 0, 3);
}

static void orphaned_already(struct world *w)
{
	dead(w, 3);
	session(w, 1, 1, 3)->state = SB_SESSION_ORPHANED;
}

static void designated_without_record(struct world *w)
{
	alive(w, 4);
	session(w, 1, 1, 3);
}

static void dead_claimer(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 2, 4);
	lanes(w, 1, 3, 2);
	owner(w, 1, 3, 1);
}

/* Its lanes there could not be looked at; those of another session could. */
static void unread_lanes(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 2, 4)->unread = true;
	session(w, 2, 2, 4);
	owner(w, 1, 3, 1);
	owner(w, 2, 3, 1);
	lanes(w, 2, 3, 1);
}

static void unread_lanes_of_dead(struct world *w)
{
	dead(w, 3);
	dead(w, 4);
	session(w, 1, 2, 4)->unread = true;
	owner(w, 1, 3, 1);
}

static void dead_claimer_of_dead(struct world *w)
{
	dead(w, 3);
	dead(w, 4);
	session(w, 1, 2, 4);
	lanes(w, 1, 3, 2);
}

static void claimer_of_other_generation(struct world *w)
{
	process(w, 3, 2, SB__DEAD, "no such pid");
	alive(w, 4);
	session(w, 1, 2, 4);
	lanes(w, 1, 3, 2); /* generation 1 */
}

static struct sb__seen_session *due(struct world *w, uint64_t idle_ms)
{
	struct sb__seen_session *s;

	alive(w, 4);
	s = session(w, 1, 1, 4);
	s->due = true;
	s->ttl_ms = 5000;
	s->last_access_ms = NOW - idle_ms;
	return s;
}

static void idle_past_ttl(struct world *w)
{
	due(w, 5000);
}

static void used_since_filed(struct world *w)
{
	due(w, 4999);
}

static void idle_but_not_due(struct world *w)
{
	due(w, 6000)->due = false;
}

static void no_ttl(struct world *w)
{
	due(w, 6000)->ttl_ms = 0;
}

static void due_without_mailbox(struct world *w)
{
	due(w, 6000)->last_access_ms = 0;
}

static void used_in_the_future(struct world *w)
{
	due(w, 0)->last_access_ms = NOW + 4;
}

static void due_and_unowned(struct world *w)
{
	due(w, 6000);
	dead(w, 3);
	owner(w, 1, 3, 1);
}

static void unjoined(struct world *w)
{
	alive(w, 4);
	session(w, 1, 0, 4)->unjoined = true;
	session(w, 2, 0, 4)->persistent = true;
	w->sessions[1].unjoined = true;
}

static void not_gathered(struct world *w)
{
	process(w, 3, 1, SB__DEAD, "no such pid")->gathered = false;
}

static void files_of_nobody(struct world *w)
{
	alive(w, 4);
	session(w, 1, 1, 4);
	file(w, SB__FOLDER_MAILBOX, "0000000000000065");
	file(w, SB__FOLDER_MAILBOX, "0000000000000066");
	file(w, SB__FOLDER_MAILBOX, "0000000000000066.refs");
	file(w, SB__FOLDER_BELL, "4.1");
	file(w, SB__FOLDER_BELL, "4.2");
	file(w, SB__FOLDER_ARENA, "9.1");
	file(w, SB__FOLDER_MAILBOX, ".new.4.1.a0");
	file(w, SB__FOLDER_MAILBOX, ".new.4.2.a0");
	file(w, SB__FOLDER_ARENA, "notes.txt");
}

static void files_of_the_dead(struct world *w)
{
	dead(w, 3);
	file(w, SB__FOLDER_BELL, "3.1");
	file(w, SB__FOLDER_ARENA, "3.1");
	file(w, SB__FOLDER_ARENA, ".new.3.1.a0");
}

static void files_without_records(struct world *w)
{
	files_of_nobody(w);
	w->s.known = NULL; /* the records could not all be read */
}

static void earlier_boot(struct world *w)
{
	strcpy(w->boots[w->s.boot_count++], "boot-01234567");
}

static void unreadable(struct world *w)
{
	struct sb__seen_trouble *t = &w->troubles[w->s.trouble_count++];

	t->code = SB_ECORRUPT;
	strcpy(t->what, "session record 7");
}

static void everything(struct world *w)
{
	dead(w, 3);
	alive(w, 4);
	session(w, 1, 2, 4);
	session(w, 2, 1, 3);
	owner(w, 1, 3, 1);
	lanes(w, 1, 3, 1);
	file(w, SB__FOLDER_BELL, "3.1");
	earlier_boot(w);
	unreadable(w);
}

static const struct row {
	const char *name;
	void (*make)(struct world *w);
	const char *plan; /* "+": a consequence of the verdict before */
} rows[] = {
	{ "empty bridge", empty_bridge, "" },
	{ "all alive", all_alive, "" },
	{ "EPERM is alive", signal_refused, "" },
	{ "zombie that holds its token", zombie_with_token, "" },
	{ "unsure is alive", unsure, "" },
	{ "unsure designated owner", unsure_designated, "" },
	{ "dead, nothing left", dead_alone, "process-dead 3.1" },
	{ "one of two owners", one_of_two_owners, "owner-removed 1 3.1/1; process-dead 3.1" },
	{ "last owner", last_owner, "owner-removed 1 3.1/1; +session-released s1; process-dead 3.1" },
	{ "all owners", all_owners,
	  "owner-removed 1 3.1/1; owner-removed 1 5.1/1; +session-released s1; process-dead 3.1; "
	  "process-dead 5.1" },
	{ "two handles of one process", two_handles,
	  "owner-removed 1 3.1/1; owner-removed 1 3.1/2; +session-released s1; process-dead 3.1" },
	{ "persistent session", persistent_loses_owner, "owner-removed 1 3.1/1; process-dead 3.1" },
	{ "owner of an unknown session", owner_of_unknown_session,
	  "owner-removed 9 3.1/1; process-dead 3.1" },
	{ "owner of an earlier generation", earlier_holder_of_slot, "owner-removed 1 3.1/1" },
	{ "designated owner dead", designated_dead, "session-orphaned s1; process-dead 3.1" },
	{ "while starting", designated_dead_starting, "session-orphaned s1; process-dead 3.1" },
	{ "designated owner was the last owner", designated_dead_last_owner,
	  "owner-removed 1 3.1/1; +session-released s1; process-dead 3.1" },
	{ "designated and last owner dead, in two processes", designated_dead_before_last_owner,
	  "owner-removed 1 5.1/1; +session-released s1; process-dead 3.1; process-dead 5.1" },
	{ "persistent without owners", designated_dead_persistent, "session-orphaned s1; process-dead 3.1" },
	{ "neither persistent nor owned", designated_dead_unowned, "session-released s1; process-dead 3.1" },
	{ "orphaned already", orphaned_already, "process-dead 3.1" },
	{ "designated owner without record", designated_without_record, "" },
	{ "lanes of a dead caller", dead_claimer,
	  "lanes-reclaimed s1 3.1 x2; owner-removed 1 3.1/1; process-dead 3.1" },
	{ "lanes that could not be looked at", unread_lanes,
	  "lanes-reclaimed s2 3.1 x1; owner-removed 2 3.1/1" },
	{ "lanes in a dead owner's mailbox, that could not be looked at", unread_lanes_of_dead,
	  "owner-removed 1 3.1/1; session-orphaned s1; process-dead 3.1; process-dead 4.1" },
	{ "lanes in a dead owner's mailbox", dead_claimer_of_dead,
	  "session-orphaned s1; process-dead 3.1; process-dead 4.1" },
	{ "lanes of another generation", claimer_of_other_generation, "process-dead 3.2" },
	{ "idle past its TTL", idle_past_ttl, "session-expired s1" },
	{ "used since it was filed", used_since_filed, "" },
	{ "idle but not due", idle_but_not_due, "" },
	{ "no TTL", no_ttl, "" },
	{ "due, served by nobody", due_without_mailbox, "session-expired s1" },
	{ "used a tick ahead of the coarse clock", used_in_the_future, "" },
	{ "due and its last owner dead", due_and_unowned,
	  "owner-removed 1 3.1/1; +session-released s1; process-dead 3.1" },
	{ "never joined", unjoined, "session-released s1" },
	{ "dead, left for the next sweep", not_gathered, "" },
	{ "files of nobody", files_of_nobody,
	  "file-removed mailbox/0000000000000066; file-removed mailbox/0000000000000066.refs; "
	  "file-removed bell/4.2; file-removed arena/9.1; file-removed mailbox/.new.4.2.a0" },
	{ "files of the dead go before its record", files_of_the_dead,
	  "file-removed bell/3.1; file-removed arena/3.1; file-removed arena/.new.3.1.a0; process-dead 3.1" },
	{ "files, records unread", files_without_records, "" },
	{ "an earlier boot", earlier_boot, "boot-removed boot-01234567" },
	{ "a damaged record", unreadable, "record-unreadable" },
	{ "everything, in order", everything,
	  "lanes-reclaimed s1 3.1 x1; owner-removed 1 3.1/1; session-orphaned s2; file-removed bell/3.1; "
	  "process-dead 3.1; boot-removed boot-01234567; record-unreadable" },
};

/* ── comparing ── */

static int print_verdict(char *text, size_t size, const struct sb__verdict *v)
{
	const char *plus = v->consequence ? "+" : "", *kind = sb__verdict_kind_name(v->kind);

	switch (v->kind) {
	case SB__VERDICT_PROCESS_DEAD:
		assert_non_null(v->identity);
		assert_int_equal(v->pid, 1000 + v->slot);
		return snprintf(text, size, "%s %u.%u", kind, v->slot, v->generation);
	case SB__VERDICT_OWNER_REMOVED:
		return snprintf(text, size, "%s %u %u.%u/%u", kind, (unsigned)v->uid, v->slot, v->generation,
		                v->handle);
	case SB__VERDICT_LANES_RECLAIMED:
		return snprintf(text, size, "%s %s %u.%u x%u", kind, v->session_id, v->slot, v->generation,
		                v->count);
	case SB__VERDICT_FILE_REMOVED:
		return snprintf(text, size, "%s %s/%s", kind, sb__folder_name(v->file->folder),
		                v->file->name);
	case SB__VERDICT_BOOT_REMOVED: return snprintf(text, size, "%s %s", kind, v->boot);
	case SB__VERDICT_RECORD_UNREADABLE:
		assert_int_equal(v->code, SB_ECORRUPT);
		return snprintf(text, size, "%s", kind);
	default:
		assert_true(v->incarnation == 100 + v->uid);
		return snprintf(text, size, "%s%s %s", plus, kind, v->session_id);
	}
}

static void print_plan(const struct sb__plan *plan, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < plan->count; i++) {
		assert_true(plan->verdicts[i].evidence[0] != '\0');
		if (i > 0)
			used += (size_t)snprintf(text + used, size - used, "; ");
		used += (size_t)print_verdict(text + used, size - used, &plan->verdicts[i]);
		assert_true(used < size);
	}
}

static void test_rows(void **state)
{
	static struct world w;
	char text[1024];
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sb__plan plan = { .verdicts = NULL };

		world_init(&w);
		rows[i].make(&w);
		sb__known_sort(&w.known);
		assert_int_equal(sb__reaper_plan(&w.s, &plan), 0);
		print_plan(&plan, text, sizeof(text));
		if (strcmp(text, rows[i].plan) != 0) {
			print_error("%s:\n  expected \"%s\"\n  planned  \"%s\"\n", rows[i].name, rows[i].plan,
			            text);
			wrong++;
		}
		sb__plan_free(&plan);
		sb__known_free(&w.known);
	}
	assert_int_equal(wrong, 0);
}

/* A mailbox of an orphaned session is of no use to anybody: a sweep was killed before it could remove it. */
static void test_mailbox_of_orphaned_session(void **state)
{
	static struct world w;
	struct sb__session_rec rec = { .incarnation = 0x70, .state = SB_SESSION_ORPHANED };
	struct sb__plan plan = { .verdicts = NULL };

	(void)state;
	world_init(&w);
	assert_int_equal(sb__known_add_session(&w.known, &rec), 0);
	file(&w, SB__FOLDER_MAILBOX, "0000000000000070");
	assert_int_equal(sb__reaper_plan(&w.s, &plan), 0);
	assert_int_equal(plan.count, 1);
	assert_int_equal(plan.verdicts[0].kind, SB__VERDICT_FILE_REMOVED);
	sb__plan_free(&plan);
	sb__known_free(&w.known);
}

static void test_file_names(void **state)
{
	static const struct {
		enum sb__folder folder;
		const char *name;
		enum sb__file_kind kind;
	} names[] = {
		{ SB__FOLDER_MAILBOX, "00000000000000ab", SB__FILE_MAILBOX },
		{ SB__FOLDER_MAILBOX, "ffffffffffffffff.refs", SB__FILE_REFS },
		{ SB__FOLDER_MAILBOX, "00000000000000AB", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, "0000000000000ab", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, "00000000000000ab0", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, "00000000000000ab.ref", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, "0x000000000000ab", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, "3.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "3.1", SB__FILE_BELL },
		{ SB__FOLDER_BELL, "4095.65535", SB__FILE_BELL },
		{ SB__FOLDER_BELL, "4096.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "03.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "3.1x", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "3.", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "-3.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "3.99999999999999999999", SB__FILE_FOREIGN },
		{ SB__FOLDER_BELL, "00000000000000ab", SB__FILE_FOREIGN },
		{ SB__FOLDER_ARENA, "0.1", SB__FILE_ARENA },
		{ SB__FOLDER_ARENA, ".new.0.1.0123456789abcdef", SB__FILE_TEMPORARY },
		{ SB__FOLDER_MAILBOX, ".new.7.65535.1", SB__FILE_TEMPORARY },
		{ SB__FOLDER_MAILBOX, ".new.7.1.", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, ".new.7.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_MAILBOX, ".new.x.1.1", SB__FILE_FOREIGN },
		{ SB__FOLDER_ARENA, "", SB__FILE_FOREIGN },
		{ SB__FOLDER_ARENA,
		  "0.1.and.a.name.that.is.longer.than.any.of.ours.can.be.at.all.and.so.is.none.of.ours",
		  SB__FILE_FOREIGN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct sb__bridge_file f;

		sb__bridge_file_parse(names[i].folder, names[i].name, &f);
		if (f.kind != names[i].kind)
			print_error("%s/%s: %s\n", sb__folder_name(names[i].folder), names[i].name,
			            sb__file_kind_name(f.kind));
		assert_int_equal(f.kind, names[i].kind);
		if (f.kind != SB__FILE_FOREIGN)
			assert_string_equal(f.name, names[i].name);
	}
}

/* Cost: many dead processes and sessions are planned without looking at each pair. */
static void test_many(void **state)
{
	enum { COUNT = 4000 };
	struct sb__seen_process *processes = calloc(COUNT, sizeof(*processes));
	struct sb__seen_session *sessions = calloc(COUNT, sizeof(*sessions));
	struct sb__seen_owner *owners = calloc(COUNT, sizeof(*owners));
	struct sb__reaper_snapshot s = { .now_ms = NOW,
		                         .processes = processes,
		                         .process_count = COUNT,
		                         .sessions = sessions,
		                         .session_count = COUNT,
		                         .owners = owners,
		                         .owner_count = COUNT };
	struct sb__plan plan = { .verdicts = NULL };
	unsigned counts[SB__VERDICT_KINDS] = { 0 };

	(void)state;
	assert_true(processes && sessions && owners);
	for (uint32_t i = 0; i < COUNT; i++) {
		processes[i].identity = identity(i, 1);
		processes[i].evidence = (struct sb__evidence){ SB__DEAD, "no such pid" };
		processes[i].gathered = true;
		sessions[i].uid = 2 * i + 1;
		sessions[i].owner_count = 1;
		sessions[i].state = SB_SESSION_ACTIVE;
		sessions[i].designated = identity(COUNT - 1 - i, 1);
		owners[i].rec =
			(struct sb__owner_rec){ .session_uid = 2 * i + 1, .slot = i, .generation = 1 };
		owners[i].how = "no such pid";
	}
	assert_int_equal(sb__reaper_plan(&s, &plan), 0);
	for (size_t i = 0; i < plan.count; i++)
		counts[plan.verdicts[i].kind]++;
	assert_int_equal(counts[SB__VERDICT_OWNER_REMOVED], COUNT);
	assert_int_equal(counts[SB__VERDICT_SESSION_RELEASED], COUNT);
	assert_int_equal(counts[SB__VERDICT_SESSION_ORPHANED], 0);
	assert_int_equal(counts[SB__VERDICT_PROCESS_DEAD], COUNT);
	sb__plan_free(&plan);
	free(processes);
	free(sessions);
	free(owners);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_mailbox_of_orphaned_session),
		cmocka_unit_test(test_file_names),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("reaper plan", tests, NULL, NULL);
}
