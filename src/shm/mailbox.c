/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mailboxes: mapping, growing, ending, and taking back the lanes of the dead. Their files, made and removed:
 * mailbox_file.c. What goes through a lane: lane_call.c (caller) and lane_serve.c (owner).
 *
 * Lock order: map_lock is a leaf. No lock is taken in a forked child's detach.
 *
 * Crash: a kill while attaching leaves a file that is not used again. A kill while growing leaves a file longer than
 * lane_count says, which the next to grow uses. A kill in sb__mailbox_end() leaves some parked callers unwoken: they look at the state
 * after their slice. A kill in reclaim leaves lanes for the next pass; every step is one CAS on the exact
 * word seen.
 */
#include "mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fail.h"
#include "file.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

#define TOUCH_TRIES 4 /* each that fails found another note, most likely a later one */
#define WHAT        "the mailbox"

/* ── mapping ── */

int sb__mailbox_new(int dir, uint8_t *map, bool lanes, const struct sb__mailbox_header_shm *header,
                    struct sb__mailbox **ret)
{
	size_t len = offsetof(struct sb__mailbox_header_shm, session_id) + header->session_id_len + 1;
	struct sb__mailbox *m = calloc(1, sizeof(*m) + len);

	if (!m) {
		(void)sb__os_unmap(map, SB__MAILBOX_MAPPED);
		return sb__fail_memory(WHAT);
	}
	m->dir = dir;
	m->pid = (int32_t)getpid();
	m->epoch = sb__fork_epoch();
	m->header = (struct sb__mailbox_header_shm *)(m + 1);
	memcpy(m->header, header, len);
	m->map = map;
	m->control = (struct sb__mailbox_control_shm *)(map + SB__CONTROL_AT);
	m->first_there = lanes;
	pthread_mutex_init(&m->map_lock, NULL);
	pthread_mutex_init(&m->replies_lock, NULL);
	*ret = m;
	return 0;
}

int sb__mailbox_check_version(const struct sb__mailbox_header_shm *h, uint64_t incarnation)
{
	if (memcmp(h->magic, SB__MAILBOX_MAGIC, sizeof(h->magic)) != 0)
		return sb__fail(SB_EPROTOCOL, "mailbox/%016" PRIx64 " is not a mailbox", incarnation);
	if (h->version != SB__LAYOUT_VERSION || h->fingerprint != sb__layout_fingerprint())
		return sb__fail(SB_EVERSION,
		                "the mailbox of incarnation %" PRIu64 " has layout %" PRIu32 "/%08" PRIx32
		                ", this library %" PRIu32 "/%08" PRIx32 ": use the same version everywhere",
		                incarnation, h->version, h->fingerprint, SB__LAYOUT_VERSION,
		                sb__layout_fingerprint());
	return 0;
}

int sb__mailbox_check_header(const struct sb__mailbox_header_shm *h, uint64_t incarnation)
{
	int err = sb__mailbox_check_version(h, incarnation);

	if (err)
		return err;
	if (h->incarnation != incarnation || h->bell_index >= SB__BELL_SESSIONS ||
	    h->lanes_max < SB__LANES_FIRST || h->lanes_max > SB__LANES_MAX ||
	    h->session_id_len > SB_SESSION_ID_MAX ||
	    strnlen(h->session_id, sizeof(h->session_id)) != h->session_id_len ||
	    h->owner.slot >= SB__SLOTS_MAX)
		return sb__fail(SB_EPROTOCOL, "the header of mailbox/%016" PRIx64 " does not make sense",
		                incarnation);
	return 0;
}

int sb__mailbox_open_file(int dir, uint64_t incarnation, int flags, int *ret_fd)
{
	char name[SB__FILE_NAME_MAX];
	int fd;

	sb__mailbox_name(name, incarnation);
	fd = sb__os_open_own(dir, name, flags, 0);
	if (fd == -ENOENT)
		return sb__fail(SB_ERELEASED, "the session ended: its mailbox %s is gone", name);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	*ret_fd = fd;
	return 0;
}

