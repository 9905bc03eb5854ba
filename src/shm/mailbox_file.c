/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mailbox files: made, published, removed, and used again by their owner where no other process ever attached to them
 * (layout.h, law of reuse). Making, faulting in and removing a file takes several times as long as renaming one twice.
 *
 * Lock order: the pool's lock is a leaf.
 *
 * Crash: a kill before a rename leaves ".new.<slot>.<generation>.…", which the reaper removes once that process is dead; after
 * it, a whole mailbox. A kill between sb__mailbox_retire()'s swap and its rename leaves a mailbox whose session has
 * ended, as one before it does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

#define WHAT     "the mailbox"
#define KEPT_MAX 16u /* files of one process: a page each */

struct sb__mailbox_pool {
	int dir;
	uint32_t slot, generation;
	pthread_mutex_t lock;
	uint64_t numbers; /* given out, for names */
	unsigned count;
	struct {
		void *map;
		uint64_t number;
	} kept[KEPT_MAX];
};

void sb__mailbox_name(char name[SB__FILE_NAME_MAX], uint64_t incarnation)
{
	/* "%016" PRIx64, by hand: tools look at thousands. */
	for (unsigned i = 0; i < 16; i++)
		name[i] = "0123456789abcdef"[incarnation >> (60 - 4 * i) & 15];
	name[16] = '\0';
}

/* ── the pool ── */

int sb__mailbox_pool_new(int mailbox_dir, uint32_t slot, uint32_t generation, struct sb__mailbox_pool **ret)
{
	struct sb__mailbox_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return sb__fail_memory("the mailboxes that are used again");
	pool->dir = mailbox_dir;
	pool->slot = slot;
	pool->generation = generation;
	pthread_mutex_init(&pool->lock, NULL);
	*ret = pool;
	return 0;
}

static void remove_kept(struct sb__mailbox_pool *pool, uint64_t number)
{
	char name[SB__FILE_NAME_MAX];

	sb__file_temporary(name, pool->slot, pool->generation, number);
	(void)sb__os_unlinkat(pool->dir, name, 0);
}

