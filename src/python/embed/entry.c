/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's way in: the table of functions behind engine.h, and the one symbol that is exported. */
#include "cancel.h"
#include "convert.h"
#include "gil.h"
#include "stream.h"
#include "table.h"

static const struct sb__engine engine = {
	.abi = SB__ENGINE_ABI,
	.start = sb__python_start,
	.table_create = sb__table_create,
	.table_destroy = sb__table_destroy,
	.table_discard = sb__table_discard,
	.execute = sb__execute,
	.execute_own = sb__execute_own,
	.settle = sb__settle,
	.expire = sb__table_expire,
	.counts = sb__table_counts,
	.thread_begin = sb__gil_thread_begin,
	.batch_begin = sb__gil_batch_begin,
	.batch_end = sb__gil_batch_end,
	.within = sb__execute_within,
	.cancel = sb__cancel,
	.gil_release = sb__gil_release,
	.gil_restore = sb__gil_restore,
	.before_fork = sb__python_before_fork,
	.after_fork_parent = sb__python_after_fork_parent,
	.after_fork_child = sb__python_after_fork_child,
};

SB_API const struct sb__engine *sb__engine_entry(void);

const struct sb__engine *sb__engine_entry(void)
{
	return &engine;
}
