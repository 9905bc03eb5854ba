/* SPDX-License-Identifier: Apache-2.0 */
/* For engines of tests, which know written requests only. */
#ifndef SB_TESTS_OWN_REQUEST_H
#define SB_TESTS_OWN_REQUEST_H

#include <string.h>

#include "engine.h"
#include "wire.h"

/* Writes the request of a call in the owner's own session as if it came from another process. */
static inline void own_request_write(struct sb__buf *buf, const struct sb__own_request *own)
{
	sb__put_array(buf, 6);
	sb__put_uint(buf, own->verb);
	sb__put_uint(buf, own->flags);
	if (own->target)
		sb__put_ref(buf, own->target, NULL);
	else
		sb__put_null(buf);
	if (own->name)
		sb__put_str(buf, own->name, strlen(own->name));
	else
		sb__put_null(buf);
	sb__buf_append(buf, own->arguments, own->arguments_len);
}

#endif
