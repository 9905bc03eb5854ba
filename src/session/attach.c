/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attachments to session incarnations, and the lanes that threads hold in them.
 *
 * A thread finds its lane in an array of its own, indexed by the attachment's small index and checked by
 * its serial: no lock and no hash on the call path. The attachment keeps a bitmap of all lanes that
 * threads of this process claimed, so that they can be given back when it goes.
 *
 * Lock order: core->lock guards the lists, the reference counts and the bitmaps.
 *
 * Crash: a killed process leaves claimed lanes; the owner or the reaper takes them back by slot and
 * generation.
 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fail.h"
#include "os_linux.h"
#include "point.h"

#define IDLE_LANES_MAX 64 /* of one session, kept for further calls */

static _Atomic uint64_t serials = 1;

/* ── a thread's lanes ── */

struct lane_entry {
	uint64_t serial; /* 0: none */
	struct sb__core *core;
	uint32_t lane;
	bool claimed;       /* lane is one; else only sent is of use */
	uint32_t sent_lane; /* the last one-way call that the thread has sent, where sent is not 0 */
	uint64_t sent;
};

struct lane_cache {
	uint64_t epoch; /* of the process that claimed these lanes */
	uint32_t count;
	struct lane_entry *entries;
};

static __thread struct lane_cache *lanes;
static pthread_key_t lanes_key;
static pthread_once_t lanes_once = PTHREAD_ONCE_INIT;

static struct sb__attachment *find_serial_locked(struct sb__core *core, uint64_t serial)
{
	struct sb__index_node *n = sb__index_find(&core->attachment_serials, sb__index_number(serial));

	while (n && SB__INDEX_OF(n, struct sb__attachment, by_serial)->serial != serial)
		n = sb__index_find_next(&core->attachment_serials, n);
	return n ? SB__INDEX_OF(n, struct sb__attachment, by_serial) : NULL;
}

static void forget_lane(struct sb__attachment *a, uint32_t lane)
{
	a->lanes[lane / 64].claimed &= ~(UINT64_C(1) << (lane % 64));
}

static void give_back(struct sb__attachment *a, uint32_t lane)
{
	forget_lane(a, lane);
	sb__lane_unclaim(a->mailbox, lane);
}

/* A lane that was just claimed: it is given back where there is no memory to note that. */
static int note_lane(struct sb__attachment *a, uint32_t lane)
{
	uint32_t words = lane / 64 + 1;
	struct sb__lane_bits *more;

	if (words > a->lane_words) {
		more = realloc(a->lanes, words * sizeof(*more));
		if (!more) {
			sb__lane_unclaim(a->mailbox, lane);
			return sb__fail_memory("the session's lanes");
		}
		memset(more + a->lane_words, 0, (words - a->lane_words) * sizeof(*more));
		a->lanes = more;
		a->lane_words = words;
	}
	a->lanes[lane / 64].claimed |= UINT64_C(1) << (lane % 64);
	return 0;
}

/* ── mailboxes' pages ── */

static void cool_locked(struct sb__attachment *a)
{
	struct sb__attachment **warm = a->core->warm;

	for (unsigned i = 0; i < SB__WARM_MAX; i++) {
		if (warm[i] != a)
			continue;
		memmove(warm + i, warm + i + 1, (SB__WARM_MAX - 1 - i) * sizeof(*warm));
		warm[SB__WARM_MAX - 1] = NULL;
	}
}

/* Attached to, or a thread begins to call: of those for which that was long ago the pages leave the page tables. What is
 * in use comes back by itself. */
static void warm_locked(struct sb__attachment *a)
{
	struct sb__attachment **warm = a->core->warm, *coldest;

	if (a->hosted || warm[0] == a)
		return;
	cool_locked(a);
	coldest = warm[SB__WARM_MAX - 1];
	memmove(warm + 1, warm, (SB__WARM_MAX - 1) * sizeof(*warm));
	warm[0] = a;
	if (coldest)
		sb__mailbox_unload(coldest->mailbox);
}

/* ── claiming ── */

/* At thread exit: its lanes go back. A bridge that was closed meanwhile has given them back itself, and
 * is not looked at: its core is gone from the registry. */
static void lanes_destroy(void *arg)
{
	struct lane_cache *cache = arg;

	for (uint32_t i = 0; cache->epoch == sb__fork_epoch() && i < cache->count; i++) {
		struct lane_entry *e = &cache->entries[i];
		struct sb__attachment *a;

		if (!e->serial || !sb__core_lock_if_open(e->core))
			continue;
		a = find_serial_locked(e->core, e->serial);
		if (a && e->claimed)
			give_back(a, e->lane);
		pthread_mutex_unlock(&e->core->lock);
	}
	free(cache->entries);
	free(cache);
	lanes = NULL;
}

