/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef SB_API_REQUEST_H
#define SB_API_REQUEST_H

#include "snakebridge/call.h"

/* 0, or SB_EINVAL with outcome «refused»: the request cannot mean anything. */
int sb__request_check(const sb_request *request);

#endif
