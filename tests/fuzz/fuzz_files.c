/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are not what their names say: a mailbox, a doorbell, rows of refs, a ring of events, a table of holds and an arena,
 * whose bytes are the input's. Attached, looked at, used and let go; the header of a believable one is given to half of the
 * inputs, for what lies behind it.
 *
 * Input: which file; flags; how long it is made (16 bits, times 64); where the bytes lie (32 bits); the bytes.
 */
#include "fuzz.h"

#include <unistd.h>

#include "bell.h"
#include "clock.h"
#include "events.h"
#include "file.h"
#include "holds.h"
#include "mailbox_impl.h"
#include "refrows.h"
#include "snakebridge/error.h"
#include "utf8.h"

#define INCARNATION UINT64_C(5)
#define SLOT        3u
#define GENERATION  9u

struct made {
	bool honest; /* begins with a header that is believed */
	size_t size, at;
	const uint8_t *bytes;
	size_t len;
};

/* The file, with the bytes laid over what an honest maker would have written. */
static void lay(int dir, const char *name, const struct made *f, const void *header, size_t header_len,
                size_t whole)
{
	size_t size = f->honest && f->size < whole ? whole : f->size;
	uint8_t *image;

	if (size > (size_t)1 << 21)
		size = (size_t)1 << 21;
	image = calloc(1, size ? size : 1);
	if (!image)
		abort();
	if (header_len > 0 && f->honest)
		memcpy(image, header, header_len);
	if (size > 0) {
		size_t at = f->at % size, n = f->len < size - at ? f->len : size - at;

		memcpy(image + at, f->bytes, n);
	}
	fuzz_file(dir, name, image, size);
	free(image);
}

static void see_word(void *arg, uint64_t word)
{
	(void)arg;
	FUZZ_CHECK(SB__WORD_STATE(word) != SB__LANE_FREE);
}

static void as_mailbox(int dir, const struct made *f)
{
	static struct {
		struct sb__mailbox_header_shm header;
		uint8_t pad[SB__CONTROL_AT - sizeof(struct sb__mailbox_header_shm)];
		struct sb__mailbox_control_shm control;
	} honest;
	struct sb__mailbox_peek peek;
	struct sb__lane_view views[4];
	struct sb__mailbox *m = NULL;
	uint32_t lane, removed, asked;

	honest.header = (struct sb__mailbox_header_shm){ .magic = { 'S', 'B', 'm', 'a', 'i', 'l', '0', '1' },
		                                         .version = SB__LAYOUT_VERSION,
		                                         .fingerprint = sb__layout_fingerprint(),
		                                         .incarnation = INCARNATION,
		                                         .lanes_max = SB__LANES_MAX,
		                                         .session_id_len = 1,
		                                         .session_id = "s" };
	sb__store(&honest.control.state, SB__MAILBOX_SERVING);
	sb__store(&honest.control.lane_count, SB__LANES_FIRST);
	sb__store(&honest.control.attached, SB__ATTACHED_NOT(INCARNATION));
	lay(dir, "0000000000000005", f, &honest, sizeof(honest), SB__PAGE + sb__block_size(0));
	if (sb__mailbox_attach(dir, INCARNATION, &m) == 0) {
		const struct sb__mailbox_header_shm *h = sb__mailbox_header(m);

		FUZZ_CHECK(strlen(h->session_id) == h->session_id_len);
		FUZZ_CHECK(memchr(h->owner.program, '\0', sizeof(h->owner.program)));
		(void)sb__mailbox_view(m, views, 4);
		(void)sb__mailbox_reclaim(m, SLOT, GENERATION, true);
		sb__mailbox_cancel(m, NULL, 1, &removed, &asked);
		if (sb__lane_claim(m, SLOT, GENERATION, &lane) == 0)
			sb__lane_unclaim(m, lane);
		sb__mailbox_touch(m, sb__now_coarse_ms());
		(void)sb__mailbox_end(m, SB__MAILBOX_RELEASED);
		sb__mailbox_detach(m);
	}
	if (sb__mailbox_peek(dir, INCARNATION, see_word, NULL, &peek) == 0)
		FUZZ_CHECK(peek.lanes_torn <= SB__LANES_MAX);
	(void)sb__mailbox_unlink(dir, INCARNATION);
}

static void as_bell(int dir, const struct made *f)
{
	static struct sb__bell_shm honest;
	struct sb__bell bell;
	unsigned int expected;
	uint32_t cursor = 0;

	honest = (struct sb__bell_shm){ .magic = { 'S', 'B', 'b', 'e', 'l', 'l', '0', '1' },
		                        .version = SB__LAYOUT_VERSION,
		                        .fingerprint = sb__layout_fingerprint(),
		                        .owner = { .slot = SLOT, .generation = GENERATION } };
	lay(dir, "3.9", f, &honest, sizeof(honest), (sizeof(honest) + SB__PAGE - 1) / SB__PAGE * SB__PAGE);
	if (sb__bell_attach(dir, SLOT, GENERATION, &bell) == 0) {
		FUZZ_CHECK(bell.owner.slot == SLOT && bell.owner.generation == GENERATION);
		(void)sb__bell_ring(&bell, (uint32_t)f->at);
		for (int i = 0; i < 70; i++)
			FUZZ_CHECK(sb__bell_take(&bell, &cursor) < (int)SB__BELL_SESSIONS);
		(void)sb__bell_owner_died(&bell);
		(void)sb__bell_alive_word(&bell, &expected);
		sb__bell_nudge(&bell);
		sb__bell_detach(&bell);
	}
	(void)sb__bell_unlink(dir, SLOT, GENERATION);
}

