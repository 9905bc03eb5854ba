/* SPDX-License-Identifier: Apache-2.0 */
/* What the views share: an open bridge, and the answers of the running look. */
#ifndef SB_INSPECT_IMPL_H
#define SB_INSPECT_IMPL_H

#include "snapshot.h"

struct sb__inspect {
	struct sb__bridge_dir dir;
	struct sb__store *store;
	/* Answers of the running look, by slot: a process is asked after once. */
	struct {
		bool asked, present;
		struct sb__identity identity;
		struct sb__evidence evidence;
	} slots[SB__SLOTS_MAX];
	struct sb__lane_view views[SB__LANES_MAX];
};

/* A new look: forgets who was alive. */
void sb__look_begin(struct sb__inspect *inspect);
struct sb__evidence sb__look_evidence(struct sb__inspect *inspect, uint32_t slot, uint32_t generation);
/* Its name where it has a record. program: 32 bytes, kept terminated. */
void sb__look_program(struct sb__inspect *inspect, uint32_t slot, uint32_t generation, char *program);
/* An abandoned lane has no claimer any more. */
bool sb__look_lane_claimed(const struct sb__lane_view *view);
/* Owners of a session; ret NULL: only how many are dead. */
int sb__look_owners(struct sb__inspect *inspect, uint64_t uid, uint32_t *ret_dead,
                    struct sb__owner_view **ret, size_t *ret_count);
/* All sessions; while visit runs, inspect->views has the first lanes of the session. Within a look. */
int sb__look_sessions(struct sb__inspect *inspect,
                      int (*visit)(void *arg, const struct sb__session_view *view, uint32_t lanes),
                      void *arg);

#endif
