/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ref rows: the owner writes, anybody reads at any time. Rows are for people; the truth about refs is the
 * owner's private table, so a row that cannot be had is dropped without a word.
 *
 * A session's refs are of few types, so a type's name is there once, however many rows have it (typenames.h), in one of the places
 * that each page has for some. Where they are used up, pages are made for their places' sake.
 *
 * The file has no header, is valid at any length, and is made under its own name: zeroes mean "no ref
 * here".
 *
 * Locks: rows->lock, a leaf, for growing. A row has one writer at a time, and so have the names (the engine's table).
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
#include "typenames.h"

#define WHAT        "the ref rows"
#define PAGE        sizeof(struct sb__ref_page_shm)
#define SMALL       4u  /* chunks of a page at the beginning; then */
#define CHUNK_PAGES 16u /* chunks of so many */
#define CHUNKS_MAX  65536u

struct sb__refrows {
	int dir;
	uint64_t incarnation;
	uint64_t epoch;
	pthread_mutex_t lock;
	bool failed;         /* no space once: not tried again for each ref */
	_Atomic bool made;   /* there is a file, or was to be one */
	uint32_t chunks_max; /* what max_refs names of types take */
	struct sb__type_names names;
	_Atomic(struct sb__ref_page_shm *) chunks[];
};

static void rows_name(char name[SB__FILE_NAME_MAX], uint64_t incarnation)
{
	snprintf(name, SB__FILE_NAME_MAX, "%016" PRIx64 ".refs", incarnation);
}

static uint32_t chunk_of(uint32_t page)
{
	return page < SMALL ? page : SMALL + (page - SMALL) / CHUNK_PAGES;
}

static uint32_t chunk_first(uint32_t chunk)
{
	return chunk < SMALL ? chunk : SMALL + (chunk - SMALL) * CHUNK_PAGES;
}

static uint32_t chunk_pages(uint32_t chunk)
{
	return chunk < SMALL ? 1 : CHUNK_PAGES;
}

int sb__refrows_create(int mailbox_dir, uint64_t incarnation, uint32_t max_refs, struct sb__refrows **ret)
{
	uint32_t chunks = chunk_of(max_refs / SB__TYPES_PER_PAGE) + 2 * SMALL;
	struct sb__refrows *rows;

	if (chunks > CHUNKS_MAX)
		chunks = CHUNKS_MAX;
	rows = calloc(1, sizeof(*rows) + chunks * sizeof(rows->chunks[0]));
	if (!rows)
		return sb__fail_memory(WHAT);
	rows->dir = mailbox_dir;
	rows->incarnation = incarnation;
	rows->epoch = sb__fork_epoch();
	rows->chunks_max = chunks;
	pthread_mutex_init(&rows->lock, NULL);
	*ret = rows;
	return 0;
}

bool sb__refrows_made(struct sb__refrows *rows)
{
	return atomic_load(&rows->made);
}

void sb__refrows_destroy(struct sb__refrows *rows)
{
	if (!rows)
		return;
	for (uint32_t k = 0; k < rows->chunks_max; k++) {
		void *map = atomic_load(&rows->chunks[k]);

		if (map)
			(void)sb__os_unmap(map, chunk_pages(k) * PAGE);
	}
	if (rows->epoch == sb__fork_epoch())
		pthread_mutex_destroy(&rows->lock);
	sb__type_names_free(&rows->names);
	free(rows);
}

/* ── writing ── */

static int map_chunk_locked(struct sb__refrows *rows, uint32_t k)
{
	uint64_t offset = chunk_first(k) * PAGE;
	size_t size = chunk_pages(k) * PAGE;
	char name[SB__FILE_NAME_MAX];
	void *map = NULL;
	int fd, err;

	rows_name(name, rows->incarnation);
	atomic_store(&rows->made, true);
	fd = sb__os_open_own(rows->dir, name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	SB_POINT("rows.opened");
	err = sb__file_extend(fd, 0, offset + size, WHAT);
	SB_POINT("rows.extended");
	if (!err)
		err = sb__file_map(fd, offset, size, true, WHAT, &map);
	(void)sb__os_close(fd);
	if (err)
		return err;
	atomic_store_explicit(&rows->chunks[k], map, memory_order_release);
	return 0;
}

/* NULL if there is none. make: it may be made, with its chunk. */
static struct sb__ref_page_shm *page_at(struct sb__refrows *rows, uint32_t page, bool make)
{
	uint32_t k = chunk_of(page);
	struct sb__ref_page_shm *chunk;

	if (k >= rows->chunks_max || rows->epoch != sb__fork_epoch())
		return NULL;
	chunk = atomic_load_explicit(&rows->chunks[k], memory_order_acquire);
	if (!chunk && make) {
		pthread_mutex_lock(&rows->lock);
		chunk = atomic_load_explicit(&rows->chunks[k], memory_order_relaxed);
		if (!chunk && !rows->failed) {
			int err = map_chunk_locked(rows, k);

			rows->failed = err != 0;
			if (err)
				sb__log(SB_LOG_DEBUG, "refs will not be listed: %s",
				        sb_last_error()->message);
			chunk = atomic_load_explicit(&rows->chunks[k], memory_order_relaxed);
		}
		pthread_mutex_unlock(&rows->lock);
	}
	return chunk ? &chunk[page - chunk_first(k)] : NULL;
}

static struct sb__ref_row_shm *row_at(struct sb__refrows *rows, uint32_t slot, bool make)
{
	struct sb__ref_page_shm *page = page_at(rows, slot / SB__ROWS_PER_PAGE, make);

	return page ? &page->rows[slot % SB__ROWS_PER_PAGE] : NULL;
}

static struct sb__ref_type_shm *type_at(struct sb__refrows *rows, uint32_t type, bool make)
{
	struct sb__ref_page_shm *page = page_at(rows, type / SB__TYPES_PER_PAGE, make);

	return page ? &page->types[type % SB__TYPES_PER_PAGE] : NULL;
}

/* The number of a name, with one more row that has it; SB__NO_TYPE if there is no place for it. */
static uint32_t take_type(struct sb__refrows *rows, const char *name, uint32_t module_len)
{
	struct sb__ref_type_shm *place;
	bool made = false;
	uint32_t type = sb__type_names_take(&rows->names, name, module_len, &made);

	if (!made)
		return type;
	place = type_at(rows, type, true);
	if (!place) {
		sb__type_names_give(&rows->names, type);
		return SB__NO_TYPE;
	}
	/* Of the rows that had the place before, none is live: each was cleared before, and the caller's barrier follows. */
	sb__write_barrier();
	memset(place->name, 0, sizeof(place->name));
	memcpy(place->name, name, strlen(name));
	place->module_len = module_len;
	return type;
}

static void clear(struct sb__refrows *rows, struct sb__ref_row_shm *row)
{
	uint32_t type = SB__ONCE(row->type);

	if (!sb__load32(&row->generation))
		return;
	sb__store32(&row->generation, 0);
	sb__type_names_give(&rows->names, type);
}

void sb__refrows_set(void *arg, uint32_t slot, uint32_t generation, const char *type_name,
                     uint32_t module_len, int32_t creator_pid)
{
	struct sb__refrows *rows = arg;
	struct sb__ref_row_shm *row = row_at(rows, slot, true);
	char name[sizeof(((struct sb__ref_type_shm *)0)->name)];
	size_t len = strnlen(type_name, sizeof(name) - 1);
	uint32_t type;

	if (!row)
		return;
	memcpy(name, type_name, len);
	name[len] = '\0';
	/* Guard of the row; readers do the mirror image: generation, barrier, fields, barrier, generation. */
	clear(rows, row);
	SB_POINT("rows.writing");
	type = take_type(rows, name, module_len < len ? module_len : (uint32_t)len);
	if (type == SB__NO_TYPE)
		return;
	sb__write_barrier();
	row->creator_pid = creator_pid;
	row->created_ms = sb__now_ms();
	sb__store(&row->used_ms, row->created_ms);
	row->type = type;
	sb__store32(&row->pins, 0);
	sb__write_barrier();
	sb__store32(&row->generation, generation);
}

/* Without a look at what it says, which is seldom in a cache. */
void sb__refrows_touch(void *rows, uint32_t slot, uint64_t now_ms)
{
	struct sb__ref_row_shm *row = row_at(rows, slot, false);

	if (row)
		sb__store(&row->used_ms, now_ms);
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
		clear(rows, row);
}

/* ── reading ── */

/* What a reader sees of the file: some of its pages. */
struct sight {
	const struct sb__ref_page_shm *(*page)(struct sight *sight, uint32_t page); /* NULL: there is none */
	const struct sb__ref_page_shm *pages;
	uint32_t count;
	int fd;
	void *extra; /* a page mapped for a name */
};

static const struct sb__ref_page_shm *page_of_all(struct sight *sight, uint32_t page)
{
	return page < sight->count ? &sight->pages[page] : NULL;
}

static void copy_name(struct sight *sight, uint32_t type, struct sb__ref_view *ret)
{
	const struct sb__ref_page_shm *page = sight->page(sight, type / SB__TYPES_PER_PAGE);
	const struct sb__ref_type_shm *place = page ? &page->types[type % SB__TYPES_PER_PAGE] : NULL;

	if (!place) {
		strcpy(ret->type_name, "?");
		return;
	}
	ret->module_len = SB__ONCE(place->module_len);
	memcpy(ret->type_name, place->name, sizeof(ret->type_name));
	ret->type_name[sizeof(ret->type_name) - 1] = '\0';
	if (ret->module_len > strlen(ret->type_name))
		ret->module_len = 0;
}

/* 1: a live row, copied. 0: none. -1: it changed under us. */
static int read_row(struct sight *sight, struct sb__ref_row_shm *row, uint32_t slot, struct sb__ref_view *ret)
{
	unsigned int generation = sb__load32(&row->generation);

	if (!generation)
		return 0;
	sb__barrier();
	*ret = (struct sb__ref_view){
		.slot = slot,
		.generation = generation,
		.creator_pid = SB__ONCE(row->creator_pid),
		.created_ms = SB__ONCE(row->created_ms),
		.used_ms = sb__load(&row->used_ms),
		.pins = sb__load32(&row->pins),
	};
	copy_name(sight, SB__ONCE(row->type), ret);
	sb__barrier();
	return sb__load32(&row->generation) == generation ? 1 : -1;
}

/* Opens the file: its descriptor and whole pages; -ENOENT, or an error with the record set. */
static int open_rows(int mailbox_dir, uint64_t incarnation, uint64_t *ret_pages)
{
	struct stat st = { .st_size = 0 };
	char name[SB__FILE_NAME_MAX];
	int fd;

	rows_name(name, incarnation);
	fd = sb__os_open_own(mailbox_dir, name, O_RDONLY, 0);
	if (fd == -ENOENT)
		return fd;
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	*ret_pages = sb__os_fstat(fd, &st) < 0 || st.st_size < 0 ? 0 : (uint64_t)st.st_size / PAGE;
	if (*ret_pages <= chunk_first(CHUNKS_MAX))
		return fd;
	(void)sb__os_close(fd);
	return sb__fail(SB_EPROTOCOL, "mailbox/%s has an impossible size", name);
}

int sb__refrows_visit(int mailbox_dir, uint64_t incarnation,
                      void (*visit)(void *arg, const struct sb__ref_view *view), void *arg,
                      uint32_t *ret_torn)
{
	struct sight sight = { .page = page_of_all };
	uint64_t pages = 0;
	void *map = NULL;
	int fd = open_rows(mailbox_dir, incarnation, &pages), err = 0;

	*ret_torn = 0;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (pages > 0)
		err = sb__file_map(fd, 0, (size_t)pages * PAGE, false, WHAT, &map);
	(void)sb__os_close(fd);
	if (err || pages == 0)
		return err;
	sight.pages = map;
	sight.count = (uint32_t)pages;
	for (uint32_t i = 0; i < pages * SB__ROWS_PER_PAGE; i++) {
		struct sb__ref_page_shm *page = (struct sb__ref_page_shm *)map + i / SB__ROWS_PER_PAGE;
		struct sb__ref_view view;
		int got = read_row(&sight, &page->rows[i % SB__ROWS_PER_PAGE], i, &view);

		if (got > 0)
			visit(arg, &view);
		else if (got < 0)
			++*ret_torn;
	}
	(void)sb__os_unmap(map, (size_t)pages * PAGE);
	return 0;
}

#define READ_TRIES 100

/* One page more, for a name: mapped anew for each look. */
static const struct sb__ref_page_shm *page_by_itself(struct sight *sight, uint32_t page)
{
	if (sight->extra)
		(void)sb__os_unmap(sight->extra, PAGE);
	sight->extra = NULL;
	if (page >= sight->count || sb__file_map(sight->fd, page * PAGE, PAGE, false, WHAT, &sight->extra))
		return NULL;
	return sight->extra;
}

int sb__refrows_read(int mailbox_dir, uint64_t incarnation, uint32_t slot, struct sb__ref_view *ret)
{
	struct sight sight = { .page = page_by_itself };
	uint32_t at = slot / SB__ROWS_PER_PAGE;
	uint64_t pages = 0;
	void *map = NULL;
	int err = 0, got = 0;

	sight.fd = open_rows(mailbox_dir, incarnation, &pages);
	if (sight.fd < 0)
		return sight.fd == -ENOENT ? 0 : sight.fd;
	sight.count = (uint32_t)pages;
	if (at < pages)
		err = sb__file_map(sight.fd, at * PAGE, PAGE, false, WHAT, &map);
	for (int i = 0; map && !err && i < READ_TRIES; i++) {
		got = read_row(&sight, &((struct sb__ref_page_shm *)map)->rows[slot % SB__ROWS_PER_PAGE],
		               slot, ret);
		if (got >= 0)
			break;
	}
	if (map)
		(void)sb__os_unmap(map, PAGE);
	if (sight.extra)
		(void)sb__os_unmap(sight.extra, PAGE);
	(void)sb__os_close(sight.fd);
	return err ? err : got > 0;
}
