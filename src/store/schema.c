/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and records: how they lie on disk, and whether bytes found there are such. Pure: no LMDB call, no
 * I/O, no lock. A record is untrusted bytes: what decodes is in range, terminated and of the right size.
 *
 * Every record begins with its kind, version and size. Numbers in keys are big-endian, so that LMDB's
 * byte order is their order; in records they are the machine's, since a bridge never leaves its machine.
 *
 * Crash: nothing is kept.
 */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "ids.h"
#include "store_impl.h"

enum kind { KIND_BRIDGE = 1, KIND_PROCESS, KIND_SESSION, KIND_OWNER, KIND_GRAVE };

struct head {
	uint16_t kind;
	uint16_t version;
	uint32_t size; /* of the whole record */
};

/* head, schema and fingerprint keep their places for ever: every version reads them. */
struct bridge_disk {
	struct head head;
	uint32_t schema, fingerprint;
	uint64_t pid_ns;
	uint8_t boot_id[16];
	int64_t created_wall_ms;
	int32_t creator_pid;
	uint32_t zero;
};

struct process_disk {
	struct head head;
	uint32_t taken;
	uint32_t generation;
	struct sb__identity identity;
};

struct session_disk {
	struct head head;
	uint64_t uid, incarnation;
	uint32_t state, owner_count;
	struct sb__identity designated;
	uint32_t max_refs, designated_mode, on_full, persistent;
	uint64_t ttl_ms;
	int64_t created_wall_ms;
	uint64_t created_ms, expires_ms, live_refs;
	uint64_t max_session_arena_bytes;
	uint32_t tag_count, tags_len;
	uint32_t policy_len, max_refs_per_process; /* followed by tags_len and policy_len bytes */
};

struct owner_disk {
	struct head head;
	int32_t pid;
	uint32_t handle; /* also in the key, where it is one of owners */
	int64_t joined_wall_ms;
};

struct grave_disk {
	struct head head;
	uint64_t incarnation, session_uid, order;
	int64_t wall_ms;
	uint32_t reason;
	int32_t designated_pid;
	uint32_t id_len, zero; /* followed by id_len bytes */
};

_Static_assert(sizeof(struct head) == 8, "on disk");
_Static_assert(sizeof(struct bridge_disk) == 56, "on disk");
_Static_assert(sizeof(struct process_disk) == 112, "on disk");
_Static_assert(sizeof(struct session_disk) == 208, "on disk");
_Static_assert(sizeof(struct owner_disk) == 24, "on disk");
_Static_assert(sizeof(struct grave_disk) == 56, "on disk");
_Static_assert(sizeof(struct session_disk) + SB_TAGS_BYTES_MAX + SB_POLICY_BYTES_MAX <=
                       sizeof(((struct sb__image *)0)->bytes),
               "a session fits an image");

const char *sb__db_name(enum sb__db db)
{
	static const char *const names[] = {
#define NAME(name, text) text,
		SB__DB_MAP(NAME)
#undef NAME
	};

	return (unsigned)db < SB__DB_COUNT ? names[db] : "?";
}

/* ── keys ── */

static void append32(struct sb__key *key, uint32_t n)
{
	n = htobe32(n);
	memcpy(key->bytes + key->len, &n, sizeof(n));
	key->len += sizeof(n);
}

static void append64(struct sb__key *key, uint64_t n)
{
	n = htobe64(n);
	memcpy(key->bytes + key->len, &n, sizeof(n));
	key->len += sizeof(n);
}

static uint32_t be32_at(MDB_val key, size_t at)
{
	uint32_t n;

	memcpy(&n, (const uint8_t *)key.mv_data + at, sizeof(n));
	return be32toh(n);
}

static uint64_t be64_at(MDB_val key, size_t at)
{
	uint64_t n;

	memcpy(&n, (const uint8_t *)key.mv_data + at, sizeof(n));
	return be64toh(n);
}

