/* SPDX-License-Identifier: Apache-2.0 */
/* The words by which tools show numbers: the same in JSON and in tables. Never NULL; "?" for what is none. */
#ifndef SB_INSPECT_NAMES_H
#define SB_INSPECT_NAMES_H

#include "snapshot.h"

const char *sb__session_state_name(uint32_t state);                          /* sb_session_state */
const char *sb__mailbox_state_name(const struct sb__mailbox_facts *mailbox); /* also "none", "unreadable" */
const char *sb__lane_state_name(unsigned state);                             /* enum sb__lane_state */
const char *sb__liveness_name(struct sb__evidence evidence);
const char *sb__designated_name(uint32_t mode); /* sb_designated */
const char *sb__on_full_name(uint32_t on_full); /* sb_on_full */

#endif
