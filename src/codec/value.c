/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: decoding into immutable trees, reading them, encoding them again. Building them from formats is
 * in pack.c.
 *
 * A tree is one block: all nodes, then all refs, then the bytes of all strings. The items of a container
 * lie next to each other, so a node holds only where they begin. A first pass over the bytes counts, a
 * second fills; both see the same private bytes, so the second cannot run past what the first counted.
 *
 * Locks: none; a tree never changes. Crash story: nothing is shared.
 */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "value_impl.h"

struct sb_value {
	uint8_t kind; /* sb_kind */
	uint8_t root; /* 1: the block begins here */
	bool boolean;
	union {
		int64_t integer;
		double number;
		const char *bytes;     /* str and bytes, NUL-terminated */
		const sb_value *items; /* dict: key, value, key, value … */
		const sb_ref *ref;
	} u;
	size_t len; /* bytes, items or pairs */
};

_Static_assert(sizeof(struct sb_value) <= 24, "a node is three words");

/* ── decoding ── */

struct measure {
	size_t nodes, refs, bytes;
};

/* Where the next of each goes. */
struct block {
	sb_value *node;
	sb_ref *ref;
	char *bytes;
	const char *session_id;
};

static int too_deep(void)
{
	return sb__fail(SB_ETOODEEP,
	                "a value is nested deeper than %u containers; flatten it, or keep it as a ref",
	                SB__DEPTH_MAX);
}

/* Reads the head of the next value. A tuple's tag is folded into *ret_tuple, and *item is its array; of a
 * ref the tag is left, with its array still to be read. */
static int next_head(struct sb__cursor *cursor, struct sb__item *item, bool *ret_tuple)
{
	size_t position = cursor->pos;
	int err = sb__next(cursor, item);

	*ret_tuple = false;
	if (err || item->type != SB__ITEM_TAG || item->u.count == SB__TAG_REF)
		return err;
	if (item->u.count != SB__TAG_TUPLE)
		return sb__fail(SB_EPROTOCOL, "tag %llu at byte %zu is not known here",
		                (unsigned long long)item->u.count, position);
	err = sb__next(cursor, item);
	if (err)
		return err;
	if (item->type != SB__ITEM_ARRAY)
		return sb__fail(SB_EPROTOCOL, "the tuple at byte %zu is no array", position);
	*ret_tuple = true;
	return 0;
}

static int measure(struct sb__cursor *cursor, struct measure *m, unsigned depth)
{
	struct sb__item item;
	bool tuple;
	sb_ref ref;
	uint64_t count;
	int err = next_head(cursor, &item, &tuple);

	if (err)
		return err;
	switch (item.type) {
	case SB__ITEM_STR:
	case SB__ITEM_BYTES: m->bytes += item.u.bytes.len + 1; return 0;
	case SB__ITEM_TAG: m->refs++; return sb__next_ref(cursor, &ref);
	case SB__ITEM_ARRAY: count = item.u.count; break;
	case SB__ITEM_MAP: count = 2 * item.u.count; break;
	default: return 0;
	}
	if (depth >= SB__DEPTH_MAX)
		return too_deep();
	/* No overflow: each count is at most the bytes that are left, and there are at most SB__DEPTH_MAX
	 * containers whose items have not been read. */
	m->nodes += count;
	for (uint64_t i = 0; i < count && !err; i++)
		err = measure(cursor, m, depth + 1);
	return err;
}

static int fill(struct sb__cursor *cursor, sb_value *node, struct block *block);

static int fill_items(struct sb__cursor *cursor, sb_value *node, uint64_t count, struct block *block)
{
	sb_value *items = block->node;

	block->node += count;
	node->u.items = items;
	for (uint64_t i = 0; i < count; i++) {
		int err = fill(cursor, &items[i], block);

		if (err)
			return err;
	}
	return 0;
}

static void fill_bytes(sb_value *node, const struct sb__item *item, struct block *block)
{
	size_t len = item->u.bytes.len;

	if (len > 0)
		memcpy(block->bytes, item->u.bytes.data, len);
	block->bytes[len] = '\0';
	node->u.bytes = block->bytes;
	node->len = len;
	block->bytes += len + 1;
}

static int fill_ref(struct sb__cursor *cursor, sb_value *node, struct block *block)
{
	sb_ref *ref = block->ref++;
	int err = sb__next_ref(cursor, ref);

	if (err)
		return err;
	strncpy(ref->session_id, block->session_id, SB_SESSION_ID_MAX);
	node->u.ref = ref;
	return 0;
}