static void see_row(void *arg, const struct sb__ref_view *view)
{
	(void)arg;
	FUZZ_CHECK(view->module_len <= strlen(view->type_name) && view->generation != 0);
}

static void as_refs(int dir, const struct made *f)
{
	struct sb__ref_view view;
	uint32_t torn;

	lay(dir, "0000000000000005.refs", f, NULL, 0, 0);
	(void)sb__refrows_visit(dir, INCARNATION, see_row, NULL, &torn);
	for (uint32_t slot = 0; slot < 3; slot++)
		if (sb__refrows_read(dir, INCARNATION, slot * 33 + (uint32_t)f->at % 100, &view) == 1)
			see_row(NULL, &view);
	(void)sb__mailbox_unlink(dir, INCARNATION);
}

static void as_events(int dir, const struct made *f)
{
	static const struct {
		uint64_t magic, version;
	} honest = { UINT64_C(0x3130746e76654253), (uint64_t)SB__EVENTS_VERSION << 32 | SB__EVENTS_RECORDS };
	struct sb__event event = { .kind = 1, .session_id = "s" };
	struct sb__events_reader reader;
	struct sb__events events;
	bool pending;

	lay(dir, "events", f, &honest, sizeof(honest), sizeof(struct sb__events_shm));
	for (int writable = 0; writable < 2; writable++) {
		if (sb__events_open(dir, writable, &events) != 0)
			continue;
		if (writable)
			(void)sb__events_post(&events, &event);
		sb__events_reader_init(&reader, &events, f->at % 3);
		for (int i = 0; i < 20 && sb__events_read(&reader, &event, &pending) == 1; i++) {
			FUZZ_CHECK(event.kind < SB__EVENT_KINDS);
			FUZZ_CHECK(sb__utf8_valid(event.session_id,
			                          strnlen(event.session_id, sizeof(event.session_id))));
			FUZZ_CHECK(sb__utf8_valid(event.reason, strnlen(event.reason, sizeof(event.reason))));
		}
		sb__events_close(&events);
	}
	(void)unlinkat(dir, "events", 0);
}

static void see_hold(void *arg, uint64_t word)
{
	(void)arg;
	FUZZ_CHECK(word != 0);
}

static void as_holds(int dir, const struct made *f)
{
	static struct sb__holds_shm honest;
	struct sb__holds_shm *holds;
	uint32_t hint = (uint32_t)f->at, entry;

	honest = (struct sb__holds_shm){ .magic = { 'S', 'B', 'h', 'o', 'l', 'd', 's', '1' },
		                         .version = SB__LAYOUT_VERSION,
		                         .fingerprint = sb__layout_fingerprint() };
	lay(dir, "3.9.holds", f, &honest, sizeof(honest), sizeof(honest));
	if (sb__holds_attach(dir, SLOT, GENERATION, &holds) == 0) {
		if (sb__holds_take(holds, SB__HOLD(1, 1, 64), &hint, &entry) == 0) {
			FUZZ_CHECK(entry < SB__HOLDS_MAX);
			sb__holds_give(holds, entry, SB__HOLD(1, 1, 64));
		}
		(void)sb__holds_each(holds, see_hold, NULL);
		(void)sb__holds_clear(holds, 1, 1);
		sb__holds_detach(holds);
	}
}

/* Blocks that a message names, of an arena of any length with any table of holds. */
static void as_arena(int dir, const struct made *f)
{
	struct sb__arena_cache *cache = NULL;
	struct fuzz_in in = { f->bytes, f->len };
	struct made holds = *f;

	holds.honest = true;
	as_holds(dir, &holds);
	lay(dir, "3.9", f, NULL, 0, 0);
	if (sb__arena_cache_create(dir, &cache) != 0)
		abort();
	sb__arena_cache_identify(cache, 1, 1);
	for (int i = 0; i < 4 && in.len > 0; i++) {
		struct sb__spill_shm block = { SLOT + (fuzz_u8(&in) == 1), GENERATION, fuzz_u32(&in),
			                       fuzz_u32(&in) };
		struct sb__arena_kept *kept;
		struct sb__buf buf;
		void *addr;

		if (fuzz_u8(&in) & 1)
			block.offset = fuzz_u64(&in);
		sb__buf_init(&buf, NULL, 0);
		if (block.len < (size_t)1 << 22 && sb__arena_copy(cache, &block, &buf) == 0)
			FUZZ_CHECK(buf.len == block.len);
		sb__buf_free(&buf);
		if (sb__arena_keep(cache, &block, i & 1, &kept, &addr) == 0) {
			volatile uint8_t sum = ((uint8_t *)addr)[0];

			sum = (uint8_t)(sum + ((uint8_t *)addr)[block.len - 1]);
			sb__arena_kept_unref(kept);
		}
	}
	sb__arena_cache_destroy(cache);
	(void)sb__arena_unlink(dir, SLOT, GENERATION);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t kind = fuzz_u8(&in), flags = fuzz_u8(&in);
	struct made f = { .honest = flags & 1 };
	int dir = fuzz_dir();
	uint16_t length;

	fuzz_bytes(&in, &length, sizeof(length));
	f.size = (size_t)length * 64 + (flags & 2 ? 1 : 0);
	f.at = fuzz_u32(&in);
	f.bytes = in.data;
	f.len = in.len;
	switch (kind % 6) {
	case 0: as_mailbox(dir, &f); break;
	case 1: as_bell(dir, &f); break;
	case 2: as_refs(dir, &f); break;
	case 3: as_events(dir, &f); break;
	case 4:
		as_holds(dir, &f);
		(void)sb__arena_unlink(dir, SLOT, GENERATION);
		break;
	default: as_arena(dir, &f);
	}
	return 0;
}