static void lanes_key_make(void)
{
	pthread_key_create(&lanes_key, lanes_destroy);
}

static struct lane_cache *lanes_of_thread(void)
{
	if (!lanes) {
		struct lane_cache *cache = calloc(1, sizeof(*cache));

		if (!cache)
			return NULL;
		cache->epoch = sb__fork_epoch();
		pthread_once(&lanes_once, lanes_key_make);
		if (pthread_setspecific(lanes_key, cache)) {
			free(cache);
			return NULL;
		}
		lanes = cache;
	}
	if (lanes->epoch != sb__fork_epoch()) { /* a forked child: those lanes are the parent's */
		for (uint32_t i = 0; i < lanes->count; i++)
			lanes->entries[i].serial = 0;
		lanes->epoch = sb__fork_epoch();
	}
	return lanes;
}

static struct lane_entry *lane_entry(struct lane_cache *cache, uint32_t index)
{
	if (index >= cache->count) {
		uint32_t count = index + 1 < 8 ? 8 : (index + 1) * 2;
		struct lane_entry *more = realloc(cache->entries, count * sizeof(*more));

		if (!more)
			return NULL;
		memset(more + cache->count, 0, (count - cache->count) * sizeof(*more));
		cache->entries = more;
		cache->count = count;
	}
	return &cache->entries[index];
}

/* What the designated owner grants each process: kept by those who ask, to spare the others. */
static int check_quota_locked(const struct sb__attachment *a)
{
	const struct sb__mailbox_header_shm *header = sb__mailbox_header(a->mailbox);
	uint32_t claimed = 0;

	for (uint32_t w = 0; w < a->lane_words; w++)
		claimed += (uint32_t)__builtin_popcountll(a->lanes[w].claimed);
	if (!header->max_lanes_per_process || claimed < header->max_lanes_per_process)
		return 0;
	return sb__fail(
		SB_ELANES,
		"%u threads and calls in flight of this process use session \"%s\" already, its "
		"quota (max_lanes_per_process): let some end, or raise it where the session's objects "
		"live",
		claimed, header->session_id);
}

static int claim_locked(struct sb__attachment *a, uint32_t *ret_lane)
{
	struct sb__core *core = a->core;
	int err = check_quota_locked(a);

	if (!err)
		err = sb__lane_claim(a->mailbox, core->self.slot, core->self.generation, ret_lane);
	SB_POINT("attach.lane_claimed");
	if (!err)
		err = note_lane(a, *ret_lane);
	if (!err)
		warm_locked(a);
	return err;
}

static bool idle_lane_locked(struct sb__attachment *a, uint32_t *ret_lane)
{
	if (!a->idle_count && a->oneways)
		sb__oneways_recover_locked(a);
	for (uint32_t w = 0; a->idle_count && w < a->lane_words; w++) {
		uint64_t *idle = &a->lanes[w].idle;

		if (!*idle)
			continue;
		*ret_lane = w * 64 + (uint32_t)__builtin_ctzll(*idle);
		*idle &= *idle - 1;
		a->idle_count--;
		return true;
	}
	return false;
}

static int claim_lane(struct sb__attachment *a, struct lane_entry *e)
{
	struct sb__core *core = a->core;
	uint32_t lane;
	int err = 0;

	pthread_mutex_lock(&core->lock);
	if (!idle_lane_locked(a, &lane))
		err = claim_locked(a, &lane);
	if (!err) {
		if (e->serial != a->serial)
			e->sent = 0;
		e->serial = a->serial;
		e->core = core;
		e->lane = lane;
		e->claimed = true;
	}
	pthread_mutex_unlock(&core->lock);
	return err;
}

int sb__pool_lane_take(struct sb__attachment *a, uint32_t *ret_lane)
{
	int err = 0;

	pthread_mutex_lock(&a->core->lock);
	if (!idle_lane_locked(a, ret_lane))
		err = claim_locked(a, ret_lane);
	pthread_mutex_unlock(&a->core->lock);
	return err;
}

void sb__pool_lane_give_locked(struct sb__attachment *a, uint32_t lane, bool lost)
{
	if (lost) {
		forget_lane(a, lane);
	} else if (a->idle_count >= IDLE_LANES_MAX) {
		give_back(a, lane);
	} else {
		a->lanes[lane / 64].idle |= UINT64_C(1) << (lane % 64);
		a->idle_count++;
	}
}

struct sb__bell *sb__attachment_bell(struct sb__attachment *a)
{
	return a->hosted ? sb__host_bell(a->core) : &a->peer->bell;
}