struct sb__key sb__key_uid(uint64_t uid)
{
	struct sb__key key = { .len = 0 };

	append64(&key, uid);
	return key;
}

struct sb__key sb__key_slot(uint32_t slot)
{
	struct sb__key key = { .len = 0 };

	append32(&key, slot);
	return key;
}

struct sb__key sb__key_owner(const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_uid(owner->session_uid);

	append32(&key, owner->slot);
	append32(&key, owner->generation);
	append32(&key, owner->handle);
	return key;
}

struct sb__key sb__key_process(uint32_t slot, uint32_t generation)
{
	struct sb__key key = sb__key_slot(slot);

	append32(&key, generation);
	return key;
}

struct sb__key sb__key_by_process(const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_process(owner->slot, owner->generation);

	append64(&key, owner->session_uid);
	append32(&key, owner->handle);
	return key;
}

struct sb__key sb__key_designated(const struct sb__session_rec *rec)
{
	struct sb__key key = sb__key_process(rec->designated.slot, rec->designated.generation);

	append64(&key, rec->uid);
	return key;
}

struct sb__key sb__key_own(const struct sb__owner_rec *owner)
{
	struct sb__key key = sb__key_process(owner->slot, owner->generation);

	append64(&key, owner->session_uid);
	return key;
}

struct sb__key sb__key_expiry(uint64_t expires_ms, uint64_t uid)
{
	struct sb__key key = sb__key_uid(expires_ms);

	append64(&key, uid);
	return key;
}

MDB_val sb__val_key(const struct sb__key *key)
{
	return (MDB_val){ .mv_size = key->len, .mv_data = (void *)key->bytes };
}

MDB_val sb__val_text(const char *text)
{
	return (MDB_val){ .mv_size = strlen(text), .mv_data = (void *)text };
}

MDB_val sb__val_none(void)
{
	static char nothing[1];

	return (MDB_val){ .mv_size = 0, .mv_data = nothing };
}

bool sb__parse_u64(MDB_val key, uint64_t *ret)
{
	if (key.mv_size != 8)
		return false;
	*ret = be64_at(key, 0);
	return true;
}

bool sb__parse_slot(MDB_val key, uint32_t *ret)
{
	if (key.mv_size != 4)
		return false;
	*ret = be32_at(key, 0);
	return *ret < SB__SLOTS_MAX;
}

bool sb__parse_owner(MDB_val key, struct sb__owner_rec *ret)
{
	if (key.mv_size != 20)
		return false;
	ret->session_uid = be64_at(key, 0);
	ret->slot = be32_at(key, 8);
	ret->generation = be32_at(key, 12);
	ret->handle = be32_at(key, 16);
	return ret->slot < SB__SLOTS_MAX;
}

bool sb__parse_by_process(MDB_val key, struct sb__owner_rec *ret)
{
	if (key.mv_size != 20)
		return false;
	ret->slot = be32_at(key, 0);
	ret->generation = be32_at(key, 4);
	ret->session_uid = be64_at(key, 8);
	ret->handle = be32_at(key, 16);
	return ret->slot < SB__SLOTS_MAX;
}

bool sb__parse_designated(MDB_val key, uint32_t *ret_slot, uint32_t *ret_generation, uint64_t *ret_uid)
{
	if (key.mv_size != 16)
		return false;
	*ret_slot = be32_at(key, 0);
	*ret_generation = be32_at(key, 4);
	*ret_uid = be64_at(key, 8);
	return *ret_slot < SB__SLOTS_MAX;
}

bool sb__parse_expiry(MDB_val key, uint64_t *ret_expires_ms, uint64_t *ret_uid)
{
	if (key.mv_size != 16)
		return false;
	*ret_expires_ms = be64_at(key, 0);
	*ret_uid = be64_at(key, 8);
	return true;
}

