/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays that a call sends and gets: where they are made, and whether they may go where the call goes.
 *
 * Locks: none. Crash: see shm/arena.c.
 */
#include "arrays.h"

#include "fail.h"
#include "value_impl.h"

int sb__session_blocks(sb_session *session, const struct sb__blocks **ret, struct sb__share *ret_share)
{
	int err = sb__resolve(session, NULL, &session);

	if (!err)
		err = sb__core_enter(session->core);
	if (err)
		return err;
	*ret = sb__space_blocks(session->core->space);
	*ret_share = (struct sb__share){ session->uid, session->max_session_arena_bytes, session->id };
	return 0;
}

int sb__arrays_check(const struct sb__core *core, const struct sb_args *args)
{
	for (size_t i = 0; args && i < args->arrays.count; i++)
		if (args->arrays.items[i]->shared && args->arrays.items[i]->bridge != core)
			return sb__fail(
				SB_EINVAL,
				"an array that lies in the shared memory of another bridge; copy it by "
				"sb_array_from()");
	return 0;
}
