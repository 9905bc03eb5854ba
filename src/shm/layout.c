/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fingerprint of everything that two processes must agree on. No locks; no crash story.
 */
#include "layout.h"

#include <stdatomic.h>

#include "holds.h"
#include "message.h"

/* FNV-1a over the numbers, not over structs: padding would make it differ between compilers. */
static uint32_t mix(uint32_t hash, const uint32_t *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (int shift = 0; shift < 32; shift += 8)
			hash = (hash ^ ((numbers[i] >> shift) & 0xff)) * 16777619u;
	return hash;
}

#define SIZE(type)      (uint32_t)sizeof(type)
#define AT(type, field) (uint32_t) offsetof(type, field)

static uint32_t compute(void)
{
	static const uint32_t numbers[] = {
		SB__LAYOUT_VERSION,
		SB__MESSAGE_VERSION,
		SB__INLINE_MAX,
		SB__CONTROL_AT,
		SB__LANES_FIRST,
		SB__LANES_MAX,
		SB__BELL_SESSIONS,
		SB__SLOTS_MAX,
		SIZE(struct sb__identity),
		AT(struct sb__identity, incarnation),
		AT(struct sb__identity, program),
		SIZE(struct sb__spill_shm),
		SIZE(struct sb__lane_shm),
		AT(struct sb__lane_shm, reply_bell),
		AT(struct sb__lane_shm, caller_parked),
		AT(struct sb__lane_shm, cancel),
		AT(struct sb__lane_shm, answer_bell),
		AT(struct sb__lane_shm, followed),
		AT(struct sb__lane_shm, asked),
		AT(struct sb__lane_shm, answered),
		AT(struct sb__lane_shm, asker_parked),
		AT(struct sb__lane_shm, caller_thread),
		AT(struct sb__lane_shm, flags),
		AT(struct sb__lane_shm, after_word),
		AT(struct sb__lane_shm, request_len),
		AT(struct sb__lane_shm, deadline_ns),
		AT(struct sb__lane_shm, trace_id),
		AT(struct sb__lane_shm, request_spill),
		AT(struct sb__lane_shm, caller_pid),
		AT(struct sb__lane_shm, label),
		AT(struct sb__lane_shm, reply_len),
		AT(struct sb__lane_shm, reply_short),
		AT(struct sb__lane_shm, published_ns),
		AT(struct sb__lane_shm, accepted_ns),
		AT(struct sb__lane_shm, reply_spill),
		AT(struct sb__lane_shm, turn),
		AT(struct sb__lane_shm, request),
		AT(struct sb__lane_shm, reply),
		SIZE(struct sb__mailbox_header_shm),
		AT(struct sb__mailbox_header_shm, owner),
		AT(struct sb__mailbox_header_shm, bell_index),
		AT(struct sb__mailbox_header_shm, session_id),
		SIZE(struct sb__mailbox_control_shm),
		AT(struct sb__mailbox_control_shm, attention),
		AT(struct sb__mailbox_control_shm, claimed),
		AT(struct sb__mailbox_control_shm, attached),
		AT(struct sb__mailbox_control_shm, ready_summary),
		AT(struct sb__mailbox_control_shm, ready),
		AT(struct sb__mailbox_control_shm, last_access_ms),
		AT(struct sb__mailbox_control_shm, calls),
		SIZE(struct sb__bell_shm),
		SIZE(pthread_mutex_t),
		AT(struct sb__bell_shm, bell),
		AT(struct sb__bell_shm, standby),
		AT(struct sb__bell_shm, alive),
		AT(struct sb__bell_shm, summary),
		AT(struct sb__bell_shm, sessions),
		SB__HOLDS_MAX,
		SIZE(struct sb__holds_shm),
		AT(struct sb__holds_shm, top),
		AT(struct sb__holds_shm, entries),
		SIZE(struct sb__ref_page_shm),
		AT(struct sb__ref_page_shm, types),
		AT(struct sb__ref_row_shm, pins),
		AT(struct sb__ref_row_shm, type),
		AT(struct sb__ref_type_shm, module_len),
	};

	return mix(2166136261u, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

uint32_t sb__layout_fingerprint(void)
{
	static _Atomic uint32_t known; /* each look at a shared file asks for it */
	uint32_t fingerprint = atomic_load_explicit(&known, memory_order_relaxed);

	if (!fingerprint) {
		fingerprint = compute();
		atomic_store_explicit(&known, fingerprint, memory_order_relaxed);
	}
	return fingerprint;
}