bool sb__parse_id(MDB_val val, char id[SB_SESSION_ID_MAX + 1])
{
	if (val.mv_size == 0 || val.mv_size > SB_SESSION_ID_MAX || memchr(val.mv_data, '\0', val.mv_size))
		return false;
	memcpy(id, val.mv_data, val.mv_size);
	id[val.mv_size] = '\0';
	return sb__session_id_valid(id);
}

/* ── encode ── */

MDB_val sb__val_image(const struct sb__image *image)
{
	return (MDB_val){ .mv_size = image->len, .mv_data = (void *)image->bytes };
}

static struct head head_of(enum kind kind, size_t size)
{
	return (struct head){ .kind = (uint16_t)kind, .version = 1, .size = (uint32_t)size };
}

static void make_image(struct sb__image *image, const void *fixed, size_t fixed_len, const void *tail,
                       size_t tail_len)
{
	memcpy(image->bytes, fixed, fixed_len);
	if (tail_len > 0)
		memcpy(image->bytes + fixed_len, tail, tail_len);
	image->len = fixed_len + tail_len;
}

void sb__encode_bridge(const struct sb__bridge_rec *rec, struct sb__image *ret)
{
	struct bridge_disk disk = {
		.head = head_of(KIND_BRIDGE, sizeof(disk)),
		.schema = rec->schema,
		.fingerprint = rec->layout_fingerprint,
		.pid_ns = rec->pid_ns,
		.created_wall_ms = rec->created_wall_ms,
		.creator_pid = rec->creator_pid,
	};

	memcpy(disk.boot_id, rec->boot_id, sizeof(disk.boot_id));
	make_image(ret, &disk, sizeof(disk), NULL, 0);
}

void sb__encode_process(const struct sb__process_rec *rec, struct sb__image *ret)
{
	struct process_disk disk = {
		.head = head_of(KIND_PROCESS, sizeof(disk)),
		.taken = rec->taken,
		.generation = rec->generation,
		.identity = rec->identity,
	};

	make_image(ret, &disk, sizeof(disk), NULL, 0);
}

void sb__encode_session(const struct sb__session_rec *rec, struct sb__image *ret)
{
	struct session_disk disk = {
		.head = head_of(KIND_SESSION, sizeof(disk) + rec->tags_len + rec->policy_len),
		.uid = rec->uid,
		.incarnation = rec->incarnation,
		.state = rec->state,
		.owner_count = rec->owner_count,
		.designated = rec->designated,
		.max_refs = rec->max_refs,
		.designated_mode = rec->designated_mode,
		.on_full = rec->on_full,
		.persistent = rec->persistent,
		.ttl_ms = rec->ttl_ms,
		.created_wall_ms = rec->created_wall_ms,
		.created_ms = rec->created_ms,
		.expires_ms = rec->expires_ms,
		.live_refs = rec->live_refs,
		.tag_count = rec->tag_count,
		.tags_len = rec->tags_len,
		.policy_len = rec->policy_len,
		.max_refs_per_process = rec->max_refs_per_process,
		.max_session_arena_bytes = rec->max_session_arena_bytes,
	};

	make_image(ret, &disk, sizeof(disk), rec->tags, rec->tags_len);
	memcpy(ret->bytes + ret->len, rec->policy, rec->policy_len);
	ret->len += rec->policy_len;
}

void sb__encode_owner(const struct sb__owner_rec *rec, struct sb__image *ret)
{
	struct owner_disk disk = {
		.head = head_of(KIND_OWNER, sizeof(disk)),
		.pid = rec->pid,
		.handle = rec->handle,
		.joined_wall_ms = rec->joined_wall_ms,
	};

	make_image(ret, &disk, sizeof(disk), NULL, 0);
}