/* Lanes are counted after the file was extended, so it is asked for its size after the count was read. */
static int map_first(int fd, void **ret_map, bool *ret_lanes)
{
	const struct sb__mailbox_control_shm *control;
	int err = sb__file_check(fd, SB__PAGE, WHAT);
	void *map;

	if (err)
		return err;
	err = sb__os_map(fd, 0, SB__MAILBOX_MAPPED, true, &map);
	if (err < 0)
		return sb__file_fail(err, "mapped", WHAT);
	control = (const struct sb__mailbox_control_shm *)((uint8_t *)map + SB__CONTROL_AT);
	*ret_lanes = sb__load_acquire(&control->lane_count) != 0;
	err = *ret_lanes ? sb__file_check(fd, SB__MAILBOX_MAPPED, WHAT) : 0;
	if (err) {
		(void)sb__os_unmap(map, SB__MAILBOX_MAPPED);
		return err;
	}
	*ret_map = map;
	return 0;
}

int sb__mailbox_moved_on(uint64_t word, uint64_t named, uint64_t incarnation)
{
	if (word == 0 || named != incarnation)
		return sb__fail(SB_ERELEASED, "the session ended: its mailbox is used by another");
	return sb__fail(SB_EPROTOCOL, "whose mailbox/%016" PRIx64 " is does not make sense", incarnation);
}

/* From here on the file stays what its name said: law of reuse. */
static int enter(const struct sb__mailbox_header_shm *h, struct sb__mailbox_control_shm *control,
                 uint64_t incarnation)
{
	for (;;) {
		uint64_t word = sb__load_acquire(&control->attached);

		if (word == SB__ATTACHED(incarnation))
			return 0;
		if (word != SB__ATTACHED_NOT(incarnation))
			return sb__mailbox_moved_on(word, SB__ONCE(h->incarnation), incarnation);
		SB_POINT("mailbox.entering");
		if (sb__cas(&control->attached, word, SB__ATTACHED(incarnation)))
			return 0;
	}
}

/* Copies the header out of what was mapped. */
static int enter_mapped(void *map, uint64_t incarnation, struct sb__mailbox_header_shm *ret)
{
	int err;

	memcpy(ret, map, offsetof(struct sb__mailbox_header_shm, incarnation));
	err = sb__mailbox_check_version(ret, incarnation);
	if (!err)
		err = enter(map, (struct sb__mailbox_control_shm *)((uint8_t *)map + SB__CONTROL_AT),
		            incarnation);
	if (err)
		return err;
	memcpy(ret, map, sizeof(*ret));
	ret->owner.program[sizeof(ret->owner.program) - 1] = '\0';
	return sb__mailbox_check_header(ret, incarnation);
}

int sb__mailbox_attach(int mailbox_dir, uint64_t incarnation, struct sb__mailbox **ret)
{
	struct sb__mailbox_header_shm header;
	void *map = NULL;
	bool lanes = false;
	int fd = -1, err = sb__mailbox_open_file(mailbox_dir, incarnation, O_RDWR, &fd);

	if (err)
		return err;
	err = map_first(fd, &map, &lanes);
	(void)sb__os_close(fd);
	if (err)
		return err;
	SB_POINT("mailbox.mapped");
	err = enter_mapped(map, incarnation, &header);
	if (err) {
		(void)sb__os_unmap(map, SB__MAILBOX_MAPPED);
		return err;
	}
	return sb__mailbox_new(mailbox_dir, map, lanes, &header, ret);
}

void sb__mailbox_detach(struct sb__mailbox *mailbox)
{
	if (!mailbox)
		return;
	if (mailbox->epoch == sb__fork_epoch()) {
		sb__mailbox_revoke_replies(mailbox);
		pthread_mutex_destroy(&mailbox->map_lock);
		pthread_mutex_destroy(&mailbox->replies_lock);
	}
	for (uint32_t k = 0; k < SB__LANE_BLOCKS; k++) {
		struct sb__lane_shm *lanes = atomic_load(&mailbox->blocks[k].lanes);

		if (lanes && k > 0)
			(void)sb__os_unmap(lanes, sb__block_size(k));
		free(mailbox->blocks[k].notes);
	}
	if (!sb__mailbox_pool_put(mailbox))
		(void)sb__os_unmap(mailbox->map, SB__MAILBOX_MAPPED);
	free(atomic_load(&mailbox->turns));
	free(mailbox);
}

