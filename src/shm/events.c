/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of events: made, posted to, read. Knows nothing of what the events mean.
 *
 * Locks: none. Writers meet only in compare-and-swaps, readers write nothing.
 *
 * Crash: a kill while the file is made leaves a shorter file of zeroes, which the next writer grows. A kill
 * between claim and publish leaves one record WRITING by a dead process: readers skip it as torn, and the
 * writer that comes to it a lap later takes it. A kill between claim and head: the next writer moves head.
 */
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "file.h"
#include "os_linux.h"
#include "point.h"
#include "utf8.h"

#define FILE_NAME "events"
#define WHAT      "the ring of events"
#define MAGIC     UINT64_C(0x3130746e76654253) /* "SBevnt01", little-endian */
#define VERSION   ((uint64_t)SB__EVENTS_VERSION << 32 | SB__EVENTS_RECORDS)
#define TRIES     64u
#define TRIM      16u /* posts after which a kept ring's pages leave the process's tables */

enum { STATE_EMPTY, STATE_WRITING, STATE_DONE };

#define STATE_MASK UINT64_C(3)
#define PID_SHIFT  2
#define PID_MASK   ((UINT64_C(1) << 22) - 1) /* the kernel's PID_MAX_LIMIT is 2^22 */
#define SEQ_SHIFT  24

static uint64_t word_make(uint64_t sequence, int32_t pid, unsigned state)
{
	return sequence << SEQ_SHIFT | ((uint64_t)(uint32_t)pid & PID_MASK) << PID_SHIFT | state;
}

static uint64_t word_sequence(uint64_t word)
{
	return word >> SEQ_SHIFT;
}

static unsigned word_state(uint64_t word)
{
	return (unsigned)(word & STATE_MASK);
}

static int32_t word_pid(uint64_t word)
{
	return (int32_t)(word >> PID_SHIFT & PID_MASK);
}

const char *sb__event_kind_name(uint32_t kind)
{
	static const char *const names[SB__EVENT_KINDS] = { [SB__EVENT_NONE] = "?",
#define NAME(constant, name, what) [constant] = name,
		                                            SB__EVENT_MAP(NAME)
#undef NAME
	};

	return kind < SB__EVENT_KINDS ? names[kind] : "?";
}

/* ── opening ── */

/* 0 and *ret_fd, 1: there is none yet, or an error. Two that make it at once do the same thing twice. */
static int open_file(int boot, bool create, int *ret_fd)
{
	struct stat st;
	int fd = sb__os_open_own(boot, FILE_NAME, create ? O_RDWR | O_CREAT : O_RDONLY, 0600);
	int err;

	if (fd < 0)
		return fd == -ENOENT ? 1 : sb__file_fail(fd, "opened", WHAT);
	err = sb__os_fstat(fd, &st);
	if (err == 0 && st.st_size < (off_t)sizeof(struct sb__events_shm)) {
		/* fallocate itself: an emulation would write over records of others. */
		SB_POINT("events.created");
		err = create ? sb__os_reserve(fd, 0, sizeof(struct sb__events_shm)) : 1;
	}
	if (err == 0) {
		*ret_fd = fd;
		return 0;
	}
	sb__os_close(fd);
	return err > 0 ? 1 : sb__file_fail(err, "made", WHAT);
}

static int check_word(sb__word *word, uint64_t expected, bool writable)
{
	uint64_t seen;

	if (writable && sb__cas(word, 0, expected))
		SB_POINT("events.marked");
	seen = sb__load_acquire(word);
	return seen == expected ? 0 : seen == 0 ? 1 : -1;
}

int sb__events_open(int boot, bool create, struct sb__events *ret)
{
	struct sb__events events = { .writable = create };
	void *map;
	int fd = -1;
	int err = open_file(boot, create, &fd);

	if (err)
		return err;
	err = sb__file_map(fd, 0, sizeof(struct sb__events_shm), create, WHAT, &map);
	sb__os_close(fd);
	if (err)
		return err;
	events.shm = map;
	err = check_word(&events.shm->magic, MAGIC, create);
	if (err == 0)
		err = check_word(&events.shm->version, VERSION, create);
	if (err == 0) {
		*ret = events;
		return 0;
	}
	sb__os_unmap(map, sizeof(struct sb__events_shm));
	return err > 0 ? 1
	               : sb__fail(SB_EVERSION,
	                          WHAT " was made by another version; use tools of that version");
}