void sb__encode_grave(const struct sb__grave_rec *rec, uint64_t order, struct sb__image *ret)
{
	size_t id_len = strnlen(rec->session_id, SB_SESSION_ID_MAX);
	struct grave_disk disk = {
		.head = head_of(KIND_GRAVE, sizeof(disk) + id_len),
		.incarnation = rec->incarnation,
		.session_uid = rec->session_uid,
		.order = order,
		.wall_ms = rec->wall_ms,
		.reason = rec->reason,
		.designated_pid = rec->designated_pid,
		.id_len = (uint32_t)id_len,
	};

	make_image(ret, &disk, sizeof(disk), rec->session_id, id_len);
}

/* ── decode ── */

/* Copies the fixed part out if head and size fit; tail: whether more may follow. */
static const char *take_fixed(MDB_val val, enum kind kind, bool tail, void *fixed, size_t fixed_len)
{
	struct head head;

	if (val.mv_size < fixed_len)
		return "it is too short";
	memcpy(&head, val.mv_data, sizeof(head));
	if (head.kind != kind)
		return "it is of another kind";
	if (head.version != 1)
		return "it is of another version";
	if (head.size != val.mv_size || (!tail && head.size != fixed_len))
		return "its size is wrong";
	memcpy(fixed, val.mv_data, fixed_len);
	return NULL;
}

static const char *check_identity(const struct sb__identity *identity)
{
	if (identity->slot >= SB__SLOTS_MAX || identity->generation > UINT16_MAX)
		return "a process slot is out of range";
	if (identity->pid < 0)
		return "a pid is negative";
	if (!memchr(identity->program, '\0', sizeof(identity->program)))
		return "a program name is not terminated";
	return NULL;
}

bool sb__peek_bridge(MDB_val val, uint32_t *ret_schema, uint32_t *ret_fingerprint)
{
	const uint8_t *bytes = val.mv_data;

	if (val.mv_size < sizeof(struct head) + 8)
		return false;
	memcpy(ret_schema, bytes + offsetof(struct bridge_disk, schema), 4);
	memcpy(ret_fingerprint, bytes + offsetof(struct bridge_disk, fingerprint), 4);
	return true;
}

const char *sb__decode_bridge(MDB_val val, struct sb__bridge_rec *ret)
{
	struct bridge_disk disk;
	const char *why = take_fixed(val, KIND_BRIDGE, false, &disk, sizeof(disk));

	if (why)
		return why;
	memset(ret, 0, sizeof(*ret));
	ret->schema = disk.schema;
	ret->layout_fingerprint = disk.fingerprint;
	ret->pid_ns = disk.pid_ns;
	memcpy(ret->boot_id, disk.boot_id, sizeof(ret->boot_id));
	ret->created_wall_ms = disk.created_wall_ms;
	ret->creator_pid = disk.creator_pid;
	return NULL;
}

const char *sb__decode_process(MDB_val key, MDB_val val, struct sb__process_rec *ret)
{
	struct process_disk disk;
	uint32_t slot;
	const char *why = take_fixed(val, KIND_PROCESS, false, &disk, sizeof(disk));

	if (!why)
		why = check_identity(&disk.identity);
	if (why)
		return why;
	if (!sb__parse_slot(key, &slot))
		return "its key is no slot";
	if (disk.taken > 1 || disk.generation > UINT16_MAX)
		return "a number is out of range";
	if (disk.taken && (disk.identity.slot != slot || disk.identity.generation != disk.generation))
		return "slot or generation contradict its key";
	ret->taken = disk.taken == 1;
	ret->generation = disk.generation;
	ret->identity = disk.identity;
	return NULL;
}

/* tags: key NUL value NUL …, tag_count of them. */
static const char *check_tags(const char *tags, uint32_t len, uint32_t count)
{
	uint32_t nuls = 0;

	if (len > SB_TAGS_BYTES_MAX || count > SB_TAGS_MAX)
		return "it has too many tags";
	for (uint32_t i = 0; i < len; i++)
		nuls += tags[i] == '\0';
	if (nuls != 2 * count || (len > 0 && tags[len - 1] != '\0'))
		return "its tags are malformed";
	return NULL;
}