const struct sb__mailbox_header_shm *sb__mailbox_header(const struct sb__mailbox *mailbox)
{
	return mailbox->header;
}

struct sb__mailbox_control_shm *sb__mailbox_control(struct sb__mailbox *mailbox)
{
	return mailbox->control;
}

/* ── lane blocks ── */

/* Only whole blocks count. Whether the file has them, mapping checks. */
uint32_t sb__lanes_said(uint64_t count, uint32_t lanes_max)
{
	if (count == 0)
		return 0;
	if (count <= SB__LANES_FIRST)
		return SB__LANES_FIRST;
	if (count > lanes_max)
		count = lanes_max;
	return UINT32_C(1) << (31 - __builtin_clz((uint32_t)count));
}

uint32_t sb__mailbox_lanes(struct sb__mailbox *mailbox)
{
	return sb__lanes_said(sb__load_acquire(&mailbox->control->lane_count), mailbox->header->lanes_max);
}

/* Block 0 lies in the first mapping; it only has to be in the file. */
static int block_from_file(struct sb__mailbox *m, uint32_t k, void **ret)
{
	int fd = -1, err;

	*ret = m->map + SB__PAGE;
	if (k == 0 && m->first_there)
		return 0;
	err = sb__mailbox_open_file(m->dir, m->header->incarnation, O_RDWR, &fd);
	if (err)
		return err;
	err = k == 0 ? sb__file_check(fd, SB__MAILBOX_MAPPED, WHAT)
	             : sb__file_map(fd, sb__block_offset(k), sb__block_size(k), true, WHAT, ret);
	(void)sb__os_close(fd);
	return err;
}

static struct sb__lane_shm *map_block_locked(struct sb__mailbox *m, uint32_t k)
{
	struct sb__lane_notes *notes = calloc(sb__block_lanes(k), sizeof(*notes));
	void *map;

	if (!notes) {
		(void)sb__fail_memory("a block of lanes");
		return NULL;
	}
	if (block_from_file(m, k, &map) != 0) {
		free(notes);
		return NULL;
	}
	m->blocks[k].notes = notes;
	atomic_store_explicit(&m->blocks[k].lanes, map, memory_order_release);
	return map;
}

struct sb__lane_shm *sb__lane_map(struct sb__mailbox *mailbox, uint32_t lane)
{
	uint32_t k = sb__block_of_lane(lane);
	struct sb__lane_shm *lanes;

	pthread_mutex_lock(&mailbox->map_lock);
	lanes = atomic_load_explicit(&mailbox->blocks[k].lanes, memory_order_relaxed);
	if (!lanes)
		lanes = map_block_locked(mailbox, k);
	pthread_mutex_unlock(&mailbox->map_lock);
	return lanes ? &lanes[lane - sb__block_first(k)] : NULL;
}

int sb__mailbox_map_lanes(struct sb__mailbox *mailbox)
{
	uint32_t count = sb__mailbox_lanes(mailbox);

	for (uint32_t k = 0; sb__block_first(k) < count; k++)
		if (!sb__lane_at(mailbox, sb__block_first(k)))
			return sb_last_error()->code;
	return 0;
}

int sb__mailbox_grow(struct sb__mailbox *mailbox, uint32_t lanes_now)
{
	uint32_t k = sb__block_of_lane(lanes_now);
	uint64_t seen = sb__load_acquire(&mailbox->control->lane_count);
	uint32_t lanes_then = lanes_now ? lanes_now * 2 : SB__LANES_FIRST;
	int fd = -1, err;

	if (lanes_now >= mailbox->header->lanes_max)
		return sb__fail(SB_ELANES,
		                "all %" PRIu32
		                " lanes of session \"%s\" are taken: end threads or processes that "
		                "use it, or run sb-reaper --once",
		                lanes_now, mailbox->header->session_id);
	err = sb__mailbox_open_file(mailbox->dir, mailbox->header->incarnation, O_RDWR, &fd);
	if (err)
		return err;
	/* From the start: it costs little where blocks are there, and mends what a killed one left. */
	err = sb__file_extend(fd, 0, sb__block_offset(k) + sb__block_size(k), WHAT);
	(void)sb__os_close(fd);
	if (err)
		return err;
	SB_POINT("mailbox.extended");
	if (k == 0) { /* known: it need not be opened again to be asked */
		pthread_mutex_lock(&mailbox->map_lock);
		mailbox->first_there = true;
		pthread_mutex_unlock(&mailbox->map_lock);
	}
	if (seen < lanes_then)
		(void)sb__cas(&mailbox->control->lane_count, seen, lanes_then);
	SB_POINT("mailbox.grown");
	return 0;
}