static int fill(struct sb__cursor *cursor, sb_value *node, struct block *block)
{
	struct sb__item item;
	bool tuple;
	int err = next_head(cursor, &item, &tuple);

	if (err)
		return err;
	*node = (sb_value){ .kind = SB_KIND_NONE };
	switch (item.type) {
	case SB__ITEM_NULL: return 0;
	case SB__ITEM_BOOL:
		node->kind = SB_KIND_BOOL;
		node->boolean = item.u.boolean;
		return 0;
	case SB__ITEM_INT:
		node->kind = SB_KIND_INT;
		node->u.integer = item.u.integer;
		return 0;
	case SB__ITEM_FLOAT:
		node->kind = SB_KIND_FLOAT;
		node->u.number = item.u.number;
		return 0;
	case SB__ITEM_STR:
	case SB__ITEM_BYTES:
		node->kind = item.type == SB__ITEM_STR ? SB_KIND_STR : SB_KIND_BYTES;
		fill_bytes(node, &item, block);
		return 0;
	case SB__ITEM_ARRAY:
		node->kind = tuple ? SB_KIND_TUPLE : SB_KIND_LIST;
		node->len = item.u.count;
		return fill_items(cursor, node, item.u.count, block);
	case SB__ITEM_MAP:
		node->kind = SB_KIND_DICT;
		node->len = item.u.count;
		return fill_items(cursor, node, 2 * item.u.count, block);
	case SB__ITEM_TAG: node->kind = SB_KIND_REF; return fill_ref(cursor, node, block);
	}
	return sb__fail(SB_EBUG, "an item of type %d", (int)item.type);
}

/* *ret_refs: the tree's refs, for sb__value_decode_own(). */
static int decode(struct sb__cursor *cursor, const char *session_id, sb_value **ret, sb_ref **ret_refs,
                  size_t *ret_count)
{
	struct sb__cursor first = *cursor;
	struct measure m = { .nodes = 1 };
	struct block block = { .session_id = session_id };
	sb_value *root;
	int err = measure(&first, &m, 0);

	if (err)
		return err;
	root = malloc(m.nodes * sizeof(sb_value) + m.refs * sizeof(sb_ref) + m.bytes);
	if (!root)
		return sb__fail_memory("a value");
	block.node = root + 1;
	block.ref = (sb_ref *)(root + m.nodes);
	block.bytes = (char *)(block.ref + m.refs);
	*ret_refs = block.ref;
	*ret_count = m.refs;
	err = fill(cursor, root, &block);
	if (err) {
		free(root);
		return err;
	}
	root->root = 1;
	*ret = root;
	return 0;
}

int sb__value_decode(struct sb__cursor *cursor, const char *session_id, sb_value **ret)
{
	sb_ref *refs;
	size_t count;

	return decode(cursor, session_id ? session_id : "", ret, &refs, &count);
}

int sb__value_decode_own(struct sb__cursor *cursor, const sb_ref *refs, size_t count, sb_value **ret)
{
	sb_value *value;
	sb_ref *to;
	size_t found;
	int err = decode(cursor, "", &value, &to, &found);

	if (err)
		return err;
	if (found != count) {
		sb_value_free(value);
		return sb__fail(SB_EBUG, "%zu refs were encoded and %zu decoded", count, found);
	}
	if (count > 0)
		memcpy(to, refs, count * sizeof(*refs));
	*ret = value;
	return 0;
}

void sb_value_free(sb_value *value)
{
	if (value && value->root) /* a borrowed value is left alone */
		free(value);
}

/* ── encoding ── */

static void encode_items(const sb_value *value, size_t count, struct sb__buf *buf, unsigned depth)
{
	if (depth >= SB__DEPTH_MAX) {
		if (!buf->error)
			buf->error = SB_ETOODEEP;
		return;
	}
	for (size_t i = 0; i < count && !buf->error; i++)
		sb__value_encode_at(&value->u.items[i], buf, depth + 1);
}

void sb__value_encode_at(const sb_value *value, struct sb__buf *buf, unsigned depth)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_NONE: sb__put_null(buf); return;
	case SB_KIND_BOOL: sb__put_bool(buf, value->boolean); return;
	case SB_KIND_INT: sb__put_int(buf, value->u.integer); return;
	case SB_KIND_FLOAT: sb__put_float(buf, value->u.number); return;
	case SB_KIND_STR: sb__put_str(buf, value->u.bytes, value->len); return;
	case SB_KIND_BYTES: sb__put_bytes(buf, value->u.bytes, value->len); return;
	case SB_KIND_TUPLE:
		sb__put_tag(buf, SB__TAG_TUPLE);
		/* fallthrough */
	case SB_KIND_LIST:
		sb__put_array(buf, value->len);
		encode_items(value, value->len, buf, depth);
		return;
	case SB_KIND_DICT:
		sb__put_map(buf, value->len);
		encode_items(value, 2 * value->len, buf, depth);
		return;
	case SB_KIND_REF: sb__put_ref(buf, value->u.ref, NULL); return;
	default: return; /* no tree holds another yet */
	}
}

void sb__value_encode(const sb_value *value, struct sb__buf *buf)
{
	sb__value_encode_at(value, buf, 0);
}

int sb__value_each_ref(const sb_value *value, sb__ref_fn fn, void *arg)
{
	sb_kind kind = sb_value_kind(value);
	size_t count = 0;

	if (kind == SB_KIND_REF)
		return fn(arg, value->u.ref);
	if (kind == SB_KIND_LIST || kind == SB_KIND_TUPLE)
		count = value->len;
	else if (kind == SB_KIND_DICT)
		count = 2 * value->len;
	for (size_t i = 0; i < count; i++) {
		int stop = sb__value_each_ref(&value->u.items[i], fn, arg);

		if (stop)
			return stop;
	}
	return 0;
}