void sb__mailbox_pool_free(struct sb__mailbox_pool *pool)
{
	if (!pool)
		return;
	for (unsigned i = 0; i < pool->count; i++) {
		remove_kept(pool, pool->kept[i].number);
		(void)sb__os_unmap(pool->kept[i].map, SB__MAILBOX_MAPPED);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* The one that was kept last, whose page is the likeliest to be in the CPU's caches. */
static bool take_kept(struct sb__mailbox_pool *pool, struct sb__new_file *ret)
{
	uint64_t number = 0;

	*ret = (struct sb__new_file){ .dir = pool->dir, .fd = -1, .map_size = SB__MAILBOX_MAPPED };
	pthread_mutex_lock(&pool->lock);
	if (pool->count > 0) {
		number = pool->kept[--pool->count].number;
		ret->map = pool->kept[pool->count].map;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!ret->map)
		return false;
	sb__file_temporary(ret->name, pool->slot, pool->generation, number);
	return true;
}

/* Of no use to another session are those that have lanes: threads of this process may have called through it. */
static bool is_untouched(struct sb__mailbox *m)
{
	return sb__load_acquire(&m->control->lane_count) == 0 && sb__load(&m->control->claimed) == 0;
}

/* But what says that it is a mailbox, which whoever opened it by its old name may be about to read. */
static void wipe(uint8_t *map)
{
	size_t at = offsetof(struct sb__mailbox_header_shm, incarnation);

	memset(map + at, 0, SB__PAGE - at);
}

bool sb__mailbox_pool_put(struct sb__mailbox *m)
{
	struct sb__mailbox_pool *pool = m->pool;
	bool put = false;

	if (!m->kept_as || m->epoch != sb__fork_epoch())
		return false;
	if (is_untouched(m)) {
		wipe(m->map);
		SB_POINT("mailbox.wiped");
		pthread_mutex_lock(&pool->lock);
		put = pool->count < KEPT_MAX;
		if (put) {
			pool->kept[pool->count].map = m->map;
			pool->kept[pool->count++].number = m->kept_as;
		}
		pthread_mutex_unlock(&pool->lock);
	}
	if (!put)
		remove_kept(pool, m->kept_as);
	return put;
}

/* The number in the name that the file of an ended session gets; 0: it is not to be kept. */
static uint64_t keep_as(struct sb__mailbox *m)
{
	uint64_t number = 0;

	if (!m->pool || !is_untouched(m))
		return 0;
	pthread_mutex_lock(&m->pool->lock);
	if (m->pool->count < KEPT_MAX)
		number = ++m->pool->numbers;
	pthread_mutex_unlock(&m->pool->lock);
	return number;
}

/* ── making ── */

static int fill_header(const struct sb__mailbox_params *params, struct sb__mailbox_header_shm *ret)
{
	size_t len = strlen(params->session_id);

	if (len > SB_SESSION_ID_MAX || params->bell_index >= SB__BELL_SESSIONS)
		return sb__fail(SB_EINVAL,
		                "a mailbox for session \"%.32s…\" with doorbell index %" PRIu32
		                " cannot be made",
		                params->session_id, params->bell_index);
	*ret = (struct sb__mailbox_header_shm){
		.version = SB__LAYOUT_VERSION,
		.fingerprint = sb__layout_fingerprint(),
		.incarnation = params->incarnation,
		.owner = params->owner,
		.bell_index = params->bell_index,
		.lanes_max = SB__LANES_MAX,
		.created_ms = sb__now_ms(),
		.ttl_ms = params->ttl_ms,
		.max_request_bytes = params->max_request_bytes,
		.max_lanes_per_process = params->max_lanes_per_process,
		.max_refs = params->max_refs,
		.session_id_len = (uint32_t)len,
	};
	memcpy(ret->magic, SB__MAILBOX_MAGIC, sizeof(ret->magic));
	memcpy(ret->session_id, params->session_id, len);
	return 0;
}

/* The last store is the one that lets others in. */
static void fill_page(void *map, const struct sb__mailbox_header_shm *header)
{
	struct sb__mailbox_control_shm *control = (struct sb__mailbox_control_shm *)((uint8_t *)map +
	                                                                             SB__CONTROL_AT);

	memcpy(map, header, sizeof(*header));
	sb__store(&control->state, SB__MAILBOX_SERVING);
	sb__store(&control->last_access_ms, sb__now_coarse_ms());
	SB_POINT("mailbox.filled");
	sb__store_release(&control->attached, SB__ATTACHED_NOT(header->incarnation));
}

/* One that was kept, unless somebody removed it meanwhile; else a new one. */
static int make_and_publish(int dir, const struct sb__mailbox_params *params,
                            const struct sb__mailbox_header_shm *header, void **ret_map)
{
	bool kept = params->pool != NULL;
	char name[SB__FILE_NAME_MAX];
	struct sb__new_file file;
	int err;

	sb__mailbox_name(name, params->incarnation);
	for (;;) {
		kept = kept && take_kept(params->pool, &file);
		err = kept ? 0
		           : sb__file_make_to_grow(dir, params->owner.slot, params->owner.generation,
		                                   SB__PAGE, SB__MAILBOX_MAPPED, WHAT, &file);
		if (err)
			return err;
		fill_page(file.map, header);
		SB_POINT("mailbox.made");
		*ret_map = file.map;
		err = sb__file_publish(&file, name, WHAT);
		if (!err || !kept)
			return err;
	}
}

int sb__mailbox_create(int mailbox_dir, const struct sb__mailbox_params *params, struct sb__mailbox **ret)
{
	struct sb__mailbox_header_shm header;
	void *map = NULL;
	int err = fill_header(params, &header);

	if (!err)
		err = make_and_publish(mailbox_dir, params, &header, &map);
	if (err)
		return err;
	SB_POINT("mailbox.published");
	err = sb__mailbox_new(mailbox_dir, map, false, &header, ret);
	if (err)
		(void)sb__mailbox_unlink(mailbox_dir, params->incarnation);
	else
		(*ret)->pool = params->pool;
	return err;
}

/* ── removing ── */

static int unlink_refs(int mailbox_dir, const char *name)
{
	char refs[SB__FILE_NAME_MAX + 8];

	snprintf(refs, sizeof(refs), "%s.refs", name);
	return sb__os_unlinkat(mailbox_dir, refs, 0);
}

int sb__mailbox_unlink(int mailbox_dir, uint64_t incarnation)
{
	char name[SB__FILE_NAME_MAX];
	int err, err_refs;

	sb__mailbox_name(name, incarnation);
	err = sb__os_unlinkat(mailbox_dir, name, 0);
	SB_POINT("mailbox.unlinked");
	err_refs = unlink_refs(mailbox_dir, name);
	if (err >= 0 || err == -ENOENT)
		err = err_refs;
	return err < 0 && err != -ENOENT ? sb__file_fail(err, "removed", WHAT) : 0;
}

void sb__mailbox_retire(struct sb__mailbox *m, bool refs)
{
	uint64_t incarnation = m->header->incarnation, number = keep_as(m);
	char name[SB__FILE_NAME_MAX], kept[SB__FILE_NAME_MAX];

	sb__mailbox_name(name, incarnation);
	if (number && sb__cas(&m->control->attached, SB__ATTACHED_NOT(incarnation), 0)) {
		SB_POINT("mailbox.retired");
		sb__file_temporary(kept, m->pool->slot, m->pool->generation, number);
		if (sb__os_renameat(m->dir, name, m->dir, kept) == 0)
			m->kept_as = number; /* it goes back to the pool when it is detached */
	}
	if (!m->kept_as)
		(void)sb__os_unlinkat(m->dir, name, 0);
	SB_POINT("mailbox.unlinked");
	if (refs)
		(void)unlink_refs(m->dir, name);
}
