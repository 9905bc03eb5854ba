/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ref rows: the owner writes, anybody reads at any time. Rows are for people; the truth about refs is the
 * owner's private table, so a row that cannot be had is dropped without a word.
 *
 * The file has no header, is valid at any length, and is made under its own name: zeroes mean "no ref
 * here".
 *
 * Locks: rows->lock, a leaf, for growing. A row has one writer at a time (the engine's table).
 *
 * Crash: a kill while a row is written leaves its generation 0. The file goes with its mailbox's.
 */
#include "refrows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fail.h"
#include "file.h"
#include "mailbox_impl.h"
#include "os_linux.h"
#include "point.h"

#define WHAT       "the ref rows"
#define ROW        sizeof(struct sb__ref_row_shm)
#define ROWS_FIRST (SB__PAGE / ROW) /* block 0; block k > 0 has ROWS_FIRST << (k - 1) */
#define ROW_BLOCKS 24u

struct sb__refrows {
	int dir;
	uint64_t incarnation;
	uint32_t max_refs;
	uint64_t epoch;
	pthread_mutex_t lock;
	bool failed; /* no space once: not tried again for each ref */
	_Atomic(struct sb__ref_row_shm *) blocks[ROW_BLOCKS];
};

static void rows_name(char name[SB__FILE_NAME_MAX], uint64_t incarnation)
{
	snprintf(name, SB__FILE_NAME_MAX, "%016" PRIx64 ".refs", incarnation);
}

static uint32_t block_of(uint32_t slot)
{
	return slot < ROWS_FIRST ? 0 : 32u - (uint32_t)__builtin_clz(slot / (uint32_t)ROWS_FIRST);
}

static uint64_t block_first(uint32_t block)
{
	return block ? (uint64_t)ROWS_FIRST << (block - 1) : 0;
}

static size_t block_size(uint32_t block)
{
	return (block ? ROWS_FIRST << (block - 1) : ROWS_FIRST) * ROW;
}

int sb__refrows_create(int mailbox_dir, uint64_t incarnation, uint32_t max_refs, struct sb__refrows **ret)
{
	struct sb__refrows *rows = calloc(1, sizeof(*rows));

	if (!rows)
		return sb__fail_memory(WHAT);
	rows->dir = mailbox_dir;
	rows->incarnation = incarnation;
	rows->max_refs = max_refs;
	rows->epoch = sb__fork_epoch();
	pthread_mutex_init(&rows->lock, NULL);
	*ret = rows;
	return 0;
}

void sb__refrows_destroy(struct sb__refrows *rows)
{
	if (!rows)
		return;
	for (uint32_t k = 0; k < ROW_BLOCKS; k++) {
		void *map = atomic_load(&rows->blocks[k]);

		if (map)
			(void)sb__os_unmap(map, block_size(k));
	}
	if (rows->epoch == sb__fork_epoch())
		pthread_mutex_destroy(&rows->lock);
	free(rows);
}

/* ── writing ── */

static int map_block_locked(struct sb__refrows *rows, uint32_t k)
{
	uint64_t offset = block_first(k) * ROW;
	char name[SB__FILE_NAME_MAX];
	void *map = NULL;
	int fd, err;

	rows_name(name, rows->incarnation);
	fd = sb__os_open_own(rows->dir, name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	SB_POINT("rows.opened");
	err = sb__file_extend(fd, 0, offset + block_size(k), WHAT);
	SB_POINT("rows.extended");
	if (!err)
		err = sb__file_map(fd, offset, block_size(k), true, WHAT, &map);
	(void)sb__os_close(fd);
	if (!err)
		atomic_store_explicit(&rows->blocks[k], map, memory_order_release);
	return err;
}

/* NULL if there is none. make: the block may be made for it. */
static struct sb__ref_row_shm *row_at(struct sb__refrows *rows, uint32_t slot, bool make)
{
	uint32_t k = block_of(slot);
	struct sb__ref_row_shm *block;

	if (k >= ROW_BLOCKS || rows->epoch != sb__fork_epoch())
		return NULL;
	block = atomic_load_explicit(&rows->blocks[k], memory_order_acquire);
	if (!block && make) {
		pthread_mutex_lock(&rows->lock);
		block = atomic_load_explicit(&rows->blocks[k], memory_order_relaxed);
		if (!block && !rows->failed) {
			int err = map_block_locked(rows, k);

			rows->failed = err != 0;
			if (err)
				sb__log(SB_LOG_DEBUG, "refs will not be listed: %s",
				        sb_last_error()->message);
			block = atomic_load_explicit(&rows->blocks[k], memory_order_relaxed);
		}
		pthread_mutex_unlock(&rows->lock);
	}
	return block ? &block[slot - block_first(k)] : NULL;
}

void sb__refrows_set(void *rows, uint32_t slot, uint32_t generation, const char *type_name,
                     uint32_t module_len, int32_t creator_pid)
{
	struct sb__ref_row_shm *row = row_at(rows, slot, true);
	size_t len = strnlen(type_name, sizeof(row->type_name) - 1);

	if (!row)
		return;
	/* Guard of the row; readers do the mirror image: generation, barrier, fields, barrier, generation. */
	sb__store32(&row->generation, 0);
	SB_POINT("rows.writing");
	sb__barrier();
	row->creator_pid = creator_pid;
	row->created_ms = sb__now_ms();
	sb__store(&row->used_ms, row->created_ms);
	memcpy(row->type_name, type_name, len);
	memset(row->type_name + len, 0, sizeof(row->type_name) - len);
	row->module_len = module_len < len ? module_len : (uint32_t)len;
	sb__store32(&row->pins, 0);
	sb__store32(&row->generation, generation);
}

void sb__refrows_touch(void *rows, uint32_t slot)
{
	struct sb__ref_row_shm *row = row_at(rows, slot, false);
	uint64_t now = sb__now_coarse_ms();

	if (row && sb__load(&row->used_ms) != now)
		sb__store(&row->used_ms, now);
}

void sb__refrows_pins(void *rows, uint32_t slot, uint32_t pins)
{
	struct sb__ref_row_shm *row = row_at(rows, slot, false);

	if (row)
		sb__store32(&row->pins, pins);
}

void sb__refrows_clear(void *rows, uint32_t slot)
{
	struct sb__ref_row_shm *row = row_at(rows, slot, false);

	if (row)
		sb__store32(&row->generation, 0);
}

/* ── reading ── */

/* 1: a live row, copied. 0: none. -1: it changed under us. */
static int read_row(struct sb__ref_row_shm *row, uint32_t slot, struct sb__ref_view *ret)
{
	unsigned int generation = sb__load32(&row->generation);

	if (!generation)
		return 0;
	*ret = (struct sb__ref_view){
		.slot = slot,
		.generation = generation,
		.creator_pid = SB__ONCE(row->creator_pid),
		.created_ms = SB__ONCE(row->created_ms),
		.used_ms = sb__load(&row->used_ms),
		.module_len = SB__ONCE(row->module_len),
		.pins = sb__load32(&row->pins),
	};
	memcpy(ret->type_name, row->type_name, sizeof(ret->type_name));
	ret->type_name[sizeof(ret->type_name) - 1] = '\0';
	if (ret->module_len > strlen(ret->type_name))
		ret->module_len = 0;
	sb__barrier();
	return sb__load32(&row->generation) == generation ? 1 : -1;
}

int sb__refrows_visit(int mailbox_dir, uint64_t incarnation,
                      void (*visit)(void *arg, const struct sb__ref_view *view), void *arg,
                      uint32_t *ret_torn)
{
	struct stat st = { .st_size = 0 };
	char name[SB__FILE_NAME_MAX];
	uint64_t count;
	void *map;
	int fd, err;

	*ret_torn = 0;
	rows_name(name, incarnation);
	fd = sb__os_open_own(mailbox_dir, name, O_RDONLY, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	err = sb__os_fstat(fd, &st);
	count = err < 0 || st.st_size < 0 ? 0 : (uint64_t)st.st_size / ROW;
	if (count == 0 || count > block_first(ROW_BLOCKS)) {
		(void)sb__os_close(fd);
		return count ? sb__fail(SB_EPROTOCOL, "mailbox/%s has an impossible size", name) : 0;
	}
	err = sb__file_map(fd, 0, (size_t)count * ROW, false, WHAT, &map);
	(void)sb__os_close(fd);
	if (err)
		return err;
	for (uint64_t i = 0; i < count; i++) {
		struct sb__ref_view view;
		int got = read_row((struct sb__ref_row_shm *)map + i, (uint32_t)i, &view);

		if (got > 0)
			visit(arg, &view);
		else if (got < 0)
			++*ret_torn;
	}
	(void)sb__os_unmap(map, (size_t)count * ROW);
	return 0;
}

#define READ_TRIES 100

int sb__refrows_read(int mailbox_dir, uint64_t incarnation, uint32_t slot, struct sb__ref_view *ret)
{
	uint64_t at = (uint64_t)slot * ROW, page = at / SB__PAGE * SB__PAGE;
	struct stat st = { .st_size = 0 };
	char name[SB__FILE_NAME_MAX];
	void *map = NULL;
	int fd, err, got = 0;

	rows_name(name, incarnation);
	fd = sb__os_open_own(mailbox_dir, name, O_RDONLY, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	err = sb__os_fstat(fd, &st);
	if (err == 0 && st.st_size > 0 && page + SB__PAGE <= (uint64_t)st.st_size)
		err = sb__file_map(fd, page, SB__PAGE, false, WHAT, &map);
	(void)sb__os_close(fd);
	if (err || !map)
		return err < 0 ? err : 0;
	for (int i = 0; i < READ_TRIES; i++) {
		got = read_row((struct sb__ref_row_shm *)((char *)map + (at - page)), slot, ret);
		if (got >= 0)
			break;
	}
	(void)sb__os_unmap(map, SB__PAGE);
	return got > 0;
}
