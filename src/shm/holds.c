/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of holds of an arena. One word says who keeps which block, so taking and giving are one
 * compare-and-swap each and a kill leaves a word that names the dead.
 *
 * Locks: none.
 *
 * Crash: see the table in holds.h. Making the file: as file.c.
 */
#include "holds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "file.h"
#include "os_linux.h"
#include "point.h"

#define WHAT "the arena's table of holds"

static const char magic[8] = { 'S', 'B', 'h', 'o', 'l', 'd', 's', '1' };

static void holds_name(char name[SB__FILE_NAME_MAX], uint32_t slot, uint32_t generation)
{
	snprintf(name, SB__FILE_NAME_MAX, "%" PRIu32 ".%" PRIu32 ".holds", slot, generation);
}

int sb__holds_create(int arena_dir, uint32_t slot, uint32_t generation, struct sb__holds_shm **ret)
{
	char name[SB__FILE_NAME_MAX];
	struct sb__new_file file;
	struct sb__holds_shm *holds;
	int err = sb__file_make(arena_dir, slot, generation, sizeof(*holds), WHAT, &file);

	if (err)
		return err;
	holds = file.map;
	memcpy(holds->magic, magic, sizeof(magic));
	holds->version = SB__LAYOUT_VERSION;
	holds->fingerprint = sb__layout_fingerprint();
	holds_name(name, slot, generation);
	SB_POINT("holds.made");
	err = sb__file_publish(&file, name, WHAT);
	if (!err)
		*ret = holds;
	return err;
}

int sb__holds_attach(int arena_dir, uint32_t slot, uint32_t generation, struct sb__holds_shm **ret)
{
	char name[SB__FILE_NAME_MAX];
	struct sb__holds_shm *holds;
	void *map;
	int fd, err;

	holds_name(name, slot, generation);
	fd = sb__os_open_own(arena_dir, name, O_RDWR, 0);
	if (fd == -ENOENT)
		return sb__fail(SB_EPROTOCOL,
		                "no process with slot %" PRIu32 ", generation %" PRIu32
		                " shares arrays (any more)",
		                slot, generation);
	if (fd < 0)
		return sb__file_fail(fd, "opened", WHAT);
	err = sb__file_map(fd, 0, sizeof(*holds), true, WHAT, &map);
	(void)sb__os_close(fd);
	if (err)
		return err;
	holds = map;
	if (memcmp(holds->magic, magic, sizeof(magic)) != 0 || holds->version != SB__LAYOUT_VERSION ||
	    holds->fingerprint != sb__layout_fingerprint()) {
		sb__holds_detach(holds);
		return sb__fail(SB_EPROTOCOL, "arena/%s is no table of holds of this version", name);
	}
	*ret = holds;
	return 0;
}

void sb__holds_detach(struct sb__holds_shm *holds)
{
	if (holds)
		(void)sb__os_unmap(holds, sizeof(*holds));
}

int sb__holds_unlink(int arena_dir, uint32_t slot, uint32_t generation)
{
	char name[SB__FILE_NAME_MAX];
	int err;

	holds_name(name, slot, generation);
	err = sb__os_unlinkat(arena_dir, name, 0);
	return err < 0 && err != -ENOENT ? sb__file_fail(err, "removed", WHAT) : 0;
}

static uint32_t top_of(struct sb__holds_shm *holds)
{
	uint64_t top = sb__load_acquire(&holds->top);

	return top < SB__HOLDS_MAX ? (uint32_t)top : SB__HOLDS_MAX;
}

static void raise_top(struct sb__holds_shm *holds, uint32_t least)
{
	for (;;) {
		uint64_t top = sb__load_acquire(&holds->top);

		if (top >= least || sb__cas(&holds->top, top, least))
			return;
	}
}

static bool try_take(struct sb__holds_shm *holds, uint32_t i, uint64_t word)
{
	if (sb__load_acquire(&holds->entries[i]) != 0)
		return false;
	raise_top(holds, i + 1); /* first: the writer looks no further than that */
	SB_POINT("holds.raised");
	return sb__cas(&holds->entries[i], 0, word);
}

int sb__holds_take(struct sb__holds_shm *holds, uint64_t word, uint32_t *hint, uint32_t *ret_entry)
{
	uint32_t top = top_of(holds), start = *hint < top ? *hint : 0;

	/* Free ones among those once used come first, so that what the writer looks at stays short. */
	for (uint32_t k = 0; k < SB__HOLDS_MAX; k++) {
		uint32_t i = k < top ? (start + k) % top : k;

		if (!try_take(holds, i, word))
			continue;
		SB_POINT("holds.taken");
		(void)sb__add(&holds->takes, 1);
		SB_POINT("holds.counted");
		*hint = i + 1;
		*ret_entry = i;
		return 0;
	}
	return sb__fail(SB_ENOSPACE,
	                "%u arrays of one process are kept by others, which is all that it can keep track "
	                "of: free some, or "
	                "put them together into larger ones",
	                SB__HOLDS_MAX);
}

void sb__holds_give(struct sb__holds_shm *holds, uint32_t entry, uint64_t word)
{
	if (entry >= SB__HOLDS_MAX || !sb__cas(&holds->entries[entry], word, 0))
		return;
	SB_POINT("holds.given");
	(void)sb__add(&holds->gives, 1);
	SB_POINT("holds.told");
}

bool sb__holds_each(struct sb__holds_shm *holds, void (*visit)(void *arg, uint64_t word), void *arg)
{
	uint64_t takes;
	uint32_t top;

	/* A hold that is handed on (B takes, then A gives) may lie before the place that is looked at when B takes, and behind
	 * it when A gives. But B counts its take before A can know of it. */
	sb__barrier();
	takes = sb__load_acquire(&holds->takes);
	top = top_of(holds);
	for (uint32_t i = 0; i < top; i++) {
		uint64_t word = sb__load_acquire(&holds->entries[i]);

		if (word)
			visit(arg, word);
	}
	sb__barrier();
	return sb__load_acquire(&holds->takes) == takes;
}

uint32_t sb__holds_clear(struct sb__holds_shm *holds, uint32_t slot, uint32_t generation)
{
	uint32_t cleared = 0, top = top_of(holds);

	for (uint32_t i = 0; i < top; i++) {
		uint64_t word = sb__load_acquire(&holds->entries[i]);

		if (word && SB__HOLD_SLOT(word) == slot &&
		    SB__HOLD_GENERATION(word) == (generation & 0xffffu) &&
		    sb__cas(&holds->entries[i], word, 0))
			cleared++;
		SB_POINT("holds.cleared");
	}
	if (cleared)
		(void)sb__add(&holds->gives, 1);
	return cleared;
}