/* policy: '+' or '-', a pattern, NUL, … */
static const char *check_policy(const char *policy, uint32_t len)
{
	const char *why = NULL;

	if (len > SB_POLICY_BYTES_MAX || (len > 0 && policy[len - 1] != '\0'))
		return "its policy is malformed";
	for (const char *p = policy; !why && p < policy + len; p += strlen(p) + 1)
		if ((*p != '+' && *p != '-') || !p[1])
			why = "its policy is malformed";
	return why;
}

const char *sb__check_session(const struct sb__session_rec *rec)
{
	const char *why = check_identity(&rec->designated);

	if (why)
		return why;
	if (rec->state < SB_SESSION_STARTING || rec->state > SB_SESSION_ORPHANED)
		return "its state is none";
	if (rec->designated_mode > SB_DESIGNATED_ATTACH_ONLY)
		return "its designated mode is none";
	if (rec->on_full > SB_ON_FULL_ERROR)
		return "its on_full is none";
	if (rec->persistent > 1)
		return "its persistent is neither 0 nor 1";
	if (rec->uid == 0 || rec->incarnation == 0)
		return "its number is 0";
	if ((rec->ttl_ms == 0) != (rec->expires_ms == 0))
		return "its expiry contradicts its TTL";
	why = check_policy(rec->policy, rec->policy_len);
	return why ? why : check_tags(rec->tags, rec->tags_len, rec->tag_count);
}

const char *sb__decode_session(MDB_val key, MDB_val val, struct sb__session_rec *ret)
{
	struct session_disk disk;
	const char *why = take_fixed(val, KIND_SESSION, true, &disk, sizeof(disk));

	if (why)
		return why;
	if (disk.tags_len > SB_TAGS_BYTES_MAX || disk.policy_len > SB_POLICY_BYTES_MAX ||
	    val.mv_size != sizeof(disk) + disk.tags_len + disk.policy_len)
		return "its size contradicts its tags and policy";
	if (!sb__parse_id(key, ret->session_id))
		return "its key is no session id";
	ret->uid = disk.uid;
	ret->incarnation = disk.incarnation;
	ret->state = disk.state;
	ret->owner_count = disk.owner_count;
	ret->designated = disk.designated;
	ret->max_refs = disk.max_refs;
	ret->max_refs_per_process = disk.max_refs_per_process;
	ret->max_session_arena_bytes = disk.max_session_arena_bytes;
	ret->designated_mode = disk.designated_mode;
	ret->on_full = disk.on_full;
	ret->persistent = disk.persistent;
	ret->ttl_ms = disk.ttl_ms;
	ret->created_wall_ms = disk.created_wall_ms;
	ret->created_ms = disk.created_ms;
	ret->expires_ms = disk.expires_ms;
	ret->live_refs = disk.live_refs;
	ret->tag_count = disk.tag_count;
	ret->tags_len = disk.tags_len;
	memcpy(ret->tags, (const uint8_t *)val.mv_data + sizeof(disk), disk.tags_len);
	ret->policy_len = disk.policy_len;
	memcpy(ret->policy, (const uint8_t *)val.mv_data + sizeof(disk) + disk.tags_len, disk.policy_len);
	return sb__check_session(ret);
}

const char *sb__decode_session_brief(MDB_val val, struct sb__session_brief *ret)
{
	struct session_disk disk;
	const char *why = take_fixed(val, KIND_SESSION, true, &disk, sizeof(disk));

	if (!why)
		why = check_identity(&disk.designated);
	if (!why && (disk.state < SB_SESSION_STARTING || disk.state > SB_SESSION_ORPHANED))
		why = "its state is none";
	if (!why && (disk.uid == 0 || disk.incarnation == 0))
		why = "its number is 0";
	if (why)
		return why;
	*ret = (struct sb__session_brief){
		.uid = disk.uid,
		.incarnation = disk.incarnation,
		.live_refs = disk.live_refs,
		.state = disk.state,
		.owner_count = disk.owner_count,
		.slot = disk.designated.slot,
		.generation = disk.designated.generation,
	};
	return NULL;
}