void sb__events_close(struct sb__events *events)
{
	if (events->shm)
		sb__os_unmap(events->shm, sizeof(*events->shm));
	events->shm = NULL;
}

/* ── posting ── */

static bool is_dead(int32_t pid)
{
	return sb__os_kill(pid, 0) == -ESRCH;
}

/* A copy that ends in whole characters, and zeroes after it: records show nothing of what was there before. */
static void copy_text(char *to, size_t size, const char *from)
{
	size_t len = sb__utf8_cut(from, strnlen(from, size), size - 1);

	memcpy(to, from, len);
	memset(to + len, 0, size - len);
}

static void fill(struct sb__event_shm *record, const struct sb__event *event)
{
	record->kind = event->kind;
	record->subject_pid = event->subject_pid;
	record->mono_ns = sb__now_ns();
	record->wall_ms = sb__wall_ms();
	record->session_uid = event->session_uid;
	record->incarnation = event->incarnation;
	record->trace_id = event->trace_id;
	record->count = event->count;
	copy_text(record->session_id, sizeof(record->session_id), event->session_id);
	copy_text(record->reason, sizeof(record->reason), event->reason);
}

/* Writers read by a write access: a page that is first read brings up to 15 around it into the process's tables, one that is
 * first written comes alone. */
static uint64_t load_to_write(sb__word *word)
{
	return sb__add(word, 0);
}

/* Claims the record of sequence, the number after head. False: it is another's, or passed over. */
static bool claim(struct sb__events_shm *shm, uint64_t sequence, int32_t pid)
{
	sb__word *word = &shm->records[sequence % SB__EVENTS_RECORDS].word;
	uint64_t seen = load_to_write(word);

	if (word_sequence(seen) < sequence && (word_state(seen) != STATE_WRITING || is_dead(word_pid(seen))))
		return sb__cas(word, seen, word_make(sequence, pid, STATE_WRITING));
	return false;
}

/* Is the number used, by a claimer who has not moved head yet, or to be passed over? */
static bool used(struct sb__events_shm *shm, uint64_t sequence)
{
	uint64_t seen = sb__load_acquire(&shm->records[sequence % SB__EVENTS_RECORDS].word);

	return word_sequence(seen) >= sequence ||
	       (word_state(seen) == STATE_WRITING && !is_dead(word_pid(seen)));
}

uint64_t sb__events_post(struct sb__events *events, const struct sb__event *event)
{
	struct sb__events_shm *shm = events->shm;
	int32_t pid = (int32_t)getpid();

	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t head = load_to_write(&shm->head), sequence = head + 1;
		struct sb__event_shm *record = &shm->records[sequence % SB__EVENTS_RECORDS];

		if (!claim(shm, sequence, pid)) {
			if (used(shm, sequence))
				sb__cas(&shm->head, head, sequence);
			continue;
		}
		SB_POINT("events.claimed");
		sb__cas(&shm->head, head, sequence); /* fails where somebody helped */
		fill(record, event);
		SB_POINT("events.filled");
		sb__cas(&record->word, word_make(sequence, pid, STATE_WRITING),
		        word_make(sequence, pid, STATE_DONE));
		return sequence;
	}
	return 0;
}

/* NULL: it cannot be had. Of two threads that map it at once one keeps its mapping. */
static struct sb__events_shm *kept_ring(struct sb__events_kept *kept, int boot)
{
	struct sb__events_shm *shm = atomic_load_explicit(&kept->shm, memory_order_acquire);
	struct sb__events events;

	if (shm)
		return shm;
	if (sb__events_open(boot, true, &events) != 0)
		return NULL;
	if (atomic_compare_exchange_strong(&kept->shm, &shm, events.shm))
		return events.shm;
	sb__events_close(&events);
	return shm;
}

void sb__events_note(struct sb__events_kept *kept, int boot, enum sb__event_kind kind, uint64_t session_uid,
                     const char *session_id, uint64_t incarnation, uint64_t trace_id, int32_t subject_pid,
                     uint32_t count, const char *reason)
{
	struct sb__event event = { .kind = kind,
		                   .session_uid = session_uid,
		                   .incarnation = incarnation,
		                   .trace_id = trace_id,
		                   .subject_pid = subject_pid,
		                   .count = count };
	struct sb__events events = { .shm = kept_ring(kept, boot), .writable = true };

	if (!events.shm)
		return;
	copy_text(event.session_id, sizeof(event.session_id), session_id);
	copy_text(event.reason, sizeof(event.reason), reason ? reason : "");
	sb__events_post(&events, &event);
	if (atomic_fetch_add_explicit(&kept->posts, 1, memory_order_relaxed) % TRIM == TRIM - 1)
		sb__os_unload(events.shm, sizeof(*events.shm));
}

