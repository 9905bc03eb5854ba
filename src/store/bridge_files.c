/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of shared-memory files, and which of them are orphans. Reads directories, changes nothing.
 *
 * Locks: none. Crash: leaves nothing.
 */
#include "bridge_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "os_linux.h"

#define TEMPORARY_PREFIX ".new."

static const char *const folder_names[SB__FOLDERS] = { "mailbox", "bell", "arena" };

const char *sb__folder_name(enum sb__folder folder)
{
	return folder_names[folder];
}

int sb__folder_fd(const struct sb__bridge_dir *dir, enum sb__folder folder)
{
	const int fds[SB__FOLDERS] = { dir->mailbox, dir->bell, dir->arena };

	return fds[folder];
}

const char *sb__file_kind_name(enum sb__file_kind kind)
{
	static const char *const names[SB__FILE_KINDS] = { "foreign", "mailbox", "refs",     "bell",
		                                           "arena",   "holds",   "temporary" };

	return names[kind];
}

/* ── names ── */

/* Sixteen digits as "%016x" writes them, of which there may be thousands. */
static bool parse_hex16(const char *name, uint64_t *ret)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < 16; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c >= '0' && c <= '9')
			number = number << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			number = number << 4 | (c - 'a' + 10u);
		else
			return false;
	}
	*ret = number;
	return true;
}

static bool parse_incarnation(const char *name, struct sb__bridge_file *file)
{
	if (!parse_hex16(name, &file->incarnation))
		return false;
	if (name[16] == '\0')
		file->kind = SB__FILE_MAILBOX;
	else if (strcmp(name + 16, ".refs") == 0)
		file->kind = SB__FILE_REFS;
	return file->kind != SB__FILE_FOREIGN;
}

/* "<slot>.<generation>", then exactly the rest; NULL: a '.' and anything. */
static bool parse_process(const char *name, const char *rest, struct sb__bridge_file *file)
{
	char text[SB__FILE_NAME_SIZE];
	size_t len;

	if (sscanf(name, "%9" SCNu32 ".%9" SCNu32, &file->slot, &file->generation) != 2)
		return false;
	len = (size_t)snprintf(text, sizeof(text), "%" PRIu32 ".%" PRIu32, file->slot, file->generation);
	return file->slot < SB__SLOTS_MAX && strncmp(name, text, len) == 0 &&
	       (rest ? strcmp(name + len, rest) == 0 : name[len] == '.' && name[len + 1] != '\0');
}

void sb__bridge_file_parse(enum sb__folder folder, const char *name, struct sb__bridge_file *ret)
{
	const size_t prefix = sizeof(TEMPORARY_PREFIX) - 1;
	struct sb__bridge_file file = { .folder = folder, .kind = SB__FILE_FOREIGN };
	size_t len = strlen(name);

	memcpy(file.name, name, len < sizeof(file.name) ? len : sizeof(file.name) - 1);
	if (len >= sizeof(file.name)) {
		*ret = file;
		return;
	}
	if (strncmp(name, TEMPORARY_PREFIX, prefix) == 0) {
		if (parse_process(name + prefix, NULL, &file))
			file.kind = SB__FILE_TEMPORARY;
	} else if (folder == SB__FOLDER_MAILBOX) {
		parse_incarnation(name, &file);
	} else if (parse_process(name, "", &file)) {
		file.kind = folder == SB__FOLDER_BELL ? SB__FILE_BELL : SB__FILE_ARENA;
	} else if (folder == SB__FOLDER_ARENA && parse_process(name, ".holds", &file)) {
		file.kind = SB__FILE_HOLDS;
	}
	*ret = file;
}

/* ── listing ── */

struct listing {
	enum sb__folder folder;
	struct sb__bridge_file *files;
	size_t count, cap;
};

static int list_visit(void *arg, const char *name)
{
	struct listing *l = arg;

	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct sb__bridge_file *files = realloc(l->files, cap * sizeof(*files));

		if (!files)
			return 1;
		l->files = files;
		l->cap = cap;
	}
	sb__bridge_file_parse(l->folder, name, &l->files[l->count++]);
	return 0;
}