static const char *take_owner(MDB_val val, struct owner_disk *disk)
{
	const char *why = take_fixed(val, KIND_OWNER, false, disk, sizeof(*disk));

	return !why && disk->pid < 0 ? "its pid is negative" : why;
}

const char *sb__decode_owner(MDB_val key, MDB_val val, struct sb__owner_rec *ret)
{
	struct owner_disk disk;
	const char *why = take_owner(val, &disk);

	if (why)
		return why;
	if (!sb__parse_owner(key, ret))
		return "its key is no owner's";
	if (disk.handle != ret->handle)
		return "its handle contradicts its key";
	ret->pid = disk.pid;
	ret->joined_wall_ms = disk.joined_wall_ms;
	return NULL;
}

const char *sb__decode_own(MDB_val key, MDB_val val, struct sb__owner_rec *ret)
{
	struct owner_disk disk;
	const char *why = take_owner(val, &disk);

	if (why)
		return why;
	if (!sb__parse_designated(key, &ret->slot, &ret->generation, &ret->session_uid))
		return "its key is of another form";
	ret->handle = disk.handle;
	ret->pid = disk.pid;
	ret->joined_wall_ms = disk.joined_wall_ms;
	return NULL;
}

const char *sb__decode_grave(MDB_val val, struct sb__grave_rec *ret, uint64_t *ret_order)
{
	struct grave_disk disk;
	const char *why = take_fixed(val, KIND_GRAVE, true, &disk, sizeof(disk));
	MDB_val id;

	if (why)
		return why;
	if (val.mv_size - sizeof(disk) != disk.id_len)
		return "its size contradicts its session id";
	if (disk.reason < SB__END_RELEASED || disk.reason > SB__END_OWNER_DIED)
		return "its reason is none";
	if (disk.designated_pid < 0)
		return "its pid is negative";
	if (disk.session_uid == 0 || disk.session_uid >= disk.incarnation)
		return "its session's number is not before its incarnation's";
	id.mv_size = disk.id_len;
	id.mv_data = (uint8_t *)val.mv_data + sizeof(disk);
	if (!sb__parse_id(id, ret->session_id))
		return "it holds no session id";
	ret->incarnation = disk.incarnation;
	ret->session_uid = disk.session_uid;
	ret->reason = disk.reason;
	ret->wall_ms = disk.wall_ms;
	ret->designated_pid = disk.designated_pid;
	*ret_order = disk.order;
	return NULL;
}

int sb__corrupt(enum sb__db db, MDB_val key, const char *why)
{
	char id[SB_SESSION_ID_MAX + 1];
	char hex[2 * 40 + 1] = "";
	size_t shown = key.mv_size < 40 ? key.mv_size : 40;

	if (sb__parse_id(key, id))
		return sb__fail(SB_ECORRUPT,
		                "the record \"%s\" in the store's database \"%s\" is damaged: %s; "
		                "run sb-inspect --check",
		                id, sb__db_name(db), why);
	for (size_t i = 0; i < shown; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)key.mv_data)[i]);
	return sb__fail(SB_ECORRUPT,
	                "the record with key %s in the store's database \"%s\" is damaged: %s; "
	                "run sb-inspect --check",
	                hex, sb__db_name(db), why);
}

const char *sb__end_reason_name(enum sb__end_reason reason)
{
	switch (reason) {
	case SB__END_RELEASED: return "released";
	case SB__END_OWNERS_GONE: return "owners_gone";
	case SB__END_EXPIRED: return "expired";
	case SB__END_OWNER_DIED: return "owner_died";
	}
	return "?";
}
