/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and records of the store, of every database: what decodes encodes to the bytes that it was read from.
 *
 * Input: which record, the key's length, the key, the record.
 */
#include "fuzz.h"

#include "store_impl.h"

static void same(const struct sb__image *image, MDB_val val)
{
	FUZZ_CHECK(image->len == val.mv_size);
	FUZZ_CHECK(memcmp(image->bytes, val.mv_data, val.mv_size) == 0);
}

static void as_session(MDB_val key, MDB_val val)
{
	static struct sb__session_rec rec;
	static struct sb__image image;

	if (sb__decode_session(key, val, &rec))
		return;
	FUZZ_CHECK(sb__check_session(&rec) == NULL);
	FUZZ_CHECK(strlen(rec.session_id) == key.mv_size);
	sb__encode_session(&rec, &image);
	same(&image, val);
}

static void as_others(uint8_t kind, MDB_val key, MDB_val val)
{
	struct sb__bridge_rec bridge;
	struct sb__process_rec process;
	struct sb__owner_rec owner;
	struct sb__grave_rec grave;
	struct sb__image image;
	uint64_t order;

	switch (kind) {
	case 0:
		if (!sb__decode_bridge(val, &bridge))
			sb__encode_bridge(&bridge, &image);
		break;
	case 1:
		if (!sb__decode_process(key, val, &process)) {
			FUZZ_CHECK(memchr(process.identity.program, '\0', sizeof(process.identity.program)));
			sb__encode_process(&process, &image);
			same(&image, val);
		}
		break;
	case 2:
		if (!sb__decode_owner(key, val, &owner)) {
			FUZZ_CHECK(owner.slot < SB__SLOTS_MAX);
			sb__encode_owner(&owner, &image);
		}
		break;
	default:
		if (!sb__decode_grave(val, &grave, &order)) {
			FUZZ_CHECK(sb__end_reason_name(grave.reason)[0] != '?');
			sb__encode_grave(&grave, order, &image);
		}
	}
}

static void as_keys(MDB_val key)
{
	struct sb__owner_rec owner;
	char id[SB_SESSION_ID_MAX + 1];
	uint64_t a, b;
	uint32_t s, g;

	(void)sb__parse_u64(key, &a);
	if (sb__parse_slot(key, &s))
		FUZZ_CHECK(s < SB__SLOTS_MAX);
	if (sb__parse_owner(key, &owner)) {
		struct sb__key again = sb__key_owner(&owner);

		FUZZ_CHECK(again.len == key.mv_size && memcmp(again.bytes, key.mv_data, again.len) == 0);
	}
	if (sb__parse_by_process(key, &owner)) {
		struct sb__key again = sb__key_by_process(&owner);

		FUZZ_CHECK(again.len == key.mv_size && memcmp(again.bytes, key.mv_data, again.len) == 0);
	}
	(void)sb__parse_designated(key, &s, &g, &a);
	(void)sb__parse_expiry(key, &a, &b);
	(void)sb__parse_id(key, id);
	(void)sb__corrupt(SB__DB_SESSIONS, key, "it is a test");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t schema, fingerprint;
	MDB_val key, val;
	uint8_t kind;

	if (size < 2)
		return 0;
	kind = data[0] % 5;
	key.mv_size = data[1] < size - 2 ? data[1] : size - 2;
	key.mv_data = (void *)(uintptr_t)(data + 2);
	val.mv_size = size - 2 - key.mv_size;
	val.mv_data = (void *)(uintptr_t)(data + 2 + key.mv_size);
	if (key.mv_size > 0)
		as_keys(key);
	if (kind == 4)
		as_session(key, val);
	else
		as_others(kind, key, val);
	(void)sb__peek_bridge(val, &schema, &fingerprint);
	return 0;
}