static int list_folders(const struct sb__bridge_dir *dir, enum sb__folder first, enum sb__folder last,
                        struct sb__bridge_file **ret, size_t *ret_count)
{
	struct listing l = { .files = NULL };
	int r = 0;

	for (l.folder = first; l.folder <= last && r == 0; l.folder++) {
		r = sb__os_dir_each(sb__folder_fd(dir, l.folder), list_visit, &l);
		if (r < 0)
			r = sb__fail_errno(SB_ESYSTEM, -r, "%s/%s cannot be listed", dir->path,
			                   sb__folder_name(l.folder));
		else if (r > 0)
			r = sb__fail_memory("the list of a bridge's files");
	}
	if (r < 0) {
		free(l.files);
		return r;
	}
	*ret = l.files;
	*ret_count = l.count;
	return 0;
}

int sb__bridge_files_list(const struct sb__bridge_dir *dir, struct sb__bridge_file **ret, size_t *ret_count)
{
	return list_folders(dir, 0, SB__FOLDERS - 1, ret, ret_count);
}

int sb__bridge_files_of(const struct sb__bridge_dir *dir, enum sb__folder folder,
                        struct sb__bridge_file **ret, size_t *ret_count)
{
	return list_folders(dir, folder, folder, ret, ret_count);
}

/* ── orphans ── */

int sb__known_add_session(struct sb__known *known, const struct sb__session_rec *rec)
{
	return sb__known_add_incarnation(known, rec->state, rec->incarnation);
}

int sb__known_add_incarnation(struct sb__known *known, uint32_t state, uint64_t incarnation)
{
	if (state == SB_SESSION_ORPHANED)
		return 0;
	if (known->incarnation_count == known->incarnation_cap) {
		size_t cap = known->incarnation_cap ? known->incarnation_cap * 2 : 64;
		uint64_t *more = realloc(known->incarnations, cap * sizeof(*more));

		if (!more)
			return sb__fail_memory("the list of a bridge's sessions");
		known->incarnations = more;
		known->incarnation_cap = cap;
	}
	known->incarnations[known->incarnation_count++] = incarnation;
	return 0;
}

void sb__known_add_process(struct sb__known *known, const struct sb__identity *identity, bool alive)
{
	if (identity->slot >= SB__SLOTS_MAX)
		return;
	known->slots[identity->slot].present = true;
	known->slots[identity->slot].alive = alive;
	known->slots[identity->slot].generation = identity->generation;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void sb__known_sort(struct sb__known *known)
{
	if (known->incarnation_count > 0)
		qsort(known->incarnations, known->incarnation_count, sizeof(uint64_t), by_number);
}

void sb__known_free(struct sb__known *known)
{
	free(known->incarnations);
	known->incarnations = NULL;
	known->incarnation_count = known->incarnation_cap = 0;
}

static bool known_present(const struct sb__known *known, uint32_t slot, uint32_t generation)
{
	return slot < SB__SLOTS_MAX && known->slots[slot].present &&
	       known->slots[slot].generation == generation;
}

bool sb__known_alive(const struct sb__known *known, uint32_t slot, uint32_t generation)
{
	return known_present(known, slot, generation) && known->slots[slot].alive;
}

const char *sb__bridge_file_orphan(const struct sb__bridge_file *file, const struct sb__known *known)
{
	switch (file->kind) {
	case SB__FILE_MAILBOX:
	case SB__FILE_REFS:
		if (known->incarnation_count > 0 &&
		    bsearch(&file->incarnation, known->incarnations, known->incarnation_count,
		            sizeof(uint64_t), by_number))
			return NULL;
		return "no session is served through it";
	case SB__FILE_BELL:
	case SB__FILE_ARENA:
	case SB__FILE_HOLDS:
		return known_present(known, file->slot, file->generation)
		               ? NULL
		               : "no process has this slot and generation";
	case SB__FILE_TEMPORARY:
		return sb__known_alive(known, file->slot, file->generation) ? NULL : "its maker is dead";
	default: return NULL;
	}
}