int sb__thread_lane(struct sb__attachment *a, uint32_t *ret_lane)
{
	struct lane_cache *cache = lanes_of_thread();
	struct lane_entry *e = cache ? lane_entry(cache, a->index) : NULL;
	int err;

	if (!e)
		return sb__fail_memory("the thread's lanes");
	if (e->serial != a->serial || !e->claimed) {
		err = claim_lane(a, e);
		if (err)
			return err;
	}
	*ret_lane = e->lane;
	return 0;
}

void sb__thread_lane_lost(struct sb__attachment *a)
{
	struct lane_entry *e;

	if (!lanes || a->index >= lanes->count)
		return;
	e = &lanes->entries[a->index];
	if (e->serial != a->serial || !e->claimed)
		return;
	pthread_mutex_lock(&a->core->lock);
	forget_lane(a, e->lane);
	pthread_mutex_unlock(&a->core->lock);
	e->claimed = false;
}

void sb__thread_after(struct sb__attachment *a, struct sb__lane_post *post)
{
	struct lane_entry *e = lanes && a->index < lanes->count ? &lanes->entries[a->index] : NULL;

	if (!e || e->serial != a->serial || !e->sent || lanes->epoch != sb__fork_epoch())
		return;
	if (sb__lane_call_over(a->mailbox, e->sent_lane, e->sent)) {
		e->sent = 0;
		return;
	}
	post->flags |= SB__REQUEST_AFTER;
	post->after_lane = e->sent_lane;
	post->after_word = e->sent;
}

void sb__thread_sent(struct sb__attachment *a, uint32_t lane, uint64_t ready)
{
	struct lane_cache *cache = lanes_of_thread();
	struct lane_entry *e = cache ? lane_entry(cache, a->index) : NULL;

	if (!e)
		return; /* without memory there is no order */
	if (e->serial != a->serial)
		*e = (struct lane_entry){ .serial = a->serial, .core = a->core };
	e->sent_lane = lane;
	e->sent = ready;
}

/* ── peers: bells of other processes ── */

static int peer_get_locked(struct sb__core *core, const struct sb__identity *owner, struct sb__peer **ret)
{
	struct sb__peer *peer;
	int err;

	for (peer = core->peers; peer; peer = peer->next) {
		if (peer->bell.owner.incarnation == owner->incarnation &&
		    peer->bell.owner.slot == owner->slot) {
			peer->refs++;
			*ret = peer;
			return 0;
		}
	}
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return sb__fail_memory("a peer");
	err = sb__bell_attach(core->dir.bell, owner->slot, owner->generation, &peer->bell);
	if (!err && peer->bell.owner.incarnation != owner->incarnation) {
		sb__bell_detach(&peer->bell);
		err = sb__fail(SB_EOWNERDIED, "the session's designated owner (pid %d) is gone",
		               (int)owner->pid);
	}
	if (err) {
		free(peer);
		return err;
	}
	peer->refs = 1;
	peer->next = core->peers;
	core->peers = peer;
	*ret = peer;
	return 0;
}

static void peer_put_locked(struct sb__core *core, struct sb__peer *peer)
{
	struct sb__peer **at = &core->peers;

	if (!peer || --peer->refs > 0)
		return;
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	sb__bell_detach(&peer->bell);
	free(peer);
}

/* ── attachments ── */

/* Indexes are process-wide, since a thread's lane cache serves all bridges: a bitmap, lowest first. */
static _Atomic uint64_t index_bits[SB__BELL_SESSIONS / 64];

static int index_take(uint32_t *ret)
{
	for (uint32_t w = 0; w < SB__BELL_SESSIONS / 64; w++) {
		uint64_t bits = atomic_load(&index_bits[w]);

		while (~bits) {
			uint32_t bit = (uint32_t)__builtin_ctzll(~bits);

			if (!atomic_compare_exchange_weak(&index_bits[w], &bits, bits | UINT64_C(1) << bit))
				continue;
			*ret = w * 64 + bit;
			return 0;
		}
	}
	return sb__fail(SB_ENOMEM, "this process is attached to %u sessions already: close some",
	                SB__BELL_SESSIONS);
}

static void index_give_back(uint32_t index)
{
	atomic_fetch_and(&index_bits[index / 64], ~(UINT64_C(1) << (index % 64)));
}

static bool is_self(const struct sb__core *core, const struct sb__identity *identity)
{
	return identity->slot == core->self.slot && identity->generation == core->self.generation;
}

