/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of a value's tree. For the files that make and read trees; everybody else uses the accessors.
 *
 * A tree is one block: all nodes, then all refs, then the bytes of all strings. The items of a container lie next to
 * each other, so a node holds only where they begin.
 */
#ifndef SB_CODEC_TREE_H
#define SB_CODEC_TREE_H

#include "array.h"
#include "value_impl.h"

struct sb_value {
	uint8_t kind; /* sb_kind */
	uint8_t root; /* 1: the block begins here; 2: and there are arrays in it */
	bool boolean; /* of a bool; a big int is negative; a str has lone surrogates */
	union {
		int64_t integer; /* of a timedelta the seconds */
		uint64_t when;   /* datetime, date, time: their fields, see sb__tree_when() */
		double number;   /* of a complex the real part */
		const char *
			bytes; /* str, bytes, bytearray, Decimal (text), UUID, big int (magnitude): NUL-terminated */
		const sb_value
			*items; /* dict: key, value, key, value …; fraction, range, slice: their parts */
		const sb_ref *ref;
		sb_array *array; /* the tree's reference */
	} u;
	union {
		size_t len; /* bytes, items or pairs */
		double imaginary;
		int64_t microseconds;
		const char
			*zone; /* datetime and time: a struct zone and the name, unaligned; NULL if naive */
	};
};

_Static_assert(sizeof(struct sb_value) <= 24, "a node is three words");

/* The wire's tag of a kind that is its items in an array: tuple, set, frozenset, slice, range, fraction. */
uint64_t sb__tree_tag(sb_kind kind);
/* How many nodes a value has below it, at u.items. */
size_t sb__tree_items(const sb_value *value);
/* The fields of a datetime, date or time. The zone is the tree's. */
void sb__tree_when(const sb_value *value, sb_datetime *ret);

#endif
