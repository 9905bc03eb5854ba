/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory files of a bridge by name: which there are, and which belong to nobody any more. The
 * reaper removes by this, inspect counts by it. Opens none of them.
 */
#ifndef SB_STORE_BRIDGE_FILES_H
#define SB_STORE_BRIDGE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge_dir.h"
#include "identity.h"
#include "store.h"

enum sb__folder { SB__FOLDER_MAILBOX, SB__FOLDER_BELL, SB__FOLDER_ARENA, SB__FOLDERS };
const char *sb__folder_name(enum sb__folder folder);
int sb__folder_fd(const struct sb__bridge_dir *dir, enum sb__folder folder);

enum sb__file_kind {
	SB__FILE_FOREIGN,   /* no name of ours: never touched */
	SB__FILE_MAILBOX,   /* mailbox/<incarnation> */
	SB__FILE_REFS,      /* mailbox/<incarnation>.refs */
	SB__FILE_BELL,      /* bell/<slot>.<generation> */
	SB__FILE_ARENA,     /* arena/<slot>.<generation> */
	SB__FILE_HOLDS,     /* arena/<slot>.<generation>.holds */
	SB__FILE_TEMPORARY, /* <folder>/.new.<slot>.<generation>.<random> */
	SB__FILE_KINDS
};
const char *sb__file_kind_name(enum sb__file_kind kind);

#define SB__FILE_NAME_SIZE 64 /* longest of our names is ".new.4095.4294967295." + 32; foreign ones are cut */

struct sb__bridge_file {
	enum sb__folder folder;
	enum sb__file_kind kind;
	uint64_t incarnation;      /* of mailbox and refs */
	uint32_t slot, generation; /* of bell, arena, holds, temporary */
	char name[SB__FILE_NAME_SIZE];
};

/* Reads a name. Exact: what does not print back to the same name is foreign. */
void sb__bridge_file_parse(enum sb__folder folder, const char *name, struct sb__bridge_file *ret);
/* All files of the three folders, malloc'ed. 0, SB_ENOMEM, SB_ESYSTEM. */
int sb__bridge_files_list(const struct sb__bridge_dir *dir, struct sb__bridge_file **ret, size_t *ret_count);
/* Those of one folder: the one of mailboxes may have thousands. */
int sb__bridge_files_of(const struct sb__bridge_dir *dir, enum sb__folder folder,
                        struct sb__bridge_file **ret, size_t *ret_count);

/* What the records know. Read it after listing: a file is made after its record, and an incarnation or a
 * slot.generation that is gone never comes back, so what is listed and not known here stays an orphan. */
struct sb__known {
	uint64_t *incarnations; /* of all sessions but orphaned ones, whose mailbox is no use; ascending */
	size_t incarnation_count, incarnation_cap;
	struct {
		bool present, alive; /* a record; and its process is not known to be dead */
		uint32_t generation;
	} slots[SB__SLOTS_MAX];
};
int sb__known_add_session(struct sb__known *known, const struct sb__session_rec *rec); /* SB_ENOMEM */
/* The same of one whose record is not copied. */
int sb__known_add_incarnation(struct sb__known *known, uint32_t state, uint64_t incarnation);
void sb__known_add_process(struct sb__known *known, const struct sb__identity *identity, bool alive);
void sb__known_sort(struct sb__known *known);
void sb__known_free(struct sb__known *known); /* the arrays inside */
bool sb__known_alive(const struct sb__known *known, uint32_t slot, uint32_t generation);

/* NULL: not an orphan. Else why it is one, static text. */
const char *sb__bridge_file_orphan(const struct sb__bridge_file *file, const struct sb__known *known);

#endif