void sb__events_forget(struct sb__events_kept *kept)
{
	struct sb__events events = { .shm = atomic_exchange(&kept->shm, NULL) };

	sb__events_close(&events);
}

/* ── reading ── */

void sb__events_reader_init(struct sb__events_reader *reader, const struct sb__events *events, uint64_t since)
{
	uint64_t head = sb__load_acquire(&events->shm->head);
	uint64_t oldest = head < SB__EVENTS_RECORDS ? 1 : head - SB__EVENTS_RECORDS + 1;

	*reader = (struct sb__events_reader){ .events = events, .next = since + 1 };
	if (since == 0 || since > head)
		reader->next = oldest;
}

/* Passes over what writers took again. */
static void catch_up(struct sb__events_reader *reader, uint64_t head)
{
	uint64_t oldest = head < SB__EVENTS_RECORDS ? 1 : head - SB__EVENTS_RECORDS + 1;

	if (reader->next >= oldest)
		return;
	reader->lost += oldest - reader->next;
	reader->next = oldest;
	reader->pending_since_ms = 0;
}

static void copy_record(const struct sb__event_shm *record, uint64_t word, struct sb__event *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->kind = record->kind < SB__EVENT_KINDS ? (enum sb__event_kind)record->kind : SB__EVENT_NONE;
	ret->sequence = word_sequence(word);
	ret->pid = word_pid(word);
	ret->subject_pid = record->subject_pid;
	ret->mono_ns = record->mono_ns;
	ret->wall_ms = record->wall_ms;
	ret->session_uid = record->session_uid;
	ret->incarnation = record->incarnation;
	ret->trace_id = record->trace_id;
	ret->count = record->count;
	memcpy(ret->session_id, record->session_id, sizeof(ret->session_id) - 1);
	memcpy(ret->reason, record->reason, sizeof(ret->reason) - 1);
}

/* A stranger's bytes: what is not text is cut off. */
static void clean_text(char *text)
{
	size_t len = strlen(text);

	text[sb__utf8_prefix(text, len)] = '\0';
}

/* Is a record that is being written to be waited for? Not if its writer is dead, nor for long. */
static bool worth_waiting(struct sb__events_reader *reader, uint64_t word)
{
	uint64_t now = sb__now_ms();

	if (is_dead(word_pid(word)))
		return false;
	if (reader->pending_since_ms == 0)
		reader->pending_since_ms = now;
	return now - reader->pending_since_ms < SB__EVENTS_TORN_MS;
}

int sb__events_read(struct sb__events_reader *reader, struct sb__event *ret, bool *ret_pending)
{
	const struct sb__events_shm *shm = reader->events->shm;

	if (ret_pending)
		*ret_pending = false;
	/* A ring that is overwritten as fast as it is read ends the search, not the reader's patience. */
	for (unsigned i = 0; i < 4 * SB__EVENTS_RECORDS; i++) {
		uint64_t head = sb__load_acquire(&shm->head), word;
		const struct sb__event_shm *record;

		catch_up(reader, head);
		if (reader->next > head)
			return 0;
		record = &shm->records[reader->next % SB__EVENTS_RECORDS];
		word = sb__load_acquire(&record->word);
		if (word_sequence(word) > reader->next) { /* taken again, though head does not say so yet */
			reader->lost++;
			reader->next++;
			continue;
		}
		if (word_sequence(word) == reader->next && word_state(word) == STATE_DONE) {
			copy_record(record, word, ret);
			sb__barrier();
			if (sb__load(&record->word) != word)
				continue;
			clean_text(ret->session_id);
			clean_text(ret->reason);
			reader->next++;
			reader->pending_since_ms = 0;
			return 1;
		}
		if (word_sequence(word) == reader->next && worth_waiting(reader, word)) {
			if (ret_pending)
				*ret_pending = true;
			return 0;
		}
		reader->torn++; /* its writer died or was stopped in it, or the number was passed over */
		reader->next++;
		reader->pending_since_ms = 0;
	}
	return 0;
}