static int open_locked(struct sb__core *core, const struct sb__session_rec *rec, struct sb__attachment *a)
{
	int err;

	a->hosted = sb__host_find(core, rec->incarnation);
	if (a->hosted) {
		a->mailbox = sb__hosted_mailbox(a->hosted);
		return 0;
	}
	if (is_self(core, &rec->designated)) /* another thread is about to serve it, or has just ended it */
		return sb__fail(SB_ERELEASED, "session \"%s\" is not served (any more)", rec->session_id);
	err = sb__mailbox_attach(core->dir.mailbox, rec->incarnation, &a->mailbox);
	if (err)
		return err;
	err = peer_get_locked(core, &sb__mailbox_header(a->mailbox)->owner, &a->peer);
	if (err)
		sb__mailbox_detach(a->mailbox);
	return err;
}

static struct sb__attachment *find_locked(struct sb__core *core, uint64_t incarnation)
{
	struct sb__index_node *n = sb__index_find(&core->attachments, sb__index_number(incarnation));

	while (n && SB__INDEX_OF(n, struct sb__attachment, by_incarnation)->incarnation != incarnation)
		n = sb__index_find_next(&core->attachments, n);
	return n ? SB__INDEX_OF(n, struct sb__attachment, by_incarnation) : NULL;
}

void sb__attachment_over_locked(struct sb__core *core, uint64_t incarnation)
{
	struct sb__attachment *a = find_locked(core, incarnation);

	if (a)
		a->over = true;
}

int sb__attach_locked(struct sb__core *core, const struct sb__session_rec *rec, struct sb__attachment **ret)
{
	struct sb__attachment *a = find_locked(core, rec->incarnation);
	int err;

	if (a) {
		a->refs++;
		*ret = a;
		return 0;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return sb__fail_memory("an attachment to a session");
	a->core = core;
	a->oneway_end = &a->oneways;
	a->incarnation = rec->incarnation;
	err = index_take(&a->index);
	if (!err) {
		err = open_locked(core, rec, a);
		if (err)
			index_give_back(a->index);
	}
	if (err) {
		free(a);
		return err;
	}
	a->serial = atomic_fetch_add(&serials, 1);
	a->refs = 1;
	sb__index_add(&core->attachments, &a->by_incarnation, sb__index_number(a->incarnation));
	sb__index_add(&core->attachment_serials, &a->by_serial, sb__index_number(a->serial));
	warm_locked(a);
	*ret = a;
	return 0;
}

static void unlink_locked(struct sb__attachment *a)
{
	sb__index_remove(&a->core->attachments, &a->by_incarnation);
	sb__index_remove(&a->core->attachment_serials, &a->by_serial);
	cool_locked(a);
}

static void attachment_free(struct sb__attachment *a)
{
	index_give_back(a->index);
	free(a->lanes);
	free(a);
}

void sb__attachment_put_locked(struct sb__attachment *a)
{
	if (!a || --a->refs > 0)
		return;
	unlink_locked(a);
	sb__oneways_drop_locked(a, false);
	for (uint32_t w = 0; w < a->lane_words; w++)
		for (uint64_t bits = a->lanes[w].claimed; bits; bits &= bits - 1)
			sb__lane_unclaim(a->mailbox, w * 64 + (uint32_t)__builtin_ctzll(bits));
	if (a->hosted) {
		sb__hosted_put(a->hosted);
	} else {
		sb__mailbox_detach(a->mailbox);
		peer_put_locked(a->core, a->peer);
	}
	attachment_free(a);
}

void sb__attachments_forget_locked(struct sb__core *core)
{
	struct sb__index_node *n;

	while ((n = sb__index_next(&core->attachments, NULL))) {
		struct sb__attachment *a = SB__INDEX_OF(n, struct sb__attachment, by_incarnation);

		unlink_locked(a);
		sb__oneways_drop_locked(a, true);
		if (!a->hosted) {
			sb__mailbox_detach(a->mailbox);
			peer_put_locked(core, a->peer);
		}
		attachment_free(a);
	}
	for (n = NULL; (n = sb__index_next(&core->sessions, n));) {
		struct sb_session *s = SB__INDEX_OF(n, struct sb_session, by_self);

		atomic_store(&s->attached, NULL);
		s->retired_count = 0;
	}
}

bool sb__attachment_owner_alive(struct sb__attachment *a)
{
	if (a->hosted)
		return true;
	if (sb__bell_owner_died(&a->peer->bell))
		return false;
	if (sb__liveness_check(a->core->dir.life_fd, &a->peer->bell.owner).verdict != SB__DEAD)
		return true;
	/* Where no alive mutex told of the death nothing else would: this call learns of it, and so do the next one and
	 * everybody else's. */
	(void)sb__mailbox_end(a->mailbox, SB__MAILBOX_ORPHANED);
	return false;
}