/* ── reading ── */

sb_kind sb_value_kind(const sb_value *value)
{
	return value ? (sb_kind)value->kind : SB_KIND_NONE;
}

const char *sb_kind_name(sb_kind kind)
{
	static const char *const names[] = {
		[SB_KIND_NONE] = "NoneType",
		[SB_KIND_BOOL] = "bool",
		[SB_KIND_INT] = "int",
		[SB_KIND_FLOAT] = "float",
		[SB_KIND_STR] = "str",
		[SB_KIND_BYTES] = "bytes",
		[SB_KIND_LIST] = "list",
		[SB_KIND_TUPLE] = "tuple",
		[SB_KIND_DICT] = "dict",
		[SB_KIND_REF] = "ref",
		[SB_KIND_BIGINT] = "int",
		[SB_KIND_COMPLEX] = "complex",
		[SB_KIND_BYTEARRAY] = "bytearray",
		[SB_KIND_SET] = "set",
		[SB_KIND_FROZENSET] = "frozenset",
		[SB_KIND_DATETIME] = "datetime",
		[SB_KIND_DATE] = "date",
		[SB_KIND_TIME] = "time",
		[SB_KIND_TIMEDELTA] = "timedelta",
		[SB_KIND_DECIMAL] = "Decimal",
		[SB_KIND_FRACTION] = "Fraction",
		[SB_KIND_UUID] = "UUID",
		[SB_KIND_RANGE] = "range",
		[SB_KIND_SLICE] = "slice",
		[SB_KIND_ELLIPSIS] = "ellipsis",
		[SB_KIND_ARRAY] = "array",
	};

	return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

/* 0 if the value is of this kind. */
static int expect(const sb_value *value, sb_kind kind)
{
	sb_kind actual = sb_value_kind(value);

	if (actual == kind)
		return 0;
	return sb__fail(SB_EKIND, "the value is of kind %s, not %s; ask sb_value_kind() first",
	                sb_kind_name(actual), sb_kind_name(kind));
}

static int expect_into(const sb_value *value, sb_kind kind, const void *ret)
{
	if (!ret)
		return sb__fail(SB_EINVAL, "ret is NULL; give it the address of a variable");
	return expect(value, kind);
}

int sb_value_bool(const sb_value *value, bool *ret)
{
	int err = expect_into(value, SB_KIND_BOOL, ret);

	if (!err)
		*ret = value->boolean;
	return err;
}

int sb_value_int(const sb_value *value, int64_t *ret)
{
	int err = expect_into(value, SB_KIND_INT, ret);

	if (!err)
		*ret = value->u.integer;
	return err;
}

int sb_value_float(const sb_value *value, double *ret)
{
	bool integer = sb_value_kind(value) == SB_KIND_INT;
	int err = expect_into(value, integer ? SB_KIND_INT : SB_KIND_FLOAT, ret);

	if (!err)
		*ret = integer ? (double)value->u.integer : value->u.number;
	return err;
}

const char *sb_value_str(const sb_value *value, size_t *ret_len)
{
	if (expect(value, SB_KIND_STR))
		return NULL;
	if (ret_len)
		*ret_len = value->len;
	return value->u.bytes;
}

const void *sb_value_bytes(const sb_value *value, size_t *ret_len)
{
	if (expect(value, SB_KIND_BYTES))
		return NULL;
	if (ret_len)
		*ret_len = value->len;
	return value->u.bytes;
}

const sb_ref *sb_value_ref(const sb_value *value)
{
	return expect(value, SB_KIND_REF) ? NULL : value->u.ref;
}

size_t sb_value_len(const sb_value *value)
{
	return value ? value->len : 0; /* 0 in nodes of kinds that have no length */
}

const sb_value *sb_value_at(const sb_value *value, size_t i)
{
	switch (sb_value_kind(value)) {
	case SB_KIND_LIST:
	case SB_KIND_TUPLE: return i < value->len ? &value->u.items[i] : NULL;
	case SB_KIND_DICT: return i < value->len ? &value->u.items[2 * i + 1] : NULL;
	default: return NULL;
	}
}

const sb_value *sb_value_key_at(const sb_value *value, size_t i)
{
	if (sb_value_kind(value) != SB_KIND_DICT || i >= value->len)
		return NULL;
	return &value->u.items[2 * i];
}

const sb_value *sb_value_lookup(const sb_value *value, const char *key)
{
	size_t len;

	if (sb_value_kind(value) != SB_KIND_DICT || !key)
		return NULL;
	len = strlen(key);
	for (size_t i = 0; i < value->len; i++) {
		const sb_value *k = &value->u.items[2 * i];

		if (k->kind == SB_KIND_STR && k->len == len && memcmp(k->u.bytes, key, len) == 0)
			return k + 1;
	}
	return NULL;
}