/* ── ending ── */

unsigned sb__mailbox_state(struct sb__mailbox *mailbox)
{
	return (unsigned)sb__load_acquire(&mailbox->control->state);
}

int sb__mailbox_ended_error(struct sb__mailbox *mailbox)
{
	const char *id = mailbox->header->session_id;

	switch (sb__mailbox_state(mailbox)) {
	case SB__MAILBOX_EXPIRED: return sb__fail(SB_EEXPIRED, "session \"%s\" expired", id);
	case SB__MAILBOX_ORPHANED:
		return sb__fail(SB_EOWNERDIED, "the designated owner of session \"%s\" is gone", id);
	default: return sb__fail(SB_ERELEASED, "session \"%s\" was released", id);
	}
}

void sb__lane_wake(struct sb__lane_shm *lane)
{
	if (!sb__load32(&lane->caller_parked))
		return;
	sb__add32(&lane->reply_bell, 1);
	SB_POINT("lane.belled");
	/* All: a waiting thread, and one that watches for many. */
	(void)sb__os_futex_wake((unsigned int *)&lane->reply_bell, INT_MAX);
}

void sb__lane_wake_asker(struct sb__lane_shm *lane)
{
	if (!sb__load32(&lane->asker_parked))
		return;
	sb__add32(&lane->answer_bell, 1);
	(void)sb__os_futex_wake((unsigned int *)&lane->answer_bell, INT_MAX);
}

void sb__lane_announce(struct sb__mailbox *mailbox, uint32_t lane)
{
	struct sb__mailbox_control_shm *control = mailbox->control;
	uint32_t w = lane / 64;
	uint64_t bit = UINT64_C(1) << (lane % 64);

	/* For those that are skipped see layout.h, law of the bits. */
	if (!(sb__load_acquire(&control->ready[w]) & bit))
		sb__or(&control->ready[w], bit);
	SB_POINT("lane.bit");
	bit = UINT64_C(1) << w;
	if (w > 0 && !(sb__load_acquire(&control->ready_summary) & bit))
		sb__or(&control->ready_summary, bit);
}

bool sb__lane_follow(struct sb__mailbox *mailbox, struct sb__lane_shm *lane)
{
	uint32_t next = sb__load32(&lane->followed);

	if (!next)
		return false;
	if (next <= sb__mailbox_lanes(mailbox))
		sb__lane_announce(mailbox, next - 1);
	return true;
}

void sb__mailbox_unload(struct sb__mailbox *mailbox)
{
	sb__os_unload(mailbox->map, SB__MAILBOX_MAPPED);
	for (uint32_t k = 1; k < SB__LANE_BLOCKS; k++) {
		struct sb__lane_shm *lanes = atomic_load_explicit(&mailbox->blocks[k].lanes,
		                                                  memory_order_acquire);

		if (lanes)
			sb__os_unload(lanes, sb__block_size(k));
	}
}

bool sb__mailbox_end(struct sb__mailbox *mailbox, enum sb__mailbox_state state)
{
	uint32_t count;

	if (!sb__cas(&mailbox->control->state, SB__MAILBOX_SERVING, state))
		return false;
	SB_POINT("mailbox.ended");
	/* Pairs with the caller's park: it sets parked, full barrier, reads the state; the CAS above is our
	 * barrier. */
	count = sb__mailbox_lanes(mailbox);
	for (uint32_t i = 0; i < count; i++) {
		struct sb__lane_shm *lane = sb__lane_at(mailbox, i);

		if (!lane)
			break; /* no memory: its callers look at the state after their slice */
		sb__lane_wake(lane);
		sb__lane_wake_asker(lane);
	}
	SB_POINT("mailbox.told");
	return true;
}

