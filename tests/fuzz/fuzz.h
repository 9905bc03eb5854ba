/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. Each fuzz_<target>.c defines LLVMFuzzerTestOneInput(); it is linked with libFuzzer
 * (./dev fuzz), and with replay.c, which runs it over its kept corpus in every preset.
 */
#ifndef SB_TESTS_FUZZ_H
#define SB_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0; one that is refused as input for the corpus would be -1, which none of ours does. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold, whatever the bytes: a breach is a crash, which every driver notices. */
#define FUZZ_CHECK(condition)                                                                          \
	do {                                                                                           \
		if (!(condition)) {                                                                    \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                       \
		}                                                                                      \
	} while (0)

/* Takes an input apart from its beginning; what is not there reads as zeros. */
struct fuzz_in {
	const uint8_t *data;
	size_t len;
};

static inline void fuzz_bytes(struct fuzz_in *in, void *to, size_t len)
{
	size_t n = len < in->len ? len : in->len;

	if (n > 0)
		memcpy(to, in->data, n);
	memset((uint8_t *)to + n, 0, len - n);
	in->data += n;
	in->len -= n;
}

static inline uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t n;

	fuzz_bytes(in, &n, sizeof(n));
	return n;
}

static inline uint32_t fuzz_u32(struct fuzz_in *in)
{
	uint32_t n;

	fuzz_bytes(in, &n, sizeof(n));
	return n;
}

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	uint8_t n;

	fuzz_bytes(in, &n, sizeof(n));
	return n;
}

/* The rest as a string of its own, for whom a byte too many that is read is an error that sanitizers see. */
static inline char *fuzz_text(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);

	if (!text)
		abort();
	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	return text;
}

/* An empty directory for this process's files, in memory; removed with what is in it when the process exits. Its
 * descriptor. */
int fuzz_dir(void);
/* Makes the file name in it be these bytes, in a new file. */
void fuzz_file(int dir, const char *name, const void *bytes, size_t len);
/* The same with a sparse file of size, at offset: pieces of what would be large. */
void fuzz_file_at(int dir, const char *name, size_t size, size_t offset, const void *bytes, size_t len);

#endif
