/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays as items of messages, and what an sb_array is inside. Where shared memory comes from is not known here: whoever
 * knows passes a struct sb__blocks.
 */
#ifndef SB_CODEC_ARRAY_H
#define SB_CODEC_ARRAY_H

#include <stdatomic.h>

#include "snakebridge/array.h"
#include "wire.h"

#define SB__TAG_ARRAY    21325u /* over [made as, dtype, shape, strides or null, flags, data] */
#define SB__TAG_BLOCK    21326u /* data: over [slot, generation, offset, length, first element's byte in it] */
#define SB__ARRAY_INLINE 1024u  /* bytes of data that travel in the message */

/* "made as": 0, or the code of the letter of a memoryview's or an array.array's format plus one of these. */
#define SB__MADE_NDARRAY    0u
#define SB__MADE_ARRAY      0x100u /* array.array */
#define SB__MADE_MEMORYVIEW 0x200u
#define SB__MADE_MASK       0xf00u

#define SB__ARRAY_READONLY 1u

/* A block of some process's arena; as in shared memory. */
struct sb__block {
	uint32_t slot, generation;
	uint64_t offset, len;
};

/* Of what this process shares, that which is for one session. */
struct sb__share {
	uint64_t session;   /* its uid */
	uint64_t max_bytes; /* 0: nobody counts */
	const char *session_id;
};

/* How this process gives and takes shared blocks. All functions may be called from any thread; release also after the bridge
 * was closed. */
struct sb__blocks {
	void *arg;
	const void *bridge; /* whose they are: the same in a forked child */
	/* Keeps a block that a message names, until release(*ret_kept). 0 or an error. */
	int (*keep)(void *arg, const struct sb__block *block, bool writable, void **ret_addr,
	            void **ret_kept);
	/* A new block of this process's, kept. */
	int (*make)(void *arg, const struct sb__share *share, size_t len, struct sb__block *ret,
	            void **ret_addr, void **ret_kept);
	/* The shared block that [addr, addr + len) lies in, kept once more: true. *ret_writable: may others write into it? */
	bool (*find)(void *arg, const void *addr, size_t len, struct sb__block *ret, bool *ret_writable,
	             void **ret_kept);
	void (*release)(void *kept);
	void *(*address)(void *kept); /* where what is kept begins */
	/* What the thread's last failure of the above was: a sentence. */
	const char *(*why)(void);
	/* Keeps all of this for ever; done: the bridge was closed, and nothing that heap_make() gave is left. */
	void (*pin)(void *arg);
	bool (*done)(void *arg);
	/* Memory for a library's own use, of which find() knows. NULL: there is none, use ordinary memory. */
	void *(*heap_make)(void *arg, size_t len, bool zero);
	/* True if addr was such memory: it is free now. */
	bool (*heap_free)(void *arg, void *addr);
	size_t (*heap_size)(void *arg, const void *addr); /* 0: it is no such memory */
};

/* Blocks that a message refers to: kept until its reader has kept them, too. */
struct sb__kept_list {
	void **items;
	size_t count, cap;
	void (*release)(void *kept);
};
/* Takes over kept; false (no memory): it was released. */
bool sb__kept_add(struct sb__kept_list *list, const struct sb__blocks *blocks, void *kept);
/* Releases all but the first count. */
void sb__kept_rewind(struct sb__kept_list *list, size_t count);
/* Releases all. */
void sb__kept_drop(struct sb__kept_list *list);

/* An array item as it was read: checked, but for what depends on the block. */
struct sb__array_item {
	uint32_t made_as, flags;
	char dtype[SB_DTYPE_MAX + 1];
	size_t itemsize;
	int ndim;
	size_t shape[SB_ARRAY_NDIM_MAX];
	int64_t strides[SB_ARRAY_NDIM_MAX]; /* bytes */
	size_t nbytes;                      /* of all elements, without gaps */
	const uint8_t *data;                /* in the message: from the lowest byte on; NULL: in a block */
	struct sb__block block;
	uint64_t first; /* where element 0 lies, from data or the block's beginning */
};

struct sb_array {
	atomic_uint refs;
	uint32_t made_as, flags;
	char dtype[SB_DTYPE_MAX + 1];
	size_t itemsize, nbytes;
	int ndim;
	uint8_t *data; /* element 0 */
	bool shared;   /* block and first say where it lies */
	struct sb__block block;
	uint64_t first;
	const void *bridge; /* whose block this is; NULL: ordinary memory */
	void (*release)(void *kept);
	void *kept;
	size_t shape[SB_ARRAY_NDIM_MAX];
	int64_t strides[SB_ARRAY_NDIM_MAX];
};

/* A dtype by its name ("float64", "f8", "<f8", "M8[ns]", "U5") in the one form that is used inside, and its element's size.
 * SB_EINVAL. */
int sb__dtype_parse(const char *name, size_t len, char ret[SB_DTYPE_MAX + 1], size_t *ret_itemsize);
/* Strides of an array without gaps. False if its size overflows. */
bool sb__array_pack_strides(int ndim, const size_t *shape, size_t itemsize, bool fortran,
                            int64_t *ret_strides, size_t *ret_nbytes);
/* What elements occupy, from the lowest byte to behind the highest, relative to element 0. False: overflow. *ret_high is 0
 * where there are no elements. */
bool sb__array_span(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize, int64_t *ret_low,
                    int64_t *ret_high);
bool sb__array_is_packed(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize,
                         bool fortran);
/* Copies elements of any strides next to each other, in C order or Fortran's. */
void sb__array_gather(int ndim, const size_t *shape, const int64_t *strides, size_t itemsize, bool fortran,
                      const void *from, void *to);

/* After a TAG item with SB__TAG_ARRAY. 0 or SB_EPROTOCOL. */
int sb__next_array(struct sb__cursor *cursor, struct sb__array_item *ret);
/* Appends one. item->data, if not NULL, is packed (or where its strides say) and in the message; else its block. */
void sb__put_array_item(struct sb__buf *buf, const struct sb__array_item *item);

/* The array of an item: data in a message is copied, a block is kept. blocks may be NULL: then only the former. */
int sb__array_open(const struct sb__array_item *item, const struct sb__blocks *blocks, sb_array **ret);
/* Over memory that release(kept) gives back: the last unref does. On failure nothing was taken over. */
int sb__array_make(const struct sb__array_item *item, void *data, void (*release)(void *kept), void *kept,
                   sb_array **ret);
/* Appends an array as an item: its block, or its data if that is ordinary memory. */
void sb__array_encode(const sb_array *array, struct sb__buf *buf);

#endif