void sb__mailbox_touch(struct sb__mailbox *mailbox, uint64_t now_ms)
{
	sb__word *word = &mailbox->control->last_access_ms;
	uint64_t last = sb__load(word);

	/* The clock moves every few milliseconds; a store each call would drag the line from CPU to CPU for
	 * nothing. */
	for (int tries = 0; last != now_ms && tries < TOUCH_TRIES; tries++) {
		if (last > now_ms) /* we were stopped since we looked at the clock; or it is garbage */
			now_ms = sb__now_coarse_ms();
		if (sb__cas(word, last, now_ms))
			return;
		last = sb__load(word);
	}
}

/* ── the lanes of the dead ── */

/* One lane of a dead claimer: the word it is to become, or the same if nothing is to be done. */
static uint64_t reclaimed(uint64_t word, bool owner_dead)
{
	switch (SB__WORD_STATE(word)) {
	case SB__LANE_IDLE:
	case SB__LANE_READY:
	case SB__LANE_DONE:
	case SB__LANE_CANCELLED: return sb__word_freed(word);
	case SB__LANE_BUSY:
		return owner_dead ? sb__word_freed(word) : SB__WORD_WITH(word, SB__LANE_ABANDONED);
	case SB__LANE_ABANDONED: return owner_dead ? sb__word_freed(word) : word;
	default: return word;
	}
}

static bool reclaim_lane(struct sb__lane_shm *lane, uint64_t claim, bool owner_dead)
{
	for (;;) {
		uint64_t word = sb__load_acquire(&lane->word);
		uint64_t next = reclaimed(word, owner_dead);

		if (SB__WORD_STATE(word) == SB__LANE_FREE || SB__WORD_CLAIM(word) != claim || next == word)
			return false;
		if (sb__cas(&lane->word, word, next)) {
			sb__lane_wake_asker(lane);
			return true;
		}
	}
}

uint32_t sb__mailbox_reclaim(struct sb__mailbox *mailbox, uint32_t slot, uint32_t generation, bool owner_dead)
{
	uint64_t claim = SB__WORD_CLAIM(SB__WORD(0, 0, slot, generation));
	uint32_t count = sb__mailbox_lanes(mailbox), reclaims = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct sb__lane_shm *lane = sb__lane_at(mailbox, i);

		if (!lane)
			break;
		if (reclaim_lane(lane, claim, owner_dead)) {
			SB_POINT("mailbox.reclaimed");
			reclaims++;
		}
	}
	if (reclaims > 0 && !owner_dead)
		sb__mailbox_attention(mailbox, NULL); /* some may have been running */
	return reclaims;
}

/* ── inspect ── */

static bool view_lane(struct sb__lane_shm *lane, uint32_t index, struct sb__lane_view *ret)
{
	uint64_t word = sb__load_acquire(&lane->word);

	if (SB__WORD_STATE(word) == SB__LANE_FREE)
		return false;
	*ret = (struct sb__lane_view){
		.lane = index,
		.state = SB__WORD_STATE(word),
		.sequence = SB__WORD_SEQ(word),
		.slot = SB__WORD_SLOT(word),
		.generation = SB__WORD_GEN(word),
		.caller_pid = SB__ONCE(lane->caller_pid),
		.trace_id = sb__load(&lane->trace_id),
		.published_ns = SB__ONCE(lane->published_ns),
		.accepted_ns = SB__ONCE(lane->accepted_ns),
		.deadline_ns = sb__load(&lane->deadline_ns),
	};
	memcpy(ret->label, lane->label, SB__LABEL_MAX);
	ret->asking = ret->state == SB__LANE_BUSY && sb__load32(&lane->flags) & SB__REQUEST_ASKABLE &&
	              sb__load32(&lane->asked) % 2;
	sb__barrier();
	ret->torn = sb__load_acquire(&lane->word) != word;
	return true;
}

uint32_t sb__mailbox_view(struct sb__mailbox *mailbox, struct sb__lane_view *views, uint32_t max)
{
	uint32_t count = sb__mailbox_lanes(mailbox), seen = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct sb__lane_shm *lane = sb__lane_at(mailbox, i);
		struct sb__lane_view view;

		if (!lane)
			break;
		if (!view_lane(lane, i, &view))
			continue;
		if (seen < max)
			views[seen] = view;
		seen++;
	}
	return seen;
}
