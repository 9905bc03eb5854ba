/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at a mailbox without mapping it: a few reads, where mapping and unmapping takes ten times as long.
 *
 * A file that was never attached to may become another incarnation's meanwhile (layout.h, law of reuse), so that word is
 * read again after the copy.
 *
 * Where no lane was ever claimed none is looked at. Else each lane's word is read by itself, so it is of one moment; a copy by the kernel promises that of no word, so one that
 * is not FREE is read again, and said to be torn if it moved.
 *
 * Locks: none. Crash: reads only.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fail.h"
#include "file.h"
#include "mailbox_impl.h"
#include "os_linux.h"

#define WHAT "the mailbox"

static bool read_word(int fd, uint64_t offset, uint64_t *ret)
{
	return sb__os_pread(fd, ret, sizeof(*ret), (off_t)offset) == (ssize_t)sizeof(*ret);
}

static void peek_lanes(int fd, uint32_t count, void (*lane)(void *arg, uint64_t word), void *arg,
                       struct sb__mailbox_peek *peek)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block = sb__block_of_lane(i);
		uint64_t at = sb__block_offset(block) +
		              (i - sb__block_first(block)) * sizeof(struct sb__lane_shm);
		uint64_t word, again;

		if (!read_word(fd, at, &word))
			return; /* the file ends here */
		if (SB__WORD_STATE(word) == SB__LANE_FREE)
			continue;
		if (!read_word(fd, at, &again) || again != word)
			peek->lanes_torn++;
		lane(arg, word);
	}
}

/* Was it the incarnation's when it was copied, and is it still? seen: the word in the copy. */
static int check_whose(int fd, uint64_t seen, uint64_t named, uint64_t incarnation)
{
	uint64_t now = SB__ATTACHED(incarnation);

	if (seen == now) /* it stays so */
		return 0;
	if (!read_word(fd, SB__CONTROL_AT + offsetof(struct sb__mailbox_control_shm, attached), &now))
		now = 0;
	if (seen == SB__ATTACHED_NOT(incarnation) && (now == seen || now == SB__ATTACHED(incarnation)))
		return 0;
	return sb__mailbox_moved_on(now, named, incarnation);
}

int sb__mailbox_peek(int mailbox_dir, uint64_t incarnation, void (*lane)(void *arg, uint64_t word), void *arg,
                     struct sb__mailbox_peek *ret)
{
	struct {
		uint8_t header[SB__CONTROL_AT]; /* the file begins with both */
		struct sb__mailbox_control_shm control;
	} copy;
	struct sb__mailbox_header_shm header;
	uint64_t lanes = 0;
	int fd = -1, err = sb__mailbox_open_file(mailbox_dir, incarnation, O_RDONLY, &fd);
	ssize_t n;

	if (err)
		return err;
	n = sb__os_pread(fd, &copy, sizeof(copy), 0);
	memcpy(&header, copy.header, sizeof(header));
	if (n < 0)
		err = sb__file_fail((int)n, "read", WHAT);
	else if (n < (ssize_t)sizeof(copy))
		err = sb__fail(SB_EPROTOCOL, "%s is shorter than it says: %zd bytes", WHAT, n);
	else
		err = sb__mailbox_check_version(&header, incarnation);
	if (!err)
		err = check_whose(fd, sb__load(&copy.control.attached), header.incarnation, incarnation);
	if (!err)
		err = sb__mailbox_check_header(&header, incarnation);
	if (!err)
		lanes = sb__load(&copy.control.lane_count);
	if (lanes) /* a file is extended before they are counted, so it is asked for its size after */
		err = sb__file_check(fd, sb__block_offset(1), WHAT);
	if (!err)
		*ret = (struct sb__mailbox_peek){ .state = (unsigned)sb__load(&copy.control.state),
			                          .live_refs = sb__load(&copy.control.live_refs) };
	if (!err && sb__load(&copy.control.claimed))
		peek_lanes(fd, sb__lanes_said(lanes, header.lanes_max), lane, arg, ret);
	(void)sb__os_close(fd);
	return err;
}
